//! Lists, searches and counts of accounts, as an admin page sees them.

use std::collections::HashSet;

use sea_orm::ConnectionTrait as _;
use trivet_proto::account::v1::{
    Account, AccountStatus, ChangeAccountStatusRequest, DeleteAccountRequest, EnsureAccountRequest,
    EraseAccountRequest, GetAccountStatsRequest, GetAccountStatsResponse, ListAccountsRequest, ListAccountsResponse,
    SearchAccountsRequest, SubscriptionTier, UpdateAccountRequest,
};

use crate::harness::{House, on_every_store, person, reason};

fn named(user_id: &str, name: &str, email: &str) -> EnsureAccountRequest {
    EnsureAccountRequest { name: name.to_owned(), email: email.to_owned(), ..person(user_id) }
}

fn ids(accounts: &[Account]) -> Vec<&str> {
    accounts.iter().map(|account| account.user_id.as_str()).collect()
}

async fn list(house: &House, list: ListAccountsRequest) -> ListAccountsResponse {
    house.accounts().list_accounts(list).await.unwrap().into_inner()
}

async fn search(house: &House, query: &str, include_inactive: bool) -> Vec<String> {
    let search = SearchAccountsRequest { query: query.to_owned(), limit: 0, include_inactive };
    let found = house.accounts().search_accounts(search).await.unwrap().into_inner().summaries;
    found.into_iter().map(|summary| summary.user_id).collect()
}

async fn suspend(house: &House, user_id: &str) {
    let suspend = ChangeAccountStatusRequest {
        user_id: user_id.to_owned(),
        status: AccountStatus::Suspended.into(),
        reason: "late".to_owned(),
        etag: String::new(),
    };
    house.accounts().change_account_status(suspend).await.unwrap();
}

