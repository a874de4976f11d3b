//! The access log: a line for each request, written once its response has ended.
//!
//! ```text
//! Record (a request) ── dropped ──▶ Sink (a worker's lines) ── chunk ──▶ the thread that writes (writer)
//! ```
//!
//! A worker never waits: lines that find the queue full are dropped and counted.

mod line;
mod record;
mod writer;

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::SyncSender;

pub(super) use record::{End, Record};
pub(super) use writer::Writer;

use super::counters::Counters;

/// Bytes of lines that a worker collects before it hands them on; what there is goes on with each beat anyway.
const CHUNK: usize = 16 * 1024;

/// Chunks that wait for the thread that writes, of all workers.
const QUEUE: usize = 256;

/// Lines of a worker.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    lines: u64,
}

/// Where a worker puts its lines.
pub(super) struct Sink {
    chunk: RefCell<Chunk>,
    queue: SyncSender<Chunk>,
    counters: Arc<Counters>,
}

impl Sink {
    pub(super) fn new(queue: SyncSender<Chunk>, counters: Arc<Counters>) -> Self {
        Self { chunk: RefCell::default(), queue, counters }
    }

    /// Appends a line, which has its end.
    fn append(&self, line: &[u8]) {
        let mut chunk = self.chunk.borrow_mut();
        chunk.bytes.extend_from_slice(line);
        chunk.lines += 1;
        if chunk.bytes.len() >= CHUNK {
            drop(chunk);
            self.flush();
        }
    }

    /// Hands on the lines that there are.
    pub(super) fn flush(&self) {
        let chunk = self.chunk.take();
        let lines = chunk.lines;
        if lines > 0 && self.queue.try_send(chunk).is_err() {
            self.counters.access_log_dropped.fetch_add(lines, Relaxed);
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.flush();
    }
}
