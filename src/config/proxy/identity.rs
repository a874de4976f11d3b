//! `[proxy.identity]`: what backends learn of clients and requests.

use crate::model::{ClientHeaders, Fraction};

use super::super::keys::Shape::{Boolean, OneOrMany, Text, Words};
use super::super::keys::{Keys, default, key, otherwise};
use super::super::table::Table;
use super::super::text;

pub(super) const IDENTITY: Keys = Keys {
    known: &[
        key(
            "headers",
            OneOrMany(&Words(&["x-forwarded", "forwarded"])),
            default("[\"x-forwarded\"]"),
            "who the client is: \"x-forwarded\" (X-Forwarded-For, -Host, -Proto and X-Real-IP), \"forwarded\" (RFC 7239), or both",
        ),
        key(
            "request_id",
            Boolean,
            default("true"),
            "whether requests without an X-Request-Id of a trusted hop get one",
        ),
        key(
            "trace",
            Text,
            otherwise("\"10%\"", "traces of trusted hops are passed on"),
            "whether a traceparent (W3C Trace Context) of a trusted hop gets a new parent id, and requests without one begin a trace; the share of those that is marked as sampled",
        ),
    ],
    later: &[],
};

pub(super) fn read(proxy: &Table<'_>) -> ClientHeaders {
    let usual = ClientHeaders::default();
    let table = proxy.get("identity").and_then(|value| value.table("proxy.identity", &IDENTITY));
    let get = |key: &str| table.as_ref().and_then(|table| table.get(key));
    let named = get("headers").and_then(|value| {
        let items = value.one_or_many("a list such as [\"x-forwarded\", \"forwarded\"]")?;
        let choices = [("x-forwarded", (true, false)), ("forwarded", (false, true))];
        let chosen = items.iter().filter_map(|item| item.choice(&choices, &[]));
        Some(chosen.fold((false, false), |all, it| (all.0 || it.0, all.1 || it.1)))
    });
    let (x_forwarded, forwarded) = named.unwrap_or((usual.x_forwarded, usual.forwarded));
    let request_id = get("request_id").and_then(|value| value.boolean()).unwrap_or(usual.request_id);
    let trace = get("trace").and_then(|value| value.parsed("a share such as \"10%\"", share));
    ClientHeaders { x_forwarded, forwarded, request_id, trace }
}

/// Parses a share, which may be none.
fn share(written: &str) -> Result<Fraction, String> {
    let error = || format!("expected a share from 0% to 100%, found {:?}", text::shortened(written));
    Fraction::parse(written).ok_or_else(error)
}
