//! A house for a test: fresh databases, three roles on free ports, and a look at the books when the test is done.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use mesh::{
    Clock, Plan, Running, Store, Telemetry,
    config::{Sources, load},
    store::sql,
};
use sea_orm::ConnectionTrait as _;
use tonic::{Code, Request, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;
use tracing_subscriber::{Layer, layer::SubscriberExt as _, util::SubscriberInitExt as _};
use trivet::{Config, RoleName, plan};
use trivet_proto::{
    account::v1::{
        EnsureAccountRequest, account_service_client::AccountServiceClient,
        api_key_service_client::ApiKeyServiceClient, organization_service_client::OrganizationServiceClient,
        tenant_service_client::TenantServiceClient,
    },
    billing::v1::{
        DeductRequest, RecordPaymentRequest, VerifyLedgerRequest, billing_service_client::BillingServiceClient,
        charge_service_client::ChargeServiceClient, ledger_service_client::LedgerServiceClient, verify_ledger_response,
        wallet_service_client::WalletServiceClient,
    },
    mesh::v1::event_service_client::EventServiceClient,
    product::v1::{
        catalog_service_client::CatalogServiceClient, plan_service_client::PlanServiceClient,
        subscription_service_client::SubscriptionServiceClient, usage_service_client::UsageServiceClient,
    },
};

pub(crate) use crate::databases::Databases;

/// Nothing here takes longer, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Where PostgreSQL is, where it is.
#[allow(clippy::disallowed_methods, reason = "tests are steered by the environment")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Says, for whoever counts, what a test ran on.
pub(crate) fn record(kind: &str) {
    if let Some(path) = variable("TRIVET_TEST_RECORD") {
        let mut record = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(record, "{kind}").unwrap();
    }
}

/// Settings of a house on free ports, over these databases, with whatever else is said.
pub(crate) fn config(databases: &Databases, further: &[(&str, &str)]) -> Config {
    let ports = ["server.admin_port", "account.port", "product.port", "billing.port"].map(|key| (key, "0"));
    let mut flags: Vec<(String, String)> = ports
        .iter()
        .chain(&[("server.announce_ms", "0")])
        .chain(further)
        .map(|(key, value)| ((*key).into(), (*value).into()))
        .collect();
    flags.extend(databases.settings());
    load(&Sources { flags, ..Sources::default() }).unwrap()
}

/// Three services, calling each other.
pub(crate) struct House {
    pub(crate) config: Config,
    pub(crate) running: Running,
}

impl House {
    pub(crate) async fn start(config: Config, roles: &[RoleName]) -> Self {
        Self::start_by(Clock::system(), config, roles).await
    }

    pub(crate) async fn start_by(clock: Clock, config: Config, roles: &[RoleName]) -> Self {
        let plan = plan(&config, roles, Telemetry::quiet().unwrap(), clock).unwrap();
        Self::start_plan(config, plan).await
    }

    /// A house as planned.
    pub(crate) async fn start_plan(config: Config, plan: Plan) -> Self {
        fail_on_errors();
        let running = plan.bind().await.unwrap().start().await.unwrap();
        Self { config, running }
    }

    pub(crate) fn accounts(&self) -> AccountServiceClient<Channel> {
        AccountServiceClient::new(channel(self.running.addresses["account"]))
    }

    pub(crate) fn organizations(&self) -> OrganizationServiceClient<Channel> {
        OrganizationServiceClient::new(channel(self.running.addresses["account"]))
    }

    pub(crate) fn api_keys(&self) -> ApiKeyServiceClient<Channel> {
        ApiKeyServiceClient::new(channel(self.running.addresses["account"]))
    }

    pub(crate) fn tenants(&self) -> TenantServiceClient<Channel> {
        TenantServiceClient::new(channel(self.running.addresses["account"]))
    }

    pub(crate) fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(channel(self.running.addresses["product"]))
    }

    pub(crate) fn subscriptions(&self) -> SubscriptionServiceClient<Channel> {
        SubscriptionServiceClient::new(channel(self.running.addresses["product"]))
    }

    pub(crate) fn plans(&self) -> PlanServiceClient<Channel> {
        PlanServiceClient::new(channel(self.running.addresses["product"]))
    }

    pub(crate) fn usage(&self) -> UsageServiceClient<Channel> {
        UsageServiceClient::new(channel(self.running.addresses["product"]))
    }

    pub(crate) fn wallets(&self) -> WalletServiceClient<Channel> {
        WalletServiceClient::new(channel(self.running.addresses["billing"]))
    }

    pub(crate) fn billing(&self) -> BillingServiceClient<Channel> {
        BillingServiceClient::new(channel(self.running.addresses["billing"]))
    }

    pub(crate) fn charges(&self) -> ChargeServiceClient<Channel> {
        ChargeServiceClient::new(channel(self.running.addresses["billing"]))
    }

    pub(crate) fn ledger(&self) -> LedgerServiceClient<Channel> {
        LedgerServiceClient::new(channel(self.running.addresses["billing"]))
    }

    /// What there is to say of the events of a service.
    pub(crate) fn events(&self, service: &str) -> EventServiceClient<Channel> {
        EventServiceClient::new(channel(self.running.addresses[service]))
    }

    /// An active account with `amount` USDC in its wallet.
    pub(crate) async fn user(&self, user_id: &str, amount: &str) {
        self.accounts().ensure_account(person(user_id)).await.unwrap();
        self.wallets().record_payment(payment(&format!("fund-{user_id}"), user_id, amount)).await.unwrap();
    }

    /// The rows of a role, for a look past its rpcs.
    pub(crate) async fn rows(&self, role: RoleName) -> Store {
        let location = role.config(&self.config).location(role.as_str(), &self.config.data_dir).unwrap();
        Store::open(location).await.unwrap()
    }

    /// Waits until nothing is told any more. What one service tells makes another tell something, too; who is told to go
    /// in between leaves that to the next process.
    pub(crate) async fn is_quiet(&self) {
        let mut stores = Vec::new();
        for role in RoleName::ALL {
            stores.push(self.rows(role).await);
        }
        // An event is marked as told once everybody has felt it: where two looks find none that is not, none is under way.
        let mut looks = 0;
        eventually("all is told", async || {
            let mut untold = 0;
            for store in &stores {
                untold += waiting(store).await;
            }
            // What is owed because of what was told is asked for right after that.
            let unasked = "select count(*) from charges where state = 'OPEN' and tried = 0";
            untold += mesh::store::count(stores[2].reader(), unasked, []).await.unwrap();
            looks = if untold == 0 { looks + 1 } else { 0 };
            looks == 2
        })
        .await;
        for store in stores {
            store.close().await.unwrap();
        }
    }

    /// Has the ledger of every tenant prove itself.
    async fn ledger_verifies(&self) {
        let store = self.rows(RoleName::Billing).await;
        let tenants = sql(store.reader(), "select distinct tenant_id from wallets", []);
        for row in store.reader().query_all_raw(tenants).await.unwrap() {
            let mut ask = Request::new(VerifyLedgerRequest::default());
            let tenant: String = row.try_get("", "tenant_id").unwrap();
            ask.metadata_mut().insert("x-trivet-tenant", tenant.parse().unwrap());
            let mut said = self.ledger().verify_ledger(ask).await.unwrap().into_inner();
            let mut last = None;
            while let Some(event) = said.message().await.unwrap() {
                last = event.event;
                assert!(!matches!(last, Some(verify_ledger_response::Event::Finding(_))), "{last:?}");
            }
            assert!(matches!(last, Some(verify_ledger_response::Event::Verdict(verdict)) if verdict.ok));
        }
        store.close().await.unwrap();
    }

    pub(crate) async fn end(self) {
        let config = self.config.clone();
        self.is_quiet().await;
        self.ledger_verifies().await;
        self.running.drain(std::future::pending()).await;
        books_balance(&config).await;
        everything_is_told(&config).await;
        assert_eq!(ERRORS.load(Ordering::SeqCst), 0, "errors were logged");
    }
}

