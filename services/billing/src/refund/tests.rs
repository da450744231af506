//! The rule of refunds, case by case.

use mesh::Time;
use money::Currency;

use super::*;

fn usdc(minor: i64) -> Amount {
    Amount::from_minor(Currency::USDC, minor)
}

/// Of 100 that were taken so much was given back, and so much is asked for.
fn check(refunded: i64, asked: Option<i64>, balance: i64, expected: &str) {
    let empty = Wallet::empty(UserId::parse("ada").unwrap(), Currency::USDC, Time::from_micros(0));
    let wallet = Wallet { balance: usdc(balance), ..empty };
    let outcome = match decide(usdc(100), usdc(refunded), asked.map(usdc), &wallet) {
        Ok((amount, so_far)) => format!("{} given back, {} in all", amount.minor(), so_far.minor()),
        Err(Refused::RefundExceedsDeduction { refunded, amount, .. }) => {
            format!("{} is too much after {}", amount.minor(), refunded.minor())
        }
        Err(refused) => refused.to_string(),
    };
    assert_eq!(outcome, expected);
}

#[test]
fn no_more_is_given_back_than_was_taken() {
    check(0, Some(40), 0, "40 given back, 40 in all");
    check(40, Some(60), 0, "60 given back, 100 in all");
    check(40, Some(61), 0, "61 is too much after 40");
    check(40, None, 0, "60 given back, 100 in all");
    check(100, None, 0, "0 is too much after 100");
    check(100, Some(1), 0, "1 is too much after 100");
}

#[test]
fn a_balance_never_leaves_64_bits() {
    check(0, Some(1), i64::MAX - 1, "1 given back, 1 in all");
    check(
        0,
        Some(2),
        i64::MAX - 1,
        "with 0.0000002 more than the 922337203685.4775806 that is there, the balance would leave 64 bits",
    );
}
