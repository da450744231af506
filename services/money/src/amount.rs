//! So much of a currency, counted in whole minor units.

#[cfg(test)]
mod tests;

use std::{fmt, iter};

use serde::{Deserialize, Serialize};

use crate::{Currency, Fault, text};

/// So much of one currency, exactly. Negative only by [`Amount::minus`], [`Amount::negated`] and [`Amount::from_minor`].
///
/// There is no order between amounts: `<` would have to answer for two currencies. Ask [`Amount::covers`].
///
/// As JSON it is what is stored, `{"currency":"USDC","minor":123}`; on the wire it is [`Amount::to_wire`] beside a
/// currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Amount {
    currency: Currency,
    minor: i64,
}

impl Amount {
    /// An amount of minor units: 1 is 0.0000001 USDC, one cent of USD, one JPY.
    pub const fn from_minor(currency: Currency, minor: i64) -> Self {
        Self { currency, minor }
    }

    /// Nothing, in that currency.
    pub const fn zero(currency: Currency) -> Self {
        Self::from_minor(currency, 0)
    }

    /// Reads a decimal such as `12`, `0.01` or `007.50`: zero or more, `digits` or `digits.digits` in ASCII.
    ///
    /// Refused with the first that applies: [`Fault::Empty`]; [`Fault::TooLong`] beyond 64 bytes; [`Fault::NotDecimal`]
    /// for signs, exponents, spaces, separators, `.5`, `5.`; [`Fault::TooPrecise`] beyond the currency's digits, even by
    /// zeros; [`Fault::TooLarge`] beyond `i64::MAX` minor units. Nothing is ever rounded.
    pub fn parse(currency: Currency, text: &str) -> Result<Self, Fault> {
        let (whole, fraction) = text::split(text)?;
        let Some(missing) = currency.fraction_digits().checked_sub(fraction.len()) else {
            return Err(Fault::TooPrecise { digits: fraction.len(), currency });
        };
        let digits = whole.bytes().chain(fraction.bytes()).chain(iter::repeat_n(b'0', missing));
        match minor_of(digits) {
            Some(minor) => Ok(Self { currency, minor }),
            None => Err(Fault::TooLarge { largest: Self::from_minor(currency, i64::MAX) }),
        }
    }

    /// [`Amount::parse`], and zero is refused too, with [`Fault::NotPositive`].
    pub fn parse_positive(currency: Currency, text: &str) -> Result<Self, Fault> {
        let amount = Self::parse(currency, text)?;
        if amount.is_positive() { Ok(amount) } else { Err(Fault::NotPositive) }
    }

    /// How many minor units.
    pub const fn minor(self) -> i64 {
        self.minor
    }

    /// Of what.
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The sum, or `None` beyond 64 bits or with another currency.
    #[must_use = "an amount never changes: the sum is the answer"]
    pub fn plus(self, other: Self) -> Option<Self> {
        let minor = self.in_same_currency(other)?.checked_add(other.minor)?;
        Some(Self { minor, ..self })
    }

    /// The difference, which may be negative, or `None` beyond 64 bits or with another currency.
    #[must_use = "an amount never changes: the difference is the answer"]
    pub fn minus(self, other: Self) -> Option<Self> {
        let minor = self.in_same_currency(other)?.checked_sub(other.minor)?;
        Some(Self { minor, ..self })
    }

    /// The same with the other sign, or `None` for the one amount that has no opposite, `i64::MIN`.
    #[must_use = "an amount never changes: the opposite is the answer"]
    pub fn negated(self) -> Option<Self> {
        Some(Self { minor: self.minor.checked_neg()?, ..self })
    }

    /// More than zero.
    pub const fn is_positive(self) -> bool {
        self.minor > 0
    }

    /// Less than zero.
    pub const fn is_negative(self) -> bool {
        self.minor < 0
    }

    /// Exactly nothing.
    pub const fn is_zero(self) -> bool {
        self.minor == 0
    }

    /// Whether `other` could be taken from this without going below zero: the same currency, and at least as much.
    pub fn covers(self, other: Self) -> bool {
        self.in_same_currency(other).is_some_and(|minor| minor >= other.minor)
    }

    /// The decimal as the wire has it, such as `0.1`: what [`fmt::Display`] prints, without the currency.
    pub fn to_wire(self) -> String {
        self.to_string()
    }

    /// Our minor units, if they may be compared with the other's.
    fn in_same_currency(self, other: Self) -> Option<i64> {
        (self.currency == other.currency).then_some(self.minor)
    }
}

impl fmt::Display for Amount {
    /// The one decimal that stands for this amount: no trailing zeros, a digit before the point, `-` when below zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimal = text::print(u128::from(self.minor.unsigned_abs()), self.currency.fraction_digits());
        f.pad_integral(!self.is_negative(), "", &decimal)
    }
}

/// The number that ASCII digits stand for, or `None` beyond 64 bits.
fn minor_of(mut digits: impl Iterator<Item = u8>) -> Option<i64> {
    digits.try_fold(0_i64, |minor, digit| minor.checked_mul(10)?.checked_add(i64::from(digit.checked_sub(b'0')?)))
}
