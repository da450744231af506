//! The accept loop: HTTP/2 connections, their limits, and their end. tonic's own loop waits for ever on one open
//! stream and unsets two of hyper's limits. HTTP/1.1 is spoken where pages in browsers may call, and nowhere else.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;
use tower::{Service, ServiceBuilder};
use tracing::{debug, warn};

use crate::{
    ServerSettings, Tls,
    identity::Transport,
    serve::{Origins, web},
    socket::{Counted, Socket},
    tls::Refused,
};

/// Connections at once. More wait in the listener's queue: each costs a socket and some tens of kilobytes.
const CONNECTIONS: usize = 8_192;
/// Requests at once on one connection: hyper's default, which tonic unsets.
const STREAMS: u32 = 256;
/// Streams that we had to reset before a connection is ended: RUSTSEC-2024-0003.
const LOCAL_RESETS: usize = 1_024;
/// All headers of a request together.
const HEADER_BYTES: u32 = 16 * 1024;
/// How much a caller may send ahead on one stream, and on all streams of a connection.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// A peer that is silent this long is asked whether it lives, and given this long to answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);
/// A connection that says nothing for this long is let go; TLS and the preface have it together.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a connection that never asked for anything may hold up a drain.
const SILENT_GRACE: Duration = Duration::from_secs(1);
/// How long the other side may take to end a connection that we have ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes that every connection of HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: u64 = 24;
/// When accepting fails (out of file descriptors, mostly), trying again at once would only spin.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// How the accept loop and its connections are told to end.
#[derive(Clone, Default)]
pub(crate) struct Ending {
    /// No new connections; those there are get GOAWAY and finish what they began.
    pub(crate) drain: CancellationToken,
    /// Whatever is left ends now.
    pub(crate) force: CancellationToken,
    /// Everything that drain waits for.
    pub(crate) connections: TaskTracker,
}

/// How long a connection may take, and live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How old it gets, give or take a tenth; `None`: as old as it likes.
    age: Option<Duration>,
    /// How long the certificate that was shown on it is still good; `None`: there is none.
    lapse: Option<Duration>,
    /// How long calls may take that are under way when it is too old.
    grace: Duration,
    /// What it may speak.
    spoken: Spoken,
}

/// What a connection may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    Http2,
    /// Browsers speak HTTP/1.1 where there is no TLS.
    Http1Too,
}

impl Limits {
    pub(crate) fn of(settings: &ServerSettings, origins: &Origins) -> Self {
        let age = (settings.connection_age_ms > 0).then(|| Duration::from_millis(settings.connection_age_ms));
        let spoken = if origins.is_empty() { Spoken::Http2 } else { Spoken::Http1Too };
        Self { age, lapse: None, grace: Duration::from_millis(settings.grace_ms), spoken }
    }

    /// Waits until a connection that is opened now is too old.
    async fn too_old(self) {
        match self.life() {
            Some(age) => tokio::time::sleep(age).await,
            None => std::future::pending().await,
        }
    }

    /// How old it may get.
    fn life(self) -> Option<Duration> {
        // Not all of those that were opened together at once.
        let age = self.age.map(|age| age * rand::random_range(90..=110_u32) / 100);
        // Early enough that who has a new certificate shows it before a call is refused for the old one, and so late that a
        // stream hears why it ends.
        let lapse = self.lapse.map(|left| left.saturating_sub((left / 10).min(self.grace / 2)));
        age.into_iter().chain(lapse).min()
    }
}

