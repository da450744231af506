//! Preferences on the wire.

use mesh::{
    Fields, Refusal, UserId,
    update::{Etag, Mask},
};
use trivet_proto::account::v1::{self as wire, UpdatePreferencesRequest};

use super::{Change, Language, Preferences, Theme, Timezone};

const PATHS: &[&str] = &["timezone", "language", "theme", "notification_email", "notification_push"];

/// Whose preferences, and what of them.
pub(crate) fn change(asked: &UpdatePreferencesRequest) -> Result<(UserId, Change), Refusal> {
    let given = asked.preferences.clone().unwrap_or_default();
    let present = [
        given.timezone.is_some(),
        given.language.is_some(),
        given.theme.is_some(),
        given.notification_email.is_some(),
        given.notification_push.is_some(),
    ];
    let present: Vec<&str> = PATHS.iter().zip(present).filter(|(_, set)| *set).map(|(path, _)| *path).collect();
    let mask = Mask::read(asked.update_mask.as_ref(), PATHS, &present);
    let sets = |path| mask.as_ref().is_ok_and(|mask| mask.has(path));
    // What the mask names and the request leaves out goes back to what it was at first.
    let first = Preferences::default();
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let timezone = sets("timezone").then(|| given.timezone.as_deref().map_or(Ok(first.timezone), Timezone::parse));
    let timezone = fields.read("preferences.timezone", timezone.transpose());
    let language = sets("language").then(|| given.language.as_deref().map_or(Ok(first.language), Language::parse));
    let language = fields.read("preferences.language", language.transpose());
    let theme = sets("theme").then(|| given.theme.map_or(Ok(first.theme), theme));
    let theme = fields.read("preferences.theme", theme.transpose());
    if let (Err(refusal), true) = (&mask, fields.is_faulty()) {
        fields.absorb(refusal);
    }
    let (user_id, timezone, language, theme) = fields.finish((user_id, timezone, language, theme))?;
    let mask = mask?;
    let sets = |path, given: Option<bool>, first| mask.has(path).then(|| given.unwrap_or(first));
    let change = Change {
        timezone,
        language,
        theme,
        notification_email: sets("notification_email", given.notification_email, first.notification_email),
        notification_push: sets("notification_push", given.notification_push, first.notification_push),
        etag: Etag::parse_optional(&asked.etag),
    };
    Ok((user_id, change))
}

fn theme(asked: i32) -> Result<Theme, &'static str> {
    match wire::Theme::try_from(asked) {
        Ok(wire::Theme::Light) => Ok(Theme::Light),
        Ok(wire::Theme::Dark) => Ok(Theme::Dark),
        Ok(wire::Theme::Auto) => Ok(Theme::Auto),
        Ok(wire::Theme::Unspecified) | Err(_) => Err("must be LIGHT, DARK or AUTO"),
    }
}

impl From<Preferences> for wire::Preferences {
    fn from(preferences: Preferences) -> Self {
        let theme = match preferences.theme {
            Theme::Light => wire::Theme::Light,
            Theme::Dark => wire::Theme::Dark,
            Theme::Auto => wire::Theme::Auto,
        };
        Self {
            timezone: Some(preferences.timezone.as_str().to_owned()),
            language: Some(preferences.language.as_str().to_owned()),
            theme: Some(theme.into()),
            notification_email: Some(preferences.notification_email),
            notification_push: Some(preferences.notification_push),
        }
    }
}
