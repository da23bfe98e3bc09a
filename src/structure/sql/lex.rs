//! The SQL lexer: bytes to tokens, for every dialect at once.
//!
//! It never fails and never looks back: white space in all its forms and closed comments vanish
//! (they only leave `spaced` on the next token), the contents of MySQL's `/*!50000 … */` are read
//! as code, a string or comment that never ends takes the rest of the value. Each byte is read
//! once, apart from a bracketed name (`[name]`), which looks at most [`BRACKET`] bytes ahead.

use super::count;
use super::words::{Word, classify};

/// Longest `[name]` that is still a name.
const BRACKET: usize = 64;

/// Longest keyword that is recognised behind a plus.
const KEYWORD: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Past the last token; the lexer repeats it for ever.
    End,
    Number,
    /// A string that is closed.
    Text,
    /// A string that the value leaves open: the query's own quote closes it.
    Open,
    /// `@x`, `@@version`.
    Variable,
    /// A word that SQL does not reserve, or a quoted name.
    Name,
    Word(Word),
    /// `=`, `<>`, `<=>` and their like.
    Compare,
    /// `&&`.
    AndAnd,
    /// `||`: a disjunction in MySQL, a concatenation elsewhere.
    OrOr,
    Star,
    /// Any other operator: `+ - / % ^ | & ~ !`.
    Operator,
    LParen,
    RParen,
    Comma,
    Semicolon,
    Dot,
    /// A comment that swallows the rest of the query.
    Comment,
    /// A byte that SQL has no use for.
    Other,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
    /// White space or a comment stands before it.
    pub spaced: bool,
    /// It is the first in a comment that only MySQL executes: `/*!50000 …`.
    pub versioned: bool,
}

