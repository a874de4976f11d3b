//! The engine's one task: queues, clocks and the journal around a [`Writer`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Notify, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::checks::Checks;
use super::command::{Applied, Command, EventFeed, OverrideRequest, Rejection, Reloaded, check_target};
use super::event::{Event, EventKind, Subject, Transitions, timestamp};
use super::hosts::{Answered, Asking, Hosts};
use super::index::KeptIndex;
use super::prepare::{PrepareError, Prepared, prepare_after};
use super::writer::Writer;
use super::{COMMAND_QUEUE, EVENT_QUEUE, Handle, Origin};
use crate::config::{AtStart, Config, Token};
use crate::journal::Journal;
use crate::model::{Target, Topology};
use crate::net::clock::Clock;
use crate::net::resolver::Resolver;
use crate::probe::{Check, Report, Scheduler};
use crate::safety::Rules;
use crate::snapshot::{Plan, Snapshot};
use crate::standing::Override;

/// Reports waiting for the engine at most; probes wait for a place.
const REPORT_QUEUE: usize = 4096;

/// Answers of resolvers waiting for the engine at most; further ones wait outside.
const ANSWER_QUEUE: usize = 64;

/// Reports taken in before a snapshot is published.
const REPORTS_AT_ONCE: usize = 1024;

/// Events kept for those who ask later.
const EVENTS_KEPT: usize = 1000;

/// Between two looks whether a plan is still used: batches take less than a millisecond.
const RETIRE_PAUSE: Duration = Duration::from_millis(20);

/// The longest that answers wait for the first look at every target.
const READY_AFTER: Duration = Duration::from_secs(5);

/// A prepared config, or why it cannot be had; who asked for it, and where to tell how it goes on.
type Reload = (Result<Prepared, PrepareError>, String, oneshot::Sender<Result<Reloaded, PrepareError>>);

/// The task's state; everybody else holds a [`Handle`].
pub struct Engine {
    origin: Origin,
    /// What reloads cannot change, as it is in force.
    at_start: AtStart,
    clock: Clock,
    writer: Writer,
    /// The geo index in force, for the next reload.
    geo: KeptIndex,
    scheduler: Scheduler,
    /// What resolvers told of the hosts of endpoints, and the tasks that ask them.
    hosts: Hosts,
    asking: Asking,
    journal: Option<Journal>,
    snapshots: Arc<ArcSwap<Snapshot>>,
    ready: watch::Sender<bool>,
    tokens: watch::Sender<Vec<Token>>,
    events: broadcast::Sender<Arc<Event>>,
    kept_events: VecDeque<Arc<Event>>,
    last_event: u64,
    transitions: Arc<Transitions>,
    /// Reloads that are prepared come back to the task through here.
    reloads: mpsc::Sender<Reload>,
    /// Held while one is prepared: what was read later must not be put into force earlier.
    one_reload: Arc<Mutex<()>>,
    /// Told when a plan that was replaced is gone.
    retired: Arc<Notify>,
}

/// Frees a plan that may be large, on a thread where that disturbs nobody: once those who still answer from it, such
/// as workers in the middle of a batch, have let go of it.
async fn retire(plan: Arc<Plan>, retired: Arc<Notify>) {
    while Arc::strong_count(&plan) > 1 {
        tokio::time::sleep(RETIRE_PAUSE).await;
    }
    tokio::task::spawn_blocking(move || drop(plan)).await.ok();
    retired.notify_one();
}

/// A running engine.
#[derive(Debug)]
pub struct Running {
    task: JoinHandle<()>,
    commands: mpsc::Sender<Command>,
}

impl Running {
    /// Stops the probes and the engine; snapshots that were published stay readable.
    pub async fn stop(self) {
        let (reply, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop { reply }).await.is_ok() {
            stopped.await.ok();
        }
        self.task.await.ok();
    }
}

