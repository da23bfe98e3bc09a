//! The manifests for Kubernetes against what the resource definitions of Istio and Envoy Gateway accept, and our own JSON
//! Schema against what the filter accepts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use jsonschema::Validator;
use portcullis::policy::Policy;
use portcullis_compiler::ast::Number;
use portcullis_compiler::diagnostic::Report;
use portcullis_compiler::source::Source;
use portcullis_compiler::yaml::{self, Kind, Node, Plain};
use serde_json::{Value, json};

const ISTIO: &str = include_str!("../envoy/istio.yaml");
const ENVOY_GATEWAY: &str = include_str!("../envoy/envoy-gateway.yaml");

/// The documents of a YAML file as JSON.
fn documents(text: &str) -> Vec<Value> {
    fn value(node: &Node) -> Value {
        match &node.kind {
            Kind::Scalar(scalar) => match scalar.plain() {
                Plain::Null => Value::Null,
                Plain::Bool(truth) => truth.into(),
                Plain::Number(Number::Integer(number)) => number.into(),
                Plain::Number(Number::Float(number)) => number.into(),
                Plain::Text => (*scalar.text).into(),
            },
            Kind::List(items) => items.iter().map(|item| value(item)).collect(),
            Kind::Map(entries) => {
                let entries = entries.iter();
                let entry = |(key, item): &(std::rc::Rc<Node>, std::rc::Rc<Node>)| {
                    (key.text().unwrap().to_owned(), value(item))
                };
                Value::Object(entries.map(entry).collect())
            }
        }
    }
    let mut report = Report::new(Source::new("manifest.yaml".to_owned(), text));
    let read = yaml::read(&mut report);
    assert!(report.is_empty(), "{:#?}", report.finish());
    read.iter().map(|node| value(node)).collect()
}

fn validator(schema: &str) -> Validator {
    let schema = serde_json::from_str(schema).unwrap();
    jsonschema::validator_for(&schema).unwrap()
}

/// What is wrong, one a line.
fn errors(validator: &Validator, value: &Value) -> String {
    let errors = validator.iter_errors(value);
    errors
        .map(|error| format!("{}: {error}\n", error.instance_path()))
        .collect()
}

#[test]
fn the_manifests_are_what_their_definitions_accept() {
    let istio = validator(include_str!("schemas/wasm-plugin.json"));
    let gateway = validator(include_str!("schemas/envoy-extension-policy.json"));
    let [plugin] = documents(ISTIO).try_into().unwrap();
    assert_eq!(errors(&istio, &plugin), "");
    let [policy, route] = documents(ENVOY_GATEWAY).try_into().unwrap();
    assert_eq!(errors(&gateway, &policy), "");
    assert_eq!(route["kind"], "HTTPRoute");

    // And the definitions are no rubber stamps.
    let broken = |manifest: &Value, pointer: &str, key: &str, new: Value| {
        let mut manifest = manifest.clone();
        let map = manifest
            .pointer_mut(pointer)
            .unwrap()
            .as_object_mut()
            .unwrap();
        match new {
            Value::Null => {
                map.remove(key).unwrap();
            }
            new => {
                map.insert(key.to_owned(), new);
            }
        }
        manifest
    };
    for (pointer, key, new) in [
        ("/spec", "failStrategy", json!("FAIL_CLOSED")),
        ("/spec", "phase", json!("authn")),
        ("/spec", "pluginConfig", json!("{}")),
        ("/spec", "plugin_config", json!({})),
        ("/spec", "url", Value::Null),
        ("/spec/selector", "labels", json!({})),
        ("", "apiVersion", json!("extensions.istio.io/v1")),
    ] {
        let manifest = broken(&plugin, pointer, key, new.clone());
        assert_ne!(errors(&istio, &manifest), "", "{pointer} {key} {new}");
    }
    for (pointer, key, new) in [
        ("/spec/wasm/0", "rootId", json!("portcullis")),
        ("/spec/wasm/0", "failOpen", json!("true")),
        ("/spec/wasm/0", "code", Value::Null),
        ("/spec/wasm/0/code", "type", json!("HTTP")),
        ("/spec/wasm/0/code", "type", json!("Oci")),
        ("/spec/wasm/0/code/image", "url", Value::Null),
        ("/spec/targetRefs/0", "kind", json!("Service")),
        ("/spec", "targetRefs", Value::Null),
        (
            "/spec",
            "targetRef",
            json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}),
        ),
    ] {
        let manifest = broken(&policy, pointer, key, new.clone());
        assert_ne!(errors(&gateway, &manifest), "", "{pointer} {key} {new}");
    }
}