async fn delete(house: &House, user_id: &str) {
    let delete = DeleteAccountRequest { user_id: user_id.to_owned(), reason: String::new() };
    house.accounts().delete_account(delete).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_walked_to_its_end_without_missing_or_repeating_while_others_are_made() {
    on_every_store(async |house| {
        for number in 0..25 {
            house.accounts().ensure_account(person(&format!("user-{number:02}"))).await.unwrap();
        }
        let mut seen = Vec::new();
        let mut page_token = String::new();
        for late in 0.. {
            let page = list(house, ListAccountsRequest { page_size: 4, page_token, ..Default::default() }).await;
            seen.extend(page.accounts.iter().map(|account| account.user_id.clone()));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
            house.accounts().ensure_account(person(&format!("late-{late}"))).await.unwrap();
        }
        let expected: Vec<String> = (0..25).rev().map(|number| format!("user-{number:02}")).collect();
        assert_eq!(seen, expected, "newest first, each once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_narrow_a_list_together_and_without_a_status_it_holds_the_active() {
    on_every_store(async |house| {
        for (user_id, tier) in [("a", 1), ("b", 3), ("c", 3), ("d", 3)] {
            let person = EnsureAccountRequest { subscription_tier: tier, ..person(user_id) };
            house.accounts().ensure_account(person).await.unwrap();
        }
        suspend(house, "c").await;
        delete(house, "d").await;
        let default = ListAccountsRequest::default;
        assert_eq!(ids(&list(house, default()).await.accounts), ["b", "a"]);
        let premium = SubscriptionTier::Premium.into();
        let of_tier = ListAccountsRequest { subscription_tier: premium, ..default() };
        assert_eq!(ids(&list(house, of_tier).await.accounts), ["b"]);
        for (status, expected) in [(AccountStatus::Suspended, "c"), (AccountStatus::Deleted, "d")] {
            let of_both = ListAccountsRequest { status: status.into(), subscription_tier: premium, ..default() };
            assert_eq!(ids(&list(house, of_both).await.accounts), [expected]);
        }
        let of_all = ListAccountsRequest { query: "user B".to_owned(), subscription_tier: premium, ..default() };
        assert_eq!(ids(&list(house, of_all).await.accounts), ["b"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_total_is_exact_without_a_query_and_ends_at_ten_thousand_with_one() {
    on_every_store(async |house| {
        for user_id in ["a", "b", "c"] {
            house.accounts().ensure_account(person(user_id)).await.unwrap();
        }
        delete(house, "c").await;
        let ask = |query: &str| ListAccountsRequest {
            page_size: 1,
            with_total: true,
            query: query.to_owned(),
            ..ListAccountsRequest::default()
        };
        for (query, total) in [("", 2), ("user", 2), ("User A", 1), ("nobody", 0), ("er", 2)] {
            let page = list(house, ask(query)).await;
            assert_eq!((page.total_size, page.total_size_capped), (Some(total), false), "{query:?}");
        }
        assert_eq!(list(house, ListAccountsRequest::default()).await.total_size, None, "only where asked for");
        // Ten thousand, as the table has them; then one more.
        let store = mesh::Store::open(house.config.account.location("account", &house.config.data_dir).unwrap());
        let store = store.await.unwrap();
        let many = "insert into accounts (tenant_id, user_id, name, email, name_folded, email_key, email_folded, search_key, folded_version,
                        subscription_tier, status, status_reason, version, create_time, update_time)
            select 'default', 'many-' || n, 'Many', n || '@many', 'many', n || '@many', n || '@many', 'many', 1, 'FREE', 'ACTIVE', '', 1, n, n
              from (with recursive g(n) as (select 1 union all select n + 1 from g where n < 10000) select n from g) as numbers";
        store.reader().execute_unprepared(many).await.unwrap();
        let full = list(house, ask("many")).await;
        assert_eq!((full.total_size, full.total_size_capped), (Some(10_000), false));
        let one_more = named("one-more", "Many More", "one@more");
        house.accounts().ensure_account(one_more).await.unwrap();
        assert_eq!(list(house, ask("")).await.total_size, Some(10_003), "counted whoever wrote them");
        let capped = list(house, ask("many")).await;
        assert_eq!((capped.total_size, capped.total_size_capped), (Some(10_000), true));
        store.reader().execute_unprepared("delete from accounts where user_id like 'many-%'").await.unwrap();
        store.close().await.unwrap();
        assert_eq!(list(house, ask("")).await.total_size, Some(3));
        assert_eq!(list(house, ask("many")).await.total_size, Some(1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_means_its_own_characters_in_any_case_and_with_any_accents() {
    on_every_store(async |house| {
        for (user_id, name, email) in [
            ("jose", "José Álvarez", "jose@example.com"),
            ("sale", "100% Sale", "a_b@example.com"),
            ("quote", "O\"Neil \\ 'n", "axb@example.com"),
            ("lei", "李雷", "lei@example.com"),
            ("elena", "Ελένη", "elena@example.com"),
        ] {
            house.accounts().ensure_account(named(user_id, name, email)).await.unwrap();
        }
        for (query, expected) in [
            ("jose alvarez", &["jose"][..]),
            ("ÁLV", &["jose"]),
            ("LVA", &["jose"]),
            ("0% s", &["sale"]),
            ("%", &["sale"]),
            ("a_b", &["sale"]),
            ("_", &["sale"]),
            ("o\"neil \\", &["quote"]),
            ("'n", &["quote"]),
            ("雷", &["lei"]),
            ("李雷", &["lei"]),
            ("ΕΛΕΝΗ", &["elena"]),
            ("example", &["elena", "lei", "quote", "sale", "jose"]),
            ("nul", &[]),
            // The index is asked for what stands before the @, the rows for all of it.
            ("ose@EXAMPLE", &["jose"]),
            ("ose@exemple", &[]),
            ("e@ex", &["jose"]),
            // A query does not reach from the name into the address.
            ("雷 lei", &[]),
        ] {
            let page = list(house, ListAccountsRequest { query: query.to_owned(), ..Default::default() }).await;
            assert_eq!(ids(&page.accounts), expected, "{query:?} in a list");
            let mut found = search(house, query, false).await;
            found.sort();
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(found, expected, "{query:?} in a search");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_paged_as_the_whole_list_is() {
    on_every_store(async |house| {
        for number in 0..9 {
            let name = if number % 3 == 0 { "Grace Hopper" } else { "Somebody" };
            let user_id = format!("user-{number}");
            let email = format!("{user_id}@example.com");
            house.accounts().ensure_account(named(&user_id, name, &email)).await.unwrap();
        }
        for query in ["hopper", "pp"] {
            let ask = |page_token| ListAccountsRequest {
                page_size: 2,
                query: query.to_owned(),
                page_token,
                ..ListAccountsRequest::default()
            };
            let first = list(house, ask(String::new())).await;
            let second = list(house, ask(first.next_page_token.clone())).await;
            assert_eq!(ids(&first.accounts), ["user-6", "user-3"]);
            assert_eq!((ids(&second.accounts), second.next_page_token.as_str()), (vec!["user-0"], ""));
            let other = ListAccountsRequest { query: "some".to_owned(), ..ask(first.next_page_token) };
            assert_eq!(reason(&house.accounts().list_accounts(other).await.unwrap_err()), "INVALID_PAGE_TOKEN");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_the_exact_first_then_what_begins_so_then_what_holds_it() {
    on_every_store(async |house| {
        for (user_id, name, email) in [
            ("holds", "Nathan Adams", "nathan@example.com"),
            ("begins", "Adams Family", "family@example.com"),
            ("address", "Somebody", "adams@example.com"),
            ("exact", "ADAMS", "x@example.com"),
            ("accent", "Ádams", "y@example.com"),
        ] {
            house.accounts().ensure_account(named(user_id, name, email)).await.unwrap();
        }
        assert_eq!(search(house, "adams", false).await, ["accent", "exact", "begins", "address", "holds"]);
        assert_eq!(search(house, " Adams@Example.com ", false).await, ["address"]);
        assert_eq!(search(house, "am", false).await, ["accent", "exact", "address", "begins", "holds"], "newest first");
        let two = SearchAccountsRequest { query: "adams".to_owned(), limit: 2, include_inactive: false };
        assert_eq!(house.accounts().search_accounts(two).await.unwrap().into_inner().summaries.len(), 2);
        suspend(house, "exact").await;
        delete(house, "begins").await;
        assert_eq!(search(house, "adams", false).await, ["accent", "address", "holds"]);
        assert_eq!(search(house, "adams", true).await, ["accent", "exact", "begins", "address", "holds"]);
        assert_eq!(search(house, "dam", true).await, ["accent", "exact", "address", "begins", "holds"], "newest first");
        let erase = EraseAccountRequest { user_id: "begins".to_owned(), reason: String::new() };
        house.accounts().erase_account(erase).await.unwrap();
        assert_eq!(search(house, "adams", true).await, ["accent", "exact", "address", "holds"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_account_is_found_by_its_new_name_only() {
    on_every_store(async |house| {
        house.accounts().ensure_account(named("ada", "Ada Byron", "ada@example.com")).await.unwrap();
        let rename = UpdateAccountRequest {
            user_id: "ada".to_owned(),
            name: Some("Ada Lovelace".to_owned()),
            ..UpdateAccountRequest::default()
        };
        house.accounts().update_account(rename).await.unwrap();
        for (query, expected) in [("lovelace", &["ada"][..]), ("byron", &[]), ("ada@", &["ada"])] {
            assert_eq!(search(house, query, false).await, expected, "{query:?}");
        }
    })
    .await;
}

/// The counts by status, those by tier, and those of the last 7 and 30 days.
fn numbers(stats: &GetAccountStatsResponse) -> (Vec<i64>, Vec<i64>, i64, i64) {
    let by_status = stats.by_status.iter().map(|count| count.accounts).collect();
    let by_tier = stats.by_tier.iter().map(|count| count.accounts).collect();
    (by_status, by_tier, stats.registered_last_7_days, stats.registered_last_30_days)
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_count_every_status_and_tier_and_the_newly_registered() {
    on_every_store(async |house| {
        let stats = async || house.accounts().get_account_stats(GetAccountStatsRequest {}).await.unwrap().into_inner();
        assert_eq!(numbers(&stats().await), (vec![0; 4], vec![0; 4], 0, 0));
        for (user_id, tier) in [("a", 1), ("b", 2), ("c", 2), ("d", 4), ("e", 1)] {
            let person = EnsureAccountRequest { subscription_tier: tier, ..person(user_id) };
            house.accounts().ensure_account(person).await.unwrap();
        }
        suspend(house, "b").await;
        delete(house, "c").await;
        delete(house, "c").await;
        let erase = EraseAccountRequest { user_id: "e".to_owned(), reason: String::new() };
        house.accounts().erase_account(erase).await.unwrap();
        assert_eq!(numbers(&stats().await), (vec![2, 1, 1, 1], vec![1, 1, 0, 1], 5, 5));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_right_after_many_writers_at_once() {
    on_every_store(async |house| {
        let writers = (0..40).map(|number| async move {
            let user_id = format!("user-{number}");
            house.accounts().ensure_account(person(&user_id)).await.unwrap();
            if number % 2 == 0 {
                suspend(house, &user_id).await;
            }
            if number % 4 == 0 {
                delete(house, &user_id).await;
            }
        });
        futures_util::future::join_all(writers).await;
        let stats = house.accounts().get_account_stats(GetAccountStatsRequest {}).await.unwrap().into_inner();
        assert_eq!(numbers(&stats).0, [20, 10, 10, 0]);
        let active =
            list(house, ListAccountsRequest { with_total: true, page_size: 1_000, ..Default::default() }).await;
        let distinct: HashSet<&str> = ids(&active.accounts).into_iter().collect();
        assert_eq!((active.total_size, distinct.len()), (Some(20), 20));
    })
    .await;
}
