//! The conditions of a route in words.

use crate::model::{HostPattern, PathPattern, ValuePattern, When};

/// "host api.example.com, path /v1, header x-canary 1", or "any request".
pub(super) fn conditions(when: &When) -> String {
    let host = when.host.as_ref().map(|host| match host {
        HostPattern::Exact(host) => format!("host {host}"),
        HostPattern::Below(suffix) => format!("host *{suffix}"),
    });
    let path = when.path.as_ref().map(|path| match path {
        PathPattern::Prefix(prefix) => format!("path {prefix}"),
        PathPattern::Exact(path) => format!("path exactly {path}"),
        PathPattern::Regex(regex) => format!("path matching {regex}"),
    });
    let methods: Vec<&str> = when.methods.iter().map(|it| it.as_str()).collect();
    let methods = (!methods.is_empty()).then(|| format!("method {}", methods.join(" or ")));
    let headers = when.headers.iter().map(|(name, pattern)| value("header", name.as_str(), pattern));
    let cookies = when.cookies.iter().map(|(name, pattern)| value("cookie", name, pattern));
    let query = when.query.iter().map(|(name, pattern)| value("query parameter", name, pattern));
    let fixed = host.into_iter().chain(path).chain(methods);
    let all: Vec<String> = fixed.chain(headers).chain(cookies).chain(query).collect();
    if all.is_empty() { "any request".into() } else { all.join(", ") }
}

fn value(kind: &str, name: &str, pattern: &ValuePattern) -> String {
    match pattern {
        ValuePattern::Present => format!("{kind} {name}"),
        ValuePattern::Exact(exact) => format!("{kind} {name} {exact}"),
        ValuePattern::Regex(regex) => format!("{kind} {name} matching {regex}"),
    }
}
