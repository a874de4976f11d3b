//! A host of its own for the commands of a page: a network namespace with loopback alone, an empty `/run` and `/var/lib`, and a shell.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::{fs, thread};

use tempfile::TempDir;

use crate::harness::binary::{PROGRAM, clean, run};
use crate::harness::{PATIENCE, skipped};

/// What ends the output of a command.
const END: &str = "--- end of output, status";

/// What the shell does first.
const SETUP: &str = "\
exec 2>&1
ip link set lo up
echo ns1 > /proc/sys/kernel/hostname
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir -p /run/user/1000 /run/portolan
touch background.log
export XDG_RUNTIME_DIR=/run/user/1000 NO_COLOR=1 PYTHONUNBUFFERED=1
";

/// A host. All that runs there ends with it.
pub(super) struct Host {
    shell: Child,
    input: ChildStdin,
    output: Receiver<String>,
    folder: TempDir,
}

impl Drop for Host {
    fn drop(&mut self) {
        // What it started ends with it: it is the first process of a namespace.
        self.shell.kill().ok();
        self.shell.wait().ok();
    }
}

/// `unshare` with what a host needs.
fn unshared() -> Command {
    let mut command = clean(Command::new("unshare"));
    command.args([
        "--map-root-user",
        "--net",
        "--mount",
        "--uts",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    command
}

impl Host {
    /// `None`, which skips the test, where this user may not make namespaces.
    pub(super) fn start() -> Option<Self> {
        let mut trial = unshared();
        trial.args(["sh", "-c", "ip link set lo up && mount -t tmpfs tmpfs /run"]);
        let tried = run(trial);
        if tried.code != Some(0) {
            skipped(&format!("this user may not make namespaces: {}", tried.stderr));
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = unshared();
        command.arg("bash").current_dir(folder.path()).stdin(Stdio::piped()).stderr(Stdio::inherit());
        let programs = Path::new(PROGRAM).parent().expect("it is in a folder").display();
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{programs}:{path}:/usr/sbin")).env("HOME", folder.path());
        let mut shell = command.spawn().expect("a shell");
        let input = shell.stdin.take().expect("it is piped");
        let stdout = BufReader::new(shell.stdout.take().expect("it is piped"));
        let (lines, output) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let mut host = Self { shell, input, output, folder };
        assert_eq!(host.run(SETUP), "", "the host is set up");
        Some(host)
    }

    /// Writes a file in the folder in which commands run.
    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// Runs a line of the shell, and returns what it prints.
    pub(super) fn run(&mut self, line: &str) -> String {
        // What it starts in the background must not print between the lines of others.
        let line = match line.trim_end().strip_suffix('&') {
            Some(command) => format!("{command} >> background.log 2>&1 &"),
            None => line.to_owned(),
        };
        self.write(".line", &line);
        let script = self.folder.path().join(".line");
        writeln!(self.input, "source {} < /dev/null; printf '\\n{END} %s\\n' $?", script.display())
            .expect("it reads");
        let mut lines = Vec::new();
        loop {
            let next = self.output.recv_timeout(PATIENCE);
            let next = next.unwrap_or_else(|_| panic!("`{line}` does not end; so far: {lines:#?}"));
            if next.starts_with(END) {
                break;
            }
            lines.push(next);
        }
        lines.join("\n").trim_end().to_owned()
    }
}
