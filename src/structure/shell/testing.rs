//! What the tests of the detectors share: tables of values by step, the properties that hold for
//! any value, mutations that a seed repeats, and the time that a longer value takes.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use crate::structure::{Finding, Gate, HIGH, LOW, MEDIUM};

type Detector = fn(&[u8]) -> Option<Finding>;

/// Runs every value of a table and counts; fails with all the values that came out otherwise.
pub fn check_table(detector: Detector, table: &[(u8, &[&str])]) -> usize {
    let mut wrong = Vec::new();
    let mut ran = 0;
    for (step, values) in table {
        for value in *values {
            ran += 1;
            let found = detector(value.as_bytes()).map_or(0, |f| f.confidence);
            if found != *step {
                wrong.push(format!("{found} instead of {step}: {value:?}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {ran}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    ran
}

/// What holds for any value: a known step, a span inside the value, and an open gate.
pub fn check_any(detector: Detector, gate: &Gate, value: &[u8]) {
    let Some(found) = detector(value) else { return };
    assert!([LOW, MEDIUM, HIGH].contains(&found.confidence), "{found:?}");
    assert!(
        found.start <= found.end && found.end <= value.len(),
        "{found:?} of {value:?}"
    );
    assert!(
        gate.words.iter().all(|word| word.len() >= 4),
        "the scan finds no word of less than four bytes"
    );
    let lane = [b"=", value].concat();
    let open = crate::normalise::classes(&lane) & gate.classes != 0
        || gate.words.iter().any(|word| {
            lane.windows(word.len())
                .any(|w| w.eq_ignore_ascii_case(word.as_bytes()))
        });
    assert!(
        open,
        "the gate is shut on {:?}: {found:?}",
        value.escape_ascii().to_string()
    );
}

/// Mutates the values of a table `rounds` times: bytes changed, cut, doubled, joined with others.
pub fn mutations(table: &[(u8, &[&str])], rounds: usize, mut check: impl FnMut(&[u8])) {
    let values: Vec<&str> = table.iter().flat_map(|(_, v)| v.iter().copied()).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    const SPECIAL: &[u8] = b"'\"`;|&$(){}<>\\/.:%^~ \n\0@[]#?*=+-0x\xe2\x88\x95\xff";
    for round in 0..rounds {
        let mut value = values[round % values.len()].as_bytes().to_vec();
        for _ in 0..=next(4) {
            let at = next(value.len() + 1);
            match next(6) {
                0 => value.insert(at, SPECIAL[next(SPECIAL.len())]),
                1 if at < value.len() => value[at] = u8::try_from(next(256)).unwrap(),
                2 => value.truncate(at),
                3 if at < value.len() => drop(value.remove(at)),
                4 => value.extend_from_slice(values[next(values.len())].as_bytes()),
                _ => {
                    let tail = value[at..].to_vec();
                    value.extend(tail);
                }
            }
        }
        check(&value);
    }
}

/// Eight times the bytes must take about eight times as long: 64 would be quadratic. The clock is
/// the thread's own processor time, because other work on the machine stretches any other.
pub fn check_linear(detector: Detector, pieces: &[&str]) {
    let Some(_) = processor_time() else {
        println!(
            "skipped: no /proc/thread-self/schedstat to read this thread's processor time from"
        );
        return;
    };
    let time = |value: &[u8]| {
        let start = processor_time().unwrap();
        for runs in 1.. {
            black_box(detector(black_box(value)));
            // The kernel adds up every few milliseconds.
            let spent = processor_time().unwrap() - start;
            if spent > 12_000_000 {
                return spent / runs;
            }
        }
        unreachable!()
    };
    for piece in pieces {
        let long = piece.repeat(16_384 / piece.len());
        let (short, long) = (time(&long.as_bytes()[..2_048]), time(long.as_bytes()));
        assert!(
            long < short * 24,
            "{piece:?}: {short} ns for 2 KiB, {long} ns for 16 KiB"
        );
    }
}

/// Nanoseconds that this thread has run.
fn processor_time() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}
