//! Diagnostics about endpoints whose host name leads to this node itself.

use super::{ZONE, check, reported_with};

#[test]
fn hosts_that_lead_back_or_to_this_node() {
    let service =
        |name: &str, region: &str| format!("[[service]]\nname = \"{name}\"\nregions = [\"{region}\"]\n");
    let region = |name: &str, host: &str| {
        format!("region.{name}.endpoint = [{{ name = \"e\", host = \"{host}\" }}]\n")
    };
    let help = "help: write its addresses, or use its regions, so that no resolver is involved";
    let own = |place: &str, host: &str| {
        format!("{place}: warning: the host {host} is a name that this node answers itself\n  {help}")
    };
    let cases = [
        (region("a", "lb.elsewhere.test") + &service("a.gslb.test", "a"), String::new()),
        // A static name, reached through an alias; reported once, however many services use it.
        (
            region("a", "alias.gslb.test") + &service("a.gslb.test", "a") + &service("b.gslb.test", "a"),
            own("4:8", "alias.gslb.test."),
        ),
        (
            region("a", "b.gslb.test") + &service("a.gslb.test", "a") + &service("b.gslb.test", "east"),
            own("4:8", "b.gslb.test."),
        ),
        // Two services that lead to each other.
        (
            region("a", "b.gslb.test")
                + &region("b", "a.gslb.test")
                + &service("a.gslb.test", "a")
                + &service("b.gslb.test", "b"),
            "5:8: endpoint `e` of region `a` leads back to the service itself through its host b.gslb.test.\n\
             8:8: endpoint `e` of region `b` leads back to the service itself through its host a.gslb.test."
                .into(),
        ),
        // A service may lead to a loop that it is not part of; the loop is reported at its members.
        (
            region("a", "alias.gslb.test")
                + &region("c", "c.gslb.test")
                + &service("c.gslb.test", "c")
                + &service("a.gslb.test", "a"),
            "5:8: endpoint `e` of region `c` leads back to the service itself through its host c.gslb.test.\n"
                .to_owned()
                + &own("8:8", "alias.gslb.test."),
        ),
        // Host names are answered as data and not resolved.
        (region("a", "alias.gslb.test") + &service("a.gslb.test", "a") + "type = \"cname\"\n", String::new()),
    ];
    let cases: Vec<_> = cases.iter().map(|(text, expected)| (text.as_str(), expected.as_str())).collect();
    check(&cases);
}

#[test]
fn names_that_do_not_exist_in_their_zone_are_warned_of() {
    const MORE: &str = "below 300 NS ns.elsewhere.test.\nredirected 300 DNAME elsewhere.test.\n\
                        *.wild 300 A 192.0.2.9\n_tcp.lb 300 TXT text\n";
    let zone = [ZONE, MORE].concat();
    let reported = |region: &str, kind: &str| {
        let service = "[[service]]\nname = \"www.gslb.test\"\nregions = [\"a\"]\n";
        let text = format!(
            "version = 1\nregion.a.endpoint = [{{ name = \"e\", {region} }}]\n{service}{kind}\n\
             [[zone]]\norigin = \"gslb.test.\"\nfile = \"z.zone\"\n"
        );
        reported_with(&text, &[("z.zone", zone.as_bytes())])
    };
    let warned = |name: &str| {
        format!(
            "p.toml:4:8: warning: it leads to {name}, but the zone gslb.test. has nothing there\n  help: \
             resolvers get the answer that the name does not exist; correct it, or add it to the zone"
        )
    };
    for kind in ["type = \"cname\"", "type = \"mx\"", "type = \"srv\"\nsrv = { port = 1 }"] {
        for host in ["ns1", "alias", "lb.below", "lb.redirected", "lb.wild", "a.b.wild"] {
            assert_eq!(reported(&format!("host = \"{host}.gslb.test\""), kind), "", "{host}");
        }
        assert_eq!(reported("host = \"lb.elsewhere.test\"", kind), "");
        for host in ["nobody.gslb.test.", "a.ns1.gslb.test.", "lb.gslb.test."] {
            assert_eq!(reported(&format!("host = \"{host}\""), kind), warned(host));
        }
    }
    // The host of an endpoint with addresses of its own is not answered.
    assert_eq!(reported("host = \"nobody.gslb.test\", address = \"192.0.2.1\"", ""), "");
    assert_eq!(reported("host = \"nobody.gslb.test\"", ""), warned("nobody.gslb.test."));
    let away = |name: &str| format!("all_down = {{ cname = \"{name}\" }}");
    assert_eq!(reported("address = \"192.0.2.1\"", &away("sorry.gslb.test")), warned("sorry.gslb.test."));
    assert_eq!(reported("address = \"192.0.2.1\"", &away("ns1.gslb.test")), "");
}
