//! What only all documents together can tell: ids given twice, and what correlations and filters refer to.
//!
//! In go the documents of all files; out come diagnostics, and an [`Index`] that finds a document by the id or name
//! under which another one refers to it.

use std::collections::HashMap;

use crate::ast::{Correlation, CorrelationCondition, Document, Head};
use crate::diagnostic::{Diagnostic, Severity, short};
use crate::expand::some_fields;
use crate::limits;
use crate::nearest::{list, suggest};
use crate::source::{Span, Spanned};
use crate::taxonomy::{self, Category};

/// Documents by id and name.
#[derive(Clone, Debug, Default)]
pub struct Index {
    by_id: HashMap<String, usize>,
    by_name: HashMap<String, usize>,
}

impl Index {
    /// The index of these documents. Of two with the same id or name the first counts.
    pub fn of(documents: &[Document]) -> Index {
        let mut index = Index::default();
        for (at, document) in documents.iter().enumerate() {
            if let Some(id) = &document.head().id {
                index.by_id.entry(id.value.clone()).or_insert(at);
            }
            if let Some(name) = &document.head().name {
                index.by_name.entry(name.value.clone()).or_insert(at);
            }
        }
        index
    }

    /// The place of the document with this id (in any letter case) or name.
    pub fn find(&self, reference: &str) -> Option<usize> {
        self.by_id
            .get(&reference.to_ascii_lowercase())
            .or_else(|| self.by_name.get(reference))
            .copied()
    }
}

/// Checks all documents against each other.
pub fn link(documents: &[Document]) -> Vec<Diagnostic> {
    let index = Index::of(documents);
    let mut linker = Linker {
        documents,
        index: &index,
        diagnostics: Vec::new(),
        leaves: vec![Leaves::Unknown; documents.len()],
    };
    for (at, document) in documents.iter().enumerate() {
        linker.unique(at, document.head());
    }
    for at in 0..documents.len() {
        linker.leaves(at, 0);
    }
    for document in documents {
        match document {
            Document::Rule(_) => {}
            Document::Correlation(correlation) => linker.correlation(correlation),
            Document::Filter(filter) => {
                for reference in filter.rules.iter().flatten() {
                    let Some(at) = linker.resolve(&filter.head, reference) else {
                        continue;
                    };
                    match documents.get(at) {
                        Some(Document::Rule(rule))
                            if rule.logsource.category != filter.logsource.category =>
                        {
                            let message = format!(
                                "this rule is about `{}`, the filter about `{}`",
                                rule.logsource.category.name(),
                                filter.logsource.category.name()
                            );
                            let help = "give the filter the rule's `logsource`";
                            linker.say(
                                Severity::Error,
                                "filter-logsource",
                                &filter.head,
                                reference.span,
                                message,
                                help,
                            );
                        }
                        Some(Document::Rule(_)) | None => {}
                        Some(_) => {
                            let message =
                                "a filter narrows detection rules, and this is none".to_owned();
                            let help = "name the rules that the correlation is about";
                            linker.say(
                                Severity::Error,
                                "not-a-rule",
                                &filter.head,
                                reference.span,
                                message,
                                help,
                            );
                        }
                    }
                }
            }
        }
    }
    linker.diagnostics
}

/// The event source of the rules that a document comes down to.
#[derive(Clone, Debug)]
enum Leaves {
    Unknown,
    /// Being looked at: meeting it again is a cycle.
    Open,
    /// Without repetition.
    Known(Vec<Category>),
}

struct Linker<'d> {
    documents: &'d [Document],
    index: &'d Index,
    diagnostics: Vec<Diagnostic>,
    leaves: Vec<Leaves>,
}

/// Correlations of correlations of … this many levels deep.
const CHAIN: usize = 32;

