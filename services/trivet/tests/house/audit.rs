//! The ledger proves itself, and whatever was done to its rows behind the service's back is named.

mod answers;
mod charges;
mod order;

use mesh::{Store, store::sql};
use sea_orm::{ConnectionTrait as _, DbBackend};
use tonic::transport::Channel;
use trivet_proto::{
    account::v1::account_service_client::AccountServiceClient,
    billing::v1::{
        CaptureHoldRequest, ExportLedgerRequest, ExportLedgerResponse, FindingKind as Kind, GetTrialBalanceRequest,
        GetWalletRequest, LedgerAccount as Of, LedgerFinding, LedgerVerdict, ListHoldsRequest, PlaceHoldRequest,
        RefundRequest, VerifyLedgerRequest, billing_service_client::BillingServiceClient,
        ledger_service_client::LedgerServiceClient, verify_ledger_response::Event,
    },
    mesh::v1::{GetStatusRequest, Status, status_service_client::StatusServiceClient},
};

use crate::{
    harness::{Databases, House, channel, config, faulty, on_every_store, order, payment, person, reason},
    process::Process,
    tenants::of,
};

/// What a verification finds, and what it comes to.
async fn verify(ledger: &mut LedgerServiceClient<Channel>, user_id: &str) -> (Vec<LedgerFinding>, LedgerVerdict) {
    let ask = VerifyLedgerRequest { user_id: user_id.to_owned() };
    let mut said = ledger.verify_ledger(ask).await.unwrap().into_inner();
    let mut findings = Vec::new();
    let mut progress = 0;
    while let Some(message) = said.message().await.unwrap() {
        match message.event.unwrap() {
            Event::Progress(now) => {
                assert!(now.transactions >= progress);
                progress = now.transactions;
            }
            Event::Finding(finding) => findings.push(finding),
            Event::Verdict(verdict) => {
                assert!(said.message().await.unwrap().is_none(), "the verdict is the last");
                return (findings, verdict);
            }
        }
    }
    panic!("there was no verdict");
}

/// Every kind of movement once, in two wallets.
async fn some_money_moves(billing: &mut BillingServiceClient<Channel>) {
    for (id, user) in [("a1", "ada"), ("a2", "ada"), ("b1", "bob")] {
        let mut order = order(id, user, "1");
        (order.api_id, order.endpoint_id, order.api_key_id) = ("chat".to_owned(), "say".to_owned(), "k1".to_owned());
        billing.deduct(order).await.unwrap();
    }
    let back = RefundRequest {
        request_id: "back".to_owned(),
        deduction_request_id: "a1".to_owned(),
        reason: "as agreed".to_owned(),
        ..RefundRequest::default()
    };
    billing.refund(back).await.unwrap();
    let hold = PlaceHoldRequest {
        request_id: "hold".to_owned(),
        user_id: "ada".to_owned(),
        amount: "2".to_owned(),
        ..PlaceHoldRequest::default()
    };
    billing.place_hold(hold).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_ledger_verifies_while_money_moves_and_adds_up_in_the_trial_balance() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        house.user("bob", "10").await;
        house.wallets().record_payment(of("other", payment("pay", "ada", "1"))).await.unwrap_err();
        some_money_moves(&mut house.billing()).await;
        let moving = async {
            for number in 0..200 {
                house.billing().deduct(order(&format!("m{number}"), "bob", "0.001")).await.unwrap();
            }
        };
        let verifying = async {
            for _ in 0..5 {
                let (findings, verdict) = verify(&mut house.ledger(), "").await;
                assert_eq!((findings, verdict.ok, verdict.wallets), (vec![], true, 2));
            }
        };
        tokio::join!(moving, verifying);
        let (_, verdict) = verify(&mut house.ledger(), "").await;
        assert_eq!(verdict.transactions, 207);
        let (_, verdict) = verify(&mut house.ledger(), "ada").await;
        assert_eq!((verdict.wallets, verdict.transactions), (1, 5));
        let balances = house.ledger().get_trial_balance(GetTrialBalanceRequest {}).await.unwrap().into_inner().balances;
        let [usdc] = &balances[..] else { panic!("{balances:?}") };
        let held: Vec<_> = usdc.accounts.iter().map(|account| (account.account(), &*account.balance)).collect();
        assert_eq!((&*usdc.currency, &*usdc.sum, usdc.transactions), ("USDC", "0", 207));
        assert_eq!(held, [(Of::Wallets, "15.8"), (Of::Held, "2"), (Of::Revenue, "2.2"), (Of::Payments, "-20")]);
        let refused = house.ledger().verify_ledger(VerifyLedgerRequest { user_id: "a b".to_owned() }).await;
        assert_eq!(faulty(&refused.unwrap_err()), ["user_id"]);
    })
    .await;
}

