//! The server of `try`: the one that a box has, with one model in it.

use super::open::Opened;
use super::show;
use crate::app::stop_signal;
use crate::cli::output::{line, pairs};
use crate::cli::{CommandError, Output};
use crate::monitor::{MonitorSettings, timer};
use crate::serve::{Registry, ServeSettings, Server};
use anyhow::{Context as _, anyhow};
use fieldpost_shared::bundle::manifest::Preprocess;
use fieldpost_shared::time::Clock;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long parts may take to stop; the server itself drains for less.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

pub(super) async fn run(
    opened: Opened,
    settings: ServeSettings,
    form: Output,
    clock: Arc<dyn Clock>,
) -> Result<(), CommandError> {
    let (closed_sender, mut closed) = mpsc::channel(16);
    let registry = Registry::new(clock, MonitorSettings::default(), closed_sender);
    registry.install(Arc::clone(&opened.model) as Arc<dyn crate::serve::Model>);
    let (_status, status) = watch::channel(show::head_json(&opened));
    let server = Server::bind(settings, registry.clone(), status).await.context("cannot serve predictions")?;
    announce(&opened, server.address(), server.grpc_address(), form)?;

    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(server.run(shutdown.clone()));
    tasks.spawn(timer::run(registry, opened.scratch.path().to_owned(), shutdown.clone()));
    // There is nobody to report windows to; taking them keeps them from piling up.
    tasks.spawn(async move { while closed.recv().await.is_some() {} });
    let signal = stop_signal().await;
    shutdown.cancel();
    let stopped = tokio::time::timeout(STOP_DEADLINE, async { while tasks.join_next().await.is_some() {} }).await;
    signal.context("cannot listen for signals")?;
    stopped.map_err(|_elapsed| anyhow!("some parts did not stop within {STOP_DEADLINE:?}").into())
}

/// Says where it listens, before the first request: whoever started it reads this line.
fn announce(opened: &Opened, address: SocketAddr, grpc: Option<SocketAddr>, form: Output) -> Result<(), CommandError> {
    if form == Output::Json {
        let mut head = show::head_json(opened);
        if let Some(fields) = head.as_object_mut() {
            fields.insert("http".to_owned(), address.to_string().into());
            if let Some(grpc) = grpc {
                fields.insert("grpc".to_owned(), grpc.to_string().into());
            }
        }
        return Ok(line(&head.to_string())?);
    }
    let model = &opened.model.release().model;
    let example = match &opened.model.manifest().preprocess {
        Preprocess::Tensor => format!("curl http://{address}/v2/models/{model}"),
        Preprocess::Image(_) => format!("curl --data-binary @image.jpg http://{address}/predict"),
        Preprocess::Bytes(_) => format!("curl --data-binary @file http://{address}/predict"),
        Preprocess::Tabular(_) => format!("curl --data-binary @features.json http://{address}/predict"),
    };
    let mut rows = show::head(opened);
    rows.push(("serving", format!("http://{address} until Ctrl-C")));
    if let Some(grpc) = grpc {
        rows.push(("grpc", grpc.to_string()));
    }
    rows.push(("ask it", example));
    Ok(line(pairs(&rows).trim_end())?)
}
