//! Deductions: money taken out of a wallet for what was used, once for each request id and never more than there is.

mod rpc;
#[cfg(test)]
mod tests;

use mesh::{
    Context, RequestId, Slug, StoreError, Tenant, Time, UserId,
    claim::{self, Claim, Voiding},
};
use money::Amount;
use serde::{Deserialize, Serialize};

use crate::{
    book::{Books, Posted, Posting, Refused, Sitting},
    ledger::{self, Change, Filter, Kind, Legs, Places, Purpose, Wallet, WalletKey},
    sabotage::{Protection, is_out},
};
pub(crate) use rpc::server;

/// An order to take money.
#[derive(Clone, Debug)]
pub(crate) struct Deduct {
    pub(crate) request_id: RequestId,
    pub(crate) user_id: UserId,
    pub(crate) amount: Amount,
    pub(crate) api_id: Option<Slug>,
    pub(crate) endpoint_id: Option<Slug>,
    pub(crate) api_key_id: Option<Slug>,
}

impl Deduct {
    pub(crate) fn claim(&self, tenant: &Tenant) -> Claim {
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
        Claim::new(tenant, &self.request_id, "Deduct", &fields)
    }

    /// Takes the money, if it may be taken.
    pub(crate) fn carry_out(
        &self,
        tenant: &Tenant,
        sitting: &mut Sitting,
    ) -> Result<Result<Posted, Refused>, StoreError> {
        let currency = self.amount.currency();
        let key = WalletKey { tenant: tenant.clone(), user_id: self.user_id.clone(), currency };
        if let Err(refused) = decide(self, sitting.wallet(&key)) {
            if let (Refused::InsufficientFunds { required, .. }, Some(wallet)) =
                (&refused, sitting.wallet(&key).cloned())
            {
                sitting.tell(|told, origin| told.not_covered(origin, &key, &wallet, *required));
            }
            return Ok(Err(refused));
        }
        let purpose = Purpose {
            api_id: self.api_id.clone(),
            endpoint_id: self.endpoint_id.clone(),
            api_key_id: self.api_key_id.clone(),
        };
        let request_id = Some(self.request_id.clone());
        let posting = Posting::new(Kind::Deduction, Legs::taken(self.amount));
        let posted = sitting.post(&key, Posting { request_id, purpose, ..posting })?;
        sitting.tell(|told, origin| told.deducted(origin, tenant, self, &posted));
        Ok(Ok(posted))
    }
}

/// The rule of deductions. Whether the order's id was used before has been looked at already.
fn decide(deduct: &Deduct, wallet: Option<&Wallet>) -> Result<(), Refused> {
    let wallet = gives(&deduct.user_id, deduct.amount, wallet)?;
    covers(wallet, deduct.amount)
}

/// The wallet, if there is one that gives money.
pub(crate) fn gives<'w>(user_id: &UserId, amount: Amount, wallet: Option<&'w Wallet>) -> Result<&'w Wallet, Refused> {
    let Some(wallet) = wallet else {
        return Err(Refused::NoWallet { user_id: user_id.clone(), currency: amount.currency() });
    };
    if !wallet.fault.is_empty() {
        return Err(Refused::LedgerBroken(user_id.clone()));
    }
    if wallet.gives() || is_out(Protection::Freezing) {
        Ok(wallet)
    } else {
        Err(Refused::WalletFrozen(user_id.clone()))
    }
}

/// Whether what a wallet has available covers an amount.
pub(crate) fn covers(wallet: &Wallet, required: Amount) -> Result<(), Refused> {
    let available = wallet.available();
    if available.covers(required) || is_out(Protection::Cover) {
        Ok(())
    } else {
        Err(Refused::InsufficientFunds { balance: wallet.balance, available, required })
    }
}

/// Why a request id is not voided.
#[derive(Clone, Debug)]
pub(crate) enum NotVoided {
    /// It took money: this much.
    Deducted(RequestId, Box<Deduction>),
    /// Another rpc carried it out.
    Applied { request_id: RequestId, method: String },
}

/// A deduction as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Deduction {
    pub(crate) change: Change,
    pub(crate) refunded: Amount,
}

/// The place of a deduction in a list, newest first: ids sort by the time of making.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cursor(String);

impl Cursor {
    pub(crate) fn of(deduction: &Deduction) -> Self {
        Self(deduction.change.transaction_id.clone())
    }
}

