//! The rules of changes to an account, case by case.

use std::time::Duration;

use mesh::{Tenant, store::Location};

use super::*;
use crate::profile::{Change, Draft, Key};

/// Ada's account.
pub(crate) fn account(status: Standing) -> Account {
    let gone = matches!(status, Standing::Deleted | Standing::Erased);
    Account {
        user_id: UserId::parse("ada").unwrap(),
        email: Email::parse("ada@example.com").unwrap(),
        name: "Ada".to_owned(),
        subscription_tier: Tier::Free,
        status,
        status_reason: String::new(),
        preferences: Preferences::default(),
        version: 3,
        create_time: Time::from_micros(1),
        update_time: Time::from_micros(1),
        delete_time: gone.then(|| Time::from_micros(2)),
    }
}

#[test]
fn a_change_needs_a_living_account_and_a_fresh_etag() {
    let check = |status, etag: &str, expected: &str| {
        let outcome = account(status).living().and_then(|account| account.at(Etag::parse_optional(etag)));
        assert_eq!(outcome.map_or_else(|refused| refused.to_string(), |_| "may be changed".to_owned()), expected);
    };
    check(Standing::Active, "", "may be changed");
    check(Standing::Active, "v3", "may be changed");
    check(Standing::Suspended, "v3", "may be changed");
    check(Standing::Active, "v2", "account ada is at v3, not at v2");
    check(Standing::Deleted, "v2", "account ada was deleted");
    check(Standing::Erased, "v2", "account ada was erased");
}

#[test]
fn a_change_is_told_by_the_names_of_what_changed() {
    let before = account(Standing::Active);
    let mut after = Account { name: "Ada L.".to_owned(), status: Standing::Suspended, ..before.clone() };
    after.preferences.notification_push = false;
    assert_eq!(before.differing(&after), ["name", "status", "preferences.notification_push"]);
    assert_eq!(before.differing(&before), [""; 0]);
}

#[tokio::test]
async fn a_change_that_leaves_no_line_of_history_is_no_change() {
    let store = Store::open(Location::Memory).await.unwrap();
    store.migrate(&crate::migrations::all()).await.unwrap();
    let accounts = Accounts { store: store.clone(), clock: Clock::system() };
    let context = Context::own(Tenant::default_tenant(), Duration::from_secs(10));
    let draft = |user_id: &str| Draft {
        user_id: UserId::parse(user_id).unwrap(),
        email: Email::parse(&format!("{user_id}@example.com")).unwrap(),
        name: "Ada".to_owned(),
        subscription_tier: Tier::Free,
    };
    accounts.ensure(&context, draft("ada")).await.unwrap().unwrap();
    table::rename_history(store.reader()).await;
    let change = Change { name: Some("Grace".to_owned()), email: None, etag: None };
    assert!(accounts.update(&context, draft("ada").user_id, change).await.is_err());
    assert!(accounts.ensure(&context, draft("bob")).await.is_err());
    let find = |user_id: &str| accounts.find(&context, Key::UserId(UserId::parse(user_id).unwrap()));
    assert_eq!(find("ada").await.unwrap().unwrap().name, "Ada");
    assert!(matches!(find("bob").await.unwrap(), Err(Refused::NoAccount(_))));
}
