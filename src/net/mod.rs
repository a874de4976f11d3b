//! Sockets and their options, batched UDP, TLS, the clock.
//!
//! [`listen`] binds the sockets of a DNS listener, all of one address or none, and says in words what to change
//! when it cannot. [`udp`] receives and sends datagrams in batches, each answer from the address that was
//! asked. [`resolver`] asks resolvers for the addresses of hosts. [`limits`] raises the limit of open files, [`memory`] gives back what compiling a plan has freed.
//! [`tls`] knows whom TLS clients trust. Nothing here answers DNS.

pub mod clock;
pub mod limits;
pub mod listen;
pub mod memory;
pub mod resolver;
pub mod tls;
pub mod udp;
