//! A request's body as the parameters that an application reads from it.
//!
//! Takes in a body and its media type. Gives out a query: whatever form the body has, its names and values
//! stand there as `name=value&…`, so that every rule about query parameters is asked about them as well.
//!
//! | media type | what becomes a parameter |
//! |---|---|
//! | `application/x-www-form-urlencoded` | it is a query already |
//! | `application/json`, `…+json` | each string under its key; operators such as `$ne` as `key[$ne]` |
//! | `multipart/form-data` | each part under its name, and the name of its file; of files that are no text, only embedded PHP |
//! | `application/xml`, `text/xml`, `…+xml` | texts, attributes, and the declaration of entities |
//! | none, `text/plain` | what the body looks like |
//!
//! Angle brackets are left out of passwords: markup in what is never shown does nothing.
//!
//! Any other media type is not looked into. A body that breaks off or breaks the rules of its form gives what
//! there is. Time is linear in the body.

use crate::decoded::{bounded_split, is_plain_name, split_pair, split_url};
use crate::field::Field;
use crate::headers::Headers;
use crate::inspect::Detection;
use crate::limits;
use crate::normalise::nested::{is_json, json_string};
use crate::normalise::percent;

/// A request whose query is what its body holds.
#[derive(Debug)]
pub struct Request<'a> {
    head: Headers<'a>,
    target: Vec<u8>,
}

impl<'a> Request<'a> {
    /// The request with this head and body; none if bodies of its media type, or compressed ones, are not looked into.
    pub fn new(head: Headers<'a>, body: &[u8]) -> Option<Request<'a>> {
        if !is_inspected(head) {
            return None;
        }
        let (stem, _) = split_url(head.get(b":path").unwrap_or_default());
        let mut query = Vec::with_capacity(body.len());
        let content_type = head.get(b"content-type").unwrap_or_default();
        parameters(content_type, body, &mut query);
        Some(Request {
            head,
            target: [stem, b"?", &query].concat(),
        })
    }

    /// Its headers, for [`Headers::Pairs`]: those of the head, since a rule may ask for one that must not be there.
    pub fn pairs(&self) -> Vec<(&[u8], &[u8])> {
        let target = self.target.as_slice();
        let headers = self.head.iter();
        headers
            .map(|(name, value)| (name, if name == b":path" { target } else { value }))
            .collect()
    }
}

/// Names what was found in the query of a [`Request`] for what it is.
pub fn name_fields(detections: &mut [Detection]) {
    for evidence in detections
        .iter_mut()
        .filter_map(|detection| detection.evidence.as_mut())
    {
        evidence.field = match evidence.field {
            Field::QueryValue => Field::BodyValue,
            Field::UriQuery | Field::Uri => Field::Body,
            other => other,
        };
    }
}

/// Whether the body of a request with this head is looked into. What follows an upgrade is no body.
pub fn is_inspected(head: Headers<'_>) -> bool {
    if head.get(b"upgrade").is_some() || head.get(b":method") == Some(b"CONNECT") {
        return false;
    }
    let is_plain = head
        .get(b"content-encoding")
        .is_none_or(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"));
    is_plain && form_of(head.get(b"content-type").unwrap_or_default()).is_some()
}

/// The form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form<'a> {
    Query,
    Json,
    Multipart(&'a [u8]),
    Xml,
    Text,
}

/// Appends the parameters of `body` to `query`. Returns whether its media type is one that is looked into.
fn parameters(content_type: &[u8], body: &[u8], query: &mut Vec<u8>) -> bool {
    let Some(form) = form_of(content_type) else {
        return false;
    };
    match form {
        Form::Query => form_fields(body, query),
        Form::Json => json(body, query),
        Form::Multipart(boundary) => multipart(boundary, body, query),
        Form::Xml => xml(body, query),
        Form::Text if is_json(body) => json(body, query),
        Form::Text if body.trim_ascii_start().starts_with(b"<?xml") => xml(body, query),
        Form::Text if is_query(body) => form_fields(body, query),
        Form::Text => pair(b"", body, query),
    }
    true
}

fn form_of(content_type: &[u8]) -> Option<Form<'_>> {
    let mut parts = content_type.split(|byte| *byte == b';');
    let kind = parts.next().unwrap_or_default().trim_ascii();
    let is = |name: &[u8]| kind.eq_ignore_ascii_case(name);
    let ends = |end: &[u8]| {
        let start = kind.len().checked_sub(end.len());
        start
            .and_then(|start| kind.get(start..))
            .is_some_and(|have| have.eq_ignore_ascii_case(end))
    };
    if is(b"application/x-www-form-urlencoded") {
        Some(Form::Query)
    } else if is(b"application/json") || ends(b"+json") {
        Some(Form::Json)
    } else if is(b"multipart/form-data") {
        let boundary = parts.find_map(|part| {
            let (name, value) = split_pair(part.trim_ascii());
            let named =
                name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"boundary"));
            named.then(|| unquoted(value.trim_ascii()))
        });
        Some(Form::Multipart(boundary.unwrap_or_default()))
    } else if is(b"application/xml") || is(b"text/xml") || ends(b"+xml") && !ends(b"svg+xml") {
        Some(Form::Xml)
    } else if kind.is_empty() || is(b"text/plain") {
        Some(Form::Text)
    } else {
        None
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"").unwrap_or(value);
    inner.strip_suffix(b"\"").unwrap_or(inner)
}

