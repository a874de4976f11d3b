//! Logs of queries and requests: many threads record, one of its own writes.
//!
//! ```text
//! Sink (one thread's records) ── chunk ──▶ Queue ──▶ Writer, a thread ──▶ Output: a file, a pipe, a socket
//! ```
//!
//! Who records never waits: what finds the queue full is dropped and counted.

use std::cell::RefCell;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use rustix::process::{getpriority_process, setpriority_process};
use tokio::time::Instant;

use crate::model::{LogTarget, Unix};

/// Bytes of records that a thread collects before it hands them on.
const CHUNK: usize = 16 * 1024;
/// Chunks that wait for the thread that writes, of all others.
const QUEUE: usize = 256;
/// The longest until a reload is noticed.
const CHECK: Duration = Duration::from_secs(1);
/// How long the end of the process waits for records that their reader or disk does not take.
const FINISH_WITHIN: Duration = Duration::from_secs(1);
/// How often the node's log says that records cannot be written.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// How nice the thread is: about a tenth of the CPU time of one that answers, where both want a core (nice(2)).
const NICE: i32 = 10;

/// Records of one thread.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    records: u64,
}

/// Where a thread puts its records. What it has left goes on when it is dropped.
#[derive(Debug)]
pub struct Sink {
    chunk: RefCell<Chunk>,
    queue: Queue,
}

impl Sink {
    /// Appends a record, which `write` appends to the bytes that it gets.
    pub fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut chunk = self.chunk.borrow_mut();
        write(&mut chunk.bytes);
        chunk.records += 1;
        if chunk.bytes.len() >= CHUNK {
            drop(chunk);
            self.flush();
        }
    }

    /// Hands on the records that there are.
    pub fn flush(&self) {
        let chunk = self.chunk.take();
        let records = chunk.records;
        if records > 0 && self.queue.chunks.try_send(chunk).is_err() {
            self.queue.dropped.fetch_add(records, Relaxed);
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Where sinks hand on their chunks.
#[derive(Clone, Debug)]
pub struct Queue {
    chunks: SyncSender<Chunk>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    /// A sink for one thread.
    #[must_use]
    pub fn sink(&self) -> Sink {
        Sink { chunk: RefCell::default(), queue: self.clone() }
    }
}

/// What the thread writes to.
pub trait Output: Send + 'static {
    /// Called before each chunk, and about every second without one: closes what a reload has replaced.
    fn check(&mut self);

    /// Writes the records of a chunk.
    ///
    /// # Errors
    /// If some of them could not be written; all of them count as dropped.
    fn write(&mut self, records: &[u8]) -> io::Result<()>;

    /// Called after the last chunk.
    fn finish(&mut self) {}
}

/// The running thread. It ends when every sink and queue is gone.
#[derive(Debug)]
pub struct Writer {
    /// Never sends: it is closed at the end.
    ended: Receiver<()>,
}

impl Writer {
    /// Starts the thread of the log called `name`, which counts in `dropped` what it cannot write.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        name: &'static str,
        mut output: impl Output,
        dropped: Arc<AtomicU64>,
    ) -> io::Result<(Self, Queue)> {
        let (chunks, received) = mpsc::sync_channel(QUEUE);
        let (running, ended) = mpsc::channel();
        let queue = Queue { chunks, dropped: Arc::clone(&dropped) };
        let run = move || {
            let _running: mpsc::Sender<()> = running;
            yield_to_others();
            write_all(name, &mut output, &received, &dropped);
        };
        thread::Builder::new().name(name.replace(' ', "-")).spawn(run)?;
        Ok((Self { ended }, queue))
    }

    /// Waits until every record is written, but not for a reader that is stuck.
    pub fn finish(self) {
        self.ended.recv_timeout(FINISH_WITHIN).ok();
    }
}

/// Where the cores are busy, a log loses records rather than a client its answer. A sandbox may forbid it.
fn yield_to_others() {
    // Linux: of the calling thread alone.
    if getpriority_process(None).is_ok_and(|nice| nice < NICE) {
        setpriority_process(None, NICE).ok();
    }
}

fn write_all(name: &str, output: &mut impl Output, chunks: &Receiver<Chunk>, dropped: &AtomicU64) {
    let mut complained: Option<Instant> = None;
    loop {
        let chunk = chunks.recv_timeout(CHECK);
        output.check();
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return output.finish(),
        };
        // A record that panics must not end the log. What happened has been reported.
        let written = catch_unwind(AssertUnwindSafe(|| output.write(&chunk.bytes)))
            .unwrap_or_else(|_| Err(io::Error::other("writing panicked")));
        if let Err(error) = written {
            dropped.fetch_add(chunk.records, Relaxed);
            if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                tracing::error!(%error, "cannot write the {name}: records are dropped");
                complained = Some(Instant::now());
            }
        }
    }
}

/// A file that lines are appended to, opened when the first comes.
#[derive(Debug, Default)]
pub struct LineFile {
    file: Option<File>,
    /// Whether the last write ended within a line.
    is_torn: bool,
}

impl LineFile {
    /// Appends lines to `target`, or to the file that is open already.
    ///
    /// # Errors
    /// If the file cannot be opened or written.
    pub fn write(&mut self, target: &LogTarget, lines: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open(target)?),
        };
        if self.is_torn {
            file.write_all(b"\n")?;
        }
        self.is_torn = true;
        file.write_all(lines)?;
        self.is_torn = false;
        Ok(())
    }

    /// Closes it; the next line opens it again, perhaps as another file.
    pub fn close(&mut self) {
        *self = Self::default();
    }
}

/// Opens a file to append to. Names of hosts and queries of URLs tell much about clients: its group may read it, others may
/// not, whatever the umask is.
fn open_file(path: &Path) -> io::Result<File> {
    let append = || OpenOptions::new().append(true).clone();
    match append().create_new(true).mode(0o640).open(path) {
        Ok(file) => {
            file.set_permissions(Permissions::from_mode(0o640)).ok();
            Ok(file)
        }
        // A device or a pipe may be there, too.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => append().open(path),
        Err(error) => Err(error),
    }
}

/// Why lines could not be written to a target, if so. A file that is not there is created.
#[must_use]
pub fn unwritable(target: &LogTarget) -> Option<String> {
    open(target).err().map(|error| error.to_string())
}

fn open(target: &LogTarget) -> io::Result<File> {
    match target {
        LogTarget::File(path) => {
            open_file(path).map_err(|error| {
                // A node that runs gives up the right to write elsewhere than where its logs were when it started.
                let hint = match error.kind() {
                    ErrorKind::PermissionDenied => {
                        "; a log in another folder than at the start needs a restart"
                    }
                    _ => "",
                };
                io::Error::new(error.kind(), format!("cannot open {}: {error}{hint}", path.display()))
            })
        }
        LogTarget::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
    }
}

/// The time of a record, to the millisecond, in a format of strftime(3); UTC.
#[must_use]
pub fn time(at: Unix, format: &str) -> String {
    let time = jiff::Timestamp::from_second(i64::try_from(at.0.as_secs()).unwrap_or(i64::MAX));
    let time =
        time.unwrap_or(jiff::Timestamp::MAX) + jiff::SignedDuration::from_millis(at.0.subsec_millis().into());
    time.strftime(format).to_string()
}

/// The format of [`time`] in lines of JSON (RFC 3339).
pub const RFC_3339: &str = "%Y-%m-%dT%H:%M:%S%.3fZ";
