//! A process of roles that runs inside of the test.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use mesh::{
    Parts, Plan, Role, Running, Services, Store,
    events::{self, Handlers},
    store::{self, Migration},
};

use crate::{
    felt::{self, Moods},
    ground::Ground,
    told::{self, Change, Load},
    waiting::in_time,
};

/// The stores that a process opened, by role. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Stores(Arc<Mutex<BTreeMap<&'static str, Store>>>);

impl Stores {
    pub(crate) fn of(&self, role: &str) -> Store {
        self.0.lock().unwrap()[role].clone()
    }
}

/// A role without rpcs, whose store the test can reach.
pub(crate) fn role(name: &'static str, table: Migration, stores: &Stores, handlers: Handlers) -> Role {
    let stores = stores.clone();
    Role {
        name,
        migrations: [&[store::SECRETS][..], &events::MIGRATIONS, &[table]].concat(),
        postgres: &[],
        services: Box::new(move |parts: Parts| {
            stores.0.lock().unwrap().insert(name, parts.store);
            Ok(Services::default().hearing(handlers))
        }),
    }
}

/// A running process.
pub(crate) struct House {
    pub(crate) running: Running,
    pub(crate) moods: Moods,
    stores: Stores,
}

impl House {
    /// A process of source and sink.
    pub(crate) async fn open(ground: &Ground) -> Self {
        Self::of(ground, &["source", "sink"]).await
    }

    /// A process of these roles.
    pub(crate) async fn of(ground: &Ground, names: &[&'static str]) -> Self {
        Self::with(ground, names, |plan| plan).await
    }

    /// A process of these roles, whose plan the test changes.
    pub(crate) async fn with(ground: &Ground, names: &[&'static str], change: impl FnOnce(Plan) -> Plan) -> Self {
        let (stores, moods) = (Stores::default(), Moods::default());
        let roles = names.iter().map(|name| match *name {
            "source" => told::source(&stores, Handlers::default()),
            name => felt::sink(name, &stores, &moods),
        });
        let plan = change(ground.plan(roles.collect()));
        Self::start(plan, stores, moods).await
    }

    /// A process of this plan.
    pub(crate) async fn start(plan: Plan, stores: Stores, moods: Moods) -> Self {
        let running = in_time("the start", Box::pin(async { plan.bind().await.unwrap().start().await.unwrap() })).await;
        Self { running, moods, stores }
    }

    pub(crate) fn store(&self, role: &str) -> Store {
        self.stores.of(role)
    }

    pub(crate) fn source(&self) -> Store {
        self.store("source")
    }

    pub(crate) fn sink(&self) -> Store {
        self.store("sink")
    }

    /// Tells this many events of a subject, each in a transaction of its own.
    pub(crate) async fn tell(&self, subject: &str, events: usize) {
        for _ in 0..events {
            Change::of(subject).commit(&self.source()).await.unwrap();
        }
    }

    /// Writes until there are this many events.
    pub(crate) async fn load(&self, goal: i64) {
        Load { writers: 8, things: 20, goal }.write(&self.source(), |_| {}).await;
    }

    /// Waits until everything is told and felt, once and in order.
    pub(crate) async fn settles(&self) {
        felt::once_and_in_order(&self.source(), &[&self.sink()]).await;
    }

    /// Goes away once everything is told and felt.
    pub(crate) async fn drain_once_settled(self) {
        self.settles().await;
        self.drain().await;
    }

    /// Goes away at its own pace.
    pub(crate) async fn drain(self) {
        in_time("the drain", self.running.drain(std::future::pending())).await;
    }
}
