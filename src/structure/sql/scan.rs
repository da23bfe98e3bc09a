//! The view of a value as tokens: a window that slides over them, what the rules can ask about it,
//! and where in a query the current token stands.

use super::count;
use super::lex::{Kind, Lexer, Token};
use super::words::Word;

/// Tokens that are in view at once. A power of two, so that the ring needs no division.
pub(super) const WINDOW: usize = 32;

/// Where in the query the current token stands, as far as the value alone can tell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Right behind the quote that closes the query's string.
    Break,
    /// Where a number would stand: only constants and parentheses came before.
    Start,
    /// After words or operators.
    Middle,
}

/// A `select` whose list is still being read.
#[derive(Clone, Copy, Default)]
pub(super) struct List {
    pub open: bool,
    /// A comma, a star or a call: more than `select name from …`.
    pub rich: bool,
    /// The last token ended an item, so another name right after it is prose.
    pub item: bool,
}

/// What an operand of a comparison is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    None,
    Constant,
    /// A string that the value leaves open.
    OpenText,
    Name,
    /// A call of something unknown.
    Call,
    /// A call of a function that SQL has.
    Function,
    /// A call of a function that only attacks use.
    Danger,
    /// `(select …`.
    Query,
}

impl Operand {
    /// Nobody writes such an operand who does not write SQL.
    pub fn is_fixed(self) -> bool {
        !matches!(self, Operand::None | Operand::Name | Operand::Call)
    }
}

/// How telling a comparison is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// No comparison.
    None,
    /// `a = b`.
    Weak,
    /// `a = 1`, `a = a`, `f(x) = 1`.
    Fair,
    /// Both sides are constants, functions of SQL or queries.
    Strong,
}

pub(super) struct Scan<'a> {
    pub value: &'a [u8],
    lexer: Lexer<'a>,
    ring: [Token; WINDOW],
    head: usize,
    /// The token before the current one.
    pub last: Option<Token>,
    pub place: Place,
    pub list: List,
    /// A comparison came before: the value may be a filter of its own language.
    pub compared: bool,
    /// Behind the quote a parenthesis or a list was closed.
    pub closed: bool,
    /// Where evidence begins if it is found right behind the quote.
    pub quote: Option<usize>,
}

impl<'a> Scan<'a> {
    /// The value as it stands.
    pub fn whole(value: &'a [u8]) -> Self {
        Self::new(value, Lexer::new(value, 0), Place::Start)
    }

    /// What stands behind the quote at `quote`.
    pub fn behind(value: &'a [u8], quote: usize) -> Self {
        let mut scan = Self::new(value, Lexer::new(value, quote + 1), Place::Break);
        scan.quote = Some(quote);
        scan
    }

    /// The contents of the strings of a JSON text, of which the first begins at `at`.
    pub fn strings(value: &'a [u8], at: usize, quote: u8) -> Self {
        Self::new(value, Lexer::between(value, at, quote), Place::Start)
    }

    fn new(value: &'a [u8], mut lexer: Lexer<'a>, place: Place) -> Self {
        let ring = std::array::from_fn(|_| lexer.next_token());
        Scan {
            value,
            lexer,
            ring,
            head: 0,
            last: None,
            place,
            list: List::default(),
            compared: false,
            closed: false,
            quote: None,
        }
    }

    pub fn token(&self, i: usize) -> Token {
        count(1);
        self.ring[(self.head + i.min(WINDOW - 1)) % WINDOW]
    }

    /// The kind of the token `i` ahead. What lies outside of the window is nothing to build on.
    pub fn kind(&self, i: usize) -> Kind {
        if i < WINDOW {
            self.token(i).kind
        } else {
            Kind::Other
        }
    }

    pub fn is(&self, i: usize, word: Word) -> bool {
        self.kind(i) == Kind::Word(word)
    }

