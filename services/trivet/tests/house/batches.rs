//! Many deductions with one call, and lists of them.

use futures_util::{StreamExt as _, stream};
use trivet_proto::billing::v1::{
    BatchDeductRequest, DeductRequest, DeductionOrder, DeductionResult, GetWalletRequest, ListDeductionsRequest,
    RecordPaymentRequest, StreamDeductRequest, StreamDeductResponse, VoidRequestRequest,
};

use crate::{
    harness::{House, faulty, on_every_store, on_every_store_with_a_held_clock, order, payment, person, reason, told},
    tenants::of,
};

fn one(request_id: &str, user_id: &str, amount: &str) -> DeductionOrder {
    DeductionOrder {
        request_id: request_id.to_owned(),
        user_id: user_id.to_owned(),
        amount: amount.to_owned(),
        ..DeductionOrder::default()
    }
}

fn batch(deductions: Vec<DeductionOrder>) -> BatchDeductRequest {
    BatchDeductRequest { deductions, ..BatchDeductRequest::default() }
}

fn atomic(deductions: Vec<DeductionOrder>) -> BatchDeductRequest {
    BatchDeductRequest { atomic: true, ..batch(deductions) }
}

async fn results(house: &House, batch: BatchDeductRequest) -> Vec<String> {
    let results = house.billing().batch_deduct(batch).await.unwrap().into_inner().results;
    results.iter().map(shortly).collect()
}

/// What became of an order: what it left, or why it was refused.
fn shortly(result: &DeductionResult) -> String {
    match (&result.deduction, &result.error) {
        (Some(deduction), None) => {
            format!("{}{}", if result.already_processed { "again " } else { "" }, deduction.balance_after)
        }
        (None, Some(error)) => error.reason.clone(),
        odd => panic!("{odd:?}"),
    }
}

async fn balance(house: &House, user_id: &str) -> String {
    let ask = GetWalletRequest { user_id: user_id.to_owned(), currency: String::new() };
    house.wallets().get_wallet(ask).await.unwrap().into_inner().wallet.unwrap().balance
}

