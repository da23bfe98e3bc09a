//! What detectors whose cases are a file of their own are held to: each case at its step, mutations of them
//! without harm, and a cost that grows with the value's length alone.
//!
//! The file has one case a line: the expected step, then the value; `⟨0b⟩` is a byte.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::{Finding, HIGH, LOW, MEDIUM, Structure};

/// Mutated values that each detector is run on.
const ROUNDS: usize = 12_000;
/// Looks at bytes and tokens that one byte of a value may cost.
const LOOKS_A_BYTE: usize = 1000;

/// The cases of a file: line number, expected confidence, value.
fn cases(file: &str) -> Vec<(usize, u8, Vec<u8>)> {
    let lines = file.lines().enumerate();
    lines
        .filter(|(_, line)| !line.starts_with("//"))
        .map(|(number, line)| {
            let (step, value) = line.split_at(7);
            let confidence = match step.trim_end() {
                "high" => HIGH,
                "medium" => MEDIUM,
                "low" => LOW,
                "none" => 0,
                other => panic!("line {}: what is `{other}`?", number + 1),
            };
            (number + 1, confidence, bytes(value))
        })
        .collect()
}

/// Undoes `⟨0b⟩`.
fn bytes(value: &str) -> Vec<u8> {
    let mut parts = value.split('⟨');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_once('⟩').unwrap();
        bytes.push(u8::from_str_radix(byte, 16).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

/// What must hold for any finding in any value.
pub fn check_finding(kind: Structure, found: Finding, value: &[u8]) {
    let shown = value.escape_ascii();
    assert!(
        found.start < found.end && found.end <= value.len(),
        "{found:?} in {shown}"
    );
    assert!(
        [LOW, MEDIUM, HIGH].contains(&found.confidence),
        "{found:?} in {shown}"
    );
    assert!(opens_prefilter(kind, value), "the prefilter hides {shown}");
}

/// Whether a request with this value gets as far as the detector.
fn opens_prefilter(kind: Structure, value: &[u8]) -> bool {
    let gate = kind.gate();
    let lower = value.to_ascii_lowercase();
    crate::normalise::classes(value) & gate.classes != 0
        || gate
            .words
            .iter()
            .any(|word| memchr::memmem::find(&lower, word.as_bytes()).is_some())
}

/// Every case is found at its step; `ran` is how many cases there are of none, low, medium and high.
pub fn check_cases(file: &str, check: fn(&[u8]) -> u8, ran: [usize; 4]) {
    let mut wrong = Vec::new();
    let mut counted = [0; 4];
    for (line, expected, value) in cases(file) {
        let confidence = check(&value);
        counted[[0, LOW, MEDIUM, HIGH]
            .iter()
            .position(|step| *step == expected)
            .unwrap()] += 1;
        if confidence != expected {
            wrong.push(format!(
                "line {line}: {confidence} for {}",
                value.escape_ascii()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(counted, ran, "none, low, medium, high");
}

/// A generator of numbers, the same on each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }
}

/// Cases that were cut, joined and sprinkled with `pieces` do no harm, and enough are still found.
pub fn check_mutations(file: &str, check: fn(&[u8]) -> u8, pieces: &[u8]) {
    let cases = cases(file);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut found = 0;
    for round in 0..ROUNDS {
        let mut value = cases[round % cases.len()].2.clone();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(value.len() + 1);
            match numbers.below(4) {
                0 => value.truncate(at),
                1 => {
                    let other = &cases[numbers.below(cases.len())].2;
                    let from = numbers.below(other.len() + 1);
                    value.splice(at..at, other[from..].iter().copied());
                }
                2 => value.insert(at, pieces[numbers.below(pieces.len())]),
                _ => {
                    if let Some(byte) = value.get_mut(at) {
                        *byte = u8::try_from(numbers.below(256)).unwrap();
                    }
                }
            }
        }
        found += usize::from(check(&value) > 0);
    }
    assert!(found > ROUNDS / 6, "only {found} of {ROUNDS} still found");
}

/// Values made of one unit over and over cost their length; `looks` counts what a value costs.
pub fn check_cost(units: &[&str], looks: fn(&[u8]) -> usize) {
    let mut ran = 0;
    for unit in units {
        for prefix in ["", "'", "\"", "<a ", "' or ", "x=1 "] {
            let value = |length: usize| {
                let mut value = prefix.as_bytes().to_vec();
                while value.len() < length {
                    value.extend_from_slice(unit.as_bytes());
                }
                value
            };
            let (short, long) = (looks(&value(2 << 10)), looks(&value(8 << 10)));
            // Four times the length; a little more for where the pieces fall.
            assert!(
                long <= 5 * short + 1000,
                "{prefix}{unit}: {short} looks, then {long}"
            );
            assert!(
                long <= LOOKS_A_BYTE * (8 << 10),
                "{prefix}{unit}: {long} looks"
            );
            ran += 1;
        }
    }
    assert_eq!(ran, units.len() * 6);
}
