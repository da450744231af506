//! ObserveService on the wire: on every port, about the whole process.

use std::time::Duration;

use futures_util::stream;
use opentelemetry::trace::{SpanId, TraceId};
use serde::Serialize;
use tonic::{Code, Request, Response, Status, async_trait};
use trivet_proto::mesh::v1::{
    self as wire, BreakerState, GetEdgesRequest, GetEdgesResponse, GetGraphRequest, GetGraphResponse, GetTraceRequest,
    GetTraceResponse, ListCallsRequest, ListCallsResponse, TapRequest, TapResponse, Viewpoint,
    get_trace_request::Key as TraceKey,
    observe_service_server::{ObserveService, ObserveServiceServer},
};

use super::{
    Breakers, Filter, Key, Observer, View,
    graph::{Flow, Graph, Resident, Traffic},
    recent::{Cursor, Known, Record},
    taps::TAPS,
};
use crate::{Answers, Clock, Fields, Parts, REQUEST_BYTES, Reason, Refusal, Streams, TokenKey, id, open, page, text};

/// Spans of a trace that are told: a call that asks others a thousand times is not read to the end.
const SPANS: usize = 1_000;
/// Characters of a method, or the beginning of one; the contract's have half as many.
const METHOD_LENGTH: usize = 128;
/// When to try again where too many listen.
const TAPS_RETRY: Duration = Duration::from_secs(1);

/// ObserveService on the port of this role.
pub(crate) fn server(role: &'static str, parts: &Parts) -> ObserveServiceServer<impl ObserveService + use<>> {
    let Parts { telemetry, clock, tokens, streams, .. } = parts.clone();
    telemetry.observer.serves(role);
    let rpc = Rpc { observer: telemetry.observer.clone(), clock, tokens, streams };
    ObserveServiceServer::new(rpc).max_decoding_message_size(REQUEST_BYTES)
}

struct Rpc {
    observer: Observer,
    clock: Clock,
    tokens: TokenKey,
    streams: Streams,
}

#[async_trait]
impl ObserveService for Rpc {
    async fn get_graph(&self, _: Request<GetGraphRequest>) -> Result<Response<GetGraphResponse>, Status> {
        let Graph { residents, flows } = self.observer.graph();
        let nodes = residents.into_iter().map(|(name, resident)| node(name, &resident)).collect();
        let edges = flows.into_iter().map(edge).collect();
        Ok(Response::new(GetGraphResponse { process: self.process(), nodes, edges }))
    }

    async fn get_edges(&self, _: Request<GetEdgesRequest>) -> Result<Response<GetEdgesResponse>, Status> {
        let edges = self.observer.edges().into_iter().map(edge).collect();
        Ok(Response::new(GetEdgesResponse { process: self.process(), edges }))
    }

    type TapStream = Answers<TapResponse>;

