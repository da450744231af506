//! Why a text is not an amount, a currency or another decimal, told to whoever sent it.

use thiserror::Error;

use crate::{Amount, Currency};

/// Why a text was refused, in order of precedence.
///
/// A message continues the name of the field at fault ("amount has 8 fraction digits, USDC has at most 7") and never
/// repeats the text itself, which may be long, or hold what is not ours to log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Not an upper-case code that [`Currency::parse`] knows.
    #[error("is not a currency: an ISO 4217 code, USDC, EURC or XLM")]
    UnknownCurrency,

    /// Nothing was sent. Absence never means zero.
    #[error("is empty: a decimal such as 0.01 is needed")]
    Empty,

    /// Longer than any decimal has reason to be; its bytes were not looked at.
    #[error("is {bytes} bytes long, a decimal has at most {limit}")]
    TooLong {
        /// How long the text is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },

    /// Anything but `digits` or `digits.digits`, in ASCII.
    #[error("must be a plain decimal such as 12.50: digits and one point, no sign, exponent or spaces")]
    NotDecimal,

    /// More fraction digits than the currency has. Zeros count too: whoever sends them counts in other units than we do.
    #[error("has {digits} fraction digit{}, {currency} has at most {}", plural(*digits), currency.scale())]
    TooPrecise {
        /// How many digits follow the point.
        digits: usize,
        /// The currency whose scale they exceed.
        currency: Currency,
    },

    /// More fraction digits than a decimal of this kind has. Zeros count too.
    #[error("has {digits} fraction digit{}, at most {limit} are kept", plural(*digits))]
    TooFine {
        /// How many digits follow the point.
        digits: usize,
        /// How many may.
        limit: usize,
    },

    /// More digits before the point than a decimal of this kind has, leading zeros left out.
    #[error("has {digits} digits before its point, at most {limit} are kept")]
    TooBig {
        /// How many digits stand before the point.
        digits: usize,
        /// How many may.
        limit: usize,
    },

    /// More minor units than 64 bits hold.
    #[error("is beyond {largest} {}, the largest amount kept", largest.currency())]
    TooLarge {
        /// The largest amount of that currency.
        largest: Amount,
    },

    /// Zero, where something must move.
    #[error("must be greater than zero")]
    NotPositive,
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
