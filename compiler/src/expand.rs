//! Modifiers: from `field|modifiers: values` to the plain matches that the back end compiles.
//!
//! ```text
//! CommandLine|windash|contains: ' -enc '    ► Contains " -enc " | " /enc " | " –enc " | …
//! cs-body|base64offset|contains: cmd.exe    ► Contains "Y21kLmV4Z" | "NtZC5leG" | "jbWQuZXhl"
//! c-ip|cidr: 10.0.0.0/8                     ► Cidr 10.0.0.0/8
//! cs-uri-query.*|sqli: medium               ► Structure(Sql, Medium)
//! ```
//!
//! A modifier either says *how to compare* (one of them), or *what to do to the value* before that. Values go
//! through `expand`, `windash` and the encodings, in this order, whatever the order of the key, except where
//! another order would mean something else: that is refused.

use std::net::IpAddr;
use std::rc::Rc;

use portcullis::field::Field;

use crate::ast::{Comparison, Confidence, Match, Op, Part, RegexFlags, Structure, Test, TextOp};
use crate::diagnostic::short;
use crate::limits;
use crate::nearest::{list, suggest};
use crate::parse::Context;
use crate::source::{Span, Spanned};
use crate::taxonomy::{self, Category, FieldPath, Piece};
use crate::values::{self, Utf16};
use crate::yaml::{Kind, Node, Plain, Scalar};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Modifier {
    Text(TextOp),
    Regex,
    Flag(char),
    Cidr,
    Exists,
    Compare(Comparison),
    FieldRef,
    Structure(Structure),
    Not,
    All,
    Cased,
    Raw,
    Expand,
    Windash,
    Encode(Encoding),
    Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Utf16(Utf16),
    Base64,
    Base64Offset,
}

/// Every modifier: those of Sigma, then ours.
const MODIFIERS: &[(&str, Modifier)] = &[
    ("contains", Modifier::Text(TextOp::Contains)),
    ("startswith", Modifier::Text(TextOp::StartsWith)),
    ("endswith", Modifier::Text(TextOp::EndsWith)),
    ("all", Modifier::All),
    ("re", Modifier::Regex),
    ("i", Modifier::Flag('i')),
    ("m", Modifier::Flag('m')),
    ("s", Modifier::Flag('s')),
    ("cidr", Modifier::Cidr),
    ("exists", Modifier::Exists),
    ("lt", Modifier::Compare(Comparison::Less)),
    ("lte", Modifier::Compare(Comparison::LessOrEqual)),
    ("gt", Modifier::Compare(Comparison::Greater)),
    ("gte", Modifier::Compare(Comparison::GreaterOrEqual)),
    ("neq", Modifier::Not),
    ("cased", Modifier::Cased),
    ("fieldref", Modifier::FieldRef),
    ("expand", Modifier::Expand),
    ("windash", Modifier::Windash),
    ("base64", Modifier::Encode(Encoding::Base64)),
    ("base64offset", Modifier::Encode(Encoding::Base64Offset)),
    ("wide", Modifier::Encode(Encoding::Utf16(Utf16::Little))),
    ("utf16le", Modifier::Encode(Encoding::Utf16(Utf16::Little))),
    ("utf16be", Modifier::Encode(Encoding::Utf16(Utf16::Big))),
    ("utf16", Modifier::Encode(Encoding::Utf16(Utf16::Marked))),
    ("minute", Modifier::Time),
    ("hour", Modifier::Time),
    ("day", Modifier::Time),
    ("week", Modifier::Time),
    ("month", Modifier::Time),
    ("year", Modifier::Time),
    ("sqli", Modifier::Structure(Structure::Sql)),
    ("xss", Modifier::Structure(Structure::Html)),
    ("command", Modifier::Structure(Structure::Shell)),
    ("traversal", Modifier::Structure(Structure::Path)),
    ("ssrf", Modifier::Structure(Structure::Url)),
    ("code", Modifier::Structure(Structure::Code)),
    ("spam", Modifier::Structure(Structure::Host)),
    ("raw", Modifier::Raw),
];

/// How the values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Text(TextOp),
    FieldRef(TextOp),
    Regex(RegexFlags),
    Cidr,
    Exists,
    Compare(Comparison),
    Structure(Structure),
}

