//! One verification, piece by piece: who listens slowly holds up nobody, and costs a page of memory.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use mesh::{StoreError, Tenant, Time, UserId, chain, claim::Decision};
use money::Currency;
use tokio::{sync::OwnedSemaphorePermit, task::JoinHandle};
use tracing::{error, info};

use super::{
    Audits, Finding, Kind, Progress, Said, Verdict,
    answers::Answers,
    table::{self, ChangeRow, Place, WalletRow, Whose},
};
use crate::{
    book::{Posted, Refused},
    ledger::{WalletKey, chain as hashes},
};

/// Wallets whose ends are read at once, and changes.
const WALLETS: usize = 1_000;
const CHANGES: usize = 1_000;
/// Findings that are told; the others are counted.
const TOLD: i64 = 1_000;
/// How much time there is for a piece of writing.
pub(super) const BUDGET: Duration = Duration::from_secs(10);

/// A key that is damaged so that it is not in its place: whatever comes after it would be read again and again.
const OUT_OF_ORDER: StoreError = StoreError::Impossible("the keys of the ledger are in no order");

/// A verification under way.
pub(super) struct Verification {
    audits: Audits,
    whose: Whose,
    began: Time,
    step: Step,
    said: VecDeque<Said>,
    progress: Progress,
    findings: i64,
    /// What is wrong with wallets, and was not noted with them yet; empty for those of which something is noted that was
    /// not found up to now.
    faults: BTreeMap<(String, String), String>,
    /// Whether requests were answered with what they did; of all wallets.
    answers: Option<Answers>,
    _place: OwnedSemaphorePermit,
}

enum Step {
    Begin,
    /// The wallets after this one.
    Page(Place),
    /// The changes of the wallets of a page.
    Changes(Box<Page>),
    /// What is no wallet's chain.
    Rest,
    Done,
}

struct Page {
    wallets: VecDeque<WalletRow>,
    /// The last of them; `None` where the ledger ends with this page.
    last: Option<(String, String)>,
    /// Where its changes begin.
    after: Place,
    /// The next changes, on their way while the ones before them are looked at.
    next: JoinHandle<Result<Vec<ChangeRow>, StoreError>>,
    replay: Replay,
}

/// A wallet as its changes leave it behind, up to one of them.
#[derive(Clone, Debug, Default)]
struct Replay {
    wallet: Option<WalletRow>,
    version: i64,
    balance: i64,
    available: i64,
    hash: Vec<u8>,
    /// The version that the wallet had got to when it was looked at again, for changes that came after its page was read.
    reached: i64,
}

impl Verification {
    pub(super) fn new(audits: Audits, tenant: Tenant, user_id: Option<UserId>, place: OwnedSemaphorePermit) -> Self {
        let began = audits.books.clock.now();
        Self {
            audits,
            whose: Whose { tenant, user_id },
            began,
            step: Step::Begin,
            said: VecDeque::new(),
            progress: Progress::default(),
            findings: 0,
            faults: BTreeMap::new(),
            answers: None,
            _place: place,
        }
    }

    /// What it says next; `None` after the verdict.
    pub(super) async fn next(&mut self) -> Result<Option<Said>, StoreError> {
        loop {
            if let Some(said) = self.said.pop_front() {
                return Ok(Some(said));
            }
            match std::mem::replace(&mut self.step, Step::Done) {
                Step::Begin => {
                    self.progress.total_wallets =
                        table::count_wallets(self.audits.books.store.reader(), &self.whose).await?;
                    self.said.push_back(Said::Progress(self.progress));
                    if self.whose.user_id.is_none() {
                        let told = usize::try_from(TOLD).unwrap_or(usize::MAX);
                        self.answers = Some(Answers::look(&self.audits, &self.whose, told));
                    }
                    self.step = Step::Page(Place::default());
                }
                Step::Page(after) => self.step = self.page(after).await?,
                Step::Changes(page) => self.step = self.changes(*page).await?,
                Step::Rest => self.rest().await?,
                Step::Done => return Ok(None),
            }
        }
    }

