//! The connection to one endpoint: opened when it is first needed, one attempt at a time, with growing waits between
//! attempts that fail.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderValue, Request, Response, Uri};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::Mutex,
    time::{Instant, timeout},
};
use tonic::{Status, body::Body};

use super::{CallSettings, Failure, Reach, deadline::CallDeadline};
use crate::{
    Reason, Refusal,
    serve::{GRPC_TIMEOUT, write_timeout},
};

/// How much may be sent ahead on one stream, and on all streams of the connection.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// A silent endpoint is asked whether it lives, idle or not, and given this long to answer.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(3);
/// Waits between attempts to connect: the first, the factor in percent, the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const GROWTH_PERCENT: u32 = 160;
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Connection {
    address: SocketAddr,
    authority: String,
    settings: CallSettings,
    state: Mutex<State>,
}

struct State {
    sender: Option<SendRequest<Body>>,
    not_before: Option<Instant>,
    next_wait: Duration,
}

impl Connection {
    pub(super) fn new(address: SocketAddr, settings: CallSettings) -> Self {
        let state = Mutex::new(State { sender: None, not_before: None, next_wait: FIRST_WAIT });
        Self { address, authority: address.to_string(), settings, state }
    }

    /// Sends one request and gives the head of its response.
    pub(super) async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Failure> {
        let mut sender = self.sender().await?;
        self.address_to(&mut request).map_err(|status| Failure::new(Reach::Unsent, status))?;
        sender.ready().await.map_err(|error| Failure::new(Reach::Unsent, self.unreachable(&error)))?;
        match sender.try_send_request(request).await {
            Ok(response) => Ok(response.map(Body::new)),
            Err(mut error) => {
                let reach = if error.take_message().is_some() { Reach::Unsent } else { Reach::Unclear };
                Err(Failure::new(reach, self.unreachable(error.error())))
            }
        }
    }

    async fn sender(&self) -> Result<SendRequest<Body>, Failure> {
        let mut state = self.state.lock().await;
        if let Some(sender) = state.sender.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        state.sender = None;
        let now = Instant::now();
        if let Some(not_before) = state.not_before.filter(|not_before| now < *not_before) {
            let status = self.refused("the last connection attempt failed just now", not_before - now);
            return Err(Failure::new(Reach::HeldBack, status));
        }
        match self.open().await {
            Ok(sender) => {
                *state = State { sender: Some(sender.clone()), not_before: None, next_wait: FIRST_WAIT };
                Ok(sender)
            }
            Err(cause) => {
                let wait = state.next_wait * rand::random_range(80..=120_u32) / 100;
                state.not_before = Some(Instant::now() + wait);
                state.next_wait = (state.next_wait * GROWTH_PERCENT / 100).min(LONGEST_WAIT);
                Err(Failure::new(Reach::Unsent, self.refused(&cause, wait)))
            }
        }
    }

    async fn open(&self) -> Result<SendRequest<Body>, String> {
        let connecting = async {
            let socket = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
            socket.set_nodelay(true).map_err(|error| error.to_string())?;
            let handshake = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .adaptive_window(false)
                .keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE_ANSWER)
                .keep_alive_while_idle(true)
                .handshake(TokioIo::new(socket));
            handshake.await.map_err(|error| error.to_string())
        };
        let opened = timeout(self.settings.connect_timeout, connecting).await;
        let (sender, driver) = opened.map_err(|_| "it did not answer in time".to_owned())??;
        let address = self.address;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(error = %error, "The connection to {address} broke: {error}");
            }
        });
        Ok(sender)
    }

    /// Writes where the request goes and how long its answer may take.
    fn address_to(&self, request: &mut Request<Body>) -> Result<(), Status> {
        let path = request.uri().path_and_query().cloned();
        let mut uri = Uri::builder().scheme("http").authority(self.authority.as_str());
        if let Some(path) = path {
            uri = uri.path_and_query(path);
        }
        *request.uri_mut() = uri.build().map_err(|error| Status::internal(error.to_string()))?;
        if let Some(CallDeadline(deadline)) = request.extensions().get().copied() {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(value) = HeaderValue::from_str(&write_timeout(left)) {
                request.headers_mut().insert(GRPC_TIMEOUT, value);
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
