//! The engine's task: queues, clocks and the journal around a [`State`].

mod challenges;
mod preview;
mod retention;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{self, Runtime};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::audit::AuditLog;
use super::command::{Applied, Change, Command, InForce, Reloaded};
use super::discovery::Discovery;
use super::events::Events;
use super::hosts::{Resolved, Resolving};
use super::queues::{FAILING_QUEUE, Queues, Senders, queues};
use super::recalled::{ended_meanwhile, records, remembered, without_target};
use super::sources::Report;
use super::{EngineTask, Handle};
use crate::health::FailingRequests;
use crate::journal::{Journal, Notice, Opened};
use crate::model::{Challenges, Rules, Subject};
use crate::net::clock::Clock;
use crate::net::resolver::Resolver;
use crate::prepare::{Prepared, world};
use crate::probe::{CheckReport, PreparedProbe, ScheduledCheck, Scheduler};
use crate::snapshot::{Plan, Snapshot};
use crate::standing::Override;
use crate::state::{CheckToRun, EventKind, LastStop, OverrideRequest, SetOverride, State};
use crate::supervise::fault::{self, At};
use crate::supervise::{BEAT, Part, Supervisor};

/// The maximum number of reports processed at once.
const REPORT_BATCH: usize = 1024;

/// The minimum time between two snapshots caused by observations. The first change is published immediately; those
/// that follow within this time are published together.
const PUBLISH_PAUSE: Duration = Duration::from_millis(3);

/// The interval at which overrides expire and suspicions are re-evaluated. The engine beats with it.
const TICK: Duration = BEAT;

/// The interval for polling whether a plan is still in use; batches take less than a millisecond.
const RETIRE_PAUSE: Duration = Duration::from_millis(20);

/// The maximum time that answers wait for the first result of every check.
const READY_AFTER: Duration = Duration::from_secs(5);

/// The state of the task. All others use a [`Handle`].
pub struct Engine {
    clock: Clock,
    plan: Arc<Plan>,
    state: State,
    /// When the last change was published.
    published: Instant,
    /// Whether there may be changes that are not published yet.
    is_pending: bool,
    scheduler: Scheduler,
    /// The probes of the plan, ready to run.
    probes: Vec<Arc<PreparedProbe>>,
    resolving: Resolving,
    discovery: Discovery,
    /// What is shown to ACME servers. The journal does not keep it.
    challenges: Arc<Challenges>,
    /// The safety rules of the config.
    rules: Rules,
    /// How long the past is kept.
    retention: Option<Duration>,
    audit: Arc<AuditLog>,
    /// Identifies the config.
    digest: Arc<str>,
    journal: Journal,
    /// What the journal lost or could not read at the start, a sentence each.
    opening_alarms: Vec<String>,
    /// Why the journal cannot be written, while that lasts.
    journal_alarm: Option<String>,
    snapshots: Arc<ArcSwap<Snapshot>>,
    ready: watch::Sender<bool>,
    events: Events,
    /// Notified when a plan that was replaced is freed.
    retired: Arc<Notify>,
    /// Reports that the engine runs, and its end.
    part: Part,
}

/// Frees a plan once nobody answers from it any more, such as workers in the middle of a batch. The plan may be large,
/// so this runs on a thread where it blocks no one.
async fn retire(plan: Arc<Plan>, retired: Arc<Notify>) {
    while Arc::strong_count(&plan) > 1 {
        tokio::time::sleep(RETIRE_PAUSE).await;
    }
    tokio::task::spawn_blocking(move || drop(plan)).await.ok();
    retired.notify_one();
}

/// Shows that a runtime gets to its tasks.
async fn pulse(part: Part) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        part.beat();
    }
}

