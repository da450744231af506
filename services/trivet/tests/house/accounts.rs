//! Accounts, as their callers see them.

use tonic::Code;
use trivet_proto::account::v1::{
    AccountStatus, BatchGetAccountsRequest, GetAccountRequest, SubscriptionTier, UpdateAccountRequest,
    get_account_request::Key,
};

use crate::harness::{faulty, on_every_store, person, reason, told};

pub(crate) fn by_id(user_id: &str) -> GetAccountRequest {
    GetAccountRequest { key: Some(Key::UserId(user_id.to_owned())), ..Default::default() }
}

pub(crate) fn by_email(email: &str) -> GetAccountRequest {
    GetAccountRequest { key: Some(Key::Email(email.to_owned())), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn ensuring_an_account_makes_it_once_and_never_changes_it() {
    on_every_store(async |house| {
        let mut accounts = house.accounts();
        let first = accounts.ensure_account(person("ada")).await.unwrap().into_inner();
        assert!(first.created);
        let account = first.account.unwrap();
        assert_eq!((account.status(), account.subscription_tier()), (AccountStatus::Active, SubscriptionTier::Free));
        let mut other = person("ada");
        other.name = "Somebody Else".to_owned();
        let again = accounts.ensure_account(other).await.unwrap().into_inner();
        assert!(!again.created);
        assert_eq!(again.account.unwrap(), account);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_at_once_make_one_account() {
    on_every_store(async |house| {
        let callers: Vec<_> = (0..100)
            .map(|_| {
                let mut accounts = house.accounts();
                tokio::spawn(async move { accounts.ensure_account(person("ada")).await.unwrap().into_inner().created })
            })
            .collect();
        let mut created = 0;
        for caller in callers {
            created += u32::from(caller.await.unwrap());
        }
        assert_eq!(created, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_address_belongs_to_one_account_whatever_its_case() {
    on_every_store(async |house| {
        let mut accounts = house.accounts();
        accounts.ensure_account(person("ada")).await.unwrap();
        let mut imposter = person("eve");
        imposter.email = " ADA@example.COM ".to_owned();
        let refused = accounts.ensure_account(imposter).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "EMAIL_TAKEN"));
        accounts.ensure_account(person("eve")).await.unwrap();
        let take = UpdateAccountRequest {
            user_id: "eve".to_owned(),
            email: Some("Ada@example.com".to_owned()),
            ..UpdateAccountRequest::default()
        };
        assert_eq!(reason(&accounts.update_account(take).await.unwrap_err()), "EMAIL_TAKEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_found_by_its_id_and_by_its_email_address() {
    on_every_store(async |house| {
        let mut accounts = house.accounts();
        let made = accounts.ensure_account(person("ada")).await.unwrap().into_inner().account;
        assert_eq!(accounts.get_account(by_id("ada")).await.unwrap().into_inner().account, made);
        assert_eq!(accounts.get_account(by_email("ADA@example.com")).await.unwrap().into_inner().account, made);
        for nobody in [by_id("bob"), by_email("bob@example.com")] {
            let refused = accounts.get_account(nobody).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "ACCOUNT_NOT_FOUND"));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_comes_back_in_the_order_of_the_request_with_what_is_missing_named() {
    on_every_store(async |house| {
        let mut accounts = house.accounts();
        for user_id in ["ada", "bob", "cyd"] {
            accounts.ensure_account(person(user_id)).await.unwrap();
        }
        let user_ids = ["cyd", "nobody", "ada", "cyd"].map(str::to_owned).to_vec();
        let batch = accounts.batch_get_accounts(BatchGetAccountsRequest { user_ids }).await.unwrap().into_inner();
        let found: Vec<_> = batch.accounts.iter().map(|account| account.user_id.as_str()).collect();
        assert_eq!((found, batch.missing_user_ids), (vec!["cyd", "ada"], vec!["nobody".to_owned()]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_what_it_names_and_a_stale_etag_changes_nothing() {
    on_every_store(async |house| {
        let mut accounts = house.accounts();
        let before = accounts.ensure_account(person("ada")).await.unwrap().into_inner().account.unwrap();
        let rename = |name: &str, etag: &str| UpdateAccountRequest {
            user_id: "ada".to_owned(),
            name: Some(name.to_owned()),
            etag: etag.to_owned(),
            ..UpdateAccountRequest::default()
        };
        let after =
            accounts.update_account(rename("Ada L.", &before.etag)).await.unwrap().into_inner().account.unwrap();
        assert_eq!((after.name.as_str(), after.email.as_str()), ("Ada L.", before.email.as_str()));
        assert_ne!(after.etag, before.etag);
        let refused = accounts.update_account(rename("Ada K.", &before.etag)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
        assert_eq!(told(&refused, "etag"), after.etag);
        assert_eq!(accounts.get_account(by_id("ada")).await.unwrap().into_inner().account.unwrap(), after);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mask_decides_what_is_set_and_an_unknown_path_is_refused() {
    on_every_store(async |house| {
        let mut accounts = house.accounts();
        accounts.ensure_account(person("ada")).await.unwrap();
        let update = |paths: &[&str]| UpdateAccountRequest {
            user_id: "ada".to_owned(),
            name: Some("Ada L.".to_owned()),
            email: Some("new@example.com".to_owned()),
            update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() }),
            etag: String::new(),
        };
        let account = accounts.update_account(update(&["name"])).await.unwrap().into_inner().account.unwrap();
        assert_eq!((account.name.as_str(), account.email.as_str()), ("Ada L.", "ada@example.com"));
        for paths in [&["*"][..], &["status"], &["name", "nmae"]] {
            let refused = accounts.update_account(update(paths)).await.unwrap_err();
            assert_eq!(reason(&refused), "INVALID_UPDATE_MASK");
            assert_eq!(faulty(&refused), ["update_mask"]);
        }
        let worse = UpdateAccountRequest { user_id: "a b".to_owned(), ..update(&["*"]) };
        let refused = accounts.update_account(worse).await.unwrap_err();
        assert_eq!(faulty(&refused), ["user_id", "update_mask"]);
    })
    .await;
}
