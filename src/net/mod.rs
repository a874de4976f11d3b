//! Sockets and their options, batched UDP, TLS, the clock.
//!
//! [`listen`] binds the sockets of listeners and reports what to change when it cannot. [`exchange`] is the transport
//! that a DNS worker needs, and [`udp`] implements it for a socket: batches in, batches out, each answer from the
//! address that was asked. [`resolver`] asks resolvers for the addresses of hosts, [`tls`] knows which servers to
//! trust, [`server_tls`] makes a server, [`certificates`] chooses the certificate for a client, [`tickets`] resume
//! sessions. [`proxy_header`] reads how a proxy passes on its client's address. [`limits`] raises the limit of open files
//! and shares them out, [`memory`] returns freed memory to the system. [`tcp_options`] sets options of TCP sockets,
//! [`netstat`] reads what the kernel counts, [`handshakes`] keeps how far away clients are. [`record_log`] writes logs of
//! queries and requests that nobody waits for. Nothing here answers DNS.

pub mod certificates;
pub mod clock;
pub mod exchange;
pub mod handshakes;
pub mod limits;
pub mod listen;
pub mod managed;
pub mod memory;
pub mod netstat;
pub mod proxy_header;
pub mod random;
pub mod record_log;
pub mod resolver;
pub mod server_tls;
pub mod tcp_options;
pub mod tickets;
pub mod tls;
pub mod udp;
