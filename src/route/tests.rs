//! Which routes requests take, by examples and compared with a scan.

use allocation_counter::measure;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use regex::Regex;

use super::{Head, Routes};
use crate::model::{Edits, HostPattern, PathPattern, PoolId, Route, RouteAction, ValuePattern, Weight, When};

/// A request that owns its parts.
#[derive(Clone, Debug)]
struct Asked {
    host: String,
    path: String,
    query: Option<String>,
    method: Method,
    headers: HeaderMap,
}

impl Asked {
    fn get(host: &str, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let (host, path) = (host.to_owned(), path.to_owned());
        Self { host, path, query, method: Method::GET, headers: HeaderMap::new() }
    }

    fn with(mut self, lines: &[(&str, &[u8])]) -> Self {
        for (name, value) in lines {
            let name: HeaderName = name.parse().expect("a header name");
            self.headers.append(name, HeaderValue::from_bytes(value).expect("a header value"));
        }
        self
    }

    fn head(&self) -> Head<'_> {
        let Self { host, path, query, method, headers } = self;
        Head { host, path, query: query.as_deref(), method, headers }
    }
}

fn route(when: When) -> Route {
    Route {
        when,
        action: RouteAction::Forward(vec![(PoolId(0), Weight(1))]),
        edits: Edits::default(),
        auth: None,
    }
}

fn compile(whens: &[When]) -> Routes {
    Routes::compile(&whens.iter().cloned().map(route).collect::<Vec<_>>())
}

fn exact(host: &str) -> When {
    When { host: Some(HostPattern::Exact(host.into())), ..When::default() }
}

fn below(suffix: &str) -> When {
    When { host: Some(HostPattern::Below(suffix.into())), ..When::default() }
}

fn path(pattern: PathPattern) -> When {
    When { path: Some(pattern), ..When::default() }
}

fn prefix(text: &str) -> When {
    path(PathPattern::Prefix(text.into()))
}

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}

#[test]
fn hosts() {
    let routes = compile(&[
        exact("www.example.com"),
        below(".example.com"),
        exact("api.example.com"),
        exact("api.example.org"),
        below(".example.org"),
        below(".eu.example.net"),
        below(".example.net"),
        exact("[2001:db8::1]"),
    ]);
    let long = format!("{}.example.com", "a".repeat(241));
    let longer = format!("a{long}");
    let cases = [
        ("www.example.com", Some(0)),
        ("WWW.Example.COM", Some(0)),
        ("www.example.com.", Some(0)),
        ("www.example.com..", None),
        ("a.www.example.com", Some(1)),
        // A wildcard before an exact host decides; one after it does not.
        ("api.example.com", Some(1)),
        ("api.example.org", Some(3)),
        ("www.example.org", Some(4)),
        // At least one label.
        ("example.com", None),
        (".example.com", None),
        ("..example.com", None),
        ("badexample.com", None),
        ("A.EU.example.NET.", Some(5)),
        ("eu.example.net", Some(6)),
        ("a.b.c.d.e.f.g.h.i.j.k.us.example.net", Some(6)),
        ("[2001:DB8::1]", Some(7)),
        (long.as_str(), Some(1)),
        (longer.as_str(), None),
        ("", None),
        (".", None),
        ("é.example.com", Some(1)),
    ];
    for (host, expected) in cases {
        assert_eq!(routes.find(&Asked::get(host, "/").head()), expected, "{host}");
    }
}

