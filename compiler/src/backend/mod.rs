//! From parsed rules to the bytes that the engine opens.
//!
//! Takes in [`Document`]s. Gives out a compiled ruleset, and what there is to say about rules that
//! compile but cost more than they should.
//!
//! ```text
//! rule ──► tree (leaves: one question about one field) ──► anchors (what must be there to match)
//!                            │                                 │
//!                            └──────────► writer ◄─────────────┘──► bytes
//! ```

mod anchor;
mod correlation;
mod pack;
mod regex;
mod tree;
mod writer;

use portcullis::catalogue::{self, Severity};
use portcullis::event::Source;
use portcullis::field::Field;
use portcullis::ruleset::layout;

use crate::ast::{Document, Filter, Head, Level, Rule};
use crate::diagnostic::{self, Diagnostic};
use crate::link::Index;
use crate::source::Span;
use crate::taxonomy::Category;
pub use pack::pack;
pub use regex::{learn, learned};
use tree::Tree;
use writer::Writer;

/// Rules that were compiled.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// What `RuleSet::open` opens.
    pub bytes: Vec<u8>,
    /// What there is to say of rules that are in it all the same.
    pub warnings: Vec<Diagnostic>,
}

/// The alert type of rules that name none: rules of the operator's or of a public set.
pub const DEFAULT_ALERT: &str = "Gateway_CustomRule";

