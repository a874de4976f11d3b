//! Datagrams in batches, whatever carries them.
//!
//! ```text
//! receive ──▶ query(0), query(1), … ──▶ answer(0, …), answer(1, …) ──▶ flush
//! ```

use std::io;
use std::net::SocketAddr;

/// Where datagrams come from and their answers go. Each answer leaves from the address that was asked.
pub trait Exchange {
    /// Receives a batch in place of the last one and returns its size: 0 if nothing came.
    ///
    /// # Errors
    /// If receiving fails, other than because nothing came or a signal did.
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

    /// Sends the answers taken. Returns how many of them could not be sent; they are gone.
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
    /// Its payload; what is longer than anything answered may be cut.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub peer: SocketAddr,
    /// The address that it was sent to.
    pub local: SocketAddr,
}
