//! Does a value open a tag, a handler, a script URL or an expression in the page it is put into?
//!
//! Takes in one decoded value; gives out where the markup or script begins and how sure we are.
//!
//! A page has many places for a value: its text, an attribute with or without quotes, a URL, a
//! string or the code of a script. Instead of one parse for each, the value is walked once, and
//! certain bytes make us look at what stands around them:
//!
//! ```text
//! "><img/src=x onerror=alert(1)>
//!   │       │        │     └ `(`  a call of `alert`, in code
//!   │       │        └ `=`  the name before it begins with `on`, and a tag is open: a handler
//!   │       └ `=`  `src`: nothing
//!   └ `<`  a tag opens
//! ```
//!
//! Quotes decide little: pages differ in which one is open, and attacks count on it. So a handler
//! counts wherever a tag was opened before, and without a tag if a quote stands right before it or
//! its value is code. `a < b`, `List<String>` and `<joe@example.com>` open no tag.
//!
//! Where the value holds escapes that a browser undoes later (`&#106;`, `\u006a`), it is walked a
//! second time without them.
//!
//! Cost: at each byte at most [`LOOK`] bytes are looked at in either direction, so the time is
//! linear. Nothing is allocated unless there are escapes.

#[cfg(test)]
mod tests;
mod unescape;
mod words;

use super::{Finding, HIGH, LOW, MEDIUM, Steps, markdown};
use unescape::Plain;
use words::holds;

/// Every finding needs at least one of these bytes or one of [`GATE_WORDS`]: a value without them
/// is silent. [`gate`] is the finer test.
pub const GATE: &[u8] = b"<>()'\"`[]{}&,\\";

/// See [`GATE`]; whatever the case.
pub const GATE_WORDS: &[&str] = &[
    "script:",
    "data:",
    "document.",
    "window.",
    "location",
    "=alert",
];

/// How far a look around a byte goes.
const LOOK: usize = 96;

/// Whether [`xss`] could find anything: the value holds a `<`, a parenthesis or a backtick behind a
/// word, a character reference or escape, or one of the words that script needs. One pass.
pub fn gate(value: &[u8]) -> bool {
    let mut before = 0;
    for (at, &byte) in value.iter().enumerate() {
        if SIGNS[usize::from(byte)] {
            let rest = value.get(at..).unwrap_or(&[]);
            let next = rest.get(1).copied().unwrap_or(0);
            let open = match byte {
                b'<' => !next.is_ascii_whitespace() && !next.is_ascii_digit(),
                b'(' | b'`' => {
                    is_word(before) || matches!(before, b')' | b']' | b'.' | b'>' | b'/')
                }
                b'[' => true,
                b'=' => !next.is_ascii_alphanumeric() || is_handler(back_word(value, at)),
                b':' => {
                    matches!(before | 0x20, b't' | b'a' | b'g' | b'n' | b'r') || is_blank(before)
                }
                // The last letters of `document`, `window`, `top` and the others.
                b'.' => {
                    matches!(
                        before | 0x20,
                        b'f' | b'g' | b'n' | b'p' | b'r' | b's' | b't' | b'w'
                    ) && holds(words::ROOTS, back_word(value, at))
                }
                b'-' => before == b'w' && back_word(value, at).ends_with(b"ADw"),
                // An escape.
                _ => unescape::escape(rest).is_some(),
            };
            if open {
                return may_hold(value);
            }
        }
        before = byte;
    }
    false
}

/// The bytes that make [`gate`] look.
const SIGNS: [bool; 256] = table_of(b"<(`[=:.-&\\\0");

/// The bytes that make [`Page::run`] look, and the steps that a look costs.
const LOOKED_AT: [bool; 256] = table_of(b"<'\"=:(`.[-");
const SIGN_STEPS: u32 = 24;

const fn table_of(bytes: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut i = 0;
    while i < bytes.len() {
        table[bytes[i] as usize] = true;
        i += 1;
    }
    table
}

fn may_hold(value: &[u8]) -> bool {
    value.iter().any(|b| GATE.contains(b))
        || GATE_WORDS.iter().any(|word| {
            value
                .windows(word.len())
                .any(|text| text.eq_ignore_ascii_case(word.as_bytes()))
        })
}

/// Finds markup or script that a page would run. Total, linear; allocates only to undo escapes.
pub fn xss(value: &[u8]) -> Option<Finding> {
    xss_within(value, &Steps::unlimited())
}

