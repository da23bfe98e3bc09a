//! Texts of a rule: wildcards and their escapes, and what the encoding modifiers make of them.
//!
//! ```text
//! written     parts                          folded to
//! foo*        "foo" *                        StartsWith "foo"
//! *a\*b*      * "a*b" *                      Contains "a*b"
//! C:\\Users   "C:\Users"                     Equals "C:\Users"
//! f?o         "f" ? "o"                      Wildcard
//! ```

use crate::ast::{Op, Part};

/// A text of a rule, taken apart as the Sigma specification says: `*` and `?` are wildcards; `\*`, `\?` and `\\`
/// stand for `*`, `?` and `\`; a backslash before anything else is a backslash.
pub fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let wildcard = match c {
            '*' => Some(Part::Any),
            '?' => Some(Part::One),
            _ => None,
        };
        if let Some(wildcard) = wildcard {
            push_literal(&mut parts, std::mem::take(&mut literal));
            push(&mut parts, wildcard);
            continue;
        }
        let c = match chars.peek() {
            Some(next @ ('*' | '?' | '\\')) if c == '\\' => {
                let next = *next;
                chars.next();
                next
            }
            _ => c,
        };
        literal.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    push_literal(&mut parts, literal);
    parts
}

fn push_literal(parts: &mut Vec<Part>, literal: Vec<u8>) {
    if !literal.is_empty() {
        push(parts, Part::Literal(literal));
    }
}

/// Adds a part; equal neighbours that mean the same as one become one.
pub fn push(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), part) {
        (Some(Part::Any), Part::Any) => {}
        (Some(Part::Literal(before)), Part::Literal(more)) => before.extend(more),
        (_, part) => parts.push(part),
    }
}

/// A literal text as parts.
pub fn literal(bytes: impl Into<Vec<u8>>) -> Vec<Part> {
    let mut parts = Vec::new();
    push_literal(&mut parts, bytes.into());
    parts
}

/// The text, if it holds no wildcard.
pub fn plain(parts: &[Part]) -> Option<&[u8]> {
    match parts {
        [] => Some(&[]),
        [Part::Literal(bytes)] => Some(bytes),
        _ => None,
    }
}

/// The simplest operation that says what the parts say about a whole value.
pub fn fold(mut parts: Vec<Part>) -> Op {
    use Part::{Any, Literal};
    match parts.as_mut_slice() {
        [] => Op::Equals(Vec::new()),
        [Any] => Op::Exists(true),
        [Literal(bytes)] => Op::Equals(std::mem::take(bytes)),
        [Any, Literal(bytes)] => Op::EndsWith(std::mem::take(bytes)),
        [Literal(bytes), Any] => Op::StartsWith(std::mem::take(bytes)),
        [Any, Literal(bytes), Any] => Op::Contains(std::mem::take(bytes)),
        _ => Op::Wildcard(parts),
    }
}

/// Spellings of the dash in front of an option.
const DASHES: [&str; 5] = ["-", "/", "\u{2013}", "\u{2014}", "\u{2015}"];

/// `windash`: every combination of dashes, for each `-` or `/` in front of a word. `None` if there are more than
/// `most` of them.
///
/// What counts is a `-` or `/` after the beginning or a non-word character and before a word character, so that
/// `mark-up` and `a/b` stay as they are.
pub fn windash(parts: &[Part], most: usize) -> Option<Vec<Vec<Part>>> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut variants: Vec<Vec<Part>> = vec![Vec::new()];
    for part in parts {
        let Part::Literal(bytes) = part else {
            variants
                .iter_mut()
                .for_each(|variant| push(variant, part.clone()));
            continue;
        };
        let text = String::from_utf8_lossy(bytes);
        let mut before = None;
        let mut chars = text.char_indices().peekable();
        let mut begun = 0;
        while let Some((at, c)) = chars.next() {
            let option = matches!(c, '-' | '/')
                && before.is_none_or(|before| !word(before))
                && chars.peek().is_some_and(|(_, next)| word(*next));
            before = Some(c);
            if !option {
                continue;
            }
            if variants.len() * DASHES.len() > most {
                return None;
            }
            let kept = text.get(begun..at).unwrap_or("");
            begun = at + c.len_utf8();
            let with = |variant: &Vec<Part>, dash: &str| {
                let mut variant = variant.clone();
                push_literal(&mut variant, [kept.as_bytes(), dash.as_bytes()].concat());
                variant
            };
            variants = variants
                .iter()
                .flat_map(|variant| DASHES.map(|dash| with(variant, dash)))
                .collect();
        }
        let rest = text.get(begun..).unwrap_or("").as_bytes();
        variants
            .iter_mut()
            .for_each(|variant| push_literal(variant, rest.to_vec()));
    }
    Some(variants)
}

/// The forms of UTF-16 that have a modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Utf16 {
    /// `wide`, `utf16le`
    Little,
    /// `utf16be`
    Big,
    /// `utf16`: little endian after a byte order mark.
    Marked,
}

/// `text` in UTF-16.
pub fn utf16(text: &str, form: Utf16) -> Vec<u8> {
    let mark = (form == Utf16::Marked).then_some(0xfeff);
    let units = mark.into_iter().chain(text.encode_utf16());
    units
        .flat_map(|unit| {
            if form == Utf16::Big {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        })
        .collect()
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// `base64`: the standard alphabet, padded.
pub fn base64(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = BASE64
                .get((bits >> (18 - 6 * place)) as usize & 63)
                .copied()
                .unwrap_or(b'=');
            out.push(if place <= chunk.len() { digit } else { b'=' });
        }
    }
    out
}

