//! The schema, step by step. A step that has landed never changes.

mod m0001_products;
mod m0002_subscriptions;
mod m0003_buyers;
mod m0004_prices;
mod m0005_plans;
mod m0006_subscriptions_live;
mod m0007_usage;
mod m0008_catalog;
mod m0009_following;
mod m0010_bytes;

use mesh::{
    claim, events,
    store::{Migration, SECRETS},
};

pub(crate) fn all() -> Vec<Migration> {
    let mut steps = vec![SECRETS, claim::MIGRATION, m0001_products::MIGRATION, m0002_subscriptions::MIGRATION];
    steps.extend(events::MIGRATIONS);
    steps.extend([m0003_buyers::MIGRATION, m0004_prices::MIGRATION]);
    steps.extend([m0005_plans::MIGRATION, m0006_subscriptions_live::MIGRATION, m0007_usage::MIGRATION]);
    steps.extend([m0008_catalog::MIGRATION, m0009_following::MIGRATION, m0010_bytes::MIGRATION]);
    steps
}
