//! `portolan geo`: looks up addresses, builds and compares databases.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use ipnet::IpNet;
use serde::Serialize;

use super::say_styled;
use super::styled::{Styled, Table};
use crate::config::{FileKind, why_unreadable};
use crate::geo::{self, Agreement, Database, Draw, Index, Located, Sampling, Source};
use crate::prepare::{BUILTIN, NamedIndex, files};

/// The subcommands of `portolan geo`.
#[derive(Debug, Subcommand)]
pub(crate) enum GeoCommand {
    /// Show where an address is, and the prefix that this is valid for
    #[command(after_help = help!("portolan geo lookup 192.0.2.1"))]
    Lookup {
        /// The client's address
        ip: IpAddr,
        /// Config whose databases and networks to use [default: PORTOLAN_CONFIG, else the built-in database]
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Reduce place data to countries and rounded coordinates, as in the built-in database
    #[command(after_help = help!("portolan geo build --from city.mmdb --out reduced.mmdb.zst"))]
    Build {
        /// Databases (.mmdb); the first with an answer wins
        #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
        from: Vec<PathBuf>,
        /// Where to write; compressed if the name ends in .zst
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Measure on random addresses how well one database agrees with another
    #[command(after_help = help!("portolan geo compare --source city.mmdb --with reduced.mmdb"))]
    Compare {
        /// Databases (.mmdb) to compare against
        #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
        source: Vec<PathBuf>,
        /// Database to measure [default: the built-in one]
        #[arg(long, value_name = "FILE")]
        with: Option<PathBuf>,
        /// How many IPv4 addresses to draw
        #[arg(long, default_value_t = 200_000, value_name = "N")]
        count_v4: usize,
        /// How many IPv6 addresses to draw
        #[arg(long, default_value_t = 50_000, value_name = "N")]
        count_v6: usize,
        /// The same seed draws the same addresses
        #[arg(long, default_value_t = 1, value_name = "N")]
        seed: u64,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

impl GeoCommand {
    /// The config that a lookup uses, chosen by `choose` from the one that stands behind the subcommand.
    pub(crate) fn with_config(mut self, choose: impl FnOnce(Option<PathBuf>) -> Option<PathBuf>) -> Self {
        if let Self::Lookup { config, .. } = &mut self {
            *config = choose(config.take());
        }
        self
    }
}

/// Runs a `portolan geo` command. `index_of` compiles the `[geo]` part of the config at a path.
pub(crate) fn run(
    command: GeoCommand,
    index_of: impl FnOnce(&Path) -> anyhow::Result<NamedIndex>,
) -> anyhow::Result<ExitCode> {
    match command {
        GeoCommand::Lookup { ip, config, json } => {
            let index = match config {
                Some(path) => index_of(&path)?,
                None => builtin()?,
            };
            let known = Known::of(ip, &index);
            say!("{}", if json { serde_json::to_string_pretty(&known)? } else { known.text() });
        }
        GeoCommand::Build { from, out, json } => {
            let built = build(&from, &out)?;
            say!("{}", if json { serde_json::to_string_pretty(&built)? } else { built.text() });
        }
        GeoCommand::Compare { source, with, count_v4, count_v6, seed, json } => {
            let with = with.map_or_else(|| Ok(geo::builtin()?), |path| read(&path))?;
            let source = Index::compile(&read_all(&source)?, &[], &[]);
            let with = Index::compile(&[with], &[], &[]);
            let rows = geo::compare(&source, &with, Sampling { v4: count_v4, v6: count_v6, seed });
            let rows: Vec<_> = rows.iter().map(Row::from).collect();
            if json {
                say!("{}", serde_json::to_string_pretty(&rows)?);
            } else {
                say_styled(&table(&rows));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known about an address.
#[derive(Debug, Serialize)]
struct Known {
    address: IpAddr,
    country: Option<String>,
    continent: Option<String>,
    subdivision: Option<String>,
    lat: Option<f32>,
    lon: Option<f32>,
    /// The prefix around the address for which the same is known.
    prefix: IpNet,
    source: String,
    asn: Option<u32>,
    /// The prefixes that the config names and that contain the address, longest first.
    within: Vec<IpNet>,
    /// The regions that `[[geo.network]]` puts first for it, in this order.
    regions: Vec<String>,
}

fn builtin() -> anyhow::Result<NamedIndex> {
    let index = Index::compile(&[geo::builtin()?], &[], &[]).into();
    Ok(NamedIndex { index, sources: vec![BUILTIN.to_owned()], regions: Vec::new() })
}

impl Known {
    fn of(address: IpAddr, NamedIndex { index, sources, regions }: &NamedIndex) -> Self {
        let Located { place, prefix, .. } = index.locate(address);
        let location = place.location;
        let source = match place.source {
            Source::Nowhere => "no database has it".to_owned(),
            Source::Override(network) => format!("[[geo.network]] {network}"),
            Source::Database(number) => sources.get(usize::from(number)).cloned().unwrap_or_default(),
        };
        Self {
            address,
            country: location.country.map(|country| country.to_string()),
            continent: location.continent.map(|continent| continent.to_string()),
            subdivision: location.subdivision.map(|code| code.to_string()),
            lat: location.point.map(|point| point.lat),
            lon: location.point.map(|point| point.lon),
            prefix,
            source,
            asn: location.asn,
            within: place.nets.to_vec(),
            regions: place.first.iter().map(|id| regions[usize::from(id.0)].clone()).collect(),
        }
    }

    fn text(&self) -> String {
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
        let coordinates = self.lat.zip(self.lon).map(|(lat, lon)| format!("{lat:.4}, {lon:.4}"));
        let mut lines = vec![
            ("country", or_unknown(&self.country)),
            ("continent", or_unknown(&self.continent)),
            ("subdivision", or_unknown(&self.subdivision)),
            ("coordinates", or_unknown(&coordinates)),
            ("prefix", self.prefix.to_string()),
            ("source", self.source.clone()),
        ];
        lines.extend(self.asn.map(|asn| ("asn", asn.to_string())));
        if !self.within.is_empty() {
            let nets: Vec<_> = self.within.iter().map(ToString::to_string).collect();
            lines.push(("within", nets.join(", ")));
        }
        if !self.regions.is_empty() {
            lines.push(("regions", format!("{} first", self.regions.join(", "))));
        }
        let lines: Vec<_> = lines.into_iter().map(|(key, value)| format!("{key:<12} {value}")).collect();
        lines.join("\n")
    }
}

/// A database that was written.
#[derive(Debug, Serialize)]
struct Built {
    file: PathBuf,
    bytes: usize,
}

impl Built {
    fn text(&self) -> String {
        format!("wrote {}: {} bytes", self.file.display(), self.bytes)
    }
}

fn build(from: &[PathBuf], out: &Path) -> anyhow::Result<Built> {
    let mut bytes = geo::build(&read_all(from)?)?;
    if out.extension().is_some_and(|extension| extension == "zst") {
        bytes = geo::compress(&bytes)?;
    }
    fs::write(out, &bytes).with_context(|| format!("writing {}", out.display()))?;
    Ok(Built { file: out.to_owned(), bytes: bytes.len() })
}

fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Database>> {
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> anyhow::Result<Database> {
    let bytes = files::read(&FileKind::GeoDatabase.at(path))
        .map_err(|error| anyhow::anyhow!("reading {}: {}", path.display(), why_unreadable(&error)))?;
    Database::read(&bytes).with_context(|| path.display().to_string())
}

/// How well two databases agree on addresses drawn in one way.
#[derive(Debug, Serialize)]
struct Row {
    family: &'static str,
    drawn_by: &'static str,
    drawn: usize,
    /// The fraction of addresses, 0 to 1.
    same_country: f64,
    p50_km: f64,
    p95_km: f64,
    p99_km: f64,
}

impl From<&Agreement> for Row {
    fn from(agreement: &Agreement) -> Self {
        Self {
            family: if agreement.v4 { "IPv4" } else { "IPv6" },
            drawn_by: match agreement.draw {
                Draw::Addresses => "address",
                Draw::Ranges => "source range",
            },
            drawn: agreement.count,
            same_country: agreement.country,
            p50_km: agreement.p50_km,
            p95_km: agreement.p95_km,
            p99_km: agreement.p99_km,
        }
    }
}

fn table(rows: &[Row]) -> Styled {
    let head = ["", "drawn by", "drawn", "same country", "p50 km", "p95 km", "p99 km"];
    let mut table = Table::new(head).with_numbers_from(2);
    for row in rows {
        let (drawn, same_country) = (row.drawn.to_string(), format!("{:.3} %", row.same_country * 100.0));
        let [p50, p95, p99] = [row.p50_km, row.p95_km, row.p99_km].map(|km| format!("{km:.1}"));
        table.add([row.family, row.drawn_by, &drawn, &same_country, &p50, &p95, &p99]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::geo::NetworkOverride;
    use crate::model::{Location, Point, RegionId};

    #[derive(Parser)]
    struct Arguments {
        #[command(subcommand)]
        command: GeoCommand,
    }

    fn command(line: &str) -> GeoCommand {
        Arguments::try_parse_from(line.split(' ')).unwrap().command
    }

    fn fixture(name: &str) -> String {
        format!("{}/tests/data/mmdb/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    fn no_config(_: &Path) -> anyhow::Result<NamedIndex> {
        anyhow::bail!("no config was asked for")
    }

    #[test]
    fn a_lookup_says_all_that_is_known() {
        let location = Location {
            country: "DE".parse().ok(),
            subdivision: "BE".parse().ok(),
            point: Some(Point { lat: 52.5, lon: 13.4 }),
            asn: Some(64500),
            ..Location::default()
        };
        let prefix = "10.20.0.0/16".parse().unwrap();
        let network =
            NetworkOverride { prefix, location: Some(location), first: [RegionId(1), RegionId(0)].into() };
        let named = |index: Index, sources: &[&str]| NamedIndex {
            index: index.into(),
            sources: sources.iter().map(|&name| name.to_owned()).collect(),
            regions: vec!["eu".into(), "us".into()],
        };
        let index = named(Index::compile(&[], &[network], &["10.20.0.0/17".parse().unwrap()]), &[]);
        insta::assert_snapshot!(Known::of("10.20.30.40".parse().unwrap(), &index).text(), @r"
        country      DE
        continent    EU
        subdivision  BE
        coordinates  52.5000, 13.4000
        prefix       10.20.0.0/17
        source       [[geo.network]] 10.20.0.0/16
        asn          64500
        within       10.20.0.0/17
        regions      us, eu first
        ");
        insta::assert_snapshot!(Known::of("192.0.2.1".parse().unwrap(), &index).text(), @r"
        country      unknown
        continent    unknown
        subdivision  unknown
        coordinates  unknown
        prefix       128.0.0.0/1
        source       no database has it
        ");
        let databases = [read(Path::new(&fixture("GeoIP2-City-Test.mmdb"))).unwrap()];
        let index = named(Index::compile(&databases, &[], &[]), &["places/city.mmdb"]);
        let text = Known::of("81.2.69.142".parse().unwrap(), &index).text();
        assert!(text.contains("\nsource       places/city.mmdb"), "{text}");
    }

    #[test]
    fn what_is_built_agrees_with_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let source = fixture("GeoIP2-City-Test.mmdb");
        for name in ["reduced.mmdb", "reduced.mmdb.zst"] {
            let out = folder.path().join(name);
            let line = format!("geo build --from {source} --out {}", out.display());
            run(command(&line), no_config).unwrap();
            let bytes = fs::read(&out).unwrap();
            assert_eq!(bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]), name.ends_with(".zst"));
            let found = read(&out).unwrap();
            let oslo: IpAddr = "2a02:cf40::1".parse().unwrap();
            assert_eq!(found.lookup(oslo).country, "NO".parse().ok());
            let line = format!("geo compare --source {source} --with {} --count-v4 50", out.display());
            run(command(&line), no_config).unwrap();
        }
    }

    #[test]
    fn json_has_what_the_text_has() {
        let built = Built { file: "x.mmdb".into(), bytes: 7 };
        assert_eq!(serde_json::to_string(&built).unwrap(), r#"{"file":"x.mmdb","bytes":7}"#);
        let row = Row::from(&Agreement {
            v4: true,
            draw: Draw::Ranges,
            count: 2,
            country: 0.5,
            p50_km: 1.0,
            p95_km: 2.0,
            p99_km: 3.5,
        });
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"{"family":"IPv4","drawn_by":"source range","drawn":2,"same_country":0.5,"p50_km":1.0,"p95_km":2.0,"p99_km":3.5}"#
        );
        assert!(matches!(command("geo build --from a --out b --json"), GeoCommand::Build { json: true, .. }));
        assert!(matches!(command("geo compare --source a --json"), GeoCommand::Compare { json: true, .. }));
    }

    #[test]
    fn mistakes_name_the_file() {
        let anonymous = fixture("GeoIP2-Anonymous-IP-Test.mmdb");
        let line = format!("geo compare --source {anonymous}");
        let error = run(command(&line), no_config).unwrap_err();
        assert!(format!("{error:#}").contains(&anonymous), "{error:#}");
        assert!(format!("{error:#}").contains("has no places"), "{error:#}");
        let error = run(command("geo build --from /none.mmdb --out /none"), no_config).unwrap_err();
        assert!(format!("{error:#}").starts_with("reading /none.mmdb"), "{error:#}");
        assert!(Arguments::try_parse_from(["geo", "build", "--out", "x"]).is_err());
    }

    #[test]
    fn the_table_has_a_row_for_each_draw() {
        let row = Agreement {
            v4: true,
            draw: Draw::Addresses,
            count: 200_000,
            country: 0.99951,
            p50_km: 10.66,
            p95_km: 135.21,
            p99_km: 330.0,
        };
        let rows = [row, Agreement { v4: false, draw: Draw::Ranges, ..row }].map(|row| Row::from(&row));
        insta::assert_snapshot!(table(&rows).shown(false), @r"
              drawn by       drawn  same country  p50 km  p95 km  p99 km
        IPv4  address       200000      99.951 %    10.7   135.2   330.0
        IPv6  source range  200000      99.951 %    10.7   135.2   330.0
        ");
    }
}
