//! Raw HTTP/1.1 requests, one or several in a file, as proxies and scanners save them.
//!
//! Lines end in CRLF or LF. A body is as long as `Content-Length` says, or chunked; without
//! either there is none. Odd requests are why such files exist, so only the request line has to
//! be sound enough to be one; after a request that is not, reading goes on at the next line that
//! is.

use std::io;

use super::input::{Input, Line};
use super::record::{Part, Record};

/// Whether a line reads `METHOD target HTTP/…`; if the line is cut off, its start will do.
pub(crate) fn is_request_line(line: &[u8], is_cut_off: bool) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let method_len = line
        .iter()
        .take_while(|b| b.is_ascii_alphabetic() || matches!(b, b'-' | b'_'))
        .count();
    if method_len == 0 || method_len > 32 || line.get(method_len) != Some(&b' ') {
        return false;
    }
    let rest = line.get(method_len + 1..).unwrap_or_default();
    let version = memchr::memrchr(b' ', rest).and_then(|space| rest.get(space + 1..));
    version.is_some_and(|version| version.starts_with(b"HTTP/"))
        || (is_cut_off && rest.starts_with(b"/"))
}

/// Reads the next request, each of its parts at most `limit` bytes long; `None` at the end.
pub(crate) fn read(
    input: &mut Input,
    record: &mut Record,
    limit: usize,
) -> io::Result<Option<Result<(), &'static str>>> {
    skip_blank_lines(input)?;
    if input.window().is_empty() {
        return Ok(None);
    }
    record.origin.line = input.line;
    let Some(head_len) = head_len(input, limit)? else {
        skip_request(input, limit)?;
        return Ok(Some(Err("a request head over the limit of 16 MiB")));
    };
    let head = input.window().get(..head_len).unwrap_or_default();
    let parsed = parse_head(head, record);
    if let Err(reason) = parsed {
        skip_request(input, limit)?;
        return Ok(Some(Err(reason)));
    }
    input.take(head_len);

    let is_chunked = record
        .header(b"transfer-encoding")
        .is_some_and(|v| v.to_ascii_lowercase().ends_with(b"chunked"));
    if is_chunked {
        let mut body = Vec::new();
        record.body_incomplete = !read_chunks(input, &mut body, limit)?;
        record.put(Part::Body, &body);
        if record.body_incomplete {
            skip_to_request_line(input, limit)?;
        }
        return Ok(Some(Ok(())));
    }
    let length = record.header(b"content-length").and_then(|v| {
        std::str::from_utf8(v.trim_ascii())
            .ok()?
            .parse::<usize>()
            .ok()
    });
    if let Some(length) = length.filter(|length| *length > 0) {
        if length > limit {
            skip_to_request_line(input, limit)?;
            return Ok(Some(Err("a request body over the limit of 16 MiB")));
        }
        record.body_incomplete = !input.want(length)?;
        let len = input.window().len().min(length);
        record.put(Part::Body, input.window().get(..len).unwrap_or_default());
        input.take(len);
    }
    Ok(Some(Ok(())))
}

fn parse_head(head: &[u8], record: &mut Record) -> Result<(), &'static str> {
    let mut lines = head
        .split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = lines.next().unwrap_or_default();
    if !is_request_line(line, false) {
        return Err("not a request line (`GET /path HTTP/1.1`)");
    }
    let line = record.push(line);
    record.set_request_line(line);
    let mut pending: Option<(&[u8], Vec<u8>)> = None;
    for line in lines {
        if let (Some((_, value)), Some(b' ' | b'\t')) = (&mut pending, line.first()) {
            // A folded header goes on with a space in place of the line break.
            value.push(b' ');
            value.extend_from_slice(line.trim_ascii());
            continue;
        }
        if let Some((name, value)) = pending.take() {
            record.push_header(name, &value);
        }
        if line.is_empty() {
            continue;
        }
        // Requests over HTTP/2 are saved with their pseudo-headers, which begin with the colon.
        let from = usize::from(line.first() == Some(&b':'));
        let Some(colon) = line.get(from..).and_then(|rest| memchr::memchr(b':', rest)) else {
            return Err("a header line without a colon");
        };
        let (name, value) = line.split_at(from + colon);
        pending = Some((
            name,
            value.get(1..).unwrap_or_default().trim_ascii().to_vec(),
        ));
    }
    if let Some((name, value)) = pending {
        record.push_header(name, &value);
    }
    Ok(())
}