/// Runs a test on every database that is there, each time in a house of its own, and looks at the books afterwards.
pub(crate) async fn on_every_store(test: impl AsyncFn(&House)) {
    on_every_store_by(Clock::system, async |house, _| test(house).await).await;
}

/// The same, by a clock that stands still until the test moves it.
pub(crate) async fn on_every_store_with_a_held_clock(test: impl AsyncFn(&House, &Clock)) {
    on_every_store_by(|| Clock::held(Clock::system().now()), test).await;
}

async fn on_every_store_by(clock: fn() -> Clock, test: impl AsyncFn(&House, &Clock)) {
    let stores = [Some(Databases::sqlite()), Databases::furnished().await];
    for databases in stores.into_iter().flatten() {
        let clock = clock();
        let house = House::start_by(clock.clone(), config(&databases, &[]), &RoleName::ALL).await;
        test(&house, &clock).await;
        house.end().await;
        databases.done().await;
    }
}

/// What must hold after every test, asked of the database past the service: no transaction that does not add up, no wallet
/// that is not the sum of its transactions, no version that is missing, no request id without an answer.
pub(crate) async fn books_balance(config: &Config) {
    let store = Store::open(config.billing.location("billing", &config.data_dir).unwrap()).await.unwrap();
    let reader = store.reader();
    for (what, query) in [
        (
            "transactions that do not add up",
            "select count(*) as n from transactions where wallet + held + revenue + payments <> 0",
        ),
        (
            "wallets that are not what their transactions add up to",
            "select count(*) as n from wallets w
              where (balance, held, version) <> (select coalesce(sum(t.wallet + t.held), 0), coalesce(sum(t.held), 0),
                       count(*) from transactions t
                     where t.tenant_id = w.tenant_id and t.user_id = w.user_id and t.currency = w.currency)",
        ),
        ("request ids without an answer", "select count(*) as n from requests where state = 'CLAIMED'"),
        (
            "transactions that the request they name does not stand for",
            "select count(*) as n from transactions t where t.request_id <> '' and not exists
              (select 1 from requests r where r.tenant_id = t.tenant_id and r.request_id = t.request_id
                  and r.state = 'APPLIED')",
        ),
        (
            "requests that stand for two transactions",
            "select count(*) as n from (select 1 from transactions where request_id <> ''
              group by tenant_id, request_id having count(*) > 1) as twice",
        ),
        (
            "wallets that hold something else than their open holds",
            "select count(*) as n from wallets w
              where held <> (select coalesce(sum(h.amount), 0) from holds h where h.tenant_id = w.tenant_id
                     and h.user_id = w.user_id and h.currency = w.currency and h.state = 'OPEN')",
        ),
    ] {
        let row = reader.query_one_raw(sql(reader, query, [])).await.unwrap().unwrap();
        assert_eq!(row.try_get::<i64>("", "n").unwrap(), 0, "{what}");
    }
    store.close().await.unwrap();
}

