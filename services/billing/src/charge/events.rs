//! What is owed because of what product tells: a charge for each period, each change within one, and each group of usage
//! records; none any more for a subscription that has ended.

use std::collections::BTreeMap;

use mesh::{
    Slug, UserId,
    events::{Effect, Handled, HandlerError, Handlers, Heard},
    store::Transaction,
};
use money::{Amount, Currency};
use trivet_proto::product::v1::{
    SubscriptionCanceled, SubscriptionChanged, SubscriptionCreated, SubscriptionExpired, SubscriptionPeriod,
    SubscriptionRenewed, SubscriptionStatus, UsageGroup, UsageRecorded, UsageVoided,
};

use super::{Charge, ChargeState, Source, table, void_open};
use crate::ledger::WalletKey;

pub(crate) fn handlers(handlers: Handlers) -> Handlers {
    let handlers = handlers.on(created).on(renewed).on(changed).on(usage_recorded).on(usage_voided);
    // What these void is a matter of wallets, which lanes lock in the order of their keys.
    handlers.on_alone(canceled).on_alone(expired)
}

/// For whom and what a charge is, as an event says it.
struct For<'e> {
    user_id: &'e str,
    organization_id: &'e str,
    subscription_id: &'e str,
    product_id: &'e str,
    plan_id: &'e str,
}

fn unreadable(field: &str, fault: impl std::fmt::Display) -> HandlerError {
    HandlerError::Unreadable(format!("{field} {fault}"))
}

fn optional(field: &str, text: &str) -> Result<Option<Slug>, HandlerError> {
    Slug::parse_optional(text).map_err(|fault| unreadable(field, fault))
}

/// An amount that may be below zero; `None` for nothing.
fn amount(currency: &str, text: &str) -> Result<Option<Amount>, HandlerError> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    let currency = Currency::parse(currency).map_err(|fault| unreadable("currency", fault))?;
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let amount = Amount::parse(currency, digits).map_err(|fault| unreadable("amount", fault))?;
    let amount = if negative { amount.negated() } else { Some(amount) };
    let amount = amount.ok_or_else(|| unreadable("amount", "is below what can be kept"))?;
    Ok((!amount.is_zero()).then_some(amount))
}

/// What is owed from now on.
fn charge(
    heard: &Heard<'_>,
    source: Source,
    ordinal: usize,
    whose: &For<'_>,
    amount: Amount,
) -> Result<Charge, HandlerError> {
    Ok(Charge {
        charge_id: heard.fresh("charge"),
        user_id: UserId::parse(whose.user_id).map_err(|fault| unreadable("user_id", fault))?,
        amount,
        credited: Amount::zero(amount.currency()),
        set_off: Amount::zero(amount.currency()),
        forgiven: Amount::zero(amount.currency()),
        source,
        event_id: heard.event.event_id.clone(),
        ordinal: i64::try_from(ordinal).unwrap_or(i64::MAX),
        subscription_id: optional("subscription_id", whose.subscription_id)?,
        organization_id: optional("organization_id", whose.organization_id)?,
        product_id: optional("product_id", whose.product_id)?,
        plan_id: optional("plan_id", whose.plan_id)?,
        reversed_id: None,
        state: ChargeState::Open,
        tried: false,
        create_time: heard.now,
        end_time: None,
        void_reason: String::new(),
        transaction_id: String::new(),
    })
}

async fn owe(
    heard: &Heard<'_>,
    whose: &For<'_>,
    amount: Option<Amount>,
    transaction: &Transaction,
) -> Result<Effect, HandlerError> {
    // What costs nothing is not owed.
    let Some(amount) = amount else { return Ok(Effect::Stale) };
    let charge = charge(heard, Source::Subscription, 0, whose, amount)?;
    table::insert(transaction, &heard.event.tenant_id, &[charge]).await?;
    Ok(Effect::Felt)
}

async fn owe_period(
    heard: &Heard<'_>,
    whose: &For<'_>,
    period: Option<&SubscriptionPeriod>,
    transaction: &Transaction,
) -> Result<Effect, HandlerError> {
    let period = period.ok_or_else(|| unreadable("period", "is missing"))?;
    owe(heard, whose, amount(&period.currency, &period.amount)?, transaction).await
}

fn created<'a>(heard: &'a Heard<'a>, event: &'a SubscriptionCreated, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(async move {
        let SubscriptionCreated { user_id, organization_id, subscription_id, plan_id, .. } = event;
        let whose = For { user_id, organization_id, subscription_id, plan_id, product_id: "" };
        owe_period(heard, &whose, event.period.as_ref(), transaction).await
    })
}

fn renewed<'a>(heard: &'a Heard<'a>, event: &'a SubscriptionRenewed, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(async move {
        let SubscriptionRenewed { user_id, organization_id, subscription_id, plan_id, .. } = event;
        let whose = For { user_id, organization_id, subscription_id, plan_id, product_id: "" };
        owe_period(heard, &whose, event.period.as_ref(), transaction).await
    })
}

