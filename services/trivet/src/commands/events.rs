//! `trivet events`: what the services tell and hear, for people at a terminal and for programs in a pipe.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind, IsTerminal as _, Write as _},
    pin::pin,
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use futures_util::{StreamExt as _, stream::SelectAll};
use mesh::{Peer, Reason, Tenant, chain, page};
use prost_types::Timestamp;
use serde::Serialize;
use trivet_proto::mesh::v1::{
    DeadLetter, DiscardDeadLetterRequest, EventFlow, GetEventFlowRequest, ListDeadLettersRequest,
    ListDeadLettersResponse, ReplayDeadLetterRequest, ReplayEventsRequest, ReplayEventsResponse, TailEventsRequest,
    TailEventsResponse, event_service_client::EventServiceClient,
};

use super::{
    output::table,
    service::{Service, ask, services},
};
use crate::Config;

/// What to do about events.
#[derive(Subcommand)]
pub enum EventsCommand {
    /// Shows events as they are told, one JSON object per line, until Ctrl-C.
    Tail {
        /// Whom to ask.
        #[command(flatten)]
        at: At,
        /// Events of this type, such as user.created. May be given several times; without it, of all types.
        #[arg(long = "type", value_name = "TYPE")]
        types: Vec<String>,
        /// Events about this, a user's id for instance.
        #[arg(long, default_value = "", hide_default_value = true)]
        subject: String,
        /// Events that came after this one, of one service; without it, those that come from now on.
        #[arg(long, value_name = "EVENT_ID", requires = "address", default_value = "", hide_default_value = true)]
        after: String,
    },
    /// Lists events that were given up, or does something about one of them.
    Dead {
        /// Whom to ask.
        #[command(flatten)]
        at: At,
        /// Tries this one again, and then what waits behind it.
        #[arg(long, value_name = "EVENT_ID", conflicts_with = "discard")]
        replay: Option<String>,
        /// Gives this one up for good; what waits behind it follows.
        #[arg(long, value_name = "EVENT_ID")]
        discard: Option<String>,
    },
    /// Counts what was told and what was heard, by type.
    Flow {
        /// Whom to ask.
        #[command(flatten)]
        at: At,
    },
    /// Tells all tenants' events again, for a bus that lost its store.
    Replay {
        /// host:port of one service; all three where it is left out.
        #[arg(long)]
        address: Option<String>,
        /// Events of this time and later, such as 2026-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        from: Timestamp,
    },
}

/// Whom to ask, and for whom.
#[derive(Args)]
pub struct At {
    /// host:port of one service; all three where it is left out.
    #[arg(long)]
    address: Option<String>,
    /// Whose events.
    #[arg(long, default_value = "default", value_parser = Tenant::parse)]
    tenant: Tenant,
}

/// Does it, and says what there is to say in the end.
pub async fn events(config: &Config, command: EventsCommand) -> anyhow::Result<String> {
    match command {
        EventsCommand::Tail { at, types, subject, after } => {
            let request = TailEventsRequest { types, subject, after_event_id: after };
            tail(&services(config, at.address.as_deref(), &at.tenant).await?, &request).await.map(|()| String::new())
        }
        EventsCommand::Dead { at, replay, discard } => {
            let services = services(config, at.address.as_deref(), &at.tenant).await?;
            match (replay, discard) {
                (Some(event_id), _) => treat(&services, &event_id, "is tried again", Service::replay_dead).await,
                (_, Some(event_id)) => treat(&services, &event_id, "is discarded", Service::discard_dead).await,
                (None, None) => dead(&services).await,
            }
        }
        EventsCommand::Flow { at } => flow(&services(config, at.address.as_deref(), &at.tenant).await?).await,
        EventsCommand::Replay { address, from } => {
            // The tenant is nobody's: all events are told again.
            replay(&services(config, address.as_deref(), &Tenant::default_tenant()).await?, from).await
        }
    }
}

impl Service {
    fn events(&self) -> EventServiceClient<Peer> {
        EventServiceClient::new(self.peer.clone())
    }

    /// Whether it had this dead letter, which is tried again.
    async fn replay_dead(&self, event_id: String) -> anyhow::Result<bool> {
        let request = self.call().onward(ReplayDeadLetterRequest { event_id });
        match self.events().replay_dead_letter(request).await {
            Err(status) if Reason::of(&status) == Some(Reason::EventNotFound) => Ok(false),
            answer => Ok(answer.map(|_| true)?),
        }
    }

    /// Whether it had this dead letter, which is gone.
    async fn discard_dead(&self, event_id: String) -> anyhow::Result<bool> {
        let request = self.call().onward(DiscardDeadLetterRequest { event_id });
        match self.events().discard_dead_letter(request).await {
            Err(status) if Reason::of(&status) == Some(Reason::EventNotFound) => Ok(false),
            answer => Ok(answer.map(|_| true)?),
        }
    }

    async fn dead(&self) -> anyhow::Result<ListDeadLettersResponse> {
        let page_size = i32::try_from(page::MAX_SIZE).unwrap_or(i32::MAX);
        let request = self.call().onward(ListDeadLettersRequest { page_size, page_token: String::new() });
        Ok(self.events().list_dead_letters(request).await?.into_inner())
    }

    async fn flow(&self) -> anyhow::Result<Vec<EventFlow>> {
        let request = self.call().onward(GetEventFlowRequest {});
        Ok(self.events().get_event_flow(request).await?.into_inner().flows)
    }
}

/// An event as a line of JSON.
#[derive(Serialize)]
struct Line {
    event_id: String,
    r#type: String,
    source: String,
    subject: String,
    time: String,
    aggregate: String,
    aggregate_version: i64,
    causation_id: String,
    traceparent: String,
    /// Null where the service does not know the message.
    data: serde_json::Value,
}

