//! Reading and looking up, by tables.

use super::*;
use crate::model::ServiceId;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn no_include(path: &str) -> Result<String, String> {
    Err(format!("{path} may not be read"))
}

fn read(text: &str) -> Result<Zone, Vec<ZoneError>> {
    Zone::read(&name("example."), text, "z", &mut no_include)
}

/// A zone with an apex and what else is given.
fn zone(text: &str) -> String {
    format!("$TTL 300\n@ SOA ns h 1 2 3 4 60\n@ NS ns\nns A 192.0.2.1\n{text}")
}

fn said(errors: &[ZoneError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    assert_eq!(said(&read(&zone(text)).unwrap_err()), expected, "{text}");
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
fn the_demo_zone_is_a_zone() {
    let text = include_str!("../../zones/demo.test.zone");
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
        said(&read("@ SOA ns h 1 2 3 4 5\n@ 5 NS ns.example.net.\n").unwrap_err()),
        ["z:1:1: no TTL here, in an earlier record or by $TTL (RFC 2308 §4)"]
    );
}

#[test]
fn every_mistake_of_syntax_is_told_with_its_line() {
    refused(
        concat!(
            "a A 192.0.2.300\n",
            "  TXT \"belongs to a, whose line failed\"\n",
            "b A\n",
            "c IN\n",
            "d A 192.0.2.1 more\n",
            "e ( A\n 192.0.2.400 )\n",
            "f CH A 192.0.2.1\n",
            "$GENERATE 1-2 x A 192.0.2.1\n",
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
            "z:13:11: unknown control: $GENERATE",
            "z:14:3: expected a record type, or a TTL in plain seconds",
            "z:15:7: this quoted string is not closed on its line",
            "z:16:1: a TTL is a number of seconds, at most 2147483647 (RFC 2181 §8)",
            "z:17:1: ANY is no type that a zone can hold (RFC 6895 §3.1)",
            "z:18:1: this \\# data has not the form of a A record",
            "z:19:6: expected a plain number; times are seconds, without a unit",
            "z:21:3: this parenthesis is never closed",
        ],
    );
}

#[test]
fn behind_a_mistake_nothing_is_told_that_only_follows_from_it() {
    refused(
        "a A 192.0.2.1\n  A oops\n  CNAME x\n$TTL 9\n  CNAME x\nb A 192.0.2.2\n",
        &["z:6:5: expected IPv4 address"],
    );
    // The SOA is there, though it cannot be read.
    assert_eq!(said(&read("$TTL 5\n@ SOA oops\n").unwrap_err()).len(), 1);
    // Every record would want for a TTL.
    let text = zone("").replace("$TTL 300", "$TTL 1h");
    let expected = ["z:1:6: expected a plain number; times are seconds, without a unit"];
    assert_eq!(said(&read(&text).unwrap_err()), expected);
}

#[test]
fn windows_line_ends_and_comments_behind_directives_are_fine() {
    let text = zone("a A 192.0.2.1 ; x\r\n\r\n   ; y\r\n$TTL 20;z\nb A 192.0.2.2\n").replace('\n', "\r\n");
    let zone = read(&text).unwrap();
    assert_eq!(zone.names[&name("b.example.")][0].ttl, Ttl(20));
    assert_eq!(zone.names.len(), 4);
}

#[test]
fn the_rules_of_a_zone_are_held() {
    let cases: &[(&str, &[&str])] = &[
        ("@ SOA ns h 9 2 3 4 60\n", &["z:2:1: 2 SOA records at example.; there may be one"]),
        ("x SOA ns h 1 2 3 4 60\n", &["z:5:1: a SOA record at x.example.; it belongs to the apex, example."]),
        ("x.test. A 192.0.2.1\n", &["z:5:1: x.test. lies outside the zone example."]),
        ("x A 192.0.2.1\nx CNAME y\n", &["z:5:1: A beside a CNAME at x.example. (RFC 1034 §3.6.2)"]),
        ("x CNAME y\nx CNAME z\n", &["z:5:1: 2 CNAME records at x.example.; there may be one"]),
        (
            "x DNAME y\na.x A 192.0.2.1\n",
            &["z:6:1: a.x.example. lies below the DNAME at x.example. (RFC 6672 §2.4)"],
        ),
        ("*.x NS ns\n", &["z:5:1: NS at the wildcard *.x.example. has no defined meaning (RFC 4592 §4)"]),
        ("x DS 1 8 2 00\n", &["z:5:1: DS at x.example. without a delegation there (RFC 4035 §2.4)"]),
        ("$INCLUDE other\n", &["z:5:1: $INCLUDE of other: other may not be read"]),
    ];
    for (text, expected) in cases {
        refused(text, expected);
    }
    assert_eq!(
        said(&read("a 5 A 192.0.2.1\n").unwrap_err()),
        [
            "z:1:1: no SOA record at example., the apex of the zone",
            "z:1:1: no NS record at example., the apex of the zone"
        ]
    );
}

#[test]
fn what_is_odd_is_served_with_a_warning() {
    let text = "x 5 A 192.0.2.1\nx 3 A 192.0.2.2\nx 3 A 192.0.2.2\nsub NS ns.sub\n";
    let zone = read(&zone(text)).unwrap();
    assert_eq!(
        said(&zone.warnings),
        [
            "z:6:1: the TTLs of this A RRset differ; the smallest is served (RFC 2181 §5.2)",
            "z:7:1: this record stands here twice; it is served once (RFC 2181 §5)",
            "z:8:1: no address for the name server ns.sub.example. of sub.example.",
        ]
    );
    let set = &zone.names[&name("x.example.")][0];
    assert_eq!((set.ttl, set.rdata.len()), (Ttl(3), 2));
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
        // Reading goes on with the same origin behind a mistake.
        let text = self::zone("bad A nonsense\nwww A 192.0.2.7\nwww CNAME ns\n");
        let errors = Zone::read(&origin, &text, "z", &mut no_include).unwrap_err();
        assert_eq!(errors.len(), 2, "{label:?}: {errors:?}");
        assert!(errors[1].message.contains("CNAME"), "{errors:?}");
    }
}

