//! A request's body as the parameters that an application reads from it.
//!
//! Takes in a body and the head that it came with. Gives out a query: whatever form the body has, its names and values
//! stand there as `name=value&…`, so that every rule about query parameters is asked about them as well.
//!
//! ```text
//! gzip'd? ──► inflated ──► UTF-16? ──► UTF-8 ──► form, JSON, parts, XML ──► a=1&b=%26&… ──► inspected as a query
//! ```
//!
//! | media type | what becomes a parameter |
//! |---|---|
//! | `application/x-www-form-urlencoded` | it is a query already |
//! | `application/json`, `…+json` | each string under its key; operators such as `$ne` as `key[$ne]` |
//! | `application/graphql` | the document, and each string literal; those in the strings of JSON as well |
//! | `multipart/…` | each part under its name, and the name of its file; of files that are no text, only embedded PHP |
//! | `application/xml`, `text/xml`, `…+xml` | texts, attributes, and the declaration of entities |
//! | none, `text/plain` | what the body looks like |
//! | any other | JSON and XML, if it begins like them, for many applications do not ask what it is called |
//!
//! Angle brackets are left out of passwords: markup in what is never shown does nothing.
//!
//! Streams (gRPC, events, JSON by the line) are not looked into, nor is what follows an upgrade. A body that breaks off or breaks
//! the rules of its form gives what there is. Time is linear in the body; memory is bounded by [`limits`].

mod charset;
mod coding;
pub(crate) mod inflate;
mod json;
mod media_type;
mod multipart;
mod xml;

use std::borrow::Cow;

use crate::decoded::{bounded_split, is_plain_name, split_pair, split_url};
use crate::field::Field;
use crate::headers::Headers;
use crate::inspect::Detection;
use crate::limits;
use crate::normalise::nested::is_json;
use crate::normalise::percent;

use charset::{Charset, Written};
use media_type::MediaType;

/// Media types of one request that are believed; it should have one.
const MEDIA_TYPES: usize = 4;

/// Bytes of a name that stand before each of its values: a longer one would be copied without end.
const NAME_BYTES: usize = 128;

/// Name of the header that stands for the text of a body, for rules that name `cs-body`.
pub const TEXT: &[u8] = b":body";

/// Name of the header that stands for the values of a body, for rules that name `cs-body.*`.
pub const VALUES: &[u8] = b":body-values";

/// A request whose query is what its body holds.
#[derive(Debug)]
pub struct Request<'a> {
    head: Headers<'a>,
    target: Vec<u8>,
    /// Where the query begins in the target.
    query: usize,
    text: Cow<'a, [u8]>,
    is_cut: bool,
}

impl<'a> Request<'a> {
    /// The request with this head and body; none if such bodies are not looked into.
    pub fn new(head: Headers<'a>, body: &'a [u8]) -> Option<Request<'a>> {
        let interest = interest(head);
        if interest == Interest::None {
            return None;
        }
        let codings = codings(head);
        let inflated = coding::is_coded(&codings)
            .then(|| coding::inflated(&codings, body))
            .flatten();
        // Most applications do not ask about codings of requests, and take a body that is no such thing for a plain one.
        let plain = is_printable(start_of(body));
        let mut query = Vec::with_capacity(body.len());
        let mut is_any = false;
        if plain || inflated.is_none() {
            if interest == Interest::Unclear && !is_worth_holding(head, body) {
                return None;
            }
            is_any |= parameters(head, body, &mut query);
        }
        if let Some(inflated) = &inflated {
            is_any |= parameters(head, &inflated.bytes, &mut query);
        }
        if !is_any {
            return None;
        }
        let (stem, _) = split_url(head.get(b":path").unwrap_or_default());
        let target = [stem, b"?", &query].concat();
        let (text, is_cut) = match inflated {
            Some(inflated) => (Cow::Owned(inflated.bytes), inflated.is_cut),
            None => (Cow::Borrowed(body), false),
        };
        Some(Request {
            head,
            query: stem.len() + 1,
            target,
            text,
            is_cut,
        })
    }

    /// Whether the body is longer than what was inflated of it.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The headers of the request whose query is the body, for [`Headers::Pairs`]: those of the head, since a rule may ask
    /// for one that must not be there.
    pub fn as_query(&self) -> Vec<(&[u8], &[u8])> {
        let target = self.target.as_slice();
        let headers = self.head.iter();
        headers
            .map(|(name, value)| (name, if name == b":path" { target } else { value }))
            .collect()
    }

    /// The headers of the request as it came, with the body behind them.
    pub fn beside_head(&self) -> Vec<(&[u8], &[u8])> {
        let values = self.target.get(self.query..).unwrap_or_default();
        let body: [(&[u8], &[u8]); 2] = [(TEXT, &self.text), (VALUES, values)];
        self.head.iter().chain(body).collect()
    }
}

