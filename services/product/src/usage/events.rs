//! What the others hear of usage: what was used and what it costs, and what was taken back.

use std::collections::BTreeMap;

use mesh::{
    Slug, StoreError, Tenant,
    events::{Aggregate, Draft, Origin, publish_all},
    store::Transaction,
};
use money::Amount;
use trivet_proto::product::v1::{UsageGroup, UsageItem, UsageRecorded, UsageVoided};

use super::{Item, Usage, Voided};

/// The records of one event: more are told of by another.
const RECORDS: usize = 500;

/// Tells of records that were committed together.
pub(super) async fn recorded(transaction: &Transaction, records: &[(&Item, &Usage)]) -> Result<(), StoreError> {
    let mut tenants: BTreeMap<&Tenant, Vec<(&Item, &Usage)>> = BTreeMap::new();
    for (item, usage) in records {
        tenants.entry(&item.tenant).or_default().push((item, usage));
    }
    for records in tenants.into_values() {
        // They come from the first call of theirs: a trace can have many ends and no two beginnings.
        let Some((first, _)) = records.first() else { continue };
        let mut drafts = Vec::new();
        for records in records.chunks(RECORDS) {
            let Some((_, usage)) = records.first() else { continue };
            let about = Aggregate { kind: "usage", id: usage.usage_id.as_str(), version: 1 };
            drafts.push(Draft::new(about, &UsageRecorded { groups: groups(records)? }));
        }
        publish_all(transaction, &first.origin, drafts).await?;
    }
    Ok(())
}

/// The records, each with those of the same payer, product and currency.
fn groups(records: &[(&Item, &Usage)]) -> Result<Vec<UsageGroup>, StoreError> {
    let mut groups: BTreeMap<_, Vec<&Usage>> = BTreeMap::new();
    for (_, usage) in records {
        let currency = usage.charge.as_ref().map(|charge| charge.amount.currency());
        let payer = (&usage.user_id, &usage.organization_id, &usage.subscription_id);
        groups.entry((payer, &usage.product_id, currency)).or_default().push(usage);
    }
    groups.into_values().filter_map(|group| Some(together(group.first()?, &group))).collect()
}

fn optional(slug: Option<&Slug>) -> String {
    slug.map(ToString::to_string).unwrap_or_default()
}

fn together(first: &Usage, records: &[&Usage]) -> Result<UsageGroup, StoreError> {
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
    Ok(UsageGroup {
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
