//! How a user stands, asked of account where it is not known here, or where what is known is not enough.

use std::time::Duration;

use mesh::{Context, Parts, Peer, Reason, Slug, StartError, UserId, unanswered};
use tonic::Status as GrpcStatus;
use trivet_proto::account::v1::{
    Account, AccountStatus, CheckMembershipRequest, GetAccountRequest, account_service_client::AccountServiceClient,
    get_account_request, organization_service_client::OrganizationServiceClient,
};

use super::{Asked, Buyer, Buyers, Known, Membership, Status};

/// The accounts of the account service, as they are seen from here.
#[derive(Clone)]
pub(crate) struct Accounts {
    buyers: Buyers,
    client: AccountServiceClient<Peer>,
    organizations: OrganizationServiceClient<Peer>,
}

impl Accounts {
    pub(crate) fn new(parts: &Parts) -> Result<Self, StartError> {
        let account = parts.peers.get("account")?;
        let client = AccountServiceClient::new(account.clone());
        let organizations = OrganizationServiceClient::new(account);
        Ok(Self { buyers: Buyers::new(parts), client, organizations })
    }

    /// How a user stands: as is known here while that is young, else as account says. If neither can be had, nobody is
    /// active.
    pub(crate) async fn known(&self, context: &Context, user_id: &UserId) -> Result<Known, GrpcStatus> {
        if let Some(known) = self.buyers.known(context, user_id).await {
            return Ok(known);
        }
        let active = self.ask_now(context, user_id).await?.status == Some(Status::Active);
        Ok(Known { active, staleness: Duration::ZERO })
    }

    /// What a user is in an organization, as account says now.
    pub(crate) async fn membership(
        &self,
        context: &Context,
        organization_id: &Slug,
        user_id: &UserId,
    ) -> Result<Membership, GrpcStatus> {
        let (organization_id, user_id) = (organization_id.to_string(), user_id.to_string());
        let asked = context.onward(CheckMembershipRequest { organization_id, user_id });
        match self.organizations.clone().check_membership(asked).await {
            Ok(response) if response.get_ref().is_member => Ok(Membership::Member),
            Ok(_) => Ok(Membership::Stranger),
            Err(status) if Reason::of(&status) == Some(Reason::OrganizationNotFound) => Ok(Membership::NoOrganization),
            Err(status) => Err(unanswered(context, "account", &status).into()),
        }
    }

    /// How the account stands, as account says now. What it says is known from then on; that somebody has no account is
    /// not: the next moment may give them one, and there is no version of nothing.
    pub(crate) async fn ask_now(&self, context: &Context, user_id: &UserId) -> Result<Asked, GrpcStatus> {
        let key = Some(get_account_request::Key::UserId(user_id.to_string()));
        // Taken before: whatever happens while the question is on its way is not part of the answer, for all we know.
        let as_of_time = self.buyers.clock.now();
        match self.client.clone().get_account(context.onward(GetAccountRequest { key, ..Default::default() })).await {
            Ok(response) => {
                let account = response.into_inner().account.unwrap_or_default();
                let (status, version) = (status(&account), account.version);
                // A release of account before versions were told does not say to which one a status belongs.
                if let Some(status) = status.filter(|_| version > 0) {
                    self.buyers.note(context, user_id, Buyer { status, version, as_of_time });
                }
                Ok(Asked { status, version })
            }
            Err(status) => match Reason::of(&status) {
                Some(Reason::AccountNotFound) => Ok(Asked { status: None, version: 0 }),
                Some(Reason::AccountErased) => Ok(Asked { status: Some(Status::Erased), version: i64::MAX }),
                _ => Err(unanswered(context, "account", &status).into()),
            },
        }
    }
}

fn status(account: &Account) -> Option<Status> {
    match account.status() {
        AccountStatus::Unspecified => None,
        AccountStatus::Active => Some(Status::Active),
        AccountStatus::Suspended => Some(Status::Suspended),
        AccountStatus::Deleted => Some(Status::Deleted),
        AccountStatus::Erased => Some(Status::Erased),
    }
}
