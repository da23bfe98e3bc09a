//! `correlation`: what the matches of several rules come to together.

use std::rc::Rc;

use super::condition::{self, Names};
use super::{Context, cases, head};
use crate::ast::{Alias, Comparison, Correlation, CorrelationCondition, CorrelationKind, Number};
use crate::diagnostic::short;
use crate::nearest::{list, suggest};
use crate::source::Spanned;
use crate::yaml::{self, Kind, Node, Plain};

const KINDS: [(&str, CorrelationKind); 8] = [
    ("event_count", CorrelationKind::EventCount),
    ("value_count", CorrelationKind::ValueCount),
    ("value_sum", CorrelationKind::ValueSum),
    ("value_avg", CorrelationKind::ValueAverage),
    ("value_median", CorrelationKind::ValueMedian),
    ("value_percentile", CorrelationKind::ValuePercentile),
    ("temporal", CorrelationKind::Temporal),
    ("temporal_ordered", CorrelationKind::TemporalOrdered),
];

const KEYS: [&str; 8] = [
    "type",
    "rules",
    "group-by",
    "timespan",
    "timeframe",
    "aliases",
    "condition",
    "generate",
];

const COMPARISONS: [(&str, Comparison); 6] = [
    ("eq", Comparison::Equal),
    ("neq", Comparison::NotEqual),
    ("lt", Comparison::Less),
    ("lte", Comparison::LessOrEqual),
    ("gt", Comparison::Greater),
    ("gte", Comparison::GreaterOrEqual),
];

/// Units of a timespan, in seconds. A month is a twelfth of a year, and a year a 400th of 400 years, which is how
/// other Sigma tools count them.
const UNITS: [(char, u64); 7] = [
    ('s', 1),
    ('m', 60),
    ('h', 3600),
    ('d', 86_400),
    ('w', 604_800),
    ('M', 2_629_746),
    ('y', 31_556_952),
];

/// Reads a correlation document.
pub fn read(context: &mut Context<'_>, document: &Rc<Node>) -> Option<Correlation> {
    let head = head::read(context, document, false);
    let (key, node) = document.entry("correlation")?;
    context.mapping(node, "`correlation`")?;
    context.only_keys(node, &KEYS, "a correlation");
    let kind = kind(context, key, node);
    let rules = match node.get("rules") {
        Some(rules) => {
            let texts = context.texts(rules, "a rule's id or name");
            if texts.is_empty() {
                context.report.error(
                    "empty-list",
                    rules.span,
                    "the correlation is about no rule",
                    "name one or more rules",
                );
            }
            texts
        }
        None => {
            missing(
                context,
                key,
                "rules",
                "write `rules:` with ids or names of rules",
            );
            Vec::new()
        }
    };
    let group_by = node
        .get("group-by")
        .map(|fields| context.texts(fields, "a field"))
        .unwrap_or_default();
    let timespan = match node.get("timespan").or_else(|| node.get("timeframe")) {
        Some(node) => seconds(context, node, "timespan", 1),
        None => {
            missing(context, key, "timespan", "write `timespan: 5m`");
            None
        }
    };
    let aliases = node
        .get("aliases")
        .map(|aliases| self::aliases(context, aliases, &rules))
        .unwrap_or_default();
    for alias in &aliases {
        if !group_by.iter().any(|field| field.value == alias.name.value) {
            let message = format!(
                "`group-by` does not use the alias `{}`",
                short(&alias.name.value)
            );
            context.report.warning(
                "unused-alias",
                alias.name.span,
                message,
                "name it in `group-by`, or leave it out",
            );
        }
    }
    let generate = document.get("generate").or_else(|| node.get("generate"));
    let generate =
        match generate.map(|node| (node.scalar().map(|scalar| scalar.plain()), node.span)) {
            None => false,
            Some((Some(Plain::Bool(generate)), _)) => generate,
            Some((_, span)) => {
                context.report.error(
                    "not-a-boolean",
                    span,
                    "`generate` must be `true` or `false`",
                    "write `true` or `false`",
                );
                false
            }
        };
    // Which condition is right depends on the type.
    let kind = kind?;
    let condition = condition(context, key, node, kind, &rules);
    Some(Correlation {
        head: head?,
        kind,
        rules,
        group_by,
        timespan_seconds: timespan?,
        aliases,
        generate,
        condition: condition?,
    })
}

fn missing(context: &mut Context<'_>, key: &Node, name: &str, help: &str) {
    context.report.error(
        "missing-key",
        key.span,
        format!("the correlation has no `{name}`"),
        help,
    );
}

fn kind(context: &mut Context<'_>, key: &Node, node: &Node) -> Option<CorrelationKind> {
    let names = KINDS.map(|(name, _)| name);
    let Some(kind) = node.get("type") else {
        missing(context, key, "type", "write `type: event_count`");
        return None;
    };
    let text = context.text(kind, "`type`")?;
    let found = KINDS
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, kind)| *kind);
    if found.is_none() {
        let help = suggest(text, names, || format!("write {}", list(&names, "or")));
        let message = format!("`{}` is not a type of correlation", short(text));
        context
            .report
            .error("unknown-correlation-type", kind.span, message, help);
    }
    found
}

