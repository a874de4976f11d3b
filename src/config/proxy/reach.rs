//! Routes that no request reaches, because an earlier one takes every request that they would.

use crate::model::{HostPattern, PathPattern, Route, ValuePattern, When};

use super::super::report::Report;
use super::super::table::At;

/// Warns of each, with the line of the earlier route.
pub(super) fn warn_of_unreachable(report: &Report<'_>, routes: &[At<Route>]) {
    for (index, route) in routes.iter().enumerate() {
        let Some(earlier) =
            routes[..index].iter().find(|earlier| covers(&earlier.value.when, &route.value.when))
        else {
            continue;
        };
        let line = report.spot(earlier.span.clone()).line;
        report.warning(
            route.span.clone(),
            format!("nothing reaches this route: the one in line {line} takes everything that it would"),
            "move it up, or remove it",
        );
    }
}

/// Whether every request that meets `inner` meets `outer`, as far as that can be seen without solving patterns.
fn covers(outer: &When, inner: &When) -> bool {
    let methods = outer.methods.is_empty()
        || (!inner.methods.is_empty() && inner.methods.iter().all(|it| outer.methods.contains(it)));
    covers_part(outer.host.as_ref(), inner.host.as_ref(), covers_host)
        && covers_part(outer.path.as_ref(), inner.path.as_ref(), covers_path)
        && methods
        && covers_values(&outer.headers, &inner.headers)
        && covers_values(&outer.cookies, &inner.cookies)
        && covers_values(&outer.query, &inner.query)
}

fn covers_part<T>(outer: Option<&T>, inner: Option<&T>, covers: impl FnOnce(&T, &T) -> bool) -> bool {
    match (outer, inner) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => covers(outer, inner),
    }
}

fn covers_host(outer: &HostPattern, inner: &HostPattern) -> bool {
    match (outer, inner) {
        (HostPattern::Below(suffix), HostPattern::Exact(host)) => {
            host.len() > suffix.len() && host.ends_with(suffix.as_str())
        }
        (HostPattern::Below(suffix), HostPattern::Below(other)) => other.ends_with(suffix.as_str()),
        (HostPattern::Exact(_), _) => outer == inner,
    }
}

fn covers_path(outer: &PathPattern, inner: &PathPattern) -> bool {
    match (outer, inner) {
        (PathPattern::Prefix(prefix), PathPattern::Prefix(path) | PathPattern::Exact(path)) => {
            let is_at_end = |rest: &str| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/');
            path.strip_prefix(prefix.as_str()).is_some_and(is_at_end)
        }
        (PathPattern::Exact(path), PathPattern::Exact(other)) => path == other,
        (PathPattern::Regex(pattern), PathPattern::Exact(path)) => pattern.is_match(path),
        (PathPattern::Regex(pattern), PathPattern::Regex(other)) => pattern.as_str() == other.as_str(),
        (PathPattern::Prefix(prefix), PathPattern::Regex(_)) => prefix == "/",
        (PathPattern::Exact(_) | PathPattern::Regex(_), _) => false,
    }
}

/// Each outer condition must be the consequence of an inner one about the same name.
fn covers_values<N: PartialEq>(outer: &[(N, ValuePattern)], inner: &[(N, ValuePattern)]) -> bool {
    let is_met = |(name, pattern): &(N, ValuePattern)| {
        inner.iter().any(|(other, it)| other == name && covers_value(pattern, it))
    };
    outer.iter().all(is_met)
}

fn covers_value(outer: &ValuePattern, inner: &ValuePattern) -> bool {
    match (outer, inner) {
        (ValuePattern::Present, _) => true,
        (ValuePattern::Exact(text), ValuePattern::Exact(other)) => text == other,
        (ValuePattern::Regex(pattern), ValuePattern::Exact(text)) => pattern.is_match(text),
        (ValuePattern::Regex(pattern), ValuePattern::Regex(other)) => pattern.as_str() == other.as_str(),
        (ValuePattern::Exact(_) | ValuePattern::Regex(_), _) => false,
    }
}
