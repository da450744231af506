//! What a call costs: Deduct and GetProduct through the whole house on SQLite and PostgreSQL, and beside them, in the
//! same run, a bare tonic server that answers the same GetProduct without doing anything.
//!
//! `cargo bench -p trivet --bench calls`; `-- --quick` only looks whether it runs. PostgreSQL takes part where
//! `TRIVET_TEST_POSTGRES_URL` is set. Caller and server share the process, so that CPU per call counts both (not the
//! database server's). Compare rows of one run with each other; never two runs on different days.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::unimplemented
)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use mesh::Running;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Server, server::TcpIncoming},
};
use trivet_proto::{
    account::v1::{EnsureAccountRequest, account_service_client::AccountServiceClient},
    billing::v1::{
        DeductRequest, RecordPaymentRequest, billing_service_client::BillingServiceClient,
        wallet_service_client::WalletServiceClient,
    },
    product::v1::{
        self as product, GetProductRequest, GetProductResponse, Product,
        catalog_service_client::CatalogServiceClient,
        catalog_service_server::{CatalogService, CatalogServiceServer},
    },
};

mod stores;
use stores::{channel, on_every_store};

/// Callers at once, row by row.
const CALLERS: [usize; 3] = [1, 16, 64];
/// Times that the bare server and ours are asked in turn.
const ROUNDS: u32 = 5;
/// Connections that the callers share.
const CONNECTIONS: usize = 2;
/// Users whose wallets are charged in turn.
const USERS: u64 = 100;

/// Rpcs that the bare server does not answer. What a macro makes async-trait cannot rewrite, so that this is what it
/// would have made.
macro_rules! not_measured {
    ($($rpc:ident $Request:ident $Response:ident)+) => {
        $(fn $rpc<'life0, 'async_trait>(
            &'life0 self,
            _: Request<product::$Request>,
        ) -> BoxFuture<'async_trait, Result<Response<product::$Response>, Status>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(Status::unimplemented("only GetProduct is measured")) })
        })+
    };
}

/// A server that does nothing but answer: what gRPC itself costs.
struct Bare(Product);

#[tonic::async_trait]
impl CatalogService for Bare {
    async fn get_product(&self, _: Request<GetProductRequest>) -> Result<Response<GetProductResponse>, Status> {
        Ok(Response::new(GetProductResponse { product: Some(self.0.clone()) }))
    }

    not_measured! {
        create_product CreateProductRequest CreateProductResponse
        batch_get_products BatchGetProductsRequest BatchGetProductsResponse
        list_products ListProductsRequest ListProductsResponse
        update_product UpdateProductRequest UpdateProductResponse
        delete_product DeleteProductRequest DeleteProductResponse
        create_category CreateCategoryRequest CreateCategoryResponse
        update_category UpdateCategoryRequest UpdateCategoryResponse
        list_categories ListCategoriesRequest ListCategoriesResponse
        get_cache_stats GetCacheStatsRequest GetCacheStatsResponse
        sync_cache SyncCacheRequest SyncCacheResponse
        set_price SetPriceRequest SetPriceResponse
        get_product_pricing GetProductPricingRequest GetProductPricingResponse
        estimate_cost EstimateCostRequest EstimateCostResponse
        check_availability CheckAvailabilityRequest CheckAvailabilityResponse
    }
}

#[tokio::main]
async fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let time = if quick { Duration::from_millis(200) } else { Duration::from_secs(5) };
    println!(
        "{:<28} {:>8} {:>10} {:>9} {:>9} {:>12} {:>8}",
        "", "callers", "calls/s", "p50 ms", "p99 ms", "CPU µs/call", "x bare"
    );
    let product = Product { product_id: "chair".to_owned(), name: "Chair".to_owned(), ..Product::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bare = listener.local_addr().unwrap();
    let server = Server::builder().add_service(CatalogServiceServer::new(Bare(product)));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(server.serve_with_incoming(incoming));
    on_every_store(async |database, _, running| house(database, running, bare, time).await).await;
}

/// GetProduct and Deduct through a house on this database. The bare server and ours are asked in turn, since a machine's
/// speed drifts: each of ours is compared with the bare one's just before it.
async fn house(database: &str, running: &Running, bare: SocketAddr, time: Duration) {
    furnish(running).await;
    for callers in CALLERS {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let bare = get_product(bare, callers, time / ROUNDS).await;
            let mut row = get_product(running.addresses["product"], callers, time / ROUNDS).await;
            row.of_bare = row.calls_per_second / bare.calls_per_second;
            theirs.push(bare);
            ours.push(row);
        }
        let bare = middle(theirs);
        bare.print("bare tonic GetProduct", callers);
        middle(ours).print(&format!("{database} GetProduct"), callers);
        let mut row = deduct(running.addresses["billing"], callers, time).await;
        row.of_bare = row.calls_per_second / bare.calls_per_second;
        row.print(&format!("{database} Deduct"), callers);
    }
}

