//! Organizations and members, page by page.

use std::collections::BTreeSet;

use mesh::{Clock, Telemetry, Time};
use trivet::{RoleName, plan};

use super::*;
use crate::harness::{Databases, config};

#[tokio::test(flavor = "multi_thread")]
async fn members_are_listed_as_they_joined_and_none_is_missed_or_repeated_while_others_join() {
    on_every_store(async |house| {
        let user_ids: Vec<String> = (0..12).rev().map(|number| format!("user-{number:02}")).collect();
        people(house, &user_ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
        people(house, &["aaa-0", "aaa-1", "aaa-2", "aaa-3", "aaa-4", "aaa-5"]).await;
        house.organizations().create_organization(acme("acme", &user_ids[0])).await.unwrap();
        for user_id in &user_ids[1..] {
            join(house, "acme", user_id, Plain).await.unwrap();
        }
        let (mut listed, mut late) = (Vec::new(), Vec::new());
        let mut request = ListMembersRequest { page_size: 3, ..members_of("acme") };
        for round in 0.. {
            let (mut page, response) = members(house, request.clone()).await;
            assert!((1..=3).contains(&page.len()));
            listed.append(&mut page);
            request.page_token = response.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
            if round < 3 {
                late.push(format!("aaa-{round}"));
                join(house, "acme", &late[round], Plain).await.unwrap();
                // Another role is no other place.
                join(house, "acme", &user_ids[11 - round], Admin).await.unwrap();
                join(house, "acme", &user_ids[round + 1], Admin).await.unwrap();
            }
        }
        assert_eq!(listed, [user_ids, late].concat());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_who_join_at_once_are_all_listed_once() {
    on_every_store(async |house| {
        let user_ids: Vec<String> = (0..16).map(|number| format!("user-{number:02}")).collect();
        people(house, &user_ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
        house.organizations().create_organization(acme("acme", "user-00")).await.unwrap();
        let calls: Vec<_> = user_ids
            .iter()
            .map(|user_id| {
                let (mut organizations, add) = (house.organizations(), add("acme", user_id, Owner));
                tokio::spawn(async move { organizations.add_member(add).await.unwrap() })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        let (listed, response) = members(house, members_of("acme")).await;
        assert_eq!((listed.len(), response.total_size), (16, Some(16)));
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), user_ids.into_iter().collect());
        let moments: BTreeSet<_> =
            response.members.iter().map(|member| member.create_time.map(|time| (time.seconds, time.nanos))).collect();
        assert_eq!(moments.len(), 16, "no two of them joined at once");
        assert_eq!(history(house, "acme").await.len(), 16);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_keep_the_order_of_their_joining_also_where_a_clock_stands_still() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let (config, clock) = (config(&databases, &[]), Clock::held(Time::from_micros(1_000_000)));
        let plan = plan(&config, &[RoleName::Account], Telemetry::quiet().unwrap(), clock).unwrap();
        let house = House { config, running: plan.bind().await.unwrap().start().await.unwrap() };
        people(&house, &["dan", "cyd", "bob", "ada"]).await;
        house.organizations().create_organization(acme("acme", "dan")).await.unwrap();
        for user_id in ["cyd", "bob"] {
            join(&house, "acme", user_id, Plain).await.unwrap();
        }
        let request = ListMembersRequest { page_size: 2, ..members_of("acme") };
        let (first, response) = members(&house, request.clone()).await;
        join(&house, "acme", "ada", Plain).await.unwrap();
        let request = ListMembersRequest { page_token: response.next_page_token, ..request };
        let (second, _) = members(&house, request).await;
        assert_eq!([first, second].concat(), ["dan", "cyd", "bob", "ada"]);
        house.running.drain(std::future::pending()).await;
        databases.done().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn organizations_are_listed_newest_first_all_of_them_or_a_users() {
    on_every_store(async |house| {
        people(house, &["ada", "bob"]).await;
        let ids: Vec<String> = (0..7).map(|number| format!("org-{number}")).collect();
        for id in &ids {
            house.organizations().create_organization(acme(id, "ada")).await.unwrap();
        }
        // Bob joins in another order: lists go by when an organization was made.
        for number in [4, 0, 6, 2] {
            join(house, &ids[number], "bob", Plain).await.unwrap();
        }
        let newest_first = |numbers: &[usize]| numbers.iter().map(|number| ids[*number].clone()).collect::<Vec<_>>();
        for (user_id, expected) in [
            ("", newest_first(&[6, 5, 4, 3, 2, 1, 0])),
            ("ada", newest_first(&[6, 5, 4, 3, 2, 1, 0])),
            ("bob", newest_first(&[6, 4, 2, 0])),
        ] {
            let mut listed = Vec::new();
            let mut request = ListOrganizationsRequest { page_size: 2, ..organizations_of(user_id) };
            loop {
                let (mut page, response) = organizations(house, request.clone()).await;
                assert!(response.total_size >= Some(i64::try_from(expected.len()).unwrap()));
                listed.append(&mut page);
                request.page_token = response.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
                // Newer than everything on the pages to come: none of them may move.
                let late = format!("late-{}{}", user_id, listed.len());
                house.organizations().create_organization(acme(&late, "ada")).await.unwrap();
            }
            listed.retain(|id| !id.starts_with("late-"));
            assert_eq!(listed, expected, "{user_id:?}");
        }
        let without = ListOrganizationsRequest { with_total: false, ..organizations_of("bob") };
        assert_eq!(organizations(house, without).await.1.total_size, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_of_organizations_or_members_serves_no_other_list() {
    on_every_store(async |house| {
        people(house, &["ada", "bob"]).await;
        let mut organizations = house.organizations();
        for id in ["acme", "globex"] {
            organizations.create_organization(acme(id, "ada")).await.unwrap();
            join(house, id, "bob", Plain).await.unwrap();
        }
        let all = ListOrganizationsRequest { page_size: 1, ..organizations_of("") };
        let of_all = organizations.list_organizations(all.clone()).await.unwrap().into_inner().next_page_token;
        let of_acme = ListMembersRequest { page_size: 1, ..members_of("acme") };
        let of_acme = organizations.list_members(of_acme).await.unwrap().into_inner().next_page_token;
        let garbled = format!("{}{}", if of_all.starts_with('A') { 'B' } else { 'A' }, &of_all[1..]);
        let refused = (Code::InvalidArgument, "INVALID_PAGE_TOKEN".to_owned());
        for (user_id, token) in [("bob", of_all.as_str()), ("", "x"), ("", &garbled), ("", &of_acme)] {
            let list = ListOrganizationsRequest { page_token: token.to_owned(), ..organizations_of(user_id) };
            assert_eq!(why(organizations.list_organizations(list).await), refused, "{user_id:?} {token}");
        }
        for (organization_id, token) in [("globex", of_acme.as_str()), ("acme", &of_all)] {
            let list = ListMembersRequest { page_token: token.to_owned(), ..members_of(organization_id) };
            assert_eq!(why(organizations.list_members(list).await), refused);
        }
        // The size of a page is not part of what a token is bound to; the tenant is.
        let list = ListOrganizationsRequest { page_token: of_all, page_size: 1_000, ..all };
        assert_eq!(why(organizations.list_organizations(of("initech", list.clone())).await), refused);
        assert_eq!(organizations.list_organizations(list).await.unwrap().into_inner().organizations.len(), 1);
    })
    .await;
}
