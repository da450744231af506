//! The last events of a process.

use std::sync::Mutex;

use tonic::async_trait;
use trivet_proto::account::v1::UserDeleted;

use super::*;
use crate::{
    Telemetry,
    events::{Aggregate, Consumer, MIGRATIONS, Origin, publish},
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

#[tokio::test]
async fn a_bus_that_takes_nothing_at_first_is_told_the_last_events_of_a_process_all_the_same() {
    let store = Store::open(Location::Memory).await.unwrap();
    store.migrate(&MIGRATIONS).await.unwrap();
    let context = Context::own(Tenant::default_tenant(), BUDGET);
    let users: Vec<String> = (0..=BATCH).map(|user| format!("usr_{user}")).collect();
    let origin = Origin::of(&context, &Clock::system());
    let written = store.unit(&context).run((users.clone(), origin), |(users, origin), transaction| {
        Box::pin(async move {
            for id in users {
                let deleted = UserDeleted { user_id: id.clone(), ..UserDeleted::default() };
                publish(transaction, origin, Aggregate { kind: "user", id, version: 1 }, &deleted).await?;
            }
            Ok(())
        })
    });
    written.await.unwrap();
    let bus = Arc::new(Moody { refusals: Mutex::new(2), ..Moody::default() });
    let relay = Relay {
        source: "account",
        store: store.clone(),
        bus: bus.clone(),
        clock: Clock::system(),
        settings: EventSettings::default(),
        instruments: Arc::new(Instruments::new(Arc::new(Telemetry::quiet().unwrap()))),
    };
    tokio::time::timeout(BUDGET, relay.flush()).await.unwrap().unwrap();
    let told: Vec<String> = bus.told.lock().unwrap().iter().map(|event| event.subject.clone()).collect();
    assert_eq!(told, users);
    assert_eq!(outbox::backlog(store.reader()).await.unwrap().waiting, 0);
    store.close().await.unwrap();
}
