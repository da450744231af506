//! Prices, as their callers see them: what is set, what is in force, and what a quantity costs.

mod bad_prices;
mod estimates;

use std::time::Duration;

use mesh::{Clock, Time};
use sea_orm::ConnectionTrait as _;
use tonic::Code;
use trivet::RoleName;
use trivet_proto::product::v1::{
    CreateProductRequest, DeleteProductRequest, EstimateCostRequest, EstimateCostResponse, GetProductPricingRequest,
    GetProductPricingResponse, Price, PriceModel, PriceTier, SetPriceRequest,
};

use crate::{
    harness::{House, faulty, on_every_store, on_every_store_with_a_held_clock, reason, told},
    tenants::of,
};

const HOUR: Duration = Duration::from_hours(1);
const MICROSECOND: Duration = Duration::from_micros(1);

/// So much for each token, in USD.
fn per_token(unit_price: &str) -> Price {
    Price {
        currency: "USD".to_owned(),
        unit: "token".to_owned(),
        model: PriceModel::PerUnit.into(),
        unit_price: unit_price.to_owned(),
        ..Price::default()
    }
}

fn from(time: Time, price: Price) -> Price {
    Price { effective_time: Some(time.to_wire()), ..price }
}

fn tier(up_to: &str, unit_price: &str, flat_amount: &str) -> PriceTier {
    PriceTier { up_to: up_to.to_owned(), unit_price: unit_price.to_owned(), flat_amount: flat_amount.to_owned() }
}

fn set(product_id: &str, price: Price) -> SetPriceRequest {
    SetPriceRequest { product_id: product_id.to_owned(), price: Some(price), request_id: String::new() }
}

fn pricing(product_id: &str) -> GetProductPricingRequest {
    GetProductPricingRequest { product_id: product_id.to_owned(), ..GetProductPricingRequest::default() }
}

fn estimate(product_id: &str, quantity: &str) -> EstimateCostRequest {
    EstimateCostRequest {
        product_id: product_id.to_owned(),
        quantity: quantity.to_owned(),
        ..EstimateCostRequest::default()
    }
}

async fn make(house: &House, product_id: &str) {
    let (product_id, name) = (product_id.to_owned(), "Chat".to_owned());
    let create = CreateProductRequest { product_id, name, ..CreateProductRequest::default() };
    house.catalog().create_product(create).await.unwrap();
}

async fn priced(house: &House, product_id: &str, price: Price) -> Price {
    house.catalog().set_price(set(product_id, price)).await.unwrap().into_inner().price.unwrap()
}

async fn shown(house: &House, product_id: &str) -> GetProductPricingResponse {
    house.catalog().get_product_pricing(pricing(product_id)).await.unwrap().into_inner()
}

