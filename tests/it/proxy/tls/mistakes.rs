//! What `check` says about certificates, keys and secrets.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::certificates::{Authority, Identity};
use super::folder;
use crate::harness::binary::portolan;
use crate::harness::folder::Folder;

struct Mistake {
    what: &'static str,
    make: fn(&Folder, &Authority),
    /// Parts of the output; `@/` stands for the folder.
    expected: &'static [&'static str],
}

const MISTAKES: &[Mistake] = &[
    Mistake {
        what: "files that are not there",
        make: |folder, _| {
            ["www.pem", "any.key"]
                .map(|name| fs::remove_file(folder.path(name)).unwrap())
                .into_iter()
                .collect()
        },
        expected: &[
            "error: TLS of the proxy: @/www.pem: no such file",
            "error: TLS of the proxy: @/any.key: no such file",
            "help: a relative path starts at the folder of the config file",
        ],
    },
    Mistake {
        what: "files that are not PEM",
        make: |folder, _| {
            folder.write("www.pem", "certificate");
            folder.write_secret("any.key", "key");
        },
        expected: &[
            "error: TLS of the proxy: @/www.pem: no certificate in it",
            "error: TLS of the proxy: @/any.key: no private key in it",
        ],
    },
    Mistake {
        what: "a key of another certificate",
        make: |folder, authority| folder.write_secret("www.key", authority.issue(&["a.test"]).key),
        expected: &["error: TLS of the proxy: @/www.pem: the key is not that of this certificate"],
    },
    Mistake {
        what: "a key that every user may read",
        make: |folder, _| {
            fs::set_permissions(folder.path("www.key"), fs::Permissions::from_mode(0o644)).unwrap()
        },
        expected: &["error: TLS of the proxy: @/www.key: its mode 644 gives every user access"],
    },
    Mistake {
        what: "certificates that are not valid now",
        make: |folder, authority| {
            authority.issue_for_years(&["www.test"], (2001, 2002)).write(folder, "www");
            authority.issue_for_years(&["*.test"], (3001, 3002)).write(folder, "any");
        },
        expected: &[
            "warning: the certificate @/www.pem expired at 2002-01-01T00:00:00Z",
            "warning: the certificate @/any.pem is not valid before 3001-01-01T00:00:00Z",
            "help: renew it, and reload the config",
        ],
    },
    Mistake {
        what: "two certificates for a name",
        make: |folder, authority| authority.issue(&["b.test", "www.test"]).write(folder, "any"),
        expected: &[
            "warning: TLS of the proxy: @/any.pem: it is for www.test, but clients that ask for that get @/www.pem",
        ],
    },
    Mistake {
        what: "TLS without a certificate",
        make: |folder, _| {
            let config = fs::read_to_string(folder.config()).unwrap();
            let lines: Vec<&str> = config.lines().filter(|line| !line.starts_with("certificate")).collect();
            folder.write("portolan.toml", lines.join("\n"));
        },
        expected: &[
            "error: TLS needs a certificate, but [proxy] has none",
            "help: add [[proxy.certificate]] with `cert` and `key`",
        ],
    },
    Mistake {
        what: "certificates without TLS",
        make: |folder, _| folder.reconfigure("tls = true", "tls = false"),
        expected: &["warning: no listener uses a certificate"],
    },
    Mistake {
        what: "authorities of clients that are none",
        make: |folder, _| {
            folder.write("clients.pem", "");
            folder.reconfigure("tls = true", "tls = { client_ca = \"clients.pem\" }");
        },
        expected: &["error: TLS of the proxy: @/clients.pem: no certificate in it"],
    },
    Mistake {
        what: "a file of secrets that is not one",
        make: |folder, _| {
            folder.write_secret("tickets.secret", "secret");
            folder.reconfigure("workers = 2", "workers = 2\ntickets = { secret_file = \"tickets.secret\" }");
        },
        expected: &[
            "error: ticket secrets @/tickets.secret: a secret has 64 hexadecimal digits",
            "help: make a secret with `openssl rand -hex 32`",
        ],
    },
    Mistake {
        what: "secrets that every user may read",
        make: |folder, _| {
            folder.write("tickets.secret", "0".repeat(64));
            fs::set_permissions(folder.path("tickets.secret"), fs::Permissions::from_mode(0o644)).unwrap();
            folder.reconfigure("workers = 2", "workers = 2\ntickets = { secret_file = \"tickets.secret\" }");
        },
        expected: &["error: ticket secrets @/tickets.secret: its mode 644 gives every user access"],
    },
    Mistake {
        what: "what a pool shows backends",
        make: |folder, _| {
            Identity::self_signed("proxy.test").write(folder, "proxy");
            fs::set_permissions(folder.path("proxy.key"), fs::Permissions::from_mode(0o604)).unwrap();
            let config = fs::read_to_string(folder.config()).unwrap();
            let tls = "tls = { cert = \"proxy.pem\", key = \"proxy.key\", ca = \"ca.pem\" }";
            folder.write("portolan.toml", format!("{config}{tls}\n"));
        },
        expected: &["error: TLS of the proxy: @/proxy.key: its mode 604 gives every user access"],
    },
];

#[test]
fn mistakes_are_reported_with_what_to_do() {
    let authority = Authority::new("one");
    for mistake in MISTAKES {
        let folder = folder(&authority, ([127, 0, 0, 1], 80).into(), "", "tls = true");
        (mistake.make)(&folder, &authority);
        let done = portolan(&["check", "-c", &folder.config().display().to_string()]);
        let output = format!("{}{}", done.stdout, done.stderr);
        let at = folder.path("").display().to_string();
        for expected in mistake.expected {
            let expected = expected.replace("@/", &at);
            assert!(output.contains(&expected), "{}: no {expected:?} in:\n{output}", mistake.what);
        }
        let is_error = mistake.expected[0].starts_with("error");
        assert_eq!(done.code, Some(i32::from(is_error)), "{}: {output}", mistake.what);
    }
}
