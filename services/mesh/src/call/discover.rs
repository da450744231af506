//! Where a service's endpoints are: a list of `host:port`, each host an address or a DNS name. A headless service of
//! Kubernetes is one name with an address per replica. Whatever else knows them (Consul, EndpointSlices) tells them through
//! a watch.

use std::{collections::BTreeSet, fmt, io, net::SocketAddr, str::FromStr, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// The endpoints of a service.
#[derive(Clone)]
pub struct Target(Source);

/// Looks one `host:port` up.
pub type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

#[derive(Clone)]
enum Source {
    /// As they are written down, and who knows where the names lead.
    Names(Vec<String>, Arc<Lookup>),
    /// As somebody tells them.
    Told(watch::Receiver<BTreeSet<SocketAddr>>),
}

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
        parts.map(|names| Self(Source::Names(names, system()))).ok_or_else(fault)
    }
}

/// The system's resolver: /etc/hosts and DNS.
fn system() -> Arc<Lookup> {
    Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host(name).await?.collect()) }))
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self(Source::Names(vec![address.to_string()], system()))
    }
}

impl From<watch::Receiver<BTreeSet<SocketAddr>>> for Target {
    /// The endpoints that are told now and later. Where none are told, the last ones stay.
    fn from(told: watch::Receiver<BTreeSet<SocketAddr>>) -> Self {
        Self(Source::Told(told))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Names(names, _) => formatter.write_str(&names.join(",")),
            Source::Told(told) => {
                let addresses: Vec<String> = told.borrow().iter().map(ToString::to_string).collect();
                formatter.write_str(&addresses.join(","))
            }
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Target({self})")
    }
}

impl Target {
    /// The same with names that are looked up otherwise than by the system.
    #[must_use]
    pub fn looked_up_by(self, lookup: Arc<Lookup>) -> Self {
        match self.0 {
            Source::Names(names, _) => Self(Source::Names(names, lookup)),
            told @ Source::Told(_) => Self(told),
        }
    }

    /// The addresses as they are now. Names that do not resolve are left out; `None` where nothing resolves.
    pub(super) async fn resolve(&self) -> Option<BTreeSet<SocketAddr>> {
        let mut addresses = BTreeSet::new();
        let (names, lookup) = match &self.0 {
            Source::Names(names, lookup) => (names, lookup),
            Source::Told(told) => {
                addresses.clone_from(&told.borrow());
                return (!addresses.is_empty()).then_some(addresses);
            }
        };
        for part in names {
            match lookup(part.clone()).await {
                Ok(found) => addresses.extend(found),
                Err(error) => tracing::warn!(error = %error, "{part} does not resolve: {error}"),
            }
        }
        (!addresses.is_empty()).then_some(addresses)
    }

    /// Who tells the endpoints, where somebody does.
    pub(super) fn told(&self) -> Option<watch::Receiver<BTreeSet<SocketAddr>>> {
        match &self.0 {
            Source::Names(..) => None,
            Source::Told(told) => Some(told.clone()),
        }
    }

    /// Whether looking again could find something else, without a word of it.
    pub(super) fn may_change(&self) -> bool {
        match &self.0 {
            Source::Names(names, _) => names.iter().any(|part| part.parse::<SocketAddr>().is_err()),
            Source::Told(_) => false,
        }
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
