//! Gives every call an end: DEADLINE_EXCEEDED when the caller has stopped waiting, with nothing begun for a call that
//! was late when it came.

use std::{convert::Infallible, time::Duration};

use http::{HeaderMap, Request};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;

use crate::{
    Context, Reason, Refusal,
    header::GRPC_TIMEOUT,
    refusal::Violation,
    serve::complete::refuse,
    stack::{Next, Reply, Stage},
};

/// Nobody waits longer than this for one answer; a longer wish counts as this one.
const LONGEST: Duration = Duration::from_hours(1);

/// See the module.
#[derive(Clone)]
pub(crate) struct Deadline {
    /// For callers that name none.
    pub(crate) default: Duration,
}

impl Stage<Infallible> for Deadline {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Infallible>) -> Reply<Infallible> {
        let timeout = read(request.headers());
        let Some(context) = request.extensions_mut().get_mut::<Context>() else { return next.go(request).await };
        let timeout = match timeout {
            Ok(timeout) => timeout.unwrap_or(self.default).min(LONGEST),
            Err(fault) => {
                let violation = Violation { field: GRPC_TIMEOUT.to_string(), description: fault.to_owned() };
                return Ok(refuse(&context.request_id, Refusal::fields(Reason::InvalidFields, vec![violation])));
            }
        };
        // So far it is when the call came.
        context.deadline += timeout;
        let (deadline, request_id) = (context.deadline, context.request_id.clone());
        if deadline <= Instant::now() {
            let late = "the deadline had passed when the call came; nothing was begun";
            return Ok(refuse(&request_id, Refusal::new(Reason::DeadlineExceeded, late)));
        }
        timeout_at(deadline, next.go(request)).await.unwrap_or_else(|_| {
            let message = format!("the call was not done within the {} ms it had", timeout.as_millis());
            Ok(refuse(&request_id, Refusal::new(Reason::DeadlineExceeded, message)))
        })
    }
}

/// Reads `grpc-timeout`: one to eight digits and a unit. tonic takes what it cannot read for no deadline at all.
fn read(headers: &HeaderMap) -> Result<Option<Duration>, &'static str> {
    const FORM: &str = "must be one to eight digits and a unit out of H, M, S, m, u and n";
    let Some(value) = headers.get(&GRPC_TIMEOUT) else { return Ok(None) };
    let Some((unit, digits)) = value.as_bytes().split_last() else { return Err(FORM) };
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(FORM);
    }
    let amount = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Ok(Some(match unit {
        b'H' => Duration::from_secs(amount * 3_600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return Err(FORM),
    }))
}

/// Writes a `grpc-timeout` of at most eight digits, in the finest unit that holds it, rounded down.
pub(crate) fn write(timeout: Duration) -> String {
    const TOO_MANY_DIGITS: u64 = 100_000_000;
    let micros = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
    if micros < TOO_MANY_DIGITS {
        format!("{micros}u")
    } else if micros / 1_000 < TOO_MANY_DIGITS {
        format!("{}m", micros / 1_000)
    } else {
        format!("{}S", (micros / 1_000_000).min(TOO_MANY_DIGITS - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &'static str, expected: Option<Duration>) {
        let mut headers = HeaderMap::new();
        headers.insert(&GRPC_TIMEOUT, http::HeaderValue::from_static(value));
        assert_eq!(read(&headers).ok().flatten(), expected, "{value:?}");
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit_and_nothing_else() {
        check("1H", Some(Duration::from_hours(1)));
        check("99999999n", Some(Duration::from_nanos(99_999_999)));
        check("250m", Some(Duration::from_millis(250)));
        check("0S", Some(Duration::ZERO));
        for garbled in ["", "1", "S", "1s", "-1S", "+1S", "1.5S", " 1S", "1S ", "100000000S", "1SS", "0x1S"] {
            check(garbled, None);
        }
        assert_eq!(read(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn what_is_written_reads_back_no_longer_than_it_was() {
        for timeout in
            [Duration::from_nanos(1_500), Duration::from_millis(250), Duration::from_secs(200), Duration::MAX]
        {
            let mut headers = HeaderMap::new();
            headers.insert(&GRPC_TIMEOUT, http::HeaderValue::from_str(&write(timeout)).unwrap());
            assert!(read(&headers).unwrap().unwrap() <= timeout);
        }
    }
}
