//! What the binary can be told to do.

mod certs;
mod events;
mod health;
mod migrate;
mod serve;
mod settings;
mod status;

pub use certs::{CertsCommand, certs};
pub use events::{EventsCommand, events};
pub use health::health;
pub use migrate::{migrate_status, migrate_up};
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
