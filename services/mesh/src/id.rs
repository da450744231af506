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
    const ALPHABET: [char; 32] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'j', 'k', 'm', 'n',
        'p', 'q', 'r', 's', 't', 'v', 'w', 'x', 'y', 'z',
    ];
    let digit = |position: u32| {
        let bits = usize::try_from((uuid >> (position * 5)) & 31).unwrap_or(0);
        ALPHABET.get(bits).copied().unwrap_or('0')
    };
    let mut id = String::with_capacity(prefix.len() + 27);
    id.push_str(prefix);
    id.push('_');
    id.extend((0..26).rev().map(digit));
    id
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
