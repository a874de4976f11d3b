//! Logical lines → records, by the scanner of the `domain` crate, which is restarted after an error.

use domain::base::iana::{Class, Rtype};
use domain::base::name::{FlattenInto, ToName};
use domain::base::rdata::{ComposeRecordData, ParseAnyRecordData};
use domain::base::{Name as DomainName, ParsedName};
use domain::dep::octseq::Parser;
use domain::rdata::{AllRecordData, ZoneRecordData};
use domain::zonefile::inplace::{Entry, ScannedRecord, Zonefile};

use super::dialect::{self, Plain};
use super::generate::Template;
use super::lines::{Line, Lines};
use super::tokens::{INCOMPLETE, TRAILING};
use super::{MAX_ERRORS, RecordData, ZoneError, rtype, type_name};
use crate::model::{Name, Ttl};

/// A record and its position.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) owner: Name,
    pub(super) rtype: u16,
    pub(super) ttl: Ttl,
    pub(super) rdata: RecordData,
    pub(super) at: Position,
}

/// A line of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Index into [`Scanned::files`].
    pub(super) file: u16,
    /// The line, from 1.
    pub(super) line: u32,
}

impl Position {
    /// The position of a physical line, counted from 1, of the logical line that begins here.
    fn down(self, relative: usize) -> Self {
        Self { line: self.line + relative as u32 - 1, ..self }
    }
}

/// Everything found in a zone's text and in what it includes.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    pub(super) records: Vec<Record>,
    pub(super) files: Vec<String>,
    /// Syntax errors. With any of these, a missing record proves nothing.
    pub(super) errors: Vec<ZoneError>,
}

impl Scanned {
    /// An error or warning at a position.
    pub(super) fn problem(&self, at: Position, column: usize, message: String) -> ZoneError {
        ZoneError { file: self.files[usize::from(at.file)].clone(), line: at.line as usize, column, message }
    }
}

/// How deep `$INCLUDE` may nest; a file that includes itself ends here.
const MAX_INCLUDE_DEPTH: usize = 8;
/// Files of one zone, including its own.
const MAX_FILES: usize = 1_000;
/// Records that all `$GENERATE` directives of one zone make together: four reverse zones of a /16. One line of text must
/// not fill the memory.
const MAX_GENERATED: usize = 4 << 16;
/// No TTL was written: larger than any valid TTL (RFC 2181 §8).
const NO_TTL: u32 = u32::MAX;

/// Reads a zone's text and what it includes.
pub(super) fn scan(
    origin: &Name,
    text: &str,
    file: &str,
    include: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Scanned {
    let mut scanned = Scanned::default();
    let mut reader = Reader { scanned: &mut scanned, include, depth: 0, generated: 0 };
    let origin = DomainName::from_octets(origin.as_wire()).expect("names are valid wire names");
    reader.file(&absolute(&origin), NO_TTL, text, file);
    scanned
}

struct Reader<'a> {
    scanned: &'a mut Scanned,
    include: &'a mut dyn FnMut(&str) -> Result<String, String>,
    depth: usize,
    /// Records made by `$GENERATE` so far.
    generated: usize,
}

/// The state of reading one file.
struct Cursor {
    scanner: Zonefile,
    /// Physical lines the scanner has been given, its preamble included.
    given: usize,
    /// The current `$TTL`; [`NO_TTL`] before the first.
    default_ttl: u32,
    /// The last TTL stated by a record.
    stated_ttl: Option<Ttl>,
    /// A line with an owner failed, so the owner of following lines without one is unknown.
    owner_lost: bool,
    file: u16,
}

impl Cursor {
    fn new(origin: &str, default_ttl: u32, file: u16) -> Self {
        let mut cursor = Self {
            scanner: Zonefile::new(),
            given: 0,
            default_ttl,
            stated_ttl: None,
            owner_lost: false,
            file,
        };
        cursor.restart(origin);
        cursor
    }

