//! JSONPaths (RFC 9535) of readiness assertions, compiled.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jsonpath_rust::parser::model::{
    Comparable, Filter, FilterAtom, FnArg, JpQuery, Literal, Segment, Selector, Test, TestFunction,
};
use jsonpath_rust::parser::parse_json_path;
use regex::{Regex, RegexBuilder};

/// The largest compiled pattern of `match` or `search`, in bytes of memory. The time to search a text grows with it, so
/// counted repetitions and large classes of characters must stay small.
const MAX_PATTERN_MEMORY: usize = 64 * 1024;

/// A JSONPath with at most [`JsonPath::MAX_FILTERS`] filters, whose patterns are compiled.
#[derive(Clone, Debug)]
pub struct JsonPath {
    text: String,
    query: JpQuery,
    patterns: Patterns,
}

/// Regular expressions by their text and by what they must match.
type Patterns = BTreeMap<(String, Extent), Regex>;

/// How much of a text a pattern must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// All of it: `match`.
    Whole,
    /// Any part: `search`.
    Part,
}

/// Why a text is not a [`JsonPath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonPathError {
    /// It is not valid by RFC 9535.
    Syntax,
    /// It has more than [`JsonPath::MAX_FILTERS`] filters.
    TooManyFilters,
    /// The pattern of a `match` or `search` is not a literal: the target would choose the work.
    ComputedPattern,
    /// This pattern is not a valid regular expression, or is too large.
    Pattern(String),
}

impl JsonPath {
    /// The maximum number of filters in a path. A filter within a filter is evaluated for every element of it.
    pub const MAX_FILTERS: usize = 4;

    /// The parsed path.
    #[must_use]
    pub fn query(&self) -> &JpQuery {
        &self.query
    }

    /// The regular expression of a `match` or `search` in this path.
    #[must_use]
    pub fn pattern(&self, text: &str, extent: Extent) -> Option<&Regex> {
        self.patterns.get(&(text.to_owned(), extent))
    }
}

impl FromStr for JsonPath {
    type Err = JsonPathError;

