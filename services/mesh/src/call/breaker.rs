//! The breaker of one endpoint: CLOSED until it fails several times in a row, or more often than not for a while; then OPEN
//! for a while, then HALF_OPEN for one call that finds out.

use std::time::Duration;

use tokio::time::Instant;

use crate::observe::Breakers;

/// Over so many seconds, with at least so many calls, an endpoint may not fail more often than not.
const WINDOW: usize = 10;
const CALLS: u32 = 20;
/// After a probe that failed there is none before its time for so long.
const EARLY_PAUSE: Duration = Duration::from_secs(1);

/// What a breaker says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go.
    Pass,
    /// Go, and whatever comes of it decides for the others.
    Probe,
    /// Not before this much time has passed.
    Refuse(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open(Probes),
    /// One call is on its way to find out.
    HalfOpen(Probes),
}

/// When a call may find out how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Probes {
    /// Any call.
    from: Instant,
    /// One that has nowhere else to go.
    early_from: Instant,
}

/// What became of a breaker when it heard of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is as it was.
    None,
    /// It let calls through, and does not any more.
    Opened,
    /// The probe failed: it stays open.
    Reopened,
    /// The probe went well: it lets calls through again.
    Closed,
}

/// How calls went in each of the last seconds.
#[derive(Debug, Default)]
struct Recent([Second; WINDOW]);

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    calls: u32,
    failures: u32,
}

impl Recent {
    fn note(&mut self, number: u64, well: bool) {
        let place = usize::try_from(number).unwrap_or(0) % WINDOW;
        let Some(second) = self.0.get_mut(place) else { return };
        if second.number != number {
            *second = Second { number, ..Second::default() };
        }
        second.calls = second.calls.saturating_add(1);
        second.failures = second.failures.saturating_add(u32::from(!well));
    }

    /// Whether there were enough calls up to this second, and most of them failed.
    fn mostly_failed(&self, number: u64) -> bool {
        let counts =
            |second: &&Second| usize::try_from(number.saturating_sub(second.number)).is_ok_and(|age| age < WINDOW);
        let (calls, failures) = self
            .0
            .iter()
            .filter(counts)
            .fold((0_u32, 0_u32), |(calls, failures), second| (calls + second.calls, failures + second.failures));
        calls >= CALLS && failures > calls / 2
    }
}

/// See the module. Not shared: its endpoint holds it behind a lock that is never held across an await.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    recent: Recent,
    began: Instant,
    failures_to_open: u32,
    open_for: Duration,
}

impl Breaker {
    /// A breaker that opens after so many failures in a row; `u32::MAX`: that never opens.
    pub(super) fn new(failures_to_open: u32, open_for: Duration) -> Self {
        let (state, recent) = (State::Closed { failures: 0 }, Recent::default());
        Self { state, recent, began: Instant::now(), failures_to_open, open_for }
    }

    /// Whether it lets everybody through.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// How it is, for whoever looks.
    pub(super) fn state(&self) -> Breakers {
        match self.state {
            State::Closed { .. } => Breakers::Closed,
            State::HalfOpen(_) => Breakers::HalfOpen,
            State::Open(_) => Breakers::Open,
        }
    }

    /// What it would say now, with no effect.
    pub(super) fn peek(&self, now: Instant) -> Verdict {
        match self.state {
            State::Closed { .. } => Verdict::Pass,
            State::Open(Probes { from, .. }) if now >= from => Verdict::Probe,
            State::Open(Probes { from, .. }) => Verdict::Refuse(from - now),
            State::HalfOpen(_) => Verdict::Refuse(Duration::from_millis(100)),
        }
    }

    /// Whether it keeps calls away, and no probe is on its way.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Whether it waits for its probe, and somebody who has nowhere else to go may make it now.
    pub(super) fn may_be_probed_early(&self, now: Instant) -> bool {
        matches!(self.state, State::Open(Probes { from, early_from }) if now < from && now >= early_from)
    }

