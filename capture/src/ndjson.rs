//! Labelled requests, one JSON object a line: what recall and false positives are measured on.
//!
//! ```json
//! {"id":"x-1","source":"s","label":"malicious","class":"sqli","method":"GET","authority":"h",
//!  "path":"/?id=1'--","headers":[["user-agent","…"]],"body_b64":"…","meta":{"loc":["url"]}}
//! ```
//!
//! Only `method` and `path` must be there. `body` may hold a body as text instead. A row with
//! `command_line` in place of them is a process that started:
//!
//! ```json
//! {"id":"y-1","label":"benign","class":"benign","command_line":"ls -l","image":"/bin/ls","parent_image":null}
//! ```

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use portcullis::field::Field;
use serde::Deserialize;

use super::json::Bytes;
use super::record::{Label, Part, Record};

/// Base64 with or without its padding.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Row<'a> {
    #[serde(borrow)]
    id: Option<Bytes<'a>>,
    #[serde(borrow)]
    source: Option<Bytes<'a>>,
    #[serde(borrow)]
    label: Option<Bytes<'a>>,
    #[serde(borrow)]
    class: Option<Bytes<'a>>,
    #[serde(borrow)]
    method: Option<Bytes<'a>>,
    #[serde(borrow)]
    authority: Option<Bytes<'a>>,
    #[serde(borrow)]
    scheme: Option<Bytes<'a>>,
    #[serde(borrow)]
    path: Option<Bytes<'a>>,
    #[serde(borrow)]
    source_address: Option<Bytes<'a>>,
    #[serde(borrow, default)]
    headers: Vec<(Bytes<'a>, Bytes<'a>)>,
    #[serde(borrow)]
    body: Option<Bytes<'a>>,
    #[serde(borrow)]
    body_b64: Option<Bytes<'a>>,
    #[serde(borrow)]
    meta: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    command_line: Option<Bytes<'a>>,
    #[serde(borrow)]
    image: Option<Bytes<'a>>,
    #[serde(borrow)]
    parent_image: Option<Bytes<'a>>,
    #[serde(borrow)]
    parent_command_line: Option<Bytes<'a>>,
}

pub(crate) fn parse(line: &[u8], record: &mut Record) -> Result<(), String> {
    let row: Row<'_> = serde_json::from_slice(line).map_err(|error| reason(&error))?;
    if row.command_line.is_some() && row.path.is_none() {
        let fields = [
            (Field::CommandLine, row.command_line),
            (Field::Image, row.image),
            (Field::ParentImage, row.parent_image),
            (Field::ParentCommandLine, row.parent_command_line),
        ];
        for (field, value) in fields {
            if let Some(value) = value {
                record.push_process(field, &value.0);
            }
        }
    } else {
        let method = row.method.ok_or("a row without `method`")?;
        let path = row.path.ok_or("a row without `path`")?;
        record.put(Part::Method, &method.0);
        let target = record.push(&path.0);
        record.set_target(target);
    }
    let once = [
        (Part::Id, row.id),
        (Part::Source, row.source),
        (Part::Class, row.class),
        (Part::Authority, row.authority),
        (Part::Scheme, row.scheme),
        (Part::SourceAddress, row.source_address),
        (Part::Body, row.body),
    ];
    for (part, value) in once {
        if let Some(value) = value {
            record.put(part, &value.0);
        }
    }
    for (name, value) in &row.headers {
        record.push_header(&name.0, &value.0);
    }
    if let Some(meta) = row.meta {
        record.put(Part::Meta, meta.get().as_bytes());
    }
    if let Some(label) = row.label {
        let label = Label::parse(&label.0)
            .ok_or("`label` is none of `malicious`, `benign` and `unverified`")?;
        record.label = Some(label);
    }
    if let Some(body) = row.body_b64 {
        let body = BASE64
            .decode(&*body.0)
            .map_err(|_| "`body_b64` is not Base64")?;
        record.put(Part::Body, &body);
    }
    Ok(())
}

/// What serde says, without the line number: there is one line, and it counts from its start.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((what, _)) => format!("{what} at byte {}", error.column()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(line: &[u8]) -> Result<Record, String> {
        let mut record = Record::default();
        parse(line, &mut record).map(|()| record)
    }

    #[test]
    fn a_row_is_read() {
        let line = b"{\"id\":\"x-1\",\"source\":\"s\",\"label\":\"malicious\",\"class\":\"sqli\",\"method\":\"POST\",\
            \"authority\":\"h\",\"path\":\"/\\udcff\xfe\",\"headers\":[[\"User-Agent\",\"ua\"]],\"body_b64\":\"/w==\",\
            \"meta\":{\"loc\":[\"url\"]},\"more\":1}";
        let record = read(line).unwrap();
        assert_eq!(record.name(), "x-1");
        assert_eq!(
            (record.method(), record.target()),
            (&b"POST"[..], &b"/\xff\xfe"[..])
        );
        assert_eq!(
            (record.source(), record.class()),
            (Some(&b"s"[..]), Some(&b"sqli"[..]))
        );
        assert_eq!(record.label, Some(Label::Malicious));
        assert_eq!(record.header(b"user-agent"), Some(&b"ua"[..]));
        assert_eq!(record.body(), Some(&b"\xff"[..]));
        assert_eq!(record.meta().unwrap()["loc"][0], "url");
    }

    #[test]
    fn a_process_is_read() {
        let line = br#"{"id":"y-1","label":"malicious","class":"c","os":"linux","image":null,
            "command_line":"a b","parent_image":"/bin/sh","meta":{"in_scope":true}}"#;
        let record = read(line).unwrap();
        assert!(record.is_process() && record.label == Some(Label::Malicious));
        assert_eq!(record.name(), "y-1");
        let fields: Vec<_> = record.process().collect();
        assert_eq!(
            fields,
            [
                (Field::CommandLine, &b"a b"[..]),
                (Field::ParentImage, b"/bin/sh")
            ]
        );
        assert_eq!(record.meta().unwrap()["in_scope"], true);
    }

    #[test]
    fn a_row_that_is_no_request_is_refused_with_a_reason() {
        let cases: &[(&str, &str)] = &[
            ("", "EOF while parsing"),
            ("[]", "invalid length 0"),
            (r#"{"method":"GET"}"#, "without `path`"),
            (r#"{"path":"/"}"#, "without `method`"),
            (r#"{"method":1,"path":"/"}"#, "expected a string at byte"),
            (
                r#"{"method":"GET","path":"/","label":"evil"}"#,
                "`label` is none of",
            ),
            (
                r#"{"method":"GET","path":"/","body_b64":"*"}"#,
                "not Base64",
            ),
            (
                r#"{"command_line":1,"label":"benign"}"#,
                "expected a string at byte",
            ),
            (
                r#"{"method":"GET","path":"/"#,
                "EOF while parsing a string at byte",
            ),
        ];
        for (line, reason) in cases {
            let got = read(line.as_bytes()).map(|_| ()).unwrap_err();
            assert!(got.contains(reason), "{line}: {got}");
        }
    }
}
