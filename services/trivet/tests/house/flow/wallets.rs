//! What becomes of the money of somebody who is gone.

use std::time::Duration;

use trivet::RoleName;
use trivet_proto::billing::v1::{GetWalletRequest, RecordPaymentRequest, Wallet, WalletState};

use super::{TOLD_AGAIN, all_told, delete, of, restore, run};
use crate::harness::{House, eventually, on_every_store_with_a_held_clock, order, payment, person, reason};

async fn wallet(house: &House, tenant: &str, user_id: &str, currency: &str) -> Wallet {
    let ask = GetWalletRequest { user_id: user_id.to_owned(), currency: currency.to_owned() };
    house.wallets().get_wallet(of(tenant, ask)).await.unwrap().into_inner().wallet.unwrap()
}

async fn frozen(house: &House, user_id: &str) {
    let is_frozen = async || wallet(house, "default", user_id, "USDC").await.state() == WalletState::Frozen;
    eventually("freezing", is_frozen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_account_has_all_its_wallets_frozen_and_nobody_elses() {
    on_every_store_with_a_held_clock(async |house, clock| {
        house.user("ada", "5").await;
        house.user("bob", "5").await;
        let euros = RecordPaymentRequest { currency: "EUR".to_owned(), ..payment("fund-euros", "ada", "3") };
        house.wallets().record_payment(euros).await.unwrap();
        house.accounts().ensure_account(of("other", person("ada"))).await.unwrap();
        house.wallets().record_payment(of("other", payment("fund-ada", "ada", "5"))).await.unwrap();
        let before = wallet(house, "default", "ada", "USDC").await;
        clock.advance(Duration::from_secs(5));
        delete(house, "ada").await;
        frozen(house, "ada").await;
        let now = Some(clock.now().to_wire());
        let expected = Wallet { state: WalletState::Frozen.into(), update_time: now, ..before };
        assert_eq!(wallet(house, "default", "ada", "USDC").await, expected);
        assert_eq!(wallet(house, "default", "ada", "EUR").await.state(), WalletState::Frozen);
        let refused = house.billing().deduct(order("deduct-1", "ada", "1")).await.unwrap_err();
        assert_eq!(reason(&refused), "WALLET_FROZEN");
        house.billing().deduct(order("deduct-2", "bob", "1")).await.unwrap();
        house.billing().deduct(of("other", order("deduct-1", "ada", "1"))).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_wallet_takes_payments_once_its_user_is_back_and_gives_nothing_still() {
    on_every_store_with_a_held_clock(async |house, _| {
        house.user("ada", "5").await;
        delete(house, "ada").await;
        frozen(house, "ada").await;
        let refused = house.wallets().record_payment(payment("pay-1", "ada", "1")).await.unwrap_err();
        assert_eq!(reason(&refused), "ACCOUNT_DELETED");
        restore(house, "ada").await;
        all_told(house).await;
        house.wallets().record_payment(payment("pay-2", "ada", "1")).await.unwrap();
        let after = wallet(house, "default", "ada", "USDC").await;
        assert_eq!((after.balance.as_str(), after.sequence, after.state()), ("6", 2, WalletState::Frozen));
        assert_eq!(reason(&house.billing().deduct(order("deduct-1", "ada", "1")).await.unwrap_err()), "WALLET_FROZEN");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_is_told_again_changes_a_frozen_wallet_no_more() {
    on_every_store_with_a_held_clock(async |house, clock| {
        house.user("ada", "5").await;
        delete(house, "ada").await;
        frozen(house, "ada").await;
        let before = wallet(house, "default", "ada", "USDC").await;
        clock.advance(Duration::from_secs(5));
        run(house, RoleName::Account, TOLD_AGAIN).await;
        all_told(house).await;
        assert_eq!(wallet(house, "default", "ada", "USDC").await, before);
        // Erased after it was deleted: another event, which finds nothing left to freeze.
        let erase = trivet_proto::account::v1::EraseAccountRequest { user_id: "ada".to_owned(), reason: String::new() };
        house.accounts().erase_account(erase).await.unwrap();
        all_told(house).await;
        assert_eq!(wallet(house, "default", "ada", "USDC").await, before);
    })
    .await;
}
