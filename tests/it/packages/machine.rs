//! A machine with nothing but Debian's essential packages and systemd, as a folder that namespaces keep apart.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::harness::binary::{Done, Killed, clean, is_installed, run};
use crate::harness::{skipped, until};

/// Made once, with what packages need that are not essential. Another list is another file.
const ROOT: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/bookworm-with-logrotate.tar");
const INCLUDED: &str = "adduser,systemd,systemd-sysv,dbus,logrotate";
const BOOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/packages/machine.sh");

/// A running machine.
pub(super) struct Machine {
    // Dropped in this order: nothing of it runs when its folder goes.
    _init: Killed,
    _cgroup: ControlGroup,
    folder: TempDir,
    init: String,
}

impl Machine {
    /// `None`, which skips the test, where it cannot be made.
    pub(super) async fn boot() -> Option<Self> {
        if !geteuid().is_root() {
            skipped("only root can make a clean root");
            return None;
        }
        for (command, package) in
            [("mmdebstrap", "mmdebstrap"), ("nsenter", "util-linux"), ("ip", "iproute2")]
        {
            if !is_installed(command) {
                skipped(&format!("{command} is not installed (Debian package {package})"));
                return None;
            }
        }
        let Some(cgroup) = ControlGroup::make() else {
            skipped("this host has no second version of control groups");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        if !Path::new(ROOT).exists() {
            let made = format!("{ROOT}.{}", std::process::id());
            let mut mmdebstrap = Command::new("mmdebstrap");
            mmdebstrap.args([
                "--format=tar",
                "--variant=essential",
                "--include",
                INCLUDED,
                "bookworm",
                &made,
            ]);
            succeeds(mmdebstrap);
            fs::rename(made, ROOT).expect("one folder");
        }
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--numeric-owner", "--file", ROOT, "--directory"]).arg(folder.path());
        succeeds(tar);

        let mut command = clean(Command::new(BOOT));
        command.arg(folder.path()).arg(&cgroup.0).stdout(Stdio::null()).stderr(Stdio::inherit());
        let unshare = command.spawn().expect("it starts");
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let unshare = Killed(unshare);
        let init = until("it has a first process", async || {
            let children = fs::read_to_string(&children).ok()?;
            Some(children.split_whitespace().next()?.to_owned())
        });
        let init = init.await;
        let machine = Self { _init: unshare, _cgroup: cgroup, folder, init };
        until("it has booted", async || {
            let state = machine.attempts(&["systemctl", "is-system-running"]).stdout;
            ["running\n", "degraded\n"].contains(&&*state).then_some(())
        })
        .await;
        Some(machine)
    }

    /// A command in its namespaces, seen from its root.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = clean(Command::new("nsenter"));
        command.args(["--target", &self.init, "--all", "chroot"]).arg(self.folder.path()).args(arguments);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        command
    }

    /// The result of a command.
    pub(super) fn attempts(&self, arguments: &[&str]) -> Done {
        run(self.command(arguments))
    }

    /// What a command prints, which must succeed.
    pub(super) fn runs(&self, arguments: &[&str]) -> String {
        let done = self.attempts(arguments);
        assert_eq!(done.code, Some(0), "{arguments:?}: {done:?}\n{}", self.journal());
        done.stdout
    }

    /// A command of this host in the network of the machine.
    pub(super) fn asked_from_host(&self, arguments: &[&str]) -> Done {
        let mut command = clean(Command::new("nsenter"));
        command.args(["--target", &self.init, "--net"]).args(arguments);
        run(command)
    }

    /// Where a path of the machine is on this host; not those in /run, /tmp or /dev.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    /// The log of the service.
    pub(super) fn journal(&self) -> String {
        self.attempts(&["journalctl", "--unit", "portolan", "--no-pager", "--output", "cat"]).stdout
    }
}

/// A control group, in which that of the machine begins.
struct ControlGroup(PathBuf);

impl ControlGroup {
    fn make() -> Option<Self> {
        let mut findmnt = clean(Command::new("findmnt"));
        findmnt.args(["--noheadings", "--first-only", "--types", "cgroup2", "--output", "TARGET"]);
        let tree = run(findmnt).stdout;
        let made = Path::new(tree.trim()).join(format!("portolan-{}", std::process::id()));
        (!tree.is_empty() && fs::create_dir(&made).is_ok()).then_some(Self(made))
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // The kernel frees what has ended a little later.
        for _ in 0..1000 {
            let mut find = clean(Command::new("find"));
            find.arg(&self.0).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]);
            run(find);
            if !self.0.exists() {
                return;
            }
        }
    }
}

/// Runs a command that takes as long as it takes.
pub(super) fn succeeds(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The same of `deploy/package` with the program of these tests, little compressed.
pub(super) fn package(out: &Path, parts: &[&str], environment: &[(&str, &OsStr)]) {
    let mut script = clean(Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/package")));
    let program = crate::harness::binary::PROGRAM;
    script.args(["--fast", "--program", program, "--static-program", program, "--out"]).arg(out).args(parts);
    script.env("SOURCE_DATE_EPOCH", "1760000000").envs(environment.iter().copied());
    succeeds(script);
}
