//! Rows of the tables, and what they mean.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rusqlite::{Connection, Row, params};

use super::record::{CheckId, VerdictRecord};
use crate::health::{Severity, State};
use crate::model::{Fraction, Target, Unix};
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
            new.action.to_string(),
            new.share.get(),
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

/// An override, from the columns of `SELECT *`.
pub(super) fn read_override(row: &Row<'_>) -> Result<Override> {
    let action: String = row.get("action")?;
    let share: f64 = row.get("share")?;
    let until: Option<i64> = row.get("until")?;
    Ok(Override {
        id: row.get::<_, i64>("id")?.unsigned_abs(),
        target: row.get::<_, String>("target")?.parse::<Target>()?,
        action: match action.as_str() {
            "drain" => Action::Drain,
            "up" => Action::Up,
            "down" => Action::Down,
            other => bail!("`{other}` is not a valid action"),
        },
        share: Fraction::from_percent(share * 100.0).context("a share lies between 0 and 1")?,
        created: unix(row.get("created")?),
        until: until.map(unix),
        reason: row.get("reason")?,
        by: row.get("said_by")?,
    })
}

pub(super) fn put_verdict(db: &Connection, record: &VerdictRecord) -> rusqlite::Result<()> {
    let CheckId { region, endpoint, address, probe } = &record.check;
    let mut insert = db.prepare_cached(
        "INSERT OR REPLACE INTO verdict (region, endpoint, address, probe, state, severity, since, first_success,
                                         successes, failures, last_failure, seen)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    insert.execute(params![
        region,
        endpoint,
        address.to_string(),
        probe,
        record.state.to_string(),
        record.state.severity().map(|severity| severity.to_string()),
        millis(record.since),
        record.first_success.map(millis),
        record.successes,
        record.failures,
        record.last_failure,
        millis(record.seen)
    ])?;
    Ok(())
}

pub(super) fn remove_verdict(db: &Connection, check: &CheckId) -> rusqlite::Result<()> {
    let CheckId { region, endpoint, address, probe } = check;
    let mut delete = db.prepare_cached(
        "DELETE FROM verdict WHERE region = ?1 AND endpoint = ?2 AND address = ?3 AND probe = ?4",
    )?;
    delete.execute(params![region, endpoint, address.to_string(), probe])?;
    Ok(())
}

/// A verdict, from the columns of `SELECT *`.
pub(super) fn read_verdict(row: &Row<'_>) -> Result<VerdictRecord> {
    let state: String = row.get("state")?;
    let severity: Option<String> = row.get("severity")?;
    let first_success: Option<i64> = row.get("first_success")?;
    Ok(VerdictRecord {
        check: CheckId {
            region: row.get("region")?,
            endpoint: row.get("endpoint")?,
            address: row.get::<_, String>("address")?.parse()?,
            probe: row.get("probe")?,
        },
        state: match (state.as_str(), severity.as_deref()) {
            ("up", None) => State::Up,
            ("degraded", None) => State::Degraded,
            ("unknown", None) => State::Unknown,
            ("down", Some("soft")) => State::Down(Severity::Soft),
            ("down", Some("hard")) => State::Down(Severity::Hard),
            (state, severity) => bail!("`{state}` with severity {severity:?} is not a valid state"),
        },
        since: unix(row.get("since")?),
        first_success: first_success.map(unix),
        successes: row.get("successes")?,
        failures: row.get("failures")?,
        last_failure: row.get("last_failure")?,
        seen: unix(row.get("seen")?),
    })
}

pub(super) fn millis(at: Unix) -> i64 {
    i64::try_from(at.0.as_millis()).unwrap_or(i64::MAX)
}

fn unix(millis: i64) -> Unix {
    Unix(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}
