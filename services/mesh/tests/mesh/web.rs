//! Pages in browsers: which may call, what they are told, and that nothing else of the house is different for them.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use mesh::{CallSettings, Running, StartError};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};
use trivet_proto::account::v1::GetAccountResponse;

use crate::{
    house::{caller, drain, eventually, get, house, in_time, plan, start, update},
    line::{GET_ACCOUNT, Line, frame, outcome},
    page::{Page, SHOP, Shown, shown},
    stub::{MESSAGE_BYTES, Stub},
};

const WEB: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";
const WATCH_HEALTH: &str = "/grpc.health.v1.Health/Watch";

/// A process whose pages of [`SHOP`] may call, and where its account service listens.
async fn open_house(stub: &Stub) -> (Running, SocketAddr) {
    let mut plan = plan(stub);
    plan.server.web_origins = format!("http://localhost:3000,{SHOP}");
    let running = start(plan).await;
    let address = running.addresses["account"];
    (running, address)
}

fn says_nothing_of_origins(headers: &HeaderMap) {
    let said: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("access-control")).collect();
    assert!(said.is_empty(), "{said:?}");
}

#[tokio::test]
async fn no_page_may_call_where_no_origin_is_listed() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    let headers = [("origin", SHOP), ("content-type", WEB)];
    let answer = line.send(&Method::POST, GET_ACCOUNT, &headers, frame(&get("ada"))).await.unwrap();
    assert_eq!(answer.http, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    says_nothing_of_origins(&answer.headers);
    let headers = [("origin", SHOP), ("access-control-request-method", "POST")];
    let answer = line.send(&Method::OPTIONS, GET_ACCOUNT, &headers, Bytes::new()).await.unwrap();
    assert_eq!(answer.http, StatusCode::METHOD_NOT_ALLOWED);
    says_nothing_of_origins(&answer.headers);
    let mut page = Page::at(address).await;
    let old = page.begin(&Method::POST, GET_ACCOUNT, &[("content-type", WEB)], frame(&get("ada"))).await;
    assert!(old.is_err(), "HTTP/1.1 is not spoken: {old:?}");
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_listed_origin_asks_first_and_is_told_what_its_pages_may_send_and_read() {
    let stub = Stub::default();
    let (_running, address) = open_house(&stub).await;
    let asks = [
        ("origin", SHOP),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,grpc-timeout,x-grpc-web"),
    ];
    let told = Page::at(address).await.send(&Method::OPTIONS, GET_ACCOUNT, &asks, Bytes::new()).await;
    assert_eq!((told.http, &told.headers["access-control-allow-origin"]), (StatusCode::OK, &SHOP.parse().unwrap()));
    assert_eq!(told.headers["access-control-allow-methods"], "POST");
    assert_eq!(told.headers["access-control-max-age"], "7200");
    assert!(!told.headers.contains_key("access-control-allow-credentials"));
    assert!(told.headers.get_all("vary").iter().any(|vary| vary.to_str().unwrap().contains("origin")));
    let allowed = told.headers["access-control-allow-headers"].to_str().unwrap();
    let may_send = [
        "content-type",
        "x-grpc-web",
        "x-user-agent",
        "grpc-timeout",
        "authorization",
        "x-request-id",
        "x-trivet-tenant",
        "traceparent",
    ];
    for name in may_send {
        assert!(allowed.split(',').any(|allowed| allowed == name), "{name}: {allowed}");
    }
    assert!(stub.seen().is_empty());
    // One that asks for nothing asks in vain, whoever it is from.
    for headers in [&asks[..1], &asks[1..], &[]] {
        let refused = Page::at(address).await.send(&Method::OPTIONS, GET_ACCOUNT, headers, Bytes::new()).await;
        assert_eq!(refused.http, StatusCode::METHOD_NOT_ALLOWED, "{headers:?}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_and_nothing_is_done_for_it() {
    let stub = Stub::default();
    let (_running, address) = open_house(&stub).await;
    let line = Line::to(address).await;
    let mut page = Page::at(address).await;
    let own = format!("http://{address}");
    for origin in
        ["https://evil.example", "null", "https://shop.example:443", "https://shop.example.evil.example", &own]
    {
        for content_type in [WEB, TEXT, "application/grpc", "text/plain"] {
            let headers = [("origin", origin), ("content-type", content_type)];
            let refused = page.post(GET_ACCOUNT, &headers, frame(&get("ada"))).await;
            assert_eq!(refused.http, StatusCode::FORBIDDEN, "{origin} {content_type}");
            says_nothing_of_origins(&refused.headers);
            let refused = line.send(&Method::POST, GET_ACCOUNT, &headers, frame(&get("ada"))).await.unwrap();
            assert_eq!(refused.http, StatusCode::FORBIDDEN, "{origin} {content_type}");
        }
        let asks = [("origin", origin), ("access-control-request-method", "POST")];
        let refused = page.send(&Method::OPTIONS, GET_ACCOUNT, &asks, Bytes::new()).await;
        assert_eq!(refused.http, StatusCode::FORBIDDEN, "{origin}");
        says_nothing_of_origins(&refused.headers);
    }
    let two = [("origin", SHOP), ("origin", "https://evil.example"), ("content-type", WEB)];
    assert_eq!(page.post(GET_ACCOUNT, &two, frame(&get("ada"))).await.http, StatusCode::FORBIDDEN);
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn what_is_no_grpc_web_is_refused_in_http_s_own_words() {
    let stub = Stub::default();
    let (_running, address) = open_house(&stub).await;
    let line = Line::to(address).await;
    let mut page = Page::at(address).await;
    for content_type in ["application/grpc", "text/plain", "application/grpc-web+json"] {
        for headers in [&[("content-type", content_type)][..], &[("origin", SHOP), ("content-type", content_type)]] {
            let refused = page.post(GET_ACCOUNT, headers, frame(&get("ada"))).await;
            assert_eq!(refused.http, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{headers:?}");
        }
        let headers = [("origin", SHOP), ("content-type", content_type)];
        let refused = line.send(&Method::POST, GET_ACCOUNT, &headers, frame(&get("ada"))).await.unwrap();
        assert_eq!(refused.http, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type}");
    }
    let refused = page.send(&Method::GET, GET_ACCOUNT, &[("content-type", WEB)], Bytes::new()).await;
    assert_eq!(refused.http, StatusCode::METHOD_NOT_ALLOWED);
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_page_gets_its_answer_in_every_encoding_and_others_call_as_ever() {
    let stub = Stub::default();
    let (_running, address) = open_house(&stub).await;
    let mut page = Page::at(address).await;
    let check = |answer: Shown, content_type: &str| {
        assert_eq!((answer.http, answer.told().as_str()), (StatusCode::OK, "Ok"), "{content_type}");
        let got = GetAccountResponse::decode(answer.messages[0].clone()).unwrap();
        assert_eq!((answer.messages.len(), got.account.unwrap().user_id.as_str()), (1, "ada"));
        assert_eq!(answer.headers["access-control-allow-origin"], SHOP);
        let exposed = answer.headers["access-control-expose-headers"].to_str().unwrap();
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-retry-pushback-ms", "x-request-id"]
        {
            assert!(exposed.split(',').any(|exposed| exposed == name), "{name}: {exposed}");
        }
        assert!(answer.headers["x-request-id"].to_str().unwrap().starts_with("req_"));
    };
    for content_type in ["application/grpc-web", WEB, TEXT, "application/grpc-web-text+proto"] {
        check(page.call(GET_ACCOUNT, content_type, &get("ada")).await, content_type);
    }
    // As a browser does over TLS.
    let headers = [("origin", SHOP), ("content-type", WEB)];
    let line = Line::to(address).await;
    let answer = line.send(&Method::POST, GET_ACCOUNT, &headers, frame(&get("ada"))).await.unwrap();
    check(shown(answer.http, answer.headers, answer.body), WEB);
    assert_eq!(stub.seen().len(), 5);
    let native = line.get("ada", &[]).await;
    assert_eq!((native.told().as_str(), native.headers["content-type"].as_bytes()), ("Ok", &b"application/grpc"[..]));
    says_nothing_of_origins(&native.headers);
    assert_eq!(outcome(&caller(&[address], CallSettings::default()).update_account(update("ada")).await), "Ok");
}

#[tokio::test]
async fn what_a_page_says_of_its_call_counts_as_in_any_other() {
    let stub = Stub::default();
    let (_running, address) = open_house(&stub).await;
    let mut page = Page::at(address).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [
        ("origin", SHOP),
        ("content-type", WEB),
        ("x-grpc-web", "1"),
        ("grpc-timeout", "2S"),
        ("x-request-id", "cart-7"),
        ("x-trivet-tenant", "shop"),
        ("traceparent", trace),
    ];
    let answer = page.post(GET_ACCOUNT, &headers, frame(&get("ada"))).await;
    assert_eq!((answer.told().as_str(), answer.headers["x-request-id"].as_bytes()), ("Ok", &b"cart-7"[..]));
    let seen = stub.seen().pop().unwrap();
    assert_eq!((seen.context.tenant.to_string(), &*seen.context.request_id), ("shop".to_owned(), "cart-7"));
    assert!(seen.context.remaining().as_secs() < 2, "{:?}", seen.context.remaining());
    let late = [("origin", SHOP), ("content-type", WEB), ("grpc-timeout", "50m")];
    assert_eq!(page.post(GET_ACCOUNT, &late, frame(&get("slow"))).await.told(), "DeadlineExceeded DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_refusal_reaches_a_page_with_its_reason_and_its_request_id() {
    let (_running, address) = open_house(&Stub::default()).await;
    let mut page = Page::at(address).await;
    for content_type in [WEB, TEXT] {
        for (user, expected) in [("notfound", "NotFound ACCOUNT_NOT_FOUND"), ("panic", "Internal INTERNAL")] {
            let answer = page.call(GET_ACCOUNT, content_type, &get(user)).await;
            assert_eq!(answer.told(), expected);
            assert_eq!(answer.headers["access-control-allow-origin"], SHOP);
        }
        assert_eq!(
            page.call("/trivet.account.v1.No/No", content_type, &get("ada")).await.told(),
            "Unimplemented METHOD_NOT_FOUND"
        );
    }
}

#[tokio::test]
async fn a_stream_reaches_a_page_as_it_goes_on_and_says_at_its_end_why() {
    let (running, address) = open_house(&Stub::default()).await;
    let mut page = Page::at(address).await;
    let headers = [("origin", SHOP), ("content-type", WEB)];
    let asked = frame(&HealthCheckRequest::default());
    let (head, mut body) = page.begin(&Method::POST, WATCH_HEALTH, &headers, asked).await.unwrap().into_parts();
    let first = in_time("the first message", body.frame()).await.unwrap().unwrap().into_data().unwrap();
    let answer = shown(head.status, head.headers.clone(), first);
    let now = HealthCheckResponse::decode(answer.messages[0].clone()).unwrap();
    assert_eq!((now.status(), answer.status.is_some()), (ServingStatus::Serving, false), "it goes on");
    let draining = tokio::spawn(drain(running));
    let rest = in_time("the end", body.collect()).await.unwrap().to_bytes();
    let rest = shown(head.status, head.headers, rest);
    assert_eq!(rest.status.unwrap().code(), tonic::Code::Unavailable);
    in_time("the drain", draining).await.unwrap();
}

#[tokio::test]
async fn what_a_page_garbles_is_invalid_and_not_carried_out() {
    let stub = Stub::default();
    let (_running, address) = open_house(&stub).await;
    let mut page = Page::at(address).await;
    let mut check = async |content_type: &str, body: &[u8]| {
        let headers = [("origin", SHOP), ("content-type", content_type)];
        let answer = page.post(GET_ACCOUNT, &headers, Bytes::copy_from_slice(body)).await;
        assert_eq!(answer.told(), "InvalidArgument INVALID_FIELDS", "{content_type} {body:?}");
    };
    check(TEXT, b"@@@@").await;
    check(TEXT, b"AAAAA").await;
    check(WEB, b"").await;
    check(WEB, &[0, 0, 0, 0, 9, 1]).await;
    check(WEB, &[frame(&get("ada")), frame(&get("bob"))].concat()).await;
    // Pages cannot send trailers: to us they are a second message, of a kind that there is not.
    check(WEB, &[&frame(&get("ada"))[..], &[0x80, 0, 0, 0, 0]].concat()).await;
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_page_s_message_over_the_limit_is_resource_exhausted() {
    let stub = Stub::default();
    let (_running, address) = open_house(&stub).await;
    for content_type in [WEB, TEXT] {
        let answer =
            Page::at(address).await.call(GET_ACCOUNT, content_type, &get(&"x".repeat(MESSAGE_BYTES + 1))).await;
        assert_eq!(answer.told(), "ResourceExhausted TOO_LARGE", "{content_type}");
    }
    let announced = Bytes::from_static(&[0, 255, 255, 255, 255]);
    let answer = Page::at(address).await.post(GET_ACCOUNT, &[("origin", SHOP), ("content-type", WEB)], announced).await;
    assert_eq!(answer.told(), "ResourceExhausted TOO_LARGE", "nothing is read that was only announced");
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn headers_of_http_1_have_the_limits_that_those_of_http_2_have() {
    let stub = Stub::default();
    let (_running, address) = open_house(&stub).await;
    let filler = "x".repeat(17 * 1024);
    let headers = [("content-type", WEB), ("x-filler", &filler)];
    let refused = Page::at(address).await.post(GET_ACCOUNT, &headers, Bytes::new()).await;
    assert_eq!(refused.http, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let begun = format!("POST {GET_ACCOUNT} HTTP/1.1\r\nhost: trivet.example\r\n");
    let mut page = Page::at(address).await;
    assert_eq!(page.call(GET_ACCOUNT, WEB, &get("ada")).await.told(), "Ok");
    let let_go = async |words: &str| {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(words.as_bytes()).await.unwrap();
        // Closed, or reset: either way it is over.
        let _ = in_time("the end", socket.read_to_end(&mut Vec::new())).await;
    };
    join_all(["", "PRI * HTTP/2", "POST / HTTP/1.1\r\n", &begun].map(let_go)).await;
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn a_page_that_goes_away_takes_its_call_with_it() {
    let stub = Stub::default();
    let (_running, address) = open_house(&stub).await;
    let mut socket = TcpStream::connect(address).await.unwrap();
    let body = frame(&get("slow"));
    let head = format!(
        "POST {GET_ACCOUNT} HTTP/1.1\r\nhost: a\r\norigin: {SHOP}\r\ncontent-type: {WEB}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    stub.begun(1).await;
    drop(socket);
    stub.dropped(1).await;
}

#[tokio::test]
async fn a_connection_of_a_page_ends_with_age_and_with_the_process_and_costs_no_call() {
    let stub = Stub::default();
    let mut plan = plan(&stub);
    SHOP.clone_into(&mut plan.server.web_origins);
    plan.server.connection_age_ms = 50;
    let running = start(plan).await;
    let address = running.addresses["account"];
    let mut old = Page::at(address).await;
    assert_eq!(old.call(GET_ACCOUNT, WEB, &get("ada")).await.told(), "Ok");
    eventually("the end of the connection", async || old.is_over()).await;
    let mut page = Page::at(address).await;
    let call = tokio::spawn(async move { page.call(GET_ACCOUNT, WEB, &get("held")).await.told() });
    stub.begun(2).await;
    // Neither of these two asks for anything.
    let idle = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nhost: trivet.example\r\n").await.unwrap();
    let draining = tokio::spawn(drain(running));
    eventually("the end of accepting", async || TcpStream::connect(address).await.is_err()).await;
    assert!(!draining.is_finished(), "it waits for the call");
    stub.release();
    assert_eq!(in_time("the call", call).await.unwrap(), "Ok");
    in_time("the drain", draining).await.unwrap();
    drop((idle, half));
}

#[tokio::test]
async fn origins_that_cannot_be_read_are_named_before_anything_is_bound() {
    let mut plan = plan(&Stub::default());
    "https://shop.example/,*".clone_into(&mut plan.server.web_origins);
    let Err(error) = plan.bind().await else { panic!("it is bound") };
    assert!(matches!(error, StartError::Origins(_)));
    for fault in ["server.web_origins", "\"https://shop.example/\" is no origin", "every page there is"] {
        assert!(error.to_string().contains(fault), "{error}");
    }
}
