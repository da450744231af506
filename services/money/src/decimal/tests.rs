//! The manual of exact decimals, as tables.

use super::*;

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap()
}

fn price(text: &str) -> UnitPrice {
    UnitPrice::parse(text).unwrap()
}

/// What reading a quantity and printing it again gives, or why it is refused.
fn check(text: &str, expected: &str) {
    let got = Quantity::parse(text).map_or_else(|fault| fault.to_string(), |quantity| quantity.to_string());
    assert_eq!(got, expected, "{text:?}");
}

#[test]
fn a_decimal_is_kept_exactly_and_printed_in_its_one_form() {
    check("0.10", "0.1");
    check("0", "0");
    check("0.00000000", "0");
    check("0.00000001", "0.00000001");
    check("007.50", "7.5");
    check("100", "100");
    check("999999999999999.99999999", "999999999999999.99999999");
    assert_eq!(price("0.000000000001").to_string(), "0.000000000001");
    assert_eq!(price("99999999999.999999999999").to_string(), "99999999999.999999999999");
    let negative = quantity("1").minus(quantity("3.5")).unwrap();
    assert_eq!(format!("{negative}|{negative:>6}|"), "-2.5|  -2.5|");
}

#[test]
fn what_is_no_plain_decimal_or_does_not_fit_is_refused() {
    let form = "must be a plain decimal such as 12.50: digits and one point, no sign, exponent or spaces";
    for text in [".5", "5.", ".", "1.2.3", "+1", "-1", "-0", "1e3", " 1", "1 ", "1,5", "1_000", "NaN", "١", "1\0", "½"]
    {
        check(text, form);
    }
    check("", "is empty: a decimal such as 0.01 is needed");
    check(&"0".repeat(65), "is 65 bytes long, a decimal has at most 64");
    check("0.000000001", "has 9 fraction digits, at most 8 are kept");
    check("0.100000000", "has 9 fraction digits, at most 8 are kept");
    check("1000000000000000", "has 16 digits before its point, at most 15 are kept");
    check("0001000000000000000.1", "has 16 digits before its point, at most 15 are kept");
    check(&"9".repeat(64), "has 64 digits before its point, at most 15 are kept");
    let of_price = |text| UnitPrice::parse(text).unwrap_err().to_string();
    assert_eq!(of_price("0.0000000000001"), "has 13 fraction digits, at most 12 are kept");
    assert_eq!(of_price("100000000000"), "has 12 digits before its point, at most 11 are kept");
    let positive = |text| Quantity::parse_positive(text).map(|quantity| quantity.to_string());
    assert_eq!(positive("0.00000001").as_deref(), Ok("0.00000001"));
    assert_eq!(positive("0.0"), Err(Fault::NotPositive));
}

#[test]
fn sums_are_exact_or_nothing() {
    let (least, largest) = (quantity("0.00000001"), quantity("999999999999999.99999999"));
    assert_eq!(largest.plus(least), None);
    assert_eq!(largest.minus(least), Some(quantity("999999999999999.99999998")));
    let lowest = Quantity::ZERO.minus(largest).unwrap();
    assert_eq!((lowest.minus(least), lowest.plus(largest)), (None, Some(Quantity::ZERO)));
}

#[test]
fn a_quantity_at_a_price_costs_what_a_person_with_a_pencil_says() {
    let check = |count, each, expected: Option<&str>| {
        let cost = quantity(count).at(price(each)).map(|cost| cost.to_string());
        assert_eq!(cost.as_deref(), expected, "{count} at {each}");
    };
    check("3", "0.1", Some("0.3"));
    check("0.00000001", "0.000000000001", Some("0.00000000000000000001"));
    check("999999999999999.99999999", "0", Some("0"));
    check("999999999999999.99999999", "999.999999999999", Some("999999999999998999.99999000000000000001"));
    check("999999999999999.99999999", "1001", None);
    check("999999999999999.99999999", "99999999999.999999999999", None);
}

