//! View FULL: an account with what billing and product know of it, and without what they do not say in time.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{net::TcpListener, sync::Barrier};
use tokio_stream::{Empty, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, async_trait, transport::Server};
use trivet::RoleName;
use trivet_proto::{
    account::v1::{Account, AccountView, GetAccountRequest},
    billing::v1::{
        FreezeWalletRequest, FreezeWalletResponse, GetStatementRequest, GetStatementResponse, GetWalletRequest,
        GetWalletResponse, ListTransactionsRequest, ListTransactionsResponse, RecordPaymentRequest,
        RecordPaymentResponse, UnfreezeWalletRequest, UnfreezeWalletResponse, Wallet, WatchWalletRequest,
        WatchWalletResponse,
        wallet_service_server::{WalletService, WalletServiceServer},
    },
    product::v1::{
        CancelSubscriptionRequest, CancelSubscriptionResponse, ChangePlanRequest, ChangePlanResponse,
        CreateSubscriptionRequest, CreateSubscriptionResponse, GetSubscriptionAnalyticsRequest,
        GetSubscriptionAnalyticsResponse, GetSubscriptionRequest, GetSubscriptionResponse,
        ListSubscriptionHistoryRequest, ListSubscriptionHistoryResponse, ListSubscriptionsRequest,
        ListSubscriptionsResponse, PauseSubscriptionRequest, PauseSubscriptionResponse, ResumeSubscriptionRequest,
        ResumeSubscriptionResponse, Subscription, SubscriptionStatus, UpdateSubscriptionStatusRequest,
        UpdateSubscriptionStatusResponse, WithdrawScheduledChangeRequest, WithdrawScheduledChangeResponse,
        subscription_service_server::{SubscriptionService, SubscriptionServiceServer},
    },
};

use crate::{
    accounts::by_id,
    harness::{Databases, House, config, faulty, on_every_store, person},
};

/// How long the caller of these tests waits at most.
const DEADLINE: Duration = Duration::from_secs(4);

fn full(user_id: &str) -> GetAccountRequest {
    GetAccountRequest { view: AccountView::Full.into(), ..by_id(user_id) }
}