/// What all modifiers of a key come to.
struct Plan {
    operator: Operator,
    all: bool,
    negated: bool,
    cased: bool,
    raw: bool,
    expand: bool,
    windash: bool,
    encodings: Vec<Encoding>,
}

/// Reads `key: value`. `None` if it was refused; the report says why.
pub(crate) fn item(
    context: &mut Context<'_>,
    category: Category,
    key: &Node,
    value: &Rc<Node>,
) -> Option<Test> {
    let errors = context.report.errors();
    if context.report.is_full() {
        return None;
    }
    let text = key.scalar().map_or("", |scalar| &*scalar.text);
    let mut words = split(text);
    let name = words.next().unwrap_or((0, ""));
    let piece = taxonomy::piece(category, name.1);
    let field = match piece {
        Some(piece) => Some(Spanned::new(
            FieldPath {
                field: piece.field,
                part: None,
            },
            key.inner(&context.report.source, name.0, name.0 + name.1.len()),
        )),
        None => field(context, category, key, name),
    };
    let plan = plan(context, key, text, name.1, words)?;
    let mut test = read(context, category, plan, field, key.span, value)?;
    if let Some(piece) = piece {
        ask_of_whole(context, &mut test, piece);
    }
    if context.options.public {
        as_the_public_writes(&mut test);
    }
    (context.report.errors() == errors).then_some(test)
}

/// From questions about a piece to those about the field that holds it.
fn ask_of_whole(context: &mut Context<'_>, test: &mut Test, piece: &Piece) {
    for one in test.values.iter_mut().flatten() {
        let (is_end, text) = match &one.op {
            Op::Equals(text) if !text.is_empty() => (piece.is_end, text),
            Op::EndsWith(text) if piece.is_end => {
                one.op = Op::EndsWith(text.clone());
                continue;
            }
            Op::StartsWith(text) if !piece.is_end => (false, text),
            _ => {
                let field = piece.field.name();
                context.report.error(
                    "piece-not-whole",
                    one.span,
                    format!(
                        "`{}` is read out of `{field}`, and can only be compared as a whole",
                        piece.name
                    ),
                    format!(
                        "write `{field}` with what stands around it, such as `{}…`",
                        piece.before
                    ),
                );
                return;
            }
        };
        let whole = [piece.before.as_bytes(), text].concat();
        one.op = match is_end {
            true => Op::EndsWith(whole),
            false => Op::Contains(whole),
        };
    }
}

/// Public rules write `cs-uri-query` for the whole target as well, path and all, since many log formats have both in
/// one. So a question that may be about the path is asked of the target.
fn as_the_public_writes(test: &mut Test) {
    let is_query = |path: &FieldPath| path.field == Field::UriQuery && path.part.is_none();
    let Some(field) = test.field.as_mut().filter(|field| is_query(&field.value)) else {
        return;
    };
    let may_be_path = |one: &Match| match &one.op {
        Op::Contains(_) | Op::EndsWith(_) | Op::Wildcard(_) | Op::Regex { .. } => true,
        Op::Equals(text) | Op::StartsWith(text) => text.starts_with(b"/"),
        _ => false,
    };
    if test.values.iter().flatten().any(may_be_path) {
        field.value.field = Field::Uri;
    }
}

/// Reads keywords: values without a field.
pub(crate) fn keywords(
    context: &mut Context<'_>,
    category: Category,
    value: &Rc<Node>,
) -> Option<Test> {
    let errors = context.report.errors();
    if context.report.is_full() {
        return None;
    }
    let plan = Plan {
        operator: Operator::Text(TextOp::Contains),
        all: false,
        negated: false,
        cased: false,
        raw: false,
        expand: false,
        windash: false,
        encodings: Vec::new(),
    };
    let test = read(context, category, plan, None, value.span, value)?;
    (context.report.errors() == errors).then_some(test)
}

/// The words between `|`, each with its place.
fn split(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split('|').map(move |word| {
        let start = at;
        at += word.len() + 1;
        (start, word)
    })
}