/// Compiles detection rules and correlations, with filters joined to the rules that they are for; all or nothing. A
/// rule's number is its place among the documents that are no filters.
pub fn compile(documents: &[Document]) -> Result<Compiled, Vec<Diagnostic>> {
    let (filters, documents): (Vec<Document>, Vec<Document>) = documents
        .iter()
        .cloned()
        .partition(|document| matches!(document, Document::Filter(_)));
    let filters = Filters::of(&filters, &documents);
    let documents = documents.as_slice();
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    let mut writer = Writer::default();
    let index = Index::of(documents);
    let silent = silent(documents);
    for (at, (document, silent)) in documents.iter().zip(silent).enumerate() {
        let remark = |code, span, message: String, help: &str| Diagnostic {
            severity: diagnostic::Severity::Error,
            code,
            source: document.head().source.clone(),
            span,
            message,
            help: help.to_owned(),
        };
        let rule = match document {
            Document::Rule(rule) => rule,
            Document::Correlation(correlation) => {
                let compiled =
                    input(&correlation.head, Source::Correlation, silent).and_then(|input| {
                        Ok((input, correlation::of(correlation, documents, &index)?))
                    });
                match compiled {
                    Ok((input, correlation)) => writer.correlation(&input, &correlation),
                    Err((code, span, message, help)) => {
                        errors.push(remark(code, span, message, help));
                    }
                }
                continue;
            }
            // They were taken out above.
            Document::Filter(_) => continue,
        };
        match compile_rule(rule, filters.for_rule(at), silent, &mut writer) {
            Ok(anchored) => {
                if !anchored {
                    warnings.push(Diagnostic {
                        severity: diagnostic::Severity::Warning,
                        ..remark(
                            "rule-without-anchor",
                            rule.head.title.span,
                            "every event has to evaluate this rule".to_owned(),
                            "ask for a text of four bytes or more, or for one with a rare character, \
                             that must be there for the rule to match",
                        )
                    });
                }
            }
            Err((code, span, message, help)) => errors.push(remark(code, span, message, help)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    match (writer.finish(), documents.first()) {
        (Some(bytes), _) => Ok(Compiled { bytes, warnings }),
        (None, first) => Err(first
            .map(|document| Diagnostic {
                severity: diagnostic::Severity::Error,
                code: "too-many-texts",
                source: document.head().source.clone(),
                span: document.head().title.span,
                message: format!(
                    "the rules together ask for more than {} texts",
                    layout::Index::END - 1
                ),
                help: "compile fewer rules into one ruleset".to_owned(),
            })
            .into_iter()
            .collect()),
    }
}

/// An error without its file.
type Refusal = (&'static str, Span, String, &'static str);

/// Compiles one rule. Returns whether it has an anchor.
fn compile_rule<'d>(
    rule: &Rule,
    filters: impl Iterator<Item = &'d Filter>,
    silent: bool,
    writer: &mut Writer,
) -> Result<bool, Refusal> {
    let head = &rule.head;
    let source = match rule.logsource.category {
        Category::Webserver | Category::Proxy => Source::Request,
        Category::ProcessCreation => Source::Process,
    };
    let tree = filters
        .into_iter()
        .try_fold(Tree::of(&rule.detection)?, |tree, filter| {
            tree.and(Tree::of(&filter.detection)?, &rule.detection)
        })?;
    let input = writer::RuleInput {
        needs_response: tree.reads(&|field: Field| field.needs_response()),
        ..input(head, source, silent)?
    };
    let is_anchored = writer.rule(&input, &tree);
    // A status that few responses have is as good as a text that few requests have.
    let is_rare = || tree.with_status(200) == Some(false);
    Ok(is_anchored || input.needs_response && is_rare())
}

/// Sigma's filter documents, by the rules that they are for.
struct Filters<'d> {
    filters: Vec<(&'d Filter, Vec<bool>)>,
}

impl<'d> Filters<'d> {
    /// The filters among `documents`, for these rules. That each names rules of its event source is the linker's
    /// to check.
    fn of(documents: &'d [Document], rules: &[Document]) -> Filters<'d> {
        let index = Index::of(rules);
        let filters = documents.iter().filter_map(|document| {
            let Document::Filter(filter) = document else {
                return None;
            };
            let mut holds = vec![false; rules.len()];
            match &filter.rules {
                Some(references) => {
                    for at in references.iter().filter_map(|rule| index.find(&rule.value)) {
                        holds.get_mut(at).into_iter().for_each(|holds| *holds = true);
                    }
                }
                None => {
                    let category = filter.logsource.category;
                    for (holds, rule) in holds.iter_mut().zip(rules) {
                        *holds = matches!(rule, Document::Rule(rule) if rule.logsource.category == category);
                    }
                }
            }
            Some((filter.as_ref(), holds))
        });
        Filters {
            filters: filters.collect(),
        }
    }

    fn for_rule(&self, at: usize) -> impl Iterator<Item = &'d Filter> {
        let filters = self.filters.iter();
        filters
            .filter(move |(_, holds)| holds.get(at).copied().unwrap_or_default())
            .map(|(filter, _)| *filter)
    }
}

/// What an alert says of the rule.
fn input(head: &Head, source: Source, silent: bool) -> Result<writer::RuleInput<'_>, Refusal> {
    let (name, span) = head
        .custom
        .alert
        .as_ref()
        .map_or((DEFAULT_ALERT, head.span), |alert| {
            (alert.value.as_str(), alert.span)
        });
    let Some((alert, kind)) = catalogue::find(name) else {
        return Err((
            "unknown-alert-type",
            span,
            format!("the catalogue has no alert type `{name}`"),
            "use an identifier of the catalogue, see `docs/ALERTS.md`",
        ));
    };
    let own_severity = if kind.id == DEFAULT_ALERT {
        head.level
    } else {
        None
    };
    Ok(writer::RuleInput {
        id: head.id.as_ref().map_or(head.source.name(), |id| &id.value),
        title: &head.title.value,
        path: head.source.name(),
        tags: head.tags.iter().map(|tag| tag.value.as_str()).collect(),
        alert,
        severity: own_severity.map_or(kind.severity, severity_of),
        confidence: head
            .custom
            .confidence
            .as_ref()
            .map_or(default_confidence(head.level), |c| c.value),
        source,
        needs_response: false,
        silent,
    })
}

/// For each document whether its matches raise no alert of their own: those of a rule without an alert type of its
/// own to which some correlation refers, and none with `generate: true`.
pub fn silent(documents: &[Document]) -> Vec<bool> {
    let index = Index::of(documents);
    // Whether some correlation refers to it, and whether one of them wants its alerts.
    let mut referred = vec![(false, false); documents.len()];
    for document in documents {
        let Document::Correlation(correlation) = document else {
            continue;
        };
        let rules = correlation.rules.iter();
        for at in rules.filter_map(|rule| index.find(&rule.value)) {
            if let Some(referred) = referred.get_mut(at) {
                *referred = (true, referred.1 || correlation.generate);
            }
        }
    }
    let silent = |(document, (referred, generate)): (&Document, (bool, bool))| {
        referred && !generate && document.head().custom.alert.is_none()
    };
    documents.iter().zip(referred).map(silent).collect()
}

fn severity_of(level: Level) -> Severity {
    match level {
        Level::Informational => Severity::Informational,
        Level::Low => Severity::Low,
        Level::Medium => Severity::Medium,
        Level::High | Level::Critical => Severity::High,
    }
}

/// A rule that does not say how sure it is, is as sure as its level suggests.
fn default_confidence(level: Option<Level>) -> u8 {
    match level {
        Some(Level::Critical) => 95,
        Some(Level::High) => 90,
        Some(Level::Medium) | None => 75,
        Some(Level::Low) => 60,
        Some(Level::Informational) => 50,
    }
}
