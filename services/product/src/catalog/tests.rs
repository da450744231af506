//! The rules of the catalog, case by case.

use std::sync::atomic::{AtomicU32, Ordering};

use money::{Amount, UnitPrice};

use super::*;
use crate::{
    plan::{Included, Overage},
    pricing::{Model, Price, Terms},
};

fn product(status: Status, version: i64) -> Product {
    Product {
        product_id: Slug::parse("chair").unwrap(),
        name: "Chair".to_owned(),
        kind: "physical".to_owned(),
        category_id: String::new(),
        description: String::new(),
        metadata: metadata::EMPTY.to_owned(),
        status,
        version,
        create_time: Time::from_micros(1),
        update_time: Time::from_micros(1),
        delete_time: None,
    }
}

fn standing(free: &str, included: Option<(&str, &str, Overage)>) -> Standing {
    let usd = Currency::parse("USD").unwrap();
    let unit_price = UnitPrice::parse("0.000001").unwrap();
    let terms = Terms {
        currency: usd,
        unit: "token".to_owned(),
        model: Model::PerUnit { unit_price },
        free_quantity: Quantity::parse(free).unwrap(),
        minimum_amount: Amount::zero(usd),
    };
    let time = Time::from_micros(1);
    let price =
        Price { price_id: Slug::parse("price_1").unwrap(), terms, effective_time: time, version: 1, create_time: time };
    let included = included.map(|(quantity, left, overage)| {
        let included = Included {
            product_id: Slug::parse("chair").unwrap(),
            quantity: Quantity::parse(quantity).unwrap(),
            overage,
        };
        (included, Quantity::parse(left).unwrap())
    });
    Standing { price: Some(price), charged: Quantity::ZERO, included }
}

#[test]
fn what_stands_in_the_way_first_is_said() {
    use Availability::{AccountInactive, Available, NotAMember, NotFound, NotInPlan, QuotaExhausted, Retired};
    let usd = Verdict::WithFunds(Currency::parse("USD").unwrap());
    let check = |status: Option<Status>, (account_is_active, is_member), standing: Option<Standing>, expected| {
        let product = status.map(|status| product(status, 1));
        let found = Found { product: product.as_ref(), account_is_active, is_member, standing: standing.as_ref() };
        assert_eq!(availability(found), expected);
    };
    let said = Verdict::Said;
    let active = Some(Status::Active);
    check(None, (false, false), None, said(NotFound));
    check(Some(Status::Retired), (false, false), None, said(Retired));
    check(active, (false, false), None, said(AccountInactive));
    check(active, (true, false), None, said(NotAMember));
    check(active, (true, true), None, said(NotInPlan));
    check(Some(Status::Deprecated), (true, true), Some(standing("1", None)), said(Available));
    check(active, (true, true), Some(standing("0", None)), usd);
    let all = (true, true);
    check(active, all, Some(standing("0", Some(("5", "0.00000001", Overage::Block)))), said(Available));
    check(active, all, Some(standing("0", Some(("5", "0", Overage::Block)))), said(QuotaExhausted));
    check(active, all, Some(standing("0", Some(("5", "0", Overage::Charge)))), usd);
    check(active, all, Some(standing("1", Some(("5", "0", Overage::Charge)))), said(Available));
    let unpriced = Standing { price: None, ..standing("0", Some(("5", "0", Overage::Charge))) };
    check(active, all, Some(unpriced), said(NotInPlan));
}

fn key() -> (Tenant, Slug) {
    (Tenant::default_tenant(), Slug::parse("chair").unwrap())
}

/// Stands in for a store that is not to be asked.
async fn must_not_load() -> Result<Entry, StoreError> {
    Err(StoreError::Impossible("the store was asked"))
}

