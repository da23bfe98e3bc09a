//! Shell detector: does this value hold a command in *command position*?
//!
//! Takes in one decoded value (a parameter, a header, a cookie). Gives out where the command starts
//! and how sure the detector is; [`injected_command`] gives the command line itself, for the rules
//! that classify what it would do.
//!
//! The one idea: a word is a command only where a shell would start one. `cat` in `cat; dog` is
//! text; in `x; cat /etc/passwd` it follows a separator, it is a program, and what follows has the
//! shape of arguments. So the detector finds the places where a command can start (after `;`, `|`,
//! `&`, a new line, inside `$(…)`, back-ticks and `system('…')`, or the value's first byte), reads
//! one word there the way a shell would, and weighs three things:
//!
//! ```text
//! 127.0.0.1 ; w\get http://host/x.sh
//!           │  │       └── arguments: a URL        → shape
//!           │  └── word, unquoted: `wget`           → kind (a word of English or not)
//!           └── place, and what stands before it    → place
//! ```
//!
//! Reading the word undoes quotes, backslashes, `^`, `$@`, `$*` and `${IFS}`, takes the base name of
//! `/usr/bin/id`, and lets `/b?n/c*t` match what it would expand to.
//!
//! Cost: linear. At each place a bounded number of bytes is read (the word and its arguments' head), the
//! search for a closing back-tick never looks at a byte twice, and nothing is allocated.
//! It gives up on commands that only a variable names (`$x`) unless the variable itself is telling,
//! and on a lone command word without a separator, which is a word like any other.

mod arguments;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tricks;
mod word;

use std::cell::Cell;

use super::{Finding, Gate, HIGH, LOW, MEDIUM, Steps, holds_any, markdown};
use crate::normalise::{
    AMPERSAND, ANGLE, BACKSLASH, BRACKET, CONTROL, DOLLAR, PAREN, PERCENT, PIPE, PLUS, QUOTE,
    SEMICOLON, SPACE, classes,
};
use arguments::{
    Shape, bare_word_line, closed_line, echoes, exports, is_shown, known_line, number_ends,
    only_command, shape, short_option, windows_line,
};
use tricks::{
    brace, call, device, powershell, redirection, shellshock, ssi, variable, windows_variable,
};
use word::Kind::{Program, Strong, Subject, Tool, Windows, WindowsVerb};
use word::{Command, is_space, read, skip_space};

/// What a value must hold for a finding.
pub const GATE: Gate = Gate {
    classes: SPACE
        | PLUS
        | PERCENT
        | QUOTE
        | ANGLE
        | PAREN
        | BRACKET
        | SEMICOLON
        | PIPE
        | DOLLAR
        | BACKSLASH
        | CONTROL
        | AMPERSAND,
    words: &["bin/", "/tmp/", "/dev/tcp/", "/dev/udp/", "system32"],
};

/// What stands before a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The first word of the value.
    Start,
    Semicolon,
    Pipe,
    Ampersand,
    Line,
    /// `$(`, a back-tick, `<(`, `system('`: whatever is inside runs.
    Inside,
}

/// Steps that a command costs where a shell would start one, and one of the other marks of a shell.
const COMMAND_STEPS: u32 = 24;
const MARK_STEPS: u32 = 4;

/// Says whether `value` holds a command where a shell would run it. Linear, no allocation, total.
pub fn command(value: &[u8]) -> Option<Finding> {
    command_within(value, &Steps::unlimited())
}

/// The same, as far as the steps go.
pub fn command_within(value: &[u8], steps: &Steps) -> Option<Finding> {
    scan(value, steps).map(|(finding, _)| finding)
}

/// The same, and the command line that `value` tries to run: the bytes from its command word to the end of the
/// injected text, without closing marks. Same cost as [`command`].
pub fn injected_command(value: &[u8], steps: &Steps) -> Option<(Finding, (usize, usize))> {
    // Only for the hit that counts: finding an end costs a look at the rest of the value.
    scan(value, steps).map(|(finding, span)| {
        let end = if span.inside {
            close(value, span.from, span.limit)
        } else {
            trim_end(value, span.limit)
        };
        (finding, (span.from, end.max(span.from)))
    })
}

