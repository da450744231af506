//! What a quantity costs, case by case; what holds for every price is in `properties`.

mod properties;

use super::*;

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

fn price(text: &str) -> UnitPrice {
    UnitPrice::parse(text).unwrap()
}

/// A price in this currency, nothing of which is free.
fn terms(currency: &str, model: Model) -> Terms {
    let currency = Currency::parse(currency).unwrap();
    let (unit, minimum_amount) = ("token".to_owned(), Amount::zero(currency));
    Terms { currency, unit, model, free_quantity: Quantity::ZERO, minimum_amount }
}

fn flat(each: &str) -> Terms {
    terms("USD", Model::Flat { unit_price: price(each) })
}

fn per_unit(each: &str) -> Terms {
    terms("USD", Model::PerUnit { unit_price: price(each) })
}

fn package(each: &str, size: &str) -> Terms {
    terms("USD", Model::Package { unit_price: price(each), size: quantity(size) })
}

/// Tiers from their ends, unit prices and flat amounts; the last end is empty.
fn tiers(tiers: &[(&str, &str, &str)]) -> Vec<Tier> {
    let tier = |(up_to, unit_price, flat_amount): &(&str, &str, &str)| Tier {
        up_to: Some(*up_to).filter(|up_to| !up_to.is_empty()).map(quantity),
        unit_price: price(unit_price),
        flat_amount: Amount::parse(Currency::parse("USD").unwrap(), flat_amount).unwrap(),
    };
    tiers.iter().map(tier).collect()
}

fn graduated(ranges: &[(&str, &str, &str)]) -> Terms {
    terms("USD", Model::Graduated { tiers: tiers(ranges) })
}

fn volume(ranges: &[(&str, &str, &str)]) -> Terms {
    terms("USD", Model::Volume { tiers: tiers(ranges) })
}

impl Terms {
    fn with_free(self, free: &str) -> Self {
        Self { free_quantity: quantity(free), ..self }
    }

    fn with_minimum(self, minimum: &str) -> Self {
        let minimum_amount = Amount::parse(self.currency, minimum).unwrap();
        Self { minimum_amount, ..self }
    }
}

/// A line as a person would write it down.
fn written(line: &Line) -> String {
    let step = match line.step {
        Step::Usage => "usage".to_owned(),
        Step::Tier(number) => format!("tier {number}"),
        Step::Minimum => "minimum".to_owned(),
    };
    format!("{step}: {} x {} + {} = {}", line.quantity, line.unit_price, line.flat_amount, line.amount)
}

/// What a quantity costs after so much of it, and how that comes about.
fn check(terms: &Terms, before: &str, more: &str, amount: &str, lines: &[&str]) {
    let increment = increment(terms, quantity(before), quantity(more)).unwrap();
    let written: Vec<_> = increment.lines.iter().map(written).collect();
    assert_eq!(
        (increment.amount.to_wire().as_str(), written),
        (amount, lines.iter().map(ToString::to_string).collect())
    );
}

/// What of a quantity is free, and what counts.
fn check_free(terms: &Terms, before: &str, more: &str, free: &str, billable: &str) {
    let increment = increment(terms, quantity(before), quantity(more)).unwrap();
    assert_eq!((increment.free, increment.billable), (quantity(free), quantity(billable)));
}

#[test]
fn nothing_costs_nothing() {
    let ranges = [("10", "1", "5"), ("", "2", "5")];
    for price in [flat("9"), per_unit("9"), package("9", "10"), graduated(&ranges), volume(&ranges)] {
        check(&price.clone().with_minimum("20"), "0", "0", "0", &[]);
        check(&price.with_minimum("20"), "15", "0", "0", &[]);
    }
}

#[test]
fn flat_is_charged_once_in_a_period_at_first_use() {
    check(&flat("9.5"), "0", "0.00000001", "9.5", &["usage: 1 x 9.5 + 0 = 9.5"]);
    check(&flat("9.5"), "0", "1000", "9.5", &["usage: 1 x 9.5 + 0 = 9.5"]);
    check(&flat("9.5"), "0.00000001", "1000", "0", &[]);
    // What is free is no use yet.
    check(&flat("9.5").with_free("10"), "0", "10", "0", &[]);
    check(&flat("9.5").with_free("10"), "10", "0.5", "9.5", &["usage: 1 x 9.5 + 0 = 9.5"]);
}

#[test]
fn per_unit_is_charged_for_each() {
    check(&per_unit("0.25"), "0", "3", "0.75", &["usage: 3 x 0.25 + 0 = 0.75"]);
    check(&per_unit("0.25"), "7", "0.5", "0.13", &["usage: 0.5 x 0.25 + 0 = 0.125"]);
    check(&per_unit("0"), "0", "3", "0", &["usage: 3 x 0 + 0 = 0"]);
}

