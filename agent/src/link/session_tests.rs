use super::super::testing::{Fixture, report};
use super::*;
use bytes::BytesMut;
use fieldpost_shared::trust::Envelope;
use fieldpost_shared::wire::v1::Alive;
use rumqttc::{ConnAck, ConnectReturnCode, Packet, Publish};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const DEADLINE: Duration = Duration::from_secs(20);

/// A broker that welcomes one agent and writes down what it says until the socket closes.
async fn broker(listener: TcpListener) -> Vec<Packet> {
    let (mut socket, _) = listener.accept().await.unwrap();
    let (mut bytes, mut heard) = (BytesMut::new(), Vec::new());
    loop {
        match Packet::read(&mut bytes, 1 << 20) {
            Ok(packet @ Packet::Connect(_)) => {
                let mut answer = BytesMut::new();
                ConnAck::new(ConnectReturnCode::Success, false).write(&mut answer).unwrap();
                socket.write_all(&answer).await.unwrap();
                heard.push(packet);
            }
            Ok(packet) => heard.push(packet),
            Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {
                if !matches!(socket.read_buf(&mut bytes).await, Ok(n) if n > 0) {
                    return heard;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn says_death(packet: &Packet) -> bool {
    let Packet::Publish(Publish { topic, payload, retain: true, .. }) = packet else { return false };
    let body = |payload: &[u8]| postcard::from_bytes::<Alive>(&Envelope::from_bytes(payload).unwrap().body).unwrap();
    topic.ends_with("/alive") && !body(payload).alive
}

#[tokio::test]
async fn an_orderly_stop_says_farewell() {
    let fixture = Fixture::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_report, receiver) = watch::channel(report());
    let (link, mut line) = fixture.link(listener.local_addr().unwrap().port(), receiver);
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(link.run(shutdown.clone()));
    let heard = tokio::time::timeout(DEADLINE, async {
        let stop = async {
            line.wait_for(|line| *line == LineState::Up).await.unwrap();
            shutdown.cancel();
        };
        tokio::join!(broker(listener), stop).0
    });
    let heard = heard.await.unwrap();
    assert!(matches!(heard.last(), Some(Packet::Disconnect)), "{heard:?}");
    assert!(heard.iter().any(says_death), "{heard:?}");
    tokio::time::timeout(DEADLINE, tasks.join_next()).await.unwrap();
}

#[tokio::test]
async fn a_stop_while_connecting_waits_for_nobody() {
    let fixture = Fixture::new();
    // It accepts, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_report, receiver) = watch::channel(report());
    let (link, _line) = fixture.link(listener.local_addr().unwrap().port(), receiver);
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(link.run(shutdown.clone()));
    let _silent = tokio::time::timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), tasks.join_next()).await.unwrap();
}
