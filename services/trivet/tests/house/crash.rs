//! A cluster that loses power: the service and PostgreSQL are killed under load, again and again. Nothing that was
//! acknowledged is lost, nothing is charged twice, and the ledger verifies.

use std::{
    collections::BTreeMap,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::sync::watch;
use tonic::Code;
use tonic_types::StatusExt as _;
use trivet_proto::{
    account::v1::account_service_client::AccountServiceClient,
    billing::v1::{
        Deduction, ListTransactionsRequest, TransactionKind, VerifyLedgerRequest,
        billing_service_client::BillingServiceClient, ledger_service_client::LedgerServiceClient,
        verify_ledger_response::Event, wallet_service_client::WalletServiceClient,
    },
};

use crate::{
    harness::{Databases, channel, eventually, order, payment, person, record, variable},
    process::Process,
};

/// How often something is killed.
const KILLS: usize = 10;
/// Callers, each with one call under way; users whose wallets they charge.
const CALLERS: usize = 48;
const USERS: usize = 5;
/// Answers between a restart and the next kill.
const ANSWERS: usize = 400;

/// A PostgreSQL of the test's own, which it can kill.
struct Server {
    folder: TempDir,
    binaries: PathBuf,
    port: u16,
}

/// Runs a program of PostgreSQL, which does not run as root.
fn program(binaries: &std::path::Path, name: &str) -> Command {
    let path = binaries.join(name);
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if is_root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(path);
        command
    } else {
        Command::new(path)
    }
}

