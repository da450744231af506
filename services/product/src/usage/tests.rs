//! The rule of usage, with nothing around it.
#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]

use std::{collections::HashMap, sync::Arc};

use mesh::{
    Clock, Context, RequestId, Slug, Tenant, Time, UserId,
    claim::{Seen, Taken},
    events::Origin,
};
use money::{Amount, Currency, Quantity, UnitPrice};
use proptest::prelude::*;

use super::{
    Item, Order, Refused,
    decide::{Before, Cover, Decided, Totals, World, decide},
};
use crate::{
    catalog,
    plan::{Included, Overage},
    pricing::{Model, Price, Terms, Tier, increment},
    subscription::{Period, calendar_month},
};

const NOW: Time = Time::from_micros(1_800_000_000_000_000);

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

fn order(request_id: &str, amount: &str) -> Order {
    Order {
        request_id: RequestId::parse(request_id).unwrap(),
        user_id: UserId::parse("ada").unwrap(),
        product_id: slug("tokens"),
        quantity: quantity(amount),
        organization_id: None,
        subscription_id: None,
        session_id: None,
        event_time: None,
        attributes: std::collections::BTreeMap::new(),
    }
}

fn item(order: Order) -> Arc<Item> {
    let tenant = Tenant::default_tenant();
    let clock = Clock::held(NOW);
    let origin = Origin::of(&Context::own(tenant.clone(), std::time::Duration::ZERO), &clock);
    let (claim, usage_id) = (order.claim(&tenant), Slug::fresh("usage", &clock));
    Arc::new(Item { tenant, claim, usage_id, origin, now: NOW, order })
}

fn tiered() -> Price {
    let usd = Currency::parse("USD").unwrap();
    let tier = |up_to: Option<&str>, price: &str| Tier {
        up_to: up_to.map(quantity),
        unit_price: UnitPrice::parse(price).unwrap(),
        flat_amount: Amount::zero(usd),
    };
    let terms = Terms {
        currency: usd,
        unit: "token".to_owned(),
        model: Model::Graduated { tiers: vec![tier(Some("50"), "0.013"), tier(None, "0.007")] },
        free_quantity: quantity("10"),
        minimum_amount: Amount::parse(usd, "0.25").unwrap(),
    };
    let early = Time::from_micros(1);
    Price { price_id: slug("price_1"), terms, effective_time: early, version: 1, create_time: early }
}

/// A world that sells tokens at a price, to somebody with a plan that includes some.
fn world(price: Option<Price>, included: Option<(&str, Overage)>) -> World {
    let product = (Tenant::default_tenant(), slug("tokens"));
    let payer = (Tenant::default_tenant(), UserId::parse("ada").unwrap(), None);
    let included =
        included.map(|(amount, overage)| Included { product_id: slug("tokens"), quantity: quantity(amount), overage });
    let month = calendar_month(NOW);
    let cover = included.map(|included| Cover {
        subscription_id: slug("sub_1"),
        gives: true,
        periods: vec![(Period { number: 1, ..month }, vec![included])],
    });
    World {
        products: HashMap::from([(product.clone(), catalog::Status::Active)]),
        prices: HashMap::from([(product, price.into_iter().collect())]),
        covers: HashMap::from([(payer, cover.into_iter().collect())]),
    }
}

fn decided(world: &World, items: &[Arc<Item>], seen: Vec<Option<Before>>, totals: &mut Totals) -> Vec<Decided> {
    let routes: Vec<_> = items.iter().map(|item| world.route(item)).collect();
    decide(items, seen, &routes, totals)
}

fn unseen(items: &[Arc<Item>]) -> Vec<Option<Before>> {
    items.iter().map(|_| None).collect()
}

/// What becomes of records, shortly.
fn told(world: &World, orders: Vec<Order>) -> Vec<String> {
    let items: Vec<_> = orders.into_iter().map(item).collect();
    let decided = decided(world, &items, unseen(&items), &mut Totals::new());
    let short = |decided: Decided| match decided {
        Decided::Recorded(usage) => {
            let charge =
                usage.charge.as_ref().map(|charge| format!(" {} {} {}", charge.free, charge.billable, charge.amount));
            format!("{}{}", usage.included, charge.unwrap_or_default())
        }
        Decided::Refused(refused) | Decided::Reused(refused) | Decided::Faulty(refused) => refused.to_string(),
        Decided::Same(first) => format!("as {first}"),
        Decided::Before(_) => "before".to_owned(),
    };
    decided.into_iter().map(short).collect()
}

#[test]
fn what_is_included_comes_first_then_what_is_free_then_what_counts() {
    let orders = [("r1", "15"), ("r2", "10"), ("r3", "10"), ("r4", "1")].map(|(id, amount)| order(id, amount));
    let world = world(Some(tiered()), Some(("20", Overage::Charge)));
    // Included, free, billable, and what it costs: the minimum at first.
    assert_eq!(told(&world, orders.into()), ["15", "5 5 0 0", "0 5 5 0.25", "0 0 1 0"]);
}

#[test]
fn a_plan_that_blocks_refuses_the_whole_of_what_goes_beyond_and_takes_what_fits_still() {
    let orders = [("r1", "15"), ("r2", "5.00000001"), ("r3", "5")].map(|(id, amount)| order(id, amount));
    let world = world(Some(tiered()), Some(("20", Overage::Block)));
    let refused = "the plan includes 20 of tokens in a period, and 15 of it are used: 5.00000001 are too much";
    assert_eq!(told(&world, orders.into()), ["15", refused, "5"]);
}

