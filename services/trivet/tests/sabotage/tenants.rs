//! Calls of a tenant's own.

use tonic::Request;

pub(crate) fn of<M>(tenant: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-trivet-tenant", tenant.parse().unwrap());
    request
}
