//! Response rate limiting: a stranger who sends queries in the name of a victim does not get the victim more bytes than
//! it sent itself.
//!
//! Responses over UDP are counted by the client's prefix and by what they are about, since an attacker repeats few
//! questions and resolvers cache the answers. Each prefix has a token bucket that holds one second of responses and may
//! be overdrawn by up to [`RateLimit::window`]. While it is overdrawn, responses are dropped, or replaced by short ones: TC without data, which takes a real client to TCP, or BADCOOKIE for a
//! client that sent a cookie, which then gets its answer by returning the new one. Clients whose server cookie is valid
//! are not limited.

use std::net::IpAddr;
use std::time::Duration;

use super::{AnswerKind, Outcome};
use crate::model::{RateLimit, Unix};
use crate::pick::Hash;
use crate::wire::{LowerName, Question, ResponseCode, Writer};
use crate::zone::Found;

/// Accounts of one worker: 1 MiB, whatever is asked and by whom. A power of two.
const ACCOUNTS: usize = 1 << 16;

/// Accounts that a key may be in: those of one cache line.
const WAYS: usize = 4;

/// How much credit a prefix may have: responses of one second.
const MOST_CREDIT: Duration = Duration::from_secs(1);

/// What a response is about. Responses about the same share a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    class: Class,
    name: Hash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// A name that exists.
    Name,
    /// Names below this one: synthesised from a wildcard, or renamed by a DNAME.
    Below,
    /// The name servers of this zone below.
    Referral,
    /// Names that this zone does not have.
    NoName,
    /// Any error.
    Error,
    /// Anything.
    All,
}

/// What becomes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is sent.
    Send,
    /// A short one is sent instead.
    Slip,
    /// Nothing is sent.
    Drop,
}

/// Counts the responses of one worker.
#[derive(Debug)]
pub(super) struct Limiter {
    sets: Box<[Set]>,
    seed: Hash,
    /// Time that has passed, without the steps by which the wall clock went back.
    clock: Duration,
    last: Unix,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Set([Account; WAYS]);

/// The responses about one subject to one prefix. Default: nobody's, with all credit.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// When the debt is paid, in microseconds of `Limiter::clock`; credit is what lies between that and now.
    paid_at: u64,
    tag: u32,
    /// Responses beyond the limit, for `RateLimit::slip`.
    exceeded: u32,
}

impl Subject {
    /// Errors, which are all alike.
    pub(super) const ERROR: Self = Self { class: Class::Error, name: Hash(0) };

    const ALL: Self = Self { class: Class::All, name: Hash(0) };

    /// What the response to a question will be about, given what was found for its name.
    pub(super) fn of(question: &Question<'_>, found: &Found<'_>) -> Self {
        let name = question.name();
        let (class, name) = match *found {
            Found::Outside => return Self::ERROR,
            Found::Node { .. } => (Class::Name, name),
            Found::Wildcard { encloser, .. } => (Class::Below, &name[encloser..]),
            Found::Dname { offset, .. } => (Class::Below, &name[offset..]),
            Found::Delegation { offset, .. } => (Class::Referral, &name[offset..]),
            Found::NoName { zone } | Found::Undelegated { zone } => (Class::NoName, zone.origin.as_wire()),
        };
        Self { class, name: LowerName::of(name).map_or(Hash(0), |name| Hash::of(name.as_wire())) }
    }
}

impl Limiter {
    pub(super) fn new(seed: Hash) -> Self {
        let sets = vec![Set::default(); ACCOUNTS / WAYS].into();
        // Accounts that are nobody's have all credit.
        Self { sets, seed, clock: MOST_CREDIT, last: Unix::default() }
    }

    /// Counts a response to a client.
    pub(super) fn count(
        &mut self,
        limit: &RateLimit,
        client: IpAddr,
        subject: Subject,
        now: Unix,
    ) -> Verdict {
        // A wall clock that goes back stops this one, which keeps everyone's debt as it is.
        self.clock = self.clock.saturating_add(now.since(self.last));
        self.last = now;
        let client = client.to_canonical();
        let prefix = self.prefix(limit, client);
        let per_second = match subject.class {
            Class::Error => limit.errors_per_second,
            _ => limit.responses_per_second,
        };
        let one = self.charge(limit, prefix, subject, per_second);
        let all = limit.all_per_second.and_then(|most| self.charge(limit, prefix, Subject::ALL, most));
        let Some(exceeded) = one.or(all) else { return Verdict::Send };
        match limit.slip {
            _ if limit.exempts(client) => Verdict::Send,
            0 => Verdict::Drop,
            // TC and BADCOOKIE would hide the error.
            _ if subject.class == Class::Error => Verdict::Drop,
            slip if exceeded.is_multiple_of(slip) => Verdict::Slip,
            _ => Verdict::Drop,
        }
    }

