//! The rows of `wallets`.

use std::collections::BTreeSet;

use mesh::{
    StoreError, Tenant, Time, UserId,
    store::{Kind as Column, Row, Rows, Transaction, Writes, lock_clause, read_together, sql},
};
use money::Amount;
use sea_orm::ConnectionTrait;
use serde::Deserialize;

use crate::sabotage::{Protection, is_out};

use super::{
    super::{Wallet, WalletKey, WalletState},
    KEY, currency, key,
};

/// A row of `wallets`.
#[derive(Row, Deserialize)]
struct WalletRow {
    tenant_id: Tenant,
    user_id: UserId,
    currency: String,
    balance: i64,
    held: i64,
    version: i64,
    state: WalletState,
    fault: String,
    open_charges: i64,
    #[serde(deserialize_with = "mesh::store::bytes")]
    hash: Vec<u8>,
    create_time: Time,
    update_time: Time,
}

const WALLET: [(&str, Column); 12] = [
    ("w.tenant_id", Column::Text),
    ("w.user_id", Column::Text),
    ("w.currency", Column::Text),
    ("w.balance", Column::Number),
    ("w.held", Column::Number),
    ("w.version", Column::Number),
    ("w.state", Column::Text),
    ("w.fault", Column::Text),
    ("w.open_charges", Column::Number),
    ("w.hash", Column::Bytes),
    ("w.create_time", Column::Number),
    ("w.update_time", Column::Number),
];

impl TryFrom<WalletRow> for (WalletKey, Wallet) {
    type Error = StoreError;

    fn try_from(row: WalletRow) -> Result<Self, StoreError> {
        let currency = currency(&row.currency)?;
        let key = WalletKey { tenant: row.tenant_id, user_id: row.user_id.clone(), currency };
        let wallet = Wallet {
            user_id: row.user_id,
            balance: Amount::from_minor(currency, row.balance),
            held: Amount::from_minor(currency, row.held),
            version: row.version,
            state: row.state,
            fault: row.fault,
            open_charges: row.open_charges,
            hash: row.hash,
            create_time: row.create_time,
            update_time: row.update_time,
        };
        Ok((key, wallet))
    }
}

/// The wallet of a user in a currency.
pub(crate) async fn find_wallet(
    connection: &impl ConnectionTrait,
    of: &WalletKey,
) -> Result<Option<Wallet>, StoreError> {
    let columns = WALLET.map(|(column, _)| column).join(", ");
    let text = format!("select {columns} from wallets w where tenant_id = $1 and user_id = $2 and currency = $3");
    let row = WalletRow::find_by_statement(sql(connection, &text, key(of))).one(connection).await?;
    row.map(|row| <(WalletKey, Wallet)>::try_from(row).map(|(_, wallet)| wallet)).transpose()
}

/// The wallets, of those that there are. Nobody else changes them until the transaction ends. The keys must be in order: who
/// wants the same wallets waits, and never for each other.
pub(crate) async fn lock_wallets(
    transaction: &Transaction,
    keys: &[&WalletKey],
) -> Result<Vec<(WalletKey, Wallet)>, StoreError> {
    let keys = Rows::new(KEY, keys.iter().map(|of| key(of)));
    let mut values = Vec::new();
    let which = format!(
        "from {} join wallets w
             on w.tenant_id = k.tenant_id and w.user_id = k.user_id and w.currency = k.currency
          order by k.place{}",
        keys.bind(transaction, "k", &mut values)?,
        if lock_clause(transaction).is_empty() || is_out(Protection::Locks) { "" } else { " for update of w" },
    );
    let rows: Vec<WalletRow> = read_together(transaction, &WALLET, &which, values).await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Which of these wallets others hold. All others of them are locked. The keys must be in order.
pub(crate) async fn held_wallets(
    transaction: &Transaction,
    keys: &[&WalletKey],
) -> Result<BTreeSet<WalletKey>, StoreError> {
    #[derive(Row)]
    struct Found {
        tenant_id: Tenant,
        user_id: UserId,
        currency: String,
    }
    if lock_clause(transaction).is_empty() {
        // Whoever may write is the only one who does.
        return Ok(BTreeSet::new());
    }
    let mut found = Vec::new();
    // The first look locks what it sees, the second sees all that there is.
    for lock in ["for update of w skip locked", ""] {
        let keys = Rows::new(KEY, keys.iter().map(|of| key(of)));
        let mut values = Vec::new();
        let text = format!(
            "select w.tenant_id, w.user_id, w.currency from {} join wallets w
                 on w.tenant_id = k.tenant_id and w.user_id = k.user_id and w.currency = k.currency
              order by k.place {lock}",
            keys.bind(transaction, "k", &mut values)?,
        );
        let rows = Found::find_by_statement(sql(transaction, &text, values)).all(transaction).await?;
        let of = |row: Found| {
            Ok(WalletKey { tenant: row.tenant_id, user_id: row.user_id, currency: currency(&row.currency)? })
        };
        found.push(rows.into_iter().map(of).collect::<Result<BTreeSet<_>, StoreError>>()?);
    }
    let all = found.pop().unwrap_or_default();
    let free = found.pop().unwrap_or_default();
    Ok(all.difference(&free).cloned().collect())
}

/// Makes wallets where there are none yet; frozen ones for whoever is gone. The keys must be in order.
pub(crate) async fn open_wallets(transaction: &Transaction, keys: &[&WalletKey], now: Time) -> Result<(), StoreError> {
    let rows = || Rows::new(KEY, keys.iter().map(|of| key(of)));
    let mut values = Vec::new();
    let text = format!(
        "insert into owners (tenant_id, user_id)
         select k.tenant_id, k.user_id from {} where true group by k.tenant_id, k.user_id order by min(k.place)
             on conflict (tenant_id, user_id) do update set user_id = excluded.user_id",
        rows().bind(transaction, "k", &mut values)?,
    );
    // Whoever notes that one of them is gone waits from here on, and then finds the wallet; or was waited for.
    transaction.execute_raw(sql(transaction, &text, values)).await?;
    let mut values = vec![now.into(), WalletState::Active.into(), WalletState::Frozen.into()];
    let text = format!(
        "insert into wallets (tenant_id, user_id, currency, balance, held, version, state, create_time, update_time)
         select k.tenant_id, k.user_id, k.currency, 0, 0, 0, case when o.gone_time is null then $2 else $3 end, $1, $1
           from {} join owners o on o.tenant_id = k.tenant_id and o.user_id = k.user_id where true order by k.place
             on conflict do nothing",
        rows().bind(transaction, "k", &mut values)?,
    );
    transaction.execute_raw(sql(transaction, &text, values)).await?;
    Ok(())
}

const WALLET_CHANGE: [(&str, Column); 11] = [
    ("tenant_id", Column::Text),
    ("user_id", Column::Text),
    ("currency", Column::Text),
    ("balance", Column::Number),
    ("held", Column::Number),
    ("version", Column::Number),
    ("state", Column::Text),
    ("fault", Column::Text),
    ("open_charges", Column::Number),
    ("hash", Column::Bytes),
    ("update_time", Column::Number),
];

fn rows<'w>(wallets: impl IntoIterator<Item = (&'w WalletKey, &'w Wallet)>) -> Rows<11> {
    let row = |(of, wallet): (&WalletKey, &Wallet)| {
        let [tenant, user, currency] = key(of);
        [
            tenant,
            user,
            currency,
            wallet.balance.minor().into(),
            wallet.held.minor().into(),
            wallet.version.into(),
            wallet.state.into(),
            wallet.fault.clone().into(),
            wallet.open_charges.into(),
            wallet.hash.clone().into(),
            wallet.update_time.into(),
        ]
    };
    Rows::new(WALLET_CHANGE, wallets.into_iter().map(row))
}

