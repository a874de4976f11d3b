//! DNS cookies (RFC 7873): by returning a server cookie, a client proves that it receives what is sent to its address.
//!
//! Server cookies are of version 1 (RFC 9018 §4), so every server with the same secret accepts them, whatever its make.

use std::fmt;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::model::Unix;

/// Bytes of a client cookie (RFC 7873 §4.1).
const CLIENT: usize = 8;
/// Bytes of a server cookie of version 1 (RFC 9018 §4).
const SERVER: usize = 16;
/// Bytes of server cookies of any server (RFC 7873 §4.2).
const ANY_SERVER: std::ops::RangeInclusive<usize> = 8..=32;
/// The only version of server cookies (RFC 9018 §4.1).
const VERSION: u8 = 1;
/// Bytes of a server cookie before its hash: version, reserved, timestamp.
const HASHED: usize = 8;

/// How old a server cookie may be, in seconds (RFC 9018 §4.3).
const MOST_AGE: i32 = 3600;
/// How far its timestamp may be in the future, in seconds: the clocks of servers that share a secret differ
/// (RFC 9018 §4.3).
const MOST_SKEW: i32 = 300;
/// The age from which a client gets a new one, in seconds (RFC 9018 §4.3).
const RENEWAL_AGE: i32 = 1800;

/// The COOKIE option of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    client: [u8; CLIENT],
    server: Presented,
}

/// The server cookie of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presented {
    /// None: the client does not know one yet.
    Nothing,
    /// One as long as this server's.
    OwnLength([u8; SERVER]),
    /// One of another length, which this server never made.
    OtherLength,
}

/// A key of server cookies.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

/// The keys of server cookies, which servers at one address must share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// Makes cookies and accepts them.
    pub current: Secret,
    /// Only accepts them, while secrets are being changed (RFC 9018 §5).
    pub other: Option<Secret>,
}

/// The reply to a COOKIE option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The option's data: client cookie and server cookie.
    pub option: [u8; CLIENT + SERVER],
    /// What the query proved.
    pub proof: Proof,
}

/// What a query with a COOKIE option proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: it has no server cookie.
    Absent,
    /// Nothing: its server cookie is expired, or was made with another secret, for another client or address.
    Invalid,
    /// The client receives what is sent to its address.
    Valid,
}

impl Cookie {
    /// Reads the option's data. `None` if its length is not one that RFC 7873 §5.2.2 allows.
    pub(super) fn read(data: &[u8]) -> Option<Self> {
        let (client, server) = data.split_first_chunk()?;
        let server = match <[u8; SERVER]>::try_from(server) {
            Ok(server) => Presented::OwnLength(server),
            Err(_) if server.is_empty() => Presented::Nothing,
            Err(_) if ANY_SERVER.contains(&server.len()) => Presented::OtherLength,
            Err(_) => return None,
        };
        Some(Self { client: *client, server })
    }
}

impl Secrets {
    /// The reply to the cookie of a client at `address`: with its server cookie while that is fresh, otherwise with
    /// a new one.
    #[must_use]
    pub fn grant(&self, cookie: &Cookie, address: IpAddr, now: Unix) -> Granted {
        // RFC 9018 §4.3: 32 bits of seconds, compared by serial number arithmetic (RFC 1982).
        let seconds = now.0.as_secs() as u32;
        let address = address.to_canonical();
        let proof = match cookie.server {
            Presented::Nothing => Proof::Absent,
            Presented::OtherLength => Proof::Invalid,
            Presented::OwnLength(server) => {
                let age = age(&server, seconds);
                let is_by = |secret: &Secret| secret.made(&cookie.client, &server, address);
                if server[0] != VERSION || !(-MOST_SKEW..=MOST_AGE).contains(&age) {
                    Proof::Invalid
                } else if is_by(&self.current) {
                    if age < RENEWAL_AGE {
                        return Granted { option: joined(&cookie.client, &server), proof: Proof::Valid };
                    }
                    Proof::Valid
                } else if self.other.as_ref().is_some_and(is_by) {
                    Proof::Valid
                } else {
                    Proof::Invalid
                }
            }
        };
        let mut server = [0; SERVER];
        server[0] = VERSION;
        server[4..HASHED].copy_from_slice(&seconds.to_be_bytes());
        let hash = self.current.hash(&cookie.client, &server, address);
        server[HASHED..].copy_from_slice(&hash);
        Granted { option: joined(&cookie.client, &server), proof }
    }
}

