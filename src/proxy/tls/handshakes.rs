//! How the handshakes with the clients of a listener end.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rustls::{Error, HandshakeKind, ProtocolVersion, ServerConnection};

/// How one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// A connection over this version.
    Completed {
        /// TLS 1.3; otherwise TLS 1.2.
        is_newest: bool,
        /// Whether it continued an earlier session.
        is_resumed: bool,
    },
    /// No connection.
    Failed(Reason),
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// It took too long.
    Timeout,
    /// The client closed the connection.
    Closed,
    /// The client has no certificate that it must have, or one that is not valid.
    Certificate,
    /// The client refused to go on: often it does not trust the server's certificate.
    Alert,
    /// What the client sent is not TLS, or not a version or algorithm that is spoken here.
    Protocol,
}

impl Reason {
    const ALL: [(Self, &str); 5] = [
        (Self::Timeout, "timeout"),
        (Self::Closed, "closed"),
        (Self::Certificate, "client_certificate"),
        (Self::Alert, "alert"),
        (Self::Protocol, "protocol"),
    ];

    fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => Self::Certificate,
            Some(Error::AlertReceived(_)) => Self::Alert,
            Some(_) => Self::Protocol,
            None if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            None => Self::Closed,
        }
    }
}

impl Ended {
    pub(super) fn of(finished: Result<&ServerConnection, &io::Error>) -> Self {
        match finished {
            Ok(connection) => Self::Completed {
                is_newest: connection.protocol_version() == Some(ProtocolVersion::TLSv1_3),
                is_resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            },
            Err(error) => Self::Failed(Reason::of(error)),
        }
    }
}

/// The handshakes of a listener since the start.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Handshakes {
    /// By version, the older first, and whether they resumed a session.
    completed: [[AtomicU64; 2]; 2],
    /// In the order of [`Reason::ALL`].
    failed: [AtomicU64; Reason::ALL.len()],
}

impl Handshakes {
    pub(super) fn count(&self, ended: &Ended) {
        let counter = match ended {
            Ended::Completed { is_newest, is_resumed } => {
                Some(&self.completed[usize::from(*is_newest)][usize::from(*is_resumed)])
            }
            Ended::Failed(reason) => {
                let index = Reason::ALL.iter().position(|(it, _)| it == reason);
                index.and_then(|index| self.failed.get(index))
            }
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// The labels `version` and `resumed`, and how many were completed.
    pub(in crate::proxy) fn completed(
        &self,
    ) -> impl Iterator<Item = ([(&'static str, &'static str); 2], u64)> {
        let versions = ["1.2", "1.3"].into_iter().zip(&self.completed);
        versions.flat_map(|(version, counts)| {
            ["false", "true"].into_iter().zip(counts).map(move |(resumed, count)| {
                ([("version", version), ("resumed", resumed)], count.load(Relaxed))
            })
        })
    }

    /// The label `reason`, and how many failed.
    pub(in crate::proxy) fn failed(&self) -> impl Iterator<Item = ((&'static str, &'static str), u64)> {
        Reason::ALL
            .iter()
            .zip(&self.failed)
            .map(|((_, name), count)| (("reason", *name), count.load(Relaxed)))
    }
}
