//! An event as text.

use super::Unix;

/// An event as readers get it and as the journal keeps it, so that events of earlier runs and versions can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// Greater than those of all earlier events, also of earlier runs.
    pub id: u64,
    /// When it happened.
    pub at: Unix,
    /// The epoch of the first snapshot of its run that includes the change.
    pub epoch: u64,
    /// The stable name of its kind.
    pub name: String,
    /// The same as a sentence, of at most [`EventRecord::MAX_TEXT`] bytes.
    pub message: String,
    /// Its details by their stable names, each of at most [`EventRecord::MAX_TEXT`] bytes.
    pub fields: Vec<(String, String)>,
}

impl EventRecord {
    /// The maximum length of a text, in bytes: the mistakes in a config, say. The rest is in the log.
    pub const MAX_TEXT: usize = 64 * 1024;

    /// How many bytes its texts have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.message.len() + self.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }

    /// The text, or its beginning if it is too long.
    #[must_use]
    pub fn text(text: String) -> String {
        beginning(text, Self::MAX_TEXT)
    }
}

/// The text, or its beginning if it has more than so many bytes.
pub(super) fn beginning(mut text: String, most: usize) -> String {
    const MORE: &str = "…";
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most - MORE.len()));
        text.push_str(MORE);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let whole = "é".repeat(EventRecord::MAX_TEXT / 2);
        assert_eq!(EventRecord::text(whole.clone()), whole);
        let cut = EventRecord::text(whole + "é");
        assert!(cut.len() <= EventRecord::MAX_TEXT && cut.ends_with("é…"), "{} bytes", cut.len());
    }
}
