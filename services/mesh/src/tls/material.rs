//! What handshakes are made with: both ends' settings of rustls, built from one state of the files.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::UnixTime,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    time_provider::TimeProvider,
    version::TLS13,
};

use super::{
    TlsFault, TlsSettings,
    files::{Files, Parts},
    leaf::Leaf,
    verify::{Clients, Expected, Servers},
};
use crate::Clock;

/// What both sides speak over TLS, and the only thing (RFC 9113, section 3.2).
pub(super) const H2: &[u8] = b"h2";

/// Made from one state of the files.
pub(super) struct Material {
    /// For those who call us.
    pub(super) server: Arc<ServerConfig>,
    /// For those whom we call, but for who may answer.
    client: ClientConfig,
    servers: Servers,
    /// What our own certificate says.
    pub(super) leaf: Leaf,
    /// Of the files.
    pub(super) digest: [u8; 32],
}

/// Tells rustls the time.
struct Watch(Clock);

impl Watch {
    fn time(&self) -> UnixTime {
        let micros = u64::try_from(self.0.now().micros()).unwrap_or_default();
        UnixTime::since_unix_epoch(Duration::from_micros(micros))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the process's clock")
    }
}

impl TimeProvider for Watch {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.time())
    }
}

impl Material {
    /// Takes the files only where they fit each other, and where others with the same bundle would believe us.
    pub(super) fn new(settings: &TlsSettings, files: &Files, clock: &Clock) -> Result<Self, TlsFault> {
        let Parts { chain, key, anchors } = files.parts()?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let watch = Arc::new(Watch(clock.clone()));
        let (anchors, trust_domain) = (Arc::new(anchors), Arc::<str>::from(settings.trust_domain.as_str()));
        let clients = clients(&anchors, &provider, &trust_domain, settings.require_client_certificate)?;
        let servers = Servers {
            anchors,
            algorithms: provider.signature_verification_algorithms,
            trust_domain: trust_domain.clone(),
            prefix: settings.prefix().into(),
            expected: Expected::Anybody,
        };
        let (own, further) = chain.split_first().ok_or(TlsFault::NoLeaf)?;
        let leaf = Leaf::read(own, &trust_domain).map_err(TlsFault::Own)?;
        // Others look at it as a server's and as a client's.
        clients.verify_client_cert(own, further, watch.time()).map_err(TlsFault::Refused)?;
        servers.believe(own, further, watch.time()).map_err(TlsFault::Refused)?;

        let mut server = ServerConfig::builder_with_details(provider.clone(), watch.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsFault::Pair)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(TlsFault::Pair)?;
        server.alpn_protocols = vec![H2.to_vec()];
        // A session that is taken up again shows no certificate: who was let in yesterday would be let in today.
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_details(provider, watch)
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsFault::Pair)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(servers.clone()))
            .with_client_auth_cert(chain, key)
            .map_err(TlsFault::Pair)?;
        client.alpn_protocols = vec![H2.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Self { server: Arc::new(server), client, servers, leaf, digest: files.digest() })
    }

    /// For a connection that this one is to be at the other end of.
    pub(super) fn client(&self, expected: Expected) -> Arc<ClientConfig> {
        let mut client = self.client.clone();
        client.dangerous().set_certificate_verifier(Arc::new(Servers { expected, ..self.servers.clone() }));
        Arc::new(client)
    }
}

fn clients(
    anchors: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    trust_domain: &Arc<str>,
    required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, TlsFault> {
    // Without the names of our CAs: who has a certificate shows it, rather than come as nobody because it is of another one.
    let webpki =
        WebPkiClientVerifier::builder_with_provider(anchors.clone(), provider.clone()).clear_root_hint_subjects();
    let webpki = if required { webpki } else { webpki.allow_unauthenticated() };
    let webpki = webpki.build().map_err(TlsFault::Anchors)?;
    Ok(Arc::new(Clients { webpki, trust_domain: trust_domain.clone() }))
}
