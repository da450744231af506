//! Charges that do not agree with what paid them, nor with the usage that they are of.

use trivet_proto::billing::v1::FindingKind as Kind;

use super::{Broken, verify};
use crate::harness::Databases;

/// A charge of ada's over 5 minor units, with how it stands, and since when, and what paid it.
fn charge(stands: &str) -> String {
    format!(
        "insert into charges (tenant_id, charge_id, user_id, currency, amount, credited_amount, source, event_id, ordinal,
                              subscription_id, organization_id, product_id, plan_id, reversed_id, tried, create_time,
                              void_reason, state, end_time, transaction_id)
         select 'default', 'chg_odd', 'ada', 'USDC', 5, 0, 'USAGE', 'evt_odd', 0, '', '', 'tokens', '', '', 0, 0, '', {stands}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_does_not_agree_with_what_paid_it_or_with_its_usage_is_named() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let house = Broken::start(databases).await;
        house.unguarded().await;
        let usage = "insert into charged_usages (tenant_id, usage_id, charge_id, amount) values ('default', 'usg_odd', 'chg_odd', 4)";
        for (done, told) in [
            (vec![charge("'PAID', 1, 'txn_none'")], "does not agree with what paid it"),
            // What took money for something else.
            (
                vec![charge("'PAID', 1, (select transaction_id from transactions where request_id = 'a2')")],
                "what paid it",
            ),
            (vec![charge("'VOID', 1, ''"), usage.to_owned()], "is of 5 minor units, its usage of 4"),
        ] {
            for statement in &done {
                house.run(statement).await;
            }
            let (findings, verdict) = verify(&mut house.ledger(), "").await;
            let one =
                matches!(&findings[..], [finding] if finding.kind() == Kind::Charge && finding.message.contains(told));
            assert!(!verdict.ok && one, "{told}: {findings:?}");
            house.run("delete from charges").await;
            house.run("delete from charged_usages").await;
            assert!(verify(&mut house.ledger(), "").await.1.ok);
        }
        // Money that was taken for a charge that there is not: a row whose hash is its own no more, either.
        house.run("update transactions set kind = 'CHARGE' where request_id = 'a2'").await;
        let (findings, _) = verify(&mut house.ledger(), "").await;
        let unpaid = |message: &str| message.contains("no charge was paid by it");
        assert!(findings.iter().any(|it| it.kind() == Kind::Charge && unpaid(&it.message)), "{findings:?}");
        house.end().await;
    }
}
