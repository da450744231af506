//! The steps that somebody makes a subscription take: cancel, pause, resume, any other legal one; and taking back what was
//! scheduled.

use mesh::{Context, Slug, StoreError, store::Transaction, update::Etag};

use super::{
    Author, Refused, Status, Subscription, Subscriptions, events,
    life::{Course, Illegal, Why},
    table,
};

/// What should happen to a subscription.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) subscription_id: Slug,
    pub(super) what: Wish,
    pub(super) reason: String,
    pub(super) feedback: String,
    pub(super) etag: Option<Etag>,
}

/// What somebody wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Cancel { immediately: bool },
    Pause,
    Resume,
    Step(Status),
    Withdraw,
}

impl Subscriptions {
    /// Has it happen, and gives the subscription as it is then.
    pub(super) async fn fulfil(
        &self,
        context: &Context,
        order: Order,
    ) -> Result<Result<Subscription, Refused>, StoreError> {
        let input = (Author::of(context, &self.clock), order);
        let unit = self.store.unit(context);
        unit.run(input, |(author, order), transaction| Box::pin(order.carry_out(author, transaction))).await
    }
}

impl Order {
    async fn carry_out(
        &self,
        author: &Author,
        transaction: &Transaction,
    ) -> Result<Result<Subscription, Refused>, StoreError> {
        let Some(subscription) = table::lock(transaction, &author.tenant, &self.subscription_id).await? else {
            return Ok(Err(Refused::NoSubscription(self.subscription_id.clone())));
        };
        let subscription = match subscription.at(self.etag) {
            Ok(subscription) => subscription,
            Err(stale) => return Ok(Err(stale)),
        };
        let mut course = Course::of(subscription);
        if let Err(Illegal { from, to }) = self.apply(&mut course, author)? {
            return Ok(Err(Refused::Illegal { from, to }));
        }
        if !course.done.is_empty() {
            table::save(transaction, author, &[&course]).await?;
            events::tell(transaction, author, &[&course]).await?;
        }
        Ok(Ok(course.subscription))
    }

    fn apply(&self, course: &mut Course, author: &Author) -> Result<Result<(), Illegal>, StoreError> {
        let why = Why { reason: self.reason.clone(), feedback: self.feedback.clone() };
        let (status, now) = (course.subscription.status, author.now);
        Ok(match self.what {
            Wish::Cancel { immediately } => course.cancel(immediately, now, why),
            Wish::Pause => course.step(Status::Paused, now, why),
            Wish::Withdraw => {
                course.withdraw(now, why);
                Ok(())
            }
            // What is not paid does not go on for being told to: only what was paused does.
            Wish::Resume if !matches!(status, Status::Paused | Status::Active) => {
                Err(Illegal { from: status, to: Status::Active })
            }
            Wish::Resume | Wish::Step(Status::Active) => course.resume(now, why)?,
            Wish::Step(to) => course.step(to, now, why),
        })
    }
}
