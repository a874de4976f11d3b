//! Mistakes in `[proxy]`, and what it is warned of.

use super::{all_reported, check, reported};

/// A listener with one route in line 2, and a pool.
pub(super) fn route(keys: &str) -> String {
    format!("proxy.listener.web = {{ listen = \"[::]:80\", route = [{{ {keys} }}] }}\n{POOL}")
}

pub(super) const POOL: &str = "proxy.pool.api = { backend = [\"10.0.0.1:80\"], probe = \"web\" }";

/// A pool in line 2 with one backend and these keys.
pub(super) fn pool(keys: &str) -> String {
    format!("proxy.pool.api = {{ backend = [\"10.0.0.1:80\"], probe = \"web\", {keys} }}\n{LISTENER}")
}

pub(super) const LISTENER: &str = "proxy.listener.web = { listen = \"[::]:80\", pool = \"api\" }";

/// A pool in line 2 with these backends.
fn backends(backends: &str) -> String {
    format!("proxy.pool.api = {{ probe = \"web\", backend = [{backends}] }}\n{LISTENER}")
}

pub(super) fn check_with(whole: impl Fn(&str) -> String, cases: &[(&str, &str)]) {
    let whole: Vec<_> = cases.iter().map(|(keys, expected)| (whole(keys), *expected)).collect();
    let cases: Vec<_> = whole.iter().map(|(snippet, expected)| (snippet.as_str(), *expected)).collect();
    check(&cases);
}

#[test]
fn listeners() {
    check(&[
        (
            "[proxy]\nworkers = 1025\ntrusted = [\"10.0.0.1/8\", \"0.0.0.0/0\"]",
            "3:11: expected an integer from 0 to 1024, found integer 1025\n4:12: 10.0.0.1/8 has host bits set; write 10.0.0.0/8\n4:26: warning: 0.0.0.0/0 trusts every client, and each may claim any address\n  help: list only the addresses of the proxies before this one",
        ),
        (
            "proxy.listener.web = {}",
            "2:22: `listen` is missing in `proxy.listener.web`\n2:22: a listener needs `pool`, `route` or `ready`",
        ),
        (
            "[proxy]\naccess_log = { format = \"text\", sample = \"0%\" }",
            "3:14: `to` is missing in `proxy.access_log`\n3:25: expected \"json\" or \"clf\", found \"text\"\n3:42: expected a share above 0% and up to 100%, found \"0%\"\n2:2: warning: this config balances nothing: [proxy] has no listener\n  help: add [proxy.listener.NAME] with `listen` and `pool`",
        ),
        (
            "[proxy]\nidentity = { headers = [\"via\"], request_id = 1, trace = \"x\" }",
            "3:25: expected \"x-forwarded\" or \"forwarded\", found \"via\"\n3:46: expected true or false, found integer 1\n3:57: expected a share from 0% to 100%, found \"x\"\n2:2: warning: this config balances nothing: [proxy] has no listener\n  help: add [proxy.listener.NAME] with `listen` and `pool`",
        ),
        (
            "[proxy]\nstop_delay = \"6m\"\n[proxy.listener]\na = { listen = \"[::]:80\", ready = 1 }\nb = { listen = \"[::]:81\", ready = { pools = [\"apo\"] } }\nc = { listen = \"[::]:82\", ready = {} }\nd = { listen = \"[::]:83\", ready = true, protocol = \"tcp\" }",
            "3:14: expected a duration from 0s to 5m, found \"6m\"\n5:35: expected true, false or { pools = [\"api\"] }, found integer 1\n6:46: pool `apo` is not defined\n7:35: `pools` is missing in `proxy.listener.c.ready`\n8:27: `ready` has no meaning in a listener that does not read HTTP",
        ),
        (
            "proxy.listener.\"a b\" = { listen = \"[::]:80\", pool = \"api\" }",
            "2:16: \"a b\" is not a valid name: 1 to 63 letters, digits, `-`, `_` or `.`\n2:53: pool `api` is not defined",
        ),
        (
            &format!("proxy.listener.web = {{ listen = [], protocol = \"udp\", pool = \"apo\" }}\n{POOL}"),
            "2:33: expected a list of addresses such as [\"0.0.0.0:80\"], found an empty list\n2:62: pool `apo` is not defined; did you mean `api`?",
        ),
        (
            &format!("proxy.listener.web = {{ listen = \"80\", protocol = \"htttp\", pool = 1 }}\n{POOL}"),
            "2:33: \"80\" is not an address with a port; write \"0.0.0.0:80\" or \"[::]:80\"\n2:50: expected \"http\", \"tcp\", \"tls-passthrough\" or \"udp\", found \"htttp\"; did you mean `http`?\n2:66: expected the name of a pool, found integer 1",
        ),
        (
            &format!("proxy.listener.web = {{ listen = \"[::]:80\", route = [] }}\n{POOL}"),
            "2:52: expected a list of routes, found an empty list",
        ),
        (
            &format!(
                "[dns]\nlisten = [\"127.0.0.1:53\"]\n[proxy.listener]\na = {{ listen = [\"0.0.0.0:80\", \"0.0.0.0:80\"], pool = \"api\" }}\nb = {{ listen = [\"127.0.0.1:80\", \"127.0.0.1:53\", \"127.0.0.1:8053\"], pool = \"api\" }}\n[proxy.pool]\n{}",
                POOL.replace("proxy.pool.", "")
            ),
            "5:31: 0.0.0.0:80 is listened on twice\n6:17: 127.0.0.1:80 overlaps the listener 0.0.0.0:80\n6:33: 127.0.0.1:53 is listened on twice\n6:49: 127.0.0.1:8053 conflicts with the API, which listens on 127.0.0.1:8053\n  help: give the API another `listen` in [control]",
        ),
        (
            &format!(
                "proxy.listener.db = {{ listen = \"[::]:80\", protocol = \"tcp\", route = [{{ host = \"a.test\", pool = \"api\" }}, {{ redirect = {{ to = \"/\" }} }}] }}\n{POOL}"
            ),
            "2:72: `host` has no meaning with protocol = \"tcp\"\n2:107: `redirect` has no meaning with protocol = \"tcp\"",
        ),
    ]);
}