fn field(
    context: &mut Context<'_>,
    category: Category,
    key: &Node,
    (at, name): (usize, &str),
) -> Option<Spanned<FieldPath>> {
    if name.is_empty() {
        return None;
    }
    let span = key.inner(&context.report.source, at, at + name.len());
    match taxonomy::resolve(category, name) {
        Ok(path) => Some(Spanned::new(path, span)),
        Err(near) => {
            context.unknown_field(category, name, span, &near);
            None
        }
    }
}

/// Puts the modifiers of a key together; refuses what does not go together.
fn plan<'t>(
    context: &mut Context<'_>,
    key: &Node,
    text: &str,
    field: &str,
    words: impl Iterator<Item = (usize, &'t str)>,
) -> Option<Plan> {
    let source = context.report.source.clone();
    let mut have: Vec<(&str, Modifier, Span)> = Vec::new();
    for (at, word) in words {
        let span = key.inner(&source, at, at + word.len());
        let Some((name, modifier)) = MODIFIERS.iter().copied().find(|(name, _)| *name == word)
        else {
            let help = match word {
                "" => "leave the `|` out".to_owned(),
                "not" | "ne" => "write `neq`, or `not` in the condition".to_owned(),
                "eq" | "equals" | "is" => {
                    "leave it out: values are compared as a whole anyway".to_owned()
                }
                "regex" | "regexp" | "match" => "write `re`".to_owned(),
                "in" => "leave it out: one value of a list is enough anyway".to_owned(),
                word => suggest(word, MODIFIERS.iter().map(|(name, _)| *name), || {
                    "the modifiers are listed in `docs/RULES.md`".to_owned()
                }),
            };
            context.report.error(
                "unknown-modifier",
                span,
                format!("`{}` is not a modifier", short(word)),
                help,
            );
            return None;
        };
        if have.iter().any(|(_, before, _)| *before == modifier) {
            context.report.error(
                "duplicate-modifier",
                span,
                format!("the modifier `{name}` is there twice"),
                "leave one of them out",
            );
            return None;
        }
        have.push((name, modifier, span));
    }

    let text_op = have.iter().find_map(|(_, modifier, _)| match modifier {
        Modifier::Text(op) => Some(*op),
        _ => None,
    });
    let mut operator: Option<(&str, Operator)> = None;
    for (name, modifier, span) in &have {
        let next = match modifier {
            Modifier::Text(op) => Operator::Text(*op),
            Modifier::FieldRef => Operator::FieldRef(text_op.unwrap_or(TextOp::Equals)),
            Modifier::Regex => Operator::Regex(RegexFlags::default()),
            Modifier::Cidr => Operator::Cidr,
            Modifier::Exists => Operator::Exists,
            Modifier::Compare(comparison) => Operator::Compare(*comparison),
            Modifier::Structure(structure) => Operator::Structure(*structure),
            Modifier::Time => {
                return context.refuse(
                    "modifier-not-supported",
                    *span,
                    format!("`{name}` takes a part out of a time, and no field here holds a time"),
                    "leave the line out, or filter alerts by their time instead".to_owned(),
                );
            }
            _ => continue,
        };
        operator = match (operator, next) {
            (None, next) => Some((name, next)),
            // `fieldref` says what to compare with, and one of the others how.
            (Some((before, Operator::FieldRef(_))), Operator::Text(op)) => {
                Some((before, Operator::FieldRef(op)))
            }
            (Some((_, Operator::Text(op))), Operator::FieldRef(_)) => {
                Some((name, Operator::FieldRef(op)))
            }
            (Some((before, _)), _) => {
                let help = match (*modifier, before) {
                    (Modifier::Regex, "contains") | (Modifier::Text(TextOp::Contains), "re") => {
                        format!("write `{field}|re`: a regex is looked for anywhere in the value")
                    }
                    (Modifier::Regex, "startswith")
                    | (Modifier::Text(TextOp::StartsWith), "re") => {
                        format!("write `{field}|re` and begin the regex with `^`")
                    }
                    (Modifier::Regex, "endswith") | (Modifier::Text(TextOp::EndsWith), "re") => {
                        format!("write `{field}|re` and end the regex with `$`")
                    }
                    _ => format!(
                        "choose one of the two, or write two lines `{field}|{before}` and `{field}|{name}`"
                    ),
                };
                return context.refuse(
                    "modifier-conflict",
                    *span,
                    format!("`{name}` does not go with `{before}`: each says how to compare"),
                    help,
                );
            }
        };
    }
    let (operator_name, mut operator) = operator.unwrap_or(("", Operator::Text(TextOp::Equals)));
    let is_text = matches!(operator, Operator::Text(_));

    let mut plan = Plan {
        operator,
        all: false,
        negated: false,
        cased: false,
        raw: false,
        expand: false,
        windash: false,
        encodings: Vec::new(),
    };
    let mut compared = false;
    for (name, modifier, span) in &have {
        let conflict = |why: &str| {
            (
                format!("`{name}` does not go with `{operator_name}`{why}"),
                format!("write `{}`", without(text, name)),
            )
        };
        let fits = match modifier {
            Modifier::Expand => is_text || matches!(operator, Operator::Cidr),
            Modifier::Windash | Modifier::Encode(_) => is_text,
            Modifier::Cased => is_text || matches!(operator, Operator::FieldRef(_)),
            Modifier::Not => !matches!(operator, Operator::Exists | Operator::Structure(_)),
            Modifier::All => !matches!(operator, Operator::Exists | Operator::Structure(_)),
            _ => true,
        };
        if !fits {
            let why = match (modifier, operator) {
                (Modifier::Cased, Operator::Regex(_)) => {
                    ": a regex minds letter case unless `i` is there"
                }
                (Modifier::Not, Operator::Exists) => ": `exists: false` says it",
                (Modifier::Not, _) => {
                    ": put the line into a selection of its own and write `not` in the condition"
                }
                _ => "",
            };
            let (message, help) = conflict(why);
            return context.refuse("modifier-conflict", *span, message, help);
        }
        match modifier {
            Modifier::Flag(flag) => {
                let Operator::Regex(flags) = &mut operator else {
                    return context.refuse(
                        "modifier-conflict",
                        *span,
                        format!("`{name}` is a flag of `re`, and `re` is not there"),
                        format!("write `{field}|re|{name}`, or leave it out: only regexes mind letter case anyway"),
                    );
                };
                match flag {
                    'i' => flags.ignore_case = true,
                    'm' => flags.multi_line = true,
                    _ => flags.dot_all = true,
                }
            }
            Modifier::Not => plan.negated = true,
            Modifier::All => plan.all = true,
            Modifier::Cased => plan.cased = true,
            Modifier::Raw => plan.raw = true,
            Modifier::Expand => plan.expand = true,
            Modifier::Windash if plan.encodings.is_empty() => plan.windash = true,
            Modifier::Windash => {
                return context.refuse(
                    "modifier-order",
                    *span,
                    "`windash` would change the encoded text".to_owned(),
                    format!(
                        "write `{field}|windash{}`",
                        without(text, "windash").get(field.len()..).unwrap_or("")
                    ),
                );
            }
            Modifier::Encode(encoding) => {
                if compared {
                    let moved = without(&without(text, operator_name), name);
                    return context.refuse(
                        "modifier-order",
                        *span,
                        format!("`{name}` has to come before `{operator_name}`: the text is encoded first, then compared"),
                        format!("write `{moved}|{name}|{operator_name}`"),
                    );
                }
                if let (Encoding::Utf16(_), Some(_)) = (encoding, plan.encodings.last()) {
                    return context.refuse(
                        "modifier-order",
                        *span,
                        format!("`{name}` cannot follow another encoding"),
                        "write the form of UTF-16 first, then `base64` or `base64offset`"
                            .to_owned(),
                    );
                }
                if plan
                    .encodings
                    .iter()
                    .any(|before| !matches!(before, Encoding::Utf16(_)))
                {
                    return context.refuse(
                        "modifier-conflict",
                        *span,
                        "`base64` does not go with `base64offset`".to_owned(),
                        format!("write `{field}|base64offset|contains`"),
                    );
                }
                plan.encodings.push(*encoding);
            }
            Modifier::Text(_) => compared = true,
            _ => {}
        }
    }
    // A keyword is looked for anywhere: no value of an event as a whole is meant.
    if field.is_empty() && operator == Operator::Text(TextOp::Equals) {
        operator = Operator::Text(TextOp::Contains);
    }
    plan.operator = operator;
    if plan.encodings.last() == Some(&Encoding::Base64Offset)
        && operator == Operator::Text(TextOp::Equals)
    {
        let help = format!("write `{text}|contains`");
        context.report.warning(
            "base64offset-without-contains",
            key.span,
            "a whole value is hardly ever a middle piece of base64",
            help,
        );
    }
    Some(plan)
}

