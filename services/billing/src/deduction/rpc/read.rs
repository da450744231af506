//! How requests about deductions are read.

use mesh::{Fields, Reason, Refusal, RequestId, Slug, Time, UserId, page, refusal::Violation, text};
use trivet_proto::billing::v1::{DeductRequest, DeductionOrder, ListDeductionsRequest, VoidRequestRequest};

use super::super::Deduct;
use crate::{ledger::Filter, wallet::read_amount};

/// Characters of the reason why a request is voided.
const REASON_LIMIT: usize = 500;
/// Orders of one batch.
const BATCH: usize = 1_000;

/// A single order, as one of several would be.
pub(super) fn one(asked: DeductRequest) -> DeductionOrder {
    let DeductRequest { request_id, user_id, api_id, endpoint_id, api_key_id, amount, currency, .. } = asked;
    DeductionOrder { request_id, user_id, api_id, endpoint_id, api_key_id, amount, currency }
}

pub(super) fn order(asked: &DeductionOrder) -> Result<Deduct, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let api_id = fields.read("api_id", Slug::parse_optional(&asked.api_id));
    let endpoint_id = fields.read("endpoint_id", Slug::parse_optional(&asked.endpoint_id));
    let api_key_id = fields.read("api_key_id", Slug::parse_optional(&asked.api_key_id));
    let amount = read_amount(&mut fields, &asked.currency, &asked.amount);
    let parts = (request_id, user_id, api_id, endpoint_id, api_key_id, amount);
    let (request_id, user_id, api_id, endpoint_id, api_key_id, amount) = fields.finish(parts)?;
    Ok(Deduct { request_id, user_id, amount, api_id, endpoint_id, api_key_id })
}

/// The orders of a batch, each or why it is none; and why the whole is none, if one of them is.
pub(super) struct Batch {
    pub(super) orders: Vec<Result<Deduct, Refusal>>,
    pub(super) faults: Vec<Violation>,
}

/// The orders of a batch. How many there are is looked at first, since that is about all of them.
pub(super) fn batch(asked: &[DeductionOrder]) -> Result<Batch, Refusal> {
    let count = asked.len();
    if !(1..=BATCH).contains(&count) {
        let description = format!("has {count} entries, 1 to {BATCH} are allowed");
        let violation = Violation { field: "deductions".to_owned(), description };
        return Err(Refusal::fields(Reason::InvalidFields, vec![violation]));
    }
    let orders: Vec<Result<Deduct, Refusal>> = asked.iter().map(order).collect();
    let refused = orders.iter().enumerate().filter_map(|(index, order)| Some((index, order.as_ref().err()?)));
    let faults = refused.flat_map(|(index, refusal)| {
        refusal.violations().iter().map(move |violation| Violation {
            field: format!("deductions[{index}].{}", violation.field),
            description: violation.description.clone(),
        })
    });
    let faults = faults.collect();
    Ok(Batch { orders, faults })
}

impl Batch {
    /// The orders, if all of them are good.
    pub(super) fn whole(self) -> Result<Vec<Deduct>, Refusal> {
        let faults = self.faults;
        let orders: Result<Vec<Deduct>, Refusal> = self.orders.into_iter().collect();
        orders.map_err(|_| Refusal::fields(Reason::InvalidFields, faults))
    }
}

pub(super) fn request_id(asked: &str) -> Result<RequestId, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(asked));
    let (request_id,) = fields.finish((request_id,))?;
    Ok(request_id)
}

pub(super) fn voiding(asked: &VoidRequestRequest) -> Result<(RequestId, String), Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
    let reason = fields.read("reason", text::optional_line(&asked.reason, REASON_LIMIT));
    fields.finish((request_id, reason))
}

/// Which deductions, and how many of them.
pub(super) fn filter(asked: &ListDeductionsRequest) -> Result<(Filter, u64), Refusal> {
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse_optional(&asked.user_id));
    let api_id = fields.read("api_id", Slug::parse_optional(&asked.api_id));
    let api_key_id = fields.read("api_key_id", Slug::parse_optional(&asked.api_key_id));
    let start_time = fields.read("start_time", asked.start_time.as_ref().map(Time::from_wire).transpose());
    let end_time = fields.read("end_time", asked.end_time.as_ref().map(Time::from_wire).transpose());
    if let (Some(Some(start)), Some(Some(end))) = (start_time, end_time)
        && end < start
    {
        fields.refuse("end_time", "is before start_time");
    }
    let size = fields.read("page_size", page::size(asked.page_size));
    let parts = (user_id, api_id, api_key_id, start_time, end_time, size);
    let (user_id, api_id, api_key_id, start_time, end_time, size) = fields.finish(parts)?;
    Ok((Filter { user_id, api_id, api_key_id, start_time, end_time }, size))
}
