//! Rules about the status of the response: the module that sees responses answers them, in the harness and in a real
//! Envoy as the native engine does, and the module that does not see them refuses them by name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::path::PathBuf;

use base64::Engine as _;
use portcullis_compiler::{Options, backend, parse};
use portcullis_harness::capture::Record;
use portcullis_harness::cli::{Engine, EngineArgs, EngineKind};
use portcullis_harness::host::Module;
use portcullis_tests::{Gateway, get, wasm, wasm_response};

const RULES: &str = "
title: Not found
level: critical
logsource: {category: webserver}
detection: {selection: {sc-status: 404}, condition: selection}
---
title: Found
level: critical
logsource: {category: webserver}
detection: {selection: {cs-uri-stem|endswith: /index.php, sc-status: 200}, condition: selection}
---
title: Not refused
level: critical
logsource: {category: webserver}
detection:
  selection: {cs-uri-query.*|contains: needle}
  refused: {sc-status|startswith: ['4', '5']}
  condition: selection and not refused
---
title: Asked for
level: informational
logsource: {category: webserver}
detection: {selection: {cs-uri-stem|endswith: /index.php}, condition: selection}
";

/// A request, the status of its answer by the demo's upstream, and the rules that match, in the order of alerts.
const CASES: [(&str, &str, u16, &[&str]); 8] = [
    ("/", "", 200, &[]),
    ("/nothing", "", 404, &["Not found"]),
    ("/index.php", "", 200, &["Asked for", "Found"]),
    ("/shop/index.php", "", 404, &["Asked for", "Not found"]),
    ("/?a=needle", "", 200, &["Not refused"]),
    ("/nothing?a=needle", "", 404, &["Not found"]),
    ("/login", "a=needle", 200, &["Not refused"]),
    (
        "/index.php?x=1",
        "a=needle",
        200,
        &["Asked for", "Found", "Not refused"],
    ),
];

