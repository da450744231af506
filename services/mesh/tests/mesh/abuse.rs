//! Callers who mean harm: each costs itself a connection, and others nothing.

use std::{net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use mesh::CallSettings;
use tokio::io::AsyncWriteExt as _;

use crate::{
    house::{caller, get, house, in_time},
    line::{GET_ACCOUNT, Line, frame, outcome},
    raw::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, Raw, SETTINGS, call_to, put},
    stub::Stub,
};

/// Frames of a flood.
const FLOOD: u32 = 20_000;

/// Has somebody else call all the while, and afterwards; no call of theirs may fail, and nothing but theirs be carried out.
async fn while_others_call(abuse: impl AsyncFnOnce(SocketAddr)) {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let account = caller(&[address], CallSettings::default());
    let mut other = account.clone();
    let calls = async {
        loop {
            assert_eq!(outcome(&other.get_account(get("ada")).await), "Ok");
        }
    };
    tokio::select! {
        () = in_time("the abuse", abuse(address)) => {}
        never = calls => never,
    }
    let before = stub.seen().len();
    let mut account = account.clone();
    for _ in 0..20 {
        assert_eq!(outcome(&in_time("a call", account.get_account(get("ada"))).await), "Ok");
    }
    assert!((before + 20..=before + 21).contains(&stub.seen().len()), "nothing but these calls is carried out");
    let asked: Vec<_> = stub.seen().into_iter().filter(|seen| seen.rpc != "GetAccount").collect();
    assert!(asked.is_empty(), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_as_soon_as_they_are_opened_end_the_connection() {
    while_others_call(async |address| {
        let mut raw = Raw::to(address).await;
        let headers = call_to(GET_ACCOUNT);
        raw.flood(FLOOD, |words, number| {
            let stream = number * 2 + 1;
            put(words, HEADERS, END_HEADERS, stream, &headers);
            put(words, RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        })
        .await;
        raw.until_the_end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_go_on_and_on_end_the_connection() {
    while_others_call(async |address| {
        let mut raw = Raw::to(address).await;
        let headers = call_to(GET_ACCOUNT);
        raw.flood(1, |words, _| put(words, HEADERS, 0, 1, &headers)).await;
        let filler = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
        raw.flood(FLOOD, |words, _| put(words, CONTINUATION, 0, 1, &filler)).await;
        raw.until_the_end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_settings_or_pings_whose_answers_nobody_reads_holds_up_nobody_else() {
    while_others_call(async |address| {
        for kind in [SETTINGS, PING] {
            let mut raw = Raw::to(address).await;
            let payload: &[u8] = if kind == PING { &[0; 8] } else { &[] };
            // Either it takes them all, or it takes no more before its answers are read.
            let flood = raw.flood(FLOOD, |words, _| put(words, kind, 0, 0, payload));
            let _ = tokio::time::timeout(Duration::from_secs(2), flood).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_comes_byte_by_byte_is_carried_out_once_or_not_at_all() {
    while_others_call(async |address| {
        let mut raw = Raw::to(address).await;
        let (headers, message) = (call_to(GET_ACCOUNT), frame(&get("ada")));
        raw.flood(50, |words, number| {
            let stream = number * 2 + 1;
            put(words, HEADERS, END_HEADERS, stream, &headers);
            // All but the last byte, in frames of one and of none.
            for byte in &message[..message.len() - 1] {
                put(words, DATA, 0, stream, &[*byte]);
                put(words, DATA, 0, stream, &[]);
            }
        })
        .await;
        drop(raw);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_none_hurt_nobody_else() {
    while_others_call(async |address| {
        for garbage in 0..50_u8 {
            let mut raw = Raw::to(address).await;
            // Types, flags, streams and lengths as they come.
            raw.flood(20, |words, number| {
                let number = u8::try_from(number).unwrap().wrapping_mul(37) ^ garbage.wrapping_mul(101);
                put(words, number, number.rotate_left(3), u32::from(number), &vec![number; usize::from(number)]);
            })
            .await;
            // Unknown types are ignored (RFC 9113, section 4.1), so that not every one of these ends.
            drop(raw);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compressed_message_is_refused_without_being_unpacked() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    // 10 MiB of zeros as gzip has them, cut short: nobody gets that far.
    let packed = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0xed, 0xc1, 1, 1, 0, 0, 0, 0x82, 0x20]].concat();
    let mut body = BytesMut::new();
    body.extend([1]);
    body.extend(u32::try_from(packed.len()).unwrap().to_be_bytes());
    body.extend(&packed);
    let answer = line.post(GET_ACCOUNT, &[("grpc-encoding", "gzip")], body.freeze()).await;
    assert_eq!(answer.told(), "Unimplemented ENCODING_NOT_SUPPORTED");
    let unsaid = line.post(GET_ACCOUNT, &[], Bytes::from([&[1, 0, 0, 0, 2][..], &[0, 0]].concat())).await;
    assert_eq!(unsaid.told(), "InvalidArgument INVALID_FIELDS");
    assert_eq!(stub.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_sockets_that_say_nothing_hold_up_nobody() {
    while_others_call(async |address| {
        let mut sockets = Vec::new();
        for number in 0..300 {
            let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
            if number % 2 == 0 {
                socket.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
            }
            sockets.push(socket);
        }
        let mut raw = Raw::to(address).await;
        let headers = call_to(GET_ACCOUNT);
        raw.flood(1, |words, _| put(words, HEADERS, END_HEADERS | END_STREAM, 1, &headers)).await;
    })
    .await;
}
