//! Callers that go away at any moment, over a real store.

use std::task::Poll;

use mesh::{RequestId, UserId, store::Location};
use money::Currency;

use super::*;
use crate::{
    deduction::Deduct,
    ledger, migrations,
    wallet::{Payment, Standing},
};

/// How often each moment is tried.
const TIMES: usize = 20;

fn usdc(minor: i64) -> Amount {
    Amount::from_minor(Currency::USDC, minor)
}

fn context() -> Context {
    Context::own(Tenant::default_tenant(), std::time::Duration::from_secs(30))
}

fn deduct(request_id: &str) -> Order {
    Order::Deduct(Deduct {
        request_id: RequestId::parse(request_id).unwrap(),
        user_id: UserId::parse("ada").unwrap(),
        amount: usdc(1),
        api_id: None,
        endpoint_id: None,
        api_key_id: None,
    })
}

fn key() -> WalletKey {
    WalletKey { tenant: Tenant::default_tenant(), user_id: UserId::parse("ada").unwrap(), currency: Currency::USDC }
}

/// Books in which ada has all the money of these tests. They are kept for as long as the background lives.
async fn books() -> (Books, Background) {
    let store = Store::open(Location::Memory).await.unwrap();
    store.migrate(&migrations::all()).await.unwrap();
    let background = Background::default();
    let books = Books::new(&store, &Clock::system(), &background, &Arc::new(Telemetry::quiet().unwrap()));
    let payment = Payment {
        request_id: RequestId::parse("pay").unwrap(),
        user_id: UserId::parse("ada").unwrap(),
        amount: usdc(1_000_000),
        provider: "bank".to_owned(),
        provider_reference: String::new(),
        subscription_id: None,
        standing: Standing::Active,
    };
    books.carry_out(&context(), Order::Pay(payment), false).await.unwrap();
    (books, background)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_begins_anew_after_an_unclear_commit_says_that_it_did_it_and_whoever_comes_later_that_it_was_done() {
    let (books, _background) = books().await;
    let context = context();
    let begun = || {
        let items = vec![Arc::new(books.item(&context, vec![deduct("req")]))];
        Arc::new(Batch { shared: books.shared.clone(), items })
    };
    let carry_out = async |batch: &Arc<Batch<Shared, Item>>| {
        // After an unclear outcome, ids are looked for.
        batch.shared.lookout.look();
        let unit = books.store.unit(&context).claimed();
        let decided = unit.run(batch.clone(), |batch, transaction| Box::pin(carry::carry_out(batch, transaction)));
        one(decided.await.unwrap().pop().unwrap().unwrap()).unwrap()
    };
    let batch = begun();
    let (first, before) = carry_out(&batch).await;
    assert!(!before);
    assert_eq!(
        carry_out(&batch).await,
        (first.clone(), false),
        "the same unit of work, which did not hear of its commit"
    );
    assert_eq!(carry_out(&begun()).await, (first, true), "another one");
    let wallet = ledger::find_wallet(books.store.reader(), &key()).await.unwrap().unwrap();
    assert_eq!(wallet.version, 2, "a payment and one deduction");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_at_any_moment_has_the_order_carried_out_once_or_not_at_all() {
    let (books, _background) = books().await;
    let mut asked = 0;
    // Every moment up to the one at which the answer is there before the caller goes.
    for polls in 0.. {
        let mut answered = 0;
        for time in 0..TIMES {
            let id = format!("req-{polls}-{time}");
            asked += 1;
            let (context, order) = (context(), deduct(&id));
            let mut call = Box::pin(books.carry_out(&context, order, false));
            let mut left = polls;
            let until_it_goes = std::future::poll_fn(|waker| {
                if left == 0 {
                    return Poll::Ready(false);
                }
                left -= 1;
                match call.as_mut().poll(waker) {
                    Poll::Ready(_) => Poll::Ready(true),
                    Poll::Pending if left == 0 => Poll::Ready(false),
                    Poll::Pending => Poll::Pending,
                }
            });
            answered += usize::from(until_it_goes.await);
            drop(call);
            let (first, _) = books.carry_out(&context, deduct(&id), false).await.unwrap();
            let (again, before) = books.carry_out(&context, deduct(&id), false).await.unwrap();
            assert_eq!((first, true), (again, before), "one id, one answer");
        }
        let wallet = ledger::find_wallet(books.store.reader(), &key()).await.unwrap().unwrap();
        assert_eq!((wallet.balance, wallet.version), (usdc(1_000_000 - asked), asked + 1), "after {polls} polls");
        if answered == TIMES {
            assert!(polls > 1, "no moment was tried at which it was under way");
            return;
        }
    }
}
