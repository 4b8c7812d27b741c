//! Crashes and rot, over the real disk: what a fake of it would hide.

mod bench;

use super::lock;
use crate::deploy::testing::desired;
use crate::deploy::{Driver, DriverSettings, Effects, Failure, Journal, Refusal};
use bench::{Bench, Life, NOW, PUBLISHER, root, rot};
use fieldpost_shared::id::ReleaseRef;
use fieldpost_shared::time::{Clock, ManualClock, Timestamp};
use fieldpost_shared::wire::v1::{Assignment, FailureKind};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

fn file(bench: &Bench, release: &ReleaseRef, path: &str) -> PathBuf {
    bench.data.path().join("releases").join(release.manifest.to_string()).join(path)
}

async fn fetch(life: &Life, wanted: &Assignment) -> Result<(), Failure> {
    life.effects.fetch(wanted, watch::channel((0, 0)).0).await
}

/// Runs the driver on a box that wants `wanted`, until it is live or `seconds` are over; then the power goes.
async fn drive(bench: &Bench, life: &Life, wanted: &Assignment, answers: usize, seconds: u64) -> bool {
    let journal: Arc<dyn Journal> = Arc::<crate::store::Store>::clone(&life.store);
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&bench.clock);
    let (driver, handle) = Driver::open(journal, Arc::clone(&life.effects), clock, DriverSettings::default()).unwrap();
    let live = async {
        // At a restart it is known already.
        let told = handle.desired(desired(1, u64::MAX, std::slice::from_ref(wanted))).await;
        assert!(matches!(told, Ok(()) | Err(Refusal::Known(1))), "{told:?}");
        let mut status = handle.status();
        let is_live = |status: &crate::deploy::DeployStatus| {
            status.models.iter().any(|model| model.live.as_ref() == Some(&wanted.release))
        };
        tokio::time::timeout(Duration::from_secs(seconds), status.wait_for(is_live)).await.is_ok()
    };
    let running = async {
        tokio::select! {
            ended = driver.run(CancellationToken::new()) => panic!("the driver ended: {ended:?}"),
            live = live => live,
        }
    };
    let live = bench.line(life, answers, running).await;
    // What ran on other threads lets go of the database.
    while Arc::strong_count(&life.effects) > 1 || Arc::strong_count(&life.store) > 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    live
}

#[tokio::test(start_paused = true)]
async fn a_download_goes_on_after_every_power_cut() {
    let mut bench = Bench::new();
    let wanted = bench.publish(1);
    let mut came = HashSet::new();
    let mut asked_twice = 0;
    for start in 0..20 {
        let life = bench.start();
        // Three blobs come before the line falls silent, and the power goes before the driver tries again.
        let live = drive(&bench, &life, &wanted, 3, 2).await;
        let asked = bench.asked();
        // What came in an earlier life is not asked for again.
        asked_twice += asked.iter().filter(|digest| came.contains(*digest)).count();
        came.extend(asked.into_iter().take(3));
        if live {
            assert!(start > 2, "the power was never cut");
            assert_eq!(asked_twice, 0);
            return;
        }
    }
    panic!("the release never came whole");
}

