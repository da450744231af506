//! Chooses an endpoint for each attempt: of two taken at random the one that is expected to answer sooner (power of two
//! choices over peak EWMA), among those whose breakers let it through.
//!
//! The breaker sits here, below the retries: each attempt asks it, and each attempt's outcome is heard.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use smallvec::SmallVec;
use tokio::{sync::watch, time::Instant};
use tonic::{Code, Status, body::Body};
use tracing::{info, warn};

use super::{
    CallSettings, Failure, Reach, Target,
    attempt::{self, Course, is_illness},
    breaker::{Breaker, Change, Verdict},
    connection::Connections,
    ewma::PeakEwma,
};
use crate::{
    Reason, Refusal, Telemetry, Toward,
    observe::{Breakers, HasBreakers},
    stack::{Next, Reply},
    telemetry::code_of,
};

/// What a failed attempt counts as, so that an endpoint that fails fast does not draw all the calls.
const PENALTY: Duration = Duration::from_secs(1);
/// Less time than this is no fair trial: that it did not do says nothing of the endpoint.
const FAIR: Duration = Duration::from_secs(1);
/// Names are asked again this often; once a connection is lost at once, and yet at most so often.
const RESOLVE_EVERY: Duration = Duration::from_secs(5);
const RESOLVE_AT_MOST: Duration = Duration::from_secs(1);

/// The endpoint that was chosen for an attempt.
struct Chosen {
    endpoint: Arc<Endpoint>,
    /// Its breaker waits for what becomes of it.
    probe: bool,
    /// There is nowhere else to go.
    pressed: bool,
}

/// One address that a service can be called at.
struct Endpoint {
    address: SocketAddr,
    connections: Arc<Connections>,
    in_flight: AtomicU32,
    health: Mutex<Health>,
    out: Arc<Out>,
}

/// How many of a peer's endpoints their breakers keep out: never more than half of several.
#[derive(Default)]
struct Out {
    endpoints: AtomicUsize,
    out: AtomicUsize,
}

