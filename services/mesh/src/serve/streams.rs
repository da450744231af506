//! Answers that are streams: they end with the process, and their end says what every refusal says.

use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use tonic::{Response, Status};

use super::complete::{Call, ended};
use crate::{Context, Life};

/// Makes answers that are streams. Cheap to clone.
#[derive(Clone)]
pub struct Streams(pub(crate) Life);

/// The messages of an answer, up to its end.
pub type Answers<T> = BoxStream<'static, Result<T, Status>>;

impl Streams {
    /// The answer of these messages to a call: up to the first error, and no longer than the process takes calls.
    pub fn answer<T: 'static>(
        &self,
        context: &Context,
        messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Response<Answers<T>> {
        let messages = self.0.until_leaving(messages);
        let call = Call::of(context);
        Response::new(Box::pin(messages.map(move |message| message.map_err(|status| ended(&call, status)))))
    }
}
