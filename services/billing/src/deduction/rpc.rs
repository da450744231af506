//! BillingService on the wire.

use mesh::{Fields, Parts, REQUEST_BYTES, Reason, Refusal, RequestId, Slug, UserId, open, text};
use money::Amount;
use tonic::{Request, Response, Status, async_trait};
use trivet_proto::billing::v1::{
    self as wire, DeductRequest, DeductResponse, GetDeductionRequest, GetDeductionResponse, Settlement,
    SettlementState, VoidRequestRequest, VoidRequestResponse,
    billing_service_server::{BillingService, BillingServiceServer},
};

use super::{Deductions, NotVoided, Order, Refused};
use crate::{
    ledger::{Posted, Record},
    wallet::{no_wallet, read_amount},
};

/// Characters of the reason why a request is voided.
const REASON_LIMIT: usize = 500;

/// BillingService over this store.
pub(crate) fn server(parts: &Parts) -> BillingServiceServer<Rpc> {
    let deductions = Deductions { store: parts.store.clone(), clock: parts.clock.clone() };
    BillingServiceServer::new(Rpc { deductions }).max_decoding_message_size(REQUEST_BYTES)
}

pub(crate) struct Rpc {
    deductions: Deductions,
}

#[async_trait]
impl BillingService for Rpc {
    async fn deduct(&self, request: Request<DeductRequest>) -> Result<Response<DeductResponse>, Status> {
        let (context, asked) = open(request)?;
        let order = order(&asked)?;
        let (decided, already_processed) = self.deductions.deduct(&context, order.clone(), asked.validate_only).await?;
        let rehearsal = asked.validate_only && !already_processed;
        let deduction = Some(deduction_message(order, decided?, rehearsal));
        Ok(Response::new(DeductResponse { deduction, already_processed }))
    }

    async fn get_deduction(
        &self,
        request: Request<GetDeductionRequest>,
    ) -> Result<Response<GetDeductionResponse>, Status> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
        let (request_id,) = fields.finish((request_id,))?;
        let deduction = self.deductions.find(&context, &request_id).await?.ok_or_else(|| {
            Refusal::new(Reason::DeductionNotFound, format!("no deduction was made under {request_id} yet"))
                .about("trivet.billing.v1.Deduction", &request_id)
        })?;
        Ok(Response::new(GetDeductionResponse { deduction: Some(deduction.into()) }))
    }

    async fn void_request(
        &self,
        request: Request<VoidRequestRequest>,
    ) -> Result<Response<VoidRequestResponse>, Status> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
        let reason = fields.read("reason", text::optional_line(&asked.reason, REASON_LIMIT));
        let (request_id, reason) = fields.finish((request_id, reason))?;
        let (since, already_processed) = self.deductions.void(&context, request_id, reason).await??;
        Ok(Response::new(VoidRequestResponse {
            request_id: asked.request_id,
            void_time: Some(since.to_wire()),
            already_processed,
        }))
    }
}

fn order(asked: &DeductRequest) -> Result<Order, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let api_id = fields.read("api_id", Slug::parse_optional(&asked.api_id));
    let endpoint_id = fields.read("endpoint_id", Slug::parse_optional(&asked.endpoint_id));
    let api_key_id = fields.read("api_key_id", Slug::parse_optional(&asked.api_key_id));
    let amount = read_amount(&mut fields, &asked.currency, &asked.amount);
    let parts = (request_id, user_id, api_id, endpoint_id, api_key_id, amount);
    let (request_id, user_id, api_id, endpoint_id, api_key_id, amount) = fields.finish(parts)?;
    Ok(Order { request_id, user_id, amount, api_id, endpoint_id, api_key_id })
}

fn deduction_message(order: Order, posted: Posted, rehearsal: bool) -> wire::Deduction {
    let text = |slug: Option<Slug>| slug.map(Slug::into_string).unwrap_or_default();
    wire::Deduction {
        transaction_id: if rehearsal { String::new() } else { posted.transaction_id },
        request_id: order.request_id.into_string(),
        user_id: order.user_id.into_string(),
        api_id: text(order.api_id),
        endpoint_id: text(order.endpoint_id),
        api_key_id: text(order.api_key_id),
        currency: order.amount.currency().code().to_owned(),
        amount: order.amount.to_wire(),
        balance_after: posted.balance_after.to_wire(),
        wallet_version: posted.wallet_version,
        create_time: (!rehearsal).then(|| posted.time.to_wire()),
        settlement: Some(not_settled()),
        refunded_amount: Amount::zero(order.amount.currency()).to_wire(),
    }
}

impl From<Record> for wire::Deduction {
    fn from(record: Record) -> Self {
        let currency = record.change.currency();
        // A deduction's change is negative and never the least i64: it was a positive amount once.
        let taken = record.change.negated().unwrap_or(record.change);
        Self {
            transaction_id: record.transaction_id,
            request_id: record.request_id.into_string(),
            user_id: record.user_id.into_string(),
            api_id: record.api_id,
            endpoint_id: record.endpoint_id,
            api_key_id: record.api_key_id,
            currency: currency.code().to_owned(),
            amount: taken.to_wire(),
            balance_after: record.balance_after.to_wire(),
            wallet_version: record.wallet_version,
            create_time: Some(record.create_time.to_wire()),
            settlement: Some(not_settled()),
            refunded_amount: Amount::zero(currency).to_wire(),
        }
    }
}

/// Nothing is settled outside of this ledger yet.
fn not_settled() -> Settlement {
    Settlement { state: SettlementState::NotRequired.into(), ..Settlement::default() }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        match &refused {
            Refused::RequestId(taken) => taken.clone().into(),
            Refused::NoWallet { user_id, currency } => no_wallet(user_id, *currency),
            Refused::WalletFrozen(user_id) => {
                Refusal::new(Reason::WalletFrozen, &refused).about("trivet.billing.v1.Wallet", user_id)
            }
            Refused::InsufficientFunds { balance, available, required } => {
                Refusal::new(Reason::InsufficientFunds, &refused)
                    .with("currency", required.currency())
                    .with("balance", balance)
                    .with("available", available)
                    .with("required", required)
            }
        }
        .into()
    }
}

impl From<NotVoided> for Status {
    fn from(not_voided: NotVoided) -> Self {
        let about = |message, request_id: &RequestId| {
            Refusal::new(Reason::AlreadyApplied, message).about("trivet.dev/Request", request_id)
        };
        match not_voided {
            NotVoided::Deducted(record) => {
                let message = format!("request id {} took money already; refund it instead", record.request_id);
                let refusal = about(message, &record.request_id).with("transaction_id", &record.transaction_id);
                refusal.attach("trivet.billing.v1.Deduction", &wire::Deduction::from(*record))
            }
            NotVoided::Applied { request_id, method } => {
                about(format!("request id {request_id} was carried out already, as a {method}"), &request_id)
                    .with("method", method)
            }
        }
        .into()
    }
}
