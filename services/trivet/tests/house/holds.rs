//! Holds, as their callers see them.

use std::time::Duration;

use prost_types::Timestamp;
use trivet_proto::billing::v1::{
    CaptureHoldRequest, FreezeWalletRequest, GetHoldRequest, GetWalletRequest, Hold, HoldState, ListHoldsRequest,
    PlaceHoldRequest, RefundRequest, ReleaseHoldRequest, TransactionKind as Kind, Wallet, WalletTransaction,
};

use crate::{
    harness::{House, eventually, faulty, on_every_store, on_every_store_with_a_held_clock, order, reason, told},
    payments::transactions,
    tenants::of,
};

fn place(request_id: &str, amount: &str) -> PlaceHoldRequest {
    PlaceHoldRequest {
        request_id: request_id.to_owned(),
        user_id: "ada".to_owned(),
        amount: amount.to_owned(),
        ..PlaceHoldRequest::default()
    }
}

fn capture(request_id: &str, hold: &Hold, amount: &str) -> CaptureHoldRequest {
    let (request_id, hold_id, amount) = (request_id.to_owned(), hold.hold_id.clone(), amount.to_owned());
    CaptureHoldRequest { request_id, hold_id, amount, validate_only: false }
}

fn release(request_id: &str, hold: &Hold) -> ReleaseHoldRequest {
    ReleaseHoldRequest { request_id: request_id.to_owned(), hold_id: hold.hold_id.clone(), validate_only: false }
}

async fn placed(house: &House, request_id: &str, amount: &str) -> Hold {
    house.billing().place_hold(place(request_id, amount)).await.unwrap().into_inner().hold.unwrap()
}

async fn found(house: &House, hold: &Hold) -> Hold {
    let ask = GetHoldRequest { hold_id: hold.hold_id.clone() };
    house.billing().get_hold(ask).await.unwrap().into_inner().hold.unwrap()
}

async fn wallet(house: &House) -> Wallet {
    let ask = GetWalletRequest { user_id: "ada".to_owned(), currency: String::new() };
    house.wallets().get_wallet(ask).await.unwrap().into_inner().wallet.unwrap()
}

