//! What carries events from one service to the others. There are two: inside of the process, and NATS JetStream.

use tonic::async_trait;

use super::{CloudEvent, Consumer};
use crate::status::Finding;

/// What became of an event that was to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The bus has it, and will bring it to everybody.
    Told,
    /// The bus will never take it.
    Refused(String),
    /// Not now.
    Later(String),
}

/// Carries events, each at least once, those of one aggregate in the order in which they were told.
#[async_trait]
pub(super) trait Bus: Send + Sync {
    /// Tells events and answers the fate of each. Those of one aggregate are told one after the other, and the first that
    /// is not told stops those behind it.
    async fn tell(&self, events: &[CloudEvent]) -> Vec<Fate>;

    /// Brings a consumer whatever is told, for as long as this is polled. Only who leads for the consumer's database may
    /// call it: two who bring the same events could bring them out of order.
    async fn bring(&self, consumer: &Consumer);

    /// Whether it can take nothing at all now.
    fn is_away(&self) -> bool;

    /// Comes back when telling makes sense again after it did not; at once where nobody knows.
    async fn recovered(&self);

    /// How many events it has for this consumer that it did not bring yet, as far as it can be asked.
    async fn pending(&self, consumer: &str) -> Option<u64>;

    /// How it is.
    async fn state(&self) -> Finding;
}
