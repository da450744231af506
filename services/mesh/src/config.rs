//! One loader for all settings: defaults, then a file, then the environment, then flags. What is not a setting is
//! refused, with everything that is wrong named at once; what is one is documented where it is declared.

use std::{fmt, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value as Json;
use toml::{Table, Value};

/// The prefix of every variable that is a setting: `billing.port` is `TRIVET_BILLING_PORT`.
pub const PREFIX: &str = "TRIVET_";
/// Variables that tests are steered with; they set nothing.
const TEST_PREFIX: &str = "TRIVET_TEST_";

/// A setting that is never shown: it prints as `***`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for the one who uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.shown())
    }
}

impl Secret {
    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { "***" }
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

/// Where settings come from, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `key=value` pairs that a command prefers to the defaults, and that everything else wins over.
    pub preferences: Vec<(&'static str, String)>,
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// The environment; only what begins with [`PREFIX`] counts.
    pub environment: Vec<(String, String)>,
    /// `key=value` pairs of the command line, such as `billing.port=9216`.
    pub flags: Vec<(String, String)>,
}

/// Everything that is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("the settings cannot be used:\n  {}", .0.join("\n  "))]
pub struct Faults(pub Vec<String>);

/// One setting, as the manual lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key, `billing.port`.
    pub key: String,
    /// Its value without any source, as TOML; secrets are empty.
    pub default: String,
    /// What it does.
    pub doc: String,
}

impl Setting {
    /// The variable that sets it.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.key.to_uppercase().replace('.', "_"))
    }
}

/// Loads settings; every fault of every source is reported.
pub fn load<T: Serialize + DeserializeOwned + JsonSchema + Default>(sources: &Sources) -> Result<T, Faults> {
    let defaults = Table::try_from(T::default()).map_err(|error| Faults(vec![error.to_string()]))?;
    let settings = manual::<T>();
    let mut faults = Vec::new();
    let mut chosen: Vec<(String, Value, String)> = Vec::new();
    for (key, text) in &sources.preferences {
        chosen.push(((*key).to_owned(), typed(&defaults, key, text), (*key).to_owned()));
    }
    if let Some(path) = &sources.file {
        match read(path) {
            Ok(table) => flatten("", &table, &mut |key, value| {
                chosen.push((key.to_owned(), value.clone(), format!("{key} in {}", path.display())));
            }),
            Err(fault) => faults.push(fault),
        }
    }
    let ours = |name: &str| name.starts_with(PREFIX) && !name.starts_with(TEST_PREFIX);
    for (name, text) in sources.environment.iter().filter(|(name, _)| ours(name)) {
        match settings.iter().find(|setting| setting.variable() == *name) {
            Some(setting) => chosen.push((setting.key.clone(), typed(&defaults, &setting.key, text), name.clone())),
            None => faults.push(format!("{name} is not a setting")),
        }
    }
    for (key, text) in &sources.flags {
        chosen.push((key.clone(), typed(&defaults, key, text), format!("--set {key}")));
    }
    let mut table = defaults.clone();
    for (key, value, origin) in chosen {
        if !settings.iter().any(|setting| setting.key == key) {
            faults.push(format!("{origin} is not a setting"));
            continue;
        }
        // Alone on the defaults, so that one bad value does not hide the next.
        let mut alone = defaults.clone();
        put(&mut alone, &key, value.clone());
        match alone.try_into::<T>() {
            Ok(_) => put(&mut table, &key, value),
            Err(error) => faults.push(format!("{origin}: {}", error.message())),
        }
    }
    if !faults.is_empty() {
        return Err(Faults(faults));
    }
    table.try_into().map_err(|error| Faults(vec![error.to_string()]))
}

