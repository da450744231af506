//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): the place of a call or an event in a trace, as a header and
//! as an attribute of events have it.

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

use crate::header::{TRACEPARENT, TRACESTATE};

/// The `traceparent` of a place in a trace; nothing where it is in none.
pub(crate) fn traceparent(trace: &SpanContext) -> Option<String> {
    String::from_utf8(written(trace)?.to_vec()).ok()
}

/// The same in ASCII: every call that goes out has one.
fn written(trace: &SpanContext) -> Option<[u8; 55]> {
    let mut text = *b"00-................................-................-00";
    if !trace.is_valid() {
        return None;
    }
    if trace.is_sampled() {
        text[54] = b'1';
    }
    HEXLOWER.encode_mut(&trace.trace_id().to_bytes(), &mut text[3..35]);
    HEXLOWER.encode_mut(&trace.span_id().to_bytes(), &mut text[36..52]);
    Some(text)
}

/// The place in a trace that a `traceparent` names, section 3.2: four parts of lower-case hexadecimal digits, and more of
/// them in later versions only. `None` where it names none.
pub(crate) fn parse(traceparent: &str) -> Option<SpanContext> {
    let (version, rest) = traceparent.split_once('-')?;
    let (trace_id, rest) = rest.split_once('-')?;
    let (span_id, rest) = rest.split_once('-')?;
    let (flags, later) = rest.split_once('-').map_or((rest, None), |(flags, later)| (flags, Some(later)));
    let digits =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let known = version == "00" && later.is_none() || digits(version, 2) && !matches!(version, "00" | "ff");
    if !(known && digits(trace_id, 32) && digits(span_id, 16) && digits(flags, 2)) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace_id, span_id) = (TraceId::from_hex(trace_id).ok()?, SpanId::from_hex(span_id).ok()?);
    Some(SpanContext::new(trace_id, span_id, flags, true, TraceState::NONE)).filter(SpanContext::is_valid)
}

/// Says where in a trace a call is that goes out.
pub(crate) fn inject(trace: &SpanContext, headers: &mut HeaderMap) {
    let Some(traceparent) = written(trace) else { return };
    if let Ok(value) = HeaderValue::from_bytes(&traceparent) {
        headers.insert(&TRACEPARENT, value);
    }
    let tracestate = trace.trace_state().header();
    if let Some(value) = HeaderValue::try_from(tracestate).ok().filter(|value| !value.is_empty()) {
        headers.insert(&TRACESTATE, value);
    }
}

/// Where in a trace a call is that comes in; nowhere if it does not say, or not so that it can be read.
pub(crate) fn extract(headers: &HeaderMap) -> SpanContext {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(found) = text(&TRACEPARENT).and_then(parse) else { return SpanContext::NONE };
    // What cannot be read of it is left out; the trace goes on all the same (section 3.3).
    match text(&TRACESTATE).and_then(|state| state.parse::<TraceState>().ok()) {
        Some(state) => {
            SpanContext::new(found.trace_id(), found.span_id(), found.trace_flags(), found.is_remote(), state)
        }
        None => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_written_reads_back() {
        let mut headers = HeaderMap::new();
        headers.insert(&TRACEPARENT, GOOD.parse().unwrap());
        headers.insert(&TRACESTATE, "a=1,b=2".parse().unwrap());
        let trace = extract(&headers);
        assert!(trace.is_sampled() && trace.is_remote());
        let mut written = HeaderMap::new();
        inject(&trace, &mut written);
        assert_eq!(written, headers);
        assert_eq!(traceparent(&SpanContext::NONE), None);
    }

    #[test]
    fn a_later_version_may_say_more_and_only_the_flag_that_is_known_counts() {
        let later = format!("cc{}-what-the-future-brings", &GOOD[2..]);
        assert_eq!(parse(&later).as_ref().and_then(traceparent).as_deref(), Some(GOOD));
        let flags = parse(&GOOD.replace("-01", "-fe")).unwrap().trace_flags();
        assert_eq!(flags, TraceFlags::NOT_SAMPLED);
    }

    #[test]
    fn what_is_no_place_in_a_trace_is_none() {
        for garbled in [
            String::new(),
            format!("{GOOD}-"),
            format!("{GOOD} "),
            format!("ff{}", &GOOD[2..]),
            format!("+0{}", &GOOD[2..]),
            GOOD.to_uppercase(),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            GOOD.replace("b7ad6b7169203331", "0000000000000000"),
            GOOD.replace("b7ad6b7169203331", "b7ad6b716920333"),
            GOOD.replace("-01", "-1"),
            GOOD.replace("-01", ""),
        ] {
            assert_eq!(parse(&garbled), None, "{garbled:?}");
        }
    }
}
