//! Standing on the wire.

use mesh::{Fields, Refusal, UserId, text, update::Etag};
use trivet_proto::account::v1::{AccountStatus, ChangeAccountStatusRequest};

use super::Change;

/// Characters of a reason.
const REASON_LIMIT: usize = 500;

/// Whose standing, and what of it.
pub(crate) fn change(asked: &ChangeAccountStatusRequest) -> Result<(UserId, Change), Refusal> {
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let suspended = fields.read("status", suspended(asked.status));
    let reason = fields.read("reason", text::line(&asked.reason, REASON_LIMIT));
    let (user_id, suspended, reason) = fields.finish((user_id, suspended, reason))?;
    Ok((user_id, Change { suspended, reason, etag: Etag::parse_optional(&asked.etag) }))
}

fn suspended(asked: i32) -> Result<bool, &'static str> {
    match AccountStatus::try_from(asked) {
        Ok(AccountStatus::Active) => Ok(false),
        Ok(AccountStatus::Suspended) => Ok(true),
        Ok(AccountStatus::Deleted) => Err("must be ACTIVE or SUSPENDED; DeleteAccount deletes"),
        Ok(AccountStatus::Erased) => Err("must be ACTIVE or SUSPENDED; EraseAccount erases"),
        Ok(AccountStatus::Unspecified) | Err(_) => Err("must be ACTIVE or SUSPENDED"),
    }
}

/// Whose account is to go or to come back, and why.
pub(crate) fn whose(user_id: &str, reason: &str) -> Result<(UserId, String), Refusal> {
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse(user_id));
    let reason = fields.read("reason", text::optional_line(reason, REASON_LIMIT));
    fields.finish((user_id, reason))
}
