//! Where the query log goes.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use prost::Message as _;
use tokio::time::Instant;

use super::line;
use super::message::Dnstap;
use super::stream::{self, Stream};
use crate::model::QueryLogTarget;
use crate::net::record_log::{LineFile, Output};
use crate::snapshot::{Plan, Snapshot};

/// The pause after a failed try to connect to a reader of dnstap.
const RETRY: Duration = Duration::from_secs(1);

/// What the config says. A reload opens a file again, which may be another under the same name, and keeps a connection to a
/// reader that is still the one to connect to.
pub(in crate::dns) struct QueryOutput {
    snapshots: Arc<ArcSwap<Snapshot>>,
    /// Where what is open comes from.
    plan: Weak<Plan>,
    file: LineFile,
    reader: Reader,
}

impl QueryOutput {
    pub(in crate::dns) fn new(snapshots: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { snapshots, plan: Weak::new(), file: LineFile::default(), reader: Reader::default() }
    }
}

impl Output for QueryOutput {
    fn check(&mut self) {
        let plan = &self.snapshots.load().plan;
        if std::ptr::eq(self.plan.as_ptr(), Arc::as_ptr(plan)) {
            return;
        }
        self.plan = Arc::downgrade(plan);
        self.file.close();
        let path = match plan.query_log.as_ref().map(|log| &log.to) {
            Some(QueryLogTarget::Dnstap(path)) => Some(&**path),
            _ => None,
        };
        self.reader.turn_to(path);
    }

    fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        match self.snapshots.load().plan.query_log.as_ref().map(|log| &log.to) {
            Some(QueryLogTarget::Json(target)) => {
                let mut lines = Vec::with_capacity(2 * frames.len());
                for frame in stream::contents(frames) {
                    line::append(&mut lines, &Dnstap::decode(frame).map_err(io::Error::other)?);
                }
                self.file.write(target, &lines)
            }
            Some(QueryLogTarget::Dnstap(path)) => {
                // The reload may have come since the check.
                self.reader.turn_to(Some(path));
                self.reader.write(frames)
            }
            // Of queries before the log was switched off.
            None => Ok(()),
        }
    }

    fn finish(&mut self) {
        self.reader.turn_to(None);
    }
}

/// A reader of dnstap, which may come and go.
#[derive(Default)]
struct Reader {
    path: Option<PathBuf>,
    stream: Option<Stream>,
    /// When it may be tried again.
    retry: Option<Instant>,
}

impl Reader {
    /// Ends the connection to another reader.
    fn turn_to(&mut self, path: Option<&Path>) {
        if self.path.as_deref() != path {
            if let Some(stream) = self.stream.take() {
                stream.finish();
            }
            *self = Self { path: path.map(Into::into), ..Self::default() };
        }
    }

    fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        let written = self.connected().and_then(|stream| stream.write(frames));
        if written.is_err() {
            self.stream = None;
        }
        written
    }

    fn connected(&mut self) -> io::Result<&mut Stream> {
        let Self { path: Some(path), stream, retry } = self else { return Err(ErrorKind::NotFound.into()) };
        if stream.is_none() && retry.is_none_or(|at| at <= Instant::now()) {
            *retry = Some(Instant::now() + RETRY);
            *stream = Some(Stream::connect(path).map_err(|error| {
                io::Error::new(error.kind(), format!("no reader of dnstap at {}: {error}", path.display()))
            })?);
            tracing::info!(path = %path.display(), "connected to the reader of dnstap");
        }
        stream.as_mut().ok_or_else(|| io::Error::new(ErrorKind::NotConnected, "no reader of dnstap"))
    }
}