/// The manual: every setting with its default and its documentation, by key.
pub fn manual<T: Serialize + JsonSchema + Default>() -> Vec<Setting> {
    let schema = schemars::generate::SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    let schema = schema.into_generator().into_root_schema_for::<T>().to_value();
    let defaults = Table::try_from(T::default()).unwrap_or_default();
    let mut settings = Vec::new();
    flatten("", &defaults, &mut |key, value| {
        let path = key.replace('.', "/properties/");
        let doc = schema.pointer(&format!("/properties/{path}/description")).and_then(Json::as_str).unwrap_or_default();
        settings.push(Setting { key: key.to_owned(), default: value.to_string(), doc: doc.replace('\n', " ") });
    });
    settings
}

fn read(path: &PathBuf) -> Result<Table, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    text.parse::<Table>().map_err(|error| format!("{}: {}", path.display(), error.message()))
}

/// Calls `leaf` for every value that is not itself a table.
fn flatten(prefix: &str, table: &Table, leaf: &mut impl FnMut(&str, &Value)) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) => flatten(&key, inner, leaf),
            value => leaf(&key, value),
        }
    }
}

/// A text of the environment or the command line, as the type that the setting's default has.
fn typed(defaults: &Table, key: &str, text: &str) -> Value {
    let mut parts = key.split('.');
    let first = parts.next().and_then(|part| defaults.get(part));
    let default = parts.fold(first, |value, part| value.and_then(|value| value.get(part)));
    let parsed = match default {
        Some(Value::Integer(_)) => text.parse().map(Value::Integer).ok(),
        Some(Value::Float(_)) => text.parse().map(Value::Float).ok(),
        Some(Value::Boolean(_)) => text.parse().map(Value::Boolean).ok(),
        _ => None,
    };
    // What does not parse stays text, and is refused as such where the setting is not one.
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(section) {
                put(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    struct Sample {
        /// Whether to.
        on: bool,
        part: Part,
    }

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    struct Part {
        /// Where it
        /// listens.
        port: u16,
        /// Hush.
        url: Secret,
    }

    impl Default for Sample {
        fn default() -> Self {
            Self { on: false, part: Part { port: 7, url: Secret::default() } }
        }
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn flags_win_over_the_environment_and_both_over_defaults() {
        let sources = Sources {
            environment: vec![
                pair("TRIVET_PART_PORT", "8"),
                pair("TRIVET_ON", "true"),
                pair("TRIVET_TEST_X", "y"),
                pair("HOME", "/"),
            ],
            flags: vec![pair("part.port", "9")],
            preferences: vec![("on", "false".to_owned()), ("part.url", "preferred".to_owned())],
            ..Sources::default()
        };
        let sample: Sample = load(&sources).unwrap();
        assert_eq!((sample.on, sample.part.port, sample.part.url.reveal()), (true, 9, "preferred"));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let sources = Sources {
            environment: vec![pair("TRIVET_PORT", "8"), pair("TRIVET_PART_PORT", "70000")],
            flags: vec![pair("on", "perhaps"), pair("part", "x")],
            ..Sources::default()
        };
        let Faults(faults) = load::<Sample>(&sources).unwrap_err();
        let of = |start: &str| faults.iter().any(|fault| fault.starts_with(start));
        assert_eq!(faults.len(), 4, "{faults:#?}");
        assert!(
            of("TRIVET_PORT is not a setting")
                && of("TRIVET_PART_PORT: ")
                && of("--set on: ")
                && of("--set part is not")
        );
    }

    #[test]
    fn a_secret_is_never_shown() {
        let sources = Sources { flags: vec![pair("part.url", "postgres://me:hush@db")], ..Sources::default() };
        let sample: Sample = load(&sources).unwrap();
        assert_eq!(sample.part.url.reveal(), "postgres://me:hush@db");
        let shown = format!("{sample:?} {}", toml::to_string(&sample).unwrap());
        assert!(!shown.contains("hush") && shown.contains("***"), "{shown}");
    }

    #[test]
    fn the_manual_is_made_from_the_declarations() {
        let manual = manual::<Sample>();
        assert_eq!(manual[1].key, "part.port");
        assert_eq!(manual[1].variable(), "TRIVET_PART_PORT");
        assert_eq!(manual[1].default, "7");
        assert_eq!(manual[1].doc, "Where it listens.");
    }
}
