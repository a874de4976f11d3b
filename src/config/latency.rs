//! `[latency]`: known round-trip times, from the config and from a file.

use std::path::Path;
use std::sync::Arc;

use crate::model::{LatencyRow, PlaceKey, RegionId};

use super::keys::Shape::{Fields, List, Number, Text};
use super::keys::{Keys, key, otherwise, required};
use super::place::{A_PLACE, Names, place};
use super::report::Report;
use super::table::{Table, Value};
use super::{Diagnostic, FileKind, Severity, Spot, text};

pub(super) const LATENCY: Keys = Keys {
    known: &[
        key(
            "file",
            Text,
            otherwise("\"latency.csv\"", "none"),
            "CSV file with lines of place,region,ms; at most 64 MiB",
        ),
        key("table", List(&Fields(&ROW)), otherwise("", "none"), "rows that take precedence over the file"),
    ],
    later: &[],
};
const ROW: Keys = Keys {
    known: &[
        key("from", Text, required("\"country:DE\""), "place of the clients"),
        key("region", Text, required("\"eu-west\""), "region that serves them"),
        key("ms", Number(0.0, MOST_MILLIS), required("25"), "round-trip time in milliseconds, above 0"),
    ],
    later: &[],
};

/// One minute: nothing on Earth is further away.
const MOST_MILLIS: f64 = 60_000.0;

/// Errors reported for one file before the rest of it is skipped.
const MOST_REPORTED: usize = 20;

/// Reads the file first: of two rows for the same place and region the later wins, so rows in the config itself
/// override the file.
pub(super) fn read(root: &Table<'_>, groups: &Names<'_>, regions: &Names<'_>) -> Vec<LatencyRow> {
    let Some(table) = root.get("latency").and_then(|value| value.table("latency", &LATENCY)) else {
        return Vec::new();
    };
    let mut rows = table.get("file").map(|value| read_file(&value, groups, regions)).unwrap_or_default();
    for item in table.get("table").and_then(|value| value.items("a list of rows")).unwrap_or_default() {
        rows.extend(read_row(&item, groups, regions));
    }
    rows
}

fn read_row(value: &Value<'_>, groups: &Names<'_>, regions: &Names<'_>) -> Option<LatencyRow> {
    let table = value.table("latency.table", &ROW)?;
    let from = table.need("from").and_then(|value| {
        let place = value.parsed(A_PLACE, |text| place(text, groups))?;
        value.report.place(value.span.clone(), &place);
        Some(place)
    });
    let region = table.need("region").and_then(|value| regions.refer(&value));
    let millis = table.need("ms").and_then(|value| match value.number(0.0..=MOST_MILLIS)? {
        0.0 => value.expected("milliseconds above 0"),
        millis => Some(millis),
    });
    Some(LatencyRow { from: from?, region: RegionId(region? as u16), millis: millis? })
}

fn read_file(value: &Value<'_>, groups: &Names<'_>, regions: &Names<'_>) -> Vec<LatencyRow> {
    let Some(name) = value.text("a path") else { return Vec::new() };
    let Some((path, text)) = value.report.load_named(value.span.clone(), FileKind::Latency, name) else {
        return Vec::new();
    };
    let file: Arc<Path> = path.as_path().into();
    let mut rows = Vec::new();
    let mut reported = 0;
    for (index, line) in text.lines().enumerate() {
        let is_header = || line.split(',').map(str::trim).eq(["place", "region", "ms"]);
        let is_first = rows.is_empty() && reported == 0;
        if line.trim().is_empty() || line.starts_with('#') || (is_first && is_header()) {
            continue;
        }
        match parse_line(line, groups, regions) {
            Ok(row) => {
                let place = line.split(',').next().unwrap_or_default();
                let column = place.chars().take_while(|c| c.is_whitespace()).count() + 1;
                let end_column = column + place.trim().chars().count();
                let spot = Spot { file: Arc::clone(&file), line: index + 1, column, end_column };
                value.report.place_at(spot, &row.from);
                rows.push(row);
            }
            Err(field) if reported < MOST_REPORTED => {
                reported += 1;
                report_field(value.report, &path, index + 1, field);
            }
            Err(_) => {
                let message = format!("more than {MOST_REPORTED} bad lines; the rest was not read");
                report_field(value.report, &path, index + 1, Field { column: 1, width: 1, message });
                break;
            }
        }
    }
    rows
}

/// An error in a part of a line.
struct Field {
    column: usize,
    width: usize,
    message: String,
}

fn report_field(report: &Report<'_>, file: &Path, line: usize, field: Field) {
    report.push(Diagnostic {
        severity: Severity::Error,
        file: file.to_path_buf(),
        line,
        column: field.column,
        end_column: field.column + field.width.max(1),
        message: field.message,
        help: None,
    });
}

fn parse_line(line: &str, groups: &Names<'_>, regions: &Names<'_>) -> Result<LatencyRow, Field> {
    let fields: Vec<&str> = line.split(',').collect();
    let [from, region, millis] = fields[..] else {
        let message = format!("expected place,region,ms, found {} fields", fields.len());
        return Err(Field { column: 1, width: line.chars().count(), message });
    };
    // The fields are slices of the line, so their columns follow from the text before them.
    let at = |before: &[&str], field: &str, message: String| {
        let skipped: usize = before.iter().map(|it| it.chars().count() + 1).sum();
        let blanks = field.chars().take_while(|c| c.is_whitespace()).count();
        Field { column: skipped + blanks + 1, width: field.trim().chars().count(), message }
    };
    let place: PlaceKey = place(from.trim(), groups).map_err(|message| at(&[], from, message))?;
    let index = regions.index(region.trim()).map_err(|message| at(&[from], region, message))?;
    let number = millis.trim().parse().ok().filter(|millis| *millis > 0.0 && *millis <= MOST_MILLIS);
    let millis = number.ok_or_else(|| {
        let message = format!(
            "expected milliseconds above 0 and up to {MOST_MILLIS}, found {:?}",
            text::shortened(millis.trim())
        );
        at(&[from, region], millis, message)
    })?;
    Ok(LatencyRow { from: place, region: RegionId(index as u16), millis })
}
