//! CatalogService on the wire. What is asked of prices is read and answered with their slice.

use std::collections::BTreeMap;

use mesh::{
    Fields, Parts, REQUEST_BYTES, Reason, Refusal, RequestId, Slug, TokenKey, UserId, open, page, text, update::Etag,
};
use tonic::{Request, Response, Status as GrpcStatus, async_trait};
use trivet_proto::product::v1::{
    self as wire, BatchGetProductsRequest, BatchGetProductsResponse, CheckAvailabilityRequest,
    CheckAvailabilityResponse, CreateProductRequest, CreateProductResponse, DeleteProductRequest,
    DeleteProductResponse, EstimateCostRequest, EstimateCostResponse, GetProductPricingRequest,
    GetProductPricingResponse, GetProductRequest, GetProductResponse, ListProductsRequest, ListProductsResponse,
    ProductStatus, SetPriceRequest, SetPriceResponse, UnavailableReason,
    catalog_service_server::{CatalogService, CatalogServiceServer},
};

use super::{Availability, Catalog, Cursor, Draft, Filter, Product, Refused, Status, availability, metadata};
use crate::{
    Config, buyer,
    pricing::{self, Pricing},
};

/// Characters of a name, and of a query for one.
const NAME_LIMIT: usize = 200;
/// Characters of a description.
const DESCRIPTION_LIMIT: usize = 4_000;
/// Products asked for at once.
const BATCH_LIMIT: usize = 1_000;
/// The type of a product that names none.
const DEFAULT_TYPE: &str = "physical";
/// The answer's metadata that says how old the word was that decided, in milliseconds.
const STALENESS: &str = "x-trivet-staleness-ms";

/// CatalogService over this store, knowing or asking who is active.
pub(crate) fn server(parts: &Parts, config: &Config, accounts: buyer::Accounts) -> CatalogServiceServer<Rpc> {
    let catalog = Catalog::new(parts.store.clone(), parts.clock.clone(), config.cache_bytes);
    let rpc = Rpc {
        pricing: Pricing::new(parts.store.clone(), parts.clock.clone(), catalog.clone()),
        catalog,
        tokens: parts.tokens.clone(),
        accounts,
    };
    CatalogServiceServer::new(rpc).max_decoding_message_size(REQUEST_BYTES)
}

pub(crate) struct Rpc {
    catalog: Catalog,
    pricing: Pricing,
    tokens: TokenKey,
    accounts: buyer::Accounts,
}