/// The same, as far as the steps go.
#[inline(never)]
pub fn xss_within(value: &[u8], steps: &Steps) -> Option<Finding> {
    if !gate(value) {
        return None;
    }
    let plain = Page::new(value).run(steps);
    if plain.is_some_and(|found| found.confidence >= HIGH) {
        return plain;
    }
    let Some(unescaped) = unescape::unescape(value) else {
        return plain;
    };
    let hidden = Page::new(&unescaped.text).run(steps).map(|found| {
        let start = unescaped.origin.get(found.start).copied().unwrap_or(0);
        let end = unescaped
            .origin
            .get(found.end)
            .copied()
            .unwrap_or(value.len());
        // Text that was escaped with care (`&lt;b&gt;`) is markup only if somebody undoes it.
        let careful =
            value.get(start) == Some(&b'&') && unescaped.text.get(found.start) == Some(&b'<');
        let confidence = match found.confidence {
            HIGH if careful => MEDIUM,
            LOW if careful => 0,
            confidence => confidence,
        };
        Finding {
            confidence,
            start,
            end,
        }
    });
    let hidden = [hidden, numbered_angle(value, &unescaped)]
        .into_iter()
        .flatten()
        .max_by_key(|found| found.confidence);
    match (plain, hidden) {
        (plain, Some(hidden)) if hidden.confidence > plain.map_or(0, |found| found.confidence) => {
            Some(hidden)
        }
        (plain, _) => plain,
    }
}

/// A `<` written as `&#x3c;` or `&#0060;`: encoders write `&lt;` or `&#60;`, those who test filters
/// write the rest.
fn numbered_angle(value: &[u8], unescaped: &Plain) -> Option<Finding> {
    let odd = |at: usize| {
        let reference = value.get(at..).unwrap_or(&[]);
        reference.starts_with(b"&#") && matches!(reference.get(2), Some(b'x' | b'X' | b'0'))
    };
    let mut bytes = unescaped.text.iter().zip(&unescaped.origin);
    let (_, &start) = bytes.find(|(byte, at)| **byte == b'<' && odd(**at))?;
    let end = bytes.next().map_or(value.len(), |(_, at)| *at);
    Some(Finding {
        confidence: MEDIUM,
        start,
        end,
    })
}

/// One walk over a text.
struct Page<'a> {
    text: &'a [u8],
    best: Option<Finding>,
    /// Where the tag that is open now began.
    tag: Option<usize>,
    /// A tag was opened somewhere before.
    tagged: bool,
    /// The quote that the open tag's attribute value is in, or 0.
    quoted: u8,
    /// The first quote of the text that no tag explains.
    quote: Option<usize>,
    /// Elements of [`words::RAW`] that were opened, one bit each.
    raw: u16,
    /// The run of `[]()!+` that ends here.
    symbols: usize,
    /// Whether the text is a listing of a program, once somebody has asked.
    listing: Option<bool>,
}

impl<'a> Page<'a> {
    fn new(text: &'a [u8]) -> Self {
        Page {
            text,
            best: None,
            tag: None,
            tagged: false,
            quoted: 0,
            quote: None,
            raw: 0,
            symbols: 0,
            listing: None,
        }
    }

    fn run(mut self, steps: &Steps) -> Option<Finding> {
        for (at, &byte) in self.text.iter().enumerate() {
            if LOOKED_AT[usize::from(byte)] && !steps.take(SIGN_STEPS) {
                break;
            }
            match byte {
                b'<' => self.open(at),
                b'>' if self.quoted == 0 => self.tag = None,
                b'\'' | b'"' => self.quote(at, byte),
                b'=' => self.attribute(at),
                b':' => self.scheme(at),
                b'(' | b'`' => self.call(at),
                b'.' => self.member(at),
                b'[' => self.computed(at),
                b'-' => self.utf7(at),
                _ => {}
            }
            self.symbols(at, byte);
            if self.best.is_some_and(|best| best.confidence >= HIGH) {
                break;
            }
        }
        self.best
    }

    fn byte(&self, at: usize) -> u8 {
        count(1);
        self.text.get(at).copied().unwrap_or(0)
    }

