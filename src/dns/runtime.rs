//! The runtime of TCP.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime that serves TCP connections and nothing else: a flood of queries occupies its threads, and the kernel still
/// gives the others of the process their share of the processors.
#[derive(Debug)]
pub(super) struct TcpRuntime {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl TcpRuntime {
    /// Starts its threads, for half of the cores: most queries come over UDP.
    pub(super) fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let mut builder = Builder::new_multi_thread();
        let runtime =
            builder.worker_threads(cores.div_ceil(2)).thread_name("dns-tcp").enable_all().build()?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for TcpRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The runtime of the node may drop this, and must not wait.
            runtime.shutdown_background();
        }
    }
}
