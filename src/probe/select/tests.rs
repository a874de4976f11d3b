use jsonpath_rust::query::js_path_process;

use super::*;

/// The selected values, and how many steps that took; `None` if they were too many.
fn selected<'d>(path: &str, document: &'d Value) -> Option<(Vec<&'d Value>, u32)> {
    let mut steps = Steps::new();
    let values = select(&path.parse().expect("a path"), document, &mut steps).ok()?;
    Some((values, MAX_STEPS - steps.0))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn paths_select_what_the_library_selects() {
    let document = parsed(
        r#"{"checks": {"db": {"status": "healthy", "lag": 1.5, "tags": ["a", "b"]},
                       "queue": {"status": "slow", "lag": 3, "tags": []}},
            "peers": [{"n": 1}, {"n": 2.0, "x": null}, {"n": 3, "up": true}, [7, 8], "text", 9],
            "names": ["db-1", "db-22", "web"], "allowed": ["a", "b", "c"], "limit": 2, "wanted": "slow"}"#,
    );
    for path in [
        "$",
        "$.checks.db.status",
        "$['checks']['db', 'queue'].lag",
        "$.checks.*.tags[*]",
        "$..lag",
        "$..[0]",
        "$..*",
        "$.peers[-1]",
        "$.peers[9]",
        "$.peers[-9]",
        "$.peers[1:3]",
        "$.peers[::2]",
        "$.peers[::-2]",
        "$.peers[-2:]",
        "$.peers[4:1:-1]",
        "$.peers[::0]",
        "$.checks[?@.status == 'slow'].lag",
        "$.checks[?@.status == $.wanted].lag",
        "$.checks[?@.status != 'slow' && @.lag < 2 || @.lag >= 3]",
        "$.checks[?!(@.lag <= 1.5)]",
        "$.checks[?@.lag > 'a']",
        "$.peers[?@.x]",
        "$.peers[?!@.x]",
        "$.peers[?@.x == null]",
        "$.peers[?@.missing == @.also]",
        "$.peers[?@.n == 2].n",
        "$.peers[?@ == 'text']",
        "$.checks[?length(@.tags) == 2].status",
        "$.checks[?length(@.tags[*]) == 2].status",
        "$.names[?length(@) > 4]",
        "$.checks[?count(@.tags[*]) > 1].status",
        "$.peers[?count($.names[*]) == 3]",
        "$.names[?match(@, 'db-.')]",
        "$.names[?search(@, '[0-9]{2}|e')]",
        "$.names[?!match(@, 'db-.*')]",
        "$.checks[?subset_of(@.tags, $.allowed)].status",
        "$.checks[?any_of(@.tags, $.allowed)].status",
        "$.checks[?none_of(@.tags, $.allowed)].status",
        "$.names[?nin(@, $.allowed)]",
        "$.checks.db.tags[?in(@, $.allowed)]",
    ] {
        let parsed: JsonPath = path.parse().expect("a path");
        let expected = js_path_process(parsed.query(), &document).expect("an evaluation");
        let mut expected: Vec<String> = expected.iter().map(|it| it.val.to_string()).collect();
        let (values, _) = selected(path, &document).expect("few steps");
        let mut values: Vec<String> = values.iter().map(ToString::to_string).collect();
        // The library goes down level by level.
        expected.sort();
        values.sort();
        assert_eq!(values, expected, "{path}");
    }
}

/// Where the library differs, the RFC decides.
#[test]
fn paths_select_what_the_rfc_says() {
    let document = parsed(r#"[{"tags": []}, [7, 8], [{"a": 1}], [{"a": 1.0}]]"#);
    for (path, expected) in [
        ("$[?count(@.tags[*]) == 0].tags", "[]"),
        ("$[?value(@[?@ > 7]) == 8][0]", "7"),
        ("$[?@ == $[2]][0].a", "1 1.0"),
    ] {
        let (values, _) = selected(path, &document).expect("few steps");
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        assert_eq!(values.join(" "), expected, "{path}");
    }
}

#[test]
fn paths_that_visit_each_value_once_fit_the_densest_document() {
    let document = parsed(&format!("[{}0]", "0,".repeat(MAX_BODY / 2 - 1)));
    let values = MAX_BODY as u32 / 2 + 1;
    for path in ["$[*]", "$..status", "$..*", "$[?@ > 0]", "$[::-1]"] {
        let (_, steps) = selected(path, &document).expect("few steps");
        assert!(steps <= 2 * values + 2, "{path} takes {steps} steps");
    }
    // Each visits values again and again, or compares or searches long texts.
    for path in [
        "$[?count($[*]) > 1]",
        "$[?$[?@ > 0]]",
        "$[?length($..*) > 1]",
        "$[?in(@, $)]",
        "$[?@ == $ || $ == $]",
    ] {
        assert_eq!(selected(path, &document), None, "{path}");
    }
    let long = "x".repeat(MAX_BODY / 2);
    let document = parsed(&format!("[{:?},{long:?},{}0]", long, "0,".repeat(1000)));
    for path in [
        "$[?$[0] == $[1]]",
        "$[?$[0] < $[1]]",
        "$[?length($[0]) > 1]",
        "$[?search($[0], 'y')]",
        "$[?in($[1], $)]",
    ] {
        assert_eq!(selected(path, &document), None, "{path}");
    }
}

#[test]
fn steps_that_are_exhausted_stay_so() {
    let mut steps = Steps::new();
    assert_eq!(steps.take(MAX_STEPS as usize), Ok(()));
    assert_eq!((steps.take(1), steps.take(0)), (Err(Exhausted), Ok(())));
    let mut steps = Steps::new();
    assert_eq!((steps.take(usize::MAX), steps.take(1)), (Err(Exhausted), Err(Exhausted)));
}