/// The key without one of its modifiers.
fn without(key: &str, modifier: &str) -> String {
    let mut words = key.split('|');
    let field = words.next().unwrap_or("").to_owned();
    words
        .filter(|word| *word != modifier)
        .fold(field, |key, word| format!("{key}|{word}"))
}

fn read(
    context: &mut Context<'_>,
    category: Category,
    plan: Plan,
    field: Option<Spanned<FieldPath>>,
    key: Span,
    value: &Rc<Node>,
) -> Option<Test> {
    let written = match &value.kind {
        Kind::List(items) => items.as_slice(),
        _ => std::slice::from_ref(value),
    };
    if written.is_empty() {
        context.report.error(
            "empty-list",
            key,
            "this has an empty list of values",
            "give it a value, or leave the line out",
        );
        return None;
    }
    if plan.all && written.len() < 2 && context.options.public {
        context.report.warning(
            "all-needs-list",
            key,
            "`all` of one value is that value",
            "leave `all` out",
        );
    } else if plan.all && written.len() < 2 {
        context.report.error(
            "all-needs-list",
            key,
            "`all` needs a list of two values or more",
            "leave `all` out, or add the other values",
        );
        return None;
    }
    if written.len() > 1 && matches!(plan.operator, Operator::Exists | Operator::Structure(_)) {
        context.report.error(
            "one-value-only",
            value.span,
            "this takes one value, not a list",
            "keep one of the values",
        );
        return None;
    }
    let mut test = Test {
        span: key.to(value.span),
        field,
        all: plan.all,
        negated: plan.negated,
        raw: plan.raw,
        values: Vec::new(),
    };
    let path = test.field.as_ref().map(|field| &field.value);
    for node in written {
        if context.report.is_full() {
            return None;
        }
        let Some(scalar) = node.scalar() else {
            context.report.error(
                "value-not-scalar",
                node.span,
                format!(
                    "a value must be text, a number, a boolean or null, this is {}",
                    node.noun()
                ),
                "write one value, or a flat list of values",
            );
            continue;
        };
        if scalar.text.len() > limits::VALUE_BYTES {
            context.report.error(
                "value-too-long",
                node.span,
                format!(
                    "the value is {} bytes long, {} are allowed",
                    scalar.text.len(),
                    limits::VALUE_BYTES
                ),
                "look for a shorter part of it",
            );
            continue;
        }
        let mut reader = Value {
            context,
            category,
            plan: &plan,
            field: path,
            node,
            scalar,
        };
        if let Some(ops) = reader.ops() {
            let cost = ops.iter().map(cost).sum::<usize>();
            context.matches = context.matches.saturating_add(cost);
            if context.matches > limits::YAML_NODES {
                context.report.error(
                    "file-too-large",
                    node.span,
                    format!(
                        "the values of this file turn into more than {} texts",
                        limits::YAML_NODES
                    ),
                    "use `windash` and `expand` with fewer values, or split the file",
                );
                return None;
            }
            let matched = |op| Match {
                span: node.span,
                op,
                cased: plan.cased,
            };
            test.values.push(ops.into_iter().map(matched).collect());
        }
    }
    (!test.values.is_empty()).then_some(test)
}

