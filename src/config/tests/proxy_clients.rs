//! Mistakes in what a listener lets clients use, and in how a pool keeps clients and finds backends, or stops using them.

use super::proxy_mistakes::{LISTENER, POOL, check_with, pool};
use super::reported;

#[test]
fn limits_of_clients() {
    let client = |keys: &str| {
        format!(
            "proxy.listener.web = {{ listen = \"[::]:80\", pool = \"api\", client = {{ {keys} }} }}\n{POOL}"
        )
    };
    check_with(
        client,
        &[
            ("connections = 1, requests_per_second = 10000, burst = 1", ""),
            (
                "connections = 0, requests_per_second = 10001, burst = 0, per = 1",
                "2:83: expected an integer from 1 to 1000000, found integer 0\n2:108: expected an integer from 1 to 10000, found integer 10001\n2:123: expected an integer from 1 to 10000, found integer 0\n2:126: unknown key `per` in `proxy.listener.web.client`",
            ),
            ("burst = 1", "2:69: `burst` has no meaning without `requests_per_second`"),
        ],
    );
    let tcp = client("connections = 5, burst = 1").replace("pool =", "protocol = \"tcp\", pool =");
    assert_eq!(reported(&tcp), "2:104: `burst` has no meaning in a listener that does not read HTTP");
}

#[test]
fn limits_of_requests() {
    let limits = |keys: &str| {
        format!(
            "proxy.listener.web = {{ listen = \"[::]:80\", pool = \"api\", limits = {{ {keys} }} }}\n{POOL}"
        )
    };
    check_with(
        limits,
        &[
            ("body = \"10MiB\", upload = 0, download = 0, grace = \"1s\", streams = 1", ""),
            (
                "body = 1, upload = -1, grace = \"0s\", streams = 0",
                "2:76: expected a size such as \"10MiB\" (units: B, KiB, MiB, GiB), found integer 1\n2:88: expected an integer from 0 to 1000000000, found integer -1\n2:100: expected a duration from 1s to 10m, found \"0s\"\n2:116: expected an integer from 1 to 1024, found integer 0",
            ),
            (
                "body = \"10MB\"",
                "2:76: expected a size such as \"10MiB\" (units: B, KiB, MiB, GiB), found \"10MB\"",
            ),
        ],
    );
    let tcp = limits("body = \"1KiB\"").replace("pool =", "protocol = \"tcp\", pool =");
    assert_eq!(reported(&tcp), "2:76: `limits` has no meaning with protocol = \"tcp\"");
}

#[test]
fn sources_of_backends() {
    const WHAT: &str = "expected a source such as \"dns:api.internal:8080\", \"dns+srv:_api._tcp.internal\" or \"file:backends.txt\"";
    let discover = |source: &str| pool(&format!("discover = {source}"));
    check_with(
        discover,
        &[
            ("1", &format!("2:73: {WHAT}, found integer 1")),
            ("\"api.internal\"", &format!("2:73: {WHAT}, found \"api.internal\"")),
            ("\"http://api.internal\"", &format!("2:73: {WHAT}, found \"http://api.internal\"")),
            (
                "\"dns:api.internal\"",
                "2:73: \"api.internal\" is not an address or host with a port; write HOST:PORT",
            ),
            ("\"dns:10.0.0.1:80\"", "2:73: 10.0.0.1:80 needs no discovery: list it in `backend`"),
            ("\"dns+srv:a b\"", "2:73: \"a b\" is not a valid domain name: it contains a space"),
            (
                "\"file:none\"",
                "2:73: warning: file of backends none: no such file\n  help: until it is mended, the pool has only what `backend` lists",
            ),
            (
                "\"file:notes.txt\"",
                "2:73: warning: file of backends notes.txt: line 1: expected weight=NUMBER or backup, found \"certificate\"\n  help: until it is mended, the pool has only what `backend` lists",
            ),
        ],
    );
}