/// Names what was found in the query of a [`Request`] for what it is.
pub fn name_field(detection: &mut Detection) {
    if let Some(evidence) = &mut detection.evidence {
        evidence.field = match evidence.field {
            Field::QueryValue => Field::BodyValue,
            Field::UriQuery | Field::Uri => Field::Body,
            other => other,
        };
    }
}

/// What is to be done with the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// It is inspected, so it is held back.
    Inspected,
    /// Its first bytes tell: [`is_worth_holding`].
    Unclear,
    /// It is left alone: a stream, or no body at all.
    None,
}

/// What is to be done with the body of a request with this head. What follows an upgrade is no body.
pub fn interest(head: Headers<'_>) -> Interest {
    if head.get(b"upgrade").is_some() || head.get(b":method") == Some(b"CONNECT") {
        return Interest::None;
    }
    if media_types(head).any(is_stream) {
        return Interest::None;
    }
    let codings = codings(head);
    let is_known = !coding::is_coded(&codings) || coding::is_known(&codings);
    match is_known && forms(head).next().is_some() {
        true => Interest::Inspected,
        false => Interest::Unclear,
    }
}

/// Whether a body of unclear interest, which begins so, is to be inspected.
pub fn is_worth_holding(head: Headers<'_>, start: &[u8]) -> bool {
    if forms(head).next().is_some() {
        // In a coding that is not undone. If it is in none after all, an application takes it as it is.
        return is_printable(start_of(start));
    }
    sniffed(start).is_some() && !media_types(head).any(|kind| kind.ends_with(b"svg+xml"))
}

/// Whether these first bytes of a body of unclear interest, which are not worth holding yet, may begin one that is: a client
/// may send white space, or half of `<?xml`, and the rest later.
pub fn may_become_worth_holding(head: Headers<'_>, start: &[u8]) -> bool {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    if forms(head).next().is_some() || start_of(start).len() < start.len() {
        return false;
    }
    let text = start.strip_prefix(MARK).unwrap_or(start);
    let text = text.trim_ascii_start();
    let doctype: &[u8] = b"<!DOCTYPE";
    MARK.starts_with(start)
        || b"<?xml".starts_with(text)
        || doctype.starts_with(text)
        || text.starts_with(doctype)
}

/// As many bytes as tell what begins with them.
fn start_of(body: &[u8]) -> &[u8] {
    const START: usize = 64;
    body.get(..START).unwrap_or(body)
}

fn is_printable(text: &[u8]) -> bool {
    let is_text = |byte: &u8| !byte.is_ascii_control() || byte.is_ascii_whitespace();
    let is_utf8 = match std::str::from_utf8(text) {
        Ok(_) => true,
        // Cut within a character.
        Err(error) => error.error_len().is_none(),
    };
    is_utf8 && text.iter().all(is_text)
}

/// The form that a body of another media type has all the same.
fn sniffed(start: &[u8]) -> Option<Form<'static>> {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    match start.trim_ascii_start() {
        [b'{' | b'[', ..] => Some(Form::Json),
        start if start.starts_with(b"<?xml") => Some(Form::Xml),
        // A page of HTML has one as well, without brackets.
        start if start.starts_with(b"<!DOCTYPE") => {
            memchr::memchr(b'[', start_of(start)).map(|_| Form::Xml)
        }
        _ => None,
    }
}

/// Media types in which a connection talks for as long as it likes, in both directions.
fn is_stream(kind: MediaType<'_>) -> bool {
    let prefixes: [&[u8]; 3] = [
        b"application/grpc",
        b"application/connect",
        b"text/event-stream",
    ];
    let names: [&[u8]; 4] = [
        b"application/x-ndjson",
        b"application/ndjson",
        b"application/json-seq",
        b"application/stream+json",
    ];
    prefixes.iter().any(|prefix| kind.starts_with(prefix)) || names.iter().any(|name| kind.is(name))
}

