//! Files that the config names, and files that cannot be read.

use std::io;
use std::path::Path;

use super::super::{DEFAULT_PATH, FileKind, load};
use super::{ZONE, load_with, reported_with, without_unused};

const WITH_ZONE: &str = "version = 1\n[[zone]]\norigin = \"gslb.test\"\nfile = \"zones/z.zone\"\n";

#[test]
fn a_config_that_cannot_be_read() {
    for (path, kind, expected) in [
        ("etc/p.toml", io::ErrorKind::NotFound, "no such file\n"),
        (DEFAULT_PATH, io::ErrorKind::NotFound, "no such file\n  help: name the config with `-c FILE`\n"),
        ("p.toml", io::ErrorKind::IsADirectory, "is a folder, not a file\n  help: name a regular file\n"),
        (
            "p.toml",
            io::ErrorKind::PermissionDenied,
            "may not be read (permission denied)\n  help: let the user that runs the node read it\n",
        ),
    ] {
        let reported = load(Path::new(path), &|_| Err(kind.into())).expect_err("nothing to read");
        assert_eq!(reported.to_string(), format!("{path}:1:1: error: config file: {expected}"));
    }
    let reported =
        load(Path::new("p.toml"), &|_| Ok(b"version = 1\nx = \"\xff\"".to_vec())).expect_err("not text");
    assert_eq!(reported.to_string(), "p.toml:2:6: error: not UTF-8: byte 0xff\n");
}

#[test]
fn a_folder_is_not_a_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let reported = load(folder.path(), &|source| std::fs::read(source.path)).expect_err("a folder");
    assert!(reported.to_string().contains("is a folder, not a file"), "{reported}");
}

#[test]
fn a_byte_order_mark_is_accepted() {
    assert_eq!(reported_with(&format!("\u{feff}{WITH_ZONE}"), &[("zones/z.zone", ZONE.as_bytes())]), "");
}

#[test]
fn errors_in_zone_files_have_locations_there() {
    let missing = reported_with(WITH_ZONE, &[]);
    assert_eq!(
        missing,
        "p.toml:4:8: zone file zones/z.zone: no such file\n  help: a relative path starts at the folder of the config file"
    );
    let binary = reported_with(WITH_ZONE, &[("zones/z.zone", b"; \xc3\xa4\n\x80")]);
    assert_eq!(binary, "zones/z.zone:2:1: zone file: not UTF-8: byte 0x80");
    let bad = ZONE.replace("A   192.0.2.53", "A   192.0.2.530");
    assert_eq!(
        reported_with(WITH_ZONE, &[("zones/z.zone", bad.as_bytes())]),
        "zones/z.zone:4:16: expected IPv4 address"
    );
}

#[test]
fn included_files_stay_below_the_zones_folder() {
    let zone = |line: &str| format!("{ZONE}{line}\n");
    let reported = |line: &str| {
        let text = zone(line);
        let files: [(&str, &[u8]); 4] = [
            ("zones/z.zone", text.as_bytes()),
            ("zones/more/a.zone", b"a 300 A 192.0.2.1\n"),
            ("zones/more/b.zone", b"b 300 A 192.0.2.300\n"),
            ("secret", b"c 300 A 192.0.2.3\n"),
        ];
        reported_with(WITH_ZONE, &files)
    };
    assert_eq!(reported("$INCLUDE more/a.zone"), "");
    assert_eq!(reported("$INCLUDE more/b.zone"), "zones/more/b.zone:1:9: expected IPv4 address");
    assert_eq!(
        reported("$INCLUDE ../secret"),
        "zones/z.zone:6:1: $INCLUDE of ../secret: a path with `..` is not allowed here"
    );
    assert_eq!(
        reported("$INCLUDE more/none.zone"),
        "zones/z.zone:6:1: $INCLUDE of more/none.zone: no such file"
    );
}

#[test]
fn a_zone_that_is_not_delegated_is_reported() {
    let text = format!("{WITH_ZONE}[[zone]]\norigin = \"a.sub.gslb.test\"\nfile = \"sub.zone\"\n");
    const APEX: &[u8] = b"@ 300 SOA ns1 h 1 2 3 4 5\n@ 300 NS ns1\nns1 300 A 192.0.2.53\n";
    let reported = |line: &str| {
        let parent = format!("{ZONE}{line}\n");
        reported_with(&text, &[("zones/z.zone", parent.as_bytes()), ("sub.zone", APEX)])
    };
    for line in ["a.sub 300 NS ns1.a.sub\nns1.a.sub 300 A 192.0.2.53", "sub 300 NS ns.example.net."] {
        assert_eq!(reported(line), "", "{line}");
    }
    let expected = "p.toml:6:10: warning: the zone gslb.test. does not delegate a.sub.gslb.test., which is a zone of its own here\n  help: add the NS records of a.sub.gslb.test. to the zone gslb.test.: its other name servers deny the name";
    for line in ["", "sub 300 TXT x", "a.sub 300 A 192.0.2.1", "*.sub 300 TXT x"] {
        assert_eq!(reported(line), expected, "{line}");
    }
}