impl Out {
    /// Whether one more may be out, which it is then.
    fn one_more(&self) -> bool {
        let most = (self.endpoints.load(Ordering::Relaxed) / 2).max(1);
        let more = |out| if out < most { Some(out + 1) } else { None };
        self.out.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn one_less(&self) {
        self.out.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Health {
    breaker: Breaker,
    ewma: PeakEwma,
}

/// The endpoints of one peer.
pub(super) struct Endpoints {
    peer: &'static str,
    target: Target,
    settings: CallSettings,
    tls: Option<Toward>,
    telemetry: Arc<Telemetry>,
    known: Mutex<Known>,
    out: Arc<Out>,
    /// Whether a connection was lost since the last lookup.
    lost: Arc<AtomicBool>,
    /// One lookup at a time.
    resolving: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    endpoints: BTreeMap<SocketAddr, Arc<Endpoint>>,
    resolved: Option<Instant>,
    /// Who tells the endpoints, where somebody does.
    told: Option<watch::Receiver<BTreeSet<SocketAddr>>>,
}

impl Known {
    /// Whether other endpoints were told since the last time this was asked.
    fn told_anew(&mut self) -> bool {
        let Some(told) = &mut self.told else { return false };
        let anew = told.has_changed().unwrap_or(false);
        told.mark_unchanged();
        anew
    }
}

/// The end of the calling stack.
pub(super) struct Balance(pub(super) Arc<Endpoints>);

impl Next<Status> for Balance {
    async fn go(&self, request: &mut Request<Body>) -> Reply<Status> {
        self.0.attempt(request).await.map_err(Status::from)
    }
}

impl Endpoints {
    pub(super) fn new(
        peer: &'static str,
        target: Target,
        telemetry: Arc<Telemetry>,
        settings: CallSettings,
        tls: Option<Toward>,
    ) -> Arc<Self> {
        let known = Mutex::new(Known { told: target.told(), ..Known::default() });
        let (out, lost, resolving) = Default::default();
        Arc::new(Self { peer, target, settings, tls, telemetry, known, out, lost, resolving })
    }

    /// One attempt: choose, send, hear.
    async fn attempt(self: &Arc<Self>, request: &mut Request<Body>) -> Result<Response<Body>, Failure> {
        self.resolve_if_due().await;
        let now = Instant::now();
        let (chosen, deadline) = if let Some(course) = request.extensions().get::<Course>() {
            let mut tried = lock(&course.tried);
            let chosen = self.choose(&tried, now)?;
            if !tried.contains(&chosen.endpoint.address) {
                tried.push(chosen.endpoint.address);
            }
            (chosen, Some(course.deadline))
        } else {
            (self.choose(&attempt::Endpoints::new(), now)?, None)
        };
        let Chosen { endpoint, probe, pressed } = chosen;
        let mut attempt = Attempt::begin(self, &endpoint, Terms { began: now, deadline, probe });
        let outcome = endpoint.connections.send(request, pressed).await;
        match &outcome {
            Ok(response) => {
                let code = code_of(response);
                let unfair = code == Code::DeadlineExceeded && now.elapsed() < FAIR;
                attempt.heard(unfair || !is_illness(code));
            }
            Err(failure) if failure.news => attempt.heard(false),
            Err(_) => {}
        }
        outcome
    }

    /// The endpoint for an attempt: one that was not tried yet, if there is one.
    fn choose(&self, tried: &attempt::Endpoints, now: Instant) -> Result<Chosen, Failure> {
        let known = lock(&self.known);
        if known.endpoints.is_empty() {
            let message = format!("no endpoint of {} is known at {}", self.peer, self.target);
            return Err(Failure::new(Reach::Shut, Refusal::new(Reason::DependencyUnavailable, message)));
        }
        let mut open_for = Duration::MAX;
        let mut may: SmallVec<[&Arc<Endpoint>; 8]> = known
            .endpoints
            .values()
            .filter(|endpoint| match lock(&endpoint.health).breaker.peek(now) {
                Verdict::Pass | Verdict::Probe => true,
                Verdict::Refuse(wait) => {
                    open_for = open_for.min(wait);
                    false
                }
            })
            .collect();
        if may.is_empty() {
            return Err(self.circuit_open(open_for));
        }
        // Where none can be connected to, whoever is out may be well again: it is asked before its time.
        let pressed = may.iter().all(|endpoint| endpoint.connections.are_barred());
        if pressed {
            let early = |endpoint: &&Arc<Endpoint>| lock(&endpoint.health).breaker.may_be_probed_early(now);
            may.extend(known.endpoints.values().filter(early));
        }
        if may.iter().any(|endpoint| !tried.contains(&endpoint.address)) {
            may.retain(|endpoint| !tried.contains(&endpoint.address));
        }
        let chosen = match may.as_slice() {
            [only] => only,
            several => sooner(several, now),
        };
        match lock(&chosen.health).breaker.enter(now, pressed) {
            Verdict::Refuse(wait) => Err(self.circuit_open(wait)),
            verdict => Ok(Chosen { endpoint: Arc::clone(chosen), probe: verdict == Verdict::Probe, pressed }),
        }
    }

    /// Says how long it lasts; trying again within the same call would only ask the same breaker.
    fn circuit_open(&self, wait: Duration) -> Failure {
        let message = format!("every endpoint of {} keeps failing and is left alone for now", self.peer);
        let refusal = Refusal::new(Reason::CircuitOpen, message).with("peer", self.peer).retry_after(wait);
        Failure::new(Reach::Shut, refusal)
    }

    /// Looks the endpoints up where it is time. Only who knows none waits for it; a lookup that hangs hangs alone.
    async fn resolve_if_due(self: &Arc<Self>) {
        let none_known = {
            let mut known = lock(&self.known);
            let anew = known.told_anew();
            let due = match known.resolved {
                None => true,
                Some(_) if anew => true,
                Some(_) if !known.endpoints.is_empty() && !self.target.may_change() => false,
                Some(at) if known.endpoints.is_empty() || self.lost.load(Ordering::Relaxed) => {
                    at.elapsed() >= RESOLVE_AT_MOST
                }
                Some(at) => at.elapsed() >= RESOLVE_EVERY,
            };
            if due && !known.endpoints.is_empty() {
                known.resolved = Some(Instant::now());
                tokio::spawn(Arc::clone(self).resolve());
            }
            due && known.endpoints.is_empty()
        };
        if none_known {
            let _one_at_a_time = self.resolving.lock().await;
            if lock(&self.known).endpoints.is_empty() {
                // A task of its own: whoever stops waiting does not undo the lookup for the others.
                if let Err(error) = tokio::spawn(Arc::clone(self).resolve()).await {
                    warn!(error = %error, "A lookup of {} failed: {error}", self.peer);
                }
            }
        }
    }

    fn endpoint(&self, address: SocketAddr) -> Endpoint {
        let breaker = Breaker::new(self.settings.breaker_failures, self.settings.breaker_open);
        let health = Health { breaker, ewma: PeakEwma::new() };
        Endpoint {
            address,
            connections: Connections::new(address, self.settings, self.tls.clone(), &self.lost),
            in_flight: AtomicU32::new(0),
            health: Mutex::new(health),
            out: self.out.clone(),
        }
    }

    async fn resolve(self: Arc<Self>) {
        self.lost.store(false, Ordering::Relaxed);
        let resolved = self.target.resolve().await;
        let mut known = lock(&self.known);
        known.resolved = Some(Instant::now());
        // Nothing found is no news: the last good set is kept.
        let Some(addresses) = resolved else { return };
        let before = known.endpoints.len();
        known.endpoints.retain(|address, _| addresses.contains(address));
        let fewer = known.endpoints.len() < before;
        for address in addresses {
            known.endpoints.entry(address).or_insert_with(|| Arc::new(self.endpoint(address)));
        }
        self.out.endpoints.store(known.endpoints.len(), Ordering::Relaxed);
        if fewer && known.endpoints.values().all(|endpoint| lock(&endpoint.health).breaker.is_open()) {
            // They were out because there were others.
            known.endpoints.values().for_each(|endpoint| lock(&endpoint.health).breaker.is_due(Instant::now()));
        }
    }
}

impl HasBreakers for Endpoints {
    fn breakers(&self) -> Breakers {
        let known = lock(&self.known);
        let states = known.endpoints.values().map(|endpoint| lock(&endpoint.health).breaker.state());
        states.max().unwrap_or(Breakers::Closed)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if !lock(&self.health).breaker.is_closed() {
            self.out.one_less();
        }
    }
}

impl Endpoint {
    /// How long an answer is expected to take, in seconds, with what waits there already.
    fn load(&self, now: Instant) -> f64 {
        lock(&self.health).ewma.expected(now, self.in_flight.load(Ordering::Relaxed))
    }
}

/// Of two taken at random, the one with less load.
fn sooner<'e>(several: &[&'e Arc<Endpoint>], now: Instant) -> &'e Arc<Endpoint> {
    let first = rand::random_range(0..several.len());
    let second = (first + rand::random_range(1..several.len())) % several.len();
    #[allow(clippy::indexing_slicing, reason = "both are taken from the range of its length")]
    let (first, second) = (several[first], several[second]);
    if second.load(now) < first.load(now) { second } else { first }
}

