//! The last events of a process.

use std::sync::Mutex;

use tonic::async_trait;
use trivet_proto::account::v1::UserProfileUpdated;

use super::*;
use crate::{
    Telemetry, Time,
    events::{Aggregate, Consumer, Draft, MIGRATIONS, Origin, publish_all},
    status::Finding,
    store::Location,
};

/// A bus that takes nothing as often as it is told to, and keeps what it takes then.
#[derive(Default)]
struct Moody {
    refusals: Mutex<u32>,
    told: Mutex<Vec<CloudEvent>>,
}

#[async_trait]
impl Bus for Moody {
    async fn tell(&self, events: &[CloudEvent]) -> Vec<Fate> {
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return vec![Fate::Later("it is in no mood".to_owned()); events.len()];
        }
        self.told.lock().unwrap().extend_from_slice(events);
        vec![Fate::Told; events.len()]
    }

    async fn bring(&self, _: &Consumer) {}

    fn is_away(&self) -> bool {
        *self.refusals.lock().unwrap() > 0
    }

    async fn recovered(&self) {}

    async fn pending(&self, _: &str) -> Option<u64> {
        None
    }

    async fn state(&self) -> Finding {
        Finding::Ok
    }
}

/// A store with the tables of events.
async fn store() -> Store {
    let store = Store::open(Location::Memory).await.unwrap();
    store.migrate(&MIGRATIONS).await.unwrap();
    store
}

/// The relay between this store and this bus.
fn relay(store: &Store, bus: &Arc<Moody>) -> Relay {
    Relay {
        source: "account",
        store: store.clone(),
        bus: bus.clone(),
        clock: Clock::system(),
        settings: EventSettings { max_bytes: 100, ..EventSettings::default() },
        instruments: Arc::new(Instruments::new(Arc::new(Telemetry::quiet().unwrap()))),
    }
}

fn draft(id: &str, version: i64, length: usize) -> Draft {
    let updated = UserProfileUpdated { user_id: id.to_owned(), changed_fields: vec!["x".repeat(length)] };
    Draft::new(Aggregate { kind: "user", id, version }, &updated)
}

/// Writes events down in one transaction, once an event that was refused is to be told again.
async fn write(store: &Store, retried: Option<&str>, drafts: Vec<Draft>) {
    let context = Context::own(Tenant::default_tenant(), BUDGET);
    let input = (Origin::of(&context, &Clock::system()), retried.map(str::to_owned), drafts);
    let written = store.unit(&context).run(input, |(origin, retried, drafts), transaction| {
        Box::pin(async move {
            if let Some(event_id) = retried {
                assert!(outbox::retry(transaction, &Tenant::default_tenant(), event_id).await?);
            }
            publish_all(transaction, origin, drafts.clone()).await
        })
    });
    written.await.unwrap();
}

#[tokio::test]
async fn a_bus_that_takes_nothing_at_first_is_told_the_last_events_of_a_process_all_the_same() {
    let store = store().await;
    let users: Vec<String> = (0..=BATCH).map(|user| format!("usr_{user}")).collect();
    write(&store, None, users.iter().map(|id| draft(id, 1, 0)).collect()).await;
    let bus = Arc::new(Moody { refusals: Mutex::new(2), ..Moody::default() });
    tokio::time::timeout(BUDGET, relay(&store, &bus).flush()).await.unwrap().unwrap();
    let told: Vec<String> = bus.told.lock().unwrap().iter().map(|event| event.subject.clone()).collect();
    assert_eq!(told, users);
    assert_eq!(outbox::backlog(store.reader()).await.unwrap().waiting, 0);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_refused_long_ago_is_told_before_what_came_after_it() {
    let store = store().await;
    let bus = Arc::new(Moody::default());
    let mut relay = relay(&store, &bus);
    // Too large for now.
    write(&store, None, (0..5).map(|user| draft(&format!("usr_{user}"), 1, 200)).collect()).await;
    relay.flush().await.unwrap();
    relay.settings.max_bytes = 1_000;
    // So many that nobody looks that far back without a reason.
    let others = || (0..10_000).map(|user| draft(&format!("other_{user}"), 1, 0)).collect();
    write(&store, None, others()).await;
    let first = (Time::from_micros(0), 0);
    let dead = outbox::dead(store.reader(), "account", &Tenant::default_tenant(), first, 10).await.unwrap();
    let refused: Vec<String> = dead.into_iter().map(|letter| letter.event_id).collect();
    assert_eq!(refused.len(), 5);
    let telling = tokio::spawn(async move { relay.run().await });
    let told = async |count: usize| {
        let mut looks = tokio::time::interval(Duration::from_millis(1));
        while bus.told.lock().unwrap().len() < count {
            looks.tick().await;
        }
    };
    let all = async {
        told(10_000).await;
        for (user, event_id) in refused.iter().enumerate() {
            write(&store, Some(event_id), vec![draft(&format!("usr_{user}"), 2, 0)]).await;
            told(10_002 + user * 2).await;
        }
    };
    tokio::time::timeout(BUDGET, all).await.unwrap();
    telling.abort();
    let told = bus.told.lock().unwrap();
    let order: Vec<_> = told.iter().skip(10_000).map(|event| (&*event.subject, event.aggregate_version)).collect();
    let users = ["usr_0", "usr_1", "usr_2", "usr_3", "usr_4"];
    assert_eq!(order, users.into_iter().flat_map(|user| [(user, 1), (user, 2)]).collect::<Vec<_>>());
}
