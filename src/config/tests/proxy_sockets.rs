//! Mistakes in TLS and in options of sockets.

use super::check;
use super::proxy_mistakes::{LISTENER, POOL, check_with, pool};

#[test]
fn options_of_sockets() {
    check(&[(
        &format!(
            "proxy.listener.web = {{ listen = \"[::]:80\", pool = \"api\", tcp = {{ backlog = 0, fast_open = 65536, defer_accept = \"100ms\", keepalive = \"10h\", user_timeout = 5, mss = 100, cork = true }} }}\n{POOL}"
        ),
        "2:76: expected an integer from 1 to 65535, found integer 0\n2:91: expected an integer from 1 to 65535, found integer 65536\n2:113: expected a duration from 1s to 1m, found \"100ms\"\n2:134: expected a duration from 1s to 9h6m7s, found \"10h\"\n2:156: expected a duration such as \"5s\" (units: ms, s, m, h, d), found integer 5\n2:165: expected an integer from 536 to 32767, found integer 100\n2:170: unknown key `cork` in `proxy.listener.web.tcp`",
    )]);
    check_with(
        pool,
        &[(
            "tcp = { keepalive = \"100ms\", backlog = 1 }",
            "2:82: expected a duration from 1s to 9h6m7s, found \"100ms\"\n2:91: unknown key `backlog` in `proxy.pool.api.tcp`; it belongs to `proxy.listener.NAME.tcp`",
        )],
    );
}

#[test]
fn tls_of_listeners_and_pools() {
    const CERTIFICATE: &str = "proxy.certificate = [{ cert = \"c.pem\", key = \"c.key\" }]";
    let listener = |tls: &str| {
        format!(
            "proxy.listener.web = {{ listen = \"[::]:80\", pool = \"api\", tls = {tls} }}\n{POOL}\n{CERTIFICATE}"
        )
    };
    check_with(
        listener,
        &[
            ("true", ""),
            ("{ client_ca = \"ca.pem\", require = false, header = \"X-Client-Cert\" }", ""),
            ("1", "2:64: expected true, false or a table, found integer 1"),
            (
                "{ require = 1 }",
                "2:64: `client_ca` is missing in `proxy.listener.web.tls`\n2:76: expected true or false, found integer 1",
            ),
            (
                "{ client_ca = \"\", header = \"host\" }",
                "2:78: expected the path of a PEM file, found \"\"\n2:91: \"host\" is not a valid name here: it must begin with \"x-\"",
            ),
        ],
    );
    check_with(
        pool,
        &[
            ("tls = true", ""),
            (
                "tls = { sni = \"a b\", cert = \"c.pem\" }",
                "2:76: \"a b\" is not a valid host name: write a name or an address, without a port\n2:83: `cert` needs `key`",
            ),
            ("tls = { key = \"c.key\" }", "2:70: `key` needs `cert`"),
        ],
    );
    let proxy = |keys: &str| {
        format!("[proxy]\n{keys}\n[proxy.pool]\n{}\n[proxy.listener]\n{}", &POOL[11..], &LISTENER[15..])
    };
    check_with(
        proxy,
        &[
            (
                "certificate = { cert = \"c.pem\" }",
                "3:15: expected a list of certificates such as [{ cert = \"www.pem\", key = \"www.key\" }], found a table",
            ),
            ("certificate = [{ cert = \"c.pem\" }]", "3:16: a certificate needs `cert` and `key`, or `acme`"),
            ("tickets = { rotate = \"1s\" }", "3:22: expected a duration from 1m to 72h, found \"1s\""),
            ("tickets = { rotate = \"60500ms\" }", "3:22: expected whole seconds"),
        ],
    );
}
