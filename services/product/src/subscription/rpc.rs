//! SubscriptionService on the wire.

mod read;
mod write;

use mesh::{Fields, Parts, REQUEST_BYTES, Slug, TokenKey, open, page};
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status as GrpcStatus, async_trait};
use trivet_proto::product::v1::{
    CancelSubscriptionRequest, CancelSubscriptionResponse, ChangePlanRequest, ChangePlanResponse,
    CreateSubscriptionRequest, CreateSubscriptionResponse, GetSubscriptionAnalyticsRequest,
    GetSubscriptionAnalyticsResponse, GetSubscriptionRequest, GetSubscriptionResponse, ListSubscriptionHistoryRequest,
    ListSubscriptionHistoryResponse, ListSubscriptionsRequest, ListSubscriptionsResponse, PauseSubscriptionRequest,
    PauseSubscriptionResponse, ResumeSubscriptionRequest, ResumeSubscriptionResponse, UpdateSubscriptionStatusRequest,
    UpdateSubscriptionStatusResponse, WithdrawScheduledChangeRequest, WithdrawScheduledChangeResponse,
    subscription_service_server::{SubscriptionService, SubscriptionServiceServer},
};

use super::{Cursor, Subscriptions, steps::Wish, table::Entry};
use crate::buyer::{Accounts, Membership};
use read::Told;
use write::rehearsed;

/// SubscriptionService over this store, asking account who may subscribe.
pub(crate) fn server(parts: &Parts, accounts: Accounts) -> SubscriptionServiceServer<Rpc> {
    let subscriptions = Subscriptions::new(parts.store.clone(), parts.clock.clone());
    let rpc = Rpc { subscriptions, accounts, tokens: parts.tokens.clone() };
    SubscriptionServiceServer::new(rpc).max_decoding_message_size(REQUEST_BYTES)
}

pub(crate) struct Rpc {
    subscriptions: Subscriptions,
    accounts: Accounts,
    tokens: TokenKey,
}

/// The place of a line in a history, newest first.
#[derive(Serialize, Deserialize)]
struct Before(i64);

