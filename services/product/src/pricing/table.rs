//! The rows of `prices`, and every statement on them.

use std::collections::HashMap;

use mesh::{
    Slug, StoreError, Tenant, Time,
    store::{Row, placeholders, sql},
};
use money::{Amount, Currency, Fault, Quantity, UnitPrice};
use sea_orm::{ConnectionTrait, Value};

use super::{Model, ModelName, Price, Terms};
use crate::catalog;

const COLUMNS: &str = "price_id, currency, unit, model, unit_price, tiers, package_size, free_quantity, \
                       minimum_amount, effective_time, version, create_time";

/// A row of `prices`.
#[derive(Row)]
struct PriceRow {
    price_id: Slug,
    currency: String,
    unit: String,
    model: ModelName,
    unit_price: String,
    tiers: String,
    package_size: String,
    free_quantity: String,
    minimum_amount: i64,
    effective_time: Time,
    version: i64,
    create_time: Time,
}

impl TryFrom<PriceRow> for Price {
    type Error = StoreError;

    fn try_from(row: PriceRow) -> Result<Self, StoreError> {
        let damaged = |_: Fault| StoreError::Impossible("a price holds a decimal or a currency that is none");
        let currency = Currency::parse(&row.currency).map_err(damaged)?;
        let unit_price = || UnitPrice::parse(&row.unit_price).map_err(damaged);
        let tiers = || serde_json::from_str(&row.tiers);
        let model = match row.model {
            ModelName::Flat => Model::Flat { unit_price: unit_price()? },
            ModelName::PerUnit => Model::PerUnit { unit_price: unit_price()? },
            ModelName::Graduated => Model::Graduated { tiers: tiers()? },
            ModelName::Volume => Model::Volume { tiers: tiers()? },
            ModelName::Package => {
                Model::Package { unit_price: unit_price()?, size: Quantity::parse(&row.package_size).map_err(damaged)? }
            }
        };
        let terms = Terms {
            currency,
            unit: row.unit,
            model,
            free_quantity: Quantity::parse(&row.free_quantity).map_err(damaged)?,
            minimum_amount: Amount::from_minor(currency, row.minimum_amount),
        };
        let (effective_time, version, create_time) = (row.effective_time, row.version, row.create_time);
        Ok(Self { price_id: row.price_id, terms, effective_time, version, create_time })
    }
}

/// A price with the product whose it is.
#[derive(Row)]
struct OwnedRow {
    tenant_id: Tenant,
    product_id: Slug,
    #[sea_orm(nested)]
    price: PriceRow,
}

/// Every version of what these products cost, those of each product latest in force first.
pub(crate) async fn of_products(
    connection: &impl ConnectionTrait,
    products: &[(Tenant, Slug)],
) -> Result<HashMap<(Tenant, Slug), Vec<Price>>, StoreError> {
    let mut values = Vec::new();
    let columns: Vec<String> = COLUMNS.split(", ").map(|column| format!("p.{}", column.trim())).collect();
    let text = format!(
        "select p.tenant_id, p.product_id, {}
           from {} join prices p on p.tenant_id = k.tenant_id and p.product_id = k.product_id
          order by p.effective_time desc, p.version desc",
        columns.join(", "),
        catalog::keys(products).bind(connection, "k", &mut values)?
    );
    let rows = OwnedRow::find_by_statement(sql(connection, &text, values)).all(connection).await?;
    let mut prices: HashMap<_, Vec<Price>> = HashMap::new();
    for row in rows {
        prices.entry((row.tenant_id, row.product_id)).or_default().push(row.price.try_into()?);
    }
    Ok(prices)
}

/// The price with this id.
pub(crate) async fn find(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    price_id: &Slug,
) -> Result<Option<Price>, StoreError> {
    let text = format!("select {COLUMNS} from prices where tenant_id = $1 and price_id = $2");
    let statement = sql(connection, &text, [tenant.clone().into(), price_id.clone().into()]);
    PriceRow::find_by_statement(statement).one(connection).await?.map(Price::try_from).transpose()
}

/// Inserts the price.
pub(super) async fn insert(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    product_id: &Slug,
    price: &Price,
) -> Result<(), StoreError> {
    let Terms { currency, unit, model, free_quantity, minimum_amount } = &price.terms;
    let values: [Value; 14] = [
        tenant.clone().into(),
        product_id.clone().into(),
        price.price_id.clone().into(),
        currency.code().into(),
        unit.clone().into(),
        model.name().into(),
        model.unit_price().map(|price| price.to_string()).unwrap_or_default().into(),
        serde_json::to_string(model.tiers())?.into(),
        model.package_size().map(|size| size.to_string()).unwrap_or_default().into(),
        free_quantity.to_string().into(),
        minimum_amount.minor().into(),
        price.effective_time.into(),
        price.version.into(),
        price.create_time.into(),
    ];
    let places = placeholders(1, values.len());
    let text = format!("insert into prices (tenant_id, product_id, {COLUMNS}) values ({places})");
    connection.execute_raw(sql(connection, &text, values)).await?;
    Ok(())
}

/// The price of a product that is in force at a time.
pub(super) async fn in_force(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    product_id: &Slug,
    time: Time,
) -> Result<Option<Price>, StoreError> {
    first(connection, (tenant, product_id), time, "effective_time <= $3 order by effective_time desc, version desc")
        .await
}

/// The price of a product that takes over from the one in force at a time.
pub(super) async fn next(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    product_id: &Slug,
    time: Time,
) -> Result<Option<Price>, StoreError> {
    first(connection, (tenant, product_id), time, "effective_time > $3 order by effective_time, version desc").await
}

async fn first(
    connection: &impl ConnectionTrait,
    (tenant, product_id): (&Tenant, &Slug),
    time: Time,
    which: &str,
) -> Result<Option<Price>, StoreError> {
    let text = format!("select {COLUMNS} from prices where tenant_id = $1 and product_id = $2 and {which} limit 1");
    let statement = sql(connection, &text, [tenant.clone().into(), product_id.clone().into(), time.into()]);
    PriceRow::find_by_statement(statement).one(connection).await?.map(Price::try_from).transpose()
}

#[derive(Row)]
struct LastRow {
    version: i64,
    create_time: Time,
}

/// The version of the price of a product that was set last, and when that was.
pub(super) async fn last(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    product_id: &Slug,
) -> Result<Option<(i64, Time)>, StoreError> {
    let text = "select version, create_time from prices where tenant_id = $1 and product_id = $2
                 order by version desc limit 1";
    let statement = sql(connection, text, [tenant.clone().into(), product_id.clone().into()]);
    let last = LastRow::find_by_statement(statement).one(connection).await?;
    Ok(last.map(|row| (row.version, row.create_time)))
}