impl Server {
    /// `None` where PostgreSQL's programs are not on this machine.
    fn begin() -> Option<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let binaries = versions
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .find(|bin| bin.join("initdb").exists())?;
        let folder = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let data = folder.path().join("data");
        let made = program(&binaries, "initdb")
            .args(["--auth", "trust", "--username", "root", "--pgdata"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(Self { folder, binaries, port })
    }

    /// Starts it; again while something of the one before is still on its way out.
    async fn start(&self) {
        eventually("the server starts", async || self.starts()).await;
        eventually("it answers", async || PgConnection::connect(&self.url("postgres")).await.is_ok()).await;
    }

    fn starts(&self) -> bool {
        let data = self.folder.path().join("data");
        let options = format!("-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories=", self.port);
        let log = self.folder.path().join("log");
        let mut control = program(&self.binaries, "pg_ctl");
        control.args(["start", "--wait", "--options", &options, "--log"]).arg(log).arg("--pgdata").arg(data);
        // Its children would hold the pipes open for as long as the server runs.
        control.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// SIGKILL for the server and all of its children.
    fn kill(&self) {
        let pid = std::fs::read_to_string(self.folder.path().join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        let children = Command::new("pgrep").args(["-P", pid]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        let all: Vec<&str> = std::iter::once(pid).chain(children.lines()).collect();
        // Some children may have gone by themselves.
        let _ = Command::new("kill").arg("-KILL").args(all).stderr(Stdio::null()).status().unwrap();
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://root@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.folder.path().join("data");
        let _ = program(&self.binaries, "pg_ctl").args(["stop", "--mode", "immediate", "--pgdata"]).arg(data).output();
    }
}

/// What the callers saw.
#[derive(Default)]
struct Seen {
    answers: AtomicUsize,
    /// Calls whose outcome nobody knew.
    unclear: AtomicUsize,
    /// Of those, such that had happened.
    repeated: AtomicUsize,
    ended: AtomicBool,
}

/// Deducts again and again, each order until it is answered, wherever the service is by then.
async fn live(caller: usize, seen: Arc<Seen>, place: watch::Receiver<std::net::SocketAddr>) -> Vec<Deduction> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if seen.ended.load(Ordering::SeqCst) {
            break;
        }
        let order = order(&format!("req-{caller}-{number}"), &format!("user-{}", (caller + number) % USERS), "0.01");
        let mut unclear = false;
        loop {
            let address = *place.borrow();
            let mut request = tonic::Request::new(order.clone());
            request.set_timeout(Duration::from_secs(5));
            match BillingServiceClient::new(channel(address)).deduct(request).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    if unclear && answer.already_processed {
                        seen.repeated.fetch_add(1, Ordering::SeqCst);
                    }
                    assert!(unclear || !answer.already_processed, "it was said that nothing was done");
                    acknowledged.push(answer.deduction.unwrap());
                    seen.answers.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                Err(status) => {
                    let passing =
                        [Code::Unavailable, Code::DeadlineExceeded, Code::Unknown, Code::Cancelled, Code::Aborted];
                    let passes = passing.contains(&status.code()) || status.code() == Code::ResourceExhausted;
                    assert!(passes, "{status:?}");
                    // Whatever else it was, it may have happened.
                    let nothing_done = ["STORE_UNAVAILABLE", "CONFLICT", "OVERLOADED", "DRAINING"];
                    let info = status.get_details_error_info();
                    let clear = info.is_some_and(|info| nothing_done.contains(&info.reason.as_str()));
                    if !clear && !unclear {
                        unclear = true;
                        seen.unclear.fetch_add(1, Ordering::SeqCst);
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_power_ten_times_under_load_loses_nothing_and_charges_nothing_twice() {
    if variable("TRIVET_TEST_POSTGRES_URL").is_none() {
        return;
    }
    let Some(server) = Server::begin() else {
        writeln!(std::io::stderr(), "left out: no initdb in /usr/lib/postgresql, so that there is nothing to kill")
            .unwrap();
        return;
    };
    server.start().await;
    let databases = Databases::on(&server.url("postgres")).await;
    let settings = [("server.announce_ms", "0")];
    let start = async || Process::serve("all", &databases, &settings).await;
    let mut process = start().await;
    let mut accounts = AccountServiceClient::new(channel(process.addresses["account"]));
    for user in 0..USERS {
        let user_id = format!("user-{user}");
        accounts.ensure_account(person(&user_id)).await.unwrap();
        process.wallets().record_payment(payment(&format!("fund-{user}"), &user_id, "100000")).await.unwrap();
    }
    let seen = Arc::new(Seen::default());
    let (moved, place) = watch::channel(process.addresses["billing"]);
    let callers: Vec<_> = (0..CALLERS).map(|caller| tokio::spawn(live(caller, seen.clone(), place.clone()))).collect();
    for kill in 0..KILLS {
        let before = seen.answers.load(Ordering::SeqCst);
        eventually("they are answered", async || seen.answers.load(Ordering::SeqCst) >= before + ANSWERS + kill % 3)
            .await;
        // The service, the database, or both.
        if kill % 3 != 1 {
            process.kill();
        }
        if kill % 3 != 0 {
            server.kill();
            server.start().await;
        }
        if kill % 3 != 1 {
            process = start().await;
            moved.send_replace(process.addresses["billing"]);
        }
    }
    let before = seen.answers.load(Ordering::SeqCst);
    eventually("they are answered", async || seen.answers.load(Ordering::SeqCst) >= before + ANSWERS).await;
    seen.ended.store(true, Ordering::SeqCst);
    let mut acknowledged: BTreeMap<String, Deduction> = BTreeMap::new();
    for caller in callers {
        for deduction in caller.await.unwrap() {
            let before = acknowledged.insert(deduction.request_id.clone(), deduction);
            assert!(before.is_none(), "one answer for each id");
        }
    }
    // Else it has shown nothing.
    let (unclear, repeated) = (seen.unclear.load(Ordering::SeqCst), seen.repeated.load(Ordering::SeqCst));
    assert!(unclear > 0 && repeated > 0, "inconclusive: {unclear} unclear outcomes, {repeated} of them had happened");
    check(&process, acknowledged).await;
    process.end().await;
    databases.done().await;
    record("crash");
}

/// Every deduction that was acknowledged is in the books once, and nothing else is.
async fn check(process: &Process, mut acknowledged: BTreeMap<String, Deduction>) {
    let billing = channel(process.addresses["billing"]);
    for user in 0..USERS {
        let mut ask = ListTransactionsRequest {
            user_id: format!("user-{user}"),
            page_size: 1_000,
            ..ListTransactionsRequest::default()
        };
        loop {
            let page =
                WalletServiceClient::new(billing.clone()).list_transactions(ask.clone()).await.unwrap().into_inner();
            for change in page.transactions {
                if change.kind() == TransactionKind::Deduction {
                    let told = acknowledged.remove(&change.request_id);
                    let told = told.unwrap_or_else(|| panic!("{} was taken twice, or for nobody", change.request_id));
                    assert_eq!(
                        (told.transaction_id, told.wallet_version, told.balance_after),
                        (change.transaction_id, change.wallet_version, change.balance_after)
                    );
                }
            }
            ask.page_token = page.next_page_token;
            if ask.page_token.is_empty() {
                break;
            }
        }
    }
    assert!(acknowledged.is_empty(), "acknowledged and lost: {:?}", acknowledged.keys());
    let mut said =
        LedgerServiceClient::new(billing).verify_ledger(VerifyLedgerRequest::default()).await.unwrap().into_inner();
    let mut last = None;
    while let Some(message) = said.message().await.unwrap() {
        last = message.event;
    }
    assert!(matches!(last, Some(Event::Verdict(verdict)) if verdict.ok), "{last:?}");
}
