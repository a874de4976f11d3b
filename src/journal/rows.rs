//! Reads and writes the rows of the tables.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rusqlite::{Connection, Row, params};

use super::record::VerdictRecord;
use crate::health::{SavedVerdict, Severity, State};
use crate::model::{CheckId, EventRecord, Fraction, Name, Source, Subject, Target, Unix};
use crate::standing::{Action, Override};

/// Writes an override in place of all others on its target.
pub(super) fn put_override(db: &Connection, new: &Override) -> rusqlite::Result<()> {
    db.execute("DELETE FROM override WHERE target = ?1", params![new.target.to_string()])?;
    db.execute(
        "INSERT OR REPLACE INTO override (id, target, action, share, created, until, reason, said_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            new.id.cast_signed(),
            new.target.to_string(),
            new.action.name(),
            share(new.action),
            millis(new.created),
            new.until.map(millis),
            new.reason,
            new.by
        ],
    )?;
    Ok(())
}

pub(super) fn remove_override(db: &Connection, id: u64) -> rusqlite::Result<()> {
    db.execute("DELETE FROM override WHERE id = ?1", params![id.cast_signed()])?;
    Ok(())
}

/// The share column: 1 for everything but a drain.
fn share(action: Action) -> f64 {
    match action {
        Action::Drain(share) => share.get(),
        Action::Up | Action::Down => 1.0,
    }
}

/// An override, from the columns of `SELECT *`.
pub(super) fn read_override(row: &Row<'_>) -> Result<Override> {
    let action: String = row.get("action")?;
    let share: f64 = row.get("share")?;
    let until: Option<i64> = row.get("until")?;
    Ok(Override {
        id: row.get::<_, i64>("id")?.unsigned_abs(),
        target: row.get::<_, String>("target")?.parse::<Target>()?,
        action: match action.parse()? {
            Action::Drain(_) => {
                Action::Drain(Fraction::from_percent(share * 100.0).context("a share lies between 0 and 1")?)
            }
            action => action,
        },
        created: unix(row.get("created")?),
        until: until.map(unix),
        reason: row.get("reason")?,
        by: row.get("said_by")?,
    })
}

pub(super) fn put_verdict(db: &Connection, record: &VerdictRecord) -> rusqlite::Result<()> {
    let Some([region, endpoint, address, probe]) = columns(&record.check) else { return Ok(()) };
    let SavedVerdict { state, since, recovering, failures, reason } = &record.memory;
    let mut insert = db.prepare_cached(
        "INSERT OR REPLACE INTO verdict (region, endpoint, address, probe, state, severity, since, first_success,
                                         successes, failures, last_failure, seen)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    insert.execute(params![
        region,
        endpoint,
        address,
        probe,
        state.to_string(),
        state.severity().map(|severity| severity.to_string()),
        millis(*since),
        recovering.map(|(_, first)| millis(first)),
        recovering.map_or(0, |(successes, _)| successes),
        failures,
        reason,
        millis(record.seen)
    ])?;
    Ok(())
}

pub(super) fn remove_verdict(db: &Connection, check: &CheckId) -> rusqlite::Result<()> {
    let Some([region, endpoint, address, probe]) = columns(check) else { return Ok(()) };
    let mut delete = db.prepare_cached(
        "DELETE FROM verdict WHERE region = ?1 AND endpoint = ?2 AND address = ?3 AND probe = ?4",
    )?;
    delete.execute(params![region, endpoint, address, probe])?;
    Ok(())
}

/// In the column of regions, what precedes the name of a pool. No region has such a name.
const POOL: &str = "pool/";

/// Region, endpoint, address and probe; `None` for checks that are not stored.
fn columns(check: &CheckId) -> Option<[String; 4]> {
    let (owner, name, address) = match &check.subject {
        Subject::Address { region, endpoint, address } => (region.to_string(), endpoint, address),
        Subject::Backend { pool, backend, address } => (format!("{POOL}{pool}"), backend, address),
        Subject::Region(_) | Subject::Anchor(_) => return None,
    };
    let Source::Probe(probe) = &check.source else { return None };
    Some([owner, name.to_string(), address.to_string(), probe.to_string()])
}

