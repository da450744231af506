//! PlanService on the wire.

mod read;

use mesh::{
    Fields, Parts, REQUEST_BYTES, Reason, Refusal, Slug, TokenKey, open, page, refusal::Violation, update::Etag,
};
use money::Amount;
use tonic::{Request, Response, Status as GrpcStatus, async_trait};
use trivet_proto::product::v1::{
    self as wire, ArchivePlanRequest, ArchivePlanResponse, BillingCycle, ComparePlansRequest, ComparePlansResponse,
    ComparisonKind, ComparisonRow, CreatePlanRequest, CreatePlanResponse, GetPlanRequest, GetPlanResponse,
    IncludedUsage, ListPlansRequest, ListPlansResponse, PlanPrice, PlanStatus, PlanTier, UpdatePlanRequest,
    UpdatePlanResponse,
    plan_service_server::{PlanService, PlanServiceServer},
};

use super::{
    Cursor, Cycle, Filter, Overage, Plan, Plans, Refused, Status, Tier,
    compare::{Compared, Kind, compare},
};

pub(crate) use read::cycle;

/// Plans side by side: more do not fit on a page.
const COMPARED_LIMIT: usize = 20;

/// PlanService over this store.
pub(crate) fn server(parts: &Parts) -> PlanServiceServer<Rpc> {
    let rpc = Rpc { plans: Plans::new(parts.store.clone(), parts.clock.clone()), tokens: parts.tokens.clone() };
    PlanServiceServer::new(rpc).max_decoding_message_size(REQUEST_BYTES)
}

pub(crate) struct Rpc {
    plans: Plans,
    tokens: TokenKey,
}

#[async_trait]
impl PlanService for Rpc {
    async fn create_plan(
        &self,
        request: Request<CreatePlanRequest>,
    ) -> Result<Response<CreatePlanResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (plan, already_processed) = self.plans.create(&context, read::draft(&asked)?).await??;
        Ok(Response::new(CreatePlanResponse { plan: Some(plan.into()), already_processed }))
    }

    async fn get_plan(&self, request: Request<GetPlanRequest>) -> Result<Response<GetPlanResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let plan_id = fields.read("plan_id", Slug::parse(&asked.plan_id));
        let version = if asked.version < 0 { Err("must not be negative") } else { Ok(asked.version) };
        let version = fields.read("version", version);
        let (plan_id, version) = fields.finish((plan_id, version))?;
        let plan = self.plans.find(&context, &plan_id, (version > 0).then_some(version)).await??;
        Ok(Response::new(GetPlanResponse { plan: Some(plan.into()) }))
    }

    async fn list_plans(&self, request: Request<ListPlansRequest>) -> Result<Response<ListPlansResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let size = fields.read("page_size", page::size(asked.page_size));
        let status = fields.read("status", read::status(asked.status));
        let tier = fields.read("tier", read::optional_tier(asked.tier));
        let (size, status, tier) = fields.finish((size, status, tier))?;
        let filter = Filter { status, tier };
        let listing = self.tokens.listing("ListPlans", &context.tenant, &filter)?;
        let after: Option<Cursor> = listing.open(&asked.page_token)?;
        let mut plans = self.plans.list(&context, &filter, after.as_ref(), page::rows(size)).await?;
        let next_page_token = listing.cut(&mut plans, size, Cursor::of)?;
        let total_size = if asked.with_total { Some(self.plans.count(&context, &filter).await?) } else { None };
        let plans = plans.into_iter().map(Into::into).collect();
        Ok(Response::new(ListPlansResponse { plans, next_page_token, total_size }))
    }

    async fn update_plan(
        &self,
        request: Request<UpdatePlanRequest>,
    ) -> Result<Response<UpdatePlanResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (plan_id, change) = read::change(&asked)?;
        let plan = self.plans.update(&context, plan_id, change).await??;
        Ok(Response::new(UpdatePlanResponse { plan: Some(plan.into()) }))
    }

    async fn archive_plan(
        &self,
        request: Request<ArchivePlanRequest>,
    ) -> Result<Response<ArchivePlanResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let plan_id = fields.read("plan_id", Slug::parse(&asked.plan_id));
        let (plan_id,) = fields.finish((plan_id,))?;
        let plan = self.plans.archive(&context, plan_id).await??;
        Ok(Response::new(ArchivePlanResponse { plan: Some(plan.into()) }))
    }

    async fn compare_plans(
        &self,
        request: Request<ComparePlansRequest>,
    ) -> Result<Response<ComparePlansResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let plan_ids = fields.read_batch("plan_ids", &asked.plan_ids, COMPARED_LIMIT, Slug::parse);
        let (plan_ids,) = fields.finish((plan_ids,))?;
        let plans = self.plans.find_all(&context, plan_ids).await??;
        let rows = compare(&plans).into_iter().map(Into::into).collect();
        Ok(Response::new(ComparePlansResponse { plans: plans.into_iter().map(Into::into).collect(), rows }))
    }
}

