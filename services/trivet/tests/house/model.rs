//! A model of wallets so small that one can see that it is right, and calls by chance: whatever is called in whatever order,
//! the house must say what the model says.

use std::collections::{BTreeMap, HashMap};

use mesh::Reason;
use tonic::{Request, Status};
use trivet_proto::{
    account::v1::account_service_client::AccountServiceClient,
    billing::v1::{
        CaptureHoldRequest, DeductRequest, FreezeWalletRequest, GetWalletRequest, PlaceHoldRequest, RefundRequest,
        ReleaseHoldRequest, UnfreezeWalletRequest, VoidRequestRequest,
    },
};

use crate::{
    harness::{House, order, payment, person},
    tenants::of,
};

const STEPS: usize = 40;
/// Few request ids, so that they are used again, and enough for most calls to have one of their own.
const IDS: u64 = 30;
const USERS: [&str; 2] = ["ada", "bob"];

/// A call, with numbers for everything that can be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Pay { user: usize, amount: i64 },
    Deduct { user: usize, amount: i64 },
    Refund { of: usize, amount: i64 },
    Hold { user: usize, amount: i64 },
    Capture { hold: usize, amount: i64 },
    Release { hold: usize },
    Void,
    Freeze { user: usize, frozen: bool },
}

/// A wallet of whole USDC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wallet {
    balance: i64,
    held: i64,
    version: i64,
    frozen: bool,
}

/// What is known of a request id.
#[derive(Clone, Debug)]
enum Known {
    Answered(Call, String),
    Voided,
}

#[derive(Default)]
struct Model {
    wallets: BTreeMap<usize, Wallet>,
    known: HashMap<usize, Known>,
    /// What was taken under each id: from whom, how much, and how much of it was given back.
    taken: HashMap<usize, (usize, i64, i64)>,
    /// Whose, how much, and whether it is open; in the order of placing.
    holds: Vec<(usize, i64, bool)>,
}

impl Model {
    /// What is answered to a call under this id.
    fn call(&mut self, id: usize, call: &Call) -> String {
        match call {
            Call::Freeze { user, frozen } => return self.freeze(*user, *frozen),
            Call::Void => return self.void(id),
            _ => {}
        }
        match self.known.get(&id) {
            Some(Known::Voided) => return "REQUEST_VOIDED".to_owned(),
            Some(Known::Answered(before, answer)) if before == call => return answer.clone(),
            Some(Known::Answered(..)) => return "REQUEST_ID_REUSED".to_owned(),
            None => {}
        }
        let answer = self.decide(id, call).unwrap_or_else(str::to_owned);
        self.known.insert(id, Known::Answered(call.clone(), answer.clone()));
        answer
    }

    fn decide(&mut self, id: usize, call: &Call) -> Result<String, &'static str> {
        match *call {
            Call::Pay { user, amount } => {
                self.wallets.entry(user).or_default();
                self.moves(user, amount, 0)
            }
            Call::Deduct { user, amount } => {
                self.gives(user, amount)?;
                self.taken.insert(id, (user, amount, 0));
                self.moves(user, -amount, 0)
            }
            Call::Refund { of, amount } => {
                let (user, taken, refunded) = *self.taken.get(&of).ok_or("DEDUCTION_NOT_FOUND")?;
                if amount > taken - refunded {
                    return Err("REFUND_EXCEEDS_DEDUCTION");
                }
                self.taken.insert(of, (user, taken, refunded + amount));
                self.moves(user, amount, 0)
            }
            Call::Hold { user, amount } => {
                self.gives(user, amount)?;
                self.holds.push((user, amount, true));
                self.moves(user, 0, amount)
            }
            Call::Capture { hold, amount } => {
                let (user, held, open) = *self.holds.get(hold).ok_or("HOLD_NOT_FOUND")?;
                if !open {
                    return Err("HOLD_NOT_OPEN");
                }
                if self.wallets[&user].frozen {
                    return Err("WALLET_FROZEN");
                }
                if amount > held {
                    return Err("CAPTURE_EXCEEDS_HOLD");
                }
                self.holds[hold].2 = false;
                self.taken.insert(id, (user, amount, 0));
                self.moves(user, -amount, -held)
            }
            Call::Release { hold } => {
                let (user, held, open) = *self.holds.get(hold).ok_or("HOLD_NOT_FOUND")?;
                if !open {
                    return Err("HOLD_NOT_OPEN");
                }
                self.holds[hold].2 = false;
                self.moves(user, 0, -held)
            }
            Call::Void | Call::Freeze { .. } => Err("not an order"),
        }
    }

    fn gives(&self, user: usize, amount: i64) -> Result<(), &'static str> {
        let wallet = self.wallets.get(&user).ok_or("WALLET_NOT_FOUND")?;
        if wallet.frozen {
            return Err("WALLET_FROZEN");
        }
        if wallet.balance - wallet.held < amount { Err("INSUFFICIENT_FUNDS") } else { Ok(()) }
    }

    fn moves(&mut self, user: usize, balance: i64, held: i64) -> Result<String, &'static str> {
        let wallet = self.wallets.get_mut(&user).ok_or("WALLET_NOT_FOUND")?;
        wallet.balance += balance;
        wallet.held += held;
        wallet.version += 1;
        Ok(format!("{} at {}", wallet.balance, wallet.version))
    }

    fn freeze(&mut self, user: usize, frozen: bool) -> String {
        let Some(wallet) = self.wallets.get_mut(&user) else { return "WALLET_NOT_FOUND".to_owned() };
        wallet.frozen = frozen;
        "done".to_owned()
    }

    fn void(&mut self, id: usize) -> String {
        let applied = matches!(self.known.get(&id), Some(Known::Answered(_, answer)) if answer.contains(" at "));
        if applied {
            return "ALREADY_APPLIED".to_owned();
        }
        self.known.insert(id, Known::Voided);
        "done".to_owned()
    }
}

