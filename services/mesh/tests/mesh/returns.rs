//! Endpoints that are back under the address that they had: callers who have nobody else find them.

use std::time::Duration;

use mesh::{CallSettings, Context, Tenant};

use crate::{
    house::{caller, eventually, get, house, update},
    line::outcome,
    proxy::Proxy,
    stub::Stub,
};

#[tokio::test]
async fn whoever_has_nowhere_else_to_go_waits_a_second_at_most_for_an_endpoint_that_was_away_for_long() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let proxy = Proxy::to(address).await;
    proxy.close();
    let settings = CallSettings { breaker_failures: u32::MAX, ..CallSettings::default() };
    let mut account = caller(&[proxy.address], settings);
    // After nine attempts the next one is to wait for four seconds.
    eventually("nine attempts to connect", async || {
        assert_ne!(outcome(&account.update_account(update("ada")).await), "Ok");
        proxy.connections() >= 9
    })
    .await;
    proxy.open();
    let context = Context::own(Tenant::default_tenant(), Duration::from_secs(10));
    assert_eq!(outcome(&account.update_account(context.onward(update("ada"))).await), "Ok");
    assert!(context.remaining() > Duration::from_secs(7), "it did not wait for long");
}

#[tokio::test]
async fn an_endpoint_that_is_left_alone_is_asked_before_its_time_where_no_other_can_be_reached() {
    let stubs = [Stub::default(), Stub::default()];
    let (_first, one) = house(&stubs[0]).await;
    let (_second, other) = house(&stubs[1]).await;
    let (one, other) = (Proxy::to(one).await, Proxy::to(other).await);
    one.close();
    let settings = CallSettings { breaker_failures: 1, ..CallSettings::default() };
    let mut account = caller(&[one.address, other.address], settings);
    eventually("the first one's failure", async || {
        assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
        one.connections() > 0
    })
    .await;
    one.open();
    let before = one.connections();
    for _ in 0..100 {
        assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok");
    }
    assert_eq!(one.connections(), before, "nobody asks it while the other one answers");
    other.close();
    for call in 0..100 {
        assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok", "call {call}");
    }
    assert!(one.connections() > before);
}
