//! Categories on the wire; the rpcs are CatalogService's.

use mesh::{
    Fields, Reason, Refusal, RequestId, Slug, page,
    refusal::Violation,
    text,
    update::{Etag, Mask},
};
use tonic::Status as GrpcStatus;
use trivet_proto::product::v1::{self as wire, CreateCategoryRequest, ListCategoriesRequest, UpdateCategoryRequest};

use super::{Category, Change, Draft, Filter, Parent, Refused};

/// Characters of a name.
const NAME_LIMIT: usize = 200;
/// What UpdateCategory can set.
const SETTABLE: [&str; 2] = ["name", "parent_category_id"];

/// Reads a category to make.
pub(crate) fn draft(asked: &CreateCategoryRequest) -> Result<Draft, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse_optional(&asked.request_id));
    let category_id = fields.read("category_id", Slug::parse(&asked.category_id));
    let name = fields.read("name", text::line(&asked.name, NAME_LIMIT));
    let parent = fields.read("parent_category_id", Slug::parse_optional(&asked.parent_category_id));
    let (request_id, category_id, name, parent) = fields.finish((request_id, category_id, name, parent))?;
    Ok(Draft { request_id, category_id, parent, name })
}

/// Reads what of a category should be otherwise.
pub(crate) fn change(asked: &UpdateCategoryRequest) -> Result<(Slug, Change), Refusal> {
    let set = [!asked.name.is_empty(), !asked.parent_category_id.is_empty()];
    let present: Vec<_> = SETTABLE.into_iter().zip(set).filter_map(|(name, set)| set.then_some(name)).collect();
    let mask = Mask::read(asked.update_mask.as_ref(), &SETTABLE, &present)?;
    let mut fields = Fields::default();
    let category_id = fields.read("category_id", Slug::parse(&asked.category_id));
    let name = mask.has("name").then(|| fields.read("name", text::line(&asked.name, NAME_LIMIT)));
    let parent = mask
        .has("parent_category_id")
        .then(|| fields.read("parent_category_id", Slug::parse_optional(&asked.parent_category_id)));
    let (category_id,) = fields.finish((category_id,))?;
    let change =
        Change { name: name.flatten(), parent: parent.flatten().map(Parent), etag: Etag::parse_optional(&asked.etag) };
    Ok((category_id, change))
}

/// Reads which categories a list should hold, and how many of them.
pub(crate) fn filter(asked: &ListCategoriesRequest) -> Result<(Filter, u64), Refusal> {
    let mut fields = Fields::default();
    let size = fields.read("page_size", page::size(asked.page_size));
    let parent = fields.read("parent_category_id", Slug::parse_optional(&asked.parent_category_id));
    let (size, parent) = fields.finish((size, parent))?;
    Ok((Filter { parent }, size))
}

impl From<Category> for wire::Category {
    fn from(category: Category) -> Self {
        Self {
            category_id: category.category_id.into_string(),
            name: category.name,
            parent_category_id: category.parent_category_id,
            create_time: Some(category.create_time.to_wire()),
            update_time: Some(category.update_time.to_wire()),
            etag: Etag::of(category.version).to_string(),
        }
    }
}

impl From<Refused> for GrpcStatus {
    fn from(refused: Refused) -> Self {
        let about = |reason, id: &Slug| Refusal::new(reason, &refused).about("trivet.product.v1.Category", id);
        match &refused {
            Refused::RequestId(taken) => taken.clone().into(),
            Refused::NoCategory(id) => about(Reason::CategoryNotFound, id),
            Refused::Stale { .. } => Refusal::new(Reason::EtagMismatch, &refused),
            Refused::IdTaken(id) => about(Reason::IdTaken, id),
            Refused::Cycle { .. } | Refused::TooDeep => {
                let field = "parent_category_id".to_owned();
                Refusal::fields(Reason::InvalidFields, vec![Violation { field, description: refused.to_string() }])
            }
        }
        .into()
    }
}
