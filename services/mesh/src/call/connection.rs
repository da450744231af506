//! The connections to one endpoint: opened when they are needed, one attempt at a time, with growing waits between attempts
//! that fail. One HTTP/2 connection is one lock for all of its streams, so that many calls at once spread over several.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{
    HeaderValue, Request, Response, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::OwnedMutexGuard,
    time::{Instant, timeout},
};
use tonic::{Status, body::Body};

use super::{CallSettings, Failure, Reach, attempt::Course, balance::lock};
use crate::{
    Reason, Refusal, Toward,
    header::GRPC_TIMEOUT,
    serve::write_timeout,
    socket::{Counted, Socket},
};

/// How much may be sent ahead on one stream, and on all streams of a connection.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// A silent endpoint is asked whether it lives, idle or not, and given this long to answer.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(3);
/// Waits between attempts to connect: the first, and the factor in percent.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const GROWTH_PERCENT: u32 = 160;
/// No wait is longer than this for calls that have nowhere else to go.
const PRESSED_WAIT: Duration = Duration::from_secs(1);
/// Calls at once for which one more connection is worth its while.
const CALLS_EACH: u32 = 16;

/// See the module.
pub(super) struct Connections {
    address: SocketAddr,
    /// As requests name it.
    authority: Option<Authority>,
    settings: CallSettings,
    /// Who must be at the other end; `None`: anybody, in plaintext.
    tls: Option<Toward>,
    places: Box<[Place]>,
    /// Who has it may open one.
    gate: Arc<tokio::sync::Mutex<Gate>>,
    /// Whether the last attempt to open one failed.
    barred: AtomicBool,
    /// Set where a connection broke or could not be opened: the endpoint may be gone for good.
    lost: Arc<AtomicBool>,
}

/// Where a connection is, or will be.
#[derive(Default)]
struct Place {
    live: Mutex<Option<Live>>,
    in_flight: AtomicU32,
}

/// A connection.
#[derive(Clone)]
struct Live {
    sender: SendRequest<Body>,
    /// Whether a call has told already that it broke.
    broke: Arc<AtomicBool>,
}

impl Place {
    /// Whether there is a connection that lives.
    fn is_live(&self) -> bool {
        let mut held = lock(&self.live);
        if held.as_ref().is_some_and(|live| live.sender.is_closed()) {
            *held = None;
        }
        held.is_some()
    }
}

/// A connection while a call is on its way over it.
struct Taken<'p> {
    live: Live,
    in_flight: &'p AtomicU32,
}