/// Numbers that look like chance and are the same each time (SplitMix64, by Sebastiano Vigna).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end).unwrap()
    }

    /// A call, mostly about something that there is.
    fn call(&mut self, model: &Model) -> Call {
        let (user, other) = (self.below(2), self.below(IDS));
        let mut taken: Vec<usize> = model.taken.keys().copied().collect();
        taken.sort_unstable();
        let taken = taken.get(other % taken.len().max(1)).copied().filter(|_| self.below(5) > 0).unwrap_or(other);
        let amount = i64::try_from(self.below(6)).unwrap() + 1;
        match self.below(20) {
            0..=3 => Call::Pay { user, amount },
            4..=9 => Call::Deduct { user, amount },
            10..=11 => Call::Refund { of: taken, amount },
            12..=13 => Call::Hold { user, amount },
            14..=15 => Call::Capture { hold: other % 4, amount },
            16 => Call::Release { hold: other % 4 },
            17 => Call::Void,
            _ => Call::Freeze { user, frozen: amount > 4 },
        }
    }
}

/// One case in a tenant of its own, and the ids of its holds in the order of placing.
struct Case<'h> {
    house: &'h House,
    tenant: String,
    holds: Vec<String>,
}

impl Case<'_> {
    fn of<M>(&self, message: M) -> Request<M> {
        of(&self.tenant, message)
    }

    /// Makes a call, and says shortly what was answered.
    async fn call(&mut self, id: usize, call: &Call) -> String {
        let (request_id, reason_given) = (format!("req-{id}"), String::new());
        let user = |user: usize| USERS[user].to_owned();
        let posted = |balance: &str, version: i64| format!("{balance} at {version}");
        let mut billing = self.house.billing();
        let mut wallets = self.house.wallets();
        let answer: Result<String, Status> = match call {
            Call::Pay { user, amount } => {
                let pay = self.of(payment(&request_id, USERS[*user], &amount.to_string()));
                wallets.record_payment(pay).await.map(|answer| {
                    let payment = answer.into_inner().payment.unwrap();
                    posted(&payment.balance_after, payment.wallet_version)
                })
            }
            Call::Deduct { user, amount } => {
                let deduct: DeductRequest = order(&request_id, USERS[*user], &amount.to_string());
                billing.deduct(self.of(deduct)).await.map(|answer| {
                    let deduction = answer.into_inner().deduction.unwrap();
                    posted(&deduction.balance_after, deduction.wallet_version)
                })
            }
            Call::Refund { of, amount } => {
                let (deduction_request_id, amount) = (format!("req-{of}"), amount.to_string());
                let refund = RefundRequest { request_id, deduction_request_id, amount, ..RefundRequest::default() };
                billing.refund(self.of(refund)).await.map(|answer| {
                    let refund = answer.into_inner().refund.unwrap();
                    posted(&refund.balance_after, refund.wallet_version)
                })
            }
            Call::Hold { user: whose, amount } => {
                let (user_id, amount) = (user(*whose), amount.to_string());
                let place = PlaceHoldRequest { request_id, user_id, amount, ..PlaceHoldRequest::default() };
                let answer = billing.place_hold(self.of(place)).await.map(tonic::Response::into_inner);
                answer.map(|answer| {
                    if !answer.already_processed {
                        self.holds.push(answer.hold.unwrap().hold_id);
                    }
                    posted(&answer.balance_after, answer.wallet_version)
                })
            }
            Call::Capture { hold, amount } => {
                let (hold_id, amount) = (self.hold(*hold), amount.to_string());
                let capture = CaptureHoldRequest { request_id, hold_id, amount, validate_only: false };
                let answer = billing.capture_hold(self.of(capture)).await.map(tonic::Response::into_inner);
                answer.map(|answer| posted(&answer.balance_after, answer.wallet_version))
            }
            Call::Release { hold } => {
                let release = ReleaseHoldRequest { request_id, hold_id: self.hold(*hold), validate_only: false };
                let answer = billing.release_hold(self.of(release)).await.map(tonic::Response::into_inner);
                answer.map(|answer| posted(&answer.balance_after, answer.wallet_version))
            }
            Call::Void => {
                let void = VoidRequestRequest { request_id, reason: reason_given };
                billing.void_request(self.of(void)).await.map(|_| "done".to_owned())
            }
            Call::Freeze { user: whose, frozen } => {
                let (user_id, currency) = (user(*whose), String::new());
                if *frozen {
                    let freeze = FreezeWalletRequest { user_id, currency };
                    wallets.freeze_wallet(self.of(freeze)).await.map(|_| "done".to_owned())
                } else {
                    let unfreeze = UnfreezeWalletRequest { user_id, currency };
                    wallets.unfreeze_wallet(self.of(unfreeze)).await.map(|_| "done".to_owned())
                }
            }
        };
        answer.unwrap_or_else(|status| Reason::of(&status).map_or("no reason", Reason::name).to_owned())
    }

    /// The id of a hold by its number; of one that is not there one that is no hold's.
    fn hold(&self, number: usize) -> String {
        self.holds.get(number).cloned().unwrap_or_else(|| format!("hold_{number}"))
    }

    async fn wallet(&self, user: usize) -> Option<Wallet> {
        let ask = self.of(GetWalletRequest { user_id: USERS[user].to_owned(), currency: String::new() });
        let wallet = self.house.wallets().get_wallet(ask).await.ok()?.into_inner().wallet.unwrap();
        let (balance, held) = (wallet.balance.parse().unwrap(), wallet.held.parse().unwrap());
        let frozen = wallet.state() == trivet_proto::billing::v1::WalletState::Frozen;
        Some(Wallet { balance, held, version: wallet.sequence, frozen })
    }
}

