//! TLS at both ends: who we are, whom we believe, and how both are renewed without a call that fails. A certificate counts
//! for whom it names, a SPIFFE ID of our trust domain; names of hosts count for nothing.

mod files;
mod leaf;
mod material;
mod settings;
mod verify;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge},
};
use rustls::{
    CertificateError, CommonState, Error, OtherError,
    pki_types::{ServerName, pem},
    server::VerifierBuilderError,
};
use tokio::{net::TcpStream, sync::watch, time::MissedTickBehavior};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Clock, Telemetry, Time, chain,
    config::Faults,
    identity::{Certified, Transport},
    socket::Socket,
};

use files::Files;
use leaf::Leaf;
pub use leaf::LeafFault;
use material::{H2, Material};
pub use settings::TlsSettings;
use verify::Expected;

/// Of a certificate's life, what may be left before the log warns: those who renew do so at half of it or at two thirds.
const LAST_PART: u32 = 4;

/// Why there is no TLS, or no other than before.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// Settings that say nothing that could be done.
    #[error(transparent)]
    Settings(#[from] Faults),
    /// A file that is not there.
    #[error("{path} cannot be read")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is something else.
    #[error("{path} is too large for what it should be")]
    Large {
        /// Which.
        path: PathBuf,
    },
    /// A file without what it is named for.
    #[error("{path} is not in PEM as it should be: {reason}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A CA that cannot be one.
    #[error("{path} has a certificate that is no CA's")]
    Anchor {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        source: Error,
    },
    /// CAs that cannot be used together.
    #[error("the trust bundle cannot be used: {0}")]
    Anchors(VerifierBuilderError),
    /// A chain without its beginning.
    #[error("there is no certificate")]
    NoLeaf,
    /// A certificate that names nobody.
    #[error("the certificate is not one of a workload: {0}")]
    Own(LeafFault),
    /// A certificate that nobody with the same bundle would believe.
    #[error("nobody would believe the certificate: {}", told(.0))]
    Refused(Error),
    /// A key of another certificate.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(Error),
}

impl TlsFault {
    fn pem(path: &Path, fault: &pem::Error) -> Self {
        Self::Pem { path: path.to_owned(), reason: fault.to_string() }
    }
}

/// TLS of this process. Cheap to clone; clones share what is in force.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    settings: TlsSettings,
    clock: Clock,
    current: watch::Sender<Arc<Material>>,
    expiry: Gauge<f64>,
    life: Gauge<f64>,
    renewals: Counter<u64>,
    refused: Counter<u64>,
}

impl Tls {
    /// Reads the files, where the settings name some; what they hold must be good. [`Tls::keep_up`] reads them again.
    pub async fn load(settings: &TlsSettings, clock: &Clock, telemetry: &Telemetry) -> Result<Option<Self>, TlsFault> {
        if !settings.on() {
            return Ok(None);
        }
        let faults = settings.faults();
        if !faults.is_empty() {
            return Err(Faults(faults).into());
        }
        let material = Material::new(settings, &Files::read(settings).await?, clock)?;
        let meter = telemetry.meter();
        let tls = Self(Arc::new(Inner {
            settings: settings.clone(),
            clock: clock.clone(),
            current: watch::Sender::new(Arc::new(material)),
            expiry: meter.f64_gauge("trivet.tls.certificate.expiry").with_unit("s").build(),
            life: meter.f64_gauge("trivet.tls.certificate.life").with_unit("s").build(),
            renewals: meter.u64_counter("trivet.tls.renewals").build(),
            refused: meter.u64_counter("trivet.tls.refused").build(),
        }));
        Ok(Some(tls))
    }

    /// Calls this service: itself or a process with all roles answers, and nobody else.
    pub fn toward(&self, service: &'static str) -> Toward {
        Toward { tls: self.clone(), expected: Expected::Service(service) }
    }

    /// Calls whoever of the house is there.
    pub fn toward_anybody(&self) -> Toward {
        Toward { tls: self.clone(), expected: Expected::Anybody }
    }

    fn current(&self) -> Arc<Material> {
        self.0.current.borrow().clone()
    }

