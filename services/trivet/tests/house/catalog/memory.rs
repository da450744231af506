//! What is answered from memory, how replicas hear of each other, and what is written behind.

use std::{collections::BTreeSet, time::Duration};

use mesh::Clock;
use sea_orm::ConnectionTrait as _;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tonic::{Code, Request};
use trivet::RoleName;
use trivet_proto::product::v1::{
    CreateProductRequest, DeleteProductRequest, Durability, GetCacheStatsRequest, GetCacheStatsResponse,
    ListProductsRequest, SyncCacheRequest, UpdateProductRequest,
};

use super::{chair, get};
use crate::{
    harness::{Databases, House, config, eventually, on_every_store, reason},
    tenants::of,
};

async fn stats(house: &House) -> GetCacheStatsResponse {
    house.catalog().get_cache_stats(GetCacheStatsRequest {}).await.unwrap().into_inner()
}

fn renamed(product_id: &str, name: &str) -> UpdateProductRequest {
    UpdateProductRequest { product_id: product_id.to_owned(), name: name.to_owned(), ..UpdateProductRequest::default() }
}

fn behind(product_id: &str) -> CreateProductRequest {
    CreateProductRequest { durability: Durability::WriteBehind.into(), ..chair(product_id) }
}

/// The name of a product, as a replica answers it; empty where there is none.
async fn name(house: &House, product_id: &str) -> String {
    match house.catalog().get_product(get(product_id)).await {
        Ok(answer) => answer.into_inner().product.unwrap().name,
        Err(refused) => {
            assert_eq!(reason(&refused), "PRODUCT_NOT_FOUND");
            String::new()
        }
    }
}

