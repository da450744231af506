//! Tenants, as an operator sees them.

use mesh::{Clock, Time};
use tonic::Code;
use trivet_proto::account::v1::{CreateTenantRequest, GetTenantRequest, ListTenantsRequest};

use super::{authenticate, key, rows, tenant, wanted};
use crate::{
    harness::{on_every_store, reason, told},
    tenants::of,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_made_once_and_the_default_one_is_there_from_the_beginning() {
    on_every_store(async |house| {
        let mut tenants = house.tenants();
        let get = |tenant_id: &str| GetTenantRequest { tenant_id: tenant_id.to_owned() };
        let default = tenants.get_tenant(get("default")).await.unwrap().into_inner().tenant.unwrap();
        let age = Clock::system().now().micros() - Time::from_wire(&default.create_time.unwrap()).unwrap().micros();
        // With its schema, of which the database is a copy.
        let days = age / 86_400_000_000;
        assert!((-1..3_660).contains(&days), "it was made {days} days ago");
        let refused = tenants.get_tenant(get("acme")).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "TENANT_NOT_FOUND"));
        let create = CreateTenantRequest { request_id: "make-1".to_owned(), ..tenant("acme", " Acme Ltd. ") };
        let first = tenants.create_tenant(create.clone()).await.unwrap().into_inner();
        let acme = first.tenant.unwrap();
        assert_eq!((acme.name.as_str(), first.already_processed), ("Acme Ltd.", false));
        assert_eq!(tenants.get_tenant(get("acme")).await.unwrap().into_inner().tenant.as_ref(), Some(&acme));
        let again = tenants.create_tenant(create.clone()).await.unwrap().into_inner();
        assert_eq!((again.tenant, again.already_processed), (Some(acme.clone()), true));
        let other = CreateTenantRequest { name: "Globex".to_owned(), ..create };
        let refused = tenants.create_tenant(other).await.unwrap_err();
        assert_eq!((reason(&refused).as_str(), told(&refused, "differs").as_str()), ("REQUEST_ID_REUSED", "name"));
        // A key's request and a tenant's share their ids.
        let refused = house.api_keys().create_api_key(wanted("make-1")).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_ID_REUSED");
        let taken = CreateTenantRequest { request_id: "make-2".to_owned(), ..tenant("acme", "Usurper") };
        for taken in [taken.clone(), taken, tenant("acme", "Usurper"), tenant("default", "Usurper")] {
            let refused = tenants.create_tenant(taken).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "ID_TAKEN"));
        }
        assert_eq!(tenants.get_tenant(get("acme")).await.unwrap().into_inner().tenant, Some(acme));
        let history = rows(house, "select subject_id from history where kind = 'TENANT'").await;
        let lines: Vec<String> = history.iter().map(|row| row.try_get("", "subject_id").unwrap()).collect();
        assert_eq!(lines, ["acme"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_listed_in_the_byte_order_of_their_ids() {
    on_every_store(async |house| {
        let mut tenants = house.tenants();
        for tenant_id in ["zeta", "Zeta", "a|b", "a.b", "_x", "9"] {
            tenants.create_tenant(tenant(tenant_id, "Somebody")).await.unwrap();
        }
        let mut listed = Vec::new();
        let mut request = ListTenantsRequest { page_size: 2, with_total: true, ..ListTenantsRequest::default() };
        loop {
            let page = tenants.list_tenants(request.clone()).await.unwrap().into_inner();
            assert_eq!(page.total_size, Some(7));
            listed.extend(page.tenants.into_iter().map(|tenant| tenant.tenant_id));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, ["9", "Zeta", "_x", "a.b", "a|b", "default", "zeta"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_was_never_made_has_no_keys_and_its_request_ids_stay_free() {
    on_every_store(async |house| {
        let mut keys = house.api_keys();
        let refused = keys.create_api_key(of("acme", wanted("make-1"))).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "TENANT_NOT_FOUND"));
        house.tenants().create_tenant(tenant("acme", "Acme")).await.unwrap();
        let (_, secret) = key(house, "acme", wanted("make-1")).await;
        assert_eq!(authenticate(house, &secret).await.unwrap().tenant_id, "acme");
    })
    .await;
}
