mod backends;
mod events;
mod hosts;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use tokio::time::timeout;

use super::unsaved::Unsaved;
use super::*;
use crate::health::{SavedVerdict, Severity, State};
use crate::model::{CheckId, Fraction, Source, Subject, Unix};
use crate::standing::{Action, Override};

/// Far more than anything here needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// When the overrides here are made, and when they end.
const CREATED: u64 = 1_800_000_000;
const UNTIL: u64 = 1_800_001_800;

fn at(seconds: u64) -> Unix {
    Unix(Duration::from_secs(seconds))
}

fn drain(id: u64, target: &str) -> Override {
    Override {
        id,
        target: target.parse().unwrap(),
        action: Action::Drain(Fraction::parse("25%").unwrap()),
        created: at(CREATED),
        until: Some(at(UNTIL)),
        reason: Some("new kernel".into()),
        by: Some("token ci".into()),
    }
}

fn verdict(region: &str, state: State) -> VerdictRecord {
    let subject = Subject::Address {
        region: region.into(),
        endpoint: "lb1".into(),
        address: "2001:db8::1".parse().unwrap(),
    };
    let memory = SavedVerdict {
        state,
        since: at(CREATED),
        recovering: state.is_down().then(|| (2, at(CREATED + 5))),
        failures: 3,
        reason: state.is_down().then(|| "connection refused".into()),
    };
    let check = CheckId { subject, source: Source::Probe("ready".into()) };
    VerdictRecord { check, memory, seen: at(CREATED + 6) }
}

async fn open(dir: &Path) -> Opened {
    Journal::open(dir, at(CREATED)).await.unwrap()
}

/// Opens a journal that must raise no alarms.
async fn open_good(dir: &Path) -> (Journal, Recalled) {
    let Opened { journal, recalled, alarms } = open(dir).await;
    assert_eq!(alarms, [""; 0]);
    (journal, recalled)
}

/// The next notice, which must arrive.
async fn notice(journal: &mut Journal) -> Notice {
    timeout(PATIENCE, journal.notice()).await.expect("a notice")
}

async fn assert_durable(confirmation: Confirmation) {
    assert_eq!(confirmation.not_durable().await, None);
}

/// A second connection, to make changes that the journal itself never makes.
fn db(dir: &Path) -> Connection {
    Connection::open(dir.join("portolan.db")).unwrap()
}

/// The files that were moved aside, without SQLite's companion files.
fn damaged(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names
        .filter(|name| name.contains("damaged") && !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn overrides_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("made/by/open");
    let (journal, _) = open_good(&state_dir).await;
    assert_durable(journal.put(drain(1, "region/eu-west"))).await;
    let queued = [
        journal.put(drain(2, "endpoint/us-east/lb1")),
        journal.put(drain(3, "region/eu-west")),
        journal.remove(3),
        journal.remove(99),
    ];
    for confirmation in queued {
        assert_durable(confirmation).await;
    }
    journal.close().await;
    let (_, recalled) = open_good(&state_dir).await;
    assert_eq!(recalled.overrides, [drain(2, "endpoint/us-east/lb1")]);
    assert_eq!(recalled.last_override, 3, "an id is never used twice");
}

#[tokio::test]
async fn closing_writes_what_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open_good(dir.path()).await;
    drop(journal.put(drain(1, "region/eu-west")));
    journal.save(vec![verdict("eu-west", State::Up)]);
    journal.close().await;
    let (_, recalled) = open_good(dir.path()).await;
    assert_eq!(recalled.overrides, [drain(1, "region/eu-west")]);
    assert_eq!(recalled.verdicts, [verdict("eu-west", State::Up)]);
}

