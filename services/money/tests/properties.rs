//! What holds for every amount, tried on a million of them: printing, reading, refusing and adding.
// A test may stop where it stands.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Debug;

use money::{Amount, Currency, Fault};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// Draws for each of the four drawn properties. Each draw is tried in all five scales, and with the 111,111 texts of
/// [`ALPHABET`] that makes a million amounts (money.md, section I). Drawing is what takes the time: with a draw for each
/// amount a debug build needs 16 s.
const DRAWS: u32 = 45_000;

/// What every short text is spelt of: digits, the point, and a few that have no business in an amount.
const ALPHABET: [char; 10] = ['0', '1', '9', '.', '-', '+', 'e', ' ', ',', '\u{661}'];

/// Neither an ASCII digit nor the point: its neighbours in ASCII, what other notations use, and look-alikes.
const STRANGERS: [char; 22] = [
    '/', ':', '-', '+', ' ', ',', '_', '\'', 'e', 'E', 'x', 'a', '%', '\t', '\n', '\0', '½', '\u{a0}', '\u{661}',
    '\u{ff11}', '\u{ff0e}', '\u{200b}',
];

/// A way to spoil a good decimal.
#[derive(Clone, Copy, Debug)]
enum Spoil {
    Stranger,
    LeadingPoint,
    TrailingPoint,
    TwoPoints,
    TooPrecise,
    TooLarge,
    TooLong,
}

/// The property holds for whatever is drawn, in a currency of each scale there is: 0, 2, 3, 4 and 7 digits.
fn holds<S>(strategy: &S, property: impl Fn(Currency, S::Value) -> Result<(), TestCaseError>)
where
    S: Strategy<Value: Clone + Debug>,
{
    let currencies = ["JPY", "USD", "KWD", "CLF", "USDC"].map(|code| Currency::parse(code).unwrap());
    // A failure prints its smallest case; no file of seeds is left in the tree.
    let config = Config { cases: DRAWS, failure_persistence: None, ..Config::default() };
    let in_each_scale = |drawn: S::Value| currencies.iter().try_for_each(|of| property(*of, drawn.clone()));
    if let Err(failure) = TestRunner::new(config).run(strategy, in_each_scale) {
        panic!("{failure}");
    }
}

/// Minor units of either sign: as many small as large ones, round ones, and the edges.
fn minor() -> impl Strategy<Value = i64> {
    let round = |(bits, shift, zeros): (i64, u32, u32)| {
        let minor = bits >> shift;
        minor - minor % 10_i64.pow(zeros)
    };
    prop_oneof![
        19 => (any::<i64>(), 0_u32..64, 0_u32..10).prop_map(round),
        1 => select(vec![i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX]),
    ]
}

/// Minor units that can be sent: zero or more.
fn sent() -> impl Strategy<Value = i64> {
    minor().prop_map(|minor| minor.checked_abs().unwrap_or(i64::MAX))
}

/// What a text means, written once more and the slow way.
fn meaning(currency: Currency, text: &str) -> Result<Amount, Fault> {
    let scale = usize::try_from(currency.scale()).unwrap();
    let parts: Vec<&str> = text.split('.').collect();
    let (whole, fraction) = match parts.as_slice() {
        [""] => return Err(Fault::Empty),
        [whole] => (*whole, "0"),
        [whole, fraction] => (*whole, *fraction),
        _ => return Err(Fault::NotDecimal),
    };
    let is_digits = |part: &str| !part.is_empty() && part.chars().all(|letter| "0123456789".contains(letter));
    if !is_digits(whole) || !is_digits(fraction) {
        return Err(Fault::NotDecimal);
    }
    if parts.len() == 2 && fraction.len() > scale {
        return Err(Fault::TooPrecise { digits: fraction.len(), currency });
    }
    let fraction = if scale == 0 { "" } else { fraction };
    let minor: i128 = format!("{whole}{fraction:0<scale$}").parse().unwrap();
    let largest = Amount::from_minor(currency, i64::MAX);
    i64::try_from(minor).map(|minor| Amount::from_minor(currency, minor)).map_err(|_| Fault::TooLarge { largest })
}

/// The good decimal `amount`, spoilt, and what must be said about it.
fn spoilt(amount: Amount, spoil: Spoil, at: usize, stranger: char) -> (String, Fault) {
    let (currency, mut text) = (amount.currency(), amount.to_wire());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    match spoil {
        Spoil::Stranger => {
            text.insert(at % (text.len() + 1), stranger);
            (text, Fault::NotDecimal)
        }
        Spoil::LeadingPoint => (format!(".{text}"), Fault::NotDecimal),
        Spoil::TrailingPoint => (format!("{text}."), Fault::NotDecimal),
        Spoil::TwoPoints => (format!("{whole}.{fraction}0.{at}"), Fault::NotDecimal),
        Spoil::TooPrecise => {
            let digits = usize::try_from(currency.scale()).unwrap() + 1 + at % 9;
            (format!("{whole}.{fraction:0<digits$}"), Fault::TooPrecise { digits, currency })
        }
        Spoil::TooLarge => {
            let largest = Amount::from_minor(currency, i64::MAX);
            // 19 digits and a digit before them are beyond 64 bits in every scale.
            (format!("{}{whole:0>19}", 1 + at % 9), Fault::TooLarge { largest })
        }
        Spoil::TooLong => {
            let bytes = 65 + at;
            (format!("{text:0>bytes$}"), Fault::TooLong { bytes, limit: 64 })
        }
    }
}

