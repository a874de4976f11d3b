//! A failover drill that runs by itself: a region breaks, leaves the answers, heals and comes back. Every step is timed
//! by what probes found and what DNS answered.

#![allow(clippy::print_stdout, reason = "the drill's view is what the command prints")]

use std::io::{IsTerminal as _, Write as _, stdout};
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::{Instant, interval, timeout};

use super::demo::{Break, Demo, REGIONS};
use crate::health::State;
use crate::model::{Subject, Unix};
use crate::net::clock::Clock;
use crate::state::{CheckStatus, EventKind};

/// Clients on three continents: where, and an address there.
pub const CLIENTS: [(&str, &str); 3] =
    [("Germany", "84.128.0.1"), ("United States", "73.0.0.1"), ("India", "117.192.0.1")];

/// The region that breaks, and the client that is near it.
const VICTIM: &str = "eu-west";

/// How often every client asks, and how often the view is drawn.
const BEAT: Duration = Duration::from_millis(50);

/// The drill gives up on a step after this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The steps of a failover, each with the moment it was seen.
#[derive(Debug, Default)]
struct Timeline {
    last_good: Option<Unix>,
    broken: Option<Unix>,
    first_failed: Option<Unix>,
    withdrawn: Option<Unix>,
    answer_left: Option<Unix>,
    healed: Option<Unix>,
    first_good: Option<Unix>,
    readmitted: Option<Unix>,
    answer_back: Option<Unix>,
}

/// What the drill sees at one beat.
struct Sight {
    now: Unix,
    checks: Vec<CheckStatus>,
    regions: Vec<(String, State)>,
    /// By client: where it is sent.
    sent: Vec<Option<IpAddr>>,
}

/// Plays the drill to its end and stops the demo.
///
/// # Errors
/// If a step does not happen in time, or DNS does not answer.
pub async fn play(demo: Demo) -> Result<()> {
    let played = Drill::new(&demo).await?.run().await;
    demo.stop().await;
    played
}

struct Drill<'a> {
    demo: &'a Demo,
    socket: UdpSocket,
    events: tokio::sync::broadcast::Receiver<std::sync::Arc<crate::state::Event>>,
    timeline: Timeline,
    live: bool,
    drawn: usize,
    shown: Vec<String>,
}

impl<'a> Drill<'a> {
    async fn new(demo: &'a Demo) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(demo.node.dns_addresses[0]).await?;
        Ok(Self {
            demo,
            socket,
            events: demo.node.engine.subscribe(),
            timeline: Timeline::default(),
            live: stdout().is_terminal(),
            drawn: 0,
            shown: Vec::new(),
        })
    }

    async fn run(mut self) -> Result<()> {
        for note in &self.demo.notes {
            println!("note: {note}");
        }
        println!("a failover drill: {VICTIM} breaks (connections refused), then heals\n");
        let home = region_address(VICTIM);
        self.until("every region is up", |sight, _| {
            sight.regions.iter().all(|(_, state)| *state == State::Up) && sight.sent[0] == Some(home)
        })
        .await?;

        self.turn(Some(Break::Refuse));
        self.timeline.broken = Some(Clock::unix());
        self.until("the German client moves away", move |sight, timeline| {
            if sight.sent[0].is_some_and(|to| to != home) {
                timeline.answer_left.get_or_insert(sight.now);
            }
            timeline.answer_left.is_some() && timeline.withdrawn.is_some()
        })
        .await?;

        self.turn(None);
        self.timeline.healed = Some(Clock::unix());
        self.until("the German client is back", move |sight, timeline| {
            if sight.sent[0] == Some(home) {
                timeline.answer_back.get_or_insert(sight.now);
            }
            timeline.answer_back.is_some() && timeline.readmitted.is_some()
        })
        .await?;
        self.report();
        Ok(())
    }

    fn turn(&self, how: Option<Break>) {
        self.demo.switches[VICTIM].send_replace(how);
    }

    /// Observes at every beat until `done`, and fills in the timeline.
    async fn until(&mut self, what: &str, done: impl Fn(&Sight, &mut Timeline) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut beat = interval(BEAT);
        loop {
            beat.tick().await;
            let sight = self.observe().await?;
            self.keep_time(&sight);
            let is_done = done(&sight, &mut self.timeline);
            self.draw(what, &sight);
            if is_done {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("gave up after {} s of waiting until {what}", PATIENCE.as_secs());
            }
        }
    }

    async fn observe(&self) -> Result<Sight> {
        let mut sent = Vec::with_capacity(CLIENTS.len());
        for (_, client) in CLIENTS {
            sent.push(self.ask(client).await?);
        }
        let engine = &self.demo.node.engine;
        let snapshot = engine.snapshots.load_full();
        let names = snapshot.plan.topology.regions.iter().map(|region| region.name.clone());
        let states = snapshot.standing.regions.iter().map(|region| region.state);
        let regions = names.zip(states).collect();
        Ok(Sight { now: Clock::unix(), checks: engine.checks().await?, regions, sent })
    }

