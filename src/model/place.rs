//! Where a client or a region is, and the keys by which a config names places.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

/// ISO 3166-1 alpha-2, uppercase.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country(pub [u8; 2]);

/// The part of an ISO 3166-2 code after the hyphen: 1 to 3 uppercase letters or digits, padded with zero bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subdivision(pub [u8; 3]);

/// The seven continents by their usual two-letter codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the variants are the codes")]
pub enum Continent {
    AF,
    AN,
    AS,
    EU,
    NA,
    OC,
    SA,
}

/// A point on the Earth in degrees: latitude −90..=90, longitude −180..=180.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Degrees north.
    pub lat: f32,
    /// Degrees east.
    pub lon: f32,
}

/// What is known about where a client or region is. [`Location::default`] is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Location {
    /// The continent, usually derived from the country.
    pub continent: Option<Continent>,
    /// The country.
    pub country: Option<Country>,
    /// The subdivision within [`Location::country`].
    pub subdivision: Option<Subdivision>,
    /// The coordinates.
    pub point: Option<Point>,
    /// Autonomous system number.
    pub asn: Option<u32>,
}

impl Location {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

/// A set of places as written in `geo`, `group`, `fence` and `latency`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlaceKey {
    /// `net:198.51.100.0/24`
    Net(IpNet),
    /// `asn:64500`
    Asn(u32),
    /// `region:US-CA`, an ISO 3166-2 subdivision
    Subdivision(Country, Subdivision),
    /// `country:DE`
    Country(Country),
    /// `group:eea`, an index into [`Topology::groups`](super::Topology::groups)
    Group(usize),
    /// `continent:EU`
    Continent(Continent),
    /// `*`
    Any,
}

impl PlaceKey {
    /// How specific a key is; higher is more specific. From most to least: net, asn, region, country, group, continent,
    /// `*`.
    #[must_use]
    pub fn specificity(&self) -> u8 {
        match self {
            Self::Net(_) => 6,
            Self::Asn(_) => 5,
            Self::Subdivision(..) => 4,
            Self::Country(_) => 3,
            Self::Group(_) => 2,
            Self::Continent(_) => 1,
            Self::Any => 0,
        }
    }
}

/// The Earth's mean radius R₁ (IUGG), in kilometres.
pub const EARTH_RADIUS_KM: f64 = 6371.0088;

/// A point as the unit vector from the Earth's centre, from which distances are computed. Compute it once per point if
/// there are many distances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Direction([f64; 3]);

impl Point {
    /// Great-circle distance in kilometres.
    #[must_use]
    pub fn distance_km(self, other: Self) -> f64 {
        self.direction().distance_km(other.direction())
    }

    /// The direction of the point from the Earth's centre.
    #[must_use]
    pub fn direction(self) -> Direction {
        let (lat, lon) = (f64::from(self.lat).to_radians(), f64::from(self.lon).to_radians());
        Direction([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()])
    }
}

impl Direction {
    /// The coordinates of the unit vector.
    #[must_use]
    pub fn axes(self) -> [f64; 3] {
        self.0
    }

    /// Great-circle distance in kilometres. Computed from the chord, which is accurate for near points, too.
    #[must_use]
    pub fn distance_km(self, other: Self) -> f64 {
        let square: f64 = self.0.iter().zip(other.0).map(|(one, two)| (one - two).powi(2)).sum();
        2.0 * EARTH_RADIUS_KM * (square.sqrt() / 2.0).min(1.0).asin()
    }
}

impl FromStr for Country {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Ok(Self([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => Err(()),
        }
    }
}

impl FromStr for Subdivision {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = text.as_bytes();
        if !(1..=3).contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_alphanumeric) {
            return Err(());
        }
        let mut code = [0; 3];
        code[..bytes.len()].copy_from_slice(&bytes.to_ascii_uppercase());
        Ok(Self(code))
    }
}

impl FromStr for Continent {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "AF" => Self::AF,
            "AN" => Self::AN,
            "AS" => Self::AS,
            "EU" => Self::EU,
            "NA" => Self::NA,
            "OC" => Self::OC,
            "SA" => Self::SA,
            _ => return Err(()),
        })
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", char::from(self.0[0]), char::from(self.0[1]))
    }
}

impl fmt::Display for Subdivision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take_while(|byte| **byte != 0).try_for_each(|byte| write!(f, "{}", char::from(*byte)))
    }
}

impl fmt::Display for Continent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Subdivision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_match_published_great_circles() {
        // Great circle mapper figures for airports; the sphere is within 0.5 % of the ellipsoid.
        let cases = [
            ((50.03, 8.57), (53.42, -6.27), 1_085.0),    // FRA–DUB
            ((40.64, -73.78), (19.09, 72.87), 12_541.0), // JFK–BOM
            ((0.0, 179.5), (0.0, -179.5), 111.2),        // across the date line
        ];
        for ((lat1, lon1), (lat2, lon2), km) in cases {
            let found = Point { lat: lat1, lon: lon1 }.distance_km(Point { lat: lat2, lon: lon2 });
            assert!((found - km).abs() < km * 0.005, "{found} is not {km}");
        }
    }
}
