//! What `check` says about certificates by ACME that cannot be obtained.

use super::folder;
use crate::harness::binary::portolan;

/// What `check` says about keys of `acme`; the names are `www.example.test` unless given.
fn reported(names: &str, keys: &str, change: (&str, &str)) -> String {
    let folder = folder("https://127.0.0.1:1/dir", names, keys);
    folder.write("ca.pem", rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap().cert.pem());
    folder.reconfigure(change.0, change.1);
    let config = folder.config();
    portolan(&["check", "-c", config.to_str().expect("UTF-8")]).stderr
}

#[test]
fn what_cannot_be_proved_is_refused() {
    let none = ("version = 1", "version = 1");
    let www = "\"www.example.test\"";
    for (names, keys, change, expected) in [
        (www, "", none, "no listener without `tls` listens there"),
        ("\"*.example.test\"", "", none, "a wildcard cannot be proved by \"http-01\""),
        (www, "", ("state_dir = \"state\"\n", ""), "there is no `state_dir`"),
        (www, "", ("terms_agreed = true", "terms_agreed = false"), "agree to its terms of service"),
        (www, "", ("terms_agreed = true, ", ""), "`terms_agreed` is missing in `proxy.certificate.acme`"),
        (www, "", ("https://127", "http://127"), "is not a URL that begins with https://"),
        ("\"www.example.test\", \"WWW.example.test.\"", "", none, "`www.example.test` is listed twice"),
        ("\"192.0.2.1\"", "", none, "192.0.2.1 is an address, not a name"),
        ("\"localhost\"", "", none, "not a name that authorities certify"),
        ("\"*.*.example.test\"", "challenge = \"dns-01\"", none, "is not the name of a host"),
        (
            "\"www.other.test\"",
            "challenge = \"dns-01\"",
            none,
            "no zone of this node contains _acme-challenge.www.other.test.",
        ),
        (
            www,
            "challenge = \"tls-alpn-01\"",
            none,
            "expected \"http-01\" or \"dns-01\", found \"tls-alpn-01\"",
        ),
        (www, "contact = \"ops\"", none, "is not a URL such as \"mailto:ops@example.com\""),
        (www, "eab = { kid = \"1\" }", none, "`key_file` is missing in `proxy.certificate.acme.eab`"),
        (www, "eab = { kid = \"1\", key_file = \"none\" }", none, "the key of `eab`"),
        (
            www,
            "",
            ("[[proxy.certificate]]\n", "[[proxy.certificate]]\ncert = \"www.pem\"\n"),
            "`cert` has no meaning with `acme`",
        ),
        (
            www,
            "",
            (
                "[proxy]\n",
                "[[proxy.certificate]]\nacme = { names = [\"www.example.test\"], terms_agreed = true, ca = \"ca.pem\" }\n[proxy]\n",
            ),
            "another certificate by ACME is for `www.example.test`, too",
        ),
    ] {
        let reported = reported(names, keys, change);
        assert!(reported.contains(expected), "{names} {keys} {change:?}: {reported}");
    }
}
