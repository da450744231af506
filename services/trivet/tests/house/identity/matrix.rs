//! Every rpc and every kind of caller: what `matrix.txt` says comes true, and it says something of every rpc there is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::stream;
use http::uri::PathAndQuery;
use tonic::{Request, Status, client::Grpc, transport::Channel};

use super::Guarded;
use crate::{garbage::Plain, harness::reason};

const MATRIX: &str = include_str!("matrix.txt");

/// A kind of caller.
struct Kind {
    name: String,
    /// Its certificate, if it has one.
    certificate: Option<&'static str>,
    secret: Option<String>,
    scopes: Vec<&'static str>,
}

impl Kind {
    fn certified(name: &'static str, scopes: &[&'static str]) -> Self {
        Self { name: name.to_owned(), certificate: Some(name), secret: None, scopes: scopes.to_vec() }
    }

    /// Whether a row of the matrix lets it in.
    fn may(&self, needed: &str, house: &[&str]) -> bool {
        let service = ["account", "product", "billing", "trivet"].contains(&self.name.as_str());
        match (self.name.as_str(), needed) {
            (_, "anybody") | ("operator", _) => true,
            (_, "operator") => false,
            (_, "house") => service,
            ("trivet", _) => !house.is_empty(),
            (name, _) if service => house.contains(&name),
            _ => {
                let whole = needed.replace(".read", ".write");
                self.scopes.iter().any(|scope| *scope == needed || *scope == whole)
            }
        }
    }
}

/// Calls with an empty message; what that is answered with, as far as it matters here.
async fn call(channel: Channel, path: &'static str, secret: Option<&str>) -> Result<(), Status> {
    let unary = trivet_proto::method(path)
        .map_or(path.starts_with("/grpc.health.v1.") && !path.ends_with("/Watch"), |method| method.unary);
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.unwrap();
    let (path, message) = (PathAndQuery::from_static(path), Bytes::new());
    let metadata = |metadata: &mut tonic::metadata::MetadataMap| {
        if let Some(secret) = secret {
            metadata.insert("authorization", format!("Bearer {secret}").parse().unwrap());
        }
    };
    if unary {
        let mut request = Request::new(message);
        metadata(request.metadata_mut());
        return grpc.unary(request, path, Plain).await.map(drop);
    }
    let mut request = Request::new(stream::iter([message]));
    metadata(request.metadata_mut());
    // A stream that begins was let in.
    grpc.streaming(request, path, Plain).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_lets_in_whom_the_matrix_says_and_nobody_else() {
    let guarded = Guarded::with(&[]).await;
    let mut kinds = vec![Kind { name: "nobody".to_owned(), certificate: None, secret: None, scopes: Vec::new() }];
    for scope in ["account.read", "account.write", "product.read", "product.write", "billing.read", "billing.write"] {
        let (_, secret) = guarded.key("acme", &[scope]).await;
        kinds.push(Kind { name: format!("key {scope}"), certificate: None, secret: Some(secret), scopes: vec![scope] });
    }
    kinds.push(Kind::certified("shop", &["billing.write", "product.read"]));
    kinds.extend(
        ["account", "product", "billing", "trivet", "operator", "stranger"].map(|name| Kind::certified(name, &[])),
    );
    let mut channels = BTreeMap::new();
    let (mut rows, mut wrong) = (BTreeSet::new(), Vec::new());
    for row in MATRIX.lines().filter(|line| !line.starts_with('#')) {
        let mut words = row.split_ascii_whitespace();
        let (rpc, needed) = (words.next().unwrap(), words.next().unwrap());
        let house: Vec<&str> = words.collect();
        let path: &'static str = format!("/{rpc}").leak();
        assert!(rows.insert(path), "{rpc} has two rows");
        let role = rpc.trim_start_matches("trivet.").split('.').next().unwrap();
        let role = if ["account", "product", "billing"].contains(&role) { role } else { "product" };
        for kind in &kinds {
            let channel = channels.entry((role, kind.certificate)).or_insert_with(|| match kind.certificate {
                Some(name) => guarded.by(role, name),
                None => guarded.by_nobody(role),
            });
            let outcome = call(channel.clone(), path, kind.secret.as_deref()).await;
            let refused = outcome.as_ref().err().map(reason);
            // Who is let in hears of the rpc, and not that it could not be asked.
            let own = path.ends_with("/AuthenticateApiKey");
            let refused = refused.filter(|reason| match reason.as_str() {
                "CREDENTIALS_MISSING" | "NOT_ALLOWED" | "DEPENDENCY_UNAVAILABLE" | "METHOD_NOT_FOUND" => true,
                "CREDENTIALS_INVALID" => !own,
                _ => false,
            });
            let expected = match kind.may(needed, &house) {
                true => None,
                false if kind.name == "nobody" => Some("CREDENTIALS_MISSING".to_owned()),
                false => Some("NOT_ALLOWED".to_owned()),
            };
            if refused != expected {
                wrong.push(format!("{rpc} by {}: {outcome:?}, not {expected:?}", kind.name));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    let missing: Vec<_> = trivet_proto::METHODS.iter().filter(|method| !rows.contains(method.path)).collect();
    assert!(missing.is_empty(), "matrix.txt has no row for {missing:?}");
    let gone = rows.iter().filter(|path| path.starts_with("/trivet.") && trivet_proto::method(path).is_none());
    assert_eq!(gone.collect::<Vec<_>>(), Vec::<&&str>::new(), "matrix.txt has rows for what is none");
    guarded.end().await;
}
