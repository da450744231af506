//! Prices on the wire; the rpcs are CatalogService's.

use mesh::{Fields, Reason, Refusal, RequestId, Slug, Time, UserId, refusal::Violation, text};
use money::{Amount, Currency, Fault, Quantity, UnitPrice};
use tonic::Status as GrpcStatus;
use trivet_proto::product::v1::{
    self as wire, CostLine, CostLineKind, EstimateCostRequest, EstimateCostResponse, GetProductPricingRequest,
    GetProductPricingResponse, PriceModel, PriceTier, SetPriceRequest,
};

use super::{Draft, Line, Model, ModelName, Price, Quote, Refused, Step, Terms, Tier};
use crate::{catalog::word, usage::Standing};

/// Tiers of one price. Each can be a line of an answer and of every record of usage.
const TIERS_LIMIT: usize = 100;

/// Reads a price to set.
pub(crate) fn draft(asked: &SetPriceRequest) -> Result<Draft, Refusal> {
    let mut fields = Fields::default();
    let product_id = fields.read("product_id", Slug::parse(&asked.product_id));
    let price = fields.read("price", asked.price.as_ref().ok_or("is required"));
    let price = price.and_then(|price| terms(&mut fields, price));
    let request_id = fields.read("request_id", RequestId::parse_optional(&asked.request_id));
    let (product_id, (terms, effective_time), request_id) = fields.finish((product_id, price, request_id))?;
    Ok(Draft { request_id, product_id, terms, effective_time })
}

/// Reads what a price says, and from when on.
fn terms(fields: &mut Fields, asked: &wire::Price) -> Option<(Terms, Option<Time>)> {
    let currency = fields.read("price.currency", Currency::parse(&asked.currency));
    let unit = word(&asked.unit).and_then(|unit| unit.ok_or(text::Fault::Blank));
    let unit = fields.read("price.unit", unit);
    let model = model(fields, asked, currency);
    let free_quantity = fields.read("price.free_quantity", quantity_or_zero(&asked.free_quantity));
    let minimum_amount = fields.read("price.minimum_amount", amount_or_zero(currency, &asked.minimum_amount));
    let effective_time = asked.effective_time.as_ref().map(Time::from_wire).transpose();
    let effective_time = fields.read("price.effective_time", effective_time)?;
    let terms = Terms {
        currency: currency?,
        unit: unit?,
        model: model?,
        free_quantity: free_quantity?,
        minimum_amount: minimum_amount??,
    };
    Some((terms, effective_time))
}

/// Reads the model, and those of the fields that it takes; the others must be empty.
fn model(fields: &mut Fields, asked: &wire::Price, currency: Option<Currency>) -> Option<Model> {
    let name = fields.read("price.model", model_name(asked.model))?;
    let tiered = matches!(name, ModelName::Graduated | ModelName::Volume);
    let unit_price = if tiered {
        refuse_unless_empty(fields, "price.unit_price", name, asked.unit_price.is_empty());
        None
    } else {
        fields.read("price.unit_price", UnitPrice::parse(&asked.unit_price))
    };
    let tiers = if tiered {
        tiers(fields, &asked.tiers, currency)
    } else {
        refuse_unless_empty(fields, "price.tiers", name, asked.tiers.is_empty());
        None
    };
    let size = if name == ModelName::Package {
        fields.read("price.package_size", Quantity::parse_positive(&asked.package_size))
    } else {
        refuse_unless_empty(fields, "price.package_size", name, asked.package_size.is_empty());
        None
    };
    Some(match name {
        ModelName::Flat => Model::Flat { unit_price: unit_price? },
        ModelName::PerUnit => Model::PerUnit { unit_price: unit_price? },
        ModelName::Graduated => Model::Graduated { tiers: tiers? },
        ModelName::Volume => Model::Volume { tiers: tiers? },
        ModelName::Package => Model::Package { unit_price: unit_price?, size: size? },
    })
}

fn refuse_unless_empty(fields: &mut Fields, field: &str, model: ModelName, empty: bool) {
    if !empty {
        fields.refuse(field, format!("must be empty: a price by {model} has none"));
    }
}

