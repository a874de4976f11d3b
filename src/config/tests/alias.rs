//! What is said of endpoints by host name whose host leads to this very node.

use super::check;

#[test]
fn hosts_that_lead_back_or_to_this_node() {
    let service =
        |name: &str, region: &str| format!("[[service]]\nname = \"{name}\"\nregions = [\"{region}\"]\n");
    let region = |name: &str, host: &str| {
        format!("region.{name}.endpoint = [{{ name = \"e\", host = \"{host}\" }}]\n")
    };
    let help = "help: write its addresses, or use its regions, so that they do not come by way of resolvers";
    let own = |place: &str, host: &str| {
        format!("{place}: warning: the host {host} is a name that this node answers itself\n  {help}")
    };
    let cases = [
        (region("a", "lb.elsewhere.test") + &service("a.gslb.test", "a"), String::new()),
        // A static name, over an alias; named once, however many services use it.
        (
            region("a", "alias.gslb.test") + &service("a.gslb.test", "a") + &service("b.gslb.test", "a"),
            own("4:8", "alias.gslb.test."),
        ),
        (
            region("a", "b.gslb.test") + &service("a.gslb.test", "a") + &service("b.gslb.test", "east"),
            own("4:8", "b.gslb.test."),
        ),
        // Each leads to the other.
        (
            region("a", "b.gslb.test")
                + &region("b", "a.gslb.test")
                + &service("a.gslb.test", "a")
                + &service("b.gslb.test", "b"),
            "5:8: endpoint `e` of region `a` leads back to the service itself by its host b.gslb.test.\n\
             8:8: endpoint `e` of region `b` leads back to the service itself by its host a.gslb.test."
                .into(),
        ),
        // A service may lead to a loop that it is no part of; the loop is complained of where it is.
        (
            region("a", "alias.gslb.test")
                + &region("c", "c.gslb.test")
                + &service("c.gslb.test", "c")
                + &service("a.gslb.test", "a"),
            "5:8: endpoint `e` of region `c` leads back to the service itself by its host c.gslb.test.\n"
                .to_owned()
                + &own("8:8", "alias.gslb.test."),
        ),
        // Names are answered as they are.
        (region("a", "alias.gslb.test") + &service("a.gslb.test", "a") + "type = \"cname\"\n", String::new()),
    ];
    let cases: Vec<_> = cases.iter().map(|(text, expected)| (text.as_str(), expected.as_str())).collect();
    check(&cases);
}
