//! How much may be tried again: tokens that failures take and successes give back (gRFC A6, "Throttling Retry Attempts and
//! Hedged RPCs"). A peer that fails at everything is not also asked three times as much.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// Tokens, in tenths: all of them, what a failure takes and what a success gives back.
const ALL: u32 = 100;
const FAILURE: u32 = 10;
const SUCCESS: u32 = 1;

/// The tokens of one peer. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<AtomicU32>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(ALL)))
    }
}

impl Budget {
    /// Hears how an attempt went that was sent.
    pub(super) fn heard(&self, well: bool) {
        let next = |tokens: u32| {
            Some(if well { tokens.saturating_add(SUCCESS).min(ALL) } else { tokens.saturating_sub(FAILURE) })
        };
        // The function always answers.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Whether another attempt may be made: more than half of the tokens are left.
    pub(super) fn allows(&self) -> bool {
        self.0.load(Ordering::Relaxed) > ALL / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_use_it_up_and_ten_successes_give_one_of_them_back() {
        let budget = Budget::default();
        for _ in 0..4 {
            budget.heard(false);
            assert!(budget.allows());
        }
        budget.heard(false);
        assert!(!budget.allows());
        budget.heard(true);
        assert!(budget.allows());
        budget.heard(false);
        for _ in 0..9 {
            budget.heard(true);
            assert!(!budget.allows());
        }
        budget.heard(true);
        assert!(budget.allows());
    }

    #[test]
    fn it_neither_overflows_nor_goes_below_nothing() {
        let budget = Budget::default();
        (0..1_000).for_each(|_| budget.heard(true));
        (0..5).for_each(|_| budget.heard(false));
        assert!(!budget.allows());
        (0..1_000).for_each(|_| budget.heard(false));
        (0..51).for_each(|_| budget.heard(true));
        assert!(budget.allows());
    }
}
