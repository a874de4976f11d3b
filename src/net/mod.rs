//! Sockets and their options, batched UDP, TLS, the clock.
//!
//! [`listen`] binds the sockets of listeners and says what to change when it cannot. [`exchange`] is what a DNS worker
//! needs of whatever carries datagrams, and [`udp`] is that for a socket: batches in, batches out, each answer from
//! the address that was asked. [`resolver`] asks resolvers for the addresses of hosts, [`tls`] knows which servers to
//! trust. [`limits`] raises the limit of open files, [`memory`] returns what compiling a plan has freed. Nothing here
//! answers DNS.

pub mod clock;
pub mod exchange;
pub mod limits;
pub mod listen;
pub mod memory;
pub mod resolver;
pub mod tls;
pub mod udp;
