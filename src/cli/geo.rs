//! `portolan geo`: looks up addresses, builds and compares databases.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use comfy_table::{Cell, CellAlignment, Table, presets};
use ipnet::IpNet;
use serde::Serialize;

use crate::geo::{self, Agreement, Database, Draw, Index, Located, Sampling, Source};
use crate::prepare::BUILTIN;

/// The subcommands of `portolan geo`.
#[derive(Debug, Subcommand)]
pub(crate) enum GeoCommand {
    /// Show where an address is, and the prefix that this is valid for
    #[command(after_help = help!("portolan geo lookup 192.0.2.1"))]
    Lookup {
        /// The client's address
        ip: IpAddr,
        /// Config whose databases and networks to use [default: the built-in database]
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
    },
}

/// Runs a `portolan geo` command. `index_of` compiles the `[geo]` part of the config at a path.
pub(crate) fn run(
    command: GeoCommand,
    index_of: impl FnOnce(&Path) -> anyhow::Result<(Index, Vec<String>)>,
) -> anyhow::Result<ExitCode> {
    match command {
        GeoCommand::Lookup { ip, config, json } => {
            let (index, sources) = match config {
                Some(path) => index_of(&path)?,
                None => (Index::compile(&[geo::builtin()?], &[], &[]), vec![BUILTIN.to_owned()]),
            };
            let known = Known::of(ip, &index, &sources);
            say!("{}", if json { serde_json::to_string_pretty(&known)? } else { known.text() });
        }
        GeoCommand::Build { from, out } => build(&from, &out)?,
        GeoCommand::Compare { source, with, count_v4, count_v6, seed } => {
            let with = with.map_or_else(|| Ok(geo::builtin()?), |path| read(&path))?;
            let source = Index::compile(&read_all(&source)?, &[], &[]);
            let with = Index::compile(&[with], &[], &[]);
            let rows = geo::compare(&source, &with, Sampling { v4: count_v4, v6: count_v6, seed });
            say!("{}", agreement(&rows));
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
}

impl Known {
    /// `sources` are the names of the databases of `index`.
    fn of(address: IpAddr, index: &Index, sources: &[String]) -> Self {
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
        let lines: Vec<_> = lines.into_iter().map(|(key, value)| format!("{key:<12} {value}")).collect();
        lines.join("\n")
    }
}

fn build(from: &[PathBuf], out: &Path) -> anyhow::Result<()> {
    let mut bytes = geo::build(&read_all(from)?)?;
    if out.extension().is_some_and(|extension| extension == "zst") {
        bytes = geo::compress(&bytes)?;
    }
    fs::write(out, &bytes).with_context(|| format!("writing {}", out.display()))?;
    say!("wrote {}: {} bytes", out.display(), bytes.len());
    Ok(())
}

fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Database>> {
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> anyhow::Result<Database> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Database::read(&bytes).with_context(|| path.display().to_string())
}

fn agreement(rows: &[Agreement]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["", "drawn by", "drawn", "same country", "p50 km", "p95 km", "p99 km"]);
    for row in rows {
        let drawn_by = match row.draw {
            Draw::Addresses => "address",
            Draw::Ranges => "source range",
        };
        let numbers = [
            row.count.to_string(),
            format!("{:.3} %", row.country * 100.0),
            format!("{:.1}", row.p50_km),
            format!("{:.1}", row.p95_km),
            format!("{:.1}", row.p99_km),
        ];
        let names = [if row.v4 { "IPv4" } else { "IPv6" }, drawn_by].map(Cell::new);
        let numbers = numbers.map(|number| Cell::new(number).set_alignment(CellAlignment::Right));
        table.add_row(names.into_iter().chain(numbers));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::geo::NetworkOverride;
    use crate::model::{Location, Point};

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

    fn no_config(_: &Path) -> anyhow::Result<(Index, Vec<String>)> {
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
        let network = NetworkOverride { prefix, location: Some(location), first: Box::default() };
        let index = Index::compile(&[], &[network], &["10.20.0.0/17".parse().unwrap()]);
        insta::assert_snapshot!(Known::of("10.20.30.40".parse().unwrap(), &index, &[]).text(), @r"
        country      DE
        continent    EU
        subdivision  BE
        coordinates  52.5000, 13.4000
        prefix       10.20.0.0/17
        source       [[geo.network]] 10.20.0.0/16
        asn          64500
        within       10.20.0.0/17
        ");
        insta::assert_snapshot!(Known::of("192.0.2.1".parse().unwrap(), &index, &[]).text(), @r"
        country      unknown
        continent    unknown
        subdivision  unknown
        coordinates  unknown
        prefix       128.0.0.0/1
        source       no database has it
        ");
        let databases = [read(Path::new(&fixture("GeoIP2-City-Test.mmdb"))).unwrap()];
        let index = Index::compile(&databases, &[], &[]);
        let sources = ["places/city.mmdb".into()];
        let text = Known::of("81.2.69.142".parse().unwrap(), &index, &sources).text();
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
        insta::assert_snapshot!(agreement(&[row, Agreement { v4: false, draw: Draw::Ranges, ..row }]), @r"
              drawn by      drawn   same country  p50 km  p95 km  p99 km
        IPv4  address       200000      99.951 %    10.7   135.2   330.0
        IPv6  source range  200000      99.951 %    10.7   135.2   330.0
        ");
    }
}
