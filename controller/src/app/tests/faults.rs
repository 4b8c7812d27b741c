//! What can be wrong with a machine, and what is said about it.

use super::*;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::time::Timestamp;

async fn refusal(config: Config, clock: Arc<dyn Clock>) -> (String, bool) {
    let started = serve_with(config, clock, |_| panic!("it is ready"), CancellationToken::new());
    let error = tokio::time::timeout(PATIENCE, started).await.unwrap().unwrap_err();
    (Chain(&error).to_string(), error.is_configuration())
}

async fn check(config: Config, said: &str, configuration: bool) {
    let (text, is_configuration) = refusal(config, Arc::new(SystemClock::new())).await;
    assert!(text.contains(said), "{text}");
    assert_eq!(is_configuration, configuration, "{text}");
}

#[tokio::test]
async fn a_clock_in_1970_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(60_000)));
    let (text, configuration) = refusal(config(dir.path(), ""), clock).await;
    assert!(text.contains("the machine's clock says 1970-01-01T00:01:00"), "{text}");
    assert!(!configuration && !dir.path().join("data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_failed_ends_the_controller_so_that_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    crate::install_crypto();
    let started = Started::open(config(dir.path(), ""), Arc::new(SystemClock::new())).await.unwrap();
    let failure = started.fleet.store().failure();
    let parts = started.run();
    failure.cancel();
    let ended = supervise::until_stopped(parts, CancellationToken::new(), PATIENCE);
    let error = tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap_err();
    assert!(Chain(&error).to_string().starts_with("the store stopped: the store failed"), "{}", Chain(&error));
    assert!(!error.is_configuration(), "starting again is what helps");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path()).await;
    let (text, configuration) = refusal(config(dir.path(), ""), Arc::new(SystemClock::new())).await;
    let process = format!("another controller (process {}) runs in", std::process::id());
    assert!(text.contains(&process) && text.contains("/data/lock`") && !configuration, "{text}");
    rig.stopped().await.unwrap();
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write_atomic(dir.path(), "data", b"a file").unwrap();
    check(config(dir.path(), ""), "cannot create", true).await;
}

#[tokio::test]
async fn taken_ports_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let http = Config { http: address, ..config(dir.path(), "") };
    check(http, &format!("cannot listen for HTTP on {address}: Address already in use"), false).await;
    let mut mqtt = config(dir.path(), "");
    if let crate::config::Broker::Embedded { listen, .. } = &mut mqtt.broker {
        *listen = address;
    }
    check(mqtt, &format!("cannot listen for MQTT on {address}: Address already in use"), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_fleet_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Rig::start(dir.path()).await.stopped().await.unwrap();
    check(config(dir.path(), "fleet = 'other'"), "holds the trust of fleet `default`", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    Rig::start(dir.path()).await.stopped().await.unwrap();
    let db = dir.path().join("data/db/db");
    let rotten = vec![0x5a; 70_000];
    write_atomic(db.parent().unwrap(), "db", &rotten).unwrap();
    check(config(dir.path(), ""), "is damaged: restore a backup", true).await;
}

#[tokio::test]
async fn certificates_that_are_none_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let toml = "[tls]\ncert = '/nonexistent.pem'\nkey = '/nonexistent.pem'";
    check(config(dir.path(), toml), "cannot read `/nonexistent.pem`", true).await;
}
