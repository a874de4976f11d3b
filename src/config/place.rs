//! Places: their keys, `[group]`, locations; and the names that other tables refer to.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};

use crate::geo::continent_of;
use crate::model::{Continent, Country, Group, Location, PlaceKey, Point, Subdivision};

use super::keys::Shape::{Number, OneOrMany, Text};
use super::keys::{Keys, key, otherwise, required};
use super::table::{At, Entry, Table, Value};
use super::text;

/// The description of a place in messages.
pub(super) const A_PLACE: &str = "a place such as \"country:DE\"";

/// The names of one kind that the config defines, in order: the index is the id.
pub(super) struct Names<'a> {
    what: &'static str,
    names: Vec<&'a str>,
    /// By index, whether anything refers to it.
    used: RefCell<Vec<bool>>,
}

impl<'a> Names<'a> {
    /// The names of a table of tables, e.g. `[region.NAME]`, and its entries.
    pub(super) fn read(root: &Table<'a>, what: &'static str) -> (Self, Vec<Entry<'a>>) {
        let entries = root.get(what).map(|value| value.entries()).unwrap_or_default();
        if entries.len() > usize::from(u16::MAX) {
            root.report.error(root.key_span(what), format!("at most {} of `{what}` fit", u16::MAX));
        }
        for entry in &entries {
            if let Err(message) = text::own_name(entry.name) {
                root.report.error(entry.span.clone(), message);
            }
        }
        let names = entries.iter().map(|entry| entry.name).collect();
        (Self { what, names, used: RefCell::new(vec![false; entries.len()]) }, entries)
    }

    /// The index of a name, or the message for a name that is not defined.
    pub(super) fn index(&self, name: &str) -> Result<usize, String> {
        let index = self.names.iter().position(|other| *other == name).ok_or_else(|| {
            let hint = text::did_you_mean(name, self.names.iter().copied());
            format!("{} `{}` is not defined{hint}", self.what, text::shortened(name))
        })?;
        self.used.borrow_mut()[index] = true;
        Ok(index)
    }

