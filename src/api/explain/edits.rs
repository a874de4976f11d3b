//! What a route changes, in words.

use axum::http::Uri;

use super::super::dto;
use crate::model::{Edits, HeaderEdits};

/// The changes of a request for this URL.
pub(super) fn edits(edits: &Edits, url: &Uri) -> dto::RouteEdits {
    let path = edits.path.as_ref().map(|edit| {
        let path = edit.apply(url.path());
        url.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"))
    });
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    dto::RouteEdits {
        path,
        host: edits.host.as_ref().map(text),
        request_headers: headers(&edits.request),
        response_headers: headers(&edits.response),
    }
}

/// Each change as a clause such as "set x-site: eu".
fn headers(edits: &HeaderEdits) -> Vec<String> {
    let removed = edits.remove.iter().map(|name| format!("remove {name}"));
    let set = edits.set.iter().map(|it| ("set", it));
    let written = set.chain(edits.add.iter().map(|it| ("add", it)));
    let written = written
        .map(|(verb, (name, value))| format!("{verb} {name}: {}", String::from_utf8_lossy(value.as_bytes())));
    removed.chain(written).collect()
}
