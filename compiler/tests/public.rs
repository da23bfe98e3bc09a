//! Rules of public sets: read as their authors mean them, and names that are pieces of another field.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use portcullis::event::Source;
use portcullis::field::Field;
use portcullis::headers::Headers;
use portcullis::inspect::Inspector;
use portcullis::ruleset::RuleSet;
use portcullis_compiler::{Options, backend, parse};

fn inspector(category: &str, detection: &str, public: bool) -> Result<Inspector, String> {
    let text = format!("title: t\nlogsource: {{category: {category}}}\ndetection: {detection}\n");
    let options = Options {
        public,
        ..Options::default()
    };
    let parsed = parse("t.yml", text, &options);
    if let Some(error) = parsed.errors().next() {
        return Err(error.code.to_owned());
    }
    let compiled = backend::compile(&parsed.documents).unwrap();
    Ok(Inspector::new(RuleSet::open(compiled.bytes).unwrap()))
}

/// Whether the one rule matches a `GET` of this target.
fn matches(inspector: &mut Inspector, target: &str) -> bool {
    let pairs = [
        (&b":method"[..], &b"GET"[..]),
        (b":path", target.as_bytes()),
    ];
    let inspection = inspector.request(Headers::Pairs(&pairs), &());
    inspection.detections.len() == 1
}

/// A detection, a target, and whether it matches as the specification reads it and as a public rule.
const QUERIES: [(&str, &str, bool, bool); 9] = [
    (
        "{a: {cs-uri-query|endswith: /mgmt/tm/util/bash}, condition: a}",
        "/mgmt/tm/util/bash",
        false,
        true,
    ),
    (
        "{a: {cs-uri-query|contains: '?doAs='}, condition: a}",
        "/x?doAs=`id`",
        false,
        true,
    ),
    (
        "{a: {cs-uri-query|contains: cmd=read}, condition: a}",
        "/x?a=1&cmd=read",
        true,
        true,
    ),
    (
        "{a: {cs-uri-query: /setup.php}, condition: a}",
        "/setup.php",
        false,
        true,
    ),
    (
        "{a: {cs-uri-query: a=1}, condition: a}",
        "/x?a=1",
        true,
        true,
    ),
    (
        "{a: {cs-uri-query|startswith: a=1}, condition: a}",
        "/x?a=12",
        true,
        true,
    ),
    (
        "{a: {cs-uri-query|startswith: a=1}, condition: a}",
        "/a=1",
        false,
        false,
    ),
    (
        "{a: {cs-uri-query: null}, b: {cs-uri-stem: /x}, condition: a and b}",
        "/x",
        true,
        true,
    ),
    (
        "{a: {cs-uri-query|re: '/cgi-bin/.*sh$'}, condition: a}",
        "/cgi-bin/a.sh",
        false,
        true,
    ),
];

#[test]
fn a_query_may_be_the_whole_target_in_public_rules_only() {
    for (detection, target, own, as_public) in QUERIES {
        for (public, expected) in [(false, own), (true, as_public)] {
            let mut inspector = inspector("webserver", detection, public).unwrap();
            assert_eq!(
                matches(&mut inspector, target),
                expected,
                "{detection} {target} public: {public}"
            );
        }
    }
}

#[test]
fn pieces_of_a_field_are_found_where_they_stand() {
    let web = [
        (
            "{a: {c-uri-extension: [exe, hta]}, condition: a}",
            "/files/Setup.EXE?v=1",
            true,
        ),
        ("{a: {c-uri-extension: exe}, condition: a}", "/exe", false),
        (
            "{a: {c-uri-extension: exe}, condition: a}",
            "/x.exe.txt",
            false,
        ),
    ];
    for (detection, target, expected) in web {
        let mut inspector = inspector("proxy", detection, false).unwrap();
        assert_eq!(
            matches(&mut inspector, target),
            expected,
            "{detection} {target}"
        );
    }
    let hashes: &[u8] = b"SHA1=A0BDFAC3,MD5=68F9B528,IMPHASH=04DE0AD9";
    for (detection, expected) in [
        ("{a: {Imphash: 04de0ad9}, condition: a}", true),
        ("{a: {md5: [x, 68f9b528]}, condition: a}", true),
        ("{a: {sha1: 68f9b528}, condition: a}", false),
        ("{a: {sha1|startswith: a0bd}, condition: a}", true),
    ] {
        let mut inspector = inspector("process_creation", detection, false).unwrap();
        let found = inspector.fields(Source::Process, &[(Field::Hashes, hashes)]);
        assert_eq!(found.detections.len() == 1, expected, "{detection}");
    }
}

#[test]
fn what_cannot_be_answered_is_refused_by_name() {
    for (category, detection, code) in [
        (
            "proxy",
            "{a: {c-uri-extension|contains: ex}, condition: a}",
            "piece-not-whole",
        ),
        (
            "proxy",
            "{a: {c-uri-extension: null}, condition: a}",
            "piece-not-whole",
        ),
        (
            "process_creation",
            "{a: {md5|endswith: ab}, condition: a}",
            "piece-not-whole",
        ),
        (
            "webserver",
            "{a: {cs-username: root}, condition: a}",
            "field-not-answered",
        ),
        (
            "process_creation",
            "{a: {ProcessId: 4}, condition: a}",
            "field-not-answered",
        ),
        (
            "webserver",
            "{a: {ProcessId: 4}, condition: a}",
            "unknown-field",
        ),
    ] {
        assert_eq!(
            inspector(category, detection, false).err().as_deref(),
            Some(code),
            "{detection}"
        );
    }
    let single = "{a: {cs-uri|contains|all: [one]}, condition: a}";
    assert_eq!(
        inspector("webserver", single, false).err().as_deref(),
        Some("all-needs-list")
    );
    assert!(inspector("webserver", single, true).is_ok());
}
