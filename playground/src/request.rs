//! A pasted request as a record.
//!
//! More forgiving than a capture: `/path` alone will do, the protocol may be missing, and everything behind the first blank line
//! is the body, whatever `Content-Length` says.

use std::io::Cursor;

use portcullis_capture::{Format, Reader, Record};

use crate::limits;

/// Reads it; the error says what to write instead.
pub fn read(text: &[u8]) -> Result<Record, String> {
    if text.len() > limits::REQUEST_BYTES {
        return Err(format!(
            "the request is over the limit of {} KiB; open it as a capture",
            limits::REQUEST_BYTES >> 10
        ));
    }
    let text = text.trim_ascii_start();
    let (head, body) = split(text);
    let line_end = head
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(head.len());
    let (line, headers) = head.split_at_checked(line_end).unwrap_or((head, &[]));
    let line = line.trim_ascii_end();
    let mut whole = Vec::with_capacity(head.len() + 32);
    let is_target_alone = line.starts_with(b"/") || line.starts_with(b"http");
    if is_target_alone {
        whole.extend_from_slice(b"GET ");
    }
    whole.extend_from_slice(line);
    let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    if !last.starts_with(b"HTTP/") {
        whole.extend_from_slice(b" HTTP/1.1");
    }
    whole.extend_from_slice(headers);
    whole.extend_from_slice(b"\r\n\r\n");
    let hint = "write it as it goes over the wire: `GET /path HTTP/1.1`, then a line `Name: value` for each header, a blank line, the body";
    let mut reader = Reader::new("request", Cursor::new(whole), Some(Format::Http))
        .map_err(|error| error.to_string())?;
    match reader.next() {
        Some(Ok(mut record)) => {
            record.set_body(body);
            Ok(record)
        }
        Some(Err(malformed)) => Err(format!("line 1: {}; {hint}", malformed.reason)),
        None => Err(hint.to_owned()),
    }
}

/// A record as text that [`read`] takes. Bytes that are no text become `\u{fffd}`.
pub fn write(record: &Record) -> String {
    if record.is_process() {
        return String::new();
    }
    let mut lines = vec![[record.method(), b" ", record.target(), b" HTTP/1.1"].concat()];
    if let Some(authority) = record.authority() {
        lines.push([&b"host: "[..], authority].concat());
    }
    lines.extend(
        record
            .headers()
            .map(|(name, value)| [name, b": ", value].concat()),
    );
    let mut text = lines.join(&b'\n');
    text.push(b'\n');
    if let Some(body) = record.body().filter(|body| !body.is_empty()) {
        text.push(b'\n');
        text.extend_from_slice(body);
    }
    text.truncate(limits::REQUEST_BYTES);
    String::from_utf8_lossy(&text).into_owned()
}

/// What stands before and behind the first blank line.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let next = at + line.len();
        if matches!(line, b"\n" | b"\r\n") {
            return (
                text.get(..at).unwrap_or_default(),
                text.get(next..).unwrap_or_default(),
            );
        }
        at = next;
    }
    (text, &[])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_may_be_written_carelessly() {
        for (text, method, target, host, body) in [
            ("/a?b=c", "GET", "/a?b=c", "", ""),
            ("\n\nGET /a b", "GET", "/a b", "", ""),
            ("GET /a HTTP/2\nHost: h\n", "GET", "/a", "h", ""),
            ("https://h/a", "GET", "/a", "h", ""),
            (
                "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\nx=1\n\ny",
                "POST",
                "/a",
                "h",
                "x=1\n\ny",
            ),
            ("POST /a\n\n\nx", "POST", "/a", "", "\nx"),
        ] {
            let record = read(text.as_bytes()).unwrap();
            let got = (
                record.method(),
                record.target(),
                record.authority().unwrap_or_default(),
                record.body().unwrap_or_default(),
            );
            let want = (
                method.as_bytes(),
                target.as_bytes(),
                host.as_bytes(),
                body.as_bytes(),
            );
            assert_eq!(got, want, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_request_is_told() {
        for text in [
            "",
            "{\"log\": {}}",
            "GET",
            "GET / HTTP/1.1\nno colon",
            "\u{0}\u{1}",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(read(&vec![b'/'; limits::REQUEST_BYTES + 1]).is_err());
    }
}
