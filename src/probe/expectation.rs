//! Whether a response is what a probe expects.

use serde_json::Value;

use super::outcome::quote;
use super::select::{Exhausted, MAX_STEPS, Steps, equal, select};
use crate::model::{Assertion, Expect, StatusRange};

/// Whether anything is expected of the body; otherwise it need not be read.
pub(super) fn needs_body(expect: &Expect) -> bool {
    expect.body.is_some() || !expect.json.is_empty()
}

/// Checks a status against the expected ranges.
///
/// # Errors
/// What is wrong, as a clause.
pub(super) fn check_status(expect: &Expect, status: u16) -> Result<(), String> {
    if expect.status.iter().any(|range| (range.first..=range.last).contains(&status)) {
        return Ok(());
    }
    let expected: Vec<_> = expect
        .status
        .iter()
        .map(|range| match range {
            StatusRange { first, last } if first == last => first.to_string(),
            StatusRange { first, last } => format!("{first}-{last}"),
        })
        .collect();
    Err(format!("status {status}, expected {}", expected.join(", ")))
}

/// Checks a complete body against the expected text and the assertions.
///
/// # Errors
/// What is wrong, as a clause of bounded length.
pub fn check_body(expect: &Expect, body: &[u8]) -> Result<(), String> {
    if let Some(text) = &expect.body
        && !String::from_utf8_lossy(body).contains(text.as_str())
    {
        return Err(format!("body does not contain {:?}", quote(text)));
    }
    if expect.json.is_empty() {
        return Ok(());
    }
    let document = serde_json::from_slice(body).map_err(|error| format!("body is not JSON: {error}"))?;
    let mut steps = Steps::new();
    expect.json.iter().try_for_each(|assertion| check_assertion(assertion, &document, &mut steps))
}

fn check_assertion(assertion: &Assertion, document: &Value, steps: &mut Steps) -> Result<(), String> {
    let Assertion { path, equals } = assertion;
    let shown = quote(&path.to_string());
    let exhausted = |Exhausted| format!("{shown} takes more than {MAX_STEPS} steps on this document");
    let selected = select(path, document, steps).map_err(exhausted)?;
    if selected.is_empty() {
        return Err(format!("{shown} selects nothing"));
    }
    for value in selected {
        if !equal(value, equals, steps).map_err(exhausted)? {
            let (value, equals) = (quote(&value.to_string()), quote(&equals.to_string()));
            return Err(format!("{shown} is {value}, expected {equals}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::assertion;
    use super::*;

    fn expecting(status: &[(u16, u16)], body: Option<&str>, json: &[(&str, &str)]) -> Expect {
        let status = status.iter().map(|&(first, last)| StatusRange { first, last }).collect();
        let json = json.iter().map(|(path, equals)| assertion(path, equals)).collect();
        Expect { status, body: body.map(str::to_owned), json }
    }

    #[test]
    fn statuses_must_lie_in_a_range() {
        let expected = expecting(&[(200, 200), (301, 308)], None, &[]);
        for status in [200, 301, 304, 308] {
            assert_eq!(check_status(&expected, status), Ok(()));
        }
        for status in [199, 201, 300, 309, 503] {
            assert_eq!(
                check_status(&expected, status),
                Err(format!("status {status}, expected 200, 301-308"))
            );
        }
    }

    #[test]
    fn bodies_must_contain_the_text() {
        let expected = expecting(&[(200, 200)], Some("ready"), &[]);
        assert_eq!(check_body(&expected, b"\xff all ready \xff"), Ok(()));
        assert_eq!(check_body(&expected, b"read"), Err("body does not contain \"ready\"".to_owned()));
    }

    #[test]
    fn documents_must_satisfy_every_assertion() {
        let document =
            br#"{"checks": {"database": {"status": "healthy", "lag": 0.0}, "queue": {"status": "slow"}},
                            "peers": [{"n": 1}, {"n": 1.0}], "none": null, "huge": 18446744073709551615,
                            "long": 909007199207199254749925}"#;
        for (path, equals, expected) in [
            ("$.checks.database.status", "\"healthy\"", Ok(())),
            ("$.checks.database.lag", "0", Ok(())),
            ("$.peers", "[{\"n\": 1.0}, {\"n\": 1}]", Ok(())),
            ("$.peers[*].n", "1", Ok(())),
            ("$.none", "null", Ok(())),
            ("$.huge", "18446744073709551615", Ok(())),
            ("$.long", "9.090071992071993e23", Ok(())),
            ("$.checks[?@.status == 'slow'].status", "\"slow\"", Ok(())),
            (
                "$.checks.queue.status",
                "\"healthy\"",
                Err("$.checks.queue.status is \"slow\", expected \"healthy\""),
            ),
            ("$.checks.*.status", "\"healthy\"", Err("$.checks.*.status is \"slow\", expected \"healthy\"")),
            ("$.checks.cache", "true", Err("$.checks.cache selects nothing")),
            ("$.none", "false", Err("$.none is null, expected false")),
            ("$.peers", "[]", Err("$.peers is [{\"n\":1},{\"n\":1.0}], expected []")),
        ] {
            assert_eq!(
                check_body(&expecting(&[], None, &[(path, equals)]), document),
                expected.map_err(str::to_owned),
                "{path}"
            );
        }
    }

    #[test]
    fn a_body_that_is_not_json_fails() {
        let expected = expecting(&[], None, &[("$.ok", "true")]);
        assert_eq!(
            check_body(&expected, b"<html>"),
            Err("body is not JSON: expected value at line 1 column 1".to_owned())
        );
        assert!(
            check_body(&expected, "[".repeat(100_000).as_bytes()).unwrap_err().contains("recursion limit")
        );
    }

    /// All assertions about a document share the steps.
    #[test]
    fn assertions_that_take_too_many_steps_fail() {
        let document = format!("{{\"list\": [{}1]}}", "1,".repeat(100_000));
        let quadratic = "$.list[?count($.list[*]) > 1]";
        assert_eq!(
            check_body(&expecting(&[], None, &[(quadratic, "1")]), document.as_bytes()),
            Err(format!("{quadratic} takes more than 524288 steps on this document"))
        );
        let linear = [("$.list[*]", "1"); 3];
        assert_eq!(check_body(&expecting(&[], None, &linear[..1]), document.as_bytes()), Ok(()));
        assert_eq!(
            check_body(&expecting(&[], None, &linear), document.as_bytes()),
            Err("$.list[*] takes more than 524288 steps on this document".to_owned())
        );
    }

    #[test]
    fn quotes_of_a_peer_are_shortened() {
        let expected = expecting(&[], None, &[("$.ok", "true")]);
        let document = format!("{{\"ok\": \"{}\"}}", "x".repeat(10_000));
        assert!(check_body(&expected, document.as_bytes()).unwrap_err().len() < 200);
    }
}