#[test]
fn cookies_of_pools() {
    const OWN_SECRET: &str = "warning: the cookies of pool `api` are signed with a secret of this process: after a restart, and on other nodes, they are not valid\n  help: name a file in `secret_file` that all nodes share; make it with `openssl rand -hex 32`";
    check_with(
        pool,
        &[
            ("sticky = true", "2:71: expected a table, found true"),
            ("sticky = {}", &format!("2:71: {OWN_SECRET}")),
            (
                "sticky = { cookie = \"a b\", path = \"/\" }",
                "2:82: \"a b\" is not a valid name of a cookie: 1 to 100 letters, digits, `-`, `_` or `.`\n2:89: unknown key `path` in `proxy.pool.api.sticky`",
            ),
            (
                "sticky = { ttl = \"0s\", secret_file = 1 }",
                "2:79: expected a duration from 1s to 720h, found \"0s\"\n2:99: expected the path of a file, found integer 1",
            ),
            (
                "sticky = { secret_file = \"none\" }",
                "2:87: secret file none: no such file\n  help: a relative path starts at the folder of the config file",
            ),
            (
                "sticky = { secret_file = \"notes.txt\" }",
                "2:87: secret file notes.txt: a secret has 32 to 128 hexadecimal digits, an even number of them\n  help: make a secret with `openssl rand -hex 32`",
            ),
        ],
    );
    let two = "proxy.pool.a = { backend = [\"10.0.0.1:80\"], probe = \"web\", sticky = { cookie = \"c\" } }\n\
               proxy.pool.b = { backend = [\"10.0.0.1:80\"], probe = \"web\", sticky = { cookie = \"c\" } }\n\
               proxy.listener.web = { listen = \"[::]:80\", protocol = \"tcp\", route = [{ split = [{ pool = \"a\" }, { pool = \"b\" }] }] }";
    assert_eq!(
        super::without(&reported(two), "a secret of this process"),
        concat!(
            "2:12: warning: pool `a` is sticky, but no listener that speaks HTTP leads to it\n",
            "  help: only HTTP has cookies; choose `balance = \"maglev\"` to keep clients by their address\n",
            "3:12: warning: pools `a` and `b` have the same cookie `c`\n",
            "  help: give each a `cookie` of its own: a client that uses both would lose its backend at every change\n",
            "3:12: warning: pool `b` is sticky, but no listener that speaks HTTP leads to it\n",
            "  help: only HTTP has cookies; choose `balance = \"maglev\"` to keep clients by their address"
        )
    );
}

#[test]
fn pools_whose_backends_fail() {
    check_with(
        pool,
        &[
            (
                "passive = { failures = 0, on = [\"503\", \"5xx\", \"5xx\"], eject = \"10ms\", max_ejected = \"0%\" }",
                "2:85: expected an integer from 1 to 1000, found integer 0\n2:94: expected \"connect\", \"reset\", \"timeout\" or \"5xx\", found \"503\"\n2:108: this failure is listed twice\n2:124: expected a duration from 1s to 1h, found \"10ms\"\n2:146: expected a share above 0% and up to 100%, found \"0%\"",
            ),
            (
                "passive = { requests = 10, eject = \"10m\", longest = \"5m\", errors_ = \"1%\" }",
                "2:74: `requests` says nothing without `errors`\n2:104: `longest` is shorter than `eject`, the time of the first ejection\n2:120: unknown key `errors_` in `proxy.pool.api.passive`; did you mean `errors`?",
            ),
            ("limits = { pending = 10 }", "2:71: `limits` of a pool need `requests`, `connections` or both"),
            ("limits = { connections = 10 }", ""),
            (
                "limits = { requests = 0, pending = -1, wait = \"11m\", connections = 0 }",
                "2:84: expected an integer from 1 to 1000000, found integer 0\n2:97: expected an integer from 0 to 1000000, found integer -1\n2:108: expected a duration from 1ms to 10m, found \"11m\"\n2:129: expected an integer from 1 to 65535, found integer 0",
            ),
            (
                "passive = true",
                "2:72: expected a table such as { failures = 3, eject = \"30s\" }, or false, found true",
            ),
            (
                "panic = \"50\", slow_start = \"0s\"",
                "2:70: \"50\" is not a share such as \"50%\", and not \"off\"\n2:89: expected a duration from 1s to 1h, found \"0s\"",
            ),
            ("panic = false", "2:70: expected a share such as \"50%\", or \"off\", found false"),
            (
                "balance = \"round-robin\", slow_start = \"10s\"",
                "2:87: warning: \"round-robin\" ignores weights, also those that grow in a slow start\n  help: choose \"weighted\", which is round robin by weights",
            ),
        ],
    );
}

