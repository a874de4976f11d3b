//! The usual DNS tools, asking a node.

use std::process::Command;

use super::binary::{clean, is_installed, run};
use super::node::TestNode;
use super::skipped;

/// A tool that is installed.
pub(crate) struct Tool(&'static str);

impl Tool {
    /// `None`, which skips the test, where it is not installed.
    pub(crate) fn dig() -> Option<Self> {
        Self::of_package("dig", "bind9-dnsutils")
    }

    /// The same for Knot's.
    pub(crate) fn kdig() -> Option<Self> {
        Self::of_package("kdig", "knot-dnsutils")
    }

    fn of_package(name: &'static str, package: &str) -> Option<Self> {
        if !is_installed(name) {
            skipped(&format!("{name} is not installed (Debian package {package})"));
            return None;
        }
        Some(Self(name))
    }

    /// Its output, with runs of blanks collapsed. It asks once, unless the arguments say otherwise.
    pub(crate) fn ask(&self, node: &TestNode, arguments: &[&str]) -> String {
        let mut command = clean(Command::new(self.0));
        command.args(["@127.0.0.1", "-p", &node.dns.port().to_string(), "+retry=0", "+norecurse"]);
        command.args(arguments);
        // The user's own settings file must not matter.
        command.env("HOME", node.folder.path(""));
        let done = run(command);
        assert_eq!(done.code, Some(0), "{} {arguments:?}: {done:?}", self.0);
        let lines = done.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>().join("\n")
    }
}
