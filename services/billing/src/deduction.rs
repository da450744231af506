//! Deductions: money taken out of a wallet for what was used, once for each request id and never more than there is.

mod rpc;
#[cfg(test)]
mod tests;

use mesh::{
    Clock, Context, RequestId, Slug, Store, StoreError, Tenant, Time, UserId,
    claim::{self, Claim, Taken, Voiding},
    id,
    store::Transaction,
};
use money::{Amount, Currency};
use serde::{Deserialize, Serialize};

use crate::ledger::{self, Kind, Movement, Posted, Purpose, Record, Wallet, WalletState};
pub(crate) use rpc::server;

/// An order to take money.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) request_id: RequestId,
    pub(crate) user_id: UserId,
    pub(crate) amount: Amount,
    pub(crate) api_id: Option<Slug>,
    pub(crate) endpoint_id: Option<Slug>,
    pub(crate) api_key_id: Option<Slug>,
}

/// The rpc that deductions claim their ids for.
const METHOD: &str = "Deduct";

impl Order {
    fn claim(&self, tenant: &Tenant) -> Claim {
        let amount = self.amount.to_string();
        let text = |slug: &'_ Option<Slug>| slug.as_ref().map_or_else(String::new, ToString::to_string);
        let (api_id, endpoint_id, api_key_id) = (text(&self.api_id), text(&self.endpoint_id), text(&self.api_key_id));
        let fields = [
            ("user_id", self.user_id.as_str()),
            ("api_id", &api_id),
            ("endpoint_id", &endpoint_id),
            ("api_key_id", &api_key_id),
            ("currency", self.amount.currency().code()),
            ("amount", &amount),
        ];
        Claim::new(tenant, &self.request_id, METHOD, &fields)
    }
}

/// Why money is not taken, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Refused {
    #[error(transparent)]
    RequestId(#[from] Taken),
    #[error("{user_id} has no wallet in {currency}")]
    NoWallet { user_id: UserId, currency: Currency },
    #[error("the wallet of {0} is frozen")]
    WalletFrozen(UserId),
    #[error("the {available} available of a balance of {balance} does not cover {required}")]
    InsufficientFunds { balance: Amount, available: Amount, required: Amount },
}

/// Why a request id is not voided.
#[derive(Clone, Debug)]
pub(crate) enum NotVoided {
    /// It took money: this much.
    Deducted(Box<Record>),
    /// Another rpc carried it out.
    Applied { request_id: RequestId, method: String },
}

/// What was decided on an order, and whether that was before this call.
pub(crate) type Decided = (Result<Posted, Refused>, bool);

/// The deductions of this service.
#[derive(Clone)]
pub(crate) struct Deductions {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
}

impl Deductions {
    /// Takes money once, however often the order is sent. A rehearsal decides and keeps nothing.
    pub(crate) async fn deduct(&self, context: &Context, order: Order, rehearsal: bool) -> Result<Decided, StoreError> {
        let input = Deducting {
            tenant: context.tenant.clone(),
            claim: order.claim(&context.tenant),
            transaction_id: id::fresh("txn", &self.clock),
            now: self.clock.now(),
            order,
        };
        let unit = self.store.unit(context).claimed().rehearsal(rehearsal);
        unit.run(input, |deducting, transaction| Box::pin(deducting.run(transaction))).await
    }

    /// The deduction that a request made.
    pub(crate) async fn find(&self, context: &Context, request_id: &RequestId) -> Result<Option<Record>, StoreError> {
        ledger::find_by_request(self.store.reader(), &context.tenant, request_id, Kind::Deduction).await
    }

    /// Makes sure that a request id never moves money: since when, and whether it was so before.
    pub(crate) async fn void(
        &self,
        context: &Context,
        request_id: RequestId,
        reason: String,
    ) -> Result<Result<(Time, bool), NotVoided>, StoreError> {
        let input = (context.tenant.clone(), request_id, reason, self.clock.now());
        let unit = self.store.unit(context).claimed();
        unit.run(input, |(tenant, request_id, reason, now), transaction| {
            Box::pin(async move {
                let claim = Claim::new(tenant, request_id, "VoidRequest", &[]);
                let method = match claim.void(transaction, *now, reason).await? {
                    Voiding::Voided { since, before } => return Ok(Ok((since, before))),
                    Voiding::Applied { method } => method,
                };
                let deduction = ledger::find_by_request(transaction, tenant, request_id, Kind::Deduction).await?;
                Ok(Err(deduction.map_or_else(
                    || NotVoided::Applied { request_id: request_id.clone(), method },
                    |deduction| NotVoided::Deducted(Box::new(deduction)),
                )))
            })
        })
        .await
    }
}

/// One order on its way through the store.
struct Deducting {
    tenant: Tenant,
    claim: Claim,
    order: Order,
    transaction_id: String,
    now: Time,
}

impl Deducting {
    async fn run(&self, transaction: &Transaction) -> Result<Decided, StoreError> {
        claim::once(Some(&self.claim), transaction, self.now, self.carry_out(transaction)).await
    }

    async fn carry_out(&self, transaction: &Transaction) -> Result<Result<Posted, Refused>, StoreError> {
        let Order { user_id, amount, .. } = &self.order;
        let wallet = ledger::lock_wallet(transaction, &self.tenant, user_id, amount.currency()).await?;
        Ok(match decide(&self.order, wallet.as_ref()) {
            Err(refused) => Err(refused),
            Ok(wallet) => Ok(self.apply(transaction, wallet).await?),
        })
    }

    async fn apply(&self, transaction: &Transaction, wallet: &Wallet) -> Result<Posted, StoreError> {
        let movement = Movement {
            transaction_id: self.transaction_id.clone(),
            kind: Kind::Deduction,
            request_id: self.order.request_id.clone(),
            amount: self.order.amount,
            purpose: Purpose {
                api_id: self.order.api_id.clone(),
                endpoint_id: self.order.endpoint_id.clone(),
                api_key_id: self.order.api_key_id.clone(),
                ..Purpose::default()
            },
            time: self.now,
        };
        ledger::post(transaction, &self.tenant, wallet, &movement).await
    }
}

/// The rule of deductions: pure, so that it can decide one order or a batch of them. Whether the order's id was used
/// before has been looked at already. Answers the wallet that the money comes out of.
fn decide<'w>(order: &Order, wallet: Option<&'w Wallet>) -> Result<&'w Wallet, Refused> {
    let Some(wallet) = wallet else {
        return Err(Refused::NoWallet { user_id: order.user_id.clone(), currency: order.amount.currency() });
    };
    if wallet.state == WalletState::Frozen {
        return Err(Refused::WalletFrozen(wallet.user_id.clone()));
    }
    let available = wallet.available();
    if !available.covers(order.amount) {
        return Err(Refused::InsufficientFunds { balance: wallet.balance, available, required: order.amount });
    }
    Ok(wallet)
}
