//! A rule's `condition`: words to a tree, names to indices.
//!
//! ```text
//! or-expression   := and-expression ("or" and-expression)*
//! and-expression  := not-expression ("and" not-expression)*
//! not-expression  := "not" not-expression | "(" or-expression ")" | quantity "of" pattern | name
//! quantity        := "all" | "any" | number
//! pattern         := "them" | name, in which each `*` stands for any characters
//! ```

use std::collections::HashMap;

use super::Context;
use crate::ast::{Condition, Quantity};
use crate::diagnostic::short;
use crate::limits;
use crate::nearest::suggest;
use crate::source::{Span, Spanned};
use crate::yaml::Node;

/// What a name in a condition may refer to.
pub struct Names<'n> {
    names: &'n [&'n str],
    places: HashMap<&'n str, usize>,
    noun: &'static str,
}

impl<'n> Names<'n> {
    /// Names by index, and what they are: "selection" or "rule".
    pub fn new(names: &'n [&'n str], noun: &'static str) -> Names<'n> {
        let places = names
            .iter()
            .enumerate()
            .rev()
            .map(|(index, name)| (*name, index))
            .collect();
        Names {
            names,
            places,
            noun,
        }
    }
}

/// Reads a condition. Errors go to the report.
pub fn read(context: &mut Context<'_>, node: &Node, names: &Names<'_>) -> Option<Condition> {
    if context.report.is_full() {
        return None;
    }
    let Some(text) = node.text() else {
        context.report.error(
            "condition-not-text",
            node.span,
            format!("a condition must be text, this is {}", node.noun()),
            "write for example `selection and not filter`",
        );
        return None;
    };
    if text.len() > limits::CONDITION_BYTES {
        context.report.error(
            "condition-too-long",
            node.span,
            format!(
                "the condition is {} bytes long, {} are allowed",
                text.len(),
                limits::CONDITION_BYTES
            ),
            "use `1 of name_*` instead of naming every selection",
        );
        return None;
    }
    let words = words(text);
    let mut reader = Reader {
        context,
        node,
        text,
        words: &words,
        at: 0,
        depth: 0,
        names,
    };
    let condition = reader.any().ok()?;
    match reader.peek() {
        None => Some(condition),
        Some(word) => {
            reader.unexpected(word);
            None
        }
    }
}

/// A word's first byte and its text.
type Word<'t> = (usize, &'t str);

/// Names, numbers and keywords; every other character is a word by itself.
fn words(text: &str) -> Vec<Word<'_>> {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '*' | '.' | '?');
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match rest.find(|c| !part(c)) {
            Some(0) => first.len_utf8(),
            Some(length) => length,
            None => rest.len(),
        };
        let (word, after) = rest.split_at(length);
        if !first.is_whitespace() {
            words.push((text.len() - rest.len(), word));
        }
        rest = after;
    }
    words
}

struct Reader<'r, 'c, 't> {
    context: &'r mut Context<'c>,
    node: &'r Node,
    text: &'t str,
    words: &'r [Word<'t>],
    at: usize,
    depth: usize,
    names: &'r Names<'r>,
}

/// Refused; the report says why.
struct Refused;

