//! Tries a call again where that is safe: what was never sent, at once; what may have been carried out, only where the
//! schema says that a second time does no harm, and then with waits in between, as long as the peer's [`Budget`] lasts. What
//! was under way on a connection that ended is sent once more at once, whatever the budget: all of it has one cause, and a
//! budget for tens of failures would end with the first tens of calls.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use prost::encoding::{DecodeContext, decode_key, skip_field};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;
use trivet_proto::{Idempotency, Method};

use super::{
    Reach,
    attempt::{Call, Course, Kept, reach},
    budget::Budget,
    hedge::Hedge,
};
use crate::{
    Telemetry,
    header::PUSHBACK,
    observe::{Key, View},
    stack::{Next, Reply, Stage},
    telemetry::code_of,
};

/// Attempts in all (gRFC A6 allows five).
const ATTEMPTS: u32 = 3;
/// The wait before the second attempt; it doubles.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(200);
/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How often an attempt that was never sent goes elsewhere at once.
const UNSENT_ATTEMPTS: u32 = 4;

/// See the module.
#[derive(Clone)]
pub(super) struct Retry {
    /// The role that calls, where one does.
    pub(super) role: Option<&'static str>,
    pub(super) peer: &'static str,
    pub(super) hedge: Hedge,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) budget: Budget,
}

impl Stage<Status> for Retry {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Status>) -> Reply<Status> {
        let method = trivet_proto::method(request.uri().path()).filter(|method| method.unary);
        let course = request.extensions().get::<Course>().cloned();
        let Some((method, course)) = method.zip(course) else { return next.go(request).await };
        let deadline = course.deadline;
        let call = match Call::keep(course, std::mem::take(request)).await? {
            Kept::Whole(call) => call,
            Kept::TooLong(mut request) => return next.go(&mut request).await,
        };
        let repeatable = is_repeatable(method, &call.message);
        let (mut attempt, mut unsent) = (1, 0);
        loop {
            let reply = self.hedge.send((method, repeatable), (&call, attempt - 1), next).await;
            let outcome = outcome(&reply);
            match outcome {
                Outcome::Well => self.budget.heard(true),
                Outcome::Refused | Outcome::Unsent { .. } => {}
                // One connection that ends is one mishap, however many calls it carried.
                Outcome::Broken if attempt == 1 => {}
                Outcome::Broken | Outcome::Unclear { .. } => self.budget.heard(false),
            }
            let again = match outcome {
                Outcome::Well | Outcome::Refused => return reply,
                Outcome::Unsent { .. } if unsent < UNSENT_ATTEMPTS => {
                    unsent += 1;
                    Some(Duration::ZERO)
                }
                Outcome::Unsent { ready_in } => {
                    let in_time = |wait: &Duration| Instant::now() + *wait < deadline;
                    let longer = Some(ready_in.min(LONGEST_WAIT)).filter(in_time).unwrap_or_default();
                    waiting(attempt, Pushback::None).map(|own| own.max(longer))
                }
                Outcome::Broken if repeatable && attempt == 1 => Some(Duration::ZERO),
                Outcome::Broken if repeatable && self.budget.allows() => waiting(attempt, Pushback::None),
                Outcome::Unclear { pushback } if repeatable && self.budget.allows() => waiting(attempt, pushback),
                Outcome::Broken | Outcome::Unclear { .. } => None,
            };
            let Some(wait) = again.filter(|wait| Instant::now() + *wait < deadline) else { return reply };
            if !matches!(outcome, Outcome::Unsent { .. }) || !wait.is_zero() {
                attempt += 1;
                tokio::time::sleep(wait).await;
            }
            self.count(method.path);
        }
    }
}

impl Retry {
    /// Counts an attempt beside the first.
    fn count(&self, method: &'static str) {
        let what = opentelemetry::KeyValue::new("rpc.method", method.trim_start_matches('/'));
        self.telemetry.client_retries.add(1, &[what]);
        if let Some(caller) = self.role {
            self.telemetry.observer.retried(Key { caller, callee: self.peer, method, view: View::Caller });
        }
    }
}

#[derive(Clone, Copy)]
enum Outcome {
    /// What was asked for.
    Well,
    /// An answer that trying again would not better.
    Refused,
    /// Nobody has looked at it. When another attempt to connect may be made.
    Unsent { ready_in: Duration },
    /// It may have been carried out, and the connection is gone.
    Broken,
    /// It may have been carried out.
    Unclear { pushback: Pushback },
}

/// What the server says of another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pushback {
    /// Nothing.
    None,
    /// Not before this much time has passed.
    After(Duration),
    /// There shall be none.
    Never,
}

fn outcome(reply: &Reply<Status>) -> Outcome {
    match reply {
        Ok(response) => match code_of(response) {
            Code::Ok => Outcome::Well,
            Code::Unavailable => Outcome::Unclear { pushback: pushback(response) },
            Code::ResourceExhausted => match pushback(response) {
                Pushback::None => Outcome::Refused,
                pushback => Outcome::Unclear { pushback },
            },
            _ => Outcome::Refused,
        },
        Err(status) => match reach(status) {
            Some(Reach::Unsent | Reach::Overtaken | Reach::HeldBack) => {
                Outcome::Unsent { ready_in: delay(status).unwrap_or_default() }
            }
            Some(Reach::Broken) => Outcome::Broken,
            Some(Reach::Unclear) => {
                Outcome::Unclear { pushback: delay(status).map_or(Pushback::None, Pushback::After) }
            }
            Some(Reach::Shut) | None => Outcome::Refused,
        },
    }
}

