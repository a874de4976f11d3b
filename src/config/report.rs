//! Where the readers report what is wrong, and how they read other files.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::Lines;
use super::source::{FileKind, Source, how_to_fix, why_unreadable};
use super::{Diagnostic, Diagnostics, Severity, Spot};
use crate::model::{Name, PlaceKey};

/// Reads a file: the only access to the outside world.
pub(super) type Loader<'a> = &'a dyn Fn(&Source<'_>) -> io::Result<Vec<u8>>;

/// Quotation marks that word processors and web pages substitute for plain ones.
const TYPOGRAPHIC: [char; 7] = ['“', '”', '„', '‘', '’', '«', '»'];

/// Collects diagnostics about one config file and the files it names.
pub(super) struct Report<'a> {
    file: &'a Path,
    lines: Lines<'a>,
    read: Loader<'a>,
    places: RefCell<Vec<(PlaceKey, Spot)>>,
    hosts: RefCell<Vec<(Name, Spot)>>,
    /// Lines with a syntax error: values decoded there may be incomplete, so they are not reported again.
    torn: RefCell<BTreeSet<usize>>,
    found: RefCell<Vec<Diagnostic>>,
    sources: RefCell<BTreeMap<PathBuf, Arc<str>>>,
    errors: Cell<usize>,
}