#[test]
fn listeners_below_http() {
    check(&[
        (
            &format!(
                "proxy.listener.db = {{ listen = \"[::]:80\", protocol = \"tls-passthrough\", route = [{{ host = [\"a.test\", \"192.0.2.1\", \"[::1]\"], path = \"/\", pool = \"api\" }}] }}\n{POOL}"
            ),
            "2:102: no client of TLS names the address 192.0.2.1 as its host\n  help: use `pool` for clients that name no host\n2:115: no client of TLS names the address [::1] as its host\n  help: use `pool` for clients that name no host\n2:125: `path` has no meaning with protocol = \"tls-passthrough\"",
        ),
        (
            &format!(
                "proxy.listener.web = {{ listen = \"[::]:80\", proxy_protocol = true, pool = \"api\" }}\n{POOL}"
            ),
            "2:7: listener `web` has `proxy_protocol`, but no hop is trusted to name clients\n  help: list the addresses of the proxies before this one in [proxy] trusted",
        ),
        (
            &format!(
                "proxy.listener.web = {{ listen = \"[::]:80\", proxy_protocol = 1, pool = \"api\" }}\n{POOL}"
            ),
            "2:61: expected true or false, found integer 1",
        ),
        (
            &format!(
                "proxy.pool.api = {{ backend = [\"10.0.0.1:80\"], probe = \"web\", send_proxy = \"v1\" }}\n{LISTENER}"
            ),
            "2:12: pool `api` has `send_proxy`, but serves listener `web`, whose clients share connections to backends\n  help: remove it: backends find the client in X-Forwarded-For",
        ),
        (
            &format!(
                "proxy.pool.api = {{ backend = [\"10.0.0.1:80\"], probe = \"web\", send_proxy = \"v3\" }}\n{LISTENER}"
            ),
            "2:75: expected \"v1\" or \"v2\", found \"v3\"; did you mean `v1`?",
        ),
        (
            &format!(
                "proxy.pool.api = {{ backend = [\"10.0.0.1:80\"], probe = \"web\", send_proxy = \"v2\" }}\n{}",
                LISTENER.replace("pool =", "protocol = \"udp\", pool =")
            ),
            "2:12: pool `api` has `send_proxy`, but serves listener `web`, which makes no connections\n  help: give that listener a pool of its own",
        ),
        (
            &format!(
                "proxy.listener.web = {{ listen = \"[::]:80\", protocol = \"udp\", proxy_protocol = true, tcp = {{}}, route = [{{ host = \"a.test\", pool = \"api\" }}] }}\n{POOL}"
            ),
            "2:62: `proxy_protocol` has no meaning with protocol = \"udp\"\n2:85: `tcp` has no meaning with protocol = \"udp\"\n2:106: `host` has no meaning with protocol = \"udp\"",
        ),
        (
            &format!(
                "proxy.pool.api = {{ backend = [\"10.0.0.1:80\"], probe = \"web\", http = \"h3\" }}\n{LISTENER}"
            ),
            "2:69: expected \"h1\" or \"h2\", found \"h3\"; did you mean `h1`?",
        ),
        (
            &format!(
                "proxy.pool.api = {{ backend = [\"10.0.0.1:80\"], probe = \"web\", http = \"h2\" }}\n{}",
                LISTENER.replace("pool =", "protocol = \"tcp\", pool =")
            ),
            "2:12: pool `api` has `http = \"h2\"`, but serves listener `web`, whose clients' bytes are relayed as they are\n  help: give that listener a pool of its own",
        ),
        // UDP and TCP may share a port, but DNS takes both.
        (
            &format!(
                "[dns]\nlisten = [\"127.0.0.1:53\"]\n[proxy.listener]\na = {{ listen = \"0.0.0.0:443\", pool = \"api\" }}\nb = {{ listen = [\"0.0.0.0:443\", \"127.0.0.1:53\"], protocol = \"udp\", pool = \"api\" }}\n[proxy.pool]\n{}",
                POOL.replace("proxy.pool.", "")
            ),
            "6:32: 127.0.0.1:53 is listened on twice",
        ),
    ]);
}

