//! What is read of `outbox` by who follows it.

use sea_orm::{ConnectionTrait, DbBackend};

use super::{super::Change, Place};
use crate::store::{Row as _, StoreError, sql};

/// The changes after a place that can be seen by now, in the order of their commits as far as that is known.
pub(in crate::events) async fn changes(
    connection: &impl ConnectionTrait,
    kinds: &[&'static str],
    after: Place,
    limit: u64,
) -> Result<Vec<Change>, StoreError> {
    let (after_place, order) = match connection.get_database_backend() {
        DbBackend::Postgres => ("(commit_order, position) > ($1, $2)", "commit_order, position"),
        _ => ("$1 = 0 and position > $2", "position"),
    };
    // Written out, so that an index of these types alone serves.
    let types: Vec<_> = kinds.iter().map(|kind| format!("'{kind}'")).collect();
    let text = format!(
        "select position, commit_order, type as kind, tenant_id, subject, aggregate_version from outbox
          where {after_place} and type in ({}) order by {order} limit {limit}",
        types.join(", ")
    );
    let values = [after.commit_order.into(), after.position.into()];
    Ok(Change::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}
