//! Holds on the wire.

use std::time::Duration;

use mesh::{Context, Fields, Reason, Refusal, RequestId, Slug, Time, TokenKey, UserId, open, page};
use tonic::{Request, Response, Status};
use trivet_proto::billing::v1::{
    self as wire, CaptureHoldRequest, CaptureHoldResponse, GetHoldRequest, GetHoldResponse, ListHoldsRequest,
    ListHoldsResponse, PlaceHoldRequest, PlaceHoldResponse, ReleaseHoldRequest, ReleaseHoldResponse,
};

use super::{Capture, Cursor, Filter, Hold, HoldState, Holds, Placing, Release};
use crate::{
    book::{Books, Order, Posted},
    wallet::{read_amount, read_amount_in, read_amount_of_any},
};

/// For how long money is set aside where nobody says.
const DEFAULT: Duration = Duration::from_hours(7 * 24);
/// For how long it is at most.
const LONGEST: Duration = Duration::from_hours(90 * 24);

/// Sets money aside.
pub(crate) async fn place_hold(
    books: &Books,
    request: Request<PlaceHoldRequest>,
) -> Result<Response<PlaceHoldResponse>, Status> {
    let (context, asked) = open(request)?;
    let rehearsal = asked.validate_only;
    let placing = match self::placing(&asked, books, false) {
        Ok(placing) => placing,
        // A repeat may come after its time: it gets its answer.
        Err(refusal) => match self::placing(&asked, books, true) {
            Ok(late) if books.knows(&context, &late.request_id).await? => late,
            _ => return Err(refusal.into()),
        },
    };
    let (posted, already_processed) = books.carry_out(&context, Order::Hold(placing), rehearsal).await?;
    let Answer { hold, transaction_id, balance_after, wallet_version } =
        answer(posted, rehearsal && !already_processed);
    Ok(Response::new(PlaceHoldResponse { hold, already_processed, transaction_id, balance_after, wallet_version }))
}

/// Takes what was set aside.
pub(crate) async fn capture_hold(
    holds: &Holds,
    request: Request<CaptureHoldRequest>,
) -> Result<Response<CaptureHoldResponse>, Status> {
    let (context, asked) = open(request)?;
    let rehearsal = asked.validate_only;
    let (request_id, hold_id, wanted) = capturing(&asked)?;
    let hold = holds.find(&context, &hold_id).await?;
    let amount = match &hold {
        Some(hold) => read_amount_in(hold.amount.currency(), &asked.amount)?,
        None => None,
    };
    let order = Order::Capture(Capture { request_id, hold_id, amount, asked: wanted, hold });
    let (posted, already_processed) = holds.books.carry_out(&context, order, rehearsal).await?;
    let Answer { hold, transaction_id, balance_after, wallet_version } =
        answer(posted, rehearsal && !already_processed);
    Ok(Response::new(CaptureHoldResponse { hold, already_processed, transaction_id, balance_after, wallet_version }))
}

/// Gives up what was set aside.
pub(crate) async fn release_hold(
    holds: &Holds,
    request: Request<ReleaseHoldRequest>,
) -> Result<Response<ReleaseHoldResponse>, Status> {
    let (context, asked) = open(request)?;
    let rehearsal = asked.validate_only;
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
    let hold_id = fields.read("hold_id", Slug::parse(&asked.hold_id));
    let (request_id, hold_id) = fields.finish((request_id, hold_id))?;
    let hold = holds.find(&context, &hold_id).await?;
    let order = Order::Release(Release { request_id, hold_id, hold });
    let (posted, already_processed) = holds.books.carry_out(&context, order, rehearsal).await?;
    let Answer { hold, transaction_id, balance_after, wallet_version } =
        answer(posted, rehearsal && !already_processed);
    Ok(Response::new(ReleaseHoldResponse { hold, already_processed, transaction_id, balance_after, wallet_version }))
}

/// Reads one hold.
pub(crate) async fn get_hold(
    holds: &Holds,
    request: Request<GetHoldRequest>,
) -> Result<Response<GetHoldResponse>, Status> {
    let (context, asked) = open(request)?;
    let mut fields = Fields::default();
    let hold_id = fields.read("hold_id", Slug::parse(&asked.hold_id));
    let (hold_id,) = fields.finish((hold_id,))?;
    let hold = holds.find(&context, &hold_id).await?.ok_or_else(|| {
        Refusal::new(Reason::HoldNotFound, format!("there is no hold {hold_id}"))
            .about("trivet.billing.v1.Hold", &hold_id)
    })?;
    Ok(Response::new(GetHoldResponse { hold: Some(hold.into()) }))
}

