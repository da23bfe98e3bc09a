//! YAML as a small tree in which everything knows where it was written.
//!
//! In goes a rule file; out comes one [`Node`] a document. The parser proper is `saphyr-parser`; this module
//! adds what a hostile file needs: duplicate keys are errors, nesting and size are bounded ([`limits`]), and an
//! alias shares the node that it stands for while counting at full weight, so that nothing which walks the tree
//! later can be made to walk for ever.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use crate::ast::Number;
use crate::diagnostic::{Report, short};
use crate::limits;
use crate::source::{Source, Span};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where.
    pub span: Span,
    /// What.
    pub kind: Kind,
    /// Nodes in it, itself included; long text counts as more than one.
    pub weight: usize,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// One text.
    Scalar(Scalar),
    /// Several values.
    List(Vec<Rc<Node>>),
    /// Keys and their values, in order, no key twice.
    Map(Vec<(Rc<Node>, Rc<Node>)>),
}

/// A scalar as it was written, and whether quotes say that it is text.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// The text, quotes and escapes undone.
    pub text: Rc<str>,
    /// Whether there were quotes.
    pub quoted: bool,
}

/// What a scalar is by the core schema of YAML.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plain {
    /// Nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Anything else.
    Text,
}

impl Scalar {
    /// Null, a boolean, a number or text.
    pub fn plain(&self) -> Plain {
        if self.quoted {
            return Plain::Text;
        }
        match &*self.text {
            "" | "~" | "null" | "Null" | "NULL" => Plain::Null,
            "true" | "True" | "TRUE" => Plain::Bool(true),
            "false" | "False" | "FALSE" => Plain::Bool(false),
            text => number(text).map_or(Plain::Text, Plain::Number),
        }
    }
}

/// A number as the core schema writes it. Infinities are none: no field of an event holds one.
pub fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16)
            .ok()
            .filter(|_| !hex.starts_with(['-', '+']))
            .map(Number::Integer);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return i64::from_str_radix(octal, 8)
            .ok()
            .filter(|_| !octal.starts_with(['-', '+']))
            .map(Number::Integer);
    }
    let known = |c: u8| c.is_ascii_digit() || matches!(c, b'.' | b'e' | b'E' | b'-' | b'+');
    if !digits.bytes().all(known) || !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    match text.parse() {
        Ok(integer) => Some(Number::Integer(integer)),
        Err(_) => text
            .parse()
            .ok()
            .filter(|float: &f64| float.is_finite())
            .map(Number::Float),
    }
}

