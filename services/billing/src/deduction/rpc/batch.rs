//! BatchDeduct: what becomes of orders that come with one call.

use mesh::{Context, Reason, Refusal, StoreError};
use tokio::time::Instant;
use tonic::Status;
use trivet_proto::billing::v1::DeductionResult;

use super::{
    super::Deduct,
    write::{UnderWay, carried_out, deduction_message, refused_one},
};
use crate::book::{Books, Order, Posted, Stopped, one};

#[cfg(test)]
mod tests;

/// Carries out all orders or none.
pub(super) async fn together(
    books: &Books,
    context: &Context,
    deducts: Vec<Deduct>,
    rehearsal: bool,
) -> Result<Vec<DeductionResult>, Status> {
    let orders = deducts.iter().cloned().map(Order::Deduct).collect();
    let decided = if rehearsal {
        books.rehearse(context, orders).await
    } else {
        let began = Instant::now();
        let decided = books.hand_in(context, orders)?.answer().await;
        books.note("BatchDeduct", began, &decided);
        decided
    };
    let posted = decided?.map_err(|Stopped { index, refused, .. }| Refusal::from(refused).with("index", index))?;
    let answer = |(deduct, (posted, before)): (&Deduct, (Posted, bool))| {
        carried_out(deduction_message(deduct, posted, rehearsal && !before), before)
    };
    Ok(deducts.iter().zip(posted).map(answer).collect())
}

/// Carries out each order by itself. Where too much waits for the first of them, none is taken; the others wait for room.
/// What keeps the house from deciding an order is that order's error, unless it keeps it from deciding any.
pub(super) async fn each(
    books: &Books,
    context: &Context,
    orders: Vec<Result<Deduct, Refusal>>,
) -> Result<Vec<DeductionResult>, Status> {
    // Handed in all before the first is waited for, so that they are committed together.
    let mut pending = Vec::with_capacity(orders.len());
    let mut taken = false;
    for order in orders {
        pending.push(match order {
            Ok(deduct) => {
                let (order, began) = (Order::Deduct(deduct.clone()), Instant::now());
                let pending = if taken {
                    books.hand_in_with_room(context, order).await
                } else {
                    // None is under way yet, so that the whole of them may come again.
                    Ok(books.hand_in(context, vec![order])?)
                };
                taken = true;
                pending.map(|pending| UnderWay { deduct, pending, began }).map_err(Refusal::from)
            }
            Err(refusal) => Err(refusal),
        });
    }
    let mut results = Vec::with_capacity(pending.len());
    let (mut decided, mut failures) = (false, Vec::new());
    for pending in pending {
        results.push(match pending {
            Ok(order) => match order.outcome(books, "BatchDeduct").await {
                Ok(result) => {
                    decided = true;
                    result
                }
                Err(refusal) => {
                    let result = refused_one(&refusal, false);
                    failures.push(refusal);
                    result
                }
            },
            Err(refusal) => refused_one(&refusal, false),
        });
    }
    match of_all(failures) {
        Some(refusal) if !decided => Err(refusal.into()),
        _ => Ok(results),
    }
}

/// What is said of a call of whose orders none was decided: where one of them may have happened, that.
fn of_all(mut failures: Vec<Refusal>) -> Option<Refusal> {
    let unclear = failures.iter().position(|failure| failure.reason() == Reason::OutcomeUnknown);
    (!failures.is_empty()).then(|| failures.swap_remove(unclear.unwrap_or(0)))
}

/// Says what would become of each order after the ones before it.
pub(super) async fn rehearse(
    books: &Books,
    context: &Context,
    orders: Vec<Result<Deduct, Refusal>>,
) -> Result<Vec<DeductionResult>, Status> {
    let good = orders.iter().flatten().cloned().map(Order::Deduct).collect();
    let mut decided = books.rehearse_each(context, good).await?.into_iter();
    let mut results = Vec::with_capacity(orders.len());
    for order in orders {
        results.push(match order {
            Ok(deduct) => match decided.next().ok_or(StoreError::Impossible("an order has no answer"))?? {
                Err(Stopped { refused, before, .. }) => refused_one(&refused.into(), before),
                decided => {
                    let (posted, before) = one(decided)?;
                    carried_out(deduction_message(&deduct, posted, !before), before)
                }
            },
            Err(refusal) => refused_one(&refusal, false),
        });
    }
    Ok(results)
}