impl Engine {
    /// Puts a prepared config into force and starts its probes. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If a probe cannot be made ready, for example because its `ca` is no certificate.
    pub fn start(
        origin: Origin,
        prepared: Prepared,
        journal: Option<Journal>,
    ) -> Result<(Handle, Running), PrepareError> {
        let clock = Clock::default();
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (reports, report_queue) = mpsc::channel(REPORT_QUEUE);
        let (reloads, reload_queue) = mpsc::channel(1);
        let (answers, answer_queue) = mpsc::channel(ANSWER_QUEUE);
        let (events, _) = broadcast::channel(EVENT_QUEUE);
        let (ready, ready_seen) = watch::channel(false);
        let (tokens, tokens_seen) = watch::channel(prepared.config.control.tokens.clone());
        let (recalled, unread) = recall(journal.as_ref());
        let (overrides, last_override) = recalled;
        let (mut hosts, mut asking) = (Hosts::default(), Asking::new(answers));
        hosts.set(&prepared.plan.topology);
        let resolver = resolver(&prepared)?;
        let writer =
            Writer::new(prepared.plan, rules(&prepared.config), overrides, last_override, clock.now());
        let mut scheduler = Scheduler::new(reports);
        scheduler.set(wanted(writer.checks_now())).map_err(|e| PrepareError::Other(e.to_string()))?;
        asking.set(&hosts, resolver);
        let mut engine = Self {
            origin,
            at_start: AtStart::of(&prepared.config),
            clock,
            scheduler,
            hosts,
            asking,
            journal,
            snapshots: Arc::new(ArcSwap::from_pointee(writer.snapshot())),
            writer,
            geo: prepared.geo,
            ready,
            tokens,
            events,
            kept_events: VecDeque::new(),
            last_event: 0,
            transitions: Arc::default(),
            reloads,
            one_reload: Arc::default(),
            retired: Arc::default(),
        };
        if let Some(why) = unread {
            engine.alarm(format!("overrides of the last run cannot be read: {why}"));
        }
        for why in idle(engine.writer.overrides(), &engine.writer.plan().topology) {
            engine.alarm(why);
        }
        engine.check_ready();
        let handle = Handle {
            snapshots: Arc::clone(&engine.snapshots),
            ready: ready_seen,
            tokens: tokens_seen,
            transitions: Arc::clone(&engine.transitions),
            retired: Arc::clone(&engine.retired),
            commands: commands.clone(),
            events: engine.events.clone(),
        };
        let task = tokio::spawn(engine.run(command_queue, report_queue, reload_queue, answer_queue));
        Ok((handle, Running { task, commands }))
    }

    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut reports: mpsc::Receiver<Report>,
        mut reloads: mpsc::Receiver<Reload>,
        mut answers: mpsc::Receiver<Answered>,
    ) {
        let started = Instant::now();
        loop {
            let expiry = self.next_expiry();
            tokio::select! {
                Some(report) = reports.recv() => self.observe(report, &mut reports),
                Some(answered) = answers.recv() => self.learn(answered, &mut answers),
                Some((prepared, by, reply)) = reloads.recv() => {
                    let outcome = self.put_into_force(prepared, by);
                    reply.send(outcome).ok();
                }
                command = commands.recv() => match command {
                    Some(Command::Stop { reply }) => {
                        self.scheduler.shutdown().await;
                        reply.send(()).ok();
                        return;
                    }
                    Some(command) => self.obey(command),
                    None => return self.scheduler.shutdown().await,
                },
                () = sleep_until(expiry.unwrap_or(started)), if expiry.is_some() => self.expire(),
                () = sleep_until(started + READY_AFTER), if !*self.ready.borrow() => self.now_ready(),
            }
        }
    }

    /// Takes in a report and all others that wait, then publishes once.
    fn observe(&mut self, first: Report, queue: &mut mpsc::Receiver<Report>) {
        let mut changed = self.take_in(&first);
        for _ in 1..REPORTS_AT_ONCE {
            let Ok(report) = queue.try_recv() else { break };
            changed |= self.take_in(&report);
        }
        if changed {
            self.writer.restand(Clock::unix());
            self.publish();
        }
        self.check_ready();
    }

    /// Takes in what a resolver told and all else that waits; addresses that change go the way of a reload.
    fn learn(&mut self, first: Answered, queue: &mut mpsc::Receiver<Answered>) {
        for answered in std::iter::once(first).chain(std::iter::from_fn(|| queue.try_recv().ok())) {
            self.writer.tell(self.hosts.take_in(answered));
        }
        if let Some(resolved) = self.hosts.resolved(self.writer.plan()) {
            let now = self.clock.now();
            let checks = self.writer.checks_for(&resolved, now);
            match self.scheduler.set(wanted(&checks)) {
                Ok(()) => {
                    let old = self.writer.put_addresses(resolved, checks, now);
                    tokio::spawn(retire(old, Arc::clone(&self.retired)));
                }
                Err(e) => self.alarm(format!("the addresses of hosts cannot be probed: {e}")),
            }
        }
        self.publish();
        self.check_ready();
    }

    /// Ready as soon as everything has been looked at: at once, where there is nothing to look at.
    fn check_ready(&self) {
        if !*self.ready.borrow() && self.hosts.all_asked() && self.writer.all_seen() {
            self.now_ready();
        }
    }

    fn take_in(&mut self, report: &Report) -> bool {
        self.writer.observe(&report.check, &report.observation, self.clock.now())
    }

    fn now_ready(&self) {
        self.ready.send_replace(true);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Override { request, reply } => drop(reply.send(self.put_override(request))),
            Command::Restore { id, by, reply } => drop(reply.send(self.remove_override(id, by))),
            Command::Overrides { reply } => drop(reply.send(self.writer.overrides().to_vec())),
            Command::Checks { reply } => drop(reply.send(self.writer.checks())),
            Command::Events { reply } => {
                let kept = self.kept_events.iter().cloned().collect();
                reply.send(EventFeed { kept, live: self.events.subscribe() }).ok();
            }
            Command::Reload { by, reply } => {
                let (origin, reloads) = (self.origin.clone(), self.reloads.clone());
                let (turn, last) = (Arc::clone(&self.one_reload), self.geo.clone());
                tokio::spawn(async move {
                    let _mine = turn.lock().await;
                    let prepare = move || prepare_after(&origin, Some(&last));
                    let prepared = tokio::task::spawn_blocking(prepare).await;
                    let prepared = prepared.unwrap_or_else(|e| Err(PrepareError::Other(e.to_string())));
                    reloads.send((prepared, by, reply)).await.ok();
                });
            }
            Command::Stop { .. } => unreachable!("the loop handles it"),
        }
    }

    /// A plan whose probes cannot be made ready changes nothing.
    fn put_into_force(
        &mut self,
        prepared: Result<Prepared, PrepareError>,
        by: String,
    ) -> Result<Reloaded, PrepareError> {
        let outcome = prepared.and_then(|prepared| {
            let resolver = resolver(&prepared)?;
            let Prepared { config, plan, geo } = prepared;
            let mut hosts = self.hosts.clone();
            hosts.set(&plan.topology);
            let plan = hosts.resolved(&plan).unwrap_or(plan);
            let mut warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
            warnings.extend(self.at_start.changes(&AtStart::of(&config)));
            warnings.extend(idle(self.writer.overrides(), &plan.topology));
            let checks = self.writer.checks_for(&plan, self.clock.now());
            self.scheduler.set(wanted(&checks)).map_err(|e| PrepareError::Other(e.to_string()))?;
            self.hosts = hosts;
            self.geo = geo;
            self.asking.set(&self.hosts, resolver);
            let reloaded = EventKind::Reloaded { warnings: warnings.clone(), by: by.clone() };
            let old = self.writer.put_plan(plan, checks, rules(&config), reloaded, self.clock.now());
            self.tokens.send_replace(config.control.tokens);
            self.publish();
            self.check_ready();
            tokio::spawn(retire(old, Arc::clone(&self.retired)));
            Ok(Reloaded { epoch: self.writer.epoch(), warnings })
        });
        if let Err(e) = &outcome {
            self.tell(EventKind::ReloadFailed { why: e.to_string(), by });
        }
        outcome
    }

    fn put_override(&mut self, request: OverrideRequest) -> Result<Applied, Rejection> {
        let before = self.writer.overrides().iter().find(|o| o.target == request.target).cloned();
        let subject = self.writer.put_override(request, Clock::unix())?;
        self.publish();
        let not_durable = self.write(|journal| journal.put(&subject));
        Ok(Applied { subject, replaced: before, epoch: self.writer.epoch(), not_durable })
    }

    fn remove_override(&mut self, id: u64, by: String) -> Option<Applied> {
        let subject = self.writer.remove_override(id, by, Clock::unix())?;
        self.publish();
        // Without a journal it could not have come back.
        let is_kept = self.journal.is_some();
        let not_durable = is_kept.then(|| self.write(|journal| journal.remove(id))).flatten();
        Some(Applied { subject, replaced: None, epoch: self.writer.epoch(), not_durable })
    }

    fn expire(&mut self) {
        let ended = self.writer.expire(Clock::unix());
        self.publish();
        for gone in ended {
            self.write(|journal| journal.remove(gone.id));
        }
    }

    fn next_expiry(&self) -> Option<Instant> {
        Some(Instant::now() + self.writer.next_expiry()?.since(Clock::unix()))
    }

    /// Writes into the journal, if there is one; otherwise, or if it fails, says why it is not durable.
    fn write(&mut self, write: impl FnOnce(&mut Journal) -> anyhow::Result<()>) -> Option<String> {
        let Some(journal) = &mut self.journal else {
            return Some("[node] state_dir is not set".into());
        };
        let error = format!("{:#}", write(journal).err()?);
        self.alarm(format!("the journal cannot be written: {error}"));
        Some(error)
    }

    /// Shows queries what the writer has, if it is new, then tells what happened.
    fn publish(&mut self) {
        if self.snapshots.load().epoch != self.writer.epoch() {
            self.snapshots.store(Arc::new(self.writer.snapshot()));
        }
        for kind in self.writer.take_events() {
            self.tell(kind);
        }
    }

    fn alarm(&mut self, message: String) {
        self.tell(EventKind::Alarm { message });
    }

    fn tell(&mut self, kind: EventKind) {
        if let EventKind::Transition { subject: Subject::Target(Target::Region(region)), to, .. } = &kind {
            self.transitions.count(region, *to);
        }
        self.last_event += 1;
        let event = Event { id: self.last_event, at: Clock::unix(), epoch: self.writer.epoch(), kind };
        log(&event);
        let event = Arc::new(event);
        if self.kept_events.len() == EVENTS_KEPT {
            self.kept_events.pop_front();
        }
        self.kept_events.push_back(Arc::clone(&event));
        // Nobody listening is fine.
        self.events.send(event).ok();
    }
}

