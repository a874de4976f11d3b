//! RFC 1035 §5.1 to the letter: `@`, quoted strings, bytes beyond ASCII, TTLs.

use super::*;

/// The record data that a text has at `x.example.`, as `text` and as the type of the first of its sets.
fn data(text: &str) -> Vec<u8> {
    let zone = read(&zone(&format!("x {text}\n"))).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
    let [set] = &zone.names[&name("x.example.")][..] else { panic!("{text}") };
    set.rdata[0].to_vec()
}

/// Data with a name (`{}`) of every type that has names.
const NAMED: &[&str] = &[
    "AFSDB 1 {}",
    "CNAME {}",
    "DNAME {}",
    "HTTPS 1 {} alpn=h2",
    "HTTPS 0 {}",
    "IPSECKEY 10 3 2 {} AQID",
    "KX 1 {}",
    "LP 1 {}",
    "MB {}",
    "MD {}",
    "MF {}",
    "MG {}",
    "MINFO {} {}",
    "MR {}",
    "MX 10 {}",
    "NAPTR 1 2 \"u\" \"E2U+sip\" \"!^.*$!sip:a@b!\" {}",
    "NS {}",
    "NSEC {} A",
    "PTR {}",
    "PX 1 {} {}",
    "RP {} {}",
    "RRSIG A 8 2 300 20300101000000 20200101000000 1 {} AQID",
    "RT 1 {}",
    "SRV 0 0 53 {}",
    "SVCB 1 {} port=1",
    "SVCB 0 {}",
];

#[test]
fn at_is_the_origin_in_data_of_every_type() {
    for text in NAMED {
        let [at, absolute, escaped] = ["@", "example.", "\\@"].map(|name| data(&text.replace("{}", name)));
        assert_eq!(at, absolute, "{text}");
        assert_ne!(at, escaped, "{text}");
        let quoted = "\\@.example.";
        assert_eq!(escaped, data(&text.replace("{}", quoted)), "{text}");
    }
    let soa = read("$TTL 5\n@ SOA @ @ 1 2 3 4 5\n@ NS @\n@ A 192.0.2.1\n").unwrap();
    let apex = b"\x07example\0";
    assert!(rdata(&soa, "example.", rtype::SOA)[0].starts_with(&[&apex[..], apex].concat()));
    assert_eq!(rdata(&soa, "example.", rtype::NS), [apex]);
}

#[test]
fn at_is_the_current_origin() {
    let text = zone(
        "$ORIGIN sub.example.\na CNAME @\n$ORIGIN @\nb CNAME ( @ ) ; @\n@ TXT @ \"@\"\n$ORIGIN x\nc PTR @\n",
    );
    let zone = read(&text).unwrap();
    let sub = b"\x03sub\x07example\0";
    assert_eq!(rdata(&zone, "a.sub.example.", rtype::CNAME), [sub]);
    assert_eq!(rdata(&zone, "b.sub.example.", rtype::CNAME), [sub]);
    assert_eq!(rdata(&zone, "sub.example.", rtype::TXT), [b"\x01@\x01@"]);
    assert_eq!(rdata(&zone, "c.x.sub.example.", rtype::PTR), [b"\x01x\x03sub\x07example\0"]);
}

#[test]
fn at_is_the_origin_of_what_is_included() {
    let mut include = |_: &str| Ok("x CNAME @\n".to_owned());
    let text = zone("$ORIGIN sub\n$INCLUDE f @ ; the same\n$INCLUDE f y\n");
    let zone = Zone::read(&name("example."), &text, "z", &mut include).unwrap();
    assert_eq!(rdata(&zone, "x.sub.example.", rtype::CNAME), [b"\x03sub\x07example\0"]);
    assert_eq!(rdata(&zone, "x.y.sub.example.", rtype::CNAME), [b"\x01y\x03sub\x07example\0"]);
}

#[test]
fn a_ttl_has_31_bits() {
    let range = "a TTL is a number of seconds, at most 2147483647 (RFC 2181 §8)";
    for ttl in ["2147483648", "4294967294", "4294967295", "3550w6d6h28m15s", "3550w6d6h28m16s"] {
        refused(&format!("a {ttl} A 192.0.2.1\n"), &[&format!("z:5:3: {range}")]);
        refused(&format!("a IN {ttl} EUI48 00-00-5e-00-53-2a\n"), &[&format!("z:5:6: {range}")]);
        refused(&format!("a A 192.0.2.1\n {ttl} A 192.0.2.2\n"), &[&format!("z:6:2: {range}")]);
        // Only the directive is reported, not what relies on it.
        let text = zone("").replace("$TTL 300", &format!("$TTL {ttl}"));
        assert_eq!(messages(&read(&text).unwrap_err()), [format!("z:1:6: {range}")]);
    }
    let zone = read(&zone("a 2147483647 A 192.0.2.1\n$TTL 2147483647\nb A 192.0.2.1\n")).unwrap();
    for owner in ["a.example.", "b.example."] {
        assert_eq!(zone.names[&name(owner)][0].ttl, Ttl::MAX);
    }
}

