//! Where a look at what waits has to begin.

use std::collections::VecDeque;

use super::{super::outbox::Sight, Look, Pass};

/// Looks that are remembered at most: those of some seconds.
const LOOKS: usize = 1_000;
/// A transaction may take a position a moment before it has its number.
const BEHIND: i64 = 4_096;

/// How far the looks before have told. Between a look and the next one come
///
/// - events of transactions that had not ended. None of them had a position yet at an earlier look that had seen none with their
///   numbers end: its own transactions, which note what was told, have numbers and end before the next look begins. So they
///   are behind what had been told by then. A transaction that does not end, of whatever database of the server, keeps looks
///   beginning where they began;
/// - where a look told as many as it takes, what it left;
/// - where an event that was refused is tried again or discarded, that one and what stood behind it.
///
/// What is to be told again comes anywhere, and is not what this is about.
#[derive(Default)]
pub(super) struct Near {
    /// For each look the number from which on it had seen no transaction end, and up to where all had been told before it.
    looks: VecDeque<(i64, i64)>,
    /// The number before which all transactions had ended at the last look.
    all_before: i64,
    told_to: i64,
    /// Where the last look stopped because it had told as many as it takes.
    left_from: Option<i64>,
    /// The first event that was refused at the last look, or by it.
    refused: Option<i64>,
}

impl Near {
    /// Notes that a look is done, and with it what could be seen just before.
    pub(super) fn note(&mut self, sight: Sight, look: &Look) {
        if self.looks.len() < LOOKS {
            self.looks.push_back((sight.none_from, self.told_to));
        }
        self.all_before = sight.all_before;
        self.told_to = self.told_to.max(look.last);
        self.left_from = matches!(look.pass, Pass::Full).then_some(look.last);
        self.refused = sight.refused.into_iter().chain(look.refused).min();
        // Of those that had seen none end of what is still under way, the latest counts.
        while self.looks.get(1).is_some_and(|(none_from, _)| *none_from <= self.all_before) {
            self.looks.pop_front();
        }
    }

    /// The position after which a look has to begin.
    pub(super) fn after(&self, sight: Sight) -> i64 {
        // Before the first look nothing had been told.
        let told = self.looks.front().map_or(0, |(_, told_to)| told_to.saturating_sub(BEHIND).max(0));
        let refused = self.refused.into_iter().chain(sight.refused).map(|position| position.saturating_sub(1));
        refused.chain(self.left_from).fold(told, i64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the next look begins after one that told all, while the lowest transaction under way had this number, and the
    /// highest that had ended was before that.
    fn look(near: &mut Near, all_before: i64, none_from: i64, last: i64) -> i64 {
        let sight = Sight { all_before, none_from, refused: None };
        near.note(sight, &Look { pass: Pass::Some, last, refused: None });
        near.after(Sight::default())
    }

    #[test]
    fn a_look_that_told_as_many_as_it_takes_is_gone_on_from_where_it_stopped() {
        let mut near = Near::default();
        look(&mut near, 100, 100, 60_000);
        look(&mut near, 100, 100, 60_000);
        near.note(
            Sight { all_before: 950, none_from: 950, refused: None },
            &Look { pass: Pass::Full, last: 50_512, refused: None },
        );
        assert_eq!(near.after(Sight::default()), 50_512, "what came late is not told to its end");
        assert_eq!(look(&mut near, 950, 950, 51_000), 60_000 - BEHIND);
    }

    #[test]
    fn what_was_refused_is_not_looked_past_until_it_was_seen_not_to_be() {
        let mut near = Near::default();
        let sight = |refused| Sight { all_before: 100, none_from: 100, refused };
        let note = |near: &mut Near, at: Option<i64>, by: Option<i64>| {
            near.note(sight(at), &Look { pass: Pass::Some, last: 60_000, refused: by });
        };
        note(&mut near, None, None);
        note(&mut near, None, Some(50_000));
        assert_eq!(near.after(sight(None)), 49_999, "by the look before, and tried again since");
        note(&mut near, Some(50_000), Some(55_000));
        assert_eq!(near.after(sight(Some(40_000))), 39_999, "it was tried again and refused, far behind");
        note(&mut near, Some(40_000), None);
        assert_eq!(near.after(sight(None)), 39_999, "discarded since");
        note(&mut near, None, None);
        assert_eq!(near.after(sight(None)), 60_000 - BEHIND);
    }

    #[test]
    fn a_look_begins_behind_what_was_told_before_the_oldest_transaction_under_way_began() {
        let mut near = Near::default();
        assert_eq!(near.after(Sight::default()), 0, "nothing was told");
        assert_eq!(look(&mut near, 100, 100, 50_000), 0, "nothing was told before it");
        assert_eq!(look(&mut near, 100, 100, 55_000), 50_000 - BEHIND, "nothing is under way");
        assert_eq!(look(&mut near, 100, 130, 60_000), 50_000 - BEHIND, "100 is, which the second look did not see yet");
        assert_eq!(look(&mut near, 100, 190, 90_000), 50_000 - BEHIND, "100 still is");
        assert_eq!(look(&mut near, 150, 200, 95_000), 55_000 - BEHIND, "150 is, which the third look did not see yet");
        assert_eq!(look(&mut near, 200, 200, 95_000), 95_000 - BEHIND, "nothing is");
        assert_eq!(look(&mut near, 200, 200, 80_000), 95_000 - BEHIND, "there was nothing new");
    }

    #[test]
    fn a_transaction_that_was_there_before_the_first_look_has_all_looked_at() {
        let mut near = Near::default();
        assert_eq!(look(&mut near, 90, 100, 50_000), 0);
        assert_eq!(look(&mut near, 90, 200, 60_000), 0);
        assert_eq!(look(&mut near, 210, 220, 70_000), 50_000 - BEHIND);
    }

    #[test]
    fn a_transaction_that_does_not_end_costs_no_more_than_so_many_looks() {
        let mut near = Near::default();
        let looks = i64::try_from(LOOKS).unwrap();
        for number in 0..10 * looks {
            look(&mut near, 1, 1 + number, 10_000 + number);
        }
        assert_eq!((near.looks.len(), near.after(Sight::default())), (LOOKS, 0));
        assert_eq!(look(&mut near, 1 << 20, 1 << 20, 90_000), 10_000 + looks - 2 - BEHIND, "as far as is remembered");
        assert_eq!(look(&mut near, 1 << 20, 1 << 20, 90_000), 90_000 - BEHIND);
    }

    #[test]
    fn where_one_writes_at_a_time_a_look_begins_behind_the_one_before_the_last() {
        let mut near = Near::default();
        assert_eq!(look(&mut near, 0, 0, 50_000), 0);
        assert_eq!(look(&mut near, 0, 0, 60_000), 50_000 - BEHIND);
    }
}
