//! Header maps as Envoy keeps them.
//!
//! Names and values come in as a codec would hand them over; out come the lines a plugin sees. The one
//! idea: Envoy keeps a fixed list of well-known names that exist at most once, so a second `user-agent`
//! is joined to the first (`a,b`), while a second `cookie` or `x-anything` stays a line of its own and a
//! single get returns only the first line. Pseudo headers stand in front, names are lower case, and `host`
//! is `:authority` in a request.
//!
//! The bytes of one map live in one buffer that is kept from exchange to exchange, so loading a request
//! allocates nothing once the buffer has grown to the traffic's usual size.

use super::pairs;

/// The slot of a lower-case name that Envoy stores in a place of its own, where a duplicate is joined with a
/// comma; zero for a name that may repeat.
///
/// Which names have a slot depends on the extensions linked into Envoy. These are the ones that a client can
/// send, as found by sending each twice to Envoy 1.40.0; `range`, `accept-language`, `forwarded`, `from`,
/// `x-real-ip` and `traceparent` are among those that repeat.
fn slot(name: &[u8]) -> u8 {
    match name {
        b":authority" => 1,
        b":method" => 2,
        b":path" => 3,
        b":protocol" => 4,
        b":scheme" => 5,
        b":status" => 6,
        b"accept" => 7,
        b"accept-encoding" => 8,
        b"access-control-request-headers" => 9,
        b"access-control-request-method" => 10,
        b"authorization" => 11,
        b"cache-control" => 12,
        b"connection" => 13,
        b"content-encoding" => 14,
        b"content-length" => 15,
        b"content-type" => 16,
        b"expect" => 17,
        b"grpc-timeout" => 18,
        b"if-match" => 19,
        b"if-modified-since" => 20,
        b"if-none-match" => 21,
        b"if-range" => 22,
        b"keep-alive" => 23,
        b"origin" => 24,
        b"pragma" => 25,
        b"proxy-connection" => 26,
        b"referer" => 27,
        b"te" => 28,
        b"transfer-encoding" => 29,
        b"upgrade" => 30,
        b"user-agent" => 31,
        b"via" => 32,
        b"x-envoy-external-address" => 33,
        b"x-envoy-original-path" => 34,
        b"x-forwarded-client-cert" => 35,
        b"x-forwarded-for" => 36,
        b"x-forwarded-host" => 37,
        b"x-forwarded-port" => 38,
        b"x-forwarded-proto" => 39,
        b"x-request-id" => 40,
        _ => 0,
    }
}

/// Where in the buffer some bytes are.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
}

#[derive(Debug)]
struct Line {
    name: Span,
    value: Value,
    /// See [`slot`].
    slot: u8,
}

#[derive(Debug)]
enum Value {
    Span(Span),
    /// A joined value: it grows, so it has a buffer of its own and joining stays linear.
    Joined(Vec<u8>),
}

/// A header or trailer map with Envoy's rules for duplicates, order and case.
#[derive(Debug, Default)]
pub struct HeaderMap {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    pseudo: usize,
    /// A bit per [`slot`] that is taken, so that most adds need no search.
    present: u64,
    /// In a request, `host` means `:authority`.
    request: bool,
}

impl HeaderMap {
    pub(super) fn reset(&mut self, request: bool) {
        self.bytes.clear();
        self.lines.clear();
        self.pseudo = 0;
        self.present = 0;
        self.request = request;
    }

    /// Fills the map anew from `headers`, in their order.
    pub(super) fn load<B: AsRef<[u8]>>(&mut self, headers: &[(B, B)], request: bool) {
        self.reset(request);
        for (name, value) in headers {
            self.add(name.as_ref(), value.as_ref());
        }
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no line at all.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Bytes of all names and values, which is what `proxy_get_header_map_size` reports.
    pub fn byte_size(&self) -> usize {
        self.iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }

    /// The lines in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.lines
            .iter()
            .map(|line| (self.name(line), self.value(line)))
    }

    fn slice(&self, span: Span) -> &[u8] {
        self.bytes.get(span.start..span.end).unwrap_or_default()
    }

    fn name(&self, line: &Line) -> &[u8] {
        self.slice(line.name)
    }

