//! What the others hear of usage: what was used and what it costs, and what was taken back.

use std::collections::BTreeMap;

use mesh::{
    Slug, StoreError, Tenant,
    events::{Aggregate, Draft, Origin, publish_all},
    store::Transaction,
};
use money::Amount;
use trivet_proto::product::v1::{UsageItem, UsageRecorded, UsageVoided};

use super::{Item, Usage, Voided};

/// The records of one event: more are told of by another.
const ITEMS: usize = 200;

/// Tells of records that were committed together: those of one user, product, subscription and currency together.
pub(super) async fn recorded(transaction: &Transaction, records: &[(&Item, &Usage)]) -> Result<(), StoreError> {
    let mut groups: BTreeMap<_, Vec<(&Item, &Usage)>> = BTreeMap::new();
    for (item, usage) in records {
        let currency = usage.charge.as_ref().map(|charge| charge.amount.currency());
        let group = (
            &item.tenant,
            (&usage.user_id, &usage.organization_id, &usage.subscription_id),
            (&usage.product_id, currency),
        );
        groups.entry(group).or_default().push((item, usage));
    }
    // Each tenant's with one statement. They come from the first call of theirs: a trace can have many ends and no two
    // beginnings.
    let mut told: BTreeMap<&Tenant, (&Origin, Vec<Draft>)> = BTreeMap::new();
    for ((tenant, ..), group) in &groups {
        for group in group.chunks(ITEMS) {
            let Some((first, usage)) = group.first() else { continue };
            let records = group.iter().map(|(_, usage)| *usage);
            let about = Aggregate { kind: "usage", id: usage.usage_id.as_str(), version: 1 };
            let drafts = &mut told.entry(tenant).or_insert((&first.origin, Vec::new())).1;
            drafts.push(Draft::new(about, &together(usage, records)?));
        }
    }
    for (origin, drafts) in told.into_values() {
        publish_all(transaction, origin, drafts).await?;
    }
    Ok(())
}

fn optional(slug: Option<&Slug>) -> String {
    slug.map(ToString::to_string).unwrap_or_default()
}

fn together<'a>(first: &Usage, records: impl Iterator<Item = &'a Usage>) -> Result<UsageRecorded, StoreError> {
    let mut sum = first.charge.as_ref().map(|charge| Amount::zero(charge.amount.currency()));
    let mut items = Vec::new();
    for usage in records {
        let amount = usage.charge.as_ref().map(|charge| charge.amount);
        items.push(UsageItem {
            usage_id: usage.usage_id.to_string(),
            quantity: usage.quantity.to_string(),
            amount: amount.map_or_else(|| "0".to_owned(), Amount::to_wire),
            event_time: Some(usage.event_time.to_wire()),
        });
        if let (Some(so_far), Some(amount)) = (sum, amount) {
            sum = Some(so_far.plus(amount).ok_or(StoreError::Impossible("records cost more than an amount can be"))?);
        }
    }
    Ok(UsageRecorded {
        user_id: first.user_id.to_string(),
        organization_id: optional(first.organization_id.as_ref()),
        subscription_id: optional(first.subscription_id.as_ref()),
        product_id: first.product_id.to_string(),
        currency: sum.map_or("", |sum| sum.currency().code()).to_owned(),
        items,
        amount: sum.map_or_else(|| "0".to_owned(), Amount::to_wire),
    })
}

/// Tells that a record was taken back.
pub(super) async fn voided(
    transaction: &Transaction,
    origin: &Origin,
    usage: &Usage,
    voided: &Voided,
) -> Result<(), StoreError> {
    let event = UsageVoided {
        usage_id: usage.usage_id.to_string(),
        user_id: usage.user_id.to_string(),
        organization_id: optional(usage.organization_id.as_ref()),
        subscription_id: optional(usage.subscription_id.as_ref()),
        product_id: usage.product_id.to_string(),
        quantity: usage.quantity.to_string(),
        currency: voided.amount.map_or("", |amount| amount.currency().code()).to_owned(),
        amount: voided.amount.map_or_else(|| "0".to_owned(), Amount::to_wire),
    };
    let about = Aggregate { kind: "usage", id: usage.usage_id.as_str(), version: 2 };
    publish_all(transaction, origin, vec![Draft::new(about, &event)]).await
}
