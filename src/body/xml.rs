//! The texts, attributes and declarations of XML.

use super::pair;

/// Appends the parameters of an XML document. The text of an element is one however many comments and sections it is
/// cut into, since that is what the application gets.
pub fn xml(body: &[u8], query: &mut Vec<u8>) {
    let mut text = Vec::new();
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        let rest = body.get(at..).unwrap_or_default();
        if byte != b'<' {
            let end = memchr::memchr(b'<', rest).unwrap_or(rest.len());
            text.extend_from_slice(rest.get(..end).unwrap_or_default());
            at += end;
        } else if let Some(section) = rest.strip_prefix(b"<![CDATA[") {
            let end = memchr::memmem::find(section, b"]]>").unwrap_or(section.len());
            text.extend_from_slice(section.get(..end).unwrap_or_default());
            at += 9 + end + 3;
        } else if rest.starts_with(b"<!--") {
            at += memchr::memmem::find(rest, b"-->").map_or(rest.len(), |end| end + 3);
        } else {
            end_of_text(&mut text, query);
            if rest.starts_with(b"<!") {
                at += declaration(rest, query);
            } else {
                at += tag(rest, query);
            }
        }
    }
    end_of_text(&mut text, query);
}

fn end_of_text(text: &mut Vec<u8>, query: &mut Vec<u8>) {
    if !text.trim_ascii().is_empty() {
        pair(b"", text, query);
    }
    text.clear();
}

/// A document type with the entities that it declares, up to the end of its brackets. Returns its bytes.
fn declaration(text: &[u8], query: &mut Vec<u8>) -> usize {
    // Nothing is searched that is not left behind as well: what follows may be a thousand declarations more.
    let end = match memchr::memchr2(b'>', b'[', text) {
        Some(open) if text.get(open) == Some(&b'[') => {
            let inside = text.get(open..).unwrap_or_default();
            open + memchr::memchr(b']', inside).unwrap_or(inside.len())
        }
        simple => simple.unwrap_or(text.len()),
    };
    pair(b"", text.get(..end + 1).unwrap_or(text), query);
    end + 1
}

/// The values of a tag's attributes, and the whole tag if it has another document included. Returns the bytes of the tag.
fn tag(text: &[u8], query: &mut Vec<u8>) -> usize {
    let includes = |name: &[u8]| name.ends_with(b":include") || name.ends_with(b":redefine");
    let name = text.get(..TAG_NAME.min(text.len())).unwrap_or_default();
    let name = name.split(u8::is_ascii_whitespace).next();
    let bytes = attributes(text, query);
    if name.is_some_and(includes) {
        pair(b"", text.get(..bytes).unwrap_or(text), query);
    }
    bytes
}

/// Bytes of the longest name of a tag that is looked at.
const TAG_NAME: usize = 32;

fn attributes(text: &[u8], query: &mut Vec<u8>) -> usize {
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
