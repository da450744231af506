//! What a process is made of: roles, what each is made from, and how they reach each other.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use http::Request;
use tonic::{body::Body, server::NamedService, service::RoutesBuilder};
use tower::Service;

use super::StartError;
use crate::{
    Background, CallSettings, Clock, Peer, Store, Streams, Target, Telemetry, Tls, TokenKey,
    call::Calling,
    events::Handlers,
    serve::ProcessWord,
    status::{Check, Finding},
    store::Migration,
};

/// One service of the house, ready to be started.
pub struct Role {
    /// `billing`.
    pub name: &'static str,
    /// Its schema, step by step.
    pub migrations: Vec<Migration>,
    /// Settings of its PostgreSQL connections beyond those that all have: name and value.
    pub postgres: &'static [(&'static str, &'static str)],
    /// Makes its rpcs from what the process gives it.
    pub services: Box<dyn FnOnce(Parts) -> Result<Services, StartError> + Send>,
}

/// What a role is made from.
#[derive(Clone)]
pub struct Parts {
    /// Its database, migrated.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// What its page tokens are authenticated with.
    pub tokens: TokenKey,
    /// The other services.
    pub peers: Peers,
    /// Where it does what no call asks for.
    pub background: Background,
    /// For instruments of its own.
    pub telemetry: Arc<Telemetry>,
    /// For answers that are streams.
    pub streams: Streams,
}

/// The rpcs of one role, and what it does about events.
#[derive(Default)]
pub struct Services {
    pub(super) routes: RoutesBuilder,
    pub(super) names: Vec<&'static str>,
    pub(super) handlers: Handlers,
    pub(super) checks: Vec<Check>,
}

impl Services {
    /// Adds a generated server.
    #[must_use]
    pub fn with<S>(mut self, server: S) -> Self
    where
        S: Service<Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        self.routes.add_service(server);
        self.names.push(S::NAME);
        self
    }

    /// Has GetStatus look at this, too, under this name.
    #[must_use]
    pub fn checking<F>(mut self, name: &'static str, look: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Finding> + Send + 'static,
    {
        self.checks.push(Check::new(name, look));
        self
    }

    /// Hears events with these handlers.
    #[must_use]
    pub fn hearing(self, handlers: Handlers) -> Self {
        Self { handlers, ..self }
    }
}

/// The other services, by name.
#[derive(Clone)]
pub struct Peers {
    /// Who calls them.
    pub(super) role: Option<&'static str>,
    pub(super) targets: Arc<BTreeMap<&'static str, Target>>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) settings: CallSettings,
    pub(super) tls: Option<Tls>,
    /// What roles of this process know each other by, where no certificate says who they are, and which those are.
    pub(super) said: Option<(ProcessWord, Vec<&'static str>)>,
}

impl Peers {
    /// The same as this role calls them.
    pub(super) fn of(&self, role: &'static str) -> Self {
        Self { role: Some(role), ..self.clone() }
    }

    /// The channel to a service that the role cannot do without.
    pub fn get(&self, name: &'static str) -> Result<Peer, StartError> {
        self.find(name).ok_or(StartError::NoPeer(name))
    }

    /// The channel to a service that the role can do without; `None` where nobody said where it is.
    pub fn find(&self, name: &'static str) -> Option<Peer> {
        let target = self.targets.get(name)?;
        Some(self.peer(name, target, self.settings))
    }

    /// Channels to every service that is known but this one, called with these settings rather than those of the plan.
    pub(crate) fn others(&self, role: &'static str, settings: CallSettings) -> impl Iterator<Item = Peer> {
        let others = self.targets.iter().filter(move |(name, _)| **name != role);
        others.map(move |(name, target)| self.peer(name, target, settings))
    }

    fn peer(&self, name: &'static str, target: &Target, settings: CallSettings) -> Peer {
        let role = self.role.and_then(|role| self.telemetry.observer.label(role));
        let tls = self.tls.as_ref().map(|tls| tls.toward(name));
        let peer = Peer::called_by(Calling { role, tls }, name, target, self.telemetry.clone(), settings);
        match &self.said {
            Some((word, here)) if here.contains(&name) => peer.saying(word),
            _ => peer,
        }
    }
}
