//! The chain: each change's hash is SHA-256 (FIPS 180-4) over the hash before it in its wallet and over all that is kept of
//! the change, so that a row that was changed behind the service's back is told from all others.

use sha2::{Digest as _, Sha256};

/// What is kept of a change, as it is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept<'a> {
    /// Id, kind, request, user, currency, what it relates to, API, endpoint, key, details.
    pub(crate) texts: [&'a str; 10],
    /// What it moved in each account, version, balance and available after it, time.
    pub(crate) numbers: [i64; 8],
}

/// The hash of a change that comes after another one with this hash; that one is empty for a wallet's first.
///
/// Every part is preceded by its length, so that no two rows read alike. A field that is added to the ledger later joins
/// only where it is not empty, or the hashes of old rows would not be theirs any more.
pub(crate) fn hash(previous: &[u8], change: &Kept<'_>) -> Vec<u8> {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bytes);
    };
    part(previous);
    change.texts.iter().for_each(|text| part(text.as_bytes()));
    change.numbers.iter().for_each(|number| part(&number.to_be_bytes()));
    hash.finalize().to_vec()
}