    async fn page(&mut self, after: Place) -> Result<Step, StoreError> {
        let wallets = table::wallets(self.audits.books.store.reader(), &self.whose, &after, WALLETS).await?;
        let last = wallets
            .last()
            .filter(|_| wallets.len() == WALLETS)
            .map(|wallet| (wallet.user_id.clone(), wallet.currency.clone()));
        let is_further =
            |(user_id, currency): &(String, String)| (user_id, currency) > (&after.user_id, &after.currency);
        if !last.as_ref().is_none_or(is_further) {
            return Err(OUT_OF_ORDER);
        }
        // The versions of a wallet that ends the page before: all of them were seen.
        let after = Place { version: i64::MAX, ..after };
        let next = self.read(after.clone(), last.clone());
        let page = Page { wallets: wallets.into(), last, after, next, replay: Replay::default() };
        Ok(Step::Changes(Box::new(page)))
    }

    /// Reads changes while others are looked at.
    fn read(&self, after: Place, last: Option<(String, String)>) -> JoinHandle<Result<Vec<ChangeRow>, StoreError>> {
        let (store, whose) = (self.audits.books.store.clone(), self.whose.clone());
        tokio::spawn(async move {
            let last = last.as_ref().map(|(user_id, currency)| (user_id.as_str(), currency.as_str()));
            table::changes(store.reader(), &whose, &after, last, CHANGES).await
        })
    }

    async fn changes(&mut self, mut page: Page) -> Result<Step, StoreError> {
        let changes = (&mut page.next).await.map_err(StoreError::Panicked)??;
        let more = changes.len() == CHANGES;
        if let Some(change) = changes.last() {
            let before = std::mem::replace(
                &mut page.after,
                Place {
                    user_id: change.user_id.clone(),
                    currency: change.currency.clone(),
                    version: change.wallet_version,
                },
            );
            if page.after <= before {
                return Err(OUT_OF_ORDER);
            }
        }
        if more {
            page.next = self.read(page.after.clone(), page.last.clone());
        }
        for change in &changes {
            self.change(&mut page, change).await?;
        }
        if more {
            self.said.push_back(Said::Progress(self.progress));
            return Ok(Step::Changes(Box::new(page)));
        }
        let replay = std::mem::take(&mut page.replay);
        self.close(replay);
        while let Some(wallet) = page.wallets.pop_front() {
            self.close(Replay { wallet: Some(wallet), ..Replay::default() });
        }
        self.mark(false).await?;
        self.said.push_back(Said::Progress(self.progress));
        Ok(match page.last {
            Some((user_id, currency)) => Step::Page(Place { user_id, currency, version: 0 }),
            None => Step::Rest,
        })
    }

