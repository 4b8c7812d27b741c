//! Callers who mean harm, over real sockets: an answer or a close for them, and no difference for the others.

use super::super::ServeSettings;
use super::super::testing::FakeModel;
use super::{LONG, Running, send, settings, start_with};
use crate::runtime::memory::resident_bytes;
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PLACES: usize = 64;

/// A server with few places, on which nobody is cut off for being slow while a test runs.
async fn small() -> Running {
    let places = NonZeroUsize::new(PLACES).unwrap();
    let server = start_with(ServeSettings { connections: places, read_timeout: 10 * LONG, ..settings() }).await;
    server.registry.install(FakeModel::new("1.0.0"));
    server
}

async fn others_are_answered(server: &Running) {
    let asked = tokio::time::timeout(LONG, send(server.image())).await;
    assert_eq!(asked.expect("another caller is kept waiting").status, 200);
}

async fn sender(server: &Running, what: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(what.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_page_of_another_site_feeds_no_model_requests() {
    let mut server = small().await;
    for (header, value) in [("host", "evil.example"), ("origin", "http://evil.example"), ("origin", "null")] {
        let refused = send(server.image().header(header, value)).await;
        assert_eq!(refused.status, 403, "{header}: {value}");
        assert!(refused.error().contains("another site"), "{}", refused.error());
    }
    let own = format!("http://{}", server.address);
    assert_eq!(send(server.image().header("origin", own)).await.status, 200);
    assert_eq!(server.window().await.requests, 1);
}

/// How many files this process may open.
fn most_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_open_connections_keep_nobody_out() {
    let server = small().await;
    let count = 10_000.min(most_files().saturating_sub(600));
    if count < 10_000 {
        eprintln!("ONLY {count} CONNECTIONS: this process may open {} files", most_files());
    }
    let before = resident_bytes().unwrap();
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        // Half of them say nothing at all, half the beginning of a request.
        open.push(sender(&server, if number % 2 == 0 { "" } else { "POST /predict HT" }).await);
        if number % 1_000 == 0 {
            others_are_answered(&server).await;
        }
    }
    others_are_answered(&server).await;
    // Other tests of this process have memory too: the bound is wide, but 10,000 buffers of a request's head are 640 MB.
    let grown = resident_bytes().unwrap().saturating_sub(before);
    assert!(grown < 300 << 20, "{} MiB", grown >> 20);
    let mut byte = [0; 1];
    let closed = tokio::time::timeout(LONG, open[0].read(&mut byte)).await.expect("the first had to go");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_come_byte_by_byte_keep_nobody_out() {
    let server = small().await;
    let head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..PLACES * 3 {
        open.push(sender(&server, head).await);
    }
    for _ in 0..3 {
        for stream in &mut open {
            // Those that had to make room cannot be written to.
            stream.write_all(b"x").await.ok();
        }
        others_are_answered(&server).await;
    }
}

#[tokio::test]
async fn a_gigabyte_is_refused_before_it_is_sent() {
    let server = small().await;
    let head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: 1073741824\r\n\r\n";
    let mut stream = sender(&server, head).await;
    let mut answer = vec![0; 4_096];
    let n = tokio::time::timeout(LONG, stream.read(&mut answer)).await.expect("at once").unwrap();
    assert!(answer[..n].starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer[..n]));
    others_are_answered(&server).await;
}

#[tokio::test]
async fn a_caller_who_is_answered_keeps_his_place_while_others_crowd() {
    let server = small().await;
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (reached, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let gate = std::sync::Mutex::new(gate);
    server.registry.install(FakeModel::with("1.1.0", move |_| {
        reached.send(()).ok();
        gate.lock().unwrap().recv().ok();
        Ok(vec![fieldpost_shared::bundle::Tensor::from_f32(vec![1, 10], &[0.0; 10]).unwrap()])
    }));
    let request = server.image();
    let mut asked = tokio::task::JoinSet::new();
    asked.spawn(async move { send(request).await.status });
    begun.recv().await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..PLACES * 3 {
        crowd.push(sender(&server, "POST").await);
    }
    assert_eq!(
        send(server.client.get(server.url("/v2/health/live")).timeout(Duration::from_secs(20))).await.status,
        200
    );
    drop(open);
    assert_eq!(asked.join_all().await, [200]);
}
