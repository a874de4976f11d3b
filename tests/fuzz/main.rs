//! Fuzzing. Each target is a function that takes bytes and panics if an invariant is violated.
//!
//! `cargo test` replays the corpora in `__fuzz__/TARGET/corpus` and tries random bytes for a second. To search
//! further with libFuzzer, run `./tests/fuzz/run`. Each finding is added to the corpus along with its fix.

mod config;
mod documents;
mod edns;
mod exchanges;
mod fixture;
mod floods;
mod geo;
mod headers;
mod hellos;
mod http1;
mod lanes;
mod packets;
mod proxied;
mod routes;
mod sessions;
mod zones;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use bolero::check;

/// The longest inputs worth trying: longer ones find nothing new.
const MAX_PACKET: usize = 1_500;
const MAX_TEXT: usize = 16 * 1024;

#[test]
fn packets() {
    check!().with_max_len(MAX_PACKET).for_each(packets::answer);
}

#[test]
fn edns() {
    check!().with_max_len(MAX_PACKET).for_each(edns::answer);
}

#[test]
fn floods() {
    check!().with_max_len(MAX_PACKET).for_each(floods::answer);
}

#[test]
fn zones() {
    check!().with_max_len(MAX_TEXT).for_each(zones::read);
}

#[test]
fn configs() {
    check!().with_max_len(MAX_TEXT).for_each(config::load);
}

#[test]
fn geo() {
    check!().with_max_len(MAX_TEXT).for_each(geo::read);
}

#[test]
fn documents() {
    check!().with_max_len(MAX_TEXT).for_each(documents::check);
}

#[test]
fn headers() {
    check!().with_max_len(MAX_PACKET).for_each(headers::read);
}

#[test]
fn hellos() {
    check!().with_max_len(MAX_PACKET).for_each(hellos::send);
}

#[test]
fn sessions() {
    check!().with_max_len(MAX_PACKET).for_each(sessions::read);
}

#[test]
fn routes() {
    check!().with_max_len(MAX_PACKET).for_each(routes::take);
}

#[test]
fn exchanges() {
    check!().with_max_len(MAX_PACKET).for_each(exchanges::exchange);
}

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 12] = [
    ("packets", packets::answer),
    ("edns", edns::answer),
    ("floods", floods::answer),
    ("zones", zones::read),
    ("configs", config::load),
    ("geo", geo::read),
    ("documents", documents::check),
    ("headers", headers::read),
    ("hellos", hellos::send),
    ("sessions", sessions::read),
    ("routes", routes::take),
    ("exchanges", exchanges::exchange),
];

/// The files of a target's corpus, ordered by name.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/__fuzz__").join(target).join("corpus");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    files
}

/// Replays the whole corpora, unlike `check!`, which has only a second.
#[test]
fn corpora_replay() {
    for (name, target) in TARGETS {
        let files = corpus(name);
        assert!(files.len() >= 10, "{name} has {} files", files.len());
        for file in files {
            let bytes = fs::read(&file).expect("a readable file");
            assert!(catch_unwind(|| target(&bytes)).is_ok(), "{}", file.display());
        }
    }
}