/// Adds to what is written that wallets are as they are now. They must be locked, or guarded.
pub(crate) fn update_wallets<'w>(
    writes: &mut Writes,
    wallets: impl IntoIterator<Item = (&'w WalletKey, &'w Wallet)>,
) -> Result<(), StoreError> {
    let short = StoreError::Impossible("a wallet that was locked is not there");
    writes.add(rows(wallets), short, |_, rows| {
        format!(
            "update wallets set balance = k.balance, held = k.held, version = k.version, state = k.state, fault = k.fault,
                                open_charges = k.open_charges, hash = k.hash, update_time = k.update_time
               from {rows}
              where wallets.tenant_id = k.tenant_id and wallets.user_id = k.user_id and wallets.currency = k.currency"
        )
    })
}

/// What is written only where a wallet still is as it was read, and nobody changes it meanwhile.
pub(crate) fn while_same(of: &WalletKey, wallet: &Wallet) -> Result<Writes, StoreError> {
    let same = ["balance", "held", "version", "state", "fault", "open_charges", "hash", "update_time"];
    let same: String = same.iter().map(|column| format!(" and w.{column} = k.{column}")).collect();
    Writes::guarded(rows([(of, wallet)]), |rows| {
        format!(
            "select 1 from {rows} join wallets w
                 on w.tenant_id = k.tenant_id and w.user_id = k.user_id and w.currency = k.currency{}",
            if is_out(Protection::Locks) { String::new() } else { format!("{same} for update of w") }
        )
    })
}

/// Freezes all wallets of a user who is gone, and those that are made later. No money moves: their versions, which count
/// changes of the ledger, stay as they are.
pub(crate) async fn freeze_wallets(
    transaction: &Transaction,
    tenant: &Tenant,
    user_id: &UserId,
    now: Time,
) -> Result<(), StoreError> {
    let owner = || [tenant.clone().into(), user_id.clone().into()];
    // The wallets first, and in order, as everybody does who wants several.
    let lock = lock_clause(transaction);
    if !lock.is_empty() {
        let text = format!("select 1 from wallets where tenant_id = $1 and user_id = $2 order by currency{lock}");
        transaction.execute_raw(sql(transaction, &text, owner())).await?;
    }
    let text = "insert into owners (tenant_id, user_id, gone_time) values ($1, $2, $3)
                    on conflict (tenant_id, user_id) do update set gone_time = excluded.gone_time";
    transaction.execute_raw(sql(transaction, text, owner().into_iter().chain([now.into()]))).await?;
    let text = "update wallets set state = $3, update_time = case when update_time > $4 then update_time else $4 end
                 where tenant_id = $1 and user_id = $2 and state <> $3";
    let values = owner().into_iter().chain([WalletState::Frozen.into(), now.into()]);
    transaction.execute_raw(sql(transaction, text, values)).await?;
    Ok(())
}

/// Adds to what is written that owners are not gone any more: wallets that they open give money.
pub(crate) fn note_back(writes: &mut Writes, owners: &BTreeSet<(Tenant, UserId)>) -> Result<(), StoreError> {
    let columns = [("tenant_id", Column::Text), ("user_id", Column::Text)];
    let row = |(tenant, user_id): &(Tenant, UserId)| [tenant.clone().into(), user_id.clone().into()];
    let short = StoreError::Impossible("whoever has a wallet cannot be noted as its owner");
    writes.add(Rows::new(columns, owners.iter().map(row)), short, |names, rows| {
        format!(
            "insert into owners ({names}) select {names} from {rows} where true
                 on conflict (tenant_id, user_id) do update set gone_time = null"
        )
    })
}