fn values<'a>(head: Headers<'a>, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let headers = head.iter();
    headers.filter_map(move |(known, value)| known.eq_ignore_ascii_case(name).then_some(value))
}

/// Media types of a request. One with two is read by one of them, and who knows by which.
fn media_types<'a>(head: Headers<'a>) -> impl Iterator<Item = MediaType<'a>> {
    let lines = values(head, b"content-type");
    let types = lines.flat_map(|line| line.split(|byte| *byte == b','));
    types.take(MEDIA_TYPES).map(MediaType::of)
}

fn codings<'a>(head: Headers<'a>) -> Cow<'a, [u8]> {
    let mut lines = values(head, b"content-encoding");
    let first = lines.next().unwrap_or_default();
    match lines.next() {
        None => Cow::Borrowed(first),
        Some(second) => {
            let mut all = [first, b",", second].concat();
            for line in lines {
                all.push(b',');
                all.extend_from_slice(line);
            }
            Cow::Owned(all)
        }
    }
}

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form<'a> {
    Query,
    Json,
    Graphql,
    Multipart(MediaType<'a>),
    Xml,
    Text,
}

impl<'a> Form<'a> {
    fn of(kind: MediaType<'a>) -> Option<Form<'a>> {
        if kind.is(b"application/x-www-form-urlencoded") {
            Some(Form::Query)
        } else if kind.is(b"application/json")
            || kind.is(b"text/json")
            || kind.ends_with(b"+json")
            || kind.starts_with(b"application/x-amz-json-")
            || kind.is(b"application/csp-report")
        {
            Some(Form::Json)
        } else if kind.is(b"application/graphql") {
            Some(Form::Graphql)
        } else if kind.starts_with(b"multipart/") {
            Some(Form::Multipart(kind))
        } else if kind.is(b"application/xml")
            || kind.is(b"text/xml")
            || kind.ends_with(b"+xml") && !kind.ends_with(b"svg+xml")
        {
            Some(Form::Xml)
        } else if kind.kind.is_empty() || kind.is(b"text/plain") {
            Some(Form::Text)
        } else {
            None
        }
    }
}

/// The forms that a request's media types say, each once.
fn forms<'a>(head: Headers<'a>) -> impl Iterator<Item = Form<'a>> {
    let mut seen: [Option<Form<'a>>; MEDIA_TYPES] = [None; MEDIA_TYPES];
    let kinds = media_types(head).chain(
        values(head, b"content-type")
            .next()
            .is_none()
            .then(|| MediaType::of(b"")),
    );
    let mut forms = kinds.filter_map(Form::of);
    std::iter::from_fn(move || {
        loop {
            let form = Some(forms.next()?);
            if !seen.contains(&form) {
                if let Some(place) = seen.iter_mut().find(|place| place.is_none()) {
                    *place = form;
                }
                return form;
            }
        }
    })
}

/// Appends the parameters of `body` to `query`, in each way in which it may be meant. Returns whether there is one.
fn parameters(head: Headers<'_>, body: &[u8], query: &mut Vec<u8>) -> bool {
    let declared = media_types(head).find_map(|kind| kind.parameters(b"charset").next());
    let mut is_any = false;
    let mut add = |body: &[u8]| {
        let mut in_form = |form| {
            append(form, body, query);
            is_any = true;
        };
        let mut is_said = false;
        for form in forms(head) {
            in_form(form);
            is_said = true;
        }
        if !is_said && let Some(form) = sniffed(body) {
            in_form(form);
        }
    };
    match charset::written(declared, body) {
        Written::Plain => add(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)),
        Written::In(charset) => add(&charset.decode(body)),
        Written::PerhapsIn(charset) => {
            add(body);
            add(&decoded(charset, body));
        }
    }
    is_any
}

/// A body in a charset in which nothing of ASCII is where it was. The encoding of a form may be around that, or within.
fn decoded(charset: Charset, body: &[u8]) -> Vec<u8> {
    if charset != Charset::Ebcdic || memchr::memchr(b'=', body).is_none() {
        return charset.decode(body);
    }
    let mut query = Vec::with_capacity(body.len());
    for field in body.split(|byte| *byte == b'&') {
        let (name, value) = split_pair(field);
        let text = |text| charset.decode(&percent::decoded(text, true));
        pair(&text(name.unwrap_or_default()), &text(value), &mut query);
    }
    query
}

