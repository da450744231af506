//! Calls by chance, beside a model.

use crate::{harness::on_every_store, model};

const CASES: u64 = 256;
/// Cases that are under way at once.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_called_in_whatever_order_the_house_says_what_the_model_says() {
    on_every_store(async |house| {
        for first in (0..CASES).step_by(AT_ONCE) {
            let cases = first..(first + AT_ONCE as u64).min(CASES);
            for played in futures_util::future::join_all(cases.map(|number| model::play(house, number))).await {
                played.unwrap();
            }
        }
    })
    .await;
}
