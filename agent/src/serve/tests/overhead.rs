//! What HTTP, the queue and the monitor add to a bare inference. A measurement, run by hand:
//! `cargo test -p fieldpost-agent --lib overhead -- --ignored --nocapture` (with optimisation for figures of use).

use super::super::Model;
use super::swap::{digits, sample};
use super::{settings, start_with};
use crate::runtime::PredictInput;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const N: usize = 3_000;

fn report(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100];
    println!("{what:<28} p50 {:>9.1?}   p95 {:>9.1?}   p99 {:>9.1?}", at(50), at(95), at(99));
    at(50)
}

#[allow(clippy::disallowed_methods, reason = "a measurement reads the machine's clock")]
fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a measurement, not a check"]
#[allow(clippy::disallowed_methods, reason = "a measurement reads the machine's clock")]
async fn http_adds_little_to_a_bare_inference() {
    let (model, image) = (digits("digits-1.0", "1.0.0"), sample());
    let whole = || {
        let inputs = model.prepare(&PredictInput::Image(&image)).unwrap().tensors;
        model.answer(&model.infer(&inputs).unwrap(), None).unwrap()
    };
    (0..200).for_each(|_| drop(whole()));
    let inputs = model.prepare(&PredictInput::Image(&image)).unwrap().tensors;
    let infer = report("bare infer", (0..N).map(|_| timed(|| model.infer(&inputs).unwrap())).collect());
    report("prepare + infer + answer", (0..N).map(|_| timed(whole)).collect());

    let server = start_with(settings()).await;
    server.registry.install(Arc::clone(&model) as Arc<dyn Model>);
    let head = format!(
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: {}\r\n\r\n",
        image.len()
    );
    let request = [head.as_bytes(), &image].concat();
    let http = round_trips(server.address, request.clone()).await;
    let health = round_trips(server.address, b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()).await;
    let echo = report("TCP echo of the same size", echo(&request).await);
    report("GET /v2/health/live", health);
    let http = report("POST /predict, keep-alive", http);
    println!(
        "HTTP adds to a bare inference at the median {:.1?}, of it {echo:.1?} the sockets",
        http.saturating_sub(infer)
    );
}

/// Requests one after the other on one connection, from a thread of its own, as another process would.
#[allow(clippy::disallowed_methods, reason = "a measurement reads the machine's clock")]
async fn round_trips(address: SocketAddr, request: Vec<u8>) -> Vec<Duration> {
    let client = move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut times, mut buffer) = (Vec::with_capacity(N), vec![0; 4_096]);
        for round in 0..N + 200 {
            let start = Instant::now();
            stream.write_all(&request).unwrap();
            let n = stream.read(&mut buffer).unwrap();
            assert!(buffer[..n].starts_with(b"HTTP/1.1 200") && buffer[..n].ends_with(b"}"));
            if round >= 200 {
                times.push(start.elapsed());
            }
        }
        times
    };
    tokio::task::spawn_blocking(client).await.unwrap()
}

/// Round trips through the same runtime without anything of ours.
#[allow(clippy::disallowed_methods, reason = "a measurement reads the machine's clock")]
async fn echo(request: &[u8]) -> Vec<Duration> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let size = request.len();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = vec![0; size];
        while stream.read_exact(&mut buffer).await.is_ok() {
            stream.write_all(&buffer).await.unwrap();
        }
    });
    let request = request.to_vec();
    let client = move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut times, mut buffer) = (Vec::with_capacity(N), vec![0; size]);
        for _ in 0..N {
            let start = Instant::now();
            stream.write_all(&request).unwrap();
            stream.read_exact(&mut buffer).unwrap();
            times.push(start.elapsed());
        }
        times
    };
    tokio::task::spawn_blocking(client).await.unwrap()
}
