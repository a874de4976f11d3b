//! Zone text as named-checkzone reads it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use portolan::model::Name;
use portolan::zone::Zone;

use super::servers::installed;
use crate::harness::skipped;

const ORIGIN: &str = "text.test.";

/// Owner and type of every RRset, with its TTL and its data in order.
type Records = BTreeMap<(String, u16), (u32, Vec<Vec<u8>>)>;

fn records(text: &str) -> Records {
    let origin: Name = ORIGIN.parse().expect("an origin");
    let mut include = |_: &str| Err("nothing to include".to_owned());
    let zone = Zone::read(&origin, text, "zone", &mut include).unwrap_or_else(|errors| panic!("{errors:?}"));
    let sets = zone.names.iter().flat_map(|(name, sets)| sets.iter().map(move |set| (name, set)));
    sets.map(|(name, set)| {
        let mut data: Vec<_> = set.rdata.iter().map(|data| data.to_vec()).collect();
        data.sort();
        ((name.to_string(), set.rtype), (set.ttl.0, data))
    })
    .collect()
}

/// Its dump has neither `@` nor relative names nor `$GENERATE`.
#[test]
fn text_means_what_bind_reads() {
    let Some(program) = installed("named-checkzone") else {
        return skipped("named-checkzone is not installed (Debian package bind9-utils)");
    };
    let text = include_str!("zones/text.zone");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, dump) = (folder.path().join("zone"), folder.path().join("dump"));
    fs::write(&file, text).expect("a file");
    let done = Command::new(program)
        .args(["-i", "none", "-k", "ignore", "-D", "-o"])
        .args([dump.as_os_str(), ORIGIN.as_ref(), file.as_os_str()])
        .output()
        .expect("it runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    let (ours, theirs) = (records(text), records(&fs::read_to_string(dump).expect("its dump")));
    assert!(ours.len() > 60, "{} RRsets", ours.len());
    for (at, set) in &ours {
        assert_eq!(Some(set), theirs.get(at), "{at:?}");
    }
    assert_eq!(ours.len(), theirs.len(), "more is in the dump");
}
