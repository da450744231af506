//! A process of its own, that can be killed as a machine kills one: the test binary again, with an errand.

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{Arc, Mutex},
};

use mesh::events::Handlers;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child as Process, Command},
    task::JoinHandle,
};

use crate::{
    felt::{self, Moods},
    ground::{Ground, setting},
    house::{House, Stores},
    told::{self, Load},
    waiting::in_time,
};

/// The variable that has the errand.
const ERRAND: &str = "TRIVET_TEST_ERRAND";
/// What a line of a child begins with that acknowledges a transaction.
const ACKNOWLEDGED: &str = "acknowledged";

/// What a child does until it is killed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) ground: Ground,
    pub(crate) source: bool,
    pub(crate) sink: bool,
    pub(crate) load: Option<Load>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_without_an_errand_does_nothing() {
    let Some(errand) = setting(ERRAND) else { return };
    let errand: Errand = serde_json::from_str(&errand).unwrap();
    let (stores, moods) = (Stores::default(), Moods::default());
    let source = errand.source.then(|| told::source(&stores, Handlers::default()));
    let sink = errand.sink.then(|| felt::sink("sink", &stores, &moods));
    let plan = errand.ground.plan(source.into_iter().chain(sink).collect());
    let house = House::start(plan, stores, moods).await;
    if let Some(load) = errand.load {
        let say = |versions: &[(String, i64)]| {
            for (subject, version) in versions {
                println!("{ACKNOWLEDGED} {subject} {version}");
            }
        };
        load.write(&house.source(), say).await;
    }
    // Without its parent it has no errand any more.
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    let _ = ended.await;
    drop(house);
}

/// The last acknowledged version of each thing.
#[derive(Clone, Default)]
pub(crate) struct Acknowledged(Arc<Mutex<BTreeMap<String, i64>>>);

impl Acknowledged {
    /// Everything that was acknowledged is there.
    pub(crate) fn are_in(&self, outbox: &[told::Told]) {
        let mut last: BTreeMap<&str, i64> = BTreeMap::new();
        for told in outbox {
            let version = last.entry(&told.subject).or_default();
            assert_eq!(told.version, *version + 1, "the outbox has the versions of {} in their order", told.subject);
            *version = told.version;
        }
        let acknowledged = self.0.lock().unwrap();
        assert!(!acknowledged.is_empty(), "nothing was acknowledged");
        for (subject, version) in acknowledged.iter() {
            let there = last.get(subject.as_str()).copied().unwrap_or_default();
            assert!(there >= *version, "version {version} of {subject} was acknowledged, {there} is there");
        }
    }
}

/// A running child.
pub(crate) struct Child {
    process: Process,
    reading: JoinHandle<()>,
}

impl Child {
    pub(crate) fn start(errand: &Errand, acknowledged: &Acknowledged) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["child::a_child_without_an_errand_does_nothing", "--exact", "--nocapture"])
            .env(ERRAND, serde_json::to_string(errand).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let acknowledged = acknowledged.clone();
        let reading = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let words: Vec<&str> = line.split(' ').collect();
                if let [ACKNOWLEDGED, subject, version] = words[..] {
                    let version: i64 = version.parse().unwrap();
                    let mut all = acknowledged.0.lock().unwrap();
                    let last = all.entry(subject.to_owned()).or_default();
                    *last = version.max(*last);
                }
            }
        });
        Self { process, reading }
    }

    /// SIGKILL, and no more of it: whatever it had acknowledged is known afterwards.
    pub(crate) async fn kill(mut self) {
        assert!(self.process.try_wait().unwrap().is_none(), "the child has ended by itself");
        in_time("killing", self.process.kill()).await.unwrap();
        in_time("reading", self.reading).await.unwrap();
    }
}