/// How the parser's messages begin where most often the quotes are missing, whatever it takes the text for.
const UNQUOTED: [&str; 5] =
    ["string values must be quoted", "invalid float", "invalid boolean", "invalid time", "invalid date"];

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str, read: Loader<'a>) -> Self {
        let sources = BTreeMap::from([(file.to_path_buf(), Arc::from(text))]);
        Self {
            file,
            lines: Lines::new(text),
            read,
            places: RefCell::default(),
            hosts: RefCell::default(),
            torn: RefCell::default(),
            found: RefCell::default(),
            sources: RefCell::new(sources),
            errors: Cell::new(0),
        }
    }

    /// Reports a syntax error. The rest is still read, so that one run shows every error.
    pub(super) fn syntax(&self, error: &toml::de::Error) {
        // Without a span the error is at the end of the file.
        let span = error.span().unwrap_or(self.lines.text.len()..self.lines.text.len());
        let line = self.lines.position(span.clone()).0;
        let message = match (error.message(), self.lines.text.get(span.clone())) {
            ("duplicate key", Some(key)) => format!("`{key}` is written twice"),
            (_, Some(value)) if value.starts_with(TYPOGRAPHIC) => {
                let quote = &value[..value.ceil_char_boundary(1)];
                format!("{quote} is not a quotation mark in TOML: write \" before and after the text")
            }
            (message, value) if UNQUOTED.iter().any(|start| message.starts_with(start)) => {
                let is_missing = value.is_none_or(|value| value.trim().is_empty());
                let what = if is_missing { "a value is missing" } else { "this is not a valid value" };
                format!("{what}: write text, addresses and durations in quotes, as in \"5s\"")
            }
            (message, _) => message.trim().to_owned(),
        };
        // An unclosed list is reported again in each of the lines below it.
        let found = self.found.borrow();
        let is_echo = self.torn.borrow().contains(&(line - 1))
            && found.last().is_some_and(|last| last.message == message);
        drop(found);
        if !is_echo {
            self.error(span, message);
        }
        self.torn.borrow_mut().insert(line);
    }

    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>) {
        self.add(Severity::Error, span, message.into(), None);
    }

    pub(super) fn error_with_help(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(Severity::Error, span, message.into(), Some(help.into()));
    }

    pub(super) fn warning(&self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Warning, span, message.into(), Some(help.into()));
    }

    /// Reports that something is missing, unless a syntax error may have swallowed it.
    pub(super) fn absent(&self, span: Range<usize>, message: impl Into<String>) {
        if !self.is_torn() {
            self.error(span, message);
        }
    }

    /// Whether a syntax error may have swallowed part of the config.
    pub(super) fn is_torn(&self) -> bool {
        !self.torn.borrow().is_empty()
    }

    /// Whether the config contains this text anywhere.
    pub(super) fn mentions(&self, text: &str) -> bool {
        self.lines.text.contains(text)
    }

    fn add(&self, severity: Severity, span: Range<usize>, message: String, help: Option<String>) {
        let (line, column, end_column) = self.lines.position(span);
        if self.torn.borrow().contains(&line) {
            return;
        }
        let file = self.file.to_path_buf();
        self.push(Diagnostic { severity, file, line, column, end_column, message, help });
    }

    /// Adds a diagnostic about another file, which has its own location.
    pub(super) fn push(&self, diagnostic: Diagnostic) {
        if diagnostic.severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        self.found.borrow_mut().push(diagnostic);
    }

    /// The number of errors so far, repeated ones included: compare two readings to see whether any occurred between.
    pub(super) fn errors(&self) -> usize {
        self.errors.get()
    }

    /// Resolves a path from the config relative to the config file's folder.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or_else(|| Path::new("")).join(path)
    }

    /// Reads another file and keeps its text for the diagnostics in it.
    pub(super) fn load(&self, source: &Source<'_>) -> Result<Arc<str>, Unreadable> {
        let text: Arc<str> = text_of(source, self.read)?.into();
        self.sources.borrow_mut().insert(source.path.to_path_buf(), Arc::clone(&text));
        Ok(text)
    }

    /// Reads the file that the config names at `span`.
    pub(super) fn load_named(
        &self,
        span: Range<usize>,
        kind: FileKind,
        name: &str,
    ) -> Option<(PathBuf, Arc<str>)> {
        let path = self.resolve(name);
        match self.load(&kind.at(&path)) {
            Ok(text) => Some((path, text)),
            Err(Unreadable::NotText { place: (line, column), why }) => {
                let message = format!("{kind}: {why}");
                self.push(Diagnostic {
                    severity: Severity::Error,
                    file: path,
                    line,
                    column,
                    end_column: column + 1,
                    message,
                    help: None,
                });
                None
            }
            Err(Unreadable::Failed(error)) => {
                let why = why_unreadable(&error);
                self.error_with_help(span, format!("{kind} {}: {why}", path.display()), how_to_fix(&error));
                None
            }
        }
    }

    /// A location in the config.
    pub(super) fn spot(&self, span: Range<usize>) -> Spot {
        let (line, column, end_column) = self.lines.position(span);
        Spot { file: self.file.into(), line, column, end_column }
    }

    /// Records where the config names a place.
    pub(super) fn place(&self, span: Range<usize>, key: &PlaceKey) {
        self.place_at(self.spot(span), key);
    }

    /// Like [`Report::place`], in another file.
    pub(super) fn place_at(&self, spot: Spot, key: &PlaceKey) {
        self.places.borrow_mut().push((*key, spot));
    }

    /// The places named so far.
    pub(super) fn take_places(&self) -> Vec<(PlaceKey, Spot)> {
        self.places.take()
    }

    /// Records where the config names the host of an endpoint or backend.
    pub(super) fn host(&self, span: Range<usize>, host: &Name) {
        self.hosts.borrow_mut().push((host.clone(), self.spot(span)));
    }

    /// The hosts named so far.
    pub(super) fn take_hosts(&self) -> Vec<(Name, Spot)> {
        self.hosts.take()
    }

    pub(super) fn finish(self) -> Diagnostics {
        Diagnostics::new(self.file, self.found.into_inner(), self.sources.into_inner())
    }
}

/// Why a file cannot be read as text.
pub(super) enum Unreadable {
    /// It is not text.
    NotText {
        /// Line and column of the first invalid byte.
        place: (usize, usize),
        /// A short clause.
        why: String,
    },
    /// It could not be read.
    Failed(io::Error),
}

impl Unreadable {
    pub(super) fn place(&self) -> Option<(usize, usize)> {
        match self {
            Self::NotText { place, .. } => Some(*place),
            Self::Failed(_) => None,
        }
    }

    /// A short clause.
    pub(super) fn why(&self) -> String {
        match self {
            Self::NotText { why, .. } => why.clone(),
            Self::Failed(error) => why_unreadable(error),
        }
    }
}

/// The text of a file; a byte order mark in front is dropped.
pub(super) fn text_of(source: &Source<'_>, read: Loader<'_>) -> Result<String, Unreadable> {
    let bytes = read(source).map_err(Unreadable::Failed)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let bad = error.as_bytes()[good.len()];
        let (line, column, _) = Lines::new(&good).position(good.len()..good.len());
        Unreadable::NotText { place: (line, column), why: format!("not UTF-8: byte 0x{bad:02x}") }
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}
