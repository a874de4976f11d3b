//! Cookies that keep clients with a backend: valid only as they were granted, and never passed on.

use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use portolan::config::{self, Source};
use portolan::model::Unix;
use portolan::route::{Cookies, NoSession};

const NOW: Unix = Unix(Duration::from_secs(1_800_000_000));

const CONFIG: &str = "version = 1\n[control]\nlisten = false\nsocket = \"s\"\n[proxy.listener.web]\nlisten = \
    \"127.0.0.1:0\"\npool = \"api\"\n[proxy.pool.api]\nbackend = [\"127.0.0.1:1\"]\nprobe = []\n\
    sticky = { cookie = \"at\", secret_file = \"secrets\" }\n";

static COOKIES: LazyLock<Cookies> = LazyLock::new(|| {
    let read = |source: &Source<'_>| match source.path.to_str() {
        Some("portolan.toml") => Ok(CONFIG.into()),
        Some("secrets") => Ok(format!("{}\n{}\n", "0a".repeat(32), "0b".repeat(32)).into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let config =
        config::load(Path::new("portolan.toml"), &read).unwrap_or_else(|refused| panic!("{refused}"));
    Cookies::of(&config.topology.pools[0]).expect("it is sticky")
});

/// The value of a cookie that was granted so long ago.
fn granted(age: Duration) -> String {
    let field = COOKIES.grant(([10, 0, 0, 1], 80).into(), Unix(NOW.0 - age), false);
    let field = field.to_str().expect("text");
    field.split(['=', ';']).nth(1).expect("a value").to_owned()
}

static VALID: LazyLock<String> = LazyLock::new(|| granted(Duration::ZERO));
static EXPIRED: LazyLock<String> = LazyLock::new(|| granted(Duration::from_secs(7200)));

/// Each line is a `Cookie` header, in which `%V` and `%E` stand for a valid value and an expired one.
pub(crate) fn read(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line).replace("%V", &VALID).replace("%E", &EXPIRED);
        let Ok(value) = HeaderValue::from_bytes(line.as_bytes()) else { continue };
        headers.append(COOKIE, value);
    }
    let before = pairs(&headers);
    let own: Vec<&[u8]> = before.iter().filter_map(|pair| own_value(pair)).collect();
    let found = COOKIES.read(&headers, NOW);
    match own[..] {
        [] => assert_eq!(found, Err(NoSession::Absent)),
        [value] if value == VALID.as_bytes() => assert!(found.is_ok_and(|it| !it.is_due)),
        [value] if value == EXPIRED.as_bytes() => assert!(matches!(found, Err(NoSession::Expired(_)))),
        [_] => assert!(matches!(found, Err(NoSession::Malformed | NoSession::Forged)), "{found:?}"),
        _ => assert_eq!(found, Err(NoSession::Several)),
    }
    let untouched = headers.clone();
    COOKIES.remove_from(&mut headers);
    assert_eq!(COOKIES.read(&headers, NOW), Err(NoSession::Absent));
    if own.is_empty() {
        assert_eq!(headers, untouched);
    }
    let others = before.iter().filter(|pair| own_value(pair).is_none());
    assert!(others.eq(pairs(&headers).iter()), "other cookies stay: {headers:?}");
}

/// All that stands between semicolons.
fn pairs(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    pairs.filter(|pair| !pair.is_empty()).map(<[u8]>::to_vec).collect()
}

fn own_value(pair: &[u8]) -> Option<&[u8]> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    (pair[..equals].trim_ascii() == b"at").then_some(pair[equals + 1..].trim_ascii())
}
