//! Table-driven tests of reading and looking up.

use super::*;
use crate::model::ServiceId;

mod letter;
mod oddities;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn no_include(path: &str) -> Result<String, String> {
    Err(format!("{path} may not be read"))
}

fn read(text: &str) -> Result<Zone, Vec<ZoneError>> {
    Zone::read(&name("example."), text, "z", &mut no_include)
}

/// A zone with an apex and the given records.
fn zone(text: &str) -> String {
    format!("$TTL 300\n@ SOA ns h 1 2 3 4 60\n@ NS ns\nns A 192.0.2.1\n{text}")
}

fn messages(errors: &[ZoneError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    assert_eq!(messages(&read(&zone(text)).unwrap_err()), expected, "{text}");
}

fn rdata(zone: &Zone, owner: &str, rtype: u16) -> Vec<Vec<u8>> {
    let sets = &zone.names[&name(owner)];
    let set = sets.iter().find(|set| set.rtype == rtype).unwrap();
    set.rdata.iter().map(|data| data.to_vec()).collect()
}

#[test]
fn master_file_syntax_is_read() {
    let zone = read(&zone(concat!(
        "a (\n 600 IN A ; comment\n 192.0.2.7 )\n",
        "  A 192.0.2.8\n",
        "$ORIGIN sub.example.\n",
        "t TXT \"a;b\" c\\032d \"\\\"q\\\"\" \\100\n",
        "@ IN 5 AAAA 2001:db8::1\n",
        "$ORIGIN example.\n",
        "odd TYPE65280 \\# 3 0a 0b0c\n",
        "also A \\# 4 c0000209\n",
        "dot\\.ted A 192.0.2.10\n",
        "Upper CNAME Target.Example.\n",
    )))
    .unwrap();
    assert_eq!((zone.serial, zone.negative_ttl), (1, Ttl(60)));
    assert_eq!(rdata(&zone, "a.example.", rtype::A), [[192, 0, 2, 7], [192, 0, 2, 8]]);
    assert_eq!(rdata(&zone, "t.sub.example.", 16), [b"\x03a;b\x03c d\x03\"q\"\x01d"]);
    assert_eq!(zone.names[&name("sub.example.")][0].ttl, Ttl(5));
    assert_eq!(rdata(&zone, "odd.example.", 65280), [[10, 11, 12]]);
    assert_eq!(rdata(&zone, "also.example.", rtype::A), [[192, 0, 2, 9]]);
    assert!(zone.names.contains_key(&Name::from_wire(b"\x07dot.ted\x07example\x00").unwrap()));
    assert_eq!(rdata(&zone, "upper.example.", rtype::CNAME), [b"\x06Target\x07Example\x00"]);
}

#[test]
fn types_that_the_scanner_lacks_are_read() {
    let read = |text: &str| {
        let zone = read(&zone(&format!("x {text}\n"))).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        let [set] = &zone.names[&name("x.example.")][..] else { panic!("{text}") };
        (set.rtype, set.rdata[0].to_vec())
    };
    let mx = b"\x00\x01\x02MX\x07example\0";
    let cases: &[(&str, u16, &[u8])] = &[
        ("AFSDB 1 MX", 18, mx),
        ("RT 1 MX.example.", 21, &mx[..]),
        ("PX 1 MX @", 26, &[&mx[..], b"\x07example\0"].concat()),
        ("KX 1 MX", 36, mx),
        ("CERT PKIX 513 RSASHA256 AQ ( ID )", 37, b"\0\x01\x02\x01\x08\x01\x02\x03"),
        ("CERT 65000 0 5 AQID", 37, b"\xfd\xe8\0\0\x05\x01\x02\x03"),
        ("DHCID AQID", 49, b"\x01\x02\x03"),
        ("SMIMEA 3 0 1 ab cd", 53, b"\x03\0\x01\xab\xcd"),
        ("CSYNC 66 3 A NS AAAA", 62, b"\0\0\0\x42\0\x03\0\x04\x60\0\0\x08"),
        ("SPF \"v=spf1\" -all", 99, b"\x06v=spf1\x04-all"),
        ("NID 10 0014:4fff:ff20:ee64", 104, b"\0\x0a\x00\x14\x4f\xff\xff\x20\xee\x64"),
        ("L32 10 10.1.2.0", 105, b"\0\x0a\x0a\x01\x02\0"),
        ("L64 10 2001:db8:1:0", 106, b"\0\x0a\x20\x01\x0d\xb8\0\x01\0\0"),
        ("LP 1 MX", 107, mx),
        ("EUI48 00-00-5e-00-53-2a", 108, b"\x00\x00\x5e\x00\x53\x2a"),
        ("EUI64 00-00-5e-ef-10-00-00-2a", 109, b"\x00\x00\x5e\xef\x10\x00\x00\x2a"),
        ("URI 10 1 \"ftp://a/\\\"\\065;\"", 256, b"\0\x0a\0\x01ftp://a/\"A;"),
        ("DLV 1 8 2 00ff", 32769, b"\0\x01\x08\x02\0\xff"),
        ("LOC 1 N 1 E 0", 29, &[0, 0x12, 0x16, 0x13, 128, 54, 238, 128, 128, 54, 238, 128, 0, 152, 150, 128]),
        ("APL", 42, b""),
        ("APL 1:192.0.2.128/25 !2:FF00::/8", 42, b"\0\x01\x19\x04\xc0\0\x02\x80\0\x02\x08\x81\xff"),
        ("APL 1:0.0.0.0/0", 42, b"\0\x01\0\0"),
        ("KEY 256 3 RSASHA256 AQ ( ID )", 25, b"\x01\0\x03\x08\x01\x02\x03"),
        ("SVCB 16 foo.example.org. key999=x", 64, b"\0\x10\x03foo\x07example\x03org\0\x03\xe7\0\x01x"),
        ("HTTPS 0 MX", 65, b"\0\0\x02MX\x07example\0"),
        ("HTTPS 1 . alpn=h2 key65289=\"\"", 65, b"\0\x01\0\0\x01\0\x03\x02h2\xff\x09\0\0"),
        // An escaped dot does not end a name.
        ("AFSDB 1 a\\.", 18, b"\0\x01\x02a.\x07example\0"),
        ("IN 5m afsdb 1 a\\\\.", 18, b"\0\x01\x02a\\\0"),
    ];
    for (text, rtype, expected) in cases {
        assert_eq!(read(text), (*rtype, expected.to_vec()), "{text}");
    }
}

#[test]
fn errors_in_them_are_reported_at_the_token() {
    refused(
        concat!(
            "a AFSDB 1\n",
            "  A 192.0.2.1 ; whose owner was lost\n",
            "b AFSDB 1 x y\n",
            "c (\n EUI48 00-00-5e-00-53 )\n",
            "d L32 1 10.1.2\n",
            "e URI 1 65536 \"x\"\n",
            "f CSYNC 1 3 A NOTYPE\n",
            "g CERT 1 2 3 =\n",
            "h LOC 1 N 181 E 0m\n",
            "i X25 1\n",
            "j 9999999999w EUI48 00-00-5e-00-53-2a\n",
            "k HTTPS 1 . port=1 key65536=x\n",
        ),
        &[
            "z:5:10: the record ends before its data is complete",
            "z:7:13: there is more on this line than the record holds",
            "z:9:8: expected 6 pairs of hexadecimal digits",
            "z:10:9: expected IPv4 address",
            "z:11:9: expected a number of at most 65535",
            "z:12:15: expected a record type",
            "z:13:14: expected base 64",
            "z:14:11: expected a number below 181, or a direction",
            "z:15:7: a type without a known text form needs its data as \\# (RFC 3597 §5)",
            "z:16:3: expected a record type, or a TTL such as 300 or 5m",
            "z:17:20: expected a key such as alpn or key65280, in lower case",
        ],
    );
}

#[test]
fn the_demo_zone_is_valid() {
    let text = include_str!("../../../zones/demo.test.zone");
    let zone = Zone::read(&name("demo.test."), text, "demo.test.zone", &mut no_include).unwrap();
    assert_eq!(zone.warnings, []);
}

#[test]
fn a_ttl_is_the_records_the_directives_or_the_last_stated() {
    let text =
        "@ 900 SOA ns h 1 2 3 4 5000\n@ NS ns\nns 50 A 192.0.2.1\nb A 192.0.2.2\n$TTL 70\nc A 192.0.2.3\n";
    let zone = read(text).unwrap();
    let ttl = |owner: &str| zone.names[&name(owner)][0].ttl.0;
    assert_eq!((ttl("b.example."), ttl("c.example."), zone.negative_ttl.0), (50, 70, 900));
    assert_eq!(
        messages(&read("@ SOA ns h 1 2 3 4 5\n@ 5 NS ns.example.net.\n").unwrap_err()),
        ["z:1:1: no TTL here, in an earlier record or by $TTL (RFC 2308 §4)"]
    );
}

#[test]
fn every_syntax_error_is_reported_with_its_line() {
    refused(
        concat!(
            "a A 192.0.2.300\n",
            "  TXT \"belongs to a, whose line failed\"\n",
            "b A\n",
            "c IN\n",
            "d A 192.0.2.1 more\n",
            "e ( A\n 192.0.2.400 )\n",
            "f CH A 192.0.2.1\n",
            "$SERIAL 1\n",
            "g NOTYPE x\n",
            "h TXT \"open\n",
            "i 4294967294 A 192.0.2.1\n",
            "j TYPE255 \\# 0\n",
            "k A \\# 3 010203\n",
            "l MX ten mail\n",
            "fine A 192.0.2.9\n",
            "m ( A\n",
        ),
        &[
            "z:5:5: expected IPv4 address",
            "z:7:4: the record ends before its data is complete",
            "z:8:5: the record ends before its data is complete",
            "z:9:15: there is more on this line than the record holds",
            "z:11:14: expected IPv4 address",
            "z:12:8: class CH: only IN is served",
            "z:13:9: unknown control: $SERIAL",
            "z:14:3: expected a record type, or a TTL such as 300 or 5m",
            "z:15:7: this quoted string is not closed on its line",
            "z:16:3: a TTL is a number of seconds, at most 2147483647 (RFC 2181 §8)",
            "z:17:1: ANY is not a type that a zone can contain (RFC 6895 §3.1)",
            "z:18:1: this \\# data is not valid for type A",
            "z:19:6: expected a number; TTLs and the times of a SOA may have units, such as 5m",
            "z:21:3: this parenthesis is never closed",
        ],
    );
}

#[test]
fn an_error_causes_no_follow_up_errors() {
    refused(
        "a A 192.0.2.1\n  A oops\n  CNAME x\n$TTL 9\n  CNAME x\nb A 192.0.2.2\n",
        &["z:6:5: expected IPv4 address"],
    );
    // The SOA is there, though it cannot be read.
    assert_eq!(messages(&read("$TTL 5\n@ SOA oops\n").unwrap_err()).len(), 1);
    // Otherwise every record would lack a TTL.
    let text = zone("").replace("$TTL 300", "$TTL 1h30");
    let expected = ["z:1:6: expected a number; TTLs and the times of a SOA may have units, such as 5m"];
    assert_eq!(messages(&read(&text).unwrap_err()), expected);
}

#[test]
fn windows_line_ends_and_comments_after_directives_are_accepted() {
    let text = zone("a A 192.0.2.1 ; x\r\n\r\n   ; y\r\n$TTL 20;z\nb A 192.0.2.2\n").replace('\n', "\r\n");
    let zone = read(&text).unwrap();
    assert_eq!(zone.names[&name("b.example.")][0].ttl, Ttl(20));
    assert_eq!(zone.names.len(), 4);
}

#[test]
fn the_rules_of_a_zone_are_enforced() {
    let cases: &[(&str, &[&str])] = &[
        ("@ SOA ns h 9 2 3 4 60\n", &["z:2:1: 2 SOA records at example.; only one is allowed"]),
        ("x SOA ns h 1 2 3 4 60\n", &["z:5:1: SOA at x.example.; it belongs at the apex, example."]),
        ("x A 192.0.2.1\nx CNAME y\n", &["z:5:1: A beside a CNAME at x.example. (RFC 1034 §3.6.2)"]),
        ("x CNAME y\nx CNAME z\n", &["z:5:1: 2 CNAME records at x.example.; only one is allowed"]),
        (
            "x DNAME y\na.x A 192.0.2.1\n",
            &["z:6:1: a.x.example. lies below the DNAME at x.example. (RFC 6672 §2.4)"],
        ),
        (
            "*.x NS ns\n",
            &[
                "z:5:1: NS at the wildcard *.x.example. has no defined meaning (RFC 4592 §4.2); delegate each name, with $GENERATE if there are many",
            ],
        ),
        ("x CAA 0 issue \"日本\" y ; ä\n", &["z:5:20: there is more on this line than the record holds"]),
        ("x DS 1 8 2 00\n", &["z:5:1: DS at x.example. without a delegation there (RFC 4035 §2.4)"]),
        ("$INCLUDE other\n", &["z:5:1: $INCLUDE of other: other may not be read"]),
    ];
    for (text, expected) in cases {
        refused(text, expected);
    }
    assert_eq!(
        messages(&read("a 5 A 192.0.2.1\n").unwrap_err()),
        [
            "z:1:1: no NS record at example., the apex of the zone",
            "z:1:1: no SOA record at example., the apex of the zone"
        ]
    );
}

#[test]
fn origins_may_be_of_any_bytes() {
    for label in
        [&b"a\"b\""[..], b"a b", b"a;b", b"(", b")", b"\\", b"a.b", b"@", b"$TTL", b"\n", b"\0\xff", b"\""]
    {
        let wire = [&[label.len() as u8], label, b"\x07example\0"].concat();
        let origin = Name::from_wire(&wire).unwrap();
        let zone = Zone::read(&origin, &zone("www A 192.0.2.7\n"), "z", &mut no_include).unwrap();
        let www = Name::from_wire(&[b"\x03www", &wire[..]].concat()).unwrap();
        assert!(zone.names.contains_key(&www), "{label:?}");
        // Reading continues with the same origin after an error.
        let text = self::zone("bad A nonsense\nwww A 192.0.2.7\nwww CNAME ns\n");
        let errors = Zone::read(&origin, &text, "z", &mut no_include).unwrap_err();
        assert_eq!(errors.len(), 2, "{label:?}: {errors:?}");
        assert!(errors[1].message.contains("CNAME"), "{errors:?}");
    }
}

#[test]
fn a_zone_includes_a_limited_number_of_files() {
    let mut asked = 0;
    let mut include = |_: &str| {
        asked += 1;
        Ok(String::new())
    };
    let text = zone(&"$INCLUDE empty\n".repeat(2000));
    Zone::read(&name("example."), &text, "z", &mut include).unwrap_err();
    assert!(asked < 1000, "{asked} files were read");
}

#[test]
fn included_text_has_its_own_origin_and_does_not_change_the_includers() {
    let mut asked = Vec::new();
    let mut include = |path: &str| {
        asked.push(path.to_owned());
        match path {
            "sub.zone" => Ok("x A 192.0.2.1\n$ORIGIN other.example.\n$TTL 9\ny A 192.0.2.2\n".to_owned()),
            "broken" => Ok("\nx A oops\n".to_owned()),
            _ => Ok(format!("$INCLUDE {path}\n")),
        }
    };
    let text = zone("o A 192.0.2.3\n$INCLUDE sub.zone sub\n  A 192.0.2.4\nz A 192.0.2.5\n");
    let read = Zone::read(&name("example."), &text, "z", &mut include).unwrap();
    assert_eq!(read.names[&name("x.sub.example.")][0].ttl, Ttl(300));
    assert_eq!(read.names[&name("y.other.example.")][0].ttl, Ttl(9));
    assert_eq!(rdata(&read, "o.example.", rtype::A).len(), 2);
    assert_eq!(read.names[&name("z.example.")][0].ttl, Ttl(300));
    let errors = Zone::read(&name("example."), &zone("$INCLUDE broken\n"), "z", &mut include).unwrap_err();
    assert_eq!(messages(&errors), ["broken:2:5: expected IPv4 address"]);
    let errors = Zone::read(&name("example."), &zone("$INCLUDE loop\n"), "z", &mut include).unwrap_err();
    assert_eq!(
        messages(&errors),
        ["loop:1:1: $INCLUDE of loop is nested too deeply; does it include itself?"]
    );
    assert_eq!(asked.len(), 2 + 8);
}

#[test]
fn mutated_text_never_panics() {
    let whole =
        zone("a (\n 600 IN A 192.0.2.7 )\nt TXT \"a;b\" c\\032d\nodd TYPE65280 \\# 3 0a 0b0c\nm MX 10 m\n");
    let mut state = 42_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let pieces =
        ["\"", "(", ")", ";", "\\", "\n", " ", "\t", "$", "@", ".", "\\#", "\\999", "*", "\u{e9}", "\0"];
    let mut refused = 0;
    for _ in 0..2_000 {
        let mut text: Vec<char> = whole.chars().collect();
        for _ in 0..1 + next() % 4 {
            let at = next() % text.len();
            if next() % 2 == 0 {
                text.remove(at);
            } else {
                text.splice(at..at, pieces[next() % pieces.len()].chars());
            }
        }
        let text: String = text.into_iter().collect();
        refused += usize::from(read(&text).is_err());
    }
    assert!(refused > 500, "{refused}");
}

fn zones(texts: &[(&str, &str)], services: &[(&str, u32)]) -> Result<Zones, Vec<String>> {
    let read =
        |(origin, text): &(&str, &str)| Zone::read(&name(origin), &zone(text), "z", &mut no_include).unwrap();
    let services: Vec<_> = services.iter().map(|(at, id)| (name(at), ServiceId(*id))).collect();
    Zones::build(texts.iter().map(read).collect(), &services)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn describe(zones: &Zones, at: &str) -> String {
    let wire = name(at);
    let suffix = |offset: usize| Name::from_wire(&wire.as_wire()[offset..]).unwrap();
    let node = |node: &Node| match (node.services(), node.rrsets.len()) {
        ([service, ..], _) => format!("service {}", service.0),
        ([], 0) => "nothing".to_owned(),
        ([], _) => node.rrsets.iter().map(|set| type_name(set.rtype)).collect::<Vec<_>>().join(" "),
    };
    match zones.find(wire.as_wire()) {
        Found::Outside => "outside".to_owned(),
        Found::Node { zone, node: found } => format!("{} in {}", node(found), zone.origin),
        Found::Wildcard { zone, node: found, encloser } => {
            format!("{} by *.{} in {}", node(found), suffix(encloser), zone.origin)
        }
        Found::Delegation { zone, offset, .. } => format!("{} delegated by {}", suffix(offset), zone.origin),
        Found::Dname { zone, offset, .. } => format!("below DNAME {} in {}", suffix(offset), zone.origin),
        Found::NoName { zone } => format!("no name in {}", zone.origin),
        Found::Undelegated { zone } => format!("not delegated by {}", zone.origin),
    }
}

#[test]
fn names_are_found_as_rfc_1034_and_rfc_4592_specify() {
    let example = concat!(
        "a.b.c TXT x\n*.w TXT x\nsub.w TXT x\ndeep.sub NS ns.deep.sub\nns.deep.sub A 192.0.2.1\n",
        "*.deep.sub TXT hidden\nd DNAME target\n",
    );
    let zones = zones(
        &[("example.", example), ("child.example.", ""), ("example.org.", "")],
        &[("www.example.", 7), ("example.", 8), ("*.any.example.", 9), ("x.child.example.", 10)],
    )
    .unwrap();
    let cases = [
        ("example.", "service 8 in example."),
        ("www.example.", "service 7 in example."),
        ("x.www.example.", "no name in example."),
        ("no.example.", "no name in example."),
        ("no.no.example.", "no name in example."),
        ("c.example.", "nothing in example."),
        ("b.c.example.", "nothing in example."),
        ("a.b.c.example.", "TXT in example."),
        ("x.a.b.c.example.", "no name in example."),
        ("*.w.example.", "TXT in example."),
        ("w.example.", "nothing in example."),
        ("q.w.example.", "TXT by *.w.example. in example."),
        ("q.q.w.example.", "TXT by *.w.example. in example."),
        ("sub.w.example.", "TXT in example."),
        ("q.sub.w.example.", "no name in example."),
        ("q.*.w.example.", "no name in example."),
        ("q.any.example.", "service 9 by *.any.example. in example."),
        ("deep.sub.example.", "deep.sub.example. delegated by example."),
        ("ns.deep.sub.example.", "deep.sub.example. delegated by example."),
        ("q.deep.sub.example.", "deep.sub.example. delegated by example."),
        ("q.ns.deep.sub.example.", "deep.sub.example. delegated by example."),
        ("sub.example.", "nothing in example."),
        ("d.example.", "DNAME in example."),
        ("x.y.d.example.", "below DNAME d.example. in example."),
        ("child.example.", "SOA NS in child.example."),
        ("q.child.example.", "no name in child.example."),
        ("x.child.example.", "service 10 in child.example."),
        ("example.org.", "SOA NS in example.org."),
        ("org.", "outside"),
        (".", "outside"),
        ("test.", "outside"),
    ];
    for (at, expected) in cases {
        // The order in which a zone's text gives its RRsets at one name is kept.
        assert_eq!(describe(&zones, at), expected, "{at}");
    }
}

#[test]
fn ds_is_looked_up_on_the_parents_side_of_a_cut() {
    let zones = zones(
        &[
            (
                "example.",
                "child NS ns.child
other NS ns.other
*.w CNAME child
beside A 192.0.2.1
",
            ),
            ("child.example.", ""),
            ("uncut.example.", ""),
            ("wild.w.example.", ""),
            ("beside.example.", ""),
            ("deep.other.example.", ""),
        ],
        &[],
    )
    .unwrap();
    let zone_of = |at: &str| match zones.find_in_parent(name(at).as_wire()) {
        Found::Delegation { zone, offset, .. } => format!("cut at {offset} in {}", zone.origin),
        Found::Node { zone, .. } => format!("in {}", zone.origin),
        Found::Undelegated { zone } => format!("not delegated by {}", zone.origin),
        other => format!("{other:?}"),
    };
    for (at, expected) in [
        ("child.example.", "cut at 0 in example."),
        ("other.example.", "cut at 0 in example."),
        // Only the delegation of its parent is served here.
        ("deep.other.example.", "cut at 5 in example."),
        ("uncut.example.", "not delegated by example."),
        ("wild.w.example.", "not delegated by example."),
        ("beside.example.", "in example."),
        ("example.", "in example."),
        ("ns.child.example.", "in child.example."),
    ] {
        assert_eq!(zone_of(at), expected, "{at}");
    }
    let undelegated = zones.undelegated().map(|(child, parent)| format!("{child} by {parent}"));
    assert_eq!(
        undelegated.collect::<Vec<_>>(),
        ["uncut.example. by example.", "wild.w.example. by example.", "beside.example. by example."]
    );
}

#[test]
fn services_that_conflict_with_a_zone_are_refused() {
    let text = "c CNAME x\na A 192.0.2.1\nd DNAME x\nsub NS ns\nt TXT beside\n";
    let services = [
        ("x.test.", 0),
        ("c.example.", 1),
        ("a.example.", 2),
        ("x.d.example.", 3),
        ("sub.example.", 4),
        ("x.sub.example.", 5),
        ("t.example.", 6),
        ("t.example.", 7),
    ];
    assert_eq!(
        zones(&[("example.", text)], &services).unwrap_err(),
        [
            "x.test. lies in none of the zones example.",
            "the zone example. has a CNAME of its own at c.example.",
            "the zone example. has A records of its own at a.example.",
            "x.d.example. lies below a DNAME in the zone example.",
            "the zone example. delegates sub.example.",
            "x.sub.example. lies below a delegation in the zone example.",
            "a service at t.example. answers A already; services of one name need a `type` each",
        ]
    );
    assert_eq!(
        zones(&[("example.", ""), ("example.", "")], &[]).unwrap_err(),
        ["the zone example. is given twice"]
    );
}