    fn value<'a>(&'a self, line: &'a Line) -> &'a [u8] {
        match &line.value {
            Value::Span(span) => self.slice(*span),
            Value::Joined(bytes) => bytes,
        }
    }

    fn canonical<'a>(&self, name: &'a [u8]) -> &'a [u8] {
        if self.request && name.eq_ignore_ascii_case(b"host") {
            b":authority"
        } else {
            name
        }
    }

    /// The value of the first line called `name`, in any case.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let name = self.canonical(name);
        let line = self
            .lines
            .iter()
            .find(|line| self.name(line).eq_ignore_ascii_case(name))?;
        Some(self.value(line))
    }

    /// Every value called `name`, joined with commas: what Envoy's `request.headers.<name>` property gives.
    pub(super) fn get_all(&self, name: &[u8]) -> Option<Vec<u8>> {
        let name = self.canonical(name);
        let mut found: Option<Vec<u8>> = None;
        for (candidate, value) in self.iter() {
            if candidate.eq_ignore_ascii_case(name) {
                match &mut found {
                    None => found = Some(value.to_vec()),
                    Some(joined) => {
                        joined.push(b',');
                        joined.extend_from_slice(value);
                    }
                }
            }
        }
        found
    }

    /// Adds a line, or joins it to the one that is there.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        let canonical = self.canonical(name);
        self.bytes
            .extend(canonical.iter().map(u8::to_ascii_lowercase));
        let name = Span {
            start,
            end: self.bytes.len(),
        };
        let slot = slot(self.slice(name));
        if slot != 0 {
            let bit = 1u64 << slot;
            if self.present & bit != 0 {
                self.bytes.truncate(start);
                self.join(slot, value);
                return;
            }
            self.present |= bit;
        }
        self.bytes.extend_from_slice(value);
        let line = Line {
            name,
            value: Value::Span(Span {
                start: name.end,
                end: self.bytes.len(),
            }),
            slot,
        };
        if self.slice(name).first() == Some(&b':') {
            self.lines.insert(self.pseudo, line);
            self.pseudo += 1;
        } else {
            self.lines.push(line);
        }
    }

    fn join(&mut self, slot: u8, value: &[u8]) {
        let bytes = &self.bytes;
        if let Some(line) = self.lines.iter_mut().find(|line| line.slot == slot) {
            if let Value::Span(span) = line.value {
                line.value =
                    Value::Joined(bytes.get(span.start..span.end).unwrap_or_default().to_vec());
            }
            if let Value::Joined(joined) = &mut line.value {
                // Envoy puts the comma only between two values that both have bytes.
                if !joined.is_empty() && !value.is_empty() {
                    joined.push(b',');
                }
                joined.extend_from_slice(value);
            }
        }
    }

    /// Removes every line called `name`.
    pub fn remove(&mut self, name: &[u8]) {
        let name = self.canonical(name).to_ascii_lowercase();
        let Self {
            bytes,
            lines,
            present,
            pseudo,
            ..
        } = self;
        lines.retain(|line| bytes.get(line.name.start..line.name.end) != Some(name.as_slice()));
        *pseudo = lines
            .iter()
            .take_while(|line| bytes.get(line.name.start) == Some(&b':'))
            .count();
        *present &= !(1u64 << slot(&name));
    }

    /// Leaves exactly one line called `name`, in the place of the first one if there was one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let lower = self.canonical(name).to_ascii_lowercase();
        let first = self.lines.iter().position(|line| self.name(line) == lower);
        let Some(first) = first else {
            self.add(name, value);
            return;
        };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        let span = Span {
            start,
            end: self.bytes.len(),
        };
        if let Some(line) = self.lines.get_mut(first) {
            line.value = Value::Span(span);
        }
        let bytes = &self.bytes;
        let mut at = 0;
        self.lines.retain(|line| {
            at += 1;
            at - 1 <= first || bytes.get(line.name.start..line.name.end) != Some(lower.as_slice())
        });
        self.pseudo = self
            .lines
            .iter()
            .take_while(|line| self.name(line).first() == Some(&b':'))
            .count();
    }

    /// Appends the map in the ABI's pairs format.
    pub(super) fn write_pairs(&self, out: &mut Vec<u8>) {
        pairs::write(self.iter(), out);
    }

    /// An owned copy of the lines whose name does not start with a colon.
    pub(super) fn regular_lines(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.iter()
            .filter(|(name, _)| name.first() != Some(&b':'))
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::default();
        map.load(lines, true);
        map
    }

    fn lines(map: &HeaderMap) -> Vec<(String, String)> {
        map.iter()
            .map(|(name, value)| {
                (
                    String::from_utf8_lossy(name).into_owned(),
                    String::from_utf8_lossy(value).into_owned(),
                )
            })
            .collect()
    }

    fn expect(map: &HeaderMap, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect();
        assert_eq!(lines(map), expected);
    }

    #[test]
    fn known_names_join_and_others_repeat() {
        let map = map(&[
            ("User-Agent", "a"),
            ("cookie", "x=1"),
            ("user-agent", "b"),
            ("Cookie", "y=2"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("referer", "r"),
            ("Referer", ""),
        ]);
        expect(
            &map,
            &[
                ("user-agent", "a,b"),
                ("cookie", "x=1"),
                ("cookie", "y=2"),
                ("x-a", "1"),
                ("x-a", "2"),
                ("referer", "r"),
            ],
        );
        assert_eq!(map.get(b"COOKIE"), Some(b"x=1".as_slice()));
        assert_eq!(map.get_all(b"cookie"), Some(b"x=1,y=2".to_vec()));
        assert_eq!(map.get(b"absent"), None);
    }

    #[test]
    fn the_names_that_repeat_in_envoy_repeat() {
        let joined = "accept authorization user-agent referer via accept-encoding cache-control origin \
            x-forwarded-for x-forwarded-host content-type grpc-timeout x-request-id pragma if-none-match \
            access-control-request-method if-match if-modified-since if-range content-encoding";
        let repeating = "cookie x-a range accept-language from dnt x-real-ip forwarded max-forwards warning date \
            proxy-authorization sec-fetch-site trailer x-b3-traceid traceparent";
        let mut checked = 0;
        for (names, lines) in [(joined, 1), (repeating, 2)] {
            for name in names.split_whitespace() {
                assert_eq!(map(&[(name, "1"), (name, "2")]).len(), lines, "{name}");
                checked += 1;
            }
        }
        assert_eq!(checked, 36);
    }

    #[test]
    fn pseudo_headers_stand_in_front_and_host_is_one_of_them() {
        let mut map = map(&[
            ("accept", "*/*"),
            (":path", "/"),
            ("Host", "a"),
            ("host", "b"),
        ]);
        expect(
            &map,
            &[(":path", "/"), (":authority", "a,b"), ("accept", "*/*")],
        );
        map.remove(b":path");
        map.add(b":method", b"GET");
        expect(
            &map,
            &[(":authority", "a,b"), (":method", "GET"), ("accept", "*/*")],
        );
        assert_eq!(map.get(b"host"), Some(b"a,b".as_slice()));
    }

    #[test]
    fn set_and_remove_leave_one_and_none() {
        let mut map = map(&[("x", "1"), ("y", "2"), ("x", "3"), ("user-agent", "a")]);
        map.set(b"X", b"4");
        expect(&map, &[("x", "4"), ("y", "2"), ("user-agent", "a")]);
        map.remove(b"User-Agent");
        map.add(b"user-agent", b"b");
        map.set(b"z", b"5");
        expect(
            &map,
            &[("x", "4"), ("y", "2"), ("user-agent", "b"), ("z", "5")],
        );
        assert_eq!(map.byte_size(), 2 + 2 + 11 + 2);
    }

    #[test]
    fn joining_ten_thousand_lines_stays_linear() {
        let mut map = HeaderMap::default();
        map.reset(true);
        for _ in 0..10_000 {
            map.add(b"user-agent", b"0123456789");
            map.add(b"referer", b"0123456789");
        }
        assert_eq!(map.len(), 2);
        assert_eq!(map.get(b"referer").unwrap().len(), 11 * 10_000 - 1);
        assert!(map.bytes.len() < 100);
    }
}
