//! What is asked about keys, how often, and what becomes of those who wait for it.

use std::net::SocketAddr;

use futures_util::future::join_all;
use tokio::net::TcpListener;
use tonic::{Request, Response, async_trait, transport::Server};
use trivet_proto::account::v1::{
    CreateApiKeyRequest, CreateApiKeyResponse, ListApiKeysRequest, ListApiKeysResponse, RevokeApiKeyRequest,
    RevokeApiKeyResponse,
    api_key_service_server::{ApiKeyService, ApiKeyServiceServer},
};

use super::*;
use crate::{CallSettings, Target, Telemetry};

/// Nothing here takes longer, however busy the machine is.
const LONG: Duration = Duration::from_mins(1);

/// How account is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Content,
    /// It does not answer yet.
    Slow,
    /// It cannot say anything of any key.
    Away,
    /// Every key is revoked.
    Strict,
}

/// Account, as the test wants it.
#[derive(Clone)]
struct Stub {
    mood: watch::Sender<Mood>,
    /// The request ids under which it was asked, which are the same for further attempts.
    asked: watch::Sender<Vec<String>>,
}

#[async_trait]
impl ApiKeyService for Stub {
    async fn authenticate_api_key(
        &self,
        request: Request<AuthenticateApiKeyRequest>,
    ) -> Result<Response<AuthenticateApiKeyResponse>, Status> {
        let request_id = request.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
        self.asked.send_modify(|asked| asked.push(request_id));
        match *self.mood.subscribe().wait_for(|mood| *mood != Mood::Slow).await.unwrap() {
            Mood::Away => Err(Status::unavailable("not now")),
            Mood::Strict => Err(refused("the API key was revoked", "REVOKED").into()),
            Mood::Content | Mood::Slow => {
                Ok(Response::new(AuthenticateApiKeyResponse { tenant_id: "acme".to_owned(), ..Default::default() }))
            }
        }
    }

    async fn create_api_key(&self, _: Request<CreateApiKeyRequest>) -> Result<Response<CreateApiKeyResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_api_keys(&self, _: Request<ListApiKeysRequest>) -> Result<Response<ListApiKeysResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn revoke_api_key(&self, _: Request<RevokeApiKeyRequest>) -> Result<Response<RevokeApiKeyResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// Keys that a stub knows of.
struct Ground {
    keys: Keys,
    stub: Stub,
}

impl Ground {
    async fn new(mood: Mood) -> Self {
        let stub = Stub { mood: watch::Sender::new(mood), asked: watch::Sender::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder().add_service(ApiKeyServiceServer::new(stub.clone()));
        tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
        Self { keys: keys_at(address), stub }
    }

    /// Waits until it was asked so often.
    async fn asked(&self, times: usize) -> Vec<String> {
        in_time(self.stub.asked.subscribe().wait_for(|asked| asked.len() >= times)).await.unwrap().clone()
    }
}

/// The keys of an account that is here.
fn keys_at(address: SocketAddr) -> Keys {
    // What is refused again and again is asked all the same.
    let settings = CallSettings { breaker_failures: u32::MAX, ..CallSettings::default() };
    let telemetry = Arc::new(Telemetry::quiet().unwrap());
    Keys::new(Peer::new("account", &Target::from(address), telemetry, settings), &Background::default())
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("it takes too long")
}

fn secret(number: usize) -> String {
    format!("{PREFIX}{number:085}")
}

/// A call under this request id.
fn call(request_id: &str) -> Context {
    Context { request_id: request_id.into(), ..Context::own(Tenant::default_tenant(), LONG) }
}

fn cause(refusal: Refusal) -> String {
    let status = Status::from(refusal);
    assert_eq!(Reason::of(&status), Some(Reason::CredentialsInvalid), "{status:?}");
    invalid(&status).cause.as_ref().to_owned()
}

#[tokio::test]
async fn a_key_is_asked_about_once_at_a_time_however_many_streams_were_begun_with_it() {
    let ground = Ground::new(Mood::Content).await;
    let streams = tokio::spawn(join_all((0..100).map(|_| ground.keys.lapse(&secret(1)))));
    ground.asked(2).await;
    ground.stub.mood.send_replace(Mood::Strict);
    let refusals = in_time(streams).await.unwrap();
    assert!(refusals.into_iter().all(|refusal| cause(refusal) == "REVOKED"));
    // Once when they began, and twice later; and further attempts where the machine was busy.
    assert!(ground.asked(3).await.len() < 10, "{:?}", ground.stub.asked);
    assert!(lock(&ground.keys.followed).is_empty());
    let refused = ground.keys.holder(&call("later"), &secret(1)).await.unwrap_err();
    assert_eq!(cause(refused), "REVOKED", "whoever comes next");
    assert!(!ground.asked(3).await.contains(&"later".to_owned()), "and that without another question");
}

#[tokio::test]
async fn a_stream_goes_on_while_account_is_away_and_its_key_is_asked_about_again() {
    let ground = Ground::new(Mood::Away).await;
    let mut stream = Box::pin(ground.keys.lapse(&secret(1)));
    // One question is sent three times at most.
    ground.asked(4).await;
    assert!(futures_util::poll!(&mut stream).is_pending());
    ground.stub.mood.send_replace(Mood::Strict);
    assert_eq!(cause(in_time(stream).await), "REVOKED");
}

#[tokio::test]
async fn a_key_is_asked_about_no_more_once_no_stream_is_left() {
    let ground = Ground::new(Mood::Content).await;
    let (one, other) = (ground.keys.lapse(&secret(1)), ground.keys.lapse(&secret(1)));
    ground.asked(1).await;
    drop(one);
    tokio::task::yield_now().await;
    assert_eq!(lock(&ground.keys.followed).len(), 1);
    drop(other);
    in_time(async {
        while !lock(&ground.keys.followed).is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn at_most_64_keys_are_asked_about_at_once() {
    let ground = Ground::new(Mood::Slow).await;
    let ask = |number: usize| {
        let (keys, context) = (ground.keys.clone(), call(&number.to_string()));
        async move { keys.holder(&context, &secret(number)).await.map(drop) }
    };
    let asking = tokio::spawn(join_all((0..ASKED).map(ask)));
    ground.asked(ASKED).await;
    let refusal = ask(ASKED).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::Overloaded);
    ground.stub.mood.send_replace(Mood::Content);
    assert!(in_time(asking).await.unwrap().into_iter().all(|outcome| outcome.is_ok()));
    ask(ASKED).await.unwrap();
}

#[tokio::test]
async fn asking_outlives_whoever_asked() {
    let ground = Ground::new(Mood::Slow).await;
    let (keys, context) = (ground.keys.clone(), call("first"));
    let first = tokio::spawn(async move { keys.holder(&context, &secret(1)).await.map(drop) });
    ground.asked(1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    ground.stub.mood.send_replace(Mood::Content);
    ground.keys.holder(&call("second"), &secret(1)).await.unwrap();
    assert!(!ground.asked(1).await.contains(&"second".to_owned()), "it is answered what the first one asked");
}

#[tokio::test]
async fn no_key_is_let_in_where_account_does_not_answer() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refusal = keys_at(free).holder(&call("one"), &secret(1)).await.unwrap_err();
    assert_eq!(refusal.reason(), Reason::DependencyUnavailable);
}
