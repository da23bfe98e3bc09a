//! Texts in charsets in which ASCII is not spelled as ASCII: UTF-16, UTF-32, UTF-7 and EBCDIC.
//!
//! Most applications take a body for UTF-8 whatever its media type says; some do as they are told, and then an attack in
//! UTF-16 or EBCDIC looks like nothing to who reads bytes. So what is declared is an offer: the body as it came is looked at
//! as well, unless its own marks say what it is.

use crate::normalise::nested::base64_digit;

/// A charset that is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    Utf16 { is_little: bool },
    Utf32 { is_little: bool },
    Utf7,
    Ebcdic,
}

/// How sure it is what a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// As it is.
    Plain,
    /// So, as its first bytes show.
    In(Charset),
    /// Perhaps so, as its media type says.
    PerhapsIn(Charset),
}

/// What this body is written in, whose media type names this charset.
pub fn written(declared: Option<&[u8]>, body: &[u8]) -> Written {
    match shown(body) {
        Some(charset) => Written::In(charset),
        None => {
            let declared = declared.and_then(named);
            // Of what XML says of itself only what can hide something: many a writer says UTF-16 and writes UTF-8.
            let prolog = encoding_of_xml(body).and_then(named);
            match declared.or(prolog.filter(|charset| *charset == Charset::Utf7)) {
                Some(charset) => Written::PerhapsIn(charset),
                None => Written::Plain,
            }
        }
    }
}

/// `<?xml version="1.0" encoding="UTF-7"?>`
fn encoding_of_xml(body: &[u8]) -> Option<&[u8]> {
    const PROLOG: usize = 128;
    let prolog = body.get(..PROLOG).unwrap_or(body);
    let rest = prolog.strip_prefix(b"<?xml")?;
    let at = memchr::memmem::find(rest, b"encoding")?;
    let value = rest.get(at + 8..)?.trim_ascii_start().strip_prefix(b"=")?;
    let (quote, value) = value.trim_ascii_start().split_first()?;
    value.get(..memchr::memchr(*quote, value)?)
}

/// What a mark, or the NULs among the first letters, tell.
fn shown(body: &[u8]) -> Option<Charset> {
    let utf16 = |is_little| Some(Charset::Utf16 { is_little });
    let utf32 = |is_little| Some(Charset::Utf32 { is_little });
    let is_text = |byte: u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    match *body.first_chunk::<4>()? {
        [0xff, 0xfe, 0, 0] => utf32(true),
        [0, 0, 0xfe, 0xff] => utf32(false),
        [0xff, 0xfe, ..] => utf16(true),
        [0xfe, 0xff, ..] => utf16(false),
        [a, 0, 0, 0] if is_text(a) => utf32(true),
        [0, 0, 0, a] if is_text(a) => utf32(false),
        [a, 0, b, 0] if is_text(a) && is_text(b) => utf16(true),
        [0, a, 0, b] if is_text(a) && is_text(b) => utf16(false),
        _ => None,
    }
}

fn named(name: &[u8]) -> Option<Charset> {
    // `UTF-16LE`, `utf_16_le`, `utf16` are one name.
    let plain: Vec<u8> = name
        .iter()
        .filter(|byte| byte.is_ascii_alphanumeric())
        .map(u8::to_ascii_lowercase)
        .collect();
    let is_little = plain.ends_with(b"le");
    match plain.as_slice() {
        name if name.starts_with(b"utf16") || name.starts_with(b"ucs2") => {
            Some(Charset::Utf16 { is_little })
        }
        name if name.starts_with(b"utf32") => Some(Charset::Utf32 { is_little }),
        b"utf7" | b"unicode11utf7" => Some(Charset::Utf7),
        b"ibm037" | b"cp037" | b"ibm500" | b"cp500" | b"ibm1047" | b"cp1047" | b"ibm01140"
        | b"ibm1140" | b"cp1140" | b"ebcdiccpus" => Some(Charset::Ebcdic),
        _ => None,
    }
}

impl Charset {
    /// The same text in UTF-8. What is no character becomes U+FFFD, or a space in EBCDIC.
    pub fn decode(self, body: &[u8]) -> Vec<u8> {
        match self {
            Charset::Utf16 { is_little } => {
                let (units, _) = body.as_chunks::<2>();
                let units = units.iter().map(|unit| match is_little {
                    true => u16::from_le_bytes(*unit),
                    false => u16::from_be_bytes(*unit),
                });
                let chars = char::decode_utf16(units);
                text(chars.map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)))
            }
            Charset::Utf32 { is_little } => {
                let (units, _) = body.as_chunks::<4>();
                text(units.iter().map(|unit| {
                    let point = match is_little {
                        true => u32::from_le_bytes(*unit),
                        false => u32::from_be_bytes(*unit),
                    };
                    char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER)
                }))
            }
            Charset::Utf7 => utf7(body),
            Charset::Ebcdic => body.iter().map(|byte| ebcdic(*byte)).collect(),
        }
    }
}

