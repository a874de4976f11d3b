//! What a good answer looks like, made ready to be checked.

use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use serde_json::Value;

use super::outcome::quote;
use crate::model::{Expect, StatusRange};

/// [`Expect`] with its JSONPaths and values read.
#[derive(Debug)]
pub struct Expectation {
    status: Vec<StatusRange>,
    body: Option<String>,
    json: Vec<Assertion>,
}

#[derive(Debug)]
struct Assertion {
    text: String,
    path: JpQuery,
    equals: Value,
}

impl Expectation {
    /// Reads paths and values once for all answers.
    ///
    /// # Errors
    /// If a path is no JSONPath or has too many filters, or if a value is no JSON.
    pub fn new(expect: &Expect) -> Result<Self, String> {
        let json = expect.json.iter().map(|assertion| {
            let text = assertion.path.clone();
            if crate::model::Assertion::filters(&text) > crate::model::Assertion::MAX_FILTERS {
                return Err(format!("{text} has too many filters"));
            }
            let path = parse_json_path(&text).map_err(|error| format!("{text} is no JSONPath: {error}"))?;
            let equals = serde_json::from_str(&assertion.equals)
                .map_err(|error| format!("{} is no JSON: {error}", assertion.equals))?;
            Ok(Assertion { text, path, equals })
        });
        Ok(Self {
            status: expect.status.clone(),
            body: expect.body.clone(),
            json: json.collect::<Result<_, String>>()?,
        })
    }

    /// Whether anything is said about the body; else nobody needs to read it.
    pub(super) fn needs_body(&self) -> bool {
        self.body.is_some() || !self.json.is_empty()
    }

    /// Holds a status to the ranges.
    ///
    /// # Errors
    /// What is wrong, as a clause.
    pub(super) fn check_status(&self, status: u16) -> Result<(), String> {
        if self.status.iter().any(|range| (range.first..=range.last).contains(&status)) {
            return Ok(());
        }
        let expected: Vec<_> = self
            .status
            .iter()
            .map(|range| match range {
                StatusRange { first, last } if first == last => first.to_string(),
                StatusRange { first, last } => format!("{first}-{last}"),
            })
            .collect();
        Err(format!("status {status}, expected {}", expected.join(", ")))
    }

    /// Holds a whole body to the text and the assertions.
    ///
    /// # Errors
    /// What is wrong, as a clause of bounded length.
    pub fn check_body(&self, body: &[u8]) -> Result<(), String> {
        if let Some(text) = &self.body
            && !String::from_utf8_lossy(body).contains(text.as_str())
        {
            return Err(format!("body does not contain {:?}", quote(text)));
        }
        if self.json.is_empty() {
            return Ok(());
        }
        let document = serde_json::from_slice(body).map_err(|error| format!("body is no JSON: {error}"))?;
        self.json.iter().try_for_each(|assertion| assertion.check(&document))
    }
}

impl Assertion {
    fn check(&self, document: &Value) -> Result<(), String> {
        let path = quote(&self.text);
        let selected = js_path_process(&self.path, document)
            .map_err(|error| format!("{path}: {}", quote(&error.to_string())))?;
        if selected.is_empty() {
            return Err(format!("{path} selects nothing"));
        }
        match selected.iter().find(|value| !equal(value.val, &self.equals)) {
            None => Ok(()),
            Some(wrong) => Err(format!(
                "{path} is {}, expected {}",
                quote(&wrong.val.to_string()),
                quote(&self.equals.to_string())
            )),
        }
    }
}

/// Equality of JSON values with numbers compared by value: 1 equals 1.0.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left == right || left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| equal(left, right)))
        }
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;

    fn expectation(status: &[(u16, u16)], body: Option<&str>, json: &[(&str, &str)]) -> Expectation {
        let status = status.iter().map(|&(first, last)| StatusRange { first, last }).collect();
        let json = json
            .iter()
            .map(|(path, equals)| model::Assertion { path: (*path).to_owned(), equals: (*equals).to_owned() })
            .collect();
        Expectation::new(&Expect { status, body: body.map(str::to_owned), json }).unwrap()
    }

    #[test]
    fn statuses_must_lie_in_a_range() {
        let expected = expectation(&[(200, 200), (301, 308)], None, &[]);
        for status in [200, 301, 304, 308] {
            assert_eq!(expected.check_status(status), Ok(()));
        }
        for status in [199, 201, 300, 309, 503] {
            assert_eq!(expected.check_status(status), Err(format!("status {status}, expected 200, 301-308")));
        }
    }

    #[test]
    fn bodies_must_contain_the_text() {
        let expected = expectation(&[(200, 200)], Some("ready"), &[]);
        assert_eq!(expected.check_body(b"\xff all ready \xff"), Ok(()));
        assert_eq!(expected.check_body(b"read"), Err("body does not contain \"ready\"".to_owned()));
    }

    #[test]
    fn documents_must_say_so() {
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
                expectation(&[], None, &[(path, equals)]).check_body(document),
                expected.map_err(str::to_owned),
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_no_json_is_said_so() {
        let expected = expectation(&[], None, &[("$.ok", "true")]);
        assert_eq!(
            expected.check_body(b"<html>"),
            Err("body is no JSON: expected value at line 1 column 1".to_owned())
        );
        assert!(expected.check_body("[".repeat(100_000).as_bytes()).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn what_a_peer_says_is_cut_short() {
        let expected = expectation(&[], None, &[("$.ok", "true")]);
        let document = format!("{{\"ok\": \"{}\"}}", "x".repeat(10_000));
        assert!(expected.check_body(document.as_bytes()).unwrap_err().len() < 200);
    }

    #[test]
    fn mistakes_in_assertions_are_told() {
        for (path, equals, expected) in
            [("$.[", "1", "$.[ is no JSONPath"), ("$.ok", "healthy", "healthy is no JSON")]
        {
            let json = vec![model::Assertion { path: path.to_owned(), equals: equals.to_owned() }];
            let error = Expectation::new(&Expect { status: vec![], body: None, json }).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
