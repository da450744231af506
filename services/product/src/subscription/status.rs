//! How a subscription can stand, and which steps lead from one state to another: the one table of them.

use mesh::text_enum;

text_enum! {
    /// How a subscription stands.
    pub(crate) enum Status {
        /// Made, and not paid yet.
        Incomplete = "INCOMPLETE",
        /// On trial.
        Trialing = "TRIALING",
        /// Paid.
        Active = "ACTIVE",
        /// Not paid any more.
        PastDue = "PAST_DUE",
        /// Stopped for a while.
        Paused = "PAUSED",
        /// Ended by somebody. Final.
        Canceled = "CANCELED",
        /// Ended by time. Final.
        Expired = "EXPIRED",
    }
}

impl Status {
    /// Where a subscription can go from here: nowhere from the final states.
    pub(super) const fn next(self) -> &'static [Self] {
        match self {
            Self::Trialing => &[Self::Active, Self::PastDue, Self::Expired, Self::Canceled],
            Self::Active => &[Self::PastDue, Self::Paused, Self::Canceled, Self::Expired],
            Self::Incomplete | Self::PastDue | Self::Paused => &[Self::Active, Self::Canceled, Self::Expired],
            Self::Canceled | Self::Expired => &[],
        }
    }

    /// Whether it can go from here to there in one step.
    pub(super) fn leads_to(self, to: Self) -> bool {
        self.next().contains(&to)
    }

    /// Whether it has come to its end.
    pub(super) const fn is_final(self) -> bool {
        self.next().is_empty()
    }

    /// Whether it gives what its plan includes.
    pub(crate) const fn gives(self) -> bool {
        matches!(self, Self::Active | Self::Trialing)
    }
}
