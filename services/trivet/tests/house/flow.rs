//! What account tells of a user, and what comes of it at product and billing: who may buy, and who spends nothing more.

mod wallets;

use std::time::Duration;

use mesh::{
    Clock, Store, Time,
    store::{count, sql},
};
use sea_orm::ConnectionTrait as _;
use tonic::{Code, Request};
use trivet::RoleName;
use trivet_proto::{
    Event,
    account::v1::{
        AccountStatus, ChangeAccountStatusRequest, DeleteAccountRequest, RestoreAccountRequest, UpdateAccountRequest,
        UserCreated, UserDeleted, UserProfileUpdated,
    },
    product::v1::{
        CheckAvailabilityRequest, CreateProductRequest, Price, PriceModel, SetPriceRequest, UnavailableReason,
    },
};

use crate::harness::{
    Databases, House, config, eventually, on_every_store, on_every_store_with_a_held_clock, person, reason, told,
};

/// Has all that it has told told again.
pub(crate) const TOLD_AGAIN: &str = "insert into outbox_waiting (position, tenant_id, aggregate, subject)
                              select position, tenant_id, aggregate, subject from outbox
                              where true on conflict do nothing";

const STALENESS: &str = "x-trivet-staleness-ms";

async fn sell_oak(house: &House, tenant: &str) {
    let oak = CreateProductRequest {
        product_id: "oak".to_owned(),
        name: "Oak".to_owned(),
        ..CreateProductRequest::default()
    };
    house.catalog().create_product(of(tenant, oak)).await.unwrap();
    // For nothing, so that money decides nothing.
    let price = Price {
        unit: "tree".to_owned(),
        model: PriceModel::PerUnit.into(),
        unit_price: "0".to_owned(),
        ..Price::default()
    };
    let set = SetPriceRequest { product_id: "oak".to_owned(), price: Some(price), request_id: String::new() };
    house.catalog().set_price(of(tenant, set)).await.unwrap();
}

/// A request as one of this tenant.
fn of<M>(tenant: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-trivet-tenant", tenant.parse().unwrap());
    request
}

fn may(user_id: &str) -> CheckAvailabilityRequest {
    CheckAvailabilityRequest {
        product_id: "oak".to_owned(),
        user_id: user_id.to_owned(),
        organization_id: String::new(),
    }
}

/// Whether a user of a tenant may have an oak, and how old the word was that decided, in milliseconds.
async fn available_to(house: &House, tenant: &str, user_id: &str) -> (bool, u64) {
    let answer = house.catalog().check_availability(of(tenant, may(user_id))).await.unwrap();
    let staleness = answer.metadata().get(STALENESS).expect("an answer says how old it is");
    let staleness = staleness.to_str().unwrap().parse().unwrap();
    let answer = answer.into_inner();
    let expected = if answer.available { UnavailableReason::Unspecified } else { UnavailableReason::AccountInactive };
    assert_eq!(answer.reason(), expected);
    (answer.available, staleness)
}

async fn available(house: &House, user_id: &str) -> (bool, u64) {
    available_to(house, "default", user_id).await
}

/// What product knows of a user: status, version, and as of when.
type Word = (String, i64, Time);

async fn known(house: &House, user_id: &str) -> Option<Word> {
    let store = house.rows(RoleName::Product).await;
    let known = known_in(&store, user_id).await;
    store.close().await.unwrap();
    known
}

async fn known_in(product: &Store, user_id: &str) -> Option<Word> {
    let reader = product.reader();
    let text = "select status, version, as_of_time from buyers where user_id = $1 and tenant_id = 'default'";
    let row = reader.query_one_raw(sql(reader, text, [user_id.into()])).await.unwrap()?;
    let column = |name| row.try_get("", name).unwrap();
    Some((row.try_get("", "status").unwrap(), column("version"), Time::from_micros(column("as_of_time"))))
}

/// Waits until what product knows of a user is like this.
async fn known_as(house: &House, user_id: &str, expected: impl Fn(&Word) -> bool) {
    let store = house.rows(RoleName::Product).await;
    eventually("knowing", async || known_in(&store, user_id).await.is_some_and(|word| expected(&word))).await;
    store.close().await.unwrap();
}