fn append(form: Form<'_>, body: &[u8], query: &mut Vec<u8>) {
    match form {
        Form::Query => form_fields(body, query),
        Form::Json => json::json(body, query),
        Form::Graphql => json::graphql(body, query),
        Form::Multipart(kind) => {
            let boundaries = kind.parameters(b"boundary").take(MEDIA_TYPES);
            multipart::multipart(boundaries, body, query);
        }
        Form::Xml => xml::xml(body, query),
        Form::Text if is_json(body) => json::json(body, query),
        Form::Text if body.trim_ascii_start().starts_with(b"<?xml") => xml::xml(body, query),
        Form::Text if is_query(body) => form_fields(body, query),
        Form::Text => pair(b"", body, query),
    }
}

/// A form is a query already, but for its passwords.
fn form_fields(body: &[u8], query: &mut Vec<u8>) {
    for field in body.split(|byte| *byte == b'&') {
        let (name, value) = split_pair(field);
        match name.filter(|name| is_password(name)) {
            Some(name) => {
                pair(name, &percent::decoded(value, true), query);
            }
            None => {
                if !query.is_empty() {
                    query.push(b'&');
                }
                query.extend_from_slice(field);
            }
        }
    }
}

/// Whether a field's name says that it is a password. One is compared and never shown, so that markup in it does
/// nothing; and it is what people are told to put all kinds of signs into.
fn is_password(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let has = |word: &[u8]| memchr::memmem::find(&name, word).is_some();
    let is_pass = name
        .strip_prefix(b"pass")
        .is_some_and(|rest| rest.iter().all(u8::is_ascii_digit));
    is_pass || has(b"passw") || has(b"passphrase") || has(b"pwd")
}

/// Whether a text without a media type is `name=value&…`.
fn is_query(body: &[u8]) -> bool {
    let mut pairs = bounded_split(body, b'&', &mut false);
    pairs.all(|pair| {
        split_pair(pair)
            .0
            .is_some_and(|name| !name.is_empty() && is_plain_name(name))
    })
}

/// Appends a parameter, such that undoing a query's encoding gives these very bytes.
fn pair(name: &[u8], value: &[u8], query: &mut Vec<u8>) {
    // What is left over would only be cut off later.
    if query.len() > limits::FIELD_BYTES {
        return;
    }
    if !query.is_empty() {
        query.push(b'&');
    }
    encode(name, b"%&+=", query);
    query.push(b'=');
    if is_password(name) {
        let value: Vec<u8> = value
            .iter()
            .copied()
            .filter(|byte| !b"<>".contains(byte))
            .collect();
        encode(&value, b"%&+", query);
    } else {
        encode(value, b"%&+", query);
    }
}

