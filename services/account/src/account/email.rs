//! E-mail addresses: what one may look like, and how two of them are compared.

use mesh::store::Column;

/// An e-mail address as its owner writes it, trimmed.
#[derive(Clone, Debug, PartialEq, Eq, Column)]
pub(crate) struct Email(String);

/// Why a text is not an e-mail address. Reads as the continuation of a field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EmailFault {
    #[error("has more than {} characters", Email::LIMIT)]
    TooLong,
    #[error("must be an e-mail address: something, one @, something, and no spaces")]
    Form,
}

impl Email {
    /// Characters of an address (RFC 5321, section 4.5.3.1.3, less the brackets).
    const LIMIT: usize = 254;

    /// Reads an address. Whether it can be delivered to only a letter can tell, so that little more than the `@` is
    /// asked for.
    pub(crate) fn parse(text: &str) -> Result<Self, EmailFault> {
        let text = text.trim();
        if text.chars().count() > Self::LIMIT {
            return Err(EmailFault::TooLong);
        }
        let whole =
            |(mailbox, domain): (&str, &str)| !mailbox.is_empty() && !domain.is_empty() && !domain.contains('@');
        let printable = !text.contains(|found: char| found.is_whitespace() || found.is_control());
        if printable && text.split_once('@').is_some_and(whole) {
            Ok(Self(text.to_owned()))
        } else {
            Err(EmailFault::Form)
        }
    }

    /// What is left of an address that was erased.
    pub(crate) fn erased() -> Self {
        Self(String::new())
    }

    /// The address as it is compared.
    pub(crate) fn key(&self) -> String {
        self.0.to_lowercase()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_address_is_trimmed_bounded_and_compared_in_lower_case() {
        let email = Email::parse("  Ada@Example.COM ").unwrap();
        assert_eq!((email.as_str(), email.key().as_str()), ("Ada@Example.COM", "ada@example.com"));
        for garbled in ["", "ada", "@example.com", "ada@", "a@b@c", "a b@c.d", "a\0@c.d"] {
            assert_eq!(Email::parse(garbled), Err(EmailFault::Form), "{garbled:?}");
        }
        let longest = format!("{}@example.com", "x".repeat(242));
        assert!(Email::parse(&longest).is_ok());
        assert_eq!(Email::parse(&format!("x{longest}")), Err(EmailFault::TooLong));
    }
}