/// The deductions of this service.
#[derive(Clone)]
pub(crate) struct Deductions {
    pub(crate) books: Books,
}

impl Deductions {
    /// The deduction that a request made.
    pub(crate) async fn find(
        &self,
        context: &Context,
        request_id: &RequestId,
    ) -> Result<Option<Deduction>, StoreError> {
        find(self.books.store.reader(), &context.tenant, request_id).await
    }

    /// Up to `limit` deductions after `cursor`, newest first.
    pub(crate) async fn list(
        &self,
        context: &Context,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u64,
    ) -> Result<Vec<Deduction>, StoreError> {
        let reader = self.books.store.reader();
        let after = after.map(|Cursor(transaction_id)| transaction_id.as_str());
        let changes = ledger::deductions(reader, &context.tenant, filter, after, limit).await?;
        with_refunds(reader, &context.tenant, changes).await
    }

    /// The deductions of the user that the filter names, newest first, before these places or from the newest on; and
    /// where they go on.
    pub(crate) async fn list_of_user(
        &self,
        context: &Context,
        (user_id, filter): (&UserId, &Filter),
        before: Option<Places>,
        size: u64,
    ) -> Result<(Vec<Deduction>, Places), StoreError> {
        let (reader, tenant) = (self.books.store.reader(), &context.tenant);
        let places = match before {
            Some(places) => places,
            None => ledger::newest(reader, tenant, user_id).await?,
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let (changes, further) = ledger::deductions_before(reader, tenant, filter, places, size).await?;
        Ok((with_refunds(reader, tenant, changes).await?, further))
    }

    /// How many deductions a list holds.
    pub(crate) async fn count(&self, context: &Context, filter: &Filter) -> Result<i64, StoreError> {
        ledger::count_deductions(self.books.store.reader(), &context.tenant, filter).await
    }

    /// Makes sure that a request id never moves money: since when, and whether it was so before.
    pub(crate) async fn void(
        &self,
        context: &Context,
        request_id: RequestId,
        reason: String,
    ) -> Result<Result<(Time, bool), NotVoided>, StoreError> {
        let input = (context.tenant.clone(), request_id, reason, self.books.clock.now());
        let unit = self.books.store.unit(context).claimed();
        unit.run(input, |(tenant, request_id, reason, now), transaction| {
            Box::pin(async move {
                let claim = Claim::new(tenant, request_id, "VoidRequest", &[]);
                let method = match claim.void(transaction, *now, reason).await? {
                    Voiding::Voided { since, before } => return Ok(Ok((since, before))),
                    Voiding::Applied { method } => method,
                };
                let deduction = find(transaction, tenant, request_id).await?;
                Ok(Err(deduction.map_or_else(
                    || NotVoided::Applied { request_id: request_id.clone(), method },
                    |deduction| NotVoided::Deducted(request_id.clone(), Box::new(deduction)),
                )))
            })
        })
        .await
    }
}

async fn find(
    connection: &impl mesh::store::Connection,
    tenant: &Tenant,
    request_id: &RequestId,
) -> Result<Option<Deduction>, StoreError> {
    let Some(change) = made_by(connection, tenant, request_id).await? else { return Ok(None) };
    if change.kind != Kind::Deduction {
        return Ok(None);
    }
    Ok(with_refunds(connection, tenant, vec![change]).await?.pop())
}

/// What a request did to a wallet.
pub(crate) async fn made_by(
    connection: &impl mesh::store::Connection,
    tenant: &Tenant,
    request_id: &RequestId,
) -> Result<Option<Change>, StoreError> {
    let Some(posted) = claim::applied::<Posted>(connection, tenant, request_id).await? else { return Ok(None) };
    ledger::find(connection, tenant, &posted.transaction_id).await
}

async fn with_refunds(
    connection: &impl mesh::store::Connection,
    tenant: &Tenant,
    changes: Vec<Change>,
) -> Result<Vec<Deduction>, StoreError> {
    let ids: Vec<_> = changes.iter().map(|change| (tenant.clone(), change.transaction_id.clone())).collect();
    let refunded = ledger::refunded(connection, &ids).await?;
    let of = |change: &Change| {
        let found = refunded.iter().find(|(_, transaction_id, _)| *transaction_id == change.transaction_id);
        found.map_or_else(|| Amount::zero(change.currency()), |(_, _, refunded)| *refunded)
    };
    Ok(changes.into_iter().map(|change| Deduction { refunded: of(&change), change }).collect())
}
