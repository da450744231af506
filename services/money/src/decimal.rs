//! Exact decimals of a bounded size: what an amount is computed from, before the one rounding.

#[cfg(test)]
mod tests;

use std::{fmt, iter};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Amount, Currency, Fault, text};

/// A decimal with at most `WHOLE` digits before its point and `FRACTION` behind it, exactly. Negative only by
/// [`Decimal::minus`] and what is computed with that.
///
/// Whatever is computed is exact too, or `None`: beyond `WHOLE` digits nothing is kept. As JSON it is what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal<const WHOLE: u32, const FRACTION: u32>(i128);

/// How much of something: tokens, requests, hours. Below 10^15, with at most 8 fraction digits.
pub type Quantity = Decimal<15, 8>;

/// The sum of many quantities: below 10^29, with as many fraction digits as each of them has.
pub type QuantitySum = Decimal<29, 8>;

/// What one of something costs, in whatever currency. Below 10^11, which is within an [`Amount`] of every currency,
/// with at most 12 fraction digits.
pub type UnitPrice = Decimal<11, 12>;

/// What a quantity costs, not rounded yet: below 10^18, with the 20 fraction digits that [`Quantity::at`] can need.
pub type Cost = Decimal<18, 20>;

impl<const WHOLE: u32, const FRACTION: u32> Decimal<WHOLE, FRACTION> {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// How many units make 1.
    const UNITS: i128 = 10_i128.pow(FRACTION);
    /// One unit more than the largest decimal has. A kind that has more digits than 128 bits does not compile.
    const END: i128 = Self::UNITS * 10_i128.pow(WHOLE);

    /// Reads a decimal such as `12`, `0.01` or `007.50`: zero or more, `digits` or `digits.digits` in ASCII.
    ///
    /// Refused with the first that applies: [`Fault::Empty`]; [`Fault::TooLong`] beyond 64 bytes; [`Fault::NotDecimal`]
    /// for signs, exponents, spaces, separators, `.5`, `5.`; [`Fault::TooFine`] beyond `FRACTION` fraction digits, even
    /// by zeros; [`Fault::TooBig`] beyond `WHOLE` digits before the point. Nothing is ever rounded.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let (whole, fraction) = text::split(text)?;
        let (whole, limit) = (whole.trim_start_matches('0'), length(FRACTION));
        let Some(missing) = limit.checked_sub(fraction.len()) else {
            return Err(Fault::TooFine { digits: fraction.len(), limit });
        };
        let digits = whole.bytes().chain(fraction.bytes()).chain(iter::repeat_n(b'0', missing));
        let units = digits.map(|digit| i128::from(digit.saturating_sub(b'0')));
        let units = units.fold(0_i128, |units, digit| units.saturating_mul(10).saturating_add(digit));
        Self::of_units(units).ok_or(Fault::TooBig { digits: whole.len(), limit: length(WHOLE) })
    }

    /// [`Decimal::parse`], and zero is refused too, with [`Fault::NotPositive`].
    pub fn parse_positive(text: &str) -> Result<Self, Fault> {
        let decimal = Self::parse(text)?;
        if decimal.is_positive() { Ok(decimal) } else { Err(Fault::NotPositive) }
    }

    /// The sum, or `None` beyond what is kept.
    #[must_use = "a decimal never changes: the sum is the answer"]
    pub fn plus(self, other: Self) -> Option<Self> {
        Self::of_units(self.0.checked_add(other.0)?)
    }

    /// The difference, which may be negative, or `None` beyond what is kept.
    #[must_use = "a decimal never changes: the difference is the answer"]
    pub fn minus(self, other: Self) -> Option<Self> {
        Self::of_units(self.0.checked_sub(other.0)?)
    }

    /// More than zero.
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// Exactly nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    fn of_units(units: i128) -> Option<Self> {
        (units.unsigned_abs() < Self::END.unsigned_abs()).then_some(Self(units))
    }
}

