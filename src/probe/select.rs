//! Selects values of a JSON document by JSONPath (RFC 9535), with a bounded amount of work.
//!
//! The target chooses the document, and a path such as `$.list[?count($.list[*]) > 1]` costs the square of its length.
//! So each step is counted, and an evaluation that needs too many of them ends.

use std::borrow::Cow;

use jsonpath_rust::parser::model::{
    Comparable, Comparison, Filter, FilterAtom, FnArg, Literal, Segment, Selector, SingularQuery,
    SingularQuerySegment, Test, TestFunction,
};
use jsonpath_rust::query::queryable::Queryable as _;
use serde_json::Value;

use super::http::MAX_BODY;
use crate::model::{Extent, JsonPath};

/// The most steps that all assertions about one document may take together. A document has a value for every two bytes
/// at most, and a path that visits each value once, such as `$..status`, takes two steps for each: four such paths fit
/// even the densest document, and the time is that of some milliseconds.
pub(super) const MAX_STEPS: u32 = 512 << 10;
const _: () = assert!(MAX_STEPS as usize >= 2 * MAX_BODY);

/// How many bytes of text cost one step to compare or to count.
const BYTES_PER_STEP: usize = 64;

/// How many steps one byte costs that a regular expression searches, whose states can all be active.
const STEPS_PER_SEARCHED_BYTE: usize = 32;

/// The steps that are left.
#[derive(Debug)]
pub(super) struct Steps(u32);

/// No steps are left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Steps {
    pub(super) fn new() -> Self {
        Self(MAX_STEPS)
    }

    fn take(&mut self, steps: usize) -> Result<(), Exhausted> {
        let left = u32::try_from(steps).ok().and_then(|steps| self.0.checked_sub(steps));
        // Once exhausted, it stays so.
        self.0 = left.unwrap_or(0);
        left.map(drop).ok_or(Exhausted)
    }

    fn take_text(&mut self, bytes: usize) -> Result<(), Exhausted> {
        self.take(1 + bytes / BYTES_PER_STEP)
    }

    /// Takes `times` steps for each value within this one.
    fn take_values(&mut self, value: &Value, times: usize) -> Result<(), Exhausted> {
        self.take(times)?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.take_values(item, times)),
            Value::Object(members) => members.iter().try_for_each(|(name, member)| {
                self.take((name.len() / BYTES_PER_STEP).saturating_mul(times))?;
                self.take_values(member, times)
            }),
            Value::String(text) => self.take((text.len() / BYTES_PER_STEP).saturating_mul(times)),
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        }
    }
}

/// The values that a path selects.
pub(super) fn select<'d>(
    path: &JsonPath,
    document: &'d Value,
    steps: &mut Steps,
) -> Result<Vec<&'d Value>, Exhausted> {
    Evaluation { path, root: document, steps }.segments(&path.query().segments, document)
}

/// Equality of JSON values with numbers compared by value: 1 equals 1.0.
pub(super) fn equal(left: &Value, right: &Value, steps: &mut Steps) -> Result<bool, Exhausted> {
    steps.take(1)?;
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => Ok(left == right || left.as_f64() == right.as_f64()),
        (Value::String(left), Value::String(right)) => {
            steps.take_text(left.len().min(right.len()))?;
            Ok(left == right)
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (left, right) in left.iter().zip(right) {
                if !equal(left, right, steps)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Object(left), Value::Object(right)) if left.len() == right.len() => {
            for (name, left) in left {
                steps.take_text(name.len())?;
                let Some(right) = right.get(name) else { return Ok(false) };
                if !equal(left, right, steps)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Array(_) | Value::Object(_), _) => Ok(false),
        _ => Ok(left == right),
    }
}

/// The evaluation of one path on one document.
struct Evaluation<'p, 'd, 's> {
    path: &'p JsonPath,
    root: &'d Value,
    steps: &'s mut Steps,
}