async fn view(house: &House, ask: GetAccountRequest) -> Account {
    let mut request = Request::new(ask);
    request.set_timeout(DEADLINE);
    house.accounts().get_account(request).await.unwrap().into_inner().account.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_full_view_adds_credits_and_subscriptions_and_the_basic_one_does_not() {
    on_every_store(async |house| {
        house.user("ada", "12.5").await;
        let account = view(house, full("ada")).await;
        let credits = account.credits.clone().unwrap();
        assert_eq!(
            (credits.currency.as_str(), credits.balance.as_str(), credits.available.as_str()),
            ("USDC", "12.5", "12.5")
        );
        assert!(credits.as_of_time.is_some());
        assert_eq!((account.subscriptions.len(), account.unavailable_parts.len()), (0, 0));
        let in_dollars = view(house, GetAccountRequest { currency: "USD".to_owned(), ..full("ada") }).await;
        let credits = in_dollars.credits.unwrap();
        assert_eq!((credits.currency.as_str(), credits.balance.as_str()), ("USD", "0"), "no wallet, nothing to spend");
        let basic = view(house, by_id("ada")).await;
        assert_eq!((basic.credits, basic.unavailable_parts), (None, vec![]));
        let odd = GetAccountRequest { view: 9, currency: "usd".to_owned(), ..by_id("a b") };
        assert_eq!(faulty(&house.accounts().get_account(odd).await.unwrap_err()), ["user_id", "view", "currency"]);
    })
    .await;
}

/// How the other services behave.
#[derive(Clone)]
enum Manner {
    /// Each answers once both were asked.
    Together(Arc<Barrier>),
    /// Billing never answers; product does.
    HalfMute,
    /// Neither answers.
    Mute,
}

/// Billing and product, as far as they are asked.
#[derive(Clone)]
struct Others {
    manner: Manner,
    /// `grpc-timeout` of every call that came.
    timeouts: Arc<Mutex<Vec<String>>>,
}

impl Others {
    async fn listen(manner: Manner) -> (Self, String) {
        let others = Self { manner, timeouts: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server::builder()
            .add_service(WalletServiceServer::new(others.clone()))
            .add_service(SubscriptionServiceServer::new(others.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (others, address)
    }

    async fn behave<M>(&self, request: &Request<M>, billing: bool) {
        let timeout = request.metadata().get("grpc-timeout").unwrap().to_str().unwrap().to_owned();
        self.timeouts.lock().unwrap().push(timeout);
        match &self.manner {
            Manner::Together(both) => {
                both.wait().await;
            }
            Manner::HalfMute if !billing => {}
            Manner::HalfMute | Manner::Mute => std::future::pending().await,
        }
    }
}

#[async_trait]
impl WalletService for Others {
    async fn get_wallet(&self, request: Request<GetWalletRequest>) -> Result<Response<GetWalletResponse>, Status> {
        self.behave(&request, true).await;
        let wallet = Wallet { balance: "7".to_owned(), available: "6".to_owned(), ..Wallet::default() };
        Ok(Response::new(GetWalletResponse { wallet: Some(wallet) }))
    }

    async fn record_payment(&self, _: Request<RecordPaymentRequest>) -> Answer<RecordPaymentResponse> {
        Err(nobody_asks())
    }

    async fn list_transactions(&self, _: Request<ListTransactionsRequest>) -> Answer<ListTransactionsResponse> {
        Err(nobody_asks())
    }

    async fn freeze_wallet(&self, _: Request<FreezeWalletRequest>) -> Answer<FreezeWalletResponse> {
        Err(nobody_asks())
    }

    async fn unfreeze_wallet(&self, _: Request<UnfreezeWalletRequest>) -> Answer<UnfreezeWalletResponse> {
        Err(nobody_asks())
    }

    type WatchWalletStream = Empty<Result<WatchWalletResponse, Status>>;

    async fn watch_wallet(&self, _: Request<WatchWalletRequest>) -> Answer<Self::WatchWalletStream> {
        Err(nobody_asks())
    }

    async fn get_statement(&self, _: Request<GetStatementRequest>) -> Answer<GetStatementResponse> {
        Err(nobody_asks())
    }
}

#[async_trait]
impl SubscriptionService for Others {
    async fn list_subscriptions(
        &self,
        request: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<ListSubscriptionsResponse>, Status> {
        self.behave(&request, false).await;
        let subscription = Subscription {
            subscription_id: "sub_1".to_owned(),
            plan_id: "pro".to_owned(),
            status: SubscriptionStatus::PastDue.into(),
            cancel_at_period_end: true,
            ..Subscription::default()
        };
        Ok(Response::new(ListSubscriptionsResponse { subscriptions: vec![subscription], ..Default::default() }))
    }

    async fn create_subscription(&self, _: Request<CreateSubscriptionRequest>) -> Answer<CreateSubscriptionResponse> {
        Err(nobody_asks())
    }

    async fn get_subscription(&self, _: Request<GetSubscriptionRequest>) -> Answer<GetSubscriptionResponse> {
        Err(nobody_asks())
    }

    async fn change_plan(&self, _: Request<ChangePlanRequest>) -> Answer<ChangePlanResponse> {
        Err(nobody_asks())
    }

    async fn withdraw_scheduled_change(
        &self,
        _: Request<WithdrawScheduledChangeRequest>,
    ) -> Answer<WithdrawScheduledChangeResponse> {
        Err(nobody_asks())
    }

    async fn cancel_subscription(&self, _: Request<CancelSubscriptionRequest>) -> Answer<CancelSubscriptionResponse> {
        Err(nobody_asks())
    }

    async fn pause_subscription(&self, _: Request<PauseSubscriptionRequest>) -> Answer<PauseSubscriptionResponse> {
        Err(nobody_asks())
    }

    async fn resume_subscription(&self, _: Request<ResumeSubscriptionRequest>) -> Answer<ResumeSubscriptionResponse> {
        Err(nobody_asks())
    }

    async fn update_subscription_status(
        &self,
        _: Request<UpdateSubscriptionStatusRequest>,
    ) -> Answer<UpdateSubscriptionStatusResponse> {
        Err(nobody_asks())
    }

    async fn list_subscription_history(
        &self,
        _: Request<ListSubscriptionHistoryRequest>,
    ) -> Answer<ListSubscriptionHistoryResponse> {
        Err(nobody_asks())
    }

    async fn get_subscription_analytics(
        &self,
        _: Request<GetSubscriptionAnalyticsRequest>,
    ) -> Answer<GetSubscriptionAnalyticsResponse> {
        Err(nobody_asks())
    }
}

type Answer<T> = Result<Response<T>, Status>;

/// What account never asks of product.
fn nobody_asks() -> Status {
    Status::unimplemented("account asks for lists of subscriptions alone")
}

/// An account service by itself, with these others, and how long its full view takes.
async fn with(manner: Manner) -> (Account, Duration, Vec<String>) {
    let (others, address) = Others::listen(manner).await;
    let databases = Databases::sqlite();
    let addresses = [("billing.address", address.as_str()), ("product.address", address.as_str())];
    let house = House::start(config(&databases, &addresses), &[RoleName::Account]).await;
    house.accounts().ensure_account(person("ada")).await.unwrap();
    let began = Instant::now();
    let account = view(&house, full("ada")).await;
    let taken = began.elapsed();
    house.running.drain(std::future::pending()).await;
    databases.done().await;
    let timeouts = others.timeouts.lock().unwrap().clone();
    (account, taken, timeouts)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_are_asked_at_once() {
    let (account, ..) = with(Manner::Together(Arc::new(Barrier::new(2)))).await;
    assert_eq!(account.credits.unwrap().available, "6");
    let subscription = &account.subscriptions[0];
    assert_eq!((subscription.plan_id.as_str(), subscription.status.as_str()), ("pro", "PAST_DUE"));
    assert!(subscription.cancel_at_period_end && account.unavailable_parts.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_does_not_come_within_half_of_the_time_is_left_out_and_named() {
    for (manner, missing) in [(Manner::HalfMute, &["credits"][..]), (Manner::Mute, &["credits", "subscriptions"])] {
        let (account, taken, timeouts) = with(manner).await;
        assert_eq!((account.name.as_str(), account.credits), ("User ada", None));
        assert_eq!(account.unavailable_parts, missing);
        assert!(taken < DEADLINE * 3 / 4, "the answer waited for {taken:?} of {DEADLINE:?}");
        // What the others were given is what the answer waits for: half, and a little less for the way back.
        for timeout in timeouts {
            let (amount, unit) = timeout.split_at(timeout.len() - 1);
            let micros = amount.parse::<u64>().unwrap()
                * match unit {
                    "u" => 1,
                    "m" => 1_000,
                    "S" => 1_000_000,
                    _ => panic!("{timeout}"),
                };
            assert!(Duration::from_micros(micros) <= DEADLINE / 2, "{timeout}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_address_nobody_knows_is_named_too() {
    let databases = Databases::sqlite();
    let house = House::start(config(&databases, &[]), &[RoleName::Account]).await;
    house.accounts().ensure_account(person("ada")).await.unwrap();
    assert_eq!(view(&house, full("ada")).await.unavailable_parts, ["credits", "subscriptions"]);
    house.running.drain(std::future::pending()).await;
    databases.done().await;
}
