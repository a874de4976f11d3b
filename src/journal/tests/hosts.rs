//! The addresses of hosts over restarts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::reader::Reader;
use super::*;
use crate::model::Name;

fn host(name: &str) -> Name {
    name.parse().unwrap()
}

fn hosts(list: &[(&str, &[&str])]) -> BTreeMap<Name, Vec<IpAddr>> {
    let addresses = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    list.iter().map(|(name, list)| (host(name), addresses(list))).collect()
}

#[tokio::test]
async fn addresses_of_hosts_outlive_the_process_as_long_as_the_config_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, recalled) = open_good(dir.path()).await;
    assert_eq!(recalled.hosts, hosts(&[]));
    journal
        .save_hosts(hosts(&[("a.example.", &["192.0.2.1", "2001:db8::1"]), ("b.example.", &["192.0.2.2"])]));
    journal.close().await;

    let (journal, recalled) = open_good(dir.path()).await;
    assert_eq!(
        recalled.hosts,
        hosts(&[("a.example.", &["192.0.2.1", "2001:db8::1"]), ("b.example.", &["192.0.2.2"])])
    );
    journal.keep_only_hosts([host("a.example."), host("c.example.")].into());
    journal.save_hosts(hosts(&[("a.example.", &["192.0.2.9"])]));
    journal.close().await;
    assert_eq!(open_good(dir.path()).await.1.hosts, hosts(&[("a.example.", &["192.0.2.9"])]));
}

#[tokio::test]
async fn a_host_that_cannot_be_read_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open_good(dir.path()).await;
    journal.save_hosts(hosts(&[("a.example.", &["192.0.2.1"]), ("b.example.", &["192.0.2.2"])]));
    journal.close().await;
    db(dir.path()).execute("UPDATE host SET addresses = 'elsewhere' WHERE name = 'a.example.'", []).unwrap();
    let Opened { recalled, alarms, .. } = open(dir.path()).await;
    assert_eq!(recalled.hosts, hosts(&[("b.example.", &["192.0.2.2"])]));
    assert!(alarms[0].starts_with("the addresses of 1 hosts in the journal cannot be read"), "{alarms:?}");
}

/// The schema before, which has no table of hosts, is upgraded; on a read-only disk it is read as it is.
#[tokio::test]
async fn a_journal_without_hosts_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open_good(dir.path()).await;
    assert_durable(journal.put(drain(1, "region/eu-west"))).await;
    journal.save(vec![verdict("eu-west", State::Up)]);
    journal.close().await;
    db(dir.path()).execute_batch("DROP TABLE host; DROP TABLE audit; PRAGMA user_version = 4").unwrap();

    let rescued = Reader::rescue(&dir.path().join("portolan.db")).expect("it is readable");
    assert_eq!(rescued.overrides, [drain(1, "region/eu-west")]);
    assert_eq!(rescued.verdicts, [verdict("eu-west", State::Up)]);

    let (journal, recalled) = open_good(dir.path()).await;
    assert_eq!((recalled.overrides, recalled.verdicts), (rescued.overrides, rescued.verdicts));
    journal.save_hosts(hosts(&[("a.example.", &["192.0.2.1"])]));
    journal.close().await;
    assert_eq!(open_good(dir.path()).await.1.hosts, hosts(&[("a.example.", &["192.0.2.1"])]));
}

#[test]
fn addresses_that_could_not_be_saved_do_not_replace_newer_ones() {
    let mut older = Unsaved::default();
    older.save_hosts(hosts(&[("a.example.", &["192.0.2.1"]), ("gone.example.", &["192.0.2.2"])]));
    let mut unsaved = Unsaved::default();
    unsaved.keep_only_hosts([host("a.example.")].into());
    unsaved.save_hosts(hosts(&[("a.example.", &["192.0.2.9"])]));
    assert!(!unsaved.is_empty());
    unsaved.put_back(older);
    assert_eq!(unsaved.hosts, hosts(&[("a.example.", &["192.0.2.9"])]));
}
