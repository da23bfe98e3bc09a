//! `logsource`, `detection` and `filter`.

use std::rc::Rc;

use super::condition::{self, Names};
use super::{Context, head};
use crate::ast::{Condition, Detection, Filter, Head, Logsource, Node as Tree, Rule, Selection};
use crate::diagnostic::short;
use crate::expand;
use crate::nearest::{list, suggest};
use crate::source::{Span, Spanned};
use crate::taxonomy::Category;
use crate::yaml::{Kind, Node};

/// Reads a detection rule.
pub fn rule(context: &mut Context<'_>, node: &Rc<Node>) -> Option<Rule> {
    let logsource = logsource(context, node);
    let process = logsource
        .as_ref()
        .is_some_and(|logsource| logsource.category == Category::ProcessCreation);
    let head = head::read(context, node, process);
    refuse_learn(context, head.as_ref());
    let Some((key, value)) = node.entry("detection") else {
        context.report.error(
            "missing-key",
            node.span,
            "the document has no `detection`",
            "write `detection:` with a selection and a `condition`",
        );
        return None;
    };
    // Without knowing the fields there is nothing more to say about the detection.
    let logsource = logsource?;
    let detection = detection(context, logsource.category, key.span, value, &[]);
    Some(Rule {
        head: head?,
        logsource,
        detection: detection?,
    })
}

/// Only a correlation learns: elsewhere the key would be left aside without a word.
fn refuse_learn(context: &mut Context<'_>, head: Option<&Head>) {
    if let Some(learn) = head.and_then(|head| head.custom.learn_seconds.as_ref()) {
        context.report.error(
            "learn-without-values",
            learn.span,
            "`learn` is about values that are new, and this document counts none",
            "move it to a correlation of `type: value_count`",
        );
    }
}

/// Reads a filter document.
pub fn filter(context: &mut Context<'_>, node: &Rc<Node>) -> Option<Filter> {
    let logsource = logsource(context, node);
    let head = head::read(context, node, false);
    refuse_learn(context, head.as_ref());
    let (key, value) = node.entry("filter")?;
    context.mapping(value, "`filter`")?;
    let rules = match value.get("rules") {
        Some(rules) if rules.text() == Some("any") => None,
        Some(rules) => {
            let texts = context.texts(rules, "a rule's id or name");
            if texts.is_empty() {
                context.report.error(
                    "empty-list",
                    rules.span,
                    "the filter is for no rule",
                    "name rules, or write `any`",
                );
            }
            Some(texts)
        }
        None => {
            context.report.error(
                "missing-key",
                key.span,
                "the filter does not say which rules it is for",
                "write `rules:` with ids or names of rules, or `rules: any`",
            );
            None
        }
    };
    let logsource = logsource?;
    let detection = detection(context, logsource.category, key.span, value, &["rules"]);
    Some(Filter {
        head: head?,
        logsource,
        rules,
        detection: detection?,
    })
}

fn logsource(context: &mut Context<'_>, node: &Rc<Node>) -> Option<Logsource> {
    const KEYS: [&str; 5] = ["category", "product", "service", "definition", "type"];
    let Some((_, value)) = node.entry("logsource") else {
        context.report.error(
            "missing-key",
            node.span,
            "the document has no `logsource`",
            "write `logsource:` with `category: webserver`",
        );
        return None;
    };
    context.mapping(value, "`logsource`")?;
    context.near_keys(value, &KEYS);
    let names = Category::ALL.map(Category::name);
    // The public rules about the access log of IIS have no category.
    let service = value.get("service").and_then(|service| service.text());
    if value.get("category").is_none() && service == Some("iis") {
        let spanned = |context: &mut Context<'_>, key| {
            let node = value.get(key)?;
            context.spanned(node, key)
        };
        return Some(Logsource {
            span: value.span,
            category: Category::Webserver,
            product: spanned(context, "product"),
            service: spanned(context, "service"),
        });
    }
    let Some(category) = value.get("category") else {
        let written: Vec<&str> = ["product", "service"]
            .iter()
            .filter_map(|key| value.get(key)?.text())
            .collect();
        context.report.error(
            "unsupported-logsource",
            value.span,
            match written.as_slice() {
                [] => "the log source has no `category`".to_owned(),
                _ => format!("a gateway has no events of `{}`", short(&written.join(" "))),
            },
            format!("write `category:` with {}", list(&names, "or")),
        );
        return None;
    };
    let name = context.text(category, "`category`")?;
    let Some(known) = Category::from_name(name) else {
        let help = suggest(name, names, || {
            format!("events here are {}", list(&names, "or"))
        });
        context.report.error(
            "unsupported-logsource",
            category.span,
            format!("a gateway has no events of category `{}`", short(name)),
            help,
        );
        return None;
    };
    let product = value
        .get("product")
        .and_then(|node| context.spanned(node, "`product`"));
    let service = value
        .get("service")
        .and_then(|node| context.spanned(node, "`service`"));
    Some(Logsource {
        span: value.span,
        category: known,
        product,
        service,
    })
}