#[test]
fn paths() {
    let regular = |text: &str| path(PathPattern::Regex(regex(text)));
    let exactly = |text: &str| path(PathPattern::Exact(text.into()));
    let cases = [
        (prefix("/v1"), &["/v1", "/v1/", "/v1/x", "/v1//", "/v1/../v1", "/%761", "/x/%2e%2e/v1"][..], true),
        (prefix("/v1"), &["/v10", "/v", "/V1", "//v1", "/v1%2Fx", "/x/v1", "/v1/..", "v1", "*"], false),
        (prefix("/v1/"), &["/v1/", "/v1/x", "/v1//x", "/v1/."], true),
        (prefix("/v1/"), &["/v1", "/v10/", "/v1/../x"], false),
        (prefix("/"), &["/", "", "//", "/x", "/.."], true),
        (prefix("/"), &["*"], false),
        (prefix("/%7Euser/%c3%a9"), &["/~user/%C3%A9", "/%7euser/%c3%a9/x"], true),
        (prefix("/admin"), &["/public/../admin", "/public/%2e%2E/admin/x", "/./%61dmin", "/admin/"], true),
        (prefix("/admin"), &["/public/..%2Fadmin", "/public/%252e%252e/admin", "//admin"], false),
        (exactly("/a"), &["/a", "/b/../a", "/%61"], true),
        (exactly("/a"), &["/a/", "/ab", "/A", "/a/b"], false),
        (regular("^/img/.*[.]png$"), &["/img/a.png", "/x/../img/a%2epng"], true),
        (regular("^/img/.*[.]png$"), &["/img/../a.png", "/x/img/a.png", "/img/a.png/"], false),
        (regular("b+"), &["/abbc", "/%62"], true),
    ];
    for (when, paths, expected) in cases {
        let routes = compile(std::slice::from_ref(&when));
        for path in paths {
            let found = routes.find(&Asked::get("a.test", path).head());
            assert_eq!(found.is_some(), expected, "{path} for {:?}", when.path);
        }
    }
}

#[test]
fn methods() {
    let routes = compile(&[When { methods: vec![Method::PUT, Method::POST], ..When::default() }]);
    for (method, expected) in [(Method::PUT, Some(0)), (Method::POST, Some(0)), (Method::GET, None)] {
        let asked = Asked { method, ..Asked::get("a.test", "/") };
        assert_eq!(routes.find(&asked.head()), expected, "{asked:?}");
    }
}

#[test]
fn headers() {
    let when = |pattern| When { headers: vec![("x-canary".parse().unwrap(), pattern)], ..When::default() };
    let one = || ValuePattern::Exact("1".into());
    let pattern = || ValuePattern::Regex(regex("^(yes|on)"));
    let cases = [
        (one(), &[][..], false),
        (one(), &[("x-canary", b"1" as &[u8])][..], true),
        (one(), &[("X-Canary", b"1")], true),
        (one(), &[("x-canary", b"10")], false),
        (one(), &[("x-canary", b"0"), ("x-canary", b"1")], true),
        (one(), &[("x-canary", b"0, 1")], false),
        (one(), &[("x-other", b"1")], false),
        (ValuePattern::Present, &[("x-canary", b"")], true),
        (ValuePattern::Present, &[], false),
        (pattern(), &[("x-canary", b"no"), ("x-canary", b"one")], true),
        (pattern(), &[("x-canary", b"no")], false),
        // Bytes that are not UTF-8 hide nothing.
        (pattern(), &[("x-canary", b"yes\xff")], true),
        (one(), &[("x-canary", b"1\xff")], false),
    ];
    for (expected, lines, holds) in cases {
        let asked = Asked::get("a.test", "/").with(lines);
        let found = compile(&[when(expected.clone())]).find(&asked.head());
        assert_eq!(found.is_some(), holds, "{expected:?} {lines:?}");
    }
}

#[test]
fn cookies() {
    let when = |pattern| When { cookies: vec![("group".into(), pattern)], ..When::default() };
    let beta = || ValuePattern::Exact("beta".into());
    let cases = [
        (beta(), &[b"group=beta" as &[u8]][..], true),
        (beta(), &[b"a=1; group=beta; b=2"], true),
        (beta(), &[b"a=1;group = beta ;b"], true),
        (beta(), &[b"a=1", b"group=beta"], true),
        (beta(), &[b"group=alpha; group=beta"], true),
        (beta(), &[b"group=\"beta\""], false),
        (beta(), &[b"Group=beta"], false),
        (beta(), &[b"a=group=beta"], false),
        (beta(), &[b"xgroup=beta"], false),
        (beta(), &[b"group"], false),
        (beta(), &[], false),
        (ValuePattern::Present, &[b"group="], true),
        (ValuePattern::Present, &[b"groups=1; gro"], false),
        (ValuePattern::Exact("a=b".into()), &[b"group=a=b"], true),
        (ValuePattern::Regex(regex("^be")), &[b"\xff=1; group=beta\xff"], true),
    ];
    for (pattern, lines, holds) in cases {
        let lines: Vec<(&str, &[u8])> = lines.iter().map(|line| ("cookie", *line)).collect();
        let asked = Asked::get("a.test", "/").with(&lines);
        assert_eq!(
            compile(&[when(pattern.clone())]).find(&asked.head()).is_some(),
            holds,
            "{pattern:?} {lines:?}"
        );
    }
}

