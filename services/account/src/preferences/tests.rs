//! The rule of preferences, case by case.

use super::*;

#[test]
fn a_time_zone_is_one_of_ianas_by_its_own_name() {
    for (given, kept) in [
        ("Europe/Paris", Some("Europe/Paris")),
        ("europe/paris", Some("Europe/Paris")),
        ("UTC", Some("UTC")),
        ("America/Argentina/Ushuaia", Some("America/Argentina/Ushuaia")),
        ("Asia/Calcutta", Some("Asia/Calcutta")),
        ("Etc/GMT+5", Some("Etc/GMT+5")),
        ("Europe/Atlantis", None),
        ("+02:00", None),
        ("", None),
        ("../../etc/passwd", None),
        ("Europe/Paris\0", None),
    ] {
        assert_eq!(Timezone::parse(given).ok().as_ref().map(Timezone::as_str), kept, "{given:?}");
    }
}

#[test]
fn a_language_is_a_tag_of_registered_subtags_in_canonical_form() {
    for (given, kept) in [
        ("en", Ok("en")),
        ("EN-us", Ok("en-US")),
        ("zh-hant-tw", Ok("zh-Hant-TW")),
        ("iw", Ok("he")),
        ("de-DE-u-co-phonebk", Ok("de-DE-u-co-phonebk")),
        ("xx", Err(UnknownLanguage::Subtag)),
        ("english", Err(UnknownLanguage::Subtag)),
        ("klingonese", Err(UnknownLanguage::Form)),
        ("en_US", Err(UnknownLanguage::Form)),
        ("", Err(UnknownLanguage::Form)),
        ("en-\0", Err(UnknownLanguage::Form)),
    ] {
        assert_eq!(Language::parse(given).as_ref().map(Language::as_str), kept.as_ref().copied(), "{given:?}");
    }
    assert_eq!(Language::parse(&format!("x{}", "-private".repeat(10))), Err(UnknownLanguage::TooLong));
}
