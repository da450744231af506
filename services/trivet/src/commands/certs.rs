//! `trivet certs`: a small CA and certificates, for a laptop or a test. An installation has its own: SPIRE, cert-manager.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use mesh::{Clock, Telemetry, Tls, TlsSettings, identity::SpiffeId};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use time::{Duration, OffsetDateTime};

use crate::Config;

/// The CA's certificate and key.
const CA: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
/// How long the CA is good: longer than a laptop.
const CA_DAYS: i64 = 3_650;
/// Clocks differ: what is made now is good since an hour ago.
const SLACK: Duration = Duration::HOUR;
/// Whom certificates are made for, where nobody is named.
const NAMES: [&str; 5] = ["trivet", "account", "product", "billing", "operator"];

/// What to make.
#[derive(Subcommand)]
pub enum CertsCommand {
    /// Makes a CA and certificates of workloads for a laptop or a test. A CA that is there signs again, which is how
    /// certificates are renewed.
    Dev {
        /// The folder to write to.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// What the identities begin with; tls.trust_domain where it is left out.
        #[arg(long, value_name = "NAME")]
        trust_domain: Option<String>,
        /// How many days the certificates are good.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=365))]
        days: u16,
        /// Whom to make one for: spiffe://TRUST_DOMAIN/NAME.
        #[arg(default_values = NAMES)]
        names: Vec<String>,
    },
}

/// Makes them, and says what was made and how it is used.
pub async fn certs(config: &Config, command: &CertsCommand) -> anyhow::Result<String> {
    let CertsCommand::Dev { out, trust_domain, days, names } = command;
    let trust_domain = trust_domain.as_deref().unwrap_or(&config.tls.trust_domain);
    let ids = names.iter().map(|name| id(trust_domain, name)).collect::<anyhow::Result<Vec<_>>>()?;
    fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let out = out.canonicalize()?;
    let now = OffsetDateTime::from_unix_timestamp(Clock::system().now().micros() / 1_000_000)?;
    let mut text = String::new();
    let ca = authority(&out, trust_domain, now, &mut text)?;
    for (name, id) in names.iter().zip(&ids) {
        let key = KeyPair::generate()?;
        let certificate = leaf(id, now, now + Duration::days((*days).into()))?.signed_by(&key, &ca)?;
        let settings = files(&out, name, trust_domain);
        let (certificate_path, key_path) = (Path::new(&settings.certificate), Path::new(&settings.key));
        let new_key = beside(key_path, &key.serialize_pem(), 0o600)?;
        let new_certificate = beside(certificate_path, &certificate.pem(), 0o644)?;
        // As a process will read them: a CA whose two files do not belong together is found before anything is replaced.
        let (certificate, key) = (text_of(&new_certificate), text_of(&new_key));
        let read = TlsSettings { certificate, key, ..settings.clone() };
        let loaded = Tls::load(&read, &Clock::system(), &Telemetry::quiet()?).await;
        loaded.with_context(|| format!("what the CA makes for {id} is of no use"))?;
        fs::rename(new_key, key_path)?;
        fs::rename(new_certificate, certificate_path)?;
        writeln!(text, "{}  {id}, for {days} days", settings.certificate)?;
    }
    if let (Some(process), Some(caller), Some(operator)) = (names.first(), names.last(), ids.last()) {
        usage(&mut text, &files(&out, process, trust_domain), &files(&out, caller, trust_domain), operator)?;
    }
    Ok(text)
}

/// Whom a certificate names, whose files are called after it, too.
fn id(trust_domain: &str, name: &str) -> anyhow::Result<SpiffeId> {
    let id = format!("spiffe://{trust_domain}/{name}");
    let read = id.parse().with_context(|| format!("{id} cannot be an identity"))?;
    ensure!(!name.contains('/'), "{name} has a slash, and files are called after it");
    ensure!(name != "ca" && !name.ends_with("-key"), "{name}.pem is the name of another of these files");
    Ok(read)
}

