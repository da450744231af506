//! Prices and quantities that are not as they must be: every fault is named at once, and nothing is set.

use super::*;

/// Looks at a refusal: exactly these fields, in the order of the message.
async fn check(house: &House, price: Price, fields: &[&str]) {
    let refused = house.catalog().set_price(set("chat", price)).await.expect_err(&format!("{fields:?} passed"));
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_FIELDS"), "{refused:?}");
    assert_eq!(faulty(&refused), fields, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_price_is_named_at_once() {
    on_every_store(async |house| {
        make(house, "chat").await;
        let mut catalog = house.catalog();
        let nothing = SetPriceRequest { request_id: "a b".to_owned(), ..SetPriceRequest::default() };
        let refused = catalog.set_price(nothing).await.unwrap_err();
        assert_eq!(faulty(&refused), ["product_id", "price", "request_id"]);
        let never = prost_types::Timestamp { seconds: 0, nanos: -1 };
        let bad = Price {
            currency: "usd".to_owned(),
            unit: "Token".to_owned(),
            model: PriceModel::Package.into(),
            unit_price: "-1".to_owned(),
            tiers: vec![tier("", "1", "")],
            package_size: "0".to_owned(),
            free_quantity: "1e3".to_owned(),
            minimum_amount: " 1".to_owned(),
            effective_time: Some(never),
            ..Price::default()
        };
        let all = ["currency", "unit", "unit_price", "tiers", "package_size", "free_quantity", "minimum_amount"];
        let all = all.into_iter().chain(["effective_time"]).map(|field| format!("price.{field}")).collect::<Vec<_>>();
        check(house, bad, &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
        check(house, Price::default(), &["price.unit", "price.model"]).await;
        check(house, Price { model: 99, ..per_token("1") }, &["price.model"]).await;
        check(
            house,
            Price { package_size: "1".to_owned(), ..per_token("") },
            &["price.unit_price", "price.package_size"],
        )
        .await;
        let tiered =
            |tiers| Price { model: PriceModel::Volume.into(), unit_price: String::new(), tiers, ..per_token("") };
        let priced_twice = Price { unit_price: "1".to_owned(), ..tiered(vec![]) };
        check(house, priced_twice, &["price.unit_price", "price.tiers"]).await;
        check(house, tiered(vec![tier("", "1", ""); 101]), &["price.tiers"]).await;
        let bad = vec![
            tier("0", "", "0.001"),
            tier("10", "1", ""),
            tier("10", "0.0000000000001", "-1"),
            tier("", "1", ""),
            tier("20", "100000000000", "100000000000"),
        ];
        let all = ["[0].up_to", "[0].unit_price", "[0].flat_amount", "[2].up_to", "[2].unit_price", "[2].flat_amount"];
        let all = all.into_iter().chain(["[3].up_to", "[4].up_to", "[4].unit_price", "[4].flat_amount"]);
        let all = all.map(|field| format!("price.tiers{field}")).collect::<Vec<_>>();
        check(house, tiered(bad), &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let unpriced = catalog.get_product_pricing(pricing("chat")).await.unwrap_err();
        assert_eq!(reason(&unpriced), "PRODUCT_NOT_PRICED", "nothing was set");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decimal_in_any_other_form_is_refused() {
    on_every_store(async |house| {
        make(house, "chat").await;
        priced(house, "chat", per_token("1")).await;
        let mut catalog = house.catalog();
        let long = "9".repeat(10_000);
        for bad in [
            "+1",
            "-1",
            "-0",
            "1e3",
            " 1",
            "1 ",
            ".5",
            "5.",
            "1,5",
            "1_000",
            "NaN",
            "inf",
            "0x10",
            "1\0",
            "١",
            "½",
            "0.0000000000001",
            "10000000000000000",
            &long,
        ] {
            let decimal = || bad.to_owned();
            let asked = EstimateCostRequest { user_id: "a b".to_owned(), ..estimate("a b", bad) };
            let refused = catalog.estimate_cost(asked).await.unwrap_err();
            assert_eq!(faulty(&refused), ["product_id", "quantity", "user_id"], "{bad:?}");
            let asked = GetProductPricingRequest { quantity: decimal(), user_id: "a b".to_owned(), ..pricing("a b") };
            let refused = catalog.get_product_pricing(asked).await.unwrap_err();
            assert_eq!(faulty(&refused), ["product_id", "user_id", "quantity"], "{bad:?}");
            let price = Price { free_quantity: decimal(), minimum_amount: decimal(), ..per_token(bad) };
            check(house, price, &["price.unit_price", "price.free_quantity", "price.minimum_amount"]).await;
        }
        let none = catalog.estimate_cost(estimate("chat", "")).await.unwrap_err();
        assert_eq!(faulty(&none), ["quantity"]);
        // Each kind has digits of its own: a quantity 15 and 8, a unit price 11 and 12, an amount its currency's.
        let edge = Price {
            free_quantity: "999999999999999.99999999".to_owned(),
            minimum_amount: "99999999999.99".to_owned(),
            ..per_token("99999999999.999999999999")
        };
        priced(house, "chat", edge).await;
        let beyond = Price {
            free_quantity: "0.000000001".to_owned(),
            minimum_amount: "0.001".to_owned(),
            ..per_token("0.0000000000001")
        };
        check(house, beyond, &["price.unit_price", "price.free_quantity", "price.minimum_amount"]).await;
    })
    .await;
}
