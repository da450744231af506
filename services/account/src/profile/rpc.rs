//! Profiles on the wire.

use mesh::{
    Fields, Refusal, UserId, text,
    update::{Etag, Mask},
};
use trivet_proto::account::v1::{
    BatchGetAccountsRequest, EnsureAccountRequest, GetAccountRequest, UpdateAccountRequest, get_account_request,
};

use super::{Change, Draft, Key};
use crate::account::{Email, Tier, rpc as account};

/// Characters of a name.
const NAME_LIMIT: usize = 200;
/// Accounts asked for at once.
const BATCH_LIMIT: usize = 1_000;

/// Who should have an account.
pub(crate) fn draft(asked: &EnsureAccountRequest) -> Result<Draft, Refusal> {
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let email = fields.read("email", Email::parse(&asked.email));
    let name = fields.read("name", text::line(&asked.name, NAME_LIMIT));
    let tier = fields.read("subscription_tier", account::tier(asked.subscription_tier));
    let (user_id, email, name, tier) = fields.finish((user_id, email, name, tier))?;
    Ok(Draft { user_id, email, name, subscription_tier: tier.unwrap_or(Tier::Free) })
}

/// Whose account.
pub(crate) fn key(fields: &mut Fields, asked: &GetAccountRequest) -> Option<Key> {
    match &asked.key {
        Some(get_account_request::Key::UserId(user_id)) => {
            fields.read("user_id", UserId::parse(user_id).map(Key::UserId))
        }
        Some(get_account_request::Key::Email(email)) => fields.read("email", Email::parse(email).map(Key::Email)),
        None => fields.read("key", Err("is required: user_id or email")),
    }
}

/// The ids asked for, each once, in the order of their first mention.
pub(crate) fn batch(asked: &BatchGetAccountsRequest) -> Result<Vec<UserId>, Refusal> {
    let mut fields = Fields::default();
    let user_ids = fields.read_batch("user_ids", &asked.user_ids, BATCH_LIMIT, UserId::parse);
    Ok(fields.finish((user_ids,))?.0)
}

/// Whose profile, and what of it.
pub(crate) fn change(asked: &UpdateAccountRequest) -> Result<(UserId, Change), Refusal> {
    let present: Vec<&str> = [("name", asked.name.is_some()), ("email", asked.email.is_some())]
        .iter()
        .filter(|(_, set)| *set)
        .map(|(path, _)| *path)
        .collect();
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let mask = Mask::read(asked.update_mask.as_ref(), &["name", "email"], &present);
    let sets = |path| mask.as_ref().is_ok_and(|mask| mask.has(path));
    // A field that the mask names and the request leaves out would be cleared, and neither of these can be empty.
    let name = fields.read(
        "name",
        sets("name").then(|| text::line(asked.name.as_deref().unwrap_or_default(), NAME_LIMIT)).transpose(),
    );
    let email = fields
        .read("email", sets("email").then(|| Email::parse(asked.email.as_deref().unwrap_or_default())).transpose());
    if let (Err(refusal), true) = (&mask, fields.is_faulty()) {
        fields.absorb(refusal);
    }
    let (user_id, name, email) = fields.finish((user_id, name, email))?;
    mask?;
    Ok((user_id, Change { name, email, etag: Etag::parse_optional(&asked.etag) }))
}