/// How long the server asks us to hold back: `grpc-retry-pushback-ms`, of which anything but a number of milliseconds means
/// not to try again at all (gRFC A6); or RetryInfo.
fn pushback(response: &Response<Body>) -> Pushback {
    if let Some(value) = response.headers().get(&PUSHBACK) {
        let millis = value.to_str().ok().and_then(|value| value.parse::<u32>().ok());
        return millis.map_or(Pushback::Never, |millis| Pushback::After(Duration::from_millis(millis.into())));
    }
    let told = || delay(&Status::from_header_map(response.headers())?);
    told().map_or(Pushback::None, Pushback::After)
}

/// What RetryInfo says.
fn delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// The wait before the next attempt, if there is to be one: what the server asks, else 0.2 s, 0.4 s, .. 1 s, ± 20 %.
fn waiting(attempt: u32, pushback: Pushback) -> Option<Duration> {
    if attempt >= ATTEMPTS {
        return None;
    }
    let own = FIRST_WAIT.saturating_mul(1 << (attempt - 1)).min(LONGEST_WAIT);
    match pushback {
        Pushback::None => Some(own * rand::random_range(80..=120_u32) / 100),
        Pushback::After(wait) => Some(wait),
        Pushback::Never => None,
    }
}

/// Whether the schema lets this very message be sent again: a rpc that is IDEMPOTENT because of its request id is not
/// where the message carries none.
pub(super) fn is_repeatable(method: &Method, frame: &Bytes) -> bool {
    match method.idempotency {
        Idempotency::NoSideEffects => true,
        Idempotency::Idempotent => method.request_id.is_none_or(|field| carries(frame, field)),
        Idempotency::Unknown => false,
    }
}

/// Whether the message in this gRPC frame sets the text field of this number to something.
fn carries(frame: &Bytes, field: u32) -> bool {
    const PREFIX: usize = 5;
    let mut message = frame.get(PREFIX..).unwrap_or_default();
    while !message.is_empty() {
        let Ok((tag, wire_type)) = decode_key(&mut message) else { return false };
        if tag == field {
            let mut text = String::new();
            let merged = prost::encoding::string::merge(wire_type, &mut text, &mut message, DecodeContext::default());
            return merged.is_ok() && !text.is_empty();
        }
        if skip_field(wire_type, tag, &mut message, DecodeContext::default()).is_err() {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use prost::Message as _;

    use super::*;
    use trivet_proto::billing::v1::DeductRequest;

    fn frame(message: &DeductRequest) -> Bytes {
        let mut frame = vec![0; 5];
        frame.extend(message.encode_to_vec());
        frame.into()
    }

    #[test]
    fn money_is_sent_again_only_under_a_request_id() {
        let method = trivet_proto::method("/trivet.billing.v1.BillingService/Deduct").unwrap();
        let with = DeductRequest { user_id: "ada".into(), request_id: "req_1".into(), ..Default::default() };
        let without = DeductRequest { user_id: "ada".into(), ..Default::default() };
        assert!(is_repeatable(method, &frame(&with)));
        assert!(!is_repeatable(method, &frame(&without)));
        assert!(!is_repeatable(method, &Bytes::from_static(&[0, 0, 0, 0, 2, 0xff, 0xff])));
    }

    #[test]
    fn reads_are_sent_again_and_what_may_do_harm_is_not() {
        let check = |path, expected| {
            assert_eq!(is_repeatable(trivet_proto::method(path).unwrap(), &Bytes::new()), expected, "{path}");
        };
        check("/trivet.account.v1.AccountService/GetAccount", true);
        check("/trivet.account.v1.AccountService/EnsureAccount", true);
        check("/trivet.account.v1.AccountService/UpdateAccount", false);
    }

    #[test]
    fn waits_grow_and_end_and_the_server_s_wish_comes_first() {
        assert!(waiting(1, Pushback::None).unwrap() <= Duration::from_millis(240));
        assert!(waiting(2, Pushback::None).unwrap() >= Duration::from_millis(320));
        assert_eq!(waiting(3, Pushback::None), None);
        assert_eq!(waiting(1, Pushback::After(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(waiting(1, Pushback::Never), None);
    }

    #[test]
    fn a_pushback_that_is_no_number_of_milliseconds_means_never() {
        for (value, expected) in [
            (None, Pushback::None),
            (Some("20"), Pushback::After(Duration::from_millis(20))),
            (Some("-1"), Pushback::Never),
            (Some("soon"), Pushback::Never),
        ] {
            let mut response = Response::new(Body::empty());
            if let Some(value) = value {
                response.headers_mut().insert(&PUSHBACK, HeaderValue::from_static(value));
            }
            assert_eq!(pushback(&response), expected, "{value:?}");
        }
    }
}
