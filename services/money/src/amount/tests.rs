//! The manual of amounts, as tables.

use super::*;

/// What reading a text and printing it again gives, or why it is refused.
fn check(currency: &str, text: &str, expected: &str) {
    let amount = Currency::parse(currency).and_then(|currency| Amount::parse(currency, text));
    let got = amount.map_or_else(|fault| fault.to_string(), Amount::to_wire);
    assert_eq!(got, expected, "{currency} {text:?}");
}

/// What so many minor units are printed as.
fn check_printed(currency: &str, minor: i64, expected: &str) {
    let amount = Currency::parse(currency).map(|currency| Amount::from_minor(currency, minor));
    assert_eq!(amount.map(Amount::to_wire).as_deref(), Ok(expected), "{currency} {minor}");
}

fn usdc(minor: i64) -> Amount {
    Amount::from_minor(Currency::USDC, minor)
}

fn eurc(minor: i64) -> Amount {
    Amount::from_minor(Currency::EURC, minor)
}

#[test]
fn a_decimal_is_kept_exactly_and_printed_in_its_one_form() {
    check("USDC", "0.10", "0.1");
    check("USDC", "12", "12");
    check("USDC", "12.0", "12");
    check("USDC", "0", "0");
    check("USDC", "0.0000000", "0");
    check("USDC", "0.0000001", "0.0000001");
    check("USDC", "007.50", "7.5");
    check("USDC", "100", "100");
    check("USDC", "123456789012.1234567", "123456789012.1234567");
    check("", "0.6", "0.6");
    check("JPY", "1200", "1200");
    check("USD", "0.05", "0.05");
    check("KWD", "1.005", "1.005");
    check("CLF", "0.0001", "0.0001");
}

#[test]
fn minor_units_are_printed_by_the_scale_of_their_currency() {
    check_printed("USDC", 123, "0.0000123");
    check_printed("USDC", -5_000_000, "-0.5");
    check_printed("USDC", -70_000_000, "-7");
    check_printed("USDC", 0, "0");
    check_printed("USDC", 1_000_000_000, "100");
    check_printed("USDC", i64::MAX, "922337203685.4775807");
    check_printed("USDC", i64::MIN, "-922337203685.4775808");
    check_printed("JPY", 100, "100");
    check_printed("JPY", 0, "0");
    check_printed("JPY", i64::MIN, "-9223372036854775808");
    check_printed("USD", 5, "0.05");
    check_printed("USD", -5, "-0.05");
    check_printed("USD", 10_000, "100");
}

#[test]
fn an_amount_can_be_printed_in_columns() {
    assert_eq!(format!("{:>8}|{:<6}|", usdc(-5_000_000), usdc(1_000_000)), "    -0.5|0.1   |");
}

#[test]
fn nothing_is_not_zero() {
    check("USDC", "", "is empty: a decimal such as 0.01 is needed");
}

#[test]
fn more_digits_than_the_currency_has_are_refused_even_when_they_are_zeros() {
    check("USDC", "0.00000001", "has 8 fraction digits, USDC has at most 7");
    check("USDC", "0.10000000", "has 8 fraction digits, USDC has at most 7");
    check("USD", "0.001", "has 3 fraction digits, USD has at most 2");
    check("USD", "1.000", "has 3 fraction digits, USD has at most 2");
    check("JPY", "1.0", "has 1 fraction digit, JPY has at most 0");
    check("JPY", "1.00", "has 2 fraction digits, JPY has at most 0");
}

#[test]
fn anything_but_a_plain_decimal_is_refused() {
    let texts = [
        ".5",
        "5.",
        ".",
        "..",
        "1.2.3",
        "1..2",
        "+1",
        "-1",
        "-0",
        "1-",
        "1e3",
        "1E3",
        "1e-3",
        " 1",
        "1 ",
        "1 000",
        "1,5",
        "1_000",
        "0x10",
        "1f",
        "NaN",
        "inf",
        "Infinity",
        "null",
        "USDC",
        "$1",
        "1 USDC",
        "1\n",
        "\t1",
        "1\0",
        "\0",
        "½",
        "\u{661}\u{662}",
        "\u{ff11}",
        "1\u{ff0e}5",
        "1\u{a0}",
        "\u{200b}1",
        "\u{feff}1",
        "\u{2212}1",
        "1.\u{665}",
    ];
    for text in texts {
        check("USDC", text, "must be a plain decimal such as 12.50: digits and one point, no sign, exponent or spaces");
    }
}

#[test]
fn the_largest_amount_is_the_last_of_64_bits() {
    check("USDC", "922337203685.4775807", "922337203685.4775807");
    check("USDC", "922337203685.4775808", "is beyond 922337203685.4775807 USDC, the largest amount kept");
    check("USDC", "922337203686", "is beyond 922337203685.4775807 USDC, the largest amount kept");
    check("JPY", "9223372036854775807", "9223372036854775807");
    check("JPY", "9223372036854775808", "is beyond 9223372036854775807 JPY, the largest amount kept");
    check("USD", "92233720368547758.08", "is beyond 92233720368547758.07 USD, the largest amount kept");
    check("USDC", &"9".repeat(64), "is beyond 922337203685.4775807 USDC, the largest amount kept");
}

