//! Pages of a list (AIP-158): their size, and the tokens that carry a reader's place from one page to the next.
//!
//! A token says after which row the next page begins, so that page 10,000 costs what page 1 costs. It is bound to the
//! list's other arguments and the tenant, and it is authenticated: nobody reads another list, or another tenant's, by
//! writing one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Serialize, de::DeserializeOwned};
use sha2::Sha256;

use crate::{Reason, Refusal, Tenant, refusal::Violation};

/// The page size of a caller that names none.
pub const DEFAULT_SIZE: u64 = 50;
/// The largest page; who asks for more gets this many.
pub const MAX_SIZE: u64 = 1_000;
/// A token longer than this is not one of ours: cursors are a time and an id, or a number for each wallet of a user, of which
/// there may be one in each currency there is.
const MAX_TOKEN: usize = 8_192;
/// Bytes of the code that proves a token ours: 128 bits, as RFC 2104 allows for a truncated HMAC.
const TAG: usize = 16;

/// Reads `page_size`: 0 means [`DEFAULT_SIZE`], and above [`MAX_SIZE`] means that.
pub fn size(asked: i32) -> Result<u64, &'static str> {
    match u64::try_from(asked) {
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) => Ok(size.min(MAX_SIZE)),
        Err(_) => Err("must not be negative"),
    }
}

/// How many rows to read for a page: one more than it holds tells whether another page follows.
pub fn rows(size: u64) -> u64 {
    size.saturating_add(1)
}

/// What page tokens are authenticated with. Replicas of a service share it through their database.
#[derive(Clone)]
pub struct TokenKey(pub(crate) [u8; 32]);

/// One list with its arguments: what a token is good for.
pub struct Listing {
    keyed: Hmac<Sha256>,
}

impl TokenKey {
    /// The list that `rpc` gives to `tenant` for these arguments (all but the page's own).
    pub fn listing(&self, rpc: &'static str, tenant: &Tenant, arguments: &impl Serialize) -> Result<Listing, Refusal> {
        let scope = serde_json::to_vec(&(rpc, tenant, arguments)).map_err(Refusal::internal)?;
        let mut keyed = Hmac::<Sha256>::new_from_slice(&self.0).map_err(Refusal::internal)?;
        keyed.update(&u64::try_from(scope.len()).unwrap_or(u64::MAX).to_be_bytes());
        keyed.update(&scope);
        Ok(Listing { keyed })
    }
}

impl Listing {
    /// The place that a page token stands for; `None` for the empty token, the beginning.
    pub fn open<C: DeserializeOwned>(&self, token: &str) -> Result<Option<C>, Refusal> {
        self.open_field("page_token", token)
    }

    /// The same, of a token that is in another field of its request.
    pub fn open_field<C: DeserializeOwned>(&self, field: &'static str, token: &str) -> Result<Option<C>, Refusal> {
        if token.is_empty() {
            return Ok(None);
        }
        self.verified(token).map(Some).ok_or_else(|| {
            let description = "is not a token of this list with these arguments; start again without it";
            Refusal::fields(
                Reason::InvalidPageToken,
                vec![Violation { field: field.to_owned(), description: description.to_owned() }],
            )
        })
    }