/// The row in the middle of these, by how it compares.
fn middle(mut rows: Vec<Row>) -> Row {
    rows.sort_by(|one, other| one.of_bare.total_cmp(&other.of_bare));
    rows.swap_remove(rows.len() / 2)
}

/// A product, and users with money.
async fn furnish(running: &Running) {
    let product = product::CreateProductRequest {
        product_id: "chair".to_owned(),
        name: "Chair".to_owned(),
        ..Default::default()
    };
    CatalogServiceClient::new(channel(running.addresses["product"])).create_product(product).await.unwrap();
    let mut accounts = AccountServiceClient::new(channel(running.addresses["account"]));
    let mut wallets = WalletServiceClient::new(channel(running.addresses["billing"]));
    for user in 0..USERS {
        let (user_id, email, name) =
            (format!("user-{user}"), format!("user-{user}@example.com"), format!("User {user}"));
        let person = EnsureAccountRequest { user_id: user_id.clone(), email, name, subscription_tier: 0 };
        accounts.ensure_account(person).await.unwrap();
        let payment = RecordPaymentRequest {
            request_id: format!("fund-{user}"),
            user_id,
            amount: "1000000".to_owned(),
            provider: "bench".to_owned(),
            ..RecordPaymentRequest::default()
        };
        wallets.record_payment(payment).await.unwrap();
    }
}

async fn get_product(address: SocketAddr, callers: usize, time: Duration) -> Row {
    measure(address, callers, time, async |channel, _| {
        let request = GetProductRequest { product_id: "chair".to_owned() };
        CatalogServiceClient::new(channel).get_product(request).await.map(drop)
    })
    .await
}

async fn deduct(address: SocketAddr, callers: usize, time: Duration) -> Row {
    measure(address, callers, time, async move |channel, number| {
        let request = DeductRequest {
            request_id: format!("bench-{callers}-{number}"),
            user_id: format!("user-{}", number % USERS),
            amount: "0.0000001".to_owned(),
            ..DeductRequest::default()
        };
        BillingServiceClient::new(channel).deduct(request).await.map(drop)
    })
    .await
}

/// What a row of the report shows.
struct Row {
    calls_per_second: f64,
    p50: Duration,
    p99: Duration,
    cpu_per_call: Option<Duration>,
    /// Its calls per second in those of the bare server.
    of_bare: f64,
}

impl Row {
    fn print(&self, what: &str, callers: usize) {
        let cpu = self.cpu_per_call.map_or("-".to_owned(), |cpu| format!("{:.1}", cpu.as_secs_f64() * 1e6));
        println!(
            "{what:<28} {callers:>8} {:>10.0} {:>9.3} {:>9.3} {cpu:>12} {:>8.3}",
            self.calls_per_second,
            self.p50.as_secs_f64() * 1e3,
            self.p99.as_secs_f64() * 1e3,
            self.of_bare,
        );
    }
}

/// Calls as fast as `callers` can for `time`, after a tenth of it to warm up.
async fn measure<F>(address: SocketAddr, callers: usize, time: Duration, call: F) -> Row
where
    F: AsyncFn(Channel, u64) -> Result<(), Status>,
{
    let channels: Vec<Channel> = (0..CONNECTIONS).map(|_| channel(address)).collect();
    let number = Arc::new(AtomicU64::new(0));
    let round = async |time: Duration| {
        let end = Instant::now() + time;
        let one = async |caller: usize| {
            let mut taken = Vec::new();
            while Instant::now() < end {
                let began = Instant::now();
                call(channels[caller % CONNECTIONS].clone(), number.fetch_add(1, Ordering::Relaxed)).await.unwrap();
                taken.push(began.elapsed());
            }
            taken
        };
        futures_util::future::join_all((0..callers).map(one)).await.concat()
    };
    round(time / 10).await;
    let (began, cpu) = (Instant::now(), cpu_time());
    let mut taken = round(time).await;
    let elapsed = began.elapsed();
    let spent = cpu_time().zip(cpu).map(|(after, before)| after.saturating_sub(before));
    taken.sort_unstable();
    Row {
        calls_per_second: taken.len() as f64 / elapsed.as_secs_f64(),
        p50: taken[taken.len() / 2],
        p99: taken[taken.len() * 99 / 100],
        cpu_per_call: spent.map(|spent| spent / u32::try_from(taken.len()).unwrap()),
        of_bare: 1.0,
    }
}

/// What this process has used of all processors, as far as the system tells (Linux: proc(5), in ticks of 10 ms).
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}
