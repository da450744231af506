//! The schema, step by step. A step that has landed never changes.

mod m0001_accounts;
mod m0002_whole_accounts;
mod m0003_history;
mod m0004_organizations;
mod m0005_api_keys;

use mesh::{
    claim, events,
    store::{Migration, SECRETS},
};

pub(crate) fn all() -> Vec<Migration> {
    let mut steps = vec![
        SECRETS,
        m0001_accounts::MIGRATION,
        claim::MIGRATION,
        m0002_whole_accounts::MIGRATION,
        m0003_history::MIGRATION,
        m0004_organizations::MIGRATION,
        m0005_api_keys::MIGRATION,
    ];
    steps.extend(events::MIGRATIONS);
    steps
}
