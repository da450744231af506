//! What holds for every price and every quantity.
#![allow(clippy::arithmetic_side_effects, reason = "it panics, and so fails the test")]

use std::fmt::Debug;

use money::Cost;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

use super::*;
use crate::pricing::cost::total;

/// Ends of tiers, packages and free quantities are drawn in quarters, and so are most quantities: all of them meet.
const QUARTERS: u64 = 400;

/// Tries a property on many prices; a failure prints the smallest case.
fn holds<S: Strategy>(strategy: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S::Value: Debug,
{
    let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
    if let Err(failure) = TestRunner::new(config).run(strategy, property) {
        panic!("{failure}");
    }
}

fn quarters(count: u64) -> Quantity {
    quantity(&format!("{}.{:02}", count / 4, count % 4 * 25))
}

fn any_quantity() -> impl Strategy<Value = Quantity> {
    let fine =
        (0..QUARTERS / 4, 0_u64..100_000_000).prop_map(|(whole, units)| quantity(&format!("{whole}.{units:08}")));
    prop_oneof![3 => (0..QUARTERS).prop_map(quarters), 1 => fine]
}

fn any_unit_price() -> impl Strategy<Value = UnitPrice> {
    prop_oneof![
        (0_u64..5_000).prop_map(|units| price(&format!("{}.{:03}", units / 1_000, units % 1_000))),
        (0_u64..10_u64.pow(12)).prop_map(|units| price(&format!("0.{units:012}"))),
    ]
}

fn any_amount(currency: Currency) -> impl Strategy<Value = Amount> {
    prop_oneof![Just(0), 0..10_i64.pow(currency.scale() + 1)].prop_map(move |minor| Amount::from_minor(currency, minor))
}

fn any_tiers(currency: Currency) -> impl Strategy<Value = Vec<Tier>> {
    let tier = (1..QUARTERS / 5, any_unit_price(), any_amount(currency));
    vec(tier, 1..5).prop_map(|drawn| {
        let (last, mut end) = (drawn.len() - 1, 0);
        let tier = |(position, (length, unit_price, flat_amount))| {
            end += length;
            Tier { up_to: (position != last).then(|| quarters(end)), unit_price, flat_amount }
        };
        drawn.into_iter().enumerate().map(tier).collect()
    })
}

fn any_model(currency: Currency) -> impl Strategy<Value = Model> {
    prop_oneof![
        any_unit_price().prop_map(|unit_price| Model::Flat { unit_price }),
        any_unit_price().prop_map(|unit_price| Model::PerUnit { unit_price }),
        any_tiers(currency).prop_map(|tiers| Model::Graduated { tiers }),
        any_tiers(currency).prop_map(|tiers| Model::Volume { tiers }),
        (any_unit_price(), 1..QUARTERS / 5)
            .prop_map(|(unit_price, size)| Model::Package { unit_price, size: quarters(size) }),
    ]
}

fn any_terms() -> impl Strategy<Value = Terms> {
    prop::sample::select(vec!["JPY", "USD", "USDC"]).prop_flat_map(|code| {
        let currency = Currency::parse(code).unwrap();
        let free = prop_oneof![Just(0), 0..QUARTERS / 4].prop_map(quarters);
        (any_model(currency), free, any_amount(currency)).prop_map(move |(model, free_quantity, minimum_amount)| {
            Terms { free_quantity, minimum_amount, ..terms(code, model) }
        })
    })
}

fn sum(costs: impl IntoIterator<Item = Cost>) -> Cost {
    costs.into_iter().try_fold(Cost::ZERO, Cost::plus).unwrap()
}

/// What a total costs, found slowly and in another way: every quarter is carried to the counter by itself.
fn cost_at_the_counter(terms: &Terms, used: Quantity) -> Cost {
    let quarter = quantity("0.25");
    let mut left = terms.free_quantity;
    let (mut counted, mut each, mut once) = (Quantity::ZERO, Cost::ZERO, Cost::ZERO);
    let (mut reached, mut room) = (None, Quantity::ZERO);
    let mut walked = Quantity::ZERO;
    while walked < used {
        walked = walked.plus(quarter).unwrap();
        if left.is_positive() {
            left = left.minus(quarter).unwrap();
            continue;
        }
        counted = counted.plus(quarter).unwrap();
        let tier = terms.model.tiers().iter().position(|tier| tier.up_to.is_none_or(|end| counted <= end));
        match &terms.model {
            Model::Flat { unit_price } => each = Quantity::ONE.at(*unit_price).unwrap(),
            Model::PerUnit { unit_price } => each = sum([each, quarter.at(*unit_price).unwrap()]),
            Model::Graduated { tiers } => {
                let tier = (tier.unwrap(), &tiers[tier.unwrap()]);
                each = sum([each, quarter.at(tier.1.unit_price).unwrap()]);
                if reached.replace(tier.0) != Some(tier.0) {
                    once = sum([once, Cost::of(tier.1.flat_amount).unwrap()]);
                }
            }
            Model::Volume { tiers } => {
                let tier = &tiers[tier.unwrap()];
                each = counted.at(tier.unit_price).unwrap();
                once = Cost::of(tier.flat_amount).unwrap();
            }
            Model::Package { unit_price, size } => {
                if room.is_zero() {
                    each = sum([each, Quantity::ONE.at(*unit_price).unwrap()]);
                    room = *size;
                }
                room = room.minus(quarter).unwrap();
            }
        }
    }
    let minimum = if counted.is_zero() { Cost::ZERO } else { Cost::of(terms.minimum_amount).unwrap() };
    sum([each, once]).max(minimum)
}

#[test]
fn a_total_costs_what_it_costs_at_the_counter() {
    holds(&(any_terms(), (0..QUARTERS).prop_map(quarters)), |(terms, used)| {
        prop_assert_eq!(total(&terms, used).unwrap().cost, cost_at_the_counter(&terms, used));
        Ok(())
    });
}

#[test]
fn however_a_quantity_is_split_its_parts_cost_what_the_whole_does() {
    holds(&(any_terms(), any_quantity(), vec(any_quantity(), 1..12)), |(terms, start, parts)| {
        let mut total = start;
        let mut charged = Amount::zero(terms.currency);
        for part in &parts {
            charged = charged.plus(increment(&terms, total, *part).unwrap().amount).unwrap();
            total = total.plus(*part).unwrap();
        }
        let whole = increment(&terms, start, total.minus(start).unwrap()).unwrap();
        prop_assert_eq!(charged, whole.amount);
        Ok(())
    });
}

#[test]
fn more_never_costs_less_but_where_volume_prices_fall() {
    holds(&(any_terms(), any_quantity(), any_quantity()), |(terms, before, more)| {
        let total = total(&terms, before).unwrap();
        prop_assert!(total.cost >= Cost::ZERO, "a total is never negative");
        prop_assert!(!total.cost.round(terms.currency).unwrap().is_negative());
        let falls = match &terms.model {
            Model::Volume { tiers } => tiers.windows(2).any(|pair| {
                pair[1].unit_price < pair[0].unit_price || !pair[1].flat_amount.covers(pair[0].flat_amount)
            }),
            _ => false,
        };
        prop_assert!(falls || !increment(&terms, before, more).unwrap().amount.is_negative());
        Ok(())
    });
}

#[test]
fn an_answer_can_be_recomputed_by_hand_from_its_lines() {
    holds(&(any_terms(), any_quantity(), any_quantity()), |(terms, before, more)| {
        let answer = increment(&terms, before, more).unwrap();
        for line in &answer.lines {
            let by_hand = line.quantity.at(line.unit_price).unwrap().plus(line.flat_amount).unwrap();
            prop_assert_eq!(line.amount, by_hand, "{}", written(line));
            prop_assert!(!(line.quantity.is_zero() && line.flat_amount.is_zero()), "{}", written(line));
        }
        prop_assert!(
            answer.lines.windows(2).all(|pair| pair[0].step < pair[1].step),
            "one line for each step, in order"
        );
        let after = before.plus(more).unwrap();
        let cost_after = answer.cost_before.plus(sum(answer.lines.iter().map(|line| line.amount))).unwrap();
        prop_assert_eq!(answer.cost_before, total(&terms, before).unwrap().cost);
        prop_assert_eq!(cost_after, total(&terms, after).unwrap().cost, "the lines add up to the exact difference");
        let rounded = |cost: Cost| cost.round(terms.currency).unwrap();
        prop_assert_eq!(answer.amount, rounded(cost_after).minus(rounded(answer.cost_before)).unwrap());
        prop_assert_eq!((answer.before, answer.free.plus(answer.billable)), (before, Some(more)));
        Ok(())
    });
}

#[test]
fn at_the_end_of_a_tier_the_last_unit_is_still_of_that_tier() {
    let least = quantity("0.00000001");
    holds(&(any_terms(), 0_usize..4), |(terms, number)| {
        let tiers = terms.model.tiers();
        let Some(end) = tiers.get(number).and_then(|tier| tier.up_to) else { return Ok(()) };
        let tier_of_last = |billable: Quantity| {
            let used = billable.plus(terms.free_quantity).unwrap();
            let lines = total(&terms, used).unwrap().lines;
            lines.iter().filter(|line| line.step != Step::Minimum).map(|line| line.step).max()
        };
        let tier = |number: usize| Some(Step::Tier(i32::try_from(number + 1).unwrap()));
        prop_assert_eq!(tier_of_last(end.minus(least).unwrap()), tier(number));
        prop_assert_eq!(tier_of_last(end), tier(number));
        prop_assert_eq!(tier_of_last(end.plus(least).unwrap()), tier(number + 1));
        Ok(())
    });
}
