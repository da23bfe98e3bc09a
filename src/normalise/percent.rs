//! Percent-decoding, repeated and bounded, and the UTF-8 tricks that hide behind it.

use super::Signs;
use crate::limits;

/// Appends `input`, decoded, to `out`. With `plus`, a `+` of the input is a space (queries).
///
/// Decodes `%XX` and `%uXXXX` up to [`limits::DECODE_ROUNDS`] times, then folds overlong UTF-8 and
/// full-width forms to the ASCII they stand for. A `%` that starts nothing valid stays. The output is never longer than the input.
pub fn decode(input: &[u8], plus: bool, out: &mut Vec<u8>, signs: &mut Signs) {
    let start = out.len();
    let mut seen = Seen::default();
    let mut at = 0;
    while let Some(&byte) = input.get(at) {
        match byte {
            b'%' => at += unescape(input, at, out, signs, &mut seen),
            b'+' if plus => {
                out.push(b' ');
                at += 1;
            }
            _ => {
                seen.note(byte);
                out.push(byte);
                at += 1;
            }
        }
    }
    for _ in 1..limits::DECODE_ROUNDS {
        if !seen.percent {
            break;
        }
        again(out, start, signs, &mut seen);
    }
    if seen.odd {
        fold(out, start, signs);
    }
}

/// What the decoded bytes hold that needs another step.
#[derive(Default)]
struct Seen {
    /// A `%` came out: another round may find something.
    percent: bool,
    /// NUL or a byte above 0x7f came out: folding may find something.
    odd: bool,
}

impl Seen {
    #[inline]
    fn note(&mut self, byte: u8) {
        self.odd |= byte == 0 || byte >= 0x80;
    }
}

/// Decodes the escape at `input[at]`, which is a `%`. Returns how many bytes it took.
fn unescape(
    input: &[u8],
    at: usize,
    out: &mut Vec<u8>,
    signs: &mut Signs,
    seen: &mut Seen,
) -> usize {
    if let Some(byte) = hex_pair(input, at + 1) {
        seen.percent |= byte == b'%' || may_end_an_escape(input, at, byte);
        if byte == b'\r' || byte == b'\n' {
            signs.add(Signs::LINE_BREAK);
        }
        seen.note(byte);
        out.push(byte);
        return 3;
    }
    if matches!(input.get(at + 1), Some(b'u' | b'U'))
        && let (Some(high), Some(low)) = (hex_pair(input, at + 2), hex_pair(input, at + 4))
    {
        signs.add(Signs::PERCENT_U);
        let point = u32::from(high) << 8 | u32::from(low);
        let mut utf8 = [0; 4];
        // A lone surrogate is no character; U+FFFD keeps the place of what was there.
        let text = char::from_u32(point)
            .unwrap_or('\u{fffd}')
            .encode_utf8(&mut utf8);
        for &byte in text.as_bytes() {
            seen.percent |= byte == b'%';
            seen.note(byte);
            out.push(byte);
        }
        return 6;
    }
    out.push(b'%');
    1
}

/// Whether a decoded byte could complete an escape whose `%` stood there literally (`%%32e`).
fn may_end_an_escape(input: &[u8], at: usize, byte: u8) -> bool {
    byte.is_ascii_hexdigit()
        && input
            .get(at.saturating_sub(4)..at)
            .is_some_and(|before| before.contains(&b'%'))
        || byte == b'u'
}

/// One more round, in place, over `out[start..]`.
fn again(out: &mut Vec<u8>, start: usize, signs: &mut Signs, seen: &mut Seen) {
    seen.percent = false;
    let mut read = start;
    let mut write = start;
    let mut decoded = Vec::new();
    while let Some(&byte) = out.get(read) {
        let taken = if byte == b'%' {
            decoded.clear();
            let taken = unescape(out, read, &mut decoded, signs, seen);
            if taken > 1 {
                signs.add(Signs::DOUBLE_PERCENT);
            }
            for &byte in &decoded {
                put(out, &mut write, byte);
            }
            taken
        } else {
            put(out, &mut write, byte);
            1
        };
        read += taken;
    }
    out.truncate(write);
}