/// Reads tiers, each of which begins where the one before ends.
fn tiers(fields: &mut Fields, asked: &[PriceTier], currency: Option<Currency>) -> Option<Vec<Tier>> {
    if !(1..=TIERS_LIMIT).contains(&asked.len()) {
        fields.refuse("price.tiers", format!("has {} entries, 1 to {TIERS_LIMIT} are allowed", asked.len()));
        return None;
    }
    let mut tiers = Vec::with_capacity(asked.len());
    let mut start = Quantity::ZERO;
    for (position, tier) in asked.iter().enumerate() {
        let name = |field| format!("price.tiers[{position}].{field}");
        let last = position.checked_add(1) == Some(asked.len());
        let up_to = fields.read(name("up_to"), up_to(&tier.up_to, start, last));
        let unit_price = fields.read(name("unit_price"), UnitPrice::parse(&tier.unit_price));
        let flat_amount = fields.read(name("flat_amount"), amount_or_zero(currency, &tier.flat_amount)).flatten();
        start = up_to.flatten().unwrap_or(start);
        if let (Some(up_to), Some(unit_price), Some(flat_amount)) = (up_to, unit_price, flat_amount) {
            tiers.push(Tier { up_to, unit_price, flat_amount });
        }
    }
    (tiers.len() == asked.len()).then_some(tiers)
}

/// Reads the end of a tier that begins after `start`; the last one has none.
fn up_to(asked: &str, start: Quantity, last: bool) -> Result<Option<Quantity>, String> {
    if last {
        return if asked.is_empty() { Ok(None) } else { Err("must be empty: the last tier has no end".to_owned()) };
    }
    let up_to = Quantity::parse(asked).map_err(|fault| fault.to_string())?;
    if up_to > start { Ok(Some(up_to)) } else { Err(format!("must be more than {start}, where the tier begins")) }
}

fn quantity_or_zero(asked: &str) -> Result<Quantity, Fault> {
    if asked.is_empty() { Ok(Quantity::ZERO) } else { Quantity::parse(asked) }
}

/// Reads an amount that is part of a price, and no larger than a unit price can be. `None` where it looks good and its
/// currency is not known.
fn amount_or_zero(currency: Option<Currency>, asked: &str) -> Result<Option<Amount>, Fault> {
    let asked = if asked.is_empty() { "0" } else { asked };
    let amount = currency.map(|currency| Amount::parse(currency, asked)).transpose()?;
    UnitPrice::parse(asked)?;
    Ok(amount)
}

fn model_name(asked: i32) -> Result<ModelName, &'static str> {
    match PriceModel::try_from(asked) {
        Ok(PriceModel::Unspecified) => Err("is required"),
        Ok(PriceModel::Flat) => Ok(ModelName::Flat),
        Ok(PriceModel::PerUnit) => Ok(ModelName::PerUnit),
        Ok(PriceModel::Graduated) => Ok(ModelName::Graduated),
        Ok(PriceModel::Volume) => Ok(ModelName::Volume),
        Ok(PriceModel::Package) => Ok(ModelName::Package),
        Err(_) => Err("is not a model that this release knows"),
    }
}

/// Who would pay, be it for an organization.
pub(crate) struct Payer(Option<UserId>, Option<Slug>);

impl Payer {
    fn read(fields: &mut Fields, user_id: &str, organization_id: &str) -> Option<Self> {
        let user = fields.read("user_id", UserId::parse_optional(user_id));
        let organization = fields.read("organization_id", Slug::parse_optional(organization_id));
        if let (Some(None), Some(Some(_))) = (&user, &organization) {
            fields.refuse("organization_id", "is of nobody: name the user, too");
        }
        Some(Self(user?, organization?))
    }

    /// The user, with the organization.
    pub(crate) fn user(&self) -> Option<(&UserId, Option<&Slug>)> {
        self.0.as_ref().map(|user_id| (user_id, self.1.as_ref()))
    }
}

/// Reads of which product the pricing is asked for, for whom, and of how much of it, if of any.
pub(crate) fn pricing(asked: &GetProductPricingRequest) -> Result<(Slug, Payer, Option<Quantity>), Refusal> {
    let mut fields = Fields::default();
    let product_id = fields.read("product_id", Slug::parse(&asked.product_id));
    let payer = Payer::read(&mut fields, &asked.user_id, &asked.organization_id);
    let quantity = (!asked.quantity.is_empty()).then(|| Quantity::parse(&asked.quantity)).transpose();
    let quantity = fields.read("quantity", quantity);
    fields.finish((product_id, payer, quantity))
}

/// Reads of how much of which product the cost is asked for, and for whom.
pub(crate) fn estimate(asked: &EstimateCostRequest) -> Result<(Slug, Payer, Quantity), Refusal> {
    let mut fields = Fields::default();
    let product_id = fields.read("product_id", Slug::parse(&asked.product_id));
    let quantity = fields.read("quantity", Quantity::parse(&asked.quantity));
    let payer = Payer::read(&mut fields, &asked.user_id, &asked.organization_id);
    fields.finish((product_id, payer, quantity))
}