    /// Up to [`LOOK`] bytes from `at` on.
    fn ahead(&self, at: usize) -> &'a [u8] {
        count(LOOK);
        let rest = self.text.get(at..).unwrap_or(&[]);
        rest.get(..LOOK).unwrap_or(rest)
    }

    /// Past white space and controls, at most [`LOOK`] of them.
    fn skip_blank(&self, at: usize) -> usize {
        at + self.ahead(at).iter().take_while(|b| is_blank(**b)).count()
    }

    /// Back over white space and controls: the offset just past what precedes them.
    fn trim_back(&self, at: usize) -> usize {
        let mut end = at;
        while end > 0 && at - end < LOOK && is_blank(self.byte(end - 1)) {
            end -= 1;
        }
        end
    }

    /// The solid byte before `at`, or 0 at the start of the text.
    fn before(&self, at: usize) -> u8 {
        match self.trim_back(at) {
            0 => 0,
            end => self.byte(end - 1),
        }
    }

    fn report(&mut self, confidence: u8, start: usize, end: usize) {
        if confidence > self.best.map_or(0, |best| best.confidence) {
            // Shown with a little of what follows.
            let end = self.text.len().min(end + 32);
            self.best = Some(Finding {
                confidence,
                start,
                end,
            });
        }
    }

    /// The same for a call or a member that no markup stands around. A program that somebody shows is full of them and
    /// breaks out of nothing, as does what a sentence has between back-ticks.
    fn report_code(&mut self, confidence: u8, start: usize, end: usize) {
        if confidence > self.best.map_or(0, |best| best.confidence)
            && (self.tagged || !self.is_listing() && !self.is_inline(start, end))
        {
            self.report(confidence, start, end);
        }
    }

    /// Whether this stands between back-ticks in a sentence.
    fn is_inline(&self, start: usize, end: usize) -> bool {
        count(LOOK);
        let from = start.saturating_sub(LOOK);
        let before = self.text.get(from..start).unwrap_or(&[]);
        let open = before.iter().rposition(|byte| *byte == b'`');
        open.and_then(|open| markdown::code_in_sentence(self.text, from + open))
            .is_some_and(|close| close >= end)
    }

    /// Whether the text is a program by itself: several lines, of which the first begins as one does, and each closes
    /// the quotes that it opens. No string of a page goes on behind the end of its line, so what breaks out of one
    /// leaves a quote open; a template between back-ticks does go on, so there may be none but in fences of Markdown.
    fn is_listing(&mut self) -> bool {
        if let Some(known) = self.listing {
            return known;
        }
        count(self.text.len());
        let mut lines = 0;
        let closes_quotes = self.text.split(|byte| *byte == b'\n').all(|line| {
            let line = line.trim_ascii();
            lines += usize::from(line.len() > 1);
            let times = |wanted| line.iter().filter(|byte| **byte == wanted).count();
            let ticks = if line.starts_with(b"```") { 3 } else { 0 };
            times(b'"') % 2 == 0 && times(b'\'') % 2 == 0 && times(b'`') == ticks
        });
        let begins = match self.text.trim_ascii_start() {
            [b'`', b'`', b'`', ..] | [b'/', b'/' | b'*', ..] => true,
            [first, ..] => is_word(*first) || matches!(first, b'{' | b'[' | b'('),
            [] => false,
        };
        let interpolates = self.text.windows(2).any(|pair| pair == b"${");
        let known = begins && closes_quotes && !interpolates && lines >= LISTING_LINES;
        self.listing = Some(known);
        known
    }

    /// `<`: does a tag open, and which?
    fn open(&mut self, at: usize) {
        let closing = self.byte(at + 1) == b'/';
        let name_at = at + 1 + usize::from(closing);
        if self.byte(at + 1) == b'!' || self.byte(at + 1) == b'?' {
            self.tagged = true;
            let telling = [
                &b"<!--#"[..],
                b"<?import",
                b"<?xml:namespace",
                b"<?xml-stylesheet",
            ];
            if telling.iter().any(|head| starts_with(self.ahead(at), head)) {
                self.report(MEDIUM, at, at + 5);
            }
            return;
        }
        let ahead = self.ahead(name_at);
        let length = ahead
            .iter()
            .position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_')))
            .unwrap_or(ahead.len());
        let full = ahead.get(..length).unwrap_or(&[]);
        if !full.first().is_some_and(u8::is_ascii_alphabetic) {
            return;
        }
        let name = full.rsplit(|b| *b == b':').next().unwrap_or(full);
        let delimiter = ahead.get(length).copied();
        let previous = if at > 0 { self.byte(at - 1) } else { 0 };
        let generic = is_word(previous);
        let parted = delimiter.is_some_and(|b| is_blank(b) || b == b'/');
        let ended = parted || matches!(delimiter, Some(b'>'));
        // `"><img`: the tag that the page opened is closed from inside of an attribute.
        let broken = !self.tagged
            && match self.before(at) {
                b'>' => self.quote.is_some(),
                quote @ (b'"' | b'\'') => {
                    ended && self.before(at - 1) != b'=' && !self.is_quoted(at, quote)
                }
                _ => false,
            };
        let end = name_at + length;
        let raw = words::RAW
            .iter()
            .position(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        let confidence = if name.eq_ignore_ascii_case(b"script") && (!generic || ended) {
            if closing && self.raw != 0
                || self.is_talked_about(at, end)
                || self.is_in_words(end)
                || self.is_ticked(at, end)
            {
                LOW
            } else {
                HIGH
            }
        } else if closing {
            match raw {
                Some(bit) if self.raw & (1 << bit) == 0 => MEDIUM,
                _ => step_if(holds(words::PLAIN, name) && ended && !generic, LOW),
            }
        } else if holds(words::ACTIVE, name)
            && parted
            && self.has_attribute(end)
            && !(previous == b'`' && self.is_quoted(at, previous))
            || name.eq_ignore_ascii_case(b"style")
                && ended
                && !generic
                && !self.is_in_words(end)
                && !self.is_quoted(at, previous)
            || broken && ended
        {
            MEDIUM
        } else {
            step_if(
                (holds(words::PLAIN, name) || holds(words::ACTIVE, name))
                    && ended
                    && (!generic || parted || name.len() > 1 && !is_type(name)),
                LOW,
            )
        };
        self.report(confidence, at, end);
        // `x<y>z` and `List<String>` open nothing; `<x onclick=…` does.
        if !closing {
            if let Some(bit) = raw {
                self.raw |= 1 << bit;
            }
            self.tag = Some(at);
            self.quoted = 0;
        }
        self.tagged |= !closing || raw.is_some();
    }

    /// `how does <script> work`: a tag without attributes in a sentence that has nothing but words before it and behind it.
    fn is_talked_about(&self, at: usize, end: usize) -> bool {
        let before = self.text.get(..at).unwrap_or(&[]);
        // In a path the sentence is its last part.
        let before = before.rsplit(|b| *b == b'/').next().unwrap_or(before);
        let after = self.text.get(end..).unwrap_or(&[]);
        let behind = after.strip_prefix(b">").unwrap_or(after);
        count(before.len().min(LOOK) + behind.len().min(LOOK));
        let said = |words: &[u8]| words.len() < LOOK && words.iter().all(is_said);
        behind.len() < after.len()
            && said(before)
            && said(behind)
            && (before.ends_with(b" ") || before.is_empty())
            && (behind.starts_with(b" ") || behind.is_empty())
            && before.len() + behind.len() > 1
    }

    /// `<script> tag is`: behind a tag without attributes follow two words that begin no script and no style sheet.
    fn is_in_words(&self, end: usize) -> bool {
        let Some(text) = self.ahead(end).strip_prefix(b"> ") else {
            return false;
        };
        let mut words = text.splitn(3, |byte| *byte == b' ');
        let (Some(first), Some(second), Some(_)) = (words.next(), words.next(), words.next())
        else {
            return false;
        };
        let is_name = |word: &[u8]| {
            !word.is_empty() && word.len() < 20 && word.iter().all(u8::is_ascii_alphabetic)
        };
        is_name(first)
            && is_name(second)
            && !holds(words::KEYWORDS, first)
            && !holds(words::KEYWORDS, second)
            && !text.iter().any(|byte| matches!(byte, b'{' | b'@'))
    }

    /// `` `<script>` ``: code in a sentence, which begins no script: that would have a string of its own between back-ticks.
    fn is_ticked(&self, at: usize, end: usize) -> bool {
        at > 0 && self.byte(at - 1) == b'`' && self.ahead(end).starts_with(b">`")
    }

    /// `"<a>"`: what stands before the tag at `at` is a quote or a back-tick, and comes again right behind a tag.
    fn is_quoted(&self, at: usize, quote: u8) -> bool {
        if !matches!(quote, b'"' | b'\'' | b'`') {
            return false;
        }
        let ahead = self.ahead(at);
        let end = ahead.iter().position(|byte| *byte == quote);
        end.and_then(|end| ahead.get(..end))
            .is_some_and(|markup| markup.ends_with(b">"))
    }

    /// Whether a `name=` follows within the tag.
    fn has_attribute(&self, at: usize) -> bool {
        self.ahead(at)
            .iter()
            .take_while(|b| **b != b'>')
            .any(|b| *b == b'=')
    }

    /// A quote: inside of a tag it delimits a value, outside it may leave a string.
    fn quote(&mut self, at: usize, quote: u8) {
        if self.tag.is_some() {
            if self.quoted == quote {
                self.quoted = 0;
            } else if self.quoted == 0 && self.before(at) == b'=' {
                self.quoted = quote;
            }
            return;
        }
        if self.quote.is_none() {
            self.quote = Some(at);
            self.leaves_string(at);
        }
    }

    /// `';f()//`, `'-f()-'`: behind the quote goes on code, and at its end it is made good.
    fn leaves_string(&mut self, at: usize) {
        let mut i = at + 1;
        while i - at < 16 && (is_blank(self.byte(i)) || matches!(self.byte(i), b')' | b'}' | b']'))
        {
            i += 1;
        }
        if !matches!(
            self.byte(i),
            b';' | b'+'
                | b'-'
                | b'*'
                | b'/'
                | b'|'
                | b'&'
                | b'^'
                | b'%'
                | b','
                | b'<'
                | b'>'
                | b'?'
        ) {
            return;
        }
        while i - at < 24
            && (is_blank(self.byte(i)) || is_operator(self.byte(i)) || self.byte(i) == b'(')
        {
            i += 1;
        }
        let word = self
            .ahead(i)
            .iter()
            .take_while(|b| is_word(**b) || **b == b'.')
            .count();
        if word == 0 || !matches!(self.byte(i + word), b'(' | b'`') {
            return;
        }
        let end = self.trim_back(self.text.len());
        let tail = self.text.get(end.saturating_sub(4)..end).unwrap_or(&[]);
        let commented = tail.ends_with(b"//") || tail.ends_with(b"/*") || tail.ends_with(b"<!--");
        let joined = matches!(tail, [.., operator, b'\'' | b'"'] if is_operator(*operator));
        let hanging = tail.last().is_some_and(|b| is_operator(*b));
        self.report(
            step_if(commented || joined || hanging, MEDIUM),
            at,
            i + word,
        );
    }

    /// `=`: the name before it, the value behind it.
    fn attribute(&mut self, at: usize) {
        let name_end = self.trim_back(at);
        let word = back_word(self.text, name_end);
        let start = name_end - word.len();
        let value_at = self.skip_blank(at + 1);
        let opened = matches!(self.byte(value_at), b'"' | b'\'' | b'`');
        let value = self.ahead(value_at + usize::from(opened));
        if self.tag.is_some() {
            self.junk_handler(name_end);
        }
        if word.is_empty() {
            return;
        }
        // `a<b&online=1` is a query.
        let parted = start == 0
            || !(is_word(self.byte(start - 1))
                || matches!(self.byte(start - 1), b'&' | b'?' | b'.' | b',' | b'-'));
        if starts_with(word, b"on") && word.len() >= 5 && parted {
            let known = is_event(word);
            let code = is_code(value);
            let quoted = start > 0 && matches!(self.before(start), b'"' | b'\'' | b'`' | b'/');
            let confidence = match (self.tag.is_some(), known) {
                (true, true) => HIGH,
                (true, false) => MEDIUM,
                (false, true) if code && (quoted && self.quote.is_some() || self.tagged) => HIGH,
                (false, true) if code => MEDIUM,
                (false, true) => step_if(quoted && self.quote.is_some() && opened, LOW),
                _ => 0,
            };
            self.report(confidence, start, value_at);
            return;
        }
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if self.tag.is_some() {
            let confidence = if is(b"srcdoc") {
                HIGH
            } else if is(b"style") {
                let odd = value.contains(&b'\\')
                    || value.windows(2).any(|w| w == b"/*")
                    || [&b"behavio"[..], b"expression", b"-moz-binding"]
                        .iter()
                        .any(|word| {
                            value
                                .windows(word.len())
                                .any(|w| w.eq_ignore_ascii_case(word))
                        });
                step_if(odd, MEDIUM)
            } else if is(b"equiv")
                || is(b"datafld")
                || is(b"formaction")
                || is(b"datasrc")
                || is(b"dynsrc")
            {
                MEDIUM
            } else if is(b"href") || is(b"src") || is(b"data") {
                // A script in a URL that no scheme tells: `data:,alert(1)`.
                step_if(
                    starts_with(value, b"data:,") || starts_with(value, b"data:;"),
                    HIGH,
                )
            } else {
                0
            };
            self.report(confidence, start, value_at);
        }
        let dotted = start > 0 && self.byte(start - 1) == b'.';
        if dotted
            && (is(b"location")
                || is(b"innerHTML")
                || is(b"outerHTML")
                || is(b"cookie")
                || is(b"href"))
            && self.byte(at + 1) != b'='
        {
            let root = back_word(self.text, start - 1);
            let confidence = step_if(
                holds(words::ROOTS, root) || is(b"innerHTML") || is(b"outerHTML"),
                MEDIUM,
            );
            self.report_code(confidence, start - 1 - root.len(), value_at);
        } else if is(b"location") && parted && !dotted {
            let code = opened && starts_with(value, b"javascript")
                || starts_with(value, b"name") && value.len() == 4
                || starts_with(value, b"location.");
            self.report_code(step_if(code, MEDIUM), start, value_at);
        }
        // `a=alert,a(1)`, `onerror=eval;throw…`
        let named = value.iter().take_while(|b| is_word(**b)).count();
        if !opened
            && holds(words::DIALOGS, value.get(..named).unwrap_or(&[]))
            && matches!(value.get(named), Some(b';' | b',' | b'}'))
        {
            let code = value.get(named..).is_some_and(is_code);
            self.report_code(step_if(code, MEDIUM), start, value_at + named);
        }
    }

    /// `onload!#$%&()*=`: old browsers skip what stands between the name and the sign.
    fn junk_handler(&mut self, end: usize) {
        let from = end.saturating_sub(LOOK / 2);
        let run = self.text.get(from..end).unwrap_or(&[]);
        let start = run
            .iter()
            .rposition(|b| is_blank(*b))
            .map_or(0, |blank| blank + 1);
        let run = run.get(start..).unwrap_or(&[]);
        let word = run.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let (name, junk) = run.split_at_checked(word).unwrap_or((run, &[]));
        let parted = junk.first().is_some_and(|b| !is_word(*b) && *b != b'-');
        self.report(step_if(parted && is_event(name), HIGH), from + start, end);
    }

    /// `:`: is there a scheme before it that runs what follows?
    fn scheme(&mut self, at: usize) {
        let rest_at = self.skip_blank(at + 1);
        let rest = self.ahead(rest_at);
        for (scheme, confidence) in [
            (&b"javascript"[..], HIGH),
            (b"vbscript", HIGH),
            (b"livescript", MEDIUM),
            (b"mocha", MEDIUM),
        ] {
            let Some(start) = self.back_over(at, scheme) else {
                continue;
            };
            let harmless = ["void(0)", "void 0", ";", "//"]
                .iter()
                .any(|end| rest.trim_ascii_end() == end.as_bytes());
            let code = rest.iter().any(|b| {
                matches!(
                    b,
                    b'(' | b'`' | b'=' | b'/' | b'[' | b'%' | b'\\' | b'{' | b'\'' | b'"' | b'&'
                )
            });
            let found = if rest.is_empty() {
                0
            } else if harmless || !code {
                step_if(rest_at == at + 1, LOW)
            } else {
                confidence
            };
            // Prose has a blank behind the colon, and words.
            let prose = rest_at > at + 1 && !self.tagged && self.quote.is_none();
            return self.report(if prose { found.min(LOW) } else { found }, start, rest_at);
        }
        if let Some(start) = self.back_over(at, b"data") {
            let script = [
                &b"text/html"[..],
                b"text/javascript",
                b"application/javascript",
                b"text/ecmascript",
                b"text/xml",
                b"application/xml",
                b"application/xhtml",
            ]
            .iter()
            .any(|kind| starts_with(rest, kind));
            let picture = starts_with(rest, b"image/svg");
            let confidence = if script {
                HIGH
            } else if picture {
                if self.tag.is_some() { MEDIUM } else { LOW }
            } else {
                0
            };
            self.report(confidence, start, rest_at);
        }
        let word = back_word(self.text, self.trim_back(at));
        if word.eq_ignore_ascii_case(b"binding") || word.eq_ignore_ascii_case(b"behavior") {
            self.report(
                step_if(starts_with(rest, b"url("), HIGH),
                at - word.len(),
                rest_at,
            );
        }
    }

    /// Where `word` begins if it ends at `end`, white space and controls inside ignored, and no
    /// letter stands before it.
    fn back_over(&self, end: usize, word: &[u8]) -> Option<usize> {
        let mut at = end;
        for letter in word.iter().rev() {
            loop {
                if at == 0 || end - at > LOOK {
                    return None;
                }
                at -= 1;
                if !is_blank(self.byte(at)) {
                    break;
                }
            }
            if self.byte(at).to_ascii_lowercase() != *letter {
                return None;
            }
        }
        (at == 0 || !is_word(self.byte(at - 1))).then_some(at)
    }

    /// `(` or a backtick: what is called?
    fn call(&mut self, at: usize) {
        let tick = self.byte(at) == b'`';
        let mut end = self.trim_back(at);
        let spaced = end < at;
        // `alert?.(1)`
        if end >= 2 && self.text.get(end - 2..end) == Some(b"?.") {
            end -= 2;
        }
        // `alert<x>(1)`: a filter that strips tags makes a call of it.
        if end > 0 && self.byte(end - 1) == b'>' {
            let tag = self.text.get(end.saturating_sub(8)..end).unwrap_or(&[]);
            end -= tag
                .iter()
                .rposition(|b| *b == b'<')
                .map_or(0, |open| tag.len() - open);
        }
        // `alert/**/(1)`
        let near = self
            .text
            .get(end.saturating_sub(LOOK / 2)..end)
            .unwrap_or(&[]);
        if near.ends_with(b"*/")
            && let Some(open) = near.windows(2).rposition(|w| w == b"/*")
        {
            end -= near.len() - open;
        }
        let word = back_word(self.text, end);
        let start = end - word.len();
        let inside = self.ahead(at + 1);
        let name = inside.iter().take_while(|b| is_word(**b)).count();
        let argument = inside.get(..name).unwrap_or(&[]);
        if holds(words::DIALOGS, argument) && !tick {
            // `.map(alert)`, `(alert)(1)`
            let then = inside.get(name + 1).copied().unwrap_or(0);
            let closed = inside.get(name) == Some(&b')');
            if closed && (!word.is_empty() && !spaced || matches!(then, b'(' | b'`')) {
                self.report_code(MEDIUM, start, at + name);
            }
        }
        if word.is_empty() {
            return;
        }
        let dialog = holds(words::DIALOGS, word);
        let empty = inside.first() == Some(&b')');
        let last = self.before(start);
        let dotted = last == b'.';
        // In code an operator, a bracket or a quote stands before a call; in prose a word does.
        let in_code = last != 0
            && !is_word(last)
            && !matches!(last, b'.' | b',' | b'?' | b'!' | b'-' if start > 0 && is_blank(self.byte(start - 1)));
        if dialog {
            let confidence = if spaced && (tick || !in_code) {
                0
            } else if in_code
                && (self.quote.is_some()
                    || self.tagged
                    || matches!(last, b'{' | b';' | b'=' | b'.'))
            {
                if empty && dotted { MEDIUM } else { HIGH }
            } else if empty {
                // `alert() not working`
                let behind = inside.get(1..).unwrap_or(&[]);
                let said = behind.first() == Some(&b' ') && behind.iter().all(is_said);
                if last == 0 && !said { MEDIUM } else { LOW }
            } else {
                MEDIUM
            };
            return self.report_code(confidence, start, at);
        }
        if spaced {
            return;
        }
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        let object = if dotted {
            back_word(self.text, start - 1)
        } else {
            &[][..]
        };
        if is(b"call") || is(b"apply") || is(b"bind") {
            let known = holds(words::DIALOGS, object) || holds(words::SINKS, object);
            self.report_code(
                step_if(known || holds(words::DIALOGS, argument), MEDIUM),
                start,
                at,
            );
        } else if is(b"constructor") {
            let twice = object.eq_ignore_ascii_case(b"constructor");
            self.report_code(
                if twice { HIGH } else { step_if(dotted, MEDIUM) },
                start,
                at,
            );
        } else if is(b"expression") {
            self.report_code(step_if(last == b':' || last == b'/', HIGH), start, at);
        } else if is(b"write") || is(b"writeln") {
            self.report_code(
                step_if(object.eq_ignore_ascii_case(b"document"), HIGH),
                start,
                at,
            );
        } else if is(b"eval")
            || is(b"execscript")
            || is(b"fromcharcode")
            || is(b"xmlhttprequest")
            || is(b"msgbox")
        {
            self.report_code(if empty { LOW } else { MEDIUM }, start, at);
        } else if holds(words::SINKS, word) && !tick {
            let literal = matches!(inside.first(), Some(b'\'' | b'"' | b'`' | b'/'));
            let code = in_code && (self.quote.is_some() || self.tagged);
            self.report_code(step_if(literal || code && !empty, MEDIUM), start, at);
        }
    }

    /// `document.cookie` and the like, in code.
    fn member(&mut self, at: usize) {
        let root = back_word(self.text, at);
        if !holds(words::ROOTS, root) {
            return;
        }
        let start = at - root.len();
        let ahead = self.ahead(at + 1);
        let length = ahead.iter().take_while(|b| is_word(**b)).count();
        let member = ahead.get(..length).unwrap_or(&[]);
        if !holds(words::MEMBERS, member) {
            return;
        }
        let next = ahead.get(length).copied().unwrap_or(0);
        let last = if start > 0 { self.byte(start - 1) } else { 0 };
        let code = matches!(
            next,
            b'(' | b')' | b'=' | b';' | b'+' | b'[' | b'`' | b'}' | b','
        ) || next == b'.'
            && last != b'/'
            && !root.eq_ignore_ascii_case(b"content")
            // `window.location.href redirect`
            && !ahead.iter().all(|b| is_said(b) || *b == b'.')
            || matches!(last, b'(' | b'=' | b'+' | b'{' | b';' | b'\'' | b'"' | b',');
        let alone =
            member.eq_ignore_ascii_case(b"cookie") || member.eq_ignore_ascii_case(b"fromcharcode");
        self.report_code(
            if code { MEDIUM } else { step_if(alone, LOW) },
            start,
            at + 1 + length,
        );
    }

    /// `window['alert']`, `top[/al/.source+…`, `[]['constructor']`.
    fn computed(&mut self, at: usize) {
        let root = back_word(self.text, at);
        let rooted = holds(words::ROOTS, root);
        if !rooted && !matches!(self.before(at), b')' | b']' | b'"' | b'\'' | b'}' | b'.') {
            return;
        }
        let ahead = self.ahead(at + 1);
        let called = || ahead.windows(2).any(|w| matches!(w, b"](" | b"]`" | b"]="));
        let confidence = if matches!(ahead.first(), Some(b'\'' | b'"' | b'`')) {
            let name = ahead.get(1..).unwrap_or(&[]);
            let length = name.iter().take_while(|b| is_word(**b)).count();
            let name = name.get(..length).unwrap_or(&[]);
            let telling = name.eq_ignore_ascii_case(b"constructor")
                || holds(words::DIALOGS, name)
                || holds(words::SINKS, name);
            if telling {
                if called() { HIGH } else { MEDIUM }
            } else {
                step_if(rooted && (holds(words::MEMBERS, name) || called()), MEDIUM)
            }
        } else {
            // `top[/al/.source+…](1)`, `top[8680439..toString(30)](1)`
            let digits = ahead.iter().take_while(|b| b.is_ascii_digit()).count();
            let built = ahead
                .get(digits..)
                .is_some_and(|rest| rest.starts_with(b".."))
                || matches!(ahead.first(), Some(b'/' | b'+' | b'!' | b'(' | b'['));
            step_if(rooted && built && called(), MEDIUM)
        };
        self.report_code(confidence, at - root.len(), at + 1);
    }

    /// `+ADw-script+AD4-`: `<script>` in UTF-7. The plus may have become a space.
    fn utf7(&mut self, at: usize) {
        let ahead = self.ahead(at + 1);
        if back_word(self.text, at).ends_with(b"ADw")
            && ahead
                .first()
                .is_some_and(|b| b.is_ascii_alphabetic() || *b == b'/')
            && ahead.iter().any(|b| matches!(b, b'(' | b'='))
        {
            self.report(MEDIUM, at - 3, at);
        }
    }

    /// Script out of `[]()!+` alone, or built up from `~[]`.
    fn symbols(&mut self, at: usize, byte: u8) {
        self.symbols = match byte {
            b'[' | b']' | b'(' | b')' | b'!' | b'+' | b'{' | b'}' => self.symbols + 1,
            b' ' => self.symbols,
            _ => 0,
        };
        if self.symbols >= SYMBOLS {
            let run = self.text.get(at + 1 - SYMBOLS..=at).unwrap_or(&[]);
            let has = |pair: &[u8]| run.windows(2).any(|w| w == pair);
            self.report(
                step_if(has(b"[]") && (has(b"![") || has(b"+[") || has(b"+!")), HIGH),
                at + 1 - SYMBOLS,
                at + 1,
            );
            self.symbols = 0;
        }
        if byte == b'~' && self.ahead(at).starts_with(b"~[];") {
            self.report(HIGH, at, at + 3);
        }
    }
}

