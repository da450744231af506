//! Sums over more than one amount can hold: what all wallets have together, say.

#[cfg(test)]
mod tests;

use std::fmt;

use crate::{Currency, text};

/// A sum of amounts of one currency, exactly. It has room for as many amounts as there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    currency: Currency,
    minor: i128,
}

impl Total {
    /// A sum of minor units.
    pub const fn from_minor(currency: Currency, minor: i128) -> Self {
        Self { currency, minor }
    }

    /// Of what.
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The sum, or `None` beyond 128 bits or with another currency.
    #[must_use = "a total never changes: the sum is the answer"]
    pub fn plus(self, other: Self) -> Option<Self> {
        let minor = (self.currency == other.currency).then(|| self.minor.checked_add(other.minor))??;
        Some(Self { minor, ..self })
    }

    /// Exactly nothing.
    pub const fn is_zero(self) -> bool {
        self.minor == 0
    }

    /// The decimal as the wire has it.
    pub fn to_wire(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Total {
    /// Written as an [`crate::Amount`] is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimal = text::print(self.minor.unsigned_abs(), self.currency.fraction_digits());
        f.pad_integral(self.minor >= 0, "", &decimal)
    }
}