async fn estimated(house: &House, product_id: &str, quantity: &str) -> EstimateCostResponse {
    house.catalog().estimate_cost(estimate(product_id, quantity)).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_is_kept_exactly_and_shown_in_its_shortest_form() {
    on_every_store_with_a_held_clock(async |house, clock| {
        make(house, "chat").await;
        let asked = Price {
            unit: "token".to_owned(),
            model: PriceModel::Graduated.into(),
            tiers: vec![tier("010.50", "0.000000000001", ""), tier("", "99999999999.999999999999", "1.500")],
            free_quantity: "999999999999999.99999999".to_owned(),
            minimum_amount: "0.10".to_owned(),
            // Ours, and not looked at.
            price_id: "price_of_mine".to_owned(),
            version: 77,
            ..Price::default()
        };
        let kept = priced(house, "chat", asked.clone()).await;
        assert!(kept.price_id.starts_with("price_") && kept.price_id != asked.price_id, "{kept:?}");
        let now = Some(clock.now().to_wire());
        let expected = Price {
            price_id: kept.price_id.clone(),
            currency: "USDC".to_owned(),
            tiers: vec![tier("10.5", "0.000000000001", "0"), tier("", "99999999999.999999999999", "1.5")],
            minimum_amount: "0.1".to_owned(),
            effective_time: now,
            version: 1,
            create_time: now,
            ..asked
        };
        assert_eq!(kept, expected);
        let shown = shown(house, "chat").await;
        assert_eq!((shown.price.unwrap(), shown.next_price), (kept, None));
        assert_eq!((shown.amount.as_str(), shown.lines), ("", vec![]), "nothing was asked about a quantity");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_force_is_the_latest_price_whose_time_has_come() {
    on_every_store_with_a_held_clock(async |house, clock| {
        make(house, "chat").await;
        let later = clock.now().plus(HOUR);
        priced(house, "chat", per_token("0.1")).await;
        priced(house, "chat", from(later, per_token("0.2"))).await;
        let instead = priced(house, "chat", from(later, per_token("0.3"))).await;
        priced(house, "chat", from(later.plus(HOUR), per_token("0.4"))).await;
        let check = async |amount: &str, next: Option<&str>| {
            let shown = shown(house, "chat").await;
            let next_price = shown.next_price.map(|price| price.unit_price);
            assert_eq!((estimated(house, "chat", "10").await.amount.as_str(), next_price.as_deref()), (amount, next));
        };
        check("1", Some("0.3")).await;
        clock.advance(HOUR.checked_sub(MICROSECOND).unwrap());
        check("1", Some("0.3")).await;
        clock.advance(MICROSECOND);
        check("3", Some("0.4")).await;
        assert_eq!(estimated(house, "chat", "10").await.price_id, instead.price_id);
        clock.advance(HOUR);
        check("4", None).await;
        let again = priced(house, "chat", per_token("0.5")).await;
        assert_eq!(again.version, 5);
        check("5", None).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_cannot_be_set_for_a_time_that_had_one() {
    on_every_store_with_a_held_clock(async |house, clock| {
        make(house, "chat").await;
        let mut catalog = house.catalog();
        let start = clock.now();
        clock.advance(HOUR);
        // Nothing could be sold then: whoever brings records of that time finds a price.
        priced(house, "chat", from(start, per_token("0.1"))).await;
        clock.advance(HOUR);
        for (time, taken) in [
            (start.minus(MICROSECOND), true),
            (start, false),
            (clock.now().minus(MICROSECOND), false),
            (clock.now(), true),
        ] {
            let asked = SetPriceRequest {
                request_id: format!("at-{}", time.micros()),
                ..set("chat", from(time, per_token("0.2")))
            };
            let outcome = catalog.set_price(asked.clone()).await;
            assert_eq!(outcome.is_ok(), taken, "{outcome:?}");
            if let Err(refused) = outcome {
                assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_FIELDS"));
                assert_eq!(faulty(&refused), ["price.effective_time"]);
                // It was no answer: the id serves another request.
                let now = SetPriceRequest { price: Some(per_token("0.2")), ..asked };
                assert!(!catalog.set_price(now).await.unwrap().into_inner().already_processed);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_is_set_once_under_its_request_id_even_when_its_time_has_passed() {
    on_every_store_with_a_held_clock(async |house, clock| {
        make(house, "chat").await;
        let mut catalog = house.catalog();
        priced(house, "chat", per_token("0.1")).await;
        let soon = from(clock.now().plus(HOUR), per_token("0.20"));
        let asked = SetPriceRequest { request_id: "set-1".to_owned(), ..set("chat", soon.clone()) };
        let first = catalog.set_price(asked.clone()).await.unwrap().into_inner();
        assert!(!first.already_processed);
        clock.advance(HOUR * 2);
        let same = Price { unit_price: "0.2".to_owned(), minimum_amount: "0.0".to_owned(), ..soon.clone() };
        let again = SetPriceRequest { price: Some(same), ..asked.clone() };
        let again = catalog.set_price(again).await.unwrap().into_inner();
        assert!(again.already_processed);
        assert_eq!(again.price, first.price);
        let other = Price { unit_price: "0.3".to_owned(), free_quantity: "1".to_owned(), ..soon };
        let refused = catalog.set_price(SetPriceRequest { price: Some(other), ..asked }).await.unwrap_err();
        assert_eq!(
            (reason(&refused).as_str(), told(&refused, "differs").as_str()),
            ("REQUEST_ID_REUSED", "price.free_quantity, price.unit_price")
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_that_are_set_at_the_same_time_are_counted_without_a_gap() {
    on_every_store(async |house| {
        make(house, "chat").await;
        let sets = (0..20).map(|number| {
            let mut catalog = house.catalog();
            let asked = set("chat", per_token(&format!("0.{number:02}")));
            tokio::spawn(async move { catalog.set_price(asked).await.unwrap().into_inner().price.unwrap() })
        });
        let mut prices = Vec::new();
        for set in sets.collect::<Vec<_>>() {
            prices.push(set.await.unwrap());
        }
        prices.sort_by_key(|price| price.version);
        let versions: Vec<_> = prices.iter().map(|price| price.version).collect();
        assert_eq!(versions, (1..=20).collect::<Vec<_>>());
        assert_eq!(shown(house, "chat").await.price.as_ref(), prices.last(), "the one that was set last is in force");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_for_now_takes_over_even_from_one_that_was_set_by_a_clock_ahead() {
    on_every_store_with_a_held_clock(async |house, clock| {
        make(house, "chat").await;
        let ahead = clock.now().plus(HOUR).micros();
        let store = house.rows(RoleName::Product).await;
        let insert = format!(
            "insert into prices (tenant_id, product_id, price_id, currency, unit, model, unit_price, tiers,
                                 package_size, free_quantity, minimum_amount, effective_time, version, create_time)
             values ('default', 'chat', 'price_0', 'USD', 'token', 'PER_UNIT', '0.1', '[]',
                     '', '0', 0, {ahead}, 1, {ahead})"
        );
        store.reader().execute_unprepared(&insert).await.unwrap();
        let set = priced(house, "chat", per_token("0.2")).await;
        assert_eq!((set.version, set.effective_time), (2, Some(Time::from_micros(ahead).to_wire())));
        clock.advance(HOUR);
        assert_eq!(shown(house, "chat").await.price, Some(set));
        for change in ["update prices set unit_price = '0.3'", "delete from prices"] {
            let refused = store.reader().execute_unprepared(change).await.unwrap_err().to_string();
            assert!(refused.contains("prices is append-only"), "{refused}");
        }
        store.close().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_price_or_is_no_product_costs_nothing_that_could_be_said() {
    on_every_store_with_a_held_clock(async |house, clock: &Clock| {
        let mut catalog = house.catalog();
        let check = async |product_id: &str, code: Code, expected: &str| {
            let mut catalog = house.catalog();
            let shown = catalog.get_product_pricing(pricing(product_id)).await.unwrap_err();
            let estimated = catalog.estimate_cost(estimate(product_id, "1")).await.unwrap_err();
            for refused in [shown, estimated] {
                assert_eq!((refused.code(), reason(&refused).as_str()), (code, expected));
            }
        };
        check("chat", Code::NotFound, "PRODUCT_NOT_FOUND").await;
        let asked = SetPriceRequest { request_id: "set-1".to_owned(), ..set("chat", per_token("1")) };
        assert_eq!(reason(&catalog.set_price(asked.clone()).await.unwrap_err()), "PRODUCT_NOT_FOUND");
        make(house, "chat").await;
        // A refusal is an answer, and is kept.
        assert_eq!(reason(&catalog.set_price(asked).await.unwrap_err()), "PRODUCT_NOT_FOUND");
        check("chat", Code::FailedPrecondition, "PRODUCT_NOT_PRICED").await;
        priced(house, "chat", from(clock.now().plus(HOUR), per_token("1"))).await;
        check("chat", Code::FailedPrecondition, "PRODUCT_NOT_PRICED").await;
        clock.advance(HOUR);
        assert_eq!(estimated(house, "chat", "1").await.amount, "1");
        catalog.delete_product(DeleteProductRequest { product_id: "chat".to_owned() }).await.unwrap();
        check("chat", Code::NotFound, "PRODUCT_NOT_FOUND").await;
        let refused = catalog.set_price(set("chat", from(Time::from_micros(0), per_token("1")))).await.unwrap_err();
        assert_eq!(reason(&refused), "PRODUCT_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_prices_of_its_own() {
    on_every_store(async |house| {
        let mut catalog = house.catalog();
        for (tenant, each) in [("acme", "1"), ("globex", "2")] {
            let (product_id, name) = ("chat".to_owned(), "Chat".to_owned());
            let create = CreateProductRequest { product_id, name, ..CreateProductRequest::default() };
            catalog.create_product(of(tenant, create)).await.unwrap();
            let set = catalog.set_price(of(tenant, set("chat", per_token(each)))).await.unwrap().into_inner();
            assert_eq!(set.price.unwrap().version, 1);
        }
        for (tenant, amount) in [("acme", "3"), ("globex", "6")] {
            let answer = catalog.estimate_cost(of(tenant, estimate("chat", "3"))).await.unwrap().into_inner();
            assert_eq!(answer.amount, amount);
        }
        assert_eq!(reason(&catalog.estimate_cost(estimate("chat", "3")).await.unwrap_err()), "PRODUCT_NOT_FOUND");
    })
    .await;
}