    /// Warns of names that nothing has referred to so far. Skipped if there are errors, which may be the reason.
    pub(super) fn warn_of_unused(&self, entries: &[Entry<'_>], by: &str, help: &str) {
        for (entry, is_used) in entries.iter().zip(&*self.used.borrow()) {
            let report = entry.value.report;
            if !is_used && report.errors() == 0 {
                let message = format!("{} `{}` is not used by any {by}", self.what, entry.name);
                report.warning(entry.span.clone(), message, help);
            }
        }
    }

    /// The index of the name that a value holds.
    pub(super) fn refer(&self, value: &Value<'_>) -> Option<usize> {
        let Some(name) = value.as_text() else {
            return value.expected(&format!("the name of a {}", self.what));
        };
        match self.index(name) {
            Ok(index) => Some(index),
            // Its table is there, but a syntax error has swallowed it.
            Err(_) if value.report.is_torn() && value.report.mentions(&format!("{}.{name}", self.what)) => {
                None
            }
            Err(message) => value.fail(message),
        }
    }

    pub(super) fn name(&self, index: usize) -> &'a str {
        self.names[index]
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

/// Reads `net:198.51.100.0/24`, `asn:64500`, `region:US-CA`, `country:DE`, `group:eea`, `continent:EU`, `*`.
pub(super) fn place(text: &str, groups: &Names<'_>) -> Result<PlaceKey, String> {
    const KINDS: [&str; 6] = ["net", "asn", "region", "country", "group", "continent"];
    if text == "*" {
        return Ok(PlaceKey::Any);
    }
    let Some((kind, rest)) = text.split_once(':') else {
        let kinds = KINDS.map(|kind| format!("{kind}:")).join(", ");
        return Err(format!(
            "{:?} is not a valid place; places start with {kinds} or are \"*\"",
            text::shortened(text)
        ));
    };
    match kind {
        "net" => text::prefix(rest).map(PlaceKey::Net),
        "asn" => rest
            .parse()
            .map(PlaceKey::Asn)
            .map_err(|_| format!("{rest:?} is not an AS number from 0 to {}", u32::MAX)),
        "region" => subdivision(rest).map(|(country, part)| PlaceKey::Subdivision(country, part)),
        "country" => country(rest).map(PlaceKey::Country),
        "group" => groups.index(rest).map(PlaceKey::Group),
        "continent" => continent(rest).map(PlaceKey::Continent),
        _ => {
            let hint = text::did_you_mean(kind, KINDS.into_iter());
            Err(format!("{:?} is not a kind of place{hint}", text::shortened(kind)))
        }
    }
}

/// A country that exists: a code that is not assigned would silently match no client.
fn country(text: &str) -> Result<Country, String> {
    let country: Country = text.parse().map_err(|()| {
        format!("{:?} is not a country code of two letters (ISO 3166-1)", text::shortened(text))
    })?;
    if continent_of(country).is_some() {
        return Ok(country);
    }
    // The two most common mistakes: one code is reserved, the other is from another standard.
    let hint = match &country.0 {
        b"UK" => "; did you mean `GB`?",
        b"EL" => "; did you mean `GR`?",
        _ => "",
    };
    Err(format!("ISO 3166-1 has no country {country}{hint}"))
}

fn continent(text: &str) -> Result<Continent, String> {
    text.parse().map_err(|()| {
        format!("{:?} is not a continent: one of AF, AN, AS, EU, NA, OC, SA", text::shortened(text))
    })
}

fn subdivision(text: &str) -> Result<(Country, Subdivision), String> {
    let error = || format!("{:?} is not a subdivision such as US-CA (ISO 3166-2)", text::shortened(text));
    let (of, part) = text.split_once('-').ok_or_else(error)?;
    Ok((country(of)?, part.parse().map_err(|()| error())?))
}

/// Reads a list of at least one place without duplicates.
pub(super) fn places(value: &Value<'_>, groups: &Names<'_>) -> Vec<At<PlaceKey>> {
    let mut places: Vec<At<PlaceKey>> = Vec::new();
    let mut seen: HashSet<PlaceKey> = HashSet::new();
    for item in value.one_or_many("a list of places such as [\"country:DE\"]").unwrap_or_default() {
        let Some(place) = item.parsed(A_PLACE, |text| place(text, groups)) else { continue };
        if !seen.insert(place) {
            item.fail::<()>("this place is listed twice");
        }
        item.report.place(item.span.clone(), &place);
        places.push(item.at(place));
    }
    places
}

/// The places without their positions.
pub(super) fn bare(places: Vec<At<PlaceKey>>) -> Vec<PlaceKey> {
    places.into_iter().map(|place| place.value).collect()
}

pub(super) const GROUP: Keys = Keys {
    known: &[key(
        "places",
        OneOrMany(&Text),
        required("[\"country:DE\", \"net:198.51.100.0/24\"]"),
        "places: net:, asn:, region: (ISO 3166-2), country:, group:, continent: or \"*\"",
    )],
    later: &[],
};

/// Reads the bodies of `[group.NAME]`; the result has one group per name.
pub(super) fn read_groups(names: &Names<'_>, entries: &[Entry<'_>]) -> Vec<Group> {
    let mut groups: Vec<Vec<At<PlaceKey>>> = Vec::new();
    for entry in entries {
        let table = entry.value.table(format!("group.{}", entry.name), &GROUP);
        let value = table.and_then(|table| table.need("places"));
        groups.push(value.map(|value| places(&value, names)).unwrap_or_default());
    }
    for cycle in cycles(&groups) {
        let path: Vec<_> = cycle.iter().map(|member| names.name(member.value)).collect();
        let start = path.last().copied().unwrap_or_default();
        let Some(first) = cycle.first() else { continue };
        entries[0].value.report.error(
            first.span.clone(),
            format!("group `{start}` contains itself: {start} → {}", path.join(" → ")),
        );
    }
    let named = groups.into_iter().enumerate();
    named.map(|(index, places)| Group { name: names.name(index).into(), places: bare(places) }).collect()
}

/// Each cycle of groups that contain each other, starting at its lowest index: the groups it leads through and the
/// places where they are named, ending with the first group again.
fn cycles(groups: &[Vec<At<PlaceKey>>]) -> Vec<Vec<At<usize>>> {
    let mut found = Vec::new();
    let mut done = vec![false; groups.len()];
    for start in 0..groups.len() {
        if let Some(path) = shortest_cycle(groups, start, &done) {
            found.push(path);
        }
        // Later cycles through `start` are those just reported.
        done[start] = true;
    }
    found
}

/// The shortest path from `start` back to itself that avoids the groups in `closed`.
fn shortest_cycle(groups: &[Vec<At<PlaceKey>>], start: usize, closed: &[bool]) -> Option<Vec<At<usize>>> {
    let mut came_from: Vec<Option<At<usize>>> = vec![None; groups.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(group) = queue.pop_front() {
        for place in &groups[group] {
            let PlaceKey::Group(next) = place.value else { continue };
            if closed[next] || came_from[next].is_some() {
                continue;
            }
            came_from[next] = Some(At { value: group, span: place.span.clone() });
            if next == start {
                return Some(path_of(&came_from, start));
            }
            queue.push_back(next);
        }
    }
    None
}

fn path_of(came_from: &[Option<At<usize>>], start: usize) -> Vec<At<usize>> {
    let mut path = Vec::new();
    let mut at = start;
    while let Some(step) = &came_from[at] {
        path.push(At { value: at, span: step.span.clone() });
        at = step.value;
        if at == start {
            break;
        }
    }
    path.reverse();
    path
}

pub(super) const LOCATION: Keys = Keys {
    known: &[
        key("country", Text, otherwise("\"IE\"", "unknown"), "two-letter country code (ISO 3166-1)"),
        key(
            "lat",
            Number(-90.0, 90.0),
            otherwise("53.35", "unknown; for clients, the centre of the country"),
            "latitude in degrees north",
        ),
        key(
            "lon",
            Number(-180.0, 180.0),
            otherwise("-6.26", "unknown; for clients, the centre of the country"),
            "longitude in degrees east",
        ),
        key("continent", Text, otherwise("\"EU\"", "that of the country"), "AF, AN, AS, EU, NA, OC or SA"),
        key("subdivision", Text, otherwise("\"IE-D\"", "unknown"), "subdivision code (ISO 3166-2)"),
    ],
    later: &[],
};

/// Reads `{ country, lat, lon, continent, subdivision }`; at least one of them. The continent defaults to that of the
/// country.
pub(super) fn location(value: &Value<'_>, name: String) -> Option<Location> {
    if !value.is_table() {
        return value.expected("a table such as { country = \"IE\", lat = 53.35, lon = -6.26 }");
    }
    let before = value.report.errors();
    let table = value.table(name, &LOCATION)?;
    let country = table.get("country").and_then(|value| value.parsed("a country code", country));
    let continent = table.get("continent").and_then(|value| value.parsed("a continent code", continent));
    let continent = continent.or_else(|| country.and_then(continent_of));
    let part = table.get("subdivision").and_then(|value| {
        let part = value.parsed("a subdivision such as \"CA\" or \"US-CA\"", own_subdivision)?;
        match (country, part) {
            (None, _) => value.fail("`subdivision` needs `country` beside it"),
            (Some(country), (Some(other), _)) if other != country => {
                value.fail(format!("subdivision of {other} in a location of {country}"))
            }
            (Some(_), (_, part)) => Some(part),
        }
    });
    let lat = table.get("lat").map(|value| value.number(-90.0..=90.0));
    let lon = table.get("lon").map(|value| value.number(-180.0..=180.0));
    let point = match (lat, lon) {
        (Some(lat), Some(lon)) => lat.zip(lon).map(|(lat, lon)| Point { lat: lat as f32, lon: lon as f32 }),
        (None, None) => None,
        (Some(_), None) => value.fail("`lat` needs `lon` beside it"),
        (None, Some(_)) => value.fail("`lon` needs `lat` beside it"),
    };
    let found = Location { continent, country, subdivision: part, point, asn: None };
    if found.is_unknown() && value.report.errors() == before {
        return value.fail("an empty location; write at least `country`, or `lat` and `lon`");
    }
    Some(found)
}

/// Parses `CA` or `US-CA`.
fn own_subdivision(text: &str) -> Result<(Option<Country>, Subdivision), String> {
    if text.contains('-') {
        return subdivision(text).map(|(country, part)| (Some(country), part));
    }
    text.parse()
        .map(|part| (None, part))
        .map_err(|()| format!("{:?} is not a subdivision such as CA or US-CA", text::shortened(text)))
}
