//! What a gateway has to know of a correlation, or why it cannot run it.
//!
//! A gateway decides on each request, with the past and without the future. So a condition that may stop to hold
//! before its window is over (fewer than, exactly, not) is refused, and so are sums and averages of values, for
//! which it would have to keep every value.

use portcullis::field::Field;
use portcullis::limits;
use portcullis::ruleset::layout::{CorrelationKind, KeyRecord};

use super::Refusal;
use crate::ast::{
    self, Comparison, Condition, Correlation, CorrelationCondition, Document, Number, Quantity,
};
use crate::diagnostic::short;
use crate::link::Index;
use crate::source::{Span, Spanned};
use crate::taxonomy::{self, Category};

/// A correlation as it is written.
pub struct Correlated<'a> {
    pub kind: CorrelationKind,
    pub inputs: Vec<Input<'a>>,
    pub timespan_ns: u64,
    pub at_least: u64,
    pub at_most: u64,
    /// In place of a count.
    pub expression: Option<Expression>,
}

/// A rule that a correlation is about.
pub struct Input<'a> {
    /// Its number.
    pub rule: u32,
    /// What its events are grouped by, and for a count of values last the one whose values are counted.
    pub keys: Vec<Key<'a>>,
}

/// A value of an event.
pub struct Key<'a> {
    pub field: u8,
    pub name: String,
    /// What the correlation calls it.
    pub label: &'a str,
}

/// Rules that must have matched.
pub enum Expression {
    /// The place of one of them.
    Rule(u32),
    /// So many of these.
    AtLeast(u16, Vec<Expression>),
}

impl Expression {
    fn depth(&self) -> usize {
        match self {
            Expression::Rule(_) => 1,
            Expression::AtLeast(_, parts) => {
                1 + parts.iter().map(Expression::depth).max().unwrap_or(0)
            }
        }
    }
}

