//! NCSA common and combined logs, as Apache and nginx write them.
//!
//! ```text
//! 192.0.2.7 - - [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 200 512 "https://ref/" "agent"
//! ```
//!
//! A name before the client's address (`vhost_combined`) is the authority. What follows the
//! User-Agent is ignored. `\"`, `\\`, `\xHH` and the C escapes of Apache are resolved; a quote
//! that its writer did not escape ends a field only where a space or the line's end follows it.

use super::record::{Part, Record, Span};
use super::time;

type Reason = &'static str;

/// Whether a line, or the start of one, reads like one of these logs.
pub(crate) fn is_line(line: &[u8]) -> bool {
    head(line).is_some_and(|head| head.rest.starts_with(b"\""))
}

pub(crate) fn parse(line: &[u8], record: &mut Record) -> Result<(), Reason> {
    let head =
        head(line).ok_or("not a combined log line: no `host ident user [time]` at its start")?;
    let mut words = head.words.split(|b| *b == b' ');
    let (first, second) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let is_vhost =
        words.nth(1).is_some() && looks_like_address(second) && !looks_like_address(first);
    if is_vhost {
        record.put(Part::Authority, first);
    }
    record.put(Part::SourceAddress, if is_vhost { second } else { first });
    record.time_unix_ns = head.time_unix_ns;

    let (request, rest) =
        quoted(head.rest, record)?.ok_or("no quoted request line after the time")?;
    if record.bytes(request) == b"-" {
        // The client connected and sent nothing that the server could log.
        record.set(
            Part::Method,
            Span {
                start: request.end,
                end: request.end,
            },
        );
    } else {
        record.set_request_line(request);
    }

    let rest = rest
        .strip_prefix(b" ")
        .ok_or("no status after the request line")?;
    let (status, rest) = word(rest);
    record.status = match status {
        b"-" => None,
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => Some(
            [a, b, c]
                .iter()
                .fold(0, |n, b| n * 10 + u16::from(**b - b'0')),
        ),
        _ => return Err("the status after the request line is not a number of three digits"),
    };
    let (size, rest) = word(rest.strip_prefix(b" ").ok_or("no size after the status")?);
    if size != b"-" && (size.is_empty() || !size.iter().all(u8::is_ascii_digit)) {
        return Err("the size after the status is not a number");
    }
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    if rest.is_empty() {
        return Ok(());
    }
    let (referer, rest) = quoted(rest, record)?.ok_or("no quoted Referer after the size")?;
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let (agent, _) = quoted(rest, record)?.ok_or("no quoted User-Agent after the Referer")?;
    for (name, value) in [(&b"referer"[..], referer), (b"user-agent", agent)] {
        if record.bytes(value) != b"-" {
            record.header_span(name, value);
        }
    }
    Ok(())
}

struct Head<'a> {
    words: &'a [u8],
    time_unix_ns: Option<u64>,
    rest: &'a [u8],
}

/// Splits at the time. The user's name comes before it and from the client, so a bracket only
/// counts where a time stands behind it; if none does, the first bracket is taken as a time that
/// cannot be read.
fn head(line: &[u8]) -> Option<Head<'_>> {
    const TIME_BYTES: usize = "10/Oct/2000:13:55:36 -0700".len();
    let mut fallback = None;
    let second_space = memchr::memchr_iter(b' ', line).nth(1)?;
    for at in memchr::memchr_iter(b'[', line) {
        let Some(words) = line.get(..at).and_then(|words| words.strip_suffix(b" ")) else {
            continue;
        };
        if words.len() <= second_space {
            continue;
        }
        let after = line.get(at + 1..).unwrap_or_default();
        let timed = after.split_at_checked(TIME_BYTES);
        if let Some((time, rest)) = timed
            && let Some(rest) = rest.strip_prefix(b"] ")
            && let Some(nanos) = time::parse_ncsa(time)
        {
            return Some(Head {
                words,
                time_unix_ns: Some(nanos),
                rest,
            });
        }
        // One look is enough: a line of brackets alone must not cost its length squared.
        if fallback.is_none() {
            let close = memchr::memmem::find(after.get(..64).unwrap_or(after), b"] ");
            fallback = Some(close.and_then(|close| {
                let rest = after.get(close + 2..)?;
                Some(Head {
                    words,
                    time_unix_ns: None,
                    rest,
                })
            }));
        }
    }
    fallback.flatten()
}

fn looks_like_address(word: &[u8]) -> bool {
    word.iter()
        .all(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b':'))
        && word.iter().any(|b| matches!(b, b'.' | b':'))
}

fn word(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(memchr::memchr(b' ', text).unwrap_or(text.len()))
}

/// Takes a quoted field into the record's buffer; `None` if the text does not start with one.
fn quoted<'a>(text: &'a [u8], record: &mut Record) -> Result<Option<(Span, &'a [u8])>, Reason> {
    let Some(text) = text.strip_prefix(b"\"") else {
        return Ok(None);
    };
    let mut at = 0;
    let mut is_escaped = false;
    loop {
        let Some(next) = text
            .get(at..)
            .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
        else {
            return Err("a quoted field is not closed (was the line broken in two?)");
        };
        at += next;
        if text.get(at) == Some(&b'\\') {
            is_escaped = true;
            at += 2;
        } else if matches!(text.get(at + 1), None | Some(b' ')) {
            break;
        } else {
            at += 1;
        }
    }
    let (field, rest) = text.split_at(at);
    let span = record.push_with(|out| {
        if is_escaped {
            unescape(field, out)
        } else {
            out.extend_from_slice(field)
        }
    });
    Ok(Some((span, rest.get(1..).unwrap_or_default())))
}

fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain);
        let (byte, len) = match *escape {
            [_, c @ (b'"' | b'\\'), ..] => (c, 2),
            [_, b'n', ..] => (b'\n', 2),
            [_, b'r', ..] => (b'\r', 2),
            [_, b't', ..] => (b'\t', 2),
            [_, b'b', ..] => (8, 2),
            [_, b'f', ..] => (12, 2),
            [_, b'v', ..] => (11, 2),
            [_, b'x', high, low, ..] if let (Some(high), Some(low)) = (hex(high), hex(low)) => {
                (high << 4 | low, 4)
            }
            // No writer escapes anything else, so this is a backslash that was not escaped.
            _ => (b'\\', 1),
        };
        out.push(byte);
        rest = escape.get(len..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|n| u8::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HEAD: &str = r#"192.0.2.7 - - [10/Oct/2000:13:55:36 -0700] "#;

    fn read(line: &[u8]) -> Result<Record, Reason> {
        let mut record = Record::default();
        parse(line, &mut record).map(|()| record)
    }

    #[test]
    fn a_combined_line_is_read() {
        let line = format!(
            r#"{HEAD}"GET /a%20b?c HTTP/1.1" 200 512 "https://ref/?\"q" "agent \\ \xff\t" 0.003 "-""#
        );
        let record = read(line.as_bytes()).unwrap();
        assert_eq!(record.source_address(), Some(&b"192.0.2.7"[..]));
        assert_eq!(record.time_unix_ns, Some(971_211_336_000_000_000));
        assert_eq!(
            (record.method(), record.target()),
            (&b"GET"[..], &b"/a%20b?c"[..])
        );
        assert_eq!(record.status, Some(200));
        assert_eq!(record.header(b"referer"), Some(&b"https://ref/?\"q"[..]));
        assert_eq!(record.header(b"user-agent"), Some(&b"agent \\ \xff\t"[..]));
    }

    #[test]
    fn its_variants_are_read() {
        type Parts = (
            &'static [u8],
            Option<&'static [u8]>,
            &'static [u8],
            &'static [u8],
            usize,
        );
        let time = "[10/Oct/2000:13:55:36 -0700]";
        let cases: &[(String, Parts)] = &[
            (
                format!(r#"{HEAD}"GET / HTTP/1.0" 304 -"#),
                (b"192.0.2.7", None, b"GET", b"/", 0),
            ),
            (
                format!(r#"{HEAD}"GET / HTTP/1.0" 200 5 "-" "-""#),
                (b"192.0.2.7", None, b"GET", b"/", 0),
            ),
            (
                format!(r#"{HEAD}"-" 408 - "-" "-""#),
                (b"192.0.2.7", None, b"", b"", 0),
            ),
            (
                format!(r#"{HEAD}"\x16\x03" 400 0 "-" """#),
                (b"192.0.2.7", None, b"\x16\x03", b"", 1),
            ),
            (
                format!(r#"{HEAD}"GET /?q="x"y HTTP/1.1" 200 5"#),
                (b"192.0.2.7", None, b"GET", b"/?q=\"x\"y", 0),
            ),
            (
                format!(r#"www:80 2001:db8::1 - - {time} "GET / HTTP/1.1" 200 5"#),
                (b"2001:db8::1", Some(b"www:80"), b"GET", b"/", 0),
            ),
            (
                format!(r#"h - john doe {time} "GET / HTTP/1.1" 200 5"#),
                (b"h", None, b"GET", b"/", 0),
            ),
            (
                format!(r#"h - a [b] {time} "GET / HTTP/1.1" 200 5"#),
                (b"h", None, b"GET", b"/", 0),
            ),
            (
                r#"h - - [2000-10-10T13:55:36] "GET / HTTP/1.1" 200 5"#.into(),
                (b"h", None, b"GET", b"/", 0),
            ),
        ];
        for (line, (source, authority, method, target, headers)) in cases {
            let record = read(line.as_bytes()).unwrap();
            assert!(is_line(line.as_bytes()), "{line}");
            assert_eq!(record.source_address(), Some(*source), "{line}");
            let got = (
                record.authority(),
                record.method(),
                record.target(),
                record.headers().len(),
            );
            assert_eq!(got, (*authority, *method, *target, *headers), "{line}");
        }
    }

    #[test]
    fn a_line_in_another_format_is_refused_with_a_reason() {
        let cases: &[(&str, &str)] = &[
            ("", "no `host ident user [time]`"),
            (
                "Nov 22 21:40:01 host sshd[812]: session opened",
                "no `host ident user [time]`",
            ),
            (r#"{"method":"GET"}"#, "no `host ident user [time]`"),
            (
                r#"h - - [10/Oct/2000:13:55:36 -0700] GET / 200"#,
                "no quoted request line",
            ),
            (
                r#"h - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1"#,
                "not closed",
            ),
            (
                r#"h - - [10/Oct/2000:13:55:36 -0700] "GET /\"#,
                "not closed",
            ),
            (
                r#"h - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1""#,
                "no status",
            ),
            (
                r#"h - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" OK 5"#,
                "the status",
            ),
            (
                r#"h - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200"#,
                "no size",
            ),
            (
                r#"h - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 x"#,
                "the size",
            ),
            (
                r#"h - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 5 0.2"#,
                "no quoted Referer",
            ),
            (
                r#"h - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 5 "-""#,
                "no quoted User-Agent",
            ),
            (
                r#"h - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 5 "-" "x"#,
                "not closed",
            ),
        ];
        for (line, reason) in cases {
            let got = read(line.as_bytes()).map(|_| ()).unwrap_err();
            assert!(got.contains(reason), "{line}: {got}");
        }
    }
}
