//! EventService on the wire: on every port, about the events of the service behind it.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, async_trait};
use trivet_proto::mesh::v1::{
    self as wire, DiscardDeadLetterRequest, DiscardDeadLetterResponse, EventFlow, GetEventFlowRequest,
    GetEventFlowResponse, ListDeadLettersRequest, ListDeadLettersResponse, ReplayDeadLetterRequest,
    ReplayDeadLetterResponse, ReplayEventsRequest, ReplayEventsResponse, TailEventsRequest, TailEventsResponse,
    event_service_server::{EventService, EventServiceServer},
};

use super::{
    CloudEvent,
    cloud::kind_of,
    dead::{Cursor, DeadLetter, DeadLetters, NotDead, Remedy},
    flow::{Flow, Flows},
    replay::{Progress, Replay},
    tail::{Tail, Unknown, Wanted},
};
use crate::{
    Answers, Context, Fields, Parts, REQUEST_BYTES, Reason, Refusal, Streams, Time, TokenKey, id, open, page, text,
};

/// Types that a tail names at most; the contract has fewer.
const TYPES: usize = 100;
/// Bytes of an event's id: whoever tells it chooses it, and this many are kept.
const EVENT_ID_BYTES: usize = 1_024;
/// Tails of one process at once: each asks the database four times a second and oftener.
const TAILS: usize = 64;
/// When to try again where there are too many.
const TAILS_RETRY: Duration = Duration::from_secs(1);

/// EventService about the service of this name.
pub(crate) fn server(name: &'static str, parts: &Parts) -> EventServiceServer<Rpc> {
    let dead = DeadLetters { name, store: parts.store.clone(), clock: parts.clock.clone() };
    let (tokens, streams, tails) = (parts.tokens.clone(), parts.streams.clone(), Arc::new(Semaphore::new(TAILS)));
    EventServiceServer::new(Rpc { dead, tokens, streams, tails }).max_decoding_message_size(REQUEST_BYTES)
}

pub(crate) struct Rpc {
    dead: DeadLetters,
    tokens: TokenKey,
    streams: Streams,
    tails: Arc<Semaphore>,
}

#[async_trait]
impl EventService for Rpc {
    type TailEventsStream = Answers<TailEventsResponse>;

    async fn tail_events(
        &self,
        request: Request<TailEventsRequest>,
    ) -> Result<Response<Self::TailEventsStream>, Status> {
        let (context, asked) = open(request)?;
        let wanted = wanted(&context, &asked)?;
        let place = self.tails.clone().try_acquire_owned().map_err(|_| {
            let message = format!("{TAILS} callers are tailing events already");
            Refusal::new(Reason::Overloaded, message).retry_after(TAILS_RETRY)
        })?;
        let tail = Tail::begin(self.dead.name, self.dead.store.clone(), wanted).await??;
        let events = stream::try_unfold((tail, place), async |(mut tail, place)| {
            let event = tail.next().await?;
            Ok(Some((event.into(), (tail, place))))
        });
        Ok(self.streams.answer(&context, events))
    }