/// `base64offset`: what base64 of a longer text holds if `bytes` are in it, at each of the three offsets. Digits
/// that also depend on the neighbouring bytes are left off, so a text of one or two bytes may leave nothing.
pub fn base64_offsets(bytes: &[u8]) -> Vec<Vec<u8>> {
    let fragments = (0..3).map(|offset| {
        let encoded = base64(&[&vec![0; offset], bytes].concat());
        let start = [0, 2, 3].get(offset).copied().unwrap_or(0);
        let tail = [0, 3, 2]
            .get((bytes.len() + offset) % 3)
            .copied()
            .unwrap_or(0);
        encoded
            .get(start..encoded.len() - tail)
            .unwrap_or_default()
            .to_vec()
    });
    fragments.filter(|fragment| !fragment.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn lit(text: &str) -> Part {
        Part::Literal(text.into())
    }

    #[test]
    fn wildcards_and_escapes_follow_the_specification() {
        use Part::{Any, One};
        let cases: &[(&str, Vec<Part>)] = &[
            ("", vec![]),
            ("plain", vec![lit("plain")]),
            ("a*b?c", vec![lit("a"), Any, lit("b"), One, lit("c")]),
            ("**", vec![Any]),
            ("??", vec![One, One]),
            (r"\*", vec![lit("*")]),
            (r"\?", vec![lit("?")]),
            (r"\\", vec![lit(r"\")]),
            (r"\\*", vec![lit(r"\"), Any]),
            (r"\\\*", vec![lit(r"\*")]),
            (r"\\\\", vec![lit(r"\\")]),
            (r"C:\Windows\*", vec![lit(r"C:\Windows*")]),
            (r"C:\Windows\\*", vec![lit(r"C:\Windows\"), Any]),
            (r"\", vec![lit(r"\")]),
            (r"\d", vec![lit(r"\d")]),
            ("é*", vec![lit("é"), Any]),
        ];
        for (text, expected) in cases {
            assert_eq!(&parts(text), expected, "{text}");
        }
    }

    #[test]
    fn parts_fold_to_the_simplest_operation() {
        let cases = [
            ("", Op::Equals(vec![])),
            ("a", Op::Equals(b"a".to_vec())),
            ("a*", Op::StartsWith(b"a".to_vec())),
            ("*a", Op::EndsWith(b"a".to_vec())),
            ("*a*", Op::Contains(b"a".to_vec())),
            ("***", Op::Exists(true)),
            ("?", Op::Wildcard(vec![Part::One])),
            ("a*b", Op::Wildcard(vec![lit("a"), Part::Any, lit("b")])),
        ];
        for (text, expected) in cases {
            assert_eq!(fold(parts(text)), expected, "{text}");
        }
    }

    #[test]
    fn base64_agrees_with_published_vectors() {
        // RFC 4648, section 10.
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (text, expected) in cases {
            assert_eq!(base64(text.as_bytes()), expected.as_bytes(), "{text}");
        }
    }

    #[test]
    fn base64_offsets_are_found_wherever_the_text_stands() {
        let mut checked = 0;
        for needle in ["http://", "/bin/bash", "foo", "foobar!"] {
            let fragments = base64_offsets(needle.as_bytes());
            assert_eq!(fragments.len(), 3);
            for before in ["", "x", "xy", "xyz", "\u{fffd}"] {
                for after in ["", "a", "\u{0}", "\u{7f}\u{7f}", "zzz"] {
                    let encoded = base64(format!("{before}{needle}{after}").as_bytes());
                    let found = fragments
                        .iter()
                        .any(|one| encoded.windows(one.len()).any(|window| window == one));
                    assert!(found, "{before:?} {needle:?} {after:?}");
                    checked += 1;
                }
            }
        }
        assert_eq!(checked, 100);
    }

    #[test]
    fn utf16_comes_in_three_forms() {
        assert_eq!(utf16("aé", Utf16::Little), [b'a', 0, 0xe9, 0]);
        assert_eq!(utf16("aé", Utf16::Big), [0, b'a', 0, 0xe9]);
        assert_eq!(utf16("a", Utf16::Marked), [0xff, 0xfe, b'a', 0]);
        assert_eq!(utf16("😀", Utf16::Big), [0xd8, 0x3d, 0xde, 0x00]);
    }

    #[test]
    fn windash_varies_dashes_in_front_of_words_only() {
        let variants = |text: &str| windash(&parts(text), 1000).unwrap();
        assert_eq!(variants("mark-up a/b"), [vec![lit("mark-up a/b")]]);
        assert_eq!(variants("- -"), [vec![lit("- -")]]);
        let one = variants(" -f *");
        assert_eq!(one.len(), 5);
        for (variant, dash) in one.iter().zip(DASHES) {
            assert_eq!(variant, &[lit(&format!(" {dash}f ")), Part::Any]);
        }
        assert_eq!(variants("/a -b").len(), 25);
        assert!(windash(&parts("-a -b -c -d -e"), 1000).is_none());
    }
}
