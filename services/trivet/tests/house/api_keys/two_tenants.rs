//! Two tenants that use the same ids for everything, each through a key of its own, never see, count or meet each other.

use trivet_proto::account::v1::{
    AccountStatus, ChangeAccountStatusRequest, CreateOrganizationRequest, EnsureAccountRequest, GetAccountRequest,
    GetAccountStatsRequest, ListAccountHistoryRequest, ListAccountsRequest, ListApiKeysRequest,
    ListOrganizationsRequest, SearchAccountsRequest, get_account_request::Key,
};

use super::{authenticate, cause, key, list, revoke, tenant, wanted};
use crate::{
    harness::{House, on_every_store, person, reason},
    tenants::of,
};

const TENANTS: [&str; 2] = ["acme", "globex"];

/// Makes the tenant and a key, and gives the secret.
async fn join(house: &House, tenant_id: &str) -> String {
    house.tenants().create_tenant(tenant(tenant_id, &format!("The {tenant_id}"))).await.unwrap();
    key(house, tenant_id, wanted("make-1")).await.1
}

fn by_email() -> GetAccountRequest {
    GetAccountRequest { key: Some(Key::Email("Ada@example.com".to_owned())), ..GetAccountRequest::default() }
}

fn history() -> ListAccountHistoryRequest {
    ListAccountHistoryRequest { user_id: "ada".to_owned(), with_total: true, ..ListAccountHistoryRequest::default() }
}

/// Takes the ids that the other tenant takes too.
async fn settle(house: &House, tenant: &str) {
    let ada = EnsureAccountRequest { name: format!("Ada of {tenant}"), ..person("ada") };
    assert!(house.accounts().ensure_account(of(tenant, ada)).await.unwrap().into_inner().created, "{tenant}");
    let shop = CreateOrganizationRequest {
        request_id: "req-1".to_owned(),
        organization_id: "shop".to_owned(),
        name: format!("Shop of {tenant}"),
        owner_user_id: "ada".to_owned(),
    };
    let shop = house.organizations().create_organization(of(tenant, shop)).await.unwrap().into_inner();
    assert_eq!((shop.organization.unwrap().name, shop.already_processed), (format!("Shop of {tenant}"), false));
}

/// Looks at every list, count and search of the tenant: one of each, and its own.
async fn look(house: &House, tenant: &str) {
    let (mut accounts, name) = (house.accounts(), format!("Ada of {tenant}"));
    let found = accounts.get_account(of(tenant, by_email())).await.unwrap().into_inner().account.unwrap();
    assert_eq!(found.name, name);

    let request = ListAccountsRequest { with_total: true, ..ListAccountsRequest::default() };
    let listed = accounts.list_accounts(of(tenant, request)).await.unwrap().into_inner();
    let names: Vec<_> = listed.accounts.iter().map(|account| &account.name).collect();
    assert_eq!((names, listed.total_size), (vec![&name], Some(1)));

    // What is the same, what begins alike, and what merely holds the text are looked for one by one.
    for query in ["ada@example.com", "ada", "xample"] {
        let request = SearchAccountsRequest { query: query.to_owned(), include_inactive: true, ..Default::default() };
        let found = accounts.search_accounts(of(tenant, request)).await.unwrap().into_inner().summaries;
        assert_eq!(found.iter().map(|summary| &summary.name).collect::<Vec<_>>(), [&name], "{query}");
    }

    let stats = accounts.get_account_stats(of(tenant, GetAccountStatsRequest {})).await.unwrap().into_inner();
    let by_status: i64 = stats.by_status.iter().map(|count| count.accounts).sum();
    let by_tier: i64 = stats.by_tier.iter().map(|count| count.accounts).sum();
    let registered = (stats.registered_last_7_days, stats.registered_last_30_days);
    assert_eq!((by_status, by_tier, registered), (1, 1, (1, 1)));

    let lines = accounts.list_account_history(of(tenant, history())).await.unwrap().into_inner();
    assert_eq!((lines.entries.len(), lines.total_size), (1, Some(1)));

    for user_id in ["", "ada"] {
        let request = ListOrganizationsRequest {
            user_id: user_id.to_owned(),
            with_total: true,
            ..ListOrganizationsRequest::default()
        };
        let listed = house.organizations().list_organizations(of(tenant, request)).await.unwrap().into_inner();
        let names: Vec<_> = listed.organizations.into_iter().map(|organization| organization.name).collect();
        assert_eq!((names, listed.total_size), (vec![format!("Shop of {tenant}")], Some(1)), "of {user_id:?}");
    }

    let request = ListApiKeysRequest { with_total: true, ..ListApiKeysRequest::default() };
    let listed = house.api_keys().list_api_keys(of(tenant, request)).await.unwrap().into_inner();
    assert_eq!((listed.keys.len(), listed.total_size), (1, Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_with_keys_of_their_own_and_the_same_ids_never_meet() {
    on_every_store(async |house| {
        let mut found = Vec::new();
        for tenant in TENANTS {
            let secret = join(house, tenant).await;
            found.push(authenticate(house, &secret).await.unwrap().tenant_id);
        }
        assert_eq!(found, TENANTS);
        for tenant in &found {
            settle(house, tenant).await;
        }
        for tenant in &found {
            look(house, tenant).await;
        }
        // What the one does is nothing to the other.
        let suspend = ChangeAccountStatusRequest {
            user_id: "ada".to_owned(),
            status: AccountStatus::Suspended.into(),
            reason: "Moved away".to_owned(),
            ..ChangeAccountStatusRequest::default()
        };
        house.accounts().change_account_status(of("acme", suspend)).await.unwrap();
        look(house, "globex").await;
        let other = house.accounts().get_account(of("globex", by_email())).await.unwrap().into_inner();
        assert_eq!(other.account.unwrap().status(), AccountStatus::Active);
        // And the tenant of callers who name none has nothing of either.
        let nobody = house.accounts().get_account(by_email()).await.unwrap_err();
        assert_eq!(reason(&nobody), "ACCOUNT_NOT_FOUND");
        assert_eq!(reason(&house.accounts().list_account_history(history()).await.unwrap_err()), "ACCOUNT_NOT_FOUND");
        let stats = house.accounts().get_account_stats(GetAccountStatsRequest {}).await.unwrap().into_inner();
        assert_eq!(stats.by_status.iter().map(|count| count.accounts).sum::<i64>(), 0);
        assert_eq!(list(house, "default").await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_cannot_see_or_revoke_the_key_of_another() {
    on_every_store(async |house| {
        let (acme, globex) = (join(house, "acme").await, join(house, "globex").await);
        let key_id = authenticate(house, &acme).await.unwrap().key_id;
        for stranger in ["globex", "default"] {
            let refused = house.api_keys().revoke_api_key(of(stranger, revoke(&key_id))).await.unwrap_err();
            assert_eq!(reason(&refused), "API_KEY_NOT_FOUND");
            assert!(list(house, stranger).await.iter().all(|key| key.key_id != key_id));
        }
        // Whoever asks, for whatever tenant: a secret leads to its own.
        assert_eq!(authenticate(house, &acme).await.unwrap().tenant_id, "acme");
        house.api_keys().revoke_api_key(of("acme", revoke(&key_id))).await.unwrap();
        assert_eq!(cause(house, &acme).await, "REVOKED");
        assert_eq!(authenticate(house, &globex).await.unwrap().tenant_id, "globex");
    })
    .await;
}
