//! A stream of records: read no faster than they can be written, with a bounded number under way.

use std::collections::VecDeque;

use mesh::{Context, Refusal, coalesce::Pending};
use tonic::{Status as GrpcStatus, Streaming};
use trivet_proto::product::v1::{StreamUsageError, StreamUsageRequest, StreamUsageResponse};

use super::{
    super::{Outcome, Usages},
    read,
    write::usage_error,
};

/// Records of one stream that are under way at once: enough that some wait while others are written.
const UNDER_WAY: usize = 2_000;
/// Errors that are told; the others are counted.
const ERRORS: usize = 100;

/// A record under way, in its place in the stream.
struct Sent {
    index: i64,
    request_id: String,
    /// What will become of it; or why it was not handed in.
    answer: Result<Pending<Outcome>, Refusal>,
}

#[derive(Default)]
struct Summary(StreamUsageResponse);

impl Summary {
    fn refuse(&mut self, index: i64, request_id: String, refusal: &Refusal) {
        self.0.rejected = self.0.rejected.saturating_add(1);
        if self.0.errors.len() < ERRORS {
            self.0.errors.push(StreamUsageError { index, request_id, error: Some(usage_error(refusal)) });
        }
    }

    async fn settle(&mut self, sent: Sent) -> Result<(), GrpcStatus> {
        let answer = match sent.answer {
            Ok(pending) => pending.answer().await?,
            Err(refusal) => {
                self.refuse(sent.index, sent.request_id, &refusal);
                return Ok(());
            }
        };
        match answer {
            Outcome::Recorded(_, false) => self.0.accepted = self.0.accepted.saturating_add(1),
            Outcome::Recorded(_, true) => self.0.duplicates = self.0.duplicates.saturating_add(1),
            Outcome::Refused(refused, _) => self.refuse(sent.index, sent.request_id, &refused.into()),
        }
        Ok(())
    }
}

/// Takes the records in, and sums them up when the sender is done.
pub(super) async fn take_in(
    usages: &Usages,
    context: &Context,
    mut records: Streaming<StreamUsageRequest>,
) -> Result<StreamUsageResponse, GrpcStatus> {
    let mut summary = Summary::default();
    let mut under_way: VecDeque<Sent> = VecDeque::with_capacity(UNDER_WAY);
    let mut index = 0_i64;
    while let Some(message) = records.message().await? {
        let record = message.record.unwrap_or_default();
        if under_way.len() >= UNDER_WAY
            && let Some(oldest) = under_way.pop_front()
        {
            summary.settle(oldest).await?;
        }
        let answer = match read::order(&record, usages.clock.now()) {
            Ok(order) => Ok(usages.record_with_room(context, order).await?),
            Err(refusal) => Err(refusal),
        };
        // It may be anything, and answers are small.
        let request_id = record.request_id.chars().take(mesh::id::MAX_LENGTH).collect();
        under_way.push_back(Sent { index, request_id, answer });
        index = index.saturating_add(1);
    }
    for sent in under_way {
        summary.settle(sent).await?;
    }
    Ok(summary.0)
}
