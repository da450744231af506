//! Who calls, for which tenant, and whether they may.
//!
//! A caller is known by the API key that it sends (`authorization: Bearer ..`, RFC 6750), else by the certificate of its
//! connection, else, where one process has several roles and no TLS, by the word that they share. What it may do is said in
//! [`allow`](super::allow); its tenant comes with its credential, and `x-trivet-tenant` counts only for who may act for
//! several. Where identities are off, everybody is an operator.

mod keys;
mod lapse;
mod settings;

use std::{convert::Infallible, num::NonZeroU32, sync::Arc};

use data_encoding::HEXLOWER;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::{HeaderMap, HeaderValue, Request, header::AUTHORIZATION};
use opentelemetry::{KeyValue, metrics::Counter};
use subtle::ConstantTimeEq as _;
use tonic::{Status, body::Body};
use tracing::{info, warn};

use super::allow::{Grant, Needed, Rights, Tenants, needed};
use crate::{
    Caller, Clock, Context, Fields, Parts, Reason, Refusal, Tenant, Time, TlsSettings,
    header::{PROCESS, TENANT},
    identity::{Certified, Transport, WHOLE},
    observe::Kind,
    serve::complete::refuse,
    stack::{Next, Reply, Stage},
};
use keys::{Keys, refused};
use lapse::{Lapse, expired};
pub(crate) use settings::Workloads;
pub use settings::{IdentityMode, IdentitySettings};

/// Calls a second that the log says of that they were refused; all of them are counted.
const SAID: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// See the module.
#[derive(Clone)]
pub(crate) struct Identity(Arc<Inner>);

struct Inner {
    mode: IdentityMode,
    /// What the ids of the house begin with.
    house: String,
    workloads: Arc<Workloads>,
    keys: Option<Keys>,
    word: Option<ProcessWord>,
    clock: Clock,
    denied: Counter<u64>,
    said: DefaultDirectRateLimiter,
}

/// What identities are made from.
pub(crate) struct Known<'p> {
    /// Whether identities count, and whose.
    pub(crate) settings: &'p IdentitySettings,
    /// Workloads that they name.
    pub(crate) workloads: Arc<Workloads>,
    /// What certificates name.
    pub(crate) tls: &'p TlsSettings,
    /// What the roles of this process know each other by, where no certificate does.
    pub(crate) word: Option<ProcessWord>,
}

/// 256 random bits, the same for all roles of a process and in no other. Only they see it: it is sent over loopback to
/// their own ports.
#[derive(Clone)]
pub(crate) struct ProcessWord(Arc<str>);

impl ProcessWord {
    /// A word that nobody can guess.
    pub(crate) fn new() -> Self {
        Self(HEXLOWER.encode(&rand::random::<[u8; 32]>()).into())
    }

    /// The word as it is sent.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let mut word = HeaderValue::from_str(&self.0).ok()?;
        word.set_sensitive(true);
        Some(word)
    }

    fn is_in(&self, headers: &HeaderMap) -> bool {
        headers.get(&PROCESS).is_some_and(|word| word.as_bytes().ct_eq(self.0.as_bytes()).into())
    }
}

/// A caller, as far as it is known.
struct Identified<'r> {
    caller: Caller,
    grant: Grant,
    credential: Credential<'r>,
}

/// What a caller is known by.
enum Credential<'r> {
    /// What does not end before the process does.
    Lasting,
    /// The secret of an API key.
    Key(&'r str),
    /// A certificate that is good until this time.
    Certificate(Time),
}

/// Who makes a call, for whom, and what ends it before its time if it is one that may go on for long.
struct Admitted {
    caller: Caller,
    tenant: Tenant,
    lapse: Option<Lapse>,
}

impl Identified<'_> {
    /// For which tenant it calls, and whether it may.
    fn judge(&self, path: &str, named: Option<Tenant>) -> (Tenant, Result<(), Refusal>) {
        let refuse = |message: String| Refusal::new(Reason::NotAllowed, message).with("caller", &self.caller);
        let mut verdict = Ok(());
        if !self.grant.rights.allow(path) {
            let (method, needed) = (path.rsplit('/').next().unwrap_or_default(), needed(path));
            let message = format!("{} may not call {method}: that needs {needed}", self.caller);
            verdict = Err(refuse(message).with("needs", needed));
        }
        let tenant = match (&self.grant.tenants, named) {
            (Tenants::Any, named) => named.unwrap_or_else(Tenant::default_tenant),
            (Tenants::One(own), Some(named)) if *own != named => {
                verdict =
                    verdict.and_then(|()| Err(refuse(format!("{} may not act for the tenant {named}", self.caller))));
                named
            }
            (Tenants::One(own), _) => own.clone(),
        };
        (tenant, verdict)
    }
}

