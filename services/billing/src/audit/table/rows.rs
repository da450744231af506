//! The rows that are audited, as they are, whatever they hold: what is damaged is to be named, and the rest looked at.

use mesh::store::Kind;
use sea_orm::{DbErr, QueryResult, TryGetable};
use serde::Deserialize;

use crate::ledger::chain::Kept;

/// Reads the fields of a row, each by the function of this module that is named with it.
macro_rules! lenient {
    ($Name:ident { $($field:ident: $read:ident),+ $(,)? }) => {
        impl mesh::store::Row for $Name {
            fn from_query_result(row: &sea_orm::QueryResult, prefix: &str) -> Result<Self, sea_orm::DbErr> {
                Ok(Self { $($field: $crate::audit::table::rows::$read(row, prefix, stringify!($field))?,)+ })
            }
        }
    };
}
pub(super) use lenient;

/// A text; what of it is none is replaced, so that it is not what was hashed.
pub(super) fn text(row: &QueryResult, prefix: &str, column: &str) -> Result<String, DbErr> {
    row.try_get(prefix, column).or_else(|_| {
        let bytes: Vec<u8> = row.try_get(prefix, column)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    })
}

/// Anything else, which the schema lets be nothing else.
pub(super) fn value<T: TryGetable>(row: &QueryResult, prefix: &str, column: &str) -> Result<T, DbErr> {
    row.try_get(prefix, column)
}

/// A wallet, as it is.
#[derive(Clone, Debug)]
pub(crate) struct WalletRow {
    pub(crate) user_id: String,
    pub(crate) currency: String,
    pub(crate) balance: i64,
    pub(crate) held: i64,
    pub(crate) version: i64,
    pub(crate) fault: String,
    pub(crate) hash: Vec<u8>,
}

/// A change, as it is.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ChangeRow {
    pub(crate) transaction_id: String,
    pub(crate) kind: String,
    pub(crate) request_id: String,
    pub(crate) user_id: String,
    pub(crate) currency: String,
    pub(crate) wallet: i64,
    pub(crate) held: i64,
    pub(crate) revenue: i64,
    pub(crate) payments: i64,
    pub(crate) wallet_version: i64,
    pub(crate) balance_after: i64,
    pub(crate) available_after: i64,
    pub(crate) related_id: String,
    pub(crate) api_id: String,
    pub(crate) endpoint_id: String,
    pub(crate) api_key_id: String,
    pub(crate) details: String,
    pub(crate) create_time: i64,
    #[serde(deserialize_with = "mesh::store::bytes")]
    pub(crate) hash: Vec<u8>,
    /// Whether the request was answered with this transaction.
    pub(crate) answered: i64,
}

/// The columns of a change, but for the last.
pub(crate) const CHANGE: [(&str, Kind); 19] = [
    ("t.transaction_id", Kind::Text),
    ("t.kind", Kind::Text),
    ("t.request_id", Kind::Text),
    ("t.user_id", Kind::Text),
    ("t.currency", Kind::Text),
    ("t.wallet", Kind::Number),
    ("t.held", Kind::Number),
    ("t.revenue", Kind::Number),
    ("t.payments", Kind::Number),
    ("t.wallet_version", Kind::Number),
    ("t.balance_after", Kind::Number),
    ("t.available_after", Kind::Number),
    ("t.related_id", Kind::Text),
    ("t.api_id", Kind::Text),
    ("t.endpoint_id", Kind::Text),
    ("t.api_key_id", Kind::Text),
    ("t.details", Kind::Text),
    ("t.create_time", Kind::Number),
    ("t.hash", Kind::Bytes),
];

impl ChangeRow {
    /// What of it was hashed.
    pub(crate) fn kept(&self) -> Kept<'_> {
        Kept {
            texts: [
                &self.transaction_id,
                &self.kind,
                &self.request_id,
                &self.user_id,
                &self.currency,
                &self.related_id,
                &self.api_id,
                &self.endpoint_id,
                &self.api_key_id,
                &self.details,
            ],
            numbers: [
                self.wallet,
                self.held,
                self.revenue,
                self.payments,
                self.wallet_version,
                self.balance_after,
                self.available_after,
                self.create_time,
            ],
        }
    }
}

lenient! {
    WalletRow {
        user_id: text, currency: text, balance: value, held: value, version: value, fault: text, hash: value,
    }
}

lenient! {
    ChangeRow {
        transaction_id: text, kind: text, request_id: text, user_id: text, currency: text, wallet: value,
        held: value, revenue: value, payments: value, wallet_version: value, balance_after: value,
        available_after: value, related_id: text, api_id: text, endpoint_id: text, api_key_id: text, details: text,
        create_time: value, hash: value, answered: value,
    }
}
