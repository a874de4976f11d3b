//! Session tickets (RFC 5077; RFC 8446 §4.6.1) that every node with the same secret can open.
//!
//! ```text
//! ticket      = salt ‖ AES-256-GCM(key of the ticket, session)
//! key         = HKDF-SHA256(secret, window ‖ salt)
//! window      = seconds since 1970 / rotate
//! ```
//!
//! Keys are derived and not kept, so threads share nothing that changes. A ticket has a key of its own, so that no
//! nonce is ever used twice however many tickets nodes make in a window.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

use super::clock::Clock;
use crate::model::Unix;

/// A secret that tickets' keys are derived from.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

/// Makes tickets and opens them.
#[derive(Debug)]
pub struct Tickets {
    /// New ones are made with the first.
    secrets: Vec<Prk>,
    /// How long a key makes tickets, in seconds; at least 1.
    rotate: u64,
}

/// The bytes of the salt of a ticket; nobody draws the same 256 bits twice.
const SALT: usize = 32;

/// Tells these keys from others that could be derived from the same secret.
const LABEL: &[u8] = b"portolan session ticket 1";

impl Tickets {
    /// `current` makes tickets, and those of `other` are accepted, too.
    #[must_use]
    pub fn new(current: &Secret, other: Option<&Secret>, rotate: Duration) -> Self {
        let extract = |secret: &Secret| Salt::new(HKDF_SHA256, LABEL).extract(&secret.0);
        let secrets = [Some(current), other].into_iter().flatten().map(extract).collect();
        Self { secrets, rotate: rotate.as_secs().max(1) }
    }

    fn window(&self, now: Unix) -> u64 {
        now.0.as_secs() / self.rotate
    }

    fn seal(&self, session: &[u8], now: Unix) -> Option<Vec<u8>> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt).ok()?;
        let key = key(self.secrets.first()?, self.window(now), &salt)?;
        let mut ticket = Vec::with_capacity(SALT + session.len() + MAX_TAG_LEN);
        ticket.extend(salt);
        let mut sealed = session.to_vec();
        key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed).ok()?;
        ticket.append(&mut sealed);
        Some(ticket)
    }

    /// Opens tickets of this window, of the one before, and of the next, in which a node may be whose clock is ahead.
    fn open(&self, ticket: &[u8], now: Unix) -> Option<Vec<u8>> {
        let (salt, sealed) = ticket.split_at_checked(SALT)?;
        let current = self.window(now);
        let windows = [current, current.saturating_sub(1), current + 1];
        let keys = self.secrets.iter().flat_map(|secret| windows.map(|window| (secret, window)));
        keys.into_iter().find_map(|(secret, window)| {
            let key = key(secret, window, salt)?;
            let mut session = sealed.to_vec();
            let length = key.open_in_place(nonce(), Aad::empty(), &mut session).ok()?.len();
            session.truncate(length);
            Some(session)
        })
    }
}

/// Each key seals one ticket.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn key(secret: &Prk, window: u64, salt: &[u8]) -> Option<LessSafeKey> {
    let window = window.to_be_bytes();
    let info = [&window[..], salt];
    let derived = secret.expand(&info, &AES_256_GCM).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(derived)))
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.rotate.try_into().unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, Clock::unix())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, Clock::unix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> Unix {
        Unix(Duration::from_secs(seconds))
    }

    fn of(secret: u8) -> Tickets {
        Tickets::new(&Secret([secret; 32]), None, HOUR)
    }

    #[test]
    fn tickets_open_in_their_window_and_the_next_at_every_node_with_the_secret() {
        let ticket = of(1).seal(b"session", at(7200)).unwrap();
        for (now, opens) in [(3599, false), (3600, true), (7200, true), (14_399, true), (14_400, false)] {
            let expected = opens.then(|| b"session".to_vec());
            assert_eq!(of(1).open(&ticket, at(now)), expected, "at {now}");
        }
        assert_eq!(of(2).open(&ticket, at(7200)), None, "another secret");
        let both = Tickets::new(&Secret([2; 32]), Some(&Secret([1; 32])), HOUR);
        assert_eq!(both.open(&ticket, at(7200)).unwrap(), b"session");
        let new = both.seal(b"new", at(7200)).unwrap();
        assert_eq!(
            (of(1).open(&new, at(7200)), of(2).open(&new, at(7200)).unwrap()),
            (None, b"new".to_vec())
        );
    }

    #[test]
    fn no_two_tickets_are_the_same() {
        let tickets = of(1);
        assert_ne!(tickets.seal(b"session", at(0)), tickets.seal(b"session", at(0)));
    }

    #[test]
    fn what_was_changed_or_cut_does_not_open() {
        let ticket = of(1).seal(b"session", at(0)).unwrap();
        for length in 0..ticket.len() {
            assert_eq!(of(1).open(&ticket[..length], at(0)), None, "{length} bytes of it");
        }
        for index in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[index] ^= 1;
            assert_eq!(of(1).open(&changed, at(0)), None, "byte {index}");
        }
    }
}