    /// Replaces the scanner, whose state is undefined after an error.
    fn restart(&mut self, origin: &str) {
        self.scanner = Zonefile::new();
        self.scanner.set_default_class(Class::IN);
        let preamble = format!("$ORIGIN {origin}\n$TTL {}\n", self.default_ttl);
        self.scanner.extend_from_slice(preamble.as_bytes());
        self.given = 2;
        // Reading the preamble first makes the origin known whatever follows.
        let _ = self.scanner.next_entry();
    }

    /// Continues after a `$TTL` with an error, which is enough: records below are not reported for having no TTL.
    fn lose_ttl(&mut self, origin: &str) {
        self.default_ttl = Ttl::MAX.0;
        self.restart(origin);
    }

    fn origin(&self) -> String {
        self.scanner.origin().map_or_else(|_| ".".to_owned(), |origin| absolute(&origin))
    }
}

/// A name as written in a master file, with its last dot. Every byte with a special meaning is escaped (RFC 1035
/// §5.1), which the name's own text form does not do.
fn absolute<Octets: AsRef<[u8]>>(name: &DomainName<Octets>) -> String {
    let mut text = String::new();
    for label in name.iter().filter(|label| !label.is_root()) {
        for byte in label.as_slice() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'*' => text.push(char::from(*byte)),
                _ => text.extend(format!("\\{byte:03}").chars()),
            }
        }
        text.push('.');
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