async fn exported(house: &House, ask: ExportLedgerRequest) -> Vec<ExportLedgerResponse> {
    let mut messages = house.ledger().export_ledger(ask).await.unwrap().into_inner();
    let mut transactions = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        transactions.push(message);
    }
    transactions
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_every_transaction_with_its_entries_and_goes_on_where_it_broke_off() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        house.user("bob", "10").await;
        some_money_moves(&mut house.billing()).await;
        let all = exported(house, ExportLedgerRequest::default()).await;
        let places: Vec<_> = all
            .iter()
            .map(|message| {
                let transaction = message.transaction.as_ref().unwrap();
                (&*transaction.user_id, transaction.transaction.as_ref().unwrap().wallet_version)
            })
            .collect();
        assert_eq!(places, [("ada", 1), ("ada", 2), ("ada", 3), ("ada", 4), ("ada", 5), ("bob", 1), ("bob", 2)]);
        let first = all[0].transaction.as_ref().unwrap();
        let entries: Vec<_> = first.entries.iter().map(|entry| (entry.account(), &*entry.amount)).collect();
        assert_eq!(entries, [(Of::Wallets, "10"), (Of::Payments, "-10")]);
        assert_eq!(first.hash.len(), 64);
        for (place, message) in all.iter().enumerate() {
            let ask = ExportLedgerRequest { resume_token: message.resume_token.clone(), ..Default::default() };
            let rest: Vec<_> = exported(house, ask).await.into_iter().map(|message| message.transaction).collect();
            let expected: Vec<_> = all[place + 1..].iter().map(|message| message.transaction.clone()).collect();
            assert_eq!(rest, expected);
        }
        let bob = exported(house, ExportLedgerRequest { user_id: "bob".to_owned(), ..Default::default() }).await;
        assert_eq!(bob.len(), 2);
        let foreign = ExportLedgerRequest { resume_token: all[0].resume_token.clone(), user_id: "bob".to_owned() };
        let refused = house.ledger().export_ledger(foreign).await.unwrap_err();
        assert_eq!(
            (reason(&refused), faulty(&refused)),
            ("INVALID_PAGE_TOKEN".to_owned(), vec!["resume_token".to_owned()])
        );
        let odd = ExportLedgerRequest { user_id: "a b".to_owned(), ..ExportLedgerRequest::default() };
        assert_eq!(faulty(&house.ledger().export_ledger(odd).await.unwrap_err()), ["user_id"]);
    })
    .await;
}

/// A house whose logs nobody counts: what is wrong with a ledger is an error.
struct Broken {
    process: Process,
    databases: Databases,
    store: Store,
}

impl Broken {
    async fn start(databases: Databases) -> Self {
        let process = Process::serve("all", &databases, &[("server.announce_ms", "0")]).await;
        let mut accounts = AccountServiceClient::new(channel(process.addresses["account"]));
        for user in ["ada", "bob"] {
            accounts.ensure_account(person(user)).await.unwrap();
            process.wallets().record_payment(payment(&format!("fund-{user}"), user, "10")).await.unwrap();
        }
        some_money_moves(&mut BillingServiceClient::new(channel(process.addresses["billing"]))).await;
        let config = config(&databases, &[]);
        let location = config.billing.location("billing", &config.data_dir).unwrap();
        let store = Store::open(location).await.unwrap();
        Self { process, databases, store }
    }

    fn ledger(&self) -> LedgerServiceClient<Channel> {
        LedgerServiceClient::new(channel(self.process.addresses["billing"]))
    }

