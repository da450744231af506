//! How products are answered.

use mesh::{Reason, Refusal, Slug, Time, update::Etag};
use prost_types::Struct;
use tonic::Status as GrpcStatus;
use trivet_proto::product::v1::{self as wire, GetCacheStatsResponse, ProductStatus, UnavailableReason};

use super::super::{Availability, Product, Refused, Remembered, Status, metadata, sync::Stats};

impl From<Stats> for GetCacheStatsResponse {
    fn from(stats: Stats) -> Self {
        let age = stats.oldest_pending_age.map(|age| prost_types::Duration {
            seconds: i64::try_from(age.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(age.subsec_nanos()).unwrap_or_default(),
        });
        Self {
            entries: stats.entries,
            bytes: stats.bytes,
            hits: stats.hits,
            misses: stats.misses,
            evictions: stats.evictions,
            entries_by_type: stats.entries_by_type.into_iter().collect(),
            pending_writes: stats.pending_writes,
            oldest_pending_age: age,
            last_sync_time: stats.last_sync.map(Time::to_wire),
            failed_writes: stats.failed_writes,
        }
    }
}

impl From<&Product> for wire::Product {
    fn from(product: &Product) -> Self {
        with_metadata(product, metadata::to_wire(&product.metadata))
    }
}

impl From<&Remembered> for wire::Product {
    fn from(product: &Remembered) -> Self {
        with_metadata(product, product.metadata())
    }
}

fn with_metadata(product: &Product, metadata: Option<Struct>) -> wire::Product {
    wire::Product {
        product_id: product.product_id.to_string(),
        name: product.name.clone(),
        r#type: product.kind.clone(),
        category_id: product.category_id.clone(),
        description: product.description.clone(),
        metadata,
        status: ProductStatus::from(product.status).into(),
        create_time: Some(product.create_time.to_wire()),
        update_time: Some(product.update_time.to_wire()),
        delete_time: product.delete_time.map(Time::to_wire),
        etag: Etag::of(product.version).to_string(),
    }
}

impl From<Status> for ProductStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::Deprecated => Self::Deprecated,
            Status::Retired => Self::Retired,
        }
    }
}

impl From<Availability> for UnavailableReason {
    fn from(availability: Availability) -> Self {
        match availability {
            Availability::Available => Self::Unspecified,
            Availability::NotFound => Self::NotFound,
            Availability::Retired => Self::Retired,
            Availability::AccountInactive => Self::AccountInactive,
            Availability::NotAMember => Self::NotAMember,
            Availability::NotInPlan => Self::NotInPlan,
            Availability::QuotaExhausted => Self::QuotaExhausted,
            Availability::InsufficientFunds => Self::InsufficientFunds,
        }
    }
}

impl From<Refused> for GrpcStatus {
    fn from(refused: Refused) -> Self {
        let about = |reason, id: &Slug| Refusal::new(reason, &refused).about("trivet.product.v1.Product", id);
        match &refused {
            Refused::RequestId(taken) => taken.clone().into(),
            Refused::NoProduct(id) => about(Reason::ProductNotFound, id),
            Refused::Stale { .. } => Refusal::new(Reason::EtagMismatch, &refused),
            Refused::NoCategory(id) => {
                Refusal::new(Reason::CategoryNotFound, &refused).about("trivet.product.v1.Category", id)
            }
            Refused::IdTaken(id) => about(Reason::IdTaken, id),
        }
        .into()
    }
}
