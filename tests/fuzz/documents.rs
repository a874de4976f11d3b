//! Readiness documents: whatever a target sends, a probe succeeds or fails with a short clause.

use std::sync::LazyLock;

use portolan::model::{Assertion, Expect};
use portolan::probe::check_body;

/// The longest clause about a document, in bytes.
const MAX_CLAUSE: usize = 1_500;

/// Assertions of every form of JSONPath.
static FIXED: LazyLock<Vec<Expect>> = LazyLock::new(|| {
    let forms = [
        ("$.checks.database.status", "\"healthy\""),
        ("$.checks.*.status", "\"healthy\""),
        ("$..lag", "0"),
        ("$.checks[?@.status == 'slow'].lag", "1.5"),
        ("$.peers[-1]", "{\"n\": 1}"),
        ("$['peers'][0:2].n", "1"),
        ("$", "true"),
    ];
    forms.map(|(path, equals)| expecting(path, equals).expect("sound assertions")).into()
});

/// `None` if the path is not a JSONPath or the value not JSON.
fn expecting(path: &str, equals: &str) -> Option<Expect> {
    let assertion = Assertion { path: path.parse().ok()?, equals: serde_json::from_str(equals).ok()? };
    Some(Expect { status: Vec::new(), body: None, json: vec![assertion] })
}

/// The first line is a JSONPath, the second a value; the rest is the document they are checked against. The whole
/// input is also checked as a document.
pub(crate) fn check(bytes: &[u8]) {
    for expect in &*FIXED {
        check_verdict(expect, bytes);
    }
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n').map(String::from_utf8_lossy);
    let [Some(path), Some(equals), Some(document)] = [lines.next(), lines.next(), lines.next()] else {
        return;
    };
    if let Some(expect) = expecting(&path, &equals) {
        check_verdict(&expect, document.as_bytes());
    }
}

/// The verdict is short, and the same for the document in another layout.
fn check_verdict(expect: &Expect, document: &[u8]) {
    let verdict = check_body(expect, document);
    if let Err(clause) = &verdict {
        assert!(clause.len() <= MAX_CLAUSE, "{} bytes", clause.len());
    }
    match serde_json::from_slice::<serde_json::Value>(document) {
        Ok(value) => assert_eq!(check_body(expect, format!("{value:#}").as_bytes()), verdict),
        Err(_) => assert!(verdict.is_err_and(|clause| clause.starts_with("body is not JSON"))),
    }
}
