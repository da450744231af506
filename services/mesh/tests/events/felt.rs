//! The roles that hear: each writes down what it felt, and how often it is written down is how often it was felt.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use mesh::{
    Role, Store, StoreError,
    events::{Effect, HandlerError, Handlers, Heard},
    store::{self, Migration, Row, Transaction, sql},
};
use sea_orm::ConnectionTrait as _;
use trivet_proto::account::v1::{UserProfileUpdated, UserStatusChanged};

use crate::{
    house::{Stores, role},
    told::{self, UserTeleported, number},
    waiting::reaches,
};

/// Nothing here is unique: what is felt twice is there twice.
const FELT: Migration = Migration::new("m0001_felt", "")
    .on_postgres(
        "create table felt (position bigint generated always as identity, event_id text not null, subject text not null,
                            version bigint not null, traceparent text not null, causation_id text not null)",
    )
    .on_sqlite(
        "create table felt (position integer primary key, event_id text not null, subject text not null,
                            version integer not null, traceparent text not null, causation_id text not null) strict",
    );

/// What the hand of the test makes a handler do, by subject.
#[derive(Clone, Copy)]
pub(crate) enum Mood {
    /// It refuses, this many times.
    Refuses(u32),
    /// It panics, this many times.
    Panics(u32),
    /// It feels nothing that is older than what it felt.
    FeelsTheLatest,
}

/// The moods of a handler, and how often it was called. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Moods(Arc<Mutex<BTreeMap<String, Met>>>);

/// How a handler meets events of a subject, and how often it did.
#[derive(Default)]
struct Met {
    mood: Option<Mood>,
    calls: u32,
}

impl Moods {
    pub(crate) fn set(&self, subject: &str, mood: Mood) {
        self.0.lock().unwrap().entry(subject.to_owned()).or_default().mood = Some(mood);
    }

    /// The cause is gone.
    pub(crate) fn forget(&self, subject: &str) {
        self.0.lock().unwrap().entry(subject.to_owned()).or_default().mood = None;
    }

    /// How often the handler was called for this subject.
    pub(crate) fn calls(&self, subject: &str) -> u32 {
        self.0.lock().unwrap().get(subject).map_or(0, |met| met.calls)
    }

    /// Counts a call, and answers the mood that it meets.
    fn meet(&self, subject: &str) -> Option<Mood> {
        let mut moods = self.0.lock().unwrap();
        let Met { mood, calls } = moods.entry(subject.to_owned()).or_default();
        *calls += 1;
        let met = *mood;
        match mood {
            Some(Mood::Refuses(0) | Mood::Panics(0)) => return None,
            Some(Mood::Refuses(left) | Mood::Panics(left)) => *left = left.saturating_sub(1),
            _ => {}
        }
        met
    }
}

/// A role that hears.
pub(crate) fn sink(name: &'static str, stores: &Stores, moods: &Moods) -> Role {
    role(name, FELT, stores, handlers(moods))
}

/// The same role, a release later: it knows what nobody knew before.
pub(crate) fn later_sink(name: &'static str, stores: &Stores, moods: &Moods) -> Role {
    let handlers = handlers(moods).on::<UserTeleported, _>(|heard, event, transaction| {
        Box::pin(async move { write_down(heard, &event.user_id, transaction).await })
    });
    role(name, FELT, stores, handlers)
}

fn handlers(moods: &Moods) -> Handlers {
    let (first, second) = (moods.clone(), moods.clone());
    Handlers::default()
        .on::<UserStatusChanged, _>(move |heard, event, transaction| {
            let moods = first.clone();
            Box::pin(async move { feel(&moods, heard, &event.user_id, transaction).await })
        })
        .on::<UserProfileUpdated, _>(move |heard, event, transaction| {
            let moods = second.clone();
            Box::pin(async move { feel(&moods, heard, &event.user_id, transaction).await })
        })
}

async fn feel(
    moods: &Moods,
    heard: &Heard<'_>,
    user_id: &str,
    transaction: &Transaction,
) -> Result<Effect, HandlerError> {
    let mood = moods.meet(user_id);
    if let Some(Mood::FeelsTheLatest) = mood {
        let text = "select coalesce(max(version), 0) from felt where subject = $1";
        if heard.event.aggregate_version < store::count(transaction, text, [user_id.into()]).await? {
            return Ok(Effect::Stale);
        }
    }
    // What it did before it failed must be undone.
    let effect = write_down(heard, user_id, transaction).await?;
    match mood {
        Some(Mood::Refuses(_)) => Err(HandlerError::Refused(format!("nothing of {user_id} today"))),
        Some(Mood::Panics(_)) => panic!("the handler panics, as the test wants it"),
        Some(Mood::FeelsTheLatest) | None => Ok(effect),
    }
}

async fn write_down(heard: &Heard<'_>, user_id: &str, transaction: &Transaction) -> Result<Effect, HandlerError> {
    let event = heard.event;
    let text = "insert into felt (event_id, subject, version, traceparent, causation_id) values ($1, $2, $3, $4, $5)";
    // The id of the message, not of the envelope: its body arrived, too.
    let values = [
        event.event_id.clone().into(),
        user_id.into(),
        event.aggregate_version.into(),
        event.traceparent.clone().into(),
        event.causation_id.clone().into(),
    ];
    transaction.execute_raw(sql(transaction, text, values)).await.map_err(StoreError::from)?;
    Ok(Effect::Felt)
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq, Row)]
pub(crate) struct Felt {
    pub(crate) event_id: String,
    pub(crate) subject: String,
    pub(crate) version: i64,
    pub(crate) traceparent: String,
    pub(crate) causation_id: String,
}