#[test]
fn queries() {
    let when = |name: &str, pattern| When { query: vec![(name.into(), pattern)], ..When::default() };
    let exactly = |text: &str| ValuePattern::Exact(text.into());
    let cases = [
        (when("v", exactly("2")), "/?v=2", true),
        (when("v", exactly("2")), "/?a=1&v=1&v=2", true),
        (when("v", exactly("2")), "/?%76=%32", true),
        (when("v", exactly("2")), "/?v=20", false),
        (when("v", exactly("2")), "/?V=2", false),
        (when("v", exactly("2")), "/?a=v=2", false),
        (when("v", exactly("2")), "/", false),
        (when("v", exactly("2")), "/?", false),
        (when("a b", exactly("c d/é")), "/?a+b=c%20d/%C3%A9", true),
        (when("v", exactly("")), "/?v", true),
        (when("v", ValuePattern::Present), "/?x&v", true),
        (when("v", ValuePattern::Regex(regex("^[0-9]+$"))), "/?v=x&v=17", true),
        (when("v", ValuePattern::Regex(regex("^[0-9]+$"))), "/?v=1+7", false),
    ];
    for (when, target, holds) in cases {
        let found = compile(std::slice::from_ref(&when)).find(&Asked::get("a.test", target).head());
        assert_eq!(found.is_some(), holds, "{target} for {:?}", when.query);
    }
}

#[test]
fn all_conditions_must_hold_and_the_first_route_decides() {
    let both = When { path: Some(PathPattern::Prefix("/v1/".into())), ..exact("api.test") };
    let routes = compile(&[both, prefix("/v1"), exact("api.test"), When::default()]);
    let cases =
        [("api.test", "/v1/x", 0), ("b.test", "/v1/x", 1), ("api.test", "/x", 2), ("b.test", "/x", 3)];
    for (host, path, expected) in cases {
        assert_eq!(routes.find(&Asked::get(host, path).head()), Some(expected), "{host}{path}");
    }
    assert_eq!(compile(&[]).find(&Asked::get("a.test", "/").head()), None);
}

#[test]
fn skipped_routes_are_explained() {
    let one = ValuePattern::Exact("1".into());
    let digits = ValuePattern::Regex(regex("^[0-9]$"));
    let header = |name: &str, pattern: &ValuePattern| When {
        headers: vec![(name.parse().unwrap(), pattern.clone())],
        ..When::default()
    };
    let cookie =
        |pattern: &ValuePattern| When { cookies: vec![("c".into(), pattern.clone())], ..When::default() };
    let query = |name: &str, pattern: &ValuePattern| When {
        query: vec![("ok".into(), ValuePattern::Present), (name.into(), pattern.clone())],
        ..When::default()
    };
    let clauses = [
        (exact("api.test"), "its host is api.test, not b.test"),
        (below(".example.com"), "its host is *.example.com, not b.test"),
        (prefix("/v1/"), "its path begins with /v1/, not /x"),
        (path(PathPattern::Exact("/y".into())), "its path is /y, not /x"),
        (path(PathPattern::Regex(regex("^/z"))), "its path matches ^/z, which /x does not"),
        (
            When { methods: vec![Method::PUT, Method::POST], ..When::default() },
            "its method is PUT or POST, not GET",
        ),
        (header("x-canary", &one), "header x-canary is 1, not 2"),
        (header("x-none", &one), "header x-none is 1, but the request has none"),
        (header("x-none", &ValuePattern::Present), "header x-none is present, but the request has none"),
        (header("x-none", &digits), "header x-none matches ^[0-9]$, but the request has none"),
        (cookie(&digits), r"cookie c matches ^[0-9]$, which x\u{80}y does not"),
        (query("v", &one), "query parameter v is 1, not empty"),
    ];
    let mut whens: Vec<When> = clauses.iter().map(|(when, _)| when.clone()).collect();
    whens.extend([When::default(), exact("later.test")]);
    let routes = compile(&whens);
    let asked =
        Asked::get("b.test", "/x?ok&v").with(&[("x-canary", b"2"), ("cookie", "c=x\u{80}y".as_bytes())]);
    let head = asked.head();
    let shown: Vec<String> = routes.explain(&head).iter().map(|skipped| skipped.why.to_string()).collect();
    let expected: Vec<&str> = clauses.iter().map(|(_, clause)| *clause).collect();
    assert_eq!(shown, expected);
    assert_eq!(routes.find(&head), Some(clauses.len()));
}

