//! Whether to believe a certificate: webpki says whether a CA of ours vouches for it, and [`Leaf`] whom it names. Names of
//! hosts are never asked for: who answers at an address is known by its identity.

use std::{fmt, sync::Arc};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::leaf::{Leaf, LeafFault};
use crate::identity::WHOLE;

/// Who may answer a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// This service.
    Service(&'static str),
    /// Any of the house.
    Anybody,
}

impl Expected {
    /// Whether a server is the one that was called.
    fn look_at(&self, leaf: Leaf, prefix: &str) -> Result<(), LeafFault> {
        let below = leaf.id.as_str().strip_prefix(prefix);
        let fits = match self {
            Self::Service(name) => below.is_some_and(|id| id == *name || id == WHOLE),
            Self::Anybody => below.is_some(),
        };
        if fits { Ok(()) } else { Err(LeafFault::Unexpected { id: leaf.id, expected: self.told(prefix) }) }
    }

    fn told(&self, prefix: &str) -> String {
        match self {
            Self::Service(name) => format!("{prefix}{name} or {prefix}{WHOLE}"),
            Self::Anybody => format!("{prefix}.."),
        }
    }
}

/// Looks at what servers show us.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    pub(super) anchors: Arc<RootCertStore>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) trust_domain: Arc<str>,
    /// What the ids of the house begin with.
    pub(super) prefix: Arc<str>,
    pub(super) expected: Expected,
}

impl Servers {
    /// Whether a CA of ours vouches for a server's certificate, whomever it names.
    pub(super) fn believe(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let leaf = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&leaf, &self.anchors, chain, now, self.algorithms.all)
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.believe(leaf, chain, now)?;
        self.expected.look_at(Leaf::read(leaf, &self.trust_domain)?, &self.prefix)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Looks at what clients show us.
pub(super) struct Clients {
    /// Whether a CA of ours vouches for it.
    pub(super) webpki: Arc<dyn ClientCertVerifier>,
    pub(super) trust_domain: Arc<str>,
}

impl fmt::Debug for Clients {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "clients of {}", self.trust_domain)
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.webpki.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.webpki.verify_client_cert(leaf, chain, now)?;
        Leaf::read(leaf, &self.trust_domain)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
