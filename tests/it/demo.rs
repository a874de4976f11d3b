//! `portolan demo` as a process in a terminal.

use std::io::{BufRead as _, BufReader};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::binary::program;
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
