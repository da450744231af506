//! The schema, step by step. A step that has landed never changes.

mod m0001_ledger;

use mesh::{
    claim,
    store::{Migration, SECRETS},
};

pub(crate) fn all() -> Vec<Migration> {
    vec![SECRETS, claim::MIGRATION, m0001_ledger::MIGRATION]
}
