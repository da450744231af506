//! Faults on purpose: calls that are held up or refused, by rpc and percentage, to see what callers make of it. Only where
//! `server.faults` says so, and the log says so, too.

use std::{convert::Infallible, fmt, str::FromStr, sync::Arc, time::Duration};

use http::Request;
use tonic::{Code, Status, body::Body};

use crate::{
    Context,
    serve::complete::refuse_with,
    stack::{Next, Reply, Stage},
};

/// The longest that a call is held up.
const LONGEST: Duration = Duration::from_mins(1);

/// Faults, in the order in which they are tried; all that apply to a call happen to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Arc<[Fault]>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    /// The end of the rpc's path, `Deduct` or `BillingService/Deduct`; `None` for every rpc.
    method: Option<String>,
    what: What,
    /// Of a hundred calls.
    percent: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Delay(Duration),
    Abort(Code),
}

/// Why faults cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no fault: it must be RPC=delay:MILLISECONDS@PERCENT or RPC=abort:CODE@PERCENT, as in Deduct=abort:UNAVAILABLE@10; \
     * is every rpc, several have commas in between"
)]
pub struct FaultFault(String);

impl FromStr for Faults {
    type Err = FaultFault;

    fn from_str(text: &str) -> Result<Self, FaultFault> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(|entry| read(entry).ok_or_else(|| FaultFault(entry.to_owned()))).collect::<Result<_, _>>().map(Self)
    }
}

fn read(entry: &str) -> Option<Fault> {
    let (method, rest) = entry.split_once('=')?;
    let (what, percent) = rest.split_once('@')?;
    let percent = percent.trim_end_matches('%').parse().ok().filter(|percent| (1..=100).contains(percent))?;
    let what = match what.split_once(':')? {
        ("delay", millis) => {
            let delay = Duration::from_millis(millis.parse().ok()?);
            (delay <= LONGEST).then_some(What::Delay(delay))?
        }
        ("abort", code) => What::Abort(code_named(code)?),
        _ => return None,
    };
    let method = match method {
        "*" => None,
        method => {
            // A fault of a rpc that there is not would be a test of nothing.
            let known = |known: &trivet_proto::Method| ends(known.path, method);
            trivet_proto::METHODS.iter().any(known).then(|| Some(method.to_owned()))?
        }
    };
    Some(Fault { method, what, percent })
}

/// Whether a path ends in these of its parts.
fn ends(path: &str, parts: &str) -> bool {
    path.strip_suffix(parts).is_some_and(|rest| rest.is_empty() || rest.ends_with(['/', '.']))
}

fn code_named(name: &str) -> Option<Code> {
    let codes = (1..=16).map(Code::from_i32);
    codes.into_iter().find(|code| name == format!("{code:?}") || name == upper(*code))
}

/// A code as the protocol spells it, `RESOURCE_EXHAUSTED`.
fn upper(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Fault { method, what, percent }) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let method = method.as_deref().unwrap_or("*");
            match what {
                What::Delay(delay) => write!(formatter, "{comma}{method}=delay:{}@{percent}", delay.as_millis())?,
                What::Abort(code) => write!(formatter, "{comma}{method}=abort:{}@{percent}", upper(*code))?,
            }
        }
        Ok(())
    }
}

impl Faults {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What happens to this call.
    fn of(&self, path: &str) -> impl Iterator<Item = What> {
        let hits = move |fault: &&Fault| {
            fault.method.as_ref().is_none_or(|method| ends(path, method)) && rand::random_range(0..100) < fault.percent
        };
        self.0.iter().filter(hits).map(|fault| fault.what)
    }
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Inject(pub(crate) Faults);

impl Stage<Infallible> for Inject {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Infallible>) -> Reply<Infallible> {
        if self.0.is_empty() {
            return next.go(request).await;
        }
        let called = request.extensions().get::<Context>().map(|context| (context.method, context.request_id.clone()));
        let Some((Some(method), request_id)) = called else { return next.go(request).await };
        for what in self.0.of(method.path) {
            match what {
                What::Delay(delay) => tokio::time::sleep(delay).await,
                What::Abort(code) => {
                    return Ok(refuse_with(&request_id, Status::new(code, "a fault on purpose (server.faults)")));
                }
            }
        }
        next.go(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_written_and_garbled_ones_are_named() {
        let text = "Deduct=abort:UNAVAILABLE@10,BillingService/Deduct=delay:250@100,*=abort:RESOURCE_EXHAUSTED@1";
        assert_eq!(text.parse::<Faults>().unwrap().to_string(), text);
        assert_eq!(" Deduct=delay:5@50% , ".parse::<Faults>().unwrap().to_string(), "Deduct=delay:5@50");
        assert!("".parse::<Faults>().unwrap().is_empty());
        for garbled in [
            "Deduct",
            "Deduct=abort:UNAVAILABLE",
            "Deduct=abort:OK@10",
            "Deduct=abort:NOPE@10",
            "Deduct=delay:x@10",
            "Deduct=delay:60001@10",
            "Deduct=delay:5@0",
            "Deduct=delay:5@101",
            "duct=delay:5@10",
            "Nothing=delay:5@10",
            "=delay:5@10",
            "Deduct=stop:5@10",
        ] {
            assert_eq!(garbled.parse::<Faults>(), Err(FaultFault(garbled.to_owned())), "{garbled}");
        }
    }

    #[test]
    fn a_fault_happens_to_its_rpc_as_often_as_it_says() {
        let faults: Faults = "AccountService/GetAccount=abort:UNAVAILABLE@30".parse().unwrap();
        assert_eq!(faults.of("/trivet.billing.v1.BillingService/Deduct").count(), 0);
        let path = "/trivet.account.v1.AccountService/GetAccount";
        let hits: usize = (0..10_000).map(|_| faults.of(path).count()).sum();
        assert!((2_500..3_500).contains(&hits), "{hits} of 10,000");
        let always: Faults = "*=abort:INTERNAL@100".parse().unwrap();
        assert_eq!(always.of(path).collect::<Vec<_>>(), [What::Abort(Code::Internal)]);
    }
}
