//! One request id, one answer, for ever (money.md, section D): whoever inserts the claim does the work and keeps the
//! answer with it, in one transaction; everybody after finds the answer.
//!
//! The fingerprint is taken over the parsed and normalised fields, so that "0.10" and "0.1" are the same request. Only
//! digests of the fields are kept, so that a reused id can be told which fields differ without keeping what they held.

mod many;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

pub use many::{Lookout, keep_all};

use crate::{
    Reason, Refusal, RequestId, Tenant, Time,
    store::{Migration, StoreError, count, sql},
};

/// The table behind it; the first migration of every service that takes request ids.
pub const MIGRATION: Migration = Migration::new(
    "m0000_requests",
    "
    -- Which request ids were used, for what, and what was answered. Never deleted while the money they moved is kept.
    create table requests (
        tenant_id   text not null,
        request_id  text not null,
        method      text not null,
        -- 'name=digest' of every field that is set, in the order of the contract
        fields      text not null,
        state       text not null check (state in ('CLAIMED', 'APPLIED', 'REFUSED', 'VOIDED')),
        -- what the rule decided, as JSON, from which the same answer is made again
        outcome     text,
        create_time bigint not null,
        void_time   bigint,
        void_reason text,
        primary key (tenant_id, request_id),
        check ((state in ('APPLIED', 'REFUSED')) = (outcome is not null)),
        check ((state = 'VOIDED') = (void_time is not null))
    );
    ",
);

/// One call's hold on its request id.
#[derive(Clone, Debug)]
pub struct Claim {
    tenant: Tenant,
    request_id: RequestId,
    method: &'static str,
    fields: String,
}

/// What was decided under a request id: applied, or refused for ever.
pub type Decision<A, R> = Result<A, R>;

/// What an id that was used before stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<A, R> {
    /// The same request: its answer.
    Answer(Decision<A, R>),
    /// Another request, or none any more.
    Taken(Taken),
}

impl<A, R: From<Taken>> Seen<A, R> {
    /// What to answer under the id.
    pub fn decision(self) -> Decision<A, R> {
        match self {
            Self::Answer(decision) => decision,
            Self::Taken(taken) => Err(taken.into()),
        }
    }
}

/// How voiding an id ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Voiding {
    /// It can never move money.
    Voided {
        /// Since when.
        since: Time,
        /// It was voided before this call.
        before: bool,
    },
    /// Too late: it was carried out.
    Applied {
        /// The rpc that did.
        method: String,
    },
}

/// Why an id cannot serve this request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, serde::Deserialize)]
pub enum Taken {
    /// It was voided.
    #[error("request id {request_id} was voided: it can never move money")]
    Voided {
        /// The id.
        request_id: RequestId,
    },
    /// It was used for another request.
    #[error("request id {request_id} was used for another request: {differs}")]
    Reused {
        /// The id.
        request_id: RequestId,
        /// The names of the fields that differ, with commas; or the method it was used for.
        differs: String,
    },
}

impl From<Taken> for Refusal {
    fn from(taken: Taken) -> Self {
        match &taken {
            Taken::Voided { request_id } => {
                Refusal::new(Reason::RequestVoided, &taken).about("trivet.dev/Request", request_id)
            }
            Taken::Reused { request_id, differs } => Refusal::new(Reason::RequestIdReused, &taken)
                .with("differs", differs)
                .about("trivet.dev/Request", request_id),
        }
    }
}

/// Decides once under a request id: who takes the id decides and keeps the decision, and everybody after gets that one.
/// Says whether it was decided before. Without a claim it is decided each time; `decide` is not begun where it is not
/// needed.
pub async fn once<A, R>(
    claim: Option<&Claim>,
    transaction: &impl ConnectionTrait,
    now: Time,
    decide: impl Future<Output = Result<Decision<A, R>, StoreError>>,
) -> Result<(Decision<A, R>, bool), StoreError>
where
    A: Serialize + DeserializeOwned,
    R: Serialize + DeserializeOwned + From<Taken>,
{
    let Some(claim) = claim else { return Ok((decide.await?, false)) };
    if let Some(seen) = claim.take(transaction, now).await? {
        return Ok((seen.decision(), true));
    }
    let decision = decide.await?;
    claim.keep(transaction, &decision).await?;
    Ok((decision, false))
}

