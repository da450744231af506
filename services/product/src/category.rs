//! Categories: a tree in which products stand. None is ever below itself.

pub(crate) mod rpc;
pub(crate) mod table;

use mesh::{
    Clock, Context, RequestId, Slug, Store, StoreError, Tenant, Time,
    claim::{self, Claim, Taken},
    store::{Row, Transaction},
    update::Etag,
};
use serde::{Deserialize, Serialize};

/// How deep a tree can be: a walk to its root is this many steps at most.
const DEPTH: usize = 32;

/// A category, as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
pub(crate) struct Category {
    pub(crate) category_id: Slug,
    /// Empty: a root.
    pub(crate) parent_category_id: String,
    pub(crate) name: String,
    pub(crate) version: i64,
    pub(crate) create_time: Time,
    pub(crate) update_time: Time,
}

/// A category that should be.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) request_id: Option<RequestId>,
    pub(crate) category_id: Slug,
    pub(crate) parent: Option<Slug>,
    pub(crate) name: String,
}

/// A change of a category; what is `None` stays.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) name: Option<String>,
    pub(crate) parent: Option<Parent>,
    pub(crate) etag: Option<Etag>,
}

/// Where a category should stand; `None`: at the root.
#[derive(Clone, Debug)]
pub(crate) struct Parent(pub(crate) Option<Slug>);

/// Which categories a list holds. Part of its page tokens.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Filter {
    pub(crate) parent: Option<Slug>,
}

/// The place of a category in a list, by id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cursor(Slug);

impl Cursor {
    pub(crate) fn of(category: &Category) -> Self {
        Self(category.category_id.clone())
    }
}

/// Why a category is not made, found or moved, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Refused {
    #[error(transparent)]
    RequestId(#[from] Taken),
    #[error("there is no category {0}")]
    NoCategory(Slug),
    #[error("the category was changed since: it is at {now}, not at {asked}")]
    Stale { asked: String, now: String },
    #[error("the id {0} belongs to another category")]
    IdTaken(Slug),
    #[error("would stand below itself: {parent} stands below {category_id}")]
    Cycle { category_id: Slug, parent: Slug },
    #[error("stands {DEPTH} levels deep already")]
    TooDeep,
}

/// The categories of this service.
#[derive(Clone)]
pub(crate) struct Categories {
    store: Store,
    clock: Clock,
}

impl Categories {
    pub(crate) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Makes a category; says whether it had been made before under the same request id.
    pub(crate) async fn create(
        &self,
        context: &Context,
        draft: Draft,
    ) -> Result<Result<(Category, bool), Refused>, StoreError> {
        let claim = draft.claim(&context.tenant);
        let unit = self.store.unit(context);
        let unit = if claim.is_some() { unit.claimed() } else { unit };
        let input = (context.tenant.clone(), claim, draft, self.clock.now());
        let made = unit.run(input, |(tenant, claim, draft, now), transaction| {
            Box::pin(claim::once(claim.as_ref(), transaction, *now, draft.make(tenant, *now, transaction)))
        });
        let (decided, before) = made.await?;
        Ok(decided.map(|category| (category, before)))
    }

    /// Renames or moves a category.
    pub(crate) async fn update(
        &self,
        context: &Context,
        category_id: Slug,
        change: Change,
    ) -> Result<Result<Category, Refused>, StoreError> {
        let input = (context.tenant.clone(), category_id, change, self.clock.now());
        let updated = self.store.unit(context).run(input, |(tenant, category_id, change, now), transaction| {
            Box::pin(change.carry_out((tenant, category_id), *now, transaction))
        });
        updated.await
    }

    /// Up to `limit` categories after `cursor`, by id.
    pub(crate) async fn list(
        &self,
        context: &Context,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u64,
    ) -> Result<Vec<Category>, StoreError> {
        table::list(self.store.reader(), &context.tenant, filter, after.map(|Cursor(id)| id), limit).await
    }

    /// How many categories a list holds.
    pub(crate) async fn count(&self, context: &Context, filter: &Filter) -> Result<i64, StoreError> {
        table::count(self.store.reader(), &context.tenant, filter).await
    }
}

impl Draft {
    async fn make(
        &self,
        tenant: &Tenant,
        now: Time,
        transaction: &Transaction,
    ) -> Result<Result<Category, Refused>, StoreError> {
        table::lock_tree(transaction, tenant).await?;
        if let Err(refused) = stands(transaction, tenant, &self.category_id, self.parent.as_ref()).await? {
            return Ok(Err(refused));
        }
        let category = Category {
            category_id: self.category_id.clone(),
            parent_category_id: self.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
            name: self.name.clone(),
            version: 1,
            create_time: now,
            update_time: now,
        };
        if table::insert(transaction, tenant, &category).await? {
            Ok(Ok(category))
        } else {
            Ok(Err(Refused::IdTaken(self.category_id.clone())))
        }
    }

    fn claim(&self, tenant: &Tenant) -> Option<Claim> {
        let parent = self.parent.as_ref().map_or("", Slug::as_str);
        let fields = [("category_id", self.category_id.as_str()), ("name", &self.name), ("parent_category_id", parent)];
        self.request_id.as_ref().map(|request_id| Claim::new(tenant, request_id, "CreateCategory", &fields))
    }
}

impl Change {
    async fn carry_out(
        &self,
        (tenant, category_id): (&Tenant, &Slug),
        now: Time,
        transaction: &Transaction,
    ) -> Result<Result<Category, Refused>, StoreError> {
        // Trees are changed one change after the other: two moves, each right by itself, could make a circle together.
        table::lock_tree(transaction, tenant).await?;
        let Some(was) = table::find(transaction, tenant, category_id).await? else {
            return Ok(Err(Refused::NoCategory(category_id.clone())));
        };
        if let Some(etag) = self.etag.filter(|etag| etag.version() != was.version) {
            let now = Etag::of(was.version).to_string();
            return Ok(Err(Refused::Stale { asked: etag.to_string(), now }));
        }
        let mut category = was.clone();
        if let Some(name) = &self.name {
            category.name.clone_from(name);
        }
        if let Some(Parent(parent)) = &self.parent {
            if let Err(refused) = stands(transaction, tenant, category_id, parent.as_ref()).await? {
                return Ok(Err(refused));
            }
            category.parent_category_id = parent.as_ref().map(ToString::to_string).unwrap_or_default();
        }
        if category == was {
            return Ok(Ok(was));
        }
        category.version = was.version.saturating_add(1);
        category.update_time = now;
        table::update(transaction, tenant, &category).await?;
        Ok(Ok(category))
    }
}

/// Whether a category can stand below this parent.
async fn stands(
    transaction: &Transaction,
    tenant: &Tenant,
    category_id: &Slug,
    parent: Option<&Slug>,
) -> Result<Result<(), Refused>, StoreError> {
    let Some(parent) = parent else { return Ok(Ok(())) };
    let above = table::path(transaction, tenant, parent, DEPTH).await?;
    if above.is_empty() {
        return Ok(Err(Refused::NoCategory(parent.clone())));
    }
    if above.contains(category_id) {
        let (category_id, parent) = (category_id.clone(), parent.clone());
        return Ok(Err(Refused::Cycle { category_id, parent }));
    }
    let below = table::height(transaction, tenant, category_id, DEPTH).await?;
    Ok(if above.len().saturating_add(below) > DEPTH { Err(Refused::TooDeep) } else { Ok(()) })
}