#[test]
fn pools_that_hedge() {
    const ALONE: &str = "2:62: warning: pool `api` has one backend, so a request has no other to go to\n  help: add backends, or remove `hedge`";
    check_with(pool, &[("hedge = \"50ms\"", ALONE)]);
    let two = |keys: &str| {
        format!(
            "proxy.pool.api = {{ probe = [], backend = [\"10.0.0.1:80\", \"10.0.0.2:80\"], {keys} }}\n{LISTENER}"
        )
    };
    check_with(
        two,
        &[
            ("hedge = \"1ms\"", ""),
            ("hedge = \"61s\"", "2:82: expected a duration from 1ms to 1m, found \"61s\""),
            ("hedge = true", "2:82: expected a duration such as \"5s\" (units: ms, s, m, h, d), found true"),
            (
                "hedge = \"50ms\", retry = { tries = 1 }",
                "2:82: `hedge` needs a second attempt: set `tries` of `retry` to at least 2",
            ),
            (
                "hedge = \"2s\", timeout = { read = \"2s\" }",
                "2:82: `hedge` must be shorter than `timeout.read`, which is 2s",
            ),
        ],
    );
    let tcp = |keys: &str| two(keys).replace("pool =", "protocol = \"tcp\", pool =");
    let why = "whose clients' bytes are relayed as they are\n  help: give that listener a pool of its own";
    check_with(
        tcp,
        &[("hedge = \"50ms\"", &format!("2:12: pool `api` has `hedge`, but serves listener `web`, {why}"))],
    );
}

#[test]
fn services_that_decide() {
    let auth = |keys: &str| {
        format!(
            "proxy.listener.web = {{ listen = \"[::]:80\", route = [{{ pool = \"api\", auth = {{ {keys} }} }}] }}\n{POOL}"
        )
    };
    const A_URL: &str = "expected a URL such as \"http://auth.internal:9000/verify\"";
    check_with(
        auth,
        &[
            ("forward = \"http://10.0.0.1:9000/verify\", headers = \"x-user\", timeout = \"1s\"", ""),
            ("pool = \"api\", path = \"/verify\"", ""),
            (
                "pool = \"asked\", path = \"/verify\" } }] }\nproxy.pool.asked = { backend = [\"10.0.0.2:80\"], probe = [], send_proxy = \"v2\" }\n#",
                "3:12: pool `asked` has `send_proxy`, but serves listener `web`, whose clients share connections to backends\n  help: remove it: backends find the client in X-Forwarded-For",
            ),
            ("timeout = \"1s\"", "2:76: `auth` needs `forward` or `pool`"),
            ("forward = \"10.0.0.1\"", &format!("2:88: {A_URL}, found \"10.0.0.1\"")),
            (
                "forward = \"https://10.0.0.1/\"",
                "2:88: for TLS, name a pool with `tls` in `pool`, and write `path`",
            ),
            ("forward = \"http://10.0.0.1/\", path = \"/\"", "2:108: `path` has no meaning with `forward`"),
            (
                "pool = \"api\", headers = \"host\"",
                "2:102: Host cannot be edited: write `rewrite = { host = \"…\" }`",
            ),
        ],
    );
}
