//! Undoes the escapes that a browser undoes after the value has reached the page: character
//! references of HTML (`&#x6a;`, `&lpar;`), escapes of JavaScript (`\u0061`, `\x61`, `\141`), and
//! NUL bytes, which old parsers skip.
//!
//! Gives out the text with, for each of its bytes, the offset in the value it came from. One pass,
//! linear; the two vectors are at most as long as the value.

/// A text without its escapes.
pub(super) struct Plain {
    pub text: Vec<u8>,
    /// For each byte of `text`, where it begins in the value.
    pub origin: Vec<usize>,
}

/// Named references that stand for a byte that matters to a parser.
const NAMED: &[(&str, u8)] = &[
    ("amp", b'&'),
    ("apos", b'\''),
    ("ast", b'*'),
    ("bsol", b'\\'),
    ("colon", b':'),
    ("comma", b','),
    ("commat", b'@'),
    ("dollar", b'$'),
    ("equals", b'='),
    ("excl", b'!'),
    ("grave", b'`'),
    ("gt", b'>'),
    ("lbrace", b'{'),
    ("lbrack", b'['),
    ("lcub", b'{'),
    ("lpar", b'('),
    ("lsqb", b'['),
    ("lt", b'<'),
    ("newline", b'\n'),
    ("num", b'#'),
    ("percnt", b'%'),
    ("period", b'.'),
    ("plus", b'+'),
    ("quest", b'?'),
    ("quot", b'"'),
    ("rbrace", b'}'),
    ("rbrack", b']'),
    ("rcub", b'}'),
    ("rpar", b')'),
    ("rsqb", b']'),
    ("semi", b';'),
    ("sol", b'/'),
    ("tab", b'\t'),
    ("vert", b'|'),
];

/// Longest run of digits in an escape; browsers allow leading zeros.
const DIGITS: usize = 10;

/// The text of `value` without escapes, or nothing if it has none.
pub(super) fn unescape(value: &[u8]) -> Option<Plain> {
    let mut plain: Option<Plain> = None;
    let mut at = 0;
    while at < value.len() {
        let rest = value.get(at..).unwrap_or(&[]);
        // `&amp;lt;` takes two rounds; the second is done on the spot.
        let escape = escape(rest);
        match escape {
            Some((byte, length)) => {
                let plain = plain.get_or_insert_with(|| Plain {
                    text: value.get(..at).unwrap_or(&[]).to_vec(),
                    origin: (0..at).collect(),
                });
                if let Some(byte) = byte {
                    plain.text.push(byte);
                    plain.origin.push(at);
                }
                at += length.max(1);
            }
            None => {
                if let (Some(plain), Some(byte)) = (&mut plain, rest.first()) {
                    plain.text.push(*byte);
                    plain.origin.push(at);
                }
                at += 1;
            }
        }
    }
    plain
}

/// The escape at the start of `rest`: its byte (none for one to drop) and its length.
pub(super) fn escape(rest: &[u8]) -> Option<(Option<u8>, usize)> {
    match rest.first()? {
        0 => Some((None, 1)),
        b'&' => {
            // `&amp;` in front of another reference is one more layer.
            let nested = if starts_with(rest, b"&amp;") { 4 } else { 0 };
            if nested > 0
                && let Some((byte, length)) = reference(rest.get(nested + 1..)?)
            {
                return Some((Some(byte), nested + 1 + length));
            }
            reference(rest.get(1..)?).map(|(byte, length)| (Some(byte), 1 + length))
        }
        b'\\' => match rest.get(1)? {
            b'x' => number(rest.get(2..)?, 16, 2, 2).map(|(byte, n)| (Some(byte), 2 + n)),
            b'u' if rest.get(2) == Some(&b'{') => {
                let (byte, n) = number(rest.get(3..)?, 16, 1, DIGITS)?;
                (rest.get(3 + n) == Some(&b'}')).then_some((Some(byte), 4 + n))
            }
            b'u' => number(rest.get(2..)?, 16, 4, 4).map(|(byte, n)| (Some(byte), 2 + n)),
            b'0'..=b'7' => number(rest.get(1..)?, 8, 2, 3).map(|(byte, n)| (Some(byte), 1 + n)),
            _ => None,
        },
        _ => None,
    }
}

/// A character reference behind its `&`.
fn reference(rest: &[u8]) -> Option<(u8, usize)> {
    if rest.first() == Some(&b'#') {
        let hex = matches!(rest.get(1), Some(b'x' | b'X'));
        let head = if hex { 2 } else { 1 };
        let (byte, n) = number(rest.get(head..)?, if hex { 16 } else { 10 }, 1, DIGITS)?;
        let end = usize::from(rest.get(head + n) == Some(&b';'));
        return Some((byte, head + n + end));
    }
    let length = rest
        .iter()
        .take(8)
        .take_while(|b| b.is_ascii_alphabetic())
        .count();
    let name = rest.get(..length)?;
    let (_, byte) = NAMED
        .iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))?;
    // Only the oldest names go without the semicolon.
    let closed = rest.get(length) == Some(&b';');
    (closed || matches!(name, b"lt" | b"gt" | b"quot" | b"LT" | b"GT" | b"QUOT"))
        .then_some((*byte, length + usize::from(closed)))
}

/// A number of `least` to `most` digits that stands for an ASCII byte.
fn number(rest: &[u8], radix: u32, least: usize, most: usize) -> Option<(u8, usize)> {
    let mut code = 0u32;
    let mut n = 0;
    while n < most
        && let Some(digit) = rest.get(n).and_then(|b| char::from(*b).to_digit(radix))
    {
        code = code.saturating_mul(radix).saturating_add(digit);
        n += 1;
    }
    if n < least {
        return None;
    }
    u8::try_from(code)
        .ok()
        .filter(|byte| byte.is_ascii() && *byte > 0)
        .map(|byte| (byte, n))
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"&#106;ava&#x73;cript&colon;", b"javascript:"),
            (b"&#0000106&#x000061", b"ja"),
            (b"&lt;b&gt", b"<b>"),
            (b"&amp;lpar;", b"("),
            (b"\\u0061lert\\x281\\u{29}", b"alert(1)"),
            (b"\\141lert", b"alert"),
            (b"scr\0ipt", b"script"),
            (b"java&Tab;script", b"java\tscript"),
        ];
        for (value, expected) in cases {
            let plain = unescape(value).unwrap();
            assert_eq!(plain.text, *expected, "{}", value.escape_ascii());
            assert_eq!(plain.text.len(), plain.origin.len());
            assert!(plain.origin.windows(2).all(|w| w[0] < w[1]));
        }
        for value in [
            &b"a=1&b=2"[..],
            b"C:\\xyz",
            b"&copy;",
            b"\\u12",
            b"AT&T",
            b"",
            b"&",
            b"\\",
        ] {
            assert!(unescape(value).is_none(), "{}", value.escape_ascii());
        }
        assert_eq!(cases.len(), 8);
    }
}
