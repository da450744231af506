//! Metadata: a `google.protobuf.Struct` on the wire, a JSON object in the row.

use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::{Map, Number, Value as Json};

/// Bytes of the metadata as JSON.
const LIMIT: usize = 16 * 1024;
/// Objects and lists in one another. Each costs three of the hundred levels that protobuf's readers follow, and answers
/// need some of their own.
const DEPTH: usize = 30;
/// No metadata.
pub(super) const EMPTY: &str = "{}";

/// Why metadata is refused. Reads as the continuation of the field's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("is {0} bytes as JSON, at most {LIMIT} are allowed")]
    TooLong(usize),
    #[error("nests deeper than {DEPTH} levels")]
    TooDeep,
    #[error("holds a number that JSON does not know: NaN or an infinity")]
    NotANumber,
}

/// Metadata as its row keeps it: keys in order, so that equal metadata is equal text.
pub(super) fn to_json(metadata: Option<&Struct>) -> Result<String, Fault> {
    let Some(metadata) = metadata else { return Ok(EMPTY.to_owned()) };
    let text = object(metadata, DEPTH)?.to_string();
    if text.len() > LIMIT { Err(Fault::TooLong(text.len())) } else { Ok(text) }
}

fn object(fields: &Struct, depth: usize) -> Result<Json, Fault> {
    let depth = depth.checked_sub(1).ok_or(Fault::TooDeep)?;
    let fields = fields.fields.iter().map(|(key, value)| Ok((key.clone(), json(value, depth)?)));
    Ok(Json::Object(fields.collect::<Result<Map<_, _>, Fault>>()?))
}

fn list(values: &ListValue, depth: usize) -> Result<Json, Fault> {
    let depth = depth.checked_sub(1).ok_or(Fault::TooDeep)?;
    Ok(Json::Array(values.values.iter().map(|value| json(value, depth)).collect::<Result<_, _>>()?))
}

fn json(value: &Value, depth: usize) -> Result<Json, Fault> {
    Ok(match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(truth)) => Json::Bool(*truth),
        Some(Kind::NumberValue(number)) => Json::Number(Number::from_f64(*number).ok_or(Fault::NotANumber)?),
        Some(Kind::StringValue(text)) => Json::String(text.clone()),
        Some(Kind::ListValue(values)) => list(values, depth)?,
        Some(Kind::StructValue(fields)) => object(fields, depth)?,
    })
}

/// Metadata as the wire carries it; none where the row's text is not an object, which it always is.
pub(super) fn to_wire(text: &str) -> Option<Struct> {
    match serde_json::from_str(text) {
        Ok(Json::Object(fields)) => Some(wire_object(fields)),
        _ => None,
    }
}

fn wire_object(fields: Map<String, Json>) -> Struct {
    Struct { fields: fields.into_iter().map(|(key, value)| (key, wire(value))).collect() }
}

fn wire(value: Json) -> Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(truth) => Kind::BoolValue(truth),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(wire).collect() }),
        Json::Object(fields) => Kind::StructValue(wire_object(fields)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_back_as_it_was_sent() {
        let text = r#"{"a":[1.0,null,true,"x\u0000"],"b":{"c":-2.5}}"#;
        let sent = to_wire(text).unwrap();
        assert_eq!(to_json(Some(&sent)).unwrap(), text);
        assert_eq!(to_wire(&to_json(Some(&sent)).unwrap()).unwrap(), sent);
        assert_eq!(to_json(None).unwrap(), EMPTY);
    }

    #[test]
    fn metadata_nests_only_so_deep_that_every_reader_can_follow() {
        let nested = |levels: usize| {
            let nest =
                |inner, _| Value { kind: Some(Kind::StructValue(Struct { fields: [("k".to_owned(), inner)].into() })) };
            let fields = (1..levels).fold(Value { kind: Some(Kind::BoolValue(true)) }, nest);
            Struct { fields: [("k".to_owned(), fields)].into() }
        };
        assert!(to_json(Some(&nested(DEPTH))).is_ok());
        assert_eq!(to_json(Some(&nested(DEPTH + 1))), Err(Fault::TooDeep));
    }

    #[test]
    fn metadata_is_bounded_and_its_numbers_are_numbers() {
        let with = |kind| Struct { fields: [("k".to_owned(), Value { kind: Some(kind) })].into() };
        assert!(to_json(Some(&with(Kind::StringValue("x".repeat(LIMIT - 8))))).is_ok());
        assert_eq!(to_json(Some(&with(Kind::StringValue("x".repeat(LIMIT - 7))))), Err(Fault::TooLong(LIMIT + 1)));
        assert_eq!(to_json(Some(&with(Kind::NumberValue(f64::NAN)))), Err(Fault::NotANumber));
    }
}
