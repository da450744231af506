//! Who may make which call. What an rpc needs is said here once, for all of the contract; what nothing is said of is for
//! operators. `tests/house/identity/matrix.txt` of the binary states the outcome for every rpc and every kind of caller.

use std::sync::Arc;

use trivet_proto::{Idempotency, Method};

use crate::{Tenant, identity::WHOLE};

/// What a caller must be, or have, to make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needed {
    /// Nothing: it says no more than whether the service is there.
    Nothing,
    /// This scope, or the one that includes it.
    Scope(Scope),
    /// A service of the house.
    House,
    /// An operator.
    Operator,
}

/// What an API key or a workload may do: of one service the rpcs without side effects, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    service: &'static str,
    writes: bool,
}

/// What a caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// Everything.
    All,
    /// What a service of the house, or a process with all of them, asks of the others.
    House(&'static str),
    /// What these scopes are for.
    Scopes(Arc<[Scope]>),
}

/// For whom a caller may act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tenants {
    /// For whomever it names, else for the default tenant.
    Any,
    /// For this one.
    One(Tenant),
}

/// What a caller may do, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(super) rights: Rights,
    pub(super) tenants: Tenants,
}

impl Grant {
    /// These rights, for everybody.
    pub(super) const fn for_any(rights: Rights) -> Self {
        Self { rights, tenants: Tenants::Any }
    }

    /// What these scopes are for, for these tenants.
    pub(super) fn of(scopes: impl IntoIterator<Item = Scope>, tenants: Tenants) -> Self {
        Self { rights: Rights::Scopes(scopes.into_iter().collect()), tenants }
    }
}

/// The services of the contract, which scopes are named after.
const SERVICES: [&str; 3] = ["account", "product", "billing"];

/// What the services ask of each other.
const HOUSE: [(&str, &[&str]); 3] = [
    (
        "account",
        &["/trivet.billing.v1.WalletService/GetWallet", "/trivet.product.v1.SubscriptionService/ListSubscriptions"],
    ),
    (
        "product",
        &[
            "/trivet.account.v1.AccountService/GetAccount",
            "/trivet.account.v1.OrganizationService/CheckMembership",
            "/trivet.billing.v1.WalletService/GetWallet",
        ],
    ),
    ("billing", &["/trivet.account.v1.AccountService/GetAccount"]),
];

/// Rpcs, or all of a service, that need something else than a scope. The first that fits counts.
const OTHERS: [(&str, Needed); 8] = [
    // Load balancers know nobody.
    ("/grpc.health.v1.Health/", Needed::Nothing),
    // The contract is public, and yet nobody needs to ask a server for it in production.
    ("/grpc.reflection.", Needed::Operator),
    ("/trivet.mesh.v1.StatusService/", Needed::House),
    ("/trivet.mesh.v1.", Needed::Operator),
    ("/trivet.account.v1.ApiKeyService/AuthenticateApiKey", Needed::House),
    // Who makes keys has all that a key may have.
    ("/trivet.account.v1.ApiKeyService/", Needed::Operator),
    ("/trivet.account.v1.TenantService/", Needed::Operator),
    // It reads all of a ledger, two at once in a process, and what it finds freezes wallets.
    ("/trivet.billing.v1.LedgerService/VerifyLedger", Needed::Operator),
];

/// What a call of this path needs.
pub(super) fn needed(path: &str) -> Needed {
    if let Some((_, needed)) = OTHERS.iter().find(|(start, _)| path.starts_with(start)) {
        return *needed;
    }
    trivet_proto::method(path).and_then(Scope::of).map_or(Needed::Operator, Needed::Scope)
}

impl Scope {
    /// The scope that is needed for an rpc of a service.
    fn of(method: &Method) -> Option<Self> {
        let package = method.path.strip_prefix("/trivet.")?.split('.').next()?;
        let service = SERVICES.into_iter().find(|service| *service == package)?;
        Some(Self { service, writes: method.idempotency != Idempotency::NoSideEffects })
    }

    /// The scope with this name, `billing.write`.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (service, what) = name.split_once('.')?;
        let service = SERVICES.into_iter().find(|known| *known == service)?;
        let writes = match what {
            "read" => false,
            "write" => true,
            _ => return None,
        };
        Some(Self { service, writes })
    }

    fn includes(self, other: Self) -> bool {
        self.service == other.service && (self.writes || !other.writes)
    }
}

impl Rights {
    /// The service of the house with this name; `None` where there is no such service.
    pub(super) fn of_house(name: &str) -> Option<&'static str> {
        HOUSE.into_iter().map(|(service, _)| service).chain([WHOLE]).find(|service| *service == name)
    }

    /// Whether they are enough for a call of this path.
    pub(super) fn allow(&self, path: &str) -> bool {
        match (self, needed(path)) {
            (Self::All, _) | (_, Needed::Nothing) | (Self::House(_), Needed::House) => true,
            (Self::House(name), _) => {
                HOUSE.iter().any(|(service, asked)| (service == name || *name == WHOLE) && asked.contains(&path))
            }
            (Self::Scopes(scopes), Needed::Scope(needed)) => scopes.iter().any(|scope| scope.includes(needed)),
            (Self::Scopes(_), Needed::House | Needed::Operator) => false,
        }
    }
}

impl std::fmt::Display for Needed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("nothing"),
            Self::Scope(Scope { service, writes }) => {
                write!(formatter, "{service}.{}", if *writes { "write" } else { "read" })
            }
            Self::House => formatter.write_str("a service of the house"),
            Self::Operator => formatter.write_str("an operator"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_the_house_is_said_of_rpcs_that_there_are() {
        for path in HOUSE.iter().flat_map(|(_, asked)| *asked) {
            assert!(trivet_proto::method(path).is_some(), "{path}");
        }
        for (start, _) in OTHERS.iter().filter(|(start, _)| start.starts_with("/trivet.")) {
            assert!(trivet_proto::METHODS.iter().any(|method| method.path.starts_with(start)), "{start}");
        }
    }

    #[test]
    fn what_nothing_is_said_of_is_for_operators() {
        for path in
            ["/", "/trivet.billing.v1.BillingService/Nothing", "/other.v1.Service/Call", "/trivet.mesh.v1.New/Call"]
        {
            assert_eq!(needed(path), Needed::Operator, "{path}");
            assert!(Rights::All.allow(path) && !Rights::House(WHOLE).allow(path), "{path}");
        }
    }

    #[test]
    fn writing_includes_reading_and_never_another_service() {
        let rights = |names: &[&str]| Rights::Scopes(names.iter().filter_map(|name| Scope::parse(name)).collect());
        let (get, take) = ("/trivet.billing.v1.WalletService/GetWallet", "/trivet.billing.v1.BillingService/Deduct");
        assert!(rights(&["billing.write"]).allow(get) && rights(&["billing.write"]).allow(take));
        assert!(rights(&["billing.read"]).allow(get) && !rights(&["billing.read"]).allow(take));
        assert!(!rights(&["account.write", "product.write"]).allow(get));
        assert!(!rights(&[]).allow(get));
        assert!(
            ["billing", "billing.", "billing.delete", "mesh.read", ".read", "BILLING.read"]
                .iter()
                .all(|name| Scope::parse(name).is_none())
        );
    }
}
