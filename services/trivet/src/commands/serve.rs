//! `trivet dev` and `trivet serve`: run roles until told to go.

use std::{fmt::Write as _, time::Instant};

use anyhow::Context as _;
use mesh::{Clock, Running, Telemetry};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use crate::{Config, RoleName, commands::say, plan};

/// How a process says that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// A block of addresses for the person at the terminal.
    Block,
    /// A line in the log.
    Line,
}

/// Serves these roles until SIGTERM or SIGINT; a second one forces the end.
pub async fn serve(config: &Config, roles: &[RoleName], show: Show) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut signals = Signals::listen().context("signals cannot be heard")?;
    let name = match roles {
        [only] => format!("trivet-{}", only.as_str()),
        _ => "trivet".to_owned(),
    };
    let telemetry = Telemetry::install(&config.telemetry, &name)?;
    let bound = plan(config, roles, telemetry, Clock::system())?.bind().await?;
    let running = tokio::select! {
        started = bound.start() => started?,
        () = signals.next() => {
            info!("Told to go before being ready");
            return Ok(());
        }
    };
    let took = began.elapsed().as_millis();
    match show {
        Show::Block => say(&block(config, &running, took))?,
        Show::Line => {
            let addresses: Vec<_> =
                running.addresses.iter().map(|(name, address)| format!("{name} {address}")).collect();
            info!("Ready in {took} ms: {}, admin {}", addresses.join(", "), running.admin);
        }
    }
    signals.next().await;
    running.drain(signals.next()).await;
    Ok(())
}

/// The addresses, aligned, with what keeps their rows.
fn block(config: &Config, running: &Running, took: u128) -> String {
    let mut text = format!("trivet {}, ready in {took} ms\n\n", env!("CARGO_PKG_VERSION"));
    for name in RoleName::ALL {
        let Some(address) = running.addresses.get(name.as_str()) else { continue };
        let rows = name.config(config).location(name.as_str(), &config.data_dir);
        let rows = rows.map(|location| location.to_string()).unwrap_or_default();
        let _ = writeln!(text, "  {:<8} {:<22} {rows}", name.as_str(), address.to_string());
    }
    let _ = writeln!(text, "  {:<8} {:<22} /readyz /livez /metrics", "admin", running.admin.to_string());
    if let Some(billing) = running.addresses.get("billing") {
        // Who calls is an operator, and their certificate is not ours.
        let tls = config.tls.on().then(|| format!("-cacert {} -cert CERTIFICATE -key KEY", config.tls.trust_bundle));
        let how = tls.unwrap_or_else(|| "-plaintext".to_owned());
        let _ = writeln!(text, "\n  grpcurl {how} {billing} list");
    }
    text
}

/// The signals that tell a process to go.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