    /// Replays one change.
    async fn change(&mut self, page: &mut Page, change: &ChangeRow) -> Result<(), StoreError> {
        let key = (change.user_id.as_str(), change.currency.as_str());
        let is_of = |wallet: &WalletRow| (wallet.user_id.as_str(), wallet.currency.as_str()) == key;
        if !page.replay.wallet.as_ref().is_some_and(is_of) {
            self.close(std::mem::take(&mut page.replay));
            // Those before it have no changes.
            while let Some(wallet) =
                page.wallets.pop_front_if(|wallet| (wallet.user_id.as_str(), wallet.currency.as_str()) < key)
            {
                self.close(Replay { wallet: Some(wallet), ..Replay::default() });
            }
            let Some(wallet) = page.wallets.pop_front_if(|wallet| is_of(wallet)) else {
                // Made after the page was read; or there is none.
                let tenant = &self.whose.tenant;
                if table::version(self.audits.books.store.reader(), tenant, key).await?.is_none() {
                    let message = "there is no such wallet".to_owned();
                    self.find(Kind::NoWallet, key, &change.transaction_id, message);
                }
                return Ok(());
            };
            page.replay = Replay { wallet: Some(wallet), ..Replay::default() };
        }
        let Some(wallet) = &page.replay.wallet else { return Ok(()) };
        if change.wallet_version > wallet.version {
            // It came after the page was read, or its wallet was set back.
            if change.wallet_version > page.replay.reached {
                let (store, tenant) = (&self.audits.books.store, &self.whose.tenant);
                page.replay.reached = table::version(store.reader(), tenant, key).await?.unwrap_or(0);
                if change.wallet_version > page.replay.reached {
                    let (version, reached) = (change.wallet_version, page.replay.reached);
                    let message =
                        format!("the wallet is at version {reached}, and there is a transaction of version {version}");
                    self.find(Kind::Wallet, key, &change.transaction_id, message);
                }
            }
            return Ok(());
        }
        self.progress.transactions = self.progress.transactions.saturating_add(1);
        for (kind, message) in page.replay.step(change) {
            self.find(kind, key, &change.transaction_id, message);
        }
        Ok(())
    }

    /// Compares a wallet with what its changes left behind.
    fn close(&mut self, replay: Replay) {
        let Replay { wallet: Some(wallet), version, balance, available, hash, .. } = replay else { return };
        self.progress.wallets = self.progress.wallets.saturating_add(1);
        let key = (wallet.user_id.clone(), wallet.currency.clone());
        let left = (version, Some(balance), balance.checked_sub(available), hash);
        let is = (wallet.version, Some(wallet.balance), Some(wallet.held), wallet.hash);
        if left != is {
            let message = format!(
                "version {}, balance {} and held {} in minor units do not follow from its {version} transactions, which \
                 leave {balance} and {}",
                wallet.version,
                wallet.balance,
                wallet.held,
                balance.saturating_sub(available)
            );
            self.find(Kind::Wallet, (&key.0, &key.1), "", message);
        }
        if !wallet.fault.is_empty() {
            // Whole unless something is found.
            self.faults.entry(key).or_default();
        }
    }

    fn find(&mut self, kind: Kind, (user_id, currency): (&str, &str), transaction_id: &str, message: String) {
        let (user_id, currency) = (user_id.to_owned(), currency.to_owned());
        let fault = self.faults.entry((user_id.clone(), currency.clone())).or_default();
        if fault.is_empty() {
            fault.clone_from(&message);
        }
        let transaction_id = transaction_id.to_owned();
        self.say(Finding { kind, user_id, currency, transaction_id, message });
    }

    fn say(&mut self, finding: Finding) {
        self.findings = self.findings.saturating_add(1);
        if self.findings <= TOLD {
            error!("The ledger does not add up: {} {}: {}", finding.user_id, finding.currency, finding.message);
            self.said.push_back(Said::Finding(finding));
        }
    }

