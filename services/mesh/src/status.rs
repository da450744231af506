//! How one role is, part by part: its phase, its database, its peers, and whatever else lets itself be looked at. For
//! people and consoles; probes ask [`crate::health`], which looks at nothing and so never fails with somebody else.
//!
//! Each part is looked at by a task of its own, and never by two at once: who asks while one is under way waits for the
//! same answer. So a database that does not answer holds one connection of ours, however many people ask how it is.

mod rpc;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tracing::warn;

use crate::{
    Background, Clock, Parts, Store, Time,
    health::{Life, Phase},
};

/// A part that takes longer than this to answer is ill.
const SLOW: Duration = Duration::from_secs(1);
/// Nobody waits longer than this for a part: who asks how it is wants to know now.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a role can do nothing without. It works without any other part, only worse.
const VITAL: [&str; 2] = ["api", "database"];

/// A part that lets itself be looked at.
#[derive(Clone)]
pub(crate) struct Check {
    /// What it is called on the wire.
    pub(crate) name: &'static str,
    /// Looks at it. It may take its time, and is dropped where it stands when the process ends: what must not be left
    /// half way belongs into a task.
    pub(crate) look: Arc<dyn Fn() -> BoxFuture<'static, Finding> + Send + Sync>,
}

/// What a look at a part found. The text goes to whoever asked: neither addresses nor statements belong into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// All is well.
    Ok,
    /// All is well, and something should be known of it.
    Noted(String),
    /// It works, worse than it should.
    Degraded(String),
    /// It does not work.
    Down(String),
}

/// What the status of a role is found from.
pub(crate) struct Subject<'s> {
    /// The role's name, `billing`.
    pub(crate) role: &'static str,
    /// What it is made from.
    pub(crate) parts: &'s Parts,
    /// The phase of its process.
    pub(crate) life: &'s Life,
    /// When the process began.
    pub(crate) began: Instant,
}

/// How a part or the whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Ok,
    Degraded,
    Down,
}

/// Everything that is looked at in one role. Cheap to clone.
#[derive(Clone)]
struct Overview(Arc<Inner>);

struct Inner {
    parts: Vec<Part>,
    background: Background,
    clock: Clock,
    began: Instant,
}

/// How the whole is, and each part.
#[derive(Debug)]
struct Report {
    standing: Standing,
    time: Time,
    uptime: Duration,
    parts: Vec<PartReport>,
}

#[derive(Debug)]
struct PartReport {
    name: &'static str,
    standing: Standing,
    latency: Duration,
    since: Time,
    message: String,
}

struct Part {
    check: Check,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// The last look, which may be under way still.
    look: Option<Look>,
    /// How the part was when it was last asked, and since when.
    standing: Option<(Standing, Time)>,
}

#[derive(Clone)]
struct Look {
    began: Instant,
    /// What was found, and how long that took.
    found: watch::Receiver<Option<(Finding, Duration)>>,
}

impl Check {
    /// A part of this name, and how to look at it.
    pub(crate) fn new<F>(name: &'static str, look: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Finding> + Send + 'static,
    {
        Self { name, look: Arc::new(move || Box::pin(look())) }
    }
}

impl Subject<'_> {
    /// What every role is looked at for, in the order in which it is told; `further` comes before the peers.
    fn checks(&self, further: Vec<Check>) -> Vec<Check> {
        let (life, store, role) = (self.life.clone(), self.parts.store.clone(), self.role);
        let api = Check::new("api", move || std::future::ready(in_phase(life.phase())));
        let database = Check::new("database", move || database(role, store.clone()));
        let peers = self.parts.peers.others(role, rpc::settings());
        let peers = peers.map(|peer| Check::new(peer.name(), move || rpc::readiness(peer.clone())));
        [api, database].into_iter().chain(further).chain(peers).collect()
    }
}

/// How the role is as far as its process says. It answers, or nobody could ask: it is never DOWN.
fn in_phase(phase: Phase) -> Finding {
    match phase {
        Phase::Starting => Finding::Degraded("the process is starting and not ready yet".to_owned()),
        Phase::Serving => Finding::Ok,
        Phase::Draining => Finding::Degraded("the process is draining: it serves, and asks for no more".to_owned()),
        Phase::Leaving => Finding::Degraded("the process is leaving: it ends what is under way".to_owned()),
    }
}