/// Roughly the size of a match, as the weight of a YAML node is measured.
fn cost(op: &Op) -> usize {
    4 + match op {
        Op::Equals(text) | Op::Contains(text) | Op::StartsWith(text) | Op::EndsWith(text) => {
            text.len() / 32
        }
        Op::Wildcard(parts) => parts.len(),
        Op::Regex { pattern, .. } => pattern.len() / 32,
        _ => 0,
    }
}

/// One written value on its way to operations.
struct Value<'v, 'c> {
    context: &'v mut Context<'c>,
    category: Category,
    plan: &'v Plan,
    field: Option<&'v FieldPath>,
    node: &'v Node,
    scalar: &'v Scalar,
}

impl Value<'_, '_> {
    fn refuse<T>(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        self.context
            .report
            .error(code, self.node.span, message, help);
        None
    }

    fn ops(&mut self) -> Option<Vec<Op>> {
        let text = &*self.scalar.text;
        let plain = self.scalar.plain();
        let single = |op| Some(vec![op]);
        if plain == Plain::Null {
            if self.plan.operator == Operator::Text(TextOp::Equals)
                && self.plan.encodings.is_empty()
            {
                return single(Op::Null);
            }
            return self.refuse(
                "null-value",
                "null cannot be compared in this way",
                "write `''` for an empty text, or `field: null` without modifiers for a missing field",
            );
        }
        match self.plan.operator {
            Operator::Text(op) => self.texts(op),
            Operator::Regex(flags) => {
                let parsed = regex_syntax::ast::parse::ParserBuilder::new()
                    .nest_limit(limits::REGEX_DEPTH)
                    .build()
                    .parse(text);
                if let Err(error) = parsed {
                    let span = self.node.inner(
                        &self.context.report.source,
                        error.span().start.offset,
                        error.span().end.offset.max(error.span().start.offset + 1),
                    );
                    use regex_syntax::ast::ErrorKind;
                    let help = match error.kind() {
                        ErrorKind::UnsupportedLookAround => {
                            "write two lines, and `not` in the condition for what must not be there"
                        }
                        ErrorKind::UnsupportedBackreference => "write the alternatives out",
                        ErrorKind::EscapeUnrecognized => {
                            "leave the backslash out if the character stands for itself"
                        }
                        _ => {
                            "put a backslash before a character that stands for itself, such as `\\(` or `\\[`"
                        }
                    };
                    let message = format!("the regex is not understood: {}", error.kind());
                    self.context
                        .report
                        .error("regex-syntax", span, message, help);
                    return None;
                }
                single(Op::Regex {
                    pattern: text.to_owned(),
                    flags,
                })
            }
            Operator::Cidr => {
                let texts = self.expanded()?;
                texts.iter().map(|parts| self.cidr(parts)).collect()
            }
            Operator::Exists => match plain {
                Plain::Bool(there) => single(Op::Exists(there)),
                _ => self.refuse(
                    "exists-needs-boolean",
                    "`exists` takes `true` or `false`",
                    "write `true` or `false`",
                ),
            },
            Operator::Compare(comparison) => match crate::yaml::number(text) {
                Some(number) => single(Op::Number(comparison, number)),
                None => self.refuse(
                    "not-a-number",
                    format!("`{}` is not a number", short(text)),
                    "`lt`, `lte`, `gt` and `gte` compare numbers",
                ),
            },
            Operator::FieldRef(op) => match taxonomy::resolve(self.category, text) {
                Ok(path) => single(Op::Field(op, path)),
                Err(near) => {
                    self.context
                        .unknown_field(self.category, text, self.node.span, &near);
                    None
                }
            },
            Operator::Structure(structure) => {
                let confidence = match text {
                    "low" => Confidence::Low,
                    "medium" => Confidence::Medium,
                    "high" => Confidence::High,
                    other => {
                        return self.refuse(
                            "unknown-confidence",
                            format!("`{}` is not a confidence", short(other)),
                            "write `low`, `medium` or `high`: how sure the detector must be",
                        );
                    }
                };
                single(Op::Structure(structure, confidence))
            }
        }
    }

