//! Challenges of ACME servers (RFC 8555 §8): what this node shows to prove that it controls a name.

use super::{Mono, Name, Unix};

/// The label before the name that a DNS challenge is about (RFC 8555 §8.4), as on the wire.
const LABEL: &[u8] = b"\x0f_acme-challenge";

/// Where HTTP challenges are asked for (RFC 8555 §8.3); the token follows.
const PATH: &str = "/.well-known/acme-challenge/";

/// Challenges at a time. Each query for a name that has no records is compared with all of them.
pub const MOST_CHALLENGES: usize = 256;

/// Values of one name. A certificate for a name and its wildcard needs two, and a response over UDP has room for these.
pub const MOST_VALUES: usize = 8;

/// The longest token or value, in characters: that of a string in a TXT record (RFC 1035 §3.3). Usual ones have 43.
pub const LONGEST_TOKEN: usize = 255;

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// This body, to whoever asks for the token.
    Http {
        /// The token.
        token: Token,
        /// The key authorization.
        body: String,
    },
    /// A TXT record.
    Dns {
        /// `_acme-challenge.NAME`
        owner: Name,
        /// The text of the record.
        value: Token,
    },
}

/// Characters of base64url without padding (RFC 4648 §5), 1 to [`LONGEST_TOKEN`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token(Box<str>);

/// A challenge and for how long it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// What is shown.
    pub proof: Proof,
    /// Who asked for it.
    pub by: String,
    /// When it is forgotten.
    pub until: Unix,
    /// The same by the clock that nobody sets.
    pub expires: Mono,
}

/// All challenges at a moment; usually none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenges(Vec<Challenge>);

/// What challenges mean for a name of the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChallengesAt<'a> {
    /// It has these TXT records.
    Values(Vec<&'a str>),
    /// It has none, but a name below it has, so it exists (RFC 8020).
    Above,
}

impl Token {
    /// `None` if the text is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_safe = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        ((1..=LONGEST_TOKEN).contains(&text.len()) && is_safe).then(|| Self(text.into()))
    }

    /// Its characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Proof {
    /// The DNS proof for a name, whose wildcard has the same one. `None` if the name is too long.
    #[must_use]
    pub fn dns(name: &Name, value: Token) -> Option<Self> {
        let base = if name.is_wildcard() { name.parent()? } else { name.clone() };
        let owner = Name::from_wire(&[LABEL, base.as_wire()].concat()).ok()?;
        Some(Self::Dns { owner, value })
    }
}

impl Challenges {
    /// All, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Challenge> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a challenge; the same proof again is shown for the new time.
    ///
    /// # Errors
    /// A sentence, if there are too many.
    pub fn add(&mut self, challenge: Challenge) -> Result<(), String> {
        let mut kept: Vec<_> = self.0.iter().filter(|it| it.proof != challenge.proof).cloned().collect();
        if kept.len() >= MOST_CHALLENGES {
            return Err(format!("at most {MOST_CHALLENGES} challenges are shown at a time"));
        }
        if let Proof::Dns { owner, .. } = &challenge.proof {
            let at_owner = |it: &&Challenge| matches!(&it.proof, Proof::Dns { owner: it, .. } if it == owner);
            if kept.iter().filter(at_owner).count() >= MOST_VALUES {
                return Err(format!("{owner} has {MOST_VALUES} values already; they expire by themselves"));
            }
        }
        kept.push(challenge);
        self.0 = kept;
        Ok(())
    }

    /// Removes a proof. Returns whether it was there.
    pub fn remove(&mut self, proof: &Proof) -> bool {
        let before = self.0.len();
        self.0.retain(|it| it.proof != *proof);
        self.0.len() < before
    }

    /// Removes those whose time is over. Returns whether there were any.
    pub fn expire(&mut self, now: Mono) -> bool {
        let before = self.0.len();
        self.0.retain(|it| it.expires > now);
        self.0.len() < before
    }

    /// What a request for this path gets, if it asks for a known token.
    #[must_use]
    pub fn body(&self, path: &str) -> Option<&str> {
        let wanted = path.strip_prefix(PATH)?;
        self.0.iter().find_map(|it| match &it.proof {
            Proof::Http { token, body } => (token.as_str() == wanted).then_some(&**body),
            Proof::Dns { .. } => None,
        })
    }

