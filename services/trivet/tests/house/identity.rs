//! Who may call what: certificates, API keys, and nobody, over TLS and without it.

mod matrix;
mod streams;

use std::time::{Duration, Instant};

use mesh::{Clock, Time};
use tempfile::TempDir;
use tonic::{Request, Status, transport::Channel};
use tonic_types::StatusExt as _;
use trivet::{Config, RoleName};
use trivet_proto::{
    account::v1::{
        CreateApiKeyRequest, CreateTenantRequest, GetAccountRequest, ListAccountHistoryRequest, RevokeApiKeyRequest,
        account_service_client::AccountServiceClient, api_key_service_client::ApiKeyServiceClient,
        get_account_request::Key, tenant_service_client::TenantServiceClient,
    },
    billing::v1::{GetWalletRequest, wallet_service_client::WalletServiceClient},
    product::v1::{CheckAvailabilityRequest, catalog_service_client::CatalogServiceClient},
};

use crate::{
    certificates::{certs, foreign, settings},
    harness::{Databases, House, channel, config, eventually, payment, person, reason, told},
    metrics::samples_at,
    tenants::of,
};

/// What the settings say of who may call.
const OPERATORS: (&str, &str) = ("identity.operators", "spiffe://trivet.local/operator");
const WORKLOADS: (&str, &str) = (
    "identity.workloads",
    "spiffe://trivet.local/shop acme billing.write product.read; spiffe://trivet.local/bi * account.read",
);
/// Everybody who has a certificate.
const NAMES: [&str; 8] = ["trivet", "account", "product", "billing", "operator", "shop", "bi", "stranger"];

/// A house whose callers have identities.
struct Guarded {
    house: House,
    folder: TempDir,
    databases: Databases,
}

impl Guarded {
    async fn with(further: &[(&str, &str)]) -> Self {
        Self::by_clock(Clock::system(), further).await
    }

    async fn by_clock(clock: Clock, further: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certs(folder.path(), &NAMES).await.unwrap();
        let databases = Databases::sqlite();
        let settings = guarded_settings(&databases, &folder, further);
        let house = House::start_by(clock, settings, &RoleName::ALL).await;
        let guarded = Self { house, folder, databases };
        for tenant_id in ["acme", "beta"] {
            let request = CreateTenantRequest {
                tenant_id: tenant_id.to_owned(),
                name: tenant_id.to_owned(),
                ..CreateTenantRequest::default()
            };
            TenantServiceClient::new(guarded.by("account", "operator")).create_tenant(request).await.unwrap();
        }
        guarded
    }

    /// A way to a role for who has this certificate.
    fn by(&self, role: &str, name: &str) -> Channel {
        foreign(self.house.running.addresses[role], self.folder.path(), Some(name))
    }

    /// A way to a role for who has none.
    fn by_nobody(&self, role: &str) -> Channel {
        foreign(self.house.running.addresses[role], self.folder.path(), None)
    }

    /// A new key of a tenant: its id, and its secret.
    async fn key(&self, tenant: &str, scopes: &[&str]) -> (String, String) {
        self.key_until(tenant, scopes, None).await
    }

