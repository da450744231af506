//! How the cache learns what other replicas write: by following what this service tells.

use std::time::Duration;

use mesh::{Parts, Slug, chain, events::Follower};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use trivet_proto::{
    Event as _,
    product::v1::{ProductCreated, ProductDeleted, ProductUpdated},
};

use super::cache::Cache;

/// How often it is asked what was told: several times within the second that an old product may be answered for.
const POLL: Duration = Duration::from_millis(250);
/// Everything that makes what is known of a product id untrue.
const KINDS: &[&str] = &[ProductCreated::KIND.kind, ProductUpdated::KIND.kind, ProductDeleted::KIND.kind];

/// Starts to follow, until the process goes.
pub(super) fn start(parts: &Parts, cache: Cache) {
    let follower = Follower::new(parts.store.clone(), KINDS);
    parts.background.spawn(|end| follow(follower, cache, end));
}

async fn follow(mut follower: Follower, cache: Cache, end: CancellationToken) {
    while !end.is_cancelled() {
        let moment = Instant::now();
        match follower.changes().await {
            Ok(changes) => {
                for change in changes {
                    match Slug::parse(&change.subject) {
                        Ok(product_id) => cache.outdate(&change.tenant_id, product_id, change.aggregate_version).await,
                        Err(fault) => debug!("A product was told of whose id {fault}"),
                    }
                }
                cache.is_true_as_of(moment);
            }
            Err(error) => debug!("What was told of products cannot be read: {}", chain(&error)),
        }
        tokio::select! {
            () = end.cancelled() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}
