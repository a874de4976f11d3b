//! What the node still does for its operators and clients, and the report about it.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::Message;
use nix::unistd::Pid;
use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::flips::{INTERVAL, Withdrawal, bound};
use crate::harness::client::{outcome, query, with_id};
use crate::harness::http::Api;
use crate::harness::region::{GERMAN, Region};

/// Ordinary clients have a network of their own, which no stranger shares.
const ORDINARY: &str = "127.0.9.1:0";

/// After this time a reply counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(10);

const UDP_PACE: Duration = Duration::from_millis(10);
const TCP_PACE: Duration = Duration::from_millis(250);
const LIVEZ_PACE: Duration = Duration::from_millis(500);

/// The least share of the configured rate at which healthy regions are probed.
pub(super) const LEAST_RATE: f64 = 0.95;

/// Most memory that the process may ever have resident, in MiB: several times what it has without an attack.
pub(super) const MEMORY: u64 = 128;

/// Requests of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    sent: u64,
    lost: u64,
    wrong: u64,
    slowest: Duration,
}

impl Asked {
    /// Counts a request, whose reply is right or wrong, or did not come.
    fn count(&mut self, started: Instant, reply: Option<bool>) {
        self.sent += 1;
        match reply {
            None => self.lost += 1,
            Some(is_right) => {
                self.wrong += u64::from(!is_right);
                self.slowest = self.slowest.max(started.elapsed());
            }
        }
    }

    pub(super) fn is_perfect(self) -> bool {
        self.sent > 0 && self.lost == 0 && self.wrong == 0
    }
}

impl Display for Asked {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { sent, lost, wrong, slowest } = self;
        write!(
            f,
            "{sent} sent, {lost} lost, {wrong} wrong, the slowest reply after {} ms",
            slowest.as_millis()
        )
    }
}

/// Asks again and again until `end`, each time after the reply to the time before. `ask` says whether the reply was right.
async fn ask_until(end: Instant, pace: Duration, mut ask: impl AsyncFnMut(u16) -> io::Result<bool>) -> Asked {
    let mut asked = Asked::default();
    let mut turns = interval(pace);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < end {
        turns.tick().await;
        let started = Instant::now();
        let reply = timeout(LOST_AFTER, ask(asked.sent as u16)).await;
        asked.count(started, reply.ok().and_then(Result::ok));
    }
    asked
}

/// An ordinary query, and whether a message is its answer.
fn ordinary(id: u16) -> Vec<u8> {
    with_id(&query("www.example.test.", Some(GERMAN)), id)
}

fn is_right(reply: &Message, expected: &[IpAddr]) -> bool {
    matches!(&outcome(reply).1[..], [answer] if expected.contains(answer))
}

pub(super) async fn over_udp(dns: SocketAddr, expected: &[IpAddr], end: Instant) -> Asked {
    let socket = UdpSocket::bind(ORDINARY).await.expect("a free port");
    socket.connect(dns).await.expect("loopback");
    ask_until(end, UDP_PACE, async |id| {
        socket.send(&ordinary(id)).await?;
        loop {
            let mut bytes = [0; 4096];
            let length = socket.recv(&mut bytes).await?;
            let reply = Message::from_vec(&bytes[..length]).map_err(io::Error::other)?;
            // Others answer queries that count as lost already.
            if reply.metadata.id == id {
                return Ok(is_right(&reply, expected));
            }
        }
    })
    .await
}

/// Each query on a connection of its own.
pub(super) async fn over_tcp(dns: SocketAddr, expected: &[IpAddr], end: Instant) -> Asked {
    ask_until(end, TCP_PACE, async |id| {
        let socket = TcpSocket::new_v4()?;
        socket.bind(ORDINARY.parse().expect("an address"))?;
        let mut stream = socket.connect(dns).await?;
        let query = ordinary(id);
        stream.write_u16(query.len() as u16).await?;
        stream.write_all(&query).await?;
        let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut bytes).await?;
        Ok(is_right(&Message::from_vec(&bytes).map_err(io::Error::other)?, expected))
    })
    .await
}

