//! `[proxy.access_log]`: where requests are logged.

use crate::model::{AccessFormat, AccessLog, Fraction, LogTarget};

use super::super::keys::Shape::{Text, Words};
use super::super::keys::{Keys, default, key, required};
use super::super::table::Table;
use super::super::text;

pub(super) const ACCESS_LOG: Keys = Keys {
    known: &[
        key(
            "to",
            Text,
            required("\"stdout\""),
            "\"stdout\", or a file to append to, in a folder that exists",
        ),
        key(
            "format",
            Words(&["json", "clf"]),
            default("\"json\""),
            "\"json\", or \"clf\", the Common Log Format with less in it",
        ),
        key("sample", Text, default("\"100%\""), "share of the requests that is logged"),
    ],
    later: &[],
};

pub(super) fn read(proxy: &Table<'_>) -> Option<AccessLog> {
    let table = proxy.get("access_log")?.table("proxy.access_log", &ACCESS_LOG)?;
    let to = table.need("to").and_then(|value| {
        Some(match value.text("\"stdout\" or a file")? {
            "stdout" => LogTarget::Stdout,
            path => LogTarget::File(table.report.resolve(path)),
        })
    });
    let formats = [("json", AccessFormat::Json), ("clf", AccessFormat::Clf)];
    let format = table.get("format").and_then(|value| value.choice(&formats, &[]));
    let sample = table.get("sample").and_then(|value| value.parsed("a share such as \"10%\"", text::share));
    let (format, sample) = (format.unwrap_or(AccessFormat::Json), sample.unwrap_or(Fraction::WHOLE));
    Some(AccessLog { format, to: to?, sample })
}
