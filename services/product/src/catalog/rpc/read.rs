//! How requests about products are read.

use mesh::{
    Fields, Refusal, RequestId, Slug, page, text,
    update::{Etag, Mask},
};
use trivet_proto::product::v1::{
    self as wire, BatchGetProductsRequest, CreateProductRequest, ListProductsRequest, ProductStatus,
    UpdateProductRequest,
};

use super::super::{Draft, Durability, Filter, Status, change::Change, metadata};

/// Characters of a name, and of a query for one.
const NAME_LIMIT: usize = 200;
/// Characters of a description.
const DESCRIPTION_LIMIT: usize = 4_000;
/// Products asked for at once.
const BATCH_LIMIT: usize = 1_000;
/// The type of a product that names none.
const DEFAULT_TYPE: &str = "physical";
/// What UpdateProduct can set.
const SETTABLE: [&str; 6] = ["name", "type", "category_id", "description", "metadata", "status"];

/// Reads which product.
pub(super) fn product_id(asked: &str) -> Result<Slug, Refusal> {
    let mut fields = Fields::default();
    let product_id = fields.read("product_id", Slug::parse(asked));
    Ok(fields.finish((product_id,))?.0)
}

/// Reads a product to make, and when it should be on disk.
pub(super) fn draft(asked: &CreateProductRequest) -> Result<(Draft, Durability), Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse_optional(&asked.request_id));
    let product_id = fields.read("product_id", Slug::parse_optional(&asked.product_id));
    let name = fields.read("name", text::line(&asked.name, NAME_LIMIT));
    let kind = fields.read("type", word(&asked.r#type));
    let category_id = fields.read("category_id", Slug::parse_optional(&asked.category_id));
    let description = fields.read("description", text::paragraph(&asked.description, DESCRIPTION_LIMIT));
    let metadata = fields.read("metadata", metadata::to_json(asked.metadata.as_ref()));
    let durability = fields.read("durability", durability(asked.durability));
    let parts = (request_id, product_id, name, kind, category_id, description, metadata, durability);
    let (request_id, product_id, name, kind, category_id, description, metadata, durability) = fields.finish(parts)?;
    let kind = kind.unwrap_or_else(|| DEFAULT_TYPE.to_owned());
    Ok((Draft { request_id, product_id, name, kind, category_id, description, metadata }, durability))
}

fn durability(asked: i32) -> Result<Durability, &'static str> {
    match wire::Durability::try_from(asked) {
        Ok(wire::Durability::Unspecified | wire::Durability::Durable) => Ok(Durability::Durable),
        Ok(wire::Durability::WriteBehind) => Ok(Durability::WriteBehind),
        Err(_) => Err("is not one that this release knows"),
    }
}

/// Reads what of a product should be otherwise.
pub(super) fn change(asked: &UpdateProductRequest) -> Result<(Slug, Change), Refusal> {
    let set = [
        !asked.name.is_empty(),
        !asked.r#type.is_empty(),
        !asked.category_id.is_empty(),
        !asked.description.is_empty(),
        asked.metadata.is_some(),
        asked.status != 0,
    ];
    let present: Vec<_> = SETTABLE.into_iter().zip(set).filter_map(|(name, set)| set.then_some(name)).collect();
    // First: of a mask that cannot be read, nobody knows which fields count.
    let mask = Mask::read(asked.update_mask.as_ref(), &SETTABLE, &present)?;
    let mut fields = Fields::default();
    let product_id = fields.read("product_id", Slug::parse(&asked.product_id));
    let mut change = Change { etag: Etag::parse_optional(&asked.etag), ..Change::default() };
    if mask.has("name") {
        change.name = fields.read("name", text::line(&asked.name, NAME_LIMIT));
    }
    if mask.has("type") {
        let kind = word(&asked.r#type).and_then(|kind| kind.ok_or(text::Fault::Blank));
        change.kind = fields.read("type", kind);
    }
    if mask.has("category_id") {
        let category_id = fields.read("category_id", Slug::parse_optional(&asked.category_id));
        change.category_id = category_id.map(|category_id| category_id.map(Slug::into_string).unwrap_or_default());
    }
    if mask.has("description") {
        change.description = fields.read("description", text::paragraph(&asked.description, DESCRIPTION_LIMIT));
    }
    if mask.has("metadata") {
        change.metadata = fields.read("metadata", metadata::to_json(asked.metadata.as_ref()));
    }
    if mask.has("status") {
        change.status = fields.read("status", status(asked.status).and_then(|status| status.ok_or("is required")));
    }
    let (product_id,) = fields.finish((product_id,))?;
    Ok((product_id, change))
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
pub(super) fn batch(asked: &BatchGetProductsRequest) -> Result<Vec<Slug>, Refusal> {
    let mut fields = Fields::default();
    let ids = fields.read_batch("product_ids", &asked.product_ids, BATCH_LIMIT, Slug::parse);
    Ok(fields.finish((ids,))?.0)
}

pub(super) fn filter(asked: &ListProductsRequest) -> Result<(Filter, u64), Refusal> {
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