/// Balance, what is held of it, what is available, and how many changes there were.
async fn check(house: &House, expected: (&str, &str, &str, i64)) {
    let wallet = wallet(house).await;
    assert_eq!((&*wallet.balance, &*wallet.held, &*wallet.available, wallet.sequence), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn held_money_stays_in_the_balance_and_cannot_be_spent() {
    on_every_store_with_a_held_clock(async |house, clock| {
        house.user("ada", "10").await;
        let first = house.billing().place_hold(place("hold-1", "6")).await.unwrap().into_inner();
        let hold = first.hold.clone().unwrap();
        assert!(hold.hold_id.starts_with("hold_") && !first.already_processed);
        assert_eq!((hold.state(), &*hold.amount, &*hold.captured_amount), (HoldState::Open, "6", "0"));
        assert_eq!((&*first.balance_after, first.wallet_version), ("10", 2));
        let in_a_week = clock.now().plus(Duration::from_hours(7 * 24)).to_wire();
        assert_eq!((hold.create_time, hold.expire_time), (Some(clock.now().to_wire()), Some(in_a_week)));
        check(house, ("10", "6", "4", 2)).await;
        let refused = house.billing().deduct(order("req-1", "ada", "5")).await.unwrap_err();
        assert_eq!((&*reason(&refused), &*told(&refused, "available")), ("INSUFFICIENT_FUNDS", "4"));
        let refused = house.billing().place_hold(place("hold-2", "5")).await.unwrap_err();
        assert_eq!(reason(&refused), "INSUFFICIENT_FUNDS");
        clock.advance(Duration::from_secs(9));
        let again = house.billing().place_hold(place("hold-1", "6.0")).await.unwrap().into_inner();
        assert!(again.already_processed, "by default it is the same time in each repeat");
        assert_eq!((again.hold.unwrap(), again.transaction_id), (hold.clone(), first.transaction_id));
        assert_eq!(found(house, &hold).await, hold);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_capture_takes_the_part_and_frees_the_rest() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let hold = placed(house, "hold-1", "6").await;
        let refused = house.billing().capture_hold(capture("cap-0", &hold, "7")).await.unwrap_err();
        assert_eq!((&*reason(&refused), &*told(&refused, "held")), ("CAPTURE_EXCEEDS_HOLD", "6"));
        let captured = house.billing().capture_hold(capture("cap-1", &hold, "2")).await.unwrap().into_inner();
        let ended = captured.hold.clone().unwrap();
        assert_eq!((ended.state(), &*ended.captured_amount), (HoldState::Captured, "2"));
        assert_eq!((&*captured.balance_after, captured.wallet_version), ("8", 3));
        check(house, ("8", "0", "8", 3)).await;
        let again = house.billing().capture_hold(capture("cap-1", &hold, "2.00")).await.unwrap().into_inner();
        assert!(again.already_processed);
        assert_eq!(again.hold.unwrap(), ended);
        for (late, name) in [
            (house.billing().capture_hold(capture("cap-2", &hold, "1")).await.unwrap_err(), "CAPTURED"),
            (house.billing().release_hold(release("rel-1", &hold)).await.unwrap_err(), "CAPTURED"),
        ] {
            assert_eq!((&*reason(&late), &*told(&late, "state")), ("HOLD_NOT_OPEN", name));
        }
        // All of it, where no amount is given; and what was captured can be given back.
        let hold = placed(house, "hold-2", "8").await;
        let all = house.billing().capture_hold(capture("cap-3", &hold, "")).await.unwrap().into_inner().hold.unwrap();
        assert_eq!(all.captured_amount, "8");
        let back = RefundRequest {
            request_id: "back-1".to_owned(),
            deduction_request_id: "cap-3".to_owned(),
            amount: "3".to_owned(),
            ..RefundRequest::default()
        };
        house.billing().refund(back).await.unwrap();
        check(house, ("3", "0", "3", 6)).await;
        let kinds: Vec<_> = transactions(house, "ada").await.iter().map(WalletTransaction::kind).collect();
        let [hold, capture] = [Kind::Hold, Kind::Capture];
        assert_eq!(kinds, [Kind::Refund, capture, hold, capture, hold, Kind::Payment]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_released_is_available_again_and_moves_no_balance() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let hold = placed(house, "hold-1", "6").await;
        let released = house.billing().release_hold(release("rel-1", &hold)).await.unwrap().into_inner();
        assert_eq!((released.hold.unwrap().state(), &*released.balance_after), (HoldState::Released, "10"));
        check(house, ("10", "0", "10", 3)).await;
        assert!(house.billing().release_hold(release("rel-1", &hold)).await.unwrap().into_inner().already_processed);
        let changes = transactions(house, "ada").await;
        let told: Vec<_> = changes
            .iter()
            .map(|change| (change.kind(), &*change.amount, &*change.balance_after, &*change.available_after))
            .collect();
        let [release, placed, paid] = [Kind::Release, Kind::Hold, Kind::Payment];
        assert_eq!(told, [(release, "0", "10", "10"), (placed, "0", "10", "4"), (paid, "10", "10", "10")]);
        assert_eq!((&changes[0].related_id, &changes[1].related_id), (&hold.hold_id, &hold.hold_id));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_nobody_wants_expires_by_itself_once() {
    on_every_store_with_a_held_clock(async |house, clock| {
        house.user("ada", "10").await;
        let soon = clock.now().plus(Duration::from_mins(1)).to_wire();
        let asked = PlaceHoldRequest { expire_time: Some(soon), ..place("hold-1", "6") };
        let hold = house.billing().place_hold(asked).await.unwrap().into_inner().hold.unwrap();
        let later = placed(house, "hold-2", "1").await;
        clock.advance(Duration::from_secs(59));
        check(house, ("10", "7", "3", 3)).await;
        clock.advance(Duration::from_secs(1));
        eventually("it expires", async || found(house, &hold).await.state() == HoldState::Expired).await;
        check(house, ("10", "1", "9", 4)).await;
        let late = house.billing().capture_hold(capture("cap-1", &hold, "")).await.unwrap_err();
        assert_eq!((&*reason(&late), &*told(&late, "state")), ("HOLD_NOT_OPEN", "EXPIRED"));
        let expired = transactions(house, "ada").await.remove(0);
        assert_eq!((expired.kind(), &*expired.request_id), (Kind::Release, ""));
        assert_eq!(found(house, &later).await.state(), HoldState::Open);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_that_comes_after_its_time_gets_its_answer() {
    on_every_store_with_a_held_clock(async |house, clock| {
        house.user("ada", "10").await;
        let soon = clock.now().plus(Duration::from_mins(1)).to_wire();
        let asked = PlaceHoldRequest { expire_time: Some(soon), ..place("hold-1", "6") };
        let first = house.billing().place_hold(asked.clone()).await.unwrap().into_inner();
        clock.advance(Duration::from_mins(2));
        let again = house.billing().place_hold(asked.clone()).await.unwrap().into_inner();
        assert!(again.already_processed);
        assert_eq!((again.hold, again.transaction_id), (first.hold, first.transaction_id));
        let other = PlaceHoldRequest { amount: "7".to_owned(), ..asked.clone() };
        let reused = house.billing().place_hold(other).await.unwrap_err();
        assert_eq!((&*reason(&reused), &*told(&reused, "differs")), ("REQUEST_ID_REUSED", "amount"));
        let new = PlaceHoldRequest { request_id: "hold-2".to_owned(), ..asked };
        assert_eq!(faulty(&house.billing().place_hold(new.clone()).await.unwrap_err()), ["expire_time"]);
        let worse = PlaceHoldRequest { amount: "x".to_owned(), request_id: "hold-1".to_owned(), ..new };
        assert_eq!(faulty(&house.billing().place_hold(worse).await.unwrap_err()), ["amount", "expire_time"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_and_an_expiry_at_once_end_in_one_of_the_two() {
    on_every_store_with_a_held_clock(async |house, clock| {
        house.user("ada", "100").await;
        let soon = clock.now().plus(Duration::from_mins(1)).to_wire();
        let mut holds = Vec::new();
        for number in 0..20 {
            let asked = PlaceHoldRequest { expire_time: Some(soon), ..place(&format!("hold-{number}"), "1") };
            holds.push(house.billing().place_hold(asked).await.unwrap().into_inner().hold.unwrap());
        }
        clock.advance(Duration::from_mins(1));
        let captures = holds.iter().enumerate().map(async |(number, hold)| {
            house.billing().capture_hold(capture(&format!("cap-{number}"), hold, "")).await
        });
        let mut won = 0;
        for outcome in futures_util::future::join_all(captures).await {
            match outcome {
                Ok(_) => won += 1,
                Err(status) => assert_eq!(reason(&status), "HOLD_NOT_OPEN"),
            }
        }
        let open = ListHoldsRequest { state: HoldState::Open.into(), ..ListHoldsRequest::default() };
        eventually("all end", async || {
            house.billing().list_holds(open.clone()).await.unwrap().into_inner().holds.is_empty()
        })
        .await;
        let left = (100 - won).to_string();
        check(house, (&left, "0", &left, 41)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_wallet_gives_nothing_that_was_held_either_and_frees_it() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let hold = placed(house, "hold-1", "6").await;
        let ask = FreezeWalletRequest { user_id: "ada".to_owned(), currency: String::new() };
        house.wallets().freeze_wallet(ask).await.unwrap();
        assert_eq!(reason(&house.billing().place_hold(place("hold-2", "1")).await.unwrap_err()), "WALLET_FROZEN");
        let refused = house.billing().capture_hold(capture("cap-1", &hold, "")).await.unwrap_err();
        assert_eq!(reason(&refused), "WALLET_FROZEN");
        house.billing().release_hold(release("rel-1", &hold)).await.unwrap();
        check(house, ("10", "0", "10", 3)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_are_listed_newest_first_and_by_how_they_stand() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let mut holds = Vec::new();
        for number in 0..5 {
            holds.push(placed(house, &format!("hold-{number}"), "1").await);
        }
        house.billing().release_hold(release("rel-1", &holds[2])).await.unwrap();
        let mut ask = ListHoldsRequest {
            user_id: "ada".to_owned(),
            state: HoldState::Open.into(),
            page_size: 2,
            with_total: true,
            ..ListHoldsRequest::default()
        };
        let mut ids = Vec::new();
        loop {
            let page = house.billing().list_holds(ask.clone()).await.unwrap().into_inner();
            assert_eq!(page.total_size, Some(4));
            ids.extend(page.holds.into_iter().map(|hold| hold.request_id));
            ask.page_token = page.next_page_token;
            if ask.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(ids, ["hold-4", "hold-3", "hold-1", "hold-0"]);
        let others = of("other", GetHoldRequest { hold_id: holds[0].hold_id.clone() });
        assert_eq!(reason(&house.billing().get_hold(others).await.unwrap_err()), "HOLD_NOT_FOUND");
        let others = of("other", capture("cap-1", &holds[0], ""));
        assert_eq!(reason(&house.billing().capture_hold(others).await.unwrap_err()), "HOLD_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsed_hold_decides_and_keeps_nothing() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let rehearse = PlaceHoldRequest { validate_only: true, ..place("hold-1", "6") };
        let answer = house.billing().place_hold(rehearse).await.unwrap().into_inner();
        let hold = answer.hold.unwrap();
        assert_eq!((&*answer.transaction_id, &*hold.hold_id, hold.create_time), ("", "", None));
        let refused = PlaceHoldRequest { validate_only: true, ..place("hold-1", "60") };
        assert_eq!(reason(&house.billing().place_hold(refused).await.unwrap_err()), "INSUFFICIENT_FUNDS");
        check(house, ("10", "0", "10", 1)).await;
        let hold = placed(house, "hold-1", "6").await;
        let rehearse = CaptureHoldRequest { validate_only: true, ..capture("cap-1", &hold, "2") };
        let answer = house.billing().capture_hold(rehearse).await.unwrap().into_inner();
        assert_eq!((&*answer.balance_after, answer.hold.unwrap().state()), ("8", HoldState::Captured));
        let rehearse = ReleaseHoldRequest { validate_only: true, ..release("cap-1", &hold) };
        house.billing().release_hold(rehearse).await.unwrap();
        check(house, ("10", "6", "4", 2)).await;
        assert!(
            !house.billing().capture_hold(capture("cap-1", &hold, "2")).await.unwrap().into_inner().already_processed
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_hold_is_named_at_once() {
    on_every_store_with_a_held_clock(async |house, clock| {
        house.user("ada", "10").await;
        let odd = PlaceHoldRequest {
            request_id: "a b".to_owned(),
            user_id: String::new(),
            amount: "-1".to_owned(),
            expire_time: Some(clock.now().to_wire()),
            ..PlaceHoldRequest::default()
        };
        let refused = house.billing().place_hold(odd).await.unwrap_err();
        assert_eq!(faulty(&refused), ["request_id", "user_id", "amount", "expire_time"]);
        for until in
            [clock.now().plus(Duration::from_hours(90 * 24 + 1)).to_wire(), Timestamp { seconds: 1, nanos: -1 }]
        {
            let late = PlaceHoldRequest { expire_time: Some(until), ..place("hold-1", "1") };
            assert_eq!(faulty(&house.billing().place_hold(late).await.unwrap_err()), ["expire_time"]);
        }
        let nothing = Hold::default();
        let refused = house.billing().capture_hold(capture("", &nothing, "x")).await.unwrap_err();
        assert_eq!(faulty(&refused), ["request_id", "hold_id", "amount"]);
        let refused = house.billing().release_hold(release("", &nothing)).await.unwrap_err();
        assert_eq!(faulty(&refused), ["request_id", "hold_id"]);
        let hold = placed(house, "hold-1", "1").await;
        let precise = house.billing().capture_hold(capture("cap-1", &hold, "0.00000001")).await.unwrap_err();
        assert_eq!(faulty(&precise), ["amount"]);
        let odd = ListHoldsRequest { user_id: "a b".to_owned(), state: 9, page_size: -1, ..Default::default() };
        assert_eq!(faulty(&house.billing().list_holds(odd).await.unwrap_err()), ["user_id", "state", "page_size"]);
        let refused = house.billing().get_hold(GetHoldRequest::default()).await.unwrap_err();
        assert_eq!(faulty(&refused), ["hold_id"]);
    })
    .await;
}
