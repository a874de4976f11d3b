//! Typed access to tables: every reader reports what is wrong and where, and continues.
//!
//! A reader returns `None` after it has reported an error, so a caller may use a default instead: with one error the
//! config is rejected anyway. A table's keys are declared, so unknown or unsupported keys are found when it is opened.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::keys::{self, Keys};
use super::report::Report;
use super::text;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// A value, its location, and where to report errors.
#[derive(Clone)]
pub(super) struct Value<'a> {
    pub(super) report: &'a Report<'a>,
    pub(super) span: Range<usize>,
    raw: &'a DeValue<'a>,
}

/// An open table whose keys have been checked.
pub(super) struct Table<'a> {
    pub(super) report: &'a Report<'a>,
    pub(super) span: Range<usize>,
    name: String,
    raw: &'a DeTable<'a>,
    keys: &'static Keys,
}

/// `name = value` in a table whose keys are names chosen by the config.
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) span: Range<usize>,
    pub(super) value: Value<'a>,
}

impl<'a> Table<'a> {
    /// Opens the whole document.
    pub(super) fn root(report: &'a Report<'a>, raw: &'a DeTable<'a>, keys: &'static Keys) -> Self {
        let table = Self { report, span: 0..0, name: String::new(), raw, keys };
        table.check_keys();
        table
    }

    fn check_keys(&self) {
        for key in self.raw.keys() {
            let word: &str = key.get_ref();
            let place = if self.name.is_empty() { String::new() } else { format!(" in `{}`", self.name) };
            if self.keys.later.contains(&word) {
                self.report.error(key.span(), format!("`{}` is not supported yet", self.path(word)));
            } else if !self.keys.knows(word) {
                let near = text::did_you_mean(word, self.keys.names());
                let hint = if near.is_empty() { keys::belongs(&super::ROOT, word) } else { near };
                self.report.error(key.span(), format!("unknown key `{word}`{place}{hint}"));
            }
        }
    }

    /// The dotted path of a key of this table.
    pub(super) fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.into() } else { format!("{}.{key}", self.name) }
    }

    /// The value of a declared key, if it is present.
    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
        debug_assert!(self.keys.knows(key), "`{key}` is read but not declared");
        let value = self.raw.get(key)?;
        Some(Value { report: self.report, span: value.span(), raw: value.get_ref() })
    }

    /// The value of a required key.
    pub(super) fn need(&self, key: &str) -> Option<Value<'a>> {
        let found = self.get(key);
        if found.is_none() {
            let message = match self.name.as_str() {
                "" => format!("`{key}` is missing"),
                name => format!("`{key}` is missing in `{name}`"),
            };
            self.report.absent(self.span.clone(), message);
        }
        found
    }

    /// Whether a key is present, supported or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.raw.contains_key(key)
    }

    /// The location of a key itself, or of the table if the key is absent.
    pub(super) fn key_span(&self, key: &str) -> Range<usize> {
        self.raw.get_key_value(key).map_or_else(|| self.span.clone(), |(key, _)| key.span())
    }

    /// Reports each of `keys` that is present, and why it is not allowed.
    pub(super) fn refuse(&self, keys: &[&str], why: &str) {
        for key in keys.iter().filter(|key| self.raw.contains_key(**key)) {
            self.report.error(self.key_span(key), format!("`{key}` has no meaning {why}"));
        }
    }
}

impl<'a> Value<'a> {
    /// Reports that the value is something else.
    pub(super) fn expected<T>(&self, what: &str) -> Option<T> {
        self.fail(format!("expected {what}, found {}", self.found()))
    }

    /// Reports an error in this value.
    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Option<T> {
        self.report.error(self.span.clone(), message);
        None
    }

    /// Reports that something valid is not supported yet.
    pub(super) fn later<T>(&self, what: &str) -> Option<T> {
        self.fail(format!("`{what}` is not supported yet"))
    }

    /// A description of the value for messages.
    fn found(&self) -> String {
        match self.raw {
            DeValue::String(text) => format!("{:?}", text::shortened(text)),
            DeValue::Integer(number) => format!("integer {number}"),
            DeValue::Float(number) => format!("float {number}"),
            DeValue::Boolean(truth) => format!("{truth}"),
            DeValue::Datetime(_) => "a date or time".into(),
            DeValue::Array(items) if items.is_empty() => "an empty list".into(),
            DeValue::Array(_) => "a list".into(),
            DeValue::Table(_) => "a table".into(),
        }
    }

    pub(super) fn at<T>(&self, value: T) -> At<T> {
        At { value, span: self.span.clone() }
    }

