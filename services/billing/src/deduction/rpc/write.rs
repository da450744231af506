//! How deductions are answered.

use mesh::{Reason, Refusal, RequestId, Slug, chain, coalesce::Pending};
use money::Amount;
use tokio::time::Instant;
use tonic::Status;
use tracing::error;
use trivet_proto::billing::v1::{self as wire, DeductionError, DeductionResult, Settlement};

use super::super::{Deduct, Deduction, NotVoided};
use crate::{
    book::{Books, Decided, NotCarriedOut, Posted, Stopped, one},
    settlement,
};

pub(super) fn deduction_message(deduct: &Deduct, posted: Posted, rehearsal: bool) -> wire::Deduction {
    let text = |slug: &Option<Slug>| slug.as_ref().map(ToString::to_string).unwrap_or_default();
    wire::Deduction {
        transaction_id: if rehearsal { String::new() } else { posted.transaction_id },
        request_id: deduct.request_id.to_string(),
        user_id: deduct.user_id.to_string(),
        api_id: text(&deduct.api_id),
        endpoint_id: text(&deduct.endpoint_id),
        api_key_id: text(&deduct.api_key_id),
        currency: deduct.amount.currency().code().to_owned(),
        amount: deduct.amount.to_wire(),
        balance_after: posted.balance_after.to_wire(),
        wallet_version: posted.wallet_version,
        create_time: (!rehearsal).then(|| posted.time.to_wire()),
        settlement: Some(settled()),
        refunded_amount: Amount::zero(deduct.amount.currency()).to_wire(),
    }
}

impl From<Deduction> for wire::Deduction {
    fn from(deduction: Deduction) -> Self {
        let Deduction { change, refunded } = deduction;
        let text = |slug: Option<Slug>| slug.map(Slug::into_string).unwrap_or_default();
        Self {
            transaction_id: change.transaction_id.clone(),
            request_id: change.request_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            user_id: change.user_id.to_string(),
            currency: change.currency().code().to_owned(),
            amount: change.taken().to_wire(),
            balance_after: change.balance_after.to_wire(),
            wallet_version: change.wallet_version,
            create_time: Some(change.create_time.to_wire()),
            settlement: Some(settled()),
            refunded_amount: refunded.to_wire(),
            api_id: text(change.purpose.api_id),
            endpoint_id: text(change.purpose.endpoint_id),
            api_key_id: text(change.purpose.api_key_id),
        }
    }
}

fn settled() -> Settlement {
    Settlement { state: settlement::state().into(), ..Settlement::default() }
}

/// One of several orders, which was handed in.
pub(super) struct UnderWay {
    pub(super) deduct: Deduct,
    pub(super) pending: Pending<Decided>,
    pub(super) began: Instant,
}

impl UnderWay {
    /// What became of it; or what of the house's own kept it from being decided.
    pub(super) async fn outcome(self, books: &Books, method: &'static str) -> Result<DeductionResult, Refusal> {
        let decided = self.pending.answer().await;
        books.note(method, self.began, &decided);
        if let Ok(Err(Stopped { refused, before, .. })) = decided {
            return Ok(refused_one(&refused.into(), before));
        }
        let (posted, before) = decided.map_err(NotCarriedOut::from).and_then(one)?;
        Ok(carried_out(deduction_message(&self.deduct, posted, false), before))
    }
}

/// One of several orders that was carried out.
pub(super) fn carried_out(deduction: wire::Deduction, already_processed: bool) -> DeductionResult {
    DeductionResult { deduction: Some(deduction), already_processed, error: None }
}

/// One of several orders that was not carried out.
pub(super) fn refused_one(refusal: &Refusal, already_processed: bool) -> DeductionResult {
    DeductionResult { deduction: None, already_processed, error: Some(error(refusal)) }
}

/// A refusal of one of several orders.
pub(super) fn error(refusal: &Refusal) -> DeductionError {
    let reason = refusal.reason();
    if reason == Reason::Internal {
        // The call is a success, so that nobody else tells of it.
        error!("An order of several failed: {}", chain(refusal));
    }
    let metadata = refusal.metadata().iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let (code, reason) = (i32::from(reason.code()), reason.name().to_owned());
    DeductionError { code, reason, message: refusal.message().to_owned(), metadata }
}

pub(super) fn no_deduction(request_id: &RequestId) -> Refusal {
    Refusal::new(Reason::DeductionNotFound, format!("no deduction was made under {request_id} yet"))
        .about("trivet.billing.v1.Deduction", request_id)
}

impl From<NotVoided> for Status {
    fn from(not_voided: NotVoided) -> Self {
        let about = |message, request_id: &RequestId| {
            Refusal::new(Reason::AlreadyApplied, message).about("trivet.dev/Request", request_id)
        };
        match not_voided {
            NotVoided::Deducted(request_id, deduction) => {
                let message = format!("request id {request_id} took money already; refund it instead");
                let refusal = about(message, &request_id).with("transaction_id", &deduction.change.transaction_id);
                refusal.attach("trivet.billing.v1.Deduction", &wire::Deduction::from(*deduction))
            }
            NotVoided::Applied { request_id, method } => {
                about(format!("request id {request_id} was carried out already, as a {method}"), &request_id)
                    .with("method", method)
            }
        }
        .into()
    }
}
