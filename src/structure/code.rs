//! Expression detector: would a template engine or an expression language *evaluate* this value?
//!
//! Takes in one decoded value. Gives out the expression between a pair of delimiters that computes,
//! calls or reaches for the machinery underneath, or nothing.
//!
//! The one idea: a delimiter proves nothing. Half-rendered pages and advertising macros send
//! `{{product.name}}` and `${AUCTION_PRICE}` all day. What tells is the text in between, read as tokens:
//!
//! ```text
//! {{7*7}}   ${191+2}   <%= 7 * '7' %>       two literals and an operator: a probe
//! {{''.__class__}}   {{[].x}}               a member of a literal, a name in double underscores
//! ${T(java.lang.Runtime).getRuntime()…}     names and calls that reach out of the template
//! ${jndi:…}   ${${lower:j}ndi:…}            a look-up; one within another only hides something
//! {{title}}   ${a.b}   {{price | currency}} a placeholder: nothing
//! ```
//!
//! Where it gives up: a call of a name that it does not know is [`LOW`], since pages that failed to
//! render request `{{asset('logo.png')}}`. Code outside of delimiters is left to rules.
//!
//! Cost: linear. A delimiter within an expression ends the outer one, so each byte is read once.

#[cfg(test)]
mod tests;
mod words;

use super::{Finding, Gate, HIGH, LOW, MEDIUM, Steps};
use crate::normalise::{ANGLE, BRACKET, MARK};
use words::{APPLIERS, CALLS, COMMANDS, LOOKUPS, NAMES, OBJECTS, PACKAGES, STATEMENTS, STEMS};

/// What a value must hold for a finding: the second byte of each delimiter, more or less.
pub const GATE: Gate = Gate {
    classes: BRACKET | ANGLE | MARK,
    words: &[],
};

/// Steps that a byte between delimiters costs.
const BODY_STEPS: u32 = 16;

/// A pair of delimiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `${…}`
    Dollar,
    /// `{{…}}`
    Double,
    /// `#{…}`, `%{…}`, `*{…}`, `@{…}`, `~{…}`
    Marked,
    /// `{%…%}`
    Statement,
    /// `<%…%>`
    Angle,
    /// `@(…)`
    Razor,
    /// `{…}`
    Brace,
    /// `[[…]]`
    Square,
}

impl Kind {
    /// The delimiter that begins here, and its bytes.
    fn opening(text: &[u8]) -> Option<(Kind, usize)> {
        Some(match text {
            [b'$', b'{', ..] => (Kind::Dollar, 2),
            [b'#' | b'%' | b'*' | b'@' | b'~', b'{', ..] => (Kind::Marked, 2),
            [b'{', b'{', ..] => (Kind::Double, 2),
            [b'{', b'%', ..] => (Kind::Statement, 2),
            [b'<', b'%', ..] => (Kind::Angle, 2),
            [b'@', b'(', ..] => (Kind::Razor, 2),
            [b'[', b'[', ..] => (Kind::Square, 2),
            [b'{', ..] => (Kind::Brace, 1),
            _ => return None,
        })
    }

    fn closing(self) -> &'static [u8] {
        match self {
            Kind::Dollar | Kind::Marked | Kind::Brace => b"}",
            Kind::Double => b"}}",
            Kind::Statement => b"%}",
            Kind::Angle => b"%>",
            Kind::Razor => b")",
            Kind::Square => b"]]",
        }
    }
}

/// An expression in a value.
struct Expression<'a> {
    kind: Kind,
    body: &'a [u8],
    closed: bool,
}

/// Finds the surest expression of a value.
pub fn code(value: &[u8]) -> Option<Finding> {
    code_within(value, &Steps::unlimited())
}

/// The same, as far as the steps go.
#[inline(never)]
pub fn code_within(value: &[u8], steps: &Steps) -> Option<Finding> {
    let mut best: Option<Finding> = None;
    let mut at = 0;
    // Where an unclosed `${` began.
    let mut outer: Option<usize> = None;
    while let Some(rest) = value.get(at..).filter(|rest| !rest.is_empty()) {
        let Some((kind, opening)) = Kind::opening(rest) else {
            if rest.first() == Some(&b'}') {
                outer = None;
            }
            at += 1;
            continue;
        };
        let body_at = at + opening;
        let (end, closed) = body_end(value, body_at, kind);
        let bytes = u32::try_from(end - at).unwrap_or(u32::MAX);
        if !steps.take(bytes.saturating_mul(BODY_STEPS)) {
            break;
        }
        let body = value.get(body_at..end).unwrap_or_default();
        let nested = kind == Kind::Dollar && outer.is_some();
        let confidence = if nested {
            HIGH
        } else {
            weigh(&Expression { kind, body, closed })
        };
        let past = if closed {
            end + kind.closing().len()
        } else {
            end
        };
        if confidence > best.map_or(0, |found| found.confidence) {
            best = Some(Finding {
                confidence,
                start: if nested { outer.unwrap_or(at) } else { at },
                end: past,
            });
        }
        outer = (kind == Kind::Dollar && !closed).then_some(at);
        at = past;
    }
    best
}

