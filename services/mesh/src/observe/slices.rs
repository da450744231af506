//! How many calls there were in the last minute, how they ended and how long they took: counts in atomics, that nobody
//! waits for and nobody sweeps.
//!
//! Time is cut into slices of five seconds, and each counter says in its upper half which slice it counts for. Who
//! counts for a later one begins again at one, and who reads takes what is older than a minute for nothing. So no count
//! is lost where one slice ends and the next begins, as it would be if somebody had to clear them.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tonic::Code;

use crate::call::is_illness;

/// The length of a slice: short enough for what was a minute ago to be forgotten in time, long enough for a minute to be
/// few of them.
const SLICE: Duration = Duration::from_secs(5);
/// A minute of them, and the present one.
const SLICES: usize = 13;
const BACK: u64 = 12;
/// A rate is never taken over less than this: the first call of a process is not a thousand a second.
const LEAST_WINDOW: Duration = Duration::from_secs(1);

/// Codes that there are.
const CODES: usize = 17;
/// Durations are counted in four steps for each doubling: what is in the same step differs by a quarter at most.
const STEPS: usize = 4;
const STEP_BITS: u32 = 2;
/// What takes less than 2^4 µs is not told apart, nor is what takes 67 s (2^26 µs) or more: nobody waits that long.
const SHORTEST: u32 = 4;
const DOUBLINGS: usize = 22;
const DURATIONS: usize = 1 + DOUBLINGS * STEPS;

/// Counts of one slice.
struct Slice {
    codes: [AtomicU64; CODES],
    durations: [AtomicU64; DURATIONS],
    retries: AtomicU64,
}

/// Counts of the last minute.
pub(super) struct Slices([Slice; SLICES]);

/// What was counted, added up.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    codes: [u64; CODES],
    durations: [u64; DURATIONS],
    pub(super) retries: u64,
}

impl Default for Slices {
    fn default() -> Self {
        let slice = |_| Slice {
            codes: array::from_fn(|_| AtomicU64::default()),
            durations: array::from_fn(|_| AtomicU64::default()),
            retries: AtomicU64::default(),
        };
        Self(array::from_fn(slice))
    }
}

impl Default for Sum {
    fn default() -> Self {
        Self { codes: [0; CODES], durations: [0; DURATIONS], retries: 0 }
    }
}

impl Slices {
    /// Counts a call that ended `now`, which is how long ago the counting began.
    pub(super) fn count(&self, now: Duration, code: Code, took: Duration) {
        let number = number(now);
        let Some(slice) = self.slice(number) else { return };
        let code = slice.codes.get(usize::try_from(i32::from(code)).unwrap_or(usize::MAX));
        for counter in [code, slice.durations.get(step(took))].into_iter().flatten() {
            increment(counter, number);
        }
    }

    /// Counts another attempt of a call.
    pub(super) fn count_retry(&self, now: Duration) {
        let number = number(now);
        if let Some(slice) = self.slice(number) {
            increment(&slice.retries, number);
        }
    }

    /// Adds what was counted in the minute before `now`.
    pub(super) fn add_to(&self, sum: &mut Sum, now: Duration) {
        let number = number(now);
        for number in number.saturating_sub(BACK)..=number {
            let Some(slice) = self.slice(number) else { continue };
            let codes = sum.codes.iter_mut().zip(&slice.codes);
            let durations = sum.durations.iter_mut().zip(&slice.durations);
            for (sum, counter) in codes.chain(durations).chain([(&mut sum.retries, &slice.retries)]) {
                *sum += counted(counter.load(Ordering::Relaxed), number);
            }
        }
    }

    fn slice(&self, number: u64) -> Option<&Slice> {
        self.0.get(usize::try_from(number).ok()? % SLICES)
    }
}

/// The number of the slice that this moment is in.
fn number(now: Duration) -> u64 {
    now.as_secs() / SLICE.as_secs()
}

