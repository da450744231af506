//! What the others hear of an account. Ids and standings, and nothing personal.

use mesh::{
    StoreError,
    events::{Aggregate, publish},
    store::Transaction,
};
use trivet_proto::account::v1::{
    AccountStatus, SubscriptionTier, UserCreated, UserDeleted, UserProfileUpdated, UserStatusChanged,
};

use super::{Account, Standing};
use crate::history::{Action, Author};

impl Account {
    /// Tells what was done to the account, of which this is the state afterwards.
    pub(crate) async fn tell(
        &self,
        transaction: &Transaction,
        author: &Author,
        action: Action,
        before: Option<&Self>,
    ) -> Result<(), StoreError> {
        let user_id = self.user_id.to_string();
        let about = Aggregate { kind: "user", id: self.user_id.as_str(), version: self.version };
        let was = before.map_or(self.status, |before| before.status);
        match action {
            Action::Created => {
                let tier = self.subscription_tier;
                let created = UserCreated { user_id, subscription_tier: SubscriptionTier::from(tier).into() };
                publish(transaction, &author.origin, about, &created).await
            }
            Action::ProfileUpdated | Action::PreferencesUpdated => {
                let changed_fields = before.map(|before| before.differing(self)).unwrap_or_default();
                let changed_fields = changed_fields.into_iter().map(str::to_owned).collect();
                publish(transaction, &author.origin, about, &UserProfileUpdated { user_id, changed_fields }).await
            }
            Action::StatusChanged | Action::Restored => {
                let (from, to) = (AccountStatus::from(was).into(), AccountStatus::from(self.status).into());
                publish(transaction, &author.origin, about, &UserStatusChanged { user_id, from, to }).await
            }
            Action::Deleted | Action::Erased => {
                let erased = self.status == Standing::Erased;
                publish(transaction, &author.origin, about, &UserDeleted { user_id, erased }).await
            }
        }
    }
}
