//! Runs the parts, ends when told or when one ends by itself, and stops them in order within a deadline.

use super::ServeError;
use super::start::Claim;
use crate::broker::BrokerError;
use fieldpost_shared::error_chain::Chain;
use std::future::Future;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

type Ended = (&'static str, Result<(), Box<dyn std::error::Error + Send + Sync>>);

/// Running parts.
#[derive(Debug)]
pub struct Parts {
    tasks: JoinSet<Ended>,
    stop: CancellationToken,
    /// Stops after the others, so that they can say farewell.
    broker: JoinSet<Result<(), BrokerError>>,
    stop_broker: CancellationToken,
    /// The data directory is ours until all is done.
    _claim: Claim,
}

impl Parts {
    pub(super) fn new(claim: Claim) -> Self {
        Self {
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            broker: JoinSet::new(),
            stop_broker: CancellationToken::new(),
            _claim: claim,
        }
    }

    pub(super) fn spawn<F>(&mut self, name: &'static str, part: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let part = part(self.stop.clone());
        self.tasks.spawn(async move { (name, part.await) });
    }

    pub(super) fn spawn_blocking(&mut self, name: &'static str, part: impl FnOnce(CancellationToken) + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn_blocking(move || {
            part(stop);
            (name, Ok(()))
        });
    }

    pub(super) fn spawn_broker<F>(&mut self, broker: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), BrokerError>> + Send + 'static,
    {
        self.broker.spawn(broker(self.stop_broker.clone()));
    }
}

/// Waits for the word to stop, or for a part to end by itself; then stops all of them.
pub(super) async fn until_stopped(
    mut parts: Parts,
    stop: CancellationToken,
    deadline: Duration,
) -> Result<(), ServeError> {
    notify(sd_notify::NotifyState::Ready);
    let mut watchdog = sd_notify::watchdog_enabled().map(|period| tokio::time::interval(period / 2));
    let outcome = loop {
        // Every arm is cancel-safe: joining loses nothing, and a tick that was not seen comes again.
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            Some(ended) = parts.tasks.join_next() => break Err(match ended {
                Ok((part, Ok(()))) => ServeError::Part { part, source: None },
                Ok((part, Err(source))) => ServeError::Part { part, source: Some(source) },
                Err(died) => ServeError::Part { part: "a part of the controller", source: Some(Box::new(died)) },
            }),
            Some(ended) = parts.broker.join_next(), if !parts.broker.is_empty() => break Err(ServeError::Part {
                part: "the embedded broker",
                source: match ended {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(Box::new(error)),
                    Err(died) => Some(Box::new(died)),
                },
            }),
            () = tick(&mut watchdog) => notify(sd_notify::NotifyState::Watchdog),
        }
    };
    notify(sd_notify::NotifyState::Stopping);
    shut_down(parts, deadline).await;
    outcome
}

async fn tick(watchdog: &mut Option<tokio::time::Interval>) {
    match watchdog {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

fn notify(state: sd_notify::NotifyState<'_>) {
    // Without systemd this does nothing.
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "cannot tell systemd");
    }
}

async fn shut_down(mut parts: Parts, deadline: Duration) {
    parts.stop.cancel();
    let all = async {
        while let Some(ended) = parts.tasks.join_next().await {
            match ended {
                Ok((part, Err(error))) => {
                    let error: &(dyn std::error::Error + 'static) = error.as_ref();
                    tracing::warn!(part, error = %Chain(error), "a part failed while stopping");
                }
                Ok((_, Ok(()))) => (),
                Err(error) => tracing::warn!(%error, "a part died while stopping"),
            }
        }
        parts.stop_broker.cancel();
        while let Some(ended) = parts.broker.join_next().await {
            if let Ok(Err(error)) = ended {
                tracing::debug!(error = %Chain(&error), "the broker failed while stopping");
            }
        }
    };
    if tokio::time::timeout(deadline, all).await.is_err() {
        tracing::warn!(?deadline, "not all parts stopped in time; they are cut off");
        parts.stop_broker.cancel();
        parts.tasks.abort_all();
        parts.broker.abort_all();
    }
}
