//! What is owed and how it is paid: the loop between subscriptions, usage and wallets, over three services.

mod usage;

use std::time::Duration;

use mesh::Clock;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tonic::Status as Refused;
use trivet::RoleName;
use trivet_proto::{
    billing::v1::{
        Charge, ChargeSource, ChargeState, FreezeWalletRequest, GetChargeRequest, GetStatementRequest,
        GetWalletRequest, ListChargesRequest, RecordPaymentRequest, RefundRequest, TransactionKind,
        UnfreezeWalletRequest, VoidChargeRequest, WalletState,
    },
    product::v1::{
        CancelSubscriptionRequest, ChangePlanRequest, CreateSubscriptionRequest, GetSubscriptionRequest, Subscription,
        SubscriptionStatus as Status,
    },
};

use crate::{
    databases::{Databases, is_one_waiting, url},
    harness::{House, config, eventually, faulty, on_every_store_with_a_held_clock, payment, person, reason},
    plans::{plan, sell},
    tenants::of,
};

async fn pay(house: &House, request_id: &str, amount: &str) {
    let paid = RecordPaymentRequest { currency: "USD".to_owned(), ..payment(request_id, "ada", amount) };
    house.wallets().record_payment(paid).await.unwrap();
}

async fn on_sale(house: &House) {
    house.accounts().ensure_account(person("ada")).await.unwrap();
    sell(house, plan("basic", "10", "100")).await;
    sell(house, plan("pro", "30", "300")).await;
}

async fn subscribe(house: &House, request_id: &str, plan_id: &str) -> String {
    let wish = CreateSubscriptionRequest {
        request_id: request_id.to_owned(),
        user_id: "ada".to_owned(),
        plan_id: plan_id.to_owned(),
        billing_cycle: trivet_proto::product::v1::BillingCycle::Monthly.into(),
        ..CreateSubscriptionRequest::default()
    };
    let made = house.subscriptions().create_subscription(wish).await.unwrap().into_inner();
    made.subscription.unwrap().subscription_id
}

async fn subscription(house: &House, subscription_id: &str) -> Subscription {
    let ask = GetSubscriptionRequest { subscription_id: subscription_id.to_owned() };
    house.subscriptions().get_subscription(ask).await.unwrap().into_inner().subscription.unwrap()
}

async fn becomes(house: &House, subscription_id: &str, status: Status) {
    eventually(&format!("it becomes {status:?}"), async || {
        subscription(house, subscription_id).await.status() == status
    })
    .await;
}

/// Ada's charges, oldest first.
async fn charges(house: &House) -> Vec<Charge> {
    let ask = ListChargesRequest { user_id: "ada".to_owned(), ..ListChargesRequest::default() };
    let mut charges = house.charges().list_charges(ask).await.unwrap().into_inner().charges;
    charges.reverse();
    charges
}

/// Waits until ada's charges are so: what each is of, and how it stands.
async fn owes(house: &House, expected: &[(&str, ChargeState)]) {
    let mut seen = Vec::new();
    eventually(&format!("{expected:?}"), async || {
        let charges = charges(house).await;
        seen = charges.iter().map(|charge| (charge.amount.clone(), charge.state())).collect();
        seen.iter().map(|(amount, state)| (amount.as_str(), *state)).eq(expected.iter().copied())
    })
    .await;
}

async fn balance(house: &House) -> String {
    let ask = GetWalletRequest { user_id: "ada".to_owned(), currency: "USD".to_owned() };
    house.wallets().get_wallet(ask).await.unwrap().into_inner().wallet.unwrap().balance
}

