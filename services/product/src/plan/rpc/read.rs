//! How requests for plans are read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mesh::{Fields, Refusal, RequestId, Slug, text, update::Etag, update::Mask};
use money::{Amount, Currency, Quantity};
use trivet_proto::product::v1::{
    self as wire, BillingCycle, CreatePlanRequest, IncludedUsage, PlanPrice, PlanStatus, PlanTier, UpdatePlanRequest,
};

use super::super::{Change, Cycle, Draft, Included, Limit, Overage, Seats, Status, Terms, Tier};

/// Characters of a name.
const NAME_LIMIT: usize = 200;
/// Products that one plan includes. Each is looked at with every record of usage under it.
const INCLUDED_LIMIT: usize = 100;
/// Features of one plan, and characters of what they are called and of what they are.
const FEATURES_LIMIT: usize = 100;
const FEATURE_NAME_LIMIT: usize = 64;
const FEATURE_LIMIT: usize = 500;
/// Days of a trial.
const TRIAL_LIMIT: i32 = 30;
/// Seats of one subscription: what they cost together is still far from the end of an amount.
const SEATS_LIMIT: i32 = 1_000_000;
/// What UpdatePlan can set.
const SETTABLE: [&str; 9] =
    ["name", "tier", "currency", "prices", "trial_days", "included_usage", "features", "min_seats", "max_seats"];

/// Reads a plan to make.
pub(super) fn draft(asked: &CreatePlanRequest) -> Result<Draft, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse_optional(&asked.request_id));
    let plan_id = fields.read("plan_id", Slug::parse(&asked.plan_id));
    let name = fields.read("name", text::line(&asked.name, NAME_LIMIT));
    let tier = fields.read("tier", tier(asked.tier));
    let currency = fields.read("currency", Currency::parse(&asked.currency));
    let prices = prices(&mut fields, &asked.prices, currency);
    let trial_days = fields.read("trial_days", trial_days(asked.trial_days));
    let included = included(&mut fields, &asked.included_usage);
    let features = features(&mut fields, &asked.features);
    let min = fields.read("min_seats", min_seats(asked.min_seats));
    let max = fields.read("max_seats", max_seats(asked.max_seats));
    if let (Some(min), Some(Some(max))) = (min, max)
        && max < min
    {
        fields.refuse("max_seats", format!("must be at least min_seats, which is {min}, or 0 for no limit"));
    }
    let terms = (|| {
        let seats = Seats { min: min?, max: max? };
        let (name, tier, currency, prices) = (name?, tier?, currency?, prices?);
        let (trial_days, included, features) = (trial_days?, included?, features?);
        Some(Terms { name, tier, currency, prices, trial_days, included, features, seats })
    })();
    let (request_id, plan_id, terms) = fields.finish((request_id, plan_id, terms))?;
    Ok(Draft { request_id, plan_id, terms })
}

/// Reads what a new version should have otherwise.
pub(super) fn change(asked: &UpdatePlanRequest) -> Result<(Slug, Change), Refusal> {
    let mut fields = Fields::default();
    // First: of a mask that cannot be read, nobody knows which fields count.
    let mask = Mask::read(asked.update_mask.as_ref(), &SETTABLE, &present(asked))?;
    let plan_id = fields.read("plan_id", Slug::parse(&asked.plan_id));
    let mut change = Change { etag: Etag::parse_optional(&asked.etag), ..Change::default() };
    if mask.has("name") {
        change.name = fields.read("name", text::line(&asked.name, NAME_LIMIT));
    }
    if mask.has("tier") {
        change.tier = fields.read("tier", tier(asked.tier));
    }
    if mask.has("prices") {
        let currency = fields.read("currency", Currency::parse(&asked.currency));
        change.prices = currency.zip(prices(&mut fields, &asked.prices, currency));
    } else if mask.has("currency") {
        fields.refuse("currency", "can only be set together with prices");
    }
    if mask.has("trial_days") {
        change.trial_days = fields.read("trial_days", trial_days(asked.trial_days));
    }
    if mask.has("included_usage") {
        change.included = included(&mut fields, &asked.included_usage);
    }
    if mask.has("features") {
        change.features = features(&mut fields, &asked.features);
    }
    if mask.has("min_seats") {
        change.min_seats = fields.read("min_seats", min_seats(asked.min_seats));
    }
    if mask.has("max_seats") {
        change.max_seats = fields.read("max_seats", max_seats(asked.max_seats)).map(Limit);
    }
    let (plan_id,) = fields.finish((plan_id,))?;
    Ok((plan_id, change))
}

/// The fields that are set.
fn present(asked: &UpdatePlanRequest) -> Vec<&'static str> {
    let set = [
        !asked.name.is_empty(),
        asked.tier != 0,
        !asked.currency.is_empty(),
        !asked.prices.is_empty(),
        asked.trial_days != 0,
        !asked.included_usage.is_empty(),
        !asked.features.is_empty(),
        asked.min_seats != 0,
        asked.max_seats != 0,
    ];
    SETTABLE.into_iter().zip(set).filter_map(|(name, set)| set.then_some(name)).collect()
}

