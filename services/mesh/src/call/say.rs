//! Says to a role of this process by which word it knows us, where no certificate does.

use http::{HeaderValue, Request};
use tonic::{Status, body::Body};

use crate::{
    serve::{PROCESS, ProcessWord},
    stack::{Next, Reply, Stage},
};

/// See the module.
#[derive(Clone)]
pub(super) struct Say(pub(super) ProcessWord);

impl Stage<Status> for Say {
    async fn run(self, mut request: Request<Body>, next: impl Next<Status>) -> Reply<Status> {
        if let Ok(mut word) = HeaderValue::from_str(self.0.as_str()) {
            word.set_sensitive(true);
            request.headers_mut().insert(PROCESS, word);
        }
        next.go(request).await
    }
}