    /// Looks at the files again and again. Handshakes from then on are made with what they hold now, connections that are
    /// there live on. What cannot be used is said once, and what was good before stays in force.
    pub(crate) async fn keep_up(self, end: CancellationToken) {
        let Leaf { id, not_after, .. } = self.current().leaf.clone();
        info!("This process is {id}, and its certificate good until {}", not_after.to_wire());
        let mut every = tokio::time::interval(Duration::from_millis(self.0.settings.reload_ms));
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut said, mut warned) = (None, None);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = every.tick() => {}
            }
            match self.look_again().await {
                Ok(()) => said = None,
                Err(fault) => {
                    let fault = chain(&fault);
                    if said.as_ref() != Some(&fault) {
                        self.0.renewals.add(1, &[KeyValue::new("outcome", "refused")]);
                        warn!("The certificates were not renewed, and those from before stay in force: {fault}");
                        said = Some(fault);
                    }
                }
            }
            let material = self.current();
            let (left, life) = self.measure(&material.leaf);
            if left < life / LAST_PART && warned != Some(material.digest) {
                warned = Some(material.digest);
                let (id, end) = (&material.leaf.id, material.leaf.not_after.to_wire());
                warn!("The certificate of {id} has not been renewed and is good until {end} only");
            }
        }
    }

    async fn look_again(&self) -> Result<(), TlsFault> {
        let Inner { settings, clock, current, renewals, .. } = &*self.0;
        let files = Files::read(settings).await?;
        if files.digest() == self.current().digest {
            return Ok(());
        }
        let material = Material::new(settings, &files, clock)?;
        let (id, end) = (material.leaf.id.clone(), material.leaf.not_after.to_wire());
        current.send_replace(Arc::new(material));
        renewals.add(1, &[KeyValue::new("outcome", "taken")]);
        info!("The certificates were renewed: {id} is good until {end}");
        Ok(())
    }

    /// How long our certificate is still good, and was in all.
    fn measure(&self, leaf: &Leaf) -> (Duration, Duration) {
        let (left, life) = (leaf.not_after.since(self.0.clock.now()), leaf.not_after.since(leaf.not_before));
        self.0.expiry.record(left.as_secs_f64(), &[]);
        self.0.life.record(life.as_secs_f64(), &[]);
        (left, life)
    }

    /// The server's half of a handshake.
    pub(crate) async fn accept(&self, socket: TcpStream) -> Result<(Socket, Transport), Refused> {
        let stream = TlsAcceptor::from(self.current().server.clone()).accept(socket).await.map_err(Refused::from)?;
        let connection = stream.get_ref().1;
        must_speak_h2(connection)?;
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let leaf = shown.map(|shown| Leaf::read(shown, &self.0.settings.trust_domain.as_str().into()));
        let leaf = leaf.transpose().map_err(|fault| Refused::Certificate(fault.into()))?;
        let transport = Transport { encrypted: true, peer: leaf.map(Certified::from) };
        Ok((Socket::encrypted(stream), transport))
    }

    /// How long it is until then.
    pub(crate) fn left(&self, until: Time) -> Duration {
        until.since(self.0.clock.now())
    }

    /// Counts a connection that was not taken.
    pub(crate) fn count(&self, refused: &Refused) {
        self.0.refused.add(1, &[KeyValue::new("reason", refused.reason())]);
    }
}

/// TLS with somebody in particular.
#[derive(Clone)]
pub struct Toward {
    tls: Tls,
    expected: Expected,
}

impl Toward {
    /// The client's half of a handshake.
    pub(crate) async fn connect(&self, socket: TcpStream, address: SocketAddr) -> Result<Socket, Refused> {
        let config = self.tls.current().client(self.expected.clone());
        // Never looked at, and as an address never sent.
        let nobody = ServerName::from(address.ip());
        let stream = TlsConnector::from(config).connect(nobody, socket).await.map_err(Refused::from)?;
        must_speak_h2(stream.get_ref().1)?;
        Ok(Socket::encrypted(stream))
    }
}

/// Who does not say so may speak anything.
fn must_speak_h2(connection: &CommonState) -> Result<(), Refused> {
    if connection.alpn_protocol() == Some(H2) { Ok(()) } else { Err(Refused::Protocol) }
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// A certificate that we do not believe.
    #[error("its certificate is refused: {}", told(.0))]
    Certificate(Error),
    /// None, where one is required.
    #[error("it showed no certificate")]
    NoCertificate,
    /// Something else than HTTP/2.
    #[error("it does not speak h2 (ALPN)")]
    Protocol,
    /// The other side does not believe us, for one.
    #[error("it broke off: {0}")]
    Alert(Error),
    /// No TLS that we know.
    #[error("the handshake failed: {0}")]
    Handshake(io::Error),
    /// Nothing, for as long as a handshake may take.
    #[error("it did not end its TLS handshake in time")]
    Late,
}

impl Refused {
    /// What it is counted under.
    fn reason(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "certificate",
            Self::NoCertificate => "no_certificate",
            Self::Protocol => "protocol",
            Self::Alert(_) => "alert",
            Self::Handshake(_) => "handshake",
            Self::Late => "late",
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(fault @ Error::InvalidCertificate(_)) => Self::Certificate(fault.clone()),
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::NoApplicationProtocol) => Self::Protocol,
            Some(fault @ Error::AlertReceived(_)) => Self::Alert(fault.clone()),
            _ => Self::Handshake(error),
        }
    }
}

/// What is wrong, in the same words each time: rustls shows what we found about a certificate as a programmer sees it, and
/// says of time how many seconds it is about.
fn told(fault: &Error) -> String {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext, Other};
    match fault {
        Error::InvalidCertificate(Other(OtherError(ours))) => ours.to_string(),
        Error::InvalidCertificate(Expired | ExpiredContext { .. }) => "it has expired".to_owned(),
        Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => "it is not good yet".to_owned(),
        other => other.to_string(),
    }
}
