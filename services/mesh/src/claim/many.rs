//! Many request ids at once, with a statement or two for all of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};
use serde::{Serialize, de::DeserializeOwned};

use super::{Claim, Decision, Row, Seen};
use crate::{
    RequestId, Tenant, Time,
    store::{Kind, Rows, StoreError, Transaction, Writes, sql},
};

/// Whether many ids are looked up before they are taken. Most are new, and taking them finds that out by itself: they are
/// looked up where that went wrong, and from then on until a look finds nothing. A clone is for one unit of work, which
/// begins anew when an id that was not looked up turns out to be taken.
#[derive(Debug, Default)]
pub struct Lookout {
    lately: Arc<AtomicBool>,
    looks: AtomicBool,
}

impl Clone for Lookout {
    fn clone(&self) -> Self {
        Self { lately: self.lately.clone(), looks: AtomicBool::new(self.lately.load(Ordering::Relaxed)) }
    }
}

impl Lookout {
    /// What each of these ids was used for up to now, in the order of the claims; nothing where nobody looks.
    pub async fn seen_all<A: DeserializeOwned, R: DeserializeOwned>(
        &self,
        connection: &impl ConnectionTrait,
        claims: &[&Claim],
    ) -> Result<Vec<Option<Seen<A, R>>>, StoreError> {
        if !self.looks.load(Ordering::Relaxed) {
            return Ok(claims.iter().map(|_| None).collect());
        }
        let seen = seen_all(connection, claims).await?;
        self.lately.store(seen.iter().any(Option::is_some), Ordering::Relaxed);
        Ok(seen)
    }

    /// Takes these ids and keeps what was decided under each; before anything is written that there can be once only. Where
    /// one was taken before, the whole unit of work begins anew, and looks.
    pub async fn keep_all<A: Serialize, R: Serialize>(
        &self,
        transaction: &Transaction,
        now: Time,
        decided: &[(&Claim, &Decision<A, R>)],
    ) -> Result<(), StoreError> {
        let mut writes = Writes::new(transaction);
        keep_all(&mut writes, now, decided)?;
        self.learn(writes.run(transaction).await)
    }

    /// Learns from how the writing of ids ended: where one was taken before, the next unit of work looks.
    pub fn learn<T>(&self, written: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(written, Err(StoreError::Conflict(_))) {
            self.lately.store(true, Ordering::Relaxed);
            self.looks.store(true, Ordering::Relaxed);
        }
        written
    }

    /// Has this unit of work look, whatever came in before it.
    pub fn look(&self) {
        self.looks.store(true, Ordering::Relaxed);
    }

    /// Has the whole unit of work begin anew, and look, unless it did: before an answer that leaves its id free, since the
    /// id may have an answer already.
    pub fn must_have_looked(&self) -> Result<(), StoreError> {
        if self.looks.swap(true, Ordering::Relaxed) {
            Ok(())
        } else {
            Err(StoreError::Conflict(DbErr::Custom("a request id was not looked up".to_owned())))
        }
    }
}

/// What each of many ids was used for up to now, in the order of the claims.
async fn seen_all<A: DeserializeOwned, R: DeserializeOwned>(
    connection: &impl ConnectionTrait,
    claims: &[&Claim],
) -> Result<Vec<Option<Seen<A, R>>>, StoreError> {
    #[derive(FromQueryResult)]
    struct Kept {
        tenant_id: Tenant,
        request_id: RequestId,
        #[sea_orm(nested)]
        row: Row,
    }
    let key = |claim: &&Claim| [claim.tenant.clone().into(), claim.request_id.clone().into()];
    let keys = Rows::new([("tenant_id", Kind::Text), ("request_id", Kind::Text)], claims.iter().map(key));
    let mut values = Vec::new();
    let text = format!(
        "select distinct r.tenant_id, r.request_id, r.method, r.fields, r.state, r.outcome, r.void_time
           from {} join requests r on r.tenant_id = k.tenant_id and r.request_id = k.request_id",
        keys.bind(connection, "k", &mut values)?
    );
    let kept = Kept::find_by_statement(sql(connection, &text, values)).all(connection).await?;
    let kept: BTreeMap<(Tenant, RequestId), Row> =
        kept.into_iter().map(|kept| ((kept.tenant_id, kept.request_id), kept.row)).collect();
    let of = |claim: &&Claim| {
        let row = kept.get(&(claim.tenant.clone(), claim.request_id.clone())).cloned();
        row.map(|row| claim.compare(row)).transpose()
    };
    claims.iter().map(of).collect()
}

/// Adds to what is written that these ids are taken, and what was decided under each. One that is taken is a conflict,
/// and [`Lookout::learn`] must hear of it.
pub fn keep_all<A: Serialize, R: Serialize>(
    writes: &mut Writes,
    now: Time,
    decided: &[(&Claim, &Decision<A, R>)],
) -> Result<(), StoreError> {
    let mut rows = Vec::with_capacity(decided.len());
    // In the order of their ids: two who want the same ones wait, and never for each other.
    let mut decided = decided.to_vec();
    decided.sort_unstable_by_key(|(claim, _)| claim.id());
    for (claim, decision) in &decided {
        rows.push([
            claim.tenant.clone().into(),
            claim.request_id.clone().into(),
            claim.method.into(),
            claim.fields.clone().into(),
            if decision.is_ok() { "APPLIED" } else { "REFUSED" }.into(),
            serde_json::to_string(decision)?.into(),
            now.into(),
        ]);
    }
    let texts = ["tenant_id", "request_id", "method", "fields", "state", "outcome"].map(|column| (column, Kind::Text));
    let [tenant, id, method, fields, state, outcome] = texts;
    let columns = [tenant, id, method, fields, state, outcome, ("create_time", Kind::Number)];
    let taken = StoreError::Conflict(DbErr::Custom("a request id was taken meanwhile".to_owned()));
    writes.add(Rows::new(columns, rows), taken, |names, rows| {
        format!("insert into requests ({names}) select {names} from {rows} where true on conflict do nothing")
    })
}
