//! BillingService on the wire: deductions here, refunds and holds beside their rules.

mod batch;
mod read;
mod stream;
mod write;

use mesh::{Answers, BATCH_BYTES, Parts, Streams, TokenKey, open, page};
use tonic::{Request, Response, Status, Streaming, async_trait};
use trivet_proto::billing::v1::{
    BatchDeductRequest, BatchDeductResponse, CaptureHoldRequest, CaptureHoldResponse, DeductRequest, DeductResponse,
    GetDeductionRequest, GetDeductionResponse, GetHoldRequest, GetHoldResponse, ListDeductionsRequest,
    ListDeductionsResponse, ListHoldsRequest, ListHoldsResponse, PlaceHoldRequest, PlaceHoldResponse, RefundRequest,
    RefundResponse, ReleaseHoldRequest, ReleaseHoldResponse, StreamDeductRequest, StreamDeductResponse,
    VoidRequestRequest, VoidRequestResponse,
    billing_service_server::{BillingService, BillingServiceServer},
};

use super::{Cursor, Deductions};
use crate::{
    book::{Books, Order},
    hold::{self, Holds},
    ledger::Places,
    refund,
};
use write::{deduction_message, no_deduction};

/// BillingService over these books.
pub(crate) fn server(parts: &Parts, books: &Books) -> BillingServiceServer<Rpc> {
    let rpc = Rpc {
        deductions: Deductions { books: books.clone() },
        holds: Holds { books: books.clone() },
        books: books.clone(),
        tokens: parts.tokens.clone(),
        streams: parts.streams.clone(),
    };
    BillingServiceServer::new(rpc).max_decoding_message_size(BATCH_BYTES)
}

pub(crate) struct Rpc {
    deductions: Deductions,
    holds: Holds,
    books: Books,
    tokens: TokenKey,
    streams: Streams,
}

#[async_trait]
impl BillingService for Rpc {
    async fn deduct(&self, request: Request<DeductRequest>) -> Result<Response<DeductResponse>, Status> {
        let (context, asked) = open(request)?;
        let rehearsal = asked.validate_only;
        let deduct = read::order(&read::one(asked))?;
        let (posted, already_processed) =
            self.books.carry_out(&context, Order::Deduct(deduct.clone()), rehearsal).await?;
        let deduction = Some(deduction_message(&deduct, posted, rehearsal && !already_processed));
        Ok(Response::new(DeductResponse { deduction, already_processed }))
    }

    async fn batch_deduct(
        &self,
        request: Request<BatchDeductRequest>,
    ) -> Result<Response<BatchDeductResponse>, Status> {
        let (context, asked) = open(request)?;
        let (atomic, rehearsal) = (asked.atomic, asked.validate_only);
        let asked = read::batch(&asked.deductions)?;
        let results = if atomic {
            batch::together(&self.books, &context, asked.whole()?, rehearsal).await?
        } else if rehearsal {
            batch::rehearse(&self.books, &context, asked.orders).await?
        } else {
            batch::each(&self.books, &context, asked.orders).await?
        };
        Ok(Response::new(BatchDeductResponse { results }))
    }

    type StreamDeductStream = Answers<StreamDeductResponse>;

    async fn stream_deduct(
        &self,
        request: Request<Streaming<StreamDeductRequest>>,
    ) -> Result<Response<Self::StreamDeductStream>, Status> {
        let (context, orders) = open(request)?;
        let answers = stream::carry_out(self.books.clone(), context.clone(), orders);
        Ok(self.streams.answer(&context, answers))
    }

    async fn get_deduction(
        &self,
        request: Request<GetDeductionRequest>,
    ) -> Result<Response<GetDeductionResponse>, Status> {
        let (context, asked) = open(request)?;
        let request_id = read::request_id(&asked.request_id)?;
        let deduction = self.deductions.find(&context, &request_id).await?.ok_or_else(|| no_deduction(&request_id))?;
        Ok(Response::new(GetDeductionResponse { deduction: Some(deduction.into()) }))
    }

    async fn list_deductions(
        &self,
        request: Request<ListDeductionsRequest>,
    ) -> Result<Response<ListDeductionsResponse>, Status> {
        let (context, asked) = open(request)?;
        let (filter, size) = read::filter(&asked)?;
        let listing = self.tokens.listing("ListDeductions", &context.tenant, &filter)?;
        let (deductions, next_page_token) = match &filter.user_id {
            None => {
                let after: Option<Cursor> = listing.open(&asked.page_token)?;
                let mut deductions = self.deductions.list(&context, &filter, after.as_ref(), page::rows(size)).await?;
                let next = listing.cut(&mut deductions, size, Cursor::of)?;
                (deductions, next)
            }
            Some(user_id) => {
                let before: Option<Places> = listing.open(&asked.page_token)?;
                let (deductions, further) =
                    self.deductions.list_of_user(&context, (user_id, &filter), before, size).await?;
                let next = if further.is_empty() { String::new() } else { listing.seal(&further)? };
                (deductions, next)
            }
        };
        let total_size = if asked.with_total { Some(self.deductions.count(&context, &filter).await?) } else { None };
        let deductions = deductions.into_iter().map(Into::into).collect();
        Ok(Response::new(ListDeductionsResponse { deductions, next_page_token, total_size }))
    }

    async fn refund(&self, request: Request<RefundRequest>) -> Result<Response<RefundResponse>, Status> {
        refund::refund(&self.books, request).await
    }

    async fn place_hold(&self, request: Request<PlaceHoldRequest>) -> Result<Response<PlaceHoldResponse>, Status> {
        hold::place_hold(&self.books, request).await
    }

    async fn capture_hold(
        &self,
        request: Request<CaptureHoldRequest>,
    ) -> Result<Response<CaptureHoldResponse>, Status> {
        hold::capture_hold(&self.holds, request).await
    }

    async fn release_hold(
        &self,
        request: Request<ReleaseHoldRequest>,
    ) -> Result<Response<ReleaseHoldResponse>, Status> {
        hold::release_hold(&self.holds, request).await
    }

    async fn get_hold(&self, request: Request<GetHoldRequest>) -> Result<Response<GetHoldResponse>, Status> {
        hold::get_hold(&self.holds, request).await
    }

    async fn list_holds(&self, request: Request<ListHoldsRequest>) -> Result<Response<ListHoldsResponse>, Status> {
        hold::list_holds(&self.holds, &self.tokens, request).await
    }

    async fn void_request(
        &self,
        request: Request<VoidRequestRequest>,
    ) -> Result<Response<VoidRequestResponse>, Status> {
        let (context, asked) = open(request)?;
        let (request_id, reason) = read::voiding(&asked)?;
        let (since, already_processed) = self.deductions.void(&context, request_id, reason).await??;
        Ok(Response::new(VoidRequestResponse {
            request_id: asked.request_id,
            void_time: Some(since.to_wire()),
            already_processed,
        }))
    }
}
