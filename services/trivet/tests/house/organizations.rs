//! Organizations and their members, as their callers see them.

mod lists;
mod meanwhile;
mod members;

use mesh::{Store, store::sql};
use sea_orm::ConnectionTrait as _;
use tonic::{Code, Status};
use trivet_proto::account::v1::{
    AccountStatus, AddMemberRequest, ChangeAccountStatusRequest, CheckMembershipRequest, CreateOrganizationRequest,
    DeleteAccountRequest, EraseAccountRequest, GetOrganizationRequest, ListMembersRequest, ListMembersResponse,
    ListOrganizationsRequest, ListOrganizationsResponse, Member, Organization, OrganizationRole, RemoveMemberRequest,
    RestoreAccountRequest,
};

use OrganizationRole::{Admin, Member as Plain, Owner};

use crate::{
    harness::{House, faulty, on_every_store, person, reason, told},
    tenants::of,
};

fn acme(organization_id: &str, owner_user_id: &str) -> CreateOrganizationRequest {
    CreateOrganizationRequest {
        request_id: String::new(),
        organization_id: organization_id.to_owned(),
        name: format!("The {organization_id}"),
        owner_user_id: owner_user_id.to_owned(),
    }
}

fn add(organization_id: &str, user_id: &str, role: OrganizationRole) -> AddMemberRequest {
    AddMemberRequest { organization_id: organization_id.to_owned(), user_id: user_id.to_owned(), role: role.into() }
}

fn remove(organization_id: &str, user_id: &str) -> RemoveMemberRequest {
    RemoveMemberRequest { organization_id: organization_id.to_owned(), user_id: user_id.to_owned() }
}

fn check(organization_id: &str, user_id: &str) -> CheckMembershipRequest {
    CheckMembershipRequest { organization_id: organization_id.to_owned(), user_id: user_id.to_owned() }
}

fn members_of(organization_id: &str) -> ListMembersRequest {
    ListMembersRequest { organization_id: organization_id.to_owned(), with_total: true, ..Default::default() }
}

fn organizations_of(user_id: &str) -> ListOrganizationsRequest {
    ListOrganizationsRequest { user_id: user_id.to_owned(), with_total: true, ..Default::default() }
}

/// Accounts for these people.
async fn people(house: &House, user_ids: &[&str]) {
    for user_id in user_ids {
        house.accounts().ensure_account(person(user_id)).await.unwrap();
    }
}

async fn delete(house: &House, user_id: &str) {
    let delete = DeleteAccountRequest { user_id: user_id.to_owned(), ..Default::default() };
    house.accounts().delete_account(delete).await.unwrap();
}

async fn restore(house: &House, user_id: &str) {
    let restore = RestoreAccountRequest { user_id: user_id.to_owned(), ..Default::default() };
    house.accounts().restore_account(restore).await.unwrap();
}

async fn organization(house: &House, organization_id: &str) -> Organization {
    let get = GetOrganizationRequest { organization_id: organization_id.to_owned() };
    house.organizations().get_organization(get).await.unwrap().into_inner().organization.unwrap()
}

async fn join(house: &House, organization_id: &str, user_id: &str, role: OrganizationRole) -> Result<Member, Status> {
    let added = house.organizations().add_member(add(organization_id, user_id, role)).await?;
    Ok(added.into_inner().member.unwrap())
}

/// What the user is in the organization; `None` where they are no member.
async fn role(house: &House, organization_id: &str, user_id: &str) -> Option<OrganizationRole> {
    let answer = house.organizations().check_membership(check(organization_id, user_id)).await.unwrap().into_inner();
    assert_eq!(answer.is_member, answer.role() != OrganizationRole::Unspecified);
    answer.is_member.then(|| answer.role())
}

async fn members(house: &House, request: ListMembersRequest) -> (Vec<String>, ListMembersResponse) {
    let response = house.organizations().list_members(request).await.unwrap().into_inner();
    (response.members.iter().map(|member| member.user_id.clone()).collect(), response)
}

async fn organizations(house: &House, request: ListOrganizationsRequest) -> (Vec<String>, ListOrganizationsResponse) {
    let response = house.organizations().list_organizations(request).await.unwrap().into_inner();
    (response.organizations.iter().map(|found| found.organization_id.clone()).collect(), response)
}

/// Code and reason of a refusal.
fn why<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let refused = outcome.expect_err("this should have been refused");
    (refused.code(), reason(&refused))
}

