//! The queues that the engine takes its work from.

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::COMMAND_QUEUE;
use super::command::Command;
use super::hosts::Resolved;
use super::sources::Report;
use crate::health::FailingRequests;
use crate::probe::CheckReport;

/// Capacity of the queue of probe reports; probes wait if it is full.
const REPORT_QUEUE: usize = 4096;

/// Capacity of the queue of reports about failing requests; what does not fit in is dropped, as more follow.
pub(super) const FAILING_QUEUE: usize = 256;

/// Capacity of the queue of lookup results; lookups wait if it is full.
const RESOLVED_QUEUE: usize = 64;

/// The ends that the engine reads.
pub(super) struct Queues {
    pub(super) commands: Receiver<Command>,
    pub(super) reports: Receiver<CheckReport>,
    pub(super) failing: Receiver<FailingRequests>,
    pub(super) resolved: Receiver<Resolved>,
    pub(super) discovered: Receiver<Report>,
}

/// The ends that everybody else writes to.
pub(super) struct Senders {
    pub(super) commands: Sender<Command>,
    pub(super) reports: Sender<CheckReport>,
    pub(super) failing: Sender<FailingRequests>,
    pub(super) resolved: Sender<Resolved>,
    pub(super) discovered: Sender<Report>,
}

/// Both ends of every queue.
pub(super) fn queues() -> (Senders, Queues) {
    let (to_commands, commands) = mpsc::channel(COMMAND_QUEUE);
    let (to_reports, reports) = mpsc::channel(REPORT_QUEUE);
    let (to_failing, failing) = mpsc::channel(FAILING_QUEUE);
    let (to_resolved, resolved) = mpsc::channel(RESOLVED_QUEUE);
    let (to_discovered, discovered) = mpsc::channel(RESOLVED_QUEUE);
    let senders = Senders {
        commands: to_commands,
        reports: to_reports,
        failing: to_failing,
        resolved: to_resolved,
        discovered: to_discovered,
    };
    (senders, Queues { commands, reports, failing, resolved, discovered })
}
