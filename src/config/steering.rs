//! The steering keys, of `[policy.NAME]` and of services.

use std::net::IpAddr;
use std::time::Duration;

use crate::model::{AllDown, GeoEntry, Km, Millis, Rank, RankKind, Share, Steering, Ttl, TtlRange};

use super::keys::Shape::{Address, Boolean, Either, Fields, Integer, OneOrMany, Text, Time, Words};
use super::keys::{Key, Keys, default, key, otherwise, required};
use super::place::Names;
use super::report::Report;
use super::table::{At, Entry, Table, Value};
use super::text;

pub(super) const POLICY: Keys =
    Keys { known: &[RANK, TOLERANCE, SHARE, ANSWERS, TTL, ALL_DOWN, SPILL], later: &[] };
pub(super) const RANK: Key = key(
    "rank",
    Words(&RANKS),
    default("\"priority\""),
    "how regions are ranked: by \"priority\", \"distance\", \"latency\" or \"geo\", or \"none\": all tie",
);
pub(super) const TOLERANCE: Key = key(
    "tolerance",
    Either(&[Text, Integer(0, 0)]),
    default("0"),
    "regions this close to the best one tie with it: such as \"15ms\" for rank latency, \"300km\" for distance",
);
pub(super) const SHARE: Key = key(
    "share",
    Words(&SHARES),
    default("\"weighted\""),
    "how tied regions share clients: \"weighted\" draws again in each time window, \"hash\" is sticky, \"random\" draws for each query",
);
pub(super) const ANSWERS: Key =
    key("answers", Integer(1, MOST_ANSWERS), default("1"), "maximum number of endpoints in an answer");
pub(super) const TTL: Key = key(
    "ttl",
    Either(&[Time, Fields(&COMPUTED_TTL)]),
    default("\"30s\""),
    "TTL of answers; { max, min }: computed, so that an answer expires before it can change, within these limits",
);
const COMPUTED_TTL: Keys = Keys {
    known: &[
        key(
            "max",
            Time,
            required("\"60s\""),
            "maximum, and the length of the time windows of share \"weighted\"",
        ),
        key("min", Time, required("\"5s\""), "minimum"),
    ],
    later: &[],
};
pub(super) const ALL_DOWN: Key = key(
    "all_down",
    Either(&[Words(&["all", "servfail"]), Fields(&WHEN_ALL_DOWN)]),
    default("\"all\""),
    "what to answer when no region may be used: \"all\" (the most promising regions anyway), \"servfail\", or a table",
);
pub(super) const SPILL: Key = key("spill", Boolean, default("false"), "not supported yet");
const WHEN_ALL_DOWN: Keys = Keys {
    known: &[
        key(
            "last_good",
            Time,
            otherwise("\"10m\"", "another"),
            "the endpoints that served last, with those lost within 1 minute before them, if they stopped no longer ago than this",
        ),
        key("fallback", OneOrMany(&Address), otherwise("[\"203.0.113.9\"]", "another"), "these addresses"),
        key(
            "cname",
            Text,
            otherwise("\"lb.example.net\"", "another"),
            "a CNAME to this name; the service's name must have no other records",
        ),
    ],
    later: &[],
};

const MOST_ANSWERS: u64 = 64;
const MOST_TOLERANCE: f64 = 60_000.0;
const LONGEST_MEMORY: Duration = Duration::from_secs(30 * 86_400);

const DEFAULT_TTL: TtlRange = TtlRange { max: Ttl(30), min: Ttl(30) };

const RANKS: [&str; 5] = {
    let [priority, distance, latency, geo, none] = RankKind::ALL;
    [priority.name(), distance.name(), latency.name(), geo.name(), none.name()]
};
const SHARES: [&str; 3] = {
    let [weighted, hash, random] = Share::ALL;
    [weighted.name(), hash.name(), random.name()]
};

/// `tolerance` as written; it becomes part of the rank only if it fits.
#[derive(Clone, Copy)]
pub(super) enum Tolerance {
    Zero,
    Time(Millis),
    Distance(Km),
}

