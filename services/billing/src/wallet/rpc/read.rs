//! How requests about wallets are read.

use mesh::{Fields, Refusal, RequestId, Slug, Time, UserId, page, text};
use money::{Amount, Currency, Fault, QuantitySum};
use trivet_proto::billing::v1::{GetStatementRequest, ListTransactionsRequest, RecordPaymentRequest};

use super::super::{Payment, Standing, statement::Stretch};

/// Characters of a provider's name, and of its own reference for a payment.
const PROVIDER_LIMIT: usize = 128;
const REFERENCE_LIMIT: usize = 256;

/// A payment, of a user whose standing is still to be asked for.
pub(super) fn payment(asked: &RecordPaymentRequest) -> Result<Payment, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let amount = read_amount(&mut fields, &asked.currency, &asked.amount);
    let provider = fields.read("provider", text::line(&asked.provider, PROVIDER_LIMIT));
    let reference = fields.read("provider_reference", text::optional_line(&asked.provider_reference, REFERENCE_LIMIT));
    let subscription_id = fields.read("subscription_id", Slug::parse_optional(&asked.subscription_id));
    let parts = (request_id, user_id, amount, provider, reference, subscription_id);
    let (request_id, user_id, amount, provider, provider_reference, subscription_id) = fields.finish(parts)?;
    let standing = Standing::Missing;
    Ok(Payment { request_id, user_id, amount, provider, provider_reference, subscription_id, standing })
}

/// Whose wallet, in which currency.
pub(super) fn key(user_id: &str, currency: &str) -> Result<(UserId, Currency), Refusal> {
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse(user_id));
    let currency = fields.read("currency", Currency::parse(currency));
    fields.finish((user_id, currency))
}

/// How much of a wallet's past.
pub(super) fn listing(asked: &ListTransactionsRequest) -> Result<(u64, UserId, Currency), Refusal> {
    let mut fields = Fields::default();
    let size = fields.read("page_size", page::size(asked.page_size));
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let currency = fields.read("currency", Currency::parse(&asked.currency));
    fields.finish((size, user_id, currency))
}

/// Which wallet, and which stretch of its time.
pub(super) fn statement(asked: &GetStatementRequest) -> Result<((UserId, Currency), Stretch), Refusal> {
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let currency = fields.read("currency", Currency::parse(&asked.currency));
    let start = fields.read("start_time", asked.start_time.as_ref().map(Time::from_wire).transpose());
    let end = fields.read("end_time", asked.end_time.as_ref().map(Time::from_wire).transpose());
    if let (Some(Some(start)), Some(Some(end))) = (start, end)
        && end < start
    {
        fields.refuse("end_time", "is before start_time");
    }
    let (user_id, currency, start, end) = fields.finish((user_id, currency, start, end))?;
    Ok(((user_id, currency), Stretch { start, end }))
}

/// A positive amount in a currency. Where the currency is none, the amount is still looked at as far as it can be.
pub(crate) fn read_amount(fields: &mut Fields, currency: &str, amount: &str) -> Option<Amount> {
    if let Some(currency) = fields.read("currency", Currency::parse(currency)) {
        return fields.read("amount", Amount::parse_positive(currency, amount));
    }
    if let Err(fault @ (Fault::Empty | Fault::TooLong { .. } | Fault::NotDecimal)) =
        Amount::parse(Currency::USDC, amount)
    {
        fields.refuse("amount", fault);
    }
    None
}

/// A positive amount whose currency is not known yet, as it is written in the end; empty where none is given. Finer than
/// eight digits is none of any currency.
pub(crate) fn read_amount_of_any(fields: &mut Fields, amount: &str) -> Option<String> {
    if amount.is_empty() {
        return Some(String::new());
    }
    fields.read("amount", QuantitySum::parse_positive(amount)).map(|amount| amount.to_string())
}

/// The same amount once its currency is known; `None` where none was given.
pub(crate) fn read_amount_in(currency: Currency, amount: &str) -> Result<Option<Amount>, Refusal> {
    if amount.is_empty() {
        return Ok(None);
    }
    let mut fields = Fields::default();
    let amount = fields.read("amount", Amount::parse_positive(currency, amount));
    let (amount,) = fields.finish((amount,))?;
    Ok(Some(amount))
}