    /// Does something to the rows that the schema would refuse.
    async fn run(&self, statement: &str) {
        let connection = self.store.reader();
        connection.execute_unprepared(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Takes the guards away.
    async fn unguarded(&self) {
        if self.store.reader().get_database_backend() == DbBackend::Postgres {
            self.run("drop trigger transactions_append_only on transactions").await;
            self.run(
                "do $$ declare name text; begin
                   for name in select conname from pg_constraint where conrelid = 'transactions'::regclass and contype = 'c'
                   loop execute format('alter table transactions drop constraint %I', name); end loop; end $$",
            )
            .await;
        } else {
            self.run("drop trigger transactions_no_update").await;
            self.run("drop trigger transactions_no_delete").await;
        }
    }

    async fn end(self) {
        self.store.close().await.unwrap();
        self.process.end().await;
        self.databases.done().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_changed_in_any_column_of_a_row_is_named_and_its_wallet_gives_nothing() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let house = Broken::start(databases).await;
        house.unguarded().await;
        let sqlite = house.store.reader().get_database_backend() == DbBackend::Sqlite;
        let byte = if sqlite { "x'00'" } else { "'\\x00'::bytea" };
        let mut billing = BillingServiceClient::new(channel(house.process.addresses["billing"]));
        let odd = if sqlite { "cast(x'ff' as text)" } else { "'flipped'" };
        let row = format!("where request_id in ('a2', 'flipped', {odd}) or transaction_id in ('flipped', {odd})");
        // SQLite keeps as a text what is none.
        let of_sqlite: &[(&str, &str)] =
            &[("details", odd), ("request_id", odd), ("transaction_id", odd), ("user_id", odd)];
        let changes = [
            ("transaction_id", "'flipped'"),
            ("kind", "'CHARGE'"),
            ("request_id", "'flipped'"),
            ("related_id", "'flipped'"),
            ("api_id", "'chad'"),
            ("endpoint_id", "'sax'"),
            ("api_key_id", "''"),
            ("details", "'{}'"),
            ("create_time", "create_time + 1"),
            ("balance_after", "balance_after + 1"),
            ("available_after", "available_after - 1"),
            ("revenue", "revenue + 1"),
            ("wallet_version", "77"),
            ("user_id", "'eve'"),
            ("currency", "'EURC'"),
            ("hash", byte),
        ];
        let further = if sqlite { of_sqlite } else { &[] };
        for (number, (column, value)) in changes.iter().chain(further).copied().enumerate() {
            if sqlite && column == "revenue" {
                // No statement gets past a CHECK there, not even with the triggers gone.
                continue;
            }
            house.run(&format!("create table kept as select * from transactions {row}")).await;
            house.run(&format!("update transactions set {column} = {value} {row}")).await;
            let (findings, verdict) = verify(&mut house.ledger(), "").await;
            assert!(!verdict.ok && !findings.is_empty(), "{column} was changed and nothing was found");
            assert!(
                findings.iter().any(|finding| finding.user_id == "ada" || finding.user_id == "eve"),
                "{column}: {findings:?}"
            );
            let named = |finding: &LedgerFinding| !finding.transaction_id.is_empty();
            assert!(findings.iter().any(named), "{column}: no transaction is named in {findings:?}");
            assert!(findings.iter().all(|finding| finding.user_id != "bob"), "{column}: {findings:?}");
            let refused = billing.deduct(order(&format!("late-{number}"), "ada", "1")).await.unwrap_err();
            assert_eq!((refused.code(), &*reason(&refused)), (tonic::Code::DataLoss, "LEDGER_BROKEN"), "{column}");
            billing.deduct(order(&format!("well-{number}"), "bob", "0.001")).await.unwrap();

            house.run(&format!("delete from transactions {row}")).await;
            house.run("insert into transactions select * from kept").await;
            house.run("drop table kept").await;
            let (findings, verdict) = verify(&mut house.ledger(), "").await;
            assert!(verdict.ok, "{column}: {findings:?}");
            let ask = GetWalletRequest { user_id: "ada".to_owned(), currency: String::new() };
            let ada = house.process.wallets().get_wallet(ask).await.unwrap().into_inner().wallet.unwrap();
            assert_eq!(ada.fault, "", "{column}");
        }
        house.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_does_not_agree_is_found_and_told_in_the_status() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let house = Broken::start(databases).await;
        house.unguarded().await;
        let mut status = StatusServiceClient::new(channel(house.process.addresses["billing"]));
        let mut check = async || {
            let checks = status.get_status(GetStatusRequest {}).await.unwrap().into_inner().checks;
            checks.into_iter().find(|check| check.name == "ledger").unwrap()
        };
        let never = check().await;
        assert_eq!(never.status(), Status::Ok);
        assert!(never.message.contains("never"), "{never:?}");
        for (statement, kind, mended) in [
            ("update wallets set balance = balance + 1 where user_id = 'ada'", Kind::Wallet, "balance = balance - 1"),
            ("update wallets set held = held - 1 where user_id = 'ada'", Kind::Hold, "held = held + 1"),
            ("update wallets set version = version + 1 where user_id = 'ada'", Kind::Wallet, "version = version - 1"),
            ("update wallets set open_charges = 1 where user_id = 'ada'", Kind::Charge, "open_charges = 0"),
        ] {
            house.run(statement).await;
            let (findings, _) = verify(&mut house.ledger(), "").await;
            assert!(findings.iter().any(|finding| finding.kind() == kind && finding.user_id == "ada"), "{findings:?}");
            assert_eq!(check().await.status(), Status::Degraded);
            house.run(&format!("update wallets set {mended} where user_id = 'ada'")).await;
            assert!(verify(&mut house.ledger(), "").await.1.ok, "{statement}");
            assert_eq!(check().await.status(), Status::Ok);
        }
        let mut billing = BillingServiceClient::new(channel(house.process.addresses["billing"]));
        // A wallet that is set back to how it was before its last change agrees with all changes but that one.
        house.run("create table kept as select * from wallets where user_id = 'bob'").await;
        billing.deduct(order("forgotten", "bob", "1")).await.unwrap();
        house.run("delete from wallets where user_id = 'bob'").await;
        house.run("insert into wallets select * from kept").await;
        let (findings, verdict) = verify(&mut house.ledger(), "").await;
        let set_back = |finding: &LedgerFinding| finding.kind() == Kind::Wallet && finding.user_id == "bob";
        assert!(!verdict.ok && findings.iter().any(set_back), "{findings:?}");
        for (statement, kind, user) in [
            ("update requests set outcome = '{}' where request_id = 'b1'", Kind::Request, "bob"),
            ("delete from transactions where request_id = 'a2'", Kind::Gap, "ada"),
            ("delete from wallets where user_id = 'bob'", Kind::NoWallet, "bob"),
        ] {
            house.run(statement).await;
            let (findings, verdict) = verify(&mut house.ledger(), "").await;
            let found = |finding: &LedgerFinding| finding.kind() == kind && finding.user_id == user;
            assert!(!verdict.ok && findings.iter().any(found), "{statement}: {findings:?}");
        }
        // A chain whose end is cut off, with its wallet set back, is whole; but somebody was told of what is missing.
        house.run("delete from transactions where request_id = 'forgotten'").await;
        let (findings, verdict) = verify(&mut house.ledger(), "").await;
        let told = |finding: &LedgerFinding| {
            finding.kind() == Kind::Request
                && finding.message.starts_with("request forgotten ")
                && finding.transaction_id.starts_with("txn_")
        };
        assert!(!verdict.ok && findings.iter().any(told), "{findings:?}");
        let rows = house.store.reader().query_all_raw(sql(house.store.reader(), "select 1 from verdicts", [])).await;
        assert_eq!(rows.unwrap().len(), 1);
        house.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_aside_is_part_of_a_wallet_and_a_hold_is_what_its_transactions_say() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let house = Broken::start(databases).await;
        let mut billing = BillingServiceClient::new(channel(house.process.addresses["billing"]));
        house.run("update holds set amount = amount + 1 where user_id = 'ada'").await;
        let (findings, _) = verify(&mut house.ledger(), "").await;
        // It is not what the wallet has set aside, nor what the transaction did that made it.
        let both = matches!(&findings[..], [one, other] if one.kind() == Kind::Hold && other.kind() == Kind::Hold);
        assert!(both && findings.iter().any(|finding| finding.transaction_id.starts_with("txn_")), "{findings:?}");
        let refused = billing.deduct(order("held", "ada", "1")).await.unwrap_err();
        assert_eq!(reason(&refused), "LEDGER_BROKEN");
        let place = PlaceHoldRequest {
            request_id: "held-2".to_owned(),
            user_id: "ada".to_owned(),
            amount: "1".to_owned(),
            ..PlaceHoldRequest::default()
        };
        assert_eq!(reason(&billing.place_hold(place).await.unwrap_err()), "LEDGER_BROKEN");
        let holds = billing.list_holds(ListHoldsRequest::default()).await.unwrap().into_inner().holds;
        let (request_id, hold_id) = ("captured".to_owned(), holds[0].hold_id.clone());
        let capture = CaptureHoldRequest { request_id, hold_id, ..CaptureHoldRequest::default() };
        assert_eq!(reason(&billing.capture_hold(capture).await.unwrap_err()), "LEDGER_BROKEN");
        house.run("update holds set amount = amount - 1 where user_id = 'ada'").await;
        assert!(verify(&mut house.ledger(), "").await.1.ok);
        let hold = billing.list_holds(ListHoldsRequest::default()).await.unwrap().into_inner().holds.remove(0);
        let (request_id, amount) = ("taken".to_owned(), "1.5".to_owned());
        let capture = CaptureHoldRequest { request_id, hold_id: hold.hold_id, amount, validate_only: false };
        billing.capture_hold(capture).await.unwrap();
        house.run("update holds set captured_amount = captured_amount - 1 where user_id = 'ada'").await;
        let (findings, _) = verify(&mut house.ledger(), "").await;
        assert!(matches!(&findings[..], [finding] if finding.kind() == Kind::Hold), "{findings:?}");
        house.run("update holds set captured_amount = captured_amount + 1 where user_id = 'ada'").await;
        assert!(verify(&mut house.ledger(), "").await.1.ok);
        house.end().await;
    }
}