/// Two replicas over one PostgreSQL.
async fn two_replicas(databases: &Databases) -> (House, House) {
    let start = async || House::start_by(Clock::system(), config(databases, &[]), &RoleName::ALL).await;
    (start().await, start().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_writes_ten_thousand_times_the_other_reads_soon() {
    const PRODUCTS: usize = 100;
    const ROUNDS: usize = 100;
    let Some(databases) = Databases::postgres().await else { return };
    let (one, two) = two_replicas(&databases).await;
    let ids: Vec<_> = (0..PRODUCTS).map(|number| format!("p-{number}")).collect();
    for id in &ids {
        one.catalog().create_product(chair(id)).await.unwrap();
        assert!(!name(&two, id).await.is_empty());
    }
    let clock = Clock::system();
    let mut longest = Duration::ZERO;
    for round in 0..ROUNDS {
        let fresh = format!("round {round}");
        let mut writes = tokio::task::JoinSet::new();
        for id in &ids {
            let (mut catalog, renamed, clock) = (one.catalog(), renamed(id, &fresh), clock.clone());
            let id = id.clone();
            writes.spawn(async move {
                catalog.update_product(renamed).await.unwrap();
                (id, clock.now())
            });
        }
        while let Some(written) = writes.join_next().await {
            let (id, written) = written.unwrap();
            eventually("reading", async || name(&two, &id).await == fresh).await;
            longest = longest.max(clock.now().since(written));
        }
    }
    println!("the longest of {} times until the other replica read it: {longest:?}", PRODUCTS * ROUNDS);
    let seen = stats(&two).await;
    assert!(seen.hits > 0 && seen.evictions == 0, "{seen:?}");
    two.end().await;
    one.end().await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_word_is_lost_while_a_long_transaction_is_open() {
    let Some(databases) = Databases::postgres().await else { return };
    let (one, two) = two_replicas(&databases).await;
    one.catalog().create_product(chair("oak")).await.unwrap();
    one.catalog().create_product(chair("elm")).await.unwrap();
    assert_eq!((name(&two, "oak").await.as_str(), name(&two, "elm").await.as_str()), ("Chair oak", "Chair elm"));
    // A writer elsewhere in the server that takes its time: its number is lower than those of what follows.
    let Databases::Postgres { server, .. } = &databases else { panic!("that is PostgreSQL") };
    let mut slow = PgConnection::connect(server).await.unwrap();
    slow.execute("begin").await.unwrap();
    slow.execute("select pg_current_xact_id()").await.unwrap();
    one.catalog().update_product(renamed("oak", "Oak")).await.unwrap();
    eventually("reading", async || name(&two, "oak").await == "Oak").await;
    slow.execute("commit").await.unwrap();
    one.catalog().delete_product(DeleteProductRequest { product_id: "elm".to_owned() }).await.unwrap();
    eventually("reading", async || name(&two, "elm").await.is_empty()).await;
    two.end().await;
    one.end().await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_behind_is_read_at_once_and_is_on_disk_soon_in_its_order() {
    on_every_store(async |house| {
        for number in 0..50 {
            let id = format!("p-{number}");
            house.catalog().create_product(behind(&id)).await.unwrap();
            assert_eq!(name(house, &id).await, format!("Chair {id}"));
            match number % 3 {
                0 => {
                    house.catalog().update_product(renamed(&id, "Renamed")).await.unwrap();
                }
                1 => {
                    let delete = DeleteProductRequest { product_id: id.clone() };
                    house.catalog().delete_product(delete).await.unwrap();
                }
                _ => {}
            }
        }
        let synced = house.catalog().sync_cache(SyncCacheRequest {}).await.unwrap().into_inner();
        assert_eq!((synced.removed, synced.cache_size), (0, 33));
        let now = stats(house).await;
        assert_eq!((now.pending_writes, now.oldest_pending_age, now.failed_writes), (0, None, 0));
        assert_eq!(now.entries_by_type, [("physical".to_owned(), 33)].into());
        assert!(now.last_sync_time.is_some() && now.bytes > 0, "{now:?}");
        let ask = ListProductsRequest { page_size: 100, ..Default::default() };
        let listed = house.catalog().list_products(ask).await.unwrap().into_inner().products;
        assert_eq!((listed.len(), listed.iter().filter(|product| product.name == "Renamed").count()), (33, 17));
        assert!(name(house, "p-1").await.is_empty(), "a delete after a create is for good");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_behind_has_one_answer_under_its_request_id_and_one_owner_of_its_id() {
    on_every_store(async |house| {
        let create = CreateProductRequest { request_id: "make-1".to_owned(), ..behind("oak") };
        let first = house.catalog().create_product(create.clone()).await.unwrap().into_inner();
        assert!(!first.already_processed);
        // However it is sent again, and whether or not it is on disk by now.
        for durability in [Durability::WriteBehind, Durability::Durable, Durability::WriteBehind] {
            let again = CreateProductRequest { durability: durability.into(), ..create.clone() };
            let again = house.catalog().create_product(again).await.unwrap().into_inner();
            assert_eq!((again.product, again.already_processed), (first.product.clone(), true));
        }
        let other = CreateProductRequest { name: "Elm".to_owned(), ..create };
        assert_eq!(reason(&house.catalog().create_product(other).await.unwrap_err()), "REQUEST_ID_REUSED");
        for again in [behind("oak"), chair("oak")] {
            assert_eq!(reason(&house.catalog().create_product(again).await.unwrap_err()), "ID_TAKEN");
        }
        let lost = CreateProductRequest { category_id: "none".to_owned(), ..behind("elm") };
        assert_eq!(reason(&house.catalog().create_product(lost).await.unwrap_err()), "CATEGORY_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_id_written_behind_by_many_at_once_makes_one_product() {
    const CALLERS: usize = 16;
    const ROUNDS: i64 = 20;
    on_every_store(async |house| {
        for round in 0..ROUNDS {
            let mut calls = tokio::task::JoinSet::new();
            for caller in 0..CALLERS {
                // Each call would get an id of its own, and some wait for the disk.
                let durability = if caller % 4 == 3 { Durability::Durable } else { Durability::WriteBehind };
                let create = CreateProductRequest {
                    request_id: format!("make-{round}"),
                    durability: durability.into(),
                    ..chair("")
                };
                let mut catalog = house.catalog();
                calls.spawn(async move { catalog.create_product(create).await.unwrap().into_inner() });
            }
            let answers = calls.join_all().await;
            assert_eq!(answers.iter().filter(|answer| !answer.already_processed).count(), 1);
            let products: BTreeSet<String> =
                answers.into_iter().map(|answer| answer.product.unwrap().product_id).collect();
            assert_eq!(products.len(), 1);
            let found = house.catalog().get_product(get(products.first().unwrap())).await.unwrap().into_inner();
            assert_eq!(found.product.map(|product| product.product_id), products.first().cloned());
        }
        house.catalog().sync_cache(SyncCacheRequest {}).await.unwrap();
        let ask = ListProductsRequest { with_total: true, ..Default::default() };
        let listed = house.catalog().list_products(ask).await.unwrap().into_inner();
        assert_eq!(listed.total_size, Some(ROUNDS));
        assert_eq!(stats(house).await.failed_writes, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_before_the_database_went_is_read_meanwhile_and_written_when_it_is_back() {
    let Some(databases) = Databases::postgres().await else { return };
    let house = House::start_by(Clock::system(), config(&databases, &[]), &RoleName::ALL).await;
    let Databases::Postgres { server, name: database } = &databases else { panic!("that is PostgreSQL") };
    let mut admin = PgConnection::connect(server).await.unwrap();
    let mut locking = PgConnection::connect(house.config.product.database_url.reveal()).await.unwrap();
    // Who reads goes on, and who writes waits: so that everything is answered, and nothing is on disk.
    locking.execute("begin; lock table product.products in share row exclusive mode").await.unwrap();
    let ids: Vec<String> = (0..20).map(|number| format!("p-{number}")).collect();
    for id in &ids {
        house.catalog().create_product(behind(id)).await.unwrap();
    }
    let waiting = stats(&house).await;
    assert_eq!((waiting.pending_writes, waiting.failed_writes), (20, 0));
    assert!(waiting.oldest_pending_age.is_some());
    let away = format!(
        "alter database {database} with allow_connections false;
         select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'"
    );
    admin.execute(AssertSqlSafe(away)).await.unwrap();
    for id in &ids {
        assert_eq!(name(&house, id).await, format!("Chair {id}"), "it was answered for");
    }
    let refused = house.catalog().create_product(behind("more")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));
    assert_eq!(stats(&house).await.pending_writes, 20);
    let back = format!("alter database {database} with allow_connections true");
    admin.execute(AssertSqlSafe(back)).await.unwrap();
    eventually("writing", async || stats(&house).await.pending_writes == 0).await;
    let ask = ListProductsRequest { page_size: 100, ..Default::default() };
    let listed = house.catalog().list_products(ask).await.unwrap().into_inner().products;
    let listed: Vec<_> = listed.into_iter().rev().map(|product| product.product_id).collect();
    assert_eq!(listed, ids, "in the order in which they came");
    assert_eq!(stats(&house).await.failed_writes, 0);
    house.end().await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_too_much_waits_to_be_written_a_call_waits_for_the_disk() {
    let Some(databases) = Databases::postgres().await else { return };
    let house = House::start_by(Clock::system(), config(&databases, &[]), &RoleName::ALL).await;
    let mut locking = PgConnection::connect(house.config.product.database_url.reveal()).await.unwrap();
    locking.execute("begin; lock table product.products in share row exclusive mode").await.unwrap();
    // One is being written, and a thousand wait.
    for number in 0..1_001 {
        house.catalog().create_product(behind(&format!("p-{number}"))).await.unwrap();
    }
    let mut more = Request::new(behind("more"));
    more.set_timeout(Duration::from_millis(300));
    let refused = house.catalog().create_product(more).await.unwrap_err();
    // Whichever of the two looks at its clock first: tonic's client says CANCELLED.
    assert!(matches!(refused.code(), Code::DeadlineExceeded | Code::Cancelled), "{refused:?}");
    assert_eq!(stats(&house).await.pending_writes, 1_001);
    locking.execute("rollback").await.unwrap();
    house.catalog().create_product(behind("again")).await.unwrap();
    eventually("writing", async || stats(&house).await.pending_writes == 0).await;
    assert_eq!(stats(&house).await.failed_writes, 0);
    house.end().await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_to_be_written_is_written_before_the_process_goes() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let start = async || House::start_by(Clock::system(), config(&databases, &[]), &RoleName::ALL).await;
        let house = start().await;
        for number in 0..200 {
            house.catalog().create_product(behind(&format!("p-{number}"))).await.unwrap();
        }
        house.running.drain(std::future::pending()).await;
        let house = start().await;
        let ask = ListProductsRequest { with_total: true, ..Default::default() };
        assert_eq!(house.catalog().list_products(ask).await.unwrap().into_inner().total_size, Some(200));
        house.end().await;
        databases.done().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cache_did_for_one_tenant_is_not_counted_for_another() {
    on_every_store(async |house| {
        house.catalog().create_product(chair("a")).await.unwrap();
        name(house, "a").await;
        let before = stats(house).await;
        eventually("the other tenant's reads are counted", async || {
            let refused = house.catalog().get_product(of("other", get("a"))).await.unwrap_err();
            assert_eq!(reason(&refused), "PRODUCT_NOT_FOUND");
            let others = house.catalog().get_cache_stats(of("other", GetCacheStatsRequest {})).await.unwrap();
            let others = others.into_inner();
            assert!(others.entries_by_type.is_empty());
            others.hits > 1 && others.entries == 1
        })
        .await;
        assert_eq!(stats(house).await, before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn synchronizing_makes_the_cache_agree_with_the_store_deletions_included() {
    on_every_store(async |house| {
        for id in ["a", "b", "c"] {
            house.catalog().create_product(chair(id)).await.unwrap();
            name(house, id).await;
        }
        // Behind the service's back, so that nothing tells of it.
        let store = house.rows(RoleName::Product).await;
        for change in [
            "update products set name = 'Changed', version = 2 where product_id = 'a'",
            "update products set delete_time = 1, version = 2 where product_id = 'b'",
            "insert into products (tenant_id, product_id, name, name_key, type, category_id, description, metadata, status,
                                   version, create_time, update_time)
             values ('default', 'd', 'D', 'd', 'physical', '', '', '{}', 'ACTIVE', 1, 1, 1)",
        ] {
            store.reader().execute_unprepared(change).await.unwrap();
        }
        store.close().await.unwrap();
        let synced = house.catalog().sync_cache(SyncCacheRequest {}).await.unwrap().into_inner();
        assert_eq!((synced.loaded, synced.refreshed, synced.removed, synced.cache_size), (1, 1, 1, 3));
        assert_eq!((name(house, "a").await.as_str(), name(house, "b").await.as_str()), ("Changed", ""));
        let before = stats(house).await;
        assert_eq!(name(house, "d").await, "D");
        assert_eq!(stats(house).await.hits, before.hits + 1, "it was loaded");
    })
    .await;
}
