//! A node's folder: its config and the other files in it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The start of every config here: free ports, a small geo database, networks of three countries, and a zone. The
/// text appended to it must start with a table.
const HEAD: &str = r#"version = 1

[node]
name = "test"
state_dir = "state"

[log]
format = "json"

[dns]
listen  = ["127.0.0.1:0"]
workers = 1

[control]
listen = "127.0.0.1:0"
socket = "control.sock"

[geo]
database = "places.mmdb"
network  = [
  { prefix = "10.1.0.0/16", location = { country = "DE", lat = 50.1, lon = 8.7 } },
  { prefix = "10.2.0.0/16", location = { country = "US", lat = 40.7, lon = -74.0 } },
  { prefix = "10.3.0.0/16", location = { country = "SG", lat = 1.3, lon = 103.8 } },
  { prefix = "2001:db8:1::/48", location = { country = "DE", lat = 50.1, lon = 8.7 } },
]

[[zone]]
origin = "example.test."
file   = "example.test.zone"

"#;

const ZONE: &str = "\
$TTL 300
@      600 SOA ns hostmaster 7 3600 600 86400 60
@          NS  ns
ns         A   192.0.2.53
static     A   192.0.2.1
alias      CNAME www
";

/// The socket in the head of a config, and tokens for these holders and roles: "secret of NAME".
pub(crate) fn tokens(holders: &[(&str, &str)]) -> String {
    let token = |(name, role): &(&str, &str)| {
        let digest = Sha256::digest(format!("secret of {name}"));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{{ name = \"{name}\", role = \"{role}\", sha256 = \"{hex}\" }},\n")
    };
    let all: String = holders.iter().map(token).collect();
    format!("socket = \"control.sock\"\ntoken = [\n{all}]\n")
}

/// A folder that is removed when the test ends.
pub(crate) struct Folder {
    folder: TempDir,
}

impl Folder {
    /// A folder with a config of the head and `rest`, and the files that the config names.
    pub(crate) fn new(rest: &str) -> Self {
        let made = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        made.write("places.mmdb", fs::read(test_data("GeoIP2-City-Test.mmdb")).expect("it is committed"));
        made.write("example.test.zone", ZONE);
        made.configure(rest);
        made
    }

    /// Replaces the config by one with the same head.
    pub(crate) fn configure(&self, rest: &str) {
        self.write("portolan.toml", format!("{HEAD}{rest}"));
    }

    /// Replaces a part of the config, possibly in its head.
    pub(crate) fn reconfigure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).expect("a config");
        assert!(text.contains(from), "the config has no {from:?}");
        self.write("portolan.toml", text.replace(from, to));
    }

    /// Lets the program write wherever its user may, as some faults need.
    pub(crate) fn without_landlock(&self) {
        self.reconfigure("[node]\n", "[node]\nlandlock = false\n");
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("a file in the temporary folder");
    }

    /// Writes a file that other users may not read.
    pub(crate) fn write_secret(&self, name: &str, content: impl AsRef<[u8]>) {
        self.write(name, content);
        fs::set_permissions(self.path(name), Permissions::from_mode(0o600)).expect("it is ours");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("portolan.toml")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("control.sock")
    }

    /// The first line of the config, from 1, that contains `text`.
    pub(crate) fn line_of(&self, text: &str) -> usize {
        let config = fs::read_to_string(self.config()).expect("a config");
        let line = config.lines().position(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("the config has no {text:?}")) + 1
    }
}

/// The path of a MaxMind test database.
pub(crate) fn test_data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mmdb").join(name)
}
