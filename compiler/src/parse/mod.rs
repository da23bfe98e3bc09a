//! A rule file's text to [`Document`]s.
//!
//! ```text
//! text ──► yaml (one tree a document) ──► collections (global, reset, repeat) ──► head ─┬─► rule
//!                                                                                      ├─► correlation
//!                                                                                      └─► filter
//! ```
//!
//! Every document is read to its end, so that one run names all its mistakes; one with an error is left out of
//! the result, and the others stay.

mod cases;
mod condition;
mod correlation;
mod detection;
mod head;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::ast::Document;
use crate::diagnostic::{Diagnostic, Report, Severity, short};
use crate::limits;
use crate::nearest::nearest;
use crate::source::{Source, Span, Spanned};
use crate::yaml::{self, Kind, Node};

/// What a file was read with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// For `expand`: the values of each `%placeholder%`. Wildcards in them are wildcards.
    pub placeholders: BTreeMap<String, Vec<String>>,
    /// Whether to read a rule as public rule sets mean it where that is not what the specification says.
    pub public: bool,
}

/// What a file came to.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The file.
    pub source: Arc<Source>,
    /// The documents without errors, in the order of the file.
    pub documents: Vec<Document>,
    /// Errors and warnings, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// The documents with errors, as far as they could be read.
    pub refused: Vec<Refused>,
}

/// A document with errors.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The document.
    pub span: Span,
    /// Its title, if it has one.
    pub title: String,
    /// What it is.
    pub kind: Kinds,
    /// `category`, `product` and `service` of its log source, as far as there are any.
    pub logsource: [String; 3],
}

/// What a document is, by its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kinds {
    Rule,
    Correlation,
    Filter,
    /// It has neither `detection`, `correlation` nor `filter`.
    Other,
}

impl Refused {
    fn of(node: &Rc<Node>) -> Refused {
        let text = |node: Option<&Rc<Node>>| {
            let text = node.and_then(|node| node.text());
            text.unwrap_or_default().to_owned()
        };
        let logsource = node.get("logsource");
        let keys = ["category", "product", "service"];
        let kind = match () {
            () if node.get("correlation").is_some() => Kinds::Correlation,
            () if node.get("filter").is_some() => Kinds::Filter,
            () if node.get("detection").is_some() => Kinds::Rule,
            () => Kinds::Other,
        };
        Refused {
            span: node.span,
            title: text(node.get("title")),
            kind,
            logsource: keys.map(|key| text(logsource.and_then(|logsource| logsource.get(key)))),
        }
    }
}

impl Parsed {
    /// The errors alone. Whoever needs the whole file must see that there are none.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics
            .iter()
            .filter(|one| one.severity == Severity::Error)
    }
}

/// Reads one file. Total: any text gives documents and diagnostics in time and memory that its length and
/// [`limits`] bound.
pub fn parse(name: impl Into<String>, text: impl Into<String>, options: &Options) -> Parsed {
    let source = Source::new(name, text);
    let mut report = Report::new(source.clone());
    let nodes = yaml::read(&mut report);
    let nodes = collections(&mut report, nodes);
    let mut context = Context {
        report: &mut report,
        options,
        matches: 0,
        compared: 0,
    };
    let (mut documents, mut refused) = (Vec::new(), Vec::new());
    for node in &nodes {
        match document(&mut context, node) {
            Some(document) => documents.push(document),
            None => refused.push(Refused::of(node)),
        }
    }
    if documents.is_empty() && report.is_empty() {
        report.warning(
            "empty-file",
            Span::default(),
            "the file holds no rule",
            "write a rule into it, or leave the file out",
        );
    }
    Parsed {
        source,
        documents,
        diagnostics: report.finish(),
        refused,
    }
}