#[test]
fn what_is_printed_reads_back_as_the_same_amount() {
    holds(&sent(), |currency, minor| {
        let amount = Amount::from_minor(currency, minor);
        let text = amount.to_wire();
        prop_assert_eq!(Amount::parse(currency, &text), Ok(amount));
        prop_assert_eq!(meaning(currency, &text), Ok(amount));
        // Its one form: nothing that could be left out.
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, "1"));
        prop_assert!(whole == "0" || !whole.starts_with('0'), "{text}");
        prop_assert!(!fraction.ends_with('0'), "{text}");
        let opposite = amount.negated().unwrap().to_wire();
        prop_assert_eq!(opposite, if amount.is_zero() { text } else { format!("-{text}") });
        Ok(())
    });
}

#[test]
fn a_decimal_means_what_it_says_however_it_is_written() {
    // Up to 20 digits, then up to 24 with leading zeros; and up to nine fraction digits, or no point.
    let whole = (any::<u64>(), 0_u32..64, 0_usize..24);
    let fraction = prop::option::of((0_u32..1_000_000_000, 1_usize..10));
    holds(&(whole, fraction), |currency, ((bits, shift, width), fraction)| {
        let mut text = format!("{:0>width$}", bits >> shift);
        if let Some((digits, width)) = fraction {
            text = format!("{text}.{:0>width$}", digits % 10_u32.pow(u32::try_from(width).unwrap()));
        }
        let expected = meaning(currency, &text);
        prop_assert_eq!(&Amount::parse(currency, &text), &expected, "{}", text);
        let expected = expected.and_then(|amount| if amount.is_zero() { Err(Fault::NotPositive) } else { Ok(amount) });
        prop_assert_eq!(Amount::parse_positive(currency, &text), expected, "{}", text);
        Ok(())
    });
}

#[test]
fn every_bad_form_is_refused_and_says_why() {
    let spoil = select(vec![
        Spoil::Stranger,
        Spoil::Stranger,
        Spoil::Stranger,
        Spoil::LeadingPoint,
        Spoil::TrailingPoint,
        Spoil::TwoPoints,
        Spoil::TooPrecise,
        Spoil::TooLarge,
        Spoil::TooLong,
    ]);
    let stranger = select(STRANGERS.to_vec());
    holds(&(sent(), spoil, 0_usize..100, stranger), |currency, (minor, spoil, at, stranger)| {
        let (text, fault) = spoilt(Amount::from_minor(currency, minor), spoil, at, stranger);
        prop_assert_eq!(Amount::parse_positive(currency, &text), Err(fault.clone()), "{}", text);
        prop_assert_eq!(Amount::parse(currency, &text), Err(fault), "{}", text);
        Ok(())
    });
}

#[test]
fn every_text_of_up_to_five_letters_is_read_or_refused_as_the_grammar_says() {
    let mut texts = vec![String::new()];
    let mut of_one_length = texts.clone();
    for _ in 0..5 {
        of_one_length =
            of_one_length.iter().flat_map(|text| ALPHABET.map(|letter| format!("{text}{letter}"))).collect();
        texts.extend_from_slice(&of_one_length);
    }
    assert_eq!(texts.len(), 111_111);
    let usd = Currency::parse("USD").unwrap();
    for text in &texts {
        assert_eq!(Amount::parse(usd, text), meaning(usd, text), "{text:?}");
    }
}

#[test]
fn sums_agree_with_wider_integers_or_are_refused() {
    holds(&(minor(), minor()), |currency, (left, right)| {
        let (a, b) = (Amount::from_minor(currency, left), Amount::from_minor(currency, right));
        let (wide_left, wide_right) = (i128::from(left), i128::from(right));
        let exact = |wide: i128| i64::try_from(wide).ok().map(|minor| Amount::from_minor(currency, minor));
        prop_assert_eq!(a.plus(b), exact(wide_left + wide_right));
        prop_assert_eq!(a.minus(b), exact(wide_left - wide_right));
        prop_assert_eq!(a.negated(), exact(-wide_left));
        prop_assert_eq!(a.covers(b), wide_left >= wide_right);
        let foreign = Amount::from_minor(Currency::EURC, right);
        prop_assert_eq!((a.plus(foreign), a.minus(foreign), a.covers(foreign)), (None, None, false));
        Ok(())
    });
}
