//! Where a redirect leads.

use http::uri::{Authority, Scheme, Uri};

use crate::model::{RedirectPiece, RedirectTo};

use super::super::table::Table;
use super::super::text;

const PLACEHOLDERS: [(&str, RedirectPiece); 4] = [
    ("{host}", RedirectPiece::Host),
    ("{path}", RedirectPiece::Path),
    ("{query}", RedirectPiece::Query),
    ("{uri}", RedirectPiece::Uri),
];

/// Reads `to`, or `scheme` and what may be with it.
pub(super) fn read(redirect: &Table<'_>) -> Option<RedirectTo> {
    if redirect.has("to") {
        redirect.refuse(&["scheme", "host", "port"], "with `to`");
        return redirect.get("to")?.parsed("a URL or a path", parse);
    }
    let Some(scheme) = redirect.get("scheme") else {
        redirect.report.absent(redirect.span.clone(), "a redirect needs `to` or `scheme`");
        return None;
    };
    let scheme = scheme.choice(&[("https", "https"), ("http", "http")], &[]);
    let host =
        redirect.get("host").map(|value| value.parsed("a host such as \"www.example.com\"", text::host));
    let port = redirect.get("port").map(|value| value.integer(1..=65_535));
    let mut pieces = vec![RedirectPiece::Text(format!("{}://", scheme?))];
    pieces.push(match host {
        None => RedirectPiece::Host,
        Some(host) => RedirectPiece::Text(text::authority(&host?).to_string()),
    });
    if let Some(port) = port {
        pieces.push(RedirectPiece::Text(format!(":{}", port?)));
    }
    pieces.push(RedirectPiece::Uri);
    Some(RedirectTo(pieces))
}

/// Parses a URL or a path, with placeholders.
fn parse(written: &str) -> Result<RedirectTo, String> {
    let pieces = pieces(written)?;
    let error = || {
        format!(
            "{:?} is not a valid location: write a URL such as \"https://www.example.com/\", or a path",
            text::shortened(written)
        )
    };
    let authority = authority(&sample(&pieces, "a", "a")).ok_or_else(error)?;
    // What a client writes into its URL must not choose the host.
    if self::authority(&sample(&pieces, "b", "/b")) != Some(authority) {
        return Err("what the client sends could choose the host: write `/?` before it".into());
    }
    Ok(RedirectTo(pieces))
}

fn pieces(written: &str) -> Result<Vec<RedirectPiece>, String> {
    let mut pieces = Vec::new();
    let mut rest = written;
    while let Some(at) = rest.find(['{', '}']) {
        let (text, braced) = rest.split_at(at);
        let found = PLACEHOLDERS.iter().find(|(name, _)| braced.starts_with(name));
        let Some((name, piece)) = found else {
            let name = braced.split_inclusive('}').next().unwrap_or(braced);
            let name = text::shortened(name);
            return Err(format!(
                "`{name}` is not a placeholder: use {{host}}, {{path}}, {{query}} or {{uri}}"
            ));
        };
        if !text.is_empty() {
            pieces.push(RedirectPiece::Text(text.into()));
        }
        pieces.push(piece.clone());
        rest = &braced[name.len()..];
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(RedirectPiece::Text(rest.into()));
    }
    Ok(pieces)
}

/// The location for a request with this word in its path, and this query.
fn sample(pieces: &[RedirectPiece], word: &str, query: &str) -> String {
    let text = |piece: &RedirectPiece| match piece {
        RedirectPiece::Text(text) => text.clone(),
        RedirectPiece::Host => "host.example".into(),
        RedirectPiece::Path | RedirectPiece::Uri => format!("/{word}"),
        RedirectPiece::Query => query.into(),
    };
    pieces.iter().map(text).collect()
}

/// The authority of a URL, none for a path; `None` if it is neither.
fn authority(location: &str) -> Option<Option<Authority>> {
    // `//host/` would lead to another host.
    let is_path = location.starts_with('/') && !location.starts_with("//");
    let uri: Uri = location.split('#').next().unwrap_or_default().parse().ok()?;
    let is_url = uri.authority().is_some()
        && uri.scheme().is_some_and(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
    (is_path || is_url).then(|| uri.authority().cloned())
}
