//! Services that run apart: each is a process with a certificate and a database of its own, and has no right but to what it
//! asks of the others.

use trivet_proto::{
    account::v1::{
        AccountView, CreateOrganizationRequest, GetAccountRequest, account_service_client::AccountServiceClient,
        organization_service_client::OrganizationServiceClient,
    },
    billing::v1::{RecordPaymentRequest, wallet_service_client::WalletServiceClient},
    product::v1::{
        CheckAvailabilityRequest, CreateProductRequest, Price, PriceModel, SetPriceRequest, UnavailableReason,
        catalog_service_client::CatalogServiceClient,
    },
};

use crate::{
    accounts::by_id,
    certificates::{certs, foreign, serve},
    harness::{Databases, eventually, payment, person},
    process::free_ports,
};

const ROLES: [&str; 3] = ["account", "product", "billing"];

#[tokio::test(flavor = "multi_thread")]
async fn services_that_run_apart_are_let_in_with_all_that_they_ask_of_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    certs(out, &[]).await.unwrap();
    let mut settings = vec![("server.announce_ms".to_owned(), "0".to_owned())];
    for (role, port) in ROLES.into_iter().zip(free_ports(ROLES.len())) {
        settings.push((format!("{role}.port"), port.to_string()));
        settings.push((format!("{role}.address"), format!("localhost:{port}")));
    }
    let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut services = Vec::new();
    for role in ROLES {
        let databases = Databases::sqlite();
        services.push((serve(role, &databases, out, &settings).await, databases));
    }
    let channel = |place: usize| foreign(services[place].0.addresses[ROLES[place]], out, Some("operator"));
    let mut accounts = AccountServiceClient::new(channel(0));
    let mut catalog = CatalogServiceClient::new(channel(1));
    let mut wallets = WalletServiceClient::new(channel(2));

    // Billing asks account who ada is.
    accounts.ensure_account(person("ada")).await.unwrap();
    let paid = RecordPaymentRequest { currency: "USD".to_owned(), ..payment("pay-1", "ada", "5") };
    eventually("billing hears from account", async || wallets.record_payment(paid.clone()).await.is_ok()).await;

    // Account asks billing for credits, and product for subscriptions.
    let full = || GetAccountRequest { view: AccountView::Full.into(), currency: "USD".to_owned(), ..by_id("ada") };
    let mut seen = None;
    eventually("account hears from both", async || {
        let account = accounts.get_account(full()).await.unwrap().into_inner().account.unwrap();
        let whole = account.unavailable_parts.is_empty();
        seen = account.credits;
        whole
    })
    .await;
    assert_eq!(seen.unwrap().balance, "5");

    // Product asks account who belongs to whom, and billing for funds.
    let organization = CreateOrganizationRequest {
        organization_id: "hers".to_owned(),
        name: "Hers".to_owned(),
        owner_user_id: "ada".to_owned(),
        ..Default::default()
    };
    OrganizationServiceClient::new(channel(0)).create_organization(organization).await.unwrap();
    let product = CreateProductRequest {
        product_id: "tokens".to_owned(),
        name: "Tokens".to_owned(),
        ..CreateProductRequest::default()
    };
    catalog.create_product(product).await.unwrap();
    let price = Price {
        currency: "USD".to_owned(),
        unit: "token".to_owned(),
        model: PriceModel::PerUnit.into(),
        unit_price: "0.001".to_owned(),
        ..Price::default()
    };
    let set = SetPriceRequest { product_id: "tokens".to_owned(), price: Some(price), request_id: String::new() };
    catalog.set_price(set).await.unwrap();
    let may = CheckAvailabilityRequest {
        product_id: "tokens".to_owned(),
        user_id: "ada".to_owned(),
        organization_id: "hers".to_owned(),
    };
    eventually("product hears from both", async || {
        let answer = catalog.check_availability(may.clone()).await;
        answer.is_ok_and(|answer| answer.get_ref().reason() == UnavailableReason::Unspecified)
    })
    .await;
    for (process, databases) in services {
        process.end().await;
        databases.done().await;
    }
}