/// Waits until product knows a version of a user.
async fn heard(house: &House, user_id: &str, version: i64) {
    known_as(house, user_id, |known| known.1 == version).await;
}

/// Runs a statement on the rows of a role.
pub(crate) async fn run(house: &House, role: RoleName, text: &str) {
    let store = house.rows(role).await;
    store.reader().execute_unprepared(text).await.unwrap();
    store.close().await.unwrap();
}

/// The number that a statement on the rows of a role answers.
pub(crate) async fn number(house: &House, role: RoleName, text: &str) -> i64 {
    let store = house.rows(role).await;
    let number = count(store.reader(), text, []).await.unwrap();
    store.close().await.unwrap();
    number
}

/// Has account tell of a user what it would not, under this id.
async fn tell<E: Event>(house: &House, event_id: &str, user_id: &str, (version, time): (i64, Time), event: &E) {
    let store = house.rows(RoleName::Account).await;
    let reader = store.reader();
    let text = "insert into outbox (event_id, tenant_id, type, aggregate, subject, aggregate_version, time,
                                    traceparent, causation_id, data_schema, data)
                values ($1, 'default', $2, 'user', $3, $4, $5, '', '', $6, $7)";
    let values = [
        event_id.into(),
        E::KIND.kind.into(),
        user_id.into(),
        version.into(),
        time.micros().into(),
        E::KIND.message.into(),
        event.encode_to_vec().into(),
    ];
    reader.execute_raw(sql(reader, text, values)).await.unwrap();
    store.close().await.unwrap();
}

/// What product recorded of an event, once it has.
async fn recorded(house: &House, event_id: &str) -> String {
    let store = house.rows(RoleName::Product).await;
    let reader = store.reader();
    let mut state = String::new();
    eventually("recording", async || {
        let text = "select state from inbox where event_id = $1";
        let row = reader.query_one_raw(sql(reader, text, [event_id.into()])).await.unwrap();
        row.inspect(|row| state = row.try_get("", "state").unwrap()).is_some()
    })
    .await;
    store.close().await.unwrap();
    state
}

/// Waits until account has told everything that it has to tell.
async fn all_told(house: &House) {
    let waiting = "select count(*) from outbox_waiting";
    let store = house.rows(RoleName::Account).await;
    eventually("telling", async || count(store.reader(), waiting, []).await.unwrap() == 0).await;
    store.close().await.unwrap();
}

async fn set_status(house: &House, tenant: &str, user_id: &str, status: AccountStatus) {
    let change = ChangeAccountStatusRequest {
        user_id: user_id.to_owned(),
        status: status.into(),
        reason: "as told".to_owned(),
        etag: String::new(),
    };
    house.accounts().change_account_status(of(tenant, change)).await.unwrap();
}

async fn delete(house: &House, user_id: &str) {
    let delete = DeleteAccountRequest { user_id: user_id.to_owned(), reason: String::new() };
    house.accounts().delete_account(delete).await.unwrap();
}

