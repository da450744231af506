//! How events are cut into transactions.

use super::*;

#[test]
fn an_event_that_must_be_alone_has_a_transaction_to_itself_and_all_keep_their_order() {
    let cut = |events: &[usize]| -> Vec<Vec<usize>> {
        batches(events, |event| *event >= 1_000).map(<[usize]>::to_vec).collect()
    };
    assert_eq!(cut(&[1, 2, 1_000, 1_001, 3]), [vec![1, 2], vec![1_000], vec![1_001], vec![3]]);
    let many: Vec<usize> = (0..=BATCH).collect();
    assert_eq!(cut(&many), [(0..BATCH).collect(), vec![BATCH]]);
}
