//! `trivet trace`: one request through all the services that it came to, as a tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use mesh::Reason;
use serde::Serialize;
use tonic::Status;
use trivet_proto::mesh::v1::{GetTraceRequest, Span, Viewpoint, get_trace_request::Key};

use super::{Latency, Look, Output, Service, ask_processes, code_name};
use crate::{
    Config,
    commands::output::{Shown, table},
};

/// Shows the trace of this id, or all that was done under this request id, as far as any process remembers.
pub async fn trace(config: &Config, look: &Look, id: &str) -> anyhow::Result<String> {
    let services = look.services(config).await?;
    let answers = ask_processes(&services, async |service| service.trace(id).await).await?;
    let mut unknown = None;
    let mut spans: Vec<Span> = Vec::new();
    for (_, answer) in answers {
        match answer {
            Ok(known) => spans.extend(known),
            Err(status) => unknown = Some(status),
        }
    }
    match unknown {
        Some(status) if spans.is_empty() => return Err(anyhow::Error::from(status).context(format!("no trace {id}"))),
        _ => {}
    }
    let lines = lines(spans);
    if look.output != Output::Table {
        return look.output.show(&lines);
    }
    let mut text = String::new();
    for trace in lines.chunk_by(|one, other| one.trace_id == other.trace_id) {
        if let Some(first) = trace.first() {
            let request_id = first.request_id.replace(char::is_control, "\u{fffd}");
            let _ = writeln!(text, "trace {}, request {request_id}, {}", first.trace_id, first.start_time);
        }
        text += &table(Line::HEADER, trace.iter().map(Shown::cells).collect());
    }
    Ok(text)
}

impl Service {
    /// Which process answers, and what it knows; what has the form of a trace's id can be a request's, too.
    async fn trace(&self, id: &str) -> anyhow::Result<(String, Result<Vec<Span>, Status>)> {
        let is_trace = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let keys = is_trace.then(|| Key::TraceId(id.to_owned())).into_iter().chain([Key::RequestId(id.to_owned())]);
        let mut unknown = Status::not_found(id);
        for key in keys {
            match self.observer().get_trace(self.call().onward(GetTraceRequest { key: Some(key) })).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    return Ok((answer.process, Ok(answer.spans)));
                }
                Err(status) if Reason::of(&status) == Some(Reason::TraceNotFound) => unknown = status,
                Err(status) => return Err(status.into()),
            }
        }
        // Several that do not know it are no less than one.
        Ok((self.name.clone(), Err(unknown)))
    }
}

/// A span, in its place in the tree.
#[derive(Serialize)]
struct Line {
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    request_id: String,
    service: String,
    peer: String,
    viewpoint: &'static str,
    name: String,
    start_time: String,
    /// After the first span of the trace.
    after_ms: Latency,
    duration_ms: Latency,
    code: &'static str,
    depth: usize,
}

impl Shown<4> for Line {
    const HEADER: [&'static str; 4] = ["SPAN", "AFTER", "DURATION", "CODE"];

    fn cells(&self) -> [String; 4] {
        let indent = "  ".repeat(self.depth);
        let span = match self.viewpoint {
            "caller" => format!("{indent}{} -> {}  {}", self.service, self.peer, self.name),
            _ => format!("{indent}{}  {}", self.service, self.name),
        };
        [span, self.after_ms.to_string(), self.duration_ms.to_string(), self.code.to_owned()]
    }
}

/// The spans as trees, each span before what was done for it, trace by trace.
fn lines(spans: Vec<Span>) -> Vec<Line> {
    let known: BTreeSet<String> = spans.iter().map(|span| span.span_id.clone()).collect();
    let mut below: BTreeMap<(String, String), Vec<Span>> = BTreeMap::new();
    for span in spans {
        // A part of something that nobody remembers stands by itself.
        let parent = if known.contains(&span.parent_span_id) { span.parent_span_id.clone() } else { String::new() };
        below.entry((span.trace_id.clone(), parent)).or_default().push(span);
    }
    let begun = |span: &Span| span.start_time.map(|time| (time.seconds, time.nanos));
    for siblings in below.values_mut() {
        siblings.sort_by_key(begun);
    }
    let roots: Vec<_> = below.keys().filter(|(_, parent)| parent.is_empty()).cloned().collect();
    let mut lines = Vec::new();
    for root in roots {
        let trace_id = root.0.clone();
        let mut pending: Vec<_> = below.remove(&root).into_iter().flatten().rev().map(|span| (0, span)).collect();
        let first = pending.last().and_then(|(_, span)| begun(span));
        while let Some((depth, span)) = pending.pop() {
            let children = below.remove(&(trace_id.clone(), span.span_id.clone())).into_iter().flatten();
            pending.extend(children.rev().map(|child| (depth + 1, child)));
            let after = between(first, begun(&span));
            lines.push(Line::new(span, after, depth));
        }
    }
    lines
}

/// How long the second is after the first.
fn between(first: Option<(i64, i32)>, second: Option<(i64, i32)>) -> Duration {
    let nanos = |time: Option<(i64, i32)>| {
        time.map_or(0, |(seconds, nanos)| i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
    };
    Duration::from_nanos(u64::try_from(nanos(second) - nanos(first)).unwrap_or(0))
}

impl Line {
    fn new(span: Span, after: Duration, depth: usize) -> Self {
        let viewpoint = if span.viewpoint() == Viewpoint::Caller { "caller" } else { "callee" };
        Self {
            trace_id: span.trace_id,
            span_id: span.span_id,
            parent_span_id: span.parent_span_id,
            request_id: span.request_id,
            service: span.service,
            peer: span.peer,
            viewpoint,
            name: span.name,
            start_time: span.start_time.unwrap_or_default().to_string(),
            after_ms: Latency(after),
            duration_ms: Latency::of(span.duration),
            code: code_name(span.code),
            depth,
        }
    }
}
