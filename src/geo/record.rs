//! A data record of an MMDB, in any known schema.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::model::{Continent, Country, Location, Point, Subdivision};

/// The fields in which any of the known schemas stores a place; all others are skipped.
///
/// GeoIP2 nests (`country.iso_code`, `location.latitude`), DB-IP's and IPinfo's files are flat
/// (`country_code`, `latitude`; `country` or `country_code`, `loc` or `lat` and `lng`), and each maker of
/// ASN files has its own key.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    country: Field,
    country_code: Field,
    continent: Field,
    continent_code: Field,
    subdivisions: Field,
    region: Field,
    region_code: Field,
    state1: Field,
    location: Field,
    loc: Field,
    latitude: Field,
    lat: Field,
    longitude: Field,
    lng: Field,
    lon: Field,
    asn: Field,
    as_number: Field,
    autonomous_system_number: Field,
}

/// A value, as far as places need it. Only the first element of a list counts.
#[derive(Default)]
enum Field {
    #[default]
    Absent,
    Text(Box<str>),
    Number(f64),
    Nested(Box<Nested>),
}

/// The nested values of schemas that have them.
#[derive(Default)]
struct Nested {
    /// `iso_code` or `code`.
    code: Field,
    latitude: Field,
    longitude: Field,
}

impl Record {
    /// The location in the record. Values out of range count as absent.
    pub(super) fn location(&self) -> Location {
        let country =
            [&self.country, &self.country_code].into_iter().find_map(|field| country(field.code()?));
        let continent = [&self.continent, &self.continent_code]
            .into_iter()
            .find_map(|field| field.code()?.to_ascii_uppercase().parse::<Continent>().ok());
        let subdivision = [&self.subdivisions, &self.region_code, &self.region, &self.state1]
            .into_iter()
            .find_map(|field| subdivision(field.code()?))
            .filter(|_| country.is_some());
        Location { continent, country, subdivision, point: self.point(), asn: self.asn() }
    }

    fn point(&self) -> Option<Point> {
        if let Field::Nested(location) = &self.location {
            return point(location.latitude.number()?, location.longitude.number()?);
        }
        if let Field::Text(loc) = &self.loc {
            let (lat, lon) = loc.split_once(',')?;
            return point(lat.trim().parse().ok()?, lon.trim().parse().ok()?);
        }
        let lat = self.latitude.number().or_else(|| self.lat.number())?;
        let lon = [&self.longitude, &self.lng, &self.lon].into_iter().find_map(Field::number)?;
        point(lat, lon)
    }

    fn asn(&self) -> Option<u32> {
        [&self.autonomous_system_number, &self.asn, &self.as_number].into_iter().find_map(|field| match field
        {
            Field::Number(number) => {
                (*number >= 1.0 && *number <= f64::from(u32::MAX)).then_some(*number as u32)
            }
            Field::Text(text) => text
                .trim_start_matches(|c: char| c.eq_ignore_ascii_case(&'a') || c.eq_ignore_ascii_case(&'s'))
                .parse()
                .ok()
                .filter(|number| *number > 0),
            Field::Absent | Field::Nested(_) => None,
        })
    }
}

/// ISO 3166-1 leaves ZZ and XX to users, and files use them for "unknown".
fn country(text: &str) -> Option<Country> {
    text.parse().ok().filter(|code: &Country| ![*b"ZZ", *b"XX"].contains(&code.0))
}

/// Fields contain names or codes. Codes are in capitals; "Lot" and "Zug" are names.
fn subdivision(text: &str) -> Option<Subdivision> {
    let code = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if code { text.parse().ok() } else { None }
}

/// (0, 0) is in the open sea; files use it for "unknown".
fn point(lat: f64, lon: f64) -> Option<Point> {
    let valid = (-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon) && (lat, lon) != (0.0, 0.0);
    valid.then_some(Point { lat: lat as f32, lon: lon as f32 })
}

impl Field {
    /// The text itself, or the code of a nested value.
    fn code(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nested(nested) => match &nested.code {
                Self::Text(text) => Some(text),
                _ => None,
            },
            Self::Absent | Self::Number(_) => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Absent | Self::Nested(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a place record")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(text.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Field, E> {
        Ok(Field::Number(number))
    }

    fn visit_f32<E: Error>(self, number: f32) -> Result<Field, E> {
        Ok(Field::Number(f64::from(number)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Field, E> {
        Ok(Field::Number(number as f64))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Field, E> {
        Ok(Field::Number(number as f64))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Field, E> {
        Ok(Field::Absent)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Absent)
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Field, E> {
        Ok(Field::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field, A::Error> {
        let first = list.next_element()?.unwrap_or_default();
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        let mut nested = Nested::default();
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Code => nested.code = map.next_value()?,
                Key::Latitude => nested.latitude = map.next_value()?,
                Key::Longitude => nested.longitude = map.next_value()?,
                Key::Other => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(Field::Nested(Box::new(nested)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Key {
    #[serde(alias = "iso_code")]
    Code,
    Latitude,
    Longitude,
    #[serde(other)]
    Other,
}
