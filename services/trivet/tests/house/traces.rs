//! One call through two services is one trace at the collector, and what comes of its events is linked to it.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use trivet_proto::{
    account::v1::account_service_client::AccountServiceClient,
    product::v1::{CheckAvailabilityRequest, catalog_service_client::CatalogServiceClient},
};

use crate::{
    harness::{Databases, channel, person},
    process::Process,
};

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans = resources.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        self.0.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// A collector that listens, and where.
    async fn listening() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder().add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, endpoint)
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_for_availability_is_one_trace_through_product_and_account() {
    let (collector, endpoint) = Collector::listening().await;
    let databases = Databases::sqlite();
    let settings = [("telemetry.otlp_endpoint", endpoint.as_str()), ("server.announce_ms", "0")];
    let process = Process::serve("all", &databases, &settings).await;
    // Of somebody whom product knows nothing of: account is asked.
    let ask = CheckAvailabilityRequest {
        product_id: "oak".to_owned(),
        user_id: "nobody".to_owned(),
        ..CheckAvailabilityRequest::default()
    };
    let mut request = Request::new(ask);
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    CatalogServiceClient::new(channel(process.addresses["product"])).check_availability(request).await.unwrap();
    // What was not sent yet is sent before the process goes.
    process.end().await;

    let spans = collector.spans();
    let ours: Vec<&Span> =
        spans.iter().filter(|span| hex(&span.trace_id) == "4bf92f3577b34da6a3ce929d0e0e4736").collect();
    let chain: Vec<_> = {
        let mut parent = "00f067aa0ba902b7".to_owned();
        std::iter::from_fn(|| {
            let child = ours.iter().find(|span| hex(&span.parent_span_id) == parent)?;
            parent = hex(&child.span_id);
            Some((child.name.as_str(), child.kind().as_str_name()))
        })
        .collect()
    };
    assert_eq!(
        chain,
        [
            ("trivet.product.v1.CatalogService/CheckAvailability", "SPAN_KIND_SERVER"),
            ("trivet.account.v1.AccountService/GetAccount", "SPAN_KIND_CLIENT"),
            ("trivet.account.v1.AccountService/GetAccount", "SPAN_KIND_SERVER"),
        ],
        "{ours:#?}"
    );
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn feeling_an_event_is_a_trace_of_its_own_that_is_linked_to_the_call_that_made_it() {
    let (collector, endpoint) = Collector::listening().await;
    let databases = Databases::sqlite();
    let settings = [("telemetry.otlp_endpoint", endpoint.as_str()), ("server.announce_ms", "0")];
    let process = Process::serve("all", &databases, &settings).await;
    AccountServiceClient::new(channel(process.addresses["account"])).ensure_account(person("ada")).await.unwrap();
    // What is to be told is told before the process goes.
    process.end().await;

    let spans = collector.spans();
    let named = |name: &str| {
        let mut spans = spans.iter().filter(|span| span.name == name);
        (spans.next().unwrap_or_else(|| panic!("no {name} in {spans:#?}")), spans.next())
    };
    let (made, _) = named("trivet.account.v1.AccountService/EnsureAccount");
    let (felt, again) = named("process user.created");
    assert_eq!(again, None, "it is felt by product alone, and once");
    assert_eq!(felt.kind().as_str_name(), "SPAN_KIND_CONSUMER");
    assert_ne!(felt.trace_id, made.trace_id);
    assert!(felt.parent_span_id.is_empty());
    let links: Vec<_> = felt.links.iter().map(|link| (link.trace_id.clone(), link.span_id.clone())).collect();
    assert_eq!(links, [(made.trace_id.clone(), made.span_id.clone())]);
    databases.done().await;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
