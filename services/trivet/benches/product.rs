//! What product costs where there is much of it: usage streamed in beside a bare COPY of the same rows, sums of usage and
//! pages of the catalog at 10,000 rows and at a million.
//!
//! `cargo bench -p trivet --bench product`; `-- --quick` only looks whether it runs. On SQLite and, where
//! `TRIVET_TEST_POSTGRES_URL` is set, on PostgreSQL. Compare rows of one run with each other, never two runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::disallowed_methods
)]

mod stores;

use std::time::{Duration, Instant};

use mesh::{Clock, Running, Store, Time};
use sea_orm::{ConnectionTrait as _, DbBackend};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio_stream::StreamExt as _;
use trivet::Config;
use trivet_proto::product::v1::{
    CreateCategoryRequest, CreateProductRequest, GetUsageStatisticsRequest, ListProductsRequest, Price, PriceModel,
    SetPriceRequest, StreamUsageRequest, UsageGrouping, UsageRecord, catalog_service_client::CatalogServiceClient,
    usage_service_client::UsageServiceClient,
};

use stores::{channel, on_every_store};

const STREAMS: usize = 16;
const USERS: usize = 1_000;
const PRODUCTS: usize = 5;
/// Rows that are made with one statement.
const PIECE: usize = 50_000;
/// Calls behind one row of the report.
const CALLS: usize = 100;

#[tokio::main]
async fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (records, few, many) = if quick { (4_000, 1_000, 5_000) } else { (200_000, 10_000, 1_000_000) };
    on_every_store(async |database, config, running| {
        furnish(running).await;
        let per_second = stream(running, records).await;
        println!("{database:<11} StreamUsage, {STREAMS} streams, {records} records: {per_second:>9.0} records/s");
        if database == "PostgreSQL" {
            let copied = copy(config).await;
            let share = per_second / copied;
            println!(
                "{database:<11} COPY of the same rows, no index: {copied:>21.0} rows/s; StreamUsage is {share:.2} of it"
            );
        }
        let store = Store::open(config.product.location("product", &config.data_dir).unwrap()).await.unwrap();
        for rows in [few, many] {
            fill(&store, rows).await;
            statistics(database, running, rows).await;
            lists(database, running, rows).await;
        }
        store.close().await.unwrap();
    })
    .await;
}

async fn furnish(running: &Running) {
    let mut catalog = CatalogServiceClient::new(channel(running.addresses["product"]));
    for (category_id, parent) in [("all", ""), ("some", "all"), ("few", "some")] {
        let (category_id, name) = (category_id.to_owned(), category_id.to_owned());
        let category = CreateCategoryRequest {
            category_id,
            name,
            parent_category_id: parent.to_owned(),
            request_id: String::new(),
        };
        catalog.create_category(category).await.unwrap();
    }
    for number in 0..PRODUCTS {
        let (product_id, name) = (format!("sold-{number}"), "Tokens".to_owned());
        let product = CreateProductRequest { product_id: product_id.clone(), name, ..Default::default() };
        catalog.create_product(product).await.unwrap();
        let price = Price {
            unit: "token".to_owned(),
            model: PriceModel::PerUnit.into(),
            unit_price: "0.000002".to_owned(),
            ..Price::default()
        };
        let set = SetPriceRequest { product_id, price: Some(price), request_id: String::new() };
        catalog.set_price(set).await.unwrap();
    }
}

/// Streams records in; how many were taken in each second.
async fn stream(running: &Running, records: usize) -> f64 {
    let mut streams = tokio::task::JoinSet::new();
    let began = Instant::now();
    for stream in 0..STREAMS {
        let mut usage = UsageServiceClient::new(channel(running.addresses["product"]));
        streams.spawn(async move {
            let numbers = (stream..records).step_by(STREAMS);
            let record = |number: usize| UsageRecord {
                request_id: format!("record-{number}"),
                user_id: format!("user-{}", number % USERS),
                product_id: format!("sold-{}", number / 7 % PRODUCTS),
                quantity: (number % 900 + 1).to_string(),
                ..UsageRecord::default()
            };
            let requests = tokio_stream::iter(numbers).map(move |n| StreamUsageRequest { record: Some(record(n)) });
            let mut request = tonic::Request::new(requests);
            request.set_timeout(Duration::from_mins(10));
            usage.stream_usage(request).await.unwrap().into_inner().accepted
        });
    }
    let mut accepted = 0;
    while let Some(stream) = streams.join_next().await {
        accepted += stream.unwrap();
    }
    assert_eq!(usize::try_from(accepted).unwrap(), records);
    records as f64 / began.elapsed().as_secs_f64()
}

/// Copies the records that there are into a table like theirs without an index; how many rows were copied each second.
async fn copy(config: &Config) -> f64 {
    let url = config.product.database_url.reveal();
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute("set search_path to product").await.unwrap();
    connection.execute("create table usage_copy (like usage_records)").await.unwrap();
    let mut data = Vec::new();
    {
        let mut out = connection.copy_out_raw("copy usage_records to stdout").await.unwrap();
        while let Some(chunk) = out.next().await {
            data.extend_from_slice(&chunk.unwrap());
        }
    }
    let began = Instant::now();
    let mut copy_in = connection.copy_in_raw("copy usage_copy from stdin").await.unwrap();
    for chunk in data.chunks(64 * 1024) {
        copy_in.send(chunk).await.unwrap();
    }
    let rows = copy_in.finish().await.unwrap();
    let per_second = rows as f64 / began.elapsed().as_secs_f64();
    connection.execute("drop table usage_copy").await.unwrap();
    per_second
}

