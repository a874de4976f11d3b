//! Events over restarts.

use std::sync::Arc;

use super::*;
use crate::model::{AuditKind, AuditRecord, EventRecord};

fn event(id: u64) -> Arc<EventRecord> {
    Arc::new(EventRecord {
        id,
        at: at(CREATED + id),
        epoch: 3,
        name: "restore".into(),
        message: "override 3 removed by token \"ci\"".into(),
        fields: vec![("number".into(), "3".into()), ("by".into(), "token \"ci\"".into())],
    })
}

fn ids(recalled: &Recalled) -> Vec<u64> {
    recalled.events.iter().map(|event| event.id).collect()
}

#[tokio::test]
async fn events_outlive_the_process_as_long_as_they_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, recalled) = open_good(dir.path()).await;
    assert_eq!(recalled.events, []);
    (5..=9).for_each(|id| journal.record(event(id), 1));
    journal.close().await;

    let (journal, recalled) = open_good(dir.path()).await;
    assert_eq!(recalled.events, [5, 6, 7, 8, 9].map(|id| (*event(id)).clone()));
    journal.record(event(11), 8);
    journal.record(event(12), 8);
    journal.close().await;

    let (_, recalled) = open_good(dir.path()).await;
    assert_eq!(ids(&recalled), [8, 9, 11, 12]);
}

#[tokio::test]
async fn what_is_forgotten_leaves_the_file_though_nothing_else_is_written() {
    let entry = |id: u64| {
        let text = || "a".to_owned();
        Arc::new(AuditRecord {
            id,
            at: at(CREATED),
            last: at(CREATED),
            count: 1,
            kind: AuditKind::Change,
            who: text(),
            origin: text(),
            action: text(),
            target: None,
            parameters: None,
            reason: None,
            result: text(),
            why: None,
            before: None,
            after: None,
        })
    };
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open_good(dir.path()).await;
    (1..=3).for_each(|id| journal.record(event(id), 1));
    (1..=3).for_each(|id| journal.audit().save(entry(id), [1; 3]));
    journal.close().await;

    let (journal, _) = open_good(dir.path()).await;
    journal.forget_events_before(3);
    journal.audit().forget_before([2, 1, 1]);
    journal.close().await;
    let (_, recalled) = open_good(dir.path()).await;
    assert_eq!(ids(&recalled), [3]);
    assert_eq!(recalled.audit.iter().map(|it| it.id).collect::<Vec<_>>(), [2, 3]);

    let mut unsaved = Unsaved::default();
    unsaved.forget_events(9);
    assert!(!unsaved.is_empty());
    let failed = std::mem::take(&mut unsaved);
    unsaved.put_back(failed);
    assert!(!unsaved.is_empty(), "a write that fails is repeated");
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open_good(dir.path()).await;
    (1..=3).for_each(|id| journal.record(event(id), 1));
    journal.close().await;
    db(dir.path()).execute("UPDATE event SET fields = 'by' WHERE id = 2", []).unwrap();
    let Opened { recalled, alarms, .. } = open(dir.path()).await;
    assert_eq!(ids(&recalled), [1, 3]);
    assert!(alarms[0].starts_with("1 events in the journal cannot be read"), "{alarms:?}");
}

/// However long the disk stalls, no more events wait than are kept.
#[test]
fn events_that_wait_for_the_disk_are_those_that_are_kept() {
    let mut unsaved = Unsaved::default();
    (1..=4).for_each(|id| unsaved.record(event(id), 1));
    let failed = std::mem::take(&mut unsaved);
    (5..=6).for_each(|id| unsaved.record(event(id), 3));
    unsaved.put_back(failed);
    let waiting: Vec<u64> = unsaved.events.iter().map(|event| event.id).collect();
    assert_eq!((waiting, unsaved.oldest_event), (vec![3, 4, 5, 6], 3));
    unsaved.record(event(7), 7);
    assert_eq!(unsaved.events.len(), 1);
}
