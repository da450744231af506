//! Who is a member, who owns an organization, and who must stay.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_or_member_must_have_an_account_that_is_not_gone() {
    on_every_store(async |house| {
        people(house, &["ada", "sue", "del", "era"]).await;
        house.organizations().create_organization(acme("acme", "ada")).await.unwrap();
        delete(house, "del").await;
        let erase = EraseAccountRequest { user_id: "era".to_owned(), ..Default::default() };
        house.accounts().erase_account(erase).await.unwrap();
        for (user_id, code, reason) in [
            ("nobody", Code::NotFound, "ACCOUNT_NOT_FOUND"),
            ("del", Code::FailedPrecondition, "ACCOUNT_DELETED"),
            ("era", Code::FailedPrecondition, "ACCOUNT_ERASED"),
        ] {
            let expected = (code, reason.to_owned());
            assert_eq!(why(house.organizations().create_organization(acme("new", user_id)).await), expected);
            assert_eq!(why(join(house, "acme", user_id, Plain).await), expected);
        }
        let suspend = ChangeAccountStatusRequest {
            user_id: "sue".to_owned(),
            status: AccountStatus::Suspended.into(),
            reason: "a question of invoices".to_owned(),
            etag: String::new(),
        };
        house.accounts().change_account_status(suspend).await.unwrap();
        house.organizations().create_organization(acme("sues", "sue")).await.unwrap();
        join(house, "acme", "sue", Admin).await.unwrap();
        assert_eq!(role(house, "acme", "sue").await, Some(Admin), "suspended is not gone");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_is_added_again_changes_role_and_keeps_their_place() {
    on_every_store(async |house| {
        people(house, &["ada", "bob", "cyd"]).await;
        house.organizations().create_organization(acme("acme", "ada")).await.unwrap();
        let before = organization(house, "acme").await;
        let joined = join(house, "acme", "bob", Plain).await.unwrap();
        assert_eq!((joined.role(), joined.update_time), (Plain, joined.create_time));
        let after = organization(house, "acme").await;
        assert_ne!(after.etag, before.etag, "members are part of the organization's state");
        assert_eq!((after.create_time, after.update_time), (before.create_time, joined.create_time));
        join(house, "acme", "cyd", Plain).await.unwrap();
        let promoted = join(house, "acme", "bob", Admin).await.unwrap();
        assert_eq!((promoted.role(), promoted.create_time), (Admin, joined.create_time));
        assert_ne!(promoted.update_time, joined.update_time);
        assert_eq!(role(house, "acme", "bob").await, Some(Admin));
        assert_eq!(members(house, members_of("acme")).await.0, ["ada", "bob", "cyd"]);
        let settled = organization(house, "acme").await;
        assert_eq!(join(house, "acme", "bob", Admin).await.unwrap(), promoted);
        assert_eq!(organization(house, "acme").await, settled, "the same role again changes nothing");
        assert_eq!(history(house, "acme").await.len(), 4);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_no_member_and_leaving_twice_changes_nothing() {
    on_every_store(async |house| {
        people(house, &["ada", "bob"]).await;
        let mut organizations = house.organizations();
        organizations.create_organization(acme("acme", "ada")).await.unwrap();
        join(house, "acme", "bob", Admin).await.unwrap();
        let before = organization(house, "acme").await;
        assert!(organizations.remove_member(remove("acme", "bob")).await.unwrap().into_inner().removed);
        assert_eq!(role(house, "acme", "bob").await, None);
        let after = organization(house, "acme").await;
        assert_ne!((&after.etag, after.update_time), (&before.etag, before.update_time));
        for user_id in ["bob", "nobody"] {
            assert!(!organizations.remove_member(remove("acme", user_id)).await.unwrap().into_inner().removed);
        }
        assert_eq!(organization(house, "acme").await, after);
        assert_eq!(
            history(house, "acme").await,
            ["CREATED name,owner", "MEMBER_ADDED members", "MEMBER_REMOVED members"]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_owner_stays_until_somebody_else_is_one() {
    on_every_store(async |house| {
        people(house, &["ada", "bob"]).await;
        let mut organizations = house.organizations();
        organizations.create_organization(acme("acme", "ada")).await.unwrap();
        join(house, "acme", "bob", Admin).await.unwrap();
        let before = organization(house, "acme").await;
        let last_owner = (Code::FailedPrecondition, "LAST_OWNER".to_owned());
        assert_eq!(why(organizations.remove_member(remove("acme", "ada")).await), last_owner);
        for lesser in [Admin, Plain] {
            assert_eq!(why(join(house, "acme", "ada", lesser).await), last_owner);
        }
        assert_eq!(join(house, "acme", "ada", Owner).await.unwrap().role(), Owner, "she is one already");
        assert_eq!(organization(house, "acme").await, before);
        join(house, "acme", "bob", Owner).await.unwrap();
        join(house, "acme", "ada", Plain).await.unwrap();
        assert!(organizations.remove_member(remove("acme", "ada")).await.unwrap().into_inner().removed);
        assert_eq!(why(organizations.remove_member(remove("acme", "bob")).await), last_owner);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_whose_account_was_deleted_does_not_count() {
    on_every_store(async |house| {
        people(house, &["ada", "bob", "cyd"]).await;
        let mut organizations = house.organizations();
        organizations.create_organization(acme("acme", "ada")).await.unwrap();
        join(house, "acme", "bob", Owner).await.unwrap();
        delete(house, "bob").await;
        let last_owner = (Code::FailedPrecondition, "LAST_OWNER".to_owned());
        assert_eq!(why(organizations.remove_member(remove("acme", "ada")).await), last_owner);
        assert_eq!(why(join(house, "acme", "ada", Plain).await), last_owner);
        // A deleted owner goes like any other, and is not there again when restored.
        assert!(organizations.remove_member(remove("acme", "bob")).await.unwrap().into_inner().removed);
        restore(house, "bob").await;
        assert_eq!(role(house, "acme", "bob").await, None);
        join(house, "acme", "cyd", Owner).await.unwrap();
        delete(house, "ada").await;
        assert_eq!(why(organizations.remove_member(remove("acme", "cyd")).await), last_owner);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_owners_who_leave_at_once_one_stays() {
    on_every_store(async |house| {
        people(house, &["ada", "bob"]).await;
        for round in 0..20 {
            let id = format!("acme-{round}");
            house.organizations().create_organization(acme(&id, "ada")).await.unwrap();
            join(house, &id, "bob", Owner).await.unwrap();
            let calls = ["ada", "bob"].map(|user_id| {
                let (mut organizations, id) = (house.organizations(), id.clone());
                tokio::spawn(async move {
                    // Leaving and becoming less are the same to an organization without an owner.
                    match round % 2 {
                        0 => organizations.remove_member(remove(&id, user_id)).await.map(|_| ()),
                        _ => organizations.add_member(add(&id, user_id, Plain)).await.map(|_| ()),
                    }
                })
            });
            let mut gone = 0;
            for call in calls {
                match call.await.unwrap() {
                    Ok(()) => gone += 1,
                    Err(refused) => assert_eq!(reason(&refused), "LAST_OWNER"),
                }
            }
            assert_eq!(gone, 1);
            let (_, left) = members(house, members_of(&id)).await;
            assert_eq!(left.members.iter().filter(|member| member.role() == Owner).count(), 1);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_account_is_a_member_of_nothing_until_it_is_restored() {
    on_every_store(async |house| {
        people(house, &["ada", "bob", "cyd"]).await;
        house.organizations().create_organization(acme("acme", "ada")).await.unwrap();
        for user_id in ["bob", "cyd"] {
            join(house, "acme", user_id, Admin).await.unwrap();
        }
        delete(house, "bob").await;
        assert_eq!(role(house, "acme", "bob").await, None);
        let (listed, response) = members(house, members_of("acme")).await;
        assert_eq!((listed, response.total_size), (vec!["ada".to_owned(), "cyd".to_owned()], Some(2)));
        let (listed, response) = organizations(house, organizations_of("bob")).await;
        assert_eq!((listed.len(), response.total_size), (0, Some(0)));
        restore(house, "bob").await;
        assert_eq!(role(house, "acme", "bob").await, Some(Admin));
        assert_eq!(members(house, members_of("acme")).await.0, ["ada", "bob", "cyd"]);
        assert_eq!(organizations(house, organizations_of("bob")).await.0, ["acme"]);
    })
    .await;
}