impl From<Plan> for wire::Plan {
    fn from(plan: Plan) -> Self {
        let terms = plan.terms;
        let included = terms.included.into_iter().map(|included| IncludedUsage {
            product_id: included.product_id.into_string(),
            quantity: included.quantity.to_string(),
            overage: wire::Overage::from(included.overage).into(),
        });
        let price = |(cycle, amount): (Cycle, Amount)| PlanPrice {
            billing_cycle: BillingCycle::from(cycle).into(),
            amount: amount.to_wire(),
        };
        Self {
            plan_id: plan.plan_id.into_string(),
            version: plan.version,
            name: terms.name,
            tier: PlanTier::from(terms.tier).into(),
            currency: terms.currency.code().to_owned(),
            prices: terms.prices.into_iter().map(price).collect(),
            trial_days: terms.trial_days,
            included_usage: included.collect(),
            features: terms.features.into_iter().collect(),
            min_seats: terms.seats.min,
            max_seats: terms.seats.max.unwrap_or(0),
            status: PlanStatus::from(plan.status).into(),
            create_time: Some(plan.create_time.to_wire()),
            update_time: Some(plan.update_time.to_wire()),
            etag: Etag::of(plan.revision).to_string(),
        }
    }
}

impl From<Compared> for ComparisonRow {
    fn from(row: Compared) -> Self {
        let kind = match row.kind {
            Kind::Price => ComparisonKind::Price,
            Kind::Seats => ComparisonKind::Seats,
            Kind::Trial => ComparisonKind::Trial,
            Kind::IncludedUsage => ComparisonKind::IncludedUsage,
            Kind::Feature => ComparisonKind::Feature,
        };
        let differs = row.differs();
        Self { kind: kind.into(), name: row.name, cells: row.cells, differs }
    }
}

impl From<Tier> for PlanTier {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Free => Self::Free,
            Tier::Basic => Self::Basic,
            Tier::Premium => Self::Premium,
            Tier::Enterprise => Self::Enterprise,
        }
    }
}

impl From<Status> for PlanStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::Archived => Self::Archived,
        }
    }
}

impl From<Cycle> for BillingCycle {
    fn from(cycle: Cycle) -> Self {
        match cycle {
            Cycle::Monthly => Self::Monthly,
            Cycle::Quarterly => Self::Quarterly,
            Cycle::Yearly => Self::Yearly,
        }
    }
}

impl From<Overage> for wire::Overage {
    fn from(overage: Overage) -> Self {
        match overage {
            Overage::Charge => Self::Charge,
            Overage::Block => Self::Block,
        }
    }
}

impl From<Refused> for GrpcStatus {
    fn from(refused: Refused) -> Self {
        let about = |reason, id: &Slug| Refusal::new(reason, &refused).about("trivet.product.v1.Plan", id);
        match &refused {
            Refused::RequestId(taken) => taken.clone().into(),
            Refused::NoPlan(plan_id) | Refused::NoVersion { plan_id, .. } => about(Reason::PlanNotFound, plan_id),
            Refused::Archived(plan_id) => about(Reason::PlanNotAvailable, plan_id),
            Refused::Stale { .. } => Refusal::new(Reason::EtagMismatch, &refused),
            Refused::SeatsCrossed { min, .. } => {
                let description = format!("must be at least min_seats, which is {min}, or 0 for no limit");
                Refusal::fields(Reason::InvalidFields, vec![Violation { field: "max_seats".to_owned(), description }])
            }
            Refused::NoProduct(id) => {
                Refusal::new(Reason::ProductNotFound, &refused).about("trivet.product.v1.Product", id)
            }
            Refused::IdTaken(plan_id) => about(Reason::IdTaken, plan_id),
        }
        .into()
    }
}
