//! Callers as fast as they can, and what that takes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tonic::{Status, transport::Channel};

use crate::stores::channel;

/// Connections that the callers share.
#[allow(dead_code, reason = "each bench uses what it needs")]
const CONNECTIONS: usize = 2;

/// What so many callers got done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) calls_per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) cpu_per_call: Option<Duration>,
}

/// Calls as fast as `callers` can for `time`, after a tenth of it to warm up. What `cpu` reads is what a call costs. Each
/// caller is a task of its own: callers that shared one would take turns on one thread.
#[allow(dead_code, reason = "each bench uses what it needs")]
pub(crate) async fn measure<C, F>(
    address: SocketAddr,
    callers: usize,
    time: Duration,
    cpu: fn() -> Option<Duration>,
    call: C,
) -> Load
where
    C: Fn(Channel, u64) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), Status>> + Send,
{
    let channels: Vec<Channel> = (0..CONNECTIONS).map(|_| channel(address)).collect();
    let number = Arc::new(AtomicU64::new(0));
    let round = async |time: Duration| {
        let end = Instant::now() + time;
        let one = |caller: usize| {
            let (channel, number, call) = (channels[caller % CONNECTIONS].clone(), number.clone(), call.clone());
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while Instant::now() < end {
                    let began = Instant::now();
                    call(channel.clone(), number.fetch_add(1, Ordering::Relaxed)).await.unwrap();
                    taken.push(began.elapsed());
                }
                taken
            })
        };
        futures_util::future::try_join_all((0..callers).map(one)).await.unwrap().concat()
    };
    round(time / 10).await;
    let (began, before) = (Instant::now(), cpu());
    let taken = round(time).await;
    let elapsed = began.elapsed();
    Load::of(taken, elapsed, cpu().zip(before).map(|(after, before)| after.saturating_sub(before)))
}

impl Load {
    /// What calls that took so long add up to.
    pub(crate) fn of(mut taken: Vec<Duration>, elapsed: Duration, cpu: Option<Duration>) -> Self {
        taken.sort_unstable();
        Self {
            calls_per_second: taken.len() as f64 / elapsed.as_secs_f64(),
            p50: taken[taken.len() / 2],
            p99: taken[taken.len() * 99 / 100],
            cpu_per_call: cpu.map(|cpu| cpu / u32::try_from(taken.len()).unwrap()),
        }
    }

    /// The columns of a report: calls per second, p50, p99, CPU per call.
    pub(crate) fn columns(&self) -> String {
        let cpu = self.cpu_per_call.map_or("-".to_owned(), |cpu| format!("{:.1}", cpu.as_secs_f64() * 1e6));
        format!(
            "{:>10.0} {:>9.3} {:>9.3} {cpu:>12}",
            self.calls_per_second,
            self.p50.as_secs_f64() * 1e3,
            self.p99.as_secs_f64() * 1e3
        )
    }
}

/// The columns' names.
pub(crate) const COLUMNS: &str = "   calls/s    p50 ms    p99 ms  CPU µs/call";

/// What this process has used of all processors, as far as the system tells (Linux: proc(5), in ticks of 10 ms).
#[allow(dead_code, reason = "each bench uses what it needs")]
pub(crate) fn process_time() -> Option<Duration> {
    time_of("self")
}

/// The same of another process, by its number.
#[allow(dead_code, reason = "each bench uses what it needs")]
pub(crate) fn time_of(process: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// What everything on this machine has used of all processors: the database server's part, too.
#[allow(dead_code, reason = "each bench uses what it needs")]
pub(crate) fn machine_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user, nice, system; then idle and iowait, which are not used; irq, softirq.
    let ticks = fields.get(..3)?.iter().sum::<u64>() + fields.get(5..7)?.iter().sum::<u64>();
    Some(Duration::from_millis(ticks * 10))
}