impl Engine {
    /// Applies a prepared config, starts its probes, and runs on a thread of its own.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(
        prepared: Prepared,
        opened: Opened,
        supervisor: Supervisor,
    ) -> io::Result<(Handle, EngineTask)> {
        let own = runtime::Builder::new_current_thread().enable_all().build()?;
        let network = runtime::Builder::new_multi_thread().thread_name("probes").enable_all().build()?;
        network.spawn(pulse(supervisor.beating_part("the runtime of the probes")));
        let clock = Clock::default();
        let (Senders { commands, reports, failing, resolved, discovered }, queues) = queues();
        let (ready, ready_seen) = watch::channel(false);
        let Opened { journal, mut recalled, alarms } = opened;
        let last_stop = LastStop::of(&recalled.events);
        let events = Events::new(std::mem::take(&mut recalled.events));
        let audit = Arc::new(AuditLog::new(std::mem::take(&mut recalled.audit), journal.audit()));
        let Prepared { config, plan, probes, resolver, digest, .. } = prepared;
        let resolver = resolver.map(Arc::new);
        let mut discovery = Discovery::new(discovered, network.handle().clone(), supervisor.clone());
        discovery.set(&plan, resolver.as_ref());
        discovery.restore(&recalled.hosts);
        let (plan, rules, retention) = (discovery.plan(), config.safety, config.retention);
        events.counts().set_journal_fails(journal.is_unusable());
        let ended = ended_meanwhile(&mut recalled, clock.now().unix);
        let state = State::new(world(&plan, rules.clone()), remembered(recalled), clock.now());
        let snapshot = Snapshot {
            plan: Arc::clone(&plan),
            standing: Arc::clone(state.standing()),
            challenges: Arc::default(),
            epoch: state.epoch(),
        };
        let mut engine = Self {
            clock,
            plan,
            state,
            published: Instant::now(),
            is_pending: false,
            scheduler: Scheduler::new(reports, network.handle().clone(), supervisor.clone()),
            probes,
            resolving: Resolving::new(resolved, network.handle().clone(), supervisor.clone()),
            discovery,
            challenges: Arc::default(),
            rules,
            retention,
            audit: Arc::clone(&audit),
            digest,
            journal,
            opening_alarms: alarms.clone(),
            journal_alarm: None,
            snapshots: Arc::new(ArcSwap::from_pointee(snapshot)),
            ready,
            events,
            retired: Arc::default(),
            part: supervisor.beating_part("the engine"),
        };
        engine.begin(resolver);
        engine.report_start(ended, last_stop, alarms);
        let handle = Handle {
            snapshots: Arc::clone(&engine.snapshots),
            ready: ready_seen,
            failing,
            history: engine.events.history(),
            audit,
            counts: engine.events.counts(),
            retired: Arc::clone(&engine.retired),
            supervisor,
            commands: commands.clone(),
            events: engine.events.sender(),
        };
        Ok((handle, EngineTask { ended: engine.spawn(own, network, queues)?, commands }))
    }

    /// Runs on a thread of its own. What is returned resolves when that ends.
    fn spawn(self, own: Runtime, network: Runtime, queues: Queues) -> io::Result<oneshot::Receiver<()>> {
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("engine".into()).spawn(move || {
            own.block_on(self.run(queues));
            // A probe or lookup that is stuck must not keep the node from stopping.
            [own, network].into_iter().for_each(Runtime::shutdown_background);
            drop(end);
        })?;
        Ok(ended)
    }

    /// Starts the probes and lookups.
    fn begin(&mut self, resolver: Option<Arc<Resolver>>) {
        self.keep_only_hosts();
        self.schedule();
        self.resolving.set(&self.plan.topology, resolver);
        self.check_ready();
    }

    async fn run(mut self, queues: Queues) {
        let Queues { mut commands, mut reports, mut failing, mut resolved, mut discovered } = queues;
        let started = Instant::now();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(report) = reports.recv() => self.observe(report, &mut reports),
                notice = self.journal.notice() => self.journal_changed(notice),
                Some(report) = failing.recv() => self.requests_fail(report, &mut failing),
                Some(host) = resolved.recv() => self.resolve(host, &mut resolved),
                Some(report) = discovered.recv() => self.discover(report),
                command = commands.recv() => match command {
                    Some(Command::Stop { reply }) => {
                        self.scheduler.shutdown().await;
                        self.journal.save(records(self.state.verdicts(self.clock.now())));
                        self.journal.close().await;
                        reply.send(()).ok();
                        return;
                    }
                    Some(command) => self.handle(command),
                    None => return self.scheduler.shutdown().await,
                },
                () = sleep_until(self.published + PUBLISH_PAUSE), if self.is_pending => self.recompute(),
                _ = ticks.tick() => self.tick(),
                () = sleep_until(started + READY_AFTER), if !*self.ready.borrow() => self.mark_ready(),
            }
        }
    }

    /// Processes a report and all others that wait, then publishes at most once.
    fn observe(&mut self, first: CheckReport, queue: &mut mpsc::Receiver<CheckReport>) {
        let now = self.clock.now();
        let waiting = std::iter::from_fn(|| queue.try_recv().ok());
        for CheckReport { check, generation, outcome } in
            std::iter::once(first).chain(waiting).take(REPORT_BATCH)
        {
            self.state.observe(&check, generation, outcome.as_ref(), now);
        }
        self.recompute_soon();
        self.check_ready();
    }

    /// Processes a report about failing requests and all others that wait.
    fn requests_fail(&mut self, first: FailingRequests, queue: &mut mpsc::Receiver<FailingRequests>) {
        let now = self.clock.now();
        let waiting = std::iter::from_fn(|| queue.try_recv().ok());
        for report in std::iter::once(first).chain(waiting).take(FAILING_QUEUE) {
            self.state.requests_fail(&report, now);
        }
        self.recompute_soon();
    }

    /// Processes a lookup result and all others that wait.
    fn resolve(&mut self, first: Resolved, queue: &mut mpsc::Receiver<Resolved>) {
        let now = self.clock.now();
        for Resolved { host, lookup } in
            std::iter::once(first).chain(std::iter::from_fn(|| queue.try_recv().ok()))
        {
            self.state.resolve(host, lookup, now);
        }
        self.recompute();
        self.check_ready();
    }

    /// Processes what was discovered of a pool. A change is applied as a config with other backends would be.
    fn discover(&mut self, report: Report) {
        let (changed, alarm) = self.discovery.apply(report);
        if let Some(changed) = changed {
            self.plan = self.discovery.plan();
            self.state.reload(world(&self.plan, self.rules.clone()), changed, self.clock.now());
            self.publish();
            self.journal.keep_only(self.state.checks_to_run().map(|check| check.id).collect());
            self.journal.save_hosts(self.discovery.hosts());
        }
        alarm.into_iter().for_each(|event| self.emit(event));
        self.check_ready();
    }

    /// Publishes changes immediately, or later if something was published just now.
    fn recompute_soon(&mut self) {
        if self.published.elapsed() >= PUBLISH_PAUSE { self.recompute() } else { self.is_pending = true }
    }

    fn recompute(&mut self) {
        self.is_pending = false;
        self.state.recompute(self.clock.now());
        self.publish();
    }

    /// Marks the node as ready if everything has a result; immediately if there is nothing to check.
    fn check_ready(&self) {
        if !*self.ready.borrow() && self.discovery.is_ready() && self.state.is_ready() {
            self.mark_ready();
        }
    }

    fn mark_ready(&self) {
        self.ready.send_replace(true);
    }

    /// Schedules exactly the checks that the state wants.
    fn schedule(&mut self) {
        if !self.state.take_new_checks() {
            return;
        }
        let by_name: HashMap<&str, &Arc<PreparedProbe>> =
            self.probes.iter().map(|probe| (probe.definition.name.as_str(), probe)).collect();
        let check = |it: CheckToRun| {
            let probe = match it.id.subject {
                Subject::Anchor(_) => Arc::new(PreparedProbe::handshake(it.probe)),
                Subject::Address { .. } | Subject::Region(_) => Arc::clone(by_name[it.probe.name.as_str()]),
                Subject::Backend { .. } => Arc::new(by_name[it.probe.name.as_str()].with(it.probe)),
            };
            ScheduledCheck { id: it.id, generation: it.generation, probe, is_new: it.is_new }
        };
        self.scheduler.set(self.state.checks_to_run().map(check).collect());
    }

    fn handle(&mut self, command: Command) {
        if command.is_abandoned() {
            return;
        }
        match command {
            Command::Override { request, reply } => drop(reply.send(self.set_override(request))),
            Command::Restore { id, by, override_safety, reply } => {
                reply.send(self.remove_override(id, by, override_safety)).ok();
            }
            Command::Preview { change, reply } => drop(reply.send(self.preview(change))),
            Command::Copy { reply } => drop(reply.send(self.copy())),
            Command::Overrides { reply } => drop(reply.send(self.state.overrides().to_vec())),
            Command::Checks { reply } => drop(reply.send(self.state.checks(self.clock.now()))),
            Command::Hosts { reply } => drop(reply.send(self.state.hosts())),
            Command::Alarms { reply } => drop(reply.send(self.alarms())),
            Command::ShowChallenge { request, reply } => drop(reply.send(self.show_challenge(request))),
            Command::HideChallenge { proof, reply } => {
                self.hide_challenge(&proof);
                reply.send(()).ok();
            }
            Command::Report { kind, reply } => {
                self.emit(kind);
                reply.send(()).ok();
            }
            Command::Commit { prepared, warnings, by, reply } => {
                reply.send(self.commit(*prepared, warnings, by)).ok();
            }
            Command::Stop { .. } => unreachable!("the loop handles it"),
        }
    }

    /// Applies a prepared config. This cannot fail.
    fn commit(&mut self, prepared: Prepared, mut warnings: Vec<String>, by: String) -> Reloaded {
        let Prepared { config, plan, probes, resolver, digest, .. } = prepared;
        let before = self.in_force();
        let resolver = resolver.map(Arc::new);
        self.discovery.set(&plan, resolver.as_ref());
        (self.rules, self.retention, self.digest) = (config.safety, config.retention, digest);
        let plan = self.discovery.plan();
        warnings.extend(without_target(self.state.overrides(), &plan.topology));
        let reloaded = EventKind::Reloaded { warnings: warnings.clone(), by };
        self.state.reload(world(&plan, self.rules.clone()), reloaded, self.clock.now());
        let old = std::mem::replace(&mut self.plan, plan);
        self.probes = probes;
        self.resolving.set(&self.plan.topology, resolver);
        self.publish();
        self.journal.keep_only(self.state.checks_to_run().map(|check| check.id).collect());
        self.keep_only_hosts();
        self.check_ready();
        tokio::spawn(retire(old, Arc::clone(&self.retired)));
        Reloaded { epoch: self.state.epoch(), warnings, before, after: self.in_force() }
    }

    fn in_force(&self) -> InForce {
        InForce { epoch: self.state.epoch(), digest: Arc::clone(&self.digest) }
    }

    fn set_override(&mut self, request: OverrideRequest) -> Change {
        let set = self.state.set_override(request, self.clock.now())?;
        let SetOverride { subject, replaced, no_effect } = set;
        self.publish();
        let written = self.journal.put(subject.clone());
        let epoch = self.state.epoch();
        Ok((Applied { subject, replaced, epoch, no_effect, not_durable: None }, written))
    }

    fn remove_override(&mut self, id: u64, by: String, override_safety: bool) -> Change {
        let subject = self.state.remove_override(id, by, override_safety, self.clock.now())?;
        self.publish();
        let written = self.journal.remove(id);
        let epoch = self.state.epoch();
        Ok((Applied { subject, replaced: None, epoch, no_effect: None, not_durable: None }, written))
    }

    fn tick(&mut self) {
        fault::point(At::Engine);
        self.part.beat();
        let ended = self.state.tick(self.clock.now());
        self.expire_challenges();
        self.forget_the_past();
        self.publish();
        for gone in ended {
            // The journal reports failures itself, and the next start removes expired overrides.
            drop(self.journal.remove(gone.id));
        }
        self.journal.beat();
    }

    /// Emits what happened while the node was stopped, its start, and what is wrong from then on.
    fn report_start(&mut self, ended: Vec<Override>, last_stop: Option<LastStop>, alarms: Vec<String>) {
        ended.into_iter().for_each(|gone| self.ended_while_stopped(gone));
        self.emit(EventKind::Started { version: env!("CARGO_PKG_VERSION"), last_stop });
        let without_target = without_target(self.state.overrides(), &self.plan.topology);
        alarms.into_iter().chain(without_target).for_each(|why| self.alarm(why));
    }

    /// The event has the time at which the override ended.
    fn ended_while_stopped(&mut self, gone: Override) {
        let id = gone.id;
        let at = gone.until.map_or_else(Clock::unix, |until| until.min(Clock::unix()));
        let (record, oldest) = self.events.emit_at(EventKind::Expired(gone), self.state.epoch(), at);
        self.journal.record(record, oldest);
        drop(self.journal.remove(id));
    }

    fn journal_changed(&mut self, notice: Notice) {
        self.journal_alarm = match &notice {
            Notice::Failing(message) => Some(message.clone()),
            Notice::Recovered(_) => None,
        };
        self.events.counts().set_journal_fails(self.journal_alarm.is_some());
        self.emit(match notice {
            Notice::Failing(message) => EventKind::Alarm { message },
            Notice::Recovered(message) => EventKind::AllClear { message },
        });
    }

    /// The alarms that last and that neither the standing nor the checks show.
    fn alarms(&self) -> Vec<String> {
        let journal = self.opening_alarms.iter().chain(&self.journal_alarm).cloned();
        let journal = journal.chain(self.discovery.alarms());
        journal.chain(without_target(self.state.overrides(), &self.plan.topology)).collect()
    }

    /// Publishes a snapshot if there are changes, then emits the events.
    fn publish(&mut self) {
        if self.snapshots.load().epoch != self.state.epoch() {
            self.published = Instant::now();
            let (plan, standing) = (Arc::clone(&self.plan), Arc::clone(self.state.standing()));
            let (challenges, epoch) = (Arc::clone(&self.challenges), self.state.epoch());
            self.snapshots.store(Arc::new(Snapshot { plan, standing, challenges, epoch }));
        }
        for kind in self.state.take_events() {
            self.emit(kind);
        }
        let changed = self.state.take_changed_verdicts(self.clock.now());
        if !changed.is_empty() {
            self.journal.save(records(changed));
        }
        let resolved = self.state.take_changed_hosts();
        if !resolved.is_empty() {
            self.journal.save_hosts(resolved);
        }
        self.schedule();
    }

    /// The journal keeps no addresses of hosts that are not in the config: they would be out of date when it names them
    /// again.
    fn keep_only_hosts(&self) {
        let hosts = self.plan.topology.resolved_hosts();
        let discovered = self.discovery.hosts().into_keys();
        self.journal.keep_only_hosts(hosts.into_iter().cloned().chain(discovered).collect());
    }

    fn alarm(&mut self, message: String) {
        self.emit(EventKind::Alarm { message });
    }

    fn emit(&mut self, kind: EventKind) {
        let (record, oldest) = self.events.emit(kind, self.state.epoch());
        self.journal.record(record, oldest);
    }
}