/// What a counter holds: the number of its slice above, the count below. Either fits: 32 bits of slices are 680 years.
const COUNT_BITS: u32 = 32;

fn increment(counter: &AtomicU64, number: u64) {
    let one_more = |held: u64| Some(if held >> COUNT_BITS == number { held + 1 } else { (number << COUNT_BITS) + 1 });
    // The function always answers.
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
}

fn counted(held: u64, number: u64) -> u64 {
    if held >> COUNT_BITS == number { held - (number << COUNT_BITS) } else { 0 }
}

/// The step that a duration is in.
fn step(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let doubling = micros.checked_ilog2().unwrap_or(0);
    let Some(above) = doubling.checked_sub(SHORTEST).and_then(|above| usize::try_from(above).ok()) else { return 0 };
    let within = usize::try_from(micros >> (doubling - STEP_BITS)).unwrap_or(0) % STEPS;
    (1 + above * STEPS + within).min(DURATIONS - 1)
}

/// Where a step begins, and how wide it is, in microseconds.
fn extent(step: usize) -> (u64, u64) {
    let Some(above) = step.checked_sub(1) else { return (0, 1 << SHORTEST) };
    let doubling = SHORTEST + u32::try_from(above / STEPS).unwrap_or(0);
    let width = 1_u64 << (doubling - STEP_BITS);
    ((1 << doubling) + width * u64::try_from(above % STEPS).unwrap_or(0), width)
}

impl Sum {
    /// Adds what was counted elsewhere.
    pub(super) fn add(&mut self, other: &Self) {
        let codes = self.codes.iter_mut().zip(&other.codes);
        let durations = self.durations.iter_mut().zip(&other.durations);
        for (sum, further) in codes.chain(durations).chain([(&mut self.retries, &other.retries)]) {
            *sum += further;
        }
    }

    /// How many calls there were.
    pub(super) fn calls(&self) -> u64 {
        self.codes.iter().sum()
    }

    /// How they ended: each code that there was, and how often.
    pub(super) fn codes(&self) -> impl Iterator<Item = (Code, u64)> {
        (0..).map(Code::from_i32).zip(self.codes).filter(|(_, calls)| *calls > 0)
    }

    /// The share of calls that did not fail; a refusal is no failure.
    pub(super) fn success_rate(&self) -> f64 {
        let well = self.codes().filter(|(code, _)| !is_illness(*code)).map(|(_, calls)| calls).sum();
        match self.calls() {
            0 => 1.0,
            calls => quotient(well, number_of(calls)),
        }
    }

    /// Calls per second, where they were counted up to `now`.
    pub(super) fn rate(&self, now: Duration) -> f64 {
        let since = SLICE * u32::try_from(number(now).saturating_sub(BACK)).unwrap_or(0);
        quotient(self.calls(), now.saturating_sub(since).max(LEAST_WINDOW).as_secs_f64())
    }

    /// What so many of a hundred calls take at most (the nearest rank, and within its step in proportion): off by a
    /// quarter at most. Nothing where there were no calls.
    pub(super) fn quantile(&self, percent: u64) -> Duration {
        let rank = (self.durations.iter().sum::<u64>() * percent).div_ceil(100);
        let mut below = 0;
        for (step, count) in self.durations.iter().enumerate().filter(|(_, count)| **count > 0) {
            if below + count >= rank {
                let (begin, width) = extent(step);
                return Duration::from_micros(begin + width * rank.saturating_sub(below) / count);
            }
            below += count;
        }
        Duration::ZERO
    }
}

