//! The key `portcullis`: what is ours in a rule.
//!
//! ```yaml
//! portcullis:
//!   alert: Gateway_SqlInjection
//!   confidence: 80
//!   tests:
//!     catches:
//!       - GET /item?id=1%27%20or%20%271%27=%271
//!       - {request: GET /, user-agent: "x'; drop table users; --", headers: {X-Api: '\xff'}}
//!     ignores:
//!       - GET /search?q=o%27reilly
//! ```
//!
//! In a case `\xHH` is the byte HH. It does not belong into double quotes, where YAML makes a character of it.
//!
//! A case of a correlation is a sequence of requests. They are a second apart, or so long as `after` says, and come from
//! one address unless they name another:
//!
//! ```yaml
//!     catches:
//!       - sequence:
//!           - GET /.env
//!           - {request: GET /.git/config, source: 198.51.100.7, after: 5s}
//!           - {request: POST /wp-login.php, times: 10, after: 0s}
//! ```
//!
//! In rules for `process_creation` a case written as text is a command line, and a mapping without `request` holds
//! the process's fields: `{Image: 'C:\Windows\System32\certutil.exe', CommandLine: certutil -decode a b}`.

use std::rc::Rc;

use portcullis::field::Field;

use super::{Context, correlation};
use crate::ast::{Case, CaseEvent, CaseRequest, Custom, Step};
use crate::diagnostic::short;
use crate::expand::some_fields;
use crate::limits;
use crate::nearest::suggest;
use crate::source::Spanned;
use crate::taxonomy::{self, Category};
use crate::yaml::Node;

/// Name of the key.
pub const KEY: &str = "portcullis";

/// The last two only in sequences.
const REQUEST_KEYS: [&str; 11] = [
    "request",
    "host",
    "user-agent",
    "referer",
    "cookie",
    "headers",
    "body",
    "source",
    "status",
    "after",
    "times",
];

/// Reads the key's value. `process`: the rule is about processes.
pub fn read(context: &mut Context<'_>, node: &Rc<Node>, process: bool) -> Custom {
    let mut custom = Custom::default();
    if context.mapping(node, "`portcullis`").is_none() {
        return custom;
    }
    context.only_keys(
        node,
        &["alert", "confidence", "learn", "tests"],
        "`portcullis`",
    );
    custom.alert = node
        .get("alert")
        .and_then(|alert| context.spanned(alert, "`alert`"));
    custom.confidence = node
        .get("confidence")
        .and_then(|node| percent(context, node, "confidence"));
    custom.learn_seconds = node
        .get("learn")
        .and_then(|learn| correlation::seconds(context, learn, "learn", 1));
    if let Some(tests) = node
        .get("tests")
        .filter(|tests| context.mapping(tests, "`tests`").is_some())
    {
        context.only_keys(tests, &["catches", "ignores"], "`tests`");
        custom.catches = cases(context, tests.get("catches"), process);
        custom.ignores = cases(context, tests.get("ignores"), process);
    }
    custom
}

/// A whole number from 0 to 100.
pub fn percent(context: &mut Context<'_>, node: &Node, what: &str) -> Option<Spanned<u8>> {
    match node
        .text()
        .and_then(|text| text.parse::<u8>().ok())
        .filter(|number| *number <= 100)
    {
        Some(number) => Some(Spanned::new(number, node.span)),
        None => context.refuse(
            "not-a-percentage",
            node.span,
            format!("`{what}` must be a whole number from 0 to 100"),
            "write for example `80`".to_owned(),
        ),
    }
}

fn cases(context: &mut Context<'_>, node: Option<&Rc<Node>>, process: bool) -> Vec<Case> {
    let items = node.map(|node| node.items()).unwrap_or_default();
    items
        .iter()
        .map_while(|item| (!context.report.is_full()).then(|| case(context, item, process)))
        .flatten()
        .collect()
}

