//! `try`: runs one bundle on this machine with no controller and no fleet, once on files or as a server.
//!
//! ```text
//! file or folder --read, believe, fit, assemble (in a scratch directory)--> self-test --> answers, or HTTP on loopback
//! ```
//!
//! Reading, limits, assembly, loading and self-test are those of a box; the scratch directory has a box's layout. What is
//! different: who published the bundle is checked only when somebody says by which keys, and the output tells which of
//! the two it was. Nothing here touches the data directory of an agent that runs on the same machine.

mod once;
mod open;
mod scratch;
mod serve;
mod show;
#[cfg(test)]
mod tests;

use crate::app::stop_signal;
use crate::cli::{CommandError, Output};
use crate::serve::{GrpcAddress, ServeSettings};
use anyhow::{Context as _, anyhow};
use fieldpost_shared::time::{Clock, SystemClock};
use fieldpost_shared::trust::PublicKey;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is to be tried.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// A `.fieldpost` file, or the folder that it unpacks to.
    pub bundle: PathBuf,
    /// Whose bundles are believed.
    pub believed: Believed,
    /// What to do once it is loaded.
    pub work: Work,
    /// Form of what is printed.
    pub output: Output,
}

/// Whose bundles are believed.
#[derive(Debug, Clone)]
pub(crate) enum Believed {
    /// Anybody's: nobody said whose.
    Anybody,
    /// A fleet's publishers, by its signed root metadata.
    Root(PathBuf),
    /// Bundles that each of these keys signed.
    Keys(Vec<PublicKey>),
}

/// What to do with a loaded bundle.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// Answer these inputs, and end; `-` is standard input.
    Once(Vec<PathBuf>),
    /// Serve until told to stop.
    Serve {
        /// Where.
        http: SocketAddr,
        /// Where over gRPC too, if anywhere.
        grpc: Option<GrpcAddress>,
        /// Inference threads; none is one per processor.
        threads: Option<NonZeroUsize>,
    },
}

/// Tries a bundle.
///
/// # Errors
/// When the bundle is refused, an input is not answered, or the address cannot be had.
pub(crate) async fn run(order: Order) -> Result<(), CommandError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let stop = Arc::new(AtomicBool::new(false));
    let work = {
        let (order, clock, stop) = (order.clone(), Arc::clone(&clock), Arc::clone(&stop));
        move || -> Result<_, CommandError> {
            let opened = open::open(&order.bundle, &order.believed, clock.as_ref())?;
            match &order.work {
                Work::Once(inputs) => once::run(&opened, inputs, order.output, clock.as_ref(), &stop).map(|()| None),
                Work::Serve { http, grpc, threads } => {
                    let settings = ServeSettings::new(*http);
                    let threads = threads.unwrap_or(settings.threads);
                    Ok(Some((opened, ServeSettings { grpc: *grpc, threads, ..settings })))
                }
            }
        }
    };
    let mut work = tokio::task::spawn_blocking(work);
    let done = tokio::select! {
        done = &mut work => done,
        // The scratch directory belongs to the work: it is left behind only by what nobody can catch.
        signal = stop_signal() => {
            stop.store(true, Ordering::Relaxed);
            drop(work.await);
            let signal = signal.context("cannot listen for signals")?;
            return Err(anyhow!("stopped by {signal}").into());
        }
    };
    match done.map_err(|error| anyhow!("loading broke off: {error}"))?? {
        None => Ok(()),
        Some((opened, settings)) => serve::run(opened, settings, order.output, clock).await,
    }
}
