use super::*;
use crate::store::StoreSettings;
use fieldpost_shared::id::{Digest, ReleaseRef};
use fieldpost_shared::stats::{Baseline, WindowStats};
use fieldpost_shared::time::{ManualClock, Timestamp};

fn window(release: u64, requests: u64) -> ClosedWindow {
    let version = semver::Version::new(release, 0, 0);
    let manifest = Digest::of(version.to_string().as_bytes());
    let mut content = WindowStats::open("m", version.to_string(), &Baseline::default(), requests * 60_000);
    content.requests = requests;
    content.closed_ms = content.opened_ms + 59_999;
    ClosedWindow { release: ReleaseRef { model: "m".parse().unwrap(), version, manifest }, content }
}

fn requests(store: &Store) -> Vec<u64> {
    let windows = store.pending(0, 1 << 20).unwrap().windows;
    windows.iter().map(|window| WindowStats::decode(&window.content).unwrap().requests).collect()
}

#[tokio::test(start_paused = true)]
async fn windows_that_a_full_disk_refused_are_kept_when_there_is_space() {
    let data = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
    let store = Arc::new(Store::open(data.path(), StoreSettings::default(), &clock).unwrap().0);
    // No window is taken while the store has no reserve, and where a directory stands none can be put by.
    let reserve = data.path().join("db.reserve");
    std::fs::remove_file(&reserve).unwrap();
    std::fs::create_dir(&reserve).unwrap();
    assert!(store.push(&window(1, 9).release, &window(1, 9).content).is_err());

    let (sender, closed) = mpsc::channel(8);
    let filled = Arc::new(Notify::new());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let timer = async { drop(stopped.await) };
    let story = async {
        sender.send(window(1, 1)).await.unwrap();
        sender.send(window(1, 2)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(requests(&store), [0; 0]);
        std::fs::remove_dir(&reserve).unwrap();
        filled.notified().await;
        sender.send(window(1, 3)).await.unwrap();
        stop.send(()).unwrap();
    };
    let (open, _none) = mpsc::channel(1);
    let registry = Registry::new(Arc::new(clock), crate::monitor::MonitorSettings::default(), open);
    tokio::join!(keep_windows(timer, registry, closed, Arc::clone(&store), Arc::clone(&filled)), story);
    assert_eq!(requests(&store), [1, 2, 3]);
}

#[test]
fn the_oldest_two_of_one_release_become_one() {
    let mut windows: VecDeque<_> = [(1, 1), (2, 10), (1, 100), (1, 1_000)].map(|(r, n)| window(r, n)).into();
    let left = |windows: &VecDeque<ClosedWindow>| windows.iter().map(|w| w.content.requests).collect::<Vec<_>>();
    assert!(merge_oldest(&mut windows));
    assert_eq!(left(&windows), [101, 10, 1_000]);
    assert!(merge_oldest(&mut windows));
    assert_eq!(left(&windows), [1_101, 10]);
    assert!(!merge_oldest(&mut windows));
}
