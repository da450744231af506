//! The three files that a process knows itself and others by, as they are at one moment.

use std::path::PathBuf;

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use super::{TlsFault, TlsSettings};

/// Bytes of one file: a bundle of several hundred CAs, and room. Something else was named by mistake.
const FILE_BYTES: u64 = 1024 * 1024;

/// What was read.
pub(super) struct Files {
    certificate: (PathBuf, Vec<u8>),
    key: (PathBuf, Vec<u8>),
    trust_bundle: (PathBuf, Vec<u8>),
}

/// What stands in them.
pub(super) struct Parts {
    /// The leaf, then whoever vouches for it.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    /// Whom we believe.
    pub(super) anchors: RootCertStore,
}

impl Files {
    pub(super) async fn read(settings: &TlsSettings) -> Result<Self, TlsFault> {
        let (certificate, key) = (read(&settings.certificate).await?, read(&settings.key).await?);
        Ok(Self { certificate, key, trust_bundle: read(&settings.trust_bundle).await? })
    }

    /// Differs where any of the files does.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for (_, content) in [&self.certificate, &self.key, &self.trust_bundle] {
            digest.update(Sha256::digest(content));
        }
        digest.finalize().into()
    }

    pub(super) fn parts(&self) -> Result<Parts, TlsFault> {
        let chain = certificates(&self.certificate)?;
        let (path, content) = &self.key;
        let key = PrivateKeyDer::from_pem_slice(content).map_err(|fault| TlsFault::pem(path, &fault))?;
        let mut anchors = RootCertStore::empty();
        let (path, _) = &self.trust_bundle;
        for anchor in certificates(&self.trust_bundle)? {
            anchors.add(anchor).map_err(|source| TlsFault::Anchor { path: path.clone(), source })?;
        }
        Ok(Parts { chain, key, anchors })
    }
}

async fn read(path: &str) -> Result<(PathBuf, Vec<u8>), TlsFault> {
    let path = PathBuf::from(path);
    let mut content = Vec::new();
    let read = async {
        let file = tokio::fs::File::open(&path).await?;
        file.take(FILE_BYTES + 1).read_to_end(&mut content).await
    };
    if let Err(source) = read.await {
        return Err(TlsFault::File { path, source });
    }
    if u64::try_from(content.len()).is_ok_and(|bytes| bytes <= FILE_BYTES) {
        Ok((path, content))
    } else {
        Err(TlsFault::Large { path })
    }
}

/// All certificates of a file, of which it must have one.
fn certificates((path, content): &(PathBuf, Vec<u8>)) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(content).collect();
    let found = found.map_err(|fault| TlsFault::pem(path, &fault))?;
    if found.is_empty() { Err(TlsFault::pem(path, &pem::Error::NoItemsFound)) } else { Ok(found) }
}