fn text(chars: impl Iterator<Item = char>) -> Vec<u8> {
    let mut out = Vec::new();
    for char in chars.filter(|char| *char != '\u{feff}') {
        out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out
}

/// `+ADw-script+AD4-` is `<script>`: between `+` and what is no digit of Base64 stands the Base64 of UTF-16.
fn utf7(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'+' {
            out.push(first);
            continue;
        }
        let (mut word, mut bits, mut units) = (0_u32, 0, Vec::new());
        while let Some((&byte, after)) = rest.split_first() {
            let Some(digit) = base64_digit(byte)
                .filter(|_| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
            else {
                break;
            };
            rest = after;
            word = word << 6 | digit;
            bits += 6;
            if bits >= 16 {
                bits -= 16;
                units.push((word >> bits) as u16);
            }
        }
        if units.is_empty() {
            out.push(b'+');
        }
        rest = rest.strip_prefix(b"-").unwrap_or(rest);
        let chars = char::decode_utf16(units);
        out.extend(text(
            chars.map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)),
        ));
    }
    out
}

/// The ASCII of a byte of code page 37; its relatives differ in a few signs, which are taken together.
fn ebcdic(byte: u8) -> u8 {
    let letter = |first: u8, from: u8| first + (byte - from);
    match byte {
        0x81..=0x89 => letter(b'a', 0x81),
        0x91..=0x99 => letter(b'j', 0x91),
        0xa2..=0xa9 => letter(b's', 0xa2),
        0xc1..=0xc9 => letter(b'A', 0xc1),
        0xd1..=0xd9 => letter(b'J', 0xd1),
        0xe2..=0xe9 => letter(b'S', 0xe2),
        0xf0..=0xf9 => letter(b'0', 0xf0),
        0x05 => b'\t',
        0x0d => b'\r',
        0x15 | 0x25 => b'\n',
        0x4b => b'.',
        0x4c => b'<',
        0x4d => b'(',
        0x4e => b'+',
        0x4f | 0xbb => b'|',
        0x50 => b'&',
        0x5a => b'!',
        0x5b => b'$',
        0x5c => b'*',
        0x5d => b')',
        0x5e => b';',
        0x60 => b'-',
        0x61 => b'/',
        0x6a => b'|',
        0x6b => b',',
        0x6c => b'%',
        0x6d => b'_',
        0x6e => b'>',
        0x6f => b'?',
        0x79 => b'`',
        0x7a => b':',
        0x7b => b'#',
        0x7c => b'@',
        0x7d => b'\'',
        0x7e => b'=',
        0x7f => b'"',
        0xa1 => b'~',
        0xb0 | 0x5f => b'^',
        0xad | 0xba => b'[',
        0xbd => b']',
        0xc0 => b'{',
        0xd0 => b'}',
        0xe0 => b'\\',
        _ => b' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_names_tell_the_charset() {
        let (little, big) = (
            Charset::Utf16 { is_little: true },
            Charset::Utf16 { is_little: false },
        );
        let wide = Charset::Utf32 { is_little: true };
        type Case = (Option<&'static [u8]>, &'static [u8], Written);
        let cases: [Case; 12] = [
            (None, b"{\"a\"", Written::Plain),
            (Some(b"utf-8"), b"{\"a\"", Written::Plain),
            (Some(b"iso-8859-1"), b"{\"a\"", Written::Plain),
            (None, b"{\0\"\0", Written::In(little)),
            (None, b"\0{\0\"", Written::In(big)),
            (None, b"\xff\xfe{\0", Written::In(little)),
            (Some(b"ibm037"), b"\xfe\xff\0{", Written::In(big)),
            (None, b"{\0\0\0", Written::In(wide)),
            (Some(b"UTF-16LE"), b"id=1", Written::PerhapsIn(little)),
            (Some(b"utf_16"), b"id=1", Written::PerhapsIn(big)),
            (
                Some(b"IBM037"),
                b"\x89\x84",
                Written::PerhapsIn(Charset::Ebcdic),
            ),
            (None, b"{\0", Written::Plain),
        ];
        for (declared, body, want) in cases {
            assert_eq!(written(declared, body), want, "{declared:?} {body:?}");
        }
    }

    #[test]
    fn utf7_is_undone_where_xml_says_so() {
        let body = b"<?xml version='1.0' encoding = 'UTF-7'?>+ADwAIQ-ENTITY x SYSTEM +ACI-a+- b+//";
        assert_eq!(written(None, body), Written::PerhapsIn(Charset::Utf7));
        let want = b"<?xml version='1.0' encoding = 'UTF-7'?><!ENTITY x SYSTEM \"a+ b+";
        assert_eq!(Charset::Utf7.decode(body), want);
        let utf16 = b"<?xml version='1.0' encoding='utf-16'?><a/>";
        assert_eq!(written(None, utf16), Written::Plain);
    }

    #[test]
    fn texts_are_decoded() {
        let wide: Vec<u8> = "\u{feff}'é\u{1f600}"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let little = Charset::Utf16 { is_little: true };
        assert_eq!(little.decode(&wide), "'é\u{1f600}".as_bytes());
        // A half of a pair, and half a unit.
        assert_eq!(little.decode(b"\x3d\xd8a"), "\u{fffd}".as_bytes());
        let wider = Charset::Utf32 { is_little: false };
        assert_eq!(wider.decode(b"\0\0\0'\0\x11\0\0"), "'\u{fffd}".as_bytes());
        // `id='1' or 1=1--`, as an ASP.NET page reads it with charset ibm037.
        let text = b"\x89\x84\x7e\x7d\xf1\x7d\x40\x96\x99\x40\xf1\x7e\xf1\x60\x60";
        assert_eq!(Charset::Ebcdic.decode(text), b"id='1' or 1=1--");
    }
}
