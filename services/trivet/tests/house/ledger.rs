//! The schema refuses what a bug would do to money, whoever sends the statement.

use mesh::{Store, store::sql};
use sea_orm::{ConnectionTrait as _, DbBackend};

use crate::harness::{on_every_store, order};

/// A transaction as an honest deduction of nobody's would write it.
const TRANSACTION: &str = "insert into transactions (tenant_id, transaction_id, kind, request_id, user_id, currency,
    amount, api_id, endpoint_id, api_key_id, provider, provider_reference, create_time)
    values ('default', 'txn_forged', 'DEDUCTION', 'forged', 'ada', 'USDC', 1, '', '', '', '', '', 0)";

#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_refuses_what_would_break_the_books() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        house.billing().deduct(order("req-1", "ada", "1")).await.unwrap();
        let location = house.config.billing.location("billing", &house.config.data_dir).unwrap();
        let store = Store::open(location).await.unwrap();
        let connection = store.reader();
        let mut forgeries = vec![
            "update wallets set balance = -1",
            "update wallets set held = balance + 1",
            "update wallets set held = -1",
            "update entries set amount = amount + 1",
            "delete from entries",
            "update transactions set amount = 2",
            "delete from transactions",
            // A request id that moved money once.
            "insert into transactions select tenant_id, 'txn_twice', kind, request_id, user_id, currency, amount, api_id,
                endpoint_id, api_key_id, provider, provider_reference, create_time from transactions",
            // A version that the wallet has had.
            "insert into entries select tenant_id, transaction_id, ordinal + 7, account, user_id, currency, amount,
                wallet_version, balance_after, available_after from entries where account = 'WALLET'",
            "update requests set state = 'CLAIMED' where request_id = 'req-1'",
        ];
        if connection.get_database_backend() == DbBackend::Postgres {
            // Looked at when the transaction commits; SQLite has no such triggers.
            forgeries.push(TRANSACTION);
            forgeries.push(
                "insert into entries select tenant_id, transaction_id, 3, account, user_id, currency, 5, wallet_version,
                    balance_after, available_after from entries where account = 'REVENUE'",
            );
        }
        for forgery in forgeries {
            let outcome = connection.execute_raw(sql(connection, forgery, [])).await;
            assert!(outcome.is_err(), "the database took {forgery}");
        }
        store.close().await.unwrap();
    })
    .await;
}
