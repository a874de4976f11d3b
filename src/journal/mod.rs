//! What must survive a restart, in SQLite: `state_dir/portolan.db`. Overrides, verdicts, the addresses of
//! hosts, the latest events and the audit log.
//!
//! A thread named `journal` owns the connection that writes. The engine sends its changes to a bounded queue and never
//! waits for a disk: a slow, stalled or full disk delays neither probes nor answers nor commands. Losing the journal
//! stops nothing; an alarm states what the next restart may lose.

#![allow(clippy::disallowed_methods, reason = "a shell: it lives in the world's time")]

mod audit;
mod condition;
mod handle;
mod open;
mod reader;
mod record;
mod rows;
mod schema;
mod unsaved;
mod worker;

pub use audit::{AuditSink, OldestByKind};
pub use condition::Notice;
pub use handle::{Confirmation, Journal, Opened};
pub use reader::Recalled;
pub use record::VerdictRecord;

#[cfg(test)]
mod tests;
