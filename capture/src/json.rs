//! JSON as captures write it, read as bytes.
//!
//! JSON is text and captured requests are not, so a strict parser loses just the requests that
//! matter: log writers leave raw bytes in strings, Python writes them as lone surrogates, Envoy
//! as octal escapes that are no JSON at all. All three come out as the bytes they were.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A JSON string as bytes, for serde.
#[derive(Debug, Default)]
pub(crate) struct Bytes<'a>(pub(crate) Cow<'a, [u8]>);

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl<'de> Visitor<'de> for BytesVisitor {
            type Value = Bytes<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_bytes<E: de::Error>(
                self,
                bytes: &'de [u8],
            ) -> Result<Self::Value, E> {
                Ok(Bytes(Cow::Borrowed(bytes)))
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                let mut bytes = bytes.to_vec();
                restore_surrogates(&mut bytes);
                Ok(Bytes(Cow::Owned(bytes)))
            }
        }
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

/// Turns U+DC80 to U+DCFF, which Python writes for a byte that is not UTF-8, into that byte.
fn restore_surrogates(bytes: &mut Vec<u8>) {
    let mut from = 0;
    while let Some(at) =
        memchr::memchr(0xed, bytes.get(from..).unwrap_or_default()).map(|at| from + at)
    {
        if let Some(&[high @ (0xb2 | 0xb3), low @ 0x80..=0xbf]) = bytes.get(at + 1..at + 3) {
            let byte = ((high & 3) << 6) | (low & 0x3f);
            bytes.splice(at..at + 3, [byte]);
        }
        from = at + 1;
    }
}

/// A value that is neither an object nor an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar<'a> {
    /// A string, still escaped.
    Text(&'a [u8]),
    /// A number, `true`, `false` or `null`.
    Bare(&'a [u8]),
}

/// Why an object cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WalkError {
    EndsEarly,
    Syntax,
    TooDeep,
}

impl WalkError {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::EndsEarly => "the JSON object ends early",
            Self::Syntax => "not a JSON object",
            Self::TooDeep => "a JSON object nested too deep",
        }
    }
}

const MAX_DEPTH: usize = 16;

/// Visits every scalar of the object that `text` starts with, outside of arrays, with the (still
/// escaped) keys that lead to it. Returns what follows the object.
pub(crate) fn walk<'a>(
    text: &'a [u8],
    mut visit: impl FnMut(&[&'a [u8]], Scalar<'a>),
) -> Result<&'a [u8], WalkError> {
    let mut rest = expect(text, b'{')?;
    let mut keys: Vec<&[u8]> = Vec::with_capacity(4);
    let mut is_first = true;
    loop {
        rest = trim(rest);
        if let [b'}', after @ ..] = rest {
            if keys.pop().is_none() {
                return Ok(after);
            }
            rest = after;
            is_first = false;
            continue;
        }
        if !is_first {
            rest = expect(rest, b',')?;
        }
        is_first = false;
        let (key, after) = string(expect(rest, b'"')?)?;
        rest = trim(expect(after, b':')?);
        keys.push(key);
        match rest {
            [b'{', after @ ..] => {
                if keys.len() >= MAX_DEPTH {
                    return Err(WalkError::TooDeep);
                }
                rest = after;
                is_first = true;
                continue;
            }
            [b'[', ..] => rest = skip_array(rest)?,
            [b'"', after @ ..] => {
                let (value, after) = string(after)?;
                visit(&keys, Scalar::Text(value));
                rest = after;
            }
            _ => {
                let len = rest
                    .iter()
                    .take_while(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b))
                    .count();
                let (value, after) = rest.split_at(len);
                match after.first() {
                    None => return Err(WalkError::EndsEarly),
                    _ if value.is_empty() => return Err(WalkError::Syntax),
                    _ => visit(&keys, Scalar::Bare(value)),
                }
                rest = after;
            }
        }
        keys.pop();
    }
}