#[test]
fn a_package_is_charged_when_it_is_started() {
    check(&package("2", "100"), "0", "0.1", "2", &["usage: 1 x 2 + 0 = 2"]);
    check(&package("2", "100"), "0.1", "99.9", "0", &[]);
    check(&package("2", "100"), "100", "0.00000001", "2", &["usage: 1 x 2 + 0 = 2"]);
    check(&package("2", "100"), "50", "151", "4", &["usage: 2 x 2 + 0 = 4"]);
    // Packages hold what is billable: the free quantity fills none.
    check(&package("2", "100").with_free("50"), "0", "150", "2", &["usage: 1 x 2 + 0 = 2"]);
}

#[test]
fn graduated_tiers_price_what_falls_into_them_their_ends_included() {
    let ladder = graduated(&[("10", "1", "0"), ("20", "0.5", "3"), ("", "0.1", "0")]);
    check(&ladder, "0", "10", "10", &["tier 1: 10 x 1 + 0 = 10"]);
    let second = ["tier 1: 10 x 1 + 0 = 10", "tier 2: 0.5 x 0.5 + 3 = 3.25"];
    check(&ladder, "0", "10.5", "13.25", &second);
    check(&ladder, "10", "10", "8", &["tier 2: 10 x 0.5 + 3 = 8"]);
    // Its flat amount comes once, when the tier is reached.
    check(&ladder, "11", "5", "2.5", &["tier 2: 5 x 0.5 + 0 = 2.5"]);
    let all = ["tier 1: 1 x 1 + 0 = 1", "tier 2: 10 x 0.5 + 3 = 8", "tier 3: 5 x 0.1 + 0 = 0.5"];
    check(&ladder, "9", "16", "9.5", &all);
    check(&graduated(&[("", "2", "1")]), "0", "3", "7", &["tier 1: 3 x 2 + 1 = 7"]);
}

#[test]
fn the_volume_tier_that_is_reached_prices_all_of_it_and_gives_back_what_was_too_much() {
    let falling = volume(&[("10", "1", "0"), ("", "0.5", "2")]);
    check(&falling, "0", "10", "10", &["tier 1: 10 x 1 + 0 = 10"]);
    check(&falling, "0", "11", "7.5", &["tier 2: 11 x 0.5 + 2 = 7.5"]);
    let credited = ["tier 1: -10 x 1 + 0 = -10", "tier 2: 11 x 0.5 + 2 = 7.5"];
    check(&falling, "10", "1", "-2.5", &credited);
    check(&falling, "11", "1", "0.5", &["tier 2: 1 x 0.5 + 0 = 0.5"]);
    let rising = volume(&[("10", "1", "1"), ("", "2", "0")]);
    check(&rising, "10", "1", "11", &["tier 1: -10 x 1 + -1 = -11", "tier 2: 11 x 2 + 0 = 22"]);
}

#[test]
fn the_free_quantity_comes_off_first_and_tiers_count_what_is_left() {
    let ladder = graduated(&[("10", "1", "0"), ("", "0.5", "0")]).with_free("5");
    check(&ladder, "0", "5", "0", &[]);
    check(&ladder, "3", "4", "2", &["tier 1: 2 x 1 + 0 = 2"]);
    check(&ladder, "0", "15", "10", &["tier 1: 10 x 1 + 0 = 10"]);
    check(&ladder, "0", "16", "10.5", &["tier 1: 10 x 1 + 0 = 10", "tier 2: 1 x 0.5 + 0 = 0.5"]);
    check_free(&ladder, "0", "3", "3", "0");
    check_free(&ladder, "3", "4", "2", "2");
    check_free(&ladder, "5", "4", "0", "4");
    check_free(&ladder, "0", "100", "5", "95");
}

#[test]
fn the_minimum_is_filled_up_as_soon_as_anything_billable_was_used_and_then_used_up() {
    let least = per_unit("1").with_minimum("5").with_free("2");
    check(&least, "0", "2", "0", &[]);
    check(&least, "2", "1", "5", &["usage: 1 x 1 + 0 = 1", "minimum: 0 x 0 + 4 = 4"]);
    check(&least, "3", "3", "0", &["usage: 3 x 1 + 0 = 3", "minimum: 0 x 0 + -3 = -3"]);
    check(&least, "6", "3", "2", &["usage: 3 x 1 + 0 = 3", "minimum: 0 x 0 + -1 = -1"]);
    check(&least, "0", "7", "5", &["usage: 5 x 1 + 0 = 5"]);
    check(&least, "9", "1", "1", &["usage: 1 x 1 + 0 = 1"]);
}

