//! How long ago something was, for people.

/// How long ago a moment was; the text itself if it is not a timestamp.
pub(super) fn since(moment: &str) -> String {
    let Ok(moment) = moment.parse::<jiff::Timestamp>() else { return moment.to_owned() };
    span(u64::try_from(jiff::Timestamp::now().duration_since(moment).as_secs()).unwrap_or(0))
}

/// The two largest units of a time: "45s", "12m 5s", "3h 20m", "9d 4h".
pub(super) fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let (unit, name) = UNITS[first];
    let mut text = format!("{}{name}", seconds / unit);
    if let Some((smaller, name)) = UNITS.get(first + 1)
        && seconds % unit >= *smaller
    {
        text += &format!(" {}{name}", seconds % unit / smaller);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_show_their_two_largest_units() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (725, "12m 5s"),
            (3_600, "1h"),
            (3_659, "1h"),
            (12_000, "3h 20m"),
            (792_000, "9d 4h"),
        ] {
            assert_eq!(span(seconds), expected, "{seconds}");
        }
    }
}
