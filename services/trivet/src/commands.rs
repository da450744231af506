//! What the binary can be told to do.

mod events;
mod health;
mod migrate;
mod serve;
mod settings;
mod status;

pub use events::{EventsCommand, events};
pub use health::health;
pub use migrate::{migrate_status, migrate_up};
pub use serve::{Show, serve};
pub use settings::{explain, manual, show};
pub use status::status;

use std::net::{IpAddr, SocketAddr};

use mesh::Target;

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