/// The steering keys that are written; the others fall through to the policy, then to the default.
#[derive(Clone, Default)]
pub(super) struct Written {
    pub(super) rank: Option<At<RankKind>>,
    pub(super) tolerance: Option<At<Tolerance>>,
    pub(super) share: Option<Share>,
    pub(super) answers: Option<usize>,
    pub(super) ttl: Option<At<TtlRange>>,
    pub(super) all_down: Option<At<AllDown>>,
}

/// Reads every `[policy.NAME]`; the result has one per name.
pub(super) fn read_policies(names: &Names<'_>, entries: &[Entry<'_>]) -> Vec<Written> {
    debug_assert_eq!(names.len(), entries.len());
    let policy = |entry: &Entry<'_>| {
        let written = entry.value.table(format!("policy.{}", entry.name), &POLICY).map(|it| read(&it));
        let written = written.unwrap_or_default();
        if let (Some(rank), Some(tolerance)) = (&written.rank, &written.tolerance) {
            check_unit(entry.value.report, rank.value, tolerance);
        }
        written
    };
    entries.iter().map(policy).collect()
}

/// Reads the steering keys of a policy or a service.
pub(super) fn read(table: &Table<'_>) -> Written {
    let (ranks, shares) = (RankKind::ALL.map(|it| (it.name(), it)), Share::ALL.map(|it| (it.name(), it)));
    let rank = table.get("rank").and_then(|value| Some(value.at(value.choice(&ranks, &[])?)));
    let tolerance = table.get("tolerance").and_then(|value| Some(value.at(read_tolerance(&value)?)));
    let ttl = table.get("ttl").and_then(|value| Some(value.at(read_ttl(&value, table.path("ttl"))?)));
    if let Some(value) = table.get("spill") {
        match value.as_boolean() {
            Some(false) => {}
            Some(true) => value.later::<()>("spill = true").unwrap_or_default(),
            None => value.expected::<()>("true or false").unwrap_or_default(),
        }
    }
    Written {
        rank,
        tolerance,
        share: table.get("share").and_then(|value| value.choice(&shares, &[])),
        answers: table.get("answers").and_then(|value| value.integer(1..=MOST_ANSWERS)).map(|n| n as usize),
        ttl,
        all_down: table
            .get("all_down")
            .and_then(|value| Some(value.at(read_all_down(&value, table.path("all_down"))?))),
    }
}

impl Written {
    /// A service's own keys, which override its policy's.
    pub(super) fn over(self, policy: Self) -> Self {
        Self {
            rank: self.rank.or(policy.rank),
            tolerance: self.tolerance.or(policy.tolerance),
            share: self.share.or(policy.share),
            answers: self.answers.or(policy.answers),
            ttl: self.ttl.or(policy.ttl),
            all_down: self.all_down.or(policy.all_down),
        }
    }

    /// The keys with the defaults filled in, and the service's `geo` table.
    pub(super) fn complete(self, geo: Vec<GeoEntry>) -> Steering {
        let tolerance = self.tolerance.as_ref().map_or(Tolerance::Zero, |it| it.value);
        let rank = match (self.rank_kind(), tolerance) {
            (RankKind::Priority, _) => Rank::Priority,
            (RankKind::Distance, Tolerance::Distance(tolerance)) => Rank::Distance(tolerance),
            (RankKind::Distance, _) => Rank::Distance(Km(0.0)),
            (RankKind::Latency, Tolerance::Time(tolerance)) => Rank::Latency(tolerance),
            (RankKind::Latency, _) => Rank::Latency(Millis(0.0)),
            (RankKind::Geo, _) => Rank::Geo(geo),
            (RankKind::None, _) => Rank::None,
        };
        Steering {
            rank,
            share: self.share.unwrap_or(Share::Weighted),
            answers: self.answers.unwrap_or(1),
            ttl: self.ttl.map_or(DEFAULT_TTL, |it| it.value),
            all_down: self.all_down.map_or(AllDown::All, |it| it.value),
        }
    }

    /// The rank, with its default filled in.
    pub(super) fn rank_kind(&self) -> RankKind {
        self.rank.as_ref().map_or(RankKind::Priority, |it| it.value)
    }
}

