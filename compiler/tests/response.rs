//! Rules about the status: what the request leaves open, and what the response then says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use portcullis::headers::Headers;
use portcullis::inspect::{Facts, Inspector};
use portcullis::ruleset::RuleSet;
use portcullis_compiler::{Options, backend, parse};

struct Status(u16);

impl Facts for Status {
    fn status(&self) -> Option<u16> {
        Some(self.0)
    }
}

/// A rule's detection, the path that is asked for, the status of the answer, whether the request leaves the rule open
/// and whether it matches then. None is open for `/`.
const CASES: [(&str, &str, u16, bool, bool); 14] = [
    (
        "{a: {cs-uri-stem|contains: /admin, sc-status: 200}, condition: a}",
        "/admin",
        200,
        true,
        true,
    ),
    (
        "{a: {cs-uri-stem|contains: /admin, sc-status: 200}, condition: a}",
        "/admin",
        404,
        true,
        false,
    ),
    (
        "{a: {cs-uri-stem|contains: /admin}, b: {sc-status: 404}, condition: a and not b}",
        "/admin",
        200,
        true,
        true,
    ),
    (
        "{a: {cs-uri-stem|contains: /admin}, b: {sc-status: 404}, condition: a and not b}",
        "/admin",
        404,
        true,
        false,
    ),
    (
        "{a: {cs-uri-stem|contains: /admin, cs-method: POST, sc-status: 200}, condition: a}",
        "/admin",
        200,
        false,
        false,
    ),
    (
        "{a: {cs-uri-stem|contains: /admin, sc-status|gte: 500}, condition: a}",
        "/admin",
        503,
        true,
        true,
    ),
    (
        "{a: {cs-uri-stem|contains: /admin, sc-status|gte: 500}, condition: a}",
        "/admin",
        404,
        true,
        false,
    ),
    (
        "{a: {cs-uri-stem|contains: /admin, sc-status|startswith: '4'}, condition: a}",
        "/admin",
        418,
        true,
        true,
    ),
    (
        "{a: {cs-uri-stem|contains: /admin, sc-status: '4*'}, condition: a}",
        "/admin",
        418,
        true,
        true,
    ),
    (
        "{a: {cs-uri-stem|contains: /admin, sc-status|re: '^[45]'}, condition: a}",
        "/admin",
        500,
        true,
        true,
    ),
    // Enough holds already: what the response says does not matter, but the rule is answered then all the same.
    (
        "{a: {cs-uri-stem|contains: /admin}, b: {sc-status: 1}, condition: 1 of them and a}",
        "/admin",
        404,
        true,
        true,
    ),
    (
        "{a: {cs-uri-stem|contains: /admin}, b: {sc-status: 404}, c: {cs-method: GET}, condition: all of them}",
        "/admin",
        404,
        true,
        true,
    ),
    // Nothing of the request opens these.
    (
        "{a: {sc-status: 404}, condition: a}",
        "/anything",
        404,
        false,
        true,
    ),
    (
        "{a: {sc-status: 404}, b: {cs-uri-stem: /robots.txt}, condition: a and not b}",
        "/robots.txt",
        404,
        false,
        false,
    ),
];

#[test]
fn a_rule_stays_open_only_where_the_request_allows_it() {
    for (detection, path, status, is_open, matches) in CASES {
        let text =
            format!("title: t\nlogsource: {{category: webserver}}\ndetection: {detection}\n");
        let parsed = parse("t.yml", &text, &Options::default());
        let compiled = backend::compile(&parsed.documents)
            .unwrap_or_else(|errors| panic!("{detection}: {errors:?}"));
        assert!(
            compiled.warnings.is_empty(),
            "{detection}: {:?}",
            compiled.warnings
        );
        let rules = RuleSet::open(compiled.bytes).unwrap();
        assert!(rules.needs_response().is_some());
        let mut inspector = Inspector::new(rules);
        for (path, is_open, matches) in [(path, is_open, matches), ("/", false, false)] {
            let pairs = [(&b":method"[..], &b"GET"[..]), (b":path", path.as_bytes())];
            let headers = Headers::Pairs(&pairs);
            // The request knows nothing of the response, even if somebody does.
            let found = inspector.request(headers, &Status(status)).detections.len();
            assert_eq!(found, 0, "{detection} {path}");
            assert_eq!(
                !inspector.awaiting().is_empty(),
                is_open,
                "{detection} {path}"
            );
            let opens = |inspector: &Inspector, status| inspector.concerns_any_request(status);
            if path != "/" {
                let asks = is_open || opens(&inspector, status);
                let found = inspector
                    .response(headers, &Status(status))
                    .detections
                    .len();
                assert_eq!(found == 1, matches, "{detection} {path} {status}");
                assert!(asks || !matches, "{detection} would never be asked");
            }
            assert!(!opens(&inspector, 200), "{detection}");
        }
    }
}

#[test]
fn a_rule_that_every_response_has_to_evaluate_comes_with_a_warning() {
    for (detection, warns) in [
        ("{a: {sc-status: 404}, condition: a}", false),
        ("{a: {sc-status|gte: 400}, condition: a}", false),
        (
            "{a: {sc-status: [403, 404]}, b: {cs-method: GET}, condition: a and b}",
            false,
        ),
        ("{a: {sc-status: 404}, condition: not a}", true),
        ("{a: {sc-status: 200}, condition: a}", true),
    ] {
        let text =
            format!("title: t\nlogsource: {{category: webserver}}\ndetection: {detection}\n");
        let parsed = parse("t.yml", &text, &Options::default());
        let compiled = backend::compile(&parsed.documents).unwrap();
        assert_eq!(!compiled.warnings.is_empty(), warns, "{detection}");
    }
}