#[test]
fn the_files_of_a_zone_share_its_limit() {
    let limit = std::cell::RefCell::new(Vec::new());
    let zone = format!("{ZONE}$INCLUDE a\n$INCLUDE a\n");
    let loaded = load(Path::new("conf/p.toml"), &|source| {
        limit.borrow_mut().push((source.limit, source.within.map(Path::to_path_buf)));
        Ok(match source.path.to_str().expect("test paths are UTF-8") {
            "conf/p.toml" => WITH_ZONE.into(),
            "conf/zones/z.zone" => zone.clone().into(),
            "conf/zones/a" => b"; 1234".to_vec(),
            other => panic!("{other}"),
        })
    });
    loaded.unwrap_or_else(|reported| panic!("{reported}"));
    let whole = FileKind::Zone.limit();
    let (left, within) = (whole - zone.len() as u64, Some("conf/zones".into()));
    assert_eq!(
        limit.into_inner(),
        [(FileKind::Config.limit(), None), (whole, None), (left, within.clone()), (left - 6, within)]
    );
}

#[test]
fn a_broken_zone_causes_no_errors_about_its_services() {
    let text = format!(
        "{WITH_ZONE}{}\n[[service]]\nname = \"www.gslb.test\"\nregions = [\"e\"]\n[[service]]\nname = \"www.else.test\"\nregions = [\"e\"]\n",
        "[region.e]\nendpoint = [{ name = \"a\", address = \"192.0.2.1\" }]"
    );
    assert_eq!(
        reported_with(&text, &[("zones/z.zone", b"@ 300 A x\n")]),
        "p.toml:11:8: www.else.test. lies in none of the zones\nzones/z.zone:1:9: expected IPv4 address"
    );
}

#[test]
fn errors_in_latency_files_have_locations_there() {
    let text = "version = 1\nlatency.file = \"l.csv\"\nregion.east.endpoint = [{ name = \"a\", address = \"192.0.2.1\" }]\n";
    let reported = |files: &[(&str, &[u8])]| without_unused(&reported_with(text, files));
    assert_eq!(reported(&[("l.csv", b"place,region,ms\nasn:1,east,1\n")]), "");
    let bad =
        "asn:1,east\ncountry:D, east, 1\nasn:1, est , 1\nasn:1,east,  zero\nasn:1,east,0\nplace,region,ms\n";
    assert_eq!(
        reported(&[("l.csv", bad.as_bytes())]),
        "l.csv:1:1: expected place,region,ms, found 2 fields\nl.csv:2:1: \"D\" is not a country code of two letters (ISO 3166-1)\nl.csv:3:8: region `est` is not defined; did you mean `east`?\nl.csv:4:14: expected milliseconds above 0 and up to 60000, found \"zero\"\nl.csv:5:12: expected milliseconds above 0 and up to 60000, found \"0\"\nl.csv:6:1: \"place\" is not a valid place; places start with net:, asn:, region:, country:, group:, continent: or are \"*\""
    );
    assert_eq!(
        reported(&[]),
        "p.toml:2:16: latency file l.csv: no such file\n  help: a relative path starts at the folder of the config file"
    );
    let wrong = "hello\n".repeat(100);
    let reported = reported(&[("l.csv", wrong.as_bytes())]);
    assert_eq!(reported.lines().count(), 21);
    assert!(reported.ends_with("l.csv:21:1: more than 20 bad lines; the rest was not read"), "{reported}");
}

#[test]
fn a_certificate_file_is_read() {
    let key = rcgen::generate_simple_self_signed(["probe.test".to_owned()]).expect("a certificate");
    let pem = key.cert.pem();
    let text = "version = 1\nprobe.p = { kind = \"tls\", ca = \"ca.pem\" }\n";
    let config =
        load_with(text, &[("ca.pem", pem.as_bytes())]).unwrap_or_else(|reported| panic!("{reported}"));
    let tls = config.topology.probes[0].kind.tls().expect("kind is tls");
    assert_eq!(tls.authorities.as_ref().map(Vec::len), Some(1));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(
        reported_with(text, &[("ca.pem", [&pem, broken].concat().as_bytes())]),
        "p.toml:2:32: certificate 2 in ca.pem is not a valid authority: invalid peer certificate: BadEncoding"
    );
    assert_eq!(
        reported_with(text, &[("ca.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n")]),
        "p.toml:2:32: ca.pem is not a valid PEM file: its last section has no end"
    );
    assert_eq!(
        reported_with(text, &[]),
        "p.toml:2:32: PEM file ca.pem: no such file\n  help: a relative path starts at the folder of the config file"
    );
}

#[test]
fn the_example_in_deploy_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/portolan.toml");
    let config =
        load(&path, &|source| std::fs::read(source.path)).unwrap_or_else(|reported| panic!("{reported}"));
    assert!(config.warnings.is_empty(), "{}", config.warnings);
    assert_eq!(config.topology.services.len(), 2);
}