#[tokio::test]
async fn journals_of_earlier_schemas_are_upgraded() {
    let first = "CREATE TABLE override (
             id      INTEGER PRIMARY KEY AUTOINCREMENT,
             target  TEXT NOT NULL,
             action  TEXT NOT NULL CHECK (action IN ('drain', 'up', 'down')),
             share   REAL NOT NULL CHECK (share BETWEEN 0 AND 1),
             created INTEGER NOT NULL,
             until   INTEGER,
             reason  TEXT
         ) STRICT;
         INSERT INTO override (id, target, action, share, created, until, reason)
         VALUES (7, 'region/eu-west', 'drain', 0.25, 1800000000000, 1800001800000, 'new kernel');
         PRAGMA user_version = 1;";
    let second = "ALTER TABLE override ADD COLUMN said_by TEXT;
         UPDATE override SET said_by = 'token ci';
         PRAGMA user_version = 2;";
    for (sql, by) in [(first.to_owned(), None), ([first, second].concat(), Some("token ci".to_owned()))] {
        let dir = tempfile::tempdir().unwrap();
        db(dir.path()).execute_batch(&sql).unwrap();
        let (journal, recalled) = open_good(dir.path()).await;
        assert_eq!(recalled.overrides, [Override { by, ..drain(7, "region/eu-west") }]);
        assert_durable(journal.put(drain(8, "region/eu-west"))).await;
        journal.save(vec![verdict("eu-west", State::Up)]);
        journal.close().await;
        let (_, recalled) = open_good(dir.path()).await;
        assert_eq!(recalled.overrides, [drain(8, "region/eu-west")]);
        assert_eq!(recalled.verdicts, [verdict("eu-west", State::Up)]);
    }
}

#[tokio::test]
async fn a_damaged_file_is_moved_aside() {
    for content in
        ["", "this is a shopping list, at least sixteen bytes", "SQLite format 3\0 and nothing that follows"]
    {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("portolan.db"), content).unwrap();
        fs::write(dir.path().join("portolan.db-wal"), "of the same kind").unwrap();
        let Opened { journal, recalled, alarms } = open(dir.path()).await;
        assert_eq!(recalled, Recalled::default());
        let [aside] = &damaged(dir.path())[..] else { panic!("{content:?}") };
        assert_eq!(aside, "portolan.db.damaged-20270115T080000Z");
        assert!(alarms.len() == 1 && alarms[0].contains(aside), "{alarms:?}");
        assert_eq!(fs::read_to_string(dir.path().join(aside)).unwrap(), content);
        assert!(dir.path().join(format!("{aside}-wal")).exists());
        assert_durable(journal.put(drain(1, "region/eu-west"))).await;
        journal.close().await;
        let (_, recalled) = open_good(dir.path()).await;
        assert_eq!(recalled.overrides, [drain(1, "region/eu-west")]);
    }
}

#[tokio::test]
async fn a_second_damaged_file_does_not_replace_the_first() {
    let dir = tempfile::tempdir().unwrap();
    for content in ["the first shopping list", "the second shopping list"] {
        fs::write(dir.path().join("portolan.db"), content).unwrap();
        open(dir.path()).await.journal.close().await;
    }
    let kept = damaged(dir.path()).into_iter().map(|name| fs::read_to_string(dir.path().join(name)).unwrap());
    assert_eq!(kept.collect::<Vec<_>>(), ["the first shopping list", "the second shopping list"]);
}

/// Every file here was a journal once; it is either read unchanged or moved aside.
#[tokio::test]
async fn a_truncated_or_overwritten_file_never_stops_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open_good(dir.path()).await;
    for id in 1..=100 {
        drop(journal.put(drain(id, &format!("region/r{id}"))));
    }
    journal.save((0..100).map(|it| verdict(&format!("r{it}"), State::Up)).collect());
    journal.close().await;
    let whole = fs::read(dir.path().join("portolan.db")).unwrap();
    let (_, good) = open_good(dir.path()).await;
    assert_eq!((good.overrides.len(), good.verdicts.len()), (100, 100));
    let pages = whole.len() / 4096;
    let cut = (1..whole.len()).step_by(3001).map(|length| whole[..length].to_vec());
    let overwritten = (0..pages).map(|page| {
        let mut content = whole.clone();
        content[page * 4096..][..4096].fill(0xa5);
        content
    });
    let mut moved = 0;
    for content in cut.chain(overwritten) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("portolan.db"), &content).unwrap();
        let Opened { journal, recalled, alarms } = open(dir.path()).await;
        match damaged(dir.path()).len() {
            0 => assert!(recalled == good && alarms.is_empty(), "{alarms:?}"),
            _ => assert!(recalled == Recalled::default() && alarms.len() == 1, "{alarms:?}"),
        }
        moved += damaged(dir.path()).len();
        assert_durable(journal.put(drain(101, "region/eu-west"))).await;
    }
    assert_eq!(moved, (whole.len() - 1).div_ceil(3001) + pages);
}

