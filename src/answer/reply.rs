//! The reply, and the buffers that are reused from query to query to avoid allocations.

use std::net::{IpAddr, Ipv4Addr};

use super::asker::Client;
use super::rate_limit::Limiter;
use crate::pick::Hash;
use crate::steer::Host;
use crate::wire::{LowerName, MAX_UDP_PAYLOAD};

/// The reply and the buffers needed to make it. One per worker.
#[derive(Debug)]
pub struct Reply {
    /// The message to send, after [`Outcome::Answered`](super::Outcome::Answered).
    pub bytes: Vec<u8>,
    /// The client that it is for, after an answer that is [`Dynamic`](super::AnswerKind::Dynamic).
    pub client: Client,
    pub(super) scratch: Scratch,
    /// Made once it is needed: most servers never limit, and TCP is not limited.
    limiter: Option<Limiter>,
    seed: Hash,
    /// Numbers drawn so far.
    drawn: u64,
}

/// The buffers for one query.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) hosts: Vec<Host>,
    pub(super) rdata: Vec<u8>,
    /// The names that aliases led through.
    pub(super) seen: Vec<LowerName>,
}

impl Reply {
    /// A reply whose draws for `share = "random"` follow from `seed`: seed each worker differently.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let bytes = Vec::with_capacity(usize::from(MAX_UDP_PAYLOAD));
        let client = Client { address: Ipv4Addr::UNSPECIFIED.into(), subnet: None };
        Self { bytes, client, scratch: Scratch::default(), limiter: None, seed: Hash(seed), drawn: 0 }
    }

    pub(super) fn limiter(&mut self) -> &mut Limiter {
        let seed = self.seed;
        self.limiter.get_or_insert_with(|| Limiter::new(seed))
    }

    /// The next random number.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        self.seed.with(self.drawn).0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Reply;

    #[test]
    fn draws_follow_from_the_seed_and_do_not_repeat() {
        let drawn = |seed| {
            let mut reply = Reply::new(seed);
            std::iter::repeat_with(move || reply.draw()).take(1000).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        let all: HashSet<_> = drawn(1).into_iter().chain(drawn(2)).collect();
        assert_eq!(all.len(), 2000);
    }
}