/// Reads one file that may not be text; if it is not, it has no documents and one error that says where.
pub fn parse_bytes(name: impl Into<String>, bytes: &[u8], options: &Options) -> Parsed {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(name, text, options),
        Err(error) => {
            let (good, _) = bytes.split_at(error.valid_up_to());
            let source = Source::new(name, String::from_utf8_lossy(good));
            let mut report = Report::new(source.clone());
            report.error(
                "not-utf8",
                Span::new(good.len(), good.len()),
                "the file is not UTF-8 from here on",
                "save it as UTF-8; in tests of a rule `\\xHH` is the byte HH",
            );
            Parsed {
                source,
                documents: Vec::new(),
                diagnostics: report.finish(),
                refused: Vec::new(),
            }
        }
    }
}

/// What all parts of the parser share.
pub(crate) struct Context<'c> {
    pub report: &'c mut Report,
    pub options: &'c Options,
    /// Size of all matches so far, see [`limits::YAML_NODES`].
    pub matches: usize,
    /// Names that patterns in conditions were compared with so far, likewise.
    pub compared: usize,
}

/// Resolves `action`: `global` is merged into every later document until `reset`, `repeat` is the last document
/// with changes.
fn collections(report: &mut Report, nodes: Vec<Rc<Node>>) -> Vec<Rc<Node>> {
    let mut documents = Vec::new();
    let mut global: Option<Rc<Node>> = None;
    let mut last: Option<Rc<Node>> = None;
    let mut weight = 0usize;
    for node in nodes {
        // `---` at the end of a file makes an empty document.
        if node.scalar().is_some_and(|scalar| scalar.text.is_empty()) {
            continue;
        }
        let Kind::Map(_) = node.kind else {
            report.error(
                "document-not-mapping",
                node.span,
                format!("a document must be a mapping, this is {}", node.noun()),
                "begin with `title: …`",
            );
            continue;
        };
        let action = node.entry("action").cloned();
        let mut document = match action.as_ref().map(|(_, value)| (value.text(), value)) {
            None => node,
            Some((Some("global"), _)) => {
                global = Some(match &global {
                    Some(before) => Rc::new(merged(before, &node)),
                    None => node,
                });
                weight = weight.saturating_add(global.as_ref().map_or(0, |global| global.weight));
                if too_large(
                    report,
                    weight,
                    global.as_ref().map_or(Span::default(), |node| node.span),
                ) {
                    break;
                }
                continue;
            }
            Some((Some("reset"), _)) => {
                global = None;
                // A document of nothing but `action: reset` is no rule.
                if node.entries().len() == 1 {
                    continue;
                }
                node
            }
            Some((Some("repeat"), value)) => match &last {
                Some(last) => Rc::new(merged(last, &node)),
                None => {
                    report.error(
                        "bad-action",
                        value.span,
                        "there is no document before this to repeat",
                        "leave `action` out",
                    );
                    continue;
                }
            },
            Some((_, value)) => {
                report.error(
                    "bad-action",
                    value.span,
                    format!(
                        "`{}` is not an action",
                        short(value.text().unwrap_or(value.noun()))
                    ),
                    "write `global`, `reset` or `repeat`",
                );
                continue;
            }
        };
        let repeated = action
            .as_ref()
            .is_some_and(|(_, value)| value.text() == Some("repeat"));
        if let (Some(global), false) = (&global, repeated) {
            document = Rc::new(merged(global, &document));
        }
        weight = weight.saturating_add(document.weight);
        if too_large(report, weight, document.span) {
            break;
        }
        last = Some(document.clone());
        documents.push(document);
    }
    documents
}

fn too_large(report: &mut Report, weight: usize, span: Span) -> bool {
    // Twice, since documents that are merged with nothing were counted as they were read.
    let too_large = weight > 2 * limits::YAML_NODES;
    if too_large {
        report.error(
            "file-too-large",
            span,
            format!(
                "with `action: global` written out the file holds more than {} values",
                2 * limits::YAML_NODES
            ),
            "split it into several files",
        );
    }
    too_large
}

