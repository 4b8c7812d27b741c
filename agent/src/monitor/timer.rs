//! The timer that reads the box and closes windows.

use super::resources::Resources;
use crate::serve::Registry;
use fieldpost_shared::stats::Reading;
use std::path::PathBuf;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Reads the box and closes windows every [`super::MonitorSettings::tick`] until `shutdown`; then closes all in which something
/// happened, so that nothing is lost when the receiver is still there. `data` is where the models lie.
pub async fn run(registry: Registry, data: PathBuf, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(registry.settings().tick);
    // A box that was asleep needs one reading, not an hour's worth of them.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut resources = open(data).await;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            // Cancel-safe: a tick that was not taken comes again.
            _now = ticks.tick() => {}
        }
        let (reader, reading) = read(resources).await;
        resources = reader;
        registry.resources(&reading);
        registry.give_up_hung();
        tokio::select! {
            () = shutdown.cancelled() => break,
            // Cancel-safe: what was closed and not taken stays in the registry.
            () = registry.close_windows(false) => {}
        }
    }
    registry.close_windows(true).await;
}

/// Sensors may block, so they are read off the reactor.
async fn open(data: PathBuf) -> Option<Resources> {
    tokio::task::spawn_blocking(move || Resources::new(&data)).await.ok()
}

async fn read(resources: Option<Resources>) -> (Option<Resources>, Reading) {
    let Some(mut resources) = resources else { return (None, Reading::default()) };
    let read = tokio::task::spawn_blocking(move || {
        let reading = resources.read();
        (Some(resources), reading)
    });
    read.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::monitor::{MonitorSettings, timer};
    use crate::serve::Registry;
    use crate::serve::testing::FakeModel;
    use fieldpost_shared::time::{Clock, SystemClock};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn windows_close_by_themselves_with_readings_of_the_box() {
        let (sender, mut closed) = mpsc::channel(4);
        let (window, tick) = (Duration::from_millis(1), Duration::from_millis(5));
        let settings = MonitorSettings { window, tick, ..MonitorSettings::default() };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let registry = Registry::new(clock, settings, sender);
        registry.install(FakeModel::new("1.0.0"));
        let shutdown = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(timer::run(registry, std::env::temp_dir(), shutdown.clone()));
        let window = tokio::time::timeout(Duration::from_secs(20), closed.recv()).await.unwrap().unwrap();
        assert!(window.content.resources.rss_bytes.unwrap().max() > 1 << 20);
        shutdown.cancel();
        drop(closed);
        tokio::time::timeout(Duration::from_secs(20), tasks.join_next()).await.unwrap().unwrap().unwrap();
    }
}
