//! The schema refuses what a bug would do to money, whoever sends the statement.

use mesh::{Store, store::sql};
use sea_orm::ConnectionTrait as _;

use crate::harness::{on_every_store, order};

/// A transaction as an honest deduction of ada's would be written, but for what it moves and what is left.
fn transaction(id: &str, moved: &str, after: &str) -> String {
    format!(
        "insert into transactions (tenant_id, transaction_id, kind, request_id, user_id, currency, wallet, held, revenue,
             payments, wallet_version, balance_after, available_after, related_id, api_id, endpoint_id, api_key_id,
             details, create_time, hash)
         select 'default', '{id}', 'DEDUCTION', '', 'ada', 'USDC', {moved}, {after}, '', '', '', '', '', 0, hash
           from transactions where kind = 'PAYMENT'"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_refuses_what_would_break_the_books() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        house.billing().deduct(order("req-1", "ada", "1")).await.unwrap();
        let location = house.config.billing.location("billing", &house.config.data_dir).unwrap();
        let store = Store::open(location).await.unwrap();
        let connection = store.reader();
        let forgeries = [
            "update wallets set balance = -1".to_owned(),
            "update wallets set held = balance + 1".to_owned(),
            "update wallets set held = -1".to_owned(),
            "update wallets set open_charges = -1".to_owned(),
            "update transactions set wallet = wallet + 1, revenue = revenue - 1".to_owned(),
            "delete from transactions".to_owned(),
            "update requests set state = 'CLAIMED' where request_id = 'req-1'".to_owned(),
            // What comes from nowhere.
            transaction("txn_1", "-1, 0, 2, 0", "3, 5, 5"),
            // What moves nothing.
            transaction("txn_1", "0, 0, 0, 0", "3, 5, 5"),
            // More available than there is, and less than nothing.
            transaction("txn_1", "-1, 0, 1, 0", "3, 5, 6"),
            transaction("txn_1", "-1, 0, 1, 0", "3, -5, -5"),
            // A version that the wallet has had.
            transaction("txn_1", "-1, 0, 1, 0", "2, 5, 5"),
            // An id that is taken.
            "insert into transactions select * from transactions".to_owned(),
        ];
        for forgery in forgeries {
            let outcome = connection.execute_raw(sql(connection, &forgery, [])).await;
            assert!(outcome.is_err(), "the database took {forgery}");
        }
        // None of them failed for another reason than the one it is to fail for.
        let honest = transaction("txn_1", "-1, 0, 1, 0", "3, 5, 5");
        connection.execute_raw(sql(connection, &format!("{honest} and 1 = 0"), [])).await.unwrap();
        store.close().await.unwrap();
    })
    .await;
}