    /// Anybody may probe it from now on.
    pub(super) fn is_due(&mut self, now: Instant) {
        if let State::Open(probes) = &mut self.state {
            probes.from = probes.from.min(now);
        }
    }

    /// Asks for a call that will now be made; a probe takes the only place. `early`: it may probe before it is time.
    pub(super) fn enter(&mut self, now: Instant, early: bool) -> Verdict {
        match self.state {
            State::Open(probes) if now >= probes.from || (early && now >= probes.early_from) => {
                self.state = State::HalfOpen(probes);
                Verdict::Probe
            }
            _ => self.peek(now),
        }
    }

    /// Hears how a call went that was let through, as the probe or not. While it is not closed only the probe is heard: what
    /// began before says nothing new. It opens only where `may_open` agrees.
    pub(super) fn heard(&mut self, well: bool, probe: bool, now: Instant, may_open: impl FnOnce() -> bool) -> Change {
        match self.state {
            State::Closed { failures } => {
                let second = now.saturating_duration_since(self.began).as_secs();
                self.recent.note(second, well);
                let failures = if well { 0 } else { failures.saturating_add(1) };
                let ill = !well && (failures >= self.failures_to_open || self.recent.mostly_failed(second));
                if ill && self.failures_to_open != u32::MAX && may_open() {
                    self.state = State::Open(Probes { from: now + self.open_for, early_from: now });
                    return Change::Opened;
                }
                self.state = State::Closed { failures };
                Change::None
            }
            State::HalfOpen(_) if probe && well => {
                (self.state, self.recent) = (State::Closed { failures: 0 }, Recent::default());
                Change::Closed
            }
            State::HalfOpen(_) if probe => {
                self.state = State::Open(Probes { from: now + self.open_for, early_from: now + EARLY_PAUSE });
                Change::Reopened
            }
            State::HalfOpen(_) | State::Open(_) => Change::None,
        }
    }

