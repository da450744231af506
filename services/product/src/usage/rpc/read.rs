//! How requests about usage are read.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use mesh::{Fields, Reason, Refusal, RequestId, Slug, Time, UserId, page, refusal::Violation, text};
use money::Quantity;
use trivet_proto::product::v1::{
    BatchRecordUsageRequest, GetUsageStatisticsRequest, ListUsageRequest, UsageGrouping, UsageRecord, VoidUsageRequest,
};

use super::super::{
    Filter, Order,
    sums::{Grouping, Question, hour},
};

/// How late a record can come in: a month, and some days to notice.
const LATE: Duration = Duration::from_hours(35 * 24);
/// How far ahead a sender's clock can be.
const AHEAD: Duration = Duration::from_mins(5);
/// Records of one batch.
const BATCH_LIMIT: usize = 1_000;
/// Attributes of one record, and characters of what they are called and of what they are.
const ATTRIBUTES_LIMIT: usize = 50;
const NAME_LIMIT: usize = 64;
const VALUE_LIMIT: usize = 500;
/// Characters of a reason.
const REASON_LIMIT: usize = 500;

/// Reads a record.
pub(super) fn order(asked: &UsageRecord, now: Time) -> Result<Order, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let product_id = fields.read("product_id", Slug::parse(&asked.product_id));
    let quantity = fields.read("quantity", Quantity::parse_positive(&asked.quantity));
    let organization_id = fields.read("organization_id", Slug::parse_optional(&asked.organization_id));
    let subscription_id = fields.read("subscription_id", Slug::parse_optional(&asked.subscription_id));
    let session_id = fields.read("session_id", Slug::parse_optional(&asked.session_id));
    let event_time = asked.event_time.as_ref().map(|time| event_time(time, now)).transpose();
    let event_time = fields.read("event_time", event_time);
    let attributes = attributes(&mut fields, &asked.attributes);
    let whose = request_id.zip(user_id).zip(product_id).zip(quantity);
    let parts = (whose, organization_id, subscription_id, session_id, event_time, attributes);
    let (whose, organization_id, subscription_id, session_id, event_time, attributes) = fields.finish(parts)?;
    let (((request_id, user_id), product_id), quantity) = whose;
    Ok(Order {
        request_id,
        user_id,
        product_id,
        quantity,
        organization_id,
        subscription_id,
        session_id,
        event_time,
        attributes,
    })
}

fn event_time(asked: &prost_types::Timestamp, now: Time) -> Result<Time, &'static str> {
    let time = Time::from_wire(asked)?;
    if time < now.minus(LATE) {
        Err("is more than 35 days ago")
    } else if time > now.plus(AHEAD) {
        Err("is more than 5 minutes ahead")
    } else {
        Ok(time)
    }
}

fn attributes(fields: &mut Fields, asked: &HashMap<String, String>) -> Option<BTreeMap<String, String>> {
    if asked.len() > ATTRIBUTES_LIMIT {
        fields.refuse("attributes", format!("has {} entries, at most {ATTRIBUTES_LIMIT} are allowed", asked.len()));
        return None;
    }
    let mut attributes = BTreeMap::new();
    // Sorted, so that faults are told in one order.
    for (name, value) in asked.iter().collect::<BTreeMap<_, _>>() {
        let field = format!("attributes[{}]", name.chars().take(NAME_LIMIT).collect::<String>());
        let name = fields.read(field.clone(), text::line(name, NAME_LIMIT));
        let value = fields.read(field, text::optional_line(value, VALUE_LIMIT));
        if let (Some(name), Some(value)) = (name, value) {
            attributes.insert(name, value);
        }
    }
    Some(attributes)
}

/// Reads how many records there are; each is read by itself.
pub(super) fn batch(asked: BatchRecordUsageRequest) -> Result<Vec<UsageRecord>, Refusal> {
    let found = asked.records.len();
    if (1..=BATCH_LIMIT).contains(&found) {
        return Ok(asked.records);
    }
    let description = format!("has {found} entries, 1 to {BATCH_LIMIT} are allowed");
    Err(Refusal::fields(Reason::InvalidFields, vec![Violation { field: "records".to_owned(), description }]))
}

