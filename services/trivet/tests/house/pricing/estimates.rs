//! What a quantity costs, line by line.

use trivet_proto::product::v1::CostLineKind;

use super::*;

/// The lines as a person would write them down.
fn written(answer: &EstimateCostResponse) -> Vec<String> {
    let lines = answer.lines.iter().map(|line| {
        let step = match (line.kind(), line.tier) {
            (CostLineKind::Usage, 0) => "usage".to_owned(),
            (CostLineKind::Usage, tier) => format!("tier {tier}"),
            (kind, _) => kind.as_str_name().trim_start_matches("COST_LINE_KIND_").to_lowercase(),
        };
        format!("{step}: {} x {} + {} = {}", line.quantity, line.unit_price, line.flat_amount, line.amount)
    });
    lines.collect()
}

fn tiered(model: PriceModel) -> Price {
    let tiers = vec![tier("100", "0.5", ""), tier("", "0.25", "1")];
    Price { model: model.into(), unit_price: String::new(), tiers, ..per_token("") }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_model_says_what_a_quantity_costs_line_by_line() {
    on_every_store(async |house| {
        let flat = Price { model: PriceModel::Flat.into(), ..per_token("9.9") };
        let size = "100".to_owned();
        let package = Price { model: PriceModel::Package.into(), package_size: size, ..per_token("2") };
        let free = Price { free_quantity: "50".to_owned(), ..tiered(PriceModel::Graduated) };
        let least = Price { minimum_amount: "80".to_owned(), ..per_token("0.1") };
        let checks: [(&str, Price, &str, &[&str]); 7] = [
            ("flat", flat, "9.9", &["usage: 1 x 9.9 + 0 = 9.9"]),
            ("per-unit", per_token("0.000045"), "0.01", &["usage: 150 x 0.000045 + 0 = 0.00675"]),
            ("package", package, "4", &["usage: 2 x 2 + 0 = 4"]),
            (
                "graduated",
                tiered(PriceModel::Graduated),
                "63.5",
                &["tier 1: 100 x 0.5 + 0 = 50", "tier 2: 50 x 0.25 + 1 = 13.5"],
            ),
            ("volume", tiered(PriceModel::Volume), "38.5", &["tier 2: 150 x 0.25 + 1 = 38.5"]),
            ("free", free, "50", &["tier 1: 100 x 0.5 + 0 = 50"]),
            ("least", least, "80", &["usage: 150 x 0.1 + 0 = 15", "minimum: 0 x 0 + 65 = 65"]),
        ];
        for (product_id, price, amount, lines) in checks {
            make(house, product_id).await;
            let price = priced(house, product_id, price).await;
            let answer = estimated(house, product_id, "150.0").await;
            assert_eq!(
                (answer.amount.as_str(), written(&answer)),
                (amount, lines.iter().map(ToString::to_string).collect())
            );
            assert_eq!((answer.currency.as_str(), &answer.price_id), ("USD", &price.price_id));
            let free = if product_id == "free" { ("50", "100") } else { ("0", "150") };
            assert_eq!((answer.free_quantity.as_str(), answer.billable_quantity.as_str()), free);
            // Nobody has used anything before.
            let before = (answer.quantity.as_str(), answer.total_before.as_str(), answer.cost_before.as_str());
            assert_eq!(before, ("150", "0", "0"));
            let somebody = EstimateCostRequest { user_id: "ada".to_owned(), ..estimate(product_id, "150") };
            assert_eq!(house.catalog().estimate_cost(somebody).await.unwrap().into_inner(), answer);
            let asked = GetProductPricingRequest { quantity: "150".to_owned(), ..pricing(product_id) };
            let shown = house.catalog().get_product_pricing(asked).await.unwrap().into_inner();
            assert_eq!((shown.price, shown.amount, shown.lines), (Some(price), answer.amount, answer.lines));
            let nothing = estimated(house, product_id, "0").await;
            assert_eq!((nothing.amount.as_str(), nothing.lines), ("0", vec![]));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_that_could_not_be_kept_is_a_fault_of_the_quantity() {
    on_every_store(async |house| {
        make(house, "chat").await;
        priced(house, "chat", Price { currency: "USDC".to_owned(), ..per_token("1") }).await;
        assert_eq!(estimated(house, "chat", "922337203685.47758074").await.amount, "922337203685.4775807");
        for quantity in ["922337203685.47758075", "999999999999999.99999999"] {
            let mut catalog = house.catalog();
            let estimated = catalog.estimate_cost(estimate("chat", quantity)).await.unwrap_err();
            let asked = GetProductPricingRequest { quantity: quantity.to_owned(), ..pricing("chat") };
            for refused in [estimated, catalog.get_product_pricing(asked).await.unwrap_err()] {
                assert_eq!(
                    (reason(&refused).as_str(), faulty(&refused)),
                    ("INVALID_FIELDS", vec!["quantity".to_owned()])
                );
            }
        }
    })
    .await;
}