impl Identity {
    /// Identities as they are known to a role; API keys by account, where it is known where that is.
    pub(crate) fn new(known: &Known<'_>, role: &Parts) -> Self {
        Self(Arc::new(Inner {
            mode: known.settings.mode(known.tls.on()),
            house: known.tls.prefix(),
            workloads: known.workloads.clone(),
            keys: role.peers.find("account").map(|account| Keys::new(account, &role.background)),
            word: known.word.clone(),
            clock: role.clock.clone(),
            denied: role.telemetry.meter().u64_counter("trivet.server.denied").build(),
            said: RateLimiter::direct(Quota::per_second(SAID)),
        }))
    }

    /// Who makes a call, and for whom; or why it is not to be made. Where the mode is to audit, what somebody may not do
    /// is done all the same, as the one who they are; and who is nobody is an operator.
    async fn admit(&self, request: &http::request::Parts, context: &Context) -> Result<Admitted, Refusal> {
        let path = request.uri.path();
        if needed(path) == Needed::Nothing {
            let (caller, tenant) = (context.caller.clone(), context.tenant.clone());
            return Ok(Admitted { caller, tenant, lapse: None });
        }
        let named = named_tenant(&request.headers)?;
        let audits = self.0.mode == IdentityMode::Audit;
        let who = match self.identify(request, context).await.and_then(|who| who.ok_or_else(missing)) {
            Ok(who) => who,
            Err(refusal) if audits && refusal.reason().code() == tonic::Code::Unauthenticated => {
                self.note(context, &refusal);
                let grant = Grant::for_any(Rights::All);
                Identified { caller: Caller::Operator, grant, credential: Credential::Lasting }
            }
            Err(refusal) => return Err(refusal),
        };
        let (tenant, verdict) = who.judge(path, named);
        match verdict {
            Err(refusal) if audits => self.note(context, &refusal),
            verdict => verdict?,
        }
        let short = context.method.is_some_and(|method| method.unary);
        let lapse = if short { None } else { self.lapse(context, &who.credential) };
        Ok(Admitted { caller: who.caller, tenant, lapse })
    }

    /// Who makes a call; `None` where it comes without any credential.
    async fn identify<'r>(
        &self,
        request: &'r http::request::Parts,
        context: &Context,
    ) -> Result<Option<Identified<'r>>, Refusal> {
        if let Some(secret) = bearer(&request.headers)? {
            let keys = self.0.keys.as_ref().ok_or_else(|| refused("API keys are not taken here", "UNKNOWN"))?;
            let holder = keys.holder(context, secret).await?;
            return Ok(Some(Identified {
                caller: Caller::Key(holder.key_id.clone()),
                grant: holder.grant.clone(),
                credential: Credential::Key(secret),
            }));
        }
        if let Some(peer) = request.extensions.get::<Transport>().and_then(|transport| transport.peer.as_ref()) {
            // A connection may live longer than the certificate that was shown when it was opened.
            return if self.0.clock.now() < peer.until { Ok(Some(self.workload(peer))) } else { Err(expired()) };
        }
        let (grant, credential) = (Grant::for_any(Rights::House(WHOLE)), Credential::Lasting);
        let itself = Identified { caller: Caller::Itself, grant, credential };
        Ok(self.0.word.as_ref().is_some_and(|word| word.is_in(&request.headers)).then_some(itself))
    }

    fn workload(&self, Certified { id, until }: &Certified) -> Identified<'static> {
        let credential = Credential::Certificate(*until);
        if let Some(service) = id.as_str().strip_prefix(&*self.0.house).and_then(Rights::of_house) {
            let grant = Grant::for_any(Rights::House(service));
            return Identified { caller: Caller::Service(service), grant, credential };
        }
        // Whom nothing is said of may do nothing.
        let nothing = || Grant::of([], Tenants::One(Tenant::default_tenant()));
        let grant = self.0.workloads.get(id).cloned().unwrap_or_else(nothing);
        Identified { caller: Caller::Workload(id.clone()), grant, credential }
    }

    /// Whether a caller may be shown by what it calls itself before it is known who calls: where its connection says that it
    /// can be so, or nobody asks.
    pub(crate) fn believes(&self, name: &str, request: &Request<Body>) -> bool {
        let peer = || request.extensions().get::<Transport>().and_then(|transport| transport.peer.as_ref());
        let service = |peer: &Certified| {
            peer.id.as_str().strip_prefix(&*self.0.house).is_some_and(|id| id == name || id == WHOLE)
        };
        match &self.0.word {
            _ if self.0.mode == IdentityMode::Off => true,
            Some(word) => word.is_in(request.headers()),
            None => peer().is_some_and(service),
        }
    }

    /// Says and counts that a call is, or would be, refused.
    fn note(&self, context: &Context, refusal: &Refusal) {
        let method = context.method.map_or("other", |method| method.path.trim_start_matches('/'));
        let audit = self.0.mode == IdentityMode::Audit;
        let reason = refusal.reason().name();
        let mode = if audit { "audit" } else { "enforce" };
        let labels = [("rpc.method", method), ("reason", reason), ("mode", mode)];
        self.0.denied.add(1, &labels.map(|(name, value)| KeyValue::new(name, value)));
        if self.0.said.check().is_err() {
            return;
        }
        let (request_id, message) = (&context.request_id, refusal.message());
        if audit {
            warn!(rpc.method = method, request.id = %request_id, reason, "{method} would be refused: {message}");
        } else {
            info!(rpc.method = method, request.id = %request_id, reason, "{method} was refused: {message}");
        }
    }
}

