//! The schema, step by step. A step that has landed never changes.

mod m0001_ledger;

use mesh::{
    claim, events,
    store::{Migration, SECRETS},
};

pub(crate) fn all() -> Vec<Migration> {
    let mut steps = vec![SECRETS, claim::MIGRATION, m0001_ledger::MIGRATION];
    steps.extend(events::MIGRATIONS);
    steps
}
