//! Preferences, as a settings page sees them.

use tonic::Code;
use trivet_proto::account::v1::{Preferences, Theme, UpdatePreferencesRequest};

use crate::harness::{faulty, on_every_store, person, reason};

fn set(preferences: Preferences, paths: &[&str]) -> UpdatePreferencesRequest {
    let paths = paths.iter().map(ToString::to_string).collect();
    UpdatePreferencesRequest {
        user_id: "ada".to_owned(),
        preferences: Some(preferences),
        update_mask: Some(prost_types::FieldMask { paths }),
        etag: String::new(),
    }
}

fn paris() -> Preferences {
    Preferences {
        timezone: Some("europe/paris".to_owned()),
        language: Some("FR-ca".to_owned()),
        theme: Some(Theme::Dark.into()),
        notification_email: Some(false),
        notification_push: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn preferences_merge_what_the_mask_names_or_without_one_what_is_set() {
    on_every_store(async |house| {
        let mut accounts = house.accounts();
        let first = accounts.ensure_account(person("ada")).await.unwrap().into_inner().account.unwrap();
        let begin = first.preferences.clone().unwrap();
        assert_eq!((begin.timezone(), begin.language(), begin.theme()), ("UTC", "en", Theme::Auto));
        assert_eq!((begin.notification_email, begin.notification_push), (Some(true), Some(true)));

        let merged = accounts.update_preferences(set(paris(), &[])).await.unwrap().into_inner().account.unwrap();
        let after = merged.preferences.unwrap();
        assert_eq!((after.timezone(), after.language(), after.theme()), ("Europe/Paris", "fr-CA", Theme::Dark));
        assert_eq!((after.notification_email, after.notification_push), (Some(false), Some(true)));
        assert_ne!(merged.etag, first.etag);

        // A field of the request that the mask leaves out stays; one that it names and that is not set begins anew.
        let light = Preferences { theme: Some(Theme::Light.into()), timezone: Some("UTC".to_owned()), ..paris() };
        let masked = accounts.update_preferences(set(light, &["theme"])).await.unwrap().into_inner().account.unwrap();
        let masked = masked.preferences.unwrap();
        assert_eq!((masked.theme(), masked.timezone()), (Theme::Light, "Europe/Paris"));
        let reset = set(Preferences::default(), &["timezone", "notification_email"]);
        let reset = accounts.update_preferences(reset).await.unwrap().into_inner().account.unwrap();
        let reset = reset.preferences.unwrap();
        assert_eq!((reset.timezone(), reset.language(), reset.notification_email), ("UTC", "fr-CA", Some(true)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_time_zones_and_languages_are_refused_at_once_and_change_nothing() {
    on_every_store(async |house| {
        let mut accounts = house.accounts();
        let first = accounts.ensure_account(person("ada")).await.unwrap().into_inner().account.unwrap();
        let unknown = Preferences {
            timezone: Some("Europe/Atlantis".to_owned()),
            language: Some("klingonese".to_owned()),
            theme: Some(77),
            ..paris()
        };
        let refused = accounts.update_preferences(set(unknown, &[])).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_FIELDS"));
        assert_eq!(faulty(&refused), ["preferences.timezone", "preferences.language", "preferences.theme"]);
        let now = accounts.ensure_account(person("ada")).await.unwrap().into_inner().account.unwrap();
        assert_eq!(now, first);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_preferences_names_bare_paths_and_at_least_one() {
    on_every_store(async |house| {
        let mut accounts = house.accounts();
        accounts.ensure_account(person("ada")).await.unwrap();
        for paths in [&["*"][..], &["preferences.theme"], &["name"], &["theme", "thme"]] {
            let refused = accounts.update_preferences(set(paris(), paths)).await.unwrap_err();
            assert_eq!(reason(&refused), "INVALID_UPDATE_MASK", "{paths:?}");
            assert_eq!(faulty(&refused), ["update_mask"]);
        }
        let nothing = UpdatePreferencesRequest { user_id: "ada".to_owned(), ..UpdatePreferencesRequest::default() };
        assert_eq!(reason(&accounts.update_preferences(nothing).await.unwrap_err()), "INVALID_UPDATE_MASK");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_etag_or_a_missing_account_changes_no_preferences() {
    on_every_store(async |house| {
        let mut accounts = house.accounts();
        let etag = accounts.ensure_account(person("ada")).await.unwrap().into_inner().account.unwrap().etag;
        let update = |etag: &str| UpdatePreferencesRequest { etag: etag.to_owned(), ..set(paris(), &[]) };
        accounts.update_preferences(update(&etag)).await.unwrap();
        assert_eq!(reason(&accounts.update_preferences(update(&etag)).await.unwrap_err()), "ETAG_MISMATCH");
        let nobody = UpdatePreferencesRequest { user_id: "nobody".to_owned(), ..update("") };
        assert_eq!(reason(&accounts.update_preferences(nobody).await.unwrap_err()), "ACCOUNT_NOT_FOUND");
    })
    .await;
}
