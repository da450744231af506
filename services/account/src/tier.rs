//! Tier: how much of a customer somebody is, as product tells of what they subscribe to for themselves.

mod events;

use mesh::Time;

use crate::account::{Account, Refused, Tier};

pub(crate) use events::handlers;

/// The rule: an account that lives is of the tier that it was told of last.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "every rule takes its change by reference")]
fn set(account: Account, tier: &Tier, _: Time) -> Result<Account, Refused> {
    Ok(Account { subscription_tier: *tier, ..account.living()? })
}