#[test]
fn conditions() {
    check_with(
        route,
        &[
            (
                "pool = \"api\", host = [\"*\", \"a.test:80\", \"https://a.test\", \"a.*.test\", \"a.test\", \"A.TEST\", \"münchen.test\", 1]",
                "2:77: leave `host` out to match every host\n2:82: \"a.test:80\" is not a valid host name: write a name or an address, without a port\n2:95: \"https://a.test\" is not a valid host name: write a name or an address, without a port; leave https:// out\n2:113: \"a.*.test\" is not a valid host name: write a name or an address, without a port\n2:135: this host is listed twice\n2:145: \"münchen.test\" is not a valid host name: write a name or an address, without a port\n2:161: expected a host such as \"api.example.com\" or \"*.example.com\", found integer 1",
            ),
            (
                "pool = \"api\", path = \"v1\"",
                "2:76: \"v1\" is not a valid path: it starts with `/` and has no spaces, no `?` and no `#`",
            ),
            (
                "pool = \"api\", path = { exact = \"/a?b\" }",
                "2:86: \"/a?b\" is not a valid path: it starts with `/` and has no spaces, no `?` and no `#`",
            ),
            (
                "pool = \"api\", path = { regex = \"(\" }",
                "2:86: \"(\" is not a valid regular expression, or is too large",
            ),
            (
                "pool = \"api\", path = { regex = \"(a{1000}){1000}\" }",
                "2:86: \"(a{1000}){1000}\" is not a valid regular expression, or is too large",
            ),
            (
                "pool = \"api\", path = { exact = \"/\", regex = \"/\" }",
                "2:76: expected a path such as \"/v1/\", { exact = \"/x\" } or { regex = \"^/v[0-9]+/\" }",
            ),
            (
                "pool = \"api\", path = 1",
                "2:76: expected a path such as \"/v1/\", { exact = \"/x\" } or { regex = \"^/v[0-9]+/\" }, found integer 1",
            ),
            (
                "pool = \"api\", method = [\"get\", \"GET\", \"GET\", \"G T\"]",
                "2:79: methods are written in capitals: \"GET\"\n2:93: method GET is listed twice\n2:100: \"G T\" is not a valid method such as GET",
            ),
            (
                "pool = \"api\", header = { \"a b\" = true, X-A = \" 1\", x-a = false, host = \"a\", Cookie = \"b\" }",
                "2:80: \"a b\" is not a valid name of a header\n2:100: \" 1\" is not a valid value of a header\n2:106: header `x-a` is listed twice\n2:112: expected a text, true or { regex = \"…\" }, found false\n2:119: a route has the key `host` for this header\n2:131: a route has the key `cookie` for this header",
            ),
            ("pool = \"api\", header = {}", "2:78: `header` is empty"),
            ("pool = \"api\", cookie = { \"a=b\" = true }", "2:80: \"a=b\" is not a valid name of a cookie"),
            (
                "pool = \"api\", query = { a = { regex = \")\" }, b = { exact = \"\" }, c = 1 }",
                "2:93: \")\" is not a valid regular expression, or is too large\n2:104: `regex` is missing in `proxy.listener.web.route.query`\n2:106: unknown key `exact` in `proxy.listener.web.route.query`; it belongs to `proxy.listener.NAME.route.path`\n2:124: expected a text, true or { regex = \"…\" }, found integer 1",
            ),
        ],
    );
}

