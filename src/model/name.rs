//! Domain names in lowercase, uncompressed wire format.

use std::fmt;
use std::str::FromStr;

use domain::base::Name as DomainName;

/// An absolute domain name in uncompressed wire format (RFC 1035 §3.1), ASCII letters lowercased
/// (RFC 4343), 1 to 255 bytes including the root label. Equality is therefore byte equality.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// Why a text is not a valid domain name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError(String);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NameError {}

impl Name {
    /// The root of the DNS.
    #[must_use]
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Checks and lowercases a name in uncompressed wire format.
    ///
    /// # Errors
    /// If the bytes are not exactly one absolute name.
    pub fn from_wire(wire: &[u8]) -> Result<Self, NameError> {
        DomainName::from_slice(wire).map_err(|e| NameError(e.to_string()))?;
        Ok(Self(wire.to_ascii_lowercase().into_boxed_slice()))
    }

    /// The name in wire format.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The name in wire format, without a copy.
    #[must_use]
    pub fn into_wire(self) -> Box<[u8]> {
        self.0
    }

    /// The name without its first label; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        parent_wire(&self.0).map(|wire| Self(wire.into()))
    }

    /// Whether this name is `ancestor` or lies below it.
    #[must_use]
    pub fn is_at_or_below(&self, ancestor: &Self) -> bool {
        let mut rest = Some(&*self.0);
        while let Some(wire) = rest {
            if wire == &*ancestor.0 {
                return true;
            }
            rest = parent_wire(wire);
        }
        false
    }

    /// Labels without the root: 0 to 127.
    #[must_use]
    pub fn label_count(&self) -> usize {
        std::iter::successors(Some(&*self.0), |wire| parent_wire(wire)).count() - 1
    }

    /// Whether the first label is `*` (RFC 4592 §2.1.1).
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }
}

/// The name after the first label; `None` for the root.
fn parent_wire(wire: &[u8]) -> Option<&[u8]> {
    match usize::from(wire[0]) {
        0 => None,
        len => Some(&wire[len + 1..]),
    }
}

impl FromStr for Name {
    type Err = NameError;

    /// Reads presentation format (RFC 1035 §5.1); a missing last dot is added.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let name: DomainName<Vec<u8>> =
            text.parse().map_err(|e: domain::base::name::FromStrError| NameError(e.to_string()))?;
        Ok(Self(name.as_slice().to_ascii_lowercase().into_boxed_slice()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DomainName::from_slice(&self.0) {
            Ok(name) if name.is_root() => f.write_str("."),
            Ok(name) => write!(f, "{name}."),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_know_their_ancestors() {
        let name: Name = "WWW.Example.COM".parse().unwrap();
        assert_eq!(name, "www.example.com.".parse().unwrap());
        assert_eq!(name.to_string(), "www.example.com.");
        assert_eq!(name.label_count(), 3);
        assert!(name.is_at_or_below(&"com.".parse().unwrap()));
        assert!(name.is_at_or_below(&Name::root()));
        assert!(!name.is_at_or_below(&"ample.com.".parse().unwrap()));
        assert_eq!(Name::root().to_string(), ".");
        assert_eq!(Name::root().parent(), None);
    }

    #[test]
    fn invalid_names_are_rejected() {
        let long_label = format!("{}.test.", "a".repeat(64));
        for text in ["", "a..b", &long_label] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        for wire in [&b""[..], b"\x03ab", b"\x01a\x00x", b"\xc0\x00"] {
            assert!(Name::from_wire(wire).is_err(), "{wire:?}");
        }
    }
}