/// Puts a correlation into that form.
pub fn of<'a>(
    correlation: &'a Correlation,
    documents: &'a [Document],
    index: &Index,
) -> Result<Correlated<'a>, Refusal> {
    let title = correlation.head.title.span;
    let kind = match correlation.kind {
        ast::CorrelationKind::EventCount => CorrelationKind::EventCount,
        ast::CorrelationKind::ValueCount => CorrelationKind::ValueCount,
        ast::CorrelationKind::Temporal => CorrelationKind::Temporal,
        ast::CorrelationKind::TemporalOrdered => CorrelationKind::TemporalOrdered,
        ast::CorrelationKind::ValueSum
        | ast::CorrelationKind::ValueAverage
        | ast::CorrelationKind::ValueMedian
        | ast::CorrelationKind::ValuePercentile => {
            return Err((
                "correlation-type-not-run",
                title,
                "a gateway does not run correlations over sums, averages or percentiles: it would have to keep every \
                 value, and no field of a request is a number"
                    .to_owned(),
                "use `event_count` or `value_count`, or run this rule in the store that the alerts go to",
            ));
        }
    };
    let is_temporal = matches!(
        kind,
        CorrelationKind::Temporal | CorrelationKind::TemporalOrdered
    );
    let count = correlation.rules.len();
    if is_temporal && count > limits::CORRELATION_RULES {
        let message = format!(
            "a temporal correlation is about at most {} rules, and this one is about {count}",
            limits::CORRELATION_RULES
        );
        let help = "join some of them by a correlation of their own: `event_count` with `gte: 1`";
        return Err(("too-many-rules", title, message, help));
    }
    if u16::try_from(count).is_err() {
        let message = format!("a correlation is about at most 65535 rules, not {count}");
        return Err(("too-many-rules", title, message, "name fewer rules"));
    }
    let (at_least, at_most, field, expression) = match &correlation.condition {
        CorrelationCondition::Bounds { bounds, field, .. } => {
            let (at_least, at_most) = range(bounds, title)?;
            (at_least, at_most, field.as_ref(), None)
        }
        CorrelationCondition::Expression(condition) => {
            if kind == CorrelationKind::TemporalOrdered {
                return Err((
                    "condition-not-run",
                    title,
                    "an order is over all of the correlation's rules, and an expression over them says otherwise"
                        .to_owned(),
                    "leave `condition` out, or write `type: temporal`",
                ));
            }
            let expression = expression(condition, title)?;
            if expression.depth() > limits::CONDITION_DEPTH {
                return Err((
                    "condition-too-deep",
                    title,
                    format!(
                        "the condition is nested deeper than {} levels",
                        limits::CONDITION_DEPTH
                    ),
                    "join some of the rules by a correlation of their own",
                ));
            }
            (1, u64::MAX, None, Some(expression))
        }
    };
    let most = match kind {
        CorrelationKind::EventCount => u64::MAX,
        CorrelationKind::ValueCount | CorrelationKind::NewValue => u64::MAX,
        CorrelationKind::Temporal | CorrelationKind::TemporalOrdered => count as u64,
    };
    if at_least > most {
        let message = format!("{count} rules never come to {at_least} that match");
        let help = "ask for as many rules as there are, or fewer";
        return Err(("never-holds", title, message, help));
    }
    if kind == CorrelationKind::TemporalOrdered && (at_least != most || at_most < most) {
        return Err((
            "condition-not-run",
            title,
            "an order is over all of the correlation's rules, so no count of them can be asked for"
                .to_owned(),
            "leave `condition` out, or write `type: temporal`",
        ));
    }
    let (kind, at_least) = match &correlation.head.custom.learn_seconds {
        None => (kind, at_least),
        Some(learn) if kind == CorrelationKind::ValueCount && at_least == 1 => (
            CorrelationKind::NewValue,
            learn.value.saturating_mul(1_000_000_000),
        ),
        Some(learn) => {
            return Err((
                "learn-without-values",
                learn.span,
                "`learn` is about values that are new, and this correlation counts something else"
                    .to_owned(),
                "write `type: value_count` and `condition: {field: c-net, gte: 1}`",
            ));
        }
    };
    if let Some(learn) = &correlation.head.custom.learn_seconds
        && learn.value >= correlation.timespan_seconds.value
    {
        return Err((
            "learn-too-long",
            learn.span,
            "what was learned is forgotten before learning is over".to_owned(),
            "write a longer `timespan`, or learn for a shorter time",
        ));
    }
    let mut inputs = Vec::with_capacity(count);
    for (place, reference) in correlation.rules.iter().enumerate() {
        let found = index.find(&reference.value);
        let rule = found.and_then(|at| u32::try_from(at).ok());
        let category = found.and_then(|at| category(documents, index, at, CHAIN));
        let (Some(rule), Some(category)) = (rule, category) else {
            // What linking says, for those who did not.
            return Err((
                "unknown-rule",
                reference.span,
                format!("there is no rule `{}`", short(&reference.value)),
                "write the `id` or `name` of a rule that is loaded as well",
            ));
        };
        let fields = correlation.group_by.iter().chain(field);
        let keys = fields.map(|field| key(correlation, place, category, field));
        inputs.push(Input {
            rule,
            keys: keys.collect::<Result<_, _>>()?,
        });
    }
    Ok(Correlated {
        kind,
        inputs,
        timespan_ns: correlation
            .timespan_seconds
            .value
            .saturating_mul(1_000_000_000),
        at_least,
        at_most,
        expression,
    })
}

/// Correlations of correlations of … this many levels deep; linking refuses more.
const CHAIN: usize = 33;

/// The vocabulary of a document's events.
fn category(documents: &[Document], index: &Index, at: usize, depth: usize) -> Option<Category> {
    match documents.get(at)? {
        Document::Rule(rule) => Some(rule.logsource.category),
        Document::Correlation(correlation) => {
            let depth = depth.checked_sub(1)?;
            let first = correlation.rules.first()?;
            category(documents, index, index.find(&first.value)?, depth)
        }
        Document::Filter(_) => None,
    }
}

/// The counts with which the bounds hold.
fn range(bounds: &[(Comparison, Spanned<Number>)], title: Span) -> Result<(u64, u64), Refusal> {
    let (mut at_least, mut at_most) = (None, u64::MAX);
    for (comparison, number) in bounds {
        let (number, span) = (number.value, number.span);
        // The least whole number that is not below, and the one after all that are not above.
        let (from, after) = match number {
            Number::Integer(number) => (number, number.saturating_add(1)),
            Number::Float(number) => (number.ceil() as i64, number.floor() as i64 + 1),
        };
        match comparison {
            Comparison::GreaterOrEqual => at_least = at_least.max(Some(from)),
            Comparison::Greater => at_least = at_least.max(Some(after)),
            Comparison::Less => at_most = at_most.min(below(from)),
            Comparison::LessOrEqual => at_most = at_most.min(below(after)),
            Comparison::Equal | Comparison::NotEqual => {
                return Err((
                    "condition-not-run",
                    span,
                    "whether the count stays at this number is known only when the window is over, and a gateway \
                     decides on each request"
                        .to_owned(),
                    "write `gte:`",
                ));
            }
        }
    }
    let Some(at_least) = at_least else {
        return Err((
            "condition-not-run",
            bounds.first().map_or(title, |(_, number)| number.span),
            "whether the count stays below this number is known only when the window is over, and a gateway decides \
             on each request"
                .to_owned(),
            "write `gte:` or `gt:`, beside it or in its place",
        ));
    };
    // No count is below one: without an event nothing is decided.
    let at_least = u64::try_from(at_least).unwrap_or(0).max(1);
    if at_least > at_most {
        return Err((
            "never-holds",
            title,
            format!("no count is at least {at_least} and at most {at_most}"),
            "change one of the bounds",
        ));
    }
    Ok((at_least, at_most))
}

