//! `passive` of a pool: when an address whose requests fail is ejected.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::{ErrorRate, Fraction, Passive, PassiveOn};

use super::super::keys::Shape::{Integer, OneOrMany, Text, Time, Words};
use super::super::keys::{Keys, default, key, otherwise};
use super::super::table::{Table, Value};
use super::super::text;

pub(super) const PASSIVE: Keys = Keys {
    known: &[
        key(
            "failures",
            Integer(1, MOST_FAILURES),
            default("3"),
            "consecutive failures after which an address is ejected",
        ),
        key(
            "on",
            OneOrMany(&Words(&["connect", "reset", "timeout", "5xx"])),
            default("[\"connect\", \"reset\", \"timeout\"]"),
            "what counts as a failure: as in `retry`, and \"5xx\" (a status from 500 to 599, except 501 and 505)",
        ),
        key(
            "errors",
            Text,
            otherwise("\"50%\"", "none"),
            "share of failures within 10 s from which an address is ejected although some requests succeed",
        ),
        key(
            "requests",
            Integer(1, MOST_REQUESTS),
            default("20"),
            "requests within 10 s without which `errors` says nothing",
        ),
        key(
            "eject",
            Time,
            default("\"30s\""),
            "time of the first ejection; each further one takes twice as long",
        ),
        key("longest", Time, default("\"5m\""), "longest time of an ejection"),
        key(
            "max_ejected",
            Text,
            default("\"50%\""),
            "share of the addresses that may be ejected at a time; of two or more, one always may be, and one always stays",
        ),
    ],
    later: &[],
};

/// More would be an error rate.
const MOST_FAILURES: u64 = 1000;
/// Of ten seconds.
const MOST_REQUESTS: u64 = 1_000_000;
/// Shorter ones end before a backend that restarts is back; longer ones are what probes and drains are for.
const EJECT_TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

const DEFAULT_EJECT: Duration = Duration::from_secs(30);
const DEFAULT_CEILING: Duration = Duration::from_secs(300);
const DEFAULT_REQUESTS: u32 = 20;

/// Without `passive`: only failed connects, because no client can cause them.
const UNWRITTEN: Passive = Passive {
    failures: 3,
    on: PassiveOn { connect: true, reset: false, timeout: false, server_error: false },
    errors: None,
    eject: DEFAULT_EJECT,
    longest: DEFAULT_CEILING,
    max_ejected: Fraction::HALF,
};

/// What `passive` has unless it says otherwise.
const WRITTEN: Passive =
    Passive { on: PassiveOn { connect: true, reset: true, timeout: true, server_error: false }, ..UNWRITTEN };

/// Reads `passive` of a pool: a table, or `false`.
pub(super) fn read(pool: &Table<'_>) -> Option<Passive> {
    let Some(value) = pool.get("passive") else { return Some(UNWRITTEN) };
    if value.as_boolean() == Some(false) {
        return None;
    }
    if !value.is_table() {
        return value.expected("a table such as { failures = 3, eject = \"30s\" }, or false");
    }
    Some(read_table(&value.table(pool.path("passive"), &PASSIVE)?))
}

fn read_table(table: &Table<'_>) -> Passive {
    let failures = table.get("failures").and_then(|value| value.integer(1..=MOST_FAILURES));
    let on = table.get("on").and_then(|value| read_on(&value));
    let share = |key| table.get(key).and_then(|value| value.parsed("a share such as \"50%\"", text::share));
    let (errors, max_ejected) = (share("errors"), share("max_ejected"));
    let requests = table.get("requests").and_then(|value| value.integer(1..=MOST_REQUESTS));
    if !table.has("errors") && table.has("requests") {
        let message = "`requests` says nothing without `errors`";
        table.report.error(table.key_span("requests"), message);
    }
    let time = |key| table.get(key).and_then(|value| value.duration(EJECT_TIMES));
    let eject = time("eject").unwrap_or(DEFAULT_EJECT);
    let longest = time("longest").unwrap_or_else(|| DEFAULT_CEILING.max(eject));
    if longest < eject {
        let message = "`longest` is shorter than `eject`, the time of the first ejection";
        table.report.error(table.key_span("longest"), message);
    }
    let requests = requests.map_or(DEFAULT_REQUESTS, |count| count as u32);
    Passive {
        failures: failures.map_or(WRITTEN.failures, |count| count as u32),
        on: on.unwrap_or(WRITTEN.on),
        errors: errors.map(|share| ErrorRate { share, requests }),
        eject,
        longest,
        max_ejected: max_ejected.unwrap_or(WRITTEN.max_ejected),
    }
}

fn read_on(value: &Value<'_>) -> Option<PassiveOn> {
    type Switch = fn(&mut PassiveOn) -> &mut bool;
    const FAILURES: [(&str, Switch); 4] = [
        ("connect", |on| &mut on.connect),
        ("reset", |on| &mut on.reset),
        ("timeout", |on| &mut on.timeout),
        ("5xx", |on| &mut on.server_error),
    ];
    let mut on = PassiveOn::default();
    for item in value.one_or_many("a list of failures such as [\"connect\", \"5xx\"]")? {
        let Some(switch) = item.choice(&FAILURES, &[]) else { continue };
        if std::mem::replace(switch(&mut on), true) {
            item.fail::<()>("this failure is listed twice");
        }
    }
    Some(on)
}
