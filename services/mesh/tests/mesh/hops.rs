//! What travels with a call from service to service.

use std::time::Duration;

use mesh::CallSettings;
use trivet_proto::product::v1::CheckAvailabilityRequest;

use crate::{
    house::{caller, get, house, plan, start},
    line::{Answer, CHECK_AVAILABILITY, Line, frame, outcome},
    stub::{Seen, Stub},
};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Asks product, which asks account.
pub(crate) async fn check_availability(line: &Line, user_id: &str, headers: &[(&str, &str)]) -> Answer {
    let request = CheckAvailabilityRequest {
        product_id: "prod_1".to_owned(),
        user_id: user_id.to_owned(),
        organization_id: String::new(),
    };
    line.post(CHECK_AVAILABILITY, headers, frame(&request)).await
}

/// What the first hop and the second one saw of a call.
async fn two_hops(headers: &[(&str, &str)]) -> [Seen; 2] {
    let stub = Stub::default();
    let running = start(plan(&stub)).await;
    let line = Line::to(running.addresses["product"]).await;
    assert_eq!(check_availability(&line, "ada", headers).await.told(), "Ok");
    let seen: [Seen; 2] = stub.seen().try_into().unwrap();
    assert_eq!(seen.each_ref().map(|seen| seen.rpc), ["CheckAvailability", "GetAccount"]);
    seen
}

#[tokio::test]
async fn the_deadline_shrinks_over_each_hop() {
    let [first, second] = two_hops(&[("grpc-timeout", "5S")]).await;
    assert_eq!(first.timeout, Some(Duration::from_secs(5)));
    let onward = second.timeout.unwrap();
    let margin = CallSettings::default().margin;
    assert!(onward + margin <= Duration::from_secs(5) && onward > Duration::from_secs(1), "{onward:?}");
    assert!(second.context.deadline < first.context.deadline);
}

#[tokio::test]
async fn a_call_of_nobody_s_gets_our_own_deadline() {
    let [first, second] = two_hops(&[]).await;
    assert_eq!(first.timeout, None);
    assert!(second.timeout.unwrap() <= CallSettings::default().default_deadline);

    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let settings = CallSettings { default_deadline: Duration::from_millis(60), ..CallSettings::default() };
    let outcome = outcome(&caller(&[address], settings).get_account(get("slow")).await);
    assert_eq!(outcome, "DeadlineExceeded DEADLINE_EXCEEDED");
    assert!(stub.seen()[0].timeout.unwrap() <= Duration::from_millis(60));
}

#[tokio::test]
async fn a_deadline_that_ends_at_the_second_hop_stays_one_for_the_first_caller() {
    let stub = Stub::default();
    let running = start(plan(&stub)).await;
    let line = Line::to(running.addresses["product"]).await;
    let answer = check_availability(&line, "slow", &[("grpc-timeout", "100m")]).await;
    assert_eq!(answer.told(), "DeadlineExceeded DEADLINE_EXCEEDED");
    stub.dropped(1).await;
}

#[tokio::test]
async fn what_has_no_time_left_for_a_hop_is_not_sent() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let context = mesh::Context::own(mesh::Tenant::default_tenant(), Duration::from_millis(1));
    let reply = caller(&[address], CallSettings::default()).get_account(context.onward(get("ada"))).await;
    assert_eq!(outcome(&reply), "DeadlineExceeded DEADLINE_EXCEEDED");
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_trace_goes_on_whether_or_not_it_is_sampled() {
    for flags in ["00", "01"] {
        let came = format!("00-{TRACE_ID}-00f067aa0ba902b7-{flags}");
        let [first, second] = two_hops(&[("traceparent", &came)]).await;
        assert_eq!(first.context.trace.trace_id().to_string(), TRACE_ID);
        let went = second.traceparent.unwrap();
        assert!(went.starts_with(&format!("00-{TRACE_ID}-")) && went.ends_with(flags), "{went}");
        assert_eq!(second.context.trace.trace_id().to_string(), TRACE_ID);
    }
}

#[tokio::test]
async fn a_call_without_a_good_trace_begins_one_that_all_its_hops_share() {
    for garbled in ["", "00-0-0-00", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
        let [first, second] = two_hops(&[("traceparent", garbled)]).await;
        assert!(first.context.trace.is_valid() && !first.context.trace.is_sampled());
        assert_eq!(first.context.trace.trace_id(), second.context.trace.trace_id());
        assert!(second.traceparent.unwrap().contains(&first.context.trace.trace_id().to_string()));
    }
}

#[tokio::test]
async fn the_request_id_and_the_tenant_travel_onward() {
    let [_, second] = two_hops(&[("x-request-id", "checkout-42"), ("x-trivet-tenant", "acme")]).await;
    assert_eq!(second.request_id.as_deref(), Some("checkout-42"));
    assert_eq!(second.tenant.as_deref(), Some("acme"));
    assert_eq!((&*second.context.request_id, second.context.tenant.as_str()), ("checkout-42", "acme"));

    let [first, second] = two_hops(&[]).await;
    assert_eq!(first.context.request_id, second.context.request_id, "an id that we made travels as well");
    assert_eq!(second.tenant.as_deref(), Some("default"));
}

#[tokio::test]
async fn a_refusal_of_the_second_hop_is_for_the_first_one_s_rule() {
    let stub = Stub::default();
    let running = start(plan(&stub)).await;
    let line = Line::to(running.addresses["product"]).await;
    assert_eq!(check_availability(&line, "notfound", &[]).await.told(), "Ok", "no such person means not available");
    assert_eq!(check_availability(&line, "toomuch", &[]).await.told(), "Unavailable DEPENDENCY_UNAVAILABLE");
}
