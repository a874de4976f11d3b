//! Config text: rejected with locations that exist, or compiled and able to answer.

use std::io;
use std::path::Path;
use std::sync::Arc;

use portolan::answer::{Outcome, Transport};
use portolan::config::{self, Config, Diagnostics, Source};
use portolan::health::{Severity, State};
use portolan::zone::rtype;

use crate::fixture::{self, ZONE};

/// Services asked for per config.
const MAX_ASKED: usize = 16;
/// The most networks and places of a config that a fuzzer can compile fast enough.
const MAX_COMPILED: usize = 64;

/// Loads text as `portolan.toml`, along with a zone and a latency table.
pub(crate) fn load(bytes: &[u8]) {
    let read = |source: &Source<'_>| match source.path.to_str() {
        Some("portolan.toml") => Ok(bytes.to_vec()),
        Some("fixture.zone") => Ok(ZONE.to_vec()),
        Some("latency.csv") => Ok(b"place,region,ms\ncountry:DE,eu-west,12\n".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    match config::load(Path::new("portolan.toml"), &read) {
        Ok(config) => {
            assert!(!config.warnings.has_errors(), "{}", config.warnings);
            have_valid_locations(&config.warnings);
            serve(config);
        }
        Err(config::Refused { diagnostics, .. }) => {
            assert!(diagnostics.has_errors(), "rejected without a reason");
            have_valid_locations(&diagnostics);
        }
    }
}

fn have_valid_locations(diagnostics: &Diagnostics) {
    for it in diagnostics {
        let Some(source) = diagnostics.source(&it.file) else {
            let is_no_text = it.message.starts_with("not UTF-8");
            assert!(is_no_text || (it.line, it.column) == (1, 1), "{it}");
            continue;
        };
        let line = source.split('\n').nth(it.line - 1).unwrap_or_else(|| panic!("no such line: {it}"));
        let width = line.chars().count() + 1;
        assert!(it.column >= 1 && it.column <= width, "no such column: {it}");
        assert!(it.end_column > it.column && it.end_column <= width + 1, "no such end: {it:?}");
    }
}

/// A valid config compiles, and every service answers, with all addresses up and with all down.
fn serve(config: Config) {
    if config.nets().len() + config.geo.networks.len() > MAX_COMPILED {
        return;
    }
    let plan = fixture::compile(config);
    for state in [State::Up, State::Unknown, State::Down(Severity::Hard)] {
        let snapshot = fixture::snapshot_with(Arc::clone(&plan), &|_, _| state);
        for service in plan.topology.services.iter().take(MAX_ASKED) {
            for rtype in [rtype::A, rtype::AAAA, rtype::SOA] {
                let query = fixture::query(service.name.as_wire(), rtype);
                let (_, outcome) = fixture::ask(&snapshot, &query, Transport::Tcp);
                assert!(matches!(outcome, Outcome::Answered { .. }), "{} is dropped", service.name);
            }
        }
    }
}