#[async_trait]
impl CatalogService for Rpc {
    async fn create_product(
        &self,
        request: Request<CreateProductRequest>,
    ) -> Result<Response<CreateProductResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (product, already_processed) = self.catalog.create(&context, draft(&asked)?).await??;
        Ok(Response::new(CreateProductResponse { product: Some((&product).into()), already_processed }))
    }

    async fn get_product(
        &self,
        request: Request<GetProductRequest>,
    ) -> Result<Response<GetProductResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let product = self.catalog.find(&context, &product_id(&asked.product_id)?).await??;
        Ok(Response::new(GetProductResponse { product: Some((&*product).into()) }))
    }

    async fn batch_get_products(
        &self,
        request: Request<BatchGetProductsRequest>,
    ) -> Result<Response<BatchGetProductsResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let ids = batch(&asked)?;
        let found = self.catalog.find_all(&context, &ids).await?;
        let found: BTreeMap<_, _> = found.into_iter().map(|product| (product.product_id.clone(), product)).collect();
        let mut response = BatchGetProductsResponse::default();
        for id in ids {
            match found.get(&id) {
                Some(product) => response.products.push(product.into()),
                None => response.missing_product_ids.push(id.into_string()),
            }
        }
        Ok(Response::new(response))
    }

    async fn list_products(
        &self,
        request: Request<ListProductsRequest>,
    ) -> Result<Response<ListProductsResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (filter, size) = filter(&asked)?;
        let listing = self.tokens.listing("ListProducts", &context.tenant, &filter)?;
        let after: Option<Cursor> = listing.open(&asked.page_token)?;
        let mut products = self.catalog.list(&context, &filter, after.as_ref(), page::rows(size)).await?;
        let next_page_token = listing.cut(&mut products, size, Cursor::of)?;
        let total_size = if asked.with_total { Some(self.catalog.count(&context, &filter).await?) } else { None };
        let products = products.iter().map(Into::into).collect();
        Ok(Response::new(ListProductsResponse { products, next_page_token, total_size }))
    }

    async fn delete_product(
        &self,
        request: Request<DeleteProductRequest>,
    ) -> Result<Response<DeleteProductResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let product = self.catalog.delete(&context, product_id(&asked.product_id)?).await??;
        Ok(Response::new(DeleteProductResponse { product: Some((&product).into()) }))
    }

    async fn set_price(&self, request: Request<SetPriceRequest>) -> Result<Response<SetPriceResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (price, already_processed) = self.pricing.set(&context, pricing::rpc::draft(&asked)?).await??;
        Ok(Response::new(SetPriceResponse { price: Some(price.into()), already_processed }))
    }

    async fn get_product_pricing(
        &self,
        request: Request<GetProductPricingRequest>,
    ) -> Result<Response<GetProductPricingResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (product_id, quantity) = pricing::rpc::pricing(&asked)?;
        let price = self.pricing.in_force(&context, &product_id).await??;
        let increment = quantity.map(|quantity| price.quote(quantity)).transpose()?;
        let next = self.pricing.next(&context, &product_id, &price).await?;
        Ok(Response::new(pricing::rpc::pricing_message(price, next, increment)))
    }

    async fn estimate_cost(
        &self,
        request: Request<EstimateCostRequest>,
    ) -> Result<Response<EstimateCostResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (product_id, quantity) = pricing::rpc::estimate(&asked)?;
        let price = self.pricing.in_force(&context, &product_id).await??;
        let increment = price.quote(quantity)?;
        Ok(Response::new(pricing::rpc::estimate_message(price, quantity, increment)))
    }

    async fn check_availability(
        &self,
        request: Request<CheckAvailabilityRequest>,
    ) -> Result<Response<CheckAvailabilityResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let product_id = fields.read("product_id", Slug::parse(&asked.product_id));
        let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
        let (product_id, user_id) = fields.finish((product_id, user_id))?;
        // Looked up whatever the product is like, so that an answer never depends on who could be reached.
        let known = self.accounts.known(&context, &user_id).await?;
        let product = self.catalog.find(&context, &product_id).await?.ok();
        let availability = availability(product.as_deref(), known.active);
        let mut response = Response::new(CheckAvailabilityResponse {
            available: availability == Availability::Available,
            reason: UnavailableReason::from(availability).into(),
        });
        let staleness_ms = u64::try_from(known.staleness.as_millis()).unwrap_or(u64::MAX);
        response.metadata_mut().insert(STALENESS, staleness_ms.into());
        Ok(response)
    }
}

fn product_id(asked: &str) -> Result<Slug, Refusal> {
    let mut fields = Fields::default();
    let product_id = fields.read("product_id", Slug::parse(asked));
    Ok(fields.finish((product_id,))?.0)
}

