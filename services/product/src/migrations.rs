//! The schema, step by step. A step that has landed never changes.

mod m0001_products;
mod m0002_subscriptions;

use mesh::{
    claim,
    store::{Migration, SECRETS},
};

pub(crate) fn all() -> Vec<Migration> {
    vec![SECRETS, claim::MIGRATION, m0001_products::MIGRATION, m0002_subscriptions::MIGRATION]
}
