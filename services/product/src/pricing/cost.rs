//! What a quantity costs, exactly, line by line, and the one rounding. Pure: whoever estimates, shows or charges asks
//! here, and only here.
//!
//! A total is all that was used under one price in one billing period. What it costs is computed anew each time and
//! never added up from parts, so that no rounding of a part is ever kept.

use std::{cmp, collections::BTreeMap};

use money::{Amount, Cost, Quantity, UnitPrice};

use super::{Model, Terms, Tier};

/// One step of a cost: `amount` = `quantity` × `unit_price` + `flat_amount`, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) step: Step,
    /// In PACKAGE, packages; in FLAT, billing periods.
    pub(crate) quantity: Quantity,
    pub(crate) unit_price: UnitPrice,
    pub(crate) flat_amount: Cost,
    pub(crate) amount: Cost,
}

/// What a line is about, in the order of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// What a model without tiers counts.
    Usage,
    /// What a tier counts, from 1.
    Tier(i32),
    /// What is missing to the minimum.
    Minimum,
}

/// What a total costs, not rounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    /// One for each step that counts, in order.
    pub(super) lines: Vec<Line>,
    /// What they add up to: never negative.
    pub(super) cost: Cost,
}

/// What a quantity costs on top of what was used in the billing period before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Increment {
    /// The total before, and what it costs, not rounded.
    pub(crate) before: Quantity,
    pub(crate) cost_before: Cost,
    /// So much of the quantity is free; the rest counts.
    pub(crate) free: Quantity,
    pub(crate) billable: Quantity,
    /// By how much each step of the cost changes, in order; steps that do not change are left out.
    pub(crate) lines: Vec<Line>,
    /// What it costs: the total with it, rounded, less the total before, rounded. Negative where VOLUME gives back.
    pub(crate) amount: Amount,
}

impl Increment {
    /// Whether it costs anything, be it less than can be paid.
    pub(crate) fn costs(&self) -> bool {
        self.lines.iter().any(|line| line.amount > Cost::ZERO)
    }
}

/// What `quantity` costs, `before` having been used in the billing period; `None` where a total or what it costs is
/// more than can be kept. This is how everything that is sold by quantity is charged.
pub(crate) fn increment(terms: &Terms, before: Quantity, quantity: Quantity) -> Option<Increment> {
    let after = before.plus(quantity)?;
    let (was, is) = (total(terms, before)?, total(terms, after)?);
    let amount = is.cost.round(terms.currency)?.minus(was.cost.round(terms.currency)?)?;
    let free = cmp::min(after, terms.free_quantity).minus(cmp::min(before, terms.free_quantity))?;
    let lines = changes(&was.lines, &is.lines)?;
    Some(Increment { before, cost_before: was.cost, free, billable: quantity.minus(free)?, lines, amount })
}

/// What a total costs.
pub(super) fn total(terms: &Terms, used: Quantity) -> Option<Total> {
    let billable = used.minus(terms.free_quantity)?;
    if !billable.is_positive() {
        return Some(Total::default());
    }
    let mut lines = match &terms.model {
        Model::Flat { unit_price } => vec![Line::usage(Quantity::ONE, *unit_price)?],
        Model::PerUnit { unit_price } => vec![Line::usage(billable, *unit_price)?],
        Model::Graduated { tiers } => graduated(tiers, billable)?,
        Model::Volume { tiers } => volume(tiers, billable)?,
        Model::Package { unit_price, size } => vec![Line::usage(billable.packages(*size)?, *unit_price)?],
    };
    let usage = lines.iter().try_fold(Cost::ZERO, |sum, line| sum.plus(line.amount))?;
    let minimum = Cost::of(terms.minimum_amount)?;
    if usage < minimum {
        lines.push(Line::new(Step::Minimum, Quantity::ZERO, UnitPrice::ZERO, minimum.minus(usage)?)?);
    }
    Some(Total { lines, cost: cmp::max(usage, minimum) })
}

/// Each tier prices what falls into it.
fn graduated(tiers: &[Tier], billable: Quantity) -> Option<Vec<Line>> {
    let mut lines = Vec::new();
    let mut start = Quantity::ZERO;
    for (tier, number) in tiers.iter().zip(1..) {
        if billable <= start {
            break;
        }
        let end = tier.up_to.map_or(billable, |up_to| cmp::min(up_to, billable));
        lines.push(Line::tier(number, end.minus(start)?, tier)?);
        start = end;
    }
    Some(lines)
}

/// The tier that the whole quantity falls into prices all of it.
fn volume(tiers: &[Tier], billable: Quantity) -> Option<Vec<Line>> {
    let (tier, number) = tiers.iter().zip(1..).find(|(tier, _)| tier.up_to.is_none_or(|up_to| billable <= up_to))?;
    Some(vec![Line::tier(number, billable, tier)?])
}

/// What has changed from some lines to others, step by step. A step has one unit price for ever, so that what has
/// changed of it is a line again.
fn changes(was: &[Line], is: &[Line]) -> Option<Vec<Line>> {
    let mut changes: BTreeMap<Step, Line> = is.iter().map(|line| (line.step, *line)).collect();
    for old in was {
        let line = changes.entry(old.step).or_insert(old.emptied());
        *line = line.without(old)?;
    }
    Some(changes.into_values().filter(|line| !line.is_empty()).collect())
}

impl Line {
    fn new(step: Step, quantity: Quantity, unit_price: UnitPrice, flat_amount: Cost) -> Option<Self> {
        let amount = quantity.at(unit_price)?.plus(flat_amount)?;
        Some(Self { step, quantity, unit_price, flat_amount, amount })
    }

    fn usage(quantity: Quantity, unit_price: UnitPrice) -> Option<Self> {
        Self::new(Step::Usage, quantity, unit_price, Cost::ZERO)
    }

    fn tier(number: i32, quantity: Quantity, tier: &Tier) -> Option<Self> {
        Self::new(Step::Tier(number), quantity, tier.unit_price, Cost::of(tier.flat_amount)?)
    }

    /// The same step, of nothing.
    fn emptied(&self) -> Self {
        Self { quantity: Quantity::ZERO, flat_amount: Cost::ZERO, amount: Cost::ZERO, ..*self }
    }

    fn is_empty(&self) -> bool {
        self.quantity.is_zero() && self.flat_amount.is_zero()
    }

    /// What this line has more than another of the same step.
    fn without(&self, other: &Self) -> Option<Self> {
        let (quantity, flat_amount) =
            (self.quantity.minus(other.quantity)?, self.flat_amount.minus(other.flat_amount)?);
        Self::new(self.step, quantity, self.unit_price, flat_amount)
    }
}
