//! What the binary can be told to do.

mod certs;
mod check;
mod events;
mod health;
mod migrate;
mod observe;
mod output;
mod serve;
mod service;
mod settings;
mod status;

pub use certs::{CertsCommand, certs};
pub use check::{CheckArguments, check};
pub use events::{EventsCommand, events};
pub use health::health;
pub use migrate::{migrate_status, migrate_up};
pub use observe::{Look, TapArguments, edges, stat, tap, trace};
pub use serve::{Show, serve};
pub use settings::{explain, manual, show};
pub use status::status;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use mesh::{CallSettings, Clock, Peer, Target, Telemetry, Tls};
use tonic::Status;

use crate::Config;

/// Writes to standard output. A reader that has gone away has heard enough.
pub fn say(text: &str) -> std::io::Result<()> {
    use std::io::{ErrorKind, Write as _};

    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// The exit code of a command that failed so: 64 and the gRPC code of the call that failed, which is what grpcurl exits
/// with; 1 where it was no call.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    /// No command of a shell or of the system ends in these.
    const CALLS: u8 = 64;
    let code = error.chain().find_map(|cause| cause.downcast_ref::<Status>()).map(|status| i32::from(status.code()));
    code.and_then(|code| u8::try_from(code).ok()).map_or(1, |code| CALLS.saturating_add(code))
}

/// A port of this machine's own process.
fn here(config: &Config, port: u16) -> Target {
    let host = config.server.host;
    let host = if host.is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { host };
    Target::from(SocketAddr::from((host, port)))
}

/// Whoever is there, to be asked over TLS where the settings have it.
async fn peer(config: &Config, name: &'static str, target: &Target, patience: Duration) -> anyhow::Result<Peer> {
    let telemetry = Arc::new(Telemetry::quiet()?);
    let tls = Tls::load(&config.tls, &Clock::system(), &telemetry).await.context("TLS cannot be had")?;
    let settings = CallSettings { default_deadline: patience, ..CallSettings::default() };
    Ok(Peer::over(tls.map(|tls| tls.toward_anybody()), name, target, telemetry, settings))
}
