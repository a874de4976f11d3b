//! DNS over TCP (RFC 7766): many queries on one connection, answered in the order they came.
//!
//! All queries that have arrived are answered in one write. Nothing is read during a write, so a client that does not
//! read occupies [`COALESCE`] bytes and one answer, until the write times out. The idle time
//! restarts with each whole query, never with a part of one, so nobody stays connected by trickling bytes.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::connections::{Admission, Connections, Quota, Room};
use super::counters::{Block, Totals};
use super::proxied;
use super::responder::{Handler, Reaction, Responder};
use crate::answer::{Arrival, Transport};
use crate::model::TcpLimits;
use crate::net::limits::Occupant;
use crate::net::record_log::Queue;
use crate::supervise::fault::{self, At};
use crate::supervise::{BEAT, Part};

/// How long a client may take to accept the answers of one write.
const WRITE: Duration = Duration::from_secs(5);

/// How long queries are still answered that are on their way when the server stops.
const GRACE: Duration = Duration::from_millis(100);

/// The share of all connections that one client prefix may have, unless the config says otherwise: few enough that
/// nobody fills the server alone, enough for a farm of resolvers.
const PREFIX_SHARE: usize = 4;

/// Bytes of answers above which they are written before more queries are answered.
pub(super) const COALESCE: usize = 16 << 10;

/// Writes of a connection after which others get their turn. A client whose next queries are always there would keep its
/// thread for tens of milliseconds, so a hundred of them would make everyone else wait for seconds.
pub(super) const WRITES: u32 = 4;

/// Room made for each read.
pub(super) const READ: usize = 2 << 10;

/// Pause after a failed accept: the one persistent cause is the lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The limits of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) idle: Duration,
    pub(super) write: Duration,
    pub(super) grace: Duration,
    pub(super) quota: Quota,
}

impl Limits {
    /// The limits of a config where there are file descriptors for so many connections.
    pub(super) fn of(config: &TcpLimits, descriptors: usize) -> Self {
        let wanted = config.connections.unwrap_or(TcpLimits::USUAL_CONNECTIONS);
        let total = wanted.min(descriptors);
        if config.connections.is_some() && total < wanted {
            tracing::warn!(
                wanted,
                connections = total,
                "the limit of open files allows fewer TCP connections than [dns] tcp: raise LimitNOFILE"
            );
        }
        let per_prefix = config.per_prefix.unwrap_or_else(|| total.div_ceil(PREFIX_SHARE));
        Self { idle: config.idle, write: WRITE, grace: GRACE, quota: Quota { total, per_prefix } }
    }
}

/// A listener with all that its connections need.
pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    pub(super) shared: Shared,
    pub(super) handler: Handler,
    pub(super) limits: Limits,
    pub(super) connections: Arc<Connections>,
    pub(super) query_log: Queue,
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Beats whenever a listener or a connection runs. A flood of queries may keep the listener itself waiting, and that must
    /// not end the process, and UDP with it.
    pub(super) runtime: Arc<Part>,
}

impl Acceptor {
    /// Accepts until the server closes.
    pub(super) async fn run(self) {
        let block = self.shared.counters.block();
        let _part = self.shared.supervisor.part("a TCP listener");
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            fault::point(At::TcpListener);
            self.runtime.beat();
            let accepted = tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                accepted = self.listener.accept() => accepted,
                _ = beats.tick() => continue,
            };
            match accepted {
                Ok((stream, peer)) => self.accept(stream, peer, &block),
                // The client left before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "accepting TCP connections failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn accept(&self, stream: TcpStream, peer: SocketAddr, block: &Arc<Block>) {
        let snapshot = self.shared.snapshots.load();
        let origin = if snapshot.plan.proxies.contain(peer.ip()) { Origin::Proxy } else { Origin::Client };
        // A client that may not ask takes no other's place.
        if origin == Origin::Client && !snapshot.plan.allow.permit(peer.ip()) {
            block.add(&Totals { denied: 1, ..Totals::default() });
            return;
        }
        let (admission, room) = match origin {
            Origin::Client => self.connections.admit(peer.ip()),
            Origin::Proxy => self.connections.admit_unnamed(),
        };
        count_evicted(room, block);
        let connection = Connection {
            stream,
            peer,
            origin,
            block: Arc::clone(block),
            _occupant: self.shared.counters.tcp_connections.enter(),
            shared: self.shared.clone(),
            handler: self.handler,
            limits: self.limits,
            query_log: self.query_log.clone(),
            closing: self.closing.clone(),
        };
        let runtime = Arc::clone(&self.runtime);
        self.tasks.spawn(async move {
            let mut served = pin!(connection.run(admission));
            let beating = poll_fn(|context| {
                runtime.beat();
                served.as_mut().poll(context)
            });
            beating.await;
        });
    }
}

fn count_evicted(room: Room, block: &Block) {
    if room == Room::Made {
        block.add(&Totals { evicted: 1, ..Totals::default() });
    }
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Client,
    /// A proxy, whose header names the client.
    Proxy,
}

/// An accepted connection.
struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    origin: Origin,
    block: Arc<Block>,
    shared: Shared,
    handler: Handler,
    limits: Limits,
    query_log: Queue,
    closing: CancellationToken,
    _occupant: Occupant,
}