#[tokio::test]
async fn a_file_without_our_tables_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    db(dir.path()).execute_batch("CREATE TABLE shopping (list TEXT); PRAGMA user_version = 5").unwrap();
    let Opened { alarms, .. } = open(dir.path()).await;
    assert!(alarms[0].contains("no such table"), "{alarms:?}");
    assert_eq!(damaged(dir.path()).len(), 1);
}

#[tokio::test]
async fn a_later_schema_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    open_good(dir.path()).await.0.close().await;
    db(dir.path()).pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(dir.path().join("portolan.db")).unwrap();
    let Opened { journal, recalled, alarms } = open(dir.path()).await;
    assert_eq!(recalled, Recalled::default());
    assert!(alarms.len() == 1 && alarms[0].contains("written by a later version"), "{alarms:?}");
    let message = journal.put(drain(1, "region/eu-west")).not_durable().await.unwrap();
    assert!(message.starts_with("this holds until the next restart only: the journal"), "{message}");
    assert_durable(journal.remove(1)).await;
    journal.close().await;
    assert_eq!(fs::read(dir.path().join("portolan.db")).unwrap(), before);
    assert_eq!(damaged(dir.path()), [""; 0]);
}

#[tokio::test]
async fn only_an_unreadable_row_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open_good(dir.path()).await;
    for (id, target) in [(1, "region/eu"), (2, "region/us"), (3, "region/ap")] {
        assert_durable(journal.put(drain(id, target))).await;
    }
    journal.save(vec![verdict("eu", State::Up), verdict("us", State::Up)]);
    journal.close().await;
    let spoil = "UPDATE override SET target = 'galaxy/us' WHERE id = 2;
         UPDATE verdict SET address = 'elsewhere' WHERE region = 'us';
         DELETE FROM override WHERE id = 3;
         DELETE FROM sqlite_sequence;
         INSERT INTO override SELECT 9, 'region/sa', action, share, created, until, reason, said_by FROM override WHERE id = 1;
         UPDATE override SET target = 'mars' WHERE id = 9;
         DELETE FROM sqlite_sequence;";
    db(dir.path()).execute_batch(spoil).unwrap();
    let Opened { journal, recalled, alarms } = open(dir.path()).await;
    assert_eq!(recalled.overrides, [drain(1, "region/eu")]);
    assert_eq!(recalled.verdicts, [verdict("eu", State::Up)]);
    assert_eq!(recalled.last_override, 9, "ids go on after the largest");
    let about =
        ["override 2 on `galaxy/us`", "override 9 on `mars`", "1 verdicts in the journal cannot be read"];
    assert_eq!(alarms.len(), about.len(), "{alarms:?}");
    for (alarm, about) in alarms.iter().zip(about) {
        assert!(alarm.starts_with(about), "{alarm}");
    }
    assert_durable(journal.put(drain(10, "region/us"))).await;
}

#[tokio::test]
async fn overrides_that_ended_while_the_node_was_stopped_never_return() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open_good(dir.path()).await;
    assert_durable(journal.put(drain(1, "region/eu-west"))).await;
    let forever = Override { until: None, ..drain(2, "region/us-east") };
    assert_durable(journal.put(forever.clone())).await;
    journal.close().await;
    // Until it is removed it is there, but never applies again.
    for now in [UNTIL - 1, UNTIL, CREATED] {
        let Opened { journal, recalled, .. } = Journal::open(dir.path(), at(now)).await.unwrap();
        let ended = if now == UNTIL - 1 { vec![] } else { vec![drain(1, "region/eu-west")] };
        assert_eq!(recalled.overrides.len(), 2 - ended.len(), "at {now}");
        assert_eq!(recalled.overrides.last(), Some(&forever));
        assert_eq!(recalled.ended, ended, "at {now}");
        journal.close().await;
    }
    let (journal, _) = open_good(dir.path()).await;
    assert_durable(journal.remove(1)).await;
    journal.close().await;
    let (_, recalled) = open_good(dir.path()).await;
    assert_eq!((recalled.overrides, recalled.ended), (vec![forever], vec![]));
}