/// Pages through holds.
pub(crate) async fn list_holds(
    holds: &Holds,
    tokens: &TokenKey,
    request: Request<ListHoldsRequest>,
) -> Result<Response<ListHoldsResponse>, Status> {
    let (context, asked) = open(request)?;
    let (filter, size) = filter(&asked)?;
    let listing = tokens.listing("ListHolds", &context.tenant, &filter)?;
    let after: Option<Cursor> = listing.open(&asked.page_token)?;
    let mut found = holds.list(&context, &filter, after.as_ref(), page::rows(size)).await?;
    let next_page_token = listing.cut(&mut found, size, Cursor::of)?;
    let total_size = total(holds, &context, &filter, asked.with_total).await?;
    let found = found.into_iter().map(Into::into).collect();
    Ok(Response::new(ListHoldsResponse { holds: found, next_page_token, total_size }))
}

async fn total(holds: &Holds, context: &Context, filter: &Filter, asked: bool) -> Result<Option<i64>, Status> {
    if asked { Ok(Some(holds.count(context, filter).await?)) } else { Ok(None) }
}

/// What is to be set aside, until a time that is to come, or may have gone by where `late`.
fn placing(asked: &PlaceHoldRequest, books: &Books, late: bool) -> Result<Placing, Refusal> {
    let now = books.clock.now();
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let amount = read_amount(&mut fields, &asked.currency, &asked.amount);
    let until = match &asked.expire_time {
        None => Some(now.plus(DEFAULT)),
        Some(wire) => fields.read("expire_time", Time::from_wire(wire)).and_then(|time| {
            let allowed = (late || now < time) && time <= now.plus(LONGEST);
            fields.read("expire_time", allowed.then_some(time).ok_or("must be between now and 90 days ahead"))
        }),
    };
    let (request_id, user_id, amount, expire_time) = fields.finish((request_id, user_id, amount, until))?;
    let hold_id = Slug::fresh("hold", &books.clock);
    let expire_time_given = asked.expire_time.is_some();
    Ok(Placing { request_id, hold_id, user_id, amount, expire_time, expire_time_given })
}

fn capturing(asked: &CaptureHoldRequest) -> Result<(RequestId, Slug, String), Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
    let hold_id = fields.read("hold_id", Slug::parse(&asked.hold_id));
    let amount = read_amount_of_any(&mut fields, &asked.amount);
    fields.finish((request_id, hold_id, amount))
}

fn filter(asked: &ListHoldsRequest) -> Result<(Filter, u64), Refusal> {
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse_optional(&asked.user_id));
    let state = wire::HoldState::try_from(asked.state).map_err(|_| "is not a state that this release knows");
    let state = fields.read("state", state);
    let size = fields.read("page_size", page::size(asked.page_size));
    let (user_id, state, size) = fields.finish((user_id, state, size))?;
    let state = match state {
        wire::HoldState::Unspecified => None,
        wire::HoldState::Open => Some(HoldState::Open),
        wire::HoldState::Captured => Some(HoldState::Captured),
        wire::HoldState::Released => Some(HoldState::Released),
        wire::HoldState::Expired => Some(HoldState::Expired),
    };
    Ok((Filter { user_id, state }, size))
}

/// What all answers about a hold say.
struct Answer {
    hold: Option<wire::Hold>,
    transaction_id: String,
    balance_after: String,
    wallet_version: i64,
}

fn answer(posted: Posted, rehearsal: bool) -> Answer {
    let hold = posted.hold.map(|hold| wire::Hold::from(*hold)).map(|hold| {
        if !rehearsal {
            return hold;
        }
        // What was not placed has no id, and what was not ended no end.
        let placed = hold.state() == wire::HoldState::Open;
        let (hold_id, create_time) = if placed { (String::new(), None) } else { (hold.hold_id, hold.create_time) };
        wire::Hold { hold_id, create_time, end_time: None, ..hold }
    });
    Answer {
        hold,
        transaction_id: if rehearsal { String::new() } else { posted.transaction_id },
        balance_after: posted.balance_after.to_wire(),
        wallet_version: posted.wallet_version,
    }
}

impl From<Hold> for wire::Hold {
    fn from(hold: Hold) -> Self {
        let state = match hold.state {
            HoldState::Open => wire::HoldState::Open,
            HoldState::Captured => wire::HoldState::Captured,
            HoldState::Released => wire::HoldState::Released,
            HoldState::Expired => wire::HoldState::Expired,
        };
        Self {
            hold_id: hold.hold_id.into_string(),
            request_id: hold.request_id.into_string(),
            user_id: hold.user_id.into_string(),
            currency: hold.amount.currency().code().to_owned(),
            amount: hold.amount.to_wire(),
            state: state.into(),
            captured_amount: hold.captured.to_wire(),
            create_time: Some(hold.create_time.to_wire()),
            expire_time: Some(hold.expire_time.to_wire()),
            end_time: hold.end_time.map(Time::to_wire),
        }
    }
}
