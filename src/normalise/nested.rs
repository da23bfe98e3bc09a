//! Texts inside of a value: the Base64 of something, and the strings of a JSON document.
//!
//! An application that unwraps its parameter sees what is inside, so a rule has to as well:
//!
//! ```text
//! MScgb3IgJzEnPScx                       1' or '1'='1
//! {"host":"127.0.0.1;id","n":[1]}        host    127.0.0.1;id    n
//! ```
//!
//! Base64 has no mark of its own: any word is some. What tells is that something readable comes out.

use super::percent::hex_digit;
use super::{BRACKET, Classes, QUOTE};

/// Characters of the shortest Base64 that is looked into: nine bytes, of which a random value has seven
/// readable ones once in sixty times.
const BASE64_CHARS: usize = 12;

/// Bytes that no JSON document with a text in it is shorter than.
const SHORTEST: usize = 4;

/// Whether some value of a query may hold a text, by the length of the query and its classes of bytes alone.
#[inline]
pub fn may_nest_within(query: &[u8], classes: Classes) -> bool {
    query.len() >= BASE64_CHARS || classes & (QUOTE | BRACKET) != 0 && query.len() > SHORTEST
}

/// Whether `value` may hold a text, by its beginning and length alone.
#[inline]
fn may_nest(value: &[u8]) -> bool {
    match value.first() {
        Some(b'{' | b'[' | b'"' | b' ' | b'\t' | b'\n' | b'\r') => value.len() > SHORTEST,
        Some(&first) => value.len() >= BASE64_CHARS && base64_digit(first).is_some(),
        None => false,
    }
}

/// Whether `value` may be a JSON document: it begins and ends like one.
pub fn is_json(value: &[u8]) -> bool {
    matches!(
        value.trim_ascii(),
        [b'{', .., b'}'] | [b'[', .., b']'] | [b'"', .., b'"']
    )
}

/// Appends what `value` is the Base64 of to `out`. Either alphabet, padded or not; a space stands for the
/// `+` that it was in a query. Returns whether it was Base64 of mostly readable bytes; if not, `out` is as
/// it was. Most words are not, which is counted before anything is kept.
pub fn base64(value: &[u8], out: &mut Vec<u8>) -> bool {
    base64_chars(value).is_some_and(|chars| each_byte(chars, |byte| out.push(byte)))
}

/// Whether `value` holds a text: it is a JSON document or the Base64 of something readable.
pub fn nests(value: &[u8]) -> bool {
    may_nest(value) && (is_json(value) || base64_chars(value).is_some())
}

/// `value` without its padding, if it is the Base64 of mostly readable bytes.
fn base64_chars(value: &[u8]) -> Option<&[u8]> {
    let end = value.iter().rposition(|&byte| byte != b'=');
    let chars = value.get(..end.map_or(0, |end| end + 1)).unwrap_or(value);
    if chars.len() < BASE64_CHARS || value.len() - chars.len() > 2 {
        return None;
    }
    let mut readable = 0;
    let count = |byte: u8| {
        readable += usize::from(byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    };
    // A quarter may be anything, or one unreadable byte would hide the rest.
    let is_base64 = each_byte(chars, count);
    (is_base64 && readable * 4 >= chars.len() * 6 / 8 * 3).then_some(chars)
}

/// Shows `take` the bytes that `chars` are the Base64 of, up to the first character that is none of it. Returns whether
/// there is none.
#[inline]
fn each_byte(chars: &[u8], mut take: impl FnMut(u8)) -> bool {
    let (mut word, mut bits) = (0_u32, 0);
    for &char in chars {
        let Some(value) = base64_digit(char) else {
            return false;
        };
        word = word << 6 | value;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            take((word >> bits) as u8);
        }
    }
    true
}

/// What is no digit of Base64: a bit that no digit has.
pub const NO_DIGIT: u8 = 0x80;