impl Reader<'_> {
    /// One file from its first line to its last.
    fn file(&mut self, origin: &str, default_ttl: u32, text: &str, name: &str) {
        let file = self.scanned.files.len() as u16;
        self.scanned.files.push(name.to_owned());
        let mut cursor = Cursor::new(origin, default_ttl, file);
        for line in Lines::of(text) {
            if self.scanned.errors.len() >= MAX_ERRORS {
                return;
            }
            self.line(&mut cursor, &line);
        }
    }

    fn line(&mut self, cursor: &mut Cursor, line: &Line<'_>) {
        let has_owner = !line.text.starts_with([' ', '\t', '\r', '\n', ';']);
        let has_content = !line.text.trim_start().is_empty() && !line.text.trim_start().starts_with(';');
        if let Some(fault) = line.fault {
            let at = Position { file: cursor.file, line: fault.line as u32 };
            self.error(at, fault.column, fault.message.to_owned());
            cursor.owner_lost |= has_owner;
            return;
        }
        if !has_owner && (cursor.owner_lost || !has_content) {
            return;
        }
        // A directive has no owner, so lines after it still belong to the unknown one.
        cursor.owner_lost &= line.text.starts_with('$');
        let at = Position { file: cursor.file, line: line.number as u32 };
        if is_directive(line.text, "$GENERATE") {
            return self.generate(cursor, line.text, at);
        }
        let plain = match Plain::of(line.text, || cursor.origin()) {
            Ok(plain) => plain,
            Err((byte, message)) => {
                let (relative, column) = dialect::place(line.text, byte);
                self.error(at.down(relative), column, message);
                if is_ttl_directive(line.text) {
                    let origin = cursor.origin();
                    cursor.lose_ttl(&origin);
                } else {
                    cursor.owner_lost = has_owner;
                }
                return;
            }
        };
        let given_before = cursor.given;
        cursor.scanner.extend_from_slice(plain.text.as_bytes());
        if !plain.text.ends_with('\n') {
            cursor.scanner.extend_from_slice(b"\n");
        }
        cursor.given += plain.text.trim_end_matches('\n').matches('\n').count() + 1;
        match cursor.scanner.next_entry() {
            Ok(Some(Entry::Record(record))) => self.record(cursor, &record, at),
            Ok(Some(Entry::Include { path, origin: sub })) => {
                let sub = sub.map_or_else(|| cursor.origin(), |sub| absolute(&sub));
                self.include(cursor, path.as_ref(), &sub, at);
            }
            Ok(None) => Self::directive(cursor, &plain.text),
            Err(error) => {
                let ((relative, column), message) = locate(&error.to_string(), &plain, given_before);
                self.error(at.down(relative), column, message);
                let origin = cursor.origin();
                if is_ttl_directive(&plain.text) {
                    cursor.lose_ttl(&origin);
                } else {
                    cursor.restart(&origin);
                }
                cursor.owner_lost = true;
            }
        }
    }

    /// Stores the `$TTL` that the scanner has read, for the next scanner.
    fn directive(cursor: &mut Cursor, line: &str) {
        if !is_ttl_directive(line) {
            return;
        }
        // The number comes before any comment, or the scanner would have rejected the line.
        if let Some(ttl) = words(line).find_map(|word| word.parse().ok()) {
            cursor.default_ttl = ttl;
        }
    }

    fn record(&mut self, cursor: &mut Cursor, record: &ScannedRecord, at: Position) {
        let number = record.rtype().to_int();
        if number == 0 || number == rtype::OPT || (rtype::TKEY..=rtype::ANY).contains(&number) {
            let message =
                format!("{} is not a type that a zone can contain (RFC 6895 §3.1)", type_name(number));
            return self.error(at, 1, message);
        }
        // Larger TTLs were refused before the line was scanned, so that this is none.
        let written = Some(Ttl(record.ttl().as_secs())).filter(|ttl| *ttl <= Ttl::MAX);
        cursor.stated_ttl = written.or(cursor.stated_ttl);
        let Some(ttl) = cursor.stated_ttl else {
            let message = "no TTL here, in an earlier record or by $TTL (RFC 2308 §4)".to_owned();
            return self.error(at, 1, message);
        };
        match rdata(record) {
            Ok(rdata) => match Name::from_wire(record.owner().to_vec().as_slice()) {
                Ok(owner) => {
                    self.scanned.records.push(Record { owner, rtype: number, ttl, rdata, at });
                }
                Err(error) => self.error(at, 1, error.to_string()),
            },
            Err(message) => self.error(at, 1, message),
        }
    }

    /// Reads the lines that a `$GENERATE` stands for. The owner of a line without one below it is that of the line above.
    fn generate(&mut self, cursor: &Cursor, text: &str, at: Position) {
        let template = match Template::of(text) {
            Ok(template) => template,
            Err((byte, message)) => {
                let (relative, column) = dialect::place(text, byte);
                return self.error(at.down(relative), column, message);
            }
        };
        self.generated = self.generated.saturating_add(template.count());
        if self.generated > MAX_GENERATED {
            let message = format!("$GENERATE makes more than {MAX_GENERATED} records in this zone");
            return self.error(at, 1, message);
        }
        let mut made = Cursor::new(&cursor.origin(), cursor.default_ttl, cursor.file);
        made.stated_ttl = cursor.stated_ttl;
        let errors_before = self.scanned.errors.len();
        for text in template.lines() {
            for line in Lines::of(&text) {
                self.line(&mut made, &Line { number: at.line as usize, ..line });
            }
            // One error is enough: others would be the same.
            if let Some(error) = self.scanned.errors.get(errors_before) {
                let message =
                    format!("{} in {:?}, which $GENERATE makes here", error.message, text.trim_end());
                self.scanned.errors.truncate(errors_before);
                return self.error(at, 1, message);
            }
        }
    }

    fn include(&mut self, cursor: &Cursor, path: &str, origin: &str, at: Position) {
        if self.depth >= MAX_INCLUDE_DEPTH || self.scanned.files.len() >= MAX_FILES {
            return self.error(
                at,
                1,
                format!("$INCLUDE of {path} is nested too deeply; does it include itself?"),
            );
        }
        match (self.include)(path) {
            Ok(text) => {
                self.depth += 1;
                self.file(origin, cursor.default_ttl, &text, path);
                self.depth -= 1;
            }
            Err(message) => self.error(at, 1, format!("$INCLUDE of {path}: {message}")),
        }
    }

    fn error(&mut self, at: Position, column: usize, message: String) {
        let error = self.scanned.problem(at, column, message);
        self.scanned.errors.push(error);
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| c.is_ascii_whitespace() || "();".contains(c))
}

