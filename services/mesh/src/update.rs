//! Partial updates: which fields a request sets (AIP-134), and whether it knew what it was changing (AIP-154).

use std::fmt;

use crate::{Reason, Refusal, refusal::Violation};

/// Which fields an update sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask(Vec<String>);

impl Mask {
    /// Reads `update_mask`. Absent or empty, it is the fields that are `present` in the request. A path that is not
    /// one of `known`, `*` included, is refused, and so is an update that sets nothing.
    pub fn read(mask: Option<&prost_types::FieldMask>, known: &[&str], present: &[&str]) -> Result<Self, Refusal> {
        let paths: Vec<String> = match mask {
            Some(mask) if !mask.paths.is_empty() => mask.paths.clone(),
            _ => present.iter().map(|path| (*path).to_owned()).collect(),
        };
        let settable = known.join(", ");
        let violation = |description| Violation { field: "update_mask".to_owned(), description };
        let mut violations: Vec<_> = paths
            .iter()
            .filter(|path| !known.contains(&path.as_str()))
            .map(|path| violation(format!("names {:?}, which is not one of {settable}", clipped(path))))
            .collect();
        if paths.is_empty() {
            violations.push(violation(format!("names nothing to set: set at least one of {settable}")));
        }
        if violations.is_empty() {
            Ok(Self(paths))
        } else {
            Err(Refusal::fields(Reason::InvalidUpdateMask, violations))
        }
    }

    /// Whether the update sets this field.
    pub fn has(&self, path: &str) -> bool {
        self.0.iter().any(|named| named == path)
    }
}

/// A path as it may be said back: callers' typos are short.
fn clipped(path: &str) -> String {
    path.chars().take(64).collect()
}

/// The version of a resource, as its reader holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Etag(i64);

impl Etag {
    /// The etag of a row at this version.
    pub const fn of(version: i64) -> Self {
        Self(version)
    }

    /// Reads an etag; empty means that the caller does not mind. One that we never gave out matches nothing.
    pub fn parse_optional(text: &str) -> Option<Self> {
        match text {
            "" => None,
            text => Some(Self(text.strip_prefix('v').and_then(|digits| digits.parse().ok()).unwrap_or(-1))),
        }
    }

    /// The version that the etag stands for.
    pub const fn version(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "v{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: Option<&[&str]>, present: &[&str], expected: Result<&[&str], &str>) {
        let mask = paths.map(|paths| prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
        match (Mask::read(mask.as_ref(), &["name", "email"], present), expected) {
            (Ok(mask), Ok(fields)) => assert_eq!(mask.0, fields),
            (Err(refusal), Err(message)) => assert_eq!(refusal.to_string(), message),
            (got, wanted) => panic!("{got:?} is not {wanted:?}"),
        }
    }

    #[test]
    fn a_mask_sets_what_it_names_and_without_one_what_is_present() {
        check(Some(&["name"]), &["name", "email"], Ok(&["name"]));
        check(None, &["email"], Ok(&["email"]));
        check(Some(&[]), &["email"], Ok(&["email"]));
        check(None, &[], Err("INVALID_UPDATE_MASK: update_mask names nothing to set: set at least one of name, email"));
        check(
            Some(&["*", "status"]),
            &["name"],
            Err("INVALID_UPDATE_MASK: update_mask names \"*\", which is not one of name, email; \
                 update_mask names \"status\", which is not one of name, email"),
        );
    }

    #[test]
    fn an_etag_that_was_never_given_out_matches_no_version() {
        assert_eq!(Etag::parse_optional(""), None);
        assert_eq!(Etag::parse_optional("v7"), Some(Etag::of(7)));
        assert_eq!(Etag::parse_optional("W/\"7\""), Some(Etag::of(-1)));
        assert_eq!(Etag::of(7).to_string(), "v7");
    }
}