pub(super) struct Lexer<'a> {
    value: &'a [u8],
    at: usize,
    /// The kind last returned, to tell what a byte means by what precedes it.
    last: Kind,
    /// The quote between whose pairs the text to read stands (JSON), or 0.
    between: u8,
    /// Offset behind the `/*!50000` last seen.
    versioned: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer of what stands from `at` on.
    pub fn new(value: &'a [u8], at: usize) -> Self {
        Self::between(value, at, 0)
    }

    /// A lexer that begins inside of the quotes `between` and takes what stands outside of them,
    /// such as the `":"` of `{"a":"b"}`, for one byte without meaning.
    pub fn between(value: &'a [u8], at: usize, between: u8) -> Self {
        Lexer {
            value,
            at,
            last: Kind::End,
            between,
            versioned: usize::MAX,
        }
    }

    fn byte(&self, at: usize) -> u8 {
        count(1);
        self.value.get(at).copied().unwrap_or(0)
    }

    fn rest(&self, at: usize) -> &'a [u8] {
        self.value.get(at..).unwrap_or(&[])
    }

    /// Offset past the first `byte` at or after `at`.
    fn past(&self, byte: u8, at: usize) -> Option<usize> {
        let found = memchr::memchr(byte, self.rest(at));
        count(found.unwrap_or(self.rest(at).len()));
        found.map(|n| at + n + 1)
    }

    /// Distance from `at` to the next `pair`.
    fn find(&self, at: usize, pair: &[u8]) -> Option<usize> {
        let found = memchr::memmem::find(self.rest(at), pair);
        count(found.unwrap_or(self.rest(at).len()));
        found
    }

    /// Skips white space and closed comments. A comment to the end of the value is no white space
    /// but a token: it is what cuts the rest of the query off.
    fn skip_blank(&mut self) -> Option<Token> {
        let n = self.value.len();
        while self.at < n {
            let start = self.at;
            let next = self.byte(start + 1);
            match self.byte(start) {
                // A NUL ends the statement where a C library reads it.
                0 if self.last == Kind::Semicolon => {
                    self.at = n;
                    return Some(comment(start, n));
                }
                0..=0x20 | 0x7f | 0xa0 => self.at += 1,
                0xc2 if next == 0xa0 => self.at += 2,
                0xe3 if next == 0x80 && self.byte(start + 2) == 0x80 => self.at += 3,
                b'/' if next == b'*' && self.byte(start + 2) == b'!' => {
                    self.at += 3;
                    while self.byte(self.at).is_ascii_digit() {
                        self.at += 1;
                    }
                    self.versioned = self.at;
                }
                b'/' if next == b'*' => match self.find(start + 2, b"*/") {
                    Some(length) => self.at = start + 2 + length + 2,
                    None => {
                        self.at = n;
                        return Some(comment(start, n));
                    }
                },
                // `union+select`: a plus that nobody decoded.
                b'+' if self.plus_parts(start) => self.at += 1,
                // The end of a versioned comment.
                b'*' if next == b'/' => self.at += 2,
                b'#' | b'-' if self.byte(start) == b'#' || next == b'-' => {
                    let line = self.past(b'\n', start).unwrap_or(n);
                    let goes_on = self.rest(line).iter().any(|b| !b.is_ascii_whitespace());
                    if !goes_on {
                        self.at = n;
                        return Some(comment(start, n));
                    }
                    self.at = line;
                }
                _ => break,
            }
        }
        None
    }

    /// A plus stands where a space was: behind a keyword, or before one that no operand follows.
    fn plus_parts(&self, at: usize) -> bool {
        let next = self.rest(at + 1);
        let next = next.get(..KEYWORD).unwrap_or(next);
        let length = next.iter().position(|b| !is_name(*b)).unwrap_or(next.len());
        match self.last {
            Kind::Word(_) => !next.is_empty(),
            _ => matches!(
                classify(next.get(..length).unwrap_or(&[])),
                Some(
                    Word::Union
                        | Word::Logic
                        | Word::Order
                        | Word::Having
                        | Word::Where
                        | Word::Into
                        | Word::Procedure
                )
            ),
        }
    }

    pub fn next_token(&mut self) -> Token {
        let before = self.at;
        if let Some(tail) = self.skip_blank() {
            self.last = tail.kind;
            return tail;
        }
        let start = self.at;
        let kind = if start < self.value.len() {
            self.scan(start)
        } else {
            Kind::End
        };
        self.last = kind;
        Token {
            kind,
            start,
            end: self.at,
            spaced: start > before,
            versioned: start == self.versioned,
        }
    }

    fn one(&mut self, kind: Kind) -> Kind {
        self.at += 1;
        kind
    }

    fn two(&mut self, kind: Kind) -> Kind {
        self.at += 2;
        kind
    }

    fn scan(&mut self, start: usize) -> Kind {
        let next = self.byte(start + 1);
        match self.byte(start) {
            b'\'' | b'"' => self.text(start),
            b'`' => match self.past(b'`', start + 1) {
                Some(end) => {
                    self.at = end;
                    Kind::Name
                }
                None => self.text(start),
            },
            b'[' => self.bracket(start),
            b'0'..=b'9' => self.number(start),
            b'.' if next.is_ascii_digit() && self.last != Kind::Name => self.number(start),
            b'.' => self.one(Kind::Dot),
            // `\N` is MySQL's NULL.
            b'\\' if next == b'N' => self.two(Kind::Number),
            // In an address or a versioned name it is no variable.
            b'@' if next.is_ascii_digit()
                || (next != b'@' && start > 0 && is_name(self.byte(start - 1))) =>
            {
                self.one(Kind::Other)
            }
            b'@' => {
                self.at += 1;
                while matches!(self.byte(self.at), b'@' | b'.' | b'`')
                    || is_name(self.byte(self.at))
                {
                    self.at += 1;
                }
                if self.at > start + 1 {
                    Kind::Variable
                } else {
                    Kind::Other
                }
            }
            b'$' if next == b'$' => match self.find(start + 2, b"$$") {
                Some(length) => {
                    self.at = start + 2 + length + 2;
                    Kind::Text
                }
                None => self.two(Kind::Other),
            },
            b'(' => self.one(Kind::LParen),
            b')' => self.one(Kind::RParen),
            b',' => self.one(Kind::Comma),
            b';' => self.one(Kind::Semicolon),
            b'*' => self.one(Kind::Star),
            b'&' if next == b'&' => self.two(Kind::AndAnd),
            b'|' if next == b'|' => self.two(Kind::OrOr),
            b'=' | b'<' | b'>' => {
                while matches!(self.byte(self.at), b'=' | b'<' | b'>') {
                    self.at += 1;
                }
                Kind::Compare
            }
            b'!' if next == b'=' => self.two(Kind::Compare),
            b':' if next == b'=' => self.two(Kind::Compare),
            // `x::int` is PostgreSQL's cast.
            b':' if next == b':' => self.two(Kind::Operator),
            b'+' | b'-' | b'/' | b'%' | b'^' | b'|' | b'&' | b'~' | b'!' => {
                self.one(Kind::Operator)
            }
            b if is_name(b) => self.word(start),
            _ => self.one(Kind::Other),
        }
    }

    /// A string from its quote to the quote that closes it; a doubled quote stays inside.
    fn text(&mut self, start: usize) -> Kind {
        let quote = self.byte(start);
        let mut at = start + 1;
        while let Some(end) = self.past(quote, at) {
            // `''='` at the start of a string is an empty string, not a quote in one.
            if self.byte(end) == quote && end > start + 2 {
                at = end + 1;
                continue;
            }
            self.at = end;
            return if quote == self.between {
                Kind::Other
            } else {
                Kind::Text
            };
        }
        self.at = self.value.len();
        if quote == self.between {
            Kind::Other
        } else {
            Kind::Open
        }
    }

    fn bracket(&mut self, start: usize) -> Kind {
        let window = self.rest(start + 1);
        let window = window.get(..BRACKET).unwrap_or(window);
        match window.iter().position(|b| !is_name(*b) && *b != b' ') {
            Some(length) if length > 0 && window.get(length) == Some(&b']') => {
                self.at = start + 1 + length + 1;
                Kind::Name
            }
            _ => self.one(Kind::Other),
        }
    }

    fn number(&mut self, start: usize) -> Kind {
        if self.byte(start) == b'0' && matches!(self.byte(start + 1), b'x' | b'X') {
            self.at = start + 2;
            while self.byte(self.at).is_ascii_hexdigit() {
                self.at += 1;
            }
            return Kind::Number;
        }
        while matches!(self.byte(self.at), b'0'..=b'9' | b'.') {
            self.at += 1;
        }
        if matches!(self.byte(self.at), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(self.at + 1), b'+' | b'-'));
            match self.byte(self.at + 1 + sign) {
                b'0'..=b'9' => {
                    self.at += 1 + sign;
                    while self.byte(self.at).is_ascii_digit() {
                        self.at += 1;
                    }
                }
                // `1.e(1)`: MySQL forgives an exponent without digits.
                b'(' | b'.' if self.byte(self.at - 1) == b'.' => self.at += 1,
                _ => {}
            }
        }
        Kind::Number
    }

    fn word(&mut self, start: usize) -> Kind {
        loop {
            let ascii = self.rest(self.at).iter();
            let ascii = ascii.take_while(|b| b.is_ascii_alphanumeric() || **b == b'_');
            self.at += ascii.count();
            match self.byte(self.at) {
                // A no-break space ends a word although its first byte may be part of one.
                0xc2 if self.byte(self.at + 1) == 0xa0 => break,
                0xc2.. => self.at += self.sequence(self.at),
                b if is_name(b) => self.at += 1,
                _ => break,
            }
        }
        count(self.at - start);
        let word = self.value.get(start..self.at).unwrap_or(&[]);
        // `n'…'`, `x'…'`, `_utf8'…'`: the word belongs to the string.
        if self.byte(self.at) == b'\''
            && (matches!(
                word,
                [b'n' | b'N' | b'x' | b'X' | b'b' | b'B' | b'e' | b'E']
            ) || word.first() == Some(&b'_'))
        {
            return self.text(self.at);
        }
        match classify(word) {
            Some(word) => Kind::Word(word),
            None => Kind::Name,
        }
    }

    /// Length of the UTF-8 sequence that a lead byte promises, as far as its continuation goes.
    fn sequence(&self, at: usize) -> usize {
        let promised = match self.byte(at) {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            _ => 4,
        };
        (1..promised)
            .find(|i| !matches!(self.byte(at + i), 0x80..=0xbf))
            .unwrap_or(promised)
    }
}

fn comment(start: usize, end: usize) -> Token {
    Token {
        kind: Kind::Comment,
        start,
        end,
        spaced: false,
        versioned: false,
    }
}

/// Bytes of a name. A lone 0xA0 is MySQL's white space, so it is none.
fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || (b >= 0x80 && b != 0xa0)
}