fn is_ttl_directive(line: &str) -> bool {
    is_directive(line, "$TTL")
}

fn is_directive(line: &str, name: &str) -> bool {
    words(line).next().is_some_and(|word| word.eq_ignore_ascii_case(name))
}

/// The record data in uncompressed wire format.
fn rdata(record: &ScannedRecord) -> Result<RecordData, String> {
    let mut wire = Vec::new();
    let Ok(()) = record.data().compose_rdata(&mut wire);
    if let ZoneRecordData::Unknown(unknown) = record.data() {
        wire = known_form(unknown.rtype(), wire)?;
    }
    if wire.len() > usize::from(u16::MAX) {
        return Err(format!("{} bytes of data; a record holds at most 65535", wire.len()));
    }
    Ok(wire.into())
}

/// RFC 3597 §5: data written as `\#` for a type that is known must have that type's form.
fn known_form(rtype: Rtype, wire: Vec<u8>) -> Result<Vec<u8>, String> {
    let wrong = || format!("this \\# data is not valid for type {rtype}");
    let mut parser = Parser::from_ref(wire.as_slice());
    let parsed: AllRecordData<&[u8], ParsedName<&[u8]>> =
        ParseAnyRecordData::parse_any_rdata(rtype, &mut parser).map_err(|_| wrong())?;
    if parser.remaining() > 0 {
        return Err(wrong());
    }
    let flat: AllRecordData<Vec<u8>, DomainName<Vec<u8>>> = parsed.flatten_into();
    let mut again = Vec::with_capacity(wire.len());
    let Ok(()) = flat.compose_rdata(&mut again);
    Ok(again)
}

/// The scanner's message for a record that is too short.
const END_OF_ENTRY: &str = "unexpected end of entry";

/// The position of an error in the logical line as written, from 1, and its message. The scanner reports
/// `line:column: message` and counts the lines that it was given.
fn locate(error: &str, line: &Plain<'_>, given_before: usize) -> ((usize, usize), String) {
    let mut parts = error.splitn(3, ':');
    let number = parts.next().and_then(|text| text.parse::<usize>().ok());
    let column = parts.next().and_then(|text| text.parse::<usize>().ok()).unwrap_or(1).max(1);
    let message = parts.next().unwrap_or(error).trim().to_owned();
    let relative = number.map_or(1, |number| number.saturating_sub(given_before)).max(1);
    let text = line.text.trim_end();
    let feeds = text.match_indices('\n').map(|(feed, _)| feed + 1);
    let start = std::iter::once(0).chain(feeds).nth(relative - 1);
    // The scanner notices the end of a line only after its line feed.
    let byte = start.map_or(text.len(), |start| start + column - 1);
    let byte = if message == END_OF_ENTRY { byte } else { token_start(text, byte) };
    (line.place(byte), plain(&message))
}

/// The first byte of the token before or after which the scanner stopped, where a reader expects the error.
fn token_start(text: &str, byte: usize) -> usize {
    let before = &text.as_bytes()[..byte.min(text.len())];
    before.len() - before.iter().rev().take_while(|byte| !byte.is_ascii_whitespace()).count()
}

/// The scanner's message, reworded where that is clearer.
fn plain(message: &str) -> String {
    if let Some(classes) = message.strip_prefix("different class: ") {
        let found = classes.split(" != ").next().unwrap_or_default();
        return format!("class {found}: only IN is served");
    }
    match message {
        "expected decimal number" => {
            "expected a number; TTLs and the times of a SOA may have units, such as 5m".to_owned()
        }
        "expected rtype" => "expected a record type, or a TTL such as 300 or 5m".to_owned(),
        END_OF_ENTRY => INCOMPLETE.to_owned(),
        "trailing tokens" => TRAILING.to_owned(),
        "missing last owner" => "no owner: the first record of a file must name one".to_owned(),
        "unknown record type with concrete data" => {
            "a type without a known text form needs its data as \\# (RFC 3597 §5)".to_owned()
        }
        other => other.to_owned(),
    }
}
