//! Decimals as text, read and printed in this one place: `12`, `0.01`, `007.50`, and nothing cleverer.

use crate::Fault;

/// The longest text that is looked at. The longest number kept takes 39 bytes; the rest is room for leading zeros, and
/// the end of what a stranger can make us read.
const LIMIT_BYTES: usize = 64;

/// The digits of a decimal before and behind its point: zero or more, `digits` or `digits.digits` in ASCII.
///
/// Refused with the first that applies: [`Fault::Empty`]; [`Fault::TooLong`] beyond 64 bytes; [`Fault::NotDecimal`] for
/// signs, exponents, spaces, separators, `.5`, `5.`.
pub(crate) fn split(text: &str) -> Result<(&str, &str), Fault> {
    if text.is_empty() {
        return Err(Fault::Empty);
    }
    if text.len() > LIMIT_BYTES {
        return Err(Fault::TooLong { bytes: text.len(), limit: LIMIT_BYTES });
    }
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
        Some(_) => return Err(Fault::NotDecimal),
        None => (text, ""),
    };
    if is_digits(whole) { Ok((whole, fraction)) } else { Err(Fault::NotDecimal) }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The one decimal that stands for so many units, of which ten to the `fraction_digits` make a whole: no trailing
/// zeros, and a digit before the point.
pub(crate) fn print(units: u128, fraction_digits: usize) -> String {
    // At least one digit more than the fraction takes, so that 5 minor units of USD are "005" and then "0.05".
    let mut digits = format!("{units:0>width$}", width = fraction_digits.saturating_add(1));
    // The point goes in even where no digit follows: it keeps the zeros before it, then it goes too.
    digits.insert(digits.len().saturating_sub(fraction_digits), '.');
    let shortest = digits.trim_end_matches('0').trim_end_matches('.').len();
    digits.truncate(shortest);
    digits
}
