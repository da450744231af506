//! CatalogService on the wire. What is asked of prices and categories is read and answered with their slices.

mod read;
mod write;

use std::{collections::BTreeMap, ops::Deref};

use mesh::{Fields, Parts, REQUEST_BYTES, Slug, TokenKey, UserId, open, page};
use tonic::{Request, Response, Status as GrpcStatus, async_trait};
use trivet_proto::product::v1::{
    BatchGetProductsRequest, BatchGetProductsResponse, CheckAvailabilityRequest, CheckAvailabilityResponse,
    CreateCategoryRequest, CreateCategoryResponse, CreateProductRequest, CreateProductResponse, DeleteProductRequest,
    DeleteProductResponse, EstimateCostRequest, EstimateCostResponse, GetCacheStatsRequest, GetCacheStatsResponse,
    GetProductPricingRequest, GetProductPricingResponse, GetProductRequest, GetProductResponse, ListCategoriesRequest,
    ListCategoriesResponse, ListProductsRequest, ListProductsResponse, SetPriceRequest, SetPriceResponse,
    SyncCacheRequest, SyncCacheResponse, UnavailableReason, UpdateCategoryRequest, UpdateCategoryResponse,
    UpdateProductRequest, UpdateProductResponse,
    catalog_service_server::{CatalogService, CatalogServiceServer},
};

use super::{Availability, Catalog, Cursor, Found, Verdict, availability, sync::Synced};
use crate::{
    Config,
    buyer::{self, Membership},
    category::{self, Categories},
    funds::Funds,
    pricing::{self, Pricing},
};
pub(crate) use read::word;
use read::{batch, change, draft, filter, product_id};

/// The answer's metadata that says how old the word was that decided, in milliseconds.
const STALENESS: &str = "x-trivet-staleness-ms";

/// CatalogService over this store, knowing or asking who is active.
pub(crate) fn server(parts: &Parts, config: &Config, accounts: buyer::Accounts) -> CatalogServiceServer<Rpc> {
    let catalog = Catalog::new(parts, config.cache_bytes);
    let rpc = Rpc {
        pricing: Pricing::new(parts.store.clone(), parts.clock.clone(), catalog.clone()),
        categories: Categories::new(parts.store.clone(), parts.clock.clone()),
        catalog,
        tokens: parts.tokens.clone(),
        accounts,
        funds: Funds::new(parts),
    };
    CatalogServiceServer::new(rpc).max_decoding_message_size(REQUEST_BYTES)
}

pub(crate) struct Rpc {
    catalog: Catalog,
    categories: Categories,
    pricing: Pricing,
    tokens: TokenKey,
    accounts: buyer::Accounts,
    funds: Funds,
}

#[async_trait]
impl CatalogService for Rpc {
    async fn create_product(
        &self,
        request: Request<CreateProductRequest>,
    ) -> Result<Response<CreateProductResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (draft, durability) = draft(&asked)?;
        let (product, already_processed) = self.catalog.create(&context, draft, durability).await??;
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

