//! The real program: commands run to completion, and nodes in their own processes.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::client::Client;
use super::folder::Folder;
use super::http::Api;
use super::{PATIENCE, until};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_portolan");

/// Debian's, which has the modules of Debian's packages.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Done {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program, without the variables that the environment of the tests may set for it.
pub(crate) fn program() -> Command {
    clean(Command::new(PROGRAM))
}

/// A command without the environment variables that the program reads.
pub(crate) fn clean(mut command: Command) -> Command {
    for name in [
        "PORTOLAN_CONTROL",
        "PORTOLAN_CONFIG",
        "PORTOLAN_TOKEN",
        "PORTOLAN_LOG",
        "XDG_RUNTIME_DIR",
        "NOTIFY_SOCKET",
    ] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program with these arguments to completion.
pub(crate) fn portolan(arguments: &[&str]) -> Done {
    let mut command = program();
    command.args(arguments);
    run(command)
}

/// The same with a node's control socket.
pub(crate) fn portolan_at(folder: &Folder, arguments: &[&str]) -> Done {
    let socket = folder.socket();
    let mut command = program();
    command.arg("--control").arg(socket).args(arguments);
    run(command)
}

/// A command in whose file system `from` stands in place of `at`; its arguments are the program to run, and that one's.
/// `None` where this user may not arrange that.
pub(crate) fn with_mount(from: &Path, at: &str) -> Option<Command> {
    let script = format!("mount --bind \"$0\" {at} && exec \"$@\"");
    let mounted = || {
        let mut command = clean(Command::new("unshare"));
        command.args(["--mount", "--map-root-user", "sh", "-c", &script]).arg(from);
        command
    };
    let mut trial = mounted();
    trial.arg("true");
    (is_installed("unshare") && run(trial).code == Some(0)).then(mounted)
}

/// Runs a command to completion; one that does not end is killed and fails the test.
pub(crate) fn run(mut command: Command) -> Done {
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = process(&child);
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    match ended.recv_timeout(PATIENCE) {
        Ok(output) => {
            let output = output.expect("its output");
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
            Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
        }
        Err(_) => {
            kill(pid, Signal::SIGKILL).ok();
            panic!("{command:?} does not end");
        }
    }
}

fn process(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// What the reader of a program's stderr does.
#[derive(Clone, Copy)]
pub(crate) enum Reader {
    /// Takes each line.
    Reads,
    /// Takes at most one more line and keeps the pipe open.
    Stuck,
    /// Takes at most one more line and closes the pipe.
    Gone,
}

/// A running `portolan serve`. It is killed when the test ends.
pub(crate) struct Served {
    child: Killed,
    log: Arc<Mutex<Vec<Value>>>,
    reader: Arc<AtomicU8>,
    pub(crate) folder: Folder,
}

impl Served {
    /// Starts it without waiting for anything.
    pub(crate) fn spawn(folder: Folder) -> Self {
        Self::spawn_by(program(), folder)
    }

    /// The same with a prepared command, for example with environment variables.
    pub(crate) fn spawn_by(mut command: Command, folder: Folder) -> Self {
        command.arg("serve").arg("-c").arg(folder.config());
        let mut child = command.spawn().expect("the program starts");
        let log: Arc<Mutex<Vec<Value>>> = Arc::default();
        let reader = Arc::new(AtomicU8::new(Reader::Reads as u8));
        if let Some(stderr) = child.stderr.take() {
            let (written, reader) = (Arc::clone(&log), Arc::clone(&reader));
            thread::spawn(move || read_log(stderr, &written, &reader));
        }
        Self { child: Killed(child), log, reader, folder }
    }

    /// From now on stderr is read differently.
    pub(crate) fn set_reader(&self, how: Reader) {
        self.reader.store(how as u8, Ordering::Relaxed);
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn start(folder: Folder) -> Self {
        let served = Self::spawn(folder);
        served.ready().await;
        served
    }

    pub(crate) async fn ready(&self) {
        self.logged("it is ready", |line| line["message"] == "ready").await;
    }

    /// The lines of the log so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line of the log.
    pub(crate) async fn logged(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        until(what, async || self.log().into_iter().find(&is_it)).await
    }

    /// Waits until that many lines of a kind have been logged, and returns the last.
    pub(crate) async fn logged_times(
        &self,
        count: usize,
        what: &str,
        is_it: impl Fn(&Value) -> bool,
    ) -> Value {
        let nth = || self.log().into_iter().filter(&is_it).nth(count - 1);
        until(what, async || nth()).await
    }

    /// Its DNS address, from its log.
    pub(crate) async fn dns(&self) -> SocketAddr {
        let line = self.logged("it has bound its sockets", |line| line.get("dns").is_some()).await;
        let addresses = line["dns"].as_str().expect("a text");
        addresses.trim_matches(['[', ']']).parse().expect("one address")
    }

    /// The addresses of other listeners, from its log.
    pub(crate) async fn addresses<const N: usize>(&self, fields: [&str; N]) -> [SocketAddr; N] {
        let line = self.logged("it has bound its sockets", |line| line.get("dns").is_some()).await;
        fields.map(|field| line[field].as_str().expect("a text").parse().expect("an address"))
    }

    pub(crate) async fn client(&self) -> Client {
        Client::of(self.dns().await).await
    }

    pub(crate) fn api(&self) -> Api {
        Api::socket(&self.folder.socket())
    }

    pub(crate) fn pid(&self) -> Pid {
        process(&self.child.0)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it runs");
    }

    /// Its folder, for another node. It is killed if it still runs.
    pub(crate) fn into_folder(self) -> Folder {
        self.folder
    }

    /// Asks it to stop, waits until it has, and returns its exit code.
    pub(crate) async fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Waits until it has ended, and returns its exit code; `None` if a signal ended it.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        until("it ends", async || self.child.0.try_wait().expect("our child")).await.code()
    }
}

/// Reads log lines as `reader` says.
fn read_log(stderr: impl io::Read, written: &Mutex<Vec<Value>>, reader: &AtomicU8) {
    let mut lines = BufReader::new(stderr).lines();
    while let Some(Ok(line)) = lines.next() {
        let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
        written.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        let how = reader.load(Ordering::Relaxed);
        if how == Reader::Gone as u8 {
            return;
        }
        if how == Reader::Stuck as u8 {
            loop {
                thread::park();
            }
        }
    }
}

/// A process that is killed when this is dropped.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Whether a program is installed.
pub(crate) fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(name).is_file())
}
