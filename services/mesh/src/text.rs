//! Free text as it comes in: trimmed, bounded, and without characters that no store or terminal should see.

/// Why a text is refused. Reads as the continuation of a field's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing but white space where something must stand.
    #[error("must not be blank")]
    Blank,
    /// More characters than the field holds.
    #[error("has {found} characters, at most {limit} are allowed")]
    TooLong {
        /// How many were given.
        found: usize,
        /// How many may be.
        limit: usize,
    },
    /// NUL, which PostgreSQL cannot keep, or another control character, which turns terminals and logs against their reader.
    #[error("holds the control character {0:?}")]
    Control(char),
    /// Not of the form the field asks for.
    #[error("must be {0}")]
    Form(&'static str),
}

/// One line of text, trimmed: 1 to `limit` characters.
pub fn line(text: &str, limit: usize) -> Result<String, Fault> {
    let text = optional_line(text, limit)?;
    if text.is_empty() { Err(Fault::Blank) } else { Ok(text) }
}

/// One line of text, trimmed: at most `limit` characters; empty means none.
pub fn optional_line(text: &str, limit: usize) -> Result<String, Fault> {
    bounded(text.trim(), limit, |_| false)
}

/// Text of several lines, kept as it is: at most `limit` characters; line feeds and tabs are welcome.
pub fn paragraph(text: &str, limit: usize) -> Result<String, Fault> {
    bounded(text, limit, |found| matches!(found, '\n' | '\t'))
}

fn bounded(text: &str, limit: usize, welcome: fn(char) -> bool) -> Result<String, Fault> {
    let found = text.chars().count();
    if found > limit {
        return Err(Fault::TooLong { found, limit });
    }
    match text.chars().find(|found| found.is_control() && !welcome(*found)) {
        Some(control) => Err(Fault::Control(control)),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_trimmed_bounded_and_free_of_control_characters() {
        assert_eq!(line("  Ada Lovelace ", 200).unwrap(), "Ada Lovelace");
        assert_eq!(line(" \t ", 200).unwrap_err(), Fault::Blank);
        assert_eq!(line("ééé", 2).unwrap_err(), Fault::TooLong { found: 3, limit: 2 });
        assert_eq!(line("a\0b", 200).unwrap_err(), Fault::Control('\0'));
        assert_eq!(line("a\nb", 200).unwrap_err(), Fault::Control('\n'));
        assert_eq!(optional_line("", 200).unwrap(), "");
        assert_eq!(paragraph("a\n\tb", 200).unwrap(), "a\n\tb");
        assert_eq!(paragraph("a\u{1b}[31m", 200).unwrap_err(), Fault::Control('\u{1b}'));
    }
}
