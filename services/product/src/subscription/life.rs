//! The life of a subscription, step by step: what may happen to it, and what then is so. Pure.
//!
//! A [`Course`] is a subscription to which things happen. Each of them makes a new version and is noted, so that history,
//! periods and events can be written from what was noted, and from nothing else.

use std::time::Duration;

use mesh::{StoreError, Time, text_enum};
use money::Amount;

use super::{Anchor, Period, Status, Subscription, Terms, period::whole_second};

/// How long a subscription waits for its first payment.
pub(super) const UNPAID: Duration = Duration::from_hours(24);

text_enum! {
    /// What happened to a subscription, as histories name it.
    pub(crate) enum Action {
        /// It was made.
        Created = "CREATED",
        /// It took a step.
        StatusChanged = "STATUS_CHANGED",
        /// A period began after another.
        Renewed = "RENEWED",
        /// It went over to other terms.
        PlanChanged = "PLAN_CHANGED",
        /// Other terms were scheduled.
        ChangeScheduled = "CHANGE_SCHEDULED",
        /// Its end was scheduled.
        CancellationScheduled = "CANCELLATION_SCHEDULED",
        /// What was scheduled was taken back.
        ChangeWithdrawn = "CHANGE_WITHDRAWN",
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) what: What,
    /// Of the subscription afterwards.
    pub(super) version: i64,
    pub(super) time: Time,
    /// `None`: it was made.
    pub(super) from: Option<Status>,
    pub(super) to: Status,
    /// The terms afterwards.
    pub(super) terms: Terms,
    pub(super) why: Why,
}

/// What happened, with what others have to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It was made, and this is its first period, with what that costs.
    Created(Period, Amount),
    Stepped,
    /// This period began, at this price.
    Renewed(Period, Amount),
    /// It went over from a plan to the terms of now: at once, which costs so much more as of then; or with the period.
    Changed {
        from: Terms,
        prorated: Option<(Time, Amount)>,
    },
    Scheduled,
    CancellationScheduled,
    Withdrawn,
}

/// Why something happened, in somebody's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) reason: String,
    pub(super) feedback: String,
}

impl Why {
    pub(super) fn of(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), feedback: String::new() }
    }
}

/// A step that there is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Illegal {
    pub(super) from: Status,
    pub(super) to: Status,
}

/// A subscription, and what has happened to it since it was read.
#[derive(Clone, Debug)]
pub(super) struct Course {
    pub(super) subscription: Subscription,
    pub(super) done: Vec<Done>,
}

impl Course {
    pub(super) const fn of(subscription: Subscription) -> Self {
        Self { subscription, done: Vec::new() }
    }

    /// The course of a subscription that was just made.
    pub(super) fn begun(subscription: Subscription) -> Self {
        let Subscription { period, status, create_time, .. } = subscription;
        let amount = subscription.period_amount();
        let mut course = Self::of(subscription);
        course.done.push(Done {
            what: What::Created(period, amount),
            version: 1,
            time: create_time,
            from: None,
            to: status,
            terms: course.subscription.terms.clone(),
            why: Why::default(),
        });
        course
    }

    /// Takes a step, if there is one. To stay is no step, and nothing happens.
    pub(super) fn step(&mut self, to: Status, time: Time, why: Why) -> Result<(), Illegal> {
        let from = self.subscription.status;
        if from == to {
            return Ok(());
        }
        if !from.leads_to(to) {
            return Err(Illegal { from, to });
        }
        let subscription = &mut self.subscription;
        subscription.status = to;
        if to.is_final() {
            subscription.end_time = Some(time);
            subscription.change = None;
            if to == Status::Canceled && subscription.canceled_time.is_none() {
                subscription.canceled_time = Some(time);
                subscription.cancel_reason.clone_from(&why.reason);
            }
        }
        self.note(What::Stepped, Some(from), time, why);
        Ok(())
    }

    /// Cancels, now or with the period. What is not paid ends now either way, and so does what runs no more.
    pub(super) fn cancel(&mut self, immediately: bool, time: Time, why: Why) -> Result<(), Illegal> {
        let subscription = &mut self.subscription;
        let waits = match subscription.status {
            Status::Active | Status::Trialing | Status::Paused => subscription.period.end > time,
            Status::Incomplete | Status::PastDue | Status::Canceled | Status::Expired => false,
        };
        if immediately || !waits {
            return self.step(Status::Canceled, time, why);
        }
        if subscription.cancel_at_period_end {
            return Ok(());
        }
        subscription.cancel_at_period_end = true;
        subscription.canceled_time = Some(time);
        subscription.cancel_reason.clone_from(&why.reason);
        subscription.change = None;
        self.note(What::CancellationScheduled, None, time, why);
        Ok(())
    }

    /// Goes over to other terms: at once, or when the period ends. What was scheduled before is replaced.
    pub(super) fn change(&mut self, to: Terms, prorated: Option<(Time, Amount)>, time: Time) {
        let subscription = &mut self.subscription;
        if prorated.is_some() {
            subscription.change = None;
            let from = std::mem::replace(&mut subscription.terms, to);
            self.note(What::Changed { from, prorated }, None, time, Why::default());
        } else {
            subscription.change = Some(to);
            subscription.stay();
            self.note(What::Scheduled, None, time, Why::default());
        }
    }

