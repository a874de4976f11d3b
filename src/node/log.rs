//! The log's lines, written to stderr by a thread of its own.
//!
//! Logging appends to a buffer in memory and never waits for the reader of stderr or its disk. What stderr
//! does not take is dropped and counted: the buffer is bounded, a stuck reader fills it, and a write that fails (reader
//! gone, disk full) loses its lines. Once lines are written again, one of them says how many are missing.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use tracing::error;

/// The most bytes of lines that wait: more than the transitions of 10,000 targets that fail at once take.
const CAPACITY: usize = 8 << 20;

/// How long the end of the process waits for lines that stderr does not take. A reader that works needs less than a
/// millisecond.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

/// The pause before the next try if stderr is non-blocking and full.
const RETRY: Duration = Duration::from_millis(10);

static LINES: Lines = Lines::new(CAPACITY);

/// Set once the thread runs.
static STARTED: OnceLock<()> = OnceLock::new();

/// Lines that wait to be written. Writing to a reference appends a line; it never blocks and never fails.
#[derive(Debug)]
pub struct Lines {
    capacity: usize,
    buffer: Mutex<Buffer>,
    /// Notified when the buffer changes.
    changed: Condvar,
    /// Lines dropped since the start.
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    /// Whether the thread writes what it has taken.
    is_writing: bool,
    /// Lines dropped that no line has reported yet.
    unreported: u64,
}

/// Starts the thread, and logs panics instead of printing them, which could block or panic itself. Returns where lines go.
///
/// # Errors
/// If the thread cannot be started.
pub fn start() -> io::Result<&'static Lines> {
    let write = || {
        let mut out = Output { stderr: Stderr, is_torn: false };
        loop {
            if let Some(missing) = LINES.write_next(&mut out) {
                error!(missing, "log lines were dropped because stderr could not be written or was not read");
            }
        }
    };
    thread::Builder::new().name("log".into()).spawn(write)?;
    STARTED.get_or_init(|| panic::set_hook(Box::new(log_panic)));
    Ok(&LINES)
}

/// Waits until every line is written, but not for a reader that is stuck.
pub fn finish() {
    if STARTED.get().is_some() {
        LINES.finish();
    }
}

/// Prints a last line before the process ends. Whether stderr takes it does not matter.
pub fn print_last(line: &str) {
    if STARTED.get().is_none() {
        writeln!(io::stderr(), "{line}").ok();
        return;
    }
    LINES.append(format!("{line}\n").as_bytes());
    LINES.finish();
}

/// Adds `log_dropped` to a scrape.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Log lines that stderr did not take";
    let counter = encoder.encode_descriptor("log_dropped", help, None, MetricType::Counter)?;
    ConstCounter::new(LINES.dropped.load(Ordering::Relaxed)).encode(counter)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let at = panic.location().map(tracing::field::display);
    let why = panic.payload_as_str().unwrap_or("no message");
    error!(thread = thread.name(), at, "panicked: {why}");
}

impl Lines {
    const fn new(capacity: usize) -> Self {
        let buffer = Buffer { bytes: Vec::new(), is_writing: false, unreported: 0 };
        Self { capacity, buffer: Mutex::new(buffer), changed: Condvar::new(), dropped: AtomicU64::new(0) }
    }

    fn append(&self, line: &[u8]) {
        let mut buffer = self.lock();
        if buffer.bytes.len() + line.len() > self.capacity {
            self.drop_lines(&mut buffer, 1);
            return;
        }
        buffer.bytes.extend_from_slice(line);
        self.changed.notify_all();
    }

    /// Waits for lines and writes them. Returns how many lines are missing before the next, once stderr takes lines.
    fn write_next(&self, out: &mut Output<impl Write>) -> Option<u64> {
        let mut buffer = self.lock();
        while buffer.bytes.is_empty() {
            buffer = self.changed.wait(buffer).unwrap_or_else(PoisonError::into_inner);
        }
        let bytes = mem::take(&mut buffer.bytes);
        buffer.is_writing = true;
        drop(buffer);
        let lost = out.write(&bytes);
        let mut buffer = self.lock();
        buffer.is_writing = false;
        self.changed.notify_all();
        if lost > 0 {
            self.drop_lines(&mut buffer, lost);
            return None;
        }
        Some(mem::take(&mut buffer.unreported)).filter(|missing| *missing > 0)
    }