#[test]
fn actions() {
    check_with(
        route,
        &[
            ("path = \"/\"", "2:53: a route needs one of `pool`, `split`, `redirect` and `respond`"),
            (
                "pool = \"api\", respond = { status = 503 }",
                "2:69: this route has `pool` already, and does only one thing",
            ),
            ("pool = \"apo\"", "2:62: pool `apo` is not defined; did you mean `api`?"),
            (
                "split = []",
                "2:63: expected a list of pools such as [{ pool = \"api\", weight = 95 }], found an empty list",
            ),
            (
                "split = [{ pool = \"api\", weight = -1 }, { weight = 5 }, { pool = \"api\" }]",
                "2:89: expected an integer from 0 to 1000000, found integer -1\n2:95: `pool` is missing in `proxy.listener.web.route.split`\n2:111: pool `api` is listed twice",
            ),
            (
                "redirect = { status = 305, to = \"www.example.com/new\" }",
                "2:77: expected 301, 302, 303, 307 or 308, found integer 305\n2:87: \"www.example.com/new\" is not a valid location: write a URL such as \"https://www.example.com/\", or a path",
            ),
            (
                "redirect = { status = \"308\", to = \"//www.example.com/\" }",
                "2:77: expected 301, 302, 303, 307 or 308, found \"308\"\n2:89: \"//www.example.com/\" is not a valid location: write a URL such as \"https://www.example.com/\", or a path",
            ),
            (
                "redirect = { to = \"ftp://www.example.com/\" }",
                "2:73: \"ftp://www.example.com/\" is not a valid location: write a URL such as \"https://www.example.com/\", or a path",
            ),
            ("redirect = {}", "2:66: a redirect needs `to` or `scheme`"),
            (
                "respond = { status = 199, body = 1 }",
                "2:76: expected an integer from 200 to 599, found integer 199\n2:88: expected a text, found integer 1",
            ),
            ("respond = { status = 204, body = \"none\" }", "2:88: a response with status 204 has no body"),
            (
                "respond = { body = \"no status\" }",
                "2:65: `status` is missing in `proxy.listener.web.route.respond`",
            ),
        ],
    );
    let long = "x".repeat(64 * 1024 + 1);
    assert_eq!(
        reported(&route(&format!("respond = {{ status = 503, body = \"{long}\" }}"))),
        "2:88: the body has 65537 bytes, but at most 65536 are allowed"
    );
}

