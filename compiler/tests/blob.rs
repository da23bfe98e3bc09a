//! Compiled rules are opened as they are or not at all, and soon.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Instant;

use portcullis::inspect::Inspector;
use portcullis::ruleset::{OpenError, RuleSet, layout, packed};
use portcullis_compiler::{Options, backend, parse};

/// Rules of all kinds, this many.
fn compiled(count: usize) -> Vec<u8> {
    let mut text = String::new();
    for number in 0..count {
        text += &format!(
            "title: Rule {number}\nid: 00000000-0000-4000-8000-{number:012}\nlogsource: {{category: webserver}}\ndetection:\n  \
             a:\n    cs-uri-stem|endswith: [/path{number}/x.php, '/other{number}.jsp']\n    cs-method: POST\n  \
             b:\n    cs-uri-query|contains: 'argument{number}='\n  c:\n    c-ip|cidr: 10.0.0.0/8\n  \
             condition: a and (b or not c)\n---\n"
        );
    }
    text += "title: Expression\nlogsource: {category: webserver}\ndetection: {a: {cs-uri|re: 'shell[0-9]+\\.(php|jsp)'}, condition: a}\n";
    let parsed = parse("rules.yml", text, &Options::default());
    assert_eq!(parsed.errors().count(), 0);
    backend::compile(&parsed.documents).unwrap().bytes
}

#[test]
fn a_flipped_bit_anywhere_and_a_cut_anywhere_are_refused() {
    let whole = compiled(60);
    RuleSet::open(whole.clone()).unwrap();
    let mut refused = 0;
    // Every byte of the header and of the table of sections, and bytes of each section.
    for at in (0..256).chain((256..whole.len()).step_by(whole.len() / 1500 + 1)) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        let error = RuleSet::open(flipped).err();
        assert!(error.is_some(), "byte {at}");
        refused += 1;
    }
    for len in (0..whole.len()).step_by(whole.len() / 300 + 1) {
        assert!(
            RuleSet::open(whole[..len].to_vec()).is_err(),
            "cut at {len}"
        );
        refused += 1;
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn two_changes_that_leave_a_plain_sum_as_it_was_are_refused() {
    let whole = compiled(20);
    let words: Vec<usize> = (1000..whole.len() - 16)
        .step_by(whole.len() / 200 + 1)
        .collect();
    for at in words {
        let mut swapped = whole.clone();
        swapped.swap(at, at + 8);
        if swapped != whole {
            assert!(
                matches!(RuleSet::open(swapped), Err(OpenError::Checksum)),
                "{at}"
            );
        }
    }
}

#[test]
fn another_version_is_named() {
    let mut other = compiled(1);
    other[4] = other[4].wrapping_add(1);
    assert!(matches!(
        RuleSet::open(other),
        Err(OpenError::Version { .. })
    ));
}

#[test]
#[ignore = "measures; needs --release"]
fn five_thousand_rules_open_in_an_instant() {
    let bytes = compiled(5000);
    let mut times = Vec::new();
    for _ in 0..9 {
        let copy = bytes.clone();
        let begun = Instant::now();
        let rules = RuleSet::open(copy).unwrap();
        let opened = begun.elapsed();
        let inspector = Inspector::new(rules);
        times.push((opened, begun.elapsed()));
        assert_eq!(inspector.rules().rule_count(), 5001);
    }
    times.sort();
    let (opened, ready) = times[times.len() / 2];
    eprintln!(
        "5,001 rules, {} bytes: opened in {opened:?}, an inspector ready in {ready:?}",
        bytes.len()
    );
    assert!(ready.as_millis() < 50, "{ready:?}");
}

/// What ships, and rules of all kinds.
fn to_pack() -> [Vec<u8>; 3] {
    let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/injection");
    let shipped = portcullis_compiler::load_dirs(&[&rules]).unwrap();
    let shipped = backend::compile(&shipped).unwrap().bytes;
    [compiled(0), compiled(60), shipped]
}

#[test]
fn what_is_packed_is_unpacked_to_the_byte() {
    for bytes in to_pack() {
        let packed = backend::pack(&bytes).unwrap();
        assert_eq!(packed::unpack(&packed).unwrap(), bytes);
        assert!(
            packed.len() < bytes.len(),
            "{} {}",
            packed.len(),
            bytes.len()
        );
        // Neither is taken for the other.
        assert_eq!(RuleSet::open(packed).err(), Some(OpenError::NotARuleset));
        assert_eq!(packed::unpack(&bytes), Err(OpenError::NotARuleset));
    }
}

#[test]
fn a_packed_ruleset_that_is_damaged_is_refused() {
    let [_, bytes, _] = to_pack();
    let whole = backend::pack(&bytes).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(packed::unpack(&flipped).is_err(), "byte {at}");
        assert!(packed::unpack(&whole[..at]).is_err(), "cut at {at}");
    }
    let mut other = whole;
    other[4] = other[4].wrapping_add(1);
    assert!(matches!(
        packed::unpack(&other),
        Err(OpenError::Version { .. })
    ));
}

#[test]
fn a_packed_ruleset_that_is_forged_is_refused() {
    let [_, bytes, _] = to_pack();
    let whole = backend::pack(&bytes).unwrap();
    let (mut refused, mut other) = (0, 0);
    for at in (0..whole.len() - layout::FRAME_BYTES).step_by(3) {
        let mut forged = whole[layout::FRAME_BYTES..].to_vec();
        forged[at] ^= 1 << (at % 8);
        // The frame is right again, what is in it is not.
        match packed::unpack(&layout::packed(forged)) {
            Err(error) => {
                assert_eq!(error, OpenError::Frame, "byte {at}");
                refused += 1;
            }
            Ok(unpacked) => {
                // Some bits pad a stream out to whole bytes.
                let is_refused = RuleSet::open(unpacked.clone()).is_err();
                assert!(unpacked == bytes || is_refused, "byte {at}");
                other += 1;
            }
        }
    }
    assert!(refused > 100 && other > 100, "{refused} {other}");
}
