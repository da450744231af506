//! What an amount is counted in, and how many decimal digits that has.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Fault;

/// A currency that amounts can be kept in: USDC, EURC, XLM, or one of ISO 4217 that has minor units.
///
/// Ordered by code, so that the order is the same on every replica and in every release. As JSON it is its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: &'static str,
    scale: u8,
}

impl Currency {
    /// USD Coin, the currency of a request that names none. Seven digits, as all assets on Stellar have
    /// (<https://developers.stellar.org/docs/learn/fundamentals/stellar-data-structures/assets>).
    pub const USDC: Self = Self { code: "USDC", scale: 7 };
    /// Euro Coin, seven digits.
    pub const EURC: Self = Self { code: "EURC", scale: 7 };
    /// The lumen, seven digits: its minor unit is the stroop.
    pub const XLM: Self = Self { code: "XLM", scale: 7 };

    /// The currency that a request names: an upper-case code, or nothing, which means [`Currency::USDC`].
    ///
    /// Refused with [`Fault::UnknownCurrency`]: codes in lower case, codes that nobody knows, and those of ISO 4217 that
    /// have no minor unit (gold is XAU, "no currency" XXX, the test code XTS).
    pub fn parse(code: &str) -> Result<Self, Fault> {
        if code.is_empty() { Ok(Self::USDC) } else { Self::known(code).ok_or(Fault::UnknownCurrency) }
    }

    /// The code, such as `USDC` or `EUR`.
    pub const fn code(self) -> &'static str {
        self.code
    }

    /// How many decimal digits it has: 7 for USDC, 2 for USD, 0 for JPY. One unit is ten to that many minor units.
    pub fn scale(self) -> u32 {
        u32::from(self.scale)
    }

    /// The scale, as the length of a text.
    pub(crate) fn fraction_digits(self) -> usize {
        usize::from(self.scale)
    }

    fn known(code: &str) -> Option<Self> {
        match code {
            "USDC" => Some(Self::USDC),
            "EURC" => Some(Self::EURC),
            "XLM" => Some(Self::XLM),
            _ => {
                let iso = iso_currency::Currency::from_code(code)?;
                Some(Self { code: iso.code(), scale: u8::try_from(iso.exponent()?).ok()? })
            }
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code)
    }
}

impl<'de> Deserialize<'de> for Currency {
    /// Stricter than [`Currency::parse`]: in a request an empty code is a default, in a record it is damage.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::known(&code).ok_or_else(|| D::Error::custom(format_args!("currency {}", Fault::UnknownCurrency)))
    }
}
