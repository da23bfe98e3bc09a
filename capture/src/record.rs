//! One captured event, a request or the start of a process: borrowed bytes out of one reused buffer.
//!
//! A reader fills a [`Record`] and the caller hands the same one back for the next request, so a
//! capture of any length is read with the memory of its largest request. Every part is bytes as
//! they were on the wire: nothing is decoded, and nothing has to be UTF-8.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use portcullis::field::Field;

/// Where a record came from: what a person needs to find it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file's name as it was given, `-` for standard input.
    pub file: Arc<str>,
    /// The line the record starts on, from 1.
    pub line: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What the author of a labelled capture says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// An attack.
    Malicious,
    /// Ordinary traffic.
    Benign,
    /// Nobody has looked: neither a miss nor a false positive.
    Unverified,
}

impl Label {
    /// The word for it in a capture; `None` for any other word.
    pub fn parse(word: &[u8]) -> Option<Self> {
        match word {
            b"malicious" => Some(Self::Malicious),
            b"benign" => Some(Self::Benign),
            b"unverified" => Some(Self::Unverified),
            _ => None,
        }
    }
}

/// Memory that an emptied record keeps.
const KEPT_BYTES: usize = 1 << 20;

/// A place in a record's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The parts of a record that are there once or not at all.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(crate) enum Part {
    Id,
    Method,
    Target,
    Authority,
    Scheme,
    Protocol,
    SourceAddress,
    Body,
    Source,
    Class,
    Meta,
}

const PARTS: usize = Part::Meta as usize + 1;

/// One captured request, or one process that started: it has the fields of either.
#[derive(Clone, Debug, Default)]
pub struct Record {
    buffer: Vec<u8>,
    parts: [Option<Span>; PARTS],
    headers: Vec<(Span, Span)>,
    process: Vec<(Field, Span)>,
    /// Where it was read.
    pub origin: Origin,
    /// When the gateway saw it, if the capture says.
    pub time_unix_ns: Option<u64>,
    /// The status of the response, if the capture says.
    pub status: Option<u16>,
    /// The label of a labelled capture.
    pub label: Option<Label>,
    /// The capture holds less of the body than the request announced.
    pub body_incomplete: bool,
}

impl Record {
    /// The capture's own name for the request, if it has one.
    pub fn id(&self) -> Option<&[u8]> {
        self.part(Part::Id)
    }

    /// The capture's own name for the request, or else `file:line`.
    pub fn name(&self) -> String {
        match self.id() {
            Some(id) => String::from_utf8_lossy(id).into_owned(),
            None => self.origin.to_string(),
        }
    }

    /// The method; empty if the request line held none.
    pub fn method(&self) -> &[u8] {
        self.part(Part::Method).unwrap_or_default()
    }

    /// Path and query as they were on the wire. Of an absolute-form target (`GET http://host/path`)
    /// scheme and authority are split off, as Envoy does; for `CONNECT` it is empty.
    pub fn target(&self) -> &[u8] {
        self.part(Part::Target).unwrap_or_default()
    }

    /// The host asked for. A `Host` header is here and not among the headers; only a second one is.
    pub fn authority(&self) -> Option<&[u8]> {
        self.part(Part::Authority)
    }

    /// `http` or `https`, if the capture says.
    pub fn scheme(&self) -> Option<&[u8]> {
        self.part(Part::Scheme)
    }