/// Whether the node considers itself alive, asked at the socket.
pub(super) async fn livez(api: &Api, end: Instant) -> Asked {
    ask_until(end, LIVEZ_PACE, async |_| {
        let response = api.request(Method::GET, "/livez").send().await.map_err(io::Error::other)?;
        Ok(response.status() == 200)
    })
    .await
}

/// Counts the probes of the endpoints of a healthy region.
pub(super) struct Probed<'a> {
    name: &'static str,
    endpoints: &'a [Region],
    before: u64,
    since: Instant,
}

impl<'a> Probed<'a> {
    pub(super) fn start(name: &'static str, endpoints: &'a [Region]) -> Self {
        Self { name, endpoints, before: requests(endpoints), since: Instant::now() }
    }

    /// The share of the configured rate. An interval of which this saw only a part does not count.
    pub(super) fn rate(&self) -> (&'static str, f64) {
        let intervals = self.since.elapsed().div_duration_f64(INTERVAL).floor();
        let configured = intervals * self.endpoints.len() as f64;
        (self.name, (requests(self.endpoints) - self.before) as f64 / configured)
    }
}

fn requests(endpoints: &[Region]) -> u64 {
    endpoints.iter().map(Region::requests).sum()
}

/// The most memory that a process has had resident so far, in MiB.
pub(super) fn peak_memory(process: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux has it");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib.div_ceil(1024)
}

/// All that was measured.
pub(super) struct Report {
    pub(super) length: Duration,
    pub(super) attacks: Vec<(&'static str, u64)>,
    pub(super) rates: Vec<(&'static str, f64)>,
    pub(super) withdrawals: Vec<Withdrawal>,
    pub(super) udp: Asked,
    pub(super) tcp: Asked,
    pub(super) livez: Asked,
    pub(super) panics: u64,
    pub(super) memory: u64,
}

impl Report {
    /// Prints it, and fails the test unless every promise was kept.
    #[allow(clippy::print_stdout, reason = "it is for whoever runs the test")]
    pub(super) fn conclude(&self) {
        println!("{self}");
        for (what, count) in &self.attacks {
            assert!(*count > 0, "an attack that never succeeded shows nothing: {what}");
        }
        for (region, rate) in &self.rates {
            assert!(*rate >= LEAST_RATE, "{region} was probed at {:.1} % of its rate", rate * 100.0);
        }
        for it in &self.withdrawals {
            assert!(it.took <= bound(), "{it:?}");
        }
        for (what, asked) in [("UDP", self.udp), ("TCP", self.tcp), ("/livez", self.livez)] {
            assert!(asked.is_perfect(), "{what}: {asked}");
        }
        assert_eq!(self.panics, 0);
        assert!(self.memory <= MEMORY, "{} MiB", self.memory);
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "after {} s of torture:", self.length.as_secs())?;
        for (what, count) in &self.attacks {
            writeln!(f, "  {count:>7} × {what}")?;
        }
        for (region, rate) in &self.rates {
            writeln!(f, "region {region}: probed at {:.1} % of its rate", rate * 100.0)?;
        }
        let bound = bound().as_secs_f64();
        for Withdrawal { region, how, took } in &self.withdrawals {
            let took = took.as_secs_f64();
            writeln!(
                f,
                "region {region}: withdrawn {took:.1} s after it broke ({how:?}); the bound is {bound:.1} s"
            )?;
        }
        writeln!(f, "queries over UDP: {}", self.udp)?;
        writeln!(f, "queries over TCP: {}", self.tcp)?;
        writeln!(f, "requests for /livez: {}", self.livez)?;
        writeln!(f, "queries whose answer panicked: {}", self.panics)?;
        write!(f, "most memory resident: {} MiB; the bound is {MEMORY} MiB", self.memory)
    }
}