    fn from_str(text: &str) -> Result<Self, JsonPathError> {
        // Every `?` may start a filter. One in a quoted name counts, too.
        if text.matches('?').count() > Self::MAX_FILTERS {
            return Err(JsonPathError::TooManyFilters);
        }
        let query = parse_json_path(text).map_err(|_| JsonPathError::Syntax)?;
        let mut patterns = Patterns::new();
        of_segments(&query.segments, &mut patterns)?;
        Ok(Self { text: text.to_owned(), query, patterns })
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text determines everything else.
impl PartialEq for JsonPath {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

type Collected = Result<(), JsonPathError>;

/// Compiles the patterns of these segments.
fn of_segments(segments: &[Segment], patterns: &mut Patterns) -> Collected {
    segments.iter().try_for_each(|segment| match segment {
        Segment::Descendant(inner) => of_segments(std::slice::from_ref(inner), patterns),
        Segment::Selector(selector) => of_selector(selector, patterns),
        Segment::Selectors(selectors) => selectors.iter().try_for_each(|it| of_selector(it, patterns)),
    })
}

fn of_selector(selector: &Selector, patterns: &mut Patterns) -> Collected {
    match selector {
        Selector::Filter(filter) => of_filter(filter, patterns),
        Selector::Name(_) | Selector::Wildcard | Selector::Index(_) | Selector::Slice(..) => Ok(()),
    }
}

fn of_filter(filter: &Filter, patterns: &mut Patterns) -> Collected {
    match filter {
        Filter::Or(filters) | Filter::And(filters) => {
            filters.iter().try_for_each(|filter| of_filter(filter, patterns))
        }
        Filter::Atom(FilterAtom::Filter { expr, .. }) => of_filter(expr, patterns),
        Filter::Atom(FilterAtom::Test { expr, .. }) => of_test(expr, patterns),
        Filter::Atom(FilterAtom::Comparison(comparison)) => {
            let (left, right) = comparison.vals();
            [left, right].into_iter().try_for_each(|side| match side {
                Comparable::Function(function) => of_function(function, patterns),
                Comparable::Literal(_) | Comparable::SingularQuery(_) => Ok(()),
            })
        }
    }
}

fn of_test(test: &Test, patterns: &mut Patterns) -> Collected {
    match test {
        Test::RelQuery(segments) => of_segments(segments, patterns),
        Test::AbsQuery(query) => of_segments(&query.segments, patterns),
        Test::Function(function) => of_function(function, patterns),
    }
}

fn of_function(function: &TestFunction, patterns: &mut Patterns) -> Collected {
    match function {
        TestFunction::Custom(_, arguments) => arguments.iter().try_for_each(|it| of_argument(it, patterns)),
        TestFunction::Length(argument) => of_argument(argument, patterns),
        TestFunction::Value(argument) | TestFunction::Count(argument) => of_argument(argument, patterns),
        TestFunction::Match(text, pattern) => of_match(text, pattern, Extent::Whole, patterns),
        TestFunction::Search(text, pattern) => of_match(text, pattern, Extent::Part, patterns),
    }
}

fn of_argument(argument: &FnArg, patterns: &mut Patterns) -> Collected {
    match argument {
        FnArg::Literal(_) => Ok(()),
        FnArg::Test(test) => of_test(test, patterns),
        FnArg::Filter(filter) => of_filter(filter, patterns),
    }
}

fn of_match(text: &FnArg, pattern: &FnArg, extent: Extent, patterns: &mut Patterns) -> Collected {
    of_argument(text, patterns)?;
    let FnArg::Literal(Literal::String(pattern)) = pattern else {
        return Err(JsonPathError::ComputedPattern);
    };
    let compiled = compile(pattern, extent).ok_or_else(|| JsonPathError::Pattern(pattern.clone()))?;
    patterns.insert((pattern.clone(), extent), compiled);
    Ok(())
}

/// Compiles an I-Regexp (RFC 9485), whose `.` matches neither end of line (section 5.3).
fn compile(pattern: &str, extent: Extent) -> Option<Regex> {
    let whole = match extent {
        Extent::Whole => format!("^(?:{pattern})$"),
        Extent::Part => pattern.to_owned(),
    };
    RegexBuilder::new(&whole).crlf(true).size_limit(MAX_PATTERN_MEMORY).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(path: &str) -> Option<JsonPathError> {
        path.parse::<JsonPath>().err()
    }

    #[test]
    fn patterns_are_literals_of_bounded_size() {
        let pattern = |text: &str| Some(JsonPathError::Pattern(text.to_owned()));
        for (path, expected) in [
            ("$.a[?match(@.name, 'db-[0-9]{1,3}')]", None),
            (r"$.a[?search(@.name, '^\\w+ (ok|fine)$')]", None),
            ("$.a[?match(@.name, @.pattern)]", Some(JsonPathError::ComputedPattern)),
            ("$..[?@.b[?!search(@, $.pattern)]]", Some(JsonPathError::ComputedPattern)),
            ("$.a[?(length(@.x) == 1 || match(@.n, '('))]", pattern("(")),
            ("$.a[?match(@.n, '(a{1000}){1000}')]", pattern("(a{1000}){1000}")),
            ("$.a[?@[?@[?@[?@[?@]]]]]", Some(JsonPathError::TooManyFilters)),
        ] {
            assert_eq!(error(path), expected, "{path}");
        }
    }

    #[test]
    fn patterns_match_the_whole_text_or_a_part() {
        let path: JsonPath = "$[?match(@, 'a.c|d') || search(@, 'a.c|d')]".parse().expect("a path");
        let matches = |text, extent| path.pattern("a.c|d", extent).expect("compiled").is_match(text);
        for (text, whole, part) in [
            ("abc", true, true),
            ("d", true, true),
            ("xabc", false, true),
            ("abcd", false, true),
            ("a\nc", false, false),
            ("a\rc", false, false),
        ] {
            assert_eq!(
                (matches(text, Extent::Whole), matches(text, Extent::Part)),
                (whole, part),
                "{text:?}"
            );
        }
    }
}
