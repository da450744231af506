//! Organizations: who belongs together, and as what. Each has a living owner whenever somebody leaves it.

mod rpc;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

use mesh::{
    Clock, Context, RequestId, Slug, Store, StoreError, Tenant, Time, UserId,
    claim::{self, Claim, Taken},
    store::{Row, Transaction},
    text_enum,
};
use serde::{Deserialize, Serialize};

use crate::{
    account::{self, Standing},
    history::{self, Author, Subject, What},
};

pub(crate) use rpc::server;

text_enum! {
    /// What a member may do; what that means is for the product to say.
    pub(crate) enum Role {
        /// Answers for the organization.
        Owner = "OWNER",
        /// Runs it.
        Admin = "ADMIN",
        /// Belongs to it.
        Member = "MEMBER",
    }
}

/// An organization, as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
pub(crate) struct Organization {
    pub(crate) organization_id: Slug,
    pub(crate) name: String,
    pub(crate) version: i64,
    pub(crate) create_time: Time,
    pub(crate) update_time: Time,
}

/// A member, as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq, Row)]
pub(crate) struct Member {
    pub(crate) organization_id: Slug,
    pub(crate) user_id: UserId,
    pub(crate) role: Role,
    pub(crate) create_time: Time,
    pub(crate) update_time: Time,
}

/// What a user is in an organization; `None` where they are no member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Row)]
pub(crate) struct Membership {
    pub(crate) role: Option<Role>,
}

/// An organization that should be.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) request_id: Option<RequestId>,
    pub(crate) organization_id: Slug,
    pub(crate) name: String,
    pub(crate) owner_user_id: UserId,
}

/// Whose place in which organization.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) organization_id: Slug,
    pub(crate) user_id: UserId,
}

/// Which organizations a list holds. Part of its page tokens.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Filter {
    /// Those that this user is a member of.
    pub(crate) user_id: Option<UserId>,
}

/// The place of an organization in a list, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cursor(Time, Slug);

impl Cursor {
    pub(crate) fn of(organization: &Organization) -> Self {
        Self(organization.create_time, organization.organization_id.clone())
    }
}

/// Why an organization is not made, found or changed, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Refused {
    #[error(transparent)]
    RequestId(#[from] Taken),
    #[error("there is no organization {0}")]
    NoOrganization(Slug),
    #[error("there is no account {0}")]
    NoAccount(UserId),
    #[error("account {0} was erased")]
    Erased(UserId),
    #[error("account {0} was deleted")]
    Deleted(UserId),
    #[error("the id {0} belongs to another organization")]
    IdTaken(Slug),
    #[error("{user_id} is the last owner of {organization_id}: make somebody else an owner first")]
    LastOwner { organization_id: Slug, user_id: UserId },
}

/// What a wish for a role, or for none, comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is so already.
    Nothing,
    Granted,
    LastOwner,
}

/// The rule of roles: an owner stops being one only where another living owner remains.
fn decide(held: Option<Role>, wished: Option<Role>, another_owner: bool) -> Verdict {
    match held {
        held if held == wished => Verdict::Nothing,
        Some(Role::Owner) if !another_owner => Verdict::LastOwner,
        Some(_) | None => Verdict::Granted,
    }
}

/// The organizations of this service.
#[derive(Clone)]
pub(crate) struct Organizations {
    store: Store,
    clock: Clock,
}

impl Organizations {
    pub(crate) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Makes an organization with its owner; says whether it had been made before under the same request id.
    pub(crate) async fn create(
        &self,
        context: &Context,
        draft: Draft,
    ) -> Result<Result<(Organization, bool), Refused>, StoreError> {
        let claim = draft.claim(&context.tenant);
        let unit = self.store.unit(context);
        let unit = if claim.is_some() { unit.claimed() } else { unit };
        let input = (Author::of(context, &self.clock), claim, draft);
        let made = unit.run(input, |(author, claim, draft), transaction| {
            Box::pin(claim::once(claim.as_ref(), transaction, author.now, draft.make(author, transaction)))
        });
        let (decided, before) = made.await?;
        Ok(decided.map(|organization| (organization, before)))
    }