    /// The protocol as the capture spells it, such as `HTTP/1.1`.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.part(Part::Protocol)
    }

    /// The client as the capture names it: an address (with a port, in some) or a host name.
    pub fn source_address(&self) -> Option<&[u8]> {
        self.part(Part::SourceAddress)
    }

    /// The client's address; `None` where the capture has a host name or nothing.
    pub fn source_ip(&self) -> Option<IpAddr> {
        parse_address(self.source_address()?)
    }

    /// The body, as far as the capture holds it.
    pub fn body(&self) -> Option<&[u8]> {
        self.part(Part::Body)
    }

    /// The collection a labelled request is from.
    pub fn source(&self) -> Option<&[u8]> {
        self.part(Part::Source)
    }

    /// The coarse class of a labelled request.
    pub fn class(&self) -> Option<&[u8]> {
        self.part(Part::Class)
    }

    /// The `meta` of a labelled request: one JSON value.
    pub fn meta(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(self.part(Part::Meta)?).ok()
    }

    /// The headers in the capture's order, names in lower case, without pseudo-headers.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.headers
            .iter()
            .map(|&(name, value)| (self.bytes(name), self.bytes(value)))
    }

    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &[u8]) -> Option<&[u8]> {
        self.headers()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value)
    }

    /// Whether it is a process that started, not a request.
    pub fn is_process(&self) -> bool {
        !self.process.is_empty()
    }

    /// What the capture says of a process that started.
    pub fn process(&self) -> impl ExactSizeIterator<Item = (Field, &[u8])> + Clone {
        self.process
            .iter()
            .map(|&(field, value)| (field, self.bytes(value)))
    }

    /// The command line of a process, or the path of its executable where a capture has no command line.
    pub fn command_line(&self) -> &[u8] {
        let of = |wanted| self.process().find(|(field, _)| *field == wanted);
        of(Field::CommandLine)
            .or_else(|| of(Field::Image))
            .map(|(_, value)| value)
            .unwrap_or_default()
    }

    /// Adds a field of a process.
    pub(crate) fn push_process(&mut self, field: Field, value: &[u8]) {
        let value = self.push(value);
        self.process.push((field, value));
    }

    /// A request made by hand, for `explain` and for tests.
    pub fn new(method: &[u8], target: &[u8]) -> Self {
        let mut record = Self::default();
        record.put(Part::Method, method);
        let target = record.push(target);
        record.set_target(target);
        record
    }

    /// Sets the host asked for.
    pub fn set_authority(&mut self, authority: &[u8]) {
        self.put(Part::Authority, authority);
    }

    /// Sets the client's address.
    pub fn set_source_address(&mut self, address: &[u8]) {
        self.put(Part::SourceAddress, address);
    }

    /// Sets the body.
    pub fn set_body(&mut self, body: &[u8]) {
        self.put(Part::Body, body);
    }

    /// Adds a header. The first `Host` becomes the authority if there is none yet, and HTTP/2
    /// pseudo-headers go where they belong.
    pub fn push_header(&mut self, name: &[u8], value: &[u8]) {
        if let [b':', pseudo @ ..] = name {
            match pseudo {
                b"authority" => self.put(Part::Authority, value),
                b"scheme" => self.put(Part::Scheme, value),
                // The method and the path have already come with the request line.
                _ => {}
            }
            return;
        }
        if self.authority().is_none() && name.eq_ignore_ascii_case(b"host") {
            self.put(Part::Authority, value);
            return;
        }
        let name = self.push(name);
        if let Some(bytes) = self.buffer.get_mut(name.start..name.end) {
            bytes.make_ascii_lowercase();
        }
        let value = self.push(value);
        self.headers.push((name, value));
    }

    /// The memory that its parts take.
    pub fn size_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Empties the record for the next request and keeps its memory, unless that is uncommonly much.
    pub(crate) fn clear(&mut self) {
        if self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        self.parts = [None; PARTS];
        self.headers.clear();
        self.process.clear();
        self.time_unix_ns = None;
        self.status = None;
        self.label = None;
        self.body_incomplete = false;
    }

    pub(crate) fn put(&mut self, part: Part, value: &[u8]) {
        let span = self.push(value);
        self.set(part, span);
    }

    pub(crate) fn set(&mut self, part: Part, span: Span) {
        if let Some(slot) = self.parts.get_mut(part as usize) {
            *slot = Some(span);
        }
    }

    pub(crate) fn push(&mut self, value: &[u8]) -> Span {
        self.push_with(|buffer| buffer.extend_from_slice(value))
    }

    /// Lets `write` append to the buffer and returns what it appended.
    pub(crate) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Span {
        let start = self.buffer.len();
        write(&mut self.buffer);
        Span {
            start,
            end: self.buffer.len(),
        }
    }

    /// Adds a header whose value is in the buffer already. The name is in lower case and no
    /// pseudo-header.
    pub(crate) fn header_span(&mut self, name: &[u8], value: Span) {
        let name = self.push(name);
        self.headers.push((name, value));
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        self.buffer.get(span.start..span.end).unwrap_or_default()
    }

    fn part(&self, part: Part) -> Option<&[u8]> {
        let span = (*self.parts.get(part as usize)?)?;
        Some(self.bytes(span))
    }

    /// Takes a request line apart that is in the buffer already.
    ///
    /// The method is what stands before the first space, the protocol what stands after the last
    /// one if it reads `HTTP/…`; the target is all between, spaces included, since attackers send
    /// those too. A line without a space (a TLS hello, `quit`) is a method and nothing else.
    pub(crate) fn set_request_line(&mut self, line: Span) {
        let bytes = self.bytes(line);
        let Some(method_len) = memchr::memchr(b' ', bytes) else {
            self.set(Part::Method, line);
            return;
        };
        let mut target = Span {
            start: line.start + method_len + 1,
            end: line.end,
        };
        let mut protocol = None;
        let rest = self.bytes(target);
        if let Some(space) = memchr::memrchr(b' ', rest) {
            if rest[space + 1..].starts_with(b"HTTP/") {
                protocol = Some(Span {
                    start: target.start + space + 1,
                    end: target.end,
                });
                target.end = target.start + space;
            }
        } else if rest.starts_with(b"HTTP/") {
            protocol = Some(target);
            target.end = target.start;
        }
        self.set(
            Part::Method,
            Span {
                start: line.start,
                end: line.start + method_len,
            },
        );
        if let Some(protocol) = protocol {
            self.set(Part::Protocol, protocol);
        }
        self.set_target(target);
    }

    /// Sets the target, taking an absolute form apart. The method must be set already.
    pub(crate) fn set_target(&mut self, target: Span) {
        let bytes = self.bytes(target);
        if matches!(bytes.first(), None | Some(b'/' | b'*')) {
            self.set(Part::Target, target);
            return;
        }
        if self.method() == b"CONNECT" {
            self.set(Part::Authority, target);
            self.set(
                Part::Target,
                Span {
                    start: target.end,
                    end: target.end,
                },
            );
            return;
        }
        let Some((scheme_len, authority_at)) = http_scheme(bytes) else {
            self.set(Part::Target, target);
            return;
        };
        let rest = &bytes[authority_at..];
        let authority_len = rest
            .iter()
            .position(|b| matches!(b, b'/' | b'?' | b'#'))
            .unwrap_or(rest.len());
        let starts_with_slash = rest.get(authority_len) == Some(&b'/');
        let authority = Span {
            start: target.start + authority_at,
            end: target.start + authority_at + authority_len,
        };
        let mut path = Span {
            start: authority.end,
            end: target.end,
        };
        if !starts_with_slash {
            let (from, to) = (path.start, path.end);
            path = self.push_with(|buffer| {
                buffer.push(b'/');
                buffer.extend_from_within(from..to);
            });
        }
        self.set(
            Part::Scheme,
            Span {
                start: target.start,
                end: target.start + scheme_len,
            },
        );
        self.set(Part::Authority, authority);
        self.set(Part::Target, path);
    }
}

