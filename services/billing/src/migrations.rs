//! The schema, step by step. A step that has landed never changes.

mod m0001_ledger;
mod m0002_books;
mod m0003_holds;
mod m0004_charges;
mod m0005_taken_back;
mod m0006_owners;
mod m0007_set_off;

use mesh::{
    claim, events,
    store::{Migration, SECRETS},
};

pub(crate) fn all() -> Vec<Migration> {
    let mut steps = vec![SECRETS, claim::MIGRATION, m0001_ledger::MIGRATION];
    steps.extend(events::MIGRATIONS);
    steps.extend([m0002_books::MIGRATION, m0003_holds::MIGRATION, m0004_charges::MIGRATION]);
    steps.extend([m0005_taken_back::MIGRATION, m0006_owners::MIGRATION, m0007_set_off::MIGRATION]);
    steps
}