/// Reports a tolerance that the rank cannot use.
pub(super) fn check_unit(report: &Report<'_>, rank: RankKind, tolerance: &At<Tolerance>) {
    let message = match (rank, tolerance.value) {
        (_, Tolerance::Zero)
        | (RankKind::Distance, Tolerance::Distance(_))
        | (RankKind::Latency, Tolerance::Time(_)) => {
            return;
        }
        (RankKind::Distance, Tolerance::Time(_)) => {
            "rank = \"distance\" takes a tolerance in kilometres such as \"300km\"".to_owned()
        }
        (RankKind::Latency, Tolerance::Distance(_)) => {
            "rank = \"latency\" takes a tolerance in time such as \"15ms\"".to_owned()
        }
        (RankKind::Priority | RankKind::Geo | RankKind::None, _) => {
            format!("`tolerance` has no meaning with rank = \"{}\"", rank.name())
        }
    };
    report.error(tolerance.span.clone(), message);
}

/// Reads "15ms" or "300km"; zero fits either rank.
fn read_tolerance(value: &Value<'_>) -> Option<Tolerance> {
    const WHAT: &str = "a tolerance such as \"15ms\" or \"300km\"";
    if value.as_integer() == Some(0) {
        return Some(Tolerance::Zero);
    }
    value.parsed(WHAT, |text| {
        let error = || format!("expected {WHAT}, found {:?}", text::shortened(text));
        let (number, is_distance) = match text.strip_suffix("km") {
            Some(number) => (number.trim().parse().map_err(|_| error())?, true),
            None => (text::duration(text).map_err(|_| error())?.as_secs_f64() * 1000.0, false),
        };
        match number {
            0.0 => Ok(Tolerance::Zero),
            _ if !(0.0..=MOST_TOLERANCE).contains(&number) => Err(error()),
            _ if is_distance => Ok(Tolerance::Distance(Km(number))),
            _ => Ok(Tolerance::Time(Millis(number))),
        }
    })
}

/// Reads "30s", or the limits of a computed TTL.
fn read_ttl(value: &Value<'_>, name: String) -> Option<TtlRange> {
    if !value.is_table() {
        return read_seconds(value).map(TtlRange::from);
    }
    let table = value.table(name, &COMPUTED_TTL)?;
    let (max, min) = (table.need("max"), table.need("min"));
    let (max, min) = (read_seconds(&max?)?, min.and_then(|min| Some(min.at(read_seconds(&min)?)))?);
    if min.value > max {
        table.report.error(min.span, "`min` is more than `max`");
    }
    Some(TtlRange { max, min: min.value.min(max) })
}

fn read_seconds(value: &Value<'_>) -> Option<Ttl> {
    // RFC 2181 §8: "a maximum value of 2147483647"
    let ttl = value.duration(Duration::ZERO..=Duration::from_secs(u64::from(Ttl::MAX.0)))?;
    if ttl.subsec_nanos() != 0 {
        return value.fail("a TTL is a whole number of seconds");
    }
    u32::try_from(ttl.as_secs()).ok().map(Ttl)
}

fn read_all_down(value: &Value<'_>, name: String) -> Option<AllDown> {
    const WHAT: &str = "\"all\", \"servfail\", { last_good = \"10m\" }, { fallback = [\"203.0.113.9\"] } or { cname = \"lb.example.net\" }";
    if !value.is_table() {
        return match value.as_text() {
            Some("all") => Some(AllDown::All),
            Some("servfail") => Some(AllDown::Servfail),
            _ => value.expected(WHAT),
        };
    }
    let table = value.table(name, &WHEN_ALL_DOWN)?;
    match (table.get("last_good"), table.get("fallback"), table.get("cname")) {
        (None, None, Some(value)) => {
            value.parsed("a name such as \"lb.example.net\"", text::target).map(AllDown::Cname)
        }
        (Some(value), None, None) => {
            value.duration(Duration::from_secs(1)..=LONGEST_MEMORY).map(AllDown::LastGood)
        }
        (None, Some(value), None) => {
            let mut found: Vec<IpAddr> = Vec::new();
            for item in value.one_or_many("a list of addresses such as [\"203.0.113.9\"]")? {
                let address = item.parsed("an address such as \"203.0.113.9\"", text::destination);
                let Some(address) = address else { continue };
                if found.contains(&address) {
                    item.fail::<()>(format!("address {address} is listed twice"));
                }
                found.push(address);
            }
            Some(AllDown::Fallback(found))
        }
        _ => value.fail(format!("expected {WHAT}")),
    }
}
