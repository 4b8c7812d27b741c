//! fieldpost's agent: brings signed model releases onto a box, runs them, reports, and takes them back. The controller
//! uses this library for packing, `demo` and `simulate`.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deploy;
pub mod fetch;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod identity;
pub mod link;
pub mod monitor;
pub mod runtime;
pub mod serve;
pub mod store;
mod tryout;

use clap::Parser as _;
use std::process::ExitCode;

/// Runs the agent's command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    run_from(std::env::args_os())
}

/// Runs the agent's command line from the given arguments, the program's name first.
#[must_use]
pub fn run_from(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    // ring is the process's TLS provider; a second call changes nothing.
    drop(rustls::crypto::ring::default_provider().install_default());
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with 0, wrong usage to stderr with 2.
            drop(error.print());
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    match cli::execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::complain(&error);
            error.exit_code()
        }
    }
}
