//! A service that can do so much and no more gets five times that: what it does of it, and how the rest is refused.

use std::time::{Duration, Instant};

use tonic::{Code, Request};

use crate::{
    many,
    trouble_role::{ask, client, health, limited},
};

/// Calls that the handler works on at once, and how long one takes: 800 a second.
const AT_ONCE: usize = 8;
const WORK: Duration = Duration::from_millis(10);
/// How many times as many calls as can be done.
const TIMES: u32 = 5;
/// Connections of the callers: more than calls that wait for the handler could fill, or what is to be refused would wait for
/// a stream on the caller's side.
const CONNECTIONS: usize = 16;
/// How long a caller waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of one call, and how long that took.
type Outcome = (Result<(), Code>, Duration);

/// What was seen while there was too much.
struct Seen {
    outcomes: Vec<Outcome>,
    elapsed: Duration,
    healths: Vec<Duration>,
    /// Bytes in memory, at most.
    memory: u64,
}

pub(crate) async fn run(time: Duration) {
    let (running, address) = limited(AT_ONCE, WORK).await;
    let caller = client(address);
    let call = async |_| caller.clone().get_tenant(ask("")).await.map(drop);
    let calls = u64::try_from(time.as_millis() / 20).unwrap();
    let (outcomes, elapsed) = many(2 * AT_ONCE, 0..calls, &call).await;
    let peak = outcomes.len() as f64 / elapsed.as_secs_f64();
    let before = memory();
    let mut seen = too_much(address, peak * f64::from(TIMES), time).await;
    let ended = Instant::now();
    let recovered = loop {
        let asked = Instant::now();
        if client(address).get_tenant(ask("")).await.is_ok() && asked.elapsed() < 3 * WORK {
            break ended.elapsed();
        }
    };
    let (done, refused) = (taken(&seen.outcomes, Ok(())), taken(&seen.outcomes, Err(Code::ResourceExhausted)));
    let other = seen.outcomes.len() - done.len() - refused.len();
    seen.healths.sort_unstable();
    let goodput = done.len() as f64 / seen.elapsed.as_secs_f64();
    println!("\noverload: {TIMES} times what can be done, for {:.0} s", time.as_secs_f64());
    println!(
        "  peak {peak:.0}/s; sent {:.0}/s; done {goodput:.0}/s = {:.2} of the peak (bar 0.8), p99 {:.0} ms",
        seen.outcomes.len() as f64 / seen.elapsed.as_secs_f64(),
        goodput / peak,
        p99(&done)
    );
    println!("  refused {} with p99 {:.1} ms (bar 20), otherwise failed {other}", refused.len(), p99(&refused));
    let (healths, slow) = (seen.healths.len(), p99(&seen.healths));
    println!(
        "  health answered {healths} times, p99 {slow:.1} ms; memory {} MiB before, {} MiB at most",
        before >> 20,
        seen.memory >> 20
    );
    println!("  a call is as fast as ever {:.0} ms after the last one ended", recovered.as_secs_f64() * 1e3);
    running.drain(std::future::ready(())).await;
}

/// Sends so many calls a second for so long, whatever becomes of them.
async fn too_much(address: std::net::SocketAddr, per_second: f64, time: Duration) -> Seen {
    let clients: [_; CONNECTIONS] = std::array::from_fn(|_| client(address));
    let (mut calls, mut outcomes, mut healths) = (tokio::task::JoinSet::new(), Vec::new(), Vec::new());
    let (began, mut most, mut sent) = (Instant::now(), memory(), 0_u32);
    let every = Duration::from_secs_f64(1.0 / per_second);
    while began.elapsed() < time {
        // As many as are due: a timer is not that fine.
        while every * sent < began.elapsed() {
            let mut client = clients[usize::try_from(sent).unwrap() % clients.len()].clone();
            sent += 1;
            calls.spawn(async move {
                let mut request = Request::new(ask(""));
                request.set_timeout(PATIENCE);
                let began = Instant::now();
                let outcome = client.get_tenant(request).await.map(drop).map_err(|status| status.code());
                (outcome, began.elapsed())
            });
        }
        if healths.len() < usize::try_from(began.elapsed().as_millis() / 100).unwrap() {
            let asked = Instant::now();
            health(address).await;
            healths.push(asked.elapsed());
            most = most.max(memory());
        }
        outcomes.extend(std::iter::from_fn(|| calls.try_join_next()).map(Result::unwrap));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    outcomes.extend(calls.join_all().await);
    Seen { outcomes, elapsed: began.elapsed(), healths, memory: most }
}

/// How long calls with this outcome took, the longest last.
fn taken(outcomes: &[Outcome], wanted: Result<(), Code>) -> Vec<Duration> {
    let mut taken: Vec<Duration> =
        outcomes.iter().filter(|(outcome, _)| *outcome == wanted).map(|(_, took)| *took).collect();
    taken.sort_unstable();
    taken
}

/// In milliseconds.
fn p99(taken: &[Duration]) -> f64 {
    taken.get(taken.len() * 99 / 100).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
}

/// Bytes of this process that are in memory (Linux: proc(5)).
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() << 10
}