/// What must hold once a house has gone: nothing that happened is left untold, but for what no bus takes.
async fn everything_is_told(config: &Config) {
    for role in RoleName::ALL {
        let location = role.config(config).location(role.as_str(), &config.data_dir).unwrap();
        let store = Store::open(location).await.unwrap();
        assert_eq!(waiting(&store).await, 0, "events of {} were not told", role.as_str());
        store.close().await.unwrap();
    }
}

/// How many events of a role wait to be told; of one that has an event which no bus takes, none that counts.
async fn waiting(store: &Store) -> i64 {
    let refused = "select count(*) from outbox_refused";
    let untold = "select count(*) from outbox_waiting";
    let number = async |text| mesh::store::count(store.reader(), text, []).await.unwrap();
    if number(refused).await == 0 { number(untold).await } else { 0 }
}

/// Waits until something holds, which it does soon or never.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let looking = async {
        while !holds().await {
            looks.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looking).await.is_ok(), "not so after {} s: {what}", PATIENCE.as_secs());
}

/// The answer to a call that is made again while there is too much at once, as a caller does who is in no hurry: how much is
/// too much depends on how fast the machine is.
pub(crate) async fn patiently<T, F>(mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut turns = tokio::time::interval(Duration::from_millis(10));
    let answered = async {
        loop {
            match call().await {
                Err(status) if reason(&status) == "OVERLOADED" => _ = turns.tick().await,
                answer => return answer.unwrap().into_inner(),
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("there is no room for a call")
}

/// A channel as any caller would have it.
pub(crate) fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

pub(crate) fn person(user_id: &str) -> EnsureAccountRequest {
    EnsureAccountRequest {
        user_id: user_id.to_owned(),
        email: format!("{user_id}@example.com"),
        name: format!("User {user_id}"),
        subscription_tier: 0,
    }
}

pub(crate) fn payment(request_id: &str, user_id: &str, amount: &str) -> RecordPaymentRequest {
    RecordPaymentRequest {
        request_id: request_id.to_owned(),
        user_id: user_id.to_owned(),
        amount: amount.to_owned(),
        provider: "bank".to_owned(),
        ..RecordPaymentRequest::default()
    }
}

pub(crate) fn order(request_id: &str, user_id: &str, amount: &str) -> DeductRequest {
    DeductRequest {
        request_id: request_id.to_owned(),
        user_id: user_id.to_owned(),
        amount: amount.to_owned(),
        ..DeductRequest::default()
    }
}

/// The reason of a refusal, after looking at what every refusal must carry.
pub(crate) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "trivet.dev");
    assert!(details.request_info().is_some_and(|info| !info.request_id.is_empty()), "no RequestInfo: {status:?}");
    assert_ne!(status.code(), Code::Internal, "{status:?}");
    info.reason.clone()
}

/// A value of a refusal's metadata.
pub(crate) fn told(status: &Status, key: &str) -> String {
    status.get_details_error_info().unwrap().metadata.get(key).cloned().unwrap_or_default()
}

/// The fields that a refusal complains of, in order.
pub(crate) fn faulty(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

static ERRORS: AtomicU32 = AtomicU32::new(0);

/// Counts every line that is logged as an error: no test of the house asks for one.
fn fail_on_errors() {
    struct Count;
    impl<S: tracing::Subscriber> Layer<S> for Count {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            if *event.metadata().level() == tracing::Level::ERROR {
                ERRORS.fetch_add(1, Ordering::SeqCst);
                eprintln!("an error was logged: {event:?}");
            }
        }
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::registry().with(Count).init());
}