#[test]
fn plain_requests_allocate_nothing() {
    let mut whens: Vec<When> = (0..5_000).map(|index| exact(&format!("host{index}.test"))).collect();
    whens.push(below(".example.com"));
    whens.push(When {
        path: Some(PathPattern::Prefix("/v1/".into())),
        methods: vec![Method::GET],
        headers: vec![("x-canary".parse().unwrap(), ValuePattern::Exact("1".into()))],
        cookies: vec![("c".into(), ValuePattern::Present)],
        query: vec![("v".into(), ValuePattern::Exact("2".into()))],
        ..When::default()
    });
    let routes = compile(&whens);
    let cases = [
        (Asked::get("Host4999.test", "/"), Some(4_999)),
        (Asked::get("a.b.example.com.", "/%20x/a.b"), Some(5_000)),
        (Asked::get("a.test", "/v1/x?v=2").with(&[("x-canary", b"1"), ("cookie", b"a=b; c=d")]), Some(5_001)),
        (Asked::get("a.test", "/v1/x"), None),
    ];
    for (asked, expected) in cases {
        let head = asked.head();
        let mut found = None;
        let allocations = measure(|| found = routes.find(&head)).count_total;
        assert_eq!((found, allocations), (expected, 0), "{asked:?}");
    }
}

/// What the docs of the model say, without tables and in the plainest way.
fn holds(when: &When, asked: &Asked) -> bool {
    let host = asked.host.strip_suffix('.').unwrap_or(&asked.host).to_lowercase();
    let host_holds = when.host.as_ref().is_none_or(|pattern| match pattern {
        HostPattern::Exact(exact) => host == *exact,
        HostPattern::Below(suffix) => host
            .strip_suffix(suffix.as_str())
            .is_some_and(|before| !before.is_empty() && !before.ends_with('.')),
    });
    let mut segments: Vec<String> = Vec::new();
    let path = asked.path.replace("%2e", ".").replace("%2E", ".").replace("%61", "a");
    let mut ends_in_dots = false;
    for segment in path.split('/').skip(1) {
        ends_in_dots = segment == "." || segment == "..";
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other.into()),
        }
    }
    if ends_in_dots {
        segments.push(String::new());
    }
    let path = format!("/{}", segments.join("/"));
    let path_holds = when.path.as_ref().is_none_or(|pattern| match pattern {
        PathPattern::Prefix(text) => {
            path == *text || path.starts_with(&format!("{}/", text.trim_end_matches('/')))
        }
        PathPattern::Exact(exact) => path == *exact,
        PathPattern::Regex(regex) => regex.is_match(&path),
    });
    let fits = |pattern: &ValuePattern, value: &str| match pattern {
        ValuePattern::Present => true,
        ValuePattern::Exact(exact) => exact == value,
        ValuePattern::Regex(regex) => regex.is_match(value),
    };
    let lines = |name: &str| -> Vec<String> {
        asked.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    let any_pair = |text: &str, between: &str, name: &str, pattern: &ValuePattern| {
        text.split(between)
            .any(|pair| pair.split_once('=').is_some_and(|(key, value)| key == name && fits(pattern, value)))
    };
    host_holds
        && path_holds
        && (when.methods.is_empty() || when.methods.contains(&asked.method))
        && when
            .headers
            .iter()
            .all(|(name, pattern)| lines(name.as_str()).iter().any(|value| fits(pattern, value)))
        && when
            .cookies
            .iter()
            .all(|(name, pattern)| any_pair(&lines("cookie").join("; "), "; ", name, pattern))
        && when
            .query
            .iter()
            .all(|(name, pattern)| any_pair(asked.query.as_deref().unwrap_or_default(), "&", name, pattern))
}

