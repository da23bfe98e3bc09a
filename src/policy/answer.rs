//! What a refused client gets to read: a page for people, JSON for programs, a message for gRPC.

use serde::Serialize;

use super::effective::Answer;
use crate::headers::Headers;

/// The answer to one refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status.
    pub status: u16,
    /// Header names and values, with the media type.
    pub headers: Vec<(String, String)>,
    /// Body. For gRPC the gateway makes a status message of it.
    pub body: String,
}

/// Who asked, as far as the form of the answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Person,
    Program,
    Grpc,
}

impl Reader {
    /// A person's browser names HTML in `Accept`, and before JSON; who names neither is a program.
    fn of(request: Headers<'_>) -> Reader {
        let content_type = request.get(b"content-type").unwrap_or_default();
        if content_type.starts_with(b"application/grpc") {
            return Reader::Grpc;
        }
        let accepted = request.get(b"accept").unwrap_or_default();
        let kinds = accepted.split(|byte| *byte == b',').map(|range| {
            let kind = range.split(|byte| *byte == b';').next();
            kind.unwrap_or_default().trim_ascii().to_ascii_lowercase()
        });
        let mut named = kinds.filter_map(|kind| match kind.as_slice() {
            b"text/html" | b"application/xhtml+xml" => Some(Reader::Person),
            other if other == b"application/json" || other.ends_with(b"+json") => {
                Some(Reader::Program)
            }
            _ => None,
        });
        named.next().unwrap_or(Reader::Program)
    }
}

/// What a program is told. A tree of `serde_json` would bring ten kilobytes of tables along for numbers with fractions.
#[derive(Serialize)]
struct Blocked<'r> {
    error: &'static str,
    request_id: &'r str,
}

impl Answer<'_> {
    /// This answer to that request. A body of the operator's own goes to everybody.
    pub fn refusal(&self, request: Headers<'_>, request_id: &str) -> Refusal {
        let (body, kind) = match (self.body, Reader::of(request)) {
            // In a page the id must not become markup.
            (Some(body), _) => (
                body.replace("{request_id}", &printable_id(request_id)),
                "text/html; charset=utf-8",
            ),
            (None, Reader::Person) => (page(&printable_id(request_id)), "text/html; charset=utf-8"),
            (None, Reader::Program) => {
                let blocked = Blocked {
                    error: "request blocked",
                    request_id,
                };
                let body = serde_json::to_string(&blocked).unwrap_or_default();
                (body, "application/json")
            }
            (None, Reader::Grpc) => (
                format!("request blocked, request id {}", printable_id(request_id)),
                "text/plain",
            ),
        };
        let mut headers = vec![
            (
                "content-type".to_owned(),
                self.content_type.unwrap_or(kind).to_owned(),
            ),
            ("cache-control".to_owned(), "no-store".to_owned()),
        ];
        for (name, value) in self.headers.into_iter().flatten() {
            headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
            headers.push((name.clone(), value.clone()));
        }
        Refusal {
            status: self.status,
            headers,
            body,
        }
    }
}

fn page(id: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
        <meta name=\"viewport\" content=\"width=device-width\"><title>Request blocked</title>\
        <body style=\"font-family:system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem\">\
        <h1>Request blocked</h1><p>This request looks like an attack, so it was not passed on. If that is a mistake, \
        tell whoever runs this site, with this number:</p><p><code>{id}</code></p>\n"
    )
}

/// A request's id without what could be markup: a client may send one of its own.
fn printable_id(id: &str) -> String {
    let is_plain = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    id.chars().filter(is_plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(answer: Answer<'_>, name: &[u8], value: &[u8]) -> Refusal {
        let pairs = [(&b":path"[..], &b"/"[..]), (name, value)];
        answer.refusal(Headers::Pairs(&pairs), "<b>7-a")
    }

    #[test]
    fn each_reader_gets_its_form() {
        let answer = Answer {
            status: 403,
            body: None,
            content_type: None,
            headers: None,
        };
        let chrome = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (name, value, kind, start) in [
            (
                &b"accept"[..],
                &chrome[..],
                "text/html; charset=utf-8",
                "<!doctype html>",
            ),
            (
                b"accept",
                b"application/json, text/html",
                "application/json",
                "{\"error\"",
            ),
            (
                b"accept",
                b"application/problem+json",
                "application/json",
                "{\"error\"",
            ),
            (b"accept", b"*/*", "application/json", "{\"error\""),
            (b"accept", b"\xff,;,", "application/json", "{\"error\""),
            (b"x", b"", "application/json", "{\"error\""),
            (
                b"content-type",
                b"application/grpc+proto",
                "text/plain",
                "request blocked",
            ),
        ] {
            let refusal = refusal(answer, name, value);
            let has_kind = ("content-type".to_owned(), kind.to_owned());
            assert!(refusal.headers.contains(&has_kind), "{refusal:?}");
            assert!(refusal.body.starts_with(start), "{refusal:?}");
            assert_eq!(
                refusal.body.contains("<b>"),
                kind == "application/json",
                "{refusal:?}"
            );
            assert!(refusal.body.contains("7-a"), "{refusal:?}");
        }
    }

    #[test]
    fn what_the_operator_writes_goes_to_everybody() {
        let headers = [
            ("Cache-Control".to_owned(), "no-cache".to_owned()),
            ("x-a".to_owned(), "1".to_owned()),
        ];
        let answer = Answer {
            status: 451,
            body: Some("no: {request_id}"),
            content_type: Some("text/plain"),
            headers: Some(&headers),
        };
        let refusal = refusal(answer, b"accept", b"application/json");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            refusal,
            Refusal {
                status: 451,
                headers: vec![
                    pair("content-type", "text/plain"),
                    pair("Cache-Control", "no-cache"),
                    pair("x-a", "1")
                ],
                body: "no: b7-a".to_owned(),
            }
        );
    }
}
