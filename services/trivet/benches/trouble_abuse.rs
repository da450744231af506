//! How long calls take while somebody means harm, beside how long they do when nobody does.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    load::{COLUMNS, Load},
    raw::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, Raw, SETTINGS, call_to, put},
    trouble_role::{ask, client, prompt},
};

/// Frames that a flood has on one connection.
const FLOOD: u32 = 20_000;
/// Callers beside.
const CALLERS: usize = 4;
/// Who means harm comes again this often.
const EVERY: Duration = Duration::from_millis(100);
const PATH: &str = "/trivet.account.v1.TenantService/GetTenant";

const ABUSES: [&str; 8] = [
    "nobody",
    "streams that are reset",
    "headers without end",
    "settings",
    "pings",
    "messages byte by byte",
    "300 silent sockets",
    "20 KB of headers",
];

pub(crate) async fn run(time: Duration) {
    let (running, address) = prompt().await;
    println!("\n{:<34} {COLUMNS} {:>9}", "who means harm sends", "x p99");
    let mut alone = None;
    for abuse in ABUSES {
        let harm = async move {
            let mut times = tokio::time::interval(EVERY);
            loop {
                times.tick().await;
                // Whatever it comes to: it is not who is measured.
                let _ = tokio::time::timeout(Duration::from_secs(1), once(abuse, address)).await;
            }
        };
        let calls = async {
            let one = async || {
                let (mut client, end, mut taken) = (client(address), Instant::now() + time, Vec::new());
                while Instant::now() < end {
                    let began = Instant::now();
                    client.get_tenant(ask("")).await.unwrap();
                    taken.push(began.elapsed());
                }
                taken
            };
            let began = Instant::now();
            let taken = futures_util::future::join_all((0..CALLERS).map(|_| one())).await.concat();
            Load::of(taken, began.elapsed(), None)
        };
        let harm = tokio::spawn(harm);
        let load = calls.await;
        harm.abort();
        let alone = *alone.get_or_insert(load.p99);
        println!("{abuse:<34} {} {:>9.2}", load.columns(), load.p99.as_secs_f64() / alone.as_secs_f64());
    }
    running.drain(std::future::ready(())).await;
}

/// One go of it.
async fn once(abuse: &str, address: SocketAddr) {
    let headers = call_to(PATH);
    match abuse {
        "streams that are reset" => {
            let mut raw = Raw::to(address).await;
            raw.flood(FLOOD, |words, number| {
                put(words, HEADERS, END_HEADERS, number * 2 + 1, &headers);
                put(words, RST_STREAM, 0, number * 2 + 1, &8_u32.to_be_bytes());
            })
            .await;
        }
        "headers without end" => {
            let mut raw = Raw::to(address).await;
            raw.flood(1, |words, _| put(words, HEADERS, 0, 1, &headers)).await;
            let filler = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
            raw.flood(FLOOD, |words, _| put(words, CONTINUATION, 0, 1, &filler)).await;
        }
        "settings" => {
            Raw::to(address).await.flood(FLOOD, |words, _| put(words, SETTINGS, 0, 0, &[])).await;
        }
        "pings" => {
            Raw::to(address).await.flood(FLOOD, |words, _| put(words, PING, 0, 0, &[0; 8])).await;
        }
        "messages byte by byte" => {
            Raw::to(address)
                .await
                .flood(100, |words, number| {
                    put(words, HEADERS, END_HEADERS, number * 2 + 1, &headers);
                    for byte in [0, 0, 0, 0, 100].iter().chain(&[7; 80]) {
                        put(words, DATA, 0, number * 2 + 1, &[*byte]);
                        put(words, DATA, 0, number * 2 + 1, &[]);
                    }
                })
                .await;
        }
        "300 silent sockets" => {
            let mut sockets = Vec::new();
            for number in 0..300 {
                let mut socket = TcpStream::connect(address).await.unwrap();
                if number % 2 == 0 {
                    socket.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
                }
                sockets.push(socket);
            }
            tokio::time::sleep(EVERY * 5).await;
        }
        "20 KB of headers" => {
            let filler = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
            let long = [headers.clone(), filler.repeat(200)].concat();
            let mut raw = Raw::to(address).await;
            raw.flood(20, |words, number| {
                let stream = number * 2 + 1;
                put(words, HEADERS, 0, stream, &headers);
                for part in long[headers.len()..].chunks(16_000) {
                    put(words, CONTINUATION, 0, stream, part);
                }
                put(words, CONTINUATION, END_HEADERS | END_STREAM, stream, &[]);
            })
            .await;
        }
        _ => std::future::pending().await,
    }
}
