//! UsageService on the wire.

mod read;
mod stream;
mod write;

use std::sync::Arc;

use mesh::{BATCH_BYTES, Parts, Refusal, TokenKey, open, page};
use tonic::{Request, Response, Status as GrpcStatus, Streaming, async_trait};
use trivet_proto::product::v1::{
    BatchRecordUsageRequest, BatchRecordUsageResponse, GetUsageStatisticsRequest, GetUsageStatisticsResponse,
    ListUsageRequest, ListUsageResponse, RecordUsageRequest, RecordUsageResponse, StreamUsageRequest,
    StreamUsageResponse, UsageRecord, VoidUsageRequest, VoidUsageResponse,
    usage_service_server::{UsageService, UsageServiceServer},
};

use super::{Cursor, Outcome, Refused, Usages, table::Place};
use write::{Prices, error, result};

/// UsageService over this store.
pub(crate) fn server(parts: &Parts, usages: Usages) -> UsageServiceServer<Rpc> {
    let prices = Prices::new(parts.store.clone());
    let rpc = Rpc { usages, prices, tokens: parts.tokens.clone() };
    UsageServiceServer::new(rpc).max_decoding_message_size(BATCH_BYTES)
}

pub(crate) struct Rpc {
    usages: Usages,
    prices: Prices,
    tokens: TokenKey,
}

#[async_trait]
impl UsageService for Rpc {
    async fn record_usage(
        &self,
        request: Request<RecordUsageRequest>,
    ) -> Result<Response<RecordUsageResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let order = read::order(&record(asked), self.usages.clock.now())?;
        match self.usages.record(&context, order)?.answer().await? {
            Outcome::Recorded(usage, already_processed) => {
                let usage = Some(self.prices.whole(&context, Arc::unwrap_or_clone(usage)).await?);
                Ok(Response::new(RecordUsageResponse { usage, already_processed }))
            }
            Outcome::Refused(refused, _) => Err(refused.into()),
        }
    }

    async fn batch_record_usage(
        &self,
        request: Request<BatchRecordUsageRequest>,
    ) -> Result<Response<BatchRecordUsageResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let records = read::batch(asked)?;
        let now = self.usages.clock.now();
        // Handed in all before the first is waited for, so that they are committed together.
        let mut pending = Vec::with_capacity(records.len());
        for record in &records {
            pending.push(match read::order(record, now) {
                Ok(order) => Ok(self.usages.record_with_room(&context, order).await?),
                Err(refusal) => Err(refusal),
            });
        }
        let mut results = Vec::with_capacity(pending.len());
        for pending in pending {
            results.push(match pending {
                Ok(pending) => match pending.answer().await? {
                    Outcome::Recorded(usage, before) => {
                        result(self.prices.whole(&context, Arc::unwrap_or_clone(usage)).await?, before)
                    }
                    Outcome::Refused(refused, before) => error(&Refusal::from(refused), before),
                },
                Err(refusal) => error(&refusal, false),
            });
        }
        Ok(Response::new(BatchRecordUsageResponse { results }))
    }

    async fn stream_usage(
        &self,
        request: Request<Streaming<StreamUsageRequest>>,
    ) -> Result<Response<StreamUsageResponse>, GrpcStatus> {
        let (context, records) = open(request)?;
        Ok(Response::new(stream::take_in(&self.usages, &context, records).await?))
    }

    async fn list_usage(&self, request: Request<ListUsageRequest>) -> Result<Response<ListUsageResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (filter, size) = read::filter(&asked)?;
        let listing = self.tokens.listing("ListUsage", &context.tenant, &filter)?;
        let after: Option<Cursor> = listing.open(&asked.page_token)?;
        let mut usages = self.usages.list(&context, &filter, after.as_ref(), page::rows(size)).await?;
        let next_page_token = listing.cut(&mut usages, size, Cursor::of)?;
        let total_size = if asked.with_total { Some(self.usages.count(&context, &filter).await?) } else { None };
        let usages = usages.into_iter().map(Into::into).collect();
        Ok(Response::new(ListUsageResponse { usages, next_page_token, total_size }))
    }

    async fn get_usage_statistics(
        &self,
        request: Request<GetUsageStatisticsRequest>,
    ) -> Result<Response<GetUsageStatisticsResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (question, size) = read::question(&asked)?;
        let listing = self.tokens.listing("GetUsageStatistics", &context.tenant, &question)?;
        let after: Option<Place> = listing.open(&asked.page_token)?;
        let mut rows = self.usages.statistics(&context, &question, after.as_ref(), page::rows(size)).await?;
        let next_page_token = listing.cut(&mut rows, size, super::sums::Statistics::place)?;
        let rows = rows.into_iter().map(|row| write::statistics(row, question.group_by)).collect();
        Ok(Response::new(GetUsageStatisticsResponse { rows, next_page_token }))
    }

    async fn void_usage(&self, request: Request<VoidUsageRequest>) -> Result<Response<VoidUsageResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (usage_id, reason) = read::voiding(&asked)?;
        let usage = self.usages.void(&context, usage_id, reason).await??;
        Ok(Response::new(VoidUsageResponse { usage: Some(self.prices.whole(&context, usage).await?) }))
    }
}

/// The same record, as one of several.
fn record(asked: RecordUsageRequest) -> UsageRecord {
    let RecordUsageRequest {
        request_id,
        user_id,
        product_id,
        quantity,
        organization_id,
        subscription_id,
        session_id,
        event_time,
        attributes,
    } = asked;
    UsageRecord {
        request_id,
        user_id,
        product_id,
        quantity,
        organization_id,
        subscription_id,
        session_id,
        event_time,
        attributes,
    }
}

impl From<Refused> for GrpcStatus {
    fn from(refused: Refused) -> Self {
        Refusal::from(refused).into()
    }
}