/// Whether a value is a whole command line that somebody writes about: it begins with the plain name of a program, and has
/// nothing of what an attacker wants of one.
pub fn is_said(value: &[u8], steps: &Steps) -> bool {
    read(value, skip_space(value, 0), value.len())
        .is_some_and(|command| !command.hidden && !command.rooted && !command.own)
        && !holds_any(value, TELLS, steps)
}

/// What an attacker wants of a command: files of the system, a connection, another shell, who and where it runs.
const TELLS: &[&str] = &[
    "/etc",
    "passwd",
    "shadow",
    "/dev/",
    "/bin/",
    "/tmp",
    "/proc",
    "/var",
    "/root",
    "://",
    "127.",
    "localhost",
    "$",
    "`",
    "<",
    "base64,",
    "whoami",
    "ifconfig",
    "ipconfig",
    "uname",
    "net user",
    "%",
    "c:",
    "../",
    "..\\",
    "\\\\",
    " -enc",
    "-e /",
    "-e cmd",
    "exec",
    "sleep",
    "sh -c",
    "cmd /",
    "type ",
    "\\n",
    "id;",
    ";id",
    "|id",
    "&id",
];

/// A finding with where its command starts, and where it must end if it is inside a pair of marks.
type Hit = (Finding, Span);

#[derive(Clone, Copy)]
struct Span {
    from: usize,
    inside: bool,
    limit: usize,
}

fn scan(value: &[u8], steps: &Steps) -> Option<Hit> {
    if classes(value) & GATE.classes == 0 && !value.contains(&b'/') {
        return None;
    }
    let mut best: Option<Hit> = None;
    let mut keep = |hit: Option<Hit>| -> bool {
        if let Some(hit) = hit
            && best
                .as_ref()
                .is_none_or(|b| hit.0.confidence > b.0.confidence)
        {
            best = Some(hit);
        }
        best.as_ref().is_some_and(|b| b.0.confidence >= HIGH)
    };
    if keep(shellshock(value)) {
        return best;
    }
    let mut head = Head::default();
    let start = skip_opening(value, 0);
    if keep(at(value, 0, start, value.len(), Place::Start, &head)) {
        return best;
    }
    // Past the closing mark of the back-ticks being read, and whether there are any more pairs.
    let mut tick_close = None;
    let mut ticks_left = true;
    let mut index = 0;
    while let Some(&byte) = value.get(index) {
        if PLAIN[usize::from(byte)] {
            index += 1;
            continue;
        }
        head.skip_to(value, index);
        let next = value.get(index + 1).copied();
        let starts = |from: usize, place| {
            at(
                value,
                index,
                skip_space(value, from),
                value.len(),
                place,
                &head,
            )
        };
        let hit = match byte {
            b';' if entity(value, index) => {
                starts(index + 1, Place::Semicolon).filter(|(f, _)| f.confidence >= HIGH)
            }
            b';' => starts(index + 1, Place::Semicolon),
            b'|' if next != Some(b'|') => starts(index + 1, Place::Pipe),
            b'&' if next != Some(b'&') => starts(index + 1, Place::Ampersand),
            b'\n' | b'\r' => starts(index + 1, Place::Line),
            // A new line that was escaped once more than it is decoded here.
            b'\\' if matches!(next, Some(b'n' | b'r')) => starts(index + 2, Place::Line),
            b'`' if tick_close == Some(index) => None,
            b'`' if ticks_left => {
                let rest = value.get(index + 1..).unwrap_or(b"");
                tick_close = memchr::memchr(b'`', rest).map(|n| index + 1 + n);
                ticks_left = tick_close.is_some();
                tick_close.and_then(|close| ticked(value, index, close, &head))
            }
            b'$' if next == Some(b'(') && value.get(index + 2) != Some(&b'(') => {
                starts(index + 2, Place::Inside)
            }
            b'$' => variable(value, index),
            b'<' | b'>' if next == Some(b'(') => starts(index + 2, Place::Inside),
            b'<' | b'>' => redirection(value, index),
            b'(' => match call(value, index) {
                Some(from) => starts(from, Place::Inside),
                None => powershell(value, index),
            },
            b'-' | b'.' => powershell(value, index),
            b'%' => windows_variable(value, index),
            b'=' if ssi(value, index) => {
                let from = skip_opening(value, index + 1);
                let quote = value
                    .get(from..)
                    .and_then(|v| memchr::memchr2(b'"', b'\'', v));
                let limit = quote.map_or(value.len(), |n| from + n);
                let finding = Finding {
                    confidence: HIGH,
                    start: index,
                    end: limit,
                };
                Some((
                    finding,
                    Span {
                        from,
                        inside: true,
                        limit,
                    },
                ))
            }
            b'{' => brace(value, index),
            b'/' if next == Some(b'd') => device(value, index),
            _ => None,
        };
        if keep(hit) {
            return best;
        }
        if !steps.take(MARK_STEPS + COMMAND_STEPS * head.commands.take()) {
            return best;
        }
        head.see(byte);
        index += 1;
    }
    best
}