    fn prefix(&self, limit: &RateLimit, client: IpAddr) -> Hash {
        let bits = u32::from(limit.prefix.bits(client));
        let (family, address, unused) = match client {
            IpAddr::V4(address) => (4, u128::from(address.to_bits()), 32 - bits),
            IpAddr::V6(address) => (6, address.to_bits(), 128 - bits),
        };
        let prefix = address.checked_shr(unused).unwrap_or(0);
        self.seed.with(family).with((prefix >> 64) as u64).with(prefix as u64)
    }

    /// Charges a response to an account. `None` while it has credit, otherwise how often it had none.
    fn charge(&mut self, limit: &RateLimit, prefix: Hash, subject: Subject, per_second: u32) -> Option<u32> {
        let now = self.clock.as_micros() as u64;
        let Hash(key) = prefix.with(subject.class as u64).with(subject.name.0);
        let account = self.account(key);
        let start = now.saturating_sub(MOST_CREDIT.as_micros() as u64);
        let cost = MOST_CREDIT.as_micros() as u64 / u64::from(per_second.max(1));
        let paid_at = account.paid_at.max(start).saturating_add(cost);
        account.paid_at = paid_at.min(now.saturating_add(limit.window.as_micros() as u64));
        if paid_at <= now {
            account.exceeded = 0;
            return None;
        }
        account.exceeded = account.exceeded.wrapping_add(1);
        Some(account.exceeded)
    }

    /// The account of a key; if it has none, it takes over that of its set with the most credit.
    fn account(&mut self, key: u64) -> &mut Account {
        let tag = (key >> 32) as u32;
        let Set(accounts) = &mut self.sets[key as usize % (ACCOUNTS / WAYS)];
        let known = accounts.iter().position(|account| account.tag == tag);
        let at = known.unwrap_or_else(|| {
            let richest = (0..WAYS).min_by_key(|at| accounts[*at].paid_at).unwrap_or(0);
            accounts[richest] = Account { tag, ..Account::default() };
            richest
        });
        &mut accounts[at]
    }
}

