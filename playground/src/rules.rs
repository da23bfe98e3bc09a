//! The rules that ship, and the user's beside them.
//!
//! Takes in Sigma YAML as it is typed. Gives out one ruleset of both, or what is wrong, with offsets as JavaScript counts
//! them. A document with the id of a shipped rule takes that rule's place, so that a shipped rule can be tuned.

use std::cell::OnceCell;
use std::sync::Arc;

use portcullis::ruleset::RuleSet;
use portcullis_compiler::ast::Document;
use portcullis_compiler::diagnostic::{Diagnostic, Severity};
use portcullis_compiler::link::link;
use portcullis_compiler::source::{Position, Source};
use portcullis_compiler::{Options, backend, parse};
use serde::Serialize;

/// What the user's rules are called where a file's name stands.
pub const OWN: &str = "your-rule.yml";

static BLOB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rules.bin"));
static EXPRESSIONS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/expressions.bin"));
static SOURCES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sources.rs"));

/// The text of the shipped file of that name.
pub fn source(path: &str) -> Option<&'static str> {
    let (_, text) = SOURCES.iter().find(|(name, _)| *name == path)?;
    Some(text)
}

/// The shipped rules.
#[derive(Debug, Default)]
pub struct Shipped {
    documents: OnceCell<Vec<Document>>,
}

/// What became of the user's text.
#[derive(Debug, Default)]
pub struct Compiled {
    /// The shipped rules and the user's; none if there is something wrong.
    pub rules: Option<RuleSet>,
    /// The user's documents.
    pub own: Vec<Document>,
    /// Titles of shipped rules whose places they take.
    pub replaced: Vec<String>,
    /// What there is to say.
    pub remarks: Vec<Remark>,
}

/// A diagnostic, as the page shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Remark {
    /// `error` or `warning`.
    severity: String,
    code: &'static str,
    message: String,
    help: String,
    line: usize,
    column: usize,
    /// Where it is, in UTF-16 units from the text's start.
    start: usize,
    end: usize,
}

impl Remark {
    fn new(diagnostic: &Diagnostic) -> Remark {
        let Position { line, column } = diagnostic.position();
        let text = diagnostic.source.text();
        let span = diagnostic.span.range();
        let start = utf16(text, span.start);
        // What is about many lines is shown at the first.
        let first = diagnostic.source.excerpt(diagnostic.span).lines().next();
        let length = first.map_or(0, |first| first.encode_utf16().count());
        Remark {
            severity: diagnostic.severity.to_string(),
            code: diagnostic.code,
            message: diagnostic.message.clone(),
            help: diagnostic.help.clone(),
            line,
            column,
            start,
            end: start + length.max(1),
        }
    }

    fn is_error(&self) -> bool {
        self.severity == Severity::Error.to_string()
    }
}

/// An offset in bytes as one in UTF-16 units, which JavaScript counts in.
pub fn utf16(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.encode_utf16().count()
}

impl Shipped {
    /// Their compiled form.
    pub fn rules() -> Result<RuleSet, String> {
        RuleSet::open(BLOB).map_err(|error| error.to_string())
    }

    fn documents(&self) -> &[Document] {
        self.documents.get_or_init(|| {
            backend::learn(EXPRESSIONS);
            let parsed = SOURCES
                .iter()
                .map(|(name, text)| parse(*name, *text, &Options::default()));
            parsed.flat_map(|parsed| parsed.documents).collect()
        })
    }

    /// Compiles the user's text beside them.
    pub fn beside(&self, text: &str) -> Compiled {
        let mut compiled = Compiled::default();
        if text.trim().is_empty() {
            match Shipped::rules() {
                Ok(rules) => compiled.rules = Some(rules),
                Err(error) => compiled.refuse(&error),
            }
            return compiled;
        }
        let parsed = parse(OWN, text, &Options::default());
        compiled.add(&parsed.diagnostics, &parsed.source);
        compiled.own = parsed.documents;
        if compiled.is_refused() {
            return compiled;
        }
        let id = |document: &Document| document.head().id.as_ref().map(|id| id.value.clone());
        let own: Vec<String> = compiled.own.iter().filter_map(id).collect();
        let mut all = Vec::new();
        for document in self.documents() {
            if id(document).is_some_and(|id| own.contains(&id)) {
                compiled.replaced.push(document.head().title.value.clone());
            } else {
                all.push(document.clone());
            }
        }
        all.extend(compiled.own.iter().cloned());
        compiled.add(&link(&all), &parsed.source);
        if compiled.is_refused() {
            return compiled;
        }
        match backend::compile(&all) {
            Ok(built) => {
                compiled.add(&built.warnings, &parsed.source);
                match RuleSet::open(built.bytes) {
                    Ok(rules) => compiled.rules = Some(rules),
                    Err(error) => compiled.refuse(&error.to_string()),
                }
            }
            Err(errors) => compiled.add(&errors, &parsed.source),
        }
        compiled
    }
}

impl Compiled {
    /// Adds what is about the user's text, and what of the shipped rules breaks because of it.
    fn add(&mut self, diagnostics: &[Diagnostic], own: &Arc<Source>) {
        for diagnostic in diagnostics {
            if Arc::ptr_eq(&diagnostic.source, own) {
                self.remarks.push(Remark::new(diagnostic));
            } else if diagnostic.severity == Severity::Error {
                self.refuse(&diagnostic.one_line());
            }
        }
    }

    fn refuse(&mut self, message: &str) {
        self.remarks.push(Remark {
            severity: Severity::Error.to_string(),
            code: "shipped-rule",
            message: message.to_owned(),
            help: String::new(),
            line: 1,
            column: 1,
            start: 0,
            end: 1,
        });
    }

    fn is_refused(&self) -> bool {
        self.remarks.iter().any(Remark::is_error)
    }
}