/// Bytes that neither start a command nor say anything about what stands before one.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let letter = byte as u8;
        table[byte] =
            letter.is_ascii_alphanumeric() || letter >= 0x80 || matches!(letter, b'_' | b',');
        byte += 1;
    }
    table
};

/// The command between two back-ticks.
fn ticked(value: &[u8], open: usize, close: usize, head: &Head) -> Option<Hit> {
    if markdown::opens_fence(value, open) {
        return None;
    }
    let from = skip_space(value, open + 1);
    let (finding, span) = at(value, open, from, close, Place::Inside, head)?;
    // "use `ls -l` to see"
    let said = markdown::code_in_sentence(value, open).is_some();
    let confidence = if said { LOW } else { finding.confidence };
    Some((
        Finding {
            confidence,
            ..finding
        },
        span,
    ))
}

/// The `;` at `at` ends an HTML entity: `amp;`, `&quot;`, `#39;`.
fn entity(value: &[u8], at: usize) -> bool {
    let back = value.get(at.saturating_sub(8)..at).unwrap_or(b"");
    let from = back
        .iter()
        .rposition(|b| !b.is_ascii_alphanumeric())
        .map_or(0, |p| p + 1);
    let name = back.get(from..).unwrap_or(b"");
    let edge = from > 0 || back.len() == at;
    edge && [
        b"amp".as_slice(),
        b"lt",
        b"gt",
        b"quot",
        b"apos",
        b"nbsp",
        b"copy",
        b"reg",
    ]
    .contains(&name)
        || from > 0 && back.get(from - 1) == Some(&b'#')
}

/// What was seen of the value so far, to tell a list or a sentence from a value that is broken out of.
#[derive(Default)]
struct Head {
    bytes: usize,
    /// Spaces between words.
    spaces: usize,
    /// A space was the last thing before the separators, if any.
    gap: bool,
    separators: usize,
    /// A `?` or `=`: the value is a URL or a query of its own.
    query: bool,
    last: u8,
    /// The last byte that is neither a separator nor a space.
    before: u8,
    /// A byte that no identifier has: `/`, `.`, `)`, a quote.
    odd: bool,
    /// A slash or a backslash: a path.
    path: bool,
    /// Parentheses that are open: a group of a regular expression.
    open: usize,
    /// Commands that were read since it was last asked.
    commands: Cell<u32>,
}

impl Head {
    /// Takes in the plain bytes up to `index`.
    fn skip_to(&mut self, value: &[u8], index: usize) {
        if index > self.bytes {
            self.bytes = index;
            self.last = value.get(index - 1).copied().unwrap_or(0);
            self.before = self.last;
            self.spaces += usize::from(self.gap);
            self.gap = false;
        }
    }

    fn see(&mut self, byte: u8) {
        self.bytes += 1;
        self.path |= matches!(byte, b'/' | b'\\');
        match byte {
            b' ' => self.gap = true,
            b';' | b'|' | b'&' if byte != self.last => self.separators += 1,
            b'?' | b'=' => self.query = true,
            b'(' => self.open += 1,
            b')' => {
                self.open = self.open.saturating_sub(1);
                self.odd = true;
            }
            b'/' | b'.' | b'\'' | b'"' | b'`' | b'$' | b':' => self.odd = true,
            _ => {}
        }
        if !matches!(byte, b';' | b'|' | b'&' | b' ' | b'\n' | b'\r') {
            self.before = byte;
        }
        if self.gap && !matches!(byte, b' ' | b';' | b'|' | b'&') {
            self.spaces += 1;
            self.gap = false;
        }
        self.last = byte;
    }

