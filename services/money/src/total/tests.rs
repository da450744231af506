//! Totals, beside the amounts that they are sums of.

use super::*;
use crate::Amount;

#[test]
fn a_total_is_written_like_an_amount_and_holds_more() {
    for minor in [0, 1, -1, 5_000_000, i64::MAX, i64::MIN] {
        let amount = Amount::from_minor(Currency::USDC, minor);
        assert_eq!(Total::from_minor(Currency::USDC, minor.into()).to_wire(), amount.to_wire());
    }
    let most = Total::from_minor(Currency::USDC, i64::MAX.into());
    assert_eq!(most.plus(most).unwrap().to_wire(), "1844674407370.9551614");
    assert_eq!(most.plus(Total::from_minor(Currency::XLM, 1)), None);
    assert!(most.plus(Total::from_minor(Currency::USDC, (-i64::MAX).into())).unwrap().is_zero());
}