#[test]
fn routes_that_nothing_reaches() {
    let with = |routes: &[&str]| {
        let routes = routes.join(",\n");
        reported(&format!(
            "[proxy.listener.web]\nlisten = \"[::]:80\"\nroute = [\n{routes}]\n[proxy.pool]\n{}",
            POOL.replace("proxy.pool.", "")
        ))
    };
    let to_api = |conditions: &str| format!("{{ pool = \"api\", {conditions} }}");
    let unreached = |column: usize| {
        format!(
            "6:{column}: warning: nothing reaches this route: the one in line 5 takes everything that it would\n  help: move it up, or remove it"
        )
    };
    for (earlier, later, column) in [
        ("", "host = \"a.test\"", 1),
        ("host = \"a.test\"", "host = \"A.test.\", path = \"/\"", 1),
        ("host = \"*.test\"", "host = [\"test\", \"a.b.test\"]", 33),
        ("host = \"*.test\"", "host = \"*.a.test\"", 1),
        ("path = \"/\"", "path = { regex = \"^/v1\" }", 1),
        ("path = \"/v1\"", "path = \"/v1/\"", 1),
        ("path = \"/v1/\"", "path = { exact = \"/v1/x\" }", 1),
        ("path = { exact = \"/x\" }", "path = { exact = \"/x\" }", 1),
        ("path = { regex = \"^/v[0-9]/\" }", "path = { exact = \"/v1/x\" }", 1),
        ("path = { regex = \"^/v\" }", "path = { regex = \"^/v\" }", 1),
        ("method = [\"GET\", \"HEAD\"]", "method = \"GET\"", 1),
        ("header = { X-A = true }", "header = { x-a = \"1\", x-b = \"2\" }", 1),
        ("cookie = { a = { regex = \"^1\" } }", "cookie = { a = \"12\" }", 1),
        ("query = { a = { regex = \"^1\" } }", "query = { a = { regex = \"^1\" } }", 1),
        ("query = { a = \"1\" }", "query = { a = \"1\" }", 1),
    ] {
        let found = with(&[&to_api(earlier), &to_api(later)]);
        assert_eq!(found, unreached(column), "{later} after {earlier}");
    }
    for (earlier, later) in [
        ("host = \"a.test\"", ""),
        ("host = \"a.test\"", "host = \"*.test\""),
        ("host = \"*.test\"", "host = [\"test\", \"a.tes\", \"atest\"]"),
        ("host = \"*.a.test\"", "host = \"*.test\""),
        ("path = \"/v1\"", "path = \"/v10\""),
        ("path = \"/v1/\"", "path = \"/v1\""),
        ("path = { exact = \"/x\" }", "path = \"/x\""),
        ("path = { regex = \"^/v\" }", "path = \"/v1\""),
        ("path = \"/v\"", "path = { regex = \"^/v\" }"),
        ("method = [\"GET\"]", "method = [\"GET\", \"HEAD\"]"),
        ("method = [\"GET\"]", ""),
        ("header = { a = \"1\" }", "header = { a = true }"),
        ("header = { a = \"1\", b = \"1\" }", "header = { a = \"1\" }"),
        ("cookie = { a = \"1\" }", "query = { a = \"1\" }"),
        ("query = { a = { regex = \"^1\" } }", "query = { a = { regex = \"^2\" } }"),
    ] {
        assert_eq!(with(&[&to_api(earlier), &to_api(later)]), "", "{later} after {earlier}");
    }
    // `pool` of the listener is a route, too.
    check(&[(
        &format!(
            "proxy.listener.web = {{ listen = \"[::]:80\", route = [{{ pool = \"api\" }}], pool = \"api\" }}\n{POOL}"
        ),
        "2:79: warning: nothing reaches this route: the one in line 2 takes everything that it would\n  help: move it up, or remove it",
    )]);
}

