//! The prefilter may only save work: with it and without it every request has the same detections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use portcullis::headers::Headers;
use portcullis::inspect::{Detection, Inspector};
use portcullis_harness::capture::{Reader, Record};
use portcullis_tests::{corpora, inspector};

/// Detections without and with the prefilter.
fn both(inspector: &mut Inspector, pairs: &[(&[u8], &[u8])]) -> (Vec<Detection>, Vec<Detection>) {
    let slow = inspector
        .exhaustive(Headers::Pairs(pairs), &())
        .detections
        .to_vec();
    let fast = inspector
        .request(Headers::Pairs(pairs), &())
        .detections
        .to_vec();
    (slow, fast)
}

/// Payloads that each detector must find, in the places where a request can carry them.
const PAYLOADS: [&str; 28] = [
    "1' or '1'='1",
    "1 union select 1,2",
    "1;waitfor delay '0:0:5'--",
    "1||1=1",
    "1 and sleep(5)",
    "admin'--",
    "<script>alert(1)</script>",
    "javascript:alert(1)",
    "\" onmouseover=alert(1) x=\"",
    "{{constructor.constructor('x')()}}",
    ";id",
    "|cat /etc/passwd",
    "$(whoami)",
    "`id`",
    "&&whoami",
    "127.0.0.1&whoami",
    "/bin/ls -al",
    "a\nid",
    "../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "php://filter/x",
    "....//....//etc/passwd",
    "/proc/self/environ",
    "http://169.254.169.254/",
    "gopher://127.0.0.1:6379/",
    "http://2130706433/",
    "http://localhost/admin",
];

fn encoded(payload: &str, everything: bool) -> String {
    payload
        .bytes()
        .map(|byte| match byte {
            b' ' | b'#' | b'<' | b'>' | b'"' | b'\n' | b'%' | b'&' | b'+' | b'`' => {
                format!("%{byte:02x}")
            }
            _ if everything => format!("%{byte:02X}"),
            _ => char::from(byte).to_string(),
        })
        .collect()
}

#[test]
fn payloads_are_found_with_and_without_the_prefilter() {
    let mut inspector = inspector();
    let (mut checked, mut found) = (0, 0);
    for payload in PAYLOADS {
        for (everything, twice) in [(false, false), (true, false), (true, true)] {
            let mut value = encoded(payload, everything);
            if twice {
                value = encoded(&value, false);
            }
            for target in [
                format!("/a?x=1&q={value}"),
                format!("/a?{value}"),
                format!("/a/{value}/b"),
            ] {
                let referer = format!("https://a.example/?r={value}");
                for pairs in [
                    [
                        (&b":path"[..], target.as_bytes()),
                        (b"user-agent", b"Mozilla/5.0"),
                    ],
                    [(b":path", b"/"), (b"referer", referer.as_bytes())],
                    [(b":path", b"/"), (b"user-agent", payload.as_bytes())],
                ] {
                    let (slow, fast) = both(&mut inspector, &pairs);
                    assert_eq!(slow, fast, "{payload:?} in {pairs:?}");
                    checked += 1;
                    found += usize::from(!fast.is_empty());
                }
            }
        }
    }
    assert_eq!(checked, PAYLOADS.len() * 27);
    assert!(found > checked / 2, "{found} of {checked}");
}

#[test]
fn labelled_traffic_has_the_same_detections_with_and_without_the_prefilter() {
    let Some(folder) = corpora() else { return };
    let mut inspector = inspector();
    let mut checked = 0;
    for name in [
        "patt",
        "httpparams",
        "gotestwaf",
        "vulnbank",
        "sensitive-paths",
        "blazehttp-dev-benign",
        "referrer",
    ] {
        let path = folder.join(format!("{name}.ndjson.gz"));
        let mut reader = Reader::open(&path, None).unwrap_or_else(|error| panic!("{error}"));
        let mut record = Record::default();
        // Every seventh row: the whole would take minutes without optimisation.
        for row in 0.. {
            match reader.read(&mut record) {
                Some(Ok(())) => {}
                Some(Err(malformed)) => panic!("{malformed}"),
                None => break,
            }
            if row % 7 != 0 {
                continue;
            }
            let mut pairs: Vec<(&[u8], &[u8])> =
                vec![(b":path", record.target()), (b":method", record.method())];
            pairs.extend(record.headers());
            let (slow, fast) = both(&mut inspector, &pairs);
            assert_eq!(slow, fast, "{name}: {}", record.name());
            checked += 1;
        }
    }
    assert!(checked > 1_500, "{checked}");
}
