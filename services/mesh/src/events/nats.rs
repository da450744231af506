//! NATS JetStream: one stream, in which the events of all services stand in the order in which their relays told them;
//! one durable pull consumer for each service that hears.
//!
//! The stream is a copy of the outboxes and may be lost: what was acknowledged may not have reached a disk yet, and an
//! id is only known to have been taken for two minutes. Outbox and inbox are what counts (money.md, section E).

mod message;
mod session;
mod stream;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_nats::{
    ConnectOptions, Event, ServerAddr,
    jetstream::{self, context::PublishErrorKind},
};
use futures_util::{StreamExt as _, stream as futures};
use percent_encoding::percent_decode_str;
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};
use tonic::async_trait;
use tracing::{info, warn};

use super::{
    CloudEvent, Consumer, EventSettings,
    bus::{Bus, Fate},
    cloud::AggregateKey,
};
use crate::{chain, status::Finding};

/// Aggregates told at the same time; each of them waits for its own acknowledgements.
const AT_ONCE: usize = 256;
/// How long one answer of JetStream may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The wait before a connection is tried again: it grows from the first to the last of these.
const RECONNECT: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// A fault that was not found again for so long is none any more. Longer than the relay waits before it tries again.
const FAULT: Duration = Duration::from_secs(15);
/// The wait before a consumer's session begins again after it failed.
const SESSION_WAIT: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Nats {
    jetstream: jetstream::Context,
    settings: EventSettings,
    /// Counts connections: odd while there is one, even while there is none.
    connection: watch::Receiver<u64>,
    /// In which connection the stream was found to be there and as it must be. The lock is held while it is made or
    /// looked at, so that this is done once.
    checked: Mutex<Option<u64>>,
    /// What is wrong with the stream, or why it took an event not, and since when that is known.
    fault: watch::Sender<Option<(Instant, String)>>,
    /// Whether a lost consumer is worth a line in the log: once, until it is found again.
    said: AtomicBool,
}

impl Nats {
    /// Connects in the background, for ever: a NATS that is away is waited for.
    pub(super) async fn connect(settings: &EventSettings) -> Result<Self, String> {
        let addresses: Result<Vec<ServerAddr>, _> =
            settings.nats_url.reveal().split(',').map(|address| address.trim().parse::<ServerAddr>()).collect();
        let addresses = addresses.map_err(|error| error.to_string())?;
        let (sender, connection) = watch::channel(0_u64);
        let mut options = ConnectOptions::new();
        // The client does not take them out of the address by itself.
        if let Some((user, password)) = addresses.iter().find_map(|address| address.username().zip(address.password()))
        {
            let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
            options = options.user_and_password(decoded(user), decoded(password));
        }
        let client = options
            .name("trivet")
            .retry_on_initial_connect()
            .max_reconnects(None)
            .reconnect_delay_callback(|attempts| {
                let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
                RECONNECT[0].saturating_mul(2_u32.saturating_pow(doublings)).min(RECONNECT[1])
            })
            .event_callback(move |event| {
                match &event {
                    Event::Connected => {
                        info!("NATS is there");
                        sender.send_modify(|count| *count += 1 + *count % 2);
                    }
                    Event::Disconnected => {
                        warn!("NATS is away; events wait in the outboxes");
                        sender.send_modify(|count| *count += *count % 2);
                    }
                    other => tracing::debug!("NATS says: {other}"),
                }
                std::future::ready(())
            })
            .connect(addresses)
            .await
            .map_err(|error| chain(&error))?;
        let jetstream = jetstream::context::ContextBuilder::new().timeout(TIMEOUT).ack_timeout(TIMEOUT).build(client);
        Ok(Self {
            jetstream,
            settings: settings.clone(),
            connection,
            checked: Mutex::new(None),
            fault: watch::Sender::new(None),
            said: AtomicBool::new(false),
        })
    }

    /// The number of the connection that there is.
    fn connected(&self) -> Option<u64> {
        let count = *self.connection.borrow();
        (count % 2 == 1).then_some(count)
    }

    /// Makes sure that there is a stream as it must be: once for each connection, since a server that comes back may have
    /// lost what it took last.
    async fn ready(&self) -> Result<(), String> {
        let connection = self.connected().ok_or("NATS cannot be reached")?;
        let mut checked = self.checked.lock().await;
        if *checked == Some(connection) {
            return Ok(());
        }
        let made = stream::make_or_check(&self.jetstream, &self.settings).await;
        self.note(made.as_ref().err());
        made?;
        *checked = Some(connection);
        Ok(())
    }

    /// Notes what is wrong, or that nothing is.
    fn note(&self, fault: Option<&String>) {
        self.fault.send_replace(fault.map(|fault| (Instant::now(), fault.clone())));
    }

    /// Looks at the stream again before it is used the next time.
    async fn doubt(&self) {
        *self.checked.lock().await = None;
    }