    /// The organization with this id.
    pub(crate) async fn find(
        &self,
        context: &Context,
        organization_id: &Slug,
    ) -> Result<Result<Organization, Refused>, StoreError> {
        let found = table::find(self.store.reader(), &context.tenant, organization_id).await?;
        Ok(found.ok_or_else(|| Refused::NoOrganization(organization_id.clone())))
    }

    /// Up to `limit` organizations after `cursor`, newest first.
    pub(crate) async fn list(
        &self,
        context: &Context,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u64,
    ) -> Result<Vec<Organization>, StoreError> {
        table::list(self.store.reader(), &context.tenant, filter, after.map(|Cursor(time, id)| (*time, id)), limit)
            .await
    }

    /// How many organizations a list holds.
    pub(crate) async fn count(&self, context: &Context, filter: &Filter) -> Result<i64, StoreError> {
        table::count(self.store.reader(), &context.tenant, filter).await
    }

    /// Makes a user a member, or changes the role of one.
    pub(crate) async fn add(
        &self,
        context: &Context,
        place: Place,
        role: Role,
    ) -> Result<Result<Member, Refused>, StoreError> {
        let input = (Author::of(context, &self.clock), place, role);
        let unit = self.store.unit(context);
        unit.run(input, |(author, place, role), transaction| Box::pin(place.add(author, *role, transaction))).await
    }

    /// Ends a membership; says whether there was one.
    pub(crate) async fn remove(&self, context: &Context, place: Place) -> Result<Result<bool, Refused>, StoreError> {
        let input = (Author::of(context, &self.clock), place);
        let unit = self.store.unit(context);
        unit.run(input, |(author, place), transaction| Box::pin(place.remove(author, transaction))).await
    }

    /// Up to `limit` members of an organization who joined after this time, in the order in which they joined.
    pub(crate) async fn members(
        &self,
        context: &Context,
        organization_id: &Slug,
        after: Option<Time>,
        limit: u64,
    ) -> Result<Result<Vec<Member>, Refused>, StoreError> {
        let (reader, tenant) = (self.store.reader(), &context.tenant);
        if table::find(reader, tenant, organization_id).await?.is_none() {
            return Ok(Err(Refused::NoOrganization(organization_id.clone())));
        }
        table::members(reader, tenant, organization_id, after, limit).await.map(Ok)
    }

    /// How many members an organization has.
    pub(crate) async fn count_members(&self, context: &Context, organization_id: &Slug) -> Result<i64, StoreError> {
        table::count_members(self.store.reader(), &context.tenant, organization_id).await
    }

    /// What a user is in an organization.
    pub(crate) async fn membership(
        &self,
        context: &Context,
        place: &Place,
    ) -> Result<Result<Membership, Refused>, StoreError> {
        let found = table::membership(self.store.reader(), &context.tenant, place).await?;
        Ok(found.ok_or_else(|| Refused::NoOrganization(place.organization_id.clone())))
    }
}

impl Draft {
    fn claim(&self, tenant: &Tenant) -> Option<Claim> {
        let fields = [
            ("organization_id", self.organization_id.as_str()),
            ("name", &self.name),
            ("owner_user_id", self.owner_user_id.as_str()),
        ];
        self.request_id.as_ref().map(|request_id| Claim::new(tenant, request_id, "CreateOrganization", &fields))
    }

    async fn make(
        &self,
        author: &Author,
        transaction: &Transaction,
    ) -> Result<Result<Organization, Refused>, StoreError> {
        if let Err(refused) = lock_living(transaction, author, &self.owner_user_id).await? {
            return Ok(Err(refused));
        }
        let (create_time, update_time) = (author.now, author.now);
        let organization_id = self.organization_id.clone();
        let organization =
            Organization { organization_id, name: self.name.clone(), version: 1, create_time, update_time };
        if !table::insert(transaction, &author.tenant, &organization).await? {
            return Ok(Err(Refused::IdTaken(organization.organization_id)));
        }
        let (organization_id, user_id) = (organization.organization_id.clone(), self.owner_user_id.clone());
        let owner = Member { organization_id, user_id, role: Role::Owner, create_time, update_time };
        table::put(transaction, &author.tenant, &organization, &owner).await?;
        let what = What { action: "CREATED", fields: &["name", "owner"], reason: "" };
        history::record(transaction, author, &Subject::Organization(&self.organization_id), what).await?;
        Ok(Ok(organization))
    }
}

