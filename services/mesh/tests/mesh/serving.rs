//! What a caller gets who does it wrong, and what a caller gets where we do.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Method, StatusCode};
use tonic_types::StatusExt as _;
use trivet_proto::account::v1::account_service_client::AccountServiceClient;

use crate::{
    house::{get, house, update},
    line::{Answer, GET_ACCOUNT, Line, frame, frame_of, outcome},
    stub::{MESSAGE_BYTES, Stub},
};

const GRPC: (&str, &str) = ("content-type", "application/grpc");

#[tokio::test]
async fn what_is_not_a_grpc_request_is_refused_in_http_s_words_and_without_effect() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    let check = async |method: Method, content_type, expected: StatusCode| {
        let headers = [("content-type", content_type)];
        let answer = line.send(&method, GET_ACCOUNT, &headers, frame(&get("ada"))).await.unwrap();
        assert_eq!(answer.http, expected, "{method} {content_type}");
        assert!(answer.status.is_none(), "{method} {content_type}");
    };
    check(Method::GET, "application/grpc", StatusCode::METHOD_NOT_ALLOWED).await;
    check(Method::PUT, "application/grpc", StatusCode::METHOD_NOT_ALLOWED).await;
    check(Method::POST, "text/html", StatusCode::UNSUPPORTED_MEDIA_TYPE).await;
    check(Method::POST, "application/json", StatusCode::UNSUPPORTED_MEDIA_TYPE).await;
    assert!(stub.seen().is_empty());
    assert_eq!(line.get("ada", &[]).await.told(), "Ok", "the connection is as good as before");
}

#[tokio::test]
async fn bytes_that_are_no_message_of_the_rpc_are_the_caller_s_fault_and_begin_nothing() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    let check = async |what: &str, body: Bytes| {
        let answer = line.post(GET_ACCOUNT, &[], body).await;
        assert_eq!((answer.http, answer.told().as_str()), (StatusCode::OK, "InvalidArgument INVALID_FIELDS"), "{what}");
    };
    check("a field that ends in the middle", frame_of(b"\x0a\xff")).await;
    check("a tag that does not exist", frame_of(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")).await;
    check("text that is not UTF-8", frame_of(b"\x0a\x02\xc3\x28")).await;
    check("no message at all", Bytes::new()).await;
    check("half a frame", Bytes::from_static(&[0, 0, 0, 0, 9, 0x0a])).await;
    check("a frame that says it is compressed", Bytes::from_static(&[1, 0, 0, 0, 0])).await;
    check("a frame of no known sort", Bytes::from_static(&[7, 0, 0, 0, 0])).await;
    assert!(stub.seen().is_empty());
    assert_eq!(line.get("ada", &[]).await.told(), "Ok", "the connection is as good as before");
}

#[tokio::test]
async fn a_second_message_on_a_unary_call_is_refused_and_begins_nothing() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    let twice = [frame(&get("ada")), frame(&get("bob"))].concat();
    let answer = line.post(GET_ACCOUNT, &[], twice.into()).await;
    assert_eq!(answer.told(), "InvalidArgument INVALID_FIELDS");
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_message_over_the_limit_is_resource_exhausted() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    assert_eq!(line.get(&"x".repeat(MESSAGE_BYTES + 1), &[]).await.told(), "ResourceExhausted TOO_LARGE");
    let mut announced = BytesMut::new();
    announced.put_u8(0);
    announced.put_u32(u32::MAX);
    let answer = line.post(GET_ACCOUNT, &[], announced.freeze()).await;
    assert_eq!(answer.told(), "ResourceExhausted TOO_LARGE", "nothing is read that was only announced");
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn an_rpc_that_does_not_exist_is_method_not_found() {
    let (_running, address) = house(&Stub::default()).await;
    let line = Line::to(address).await;
    for path in [
        "/trivet.account.v1.AccountService/Nothing",
        "/trivet.account.v1.Nothing/GetAccount",
        "/trivet.product.v1.CatalogService/GetProduct",
        "/",
    ] {
        let answer = line.post(path, &[], frame(&get("ada"))).await;
        assert_eq!((answer.http, answer.told().as_str()), (StatusCode::OK, "Unimplemented METHOD_NOT_FOUND"), "{path}");
        assert_eq!(answer.quoted_request_id(), answer.request_id(), "{path}");
    }
}

#[tokio::test]
async fn a_panic_costs_its_own_call_only_and_says_nothing_but_the_request_id() {
    let (_running, address) = house(&Stub::default()).await;
    let line = Line::to(address).await;
    let beside = tokio::spawn({
        let line = line.clone();
        async move { line.get("slow", &[("grpc-timeout", "300m")]).await.told() }
    });
    let answer = line.get("panic", &[("x-request-id", "checkout-42")]).await;
    assert_eq!(answer.told(), "Internal INTERNAL");
    assert_eq!((answer.request_id(), answer.quoted_request_id().as_str()), ("checkout-42", "checkout-42"));
    says_no_secret(&answer);
    assert_eq!(line.get("ada", &[]).await.told(), "Ok", "the connection lives on");
    assert_eq!(beside.await.unwrap(), "DeadlineExceeded DEADLINE_EXCEEDED", "a call beside it goes its own way");
}

#[tokio::test]
async fn what_went_wrong_inside_is_never_told() {
    let (_running, address) = house(&Stub::default()).await;
    let line = Line::to(address).await;
    for user in ["broken", "bare"] {
        let answer = line.get(user, &[]).await;
        assert_eq!(answer.told(), "Internal INTERNAL", "{user}");
        says_no_secret(&answer);
    }
}

fn says_no_secret(answer: &Answer) {
    let everything = format!("{:?} {:?} {:?}", answer.headers, answer.body, answer.status);
    let details = String::from_utf8_lossy(answer.status.as_ref().unwrap().details()).into_owned();
    assert!(!everything.contains("secret") && !details.contains("secret"), "{everything} {details}");
}

#[tokio::test]
async fn a_request_id_is_echoed_or_made_on_every_answer() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    for user in ["ada", "notfound", "fail", "panic"] {
        assert_eq!(line.get(user, &[("x-request-id", "checkout-42")]).await.request_id(), "checkout-42", "{user}");
        let made = line.get(user, &[]).await;
        assert!(made.request_id().starts_with("req_"), "{user}: {}", made.request_id());
        assert_eq!(&*stub.seen().last().unwrap().context.request_id, made.request_id(), "{user}");
    }
    let replaced = line.get("ada", &[("x-request-id", "two words")]).await;
    assert!(replaced.request_id().starts_with("req_"));
}

