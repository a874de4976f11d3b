//! The continent and centre of each country.

use crate::model::{Continent, Country, Point};

use Continent::{AF, AN, AS, EU, NA, OC, SA};

/// The continent of a country; `None` for codes that ISO 3166-1 does not assign.
#[must_use]
pub fn continent_of(country: Country) -> Option<Continent> {
    row_of(country).map(|row| row.continent)
}

/// A point that represents a whole country: the mean position of its addresses, which is closer to the centre of its
/// population than to that of its area.
#[must_use]
pub fn centre_of(country: Country) -> Option<Point> {
    row_of(country).map(|row| row.centre)
}

/// Every country with an ISO 3166-1 code, in the order of the codes.
pub fn countries() -> impl Iterator<Item = Country> {
    COUNTRIES.iter().map(|row| row.country)
}

fn row_of(country: Country) -> Option<&'static Row> {
    COUNTRIES.binary_search_by_key(&country, |row| row.country).ok().map(|at| &COUNTRIES[at])
}

struct Row {
    country: Country,
    continent: Continent,
    centre: Point,
}

const fn row(code: &[u8; 2], continent: Continent, lat: f32, lon: f32) -> Row {
    Row { country: Country(*code), continent, centre: Point { lat, lon } }
}

/// Sorted by code. Continents are those of countries-list 3.4.1 (see NOTICE), except for Russia, which is in
/// Europe as in GeoNames and the UN's M49, where most of its addresses are. Centres are the address-weighted
/// means of DB-IP City Lite 2026-06 (see NOTICE); AC and TA, which have no addresses there, are the islands.
#[rustfmt::skip]
const COUNTRIES: &[Row] = &[
    row(b"AC", AF, -7.9, -14.4),
    row(b"AD", EU, 42.5, 1.5),
    row(b"AE", AS, 24.9, 55.0),
    row(b"AF", AS, 34.5, 68.7),
    row(b"AG", NA, 17.1, -61.8),
    row(b"AI", NA, 18.2, -63.1),
    row(b"AL", EU, 41.2, 19.9),
    row(b"AM", AS, 40.2, 44.5),
    row(b"AO", AF, -8.9, 13.3),
    row(b"AQ", AN, -82.0, 145.7),
    row(b"AR", SA, -34.3, -59.8),
    row(b"AS", OC, -14.3, -170.7),
    row(b"AT", EU, 48.0, 15.6),
    row(b"AU", OC, -33.9, 147.4),
    row(b"AW", NA, 12.5, -70.0),
    row(b"AX", EU, 60.1, 19.9),
    row(b"AZ", AS, 40.4, 49.8),
    row(b"BA", EU, 44.2, 18.1),
    row(b"BB", NA, 13.1, -59.6),
    row(b"BD", AS, 23.8, 90.4),
    row(b"BE", EU, 50.9, 4.4),
    row(b"BF", AF, 12.3, -1.6),
    row(b"BG", EU, 42.7, 24.4),
    row(b"BH", AS, 26.2, 50.6),
    row(b"BI", AF, -3.4, 29.4),
    row(b"BJ", AF, 6.5, 2.5),
    row(b"BL", NA, 17.9, -62.8),
    row(b"BM", NA, 32.3, -64.8),
    row(b"BN", AS, 4.8, 114.7),
    row(b"BO", SA, -17.1, -66.7),
    row(b"BQ", NA, 12.6, -67.9),
    row(b"BR", SA, -21.3, -47.0),
    row(b"BS", NA, 25.1, -77.4),
    row(b"BT", AS, 27.4, 89.7),
    row(b"BV", AN, -54.4, 3.3),
    row(b"BW", AF, -24.4, 25.9),
    row(b"BY", EU, 53.8, 27.9),
    row(b"BZ", NA, 17.3, -88.4),
    row(b"CA", NA, 47.2, -82.2),
    row(b"CC", AS, -12.2, 96.8),
    row(b"CD", AF, -4.7, 16.9),
    row(b"CF", AF, 4.4, 18.5),
    row(b"CG", AF, -4.2, 15.1),
    row(b"CH", EU, 47.1, 7.8),
    row(b"CI", AF, 5.4, -4.1),
    row(b"CK", OC, -20.9, -159.7),
    row(b"CL", SA, -33.6, -70.9),
    row(b"CM", AF, 4.1, 10.5),
    row(b"CN", AS, 33.6, 115.6),
    row(b"CO", SA, 5.3, -74.5),
    row(b"CR", NA, 10.0, -84.2),
    row(b"CU", NA, 23.0, -82.1),
    row(b"CV", AF, 15.7, -23.6),
    row(b"CW", NA, 12.1, -68.9),
    row(b"CX", AS, -10.4, 105.7),
    row(b"CY", EU, 35.1, 33.3),
    row(b"CZ", EU, 49.9, 15.1),
    row(b"DE", EU, 50.3, 9.5),
    row(b"DJ", AF, 11.8, 42.7),
    row(b"DK", EU, 56.0, 11.1),
    row(b"DM", NA, 15.3, -61.4),
    row(b"DO", NA, 18.7, -70.1),
    row(b"DZ", AF, 36.0, 3.3),
    row(b"EC", SA, -1.3, -79.1),
    row(b"EE", EU, 59.4, 24.9),
    row(b"EG", AF, 30.1, 31.2),
    row(b"EH", AF, 27.1, -13.2),
    row(b"ER", AF, 15.3, 38.9),
    row(b"ES", EU, 40.1, -3.3),
    row(b"ET", AF, 9.0, 38.8),
    row(b"FI", EU, 60.7, 24.9),
    row(b"FJ", OC, -18.1, 178.4),
    row(b"FK", SA, -51.7, -57.9),
    row(b"FM", OC, 7.2, 156.5),
    row(b"FO", EU, 62.0, -6.8),
    row(b"FR", EU, 48.0, 2.6),
    row(b"GA", AF, 0.4, 9.5),
    row(b"GB", EU, 51.8, -0.5),
    row(b"GD", NA, 12.1, -61.7),
    row(b"GE", AS, 41.7, 44.7),
    row(b"GF", SA, 4.9, -52.4),
    row(b"GG", EU, 49.5, -2.5),
    row(b"GH", AF, 5.6, -0.2),
    row(b"GI", EU, 36.1, -5.4),
    row(b"GL", NA, 64.6, -51.6),
    row(b"GM", AF, 13.4, -16.7),
    row(b"GN", AF, 9.5, -13.6),
    row(b"GP", NA, 16.2, -61.6),
    row(b"GQ", AF, 3.2, 9.2),
    row(b"GR", EU, 38.3, 23.6),
    row(b"GS", AN, -54.3, -36.5),
    row(b"GT", NA, 14.6, -90.6),
    row(b"GU", OC, 13.5, 144.8),
    row(b"GW", AF, 11.9, -15.5),
    row(b"GY", SA, 6.8, -58.2),
    row(b"HK", AS, 22.3, 114.2),
    row(b"HM", AN, -53.1, 73.5),
    row(b"HN", NA, 14.5, -87.4),
    row(b"HR", EU, 45.5, 16.1),
    row(b"HT", NA, 18.5, -72.3),
    row(b"HU", EU, 47.4, 19.1),
    row(b"ID", AS, -6.0, 107.6),
    row(b"IE", EU, 53.3, -6.5),
    row(b"IL", AS, 32.1, 34.9),
    row(b"IM", EU, 54.2, -4.5),
    row(b"IN", AS, 20.4, 76.6),
    row(b"IO", AS, -7.3, 72.4),
    row(b"IQ", AS, 33.8, 44.5),
    row(b"IR", AS, 35.2, 51.4),
    row(b"IS", EU, 64.2, -21.8),
    row(b"IT", EU, 43.9, 10.9),
    row(b"JE", EU, 49.2, -2.1),
    row(b"JM", NA, 18.1, -77.0),
    row(b"JO", AS, 31.9, 35.9),
    row(b"JP", AS, 35.6, 139.1),
    row(b"KE", AF, -1.3, 36.8),
    row(b"KG", AS, 42.7, 74.5),
    row(b"KH", AS, 11.7, 104.8),
    row(b"KI", OC, 1.3, 174.8),
    row(b"KM", AF, -11.7, 43.3),
    row(b"KN", NA, 17.3, -62.7),
    row(b"KP", AS, 39.1, 125.8),
    row(b"KR", AS, 37.2, 127.1),
    row(b"KW", AS, 29.4, 48.0),
    row(b"KY", NA, 19.3, -81.4),
    row(b"KZ", AS, 46.1, 73.7),
    row(b"LA", AS, 18.0, 102.8),
    row(b"LB", AS, 33.9, 35.5),
    row(b"LC", NA, 14.0, -61.0),
    row(b"LI", EU, 47.2, 9.5),
    row(b"LK", AS, 7.0, 80.0),
    row(b"LR", AF, 6.3, -10.8),
    row(b"LS", AF, -29.3, 27.6),
    row(b"LT", EU, 54.8, 25.0),
    row(b"LU", EU, 49.6, 6.1),
    row(b"LV", EU, 57.0, 24.1),
    row(b"LY", AF, 32.7, 13.9),
    row(b"MA", AF, 33.7, -7.0),
    row(b"MC", EU, 43.7, 7.4),
    row(b"MD", EU, 47.0, 28.9),
    row(b"ME", EU, 42.4, 19.2),
    row(b"MF", NA, 18.1, -63.1),
    row(b"MG", AF, -18.8, 47.5),
    row(b"MH", OC, 7.1, 171.2),
    row(b"MK", EU, 41.9, 21.5),
    row(b"ML", AF, 12.6, -8.0),
    row(b"MM", AS, 17.9, 96.3),
    row(b"MN", AS, 47.9, 106.7),
    row(b"MO", AS, 22.2, 113.6),
    row(b"MP", OC, 15.2, 145.7),
    row(b"MQ", NA, 14.6, -61.0),
    row(b"MR", AF, 18.2, -15.7),
    row(b"MS", NA, 16.7, -62.2),
    row(b"MT", EU, 35.9, 14.5),
    row(b"MU", AF, -20.2, 57.5),
    row(b"MV", AS, 4.2, 73.5),
    row(b"MW", AF, -14.6, 34.2),
    row(b"MX", NA, 21.2, -100.3),
    row(b"MY", AS, 3.1, 102.1),
    row(b"MZ", AF, -25.2, 33.0),
    row(b"NA", AF, -22.6, 17.0),
    row(b"NC", OC, -22.2, 166.4),
    row(b"NE", AF, 13.5, 2.4),
    row(b"NF", OC, -29.1, 168.0),
    row(b"NG", AF, 6.8, 4.0),
    row(b"NI", NA, 12.2, -86.2),
    row(b"NL", EU, 52.2, 5.1),
    row(b"NO", EU, 60.4, 10.1),
    row(b"NP", AS, 27.7, 85.1),
    row(b"NR", OC, -0.5, 166.9),
    row(b"NU", OC, -19.1, -169.9),
    row(b"NZ", OC, -38.4, 174.6),
    row(b"OM", AS, 23.5, 58.2),
    row(b"PA", NA, 8.9, -79.7),
    row(b"PE", SA, -11.9, -76.9),
    row(b"PF", OC, -17.5, -149.5),
    row(b"PG", OC, -8.3, 146.7),
    row(b"PH", AS, 14.2, 121.3),
    row(b"PK", AS, 30.8, 71.5),
    row(b"PL", EU, 52.0, 19.9),
    row(b"PM", NA, 46.8, -56.2),
    row(b"PN", OC, -25.1, -130.1),
    row(b"PR", NA, 18.4, -66.2),
    row(b"PS", AS, 32.0, 35.1),
    row(b"PT", EU, 39.4, -9.2),
    row(b"PW", OC, 7.4, 134.6),
    row(b"PY", SA, -25.3, -57.2),
    row(b"QA", AS, 25.3, 51.5),
    row(b"RE", AF, -21.0, 55.4),
    row(b"RO", EU, 45.1, 25.7),
    row(b"RS", EU, 44.7, 20.5),
    row(b"RU", EU, 57.2, 48.4),
    row(b"RW", AF, -1.9, 30.1),
    row(b"SA", AS, 24.6, 45.9),
    row(b"SB", OC, -9.4, 160.0),
    row(b"SC", AF, -4.6, 55.5),
    row(b"SD", AF, 15.6, 32.6),
    row(b"SE", EU, 59.1, 16.5),
    row(b"SG", AS, 1.3, 103.8),
    row(b"SH", AF, -15.9, -5.7),
    row(b"SI", EU, 46.1, 14.6),
    row(b"SJ", EU, 78.2, 15.6),
    row(b"SK", EU, 48.4, 18.2),
    row(b"SL", AF, 8.5, -13.2),
    row(b"SM", EU, 44.0, 12.5),
    row(b"SN", AF, 14.7, -17.3),
    row(b"SO", AF, 4.8, 45.1),
    row(b"SR", SA, 5.8, -55.2),
    row(b"SS", AF, 4.9, 31.6),
    row(b"ST", AF, 0.3, 6.7),
    row(b"SV", NA, 13.7, -89.2),
    row(b"SX", NA, 18.0, -63.1),
    row(b"SY", AS, 33.8, 36.4),
    row(b"SZ", AF, -26.4, 31.2),
    row(b"TA", AF, -37.1, -12.3),
    row(b"TC", NA, 21.8, -72.2),
    row(b"TD", AF, 12.1, 15.2),
    row(b"TF", AN, -49.3, 70.2),
    row(b"TG", AF, 6.3, 1.2),
    row(b"TH", AS, 13.8, 100.6),
    row(b"TJ", AS, 38.7, 68.8),
    row(b"TK", OC, -9.3, -171.4),
    row(b"TL", OC, -8.6, 125.5),
    row(b"TM", AS, 37.9, 58.7),
    row(b"TN", AF, 36.7, 10.2),
    row(b"TO", OC, -21.1, -175.2),
    row(b"TR", AS, 40.1, 30.9),
    row(b"TT", NA, 10.6, -61.5),
    row(b"TV", OC, -8.5, 179.2),
    row(b"TW", AS, 24.9, 121.4),
    row(b"TZ", AF, -6.6, 38.7),
    row(b"UA", EU, 49.9, 30.7),
    row(b"UG", AF, 0.3, 32.5),
    row(b"UM", OC, 19.3, 166.6),
    row(b"US", NA, 39.6, -89.7),
    row(b"UY", SA, -34.5, -56.1),
    row(b"UZ", AS, 41.2, 69.2),
    row(b"VA", EU, 41.9, 12.5),
    row(b"VC", NA, 13.1, -61.2),
    row(b"VE", SA, 10.2, -67.7),
    row(b"VG", NA, 18.4, -64.6),
    row(b"VI", NA, 18.3, -64.9),
    row(b"VN", AS, 18.8, 106.1),
    row(b"VU", OC, -17.7, 168.3),
    row(b"WF", OC, -13.3, -176.2),
    row(b"WS", OC, -13.8, -171.8),
    row(b"XK", EU, 42.6, 21.1),
    row(b"YE", AS, 15.1, 44.4),
    row(b"YT", AF, -12.8, 45.2),
    row(b"ZA", AF, -28.7, 25.7),
    row(b"ZM", AF, -15.4, 28.3),
    row(b"ZW", AF, -18.1, 30.7),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_in_range() {
        assert!(COUNTRIES.is_sorted_by(|a, b| a.country < b.country));
        for Row { country, centre, .. } in COUNTRIES {
            assert!(centre.lat.abs() <= 90.0 && centre.lon.abs() <= 180.0, "{country}");
        }
    }

    #[test]
    fn centres_are_near_their_countries() {
        for (code, continent, lat, lon) in
            [("DE", EU, 51.0, 9.0), ("RU", EU, 56.0, 45.0), ("JP", AS, 35.7, 139.0), ("NZ", OC, -40.0, 174.0)]
        {
            let country = code.parse().unwrap();
            assert_eq!(continent_of(country), Some(continent), "{code}");
            let far = centre_of(country).unwrap().distance_km(Point { lat, lon });
            assert!(far < 500.0, "{code} is {far} km off");
        }
        assert_eq!(continent_of(Country(*b"QQ")), None);
    }
}