async fn a_month_passes(house: &House, clock: &Clock) {
    clock.advance(Duration::from_hours(31 * 24));
    house.is_quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loop_closes_from_the_first_wish_to_the_last_payment() {
    use ChargeState::{Open, Paid, Void};
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        // A wish is owed, and becomes a subscription once it is paid.
        let basic = subscribe(house, "sub-1", "basic").await;
        owes(house, &[("10", Open)]).await;
        assert_eq!(subscription(house, &basic).await.status(), Status::Incomplete);
        pay(house, "pay-1", "9.99").await;
        house.is_quiet().await;
        assert_eq!(subscription(house, &basic).await.status(), Status::Incomplete);
        pay(house, "pay-2", "15.01").await;
        becomes(house, &basic, Status::Active).await;
        owes(house, &[("10", Paid)]).await;
        assert_eq!(balance(house).await, "15");
        // A renewal that is covered is paid by itself.
        a_month_passes(house, clock).await;
        owes(house, &[("10", Paid), ("10", Paid)]).await;
        assert_eq!((subscription(house, &basic).await.status(), &*balance(house).await), (Status::Active, "5"));
        // One that is not makes it past due, until it is.
        a_month_passes(house, clock).await;
        becomes(house, &basic, Status::PastDue).await;
        owes(house, &[("10", Paid), ("10", Paid), ("10", Open)]).await;
        pay(house, "pay-3", "5").await;
        becomes(house, &basic, Status::Active).await;
        assert_eq!(balance(house).await, "0");
        // What is open when it is canceled is not owed any more.
        a_month_passes(house, clock).await;
        becomes(house, &basic, Status::PastDue).await;
        let cancel = CancelSubscriptionRequest {
            subscription_id: basic.clone(),
            immediately: true,
            ..CancelSubscriptionRequest::default()
        };
        house.subscriptions().cancel_subscription(cancel).await.unwrap();
        owes(house, &[("10", Paid), ("10", Paid), ("10", Paid), ("10", Void)]).await;
        pay(house, "pay-4", "50").await;
        house.is_quiet().await;
        assert_eq!((subscription(house, &basic).await.status(), &*balance(house).await), (Status::Canceled, "50"));
        let voided = charges(house).await.pop().unwrap();
        assert_eq!((&*voided.void_reason, &voided.subscription_id), ("the subscription was canceled", &basic));
        let ask = GetStatementRequest { user_id: "ada".to_owned(), currency: "USD".to_owned(), ..Default::default() };
        let statement = house.wallets().get_statement(ask).await.unwrap().into_inner();
        let lines: Vec<_> = statement.lines.iter().map(|line| (line.kind(), line.count, &*line.amount)).collect();
        assert_eq!(lines, [(TransactionKind::Charge, 3, "-30"), (TransactionKind::Payment, 4, "80")]);
        assert_eq!((&*statement.lines[0].subscription_id, &*statement.closing_balance), (&*basic, "50"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_is_there_pays_at_once_and_a_better_plan_costs_its_part() {
    use ChargeState::Paid;
    on_every_store_with_a_held_clock(async |house, _| {
        on_sale(house).await;
        pay(house, "pay-1", "100").await;
        let basic = subscribe(house, "sub-1", "basic").await;
        becomes(house, &basic, Status::Active).await;
        let change = ChangePlanRequest {
            request_id: "change-1".to_owned(),
            subscription_id: basic.clone(),
            plan_id: "pro".to_owned(),
            ..ChangePlanRequest::default()
        };
        house.subscriptions().change_plan(change).await.unwrap();
        owes(house, &[("10", Paid), ("20", Paid)]).await;
        assert_eq!((subscription(house, &basic).await.status(), &*balance(house).await), (Status::Active, "70"));
        let paid = charges(house).await.pop().unwrap();
        assert_eq!((paid.source(), &*paid.plan_id), (ChargeSource::Subscription, "pro"));
        let ask = GetChargeRequest { charge_id: paid.charge_id.clone() };
        assert_eq!(house.charges().get_charge(ask.clone()).await.unwrap().into_inner().charge.unwrap(), paid);
        let elsewhere = house.charges().get_charge(of("other", ask)).await.unwrap_err();
        assert_eq!(reason(&elsewhere), "CHARGE_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn charges_are_paid_strictly_the_oldest_first() {
    use ChargeState::{Open, Paid};
    on_every_store_with_a_held_clock(async |house, _| {
        on_sale(house).await;
        let pro = subscribe(house, "sub-1", "pro").await;
        owes(house, &[("30", Open)]).await;
        let basic = subscribe(house, "sub-2", "basic").await;
        owes(house, &[("30", Open), ("10", Open)]).await;
        pay(house, "pay-1", "29.99").await;
        house.is_quiet().await;
        owes(house, &[("30", Open), ("10", Open)]).await;
        pay(house, "pay-2", "0.01").await;
        becomes(house, &pro, Status::Active).await;
        owes(house, &[("30", Paid), ("10", Open)]).await;
        assert_eq!(subscription(house, &basic).await.status(), Status::Incomplete);
        pay(house, "pay-3", "10").await;
        becomes(house, &basic, Status::Active).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_is_open_can_be_voided_and_one_that_is_paid_refunded() {
    use ChargeState::{Open, Paid, Void};
    on_every_store_with_a_held_clock(async |house, _| {
        on_sale(house).await;
        subscribe(house, "sub-1", "basic").await;
        owes(house, &[("10", Open)]).await;
        let open = charges(house).await.remove(0);
        let void =
            |charge: &Charge| VoidChargeRequest { charge_id: charge.charge_id.clone(), reason: "a mistake".to_owned() };
        let voided = house.charges().void_charge(void(&open)).await.unwrap().into_inner().charge.unwrap();
        assert_eq!((voided.state(), &*voided.void_reason), (Void, "a mistake"));
        assert_eq!(reason(&house.charges().void_charge(void(&open)).await.unwrap_err()), "ALREADY_VOIDED");
        pay(house, "pay-1", "50").await;
        let pro = subscribe(house, "sub-2", "pro").await;
        becomes(house, &pro, Status::Active).await;
        owes(house, &[("10", Void), ("30", Paid)]).await;
        let paid = charges(house).await.remove(1);
        assert_eq!(reason(&house.charges().void_charge(void(&paid)).await.unwrap_err()), "CHARGE_PAID");
        let back = |request_id: &str, amount: &str| RefundRequest {
            request_id: request_id.to_owned(),
            charge_id: paid.charge_id.clone(),
            amount: amount.to_owned(),
            ..RefundRequest::default()
        };
        let given = house.billing().refund(back("back-1", "12.50")).await.unwrap().into_inner().refund.unwrap();
        assert_eq!((&*given.charge_id, &*given.amount, &*given.balance_after), (&*paid.charge_id, "12.5", "32.5"));
        let refused = house.billing().refund(back("back-2", "17.51")).await.unwrap_err();
        assert_eq!(reason(&refused), "REFUND_EXCEEDS_DEDUCTION");
        let nobody = VoidChargeRequest { charge_id: "charge_1".to_owned(), reason: String::new() };
        assert_eq!(reason(&house.charges().void_charge(nobody).await.unwrap_err()), "CHARGE_NOT_FOUND");
        let odd = VoidChargeRequest { charge_id: "a b".to_owned(), reason: "x".repeat(501) };
        assert_eq!(faulty(&house.charges().void_charge(odd).await.unwrap_err()), ["charge_id", "reason"]);
        let odd = ListChargesRequest {
            user_id: "a b".to_owned(),
            subscription_id: "a b".to_owned(),
            state: 9,
            page_size: -1,
            ..ListChargesRequest::default()
        };
        let refused = house.charges().list_charges(odd).await.unwrap_err();
        assert_eq!(faulty(&refused), ["user_id", "subscription_id", "state", "page_size"]);
        let refused = house.charges().get_charge(GetChargeRequest::default()).await.unwrap_err();
        assert_eq!(faulty(&refused), ["charge_id"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_is_unfrozen_pays_what_it_owes() {
    use ChargeState::{Open, Paid};
    on_every_store_with_a_held_clock(async |house, _| {
        on_sale(house).await;
        pay(house, "pay-1", "10").await;
        let ask = FreezeWalletRequest { user_id: "ada".to_owned(), currency: "USD".to_owned() };
        house.wallets().freeze_wallet(ask).await.unwrap();
        let basic = subscribe(house, "sub-1", "basic").await;
        owes(house, &[("10", Open)]).await;
        house.is_quiet().await;
        let ask = UnfreezeWalletRequest { user_id: "ada".to_owned(), currency: "USD".to_owned() };
        let wallet = house.wallets().unfreeze_wallet(ask).await.unwrap().into_inner().wallet.unwrap();
        assert_eq!(wallet.balance, "0");
        owes(house, &[("10", Paid)]).await;
        becomes(house, &basic, Status::Active).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn charges_are_listed_by_whom_they_are_of_and_how_they_stand() {
    use ChargeState::{Open, Paid};
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        pay(house, "pay-1", "40").await;
        let basic = subscribe(house, "sub-1", "basic").await;
        becomes(house, &basic, Status::Active).await;
        let pro = subscribe(house, "sub-2", "pro").await;
        becomes(house, &pro, Status::Active).await;
        a_month_passes(house, clock).await;
        becomes(house, &basic, Status::PastDue).await;
        becomes(house, &pro, Status::PastDue).await;
        let listed = async |mut ask: ListChargesRequest| {
            (ask.page_size, ask.with_total) = (1, true);
            let mut amounts = Vec::new();
            loop {
                let page = house.charges().list_charges(ask.clone()).await.unwrap().into_inner();
                amounts.extend(page.charges.into_iter().map(|charge| (charge.amount.clone(), charge.state())));
                ask.page_token = page.next_page_token;
                if ask.page_token.is_empty() {
                    assert_eq!(page.total_size, Some(i64::try_from(amounts.len()).unwrap()));
                    return amounts;
                }
            }
        };
        let open = ListChargesRequest { state: Open.into(), ..ListChargesRequest::default() };
        assert_eq!(listed(open).await.len(), 2);
        let of_basic = ListChargesRequest { subscription_id: basic, ..ListChargesRequest::default() };
        assert_eq!(listed(of_basic).await, [("10".to_owned(), Open), ("10".to_owned(), Paid)]);
        assert!(listed(ListChargesRequest { user_id: "bob".to_owned(), ..Default::default() }).await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_comes_after_the_wish_has_expired_is_given_back() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let basic = subscribe(house, "sub-1", "basic").await;
        owes(house, &[("10", ChargeState::Open)]).await;
        // Product ends it, and has not heard of the payment that comes in between.
        clock.advance(Duration::from_hours(25));
        pay(house, "pay-1", "10").await;
        house.is_quiet().await;
        let status = subscription(house, &basic).await.status();
        eventually("what was paid for nothing is there again", async || {
            let expected = if status == Status::Active { "0" } else { "10" };
            balance(house).await == expected
        })
        .await;
    })
    .await;
}

/// Voids a charge of a user while somebody has his wallet, who then does something; the answer.
async fn voided_meanwhile(
    house: &House,
    (somebody, watcher): (&mut PgConnection, &mut PgConnection),
    user_id: &str,
    (takes_the_wallet, does): (&'static str, &'static str),
) -> Result<Charge, Refused> {
    let charge_id = format!("chg-{user_id}");
    let owed = "insert into billing.charges (tenant_id, charge_id, user_id, currency, amount, credited_amount, source,
                    event_id, ordinal, subscription_id, organization_id, product_id, plan_id, reversed_id, state, tried,
                    create_time, void_reason, transaction_id)
                values ('default', $1, $2, 'USDC', 7, 0, 'USAGE', $1, 1, '', '', '', '', '', 'OPEN', 1, 1, '', '')";
    sqlx::query(owed).bind(&charge_id).bind(user_id).execute(&mut *somebody).await.unwrap();
    somebody.execute("begin").await.unwrap();
    somebody.execute(takes_the_wallet).await.unwrap();
    let ask = VoidChargeRequest { charge_id, reason: "a mistake".to_owned() };
    let mut charges = house.charges();
    let voiding = tokio::spawn(async move { charges.void_charge(ask).await });
    while !is_one_waiting(watcher).await {
        assert!(!voiding.is_finished(), "it waits for the wallet of {user_id}");
    }
    somebody.execute(does).await.unwrap();
    somebody.execute("commit").await.unwrap();
    Ok(voiding.await.unwrap()?.into_inner().charge.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_a_charge_or_its_wallet_while_it_is_voided_is_not_undone() {
    let Some(databases) = Databases::furnished().await else { return };
    let Databases::Postgres { server, name } = &databases else { unreachable!() };
    let house = House::start(config(&databases, &[]), &RoleName::ALL).await;
    let mut somebody = PgConnection::connect(&url(server, name)).await.unwrap();
    let mut watcher = PgConnection::connect(&url(server, name)).await.unwrap();
    house.user("ada", "5").await;
    let pays = (
        "select 1 from billing.wallets where user_id = 'ada' for update",
        "update billing.charges set state = 'PAID', end_time = 2, transaction_id = 'txn_1' where user_id = 'ada'",
    );
    assert_eq!(
        reason(&voided_meanwhile(&house, (&mut somebody, &mut watcher), "ada", pays).await.unwrap_err()),
        "CHARGE_PAID"
    );
    let makes_a_wallet_and_pays = (
        "insert into billing.wallets (tenant_id, user_id, currency, balance, held, version, state, create_time, update_time)
            values ('default', 'bob', 'USDC', 0, 0, 0, 'ACTIVE', 0, 0)",
        "update billing.charges set state = 'PAID', end_time = 2, transaction_id = 'txn_1' where user_id = 'bob'",
    );
    let refused =
        voided_meanwhile(&house, (&mut somebody, &mut watcher), "bob", makes_a_wallet_and_pays).await.unwrap_err();
    assert_eq!(reason(&refused), "CHARGE_PAID");
    house.user("cyd", "5").await;
    let freezes = (
        "select 1 from billing.wallets where user_id = 'cyd' for update",
        "update billing.wallets set state = 'FROZEN' where user_id = 'cyd'",
    );
    let voided = voided_meanwhile(&house, (&mut somebody, &mut watcher), "cyd", freezes).await.unwrap();
    assert_eq!(voided.state(), ChargeState::Void);
    let ask = GetWalletRequest { user_id: "cyd".to_owned(), currency: String::new() };
    let wallet = house.wallets().get_wallet(ask).await.unwrap().into_inner().wallet.unwrap();
    assert_eq!(wallet.state(), WalletState::Frozen);
    // No transaction paid those two, which the ledger would not agree with.
    somebody.execute("delete from billing.charges where state = 'PAID'").await.unwrap();
    house.end().await;
    databases.done().await;
}
