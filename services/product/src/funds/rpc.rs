//! What a wallet has available, asked of billing each time: money is never remembered.

use mesh::{Context, Parts, Peer, Reason, Refusal, UserId, unanswered};
use money::{Amount, Currency};
use tonic::Status as GrpcStatus;
use trivet_proto::billing::v1::{GetWalletRequest, wallet_service_client::WalletServiceClient};

/// The wallets of the billing service, as they are seen from here.
#[derive(Clone)]
pub(crate) struct Funds(Option<WalletServiceClient<Peer>>);

impl Funds {
    pub(crate) fn new(parts: &Parts) -> Self {
        // A product service that nobody told where billing is still sells what costs nothing.
        Self(parts.peers.find("billing").map(WalletServiceClient::new))
    }

    /// Whether a user has anything available in a currency. If that cannot be known, nobody is said to have.
    pub(crate) async fn any(
        &self,
        context: &Context,
        user_id: &UserId,
        currency: Currency,
    ) -> Result<bool, GrpcStatus> {
        let Some(client) = &self.0 else {
            let refusal = Refusal::new(Reason::DependencyUnavailable, "nobody said where billing is");
            return Err(refusal.with("peer", "billing").into());
        };
        let ask = GetWalletRequest { user_id: user_id.to_string(), currency: currency.code().to_owned() };
        match client.clone().get_wallet(context.onward(ask)).await {
            Ok(response) => {
                let wallet = response.into_inner().wallet.unwrap_or_default();
                Ok(Amount::parse(currency, &wallet.available).is_ok_and(Amount::is_positive))
            }
            Err(status) if Reason::of(&status) == Some(Reason::WalletNotFound) => Ok(false),
            Err(status) => Err(unanswered(context, "billing", &status).into()),
        }
    }
}
