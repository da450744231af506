//! The breaker of one endpoint: CLOSED until it fails several times in a row, then OPEN for a while, then HALF_OPEN for
//! one call that finds out.

use std::time::Duration;

use tokio::time::Instant;

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
    Open {
        until: Instant,
    },
    /// One call is on its way to find out.
    HalfOpen,
}

/// See the module. Not shared: its endpoint holds it behind a lock that is never held across an await.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    failures_to_open: u32,
    open_for: Duration,
}

impl Breaker {
    pub(super) fn new(failures_to_open: u32, open_for: Duration) -> Self {
        Self { state: State::Closed { failures: 0 }, failures_to_open, open_for }
    }

    /// What it would say now, with no effect.
    pub(super) fn peek(&self, now: Instant) -> Verdict {
        match self.state {
            State::Closed { .. } => Verdict::Pass,
            State::Open { until } if now >= until => Verdict::Probe,
            State::Open { until } => Verdict::Refuse(until - now),
            State::HalfOpen => Verdict::Refuse(Duration::from_millis(100)),
        }
    }

    /// Asks for a call that will now be made; a probe takes the only place.
    pub(super) fn enter(&mut self, now: Instant) -> Verdict {
        let verdict = self.peek(now);
        if verdict == Verdict::Probe {
            self.state = State::HalfOpen;
        }
        verdict
    }

    /// Hears how a call went that was let through, as the probe or not. Answers true where the breaker has just opened.
    /// While it is not closed only the probe is heard: what began before says nothing new.
    pub(super) fn heard(&mut self, well: bool, probe: bool, now: Instant) -> bool {
        let failures = match self.state {
            State::Closed { .. } if well => 0,
            State::Closed { failures } => failures + 1,
            State::HalfOpen if probe && well => 0,
            State::HalfOpen if probe => self.failures_to_open,
            State::HalfOpen | State::Open { .. } => return false,
        };
        if failures >= self.failures_to_open {
            self.state = State::Open { until: now + self.open_for };
            return true;
        }
        self.state = State::Closed { failures };
        false
    }

    /// The probe was given up before anything was heard: it gives its place back.
    pub(super) fn abandoned(&mut self, now: Instant) {
        if self.state == State::HalfOpen {
            self.state = State::Open { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_mins(1);

    #[test]
    fn five_failures_in_a_row_open_it_and_one_success_in_between_does_not() {
        let (mut breaker, now) = (Breaker::new(5, OPEN), Instant::now());
        for _ in 0..4 {
            assert!(!breaker.heard(false, false, now));
        }
        breaker.heard(true, false, now);
        for _ in 0..4 {
            assert!(!breaker.heard(false, false, now));
        }
        assert_eq!(breaker.enter(now), Verdict::Pass);
        assert!(breaker.heard(false, false, now));
        assert_eq!(breaker.enter(now), Verdict::Refuse(OPEN));
    }

    #[test]
    fn after_its_time_one_call_probes_and_decides_for_all() {
        let (mut breaker, now) = (Breaker::new(1, OPEN), Instant::now());
        breaker.heard(false, false, now);
        let later = now + OPEN;
        assert_eq!(breaker.enter(later), Verdict::Probe);
        assert!(matches!(breaker.enter(later), Verdict::Refuse(_)), "the others wait for the probe");
        assert!(breaker.heard(false, true, later), "a probe that fails opens it again");
        assert_eq!(breaker.enter(later), Verdict::Refuse(OPEN));
        assert_eq!(breaker.enter(later + OPEN), Verdict::Probe);
        breaker.heard(true, true, later + OPEN);
        assert_eq!(breaker.enter(later + OPEN), Verdict::Pass);
    }

    #[test]
    fn a_probe_whose_caller_gave_up_leaves_its_place_to_the_next() {
        let (mut breaker, now) = (Breaker::new(1, OPEN), Instant::now());
        breaker.heard(false, false, now);
        assert_eq!(breaker.enter(now + OPEN), Verdict::Probe);
        breaker.abandoned(now + OPEN);
        assert_eq!(breaker.enter(now + OPEN), Verdict::Probe);
    }

    #[test]
    fn what_began_before_it_opened_neither_closes_it_nor_takes_the_probe_s_place() {
        let (mut breaker, now) = (Breaker::new(1, OPEN), Instant::now());
        breaker.heard(false, false, now);
        breaker.heard(true, false, now);
        assert_eq!(breaker.enter(now), Verdict::Refuse(OPEN));
        assert_eq!(breaker.enter(now + OPEN), Verdict::Probe);
        breaker.heard(true, false, now + OPEN);
        assert!(matches!(breaker.enter(now + OPEN), Verdict::Refuse(_)));
    }
}