    fn verified<C: DeserializeOwned>(&self, token: &str) -> Option<C> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (tag, cursor) = bytes.split_at_checked(TAG)?;
        let cursor = self.veiled(tag, cursor);
        let mut keyed = self.keyed.clone();
        keyed.update(&cursor);
        keyed.verify_truncated_left(tag).ok()?;
        serde_json::from_slice(&cursor).ok()
    }

    /// The token for the page after `cursor`.
    pub fn seal(&self, cursor: &impl Serialize) -> Result<String, Refusal> {
        let cursor = serde_json::to_vec(cursor).map_err(Refusal::internal)?;
        let mut keyed = self.keyed.clone();
        keyed.update(&cursor);
        let mut bytes: Vec<u8> = keyed.finalize().into_bytes().iter().copied().take(TAG).collect();
        bytes.extend(self.veiled(&bytes, &cursor));
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Veils a cursor, or unveils it: a cursor may count what other tenants have, too. The keystream is HMAC over the tag
    /// and a counter; equal cursors of one list look alike, and nothing else is told (a synthetic IV, as in RFC 5297).
    fn veiled(&self, tag: &[u8], cursor: &[u8]) -> Vec<u8> {
        let blocks = (0_u32..).flat_map(|block| {
            let mut keyed = self.keyed.clone();
            keyed.update(b"veil");
            keyed.update(tag);
            keyed.update(&block.to_be_bytes());
            keyed.finalize().into_bytes()
        });
        cursor.iter().zip(blocks).map(|(byte, veil)| byte ^ veil).collect()
    }

    /// Cuts `rows`, as many as [`rows`] says, to the page, and gives the token of the next one.
    pub fn cut<R, C: Serialize>(
        &self,
        rows: &mut Vec<R>,
        size: u64,
        cursor: impl Fn(&R) -> C,
    ) -> Result<String, Refusal> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if rows.len() <= size {
            return Ok(String::new());
        }
        rows.truncate(size);
        rows.last().map_or(Ok(String::new()), |last| self.seal(&cursor(last)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn listing(rpc: &'static str, tenant: &str, argument: &str) -> Listing {
        TokenKey([7; 32]).listing(rpc, &Tenant::parse(tenant).unwrap(), &argument).unwrap()
    }

    #[test]
    fn a_token_opens_the_list_it_was_made_for_and_no_other() {
        let token = listing("List", "acme", "red").seal(&(12_i64, "prod_1")).unwrap();
        let open = |listing: Listing| listing.open::<(i64, String)>(&token);
        assert_eq!(open(listing("List", "acme", "red")).unwrap(), Some((12, "prod_1".to_owned())));
        for other in
            [listing("List", "acme", "blue"), listing("List", "other", "red"), listing("Search", "acme", "red")]
        {
            assert_eq!(open(other).unwrap_err().reason(), Reason::InvalidPageToken);
        }
        let stranger = TokenKey([8; 32]).listing("List", &Tenant::parse("acme").unwrap(), &"red").unwrap();
        assert!(open(stranger).is_err());
    }

    #[test]
    fn a_token_does_not_show_the_place_that_it_stands_for() {
        let token =
            listing("List", "acme", "red").seal(&"a-place-that-nobody-sees-whatever-its-length".to_owned()).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for part in ["a-place", "nobody", "length"] {
            assert!(!bytes.windows(part.len()).any(|found| found == part.as_bytes()), "{part}");
        }
    }

    #[test]
    fn a_token_with_any_byte_changed_is_refused() {
        let list = listing("List", "acme", "red");
        let token = list.seal(&(12_i64, "prod_1")).unwrap();
        for position in 0..token.len() {
            let mut changed: Vec<char> = token.chars().collect();
            changed[position] = if changed[position] == 'A' { 'B' } else { 'A' };
            let changed: String = changed.into_iter().collect();
            assert!(list.open::<(i64, String)>(&changed).is_err(), "{changed}");
        }
        for foreign in ["x", "!!", "AAAAAAAAAAAAAAAAAAAAAA", &"A".repeat(9_000)] {
            assert!(list.open::<(i64, String)>(foreign).is_err());
        }
    }

    #[test]
    fn a_token_holds_a_place_in_each_currency_there_is() {
        let list = listing("List", "default", "");
        let places: BTreeMap<String, i64> =
            (0..200).map(|number| (format!("{number:03}"), i64::MAX - number)).collect();
        assert_eq!(list.open(&list.seal(&places).unwrap()).unwrap(), Some(places));
    }

    #[test]
    fn a_page_size_has_a_default_a_ceiling_and_no_negatives() {
        assert_eq!((size(0), size(7), size(5_000)), (Ok(50), Ok(7), Ok(1_000)));
        assert!(size(-1).is_err());
    }
}
