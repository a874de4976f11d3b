//! The cookie that keeps a client with a backend.
//!
//! Its value is 64 hexadecimal digits: a tag that stands for the backend, the second at which the cookie expires, and a
//! signature of both and of the pool. The tag is keyed, too, so that a client cannot find out internal addresses by trying.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::conditions::cookies_of;
use crate::model::{Pool, Unix};

type Signer = Hmac<Sha256>;

/// Bytes of a tag: backends of a pool are told apart by it.
const TAG: usize = 8;
/// Bytes of the time of expiry.
const EXPIRY: usize = 8;
/// Bytes of a signature: half of HMAC-SHA-256 (RFC 2104 §5).
const SIGNATURE: usize = 16;
/// Bytes of a value before it is written as digits.
const VALUE: usize = TAG + EXPIRY + SIGNATURE;

/// What is signed: a tag is no signature of anything else, nor the other way round.
const OF_BACKEND: &[u8] = b"backend";
const OF_COOKIE: &[u8] = b"cookie";

/// The cookies of a pool.
#[derive(Clone, Debug)]
pub struct Cookies {
    name: String,
    ttl: Duration,
    /// One for each secret; the first makes new cookies.
    signers: Vec<Signer>,
}

/// Stands for a backend in a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag([u8; TAG]);

/// A valid cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The backend.
    pub tag: Tag,
    /// Whether the client should get a new cookie: half of the time has passed, or another secret or TTL is in use now.
    pub is_due: bool,
}

/// Why a request has no valid cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSession {
    /// It has none.
    Absent,
    /// It has several.
    Several,
    /// Its value is not one that this program makes.
    Malformed,
    /// It was signed with another secret or for another pool.
    Forged,
    /// It was valid until this time.
    Expired(Unix),
}

impl Cookies {
    /// The cookies of a pool; `None` if it is not sticky or has no secret.
    #[must_use]
    pub fn of(pool: &Pool) -> Option<Self> {
        let sticky = pool.sticky.as_ref().filter(|it| !it.secrets.is_empty())?;
        let signer = |secret: &crate::model::Secret| {
            let mut signer = Signer::new_from_slice(secret.bytes()).expect("a key may have any length");
            signer.update(&(pool.name.len() as u64).to_be_bytes());
            signer.update(pool.name.as_bytes());
            signer
        };
        let signers = sticky.secrets.iter().map(signer).collect();
        Some(Self { name: sticky.cookie.clone(), ttl: sticky.ttl, signers })
    }

    /// The name of the cookie.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the cookie of a request says. Allocates nothing, and checks a signature only if everything else is fine.
    ///
    /// # Errors
    /// Why it says nothing.
    pub fn read(&self, headers: &HeaderMap, now: Unix) -> Result<Session, NoSession> {
        let mut found = cookies_of(headers, &self.name);
        let value = match (found.next(), found.next()) {
            (None, _) => return Err(NoSession::Absent),
            (Some(_), Some(_)) => return Err(NoSession::Several),
            (Some(value), None) => parse(&value).ok_or(NoSession::Malformed)?,
        };
        let (signed, signature) = value.split_at(TAG + EXPIRY);
        let (tag, expiry) = signed.split_at(TAG);
        let expiry = u64::from_be_bytes(expiry.try_into().expect("a slice of this length"));
        let is_signer = |it: &Signer| bool::from(signature_of(it, signed).ct_eq(signature));
        let signer = self.signers.iter().position(is_signer).ok_or(NoSession::Forged)?;
        let expiry = Unix(Duration::from_secs(expiry));
        let left = expiry.0.checked_sub(now.0).filter(|left| !left.is_zero());
        let left = left.ok_or(NoSession::Expired(expiry))?;
        let is_due = signer > 0 || left < self.ttl / 2 || left > self.ttl + CLOCK_SKEW;
        Ok(Session { tag: Tag(tag.try_into().expect("a slice of this length")), is_due })
    }

    /// The tags that stand for a backend, one for each secret.
    pub fn tags(&self, address: SocketAddr) -> impl Iterator<Item = Tag> {
        self.signers.iter().map(move |signer| tag_of(signer, address))
    }

