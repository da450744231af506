//! The rule of payments, case by case.

use super::*;

fn check(balance: i64, amount: i64, standing: Standing, expected: &str) {
    let usdc = |minor| Amount::from_minor(Currency::USDC, minor);
    let payment = Payment {
        request_id: RequestId::parse("pay_1").unwrap(),
        user_id: UserId::parse("ada").unwrap(),
        amount: usdc(amount),
        provider: "bank".to_owned(),
        provider_reference: String::new(),
        subscription_id: None,
        standing,
    };
    let outcome = decide(&payment, usdc(balance)).map_or_else(|refused| refused.to_string(), |()| "taken".to_owned());
    assert_eq!(outcome, expected);
}

#[test]
fn a_payment_needs_an_active_account() {
    check(0, 1, Standing::Active, "taken");
    check(0, 1, Standing::Missing, "there is no account ada");
    check(0, 1, Standing::Suspended, "account ada is suspended");
    check(0, 1, Standing::Deleted, "account ada was deleted");
    check(0, 1, Standing::Erased, "account ada was erased");
}

#[test]
fn a_balance_never_leaves_64_bits() {
    check(i64::MAX - 1, 1, Standing::Active, "taken");
    check(
        i64::MAX,
        1,
        Standing::Active,
        "with 0.0000001 more than the 922337203685.4775807 that is there, the balance would leave 64 bits",
    );
}
