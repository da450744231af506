//! OrganizationService on the wire.

use mesh::{
    Fields, Parts, REQUEST_BYTES, Reason, Refusal, RequestId, Slug, Time, TokenKey, UserId, open, page, text,
    update::Etag,
};
use tonic::{Request, Response, Status, async_trait};
use trivet_proto::account::v1::{
    self as wire, AddMemberRequest, AddMemberResponse, CheckMembershipRequest, CheckMembershipResponse,
    CreateOrganizationRequest, CreateOrganizationResponse, GetOrganizationRequest, GetOrganizationResponse,
    ListMembersRequest, ListMembersResponse, ListOrganizationsRequest, ListOrganizationsResponse, OrganizationRole,
    RemoveMemberRequest, RemoveMemberResponse,
    organization_service_server::{OrganizationService, OrganizationServiceServer},
};

use super::{Cursor, Draft, Filter, Member, Organization, Organizations, Place, Refused, Role};

/// Characters of a name.
const NAME_LIMIT: usize = 200;

/// OrganizationService over this store.
pub(crate) fn server(parts: &Parts) -> OrganizationServiceServer<Rpc> {
    let rpc = Rpc {
        organizations: Organizations::new(parts.store.clone(), parts.clock.clone()),
        tokens: parts.tokens.clone(),
    };
    OrganizationServiceServer::new(rpc).max_decoding_message_size(REQUEST_BYTES)
}

pub(crate) struct Rpc {
    organizations: Organizations,
    tokens: TokenKey,
}

#[async_trait]
impl OrganizationService for Rpc {
    async fn create_organization(
        &self,
        request: Request<CreateOrganizationRequest>,
    ) -> Result<Response<CreateOrganizationResponse>, Status> {
        let (context, asked) = open(request)?;
        let (organization, already_processed) = self.organizations.create(&context, draft(&asked)?).await??;
        Ok(Response::new(CreateOrganizationResponse { organization: Some(organization.into()), already_processed }))
    }

    async fn get_organization(
        &self,
        request: Request<GetOrganizationRequest>,
    ) -> Result<Response<GetOrganizationResponse>, Status> {
        let (context, asked) = open(request)?;
        let organization = self.organizations.find(&context, &organization_id(&asked)?).await??;
        Ok(Response::new(GetOrganizationResponse { organization: Some(organization.into()) }))
    }

    async fn list_organizations(
        &self,
        request: Request<ListOrganizationsRequest>,
    ) -> Result<Response<ListOrganizationsResponse>, Status> {
        let (context, asked) = open(request)?;
        let (filter, size) = filter(&asked)?;
        let listing = self.tokens.listing("ListOrganizations", &context.tenant, &filter)?;
        let after: Option<Cursor> = listing.open(&asked.page_token)?;
        let mut organizations = self.organizations.list(&context, &filter, after.as_ref(), page::rows(size)).await?;
        let next_page_token = listing.cut(&mut organizations, size, Cursor::of)?;
        let total_size = if asked.with_total { Some(self.organizations.count(&context, &filter).await?) } else { None };
        let organizations = organizations.into_iter().map(Into::into).collect();
        Ok(Response::new(ListOrganizationsResponse { organizations, next_page_token, total_size }))
    }

    async fn add_member(&self, request: Request<AddMemberRequest>) -> Result<Response<AddMemberResponse>, Status> {
        let (context, asked) = open(request)?;
        let (place, role) = addition(&asked)?;
        let member = self.organizations.add(&context, place, role).await??;
        Ok(Response::new(AddMemberResponse { member: Some(member.into()) }))
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        let (context, asked) = open(request)?;
        let place = place(&asked.organization_id, &asked.user_id)?;
        let removed = self.organizations.remove(&context, place).await??;
        Ok(Response::new(RemoveMemberResponse { removed }))
    }

    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        let (context, asked) = open(request)?;
        let (organization_id, size) = members_page(&asked)?;
        let listing = self.tokens.listing("ListMembers", &context.tenant, &organization_id)?;
        let after: Option<Time> = listing.open(&asked.page_token)?;
        let mut members = self.organizations.members(&context, &organization_id, after, page::rows(size)).await??;
        let next_page_token = listing.cut(&mut members, size, |member| member.create_time)?;
        let total_size = if asked.with_total {
            Some(self.organizations.count_members(&context, &organization_id).await?)
        } else {
            None
        };
        let members = members.into_iter().map(Into::into).collect();
        Ok(Response::new(ListMembersResponse { members, next_page_token, total_size }))
    }

    async fn check_membership(
        &self,
        request: Request<CheckMembershipRequest>,
    ) -> Result<Response<CheckMembershipResponse>, Status> {
        let (context, asked) = open(request)?;
        let place = place(&asked.organization_id, &asked.user_id)?;
        let membership = self.organizations.membership(&context, &place).await??;
        let role = membership.role.map_or(OrganizationRole::Unspecified, OrganizationRole::from);
        Ok(Response::new(CheckMembershipResponse { is_member: membership.role.is_some(), role: role.into() }))
    }
}