    /// What challenges mean for a name, in lowercase wire format; `None` for nothing.
    #[must_use]
    pub fn at(&self, name: &[u8]) -> Option<ChallengesAt<'_>> {
        let (mut values, mut is_above) = (Vec::new(), false);
        for it in &self.0 {
            let Proof::Dns { owner, value } = &it.proof else { continue };
            if owner.as_wire() == name {
                values.push(value.as_str());
            }
            is_above = is_above || is_below(owner.as_wire(), name);
        }
        if !values.is_empty() {
            return Some(ChallengesAt::Values(values));
        }
        is_above.then_some(ChallengesAt::Above)
    }
}

/// Whether a name lies below another.
fn is_below(name: &[u8], ancestor: &[u8]) -> bool {
    let mut rest = name;
    while let Some(length) = rest.first().filter(|length| **length > 0) {
        rest = &rest[usize::from(*length) + 1..];
        if rest == ancestor {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn dns(name: &str, value: &str) -> Proof {
        Proof::dns(&name.parse().unwrap(), Token::parse(value).unwrap()).unwrap()
    }

    fn challenge(proof: Proof, expires: u64) -> Challenge {
        let expires = Mono(Duration::from_secs(expires));
        Challenge { proof, by: "test".into(), until: Unix::default(), expires }
    }

    fn wire(name: &str) -> Vec<u8> {
        name.parse::<Name>().unwrap().as_wire().to_vec()
    }

    #[test]
    fn tokens_are_base64url() {
        for (text, is_valid) in [
            ("abcXYZ019-_", true),
            ("", false),
            ("a/b", false),
            ("../x", false),
            ("a=", false),
            ("a\"", false),
            ("é", false),
            (&*"x".repeat(255), true),
            (&*"x".repeat(256), false),
        ] {
            assert_eq!(Token::parse(text).is_some(), is_valid, "{text}");
        }
    }

    #[test]
    fn a_name_and_its_wildcard_share_an_owner() {
        let mut all = Challenges::default();
        all.add(challenge(dns("WWW.a.test", "one"), 9)).unwrap();
        all.add(challenge(dns("*.www.a.test", "two"), 9)).unwrap();
        let values = Some(ChallengesAt::Values(vec!["one", "two"]));
        assert_eq!(all.at(&wire("_acme-challenge.www.a.test")), values);
        for (name, expected) in [
            ("www.a.test", Some(ChallengesAt::Above)),
            (".", Some(ChallengesAt::Above)),
            ("ww.a.test", None),
            ("x._acme-challenge.www.a.test", None),
            ("_acme-challenge.a.test", None),
        ] {
            assert_eq!(all.at(&wire(name)), expected, "{name}");
        }
        let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(50));
        assert_eq!(Proof::dns(&long.parse().unwrap(), Token::parse("x").unwrap()), None);
    }

    #[test]
    fn only_the_exact_path_of_a_token_is_answered() {
        let mut all = Challenges::default();
        let http = Proof::Http { token: Token::parse("abc").unwrap(), body: "abc.key".into() };
        all.add(challenge(http.clone(), 9)).unwrap();
        for (path, expected) in [
            ("/.well-known/acme-challenge/abc", Some("abc.key")),
            ("/.well-known/acme-challenge/ab", None),
            ("/.well-known/acme-challenge/abcd", None),
            ("/.well-known/acme-challenge/ABC", None),
            ("/.well-known/acme-challenge/abc/", None),
            ("/.well-known/acme-challenge/", None),
            ("/x/.well-known/acme-challenge/abc", None),
            ("abc", None),
        ] {
            assert_eq!(all.body(path), expected, "{path}");
        }
        assert!(all.remove(&http) && !all.remove(&http) && all.is_empty());
    }

    #[test]
    fn they_expire_and_are_bounded() {
        let mut all = Challenges::default();
        for index in 0..MOST_VALUES {
            all.add(challenge(dns("a.test", &format!("v{index}")), 5)).unwrap();
        }
        assert!(all.add(challenge(dns("a.test", "more"), 5)).unwrap_err().contains("8 values"));
        all.add(challenge(dns("a.test", "v0"), 7)).expect("the same again");
        for index in MOST_VALUES..MOST_CHALLENGES {
            all.add(challenge(dns(&format!("n{index}.test"), "v"), 5)).unwrap();
        }
        assert!(all.add(challenge(dns("b.test", "v"), 5)).unwrap_err().contains("256 challenges"));
        assert!(!all.expire(Mono(Duration::from_secs(4))));
        assert!(all.expire(Mono(Duration::from_secs(5))));
        assert_eq!(all.iter().count(), 1);
    }
}