impl<'p> Taken<'p> {
    fn new(place: &'p Place, live: Live) -> Self {
        place.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { live, in_flight: &place.in_flight }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Gate {
    /// Since when it is shut, and for how long.
    shut: Option<(Instant, Duration)>,
    next_wait: Duration,
}

impl Gate {
    fn open() -> Self {
        Self { shut: None, next_wait: FIRST_WAIT }
    }

    /// How long nobody may open a connection yet; `pressed`: who has nowhere else to go.
    fn wait(&self, pressed: bool) -> Option<Duration> {
        let (since, wait) = self.shut?;
        let wait = if pressed { wait.min(PRESSED_WAIT) } else { wait };
        wait.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
    }

    /// Shuts for longer than the last time; answers for how long.
    fn shut(&mut self, longest: Duration) -> Duration {
        let wait = self.next_wait.min(longest) * rand::random_range(80..=120_u32) / 100;
        self.shut = Some((Instant::now(), wait));
        self.next_wait = (self.next_wait * GROWTH_PERCENT / 100).min(longest);
        wait
    }
}

impl Connections {
    pub(super) fn new(
        address: SocketAddr,
        settings: CallSettings,
        tls: Option<Toward>,
        lost: &Arc<AtomicBool>,
    ) -> Arc<Self> {
        let places = (0..settings.connections.max(1)).map(|_| Place::default()).collect();
        let gate = Arc::new(tokio::sync::Mutex::new(Gate::open()));
        let (authority, lost) = (Authority::try_from(address.to_string()).ok(), lost.clone());
        Arc::new(Self { address, authority, settings, tls, places, gate, barred: AtomicBool::new(false), lost })
    }

    /// Whether there is none, and the last attempt to open one failed, so that the next one may be held back.
    pub(super) fn are_barred(&self) -> bool {
        self.barred.load(Ordering::Relaxed) && !self.places.iter().any(Place::is_live)
    }

    /// Sends one request and gives the head of its response. `pressed`: there is nowhere else to go.
    pub(super) async fn send(
        self: &Arc<Self>,
        request: &mut Request<Body>,
        pressed: bool,
    ) -> Result<Response<Body>, Failure> {
        let mut taken = self.take(pressed).await?;
        self.address_to(request).map_err(|status| Failure::new(Reach::Overtaken, status))?;
        let Live { sender, broke } = &mut taken.live;
        sender.ready().await.map_err(|error| Failure::new(Reach::Overtaken, self.unreachable(&error)))?;
        match sender.try_send_request(std::mem::take(request)).await {
            Ok(response) => Ok(response.map(Body::new)),
            Err(mut error) => {
                let back = error.take_message().is_some();
                let reach = if back { Reach::Overtaken } else { unanswered(error.error()) };
                let mut failure = Failure::new(reach, self.unreachable(error.error()));
                failure.news = match reach {
                    Reach::Overtaken => !back && !in_peace(error.error()),
                    Reach::Broken => !broke.swap(true, Ordering::Relaxed),
                    _ => true,
                };
                Err(failure)
            }
        }
    }

    /// The connection with the fewest calls under way; where that has many, another one is opened beside it.
    async fn take(self: &Arc<Self>, pressed: bool) -> Result<Taken<'_>, Failure> {
        if let Some(taken) = self.least() {
            let busy = taken.in_flight.load(Ordering::Relaxed) > CALLS_EACH;
            // Nobody waits for one more while there is one.
            if busy
                && let Some(empty) = self.places.iter().position(|place| !place.is_live())
                && let Ok(gate) = self.gate.clone().try_lock_owned()
            {
                let connections = self.clone();
                tokio::spawn(async move { connections.open(empty, gate, false).await });
            }
            return Ok(taken);
        }
        let gate = self.gate.clone().lock_owned().await;
        if let Some(taken) = self.least() {
            // Somebody opened it meanwhile.
            return Ok(taken);
        }
        // A task of its own: whoever stops waiting does not undo it for the others.
        let connections = self.clone();
        let opened = tokio::spawn(async move { connections.open(0, gate, pressed).await }).await;
        let failed = |why: &str| Failure::new(Reach::HeldBack, self.refused(why, FIRST_WAIT));
        let live = opened.map_err(|error| failed(&error.to_string()))??;
        let place = self.places.first().ok_or_else(|| failed("there is no place for a connection"))?;
        Ok(Taken::new(place, live))
    }

    /// Of the connections that there are, the one with the fewest calls under way.
    fn least(&self) -> Option<Taken<'_>> {
        let live = self.places.iter().filter(|place| place.is_live());
        let least = live.min_by_key(|place| place.in_flight.load(Ordering::Relaxed))?;
        let live = lock(&least.live).clone()?;
        Some(Taken::new(least, live))
    }

    async fn open(&self, place: usize, mut gate: OwnedMutexGuard<Gate>, pressed: bool) -> Result<Live, Failure> {
        if let Some(wait) = gate.wait(pressed) {
            let status = self.refused("the last connection attempt failed just now", wait);
            return Err(Failure::new(Reach::HeldBack, status));
        }
        let connected = self.connect().await;
        self.barred.store(connected.is_err(), Ordering::Relaxed);
        match connected {
            Ok(sender) => {
                *gate = Gate::open();
                let live = Live { sender, broke: Arc::default() };
                if let Some(place) = self.places.get(place) {
                    *lock(&place.live) = Some(live.clone());
                }
                Ok(live)
            }
            Err(cause) => {
                self.lost.store(true, Ordering::Relaxed);
                let wait = gate.shut(self.settings.longest_wait);
                Err(Failure::new(Reach::Unsent, self.refused(&cause, wait)))
            }
        }
    }