fn draft(asked: &CreateOrganizationRequest) -> Result<Draft, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse_optional(&asked.request_id));
    let organization_id = fields.read("organization_id", Slug::parse(&asked.organization_id));
    let name = fields.read("name", text::line(&asked.name, NAME_LIMIT));
    let owner_user_id = fields.read("owner_user_id", UserId::parse(&asked.owner_user_id));
    let parts = (request_id, organization_id, name, owner_user_id);
    let (request_id, organization_id, name, owner_user_id) = fields.finish(parts)?;
    Ok(Draft { request_id, organization_id, name, owner_user_id })
}

fn organization_id(asked: &GetOrganizationRequest) -> Result<Slug, Refusal> {
    let mut fields = Fields::default();
    let organization_id = fields.read("organization_id", Slug::parse(&asked.organization_id));
    Ok(fields.finish((organization_id,))?.0)
}

fn filter(asked: &ListOrganizationsRequest) -> Result<(Filter, u64), Refusal> {
    let mut fields = Fields::default();
    let size = fields.read("page_size", page::size(asked.page_size));
    let user_id = fields.read("user_id", UserId::parse_optional(&asked.user_id));
    let (size, user_id) = fields.finish((size, user_id))?;
    Ok((Filter { user_id }, size))
}

fn members_page(asked: &ListMembersRequest) -> Result<(Slug, u64), Refusal> {
    let mut fields = Fields::default();
    let organization_id = fields.read("organization_id", Slug::parse(&asked.organization_id));
    let size = fields.read("page_size", page::size(asked.page_size));
    fields.finish((organization_id, size))
}

fn addition(asked: &AddMemberRequest) -> Result<(Place, Role), Refusal> {
    let mut fields = Fields::default();
    let organization_id = fields.read("organization_id", Slug::parse(&asked.organization_id));
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let role = fields.read("role", role(asked.role));
    let (organization_id, user_id, role) = fields.finish((organization_id, user_id, role))?;
    Ok((Place { organization_id, user_id }, role))
}

fn place(organization_id: &str, user_id: &str) -> Result<Place, Refusal> {
    let mut fields = Fields::default();
    let organization_id = fields.read("organization_id", Slug::parse(organization_id));
    let user_id = fields.read("user_id", UserId::parse(user_id));
    let (organization_id, user_id) = fields.finish((organization_id, user_id))?;
    Ok(Place { organization_id, user_id })
}

fn role(asked: i32) -> Result<Role, &'static str> {
    match OrganizationRole::try_from(asked) {
        Ok(OrganizationRole::Owner) => Ok(Role::Owner),
        Ok(OrganizationRole::Admin) => Ok(Role::Admin),
        Ok(OrganizationRole::Member) => Ok(Role::Member),
        Ok(OrganizationRole::Unspecified) | Err(_) => Err("must be OWNER, ADMIN or MEMBER"),
    }
}

impl From<Organization> for wire::Organization {
    fn from(organization: Organization) -> Self {
        Self {
            organization_id: organization.organization_id.into_string(),
            name: organization.name,
            create_time: Some(organization.create_time.to_wire()),
            update_time: Some(organization.update_time.to_wire()),
            etag: Etag::of(organization.version).to_string(),
        }
    }
}

impl From<Member> for wire::Member {
    fn from(member: Member) -> Self {
        Self {
            organization_id: member.organization_id.into_string(),
            user_id: member.user_id.into_string(),
            role: OrganizationRole::from(member.role).into(),
            create_time: Some(member.create_time.to_wire()),
            update_time: Some(member.update_time.to_wire()),
        }
    }
}

impl From<Role> for OrganizationRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Owner => Self::Owner,
            Role::Admin => Self::Admin,
            Role::Member => Self::Member,
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let organization =
            |reason, id: &Slug| Refusal::new(reason, &refused).about("trivet.account.v1.Organization", id);
        let account = |reason, id: &UserId| Refusal::new(reason, &refused).about("trivet.account.v1.Account", id);
        match &refused {
            Refused::RequestId(taken) => taken.clone().into(),
            Refused::NoOrganization(id) => organization(Reason::OrganizationNotFound, id),
            Refused::NoAccount(id) => account(Reason::AccountNotFound, id),
            Refused::Erased(id) => account(Reason::AccountErased, id),
            Refused::Deleted(id) => account(Reason::AccountDeleted, id),
            Refused::IdTaken(id) => organization(Reason::IdTaken, id),
            Refused::LastOwner { organization_id, .. } => organization(Reason::LastOwner, organization_id),
        }
        .into()
    }
}
