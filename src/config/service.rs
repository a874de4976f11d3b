//! `[[service]]`: names whose answers are steered.

use crate::model::{AllDown, GeoEntry, Member, Name, PlaceKey, RankKind, RegionId, Service, Weight};

use super::advice::Advice;
use super::fence;
use super::keys::Shape::{Either, Fields, Integer, List, Map, OneOrMany, Text, Words};
use super::keys::{Keys, default, instead, key, otherwise, required};
use super::kind;
use super::place::place;
use super::region::read_weight;
use super::scope::{Scope, member};
use super::steering::{self, ALL_DOWN, ANSWERS, RANK, SHARE, SPILL, TOLERANCE, TTL, Written};
use super::table::{At, Table, Value};
use super::text;

pub(super) const SERVICE: Keys = Keys {
    known: &[
        key(
            "name",
            Text,
            required("\"www.gslb.example.com.\""),
            "its name, within one of the zones; static records and services of other types may have the same name",
        ),
        key(
            "type",
            Words(&kind::TYPES),
            default("\"address\""),
            "what to answer: \"address\" (A and AAAA), or \"cname\", \"srv\" or \"mx\" (records that point to the endpoints' host names)",
        ),
        key(
            "https",
            Either(&[Fields(&kind::HTTPS)]),
            otherwise("{ alpn = [\"h2\"] }", "none"),
            "also answer HTTPS records (RFC 9460), with the addresses of the A and AAAA answers as hints",
        ),
        key(
            "srv",
            Either(&[Fields(&kind::SRV)]),
            instead("{ port = 443, priority = 0 }", "with type = \"srv\""),
            "contents of SRV records; their weights are those of the endpoints",
        ),
        key(
            "mx",
            Either(&[Fields(&kind::MX)]),
            instead("{ preference = 10 }", "with type = \"mx\""),
            "contents of MX records",
        ),
        key(
            "policy",
            Text,
            otherwise("\"nearby\"", "none"),
            "policy whose steering keys it inherits; its own keys take precedence",
        ),
        key(
            "regions",
            List(&Either(&[Text, Fields(&MEMBER)])),
            required("[{ region = \"eu-west\", weight = 1 }]"),
            "regions in order of priority; plain \"eu-west\" means weight 1",
        ),
        RANK.shown("\"geo\"", "\"priority\""),
        TOLERANCE,
        SHARE,
        ANSWERS,
        TTL,
        ALL_DOWN,
        SPILL,
        key(
            "geo",
            Map(&List(&Either(&[Text, List(&Text)]))),
            otherwise("{ \"country:DE\" = [\"eu-west\"], \"*\" = [\"eu-west\"] }", "none"),
            "for rank \"geo\": regions in order for each place; the most specific place applies, regions not listed come last, and those in a nested list tie",
        ),
        key(
            "fence",
            OneOrMany(&Fields(&fence::FENCE)),
            otherwise("[{ region = \"eu-west\", only = [\"group:eea\"] }]", "none"),
            "restrictions on which clients a region serves",
        ),
    ],
    later: &[],
};
const MEMBER: Keys = Keys {
    known: &[
        key("region", Text, required("\"eu-west\""), "the region"),
        key(
            "weight",
            Integer(0, Weight::MAX.0 as u64),
            default("1"),
            "weight among regions that tie; 0: never where it ties with a region of another weight",
        ),
    ],
    later: &[],
};

const DEFAULT_WEIGHT: Weight = Weight(1);

/// Reads every `[[service]]`, with the location of its name.
pub(super) fn read_all(root: &Table<'_>, scope: &Scope<'_>) -> Vec<At<Service>> {
    let mut services: Vec<At<Service>> = Vec::new();
    for item in root.get("service").and_then(|value| value.items("a list of services")).unwrap_or_default() {
        let Some(table) = item.table("service", &SERVICE) else { continue };
        let name = table.need("name").and_then(|value| {
            let name = value.parsed("a domain name", text::domain)?;
            Some(value.at(name))
        });
        let service = read(&table, name.as_ref().map_or_else(Name::root, |name| name.value.clone()), scope);
        if let Some(name) = name {
            services.push(At { value: service, span: name.span });
        }
    }
    services
}

fn read(table: &Table<'_>, name: Name, scope: &Scope<'_>) -> Service {
    let kind = kind::read(table);
    let members = read_members(table, scope);
    let geo = table.get("geo").map(|value| read_geo(&value, &members, scope));
    let written = read_steering(table, scope);
    check_rank(table, written.rank_kind(), geo.is_some(), &members, scope);
    let advice = Advice { table, members: &members, scope };
    advice.on_ttl(&written);
    advice.on_computed_ttl(&written);
    advice.on_fallback(&written);
    advice.on_weights(&written);
    let steering = written.clone().complete(geo.unwrap_or_default());
    let has_fallback = matches!(steering.all_down, AllDown::Fallback(_) | AllDown::Cname(_));
    let service = Service {
        name,
        kind,
        steering,
        fences: fence::read_all(table, &members, scope, has_fallback),
        members: members.iter().map(|member| member.value).collect(),
    };
    kind::check(table, &service, &written, &members, scope);
    service
}