    fn finish(&self) {
        let is_busy = |buffer: &mut Buffer| buffer.is_writing || !buffer.bytes.is_empty();
        let written = self.changed.wait_timeout_while(self.lock(), FINISH_WITHIN, is_busy);
        drop(written.unwrap_or_else(PoisonError::into_inner));
    }

    fn drop_lines(&self, buffer: &mut Buffer, count: u64) {
        buffer.unreported += count;
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.append(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// stderr without the lock of the standard library, which others could wait for during a write that blocks.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(io::stderr(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the thread writes.
struct Output<W> {
    stderr: W,
    /// Whether the last write ended within a line.
    is_torn: bool,
}

impl<W: Write> Output<W> {
    /// Returns the number of lines that could not be written, or not to their end.
    fn write(&mut self, lines: &[u8]) -> u64 {
        let mut left = lines;
        if self.is_torn && self.write_some(&mut &b"\n"[..]).is_ok() {
            self.is_torn = false;
        }
        match self.write_some(&mut left) {
            Ok(()) => 0,
            Err(_) => {
                let written = &lines[..lines.len() - left.len()];
                self.is_torn = written.last().map_or(self.is_torn, |last| *last != b'\n');
                left.iter().filter(|byte| **byte == b'\n').count() as u64
            }
        }
    }

    /// Writes until nothing is left or a write fails.
    fn write_some(&mut self, left: &mut &[u8]) -> io::Result<()> {
        while !left.is_empty() {
            match self.stderr.write(left) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => *left = &left[count..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most `room` bytes, as a disk that becomes full.
    #[derive(Default)]
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room - self.bytes.len());
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.bytes.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output(room: usize) -> Output<Disk> {
        Output { stderr: Disk { bytes: Vec::new(), room }, is_torn: false }
    }

    fn append(lines: &Lines, text: &str) {
        let mut writer = lines;
        writer.write_all(text.as_bytes()).expect("it never fails");
    }

    #[test]
    fn a_full_buffer_drops_whole_lines_and_reports_them_once() {
        let lines = Lines::new(10);
        for line in ["one\n", "three\n", "four\n", "five\n"] {
            append(&lines, line);
        }
        let mut out = output(1000);
        assert_eq!(lines.write_next(&mut out), Some(2));
        assert_eq!(out.stderr.bytes, b"one\nthree\n");
        append(&lines, "six\n");
        assert_eq!(lines.write_next(&mut out), None);
        assert_eq!(lines.dropped.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn lines_that_a_full_disk_refuses_are_reported_when_it_has_room() {
        let lines = Lines::new(100);
        let mut out = output(6);
        append(&lines, "one\ntwo\n");
        assert_eq!(lines.write_next(&mut out), None, "not while lines are lost");
        append(&lines, "three\n");
        assert_eq!(lines.write_next(&mut out), None);
        out.stderr.room = 1000;
        append(&lines, "four\n");
        assert_eq!(lines.write_next(&mut out), Some(2));
        assert_eq!(out.stderr.bytes, b"one\ntw\nfour\n", "the next line begins on a line of its own");
        assert_eq!(lines.dropped.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn an_end_waits_for_the_lines_that_are_being_written() {
        let lines = Lines::new(100);
        append(&lines, "one\n");
        let mut out = output(100);
        thread::scope(|scope| {
            scope.spawn(|| lines.write_next(&mut out));
            lines.finish();
            assert!(lines.lock().bytes.is_empty() && !lines.lock().is_writing);
        });
        assert_eq!(out.stderr.bytes, b"one\n");
    }
}