    pub fn text(&self, i: usize) -> &'a [u8] {
        let token = self.token(i);
        self.value.get(token.start..token.end).unwrap_or(&[])
    }

    /// Goes on to the next token, and keeps track of where in a query that is.
    pub fn step(&mut self) {
        let token = self.token(0);
        self.place = match (self.place, token.kind) {
            (place, Kind::RParen | Kind::Comment) => place,
            // Between the number and its query's continuation: `-1 or …`, `1) or …`, `.. id=1 or`.
            (Place::Start, Kind::Number | Kind::LParen | Kind::Operator | Kind::Text) => {
                Place::Start
            }
            (_, Kind::Compare) if self.quote.is_none() && !token.spaced && self.text(0) == b"=" => {
                Place::Start
            }
            // The next string of a JSON text begins.
            (_, Kind::Other) if matches!(self.text(0).first(), Some(b'"' | b'\'')) => Place::Start,
            (Place::Break, Kind::Operator) if self.text(0) == b"%" => Place::Break,
            _ => Place::Middle,
        };
        self.compared |= token.kind == Kind::Compare;
        self.closed |= self.breaks() && matches!(token.kind, Kind::RParen | Kind::Comma);
        let called = self.kind(1) == Kind::LParen;
        self.list = match token.kind {
            Kind::Word(Word::Select) => List {
                open: true,
                ..List::default()
            },
            Kind::Name | Kind::Number | Kind::Text | Kind::Variable if self.list.open => List {
                open: !self.list.item,
                item: true,
                ..self.list
            },
            Kind::Comma | Kind::Star => List {
                item: token.kind == Kind::Star,
                rich: true,
                ..self.list
            },
            Kind::LParen => List {
                item: false,
                rich: true,
                ..self.list
            },
            Kind::RParen => List {
                item: true,
                ..self.list
            },
            Kind::Dot | Kind::Operator | Kind::OrOr | Kind::Word(Word::As | Word::Distinct) => {
                List {
                    item: false,
                    ..self.list
                }
            }
            Kind::Word(
                Word::Function | Word::Object | Word::Statement | Word::Char | Word::Order,
            ) if self.list.open && !called => List {
                open: !self.list.item,
                item: true,
                ..self.list
            },
            Kind::Word(Word::From) => List {
                open: false,
                ..self.list
            },
            Kind::Word(_) => List {
                rich: true,
                item: false,
                ..self.list
            },
            _ => List {
                open: false,
                ..self.list
            },
        };
        self.last = Some(token);
        self.ring[self.head] = self.lexer.next_token();
        self.head = (self.head + 1) % WINDOW;
    }
}