#[derive(Clone, FromQueryResult)]
struct Row {
    method: String,
    fields: String,
    state: String,
    outcome: Option<String>,
    void_time: Option<Time>,
}

impl Claim {
    /// A claim on `request_id` for `method` (an rpc's name) with the request's parsed fields. Fields that are not set
    /// leave no trace, so that a field added later does not make old requests differ.
    pub fn new(tenant: &Tenant, request_id: &RequestId, method: &'static str, fields: &[(&str, &str)]) -> Self {
        Self { tenant: tenant.clone(), request_id: request_id.clone(), method, fields: digests(fields) }
    }

    /// The id, and whose it is.
    pub fn id(&self) -> (&Tenant, &RequestId) {
        (&self.tenant, &self.request_id)
    }

    /// Why this cannot be a repeat of a claim on the same id, if it cannot.
    pub fn differs_from(&self, first: &Self) -> Option<Taken> {
        let request_id = self.request_id.clone();
        if self.method != first.method {
            return Some(Taken::Reused { request_id, differs: format!("it was a {}", first.method) });
        }
        let differs = differing(&first.fields, &self.fields).join(", ");
        (self.fields != first.fields).then_some(Taken::Reused { request_id, differs })
    }

    /// Takes the id, or finds what it was taken for. `None`: it is ours now, and [`Claim::keep`] must follow in the
    /// same transaction.
    pub async fn take<A: DeserializeOwned, R: DeserializeOwned>(
        &self,
        transaction: &impl ConnectionTrait,
        now: Time,
    ) -> Result<Option<Seen<A, R>>, StoreError> {
        let statement = sql(
            transaction,
            "insert into requests (tenant_id, request_id, method, fields, state, create_time)
             values ($1, $2, $3, $4, 'CLAIMED', $5) on conflict do nothing",
            [
                self.tenant.clone().into(),
                self.request_id.clone().into(),
                self.method.into(),
                self.fields.clone().into(),
                now.into(),
            ],
        );
        if transaction.execute_raw(statement).await?.rows_affected() == 1 {
            return Ok(None);
        }
        // A second statement, because only a new snapshot sees what the winner has committed.
        self.seen(transaction).await?.map(Some).ok_or(StoreError::Impossible("a claimed request id is not there"))
    }

    /// What the id was used for up to now, if it was.
    pub async fn seen<A: DeserializeOwned, R: DeserializeOwned>(
        &self,
        connection: &impl ConnectionTrait,
    ) -> Result<Option<Seen<A, R>>, StoreError> {
        self.row(connection).await?.map(|row| self.compare(row)).transpose()
    }

    /// Keeps what was decided, in the transaction that took the id.
    pub async fn keep<A: Serialize, R: Serialize>(
        &self,
        transaction: &impl ConnectionTrait,
        decision: &Decision<A, R>,
    ) -> Result<(), StoreError> {
        let state = if decision.is_ok() { "APPLIED" } else { "REFUSED" };
        let statement = sql(
            transaction,
            "update requests set state = $3, outcome = $4 where tenant_id = $1 and request_id = $2",
            [
                self.tenant.clone().into(),
                self.request_id.clone().into(),
                state.into(),
                serde_json::to_string(decision)?.into(),
            ],
        );
        transaction.execute_raw(statement).await?;
        Ok(())
    }

