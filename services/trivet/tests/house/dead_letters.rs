//! Events that were given up, what becomes of them, and telling everything again.

use std::sync::{Arc, Mutex};

use mesh::{
    Clock, Parts, Telemetry,
    events::{Effect, HandlerError, Handlers},
};
use prost_types::Timestamp;
use trivet::{RoleName, plan};
use trivet_proto::{
    account::v1::{UserCreated, UserProfileUpdated},
    mesh::v1::{
        DeadLetter, DiscardDeadLetterRequest, ListDeadLettersRequest, ListDeadLettersResponse, ReplayDeadLetterRequest,
        ReplayEventsRequest, ReplayEventsResponse, TailEventsRequest,
    },
};

use crate::{
    event_service::{Other, Row, flow, next, rename, tail},
    harness::{Databases, House, config, eventually, person, reason},
    tenants::of,
};

/// What product does about users in these tests: it notes of whom it heard what, or it does not.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    mood: Mood,
    of: Vec<String>,
}

#[derive(Clone, Copy, Default)]
enum Mood {
    #[default]
    Open,
    /// It may hear of it later.
    Refuses,
    /// It will never hear of it.
    CannotRead,
}

impl Ear {
    fn be(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    fn hear(&self, what: String) -> Result<Effect, HandlerError> {
        let mut heard = self.0.lock().unwrap();
        match heard.mood {
            Mood::Open => heard.of.push(what),
            Mood::Refuses => return Err(HandlerError::Refused("product does not want to hear of it".to_owned())),
            Mood::CannotRead => return Err(HandlerError::Unreadable("product cannot read it".to_owned())),
        }
        Ok(Effect::Felt)
    }

    fn heard(&self) -> Vec<String> {
        self.0.lock().unwrap().of.clone()
    }

    fn handlers(&self) -> Handlers {
        let (created, renamed) = (self.clone(), self.clone());
        Handlers::default()
            .on(move |_, event: &UserCreated, _| {
                let answer = created.hear(format!("{} created", event.user_id));
                Box::pin(std::future::ready(answer))
            })
            .on(move |_, event: &UserProfileUpdated, _| {
                let answer = renamed.hear(format!("{} renamed", event.user_id));
                Box::pin(std::future::ready(answer))
            })
    }
}

/// A house whose product hears with this ear.
async fn hearing(databases: &Databases, further: &[(&str, &str)], ear: &Ear) -> House {
    let config = config(databases, further);
    let mut plan = plan(&config, &RoleName::ALL, Telemetry::quiet().unwrap(), Clock::system()).unwrap();
    let role = plan.placements.iter_mut().map(|place| &mut place.role).find(|role| role.name == "product").unwrap();
    let (handlers, services) = (ear.handlers(), std::mem::replace(&mut role.services, Box::new(|_| unreachable!())));
    role.services = Box::new(move |parts: Parts| Ok(services(parts)?.hearing(handlers)));
    House::start_plan(config, plan).await
}

async fn on_every_store_hearing(test: impl AsyncFn(&House, &Ear)) {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let ear = Ear::default();
        let house = hearing(&databases, &[("events.retry_ms", "1"), ("events.max_bytes", "1000")], &ear).await;
        test(&house, &ear).await;
        house.end().await;
        databases.done().await;
    }
}

async fn page(house: &House, service: &str, tenant: &str, size: i32, token: &str) -> ListDeadLettersResponse {
    let request = ListDeadLettersRequest { page_size: size, page_token: token.to_owned() };
    house.events(service).list_dead_letters(of(tenant, request)).await.unwrap().into_inner()
}

pub(crate) async fn dead(house: &House, service: &str) -> Vec<DeadLetter> {
    page(house, service, "default", 0, "").await.dead_letters
}

/// Waits until a service has this many dead letters.
async fn died(house: &House, service: &str, count: usize) -> Vec<DeadLetter> {
    eventually("dying", async || dead(house, service).await.len() == count).await;
    dead(house, service).await
}

fn replay(event_id: &str) -> ReplayDeadLetterRequest {
    ReplayDeadLetterRequest { event_id: event_id.to_owned() }
}

fn discard(event_id: &str) -> DiscardDeadLetterRequest {
    DiscardDeadLetterRequest { event_id: event_id.to_owned() }
}