#[tokio::test]
async fn a_clock_that_starts_in_the_past_revives_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open_good(dir.path()).await;
    assert_durable(journal.put(drain(1, "region/eu-west"))).await;
    journal.close().await;
    // Like a node that ran until after the end of the override but could not remove it.
    db(dir.path()).execute("UPDATE clock SET newest = ?1", [(UNTIL * 1000).cast_signed()]).unwrap();
    let Opened { recalled, .. } = Journal::open(dir.path(), at(0)).await.unwrap();
    assert_eq!(recalled.overrides, []);
}

#[tokio::test]
async fn a_clock_that_was_briefly_ahead_ends_no_later_override() {
    let dir = tempfile::tempdir().unwrap();
    let ahead = Journal::open(dir.path(), at(UNTIL + 1_000_000)).await.unwrap().journal;
    ahead.close().await;
    let (journal, _) = open_good(dir.path()).await;
    assert_durable(journal.put(drain(1, "region/eu-west"))).await;
    journal.close().await;
    assert_eq!(open_good(dir.path()).await.1.overrides, [drain(1, "region/eu-west")]);
}

#[tokio::test]
async fn verdicts_are_replaced_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open_good(dir.path()).await;
    let down = |severity| State::Down(severity);
    journal.save(vec![
        verdict("ap", down(Severity::Soft)),
        verdict("eu", State::Up),
        verdict("sa", State::Degraded),
        verdict("us", down(Severity::Hard)),
    ]);
    journal.close().await;
    let (journal, _) = open_good(dir.path()).await;
    journal.save(vec![verdict("eu", down(Severity::Hard))]);
    journal.close().await;
    let (journal, recalled) = open_good(dir.path()).await;
    let expected = [
        verdict("ap", down(Severity::Soft)),
        verdict("eu", down(Severity::Hard)),
        verdict("sa", State::Degraded),
        verdict("us", down(Severity::Hard)),
    ];
    assert_eq!(recalled.verdicts, expected);

    journal.keep_only(["eu", "us", "new"].map(|region| verdict(region, State::Up).check).into());
    journal.save(vec![verdict("new", State::Up)]);
    journal.close().await;
    let (_, recalled) = open_good(dir.path()).await;
    let checks: Vec<_> = recalled.verdicts.iter().map(|record| record.check.clone()).collect();
    assert_eq!(checks, ["eu", "new", "us"].map(|region| verdict(region, State::Up).check));
}

#[test]
fn records_that_could_not_be_saved_do_not_replace_newer_ones() {
    let mut older = Unsaved::default();
    older.save([verdict("eu", State::Up), verdict("gone", State::Up), verdict("us", State::Up)]);
    let mut unsaved = Unsaved::default();
    let only: BTreeSet<_> = ["eu", "us"].map(|region| verdict(region, State::Up).check).into();
    unsaved.keep_only(only.clone());
    unsaved.save([verdict("eu", State::Degraded)]);
    unsaved.put_back(older);
    let records: Vec<_> = unsaved.records.into_values().collect();
    assert_eq!(records, [verdict("eu", State::Degraded), verdict("us", State::Up)]);
    assert_eq!(unsaved.only, Some(only));
}

