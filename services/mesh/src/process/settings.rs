//! Settings of a process.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Settings of the process itself.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServerSettings {
    /// The address that every port is bound on. Anything but loopback needs TLS, or `insecure`.
    pub host: IpAddr,
    /// The admin port: probes, metrics, health in plaintext.
    pub admin_port: u16,
    /// Says out loud that without TLS callers are neither encrypted nor known: the network around must be trusted.
    pub insecure: bool,
    /// How long a call may take whose caller names no deadline, in milliseconds. Shorter than `grace_ms`, so that a
    /// process that goes away cuts none of them off.
    pub deadline_ms: u64,
    /// How long a process that was told to go still takes new calls, in milliseconds: load balancers need to hear of it.
    pub announce_ms: u64,
    /// How long calls under way may then take before they are cut off, in milliseconds.
    pub grace_ms: u64,
    /// How old a connection gets before its caller is asked to open another one, in milliseconds, give or take a tenth, so
    /// that load spreads over replicas that came later. Calls under way on it have `grace_ms` to end. 0: no age is too old.
    pub connection_age_ms: u64,
    /// The origins whose pages may call by grpc-web, several with commas: `https://shop.example,http://localhost:3000`.
    /// Any other page is refused. Empty: no page may call, and HTTP/1.1 is not spoken.
    pub web_origins: String,
    /// Whether a read of another service that takes longer than 95 of 100 is asked of a second replica at the same time;
    /// whichever answers first counts. More calls for fewer slow ones.
    pub hedge_reads: bool,
    /// What goes wrong on purpose, to see what callers make of it: `Deduct=abort:UNAVAILABLE@10,GetAccount=delay:250@50`
    /// refuses 10 of a hundred calls and holds up 50 for 250 ms; `*` is every rpc. Not for production.
    pub faults: String,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            host: IpAddr::from([127, 0, 0, 1]),
            admin_port: 8200,
            insecure: false,
            deadline_ms: 15_000,
            announce_ms: 5_000,
            grace_ms: 20_000,
            connection_age_ms: 1_800_000,
            hedge_reads: false,
            web_origins: String::new(),
            faults: String::new(),
        }
    }
}
