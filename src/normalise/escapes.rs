//! Escapes of the languages that a payload is written in: HTML entities, `\u0041`, `\x41`; NULs, which some programs
//! skip; and comments between the name of a function and its bracket.
//!
//! A text that holds them gets one more view in which they are undone, so that a rule for
//! `javascript:` need not know `&#106;avascript&colon;`.

use super::percent::hex_digit;
use super::{AMPERSAND, BACKSLASH, CONTROL, MARK, classes};

/// Whether [`unescape`] may change `text`.
#[inline]
pub fn needs_unescaping(text: &[u8]) -> bool {
    // One pass for most texts, in place of one for each byte that is looked for.
    classes(text) & (BACKSLASH | AMPERSAND | CONTROL | MARK) != 0 && holds_escape(text)
}

fn holds_escape(text: &[u8]) -> bool {
    // Where the last entity can end.
    let last = memchr::memrchr(b';', text).unwrap_or(0);
    let has_escape = memchr::memchr3_iter(b'\\', b'&', 0, text).any(|at| {
        match (text.get(at), text.get(at + 1)) {
            (Some(0), _) => true,
            (Some(b'\\'), Some(b'u' | b'x' | b'U' | b'X')) | (Some(b'&'), Some(b'#')) => true,
            (Some(b'&'), Some(letter)) => letter.is_ascii_alphabetic() && at < last,
            _ => false,
        }
    });
    has_escape || memchr::memchr(b'*', text).is_some_and(|_| has_comment_before_bracket(text))
}

/// Whether a comment stands where it hides that a function is called: `system/*x*/('id')`.
fn has_comment_before_bracket(text: &[u8]) -> bool {
    memchr::memmem::find_iter(text, b"*/").any(|end| comment_before_bracket(text, end).is_some())
}

/// Bytes of a comment between a name and its bracket. It says nothing to anybody.
const COMMENT: usize = 64;

/// Where the comment begins that ends at `end`, if it stands between a name and a bracket.
fn comment_before_bracket(text: &[u8], end: usize) -> Option<usize> {
    let behind = text.get(end + 2..)?.trim_ascii_start();
    if behind.first() != Some(&b'(') {
        return None;
    }
    let before = text.get(end.saturating_sub(COMMENT)..end)?;
    // A searcher for so few bytes would cost more to make than to use.
    let at = before.windows(2).rposition(|two| two == b"/*")?;
    let start = end - before.len() + at;
    let name = text.get(..start)?.trim_ascii_end().last()?;
    (name.is_ascii_alphanumeric() || *name == b'_').then_some(start)
}

/// Appends `text` with its escapes undone to `out`. Returns whether anything was undone.
pub fn unescape(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut changed = false;
    let mut rest = text;
    while let Some((&first, more)) = rest.split_first() {
        let undone = match first {
            0 => Some((0, 0)),
            b'&' => entity(more),
            b'\\' => backslash(more),
            // Nothing in its place, as a NUL leaves nothing.
            b'/' if more.first() == Some(&b'*') => {
                let at = text.len() - rest.len();
                let comment = rest.get(..COMMENT).unwrap_or(rest);
                let end = memchr::memmem::find(comment, b"*/").map(|end| at + end);
                end.filter(|end| comment_before_bracket(text, *end) == Some(at))
                    .map(|end| (0, end + 1 - at))
            }
            _ => None,
        };
        rest = match undone {
            Some((point, taken)) => {
                changed = true;
                push_char(point, out);
                more.get(taken..).unwrap_or_default()
            }
            None => {
                out.push(first);
                more
            }
        };
    }
    changed
}

fn push_char(point: u32, out: &mut Vec<u8>) {
    let mut utf8 = [0; 4];
    match char::from_u32(point) {
        Some('\0') | None => {}
        Some(char) => out.extend_from_slice(char.encode_utf8(&mut utf8).as_bytes()),
    }
}

