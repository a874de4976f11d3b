//! Datagrams in batches, over any transport.
//!
//! ```text
//! receive ──▶ query(0), query(1), … ──▶ answer(0, …), answer(1, …) ──▶ flush
//! ```

use std::io;
use std::net::SocketAddr;

/// Where datagrams come from and their answers go. Each answer leaves from the address that was asked.
pub trait Exchange {
    /// Receives a batch, which replaces the last one, and returns its size: 0 if nothing arrived.
    ///
    /// # Errors
    /// If receiving fails, other than by a timeout or a signal.
    fn receive(&mut self, wait: Wait) -> io::Result<usize>;

    /// A datagram of the batch.
    ///
    /// # Panics
    /// If `index` is not below what [`receive`](Self::receive) returned.
    fn query(&self, index: usize) -> Datagram<'_>;

    /// Takes an answer to a datagram of the batch, to be sent by [`flush`](Self::flush); each datagram has at most one.
    /// `bytes` is left with the memory of an earlier answer, for the next one.
    ///
    /// # Panics
    /// If `index` is not below what [`receive`](Self::receive) returned.
    fn answer(&mut self, index: usize, bytes: &mut Vec<u8>);

    /// Sends the answers taken. Returns how many of them could not be sent; these are dropped.
    fn flush(&mut self) -> usize;
}

/// How long to wait for the first datagram of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A tenth of a second or so: the longest that a worker needs to notice that it should stop.
    Patiently,
    /// Only what is queued already.
    Not,
}

/// A datagram received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Its payload; one that is too long to be a valid query may be cut.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub peer: SocketAddr,
    /// The address that it was sent to.
    pub local: SocketAddr,
}
