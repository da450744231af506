//! Holds: money that is set aside, to be taken later, given back, or free again by itself.

mod rpc;
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod worker;

use mesh::{Context, RequestId, Slug, StoreError, Tenant, Time, UserId, claim::Claim, text_enum};
use money::Amount;
use serde::{Deserialize, Serialize};

use crate::{
    book::{Books, Posted, Posting, Refused, Sitting},
    charge,
    deduction::{covers, gives},
    ledger::{Kind, Legs, WalletKey},
    sabotage::{Protection, is_out},
};
pub(crate) use {
    rpc::{capture_hold, get_hold, list_holds, place_hold, release_hold},
    worker::work,
};

text_enum! {
    /// How a hold stands.
    pub(crate) enum HoldState {
        /// The money is set aside.
        Open = "OPEN",
        /// It was taken, at least in part.
        Captured = "CAPTURED",
        /// It is free again, because somebody said so.
        Released = "RELEASED",
        /// It is free again, because nobody wanted it in time.
        Expired = "EXPIRED",
    }
}

/// Money that is or was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub(crate) hold_id: Slug,
    pub(crate) request_id: RequestId,
    pub(crate) user_id: UserId,
    pub(crate) amount: Amount,
    pub(crate) state: HoldState,
    /// How much was taken of it in the end.
    pub(crate) captured: Amount,
    pub(crate) create_time: Time,
    pub(crate) expire_time: Time,
    /// `None` while it is open.
    pub(crate) end_time: Option<Time>,
}

impl Hold {
    pub(crate) fn wallet(&self, tenant: &Tenant) -> WalletKey {
        WalletKey { tenant: tenant.clone(), user_id: self.user_id.clone(), currency: self.amount.currency() }
    }

    /// The hold, if it can still be ended.
    fn open(&self) -> Result<&Self, Refused> {
        if self.state == HoldState::Open || is_out(Protection::Holds) {
            Ok(self)
        } else {
            Err(Refused::HoldNotOpen { hold_id: self.hold_id.clone(), state: self.state })
        }
    }
}

/// An order to set money aside.
#[derive(Clone, Debug)]
pub(crate) struct Placing {
    pub(crate) request_id: RequestId,
    pub(crate) hold_id: Slug,
    pub(crate) user_id: UserId,
    pub(crate) amount: Amount,
    pub(crate) expire_time: Time,
    /// Whether the caller said until when.
    pub(crate) expire_time_given: bool,
}

/// An order to take what was set aside.
#[derive(Clone, Debug)]
pub(crate) struct Capture {
    pub(crate) request_id: RequestId,
    pub(crate) hold_id: Slug,
    /// `None`: all of it.
    pub(crate) amount: Option<Amount>,
    /// The amount as it was asked for, which is known without knowing in which currency; empty for all.
    pub(crate) asked: String,
    /// The hold as it was found; `None` where there is none.
    pub(crate) hold: Option<Hold>,
}

/// An order to give up what was set aside.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) request_id: RequestId,
    pub(crate) hold_id: Slug,
    /// The hold as it was found; `None` where there is none.
    pub(crate) hold: Option<Hold>,
}

impl Placing {
    pub(crate) fn claim(&self, tenant: &Tenant) -> Claim {
        let amount = self.amount.to_string();
        // What is by default counts from now on, which is another time in each repeat.
        let expire_time = if self.expire_time_given { self.expire_time.micros().to_string() } else { String::new() };
        let fields = [
            ("user_id", self.user_id.as_str()),
            ("currency", self.amount.currency().code()),
            ("amount", &amount),
            ("expire_time", &expire_time),
        ];
        Claim::new(tenant, &self.request_id, "PlaceHold", &fields)
    }

    /// Sets the money aside, if it is there.
    pub(crate) fn carry_out(
        &self,
        tenant: &Tenant,
        sitting: &mut Sitting,
    ) -> Result<Result<Posted, Refused>, StoreError> {
        let currency = self.amount.currency();
        let key = WalletKey { tenant: tenant.clone(), user_id: self.user_id.clone(), currency };
        let wallet = gives(&self.user_id, self.amount, sitting.wallet(&key));
        if let Err(refused) = wallet.and_then(|wallet| covers(wallet, self.amount)) {
            return Ok(Err(refused));
        }
        let posting = Posting {
            request_id: Some(self.request_id.clone()),
            related_id: self.hold_id.to_string(),
            ..Posting::new(Kind::Hold, Legs::set_aside(self.amount))
        };
        let posted = sitting.post(&key, posting)?;
        let hold = Hold {
            hold_id: self.hold_id.clone(),
            request_id: self.request_id.clone(),
            user_id: self.user_id.clone(),
            amount: self.amount,
            state: HoldState::Open,
            captured: Amount::zero(currency),
            create_time: posted.time,
            expire_time: self.expire_time,
            end_time: None,
        };
        sitting.tell(|told, origin| told.hold(origin, (&key, &posted), &hold));
        if !is_out(Protection::Setting) {
            sitting.add_hold(tenant, hold.clone());
        }
        Ok(Ok(Posted { hold: Some(Box::new(hold)), ..posted }))
    }
}

impl Capture {
    pub(crate) fn claim(&self, tenant: &Tenant) -> Claim {
        let fields = [("hold_id", self.hold_id.as_str()), ("amount", &self.asked)];
        Claim::new(tenant, &self.request_id, "CaptureHold", &fields)
    }