    /// The string, if it is one; reports nothing.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        match self.raw {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The boolean, if it is one; reports nothing.
    pub(super) fn as_boolean(&self) -> Option<bool> {
        match self.raw {
            DeValue::Boolean(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The integer, if it is one within 128 bits; reports nothing.
    pub(super) fn as_integer(&self) -> Option<i128> {
        match self.raw {
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        }
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.raw, DeValue::Table(_))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.raw, DeValue::Array(_))
    }

    pub(super) fn is_empty_list(&self) -> bool {
        matches!(self.raw, DeValue::Array(items) if items.is_empty())
    }

    /// A string that is not empty.
    pub(super) fn text(&self, what: &str) -> Option<&'a str> {
        match self.as_text() {
            Some("") | None => self.expected(what),
            Some(text) => Some(text),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.as_boolean().or_else(|| self.expected("true or false"))
    }

    /// An integer within a range.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let number = self.as_integer().and_then(|number| u64::try_from(number).ok());
        number.filter(|number| range.contains(number)).or_else(|| {
            self.expected(&match range.end() {
                &u64::MAX => format!("an integer of at least {}", range.start()),
                end => format!("an integer from {} to {end}", range.start()),
            })
        })
    }

    /// A number within a range, with or without a fraction.
    pub(super) fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let number = match self.raw {
            DeValue::Integer(_) => self.as_integer().map(|number| number as f64),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let what = || format!("a number from {} to {}", range.start(), range.end());
        number.filter(|number| range.contains(number)).or_else(|| self.expected(&what()))
    }

    /// A string that `read` can parse; its error says what is wrong, `what` describes the expected form.
    pub(super) fn parsed<T>(&self, what: &str, read: impl FnOnce(&'a str) -> Result<T, String>) -> Option<T> {
        let Some(text) = self.as_text() else { return self.expected(what) };
        read(text).map_or_else(|message| self.fail(message), Some)
    }

    /// A duration within a range.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let found = self.parsed(text::A_DURATION, text::duration)?;
        if range.contains(&found) {
            return Some(found);
        }
        let (from, to) = (text::format_duration(*range.start()), text::format_duration(*range.end()));
        self.expected(&format!("a duration from {from} to {to}"))
    }

    /// One of a closed set of strings; those in `later` are not supported yet.
    pub(super) fn choice<T: Clone>(&self, options: &[(&str, T)], later: &[&str]) -> Option<T> {
        let words = options.iter().map(|(word, _)| *word);
        let Some(text) = self.as_text() else {
            return self.expected(&text::either(words));
        };
        if let Some((_, value)) = options.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        if later.contains(&text) {
            let words = text::either(words);
            self.report.error_with_help(
                self.span.clone(),
                format!("`{text}` is not supported yet"),
                format!("use {words}"),
            );
            return None;
        }
        let hint = text::did_you_mean(text, words.clone().chain(later.iter().copied()));
        self.fail(format!("expected {}, found {:?}{hint}", text::either(words), text::shortened(text)))
    }

    /// A list with at least one item.
    pub(super) fn items(&self, what: &str) -> Option<Vec<Self>> {
        match self.raw {
            DeValue::Array(items) if !items.is_empty() => Some(
                items
                    .iter()
                    .map(|item| Self { report: self.report, span: item.span(), raw: item.get_ref() })
                    .collect(),
            ),
            _ => self.expected(what),
        }
    }

    /// A list like [`Value::items`], or a single item instead.
    pub(super) fn one_or_many(&self, what: &str) -> Option<Vec<Self>> {
        if self.is_list() { self.items(what) } else { Some(vec![self.clone()]) }
    }

    /// Opens a table; `name` is its dotted path.
    pub(super) fn table(&self, name: impl Into<String>, keys: &'static Keys) -> Option<Table<'a>> {
        let DeValue::Table(raw) = self.raw else { return self.expected("a table") };
        let table = Table { report: self.report, span: self.span.clone(), name: name.into(), raw, keys };
        table.check_keys();
        Some(table)
    }

    /// The entries of a table with free keys, in the order of the keys.
    pub(super) fn entries(&self) -> Vec<Entry<'a>> {
        let DeValue::Table(raw) = self.raw else {
            return self.expected("a table").unwrap_or_default();
        };
        let entry = |(key, value): (&'a toml::Spanned<_>, &'a toml::Spanned<_>)| {
            let name: &'a std::borrow::Cow<'a, str> = key.get_ref();
            let value = Value { report: self.report, span: value.span(), raw: value.get_ref() };
            Entry { name, span: key.span(), value }
        };
        raw.iter().map(entry).collect()
    }

    /// The value as JSON; dates, infinities and NaN have none.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        json(self.raw).or_else(|| self.expected("a value that JSON has too"))
    }
}

fn json(raw: &DeValue<'_>) -> Option<serde_json::Value> {
    Some(match raw {
        DeValue::String(text) => serde_json::Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok()?.into(),
        DeValue::Float(number) => {
            serde_json::Value::Number(serde_json::Number::from_f64(number.as_str().parse().ok()?)?)
        }
        DeValue::Boolean(truth) => (*truth).into(),
        DeValue::Datetime(_) => return None,
        DeValue::Array(items) => {
            serde_json::Value::Array(items.iter().map(|item| json(item.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => serde_json::Value::Object(
            table
                .iter()
                .map(|(key, value)| Some((key.get_ref().to_string(), json(value.get_ref())?)))
                .collect::<Option<_>>()?,
        ),
    })
}
