//! HTTP Archive 1.2, as browsers and proxies export it.
//!
//! One JSON document holds everything, response bodies too, so it is not parsed whole: a scanner
//! finds `log.entries` and cuts one entry after the other out of the stream, and only an entry is
//! parsed. A wrong entry therefore costs itself alone. The client's address is not in the format.

use std::io;

use base64::Engine as _;
use serde::Deserialize;

use super::input::Input;
use super::json::Bytes;
use super::ndjson::{BASE64, reason};
use super::record::{Part, Record};
use super::time;

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, rename = "startedDateTime")]
    started: Option<Bytes<'a>>,
    #[serde(borrow)]
    request: Request<'a>,
    #[serde(default)]
    response: Response,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    method: Bytes<'a>,
    #[serde(borrow)]
    url: Bytes<'a>,
    #[serde(borrow, rename = "httpVersion")]
    protocol: Option<Bytes<'a>>,
    #[serde(borrow, default)]
    headers: Vec<Pair<'a>>,
    #[serde(borrow, rename = "postData")]
    body: Option<PostData<'a>>,
}

#[derive(Deserialize)]
struct Pair<'a> {
    #[serde(borrow)]
    name: Bytes<'a>,
    #[serde(borrow, default)]
    value: Bytes<'a>,
}

#[derive(Deserialize)]
struct PostData<'a> {
    #[serde(borrow)]
    text: Option<Bytes<'a>>,
    #[serde(borrow)]
    encoding: Option<Bytes<'a>>,
    #[serde(borrow, default)]
    params: Vec<Pair<'a>>,
}

#[derive(Deserialize, Default)]
struct Response {
    status: Option<f64>,
}

pub(crate) fn parse(entry: &[u8], record: &mut Record) -> Result<(), String> {
    let entry: Entry<'_> = serde_json::from_slice(entry).map_err(|error| reason(&error))?;
    let request = entry.request;
    record.put(Part::Method, &request.method.0);

    let url = &*request.url.0;
    let url = url
        .get(..memchr::memchr(b'#', url).unwrap_or(url.len()))
        .unwrap_or(url);
    // A WebSocket starts as a request like any other.
    let target = match url.get(..2) {
        Some(ws) if ws.eq_ignore_ascii_case(b"ws") => record.push_with(|out| {
            out.extend_from_slice(b"http");
            out.extend_from_slice(url.get(2..).unwrap_or_default());
        }),
        _ => record.push(url),
    };
    record.set_target(target);
    if record.scheme().is_none() && !record.target().starts_with(b"/") {
        return Err("its URL is not one of HTTP, so no gateway has seen the request".into());
    }
    for header in &request.headers {
        record.push_header(&header.name.0, &header.value.0);
    }
    if let Some(protocol) = request.protocol {
        record.put(Part::Protocol, &protocol.0);
    }
    record.time_unix_ns = entry
        .started
        .and_then(|text| time::parse_iso_or_epoch(&text.0));
    // Browsers write 0 for a request that got no answer, and WebSockets have been seen with -1.
    record.status = entry
        .response
        .status
        .filter(|s| (100.0..1000.0).contains(s))
        .map(|s| s as u16);
    if let Some(body) = request.body {
        let is_base64 = body
            .encoding
            .is_some_and(|e| e.0.eq_ignore_ascii_case(b"base64"));
        match body.text {
            Some(text) if is_base64 => {
                let text = BASE64
                    .decode(&*text.0)
                    .map_err(|_| "its body is not the Base64 that it claims to be")?;
                record.put(Part::Body, &text);
            }
            Some(text) => record.put(Part::Body, &text.0),
            None if body.params.is_empty() => {}
            None => {
                let form = record.push_with(|out| encode_form(&body.params, out));
                record.set(Part::Body, form);
            }
        }
    }
    Ok(())
}