    /// Takes the money, if the hold is open and as large.
    pub(crate) fn carry_out(
        &self,
        tenant: &Tenant,
        sitting: &mut Sitting,
    ) -> Result<Result<Posted, Refused>, StoreError> {
        let hold = match self.decide(tenant, sitting) {
            Ok(hold) => hold,
            Err(refused) => return Ok(Err(refused)),
        };
        let amount = self.amount.unwrap_or(hold.amount);
        let posting = Posting {
            request_id: Some(self.request_id.clone()),
            ..Posting::new(Kind::Capture, Legs::captured(hold.amount, amount))
        };
        end(sitting, tenant, Hold { state: HoldState::Captured, captured: amount, ..hold }, posting).map(Ok)
    }

    /// The rule of captures.
    fn decide(&self, tenant: &Tenant, sitting: &Sitting) -> Result<Hold, Refused> {
        let hold = sitting.hold(tenant, &self.hold_id).ok_or_else(|| Refused::NoHold(self.hold_id.clone()))?;
        let wallet = sitting.wallet(&hold.wallet(tenant));
        if wallet.is_some_and(|wallet| !wallet.fault.is_empty()) {
            return Err(Refused::LedgerBroken(hold.user_id.clone()));
        }
        hold.open()?;
        if wallet.is_some_and(|wallet| !wallet.gives()) {
            return Err(Refused::WalletFrozen(hold.user_id.clone()));
        }
        match self.amount {
            Some(amount) if !hold.amount.covers(amount) => {
                Err(Refused::CaptureExceedsHold { held: hold.amount, amount })
            }
            _ => Ok(hold.clone()),
        }
    }
}

impl Release {
    pub(crate) fn claim(&self, tenant: &Tenant) -> Claim {
        Claim::new(tenant, &self.request_id, "ReleaseHold", &[("hold_id", self.hold_id.as_str())])
    }

    /// Frees the money, if it is still set aside.
    pub(crate) fn carry_out(
        &self,
        tenant: &Tenant,
        sitting: &mut Sitting,
    ) -> Result<Result<Posted, Refused>, StoreError> {
        let hold = sitting.hold(tenant, &self.hold_id).ok_or_else(|| Refused::NoHold(self.hold_id.clone()));
        let hold = match hold.and_then(Hold::open) {
            Ok(hold) => hold.clone(),
            Err(refused) => return Ok(Err(refused)),
        };
        let posting = Posting { request_id: Some(self.request_id.clone()), ..freeing(&hold) };
        end(sitting, tenant, Hold { state: HoldState::Released, ..hold }, posting).map(Ok)
    }
}

/// Frees what is still set aside though its time is over.
pub(crate) fn expire(sitting: &mut Sitting, wallet: &WalletKey, hold_id: &Slug) -> Result<(), StoreError> {
    let tenant = &wallet.tenant;
    let due = sitting.hold(tenant, hold_id).filter(|hold| hold.open().is_ok() && hold.expire_time <= sitting.now);
    // Somebody else was first.
    let Some(hold) = due.cloned() else { return Ok(()) };
    let posting = freeing(&hold);
    end(sitting, tenant, Hold { state: HoldState::Expired, ..hold }, posting).map(drop)
}

fn freeing(hold: &Hold) -> Posting {
    Posting::new(Kind::Release, Legs::captured(hold.amount, Amount::zero(hold.amount.currency())))
}

fn end(sitting: &mut Sitting, tenant: &Tenant, hold: Hold, posting: Posting) -> Result<Posted, StoreError> {
    let key = hold.wallet(tenant);
    let posted = sitting.post(&key, Posting { related_id: hold.hold_id.to_string(), ..posting })?;
    let hold = Hold { end_time: Some(posted.time), ..hold };
    sitting.tell(|told, origin| told.hold(origin, (&key, &posted), &hold));
    sitting.end_hold(tenant, hold.clone());
    charge::settle(sitting, &key)?;
    Ok(Posted { hold: Some(Box::new(hold)), ..posted })
}

/// Which holds a list has. All of it is part of its page tokens.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Filter {
    pub(crate) user_id: Option<UserId>,
    pub(crate) state: Option<HoldState>,
}

/// The place of a hold in a list, newest first: ids sort by the time of making.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cursor(Slug);

impl Cursor {
    pub(crate) fn of(hold: &Hold) -> Self {
        Self(hold.hold_id.clone())
    }
}

/// The holds of this service.
#[derive(Clone)]
pub(crate) struct Holds {
    pub(crate) books: Books,
}

impl Holds {
    /// The hold with this id.
    pub(crate) async fn find(&self, context: &Context, hold_id: &Slug) -> Result<Option<Hold>, StoreError> {
        let key = (context.tenant.clone(), hold_id.clone());
        Ok(table::find_all(self.books.store.reader(), [key.clone()].into()).await?.remove(&key))
    }

    /// Up to `limit` holds after `cursor`, newest first.
    pub(crate) async fn list(
        &self,
        context: &Context,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u64,
    ) -> Result<Vec<Hold>, StoreError> {
        let after = after.map(|Cursor(hold_id)| hold_id);
        table::list(self.books.store.reader(), &context.tenant, filter, after, limit).await
    }

    /// How many holds a list has.
    pub(crate) async fn count(&self, context: &Context, filter: &Filter) -> Result<i64, StoreError> {
        table::count(self.books.store.reader(), &context.tenant, filter).await
    }
}