#[test]
fn totals_are_rounded_half_up_and_never_their_parts() {
    let thirds = per_unit("0.005");
    check(&thirds, "0", "0.99999999", "0", &["usage: 0.99999999 x 0.005 + 0 = 0.00499999995"]);
    check(&thirds, "0", "1", "0.01", &["usage: 1 x 0.005 + 0 = 0.005"]);
    // 0.005 was a cent already; 0.010 is that cent.
    check(&thirds, "1", "1", "0", &["usage: 1 x 0.005 + 0 = 0.005"]);
    check(&thirds, "2", "1", "0.01", &["usage: 1 x 0.005 + 0 = 0.005"]);
    check(&terms("JPY", Model::PerUnit { unit_price: price("0.5") }), "0", "1", "1", &["usage: 1 x 0.5 + 0 = 0.5"]);
    let fine = terms("USDC", Model::PerUnit { unit_price: price("0.000000000001") });
    check(&fine, "0", "50000", "0.0000001", &["usage: 50000 x 0.000000000001 + 0 = 0.00000005"]);
    check(&fine, "0", "49999", "0", &["usage: 49999 x 0.000000000001 + 0 = 0.000000049999"]);
}

#[test]
fn the_amount_follows_from_the_lines_and_the_cost_before() {
    let increment = increment(&per_unit("0.003"), quantity("3"), quantity("2")).unwrap();
    assert_eq!((increment.before, increment.cost_before.to_string().as_str()), (quantity("3"), "0.009"));
    // 0.009 + 0.006 = 0.015 is rounded to 0.02, and 0.009 to 0.01.
    assert_eq!(
        (increment.lines[0].amount.to_string().as_str(), increment.amount.to_wire().as_str()),
        ("0.006", "0.01")
    );
}

#[test]
fn a_million_records_of_one_cost_exactly_what_one_of_a_million_does() {
    let tiny = graduated(&[("250000", "0.000000033333", "0"), ("", "0.0000000101", "0.01")]);
    let terms = tiny.with_free("1000").with_minimum("0.02");
    let (mut total, mut sum) = (Quantity::ZERO, Amount::zero(terms.currency));
    for _ in 0..1_000_000 {
        sum = sum.plus(increment(&terms, total, Quantity::ONE).unwrap().amount).unwrap();
        total = total.plus(Quantity::ONE).unwrap();
    }
    // 250,000 x 0.000000033333 + 749,000 x 0.0000000101 + 0.01 = 0.02589815
    assert_eq!((total, sum.to_wire().as_str()), (quantity("1000000"), "0.03"));
    assert_eq!(increment(&terms, Quantity::ZERO, total).unwrap().amount, sum);
}

#[test]
fn what_is_more_than_can_be_kept_is_refused_and_never_wraps() {
    let refused = |terms: &Terms, before, more| increment(terms, quantity(before), quantity(more)).is_none();
    let most = "999999999999999.99999999";
    assert!(refused(&per_unit("99999999999.999999999999"), "0", most));
    assert!(refused(&per_unit("0"), most, "0.00000001"), "the total is more than a quantity");
    assert!(!refused(&per_unit("0"), "0", most));
    assert!(refused(&package("1", "0.00000001"), "0", most), "so many packages are more than a quantity");
    // 922337203685.4775807 USDC is all that 64 bits hold.
    let usdc = terms("USDC", Model::PerUnit { unit_price: price("0.0000001") });
    assert!(!refused(&usdc, "0", most));
    let usdc = terms("USDC", Model::PerUnit { unit_price: price("0.001") });
    assert!(!refused(&usdc, "0", "922337203685477.5807"));
    assert!(refused(&usdc, "0", "922337203685477.58075"));
    assert!(refused(&usdc, "922337203685477", "1"));
}

#[test]
fn a_price_is_claimed_by_what_it_means() {
    let draft = |terms: Terms, effective_time| Draft {
        request_id: Some(RequestId::parse("set-1").unwrap()),
        product_id: Slug::parse("chat").unwrap(),
        terms,
        effective_time,
    };
    let claim = |terms, time| format!("{:?}", draft(terms, time).claim(&Tenant::default_tenant()));
    let one = || graduated(&[("10", "1", "0"), ("", "0.5", "2")]);
    assert_eq!(claim(one(), None), claim(graduated(&[("10.0", "1.0", "0.00"), ("", "0.50", "2")]), None));
    let others = [
        graduated(&[("11", "1", "0"), ("", "0.5", "2")]),
        graduated(&[("10", "1", "0"), ("", "0.5", "1")]),
        volume(&[("10", "1", "0"), ("", "0.5", "2")]),
        one().with_free("1"),
        one().with_minimum("1"),
        terms("EUR", one().model),
        graduated(&[]),
    ];
    for other in others {
        assert_ne!(claim(one(), None), claim(other, None));
    }
    assert_ne!(claim(one(), None), claim(one(), Some(Time::from_micros(1))));
}