/// Lines of the shortest listing, without empty ones and lone brackets.
const LISTING_LINES: usize = 3;

/// So many symbols in a row are no punctuation.
const SYMBOLS: usize = 24;

/// Counts what is looked at, so that a test can hold the cost against the length.
#[inline]
fn count(_looks: usize) {
    #[cfg(test)]
    tests::LOOKS.with(|looks| looks.set(looks.get() + _looks));
}

/// `confidence` if `found`, else nothing.
fn step_if(found: bool, confidence: u8) -> u8 {
    if found { confidence } else { 0 }
}

/// What words of prose are made of.
fn is_said(b: &u8) -> bool {
    b.is_ascii_alphabetic() || matches!(b, b' ' | b'?' | b'!' | b'-') || *b >= 0x80
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'$'
}

/// White space and controls, which browsers skip in most places.
fn is_blank(b: u8) -> bool {
    b <= b' ' || b == 0x7f
}

fn is_operator(b: u8) -> bool {
    matches!(
        b,
        b';' | b'+'
            | b'-'
            | b'*'
            | b'/'
            | b'|'
            | b'&'
            | b'^'
            | b'%'
            | b','
            | b'<'
            | b'>'
            | b'?'
            | b':'
            | b'='
            | b'!'
            | b'~'
    )
}

