//! TenantService on the wire.

use mesh::{Fields, Parts, REQUEST_BYTES, Reason, Refusal, RequestId, Tenant, TokenKey, open, page, text};
use tonic::{Request, Response, Status, async_trait};
use trivet_proto::account::v1::{
    self as wire, CreateTenantRequest, CreateTenantResponse, GetTenantRequest, GetTenantResponse, ListTenantsRequest,
    ListTenantsResponse,
    tenant_service_server::{TenantService, TenantServiceServer},
};

use super::{Draft, Record, Refused, Tenants};

/// Characters of a name.
const NAME_LIMIT: usize = 200;

/// TenantService over this store.
pub(crate) fn server(parts: &Parts) -> TenantServiceServer<Rpc> {
    let tenants = Tenants { store: parts.store.clone(), clock: parts.clock.clone() };
    TenantServiceServer::new(Rpc { tenants, tokens: parts.tokens.clone() }).max_decoding_message_size(REQUEST_BYTES)
}

pub(crate) struct Rpc {
    tenants: Tenants,
    tokens: TokenKey,
}

#[async_trait]
impl TenantService for Rpc {
    async fn create_tenant(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Result<Response<CreateTenantResponse>, Status> {
        let (context, asked) = open(request)?;
        let (record, already_processed) = self.tenants.create(&context, draft(&asked)?).await??;
        Ok(Response::new(CreateTenantResponse { tenant: Some(record.into()), already_processed }))
    }

    async fn get_tenant(&self, request: Request<GetTenantRequest>) -> Result<Response<GetTenantResponse>, Status> {
        let (_, asked) = open(request)?;
        let record = self.tenants.find(&tenant_id(&asked)?).await??;
        Ok(Response::new(GetTenantResponse { tenant: Some(record.into()) }))
    }

    async fn list_tenants(
        &self,
        request: Request<ListTenantsRequest>,
    ) -> Result<Response<ListTenantsResponse>, Status> {
        let (context, asked) = open(request)?;
        let size = page_size(&asked)?;
        let listing = self.tokens.listing("ListTenants", &context.tenant, &())?;
        let after: Option<Tenant> = listing.open(&asked.page_token)?;
        let mut records = self.tenants.list(after.as_ref(), page::rows(size)).await?;
        let next_page_token = listing.cut(&mut records, size, |record| record.tenant_id.clone())?;
        let total_size = if asked.with_total { Some(self.tenants.count().await?) } else { None };
        let tenants = records.into_iter().map(Into::into).collect();
        Ok(Response::new(ListTenantsResponse { tenants, next_page_token, total_size }))
    }
}

fn draft(asked: &CreateTenantRequest) -> Result<Draft, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse_optional(&asked.request_id));
    let tenant_id = fields.read("tenant_id", Tenant::parse(&asked.tenant_id));
    let name = fields.read("name", text::line(&asked.name, NAME_LIMIT));
    let (request_id, tenant_id, name) = fields.finish((request_id, tenant_id, name))?;
    Ok(Draft { request_id, tenant_id, name })
}

fn tenant_id(asked: &GetTenantRequest) -> Result<Tenant, Refusal> {
    let mut fields = Fields::default();
    let tenant_id = fields.read("tenant_id", Tenant::parse(&asked.tenant_id));
    Ok(fields.finish((tenant_id,))?.0)
}

fn page_size(asked: &ListTenantsRequest) -> Result<u64, Refusal> {
    let mut fields = Fields::default();
    let size = fields.read("page_size", page::size(asked.page_size));
    Ok(fields.finish((size,))?.0)
}

impl From<Record> for wire::Tenant {
    fn from(record: Record) -> Self {
        Self {
            tenant_id: record.tenant_id.into_string(),
            name: record.name,
            create_time: Some(record.create_time.to_wire()),
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let about = |reason, id: &Tenant| Refusal::new(reason, &refused).about("trivet.account.v1.Tenant", id);
        match &refused {
            Refused::RequestId(taken) => taken.clone().into(),
            Refused::NoTenant(id) => about(Reason::TenantNotFound, id),
            Refused::IdTaken(id) => about(Reason::IdTaken, id),
        }
        .into()
    }
}