fn rules(config: &Config) -> Rules {
    Rules { min_regions: config.safety.min_regions }
}

/// A sentence about each override whose target the config does not have, or no longer.
fn idle(overrides: &[Override], topology: &Topology) -> Vec<String> {
    let sentence = |o: &Override| {
        let Err(Rejection::NoSuchTarget(why)) = check_target(topology, &o.target) else { return None };
        let (id, action, target) = (o.id, o.action, &o.target);
        Some(format!(
            "override {id} {action} {target} is without effect: {why}; take it back if it is not to hold again"
        ))
    };
    overrides.iter().filter_map(sentence).collect()
}

/// Who tells the addresses of hosts, if there are any to be told of.
fn resolver(Prepared { config, plan, .. }: &Prepared) -> Result<Option<Resolver>, PrepareError> {
    if plan.topology.resolved_hosts().is_empty() {
        return Ok(None);
    }
    let resolver = Resolver::new(&config.node.resolvers).map_err(|e| {
        PrepareError::Other(format!(
            "no resolver for the hosts of endpoints: {e}; name one in [node] resolver"
        ))
    })?;
    Ok(Some(resolver))
}

/// The checks as the scheduler wants them.
fn wanted(checks: &Checks) -> Vec<Check> {
    checks.iter().map(|check| Check { key: check.key.clone(), probe: Arc::clone(&check.probe) }).collect()
}

