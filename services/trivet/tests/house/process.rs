//! The built binary, as the one who runs it sees it.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    process::Stdio,
    time::Duration,
};

use mesh::{CallSettings, Peer, Target, Telemetry};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};
use tonic::{Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use trivet_proto::{
    account::v1::account_service_client::AccountServiceClient,
    billing::v1::{
        GetDeductionRequest, ListTransactionsRequest, billing_service_client::BillingServiceClient,
        wallet_service_client::WalletServiceClient,
    },
};

use crate::harness::{Databases, books_balance, channel, config, order, payment, person, reason};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process of the binary; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) addresses: HashMap<String, SocketAddr>,
}

/// Reads on, or what a process says would have it wait in the end.
fn drain(mut log: Lines<BufReader<ChildStderr>>) {
    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
}

pub(crate) fn binary(arguments: &[&str], settings: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trivet"));
    command.args(arguments).env_clear().kill_on_drop(true).stdin(Stdio::null());
    for (key, value) in settings {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    command
}

/// A NATS that is nowhere: for a role that runs apart and is not listened to.
const NO_NATS: (&str, &str) = ("events.nats_url", "nats://127.0.0.1:9");

/// Ports that were free a moment ago, and that the system gives to nobody who asks for any.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    const ORDINARY: std::ops::Range<u16> = 12_000..30_000;
    let first = ORDINARY.start + u16::try_from(std::process::id() % u32::from(ORDINARY.end - ORDINARY.start)).unwrap();
    let ports = (first..ORDINARY.end).chain(ORDINARY.start..first);
    ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).take(count).collect()
}

