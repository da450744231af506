//! `trivet check`: whether everything is as it should be, service by service, each with what can be done about it.

mod look;

use std::fmt::Write as _;

use anyhow::bail;
use clap::Args;
use futures_util::future::join_all;
use mesh::Tenant;
use serde::Serialize;

use super::{output::Output, say, service::services};
use crate::Config;

/// What to check, and how to show it.
#[derive(Args)]
pub struct CheckArguments {
    /// host:port of one service; all three where it is left out.
    #[arg(long)]
    address: Option<String>,
    /// How to show it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Success,
    Warning,
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    description: String,
    result: Verdict,
    /// What is wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    /// What can be done about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    hint: String,
}

/// What was looked at in one service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Category {
    category_name: String,
    checks: Vec<Check>,
}

/// All of it.
#[derive(Serialize)]
struct Report {
    success: bool,
    categories: Vec<Category>,
}

impl Check {
    fn well(description: impl Into<String>) -> Self {
        let description = description.into();
        Self { description, result: Verdict::Success, message: String::new(), hint: String::new() }
    }

    fn warning(self, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { result: Verdict::Warning, message: message.into(), hint: hint.into(), ..self }
    }

    fn error(self, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { result: Verdict::Error, message: message.into(), hint: hint.into(), ..self }
    }
}

/// Checks all services at the same time. An error is anything that is not as it must be.
pub async fn check(config: &Config, arguments: &CheckArguments) -> anyhow::Result<()> {
    let services = services(config, arguments.address.as_deref(), &Tenant::default_tenant()).await?;
    let looks = services
        .iter()
        .map(async |service| Category { category_name: service.name.clone(), checks: look::look(service).await });
    let categories = join_all(looks).await;
    let success = categories.iter().flat_map(|category| &category.checks).all(|check| check.result != Verdict::Error);
    let report = Report { success, categories };
    say(&match arguments.output {
        Output::Table => lines(&report),
        Output::Json => serde_json::to_string_pretty(&report)? + "\n",
        Output::Jsonl => {
            let lines = report.categories.iter().map(|category| Ok(serde_json::to_string(category)? + "\n"));
            lines.collect::<anyhow::Result<String>>()?
        }
    })?;
    if success { Ok(()) } else { bail!("not everything is as it must be") }
}

/// A line for each check, and what can be done where something is wrong.
fn lines(report: &Report) -> String {
    let mut text = String::new();
    for Category { category_name, checks } in &report.categories {
        let _ = writeln!(text, "{category_name}\n{}", "-".repeat(category_name.chars().count()));
        for Check { description, result, message, hint } in checks {
            let _ = writeln!(text, "{} {description}", mark(*result));
            let further = [message.clone(), if hint.is_empty() { String::new() } else { format!("hint: {hint}") }];
            for line in further.iter().filter(|line| !line.is_empty()) {
                let _ = writeln!(text, "    {}", line.replace(char::is_control, "\u{fffd}"));
            }
        }
        text.push('\n');
    }
    let verdict = if report.success { Verdict::Success } else { Verdict::Error };
    let _ = writeln!(text, "Status check results are {}", mark(verdict));
    text
}

fn mark(verdict: Verdict) -> char {
    match verdict {
        Verdict::Success => '√',
        Verdict::Warning => '‼',
        Verdict::Error => '×',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_what_can_be_done() {
        let checks = vec![
            Check::well("is ready"),
            Check::well("events").warning("NATS is away", "look at it"),
            Check::well("database").error("the database cannot be asked", ""),
        ];
        let categories = vec![Category { category_name: "account".to_owned(), checks }];
        assert_eq!(
            lines(&Report { success: false, categories }),
            "\
account
-------
√ is ready
‼ events
    NATS is away
    hint: look at it
× database
    the database cannot be asked

Status check results are ×
"
        );
    }
}
