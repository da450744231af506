//! A ledger whose keys the database has in another order than that of their bytes, by which a verification goes on.

use tonic::Code;
use trivet_proto::billing::v1::{VerifyLedgerRequest, verify_ledger_response::Event};

use super::Broken;
use crate::harness::Databases;

/// More wallets than a verification reads at once, of names that start with `a` and with `B`.
const WALLETS: &str = "
    insert into wallets (tenant_id, user_id, currency, balance, held, version, state, create_time, update_time)
        select 'default', first || lpad(n::text, 4, '0'), 'USDC', 0, 0, 0, 'ACTIVE', 0, 0
          from generate_series(0, 999) n, (values ('a'), ('B')) k (first)";

/// More transactions of `a` and of `B` than it reads at once.
const TRANSACTIONS: &str = "
    insert into transactions (tenant_id, transaction_id, kind, request_id, user_id, currency, wallet, held, revenue, payments,
                              wallet_version, balance_after, available_after, related_id, api_id, endpoint_id, api_key_id,
                              details, create_time, hash)
        select 'default', 'txn_' || user_id || n, 'PAYMENT', '', user_id, 'USDC', 1, 0, 0, -1, n, n, n, '', '', '', '', '', 0, ''
          from generate_series(1, 1000) n, (values ('a'), ('B')) k (user_id);
    insert into wallets (tenant_id, user_id, currency, balance, held, version, state, create_time, update_time)
        select 'default', user_id, 'USDC', 1000, 0, 1000, 'ACTIVE', 0, 0 from (values ('a'), ('B')) k (user_id)";

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_ends_with_an_error_where_keys_come_in_another_order_and_not_with_a_verdict() {
    for rows in [WALLETS, TRANSACTIONS] {
        let Some(databases) = Databases::postgres().await else { return };
        let house = Broken::start(databases).await;
        house.run(rows).await;
        // To a language, B comes after a.
        for table in ["wallets", "transactions", "holds", "charges"] {
            house.run(&format!(r#"alter table {table} alter column user_id type text collate "und-x-icu""#)).await;
        }
        let mut said = house.ledger().verify_ledger(VerifyLedgerRequest::default()).await.unwrap().into_inner();
        // The first tells how much there is, the second what was seen before the order broke.
        let mut told = 0;
        let error = loop {
            match said.message().await {
                Ok(message) => {
                    assert!(!matches!(message.unwrap().event, Some(Event::Verdict(_))));
                    told += 1;
                }
                Err(error) => break error,
            }
        };
        assert_eq!((error.code(), told), (Code::Internal, 2));
        house.end().await;
    }
}