impl Linker<'_> {
    fn say(
        &mut self,
        severity: Severity,
        code: &'static str,
        head: &Head,
        span: Span,
        message: String,
        help: impl Into<String>,
    ) {
        let source = head.source.clone();
        self.diagnostics.push(Diagnostic {
            severity,
            code,
            source,
            span,
            message,
            help: help.into(),
        });
    }

    fn unique(&mut self, at: usize, head: &Head) {
        let keys = [
            ("id", &head.id, &self.index.by_id),
            ("name", &head.name, &self.index.by_name),
        ];
        for (key, value, places) in keys {
            let Some(value) = value else { continue };
            let first = places
                .get(&value.value)
                .copied()
                .filter(|first| *first != at);
            let Some(first) = first
                .and_then(|first| self.documents.get(first))
                .map(Document::head)
            else {
                continue;
            };
            let place = first.source.position(first.title.span);
            let message = format!(
                "`{}` at {}:{} has the same `{key}`",
                short(&first.title.value),
                first.source.name(),
                place.line
            );
            let code = if key == "id" {
                "duplicate-id"
            } else {
                "duplicate-name"
            };
            self.say(
                Severity::Error,
                code,
                head,
                value.span,
                message,
                "give every document its own",
            );
        }
    }

    /// The document that is meant; an error if there is none.
    fn resolve(&mut self, head: &Head, reference: &Spanned<String>) -> Option<usize> {
        let found = self.index.find(&reference.value);
        if found.is_none() {
            // Looking for names costs time, and after so many mistakes nobody reads on.
            let few = self.diagnostics.len() < limits::DIAGNOSTICS;
            let names = self
                .documents
                .iter()
                .filter(|_| few)
                .filter_map(|document| document.head().name.as_ref());
            let help = suggest(
                &reference.value,
                names.map(|name| name.value.as_str()),
                || "write the `id` or `name` of a rule that is loaded as well".to_owned(),
            );
            let message = format!("there is no rule `{}`", short(&reference.value));
            self.say(
                Severity::Error,
                "unknown-rule",
                head,
                reference.span,
                message,
                help,
            );
        }
        found
    }

    /// Finds the event sources of a document; reports cycles and what is not there.
    fn leaves(&mut self, at: usize, depth: usize) -> Vec<Category> {
        match self.leaves.get(at) {
            Some(Leaves::Known(known)) => return known.clone(),
            None | Some(Leaves::Open) => return Vec::new(),
            Some(Leaves::Unknown) => {}
        }
        self.set(at, Leaves::Open);
        let documents = self.documents;
        let mut all: Vec<Category> = match documents.get(at) {
            Some(Document::Rule(rule)) => vec![rule.logsource.category],
            Some(Document::Correlation(correlation)) => {
                let head = &correlation.head;
                let mut all = Vec::new();
                for reference in &correlation.rules {
                    let Some(to) = self.resolve(head, reference) else {
                        continue;
                    };
                    let open = matches!(self.leaves.get(to), Some(Leaves::Open));
                    if open || depth >= CHAIN {
                        let message = if open {
                            format!(
                                "`{}` comes back to this correlation",
                                short(&reference.value)
                            )
                        } else {
                            format!("correlations of correlations go deeper than {CHAIN} levels")
                        };
                        let help = "refer to detection rules, or to a correlation that does not depend on this one";
                        self.say(
                            Severity::Error,
                            "cyclic-correlation",
                            head,
                            reference.span,
                            message,
                            help,
                        );
                        continue;
                    }
                    if matches!(documents.get(to), Some(Document::Filter(_))) {
                        let message =
                            "a correlation counts matches of rules, and a filter has none"
                                .to_owned();
                        self.say(
                            Severity::Error,
                            "not-a-rule",
                            head,
                            reference.span,
                            message,
                            "name a rule",
                        );
                        continue;
                    }
                    all.extend(self.leaves(to, depth + 1));
                }
                all
            }
            Some(Document::Filter(_)) | None => Vec::new(),
        };
        all.sort();
        all.dedup();
        self.set(at, Leaves::Known(all.clone()));
        all
    }

    fn set(&mut self, at: usize, leaves: Leaves) {
        if let Some(place) = self.leaves.get_mut(at) {
            *place = leaves;
        }
    }

    /// Checks the fields that a correlation names, in the vocabulary of the rules it comes down to.
    fn correlation(&mut self, correlation: &Correlation) {
        let sources = |linker: &Self, rule: &Spanned<String>| match linker
            .index
            .find(&rule.value)
            .and_then(|at| linker.leaves.get(at))
        {
            Some(Leaves::Known(known)) => known.clone(),
            _ => Vec::new(),
        };
        let mut all: Vec<Category> = correlation
            .rules
            .iter()
            .flat_map(|rule| sources(self, rule))
            .collect();
        all.sort();
        all.dedup();
        let condition_field = match &correlation.condition {
            CorrelationCondition::Bounds { field, .. } => field.as_ref(),
            CorrelationCondition::Expression(_) => None,
        };
        for field in correlation.group_by.iter().chain(condition_field) {
            if !correlation
                .aliases
                .iter()
                .any(|alias| alias.name.value == field.value)
            {
                self.field(&correlation.head, field, &all);
            }
        }
        for (rule, field) in correlation.aliases.iter().flat_map(|alias| &alias.fields) {
            let Some(reference) = correlation.rules.get(rule.value) else {
                continue;
            };
            let sources = sources(self, reference);
            self.field(&correlation.head, field, &sources);
        }
    }

    fn field(&mut self, head: &Head, field: &Spanned<String>, sources: &[Category]) {
        let is_request =
            |category: &Category| matches!(category, Category::Webserver | Category::Proxy);
        match field.value.as_str() {
            taxonomy::ALERT_TYPE => return,
            taxonomy::SOURCE_NETWORK if sources.iter().all(is_request) => return,
            _ => {}
        }
        for category in sources {
            if let Err(near) = taxonomy::resolve(*category, &field.value) {
                let message = format!(
                    "`{}` events have no field `{}`",
                    category.name(),
                    short(&field.value)
                );
                let help = if near.is_empty() {
                    some_fields(*category)
                } else {
                    format!("did you mean {}?", list(&near, "or"))
                };
                self.say(
                    Severity::Error,
                    "unknown-field",
                    head,
                    field.span,
                    message,
                    help,
                );
                return;
            }
        }
    }
}