impl<const WHOLE: u32> Decimal<WHOLE, 8> {
    /// The decimal in two numbers that a database can add up exactly, both with its sign: what is before the point, and
    /// hundred-millionths.
    pub fn parts(self) -> (i64, i64) {
        let part = |units: Option<i128>| units.and_then(|units| i64::try_from(units).ok()).unwrap_or_default();
        (part(self.0.checked_div(Self::UNITS)), part(self.0.checked_rem(Self::UNITS)))
    }

    /// The decimal that such parts, or sums of such parts, come to; `None` beyond what is kept.
    pub fn from_parts(whole: i128, hundred_millionths: i128) -> Option<Self> {
        Self::of_units(whole.checked_mul(Self::UNITS)?.checked_add(hundred_millionths)?)
    }
}

impl Quantity {
    /// 1.
    pub const ONE: Self = Self(Self::UNITS);
    /// The least that is more than nothing.
    pub const LEAST: Self = Self(1);

    /// What this quantity costs at so much for each, exactly; `None` beyond what is kept.
    #[must_use]
    pub fn at(self, price: UnitPrice) -> Option<Cost> {
        // 8 and 12 fraction digits are the 20 of a cost: no digit is added or lost.
        Cost::of_units(self.0.checked_mul(price.0)?)
    }

    /// How many packages of `size` it takes to hold this quantity, the last of them not always full; `None` beyond what
    /// is kept, and where the size is not positive.
    #[must_use]
    pub fn packages(self, size: Self) -> Option<Self> {
        if !size.is_positive() {
            return None;
        }
        let full = self.0.checked_div_euclid(size.0)?;
        let part = i128::from(self.0.checked_rem_euclid(size.0)? != 0);
        Self::of_units(full.checked_add(part)?.checked_mul(Self::UNITS)?)
    }
}

impl Cost {
    /// An amount of money as a cost, or `None` beyond what is kept.
    pub fn of(amount: Amount) -> Option<Self> {
        Self::of_units(i128::from(amount.minor()).checked_mul(Self::units_of_minor(amount.currency())?)?)
    }

    /// The amount of money nearest to this cost; from the middle between two it goes up. `None` beyond 64 bits.
    pub fn round(self, currency: Currency) -> Option<Amount> {
        let minor = Self::units_of_minor(currency)?;
        let rounded = self.0.checked_add(minor.checked_div(2)?)?.checked_div_euclid(minor)?;
        Some(Amount::from_minor(currency, i64::try_from(rounded).ok()?))
    }

    /// How many units of cost make one minor unit of a currency.
    fn units_of_minor(currency: Currency) -> Option<i128> {
        Self::UNITS.checked_div(10_i128.checked_pow(currency.scale())?).filter(|units| *units > 0)
    }
}

impl<const WHOLE: u32, const FRACTION: u32> fmt::Display for Decimal<WHOLE, FRACTION> {
    /// The one text that stands for this decimal: no trailing zeros, a digit before the point, `-` when below zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad_integral(self.0 >= 0, "", &text::print(self.0.unsigned_abs(), length(FRACTION)))
    }
}

impl<const WHOLE: u32, const FRACTION: u32> Serialize for Decimal<WHOLE, FRACTION> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const WHOLE: u32, const FRACTION: u32> Deserialize<'de> for Decimal<WHOLE, FRACTION> {
    /// Reads what [`Decimal`] prints. In a record, unlike in a request, it may be negative.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (negative, digits) = text.strip_prefix('-').map_or((false, text.as_str()), |digits| (true, digits));
        let decimal = Self::parse(digits).map_err(D::Error::custom)?;
        // Every decimal has an opposite: as many are kept below zero as above it.
        Ok(if negative { Self(decimal.0.saturating_neg()) } else { decimal })
    }
}

/// A number of digits, as the length of a text.
fn length(digits: u32) -> usize {
    usize::try_from(digits).unwrap_or(usize::MAX)
}