/// A form is a query already, but for its passwords.
fn form_fields(body: &[u8], query: &mut Vec<u8>) {
    for (index, field) in body.split(|byte| *byte == b'&').enumerate() {
        let (name, value) = split_pair(field);
        match name.filter(|name| is_password(name)) {
            Some(name) => {
                pair(name, &percent::decoded(value, true), query);
            }
            None => {
                if index > 0 {
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

/// Names of objects within objects that are remembered.
const DEPTH: usize = 32;

/// Bytes of a name that stand before each of its values: a longer one would be copied without end.
const NAME_BYTES: usize = 128;

fn json(body: &[u8], query: &mut Vec<u8>) {
    let mut text = Vec::new();
    // The key that each open object stands under; what is deeper stands under the last one that is known.
    let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        match byte {
            b'{' | b'[' if keys.len() < DEPTH => {
                keys.push(keys.last().cloned().unwrap_or_default());
                at += 1;
            }
            b'}' | b']' => {
                if keys.len() > 1 {
                    keys.pop();
                }
                at += 1;
            }
            b'"' => {
                text.clear();
                at += json_string(body.get(at..).unwrap_or_default(), &mut text);
                let rest = body.get(at..).unwrap_or_default().trim_ascii_start();
                let parent = keys.len().checked_sub(2).and_then(|at| keys.get(at));
                if rest.first() == Some(&b':') {
                    let is_operator = text.first() == Some(&b'$');
                    // An operator belongs to the key above it, as it does in a query.
                    let name = match parent {
                        Some(parent) if is_operator => {
                            [parent.as_slice(), b"[", &text, b"]"].concat()
                        }
                        _ => text.clone(),
                    };
                    if is_operator || !is_plain_name(&text) {
                        pair(&name, b"", query);
                    }
                    if let Some(key) = keys.last_mut() {
                        *key = name;
                        key.truncate(NAME_BYTES);
                    }
                } else {
                    pair(keys.last().map_or(&[], Vec::as_slice), &text, query);
                }
            }
            _ => at += 1,
        }
    }
}

fn multipart(boundary: &[u8], body: &[u8], query: &mut Vec<u8>) {
    let delimiter = [b"--", boundary].concat();
    if boundary.is_empty() {
        return pair(b"", body, query);
    }
    let mut starts = memchr::memmem::find_iter(body, &delimiter).peekable();
    while let Some(start) = starts.next() {
        let end = starts.peek().copied().unwrap_or(body.len());
        let part = body.get(start + delimiter.len()..end).unwrap_or_default();
        if part.starts_with(b"--") {
            break;
        }
        let (head, content) = match memchr::memmem::find(part, b"\r\n\r\n") {
            Some(at) => part.split_at(at),
            None => match memchr::memmem::find(part, b"\n\n") {
                Some(at) => part.split_at(at),
                None => (part, &[][..]),
            },
        };
        let content = content.trim_ascii();
        let name = attribute(head, b"name").unwrap_or_default();
        let Some(file) = attribute(head, b"filename") else {
            pair(name, content, query);
            continue;
        };
        pair(name, file, query);
        if is_text(content) {
            pair(name, content, query);
        } else if let Some(code) = embedded_php(content) {
            pair(name, code, query);
        }
    }
}

/// The value of `name="…"` in the head of a part.
fn attribute<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let wanted = [name, b"="].concat();
    let mut places = memchr::memmem::find_iter(head, &wanted);
    let start = places.find(|at| {
        let before = at.checked_sub(1).and_then(|at| head.get(at));
        matches!(before, Some(b' ' | b';' | b'\t'))
    })?;
    let value = head.get(start + wanted.len()..)?;
    match value.strip_prefix(b"\"") {
        Some(quoted) => quoted.split(|byte| *byte == b'"').next(),
        None => value
            .split(|byte| matches!(byte, b';' | b'\r' | b'\n'))
            .next(),
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

fn xml(body: &[u8], query: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        let rest = body.get(at..).unwrap_or_default();
        if byte != b'<' {
            let end = memchr::memchr(b'<', rest).unwrap_or(rest.len());
            let text = rest.get(..end).unwrap_or_default();
            if !text.trim_ascii().is_empty() {
                pair(b"", text, query);
            }
            at += end;
        } else if let Some(text) = rest.strip_prefix(b"<![CDATA[") {
            let end = memchr::memmem::find(text, b"]]>").unwrap_or(text.len());
            pair(b"", text.get(..end).unwrap_or_default(), query);
            at += 9 + end + 3;
        } else if rest.starts_with(b"<!--") {
            at += memchr::memmem::find(rest, b"-->").map_or(rest.len(), |end| end + 3);
        } else if rest.starts_with(b"<!") {
            // A document type with the entities that it declares, up to the end of its brackets.
            let simple = memchr::memchr(b'>', rest).unwrap_or(rest.len());
            let has_subset = memchr::memchr(b'[', rest).is_some_and(|open| open < simple);
            let end = match has_subset {
                true => memchr::memchr(b']', rest).unwrap_or(rest.len()),
                false => simple,
            };
            pair(b"", rest.get(..end + 1).unwrap_or(rest), query);
            at += end + 1;
        } else {
            at += tag(rest, query);
        }
    }
}

/// The values of a tag's attributes. Returns the bytes of the tag.
fn tag(text: &[u8], query: &mut Vec<u8>) -> usize {
    let mut at = 1;
    let mut name = 1..1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'>' => return at + 1,
            b'"' | b'\'' => {
                let value = text.get(at + 1..).unwrap_or_default();
                let end = memchr::memchr(byte, value).unwrap_or(value.len());
                let named = text.get(name.clone()).unwrap_or_default();
                pair(
                    named.trim_ascii(),
                    value.get(..end).unwrap_or_default(),
                    query,
                );
                at += end + 2;
                name = at..at;
            }
            b' ' | b'\t' | b'\r' | b'\n' | b'/' => {
                at += 1;
                name = at..at;
            }
            b'=' => {
                name.end = at;
                at += 1;
            }
            _ => at += 1,
        }
    }
    at.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(content_type: &str, body: &str) -> String {
        let mut out = Vec::new();
        assert!(
            parameters(content_type.as_bytes(), body.as_bytes(), &mut out),
            "{content_type}"
        );
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
                "version=1.0&b=c&d=e&=t&=%26lt;&=<g>",
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
        for other in [
            "image/png",
            "application/octet-stream",
            "application/grpc",
            "image/svg+xml",
            "video/mp4",
        ] {
            let head: [(&[u8], &[u8]); 1] = [(b"content-type", other.as_bytes())];
            assert!(!is_inspected(Headers::Pairs(&head)), "{other}");
        }
    }

    #[test]
    fn what_is_no_body_or_cannot_be_read_is_left_alone() {
        type Head<'a> = &'a [(&'a [u8], &'a [u8])];
        let form: (&[u8], &[u8]) = (b"content-type", b"application/json");
        let heads: [(Head<'_>, bool); 5] = [
            (&[form], true),
            (&[form, (b"content-encoding", b"identity")], true),
            (&[form, (b"content-encoding", b"gzip")], false),
            (&[(b"upgrade", b"websocket")], false),
            (&[(b":method", b"CONNECT")], false),
        ];
        for (head, is_read) in heads {
            assert_eq!(is_inspected(Headers::Pairs(head)), is_read, "{head:?}");
        }
    }

    #[test]
    fn a_picture_shows_the_code_within_it_and_nothing_else() {
        let part = |content: &[u8]| {
            let head =
                b"--X\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.png\"\r\n\r\n";
            let body = [head, content, b"\r\n--X--"].concat();
            let mut out = Vec::new();
            parameters(b"multipart/form-data; boundary=X", &body, &mut out);
            out
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
                    let mut out = Vec::new();
                    parameters(content_type, cut, &mut out);
                    assert!(out.len() <= 3 * cut.len() * 33 + 16, "{}", out.len());
                }
            }
        }
    }
}
