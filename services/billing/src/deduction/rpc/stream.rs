//! A stream of orders: read no faster than they can be carried out, nor than their answers are read, with a bounded number
//! under way.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use mesh::{Context, id};
use tokio::time::Instant;
use tonic::{Status, Streaming};
use trivet_proto::billing::v1::{DeductionResult, StreamDeductRequest, StreamDeductResponse};

use super::{
    read,
    write::{self, UnderWay},
};
use crate::book::{Books, Order};

/// Orders of one stream that are under way at once: enough that some wait while others are written.
const UNDER_WAY: usize = 2_000;
/// How long one order may take, however long the stream is open.
const BUDGET: Duration = Duration::from_secs(10);

/// An order under way, or its answer where it was no order.
enum Sent {
    UnderWay(UnderWay),
    Refused(Box<StreamDeductResponse>),
}

/// Carries the orders out, and answers each.
pub(super) fn carry_out(
    books: Books,
    context: Context,
    orders: Streaming<StreamDeductRequest>,
) -> impl Stream<Item = Result<StreamDeductResponse, Status>> + Send + 'static {
    let handed_in = orders.then({
        let books = books.clone();
        // One after the other, so that the orders of a wallet keep their order.
        move |message| hand_in(books.clone(), context.clone(), message)
    });
    handed_in.map(move |sent| answer(books.clone(), sent)).buffer_unordered(UNDER_WAY)
}

async fn hand_in(books: Books, context: Context, message: Result<StreamDeductRequest, Status>) -> Result<Sent, Status> {
    let asked = message?.deduction.unwrap_or_default();
    let deduct = match read::order(&asked) {
        Ok(deduct) => deduct,
        Err(refusal) => {
            // It may be anything, and answers are small.
            let request_id = asked.request_id.chars().take(id::MAX_LENGTH).collect();
            let error = Some(write::error(&refusal));
            let answer = StreamDeductResponse { request_id, error, ..StreamDeductResponse::default() };
            return Ok(Sent::Refused(Box::new(answer)));
        }
    };
    let (context, began) = (context.within(BUDGET), Instant::now());
    let pending = books.hand_in_with_room(&context, Order::Deduct(deduct.clone())).await?;
    Ok(Sent::UnderWay(UnderWay { deduct, pending, began }))
}

async fn answer(books: Books, sent: Result<Sent, Status>) -> Result<StreamDeductResponse, Status> {
    match sent? {
        Sent::Refused(response) => Ok(*response),
        Sent::UnderWay(order) => {
            let request_id = order.deduct.request_id.to_string();
            // Whatever kept an order from being carried out says nothing of the next one.
            let result = order.outcome(&books, "StreamDeduct").await;
            let result = result.unwrap_or_else(|refusal| write::refused_one(&refusal, false));
            let DeductionResult { deduction, already_processed, error } = result;
            Ok(StreamDeductResponse { request_id, deduction, already_processed, error })
        }
    }
}
