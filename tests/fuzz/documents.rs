//! Readiness documents: whatever a target says, a probe makes a short clause of it or is content.

use std::sync::LazyLock;

use portolan::model::{Assertion, Expect};
use portolan::probe::Expectation;

/// The longest clause about a document, in bytes.
const MAX_CLAUSE: usize = 1_500;

/// Assertions of every form of JSONPath.
static FIXED: LazyLock<Vec<Expectation>> = LazyLock::new(|| {
    let forms = [
        ("$.checks.database.status", "\"healthy\""),
        ("$.checks.*.status", "\"healthy\""),
        ("$..lag", "0"),
        ("$.checks[?@.status == 'slow'].lag", "1.5"),
        ("$.peers[-1]", "{\"n\": 1}"),
        ("$['peers'][0:2].n", "1"),
        ("$", "true"),
    ];
    forms.map(|(path, equals)| expectation(path, equals).expect("sound assertions")).into()
});

fn expectation(path: &str, equals: &str) -> Result<Expectation, String> {
    let json = vec![Assertion { path: path.to_owned(), equals: equals.to_owned() }];
    Expectation::new(&Expect { status: Vec::new(), body: None, json })
}

/// The first line is a JSONPath, the second a value; the rest is the document they are checked against. All of it
/// is a document, too.
pub(crate) fn check(bytes: &[u8]) {
    for expectation in &*FIXED {
        judge(expectation, bytes);
    }
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n').map(String::from_utf8_lossy);
    let [Some(path), Some(equals), Some(document)] = [lines.next(), lines.next(), lines.next()] else {
        return;
    };
    if let Ok(expectation) = expectation(&path, &equals) {
        judge(&expectation, document.as_bytes());
    }
}

/// The verdict is short, and the same of the document written another way.
fn judge(expectation: &Expectation, document: &[u8]) {
    let verdict = expectation.check_body(document);
    if let Err(clause) = &verdict {
        assert!(clause.len() <= MAX_CLAUSE, "{} bytes", clause.len());
    }
    match serde_json::from_slice::<serde_json::Value>(document) {
        Ok(value) => assert_eq!(expectation.check_body(format!("{value:#}").as_bytes()), verdict),
        Err(_) => assert!(verdict.is_err_and(|clause| clause.starts_with("body is no JSON"))),
    }
}
