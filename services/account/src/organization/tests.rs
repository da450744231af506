//! The rule of roles, case by case. What takes locks and rows is tested over a real store, through gRPC.

use super::*;

const ROLES: [Option<Role>; 4] = [None, Some(Role::Member), Some(Role::Admin), Some(Role::Owner)];

#[test]
fn an_owner_stops_being_one_only_where_another_remains() {
    for wished in ROLES.into_iter().filter(|wished| *wished != Some(Role::Owner)) {
        assert_eq!(decide(Some(Role::Owner), wished, false), Verdict::LastOwner, "{wished:?}");
        assert_eq!(decide(Some(Role::Owner), wished, true), Verdict::Granted, "{wished:?}");
    }
}

#[test]
fn who_is_no_owner_takes_any_role_and_leaves_whoever_owns_it() {
    for held in ROLES.into_iter().filter(|held| *held != Some(Role::Owner)) {
        for wished in ROLES.into_iter().filter(|wished| *wished != held) {
            for another_owner in [false, true] {
                assert_eq!(decide(held, wished, another_owner), Verdict::Granted, "{held:?} {wished:?}");
            }
        }
    }
}

#[test]
fn what_is_so_already_is_no_change_for_the_last_owner_either() {
    for held in ROLES {
        for another_owner in [false, true] {
            assert_eq!(decide(held, held, another_owner), Verdict::Nothing, "{held:?}");
        }
    }
}

#[test]
fn a_change_comes_after_the_one_before_whatever_the_clock_says() {
    let at = |micros| {
        let context = Context::own(Tenant::default_tenant(), Duration::from_secs(1));
        Author::of(&context, &Clock::held(Time::from_micros(micros)))
    };
    let organization = Organization {
        organization_id: Slug::parse("acme").unwrap(),
        name: "Acme".to_owned(),
        version: 1,
        create_time: Time::from_micros(100),
        update_time: Time::from_micros(200),
    };
    for (clock, moment) in [(50, 201), (200, 201), (201, 201), (900, 900)] {
        assert_eq!(organization.next_moment(&at(clock)), Time::from_micros(moment));
    }
}