/// The value of each digit of Base64 (RFC 4648, section 4).
pub const DIGITS: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < alphabet.len() {
        digits[alphabet[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

/// The same in either alphabet, and with a space for the `+` that it was in a query.
const EITHER_DIGITS: [u8; 256] = {
    let mut digits = DIGITS;
    digits[b'-' as usize] = DIGITS[b'+' as usize];
    digits[b' ' as usize] = DIGITS[b'+' as usize];
    digits[b'_' as usize] = DIGITS[b'/' as usize];
    digits
};

/// The value of a digit of Base64, in either alphabet.
#[inline]
pub fn base64_digit(char: u8) -> Option<u32> {
    let digit = EITHER_DIGITS
        .get(usize::from(char))
        .copied()
        .unwrap_or(NO_DIGIT);
    (digit != NO_DIGIT).then_some(u32::from(digit))
}

/// The string at the start of `json`, which begins with its quote: appended to `out` with its escapes
/// undone. Returns how many bytes it took. A string that nothing ends goes on to the end.
pub fn json_string(json: &[u8], out: &mut Vec<u8>) -> usize {
    let mut at = 1;
    while let Some(&byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => break,
            b'\\' => {
                let escape = json.get(at).copied().unwrap_or(b'\\');
                at += 1;
                match escape {
                    b'n' => out.push(b'\n'),
                    b'r' => out.push(b'\r'),
                    b't' => out.push(b'\t'),
                    b'b' => out.push(8),
                    b'f' => out.push(12),
                    b'u' => match four_digits(json.get(at..).unwrap_or_default()) {
                        Some(point) => {
                            let char = char::from_u32(point).unwrap_or('\u{fffd}');
                            out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                            at += 4;
                        }
                        None => out.push(b'u'),
                    },
                    other => out.push(other),
                }
            }
            _ => out.push(byte),
        }
    }
    at
}

fn four_digits(text: &[u8]) -> Option<u32> {
    let digits = text.first_chunk::<4>()?;
    digits.iter().try_fold(0, |number, &digit| {
        Some(number << 4 | u32::from(hex_digit(digit)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_what_becomes_readable() {
        let cases: &[(&[u8], Option<&[u8]>)] = &[
            (b"MScgb3IgJzEnPScx", Some(b"1' or '1'='1")),
            (b"O3doaWxlKDEpOw==", Some(b";while(1);")),
            (b"O3doaWxlKDEpOw", Some(b";while(1);")),
            // `+` and `/`, as they are, as URLs have them, and as a query's decoder left them.
            (b"YT4+Yj8/Yz4+ZA==", Some(b"a>>b??c>>d")),
            (b"YT4-Yj8_Yz4-ZA", Some(b"a>>b??c>>d")),
            (b"YT4 Yj8/Yz4 ZA", Some(b"a>>b??c>>d")),
            (b"/DxzY3JpcHQ+", Some(b"\xfc<script>")),
            (b"internationalisation", None),
            (b"550e8400-e29b-41d4-a716-446655440000", None),
            (b"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b", None),
            (b"1234567890123456", None),
            (b"MScgb3I", None),
            (b"MScgb3IgJzEnPScx===", None),
            (b"MScgb3Ig'JzEnPScx", None),
            (b"", None),
            (b"=", None),
        ];
        for (value, want) in cases {
            let mut out = b"kept".to_vec();
            let is_base64 = base64(value, &mut out);
            let got = out.split_off(4);
            let name = String::from_utf8_lossy(value);
            assert_eq!(is_base64.then_some(&got[..]), *want, "{name}");
            assert_eq!(out, b"kept");
            assert!(is_base64 || got.is_empty(), "{name}");
            assert!(!is_base64 || may_nest(value), "{name}");
        }
    }

    #[test]
    fn strings_of_json_are_read_to_their_end() {
        let cases: &[(&[u8], &[u8], usize)] = &[
            (b"\"a\"b", b"a", 3),
            (b"\"\"", b"", 2),
            (br#""a\"b\\c\/d","#, b"a\"b\\c/d", 12),
            (br#""\u0027\u003B\u0000\n""#, b"';\0\n", 22),
            (br#""\ud83d\u00"#, "\u{fffd}u00".as_bytes(), 11),
            (b"\"open", b"open", 5),
            (b"\"open\\", b"open\\", 7),
        ];
        for (json, want, taken) in cases {
            let mut out = b"kept".to_vec();
            let name = String::from_utf8_lossy(json);
            assert_eq!(json_string(json, &mut out), *taken, "{name}");
            assert_eq!(out.split_off(4), *want, "{name}");
            assert!(want.len() <= json.len());
        }
    }
}