    fn texts(&mut self, op: TextOp) -> Option<Vec<Op>> {
        let plain = self.scalar.plain();
        if op == TextOp::Equals
            && self.plan.encodings.is_empty()
            && self
                .field
                .is_some_and(|path| taxonomy::is_number(path.field))
            && let Some(number) = crate::yaml::number(&self.scalar.text)
        {
            return Some(vec![Op::Number(Comparison::Equal, number)]);
        }
        if self.scalar.text.is_empty() && op != TextOp::Equals {
            let help = if self.field.is_some() {
                "write `|exists: true` if the field only has to be there"
            } else {
                "leave the empty keyword out"
            };
            return self.refuse("empty-value", "every value holds the empty text", help);
        }
        let mut texts = if matches!(plain, Plain::Text) {
            self.expanded()?
        } else {
            vec![values::literal(self.scalar.text.as_bytes())]
        };
        if self.plan.windash {
            let mut varied = Vec::new();
            for text in &texts {
                match values::windash(text, limits::ALTERNATIVES.saturating_sub(varied.len())) {
                    Some(variants) => varied.extend(variants),
                    None => {
                        return self.refuse(
                            "too-many-alternatives",
                            format!(
                                "`windash` turns this into more than {} texts",
                                limits::ALTERNATIVES
                            ),
                            "split the value: several lines with one option each, joined by `all`",
                        );
                    }
                }
            }
            texts = varied;
        }
        for encoding in &self.plan.encodings {
            let mut encoded = Vec::new();
            for text in &texts {
                let Some(bytes) = values::plain(text) else {
                    return self.refuse(
                        "wildcard-in-encoding",
                        "a wildcard cannot be encoded",
                        "write `\\*` or `\\?` for the characters themselves, or use `contains` instead of `*`",
                    );
                };
                match encoding {
                    // What is encoded here has not been encoded before, so it is UTF-8.
                    Encoding::Utf16(form) => encoded.push(values::literal(values::utf16(
                        &String::from_utf8_lossy(bytes),
                        *form,
                    ))),
                    Encoding::Base64 => encoded.push(values::literal(values::base64(bytes))),
                    Encoding::Base64Offset => {
                        let fragments = values::base64_offsets(bytes);
                        if fragments.len() < 3 {
                            return self.refuse(
                                "value-too-short",
                                "base64 of so short a text has no digits of its own",
                                "look for three characters or more",
                            );
                        }
                        encoded.extend(fragments.into_iter().map(values::literal));
                    }
                }
            }
            texts = encoded;
        }
        Some(
            texts
                .into_iter()
                .map(|text| values::fold(around(text, op)))
                .collect(),
        )
    }

