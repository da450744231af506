//! Streams end with what their caller was let in by.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use mesh::Clock;
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use trivet_proto::{
    account::v1::account_service_client::AccountServiceClient,
    billing::v1::{
        DeductRequest, DeductionOrder, StreamDeductRequest, WatchWalletRequest, WatchWalletResponse,
        billing_service_client::BillingServiceClient, wallet_service_client::WalletServiceClient,
    },
    product::v1::{
        CheckAvailabilityRequest, StreamUsageRequest, catalog_service_client::CatalogServiceClient,
        usage_service_client::UsageServiceClient,
    },
};

use super::{Guarded, wallet_of, with_key};
use crate::{
    certificates::certs,
    harness::{PATIENCE, eventually, order, payment, person, reason, told},
    metrics::samples_at,
    tenants::of,
};

/// Within which a key that was revoked is refused everywhere.
const WITHIN: Duration = Duration::from_secs(5);

impl Guarded {
    /// Gives ada of acme a wallet.
    async fn fund(&self) {
        let mut accounts = AccountServiceClient::new(self.by("account", "operator"));
        accounts.ensure_account(of("acme", person("ada"))).await.unwrap();
        self.pay("pay-1").await;
    }

    async fn pay(&self, request_id: &str) {
        let mut wallets = WalletServiceClient::new(self.by("billing", "operator"));
        wallets.record_payment(of("acme", payment(request_id, "ada", "5"))).await.unwrap();
    }
}

type Watched = Streaming<WatchWalletResponse>;

/// Begins to watch ada's wallet.
async fn watch(channel: Channel, secret: Option<&str>) -> Watched {
    let ask = WatchWalletRequest { user_id: "ada".to_owned(), currency: String::new() };
    let ask = secret.map_or_else(|| Request::new(ask.clone()), |secret| with_key(secret, ask.clone()));
    let mut watched = WalletServiceClient::new(channel).watch_wallet(ask).await.unwrap().into_inner();
    news(&mut watched).await.unwrap();
    watched
}

/// What a watch says next.
async fn news(watched: &mut Watched) -> Result<(), Status> {
    let news = tokio::time::timeout(PATIENCE, watched.message()).await.expect("it says nothing");
    news.map(|news| assert!(news.is_some(), "it ends without a word"))
}

fn check(refused: &Status, cause: &str) {
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!((reason(refused), told(refused, "cause")), ("CREDENTIALS_INVALID".into(), cause.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_within_five_seconds_of_the_end_of_their_key_and_of_no_other() {
    let guarded = Guarded::with(&[]).await;
    guarded.fund().await;
    let (key_id, secret) = guarded.key("acme", &["billing.write", "product.write"]).await;
    let (_, other) = guarded.key("acme", &["billing.read"]).await;
    let mut lasting = watch(guarded.by_nobody("billing"), Some(&other)).await;
    // A certificate beside it is not what it was let in by.
    let mut ending = watch(guarded.by("billing", "shop"), Some(&secret)).await;
    let DeductRequest { request_id, user_id, amount, .. } = order("take-1", "ada", "1");
    let deduction = Some(DeductionOrder { request_id, user_id, amount, ..DeductionOrder::default() });
    let first = StreamDeductRequest { deduction };
    // Nothing is said after that, and nothing is over.
    let orders = stream::iter([first]).chain(stream::pending());
    let orders = BillingServiceClient::new(guarded.by_nobody("billing")).stream_deduct(with_key(&secret, orders)).await;
    let mut orders = orders.unwrap().into_inner();
    assert!(orders.message().await.unwrap().unwrap().deduction.is_some());
    news(&mut ending).await.unwrap();
    news(&mut lasting).await.unwrap();
    let by_nobody = guarded.by_nobody("product");
    let mut request = with_key(&secret, stream::pending::<StreamUsageRequest>());
    request.set_timeout(PATIENCE);
    let mut usage = UsageServiceClient::new(by_nobody.clone());
    let mut usage = pin!(usage.stream_usage(request));
    // What is sent after it on the same connection, and answered, says that it was let in.
    let mut catalog = CatalogServiceClient::new(by_nobody);
    tokio::select! {
        biased;
        ended = &mut usage => panic!("{ended:?}"),
        answer = catalog.check_availability(with_key(&secret, CheckAvailabilityRequest::default())) => {
            assert_eq!(reason(&answer.unwrap_err()), "INVALID_FIELDS");
        }
    }
    guarded.revoke("acme", key_id).await;
    let revoked = Instant::now();
    check(&news(&mut ending).await.unwrap_err(), "REVOKED");
    check(&orders.message().await.unwrap_err(), "REVOKED");
    check(&usage.await.unwrap_err(), "REVOKED");
    assert!(revoked.elapsed() <= WITHIN, "{:?}", revoked.elapsed());
    guarded.pay("pay-2").await;
    news(&mut lasting).await.unwrap();
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_key_expires() {
    let clock = Clock::held(Clock::system().now());
    let guarded = Guarded::by_clock(clock.clone(), &[]).await;
    guarded.fund().await;
    let soon = clock.now().plus(Duration::from_mins(1));
    let (_, secret) = guarded.key_until("acme", &["billing.read"], Some(soon)).await;
    let mut watched = watch(guarded.by_nobody("billing"), Some(&secret)).await;
    clock.advance(Duration::from_mins(1));
    let expired = Instant::now();
    check(&news(&mut watched).await.unwrap_err(), "EXPIRED");
    assert!(expired.elapsed() <= WITHIN, "{:?}", expired.elapsed());
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expires_ends_its_streams_and_counts_for_no_call_on_its_connection() {
    let clock = Clock::held(Clock::system().now());
    let guarded = Guarded::by_clock(clock.clone(), &[]).await;
    guarded.fund().await;
    certs(guarded.folder.path(), &["shop", "--days", "1"]).await.unwrap();
    let (by_shop, by_operator) = (guarded.by("billing", "shop"), guarded.by("billing", "operator"));
    let mut watched = watch(by_shop.clone(), None).await;
    clock.advance(Duration::from_hours(24) + Duration::from_secs(2));
    check(&news(&mut watched).await.unwrap_err(), "EXPIRED");
    let refused = WalletServiceClient::new(by_shop).get_wallet(wallet_of("ada")).await.unwrap_err();
    check(&refused, "EXPIRED");
    WalletServiceClient::new(by_operator).get_wallet(of("acme", wallet_of("ada"))).await.unwrap();
    guarded.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_audit_a_stream_outlives_its_key_and_is_counted() {
    let guarded = Guarded::with(&[("identity.mode", "audit")]).await;
    guarded.fund().await;
    let (key_id, secret) = guarded.key("acme", &["billing.read"]).await;
    let mut watched = watch(guarded.by_nobody("billing"), Some(&secret)).await;
    guarded.revoke("acme", key_id).await;
    eventually("it is counted", async || {
        let denied = samples_at(guarded.house.running.admin, "trivet_server_denied_total").await;
        let of_watch = |sample: &String| ["mode=\"audit\"", "WatchWallet"].iter().all(|part| sample.contains(part));
        denied.keys().any(of_watch)
    })
    .await;
    guarded.pay("pay-2").await;
    news(&mut watched).await.unwrap();
    guarded.end().await;
}
