//! Two tenants with the same ids never see, count or meet each other's rows.

use tonic::Request;
use trivet_proto::{
    billing::v1::{GetWalletRequest, VoidRequestRequest},
    product::v1::{CreateProductRequest, GetProductRequest, ListProductsRequest},
};

use crate::harness::{faulty, on_every_store, order, payment, person, reason};

pub(crate) fn of<M>(tenant: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-trivet-tenant", tenant.parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_with_the_same_ids_never_meet() {
    on_every_store(async |house| {
        let (mut accounts, mut wallets, mut billing) = (house.accounts(), house.wallets(), house.billing());
        for (tenant, amount) in [("acme", "10"), ("globex", "20")] {
            assert!(accounts.ensure_account(of(tenant, person("ada"))).await.unwrap().into_inner().created);
            // The tenant goes along to account: billing asks for this tenant's Ada.
            wallets.record_payment(of(tenant, payment("pay-1", "ada", amount))).await.unwrap();
            assert!(
                !billing.deduct(of(tenant, order("req-1", "ada", "1"))).await.unwrap().into_inner().already_processed
            );
        }
        for (tenant, balance) in [("acme", "9"), ("globex", "19")] {
            let ask = GetWalletRequest { user_id: "ada".to_owned(), currency: String::new() };
            let wallet = wallets.get_wallet(of(tenant, ask)).await.unwrap().into_inner().wallet.unwrap();
            assert_eq!(wallet.balance, balance);
        }
        let elsewhere = billing.deduct(order("req-2", "ada", "1")).await.unwrap_err();
        assert_eq!(reason(&elsewhere), "WALLET_NOT_FOUND");
        let void = VoidRequestRequest { request_id: "req-1".to_owned(), reason: String::new() };
        billing.void_request(of("initech", void)).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_lists_and_reads_its_own_products_only() {
    on_every_store(async |house| {
        let mut catalog = house.catalog();
        for tenant in ["acme", "globex"] {
            let create = CreateProductRequest {
                product_id: "oak".to_owned(),
                name: format!("Oak of {tenant}"),
                ..CreateProductRequest::default()
            };
            catalog.create_product(of(tenant, create)).await.unwrap();
        }
        for tenant in ["acme", "globex"] {
            let get = GetProductRequest { product_id: "oak".to_owned() };
            let product = catalog.get_product(of(tenant, get)).await.unwrap().into_inner().product.unwrap();
            assert_eq!(product.name, format!("Oak of {tenant}"));
            let list = ListProductsRequest { page_size: 1, with_total: true, ..ListProductsRequest::default() };
            let list = catalog.list_products(of(tenant, list)).await.unwrap().into_inner();
            assert_eq!((list.products.len(), list.total_size, list.next_page_token.as_str()), (1, Some(1), ""));
        }
        let refused = catalog.list_products(of("no spaces", ListProductsRequest::default())).await.unwrap_err();
        assert_eq!(faulty(&refused), ["x-trivet-tenant"]);
    })
    .await;
}
