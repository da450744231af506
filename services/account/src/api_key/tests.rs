//! The rules of API keys, case by case.

use std::time::Duration;

use super::*;
use usage::CAPACITY;

/// The alphabet of secrets, and some of what is not in it.
const CHARACTERS: &str = "0123456789abcdefghjkmnpqrstvwxyziloAZ_- .";

fn secret(seed: u8) -> Secret {
    let key_id = Slug::parse("key_01h2xcejqtf2nbrexx3vqjhp41").unwrap();
    Secret::of(key_id, &std::array::from_fn(|place| seed.wrapping_add(u8::try_from(place).unwrap())))
}

fn text(seed: u8) -> String {
    secret(seed).reveal()
}

#[test]
fn a_secret_is_written_as_the_contract_says() {
    let secret = secret(0);
    // Computed with Python's zlib.crc32 and hashlib.sha256.
    let expected = "tvt_01h2xcejqtf2nbrexx3vqjhp410001081g81860w40j2gb1g6gw3rg2491650n2rbhg68t3ce1t7gz28ydde7";
    let digest: String = secret.digest().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "f9f69ffd76f0b7d7210884cfc9f73d7c95e10bbba575f9d32618c711c84b914d");
    assert_eq!(format!("{secret:?}"), "***");
    assert_eq!((expected.len(), secret.reveal().as_str()), (89, expected));
}

#[test]
fn a_fresh_secret_is_read_back_and_no_two_are_alike() {
    let clock = Clock::held(Time::from_micros(1_700_000_000_000_000));
    let mut seen = BTreeSet::new();
    for _ in 0..1_000 {
        let made = Secret::fresh(&clock);
        let (key_id, digest, text) = (made.key_id().clone(), made.digest(), made.reveal());
        let read = Secret::parse(&text).unwrap();
        assert_eq!((read.key_id(), read.digest()), (&key_id, digest));
        // The random bits, without the id that differs anyway.
        assert!(seen.insert(text[30..82].to_owned()));
    }
}

#[test]
fn every_single_wrong_character_is_found() {
    for seed in [0, 7, 255] {
        let good = text(seed);
        for place in 0..good.len() {
            for other in CHARACTERS.chars().filter(|other| !good[place..].starts_with(*other)) {
                let slip = format!("{}{other}{}", &good[..place], &good[place + 1..]);
                assert!(Secret::parse(&slip).is_none(), "{slip}");
            }
        }
    }
}

#[test]
fn any_two_neighbours_that_changed_places_are_found() {
    for seed in 0..=255 {
        let good = text(seed);
        for place in 1..good.len() {
            let mut slip: Vec<char> = good.chars().collect();
            slip.swap(place - 1, place);
            let slip: String = slip.into_iter().collect();
            assert!(slip == good || Secret::parse(&slip).is_none(), "{slip}");
        }
    }
}

#[test]
fn what_is_no_secret_is_not_read() {
    let good = text(0);
    let (covered, check) = good.split_at(82);
    for garbled in [
        String::new(),
        "tvt_".to_owned(),
        covered.to_owned(),
        check.to_owned(),
        format!("{good}0"),
        format!(" {good}"),
        good[1..].to_owned(),
        good.to_uppercase(),
        good.replacen("tvt_", "tvt-", 1),
        good.replacen("tvt_", "key_", 1),
        "é".repeat(44) + "x",
        "\0".repeat(89),
        "tvt_".to_owned() + &"x".repeat(100_000),
    ] {
        assert!(Secret::parse(&garbled).is_none(), "{garbled}");
    }
}

#[test]
fn bits_beyond_the_256_are_zero_even_where_the_checksum_fits() {
    let forged = |place: usize, digit: &str| {
        let mut covered = text(0)[..82].to_owned();
        covered.replace_range(place..=place, digit);
        let check = mesh::id::base32(&crc32fast::hash(covered.as_bytes()).to_be_bytes());
        Secret::parse(&format!("{covered}{check}")).is_some()
    };
    assert!(forged(4, "7") && forged(30, "1"), "another key and other bits, with their checksum");
    assert!(!forged(4, "8"), "129 bits of an id");
    assert!(!forged(30, "2"), "257 random bits");
}

#[test]
fn who_does_not_hold_the_secret_hears_nothing_of_the_key() {
    let (right, wrong) = (secret(0), secret(1));
    let (past, now, future) = (Time::from_micros(1), Time::from_micros(2), Time::from_micros(3));
    let check = |revoke_time, expire_time, expected: Result<(), Invalid>| {
        let credential = Credential {
            tenant_id: Tenant::default_tenant(),
            scopes: Scopes::of([Scope::AccountRead]),
            secret_hash: right.digest().to_vec(),
            expire_time,
            revoke_time,
        };
        assert_eq!(credential.admit(&right, now), expected);
        assert_eq!(credential.admit(&wrong, now), Err(Invalid::Unknown));
    };
    check(None, None, Ok(()));
    check(None, Some(future), Ok(()));
    check(None, Some(now), Err(Invalid::Expired));
    check(None, Some(past), Err(Invalid::Expired));
    check(Some(past), None, Err(Invalid::Revoked));
    check(Some(past), Some(past), Err(Invalid::Revoked));
}