/// Completes the reply that is sent instead of one beyond the limit: never longer than the query, but for a cookie.
pub(super) fn slip(mut writer: Writer<'_>, sent_cookie: bool) -> Outcome {
    let rcode = if sent_cookie { ResponseCode::BADCOOKIE } else { ResponseCode::NoError };
    if !sent_cookie {
        writer.truncate();
    }
    writer.finish(rcode, false, 0);
    Outcome::Answered { rcode: rcode.into(), kind: AnswerKind::Slipped, truncated: !sent_cookie }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KeyPrefix;

    fn name(number: u64) -> Subject {
        Subject { class: Class::Name, name: Hash(number) }
    }

    fn limit(per_second: u32) -> RateLimit {
        RateLimit { responses_per_second: per_second, errors_per_second: per_second, ..RateLimit::default() }
    }

    fn at(millis: u64) -> Unix {
        Unix(Duration::from_secs(1_700_000_000) + Duration::from_millis(millis))
    }

    /// How many of so many responses at one time are sent.
    fn sent(
        limiter: &mut Limiter,
        limit: &RateLimit,
        client: &str,
        subject: Subject,
        now: Unix,
        n: u32,
    ) -> u32 {
        let client = client.parse().unwrap();
        let verdicts = (0..n).map(|_| limiter.count(limit, client, subject, now));
        verdicts.filter(|verdict| *verdict == Verdict::Send).count() as u32
    }

    #[test]
    fn a_prefix_gets_the_responses_of_one_second_at_once_and_then_so_many_per_second() {
        for per_second in [1, 3, 7, 20, 1000] {
            let limit = limit(per_second);
            let mut limiter = Limiter::new(Hash(1));
            let mut ask = |now, n| sent(&mut limiter, &limit, "192.0.2.1", name(1), at(now), n);
            assert_eq!(ask(0, per_second), per_second);
            assert_eq!(ask(0, 1), 0, "{per_second}");
            // Quiet for more than a second: that and the one response too many are forgiven, but no more is saved up.
            assert_eq!(ask(10_000, per_second + 1), per_second);
        }
    }

    #[test]
    fn a_flood_gets_nothing_and_ends_a_window_after_its_last_query() {
        let limit = limit(10);
        let mut limiter = Limiter::new(Hash(1));
        let mut ask = |now, n| sent(&mut limiter, &limit, "192.0.2.1", name(1), at(now), n);
        assert_eq!(ask(0, 1_000_000), 10);
        for second in 1..100 {
            assert_eq!(ask(second * 1000, 10_000), 0);
        }
        // The debt is the window of 15 s. Each response also costs 0.1 s, sent or not.
        assert_eq!(ask(99_000 + 15_000, 1), 0);
        assert_eq!(ask(99_000 + 15_200, 1), 1);
    }

    #[test]
    fn prefixes_are_limited_each_by_itself() {
        let limit = RateLimit { prefix: KeyPrefix { v4: 24, v6: 56 }, ..limit(5) };
        let mut limiter = Limiter::new(Hash(1));
        let mut ask = |client, n| sent(&mut limiter, &limit, client, name(1), at(0), n);
        assert_eq!(ask("192.0.2.1", 100), 5);
        assert_eq!(ask("192.0.2.254", 100), 0, "the same /24");
        assert_eq!(ask("::ffff:192.0.2.7", 100), 0, "the same, mapped to IPv6");
        assert_eq!(ask("192.0.3.1", 100), 5);
        assert_eq!(ask("2001:db8:0:100::1", 100), 5);
        assert_eq!(ask("2001:db8:0:1ff::1", 100), 0, "the same /56");
        assert_eq!(ask("2001:db8:0:200::1", 100), 5);
        let everyone = RateLimit { prefix: KeyPrefix { v4: 0, v6: 0 }, ..limit };
        let mut limiter = Limiter::new(Hash(1));
        let mut ask = |client, n| sent(&mut limiter, &everyone, client, name(1), at(0), n);
        assert_eq!((ask("192.0.2.1", 9), ask("203.0.113.1", 9), ask("::1", 9)), (5, 0, 5));
    }

    #[test]
    fn subjects_are_limited_each_by_itself_and_all_together() {
        let few_errors = RateLimit { errors_per_second: 2, ..limit(5) };
        let mut limiter = Limiter::new(Hash(1));
        let mut ask = |subject, n| sent(&mut limiter, &few_errors, "192.0.2.1", subject, at(0), n);
        assert_eq!((ask(name(1), 9), ask(name(2), 9), ask(Subject::ERROR, 9)), (5, 5, 2));
        for class in [Class::Below, Class::Referral, Class::NoName] {
            assert_eq!(ask(Subject { class, name: Hash(1) }, 9), 5, "{class:?}");
        }
        let together = RateLimit { all_per_second: Some(12), ..few_errors };
        let mut limiter = Limiter::new(Hash(1));
        let mut ask = |subject, n| sent(&mut limiter, &together, "192.0.2.1", subject, at(0), n);
        assert_eq!((ask(name(1), 5), ask(name(2), 5), ask(name(3), 5), ask(name(4), 5)), (5, 5, 2, 0));
    }

    #[test]
    fn each_nth_response_beyond_the_limit_slips_through_unless_it_is_an_error() {
        for (slip, expected) in [(0, "dddddd"), (1, "ssssss"), (2, "dsdsds"), (3, "ddsdds")] {
            let limit = RateLimit { slip, ..limit(1) };
            let verdicts = |subject| {
                let mut limiter = Limiter::new(Hash(1));
                let client = "192.0.2.1".parse().unwrap();
                assert_eq!(limiter.count(&limit, client, subject, at(0)), Verdict::Send);
                let letter = |_| match limiter.count(&limit, client, subject, at(0)) {
                    Verdict::Send => '-',
                    Verdict::Slip => 's',
                    Verdict::Drop => 'd',
                };
                (0..6).map(letter).collect::<String>()
            };
            assert_eq!(verdicts(name(1)), expected, "{slip}");
            assert_eq!(verdicts(Subject::ERROR), "dddddd");
        }
    }

    #[test]
    fn exempt_clients_are_not_limited() {
        let exempt = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let limit = RateLimit { exempt, ..limit(1) };
        let mut limiter = Limiter::new(Hash(1));
        let mut ask = |client| sent(&mut limiter, &limit, client, name(1), at(0), 50);
        assert_eq!(["10.9.8.7", "::ffff:10.9.8.7", "2001:db8::1", "11.0.0.1"].map(&mut ask), [50, 50, 50, 1]);
    }

    #[test]
    fn a_clock_that_is_set_locks_nobody_out() {
        let limit = limit(10);
        let mut limiter = Limiter::new(Hash(1));
        let mut ask = |now, n| sent(&mut limiter, &limit, "192.0.2.1", name(1), at(now), n);
        assert_eq!(ask(100_000_000, 10), 10);
        // A day back: what was spent is spent, and credit grows as before.
        assert_eq!(ask(13_600_000, 1), 0);
        assert_eq!(ask(13_601_100, 20), 10);
        // A year ahead.
        assert_eq!(ask(31_536_000_000, 20), 10);
        assert_eq!(ask(31_536_000_000, 1), 0);
    }

    #[test]
    fn a_flood_from_everywhere_takes_no_memory_and_frees_nobody_who_is_limited() {
        let limit = limit(10);
        let mut limiter = Limiter::new(Hash(1));
        assert_eq!(std::mem::size_of_val(&*limiter.sets), 1 << 20, "bytes");
        let flooder = "192.0.2.1";
        assert_eq!(sent(&mut limiter, &limit, flooder, name(1), at(0), 1000), 10);
        // More prefixes than there are accounts, one response each.
        for number in 0..4 * ACCOUNTS as u32 {
            let client = std::net::Ipv4Addr::from_bits(0x0a00_0000 | number << 8).to_string();
            assert_eq!(sent(&mut limiter, &limit, &client, name(1), at(0), 1), 1);
        }
        assert_eq!(sent(&mut limiter, &limit, flooder, name(1), at(0), 1000), 0);
    }
}