async fn database(role: &'static str, store: Store) -> Finding {
    let Err(error) = store.answers().await else { return Finding::Ok };
    warn!("The database of {role} was asked how it is: {}", crate::chain(&error));
    // Not what it says: that names the database, and where it is.
    Finding::Down("the database cannot be asked".to_owned())
}

impl Overview {
    fn new(checks: Vec<Check>, subject: &Subject<'_>) -> Self {
        let Subject { parts: Parts { clock, background, .. }, began, .. } = subject;
        let parts = checks.into_iter().map(|check| Part { check, memory: Mutex::default() }).collect();
        Self(Arc::new(Inner { parts, background: background.clone(), clock: clock.clone(), began: *began }))
    }

    /// Looks at every part at the same time.
    async fn report(&self) -> Report {
        let Inner { parts, background, clock, began } = &*self.0;
        let parts = join_all(parts.iter().map(|part| part.report(background, clock))).await;
        Report { standing: whole(&parts), time: clock.now(), uptime: began.elapsed(), parts }
    }
}

/// How the whole is: DOWN where it can do nothing, DEGRADED where anything is not as it should be.
fn whole(parts: &[PartReport]) -> Standing {
    let down = |part: &PartReport| part.standing == Standing::Down && VITAL.contains(&part.name);
    if parts.iter().any(down) {
        Standing::Down
    } else if parts.iter().all(|part| part.standing == Standing::Ok) {
        Standing::Ok
    } else {
        Standing::Degraded
    }
}

impl Part {
    async fn report(&self, background: &Background, clock: &Clock) -> PartReport {
        let name = self.check.name;
        let mut look = self.look(background);
        let answer = timeout_at(look.began + PATIENCE, look.answer()).await;
        let (finding, latency) = match answer {
            Ok(Some((finding, took))) => (Some(finding), took),
            Ok(None) => (Some(Finding::Down("it could not be looked at".to_owned())), look.began.elapsed()),
            Err(_) => (None, look.began.elapsed()),
        };
        let (standing, message) = judge(finding, latency);
        PartReport { name, standing, latency, since: self.since(standing, clock.now()), message }
    }

    /// The look that is under way, or a new one.
    fn look(&self, background: &Background) -> Look {
        let mut memory = self.lock();
        if let Some(look) = memory.look.as_ref().filter(|look| look.is_under_way()) {
            return look.clone();
        }
        let (tell, found) = watch::channel(None);
        let look = Look { began: Instant::now(), found };
        let (check, began) = (self.check.clone(), look.began);
        background.spawn(|end| async move {
            tokio::select! {
                finding = async { (check.look)().await } => {
                    tell.send_replace(Some((finding, began.elapsed())));
                }
                () = end.cancelled() => {}
            }
        });
        memory.look = Some(look.clone());
        look
    }

    /// Since when it is so: since now, unless it was so before.
    fn since(&self, standing: Standing, now: Time) -> Time {
        let mut memory = self.lock();
        let since = match memory.standing {
            Some((before, since)) if before == standing => since,
            _ => now,
        };
        memory.standing = Some((standing, since));
        since
    }

    /// A lock whose holder panicked still guards good data: every change under it is a whole one.
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Look {
    /// Neither found anything yet nor ended without.
    fn is_under_way(&self) -> bool {
        self.found.borrow().is_none() && self.found.has_changed().is_ok()
    }

    /// What it finds; `None` where it panicked, or the process ends.
    async fn answer(&mut self) -> Option<(Finding, Duration)> {
        self.found.wait_for(Option::is_some).await.ok().and_then(|found| found.clone())
    }
}

/// What to say of a part that was found so after this long, or was not found anything of in time.
fn judge(finding: Option<Finding>, took: Duration) -> (Standing, String) {
    match finding {
        None => (Standing::Down, format!("no answer within {} s", PATIENCE.as_secs())),
        Some(Finding::Down(message)) => (Standing::Down, message),
        Some(Finding::Degraded(message)) => (Standing::Degraded, message),
        Some(Finding::Ok | Finding::Noted(_)) if took > SLOW => {
            (Standing::Degraded, format!("the answer took {} ms", took.as_millis()))
        }
        Some(Finding::Ok) => (Standing::Ok, String::new()),
        Some(Finding::Noted(message)) => (Standing::Ok, message),
    }
}
