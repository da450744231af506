//! ApiKeyService on the wire.

use mesh::{
    Fields, Parts, REQUEST_BYTES, Reason, Refusal, RequestId, Slug, Time, TokenKey, open, page, refusal::Violation,
    text,
};
use tonic::{Request, Response, Status, async_trait};
use trivet_proto::account::v1::{
    self as wire, AuthenticateApiKeyRequest, AuthenticateApiKeyResponse, CreateApiKeyRequest, CreateApiKeyResponse,
    ListApiKeysRequest, ListApiKeysResponse, RevokeApiKeyRequest, RevokeApiKeyResponse,
    api_key_service_server::{ApiKeyService, ApiKeyServiceServer},
};

use super::{ApiKeys, Draft, Invalid, Key, Refused, Scope, Scopes, Secret, Usage};

/// Characters of a name.
const NAME_LIMIT: usize = 200;
/// Scopes in one request: there are six, and one given twice counts once.
const SCOPES_LIMIT: usize = 32;

/// ApiKeyService over this store, and the task that writes down when keys are used.
pub(crate) fn server(parts: &Parts) -> ApiKeyServiceServer<Rpc> {
    let keys = ApiKeys { store: parts.store.clone(), clock: parts.clock.clone(), usage: Usage::default() };
    let (usage, store) = (keys.usage.clone(), keys.store.clone());
    parts.background.spawn(|end| usage.keep(store, end.cancelled_owned()));
    ApiKeyServiceServer::new(Rpc { keys, tokens: parts.tokens.clone() }).max_decoding_message_size(REQUEST_BYTES)
}

pub(crate) struct Rpc {
    keys: ApiKeys,
    tokens: TokenKey,
}

#[async_trait]
impl ApiKeyService for Rpc {
    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyResponse>, Status> {
        let (context, asked) = open(request)?;
        let (key, secret) = self.keys.create(&context, draft(&asked, self.keys.clock.now())?).await??;
        Ok(Response::new(CreateApiKeyResponse {
            key: Some(key.into()),
            already_processed: secret.is_none(),
            secret: secret.map(Secret::reveal).unwrap_or_default(),
        }))
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        let (context, asked) = open(request)?;
        let size = page_size(&asked)?;
        let listing = self.tokens.listing("ListApiKeys", &context.tenant, &())?;
        let before: Option<Slug> = listing.open(&asked.page_token)?;
        let mut keys = self.keys.list(&context, before.as_ref(), page::rows(size)).await?;
        let next_page_token = listing.cut(&mut keys, size, |key| key.key_id.clone())?;
        let total_size = if asked.with_total { Some(self.keys.count(&context).await?) } else { None };
        let keys = keys.into_iter().map(Into::into).collect();
        Ok(Response::new(ListApiKeysResponse { keys, next_page_token, total_size }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<RevokeApiKeyResponse>, Status> {
        let (context, asked) = open(request)?;
        let key = self.keys.revoke(&context, key_id(&asked)?).await??;
        Ok(Response::new(RevokeApiKeyResponse { key: Some(key.into()) }))
    }

    async fn authenticate_api_key(
        &self,
        request: Request<AuthenticateApiKeyRequest>,
    ) -> Result<Response<AuthenticateApiKeyResponse>, Status> {
        let (_, asked) = open(request)?;
        let holder = self.keys.authenticate(&asked.secret).await??;
        Ok(Response::new(AuthenticateApiKeyResponse {
            tenant_id: holder.tenant.into_string(),
            key_id: holder.key_id.into_string(),
            scopes: holder.scopes.names().map(str::to_owned).collect(),
        }))
    }
}

fn draft(asked: &CreateApiKeyRequest, now: Time) -> Result<Draft, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
    let display_name = fields.read("display_name", text::line(&asked.display_name, NAME_LIMIT));
    let scopes = fields.read_batch("scopes", &asked.scopes, SCOPES_LIMIT, scope);
    let expire_time = fields.read("expire_time", asked.expire_time.as_ref().map(Time::from_wire).transpose());
    // A time that has passed is told with the other faults. By itself it is for the rule to judge, who knows whether the
    // call was sent before.
    if fields.is_faulty() && expire_time.flatten().is_some_and(|end| end <= now) {
        fields.refuse("expire_time", Refused::Past);
    }
    let (request_id, display_name, scopes, expire_time) =
        fields.finish((request_id, display_name, scopes, expire_time))?;
    Ok(Draft { request_id, display_name, scopes: Scopes::of(scopes), expire_time })
}

fn scope(asked: &str) -> Result<Scope, &'static str> {
    asked.parse().map_err(|_| "must be account, product or billing, a dot, and read or write")
}

fn page_size(asked: &ListApiKeysRequest) -> Result<u64, Refusal> {
    let mut fields = Fields::default();
    let size = fields.read("page_size", page::size(asked.page_size));
    Ok(fields.finish((size,))?.0)
}

fn key_id(asked: &RevokeApiKeyRequest) -> Result<Slug, Refusal> {
    let mut fields = Fields::default();
    let key_id = fields.read("key_id", Slug::parse(&asked.key_id));
    Ok(fields.finish((key_id,))?.0)
}

impl From<Key> for wire::ApiKey {
    fn from(key: Key) -> Self {
        Self {
            key_id: key.key_id.into_string(),
            display_name: key.display_name,
            scopes: key.scopes.names().map(str::to_owned).collect(),
            create_time: Some(key.create_time.to_wire()),
            expire_time: key.expire_time.map(Time::to_wire),
            last_used_time: key.last_used_time.map(Time::to_wire),
            revoke_time: key.revoke_time.map(Time::to_wire),
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let refusal = |reason| Refusal::new(reason, &refused);
        match &refused {
            Refused::NoTenant(id) => refusal(Reason::TenantNotFound).about("trivet.account.v1.Tenant", id),
            Refused::RequestId(taken) => taken.clone().into(),
            Refused::Past => {
                let past = Violation { field: "expire_time".to_owned(), description: refused.to_string() };
                Refusal::fields(Reason::InvalidFields, vec![past])
            }
            Refused::NoKey(id) => refusal(Reason::ApiKeyNotFound).about("trivet.account.v1.ApiKey", id),
        }
        .into()
    }
}

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Self {
        Refusal::new(Reason::CredentialsInvalid, invalid).with("cause", invalid.cause()).into()
    }
}
