//! The secret of a key: `tvt_`, the key's own id, 256 random bits, and a checksum that finds a slip of the hand without a
//! look at any table. All of it is Crockford's base32, as `mesh::id` writes it, and there is one way to write each secret.

use std::fmt;

use mesh::{
    Clock, Slug,
    id::{base32, from_base32},
};
use sha2::{Digest as _, Sha256};

/// What every secret begins with, by which scanners of code and logs know one.
const MARK: &str = "tvt_";
/// What every key's id begins with.
const PREFIX: &str = "key_";
/// Characters of a key's id after its prefix: 128 bits.
const ID_LENGTH: usize = 26;
/// Characters of the random bits, of which there are 256.
const BITS_LENGTH: usize = 52;
/// Characters of the checksum: 32 bits.
const CHECKSUM_LENGTH: usize = 7;
const LENGTH: usize = MARK.len() + ID_LENGTH + BITS_LENGTH + CHECKSUM_LENGTH;

/// A secret that is well-formed, be it somebody's or not.
pub(crate) struct Secret {
    key_id: Slug,
    text: String,
}

impl Secret {
    /// A secret for a new key, whose id it makes.
    pub(super) fn fresh(clock: &Clock) -> Self {
        Self::of(Slug::fresh("key", clock), &clock.secret_bytes())
    }

    pub(super) fn of(key_id: Slug, bits: &[u8; 32]) -> Self {
        let mut text = key_id.as_str().replacen(PREFIX, MARK, 1);
        text.push_str(&base32(bits));
        text.push_str(&checksum(&text));
        Self { key_id, text }
    }

    /// Reads a secret; `None` where a character is wrong or missing.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() != LENGTH {
            return None;
        }
        let (covered, check) = text.split_at_checked(LENGTH - CHECKSUM_LENGTH)?;
        let (key_id, bits) = covered.strip_prefix(MARK)?.split_at_checked(ID_LENGTH)?;
        let _: [u8; 16] = from_base32(key_id)?;
        let _: [u8; 32] = from_base32(bits)?;
        if check != checksum(covered) {
            return None;
        }
        Some(Self { key_id: Slug::parse(&format!("{PREFIX}{key_id}")).ok()?, text: text.to_owned() })
    }

    /// Which key it says it is of.
    pub(super) fn key_id(&self) -> &Slug {
        &self.key_id
    }

    pub(super) fn into_key_id(self) -> Slug {
        self.key_id
    }

    /// What is kept of it: the SHA-256 of the whole text, as `sha256sum` would have it. With 256 random bits there is
    /// nothing to guess, so that salt or a slow hash would add none.
    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }

    /// The secret itself, for the one who is told it.
    pub(super) fn reveal(self) -> String {
        self.text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// The CRC-32 of ISO 3309: it finds every change of one character, and every two neighbours that changed places.
fn checksum(covered: &str) -> String {
    base32(&crc32fast::hash(covered.as_bytes()).to_be_bytes())
}
