//! `fieldpost serve`: the controller, in the foreground.

use super::init::CONFIG_FILE;
use super::{Context, Exit, Failure, output};
use crate::app;
use crate::config::{Config, Overrides};
use clap::Args;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// What is logged when nobody says. The broker tells of every connection, which the controller's own metrics count.
const LOG: &str = "info,mqtt5=error,rumqttc=error,sled=warn";

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fieldpost serve
  fieldpost serve --data-dir /var/lib/fieldpost --http 127.0.0.1:7401
  fieldpost serve --broker mqtt://broker.example:1883
  fieldpost serve --config /etc/fieldpost/controller.toml")]
pub struct ServeArgs {
    /// Configuration file (TOML); everything in it has a default [default: DATA/controller.toml, if there]
    #[arg(long, env = "FIELDPOST_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one [default: 127.0.0.1:7400]
    #[arg(long, env = "FIELDPOST_HTTP", hide_env_values = true, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Where the embedded broker listens [default: 127.0.0.1:1883]
    #[arg(long, env = "FIELDPOST_MQTT", hide_env_values = true, value_name = "ADDRESS", conflicts_with = "broker")]
    pub mqtt: Option<SocketAddr>,
    /// Use another broker instead of the embedded one: mqtt://host:port or mqtts://host:port
    #[arg(long, env = "FIELDPOST_BROKER", hide_env_values = true, value_name = "URL")]
    pub broker: Option<String>,
    /// What is logged, on stderr, as tracing's filters say it
    #[arg(long, env = "FIELDPOST_LOG", hide_env_values = true, value_name = "FILTER", default_value = LOG)]
    pub log: String,
}

/// Runs the controller until SIGINT or SIGTERM.
///
/// # Errors
/// When it cannot start, exit code 2 where only a change of configuration helps, or when a part of it fails.
pub async fn run(args: ServeArgs, context: &Context) -> Result<Exit, Failure> {
    let overrides = Overrides {
        data_dir: context.given_data_dir().map(Into::into),
        http: args.http,
        mqtt: args.mqtt,
        broker: args.broker,
    };
    let beside = context.data_dir().join(CONFIG_FILE);
    let file = args.config.or_else(|| beside.exists().then_some(beside));
    let config = Config::load(file.as_deref(), overrides, context.data_dir(), |name| std::env::var_os(name))
        .map_err(|error| Failure::usage("cannot use the configuration").because(&error))?;
    let filter: EnvFilter = args
        .log
        .parse()
        .map_err(|error: ParseError| Failure::usage(format!("cannot use `--log {}`", args.log)).because(&error))?;
    let colours = std::io::stderr().is_terminal();
    // A second subscriber in one process, as in tests, changes nothing.
    drop(tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).try_init());
    let signals = || -> std::io::Result<(Signal, Signal)> {
        Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    };
    let (mut interrupt, mut terminate) =
        signals().map_err(|error| Failure::new("cannot listen to signals").because(&error))?;
    let stop = CancellationToken::new();
    let told = async {
        // Cancel-safe: a signal that was not seen is still there.
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
        }
        stop.cancel();
        // A second signal does not wait for what the first one began.
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
        }
    };
    // A closed stdout is no reason not to serve.
    let serving = app::serve(config, |bound| drop(output::print(bound.to_string().trim_end())), stop.clone());
    tokio::select! {
        served = serving => served.map(|()| Exit::Done).map_err(|error| {
            let exit = if error.is_configuration() { Exit::Usage } else { Exit::Failed };
            let failure = Failure::new("the controller stopped").because(&error).exit_with(exit);
            match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }),
        () = told => Ok(Exit::Done),
    }
}
