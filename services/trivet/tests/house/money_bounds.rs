//! How far money's lists, streams and exports go: to their tenant, to their arguments, and to so many at once.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt as _, stream};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tonic::{Code, Request, transport::Channel};
use tonic_types::StatusExt as _;
use trivet::RoleName;
use trivet_proto::billing::v1::{
    DeductionOrder, ExportLedgerRequest, GetTrialBalanceRequest, GetWalletRequest, ListChargesRequest,
    ListHoldsRequest, PlaceHoldRequest, StreamDeductRequest, VerifyLedgerRequest, WatchWalletRequest,
    billing_service_client::BillingServiceClient, wallet_service_client::WalletServiceClient,
};

use crate::{
    databases::{Databases, url},
    harness::{House, config, eventually, on_every_store, order, payment, person, reason},
    tenants::of,
};

fn hold(request_id: &str) -> PlaceHoldRequest {
    PlaceHoldRequest {
        request_id: request_id.to_owned(),
        user_id: "ada".to_owned(),
        amount: "1".to_owned(),
        ..PlaceHoldRequest::default()
    }
}

/// The wallet and version of each transaction that an export has, and the token after the last of up to `most`.
async fn exported(house: &House, ask: Request<ExportLedgerRequest>, most: usize) -> (Vec<(String, i64)>, String) {
    let mut messages = house.ledger().export_ledger(ask).await.unwrap().into_inner();
    let (mut places, mut token) = (Vec::new(), String::new());
    while places.len() < most
        && let Some(message) = messages.message().await.unwrap()
    {
        let transaction = message.transaction.unwrap();
        places.push((transaction.user_id, transaction.transaction.unwrap().wallet_version));
        token = message.resume_token;
    }
    (places, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_ledgers_and_balances_are_those_of_the_tenant_who_asks() {
    on_every_store(async |house| {
        for (tenant, amount) in [("acme", "10"), ("beta", "20")] {
            house.accounts().ensure_account(of(tenant, person("ada"))).await.unwrap();
            house.wallets().record_payment(of(tenant, payment("pay", "ada", amount))).await.unwrap();
        }
        house.billing().place_hold(of("acme", hold("hold"))).await.unwrap();
        for (tenant, held, transactions, owed) in [("acme", 1, 2, "-10"), ("beta", 0, 1, "-20")] {
            let ask = ListHoldsRequest { with_total: true, ..ListHoldsRequest::default() };
            let holds = house.billing().list_holds(of(tenant, ask)).await.unwrap().into_inner();
            assert_eq!((holds.holds.len(), holds.total_size), (held, Some(i64::try_from(held).unwrap())));
            let (places, _) = exported(house, of(tenant, ExportLedgerRequest::default()), 100).await;
            assert_eq!(places.len(), transactions);
            let balance = house.ledger().get_trial_balance(of(tenant, GetTrialBalanceRequest {})).await.unwrap();
            let [usdc] = &balance.into_inner().balances[..] else { panic!("one currency") };
            assert!(usdc.accounts.iter().any(|account| account.balance == owed), "{tenant}: {usdc:?}");
        }
        let (places, token) = exported(house, of("acme", ExportLedgerRequest::default()), 1).await;
        assert_eq!(places, [("ada".to_owned(), 1)]);
        let theirs = ExportLedgerRequest { resume_token: token, ..ExportLedgerRequest::default() };
        let refused = house.ledger().export_ledger(of("beta", theirs)).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_PAGE_TOKEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_of_holds_is_good_for_the_list_that_gave_it() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        for number in 0..3 {
            house.billing().place_hold(hold(&format!("hold-{number}"))).await.unwrap();
        }
        let ask = ListHoldsRequest { user_id: "ada".to_owned(), page_size: 1, ..ListHoldsRequest::default() };
        let page = house.billing().list_holds(ask.clone()).await.unwrap().into_inner();
        let next = ListHoldsRequest { page_token: page.next_page_token, ..ask };
        assert_eq!(house.billing().list_holds(next.clone()).await.unwrap().into_inner().holds.len(), 1);
        let other = ListHoldsRequest { user_id: String::new(), ..next.clone() };
        assert_eq!(reason(&house.billing().list_holds(other).await.unwrap_err()), "INVALID_PAGE_TOKEN");
        assert_eq!(
            reason(&house.billing().list_holds(of("acme", next.clone())).await.unwrap_err()),
            "INVALID_PAGE_TOKEN"
        );
        let (user_id, page_token) = (next.user_id, next.page_token);
        let charges = ListChargesRequest { user_id, page_token, ..ListChargesRequest::default() };
        assert_eq!(reason(&house.charges().list_charges(charges).await.unwrap_err()), "INVALID_PAGE_TOKEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_breaks_off_again_and_again_while_money_moves_skips_and_repeats_nothing() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        house.user("bob", "10").await;
        let ended = AtomicBool::new(false);
        let moving = async {
            for number in 0..400 {
                let user = if number % 2 == 0 { "ada" } else { "bob" };
                house.billing().deduct(order(&format!("r{number}"), user, "0.001")).await.unwrap();
            }
            ended.store(true, Ordering::SeqCst);
        };
        let exporting = async {
            let (mut all, mut resume_token) = (Vec::new(), String::new());
            loop {
                let was_ended = ended.load(Ordering::SeqCst);
                let ask = ExportLedgerRequest { resume_token: resume_token.clone(), ..ExportLedgerRequest::default() };
                let (places, token) = exported(house, Request::new(ask), 17).await;
                match places.is_empty() {
                    true if was_ended => return all,
                    true => tokio::task::yield_now().await,
                    false => resume_token = token,
                }
                all.extend(places);
            }
        };
        let ((), all) = tokio::join!(moving, exporting);
        let of_user =
            |user: &str| all.iter().filter(|(of, _)| of == user).map(|(_, version)| *version).collect::<Vec<_>>();
        let (ada, bob) = (of_user("ada"), of_user("bob"));
        // What ada does once the export has come to bob is for the next one.
        assert_eq!(ada, (1..=i64::try_from(ada.len()).unwrap()).collect::<Vec<_>>());
        assert!(!ada.is_empty());
        assert_eq!(bob, (1..=201).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_a_stream_whose_answers_nobody_reads_are_not_carried_out_on_and_on() {
    const OFFERED: i64 = 10_000;
    on_every_store(async |house| {
        house.user("ada", "1000").await;
        let orders = stream::iter(0..OFFERED).map(|number| {
            let order = DeductionOrder {
                // Long, so that few answers fit between the two.
                request_id: format!("{number:0100}"),
                user_id: "ada".to_owned(),
                amount: "0.001".to_owned(),
                ..DeductionOrder::default()
            };
            StreamDeductRequest { deduction: Some(order) }
        });
        let address = format!("http://{}", house.running.addresses["billing"]);
        let narrow = Channel::from_shared(address).unwrap().initial_stream_window_size(65_535).connect_lazy();
        let answers = BillingServiceClient::new(narrow).stream_deduct(orders).await.unwrap().into_inner();
        let (mut last, mut same) = (0, 0);
        eventually("no more are carried out", async || {
            let ask = GetWalletRequest { user_id: "ada".to_owned(), currency: String::new() };
            let now = house.wallets().get_wallet(ask).await.unwrap().into_inner().wallet.unwrap().sequence;
            same = if now == last { same + 1 } else { 0 };
            last = now;
            now > 100 && same > 100
        })
        .await;
        assert!(last < OFFERED / 2, "{last} orders were carried out");
        let answers = answers.map(|answer| answer.unwrap().error).collect::<Vec<_>>().await;
        assert_eq!(answers, (0..OFFERED).map(|_| None).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_two_verify_at_once() {
    let Some(databases) = Databases::furnished().await else { return };
    let Databases::Postgres { server, name } = &databases else { unreachable!() };
    let house = House::start(config(&databases, &[]), &RoleName::ALL).await;
    house.user("ada", "10").await;
    let mut session = PgConnection::connect(&url(server, name)).await.unwrap();
    session.execute("begin").await.unwrap();
    session.execute("lock table billing.wallets in access exclusive mode").await.unwrap();
    let ask = VerifyLedgerRequest::default();
    let mut verifying = Vec::new();
    for _ in 0..2 {
        verifying.push(house.ledger().verify_ledger(ask.clone()).await.unwrap().into_inner());
    }
    let refused = house.ledger().verify_ledger(ask.clone()).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::ResourceExhausted, "OVERLOADED"));
    session.execute("rollback").await.unwrap();
    drop(verifying);
    eventually("there is a place again", async || house.ledger().verify_ledger(ask.clone()).await.is_ok()).await;
    house.end().await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_a_thousand_wallets_are_watched_at_once() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let ask = WatchWalletRequest { user_id: "ada".to_owned(), currency: String::new() };
        let watch = async |mut wallets: WalletServiceClient<Channel>| wallets.watch_wallet(ask.clone()).await;
        // A connection carries no more than 256 at once.
        let wallets: Vec<_> = (0..5).map(|_| house.wallets()).collect();
        let watches = (0..1_000).map(|number| watch(wallets[number % wallets.len()].clone()));
        let mut open: Vec<_> = stream::iter(watches).buffer_unordered(20).map(Result::unwrap).collect().await;
        let refused = watch(house.wallets()).await.unwrap_err();
        assert_eq!((refused.code(), &*reason(&refused)), (Code::ResourceExhausted, "OVERLOADED"));
        assert!(refused.get_details_retry_info().is_some(), "it says when to come again");
        drop(open.pop());
        eventually("there is a place again", async || watch(house.wallets()).await.is_ok()).await;
    })
    .await;
}
