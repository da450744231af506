//! Batches that come when too much waits, and what is said of orders of which none was decided.

use std::{sync::Arc, time::Duration};

use mesh::{Background, Clock, RequestId, Store, Telemetry, Tenant, UserId, store::Location};
use money::{Amount, Currency};
use tonic::Code;

use super::*;
use crate::migrations;

fn deduct(request_id: &str) -> Deduct {
    Deduct {
        request_id: RequestId::parse(request_id).unwrap(),
        user_id: UserId::parse("ada").unwrap(),
        amount: Amount::from_minor(Currency::USDC, 1),
        api_id: None,
        endpoint_id: None,
        api_key_id: None,
    }
}

// One thread: nothing is taken out of the queue before the test waits for something.
#[tokio::test]
async fn a_batch_is_refused_whole_where_its_first_order_finds_no_room_and_waits_for_that_of_the_others() {
    let store = Store::open(Location::Memory).await.unwrap();
    store.migrate(&migrations::all()).await.unwrap();
    let background = Background::default();
    let books = Books::new(&store, &Clock::system(), &background, &Arc::new(Telemetry::quiet().unwrap()));
    let context = Context::own(Tenant::default_tenant(), Duration::from_mins(5));
    let hand_in = |id: String| books.hand_in(&context, vec![Order::Deduct(deduct(&id))]);
    let two = |name: &str| (1..=2).map(|number| Ok(deduct(&format!("{name}-{number}")))).collect::<Vec<_>>();
    let mut waiting = Vec::new();
    while let Ok(pending) = hand_in(format!("first-{}", waiting.len())) {
        waiting.push(pending);
    }
    let room = waiting.len();
    let refused = each(&books, &context, two("late")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    for pending in waiting {
        assert!(pending.answer().await.unwrap().is_err(), "ada has no wallet");
    }
    for late in ["late-1", "late-2"] {
        assert!(!books.knows(&context, &RequestId::parse(late).unwrap()).await.unwrap(), "{late}");
    }
    let waiting: Vec<_> = (1..room).map(|number| hand_in(format!("then-{number}")).unwrap()).collect();
    let results = each(&books, &context, two("next")).await.unwrap();
    let reasons: Vec<_> = results.into_iter().map(|result| result.error.unwrap().reason).collect();
    assert_eq!(reasons, ["WALLET_NOT_FOUND", "WALLET_NOT_FOUND"]);
    drop(waiting);
}

#[test]
fn of_orders_of_which_none_was_decided_the_one_that_may_have_happened_speaks_for_all() {
    let said = |reasons: &[Reason]| {
        let failures = reasons.iter().map(|reason| Refusal::new(*reason, "it failed")).collect();
        of_all(failures).map(|refusal| refusal.reason())
    };
    assert_eq!(said(&[]), None);
    assert_eq!(said(&[Reason::Conflict, Reason::Overloaded]), Some(Reason::Conflict));
    let unclear = [Reason::Conflict, Reason::OutcomeUnknown, Reason::Overloaded];
    assert_eq!(said(&unclear), Some(Reason::OutcomeUnknown));
}