/// The overrides of the last run and the largest id ever given, or why they cannot be read.
fn recall(journal: Option<&Journal>) -> ((Vec<Override>, u64), Option<String>) {
    let Some(journal) = journal else { return Default::default() };
    match journal.overrides().and_then(|all| Ok((all, journal.last_override_id()?))) {
        Ok(recalled) => (recalled, None),
        Err(e) => (Default::default(), Some(format!("{e:#}"))),
    }
}

/// One line per event: its name, then its fields; a sentence only where there is none but that.
fn log(event: &Event) {
    let (name, epoch, id) = (event.kind.name(), event.epoch, event.id);
    match &event.kind {
        EventKind::Transition { subject, from, to, evidence } if to.is_down() => {
            let severity = to.severity().map(tracing::field::display);
            warn!(%subject, %from, %to, severity, evidence, epoch, id, "{name}");
        }
        EventKind::Transition { subject, from, to, evidence } => {
            info!(%subject, %from, %to, evidence, epoch, id, "{name}");
        }
        EventKind::Held { region, rule } | EventKind::Released { region, rule } => {
            warn!(region, rule, epoch, id, "{name}");
        }
        EventKind::Overridden(o) | EventKind::Restored { subject: o, .. } | EventKind::Expired(o) => {
            let (reason, share, until) = (o.reason.as_deref(), o.share, o.until.and_then(timestamp));
            let by = event.kind.by();
            info!(
                number = o.id, target = %o.target, action = %o.action, %share, until, reason, by, epoch, id, "{name}"
            );
        }
        EventKind::Reloaded { warnings, by } => {
            info!(by, epoch, id, "{name}");
            for warning in warnings {
                warn!(epoch, id, "{warning}");
            }
        }
        EventKind::ReloadFailed { why, by } => error!(by, epoch, id, why = why.trim_end(), "{name}"),
        EventKind::Resolved { host, addresses } => info!(%host, ?addresses, epoch, id, "{name}"),
        EventKind::Unresolved { host, why, kept } => warn!(%host, why, ?kept, epoch, id, "{name}"),
        EventKind::Alarm { message } => error!(epoch, id, why = message, "{name}"),
        EventKind::AllClear { message } => info!(epoch, id, why = message, "{name}"),
    }
}