/// The service's own keys over its policy's; a tolerance must fit the resulting rank. An error in the policy itself is
/// reported again at the same location, and removed as a duplicate.
fn read_steering(table: &Table<'_>, scope: &Scope<'_>) -> Written {
    let own = steering::read(table);
    let policy = table.get("policy").and_then(|value| scope.policy_names.refer(&value));
    let policy = policy.map(|index| scope.policies[index].clone()).unwrap_or_default();
    let (own_rank, own_tolerance) = (own.rank.clone(), own.tolerance.is_some());
    let written = own.over(policy);
    let rank = written.rank_kind();
    match (&written.tolerance, own_rank) {
        (None, _) => {}
        // The policy's tolerance is for the policy's rank; a rank that takes none ignores it.
        (Some(_), Some(_)) if !own_tolerance && !matches!(rank, RankKind::Distance | RankKind::Latency) => {}
        (Some(tolerance), Some(own_rank)) if !own_tolerance => {
            steering::check_unit(table.report, rank, &At { value: tolerance.value, span: own_rank.span });
        }
        (Some(tolerance), _) => steering::check_unit(table.report, rank, tolerance),
    }
    written
}

/// Reads `"eu-west"` or `{ region = "eu-west", weight = 3 }` in priority order, without duplicates.
fn read_members(table: &Table<'_>, scope: &Scope<'_>) -> Vec<At<Member>> {
    let items = table.need("regions").and_then(|value| value.items("a list of regions"));
    let mut members: Vec<At<Member>> = Vec::new();
    for item in items.unwrap_or_default() {
        let (region, weight) = if item.is_table() {
            let Some(member) = item.table(table.path("regions"), &MEMBER) else { continue };
            let weight = member.get("weight").and_then(|value| read_weight(&value));
            (member.need("region"), weight)
        } else {
            (Some(item.clone()), None)
        };
        let Some(index) = region.and_then(|value| scope.region_names.refer(&value)) else { continue };
        let region = RegionId(index as u16);
        if members.iter().any(|other| other.value.region == region) {
            item.fail::<()>(format!("region `{}` is listed twice", scope.region_names.name(index)));
            continue;
        }
        members.push(item.at(Member { region, weight: weight.unwrap_or(DEFAULT_WEIGHT) }));
    }
    members
}

/// The `geo` table, most specific key first, longest prefix first; equally specific keys keep their order.
fn read_geo(value: &Value<'_>, members: &[At<Member>], scope: &Scope<'_>) -> Vec<GeoEntry> {
    let mut entries = value.entries();
    if entries.is_empty() && value.is_table() {
        value.fail::<()>("`geo` is empty");
    }
    entries.sort_by_key(|entry| entry.span.start);
    let mut found: Vec<GeoEntry> = Vec::new();
    for entry in entries {
        let groups = read_preference(&entry.value, members, scope);
        match place(entry.name, scope.group_names) {
            Err(message) => value.report.error(entry.span, message),
            Ok(place) if found.iter().any(|other| other.place == place) => {
                value.report.error(entry.span, format!("place `{}` is described twice", entry.name));
            }
            Ok(place) => {
                value.report.place(entry.span, &place);
                found.push(GeoEntry { place, groups });
            }
        }
    }
    found.sort_by_key(|entry| {
        let length = match entry.place {
            PlaceKey::Net(net) => net.prefix_len(),
            _ => 0,
        };
        std::cmp::Reverse((entry.place.specificity(), length))
    });
    found
}

/// Reads `["eu-west", ["us-east", "us-west"]]`: regions in order, where a nested list is a tie group.
fn read_preference(value: &Value<'_>, members: &[At<Member>], scope: &Scope<'_>) -> Vec<Vec<RegionId>> {
    let mut groups: Vec<Vec<RegionId>> = Vec::new();
    for item in value.items("a list of regions").unwrap_or_default() {
        let nested =
            if item.is_list() { item.items("a list of regions").unwrap_or_default() } else { vec![item] };
        let mut group = Vec::new();
        for item in nested {
            let Some(region) = member(&item, members, scope) else { continue };
            if group.contains(&region) || groups.iter().flatten().any(|other| *other == region) {
                let name = scope.region_names.name(usize::from(region.0));
                item.fail::<()>(format!("region `{name}` is listed twice"));
            }
            group.push(region);
        }
        groups.push(group);
    }
    groups
}

/// Checks for keys that the rank requires, and for keys that only another rank uses.
fn check_rank(table: &Table<'_>, rank: RankKind, has_geo: bool, members: &[At<Member>], scope: &Scope<'_>) {
    if rank == RankKind::Geo && !has_geo {
        table.report.absent(table.key_span("rank"), "rank = \"geo\" needs the table `geo`");
    }
    if rank != RankKind::Geo && has_geo {
        table.report.warning(
            table.key_span("geo"),
            "`geo` is not used",
            "write rank = \"geo\" in the service or its policy",
        );
    }
    if rank != RankKind::Distance {
        return;
    }
    for member in members {
        let region = &scope.regions[usize::from(member.value.region.0)];
        if region.location.point.is_none() {
            let message =
                format!("region `{}` has no `lat` and `lon`, which rank = \"distance\" needs", region.name);
            table.report.absent(member.span.clone(), message);
        }
    }
}