impl<'t> Reader<'_, '_, 't> {
    fn peek(&self) -> Option<Word<'t>> {
        self.words.get(self.at).copied()
    }

    fn take(&mut self, word: &str) -> bool {
        let is = self.peek().is_some_and(|(_, have)| have == word);
        self.at += usize::from(is);
        is
    }

    fn span(&self, start: usize, end: usize) -> Span {
        self.node.inner(&self.context.report.source, start, end)
    }

    fn word_span(&self, (start, word): Word<'_>) -> Span {
        self.span(start, start + word.len())
    }

    fn any(&mut self) -> Result<Condition, Refused> {
        let mut parts = vec![self.all()?];
        while self.take("or") {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, Refused> {
        let mut parts = vec![self.not()?];
        while self.take("and") {
            parts.push(self.not()?);
        }
        Ok(one_or(parts, Condition::All))
    }

    fn not(&mut self) -> Result<Condition, Refused> {
        let Some(word) = self.peek() else {
            let end = self.text.trim_end().len();
            let last = self
                .words
                .last()
                .map_or(self.node.span, |last| self.word_span(*last));
            let message = if end == 0 {
                "the condition is empty"
            } else {
                "the condition ends too early"
            };
            self.context.report.error(
                "condition-syntax",
                last,
                message,
                format!("write the name of a {} there", self.names.noun),
            );
            return Err(Refused);
        };
        let nested = matches!(word.1, "not" | "(");
        if nested && self.depth >= limits::CONDITION_DEPTH {
            self.context.report.error(
                "condition-too-deep",
                self.word_span(word),
                format!(
                    "the condition nests deeper than {} levels",
                    limits::CONDITION_DEPTH
                ),
                "leave out brackets that change nothing",
            );
            return Err(Refused);
        }
        self.depth += usize::from(nested);
        let condition = match word.1 {
            "not" => {
                self.at += 1;
                Condition::Not(Box::new(self.not()?))
            }
            "(" => {
                self.at += 1;
                let inner = self.any()?;
                if !self.take(")") {
                    match self.peek() {
                        Some(word) => self.unexpected(word),
                        None => self.context.report.error(
                            "condition-syntax",
                            self.word_span(word),
                            "this bracket is never closed",
                            "add the missing `)`",
                        ),
                    }
                    return Err(Refused);
                }
                inner
            }
            _ => self.primary(word)?,
        };
        self.depth -= usize::from(nested);
        Ok(condition)
    }

    fn primary(&mut self, word: Word<'t>) -> Result<Condition, Refused> {
        if self
            .words
            .get(self.at + 1)
            .is_some_and(|(_, next)| *next == "of")
        {
            return self.of(word);
        }
        let span = self.word_span(word);
        if let Some(index) = self.names.places.get(word.1).copied() {
            self.at += 1;
            return Ok(Condition::Selection(Spanned::new(index, span)));
        }
        let name = word
            .1
            .starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '*'));
        if !name || matches!(word.1, "and" | "or" | "not" | "of" | "them" | "all" | "any") {
            self.unexpected(word);
            return Err(Refused);
        }
        if word.1.contains('*') {
            self.context.report.error(
                "condition-syntax",
                span,
                format!(
                    "`{}` is a pattern, and a pattern needs a quantity",
                    short(word.1)
                ),
                format!("write `1 of {0}` or `all of {0}`", short(word.1)),
            );
            return Err(Refused);
        }
        self.unknown(word);
        Err(Refused)
    }

    fn unknown(&mut self, word: Word<'t>) {
        let noun = self.names.noun;
        let help = if matches!(word.1, "AND" | "OR" | "NOT" | "OF" | "THEM") {
            format!("write `{}`", word.1.to_ascii_lowercase())
        } else {
            suggest(word.1, self.names.names.iter().copied(), || {
                format!(
                    "the {noun}s are {}",
                    crate::nearest::list(
                        self.names.names.get(..8).unwrap_or(self.names.names),
                        "and"
                    )
                )
            })
        };
        let message = format!("there is no {noun} `{}`", short(word.1));
        self.context
            .report
            .error("unknown-selection", self.word_span(word), message, help);
    }

    fn of(&mut self, word: Word<'t>) -> Result<Condition, Refused> {
        self.at += 2;
        let span = self.word_span(word);
        let Some(pattern) = self.peek().filter(|(_, pattern)| {
            pattern.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '*'))
        }) else {
            self.context.report.error(
                "condition-syntax",
                span,
                format!("`{} of` what?", short(word.1)),
                format!("write `{0} of them` or `{0} of name_*`", short(word.1)),
            );
            return Err(Refused);
        };
        self.at += 1;
        self.context.compared = self.context.compared.saturating_add(self.names.names.len());
        if self.context.compared > limits::YAML_NODES {
            self.context.report.error(
                "file-too-large",
                span,
                "the conditions of this file hold too many patterns over too many names",
                "split it into several files",
            );
            return Err(Refused);
        }
        let selections: Vec<usize> = (0..self.names.names.len())
            .filter(|index| {
                let name = self.names.names.get(*index).copied().unwrap_or("");
                if pattern.1 == "them" {
                    !name.starts_with('_')
                } else {
                    matches(pattern.1, name)
                }
            })
            .collect();
        if selections.is_empty() {
            if pattern.1.contains('*') || pattern.1 == "them" {
                let message = format!("no {} is called `{}`", self.names.noun, short(pattern.1));
                let help = suggest(
                    pattern.1.trim_matches('*'),
                    self.names.names.iter().copied(),
                    || {
                        format!(
                            "`*` stands for any characters: `sel*` means every {} that begins so",
                            self.names.noun
                        )
                    },
                );
                self.context.report.error(
                    "unknown-selection",
                    self.word_span(pattern),
                    message,
                    help,
                );
            } else {
                self.unknown(pattern);
            }
            return Err(Refused);
        }
        let quantity = match word.1 {
            "all" => Quantity::All,
            "any" => Quantity::AtLeast(1),
            number => match number.parse() {
                Ok(least) if (1..=selections.len()).contains(&least) => Quantity::AtLeast(least),
                Ok(least) => {
                    self.context.report.error(
                        "quantity-out-of-range",
                        span,
                        format!(
                            "{least} of the {} that `{}` means",
                            selections.len(),
                            short(pattern.1)
                        ),
                        format!(
                            "write a number from 1 to {}, `any` or `all`",
                            selections.len()
                        ),
                    );
                    return Err(Refused);
                }
                Err(_) => {
                    self.context.report.error(
                        "condition-syntax",
                        span,
                        format!("`{}` is not a quantity", short(number)),
                        "write a number, `any` or `all` in front of `of`",
                    );
                    return Err(Refused);
                }
            },
        };
        let span = self.span(word.0, pattern.0 + pattern.1.len());
        Ok(Condition::Of {
            span,
            quantity,
            selections,
        })
    }

    fn unexpected(&mut self, word: Word<'_>) {
        let span = self.word_span(word);
        match word.1 {
            "|" => self.context.report.error(
                "aggregation-expression",
                span,
                "aggregations such as `| count() > 5` are not part of Sigma any more",
                "write a correlation document with `type: event_count` or `value_count`",
            ),
            text => {
                let help = match text {
                    "&" | "&&" => "write `and`",
                    "!" => "write `not`",
                    "AND" | "OR" | "NOT" | "OF" => {
                        "write `and`, `or`, `not` and `of` in lower case"
                    }
                    _ => "join names with `and`, `or`, `not` and brackets",
                };
                self.context.report.error(
                    "condition-syntax",
                    span,
                    format!("`{}` is not expected here", short(text)),
                    help,
                );
            }
        }
    }
}

fn one_or(mut parts: Vec<Condition>, several: fn(Vec<Condition>) -> Condition) -> Condition {
    if parts.len() == 1 {
        parts.swap_remove(0)
    } else {
        several(parts)
    }
}

/// Whether a name matches a pattern in which each `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = rest.get(at + piece.len()..).unwrap_or(""),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_globs() {
        let cases = [
            ("sel", "sel", true),
            ("sel", "sel1", false),
            ("sel*", "sel", true),
            ("sel*", "selection", true),
            ("*_main", "sel_main", true),
            ("sel*main", "sel_main", true),
            ("sel*main", "selmai", false),
            ("a*a", "a", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("*", "anything", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