async fn restore(house: &House, user_id: &str) {
    let restore = RestoreAccountRequest { user_id: user_id.to_owned(), reason: String::new() };
    house.accounts().restore_account(restore).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suspended_or_deleted_may_buy_nothing_until_let_back_and_account_is_never_asked() {
    on_every_store_with_a_held_clock(async |house, clock| {
        sell_oak(house, "default").await;
        // An answer that is five seconds old is none that account just gave.
        let check = async |version, active| {
            heard(house, "ada", version).await;
            clock.advance(Duration::from_secs(5));
            assert_eq!(available(house, "ada").await, (active, 5_000), "at version {version}");
        };
        house.accounts().ensure_account(person("ada")).await.unwrap();
        check(1, true).await;
        set_status(house, "default", "ada", AccountStatus::Suspended).await;
        check(2, false).await;
        set_status(house, "default", "ada", AccountStatus::Active).await;
        check(3, true).await;
        delete(house, "ada").await;
        check(4, false).await;
        restore(house, "ada").await;
        check(5, true).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_older_than_thirty_seconds_decides_nothing_and_what_account_says_then_is_known() {
    on_every_store_with_a_held_clock(async |house, clock| {
        sell_oak(house, "default").await;
        house.accounts().ensure_account(person("ada")).await.unwrap();
        heard(house, "ada", 1).await;
        clock.advance(Duration::from_secs(30));
        assert_eq!(available(house, "ada").await, (true, 30_000));
        clock.advance(Duration::from_millis(1));
        assert_eq!(available(house, "ada").await, (true, 0));
        let asked = clock.now();
        known_as(house, "ada", |known| known.2 == asked).await;
        clock.advance(Duration::from_secs(3));
        assert_eq!(available(house, "ada").await, (true, 3_000));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_account_is_away_a_young_word_decides_and_an_old_one_fails_closed() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let clock = Clock::held(Clock::system().now());
        let house = House::start_by(clock.clone(), config(&databases, &[]), &RoleName::ALL).await;
        sell_oak(&house, "default").await;
        house.accounts().ensure_account(person("ada")).await.unwrap();
        heard(&house, "ada", 1).await;
        house.running.drain(std::future::pending()).await;
        // An address at which nobody listens.
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let alone = config(&databases, &[("account.address", &nobody)]);
        let house = House::start_by(clock.clone(), alone, &[RoleName::Product]).await;
        clock.advance(Duration::from_secs(29));
        assert_eq!(available(&house, "ada").await, (true, 29_000));
        clock.advance(Duration::from_secs(2));
        let mut reasons = Vec::new();
        for _ in 0..4 {
            let refused = house.catalog().check_availability(of("default", may("ada"))).await.unwrap_err();
            assert_eq!((refused.code(), told(&refused, "peer").as_str()), (Code::Unavailable, "account"));
            let retry = tonic_types::StatusExt::get_details_retry_info(&refused).and_then(|info| info.retry_delay);
            assert!(retry.is_some_and(|delay| !delay.is_zero()), "{refused:?}");
            reasons.push(reason(&refused));
        }
        assert_eq!((reasons[0].as_str(), reasons[3].as_str()), ("DEPENDENCY_UNAVAILABLE", "CIRCUIT_OPEN"));
        house.running.drain(std::future::pending()).await;
        databases.done().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_account_answers_never_replaces_what_is_newer_and_nobody_is_remembered_as_not_there() {
    on_every_store_with_a_held_clock(async |house, clock| {
        sell_oak(house, "default").await;
        for user_id in ["ada", "bob", "cyd", "dan"] {
            house.accounts().ensure_account(person(user_id)).await.unwrap();
            heard(house, user_id, 1).await;
        }
        clock.advance(Duration::from_secs(40));
        let (old, ahead) = (clock.now().minus(Duration::from_secs(40)), clock.now().plus(Duration::from_secs(9)));
        // Two answers that were overtaken: by an event, and by the answer to a later question.
        let newer = "update buyers set version = 7, status = 'SUSPENDED' where user_id = 'ada'";
        run(house, RoleName::Product, newer).await;
        let later = format!("update buyers set as_of_time = {} where user_id = 'bob'", ahead.micros());
        run(house, RoleName::Product, &later).await;
        assert_eq!(available(house, "ada").await, (true, 0));
        assert_eq!(available(house, "bob").await, (true, 0));
        assert_eq!(available(house, "nobody").await, (false, 0));
        // Answers are written down one after the other: once the last is, the others were.
        assert_eq!(available(house, "dan").await, (true, 0));
        let asked = clock.now();
        known_as(house, "dan", |known| known.2 == asked).await;
        assert_eq!(known(house, "ada").await, Some(("SUSPENDED".to_owned(), 7, old)));
        assert_eq!(known(house, "bob").await, Some(("ACTIVE".to_owned(), 1, ahead)));
        assert_eq!(known(house, "nobody").await, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_too_late_is_recorded_and_changes_nothing() {
    on_every_store_with_a_held_clock(async |house, clock| {
        sell_oak(house, "default").await;
        house.accounts().ensure_account(person("ada")).await.unwrap();
        set_status(house, "default", "ada", AccountStatus::Suspended).await;
        heard(house, "ada", 2).await;
        let before = known(house, "ada").await;
        clock.advance(Duration::from_secs(5));
        let created = UserCreated { user_id: "ada".to_owned(), subscription_tier: 0 };
        for version in [1, 2] {
            let event_id = format!("evt_late_{version}");
            tell(house, &event_id, "ada", (version, clock.now()), &created).await;
            assert_eq!(recorded(house, &event_id).await, "STALE");
        }
        assert_eq!((known(house, "ada").await, available(house, "ada").await), (before, (false, 5_000)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_of_when_a_user_is_known_goes_neither_back_nor_ahead_of_the_clock() {
    on_every_store_with_a_held_clock(async |house, clock| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        heard(house, "ada", 1).await;
        let now = clock.now();
        let deleted = UserDeleted { user_id: "ada".to_owned(), erased: false };
        tell(house, "evt_slow", "ada", (2, now.minus(Duration::from_secs(10))), &deleted).await;
        assert_eq!(recorded(house, "evt_slow").await, "FELT");
        assert_eq!(known(house, "ada").await, Some(("DELETED".to_owned(), 2, now)));
        clock.advance(Duration::from_secs(1));
        let created = UserCreated { user_id: "ada".to_owned(), subscription_tier: 0 };
        tell(house, "evt_fast", "ada", (3, now.plus(Duration::from_hours(1))), &created).await;
        assert_eq!(recorded(house, "evt_fast").await, "FELT");
        assert_eq!(known(house, "ada").await, Some(("ACTIVE".to_owned(), 3, clock.now())));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_update_moves_a_known_version_on_and_invents_no_status() {
    on_every_store_with_a_held_clock(async |house, clock| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        heard(house, "ada", 1).await;
        clock.advance(Duration::from_secs(5));
        let rename =
            UpdateAccountRequest { user_id: "ada".to_owned(), name: Some("Ada L.".to_owned()), ..Default::default() };
        house.accounts().update_account(rename).await.unwrap();
        heard(house, "ada", 2).await;
        let renamed = Some(("ACTIVE".to_owned(), 2, clock.now()));
        assert_eq!(known(house, "ada").await, renamed);
        // What happened at version 3 was not heard: it may have been anything.
        let update = |user_id: &str| UserProfileUpdated { user_id: user_id.to_owned(), changed_fields: vec![] };
        clock.advance(Duration::from_secs(5));
        for (event_id, user_id, version) in [("evt_gap", "ada", 4), ("evt_old", "ada", 2), ("evt_ghost", "ghost", 2)] {
            tell(house, event_id, user_id, (version, clock.now()), &update(user_id)).await;
            assert_eq!(recorded(house, event_id).await, "STALE", "{event_id}");
        }
        assert_eq!((known(house, "ada").await, known(house, "ghost").await), (renamed, None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_user_of_one_tenant_is_nothing_to_their_namesake_in_another() {
    on_every_store_with_a_held_clock(async |house, clock| {
        for tenant in ["default", "other", "third"] {
            sell_oak(house, tenant).await;
        }
        for tenant in ["default", "other"] {
            house.accounts().ensure_account(of(tenant, person("ada"))).await.unwrap();
        }
        set_status(house, "other", "ada", AccountStatus::Suspended).await;
        all_told(house).await;
        clock.advance(Duration::from_secs(5));
        assert_eq!(available_to(house, "default", "ada").await, (true, 5_000));
        assert_eq!(available_to(house, "other", "ada").await, (false, 5_000));
        assert_eq!(available_to(house, "third", "ada").await, (false, 0), "nobody knows her there");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_again_is_felt_once() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        set_status(house, "default", "ada", AccountStatus::Suspended).await;
        all_told(house).await;
        let before = known(house, "ada").await;
        let felt = "select cast(coalesce(sum(n), 0) as bigint) from event_counts where what in ('RECEIVED', 'FELT')";
        let counted = number(house, RoleName::Product, felt).await;
        assert_eq!((before.as_ref().map(|known| known.1), counted), (Some(2), 4));
        run(house, RoleName::Account, TOLD_AGAIN).await;
        all_told(house).await;
        assert_eq!((known(house, "ada").await, number(house, RoleName::Product, felt).await), (before, counted));
    })
    .await;
}