/// A value of the document, a computed one, or nothing.
type Operand<'d> = Option<Cow<'d, Value>>;

impl<'d> Evaluation<'_, 'd, '_> {
    /// What these segments select, beginning at `start`.
    fn segments(&mut self, segments: &[Segment], start: &'d Value) -> Result<Vec<&'d Value>, Exhausted> {
        let mut values = vec![start];
        for segment in segments {
            let mut next = Vec::new();
            for value in values {
                self.segment(segment, value, &mut next)?;
            }
            values = next;
        }
        Ok(values)
    }

    fn segment(
        &mut self,
        segment: &Segment,
        value: &'d Value,
        found: &mut Vec<&'d Value>,
    ) -> Result<(), Exhausted> {
        match segment {
            Segment::Selector(selector) => self.selector(selector, value, found),
            Segment::Selectors(selectors) => {
                selectors.iter().try_for_each(|selector| self.selector(selector, value, found))
            }
            Segment::Descendant(inner) => {
                self.segment(inner, value, found)?;
                children(value).try_for_each(|child| self.segment(segment, child, found))
            }
        }
    }

    fn selector(
        &mut self,
        selector: &Selector,
        value: &'d Value,
        found: &mut Vec<&'d Value>,
    ) -> Result<(), Exhausted> {
        self.steps.take(1)?;
        match selector {
            Selector::Name(name) => found.extend(value.get(name)),
            Selector::Index(index) => found.extend(element(value, *index)),
            Selector::Wildcard => {
                for child in children(value) {
                    self.steps.take(1)?;
                    found.push(child);
                }
            }
            Selector::Slice(start, end, step) => {
                for index in slice(value, *start, *end, step.unwrap_or(1)) {
                    self.steps.take(1)?;
                    found.extend(value.get(index));
                }
            }
            Selector::Filter(filter) => {
                for child in children(value) {
                    if self.holds(filter, child)? {
                        found.push(child);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a filter holds for this value, which is `@`.
    fn holds(&mut self, filter: &Filter, current: &'d Value) -> Result<bool, Exhausted> {
        self.steps.take(1)?;
        match filter {
            Filter::Or(filters) => {
                for filter in filters {
                    if self.holds(filter, current)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Filter::And(filters) => {
                for filter in filters {
                    if !self.holds(filter, current)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Filter::Atom(FilterAtom::Filter { expr, not }) => Ok(self.holds(expr, current)? != *not),
            Filter::Atom(FilterAtom::Test { expr, not }) => Ok(self.test(expr, current)? != *not),
            Filter::Atom(FilterAtom::Comparison(comparison)) => self.compare(comparison, current),
        }
    }

    /// RFC 9535, section 2.3.5.2: a test holds if its query selects something, or its function returns true.
    fn test(&mut self, test: &Test, current: &'d Value) -> Result<bool, Exhausted> {
        match test {
            Test::Function(function) => Ok(match self.function(function, current)? {
                Some(Cow::Borrowed(_)) => true,
                Some(Cow::Owned(computed)) => computed == true,
                None => false,
            }),
            Test::RelQuery(_) | Test::AbsQuery(_) => Ok(!self.query(test, current)?.is_empty()),
        }
    }

    /// What the query of a test selects.
    fn query(&mut self, test: &Test, current: &'d Value) -> Result<Vec<&'d Value>, Exhausted> {
        match test {
            Test::RelQuery(segments) => self.segments(segments, current),
            Test::AbsQuery(query) => self.segments(&query.segments, self.root),
            Test::Function(_) => Ok(Vec::new()),
        }
    }

    fn compare(&mut self, comparison: &Comparison, current: &'d Value) -> Result<bool, Exhausted> {
        let (left, right) = comparison.vals();
        let (left, right) = (self.comparable(left, current)?, self.comparable(right, current)?);
        let (left, right) = (left.as_deref(), right.as_deref());
        match comparison {
            Comparison::Eq(..) => self.equal(left, right),
            Comparison::Ne(..) => Ok(!self.equal(left, right)?),
            Comparison::Lt(..) => self.less(left, right),
            Comparison::Gt(..) => self.less(right, left),
            Comparison::Lte(..) => Ok(self.less(left, right)? || self.equal(left, right)?),
            Comparison::Gte(..) => Ok(self.less(right, left)? || self.equal(left, right)?),
        }
    }

    fn equal(&mut self, left: Option<&Value>, right: Option<&Value>) -> Result<bool, Exhausted> {
        match (left, right) {
            (Some(left), Some(right)) => equal(left, right, self.steps),
            (left, right) => Ok(left.is_none() && right.is_none()),
        }
    }

    /// Only numbers and texts are ordered.
    fn less(&mut self, left: Option<&Value>, right: Option<&Value>) -> Result<bool, Exhausted> {
        match (left, right) {
            (Some(Value::Number(left)), Some(Value::Number(right))) => Ok(left.as_f64() < right.as_f64()),
            (Some(Value::String(left)), Some(Value::String(right))) => {
                self.steps.take_text(left.len().min(right.len()))?;
                Ok(left < right)
            }
            _ => Ok(false),
        }
    }

    fn comparable(&mut self, comparable: &Comparable, current: &'d Value) -> Result<Operand<'d>, Exhausted> {
        let (start, segments) = match comparable {
            Comparable::Literal(literal) => return Ok(Some(Cow::Owned(value_of(literal)))),
            Comparable::Function(function) => return self.function(function, current),
            Comparable::SingularQuery(SingularQuery::Current(segments)) => (current, segments),
            Comparable::SingularQuery(SingularQuery::Root(segments)) => (self.root, segments),
        };
        self.steps.take(1 + segments.len())?;
        let found = segments.iter().try_fold(start, |value, segment| match segment {
            SingularQuerySegment::Name(name) => value.get(name),
            SingularQuerySegment::Index(index) => element(value, *index),
        });
        Ok(found.map(Cow::Borrowed))
    }

    fn function(&mut self, function: &TestFunction, current: &'d Value) -> Result<Operand<'d>, Exhausted> {
        let computed = match function {
            TestFunction::Value(argument) => {
                let values = self.argument(argument, current)?;
                return Ok(<[_; 1]>::try_from(values).ok().map(|[value]| value));
            }
            TestFunction::Count(argument) => Some(self.argument(argument, current)?.len().into()),
            TestFunction::Length(argument) => {
                let values = self.argument(argument, current)?;
                self.length(&values, is_singular(argument))?.map(Value::from)
            }
            TestFunction::Match(text, pattern) => {
                Some(self.matches(text, pattern, Extent::Whole, current)?.into())
            }
            TestFunction::Search(text, pattern) => {
                Some(self.matches(text, pattern, Extent::Part, current)?.into())
            }
            TestFunction::Custom(name, arguments) => Some(self.sets(name, arguments, current)?),
        };
        Ok(computed.map(Cow::Owned))
    }

    /// The values of an argument of a function.
    fn argument(&mut self, argument: &FnArg, current: &'d Value) -> Result<Vec<Cow<'d, Value>>, Exhausted> {
        Ok(match argument {
            FnArg::Literal(literal) => vec![Cow::Owned(value_of(literal))],
            FnArg::Filter(filter) => vec![Cow::Owned(self.holds(filter, current)?.into())],
            FnArg::Test(test) => match &**test {
                Test::Function(function) => self.function(function, current)?.into_iter().collect(),
                query => self.query(query, current)?.into_iter().map(Cow::Borrowed).collect(),
            },
        })
    }

    /// RFC 9535, section 2.4.4; the length of what may be several values is their number.
    fn length(&mut self, values: &[Cow<'d, Value>], is_singular: bool) -> Result<Option<usize>, Exhausted> {
        if !is_singular {
            return Ok(Some(values.len()));
        }
        Ok(match values.first().map(|value| &**value) {
            Some(Value::String(text)) => {
                self.steps.take_text(text.len())?;
                Some(text.chars().count())
            }
            Some(Value::Array(items)) => Some(items.len()),
            Some(Value::Object(members)) => Some(members.len()),
            _ => None,
        })
    }

    fn matches(
        &mut self,
        text: &FnArg,
        pattern: &FnArg,
        extent: Extent,
        current: &'d Value,
    ) -> Result<bool, Exhausted> {
        let values = self.argument(text, current)?;
        let ([value], FnArg::Literal(Literal::String(pattern))) = (values.as_slice(), pattern) else {
            return Ok(false);
        };
        let Some(text) = value.as_str() else { return Ok(false) };
        self.steps.take(text.len().saturating_mul(STEPS_PER_SEARCHED_BYTE))?;
        Ok(self.path.pattern(pattern, extent).is_some_and(|pattern| pattern.is_match(text)))
    }

    /// The functions of the library beyond the RFC: `in`, `nin`, `none_of`, `any_of`, `subset_of`. Each compares every
    /// element of its first argument, or that itself, with every element of the second.
    fn sets(&mut self, name: &str, arguments: &[FnArg], current: &'d Value) -> Result<Value, Exhausted> {
        let mut values = Vec::new();
        for argument in arguments {
            values.extend(self.argument(argument, current)?);
        }
        if let [left, right] = values.as_slice() {
            let times = left.as_array().map_or(0, Vec::len).max(1);
            self.steps.take_values(right, times)?;
        }
        Ok(Value::extension_custom(name, values))
    }
}

/// Whether an argument selects at most one value.
fn is_singular(argument: &FnArg) -> bool {
    let segments = match argument {
        FnArg::Literal(_) | FnArg::Filter(_) => return true,
        FnArg::Test(test) => match &**test {
            Test::RelQuery(segments) => segments,
            Test::AbsQuery(query) => &query.segments,
            Test::Function(_) => return true,
        },
    };
    let is_one = |it: &Segment| matches!(it, Segment::Selector(Selector::Name(_) | Selector::Index(_)));
    segments.iter().all(is_one)
}

fn value_of(literal: &Literal) -> Value {
    match literal {
        Literal::Int(number) => (*number).into(),
        Literal::Float(number) => (*number).into(),
        Literal::String(text) => text.as_str().into(),
        Literal::Bool(value) => (*value).into(),
        Literal::Null => Value::Null,
    }
}

/// The elements of an array, or the values of an object's members.
fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let items = value.as_array().into_iter().flatten();
    items.chain(value.as_object().into_iter().flat_map(|members| members.values()))
}

/// The element of an array at this index, from its end if it is negative.
fn element(value: &Value, index: i64) -> Option<&Value> {
    let items = value.as_array()?;
    let from_start = if index < 0 { index.checked_add(items.len() as i64)? } else { index };
    items.get(usize::try_from(from_start).ok()?)
}

/// The indices of a slice of an array (RFC 9535, section 2.3.4.2.2); none of other values.
fn slice(value: &Value, start: Option<i64>, end: Option<i64>, step: i64) -> Vec<usize> {
    let length = value.as_array().map_or(0, Vec::len) as i64;
    let normalize = |index: i64| if index < 0 { length.saturating_add(index) } else { index };
    let index = |index: i64| usize::try_from(index).expect("within the array");
    let stride = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    match step {
        0 => Vec::new(),
        1.. => {
            let lower = start.map_or(0, normalize).clamp(0, length);
            let upper = end.map_or(length, normalize).clamp(0, length);
            (lower..upper).step_by(stride).map(index).collect()
        }
        ..0 => {
            let upper = start.map_or(length - 1, normalize).clamp(-1, length - 1);
            let lower = end.map_or(-1, normalize).clamp(-1, length - 1);
            (lower + 1..=upper).rev().step_by(stride).map(index).collect()
        }
    }
}

#[cfg(test)]
mod tests;