    /// More than a few words: a sentence, or a user agent.
    fn sentence(&self) -> bool {
        self.spaces >= 3
    }

    /// Nothing but separators, quotes and spaces.
    fn blank(&self, value: &[u8]) -> bool {
        value.get(..self.bytes).is_some_and(|h| {
            h.iter().take(16).all(|b| {
                matches!(
                    b,
                    b' ' | b'\t'
                        | b'\''
                        | b'"'
                        | b')'
                        | b';'
                        | b'|'
                        | b'&'
                        | b'\n'
                        | b'\r'
                        | b'`'
                        | b'$'
                        | b'+'
                        | b'\\'
                )
            }) && h.len() <= 16
        })
    }
}

/// Skips what breaks out of a string at the front of a value.
fn skip_opening(value: &[u8], mut at: usize) -> usize {
    while value
        .get(at)
        .is_some_and(|&b| is_space(b) || matches!(b, b'"' | b'\'' | b')'))
    {
        at += 1;
    }
    at
}

/// Weighs a command at `from`, which a separator at `mark` introduces.
fn at(
    value: &[u8],
    mark: usize,
    from: usize,
    limit: usize,
    place: Place,
    head: &Head,
) -> Option<Hit> {
    let start = skip_group(value, from, place);
    head.commands.set(head.commands.get() + 1);
    let mut command = read(value, start, limit)?;
    // One that is known is weighed as well.
    head.commands.set(head.commands.get() + 2);
    let mut shape = shape(value, command.end, limit);
    if shape == Shape::Prose && command.runs {
        // `;time id`: the word that counts is the next one.
        let inner = read(value, skip_space(value, command.end), limit);
        if let Some(inner) = inner {
            shape = arguments::shape(value, inner.end, limit);
            // Nobody writes `sudo` but before a command.
            let sudo = value.get(start..command.end) == Some(b"sudo");
            command = Command {
                hidden: shape != Shape::Prose || sudo && !inner.own && !head.sentence(),
                ..inner
            };
        }
    }
    // `$('id')` asks a page for its elements; a shell is asked without quotes.
    let quoted = matches!(value.get(start), Some(b'\'' | b'"'));
    if place == Place::Inside
        && quoted
        && !command.hidden
        && matches!(shape, Shape::Bare | Shape::Closed)
    {
        return None;
    }
    let glued = start == mark + 1;
    let confidence = weigh(value, &command, shape, place, head, glued);
    if confidence == 0 {
        return None;
    }
    let inside = place == Place::Inside;
    Some((
        Finding {
            confidence,
            start: mark,
            end: command.end.max(mark),
        },
        Span {
            from: start,
            inside,
            limit,
        },
    ))
}

/// Skips what may stand between a separator and its command: `(`, `{ `, `!`, `X=1 `.
fn skip_group(value: &[u8], from: usize, place: Place) -> usize {
    let start = match value.get(from..) {
        Some([b'(' | b'!' | b'@', ..]) if place != Place::Start => skip_space(value, from + 1),
        Some([b'{', b' ', ..]) if place != Place::Start => skip_space(value, from + 1),
        _ => from,
    };
    let text = value.get(start..value.len().min(start + 32)).unwrap_or(b"");
    let name = text
        .iter()
        .take_while(|b| b.is_ascii_uppercase() || **b == b'_')
        .count();
    if name == 0 || text.get(name) != Some(&b'=') {
        return start;
    }
    match text.iter().position(|&b| is_space(b)) {
        Some(space) => skip_space(value, start + space),
        None => start,
    }
}