/// What a product costs: its price now, the one to come, what a plan includes, and what comes of the quantity that was
/// asked about.
pub(crate) fn pricing_message(
    standing: Standing,
    next_price: Option<Price>,
    quote: Option<Quote>,
) -> GetProductPricingResponse {
    let (amount, lines) = match quote {
        None => Default::default(),
        Some(Quote { charge: None, .. }) => ("0".to_owned(), Vec::new()),
        Some(Quote { charge: Some((_, cost)), .. }) => {
            (cost.amount.to_wire(), cost.lines.into_iter().map(Into::into).collect())
        }
    };
    let included = standing.included.as_ref();
    GetProductPricingResponse {
        included_quantity: included.map(|(included, _)| included.quantity.to_string()).unwrap_or_default(),
        included_left: included.map(|(_, left)| left.to_string()).unwrap_or_default(),
        overage: included.map_or(0, |(included, _)| wire::Overage::from(included.overage).into()),
        price: standing.price.map(Into::into),
        next_price: next_price.map(Into::into),
        amount,
        lines,
    }
}

/// What a quantity would cost.
pub(crate) fn estimate_message(quantity: Quantity, quote: Quote) -> EstimateCostResponse {
    let included_quantity = quote.included.to_string();
    let quantity = quantity.to_string();
    let Some((price, cost)) = quote.charge else {
        let zero = || "0".to_owned();
        return EstimateCostResponse {
            amount: zero(),
            quantity,
            free_quantity: zero(),
            billable_quantity: zero(),
            total_before: zero(),
            cost_before: zero(),
            included_quantity,
            ..EstimateCostResponse::default()
        };
    };
    EstimateCostResponse {
        amount: cost.amount.to_wire(),
        currency: price.terms.currency.code().to_owned(),
        lines: cost.lines.into_iter().map(Into::into).collect(),
        price_id: price.price_id.into_string(),
        quantity,
        free_quantity: cost.free.to_string(),
        billable_quantity: cost.billable.to_string(),
        total_before: cost.before.to_string(),
        cost_before: cost.cost_before.to_string(),
        included_quantity,
    }
}

impl From<Price> for wire::Price {
    fn from(price: Price) -> Self {
        let Terms { currency, unit, model, free_quantity, minimum_amount } = price.terms;
        Self {
            price_id: price.price_id.into_string(),
            currency: currency.code().to_owned(),
            unit,
            model: PriceModel::from(model.name()).into(),
            unit_price: model.unit_price().map(|price| price.to_string()).unwrap_or_default(),
            tiers: model.tiers().iter().map(Into::into).collect(),
            package_size: model.package_size().map(|size| size.to_string()).unwrap_or_default(),
            free_quantity: free_quantity.to_string(),
            minimum_amount: minimum_amount.to_wire(),
            effective_time: Some(price.effective_time.to_wire()),
            version: price.version,
            create_time: Some(price.create_time.to_wire()),
        }
    }
}

impl From<&Tier> for PriceTier {
    fn from(tier: &Tier) -> Self {
        Self {
            up_to: tier.up_to.map(|up_to| up_to.to_string()).unwrap_or_default(),
            unit_price: tier.unit_price.to_string(),
            flat_amount: tier.flat_amount.to_wire(),
        }
    }
}

impl From<Line> for CostLine {
    fn from(line: Line) -> Self {
        let (kind, tier) = match line.step {
            Step::Usage => (CostLineKind::Usage, 0),
            Step::Tier(number) => (CostLineKind::Usage, number),
            Step::Minimum => (CostLineKind::Minimum, 0),
        };
        Self {
            kind: kind.into(),
            tier,
            quantity: line.quantity.to_string(),
            unit_price: line.unit_price.to_string(),
            flat_amount: line.flat_amount.to_string(),
            amount: line.amount.to_string(),
        }
    }
}

impl From<ModelName> for PriceModel {
    fn from(name: ModelName) -> Self {
        match name {
            ModelName::Flat => Self::Flat,
            ModelName::PerUnit => Self::PerUnit,
            ModelName::Graduated => Self::Graduated,
            ModelName::Volume => Self::Volume,
            ModelName::Package => Self::Package,
        }
    }
}

impl From<Refused> for GrpcStatus {
    fn from(refused: Refused) -> Self {
        let about = |reason, id: &Slug| Refusal::new(reason, &refused).about("trivet.product.v1.Product", id);
        let fault = |field: &str| {
            let violation = Violation { field: field.to_owned(), description: refused.to_string() };
            Refusal::fields(Reason::InvalidFields, vec![violation])
        };
        match &refused {
            Refused::RequestId(taken) => taken.clone().into(),
            Refused::NoProduct(id) => about(Reason::ProductNotFound, id),
            Refused::Past => fault("price.effective_time"),
            Refused::NotPriced(id) => about(Reason::ProductNotPriced, id),
            Refused::Exhausted { product_id, left } => about(Reason::QuotaExhausted, product_id).with("left", left),
            Refused::TooMuch { .. } => fault("quantity"),
        }
        .into()
    }
}