/// What the rules ask about the tokens ahead.
impl Scan<'_> {
    pub fn breaks(&self) -> bool {
        self.place == Place::Break
    }

    /// The query or the part of it in hand may end at token `i`.
    pub fn ends(&self, i: usize) -> bool {
        matches!(
            self.kind(i),
            Kind::End | Kind::Comment | Kind::RParen | Kind::Semicolon
        )
    }

    /// A call begins at `i`: a word and a parenthesis right behind it.
    pub fn calls(&self, i: usize) -> bool {
        self.kind(i + 1) == Kind::LParen && !self.token(i + 1).spaced
    }

    /// Past the parenthesis that closes the one at `i`; far away if that is out of view.
    pub fn past_parens(&self, i: usize) -> usize {
        let mut depth = 0usize;
        for at in i..WINDOW {
            match self.kind(at) {
                Kind::LParen => depth += 1,
                Kind::RParen => depth = depth.saturating_sub(1),
                Kind::End => return at,
                _ => {}
            }
            if depth == 0 {
                return at + 1;
            }
        }
        WINDOW
    }

    /// Past a name and its dotted parts.
    pub fn past_name(&self, mut i: usize) -> usize {
        i += 1;
        while self.kind(i) == Kind::Dot {
            i += 1;
            if matches!(self.kind(i), Kind::Name | Kind::Word(_) | Kind::Star) {
                i += 1;
            }
        }
        i
    }

    /// One operand without operators behind it.
    pub fn atom(&self, mut i: usize) -> (Operand, usize) {
        let mut inside = false;
        loop {
            match self.kind(i) {
                Kind::LParen => inside = true,
                Kind::Operator | Kind::Word(Word::Not | Word::Distinct) => {}
                _ => break,
            }
            i += 1;
        }
        let call = |operand| {
            if self.kind(i + 1) == Kind::LParen {
                (operand, self.past_parens(i + 1))
            } else {
                (Operand::Name, self.past_name(i))
            }
        };
        match self.kind(i) {
            // `@id` alone is an attribute in other languages.
            Kind::Variable if self.text(i).get(1) != Some(&b'@') => (Operand::Name, i + 1),
            Kind::Number | Kind::Variable | Kind::Word(Word::Literal) => (Operand::Constant, i + 1),
            Kind::Text => {
                let mut past = i + 1;
                while self.kind(past) == Kind::Text {
                    past += 1;
                }
                (Operand::Constant, past)
            }
            Kind::Open => (Operand::OpenText, i + 1),
            Kind::Word(Word::Select | Word::Union) if inside => (Operand::Query, WINDOW),
            Kind::Word(Word::Exists) if self.kind(i + 1) == Kind::LParen => {
                (Operand::Query, WINDOW)
            }
            // No look into its condition: that would look for operands again, without end.
            Kind::Word(Word::Case) if self.is(i + 1, Word::When) || inside => {
                (Operand::Query, WINDOW)
            }
            Kind::Word(Word::Danger) => call(Operand::Danger),
            Kind::Word(Word::Sleep) if self.sleeps(i) => (Operand::Danger, self.past_parens(i + 1)),
            Kind::Word(Word::Schema) => (Operand::Danger, self.past_call(i)),
            Kind::Word(Word::Function | Word::Char | Word::If | Word::Object | Word::Insert) => {
                call(Operand::Function)
            }
            // `like('a','b')`, but not `or similar (not …)`.
            Kind::Word(Word::Like) if self.calls(i) => call(Operand::Function),
            Kind::Name | Kind::Word(Word::Sleep) => {
                let past = self.past_name(i);
                if self.kind(past) == Kind::LParen && !self.token(past).spaced {
                    (Operand::Call, self.past_parens(past))
                } else {
                    (Operand::Name, past)
                }
            }
            Kind::Word(
                Word::Statement
                | Word::Boolean
                | Word::Delay
                | Word::Begin
                | Word::Call
                | Word::Limit
                | Word::Top
                | Word::Values
                | Word::Analyse
                | Word::Order
                | Word::Set,
            ) => (Operand::Name, self.past_name(i)),
            _ => (Operand::None, i),
        }
    }

    /// Past a dotted name and the call of it, if it is one.
    pub fn past_call(&self, i: usize) -> usize {
        let past = self.past_name(i);
        if self.kind(past) == Kind::LParen {
            self.past_parens(past)
        } else {
            past
        }
    }

    pub fn skip_closing(&self, mut i: usize) -> usize {
        while self.kind(i) == Kind::RParen {
            i += 1;
        }
        i
    }

    /// An operand with the arithmetic and concatenation behind it.
    pub fn operand(&self, i: usize) -> (Operand, usize) {
        let (operand, mut past) = self.atom(i);
        if operand == Operand::None {
            return (operand, i);
        }
        past = self.skip_closing(past);
        while matches!(
            self.kind(past),
            Kind::Operator | Kind::Star | Kind::OrOr | Kind::Word(Word::Arithmetic)
        ) {
            let (next, after) = self.atom(past + 1);
            if next == Operand::None {
                break;
            }
            past = self.skip_closing(after);
        }
        (operand, past)
    }

    /// The operator of a comparison at `i`: past it, and whether it needs no right side.
    pub fn comparator(&self, mut i: usize) -> Option<(usize, bool)> {
        if self.is(i, Word::Not) {
            i += 1;
        }
        match self.kind(i) {
            Kind::Compare => Some((i + 1, false)),
            Kind::Word(Word::Like) => {
                let to = usize::from(
                    self.kind(i + 1) == Kind::Name && self.text(i + 1).eq_ignore_ascii_case(b"to"),
                );
                Some((i + 1 + to, false))
            }
            Kind::Word(Word::Between) => Some((i + 1, false)),
            Kind::Word(Word::In) if self.kind(i + 1) == Kind::LParen => Some((i + 2, false)),
            Kind::Word(Word::Is) => {
                let i = i + usize::from(self.is(i + 1, Word::Not));
                (self.is(i + 1, Word::Literal)).then_some((i + 2, true))
            }
            _ => None,
        }
    }

    /// The comparison that begins at `i`, and where it ends.
    pub fn comparison(&self, i: usize) -> (Weight, usize) {
        let (left, past) = self.operand(i);
        if left == Operand::None {
            return (Weight::None, i);
        }
        let Some((past, alone)) = self.comparator(past) else {
            return (Weight::None, i);
        };
        if alone {
            return (
                if left.is_fixed() {
                    Weight::Strong
                } else {
                    Weight::Fair
                },
                past,
            );
        }
        let (right, end) = self.operand(past);
        let weight = match (left, right) {
            (_, Operand::None) => Weight::None,
            (left, right) if left.is_fixed() && right.is_fixed() => Weight::Strong,
            (Operand::Name, Operand::Name)
                if !self.text(i).eq_ignore_ascii_case(self.text(past)) =>
            {
                Weight::Weak
            }
            _ => Weight::Fair,
        };
        (weight, end)
    }
}
