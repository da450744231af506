//! An event as a NATS message, and back: CloudEvents' NATS binding
//! (<https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md>). Binary mode has the
//! attributes in `ce-` headers and the message of the contract as its body; structured mode is one JSON object.

#[cfg(test)]
mod tests;

use async_nats::{HeaderMap, header::NATS_MESSAGE_ID, jetstream};
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::{
    Tenant, Time,
    events::{
        CloudEvent,
        cloud::{JSON, PROTOBUF},
    },
};

/// What the headers of a message in structured mode say.
const CONTENT_TYPE: &str = "Content-Type";
const STRUCTURED: &str = "application/cloudevents+json";
/// Bytes of an attribute that comes from outside: four of them make a key, of which PostgreSQL takes 2,704. Ours have at
/// most 128.
const ATTRIBUTE_BYTES: usize = 256;
/// What a header's value is encoded of, as in CloudEvents' HTTP binding: controls, space, quote, percent and all that is
/// not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The attributes as CloudEvents names them; what is empty is left out.
fn attributes(event: &CloudEvent) -> Vec<(&'static str, String)> {
    let all = [
        ("specversion", "1.0".to_owned()),
        ("id", event.event_id.clone()),
        ("source", CloudEvent::source_uri(&event.source)),
        ("type", event.kind.clone()),
        ("subject", event.subject.clone()),
        ("time", event.time.to_wire().to_string()),
        ("tenant", event.tenant_id.to_string()),
        ("aggregate", event.aggregate.clone()),
        ("aggregateversion", event.aggregate_version.to_string()),
        ("causationid", event.causation_id.clone()),
        ("traceparent", event.traceparent.clone()),
        ("dataschema", CloudEvent::schema_uri(&event.data_schema)),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// The message; an error says why the event cannot be one.
pub(super) fn write(event: &CloudEvent, as_json: bool) -> Result<(HeaderMap, Bytes), String> {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, event.event_id.as_str());
    if as_json {
        headers.insert(CONTENT_TYPE, STRUCTURED);
        let data: Value = serde_json::from_str(&event.json()?).map_err(|error| error.to_string())?;
        let mut object: Map<String, Value> =
            attributes(event).into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
        object.insert("datacontenttype".to_owned(), json!(JSON));
        object.insert("data".to_owned(), data);
        let body = serde_json::to_vec(&object).map_err(|error| error.to_string())?;
        return Ok((headers, body.into()));
    }
    for (name, value) in attributes(event) {
        headers.insert(format!("ce-{name}"), utf8_percent_encode(&value, ENCODED).to_string());
    }
    headers.insert("ce-datacontenttype", event.content_type.as_str());
    Ok((headers, Bytes::from(event.data.clone())))
}

/// The event of a message. What cannot be read of it is said in the event's `fault`, all of it at once.
pub(super) fn read(message: &jetstream::Message, place: &jetstream::message::Info<'_>) -> CloudEvent {
    let place = format!("{}:{}", place.stream, place.stream_sequence);
    read_parts(message.headers.as_ref(), &message.payload, &place)
}

fn read_parts(headers: Option<&HeaderMap>, payload: &[u8], place: &str) -> CloudEvent {
    let empty = HeaderMap::new();
    let headers = headers.unwrap_or(&empty);
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_str().to_ascii_lowercase()).unwrap_or_default();
    let mut attributes = if content_type.starts_with("application/cloudevents") {
        Attributes::structured(payload)
    } else {
        Attributes::binary(headers)
    };
    // The event is kept in any case: its id, if it has none, is its place in the stream.
    let mut event_id = attributes.take("id");
    if event_id.is_empty() {
        attributes.faults.push("has no id".to_owned());
        place.clone_into(&mut event_id);
    }
    let version = attributes.take("specversion");
    if version != "1.0" {
        attributes.faults.push(format!("is of specversion {version:?}, which is not \"1.0\""));
    }
    let kind = attributes.take("type");
    if kind.is_empty() {
        attributes.faults.push("has no type".to_owned());
    }
    let tenant = attributes.take("tenant");
    let tenant_id = Tenant::parse(&tenant).unwrap_or_else(|fault| {
        attributes.faults.push(format!("its tenant {fault}"));
        Tenant::default_tenant()
    });
    let aggregate_version = attributes.take("aggregateversion");
    let aggregate_version = if aggregate_version.is_empty() { Ok(0) } else { aggregate_version.parse() };
    let aggregate_version = aggregate_version.unwrap_or_else(|_| {
        attributes.faults.push("its aggregateversion is no number".to_owned());
        0
    });
    let time = attributes.take("time");
    let time = time.parse::<prost_types::Timestamp>().ok().and_then(|time| Time::from_wire(&time).ok());
    let time = time.unwrap_or_else(|| {
        attributes.faults.push("its time is no time of RFC 3339".to_owned());
        Time::from_micros(0)
    });
    let source = attributes.take("source");
    if source.is_empty() {
        attributes.faults.push("has no source".to_owned());
    }
    let mut subject = attributes.take("subject");
    if subject.is_empty() {
        // It is about nothing that anything else is about.
        subject.clone_from(&event_id);
    }
    let content_type = attributes.take("datacontenttype");
    CloudEvent {
        event_id,
        source: CloudEvent::source_of(&source).to_owned(),
        kind,
        tenant_id,
        aggregate: attributes.take("aggregate"),
        subject,
        aggregate_version,
        time,
        traceparent: attributes.take("traceparent"),
        causation_id: attributes.take("causationid"),
        data_schema: CloudEvent::schema_of(&attributes.take("dataschema")).to_owned(),
        content_type: if content_type.is_empty() { PROTOBUF.to_owned() } else { content_type },
        data: attributes.data.take().unwrap_or_else(|| payload.to_vec()),
        fault: attributes.faults.join("; "),
    }
}

