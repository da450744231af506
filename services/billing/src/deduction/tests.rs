//! The rule of deductions, case by case. What a used id answers is tested over a real store, through gRPC.

use mesh::Time;
use money::Currency;

use super::*;
use crate::ledger::WalletState;

fn deduct(amount: &str) -> Deduct {
    Deduct {
        request_id: RequestId::parse("req_1").unwrap(),
        user_id: UserId::parse("ada").unwrap(),
        amount: Amount::parse_positive(Currency::USDC, amount).unwrap(),
        api_id: None,
        endpoint_id: None,
        api_key_id: None,
    }
}

fn wallet(balance: &str, held: &str, state: WalletState) -> Wallet {
    let amount = |text| Amount::parse(Currency::USDC, text).unwrap();
    let empty = Wallet::empty(UserId::parse("ada").unwrap(), Currency::USDC, Time::from_micros(0));
    Wallet { balance: amount(balance), held: amount(held), state, ..empty }
}

fn check(amount: &str, wallet: Option<&Wallet>, expected: &str) {
    let outcome = match decide(&deduct(amount), wallet) {
        Ok(()) => "taken".to_owned(),
        Err(refused) => refused.to_string(),
    };
    assert_eq!(outcome, expected);
}

#[test]
fn money_is_taken_where_what_is_available_covers_it() {
    check("0.6", Some(&wallet("1", "0", WalletState::Active)), "taken");
    check("1", Some(&wallet("1", "0", WalletState::Active)), "taken");
    check(
        "1.0000001",
        Some(&wallet("1", "0", WalletState::Active)),
        "the 1 available of a balance of 1 does not cover 1.0000001",
    );
}

#[test]
fn held_money_is_not_available() {
    check("0.4", Some(&wallet("1", "0.6", WalletState::Active)), "taken");
    check(
        "0.5",
        Some(&wallet("1", "0.6", WalletState::Active)),
        "the 0.4 available of a balance of 1 does not cover 0.5",
    );
}

#[test]
fn what_stands_in_the_way_first_is_said() {
    check("5", None, "ada has no wallet in USDC");
    check("5", Some(&wallet("1", "0", WalletState::Frozen)), "the wallet of ada is frozen");
    let broken = Wallet { fault: "broken".to_owned(), ..wallet("1", "0", WalletState::Frozen) };
    check(
        "5",
        Some(&broken),
        "the ledger of the wallet of ada does not add up, and gives nothing until a person has looked",
    );
}
