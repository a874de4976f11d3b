//! `portolan demo` as a process in a terminal.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::binary::{program, run};
use crate::harness::until;

/// Closing the terminal sends SIGHUP, which tells a server to read its config again; a demo ends, and frees its ports.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_with_its_terminal() {
    let mut demo = program().arg("demo").spawn().expect("it starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("Ctrl-C ends the demo")));
    kill(Pid::from_raw(demo.id().cast_signed()), Signal::SIGHUP).expect("it runs");
    let ended = until("it ends", async || demo.try_wait().expect("our child")).await;
    assert_eq!(ended.code(), Some(0));
}

/// It is found however its user logged in: XDG_RUNTIME_DIR may be set for the demo alone, or for the command alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_found_by_commands_of_other_sessions() {
    let (folder, elsewhere) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mut demo = program().arg("demo").env("TMPDIR", folder.path()).spawn().expect("it starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let introduction: Vec<String> = lines.by_ref().take_while(|line| !line.starts_with("Ctrl-C")).collect();
    let mut exports =
        introduction.iter().filter_map(|line| line.trim().strip_prefix("export PORTOLAN_CONTROL="));
    let socket = exports.next().expect("the demo says how to reach it");
    // Another demo of these tests may have taken the usual port.
    let user = nix::unistd::geteuid();
    let usual = folder.path().join(format!("portolan-demo-{user}-8053.sock"));
    symlink(socket, &usual)
        .or_else(|error| if usual.exists() { Ok(()) } else { Err(error) })
        .expect("a link");
    let fail = |temporary: &std::path::Path| {
        let mut command = program();
        command.args(["demo", "fail", "region/eu-west"]);
        command.env("TMPDIR", temporary).env("XDG_RUNTIME_DIR", elsewhere.path());
        run(command)
    };
    let done = fail(folder.path());
    assert_eq!((done.code, &*done.stdout), (Some(0), "eu-west is now failing (refuse)\n"), "{done:?}");
    let unknown = fail(elsewhere.path());
    assert!(unknown.code != Some(0) && unknown.stderr.contains("127.0.0.1:8053"), "{unknown:?}");
    kill(Pid::from_raw(demo.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    until("it ends", async || demo.try_wait().expect("our child")).await;
}
