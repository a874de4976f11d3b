//! The page at `/`: its files, which are embedded in the program, and what browsers are told to allow them.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::problem::Problem;

/// Only what this server sends is loaded and asked for, no other page may frame it, and no form leaves it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Where the files are. A version follows, so that a browser never mixes those of two programs.
const FOLDER: &str = "/page/";

/// How many digits of a hash make a version.
const VERSION_DIGITS: usize = 16;

/// What stands for the version in `index.html`.
const PLACEHOLDER: &str = "@VERSION@";

const INDEX: &str = include_str!("page/index.html");

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_bytes!(concat!("page/", $name)).as_slice())),*]
    };
}

/// All files but `index.html`.
static FILES: &[(&str, &[u8])] = files! {
    "chart/chart.js"
    "chart/flows.js"
    "chart/panel.js"
    "chart/preview.js"
    "chart/projection.js"
    "chart/sea.js"
    "chart/world.js"
    "health.js"
    "icon.svg"
    "lib.js"
    "live.js"
    "main.js"
    "node.js"
    "palette.js"
    "panels/act.js"
    "panels/attention.js"
    "panels/detail.js"
    "panels/dialog.js"
    "panels/events.js"
    "panels/explain-request.js"
    "panels/explain.js"
    "panels/history.js"
    "panels/plan.js"
    "panels/proxy.js"
    "panels/regions.js"
    "panels/rows.js"
    "panels/services.js"
    "panels/sparkline.js"
    "panels/tabs.js"
    "panels/timeline.js"
    "panels/token.js"
    "panels/traffic.js"
    "panels/tree.js"
    "status-line.js"
    "store.js"
    "style/chart.css"
    "style/layout.css"
    "style/panels.css"
    "style/theme.css"
    "theme.js"
    "trails.js"
    "vendor/LICENSES.txt"
    "vendor/htm.js"
    "vendor/preact-hooks.js"
    "vendor/preact.js"
    "vendor/uplot.css"
    "vendor/uplot.js"
    "words.js"
};

/// Changes whenever a file does.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for (name, content) in [("", INDEX.as_bytes())].iter().chain(FILES) {
        hash.update(name);
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(content);
    }
    data_encoding::HEXLOWER.encode(&hash.finalize())[..VERSION_DIGITS].to_owned()
});

/// Whether a path leads to the page, which everyone may load.
pub(super) fn is_part(path: &str) -> bool {
    path == "/" || path.starts_with(FOLDER)
}

pub(super) async fn index(headers: HeaderMap) -> Response {
    let text = INDEX.replace(PLACEHOLDER, &VERSION);
    // It is asked for each time, since it names the version of everything else.
    reply(&headers, "index.html", "no-cache", text.into_bytes())
}

pub(super) async fn file(Path((version, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let found = FILES.iter().find(|(known, _)| *known == name && version == *VERSION);
    match found {
        Some((name, content)) => {
            reply(&headers, name, "public, max-age=31536000, immutable", content.to_vec())
        }
        None => Problem::new(StatusCode::NOT_FOUND, "the page has no such file").into_response(),
    }
}

fn reply(request: &HeaderMap, name: &str, caching: &'static str, content: Vec<u8>) -> Response {
    let tag = format!("\"{}\"", *VERSION);
    let is_known = request.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str());
    let mut response =
        if is_known { StatusCode::NOT_MODIFIED.into_response() } else { content.into_response() };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type(name)),
        (header::CACHE_CONTROL, caching),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::state::event_samples;

    fn listed(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in folder.read_dir().unwrap().map(Result::unwrap) {
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                listed(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name);
            }
        }
    }

    #[test]
    fn every_file_is_embedded() {
        let mut found = BTreeSet::new();
        listed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/page"), "", &mut found);
        // The script that made the outlines of countries, and what is sent with the version in it.
        assert!(found.remove("chart/world.mjs") && found.remove("index.html"), "{found:?}");
        let embedded: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(embedded, found);
    }

    /// The path of a module, seen from that of another.
    fn resolve(from: &str, import: &str) -> String {
        let mut parts: Vec<&str> = from.split('/').collect();
        parts.pop();
        for part in import.split('/').filter(|part| *part != ".") {
            if part == ".." {
                parts.pop();
            } else {
                parts.push(part);
            }
        }
        parts.join("/")
    }

    #[test]
    fn imports_lead_to_files_of_the_page() {
        let import = regex::Regex::new(r#"(?:from ?|import ?|import\()"([^"\s]+)""#).unwrap();
        let mut count = 0;
        for (name, content) in FILES.iter().filter(|(name, _)| name.ends_with(".js")) {
            let text = std::str::from_utf8(content).unwrap();
            for found in import.captures_iter(text) {
                let path = resolve(name, &found[1]);
                assert!(FILES.iter().any(|(known, _)| *known == path), "{name} imports {}", &found[1]);
                count += 1;
            }
        }
        assert!(count > FILES.len(), "{count} imports were found");
    }

    /// The filter of events knows every kind.
    #[test]
    fn every_kind_of_event_is_in_a_group() {
        let (_, text) = FILES.iter().find(|(name, _)| *name == "panels/events.js").unwrap();
        let text = std::str::from_utf8(text).unwrap();
        for kind in event_samples() {
            let name = format!("\"{}\"", kind.name());
            assert!(text.contains(&name), "no group has {name}");
        }
    }
}
