//! Paths as they are compared: two spellings of the same path are equal.

use std::borrow::Cow;

/// The path after normalization by RFC 3986 §6.2.2: percent-encoded unreserved characters are decoded, other escapes are
/// in upper case, and dot segments are removed. An empty path is `/` (RFC 9110 §4.2.3). A `%` that begins no escape is
/// escaped itself, or `%%32e` would become the escape `%2e`: a path that is normalized stays as it is if it is normalized
/// again. Allocates only if the path changes.
pub(super) fn normalize(path: &str) -> Cow<'_, str> {
    if path.is_empty() {
        return Cow::Borrowed("/");
    }
    let decoded = decode_unreserved(path);
    match without_dot_segments(&decoded) {
        Some(shorter) => Cow::Owned(shorter),
        None => decoded,
    }
}

/// RFC 3986 §6.2.2.1 and §6.2.2.2.
fn decode_unreserved(path: &str) -> Cow<'_, str> {
    let mut decoded = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(offset) = path[at..].find('%') {
        at += offset;
        let Some((escape, octet)) = escape_at(path, at) else {
            at += 1;
            decoded.push_str(&path[copied..at]);
            decoded.push_str("25");
            copied = at;
            continue;
        };
        let is_unreserved = octet.is_ascii_alphanumeric() || b"-._~".contains(&octet);
        if is_unreserved || escape.bytes().any(|byte| byte.is_ascii_lowercase()) {
            decoded.push_str(&path[copied..at]);
            if is_unreserved {
                decoded.push(char::from(octet));
            } else {
                decoded.push_str(&escape.to_ascii_uppercase());
            }
            copied = at + escape.len();
        }
        at += escape.len();
    }
    if copied == 0 {
        return Cow::Borrowed(path);
    }
    decoded.push_str(&path[copied..]);
    Cow::Owned(decoded)
}

/// The escape that begins at a `%`, and its octet; `None` if two hexadecimal digits do not follow.
fn escape_at(path: &str, at: usize) -> Option<(&str, u8)> {
    let escape = path.get(at..at + 3)?;
    let digit = |index: usize| char::from(escape.as_bytes()[index]).to_digit(16);
    let octet = digit(1)? * 16 + digit(2)?;
    Some((escape, u8::try_from(octet).ok()?))
}

/// RFC 3986 §5.2.4; `None` if there are none. Only paths that begin with a slash can have any.
fn without_dot_segments(path: &str) -> Option<String> {
    let segments = || path[1..].split('/');
    if !path.starts_with('/') || !segments().any(is_dots) {
        return None;
    }
    let mut kept = Vec::new();
    for segment in segments() {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    // A dot segment at the end leaves the slash before it.
    if path.rsplit('/').next().is_some_and(is_dots) {
        kept.push("");
    }
    Some(format!("/{}", kept.join("/")))
}

fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_path_are_equal() {
        let cases = [
            ("", "/"),
            ("/", "/"),
            ("*", "*"),
            ("é/..", "é/.."),
            ("/a/b", "/a/b"),
            // RFC 3986 §5.2.4 and §5.4.
            ("/a/b/c/./../../g", "/a/g"),
            ("/b/c/..", "/b/"),
            ("/b/c/../..", "/"),
            ("/../../../g", "/g"),
            ("/./g", "/g"),
            ("/g/.", "/g/"),
            ("/g.", "/g."),
            ("/.g", "/.g"),
            ("/..g/g..", "/..g/g.."),
            ("/...", "/..."),
            ("/.", "/"),
            ("/..", "/"),
            // Empty segments count.
            ("//a", "//a"),
            ("/a//../b", "/a/b"),
            ("//..", "/"),
            // Encoded dots are dots.
            ("/public/%2e%2E/admin", "/admin"),
            ("/public/.%2e/admin", "/admin"),
            ("/a/%2e", "/a/"),
            // Unreserved characters are decoded, others are not.
            ("/%61dmin", "/admin"),
            ("/%7Euser%2D%5f", "/~user-_"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%2fb%c3%a9", "/a%2Fb%C3%A9"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            // A `%` that begins no escape is escaped, and begins none with what follows it once that is decoded.
            ("/%", "/%25"),
            ("/%2", "/%252"),
            ("/%+1%zz%é%41", "/%25+1%25zz%25éA"),
            ("/%%32e%%32E/admin", "/%252e%252E/admin"),
            ("/%2%65", "/%252e"),
        ];
        for (path, expected) in cases {
            assert_eq!(normalize(path), expected, "{path}");
            assert_eq!(normalize(expected), expected, "once more");
        }
    }
}