impl Stage<Infallible> for Identity {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Infallible>) -> Reply<Infallible> {
        let (mut head, body) = std::mem::take(request).into_parts();
        let Some(context) = head.extensions.get::<Context>() else {
            // A stack in another order would let everybody in.
            return Ok(Status::internal("nobody knows which call this is").into_http());
        };
        let admitted = match self.0.mode {
            IdentityMode::Off => operator(&head.headers),
            _ => self.admit(&head, context).await,
        };
        // What cannot be read is refused whoever sends it, and an outage is no verdict.
        let denied = |refusal: &&Refusal| {
            matches!(refusal.reason().code(), tonic::Code::Unauthenticated | tonic::Code::PermissionDenied)
        };
        if let Some(refusal) = admitted.as_ref().err().filter(denied) {
            self.note(context, refusal);
        }
        match admitted {
            Ok(Admitted { caller, tenant, lapse }) => {
                let kind = kind(&caller);
                if let Some(context) = head.extensions.get_mut::<Context>() {
                    (context.caller, context.tenant) = (caller, tenant);
                }
                // Handlers have no use for secrets.
                head.headers.remove(AUTHORIZATION);
                head.headers.remove(&PROCESS);
                *request = Request::from_parts(head, body);
                let mut response = match lapse {
                    None => next.go(request).await?,
                    // On the heap, where it is no part of the way of all the others.
                    Some(lapse) => Box::pin(lapse::until(lapse, request, next)).await?,
                };
                if let Some(kind) = kind {
                    response.extensions_mut().insert(kind);
                }
                Ok(response)
            }
            Err(refusal) => {
                let mut response = refuse(&context.request_id, refusal);
                if self.0.mode != IdentityMode::Off {
                    response.extensions_mut().insert(Kind::NOBODY);
                }
                Ok(response)
            }
        }
    }
}

/// What those who watch are told of a caller, where that counts rather than what it calls itself.
fn kind(caller: &Caller) -> Option<Kind> {
    match caller {
        // Each of several roles of a process says which it is.
        Caller::Operator | Caller::Itself | Caller::Service(WHOLE) => None,
        Caller::Service(name) => Some(Kind(name)),
        Caller::Workload(_) => Some(Kind("workload")),
        Caller::Key(_) => Some(Kind("key")),
    }
}

/// Anybody, for the tenant that is named.
fn operator(headers: &HeaderMap) -> Result<Admitted, Refusal> {
    let tenant = named_tenant(headers)?.unwrap_or_else(Tenant::default_tenant);
    Ok(Admitted { caller: Caller::Operator, tenant, lapse: None })
}

/// The tenant that the caller names, if it names one.
fn named_tenant(headers: &HeaderMap) -> Result<Option<Tenant>, Refusal> {
    let mut named = headers.get_all(&TENANT).iter();
    let Some(first) = named.next() else { return Ok(None) };
    // Of two, somebody on the way would have meant the other one.
    let one = if named.next().is_some() { None } else { first.to_str().ok() };
    let mut fields = Fields::default();
    let tenant = fields.read(TENANT.as_str(), Tenant::parse(one.unwrap_or("\u{fffd}")));
    fields.finish((tenant,)).map(|(tenant,)| Some(tenant))
}

/// The secret that a caller sends.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let parts = value.to_str().ok().filter(|_| values.next().is_none()).and_then(|text| text.split_once(' '));
    match parts {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(secret.trim())),
        _ => Err(refused("authorization must be sent once, as `Bearer` and an API key", "MALFORMED")),
    }
}

fn missing() -> Refusal {
    let message = "the call needs an API key (authorization: Bearer ..) or the certificate of a workload";
    Refusal::new(Reason::CredentialsMissing, message)
}

#[cfg(test)]
mod tests;