/// A verdict, from the columns of `SELECT *`.
pub(super) fn read_verdict(row: &Row<'_>) -> Result<VerdictRecord> {
    let state: String = row.get("state")?;
    let severity: Option<String> = row.get("severity")?;
    let first_success: Option<i64> = row.get("first_success")?;
    let successes: u32 = row.get("successes")?;
    let (owner, name): (String, String) = (row.get("region")?, row.get("endpoint")?);
    let address = row.get::<_, String>("address")?.parse()?;
    let subject = match owner.strip_prefix(POOL) {
        Some(pool) => Subject::Backend { pool: pool.into(), backend: name.into(), address },
        None => Subject::Address { region: owner.into(), endpoint: name.into(), address },
    };
    let source = Source::Probe(row.get::<_, String>("probe")?.into());
    let state = match (state.as_str(), severity.as_deref()) {
        ("up", None) => State::Up,
        ("degraded", None) => State::Degraded,
        ("down", Some("soft")) => State::Down(Severity::Soft),
        ("down", Some("hard")) => State::Down(Severity::Hard),
        (state, severity) => bail!("`{state}` with severity {severity:?} is not a valid state"),
    };
    let memory = SavedVerdict {
        state,
        since: unix(row.get("since")?),
        recovering: first_success.map(|first| (successes, unix(first))),
        failures: row.get("failures")?,
        reason: row.get("last_failure")?,
    };
    Ok(VerdictRecord { check: CheckId { subject, source }, memory, seen: unix(row.get("seen")?) })
}

pub(super) fn put_host(db: &Connection, host: &Name, addresses: &[IpAddr]) -> rusqlite::Result<()> {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut insert = db.prepare_cached("INSERT OR REPLACE INTO host (name, addresses) VALUES (?1, ?2)")?;
    insert.execute(params![host.to_string(), addresses.join(" ")])?;
    Ok(())
}

pub(super) fn remove_host(db: &Connection, host: &Name) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM host WHERE name = ?1")?.execute([host.to_string()])?;
    Ok(())
}

/// A host and its addresses, from the columns of `SELECT *`.
pub(super) fn read_host(row: &Row<'_>) -> Result<(Name, Vec<IpAddr>)> {
    let host = row.get::<_, String>("name")?.parse()?;
    let addresses: String = row.get("addresses")?;
    let addresses: Result<Vec<IpAddr>, _> = addresses.split_ascii_whitespace().map(str::parse).collect();
    Ok((host, addresses?))
}

pub(super) fn put_event(db: &Connection, event: &EventRecord) -> rusqlite::Result<()> {
    let EventRecord { id, at, epoch, name, message, fields } = event;
    let fields = serde_json::to_string(fields).unwrap_or_default();
    let mut insert = db.prepare_cached(
        "INSERT OR REPLACE INTO event (id, at, epoch, name, message, fields) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    insert.execute(params![id.cast_signed(), millis(*at), epoch.cast_signed(), name, message, fields])?;
    Ok(())
}

pub(super) fn remove_events_before(db: &Connection, id: u64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM event WHERE id < ?1")?.execute([id.cast_signed()])?;
    Ok(())
}

/// An event, from the columns of `SELECT *`.
pub(super) fn read_event(row: &Row<'_>) -> Result<EventRecord> {
    let fields: String = row.get("fields")?;
    Ok(EventRecord {
        id: row.get::<_, i64>("id")?.unsigned_abs(),
        at: unix(row.get("at")?),
        epoch: row.get::<_, i64>("epoch")?.unsigned_abs(),
        name: row.get("name")?,
        message: row.get("message")?,
        fields: serde_json::from_str(&fields)?,
    })
}

pub(super) fn millis(at: Unix) -> i64 {
    i64::try_from(at.0.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn unix(millis: i64) -> Unix {
    Unix(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}
