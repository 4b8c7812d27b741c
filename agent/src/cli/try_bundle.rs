//! `try`: what its command line says.

use super::{CommandError, Output};
use crate::app::init_logging;
use crate::config::{self, ConfigError};
use crate::tryout::{self, Believed, Order, Work};
use clap::Args;
use fieldpost_shared::trust::PublicKey;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Examples of `try`.
pub(super) const EXAMPLES: &str = "Examples:
  fieldpost-agent try digits-1.0.0.fieldpost                       self-test alone
  fieldpost-agent try digits-1.0.0.fieldpost seven.png             an image, answered once
  echo '{\"age\": 41}' | fieldpost-agent try claims.fieldpost - --output json
  fieldpost-agent try digits-1.0.0.fieldpost --serve --http 127.0.0.1:0
  fieldpost-agent try digits-1.0.0.fieldpost --root 1.root.json    only by that fleet's publishers

An input is what the bundle's [preprocess] takes: an image, a JSON object of features or a list of
them; without [preprocess], an inference request in JSON (Open Inference Protocol v2).
No fleet, broker or running agent is needed, or touched.
Exit codes: 0 answered, 1 refused or not answered, 2 wrong usage.";

#[derive(Debug, Args)]
pub(super) struct TryArgs {
    /// A `.fieldpost` file, or a folder that one was unpacked to
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// What to answer; `-` is standard input
    #[arg(value_name = "INPUT", conflicts_with = "serve")]
    inputs: Vec<PathBuf>,
    /// Serve over HTTP until told to stop, as `run` does
    #[arg(long)]
    serve: bool,
    /// Where to serve; a loopback address, port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000", requires = "serve")]
    http: SocketAddr,
    /// Where to serve gRPC too; a loopback address, port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", requires = "serve")]
    grpc: Option<String>,
    /// Inference threads [default: one per processor]
    #[arg(long, value_name = "N", requires = "serve")]
    threads: Option<NonZeroUsize>,
    /// Signed root metadata of a fleet; a bundle that its publishers did not sign is refused
    #[arg(long, value_name = "FILE", conflicts_with = "publisher")]
    root: Option<PathBuf>,
    /// Public key of a publisher in base64; a bundle that it did not sign is refused; may be repeated
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    publisher: Vec<PublicKey>,
}

fn parse_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::from_base64(text).map_err(|error| {
        format!("{}; `fieldpost key show FILE` prints one", fieldpost_shared::error_chain::Chain(&error))
    })
}

pub(super) async fn run(args: TryArgs, output: Output) -> Result<(), CommandError> {
    init_logging(config::log_filter().as_deref().unwrap_or("warn"))?;
    let TryArgs { bundle, inputs, serve, http, grpc, threads, root, publisher } = args;
    let believed = match root {
        Some(root) => Believed::Root(root),
        None if publisher.is_empty() => Believed::Anybody,
        None => Believed::Keys(publisher),
    };
    let work = if serve {
        let http = config::loopback(http).map_err(|error: ConfigError| CommandError::Usage(error.into()))?;
        let grpc = match grpc.as_deref() {
            Some(text) => config::grpc(Some(text), http).map_err(|error| CommandError::Usage(error.into()))?,
            None => None,
        };
        Work::Serve { http, grpc, threads }
    } else {
        Work::Once(inputs)
    };
    tryout::run(Order { bundle, believed, work, output }).await
}
