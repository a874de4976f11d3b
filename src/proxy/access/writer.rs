//! The thread that writes the access log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::{Chunk, QUEUE};
use crate::model::AccessTarget;
use crate::proxy::counters::Counters;
use crate::snapshot::{Plan, Snapshot};

/// The longest until a reload is noticed.
const CHECK: Duration = Duration::from_secs(1);
/// How long the end of the process waits for lines that their reader or disk does not take.
const FINISH_WITHIN: Duration = Duration::from_secs(1);
/// How often the log says that it cannot be written.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// The running thread. It ends when no worker can send it anything.
#[derive(Debug)]
pub(in crate::proxy) struct Writer {
    /// Never sends: it is closed at the end.
    ended: Receiver<()>,
}

impl Writer {
    /// Starts it, and returns where chunks go.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(in crate::proxy) fn start(
        snapshots: Arc<ArcSwap<Snapshot>>,
        counters: Arc<Counters>,
    ) -> io::Result<(Self, SyncSender<Chunk>)> {
        let (queue, chunks) = mpsc::sync_channel(QUEUE);
        let (running, ended) = mpsc::channel();
        let run = move || {
            let _running: mpsc::Sender<()> = running;
            let mut log =
                Log { snapshots, counters, plan: Weak::new(), file: None, is_torn: false, complained: None };
            log.write_all(&chunks);
        };
        thread::Builder::new().name("access-log".into()).spawn(run)?;
        Ok((Self { ended }, queue))
    }

    /// Waits until every line is written, but not for a reader that is stuck.
    pub(in crate::proxy) fn finish(self) {
        self.ended.recv_timeout(FINISH_WITHIN).ok();
    }
}

struct Log {
    snapshots: Arc<ArcSwap<Snapshot>>,
    counters: Arc<Counters>,
    /// Where the open file comes from.
    plan: Weak<Plan>,
    file: Option<File>,
    /// Whether the last write ended within a line.
    is_torn: bool,
    complained: Option<Instant>,
}

impl Log {
    fn write_all(&mut self, chunks: &Receiver<Chunk>) {
        loop {
            let chunk = chunks.recv_timeout(CHECK);
            self.close_old();
            match chunk {
                Ok(chunk) => self.write(&chunk),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// After a reload, the file is another, perhaps under the same name.
    fn close_old(&mut self) {
        let plan = &self.snapshots.load().plan;
        if !std::ptr::eq(self.plan.as_ptr(), Arc::as_ptr(plan)) {
            self.plan = Arc::downgrade(plan);
            (self.file, self.is_torn) = (None, false);
        }
    }

    /// Writes a chunk, or counts it.
    fn write(&mut self, chunk: &Chunk) {
        if let Err(error) = self.try_write(&chunk.bytes) {
            self.counters.access_log_dropped.fetch_add(chunk.lines, Relaxed);
            if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                tracing::error!(%error, "cannot write the access log: lines are dropped");
                self.complained = Some(Instant::now());
            }
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open(&self.snapshots.load())?),
        };
        if self.is_torn {
            file.write_all(b"\n")?;
        }
        self.is_torn = true;
        file.write_all(bytes)?;
        self.is_torn = false;
        Ok(())
    }
}

fn open(snapshot: &Snapshot) -> io::Result<File> {
    match snapshot.plan.proxy.access_log.as_ref().map(|log| &log.to) {
        Some(AccessTarget::File(path)) => {
            // Requests may have secrets in their queries: not for everyone.
            OpenOptions::new().append(true).create(true).mode(0o640).open(path)
        }
        // Lines of requests that began before the log was switched off.
        None => OpenOptions::new().append(true).open("/dev/null"),
        Some(AccessTarget::Stdout) => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
    }
}
