//! What holds for every exact decimal: printing, reading, multiplying and rounding, against pencil and paper.
// A test may stop where it stands.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use money::{Amount, Cost, Currency, Quantity, UnitPrice};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// Tries a property on so many that decimals of every size are met.
fn holds<S: Strategy>(strategy: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    // A failure prints its smallest case; no file of seeds is left in the tree.
    let config = Config { cases: 10_000, failure_persistence: None, ..Config::default() };
    if let Err(failure) = TestRunner::new(config).run(strategy, property) {
        panic!("{failure}");
    }
}

/// Units of a decimal of up to this many digits: as many small as large ones.
fn units(digits: u32) -> impl Strategy<Value = i128> {
    (0..10_i128.pow(digits), 0..digits).prop_map(|(units, cut)| units / 10_i128.pow(cut))
}

/// So many units, as a decimal with this many fraction digits.
fn decimal(units: i128, digits: usize) -> String {
    let text = format!("{units:0>width$}", width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    format!("{whole}.{fraction}")
}

/// Multiplies as one does on paper: digit by digit, the last one first.
fn product_on_paper(left: &str, right: &str) -> String {
    let digits = |text: &str| text.bytes().rev().map(|digit| u32::from(digit - b'0')).collect::<Vec<_>>();
    let (left, right) = (digits(left), digits(right));
    let mut columns = vec![0_u32; left.len() + right.len()];
    for (i, a) in left.iter().enumerate() {
        for (j, b) in right.iter().enumerate() {
            columns[i + j] += a * b;
        }
    }
    let mut carry = 0;
    for column in &mut columns {
        carry += *column;
        *column = carry % 10;
        carry /= 10;
    }
    columns.iter().rev().map(ToString::to_string).collect()
}

#[test]
fn what_is_printed_reads_back_as_the_same_decimal() {
    holds(&units(23), |units| {
        let long = decimal(units, 8);
        let quantity = Quantity::parse(&long).unwrap();
        let text = quantity.to_string();
        prop_assert_eq!(Quantity::parse(&text), Ok(quantity));
        prop_assert_eq!(
            long.trim_start_matches('0').trim_end_matches('0').trim_end_matches('.'),
            text.trim_start_matches('0')
        );
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, "1"));
        prop_assert!(whole == "0" || !whole.starts_with('0'), "{text}");
        prop_assert!(!fraction.ends_with('0'), "{text}");
        Ok(())
    });
}

#[test]
fn a_product_is_what_paper_says_or_nothing() {
    holds(&(units(23), units(23)), |(count, each)| {
        let product = product_on_paper(&count.to_string(), &each.to_string());
        let product = format!("{:0>21}", product.trim_start_matches('0'));
        let (whole, fraction) = product.split_at(product.len() - 20);
        // Paper goes on where a cost ends.
        let expected = Cost::parse(&format!("{whole}.{fraction}")).ok();
        prop_assert_eq!(expected.is_some(), product.len() <= 38);
        let quantity = Quantity::parse(&decimal(count, 8)).unwrap();
        prop_assert_eq!(quantity.at(UnitPrice::parse(&decimal(each, 12)).unwrap()), expected);
        Ok(())
    });
}

#[test]
fn a_cost_is_rounded_by_the_first_digit_that_is_cut_off() {
    let scales = prop::sample::select(vec![("JPY", 0), ("USD", 2), ("KWD", 3), ("CLF", 4), ("USDC", 7)]);
    holds(&(units(38), scales), |(units, (code, scale))| {
        let text = format!("{units:0>39}");
        let (kept, cut) = text.split_at(39 - 20 + scale);
        let up = i128::from(cut.as_bytes()[0] >= b'5');
        let minor = i64::try_from(kept.parse::<i128>().unwrap() + up).ok();
        let cost = Cost::parse(&decimal(units, 20)).unwrap();
        prop_assert_eq!(cost.round(Currency::parse(code).unwrap()).map(Amount::minor), minor);
        Ok(())
    });
}
