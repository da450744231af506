//! Settings of who may call.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::super::allow::{Grant, Rights, Scope, Tenants};
use crate::{Tenant, TlsSettings, config::Faults, identity::SpiffeId};

/// What becomes of a call whose caller may not make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IdentityMode {
    /// `enforce` where TLS is set, else `off`.
    Auto,
    /// Everybody is an operator.
    Off,
    /// It is done all the same, by an operator, and the log says that it would be refused.
    Audit,
    /// It is refused.
    Enforce,
}

/// Settings of who may call, and how often.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct IdentitySettings {
    /// What becomes of calls whose caller may not make them: `enforce` refuses them; `audit` does them and logs what
    /// `enforce` would refuse; `off` takes everybody for an operator; `auto` is `enforce` where TLS is set, else `off`.
    pub mode: IdentityMode,
    /// The SPIFFE IDs of operators, who may do everything for every tenant; several with commas.
    pub operators: String,
    /// What other workloads may do: a SPIFFE ID, the tenant that it acts for or `*` for any, and scopes, as in
    /// `spiffe://trivet.local/shop acme billing.write product.read`; several with semicolons.
    pub workloads: String,
    /// How many calls a second one API key or workload may make. 0: as many as it likes.
    pub calls_per_second: u32,
    /// How many of them it may make at once. 0: as many as in one second.
    pub burst: u32,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self {
            mode: IdentityMode::Auto,
            operators: String::new(),
            workloads: String::new(),
            calls_per_second: 0,
            burst: 0,
        }
    }
}

/// Workloads that the settings name, and what they may do.
pub(crate) type Workloads = HashMap<SpiffeId, Grant>;

impl IdentitySettings {
    /// Everything that is wrong with them, beside these settings of TLS.
    pub fn faults(&self, tls: &TlsSettings) -> Vec<String> {
        self.read(tls).err().map(|Faults(faults)| faults).unwrap_or_default()
    }

    /// The workloads that they name, where nothing is wrong with them, beside these settings of TLS.
    pub(crate) fn read(&self, tls: &TlsSettings) -> Result<Workloads, Faults> {
        let mut faults = Vec::new();
        let workloads = self.workloads(&mut faults);
        let mut named: Vec<&SpiffeId> = workloads.keys().collect();
        named.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        if !tls.on() && !named.is_empty() {
            faults
                .push("identity.operators and identity.workloads need TLS: nobody else shows a certificate".to_owned());
        }
        for id in named {
            if id.trust_domain() != tls.trust_domain {
                faults.push(format!("identity names {id}, and tls.trust_domain is {:?}", tls.trust_domain));
            } else if id.as_str().strip_prefix(&*tls.prefix()).and_then(Rights::of_house).is_some() {
                faults.push(format!("identity names {id}, which is a service of the house and may do what that needs"));
            }
        }
        if self.calls_per_second > 0 && self.mode(tls.on()) == IdentityMode::Off {
            faults.push("identity.calls_per_second needs callers that are known, and identity.mode is off".to_owned());
        }
        if self.burst > 0 && self.calls_per_second == 0 {
            faults.push("identity.burst needs identity.calls_per_second".to_owned());
        }
        if faults.is_empty() { Ok(workloads) } else { Err(Faults(faults)) }
    }

    /// The mode, where there is TLS or not.
    pub(crate) const fn mode(&self, tls: bool) -> IdentityMode {
        match self.mode {
            IdentityMode::Auto if tls => IdentityMode::Enforce,
            IdentityMode::Auto => IdentityMode::Off,
            mode => mode,
        }
    }

    /// The workloads that are named; what cannot be read becomes a fault.
    fn workloads(&self, faults: &mut Vec<String>) -> Workloads {
        let mut workloads = Workloads::new();
        let mut add = |name: &str, id: &str, grant: Result<Grant, String>| match (id.parse::<SpiffeId>(), grant) {
            (Ok(known), Ok(grant)) => {
                if workloads.insert(known, grant).is_some() {
                    faults.push(format!("identity.{name} names {id}, which is named before"));
                }
            }
            (Err(fault), _) => faults.push(format!("identity.{name} has {id:?}, which is no SPIFFE ID: {fault}")),
            (_, Err(fault)) => faults.push(format!("identity.{name}: {id} {fault}")),
        };
        for id in parts(&self.operators, ',') {
            add("operators", id, Ok(Grant::for_any(Rights::All)));
        }
        for entry in parts(&self.workloads, ';') {
            let mut words = entry.split_ascii_whitespace();
            add("workloads", words.next().unwrap_or_default(), grant(words));
        }
        workloads
    }
}

fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    text.split(separator).map(str::trim).filter(|part| !part.is_empty())
}

/// What an entry says behind its id: the tenant and the scopes.
fn grant<'t>(mut words: impl Iterator<Item = &'t str>) -> Result<Grant, String> {
    let tenants = match words.next() {
        None => return Err("has no tenant: name one, or * for any".to_owned()),
        Some("*") => Tenants::Any,
        Some(tenant) => {
            Tenants::One(Tenant::parse(tenant).map_err(|fault| format!("has the tenant {tenant:?}, which {fault}"))?)
        }
    };
    let scope = |name: &str| {
        Scope::parse(name).ok_or_else(|| {
            format!("has the scope {name:?}, which is not account, product or billing, a dot, and read or write")
        })
    };
    let scopes = words.map(scope).collect::<Result<Vec<_>, _>>()?;
    if scopes.is_empty() { Err("has no scope".to_owned()) } else { Ok(Grant::of(scopes, tenants)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut IdentitySettings), expected: &[&str]) {
        let mut settings = IdentitySettings::default();
        change(&mut settings);
        let tls =
            TlsSettings { certificate: "a.pem".to_owned(), trust_domain: "td".to_owned(), ..TlsSettings::default() };
        let faults = settings.faults(&tls);
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.contains(expected), "{expected:?} is not in {fault:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_said_at_once() {
        let workloads =
            |text: &'static str| move |settings: &mut IdentitySettings| text.clone_into(&mut settings.workloads);
        check(|_| {}, &[]);
        check(workloads(" spiffe://td/shop acme billing.write product.read ;\n spiffe://td/bi * account.read; "), &[]);
        check(
            workloads(
                "td/a * billing.read; spiffe://td/a; spiffe://td/a acme; spiffe://td/a a/b x.read; spiffe://td/a * x.read",
            ),
            &["no SPIFFE ID", "has no tenant", "has no scope", "the tenant \"a/b\"", "the scope \"x.read\""],
        );
        let twice = |settings: &mut IdentitySettings| {
            "spiffe://td/ops, spiffe://td/ops".clone_into(&mut settings.operators);
            "spiffe://td/ops * billing.read".clone_into(&mut settings.workloads);
        };
        check(twice, &["identity.operators names spiffe://td/ops", "identity.workloads names spiffe://td/ops"]);
        check(|settings| settings.burst = 1, &["identity.burst"]);
        let not_theirs = |settings: &mut IdentitySettings| {
            "spiffe://td/trivet,spiffe://other/ops".clone_into(&mut settings.operators);
        };
        check(not_theirs, &["spiffe://other/ops, and tls.trust_domain", "spiffe://td/trivet, which is a service"]);
        let off = |settings: &mut IdentitySettings| {
            (settings.mode, settings.calls_per_second) = (IdentityMode::Off, 5);
        };
        check(off, &["identity.calls_per_second"]);
        let alone =
            IdentitySettings { operators: "spiffe://trivet.local/ops".to_owned(), ..IdentitySettings::default() };
        assert_eq!(alone.faults(&TlsSettings::default()).len(), 1, "without TLS nobody is one");
    }

    #[test]
    fn identities_count_as_soon_as_there_is_tls_unless_it_is_said_otherwise() {
        let mode = |mode, tls| IdentitySettings { mode, ..IdentitySettings::default() }.mode(tls);
        assert_eq!(mode(IdentityMode::Auto, true), IdentityMode::Enforce);
        assert_eq!(mode(IdentityMode::Auto, false), IdentityMode::Off);
        for asked in [IdentityMode::Off, IdentityMode::Audit, IdentityMode::Enforce] {
            assert!([true, false].iter().all(|tls| mode(asked, *tls) == asked));
        }
    }
}
