//! Events: what a service tells the others, written in the transaction that makes it true, and felt by each of them once
//! (money.md, section E).
//!
//! An event is a message of the contract with `option (trivet.mesh.v1.event_type)`. [`publish`] puts it into the outbox
//! of the service's own database; nothing else ever publishes, so that no event is lost and none is told of what did not
//! happen. From there on, in the order of the modules: the relay takes it out, a bus carries it, a consumer receives it
//! into its inbox and calls the service's handler, all in one transaction; what fails becomes a letter. EventService
//! shows all of that, and mends it.

mod outbox;
mod relay;

mod bus;
mod embedded;
mod nats;

mod cloud;
mod consumer;
mod handlers;
mod inbox;
mod letters;

mod carrier;
mod instruments;
mod settings;

mod dead;
mod flow;
mod follow;
mod replay;
mod rpc;
mod tail;

use std::{sync::Arc, time::Duration};

use opentelemetry::trace::SpanContext;
use trivet_proto::Event;

pub use cloud::CloudEvent;
pub use follow::{Change, Follower};
pub use handlers::{Effect, Handled, HandlerError, Handlers, Heard};
pub use settings::EventSettings;

use crate::{
    Background, Clock, Context, Store, StoreError, Telemetry, Tenant, Time,
    status::{Check, Finding},
    store::{Migration, Transaction, Writes},
    telemetry::w3c,
};
use bus::Bus;
use carrier::Carrier;
use consumer::{Consumer, Hearing};
use embedded::Embedded;
use instruments::Instruments;
use nats::Nats;
use outbox::Backlog;
use relay::Relay;
pub(crate) use rpc::server;

/// An event that waits for longer than this to be told is late.
const LATE: Duration = Duration::from_mins(1);

/// The tables behind it, in the order in which they came: migrations of every service, for it tells and hears.
pub const MIGRATIONS: [Migration; 6] =
    [outbox::MIGRATION, outbox::ORDER, inbox::MIGRATION, letters::MIGRATION, outbox::POSITIONS, outbox::WAITING];

/// What makes events happen: a call, whose rows they are of, when, and in which trace.
#[derive(Clone)]
pub struct Origin {
    tenant: Tenant,
    time: Time,
    trace: SpanContext,
    /// The event whose handling it is; empty for a call.
    causation_id: String,
    clock: Clock,
}

impl Origin {
    /// This call, now.
    pub fn of(context: &Context, clock: &Clock) -> Self {
        Self {
            tenant: context.tenant.clone(),
            time: clock.now(),
            trace: context.trace.clone(),
            causation_id: String::new(),
            clock: clock.clone(),
        }
    }

    /// The W3C `traceparent` of the call; empty where it has no trace.
    fn traceparent(&self) -> String {
        w3c::traceparent(&self.trace).unwrap_or_default()
    }
}

/// What an event is about. Events of one aggregate are told in the order of its versions.
#[derive(Clone, Copy, Debug)]
pub struct Aggregate<'a> {
    /// What sort of thing, `user`.
    pub kind: &'static str,
    /// Its id, which is the event's CloudEvents `subject`.
    pub id: &'a str,
    /// Its version once the event has happened.
    pub version: i64,
}

/// An event that is to be written down: with what it is about, and not yet with whose it is.
#[derive(Clone)]
pub struct Draft {
    aggregate: &'static str,
    subject: String,
    aggregate_version: i64,
    kind: &'static str,
    data_schema: &'static str,
    data: Vec<u8>,
}

impl Draft {
    /// An event about an aggregate.
    pub fn new<E: Event>(about: Aggregate<'_>, event: &E) -> Self {
        Self {
            aggregate: about.kind,
            subject: about.id.to_owned(),
            aggregate_version: about.version,
            kind: E::KIND.kind,
            data_schema: E::KIND.message,
            data: event.encode_to_vec(),
        }
    }
}

