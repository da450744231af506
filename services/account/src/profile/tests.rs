//! The rule of profiles, case by case.

use super::*;

fn account(status: Standing) -> Account {
    Account {
        user_id: UserId::parse("ada").unwrap(),
        email: Email::parse("ada@example.com").unwrap(),
        name: "Ada".to_owned(),
        subscription_tier: Tier::Free,
        status,
        status_reason: String::new(),
        version: 3,
        create_time: Time::from_micros(1),
        update_time: Time::from_micros(1),
    }
}

/// What comes of changing Ada's account: `name`, `etag` → the account's name and version, or the refusal.
fn check(status: Standing, name: Option<&str>, etag: &str, expected: &str) {
    let change = Change {
        user_id: UserId::parse("ada").unwrap(),
        name: name.map(str::to_owned),
        email: None,
        etag: Etag::parse_optional(etag),
    };
    let outcome = match changed(account(status), &change, Time::from_micros(9)) {
        Ok((after, true)) => format!("{} at v{}, {}", after.name, after.version, after.update_time.micros()),
        Ok((after, false)) => format!("{} still at v{}", after.name, after.version),
        Err(refused) => refused.to_string(),
    };
    assert_eq!(outcome, expected);
}

#[test]
fn a_change_needs_a_living_account_and_a_fresh_etag() {
    check(Standing::Active, Some("Ada L."), "", "Ada L. at v4, 9");
    check(Standing::Active, Some("Ada L."), "v3", "Ada L. at v4, 9");
    check(Standing::Suspended, Some("Ada L."), "v3", "Ada L. at v4, 9");
    check(Standing::Active, Some("Ada L."), "v2", "account ada is at v3, not at v2");
    check(Standing::Deleted, Some("Ada L."), "v2", "account ada was deleted");
    check(Standing::Erased, Some("Ada L."), "v2", "account ada was erased");
}

#[test]
fn a_change_of_nothing_makes_no_new_version() {
    check(Standing::Active, Some("Ada"), "v3", "Ada still at v3");
}

#[test]
fn an_email_address_is_trimmed_bounded_and_compared_in_lower_case() {
    let email = Email::parse("  Ada@Example.COM ").unwrap();
    assert_eq!((email.as_str(), email.key().as_str()), ("Ada@Example.COM", "ada@example.com"));
    for garbled in ["", "ada", "@example.com", "ada@", "a@b@c", "a b@c.d", "a\0@c.d"] {
        assert_eq!(Email::parse(garbled), Err(EmailFault::Form), "{garbled:?}");
    }
    let longest = format!("{}@example.com", "x".repeat(242));
    assert!(Email::parse(&longest).is_ok());
    assert_eq!(Email::parse(&format!("x{longest}")), Err(EmailFault::TooLong));
}
