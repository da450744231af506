//! How a user stands, asked of account where it is not known here.

use std::time::Duration;

use mesh::{Context, Parts, Peer, Reason, StartError, UserId, unanswered};
use tonic::Status as GrpcStatus;
use tonic_types::StatusExt as _;
use trivet_proto::account::v1::{
    Account, AccountStatus, GetAccountRequest, account_service_client::AccountServiceClient, get_account_request,
};

use super::{Buyer, Buyers, Known, Status};

/// The accounts of the account service, as they are seen from here.
#[derive(Clone)]
pub(crate) struct Accounts {
    buyers: Buyers,
    client: AccountServiceClient<Peer>,
}

impl Accounts {
    pub(crate) fn new(parts: &Parts) -> Result<Self, StartError> {
        let client = AccountServiceClient::new(parts.peers.get("account")?);
        Ok(Self { buyers: Buyers::new(parts), client })
    }

    /// How a user stands: as is known here while that is young, else as account says. If neither can be had, nobody is
    /// active.
    pub(crate) async fn known(&self, context: &Context, user_id: &UserId) -> Result<Known, GrpcStatus> {
        match self.buyers.known(context, user_id).await {
            Some(known) => Ok(known),
            None => Ok(Known { active: self.ask(context, user_id).await?, staleness: Duration::ZERO }),
        }
    }

    /// Whether the account is there and active, as account says now. What it says is known from then on; that somebody
    /// has no account is not: the next moment may give them one, and there is no version of nothing.
    async fn ask(&self, context: &Context, user_id: &UserId) -> Result<bool, GrpcStatus> {
        let key = Some(get_account_request::Key::UserId(user_id.to_string()));
        // Taken before: whatever happens while the question is on its way is not part of the answer, for all we know.
        let as_of_time = self.buyers.clock.now();
        match self.client.clone().get_account(context.onward(GetAccountRequest { key, ..Default::default() })).await {
            Ok(response) => {
                let account = response.into_inner().account.unwrap_or_default();
                if let Some(status) = status(&account) {
                    self.buyers.note(context, user_id, Buyer { status, version: account.version, as_of_time });
                }
                Ok(account.status() == AccountStatus::Active)
            }
            Err(status) => match status.get_details_error_info().and_then(|info| Reason::from_name(&info.reason)) {
                Some(Reason::AccountNotFound | Reason::AccountErased) => Ok(false),
                _ => Err(unanswered(context, "account", &status).into()),
            },
        }
    }
}

/// The status, if it can be kept: a release of account before versions were told does not say to which one it belongs.
fn status(account: &Account) -> Option<Status> {
    let status = match account.status() {
        AccountStatus::Unspecified => None,
        AccountStatus::Active => Some(Status::Active),
        AccountStatus::Suspended => Some(Status::Suspended),
        AccountStatus::Deleted => Some(Status::Deleted),
        AccountStatus::Erased => Some(Status::Erased),
    };
    status.filter(|_| account.version > 0)
}