fn on_free_ports(databases: &Databases, further: &[(&str, &str)]) -> Vec<(String, String)> {
    let keys = ["server.admin_port", "account.port", "product.port", "billing.port"];
    let mut settings: Vec<(String, String)> = keys.map(|key| (key.to_owned(), "0".to_owned())).to_vec();
    settings.extend(further.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    settings.extend(databases.settings());
    settings
}

impl Process {
    /// Starts `trivet serve ROLE` and waits until it says that it is ready.
    pub(crate) async fn serve(role: &str, databases: &Databases, further: &[(&str, &str)]) -> Self {
        let mut settings = on_free_ports(databases, further);
        settings.push(("telemetry.log_format".to_owned(), "text".to_owned()));
        if role != "all" && !settings.iter().any(|(key, _)| key == NO_NATS.0) {
            settings.push((NO_NATS.0.to_owned(), NO_NATS.1.to_owned()));
        }
        let mut child =
            binary(&["serve", role], &settings).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = line_with(&mut log, "Ready in").await;
        let addresses = ready.split(": ").last().unwrap().split(", ").filter_map(|part| {
            let (name, address) = part.split_once(' ')?;
            Some((name.to_owned(), address.parse().ok()?))
        });
        drain(log);
        Self { child, addresses: addresses.collect() }
    }

    /// Starts `trivet dev --data` and waits until it shows where it is.
    pub(crate) async fn dev(databases: &Databases) -> Self {
        let settings = on_free_ports(databases, &[]);
        let mut child = binary(&["dev"], &settings).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut shown = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut addresses = HashMap::new();
        while !addresses.contains_key("admin") {
            let line = tokio::time::timeout(PATIENCE, shown.next_line()).await.expect("it starts").unwrap();
            let line = line.expect("it goes on");
            let mut words = line.split_whitespace();
            if let (Some(name), Some(Ok(address))) = (words.next(), words.next().map(str::parse)) {
                addresses.insert(name.to_owned(), address);
            }
        }
        drain(BufReader::new(child.stderr.take().unwrap()).lines());
        Self { child, addresses }
    }

    pub(crate) fn wallets(&self) -> WalletServiceClient<Channel> {
        WalletServiceClient::new(channel(self.addresses["billing"]))
    }

    /// Kills it: SIGKILL, at once.
    pub(crate) fn kill(&self) {
        self.signal("-KILL");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Tells the process to go and waits until it has gone, well.
    pub(crate) async fn end(self) {
        self.terminate();
        self.gone().await;
    }

    /// Waits until the process has gone, well. It was told to: telling it twice would cut its calls off.
    async fn gone(mut self) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it went in time").unwrap();
        assert!(status.success(), "{status}");
    }
}

pub(crate) async fn line_with<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>, text: &str) -> String {
    let mut said = Vec::new();
    let found = tokio::time::timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(text) {
                return Some(line);
            }
            said.push(line);
        }
        None
    });
    found.await.ok().flatten().unwrap_or_else(|| panic!("{text:?} was not said, but {said:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dev_keeps_in_a_folder_is_there_after_a_restart() {
    let databases = Databases::sqlite();
    let start = async || {
        let mut child = binary(&["dev"], &on_free_ports(&databases, &[])).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = async |name: &str| {
            let line = line_with(&mut said, name).await;
            line.split_whitespace().nth(1).unwrap().parse::<SocketAddr>().unwrap()
        };
        (address("  account").await, address("  billing").await, child)
    };
    let end = async |mut child: Child| {
        let pid = child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it went in time").unwrap();
        assert!(status.success(), "{status}");
    };
    let (account, billing, child) = start().await;
    AccountServiceClient::new(channel(account)).ensure_account(person("ada")).await.unwrap();
    WalletServiceClient::new(channel(billing)).record_payment(payment("pay-1", "ada", "10")).await.unwrap();
    let first = BillingServiceClient::new(channel(billing)).deduct(order("req-1", "ada", "0.01")).await.unwrap();
    end(child).await;
    let (account, billing, child) = start().await;
    let again = AccountServiceClient::new(channel(account)).ensure_account(person("ada")).await.unwrap().into_inner();
    assert!(!again.created);
    let replay = BillingServiceClient::new(channel(billing)).deduct(order("req-1", "ada", "0.01")).await.unwrap();
    assert!(replay.get_ref().already_processed);
    assert_eq!(replay.into_inner().deduction, first.into_inner().deduction);
    let list = ListTransactionsRequest { user_id: "ada".to_owned(), ..ListTransactionsRequest::default() };
    let history = WalletServiceClient::new(channel(billing)).list_transactions(list).await.unwrap().into_inner();
    assert_eq!(history.transactions.len(), 2);
    end(child).await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_go_under_load_it_says_so_first_and_fails_no_call() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let process = Process::serve("all", &databases, &[("server.announce_ms", "700")]).await;
        let billing = channel(process.addresses["billing"]);
        AccountServiceClient::new(channel(process.addresses["account"])).ensure_account(person("ada")).await.unwrap();
        let mut wallets = WalletServiceClient::new(billing.clone());
        wallets.record_payment(payment("pay-1", "ada", "100000")).await.unwrap();
        let ready = HealthCheckRequest { service: "readiness".to_owned() };
        let mut health =
            HealthClient::new(channel(process.addresses["admin"])).watch(ready).await.unwrap().into_inner();
        assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        let target = Target::from(process.addresses["billing"]);
        let callers: Vec<_> = (0..16)
            .map(|caller| {
                let telemetry = Telemetry::quiet().unwrap().into();
                let peer = Peer::new("billing", &target, telemetry, CallSettings::default());
                tokio::spawn(deduct_until_refused(BillingServiceClient::new(peer), caller))
            })
            .collect();
        process.terminate();
        assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        // Not ready any more, and serving all the same, on old connections and new ones.
        let fresh = channel(process.addresses["billing"]);
        BillingServiceClient::new(fresh).deduct(order("after-the-signal", "ada", "0.01")).await.unwrap();
        process.gone().await;
        books_balance(&config(&databases, &[])).await;
        let next = Process::serve("all", &databases, &[("server.announce_ms", "0")]).await;
        let mut billing = BillingServiceClient::new(channel(next.addresses["billing"]));
        let mut answered = 0;
        for caller in callers {
            let (taken, refused, error) = caller.await.unwrap();
            answered += taken.len();
            for request_id in taken {
                billing.get_deduction(GetDeductionRequest { request_id }).await.unwrap();
            }
            // The call that was not answered was not accepted either.
            match billing.get_deduction(GetDeductionRequest { request_id: refused }).await {
                Ok(deduction) => panic!("{deduction:?} was made, and its caller heard {error:?}"),
                Err(unanswered) => assert_eq!(reason(&unanswered), "DEDUCTION_NOT_FOUND"),
            }
        }
        assert!(answered > 16, "there was load: {answered}");
        next.end().await;
        databases.done().await;
    }
}

