//! How a test waits: for a condition, and for as long as there is progress.

use std::time::{Duration, Instant};

/// Nothing here stands still for longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The answer, unless it takes longer than anything here may.
pub(crate) async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// Asks again and again until the condition holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    reaches(what, 1, async || i64::from(holds().await)).await;
}

/// Asks again and again until the number is there, for as long as it grows.
pub(crate) async fn reaches(what: &str, goal: i64, mut number: impl AsyncFnMut() -> i64) {
    let mut looks = tokio::time::interval(LOOK);
    let (mut last, mut since) = (i64::MIN, Instant::now());
    loop {
        looks.tick().await;
        let now = in_time(what, number()).await;
        if now >= goal {
            return;
        }
        if now > last {
            (last, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "{what}: it stands still at {now}, {goal} are expected");
    }
}
