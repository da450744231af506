//! What the binary can be told to do.

mod health;
mod migrate;
mod serve;
mod settings;

pub use health::health;
pub use migrate::{migrate_status, migrate_up};
pub use serve::{Show, serve};
pub use settings::{explain, manual, show};

/// Writes to standard output. A reader that has gone away has heard enough.
pub fn say(text: &str) -> std::io::Result<()> {
    use std::io::{ErrorKind, Write as _};

    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
