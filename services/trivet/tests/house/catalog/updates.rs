//! How products are changed.

use prost_types::FieldMask;
use sea_orm::ConnectionTrait as _;
use tonic::Code;
use trivet::RoleName;
use trivet_proto::product::v1::{DeleteProductRequest, Product, ProductStatus, UpdateProductRequest};

use super::{chair, get};
use crate::harness::{House, faulty, on_every_store, on_every_store_with_a_held_clock, reason};

fn update(product_id: &str) -> UpdateProductRequest {
    UpdateProductRequest { product_id: product_id.to_owned(), ..UpdateProductRequest::default() }
}

async fn updated(house: &House, update: UpdateProductRequest) -> Product {
    house.catalog().update_product(update).await.unwrap().into_inner().product.unwrap()
}

/// The types of what was told of products, in order.
async fn told(house: &House) -> Vec<String> {
    let store = house.rows(RoleName::Product).await;
    let reader = store.reader();
    let text =
        "select type || ' ' || aggregate_version as told from outbox where aggregate = 'product' order by position";
    let rows = reader.query_all_raw(mesh::store::sql(reader, text, [])).await.unwrap();
    let told = rows.iter().map(|row| row.try_get("", "told").unwrap()).collect();
    store.close().await.unwrap();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_what_it_names_and_is_read_at_once_and_told() {
    on_every_store_with_a_held_clock(async |house, clock| {
        let made = house.catalog().create_product(chair("oak")).await.unwrap().into_inner().product.unwrap();
        clock.advance(std::time::Duration::from_secs(5));
        let asked = UpdateProductRequest {
            description: "Made of oak.".to_owned(),
            status: ProductStatus::Deprecated.into(),
            etag: made.etag.clone(),
            ..update("oak")
        };
        let changed = updated(house, asked.clone()).await;
        let expected = Product {
            description: "Made of oak.".to_owned(),
            status: ProductStatus::Deprecated.into(),
            update_time: Some(clock.now().to_wire()),
            etag: "v2".to_owned(),
            ..made
        };
        assert_eq!(changed, expected);
        assert_eq!(house.catalog().get_product(get("oak")).await.unwrap().into_inner().product, Some(changed.clone()));
        let stale = house.catalog().update_product(asked.clone()).await.unwrap_err();
        assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
        let same = updated(house, UpdateProductRequest { etag: String::new(), ..asked }).await;
        assert_eq!(same, changed, "where nothing differs nothing is written");
        let mask = Some(FieldMask { paths: vec!["description".to_owned()] });
        assert_eq!(updated(house, UpdateProductRequest { update_mask: mask, ..update("oak") }).await.description, "");
        house.catalog().delete_product(DeleteProductRequest { product_id: "oak".to_owned() }).await.unwrap();
        let expected = ["product.created 1", "product.updated 2", "product.updated 3", "product.deleted 4"];
        assert_eq!(told(house).await, expected);
        let gone = UpdateProductRequest { name: "Oak".to_owned(), ..update("oak") };
        assert_eq!(reason(&house.catalog().update_product(gone).await.unwrap_err()), "PRODUCT_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_an_update_is_named_at_once() {
    on_every_store(async |house| {
        let wrong = UpdateProductRequest {
            product_id: "a b".to_owned(),
            name: "n".repeat(201),
            r#type: "API".to_owned(),
            category_id: "a b".to_owned(),
            description: "d\0".to_owned(),
            status: 9,
            ..UpdateProductRequest::default()
        };
        let refused = house.catalog().update_product(wrong).await.unwrap_err();
        assert_eq!(faulty(&refused), ["product_id", "name", "type", "category_id", "description", "status"]);
        for paths in [vec!["*"], vec!["name", "version"]] {
            let mask = Some(FieldMask { paths: paths.into_iter().map(str::to_owned).collect() });
            let masked = UpdateProductRequest { update_mask: mask, ..update("oak") };
            let refused = house.catalog().update_product(masked).await.unwrap_err();
            assert_eq!(reason(&refused), "INVALID_UPDATE_MASK");
        }
        assert_eq!(reason(&house.catalog().update_product(update("oak")).await.unwrap_err()), "INVALID_UPDATE_MASK");
    })
    .await;
}