/// Where the text between delimiters ends, and whether at its own closing one.
fn body_end(value: &[u8], start: usize, kind: Kind) -> (usize, bool) {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(rest) = value.get(at..).filter(|rest| !rest.is_empty()) {
        if depth == 0 && rest.starts_with(kind.closing()) {
            return (at, true);
        }
        match rest {
            [b'(', ..] if kind == Kind::Razor => depth += 1,
            [b')', ..] if kind == Kind::Razor => depth = depth.saturating_sub(1),
            _ => {}
        }
        // A lone brace or a doubled bracket is part of the expression: a map, a list.
        let part = |inner| matches!(inner, Kind::Brace | Kind::Square | Kind::Razor);
        if Kind::opening(rest).is_some_and(|(inner, _)| !part(inner)) {
            return (at, false);
        }
        at += 1;
    }
    (value.len(), false)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Number,
    /// A quoted text, without its quotes.
    Text(&'a [u8]),
    Word(&'a [u8]),
    /// `[]` or `()` or `{}`.
    Empty,
    Mark(u8),
}

impl Token<'_> {
    fn is_literal(self) -> bool {
        matches!(self, Token::Number | Token::Text(_))
    }
}

/// Reads one token off a text that does not begin with white space.
fn token(text: &[u8]) -> Option<(Token<'_>, usize)> {
    let run = |wanted: fn(&u8) -> bool| {
        text.iter()
            .position(|byte| !wanted(byte))
            .unwrap_or(text.len())
    };
    Some(match text {
        [b'[', b']', ..] | [b'(', b')', ..] | [b'{', b'}', ..] => (Token::Empty, 2),
        [quote @ (b'\'' | b'"' | b'`'), more @ ..] => {
            match more.iter().position(|byte| byte == quote) {
                Some(end) => (Token::Text(more.get(..end)?), end + 2),
                None => (Token::Mark(*quote), 1),
            }
        }
        [b'0'..=b'9', ..] => {
            let digits = run(|byte| byte.is_ascii_digit() || *byte == b'.');
            (Token::Number, digits)
        }
        [b'a'..=b'z' | b'A'..=b'Z' | b'_', ..] => {
            let end = run(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
            (Token::Word(text.get(..end)?), end)
        }
        [byte, ..] => (Token::Mark(*byte), 1),
        [] => return None,
    })
}

/// How sure it is that an expression is meant to be evaluated.
fn weigh(expression: &Expression<'_>) -> u8 {
    let Expression { kind, body, closed } = *expression;
    let body = body.trim_ascii();
    if kind == Kind::Dollar && starts_with(body, b"jndi:") {
        return HIGH;
    }
    if matches!(kind, Kind::Brace | Kind::Square) {
        return if closed && product(body) { MEDIUM } else { 0 };
    }
    let inner = tokens(kind, body);
    if inner == HIGH || closed {
        inner.max(if closed { shape(kind, body) } else { 0 })
    } else {
        0
    }
}

/// What the whole of a body says.
fn shape(kind: Kind, body: &[u8]) -> u8 {
    let first = body
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
        .unwrap_or(body.len());
    let word = body.get(..first).unwrap_or_default();
    let after = body.get(first..).unwrap_or_default();
    match kind {
        Kind::Dollar if after.starts_with(b":") && among(word, &LOOKUPS) => MEDIUM,
        Kind::Dollar if body.windows(2).any(|pair| pair == b":-") => MEDIUM,
        Kind::Statement if among(word, &STATEMENTS) && (!after.is_empty() || is(word, "debug")) => {
            MEDIUM
        }
        Kind::Double if after.is_empty() && among(word, &OBJECTS) => MEDIUM,
        Kind::Double | Kind::Dollar
            if STEMS.iter().any(|stem| starts_with(body, stem.as_bytes())) =>
        {
            HIGH
        }
        _ => 0,
    }
}

/// What the tokens of a body say, each with the two before it.
fn tokens(kind: Kind, body: &[u8]) -> u8 {
    let mut best = 0;
    let mut rest = body;
    let mut before = [None; 2];
    let mut operators = 0;
    let mut spaced = false;
    while let Some((now, len)) = token(rest) {
        let more = rest.get(len..).unwrap_or_default().trim_ascii_start();
        let found = match (before[0], before[1], now) {
            // Two literals and what joins them. A `+` of a query may have become a space.
            (Some(left), Some(Token::Mark(b'*' | b'+' | b'%' | b'~')), right)
                if left.is_literal() && right.is_literal() =>
            {
                HIGH
            }
            (Some(Token::Number), Some(Token::Mark(b'-' | b'/')), Token::Number) => {
                operators += 1;
                // One is a sum; two are a date.
                if operators == 1 && kind != Kind::Angle {
                    MEDIUM
                } else {
                    0
                }
            }
            (Some(Token::Number), Some(Token::Mark(b'=')), Token::Mark(b'=')) => MEDIUM,
            // Django's sum.
            (Some(Token::Number), Some(Token::Mark(b'|')), Token::Word(filter))
                if is(filter, "add") && more.starts_with(b":") =>
            {
                MEDIUM
            }
            (_, Some(Token::Number), Token::Number) if spaced && kind != Kind::Angle => MEDIUM,
            // A member of a literal.
            (Some(Token::Text(_) | Token::Empty), Some(Token::Mark(b'.')), Token::Word(_)) => HIGH,
            // A variable of OGNL.
            (_, Some(Token::Mark(b'#')), Token::Word(_))
                if matches!(kind, Kind::Dollar | Kind::Marked) =>
            {
                HIGH
            }
            // Ruby runs what stands between backticks.
            (_, _, Token::Text(text))
                if rest.starts_with(b"`") && matches!(kind, Kind::Angle | Kind::Marked) =>
            {
                at_least(text, 1)
            }
            (Some(Token::Word(filter)), Some(Token::Mark(b'(')), Token::Text(text))
                if among(filter, &APPLIERS) && among(text, &COMMANDS) =>
            {
                HIGH
            }
            (_, _, Token::Text(text)) if starts_with(text, b"__") => at_least(text, 5),
            (_, previous, Token::Word(word)) => name(kind, previous, word, rest, more),
            _ => 0,
        };
        best = best.max(found);
        // A sum that turns out to be a date was none.
        if operators > 1 && best == MEDIUM {
            best = 0;
        }
        before = [before[1], Some(now)];
        // `x()` is a call, and what follows is a member of what it gives; `()` alone is a literal.
        if now == Token::Empty
            && matches!(before[0], Some(Token::Word(_) | Token::Mark(b']' | b')')))
        {
            before[1] = Some(Token::Mark(b')'));
        }
        spaced = rest.get(len).is_some_and(u8::is_ascii_whitespace);
        rest = more;
    }
    best
}

/// Sure, if a text is this long.
fn at_least(text: &[u8], bytes: usize) -> u8 {
    if text.len() >= bytes { HIGH } else { 0 }
}

/// What a name says, with what stands before and after it.
fn name(kind: Kind, before: Option<Token<'_>>, word: &[u8], from: &[u8], after: &[u8]) -> u8 {
    let called = after.starts_with(b"(");
    let marked = |mark| before == Some(Token::Mark(mark));
    let dunder = word.len() > 4 && word.starts_with(b"__") && word.ends_with(b"__");
    let calls_out = among(word, &CALLS)
        || among(word, &COMMANDS)
        // PHP's silent call, Ruby's `%x(…)`, Jinja's attribute by name, a type of SpEL, an object of Freemarker.
        || marked(b'@')
        || marked(b'%') && word == b"x"
        || marked(b'|') && is(word, "attr")
        || word == b"T" && kind != Kind::Double
        || marked(b'?') && is(word, "new");
    if dunder
        || among(word, &NAMES)
        || called && calls_out
        || PACKAGES
            .iter()
            .any(|package| starts_with(from, package.as_bytes()))
        || marked(b'?') && is(word, "api")
    {
        HIGH
    } else if called {
        LOW
    } else {
        0
    }
}

/// Whether a body is one number times another.
fn product(body: &[u8]) -> bool {
    let mut sides = body.split(|byte| *byte == b'*');
    let number = |side: Option<&[u8]>| {
        let side = side.unwrap_or_default().trim_ascii();
        !side.is_empty() && side.iter().all(u8::is_ascii_digit)
    };
    number(sides.next()) && number(sides.next()) && sides.next().is_none()
}

fn among(word: &[u8], known: &[&str]) -> bool {
    known.iter().any(|one| is(word, one))
}

fn is(word: &[u8], known: &str) -> bool {
    word.eq_ignore_ascii_case(known.as_bytes())
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
