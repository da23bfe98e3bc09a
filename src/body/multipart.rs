//! The parts of a multipart body, as the parsers of applications cut them, which differ.
//!
//! Where they differ, each reading is given: of two boundaries both, of two names of a file both, of a body without its last
//! line what there is, and of one whose boundary is not the declared one the boundary that it begins with.

use super::media_type::MediaType;
use super::pair;
use crate::normalise::percent;

/// Multipart bodies within one another that are taken apart.
const DEPTH: usize = 3;

/// Names of one file that are given. Each may go on to the end of the head, so more would cost more than their length.
const NAMES: usize = 4;

/// Appends the parameters of a body whose parts one of these boundaries separates.
pub fn multipart<'b>(boundaries: impl Iterator<Item = &'b [u8]>, body: &[u8], query: &mut Vec<u8>) {
    let mut is_known = false;
    for boundary in boundaries.filter(|boundary| is_boundary_of(boundary, body)) {
        parts(boundary, body, DEPTH, query);
        is_known = true;
    }
    if is_known {
        return;
    }
    match first_line_boundary(body) {
        Some(boundary) => parts(boundary, body, DEPTH, query),
        None => pair(b"", body, query),
    }
}

fn is_boundary_of(boundary: &[u8], body: &[u8]) -> bool {
    !boundary.is_empty() && Delimiters::of(boundary, body).next().is_some()
}

/// The boundary that the first line of a body is one of.
fn first_line_boundary(body: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b'\n', body)?;
    let line = body.get(..end)?.trim_ascii();
    line.strip_prefix(b"--").filter(|rest| !rest.is_empty())
}

/// The places of lines that are a delimiter: where each begins, and where what follows it does.
struct Delimiters<'b> {
    delimiter: Vec<u8>,
    body: &'b [u8],
    at: usize,
}

impl<'b> Delimiters<'b> {
    fn of(boundary: &[u8], body: &'b [u8]) -> Delimiters<'b> {
        Delimiters {
            delimiter: [b"--", boundary].concat(),
            body,
            at: 0,
        }
    }
}

impl Iterator for Delimiters<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        loop {
            let rest = self.body.get(self.at..)?;
            let start = self.at + memchr::memmem::find(rest, &self.delimiter)?;
            let end = start + self.delimiter.len();
            self.at = end;
            let before = start.checked_sub(1).and_then(|at| self.body.get(at));
            let behind = self.body.get(end);
            // `--X` within a line, or at the start of `--Xyz`, is content.
            if before.is_none_or(|byte| *byte == b'\n')
                && behind.is_none_or(|byte| b"\r\n \t-".contains(byte))
            {
                return Some((start, end));
            }
        }
    }
}

fn parts(boundary: &[u8], body: &[u8], depth: usize, query: &mut Vec<u8>) {
    let mut places = Delimiters::of(boundary, body).peekable();
    while let Some((_, start)) = places.next() {
        let end = places.peek().map_or(body.len(), |(end, _)| *end);
        // Behind the last line nothing should follow. Something does only if somebody hopes that it is read.
        part(body.get(start..end).unwrap_or_default(), depth, query);
    }
}

fn part(part: &[u8], depth: usize, query: &mut Vec<u8>) {
    let blank = memchr::memmem::find(part, b"\r\n\r\n");
    let blank = match (blank, memchr::memmem::find(part, b"\n\n")) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let (head, content) = blank.map_or((part, &[][..]), |at| part.split_at(at));
    let content = content.trim_ascii();
    let name = attributes(head, b"name").next().unwrap_or_default();
    if depth > 1
        && let Some(kind) = field(head, b"content-type")
        && let Some(boundary) = MediaType::of(kind).multipart_boundary()
        && is_boundary_of(boundary, content)
    {
        return parts(boundary, content, depth - 1, query);
    }
    let mut is_file = false;
    for file in attributes(head, b"filename").take(NAMES) {
        pair(name, file, query);
        is_file = true;
    }
    for file in attributes(head, b"filename*").take(NAMES) {
        // `UTF-8'en'%2e%2e%2fa`: a charset, a language, and an encoding of its own.
        let file = file.splitn(3, |byte| *byte == b'\'').last();
        pair(
            name,
            &percent::decoded(file.unwrap_or_default(), false),
            query,
        );
        is_file = true;
    }
    match is_file {
        false if content.is_empty() && name.is_empty() => {}
        false => pair(name, content, query),
        true if is_text(content) => pair(name, content, query),
        true => {
            if let Some(code) = embedded_php(content) {
                pair(name, code, query);
            }
        }
    }
}

/// A field in the head of a part.
fn field<'h>(head: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (known, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
        let is_it = known.trim_ascii().eq_ignore_ascii_case(name);
        is_it.then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

/// The values of each `name="…"` in the head of a part, however its quotes, blanks and case are.
fn attributes<'h>(head: &'h [u8], name: &[u8]) -> impl Iterator<Item = &'h [u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = head.get(at..)?;
            let equals = at + memchr::memchr(b'=', rest)?;
            at = equals + 1;
            let before = head.get(..equals)?.trim_ascii_end();
            let Some(start) = before.len().checked_sub(name.len()) else {
                continue;
            };
            let is_whole = start
                .checked_sub(1)
                .and_then(|at| before.get(at))
                .is_some_and(|byte| b"; \t\r\n".contains(byte));
            if is_whole && before.get(start..)?.eq_ignore_ascii_case(name) {
                return Some(quoted(head.get(at..)?.trim_ascii_start()));
            }
        }
    })
}

/// The value at the start of a text: to its closing quote, or else to the next `;` or line.
fn quoted(text: &[u8]) -> &[u8] {
    match text {
        [quote @ (b'"' | b'\''), inside @ ..] => {
            let mut is_escaped = false;
            let end = inside.iter().position(|byte| {
                let is_end = byte == quote && !is_escaped;
                is_escaped = *byte == b'\\' && !is_escaped;
                is_end
            });
            inside
                .get(..end.unwrap_or(inside.len()))
                .unwrap_or_default()
        }
        _ => text
            .split(|byte| b";\r\n".contains(byte))
            .next()
            .unwrap_or_default()
            .trim_ascii_end(),
    }
}

/// Whether a file is text: no byte of it is one that texts do not have.
fn is_text(content: &[u8]) -> bool {
    let is_control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r' | 12);
    !content.iter().any(is_control) && std::str::from_utf8(content).is_ok()
}

/// PHP within a picture or an archive.
fn embedded_php(content: &[u8]) -> Option<&[u8]> {
    /// Bytes of code that tell what it is.
    const SHOWN: usize = 512;
    let at = memchr::memmem::find(content, b"<?php")?;
    let code = content.get(at..)?;
    Some(code.get(..SHOWN).unwrap_or(code))
}