    /// Has wallets that do not add up give nothing, and in the end those that do again give.
    async fn mark(&mut self, end: bool) -> Result<(), StoreError> {
        let (now, later): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.faults).into_iter().partition(|(_, fault)| end || !fault.is_empty());
        self.faults = later;
        for ((user_id, currency), fault) in now {
            let (Ok(user_id), Ok(currency)) = (UserId::parse(&user_id), Currency::parse(&currency)) else { continue };
            let tenant = self.whose.tenant.clone();
            if let Err(error) = self.audits.mark(WalletKey { tenant, user_id, currency }, fault).await {
                error!("A wallet cannot be marked: {}", chain(&error));
                return Err(StoreError::Impossible("a wallet that does not add up cannot be marked"));
            }
        }
        Ok(())
    }

    /// Looks at requests, holds and charges, and comes to the verdict.
    async fn rest(&mut self) -> Result<(), StoreError> {
        if let Some(answers) = self.answers.take() {
            let found = answers.found().await?;
            for change in found.unanswered {
                let message = unanswered(&change.request_id);
                self.find(Kind::Request, (&change.user_id, &change.currency), &change.transaction_id, message);
            }
            self.findings = self.findings.saturating_add(found.more);
            for request in found.forgotten {
                // Whose wallet it was stood in the transaction.
                let answer: Option<Decision<Posted, Refused>> = serde_json::from_str(&request.outcome).ok();
                let transaction_id = answer.and_then(Result::ok).map(|posted| posted.transaction_id);
                let message = format!("request {} was answered with it, and it is not there", request.request_id);
                let (user_id, currency, transaction_id) =
                    (String::new(), String::new(), transaction_id.unwrap_or_default());
                self.say(Finding { kind: Kind::Request, user_id, currency, transaction_id, message });
            }
        }
        let limit = usize::try_from(TOLD).unwrap_or(usize::MAX);
        let (findings, more) = table::disagreements(self.audits.books.store.reader(), &self.whose, limit).await?;
        self.findings = self.findings.saturating_add(more);
        for finding in findings {
            match finding.kind {
                // What a wallet holds is part of what it has; what is owed is not.
                Kind::Hold => {
                    let Finding { kind, user_id, currency, transaction_id, message } = finding;
                    self.find(kind, (&user_id, &currency), &transaction_id, message);
                }
                _ => self.say(finding),
            }
        }
        self.mark(true).await?;
        let Progress { wallets, transactions, .. } = self.progress;
        let (start_time, end_time) = (self.began, self.audits.books.clock.now());
        let verdict = Verdict { wallets, transactions, findings: self.findings, start_time, end_time };
        if self.whose.user_id.is_none() {
            self.audits.keep(&self.whose.tenant, verdict).await?;
        }
        info!("Verified {transactions} transactions of {wallets} wallets: {} findings", self.findings);
        self.said.push_back(Said::Verdict(verdict));
        Ok(())
    }
}

fn unanswered(request_id: &str) -> String {
    format!("request {request_id} was not answered with it")
}

impl Replay {
    /// Goes one change further, and says what is wrong with it. What is wrong is said once: it goes on with what the row
    /// has.
    fn step(&mut self, change: &ChangeRow) -> Vec<(Kind, String)> {
        let mut found = Vec::new();
        let accounts = [change.wallet, change.held, change.revenue, change.payments];
        let sum: i128 = accounts.into_iter().map(i128::from).fold(0, i128::saturating_add);
        if sum != 0 {
            found.push((Kind::Unbalanced, format!("its accounts add up to {sum} minor units rather than to zero")));
        }
        if Some(change.wallet_version) != self.version.checked_add(1) {
            found.push((Kind::Gap, format!("version {} comes after version {}", change.wallet_version, self.version)));
        }
        let available = self.available.checked_add(change.wallet);
        let balance = change.wallet.checked_add(change.held).and_then(|moved| self.balance.checked_add(moved));
        let follows = available == Some(change.available_after) && balance == Some(change.balance_after);
        let is_possible = 0 <= change.available_after && change.available_after <= change.balance_after;
        if !follows || !is_possible {
            found.push((
                Kind::Balance,
                format!(
                    "balance {} and {} available in minor units do not follow from {} and {} before it",
                    change.balance_after, change.available_after, self.balance, self.available
                ),
            ));
        }
        // Rows from before there were hashes have none, and nothing stands before the first that has.
        let unhashed = change.hash.is_empty() && self.hash.is_empty();
        if !unhashed && change.hash != hashes::hash(&self.hash, &change.kept()) {
            found.push((Kind::Hash, "the row is not the one that was written, or not after this one".to_owned()));
        }
        if !change.request_id.is_empty() && change.answered == 0 {
            found.push((Kind::Request, unanswered(&change.request_id)));
        }
        self.version = change.wallet_version;
        self.balance = change.balance_after;
        self.available = change.available_after;
        self.hash.clone_from(&change.hash);
        found
    }
}
