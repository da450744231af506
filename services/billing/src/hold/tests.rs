//! The rules of holds, case by case, each on the wallet as the one before it left it.

use money::Currency;

use super::*;

const NOW: i64 = 1_000;

fn usdc(minor: i64) -> Amount {
    Amount::from_minor(Currency::USDC, minor)
}

/// A wallet with 100 in it, and what is done to it.
struct Case {
    sitting: Sitting,
    key: WalletKey,
    hold: Option<Hold>,
}

impl Case {
    fn new() -> Self {
        let (sitting, key) = Sitting::over(usdc(100), Time::from_micros(NOW), Vec::new());
        Self { sitting, key, hold: None }
    }

    fn check(&mut self, order: &str, expected: &str) {
        let (verb, amount) = order.split_once(' ').unwrap_or((order, ""));
        let amount = amount.parse().ok().map(usdc);
        let request_id = RequestId::parse("req_1").unwrap();
        let hold_id = Slug::parse("hold_1").unwrap();
        let tenant = self.key.tenant.clone();
        let done = match verb {
            "place" => Placing {
                request_id,
                hold_id,
                user_id: self.key.user_id.clone(),
                amount: amount.unwrap(),
                expire_time: Time::from_micros(NOW),
                expire_time_given: false,
            }
            .carry_out(&tenant, &mut self.sitting),
            "capture" => Capture { request_id, hold_id, amount, asked: String::new(), hold: self.hold.clone() }
                .carry_out(&tenant, &mut self.sitting),
            "release" => Release { request_id, hold_id, hold: self.hold.clone() }.carry_out(&tenant, &mut self.sitting),
            _ => {
                expire(&mut self.sitting, &self.key, &hold_id).unwrap();
                self.see(expected);
                return;
            }
        };
        match done.unwrap() {
            Ok(posted) => {
                let hold = *posted.hold.unwrap();
                // What the database would show the next batch.
                self.sitting.end_hold(&tenant, hold.clone());
                self.hold = Some(hold);
                self.see(expected);
            }
            Err(refused) => assert_eq!(refused.to_string(), expected, "{order}"),
        }
    }

    fn see(&self, expected: &str) {
        let wallet = self.sitting.wallet(&self.key).unwrap();
        let state = self.sitting.hold(&self.key.tenant, &Slug::parse("hold_1").unwrap()).unwrap().state;
        let (available, version) = (wallet.available().minor(), wallet.version);
        assert_eq!(format!("{state}: {available} of {} at {version}", wallet.balance.minor()), expected);
    }
}

#[test]
fn what_is_held_is_not_available_and_a_part_capture_frees_the_rest() {
    let mut case = Case::new();
    case.check("place 101", "the 0.00001 available of a balance of 0.00001 does not cover 0.0000101");
    case.check("place 60", "OPEN: 40 of 100 at 1");
    case.check("place 41", "the 0.000004 available of a balance of 0.00001 does not cover 0.0000041");
    case.check("capture 61", "0.0000061 is more than the 0.000006 that are held");
    case.check("capture 20", "CAPTURED: 80 of 80 at 2");
    case.check("capture", "hold hold_1 is CAPTURED");
    case.check("release", "hold hold_1 is CAPTURED");
    case.check("expire", "CAPTURED: 80 of 80 at 2");
}

#[test]
fn what_is_released_or_expires_is_available_again_once() {
    let mut case = Case::new();
    case.check("place 60", "OPEN: 40 of 100 at 1");
    case.check("release", "RELEASED: 100 of 100 at 2");
    case.check("release", "hold hold_1 is RELEASED");
    let mut case = Case::new();
    case.check("place 60", "OPEN: 40 of 100 at 1");
    case.check("expire", "EXPIRED: 100 of 100 at 2");
    case.check("expire", "EXPIRED: 100 of 100 at 2");
    case.check("capture", "hold hold_1 is EXPIRED");
}

#[test]
fn a_hold_that_is_not_there_ends_in_nothing() {
    Case::new().check("capture 5", "there is no hold hold_1");
    Case::new().check("release", "there is no hold hold_1");
}
