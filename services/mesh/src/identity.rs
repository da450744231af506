//! Who is at the other end of a connection: a SPIFFE ID
//! (<https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>), read out of the certificate that was shown.

use std::{fmt, str::FromStr, sync::Arc};

use crate::Time;

/// What a process that has all roles is called, where one that has one is called after it.
pub(crate) const WHOLE: &str = "trivet";

const SCHEME: &str = "spiffe://";
/// Bytes of an id that everybody has to take, and of a trust domain (sections 2.3 and 2.1).
const ID_BYTES: usize = 2_048;
const TRUST_DOMAIN_BYTES: usize = 255;

/// The name of a workload: `spiffe://trivet.local/billing`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the path begins, with its slash.
    path: usize,
}

/// Why a text is no SPIFFE ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeFault {
    /// More than can be compared in peace.
    #[error("it has more than {ID_BYTES} bytes")]
    Long,
    /// Another kind of URI.
    #[error("it does not begin with {SCHEME}")]
    Scheme,
    /// A trust domain that none can be; a port or a user before it, too.
    #[error("its trust domain is not 1 to {TRUST_DOMAIN_BYTES} of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain,
    /// A path that none can be; a query or a fragment behind it, too.
    #[error("its path has a segment that is empty, '.', '..', or not of A-Z, a-z, 0-9, '.', '-' and '_'")]
    Path,
}

impl SpiffeId {
    /// Whose authority vouches for the name: `trivet.local`.
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..self.path).unwrap_or_default()
    }

    /// What it is called there, with the slash in front: `/billing`. Empty for the trust domain itself.
    pub fn path(&self) -> &str {
        self.text.get(self.path..).unwrap_or_default()
    }

    /// The id as a text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Whether a trust domain can be called so.
pub(crate) fn is_trust_domain(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    (1..=TRUST_DOMAIN_BYTES).contains(&name.len()) && name.bytes().all(fits)
}

/// Whether a part of a path can be called so.
fn is_segment(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !matches!(name, "" | "." | "..") && name.bytes().all(fits)
}

impl FromStr for SpiffeId {
    type Err = SpiffeFault;

    fn from_str(text: &str) -> Result<Self, SpiffeFault> {
        if text.len() > ID_BYTES {
            return Err(SpiffeFault::Long);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeFault::Scheme)?;
        let (trust_domain, path) = rest.split_once('/').map_or((rest, None), |(name, path)| (name, Some(path)));
        if !is_trust_domain(trust_domain) {
            return Err(SpiffeFault::TrustDomain);
        }
        if path.is_some_and(|path| !path.split('/').all(is_segment)) {
            return Err(SpiffeFault::Path);
        }
        Ok(Self { text: Arc::from(text), path: SCHEME.len() + trust_domain.len() })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// What the connection that a request came over says of its caller. Every request has it among its extensions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Whether nobody on the way could listen.
    pub encrypted: bool,
    /// What the certificate says that the caller showed on this connection; `None` where none was shown.
    pub peer: Option<Certified>,
}

/// Who showed a good certificate. Its connection may live longer than that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// Whom it names.
    pub id: SpiffeId,
    /// From when on it is not good any more.
    pub until: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(&str, &str), SpiffeFault>) {
        let id = text.parse::<SpiffeId>();
        let parts = id.as_ref().map(|id| (id.trust_domain(), id.path())).map_err(|fault| *fault);
        assert_eq!(parts, expected, "{text}");
        assert!(id.is_err() || id.is_ok_and(|id| id.to_string() == text));
    }

    #[test]
    fn an_id_is_a_trust_domain_and_a_path() {
        check("spiffe://trivet.local/billing", Ok(("trivet.local", "/billing")));
        check("spiffe://td_1-a/ns/trivet/sa/Billing_2.0", Ok(("td_1-a", "/ns/trivet/sa/Billing_2.0")));
        check("spiffe://td", Ok(("td", "")));
        check("spiffe://td/...", Ok(("td", "/...")));
    }

    #[test]
    fn a_uri_that_the_standard_does_not_allow_is_no_id() {
        for text in ["", "spiffe:/td/a", "https://td/a", "SPIFFE://td/a", " spiffe://td/a"] {
            check(text, Err(SpiffeFault::Scheme));
        }
        for text in
            ["spiffe://", "spiffe:///a", "spiffe://TD/a", "spiffe://td:80/a", "spiffe://me@td/a", "spiffe://tä/a"]
        {
            check(text, Err(SpiffeFault::TrustDomain));
        }
        for path in ["", "a/", "a//b", ".", "a/..", "../a", "a?b", "a#b", "a%20b", "a b", "ä", "a\0"] {
            check(&format!("spiffe://td/{path}"), Err(SpiffeFault::Path));
        }
    }

    #[test]
    fn an_id_has_at_most_2048_bytes_and_its_trust_domain_255() {
        let of = |bytes: usize| format!("spiffe://td/{}", "a".repeat(bytes - "spiffe://td/".len()));
        assert_eq!(of(2_048).parse::<SpiffeId>().unwrap().as_str().len(), 2_048);
        check(&of(2_049), Err(SpiffeFault::Long));
        check(&format!("spiffe://{}/a", "a".repeat(256)), Err(SpiffeFault::TrustDomain));
        assert!(format!("spiffe://{}/a", "a".repeat(255)).parse::<SpiffeId>().is_ok());
    }
}