    /// Tells the events of one aggregate, in their order, up to the first that is not told.
    async fn tell_one_after_the_other(&self, events: Vec<(usize, &CloudEvent)>) -> Vec<(usize, Fate)> {
        let mut fates = Vec::with_capacity(events.len());
        let mut stopped: Option<String> = None;
        for (position, event) in events {
            let fate = match &stopped {
                None => self.tell_one(event).await,
                Some(cause) => Fate::Later(cause.clone()),
            };
            if let (None, Fate::Refused(cause) | Fate::Later(cause)) = (&stopped, &fate) {
                stopped = Some(cause.clone());
            }
            fates.push((position, fate));
        }
        fates
    }

    async fn tell_one(&self, event: &CloudEvent) -> Fate {
        let (headers, payload) = match message::write(event, self.settings.nats_json) {
            Ok(message) => message,
            Err(cause) => return Fate::Refused(cause),
        };
        let subject = stream::subject(&self.settings, &event.source, &event.kind);
        let published = async {
            let acknowledged = self.jetstream.publish_with_headers(subject, headers, payload).await?;
            acknowledged.await
        };
        let mut connection = self.connection.clone();
        connection.mark_unchanged();
        let published = tokio::select! {
            published = published => published,
            // Whether it arrived nobody knows; told again, it is one event still.
            _ = connection.changed() => return Fate::Later("NATS went away".to_owned()),
        };
        let Err(error) = published else { return Fate::Told };
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Fate::Refused(format!("NATS does not take it: {}", chain(&error))),
            PublishErrorKind::StreamNotFound => {
                self.doubt().await;
                Fate::Later(chain(&error))
            }
            _ => Fate::Later(chain(&error)),
        }
    }
}

#[async_trait]
impl Bus for Nats {
    async fn tell(&self, events: &[CloudEvent]) -> Vec<Fate> {
        if let Err(cause) = self.ready().await {
            return vec![Fate::Later(cause); events.len()];
        }
        let mut aggregates: BTreeMap<AggregateKey, Vec<(usize, &CloudEvent)>> = BTreeMap::new();
        for (position, event) in events.iter().enumerate() {
            aggregates.entry(event.aggregate_key()).or_default().push((position, event));
        }
        let mut telling = Vec::with_capacity(aggregates.len());
        for events in aggregates.into_values() {
            telling.push(self.tell_one_after_the_other(events));
        }
        let told: Vec<_> = futures::iter(telling).buffer_unordered(AT_ONCE).collect().await;
        let mut fates: Vec<_> = told.into_iter().flatten().collect();
        fates.sort_unstable_by_key(|(position, _)| *position);
        let fates: Vec<Fate> = fates.into_iter().map(|(_, fate)| fate).collect();
        // A stream that is full, for instance: the status says so until it takes everything again.
        self.note(fates.iter().find_map(|fate| if let Fate::Later(cause) = fate { Some(cause) } else { None }));
        fates
    }

    async fn bring(&self, consumer: &Consumer) {
        loop {
            let mut connection = self.connection.clone();
            if connection.wait_for(|count| count % 2 == 1).await.is_err() {
                // The client is gone: the process ends.
                return std::future::pending().await;
            }
            let ended = match self.ready().await {
                Ok(()) => session::run(self, consumer).await,
                Err(cause) => cause,
            };
            if self.connected().is_some() && !self.said.swap(true, Ordering::Relaxed) {
                warn!("{} hears no events for a moment: {ended}", consumer.name());
            }
            self.doubt().await;
            tokio::time::sleep(SESSION_WAIT).await;
        }
    }

    fn is_away(&self) -> bool {
        self.connected().is_none()
    }

    async fn recovered(&self) {
        let mut connection = self.connection.clone();
        // An error says that the client is gone, and with it the process.
        let _ = connection.wait_for(|count| count % 2 == 1).await;
    }

    async fn pending(&self, consumer: &str) -> Option<u64> {
        self.connected()?;
        let stream = self.jetstream.get_stream_no_info(&self.settings.nats_stream).await.ok()?;
        Some(stream.consumer_info(consumer).await.ok()?.num_pending)
    }

    async fn state(&self) -> Finding {
        if self.connected().is_none() {
            return Finding::Down("NATS cannot be reached; events wait in the outbox".to_owned());
        }
        // A fault that lasts is found again and again; one that is not was nothing, or another process has it now.
        if let Some((since, fault)) = self.fault.borrow().clone()
            && since.elapsed() < FAULT
        {
            return Finding::Down(fault);
        }
        if self.settings.nats_replicas == 1 && !self.settings.nats_sync_always {
            let warning = "the stream has one replica, and NATS may write to disk every two minutes only: after a crash \
                           of its machine, `trivet events replay` tells again what it lost";
            return Finding::Noted(warning.to_owned());
        }
        Finding::Ok
    }
}