fn weigh(
    value: &[u8],
    command: &Command,
    shape: Shape,
    place: Place,
    head: &Head,
    glued: bool,
) -> u8 {
    use Shape::{Bare, Closed, Late, List, Mark, Name, Number, Option, Other, Prose, Target};
    if shape == Other {
        return 0;
    }
    let kind = command.kind;
    let word = kind.is_word();
    let strong = matches!(kind, Strong | Windows);
    let alone = matches!(shape, Bare | Closed | List);
    let line = value.get(..command.end).unwrap_or(b"");
    let sleeps = line.ends_with(b"sleep") || line.ends_with(b"timeout");
    if command.own {
        return own(value, shape, place, head, glued);
    }
    if exports(value, command.end) {
        return MEDIUM;
    }
    let is_disguised = command.hidden || command.rooted;
    if matches!(place, Place::Start | Place::Line) && !is_disguised && is_shown(value, command.end)
    {
        return 0;
    }
    if command.hidden && (place != Place::Start || matches!(shape, Target | Mark | Option | Name)) {
        return if shape == Prose && !command.rooted {
            MEDIUM
        } else {
            HIGH
        };
    }
    match place {
        Place::Start => match shape {
            Target | Option | Name | Mark | Number if command.rooted => HIGH,
            Bare | Closed | List if command.rooted && !command.hidden => MEDIUM,
            Target | Mark if word => bare_word_line(value, command.end),
            Target => MEDIUM,
            Option if !short_option(value, command.end) && !strong => 0,
            Option => {
                if word {
                    LOW
                } else {
                    MEDIUM
                }
            }
            Name => {
                if word {
                    0
                } else {
                    MEDIUM
                }
            }
            Late if kind == WindowsVerb => windows_line(value, command.end),
            Late | Mark if !word => LOW,
            Number if sleeps => LOW,
            Closed if only_command(value, command.end) => MEDIUM,
            _ => 0,
        },
        Place::Inside => {
            let certainty = match shape {
                Number if sleeps => HIGH,
                Prose | Number | Late if word => 0,
                Prose => {
                    if kind == Subject {
                        LOW
                    } else {
                        MEDIUM
                    }
                }
                _ => HIGH,
            };
            match certainty {
                0 => 0,
                _ if !head.sentence() || command.rooted => certainty,
                _ if alone => LOW,
                _ => certainty.min(MEDIUM),
            }
        }
        Place::Semicolon | Place::Pipe | Place::Ampersand | Place::Line if command.rooted => HIGH,
        Place::Semicolon | Place::Pipe | Place::Ampersand | Place::Line => {
            // A value of an inner query begins after its `=`: `…?page=;id`.
            let opened = head.before == b'=' && !(place == Place::Ampersand && glued);
            let inner_query = head.query && !opened && place == Place::Ampersand;
            let blank = head.blank(value);
            let broken = opened || blank || head.odd && !head.query && head.spaces == 0;
            let sentence = head.sentence() && !opened;
            let single = head.separators == 0 && head.spaces == 0 && glued;
            // Text of several lines may well show commands; an attack needs one line break.
            let page = sentence && place == Place::Line;
            let known = !sentence && !inner_query && known_line(value, command.end);
            match shape {
                _ if known && (blank || broken || glued) => HIGH,
                _ if known => MEDIUM,
                Target | Option if page => LOW,
                Target => {
                    if word && sentence {
                        MEDIUM
                    } else {
                        HIGH
                    }
                }
                Mark | Name | Late if word && (sentence || place == Place::Line) => 0,
                Late if kind == WindowsVerb => windows_line(value, command.end),
                Late => {
                    if word || sentence {
                        LOW
                    } else {
                        MEDIUM
                    }
                }
                Mark | Name if sentence => LOW,
                Mark | Name => {
                    if word {
                        MEDIUM
                    } else {
                        HIGH
                    }
                }
                Option if word && (sentence || place == Place::Line) => LOW,
                Option => {
                    if word {
                        MEDIUM
                    } else {
                        HIGH
                    }
                }
                Number if sleeps && number_ends(value, command.end) && !sentence => HIGH,
                Number if sleeps && glued => LOW,
                Number if sentence || head.query || word || kind == Subject => 0,
                Number => MEDIUM,
                Bare | Closed | List if strong => {
                    if sentence || inner_query {
                        LOW
                    } else {
                        HIGH
                    }
                }
                Bare | Closed | List if sentence || inner_query || head.open > 0 => 0,
                Bare | Closed | List if kind.needs_arguments() => {
                    if blank && glued && line.ends_with(b"sh") {
                        MEDIUM
                    } else if broken && line.ends_with(b"sh") {
                        LOW
                    } else {
                        0
                    }
                }
                List if word => {
                    if place == Place::Pipe || !broken {
                        0
                    } else {
                        MEDIUM
                    }
                }
                Bare | Closed | List if !word => MEDIUM,
                Bare | Closed | List if broken && (!head.query || opened) || head.bytes <= 1 => {
                    MEDIUM
                }
                Bare | Closed | List
                    if single && (place == Place::Semicolon || shape == Closed) =>
                {
                    MEDIUM
                }
                Bare | Closed | List => {
                    if single && place == Place::Pipe {
                        LOW
                    } else {
                        0
                    }
                }
                Prose if strong => {
                    if blank || broken && glued {
                        MEDIUM
                    } else {
                        LOW
                    }
                }
                Prose if kind == Tool && glued && !sentence && closed_line(value, command.end) => {
                    HIGH
                }
                Prose if kind == Tool && !sentence && echoes(value, command.end) => MEDIUM,
                Prose
                    if matches!(kind, Program | Tool)
                        && !sentence
                        && (blank || glued && head.spaces == 0 && place != Place::Line) =>
                {
                    MEDIUM
                }
                Prose if kind == WindowsVerb && (blank || broken) => {
                    windows_line(value, command.end)
                }
                Prose | Other => 0,
            }
        }
    }
}