/// An attempt under way. Dropped without a word, either its time was up, which is a failure, or its caller gave up,
/// which says nothing of the endpoint.
struct Attempt<'e> {
    endpoints: &'e Endpoints,
    endpoint: Arc<Endpoint>,
    terms: Terms,
    heard: bool,
}

#[derive(Clone, Copy)]
struct Terms {
    began: Instant,
    /// When its time is up.
    deadline: Option<Instant>,
    /// What becomes of it decides for the others.
    probe: bool,
}

impl<'e> Attempt<'e> {
    fn begin(endpoints: &'e Endpoints, endpoint: &Arc<Endpoint>, terms: Terms) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { endpoints, endpoint: endpoint.clone(), terms, heard: false }
    }

    fn heard(&mut self, well: bool) {
        self.heard = true;
        let now = Instant::now();
        let mut health = lock(&self.endpoint.health);
        health.ewma.learn(if well { now - self.terms.began } else { PENALTY }, now);
        let change = health.breaker.heard(well, self.terms.probe, now, || self.endpoint.out.one_more());
        drop(health);
        let peer = self.endpoints.peer;
        match change {
            Change::None => {}
            Change::Opened | Change::Reopened => {
                self.endpoints.telemetry.breaker_opened.add(1, &[opentelemetry::KeyValue::new("trivet.peer", peer)]);
                warn!(trivet.peer = peer, "An endpoint of {peer} keeps failing and is left alone for a while");
            }
            Change::Closed => {
                self.endpoint.out.one_less();
                info!(trivet.peer = peer, "An endpoint of {peer} answers again");
            }
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.heard {
            return;
        }
        let now = Instant::now();
        if self.terms.deadline.is_some_and(|deadline| now >= deadline) && now - self.terms.began >= FAIR {
            return self.heard(false);
        }
        let mut health = lock(&self.endpoint.health);
        // Given up because it was too slow, mostly: it counts as one that waited this long.
        health.ewma.learn(now - self.terms.began, now);
        if self.terms.probe {
            health.breaker.abandoned();
        }
    }
}

/// A lock whose holder panicked still guards good data: every change under it is a whole one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
