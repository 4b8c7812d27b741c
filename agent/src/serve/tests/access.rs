//! What the access log tells.

use super::super::testing::FakeModel;
use super::super::{Portion, ServeSettings};
use super::caller::{self, Caller};
use super::{send, settings, start_with};
use std::sync::{Arc, Mutex};
use tracing::subscriber::{DefaultGuard, set_default};

/// Where lines are kept.
struct Kept(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What this thread logs from now on.
fn log() -> (Arc<Mutex<Vec<u8>>>, DefaultGuard) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&log);
    let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || Kept(Arc::clone(&kept))).finish();
    (log, set_default(lines))
}

/// The lines of the access log, from the request on, without the time that it took.
fn lines(log: &Mutex<Vec<u8>>) -> Vec<String> {
    let text = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    let told = text.lines().filter_map(|line| line.split_once(": answered ")?.1.rsplit_once(" took_us="));
    told.map(|(line, _)| line.to_owned()).collect()
}

#[tokio::test]
async fn each_prediction_is_told_of_with_the_release_that_answered_it() {
    let server = start_with(ServeSettings { access_log: Portion::ALL, ..settings() }).await;
    server.registry.install(FakeModel::new("1.0.0"));
    let (log, _guard) = log();
    send(server.image().header("x-request-id", "seven")).await;
    send(server.post("/v2/models/other/versions/9/infer", "application/json", "{}").header("x-request-id", "eight"))
        .await;
    assert_eq!(
        lines(&log),
        [
            r#"request="seven" path="/predict" model="digits" version="1.0.0" status=200"#,
            r#"request="eight" path="/v2/models/other/versions/9/infer" model="other" version="9" status=404"#,
        ]
    );
}

#[tokio::test]
async fn grpc_is_told_of_by_the_requests_own_id() {
    let server = start_with(ServeSettings { access_log: Portion::ALL, ..settings() }).await;
    server.registry.install(FakeModel::new("1.0.0"));
    let (log, _guard) = log();
    let mut caller = Caller::connect(&server).await.unwrap();
    let sound = [caller::infer(0), b"\x1a\x05seven".to_vec()].concat();
    caller.call("ModelInfer", &sound).await.unwrap();
    caller.call("ModelStreamInfer", &sound).await.unwrap();
    caller.call("ModelInfer", b"\x0a\x05other\x12\x019\x1a\x05eight").await.unwrap_err();
    caller.call("ServerLive", b"").await.unwrap();
    assert_eq!(
        lines(&log),
        [
            r#"request="seven" path="ModelInfer" model="digits" version="1.0.0" status=Ok"#,
            r#"request="seven" path="ModelStreamInfer" model="digits" version="1.0.0" status=Ok"#,
            r#"request="eight" path="ModelInfer" model="other" version="9" status=NotFound"#,
        ]
    );
}

#[tokio::test]
async fn nothing_is_told_unless_it_is_asked_for() {
    let server = start_with(settings()).await;
    server.registry.install(FakeModel::new("1.0.0"));
    let (log, _guard) = log();
    assert_eq!(send(server.image()).await.status, 200);
    assert_eq!(lines(&log), [""; 0]);
}
