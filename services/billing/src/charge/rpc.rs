//! ChargeService on the wire.

use mesh::{Fields, Parts, REQUEST_BYTES, Reason, Refusal, Slug, Time, TokenKey, UserId, open, page, text};
use tonic::{Request, Response, Status, async_trait};
use trivet_proto::billing::v1::{
    self as wire, ChargeSource, GetChargeRequest, GetChargeResponse, ListChargesRequest, ListChargesResponse,
    VoidChargeRequest, VoidChargeResponse,
    charge_service_server::{ChargeService, ChargeServiceServer},
};

use super::{Charge, ChargeState, Charges, Cursor, Filter, NotVoided, Source};
use crate::book::Books;

/// Characters of the reason why a charge is voided.
const REASON_LIMIT: usize = 500;

/// ChargeService over these books.
pub(crate) fn server(parts: &Parts, books: &Books) -> ChargeServiceServer<Rpc> {
    let rpc = Rpc { charges: Charges { books: books.clone() }, tokens: parts.tokens.clone() };
    ChargeServiceServer::new(rpc).max_decoding_message_size(REQUEST_BYTES)
}

pub(crate) struct Rpc {
    charges: Charges,
    tokens: TokenKey,
}

#[async_trait]
impl ChargeService for Rpc {
    async fn list_charges(
        &self,
        request: Request<ListChargesRequest>,
    ) -> Result<Response<ListChargesResponse>, Status> {
        let (context, asked) = open(request)?;
        let (filter, size) = filter(&asked)?;
        let listing = self.tokens.listing("ListCharges", &context.tenant, &filter)?;
        let after: Option<Cursor> = listing.open(&asked.page_token)?;
        let mut charges = self.charges.list(&context, &filter, after.as_ref(), page::rows(size)).await?;
        let next_page_token = listing.cut(&mut charges, size, Cursor::of)?;
        let total_size = if asked.with_total { Some(self.charges.count(&context, &filter).await?) } else { None };
        let charges = charges.into_iter().map(Into::into).collect();
        Ok(Response::new(ListChargesResponse { charges, next_page_token, total_size }))
    }

    async fn get_charge(&self, request: Request<GetChargeRequest>) -> Result<Response<GetChargeResponse>, Status> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let charge_id = fields.read("charge_id", Slug::parse(&asked.charge_id));
        let (charge_id,) = fields.finish((charge_id,))?;
        let charge = self.charges.find(&context, &charge_id).await?.ok_or(NotVoided::NoCharge(charge_id))?;
        Ok(Response::new(GetChargeResponse { charge: Some(charge.into()) }))
    }

    async fn void_charge(&self, request: Request<VoidChargeRequest>) -> Result<Response<VoidChargeResponse>, Status> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let charge_id = fields.read("charge_id", Slug::parse(&asked.charge_id));
        let reason = fields.read("reason", text::optional_line(&asked.reason, REASON_LIMIT));
        let (charge_id, reason) = fields.finish((charge_id, reason))?;
        let charge = self.charges.void(&context, charge_id, reason).await??;
        Ok(Response::new(VoidChargeResponse { charge: Some(charge.into()) }))
    }
}

fn filter(asked: &ListChargesRequest) -> Result<(Filter, u64), Refusal> {
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse_optional(&asked.user_id));
    let subscription_id = fields.read("subscription_id", Slug::parse_optional(&asked.subscription_id));
    let state = wire::ChargeState::try_from(asked.state).map_err(|_| "is not a state that this release knows");
    let state = fields.read("state", state);
    let size = fields.read("page_size", page::size(asked.page_size));
    let (user_id, subscription_id, state, size) = fields.finish((user_id, subscription_id, state, size))?;
    let state = match state {
        wire::ChargeState::Unspecified => None,
        wire::ChargeState::Open => Some(ChargeState::Open),
        wire::ChargeState::Paid => Some(ChargeState::Paid),
        wire::ChargeState::Void => Some(ChargeState::Void),
    };
    Ok((Filter { user_id, subscription_id, state }, size))
}

impl From<Charge> for wire::Charge {
    fn from(charge: Charge) -> Self {
        let text = |slug: Option<Slug>| slug.map(Slug::into_string).unwrap_or_default();
        let source = match charge.source {
            Source::Subscription => ChargeSource::Subscription,
            Source::Usage => ChargeSource::Usage,
        };
        let state = match charge.state {
            ChargeState::Open => wire::ChargeState::Open,
            ChargeState::Paid => wire::ChargeState::Paid,
            ChargeState::Void => wire::ChargeState::Void,
        };
        Self {
            charge_id: charge.charge_id.into_string(),
            user_id: charge.user_id.into_string(),
            currency: charge.amount.currency().code().to_owned(),
            amount: charge.amount.to_wire(),
            credited_amount: charge.credited.to_wire(),
            source: source.into(),
            state: state.into(),
            event_id: charge.event_id,
            subscription_id: text(charge.subscription_id),
            organization_id: text(charge.organization_id),
            product_id: text(charge.product_id),
            plan_id: text(charge.plan_id),
            reversed_charge_id: text(charge.reversed_id),
            transaction_id: charge.transaction_id,
            create_time: Some(charge.create_time.to_wire()),
            end_time: charge.end_time.map(Time::to_wire),
            void_reason: charge.void_reason,
        }
    }
}

impl From<NotVoided> for Status {
    fn from(not_voided: NotVoided) -> Self {
        let (reason, charge_id) = match &not_voided {
            NotVoided::NoCharge(charge_id) => (Reason::ChargeNotFound, charge_id),
            NotVoided::Voided(charge_id) => (Reason::AlreadyVoided, charge_id),
            NotVoided::Paid(charge_id) => (Reason::ChargePaid, charge_id),
        };
        Refusal::new(reason, &not_voided).about("trivet.billing.v1.Charge", charge_id).into()
    }
}
