//! The engine's one task.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::checks::Checks;
use super::command::{Applied, Command, EventFeed, OverrideRequest, Rejection, Reloaded};
use super::event::{Event, EventKind, Subject, Transitions};
use super::prepare::{PrepareError, Prepared, prepare};
use super::{COMMAND_QUEUE, Clock, EVENT_QUEUE, Handle, Origin};
use crate::config::AtStart;
use crate::health::State;
use crate::journal::Journal;
use crate::model::{EndpointRef, RegionId, Target, Topology};
use crate::probe::{Check, Report, Scheduler};
use crate::safety::{self, Rule, Rules};
use crate::snapshot::{Plan, Snapshot};
use crate::standing::{Inputs, Override, RegionStanding, Standing};

/// Reports waiting for the engine at most; probes wait for a place.
const REPORT_QUEUE: usize = 4096;

/// Reports taken in before a snapshot is published.
const REPORTS_AT_ONCE: usize = 1024;

/// Events kept for those who ask later.
const EVENTS_KEPT: usize = 1000;

/// The longest that answers wait for the first look at every target.
const READY_AFTER: Duration = Duration::from_secs(5);

/// The writer's state. It lives in its task; everybody else holds a [`Handle`].
pub struct Engine {
    origin: Origin,
    /// What reloads cannot change, as it is in force.
    at_start: AtStart,
    clock: Clock,
    plan: Arc<Plan>,
    rules: Rules,
    checks: Checks,
    scheduler: Scheduler,
    overrides: Vec<Override>,
    last_override: u64,
    journal: Option<Journal>,
    standing: Arc<Standing>,
    epoch: u64,
    snapshots: Arc<ArcSwap<Snapshot>>,
    ready: watch::Sender<bool>,
    events: broadcast::Sender<Arc<Event>>,
    kept_events: VecDeque<Arc<Event>>,
    last_event: u64,
    transitions: Arc<Transitions>,
    /// Reloads that have been prepared.
    reloads: mpsc::Sender<Reload>,
    /// Held while one is prepared, so that what was read first comes into force first.
    preparing: Arc<Mutex<()>>,
}

