//! Rules that name a body: what they see of it, and that they wait for one.
#![allow(clippy::unwrap_used, clippy::panic)]

use portcullis::body::Request;
use portcullis::headers::Headers;
use portcullis::inspect::Inspector;
use portcullis::ruleset::RuleSet;
use portcullis_compiler::{Options, backend, parse};

const RULES: &str = r#"
title: raw
logsource: {category: webserver}
detection: {selection: {cs-body|contains: '{"secret":'}, condition: selection}
---
title: value
logsource: {category: webserver}
detection: {selection: {cs-body.*|contains: open sesame}, condition: selection}
---
title: named
logsource: {category: webserver}
detection: {selection: {cs-body.word: open sesame}, condition: selection}
---
title: both
logsource: {category: webserver}
detection: {selection: {cs-uri-query|contains: action=upload, cs-body|contains: sesame}, condition: selection}
---
title: without
logsource: {category: webserver}
detection: {selection: {cs-uri-stem: /upload.php}, filter: {cs-body|contains: sesame}, condition: selection and not filter}
---
title: detector
logsource: {category: webserver}
detection: {selection: {cs-body.*|sqli: medium}, condition: selection}
---
title: parameter
logsource: {category: webserver}
detection: {selection: {cs-uri-query.word|contains: sesame}, condition: selection}
"#;

struct Bench(Inspector);

impl Bench {
    fn open() -> Bench {
        let numbered: Vec<String> = (RULES.split("\n---\n").enumerate())
            .map(|(at, rule)| {
                format!(
                    "{}\nid: 0b0f8a52-4d0a-4a05-8c3c-0000000000{at:02}\n",
                    rule.trim()
                )
            })
            .collect();
        let parsed = parse("bodies.yml", numbered.join("---\n"), &Options::default());
        assert_eq!(parsed.errors().count(), 0, "{:#?}", parsed.diagnostics);
        let compiled = backend::compile(&parsed.documents).unwrap();
        Bench(Inspector::new(RuleSet::open(compiled.bytes).unwrap()))
    }

    /// The titles of the rules that the head matches, and of those that the body does.
    fn ask(&mut self, target: &str, kind: &str, body: &str) -> (Vec<String>, Vec<String>) {
        let pairs: [(&[u8], &[u8]); 3] = [
            (b":method", b"POST"),
            (b":path", target.as_bytes()),
            (b"content-type", kind.as_bytes()),
        ];
        let head = Headers::Pairs(&pairs);
        self.0.request(head, &());
        let by_head = self.titles();
        let Some(request) = Request::new(head, body.as_bytes()) else {
            return (by_head, Vec::new());
        };
        self.0.body(head, &request, &());
        (by_head, self.titles())
    }

    fn titles(&self) -> Vec<String> {
        let rules = self.0.rules();
        let found = self.0.detections().iter();
        found
            .map(|found| rules.text(rules.rule(found.rule).unwrap().title).to_owned())
            .collect()
    }
}

#[test]
fn rules_see_a_body_as_it_came_and_by_its_values() {
    let mut bench = Bench::open();
    let form = "application/x-www-form-urlencoded";
    let json = "application/json";
    type Case = (
        &'static str,
        &'static str,
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
    );
    let cases: [Case; 9] = [
        ("/a", json, r#"{"secret": "x"}"#, &[], &["raw"]),
        ("/a", form, "x=%7B%22secret%22%3A", &[], &["raw"]),
        ("/a", form, "x=please+open%20sesame", &[], &["value"]),
        (
            "/a",
            json,
            r#"{"a":{"word":"open\u0020sesame"}}"#,
            &[],
            &["value", "named", "parameter"],
        ),
        (
            "/a",
            form,
            "word=open+sesames",
            &[],
            &["value", "parameter"],
        ),
        ("/a?action=upload", form, "x=sesame", &[], &["both"]),
        // Asked for in the body as well, but the body's parameters are not the target's.
        ("/a", form, "action=upload&x=sesame", &[], &[]),
        ("/upload.php", form, "x=1", &[], &["without"]),
        (
            "/upload.php",
            form,
            "x=1' union select a from b--",
            &[],
            &["without", "detector"],
        ),
    ];
    for (target, kind, body, by_head, by_body) in cases {
        let got = bench.ask(target, kind, body);
        let want = |titles: &[&str]| titles.iter().map(|title| (*title).to_owned()).collect();
        assert_eq!(got, (want(by_head), want(by_body)), "{target} {body}");
    }
    // Without a body nothing is known of it, so nothing is said.
    assert_eq!(bench.ask("/upload.php", "application/grpc", "x").0, [""; 0]);
}
