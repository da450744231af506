//! API keys and tenants, as their callers see them; and that a key leads to one tenant's rows and to no other's.

use std::{fmt::Write as _, time::Duration};

use mesh::{Clock, Context, Store, Tenant, Time, store::sql};
use sea_orm::{ConnectionTrait as _, QueryResult};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};
use trivet::RoleName;
use trivet_proto::account::v1::{
    ApiKey, AuthenticateApiKeyRequest, AuthenticateApiKeyResponse, CreateApiKeyRequest, CreateTenantRequest,
    GetTenantRequest, ListApiKeysRequest, ListTenantsRequest, RevokeApiKeyRequest,
};

use crate::{
    harness::{Databases, House, config, faulty, on_every_store, on_every_store_with_a_held_clock, reason, told},
    tenants::of,
};

mod tenants;
mod two_tenants;

/// How long a test waits for what should happen within five seconds.
const PATIENCE: Duration = Duration::from_secs(30);

fn wanted(request_id: &str) -> CreateApiKeyRequest {
    CreateApiKeyRequest {
        request_id: request_id.to_owned(),
        display_name: "Checkout".to_owned(),
        scopes: ["billing.write", "account.read"].map(str::to_owned).to_vec(),
        expire_time: None,
    }
}

fn revoke(key_id: &str) -> RevokeApiKeyRequest {
    RevokeApiKeyRequest { key_id: key_id.to_owned() }
}

/// A new key of the tenant, and its secret.
async fn key(house: &House, tenant: &str, wanted: CreateApiKeyRequest) -> (ApiKey, String) {
    let made = house.api_keys().create_api_key(of(tenant, wanted)).await.unwrap().into_inner();
    (made.key.unwrap(), made.secret)
}

async fn authenticate(house: &House, secret: &str) -> Result<AuthenticateApiKeyResponse, Status> {
    let request = AuthenticateApiKeyRequest { secret: secret.to_owned() };
    house.api_keys().authenticate_api_key(request).await.map(tonic::Response::into_inner)
}

/// Why a secret is not let in, after looking at the rest of the refusal.
async fn cause(house: &House, secret: &str) -> String {
    let refused = authenticate(house, secret).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "CREDENTIALS_INVALID"));
    assert!(secret.is_empty() || !format!("{refused:?}").contains(secret), "the refusal says the secret");
    told(&refused, "cause")
}

async fn list(house: &House, tenant: &str) -> Vec<ApiKey> {
    let request = ListApiKeysRequest { page_size: 1_000, ..ListApiKeysRequest::default() };
    house.api_keys().list_api_keys(of(tenant, request)).await.unwrap().into_inner().keys
}

/// The database of the account service, beside the service.
async fn account_store(house: &House) -> Store {
    Store::open(house.config.account.location("account", &house.config.data_dir).unwrap()).await.unwrap()
}

/// Changes rows behind the service's back.
async fn behind_its_back(house: &House, statement: &'static str) {
    let store = account_store(house).await;
    let context = Context::own(Tenant::default_tenant(), PATIENCE);
    let changed = store.unit(&context).run(statement, |statement, transaction| {
        Box::pin(async move { Ok(transaction.execute_raw(sql(transaction, statement, [])).await?) })
    });
    changed.await.unwrap();
    store.close().await.unwrap();
}

