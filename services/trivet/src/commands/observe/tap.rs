//! `trivet tap`: a line for each call, as it ends.

use std::{
    io::{self, ErrorKind, Write as _},
    pin::pin,
};

use anyhow::{Context as _, bail};
use clap::Args;
use futures_util::{StreamExt as _, stream::SelectAll};
use serde::Serialize;
use trivet_proto::mesh::v1::{TapRequest, TapResponse, Viewpoint};

use super::{Latency, Look, Output, Service, ask_processes, code_name};
use crate::Config;

/// Which calls to show, and how many.
#[derive(Args)]
pub struct TapArguments {
    #[command(flatten)]
    look: Look,
    /// Methods that begin like this, such as trivet.billing.v1. or trivet.billing.v1.BillingService/Deduct.
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    method: String,
    /// Calls of this caller: account, product, billing or operator.
    #[arg(long, value_name = "CALLER", default_value = "", hide_default_value = true)]
    from: String,
    /// Calls to this service.
    #[arg(long, value_name = "CALLEE", default_value = "", hide_default_value = true)]
    to: String,
    /// Calls that ended so, such as NOT_FOUND.
    #[arg(long, value_name = "CODE", value_parser = code)]
    code: Option<i32>,
    /// Ends after so many; at Ctrl-C without it.
    #[arg(long, value_name = "N")]
    max: Option<u64>,
}

/// Reads a gRPC code by its name or number.
fn code(text: &str) -> Result<i32, String> {
    let wanted = text.to_uppercase();
    let known = (0..=16).find(|code| code_name(*code) == wanted || code.to_string() == wanted);
    known
        .ok_or_else(|| format!("is no gRPC code; those are {}", (0..=16).map(code_name).collect::<Vec<_>>().join(", ")))
}

/// Shows calls until there were enough, Ctrl-C, or until nobody reads them any more.
pub async fn tap(config: &Config, arguments: &TapArguments) -> anyhow::Result<()> {
    let services = arguments.look.services(config).await?;
    let asked = TapRequest {
        method: arguments.method.clone(),
        caller: arguments.from.clone(),
        callee: arguments.to.clone(),
        code: arguments.code,
    };
    let processes = ask_processes(&services, Service::nodes).await?;
    let mut calls = SelectAll::new();
    for (service, _) in &processes {
        let request = service.call().onward(asked.clone());
        let tap = service.observer().tap(request).await.with_context(|| service.name.clone())?.into_inner();
        calls.push(tap.map(move |call| (service, call)));
    }
    // What one of these processes calls, it tells; the process that it calls saw the same.
    let nodes = processes.iter().flat_map(|(_, nodes)| nodes);
    let told: Vec<&str> = nodes.filter(|node| node.serves).map(|node| node.name.as_str()).collect();
    let elsewhere = processes.len() > 1;
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    let mut page = Page::begin(arguments.look.output)?;
    while arguments.max.is_none_or(|most| page.lines < most) {
        let next = tokio::select! {
            biased;
            heard = interrupt.as_mut() => {
                heard.context("Ctrl-C cannot be heard")?;
                break;
            }
            next = calls.next() => next,
        };
        let Some((service, call)) = next else { bail!("there is nothing more to come") };
        let call = call.with_context(|| format!("{} ends", service.name))?;
        if call.missed > 0 {
            eprintln!("trivet: {} calls were missed: there are more than are read in time", call.missed);
        }
        let twice = elsewhere && call.viewpoint() == Viewpoint::Callee && told.contains(&call.caller.as_str());
        if !twice && !page.write(&Line::from(call))? {
            return Ok(());
        }
    }
    page.end()
}

/// A call as JSON.
#[derive(Serialize)]
struct Line {
    time: String,
    src: String,
    dst: String,
    method: String,
    code: &'static str,
    latency_ms: Latency,
    request_id: String,
    trace_id: String,
}

impl From<TapResponse> for Line {
    fn from(call: TapResponse) -> Self {
        Self {
            time: call.time.unwrap_or_default().to_string(),
            src: call.caller,
            dst: call.callee,
            method: call.method,
            code: code_name(call.code),
            latency_ms: Latency::of(call.duration),
            request_id: call.request_id,
            trace_id: call.trace_id,
        }
    }
}

impl Line {
    /// In columns that are as wide as what is mostly in them: what is still to come is not known.
    fn columns(&self) -> String {
        let plain = |text: &str| text.replace(char::is_control, "\u{fffd}");
        let (src, dst, code, latency) = (&self.src, &self.dst, self.code, self.latency_ms);
        let (method, request_id) = (plain(&self.method), plain(&self.request_id));
        format!("{:<27}  {src:<8}  {dst:<8}  {code:<19}  {latency:>8}  {method}  {request_id}", self.time)
    }
}

/// What is shown so far.
struct Page {
    output: Output,
    lines: u64,
}

impl Page {
    fn begin(output: Output) -> anyhow::Result<Self> {
        let (time, src, dst, code, latency) = ("TIME", "SRC", "DST", "CODE", "LATENCY");
        put(&match output {
            Output::Table => {
                format!("{time:<27}  {src:<8}  {dst:<8}  {code:<19}  {latency:>8}  METHOD  REQUEST\n")
            }
            Output::Json => "[".to_owned(),
            Output::Jsonl => String::new(),
        })?;
        Ok(Self { output, lines: 0 })
    }

    /// Shows a call, unless nobody reads any more.
    fn write(&mut self, line: &Line) -> anyhow::Result<bool> {
        let first = self.lines == 0;
        self.lines += 1;
        put(&match self.output {
            Output::Table => line.columns() + "\n",
            Output::Json => format!("{}\n{}", if first { "" } else { "," }, serde_json::to_string(line)?),
            Output::Jsonl => serde_json::to_string(line)? + "\n",
        })
    }

    fn end(&self) -> anyhow::Result<()> {
        if self.output == Output::Json {
            put("\n]\n")?;
        }
        Ok(())
    }
}

/// Writes to standard output; false where its reader has gone away.
fn put(text: &str) -> anyhow::Result<bool> {
    let mut output = io::stdout();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => Ok(written.map(|()| true)?),
    }
}
