//! Answers that are streams: they end with the process, and their end says what every refusal says.

use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use tonic::{Response, Status};

use super::ended;
use crate::{Context, Life};

/// Makes answers that are streams. Cheap to clone.
#[derive(Clone)]
pub struct Streams(pub(crate) Life);

/// The messages of an answer, up to its end.
pub type Answers<T> = BoxStream<'static, Result<T, Status>>;

impl Streams {
    /// The answer of these messages to a call of this method, `/package.Service/Method`: up to the first error, and no
    /// longer than the process takes calls.
    pub fn answer<T: 'static>(
        &self,
        context: Context,
        method: &'static str,
        messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Response<Answers<T>> {
        let messages = self.0.until_leaving(messages);
        let ended = move |status| ended(&context, method, status);
        Response::new(Box::pin(messages.map(move |message| message.map_err(&ended))))
    }
}