/// The keys of the object that `text` starts with, as far as `text` goes, arrays' too.
pub(crate) fn keys<'a>(text: &'a [u8], mut visit: impl FnMut(&'a [u8])) -> Option<()> {
    let mut rest = expect(text, b'{').ok()?;
    let mut depth = 1;
    while depth > 0 {
        let at = rest.iter().position(|b| b"\"{}[]".contains(b))?;
        let (token, after) = rest.get(at..)?.split_first()?;
        rest = after;
        match token {
            b'"' => {
                let (text, after) = string(rest).ok()?;
                if depth == 1 && trim(after).first() == Some(&b':') {
                    visit(text);
                }
                rest = after;
            }
            b'{' | b'[' => depth += 1,
            _ => depth -= 1,
        }
    }
    Some(())
}

fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii_start()
}

fn expect(text: &[u8], byte: u8) -> Result<&[u8], WalkError> {
    match trim(text) {
        [] => Err(WalkError::EndsEarly),
        [first, rest @ ..] if *first == byte => Ok(rest),
        _ => Err(WalkError::Syntax),
    }
}

/// Splits behind the opening quote: the string, still escaped, and what follows it.
fn string(text: &[u8]) -> Result<(&[u8], &[u8]), WalkError> {
    let len = string_len(text).ok_or(WalkError::EndsEarly)?;
    let (value, rest) = text.split_at(len);
    Ok((value, rest.get(1..).unwrap_or_default()))
}