/// How many seconds ago a server cookie was made.
fn age(server: &[u8; SERVER], seconds: u32) -> i32 {
    let [_, _, _, _, made @ .., _, _, _, _, _, _, _, _] = *server;
    seconds.wrapping_sub(u32::from_be_bytes(made)).cast_signed()
}

fn joined(client: &[u8; CLIENT], server: &[u8; SERVER]) -> [u8; CLIENT + SERVER] {
    let mut option = [0; CLIENT + SERVER];
    option[..CLIENT].copy_from_slice(client);
    option[CLIENT..].copy_from_slice(server);
    option
}

impl Secret {
    /// Whether a server cookie has the hash that this secret gives it.
    fn made(&self, client: &[u8; CLIENT], server: &[u8; SERVER], address: IpAddr) -> bool {
        // Compared as one number, so the time does not depend on how many bytes are right.
        let [.., h0, h1, h2, h3, h4, h5, h6, h7] = *server;
        let hash = u64::from_ne_bytes([h0, h1, h2, h3, h4, h5, h6, h7]);
        u64::from_ne_bytes(self.hash(client, server, address)) == hash
    }

    /// The hash of a server cookie whose other fields are set: of client cookie, version, reserved bytes, timestamp
    /// and client address (RFC 9018 §4.4).
    fn hash(&self, client: &[u8; CLIENT], server: &[u8; SERVER], address: IpAddr) -> [u8; 8] {
        const FIXED: usize = CLIENT + HASHED;
        let mut input = [0; FIXED + 16];
        input[..CLIENT].copy_from_slice(client);
        input[CLIENT..FIXED].copy_from_slice(&server[..HASHED]);
        let length = match address {
            IpAddr::V4(address) => {
                input[FIXED..FIXED + 4].copy_from_slice(&address.octets());
                FIXED + 4
            }
            IpAddr::V6(address) => {
                input[FIXED..].copy_from_slice(&address.octets());
                FIXED + 16
            }
        };
        SipHasher24::new_with_key(&self.0).hash(&input[..length]).to_le_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn secret(hex: &str) -> Secret {
        Secret(bytes(hex).try_into().unwrap())
    }

    fn secrets(current: &str) -> Secrets {
        Secrets { current: secret(current), other: None }
    }

    fn at(seconds: u64) -> Unix {
        Unix(Duration::from_secs(seconds))
    }

    /// Grants a cookie and returns the server cookie in hex, and the proof.
    fn grant(secrets: &Secrets, option: &str, address: &str, seconds: u64) -> (String, Proof) {
        let option = bytes(option);
        let cookie = Cookie::read(&option).unwrap();
        let granted = secrets.grant(&cookie, address.parse().unwrap(), at(seconds));
        assert_eq!(granted.option[..8], option[..8], "the client cookie is repeated");
        (granted.option[8..].iter().map(|byte| format!("{byte:02x}")).collect(), granted.proof)
    }

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

    #[test]
    fn rfc_9018_appendix_a() {
        let own = secrets(SECRET);
        // A.1: a client learns a new server cookie.
        let client = "2464c4abcf10c957";
        assert_eq!(
            grant(&own, client, "198.51.100.100", 1_559_731_985),
            ("010000005cf79f111f8130c3eee29480".to_owned(), Proof::Absent)
        );
        // A.2: it learns a renewed one 40 minutes later.
        assert_eq!(
            grant(&own, "2464c4abcf10c957010000005cf79f111f8130c3eee29480", "198.51.100.100", 1_559_734_385),
            ("010000005cf7a871d4a564a1442aca77".to_owned(), Proof::Valid)
        );
        // A.3: another one renews a cookie, whose reserved bytes may have any value. It is older than §4.3 allows.
        let other = |seconds| {
            grant(&own, "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "203.0.113.203", seconds)
        };
        assert_eq!(other(1_559_734_700), ("010000005cf7a9acf73a7810aca2381e".to_owned(), Proof::Invalid));
        assert_eq!(other(1_559_730_000).1, Proof::Valid);
        // A.4: IPv6, and a cookie made with the secret before.
        let rolled = Secrets {
            current: secret("445536bcd2513298075a5d379663c962"),
            other: Some(secret("dd3bdf9344b678b185a6f5cb60fca715")),
        };
        assert_eq!(
            grant(
                &rolled,
                "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
                "2001:db8:220:1:59de:d0f4:8769:82b8",
                1_559_741_961
            ),
            ("010000005cf7c609a6bb79d16625507a".to_owned(), Proof::Valid)
        );
    }

    const CLIENT: &str = "2464c4abcf10c957";
    const ADDRESS: &str = "198.51.100.100";

    #[test]
    fn section_4_3_a_cookie_is_valid_for_an_hour_and_renewed_after_half_of_it() {
        let own = secrets(SECRET);
        // The second start lies just before the timestamp wraps in 2106.
        for start in [1_559_731_985, u64::from(u32::MAX) - 10] {
            let (server, _) = grant(&own, CLIENT, ADDRESS, start);
            let option = format!("{CLIENT}{server}");
            for (offset, proof, is_same) in [
                (0, Proof::Valid, true),
                (1799, Proof::Valid, true),
                (1800, Proof::Valid, false),
                (3600, Proof::Valid, false),
                (3601, Proof::Invalid, false),
                (-300, Proof::Valid, true),
                (-301, Proof::Invalid, false),
                (-86_400, Proof::Invalid, false),
            ] {
                let now = start.checked_add_signed(offset).unwrap();
                let (renewed, found) = grant(&own, &option, ADDRESS, now);
                assert_eq!((found, renewed == server), (proof, is_same), "{start} {offset}");
                let (_, next) = grant(&own, &format!("{CLIENT}{renewed}"), ADDRESS, now);
                assert_eq!(next, Proof::Valid, "what is granted is accepted: {start} {offset}");
            }
        }
    }

    #[test]
    fn a_cookie_is_valid_for_one_client_at_one_address_only() {
        let own = secrets(SECRET);
        let now = 1_559_731_985;
        let (server, _) = grant(&own, CLIENT, ADDRESS, now);
        let valid = format!("{CLIENT}{server}");
        let proof = |option: &str, address| grant(&own, option, address, now).1;
        assert_eq!(proof(&valid, "::ffff:198.51.100.100"), Proof::Valid, "the same address, mapped to IPv6");
        assert_eq!(proof(&valid, "198.51.100.101"), Proof::Invalid);
        assert_eq!(proof(&valid, "2001:db8::1"), Proof::Invalid);
        let other = secrets("00112233445566778899aabbccddeeff");
        assert_eq!(grant(&other, &valid, ADDRESS, now).1, Proof::Invalid, "another secret");
        for at in 0..24 {
            let mut changed = bytes(&valid);
            changed[at] ^= 1;
            let changed: String = changed.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(proof(&changed, ADDRESS), Proof::Invalid, "byte {at}");
        }
        for length in (8..16).chain(17..=32) {
            let foreign = format!("{CLIENT}{}", "01".repeat(length));
            assert_eq!(proof(&foreign, ADDRESS), Proof::Invalid, "{length} bytes");
        }
    }

    #[test]
    fn secrets_change_without_a_moment_at_which_a_node_refuses_a_cookie() {
        let both = |current, other| Secrets { current: secret(current), other: Some(secret(other)) };
        let new = "00112233445566778899aabbccddeeff";
        // The steps of RFC 9018 §5; neighbours may run at once on different nodes.
        let steps = [secrets(SECRET), both(SECRET, new), both(new, SECRET), secrets(new)];
        for (one, other) in [(0, 1), (1, 2)] {
            for (maker, reader) in [(one, other), (other, one)] {
                let (server, _) = grant(&steps[maker], CLIENT, ADDRESS, 1000);
                let (_, proof) = grant(&steps[reader], &format!("{CLIENT}{server}"), ADDRESS, 1000);
                assert_eq!(proof, Proof::Valid, "made in step {maker}, presented in step {reader}");
            }
        }
        // Cookies of the old secret are replaced, so it can be removed an hour later.
        let (old, _) = grant(&steps[0], CLIENT, ADDRESS, 1000);
        let (replaced, _) = grant(&steps[2], &format!("{CLIENT}{old}"), ADDRESS, 1000);
        assert_eq!(grant(&steps[3], &format!("{CLIENT}{replaced}"), ADDRESS, 1000).1, Proof::Valid);
    }

    #[test]
    fn options_of_other_lengths_are_malformed() {
        let lengths: Vec<usize> =
            (0..100).filter(|length| Cookie::read(&vec![1; *length]).is_some()).collect();
        assert_eq!(lengths, [8].into_iter().chain(16..=40).collect::<Vec<_>>());
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", secrets(SECRET)), "Secrets { current: Secret(…), other: None }");
    }
}