    /// Makes sure that nothing is ever carried out under the id, where that is not too late. One that was refused can
    /// be voided; one that was voided before stays as it was.
    pub async fn void(
        &self,
        transaction: &impl ConnectionTrait,
        now: Time,
        reason: &str,
    ) -> Result<Voiding, StoreError> {
        let statement = sql(
            transaction,
            "insert into requests (tenant_id, request_id, method, fields, state, create_time, void_time, void_reason)
             values ($1, $2, $3, '', 'VOIDED', $4, $4, $5)
             on conflict (tenant_id, request_id) do update
                set state = 'VOIDED', outcome = null, void_time = $4, void_reason = $5
              where requests.state = 'REFUSED'",
            [self.tenant.clone().into(), self.request_id.clone().into(), self.method.into(), now.into(), reason.into()],
        );
        if transaction.execute_raw(statement).await?.rows_affected() == 1 {
            return Ok(Voiding::Voided { since: now, before: false });
        }
        let row = self.row(transaction).await?.ok_or(StoreError::Impossible("a used request id is not there"))?;
        match (row.void_time, row.outcome) {
            (Some(since), _) => Ok(Voiding::Voided { since, before: true }),
            (None, Some(_)) => Ok(Voiding::Applied { method: row.method }),
            (None, None) => Err(StoreError::Impossible("a claim was committed without an answer")),
        }
    }

    async fn row(&self, connection: &impl ConnectionTrait) -> Result<Option<Row>, StoreError> {
        let statement = sql(
            connection,
            "select method, fields, state, outcome, void_time from requests where tenant_id = $1 and request_id = $2",
            [self.tenant.clone().into(), self.request_id.clone().into()],
        );
        Ok(Row::find_by_statement(statement).one(connection).await?)
    }

    fn compare<A: DeserializeOwned, R: DeserializeOwned>(&self, row: Row) -> Result<Seen<A, R>, StoreError> {
        let request_id = self.request_id.clone();
        if row.state == "VOIDED" {
            return Ok(Seen::Taken(Taken::Voided { request_id }));
        }
        if row.method != self.method {
            let differs = format!("it was a {}", row.method);
            return Ok(Seen::Taken(Taken::Reused { request_id, differs }));
        }
        let kept = shortened(&row.fields);
        if kept != self.fields {
            let differs = differing(&kept, &self.fields).join(", ");
            return Ok(Seen::Taken(Taken::Reused { request_id, differs }));
        }
        let decision = row.outcome.ok_or(StoreError::Impossible("a claim was committed without an answer"))?;
        Ok(Seen::Answer(serde_json::from_str(&decision)?))
    }
}

/// What was kept under a request id that was carried out, whatever rpc did; `None` where none did, or did something else.
pub async fn applied<A: DeserializeOwned>(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    request_id: &RequestId,
) -> Result<Option<A>, StoreError> {
    #[derive(FromQueryResult)]
    struct Kept {
        outcome: String,
    }
    let statement = sql(
        connection,
        "select outcome from requests where tenant_id = $1 and request_id = $2 and state = 'APPLIED'",
        [tenant.clone().into(), request_id.clone().into()],
    );
    let Some(kept) = Kept::find_by_statement(statement).one(connection).await? else { return Ok(None) };
    let decision: Decision<A, serde_json::Value> = serde_json::from_str(&kept.outcome)?;
    Ok(decision.ok())
}

/// Whether a request id was used before, for whatever that was, or voided.
pub async fn is_used(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    request_id: &RequestId,
) -> Result<bool, StoreError> {
    let text = "select count(*) from requests where tenant_id = $1 and request_id = $2";
    Ok(count(connection, text, [tenant.clone().into(), request_id.clone().into()]).await? > 0)
}

/// How many bytes of a field's SHA-256 are kept: two requests under one id are told apart by them, and nothing else is. The
/// whole of them, in hexadecimal, would be most of what is kept of a request.
const KEPT: usize = 16;

/// `name=digest` of each field that is set, the digest being the first half of the value's SHA-256 (FIPS 180-4) in base64url
/// (RFC 4648, section 5, without padding).
fn digests(fields: &[(&str, &str)]) -> String {
    let mut digests = String::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        add(&mut digests, name, &Sha256::digest(value.as_bytes()));
    }
    digests
}

