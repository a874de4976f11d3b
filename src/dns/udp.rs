//! A UDP worker: receive a batch, answer it, send it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::respond::Responder;
use crate::answer::{Arrival, Transport};
use crate::net::udp::{Datagram, Exchange, Wait};

/// Batches answered after the stop signal: more than a receive buffer holds, so that what was queued by then is
/// answered, and yet an end.
const BATCHES_TO_DRAIN: usize = 256;

/// Pause after an error of the socket itself, so that one that persists does not burn a core.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Answers until told to stop, then what is queued.
pub(super) fn run(socket: UdpSocket, address: SocketAddr, mut responder: Responder, stopping: &AtomicBool) {
    let mut exchange = Exchange::new(socket, address);
    while !stopping.load(Ordering::Relaxed) {
        serve(&mut exchange, &mut responder, Wait::Patiently);
    }
    for _ in 0..BATCHES_TO_DRAIN {
        if serve(&mut exchange, &mut responder, Wait::Not) == 0 {
            break;
        }
    }
}

/// Serves one batch and returns its size.
fn serve(exchange: &mut Exchange, responder: &mut Responder, wait: Wait) -> usize {
    let count = match exchange.receive(wait) {
        Ok(0) => return 0,
        Ok(count) => count,
        Err(error) => {
            tracing::warn!(%error, "receiving datagrams failed");
            thread::sleep(ERROR_PAUSE);
            return 0;
        }
    };
    let mut turn = responder.turn();
    for index in 0..count {
        let Datagram { bytes, peer, local } = exchange.query(index);
        let arrival = Arrival { peer, local, transport: Transport::Udp, encrypted: false, keepalive: None };
        if let Some(answer) = turn.answer(bytes, arrival) {
            exchange.answer(index, answer);
        }
    }
    turn.unsent(exchange.flush());
    count
}