/// How a process of this name finds its files.
fn files(out: &Path, name: &str, trust_domain: &str) -> TlsSettings {
    let file = |name: &str| text_of(&out.join(name));
    TlsSettings {
        certificate: file(&format!("{name}.pem")),
        key: file(&format!("{name}-key.pem")),
        trust_bundle: file(CA),
        trust_domain: trust_domain.to_owned(),
        ..TlsSettings::default()
    }
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The CA of this folder, which is made where there is none, and never replaced.
fn authority(
    out: &Path,
    trust_domain: &str,
    now: OffsetDateTime,
    text: &mut String,
) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let (certificate, key) = (out.join(CA), out.join(CA_KEY));
    match (read(&certificate)?, read(&key)?) {
        (Some(certificate), Some(key)) => {
            writeln!(text, "{}  is there and signs again", out.join(CA).display())?;
            let key = KeyPair::from_pem(&key).with_context(|| format!("{CA_KEY} is no key"))?;
            Issuer::from_ca_cert_pem(&certificate, key).with_context(|| format!("{CA} is no certificate"))
        }
        (None, None) => {
            let mut params = params(now, now + Duration::days(CA_DAYS));
            params.distinguished_name.push(DnType::CommonName, format!("{trust_domain} on this machine"));
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let pair = KeyPair::generate()?;
            let pem = params.self_signed(&pair)?.pem();
            create(&key, &pair.serialize_pem(), 0o600)?;
            create(&certificate, &pem, 0o644)?;
            writeln!(text, "{}  a new CA; who has {CA_KEY} can be anybody", certificate.display())?;
            Ok(Issuer::new(params, pair))
        }
        _ => anyhow::bail!(
            "{} has one of {CA} and {CA_KEY}: put the other one back, or take another folder",
            out.display()
        ),
    }
}

/// What every certificate has.
fn params(not_before: OffsetDateTime, not_after: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    (params.not_before, params.not_after) = (not_before - SLACK, not_after);
    params
}

/// A workload's: known to us by its identity, and to clients of other makes by the name of this machine.
fn leaf(id: &SpiffeId, now: OffsetDateTime, until: OffsetDateTime) -> anyhow::Result<CertificateParams> {
    let mut params = params(now, until);
    params.distinguished_name.push(DnType::CommonName, id.path().trim_start_matches('/'));
    params.subject_alt_names = vec![
        SanType::URI(id.as_str().try_into()?),
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
    ];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// How what was made is used: by a process, and by one who calls it.
fn usage(text: &mut String, process: &TlsSettings, caller: &TlsSettings, operator: &SpiffeId) -> anyhow::Result<()> {
    let TlsSettings { certificate, key, trust_bundle, trust_domain, .. } = process;
    writeln!(text, "\nThe settings of a process, for one:\n")?;
    writeln!(text, "TRIVET_TLS_CERTIFICATE={certificate}")?;
    writeln!(text, "TRIVET_TLS_KEY={key}")?;
    writeln!(text, "TRIVET_TLS_TRUST_BUNDLE={trust_bundle}")?;
    if *trust_domain != TlsSettings::default().trust_domain {
        writeln!(text, "TRIVET_TLS_TRUST_DOMAIN={trust_domain}")?;
    }
    writeln!(text, "TRIVET_IDENTITY_OPERATORS={operator}")?;
    writeln!(text, "\nAnd a call of that operator:\n")?;
    let TlsSettings { certificate, key, .. } = caller;
    writeln!(text, "grpcurl -cacert {trust_bundle} -cert {certificate} -key {key} localhost:8216 list")?;
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Writes a file that is not there yet.
fn create(path: &Path, content: &str, mode: u32) -> anyhow::Result<()> {
    let whole = beside(path, content, mode)?;
    // A link is refused where there is something, which a rename would replace.
    let linked = fs::hard_link(&whole, path);
    fs::remove_file(&whole)?;
    linked.with_context(|| format!("{} cannot be written", path.display()))
}

/// Writes a file next to the one that it is to become.
fn beside(path: &Path, content: &str, mode: u32) -> anyhow::Result<PathBuf> {
    let new = path.with_extension("pem.new");
    let write = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("{} cannot be written", new.display()))?;
    Ok(new)
}