    /// The value of `Set-Cookie` that binds a client to a backend. `is_secure`: it must only come back over TLS.
    #[must_use]
    pub fn grant(&self, address: SocketAddr, now: Unix, is_secure: bool) -> HeaderValue {
        let signer = &self.signers[0];
        let mut value = [0; VALUE];
        value[..TAG].copy_from_slice(&tag_of(signer, address).0);
        let expiry = now.0.as_secs().saturating_add(self.ttl.as_secs());
        value[TAG..TAG + EXPIRY].copy_from_slice(&expiry.to_be_bytes());
        let signature = signature_of(signer, &value[..TAG + EXPIRY]);
        value[TAG + EXPIRY..].copy_from_slice(&signature);
        let digits: String = value.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect();
        let secure = if is_secure { "; Secure" } else { "" };
        let (name, ttl) = (&self.name, self.ttl.as_secs());
        let field = format!("{name}={digits}; Path=/; Max-Age={ttl}; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::try_from(field).expect("the name is a token")
    }

    /// Removes the cookie from the headers that a backend gets, and leaves others as they are.
    pub fn remove_from(&self, headers: &mut HeaderMap) {
        if cookies_of(headers, &self.name).next().is_none() {
            return;
        }
        let is_other = |pair: &&[u8]| {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            name.trim_ascii() != self.name.as_bytes() || !pair.contains(&b'=')
        };
        let lines: Vec<HeaderValue> = headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|line| {
                let others = line.as_bytes().split(|byte| *byte == b';').filter(is_other);
                let others: Vec<&[u8]> = others.map(<[u8]>::trim_ascii).filter(|it| !it.is_empty()).collect();
                (!others.is_empty()).then(|| HeaderValue::from_bytes(&others.join(&b"; "[..])).ok())?
            })
            .collect();
        headers.remove(COOKIE);
        for line in lines {
            headers.append(COOKIE, line);
        }
    }
}

/// By how much the clocks of two nodes may differ before a cookie of the other looks as if it were made for another TTL.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

fn tag_of(signer: &Signer, address: SocketAddr) -> Tag {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut signer = signer.clone();
    signer.update(OF_BACKEND);
    signer.update(&ip.octets());
    signer.update(&address.port().to_be_bytes());
    Tag(start_of(signer))
}

fn signature_of(signer: &Signer, signed: &[u8]) -> [u8; SIGNATURE] {
    let mut signer = signer.clone();
    signer.update(OF_COOKIE);
    signer.update(signed);
    start_of(signer)
}

fn start_of<const N: usize>(signer: Signer) -> [u8; N] {
    let whole = signer.finalize().into_bytes();
    std::array::from_fn(|index| whole[index])
}

fn digit(value: u8) -> char {
    char::from(b"0123456789abcdef"[usize::from(value)])
}

