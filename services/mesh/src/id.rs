//! Ids: those callers choose (slugs), those they repeat calls under (request ids), and those we make (TypeIDs).

use std::fmt;

use crate::Clock;

/// The longest id of any kind, in bytes.
pub const MAX_LENGTH: usize = 128;

/// Why a text is not an id. Reads as the continuation of a field's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing was given.
    #[error("is required")]
    Empty,
    /// Longer than [`MAX_LENGTH`].
    #[error("has {0} bytes, at most {MAX_LENGTH} are allowed")]
    TooLong(usize),
    /// A character outside of the id's alphabet.
    #[error("holds {found:?}, which is not one of {alphabet}")]
    Character {
        /// The first character that does not belong.
        found: char,
        /// What may stand in such an id.
        alphabet: &'static str,
    },
}

fn check(text: &str, alphabet: &'static str, marks: &str) -> Result<(), Fault> {
    if text.is_empty() {
        return Err(Fault::Empty);
    }
    if text.len() > MAX_LENGTH {
        return Err(Fault::TooLong(text.len()));
    }
    match text.chars().find(|found| !found.is_ascii_alphanumeric() && !marks.contains(*found)) {
        Some(found) => Err(Fault::Character { found, alphabet }),
        None => Ok(()),
    }
}

/// Declares an id that is text, checked when it comes in and never again.
macro_rules! text_id {
    ($(#[$doc:meta])* $Name:ident, $alphabet:literal, $marks:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, sea_orm::DeriveValueType,
        )]
        pub struct $Name(String);

        impl $Name {
            /// Reads the id as a caller sent it.
            pub fn parse(text: &str) -> Result<Self, Fault> {
                check(text, $alphabet, $marks)?;
                Ok(Self(text.to_owned()))
            }

            /// Reads the id where it may be left out; empty means none.
            pub fn parse_optional(text: &str) -> Result<Option<Self>, Fault> {
                if text.is_empty() { Ok(None) } else { Self::parse(text).map(Some) }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The id as text, given away.
            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// Whose rows these are. Nothing of one tenant is ever seen, counted or met by another.
    Tenant, "A-Z a-z 0-9 _ . : | @ -", "_.:|@-"
}
text_id! {
    /// The caller's id of a person.
    UserId, "A-Z a-z 0-9 _ . : | @ -", "_.:|@-"
}
text_id! {
    /// An id that a caller chose for a thing: a product, a category, an endpoint.
    Slug, "A-Z a-z 0-9 _ . : | @ -", "_.:|@-"
}
text_id! {
    /// The id under which a call may be sent again: one id, one answer, for ever.
    RequestId, "A-Z a-z 0-9 . _ : -", "._:-"
}

impl Tenant {
    /// The tenant of callers without a credential.
    pub fn default_tenant() -> Self {
        Self("default".to_owned())
    }
}

impl Slug {
    /// A fresh TypeID as a slug, for a thing whose caller did not name it.
    pub fn fresh(prefix: &str, clock: &Clock) -> Self {
        Self(fresh(prefix, clock))
    }
}

/// Makes a TypeID (<https://github.com/jetify-com/typeid>, version 0.3): `prefix`, an underscore, and a UUIDv7 as 26
/// characters of Crockford's base32. Ids of one prefix sort by the time of their making.
pub fn fresh(prefix: &str, clock: &Clock) -> String {
    type_id(prefix, clock.uuid().as_u128())
}

fn type_id(prefix: &str, uuid: u128) -> String {
    format!("{prefix}_{}", base32(&uuid.to_be_bytes()))
}

/// Crockford's alphabet, in lower case: no `i`, `l`, `o` or `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Bits of a character.
const BITS: usize = 5;

/// How many characters `bytes` take, and how many zero bits stand in front of them.
const fn base32_length(bytes: usize) -> (usize, usize) {
    let length = (bytes * 8).div_ceil(BITS);
    (length, length * BITS - bytes * 8)
}

/// Writes bytes as one number in Crockford's base32, in lower case, with zeros in front up to whole characters: as a
/// TypeID does, so that the texts of equal length sort as the bytes do.
pub fn base32(bytes: &[u8]) -> String {
    let (length, mut held) = base32_length(bytes.len());
    let mut text = String::with_capacity(length);
    let mut bits = 0_usize;
    for byte in bytes {
        bits = (bits << 8) | usize::from(*byte);
        held += 8;
        while held >= BITS {
            held -= BITS;
            text.push(ALPHABET.get((bits >> held) & 31).copied().map_or('0', char::from));
        }
        bits &= 31;
    }
    text
}

/// Reads what [`base32`] writes, and nothing else: one text for `N` bytes, no look-alikes.
pub fn from_base32<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (length, padding) = base32_length(N);
    if text.len() != length {
        return None;
    }
    let mut bytes = [0; N];
    let mut places = bytes.iter_mut();
    let (mut bits, mut held) = (0_usize, 0_usize);
    for (position, character) in text.bytes().enumerate() {
        let value = ALPHABET.iter().position(|known| *known == character)?;
        bits = ((bits & 0xff) << BITS) | value;
        held += BITS;
        if position == 0 {
            held -= padding;
            if value >> held != 0 {
                return None;
            }
        }
        if held >= 8 {
            held -= 8;
            *places.next()? = u8::try_from((bits >> held) & 0xff).ok()?;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_id_is_written_as_the_specification_says() {
        // The vectors of the TypeID specification.
        check_type_id(0, "prefix_00000000000000000000000000");
        check_type_id(1, "prefix_00000000000000000000000001");
        check_type_id(u128::MAX, "prefix_7zzzzzzzzzzzzzzzzzzzzzzzzz");
        check_type_id(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881, "prefix_01h2xcejqtf2nbrexx3vqjhp41");
    }

    fn check_type_id(uuid: u128, expected: &str) {
        assert_eq!(type_id("prefix", uuid), expected);
    }

    #[test]
    fn base32_reads_what_it_writes_and_nothing_else() {
        check_base32([0x00], "00");
        check_base32([0xff], "7z");
        check_base32([0xcb, 0xf4, 0x39, 0x26], "35z8e96");
        check_base32([0xff; 5], "zzzzzzzz");
        for garbled in ["", "7", "07z", "8z", "7Z", "7u", "7\u{e9}", "-1", "zz"] {
            assert_eq!(from_base32::<1>(garbled), None, "{garbled}");
        }
        for number in 0..=u16::MAX {
            assert_eq!(from_base32(&base32(&number.to_be_bytes())), Some(number.to_be_bytes()));
        }
        let uuid = 0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881_u128.to_be_bytes();
        assert_eq!(from_base32("01h2xcejqtf2nbrexx3vqjhp41"), Some(uuid));
        assert_eq!(from_base32::<16>("81h2xcejqtf2nbrexx3vqjhp41"), None, "more than 128 bits");
    }

    fn check_base32<const N: usize>(bytes: [u8; N], text: &str) {
        assert_eq!((base32(&bytes).as_str(), from_base32(text)), (text, Some(bytes)));
    }

    #[test]
    fn fresh_ids_sort_by_the_order_of_their_making() {
        let clock = Clock::system();
        let ids: Vec<_> = (0..10_000).map(|_| fresh("txn", &clock)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn an_id_is_refused_with_the_character_that_does_not_belong() {
        for (text, fault) in [
            ("", "is required"),
            ("a b", "holds ' ', which is not one of A-Z a-z 0-9 _ . : | @ -"),
            ("a\0", "holds '\\0', which is not one of A-Z a-z 0-9 _ . : | @ -"),
            ("naïve", "holds 'ï', which is not one of A-Z a-z 0-9 _ . : | @ -"),
        ] {
            assert_eq!(UserId::parse(text).unwrap_err().to_string(), fault);
        }
        assert_eq!(UserId::parse(&"x".repeat(129)).unwrap_err(), Fault::TooLong(129));
        assert!(UserId::parse("auth0|user@example.com").is_ok());
        assert!(RequestId::parse("a|b").is_err(), "the alphabet of request ids is smaller");
    }
}