fn prices(fields: &mut Fields, asked: &[PlanPrice], currency: Option<Currency>) -> Option<BTreeMap<Cycle, Amount>> {
    if asked.is_empty() || asked.len() > 3 {
        fields.refuse("prices", format!("has {} entries, 1 to 3 are allowed", asked.len()));
        return None;
    }
    let mut prices = BTreeMap::new();
    let mut whole = true;
    for (position, price) in asked.iter().enumerate() {
        let name = |field| format!("prices[{position}].{field}");
        let cycle = fields.read(name("billing_cycle"), required_cycle(price.billing_cycle));
        // Without a currency nothing can be said of the digits.
        let amount = currency.map(|currency| fields.read(name("amount"), Amount::parse(currency, &price.amount)));
        match (cycle, amount.flatten()) {
            (Some(cycle), Some(amount)) if prices.insert(cycle, amount).is_some() => {
                fields.refuse(name("billing_cycle"), "has a price already");
                whole = false;
            }
            (Some(_), Some(_)) => {}
            _ => whole = false,
        }
    }
    whole.then_some(prices)
}

fn included(fields: &mut Fields, asked: &[IncludedUsage]) -> Option<Vec<Included>> {
    if asked.len() > INCLUDED_LIMIT {
        fields.refuse("included_usage", format!("has {} entries, at most {INCLUDED_LIMIT} are allowed", asked.len()));
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut included = Vec::with_capacity(asked.len());
    for (position, usage) in asked.iter().enumerate() {
        let name = |field| format!("included_usage[{position}].{field}");
        let product_id = fields.read(name("product_id"), Slug::parse(&usage.product_id));
        let quantity = fields.read(name("quantity"), Quantity::parse(&usage.quantity));
        let overage = fields.read(name("overage"), overage(usage.overage));
        if let (Some(product_id), Some(quantity), Some(overage)) = (product_id, quantity, overage) {
            if seen.insert(product_id.clone()) {
                included.push(Included { product_id, quantity, overage });
            } else {
                fields.refuse(name("product_id"), "is included already");
            }
        }
    }
    (included.len() == asked.len()).then_some(included)
}

fn features(fields: &mut Fields, asked: &HashMap<String, String>) -> Option<BTreeMap<String, String>> {
    if asked.len() > FEATURES_LIMIT {
        fields.refuse("features", format!("has {} entries, at most {FEATURES_LIMIT} are allowed", asked.len()));
        return None;
    }
    let mut features = BTreeMap::new();
    // Sorted, so that faults are told in one order.
    for (name, value) in asked.iter().collect::<BTreeMap<_, _>>() {
        let field = format!("features[{}]", name.chars().take(FEATURE_NAME_LIMIT).collect::<String>());
        let name = fields.read(field.clone(), text::line(name, FEATURE_NAME_LIMIT));
        let value = fields.read(field, text::optional_line(value, FEATURE_LIMIT));
        if let (Some(name), Some(value)) = (name, value) {
            features.insert(name, value);
        }
    }
    Some(features)
}

fn trial_days(asked: i32) -> Result<i32, String> {
    if (0..=TRIAL_LIMIT).contains(&asked) { Ok(asked) } else { Err(format!("must be 0 to {TRIAL_LIMIT}")) }
}

fn min_seats(asked: i32) -> Result<i32, String> {
    if (0..=SEATS_LIMIT).contains(&asked) { Ok(asked.max(1)) } else { Err(format!("must be 0 to {SEATS_LIMIT}")) }
}

fn max_seats(asked: i32) -> Result<Option<i32>, String> {
    let max = (asked > 0).then_some(asked);
    if (0..=SEATS_LIMIT).contains(&asked) { Ok(max) } else { Err(format!("must be 0 to {SEATS_LIMIT}")) }
}

fn tier(asked: i32) -> Result<Tier, &'static str> {
    optional_tier(asked)?.ok_or("is required")
}

/// Reads a tier to narrow a list by.
pub(super) fn optional_tier(asked: i32) -> Result<Option<Tier>, &'static str> {
    match PlanTier::try_from(asked) {
        Ok(PlanTier::Unspecified) => Ok(None),
        Ok(PlanTier::Free) => Ok(Some(Tier::Free)),
        Ok(PlanTier::Basic) => Ok(Some(Tier::Basic)),
        Ok(PlanTier::Premium) => Ok(Some(Tier::Premium)),
        Ok(PlanTier::Enterprise) => Ok(Some(Tier::Enterprise)),
        Err(_) => Err("is not a tier that this release knows"),
    }
}

/// Reads a status to narrow a list by.
pub(super) fn status(asked: i32) -> Result<Option<Status>, &'static str> {
    match PlanStatus::try_from(asked) {
        Ok(PlanStatus::Unspecified) => Ok(None),
        Ok(PlanStatus::Active) => Ok(Some(Status::Active)),
        Ok(PlanStatus::Archived) => Ok(Some(Status::Archived)),
        Err(_) => Err("is not a status that this release knows"),
    }
}

fn required_cycle(asked: i32) -> Result<Cycle, &'static str> {
    cycle(asked)?.ok_or("is required")
}

/// Reads a cycle that may be left out.
pub(crate) fn cycle(asked: i32) -> Result<Option<Cycle>, &'static str> {
    match BillingCycle::try_from(asked) {
        Ok(BillingCycle::Unspecified) => Ok(None),
        Ok(BillingCycle::Monthly) => Ok(Some(Cycle::Monthly)),
        Ok(BillingCycle::Quarterly) => Ok(Some(Cycle::Quarterly)),
        Ok(BillingCycle::Yearly) => Ok(Some(Cycle::Yearly)),
        Err(_) => Err("is not a cycle that this release knows"),
    }
}

fn overage(asked: i32) -> Result<Overage, &'static str> {
    match wire::Overage::try_from(asked) {
        Ok(wire::Overage::Unspecified) => Err("is required"),
        Ok(wire::Overage::Charge) => Ok(Overage::Charge),
        Ok(wire::Overage::Block) => Ok(Overage::Block),
        Err(_) => Err("is not one that this release knows"),
    }
}
