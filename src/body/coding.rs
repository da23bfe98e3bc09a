//! Compressed bodies, inflated.
//!
//! The output has a hard end, so a bomb costs no more than an ordinary body: at a thousand bytes out for one byte in, which
//! is the most that deflate can do, [`limits::INFLATED_BYTES`] are there after some 64 bytes of it. A bound on the ratio itself
//! would be worth nothing beside that, and would let an attacker hide behind a run of blanks.

use super::inflate::{Ending, inflate};
use crate::limits;

/// Codings of one body, the outermost first, that are undone.
const LAYERS: usize = 2;

/// What became of a compressed body.
#[derive(Debug, PartialEq, Eq)]
pub struct Inflated {
    pub bytes: Vec<u8>,
    /// Whether there is more than the limit.
    pub is_cut: bool,
}

/// Whether there is a coding to undo at all.
pub fn is_coded(codings: &[u8]) -> bool {
    names(codings).next().is_some()
}

/// Whether each coding is one that is undone.
pub fn is_known(codings: &[u8]) -> bool {
    let is_known = |name: &[u8]| Coding::of(name).is_some();
    names(codings).count() <= LAYERS && names(codings).all(is_known)
}

/// The body without these codings; none if it is not what they say. Of one that breaks off there is what came before.
pub fn inflated(codings: &[u8], body: &[u8]) -> Option<Inflated> {
    let names: Vec<&[u8]> = names(codings).collect();
    if names.len() > LAYERS {
        return None;
    }
    let mut inflated: Option<Inflated> = None;
    // They are listed in the order in which they were applied.
    for name in names.iter().rev() {
        let coding = Coding::of(name)?;
        let (bytes, was_cut) = match &inflated {
            Some(inflated) => (inflated.bytes.as_slice(), inflated.is_cut),
            None => (body, false),
        };
        let mut next = coding.undo(bytes)?;
        next.is_cut |= was_cut;
        inflated = Some(next);
    }
    inflated
}

/// The names of codings in a `content-encoding`.
fn names(codings: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let names = codings.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity"))
}

#[derive(Clone, Copy)]
enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    fn of(name: &[u8]) -> Option<Coding> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match () {
            () if is(b"gzip") || is(b"x-gzip") => Some(Coding::Gzip),
            () if is(b"deflate") => Some(Coding::Deflate),
            () => None,
        }
    }

    fn undo(self, body: &[u8]) -> Option<Inflated> {
        match self {
            Coding::Gzip => gunzip(body),
            // Half of the world sends it without the frame that the standard wants around it.
            Coding::Deflate => {
                let mut bytes = Vec::new();
                let content = zlib_content(body).unwrap_or(body);
                match inflate(content, limits::INFLATED_BYTES, &mut bytes).0 {
                    Ending::Broken if bytes.is_empty() => None,
                    ending => Some(Inflated {
                        bytes,
                        is_cut: ending == Ending::Cut,
                    }),
                }
            }
        }
    }
}

/// What stands in the frame of zlib.
fn zlib_content(body: &[u8]) -> Option<&[u8]> {
    let &[method, flags, ref content @ ..] = body else {
        return None;
    };
    let check = u16::from_be_bytes([method, flags]);
    (method & 15 == 8 && check % 31 == 0 && flags & 32 == 0).then_some(content)
}

/// All members of a gzip file, one after the other.
fn gunzip(mut body: &[u8]) -> Option<Inflated> {
    let mut bytes = Vec::new();
    let (mut is_any, mut is_cut) = (false, false);
    while let Some(content) = gzip_content(body) {
        let (ending, rest) = inflate(content, limits::INFLATED_BYTES, &mut bytes);
        is_any |= ending != Ending::Broken;
        is_cut = ending == Ending::Cut;
        // The sum and the length behind the content.
        match rest.get(8..) {
            Some(rest) if ending == Ending::Whole => body = rest,
            _ => break,
        }
    }
    (is_any || !bytes.is_empty()).then_some(Inflated { bytes, is_cut })
}