    /// Takes back what is scheduled, if anything is.
    pub(super) fn withdraw(&mut self, time: Time, why: Why) {
        let subscription = &mut self.subscription;
        let waits = subscription.cancel_at_period_end && !subscription.status.is_final();
        if subscription.change.take().is_some() || waits {
            subscription.stay();
            self.note(What::Withdrawn, None, time, why);
        }
    }

    /// Lets a paused subscription go on. Where its period is over a new one begins now.
    pub(super) fn resume(&mut self, time: Time, why: Why) -> Result<Result<(), Illegal>, StoreError> {
        let paused = self.subscription.status == Status::Paused;
        if let Err(illegal) = self.step(Status::Active, time, why) {
            return Ok(Err(illegal));
        }
        if paused && self.subscription.period.end <= time {
            let start = whole_second(time);
            self.subscription.anchor = Anchor { time: start, periods: 0 };
            self.begin_period(start, time)?;
        }
        Ok(Ok(()))
    }

    /// Does the next thing that time has to do with it, if that has come; says whether it had. Again and again, it
    /// catches up on whatever was missed, period by period.
    pub(super) fn advance(&mut self, now: Time) -> Result<bool, StoreError> {
        let Some(due) = self.subscription.due().filter(|due| *due <= now) else { return Ok(false) };
        let ending = self.subscription.cancel_at_period_end;
        let end = |reason: &str| Why::of(reason);
        let stepped = match self.subscription.status {
            Status::Incomplete => self.step(Status::Expired, due, end("it was not paid for 24 hours")),
            Status::Trialing | Status::Active | Status::PastDue | Status::Paused if ending => {
                let why = Why::of(self.subscription.cancel_reason.clone());
                self.step(Status::Canceled, due, why)
            }
            Status::PastDue => self.step(Status::Expired, due, end("its period ended unpaid")),
            Status::Trialing => {
                self.renew(due)?;
                self.step(Status::Active, due, end("its trial ended"))
            }
            Status::Active => {
                self.renew(due)?;
                Ok(())
            }
            Status::Paused | Status::Canceled | Status::Expired => Ok(()),
        };
        stepped.map_err(|_| StoreError::Impossible("time took a step that there is not"))?;
        Ok(true)
    }

    /// Begins the period after this one, under the terms that were scheduled for it.
    fn renew(&mut self, time: Time) -> Result<(), StoreError> {
        let subscription = &mut self.subscription;
        let start = subscription.period.end;
        if let Some(to) = subscription.change.take() {
            // Months of another length are counted from here on.
            if to.cycle != subscription.terms.cycle {
                subscription.anchor = Anchor { time: start, periods: 0 };
            }
            let from = std::mem::replace(&mut subscription.terms, to);
            self.note(What::Changed { from, prorated: None }, None, time, Why::default());
        }
        self.begin_period(start, time)
    }

    fn begin_period(&mut self, start: Time, time: Time) -> Result<(), StoreError> {
        let subscription = &mut self.subscription;
        let periods = subscription.anchor.periods.saturating_add(1);
        let end = subscription.anchor.after(subscription.terms.cycle, periods)?;
        subscription.anchor.periods = periods;
        subscription.period = Period { number: subscription.period.number.saturating_add(1), start, end };
        let renewed = What::Renewed(subscription.period, subscription.terms.price);
        self.note(renewed, None, time, Why::default());
        Ok(())
    }

    /// Notes what has just happened. `from` is how it stood where that has changed.
    fn note(&mut self, what: What, from: Option<Status>, time: Time, why: Why) {
        let subscription = &mut self.subscription;
        subscription.version = subscription.version.saturating_add(1);
        subscription.update_time = time.max(subscription.update_time);
        let to = subscription.status;
        self.done.push(Done {
            what,
            version: subscription.version,
            time,
            from: Some(from.unwrap_or(to)),
            to,
            terms: subscription.terms.clone(),
            why,
        });
    }
}

impl Subscription {
    /// When time has something to do with it next.
    pub(super) fn due(&self) -> Option<Time> {
        match self.status {
            Status::Incomplete => Some(self.create_time.plus(UNPAID)),
            Status::Trialing | Status::Active | Status::PastDue => Some(self.period.end),
            Status::Paused => self.cancel_at_period_end.then_some(self.period.end),
            Status::Canceled | Status::Expired => None,
        }
    }

    /// What the period that runs costs: nothing during a trial.
    pub(super) fn period_amount(&self) -> Amount {
        if self.anchor.periods == 0 { Amount::zero(self.terms.price.currency()) } else { self.terms.price }
    }

    /// Nothing ends it with the period any more.
    fn stay(&mut self) {
        self.cancel_at_period_end = false;
        self.canceled_time = None;
        self.cancel_reason = String::new();
    }
}

impl What {
    pub(super) const fn action(&self) -> Action {
        match self {
            Self::Created(..) => Action::Created,
            Self::Stepped => Action::StatusChanged,
            Self::Renewed(..) => Action::Renewed,
            Self::Changed { .. } => Action::PlanChanged,
            Self::Scheduled => Action::ChangeScheduled,
            Self::CancellationScheduled => Action::CancellationScheduled,
            Self::Withdrawn => Action::ChangeWithdrawn,
        }
    }
}
