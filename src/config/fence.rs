//! `fence`: where the regions of a service may be used.

use super::keys::Shape::{OneOrMany, Text};
use super::keys::{Keys, key, otherwise, required};
use super::place::{bare, places};
use super::scope::{Scope, member};
use super::table::{At, Table, Value};
use crate::geo::{Place, continent_of, countries};
use crate::model::{Country, Fence, FenceRule, Group, Location, Member, PlaceKey, RegionId};

pub(super) const FENCE: Keys = Keys {
    known: &[
        key("region", Text, required("\"eu-west\""), "the restricted region"),
        key(
            "only",
            OneOrMany(&Text),
            otherwise("[\"group:eea\"]", "`except`"),
            "only clients in one of these places; each fence has either this or `except`",
        ),
        key(
            "except",
            OneOrMany(&Text),
            otherwise("[\"country:CH\"]", "`only`"),
            "all clients except those in these places; each fence has either this or `only`",
        ),
    ],
    later: &[],
};

/// Reads the fences of a service, and reports those that exclude every client.
pub(super) fn read_all(
    table: &Table<'_>,
    members: &[At<Member>],
    scope: &Scope<'_>,
    has_fallback: bool,
) -> Vec<Fence> {
    let items = table.get("fence").and_then(|value| value.one_or_many("a list of fences"));
    let mut fences: Vec<Fence> = Vec::new();
    let before = table.report.errors();
    for item in items.unwrap_or_default() {
        let Some(fence) = read_fence(&item, table, members, scope) else { continue };
        let same = |other: &Fence| {
            let kind = std::mem::discriminant(&other.rule) == std::mem::discriminant(&fence.rule);
            kind && other.region == fence.region
        };
        if fences.iter().any(same) {
            item.fail::<()>("this region has such a fence already; put all places into one list");
        }
        fences.push(fence);
        let region = fences[fences.len() - 1].region;
        if excludes_everybody(region, &fences, scope.groups) {
            let name = scope.region_names.name(usize::from(region.0));
            item.fail::<()>(format!("the fences leave no client that may be sent to region `{name}`"));
        }
    }
    if table.report.errors() == before && !has_fallback {
        warn_of_gaps(table, &fences, members, scope);
    }
    fences
}

fn read_fence(
    value: &Value<'_>,
    service: &Table<'_>,
    members: &[At<Member>],
    scope: &Scope<'_>,
) -> Option<Fence> {
    let table = value.table(service.path("fence"), &FENCE)?;
    let region = table.need("region").and_then(|value| member(&value, members, scope));
    let rule = match (table.get("only"), table.get("except")) {
        (Some(value), None) => Some(FenceRule::Only(bare(places(&value, scope.group_names)))),
        (None, Some(value)) => Some(FenceRule::Except(bare(places(&value, scope.group_names)))),
        _ => value.fail("a fence needs `only` or `except`, and not both"),
    };
    Some(Fence { region: region?, rule: rule? })
}

/// The places of a region's `only` and of its `except`, with groups expanded; `None` where there is no such fence.
fn sides(region: RegionId, fences: &[Fence], groups: &[Group]) -> [Option<Vec<PlaceKey>>; 2] {
    let mut sides = [None, None];
    for fence in fences.iter().filter(|fence| fence.region == region) {
        let (side, places) = match &fence.rule {
            FenceRule::Only(places) => (0, places),
            FenceRule::Except(places) => (1, places),
        };
        let mut open = Vec::new();
        let mut seen = vec![false; groups.len()];
        places.iter().for_each(|place| expand(place, groups, &mut seen, &mut open));
        sides[side] = Some(open);
    }
    sides
}

/// Expands groups. A group that contains itself has been reported; here it is visited once.
fn expand(place: &PlaceKey, groups: &[Group], seen: &mut [bool], into: &mut Vec<PlaceKey>) {
    match *place {
        PlaceKey::Group(group) if std::mem::replace(&mut seen[group], true) => {}
        PlaceKey::Group(group) => {
            groups[group].places.iter().for_each(|inner| expand(inner, groups, seen, into));
        }
        _ => into.push(*place),
    }
}

/// Whether it is certain that no client may be sent to a region.
fn excludes_everybody(region: RegionId, fences: &[Fence], groups: &[Group]) -> bool {
    let [only, except] = sides(region, fences, groups);
    let Some(except) = except else { return false };
    let only = only.unwrap_or_else(|| vec![PlaceKey::Any]);
    only.iter().all(|place| except.iter().any(|other| covers(other, place)))
}

/// Whether every client in `inner` is in `outer` too.
fn covers(outer: &PlaceKey, inner: &PlaceKey) -> bool {
    match (outer, inner) {
        (PlaceKey::Any, _) => true,
        (PlaceKey::Net(outer), PlaceKey::Net(inner)) => outer.contains(inner),
        (PlaceKey::Country(outer), PlaceKey::Subdivision(inner, _)) => outer == inner,
        (PlaceKey::Continent(outer), PlaceKey::Country(inner) | PlaceKey::Subdivision(inner, _)) => {
            continent_of(*inner) == Some(*outer)
        }
        _ => outer == inner,
    }
}

/// Warns if the fences of several regions together exclude the clients of a country, or those that cannot be located.
/// The fence of a single region is obviously intended.
fn warn_of_gaps(table: &Table<'_>, fences: &[Fence], members: &[At<Member>], scope: &Scope<'_>) {
    let fenced: Vec<_> = members.iter().map(|it| sides(it.value.region, fences, scope.groups)).collect();
    // A network, ASN or subdivision may admit part of a country, so the gap is not certain.
    let is_coarse =
        |place: &PlaceKey| matches!(place, PlaceKey::Country(_) | PlaceKey::Continent(_) | PlaceKey::Any);
    let is_certain = fenced.iter().all(|[only, _]| only.iter().flatten().all(is_coarse));
    if fenced.len() < 2 || !is_certain {
        return;
    }
    let is_left_out = |country: Option<Country>| {
        let location = Location { country, continent: country.and_then(continent_of), ..Location::default() };
        let client = Place { location, ..Place::default() };
        let lies_in = |places: &[PlaceKey]| places.iter().any(|place| client.is_in(place, &[]));
        let may = |[only, except]: &[Option<Vec<PlaceKey>>; 2]| {
            only.as_deref().is_none_or(lies_in) && !except.as_deref().is_some_and(lies_in)
        };
        !fenced.iter().any(may)
    };
    let left_out: Vec<_> = countries().filter(|country| is_left_out(Some(*country))).collect();
    let mut whom: Vec<String> = Vec::new();
    if !left_out.is_empty() {
        whom.push(format!("clients in {}", listed(&left_out)));
    }
    if is_left_out(None) {
        whom.push("clients that cannot be located".into());
    }
    if !whom.is_empty() {
        table.report.warning(
            table.key_span("fence"),
            format!("fences leave no region to {}", whom.join(", nor to ")),
            "they get no address; leave a region without a fence, or say all_down = { fallback = […] }, which is for them too",
        );
    }
}

/// "DE, FR", or the first few and the number of the rest.
fn listed(countries: &[Country]) -> String {
    const SHOWN: usize = 5;
    let names: Vec<_> = countries.iter().take(SHOWN).map(ToString::to_string).collect();
    match countries.len() - names.len() {
        0 => names.join(", "),
        1 => format!("{} and 1 more country", names.join(", ")),
        more => format!("{} and {more} more countries", names.join(", ")),
    }
}