    async fn update_product(
        &self,
        request: Request<UpdateProductRequest>,
    ) -> Result<Response<UpdateProductResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (product_id, change) = change(&asked)?;
        let product = self.catalog.update(&context, product_id, change).await??;
        Ok(Response::new(UpdateProductResponse { product: Some((&product).into()) }))
    }

    async fn create_category(
        &self,
        request: Request<CreateCategoryRequest>,
    ) -> Result<Response<CreateCategoryResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (category, already_processed) = self.categories.create(&context, category::rpc::draft(&asked)?).await??;
        Ok(Response::new(CreateCategoryResponse { category: Some(category.into()), already_processed }))
    }

    async fn update_category(
        &self,
        request: Request<UpdateCategoryRequest>,
    ) -> Result<Response<UpdateCategoryResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (category_id, change) = category::rpc::change(&asked)?;
        let category = self.categories.update(&context, category_id, change).await??;
        Ok(Response::new(UpdateCategoryResponse { category: Some(category.into()) }))
    }

    async fn list_categories(
        &self,
        request: Request<ListCategoriesRequest>,
    ) -> Result<Response<ListCategoriesResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (filter, size) = category::rpc::filter(&asked)?;
        let listing = self.tokens.listing("ListCategories", &context.tenant, &filter)?;
        let after: Option<category::Cursor> = listing.open(&asked.page_token)?;
        let mut categories = self.categories.list(&context, &filter, after.as_ref(), page::rows(size)).await?;
        let next_page_token = listing.cut(&mut categories, size, category::Cursor::of)?;
        let total_size = if asked.with_total { Some(self.categories.count(&context, &filter).await?) } else { None };
        let categories = categories.into_iter().map(Into::into).collect();
        Ok(Response::new(ListCategoriesResponse { categories, next_page_token, total_size }))
    }

    async fn get_cache_stats(
        &self,
        request: Request<GetCacheStatsRequest>,
    ) -> Result<Response<GetCacheStatsResponse>, GrpcStatus> {
        let (context, _) = open(request)?;
        Ok(Response::new(self.catalog.stats(&context).into()))
    }

    async fn sync_cache(&self, request: Request<SyncCacheRequest>) -> Result<Response<SyncCacheResponse>, GrpcStatus> {
        let (context, _) = open(request)?;
        let Synced { loaded, refreshed, removed, flushed, size } = self.catalog.sync(&context).await?;
        Ok(Response::new(SyncCacheResponse { loaded, refreshed, removed, flushed_writes: flushed, cache_size: size }))
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
        let (product_id, payer, quantity) = pricing::rpc::pricing(&asked)?;
        let standing = self.pricing.standing(&context, &product_id, payer.user()).await??;
        let quote = quantity.map(|quantity| standing.quote(&product_id, quantity)).transpose()?;
        let next = match &standing.price {
            Some(price) => self.pricing.next(&context, &product_id, price).await?,
            None => None,
        };
        Ok(Response::new(pricing::rpc::pricing_message(standing, next, quote)))
    }

    async fn estimate_cost(
        &self,
        request: Request<EstimateCostRequest>,
    ) -> Result<Response<EstimateCostResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (product_id, payer, quantity) = pricing::rpc::estimate(&asked)?;
        let standing = self.pricing.standing(&context, &product_id, payer.user()).await??;
        let quote = standing.quote(&product_id, quantity)?;
        Ok(Response::new(pricing::rpc::estimate_message(quantity, quote)))
    }

    async fn check_availability(
        &self,
        request: Request<CheckAvailabilityRequest>,
    ) -> Result<Response<CheckAvailabilityResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let product_id = fields.read("product_id", Slug::parse(&asked.product_id));
        let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
        let organization_id = fields.read("organization_id", Slug::parse_optional(&asked.organization_id));
        let (product_id, user_id, organization_id) = fields.finish((product_id, user_id, organization_id))?;
        // Looked up whatever the product is like, so that an answer never depends on who could be reached.
        let known = self.accounts.known(&context, &user_id).await?;
        let is_member = match &organization_id {
            Some(organization_id) => {
                self.accounts.membership(&context, organization_id, &user_id).await? == Membership::Member
            }
            None => true,
        };
        let product = self.catalog.find(&context, &product_id).await?.ok();
        let user = Some((&user_id, organization_id.as_ref()));
        let standing = self.pricing.standing(&context, &product_id, user).await?.ok();
        let found = Found {
            product: product.as_deref().map(Deref::deref),
            account_is_active: known.active,
            is_member,
            standing: standing.as_ref(),
        };
        let availability = match availability(found) {
            Verdict::Said(availability) => availability,
            Verdict::WithFunds(currency) if self.funds.any(&context, &user_id, currency).await? => {
                Availability::Available
            }
            Verdict::WithFunds(_) => Availability::InsufficientFunds,
        };
        let mut response = Response::new(CheckAvailabilityResponse {
            available: availability == Availability::Available,
            reason: UnavailableReason::from(availability).into(),
        });
        let staleness_ms = u64::try_from(known.staleness.as_millis()).unwrap_or(u64::MAX);
        response.metadata_mut().insert(STALENESS, staleness_ms.into());
        Ok(response)
    }
}