    /// The value's text with its placeholders filled in: every combination.
    fn expanded(&mut self) -> Option<Vec<Vec<Part>>> {
        let text = self.scalar.text.clone();
        if !self.plan.expand {
            return Some(vec![values::parts(&text)]);
        }
        let mut texts: Vec<Vec<Part>> = vec![Vec::new()];
        let mut found = false;
        for (at, piece) in placeholders(&text) {
            let with = match piece {
                Shard::Text(text) => vec![values::parts(text)],
                Shard::Placeholder(name) => {
                    found = true;
                    let options = self.context.options;
                    let Some(filled) = options
                        .placeholders
                        .get(name)
                        .filter(|filled| !filled.is_empty())
                    else {
                        let span =
                            self.node
                                .inner(&self.context.report.source, at, at + name.len() + 2);
                        let known: Vec<&str> =
                            options.placeholders.keys().map(String::as_str).collect();
                        let help = suggest(name, known.iter().copied(), || {
                            "give the values of placeholders with the rules, or write them out here"
                                .to_owned()
                        });
                        let message =
                            format!("nothing is known for the placeholder `%{}%`", short(name));
                        self.context
                            .report
                            .error("unknown-placeholder", span, message, help);
                        return None;
                    };
                    filled.iter().map(|text| values::parts(text)).collect()
                }
            };
            if texts.len().saturating_mul(with.len()) > limits::ALTERNATIVES {
                return self.refuse(
                    "too-many-alternatives",
                    format!(
                        "the placeholders turn this into more than {} texts",
                        limits::ALTERNATIVES
                    ),
                    "use fewer placeholders in one value",
                );
            }
            let joined = |text: &Vec<Part>, more: &Vec<Part>| {
                let mut text = text.clone();
                more.iter()
                    .for_each(|part| values::push(&mut text, part.clone()));
                text
            };
            texts = texts
                .iter()
                .flat_map(|text| with.iter().map(move |more| joined(text, more)))
                .collect();
        }
        if !found {
            self.context.report.warning(
                "no-placeholder",
                self.node.span,
                "`expand` is there, but no placeholder",
                "write `%name%` where the values go, or leave `expand` out",
            );
        }
        Some(texts)
    }