#[test]
fn a_text_beyond_64_bytes_is_refused_unseen_and_never_repeated() {
    check("USDC", &format!("{}1", "0".repeat(63)), "1");
    check("USDC", &format!("{}1", "0".repeat(64)), "is 65 bytes long, a decimal has at most 64");
    check("USDC", &"secret ".repeat(100), "is 700 bytes long, a decimal has at most 64");
    // 33 characters of two bytes each.
    check("USDC", &"é".repeat(33), "is 66 bytes long, a decimal has at most 64");
}

#[test]
fn the_form_is_judged_before_the_precision_and_the_precision_before_the_size() {
    assert_eq!(Amount::parse(Currency::USDC, "-0.00000001"), Err(Fault::NotDecimal));
    assert_eq!(
        Amount::parse(Currency::USDC, "9999999999999.00000000"),
        Err(Fault::TooPrecise { digits: 8, currency: Currency::USDC })
    );
}

#[test]
fn zero_is_refused_where_something_must_move() {
    let positive = |text| Amount::parse_positive(Currency::USDC, text);
    assert_eq!(positive("0.0000001"), Ok(usdc(1)));
    assert_eq!(positive("0"), Err(Fault::NotPositive));
    assert_eq!(positive("0.000"), Err(Fault::NotPositive));
    assert_eq!(positive(""), Err(Fault::Empty));
    assert_eq!(Fault::NotPositive.to_string(), "must be greater than zero");
}

#[test]
fn sums_are_exact_or_nothing() {
    assert_eq!(usdc(6).plus(usdc(4)), Some(usdc(10)));
    assert_eq!(usdc(6).minus(usdc(4)), Some(usdc(2)));
    assert_eq!(usdc(4).minus(usdc(6)), Some(usdc(-2)));
    assert_eq!(usdc(i64::MAX).plus(usdc(1)), None);
    assert_eq!(usdc(i64::MIN).minus(usdc(1)), None);
    assert_eq!(usdc(0).minus(usdc(i64::MIN)), None);
    assert_eq!(usdc(5).negated(), Some(usdc(-5)));
    assert_eq!(usdc(i64::MIN).negated(), None);
}

#[test]
fn two_currencies_never_meet() {
    assert_eq!(usdc(6).plus(eurc(4)), None);
    assert_eq!(usdc(6).minus(eurc(4)), None);
    assert_eq!(usdc(0).plus(eurc(0)), None);
    assert!(!usdc(6).covers(eurc(4)));
    assert!(!usdc(0).covers(eurc(0)));
    assert_ne!(usdc(6), eurc(6));
}

#[test]
fn an_amount_covers_itself_and_less() {
    assert!(usdc(6).covers(usdc(6)));
    assert!(usdc(6).covers(usdc(5)));
    assert!(!usdc(6).covers(usdc(7)));
    assert!(usdc(0).covers(usdc(0)));
    assert!(!usdc(-1).covers(usdc(0)));
    assert!(usdc(i64::MAX).covers(usdc(i64::MIN)));
}

#[test]
fn an_amount_is_below_at_or_above_zero() {
    let signs = |amount: Amount| (amount.is_negative(), amount.is_zero(), amount.is_positive());
    assert_eq!(signs(usdc(-1)), (true, false, false));
    assert_eq!(signs(Amount::zero(Currency::USDC)), (false, true, false));
    assert_eq!(signs(usdc(1)), (false, false, true));
}

#[test]
fn as_json_it_is_a_currency_and_minor_units() {
    let json = r#"{"currency":"USDC","minor":-123}"#;
    assert_eq!(serde_json::to_string(&usdc(-123)).unwrap(), json);
    assert_eq!(serde_json::from_str::<Amount>(json).unwrap(), usdc(-123));
    assert_eq!(
        serde_json::from_str::<Amount>(r#"{"minor":9223372036854775807,"currency":"EURC"}"#).unwrap(),
        eurc(i64::MAX)
    );
}

#[test]
fn damaged_json_is_refused() {
    let damaged = [
        r#"{"currency":"USDC"}"#,
        r#"{"minor":1}"#,
        r#"{"currency":"","minor":1}"#,
        r#"{"currency":"usdc","minor":1}"#,
        r#"{"currency":"XXX","minor":1}"#,
        r#"{"currency":"USDC","minor":1.0}"#,
        r#"{"currency":"USDC","minor":1e3}"#,
        r#"{"currency":"USDC","minor":"1"}"#,
        r#"{"currency":"USDC","minor":null}"#,
        r#"{"currency":"USDC","minor":9223372036854775808}"#,
        r#"{"currency":"USDC","minor":1,"minor":2}"#,
    ];
    for json in damaged {
        assert!(serde_json::from_str::<Amount>(json).is_err(), "{json}");
    }
}
