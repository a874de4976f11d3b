//! Sockets and their options, batched UDP, TLS.

pub mod tls;