#[test]
fn included_text_has_its_own_origin_and_leaves_the_includers_alone() {
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
    assert_eq!(said(&errors), ["broken:2:5: expected IPv4 address"]);
    let errors = Zone::read(&name("example."), &zone("$INCLUDE loop\n"), "z", &mut include).unwrap_err();
    assert_eq!(said(&errors), ["loop:1:1: $INCLUDE of loop nests too deep; does it include itself"]);
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
    let node = |node: &Node| match (node.service, node.rrsets.len()) {
        (Some(service), _) => format!("service {}", service.0),
        (None, 0) => "nothing".to_owned(),
        (None, _) => node.rrsets.iter().map(|set| type_name(set.rtype)).collect::<Vec<_>>().join(" "),
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
    }
}

#[test]
fn names_are_found_as_rfc_1034_and_rfc_4592_have_it() {
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
    let child = name("child.example.");
    let Found::NoName { zone } = zones.find_in_parent(child.as_wire()) else {
        panic!("the parent has no cut")
    };
    assert_eq!(zone.origin, name("example."));
}

#[test]
fn services_without_a_place_are_refused() {
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
            "x.test. lies in none of the zones",
            "the zone example. has a CNAME of its own at c.example.",
            "the zone example. has A records of its own at a.example.",
            "x.d.example. lies below a DNAME in the zone example.",
            "the zone example. delegates sub.example. away",
            "x.sub.example. lies below a delegation in the zone example.",
            "two services are named t.example.",
        ]
    );
    assert_eq!(
        zones(&[("example.", ""), ("example.", "")], &[]).unwrap_err(),
        ["the zone example. stands twice"]
    );
}

#[test]
fn the_service_behind_a_name_is_found_through_aliases() {
    let text =
        "a CNAME B\nb CNAME www\nd DNAME any\nloop CNAME loop\nout CNAME www.test.\nstatic A 192.0.2.1\n";
    let zones = zones(&[("example.", text)], &[("www.example.", 7), ("*.any.example.", 9)]).unwrap();
    let behind = |at: &str| zones.service_behind(name(at).as_wire()).map(|service| service.0);
    for (at, expected) in [
        ("www.example.", Some(7)),
        ("a.example.", Some(7)),
        ("x.d.example.", Some(9)),
        ("loop.example.", None),
        ("out.example.", None),
        ("static.example.", None),
        ("none.example.", None),
    ] {
        assert_eq!(behind(at), expected, "{at}");
    }
}
