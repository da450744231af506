//! BillingService on the wire: deductions here, refunds and holds beside their rules.

mod read;
mod stream;
mod write;

use mesh::{Answers, BATCH_BYTES, Context, Parts, Reason, Refusal, StoreError, Streams, TokenKey, open, page};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming, async_trait};
use trivet_proto::billing::v1::{
    BatchDeductRequest, BatchDeductResponse, CaptureHoldRequest, CaptureHoldResponse, DeductRequest, DeductResponse,
    DeductionResult, GetDeductionRequest, GetDeductionResponse, GetHoldRequest, GetHoldResponse, ListDeductionsRequest,
    ListDeductionsResponse, ListHoldsRequest, ListHoldsResponse, PlaceHoldRequest, PlaceHoldResponse, RefundRequest,
    RefundResponse, ReleaseHoldRequest, ReleaseHoldResponse, StreamDeductRequest, StreamDeductResponse,
    VoidRequestRequest, VoidRequestResponse,
    billing_service_server::{BillingService, BillingServiceServer},
};

use super::{Cursor, Deduct, Deductions};
use crate::{
    book::{Books, Order, Posted, Stopped, one},
    hold::{self, Holds},
    refund,
};
use write::{UnderWay, carried_out, deduction_message, no_deduction, refused_one};

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
        let batch = read::batch(&asked.deductions)?;
        let results = if atomic {
            self.together(&context, batch.whole()?, rehearsal).await?
        } else if rehearsal {
            self.rehearse(&context, batch.orders).await?
        } else {
            self.each(&context, batch.orders).await?
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
        let after: Option<Cursor> = listing.open(&asked.page_token)?;
        let mut deductions = self.deductions.list(&context, &filter, after.as_ref(), page::rows(size)).await?;
        let next_page_token = listing.cut(&mut deductions, size, Cursor::of)?;
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

impl Rpc {
    /// Carries out all orders or none.
    async fn together(
        &self,
        context: &Context,
        deducts: Vec<Deduct>,
        rehearsal: bool,
    ) -> Result<Vec<DeductionResult>, Status> {
        let orders = deducts.iter().cloned().map(Order::Deduct).collect();
        let decided = if rehearsal {
            self.books.rehearse(context, orders).await
        } else {
            let began = Instant::now();
            let decided = self.books.hand_in(context, orders)?.answer().await;
            self.books.note("BatchDeduct", began, &decided);
            decided
        };
        let posted = decided?.map_err(|Stopped { index, refused, .. }| Refusal::from(refused).with("index", index))?;
        let answer = |(deduct, (posted, before)): (&Deduct, (Posted, bool))| {
            carried_out(deduction_message(deduct, posted, rehearsal && !before), before)
        };
        Ok(deducts.iter().zip(posted).map(answer).collect())
    }

    /// Carries out each order by itself. Where too much waits for the first of them, none is taken; the others wait for
    /// room. What keeps the house from deciding an order is that order's error, unless it keeps it from deciding any.
    async fn each(
        &self,
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
                        self.books.hand_in_with_room(context, order).await
                    } else {
                        // None is under way yet, so that the whole of them may come again.
                        Ok(self.books.hand_in(context, vec![order])?)
                    };
                    taken = true;
                    pending.map(|pending| UnderWay { deduct, pending, began }).map_err(Refusal::from)
                }
                Err(refusal) => Err(refusal),
            });
        }
        let mut results = Vec::with_capacity(pending.len());
        let (mut decided, mut failed) = (false, None);
        for pending in pending {
            results.push(match pending {
                Ok(order) => match order.outcome(&self.books, "BatchDeduct").await {
                    Ok(result) => {
                        decided = true;
                        result
                    }
                    Err(refusal) => {
                        let result = refused_one(&refusal, false);
                        // Where one of them may have happened, that is what is said of all.
                        if failed.as_ref().is_none_or(|failed: &Refusal| failed.reason() != Reason::OutcomeUnknown) {
                            failed = Some(refusal);
                        }
                        result
                    }
                },
                Err(refusal) => refused_one(&refusal, false),
            });
        }
        match failed {
            Some(refusal) if !decided => Err(refusal.into()),
            _ => Ok(results),
        }
    }

    /// Says what would become of each order after the ones before it.
    async fn rehearse(
        &self,
        context: &Context,
        orders: Vec<Result<Deduct, Refusal>>,
    ) -> Result<Vec<DeductionResult>, Status> {
        let good = orders.iter().flatten().cloned().map(Order::Deduct).collect();
        let mut decided = self.books.rehearse_each(context, good).await?.into_iter();
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
}