fn case(context: &mut Context<'_>, node: &Rc<Node>, process: bool) -> Option<Case> {
    let (title, event) = match node.text() {
        Some(text) if process => {
            let command_line = raw(context, node, "a case")?;
            (
                text.to_owned(),
                CaseEvent::Process(vec![(Field::CommandLine, command_line)]),
            )
        }
        Some(_) => single(request(context, node, None, false)?),
        None if node.get("sequence").is_some() => sequence(context, node)?,
        None => {
            context.mapping(node, "a case")?;
            match node.get("request") {
                Some(line) => single(request(context, line, Some(node), false)?),
                None if process => fields(context, node)?,
                None => {
                    context.report.error(
                        "missing-key",
                        node.span,
                        "the case has no `request`",
                        "write `request: GET /path`",
                    );
                    return None;
                }
            }
        }
    };
    Some(Case {
        span: node.span,
        title,
        event,
    })
}

fn single((title, request): (String, CaseRequest)) -> (String, CaseEvent) {
    (title, CaseEvent::Request(Box::new(request)))
}

/// Requests one after the other.
fn sequence(context: &mut Context<'_>, node: &Rc<Node>) -> Option<(String, CaseEvent)> {
    context.only_keys(node, &["sequence"], "a case");
    let (mut steps, mut requests, mut first) = (Vec::new(), 0_u32, None);
    for item in node.get("sequence").map(|node| node.items())?.iter() {
        let line = item.get("request");
        let (title, request) = match line {
            Some(line) => request(context, line, Some(item), true)?,
            None => request(context, item, None, true)?,
        };
        let after = match item.get("after") {
            Some(after) => correlation::seconds(context, after, "after", 0)?.value,
            None => 1,
        };
        let times = match item.get("times") {
            None => 1,
            Some(times) => {
                let number = times.text().and_then(|text| text.parse().ok());
                match number.filter(|number| (1..=limits::CASE_REQUESTS).contains(number)) {
                    Some(number) => number,
                    None => {
                        let message = format!(
                            "`times` must be a whole number from 1 to {}",
                            limits::CASE_REQUESTS
                        );
                        let help = "write for example `times: 10`".to_owned();
                        return context.refuse("not-a-count", times.span, message, help);
                    }
                }
            }
        };
        requests = requests.saturating_add(times);
        first.get_or_insert(title);
        steps.push(Step {
            request,
            after_seconds: after,
            times,
        });
    }
    if requests > limits::CASE_REQUESTS {
        let message = format!(
            "a case has at most {} requests, and this one has {requests}",
            limits::CASE_REQUESTS
        );
        return context.refuse(
            "case-too-long",
            node.span,
            message,
            "ask fewer times".to_owned(),
        );
    }
    let Some(first) = first else {
        return context.refuse(
            "empty-case",
            node.span,
            "the sequence has no request".to_owned(),
            "write requests below it: `- GET /path`".to_owned(),
        );
    };
    let title = match requests {
        1 => first,
        _ => format!("{first} and {} more", requests - 1),
    };
    Some((title, CaseEvent::Sequence(steps)))
}