impl Place {
    /// Gives the user this role. The organization is locked before the account, so that no two changes wait for each
    /// other.
    async fn add(
        &self,
        author: &Author,
        role: Role,
        transaction: &Transaction,
    ) -> Result<Result<Member, Refused>, StoreError> {
        let Some(organization) = table::lock(transaction, &author.tenant, &self.organization_id).await? else {
            return Ok(Err(Refused::NoOrganization(self.organization_id.clone())));
        };
        if let Err(refused) = lock_living(transaction, author, &self.user_id).await? {
            return Ok(Err(refused));
        }
        let held = table::member(transaction, &author.tenant, self).await?;
        let now = organization.next_moment(author);
        let create_time = held.as_ref().map_or(now, |member| member.create_time);
        let (organization_id, user_id) = (self.organization_id.clone(), self.user_id.clone());
        let member = Member { organization_id, user_id, role, create_time, update_time: now };
        match self.weigh(author, held.as_ref(), Some(role), transaction).await? {
            Verdict::LastOwner => return Ok(Err(self.last_owner())),
            Verdict::Nothing => return Ok(Ok(held.unwrap_or(member))),
            Verdict::Granted => {}
        }
        table::put(transaction, &author.tenant, &organization, &member).await?;
        self.note(author, now, "MEMBER_ADDED", transaction).await?;
        Ok(Ok(member))
    }

    /// Takes the user's role away. Whose account was deleted can leave, too: restored, they are no member.
    async fn remove(&self, author: &Author, transaction: &Transaction) -> Result<Result<bool, Refused>, StoreError> {
        let Some(organization) = table::lock(transaction, &author.tenant, &self.organization_id).await? else {
            return Ok(Err(Refused::NoOrganization(self.organization_id.clone())));
        };
        let held = table::member(transaction, &author.tenant, self).await?;
        match self.weigh(author, held.as_ref(), None, transaction).await? {
            Verdict::LastOwner => return Ok(Err(self.last_owner())),
            Verdict::Nothing => return Ok(Ok(false)),
            Verdict::Granted => {}
        }
        table::delete(transaction, &author.tenant, self).await?;
        self.note(author, organization.next_moment(author), "MEMBER_REMOVED", transaction).await?;
        Ok(Ok(true))
    }

    async fn weigh(
        &self,
        author: &Author,
        held: Option<&Member>,
        wished: Option<Role>,
        transaction: &Transaction,
    ) -> Result<Verdict, StoreError> {
        let held = held.map(|member| member.role);
        let another_owner =
            held == Some(Role::Owner) && table::has_another_owner(transaction, &author.tenant, self).await?;
        Ok(decide(held, wished, another_owner))
    }

    /// Marks the organization as changed and writes the change down.
    async fn note(
        &self,
        author: &Author,
        now: Time,
        action: &str,
        transaction: &Transaction,
    ) -> Result<(), StoreError> {
        table::touch(transaction, &author.tenant, &self.organization_id, now).await?;
        let what = What { action, fields: &["members"], reason: "" };
        history::record(transaction, author, &Subject::Organization(&self.organization_id), what).await
    }

    fn last_owner(&self) -> Refused {
        Refused::LastOwner { organization_id: self.organization_id.clone(), user_id: self.user_id.clone() }
    }
}

impl Organization {
    /// When a change of it is made: later than the change before, whatever the clock of this replica says. Members are
    /// listed by the time at which they joined, and who joins must stand behind whoever was listed already.
    fn next_moment(&self, author: &Author) -> Time {
        author.now.max(self.update_time.plus(Duration::from_micros(1)))
    }
}

/// Locks an account that is to become a member, so that it is not deleted meanwhile; refuses one that is gone.
async fn lock_living(
    transaction: &Transaction,
    author: &Author,
    user_id: &UserId,
) -> Result<Result<(), Refused>, StoreError> {
    let account = account::lock(transaction, &author.tenant, user_id).await?;
    Ok(match account.map(|account| account.status) {
        None => Err(Refused::NoAccount(user_id.clone())),
        Some(Standing::Erased) => Err(Refused::Erased(user_id.clone())),
        Some(Standing::Deleted) => Err(Refused::Deleted(user_id.clone())),
        Some(Standing::Active | Standing::Suspended) => Ok(()),
    })
}
