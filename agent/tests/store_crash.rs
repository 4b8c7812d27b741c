//! The store in a process of its own: killed by SIGKILL at any moment, and on a disk that is full.
//!
//! Without the test harness, since the same executable is also the process that is killed (`child DIR`).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test without the harness, which clippy does not take for one: it fails by panicking, and prints its results"
)]

use fieldpost_agent::store::{Counter, Opened, Pending, Store, StoreError, StoreSettings};
use fieldpost_shared::id::{Digest, ModelName, ReleaseRef};
use fieldpost_shared::stats::{Baseline, WindowStats};
use fieldpost_shared::time::{SystemClock, Timestamp};
use fieldpost_shared::wire::v1::Sequence;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

const ROUNDS: u64 = 12;
/// Wants 2 MiB for the reserve, and a little for the database.
const SMALL_DISK: &str = "6m";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["child", dir] => child(Path::new(dir)),
        ["full-disk", dir] => full_disk(Path::new(dir)),
        // What `cargo test -- --list` and filters ask of a test binary.
        ["--list", ..] => println!("store_crash: test"),
        _ => {
            nothing_acknowledged_is_lost_by_kill_9();
            println!("test nothing_acknowledged_is_lost_by_kill_9 ... ok");
            return a_full_disk_is_survived();
        }
    }
    ExitCode::SUCCESS
}

fn model() -> ModelName {
    "m".parse().unwrap()
}

fn release() -> ReleaseRef {
    ReleaseRef { model: model(), version: semver::Version::new(1, 0, 0), manifest: Digest::of(b"m") }
}

fn window(i: u64, padding: usize) -> WindowStats {
    let name = format!("m{}", "x".repeat(padding));
    let mut window = WindowStats::open(name, "1.0.0", &Baseline::default(), i);
    window.requests = i;
    window
}

fn open(dir: &Path) -> Result<(Store, Opened), StoreError> {
    Store::open(dir, StoreSettings::default(), &SystemClock::new())
}

/// Writes for ever; says each number once everything under it is durable.
fn child(dir: &Path) {
    let (store, _) = open(dir).unwrap();
    let mut out = std::io::stdout();
    let mut acknowledged = 0;
    loop {
        let number = store.next(Counter::Session).unwrap().number;
        store.push(&release(), &window(number, 10)).unwrap();
        store.commit(&model(), Some(&number), &[]).unwrap();
        if number % 7 == 0 {
            let windows = store.pending(acknowledged, 1 << 12).unwrap().windows;
            acknowledged = windows.last().map_or(acknowledged, |w| w.last);
        }
        writeln!(out, "{number}").unwrap();
        out.flush().unwrap();
    }
}

fn nothing_acknowledged_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut said = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child".as_ref(), dir.path().as_os_str()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..=(round * round) {
            said = lines.next().expect("the child writes until it is killed").unwrap().parse().unwrap();
        }
        child.kill().unwrap();
        for line in lines {
            // What it said before the signal arrived; the last line may be torn.
            said = line.unwrap().parse().unwrap_or(said).max(said);
        }
        child.wait().unwrap();
        let (store, opened) = open(dir.path()).unwrap();
        assert_eq!(opened, Opened { set_aside: None, fresh: false }, "round {round}");
        let slots: Vec<(ModelName, u64)> = store.slots().unwrap();
        assert!(slots[0].1 >= said, "round {round}: slot {} of {said}", slots[0].1);
        let next = store.next(Counter::Session).unwrap().number;
        assert!(next > said, "round {round}: number {next} after {said}");
        // The number just taken has no window: from here on the sum is of what was pushed.
        store.push(&release(), &window(next, 10)).unwrap();
        said = next;
    }
    let (store, _) = open(dir.path()).unwrap();
    let (mut seen, mut stored) = (std::collections::BTreeSet::new(), Sequence::default());
    loop {
        let Pending { epoch, windows } = store.pending(0, 1 << 20).unwrap();
        let Some(last) = windows.last() else { break };
        assert!(epoch >= stored.epoch, "epochs go up");
        let after = if epoch == stored.epoch { stored.number } else { 0 };
        assert_eq!(windows[0].first, after + 1, "no gap");
        stored = Sequence { epoch, number: last.last };
        seen.extend(windows.iter().map(|w| WindowStats::decode(&w.content).unwrap().requests));
        store.acknowledge(stored, Timestamp::EPOCH).unwrap();
    }
    // A death between taking a number and pushing its window leaves that one out, once a round at most.
    let missing = (1..=said).filter(|n| !seen.contains(n)).count();
    assert!(missing <= usize::try_from(ROUNDS).unwrap(), "{missing} of {said} windows are missing");
    println!("{said} windows over {ROUNDS} deaths, {missing} never acknowledged");
}

/// Runs `full-disk` on a small file system of its own, as root or in a user namespace.
fn a_full_disk_is_survived() -> ExitCode {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size={SMALL_DISK} tmpfs \"$1\" && exec \"$0\" full-disk \"$1\"");
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .arg(dir.path())
        .status();
    match run.map(|status| status.code()) {
        Ok(Some(0)) => println!("test a_full_disk_is_survived ... ok"),
        Ok(Some(101)) => return ExitCode::FAILURE,
        other => {
            println!("test a_full_disk_is_survived ... NOT RUN: no small file system can be mounted here ({other:?})");
            if std::env::var_os("CI").is_some() {
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn full_disk(dir: &Path) {
    let (store, _) = open(dir).unwrap();
    let mut pushed = 0;
    // Something else fills the disk, and statistics what is left of it.
    let hog = dir.join("hog");
    let mut file = std::fs::File::create(&hog).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    let refused = loop {
        match store.push(&release(), &window(pushed + 1, 4000)) {
            Ok(()) => pushed += 1,
            Err(error) => break error,
        }
    };
    assert!(refused.is_disk_full(), "{refused:?}");
    assert!(refused.to_string().starts_with("the disk is full: cannot"), "{refused}");
    drop(store);

    // A start on the full disk: the journal works, from the reserve; statistics wait.
    let (store, opened) = open(dir).unwrap();
    assert_eq!(opened, Opened { set_aside: None, fresh: false });
    for n in 0..100_u64 {
        store.commit(&model(), Some(&n), &[]).unwrap();
    }
    let error = store.push(&release(), &window(pushed + 1, 4000)).unwrap_err();
    assert!(error.is_disk_full(), "{error:?}");
    assert_eq!(store.outbox().unwrap().windows, pushed, "nothing that was taken is lost");
    drop(store);
    let (store, _) = open(dir).unwrap();
    assert_eq!(store.slots::<u64>().unwrap(), [(model(), 99)]);

    // There is space again: everything goes on, in the same process.
    std::fs::remove_file(&hog).unwrap();
    store.push(&release(), &window(pushed + 1, 4000)).unwrap();
    assert_eq!(store.outbox().unwrap().windows, pushed + 1);
}