#[async_trait]
impl SubscriptionService for Rpc {
    async fn create_subscription(
        &self,
        request: Request<CreateSubscriptionRequest>,
    ) -> Result<Response<CreateSubscriptionResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let draft = read::draft(&asked)?;
        if let Some(decided) = self.subscriptions.created(&context, &draft).await? {
            let response = CreateSubscriptionResponse { subscription: Some(decided?.into()), already_processed: true };
            return Ok(Response::new(response));
        }
        let account = self.accounts.ask_now(&context, &draft.user_id).await?;
        let membership = match &draft.organization_id {
            Some(organization_id) => self.accounts.membership(&context, organization_id, &draft.user_id).await?,
            None => Membership::Member,
        };
        let created = self.subscriptions.create(&context, draft, (account, membership), asked.validate_only);
        let (subscription, already_processed) = created.await??;
        let rehearsal = asked.validate_only && !already_processed;
        let subscription = if rehearsal { rehearsed(subscription) } else { subscription.into() };
        Ok(Response::new(CreateSubscriptionResponse { subscription: Some(subscription), already_processed }))
    }

    async fn get_subscription(
        &self,
        request: Request<GetSubscriptionRequest>,
    ) -> Result<Response<GetSubscriptionResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let id = fields.read("subscription_id", Slug::parse(&asked.subscription_id));
        let (id,) = fields.finish((id,))?;
        let subscription = self.subscriptions.find(&context, &id).await??;
        Ok(Response::new(GetSubscriptionResponse { subscription: Some(subscription.into()) }))
    }

    async fn list_subscriptions(
        &self,
        request: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<ListSubscriptionsResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (filter, size) = read::filter(&asked)?;
        let listing = self.tokens.listing("ListSubscriptions", &context.tenant, &filter)?;
        let after: Option<Cursor> = listing.open(&asked.page_token)?;
        let mut subscriptions = self.subscriptions.list(&context, &filter, after.as_ref(), page::rows(size)).await?;
        let next_page_token = listing.cut(&mut subscriptions, size, Cursor::of)?;
        let total_size = if asked.with_total { Some(self.subscriptions.count(&context, &filter).await?) } else { None };
        let subscriptions = subscriptions.into_iter().map(Into::into).collect();
        Ok(Response::new(ListSubscriptionsResponse { subscriptions, next_page_token, total_size }))
    }

    async fn change_plan(
        &self,
        request: Request<ChangePlanRequest>,
    ) -> Result<Response<ChangePlanResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let changed = self.subscriptions.change(&context, read::change(&asked)?, asked.validate_only);
        let (changed, already_processed) = changed.await??;
        let currency = changed.subscription.currency();
        let amount = changed.prorated.map_or_else(|| "0".to_owned(), |(_, amount)| amount.to_wire());
        Ok(Response::new(ChangePlanResponse {
            subscription: Some(changed.subscription.into()),
            amount,
            currency: currency.code().to_owned(),
            proration_time: changed.prorated.map(|(time, _)| time.to_wire()),
            already_processed,
        }))
    }

    async fn withdraw_scheduled_change(
        &self,
        request: Request<WithdrawScheduledChangeRequest>,
    ) -> Result<Response<WithdrawScheduledChangeResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let order = read::order(
            &Told { subscription_id: &asked.subscription_id, reason: "", feedback: "", etag: &asked.etag },
            Wish::Withdraw,
        )?;
        let subscription = Some(self.subscriptions.fulfil(&context, order).await??.into());
        Ok(Response::new(WithdrawScheduledChangeResponse { subscription }))
    }

    async fn cancel_subscription(
        &self,
        request: Request<CancelSubscriptionRequest>,
    ) -> Result<Response<CancelSubscriptionResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let order = read::order(
            &Told {
                subscription_id: &asked.subscription_id,
                reason: &asked.reason,
                feedback: &asked.feedback,
                etag: &asked.etag,
            },
            Wish::Cancel { immediately: asked.immediately },
        )?;
        let subscription = Some(self.subscriptions.fulfil(&context, order).await??.into());
        Ok(Response::new(CancelSubscriptionResponse { subscription }))
    }

    async fn pause_subscription(
        &self,
        request: Request<PauseSubscriptionRequest>,
    ) -> Result<Response<PauseSubscriptionResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let order = read::order(
            &Told { subscription_id: &asked.subscription_id, reason: &asked.reason, feedback: "", etag: &asked.etag },
            Wish::Pause,
        )?;
        let subscription = Some(self.subscriptions.fulfil(&context, order).await??.into());
        Ok(Response::new(PauseSubscriptionResponse { subscription }))
    }

    async fn resume_subscription(
        &self,
        request: Request<ResumeSubscriptionRequest>,
    ) -> Result<Response<ResumeSubscriptionResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let order = read::order(
            &Told { subscription_id: &asked.subscription_id, reason: &asked.reason, feedback: "", etag: &asked.etag },
            Wish::Resume,
        )?;
        let subscription = Some(self.subscriptions.fulfil(&context, order).await??.into());
        Ok(Response::new(ResumeSubscriptionResponse { subscription }))
    }

    async fn update_subscription_status(
        &self,
        request: Request<UpdateSubscriptionStatusRequest>,
    ) -> Result<Response<UpdateSubscriptionStatusResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let subscription = self.subscriptions.fulfil(&context, read::step(&asked)?).await??;
        Ok(Response::new(UpdateSubscriptionStatusResponse { subscription: Some(subscription.into()) }))
    }

    async fn list_subscription_history(
        &self,
        request: Request<ListSubscriptionHistoryRequest>,
    ) -> Result<Response<ListSubscriptionHistoryResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let id = fields.read("subscription_id", Slug::parse(&asked.subscription_id));
        let size = fields.read("page_size", page::size(asked.page_size));
        let (size, id) = fields.finish((size, id))?;
        let listing = self.tokens.listing("ListSubscriptionHistory", &context.tenant, &id)?;
        let before: Option<Before> = listing.open(&asked.page_token)?;
        let before = before.map(|Before(version)| version);
        let past = self.subscriptions.history(&context, &id, before, page::rows(size)).await?;
        let (mut entries, total): (Vec<Entry>, i64) = past.map_err(GrpcStatus::from)?;
        let next_page_token = listing.cut(&mut entries, size, |entry| Before(entry.version))?;
        let entries = entries.into_iter().map(Into::into).collect();
        let total_size = asked.with_total.then_some(total);
        Ok(Response::new(ListSubscriptionHistoryResponse { entries, next_page_token, total_size }))
    }

    async fn get_subscription_analytics(
        &self,
        request: Request<GetSubscriptionAnalyticsRequest>,
    ) -> Result<Response<GetSubscriptionAnalyticsResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let analytics = self.subscriptions.analytics(&context, read::time(&asked)?).await?;
        Ok(Response::new(analytics.into()))
    }
}
