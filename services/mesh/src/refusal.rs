//! Every way in which a call is refused: one reason, its gRPC code, and the details that a caller's program can read.

mod reason;

use std::{
    collections::{BTreeSet, HashMap},
    error::Error,
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use prost::Message;
use prost_types::Any;
use tonic::{Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt};

pub use reason::Reason;

/// The `domain` of every ErrorInfo.
pub const DOMAIN: &str = "trivet.dev";

/// Faults that the message names, and that BadRequest lists. A status travels in headers, and callers take 8 KiB of
/// them; the next attempt hears of the rest.
const MESSAGE_FAULTS: usize = 8;
const VIOLATIONS: usize = 24;

/// A refused call, before it becomes a [`Status`] of the wire (google.rpc.Status, AIP-193).
#[derive(Clone, Debug)]
pub struct Refusal(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    reason: Reason,
    message: String,
    metadata: Vec<(&'static str, String)>,
    violations: Vec<Violation>,
    resource: Option<(&'static str, String)>,
    retry_after: Option<Duration>,
    attachments: Vec<Any>,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

/// One field of a request that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request, such as `deductions[3].amount`.
    pub field: String,
    /// What is wrong with it; the continuation of the field's name.
    pub description: String,
}

impl Refusal {
    /// A refusal with a message for the person who reads the log of the caller.
    pub fn new(reason: Reason, message: impl fmt::Display) -> Self {
        Self(Box::new(Inner {
            reason,
            message: message.to_string(),
            metadata: Vec::new(),
            violations: Vec::new(),
            resource: None,
            retry_after: None,
            attachments: Vec::new(),
            cause: None,
        }))
    }

    /// A request whose fields are not as they must be: all of them at once.
    pub fn fields(reason: Reason, violations: Vec<Violation>) -> Self {
        let told = |fault: &Violation| format!("{} {}", fault.field, fault.description);
        let mut message = violations.iter().take(MESSAGE_FAULTS).map(told).collect::<Vec<_>>().join("; ");
        if let Some(more) = violations.len().checked_sub(MESSAGE_FAULTS).filter(|more| *more > 0) {
            let _ = write!(message, "; and {more} more");
        }
        let mut refusal = Self::new(reason, message);
        refusal.0.violations = violations;
        refusal.0.violations.truncate(VIOLATIONS);
        refusal
    }

    /// Something went wrong that no caller can mend. The cause goes to the log, never over the wire.
    pub fn internal(cause: impl Error + Send + Sync + 'static) -> Self {
        let unhelpful = "something went wrong on our side; quote the request id";
        Self::new(Reason::Internal, unhelpful).because(cause)
    }

    /// Adds a value that the caller's program may want, to ErrorInfo's metadata.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.metadata.push((key, value.to_string()));
        self
    }

    /// Names the thing that the refusal is about, in ResourceInfo.
    #[must_use]
    pub fn about(mut self, kind: &'static str, name: impl fmt::Display) -> Self {
        self.0.resource = Some((kind, name.to_string()));
        self
    }

    /// Says after what time trying again makes sense, in RetryInfo.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Adds a message of the contract to the details; `name` is its full name, such as `trivet.billing.v1.Deduction`.
    #[must_use]
    pub fn attach(mut self, name: &str, message: &impl Message) -> Self {
        self.0.attachments.push(any(name, message));
        self
    }

    /// Keeps what lies behind the refusal, for the log.
    #[must_use]
    pub fn because(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Arc::new(cause));
        self
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// What a person should read.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the caller's program may want.
    pub fn metadata(&self) -> &[(&'static str, String)] {
        &self.0.metadata
    }

    /// The fields that are not as they must be.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    fn details(&self) -> ErrorDetails {
        let metadata = self.0.metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        let mut details =
            ErrorDetails::with_error_info(self.0.reason.name(), DOMAIN, metadata.collect::<HashMap<_, _>>());
        for violation in &self.0.violations {
            details.add_bad_request_violation(violation.field.clone(), violation.description.clone());
        }
        let (kind, name) = self.0.resource.clone().unwrap_or_default();
        if self.0.reason.code() == tonic::Code::FailedPrecondition {
            details.add_precondition_failure_violation(self.0.reason.name(), name.clone(), self.0.message.clone());
        }
        if !name.is_empty() {
            details.set_resource_info(kind, name, "", self.0.message.clone());
        }
        if let Some(delay) = self.0.retry_after {
            details.set_retry_info(Some(delay));
        }
        details
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.0.reason.name(), self.0.message)
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.cause.as_deref().map(|cause| -> &(dyn Error + 'static) { cause })
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let details = refusal.details();
        let refusal = *refusal.0;
        let own = Status::with_error_details(refusal.reason.code(), refusal.message, details);
        let mut status = with_details(own, refusal.attachments);
        if let (Reason::Overloaded | Reason::RateLimited, Some(delay)) = (refusal.reason, refusal.retry_after) {
            // gRFC A6: how long the caller's retries are to hold back.
            let pushback = MetadataValue::from(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
            status.metadata_mut().insert("grpc-retry-pushback-ms", pushback);
        }
        if let Some(cause) = refusal.cause {
            status.set_source(cause);
        }
        status
    }
}

/// A message packed for the details of a status.
pub(crate) fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

/// The status with further details; those it has stay as they are, known or not.
pub(crate) fn with_details(status: Status, further: Vec<Any>) -> Status {
    if further.is_empty() {
        return status;
    }
    let mut wire = tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: i32::from(status.code()),
        message: status.message().to_owned(),
        details: Vec::new(),
    });
    wire.details.extend(further);
    Status::with_details_and_metadata(
        status.code(),
        status.message(),
        wire.encode_to_vec().into(),
        status.metadata().clone(),
    )
}

/// Gathers the fields of a request, so that a caller learns of all its faults at once.
///
/// ```
/// use mesh::{Fields, UserId};
///
/// let mut fields = Fields::default();
/// let user_id = fields.read("user_id", UserId::parse("ada"));
/// let name = fields.read("name", mesh::text::line("Ada", 200));
/// let (user_id, name) = fields.finish((user_id, name)).unwrap();
/// assert_eq!((user_id.as_str(), name.as_str()), ("ada", "Ada"));
/// ```
#[derive(Debug, Default)]
pub struct Fields {
    violations: Vec<Violation>,
}

impl Fields {
    /// Takes what was read of a field, or notes why it could not be.
    pub fn read<T, F: fmt::Display>(&mut self, field: impl Into<String>, parsed: Result<T, F>) -> Option<T> {
        parsed.map_err(|fault| self.refuse(field, fault)).ok()
    }

    /// Notes a fault of a field.
    pub fn refuse(&mut self, field: impl Into<String>, description: impl fmt::Display) {
        self.violations.push(Violation { field: field.into(), description: description.to_string() });
    }

    /// Reads a list of 1 to `limit` entries, each of them once, in the order of their first mention.
    pub fn read_batch<T: Clone + Ord, F: fmt::Display>(
        &mut self,
        field: &str,
        entries: &[String],
        limit: usize,
        parse: impl Fn(&str) -> Result<T, F>,
    ) -> Option<Vec<T>> {
        if !(1..=limit).contains(&entries.len()) {
            self.refuse(field, format!("has {} entries, 1 to {limit} are allowed", entries.len()));
            return None;
        }
        let mut seen = BTreeSet::new();
        let mut batch = Vec::with_capacity(entries.len());
        let mut whole = true;
        for (position, entry) in entries.iter().enumerate() {
            match self.read(format!("{field}[{position}]"), parse(entry)) {
                Some(parsed) if seen.insert(parsed.clone()) => batch.push(parsed),
                Some(_) => {}
                None => whole = false,
            }
        }
        whole.then_some(batch)
    }

    /// Whether a fault was noted.
    pub fn is_faulty(&self) -> bool {
        !self.violations.is_empty()
    }

    /// Notes the faults of another refusal.
    pub fn absorb(&mut self, refusal: &Refusal) {
        self.violations.extend(refusal.0.violations.iter().cloned());
    }

    /// Hands out the parts, all of them read, or refuses the request with every fault that was noted.
    pub fn finish<P: Parts>(self, parts: P) -> Result<P::Whole, Refusal> {
        match parts.whole() {
            Some(whole) if self.violations.is_empty() => Ok(whole),
            _ => Err(Refusal::fields(Reason::InvalidFields, self.violations)),
        }
    }
}

/// A tuple of fields that were read or refused.
pub trait Parts {
    /// The same tuple with every field read.
    type Whole;
    /// `None` where one of the fields was refused.
    fn whole(self) -> Option<Self::Whole>;
}

macro_rules! parts {
    ($($Part:ident $part:ident),+) => {
        impl<$($Part),+> Parts for ($(Option<$Part>,)+) {
            type Whole = ($($Part,)+);
            fn whole(self) -> Option<Self::Whole> {
                let ($($part,)+) = self;
                Some(($($part?,)+))
            }
        }
    };
}
parts!(A a);
parts!(A a, B b);
parts!(A a, B b, C c);
parts!(A a, B b, C c, D d);
parts!(A a, B b, C c, D d, E e);
parts!(A a, B b, C c, D d, E e, F f);
parts!(A a, B b, C c, D d, E e, F f, G g);
parts!(A a, B b, C c, D d, E e, F f, G g, H h);