impl From<TailEventsResponse> for Line {
    fn from(event: TailEventsResponse) -> Self {
        Self {
            event_id: event.event_id,
            r#type: event.r#type,
            source: event.source,
            subject: event.subject,
            time: event.time.unwrap_or_default().to_string(),
            aggregate: event.aggregate,
            aggregate_version: event.aggregate_version,
            causation_id: event.causation_id,
            traceparent: event.traceparent,
            data: serde_json::from_str(&event.data).unwrap_or_default(),
        }
    }
}

/// Prints events as they come, until Ctrl-C or until nobody reads them any more.
async fn tail(services: &[Service], request: &TailEventsRequest) -> anyhow::Result<()> {
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    let tails = ask(services, async |service| {
        Ok(service.events().tail_events(service.call().onward(request.clone())).await?.into_inner())
    });
    let mut events = SelectAll::new();
    for (service, tail) in tails.await? {
        events.push(tail.map(move |event| (service, event)));
    }
    let mut output = io::stdout();
    loop {
        let next = tokio::select! {
            biased;
            heard = interrupt.as_mut() => return heard.context("Ctrl-C cannot be heard"),
            next = events.next() => next,
        };
        let Some((service, event)) = next else { bail!("there is nothing more to come") };
        let event = event.with_context(|| format!("{} ends", service.name))?;
        let line = serde_json::to_string(&Line::from(event))?;
        match writeln!(output, "{line}").and_then(|()| output.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
}

/// Does something about the dead letter of this event, wherever it is.
async fn treat(
    services: &[Service],
    event_id: &str,
    done: &str,
    treatment: impl AsyncFn(&Service, String) -> anyhow::Result<bool>,
) -> anyhow::Result<String> {
    let found = ask(services, async |service| treatment(service, event_id.to_owned()).await).await?;
    let names: Vec<_> = found.iter().filter(|(_, found)| *found).map(|(service, _)| service.name.as_str()).collect();
    if names.is_empty() {
        bail!("there is no dead letter of an event {event_id}");
    }
    Ok(format!("{event_id} {done} ({})\n", names.join(", ")))
}

/// The dead letters as a table, oldest first.
async fn dead(services: &[Service]) -> anyhow::Result<String> {
    let mut letters: Vec<DeadLetter> = Vec::new();
    let mut left_out = String::new();
    for (service, page) in ask(services, Service::dead).await? {
        letters.extend(page.dead_letters);
        if !page.next_page_token.is_empty() {
            let _ = writeln!(left_out, "and more of {}", service.name);
        }
    }
    if letters.is_empty() {
        return Ok("There are no dead letters.\n".to_owned());
    }
    letters.sort_by_key(|letter| letter.fail_time.map(|time| (time.seconds, time.nanos)));
    let rows = letters.into_iter().map(|letter| {
        [
            letter.fail_time.unwrap_or_default().to_string(),
            letter.consumer,
            letter.r#type,
            letter.subject,
            letter.event_id,
            letter.attempts.to_string(),
            letter.waiting.to_string(),
            letter.cause,
        ]
    });
    let header = ["TIME", "CONSUMER", "TYPE", "SUBJECT", "EVENT", "ATTEMPTS", "WAITING", "CAUSE"];
    Ok(table(header, rows.collect()) + &left_out)
}

/// The flow as a table, service by service.
async fn flow(services: &[Service]) -> anyhow::Result<String> {
    let mut rows = Vec::new();
    for (service, flows) in ask(services, Service::flow).await? {
        rows.extend(flows.into_iter().map(|flow| {
            let heard_by = if flow.consumer.is_empty() { "-".to_owned() } else { flow.consumer };
            let age = flow.oldest_age.unwrap_or_default();
            let counts = [flow.published, flow.delivered, flow.retried, flow.dead, flow.lag];
            let [published, delivered, retried, dead, lag] = counts.map(|count| count.to_string());
            let name = service.name.clone();
            [name, flow.r#type, heard_by, published, delivered, retried, dead, lag, format!("{} s", age.seconds)]
        }));
    }
    if rows.is_empty() {
        return Ok("No events were told or heard.\n".to_owned());
    }
    let header = ["SERVICE", "TYPE", "HEARD BY", "PUBLISHED", "DELIVERED", "RETRIED", "DEAD", "LAG", "OLDEST"];
    Ok(table(header, rows))
}

/// Tells everything again, one service after the other, and says how far it is.
async fn replay(services: &[Service], from: Timestamp) -> anyhow::Result<String> {
    let mut failed = Vec::new();
    for service in services {
        if let Err(error) = replay_one(service, from).await {
            eprintln!("trivet: {}: {}", service.name, chain(error.as_ref()));
            failed.push(service.name.as_str());
        }
    }
    if failed.is_empty() { Ok(String::new()) } else { bail!("not all is told again: {}", failed.join(", ")) }
}

async fn replay_one(service: &Service, from: Timestamp) -> anyhow::Result<()> {
    let request = service.call().onward(ReplayEventsRequest { from_time: Some(from) });
    let mut steps = service.events().replay_events(request).await?.into_inner();
    let mut output = io::stdout();
    // Someone at a terminal sees one line that changes; a file gets a line for each step.
    let (start, end) = if output.is_terminal() { ("\r", "") } else { ("", "\n") };
    while let Some(ReplayEventsResponse { replayed, total }) = steps.message().await? {
        write!(output, "{start}{}: {replayed} of {total} events are told again{end}", service.name)?;
        output.flush()?;
    }
    if output.is_terminal() {
        writeln!(output)?;
    }
    Ok(())
}