fn draft(asked: &CreateProductRequest) -> Result<Draft, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse_optional(&asked.request_id));
    let product_id = fields.read("product_id", Slug::parse_optional(&asked.product_id));
    let name = fields.read("name", text::line(&asked.name, NAME_LIMIT));
    let kind = fields.read("type", word(&asked.r#type));
    let category_id = fields.read("category_id", Slug::parse_optional(&asked.category_id));
    let description = fields.read("description", text::paragraph(&asked.description, DESCRIPTION_LIMIT));
    let metadata = fields.read("metadata", metadata::to_json(asked.metadata.as_ref()));
    let parts = (request_id, product_id, name, kind, category_id, description, metadata);
    let (request_id, product_id, name, kind, category_id, description, metadata) = fields.finish(parts)?;
    let kind = kind.unwrap_or_else(|| DEFAULT_TYPE.to_owned());
    Ok(Draft { request_id, product_id, name, kind, category_id, description, metadata })
}

/// Reads a word of the caller's, `[a-z][a-z0-9_]{0,31}`; empty means none.
pub(crate) fn word(asked: &str) -> Result<Option<String>, text::Fault> {
    let rest = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let good = asked.len() <= 32 && asked.starts_with(|first: char| first.is_ascii_lowercase()) && rest(asked);
    match asked {
        "" => Ok(None),
        asked if good => Ok(Some(asked.to_owned())),
        _ => Err(text::Fault::Form("a lower-case letter and up to 31 lower-case letters, digits and underscores")),
    }
}

/// The ids asked for, each once, in the order of their first mention.
fn batch(asked: &BatchGetProductsRequest) -> Result<Vec<Slug>, Refusal> {
    let mut fields = Fields::default();
    let ids = fields.read_batch("product_ids", &asked.product_ids, BATCH_LIMIT, Slug::parse);
    Ok(fields.finish((ids,))?.0)
}

fn filter(asked: &ListProductsRequest) -> Result<(Filter, u64), Refusal> {
    let mut fields = Fields::default();
    let size = fields.read("page_size", page::size(asked.page_size));
    let kind = fields.read("type", word(&asked.r#type));
    let category_id = fields.read("category_id", Slug::parse_optional(&asked.category_id));
    let status = fields.read("status", status(asked.status));
    let query = fields.read("query", text::optional_line(&asked.query, NAME_LIMIT));
    let (size, kind, category_id, status, query) = fields.finish((size, kind, category_id, status, query))?;
    Ok((Filter { kind, category_id, status, query: query.to_lowercase() }, size))
}

fn status(asked: i32) -> Result<Option<Status>, &'static str> {
    match ProductStatus::try_from(asked) {
        Ok(ProductStatus::Unspecified) => Ok(None),
        Ok(ProductStatus::Active) => Ok(Some(Status::Active)),
        Ok(ProductStatus::Deprecated) => Ok(Some(Status::Deprecated)),
        Ok(ProductStatus::Retired) => Ok(Some(Status::Retired)),
        Err(_) => Err("is not a status that this release knows"),
    }
}

impl From<&Product> for wire::Product {
    fn from(product: &Product) -> Self {
        Self {
            product_id: product.product_id.to_string(),
            name: product.name.clone(),
            r#type: product.kind.clone(),
            category_id: product.category_id.clone(),
            description: product.description.clone(),
            metadata: metadata::to_wire(&product.metadata),
            status: ProductStatus::from(product.status).into(),
            create_time: Some(product.create_time.to_wire()),
            update_time: Some(product.update_time.to_wire()),
            delete_time: product.delete_time.map(mesh::Time::to_wire),
            etag: Etag::of(product.version).to_string(),
        }
    }
}

impl From<Status> for ProductStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::Deprecated => Self::Deprecated,
            Status::Retired => Self::Retired,
        }
    }
}

impl From<Availability> for UnavailableReason {
    fn from(availability: Availability) -> Self {
        match availability {
            Availability::Available => Self::Unspecified,
            Availability::NotFound => Self::NotFound,
            Availability::Retired => Self::Retired,
            Availability::AccountInactive => Self::AccountInactive,
        }
    }
}

impl From<Refused> for GrpcStatus {
    fn from(refused: Refused) -> Self {
        let about = |reason, id: &Slug| Refusal::new(reason, &refused).about("trivet.product.v1.Product", id);
        match &refused {
            Refused::RequestId(taken) => taken.clone().into(),
            Refused::NoProduct(id) => about(Reason::ProductNotFound, id),
            Refused::IdTaken(id) => about(Reason::IdTaken, id),
        }
        .into()
    }
}