fn parse(text: &str) -> Option<[u8; VALUE]> {
    let text = text.as_bytes();
    if text.len() != VALUE * 2 {
        return None;
    }
    // One spelling only, the one that is made.
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; VALUE];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        Balance, Condition, Fraction, Http, Liveness, Retry, RetryOn, Secret, Sticky, Timeouts,
    };

    const NOW: Unix = Unix(Duration::from_secs(1_800_000_000));
    const TTL: Duration = Duration::from_secs(3600);

    fn cookies(pool: &str, secrets: &[&[u8]]) -> Cookies {
        let timeout = Timeouts { connect: TTL, read: TTL, write: TTL, idle: TTL };
        let retry = Retry { tries: 1, on: RetryOn::default(), budget: Fraction::TWENTY_PERCENT };
        let secrets = secrets.iter().map(|it| Secret::new(it)).collect();
        let pool = Pool {
            name: pool.into(),
            balance: Balance::default(),
            backends: Vec::new(),
            discover: None,
            healthy_when: Condition::ALWAYS,
            retry,
            timeout,
            passive: None,
            panic: None,
            slow_start: None,
            hedge: None,
            limits: None,
            http: Http::H1,
            send_proxy: None,
            tcp: Liveness::default(),
            keepalive: 0,
            drain: TTL,
            sticky: Some(Sticky { cookie: "at".into(), ttl: TTL, secrets }),
        };
        Cookies::of(&pool).expect("it is sticky")
    }

    /// The headers of a request with these cookies.
    fn with(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap())).collect()
    }

    /// The `name=value` that a client sends back.
    fn granted(by: &Cookies, address: &str, now: Unix) -> String {
        let field = by.grant(address.parse().unwrap(), now, false);
        field.to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    fn tags(of: &Cookies, address: &str) -> Vec<Tag> {
        of.tags(address.parse().unwrap()).collect()
    }

    #[test]
    fn a_cookie_is_valid_for_its_time_and_renewed_in_the_second_half() {
        let own = cookies("api", &[b"one"]);
        let cookie = granted(&own, "10.0.0.1:80", NOW);
        let at = |seconds| {
            own.read(&with(&[&format!("a=b; {cookie}; c")]), NOW.after(Duration::from_secs(seconds)))
        };
        let [tag] = tags(&own, "10.0.0.1:80")[..] else { panic!("one secret, one tag") };
        assert_eq!(at(0), Ok(Session { tag, is_due: false }));
        assert_eq!(at(1800), Ok(Session { tag, is_due: false }));
        assert_eq!(at(1801), Ok(Session { tag, is_due: true }));
        assert_eq!(at(3599), Ok(Session { tag, is_due: true }));
        assert_eq!(at(3600), Err(NoSession::Expired(NOW.after(TTL))));
        assert_ne!(tags(&own, "10.0.0.2:80"), [tag]);
        assert_ne!(tags(&own, "10.0.0.1:81"), [tag]);
    }

    #[test]
    fn what_is_not_exactly_one_own_cookie_does_not_count() {
        let own = cookies("api", &[b"one"]);
        let cookie = granted(&own, "10.0.0.1:80", NOW);
        let read = |lines: &[&str]| own.read(&with(lines), NOW).unwrap_err();
        assert_eq!(read(&[]), NoSession::Absent);
        assert_eq!(read(&["At=1; att=2; b=at=3; at"]), NoSession::Absent);
        assert_eq!(read(&[&format!("{cookie}; {cookie}")]), NoSession::Several);
        assert_eq!(read(&[&cookie, "at="]), NoSession::Several);
        for malformed in
            ["at=", &format!("{cookie}0"), &cookie[..cookie.len() - 2], &format!("at=\"{}\"", &cookie[3..])]
        {
            assert_eq!(read(&[malformed]), NoSession::Malformed, "{malformed}");
        }
        let upper = cookie.to_uppercase().replace("AT=", "at=");
        assert_eq!(read(&[&upper]), NoSession::Malformed);
        for other in [cookies("apj", &[b"one"]), cookies("api", &[b"two"])] {
            assert_eq!(other.read(&with(&[&cookie]), NOW), Err(NoSession::Forged));
            assert_ne!(tags(&own, "10.0.0.1:80"), tags(&other, "10.0.0.1:80"));
        }
    }

    #[test]
    fn secrets_are_rotated_without_losing_a_client() {
        let old = cookies("api", &[b"old"]);
        let both = cookies("api", &[b"new", b"old"]);
        let new = cookies("api", &[b"new"]);
        let before = granted(&old, "10.0.0.1:80", NOW);
        let session = both.read(&with(&[&before]), NOW).unwrap();
        assert!(session.is_due && tags(&both, "10.0.0.1:80").contains(&session.tag));
        let after = granted(&both, "10.0.0.1:80", NOW);
        assert!(new.read(&with(&[&after]), NOW).is_ok_and(|it| !it.is_due));
        assert_eq!(new.read(&with(&[&before]), NOW), Err(NoSession::Forged));
    }

    #[test]
    fn a_shorter_ttl_renews_the_cookies_of_the_longer_one() {
        let own = cookies("api", &[b"one"]);
        let cookie = granted(&own, "10.0.0.1:80", NOW.after(TTL));
        assert!(own.read(&with(&[&cookie]), NOW).unwrap().is_due);
    }

    #[test]
    fn backends_see_all_cookies_but_this_one() {
        let own = cookies("api", &[b"one"]);
        let cases: [(&[&str], &[&str]); 6] = [
            (&["a=b;c=d"], &["a=b;c=d"]),
            (&["at=1"], &[]),
            (&["a=b; at=1;c=d"], &["a=b; c=d"]),
            (&["at=1; at=2", "x=y; AT=3; at ; =at"], &["x=y; AT=3; at; =at"]),
            (&[" at = 1 ; portolan-web=2"], &["portolan-web=2"]),
            (&["att=at=1"], &["att=at=1"]),
        ];
        for (before, after) in cases {
            let mut headers = with(before);
            own.remove_from(&mut headers);
            assert_eq!(headers, with(after), "{before:?}");
        }
    }

    #[test]
    fn the_attributes_keep_the_cookie_to_the_site() {
        let own = cookies("api", &[b"one"]);
        let field = |is_secure| own.grant(([10, 0, 0, 1], 80).into(), NOW, is_secure);
        let rest = |field: &HeaderValue| field.to_str().unwrap().split_once("; ").unwrap().1.to_owned();
        assert_eq!(rest(&field(false)), "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
        assert_eq!(rest(&field(true)), "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure");
    }

    proptest! {
        /// Any other digit anywhere, and the cookie names nobody.
        #[test]
        fn no_changed_cookie_is_valid(place in 0..VALUE * 2, by in 1..16_u32) {
            let own = cookies("api", &[b"one", b"two"]);
            let mut value: Vec<char> = granted(&own, "10.0.0.1:80", NOW)[3..].chars().collect();
            let digit = value[place].to_digit(16).unwrap();
            value[place] = char::from_digit(digit ^ by, 16).unwrap();
            let line = format!("at={}", value.iter().collect::<String>());
            prop_assert_eq!(own.read(&with(&[&line]), NOW), Err(NoSession::Forged));
        }

        #[test]
        fn nothing_that_a_client_sends_fails(line in "[ -~]{0,200}") {
            let own = cookies("api", &[b"one"]);
            let mut headers = with(&[&line]);
            prop_assert!(own.read(&headers, NOW).is_err());
            own.remove_from(&mut headers);
            prop_assert_eq!(own.read(&headers, NOW), Err(NoSession::Absent));
        }
    }
}