/// A number for people to look at. No money is counted here, and no call more often than 2^32 times in a minute.
fn number_of(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[allow(clippy::float_arithmetic, reason = "rates are for people to look at; no money is divided here")]
fn quotient(count: u64, by: f64) -> f64 {
    number_of(count) / by
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_hours(1);

    fn sum(slices: &Slices, now: Duration) -> Sum {
        let mut sum = Sum::default();
        slices.add_to(&mut sum, now);
        sum
    }

    #[test]
    fn a_call_counts_for_a_minute_and_then_no_more() {
        let slices = Slices::default();
        for began in [Duration::ZERO, NOW, NOW + Duration::from_hours(168)] {
            slices.count(began, Code::Ok, Duration::from_millis(1));
            slices.count_retry(began);
            for (after, counts) in [(0, 1), (5, 1), (60, 1), (65, 0), (70, 0), (130, 0)] {
                let sum = sum(&slices, began + Duration::from_secs(after));
                assert_eq!((sum.calls(), sum.retries), (counts, counts), "after {after} s");
            }
        }
    }

    #[test]
    fn no_count_is_lost_where_many_begin_a_slice_at_once() {
        let slices = Slices::default();
        for round in 0..100_u64 {
            let now = SLICE * u32::try_from(round).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..25).for_each(|_| slices.count(now, Code::Ok, Duration::ZERO)));
                }
            });
            assert_eq!(sum(&slices, now).calls(), 100 * (round + 1).min(13));
        }
    }

    #[test]
    fn a_refusal_is_no_failure() {
        let slices = Slices::default();
        for code in [Code::Ok, Code::NotFound, Code::FailedPrecondition, Code::Internal] {
            slices.count(NOW, code, Duration::ZERO);
        }
        let sum = sum(&slices, NOW);
        assert!((sum.success_rate() - 0.75).abs() < 1e-9);
        let codes: Vec<_> = sum.codes().collect();
        assert_eq!(codes, [(Code::Ok, 1), (Code::NotFound, 1), (Code::FailedPrecondition, 1), (Code::Internal, 1)]);
        assert!((Sum::default().success_rate() - 1.0).abs() < 1e-9, "nothing failed");
    }

    #[test]
    fn a_rate_is_over_the_minute_or_over_the_life_of_a_younger_process() {
        let check = |began: u64, calls: u32, now: u64, expected: f64| {
            let slices = Slices::default();
            (0..calls).for_each(|_| slices.count(Duration::from_secs(began), Code::Ok, Duration::ZERO));
            let now = Duration::from_secs(now);
            let rate = sum(&slices, now).rate(now);
            assert!((rate - expected).abs() < 1e-9, "{rate}");
        };
        check(0, 30, 0, 30.0);
        check(2, 30, 10, 3.0);
        check(3_600, 120, 3_600, 2.0);
        check(3_600, 128, 3_604, 2.0);
    }

    #[test]
    fn quantiles_are_off_by_a_quarter_at_most() {
        let mut state = 7_u64;
        let mut dice = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for spread in [100, 10_000, 1_000_000, 30_000_000] {
            let slices = Slices::default();
            let mut exact: Vec<u64> = (0..5_000).map(|_| 16 + dice() % spread).collect();
            for micros in &exact {
                slices.count(NOW, Code::Ok, Duration::from_micros(*micros));
            }
            exact.sort_unstable();
            let sum = sum(&slices, NOW);
            for percent in [1, 50, 95, 99, 100] {
                let exact = Duration::from_micros(exact[percent * 5_000 / 100 - 1]);
                let told = sum.quantile(u64::try_from(percent).unwrap());
                assert!(
                    told.abs_diff(exact) <= exact / 4,
                    "{percent} of a hundred up to {spread} µs: {told:?} {exact:?}"
                );
            }
        }
        assert_eq!(sum(&Slices::default(), NOW).quantile(99), Duration::ZERO);
    }

    #[test]
    fn every_duration_is_in_the_step_that_holds_it() {
        for micros in (0..5_000).chain([65_535, 65_536, 1_000_000, 67_108_863]) {
            let (begin, width) = extent(step(Duration::from_micros(micros)));
            assert!((begin..begin + width).contains(&micros), "{micros}: {begin} {width}");
        }
        for longer in [Duration::from_secs(68), Duration::from_hours(1), Duration::MAX] {
            assert_eq!(step(longer), DURATIONS - 1);
        }
    }
}
