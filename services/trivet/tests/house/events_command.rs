//! `trivet events`, as the one who runs it sees it.

use std::{pin::pin, process::Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use trivet::RoleName;
use trivet_proto::account::v1::account_service_client::AccountServiceClient;

use crate::{
    event_service::{Other, Row},
    harness::{Databases, channel, config, eventually, person},
    process::{Process, binary, line_with},
};

/// The command against a process: whether it went well, and what it said.
async fn run(process: &Process, arguments: &[&str]) -> (bool, String) {
    let output = binary(&[&["events"], arguments].concat(), &ports(process)).output().await.unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// The settings of a process of all three services on this machine.
fn ports(process: &Process) -> Vec<(String, String)> {
    let port =
        |role: RoleName| (format!("{}.port", role.as_str()), process.addresses[role.as_str()].port().to_string());
    RoleName::ALL.map(port).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_shown_mended_and_told_again_from_the_command_line() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let process = Process::serve("all", &databases, &[("server.announce_ms", "0")]).await;
        assert_eq!(run(&process, &["dead"]).await, (true, "There are no dead letters.\n".to_owned()));
        assert_eq!(run(&process, &["flow"]).await, (true, "No events were told or heard.\n".to_owned()));
        // Nobody knows users who are cloned, and a name can be more than a terminal likes.
        let account = Other::at(&config(&databases, &[]), RoleName::Account).await;
        account.tell(Row::of("evt_cloned", "user.cloned", "ada\u{1b}[31m")).await;
        let told = async || run(&process, &["dead"]).await.1.lines().count() == 4;
        eventually("three dead letters and their header", told).await;
        let (_, table) = run(&process, &["dead"]).await;
        assert!(table.starts_with("TIME") && table.lines().next().unwrap().ends_with("ATTEMPTS  WAITING  CAUSE"));
        for role in RoleName::ALL {
            let line = table.lines().find(|line| line.contains(&format!("  {}  ", role.as_str()))).expect(&table);
            for part in ["user.cloned", "ada\u{fffd}[31m", "evt_cloned", "not known to this release"] {
                assert!(line.contains(part), "{line}");
            }
        }
        let billing = process.addresses["billing"].to_string();
        let none = run(&process, &["dead", "--address", &billing, "--tenant", "acme"]).await;
        assert_eq!(none, (true, "There are no dead letters.\n".to_owned()));
        let discard = ["dead", "--address", &billing, "--discard", "evt_cloned"];
        assert_eq!(run(&process, &discard).await, (true, format!("evt_cloned is discarded ({billing})\n")));
        let (well, said) = run(&process, &discard).await;
        assert!(!well && said.contains("there is no dead letter of an event evt_cloned"), "{said}");
        let (well, said) = run(&process, &["dead", "--replay", "evt_cloned"]).await;
        assert_eq!((well, said.as_str()), (true, "evt_cloned is tried again (account, product)\n"));
        let (_, table) = run(&process, &["flow"]).await;
        for row in ["account  user.cloned  -         1          1", "product  user.cloned  product   1          0"] {
            assert!(table.contains(row), "{table}");
        }
        let (well, said) = run(&process, &["replay", "--from", "2023-01-01T00:00:00Z"]).await;
        let steps: Vec<&str> = said.lines().filter(|line| line.starts_with("account")).collect();
        assert!(well, "{said}");
        assert_eq!(steps, ["account: 0 of 1 events are told again", "account: 1 of 1 events are told again"]);
        assert!(!run(&process, &["replay", "--from", "yesterday"]).await.0);
        process.end().await;
        let (well, said) = run_nowhere(&databases).await;
        assert!(!well && said.contains("trivet: nobody answered"), "{said}");
        databases.done().await;
    }
}

/// The command where nobody serves.
async fn run_nowhere(databases: &Databases) -> (bool, String) {
    let output = binary(&["events", "flow", "--address", "127.0.0.1:1"], &databases.settings()).output().await.unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_prints_json_line_by_line_until_it_is_interrupted() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let process = Process::serve("all", &databases, &[("server.announce_ms", "0")]).await;
        let mut accounts = AccountServiceClient::new(channel(process.addresses["account"]));
        let mut child = binary(&["events", "tail", "--type", "user.created"], &ports(&process))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Nobody knows when it has begun: somebody comes every now and then.
        let coming = async {
            for number in 0.. {
                accounts.ensure_account(person(&format!("user-{number}"))).await.unwrap();
            }
        };
        let first = tokio::select! {
            first = line_with(&mut lines, "user-") => first,
            () = coming => unreachable!(),
        };
        let line: Value = serde_json::from_str(&first).unwrap();
        let id = line["event_id"].as_str().unwrap();
        assert!(first.starts_with("{\"event_id\":\"evt_"), "{first}");
        assert_eq!((&line["type"], &line["source"]), (&"user.created".into(), &"trivet.dev/account".into()));
        assert_eq!((&line["aggregate_version"], &line["data"]["userId"]), (&1.into(), &line["subject"]));
        assert!(line["time"].as_str().unwrap().ends_with('Z') && line["traceparent"].is_string(), "{first}");
        let pid = child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        assert!(child.wait().await.unwrap().success());

        let last = accounts.ensure_account(person("the-last")).await.unwrap();
        assert!(last.into_inner().created);
        let account = process.addresses["account"].to_string();
        let after = ["events", "tail", "--address", &account, "--after", id, "--subject", "the-last"];
        let mut child = binary(&after, &[]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = pin!(BufReader::new(child.stdout.take().unwrap()).lines());
        let line: Value = serde_json::from_str(&line_with(&mut lines, "the-last").await).unwrap();
        assert_eq!(line["subject"], "the-last");
        // An id is one service's; which one's must be said.
        assert!(!run(&process, &["tail", "--after", id]).await.0);
        process.end().await;
        assert!(!child.wait().await.unwrap().success(), "the stream ended before its reader");
        databases.done().await;
    }
}