fn changed<'a>(heard: &'a Heard<'a>, event: &'a SubscriptionChanged, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(async move {
        let SubscriptionChanged { user_id, organization_id, subscription_id, plan_id, .. } = event;
        let whose = For { user_id, organization_id, subscription_id, plan_id, product_id: "" };
        owe(heard, &whose, amount(&event.currency, &event.amount)?, transaction).await
    })
}

fn canceled<'a>(heard: &'a Heard<'a>, event: &'a SubscriptionCanceled, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(async move {
        ended(heard, &event.subscription_id, event.from(), "the subscription was canceled", transaction).await
    })
}

fn expired<'a>(heard: &'a Heard<'a>, event: &'a SubscriptionExpired, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(async move {
        ended(heard, &event.subscription_id, event.from(), "the subscription expired", transaction).await
    })
}

/// What is owed for a subscription that has ended is owed no more. What was paid for one that never began, because the
/// payment came too late, is owed back.
async fn ended(
    heard: &Heard<'_>,
    subscription_id: &str,
    from: SubscriptionStatus,
    reason: &str,
    transaction: &Transaction,
) -> Result<Effect, HandlerError> {
    let tenant = &heard.event.tenant_id;
    let id = Slug::parse(subscription_id).map_err(|fault| unreadable("subscription_id", fault))?;
    let mut wallets: BTreeMap<WalletKey, Vec<Slug>> = BTreeMap::new();
    for charge in table::of_subscription(transaction, tenant, &id, ChargeState::Open).await? {
        wallets.entry(charge.wallet(tenant)).or_default().push(charge.charge_id);
    }
    let mut effect = Effect::Stale;
    for (key, charge_ids) in wallets {
        if !void_open(transaction, &key, charge_ids, heard.now, reason).await?.is_empty() {
            effect = Effect::Felt;
        }
    }
    if from != SubscriptionStatus::Incomplete {
        return Ok(effect);
    }
    let paid = table::of_subscription(transaction, tenant, &id, ChargeState::Paid).await?;
    let mut credits = Vec::with_capacity(paid.len());
    for (ordinal, paid) in paid.into_iter().enumerate() {
        let Some(amount) = paid.outstanding().and_then(Amount::negated) else { continue };
        credits.push(Charge {
            charge_id: heard.fresh("charge"),
            amount,
            event_id: heard.event.event_id.clone(),
            ordinal: i64::try_from(ordinal).unwrap_or(i64::MAX),
            credited: Amount::zero(amount.currency()),
            set_off: Amount::zero(amount.currency()),
            forgiven: Amount::zero(amount.currency()),
            reversed_id: Some(paid.charge_id),
            state: ChargeState::Open,
            tried: false,
            create_time: heard.now,
            end_time: None,
            transaction_id: String::new(),
            ..paid
        });
    }
    if !credits.is_empty() {
        table::insert(transaction, tenant, &credits).await?;
        effect = Effect::Felt;
    }
    Ok(effect)
}

fn usage_recorded<'a>(heard: &'a Heard<'a>, event: &'a UsageRecorded, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(async move {
        let (mut charges, mut usages) = (Vec::new(), Vec::new());
        for group in &event.groups {
            let Some(amount) = amount(&group.currency, &group.amount)? else { continue };
            let charge = charge(heard, Source::Usage, charges.len(), &whose(group), amount)?;
            for item in &group.items {
                let Some(amount) = self::amount(&group.currency, &item.amount)? else { continue };
                let usage_id = Slug::parse(&item.usage_id).map_err(|fault| unreadable("usage_id", fault))?;
                usages.push((usage_id, charge.charge_id.clone(), amount));
            }
            charges.push(charge);
        }
        if charges.is_empty() {
            return Ok(Effect::Stale);
        }
        table::insert(transaction, &heard.event.tenant_id, &charges).await?;
        table::insert_usages(transaction, &heard.event.tenant_id, usages).await?;
        Ok(Effect::Felt)
    })
}

fn whose(group: &UsageGroup) -> For<'_> {
    let UsageGroup { user_id, organization_id, subscription_id, product_id, .. } = group;
    For { user_id, organization_id, subscription_id, product_id, plan_id: "" }
}

fn usage_voided<'a>(heard: &'a Heard<'a>, event: &'a UsageVoided, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(async move {
        let Some(amount) = amount(&event.currency, &event.amount)? else { return Ok(Effect::Stale) };
        let usage_id = Slug::parse(&event.usage_id).map_err(|fault| unreadable("usage_id", fault))?;
        let UsageVoided { user_id, organization_id, subscription_id, product_id, .. } = event;
        let whose = For { user_id, organization_id, subscription_id, product_id, plan_id: "" };
        let reversed_id = table::of_usage(transaction, &heard.event.tenant_id, &usage_id).await?;
        let charge = Charge { reversed_id, ..charge(heard, Source::Usage, 0, &whose, amount)? };
        table::insert(transaction, &heard.event.tenant_id, &[charge]).await?;
        Ok(Effect::Felt)
    })
}