/// The word that ends at `end`, at most [`LOOK`] bytes of it.
fn back_word(text: &[u8], end: usize) -> &[u8] {
    count(LOOK);
    let window = text.get(end.saturating_sub(LOOK)..end).unwrap_or(&[]);
    let start = window
        .iter()
        .rposition(|b| !is_word(*b))
        .map_or(0, |at| at + 1);
    window.get(start..).unwrap_or(&[])
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

/// A name in the style of a type, as in `List<Link>`.
fn is_type(name: &[u8]) -> bool {
    matches!(name, [first, rest @ ..] if first.is_ascii_uppercase() && rest.iter().any(u8::is_ascii_lowercase))
}

/// A name that begins with `on`, as a handler's does.
fn is_handler(word: &[u8]) -> bool {
    word.len() >= 5 && starts_with(word, b"on")
}

/// A handler of an event that browsers have.
fn is_event(word: &[u8]) -> bool {
    is_handler(word) && {
        let event = word.get(2..).unwrap_or(&[]);
        words::EVENTS
            .iter()
            .any(|known| starts_with(event, known.as_bytes()))
    }
}

/// Whether an attribute's value reads like script. What stands behind a `&` is another parameter.
fn is_code(value: &[u8]) -> bool {
    let value = value.split(|b| *b == b'&').next().unwrap_or(value);
    let word = value.iter().take_while(|b| is_word(**b)).count();
    value.iter().any(|b| matches!(b, b'(' | b'`' | b'='))
        || starts_with(value, b"javascript:")
        || holds(words::DIALOGS, value.get(..word).unwrap_or(&[]))
}
