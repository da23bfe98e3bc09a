//! The strings of JSON, each under its key, and the string literals of GraphQL.
//!
//! Reads what lenient parsers read as well: comments, strings in single quotes, keys that come twice, commas too many. What
//! opens and never closes gives what there is.

use super::{NAME_BYTES, pair};
use crate::decoded::is_plain_name;
use crate::normalise::nested::json_string;

/// Names of objects within objects that are remembered.
const DEPTH: usize = 32;

/// Appends the parameters of a JSON document.
pub fn json(body: &[u8], query: &mut Vec<u8>) {
    let mut text = Vec::new();
    // The key that each open object stands under; what is deeper stands under the last one that is known.
    let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        let rest = body.get(at..).unwrap_or_default();
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
            // A quote in a comment opens nothing.
            b'/' if rest.starts_with(b"//") => {
                at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            }
            b'/' if rest.starts_with(b"/*") => {
                at += memchr::memmem::find(rest, b"*/").map_or(rest.len(), |end| end + 2);
            }
            b'"' | b'\'' => {
                text.clear();
                at += match byte {
                    b'"' => json_string(rest, &mut text),
                    _ => single_quoted(rest, &mut text),
                };
                let rest = body.get(at..).unwrap_or_default().trim_ascii_start();
                let parent = keys.len().checked_sub(2).and_then(|at| keys.get(at));
                if rest.first() == Some(&b':') {
                    let is_prototype = text == b"prototype"
                        && parent.is_some_and(|parent| parent == b"constructor");
                    let is_operator = text.first() == Some(&b'$') || is_prototype;
                    // An operator belongs to the key above it, as it does in a query, and so does the prototype of all objects.
                    let name = match parent {
                        Some(parent) if is_operator => {
                            [parent.as_slice(), b"[", &text, b"]"].concat()
                        }
                        _ => text.clone(),
                    };
                    if is_operator || text == b"__proto__" || !is_plain_name(&text) {
                        pair(&name, b"", query);
                    }
                    if let Some(key) = keys.last_mut() {
                        *key = name;
                        key.truncate(NAME_BYTES);
                    }
                } else {
                    let name = keys.last().map_or(&[][..], Vec::as_slice);
                    pair(name, &text, query);
                    if is_graphql(&text) {
                        graphql_literals(&text, query);
                    }
                }
            }
            _ => at += 1,
        }
    }
}

/// As [`json_string`], with the other quote.
fn single_quoted(json: &[u8], out: &mut Vec<u8>) -> usize {
    let mut end = 1;
    while let Some(&byte) = json.get(end) {
        match byte {
            b'\'' => break,
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
    let end = end.min(json.len());
    let inside = json.get(1..end).unwrap_or_default();
    // A `"` within needs no escape there; here it would end the string.
    let mut quoted = Vec::with_capacity(inside.len() + 2);
    quoted.push(b'"');
    let mut is_escaped = false;
    for &byte in inside {
        if byte == b'"' && !is_escaped {
            quoted.push(b'\\');
        }
        is_escaped = byte == b'\\' && !is_escaped;
        quoted.push(byte);
    }
    quoted.push(b'"');
    json_string(&quoted, out);
    end + 1
}

/// Whether a text is a document of GraphQL with a string in it.
fn is_graphql(text: &[u8]) -> bool {
    let start = text.trim_ascii_start();
    let operations: [&[u8]; 5] = [b"{", b"query", b"mutation", b"subscription", b"fragment"];
    operations.iter().any(|word| start.starts_with(word))
        && memchr::memchr(b'{', start).is_some()
        && memchr::memchr(b'"', start).is_some()
}

/// Appends a document of GraphQL and each of its string literals.
pub fn graphql(body: &[u8], query: &mut Vec<u8>) {
    pair(b"query", body, query);
    graphql_literals(body, query);
}

fn graphql_literals(text: &[u8], query: &mut Vec<u8>) {
    let mut literal = Vec::new();
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'#', text.get(at..).unwrap_or_default()) {
        at += found;
        let rest = text.get(at..).unwrap_or_default();
        if rest.first() == Some(&b'#') {
            at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        } else if let Some(block) = rest.strip_prefix(b"\"\"\"") {
            let end = memchr::memmem::find(block, b"\"\"\"").unwrap_or(block.len());
            pair(b"", block.get(..end).unwrap_or_default(), query);
            at += 3 + end + 3;
        } else {
            literal.clear();
            at += json_string(rest, &mut literal);
            pair(b"", &literal, query);
        }
    }
}
