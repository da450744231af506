//! The rule of the status, part by part, with parts that do as the test says.

use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;

use super::*;

/// A busy machine may take this much longer than anything here should.
const SLACK: Duration = Duration::from_millis(1_500);

fn overview(checks: Vec<Check>) -> Overview {
    let parts = checks.into_iter().map(|check| Part { check, memory: Mutex::default() }).collect();
    let (background, clock, began) = (Background::default(), Clock::system(), Instant::now());
    Overview(Arc::new(Inner { parts, background, clock, began }))
}

/// Each part as it was told: `events Down: why`.
fn told(report: &Report) -> Vec<String> {
    let told = |part: &PartReport| format!("{} {:?}: {}", part.name, part.standing, part.message);
    report.parts.iter().map(told).collect()
}

#[test]
fn a_part_that_is_slow_is_degraded_and_one_that_says_nothing_is_down() {
    let check = |finding: Option<Finding>, millis: u64, expected: (Standing, &str)| {
        let (standing, message) = judge(finding, Duration::from_millis(millis));
        assert_eq!((standing, message.as_str()), expected);
    };
    check(Some(Finding::Ok), 1, (Standing::Ok, ""));
    check(Some(Finding::Ok), 1_000, (Standing::Ok, ""));
    check(Some(Finding::Ok), 1_001, (Standing::Degraded, "the answer took 1001 ms"));
    check(Some(Finding::Noted("one replica".to_owned())), 1, (Standing::Ok, "one replica"));
    check(Some(Finding::Degraded("behind".to_owned())), 1_500, (Standing::Degraded, "behind"));
    check(Some(Finding::Down("away".to_owned())), 1_500, (Standing::Down, "away"));
    check(None, 2_000, (Standing::Down, "no answer within 2 s"));
}

#[test]
fn the_whole_is_down_only_where_nothing_can_be_done_without_what_is() {
    let check = |parts: &[(&'static str, Standing)], expected: Standing| {
        let part = |(name, standing)| PartReport {
            name,
            standing,
            latency: Duration::ZERO,
            since: Time::from_micros(0),
            message: String::new(),
        };
        assert_eq!(whole(&parts.iter().copied().map(part).collect::<Vec<_>>()), expected, "{parts:?}");
    };
    let [ok, degraded, down] = [Standing::Ok, Standing::Degraded, Standing::Down];
    check(&[("api", ok), ("database", ok), ("events", ok), ("account", ok)], ok);
    for part in ["api", "database", "events", "account"] {
        check(&[("billing", ok), (part, degraded)], degraded);
    }
    for (part, expected) in [("api", down), ("database", down), ("events", degraded), ("account", degraded)] {
        check(&[("billing", degraded), (part, down)], expected);
    }
}

#[tokio::test]
async fn every_part_is_looked_at_at_the_same_time() {
    let both = Arc::new(Barrier::new(2));
    let meeting = |name| {
        let both = both.clone();
        Check::new(name, move || {
            let both = both.clone();
            async move {
                both.wait().await;
                Finding::Ok
            }
        })
    };
    let report = overview(vec![meeting("one"), meeting("other")]).report().await;
    assert_eq!(told(&report), ["one Ok: ", "other Ok: "]);
}

#[tokio::test]
async fn a_part_that_never_answers_is_down_after_two_seconds_and_is_not_asked_by_two_at_once() {
    let (looks, released) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let (counted, gate) = (looks.clone(), released.clone());
    let overview = overview(vec![Check::new("events", move || {
        counted.fetch_add(1, Ordering::SeqCst);
        let gate = gate.clone();
        async move {
            gate.cancelled().await;
            Finding::Ok
        }
    })]);
    let began = Instant::now();
    let (one, other) = tokio::join!(overview.report(), overview.report());
    for report in [one, other] {
        assert_eq!(told(&report), ["events Down: no answer within 2 s"]);
        assert!(report.parts[0].latency >= PATIENCE);
    }
    assert!((PATIENCE..PATIENCE + SLACK).contains(&began.elapsed()), "it took {:?}", began.elapsed());

    let began = Instant::now();
    assert_eq!(told(&overview.report().await), ["events Down: no answer within 2 s"]);
    assert!(began.elapsed() < SLACK, "who waited for two seconds already does not have to be waited for again");
    assert_eq!(looks.load(Ordering::SeqCst), 1, "one look for everybody");

    released.cancel();
    while overview.0.parts[0].lock().look.as_ref().is_some_and(Look::is_under_way) {
        tokio::task::yield_now().await;
    }
    assert_eq!(told(&overview.report().await), ["events Ok: "], "a look that has ended is followed by a new one");
    assert_eq!(looks.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_look_that_panics_is_of_a_part_that_is_down_and_takes_nothing_with_it() {
    let overview = overview(vec![
        Check::new("at_once", || -> std::future::Ready<Finding> { panic!("the secret is 42") }),
        Check::new("later", || async { panic!("the secret is 42") }),
        Check::new("well", || async { Finding::Ok }),
    ]);
    for _ in 0..2 {
        let expected =
            ["at_once Down: it could not be looked at", "later Down: it could not be looked at", "well Ok: "];
        assert_eq!(told(&overview.report().await), expected);
    }
}

#[tokio::test]
async fn a_look_that_never_ends_does_not_hold_up_the_end_of_the_process() {
    let overview = overview(vec![Check::new("events", pending)]);
    let asked = tokio::spawn({
        let overview = overview.clone();
        async move { told(&overview.report().await) }
    });
    while overview.0.parts[0].lock().look.is_none() {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(SLACK, overview.0.background.finish()).await.expect("the look is given up");
    assert_eq!(asked.await.unwrap(), ["events Down: it could not be looked at"]);
}
