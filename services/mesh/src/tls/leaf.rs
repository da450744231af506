//! What a certificate says of the one who shows it, by the rules of X.509-SVID
//! (<https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md>). Whether a CA of ours signed it is for webpki to say.

use std::{sync::Arc, time::Duration};

use rustls::{CertificateError, OtherError, pki_types::CertificateDer};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer as _,
};

use crate::{
    Time,
    identity::{Certified, SpiffeFault, SpiffeId},
};

/// What is read out of a certificate.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// Whom it names.
    pub(super) id: SpiffeId,
    /// When it begins and ends to be good.
    pub(super) not_before: Time,
    pub(super) not_after: Time,
}

impl From<Leaf> for Certified {
    fn from(Leaf { id, not_after, .. }: Leaf) -> Self {
        // The last second counts (RFC 5280, section 4.1.2.5).
        Self { id, until: not_after.plus(Duration::from_secs(1)) }
    }
}

/// Why a certificate names nobody that we know, whoever signed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafFault {
    /// Bytes that are none.
    #[error("it cannot be read")]
    Garbled,
    /// A CA's certificate is no workload's.
    #[error("it may sign others")]
    Signs,
    /// A name beside the subject alternative names is none.
    #[error("it has no URI among its subject alternative names")]
    Nameless,
    /// Who has two names is nobody.
    #[error("it has {0} URIs among its subject alternative names, and must have one")]
    Ambiguous(usize),
    /// A URI of another kind.
    #[error("its URI is no SPIFFE ID: {0}")]
    NotSpiffe(SpiffeFault),
    /// Another house's.
    #[error("{id} is not of the trust domain {trust_domain}")]
    Foreign {
        /// Whom it names.
        id: SpiffeId,
        /// Whom we know.
        trust_domain: Arc<str>,
    },
    /// The trust domain itself is no workload.
    #[error("{0} names no workload")]
    Pathless(SpiffeId),
    /// Somebody, and not the one who was called.
    #[error("{id} is not who was called, {expected}")]
    Unexpected {
        /// Whom it names.
        id: SpiffeId,
        /// Who may answer.
        expected: String,
    },
}

impl From<LeafFault> for rustls::Error {
    fn from(fault: LeafFault) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(fault))))
    }
}

impl Leaf {
    /// Reads a certificate that names one workload of this trust domain.
    pub(super) fn read(certificate: &CertificateDer<'_>, trust_domain: &Arc<str>) -> Result<Self, LeafFault> {
        let (rest, certificate) = X509Certificate::from_der(certificate).map_err(|_| LeafFault::Garbled)?;
        if !rest.is_empty() {
            return Err(LeafFault::Garbled);
        }
        let mut uris = Vec::new();
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        match name {
                            GeneralName::URI(uri) => uris.push(*uri),
                            GeneralName::Invalid(..) => return Err(LeafFault::Garbled),
                            _ => {}
                        }
                    }
                }
                ParsedExtension::BasicConstraints(constraints) if constraints.ca => return Err(LeafFault::Signs),
                ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() || usage.crl_sign() => {
                    return Err(LeafFault::Signs);
                }
                // What cannot be read could be a second name.
                ParsedExtension::ParseError { .. } => return Err(LeafFault::Garbled),
                _ => {}
            }
        }
        let id = match uris.as_slice() {
            [] => return Err(LeafFault::Nameless),
            [uri] => uri.parse::<SpiffeId>().map_err(LeafFault::NotSpiffe)?,
            several => return Err(LeafFault::Ambiguous(several.len())),
        };
        if id.trust_domain() != &**trust_domain {
            return Err(LeafFault::Foreign { id, trust_domain: trust_domain.clone() });
        }
        if id.path().is_empty() {
            return Err(LeafFault::Pathless(id));
        }
        let validity = certificate.validity();
        let time = |seconds: i64| Time::from_micros(seconds.saturating_mul(1_000_000));
        let (not_before, not_after) = (time(validity.not_before.timestamp()), time(validity.not_after.timestamp()));
        Ok(Self { id, not_before, not_after })
    }
}
