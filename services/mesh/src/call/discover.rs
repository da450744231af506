//! Where a service's endpoints are: a list of `host:port`, each host an address or a DNS name. A headless service of
//! Kubernetes is one name with an address per replica.

use std::{collections::BTreeSet, fmt, net::SocketAddr, str::FromStr};

/// The endpoints of a service, as they are written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Vec<String>);

/// Why a target cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a list of host:port")]
pub struct TargetFault(String);

impl FromStr for Target {
    type Err = TargetFault;

    /// Reads `host:port[,host:port ..]`; a leading `http://` or `dns:///` is welcome.
    fn from_str(text: &str) -> Result<Self, TargetFault> {
        let fault = || TargetFault(text.to_owned());
        let plain = |entry: &str| {
            let entry = entry.trim().trim_start_matches("http://").trim_start_matches("dns:///").trim_end_matches('/');
            let (host, port) = entry.rsplit_once(':')?;
            (!host.is_empty() && port.parse::<u16>().is_ok()).then(|| entry.to_owned())
        };
        let parts: Option<Vec<String>> = text.split(',').map(plain).collect();
        parts.map(Self).ok_or_else(fault)
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self(vec![address.to_string()])
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join(","))
    }
}

impl Target {
    /// The addresses as they are now. Names that do not resolve are left out; `None` where nothing resolves.
    pub(super) async fn resolve(&self) -> Option<BTreeSet<SocketAddr>> {
        let mut addresses = BTreeSet::new();
        for part in &self.0 {
            match tokio::net::lookup_host(part.as_str()).await {
                Ok(found) => addresses.extend(found),
                Err(error) => tracing::warn!(error = %error, "{part} does not resolve: {error}"),
            }
        }
        (!addresses.is_empty()).then_some(addresses)
    }

    /// Whether looking again could find something else.
    pub(super) fn may_change(&self) -> bool {
        self.0.iter().any(|part| part.parse::<SocketAddr>().is_err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(text.parse::<Target>().ok().map(|target| target.to_string()).as_deref(), expected, "{text}");
    }

    #[test]
    fn a_target_is_a_list_of_hosts_with_ports() {
        check("127.0.0.1:8202", Some("127.0.0.1:8202"));
        check("http://account:8202/", Some("account:8202"));
        check("dns:///account-headless:8202, [::1]:8202", Some("account-headless:8202,[::1]:8202"));
        for garbled in ["", "account", ":8202", "account:http", "account:99999", "a:1,,b:2"] {
            check(garbled, None);
        }
    }
}