/// Folds overlong UTF-8 and full-width forms to ASCII, in place, and notes NULs.
fn fold(out: &mut Vec<u8>, start: usize, signs: &mut Signs) {
    let mut read = start;
    let mut write = start;
    while let Some(rest) = out.get(read..).filter(|rest| !rest.is_empty()) {
        let (byte, taken) = match *rest {
            [0, ..] => {
                signs.add(Signs::NUL);
                (0, 1)
            }
            // Two bytes for seven bits: 0xC0 and 0xC1 never start valid UTF-8.
            [lead @ (0xc0 | 0xc1), next, ..] if next & 0xc0 == 0x80 => {
                signs.add(Signs::OVERLONG_UTF8);
                ((lead & 1) << 6 | next & 0x3f, 2)
            }
            // The same with a second byte that lenient decoders mask instead of checking.
            [0xc0, next, ..] if next < 0x80 => {
                signs.add(Signs::OVERLONG_UTF8);
                (next, 2)
            }
            [0xe0, high @ 0x80..=0x81, low, ..] if low & 0xc0 == 0x80 => {
                signs.add(Signs::OVERLONG_UTF8);
                ((high & 1) << 6 | low & 0x3f, 3)
            }
            [0xf0, 0x80, high @ 0x80..=0x81, low, ..] if low & 0xc0 == 0x80 => {
                signs.add(Signs::OVERLONG_UTF8);
                ((high & 1) << 6 | low & 0x3f, 4)
            }
            // U+FF01 to U+FF5E are the printable ASCII characters in full width.
            [0xef, high @ 0xbc..=0xbd, low @ 0x80..=0xbf, ..] => {
                let point = u32::from(high & 0x3f) << 6 | u32::from(low & 0x3f);
                match u8::try_from(point.wrapping_sub(0xf00)) {
                    Ok(offset @ 1..=0x5e) => {
                        signs.add(Signs::FULL_WIDTH);
                        (offset + 0x20, 3)
                    }
                    _ => (0xef, 1),
                }
            }
            [byte, ..] => (byte, 1),
            [] => break,
        };
        put(out, &mut write, byte);
        read += taken;
    }
    out.truncate(write);
}

#[inline]
fn put(out: &mut [u8], write: &mut usize, byte: u8) {
    if let Some(slot) = out.get_mut(*write) {
        *slot = byte;
        *write += 1;
    }
}

#[inline]
fn hex_pair(input: &[u8], at: usize) -> Option<u8> {
    let [high, low] = *input.get(at..)?.first_chunk::<2>()?;
    Some(hex_digit(high)? << 4 | hex_digit(low)?)
}

#[inline]
pub(crate) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The decoded form of `input`, for who does not care for the signs on the way.
pub fn decoded(input: &[u8], plus: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    decode(input, plus, &mut out, &mut Signs::default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &[u8], plus: bool) -> (Vec<u8>, Signs) {
        let (mut out, mut signs) = (b"kept".to_vec(), Signs::default());
        decode(input, plus, &mut out, &mut signs);
        assert!(out.len() - 4 <= input.len(), "grew: {input:?}");
        (out.split_off(4), signs)
    }

    #[test]
    fn decodes_what_servers_decode() {
        let none = Signs::default();
        let cases: &[(&[u8], &[u8], Signs)] = &[
            (b"plain", b"plain", none),
            (b"a%20b", b"a b", none),
            (b"100%", b"100%", none),
            (b"%zz%4", b"%zz%4", none),
            (b"%27%3C", b"'<", none),
            (b"%2527", b"'", Signs::DOUBLE_PERCENT),
            (b"%25252e", b".", Signs::DOUBLE_PERCENT),
            (b"%2525252e", b"%2e", Signs::DOUBLE_PERCENT),
            (b"%%32%65", b".", Signs::DOUBLE_PERCENT),
            (b"%25%32%65", b".", Signs::DOUBLE_PERCENT),
            (b"%u003cscript%u003E", b"<script>", Signs::PERCENT_U),
            (b"%uff1c", b"<", Signs::FULL_WIDTH),
            (b"%c0%ae%c0%af", b"./", Signs::OVERLONG_UTF8),
            (b"%c0%2f", b"/", Signs::OVERLONG_UTF8),
            (b"%e0%80%af", b"/", Signs::OVERLONG_UTF8),
            (b"%f0%80%80%af", b"/", Signs::OVERLONG_UTF8),
            (b"%c1%9c", b"\\", Signs::OVERLONG_UTF8),
            (b"%EF%BC%9Cb", b"<b", Signs::FULL_WIDTH),
            (b"ex%00ec", b"ex\0ec", Signs::NUL),
            (b"%0d%0aSet", b"\r\nSet", Signs::LINE_BREAK),
            (b"%c3%a9", "é".as_bytes(), none),
            (b"%ud800", "\u{fffd}".as_bytes(), Signs::PERCENT_U),
            (b"\xff%ff\x80", b"\xff\xff\x80", none),
        ];
        for (input, want, sign) in cases {
            let (got, signs) = decoded(input, false);
            assert_eq!(got, *want, "{}", String::from_utf8_lossy(input));
            assert!(
                signs.has(*sign),
                "{} {signs:?}",
                String::from_utf8_lossy(input)
            );
            if sign.is_empty() {
                assert!(
                    signs.is_empty(),
                    "{} {signs:?}",
                    String::from_utf8_lossy(input)
                );
            }
        }
    }

    #[test]
    fn plus_is_a_space_in_queries_only_and_only_once() {
        assert_eq!(decoded(b"a+b%2bc", true).0, b"a b+c");
        assert_eq!(decoded(b"a+b", false).0, b"a+b");
    }

    #[test]
    fn any_bytes_are_valid_input() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut input = Vec::new();
            for _ in 0..24 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                input.push(match state % 5 {
                    0 | 1 => b'%',
                    2 => b"0123456789abcdefuU"[(state >> 8) as usize % 18],
                    _ => (state >> 16) as u8,
                });
            }
            let _ = decoded(&input, true);
        }
    }
}
