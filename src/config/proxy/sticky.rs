//! `sticky` of a pool: the cookie that keeps a client with a backend.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::{Listener, Pool, PoolId, Protocol, RouteAction, Secret, Sticky};

use super::super::keys::Shape::Text;
use super::super::keys::{Keys, default, key, otherwise};
use super::super::source::FileKind;
use super::super::table::{Entry, Table, Value};

pub(super) const STICKY: Keys = Keys {
    known: &[
        key(
            "cookie",
            Text,
            otherwise("\"portolan\"", "`portolan-` and the name of the pool"),
            "name of the cookie; pools whose clients overlap need different ones",
        ),
        key(
            "ttl",
            Text,
            default("\"1h\""),
            "how long a client without requests stays with its backend; the cookie is renewed after half of it",
        ),
        key(
            "secret_file",
            Text,
            otherwise(
                "\"sticky.secret\"",
                "a secret of the process: clients lose their backend at a restart and on other nodes",
            ),
            "file with the secret that signs the cookies, 32 or more hexadecimal digits; a second line is a secret that is also accepted, for rotation",
        ),
    ],
    later: &[],
};

const TTLS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
const DEFAULT_TTL: Duration = Duration::from_secs(3600);
/// Longer names only waste room in every request.
const LONGEST_COOKIE_NAME: usize = 100;
/// Hexadecimal digits of a secret: from 128 bits to the block of SHA-256, beyond which more add nothing.
const SECRET_DIGITS: RangeInclusive<usize> = 32..=128;

/// Reads `sticky` of a pool.
pub(super) fn read(pool: &Table<'_>, name: &str) -> Option<Sticky> {
    let value = pool.get("sticky")?;
    let table = value.table(pool.path("sticky"), &STICKY)?;
    let cookie = match table.get("cookie") {
        Some(value) => value.parsed("the name of a cookie", cookie_name)?.to_owned(),
        None => format!("portolan-{name}"),
    };
    let ttl = table.get("ttl").and_then(|value| value.duration(TTLS)).unwrap_or(DEFAULT_TTL);
    let secrets = match table.get("secret_file") {
        Some(value) => read_secrets(&value)?,
        None => {
            table.report.warning(
                value.span.clone(),
                format!("the cookies of pool `{name}` are signed with a secret of this process: after a restart, and on other nodes, they are not valid"),
                "name a file in `secret_file` that all nodes share; make it with `openssl rand -hex 32`",
            );
            Vec::new()
        }
    };
    Some(Sticky { cookie, ttl: Duration::from_secs(ttl.as_secs()), secrets })
}

/// A token (RFC 6265 §4.1.1).
fn cookie_name(text: &str) -> Result<&str, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.len() <= LONGEST_COOKIE_NAME && text.bytes().all(is_token) {
        return Ok(text);
    }
    Err(format!(
        "{:?} is not a valid name of a cookie: 1 to {LONGEST_COOKIE_NAME} letters, digits, `-`, `_` or `.`",
        super::super::text::shortened(text)
    ))
}

/// One or two secrets, a line each.
fn read_secrets(value: &Value<'_>) -> Option<Vec<Secret>> {
    let name = value.text("the path of a file")?;
    let (path, text) = value.report.load_named(value.span.clone(), FileKind::Secret, name)?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let secrets: Option<Vec<Secret>> = lines.iter().map(|line| secret(line)).collect();
    // The lines themselves may be secrets with a slip in them.
    let why = match secrets {
        Some(secrets) if matches!(secrets.len(), 1 | 2) => return Some(secrets),
        Some(_) => "expected one or two secrets, a line each",
        None => "a secret has 32 to 128 hexadecimal digits, an even number of them",
    };
    let message = format!("{} {}: {why}", FileKind::Secret, path.display());
    value.report.error_with_help(value.span.clone(), message, "make a secret with `openssl rand -hex 32`");
    None
}

fn secret(line: &str) -> Option<Secret> {
    if !SECRET_DIGITS.contains(&line.len()) || !line.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    let bytes: Option<Vec<u8>> = line.as_bytes().chunks(2).map(pair).collect();
    bytes.map(|bytes| Secret::new(&bytes))
}

/// Warns of cookies that cannot do what they are for.
pub(super) fn warn(entries: &[Entry<'_>], pools: &[Pool], listeners: &[Listener]) {
    let entry = |pool: &Pool| entries.iter().find(|entry| entry.name == pool.name);
    let sticky = || pools.iter().enumerate().filter_map(|(id, pool)| Some((id, pool, pool.sticky.as_ref()?)));
    for (id, pool, its) in sticky() {
        let Some(entry) = entry(pool) else { continue };
        if let Some((_, other, _)) =
            sticky().take_while(|(other, ..)| *other < id).find(|(_, _, it)| it.cookie == its.cookie)
        {
            entry.value.report.warning(
                entry.span.clone(),
                format!("pools `{}` and `{}` have the same cookie `{}`", other.name, pool.name, its.cookie),
                "give each a `cookie` of its own: a client that uses both would lose its backend at every change",
            );
        }
        let leads_here = |listener: &Listener| {
            listener.routes.iter().any(|route| {
                matches!(&route.action, RouteAction::Forward(pools) if pools.iter().any(|(it, _)| *it == PoolId(id as u16)))
            })
        };
        let mut used = listeners.iter().filter(|it| leads_here(it)).peekable();
        if used.peek().is_some() && used.all(|it| it.protocol != Protocol::Http) {
            entry.value.report.warning(
                entry.span.clone(),
                format!("pool `{}` is sticky, but no listener that speaks HTTP leads to it", pool.name),
                "only HTTP has cookies; choose `balance = \"maglev\"` to keep clients by their address",
            );
        }
    }
}