/// Reads which records a list should hold, and how many of them.
pub(super) fn filter(asked: &ListUsageRequest) -> Result<(Filter, u64), Refusal> {
    let mut fields = Fields::default();
    let size = fields.read("page_size", page::size(asked.page_size));
    let user_id = fields.read("user_id", UserId::parse_optional(&asked.user_id));
    let product_id = fields.read("product_id", Slug::parse_optional(&asked.product_id));
    let subscription_id = fields.read("subscription_id", Slug::parse_optional(&asked.subscription_id));
    let organization_id = fields.read("organization_id", Slug::parse_optional(&asked.organization_id));
    let start_time = fields.read("start_time", asked.start_time.as_ref().map(Time::from_wire).transpose());
    let end_time = fields.read("end_time", asked.end_time.as_ref().map(Time::from_wire).transpose());
    let time = start_time.zip(end_time);
    if let Some((Some(start), Some(end))) = time
        && start >= end
    {
        fields.refuse("end_time", "must be later than start_time");
    }
    let parts = (size, user_id, product_id, subscription_id, organization_id, time);
    let (size, user_id, product_id, subscription_id, organization_id, (start_time, end_time)) = fields.finish(parts)?;
    Ok((Filter { user_id, product_id, subscription_id, organization_id, start_time, end_time }, size))
}

/// Reads what to sum up, and how many sums at most.
pub(super) fn question(asked: &GetUsageStatisticsRequest) -> Result<(Question, u64), Refusal> {
    let mut fields = Fields::default();
    let size = fields.read("page_size", page::size(asked.page_size));
    let user_id = fields.read("user_id", UserId::parse_optional(&asked.user_id));
    let product_id = fields.read("product_id", Slug::parse_optional(&asked.product_id));
    let subscription_id = fields.read("subscription_id", Slug::parse_optional(&asked.subscription_id));
    let organization_id = fields.read("organization_id", Slug::parse_optional(&asked.organization_id));
    let start = fields.read("start_time", whole_hour(asked.start_time.as_ref()));
    let end = fields.read("end_time", whole_hour(asked.end_time.as_ref()));
    if let (Some(start), Some(end)) = (start, end)
        && start >= end
    {
        fields.refuse("end_time", "must be later than start_time");
    }
    let group_by = fields.read("group_by", grouping(asked.group_by));
    let parts = (size, user_id, product_id, subscription_id, organization_id, start, end, group_by);
    let (size, user_id, product_id, subscription_id, organization_id, start, end, group_by) = fields.finish(parts)?;
    Ok((Question { user_id, product_id, subscription_id, organization_id, start, end, group_by }, size))
}

fn whole_hour(asked: Option<&prost_types::Timestamp>) -> Result<Time, &'static str> {
    let time = Time::from_wire(asked.ok_or("is required")?)?;
    if hour(time) == time { Ok(time) } else { Err("must be a whole hour: sums are kept by the hour") }
}

fn grouping(asked: i32) -> Result<Grouping, &'static str> {
    match UsageGrouping::try_from(asked) {
        Ok(UsageGrouping::Unspecified) => Err("is required"),
        Ok(UsageGrouping::Day) => Ok(Grouping::Day),
        Ok(UsageGrouping::Hour) => Ok(Grouping::Hour),
        Ok(UsageGrouping::Product) => Ok(Grouping::Product),
        Ok(UsageGrouping::User) => Ok(Grouping::User),
        Err(_) => Err("is not a grouping that this release knows"),
    }
}

/// Reads which record should be taken back, and why.
pub(super) fn voiding(asked: &VoidUsageRequest) -> Result<(Slug, String), Refusal> {
    let mut fields = Fields::default();
    let usage_id = fields.read("usage_id", Slug::parse(&asked.usage_id));
    let reason = fields.read("reason", text::line(&asked.reason, REASON_LIMIT));
    fields.finish((usage_id, reason))
}
