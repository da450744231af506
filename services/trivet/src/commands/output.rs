//! How a command shows what it found: a table for people, JSON for programs.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde::Serialize;

/// How to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Columns, for people.
    Table,
    /// One JSON array.
    Json,
    /// One JSON object per line.
    Jsonl,
}

/// Something that a line is shown of.
pub(super) trait Shown<const COLUMNS: usize>: Serialize {
    const HEADER: [&'static str; COLUMNS];

    fn cells(&self) -> [String; COLUMNS];
}

impl Output {
    /// All of them, in this form.
    pub(super) fn show<const COLUMNS: usize, T: Shown<COLUMNS>>(self, all: &[T]) -> anyhow::Result<String> {
        match self {
            Self::Table => Ok(table(T::HEADER, all.iter().map(Shown::cells).collect())),
            Self::Json => Ok(serde_json::to_string_pretty(all)? + "\n"),
            Self::Jsonl => all.iter().map(|one| Ok(serde_json::to_string(one)? + "\n")).collect(),
        }
    }
}

/// Columns as wide as what is in them. What others wrote does not steer the terminal.
pub(super) fn table<const COLUMNS: usize>(header: [&str; COLUMNS], rows: Vec<[String; COLUMNS]>) -> String {
    let plain = |text: String| text.replace(char::is_control, "\u{fffd}");
    let rows: Vec<_> = std::iter::once(header.map(str::to_owned)).chain(rows).map(|row| row.map(plain)).collect();
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = text.chars().count().max(*width);
        }
    }
    let mut lines = String::new();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(text, width)| format!("{text:<width$}")).collect();
        let _ = writeln!(lines, "{}", cells.join("  ").trim_end());
    }
    lines
}