#[test]
fn pools() {
    check_with(
        pool,
        &[
            (
                "balance = \"round\"",
                "2:72: expected \"round-robin\", \"weighted\", \"least-connections\", \"least-time\", \"ip-hash\", \"two-choices\" or \"maglev\", found \"round\"",
            ),
            (
                "keepalive = 10001, drain = \"25h\"",
                "2:74: expected an integer from 0 to 10000, found integer 10001\n2:89: expected a duration from 0s to 24h, found \"25h\"",
            ),
            (
                "retry = { tries = 0, on = [\"connect\", \"502\", \"connect\"], budget = \"0%\" }",
                "2:80: expected an integer from 1 to 10, found integer 0\n2:100: expected \"connect\", \"reset\", \"timeout\" or \"503\", found \"502\"; did you mean `503`?\n2:107: this failure is listed twice\n2:128: expected a share above 0% and up to 100%, found \"0%\"",
            ),
            (
                "retry = { on = [] }",
                "2:77: expected a list of failures such as [\"connect\", \"503\"], found an empty list",
            ),
            (
                "timeout = { connect = \"5ms\", read = \"0s\", write = 5, idle = \"25h\", first = \"1s\" }",
                "2:84: expected a duration from 10ms to 2m, found \"5ms\"\n2:98: expected a duration from 100ms to 24h, found \"0s\"\n2:112: expected a duration such as \"5s\" (units: ms, s, m, h, d), found integer 5\n2:122: expected a duration from 100ms to 24h, found \"25h\"\n2:129: unknown key `first` in `proxy.pool.api.timeout`",
            ),
        ],
    );
    check_with(
        backends,
        &[
            ("", "2:45: expected a list of backends such as [\"10.0.0.1:8080\"], found an empty list"),
            ("{}", "2:46: `address` is missing in `proxy.pool.api.backend`"),
            (
                "1, { address = 1, weight = -1, backup = 1 }",
                "2:46: expected an address such as \"10.0.0.1:8080\", found integer 1\n2:61: expected an address such as \"10.0.0.1:8080\", found integer 1\n2:73: expected an integer from 0 to 1000000, found integer -1\n2:86: expected true or false, found integer 1",
            ),
            (
                "\"10.0.0.1\", \"2001:db8::1\", \"2001:db8::1:80\", \"app\", \"10.0.0:80\", \"app:0\", \"10.0.0.1:0\", \"app:99999\"",
                "2:46: \"10.0.0.1\" is not an address or host with a port; write \"10.0.0.1:80\" with the port you mean\n2:58: \"2001:db8::1\" is not an address or host with a port; write \"[2001:db8::1]:80\" with the port you mean\n2:73: \"2001:db8::1:80\" is not an address or host with a port; write \"[2001:db8::1:80]:80\" with the port you mean\n2:91: \"app\" is not an address or host with a port; write HOST:PORT\n2:98: \"10.0.0\" is not a valid IP address\n2:111: \"app:0\" is not an address or host with a port; a port is a number from 1 to 65535\n2:120: 10.0.0.1:0 has port 0, which cannot be connected to\n2:134: \"app:99999\" is not an address or host with a port; a port is a number from 1 to 65535",
            ),
            (
                "\"http://10.0.0.1:80\", \"localhost:80\", \"0.0.0.0:80\", \"a b:80\", \"*.test:80\"",
                "2:46: \"http://10.0.0.1:80\" is not an address or host with a port; leave http:// out: write \"10.0.0.1:80\"\n2:68: \"localhost:80\" is not an address or host with a port; write \"127.0.0.1:80\" or \"[::1]:80\"\n2:84: 0.0.0.0 cannot be connected to\n2:98: \"a b\" is not a valid domain name: it contains a space\n2:108: *.test. is not the name of a host",
            ),
            (
                "\"10.0.0.1:80\", { address = \"10.0.0.1:80\" }, \"app.test:80\", \"APP.test.:80\", \"app.test:81\"",
                "2:61: backend `10.0.0.1:80` is listed twice\n2:105: backend `app.test:80` is listed twice",
            ),
        ],
    );
    check(&[
        (&format!("proxy.pool.api = {{}}\n{LISTENER}"), "2:18: a pool needs `backend`, `discover` or both"),
        (
            &format!(
                "proxy.pool.api = {{ backend = [\"10.0.0.1:80\"], probe = [\"wep\", \"web\", \"web\"] }}\n{LISTENER}"
            ),
            "2:56: probe `wep` is not defined; did you mean `web`?\n2:70: probe `web` is listed twice",
        ),
    ]);
}