async fn rows(house: &House, query: &str) -> Vec<QueryResult> {
    let store = account_store(house).await;
    let rows = store.reader().query_all_raw(sql(store.reader(), query, [])).await.unwrap();
    store.close().await.unwrap();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_once_under_its_request_id_and_its_secret_told_once() {
    on_every_store(async |house| {
        let mut keys = house.api_keys();
        let (key, secret) = key(house, "default", wanted("make-1")).await;
        assert_eq!((secret.len(), &secret[..4], &secret[4..30]), (89, "tvt_", &key.key_id[4..]));
        assert_eq!(key.scopes, ["account.read", "billing.write"]);
        assert!(key.create_time.is_some());
        assert_eq!((&key.expire_time, &key.last_used_time, &key.revoke_time), (&None, &None, &None));
        let holder = authenticate(house, &secret).await.unwrap();
        assert_eq!((holder.tenant_id.as_str(), &holder.key_id, &holder.scopes), ("default", &key.key_id, &key.scopes));
        // The same request in other words, and what became of the key since is no part of the first answer.
        keys.revoke_api_key(revoke(&key.key_id)).await.unwrap();
        let scopes = ["account.read", "billing.write", "account.read"].map(str::to_owned).to_vec();
        let again = CreateApiKeyRequest { display_name: "  Checkout ".to_owned(), scopes, ..wanted("make-1") };
        let again = keys.create_api_key(again).await.unwrap().into_inner();
        assert_eq!((again.key, again.secret.as_str(), again.already_processed), (Some(key), "", true));
        assert_eq!(list(house, "default").await.len(), 1);
        let read = vec!["account.read".to_owned()];
        let end = Some(Clock::system().now().plus(PATIENCE).to_wire());
        for (other, field) in [
            (CreateApiKeyRequest { display_name: "Till".to_owned(), ..wanted("make-1") }, "display_name"),
            (CreateApiKeyRequest { scopes: read, ..wanted("make-1") }, "scopes"),
            (CreateApiKeyRequest { expire_time: end, ..wanted("make-1") }, "expire_time"),
        ] {
            let refused = keys.create_api_key(other).await.unwrap_err();
            assert_eq!((reason(&refused).as_str(), told(&refused, "differs").as_str()), ("REQUEST_ID_REUSED", field));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_secret_only_the_hash_is_kept() {
    on_every_store(async |house| {
        let (_, secret) = key(house, "default", wanted("make-1")).await;
        authenticate(house, &secret).await.unwrap();
        house.api_keys().create_api_key(wanted("make-1")).await.unwrap();
        let hash: Vec<u8> =
            rows(house, "select secret_hash from api_keys").await[0].try_get("", "secret_hash").unwrap();
        assert_eq!(hash, Sha256::digest(&secret).to_vec());
        let mut kept = String::new();
        for table in ["api_keys", "requests", "history", "tenants"] {
            let rows = rows(house, &format!("select * from {table}")).await;
            assert!(!rows.is_empty(), "{table}");
            for row in rows {
                for column in row.column_names() {
                    let text: Result<Option<String>, _> = row.try_get("", &column);
                    let bytes: Result<Option<Vec<u8>>, _> = row.try_get("", &column);
                    let bytes = bytes.ok().flatten().unwrap_or_default();
                    write!(kept, "{:?} {:?} ", text, String::from_utf8_lossy(&bytes)).unwrap();
                }
            }
        }
        // The random bits with their checksum: the id before them is no secret.
        assert!(kept.contains("Checkout") && !kept.contains(&secret[30..]) && !kept.contains(&secret[30..82]));
        if !house.config.data_dir.is_empty() {
            for file in std::fs::read_dir(&house.config.data_dir).unwrap() {
                let bytes = std::fs::read(file.unwrap().path()).unwrap();
                assert!(!bytes.windows(52).any(|window| window == &secret.as_bytes()[30..82]));
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_secret_is_malformed_without_a_look_at_any_table() {
    on_every_store(async |house| {
        let (_, secret) = key(house, "default", wanted("make-1")).await;
        let mut swapped = secret.clone().into_bytes();
        let place = (30..82).find(|place| swapped[*place] != swapped[place + 1]).unwrap();
        swapped.swap(place, place + 1);
        let mistyped = if secret.ends_with('7') { "8" } else { "7" };
        // A look would fail.
        behind_its_back(house, "alter table api_keys rename to api_keys_away").await;
        for malformed in [
            String::new(),
            String::from_utf8(swapped).unwrap(),
            format!("{}{mistyped}", &secret[..88]),
            secret[..88].to_owned(),
            format!("{secret} "),
            format!("Bearer {secret}"),
            secret.to_uppercase(),
            "x".repeat(100_000),
            "é\0".repeat(30),
        ] {
            assert_eq!(cause(house, &malformed).await, "MALFORMED");
        }
        behind_its_back(house, "alter table api_keys_away rename to api_keys").await;
        authenticate(house, &secret).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_fits_no_key_is_unknown_and_hears_nothing_of_how_the_key_stands() {
    on_every_store_with_a_held_clock(async |house, clock| {
        let end = clock.now().plus(Duration::from_mins(1));
        let wanted = CreateApiKeyRequest { expire_time: Some(end.to_wire()), ..wanted("make-1") };
        let (key, secret) = key(house, "default", wanted).await;
        authenticate(house, &secret).await.unwrap();
        // To a row that holds another hash, this is a well-formed secret with the right id and the wrong bits.
        let other = "update api_keys set secret_hash = (select secret from secrets where name = 'page_token')";
        behind_its_back(house, other).await;
        assert_eq!(cause(house, &secret).await, "UNKNOWN");
        clock.advance(Duration::from_mins(1));
        assert_eq!(cause(house, &secret).await, "UNKNOWN");
        house.api_keys().revoke_api_key(revoke(&key.key_id)).await.unwrap();
        assert_eq!(cause(house, &secret).await, "UNKNOWN");
        behind_its_back(house, "delete from api_keys").await;
        assert_eq!(cause(house, &secret).await, "UNKNOWN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_key_ends_it_for_good_and_again_changes_nothing() {
    on_every_store_with_a_held_clock(async |house, clock| {
        let mut keys = house.api_keys();
        let (key, secret) = key(house, "default", wanted("make-1")).await;
        authenticate(house, &secret).await.unwrap();
        let first = keys.revoke_api_key(revoke(&key.key_id)).await.unwrap().into_inner().key.unwrap();
        assert_eq!(first.revoke_time, Some(clock.now().to_wire()));
        assert_eq!(cause(house, &secret).await, "REVOKED");
        clock.advance(Duration::from_secs(1));
        let again = keys.revoke_api_key(revoke(&key.key_id)).await.unwrap().into_inner().key.unwrap();
        assert_eq!(again.revoke_time, first.revoke_time);
        assert_eq!(list(house, "default").await[0].revoke_time, first.revoke_time);
        let nobody = keys.revoke_api_key(revoke("key_01h2xcejqtf2nbrexx3vqjhp41")).await.unwrap_err();
        assert_eq!((nobody.code(), reason(&nobody).as_str()), (Code::NotFound, "API_KEY_NOT_FOUND"));
        let history = "select subject_id, action from history where kind = 'API_KEY' order by sequence";
        let lines: Vec<(String, String)> = rows(house, history)
            .await
            .iter()
            .map(|row| (row.try_get("", "subject_id").unwrap(), row.try_get("", "action").unwrap()))
            .collect();
        let line = |action: &str| (key.key_id.clone(), action.to_owned());
        assert_eq!(lines, [line("CREATED"), line("REVOKED")]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_ends_at_its_expire_time_and_its_request_id_keeps_its_answer() {
    on_every_store_with_a_held_clock(async |house, clock| {
        let mut keys = house.api_keys();
        let end = clock.now().plus(Duration::from_mins(1));
        let short = CreateApiKeyRequest { expire_time: Some(end.to_wire()), ..wanted("make-1") };
        let (key, secret) = key(house, "default", short.clone()).await;
        assert_eq!(key.expire_time, Some(end.to_wire()));
        clock.advance(Duration::from_micros(59_999_999));
        authenticate(house, &secret).await.unwrap();
        clock.advance(Duration::from_micros(1));
        assert_eq!(cause(house, &secret).await, "EXPIRED");
        let again = keys.create_api_key(short.clone()).await.unwrap().into_inner();
        assert_eq!((again.key.as_ref(), again.secret.as_str(), again.already_processed), (Some(&key), "", true));
        let other = CreateApiKeyRequest { display_name: "Till".to_owned(), ..short.clone() };
        assert_eq!(reason(&keys.create_api_key(other).await.unwrap_err()), "REQUEST_ID_REUSED");
        // Under another id it would be a key of no use. That is bad input, which leaves the id free.
        let late = CreateApiKeyRequest { request_id: "make-2".to_owned(), ..short };
        let refused = keys.create_api_key(late.clone()).await.unwrap_err();
        assert_eq!((reason(&refused).as_str(), faulty(&refused)), ("INVALID_FIELDS", vec!["expire_time".to_owned()]));
        assert_eq!(list(house, "default").await.len(), 1);
        let next = CreateApiKeyRequest { expire_time: None, ..late };
        assert!(!keys.create_api_key(next).await.unwrap().into_inner().already_processed);
        keys.revoke_api_key(revoke(&key.key_id)).await.unwrap();
        assert_eq!(cause(house, &secret).await, "REVOKED", "who revoked it meant more than its end");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_shows_within_seconds_when_it_was_last_used() {
    on_every_store_with_a_held_clock(async |house, clock| {
        let (key, secret) = key(house, "default", wanted("make-1")).await;
        clock.advance(Duration::from_secs(7));
        authenticate(house, &secret).await.unwrap();
        let used = clock.now();
        clock.advance(Duration::from_secs(7));
        let seen = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(time) = list(house, "default").await.remove(0).last_used_time {
                    return time;
                }
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(seen.await.expect("it was written down in time"), used.to_wire());
        assert_eq!(list(house, "default").await, [ApiKey { last_used_time: Some(used.to_wire()), ..key }]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_a_key_outlives_the_process_that_saw_it() {
    let stores = [Some(Databases::sqlite()), Databases::postgres().await];
    for databases in stores.into_iter().flatten() {
        let house = House::start(config(&databases, &[]), &RoleName::ALL).await;
        let (_, secret) = key(&house, "default", wanted("make-1")).await;
        authenticate(&house, &secret).await.unwrap();
        house.running.drain(std::future::pending()).await;
        let next = House::start(config(&databases, &[]), &RoleName::ALL).await;
        assert!(list(&next, "default").await[0].last_used_time.is_some());
        next.running.drain(std::future::pending()).await;
        databases.done().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_keys_is_newest_first_and_complete() {
    on_every_store(async |house| {
        let mut keys = house.api_keys();
        let mut made = Vec::new();
        for number in 0..25 {
            made.push(key(house, "default", wanted(&format!("make-{number}"))).await.0.key_id);
        }
        keys.revoke_api_key(revoke(&made[3])).await.unwrap();
        let mut listed = Vec::new();
        let mut request = ListApiKeysRequest { page_size: 10, with_total: true, ..ListApiKeysRequest::default() };
        for late in 0.. {
            let page = keys.list_api_keys(request.clone()).await.unwrap().into_inner();
            assert_eq!(page.total_size, Some(25 + late));
            listed.extend(page.keys.into_iter().map(|key| key.key_id));
            // Newer than everything on the pages to come: none of them may move.
            key(house, "default", wanted(&format!("late-{late}"))).await;
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        made.reverse();
        assert_eq!(listed, made);
        let whole = keys.list_api_keys(ListApiKeysRequest::default()).await.unwrap().into_inner();
        assert_eq!((whole.keys.len(), whole.total_size, whole.next_page_token.as_str()), (28, None, ""));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_serves_the_list_and_the_tenant_it_was_made_for() {
    on_every_store(async |house| {
        let (mut keys, mut tenants) = (house.api_keys(), house.tenants());
        tenants.create_tenant(tenant("acme", "Acme")).await.unwrap();
        for tenant in ["default", "acme"] {
            for number in 0..2 {
                key(house, tenant, wanted(&format!("make-{number}"))).await;
            }
        }
        let first = ListApiKeysRequest { page_size: 1, ..ListApiKeysRequest::default() };
        let token = keys.list_api_keys(first).await.unwrap().into_inner().next_page_token;
        let first = ListTenantsRequest { page_size: 1, ..ListTenantsRequest::default() };
        let foreign = tenants.list_tenants(first).await.unwrap().into_inner().next_page_token;
        let place = |token: &str| ListApiKeysRequest { page_token: token.to_owned(), ..ListApiKeysRequest::default() };
        keys.list_api_keys(of("default", place(&token))).await.unwrap();
        for (tenant, token) in [("acme", &token), ("default", &foreign), ("default", &"x".to_owned())] {
            let refused = keys.list_api_keys(of(tenant, place(token))).await.unwrap_err();
            assert_eq!(reason(&refused), "INVALID_PAGE_TOKEN");
        }
        let elsewhere = ListTenantsRequest { page_token: token, ..ListTenantsRequest::default() };
        assert_eq!(reason(&tenants.list_tenants(elsewhere).await.unwrap_err()), "INVALID_PAGE_TOKEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_key_or_a_tenant_is_named_at_once() {
    on_every_store(async |house| {
        let (mut keys, mut tenants) = (house.api_keys(), house.tenants());
        let past = Some(Time::from_micros(1).to_wire());
        let bad = CreateApiKeyRequest {
            request_id: String::new(),
            display_name: " ".to_owned(),
            scopes: ["billing.write", "root", "", "Account.read", "account.*"].map(str::to_owned).to_vec(),
            expire_time: past,
        };
        let all = ["request_id", "display_name", "scopes[1]", "scopes[2]", "scopes[3]", "scopes[4]", "expire_time"];
        assert_eq!(faults(keys.create_api_key(bad).await), all);
        let long = CreateApiKeyRequest {
            request_id: "a|b".to_owned(),
            display_name: "x".repeat(201),
            scopes: Vec::new(),
            expire_time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: -1 }),
        };
        let all = ["request_id", "display_name", "scopes", "expire_time"];
        assert_eq!(faults(keys.create_api_key(long).await), all);
        let many = CreateApiKeyRequest { scopes: vec!["account.read".to_owned(); 33], ..wanted("make-1") };
        assert_eq!(faults(keys.create_api_key(many).await), ["scopes"]);
        for id in ["", "a b", "a\0", &"x".repeat(129)] {
            assert_eq!(faults(keys.revoke_api_key(revoke(id)).await), ["key_id"]);
            let get = GetTenantRequest { tenant_id: id.to_owned() };
            assert_eq!(faults(tenants.get_tenant(get).await), ["tenant_id"]);
            let bad = CreateTenantRequest { request_id: "a b".to_owned(), ..tenant(id, "\u{7}") };
            assert_eq!(faults(tenants.create_tenant(bad).await), ["request_id", "tenant_id", "name"]);
        }
        let negative = ListApiKeysRequest { page_size: -1, ..ListApiKeysRequest::default() };
        assert_eq!(faults(keys.list_api_keys(negative).await), ["page_size"]);
        let negative = ListTenantsRequest { page_size: -1, ..ListTenantsRequest::default() };
        assert_eq!(faults(tenants.list_tenants(negative).await), ["page_size"]);
        assert_eq!(list(house, "default").await, []);
        // No refusal took the id.
        key(house, "default", wanted("make-1")).await;
    })
    .await;
}

fn faults<T: std::fmt::Debug>(outcome: Result<T, Status>) -> Vec<String> {
    let refused = outcome.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_FIELDS"), "{refused:?}");
    faulty(&refused)
}

fn tenant(tenant_id: &str, name: &str) -> CreateTenantRequest {
    CreateTenantRequest { request_id: String::new(), tenant_id: tenant_id.to_owned(), name: name.to_owned() }
}