/// A request from its line and, if there is a mapping, the rest of it. `in_sequence`: it may say when it comes.
fn request(
    context: &mut Context<'_>,
    line: &Node,
    rest: Option<&Rc<Node>>,
    in_sequence: bool,
) -> Option<(String, CaseRequest)> {
    let text = context.text(line, "`request`")?;
    let (method, target) = text.split_once(' ').unwrap_or((text, ""));
    if method.is_empty() || method.starts_with('/') || target.is_empty() {
        context.report.error(
            "request-syntax",
            line.span,
            format!("`{}` is not a request", short(text)),
            "write method, space and target: `GET /path?name=value`",
        );
        return None;
    }
    let mut request = CaseRequest {
        method: bytes(method),
        target: bytes(target),
        ..CaseRequest::default()
    };
    let Some(rest) = rest else {
        return Some((text.to_owned(), request));
    };
    let (single, _) = REQUEST_KEYS.split_at(REQUEST_KEYS.len() - 2);
    let keys = if in_sequence {
        &REQUEST_KEYS[..]
    } else {
        single
    };
    context.only_keys(rest, keys, "a case");
    for (key, value) in rest.entries() {
        let name = key.scalar().map_or("", |scalar| &*scalar.text);
        match name {
            "host" => request.host = raw(context, value, name),
            "body" => request.body = raw(context, value, name),
            "user-agent" | "referer" | "cookie" => {
                request
                    .headers
                    .extend(raw(context, value, name).map(|value| (name.into(), value)));
            }
            "headers" => {
                if context.mapping(value, "`headers`").is_none() {
                    continue;
                }
                for (name, value) in value.entries() {
                    let name = name.scalar().map_or("", |scalar| &*scalar.text);
                    // A list is a header that comes several times.
                    for value in value.items() {
                        let name = bytes(name).to_ascii_lowercase();
                        request
                            .headers
                            .extend(raw(context, value, "a header").map(|value| (name, value)));
                    }
                }
            }
            "source" => {
                request.source = value.text().and_then(|text| text.parse().ok());
                if request.source.is_none() {
                    context.report.error(
                        "not-an-address",
                        value.span,
                        "`source` must be an IP address",
                        "write for example `192.0.2.7`",
                    );
                }
            }
            "status" => {
                let status = value.text().and_then(|text| text.parse().ok());
                request.status = status.filter(|status| (100..=999).contains(status));
                if request.status.is_none() {
                    context.report.error(
                        "not-a-status",
                        value.span,
                        "`status` must be a status code",
                        "write for example `404`",
                    );
                }
            }
            _ => {}
        }
    }
    Some((text.to_owned(), request))
}

/// A process from a mapping of its fields.
fn fields(context: &mut Context<'_>, node: &Rc<Node>) -> Option<(String, CaseEvent)> {
    let mut fields = Vec::new();
    for (key, value) in node.entries() {
        let name = key.scalar().map_or("", |scalar| &*scalar.text);
        match taxonomy::resolve(Category::ProcessCreation, name) {
            Ok(path) => fields.extend(raw(context, value, name).map(|value| (path.field, value))),
            Err(_) => {
                let known = taxonomy::TABLE
                    .iter()
                    .filter(|entry| entry.sources.has(Category::ProcessCreation));
                let known = known.map(|entry| entry.name).chain(["request"]);
                let help = suggest(name, known, || some_fields(Category::ProcessCreation));
                context.report.error(
                    "unknown-key",
                    key.span,
                    format!("a case has no key `{}`", short(name)),
                    help,
                );
            }
        }
    }
    if fields.is_empty() {
        context.report.error(
            "empty-case",
            node.span,
            "the case has no field",
            "write `CommandLine: …`",
        );
        return None;
    }
    let title = node
        .get("CommandLine")
        .and_then(|node| node.text())
        .unwrap_or("a process")
        .to_owned();
    Some((title, CaseEvent::Process(fields)))
}

fn raw(context: &mut Context<'_>, node: &Node, what: &str) -> Option<Vec<u8>> {
    // An empty value is written `""` or left empty.
    let Some(scalar) = node.scalar() else {
        context.text(node, &format!("`{what}`"));
        return None;
    };
    let written = context.report.source.excerpt(node.span);
    if written.starts_with('"') && !scalar.text.is_ascii() && written.contains("\\x") {
        context.report.warning(
            "escape-in-double-quotes",
            node.span,
            "in double quotes YAML makes a character of two bytes of this",
            "use single quotes for bytes: `'\\xff'`",
        );
    }
    Some(bytes(&scalar.text))
}

/// The bytes of a case's text: `\xHH` is a byte, everything else is itself.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = rest
            .strip_prefix(b"\\x")
            .and_then(|hex| hex.split_first_chunk::<2>());
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        if let Some(([high, low], after)) = escaped
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            out.push(high << 4 | low);
            rest = after;
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn a_case_can_hold_any_byte() {
        let cases: [(&str, &[u8]); 7] = [
            ("plain", b"plain"),
            (r"\xff\x00", b"\xff\x00"),
            (r"..\..\x", b"..\\..\\x"),
            (r"\xg0\x1", b"\\xg0\\x1"),
            (r"\x5cx41", b"\\x41"),
            (r"\\x41", b"\\A"),
            ("é", "é".as_bytes()),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
