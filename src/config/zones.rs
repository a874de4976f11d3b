//! `[[zone]]`: static records, and the services that share their zones.

use std::path::{Component, Path};

use crate::model::{Name, Service};
use crate::zone::{Dynamic, Zone, ZoneError, Zones};

use super::keys::Shape::{Boolean, Text};
use super::keys::{Keys, default, key, required};
use super::report::Report;
use super::table::{At, Table, Value};
use super::{Diagnostic, FileKind, Severity, Source, text};

pub(super) const ZONE: Keys = Keys {
    known: &[
        key("origin", Text, required("\"gslb.example.com.\""), "name of its apex"),
        key(
            "file",
            Text,
            required("\"gslb.example.com.zone\""),
            "zone file (RFC 1035); at most 256 MiB with all that it includes",
        ),
        key("dnssec", Boolean, default("false"), "whether to sign it; not supported yet"),
    ],
    later: &[],
};

/// The zones of a config, as far as they could be read.
pub(super) struct ReadZones {
    pub(super) zones: Vec<Zone>,
    /// The origin of each `[[zone]]`, and where it is written.
    origins: Vec<At<Name>>,
    /// Origins of zones with errors: what they contain is not known.
    unread: Vec<Name>,
}

/// Reads every `[[zone]]` and its file.
pub(super) fn read_all(root: &Table<'_>) -> ReadZones {
    let mut zones: Vec<Zone> = Vec::new();
    let mut origins: Vec<At<Name>> = Vec::new();
    let mut unread: Vec<Name> = Vec::new();
    for item in root.get("zone").and_then(|value| value.items("a list of zones")).unwrap_or_default() {
        let Some((origin, zone)) = read(&item, &mut origins) else {
            unread.push(Name::root());
            continue;
        };
        match zone {
            Some(zone) => zones.push(zone),
            None => unread.push(origin),
        }
    }
    ReadZones { zones, origins, unread }
}

impl ReadZones {
    /// Adds the services to their zones, and reports those that cannot be added.
    pub(super) fn join(self, report: &Report<'_>, services: &[At<Service>]) -> Zones {
        let mut wanted = Dynamic::all(services.iter().map(|service| &service.value));
        wanted.retain(|dynamic| !self.unread.iter().any(|origin| dynamic.name.is_at_or_below(origin)));
        let joined = Zones::join(self.zones, &wanted);
        if let Ok(zones) = &joined {
            warn_of_undelegated(report, zones, &self.origins);
        }
        joined.unwrap_or_else(|errors| {
            for error in errors {
                // A zone that is defined twice has been reported already.
                if let Some(id) = error.service {
                    report.absent(services[id.0 as usize].span.clone(), error.message);
                }
            }
            Zones::default()
        })
    }
}

/// Warns of zones within zones that do not delegate them.
fn warn_of_undelegated(report: &Report<'_>, zones: &Zones, origins: &[At<Name>]) {
    for (child, parent) in zones.undelegated() {
        let Some(at) = origins.iter().find(|origin| origin.value == *child) else { continue };
        report.warning(
            at.span.clone(),
            format!("the zone {parent} does not delegate {child}, which is a zone of its own here"),
            format!(
                "add the NS records of {child} to the zone {parent}: its other name servers deny the name"
            ),
        );
    }
}

/// The origin and, if its file has no errors, the zone.
fn read(value: &Value<'_>, origins: &mut Vec<At<Name>>) -> Option<(Name, Option<Zone>)> {
    let table = value.table("zone", &ZONE)?;
    let origin = table.need("origin").and_then(|value| {
        let origin = value.parsed("a domain name", text::domain)?;
        if origins.iter().any(|other| other.value == origin) {
            value.fail::<()>(format!("zone {origin} is defined twice"));
        }
        origins.push(value.at(origin.clone()));
        Some(origin)
    });
    let file = table.need("file").and_then(|value| Some(value.at(value.text("a path")?)));
    if let Some(value) = table.get("dnssec") {
        match value.boolean() {
            Some(true) => value.later("dnssec = true"),
            _ => None::<()>,
        };
    }
    let origin = origin?;
    let zone = file.and_then(|file| read_file(table.report, &origin, &file));
    Some((origin, zone))
}

fn read_file(report: &Report<'_>, origin: &Name, file: &At<&str>) -> Option<Zone> {
    let (path, text) = report.load_named(file.span.clone(), FileKind::Zone, file.value)?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let name = path.display().to_string();
    let push = |severity, error: ZoneError| {
        let file = if error.file == name { path.clone() } else { folder.join(&error.file) };
        report.push(Diagnostic {
            severity,
            file,
            line: error.line,
            column: error.column,
            end_column: error.column + 1,
            message: error.message,
            help: None,
        });
    };
    let mut left = FileKind::Zone.limit().saturating_sub(text.len() as u64);
    let mut include = |written: &str| {
        let text = included(report, folder, written, left)?;
        left = left.saturating_sub(text.len() as u64);
        Ok(text)
    };
    match Zone::read(origin, &text, &name, &mut include) {
        Ok(mut zone) => {
            zone.warnings.drain(..).for_each(|warning| push(Severity::Warning, warning));
            Some(zone)
        }
        Err(errors) => {
            errors.into_iter().for_each(|error| push(Severity::Error, error));
            None
        }
    }
}

/// Reads an included file of at most `limit` bytes. A zone may come from elsewhere, so it must not include files outside
/// its own folder. The loader judges absolute paths and symbolic links.
fn included(report: &Report<'_>, folder: &Path, written: &str, limit: u64) -> Result<String, String> {
    let path = Path::new(written);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("a path with `..` is not allowed here".into());
    }
    let within = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let source = Source { path: &folder.join(path), limit, within: Some(within), is_secret: false };
    report.load(&source).map(|text| text.to_string()).map_err(|error| error.why())
}
