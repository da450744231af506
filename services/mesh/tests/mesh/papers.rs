//! CAs and certificates of a test, and folders that they are read from as Kubernetes mounts a secret: through a link that
//! is changed at once.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use mesh::TlsSettings;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tempfile::TempDir;

/// A CA.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Paper {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// The CA's own certificate, shown as if it were a workload's.
    pub(crate) fn itself(&self) -> Paper {
        Paper { certificate: self.0.pem(), key: self.0.key().serialize_pem() }
    }

    /// The certificate of this workload of trivet.local.
    pub(crate) fn paper(&self, name: &str) -> Paper {
        self.paper_of(&[&format!("spiffe://trivet.local/{name}")])
    }

    /// A certificate with these URIs.
    pub(crate) fn paper_of(&self, uris: &[&str]) -> Paper {
        self.issue(uris, |_| {})
    }

    /// A certificate with these URIs that is otherwise as it should be, or as `change` makes it.
    pub(crate) fn issue(&self, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Paper {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "spiffe://trivet.local/operator");
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Paper { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// All of their certificates, one after the other.
pub(crate) fn bundle(authorities: &[&Authority]) -> String {
    authorities.iter().map(|authority| authority.pem()).collect()
}

/// Where a process reads what it knows itself and others by.
pub(crate) struct Folder {
    root: TempDir,
    states: AtomicU32,
}

impl Folder {
    pub(crate) fn new(paper: &Paper, bundle: &str) -> Self {
        let folder = Self { root: tempfile::tempdir().unwrap(), states: AtomicU32::new(0) };
        folder.put(paper, bundle);
        folder
    }

    /// Puts all three files in place at once.
    pub(crate) fn put(&self, paper: &Paper, bundle: &str) {
        let state = self.root.path().join(format!("state-{}", self.states.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&state).unwrap();
        for (name, content) in [("tls.crt", &*paper.certificate), ("tls.key", &*paper.key), ("ca.crt", bundle)] {
            fs::write(state.join(name), content).unwrap();
        }
        let link = self.root.path().join("link");
        symlink(&state, &link).unwrap();
        fs::rename(link, self.root.path().join("now")).unwrap();
    }

    /// Puts one of the files in place, and leaves the others as they are.
    pub(crate) fn put_one(&self, name: &str, content: &str) {
        let new = self.root.path().join("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join("now").join(name)
    }

    pub(crate) fn settings(&self) -> TlsSettings {
        let path = |name: &str| self.path(name).to_str().unwrap().to_owned();
        TlsSettings {
            certificate: path("tls.crt"),
            key: path("tls.key"),
            trust_bundle: path("ca.crt"),
            reload_ms: 50,
            ..TlsSettings::default()
        }
    }
}

/// The settings of a client that is none of ours: it knows a server by the name of its host.
pub(crate) fn stranger(paper: Option<&Paper>, bundle: &str) -> Arc<ClientConfig> {
    let mut anchors = RootCertStore::empty();
    for anchor in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        anchors.add(anchor.unwrap()).unwrap();
    }
    let builder = ClientConfig::builder().with_root_certificates(anchors);
    let mut config = match paper {
        Some(paper) => {
            let chain = CertificateDer::pem_slice_iter(paper.certificate.as_bytes()).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(paper.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}
