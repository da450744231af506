//! Categories: a tree, and products that stand in it.

use mesh::Clock;
use tonic::Code;
use trivet::RoleName;
use trivet_proto::product::v1::{
    Category, CreateCategoryRequest, CreateProductRequest, ListCategoriesRequest, ListProductsRequest,
    UpdateCategoryRequest, UpdateProductRequest,
};

use super::{categorize, chair};
use crate::{
    harness::{Databases, House, config, faulty, on_every_store, reason, told},
    tenants::of,
};

fn moved(category_id: &str, parent: &str) -> UpdateCategoryRequest {
    UpdateCategoryRequest {
        category_id: category_id.to_owned(),
        parent_category_id: parent.to_owned(),
        ..UpdateCategoryRequest::default()
    }
}

async fn update(house: &House, update: UpdateCategoryRequest) -> Category {
    house.catalog().update_category(update).await.unwrap().into_inner().category.unwrap()
}

async fn within(house: &House, category_id: &str) -> Vec<String> {
    let ask = ListProductsRequest { category_id: category_id.to_owned(), with_total: true, ..Default::default() };
    let page = house.catalog().list_products(ask).await.unwrap().into_inner();
    assert_eq!(page.total_size, i64::try_from(page.products.len()).ok());
    page.products.into_iter().map(|product| product.product_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_is_found_in_its_category_and_in_every_one_above_it_wherever_that_is_moved() {
    on_every_store(async |house| {
        for (category_id, parent) in [("home", ""), ("seats", "home"), ("chairs", "seats"), ("garden", "")] {
            categorize(house, category_id, parent).await;
        }
        for (product_id, category_id) in [("oak", "chairs"), ("elm", "home"), ("ash", "")] {
            let product = CreateProductRequest { category_id: category_id.to_owned(), ..chair(product_id) };
            house.catalog().create_product(product).await.unwrap();
        }
        for (category_id, found) in
            [("home", vec!["elm", "oak"]), ("seats", vec!["oak"]), ("chairs", vec!["oak"]), ("garden", vec![])]
        {
            assert_eq!(within(house, category_id).await, found, "{category_id}");
        }
        let there = update(house, moved("seats", "garden")).await;
        assert_eq!((there.parent_category_id.as_str(), there.name.as_str()), ("garden", "seats"));
        assert_eq!(
            (within(house, "home").await, within(house, "garden").await),
            (vec!["elm".into()], vec!["oak".into()])
        );
        let mask = Some(prost_types::FieldMask { paths: vec!["parent_category_id".to_owned()] });
        let root = update(house, UpdateCategoryRequest { update_mask: mask, ..moved("seats", "") }).await;
        assert_eq!((root.parent_category_id.as_str(), within(house, "garden").await.len()), ("", 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_category_is_made_once_and_stands_below_one_that_is_there_and_never_below_itself() {
    on_every_store(async |house| {
        let mut catalog = house.catalog();
        let create = CreateCategoryRequest {
            request_id: "cat-1".to_owned(),
            category_id: "home".to_owned(),
            name: "Home".to_owned(),
            parent_category_id: String::new(),
        };
        let first = catalog.create_category(create.clone()).await.unwrap().into_inner();
        let again = catalog.create_category(create.clone()).await.unwrap().into_inner();
        assert_eq!((again.category, again.already_processed), (first.category, true));
        let other = CreateCategoryRequest { name: "House".to_owned(), ..create.clone() };
        assert_eq!(told(&catalog.create_category(other).await.unwrap_err(), "differs"), "name");
        let taken = CreateCategoryRequest { request_id: String::new(), ..create.clone() };
        assert_eq!(reason(&catalog.create_category(taken).await.unwrap_err()), "ID_TAKEN");
        let orphan = CreateCategoryRequest {
            category_id: "x".to_owned(),
            request_id: String::new(),
            parent_category_id: "none".to_owned(),
            ..create
        };
        let refused = catalog.create_category(orphan).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "CATEGORY_NOT_FOUND"));
        categorize(house, "seats", "home").await;
        categorize(house, "chairs", "seats").await;
        for (category_id, parent) in [("home", "chairs"), ("home", "home"), ("seats", "chairs")] {
            let refused = catalog.update_category(moved(category_id, parent)).await.unwrap_err();
            assert_eq!(faulty(&refused), ["parent_category_id"], "{category_id} below {parent}");
        }
        assert_eq!(reason(&catalog.update_category(moved("none", "home")).await.unwrap_err()), "CATEGORY_NOT_FOUND");
        let stale = UpdateCategoryRequest { etag: "v9".to_owned(), ..moved("chairs", "home") };
        assert_eq!(reason(&catalog.update_category(stale).await.unwrap_err()), "ETAG_MISMATCH");
        // A product names one that is there, too.
        let lost = CreateProductRequest { category_id: "none".to_owned(), ..chair("oak") };
        assert_eq!(reason(&catalog.create_product(lost).await.unwrap_err()), "CATEGORY_NOT_FOUND");
        catalog.create_product(chair("oak")).await.unwrap();
        let lost =
            UpdateProductRequest { product_id: "oak".to_owned(), category_id: "none".to_owned(), ..Default::default() };
        assert_eq!(reason(&catalog.update_product(lost).await.unwrap_err()), "CATEGORY_NOT_FOUND");
        let wrong = CreateCategoryRequest { parent_category_id: "a b".to_owned(), ..Default::default() };
        let refused = catalog.create_category(wrong).await.unwrap_err();
        assert_eq!(faulty(&refused), ["category_id", "name", "parent_category_id"]);
        let ask = ListCategoriesRequest { parent_category_id: "home".to_owned(), ..Default::default() };
        let below = catalog.list_categories(ask.clone()).await.unwrap().into_inner().categories;
        assert_eq!(below.iter().map(|category| category.category_id.as_str()).collect::<Vec<_>>(), ["seats"]);
        let other = catalog.list_categories(of("other", ask)).await.unwrap().into_inner();
        assert!(other.categories.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn categories_are_listed_by_id_page_by_page_and_no_tree_is_deeper_than_thirty_two() {
    on_every_store(async |house| {
        let ids: Vec<_> = (0..32).map(|level| format!("level-{level:02}")).collect();
        let mut parent = "";
        for id in &ids {
            categorize(house, id, parent).await;
            parent = id;
        }
        let deeper = CreateCategoryRequest {
            category_id: "deeper".to_owned(),
            name: "Deeper".to_owned(),
            parent_category_id: parent.to_owned(),
            request_id: String::new(),
        };
        assert_eq!(faulty(&house.catalog().create_category(deeper).await.unwrap_err()), ["parent_category_id"]);
        let (mut listed, mut ask) =
            (Vec::new(), ListCategoriesRequest { page_size: 5, with_total: true, ..Default::default() });
        loop {
            let page = house.catalog().list_categories(ask.clone()).await.unwrap().into_inner();
            assert_eq!(page.total_size, Some(32));
            listed.extend(page.categories.into_iter().map(|category| category.category_id));
            ask.page_token = page.next_page_token;
            if ask.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, ids);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_that_move_two_categories_below_each_other_make_no_circle() {
    let Some(databases) = Databases::postgres().await else { return };
    let start = async || House::start_by(Clock::system(), config(&databases, &[]), &RoleName::ALL).await;
    let (one, two) = (start().await, start().await);
    for round in 0..20 {
        let (a, b) = (format!("a-{round}"), format!("b-{round}"));
        categorize(&one, &a, "").await;
        categorize(&one, &b, "").await;
        let (mut first, mut second) = (one.catalog(), two.catalog());
        let (left, right) = tokio::join!(first.update_category(moved(&a, &b)), second.update_category(moved(&b, &a)));
        assert!(left.is_ok() != right.is_ok(), "one of two moves: {left:?} {right:?}");
    }
    two.end().await;
    one.end().await;
    databases.done().await;
}
