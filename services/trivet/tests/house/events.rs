//! What account writes down for the others, in the transaction that makes it true.

use mesh::{Store, store::sql};
use sea_orm::ConnectionTrait as _;
use tonic::Request;
use trivet_proto::{
    EVENTS, Event,
    account::v1::{
        AccountStatus, ChangeAccountStatusRequest, DeleteAccountRequest, EraseAccountRequest, RestoreAccountRequest,
        UpdateAccountRequest, UserCreated, UserDeleted, UserProfileUpdated, UserStatusChanged,
    },
};

use crate::harness::{House, on_every_store, person};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A row of the outbox.
struct Told {
    kind: String,
    version: i64,
    data: Vec<u8>,
    traceparent: String,
    text: String,
}

impl Told {
    /// The message, if it is one of this kind.
    fn read<E: Event>(&self) -> E {
        assert_eq!(self.kind, E::KIND.kind);
        E::decode(self.data.as_slice()).unwrap()
    }
}

/// What is told of a user, in the order of the outbox.
async fn told(house: &House, user_id: &str) -> Vec<Told> {
    let store = Store::open(house.config.account.location("account", &house.config.data_dir).unwrap()).await.unwrap();
    let reader = store.reader();
    let text =
        "select type, aggregate, subject, tenant_id, aggregate_version, data, traceparent, causation_id, data_schema
                  from outbox where subject = $1 order by position";
    let rows = reader.query_all_raw(sql(reader, text, [user_id.into()])).await.unwrap();
    let told = rows.iter().map(|row| {
        let column = |name: &str| row.try_get::<String>("", name).unwrap();
        Told {
            kind: column("type"),
            version: row.try_get("", "aggregate_version").unwrap(),
            data: row.try_get("", "data").unwrap(),
            traceparent: column("traceparent"),
            text: ["aggregate", "tenant_id", "causation_id", "data_schema"].map(column).join(" "),
        }
    });
    let told = told.collect();
    store.close().await.unwrap();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_an_account_is_told_once_in_order_and_with_its_version() {
    on_every_store(async |house| {
        let mut accounts = house.accounts();
        let user_id = || "ada".to_owned();
        let mut signup = Request::new(person("ada"));
        signup.metadata_mut().insert("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01").parse().unwrap());
        accounts.ensure_account(signup).await.unwrap();
        accounts.ensure_account(person("ada")).await.unwrap();
        let rename =
            || UpdateAccountRequest { user_id: user_id(), name: Some("Ada L.".to_owned()), ..Default::default() };
        accounts.update_account(rename()).await.unwrap();
        accounts.update_account(rename()).await.unwrap();
        let suspend = ChangeAccountStatusRequest {
            user_id: user_id(),
            status: AccountStatus::Suspended.into(),
            reason: "late".to_owned(),
            etag: String::new(),
        };
        accounts.change_account_status(suspend).await.unwrap();
        for _ in 0..2 {
            let delete = DeleteAccountRequest { user_id: user_id(), reason: String::new() };
            accounts.delete_account(delete).await.unwrap();
        }
        let restore = RestoreAccountRequest { user_id: user_id(), reason: String::new() };
        accounts.restore_account(restore).await.unwrap();
        let erase = EraseAccountRequest { user_id: user_id(), reason: String::new() };
        accounts.erase_account(erase).await.unwrap();

        let told = told(house, "ada").await;
        assert_eq!(told.iter().map(|told| told.version).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(told[0].read::<UserCreated>().user_id, "ada");
        assert_eq!(told[1].read::<UserProfileUpdated>().changed_fields, ["name"]);
        let steps: Vec<_> = [&told[2], &told[4]].map(Told::read::<UserStatusChanged>).to_vec();
        assert_eq!((steps[0].from(), steps[0].to()), (AccountStatus::Active, AccountStatus::Suspended));
        assert_eq!((steps[1].from(), steps[1].to()), (AccountStatus::Deleted, AccountStatus::Active));
        assert_eq!([&told[3], &told[5]].map(|told| told.read::<UserDeleted>().erased), [false, true]);
        assert!(told[0].traceparent.starts_with(&format!("00-{TRACE}-")), "{}", told[0].traceparent);
        assert_eq!(told[0].text, "user default  trivet.account.v1.UserCreated");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_at_once_are_told_of_as_one_new_user() {
    on_every_store(async |house| {
        let callers = (0..100).map(|_| async { house.accounts().ensure_account(person("ada")).await.unwrap() });
        futures_util::future::join_all(callers).await;
        assert_eq!(told(house, "ada").await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_refused_is_not_told() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        house.accounts().ensure_account(person("bob")).await.unwrap();
        let take = UpdateAccountRequest {
            user_id: "bob".to_owned(),
            email: Some("ada@example.com".to_owned()),
            ..UpdateAccountRequest::default()
        };
        house.accounts().update_account(take).await.unwrap_err();
        assert_eq!(told(house, "bob").await.len(), 1);
    })
    .await;
}

#[test]
fn every_kind_of_event_is_known_by_its_type() {
    let known: Vec<&str> = EVENTS.iter().map(|event| event.kind).collect();
    let expected = [
        "deduction.made",
        "hold.captured",
        "hold.placed",
        "hold.released",
        "payment.completed",
        "product.created",
        "product.deleted",
        "product.updated",
        "product.usage.recorded",
        "product.usage.voided",
        "refund.made",
        "subscription.activated",
        "subscription.canceled",
        "subscription.changed",
        "subscription.created",
        "subscription.expired",
        "subscription.renewed",
        "subscription.status_changed",
        "user.created",
        "user.deleted",
        "user.profile_updated",
        "user.status_changed",
        "wallet.insufficient_funds",
    ];
    assert_eq!(known, expected);
    assert_eq!(UserCreated::KIND.message, "trivet.account.v1.UserCreated");
}