/// A program that lies where it was put, after a separator: `;./xmrig`, `&&tool.exe`. A list of
/// files has the same shape, so nothing that looks like one may stand before it.
fn own(value: &[u8], shape: Shape, place: Place, head: &Head, glued: bool) -> u8 {
    if matches!(
        shape,
        Shape::Prose | Shape::Other | Shape::Mark | Shape::Late
    ) {
        return 0;
    }
    let before = value.get(..head.bytes).unwrap_or(b"");
    let blank = head.blank(value);
    // Looking for the slash here would cost a list of such programs its length squared.
    let file = head.path || {
        let ending = before
            .iter()
            .rev()
            .take_while(|b| b.is_ascii_alphanumeric());
        let letters = ending.clone().any(u8::is_ascii_alphabetic);
        let len = ending.count();
        letters && before.len() > len && before.get(before.len() - len - 1) == Some(&b'.')
    };
    match place {
        Place::Start => 0,
        Place::Inside if !head.sentence() => MEDIUM,
        Place::Inside => 0,
        Place::Line if !blank => 0,
        _ if blank || glued && !file && head.spaces == 0 && !head.query => MEDIUM,
        _ => 0,
    }
}

/// Where the substitution that opened before `from` closes.
fn close(value: &[u8], from: usize, limit: usize) -> usize {
    if limit < value.len() {
        return limit;
    }
    let mut depth = 0usize;
    for (offset, &byte) in value
        .get(from..)
        .unwrap_or(b"")
        .iter()
        .enumerate()
        .take(4096)
    {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 0 => return trim_quote(value, from, from + offset),
            b')' => depth -= 1,
            _ => {}
        }
    }
    trim_end(value, limit)
}

fn trim_quote(value: &[u8], from: usize, mut end: usize) -> usize {
    while end > from && matches!(value.get(end - 1), Some(b'\'' | b'"' | b' ')) {
        end -= 1;
    }
    end
}

/// Drops the separators and marks that only close what was broken out of.
fn trim_end(value: &[u8], mut end: usize) -> usize {
    while end > 0
        && matches!(
            value.get(end - 1),
            Some(b';' | b'|' | b'&' | b' ' | b'#' | b'\n' | b'\r' | b'`')
        )
    {
        end -= 1;
    }
    end
}

fn hit(confidence: u8, start: usize, end: usize, from: usize, value: &[u8]) -> Option<Hit> {
    Some((
        Finding {
            confidence,
            start,
            end,
        },
        Span {
            from,
            inside: false,
            limit: value.len(),
        },
    ))
}