/// The form that the parameters came from. A browser's own escapes differ in what needs none.
fn encode_form(params: &[Pair<'_>], out: &mut Vec<u8>) {
    for (i, param) in params.iter().enumerate() {
        if i > 0 {
            out.push(b'&');
        }
        encode(&param.name.0, out);
        out.push(b'=');
        encode(&param.value.0, out);
    }
}

fn encode(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b' ' => out.push(b'+'),
            _ if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) => out.push(byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

/// Cuts entries out of the stream.
#[derive(Default)]
pub(crate) struct Entries {
    place: Place,
    entry: Vec<u8>,
}

#[derive(Default, PartialEq, Eq)]
enum Place {
    #[default]
    BeforeEntries,
    InEntries {
        is_first: bool,
    },
    After,
}

/// What comes next in the stream.
pub(crate) enum Cut<'a> {
    Entry {
        line: u64,
        json: &'a [u8],
    },
    /// An entry that cannot be taken; the next one may be.
    Bad {
        line: u64,
        reason: &'static str,
    },
    End,
}

enum Stop {
    Io(io::Error),
    /// The document ends or is broken here, so there is no next entry.
    Broken(&'static str),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Entries {
    /// The next entry, of at most `limit` bytes.
    pub(crate) fn next(&mut self, input: &mut Input, limit: usize) -> io::Result<Cut<'_>> {
        match self.advance(input, limit) {
            Ok(Some((line, true))) => Ok(Cut::Entry {
                line,
                json: &self.entry,
            }),
            Ok(Some((line, false))) => Ok(Cut::Bad {
                line,
                reason: "an entry over the limit of 64 MiB",
            }),
            Ok(None) => {
                self.place = Place::After;
                Ok(Cut::End)
            }
            Err(stop) => {
                self.place = Place::After;
                match stop {
                    Stop::Io(error) => Err(error),
                    Stop::Broken(reason) => Ok(Cut::Bad {
                        line: input.line,
                        reason,
                    }),
                }
            }
        }
    }

    fn advance(&mut self, input: &mut Input, limit: usize) -> Result<Option<(u64, bool)>, Stop> {
        if self.place == Place::After {
            return Ok(None);
        }
        if self.place == Place::BeforeEntries {
            for key in [&b"log"[..], b"entries"] {
                if !self.enter(input, key)? {
                    return Err(Stop::Broken(
                        "no `log.entries` array, so not an HTTP archive",
                    ));
                }
            }
            if peek(input)? != b'[' {
                return Err(Stop::Broken("`log.entries` is not an array"));
            }
            input.take(1);
            self.place = Place::InEntries { is_first: true };
        }
        let mut next = peek(input)?;
        if next == b']' {
            return Ok(None);
        }
        if self.place != (Place::InEntries { is_first: true }) {
            if next != b',' {
                return Err(Stop::Broken("no comma between two entries"));
            }
            input.take(1);
            next = peek(input)?;
        }
        self.place = Place::InEntries { is_first: false };
        if matches!(next, b']' | b'}' | b',' | b':') {
            return Err(Stop::Broken("an entry is missing"));
        }
        let line = input.line;
        self.entry.clear();
        let fits = take_value(input, Some((&mut self.entry, limit)))?;
        Ok(Some((line, fits)))
    }

    /// Goes to the value of `wanted` in the object that starts here.
    fn enter(&mut self, input: &mut Input, wanted: &[u8]) -> Result<bool, Stop> {
        if peek(input)? != b'{' {
            return Ok(false);
        }
        input.take(1);
        loop {
            match peek(input)? {
                b'"' => {}
                b',' => {
                    input.take(1);
                    continue;
                }
                _ => return Ok(false),
            }
            self.entry.clear();
            take_value(input, Some((&mut self.entry, 1 << 10)))?;
            if peek(input)? != b':' {
                return Ok(false);
            }
            input.take(1);
            let key = self
                .entry
                .strip_prefix(b"\"")
                .and_then(|key| key.strip_suffix(b"\""));
            if key == Some(wanted) {
                peek(input)?;
                return Ok(true);
            }
            peek(input)?;
            take_value(input, None)?;
        }
    }
}

const ENDS_EARLY: Stop = Stop::Broken("the archive ends early (was the file cut off?)");

/// The next byte that is no white space, left in place.
fn peek(input: &mut Input) -> Result<u8, Stop> {
    loop {
        let window = input.window();
        let blank = window
            .iter()
            .take_while(|b| b.is_ascii_whitespace())
            .count();
        if let Some(&byte) = window.get(blank) {
            input.take(blank);
            return Ok(byte);
        }
        input.take(blank);
        if !input.fill()? {
            return Err(ENDS_EARLY);
        }
    }
}

/// Takes one value, which starts here. Copies it, up to a limit; `false` if it was longer.
///
/// Quotes and brackets are all it looks at: whether the value is sound is for the parser to say.
fn take_value(input: &mut Input, mut copy: Option<(&mut Vec<u8>, usize)>) -> Result<bool, Stop> {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut is_escaped = false;
    let mut fits = true;
    let mut is_whole = false;
    while !is_whole {
        let window = input.window();
        let mut at = 0;
        while at < window.len() && !is_whole {
            let rest = window.get(at..).unwrap_or_default();
            if is_escaped {
                is_escaped = false;
                at += 1;
            } else if in_string {
                let Some(next) = memchr::memchr2(b'"', b'\\', rest) else {
                    at = window.len();
                    continue;
                };
                at += next + 1;
                is_escaped = rest.get(next) == Some(&b'\\');
                in_string = is_escaped;
                is_whole = !in_string && depth == 0;
            } else {
                match rest.first() {
                    Some(b'"') => in_string = true,
                    Some(b'{' | b'[') => depth += 1,
                    // The end of the array or object around a bare value is not the value's.
                    Some(b'}' | b']' | b',' | b':') if depth == 0 => {
                        is_whole = true;
                        continue;
                    }
                    Some(b'}' | b']') => {
                        depth -= 1;
                        is_whole = depth == 0;
                    }
                    Some(byte) if depth == 0 && byte.is_ascii_whitespace() => {
                        is_whole = true;
                        continue;
                    }
                    _ => {}
                }
                at += 1;
            }
        }
        if let Some((copy, limit)) = &mut copy {
            if copy.len() + at > *limit {
                fits = false;
                copy.clear();
            }
            if fits {
                copy.extend_from_slice(window.get(..at).unwrap_or_default());
            }
        }
        input.take(at);
        if !is_whole && !input.fill()? {
            return Err(ENDS_EARLY);
        }
    }
    Ok(fits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::sync::Arc;

    fn cut(text: &[u8], limit: usize) -> Vec<Result<(u64, Vec<u8>), &'static str>> {
        let mut input = Input::new(io::Cursor::new(text.to_vec()), Arc::default()).unwrap();
        let mut entries = Entries::default();
        let mut out = Vec::new();
        loop {
            match entries.next(&mut input, limit).unwrap() {
                Cut::Entry { line, json } => out.push(Ok((line, json.to_vec()))),
                Cut::Bad { reason, .. } => out.push(Err(reason)),
                Cut::End => return out,
            }
        }
    }

    #[test]
    fn entries_are_cut_out_wherever_they_stand() {
        let text = br#"{"x":{"entries":["no"]},"log": {"version": "1.2", "pages":[{"entries":[1]}],"entries":[
            {"a":"]}\"\\"} ,
            2,"three\"" ,[[4]]],"after":1}}"#;
        let got: Vec<_> = cut(text, 100).into_iter().map(Result::unwrap).collect();
        let expected = [
            (2, &br#"{"a":"]}\"\\"}"#[..]),
            (3, b"2"),
            (3, br#""three\"""#),
            (3, b"[[4]]"),
        ];
        assert_eq!(
            got.iter()
                .map(|(line, json)| (*line, json.as_slice()))
                .collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn what_cannot_be_cut_is_said_once() {
        type Cuts = &'static [Result<(), &'static str>];
        let cases: &[(&[u8], Cuts)] = &[
            (br#"{"log":{"entries":[]}}"#, &[]),
            (br#"{"log":{}}"#, &[Err("no `log.entries` array")]),
            (br#"{"log":[]}"#, &[Err("no `log.entries` array")]),
            (br#"[]"#, &[Err("no `log.entries` array")]),
            (br#"{"log":{"entries":{}}}"#, &[Err("is not an array")]),
            (br#"{"log":{"entries":[1"#, &[Err("ends early")]),
            (br#"{"log":{"entries":[1,"#, &[Ok(()), Err("ends early")]),
            (br#"{"log":{"entries":[1 2]}}"#, &[Ok(()), Err("no comma")]),
            (
                br#"{"log":{"entries":[1,,2]}}"#,
                &[Ok(()), Err("is missing")],
            ),
            (br#"{"log":{"entries":[1,]}}"#, &[Ok(()), Err("is missing")]),
            (br#"{"log":{"entries":["#, &[Err("ends early")]),
            (b"", &[Err("ends early")]),
            (
                br#"{"log":{"entries":["0123456789",2]}}"#,
                &[Err("over the limit"), Ok(())],
            ),
        ];
        for (text, expected) in cases {
            let got = cut(text, 10);
            let text = text.escape_ascii();
            assert_eq!(got.len(), expected.len(), "{text}: {got:?}");
            for (got, expected) in got.iter().zip(*expected) {
                match (got, expected) {
                    (Ok(_), Ok(())) => {}
                    (Err(got), Err(expected)) => assert!(got.contains(expected), "{text}: {got}"),
                    _ => panic!("{text}: {got:?}"),
                }
            }
        }
    }

    #[test]
    fn an_entry_is_read() {
        let entry = r#"{"startedDateTime":"2016-04-15T20:17:00.310Z","request":{"method":"POST",
            "url":"https://h:8443/a?b#c","httpVersion":"h2","headers":[{"name":":authority","value":"h:8443"},
            {"name":"User-Agent","value":"ua"}],"postData":{"mimeType":"x","params":[{"name":"a b","value":"'é"},
            {"name":"c"}]}},"response":{"status":200,"content":{"text":"\udcff"}},"time":1}"#;
        let mut record = Record::default();
        parse(entry.as_bytes(), &mut record).unwrap();
        assert_eq!(
            (record.method(), record.target()),
            (&b"POST"[..], &b"/a?b"[..])
        );
        assert_eq!(
            (record.scheme(), record.authority()),
            (Some(&b"https"[..]), Some(&b"h:8443"[..]))
        );
        assert_eq!(
            record.headers().collect::<Vec<_>>(),
            [(&b"user-agent"[..], &b"ua"[..])]
        );
        assert_eq!(record.body(), Some(&b"a+b=%27%C3%A9&c="[..]));
        assert_eq!(
            (record.status, record.time_unix_ns),
            (Some(200), Some(1_460_751_420_310_000_000))
        );
    }

    #[test]
    fn an_entry_that_is_no_request_is_refused_with_a_reason() {
        let cases: &[(&str, &str)] = &[
            ("1", "invalid type"),
            ("{}", "missing field `request`"),
            (r#"{"request":5}"#, "invalid type"),
            (r#"{"request":{"method":"GET"}}"#, "missing field `url`"),
            (
                r#"{"request":{"method":"GET","url":"data:x"}}"#,
                "not one of HTTP",
            ),
            (
                r#"{"request":{"method":"GET","url":"http://h","postData":{"text":"*","encoding":"base64"}}}"#,
                "not the Base64",
            ),
        ];
        for (entry, reason) in cases {
            let got = parse(entry.as_bytes(), &mut Record::default()).unwrap_err();
            assert!(got.contains(reason), "{entry}: {got}");
        }
    }
}