#[tokio::test]
async fn a_hundred_readers_of_a_product_that_is_not_in_memory_load_it_once() {
    let (cache, (tenant, id)) = (Cache::new(1 << 20), key());
    let loads = AtomicU32::new(0);
    let read = || {
        cache.get(&tenant, &id, || async {
            loads.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(Entry::present(product(Status::Active, 1)))
        })
    };
    let mut readers: Vec<_> = (0..100).map(|_| Box::pin(read())).collect();
    std::future::poll_fn(|task| {
        readers.retain_mut(|reader| reader.as_mut().poll(task).is_pending());
        if readers.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_load_that_began_before_a_delete_cannot_bring_the_product_back() {
    let (cache, (tenant, id)) = (Cache::new(1 << 20), key());
    let (loading, begun) = tokio::sync::oneshot::channel();
    let (go_on, told) = tokio::sync::oneshot::channel::<()>();
    let late = {
        let (cache, tenant, id) = (cache.clone(), tenant.clone(), id.clone());
        tokio::spawn(async move {
            let load = || async {
                let old = Entry::present(product(Status::Active, 1));
                loading.send(()).unwrap();
                told.await.unwrap();
                Ok(old)
            };
            cache.get(&tenant, &id, load).await
        })
    };
    begun.await.unwrap();
    let delete = cache.put(&tenant, Entry::deleted(&product(Status::Active, 2)));
    let mut delete = Box::pin(delete);
    let begun = std::future::poll_fn(|task| std::task::Poll::Ready(delete.as_mut().poll(task))).await;
    assert!(begun.is_pending(), "the delete is queued behind the load");
    go_on.send(()).unwrap();
    delete.await;
    late.await.unwrap().unwrap();
    assert!(cache.get(&tenant, &id, must_not_load).await.unwrap().is_none());
}

#[tokio::test]
async fn an_older_write_does_not_replace_a_newer_one() {
    let (cache, (tenant, id)) = (Cache::new(1 << 20), key());
    cache.put(&tenant, Entry::deleted(&product(Status::Active, 2))).await;
    cache.put(&tenant, Entry::present(product(Status::Active, 1))).await;
    assert!(cache.get(&tenant, &id, must_not_load).await.unwrap().is_none());
}

#[tokio::test]
async fn an_id_that_nothing_goes_by_is_remembered_until_it_is_written() {
    let (cache, (tenant, id)) = (Cache::new(1 << 20), key());
    let absent = cache.get(&tenant, &id, || async { Ok(Entry::absent(id.clone())) }).await.unwrap();
    assert!(absent.is_none());
    assert!(cache.get(&tenant, &id, must_not_load).await.unwrap().is_none());
    cache.put(&tenant, Entry::present(product(Status::Active, 1))).await;
    assert!(cache.get(&tenant, &id, must_not_load).await.unwrap().is_some());
}

#[tokio::test]
async fn a_load_that_began_before_another_replicas_write_does_not_outlive_the_word_of_it() {
    let (cache, (tenant, id)) = (Cache::new(1 << 20), key());
    let (go_on, told) = tokio::sync::oneshot::channel::<()>();
    let load = || async {
        told.await.unwrap();
        Ok(Entry::present(product(Status::Active, 1)))
    };
    let mut late = Box::pin(cache.get(&tenant, &id, load));
    let mut word = Box::pin(cache.outdate(&tenant, id.clone(), 2));
    std::future::poll_fn(|task| {
        assert!(late.as_mut().poll(task).is_pending());
        assert!(word.as_mut().poll(task).is_pending(), "the word waits for the load");
        std::task::Poll::Ready(())
    })
    .await;
    go_on.send(()).unwrap();
    let (late, ()) = tokio::join!(late, word);
    assert!(late.unwrap().is_some());
    let read = cache.get(&tenant, &id, || async { Ok(Entry::present(product(Status::Active, 2))) }).await.unwrap();
    assert_eq!(read.unwrap().version, 2, "it was read again");
    cache.outdate(&tenant, id.clone(), 2).await;
    assert_eq!(cache.get(&tenant, &id, must_not_load).await.unwrap().unwrap().version, 2, "that is no news");
}

#[tokio::test]
async fn what_has_no_room_goes_and_is_counted() {
    const BYTES: u64 = 16 * 1024;
    let (cache, (tenant, _)) = (Cache::new(BYTES), key());
    for number in 0..200 {
        let product_id = Slug::parse(&format!("chair-{number}")).unwrap();
        cache.put(&tenant, Entry::present(Product { product_id, ..product(Status::Active, 1) })).await;
    }
    cache.settle().await;
    let held: u64 = cache.of(&tenant).iter().map(|entry| u64::from(entry.weight())).sum();
    assert!(0 < held && held <= BYTES, "{held} bytes");
    let kept = i64::try_from(cache.of(&tenant).len()).unwrap();
    assert_eq!(cache.counts(&tenant).evictions.load(Ordering::Relaxed), 200 - kept);
}

#[tokio::test]
async fn what_is_in_memory_is_true_for_a_second_after_the_last_word_and_not_before_the_first() {
    let cache = Cache::new(1 << 20);
    assert!(!cache.is_true(), "nobody has said anything yet");
    let now = tokio::time::Instant::now();
    cache.is_true_as_of(now);
    assert!(cache.is_true());
    let cache = Cache::begun_at(1 << 20, now.checked_sub(std::time::Duration::from_secs(5)).unwrap());
    cache.is_true_as_of(now.checked_sub(std::time::Duration::from_secs(1)).unwrap());
    assert!(!cache.is_true());
}