type Reload = (Result<Prepared, PrepareError>, oneshot::Sender<Result<Reloaded, PrepareError>>);

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
        let (events, _) = broadcast::channel(EVENT_QUEUE);
        let (ready, ready_seen) = watch::channel(false);
        let plan = prepared.plan;
        let first = Snapshot { plan: Arc::clone(&plan), standing: Arc::default(), epoch: 0 };
        let mut engine = Self {
            origin,
            at_start: AtStart::of(&prepared.config),
            clock,
            plan,
            rules: Rules { min_regions: prepared.config.safety.min_regions },
            checks: Checks::default(),
            scheduler: Scheduler::new(reports),
            overrides: Vec::new(),
            last_override: 0,
            journal,
            standing: Arc::default(),
            epoch: 0,
            snapshots: Arc::new(ArcSwap::from_pointee(first)),
            ready,
            events,
            kept_events: VecDeque::new(),
            last_event: 0,
            transitions: Arc::default(),
            reloads,
            preparing: Arc::default(),
        };
        engine.recall_overrides();
        let plan = Arc::clone(&engine.plan);
        engine.put_plan(plan, engine.rules)?;
        let handle = Handle {
            snapshots: Arc::clone(&engine.snapshots),
            ready: ready_seen,
            transitions: Arc::clone(&engine.transitions),
            commands: commands.clone(),
            events: engine.events.clone(),
        };
        let task = tokio::spawn(engine.run(command_queue, report_queue, reload_queue));
        Ok((handle, Running { task, commands }))
    }

    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut reports: mpsc::Receiver<Report>,
        mut reloads: mpsc::Receiver<Reload>,
    ) {
        let started = Instant::now();
        loop {
            let expiry = self.next_expiry();
            tokio::select! {
                Some(report) = reports.recv() => self.observe(report, &mut reports),
                Some((prepared, reply)) = reloads.recv() => {
                    let outcome = self.put_into_force(prepared);
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
            self.restand();
        }
        self.check_ready();
    }

    /// Ready as soon as everything has been looked at: at once, where there is nothing to look at.
    fn check_ready(&self) {
        if !*self.ready.borrow() && self.checks.all_seen() {
            self.now_ready();
        }
    }

    fn take_in(&mut self, report: &Report) -> bool {
        self.checks.observe(&report.check, &report.observation, self.clock.now())
    }

    fn now_ready(&self) {
        self.ready.send_replace(true);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Override { request, reply } => drop(reply.send(self.put_override(request))),
            Command::Restore { id, reply } => drop(reply.send(self.remove_override(id))),
            Command::Overrides { reply } => drop(reply.send(self.overrides.clone())),
            Command::Checks { reply } => drop(reply.send(self.checks.status())),
            Command::Events { reply } => {
                let kept = self.kept_events.iter().cloned().collect();
                reply.send(EventFeed { kept, live: self.events.subscribe() }).ok();
            }
            Command::Reload { reply } => {
                let (origin, reloads) = (self.origin.clone(), self.reloads.clone());
                let preparing = Arc::clone(&self.preparing);
                tokio::spawn(async move {
                    let _alone = preparing.lock().await;
                    let prepared = tokio::task::spawn_blocking(move || prepare(&origin)).await;
                    let prepared = prepared.unwrap_or_else(|e| Err(PrepareError::Other(e.to_string())));
                    reloads.send((prepared, reply)).await.ok();
                });
            }
            Command::Stop { .. } => unreachable!("the loop handles it"),
        }
    }

    fn put_into_force(&mut self, prepared: Result<Prepared, PrepareError>) -> Result<Reloaded, PrepareError> {
        let outcome = prepared.and_then(|prepared| {
            let mut warnings: Vec<String> =
                prepared.config.warnings.iter().map(ToString::to_string).collect();
            warnings.extend(self.at_start.changes(&AtStart::of(&prepared.config)));
            let rules = Rules { min_regions: prepared.config.safety.min_regions };
            let old = self.put_plan(prepared.plan, rules)?;
            // The old plan may be large: free it off this task.
            tokio::task::spawn_blocking(move || drop(old));
            Ok(Reloaded { epoch: self.epoch, warnings })
        });
        self.tell(match &outcome {
            Ok(Reloaded { warnings, .. }) => EventKind::Reloaded { warnings: warnings.clone() },
            Err(e) => EventKind::ReloadFailed { why: e.to_string() },
        });
        outcome
    }

    /// Points probes, checks and the standing at a plan, and returns the one before. If a probe cannot be made
    /// ready nothing changes.
    fn put_plan(&mut self, plan: Arc<Plan>, rules: Rules) -> Result<Arc<Plan>, PrepareError> {
        let checks = Checks::of(&plan.topology, &self.checks, self.clock.now());
        let wanted =
            checks.iter().map(|check| Check { key: check.key.clone(), probe: Arc::clone(&check.probe) });
        self.scheduler.set(wanted.collect()).map_err(|e| PrepareError::Other(e.to_string()))?;
        self.checks = checks;
        self.rules = rules;
        let old = std::mem::replace(&mut self.plan, plan);
        let held_before = self.held(&old.topology);
        let standing = self.standing_from(&self.overrides, &old.topology);
        self.publish(standing);
        self.tell_held(&held_before);
        self.check_ready();
        Ok(old)
    }

    /// The standing as it should be now, compared by region name with the one of an older topology.
    fn standing_from(&self, overrides: &[Override], old: &Topology) -> Standing {
        let topology = &self.plan.topology;
        let previous = |id: RegionId| -> Option<&RegionStanding> {
            let before = old.region_named(&topology.region(id).name)?;
            self.standing.regions.get(usize::from(before.0))
        };
        let mut standing = Standing::compute(Inputs {
            topology,
            states: &|at, address| self.checks.state(at, address),
            overrides,
            previous: &previous,
            now: Clock::unix(),
        });
        safety::hold(self.rules, self.plan.steering.region_sets(), &mut standing);
        standing
    }

    /// Works out the standing anew, publishes it if it changed, and tells what changed.
    fn restand(&mut self) {
        let before = Arc::clone(&self.standing);
        let held_before = self.held(&self.plan.topology);
        let standing = self.standing_from(&self.overrides, &self.plan.topology);
        if standing != *before {
            self.publish(standing);
            self.tell_transitions(&before);
            self.tell_held(&held_before);
        }
    }

    fn publish(&mut self, standing: Standing) {
        self.epoch += 1;
        self.standing = Arc::new(standing);
        self.snapshots.store(Arc::new(Snapshot {
            plan: Arc::clone(&self.plan),
            standing: Arc::clone(&self.standing),
            epoch: self.epoch,
        }));
    }

    // Overrides.

    fn recall_overrides(&mut self) {
        let Some(journal) = &self.journal else { return };
        let recalled = journal.overrides().and_then(|all| Ok((all, journal.last_override_id()?)));
        match recalled {
            Ok((overrides, last)) => {
                let now = Clock::unix();
                self.overrides = overrides.into_iter().filter(|o| o.holds_at(now)).collect();
                self.last_override = last;
            }
            Err(e) => self.alarm(format!("overrides of the last run cannot be read: {e:#}")),
        }
    }

    fn put_override(&mut self, request: OverrideRequest) -> Result<Applied, Rejection> {
        let careless = request.override_safety;
        let topology = &self.plan.topology;
        let new = request.accept(topology, self.last_override + 1, Clock::unix())?;
        let mut overrides = self.overrides.clone();
        overrides.retain(|o| o.target != new.target);
        overrides.push(new.clone());
        let sets = self.plan.steering.region_sets();
        if !careless {
            let after = self.standing_from(&overrides, topology);
            safety::permit(self.rules, sets, &self.standing, &after)
                .map_err(|refusal| Rejection::Unsafe(refusal.explain(topology, sets)))?;
        }
        self.last_override = new.id;
        self.overrides = overrides;
        self.tell(EventKind::Overridden(new.clone()));
        self.restand();
        let not_durable = self.write(|journal| journal.put(&new));
        Ok(Applied { subject: new, epoch: self.epoch, not_durable })
    }

    fn remove_override(&mut self, id: u64) -> Option<Applied> {
        let index = self.overrides.iter().position(|o| o.id == id)?;
        let gone = self.overrides.remove(index);
        self.tell(EventKind::Restored(gone.clone()));
        self.restand();
        let not_durable = self.write(|journal| journal.remove(id));
        Some(Applied { subject: gone, epoch: self.epoch, not_durable })
    }

    /// Ends the overrides whose time has run out.
    fn expire(&mut self) {
        let now = Clock::unix();
        let (held, ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.overrides).into_iter().partition(|o| o.holds_at(now));
        self.overrides = held;
        for gone in ended {
            let id = gone.id;
            self.tell(EventKind::Expired(gone));
            self.write(|journal| journal.remove(id));
        }
        self.restand();
    }

    fn next_expiry(&self) -> Option<Instant> {
        let first = self.overrides.iter().filter_map(|o| o.until).min()?;
        Some(Instant::now() + first.since(Clock::unix()))
    }

    /// Writes into the journal, if there is one; otherwise, or if it fails, says why it is not durable.
    fn write(&mut self, write: impl FnOnce(&mut Journal) -> anyhow::Result<()>) -> Option<String> {
        let Some(journal) = &mut self.journal else {
            return Some("[node] state_dir is not set: it is forgotten at the next restart".into());
        };
        let error = format!("{:#}", write(journal).err()?);
        self.alarm(format!("the journal cannot be written: {error}"));
        Some(error)
    }

    // Events.

    fn alarm(&mut self, message: String) {
        self.tell(EventKind::Alarm { message });
    }

    fn tell(&mut self, kind: EventKind) {
        self.last_event += 1;
        let event = Arc::new(Event { id: self.last_event, at: Clock::unix(), epoch: self.epoch, kind });
        log(&event);
        if self.kept_events.len() == EVENTS_KEPT {
            self.kept_events.pop_front();
        }
        self.kept_events.push_back(Arc::clone(&event));
        // Nobody listening is fine.
        self.events.send(event).ok();
    }

    /// Tells which addresses, endpoints and regions changed their state since `before`, the region last.
    fn tell_transitions(&mut self, before: &Standing) {
        let plan = Arc::clone(&self.plan);
        let standing = Arc::clone(&self.standing);
        for (id, old) in plan.topology.region_ids().zip(&before.regions) {
            let (region, new) = (plan.topology.region(id), standing.region(id));
            let mut evidence = Vec::new();
            for (index, endpoint) in region.endpoints.iter().enumerate() {
                let at = EndpointRef { region: id, index: index as u16 };
                for (address, (from, to)) in addresses(old, new, index).enumerate() {
                    if from == to {
                        continue;
                    }
                    let subject = Subject::Address {
                        region: region.name.clone(),
                        endpoint: endpoint.name.clone(),
                        address: endpoint.addresses[address],
                    };
                    let words = self.checks.evidence(at, address);
                    evidence.push(format!("{} {}", endpoint.name, words));
                    self.tell(EventKind::Transition { subject, from, to, evidence: words });
                }
            }
            if old.state != new.state {
                let subject = Subject::Target(Target::Region(region.name.clone()));
                let evidence = evidence.join("; ");
                self.transitions.count(&region.name, new.state);
                self.tell(EventKind::Transition { subject, from: old.state, to: new.state, evidence });
            }
        }
    }

    /// The regions that safety holds in for any services; `topology` is the standing's.
    fn held(&self, topology: &Topology) -> BTreeSet<String> {
        let held = self.standing.held.iter().flatten();
        held.map(|id| topology.region(*id).name.clone()).collect()
    }

    fn tell_held(&mut self, before: &BTreeSet<String>) {
        let now = self.held(&self.plan.topology);
        let rule = Rule::MinRegions.name();
        for region in before.difference(&now) {
            self.tell(EventKind::Released { region: region.clone(), rule });
        }
        for region in now.difference(before) {
            self.tell(EventKind::Held { region: region.clone(), rule });
        }
    }
}