/// The length of a URL's scheme and where its authority starts, if the scheme is HTTP's.
fn http_scheme(url: &[u8]) -> Option<(usize, usize)> {
    [&b"http"[..], b"https"].into_iter().find_map(|scheme| {
        let (head, rest) = url.split_at_checked(scheme.len())?;
        let is_it = head.eq_ignore_ascii_case(scheme) && rest.starts_with(b"://");
        is_it.then_some((scheme.len(), scheme.len() + 3))
    })
}

/// Reads `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` and `[2001:db8::1]:80`.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']')?.0.parse().ok();
    }
    text.parse().ok().or_else(|| {
        text.rsplit_once(':')?
            .0
            .parse::<std::net::Ipv4Addr>()
            .ok()
            .map(IpAddr::V4)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &[u8]) -> Record {
        let mut record = Record::default();
        let span = record.push(text);
        record.set_request_line(span);
        record
    }

    #[test]
    fn a_request_line_is_taken_apart_however_odd_it_is() {
        type Parts = (
            &'static [u8],
            &'static [u8],
            Option<&'static [u8]>,
            Option<&'static [u8]>,
        );
        let cases: &[(&[u8], Parts)] = &[
            (
                b"GET /a?b HTTP/1.1",
                (b"GET", b"/a?b", None, Some(b"HTTP/1.1")),
            ),
            (
                b"GET /a b  c HTTP/1.1",
                (b"GET", b"/a b  c", None, Some(b"HTTP/1.1")),
            ),
            (b"GET /a", (b"GET", b"/a", None, None)),
            (b"GET", (b"GET", b"", None, None)),
            (b"", (b"", b"", None, None)),
            (b"-", (b"-", b"", None, None)),
            (b"\x16\x03\x01", (b"\x16\x03\x01", b"", None, None)),
            (b"GET HTTP/1.1", (b"GET", b"", None, Some(b"HTTP/1.1"))),
            (
                b"OPTIONS * HTTP/1.0",
                (b"OPTIONS", b"*", None, Some(b"HTTP/1.0")),
            ),
            (
                b"GET http://h:81/p HTTP/1.1",
                (b"GET", b"/p", Some(b"h:81"), Some(b"HTTP/1.1")),
            ),
            (
                b"GET HTTPS://h?q HTTP/1.1",
                (b"GET", b"/?q", Some(b"h"), Some(b"HTTP/1.1")),
            ),
            (
                b"GET http://h HTTP/1.1",
                (b"GET", b"/", Some(b"h"), Some(b"HTTP/1.1")),
            ),
            (
                b"GET a/b HTTP/1.1",
                (b"GET", b"a/b", None, Some(b"HTTP/1.1")),
            ),
            (
                b"CONNECT h:443 HTTP/1.1",
                (b"CONNECT", b"", Some(b"h:443"), Some(b"HTTP/1.1")),
            ),
            (
                b"GET /\xff\x00 HTTP/1.1",
                (b"GET", b"/\xff\x00", None, Some(b"HTTP/1.1")),
            ),
        ];
        for (text, (method, target, authority, protocol)) in cases {
            let record = line(text);
            let got = (
                record.method(),
                record.target(),
                record.authority(),
                record.protocol(),
            );
            assert_eq!(
                got,
                (*method, *target, *authority, *protocol),
                "{}",
                text.escape_ascii()
            );
        }
    }

    #[test]
    fn a_host_header_is_the_authority_and_a_second_one_a_header() {
        let mut record = Record::new(b"GET", b"/");
        record.push_header(b"Host", b"a");
        record.push_header(b"HOST", b"b");
        record.push_header(b":authority", b"c");
        record.push_header(b":path", b"/never");
        assert_eq!(record.authority(), Some(&b"c"[..]));
        assert_eq!(
            record.headers().collect::<Vec<_>>(),
            [(&b"host"[..], &b"b"[..])]
        );
        assert_eq!(record.target(), b"/");
    }

    #[test]
    fn an_address_is_read_with_or_without_its_port() {
        for text in [
            "192.0.2.1",
            "192.0.2.1:80",
            "2001:db8::1",
            "[2001:db8::1]:80",
            "[2001:db8::1]",
        ] {
            assert!(parse_address(text.as_bytes()).is_some(), "{text}");
        }
        for text in ["", "host", "host:80", "[", "[]", "192.0.2.256", "\u{e9}"] {
            assert_eq!(parse_address(text.as_bytes()), None, "{text}");
        }
    }
}