    async fn key_until(&self, tenant: &str, scopes: &[&str], expire_time: Option<Time>) -> (String, String) {
        let request = CreateApiKeyRequest {
            request_id: format!("{tenant}-{}", scopes.join("-")),
            display_name: "Checkout".to_owned(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            expire_time: expire_time.map(Time::to_wire),
        };
        let made = ApiKeyServiceClient::new(self.by("account", "operator")).create_api_key(of(tenant, request)).await;
        let made = made.unwrap().into_inner();
        (made.key.unwrap().key_id, made.secret)
    }

    async fn revoke(&self, tenant: &str, key_id: String) {
        let revoke = of(tenant, RevokeApiKeyRequest { key_id });
        ApiKeyServiceClient::new(self.by("account", "operator")).revoke_api_key(revoke).await.unwrap();
    }

    async fn end(self) {
        self.house.running.drain(std::future::pending()).await;
        self.databases.done().await;
    }
}

/// The settings of a guarded house.
fn guarded_settings(databases: &Databases, folder: &TempDir, further: &[(&str, &str)]) -> Config {
    let tls = settings(folder.path(), "trivet");
    let tls: Vec<(&str, &str)> = tls.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    config(databases, &[&tls[..], &[OPERATORS, WORKLOADS], further].concat())
}

/// A request with this key.
fn with_key<M>(secret: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
    request
}

fn wallet_of(user_id: &str) -> GetWalletRequest {
    GetWalletRequest { user_id: user_id.to_owned(), currency: String::new() }
}

fn account_of(user_id: &str) -> GetAccountRequest {
    GetAccountRequest { key: Some(Key::UserId(user_id.to_owned())), ..GetAccountRequest::default() }
}

/// Asks for ada's wallet with a key.
async fn wallet(guarded: &Guarded, secret: &str) -> Result<(), Status> {
    let mut wallets = WalletServiceClient::new(guarded.by_nobody("billing"));
    wallets.get_wallet(with_key(secret, wallet_of("ada"))).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_leads_to_its_tenant_whatever_else_is_asked_for() {
    let guarded = Guarded::with(&[]).await;
    let scopes = ["account.write", "billing.write"];
    let ((key_id, acme), (_, beta)) = (guarded.key("acme", &scopes).await, guarded.key("beta", &scopes).await);
    let mut accounts = AccountServiceClient::new(guarded.by_nobody("account"));
    accounts.ensure_account(with_key(&acme, person("ada"))).await.unwrap();
    let mut wallets = WalletServiceClient::new(guarded.by_nobody("billing"));
    // Billing asks account whether there is ada, and account looks among acme's.
    wallets.record_payment(with_key(&acme, payment("pay-1", "ada", "5"))).await.unwrap();
    wallets.get_wallet(with_key(&acme, wallet_of("ada"))).await.unwrap();
    let refused = wallets.get_wallet(with_key(&beta, wallet_of("ada"))).await.unwrap_err();
    assert_eq!(reason(&refused), "WALLET_NOT_FOUND");
    let refused = accounts.get_account(with_key(&beta, account_of("ada"))).await.unwrap_err();
    assert_eq!(reason(&refused), "ACCOUNT_NOT_FOUND");
    let mut asked = of("acme", account_of("ada"));
    asked.metadata_mut().insert("authorization", format!("Bearer {beta}").parse().unwrap());
    let refused = accounts.get_account(asked).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_ALLOWED", "a key acts for no other tenant");
    let ask = ListAccountHistoryRequest { user_id: "ada".to_owned(), ..ListAccountHistoryRequest::default() };
    let history = accounts.list_account_history(with_key(&acme, ask)).await.unwrap().into_inner();
    assert_eq!(history.entries[0].actor, key_id, "histories name the key");
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_acts_for_its_tenants_and_no_others() {
    let guarded = Guarded::with(&[]).await;
    let mut by_operator = AccountServiceClient::new(guarded.by("account", "operator"));
    by_operator.ensure_account(of("beta", person("ada"))).await.unwrap();
    let mut by_bi = AccountServiceClient::new(guarded.by("account", "bi"));
    by_bi.get_account(of("beta", account_of("ada"))).await.unwrap();
    assert_eq!(reason(&by_bi.get_account(account_of("ada")).await.unwrap_err()), "ACCOUNT_NOT_FOUND");
    let mut by_shop = WalletServiceClient::new(guarded.by("billing", "shop"));
    for request in [Request::new(wallet_of("ada")), of("acme", wallet_of("ada"))] {
        assert_eq!(reason(&by_shop.get_wallet(request).await.unwrap_err()), "WALLET_NOT_FOUND");
    }
    let refused = by_shop.get_wallet(of("beta", wallet_of("ada"))).await.unwrap_err();
    assert_eq!(
        (reason(&refused), told(&refused, "caller")),
        ("NOT_ALLOWED".into(), "spiffe://trivet.local/shop".into())
    );
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_good_credential_is_refused_with_its_cause() {
    let guarded = Guarded::with(&[]).await;
    let (_, secret) = guarded.key("acme", &["billing.read"]).await;
    let last = if secret.ends_with('0') { '1' } else { '0' };
    let other = format!("{}{last}", &secret[..secret.len() - 1]);
    let unknown = {
        // Of another house, and as good as any there.
        let elsewhere = Guarded::with(&[]).await;
        let (_, secret) = elsewhere.key("acme", &["billing.read"]).await;
        elsewhere.end().await;
        secret
    };
    for (authorization, cause) in [
        (format!("Bearer {other}"), "MALFORMED"),
        (format!("Bearer {secret}x"), "MALFORMED"),
        (format!("bearer {unknown}"), "UNKNOWN"),
        (format!("Basic {secret}"), "MALFORMED"),
        (secret.clone(), "MALFORMED"),
        (String::new(), "MALFORMED"),
    ] {
        let mut request = Request::new(wallet_of("ada"));
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
        // A good certificate does not make up for a bad key.
        for channel in [guarded.by_nobody("billing"), guarded.by("billing", "operator")] {
            let mut again = Request::new(wallet_of("ada"));
            *again.metadata_mut() = request.metadata().clone();
            let refused = WalletServiceClient::new(channel).get_wallet(again).await.unwrap_err();
            assert_eq!((reason(&refused), told(&refused, "cause")), ("CREDENTIALS_INVALID".into(), cause.into()));
            assert!(!format!("{refused:?}").contains(&secret), "the refusal says the secret");
        }
    }
    let mut twice = with_key(&secret, wallet_of("ada"));
    twice.metadata_mut().append("authorization", format!("Bearer {secret}").parse().unwrap());
    let refused = WalletServiceClient::new(guarded.by_nobody("billing")).get_wallet(twice).await.unwrap_err();
    assert_eq!(reason(&refused), "CREDENTIALS_INVALID");
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_everywhere_within_five_seconds() {
    let guarded = Guarded::with(&[]).await;
    let (key_id, secret) = guarded.key("acme", &["billing.read"]).await;
    assert_eq!(reason(&wallet(&guarded, &secret).await.unwrap_err()), "WALLET_NOT_FOUND");
    guarded.revoke("acme", key_id).await;
    let revoked = Instant::now();
    eventually("the key is refused", async || {
        let refused = wallet(&guarded, &secret).await.unwrap_err();
        reason(&refused) == "CREDENTIALS_INVALID" && told(&refused, "cause") == "REVOKED"
    })
    .await;
    assert!(revoked.elapsed() <= Duration::from_secs(5), "{:?}", revoked.elapsed());
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_audit_a_key_still_leads_to_its_tenant_and_one_that_cannot_be_asked_about_to_none() {
    let guarded = Guarded::with(&[("identity.mode", "audit")]).await;
    let (key_id, secret) = guarded.key("acme", &["account.read"]).await;
    let mut accounts = AccountServiceClient::new(guarded.by_nobody("account"));
    accounts.ensure_account(with_key(&secret, person("ada"))).await.unwrap();
    let of_default = accounts.get_account(account_of("ada")).await.unwrap_err();
    assert_eq!(reason(&of_default), "ACCOUNT_NOT_FOUND", "it was not made for whom nobody named");
    let ask = ListAccountHistoryRequest { user_id: "ada".to_owned(), ..ListAccountHistoryRequest::default() };
    let history = accounts.list_account_history(with_key(&secret, ask)).await.unwrap().into_inner();
    assert_eq!(history.entries[0].actor, key_id);
    guarded.end().await;
    let nowhere = [("account.address", "127.0.0.1:9"), ("billing.address", "127.0.0.1:9"), ("identity.mode", "audit")];
    let (folder, databases) = (tempfile::tempdir().unwrap(), Databases::sqlite());
    certs(folder.path(), &NAMES).await.unwrap();
    let house = House::start(guarded_settings(&databases, &folder, &nowhere), &[RoleName::Product]).await;
    let mut catalog = CatalogServiceClient::new(foreign(house.running.addresses["product"], folder.path(), None));
    let refused = catalog.check_availability(with_key(&secret, CheckAvailabilityRequest::default())).await.unwrap_err();
    assert_eq!(reason(&refused), "DEPENDENCY_UNAVAILABLE");
    house.running.drain(std::future::pending()).await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_tenants_that_are_named_neither_counts() {
    let guarded = Guarded::with(&[]).await;
    let mut asked = of("acme", account_of("ada"));
    asked.metadata_mut().append("x-trivet-tenant", "beta".parse().unwrap());
    let refused = AccountServiceClient::new(guarded.by("account", "operator")).get_account(asked).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_FIELDS");
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_audit_would_refuse_is_done_and_counted() {
    let guarded = Guarded::with(&[("identity.mode", "audit")]).await;
    let mut accounts = AccountServiceClient::new(guarded.by_nobody("account"));
    accounts.ensure_account(of("acme", person("ada"))).await.unwrap();
    let mut by_shop = AccountServiceClient::new(guarded.by("account", "shop"));
    by_shop.get_account(of("acme", account_of("ada"))).await.unwrap();
    let denied = samples_at(guarded.house.running.admin, "trivet_server_denied_total").await;
    for (method, cause) in [("EnsureAccount", "CREDENTIALS_MISSING"), ("GetAccount", "NOT_ALLOWED")] {
        let of_call = |sample: &str| ["mode=\"audit\"", method, cause].iter().all(|part| sample.contains(part));
        let counts: Vec<f64> = denied.iter().filter(|(sample, _)| of_call(sample)).map(|(_, count)| *count).collect();
        assert_eq!(counts, [1.0], "{method} among {denied:?}");
    }
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_too_often_is_told_when_to_go_on_and_nobody_else_is() {
    let guarded = Guarded::with(&[("identity.calls_per_second", "1"), ("identity.burst", "5")]).await;
    let ((_, one), (_, other)) =
        (guarded.key("acme", &["billing.read"]).await, guarded.key("beta", &["billing.read"]).await);
    let mut refused = None;
    for _ in 0..20 {
        match wallet(&guarded, &one).await.unwrap_err() {
            status if reason(&status) == "RATE_LIMITED" => refused = Some(status),
            status => assert_eq!(reason(&status), "WALLET_NOT_FOUND"),
        }
    }
    let refused = refused.expect("nothing was refused");
    let delay = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(delay > Duration::ZERO && delay <= Duration::from_secs(1), "{delay:?}");
    assert!(refused.metadata().contains_key("grpc-retry-pushback-ms"));
    assert_eq!(reason(&wallet(&guarded, &other).await.unwrap_err()), "WALLET_NOT_FOUND");
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_account_no_key_is_let_in() {
    let folder = tempfile::tempdir().unwrap();
    certs(folder.path(), &NAMES).await.unwrap();
    let databases = Databases::sqlite();
    let nowhere = [("account.address", "127.0.0.1:9"), ("billing.address", "127.0.0.1:9")];
    let house = House::start(guarded_settings(&databases, &folder, &nowhere), &[RoleName::Product]).await;
    let mut catalog = CatalogServiceClient::new(foreign(house.running.addresses["product"], folder.path(), None));
    let secret = format!("tvt_{}", "0".repeat(85));
    let ask = CheckAvailabilityRequest::default();
    let refused = catalog.check_availability(with_key(&secret, ask)).await.unwrap_err();
    assert_eq!(reason(&refused), "DEPENDENCY_UNAVAILABLE");
    house.running.drain(std::future::pending()).await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_the_roles_of_a_process_know_each_other_and_nobody_else_is_one() {
    let databases = Databases::sqlite();
    let open = House::start(config(&databases, &[]), &RoleName::ALL).await;
    let request = CreateApiKeyRequest {
        request_id: "key-1".to_owned(),
        display_name: "Checkout".to_owned(),
        scopes: ["account.write", "product.read", "billing.write"].map(str::to_owned).to_vec(),
        expire_time: None,
    };
    open.tenants()
        .create_tenant(CreateTenantRequest {
            tenant_id: "acme".to_owned(),
            name: "Acme".to_owned(),
            ..CreateTenantRequest::default()
        })
        .await
        .unwrap();
    let secret = open.api_keys().create_api_key(of("acme", request)).await.unwrap().into_inner().secret;
    open.running.drain(std::future::pending()).await;
    let house = House::start(config(&databases, &[("identity.mode", "enforce")]), &RoleName::ALL).await;
    house.accounts().ensure_account(with_key(&secret, person("ada"))).await.unwrap();
    // Billing asks account; product asks account and billing.
    house.wallets().record_payment(with_key(&secret, payment("pay-1", "ada", "5"))).await.unwrap();
    let ask = CheckAvailabilityRequest {
        product_id: "none".to_owned(),
        user_id: "ada".to_owned(),
        ..CheckAvailabilityRequest::default()
    };
    house.catalog().check_availability(with_key(&secret, ask)).await.unwrap();
    assert_eq!(reason(&house.wallets().get_wallet(wallet_of("ada")).await.unwrap_err()), "CREDENTIALS_MISSING");
    let mut guessed = Request::new(wallet_of("ada"));
    guessed.metadata_mut().insert("x-trivet-process", "0".repeat(64).parse().unwrap());
    let mut wallets = WalletServiceClient::new(channel(house.running.addresses["billing"]));
    assert_eq!(reason(&wallets.get_wallet(guessed).await.unwrap_err()), "CREDENTIALS_MISSING");
    house.running.drain(std::future::pending()).await;
    databases.done().await;
}