impl Connection {
    async fn run(self, mut admission: Admission) {
        let (peer, origin, evicted) = (self.peer, self.origin, admission.evicted.clone());
        let mut client = peer;
        let served = tokio::select! {
            served = self.serve(&mut admission, &mut client) => served,
            () = evicted.cancelled() => Ok(()),
        };
        if let Err(error) = served {
            let proxy = (origin == Origin::Proxy).then(|| tracing::field::display(peer));
            tracing::debug!(%client, proxy, %error, "TCP connection ended");
        }
    }

    async fn serve(mut self, admission: &mut Admission, client: &mut SocketAddr) -> io::Result<()> {
        // Answers are written whole, so waiting would not fill segments better.
        self.stream.set_nodelay(true)?;
        let mut received = Vec::new();
        if self.origin == Origin::Proxy {
            let Some(named) = self.named_client(&mut received, admission).await? else { return Ok(()) };
            *client = named;
        }
        let arrival = Arrival {
            peer: *client,
            local: self.stream.local_addr()?,
            transport: Transport::Tcp,
            encrypted: false,
            keepalive: Some(self.limits.idle),
        };
        let responder = Responder::sharing(Arc::clone(&self.block), &self.shared, self.handler);
        let responder = responder.recording_to(&self.query_log);
        serve(&mut self.stream, received, arrival, responder, self.limits, admission, &self.closing).await
    }

    /// Reads the PROXY header and admits the client that it names; `None` if the connection is to be closed.
    async fn named_client(
        &mut self,
        received: &mut Vec<u8>,
        admission: &mut Admission,
    ) -> io::Result<Option<SocketAddr>> {
        let named = proxied::read_header(&mut self.stream, received, self.limits, &self.closing).await;
        let header = match named {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(None),
            Err(error) => {
                self.block.add(&Totals { unnamed: 1, ..Totals::default() });
                return Err(error);
            }
        };
        let client = header.client.unwrap_or(self.peer);
        if !self.shared.snapshots.load().plan.allow.permit(client.ip()) {
            self.block.add(&Totals { denied: 1, ..Totals::default() });
            return Ok(None);
        }
        count_evicted(admission.attribute(client.ip()), &self.block);
        Ok(Some(client))
    }
}

/// Why answering has paused.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// Enough answers for one write; more queries are there.
    Full,
    /// No whole query is left.
    Starved,
    /// The last message gets no answer: it is not a query, so what follows is not to be trusted either.
    Lost,
}

/// Serves one connection to its end: the client's, the idle time's, or the server's. `queries` is what has been read of
/// it already.
pub(super) async fn serve<S>(
    mut stream: S,
    mut queries: Vec<u8>,
    arrival: Arrival,
    mut responder: Responder,
    limits: Limits,
    admission: &mut Admission,
    closing: &CancellationToken,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut answers = Vec::new();
    let mut writes: u32 = 0;
    let mut is_closing = false;
    let mut deadline = Instant::now() + limits.idle;
    loop {
        let progress = answer_all(&mut queries, &mut answers, &mut responder, arrival);
        if !answers.is_empty() {
            timeout(limits.write, stream.write_all(&answers)).await??;
            answers.clear();
            admission.touch();
            writes = writes.wrapping_add(1);
            if writes.is_multiple_of(WRITES) {
                yield_now().await;
            }
            if !is_closing {
                deadline = Instant::now() + limits.idle;
            }
        }
        match progress {
            Progress::Full => continue,
            Progress::Lost => break,
            Progress::Starved => queries.reserve(READ),
        }
        responder.flush();
        // A stream that always has something to read would never let the timer below fire.
        if Instant::now() >= deadline {
            break;
        }
        let read = tokio::select! {
            biased;
            () = closing.cancelled(), if !is_closing => {
                is_closing = true;
                deadline = Instant::now() + limits.grace;
                continue;
            }
            read = timeout_at(deadline, stream.read_buf(&mut queries)) => read,
        };
        match read {
            Err(_) | Ok(Ok(0)) => break,
            Ok(read) => read?,
        };
    }
    timeout(limits.write, stream.shutdown()).await?
}

/// Removes whole queries from the front and appends their answers, framed.
fn answer_all(
    queries: &mut Vec<u8>,
    answers: &mut Vec<u8>,
    responder: &mut Responder,
    arrival: Arrival,
) -> Progress {
    let Some(mut next) = frame(queries) else {
        return Progress::Starved;
    };
    let mut batch = responder.batch();
    let mut taken = 0;
    let progress = loop {
        taken += 2 + next.len();
        let answer = match batch.answer(next, arrival) {
            Reaction::Reply(answer) => answer,
            Reaction::Ignore => break Progress::Lost,
        };
        let Ok(length) = u16::try_from(answer.len()) else {
            break Progress::Lost;
        };
        answers.extend_from_slice(&length.to_be_bytes());
        answers.extend_from_slice(answer);
        next = match frame(&queries[taken..]) {
            None => break Progress::Starved,
            Some(_) if answers.len() >= COALESCE => break Progress::Full,
            Some(next) => next,
        };
    };
    queries.drain(..taken);
    progress
}

/// The first message, if all of it is there: a length in two bytes, then so many (RFC 1035 §4.2.2).
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}
