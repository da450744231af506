//! Sums of usage are the sums of its rows, always.

use std::time::Duration;

use mesh::Time;
use trivet_proto::product::v1::{
    CreateProductRequest, GetUsageStatisticsRequest, Price, PriceModel, RecordUsageRequest, SetPriceRequest,
    UsageGrouping, UsageStatistics, VoidUsageRequest,
};

use super::{hour, on_sale, record, recorded};
use crate::{
    harness::{House, faulty, on_every_store_with_a_held_clock, reason},
    tenants::of,
};

fn ask((start, end): (Time, Time), group_by: UsageGrouping) -> GetUsageStatisticsRequest {
    GetUsageStatisticsRequest {
        start_time: Some(start.to_wire()),
        end_time: Some(end.to_wire()),
        group_by: group_by.into(),
        ..GetUsageStatisticsRequest::default()
    }
}

/// All rows, page by page.
async fn rows(house: &House, mut ask: GetUsageStatisticsRequest) -> Vec<UsageStatistics> {
    let mut rows = Vec::new();
    ask.page_size = 2;
    loop {
        let page = house.usage().get_usage_statistics(ask.clone()).await.unwrap().into_inner();
        rows.extend(page.rows);
        ask.page_token = page.next_page_token;
        if ask.page_token.is_empty() {
            return rows;
        }
    }
}

fn short(rows: &[UsageStatistics]) -> Vec<String> {
    let row = |row: &UsageStatistics| {
        format!("{}{} {} {} {} {}", row.product_id, row.user_id, row.currency, row.records, row.quantity, row.amount)
    };
    rows.iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_are_exact_in_every_grouping_with_late_records_and_voids_among_them() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let late = clock.now().minus(Duration::from_hours(30));
        recorded(house, record("r1", "ada", "1010")).await;
        let gone = recorded(house, record("r2", "ada", "1000")).await;
        recorded(house, record("r3", "bob", "20.00000001")).await;
        recorded(house, RecordUsageRequest { event_time: Some(late.to_wire()), ..record("r4", "cyd", "5") }).await;
        let void = VoidUsageRequest { usage_id: gone.usage_id, reason: "twice".to_owned() };
        house.usage().void_usage(void).await.unwrap();
        let span = (hour(clock, -48), hour(clock, 1));
        let by_product = rows(house, ask(span, UsageGrouping::Product)).await;
        assert_eq!(by_product.len(), 1);
        assert_eq!(short(&by_product), ["tokens USD 3 1035.00000001 3.03"]);
        let by_user = short(&rows(house, ask(span, UsageGrouping::User)).await);
        assert_eq!(by_user[0], "ada USD 1 1010 3");
        assert_eq!(by_user[1..], ["bob USD 1 20.00000001 0.03", "cyd USD 1 5 0"]);
        let hours = rows(house, ask(span, UsageGrouping::Hour)).await;
        let expected = [hour(clock, -30).to_wire(), hour(clock, 0).to_wire()].map(Some);
        assert_eq!(hours.iter().map(|row| row.start_time).collect::<Vec<_>>(), expected);
        let days = rows(house, ask(span, UsageGrouping::Day)).await;
        assert!(days.len() == 2 && days.iter().all(|row| row.start_time.unwrap().seconds % 86_400 == 0), "{days:?}");
        let adas = GetUsageStatisticsRequest { user_id: "ada".to_owned(), ..ask(span, UsageGrouping::Hour) };
        assert_eq!(short(&rows(house, adas).await), [" USD 1 1010 3"]);
        let late_ones = ask((hour(clock, -48), hour(clock, 0)), UsageGrouping::Product);
        assert_eq!(short(&rows(house, late_ones).await), ["tokens USD 1 5 0"]);
        let other = house.usage().get_usage_statistics(of("other", ask(span, UsageGrouping::User))).await.unwrap();
        assert!(other.into_inner().rows.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_users_are_whole_whoever_used_nothing_and_whoever_pays_in_two_currencies() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let letters = CreateProductRequest {
            product_id: "letters".to_owned(),
            name: "Letters".to_owned(),
            ..CreateProductRequest::default()
        };
        house.catalog().create_product(letters).await.unwrap();
        let price = Price {
            currency: "EUR".to_owned(),
            unit: "letter".to_owned(),
            model: PriceModel::PerUnit.into(),
            unit_price: "1".to_owned(),
            ..Price::default()
        };
        let set =
            SetPriceRequest { product_id: "letters".to_owned(), price: Some(price), ..SetPriceRequest::default() };
        house.catalog().set_price(set).await.unwrap();
        let late = Some(clock.now().minus(Duration::from_hours(30)).to_wire());
        for number in 0..9 {
            let user_id = format!("u{number}");
            let usage = recorded(house, record(&user_id, &user_id, "1010")).await;
            match number {
                // Three in a row of whom nothing is left: more than a page.
                2..=4 => {
                    let void = VoidUsageRequest { usage_id: usage.usage_id, reason: "twice".to_owned() };
                    house.usage().void_usage(void).await.unwrap();
                }
                6 => {
                    let of_letters =
                        RecordUsageRequest { product_id: "letters".to_owned(), ..record("letters", &user_id, "2") };
                    recorded(house, of_letters).await;
                }
                _ => {}
            }
        }
        let earlier = RecordUsageRequest { event_time: late, ..record("late", "u55", "1") };
        recorded(house, earlier).await;
        let span = (hour(clock, -1), hour(clock, 1));
        let listed = short(&rows(house, ask(span, UsageGrouping::User)).await);
        let usd = |number: u32| format!("u{number} USD 1 1010 3");
        let mut expected: Vec<_> = [0, 1, 5, 6, 7, 8].map(usd).to_vec();
        expected.insert(3, "u6 EUR 1 2 2".to_owned());
        assert_eq!(listed, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_summed_up_says_why() {
    on_every_store_with_a_held_clock(async |house, clock| {
        let odd = clock.now().plus(Duration::from_micros(1));
        let wrong = GetUsageStatisticsRequest {
            page_size: -1,
            user_id: "a b".to_owned(),
            start_time: Some(odd.to_wire()),
            group_by: 9,
            ..GetUsageStatisticsRequest::default()
        };
        let refused = house.usage().get_usage_statistics(wrong).await.unwrap_err();
        assert_eq!(faulty(&refused), ["page_size", "user_id", "start_time", "end_time", "group_by"]);
        let backwards = ask((hour(clock, 1), hour(clock, 0)), UsageGrouping::Day);
        assert_eq!(faulty(&house.usage().get_usage_statistics(backwards).await.unwrap_err()), ["end_time"]);
        on_sale(house).await;
        for user in ["ada", "bob"] {
            recorded(house, record(user, user, "1")).await;
        }
        let span = (hour(clock, -1), hour(clock, 1));
        let first = GetUsageStatisticsRequest { page_size: 1, ..ask(span, UsageGrouping::User) };
        let token = house.usage().get_usage_statistics(first).await.unwrap().into_inner().next_page_token;
        let elsewhere = GetUsageStatisticsRequest { page_token: token, ..ask(span, UsageGrouping::Product) };
        assert_eq!(reason(&house.usage().get_usage_statistics(elsewhere).await.unwrap_err()), "INVALID_PAGE_TOKEN");
    })
    .await;
}