impl Node {
    /// What it is, for messages: "a mapping".
    pub fn noun(&self) -> &'static str {
        match &self.kind {
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
            Kind::Scalar(scalar) => match scalar.plain() {
                Plain::Null => "nothing",
                Plain::Bool(_) => "a boolean",
                Plain::Number(_) => "a number",
                Plain::Text => "text",
            },
        }
    }

    /// The scalar, if it is one.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The scalar's text; `None` for null, lists and mappings.
    pub fn text(&self) -> Option<&str> {
        self.scalar()
            .filter(|scalar| scalar.plain() != Plain::Null)
            .map(|scalar| &*scalar.text)
    }

    /// The entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[(Rc<Node>, Rc<Node>)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value of a mapping's key.
    pub fn get(&self, key: &str) -> Option<&Rc<Node>> {
        self.entry(key).map(|(_, value)| value)
    }

    /// A mapping's key, with its place, and value.
    pub fn entry(&self, key: &str) -> Option<&(Rc<Node>, Rc<Node>)> {
        self.entries()
            .iter()
            .find(|(have, _)| have.scalar().is_some_and(|scalar| &*scalar.text == key))
    }

    /// A list's items, or the node itself if it is no list.
    pub fn items(self: &Rc<Node>) -> &[Rc<Node>] {
        match &self.kind {
            Kind::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// A mapping of these entries.
    pub fn map(span: Span, entries: Vec<(Rc<Node>, Rc<Node>)>) -> Node {
        let weight = entries
            .iter()
            .map(|(key, value)| key.weight + value.weight)
            .sum::<usize>()
            + 1;
        Node {
            span,
            kind: Kind::Map(entries),
            weight,
        }
    }

    /// Where a part of the scalar's text stands in the file. Exact where the text stands there as it is; inside
    /// folded or escaped text the place of the same words, or the whole scalar.
    pub fn inner(&self, source: &Source, start: usize, end: usize) -> Span {
        let Some(scalar) = self.scalar() else {
            return self.span;
        };
        let raw = source.excerpt(self.span);
        let begin = self.span.start as usize;
        let quote = usize::from(raw.starts_with(['"', '\'']));
        if raw
            .get(quote..)
            .is_some_and(|raw| raw.starts_with(&*scalar.text))
        {
            return Span::new(begin + quote + start, begin + quote + end);
        }
        let (Some(before), Some(words)) = (scalar.text.get(..start), scalar.text.get(start..end))
        else {
            return self.span;
        };
        let found = match words {
            "" => None,
            words => raw.match_indices(words).nth(before.matches(words).count()),
        };
        found.map_or(self.span, |(at, words)| {
            Span::new(begin + at, begin + at + words.len())
        })
    }
}

/// All documents of a file. Stops at the first thing that is not YAML, with what came before it.
pub fn read(report: &mut Report) -> Vec<Rc<Node>> {
    let source = report.source.clone();
    if source.text().len() > limits::FILE_BYTES {
        report.error(
            "file-too-large",
            Span::default(),
            format!(
                "the file is {} bytes long, {} are allowed",
                source.text().len(),
                limits::FILE_BYTES
            ),
            "split it into several files",
        );
        return Vec::new();
    }
    let mut reader = Reader {
        offsets: Offsets::of(source.text()),
        report,
        open: Vec::new(),
        anchors: HashMap::new(),
        weight: 0,
        documents: Vec::new(),
    };
    // A byte order mark is legal, and the parser of events does not take it.
    let text = source.text();
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    reader.offsets.skipped = text.len() - bare.len();
    for event in Parser::new_from_str(bare) {
        match event {
            Ok((event, span)) => {
                let span = reader.offsets.span(span.start, span.end);
                if reader.event(event, span).is_err() {
                    break;
                }
            }
            Err(error) => {
                let span = reader.offsets.span(*error.marker(), *error.marker());
                let (message, help) = explain(
                    error.info(),
                    source.excerpt(Span::new(span.start as usize, text.len())),
                );
                reader.report.error("yaml-syntax", span, message, help);
                break;
            }
        }
    }
    reader.documents
}

/// The parser's complaint, and what is usually behind it.
fn explain(info: &str, at: &str) -> (String, String) {
    let help = if at.starts_with('\t') || info.contains("tab") {
        "indent with spaces; YAML allows no tabs there"
    } else if at.starts_with('*') || info.contains("alias") {
        "put the value into single quotes: a `*` in front means an alias in YAML"
    } else if at.starts_with(['%', '@', '`']) {
        "put the value into single quotes: it begins with a character that YAML reserves"
    } else if info.contains("mapping values") {
        "put a value that holds `: ` into single quotes, and check the indentation"
    } else {
        "check quotes and indentation here and on the line above"
    };
    (format!("this is not YAML: {info}"), help.to_owned())
}

/// Character offsets, as the parser counts, to byte offsets.
struct Offsets {
    /// Byte offset of each character; empty if all are ASCII and so both are the same.
    bytes: Vec<u32>,
    skipped: usize,
    length: usize,
}

impl Offsets {
    fn of(text: &str) -> Offsets {
        let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
        let bytes = if bare.is_ascii() {
            Vec::new()
        } else {
            bare.char_indices()
                .map(|(at, _)| Span::new(at, at).start)
                .collect()
        };
        Offsets {
            bytes,
            skipped: 0,
            length: bare.len(),
        }
    }

    fn byte(&self, marker: Marker) -> usize {
        let byte = if self.bytes.is_empty() {
            marker.index().min(self.length)
        } else {
            self.bytes
                .get(marker.index())
                .map_or(self.length, |at| *at as usize)
        };
        byte + self.skipped
    }

    fn span(&self, start: Marker, end: Marker) -> Span {
        Span::new(self.byte(start), self.byte(end))
    }
}

/// A list or mapping that has begun and not ended.
struct Open {
    span: Span,
    anchor: usize,
    map: bool,
    /// Items, or keys and values by turns.
    items: Vec<Rc<Node>>,
}

struct Reader<'r> {
    offsets: Offsets,
    report: &'r mut Report,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    weight: usize,
    documents: Vec<Rc<Node>>,
}

/// Reading ends here; the report says why.
struct Stop;

