//! The schema, step by step. A step that has landed never changes.

mod m0001_accounts;

use mesh::store::{Migration, SECRETS};

pub(crate) fn all() -> Vec<Migration> {
    vec![SECRETS, m0001_accounts::MIGRATION]
}
