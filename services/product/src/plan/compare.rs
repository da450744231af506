//! Plans side by side: a column for each, a row for each thing in which they can differ.

use std::collections::BTreeSet;

use mesh::Slug;

use super::{Cycle, Plan, Seats};

/// What sort of thing a row compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Price,
    Seats,
    Trial,
    IncludedUsage,
    Feature,
}

/// One thing in which plans can differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// One for each plan; empty where it has nothing of it.
    pub(super) cells: Vec<String>,
}

impl Compared {
    /// Whether not all cells are the same.
    pub(super) fn differs(&self) -> bool {
        self.cells.windows(2).any(|pair| matches!(pair, [left, right] if left != right))
    }
}

/// The table of these plans: prices, seats, trial, what is included, features.
pub(super) fn compare(plans: &[Plan]) -> Vec<Compared> {
    let row = |kind, name: String, cell: &dyn Fn(&Plan) -> Option<String>| {
        let cells = plans.iter().map(|plan| cell(plan).unwrap_or_default()).collect();
        Compared { kind, name, cells }
    };
    let mut rows = Vec::new();
    for cycle in [Cycle::Monthly, Cycle::Quarterly, Cycle::Yearly] {
        if plans.iter().any(|plan| plan.terms.prices.contains_key(&cycle)) {
            rows.push(row(Kind::Price, cycle.to_string(), &|plan| {
                let amount = plan.terms.prices.get(&cycle)?;
                Some(format!("{amount} {}", amount.currency().code()))
            }));
        }
    }
    rows.push(row(Kind::Seats, "seats".to_owned(), &|plan| Some(plan.terms.seats.to_string())));
    rows.push(row(Kind::Trial, "trial_days".to_owned(), &|plan| Some(plan.terms.trial_days.to_string())));
    let products: BTreeSet<&Slug> =
        plans.iter().flat_map(|plan| &plan.terms.included).map(|included| &included.product_id).collect();
    for product_id in products {
        rows.push(row(Kind::IncludedUsage, product_id.to_string(), &|plan| {
            let included = plan.terms.included.iter().find(|included| included.product_id == *product_id)?;
            Some(format!("{} {}", included.quantity, included.overage))
        }));
    }
    let features: BTreeSet<&String> = plans.iter().flat_map(|plan| plan.terms.features.keys()).collect();
    for feature in features {
        rows.push(row(Kind::Feature, feature.clone(), &|plan| plan.terms.features.get(feature).cloned()));
    }
    rows
}

impl std::fmt::Display for Seats {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.max {
            Some(max) if max == self.min => write!(formatter, "{max}"),
            Some(max) => write!(formatter, "{}-{max}", self.min),
            None => write!(formatter, "{}+", self.min),
        }
    }
}