    async fn tap(&self, request: Request<TapRequest>) -> Result<Response<Self::TapStream>, Status> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let TapRequest { method, caller: from, callee: to, code } = &asked;
        let filter = filter(&mut fields, &Wanted { method, from, to, code: *code });
        let (filter,) = fields.finish((filter,))?;
        let tap = self.observer.0.taps.listen(filter).ok_or_else(|| {
            let message = format!("{TAPS} taps are listening already");
            Refusal::new(Reason::Overloaded, message).retry_after(TAPS_RETRY)
        })?;
        let times = Times { observer: self.observer.clone(), clock: self.clock.clone() };
        let calls = stream::unfold((tap, times), async |(mut tap, times)| {
            let (record, missed) = tap.next().await?;
            let missed = i64::try_from(missed).unwrap_or(i64::MAX);
            Some((Ok(shown(times.call(&record), missed)), (tap, times)))
        });
        Ok(self.streams.answer(&context, calls))
    }

    async fn list_calls(&self, request: Request<ListCallsRequest>) -> Result<Response<ListCallsResponse>, Status> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let size = fields.read("page_size", page::size(asked.page_size));
        let ListCallsRequest { method, caller: from, callee: to, code, .. } = &asked;
        let wanted = Wanted { method, from, to, code: *code };
        let filter = filter(&mut fields, &wanted);
        let (size, filter) = fields.finish((size, filter))?;
        // Another process remembers other calls.
        let listing = self.tokens.listing("ListCalls", &context.tenant, &(&self.observer.0.process, wanted))?;
        let before: Option<Cursor> = listing.open(&asked.page_token)?;
        let mut records = self.observer.0.recent.calls(&filter, before, page::rows(size));
        let next_page_token = listing.cut(&mut records, size, Cursor::of)?;
        let times = Times { observer: self.observer.clone(), clock: self.clock.clone() };
        let calls = records.iter().map(|record| times.call(record)).collect();
        Ok(Response::new(ListCallsResponse { calls, next_page_token, process: self.process() }))
    }

    async fn get_trace(&self, request: Request<GetTraceRequest>) -> Result<Response<GetTraceResponse>, Status> {
        let (_, asked) = open(request)?;
        let known = known(asked.key.as_ref())?;
        let mut records = self.observer.0.recent.trace(&known, SPANS);
        if records.is_empty() {
            let message = "nothing of it is in this process's memory, or nothing any more";
            return Err(Refusal::new(Reason::TraceNotFound, message).about("trivet.dev/Trace", known).into());
        }
        records.sort_by_key(|record| record.began);
        let times = Times { observer: self.observer.clone(), clock: self.clock.clone() };
        let spans = records.iter().map(|record| times.span(record)).collect();
        Ok(Response::new(GetTraceResponse { spans, process: self.process() }))
    }
}

impl Rpc {
    fn process(&self) -> String {
        self.observer.0.process.clone()
    }
}

/// Which calls are asked for, as they are.
#[derive(Serialize)]
struct Wanted<'a> {
    method: &'a str,
    from: &'a str,
    to: &'a str,
    code: Option<i32>,
}

/// Which calls to show.
fn filter(fields: &mut Fields, wanted: &Wanted<'_>) -> Option<Filter> {
    let method = fields.read("method", text::optional_line(wanted.method, METHOD_LENGTH));
    let from = fields.read("caller", text::optional_line(wanted.from, id::MAX_LENGTH));
    let to = fields.read("callee", text::optional_line(wanted.to, id::MAX_LENGTH));
    let code = match wanted.code {
        None => Some(None),
        Some(code @ 0..=16) => Some(Some(Code::from_i32(code))),
        Some(_) => fields.read("code", Err("is no gRPC code: those are 0 to 16")),
    };
    Some(Filter { method: method?, caller: from?, callee: to?, code: code? })
}

/// By what a trace is asked for.
fn known(key: Option<&TraceKey>) -> Result<Known, Refusal> {
    let mut fields = Fields::default();
    let known = match key {
        None => fields.read("key", Err("trace_id or request_id is required")),
        Some(TraceKey::TraceId(digits)) => {
            let trace_id = TraceId::from_hex(digits).ok().filter(|trace_id| {
                // What stands for it in a traceparent: all digits, in lower case.
                *trace_id != TraceId::INVALID && trace_id.to_string() == *digits
            });
            fields
                .read("trace_id", trace_id.ok_or("must be 32 hexadecimal digits, not all of them 0"))
                .map(Known::Trace)
        }
        Some(TraceKey::RequestId(request_id)) => {
            let good = (1..=id::MAX_LENGTH).contains(&request_id.len());
            let good = good && request_id.bytes().all(|byte| byte.is_ascii_graphic());
            let request_id =
                if good { Ok(request_id.clone()) } else { Err("must be 1 to 128 visible ASCII characters") };
            fields.read("request_id", request_id).map(Known::Request)
        }
    };
    let (known,) = fields.finish((known,))?;
    Ok(known)
}

impl std::fmt::Display for Known {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Trace(trace_id) => write!(formatter, "{trace_id}"),
            Self::Request(request_id) => formatter.write_str(request_id),
        }
    }
}