#[test]
fn the_same_id_twice_in_a_batch_is_a_repeat_and_another_request_under_it_is_not() {
    let orders = [("r1", "1"), ("r1", "1.0"), ("r1", "2"), ("r2", "999999999999999"), ("r2", "1")];
    let world = world(Some(tiered()), None);
    let told = told(&world, orders.map(|(id, amount)| order(id, amount)).into());
    let reused = "request id r1 was used for another request: quantity";
    // What is more than can be kept is a fault, and leaves its id free.
    let expected = ["0 1 0 0", "as 0", reused, "is or costs more than can be kept in one period", "0 1 0 0"];
    assert_eq!(told[..3], expected[..3]);
    assert!(told[3] == expected[3] || told[3].starts_with("0 9"), "{told:?}");
}

#[test]
fn what_stands_in_the_way_of_a_record_first_is_said() {
    let check = |world: &World, order: Order, expected: &str| assert_eq!(told(world, vec![order]), [expected]);
    let nothing = World::default();
    let asking = Order { subscription_id: Some(slug("sub_2")), ..order("r", "1") };
    check(&nothing, asking.clone(), "there is no product tokens");
    let mut retired = world(Some(tiered()), None);
    retired.products.values_mut().for_each(|status| *status = catalog::Status::Retired);
    check(&retired, asking.clone(), "the product tokens is not sold any more");
    let mut covered = world(None, Some(("20", Overage::Charge)));
    check(&covered, asking, "there is no subscription sub_2 of this user and organization");
    let own = Order { subscription_id: Some(slug("sub_1")), ..order("r", "1") };
    let before = Order { event_time: Some(Time::from_micros(NOW.micros() - 40 * 86_400_000_000)), ..own.clone() };
    check(&covered, before, "the subscription sub_1 is not active, or was not at that time");
    check(&covered, own.clone(), "1");
    let unpriced = "no price of the product tokens was in force, and no plan of the user's includes it";
    check(&covered, order("r", "21"), unpriced);
    check(&world(None, None), order("r", "1"), unpriced);
    covered.covers.values_mut().flatten().for_each(|cover| cover.gives = false);
    check(&covered, own, "the subscription sub_1 is not active, or was not at that time");
    check(&covered, order("r", "1"), unpriced);
}

#[test]
fn what_was_answered_before_is_answered_again_and_counts_nothing() {
    let world = world(Some(tiered()), None);
    let items = [item(order("r1", "5")), item(order("r2", "5"))];
    let request_id = RequestId::parse("r2").unwrap();
    let taken = Taken::Reused { request_id, differs: "quantity".to_owned() };
    let seen = vec![Some(Seen::Answer(Ok(slug("usage_1")))), Some(Seen::Taken(taken.clone()))];
    let mut totals = Totals::new();
    let decided = decided(&world, &items, seen, &mut totals);
    assert_eq!(decided, [Decided::Before(Ok(slug("usage_1"))), Decided::Before(Err(taken.into()))]);
    assert!(totals.is_empty());
}

#[test]
fn a_record_counts_in_the_calendar_month_it_is_of_where_no_subscription_covers_it() {
    let check = |time: &str, start: &str, end: &str| {
        let at = |text: &str| Time::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond());
        let month = calendar_month(at(time));
        assert_eq!((month.start, month.end), (at(start), at(end)), "{time}");
    };
    check("2024-02-29T23:59:59.999999Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z");
    check("2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z", "2024-04-01T00:00:00Z");
    check("2023-12-31T12:00:00Z", "2023-12-01T00:00:00Z", "2024-01-01T00:00:00Z");
}

proptest! {
    #[test]
    fn however_a_quantity_is_cut_up_ordered_and_batched_it_costs_what_the_whole_does(
        parts in prop::collection::vec(1..3_000_i64, 1..60), cuts in 1..10_usize, included in 0..100_i64
    ) {
        let hundredths = |n: i64| quantity(&format!("{}.{:02}", n / 100, n % 100));
        let plan = included.to_string();
        let world = world(Some(tiered()), Some((plan.as_str(), Overage::Charge)));
        let orders = parts.iter().enumerate();
        let items: Vec<_> = orders.map(|(at, part)| {
            item(Order { quantity: hundredths(*part), ..order(&format!("r{at}"), "1") })
        }).collect();
        let mut totals = Totals::new();
        let (mut amount, mut free) = (0, Quantity::ZERO);
        for batch in items.chunks(cuts) {
            for decided in decided(&world, batch, unseen(batch), &mut totals) {
                let Decided::Recorded(usage) = decided else { panic!("{decided:?}") };
                free = free.plus(usage.included).unwrap();
                amount += usage.charge.as_ref().map_or(0, |charge| charge.amount.minor());
            }
        }
        let total = hundredths(parts.iter().sum());
        let covered = quantity(&plan).min(total);
        prop_assert_eq!(free, covered);
        let whole = increment(&tiered().terms, Quantity::ZERO, total.minus(covered).unwrap()).unwrap();
        prop_assert_eq!(amount, whole.amount.minor());
    }
}

#[test]
fn refusals_are_kept_as_they_are_said() {
    let refused = Refused::Exhausted {
        product_id: slug("tokens"),
        included: quantity("1"),
        used: quantity("0.5"),
        quantity: quantity("0.6"),
    };
    let kept = serde_json::to_string(&refused).unwrap();
    assert_eq!(serde_json::from_str::<Refused>(&kept).unwrap(), refused);
}