/// The history of an organization: `action fields`, oldest first. No rpc shows it.
async fn history(house: &House, organization_id: &str) -> Vec<String> {
    let location = house.config.account.location("account", &house.config.data_dir).unwrap();
    let store = Store::open(location).await.unwrap();
    let reader = store.reader();
    let lines = "select action || ' ' || fields as line from history
                  where tenant_id = 'default' and kind = 'ORGANIZATION' and subject_id = $1 order by sequence";
    let rows = reader.query_all_raw(sql(reader, lines, [organization_id.into()])).await.unwrap();
    store.close().await.unwrap();
    rows.iter().map(|row| row.try_get("", "line").unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_begins_with_its_owner() {
    on_every_store(async |house| {
        people(house, &["ada"]).await;
        let create = CreateOrganizationRequest { name: "  Acme & Sons ".to_owned(), ..acme("acme", "ada") };
        let made = house.organizations().create_organization(create).await.unwrap().into_inner();
        let made_organization = made.organization.unwrap();
        assert!(!made.already_processed);
        assert_eq!(made_organization.name, "Acme & Sons");
        assert!(made_organization.create_time.is_some() && made_organization.update_time.is_some());
        assert_eq!(organization(house, "acme").await, made_organization);
        let (_, listed) = members(house, members_of("acme")).await;
        assert_eq!((listed.members.len(), listed.total_size), (1, Some(1)));
        let owner = &listed.members[0];
        assert_eq!((owner.organization_id.as_str(), owner.user_id.as_str(), owner.role()), ("acme", "ada", Owner));
        assert_eq!((owner.create_time, owner.update_time), (made_organization.create_time, owner.create_time));
        assert_eq!(history(house, "acme").await, ["CREATED name,owner"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_is_made_once_under_its_request_id() {
    on_every_store(async |house| {
        people(house, &["ada", "bob"]).await;
        let mut organizations = house.organizations();
        let create = CreateOrganizationRequest { request_id: "make-1".to_owned(), ..acme("acme", "ada") };
        let first = organizations.create_organization(create.clone()).await.unwrap().into_inner();
        join(house, "acme", "bob", Plain).await.unwrap();
        let again = organizations.create_organization(create.clone()).await.unwrap().into_inner();
        assert!(again.already_processed && !first.already_processed);
        assert_eq!(again.organization, first.organization, "as it was made, whatever was done to it since");
        for (other, differs) in [
            (CreateOrganizationRequest { name: "Other".to_owned(), ..create.clone() }, "name"),
            (CreateOrganizationRequest { organization_id: "other".to_owned(), ..create.clone() }, "organization_id"),
            (CreateOrganizationRequest { owner_user_id: "bob".to_owned(), ..create.clone() }, "owner_user_id"),
        ] {
            let refused = organizations.create_organization(other).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition);
            assert_eq!((reason(&refused).as_str(), told(&refused, "differs").as_str()), ("REQUEST_ID_REUSED", differs));
        }
        let spaced = CreateOrganizationRequest { name: format!(" {}  ", create.name), ..create };
        assert!(organizations.create_organization(spaced).await.unwrap().into_inner().already_processed);
        assert_eq!(history(house, "acme").await, ["CREATED name,owner", "MEMBER_ADDED members"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_was_refused_is_refused_for_ever_under_its_request_id() {
    on_every_store(async |house| {
        let mut organizations = house.organizations();
        let create = CreateOrganizationRequest { request_id: "make-1".to_owned(), ..acme("acme", "ada") };
        let not_found = (Code::NotFound, "ACCOUNT_NOT_FOUND".to_owned());
        assert_eq!(why(organizations.create_organization(create.clone()).await), not_found);
        people(house, &["ada"]).await;
        assert_eq!(why(organizations.create_organization(create.clone()).await), not_found);
        let anew = CreateOrganizationRequest { request_id: "make-2".to_owned(), ..create };
        organizations.create_organization(anew).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_id_belongs_to_one_organization_however_many_want_it_at_once() {
    on_every_store(async |house| {
        people(house, &["ada", "bob"]).await;
        let calls: Vec<_> = (0..20)
            .map(|number| {
                let (mut organizations, owner) = (house.organizations(), if number % 2 == 0 { "ada" } else { "bob" });
                // Half of the calls are one call, sent again.
                let request_id = if number < 10 { String::new() } else { format!("make-{owner}") };
                let create = CreateOrganizationRequest { request_id, ..acme("acme", owner) };
                tokio::spawn(async move { organizations.create_organization(create).await })
            })
            .collect();
        let (mut made, mut taken) = (0, 0);
        for call in calls {
            match call.await.unwrap() {
                Ok(answer) => made += u32::from(!answer.into_inner().already_processed),
                Err(refused) => {
                    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "ID_TAKEN"));
                    taken += 1;
                }
            }
        }
        assert!(made == 1 && taken >= 10, "{made} were made, {taken} refused");
        assert_eq!(members(house, members_of("acme")).await.0.len(), 1);
        assert_eq!(history(house, "acme").await, ["CREATED name,owner"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_nobody_made_is_not_found_and_a_stranger_is_no_member() {
    on_every_store(async |house| {
        people(house, &["ada"]).await;
        let mut organizations = house.organizations();
        organizations.create_organization(acme("acme", "ada")).await.unwrap();
        let not_found = (Code::NotFound, "ORGANIZATION_NOT_FOUND".to_owned());
        let get = GetOrganizationRequest { organization_id: "none".to_owned() };
        assert_eq!(why(organizations.get_organization(get).await), not_found);
        assert_eq!(why(organizations.add_member(add("none", "nobody", Plain)).await), not_found);
        assert_eq!(why(organizations.remove_member(remove("none", "ada")).await), not_found);
        assert_eq!(why(organizations.list_members(members_of("none")).await), not_found);
        assert_eq!(why(organizations.check_membership(check("none", "ada")).await), not_found);
        assert_eq!(role(house, "acme", "nobody").await, None);
        let nowhere = organizations.list_organizations(organizations_of("nobody")).await.unwrap().into_inner();
        assert_eq!(nowhere, ListOrganizationsResponse { total_size: Some(0), ..Default::default() });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn organizations_of_two_tenants_with_the_same_ids_never_meet() {
    on_every_store(async |house| {
        let mut organizations = house.organizations();
        for tenant in ["acme", "globex"] {
            for user_id in ["ada", "bob"] {
                house.accounts().ensure_account(of(tenant, person(user_id))).await.unwrap();
            }
            let create = CreateOrganizationRequest {
                request_id: "make-1".to_owned(),
                name: format!("Team of {tenant}"),
                ..acme("team", "ada")
            };
            let made = organizations.create_organization(of(tenant, create)).await.unwrap().into_inner();
            assert!(!made.already_processed);
        }
        organizations.add_member(of("acme", add("team", "bob", Owner))).await.unwrap();
        for (tenant, is_member, total_size) in [("acme", true, 2), ("globex", false, 1)] {
            let get = GetOrganizationRequest { organization_id: "team".to_owned() };
            let found = organizations.get_organization(of(tenant, get)).await.unwrap().into_inner().organization;
            assert_eq!(found.unwrap().name, format!("Team of {tenant}"));
            let answer = organizations.check_membership(of(tenant, check("team", "bob"))).await.unwrap().into_inner();
            assert_eq!(answer.is_member, is_member);
            let listed = organizations.list_members(of(tenant, members_of("team"))).await.unwrap().into_inner();
            assert_eq!(
                (listed.members.len(), listed.total_size),
                (usize::try_from(total_size).unwrap(), Some(total_size))
            );
            let listed = organizations.list_organizations(of(tenant, organizations_of(""))).await.unwrap().into_inner();
            assert_eq!((listed.organizations.len(), listed.total_size), (1, Some(1)));
            let of_bob = organizations.list_organizations(of(tenant, organizations_of("bob"))).await.unwrap();
            assert_eq!(of_bob.into_inner().organizations.len(), usize::from(is_member));
        }
        let refused = organizations.remove_member(of("globex", remove("team", "ada"))).await.unwrap_err();
        assert_eq!(reason(&refused), "LAST_OWNER", "the owner in another tenant is nobody here");
        assert_eq!(why(organizations.check_membership(check("team", "ada")).await).1, "ORGANIZATION_NOT_FOUND");
        // Whoever has no account in this tenant is nobody here, wherever else they have one.
        let stranger = organizations.create_organization(of("initech", acme("new", "ada"))).await;
        assert_eq!(why(stranger).1, "ACCOUNT_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_request_about_organizations_is_named_at_once() {
    on_every_store(async |house| {
        let mut organizations = house.organizations();
        let refuse = |refused: Status, fields: &[&str]| {
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_FIELDS"));
            assert_eq!(faulty(&refused), fields, "{refused:?}");
        };
        let create = CreateOrganizationRequest {
            request_id: "a|b".to_owned(),
            organization_id: "a b".to_owned(),
            name: " \t ".to_owned(),
            owner_user_id: "x".repeat(129),
        };
        let all = ["request_id", "organization_id", "name", "owner_user_id"];
        refuse(organizations.create_organization(create).await.unwrap_err(), &all);
        refuse(organizations.create_organization(CreateOrganizationRequest::default()).await.unwrap_err(), &all[1..]);
        for name in ["x".repeat(201), "two\nlines".to_owned(), "nul\0".to_owned()] {
            let create = CreateOrganizationRequest { name, ..acme("acme", "ada") };
            refuse(organizations.create_organization(create).await.unwrap_err(), &["name"]);
        }
        for role in [0, 4, -1] {
            let add = AddMemberRequest { organization_id: "a\0".to_owned(), user_id: "naïve".to_owned(), role };
            refuse(organizations.add_member(add).await.unwrap_err(), &["organization_id", "user_id", "role"]);
        }
        for id in ["", "a b", "a/b"] {
            let get = GetOrganizationRequest { organization_id: id.to_owned() };
            refuse(organizations.get_organization(get).await.unwrap_err(), &["organization_id"]);
            let both = ["organization_id", "user_id"];
            refuse(organizations.remove_member(remove(id, id)).await.unwrap_err(), &both);
            refuse(organizations.check_membership(check(id, id)).await.unwrap_err(), &both);
            let list = ListMembersRequest { page_size: -1, ..members_of(id) };
            refuse(organizations.list_members(list).await.unwrap_err(), &["organization_id", "page_size"]);
        }
        let list = ListOrganizationsRequest { page_size: -1, ..organizations_of("a b") };
        refuse(organizations.list_organizations(list).await.unwrap_err(), &["page_size", "user_id"]);
    })
    .await;
}