fn node(name: &str, resident: &Resident) -> wire::Node {
    let Traffic { sum, rate } = &resident.traffic;
    let [p50, p95, p99] = [50, 95, 99].map(|percent| Some(lasting(sum.quantile(percent))));
    wire::Node {
        name: name.to_owned(),
        serves: resident.serves,
        calls: count(sum.calls()),
        rate: *rate,
        success_rate: sum.success_rate(),
        p50,
        p95,
        p99,
    }
}

fn edge(flow: Flow) -> wire::Edge {
    let Flow { key, traffic: Traffic { sum, rate }, breakers } = flow;
    let [p50, p95, p99] = [50, 95, 99].map(|percent| Some(lasting(sum.quantile(percent))));
    let codes = sum.codes().map(|(code, calls)| wire::CodeCount { code: code.into(), calls: count(calls) });
    let breakers = match breakers {
        None => BreakerState::Unspecified,
        Some(Breakers::Closed) => BreakerState::Closed,
        Some(Breakers::HalfOpen) => BreakerState::HalfOpen,
        Some(Breakers::Open) => BreakerState::Open,
    };
    wire::Edge {
        caller: key.caller.to_owned(),
        callee: key.callee.to_owned(),
        method: name(key.method),
        rate,
        success_rate: sum.success_rate(),
        p50,
        p95,
        p99,
        retries: count(sum.retries),
        breaker_state: breakers.into(),
        calls: count(sum.calls()),
        codes: codes.collect(),
        viewpoint: viewpoint(key.view).into(),
    }
}

/// Tells the time of day of what was seen.
struct Times {
    observer: Observer,
    clock: Clock,
}

impl Times {
    /// When that was, as the time since the process began.
    fn at(&self, began: Duration) -> prost_types::Timestamp {
        self.observer.origin(&self.clock).plus(began).to_wire()
    }

    fn call(&self, record: &Record) -> wire::Call {
        wire::Call {
            time: Some(self.at(record.began)),
            caller: record.key.caller.to_owned(),
            callee: record.key.callee.to_owned(),
            method: name(record.key.method),
            code: record.code.into(),
            duration: Some(lasting(record.took)),
            request_id: record.request_id.to_string(),
            trace_id: record.trace_id.to_string(),
            viewpoint: viewpoint(record.key.view).into(),
        }
    }

    fn span(&self, record: &Record) -> wire::Span {
        let known = |span_id: SpanId| if span_id == SpanId::INVALID { String::new() } else { span_id.to_string() };
        let Key { caller, callee, view, .. } = record.key;
        let (service, peer) = if view == View::Caller { (caller, callee) } else { (callee, caller) };
        wire::Span {
            span_id: known(record.span_id),
            parent_span_id: known(record.parent_id),
            service: service.to_owned(),
            name: name(record.key.method),
            start_time: Some(self.at(record.began)),
            duration: Some(lasting(record.took)),
            code: record.code.into(),
            viewpoint: viewpoint(view).into(),
            peer: peer.to_owned(),
            trace_id: record.trace_id.to_string(),
            request_id: record.request_id.to_string(),
        }
    }
}

fn shown(call: wire::Call, missed: i64) -> TapResponse {
    let wire::Call { time, caller, callee, method, code, duration, request_id, trace_id, viewpoint } = call;
    TapResponse { time, caller, callee, method, code, duration, request_id, trace_id, viewpoint, missed }
}

fn viewpoint(view: View) -> Viewpoint {
    match view {
        View::Caller => Viewpoint::Caller,
        View::Callee | View::Echo => Viewpoint::Callee,
    }
}

/// The method as spans and metrics name it.
fn name(method: &str) -> String {
    method.trim_start_matches('/').to_owned()
}

fn count(calls: u64) -> i64 {
    i64::try_from(calls).unwrap_or(i64::MAX)
}

/// No call takes the 292 billion years that a duration of the wire can hold.
fn lasting(duration: Duration) -> prost_types::Duration {
    duration.try_into().unwrap_or_default()
}