    async fn get_event_flow(
        &self,
        request: Request<GetEventFlowRequest>,
    ) -> Result<Response<GetEventFlowResponse>, Status> {
        let (context, _) = open(request)?;
        let Flows { told, heard } = Flows::of(&self.dead.store, &context.tenant).await?;
        let told = told.into_iter().map(|(kind, flow)| self.flow(kind, "", &flow));
        let heard = heard.into_iter().map(|(kind, flow)| self.flow(kind, self.dead.name, &flow));
        Ok(Response::new(GetEventFlowResponse { flows: told.chain(heard).collect() }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let size = fields.read("page_size", page::size(asked.page_size));
        let (size,) = fields.finish((size,))?;
        let listing = self.tokens.listing("ListDeadLetters", &context.tenant, &())?;
        let after: Option<Cursor> = listing.open(&asked.page_token)?;
        let mut dead = self.dead.list(&context.tenant, after, page::rows(size)).await?;
        let next_page_token = listing.cut(&mut dead, size, Cursor::of)?;
        let dead_letters = dead.into_iter().map(Into::into).collect();
        Ok(Response::new(ListDeadLettersResponse { dead_letters, next_page_token }))
    }

    async fn replay_dead_letter(
        &self,
        request: Request<ReplayDeadLetterRequest>,
    ) -> Result<Response<ReplayDeadLetterResponse>, Status> {
        let (context, asked) = open(request)?;
        self.dead.treat(&context, event_id(&asked.event_id)?, Remedy::Replay).await??;
        Ok(Response::new(ReplayDeadLetterResponse {}))
    }

    async fn discard_dead_letter(
        &self,
        request: Request<DiscardDeadLetterRequest>,
    ) -> Result<Response<DiscardDeadLetterResponse>, Status> {
        let (context, asked) = open(request)?;
        self.dead.treat(&context, event_id(&asked.event_id)?, Remedy::Discard).await??;
        Ok(Response::new(DiscardDeadLetterResponse {}))
    }

    type ReplayEventsStream = Answers<ReplayEventsResponse>;

    async fn replay_events(
        &self,
        request: Request<ReplayEventsRequest>,
    ) -> Result<Response<Self::ReplayEventsStream>, Status> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let from = fields.read("from_time", asked.from_time.as_ref().ok_or("is required").and_then(Time::from_wire));
        let (from,) = fields.finish((from,))?;
        let replay = Replay::begin(self.dead.store.clone(), context.clone(), from).await?;
        let beginning = stream::once(std::future::ready(Ok(replay.progress().into())));
        let steps = stream::try_unfold(replay, async |mut replay| {
            let progress = replay.step().await?;
            Ok(progress.map(|progress| (progress.into(), replay)))
        });
        Ok(self.streams.answer(&context, beginning.chain(steps)))
    }
}

impl Rpc {
    fn flow(&self, kind: String, consumer: &str, flow: &Flow) -> EventFlow {
        let age = flow.oldest.map_or(Duration::ZERO, |oldest| self.dead.clock.now().since(oldest));
        EventFlow {
            r#type: kind,
            consumer: consumer.to_owned(),
            published: flow.published,
            delivered: flow.delivered,
            retried: flow.retried,
            dead: flow.dead,
            lag: flow.lag,
            oldest_age: Some(age.try_into().unwrap_or_default()),
        }
    }
}

/// What a tail is to show.
fn wanted(context: &Context, asked: &TailEventsRequest) -> Result<Wanted, Refusal> {
    let mut fields = Fields::default();
    let kind = |kind: &str| kind_of(kind).map(|known| known.kind.to_owned()).ok_or("is no type of event");
    let kinds = match asked.types.as_slice() {
        [] => Some(Vec::new()),
        types => fields.read_batch("types", types, TYPES, kind),
    };
    let subject = fields.read("subject", text::optional_line(&asked.subject, id::MAX_LENGTH));
    let after = fields.read("after_event_id", text::paragraph(&asked.after_event_id, EVENT_ID_BYTES));
    let (kinds, subject, after) = fields.finish((kinds, subject, after))?;
    let after = Some(after).filter(|after| !after.is_empty());
    Ok(Wanted { tenant: context.tenant.clone(), kinds, subject, after })
}

/// The id of an event, as whoever told it wrote it.
fn event_id(asked: &str) -> Result<String, Refusal> {
    let mut fields = Fields::default();
    let event_id = match asked {
        "" => Err(text::Fault::Blank),
        asked => text::paragraph(asked, EVENT_ID_BYTES),
    };
    let event_id = fields.read("event_id", event_id);
    let (event_id,) = fields.finish((event_id,))?;
    Ok(event_id)
}

impl From<Unknown> for Status {
    fn from(unknown: Unknown) -> Self {
        Refusal::new(Reason::EventNotFound, &unknown).about("trivet.dev/Event", unknown.0).into()
    }
}

impl From<NotDead> for Status {
    fn from(alive: NotDead) -> Self {
        Refusal::new(Reason::EventNotFound, &alive).about("trivet.dev/Event", alive.0).into()
    }
}

impl From<Progress> for ReplayEventsResponse {
    fn from(progress: Progress) -> Self {
        Self { replayed: progress.replayed, total: progress.total }
    }
}

impl From<CloudEvent> for TailEventsResponse {
    fn from(event: CloudEvent) -> Self {
        Self {
            // An older release does not know every message; that there was an event it knows.
            data: event.json().unwrap_or_default(),
            event_id: event.event_id,
            r#type: event.kind,
            source: CloudEvent::source_uri(&event.source),
            subject: event.subject,
            time: Some(event.time.to_wire()),
            traceparent: event.traceparent,
            aggregate_version: event.aggregate_version,
            aggregate: event.aggregate,
            causation_id: event.causation_id,
            data_schema: event.data_schema,
        }
    }
}

impl From<DeadLetter> for wire::DeadLetter {
    fn from(letter: DeadLetter) -> Self {
        Self {
            event_id: letter.event_id,
            r#type: letter.kind,
            consumer: letter.consumer,
            attempts: i32::try_from(letter.attempts).unwrap_or(i32::MAX),
            cause: letter.cause,
            fail_time: Some(letter.fail_time.to_wire()),
            source: CloudEvent::source_uri(&letter.source),
            subject: letter.subject,
            aggregate_version: letter.aggregate_version,
            time: Some(letter.time.to_wire()),
            waiting: letter.waiting,
        }
    }
}
