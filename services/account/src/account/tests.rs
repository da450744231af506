//! The rules of changes to an account, case by case.

use super::*;

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