/// A span of time in seconds, not shorter than `least`.
pub fn seconds(
    context: &mut Context<'_>,
    node: &Node,
    key: &str,
    least: u64,
) -> Option<Spanned<u64>> {
    let text = context.text(node, &format!("`{key}`"))?;
    let mut digits = text.chars();
    let unit = digits
        .next_back()
        .and_then(|unit| UNITS.iter().find(|(name, _)| *name == unit));
    let number =
        Some(digits.as_str()).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.and_then(|digits| digits.parse::<u64>().ok());
    let (Some((_, unit)), Some(number)) = (unit, number) else {
        let help = match text.parse::<u64>() {
            Ok(number) => format!("write `{number}s` for seconds, `{number}m` for minutes"),
            Err(_) => {
                "write a number and one of `s`, `m`, `h`, `d`, `w`, `M` (months) and `y`".to_owned()
            }
        };
        return context.refuse(
            "timespan-syntax",
            node.span,
            format!("`{}` is not a timespan", short(text)),
            help,
        );
    };
    match number
        .checked_mul(*unit)
        .filter(|seconds| (least..=MOST_SECONDS).contains(seconds))
    {
        Some(seconds) => Some(Spanned::new(seconds, node.span)),
        None => context.refuse(
            "timespan-out-of-range",
            node.span,
            format!("a timespan of `{}` cannot be kept", short(text)),
            "write a timespan from `1s` to `1y`".to_owned(),
        ),
    }
}

/// A year in seconds, the longest timespan.
const MOST_SECONDS: u64 = 31_556_952;

fn aliases(context: &mut Context<'_>, node: &Node, rules: &[Spanned<String>]) -> Vec<Alias> {
    let mut all = Vec::new();
    if context.mapping(node, "`aliases`").is_none() {
        return all;
    }
    for (key, value) in node.entries() {
        if context.mapping(value, "an alias").is_none() {
            continue;
        }
        let mut fields = Vec::new();
        for (rule, field) in value.entries() {
            let name = rule.scalar().map_or("", |scalar| &*scalar.text);
            let index = rules.iter().position(|known| known.value == name);
            let field = context.spanned(field, "a field");
            match index {
                Some(index) => {
                    fields.extend(field.map(|field| (Spanned::new(index, rule.span), field)))
                }
                None => {
                    let help = suggest(name, rules.iter().map(|rule| rule.value.as_str()), || {
                        "write a rule's id or name as it stands in `rules`".to_owned()
                    });
                    let message = format!("`rules` does not name `{}`", short(name));
                    context
                        .report
                        .error("unknown-rule", rule.span, message, help);
                }
            }
        }
        let name = key.scalar().map_or("", |scalar| &*scalar.text);
        all.push(Alias {
            name: Spanned::new(name.to_owned(), key.span),
            fields,
        });
    }
    all
}

fn condition(
    context: &mut Context<'_>,
    key: &Node,
    node: &Node,
    kind: CorrelationKind,
    rules: &[Spanned<String>],
) -> Option<CorrelationCondition> {
    let temporal = matches!(
        kind,
        CorrelationKind::Temporal | CorrelationKind::TemporalOrdered
    );
    let Some(node) = node.get("condition") else {
        if !temporal {
            missing(
                context,
                key,
                "condition",
                "write `condition:` with for example `gte: 10` below it",
            );
            return None;
        }
        let all = Number::Integer(i64::try_from(rules.len()).unwrap_or(i64::MAX));
        let bounds = vec![(Comparison::GreaterOrEqual, Spanned::new(all, key.span))];
        return Some(CorrelationCondition::Bounds {
            bounds,
            field: None,
            percentile: None,
        });
    };
    if let Kind::Scalar(_) = node.kind {
        if !temporal {
            return context.refuse(
                "condition-not-mapping",
                node.span,
                "only temporal correlations take an expression over rules".to_owned(),
                "write `condition:` with for example `gte: 10` below it".to_owned(),
            );
        }
        let names: Vec<&str> = rules.iter().map(|rule| rule.value.as_str()).collect();
        let names = Names::new(&names, "rule");
        return condition::read(context, node, &names).map(CorrelationCondition::Expression);
    }
    context.mapping(node, "`condition`")?;
    let keys: Vec<&str> = COMPARISONS
        .iter()
        .map(|(name, _)| *name)
        .chain(["field", "percentile"])
        .collect();
    context.only_keys(node, &keys, "a correlation's condition");
    let mut bounds = Vec::new();
    for (name, comparison) in COMPARISONS {
        let Some(value) = node.get(name) else {
            continue;
        };
        match value.text().and_then(yaml::number) {
            Some(number) => bounds.push((comparison, Spanned::new(number, value.span))),
            None => {
                let message = format!("`{name}` must be a number, this is {}", value.noun());
                context.report.error(
                    "not-a-number",
                    value.span,
                    message,
                    "write for example `gte: 10`",
                );
            }
        }
    }
    if !COMPARISONS.iter().any(|(name, _)| node.get(name).is_some()) {
        context.report.error(
            "missing-key",
            node.span,
            "the condition has no bound",
            format!(
                "write one of {}",
                list(&COMPARISONS.map(|(name, _)| name), "and")
            ),
        );
    }
    let field = node
        .get("field")
        .and_then(|field| context.spanned(field, "`field`"));
    let values = !temporal && kind != CorrelationKind::EventCount;
    match (node.get("field"), values) {
        (None, true) => {
            context.report.error(
                "missing-key",
                node.span,
                "the condition does not say whose values",
                "write `field:` with the field whose values are counted or summed",
            );
        }
        (Some(field), false) => {
            let help = "leave it out, or write `type: value_count`";
            context.report.error(
                "field-not-used",
                field.span,
                "this type of correlation looks at no field's values",
                help,
            );
        }
        _ => {}
    }
    let percentile = node
        .get("percentile")
        .and_then(|node| cases::percent(context, node, "percentile"));
    if kind == CorrelationKind::ValuePercentile && node.get("percentile").is_none() {
        let help = "write for example `percentile: 95`";
        context.report.error(
            "missing-key",
            node.span,
            "the condition does not say which percentile",
            help,
        );
    }
    Some(CorrelationCondition::Bounds {
        bounds,
        field,
        percentile,
    })
}