/// The length of the head that starts here, with its blank line; `None` if it is over the limit.
fn head_len(input: &mut Input, limit: usize) -> io::Result<Option<usize>> {
    let mut searched = 0;
    loop {
        let window = input.window();
        for at in memchr::memchr_iter(b'\n', window.get(searched..).unwrap_or_default()) {
            match window.get(searched + at + 1..) {
                Some([b'\n', ..]) => return Ok(Some(searched + at + 2).filter(|len| *len <= limit)),
                Some([b'\r', b'\n', ..]) => {
                    return Ok(Some(searched + at + 3).filter(|len| *len <= limit));
                }
                _ => {}
            }
        }
        // The blank line may straddle what comes next.
        let len = window.len();
        searched = len.saturating_sub(2);
        if len > limit {
            return Ok(None);
        }
        if !input.fill()? {
            return Ok(Some(len));
        }
    }
}

fn skip_blank_lines(input: &mut Input) -> io::Result<()> {
    loop {
        let blank = input
            .window()
            .iter()
            .take_while(|b| matches!(b, b'\r' | b'\n'))
            .count();
        let is_all = blank == input.window().len();
        input.take(blank);
        if !is_all || !input.fill()? {
            return Ok(());
        }
    }
}

/// Leaves the line that starts here, whatever it is, and goes to the next request line.
fn skip_request(input: &mut Input, limit: usize) -> io::Result<()> {
    input.line(limit)?;
    skip_to_request_line(input, limit)
}

/// Goes to the next request line, which may be the one that starts here.
fn skip_to_request_line(input: &mut Input, limit: usize) -> io::Result<()> {
    loop {
        let line = peek_line(input, limit)?;
        if is_request_line(line, line.len() > limit) || input.line(limit)?.is_none() {
            return Ok(());
        }
    }
}

/// The line that starts here, left in place; only its start if it is over the limit.
fn peek_line(input: &mut Input, limit: usize) -> io::Result<&[u8]> {
    let len = loop {
        if let Some(at) = memchr::memchr(b'\n', input.window()) {
            break at;
        }
        if input.window().len() > limit || !input.fill()? {
            break input.window().len();
        }
    };
    Ok(input.window().get(..len).unwrap_or_default())
}

/// Reads a chunked body; `false` if it breaks off. What is not part of it stays in place, since it
/// may be the next request.
fn read_chunks(input: &mut Input, body: &mut Vec<u8>, limit: usize) -> io::Result<bool> {
    loop {
        let line = peek_line(input, limit)?;
        let size = line
            .split(|b| *b == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        let size = std::str::from_utf8(size)
            .ok()
            .and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size else { return Ok(false) };
        input.line(limit)?;
        if size == 0 {
            break;
        }
        if body.len().saturating_add(size) > limit {
            return Ok(false);
        }
        let is_whole = input.want(size)?;
        let len = input.window().len().min(size);
        body.extend_from_slice(input.window().get(..len).unwrap_or_default());
        input.take(len);
        if !is_whole || !matches!(peek_line(input, limit)?, b"" | b"\r") {
            return Ok(false);
        }
        input.line(limit)?;
    }
    // Trailers, of which nothing is kept.
    while let Some(Line::Whole(line)) = input.line(limit)? {
        if matches!(line, b"" | b"\r") {
            break;
        }
    }
    Ok(true)
}
