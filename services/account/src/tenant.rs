//! Tenants: those whose rows never meet.
//!
//! TenantService is for operators only: who may call which rpc is decided in mesh, and not a second time here.

mod rpc;
mod table;

use mesh::{
    Clock, Context, RequestId, Store, StoreError, Tenant, Time,
    claim::{self, Claim, Taken},
    store::{Row, Transaction},
};
use serde::{Deserialize, Serialize};

pub(crate) use rpc::server;
pub(crate) use table::find;

use crate::history::{self, Author, Subject, What};

/// A tenant, as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) tenant_id: Tenant,
    pub(crate) name: String,
    pub(crate) create_time: Time,
}

/// A tenant that should be made.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) request_id: Option<RequestId>,
    pub(crate) tenant_id: Tenant,
    pub(crate) name: String,
}

/// Why a tenant is not made or found, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Refused {
    #[error(transparent)]
    RequestId(#[from] Taken),
    #[error("there is no tenant {0}")]
    NoTenant(Tenant),
    #[error("the id {0} belongs to another tenant")]
    IdTaken(Tenant),
}

/// The tenants of this house.
#[derive(Clone)]
pub(crate) struct Tenants {
    store: Store,
    clock: Clock,
}

impl Tenants {
    /// Makes a tenant; says whether it had been made before under the same request id.
    pub(crate) async fn create(
        &self,
        context: &Context,
        draft: Draft,
    ) -> Result<Result<(Record, bool), Refused>, StoreError> {
        let claim = draft.claim(&context.tenant);
        let unit = self.store.unit(context);
        let unit = if claim.is_some() { unit.claimed() } else { unit };
        let input = (Author::of(context, &self.clock), claim, draft);
        let made = unit.run(input, |(author, claim, draft), transaction| {
            Box::pin(claim::once(claim.as_ref(), transaction, author.now, draft.make(author, transaction)))
        });
        let (decided, before) = made.await?;
        Ok(decided.map(|record| (record, before)))
    }

    /// The tenant with this id.
    pub(crate) async fn find(&self, tenant_id: &Tenant) -> Result<Result<Record, Refused>, StoreError> {
        let found = table::find(self.store.reader(), tenant_id).await?;
        Ok(found.ok_or_else(|| Refused::NoTenant(tenant_id.clone())))
    }

    /// Up to `limit` tenants after this one, in the order of their ids.
    pub(crate) async fn list(&self, after: Option<&Tenant>, limit: u64) -> Result<Vec<Record>, StoreError> {
        table::list(self.store.reader(), after, limit).await
    }

    /// How many tenants there are.
    pub(crate) async fn count(&self) -> Result<i64, StoreError> {
        table::count(self.store.reader()).await
    }
}

impl Draft {
    fn claim(&self, caller: &Tenant) -> Option<Claim> {
        let fields = [("tenant_id", self.tenant_id.as_str()), ("name", &self.name)];
        self.request_id.as_ref().map(|request_id| Claim::new(caller, request_id, "CreateTenant", &fields))
    }

    async fn make(&self, author: &Author, transaction: &Transaction) -> Result<Result<Record, Refused>, StoreError> {
        let record = Record { tenant_id: self.tenant_id.clone(), name: self.name.clone(), create_time: author.now };
        if !table::insert(transaction, &record).await? {
            return Ok(Err(Refused::IdTaken(record.tenant_id)));
        }
        let what = What { action: "CREATED", fields: &[], reason: "" };
        history::record(transaction, author, &Subject::Tenant(&record.tenant_id), what).await?;
        Ok(Ok(record))
    }
}