/// One that is too large for any bus.
fn too_large(event_id: &'static str, subject: &'static str) -> Row {
    Row { data: vec![0; 1_001], ..Row::of(event_id, "user.created", subject) }
}

/// `type, consumer: published delivered retried dead lag`.
async fn flows(house: &House, service: &str) -> Vec<String> {
    let line = |flow: trivet_proto::mesh::v1::EventFlow| {
        let numbers = [flow.published, flow.delivered, flow.retried, flow.dead, flow.lag].map(|n| n.to_string());
        assert_eq!(flow.oldest_age.unwrap() == prost_types::Duration::default(), flow.lag == 0, "{flow:?}");
        format!("{}, {}: {}", flow.r#type, flow.consumer, numbers.join(" "))
    };
    flow(house, service, "default").await.into_iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_listed_counted_and_felt_in_order_once_it_is_tried_again() {
    on_every_store_hearing(async |house, ear| {
        ear.be(Mood::Refuses);
        house.accounts().ensure_account(person("ada")).await.unwrap();
        rename(house, "ada", "Ada L.").await;
        rename(house, "ada", "Countess").await;
        let waiting = async || died(house, "product", 1).await[0].waiting == 2;
        eventually("waiting", waiting).await;
        let letter = dead(house, "product").await.remove(0);
        assert_eq!((letter.r#type.as_str(), letter.consumer.as_str()), ("user.created", "product"));
        assert_eq!((letter.attempts, letter.waiting), (8, 2));
        assert!(letter.cause.contains("does not want to hear"), "{letter:?}");
        assert_eq!((letter.source.as_str(), letter.subject.as_str()), ("trivet.dev/account", "ada"));
        assert_eq!(letter.aggregate_version, 1);
        assert!(letter.fail_time.unwrap().seconds >= letter.time.unwrap().seconds, "{letter:?}");
        let told = ["user.created, : 1 1 0 0 0", "user.profile_updated, : 2 2 0 0 0"];
        eventually("telling", async || flows(house, "account").await == told).await;
        let heard = ["user.created, product: 1 0 7 1 0", "user.profile_updated, product: 2 0 0 0 2"];
        assert_eq!(flows(house, "product").await, heard);
        assert_eq!(dead(house, "account").await, []);

        ear.be(Mood::Open);
        let mut events = house.events("product");
        events.replay_dead_letter(replay(&letter.event_id)).await.unwrap();
        eventually("feeling", async || ear.heard() == ["ada created", "ada renamed", "ada renamed"]).await;
        let felt = ["user.created, product: 1 1 7 0 0", "user.profile_updated, product: 2 2 0 0 0"];
        eventually("counting", async || flows(house, "product").await == felt).await;
        assert_eq!(dead(house, "product").await, []);
        let gone = events.replay_dead_letter(replay(&letter.event_id)).await.unwrap_err();
        assert_eq!(reason(&gone), "EVENT_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_behind_a_discarded_event_follows_and_the_event_never_comes_back() {
    on_every_store_hearing(async |house, ear| {
        ear.be(Mood::CannotRead);
        house.accounts().ensure_account(person("ada")).await.unwrap();
        rename(house, "ada", "Ada L.").await;
        eventually("waiting", async || died(house, "product", 1).await[0].waiting == 1).await;
        let event_id = dead(house, "product").await.remove(0).event_id;
        let mut events = house.events("product");
        for _ in 0..2 {
            let foreign = events.discard_dead_letter(of("acme", discard(&event_id))).await.unwrap_err();
            assert_eq!(reason(&foreign), "EVENT_NOT_FOUND");
            let foreign = events.replay_dead_letter(of("acme", replay(&event_id))).await.unwrap_err();
            assert_eq!(reason(&foreign), "EVENT_NOT_FOUND");
        }
        assert_eq!(page(house, "product", "acme", 0, "").await.dead_letters, []);
        assert_eq!(flow(house, "product", "acme").await, []);
        ear.be(Mood::Open);
        events.discard_dead_letter(discard(&event_id)).await.unwrap();
        eventually("feeling", async || ear.heard() == ["ada renamed"]).await;
        let again = events.discard_dead_letter(discard(&event_id)).await.unwrap_err();
        assert_eq!(reason(&again), "EVENT_NOT_FOUND");
        let product = Other::at(&house.config, RoleName::Product).await;
        assert_eq!(product.count("select count(*) from inbox where state = 'DISCARDED'").await, 1);
        assert_eq!(all_again(house, 0).await.last().unwrap().replayed, 2);
        told_all(house).await;
        assert_eq!(ear.heard(), ["ada renamed"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_bus_takes_holds_up_its_aggregate_until_it_is_discarded() {
    on_every_store_hearing(async |house, ear| {
        let account = Other::at(&house.config, RoleName::Account).await;
        account.tell(too_large("evt_large", "ada")).await;
        house.accounts().ensure_account(person("ada")).await.unwrap();
        rename(house, "ada", "Ada L.").await;
        house.accounts().ensure_account(person("bob")).await.unwrap();
        eventually("waiting", async || died(house, "account", 1).await[0].waiting == 2).await;
        eventually("telling of bob", async || ear.heard() == ["bob created"]).await;
        let letter = dead(house, "account").await.remove(0);
        assert_eq!((letter.event_id.as_str(), letter.consumer.as_str()), ("evt_large", "bus"));
        assert_eq!((letter.attempts, letter.source.as_str()), (1, "trivet.dev/account"));
        assert!(letter.cause.contains("1001 bytes"), "{letter:?}");
        let told = ["user.created, : 1 1 0 1 1", "user.profile_updated, : 0 0 0 0 1"];
        eventually("counting", async || flows(house, "account").await == told).await;
        assert_eq!(page(house, "account", "acme", 0, "").await.dead_letters, []);
        assert_eq!(flow(house, "account", "acme").await, []);
        // Its cause is not gone.
        let mut events = house.events("account");
        let foreign = events.replay_dead_letter(of("acme", replay("evt_large"))).await.unwrap_err();
        assert_eq!(reason(&foreign), "EVENT_NOT_FOUND");
        events.replay_dead_letter(replay("evt_large")).await.unwrap();
        assert!(
            died(house, "account", 1).await[0].fail_time.unwrap().to_string() > letter.fail_time.unwrap().to_string()
        );
        let foreign = events.discard_dead_letter(of("acme", discard("evt_large"))).await.unwrap_err();
        assert_eq!(reason(&foreign), "EVENT_NOT_FOUND");
        events.discard_dead_letter(discard("evt_large")).await.unwrap();
        eventually("following", async || ear.heard() == ["bob created", "ada created", "ada renamed"]).await;
        // Telling everything again does not tell what was discarded.
        assert_eq!(all_again(house, 0).await.last().unwrap().replayed, 3);
        told_all(house).await;
        assert_eq!(dead(house, "account").await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_bus_took_is_told_once_its_cause_is_gone() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let ear = Ear::default();
        let house = hearing(&databases, &[("events.max_bytes", "10")], &ear).await;
        house.accounts().ensure_account(person("somebody-with-a-long-name")).await.unwrap();
        rename(&house, "somebody-with-a-long-name", "Ada").await;
        let event_id = died(&house, "account", 1).await.remove(0).event_id;
        house.end().await;
        let house = hearing(&databases, &[], &ear).await;
        house.events("account").replay_dead_letter(replay(&event_id)).await.unwrap();
        let all = ["created", "renamed"].map(|what| format!("somebody-with-a-long-name {what}"));
        eventually("telling", async || ear.heard() == all).await;
        house.end().await;
        databases.done().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_come_in_pages_oldest_first_whoever_gave_them_up() {
    on_every_store_hearing(async |house, _| {
        let account = Other::at(&house.config, RoleName::Account).await;
        // Nobody knows users who are cloned: whoever hears of one gives it up.
        for (large, unknown, subject) in [("evt_1", "evt_2", "a"), ("evt_3", "evt_4", "b"), ("evt_5", "evt_6", "c")] {
            account.tell(too_large(large, subject)).await;
            account.tell(Row::of(unknown, "user.cloned", unknown)).await;
            account.tell(Row { tenant: "acme", ..Row::of(format!("{unknown}-acme").leak(), "user.cloned", "x") }).await;
        }
        let all = died(house, "account", 6).await;
        let times: Vec<_> = all.iter().map(|letter| letter.fail_time.unwrap().to_string()).collect();
        assert!(times.is_sorted(), "{times:?}");
        let consumers: Vec<_> = all.iter().filter(|letter| letter.consumer == "bus").collect();
        assert_eq!(consumers.len(), 3, "{all:?}");
        for size in 1..=7 {
            let (mut paged, mut token) = (Vec::new(), String::new());
            loop {
                let page = page(house, "account", "default", size, &token).await;
                assert!(page.dead_letters.len() <= usize::try_from(size).unwrap());
                paged.extend(page.dead_letters);
                assert!(paged.len() <= all.len(), "{size} at a time: {paged:?}");
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(paged, all, "{size} at a time");
        }
        let token = page(house, "account", "default", 1, "").await.next_page_token;
        let stolen = ListDeadLettersRequest { page_size: 1, page_token: token };
        let stolen = house.events("account").list_dead_letters(of("acme", stolen)).await.unwrap_err();
        assert_eq!(reason(&stolen), "INVALID_PAGE_TOKEN");
        eventually("acme's", async || {
            let acme = page(house, "account", "acme", 0, "").await.dead_letters;
            acme.first().is_some_and(|first| acme.len() == 1 && first.waiting == 2)
        })
        .await;
    })
    .await;
}

/// Tells everything again that account told since this second; the progress of it.
pub(crate) async fn all_again(house: &House, seconds: i64) -> Vec<ReplayEventsResponse> {
    // All tenants', whoever asks.
    let from = of("nobody", ReplayEventsRequest { from_time: Some(Timestamp { seconds, nanos: 0 }) });
    let mut steps = house.events("account").replay_events(from).await.unwrap().into_inner();
    let mut progress = Vec::new();
    while let Some(step) = steps.message().await.unwrap() {
        progress.push(step);
    }
    progress
}

/// Waits until account has told all that it has to tell.
pub(crate) async fn told_all(house: &House) {
    let account = Other::at(&house.config, RoleName::Account).await;
    let unsent = "select count(*) from outbox_waiting";
    eventually("telling", async || account.count(unsent).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_told_again_since_a_time_step_by_step_and_felt_no_second_time() {
    on_every_store_hearing(async |house, ear| {
        let account = Other::at(&house.config, RoleName::Account).await;
        house.accounts().ensure_account(person("ada")).await.unwrap();
        house.accounts().ensure_account(of("acme", person("eve"))).await.unwrap();
        // Told since yesterday, one second apart, and before anybody listened.
        let yesterday = Clock::system().now().micros() / 1_000_000 - 86_400;
        let text = "insert into outbox (event_id, tenant_id, type, aggregate, subject, aggregate_version, time,
                                        traceparent, causation_id, data_schema, data)
                    with recursive seconds(n) as (select 1 union all select n + 1 from seconds where n < 2500)
                    select 'evt_' || n, 'default', 'user.created', 'user', 'u' || n, 1,
                           ($2 + n) * 1000000, '', '', 'trivet.account.v1.UserCreated', $1
                      from seconds";
        let happened = (text.to_owned(), vec![Vec::<u8>::new().into(), yesterday.into()]);
        let told = "delete from outbox_waiting where subject like 'u%' and tenant_id = 'default'";
        account.write_each(vec![happened, (told.to_owned(), Vec::new())]).await;
        told_all(house).await;
        eventually("feeling", async || ear.heard().len() == 2).await;
        let progress = all_again(house, yesterday + 501).await;
        let (total, replayed): (Vec<_>, Vec<_>) = progress.iter().map(|step| (step.total, step.replayed)).unzip();
        assert_eq!(replayed, [0, 1_000, 2_000, 2_002]);
        assert_eq!(total, [2_002; 4]);
        told_all(house).await;
        eventually("feeling", async || ear.heard().len() == 2 + 2_000).await;
        let once: std::collections::BTreeSet<_> = ear.heard().into_iter().collect();
        assert_eq!(once.len(), 3, "ada, eve and two thousand without a name: {once:?}");
        assert_eq!(all_again(house, 100_000_000_000).await, [ReplayEventsResponse { replayed: 0, total: 0 }]);
        // A tail shows what is told, not what is told again.
        let mut tail = tail(house, TailEventsRequest::default()).await;
        all_again(house, 0).await;
        told_all(house).await;
        assert_eq!(ear.heard().len(), 2 + 2_500);
        house.accounts().ensure_account(person("bob")).await.unwrap();
        assert_eq!(next(&mut tail).await.subject, "bob");
    })
    .await;
}