/// Plays one case, in its own tenant; says where house and model part.
pub(crate) async fn play(house: &House, number: u64) -> Result<(), String> {
    let tenant = format!("case-{number}");
    for user in USERS {
        AccountServiceClient::ensure_account(&mut house.accounts(), of(&tenant, person(user))).await.unwrap();
    }
    let mut case = Case { house, tenant, holds: Vec::new() };
    let (mut model, mut chance) = (Model::default(), Chance(number));
    let mut steps = Vec::new();
    for _ in 0..STEPS {
        // Sometimes the very same call again.
        let (id, call) = match (steps.last(), chance.below(6)) {
            (Some((id, call)), 0) => (*id, Call::clone(call)),
            _ => (chance.below(IDS), chance.call(&model)),
        };
        let expected = model.call(id, &call);
        steps.push((id, call.clone()));
        let answered = case.call(id, &call).await;
        if answered != expected {
            return Err(format!("{answered:?} rather than {expected:?} in case {number} after {steps:?}"));
        }
    }
    for user in 0..USERS.len() {
        let (is, expected) = (case.wallet(user).await, model.wallets.get(&user).copied());
        if is != expected {
            return Err(format!("{is:?} rather than {expected:?} in the end of case {number}: {steps:?}"));
        }
    }
    Ok(())
}