/// What stands behind the head of a member.
fn gzip_content(member: &[u8]) -> Option<&[u8]> {
    const HEAD: usize = 10;
    let (head, mut rest) = member.split_at_checked(HEAD)?;
    let &[0x1f, 0x8b, 8, flags, ..] = head else {
        return None;
    };
    if flags & 4 != 0 {
        let (len, extra) = rest.split_first_chunk::<2>()?;
        rest = extra.get(usize::from(u16::from_le_bytes(*len))..)?;
    }
    // A name, a comment.
    for flag in [8, 16] {
        if flags & flag != 0 {
            let end = memchr::memchr(0, rest)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & 2 != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

    const TEXT: &[u8] = b"id=1' or '1'='1";

    fn gzip(flags: u8, further: &[u8], text: &[u8]) -> Vec<u8> {
        let head = [0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
        [&head, further, &compress_to_vec(text, 6), &[0; 8]].concat()
    }

    #[test]
    fn what_clients_send_is_inflated() {
        let text = |codings: &[u8], body: &[u8]| inflated(codings, body).map(|done| done.bytes);
        let plain = gzip(0, b"", TEXT);
        let bodies: [(&[u8], Vec<u8>); 7] = [
            (b"gzip", plain.clone()),
            (
                b" X-GZIP ",
                gzip(0b11110, b"\x02\0abname\0comment\0hc", TEXT),
            ),
            (b"deflate", compress_to_vec_zlib(TEXT, 6)),
            (b"deflate", compress_to_vec(TEXT, 6)),
            (b"identity, gzip", plain.clone()),
            (
                b"deflate, gzip",
                gzip(0, b"", &compress_to_vec_zlib(TEXT, 6)),
            ),
            (
                b"gzip",
                [gzip(0, b"", &TEXT[..5]), gzip(0, b"", &TEXT[5..])].concat(),
            ),
        ];
        for (codings, body) in &bodies {
            let name = String::from_utf8_lossy(codings);
            assert!(is_coded(codings) && is_known(codings), "{name}");
            assert_eq!(text(codings, body).as_deref(), Some(TEXT), "{name}");
            // Wherever it breaks off, what there is begins as the whole does.
            for end in 0..body.len() {
                let start = text(codings, &body[..end]).unwrap_or_default();
                assert!(TEXT.starts_with(&start), "{name} {end}");
            }
        }
        assert_eq!(text(b"gzip", TEXT), None);
        assert_eq!(text(b"gzip, gzip, gzip", &plain), None);
        assert!(!is_known(b"br") && !is_known(b"gzip, br") && !is_coded(b"identity"));
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let bomb = compress_to_vec(&vec![b'a'; 64 << 20], 6);
        assert!(bomb.len() < 128 << 10);
        let layered = gzip(0, b"", &bomb);
        let bodies: [(&[u8], Vec<u8>); 3] = [
            (b"deflate", bomb.clone()),
            (b"deflate, gzip", layered),
            (
                b"gzip",
                gzip(0, b"", &vec![b'a'; limits::INFLATED_BYTES + 1]),
            ),
        ];
        for (codings, body) in bodies {
            let inflated = inflated(codings, &body).unwrap();
            assert!(inflated.bytes.len() <= limits::INFLATED_BYTES);
            assert!(inflated.is_cut);
        }
        let whole = gzip(0, b"", &vec![b'a'; limits::INFLATED_BYTES]);
        assert!(!inflated(b"gzip", &whole).unwrap().is_cut);
    }

    #[test]
    fn any_bytes_are_a_compressed_body() {
        let mut state = 1_u32;
        for len in 0..300 {
            let mut random = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            let mut body: Vec<u8> = (0..len).map(|_| random()).collect();
            inflated(b"deflate", &body);
            let head = [0x1f, 0x8b, 8, random(), 0, 0, 0, 0, 0, 3];
            body.splice(0..0, head);
            inflated(b"gzip, gzip", &body);
        }
    }
}
