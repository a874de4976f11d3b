//! Mistakes in what routes of `[proxy]` change.

use super::proxy_mistakes::{check_with, route};

#[test]
fn edits() {
    check_with(
        route,
        &[
            (
                "pool = \"api\", rewrite = { prefix = \"/\" }",
                "2:90: `prefix` replaces the `path` of the route, but it has none such as \"/v1\"",
            ),
            (
                "pool = \"api\", path = { exact = \"/x\" }, rewrite = { prefix = \"/\" }",
                "2:115: `prefix` replaces the `path` of the route, but it has none such as \"/v1\"",
            ),
            (
                "pool = \"api\", path = \"/x\", rewrite = { prefix = \"v1?\" }",
                "2:103: \"v1?\" is not a valid path: it starts with `/` and has no spaces, no `?` and no `#`",
            ),
            (
                "pool = \"api\", path = \"/x\", rewrite = { prefix = \"/\", to = \"/\" }",
                "2:92: `rewrite` needs `prefix`, or `regex` with `to`, or `host` alone",
            ),
            (
                "pool = \"api\", rewrite = { regex = \"^/(?P<a>.)(.)\", to = \"/${b}$3\" }",
                "2:111: the pattern has no group `b`",
            ),
            (
                "pool = \"api\", rewrite = { regex = \"^/(.)\", to = \"/$2\" }",
                "2:103: the pattern has no group `2`",
            ),
            (
                "pool = \"api\", rewrite = { regex = \"^/(.)\", to = \"/$x?\" }",
                "2:103: \"/$x?\" is not a part of a path: no spaces, no `?` and no `#`",
            ),
            (
                "pool = \"api\", rewrite = { regex = \"^/(.)\", to = \"/$x\" }",
                "2:103: `$` needs the number or {name} of a group; write $$ for a dollar sign",
            ),
            ("pool = \"api\", headers = { request = { set = {} } }", "2:99: `set` is empty"),
            ("pool = \"api\", rewrite = { host = \"a@b\" }", "2:88: \"a@b\" is not a valid host"),
            (
                "pool = \"api\", headers = { request = { set = { Host = \"a\", Via = \"b\", x-a = \" 1\", X-A = \"2\" } }, response = { remove = [\"connection\", \"a b\"], add = { content-length = \"1\" } } }",
                "2:101: Host cannot be edited: write `rewrite = { host = \"…\" }`\n2:113: the proxy itself writes `via`, so it cannot be edited\n2:124: header `x-a` is listed twice\n2:130: \" 1\" is not a valid value of a header\n2:174: `connection` concerns a single connection, and cannot be edited\n2:188: \"a b\" is not a valid name of a header\n2:204: `content-length` is about how the body is sent, and cannot be edited",
            ),
        ],
    );
}

#[test]
fn redirects() {
    check_with(
        route,
        &[
            ("redirect = { status = 308 }", "2:66: a redirect needs `to` or `scheme`"),
            ("redirect = { to = \"/\", scheme = \"https\" }", "2:78: `scheme` has no meaning with `to`"),
            (
                "redirect = { scheme = \"ftp\", host = \"a:1\", port = 0 }",
                "2:77: expected \"https\" or \"http\", found \"ftp\"\n2:91: \"a:1\" is not a valid host name: write a name or an address, without a port\n2:105: expected an integer from 1 to 65535, found integer 0",
            ),
            (
                "redirect = { to = \"https://www.example.com/{pfad}\" }",
                "2:73: `{pfad}` is not a placeholder: use {host}, {path}, {query} or {uri}",
            ),
            (
                "redirect = { to = \"https://www.example.com{query}\" }",
                "2:73: what the client sends could choose the host: write `/?` before it",
            ),
            (
                "redirect = { to = \"https://{query}/\" }",
                "2:73: what the client sends could choose the host: write `/?` before it",
            ),
            (
                "redirect = { to = \"/{query}\" }",
                "2:73: what the client sends could choose the host: write `/?` before it",
            ),
            (
                "redirect = { to = \"/{uri}\" }",
                "2:73: \"/{uri}\" is not a valid location: write a URL such as \"https://www.example.com/\", or a path",
            ),
        ],
    );
}
