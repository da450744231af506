//! The rules of standing: every step from every standing.

use super::*;

/// Ada's account, with something in every field.
fn account(status: Standing) -> Account {
    let status_reason = "before".to_owned();
    Account { subscription_tier: Tier::Premium, status_reason, ..crate::account::tests::account(status) }
}

/// A step from each of ACTIVE, SUSPENDED, DELETED and ERASED: the standing after it, its reason and when it was deleted.
fn check(step: impl Fn(Account) -> Result<Account, Refused>, expected: [&str; 4]) {
    let all = [Standing::Active, Standing::Suspended, Standing::Deleted, Standing::Erased];
    let outcomes = all.map(|status| match step(account(status)) {
        Ok(after) => {
            let deleted = after.delete_time.map_or(String::new(), |time| format!(" at {}", time.micros()));
            format!("{} for {:?}{deleted}", after.status, after.status_reason)
        }
        Err(refused) => refused.to_string(),
    });
    assert_eq!(outcomes, expected);
}

#[test]
fn every_step_from_every_standing() {
    let change = |suspended| Change { suspended, reason: "now".to_owned(), etag: None };
    let gone = ["account ada was deleted", "account ada was erased"];
    check(
        |account| changed(account, &change(true)),
        [r#"SUSPENDED for "now""#, r#"SUSPENDED for "now""#, gone[0], gone[1]],
    );
    check(|account| changed(account, &change(false)), [r#"ACTIVE for "now""#, r#"ACTIVE for "now""#, gone[0], gone[1]]);
    check(
        |account| deleted(account, "now", Time::from_micros(9)),
        [r#"DELETED for "now" at 9"#, r#"DELETED for "now" at 9"#, r#"DELETED for "before" at 2"#, gone[1]],
    );
    let stays = "account ada is not deleted";
    check(|account| restored(account, "now"), [stays, stays, r#"ACTIVE for "now""#, gone[1]]);
    check(
        |account| Ok(erased(account, Time::from_micros(9))),
        [r#"ERASED for "" at 9"#, r#"ERASED for "" at 9"#, r#"ERASED for "" at 2"#, r#"ERASED for "" at 2"#],
    );
}

#[test]
fn nothing_personal_is_left_of_an_erased_account() {
    let erased = erased(account(Standing::Suspended), Time::from_micros(9));
    let blank = Account { user_id: erased.user_id.clone(), ..erased.clone() };
    assert_eq!((blank.name.as_str(), blank.email.as_str(), blank.status_reason.as_str()), ("", "", ""));
    assert_eq!((blank.subscription_tier, blank.preferences), (Tier::Free, Preferences::default()));
}
