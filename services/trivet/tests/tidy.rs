//! The invariants of services/README.md that a compiler does not look after.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use mesh::Reason;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use sha2::{Digest as _, Sha256};
use trivet::{Config, RoleName};

const SERVICES: [&str; 3] = ["account", "product", "billing"];

/// Every migration that has landed, and what it was. One that differs was changed: write the next one instead.
const LANDED: &[(&str, &str, &str)] = &[
    ("account", "m0000_secrets", "1b326db5d21683fa"),
    ("account", "m0001_accounts", "d1395ce0aa19c2ac"),
    ("account", "m0000_requests", "31b29a8a553908b4"),
    ("account", "m0002_whole_accounts", "dedd3281b2eff5d2"),
    ("account", "m0003_history", "866be852c98dc586"),
    ("account", "m0004_organizations", "02343fdafcfadb4d"),
    ("account", "m0005_api_keys", "23e47f4a057ad9cb"),
    ("account", "m0000_outbox", "7d770efabccc3a02"),
    ("account", "m0000_outbox_order", "8788cbe71d740e25"),
    ("account", "m0000_inbox", "b5b924b47fdaa94c"),
    ("account", "m0000_letters", "457fcc889f4c8747"),
    ("account", "m0000_outbox_positions", "0f12bef8ba6e0769"),
    ("account", "m0000_outbox_waiting", "ecb213ac255baa38"),
    ("product", "m0000_secrets", "1b326db5d21683fa"),
    ("product", "m0000_requests", "31b29a8a553908b4"),
    ("product", "m0001_products", "086d1d897c50f598"),
    ("product", "m0002_subscriptions", "bd5e7c437df8d686"),
    ("product", "m0000_outbox", "7d770efabccc3a02"),
    ("product", "m0000_outbox_order", "8788cbe71d740e25"),
    ("product", "m0000_inbox", "b5b924b47fdaa94c"),
    ("product", "m0000_letters", "457fcc889f4c8747"),
    ("product", "m0000_outbox_positions", "0f12bef8ba6e0769"),
    ("product", "m0000_outbox_waiting", "ecb213ac255baa38"),
    ("product", "m0003_buyers", "b00c04b84d37eb2e"),
    ("product", "m0004_prices", "f75503696a3e15cd"),
    ("product", "m0005_plans", "91750864f151ea99"),
    ("product", "m0006_subscriptions_live", "d678b47174a74b95"),
    ("product", "m0007_usage", "31247a84973b2921"),
    ("product", "m0008_catalog", "e763524a70d96bff"),
    ("product", "m0009_following", "26b34a5491519e56"),
    ("product", "m0010_bytes", "b8cd504b653e1f07"),
    ("billing", "m0000_secrets", "1b326db5d21683fa"),
    ("billing", "m0000_requests", "31b29a8a553908b4"),
    ("billing", "m0001_ledger", "d2fa20a481c1c04d"),
    ("billing", "m0000_outbox", "7d770efabccc3a02"),
    ("billing", "m0000_outbox_order", "8788cbe71d740e25"),
    ("billing", "m0000_inbox", "b5b924b47fdaa94c"),
    ("billing", "m0000_letters", "457fcc889f4c8747"),
    ("billing", "m0000_outbox_positions", "0f12bef8ba6e0769"),
    ("billing", "m0000_outbox_waiting", "ecb213ac255baa38"),
    ("billing", "m0002_books", "29246dd4fa9802c1"),
    ("billing", "m0003_holds", "fdc1d412b7a475ec"),
    ("billing", "m0004_charges", "c8192cf506fa7798"),
    ("billing", "m0005_taken_back", "d88404418902504f"),
    ("billing", "m0006_owners", "b45b589942fda9ac"),
    ("billing", "m0007_set_off", "27fa8d4e0190a177"),
    ("billing", "m0008_wallets_without_length", "1dab73d2e62972ad"),
    ("billing", "m0009_deductions_counted", "1db625a8e7288631"),
    ("billing", "m0010_deductions_by_version", "e178ca673567d564"),
];

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files of this ending below a folder, as paths from the root, in order.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// The code of a file without its comments.
fn code(path: &str) -> String {
    let text = read(path);
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_service_never_depends_on_another_service() {
    for service in SERVICES {
        let manifest = read(&format!("services/{service}/Cargo.toml"));
        for other in SERVICES.iter().filter(|other| **other != service) {
            assert!(
                !manifest.lines().any(|line| line.starts_with(&format!("{other} "))),
                "{service} depends on {other}"
            );
        }
    }
}

#[test]
fn only_the_wire_names_tonic_and_only_the_rows_name_sea_orm() {
    for service in SERVICES {
        for path in files(&format!("services/{service}/src"), ".rs") {
            let code = code(&path);
            let is_wire = path.ends_with("/rpc.rs") || path.contains("/rpc/");
            let is_rows = path.ends_with("/table.rs") || path.contains("/table/") || path.contains("/migrations");
            assert!(is_wire || !code.contains("tonic"), "{path} names tonic");
            // That a column's group is nested is a part of `mesh::store::Row`, whose derive calls it so.
            let code = code.replace("#[sea_orm(nested)]", "");
            assert!(is_rows || !code.contains("sea_orm"), "{path} names sea-orm");
        }
    }
    for path in files("services/mesh/src", ".rs") {
        let rows = [
            "clock.rs",
            "id.rs",
            "claim.rs",
            "claim/many.rs",
            "events/outbox.rs",
            "events/outbox/changes.rs",
            "events/outbox/refused.rs",
            "events/inbox.rs",
            "events/letters.rs",
            "events/cloud.rs",
        ];
        let rows = rows.iter().any(|file| path.ends_with(&format!("src/{file}")));
        let is_store = path.contains("/store");
        assert!(is_store || rows || !code(&path).contains("sea_orm"), "{path} names sea-orm");
    }
}

#[test]
fn there_is_one_binary() {
    let manifests: Vec<String> = files("services", "Cargo.toml").into_iter().chain(["Cargo.toml".to_owned()]).collect();
    let bins: usize = manifests.iter().map(|path| read(path).matches("[[bin]]").count()).sum();
    assert_eq!(bins, 1);
    let mains = files("services", "/main.rs").into_iter().filter(|path| path.contains("/src/"));
    assert_eq!(mains.collect::<Vec<_>>(), ["services/trivet/src/main.rs"]);
}

#[test]
fn each_rpc_has_a_request_and_a_response_of_its_own_and_is_in_the_method_table() {
    let contract = FileDescriptorSet::decode(trivet_proto::DESCRIPTORS).unwrap();
    let mut rpcs = 0;
    for file in contract.file.iter().filter(|file| file.package().starts_with("trivet.")) {
        for service in &file.service {
            for method in &service.method {
                let of = |suffix: &str| format!(".{}.{}{suffix}", file.package(), method.name());
                assert_eq!(method.input_type(), of("Request"));
                assert_eq!(method.output_type(), of("Response"));
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                assert!(trivet_proto::method(&path).is_some(), "{path} is not in the method table");
                rpcs += 1;
            }
        }
    }
    assert_eq!(rpcs, trivet_proto::METHODS.len());
}

#[test]
fn a_migration_that_has_landed_never_changes() {
    let mut now = Vec::new();
    for name in RoleName::ALL {
        for migration in name.role(&Config::default()).migrations {
            let text = format!("{migration:?}");
            let hash: String = Sha256::digest(&text).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            now.push((name.as_str(), migration.name(), hash));
        }
    }
    let now: Vec<_> = now.iter().map(|(role, name, hash)| (*role, *name, hash.as_str())).collect();
    assert_eq!(now, LANDED, "append what is new to LANDED, and change nothing that is there");
}

#[test]
fn no_file_is_so_long_that_nobody_reads_it() {
    const LINES: usize = 450;
    for path in files("services", ".rs").into_iter().chain(files("proto", ".rs")) {
        let lines = read(&path).lines().count();
        assert!(lines <= LINES, "{path} has {lines} lines; past about 400 a file is two");
    }
}

#[test]
fn every_module_says_first_why_it_is_there() {
    for path in files("services", ".rs") {
        assert!(read(&path).starts_with("//!"), "{path} does not begin with its purpose");
    }
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    let words = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "#[should_panic", "TODO", "FIXME"];
    for path in files("services", ".rs").into_iter().filter(|path| !path.ends_with("tests/tidy.rs")) {
        for word in words {
            assert!(!read(&path).contains(word), "{path} holds {word}");
        }
        let is_test = path.contains("/tests/") || path.ends_with("/tests.rs");
        // A slow statement is another thing than a test that hopes that something has happened by then.
        let code = code(&path).replace("pg_sleep(", "");
        assert!(!is_test || !code.contains("sleep("), "{path} sleeps; wait for a condition");
    }
}

#[test]
fn every_reason_that_the_contract_names_is_one_of_the_enum() {
    let known: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(known.len(), Reason::ALL.len(), "two reasons go by one name");
    for path in files("proto/trivet", ".proto") {
        let text = read(&path);
        for word in text.split('`').skip(1).step_by(2) {
            let shouted =
                word.len() > 4 && word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            let enum_value = text.contains(&format!("  {word} = ")) || text.contains(&format!("_{word} = "));
            assert!(!shouted || enum_value || known.contains(word), "{path} names {word}, which is not a reason");
        }
    }
}

#[test]
fn the_settings_table_of_the_runbook_is_what_the_binary_prints() {
    let runbook = read("deploy/README.md");
    let (_, rest) = runbook.split_once("<!-- settings: begin -->\n").expect("the runbook has a settings table");
    let (table, _) = rest.split_once("<!-- settings: end -->").unwrap();
    assert_eq!(table.trim(), trivet::commands::manual().trim(), "paste what `trivet config manual` prints");
}