#[test]
fn a_secret_is_told_with_the_key_it_is_of_also_after_an_unclear_commit() {
    let clock = Clock::system();
    let (ours, later) = (Secret::fresh(&clock), Secret::fresh(&clock));
    let draft = Draft {
        request_id: RequestId::parse("make-1").unwrap(),
        display_name: "Checkout".to_owned(),
        scopes: Scopes::of([Scope::BillingWrite]),
        expire_time: None,
    };
    let kept = draft.key(&ours, clock.now());
    assert!(told(kept.clone(), later).1.is_none());
    let digest = ours.digest();
    assert_eq!(told(kept, ours).1.unwrap().digest(), digest);
}

#[test]
fn scopes_are_kept_each_once_and_in_the_order_of_their_names() {
    let scopes = Scopes::of([Scope::ProductWrite, Scope::BillingRead, Scope::ProductWrite, Scope::AccountRead]);
    assert_eq!(scopes.names().collect::<Vec<_>>(), ["account.read", "billing.read", "product.write"]);
}

#[test]
fn notes_of_use_are_bounded_and_keep_the_latest_time() {
    let usage = Usage::default();
    let clock = Clock::held(Time::from_micros(0));
    let keys: Vec<Slug> = (0..=CAPACITY).map(|_| Slug::fresh("key", &clock)).collect();
    for key_id in &keys {
        usage.note(key_id, Time::from_micros(5));
    }
    usage.note(&keys[0], Time::from_micros(9));
    usage.note(&keys[1], Time::from_micros(1));
    let noted: std::collections::HashMap<_, _> = usage.take().into_iter().collect();
    assert_eq!(noted.len(), CAPACITY);
    assert_eq!((noted[&keys[0]], noted[&keys[1]]), (Time::from_micros(9), Time::from_micros(5)));
    assert!(!noted.contains_key(&keys[CAPACITY]), "there was no room for it");
    assert!(usage.take().is_empty());
}

/// A store with the tables of this service, and a key in it.
async fn store_with_a_key(location: mesh::store::Location) -> (Store, Slug) {
    let store = Store::open(location).await.unwrap();
    store.migrate(&crate::migrations::all()).await.unwrap();
    let keys = ApiKeys { store: store.clone(), clock: Clock::system(), usage: Usage::default() };
    let draft = Draft {
        request_id: RequestId::parse("make-1").unwrap(),
        display_name: "Checkout".to_owned(),
        scopes: Scopes::of([Scope::BillingWrite]),
        expire_time: None,
    };
    let (key, _) = keys.create(&context(), draft).await.unwrap().unwrap();
    (store, key.key_id)
}

fn context() -> Context {
    Context::own(Tenant::default_tenant(), Duration::from_secs(5))
}

async fn last_used(store: &Store, key_id: &Slug) -> Option<Time> {
    let keys = table::list(store.reader(), &Tenant::default_tenant(), None, 10).await.unwrap();
    keys.into_iter().find(|key| key.key_id == *key_id).unwrap().last_used_time
}

#[tokio::test]
async fn the_time_of_last_use_never_moves_back() {
    let (store, key_id) = store_with_a_key(mesh::store::Location::Memory).await;
    let usage = Usage::default();
    for (noted, kept) in [(5, 5), (3, 5), (9, 9)] {
        usage.note(&key_id, Time::from_micros(noted));
        usage.write_down(&store).await;
        assert_eq!(last_used(&store, &key_id).await, Some(Time::from_micros(kept)));
    }
}

#[tokio::test]
async fn as_many_keys_as_can_be_noted_can_be_written_down() {
    let (store, key_id) = store_with_a_key(mesh::store::Location::Memory).await;
    let usage = Usage::default();
    let clock = Clock::system();
    for _ in 1..CAPACITY {
        usage.note(&Slug::fresh("key", &clock), clock.now());
    }
    usage.note(&key_id, Time::from_micros(5));
    usage.write_down(&store).await;
    assert_eq!(last_used(&store, &key_id).await, Some(Time::from_micros(5)));
    assert!(usage.take().is_empty());
}

#[tokio::test]
async fn what_cannot_be_written_down_is_kept_for_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let location = mesh::store::Location::File(folder.path().join("account.db"));
    let (store, key_id) = store_with_a_key(location.clone()).await;
    let usage = Usage::default();
    usage.note(&key_id, Time::from_micros(5));
    store.close().await.unwrap();
    usage.write_down(&store).await;
    let store = Store::open(location).await.unwrap();
    assert_eq!(last_used(&store, &key_id).await, None);
    usage.write_down(&store).await;
    assert_eq!(last_used(&store, &key_id).await, Some(Time::from_micros(5)));
}

#[tokio::test]
async fn what_was_noted_last_is_written_down_when_the_process_goes() {
    let (store, key_id) = store_with_a_key(mesh::store::Location::Memory).await;
    let usage = Usage::default();
    usage.note(&key_id, Time::from_micros(5));
    usage.keep(store.clone(), async {}).await;
    assert_eq!(last_used(&store, &key_id).await, Some(Time::from_micros(5)));
}