#[test]
fn strings_may_have_tabs_and_any_character() {
    for (text, expected) in [
        ("TXT \"a\tb\"", &b"\x03a\tb"[..]),
        ("TXT \"a\\\tb\" c", b"\x03a\tb\x01c"),
        ("TXT \"v=spf1 \u{2013}all\" \u{e9}", b"\x0dv=spf1 \xe2\x80\x93all\x02\xc3\xa9"),
        ("TXT \"\\\u{e9}\\\\\u{e9}\"", b"\x05\xc3\xa9\\\xc3\xa9"),
        ("SPF \"v=spf1 \u{2013}all\t\"", b"\x0ev=spf1 \xe2\x80\x93all\t"),
        ("HINFO \"a\tb\" \u{e9}", b"\x03a\tb\x02\xc3\xa9"),
        ("URI 1 2 \"http://\u{e9}/\"", b"\0\x01\0\x02http://\xc3\xa9/"),
        ("CAA 0 issue \"a\t\u{e9}\"", b"\0\x05issuea\t\xc3\xa9"),
        ("NAPTR 1 2 \"\" \"\" \"!\u{e9}\t!\" @", b"\0\x01\0\x02\0\0\x05!\xc3\xa9\t!\x07example\0"),
    ] {
        assert_eq!(data(text), expected, "{text}");
    }
    refused(
        &format!("a SPF x \"{}\"\nb SPF \"\\256\"\n", "y".repeat(256)),
        &["z:5:9: 256 bytes, but a string has at most 255", "z:6:7: this escape is not \\DDD, 000 to 255"],
    );
}

#[test]
fn generated_records_are_read_like_written_ones() {
    let text = zone(concat!(
        "$ORIGIN sub.example.\n",
        "a A 192.0.2.1\n",
        "$GENERATE 1-3 h$ 5m A 192.0.2.$\n",
        "  A 192.0.2.9 ; of a\n",
        "$GENERATE 1-2 ( @\n  MX ) \"${10} ${0,2}.mail\"\n",
        "$TTL 7\n$GENERATE 0-0 x CNAME @\n",
    ));
    let zone = read(&text).unwrap();
    let h3 = &zone.names[&name("h3.sub.example.")][0];
    assert_eq!((h3.ttl, &h3.rdata[0][..]), (Ttl(300), &[192, 0, 2, 3][..]));
    assert_eq!(rdata(&zone, "a.sub.example.", rtype::A), [[192, 0, 2, 1], [192, 0, 2, 9]]);
    let mx = rdata(&zone, "sub.example.", rtype::MX);
    assert_eq!(
        mx,
        [b"\0\x0b\x0201\x04mail\x03sub\x07example\0", b"\0\x0c\x0202\x04mail\x03sub\x07example\0"]
    );
    let x = &zone.names[&name("x.sub.example.")][0];
    assert_eq!((x.ttl, &x.rdata[0][..]), (Ttl(7), &b"\x03sub\x07example\0"[..]));
}

#[test]
fn a_generated_error_is_reported_once_where_it_is_made() {
    refused(
        concat!(
            "$GENERATE 254-300 h$ A 192.0.2.$\n",
            "$GENERATE 1-9 h$ TXT \"( x\"\n",
            "$GENERATE 1-9 h$ MX 1 x y z\n",
            "$GENERATE (\n 9-1 h$ A 192.0.2.$ )\n",
            "fine A 192.0.2.1\n",
        ),
        &[
            "z:5:1: expected IPv4 address in \"h256 A 192.0.2.256\", which $GENERATE makes here",
            "z:6:1: this parenthesis is never closed in \"h1 TXT ( x\", which $GENERATE makes here",
            "z:7:23: data of several fields needs quotes around all of it",
            "z:9:2: expected a range such as 1-100 or 0-200/2",
        ],
    );
}

#[test]
fn the_number_of_generated_records_is_limited() {
    let most = "$GENERATE makes more than 262144 records in this zone";
    refused("$GENERATE 0-2147483647 h$ A 192.0.2.1\n", &[&format!("z:5:1: {most}")]);
    refused("$GENERATE 1-200 a A 192.0.2.$\n$GENERATE 1-262144 b TXT $\n", &[&format!("z:6:1: {most}")]);
}

#[test]
fn ttls_may_have_units() {
    let text =
        "$TTL 1h\n@ 1d SOA ns h 1 2h 3M 4w ( 30m )\n@ NS ns\nns A 192.0.2.1\nt 1m30s IN TXT 5m \"5m\"\n";
    let zone = read(text).unwrap();
    let ttl = |owner: &str| zone.names[&name(owner)][0].ttl.0;
    assert_eq!((ttl("ns.example."), ttl("t.example."), ttl("example.")), (3_600, 90, 86_400));
    assert_eq!(rdata(&zone, "t.example.", rtype::TXT), [b"\x025m\x025m"]);
    let timers = [1, 7_200, 180, 4 * 604_800, 1_800].map(u32::to_be_bytes).concat();
    assert!(rdata(&zone, "example.", rtype::SOA)[0].ends_with(&timers));
    assert_eq!(zone.negative_ttl, Ttl(1_800));
    refused(
        "a 1h30 A 192.0.2.1\nb 1x A 192.0.2.1\nc 4000w A 192.0.2.1\n",
        &[
            "z:5:3: expected a record type, or a TTL such as 300 or 5m",
            "z:6:3: expected a record type, or a TTL such as 300 or 5m",
            "z:7:3: a TTL is a number of seconds, at most 2147483647 (RFC 2181 §8)",
        ],
    );
}