/// Writes an event down, to be told once the transaction is committed. It must hold the lock of the aggregate's row, so
/// that the outbox has the aggregate's events in the order of their commits.
pub async fn publish<E: Event>(
    transaction: &Transaction,
    origin: &Origin,
    aggregate: Aggregate<'_>,
    event: &E,
) -> Result<(), StoreError> {
    publish_all(transaction, origin, vec![Draft::new(aggregate, event)]).await
}

/// Writes events down in their order, many with one statement. What holds for [`publish`] holds for each of them.
pub async fn publish_all(transaction: &Transaction, origin: &Origin, drafts: Vec<Draft>) -> Result<(), StoreError> {
    let mut writes = Writes::new(transaction);
    publish_each(&mut writes, drafts.into_iter().map(|draft| (origin.clone(), draft)).collect())?;
    writes.run(transaction).await
}

/// Adds to what is written that events of several origins are written down, in their order. What holds for [`publish`] holds
/// for each of them.
pub fn publish_each(writes: &mut Writes, drafts: Vec<(Origin, Draft)>) -> Result<(), StoreError> {
    outbox::insert(writes, drafts)
}

/// The events of a process, before they flow.
pub(crate) struct Events {
    settings: EventSettings,
    clock: Clock,
    instruments: Arc<Instruments>,
    embedded: Option<Arc<Embedded>>,
    bus: Arc<dyn Bus>,
    consumers: Vec<Consumer>,
}

impl Events {
    /// Over the bus that the settings name; an error says why that cannot be.
    pub(crate) async fn new(
        settings: &EventSettings,
        clock: &Clock,
        telemetry: &Arc<Telemetry>,
    ) -> Result<Self, String> {
        let (bus, embedded): (Arc<dyn Bus>, _) = if settings.nats_url.reveal().is_empty() {
            let embedded = Arc::new(Embedded::default());
            (embedded.clone(), Some(embedded))
        } else {
            (Arc::new(Nats::connect(settings).await?), None)
        };
        let (settings, clock) = (settings.clone(), clock.clone());
        let instruments = Arc::new(Instruments::new(telemetry.clone()));
        Ok(Self { settings, clock, instruments, embedded, bus, consumers: Vec::new() })
    }

    /// Adds a service, with what it does about events.
    pub(crate) fn add(&mut self, name: &'static str, store: &Store, handlers: Handlers) {
        let (clock, settings, instruments) = (self.clock.clone(), self.settings.clone(), self.instruments.clone());
        let hearing = Hearing { name, store: store.clone(), handlers, clock, settings, instruments };
        self.consumers.push(Consumer::new(hearing));
    }

    /// Lets them flow until the background ends.
    pub(crate) fn start(self, background: &Background) {
        if let Some(embedded) = &self.embedded {
            embedded.connect(self.consumers.clone());
        }
        for consumer in self.consumers {
            let (name, store) = (consumer.name(), consumer.store().clone());
            let relay = Relay {
                source: name,
                store: store.clone(),
                bus: self.bus.clone(),
                clock: self.clock.clone(),
                settings: self.settings.clone(),
                instruments: self.instruments.clone(),
            };
            let (bus, clock, instruments) = (self.bus.clone(), self.clock.clone(), self.instruments.clone());
            let carrier = Carrier { name, store, relay, consumer, bus, clock, instruments };
            background.spawn(|end| carrier.carry(end));
        }
    }

    /// Looks at the events of a service: at the bus, and at what waits for it.
    pub(crate) fn check(&self, store: &Store) -> Check {
        let (bus, store, clock) = (self.bus.clone(), store.clone(), self.clock.clone());
        Check::new("events", move || {
            let (bus, store, clock) = (bus.clone(), store.clone(), clock.clone());
            async move {
                let found = bus.state().await;
                if !matches!(found, Finding::Ok | Finding::Noted(_)) {
                    return found;
                }
                match outbox::backlog(store.reader()).await {
                    Ok(Backlog { waiting, oldest: Some(oldest) }) if clock.now().since(oldest) > LATE => {
                        Finding::Degraded(format!("{waiting} events wait to be told, the oldest for over a minute"))
                    }
                    Ok(_) => found,
                    Err(_) => Finding::Degraded("the database does not say what waits to be told".to_owned()),
                }
            }
        })
    }
}
