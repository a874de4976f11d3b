//! Sockets and their options, batched UDP, TLS.
//!
//! [`listen`] binds the sockets of a DNS listener, all of one address or none; its errors say what to change.
//! [`udp`] receives and sends datagrams in batches, each answer from the address that was asked. [`resolver`] looks
//! up the addresses of hosts, [`tls`] configures TLS clients, [`limits`] raises the limit of open files, [`memory`]
//! returns freed memory to the system. Nothing here answers DNS.

pub mod limits;
pub mod listen;
pub mod memory;
pub mod resolver;
pub mod tls;
pub mod udp;
