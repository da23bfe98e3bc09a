//! What the README shows is true: its rule compiles and keeps its own cases, its request raises the alert that it
//! prints, and its Envoy configuration is the one that is tested.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use portcullis::alert::{self, Context};
use portcullis::headers::Headers;
use portcullis::inspect::Inspector;
use portcullis::policy::{Live, Place, Policy};
use portcullis::ruleset::RuleSet;
use portcullis_compiler::ast::{CaseEvent, Document};
use portcullis_compiler::{Options, backend, load_dir, parse};
use serde_json::Value;

const README: &str = include_str!("../README.md");

/// The README's code blocks in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README
        .split(fence.as_str())
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap())
        .collect()
}

fn inspector(documents: &[Document]) -> Inspector {
    let compiled = backend::compile(documents).unwrap_or_else(|errors| panic!("{errors:#?}"));
    Inspector::new(RuleSet::open(compiled.bytes).unwrap())
}

#[test]
fn the_rule_compiles_and_keeps_its_cases() {
    let rule = blocks("yaml")
        .into_iter()
        .find(|block| block.starts_with("title:"))
        .expect("the README shows a rule");
    let parsed = parse("README.md", rule, &Options::default());
    assert!(parsed.diagnostics.is_empty(), "{:#?}", parsed.diagnostics);
    let mut inspector = inspector(&parsed.documents);
    let custom = &parsed.documents[0].head().custom;
    let mut checked = 0;
    for (cases, caught) in [(&custom.catches, true), (&custom.ignores, false)] {
        for case in cases {
            let CaseEvent::Request(request) = &case.event else {
                panic!("a request")
            };
            let pairs: [(&[u8], &[u8]); 1] = [(b":path", &request.target)];
            let found = !inspector
                .request(Headers::Pairs(&pairs), &())
                .detections
                .is_empty();
            assert_eq!(found, caught, "{}", case.title);
            checked += 1;
        }
    }
    assert_eq!(checked, 2);
}

#[test]
fn the_request_raises_the_alert() {
    let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
    let mut inspector = inspector(&load_dir(&rules).unwrap_or_else(|error| panic!("{error}")));
    let curl = blocks("sh")
        .into_iter()
        .find(|block| block.starts_with("curl"))
        .expect("the README shows a request");
    let url = curl
        .split('\'')
        .nth(1)
        .unwrap()
        .strip_prefix("http://")
        .unwrap();
    let (host, _) = url.split_once('/').unwrap();
    let target = &url[host.len()..];
    let pairs: [(&[u8], &[u8]); 3] = [
        (b":path", target.as_bytes()),
        (b":authority", host.as_bytes()),
        (b":method", b"GET"),
    ];
    let headers = Headers::Pairs(&pairs);
    assert!(!inspector.request(headers, &()).detections.is_empty());
    let policy = Policy::default();
    let (place, live) = (Place::of(headers), Live::default());
    let policy = policy.effective(&place, &live, 0);
    let alerts = alert::alerts(
        inspector.rules(),
        inspector.detections(),
        headers,
        &Context::default(),
        |rule, severity, confidence| policy.action(rule, severity, confidence),
    );
    let shown: Value = serde_json::from_str(blocks("json")[0]).expect("the README shows JSON");
    let raised: Vec<Value> = alerts
        .iter()
        .map(|alert| serde_json::to_value(alert).unwrap())
        .collect();
    let alert = raised
        .iter()
        .find(|alert| alert["AlertType"] == shown["AlertType"])
        .expect("the alert is raised");
    let mut compared = 0;
    for (key, value) in shown.as_object().unwrap() {
        if key == "ExtendedProperties" {
            for (key, value) in value.as_object().unwrap() {
                assert_eq!(&alert["ExtendedProperties"][key], value, "{key}");
                compared += 1;
            }
        } else {
            assert_eq!(&alert[key], value, "{key}");
            compared += 1;
        }
    }
    assert!(compared >= 13, "{compared}");
}

#[test]
fn the_configuration_is_that_of_the_example() {
    let example = include_str!("../envoy/envoy.yaml");
    let shown = blocks("yaml")
        .into_iter()
        .find(|block| block.starts_with("http_filters:"))
        .unwrap();
    // Every key and value of the README's excerpt stands in the file that the end-to-end tests start.
    for line in shown.lines() {
        let line = line.trim().trim_start_matches("- ");
        let value = line.strip_prefix("value: ").unwrap_or(line);
        if line != "configuration:"
            && !line.starts_with("\"@type\": type.googleapis.com/google.protobuf")
        {
            assert!(
                example.contains(value),
                "`{line}` is not in envoy/envoy.yaml"
            );
        }
    }
}

#[test]
fn the_policies_shown_are_accepted() {
    let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
    let documents = load_dir(&rules).unwrap_or_else(|error| panic!("{error}"));
    let rules = inspector(&documents).rules().clone();
    let page = include_str!("../docs/POLICY.md");
    let (_, example) = page
        .split_once("```json\n")
        .expect("the page shows a policy");
    let (example, _) = example.split_once("\n```").unwrap();
    for shown in [blocks("json")[1], example] {
        let read = Policy::load(shown.as_bytes(), || Ok(rules.clone()));
        assert!(
            read.is_ok_and(|(policy, _)| policy.routes.len() == 2),
            "{shown}"
        );
    }
}
