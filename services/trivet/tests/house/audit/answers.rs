//! What is answered to a request for ever.

use trivet_proto::billing::v1::FindingKind as Kind;

use super::{Broken, verify};
use crate::harness::Databases;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_says_anything_else_of_its_change_is_named() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let house = Broken::start(databases).await;
        // A deduction, a refund and a hold.
        for (request_id, user) in [("b1", "bob"), ("back", "ada"), ("hold", "ada")] {
            let answer = |from: &str, to: &str| {
                format!(
                    "update requests set outcome = replace(outcome, '{from}', '{to}') where request_id = '{request_id}'"
                )
            };
            for (is, odd) in [
                (r#""transaction_id":"txn_"#, r#""transaction_id":"txn_0"#),
                (r#""currency":"USDC","minor":"#, r#""currency":"EURC","minor":"#),
                (r#""minor":"#, r#""minor":1"#),
                (r#""wallet_version":"#, r#""wallet_version":1"#),
                (r#""time":"#, r#""time":1"#),
            ] {
                house.run(&answer(is, odd)).await;
                for whose in ["", user] {
                    let (findings, verdict) = verify(&mut house.ledger(), whose).await;
                    let one = matches!(&findings[..], [it] if it.kind() == Kind::Request && it.user_id == user);
                    assert!(!verdict.ok && one, "{request_id}: {odd}: {findings:?}");
                }
                house.run(&answer(odd, is)).await;
                let (findings, verdict) = verify(&mut house.ledger(), "").await;
                assert!(verdict.ok, "{request_id}: {odd}: {findings:?}");
            }
        }
        house.end().await;
    }
}