    fn cidr(&mut self, parts: &[Part]) -> Option<Op> {
        let text = values::plain(parts)
            .map(String::from_utf8_lossy)
            .unwrap_or_default();
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (&*text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else {
            return self.refuse(
                "cidr-syntax",
                format!("`{}` is not a network", short(&self.scalar.text)),
                "write for example `10.0.0.0/8` or `2001:db8::/32`",
            );
        };
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let digits = prefix.is_none_or(|prefix| prefix.bytes().all(|byte| byte.is_ascii_digit()));
        let prefix = prefix
            .map_or(Ok(bits), str::parse::<u8>)
            .ok()
            .filter(|prefix| digits && *prefix <= bits);
        let Some(prefix) = prefix else {
            return self.refuse(
                "cidr-syntax",
                format!("`{}` has no length of 0 to {bits} bits", short(&text)),
                format!("write `{address}/{bits}` for this one address"),
            );
        };
        let network = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0);
                IpAddr::from((u32::from(address) & mask).to_be_bytes())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(u32::from(128 - prefix)).unwrap_or(0);
                IpAddr::from((u128::from(address) & mask).to_be_bytes())
            }
        };
        if network != address {
            return self.refuse(
                "cidr-host-bits",
                format!("`{}` has bits behind the network", short(&text)),
                format!("write `{network}/{prefix}` for the network or `{address}/{bits}` for the one address"),
            );
        }
        Some(Op::Cidr { network, prefix })
    }
}

/// The text with the wildcards that an operation stands for.
fn around(text: Vec<Part>, op: TextOp) -> Vec<Part> {
    let mut parts = Vec::new();
    if matches!(op, TextOp::Contains | TextOp::EndsWith) {
        parts.push(Part::Any);
    }
    text.into_iter()
        .for_each(|part| values::push(&mut parts, part));
    if matches!(op, TextOp::Contains | TextOp::StartsWith) {
        values::push(&mut parts, Part::Any);
    }
    parts
}

enum Shard<'t> {
    Text(&'t str),
    Placeholder(&'t str),
}

/// The pieces of a text with `%placeholders%`, each with its place. A name is made of word characters.
fn placeholders(text: &str) -> Vec<(usize, Shard<'_>)> {
    let mut pieces = Vec::new();
    let mut begun = 0;
    let mut from = 0;
    while let Some(open) = text
        .get(from..)
        .and_then(|rest| rest.find('%'))
        .map(|at| from + at)
    {
        let rest = text.get(open + 1..).unwrap_or("");
        let length = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        from = open + 1;
        if length > 0 && rest.as_bytes().get(length) == Some(&b'%') {
            pieces.push((begun, Shard::Text(text.get(begun..open).unwrap_or(""))));
            pieces.push((open, Shard::Placeholder(rest.get(..length).unwrap_or(""))));
            begun = open + length + 2;
            from = begun;
        }
    }
    pieces.push((begun, Shard::Text(text.get(begun..).unwrap_or(""))));
    pieces
}

/// The modifiers' names, for the documentation: those of Sigma and ours.
pub fn modifiers() -> impl Iterator<Item = &'static str> {
    MODIFIERS.iter().map(|(name, _)| *name)
}

/// What [`Context::unknown_field`] offers if nothing is near.
pub(crate) fn some_fields(category: Category) -> String {
    let own = taxonomy::TABLE
        .iter()
        .filter(|entry| entry.sources.has(category) && entry.field.name() == entry.name);
    let names: Vec<&str> = own.map(|entry| entry.name).take(8).collect();
    format!(
        "fields of `{}` are for example {}",
        category.name(),
        list(&names, "and")
    )
}

impl Context<'_> {
    /// An error where there would have been a value.
    pub(crate) fn refuse<T>(
        &mut self,
        code: &'static str,
        span: Span,
        message: String,
        help: String,
    ) -> Option<T> {
        self.report.error(code, span, message, help);
        None
    }

    pub(crate) fn unknown_field(
        &mut self,
        category: Category,
        name: &str,
        span: Span,
        near: &[&str],
    ) {
        if let Some(why) = taxonomy::unanswered(category, name) {
            let message = format!("`{}` is not answered here: {why}", short(name));
            let help = "leave the line out if the rule is as good without it";
            self.report.error("field-not-answered", span, message, help);
            return;
        }
        let message = format!(
            "`{}` events have no field `{}`",
            category.name(),
            short(name)
        );
        let help = if near.is_empty() {
            some_fields(category)
        } else {
            format!("did you mean {}?", list(near, "or"))
        };
        self.report.error("unknown-field", span, message, help);
    }
}