fn any_pattern() -> impl Strategy<Value = ValuePattern> {
    prop_oneof![
        Just(ValuePattern::Present),
        select(vec!["1", "2"]).prop_map(|text| ValuePattern::Exact(text.into())),
        Just(ValuePattern::Regex(regex("^[2-3]$"))),
    ]
}

fn any_when() -> impl Strategy<Value = When> {
    let host = prop_oneof![
        select(vec!["a.test", "b.a.test", "test"]).prop_map(|host| HostPattern::Exact(host.into())),
        select(vec![".test", ".a.test", ".b.a.test"]).prop_map(|suffix| HostPattern::Below(suffix.into())),
    ];
    let path = prop_oneof![
        select(vec!["/", "/a", "/a/", "/a/b"]).prop_map(|text| PathPattern::Prefix(text.into())),
        select(vec!["/", "/a", "/a/"]).prop_map(|text| PathPattern::Exact(text.into())),
        Just(PathPattern::Regex(regex("/a$"))),
    ];
    let named = |name: &'static str| {
        prop::option::weighted(0.2, any_pattern().prop_map(move |pattern| (name.to_owned(), pattern)))
    };
    (
        prop::option::of(host),
        prop::option::of(path),
        subsequence(vec![Method::GET, Method::PUT], 0..=2),
        named("x-h"),
        named("c"),
        named("q"),
    )
        .prop_map(|(host, path, methods, header, cookie, query)| When {
            host,
            path,
            methods,
            headers: header.map(|(name, pattern)| (name.parse().unwrap(), pattern)).into_iter().collect(),
            cookies: cookie.into_iter().collect(),
            query: query.into_iter().collect(),
        })
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let label = || select(vec!["a.", "b.", "A.", "c.", "."]);
    let host = (prop::collection::vec(label(), 0..4), select(vec!["test", "test.", "TEST", "x", ""]));
    let segment = select(vec!["/", "/a", "/b", "/ab", "/.", "/..", "/%2e", "/.%2E", "/%61"]);
    let value = || select(vec!["1", "2", "3"]);
    let pairs = |name: &'static str| {
        prop::collection::vec(value().prop_map(move |value| format!("{name}={value}")), 0..3)
    };
    (
        host.prop_map(|(labels, end)| labels.concat() + end),
        prop::collection::vec(segment, 1..5).prop_map(|segments| segments.concat()),
        select(vec![Method::GET, Method::PUT, Method::POST]),
        prop::collection::vec(value(), 0..3),
        pairs("c"),
        prop::option::of(pairs("q").prop_map(|pairs| pairs.join("&"))),
    )
        .prop_map(|(host, path, method, header, cookies, query)| {
            let header = header.iter().map(|value| ("x-h", value.as_bytes()));
            let cookies = cookies.iter().map(|pair| ("cookie", pair.as_bytes()));
            let lines: Vec<(&str, &[u8])> = header.chain(cookies).collect();
            Asked { method, query, ..Asked::get(&host, &path) }.with(&lines)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn find_equals_a_scan_and_explain_agrees(
        whens in prop::collection::vec(any_when(), 0..20),
        requests in prop::collection::vec(any_asked(), 20),
    ) {
        let routes = compile(&whens);
        for asked in requests {
            let head = asked.head();
            let found = routes.find(&head);
            prop_assert_eq!(found, whens.iter().position(|when| holds(when, &asked)), "{:?}", asked);
            let skipped: Vec<usize> = routes.explain(&head).iter().map(|skipped| skipped.route).collect();
            prop_assert_eq!(skipped, Vec::from_iter(0..found.unwrap_or(whens.len())), "{:?}", asked);
        }
    }
}
