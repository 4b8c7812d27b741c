//! Callers who mean harm, over real sockets: an answer or a close for them, and no difference for the others.

use super::super::ServeSettings;
use super::super::coding::Coding;
use super::super::testing::FakeModel;
use super::caller::{self, Caller};
use super::{LONG, Running, send, settings, start_with};
use crate::runtime::memory::resident_bytes;
use bytes::Bytes;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

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

/// The same for gRPC, on a connection of its own.
async fn others_are_answered_by_grpc(server: &Running) {
    let ask = async { Caller::connect(server).await.unwrap().call("ModelInfer", &caller::infer(0)).await };
    let asked = tokio::time::timeout(LONG, ask).await;
    assert!(asked.expect("another caller is kept waiting").is_ok());
}

async fn sender(server: &Running, what: &str) -> TcpStream {
    said(server.address, what.as_bytes()).await
}

async fn said(address: SocketAddr, what: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(what).await.unwrap();
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

/// Opens very many connections: half of them say nothing at all, half the beginning of something. `answered` asks as others do.
async fn crowd(address: SocketAddr, beginning: &[u8], answered: impl AsyncFn()) {
    // One crowd at a time: they share the files and the memory of this process.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = ALONE.lock().await;
    let (wanted, files) = (10_000, most_files());
    let count = wanted.min(files.saturating_sub(600));
    if count < wanted {
        let less =
            format!("{count} connections instead of {wanted}: this process may open {files} files (`ulimit -n`)");
        assert!(std::env::var_os("FIELDPOST_REQUIRE_PEERS").is_none(), "{less}");
        eprintln!("ONLY {less}");
    }
    let before = resident_bytes().unwrap();
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        open.push(said(address, if number % 2 == 0 { b"" } else { beginning }).await);
        if number % 1_000 == 0 {
            answered().await;
        }
    }
    answered().await;
    // Other tests of this process have memory too: the bound is wide, but 10,000 buffers of a request's head are 640 MB.
    let grown = resident_bytes().unwrap().saturating_sub(before);
    assert!(grown < 300 << 20, "{} MiB", grown >> 20);
    let mut byte = [0; 1];
    let closed = tokio::time::timeout(LONG, open[0].read(&mut byte)).await.expect("the first had to go");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_open_connections_keep_nobody_out() {
    let server = small().await;
    crowd(server.address, b"POST /predict HT", async || others_are_answered(&server).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_of_grpc_keep_nobody_out() {
    let server = small().await;
    // With the preface and empty settings (RFC 9113 §3.4) a connection is whole, and may stay open for as long as it likes.
    let begun = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    crowd(server.grpc, begun, async || others_are_answered_by_grpc(&server).await).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_come_byte_by_byte_keep_nobody_out() {
    let server = small().await;
    let mut open = Vec::new();
    for number in 0..PLACES * 3 {
        let method = if number % 2 == 0 { "ModelInfer" } else { "ModelStreamInfer" };
        let mut caller = Caller::connect(&server).await.unwrap();
        // Those that had to make room meanwhile cannot begin.
        if let Ok(begun) = caller.begin(method, &[]).await {
            open.push((caller, begun));
        }
    }
    assert!(open.len() >= PLACES, "{}", open.len());
    others_are_answered_by_grpc(&server).await;
    for byte in caller::message(false, &[0; 1_000]).slice(..3) {
        for (_, begun) in &mut open {
            begun.body.send_data(vec![byte].into(), false).ok();
        }
        others_are_answered_by_grpc(&server).await;
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

/// A server whose model stands still until the sender is dropped, and says when it was reached.
async fn standing_still() -> (Running, std::sync::mpsc::Sender<()>, UnboundedReceiver<()>) {
    let server = small().await;
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let (reached, begun) = tokio::sync::mpsc::unbounded_channel();
    let gate = std::sync::Mutex::new(gate);
    server.registry.install(FakeModel::with("1.1.0", move |_| {
        reached.send(()).ok();
        gate.lock().unwrap().recv().ok();
        Ok(vec![fieldpost_shared::bundle::Tensor::from_f32(vec![1, 10], &[0.0; 10]).unwrap()])
    }));
    (server, open, begun)
}

#[tokio::test]
async fn a_caller_who_is_answered_keeps_his_place_while_others_crowd() {
    let (server, open, mut begun) = standing_still().await;
    let request = server.image();
    let mut asked = JoinSet::new();
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

#[tokio::test]
async fn calls_that_are_answered_keep_their_connection_while_others_crowd() {
    let (server, open, mut begun) = standing_still().await;
    let mut caller = Caller::connect(&server).await.unwrap();
    let stream = caller.begin("ModelStreamInfer", &[]).await.unwrap();
    let mut asked = JoinSet::new();
    asked.spawn(async move { caller.call("ModelInfer", &caller::infer(0)).await.map(drop) });
    begun.recv().await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..PLACES * 3 {
        crowd.push(said(server.grpc, b"PRI").await);
    }
    let live = Caller::connect(&server).await.unwrap().call("ServerLive", &[]).await.unwrap();
    assert_eq!(live, caller::message(false, &[8, 1]));
    drop(open);
    assert!(asked.join_all().await.iter().all(Result::is_ok));
    drop(stream);
}

/// Each is a few kilobytes on the wire, a megabyte unpacked, and the call never ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_of_grpc_share_the_memory_for_bodies() {
    const MIB: usize = 1 << 20;
    let server = start_with(ServeSettings { max_body_bytes: 2 * MIB, body_memory_bytes: 4 * MIB, ..settings() }).await;
    server.registry.install(FakeModel::new("1.0.0"));
    let packed = Coding::Gzip.pack(&caller::infer(MIB), false).unwrap();
    let bomb = caller::message(true, &packed);
    assert!(bomb.len() < 16 << 10, "{}", bomb.len());
    let mut caller = Caller::connect(&server).await.unwrap();
    let (mut calls, mut open) = (JoinSet::new(), Vec::new());
    for number in 0..32 {
        let method = if number % 2 == 0 { "ModelInfer" } else { "ServerLive" };
        let mut begun = caller.begin(method, &[("grpc-encoding", "gzip")]).await.unwrap();
        begun.body.send_data(bomb.clone(), false).unwrap();
        let (ended, body) = begun.parts();
        open.push(body);
        calls.spawn(ended);
    }
    // Three have a megabyte and a little more each; all others are told so at once, though none has sent its end.
    for _ in 0..32 - 3 {
        let refused = calls.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    }
    // Who was refused is gone; those that have their room are answered once they end.
    open.iter_mut().for_each(|body| drop(body.send_data(Bytes::new(), true)));
    assert!(calls.join_all().await.iter().all(Result::is_ok));
    // What they had is free again.
    let mut whole = caller.begin("ModelInfer", &[("grpc-encoding", "gzip")]).await.unwrap();
    whole.body.send_data(bomb, true).unwrap();
    assert!(whole.ended().await.is_ok());
}
