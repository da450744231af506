//! The rows of `wallets` and `transactions`, and every statement on them but those that verify.

mod changes;
mod deductions;
mod statement;
mod wallets;

use mesh::{StoreError, store::Kind as Column};
use money::{Currency, Total};
use sea_orm::Value;

use super::WalletKey;
pub(crate) use {
    changes::{all_changes, changes, changes_between, find, insert, refunded, sums},
    deductions::{Filter, Places, count_deductions, deductions, deductions_before, newest},
    statement::{Line, lines},
    wallets::{
        find_wallet, freeze_wallets, held_wallets, lock_wallets, note_back, open_wallets, update_wallets, while_same,
    },
};

const DAMAGED: StoreError = StoreError::Impossible("a row of the ledger holds what is never written");

pub(crate) fn currency(code: &str) -> Result<Currency, StoreError> {
    if code.is_empty() { Err(DAMAGED) } else { Currency::parse(code).map_err(|_| DAMAGED) }
}

const KEY: [(&str, Column); 3] = [("tenant_id", Column::Text), ("user_id", Column::Text), ("currency", Column::Text)];

fn key(key: &WalletKey) -> [Value; 3] {
    [key.tenant.clone().into(), key.user_id.clone().into(), key.currency.code().into()]
}

/// How many minor units a high part counts.
const HIGH: i64 = 1_000_000_000;

/// The sum of a column as two: of thousand millions of minor units, and of what is left. Neither leaves 64 bits.
pub(crate) fn summed(column: &str) -> String {
    format!(
        "cast(sum({column} / {HIGH}) as bigint) as {column}_high,
         cast(sum({column} % {HIGH}) as bigint) as {column}_low"
    )
}

/// The whole of such a sum.
pub(crate) fn total(currency: Currency, high: i64, low: i64) -> Option<Total> {
    let high = i128::from(high).checked_mul(i128::from(HIGH))?;
    Some(Total::from_minor(currency, high.checked_add(i128::from(low))?))
}
