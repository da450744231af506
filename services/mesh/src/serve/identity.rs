//! Who calls. Without credentials every caller is an operator of the tenant that `x-trivet-tenant` names, `default`
//! where it names none. Workload certificates and API keys take this place.

use std::convert::Infallible;

use http::Request;
use tonic::body::Body;

use crate::{
    Context, Fields, Tenant,
    serve::complete::refuse,
    stack::{Next, Reply, Stage},
};

/// The tenant that a call is made for.
pub(crate) const TENANT: &str = "x-trivet-tenant";

/// See the module.
#[derive(Clone)]
pub(crate) struct Identity;

impl Stage<Infallible> for Identity {
    async fn run(self, mut request: Request<Body>, next: impl Next<Infallible>) -> Reply<Infallible> {
        let Some(named) = request.headers().get(TENANT).cloned() else { return next.go(request).await };
        let Some(context) = request.extensions_mut().get_mut::<Context>() else { return next.go(request).await };
        let mut fields = Fields::default();
        let tenant = fields.read(TENANT, Tenant::parse(named.to_str().unwrap_or("\u{fffd}")));
        match fields.finish((tenant,)) {
            Ok((tenant,)) => context.tenant = tenant,
            Err(refusal) => return Ok(refuse(context, refusal)),
        }
        next.go(request).await
    }
}