/// `base` with the entries of `over`; mappings in both are merged in the same way.
fn merged(base: &Rc<Node>, over: &Rc<Node>) -> Node {
    let mut entries = base.entries().to_vec();
    let places: std::collections::HashMap<Rc<str>, usize> = entries
        .iter()
        .enumerate()
        .filter_map(|(at, (key, _))| Some((key.scalar()?.text.clone(), at)))
        .collect();
    for (key, value) in over.entries() {
        let place = key
            .scalar()
            .and_then(|scalar| places.get(&scalar.text))
            .copied();
        match place.and_then(|place| entries.get_mut(place)) {
            Some(entry) => {
                let both_maps =
                    matches!((&entry.1.kind, &value.kind), (Kind::Map(_), Kind::Map(_)));
                let value = if both_maps {
                    Rc::new(merged(&entry.1, value))
                } else {
                    value.clone()
                };
                *entry = (key.clone(), value);
            }
            None => entries.push((key.clone(), value.clone())),
        }
    }
    entries.retain(|(key, _)| key.text() != Some("action"));
    Node::map(over.span, entries)
}

/// Reads one document. `None` if it has errors; the report names them.
fn document(context: &mut Context<'_>, node: &Rc<Node>) -> Option<Document> {
    if context.report.is_full() {
        return None;
    }
    let errors = context.report.errors();
    let read = if node.get("correlation").is_some() {
        correlation::read(context, node)
            .map(|correlation| Document::Correlation(Box::new(correlation)))
    } else if node.get("filter").is_some() {
        detection::filter(context, node).map(|filter| Document::Filter(Box::new(filter)))
    } else {
        detection::rule(context, node).map(|rule| Document::Rule(Box::new(rule)))
    };
    read.filter(|_| context.report.errors() == errors)
}

impl Context<'_> {
    /// A scalar's text; an error if it is something else.
    fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        let text = node.text();
        if text.is_none() {
            let message = format!("{what} must be text, this is {}", node.noun());
            self.report
                .error("not-text", node.span, message, "write one text");
        }
        text
    }

    /// A scalar's text with its place; an error if it is something else.
    fn spanned(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        self.text(node, what)
            .map(|text| Spanned::new(text.to_owned(), node.span))
    }

    /// A text or a list of texts.
    fn texts(&mut self, node: &Rc<Node>, what: &str) -> Vec<Spanned<String>> {
        node.items()
            .iter()
            .filter_map(|item| self.spanned(item, what))
            .collect()
    }

    /// Refuses keys of a mapping that is ours or wholly specified, so that a misspelt key is not ignored.
    fn only_keys(&mut self, node: &Node, known: &[&str], what: &str) {
        for (key, _) in node.entries() {
            let name = key.scalar().map_or("", |scalar| &*scalar.text);
            if !known.contains(&name) && !self.report.is_full() {
                let help = crate::nearest::suggest(name, known.iter().copied(), || {
                    format!("the keys are {}", crate::nearest::list(known, "and"))
                });
                self.report.error(
                    "unknown-key",
                    key.span,
                    format!("{what} has no key `{}`", short(name)),
                    help,
                );
            }
        }
    }

    /// Warns of keys that look like misspelt ones of Sigma; other unknown keys are the author's own.
    fn near_keys(&mut self, node: &Node, known: &[&str]) {
        // Nobody misspells so many.
        for (key, _) in node.entries().iter().take(200) {
            let name = key.scalar().map_or("", |scalar| &*scalar.text);
            if known.contains(&name) || name.len() < 4 {
                continue;
            }
            if let [near, ..] = nearest(name, known.iter().copied()).as_slice() {
                self.report.warning(
                    "unknown-key",
                    key.span,
                    format!("`{}` is not a key of Sigma, and is ignored", short(name)),
                    format!("did you mean `{near}`?"),
                );
            }
        }
    }

    /// A mapping; an error if it is something else.
    fn mapping(&mut self, node: &Node, what: &str) -> Option<()> {
        if matches!(node.kind, Kind::Map(_)) {
            return Some(());
        }
        let message = format!("{what} must be a mapping, this is {}", node.noun());
        self.report.error(
            "not-a-mapping",
            node.span,
            message,
            "write `key: value` lines below it, indented",
        );
        None
    }
}
