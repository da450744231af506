//! The rows of `history`, and every statement on them.

use mesh::{
    StoreError, Tenant,
    store::{self, sql},
};
use sea_orm::{ConnectionTrait, FromQueryResult as _, Value};

use super::{Author, Entry, Subject, What};

impl Subject<'_> {
    /// The columns `kind` and `subject_id`.
    fn key(&self) -> (&'static str, &str) {
        match self {
            Self::Account(user_id) => ("ACCOUNT", user_id.as_str()),
            Self::Organization(organization_id) => ("ORGANIZATION", organization_id.as_str()),
            Self::ApiKey(key_id) => ("API_KEY", key_id),
            Self::Tenant(tenant) => ("TENANT", tenant.as_str()),
        }
    }

    fn values(&self, tenant: &Tenant) -> Vec<Value> {
        let (kind, subject_id) = self.key();
        vec![tenant.clone().into(), kind.into(), subject_id.into()]
    }
}

/// Appends a line. The subject's lock keeps two of them from taking one number.
pub(super) async fn insert(
    connection: &impl ConnectionTrait,
    author: &Author,
    subject: &Subject<'_>,
    what: &What<'_>,
) -> Result<(), StoreError> {
    // Callers make request ids up, and an erasure reaches those of accounts only.
    let request_id = if matches!(subject, Subject::Account(_)) { author.request_id.as_str() } else { "" };
    let mut values = subject.values(&author.tenant);
    values.extend::<[Value; 6]>([
        author.now.into(),
        author.actor.clone().into(),
        what.action.into(),
        what.fields.join(",").into(),
        what.reason.into(),
        request_id.into(),
    ]);
    let statement = sql(
        connection,
        "insert into history (tenant_id, kind, subject_id, sequence, time, actor, action, fields, reason, request_id)
         select $1, $2, $3,
                coalesce((select max(sequence) from history where tenant_id = $1 and kind = $2 and subject_id = $3), 0) + 1,
                $4, $5, $6, $7, $8, $9",
        values,
    );
    connection.execute_raw(statement).await?;
    Ok(())
}

/// Blanks what callers put into words.
pub(super) async fn blank(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    subject: &Subject<'_>,
) -> Result<(), StoreError> {
    let text = "update history set reason = '', request_id = '' where tenant_id = $1 and kind = $2 and subject_id = $3";
    connection.execute_raw(sql(connection, text, subject.values(tenant))).await?;
    Ok(())
}

/// Up to `limit` lines before this one, newest first.
pub(super) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    subject: &Subject<'_>,
    before: Option<i64>,
    limit: u64,
) -> Result<Vec<Entry>, StoreError> {
    let mut values = subject.values(tenant);
    values.push(before.unwrap_or(i64::MAX).into());
    let text = format!(
        "select sequence, time, actor, action, fields, reason, request_id from history
          where tenant_id = $1 and kind = $2 and subject_id = $3 and sequence < $4
          order by sequence desc limit {limit}"
    );
    Ok(Entry::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// How many lines there are: the number of the last.
pub(super) async fn length(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    subject: &Subject<'_>,
) -> Result<i64, StoreError> {
    let text = "select coalesce(max(sequence), 0) as length from history
                 where tenant_id = $1 and kind = $2 and subject_id = $3";
    store::count(connection, text, subject.values(tenant)).await
}