    /// The probe was given up before anything was heard: it gives its place back.
    pub(super) fn abandoned(&mut self) {
        if let State::HalfOpen(probes) = self.state {
            self.state = State::Open(probes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_mins(1);

    /// Has it hear of a call that was no probe, as the only endpoint's.
    fn heard(breaker: &mut Breaker, well: bool, now: Instant) -> Change {
        breaker.heard(well, false, now, || true)
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_success_in_between_does_not() {
        let (mut breaker, now) = (Breaker::new(5, OPEN), Instant::now());
        for _ in 0..4 {
            assert_eq!(heard(&mut breaker, false, now), Change::None);
        }
        heard(&mut breaker, true, now);
        for _ in 0..4 {
            assert_eq!(heard(&mut breaker, false, now), Change::None);
        }
        assert_eq!(breaker.enter(now, false), Verdict::Pass);
        assert_eq!(heard(&mut breaker, false, now), Change::Opened);
        assert_eq!(breaker.enter(now, false), Verdict::Refuse(OPEN));
    }

    /// Two failures and a success, and so on, one call after each of these waits: what comes of so many calls.
    fn mostly_failing(calls: u32, wait: Duration) -> bool {
        let mut breaker = Breaker::new(5, OPEN);
        let began = breaker.began;
        (0..calls).any(|call| heard(&mut breaker, call % 3 == 2, began + wait * call) == Change::Opened)
    }

    #[test]
    fn failing_more_often_than_not_over_ten_seconds_opens_it_once_there_were_twenty_calls() {
        assert!(!mostly_failing(19, Duration::ZERO));
        assert!(mostly_failing(20, Duration::ZERO));
        assert!(mostly_failing(23, Duration::from_millis(450)));
        assert!(!mostly_failing(200, Duration::from_millis(600)), "never twenty calls within ten seconds");
    }

    #[test]
    fn failing_half_of_the_time_does_not_open_it() {
        let (mut breaker, now) = (Breaker::new(5, OPEN), Instant::now());
        for call in 0..200 {
            assert_eq!(heard(&mut breaker, call % 2 == 0, now), Change::None);
        }
    }

    #[test]
    fn it_stays_closed_where_it_may_not_open_and_opens_with_the_next_failure_where_it_may() {
        let (mut breaker, now) = (Breaker::new(2, OPEN), Instant::now());
        for _ in 0..10 {
            assert_eq!(breaker.heard(false, false, now, || false), Change::None);
        }
        assert_eq!(breaker.enter(now, false), Verdict::Pass);
        assert_eq!(heard(&mut breaker, false, now), Change::Opened);
    }

    #[test]
    fn after_its_time_one_call_probes_and_decides_for_all() {
        let (mut breaker, now) = (Breaker::new(1, OPEN), Instant::now());
        heard(&mut breaker, false, now);
        let later = now + OPEN;
        assert_eq!(breaker.enter(later, false), Verdict::Probe);
        assert!(matches!(breaker.enter(later, false), Verdict::Refuse(_)), "the others wait for the probe");
        assert_eq!(breaker.heard(false, true, later, || false), Change::Reopened, "a probe that fails opens it again");
        assert_eq!(breaker.enter(later, false), Verdict::Refuse(OPEN));
        assert_eq!(breaker.enter(later + OPEN, false), Verdict::Probe);
        assert_eq!(breaker.heard(true, true, later + OPEN, || true), Change::Closed);
        assert_eq!(breaker.enter(later + OPEN, false), Verdict::Pass);
    }

    #[test]
    fn a_probe_whose_caller_gave_up_leaves_its_place_to_the_next() {
        let (mut breaker, now) = (Breaker::new(1, OPEN), Instant::now());
        heard(&mut breaker, false, now);
        assert_eq!(breaker.enter(now + OPEN, false), Verdict::Probe);
        breaker.abandoned();
        assert_eq!(breaker.enter(now + OPEN, false), Verdict::Probe);
    }

    #[test]
    fn a_probe_before_its_time_takes_the_only_place_and_given_up_leaves_the_time_as_it_was() {
        let (mut breaker, now) = (Breaker::new(1, OPEN), Instant::now());
        assert_eq!(breaker.enter(now, true), Verdict::Pass);
        heard(&mut breaker, false, now);
        assert_eq!(breaker.enter(now, true), Verdict::Probe);
        assert!(matches!(breaker.enter(now, true), Verdict::Refuse(_)), "one at a time");
        breaker.abandoned();
        assert_eq!(breaker.enter(now, false), Verdict::Refuse(OPEN));
        assert_eq!(breaker.enter(now, true), Verdict::Probe);
        assert_eq!(breaker.heard(false, true, now, || true), Change::Reopened);
        assert_eq!(breaker.enter(now, true), Verdict::Refuse(OPEN), "not one after the other");
        assert_eq!(breaker.enter(now + EARLY_PAUSE, true), Verdict::Probe);
        assert_eq!(breaker.heard(true, true, now, || true), Change::Closed);
    }

    #[test]
    fn one_that_is_due_is_probed_by_anybody() {
        let (mut breaker, now) = (Breaker::new(1, OPEN), Instant::now());
        heard(&mut breaker, false, now);
        breaker.is_due(now);
        assert_eq!(breaker.enter(now, false), Verdict::Probe);
    }

    #[test]
    fn what_began_before_it_opened_neither_closes_it_nor_takes_the_probe_s_place() {
        let (mut breaker, now) = (Breaker::new(1, OPEN), Instant::now());
        heard(&mut breaker, false, now);
        heard(&mut breaker, true, now);
        assert_eq!(breaker.enter(now, false), Verdict::Refuse(OPEN));
        assert_eq!(breaker.enter(now + OPEN, false), Verdict::Probe);
        heard(&mut breaker, true, now + OPEN);
        assert!(matches!(breaker.enter(now + OPEN, false), Verdict::Refuse(_)));
    }
}