#[test]
fn our_schema_says_what_the_filter_accepts() {
    let schema = validator(include_str!("../docs/policy.schema.json"));
    // Both take it, or neither does.
    let cases = [
        (r#"{}"#, true),
        (
            r#"{"mode": "block", "block": {"min_severity": "Medium", "min_confidence": "60", "status": 429}}"#,
            true,
        ),
        (
            r#"{"rules": {"disable": ["a"], "enable": [], "stage": [{"rules": ["b"], "until": "2026-12-01"}]}}"#,
            true,
        ),
        (
            r#"{"rules": {"thresholds": [{"rules": ["a"], "at_least": "50"}]}}"#,
            true,
        ),
        (r#"{"body": {"inspect": "false", "max_bytes": 1}}"#, true),
        (
            r#"{"exceptions": [{"rules": ["a"], "path": "/x", "parameter": ["q", "r"]}]}"#,
            true,
        ),
        (
            r#"{"routes": [{"match": {"host": "*.example.org", "method": ["GET"]}, "policy": {"mode": "off"}}]}"#,
            true,
        ),
        (r#"{"mode": "off", "confirm_off": true}"#, true),
        (
            r#"{"trusted_sources": ["10.0.0.0/8"], "metrics": {"style": "tagged"}}"#,
            true,
        ),
        (r#"{"mod": "block"}"#, false),
        (r#"{"mode": "blok"}"#, false),
        (r#"{"mode": false}"#, false),
        (r#"{"block": {"status": 200}}"#, false),
        (r#"{"block": {"min_confidence": 0.5}}"#, false),
        (r#"{"block": {"min_confidence": 101}}"#, false),
        (r#"{"rules": {"thresholds": [{"rules": ["a"]}]}}"#, false),
        (
            r#"{"rules": {"thresholds": [{"rules": ["a"], "at_least": 0}]}}"#,
            false,
        ),
        (r#"{"rules": {"disable": "a"}}"#, false),
        (r#"{"body": {"max_bytes": 65536}}"#, false),
        (r#"{"body": {"inspect": "maybe"}}"#, false),
        (r#"{"routes": [{"match": {}, "policy": {}}]}"#, false),
        (r#"{"routes": [{"match": {"path": "/a"}}]}"#, false),
        (r#"[]"#, false),
    ];
    for (text, is_right) in cases {
        let value: Value = serde_json::from_str(text).unwrap();
        let said = errors(&schema, &value);
        let read = Policy::read(text.as_bytes());
        assert_eq!(
            (said.is_empty(), read.is_ok()),
            (is_right, is_right),
            "{text}: {said} {read:?}"
        );
    }
    // What the manifests and the documentation show.
    let [plugin] = documents(ISTIO).try_into().unwrap();
    let [policy, _] = documents(ENVOY_GATEWAY).try_into().unwrap();
    let mut shown = vec![
        plugin["spec"]["pluginConfig"].clone(),
        policy["spec"]["wasm"][0]["config"].clone(),
    ];
    for page in [
        include_str!("../docs/POLICY.md"),
        include_str!("../README.md"),
    ] {
        for block in page.split("```json\n").skip(1) {
            let (block, _) = block.split_once("\n```").unwrap();
            let value: Value = serde_json::from_str(block).unwrap();
            // The README shows an alert as well.
            if value.get("AlertType").is_none() {
                shown.push(value);
            }
        }
    }
    assert!(shown.len() >= 4);
    for value in shown {
        assert_eq!(errors(&schema, &value), "", "{value}");
    }
}