fn encode(text: &[u8], special: &[u8], query: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for &byte in text {
        if special.contains(&byte) {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
            query.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        } else {
            query.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    type Head<'a> = &'a [(&'a [u8], &'a [u8])];

    fn bytes(content_type: &[u8], body: &[u8]) -> Vec<u8> {
        let typed: Head<'_> = &[(b"content-type", content_type)];
        let head = if content_type.is_empty() { &[] } else { typed };
        let mut out = Vec::new();
        parameters(Headers::Pairs(head), body, &mut out);
        out
    }

    fn query(content_type: &str, body: &str) -> String {
        let out = bytes(content_type.as_bytes(), body.as_bytes());
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn every_form_becomes_a_query() {
        let upload = "--X\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\na&b\r\n--X\r\n\
            Content-Disposition: form-data; name=\"f\"; filename=\"a.php\"\r\nContent-Type: image/png\r\n\r\n<?php 1+1;\r\n--X--\r\n";
        let cases = [
            (
                "application/x-www-form-urlencoded",
                "a=1&b=%27x",
                "a=1&b=%27x",
            ),
            (
                "Application/JSON; charset=utf-8",
                r#"{"a":"1","b":{"c":["x","y=&%"],"d":2}}"#,
                "a=1&c=x&c=y=%26%25",
            ),
            (
                "application/json",
                r#"{"__proto__":{"admin":true}}"#,
                "__proto__=",
            ),
            (
                "application/json",
                r#"{"constructor":{"prototype":{"a":1}}}"#,
                "constructor[prototype]=",
            ),
            (
                "application/json",
                r#"{"user":{"$ne":""}}"#,
                "user[$ne]=&user[$ne]=",
            ),
            ("application/vnd.api+json", r#"["a","b"#, "=a&=b"),
            (
                "multipart/form-data; boundary=X",
                upload,
                "title=a%26b&f=a.php&f=<?php 1%2b1;",
            ),
            (
                "multipart/form-data; boundary=\"X\"",
                upload,
                "title=a%26b&f=a.php&f=<?php 1%2b1;",
            ),
            (
                "text/xml",
                "<?xml version='1.0'?><a b=\"c\" d='e'>t<f/>&lt;<![CDATA[<g>]]><!-- h --></a>",
                "version=1.0&b=c&d=e&=t&=%26lt;<g>",
            ),
            (
                "application/soap+xml",
                "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>",
                "=<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]&=>&=%26x;",
            ),
            ("", r#" {"a":"b"} "#, "a=b"),
            ("", "a=b&c=d", "a=b&c=d"),
            ("text/plain", "1' or '1'='1", "=1' or '1'='1"),
            (
                "application/x-www-form-urlencoded",
                "user_pwd=%3Ci%3E%26%27+or+1&Pass1=<b>&passage=<b>",
                "user_pwd=i%26' or 1&Pass1=b&passage=<b>",
            ),
            (
                "application/json",
                r#"{"password":"<a>\"b"}"#,
                "password=a\"b",
            ),
        ];
        for (content_type, body, want) in cases {
            assert_eq!(query(content_type, body), want, "{content_type} {body}");
        }
    }

    #[test]
    fn tricks_with_json_hide_nothing() {
        let cases = [
            (
                "{'a': 'it\\'s \"b', /* \"c */ \"a\": \"2\", // \"d\n\"e\":\"f\",}",
                "a=it's \"b&a=2&e=f",
            ),
            ("{\"a\":{\"b\":\"1\"},\"a\":\"2\"}", "b=1&a=2"),
        ];
        for (body, want) in cases {
            assert_eq!(query("application/json", body), want, "{body}");
        }
        assert_eq!(query("application/json", &"[".repeat(5_000)), "");
        let deep = format!("{}\"x\"{}", "{\"k\":".repeat(1_000), "}".repeat(1_000));
        assert_eq!(query("application/json", &deep), "k=x");
    }

    #[test]
    fn literals_of_graphql_are_values_of_their_own() {
        let document = "query { user(id: \"1' or '1'='1\") { name } # \"no\n note(text: \"\"\"a \"b\" c\"\"\") }";
        let literals = "&=1' or '1'='1&=a \"b\" c";
        assert!(query("application/graphql", document).ends_with(literals));
        let json = serde_json::json!({"query": document, "variables": {"id": "2"}}).to_string();
        let got = query("application/json", &json);
        assert!(got.contains(literals), "{got}");
        assert!(got.ends_with("&id=2"), "{got}");
        // What only begins like one is a text.
        let json = serde_json::json!({"note": "query the \"shop\""}).to_string();
        assert_eq!(query("application/json", &json), "note=query the \"shop\"");
    }

    #[test]
    fn tricks_with_parts_hide_nothing() {
        let part = |head: &str, content: &str| {
            format!("--X\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n")
        };
        let x = "multipart/form-data; boundary=X";
        let nested = "--Y\r\nContent-Disposition: attachment; filename=a.php\r\n\r\nb\r\n--Y--";
        let cases: [(&str, String, &str); 13] = [
            // No last line; things behind the last line.
            (x, part("name=a", "b"), "a=b"),
            (
                x,
                part("name=a", "b") + "--X--\r\n" + &part("name=c", "d"),
                "a=b&c=d",
            ),
            // Two boundaries, of which only one is there; one that is not there; none at all.
            (
                "multipart/form-data; boundary=W; boundary=X",
                part("name=a", "b"),
                "a=b",
            ),
            (
                "multipart/form-data; boundary=W",
                part("name=a", "b"),
                "a=b",
            ),
            ("multipart/form-data", part("name=a", "b"), "a=b"),
            ("multipart/form-data", "a'b".into(), "=a'b"),
            // The boundary within a value, or as the beginning of a longer one.
            (
                x,
                part("name=a", "1'/*--X*/or 1\r\n--Xyz"),
                "a=1'/*--X*/or 1\r\n--Xyz",
            ),
            // Names in any spelling.
            (
                x,
                part("NAME = 'a' ; FileName=\"b\\\".php\"", "c"),
                "a=b\\\".php&a=c",
            ),
            (
                x,
                part("filename=b.txt; filename=b.php; name=a", ""),
                "a=b.txt&a=b.php&a=",
            ),
            (
                x,
                part("name=a; filename*=UTF-8''%2e%2e%2fb.php", "c"),
                "a=../b.php&a=c",
            ),
            (x, part("name=a;\r\n\tfilename=b.php", "c"), "a=b.php&a=c"),
            (
                x,
                part(
                    "name=a\r\nContent-Type: multipart/mixed; boundary=Y",
                    nested,
                ),
                "=a.php&=b",
            ),
            ("multipart/mixed; boundary=X", part("name=a", "b"), "a=b"),
        ];
        for (content_type, body, want) in cases {
            assert_eq!(query(content_type, &body), want, "{content_type} {body}");
        }
    }

    #[test]
    fn a_text_in_xml_is_one_however_it_is_cut() {
        let body = "<a>1' un<!-- x -->ion<![CDATA[ select]]> 2<b/>3</a>";
        assert_eq!(query("text/xml", body), "=1' union select 2&=3");
    }

    #[test]
    fn charsets_are_undone_where_they_are_and_where_they_are_said_to_be() {
        let wide: Vec<u8> = r#"{"a":"b"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let cases: [(&[u8], &[u8], &[u8]); 6] = [
            (b"application/json", &wide, b"a=b"),
            (b"application/json", b"\xef\xbb\xbf{\"a\":\"b\"}", b"a=b"),
            // A charset that is a lie leaves the text in sight.
            (
                b"application/x-www-form-urlencoded; charset=utf-16le",
                b"id=1'--",
                "id=1'--&\u{6469}\u{313d}\u{2d27}".as_bytes(),
            ),
            (
                b"application/x-www-form-urlencoded; charset=ibm037",
                b"%89%84=%7D%40%96%99",
                b"%89%84=%7D%40%96%99&id=' or",
            ),
            (
                b"application/x-www-form-urlencoded; charset=ibm037",
                b"\x89\x84\x7e\x7d\x40\x96\x99",
                b"\x89\x84\x7e\x7d\x40\x96\x99&id=' or",
            ),
            (b"text/plain; charset=utf-8", b"a=b", b"a=b"),
        ];
        for (content_type, body, want) in cases {
            let got = bytes(content_type, body);
            assert_eq!(
                String::from_utf8_lossy(&got),
                String::from_utf8_lossy(want),
                "{}",
                String::from_utf8_lossy(content_type)
            );
        }
    }

    #[test]
    fn two_media_types_are_both_believed() {
        let heads: [Head<'_>; 2] = [
            &[
                (b"content-type", b"text/plain"),
                (b"Content-Type", b"application/json"),
            ],
            &[(b"content-type", b"application/json, text/plain")],
        ];
        for head in heads {
            let mut out = Vec::new();
            parameters(Headers::Pairs(head), br#"{"a":"b"} "#, &mut out);
            assert_eq!(out, b"a=b&a=b");
        }
    }

    #[test]
    fn what_is_looked_into_is_told_by_the_head_and_the_first_bytes() {
        use Interest::{Inspected, None, Unclear};
        let json: (&[u8], &[u8]) = (b"content-type", b"application/json");
        let kind = |kind: &'static [u8]| [(&b"content-type"[..], kind)];
        let heads: [(Head<'_>, Interest); 11] = [
            (&[], Inspected),
            (&[json], Inspected),
            (&[json, (b"content-encoding", b"identity")], Inspected),
            (&[json, (b"content-encoding", b"gzip")], Inspected),
            (&[json, (b"content-encoding", b"br")], Unclear),
            (&[(b"upgrade", b"websocket")], None),
            (&[(b":method", b"CONNECT")], None),
            (&kind(b"application/grpc+proto"), None),
            (&kind(b"application/x-ndjson"), None),
            (&kind(b"application/octet-stream"), Unclear),
            (&kind(b"image/svg+xml"), Unclear),
        ];
        for (head, want) in heads {
            assert_eq!(interest(Headers::Pairs(head)), want, "{head:?}");
        }
        let brotli: Head<'_> = &[json, (b"content-encoding", b"br")];
        let page = b"<!DOCTYPE html>                                                 [a]";
        let starts: [(Head<'_>, &[u8], bool); 9] = [
            (brotli, b"\x0b\x02\x80", false),
            (brotli, b"{\"a\"", true),
            (&kind(b"application/octet-stream"), b"\n {\"a\"", true),
            (&kind(b"application/octet-stream"), b"PK\x03\x04", false),
            (&kind(b"application/octet-stream"), b"id=1", false),
            (&kind(b"image/png"), b"<?xml version", true),
            (&kind(b"image/svg+xml"), b"<?xml version", false),
            (&kind(b"text/html"), page, false),
            (&kind(b"text/html"), b"<!DOCTYPE a [<!ENTITY", true),
        ];
        for (head, start, want) in starts {
            let got = is_worth_holding(Headers::Pairs(head), start);
            assert_eq!(got, want, "{head:?} {start:?}");
            // However few bytes come first, they do not say that the rest is not worth it.
            for end in (0..start.len()).filter(|_| want) {
                let start = start.get(..end).unwrap_or_default();
                let head = Headers::Pairs(head);
                assert!(
                    is_worth_holding(head, start) || may_become_worth_holding(head, start),
                    "{start:?}"
                );
            }
        }
        let open: [(&[u8], bool); 7] = [
            (b"\xef\xbb", true),
            (b"\xef\xbb\xbf \n", true),
            (b" <", true),
            (b"<!DOCTYPE a ", true),
            (&[b' '; 65], false),
            (b"<html", false),
            (b"PK", false),
        ];
        for (start, want) in open {
            let kind = kind(b"application/octet-stream");
            let got = may_become_worth_holding(Headers::Pairs(&kind), start);
            assert_eq!(got, want, "{start:?}");
        }
    }

    #[test]
    fn a_compressed_body_is_inflated_and_a_plain_one_that_says_so_is_read() {
        let head: Head<'_> = &[
            (b":path", b"/a?b"),
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"content-encoding", b"deflate"),
        ];
        let packed = miniz_oxide::deflate::compress_to_vec_zlib(b"id=1'", 6);
        let long = miniz_oxide::deflate::compress_to_vec(&[b'a'; limits::INFLATED_BYTES + 1], 6);
        for (body, target, is_cut) in [
            (&packed[..], "/a?id=1'", false),
            (b"id=1'", "/a?id=1'", false),
            (&long, "/a?aaa", true),
        ] {
            let request = Request::new(Headers::Pairs(head), body).unwrap();
            let pairs = request.as_query();
            let (_, got) = pairs.iter().find(|(name, _)| *name == b":path").unwrap();
            assert!(got.starts_with(target.as_bytes()), "{}", got.escape_ascii());
            assert_eq!(request.is_cut(), is_cut);
        }
    }

    #[test]
    fn a_picture_shows_the_code_within_it_and_nothing_else() {
        let part = |content: &[u8]| {
            let head =
                b"--X\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.png\"\r\n\r\n";
            let body = [head, content, b"\r\n--X--"].concat();
            bytes(b"multipart/form-data; boundary=X", &body)
        };
        assert_eq!(part(b"\x89PNG\0\x01' or 1=1--"), b"f=a.png");
        assert_eq!(part(b"\x89PNG\0\x01<?php x();"), b"f=a.png&f=<?php x();");
    }

    #[test]
    fn any_bytes_are_a_body() {
        let seeds: [&[u8]; 6] = [
            br#"{"a":{"$b":["c\u00"#,
            b"--X\r\nContent-Disposition: form-data; name=\"",
            b"<!DOCTYPE [<a b='<![CDATA[<!--",
            b"=&=%\xff\x00",
            b"<a b=\"c",
            b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"x\"",
        ];
        let types: [&[u8]; 5] = [
            b"application/json",
            b"multipart/form-data; boundary=X",
            b"text/xml",
            b"",
            b"a/b+json",
        ];
        for seed in seeds {
            for len in 0..=seed.len() {
                let cut = seed.get(..len).unwrap_or_default();
                for content_type in types {
                    let out = bytes(content_type, cut);
                    assert!(out.len() <= 3 * cut.len() * 33 + 16, "{}", out.len());
                }
            }
        }
    }
}