/// Accepts connections until told to drain.
pub(crate) async fn accept<S>(listener: TcpListener, tls: Option<Tls>, service: S, limits: Limits, ending: Ending)
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = ending.drain.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok((socket, peer)) => {
                let (tls, service, ended) = (tls.clone(), service.clone(), ending.clone());
                ending.connections.spawn(async move {
                    let _place = place;
                    let until = Instant::now() + HANDSHAKE;
                    let opened = tokio::select! {
                        opened = open(socket, tls.as_ref(), limits.spoken, until) => opened,
                        // Who has asked for nothing yet loses nothing.
                        () = ended.drain.cancelled() => return,
                    };
                    match opened {
                        Ok((socket, transport)) => {
                            let certified = tls.zip(transport.peer.as_ref());
                            let lapse = certified.map(|(tls, certified)| tls.left(certified.until));
                            let limits = Limits { lapse, ..limits };
                            connection(((socket, transport), peer, until), service, limits, ended).await;
                        }
                        Err(why) => debug!("The connection from {peer} was not taken: {why}"),
                    }
                });
            }
            Err(error) => {
                warn!(error = %error, "A connection could not be accepted: {error}");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

/// A socket that requests can come over, and what it says of its other end.
async fn open(
    socket: TcpStream,
    tls: Option<&Tls>,
    spoken: Spoken,
    until: Instant,
) -> Result<(Socket, Transport), Refused> {
    let kept_alive = || match spoken {
        Spoken::Http2 => Ok(()),
        Spoken::Http1Too => web::keep_alive(&socket, KEEPALIVE, KEEPALIVE_ANSWER),
    };
    socket.set_nodelay(true).and_then(|()| kept_alive()).map_err(Refused::Handshake)?;
    let Some(tls) = tls else { return Ok((Socket::Plain(socket), Transport::default())) };
    let accepted = timeout_at(until, tls.accept(socket)).await.unwrap_or(Err(Refused::Late));
    accepted.inspect_err(|refused| tls.count(refused))
}

async fn connection<S>(
    ((socket, transport), peer, until): ((Socket, Transport), SocketAddr, Instant),
    service: S,
    limits: Limits,
    ending: Ending,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let (socket, heard) = Counted::new(socket);
    let left = heard.clone();
    let spoke = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&spoke);
    let service = ServiceBuilder::new()
        .map_request(move |mut request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(transport.clone());
            request.map(Body::new)
        })
        .service(service);
    let settings = settings(limits.spoken);
    let connection = settings.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service));
    let mut connection = Box::pin(connection);
    // hyper waits for ever for a preface that does not come, drain or not.
    let no_preface = async {
        if timeout_at(until, heard.at_least(PREFACE)).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = no_preface => return debug!("The connection from {peer} does not speak HTTP/2"),
        () = limits.too_old() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = tokio::time::sleep(limits.grace) => {
                    return debug!("The connection from {peer} was too old, and was ended with calls under way");
                }
                () = ending.force.cancelled() => return warn!("The connection from {peer} was ended with calls under way"),
            }
        }
        () = ending.drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // hyper waits for ever for the rest of a preface. Who has asked for nothing yet loses nothing.
            let silent = async {
                tokio::time::sleep(SILENT_GRACE).await;
                if spoke.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = silent => return debug!("The connection from {peer} had asked for nothing"),
                () = ending.force.cancelled() => return warn!("The connection from {peer} was ended with calls under way"),
            }
        }
    };
    match ended {
        Ok(()) => {
            drop(connection);
            tokio::select! {
                () = left.to_the_end() => {}
                () = tokio::time::sleep(LAST_WORDS) => {}
                () = ending.force.cancelled() => {}
            }
        }
        Err(error) => debug!(error = %error, "The connection from {peer} broke: {error}"),
    }
}

fn settings(spoken: Spoken) -> auto::Builder<TokioExecutor> {
    let mut settings = auto::Builder::new(TokioExecutor::new());
    settings
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .adaptive_window(false)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER);
    match spoken {
        Spoken::Http2 => settings.http2_only(),
        Spoken::Http1Too => web::with_http1(settings, HANDSHAKE),
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;

    #[tokio::test]
    async fn who_may_speak_http_1_is_asked_by_the_system_whether_it_lives() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for (spoken, asked) in [(Spoken::Http1Too, true), (Spoken::Http2, false)] {
            let (_caller, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let opened = open(accepted.unwrap().0, None, spoken, Instant::now() + HANDSHAKE).await;
            let Ok((Socket::Plain(socket), _)) = opened else { panic!("it was not taken") };
            assert_eq!(SockRef::from(&socket).keepalive().unwrap(), asked);
        }
    }

    #[test]
    fn a_connection_is_too_old_before_its_certificate_is_and_its_calls_may_end_after_that() {
        let limits = |age: Option<u64>, lapse: Option<u64>| {
            let seconds = |number: Option<u64>| number.map(Duration::from_secs);
            let (age, lapse, grace) = (seconds(age), seconds(lapse), Duration::from_secs(20));
            Limits { age, lapse, grace, spoken: Spoken::Http2 }.life().map(|life| life.as_secs())
        };
        assert_eq!(limits(None, None), None);
        assert_eq!(limits(None, Some(3_600)), Some(3_590));
        assert_eq!(limits(None, Some(10)), Some(9));
        assert_eq!(limits(Some(1_800), Some(0)), Some(0));
        assert!(limits(Some(1_800), Some(3_600)).is_some_and(|life| (1_620..=1_980).contains(&life)));
    }
}