/// The greatest count below this number.
fn below(number: i64) -> u64 {
    u64::try_from(number.saturating_sub(1)).unwrap_or(0)
}

fn expression(condition: &Condition, title: Span) -> Result<Expression, Refusal> {
    let place = |place: usize| Expression::Rule(u32::try_from(place).unwrap_or(u32::MAX));
    let count = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    let all = |parts: &[Condition]| {
        let parts = parts.iter().map(|part| expression(part, title));
        parts.collect::<Result<Vec<_>, _>>()
    };
    Ok(match condition {
        Condition::All(parts) => Expression::AtLeast(count(parts.len()), all(parts)?),
        Condition::Any(parts) => Expression::AtLeast(1, all(parts)?),
        Condition::Selection(rule) => place(rule.value),
        Condition::Of {
            quantity,
            selections,
            ..
        } => {
            let wanted = match quantity {
                Quantity::All => selections.len(),
                Quantity::AtLeast(wanted) => *wanted,
            };
            let rules = selections.iter().map(|rule| place(*rule));
            Expression::AtLeast(count(wanted), rules.collect())
        }
        Condition::Not(_) => {
            return Err((
                "condition-not-run",
                title,
                "that a rule does not match is known only when the window is over, and a gateway decides on each \
                 request"
                    .to_owned(),
                "leave the `not` out, or put it into the detection of a rule",
            ));
        }
    })
}

/// Where the events of one rule have what the correlation groups by or counts.
fn key<'a>(
    correlation: &'a Correlation,
    place: usize,
    category: Category,
    field: &'a Spanned<String>,
) -> Result<Key<'a>, Refusal> {
    let label = field.value.as_str();
    let alias = correlation.aliases.iter();
    let alias = alias.rev().find(|alias| alias.name.value == field.value);
    let written = match alias {
        None => field,
        Some(alias) => {
            let own = alias.fields.iter().find(|(rule, _)| rule.value == place);
            let Some((_, own)) = own else {
                return Err((
                    "incomplete-alias",
                    alias.name.span,
                    format!(
                        "the alias `{}` has no field for one of the rules",
                        short(label)
                    ),
                    "write a field for each rule of the correlation",
                ));
            };
            own
        }
    };
    let derived = match written.value.as_str() {
        taxonomy::ALERT_TYPE => Some(KeyRecord::ALERT_TYPE),
        taxonomy::SOURCE_NETWORK if category != Category::ProcessCreation => {
            Some(KeyRecord::SOURCE_NETWORK)
        }
        _ => None,
    };
    if let Some(field) = derived {
        return Ok(Key {
            field,
            name: String::new(),
            label,
        });
    }
    let span = written.span;
    let Ok(path) = taxonomy::resolve(category, &written.value) else {
        let message = format!(
            "`{}` events have no field `{}`",
            category.name(),
            short(&written.value)
        );
        return Err(("unknown-field", span, message, "see `docs/RULES.md`"));
    };
    match path.field {
        Field::Body | Field::BodyValue => Err((
            "body-not-counted",
            span,
            "bodies of requests are not kept to be counted".to_owned(),
            "use something in the head of the request",
        )),
        field if field.needs_response() => Err((
            "status-not-grouped",
            span,
            "a correlation cannot group by the status or count its values".to_owned(),
            "write a rule for each status that matters, and count those",
        )),
        Field::UriEncoding | Field::QueryValue | Field::CookieValue | Field::Header
            if path.part.is_none() =>
        {
            Err((
                "many-values",
                span,
                format!("one event has many values of `{}`", short(&written.value)),
                "name the one that is meant: `cs-uri-query.id`, `cs-cookie.sid`, `cs(X-Api-Key)`",
            ))
        }
        field => Ok(Key {
            field: field as u8,
            name: path.part.unwrap_or_default(),
            label,
        }),
    }
}
