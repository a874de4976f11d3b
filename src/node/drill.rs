//! A failover drill that runs by itself: first a backend breaks, which the proxy of its region absorbs, then the region,
//! whose clients DNS moves; each heals and comes back. Every step is timed by what probes found, what DNS answered and
//! what clients got.

#![allow(clippy::print_stdout, reason = "the drill's view is what the command prints")]

mod backend;
mod region;
mod requests;
mod view;

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::sync::broadcast;
use tokio::time::{Instant, interval, timeout};

use super::demo::happening::Happening;
use super::demo::{Demo, region_address};
use crate::health::State;
use crate::model::Unix;
use crate::net::clock::Clock;
use crate::state::CheckStatus;
use view::View;

/// Clients on three continents: where, and an address there.
pub const CLIENTS: [(&str, &str); 3] =
    [("Germany", "84.128.0.1"), ("United States", "73.0.0.1"), ("India", "117.192.0.1")];

/// The region that breaks, which is the one that the first client is near.
const VICTIM: &str = "eu-west";

/// How often every client asks, and how often the view is drawn.
const BEAT: Duration = Duration::from_millis(50);

/// The drill gives up on a step after this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the drill sees at one beat.
struct Sight {
    now: Unix,
    checks: Vec<CheckStatus>,
    regions: Vec<(String, State)>,
    /// By client: where it is sent.
    sent: Vec<Option<IpAddr>>,
    /// What happened since the last beat.
    happenings: Vec<Happening>,
}

/// Plays the drill to its end and stops the demo.
///
/// # Errors
/// If a step does not happen in time, or DNS does not answer.
pub async fn play(demo: Demo) -> Result<()> {
    let played = match Drill::new(&demo).await {
        Ok(drill) => drill.run().await,
        Err(why) => Err(why),
    };
    demo.stop().await;
    played
}

struct Drill<'a> {
    demo: &'a Demo,
    socket: UdpSocket,
    happenings: broadcast::Receiver<Happening>,
    view: View,
}

impl<'a> Drill<'a> {
    async fn new(demo: &'a Demo) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(demo.node.dns_addresses[0]).await?;
        Ok(Self { demo, socket, happenings: demo.subscribe(), view: View::new() })
    }

    async fn run(mut self) -> Result<()> {
        for note in &self.demo.notes {
            println!("note: {note}");
        }
        let backend = self.backend().await?;
        println!();
        let region = self.region().await?;
        backend.print();
        region.print();
        println!(
            "\nDNS is asked every {} ms, so the times of changed answers are that coarse",
            BEAT.as_millis()
        );
        Ok(())
    }

    /// Observes at every beat until `done`.
    async fn until(&mut self, what: &str, mut done: impl FnMut(&Sight) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut beat = interval(BEAT);
        loop {
            beat.tick().await;
            let sight = self.observe().await?;
            let is_done = done(&sight);
            self.view.draw(what, &sight);
            if is_done {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("gave up after {} s of waiting until {what}", PATIENCE.as_secs());
            }
        }
    }

    async fn until_all_are_up(&mut self) -> Result<()> {
        self.until("every region is up", |sight| {
            sight.regions.iter().all(|(_, state)| *state == State::Up) && sight.is_home()
        })
        .await
    }

    async fn observe(&mut self) -> Result<Sight> {
        let mut sent = Vec::with_capacity(CLIENTS.len());
        for (_, client) in CLIENTS {
            sent.push(self.ask(client).await?);
        }
        let engine = &self.demo.node.engine;
        let snapshot = engine.snapshots.load_full();
        let names = snapshot.plan.topology.regions.iter().map(|region| region.name.clone());
        let states = snapshot.standing.regions.iter().map(|region| region.state);
        let regions = names.zip(states).collect();
        let checks = engine.checks().await?;
        let happenings = std::iter::from_fn(|| self.happenings.try_recv().ok()).collect();
        Ok(Sight { now: Clock::unix(), checks, regions, sent, happenings })
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
}

impl Sight {
    /// Whether the client that is near the victim is sent there.
    fn is_home(&self) -> bool {
        self.sent[0] == Some(region_address(VICTIM).into())
    }
}

/// Prints each step with its time from the break.
fn print_steps(broken: Option<Unix>, steps: &[(&str, Option<Unix>)]) {
    let start = broken.unwrap_or_default();
    for (what, at) in steps {
        match at {
            Some(at) if *at >= start => println!("  +{:7.3}  {what}", at.since(start).as_secs_f64()),
            Some(at) => println!("  -{:7.3}  {what}", start.since(*at).as_secs_f64()),
            None => println!("         –  {what}"),
        }
    }
}