#[tokio::test(flavor = "multi_thread")]
async fn the_orders_of_a_batch_stand_each_for_itself_and_in_their_order() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        house.user("bob", "1").await;
        house.billing().deduct(order("before", "ada", "1")).await.unwrap();
        let orders = vec![
            one("a", "ada", "1"),
            one("b", "bob", "2"),
            one("a", "ada", "1.0"),
            one("a", "ada", "2"),
            one("c", "cyd", "1"),
            one("d", "ada", "1e3"),
            one("before", "ada", "1"),
            one("e", "bob", "1"),
        ];
        let told = results(house, batch(orders.clone())).await;
        let reused = "REQUEST_ID_REUSED";
        assert_eq!(
            told,
            ["8", "INSUFFICIENT_FUNDS", "again 8", reused, "WALLET_NOT_FOUND", "INVALID_FIELDS", "again 9", "0"]
        );
        let told = results(house, batch(orders)).await;
        assert_eq!(
            told,
            [
                "again 8",
                "INSUFFICIENT_FUNDS",
                "again 8",
                reused,
                "WALLET_NOT_FOUND",
                "INVALID_FIELDS",
                "again 9",
                "again 0"
            ]
        );
        let results =
            house.billing().batch_deduct(batch(vec![one("f", "bob", "9")])).await.unwrap().into_inner().results;
        let error = results[0].error.as_ref().unwrap();
        assert_eq!((error.code, error.metadata["available"].as_str()), (9, "0"));
        assert_eq!((balance(house, "ada").await, balance(house, "bob").await), ("8".to_owned(), "0".to_owned()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_atomic_batch_does_not_take_again_what_was_taken_before() {
    on_every_store(async |house| {
        house.user("ada", "14").await;
        house.billing().deduct(order("a", "ada", "6")).await.unwrap();
        // Taken twice, the first would leave too little for the second.
        assert_eq!(results(house, atomic(vec![one("a", "ada", "6"), one("b", "ada", "4")])).await, ["again 8", "4"]);
        let voiding = VoidRequestRequest { request_id: "c".to_owned(), ..VoidRequestRequest::default() };
        house.billing().void_request(voiding).await.unwrap();
        let refused = house.billing().batch_deduct(atomic(vec![one("c", "ada", "1"), one("d", "ada", "9")])).await;
        let refused = refused.unwrap_err();
        assert_eq!((&*reason(&refused), &*told(&refused, "index")), ("REQUEST_VOIDED", "0"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_atomic_batch_is_carried_out_whole_or_not_at_all() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        house.user("bob", "1").await;
        let orders = vec![one("a", "ada", "4"), one("b", "bob", "1"), one("c", "ada", "7"), one("d", "ada", "1")];
        for _ in 0..2 {
            let refused = house.billing().batch_deduct(atomic(orders.clone())).await.unwrap_err();
            let said = ["index", "available"].map(|key| told(&refused, key));
            assert_eq!((&*reason(&refused), said), ("INSUFFICIENT_FUNDS", ["2".to_owned(), "6".to_owned()]));
            assert_eq!((balance(house, "ada").await, balance(house, "bob").await), ("10".to_owned(), "1".to_owned()));
        }
        // What stopped it has its answer; the others are free, and what is carried out is so with its own repeats.
        assert_eq!(reason(&house.billing().deduct(order("c", "ada", "7")).await.unwrap_err()), "INSUFFICIENT_FUNDS");
        let orders = vec![one("a", "ada", "4"), one("b", "bob", "1"), one("d", "ada", "1"), one("a", "ada", "4")];
        assert_eq!(results(house, atomic(orders.clone())).await, ["6", "0", "5", "again 6"]);
        assert_eq!(results(house, atomic(orders)).await, ["again 6", "again 0", "again 5", "again 6"]);
        let odd = atomic(vec![one("e", "ada", "1"), one("f g", "ada", "x"), one("h", "", "1")]);
        let refused = house.billing().batch_deduct(odd).await.unwrap_err();
        assert_eq!(faulty(&refused), ["deductions[1].request_id", "deductions[1].amount", "deductions[2].user_id"]);
        assert_eq!(balance(house, "ada").await, "5");
        house.billing().deduct(order("e", "ada", "1")).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsed_batch_says_what_would_become_of_it_and_keeps_nothing() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let orders = vec![one("a", "ada", "4"), one("b", "ada", "7"), one("c", "ada", "x"), one("d", "ada", "6")];
        for atomic in [false, true] {
            let asked = BatchDeductRequest { deductions: orders.clone(), atomic, validate_only: true };
            if atomic {
                assert_eq!(faulty(&house.billing().batch_deduct(asked).await.unwrap_err()), ["deductions[2].amount"]);
            } else {
                assert_eq!(results(house, asked).await, ["6", "INSUFFICIENT_FUNDS", "INVALID_FIELDS", "0"]);
            }
        }
        let asked = BatchDeductRequest { validate_only: true, ..atomic(vec![orders[0].clone(), orders[1].clone()]) };
        assert_eq!(told(&house.billing().batch_deduct(asked).await.unwrap_err(), "index"), "1");
        assert_eq!(balance(house, "ada").await, "10");
        assert_eq!(results(house, batch(vec![one("b", "ada", "7")])).await, ["3"], "the ids are free");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_between_one_and_a_thousand_orders() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        for count in [0, 1_001] {
            let orders = (0..count).map(|number| one(&format!("r{number}"), "ada", "0.001")).collect();
            assert_eq!(faulty(&house.billing().batch_deduct(batch(orders)).await.unwrap_err()), ["deductions"]);
        }
        for asked in [batch, atomic] {
            let ids = if asked(Vec::new()).atomic { "all" } else { "each" };
            let orders = (0..1_000).map(|number| one(&format!("{ids}-{number}"), "ada", "0.001")).collect();
            assert_eq!(house.billing().batch_deduct(asked(orders)).await.unwrap().into_inner().results.len(), 1_000);
        }
        assert_eq!(balance(house, "ada").await, "8");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_of_a_stream_has_an_answer_that_its_id_finds() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        house.user("bob", "10").await;
        let mut orders: Vec<DeductionOrder> = (0..3_000)
            .map(|number| one(&format!("r{number}"), if number % 2 == 0 { "ada" } else { "bob" }, "0.001"))
            .collect();
        orders.push(one("r0", "ada", "0.001"));
        orders.push(one("no spaces", "ada", "1"));
        orders.push(one("too-much", "ada", "100"));
        let orders = stream::iter(orders).map(|order| StreamDeductRequest { deduction: Some(order) });
        let answers = house.billing().stream_deduct(orders).await.unwrap().into_inner();
        let answers: Vec<StreamDeductResponse> = answers.map(Result::unwrap).collect().await;
        assert_eq!(answers.len(), 3_003);
        let refused = |id: &str| {
            answers.iter().find(|answer| answer.request_id == id).unwrap().error.as_ref().unwrap().reason.clone()
        };
        assert_eq!((&*refused("no spaces"), &*refused("too-much")), ("INVALID_FIELDS", "INSUFFICIENT_FUNDS"));
        assert_eq!(answers.iter().filter(|answer| answer.already_processed).count(), 1);
        let mut versions: Vec<i64> = answers
            .iter()
            .filter(|answer| !answer.already_processed)
            .filter_map(|answer| answer.deduction.as_ref())
            .inspect(|deduction| assert_eq!(deduction.amount, "0.001"))
            .map(|deduction| deduction.wallet_version)
            .collect();
        versions.sort_unstable();
        let expected: Vec<i64> = (2..=1_501).flat_map(|version| [version, version]).collect();
        assert_eq!(versions, expected);
        assert_eq!((balance(house, "ada").await, balance(house, "bob").await), ("8.5".to_owned(), "8.5".to_owned()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_orders_of_a_stream_keep_their_order_in_the_wallet() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let orders = (0..500).map(|number| one(&format!("r{number}"), "ada", "0.001"));
        let orders = stream::iter(orders).map(|order| StreamDeductRequest { deduction: Some(order) });
        let answers = house.billing().stream_deduct(orders).await.unwrap().into_inner();
        let mut answers: Vec<_> = answers.map(|answer| answer.unwrap().deduction.unwrap()).collect().await;
        answers.sort_by_key(|deduction| deduction.wallet_version);
        let ids: Vec<String> = answers.into_iter().map(|deduction| deduction.request_id).collect();
        assert_eq!(ids, (0..500).map(|number| format!("r{number}")).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voided_id_stops_an_atomic_batch_and_fails_alone_in_another() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let void = VoidRequestRequest { request_id: "b".to_owned(), reason: String::new() };
        house.billing().void_request(void).await.unwrap();
        let orders = vec![one("a", "ada", "1"), one("b", "ada", "1"), one("c", "ada", "1")];
        let refused = house.billing().batch_deduct(atomic(orders.clone())).await.unwrap_err();
        assert_eq!((&*reason(&refused), &*told(&refused, "index")), ("REQUEST_VOIDED", "1"));
        assert_eq!(results(house, batch(orders)).await, ["9", "REQUEST_VOIDED", "8"]);
    })
    .await;
}

/// The request ids of a list, page by page.
async fn listed(house: &House, mut ask: ListDeductionsRequest) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let page = house.billing().list_deductions(ask.clone()).await.unwrap().into_inner();
        assert!(page.deductions.len() <= 2);
        let total = page.total_size.unwrap();
        ids.extend(page.deductions.into_iter().map(|deduction| deduction.request_id));
        let known = i64::try_from(ids.len()).unwrap();
        assert!(known <= total, "{ids:?}");
        ask.page_token = page.next_page_token;
        if ask.page_token.is_empty() {
            assert_eq!(total, known);
            return ids;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deductions_are_listed_newest_first_by_what_is_asked_for() {
    on_every_store_with_a_held_clock(async |house, clock| {
        house.user("ada", "10").await;
        house.user("bob", "10").await;
        let began = clock.now();
        for (number, (user, api, key)) in [
            ("ada", "chat", "k1"),
            ("bob", "chat", "k1"),
            ("ada", "draw", "k2"),
            ("ada", "", ""),
            ("ada", "chat", "k2"),
        ]
        .into_iter()
        .enumerate()
        {
            clock.advance(std::time::Duration::from_mins(1));
            let mut order = order(&format!("r{number}"), user, "1");
            (order.api_id, order.api_key_id) = (api.to_owned(), key.to_owned());
            house.billing().deduct(order).await.unwrap();
        }
        let ask = ListDeductionsRequest { page_size: 2, with_total: true, ..ListDeductionsRequest::default() };
        let minutes = |minutes| Some(began.plus(std::time::Duration::from_mins(minutes)).to_wire());
        let cases: [(ListDeductionsRequest, &[&str]); 6] = [
            (ask.clone(), &["r4", "r3", "r2", "r1", "r0"]),
            (ListDeductionsRequest { user_id: "ada".to_owned(), ..ask.clone() }, &["r4", "r3", "r2", "r0"]),
            (ListDeductionsRequest { api_id: "chat".to_owned(), ..ask.clone() }, &["r4", "r1", "r0"]),
            (ListDeductionsRequest { api_key_id: "k2".to_owned(), ..ask.clone() }, &["r4", "r2"]),
            (ListDeductionsRequest { user_id: "bob".to_owned(), api_id: "draw".to_owned(), ..ask.clone() }, &[]),
            (ListDeductionsRequest { start_time: minutes(2), end_time: minutes(4), ..ask.clone() }, &["r2", "r1"]),
        ];
        for (ask, expected) in cases {
            assert_eq!(listed(house, ask).await, expected);
        }
        let token = house.billing().list_deductions(ask.clone()).await.unwrap().into_inner().next_page_token;
        let other = ListDeductionsRequest { user_id: "ada".to_owned(), page_token: token.clone(), ..ask.clone() };
        let refused = house.billing().list_deductions(other).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_PAGE_TOKEN");
        let elsewhere = house.billing().list_deductions(of("other", ask.clone())).await.unwrap().into_inner();
        assert_eq!((elsewhere.deductions.len(), elsewhere.total_size), (0, Some(0)));
        let odd = ListDeductionsRequest {
            user_id: "a b".to_owned(),
            api_id: "a b".to_owned(),
            api_key_id: "a b".to_owned(),
            start_time: minutes(2),
            end_time: minutes(1),
            page_size: -1,
            ..ask
        };
        let refused = house.billing().list_deductions(odd).await.unwrap_err();
        assert_eq!(faulty(&refused), ["user_id", "api_id", "api_key_id", "end_time", "page_size"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deductions_of_all_wallets_of_a_user_are_listed_newest_first_and_once_while_more_are_made() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        for currency in ["USD", "EUR", "USDC"] {
            let paid = payment(&format!("pay-{currency}"), "ada", "100");
            let paid = RecordPaymentRequest { currency: currency.to_owned(), ..paid };
            house.wallets().record_payment(paid).await.unwrap();
        }
        let deduct = async |id: String, currency: &str| {
            let order = DeductRequest { currency: currency.to_owned(), ..order(&id, "ada", "1") };
            house.billing().deduct(order).await.unwrap();
        };
        let mut made = Vec::new();
        for (number, currency) in "USD USDC USDC EUR USD USD USD USDC EUR USD USDC USDC USDC".split(' ').enumerate() {
            deduct(format!("d{number}"), currency).await;
            made.insert(0, format!("d{number}"));
        }
        let mut ask =
            ListDeductionsRequest { user_id: "ada".to_owned(), page_size: 3, ..ListDeductionsRequest::default() };
        let mut listed = Vec::new();
        loop {
            let page = house.billing().list_deductions(ask.clone()).await.unwrap().into_inner();
            listed.extend(page.deductions.into_iter().map(|deduction| deduction.request_id));
            assert!(listed.len() <= made.len(), "{listed:?}");
            // In a wallet that is among what was listed, and in one that is new.
            deduct(format!("later-{}", listed.len()), "USD").await;
            let paid = payment(&format!("pay-{}", listed.len()), "ada", "1");
            house.wallets().record_payment(RecordPaymentRequest { currency: "CHF".to_owned(), ..paid }).await.unwrap();
            deduct(format!("new-{}", listed.len()), "CHF").await;
            ask.page_token = page.next_page_token;
            if ask.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, made);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deductions_behind_ten_thousand_others_are_listed_in_their_order_on_a_page_of_their_own() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let paid = RecordPaymentRequest { currency: "EUR".to_owned(), ..payment("pay-eur", "ada", "10") };
        house.wallets().record_payment(paid).await.unwrap();
        let chat = async |id: &str, currency: &str| {
            let (currency, api_id) = (currency.to_owned(), "chat".to_owned());
            house.billing().deduct(DeductRequest { currency, api_id, ..order(id, "ada", "1") }).await.unwrap();
        };
        chat("euro", "EUR").await;
        // The wallet's versions 2 to 4, of which a page begins or ends with the last two.
        for id in ["old", "below", "border"] {
            chat(id, "USDC").await;
        }
        for thousand in 0..10 {
            let orders = 0..1_000.min(9_998 - thousand * 1_000);
            let orders = orders.map(|number| one(&format!("{thousand}-{number}"), "ada", "0.0001")).collect();
            let answer = house.billing().batch_deduct(batch(orders)).await.unwrap().into_inner();
            assert!(answer.results.iter().all(|result| result.error.is_none()));
        }
        chat("new", "USDC").await;
        let (user_id, api_id) = ("ada".to_owned(), "chat".to_owned());
        let mut ask = ListDeductionsRequest { user_id, api_id, with_total: true, ..ListDeductionsRequest::default() };
        let mut pages = Vec::new();
        loop {
            let page = house.billing().list_deductions(ask.clone()).await.unwrap().into_inner();
            assert_eq!(page.total_size, Some(5));
            pages.push(page.deductions.into_iter().map(|deduction| deduction.request_id).collect::<Vec<_>>());
            ask.page_token = page.next_page_token;
            if ask.page_token.is_empty() {
                break;
            }
        }
        // One that is newer than those of another wallet may stand behind what was looked at.
        assert_eq!(pages, [vec!["new", "border"], vec!["below", "old", "euro"]]);
    })
    .await;
}