impl Reader<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain || self.tagged_text(tag.as_deref(), span);
                let weight = 1 + text.len() / 32;
                let kind = Kind::Scalar(Scalar {
                    text: Rc::from(&*text),
                    quoted,
                });
                self.add(Rc::new(Node { span, kind, weight }), anchor, weight)
            }
            Event::SequenceStart(anchor, tag) => {
                self.tagged_text(tag.as_deref(), span);
                self.begin(Open {
                    span,
                    anchor,
                    map: false,
                    items: Vec::new(),
                })
            }
            Event::MappingStart(anchor, tag) => {
                self.tagged_text(tag.as_deref(), span);
                self.begin(Open {
                    span,
                    anchor,
                    map: true,
                    items: Vec::new(),
                })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return Ok(());
                };
                let anchor = open.anchor;
                let node = Rc::new(self.close(open, span));
                self.add(node, anchor, 1)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    let weight = node.weight;
                    self.add(node, 0, weight)
                }
                None => {
                    self.report.error(
                        "yaml-syntax",
                        span,
                        "this alias stands inside what it stands for",
                        "write the value out",
                    );
                    Err(Stop)
                }
            },
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    /// Whether the tag says "this is text". Tags that nobody here understands are errors, not ignored.
    fn tagged_text(&mut self, tag: Option<&Tag>, span: Span) -> bool {
        let Some(tag) = tag else { return false };
        let core = tag.is_yaml_core_schema() || tag.handle == "!!";
        match tag.suffix.as_str() {
            "str" if core => true,
            "int" | "float" | "bool" | "null" | "map" | "seq" if core => false,
            // The non-specific tag: text whatever it looks like.
            "" => true,
            other => {
                self.report.error(
                    "unknown-tag",
                    span,
                    format!("the tag `{}{}` is not known", tag.handle, short(other)),
                    "leave the tag out",
                );
                true
            }
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), Stop> {
        if self.open.len() >= limits::YAML_DEPTH {
            self.report.error(
                "yaml-too-deep",
                open.span,
                format!("this nests deeper than {} levels", limits::YAML_DEPTH),
                "a rule needs five or six",
            );
            return Err(Stop);
        }
        self.open.push(open);
        Ok(())
    }

    /// Puts a node where it belongs. A collection's parts were counted when they came, so it counts as one
    /// more; an alias counts as all that it stands for.
    fn add(&mut self, node: Rc<Node>, anchor: usize, counted: usize) -> Result<(), Stop> {
        self.weight = self.weight.saturating_add(counted);
        if self.weight > limits::YAML_NODES {
            self.report.error(
                "file-too-large",
                node.span,
                format!(
                    "with its aliases written out the file holds more than {} values",
                    limits::YAML_NODES
                ),
                "split it into several files, and write aliases of aliases out",
            );
            return Err(Stop);
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            Some(open) => open.items.push(node),
            None => self.documents.push(node),
        }
        Ok(())
    }

    fn close(&mut self, open: Open, end: Span) -> Node {
        let last = open
            .items
            .last()
            .map_or(open.span.end, |last| last.span.end);
        // A block ends where the next token begins, which may be far below; its last value says where.
        let end = if self.report.source.excerpt(end).starts_with([']', '}']) {
            end.end
        } else {
            last
        };
        let span = Span {
            start: open.span.start,
            end: end.max(open.span.start),
        };
        if open.map {
            return self.close_map(span, open.items);
        }
        let weight = open.items.iter().map(|item| item.weight).sum::<usize>() + 1;
        Node {
            span,
            kind: Kind::List(open.items),
            weight,
        }
    }

    fn close_map(&mut self, span: Span, items: Vec<Rc<Node>>) -> Node {
        let mut entries: Vec<(Rc<Node>, Rc<Node>)> = Vec::with_capacity(items.len() / 2);
        let mut merges = Vec::new();
        let mut seen: HashSet<Rc<str>> = HashSet::new();
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let Some(scalar) = key.scalar() else {
                self.report.error(
                    "key-not-text",
                    key.span,
                    format!("a key must be text, this is {}", key.noun()),
                    "write `key: value`",
                );
                continue;
            };
            if !scalar.quoted && &*scalar.text == "<<" {
                merges.push(value);
            } else if seen.insert(scalar.text.clone()) {
                entries.push((key, value));
            } else {
                // Mappings in mappings are selections, and there two lines of one field are a common mistake.
                let help = if self.open.len() < 2 {
                    "leave one of them out"
                } else {
                    "join their values to one list, with `|all` if every one must match"
                };
                let message = format!("the key `{}` is there twice", short(&scalar.text));
                self.report.error("duplicate-key", key.span, message, help);
            }
        }
        for merge in merges {
            for from in merge.items() {
                if !matches!(from.kind, Kind::Map(_)) {
                    self.report.error(
                        "merge-not-mapping",
                        from.span,
                        format!("`<<` merges mappings, this is {}", from.noun()),
                        "name a mapping by its anchor: `<<: *name`",
                    );
                }
                for (key, value) in from.entries() {
                    if key
                        .scalar()
                        .is_some_and(|scalar| seen.insert(scalar.text.clone()))
                    {
                        entries.push((key.clone(), value.clone()));
                    }
                }
            }
        }
        Node::map(span, entries)
    }
}