/// What was read of an event's attributes, and what was wrong with them.
#[derive(Default)]
struct Attributes {
    values: Map<String, Value>,
    /// The data of structured mode; binary mode has the payload.
    data: Option<Vec<u8>>,
    faults: Vec<String>,
}

impl Attributes {
    fn binary(headers: &HeaderMap) -> Self {
        let mut attributes = Self::default();
        for (name, values) in headers.iter() {
            let name = name.to_string().to_ascii_lowercase();
            let (Some(name), Some(value)) = (name.strip_prefix("ce-"), values.first()) else { continue };
            let value = percent_decode_str(value.as_str()).decode_utf8_lossy().into_owned();
            attributes.values.insert(name.to_owned(), Value::String(value));
        }
        attributes
    }

    fn structured(payload: &[u8]) -> Self {
        let mut attributes = Self::default();
        let mut values = match serde_json::from_slice(payload) {
            Ok(Value::Object(values)) => values,
            Ok(_) => {
                attributes.faults.push("is no JSON object".to_owned());
                return attributes;
            }
            Err(error) => {
                attributes.faults.push(format!("is no JSON: {error}"));
                return attributes;
            }
        };
        if let Some(data) = values.remove("data") {
            attributes.data = Some(data.to_string().into_bytes());
            values.entry("datacontenttype").or_insert_with(|| json!(JSON));
        }
        attributes.values = values;
        attributes
    }

    /// An attribute, empty where there is none; one that cannot be kept is a fault.
    fn take(&mut self, name: &str) -> String {
        let value = match self.values.remove(name) {
            None => return String::new(),
            Some(Value::String(value)) => value,
            Some(other) => other.to_string(),
        };
        if value.len() > ATTRIBUTE_BYTES || value.chars().any(char::is_control) {
            self.faults.push(format!("its {name} is longer than {ATTRIBUTE_BYTES} bytes or has control characters"));
            return String::new();
        }
        value
    }
}
