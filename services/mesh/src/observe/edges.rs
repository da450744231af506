//! Who calls whom: one set of counts for each caller, callee and method, found without a lock. Edges are added and never
//! taken away; there are as many as the contract has methods, times who calls them.

use std::{collections::BTreeMap, hash::BuildHasher as _, sync::OnceLock, time::Duration};

use foldhash::fast::RandomState;

use super::{
    View,
    slices::{Slices, Sum},
};

/// Edges at most: all methods of the contract, called by operators, and by each other as often again, are half of them.
/// One takes 11 KiB once it is used, so that all of them are 6 MiB.
const EDGES: usize = 512;
/// Places that are looked at for an edge. Where all of them are taken by others the table is as good as full.
const PROBES: usize = 32;
/// What is beyond that goes by this name.
const OTHER: Key = Key { view: View::Callee, caller: "other", callee: "other", method: "other" };

/// What calls are counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) caller: &'static str,
    pub(crate) callee: &'static str,
    /// A path of the contract, or `other`.
    pub(crate) method: &'static str,
    pub(crate) view: View,
}

struct Edge {
    key: Key,
    slices: Slices,
}

/// See the module.
pub(super) struct Edges {
    places: Box<[OnceLock<Box<Edge>>]>,
    other: Slices,
    hashes: RandomState,
}

impl Default for Edges {
    fn default() -> Self {
        let places = (0..EDGES).map(|_| OnceLock::new()).collect();
        Self { places, other: Slices::default(), hashes: RandomState::default() }
    }
}

impl Edges {
    /// The counts of this edge.
    pub(super) fn of(&self, key: Key) -> &Slices {
        let hash = usize::try_from(self.hashes.hash_one(key) >> 32).unwrap_or(0);
        let places = self.places.iter().cycle().skip(hash % EDGES).take(PROBES);
        let taken = places.map(|place| place.get_or_init(|| Box::new(Edge { key, slices: Slices::default() })));
        taken.into_iter().find(|edge| edge.key == key).map_or(&self.other, |edge| &edge.slices)
    }

    /// Every edge that there was a call on in the minute before `now`, sorted.
    pub(super) fn sums(&self, now: Duration) -> BTreeMap<Key, Sum> {
        let edges = self.places.iter().filter_map(|place| place.get()).map(|edge| (edge.key, &edge.slices));
        let sum = |(key, slices): (Key, &Slices)| {
            let mut sum = Sum::default();
            slices.add_to(&mut sum, now);
            (sum.calls() > 0).then_some((key, sum))
        };
        edges.chain([(OTHER, &self.other)]).filter_map(sum).collect()
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    /// An edge that differs from any other.
    fn edge(number: usize) -> Key {
        Key { view: View::Caller, caller: "account", callee: "product", method: format!("/m/{number}").leak() }
    }

    fn count(edges: &Edges, key: Key) {
        edges.of(key).count(Duration::ZERO, Code::Ok, Duration::ZERO);
    }

    #[test]
    fn each_edge_has_counts_of_its_own() {
        let edges = Edges::default();
        for round in 0..2 {
            for number in 0..100 {
                count(&edges, edge(number));
            }
            let sums = edges.sums(Duration::ZERO);
            assert_eq!(sums.len(), 100);
            assert!(sums.values().all(|sum| sum.calls() == round + 1));
        }
        let seen_twice = Key { view: View::Echo, ..edge(0) };
        count(&edges, seen_twice);
        assert_eq!(edges.sums(Duration::ZERO)[&seen_twice].calls(), 1);
        assert!(edges.sums(Duration::from_secs(70)).is_empty(), "what is long ago is no edge");
    }

    #[test]
    fn whoever_comes_once_there_are_too_many_is_counted_with_the_others() {
        let edges = Edges::default();
        for number in 0..10_000 {
            count(&edges, edge(number));
        }
        let sums = edges.sums(Duration::ZERO);
        assert!(sums.len() <= EDGES + 1, "{}", sums.len());
        assert_eq!(sums.values().map(Sum::calls).sum::<u64>(), 10_000);
        assert!(sums[&OTHER].calls() >= 10_000 - 512);
    }
}
