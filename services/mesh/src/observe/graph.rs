//! What is told of the last minute: edge by edge, and summed up over methods and for each service.

use std::collections::BTreeMap;

use super::{Breakers, Key, Observer, View, slices::Sum};
use crate::call::lock;

/// Counts of the last minute, and over how long they were taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    pub(super) sum: Sum,
    pub(super) rate: f64,
}

/// Calls between two, of one method or of all.
pub(super) struct Flow {
    pub(super) key: Key,
    pub(super) traffic: Traffic,
    /// Known where the caller is here.
    pub(super) breakers: Option<Breakers>,
}

/// A service, or somebody who calls one.
#[derive(Default)]
pub(super) struct Resident {
    pub(super) serves: bool,
    /// What it served.
    pub(super) traffic: Traffic,
}

/// All of it.
pub(super) struct Graph {
    pub(super) residents: BTreeMap<&'static str, Resident>,
    /// Their method is empty.
    pub(super) flows: Vec<Flow>,
}

impl Observer {
    /// Every edge with a call in the last minute, each call once.
    pub(super) fn edges(&self) -> Vec<Flow> {
        let now = self.0.began.elapsed();
        let mut sums = self.0.edges.sums(now);
        sums.retain(|key, _| key.view != View::Echo);
        self.flows(sums)
    }

    /// Who there is, and who calls whom.
    pub(super) fn graph(&self) -> Graph {
        let now = self.0.began.elapsed();
        let mut residents: BTreeMap<&'static str, Resident> = BTreeMap::new();
        for role in lock(&self.0.serving).iter() {
            residents.entry(role).or_default().serves = true;
        }
        let mut pairs: BTreeMap<Key, Sum> = BTreeMap::new();
        for (key, sum) in self.0.edges.sums(now) {
            if key.view != View::Caller {
                residents.entry(key.callee).or_default().traffic.sum.add(&sum);
            }
            if key.view != View::Echo {
                residents.entry(key.caller).or_default();
                residents.entry(key.callee).or_default();
                pairs.entry(Key { method: "", ..key }).or_default().add(&sum);
            }
        }
        for resident in residents.values_mut() {
            resident.traffic.rate = resident.traffic.sum.rate(now);
        }
        Graph { residents, flows: self.flows(pairs) }
    }

    fn flows(&self, sums: BTreeMap<Key, Sum>) -> Vec<Flow> {
        let now = self.0.began.elapsed();
        let flow = |(key, sum): (Key, Sum)| {
            let breakers = (key.view == View::Caller).then(|| self.breakers(&key)).flatten();
            Flow { key, traffic: Traffic { rate: sum.rate(now), sum }, breakers }
        };
        sums.into_iter().map(flow).collect()
    }

    /// The worst of the breakers between these two.
    fn breakers(&self, key: &Key) -> Option<Breakers> {
        let breakered = lock(&self.0.breakered);
        let between = breakered.iter().filter(|known| known.caller == key.caller && known.peer == key.callee);
        between.filter_map(|known| known.endpoints.upgrade()).map(|endpoints| endpoints.breakers()).max()
    }
}