/// The offset of the quote that ends a string whose opening quote is just before `text`.
fn string_len(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

fn skip_array(text: &[u8]) -> Result<&[u8], WalkError> {
    let mut rest = text;
    let mut depth = 0_usize;
    loop {
        let at = rest
            .iter()
            .position(|b| b"\"{}[]".contains(b))
            .ok_or(WalkError::EndsEarly)?;
        let (token, after) = rest
            .split_at(at)
            .1
            .split_first()
            .ok_or(WalkError::EndsEarly)?;
        rest = after;
        match token {
            b'"' => rest = string(rest)?.1,
            b'{' | b'[' => depth += 1,
            _ => depth -= 1,
        }
        if depth == 0 {
            return Ok(rest);
        }
    }
}

/// Appends a string's bytes, its escapes resolved. An escape that JSON does not know stays as it
/// is, except for the octal ones that Envoy writes in place of bytes that are not UTF-8.
pub(crate) fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let mut rest = text;
    let mut may_hold_surrogates = false;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain);
        let (byte, len) = match *escape {
            [_, c @ (b'"' | b'\\' | b'/'), ..] => (c, 2),
            [_, b'n', ..] => (b'\n', 2),
            [_, b't', ..] => (b'\t', 2),
            [_, b'r', ..] => (b'\r', 2),
            [_, b'b', ..] => (8, 2),
            [_, b'f', ..] => (12, 2),
            [_, a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                (((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'), 4)
            }
            [_, b'u', ..] if let Some((code, len)) = code_point(escape) => {
                push_code_point(code, out);
                may_hold_surrogates |= (0xdc80..=0xdcff).contains(&code);
                rest = escape.get(len..).unwrap_or_default();
                continue;
            }
            _ => (b'\\', 1),
        };
        out.push(byte);
        rest = escape.get(len..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    if may_hold_surrogates {
        let mut tail = out.split_off(start);
        restore_surrogates(&mut tail);
        out.append(&mut tail);
    }
}

/// Reads `\uXXXX`, or a pair of them, and how long it is.
fn code_point(escape: &[u8]) -> Option<(u32, usize)> {
    fn unit(escape: &[u8]) -> Option<u32> {
        let [b'\\', b'u', digits @ ..] = escape.get(..6)? else {
            return None;
        };
        digits
            .iter()
            .try_fold(0, |n, b| Some(n * 16 + char::from(*b).to_digit(16)?))
    }
    let high = unit(escape)?;
    if (0xd800..0xdc00).contains(&high)
        && let Some(low @ 0xdc00..=0xdfff) = escape.get(6..).and_then(unit)
    {
        return Some((0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00), 12));
    }
    Some((high, 6))
}

/// Appends a code point in UTF-8, lone surrogates included.
fn push_code_point(code: u32, out: &mut Vec<u8>) {
    match char::from_u32(code) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => out.extend([
            0xe0 | (code >> 12) as u8,
            0x80 | (code >> 6 & 0x3f) as u8,
            0x80 | (code & 0x3f) as u8,
        ]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn strings_come_out_as_the_bytes_they_were() {
        let cases: &[(&[u8], &[u8])] = &[
            (br"plain", b"plain"),
            (br#"\"\\\/\b\f\n\r\t"#, b"\"\\/\x08\x0c\n\r\t"),
            (br"\u0041\u00e9\u20ac\ud83d\ude00", "Aé€😀".as_bytes()),
            (br"\udcff\udc80", b"\xff\x80"),
            (br"\ud83d", b"\xed\xa0\xbd"),
            (br"\377\042\134", b"\xff\"\\"),
            (br"\\303", br"\303"),
            (br"\q\u12", br"\q\u12"),
            (b"\xff\xfe", b"\xff\xfe"),
            (b"a\\", b"a\\"),
        ];
        for (text, expected) in cases {
            let mut out = b"x".to_vec();
            unescape(text, &mut out);
            assert_eq!(&out[1..], *expected, "{}", text.escape_ascii());
        }
        let strict: &[(&[u8], &[u8])] = &[
            (br#""\udcff\udc80""#, b"\xff\x80"),
            (b"\"\xff\"", b"\xff"),
            (br#""a""#, b"a"),
        ];
        for (text, expected) in strict {
            let bytes: Bytes<'_> = serde_json::from_slice(text).unwrap();
            assert_eq!(&*bytes.0, *expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn scalars_are_visited_with_their_keys() {
        let text = br#" {"a":1,"b":{"c":"x\"}","d":[{"e":"]"},[2]],"f":{}},"g":null} rest"#;
        let mut seen = Vec::new();
        let rest = walk(text, |keys, value| seen.push((keys.concat(), value))).unwrap();
        assert_eq!(rest, b" rest");
        let expected = [
            (b"a".to_vec(), Scalar::Bare(b"1")),
            (b"bc".to_vec(), Scalar::Text(br#"x\"}"#)),
            (b"g".to_vec(), Scalar::Bare(b"null")),
        ];
        assert_eq!(seen, expected);
        let mut top = Vec::new();
        keys(text, |key| top.push(key));
        assert_eq!(top, [b"a", b"b", b"g"]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let cases: &[(&[u8], WalkError)] = &[
            (b"", WalkError::EndsEarly),
            (b"[]", WalkError::Syntax),
            (b"{", WalkError::EndsEarly),
            (br#"{"a":1"#, WalkError::EndsEarly),
            (br#"{"a":"#, WalkError::EndsEarly),
            (br#"{"a":"x"#, WalkError::EndsEarly),
            (br#"{"a":[1"#, WalkError::EndsEarly),
            (br#"{"a":,}"#, WalkError::Syntax),
            (br#"{"a" 1}"#, WalkError::Syntax),
            (br#"{"a":1 "b":2}"#, WalkError::Syntax),
            (br#"{a:1}"#, WalkError::Syntax),
        ];
        for (text, error) in cases {
            assert_eq!(
                walk(text, |_, _| {}),
                Err(*error),
                "{}",
                text.escape_ascii()
            );
        }
        let deep = br#"{"a":"#.repeat(MAX_DEPTH + 1);
        assert_eq!(walk(&deep, |_, _| {}), Err(WalkError::TooDeep));
    }
}
