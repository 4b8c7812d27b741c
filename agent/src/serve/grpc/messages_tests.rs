use super::*;
use axum::body::Body as Sent;
use futures_util::{StreamExt as _, stream};
use std::net::Ipv4Addr;
use tonic::Code;

const MIB: usize = 1 << 20;

fn message(flag: u8, content: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

/// What is cut from bytes that come in pieces of this size.
fn cut(bytes: &[u8], piece: usize) -> Result<Vec<(bool, Vec<u8>)>, Code> {
    let (mut cutter, mut seen) = (Cutter::new(300), Vec::new());
    for piece in bytes.chunks(piece) {
        let mut chunk = Bytes::copy_from_slice(piece);
        while !chunk.is_empty() {
            let cut = cutter.take(&mut chunk).map_err(|status| status.code())?;
            seen.extend(cut.map(|cut| (cut.packed, cut.content.to_vec())));
        }
    }
    Ok(seen)
}

#[test]
fn messages_are_the_same_in_whichever_pieces_they_come() {
    let (long, bytes) = (vec![7; 300], [message(0, b"one"), message(1, b""), message(1, &[7; 300])].concat());
    for piece in 1..=bytes.len() {
        assert_eq!(cut(&bytes, piece).unwrap(), [(false, b"one".to_vec()), (true, vec![]), (true, long.clone())]);
    }
}

#[test]
fn a_head_that_is_none_or_states_too_much_is_refused_at_once() {
    assert_eq!(cut(&[2, 0, 0, 0, 0], 5), Err(Code::Internal));
    assert_eq!(cut(&[0, 0, 0, 1, 45], 1), Err(Code::OutOfRange));
    assert_eq!(cut(&[0, 0xff, 0xff, 0xff, 0xff], 5), Err(Code::OutOfRange));
}

/// The messages of a call that sends this and then, perhaps, nothing more for ever.
fn call(encoding: &str, sent: Vec<Vec<u8>>, ends: bool, room: &Room) -> Messages<Sent> {
    let settings = ServeSettings::new((Ipv4Addr::LOCALHOST, 0).into());
    let headers = HeaderMap::from_iter([("grpc-encoding".parse().unwrap(), encoding.parse().unwrap())]);
    let chunks = stream::iter(sent.into_iter().map(Ok::<_, std::io::Error>));
    let rest = stream::pending().take(usize::from(!ends));
    Messages::of(&headers, Sent::from_stream(chunks.chain(rest)), &settings, room).unwrap()
}

async fn only(encoding: &str, sent: Vec<Vec<u8>>, ends: bool) -> Result<Vec<u8>, Code> {
    let held = call(encoding, sent, ends, &Room::new(64 * MIB)).only().await;
    held.map(|held| held.bytes.to_vec()).map_err(|status| status.code())
}

#[tokio::test(start_paused = true)]
async fn a_call_of_one_message_has_just_one_in_time() {
    let one = message(0, b"one");
    assert_eq!(only("identity", vec![one.clone()], true).await, Ok(b"one".to_vec()));
    assert_eq!(only("identity", vec![], true).await, Err(Code::InvalidArgument));
    assert_eq!(only("identity", vec![one.clone(), one.clone()], true).await, Err(Code::InvalidArgument));
    assert_eq!(only("identity", vec![one[..6].to_vec()], true).await, Err(Code::InvalidArgument));
    assert_eq!(only("identity", vec![one], false).await, Err(Code::DeadlineExceeded));
    assert_eq!(only("identity", vec![], false).await, Err(Code::DeadlineExceeded));
}

#[tokio::test]
async fn packed_messages_are_unpacked_as_the_call_says() {
    let content = b"seven ".repeat(300);
    for (name, coding) in [("gzip", Coding::Gzip), ("deflate", Coding::Deflate)] {
        let packed = message(1, &coding.pack(&content, true).unwrap());
        assert_eq!(only(name, vec![packed.clone()], true).await.as_ref(), Ok(&content));
        assert_eq!(only("identity", vec![packed], true).await, Err(Code::Internal));
        assert_eq!(only(name, vec![message(0, &content)], true).await.as_ref(), Ok(&content), "not each has to be");
    }
    assert_eq!(only("gzip", vec![message(1, b"torn")], true).await, Err(Code::InvalidArgument));
    let bomb = message(1, &Coding::Gzip.pack(&vec![0; 17 * MIB], false).unwrap());
    assert_eq!(only("gzip", vec![bomb], true).await, Err(Code::ResourceExhausted));
    let headers = HeaderMap::from_iter([("grpc-encoding".parse().unwrap(), "snappy".parse().unwrap())]);
    let refused = coding(&headers).unwrap_err();
    assert!(refused.code() == Code::Unimplemented && refused.metadata().contains_key("grpc-accept-encoding"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_be_silent_between_messages_but_not_within_one() {
    let room = Room::new(MIB);
    let mut within = call("identity", vec![message(0, b"one"), vec![0, 0]], false, &room);
    assert_eq!(within.next().await.unwrap().unwrap().bytes, "one");
    assert_eq!(within.next().await.unwrap_err().code(), Code::DeadlineExceeded);
    let mut between = call("identity", vec![message(0, b"one")], false, &room);
    assert!(between.next().await.unwrap().is_some());
    let hours = Duration::from_secs(10_000);
    assert!(timeout(hours, between.next()).await.is_err(), "nobody is cut off");
}

#[tokio::test]
async fn what_comes_takes_room_before_it_is_whole_and_when_it_is_unpacked() {
    let refused = async |encoding: &str, sent: Vec<u8>, room: &Room| {
        call(encoding, vec![sent], true, room).only().await.map(drop).map_err(|status| status.code())
    };
    let room = Room::new(MIB);
    let part = message(0, &vec![0; 2 * MIB])[..MIB + MIB / 2].to_vec();
    assert_eq!(refused("identity", part, &room).await, Err(Code::Unavailable));
    let bomb = message(1, &Coding::Gzip.pack(&vec![0; 2 * MIB], false).unwrap());
    assert_eq!(refused("gzip", bomb.clone(), &room).await, Err(Code::Unavailable));
    let room = Room::new(3 * MIB);
    let held = call("gzip", vec![bomb.clone()], true, &room).only().await.unwrap();
    assert_eq!(refused("gzip", bomb.clone(), &room).await, Err(Code::Unavailable));
    drop(held);
    assert_eq!(refused("gzip", bomb, &room).await, Ok(()));
}
