//! How the other services are asked, and what becomes of their answers.

use mesh::{Clock, Context, Fields, Parts, Peer, Reason, Refusal};
use money::Currency;
use tonic::Status;
use tonic_types::StatusExt as _;
use tracing::{debug, info, warn};
use trivet_proto::{
    account::v1::{Account, AccountView, Credits, GetAccountRequest, SubscriptionSummary},
    billing::v1::{GetWalletRequest, wallet_service_client::WalletServiceClient},
    product::v1::{ListSubscriptionsRequest, Subscription, subscription_service_client::SubscriptionServiceClient},
};

use crate::profile::{self, Key};

/// Subscriptions shown of one person; who has more reads them at product.
const SUBSCRIPTIONS: i32 = 100;

/// How much to tell of an account.
pub(crate) enum View {
    Basic,
    Full(Currency),
}

/// Whose account, and how much of it.
pub(crate) fn asked(asked: &GetAccountRequest) -> Result<(Key, View), Refusal> {
    let mut fields = Fields::default();
    let key = profile::rpc::key(&mut fields, asked);
    let view = AccountView::try_from(asked.view).map_err(|_| "is not a view that this release knows");
    let view = fields.read("view", view);
    let currency = fields.read("currency", Currency::parse(&asked.currency));
    let (key, view, currency) = fields.finish((key, view, currency))?;
    let view = match view {
        AccountView::Unspecified | AccountView::Basic => View::Basic,
        AccountView::Full => View::Full(currency),
    };
    Ok((key, view))
}

/// The services that know more of a person.
pub(crate) struct Overview {
    wallets: Option<WalletServiceClient<Peer>>,
    subscriptions: Option<SubscriptionServiceClient<Peer>>,
    clock: Clock,
}

/// Why a part is missing.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("nobody said where {0} is")]
    NoAddress(&'static str),
    #[error("{peer} answered {reason}")]
    Refused { peer: &'static str, reason: String },
}

impl Overview {
    pub(crate) fn new(parts: &Parts) -> Self {
        let find = |name| {
            let peer = parts.peers.find(name);
            if peer.is_none() {
                info!("{name}.address is not set: GetAccount in view FULL goes without {name}");
            }
            peer
        };
        Self {
            wallets: find("billing").map(WalletServiceClient::new),
            subscriptions: find("product").map(SubscriptionServiceClient::new),
            clock: parts.clock.clone(),
        }
    }

    /// Adds the parts that can be had, and names those that cannot.
    pub(crate) async fn complete(&self, context: &Context, mut account: Account, currency: Currency) -> Account {
        let context = context.halved();
        let user_id = account.user_id.clone();
        let (credits, subscriptions) =
            tokio::join!(self.credits(&context, &user_id, currency), self.subscriptions(&context, &user_id));
        let mut missing = |part: &str, why: &Missing| {
            match why {
                // Said once, at the start.
                Missing::NoAddress(_) => debug!("An account is shown without {part}: {why}"),
                Missing::Refused { .. } => warn!("An account is shown without {part}: {why}"),
            }
            account.unavailable_parts.push(part.to_owned());
        };
        let credits = credits.inspect_err(|why| missing("credits", why)).ok();
        let subscriptions = subscriptions.inspect_err(|why| missing("subscriptions", why)).unwrap_or_default();
        Account { credits, subscriptions, ..account }
    }

    async fn credits(&self, context: &Context, user_id: &str, currency: Currency) -> Result<Credits, Missing> {
        let mut wallets = self.wallets.clone().ok_or(Missing::NoAddress("billing"))?;
        let currency = currency.code().to_owned();
        let ask = GetWalletRequest { user_id: user_id.to_owned(), currency: currency.clone() };
        let (balance, available) = match wallets.get_wallet(context.onward(ask)).await {
            Ok(response) => {
                let wallet = response.into_inner().wallet.unwrap_or_default();
                (wallet.balance, wallet.available)
            }
            // Who never paid anything has nothing to spend.
            Err(status) if reason(&status) == Reason::WalletNotFound.name() => ("0".to_owned(), "0".to_owned()),
            Err(status) => return Err(Missing::Refused { peer: "billing", reason: reason(&status) }),
        };
        Ok(Credits { currency, balance, available, as_of_time: Some(self.clock.now().to_wire()) })
    }

    async fn subscriptions(&self, context: &Context, user_id: &str) -> Result<Vec<SubscriptionSummary>, Missing> {
        let mut subscriptions = self.subscriptions.clone().ok_or(Missing::NoAddress("product"))?;
        let ask = ListSubscriptionsRequest {
            user_id: user_id.to_owned(),
            page_size: SUBSCRIPTIONS,
            ..ListSubscriptionsRequest::default()
        };
        let answer = subscriptions.list_subscriptions(context.onward(ask)).await;
        let answer = answer.map_err(|status| Missing::Refused { peer: "product", reason: reason(&status) })?;
        Ok(answer.into_inner().subscriptions.into_iter().map(summary).collect())
    }
}

/// The reason of a peer's refusal, or its code where it has none.
fn reason(status: &Status) -> String {
    status.get_details_error_info().map_or_else(|| format!("{:?}", status.code()), |info| info.reason)
}

fn summary(subscription: Subscription) -> SubscriptionSummary {
    let status = subscription.status().as_str_name();
    SubscriptionSummary {
        status: status.strip_prefix("SUBSCRIPTION_STATUS_").unwrap_or(status).to_owned(),
        subscription_id: subscription.subscription_id,
        plan_id: subscription.plan_id,
        period_end_time: subscription.period_end_time,
        cancel_at_period_end: subscription.cancel_at_period_end,
    }
}
