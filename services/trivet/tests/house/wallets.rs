//! Wallets, as their callers see them: frozen, watched, and told of in statements.

use std::time::Duration;

use mesh::Time;
use sqlx::{Connection as _, Executor as _, PgConnection};
use trivet::RoleName;
use trivet_proto::{
    account::v1::{DeleteAccountRequest, RestoreAccountRequest},
    billing::v1::{
        FreezeWalletRequest, GetStatementRequest, GetStatementResponse, GetWalletRequest, RecordPaymentRequest,
        RefundRequest, TransactionKind as Kind, UnfreezeWalletRequest, Wallet, WalletState, WatchWalletRequest,
        WatchWalletResponse,
    },
};

use crate::{
    databases::{Databases, is_one_waiting, url},
    harness::{
        House, PATIENCE, config, eventually, faulty, on_every_store, on_every_store_with_a_held_clock, order, payment,
        person, reason,
    },
    tenants::of,
};

fn freeze(user_id: &str) -> FreezeWalletRequest {
    FreezeWalletRequest { user_id: user_id.to_owned(), currency: String::new() }
}

fn unfreeze(user_id: &str) -> UnfreezeWalletRequest {
    UnfreezeWalletRequest { user_id: user_id.to_owned(), currency: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_wallet_takes_and_gives_nothing_until_it_is_unfrozen() {
    on_every_store_with_a_held_clock(async |house, clock| {
        house.user("ada", "10").await;
        clock.advance(Duration::from_secs(1));
        let frozen = house.wallets().freeze_wallet(freeze("ada")).await.unwrap().into_inner().wallet.unwrap();
        assert_eq!((frozen.state(), frozen.sequence), (WalletState::Frozen, 1));
        assert_eq!(frozen.update_time, Some(clock.now().to_wire()));
        clock.advance(Duration::from_secs(1));
        let again = house.wallets().freeze_wallet(freeze("ada")).await.unwrap().into_inner().wallet.unwrap();
        assert_eq!(again, frozen, "frozen once");
        assert_eq!(reason(&house.billing().deduct(order("req-1", "ada", "1")).await.unwrap_err()), "WALLET_FROZEN");
        house.wallets().record_payment(payment("pay-1", "ada", "1")).await.unwrap();
        let active = house.wallets().unfreeze_wallet(unfreeze("ada")).await.unwrap().into_inner().wallet.unwrap();
        assert_eq!((active.state(), &*active.balance), (WalletState::Active, "11"));
        house.billing().deduct(order("req-2", "ada", "1")).await.unwrap();
        for refused in [
            house.wallets().freeze_wallet(freeze("bob")).await.unwrap_err(),
            house.wallets().unfreeze_wallet(unfreeze("bob")).await.unwrap_err(),
            house.wallets().freeze_wallet(of("other", freeze("ada"))).await.unwrap_err(),
        ] {
            assert_eq!(reason(&refused), "WALLET_NOT_FOUND");
        }
        let odd = FreezeWalletRequest { user_id: "a b".to_owned(), currency: "usd".to_owned() };
        assert_eq!(faulty(&house.wallets().freeze_wallet(odd).await.unwrap_err()), ["user_id", "currency"]);
        let odd = UnfreezeWalletRequest { user_id: String::new(), currency: "usd".to_owned() };
        assert_eq!(faulty(&house.wallets().unfreeze_wallet(odd).await.unwrap_err()), ["user_id", "currency"]);
    })
    .await;
}

/// Pays into ada's wallet in this currency, and says how it stands.
async fn opened(house: &House, request_id: &str, currency: &str) -> WalletState {
    let paid = RecordPaymentRequest { currency: currency.to_owned(), ..payment(request_id, "ada", "5") };
    house.wallets().record_payment(paid).await.unwrap();
    let ask = GetWalletRequest { user_id: "ada".to_owned(), currency: currency.to_owned() };
    house.wallets().get_wallet(ask).await.unwrap().into_inner().wallet.unwrap().state()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_deleted_has_no_wallet_that_gives_before_somebody_says_so_not_even_a_later_one() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        let delete = DeleteAccountRequest { user_id: "ada".to_owned(), reason: String::new() };
        house.accounts().delete_account(delete).await.unwrap();
        house.is_quiet().await;
        let restore = RestoreAccountRequest { user_id: "ada".to_owned(), reason: String::new() };
        house.accounts().restore_account(restore).await.unwrap();
        // Who unfreezes what is not there has said nothing.
        assert_eq!(reason(&house.wallets().unfreeze_wallet(unfreeze("ada")).await.unwrap_err()), "WALLET_NOT_FOUND");
        assert_eq!(opened(house, "pay-1", "USDC").await, WalletState::Frozen);
        assert_eq!(reason(&house.billing().deduct(order("req-1", "ada", "1")).await.unwrap_err()), "WALLET_FROZEN");
        house.wallets().unfreeze_wallet(unfreeze("ada")).await.unwrap();
        house.billing().deduct(order("req-2", "ada", "1")).await.unwrap();
        assert_eq!(opened(house, "pay-2", "EUR").await, WalletState::Active);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_is_made_while_its_owner_goes_is_frozen() {
    let Some(databases) = Databases::furnished().await else { return };
    let Databases::Postgres { server, name } = &databases else { unreachable!() };
    let house = House::start(config(&databases, &[]), &RoleName::ALL).await;
    house.accounts().ensure_account(person("ada")).await.unwrap();
    let mut session = PgConnection::connect(&url(server, name)).await.unwrap();
    session.execute("begin").await.unwrap();
    // As the handler of user.deleted does, which is about to commit.
    session.execute("insert into billing.owners values ('default', 'ada', 1)").await.unwrap();
    let going = async {
        let mut looker = PgConnection::connect(&url(server, name)).await.unwrap();
        eventually("the payment waits", async || is_one_waiting(&mut looker).await).await;
        session.execute("commit").await.unwrap();
    };
    let (state, ()) = tokio::join!(opened(&house, "pay-1", "USDC"), going);
    assert_eq!(state, WalletState::Frozen);
    house.end().await;
    databases.done().await;
}

/// The next that a watch shows: balance, version, and what changed it.
async fn next(watch: &mut tonic::Streaming<WatchWalletResponse>) -> (Wallet, Option<Kind>) {
    let seen = tokio::time::timeout(PATIENCE, watch.message()).await.expect("it is told").unwrap().unwrap();
    (seen.wallet.unwrap(), seen.transaction.map(|transaction| transaction.kind()))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_a_wallet_sees_every_change_in_order() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        house.user("bob", "10").await;
        let ask = WatchWalletRequest { user_id: "ada".to_owned(), currency: String::new() };
        let mut watch = house.wallets().watch_wallet(ask.clone()).await.unwrap().into_inner();
        let (now, change) = next(&mut watch).await;
        assert_eq!((&*now.balance, now.sequence, change), ("10", 1, None));
        for number in 0..100 {
            house.billing().deduct(order(&format!("a{number}"), "ada", "0.01")).await.unwrap();
            house.billing().deduct(order(&format!("b{number}"), "bob", "0.01")).await.unwrap();
        }
        for number in 0..100 {
            let (now, change) = next(&mut watch).await;
            assert_eq!((now.sequence, change), (number + 2, Some(Kind::Deduction)));
        }
        house.wallets().freeze_wallet(freeze("ada")).await.unwrap();
        let (now, change) = next(&mut watch).await;
        assert_eq!((now.state(), &*now.balance, now.sequence, change), (WalletState::Frozen, "9", 101, None));
        let nobody = WatchWalletRequest { user_id: "cyd".to_owned(), ..ask };
        assert_eq!(reason(&house.wallets().watch_wallet(nobody).await.unwrap_err()), "WALLET_NOT_FOUND");
        let odd = WatchWalletRequest { user_id: "a b".to_owned(), currency: "usd".to_owned() };
        assert_eq!(faulty(&house.wallets().watch_wallet(odd).await.unwrap_err()), ["user_id", "currency"]);
    })
    .await;
}

async fn statement(house: &House, start: Option<Time>, end: Option<Time>) -> GetStatementResponse {
    let ask = GetStatementRequest {
        user_id: "ada".to_owned(),
        currency: String::new(),
        start_time: start.map(Time::to_wire),
        end_time: end.map(Time::to_wire),
    };
    let statement = house.wallets().get_statement(ask).await.unwrap().into_inner();
    let minor = |text: &str| {
        let (sign, text) = text.strip_prefix('-').map_or((1, text), |text| (-1, text));
        sign * money::Amount::parse(money::Currency::USDC, text).unwrap().minor()
    };
    let lines: i64 = statement.lines.iter().map(|line| minor(&line.amount)).sum();
    assert_eq!(minor(&statement.opening_balance) + lines, minor(&statement.closing_balance), "{statement:?}");
    statement
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_s_opening_and_its_lines_add_up_to_its_closing() {
    on_every_store_with_a_held_clock(async |house, clock| {
        let began = clock.now();
        let minute = |minute: u64| Some(began.plus(Duration::from_mins(minute)));
        house.user("ada", "10").await;
        for (number, (api, amount)) in
            [("chat", "1"), ("draw", "2"), ("chat", "0.5"), ("", "0.25")].into_iter().enumerate()
        {
            clock.advance(Duration::from_mins(1));
            let order = trivet_proto::billing::v1::DeductRequest {
                api_id: api.to_owned(),
                ..order(&format!("r{number}"), "ada", amount)
            };
            house.billing().deduct(order).await.unwrap();
        }
        clock.advance(Duration::from_mins(1));
        let back = RefundRequest {
            request_id: "back".to_owned(),
            deduction_request_id: "r1".to_owned(),
            ..RefundRequest::default()
        };
        house.billing().refund(back).await.unwrap();
        let hold = trivet_proto::billing::v1::PlaceHoldRequest {
            request_id: "hold".to_owned(),
            user_id: "ada".to_owned(),
            amount: "3".to_owned(),
            ..Default::default()
        };
        house.billing().place_hold(hold).await.unwrap();

        let all = statement(house, None, None).await;
        let lines: Vec<_> =
            all.lines.iter().map(|line| (line.kind(), &*line.api_id, line.count, &*line.amount)).collect();
        assert_eq!((&*all.opening_balance, &*all.closing_balance, &*all.currency), ("0", "8.25", "USDC"));
        assert_eq!(
            lines,
            [
                (Kind::Deduction, "", 1, "-0.25"),
                (Kind::Deduction, "chat", 2, "-1.5"),
                (Kind::Deduction, "draw", 1, "-2"),
                (Kind::Payment, "", 1, "10"),
                (Kind::Refund, "", 1, "2"),
            ]
        );
        // The end is not part of it, the start is.
        let some = statement(house, minute(2), minute(4)).await;
        assert_eq!((&*some.opening_balance, &*some.closing_balance, some.lines.len()), ("9", "6.5", 2));
        let nothing = statement(house, minute(2), minute(2)).await;
        assert_eq!((&*nothing.opening_balance, &*nothing.closing_balance, nothing.lines.len()), ("9", "9", 0));
        let before = statement(house, None, Some(began)).await;
        assert_eq!((&*before.opening_balance, &*before.closing_balance), ("0", "0"));
        let after = statement(house, minute(60), None).await;
        assert_eq!((&*after.opening_balance, &*after.closing_balance), ("8.25", "8.25"));

        let nobody = GetStatementRequest { user_id: "cyd".to_owned(), ..GetStatementRequest::default() };
        assert_eq!(reason(&house.wallets().get_statement(nobody).await.unwrap_err()), "WALLET_NOT_FOUND");
        let odd = GetStatementRequest {
            user_id: String::new(),
            currency: "usd".to_owned(),
            start_time: minute(2).map(Time::to_wire),
            end_time: minute(1).map(Time::to_wire),
        };
        let refused = house.wallets().get_statement(odd).await.unwrap_err();
        assert_eq!(faulty(&refused), ["user_id", "currency", "end_time"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_neighbouring_stretches_fit_together_whatever_they_cut() {
    on_every_store_with_a_held_clock(async |house, clock| {
        let began = clock.now();
        house.user("ada", "100").await;
        // Several at one moment, and moments without any.
        for number in 0..60_u64 {
            if number % 7 != 0 {
                clock.advance(Duration::from_secs(number % 5));
            }
            house.billing().deduct(order(&format!("r{number}"), "ada", "0.5")).await.unwrap();
        }
        let mut closing = "0".to_owned();
        let mut from = None;
        for second in (0..150).step_by(11) {
            let until = Some(began.plus(Duration::from_secs(second)));
            let next = statement(house, from, until).await;
            assert_eq!(next.opening_balance, closing);
            closing = next.closing_balance;
            from = until;
        }
        assert_eq!(closing, "70");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_nobody_reads_hold_up_neither_money_nor_each_other_nor_the_end() {
    on_every_store(async |house| {
        house.user("ada", "100").await;
        let ask = WatchWalletRequest { user_id: "ada".to_owned(), currency: String::new() };
        // Over one connection, whose windows they share with what goes on below.
        let wallets = house.wallets();
        let mut unread = Vec::new();
        for _ in 0..50 {
            unread.push(wallets.clone().watch_wallet(ask.clone()).await.unwrap().into_inner());
        }
        for number in 0..200 {
            house.billing().deduct(order(&format!("r{number}"), "ada", "0.5")).await.unwrap();
        }
        let mut read = wallets.clone().watch_wallet(ask).await.unwrap().into_inner();
        assert_eq!(next(&mut read).await.0.balance, "0");
        assert_eq!(next(&mut unread[0]).await.0.balance, "100", "nothing was lost of what nobody took");
    })
    .await;
}