fn configuration() -> String {
    let parsed = parse("rules.yml", RULES, &Options::default());
    let compiled = backend::compile(&parsed.documents).unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(compiled.bytes);
    format!(r#"{{"mode": "block", "ruleset": "{text}"}}"#)
}

/// The titles that the alerts of one request name.
fn titles(alerts: &[portcullis_harness::report::Alert]) -> Vec<String> {
    let titles = alerts
        .iter()
        .map(|alert| alert.text("RuleTitle").to_owned());
    titles.collect()
}

fn record(target: &str, body: &str, status: u16) -> Record {
    let method: &[u8] = if body.is_empty() { b"GET" } else { b"POST" };
    let mut record = Record::new(method, target.as_bytes());
    record.set_authority(b"shop.example");
    if !body.is_empty() {
        record.push_header(b"content-type", b"application/x-www-form-urlencoded");
        record.set_body(body.as_bytes());
    }
    record.status = Some(status);
    record
}

/// The configuration in a file of its own, which goes with it.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let name = format!("portcullis-response-{name}-{}.json", std::process::id());
        let file = File(std::env::temp_dir().join(name));
        std::fs::write(&file.0, text).unwrap();
        file
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn engine(kind: EngineKind, filter: PathBuf, config: &File) -> anyhow::Result<Engine> {
    let args = EngineArgs {
        kind,
        filter,
        config: Some(config.0.clone()),
        ..EngineArgs::default()
    };
    args.start()
}

#[test]
fn native_and_wasm_know_the_status_of_a_capture() {
    let config = File::new("agree", &configuration());
    let mut compared = 0;
    for kind in [EngineKind::Native, EngineKind::Wasm] {
        let mut engine = engine(kind, wasm_response(), &config).unwrap();
        let mut detector = engine.detectors().pop().unwrap();
        for (target, body, status, expected) in CASES {
            let mut alerts = Vec::new();
            let verdict = detector.inspect(&record(target, body, status), &mut alerts);
            assert_eq!(verdict.failure, None, "{target}");
            let found = titles(&alerts);
            for alert in &alerts {
                let properties = &alert.0["ExtendedProperties"];
                let asked_for = alert.text("RuleTitle") == "Asked for";
                assert_eq!(properties.get("Status").is_none(), asked_for, "{target}");
                // Once the response is on its way there is nothing to block.
                assert_eq!(alert.text("Action"), "detected", "{target}");
            }
            assert_eq!(found, *expected, "{kind:?} {target} {body}");
            compared += 1;
        }
    }
    assert_eq!(compared, 2 * CASES.len());
}

#[test]
fn the_module_without_responses_names_the_rule_and_the_module_that_has_them() {
    let config = File::new("refused", &configuration());
    let refused = engine(EngineKind::Wasm, wasm(), &config).err().unwrap();
    let refused = refused.to_string();
    assert!(
        refused.contains("`Not found` (rules.yml) asks for the response"),
        "{refused}"
    );
    assert!(
        refused.contains("portcullis_http_response.wasm"),
        "{refused}"
    );
}

#[test]
fn the_module_with_responses_exports_one_callback_more() {
    let names = |path: PathBuf| -> (Vec<String>, Vec<String>) {
        let module = Module::compile(&std::fs::read(path).unwrap()).unwrap();
        let own = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        (own(module.imports()), own(module.exports()))
    };
    let (imports, exports) = names(wasm());
    let (more_imports, more_exports) = names(wasm_response());
    assert_eq!(imports, more_imports);
    let more: Vec<_> = more_exports
        .iter()
        .filter(|name| !exports.contains(name))
        .collect();
    assert_eq!(more, ["proxy_on_log"]);
}

#[test]
fn envoy_gives_the_status_and_the_request_once_more() {
    let gateway = Gateway::with_filter(&wasm_response(), |config| config.plugin(&configuration()));
    let gateway = gateway.unwrap();
    for (target, body, status, expected) in CASES {
        let response = match body {
            "" => gateway.send(&get(target.as_bytes(), b"")),
            body => gateway.send(
                format!(
                    "POST {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\
                     Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            ),
        };
        assert_eq!(response.status, status, "{target}");
        // The end of a stream is after its answer has come: its alerts may come after those of later requests.
        let mut found = Vec::new();
        for _ in 0..50 {
            found.extend(gateway.alerts_by("/nothing/canary"));
            if titles(&found).len() >= expected.len() {
                break;
            }
        }
        found.retain(|alert| alert.text("Target") == target);
        let mut found = titles(&found);
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(found, expected, "{target} {body}");
    }
    gateway.assert_never_reloaded();
}

#[test]
fn what_envoy_answers_itself_is_an_answer_too() {
    let gateway = Gateway::with_filter(&wasm_response(), |config| {
        config
            .plugin(&configuration())?
            .edit("match: {prefix: /}", "match: {prefix: /index}")
    });
    let gateway = gateway.unwrap();
    // No route: Envoy's own 404, on a stream that has seen no upstream.
    let alerts = gateway.alerts_by("/anywhere");
    assert!(alerts.is_empty(), "{alerts:?}");
    // No codec gets so far as to a request: the stream ends without one, and nothing is asked.
    gateway.send(b"GET / HTTP/1.1\r\n\r\n");
    gateway.alerts_by("/anywhere");
    gateway.assert_never_reloaded();
}

#[test]
fn a_scanner_without_a_name_shows_by_what_it_does_not_find() {
    let gateway = Gateway::with_filter(&wasm_response(), |config| {
        config.plugin(r#"{"mode": "detect"}"#)
    });
    let gateway = gateway.unwrap();
    let counts = |pages: &mut dyn Iterator<Item = String>| {
        for page in pages {
            assert_eq!(gateway.get(&page, "").status, 404, "{page}");
        }
        // The end of a stream is after its answer has come.
        let mut found = Vec::new();
        for _ in 0..5 {
            found.extend(gateway.alerts());
        }
        titles(&found)
    };
    // What browsers miss, and one page over and over.
    let missed = counts(&mut (0..60).map(|number| match number % 2 {
        0 => format!("/static/chunk-{number}.js"),
        _ => "/moved".to_owned(),
    }));
    assert_eq!(missed, Vec::<String>::new());
    let scanned = counts(&mut (0..45).map(|number| format!("/folder-{number}/")));
    assert_eq!(
        scanned,
        ["Many pages that are not there, asked for by one source"]
    );
    gateway.assert_never_reloaded();
}
