//! Refund on the wire.

use mesh::{Context, Fields, Refusal, RequestId, Slug, StoreError, open, text};
use tonic::{Request, Response, Status};
use trivet_proto::billing::v1::{RefundRequest, RefundResponse, Refunded};

use super::{Refund, Taken, What};
use crate::{
    book::{Books, Order, Posted},
    charge,
    deduction::made_by,
    ledger,
    wallet::{read_amount_in, read_amount_of_any},
};

/// Characters of the reason of a refund.
const REASON_LIMIT: usize = 500;

/// Gives money back.
pub(crate) async fn refund(books: &Books, request: Request<RefundRequest>) -> Result<Response<RefundResponse>, Status> {
    let (context, asked) = open(request)?;
    let (request_id, what, wanted, reason) = read(&asked)?;
    let of = taken(books, &context, &what).await?;
    let amount = match &of {
        Some(taken) => read_amount_in(taken.amount.currency(), &asked.amount)?,
        None => None,
    };
    let order = Refund { request_id, what, amount, asked: wanted, reason, of: of.clone() };
    let (posted, already_processed) =
        books.carry_out(&context, Order::Refund(order.clone()), asked.validate_only).await?;
    let rehearsal = asked.validate_only && !already_processed;
    let refund = of.map(|taken| message(order, taken, posted, rehearsal));
    Ok(Response::new(RefundResponse { refund, already_processed }))
}

fn read(asked: &RefundRequest) -> Result<(RequestId, What, String, String), Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
    let what = match (asked.deduction_request_id.as_str(), asked.charge_id.as_str()) {
        ("", "") => fields.read("deduction_request_id", Err("is required, unless charge_id is set")),
        (deduction, "") => fields.read("deduction_request_id", RequestId::parse(deduction)).map(What::Deduction),
        ("", charge) => fields.read("charge_id", Slug::parse(charge)).map(What::Charge),
        _ => fields.read("charge_id", Err("must be empty where deduction_request_id is set")),
    };
    let amount = read_amount_of_any(&mut fields, &asked.amount);
    let reason = fields.read("reason", text::optional_line(&asked.reason, REASON_LIMIT));
    fields.finish((request_id, what, amount, reason))
}

/// The money that a refund is about. It was taken once and for ever: nobody needs a lock to see it.
async fn taken(books: &Books, context: &Context, what: &What) -> Result<Option<Taken>, StoreError> {
    let reader = books.store.reader();
    let change = match what {
        What::Deduction(request_id) => made_by(reader, &context.tenant, request_id).await?,
        What::Charge(charge_id) => match charge::table::find(reader, &context.tenant, charge_id).await? {
            Some(charge) if !charge.transaction_id.is_empty() => {
                ledger::find(reader, &context.tenant, &charge.transaction_id).await?
            }
            _ => None,
        },
    };
    Ok(change.and_then(Taken::by))
}

fn message(order: Refund, taken: Taken, posted: Posted, rehearsal: bool) -> Refunded {
    let (deduction_request_id, charge_id) = match order.what {
        What::Deduction(request_id) => (request_id.into_string(), String::new()),
        What::Charge(charge_id) => (String::new(), charge_id.into_string()),
    };
    Refunded {
        transaction_id: if rehearsal { String::new() } else { posted.transaction_id },
        request_id: order.request_id.into_string(),
        deduction_request_id,
        charge_id,
        user_id: taken.user_id.into_string(),
        currency: taken.amount.currency().code().to_owned(),
        amount: posted.amount.unwrap_or(taken.amount).to_wire(),
        reason: order.reason,
        balance_after: posted.balance_after.to_wire(),
        wallet_version: posted.wallet_version,
        create_time: (!rehearsal).then(|| posted.time.to_wire()),
    }
}
