//! Payments and wallets, as their callers see them.

use tonic::Code;
use trivet::RoleName;
use trivet_proto::billing::v1::{
    GetWalletRequest, ListTransactionsRequest, RecordPaymentRequest, TransactionKind, WalletTransaction,
};

use crate::harness::{Databases, House, config, on_every_store, order, payment, person, reason, told};

fn wallet(user_id: &str) -> GetWalletRequest {
    GetWalletRequest { user_id: user_id.to_owned(), currency: String::new() }
}

/// All changes of a user's wallet in USDC, newest first.
pub(crate) async fn transactions(house: &House, user_id: &str) -> Vec<WalletTransaction> {
    let ask =
        ListTransactionsRequest { user_id: user_id.to_owned(), page_size: 1_000, ..ListTransactionsRequest::default() };
    house.wallets().list_transactions(ask).await.unwrap().into_inner().transactions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_makes_the_wallet_and_credits_it_once() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        let mut wallets = house.wallets();
        assert_eq!(reason(&wallets.get_wallet(wallet("ada")).await.unwrap_err()), "WALLET_NOT_FOUND");
        let first = wallets.record_payment(payment("pay-1", "ada", "10")).await.unwrap().into_inner();
        assert!(!first.already_processed);
        let again = wallets.record_payment(payment("pay-1", "ada", "10.0000")).await.unwrap().into_inner();
        assert!(again.already_processed);
        assert_eq!(again.payment, first.payment);
        let now = wallets.get_wallet(wallet("ada")).await.unwrap().into_inner().wallet.unwrap();
        assert_eq!((now.balance.as_str(), now.available.as_str(), now.held.as_str()), ("10", "10", "0"));
        assert_eq!((now.sequence, now.currency.as_str()), (1, "USDC"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_for_nobody_is_refused_for_ever_under_its_id() {
    on_every_store(async |house| {
        let mut wallets = house.wallets();
        let refused = wallets.record_payment(payment("pay-1", "ada", "10")).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "ACCOUNT_NOT_FOUND"));
        house.accounts().ensure_account(person("ada")).await.unwrap();
        let straggler = wallets.record_payment(payment("pay-1", "ada", "10")).await.unwrap_err();
        assert_eq!(reason(&straggler), "ACCOUNT_NOT_FOUND");
        wallets.record_payment(payment("pay-2", "ada", "10")).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_account_a_payment_is_neither_taken_nor_refused() {
    let databases = Databases::sqlite();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let alone = House::start(config(&databases, &[("account.address", &nobody)]), &[RoleName::Billing]).await;
    let refused = alone.wallets().record_payment(payment("pay-1", "ada", "10")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "DEPENDENCY_UNAVAILABLE"));
    alone.running.drain(std::future::pending()).await;
    // The id is still free.
    let house = House::start(config(&databases, &[]), &RoleName::ALL).await;
    house.accounts().ensure_account(person("ada")).await.unwrap();
    assert!(
        !house.wallets().record_payment(payment("pay-1", "ada", "10")).await.unwrap().into_inner().already_processed
    );
    house.running.drain(std::future::pending()).await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsed_payment_moves_nothing_and_leaves_the_id_free() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        let mut wallets = house.wallets();
        let rehearse = RecordPaymentRequest { validate_only: true, ..payment("pay-1", "ada", "10") };
        let answer = wallets.record_payment(rehearse).await.unwrap().into_inner().payment.unwrap();
        assert_eq!((answer.balance_after.as_str(), answer.transaction_id.as_str()), ("10", ""));
        assert_eq!(reason(&wallets.get_wallet(wallet("ada")).await.unwrap_err()), "WALLET_NOT_FOUND");
        assert!(!wallets.record_payment(payment("pay-1", "ada", "10")).await.unwrap().into_inner().already_processed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_beyond_64_bits_is_refused() {
    on_every_store(async |house| {
        house.user("ada", "922337203685.4775807").await;
        let refused = house.wallets().record_payment(payment("pay-1", "ada", "0.0000001")).await.unwrap_err();
        assert_eq!(
            (reason(&refused), told(&refused, "balance")),
            ("BALANCE_LIMIT".into(), "922337203685.4775807".into())
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_currency_has_a_wallet_of_its_own() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let dollars = RecordPaymentRequest { currency: "USD".to_owned(), ..payment("pay-usd", "ada", "12.34") };
        house.wallets().record_payment(dollars).await.unwrap();
        let ask = GetWalletRequest { user_id: "ada".to_owned(), currency: "USD".to_owned() };
        assert_eq!(house.wallets().get_wallet(ask).await.unwrap().into_inner().wallet.unwrap().balance, "12.34");
        let usdc = house.wallets().get_wallet(wallet("ada")).await.unwrap().into_inner().wallet.unwrap();
        assert_eq!(usdc.balance, "10");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_s_history_counts_down_without_a_gap_and_its_balances_chain() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        for number in 0..6 {
            house.billing().deduct(order(&format!("req-{number}"), "ada", "1.5")).await.unwrap();
        }
        let mut request =
            ListTransactionsRequest { user_id: "ada".to_owned(), page_size: 2, with_total: true, ..Default::default() };
        let mut history = Vec::new();
        loop {
            let page = house.wallets().list_transactions(request.clone()).await.unwrap().into_inner();
            assert_eq!((page.total_size, page.currency.as_str()), (Some(7), "USDC"));
            history.extend(page.transactions);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        let told: Vec<_> = history
            .iter()
            .map(|change| (change.wallet_version, change.amount.as_str(), change.balance_after.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (7, "-1.5", "1"),
                (6, "-1.5", "2.5"),
                (5, "-1.5", "4"),
                (4, "-1.5", "5.5"),
                (3, "-1.5", "7"),
                (2, "-1.5", "8.5"),
                (1, "10", "10")
            ]
        );
        assert_eq!(history.last().unwrap().kind(), TransactionKind::Payment);
    })
    .await;
}
