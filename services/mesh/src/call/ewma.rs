//! How long an endpoint's answer is expected to take: a peak EWMA. A slower answer counts at once, a faster one little by
//! little, and a bad memory fades, so that an endpoint which failed once is asked again some time.
#![allow(clippy::float_arithmetic, reason = "the balancer needs an order, not a number")]

use std::time::Duration;

use tokio::time::Instant;

/// How long the past counts: an answer this old weighs an e-th.
const DECAY: Duration = Duration::from_secs(10);
/// What is expected of an endpoint that has not answered yet.
const FIRST_GUESS: Duration = Duration::from_millis(30);

/// See the module.
pub(super) struct PeakEwma {
    /// In seconds, as it was when something was heard last.
    expected: f64,
    heard: Instant,
}

impl PeakEwma {
    pub(super) fn new() -> Self {
        Self { expected: FIRST_GUESS.as_secs_f64(), heard: Instant::now() }
    }

    /// What is expected now, in seconds, of an endpoint that has so many requests to answer before.
    pub(super) fn expected(&self, now: Instant, before: u32) -> f64 {
        mix(self.expected, 0.0, now.saturating_duration_since(self.heard)) * f64::from(before.saturating_add(1))
    }

    /// Hears how long an answer took.
    pub(super) fn learn(&mut self, took: Duration, now: Instant) {
        let (took, age) = (took.as_secs_f64(), now.saturating_duration_since(self.heard));
        self.heard = now;
        self.expected = took.max(mix(self.expected, took, age));
    }
}

/// The old value and the new one, by the age of the old.
fn mix(old: f64, new: f64, age: Duration) -> f64 {
    let weight = (-age.as_secs_f64() / DECAY.as_secs_f64()).exp();
    new + (old - new) * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-6
    }

    #[test]
    fn the_past_weighs_an_e_th_after_ten_seconds_in_one_step_and_in_many() {
        for steps in [1, 1_000] {
            let fade = |seconds: u64| {
                let age = Duration::from_secs(seconds) / steps;
                (0..steps).fold(1.0, |value, _| mix(value, 0.0, age))
            };
            assert!(close(fade(10), 1.0 / std::f64::consts::E), "{steps}: {}", fade(10));
            assert!(fade(60) < 0.003, "what took a second is forgotten within a minute");
        }
        assert!(close(mix(0.01, 0.09, Duration::ZERO), 0.01));
        assert!(close(mix(0.01, 0.09, Duration::MAX), 0.09));
    }

    #[test]
    fn a_slower_answer_counts_at_once_and_a_faster_one_little_by_little() {
        let mut ewma = PeakEwma::new();
        let now = ewma.heard;
        ewma.learn(Duration::from_millis(200), now);
        assert!(close(ewma.expected(now, 0), 0.2));
        assert!(close(ewma.expected(now, 3), 0.8));
        ewma.learn(Duration::from_millis(2), now + Duration::from_millis(10));
        let expected = ewma.expected(now + Duration::from_millis(10), 0);
        assert!(expected > 0.199 && expected < 0.2, "{expected}");
    }
}
