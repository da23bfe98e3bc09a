//! Bodies in a real Envoy: what is found in them, what a block keeps from the upstream, and that no body is lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use portcullis_tests::{BROWSER, Gateway};

const BLOCK: &str =
    r#"{"mode": "block", "block": {"min_severity": "Medium", "min_confidence": 60}}"#;

fn head(lines: &str) -> String {
    format!(
        "POST /form HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\nUser-Agent: {BROWSER}\r\n{lines}\r\n"
    )
}

fn post(content_type: &str, body: &[u8]) -> Vec<u8> {
    let lines = format!(
        "Content-Type: {content_type}\r\nContent-Length: {}\r\n",
        body.len()
    );
    [head(&lines).as_bytes(), body].concat()
}

const UPLOAD: &[u8] = b"--X\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.png\"\r\n\
    Content-Type: image/png\r\n\r\n\x89PNG\r\n\x1a\n\0\0<?php system($_GET['c']); ?>\r\n--X--\r\n";

#[test]
fn what_a_body_holds_is_found_and_blocked() {
    let cases: [(&str, &[u8], &str, &str); 5] = [
        (
            "application/x-www-form-urlencoded",
            b"name=a&id=1%27+UNION+SELECT+password+FROM+users--+-",
            "Gateway_SqlInjection",
            "id",
        ),
        (
            "application/json; charset=utf-8",
            br#"{"user": {"id": "1' UNION SELECT password FROM users-- -"}}"#,
            "Gateway_SqlInjection",
            "id",
        ),
        ("multipart/form-data; boundary=X", UPLOAD, "Gateway_CodeInjection", ""),
        (
            "text/xml",
            b"<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>",
            "Gateway_CodeInjection",
            "",
        ),
        ("text/plain", b"<script>alert(document.cookie)</script>", "Gateway_CrossSiteScripting", ""),
    ];
    let detecting = Gateway::with("{}");
    let blocking = Gateway::with(BLOCK);
    for (content_type, body, alert_type, name) in cases {
        let passed = detecting.send(&post(content_type, body)).status;
        assert_ne!(passed, 403, "{content_type}");
        let alerts = detecting.alerts();
        let alert = alerts.iter().find(|alert| alert.alert_type() == alert_type);
        let alert = alert.unwrap_or_else(|| panic!("{content_type}: {alerts:?}"));
        assert_eq!(alert.text("FieldName"), name, "{content_type}");
        assert_eq!(alert.text("Target"), "/form");
        assert!(
            alert.text("Field").starts_with("cs-body"),
            "{content_type}: {alert:?}"
        );
        assert_eq!(
            blocking.send(&post(content_type, body)).status,
            403,
            "{content_type}"
        );
    }
    // Nearby, and nothing.
    for (content_type, body) in [
        (
            "application/x-www-form-urlencoded",
            &b"name=O%27Reilly&text=select+a+union+for+us"[..],
        ),
        (
            "application/json",
            br#"{"name": "O'Reilly", "n": [1, 2.5, null, true]}"#,
        ),
        ("multipart/form-data; boundary=X", &UPLOAD[..85]),
        (
            "application/octet-stream",
            b"id=1' UNION SELECT password FROM users-- -",
        ),
    ] {
        assert_ne!(
            blocking.send(&post(content_type, body)).status,
            403,
            "{content_type}"
        );
    }
    blocking.alerts();
    assert_eq!(blocking.stat("wasmcustom.portcullis.uninspected_bodies"), 1);
    detecting.assert_alive();
    blocking.assert_alive();
}

#[test]
fn a_body_in_pieces_is_held_until_it_is_known() {
    let gateway = Gateway::with(BLOCK);
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let request = post(
        "application/x-www-form-urlencoded",
        b"id=1%27+UNION+SELECT+password+FROM+users--+-",
    );
    let (mut rest, mut sent) = (request.as_slice(), 0);
    while let Some(piece) = rest.get(
        ..rest
            .len()
            .min(if sent == 0 { request.len() - 30 } else { 10 }),
    ) {
        if piece.is_empty() {
            break;
        }
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        rest = &rest[piece.len()..];
        sent += 1;
    }
    assert_eq!(sent, 4);
    let mut answer = Vec::new();
    // The connection may be reset behind the answer.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(gateway.alert_types(), ["Gateway_SqlInjection"]);
    gateway.assert_alive();
}

#[test]
fn a_body_over_the_limit_passes_and_is_counted() {
    let gateway = Gateway::with(BLOCK);
    let attack = "&id=1%27+UNION+SELECT+password+FROM+users--+-";
    // Longer than Envoy would buffer: it must not be held back as a whole.
    let long = format!("a={}", "x".repeat(3 << 20));
    for (body, is_refused) in [
        (format!("{long}{attack}"), false),
        (format!("{}{long}", &attack[1..]), true),
    ] {
        let request = post("application/x-www-form-urlencoded", body.as_bytes());
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        // Envoy may answer before it has read all.
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            !answer.is_empty() && !answer.starts_with("HTTP/1.1 413"),
            "{answer}"
        );
        assert_eq!(answer.starts_with("HTTP/1.1 403"), is_refused, "{answer}");
    }
    let alerts = gateway.alerts();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(gateway.stat("wasmcustom.portcullis.truncated_requests"), 2);
    gateway.assert_alive();
}

#[test]
fn bodies_may_be_left_alone() {
    let off = BLOCK.replacen('{', r#"{"body": {"inspect": false}, "#, 1);
    let gateway = Gateway::with(&off);
    let request = post(
        "application/x-www-form-urlencoded",
        b"id=1%27+UNION+SELECT+password+FROM+users--+-",
    );
    assert_ne!(gateway.send(&request).status, 403);
    let excepted = BLOCK.replacen(
        '{',
        r#"{"exceptions": [{"rules": ["injection"], "path": "/form", "parameter": "id"}], "#,
        1,
    );
    let gateway = Gateway::with(&excepted);
    assert_ne!(gateway.send(&request).status, 403);
    let other = post(
        "application/x-www-form-urlencoded",
        b"x=1%27+UNION+SELECT+password+FROM+users--+-",
    );
    assert_eq!(gateway.send(&other).status, 403);
    gateway.assert_alive();
}