#[tokio::test]
async fn failures_are_reported_once_and_changes_written_after_recovery() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open_good(dir.path()).await;
    let other = db(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for id in 1..=2 {
        let message = journal.put(drain(id, &format!("region/r{id}"))).not_durable().await.unwrap();
        assert!(message.starts_with("not durable yet: the journal "), "{message}");
    }
    journal.save(vec![verdict("eu", State::Up)]);
    other.execute_batch("ROLLBACK").unwrap();
    let Notice::Failing(why) = notice(&mut journal).await else { panic!("it fails first") };
    assert!(why.contains("database is locked"), "{why}");
    assert_eq!(
        notice(&mut journal).await,
        Notice::Recovered("the journal is written again and complete".into())
    );
    journal.close().await;
    let (_, recalled) = open_good(dir.path()).await;
    assert_eq!(recalled.overrides, [drain(1, "region/r1"), drain(2, "region/r2")]);
    assert_eq!(recalled.verdicts.len(), 1);
}

#[tokio::test]
async fn a_full_queue_refuses_changes_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open_good(dir.path()).await;
    let other = db(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = (1..).find_map(|id| match journal.put(drain(id, &format!("region/r{id}"))) {
        Confirmation::NotDurable(why) => Some(why),
        _ => None,
    });
    assert_eq!(refused.as_deref(), Some("not durable yet: too many changes wait for the journal"));
    assert!(matches!(notice(&mut journal).await, Notice::Failing(_)));
    other.execute_batch("ROLLBACK").unwrap();
    let Notice::Recovered(message) = notice(&mut journal).await else { panic!("it recovers") };
    assert!(message.contains("because its queue was full"), "{message}");
}

#[tokio::test]
async fn an_unusable_state_directory_is_an_error_in_the_config() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    fs::write(&file, "").unwrap();
    for state_dir in [file.clone(), file.join("below")] {
        let error = format!("{:#}", Journal::open(&state_dir, at(CREATED)).await.unwrap_err());
        assert!(
            error.contains("cannot create the state directory") && error.contains("[node] state_dir"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_journal_that_is_not_a_file_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("portolan.db")).unwrap();
    let Opened { journal, alarms, .. } = open(dir.path()).await;
    assert!(alarms.len() == 1 && alarms[0].contains("cannot be used"), "{alarms:?}");
    assert!(journal.put(drain(1, "region/eu-west")).not_durable().await.is_some());
}

#[tokio::test]
async fn a_second_node_may_not_use_the_same_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open_good(dir.path()).await;
    assert_durable(journal.put(drain(1, "region/eu-west"))).await;
    let refused = Journal::open(dir.path(), at(CREATED)).await.unwrap_err().to_string();
    assert!(refused.starts_with("another node uses the state directory"), "{refused}");
    journal.close().await;
    let (_, recalled) = open_good(dir.path()).await;
    assert_eq!(recalled.overrides, [drain(1, "region/eu-west")]);
}

#[tokio::test]
async fn other_users_can_read_neither_the_directory_nor_the_files() {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("state");
    let (journal, _) = open_good(&dir).await;
    assert_durable(journal.put(drain(1, "region/eu-west"))).await;
    assert_eq!(mode(&dir), 0o700);
    for file in ["portolan.db", "portolan.db-wal", "portolan.db-shm"] {
        assert_eq!(mode(&dir.join(file)), 0o600, "{file}");
    }
    journal.close().await;
    // A file that an earlier version left readable is restricted; the mode of an existing directory is its owner's.
    fs::set_permissions(dir.join("portolan.db"), Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o750)).unwrap();
    open_good(&dir).await.0.close().await;
    assert_eq!((mode(&dir), mode(&dir.join("portolan.db"))), (0o750, 0o600));
}

/// SQLite writes to a file that was removed or replaced without an error.
#[tokio::test]
async fn a_file_that_was_removed_or_replaced_is_noticed() {
    for replace in [false, true] {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("state");
        let (mut journal, _) = open_good(&dir).await;
        assert_durable(journal.put(drain(1, "region/eu-west"))).await;
        fs::remove_dir_all(&dir).unwrap();
        if replace {
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("portolan.db"), "another file").unwrap();
        }
        journal.beat();
        let Notice::Failing(why) = notice(&mut journal).await else { panic!("not noticed") };
        let what = if replace { "was replaced" } else { "was removed" };
        assert!(why.contains(what), "{why}");
        let why = journal.put(drain(2, "region/us-east")).not_durable().await.unwrap();
        assert!(why.contains(what), "{why}");
    }
}