    /// Asks as a resolver that forwards a client's /24.
    async fn ask(&self, client: &str) -> Result<Option<IpAddr>> {
        let mut query = Message::new(1, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_str("www.demo.test.")?, RecordType::A));
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        let network = ipnet::IpNet::new(client.parse()?, 24)?.network();
        edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(network, 24, 0)));
        query.set_edns(edns);
        self.socket.send(&query.to_vec()?).await?;
        let mut buffer = [0; 1232];
        let received = timeout(Duration::from_secs(2), self.socket.recv(&mut buffer)).await;
        let length = received.context("DNS does not answer")??;
        let reply = Message::from_vec(&buffer[..length])?;
        Ok(reply.answers.iter().find_map(|record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            _ => None,
        }))
    }

    fn keep_time(&mut self, sight: &Sight) {
        let timeline = &mut self.timeline;
        if let Some(check) = sight.checks.iter().find(|check| is_in(check, VICTIM)) {
            match (timeline.broken, timeline.healed) {
                (None, _) => timeline.last_good = check.last_success,
                (Some(_), None) => {
                    timeline.first_failed = timeline.first_failed.or(check.failing_since);
                    if timeline.first_failed.is_none() {
                        timeline.last_good = check.last_success;
                    }
                }
                (Some(_), Some(healed)) => {
                    let first = check.last_success.filter(|success| *success > healed);
                    timeline.first_good = timeline.first_good.or(first);
                }
            }
        }
        while let Ok(event) = self.events.try_recv() {
            let EventKind::Transition { subject, to, .. } = &event.kind else { continue };
            if *subject != Subject::Region(VICTIM.into()) || timeline.broken.is_none() {
                continue;
            }
            if to.is_down() {
                timeline.withdrawn.get_or_insert(event.at);
            } else if to.serves() && timeline.healed.is_some() {
                timeline.readmitted.get_or_insert(event.at);
            }
        }
    }

    /// On a terminal the view is drawn over itself; elsewhere a line is printed when something changes.
    fn draw(&mut self, waiting_for: &str, sight: &Sight) {
        let lines = view(waiting_for, sight);
        if self.live {
            let mut out = stdout().lock();
            if self.drawn > 0 {
                // CSI n F: to the start of the line n lines up (ECMA-48 §8.3.13); CSI J: clear from there.
                write!(out, "\x1b[{}F\x1b[J", self.drawn).ok();
            }
            for line in &lines {
                writeln!(out, "{line}").ok();
            }
            out.flush().ok();
            self.drawn = lines.len();
        } else {
            let changed: Vec<String> = lines.into_iter().filter(|line| !self.shown.contains(line)).collect();
            if !changed.is_empty() {
                self.shown = view(waiting_for, sight);
                changed.iter().for_each(|line| println!("{line}"));
            }
        }
    }

    fn report(&self) {
        let t = &self.timeline;
        let start = t.broken.unwrap_or_default();
        println!("\nthe failover, in seconds from the break:\n");
        for (what, at) in [
            ("last good probe", t.last_good),
            ("the region breaks", t.broken),
            ("first failed probe", t.first_failed),
            ("withdrawal", t.withdrawn),
            ("first changed answer", t.answer_left),
            ("the region heals", t.healed),
            ("first good probe", t.first_good),
            ("readmission", t.readmitted),
            ("first answer back", t.answer_back),
        ] {
            match at {
                Some(at) if at >= start => println!("  +{:7.3}  {what}", at.since(start).as_secs_f64()),
                Some(at) => println!("  -{:7.3}  {what}", start.since(at).as_secs_f64()),
                None => println!("         –  {what}"),
            }
        }
        println!(
            "\nDNS is asked every {} ms, so the times of changed answers are that coarse",
            BEAT.as_millis()
        );
    }
}

fn view(waiting_for: &str, sight: &Sight) -> Vec<String> {
    let mut lines = vec![format!("until {waiting_for}")];
    for (name, state) in &sight.regions {
        let check = sight.checks.iter().find(|check| is_in(check, name));
        let evidence = check.map(ToString::to_string).unwrap_or_default();
        lines.push(format!("  {name:<9} {:<9} {evidence}", state.to_string()));
    }
    for ((place, _), to) in CLIENTS.iter().zip(&sight.sent) {
        let to = to.map_or_else(|| "nobody".into(), |address| region_name(address).to_owned());
        lines.push(format!("  {place:<14} -> {to}"));
    }
    lines
}

fn is_in(check: &CheckStatus, name: &str) -> bool {
    matches!(&check.id.subject, Subject::Address { region, .. } if **region == *name)
}

fn region_address(name: &str) -> IpAddr {
    let found = REGIONS.iter().find(|(known, ..)| *known == name);
    found.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |(_, address, _)| IpAddr::V4(*address))
}

fn region_name(address: IpAddr) -> &'static str {
    REGIONS.iter().find(|(_, known, _)| IpAddr::V4(*known) == address).map_or("elsewhere", |(name, ..)| name)
}