#[tokio::test(start_paused = true)]
async fn one_rotten_chunk_of_a_live_model_is_found_at_the_next_start_and_fetched_alone() {
    for (path, at) in [("files/model.onnx", 700), ("files/golden.bin", 10)] {
        let mut bench = Bench::new();
        let wanted = bench.publish(1);
        bench.install(&bench.start(), &wanted).await;
        rot(&file(&bench, &wanted.release, path), at);
        bench.asked();
        let life = bench.start();
        for _ in 0..2 {
            let failure = life.effects.swap(&wanted.release).await.unwrap_err();
            assert!(failure.retry && failure.kind == FailureKind::Disk, "no fault of the release: {failure:?}");
        }
        bench.install(&life, &wanted).await;
        assert_eq!(bench.asked().len(), 1, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotten_manifest_is_fetched_and_nothing_else() {
    let mut bench = Bench::new();
    let wanted = bench.publish(1);
    bench.install(&bench.start(), &wanted).await;
    rot(&file(&bench, &wanted.release, "manifest.json"), 40);
    bench.asked();
    let life = bench.start();
    assert!(life.effects.swap(&wanted.release).await.unwrap_err().retry);
    bench.install(&life, &wanted).await;
    assert_eq!(bench.asked(), [wanted.release.manifest]);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_rotted_in_an_installed_file_is_fetched_for_the_next_release() {
    let mut bench = Bench::new();
    let (first, second) = (bench.publish(1), bench.publish(2));
    let life = bench.start();
    bench.install(&life, &first).await;
    for at in [100, 1_500] {
        rot(&file(&bench, &first.release, "files/model.onnx"), at);
    }
    bench.asked();
    bench.install(&life, &second).await;
    let asked = bench.asked();
    let shared = asked.iter().filter(|digest| {
        let name = digest.to_string();
        std::fs::read(file(&bench, &second.release, "files/model.onnx"))
            .unwrap()
            .chunks(512)
            .any(|piece| fieldpost_shared::id::Digest::of(piece).to_string() == name)
    });
    assert_eq!(shared.count(), 2, "the two rotten chunks of the model, and no other that is shared");
}

#[tokio::test(start_paused = true)]
async fn all_damage_among_waiting_chunks_is_mended_in_one_round() {
    let mut bench = Bench::new();
    let wanted = bench.publish(1);
    let life = bench.start();
    bench.line(&life, usize::MAX, fetch(&life, &wanted)).await.unwrap();
    let chunks: Vec<_> = std::fs::read_dir(bench.data.path().join("chunks")).unwrap().collect();
    for chunk in &chunks {
        rot(&chunk.as_ref().unwrap().path(), 0);
    }
    assert!(life.effects.verify(&wanted).await.unwrap_err().retry);
    bench.asked();
    bench.install(&life, &wanted).await;
    assert_eq!(bench.asked().len(), chunks.len());
}

#[tokio::test(start_paused = true)]
async fn chunks_that_a_power_cut_left_empty_are_fetched_again() {
    let mut bench = Bench::new();
    let wanted = bench.publish(1);
    let life = bench.start();
    bench.line(&life, usize::MAX, fetch(&life, &wanted)).await.unwrap();
    let chunk = std::fs::read_dir(bench.data.path().join("chunks")).unwrap().next().unwrap().unwrap().path();
    drop(std::fs::File::create(&chunk).unwrap());
    bench.asked();
    bench.line(&life, usize::MAX, fetch(&life, &wanted)).await.unwrap();
    assert_eq!(bench.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_off_while_writing_goes_at_the_next_start() {
    let mut bench = Bench::new();
    let wanted = bench.publish(1);
    let life = bench.start();
    bench.line(&life, usize::MAX, fetch(&life, &wanted)).await.unwrap();
    let chunks = bench.data.path().join("chunks");
    let hidden = || std::fs::read_dir(&chunks).unwrap().filter(|e| is_hidden(e.as_ref().unwrap())).count();
    // A chunk is lost, so assembly breaks off in the middle of a file.
    let lost = std::fs::read_dir(&chunks).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(lost).unwrap();
    life.effects.verify(&wanted).await.unwrap_err();
    assert_eq!(hidden(), 0, "an error leaves nothing half written");
    drop(std::fs::File::create(chunks.join(".abc.file")).unwrap());
    life.effects.disk.sweep().unwrap();
    assert_eq!(hidden(), 0);
    assert!(std::fs::read_dir(&chunks).unwrap().count() > 3, "what had come stays");
}

fn is_hidden(entry: &std::fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with('.')
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_the_root_has_dropped_stops_a_candidate_at_every_step() {
    let mut bench = Bench::new();
    let wanted = bench.publish(1);
    let life = bench.start();
    bench.line(&life, usize::MAX, fetch(&life, &wanted)).await.unwrap();
    let change = |publisher| *bench.root.write().unwrap() = root(2, publisher);
    let untrusted = |step: Result<(), Failure>| {
        let failure = step.unwrap_err();
        assert!(failure.kind == FailureKind::Untrusted && !failure.retry, "{failure:?}");
    };
    change(9);
    untrusted(fetch(&life, &wanted).await);
    untrusted(life.effects.verify(&wanted).await);
    change(PUBLISHER);
    life.effects.verify(&wanted).await.unwrap();
    change(9);
    untrusted(life.effects.self_test(&wanted).await);
    assert!(lock(&life.effects.now.prepared).is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_expired_root_is_refused_though_the_clock_says_1970() {
    let mut bench = Bench::new();
    let wanted = bench.publish(1);
    let life = bench.start();
    bench.clock.jump_to(Timestamp::EPOCH);
    bench.line(&life, usize::MAX, fetch(&life, &wanted)).await.unwrap();
    life.store.witness(NOW.plus(Duration::from_secs(2 * 86_400))).unwrap();
    let failure = life.effects.verify(&wanted).await.unwrap_err();
    assert!(failure.kind == FailureKind::Untrusted && failure.retry, "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_was_given_up_after_its_self_test_takes_no_memory() {
    let mut bench = Bench::new();
    let wanted = bench.publish(1);
    let life = bench.start();
    bench.line(&life, usize::MAX, fetch(&life, &wanted)).await.unwrap();
    life.effects.verify(&wanted).await.unwrap();
    life.effects.self_test(&wanted).await.unwrap();
    assert_eq!(lock(&life.effects.now.prepared).len(), 1);
    life.effects.collect(&[wanted.release.manifest]).await;
    assert_eq!(lock(&life.effects.now.prepared).len(), 0);
    life.effects.swap(&wanted.release).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_what_is_not_there_needs_space() {
    let mut bench = Bench::new();
    let wanted = bench.publish(1);
    let life = bench.start();
    let manifest = bench.line(&life, usize::MAX, life.effects.manifest(&wanted)).await.unwrap().parsed;
    let unwritten = || life.effects.disk.unwritten_bytes(&wanted.release.manifest, &manifest).unwrap();
    assert_eq!(unwritten(), manifest.total_bytes());
    bench.install(&life, &wanted).await;
    assert_eq!(unwritten(), 0);
    rot(&file(&bench, &wanted.release, "files/golden.bin"), 3);
    assert!(life.effects.swap(&wanted.release).await.is_err());
    assert_eq!(unwritten(), manifest.files[1].size, "the model is good");
}
