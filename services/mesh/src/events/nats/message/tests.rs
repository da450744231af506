//! What is written reads back as it was, and what cannot be read is said, all of it at once.

use prost::Message as _;
use trivet_proto::{
    Event,
    account::v1::{SubscriptionTier, UserCreated},
};

use super::*;

const PLACE: &str = "TRIVET:7";

fn created() -> UserCreated {
    UserCreated { user_id: "ada".to_owned(), subscription_tier: SubscriptionTier::Basic.into() }
}

fn event() -> CloudEvent {
    CloudEvent {
        event_id: "evt_1".to_owned(),
        source: "account".to_owned(),
        kind: UserCreated::KIND.kind.to_owned(),
        tenant_id: Tenant::parse("acme").unwrap(),
        aggregate: "user".to_owned(),
        // What an id may hold, and what a header may not hold as it is.
        subject: "ada.|100% \"é\"".to_owned(),
        aggregate_version: 3,
        time: Time::from_micros(1_700_000_000_123_456),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        causation_id: "evt_0".to_owned(),
        data_schema: UserCreated::KIND.message.to_owned(),
        content_type: PROTOBUF.to_owned(),
        data: created().encode_to_vec(),
        fault: String::new(),
    }
}

#[test]
fn an_event_in_binary_mode_comes_back_as_it_went() {
    let (headers, payload) = write(&event(), false).unwrap();
    assert_eq!(headers.get("ce-subject").unwrap().as_str(), "ada.|100%25%20%22%C3%A9%22");
    assert_eq!(headers.get("ce-time").unwrap().as_str(), "2023-11-14T22:13:20.123456Z");
    assert_eq!(read_parts(Some(&headers), &payload, PLACE), event());
}

#[test]
fn an_event_in_structured_mode_comes_back_with_the_same_meaning() {
    let (headers, payload) = write(&event(), true).unwrap();
    let heard = read_parts(Some(&headers), &payload, PLACE);
    assert_eq!(heard.read::<UserCreated>(), Ok(created()));
    let same = |heard: CloudEvent| CloudEvent { content_type: String::new(), data: Vec::new(), ..heard };
    assert_eq!(same(heard), same(event()));
}

/// The faults of a message with these headers.
fn faults(headers: &[(&str, &str)], payload: &[u8]) -> String {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, *value);
    }
    read_parts(Some(&map), payload, PLACE).fault
}

#[test]
fn everything_that_is_missing_is_said_at_once_and_the_event_is_kept_under_its_place() {
    let garbage = read_parts(None, b"\xff\xff", PLACE);
    assert_eq!((garbage.event_id.as_str(), garbage.subject.as_str()), (PLACE, PLACE));
    assert_eq!(garbage.data, b"\xff\xff");
    for fault in ["has no id", "specversion \"\"", "has no type", "its tenant is required", "its time", "has no source"]
    {
        assert!(garbage.fault.contains(fault), "{fault:?} is not in {:?}", garbage.fault);
    }
}

#[test]
fn what_an_attribute_holds_is_looked_at() {
    let good = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-type", "a.b"), ("ce-source", "x")];
    let rest = [("ce-tenant", "acme"), ("ce-time", "2026-11-20T00:00:00Z")];
    let with = |further: &[(&str, &str)]| faults(&[&good[..], &rest[..], further].concat(), b"");
    assert_eq!(with(&[]), "");
    assert!(with(&[("ce-tenant", "a b")]).contains("its tenant holds ' '"));
    assert!(with(&[("ce-time", "yesterday")]).contains("its time is no time of RFC 3339"));
    assert!(with(&[("ce-aggregateversion", "two")]).contains("its aggregateversion is no number"));
    assert!(with(&[("ce-specversion", "0.3")]).contains("specversion \"0.3\""));
    // PostgreSQL could not keep it.
    assert!(
        with(&[("ce-subject", "a%00b")]).contains("its subject is longer than 256 bytes or has control characters")
    );
    assert!(with(&[("ce-subject", &"x".repeat(257))]).contains("its subject"));
    let structured = [("Content-Type", "application/cloudevents+json")];
    assert!(faults(&structured, b"{").contains("is no JSON"));
    assert!(faults(&structured, b"[]").contains("is no JSON object"));
}

#[test]
fn data_that_is_not_what_the_type_promises_is_not_read() {
    let read = |event: CloudEvent| event.read::<UserCreated>().unwrap_err();
    assert!(read(CloudEvent { data: b"\xff".to_vec(), ..event() }).contains("is no trivet.account.v1.UserCreated"));
    let later = CloudEvent { data_schema: "trivet.account.v2.UserCreated".to_owned(), ..event() };
    assert!(read(later).contains("trivet.account.v2.UserCreated, trivet.account.v1.UserCreated is known here"));
    assert!(read(CloudEvent { content_type: "text/plain".to_owned(), ..event() }).contains("\"text/plain\""));
    let json = |data: &str| CloudEvent { content_type: JSON.to_owned(), data: data.into(), ..event() };
    assert!(read(json("{\"userId\": 1}")).contains("as JSON"));
    assert!(read(json("{} x")).contains("as JSON"));
    let newer = json("{\"userId\": \"ada\", \"subscriptionTier\": \"SUBSCRIPTION_TIER_BASIC\", \"later\": 1}");
    assert_eq!(newer.read::<UserCreated>(), Ok(created()), "a field of a later release is left out");
}
