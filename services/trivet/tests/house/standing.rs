//! Suspended, deleted, restored, erased: what becomes of an account, and what its history says of it.

use tonic::{Code, Request, Status};
use trivet_proto::account::v1::{
    Account, AccountAction, AccountHistoryEntry, AccountStatus, ChangeAccountStatusRequest, DeleteAccountRequest,
    EraseAccountRequest, ListAccountHistoryRequest, Preferences, RestoreAccountRequest, UpdateAccountRequest,
    UpdatePreferencesRequest,
};

use crate::{
    accounts::{by_email, by_id},
    harness::{House, faulty, on_every_store, person, reason},
};

async fn change(house: &House, status: AccountStatus, etag: &str) -> Result<Account, Status> {
    let change = ChangeAccountStatusRequest {
        user_id: "ada".to_owned(),
        status: status.into(),
        reason: "the bill".to_owned(),
        etag: etag.to_owned(),
    };
    Ok(house.accounts().change_account_status(change).await?.into_inner().account.unwrap())
}

async fn delete(house: &House, user_id: &str) -> Result<Account, Status> {
    let delete = DeleteAccountRequest { user_id: user_id.to_owned(), reason: "left".to_owned() };
    Ok(house.accounts().delete_account(delete).await?.into_inner().account.unwrap())
}

async fn restore(house: &House, user_id: &str) -> Result<Account, Status> {
    let restore = RestoreAccountRequest { user_id: user_id.to_owned(), reason: "back".to_owned() };
    Ok(house.accounts().restore_account(restore).await?.into_inner().account.unwrap())
}

async fn erase(house: &House, user_id: &str) -> Result<Account, Status> {
    let erase = EraseAccountRequest { user_id: user_id.to_owned(), reason: "asked to".to_owned() };
    Ok(house.accounts().erase_account(erase).await?.into_inner().account.unwrap())
}

async fn history(house: &House, user_id: &str) -> Vec<AccountHistoryEntry> {
    let ask = ListAccountHistoryRequest { user_id: user_id.to_owned(), ..ListAccountHistoryRequest::default() };
    house.accounts().list_account_history(ask).await.unwrap().into_inner().entries
}

