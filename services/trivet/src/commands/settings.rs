//! `trivet config` and `trivet explain`: what can be set, what is set, and what a refusal means.

use std::fmt::Write as _;

use anyhow::Context as _;
use mesh::{Reason, config::manual as settings};

use crate::Config;

/// The settings in force, as a file that could set them; secrets are `***`.
pub fn show(config: &Config) -> anyhow::Result<String> {
    Ok(toml::to_string(config)?)
}

/// Every setting with its default, as the table in deploy/README.md.
pub fn manual() -> String {
    let mut table = "| setting | variable | default | what it does |\n|---|---|---|---|\n".to_owned();
    for setting in settings::<Config>() {
        let _ = writeln!(
            table,
            "| `{}` | `{}` | `{}` | {} |",
            setting.key,
            setting.variable(),
            setting.default,
            setting.doc.replace('|', "\\|")
        );
    }
    table
}

/// What a reason means, and its code; all of them without a name.
pub fn explain(name: Option<&str>) -> anyhow::Result<String> {
    let reasons = match name {
        Some(name) => {
            let reason = Reason::from_name(&name.to_uppercase());
            vec![reason.with_context(|| format!("{name} is not a reason; trivet explain lists them"))?]
        }
        None => Reason::ALL.to_vec(),
    };
    let mut text = String::new();
    for reason in reasons {
        let _ = writeln!(text, "{} ({:?})\n    {}", reason.name(), reason.code(), reason.meaning());
    }
    Ok(text)
}