/// The characters that payloads hide behind named entities. Source: WHATWG HTML, named character
/// references.
const ENTITIES: [(&[u8], u8); 28] = [
    (b"lt", b'<'),
    (b"gt", b'>'),
    (b"quot", b'"'),
    (b"apos", b'\''),
    (b"amp", b'&'),
    (b"colon", b':'),
    (b"semi", b';'),
    (b"lpar", b'('),
    (b"rpar", b')'),
    (b"sol", b'/'),
    (b"bsol", b'\\'),
    (b"Tab", b'\t'),
    (b"NewLine", b'\n'),
    (b"equals", b'='),
    (b"excl", b'!'),
    (b"dollar", b'$'),
    (b"lcub", b'{'),
    (b"rcub", b'}'),
    (b"lsqb", b'['),
    (b"rsqb", b']'),
    (b"num", b'#'),
    (b"percnt", b'%'),
    (b"period", b'.'),
    (b"comma", b','),
    (b"plus", b'+'),
    (b"grave", b'`'),
    (b"lowbar", b'_'),
    (b"vert", b'|'),
];

/// The character of the entity whose text follows a `&`, and the bytes that it takes.
fn entity(after: &[u8]) -> Option<(u32, usize)> {
    if let Some(digits) = after.strip_prefix(b"#") {
        let (radix, prefix) = match digits.first() {
            Some(b'x' | b'X') => (16, 2),
            _ => (10, 1),
        };
        return number(after, prefix, radix, 1, 8).map(|(point, end)| {
            let semicolon = usize::from(after.get(end) == Some(&b';'));
            (point, end + semicolon)
        });
    }
    let name_len = after.iter().take(9).position(|&byte| byte == b';')?;
    let name = after.get(..name_len)?;
    ENTITIES
        .iter()
        .find(|(entity, _)| *entity == name)
        .map(|(_, byte)| (u32::from(*byte), name_len + 1))
}

/// The character of the escape whose text follows a backslash, and the bytes that it takes.
fn backslash(after: &[u8]) -> Option<(u32, usize)> {
    match after.first()? {
        b'x' | b'X' => number(after, 1, 16, 2, 2),
        b'u' | b'U' if after.get(1) == Some(&b'{') => {
            let (point, end) = number(after, 2, 16, 1, 6)?;
            (after.get(end) == Some(&b'}')).then_some((point, end + 1))
        }
        b'u' | b'U' => number(after, 1, 16, 4, 4),
        _ => None,
    }
}

/// Reads `min` to `max` digits from `at`. Returns the number and where it ends.
fn number(text: &[u8], at: usize, radix: u32, min: usize, max: usize) -> Option<(u32, usize)> {
    let mut value = 0_u32;
    let mut digits = 0;
    for &byte in text.get(at..)?.iter().take(max) {
        let Some(digit) = hex_digit(byte)
            .map(u32::from)
            .filter(|digit| *digit < radix)
        else {
            break;
        };
        value = value.saturating_mul(radix).saturating_add(digit);
        digits += 1;
    }
    (digits >= min).then_some((value, at + digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undoes_entities_and_script_escapes() {
        let cases: &[(&[u8], &[u8])] = &[
            (b"&lt;script&gt;", b"<script>"),
            (b"&#60;&#x3c;&#X3C&#60x", b"<<<<x"),
            (b"&#0000106avascript&colon;", b"javascript:"),
            (b"java&Tab;script", b"java\tscript"),
            (b"\\u003cimg\\x3e", b"<img>"),
            (b"\\u{3c}b", b"<b"),
            (b"ex\0ec", b"exec"),
            (b"system/**/('id')", b"system('id')"),
            (b"a /*b*/ (c)/*/(d) e/*f*/g", b"a  (c)/*/(d) e/*f*/g"),
            (b"/a/*/b/*/(c)", b"/a/*/b/*/(c)"),
            (b"a&b;c&unknown;", b"a&b;c&unknown;"),
            (b"C:\\users\\x", b"C:\\users\\x"),
            (b"&#;&#x;\\u12", b"&#;&#x;\\u12"),
            (b"&#0;x&#99999999;", b"x"),
        ];
        for (text, want) in cases {
            let mut out = Vec::new();
            let changed = unescape(text, &mut out);
            assert_eq!(out, *want, "{}", String::from_utf8_lossy(text));
            assert_eq!(changed, out != *text);
            assert!(out.len() <= text.len());
            assert!(
                !changed || needs_unescaping(text),
                "{}",
                String::from_utf8_lossy(text)
            );
        }
    }
}
