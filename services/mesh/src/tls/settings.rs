//! Settings of TLS.

use serde::{Deserialize, Serialize};

use crate::identity::{SpiffeId, is_trust_domain};

/// Settings of TLS, both of what a process serves and of what it calls.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TlsSettings {
    /// The process's certificate, a PEM file: the leaf, then whoever vouches for it. It names the process in its one URI, a
    /// SPIFFE ID. Empty, as `key` and `trust_bundle` then are: no TLS. `trivet certs dev` makes all three.
    pub certificate: String,
    /// The certificate's key, a PEM file.
    pub key: String,
    /// The CAs whose certificates are believed, callers' and services', a PEM file. While a CA is replaced it has both.
    pub trust_bundle: String,
    /// The trust domain that every identity is of.
    pub trust_domain: String,
    /// What the identity of a service begins with; its name follows, or `trivet` for a process that has all roles.
    /// `spiffe://example.org/ns/trivet/sa/` where SPIRE names them after accounts of Kubernetes. Empty:
    /// `spiffe://`, the trust domain and `/`.
    pub id_prefix: String,
    /// Whether who comes without a certificate is sent away. One that is shown must always be good.
    pub require_client_certificate: bool,
    /// How often the three files are looked at, in milliseconds, 50 to 60000: what they hold then is in force without a
    /// restart.
    pub reload_ms: u64,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            certificate: String::new(),
            key: String::new(),
            trust_bundle: String::new(),
            trust_domain: "trivet.local".to_owned(),
            id_prefix: String::new(),
            require_client_certificate: false,
            reload_ms: 1_000,
        }
    }
}

impl TlsSettings {
    /// Whether there is to be TLS.
    pub fn on(&self) -> bool {
        self.files().iter().any(|(_, path)| !path.is_empty())
    }

    /// Everything that is wrong with them.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.on() {
            let missing = self.files().into_iter().filter(|(_, path)| path.is_empty());
            faults.extend(missing.map(|(name, _)| format!("tls.{name} is empty, TLS needs all three files")));
        } else if self.require_client_certificate {
            faults
                .push("tls.require_client_certificate needs tls.certificate, tls.key and tls.trust_bundle".to_owned());
        }
        let domain = &self.trust_domain;
        if !is_trust_domain(domain) {
            faults.push(format!("tls.trust_domain is {domain:?}, it must be 1 to 255 of a-z, 0-9, '.', '-' and '_'"));
        }
        let prefix = self.prefix();
        let probe = format!("{prefix}trivet").parse::<SpiffeId>();
        if !prefix.ends_with('/') || !probe.is_ok_and(|id| id.trust_domain() == domain) {
            faults.push(format!("tls.id_prefix is {prefix:?}, it must begin with spiffe://{domain}/ and end with /"));
        }
        // More often would be reading for nothing; more seldom, and what was renewed in time would be late.
        if !(50..=60_000).contains(&self.reload_ms) {
            faults.push(format!("tls.reload_ms is {}, it must be 50 to 60000", self.reload_ms));
        }
        faults
    }

    /// What the ids of services begin with.
    pub(crate) fn prefix(&self) -> String {
        if self.id_prefix.is_empty() { format!("spiffe://{}/", self.trust_domain) } else { self.id_prefix.clone() }
    }

    fn files(&self) -> [(&'static str, &str); 3] {
        [("certificate", &self.certificate), ("key", &self.key), ("trust_bundle", &self.trust_bundle)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut TlsSettings), expected: &[&str]) {
        let mut settings = TlsSettings::default();
        change(&mut settings);
        let faults = settings.faults();
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.contains(expected), "{expected:?} is not in {fault:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_said_at_once() {
        check(|_| {}, &[]);
        check(|tls| tls.certificate = "a.pem".to_owned(), &["tls.key is empty", "tls.trust_bundle is empty"]);
        check(|tls| tls.require_client_certificate = true, &["tls.require_client_certificate"]);
        check(|tls| tls.trust_domain = "Trivet".to_owned(), &["tls.trust_domain", "tls.id_prefix"]);
        check(|tls| tls.id_prefix = "spiffe://elsewhere/".to_owned(), &["tls.id_prefix"]);
        check(|tls| tls.id_prefix = "spiffe://trivet.local/sa".to_owned(), &["tls.id_prefix"]);
        check(|tls| tls.id_prefix = "spiffe://trivet.local/ns/trivet/sa/".to_owned(), &[]);
        check(|tls| tls.reload_ms = 49, &["tls.reload_ms"]);
        check(|tls| tls.reload_ms = 60_001, &["tls.reload_ms"]);
    }
}
