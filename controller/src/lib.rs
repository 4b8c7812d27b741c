//! fieldpost's controller: the daemon that holds a fleet's desired state, and the command line that people use.

pub mod api;
pub mod app;
pub mod audit;
pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod fleet;
pub mod link;
pub mod metrics;
pub mod pack;
pub mod releases;
pub mod rollout;
pub mod simulate;
pub mod store;
pub mod tls;
pub mod tokens;
pub mod trust_dir;

use std::process::ExitCode;

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    install_crypto();
    cli::main()
}

/// Makes ring the process's TLS provider. A second call changes nothing.
pub fn install_crypto() {
    drop(rustls::crypto::ring::default_provider().install_default());
}
