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

use std::{net::SocketAddr, time::Duration};

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

mod load;
mod stores;
use load::Load;
use stores::{channel, on_every_store};

/// Callers at once, row by row.
const CALLERS: [usize; 3] = [1, 16, 64];
/// Times that the bare server and ours are asked in turn.
const ROUNDS: u32 = 5;
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
    println!("{:<28} {:>8} {} {:>8}", "", "callers", load::COLUMNS, "x bare");
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
            row.of_bare = row.load.calls_per_second / bare.load.calls_per_second;
            theirs.push(bare);
            ours.push(row);
        }
        let bare = middle(theirs);
        bare.print("bare tonic GetProduct", callers);
        middle(ours).print(&format!("{database} GetProduct"), callers);
        let mut row = deduct(running.addresses["billing"], callers, time).await;
        row.of_bare = row.load.calls_per_second / bare.load.calls_per_second;
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
    measure(address, callers, time, |channel, _| async {
        let request = GetProductRequest { product_id: "chair".to_owned() };
        CatalogServiceClient::new(channel).get_product(request).await.map(drop)
    })
    .await
}

async fn deduct(address: SocketAddr, callers: usize, time: Duration) -> Row {
    measure(address, callers, time, move |channel, number| async move {
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
    load: Load,
    /// Its calls per second in those of the bare server.
    of_bare: f64,
}

impl Row {
    fn print(&self, what: &str, callers: usize) {
        println!("{what:<28} {callers:>8} {} {:>8.3}", self.load.columns(), self.of_bare);
    }
}

/// Calls as fast as `callers` can for `time`.
async fn measure<C, F>(address: SocketAddr, callers: usize, time: Duration, call: C) -> Row
where
    C: Fn(Channel, u64) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), Status>> + Send,
{
    Row { load: load::measure(address, callers, time, load::process_time, call).await, of_bare: 1.0 }
}
