//! An event as it travels: CloudEvents 1.0 (<https://github.com/cloudevents/spec>), whatever carries it.

use std::sync::LazyLock;

use opentelemetry::trace::SpanContext;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use trivet_proto::{EVENTS, Event, EventKind};

use crate::{Tenant, Time, store::Row, telemetry::w3c};

/// `datacontenttype` of an event whose data is a protobuf message.
pub(crate) const PROTOBUF: &str = "application/protobuf";
/// `datacontenttype` of an event whose data is that message as JSON.
pub(crate) const JSON: &str = "application/json";
/// What a `source` begins with; the service's name follows.
const SOURCE: &str = "trivet.dev/";
/// What a `dataschema` begins with; the full name of the message follows.
const SCHEMA: &str = "https://trivet.dev/schemas/";

/// An event as it is told and heard. Attributes go by the names of CloudEvents, but for `kind`, which is its `type`.
#[derive(Clone, Debug, PartialEq, Eq, Row)]
pub struct CloudEvent {
    /// Its id; the same however often it is told.
    pub event_id: String,
    /// The service that tells it, `account`.
    pub source: String,
    /// Its type, `user.created`.
    pub kind: String,
    /// Whose it is.
    pub tenant_id: Tenant,
    /// What sort of thing it is about, `user`.
    pub aggregate: String,
    /// Which one. Events of one aggregate of one source and tenant keep their order.
    pub subject: String,
    /// The version of that thing once the event had happened.
    pub aggregate_version: i64,
    /// When it happened.
    pub time: Time,
    /// The W3C trace context of what made it; empty where there was none.
    pub traceparent: String,
    /// The event whose handling made it; empty where a call did.
    pub causation_id: String,
    /// The full name of the message that the data is, `trivet.account.v1.UserCreated`. Empty where nobody says.
    pub data_schema: String,
    /// [`PROTOBUF`] or [`JSON`].
    pub content_type: String,
    /// The message.
    pub data: Vec<u8>,
    /// What could not be read of its attributes; empty where all could.
    pub fault: String,
}

/// What keeps the order of events: those that agree in it are told and felt one after the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Row)]
pub(crate) struct AggregateKey {
    pub(crate) tenant_id: Tenant,
    pub(crate) source: String,
    pub(crate) aggregate: String,
    pub(crate) subject: String,
}

impl CloudEvent {
    /// The CloudEvents `source` of a service.
    pub(crate) fn source_uri(source: &str) -> String {
        format!("{SOURCE}{source}")
    }

    /// The service behind a `source`.
    pub(crate) fn source_of(uri: &str) -> &str {
        uri.strip_prefix(SOURCE).unwrap_or(uri)
    }

    /// The CloudEvents `dataschema` of a message.
    pub(crate) fn schema_uri(message: &str) -> String {
        format!("{SCHEMA}{message}")
    }

    /// The message behind a `dataschema`.
    pub(crate) fn schema_of(uri: &str) -> &str {
        uri.strip_prefix(SCHEMA).unwrap_or(uri)
    }

    pub(crate) fn aggregate_key(&self) -> AggregateKey {
        AggregateKey {
            tenant_id: self.tenant_id.clone(),
            source: self.source.clone(),
            aggregate: self.aggregate.clone(),
            subject: self.subject.clone(),
        }
    }

    /// The message, of a type that the caller knows it to be of.
    pub(crate) fn read<E: Event>(&self) -> Result<E, String> {
        if !self.data_schema.is_empty() && self.data_schema != E::KIND.message {
            return Err(format!("its data is a {}, {} is known here", self.data_schema, E::KIND.message));
        }
        match self.content_type.as_str() {
            PROTOBUF => {
                E::decode(self.data.as_slice()).map_err(|error| format!("its data is no {}: {error}", E::KIND.message))
            }
            JSON => from_json(E::KIND.message, &self.data)
                .and_then(|message| message.transcode_to().map_err(|error| error.to_string())),
            other => Err(format!("its data is of type {other:?}, which is neither {PROTOBUF} nor {JSON}")),
        }
    }

    /// The data as JSON, after protobuf's own mapping. Of an event that this release does not know: an error.
    pub(crate) fn json(&self) -> Result<String, String> {
        if self.content_type == JSON {
            return String::from_utf8(self.data.clone()).map_err(|error| error.to_string());
        }
        let descriptor = message(&self.data_schema)?;
        let message = DynamicMessage::decode(descriptor, self.data.as_slice())
            .map_err(|error| format!("its data is no {}: {error}", self.data_schema))?;
        let mut json = serde_json::Serializer::new(Vec::new());
        let options = SerializeOptions::new().skip_default_fields(false);
        message.serialize_with_options(&mut json, &options).map_err(|error| error.to_string())?;
        String::from_utf8(json.into_inner()).map_err(|error| error.to_string())
    }

    /// The span that made it, if it is in a trace.
    pub(crate) fn trace(&self) -> SpanContext {
        w3c::parse(&self.traceparent).unwrap_or(SpanContext::NONE)
    }
}

/// The kind of this type, if the contract of this release has it.
pub(crate) fn kind_of(kind: &str) -> Option<&'static EventKind> {
    EVENTS.binary_search_by(|known| known.kind.cmp(kind)).ok().and_then(|at| EVENTS.get(at))
}

fn message(name: &str) -> Result<MessageDescriptor, String> {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(trivet_proto::DESCRIPTORS).unwrap_or_default());
    POOL.get_message_by_name(name).ok_or_else(|| format!("there is no message {name} in this release"))
}

/// A message out of its JSON; fields that it does not have are left out.
pub(crate) fn from_json(name: &str, json: &[u8]) -> Result<DynamicMessage, String> {
    let options = prost_reflect::DeserializeOptions::new().deny_unknown_fields(false);
    let mut reader = serde_json::Deserializer::from_slice(json);
    DynamicMessage::deserialize_with_options(message(name)?, &mut reader, &options)
        .and_then(|message| reader.end().map(|()| message))
        .map_err(|error| format!("its data is no {name} as JSON: {error}"))
}