fn addresses<'a>(
    old: &'a RegionStanding,
    new: &'a RegionStanding,
    endpoint: usize,
) -> impl Iterator<Item = (State, State)> + 'a {
    old.endpoints[endpoint].addresses.iter().copied().zip(new.endpoints[endpoint].addresses.iter().copied())
}

/// One line per event: its name, then its fields; a sentence only where there is none but that.
fn log(event: &Event) {
    let (name, epoch, id) = (event.kind.name(), event.epoch, event.id);
    match &event.kind {
        EventKind::Transition { subject, from, to, evidence } if to.is_down() => {
            warn!(%subject, %from, %to, evidence, epoch, id, "{name}");
        }
        EventKind::Transition { subject, from, to, evidence } => {
            info!(%subject, %from, %to, evidence, epoch, id, "{name}");
        }
        EventKind::Held { region, rule } | EventKind::Released { region, rule } => {
            warn!(region, rule, epoch, id, "{name}");
        }
        EventKind::Overridden(o) | EventKind::Restored(o) | EventKind::Expired(o) => {
            let (reason, share) = (o.reason.as_deref(), o.share);
            info!(target = %o.target, action = %o.action, %share, reason, epoch, id, "{name}");
        }
        EventKind::Reloaded { warnings } => {
            info!(epoch, id, "{name}");
            for warning in warnings {
                warn!(epoch, id, "{warning}");
            }
        }
        EventKind::ReloadFailed { why } => error!(epoch, id, why = why.trim_end(), "{name}"),
        EventKind::Alarm { message } => error!(epoch, id, why = message, "{name}"),
    }
}