#[tokio::test]
async fn every_error_quotes_its_request_id_and_a_refusal_keeps_its_own_reason() {
    let (_running, address) = house(&Stub::default()).await;
    let line = Line::to(address).await;
    let check = async |user: &str, expected: &str| {
        let answer = line.get(user, &[]).await;
        assert_eq!(answer.told(), expected, "{user}");
        assert_eq!(answer.quoted_request_id(), answer.request_id(), "{user}");
    };
    check("notfound", "NotFound ACCOUNT_NOT_FOUND").await;
    check("fail", "Unavailable DEPENDENCY_UNAVAILABLE").await;
    check("toomuch", "ResourceExhausted QUOTA_EXHAUSTED").await;
    check("panic", "Internal INTERNAL").await;
}

#[tokio::test]
async fn the_tenant_is_the_one_named_or_the_default_and_a_bad_one_is_refused() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    assert_eq!(line.get("ada", &[]).await.told(), "Ok");
    assert_eq!(line.get("ada", &[("x-trivet-tenant", "acme")]).await.told(), "Ok");
    let tenants: Vec<_> = stub.seen().iter().map(|seen| seen.context.tenant.to_string()).collect();
    assert_eq!(tenants, ["default", "acme"]);
    for bad in ["", "two words", &"x".repeat(129)] {
        let answer = line.get("ada", &[("x-trivet-tenant", bad)]).await;
        assert_eq!(answer.told(), "InvalidArgument INVALID_FIELDS", "{bad:?}");
        assert_eq!(fields(&answer), ["x-trivet-tenant"]);
    }
    assert_eq!(stub.seen().len(), 2);
}

/// The fields that a refusal names.
fn fields(answer: &Answer) -> Vec<String> {
    let request = answer.status.as_ref().unwrap().get_details_bad_request().unwrap();
    request.field_violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn a_garbled_timeout_is_refused_by_its_name_and_begins_nothing() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    for garbled in ["", "1", "S", "1s", "-1S", "1.5S", "100000000S", "soon"] {
        let answer = line.get("ada", &[("grpc-timeout", garbled)]).await;
        assert_eq!(answer.told(), "InvalidArgument INVALID_FIELDS", "{garbled:?}");
        assert_eq!(fields(&answer), ["grpc-timeout"], "{garbled:?}");
        assert_eq!(answer.quoted_request_id(), answer.request_id());
    }
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn headers_over_their_limit_are_refused_and_begin_nothing() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    let long = "x".repeat(17 * 1024);
    let answer = line.send(&Method::POST, GET_ACCOUNT, &[GRPC, ("x-long", &long)], frame(&get("ada"))).await;
    assert!(answer.is_err() || answer.unwrap().http == StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_generated_client_with_nothing_of_ours_in_it_is_served() {
    let (_running, address) = house(&Stub::default()).await;
    let mut client = AccountServiceClient::new(Line::to(address).await);
    assert_eq!(client.get_account(get("ada")).await.unwrap().into_inner().account.unwrap().user_id, "ada");
    assert_eq!(outcome(&client.update_account(update("notfound")).await), "NotFound ACCOUNT_NOT_FOUND");
}
