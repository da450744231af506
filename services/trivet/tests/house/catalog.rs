//! The catalog, as its callers see it.

mod categories;
mod memory;
mod updates;

use mesh::Clock;
use tonic::Code;
use trivet::RoleName;
use trivet_proto::product::v1::{
    BatchGetProductsRequest, CheckAvailabilityRequest, CreateCategoryRequest, CreateProductRequest,
    DeleteProductRequest, GetProductRequest, ListProductsRequest, ListProductsResponse, ProductStatus,
    UnavailableReason,
};

use crate::harness::{Databases, House, config, on_every_store, person, reason, told};

fn chair(product_id: &str) -> CreateProductRequest {
    CreateProductRequest {
        product_id: product_id.to_owned(),
        name: format!("Chair {product_id}"),
        ..CreateProductRequest::default()
    }
}

/// A category at the root, or below another one.
async fn categorize(house: &House, category_id: &str, parent: &str) {
    let category = CreateCategoryRequest {
        category_id: category_id.to_owned(),
        name: category_id.to_owned(),
        parent_category_id: parent.to_owned(),
        request_id: String::new(),
    };
    house.catalog().create_category(category).await.unwrap();
}

fn get(product_id: &str) -> GetProductRequest {
    GetProductRequest { product_id: product_id.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_is_made_once_under_its_request_id() {
    on_every_store(async |house| {
        let mut catalog = house.catalog();
        let create = CreateProductRequest { request_id: "make-1".to_owned(), ..chair("") };
        let first = catalog.create_product(create.clone()).await.unwrap().into_inner();
        let product = first.product.unwrap();
        assert!(product.product_id.starts_with("prod_") && !first.already_processed, "{product:?}");
        assert_eq!((product.r#type.as_str(), product.status()), ("physical", ProductStatus::Active));
        let again = catalog.create_product(create.clone()).await.unwrap().into_inner();
        assert!(again.already_processed);
        assert_eq!(again.product.unwrap(), product);
        let other = CreateProductRequest { name: "Table".to_owned(), ..create };
        let refused = catalog.create_product(other).await.unwrap_err();
        assert_eq!((reason(&refused).as_str(), told(&refused, "differs").as_str()), ("REQUEST_ID_REUSED", "name"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_was_chosen_belongs_to_one_product_even_after_its_deletion() {
    on_every_store(async |house| {
        let mut catalog = house.catalog();
        catalog.create_product(chair("oak")).await.unwrap();
        let taken = catalog.create_product(chair("oak")).await.unwrap_err();
        assert_eq!((taken.code(), reason(&taken).as_str()), (Code::AlreadyExists, "ID_TAKEN"));
        catalog.delete_product(DeleteProductRequest { product_id: "oak".to_owned() }).await.unwrap();
        assert_eq!(reason(&catalog.create_product(chair("oak")).await.unwrap_err()), "ID_TAKEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_reads_its_own_writes_at_once() {
    on_every_store(async |house| {
        let mut catalog = house.catalog();
        for round in 0..50 {
            let id = format!("chair-{round}");
            assert_eq!(reason(&catalog.get_product(get(&id)).await.unwrap_err()), "PRODUCT_NOT_FOUND");
            catalog.create_product(chair(&id)).await.unwrap();
            assert_eq!(catalog.get_product(get(&id)).await.unwrap().into_inner().product.unwrap().product_id, id);
            let deleted = catalog.delete_product(DeleteProductRequest { product_id: id.clone() }).await.unwrap();
            assert!(deleted.into_inner().product.unwrap().delete_time.is_some());
            assert_eq!(reason(&catalog.get_product(get(&id)).await.unwrap_err()), "PRODUCT_NOT_FOUND");
        }
        let again = catalog.delete_product(DeleteProductRequest { product_id: "chair-0".to_owned() }).await;
        assert_eq!(reason(&again.unwrap_err()), "PRODUCT_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_products_leaves_out_what_was_deleted() {
    on_every_store(async |house| {
        let mut catalog = house.catalog();
        for id in ["a", "b", "c"] {
            catalog.create_product(chair(id)).await.unwrap();
        }
        catalog.delete_product(DeleteProductRequest { product_id: "b".to_owned() }).await.unwrap();
        let product_ids = ["c", "b", "a"].map(str::to_owned).to_vec();
        let batch = catalog.batch_get_products(BatchGetProductsRequest { product_ids }).await.unwrap().into_inner();
        let found: Vec<_> = batch.products.iter().map(|product| product.product_id.as_str()).collect();
        assert_eq!((found, batch.missing_product_ids), (vec!["c", "a"], vec!["b".to_owned()]));
    })
    .await;
}

async fn page(house: &House, request: ListProductsRequest) -> (Vec<String>, ListProductsResponse) {
    let response = house.catalog().list_products(request).await.unwrap().into_inner();
    (response.products.iter().map(|product| product.product_id.clone()).collect(), response)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_newest_first_and_loses_and_repeats_nothing_while_others_write() {
    on_every_store(async |house| {
        let mut catalog = house.catalog();
        let ids: Vec<String> = (0..25).map(|number| format!("chair-{number:02}")).collect();
        for id in &ids {
            catalog.create_product(chair(id)).await.unwrap();
        }
        let mut listed = Vec::new();
        let mut request = ListProductsRequest { page_size: 10, with_total: true, ..ListProductsRequest::default() };
        for number in 0.. {
            let (mut products, response) = page(house, request.clone()).await;
            assert!(response.total_size.unwrap() >= 25);
            listed.append(&mut products);
            // Newer than everything on the pages to come: none of them may move.
            catalog.create_product(chair(&format!("late-{number}"))).await.unwrap();
            request.page_token = response.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        let newest_first: Vec<_> = ids.into_iter().rev().collect();
        assert_eq!(listed, newest_first);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_means_what_it_says_and_its_page_token_serves_no_other() {
    on_every_store(async |house| {
        categorize(house, "shelves", "").await;
        let mut catalog = house.catalog();
        for (id, name, kind) in [("a", "100% Wool", "digital"), ("b", "100 Wolves", "digital"), ("c", "ÉTAGÈRE", "")]
        {
            let product = CreateProductRequest {
                name: name.to_owned(),
                r#type: kind.to_owned(),
                category_id: if id == "c" { "shelves".to_owned() } else { String::new() },
                ..chair(id)
            };
            catalog.create_product(product).await.unwrap();
        }
        let default = ListProductsRequest::default;
        let check = async |request: ListProductsRequest, expected: &[&str]| {
            assert_eq!(page(house, request).await.0, expected);
        };
        check(ListProductsRequest { query: "100%".to_owned(), ..default() }, &["a"]).await;
        check(ListProductsRequest { query: "étag".to_owned(), ..default() }, &["c"]).await;
        check(ListProductsRequest { query: "wo".to_owned(), ..default() }, &["b", "a"]).await;
        check(ListProductsRequest { query: "_".to_owned(), ..default() }, &[]).await;
        check(ListProductsRequest { r#type: "digital".to_owned(), ..default() }, &["b", "a"]).await;
        check(ListProductsRequest { category_id: "shelves".to_owned(), ..default() }, &["c"]).await;
        check(ListProductsRequest { status: ProductStatus::Retired.into(), ..default() }, &[]).await;
        let (_, first) = page(house, ListProductsRequest { page_size: 1, ..default() }).await;
        let elsewhere = ListProductsRequest { page_token: first.next_page_token, query: "wo".to_owned(), ..default() };
        assert_eq!(reason(&catalog.list_products(elsewhere).await.unwrap_err()), "INVALID_PAGE_TOKEN");
    })
    .await;
}

fn check(product_id: &str, user_id: &str) -> CheckAvailabilityRequest {
    CheckAvailabilityRequest {
        product_id: product_id.to_owned(),
        user_id: user_id.to_owned(),
        ..CheckAvailabilityRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_is_active_may_have_a_product_that_is_sold() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("ada")).await.unwrap();
        let mut catalog = house.catalog();
        catalog.create_product(chair("oak")).await.unwrap();
        let mut ask = async |product_id, user_id| {
            let answer = catalog.check_availability(check(product_id, user_id)).await.unwrap().into_inner();
            (answer.available, answer.reason())
        };
        assert_eq!(
            ask("oak", "ada").await,
            (false, UnavailableReason::NotInPlan),
            "it has no price, and there are no plans"
        );
        assert_eq!(ask("oak", "nobody").await, (false, UnavailableReason::AccountInactive));
        assert_eq!(ask("elm", "ada").await, (false, UnavailableReason::NotFound));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_account_nothing_is_available_and_the_breaker_opens_after_five() {
    let databases = Databases::sqlite();
    // An address at which nobody listens.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let house = House::start(config(&databases, &[("account.address", &nobody)]), &[RoleName::Product]).await;
    let mut catalog = house.catalog();
    catalog.create_product(chair("oak")).await.unwrap();
    let mut reasons = Vec::new();
    for _ in 0..4 {
        let mut request = tonic::Request::new(check("oak", "ada"));
        request.set_timeout(std::time::Duration::from_secs(5));
        let began = Clock::system().now();
        let refused = catalog.check_availability(request).await.unwrap_err();
        let took = Clock::system().now().micros() - began.micros();
        assert!(took < 5_000_000, "the answer came in time: {took} µs");
        assert_eq!((refused.code(), told(&refused, "peer").as_str()), (Code::Unavailable, "account"));
        let retry = tonic_types::StatusExt::get_details_retry_info(&refused).and_then(|info| info.retry_delay);
        assert!(retry.is_some_and(|delay| !delay.is_zero()), "{refused:?}");
        reasons.push(reason(&refused));
    }
    assert_eq!((reasons[0].as_str(), reasons[3].as_str()), ("DEPENDENCY_UNAVAILABLE", "CIRCUIT_OPEN"), "{reasons:?}");
    house.running.drain(std::future::pending()).await;
    databases.done().await;
}
