//! `[dns.query_log]`: where queries are logged.

use crate::model::{Fraction, LogTarget, QueryLog, QueryLogTarget};

use super::keys::Shape::Text;
use super::keys::{Keys, default, instead, key, otherwise};
use super::table::Table;
use super::text;

pub(super) const QUERY_LOG: Keys = Keys {
    known: &[
        key(
            "to",
            Text,
            otherwise("\"/var/log/portolan/queries.log\"", "`dnstap`"),
            "\"stdout\", or a file to append to, in a folder that exists: a line of JSON for each query",
        ),
        key(
            "dnstap",
            Text,
            instead("\"/run/dnstap/portolan.sock\"", "without `to`"),
            "Unix socket of a reader of dnstap, such as fstrm_capture",
        ),
        key("sample", Text, default("\"100%\""), "share of the queries that is logged"),
    ],
    later: &[],
};

pub(super) fn read(dns: &Table<'_>) -> Option<QueryLog> {
    let value = dns.get("query_log")?;
    let table = value.table("dns.query_log", &QUERY_LOG)?;
    let path = |path| table.report.resolve(path);
    let to = match (table.get("to"), table.get("dnstap")) {
        (Some(value), None) => value.text("\"stdout\" or a file").map(|to| match to {
            "stdout" => QueryLogTarget::Json(LogTarget::Stdout),
            file => QueryLogTarget::Json(LogTarget::File(path(file))),
        }),
        (None, Some(value)) => value.text("the path of a Unix socket").map(path).map(QueryLogTarget::Dnstap),
        _ => value.fail("a query log needs `to` or `dnstap`, and not both"),
    };
    let sample = table.get("sample").and_then(|value| value.parsed("a share such as \"10%\"", text::share));
    Some(QueryLog { to: to?, sample: sample.unwrap_or(Fraction::WHOLE) })
}