fn add(digests: &mut String, name: &str, sha256: &[u8]) {
    if !digests.is_empty() {
        digests.push(' ');
    }
    digests.push_str(name);
    digests.push('=');
    BASE64URL_NOPAD.encode_append(sha256.get(..KEPT).unwrap_or(sha256), digests);
}

/// What was kept as it would be kept now: an earlier release kept the whole digests, in hexadecimal.
fn shortened(kept: &str) -> String {
    let whole = |field: &str| {
        let (name, digest) = field.split_once('=')?;
        let sha256 = HEXLOWER.decode(digest.as_bytes()).ok()?;
        (sha256.len() == Sha256::output_size()).then(|| (name.to_owned(), sha256))
    };
    let Some(fields) = kept.split(' ').map(whole).collect::<Option<Vec<_>>>() else { return kept.to_owned() };
    let mut digests = String::new();
    for (name, sha256) in fields {
        add(&mut digests, &name, &sha256);
    }
    digests
}

/// The names of the fields that stand in one list and not, or otherwise, in the other.
fn differing<'a>(kept: &'a str, now: &'a str) -> Vec<&'a str> {
    let one_sided = |from: &'a str, other: &'a str| {
        from.split(' ').filter(move |field| !other.split(' ').any(|candidate| candidate == *field))
    };
    let mut names: Vec<&str> = one_sided(kept, now)
        .chain(one_sided(now, kept))
        .filter_map(|field| field.split('=').next())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&str, &str)]) -> String {
        let tenant = Tenant::default_tenant();
        Claim::new(&tenant, &RequestId::parse("req_1").unwrap(), "Deduct", fields).fields
    }

    #[test]
    fn the_fields_that_differ_are_named_and_a_field_left_out_is_not_there() {
        let kept = fields(&[("user_id", "ada"), ("amount", "0.1"), ("api_id", "")]);
        assert_eq!(kept, fields(&[("user_id", "ada"), ("amount", "0.1")]));
        assert_eq!(differing(&kept, &fields(&[("user_id", "ada"), ("amount", "0.5")])), ["amount"]);
        assert_eq!(
            differing(&kept, &fields(&[("user_id", "bob"), ("amount", "0.1"), ("api_id", "chat")])),
            ["api_id", "user_id"]
        );
        assert_eq!(differing(&kept, &fields(&[])), ["amount", "user_id"]);
    }

    #[test]
    fn what_an_earlier_release_kept_is_the_same_request_and_another_is_not() {
        // SHA-256 of "ada" and of "0.1".
        let earlier = "user_id=fdee430d40bd57deeac186cd9790033d0f06f909a8806e7ce6e717ab7c7d5029 \
                       amount=14be4b45f18e0d8c67b4f719b5144eee88497e413709d11d85b096d8e2346310";
        let seen = |amount| {
            let fields = [("user_id", "ada"), ("amount", amount)];
            let claim = Claim::new(&Tenant::default_tenant(), &RequestId::parse("req_1").unwrap(), "Deduct", &fields);
            let (method, state, outcome) = ("Deduct".to_owned(), "APPLIED".to_owned(), Some(r#"{"Ok":7}"#.to_owned()));
            claim
                .compare::<i64, Taken>(Row { method, fields: earlier.to_owned(), state, outcome, void_time: None })
                .unwrap()
        };
        assert_eq!(seen("0.1"), Seen::Answer(Ok(7)));
        let (request_id, differs) = (RequestId::parse("req_1").unwrap(), "amount".to_owned());
        assert_eq!(seen("0.2"), Seen::Taken(Taken::Reused { request_id, differs }));
    }

    #[test]
    fn no_value_of_a_request_is_kept() {
        assert!(!fields(&[("user_id", "ada.lovelace")]).contains("lovelace"));
    }
}