/// Every write but Restore, and what each is refused with.
async fn writes(house: &House, user_id: &str) -> Vec<String> {
    let mut accounts = house.accounts();
    let update = UpdateAccountRequest { user_id: user_id.to_owned(), name: Some("X".to_owned()), ..Default::default() };
    let settings = UpdatePreferencesRequest {
        user_id: user_id.to_owned(),
        preferences: Some(Preferences { notification_push: Some(false), ..Preferences::default() }),
        ..UpdatePreferencesRequest::default()
    };
    let suspend = ChangeAccountStatusRequest {
        user_id: user_id.to_owned(),
        status: AccountStatus::Suspended.into(),
        reason: "x".to_owned(),
        etag: String::new(),
    };
    [
        accounts.ensure_account(person(user_id)).await.unwrap_err(),
        accounts.update_account(update).await.unwrap_err(),
        accounts.update_preferences(settings).await.unwrap_err(),
        accounts.change_account_status(suspend).await.unwrap_err(),
    ]
    .iter()
    .map(|status| {
        assert_eq!(status.code(), Code::FailedPrecondition);
        reason(status)
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_suspended_and_let_act_again_with_a_reason() {
    on_every_store(async |house| {
        let first = house.accounts().ensure_account(person("ada")).await.unwrap().into_inner().account.unwrap();
        let suspended = change(house, AccountStatus::Suspended, &first.etag).await.unwrap();
        assert_eq!((suspended.status(), suspended.status_reason.as_str()), (AccountStatus::Suspended, "the bill"));
        assert_eq!(reason(&change(house, AccountStatus::Active, &first.etag).await.unwrap_err()), "ETAG_MISMATCH");
        let again = change(house, AccountStatus::Suspended, "").await.unwrap();
        assert_eq!(again, suspended, "the same once more changes nothing");
        let active = change(house, AccountStatus::Active, &suspended.etag).await.unwrap();
        assert_eq!(active.status(), AccountStatus::Active);
        for status in [AccountStatus::Unspecified, AccountStatus::Deleted, AccountStatus::Erased] {
            assert_eq!(faulty(&change(house, status, "").await.unwrap_err()), ["status"]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_account_is_there_to_be_read_and_restored_and_takes_no_other_write() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        let deleted = delete(house, "ada").await.unwrap();
        assert_eq!((deleted.status(), deleted.status_reason.as_str()), (AccountStatus::Deleted, "left"));
        assert!(deleted.delete_time.is_some());
        assert_eq!(delete(house, "ada").await.unwrap(), deleted, "deleting it again is the same answer");
        let read = house.accounts().get_account(by_id("ada")).await.unwrap().into_inner().account.unwrap();
        assert_eq!(read, deleted);
        let by_address = house.accounts().get_account(by_email("ada@example.com")).await.unwrap_err();
        assert_eq!(reason(&by_address), "ACCOUNT_NOT_FOUND");
        assert_eq!(writes(house, "ada").await, ["ACCOUNT_DELETED"; 4]);
        let restored = restore(house, "ada").await.unwrap();
        assert_eq!((restored.status(), restored.status_reason.as_str()), (AccountStatus::Active, "back"));
        assert_eq!((restored.delete_time, restored.name.as_str()), (None, "User ada"));
        assert_eq!(reason(&restore(house, "ada").await.unwrap_err()), "ACCOUNT_NOT_DELETED");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_a_deleted_account_is_free_and_who_takes_it_keeps_it() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        delete(house, "ada").await.unwrap();
        let mut heir = person("heir");
        heir.email = "ADA@example.com".to_owned();
        assert!(house.accounts().ensure_account(heir).await.unwrap().into_inner().created);
        let refused = restore(house, "ada").await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "EMAIL_TAKEN"));
        delete(house, "heir").await.unwrap();
        restore(house, "ada").await.unwrap();
        assert_eq!(reason(&restore(house, "heir").await.unwrap_err()), "EMAIL_TAKEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_account_has_nothing_to_show_and_never_comes_back() {
    on_every_store(async |house| {
        for (user_id, deleted) in [("ada", false), ("bob", true)] {
            house.user(user_id, "5").await;
            if deleted {
                delete(house, user_id).await.unwrap();
            }
            let erased = erase(house, user_id).await.unwrap();
            assert_eq!((erased.user_id.as_str(), erased.status()), (user_id, AccountStatus::Erased));
            assert_eq!((erased.name.as_str(), erased.email.as_str(), erased.status_reason.as_str()), ("", "", ""));
            assert_eq!(erase(house, user_id).await.unwrap(), erased, "erasing it again is the same answer");
            let read = house.accounts().get_account(by_id(user_id)).await.unwrap_err();
            assert_eq!((read.code(), reason(&read).as_str()), (Code::FailedPrecondition, "ACCOUNT_ERASED"));
            assert_eq!(writes(house, user_id).await, ["ACCOUNT_ERASED"; 4]);
            for refused in [delete(house, user_id).await, restore(house, user_id).await] {
                assert_eq!(reason(&refused.unwrap_err()), "ACCOUNT_ERASED");
            }
            // Money stays where it is.
            let wallet =
                trivet_proto::billing::v1::GetWalletRequest { user_id: user_id.to_owned(), ..Default::default() };
            assert_eq!(house.wallets().get_wallet(wallet).await.unwrap().into_inner().wallet.unwrap().balance, "5");
        }
        assert!(house.accounts().ensure_account(person("cyd")).await.unwrap().into_inner().created);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_an_account_that_is_not_there_is_refused() {
    on_every_store(async |house| {
        for refused in [delete(house, "nobody").await, restore(house, "nobody").await, erase(house, "nobody").await] {
            let refused = refused.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "ACCOUNT_NOT_FOUND"));
        }
        let ask = ListAccountHistoryRequest { user_id: "nobody".to_owned(), ..Default::default() };
        let refused = house.accounts().list_account_history(ask).await.unwrap_err();
        assert_eq!(reason(&refused), "ACCOUNT_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_leaves_one_line_of_who_when_what_and_why() {
    on_every_store(async |house| {
        let mut signup = Request::new(person("ada"));
        signup.metadata_mut().insert("x-request-id", "signup-1".parse().unwrap());
        house.accounts().ensure_account(signup).await.unwrap();
        house.accounts().ensure_account(person("ada")).await.unwrap();
        let rename = |name: &str| UpdateAccountRequest {
            user_id: "ada".to_owned(),
            name: Some(name.to_owned()),
            email: Some("new@example.com".to_owned()),
            ..UpdateAccountRequest::default()
        };
        house.accounts().update_account(rename("Ada L.")).await.unwrap();
        house.accounts().update_account(rename("Ada L.")).await.unwrap();
        let settings = UpdatePreferencesRequest {
            user_id: "ada".to_owned(),
            preferences: Some(Preferences { timezone: Some("Asia/Tokyo".to_owned()), ..Preferences::default() }),
            ..UpdatePreferencesRequest::default()
        };
        house.accounts().update_preferences(settings).await.unwrap();
        change(house, AccountStatus::Suspended, "").await.unwrap();
        delete(house, "ada").await.unwrap();
        delete(house, "ada").await.unwrap();
        restore(house, "ada").await.unwrap();

        let entries = history(house, "ada").await;
        let told: Vec<_> = entries
            .iter()
            .map(|entry| (entry.sequence, entry.action(), entry.changed_fields.join(" "), entry.reason.as_str()))
            .collect();
        let expected = [
            (6, AccountAction::Restored, "status status_reason delete_time", "back"),
            (5, AccountAction::Deleted, "status status_reason delete_time", "left"),
            (4, AccountAction::StatusChanged, "status status_reason", "the bill"),
            (3, AccountAction::PreferencesUpdated, "preferences.timezone", ""),
            (2, AccountAction::ProfileUpdated, "name email", ""),
            (1, AccountAction::Created, "email name subscription_tier", ""),
        ];
        assert_eq!(told, expected.map(|(number, action, fields, why)| (number, action, fields.to_owned(), why)));
        assert!(entries.iter().all(|entry| entry.actor == "operator" && entry.time.is_some()));
        assert!(entries.iter().all(|entry| !entry.request_id.is_empty()));
        assert_eq!(entries[5].request_id, "signup-1");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_paged_counted_and_bound_to_its_account() {
    on_every_store(async |house| {
        for user_id in ["ada", "bob"] {
            house.accounts().ensure_account(person(user_id)).await.unwrap();
        }
        for status in [AccountStatus::Suspended, AccountStatus::Active, AccountStatus::Suspended] {
            change(house, status, "").await.unwrap();
        }
        let mut accounts = house.accounts();
        let mut ask = ListAccountHistoryRequest {
            user_id: "ada".to_owned(),
            page_size: 3,
            with_total: true,
            ..ListAccountHistoryRequest::default()
        };
        let first = accounts.list_account_history(ask.clone()).await.unwrap().into_inner();
        ask.page_token.clone_from(&first.next_page_token);
        let second = accounts.list_account_history(ask.clone()).await.unwrap().into_inner();
        let numbers: Vec<i64> = first.entries.iter().chain(&second.entries).map(|entry| entry.sequence).collect();
        assert_eq!((numbers, first.total_size, second.next_page_token.as_str()), (vec![4, 3, 2, 1], Some(4), ""));
        ask.user_id = "bob".to_owned();
        assert_eq!(reason(&accounts.list_account_history(ask).await.unwrap_err()), "INVALID_PAGE_TOKEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_history_keeps_what_was_done_and_none_of_the_words() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        change(house, AccountStatus::Suspended, "").await.unwrap();
        erase(house, "ada").await.unwrap();
        let entries = history(house, "ada").await;
        let actions: Vec<_> = entries.iter().map(AccountHistoryEntry::action).collect();
        assert_eq!(actions, [AccountAction::Erased, AccountAction::StatusChanged, AccountAction::Created]);
        assert!(entries.iter().all(|entry| entry.reason.is_empty() && entry.request_id.is_empty()));
    })
    .await;
}