/// All effects, in their order.
pub(crate) async fn all(sink: &Store) -> Vec<Felt> {
    let text = "select event_id, subject, version, traceparent, causation_id from felt order by position";
    let reader = sink.reader();
    Felt::find_by_statement(sql(reader, text, [])).all(reader).await.unwrap()
}

/// The versions of a subject that were felt, in their order.
pub(crate) async fn versions(sink: &Store, subject: &str) -> Vec<i64> {
    all(sink).await.into_iter().filter(|felt| felt.subject == subject).map(|felt| felt.version).collect()
}

/// How many effects there are.
pub(crate) async fn count(sink: &Store) -> i64 {
    number(sink, "select count(*) from felt").await
}

/// How often an event was felt.
pub(crate) async fn times(sink: &Store, event_id: &str) -> i64 {
    let text = "select count(*) from felt where event_id = $1";
    store::count(sink.reader(), text, [event_id.into()]).await.unwrap()
}

/// An event that was received and is not felt.
#[derive(Clone, Debug, Row)]
pub(crate) struct Letter {
    pub(crate) event_id: String,
    pub(crate) subject: String,
    pub(crate) version: i64,
    pub(crate) attempts: i64,
    pub(crate) cause: String,
    pub(crate) is_dead: bool,
}

/// The letters, in the order of receiving.
pub(crate) async fn letters(store: &Store) -> Vec<Letter> {
    let text =
        "select event_id, subject, aggregate_version as version, attempts, cause, fail_time is not null as is_dead
                  from letters order by position";
    let reader = store.reader();
    Letter::find_by_statement(sql(reader, text, [])).all(reader).await.unwrap()
}

/// Waits until this many letters are dead, and answers them.
pub(crate) async fn dead_letters(store: &Store, number: usize) -> Vec<Letter> {
    let dead = async || {
        // Letters are looked at once in a second, and after every commit.
        told::execute(store, "select 1").await;
        letters(store).await.into_iter().filter(|letter| letter.is_dead).collect::<Vec<_>>()
    };
    reaches("dying", i64::try_from(number).unwrap(), async || i64::try_from(dead().await.len()).unwrap()).await;
    let dead = dead().await;
    assert_eq!(dead.len(), number, "{dead:?}");
    dead
}

/// Waits until a subject was felt this often, and answers the versions in the order in which they were.
pub(crate) async fn versions_once_there_are(sink: &Store, subject: &str, number: usize) -> Vec<i64> {
    let count = async || i64::try_from(versions(sink, subject).await.len()).unwrap();
    reaches("feeling", i64::try_from(number).unwrap(), count).await;
    versions(sink, subject).await
}

/// Tries all dead letters again, as an operator does once their cause is gone.
pub(crate) async fn replay_letters(store: &Store) {
    told::execute(
        store,
        "update letters set attempts = 0, retry_time = 0, fail_time = null where fail_time is not null",
    )
    .await;
}

/// How many events of a state the inbox has.
pub(crate) async fn received(store: &Store, state: &str) -> i64 {
    store::count(store.reader(), "select count(*) from inbox where state = $1", [state.into()]).await.unwrap()
}

/// What was counted of events.
pub(crate) async fn counted(store: &Store, what: &str) -> i64 {
    let text = "select cast(coalesce(sum(n), 0) as bigint) from event_counts where what = $1";
    store::count(store.reader(), text, [what.into()]).await.unwrap()
}

/// Waits until everything is told and felt, and compares: every event once, in the order of its aggregate.
pub(crate) async fn once_and_in_order(source: &Store, sinks: &[&Store]) {
    let all = told::waiting_or_told(source).await;
    reaches("telling", all, async || told::told(source).await).await;
    for sink in sinks {
        reaches("feeling", all, async || count(sink).await).await;
        compare(&told::outbox(source).await, &self::all(sink).await);
        assert_eq!(number(sink, "select count(*) from letters").await, 0, "nothing is left over");
    }
}

/// Says what is lost, what is there twice and what is out of order.
fn compare(told: &[told::Told], felt: &[Felt]) {
    let mut times: BTreeMap<&str, usize> = told.iter().map(|told| (told.event_id.as_str(), 0)).collect();
    for felt in felt {
        *times.entry(&felt.event_id).or_default() += 1;
    }
    let lost: Vec<_> = times.iter().filter(|(_, times)| **times == 0).collect();
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    let mut versions: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for felt in felt {
        versions.entry(&felt.subject).or_default().push(felt.version);
    }
    let rises = |versions: &[i64]| versions.iter().zip(1..).all(|(version, expected)| *version == expected);
    let out_of_order: Vec<_> = versions.iter().filter(|(_, versions)| !rises(versions)).collect();
    assert!(
        lost.is_empty() && twice.is_empty() && out_of_order.is_empty(),
        "of {} events {} were lost, {} were felt twice, {} aggregates are out of order; the first of each: {:?} {:?} {:?}",
        told.len(),
        lost.len(),
        twice.len(),
        out_of_order.len(),
        lost.first(),
        twice.first(),
        out_of_order.first()
    );
    let known: BTreeSet<&str> = told.iter().map(|told| told.event_id.as_str()).collect();
    assert!(felt.iter().all(|felt| known.contains(felt.event_id.as_str())), "what nobody told was felt");
}
