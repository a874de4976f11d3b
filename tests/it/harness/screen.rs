//! Pseudo terminals, and what programs write to them.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, Mutex};
use std::thread;

use nix::libc::O_NOCTTY;
use rustix::pty::{self, OpenptFlags};
use rustix::termios::{Winsize, tcsetwinsize};

use super::until;

/// What a program has written so far.
pub(crate) type Written = Arc<Mutex<String>>;

/// Reads everything that arrives.
pub(crate) fn collect(mut from: impl Read + Send + 'static) -> Written {
    let written = Written::default();
    let collected = Arc::clone(&written);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        // A terminal whose last program has ended is an error rather than an end.
        while let Ok(count @ 1..) = from.read(&mut piece) {
            bytes.extend_from_slice(&piece[..count]);
            *collected.lock().expect("nobody panics") = String::from_utf8_lossy(&bytes).into_owned();
        }
    });
    written
}

/// Waits until it contains this.
pub(crate) async fn written(to: &Written, what: &str) -> String {
    until(what, async || Some(to.lock().expect("nobody panics").clone()).filter(|text| text.contains(what)))
        .await
}

/// A pseudo terminal of this size: its two ends.
pub(crate) fn terminal(columns: u16, rows: u16) -> (File, File) {
    let master = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
    pty::grantpt(&master).and_then(|()| pty::unlockpt(&master)).expect("it is ours");
    let name = pty::ptsname(&master, Vec::new()).expect("its name").into_string().expect("UTF-8");
    let slave =
        OpenOptions::new().read(true).write(true).custom_flags(O_NOCTTY).open(name).expect("it is there");
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size).expect("its size");
    (master.into(), slave)
}
