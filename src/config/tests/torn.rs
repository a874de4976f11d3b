//! A config damaged in many ways: it is rejected or valid, and every diagnostic has a location that exists.

use super::super::Refused;
use super::good::{FULL, LATENCY};
use super::proxy::BALANCER;
use super::{ZONE, load_with};
use crate::model::{Condition, PlaceKey, Proxy, Rank, RegionId, RouteAction, Topology};

/// Loads a config and checks the properties that every caller relies on.
fn is_sound(text: &str) {
    let files: &[(&str, &[u8])] =
        &[("latency.csv", LATENCY.as_bytes()), ("zones/gslb.test.zone", ZONE.as_bytes())];
    let reported = match load_with(text, files) {
        Ok(config) => {
            has_valid_ids(&config.topology);
            config.proxy.iter().for_each(|proxy| has_valid_pools(proxy, &config.topology));
            assert!(!config.warnings.has_errors(), "{}\nof:\n{text}", config.warnings);
            config.warnings
        }
        Err(Refused { diagnostics: reported, .. }) => {
            assert!(reported.has_errors(), "rejected without a reason:\n{text}");
            reported
        }
    };
    for it in &reported {
        let Some(source) = reported.source(&it.file) else {
            assert_eq!((it.line, it.column), (1, 1), "{it}");
            continue;
        };
        // An error at the end of a file may be in the line after its last newline.
        let line =
            source.split('\n').nth(it.line - 1).unwrap_or_else(|| panic!("no such line: {it}\nof:\n{text}"));
        let width = line.chars().count() + 1;
        assert!(it.column >= 1 && it.column <= width, "no such column: {it}\nof:\n{text}");
        assert!(it.end_column > it.column && it.end_column <= width + 1, "no such end: {it:?}\nof:\n{text}");
    }
}

fn has_valid_pools(Proxy { listeners, .. }: &Proxy, topology: &Topology) {
    for route in listeners.iter().flat_map(|listener| &listener.routes) {
        if let RouteAction::Forward(pools) = &route.action {
            assert!(!pools.is_empty());
            pools.iter().for_each(|(pool, _)| assert!(usize::from(pool.0) < topology.pools.len()));
        }
    }
    for pool in &topology.pools {
        assert!(!pool.backends.is_empty());
        let probes = pool.healthy_when.probes();
        probes.iter().for_each(|id| assert!(usize::from(id.0) < topology.probes.len()));
    }
}

fn has_valid_ids(topology: &Topology) {
    let region = |id: RegionId| assert!(usize::from(id.0) < topology.regions.len());
    let place = |key: &PlaceKey| {
        if let PlaceKey::Group(index) = key {
            assert!(*index < topology.groups.len());
        }
    };
    for it in &topology.regions {
        assert!(!it.endpoints.is_empty());
        it.healthy_when.leaves(&mut |leaf| match leaf {
            Condition::Endpoint(at) => assert!(!topology.endpoint(*at).name.is_empty()),
            Condition::Region(id) => region(*id),
            _ => panic!("{leaf:?} in the condition of a region"),
        });
        for endpoint in &it.endpoints {
            assert!(!endpoint.listed().is_empty());
            endpoint
                .healthy_when
                .probes()
                .iter()
                .for_each(|id| assert!(usize::from(id.0) < topology.probes.len()));
        }
    }
    for it in &topology.services {
        assert!(!it.members.is_empty());
        it.members.iter().for_each(|member| region(member.region));
        if let Rank::Geo(entries) = &it.steering.rank {
            entries.iter().for_each(|entry| place(&entry.place));
            entries.iter().flat_map(|entry| entry.groups.iter().flatten()).for_each(|id| region(*id));
        }
    }
    topology.groups.iter().flat_map(|group| &group.places).for_each(place);
    topology.latency.iter().for_each(|row| region(row.region));
}

#[test]
fn cut_off_anywhere() {
    for text in [FULL, BALANCER] {
        for (end, _) in text.char_indices() {
            is_sound(&text[..end]);
        }
    }
}

#[test]
fn without_any_one_line() {
    for lines in [FULL, BALANCER].map(|text| text.lines().collect::<Vec<_>>()) {
        for gone in 0..lines.len() {
            let rest = lines.iter().enumerate().filter(|(index, _)| *index != gone).map(|(_, line)| *line);
            is_sound(&rest.collect::<Vec<_>>().join("\n"));
        }
    }
}

#[test]
fn with_any_one_value_of_another_type() {
    const OTHERS: [&str; 11] =
        ["[]", "{}", "[[]]", "[{}]", "\"\"", "-1", "1.5", "nan", "true", "1979-05-27", "\"ä\""];
    for lines in [FULL, BALANCER].map(|text| text.lines().collect::<Vec<_>>()) {
        for (index, line) in lines.iter().enumerate() {
            let Some((key, _)) = line.split_once('=') else { continue };
            for value in OTHERS {
                let mut torn: Vec<&str> = lines.clone();
                let replaced = format!("{key}= {value}");
                torn[index] = &replaced;
                is_sound(&torn.join("\n"));
            }
        }
    }
}