/// Reads selections and their condition out of one mapping.
fn detection(
    context: &mut Context<'_>,
    category: Category,
    key: Span,
    node: &Rc<Node>,
    skip: &[&str],
) -> Option<Detection> {
    context.mapping(node, "`detection`")?;
    let errors = context.report.errors();
    let mut selections = Vec::new();
    // All names, also of selections with errors, so that the condition is not blamed for them.
    let mut names = Vec::new();
    for (key, value) in node.entries() {
        let name = key.scalar().map_or("", |scalar| &*scalar.text);
        match name {
            "condition" => continue,
            name if skip.contains(&name) => continue,
            "timeframe" => {
                context.report.warning(
                    "timeframe-ignored",
                    key.span,
                    "`timeframe` belongs to aggregations, which are not part of Sigma any more",
                    "write a correlation document with a `timespan`",
                );
                continue;
            }
            _ => {}
        }
        names.push(name);
        if let Some(node) = selection(context, category, key, value, 0) {
            selections.push(Selection {
                name: Spanned::new(name.to_owned(), key.span),
                node,
            });
        }
    }
    let Some((_, condition)) = node.entry("condition") else {
        let help = match names.as_slice() {
            [name] => format!("write `condition: {}`", short(name)),
            _ => "write `condition:` with the names of selections joined by `and`, `or` and `not`"
                .to_owned(),
        };
        context
            .report
            .error("missing-key", key, "the detection has no `condition`", help);
        return None;
    };
    if names.is_empty() {
        context.report.error(
            "empty-detection",
            key,
            "the detection has no selection",
            "write `selection:` above the condition",
        );
        return None;
    }
    if condition.items().is_empty() {
        context.report.error(
            "empty-list",
            condition.span,
            "the list of conditions is empty",
            "write one condition",
        );
    }
    let known = Names::new(&names, "selection");
    let mut conditions: Vec<Condition> = condition
        .items()
        .iter()
        .filter_map(|one| condition::read(context, one, &known))
        .collect();
    if context.report.errors() > errors {
        return None;
    }
    let condition = if conditions.len() == 1 {
        conditions.swap_remove(0)
    } else {
        Condition::Any(conditions)
    };
    let mut used = vec![false; selections.len()];
    mark(&condition, &mut used);
    for (selection, _) in selections.iter().zip(used).filter(|(_, used)| !used) {
        context.report.warning(
            "unused-selection",
            selection.name.span,
            format!(
                "the condition does not use `{}`",
                short(&selection.name.value)
            ),
            "name it in the condition, or leave it out",
        );
    }
    Some(Detection {
        selections,
        condition,
    })
}

fn mark(condition: &Condition, used: &mut [bool]) {
    let mut set = |index: usize| {
        if let Some(used) = used.get_mut(index) {
            *used = true;
        }
    };
    match condition {
        Condition::All(parts) | Condition::Any(parts) => {
            parts.iter().for_each(|part| mark(part, used))
        }
        Condition::Not(part) => mark(part, used),
        Condition::Selection(index) => set(index.value),
        Condition::Of { selections, .. } => selections.iter().for_each(|index| set(*index)),
    }
}

/// Reads the body of a selection: a mapping, a list of mappings, or keywords.
fn selection(
    context: &mut Context<'_>,
    category: Category,
    key: &Node,
    value: &Rc<Node>,
    depth: usize,
) -> Option<Tree> {
    match &value.kind {
        Kind::Map(entries) if entries.is_empty() => empty(context, key),
        Kind::Map(entries) => {
            let lines: Vec<Tree> = entries
                .iter()
                .filter_map(|(key, value)| {
                    expand::item(context, category, key, value).map(Tree::Test)
                })
                .collect();
            Some(Tree::All(lines))
        }
        Kind::List(items) if items.is_empty() => empty(context, key),
        Kind::List(items) if items.iter().all(|item| item.scalar().is_some()) => {
            expand::keywords(context, category, value).map(Tree::Test)
        }
        Kind::List(items) if depth == 0 => {
            let one_of = items
                .iter()
                .filter_map(|item| selection(context, category, key, item, 1))
                .collect();
            Some(Tree::Any(one_of))
        }
        Kind::List(_) => context.refuse(
            "value-not-scalar",
            value.span,
            "a list inside a list of alternatives says nothing new".to_owned(),
            "write mappings or keywords here".to_owned(),
        ),
        Kind::Scalar(scalar) if value.text().is_some() && !scalar.text.is_empty() => {
            expand::keywords(context, category, value).map(Tree::Test)
        }
        Kind::Scalar(_) => empty(context, key),
    }
}

fn empty<T>(context: &mut Context<'_>, key: &Node) -> Option<T> {
    let name = key.scalar().map_or("", |scalar| &*scalar.text);
    context.refuse(
        "empty-selection",
        key.span,
        format!("the selection `{}` is empty", short(name)),
        "write `field: value` lines below it, indented".to_owned(),
    )
}