/// Fills the catalog up to so many products, and the sums of usage up to so many hours of people, in pieces that end
/// before PostgreSQL takes a statement for one that hangs.
async fn fill(store: &Store, rows: usize) {
    for first in (1..=rows).step_by(PIECE) {
        fill_piece(store, first, rows.min(first + PIECE - 1)).await;
    }
    store.reader().execute_unprepared("analyze").await.unwrap();
}

async fn fill_piece(store: &Store, first: usize, last: usize) {
    let writer = store.reader();
    let series = if writer.get_database_backend() == DbBackend::Postgres {
        format!("(select generate_series({first}, {last}) as n) s")
    } else {
        format!(
            "(with recursive s (n) as (select {first} union all select n + 1 from s where n < {last}) select n from s) s"
        )
    };
    let products = format!(
        "insert into products (tenant_id, product_id, name, name_key, type, category_id, description, metadata, status,
                               version, create_time, update_time)
         select 'default', 'filled-' || n, 'Filled', 'filled', case when n % 100 = 0 then 'rare' else 'common' end,
                case when n % 50 = 0 then 'few' else '' end, '', '{{}}', 'ACTIVE', 1, n, n from {series} where true
         on conflict do nothing"
    );
    let hour = 3_600_000_000_i64;
    let now = Clock::system().now().micros() / hour;
    let hours = format!(
        "insert into usage_hours (tenant_id, hour_time, user_id, organization_id, subscription_id, product_id, currency,
                                  records, whole, fraction, billions, rest)
         select 'default', ({now} - n % 720) * {hour}, 'filled-' || (n / 720), '', '', 'sold-0', 'USDC', 1, 1, 0, 0, 20
           from {series} where true on conflict do nothing"
    );
    let together = format!(
        "insert into usage_product_hours (tenant_id, hour_time, product_id, currency, records, whole, fraction, billions,
                                          rest)
         select 'default', ({now} - n % 720) * {hour}, 'sold-0', 'USDC', 1, 1, 0, 0, 20 from {series} where n <= 720
         on conflict do nothing"
    );
    for statement in [products, hours, together] {
        writer.execute_unprepared(&statement).await.unwrap();
    }
}

fn print(database: &str, rows: usize, what: &str, mut taken: Vec<Duration>) {
    taken.sort_unstable();
    let at = |share: usize| taken.get(taken.len() * share / 100).copied().unwrap_or_default();
    println!("{database:<11} {rows:>9} rows  {what:<44} p50 {:>9.3?}  p99 {:>9.3?}", at(50), at(99));
}

async fn timed<F: Future>(call: impl Fn() -> F) -> Vec<Duration> {
    let mut taken = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let began = Instant::now();
        call().await;
        taken.push(began.elapsed());
    }
    taken
}

async fn statistics(database: &str, running: &Running, rows: usize) {
    let hour = 3_600_000_000_i64;
    let now = Clock::system().now().micros() / hour;
    let time = |from_now: i64| Some(Time::from_micros((now + from_now) * hour).to_wire());
    for (what, user_id, group_by, days) in [
        ("GetUsageStatistics, a month by the day", "", UsageGrouping::Day, 30),
        ("GetUsageStatistics, a month by the product", "", UsageGrouping::Product, 30),
        ("GetUsageStatistics, one user's month by the day", "filled-1", UsageGrouping::Day, 30),
        ("GetUsageStatistics, a day by the user", "", UsageGrouping::User, 1),
    ] {
        let ask = GetUsageStatisticsRequest {
            user_id: user_id.to_owned(),
            start_time: time(-24 * days),
            end_time: time(1),
            group_by: group_by.into(),
            ..GetUsageStatisticsRequest::default()
        };
        let usage = UsageServiceClient::new(channel(running.addresses["product"]));
        let taken = timed(|| {
            let (mut usage, ask) = (usage.clone(), ask.clone());
            async move { usage.get_usage_statistics(ask).await.unwrap() }
        });
        print(database, rows, what, taken.await);
    }
}

async fn lists(database: &str, running: &Running, rows: usize) {
    let first = ListProductsRequest::default();
    for (what, ask) in [
        ("ListProducts", first.clone()),
        ("ListProducts by a rare type", ListProductsRequest { r#type: "rare".to_owned(), ..first.clone() }),
        ("ListProducts by a category's descendants", ListProductsRequest { category_id: "all".to_owned(), ..first }),
    ] {
        let catalog = CatalogServiceClient::new(channel(running.addresses["product"]));
        let taken = timed(|| {
            let (mut catalog, ask) = (catalog.clone(), ask.clone());
            async move { catalog.list_products(ask).await.unwrap() }
        });
        print(database, rows, what, taken.await);
    }
}
