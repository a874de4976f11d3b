//! Warnings about places that match no client, because the geo databases do not have them.

use std::collections::HashSet;

use crate::config::{Diagnostic, Spot};
use crate::geo::Index;
use crate::model::PlaceKey;

/// The most warnings about single places: more of them usually have the same cause.
const SHOWN: usize = 20;

/// The kinds of places that databases have.
const KINDS: [PlaceKind; 4] = [
    PlaceKind { start: "asn:", what: "AS numbers", is_of: |place| matches!(place, PlaceKey::Asn(_)) },
    PlaceKind {
        start: "region:",
        what: "subdivisions",
        is_of: |place| matches!(place, PlaceKey::Subdivision(..)),
    },
    PlaceKind { start: "country:", what: "countries", is_of: |place| matches!(place, PlaceKey::Country(_)) },
    PlaceKind {
        start: "continent:",
        what: "continents",
        is_of: |place| matches!(place, PlaceKey::Continent(_)),
    },
];

struct PlaceKind {
    start: &'static str,
    what: &'static str,
    is_of: fn(&PlaceKey) -> bool,
}

/// Warns about each place once, where it is first named, and once about each kind that no database has.
pub(super) fn check(named: &[(PlaceKey, Spot)], geo: &Index) -> Vec<Diagnostic> {
    if !named.iter().any(|(place, _)| KINDS.iter().any(|kind| (kind.is_of)(place))) {
        return Vec::new();
    }
    let mut found: HashSet<PlaceKey> = HashSet::new();
    for place in geo.places() {
        let it = &place.location;
        found.extend(it.asn.map(PlaceKey::Asn));
        found.extend(it.country.zip(it.subdivision).map(|(of, part)| PlaceKey::Subdivision(of, part)));
        found.extend(it.country.map(PlaceKey::Country));
        found.extend(it.continent.map(PlaceKey::Continent));
    }
    let mut warnings = Vec::new();
    let mut seen = HashSet::new();
    for kind in &KINDS {
        let of_kind = |(place, _): &&(PlaceKey, Spot)| (kind.is_of)(place);
        let mut of_kind = named.iter().filter(of_kind).filter(|(place, _)| seen.insert(place)).peekable();
        if found.iter().any(kind.is_of) {
            let empty = of_kind.filter(|(place, _)| !found.contains(place));
            warnings.extend(empty.map(|(place, spot)| of_one(kind, place, spot)));
        } else if let Some((_, first)) = of_kind.next() {
            warnings.push(of_all(kind, first, of_kind.count()));
        }
    }
    warnings.truncate(SHOWN);
    warnings
}

fn of_one(kind: &PlaceKind, place: &PlaceKey, spot: &Spot) -> Diagnostic {
    let name = match place {
        PlaceKey::Asn(asn) => asn.to_string(),
        PlaceKey::Subdivision(country, part) => format!("{country}-{part}"),
        PlaceKey::Country(country) => country.to_string(),
        PlaceKey::Continent(continent) => continent.to_string(),
        PlaceKey::Net(_) | PlaceKey::Group(_) | PlaceKey::Any => String::new(),
    };
    spot.warning(
        format!("the geo databases have no address in `{}{name}`", kind.start),
        "it matches no client; check the spelling, or describe the networks in [[geo.network]]".into(),
    )
}

fn of_all(kind: &PlaceKind, first: &Spot, others: usize) -> Diagnostic {
    let unmatched = match others {
        0 => "this matches no client".into(),
        1 => "this and 1 more such place match no client".into(),
        _ => format!("this and {others} more such places match no client"),
    };
    first.warning(
        format!("the geo databases have no {}, so {unmatched}", kind.what),
        format!("name a database with {} in `database` of [geo]", kind.what),
    )
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use crate::config::Diagnostic;
    use crate::prepare::{Origin, prepare};

    /// The warnings and errors about the databases if two groups, which nothing uses, have these places.
    fn diagnostics(database: &str, places: &str) -> String {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mmdb").join(database);
        let text = format!(
            "version = 1\ngeo.database = {:?}\ngroup.g.places = [{places}]\ngroup.h.places = [{places}]\n",
            data.display().to_string()
        );
        let files: [(PathBuf, Vec<u8>); 0] = [];
        let all = match prepare(&Origin::Text { toml: text.into(), files: files.into() }) {
            Ok(prepared) => prepared.config.warnings,
            Err(errors) => errors,
        };
        let is_of_database = |it: &&Diagnostic| {
            !it.message.ends_with("not used by any fence, geo table or latency")
                && !it.message.starts_with("this config answers no query")
        };
        let of_databases = all.iter().filter(is_of_database);
        let lines: String = of_databases.map(|it| format!("{it}\n")).collect();
        lines.replace(&data.display().to_string(), database)
    }

    #[test]
    fn places_that_the_databases_do_not_have_get_a_warning() {
        let help = "it matches no client; check the spelling, or describe the networks in [[geo.network]]";
        assert_eq!(
            diagnostics(
                "GeoIP2-City-Test.mmdb",
                r#""country:GB", "country:AQ", "region:GB-ENG", "region:GB-XYZ""#
            ),
            format!(
                "portolan.toml:3:33: warning: the geo databases have no address in `country:AQ`\n  help: {help}\n\
                 portolan.toml:3:64: warning: the geo databases have no address in `region:GB-XYZ`\n  help: {help}\n"
            )
        );
        assert_eq!(
            diagnostics("GeoIP2-City-Test.mmdb", r#""asn:1", "asn:2", "country:GB""#),
            "portolan.toml:3:19: warning: the geo databases have no AS numbers, so this and 1 more such place \
             match no client\n  help: name a database with AS numbers in `database` of [geo]\n"
        );
        assert_eq!(
            diagnostics("GeoLite2-ASN-Test.mmdb", r#""asn:1221", "country:DE""#),
            "portolan.toml:3:31: warning: the geo databases have no countries, so this matches no client\n  \
             help: name a database with countries in `database` of [geo]\n"
        );
    }

    #[test]
    fn bad_databases_are_reported_along_with_other_mistakes() {
        let shown = diagnostics("LICENSE-MIT", r#""country:ZZ""#);
        let lines: Vec<_> = shown.lines().collect();
        assert!(
            lines[0].starts_with("portolan.toml:2:16: error: geo database LICENSE-MIT: not a MaxMind DB"),
            "{shown}"
        );
        assert_eq!(
            lines[1],
            "  help: name an .mmdb file with countries, coordinates or ASNs, or \"builtin\""
        );
        assert_eq!(lines[2], "portolan.toml:3:19: error: ISO 3166-1 has no country ZZ");
    }
}