    /// A connection whose other side has spoken: one that only takes what is sent is none.
    async fn connect(&self) -> Result<SendRequest<Body>, String> {
        let connecting = async {
            let socket = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
            socket.set_nodelay(true).map_err(|error| error.to_string())?;
            let socket = match &self.tls {
                Some(tls) => tls.connect(socket, self.address).await.map_err(|refused| refused.to_string())?,
                None => Socket::Plain(socket),
            };
            let (socket, heard) = Counted::new(socket);
            let handshake = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .adaptive_window(false)
                .keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE_ANSWER)
                .keep_alive_while_idle(true)
                .handshake(TokioIo::new(socket));
            let (sender, driver) = handshake.await.map_err(|error| error.to_string())?;
            let (address, lost) = (self.address, self.lost.clone());
            let ended = tokio::spawn(async move {
                let broke = driver.await.err().map(|error| crate::chain(&error));
                if let Some(error) = &broke {
                    tracing::debug!(error = %error, "The connection to {address} broke: {error}");
                }
                lost.store(true, Ordering::Relaxed);
                broke
            });
            // hyper takes requests before the other side has said anything; and over TLS 1.3 we have done all that there is
            // to do before the other side has looked at our certificate.
            tokio::select! {
                () = heard.at_least(1) => Ok(sender),
                broke = ended => {
                    let why = broke.ok().flatten().map(|why| format!(": {why}")).unwrap_or_default();
                    Err(format!("it broke off before it said anything{why}"))
                }
            }
        };
        timeout(self.settings.connect_timeout, connecting).await.map_err(|_| "it did not answer in time".to_owned())?
    }

    /// Writes where the request goes and how long its answer may take.
    fn address_to(&self, request: &mut Request<Body>) -> Result<(), Status> {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
        uri.authority.clone_from(&self.authority);
        uri.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from_parts(uri).map_err(|error| Status::internal(error.to_string()))?;
        if let Some(Course { deadline, .. }) = request.extensions().get() {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(value) = HeaderValue::try_from(write_timeout(left)) {
                request.headers_mut().insert(&GRPC_TIMEOUT, value);
            }
        }
        Ok(())
    }

    fn refused(&self, cause: &str, wait: Duration) -> Status {
        let message = format!("no connection to {}: {cause}", self.address);
        Refusal::new(Reason::DependencyUnavailable, message).retry_after(wait).into()
    }

    fn unreachable(&self, error: &hyper::Error) -> Status {
        let message = format!("the connection to {} broke: {}", self.address, crate::chain(error));
        Refusal::new(Reason::DependencyUnavailable, message).retry_after(FIRST_WAIT).into()
    }
}

/// How far a request got that was sent and has no answer.
fn unanswered(error: &hyper::Error) -> Reach {
    match of_http2(error) {
        // RFC 9113, section 8.7: what is refused was not looked at; nor was what a GOAWAY ends (section 6.8). Streams that it
        // lets go on never hear of it.
        Some(error) if error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM) => Reach::Overtaken,
        Some(error) if error.is_go_away() && error.is_remote() => Reach::Overtaken,
        Some(error) if error.is_reset() => Reach::Unclear,
        _ => Reach::Broken,
    }
}

/// Whether the other side went away because it was time, and not because of something that is wrong.
fn in_peace(error: &hyper::Error) -> bool {
    of_http2(error).is_some_and(|error| error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR))
}

/// What HTTP/2 says of it.
fn of_http2(error: &hyper::Error) -> Option<&h2::Error> {
    std::iter::successors(std::error::Error::source(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<h2::Error>())
}