#[test]
fn too_many_of_a_kind() {
    let many = |count: usize, item: fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(", ");
    let addresses = many(1025, |index| format!("\"10.0.{}.{}:80\"", index / 250, index % 250 + 1));
    assert_eq!(reported(&backends(&addresses)), "2:45: at most 1024 backends, found 1025");
    let hosts = many(1025, |index| format!("\"{index}.test\""));
    assert_eq!(
        reported(&route(&format!("pool = \"api\", host = [{hosts}]"))),
        "2:52: at most 1024 routes, found 1025"
    );
    let listeners =
        many(65, |index| format!("l{index} = {{ listen = \"[::]:{}\", pool = \"api\" }}", index + 1));
    assert_eq!(
        reported(&format!("{POOL}\nproxy.listener = {{ {listeners} }}")),
        "3:7: at most 64 listeners, found 65"
    );
    let sockets = many(65, |index| format!("\"[::]:{}\"", index + 1));
    assert_eq!(
        reported(&format!("{POOL}\nproxy.listener.web = {{ listen = [{sockets}], pool = \"api\" }}")),
        "3:33: at most 64 addresses, found 65"
    );
}

#[test]
fn pools_without_a_probe_or_a_use() {
    let text = format!(
        "version = 1\n{LISTENER}\n[proxy.pool]\napi.backend = [\"10.0.0.1:80\"]\nspare = {{ backend = [\"10.0.0.2:80\"], probe = [] }}\n"
    );
    assert_eq!(
        all_reported(&text, &[]),
        "p.toml:4:1: warning: pool `api` has no probe: its backends count as up whatever happens to them\n  help: name its probes in `probe`, or write `probe = []` if that is what you want\np.toml:5:1: warning: pool `spare` is not used by any route\n  help: name it in a listener's `pool` or `route`, or remove it"
    );
}

#[test]
fn what_is_planned_is_not_supported_yet() {
    let expected = "2:55: `proxy.listener.web.route.mirror` is not supported yet";
    assert_eq!(reported(&route("mirror = 1, pool = \"api\"")), expected);
}

#[test]
fn pools_that_do_not_do_what_was_meant() {
    check_with(
        pool,
        &[
            // One backend is reached whatever the balance.
            ("balance = \"ip-hash\"", ""),
            ("drain = \"30s\"", ""),
            ("http = \"h2\", limits = { requests = 9 }", ""),
            (
                "http = \"h2\", limits = { connections = 9 }",
                "2:86: `connections` does not go with `http = \"h2\"`, where requests share connections: limit `requests`",
            ),
            (
                "drain = \"31s\"",
                "2:70: warning: a `drain` of 31s holds for backends, but when the node stops, it ends requests and connections after 30s\n  help: set at most \"30s\", unless backends are drained more often than the node stops",
            ),
        ],
    );
    let two = |keys: &str| {
        format!(
            "proxy.pool.api = {{ probe = [], backend = [\"10.0.0.1:80\", \"10.0.0.2:80\"], {keys} }}\n{LISTENER}"
        )
    };
    check_with(
        two,
        &[
            (
                "balance = \"ip-hash\"",
                "2:74: warning: all clients behind one NAT have one address, so they all go to one backend\n  help: choose \"least-connections\", unless clients must stay with a backend",
            ),
            (
                "balance = \"maglev\"",
                "2:74: warning: all clients behind one NAT have one address, so they all go to one backend\n  help: choose \"least-connections\", unless clients must stay with a backend",
            ),
            ("balance = \"round-robin\"", ""),
        ],
    );
    check_with(
        backends,
        &[
            (
                "{ address = \"10.0.0.1:80\", backup = true }, { address = \"10.0.0.2:80\", backup = true }",
                "2:35: warning: every backend of pool `api` is a backup, so all serve as if none were\n  help: set `backup` only for those that serve while no other backend does",
            ),
            ("{ address = \"10.0.0.1:80\", weight = 2 }, { address = \"10.0.0.2:80\", backup = true }", ""),
        ],
    );
    check_with(
        in_turn,
        &[
            (
                "{ address = \"10.0.0.1:80\", weight = 2 }, \"10.0.0.2:80\"",
                "2:32: warning: \"round-robin\" ignores the weights of the backends\n  help: choose \"weighted\", which is round robin by weights",
            ),
            ("{ address = \"10.0.0.1:80\", weight = 0 }, \"10.0.0.2:80\"", ""),
        ],
    );
}

/// The same, one after the other.
fn in_turn(backends: &str) -> String {
    format!(
        "proxy.pool.api = {{ probe = [], balance = \"round-robin\", backend = [{backends}] }}\n{LISTENER}"
    )
}