#[test]
fn packages_are_counted_by_the_one_that_was_started() {
    let check = |count, size, expected: Option<&str>| {
        let packages = quantity(count).packages(quantity(size)).map(|packages| packages.to_string());
        assert_eq!(packages.as_deref(), expected, "{count} by {size}");
    };
    check("0", "100", Some("0"));
    check("0.00000001", "100", Some("1"));
    check("100", "100", Some("1"));
    check("100.00000001", "100", Some("2"));
    check("1", "0.3", Some("4"));
    check("9999999.99999999", "0.00000001", Some("999999999999999"));
    check("10000000", "0.00000001", None);
    check("1", "0", None);
}

#[test]
fn a_cost_is_rounded_half_up_to_the_minor_unit() {
    let check = |code, cost: &str, expected: Option<&str>| {
        // As a record has it: there it may be negative.
        let exact: Cost = serde_json::from_str(&format!("{cost:?}")).unwrap();
        let amount = exact.round(Currency::parse(code).unwrap()).map(Amount::to_wire);
        assert_eq!(amount.as_deref(), expected, "{cost} {code}");
    };
    check("JPY", "0.49999999999999999999", Some("0"));
    check("JPY", "0.5", Some("1"));
    check("JPY", "1.5", Some("2"));
    check("JPY", "-0.5", Some("0"));
    check("JPY", "-0.50000000000000000001", Some("-1"));
    check("USD", "0.005", Some("0.01"));
    check("USD", "0.00499999999999999999", Some("0"));
    check("USDC", "0.00000005", Some("0.0000001"));
    check("USDC", "922337203685.47758074999999999999", Some("922337203685.4775807"));
    check("USDC", "922337203685.47758075", None);
    check("JPY", "999999999999999999.99999999999999999999", Some("1000000000000000000"));
}

#[test]
fn an_amount_is_a_cost_as_it_stands() {
    let check = |code, text, expected: Option<&str>| {
        let amount = Amount::parse(Currency::parse(code).unwrap(), text).unwrap();
        assert_eq!(Cost::of(amount).map(|cost| cost.to_string()).as_deref(), expected, "{text} {code}");
    };
    check("USDC", "0.0000001", Some("0.0000001"));
    check("JPY", "999999999999999999", Some("999999999999999999"));
    check("JPY", "1000000000000000000", None);
}

#[test]
fn as_json_a_decimal_is_its_text_and_may_be_negative() {
    let negative = Quantity::ZERO.minus(quantity("2.5")).unwrap();
    assert_eq!(serde_json::to_string(&negative).unwrap(), r#""-2.5""#);
    assert_eq!(serde_json::from_str::<Quantity>(r#""-2.5""#).unwrap(), negative);
    assert_eq!(serde_json::from_str::<UnitPrice>(r#""0.25""#).unwrap(), price("0.25"));
    for damaged in ["2.5", r#""""#, r#""-""#, r#""--1""#, r#""1e3""#, r#""0.123456789""#, "null"] {
        assert!(serde_json::from_str::<Quantity>(damaged).is_err(), "{damaged}");
    }
}

#[test]
fn parts_of_quantities_add_up_to_the_parts_of_their_sum() {
    let quantity = |text: &str| Quantity::parse(text).unwrap();
    for text in ["0", "1", "0.00000001", "999999999999999.99999999", "12.5"] {
        let (whole, rest) = quantity(text).parts();
        assert_eq!(Quantity::from_parts(i128::from(whole), i128::from(rest)), Some(quantity(text)), "{text}");
        let less = Quantity::ZERO.minus(quantity(text)).unwrap();
        assert_eq!(less.parts(), (-whole, -rest), "{text}");
    }
    // A thousand of the largest, added up part by part.
    let (whole, rest) = quantity("999999999999999.99999999").parts();
    let sum = QuantitySum::from_parts(i128::from(whole) * 1_000, i128::from(rest) * 1_000).unwrap();
    assert_eq!(sum.to_string(), "999999999999999999.99999");
    assert_eq!(Quantity::from_parts(1_000_000_000_000_000, 0), None);
}
