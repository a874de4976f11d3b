//! A UDP worker: receive a batch, answer it, send it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::responder::{Reaction, Responder};
use crate::answer::{Arrival, Transport};
use crate::net::exchange::{Datagram, Exchange, Wait};
use crate::net::udp::answers_anything;
use crate::supervise::Part;
use crate::supervise::fault::{self, At};

/// Batches answered after the stop signal: more than a receive buffer holds, so everything queued by then is answered,
/// yet the worker ends.
pub(super) const BATCHES_TO_DRAIN: usize = 256;

/// Pause after an error of the socket itself, so that one that persists does not burn a core.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Answers until `stopping` is set, then what is still queued.
pub(super) fn run(
    exchange: &mut impl Exchange,
    mut responder: Responder,
    stopping: &AtomicBool,
    part: &Part,
) {
    while !stopping.load(Ordering::Relaxed) {
        fault::point(At::UdpWorker);
        part.beat();
        if serve(exchange, &mut responder, Wait::Patiently) == 0 {
            responder.flush();
        }
    }
    for _ in 0..BATCHES_TO_DRAIN {
        if serve(exchange, &mut responder, Wait::Not) == 0 {
            break;
        }
    }
}

/// Serves one batch and returns its size.
fn serve(exchange: &mut impl Exchange, responder: &mut Responder, wait: Wait) -> usize {
    let count = match exchange.receive(wait) {
        Ok(0) => return 0,
        Ok(count) => count,
        Err(error) => {
            tracing::warn!(%error, "receiving datagrams failed");
            thread::sleep(ERROR_PAUSE);
            return 0;
        }
    };
    let mut batch = responder.batch();
    for index in 0..count {
        let Datagram { bytes, peer, local } = exchange.query(index);
        if answers_anything(peer.port()) {
            batch.reflection();
            continue;
        }
        let arrival = Arrival { peer, local, transport: Transport::Udp, encrypted: false, keepalive: None };
        match batch.answer(bytes, arrival) {
            Reaction::Reply(answer) => exchange.answer(index, answer),
            Reaction::Ignore => {}
        }
    }
    batch.unsent(exchange.flush());
    count
}