/// Deducts as fast as it can until a call fails: the ids that were answered, the one that was not, and why.
async fn deduct_until_refused(mut billing: BillingServiceClient<Peer>, caller: usize) -> (Vec<String>, String, Status) {
    let mut taken = Vec::new();
    loop {
        let id = format!("req-{caller}-{}", taken.len());
        match billing.deduct(order(&id, "ada", "0.01")).await {
            Ok(_) => taken.push(id),
            Err(error) => return (taken, id, error),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_may_migrate_one_empty_database_at_once() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let settings = databases.settings();
        let runs: Vec<_> = (0..4).map(|_| binary(&["migrate", "up"], &settings).output()).map(tokio::spawn).collect();
        for run in runs {
            let output = run.await.unwrap().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let status = binary(&["migrate", "status"], &settings).output().await.unwrap();
        let status = String::from_utf8(status.stdout).unwrap();
        assert!(status.lines().count() >= 8 && !status.contains("pending"), "{status}");
        databases.done().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_the_settings_is_named_at_once() {
    let mut command = binary(&["config", "show"], &[("billing.prot".to_owned(), "1".to_owned())]);
    command.env("TRIVET_BILLING_PORT", "money").env("TRIVET_COLOUR", "red").env("TRIVET_TEST_POSTGRES_URL", "x");
    let output = command.output().await.unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    for fault in ["TRIVET_BILLING_PORT: ", "TRIVET_COLOUR is not a setting", "--set billing.prot is not a setting"] {
        assert!(said.contains(fault), "{said}");
    }
    assert!(!said.contains("TRIVET_TEST"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_contradict_each_other_or_keep_nothing_are_refused() {
    let of = async |arguments: &[&str], settings: &[(&str, &str)]| {
        let settings: Vec<_> = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let output = binary(arguments, &settings).output().await.unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let wrong =
        [("billing.database_connections", "0"), ("server.deadline_ms", "20000"), ("telemetry.sample_ratio", "7")];
    let said = of(&["config", "show"], &wrong).await;
    for (key, _) in wrong {
        assert!(said.contains(&format!("{key} is ")), "{said}");
    }
    // What serves others must not forget what it acknowledged.
    let said = of(&["serve", "all"], &[]).await;
    assert!(said.contains("billing has no database") && said.contains("account has no database"), "{said}");
    assert!(of(&["migrate", "up"], &[]).await.contains("billing has no database"));
    // What it tells must reach the others.
    let said = of(&["serve", "billing"], &[("data_dir", "nowhere")]).await;
    assert!(said.contains("billing runs apart from the others: set events.nats_url"), "{said}");
    let said = of(&["config", "show"], &[("server.web_origins", "*,https://shop.example/")]).await;
    for origin in ["*", "https://shop.example/"] {
        assert!(said.contains(&format!("server.web_origins: {origin:?} is no origin")), "{said}");
    }
    let wrong = [("events.nats_stream", "A B"), ("events.nats_replicas", "2"), ("events.max_bytes", "7")];
    let said = of(&["config", "show"], &wrong).await;
    for (key, _) in wrong {
        assert!(said.contains(&format!("{key} is ")), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_shown_without_their_secrets() {
    let mut command = binary(&["config", "show"], &[]);
    command.env("TRIVET_BILLING_DATABASE_URL", "postgres://me:hush@db/trivet");
    let output = command.output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("database_url = \"***\"") && !said.contains("hush"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_names_itself_and_its_setting_and_health_tells_who_serves() {
    let databases = Databases::sqlite();
    let process = Process::serve("all", &databases, &[("server.announce_ms", "0")]).await;
    let (taken, admin) = (process.addresses["billing"].port().to_string(), process.addresses["admin"].to_string());
    let settings = on_free_ports(&Databases::sqlite(), &[("billing.port", &taken), NO_NATS]);
    let output = binary(&["serve", "billing"], &settings).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains(&format!("billing cannot listen on 127.0.0.1:{taken}")), "{said}");
    assert!(said.contains("TRIVET_BILLING_PORT"), "{said}");
    assert!(binary(&["health", "--address", &admin], &[]).status().await.unwrap().success());
    process.end().await;
    assert!(!binary(&["health", "--address", &admin], &[]).output().await.unwrap().status.success());
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_each_part_of_a_service_and_fails_only_where_it_is_down() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let process = Process::serve("all", &databases, &[("server.announce_ms", "0")]).await;
        let (account, billing) = (process.addresses["account"].to_string(), process.addresses["billing"].to_string());
        let ask = async |arguments: &[&str], port: &str| {
            let settings = [("account.port".to_owned(), port.to_owned())];
            let output = binary(arguments, &settings).output().await.unwrap();
            let parts: Vec<_> = String::from_utf8(output.stdout)
                .unwrap()
                .lines()
                .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
                .collect();
            (output.status.success(), parts.join(", "))
        };
        let here = process.addresses["account"].port().to_string();
        let well = "api OK, database OK, events OK, billing OK, product OK";
        assert_eq!(ask(&["status"], &here).await, (true, well.to_owned()), "account, if nothing else is said");
        let well = "api OK, database OK, events OK, ledger OK, account OK, product OK";
        assert_eq!(ask(&["status", "--address", &billing], "0").await, (true, well.to_owned()));
        // PostgreSQL's database can be taken away from who uses it; SQLite's stays for as long as its user does.
        let left = if matches!(databases, Databases::Postgres { .. }) {
            databases.done().await;
            let (well, parts) = ask(&["status", "--address", &account], "0").await;
            assert_eq!(
                (well, parts.as_str()),
                (false, "api OK, database DOWN, events DEGRADED, billing OK, product OK")
            );
            None
        } else {
            Some(databases)
        };
        process.end().await;
        assert_eq!(ask(&["status", "--address", &billing], "0").await, (false, String::new()), "nobody is there");
        if let Some(databases) = left {
            databases.done().await;
        }
    }
}
