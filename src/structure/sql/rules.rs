//! The rules: each looks ahead from one token and answers how sure we are that SQL begins there.

use super::lex::Kind;
use super::scan::{Operand, Place, Scan, WINDOW, Weight};
use super::words::Word;
use super::{Finding, HIGH, LOW, MEDIUM, Steps, starts_with};

/// Steps that a token costs, and one behind which a comparison may stand.
const TOKEN_STEPS: u32 = 32;
const LOGIC_STEPS: u32 = 96;

impl Scan<'_> {
    /// The surest construct in the value.
    pub fn run(mut self, steps: &Steps) -> Option<Finding> {
        let mut best: Option<Finding> = None;
        while self.kind(0) != Kind::End {
            let cost = match self.kind(0) {
                Kind::OrOr | Kind::AndAnd | Kind::Word(Word::Logic) => LOGIC_STEPS,
                _ => TOKEN_STEPS,
            };
            if !steps.take(cost) {
                break;
            }
            let confidence = self.judge();
            if confidence > best.map_or(0, |best| best.confidence) {
                let start = match (self.place, self.quote) {
                    (Place::Break, Some(quote)) => quote,
                    _ => self.token(0).start,
                };
                best = Some(Finding {
                    confidence,
                    start,
                    end: self.evidence_end(),
                });
                if confidence >= HIGH {
                    break;
                }
            }
            self.step();
        }
        best
    }

    /// The evidence is shown with a few tokens of what follows.
    pub fn evidence_end(&self) -> usize {
        (0..8)
            .map(|i| self.token(i))
            .take_while(|token| token.kind != Kind::End)
            .last()
            .map_or(self.value.len(), |token| token.end)
    }

    /// How sure we are that SQL begins at the current token; 0 for not at all.
    fn judge(&self) -> u8 {
        let found = match self.kind(0) {
            Kind::Word(word) => match word {
                Word::Logic => self.logic(1),
                Word::Union => self.union(),
                Word::Select => self.select(1, self.select_is_trusted()),
                Word::From => self.from(),
                Word::Where | Word::Having => self.condition(),
                Word::Order => self.order(),
                Word::Limit if self.breaks() => {
                    let past = if self.kind(2) == Kind::Comma { 4 } else { 2 };
                    step_if(self.kind(1) == Kind::Number && self.ends(past), MEDIUM)
                }
                Word::Into => step_if(
                    self.is(1, Word::Outfile)
                        && matches!(self.kind(2), Kind::Text | Kind::Open | Kind::Variable),
                    HIGH,
                ),
                Word::Procedure => step_if(
                    self.is(1, Word::Analyse) && self.kind(2) == Kind::LParen,
                    HIGH,
                ),
                Word::Waitfor => step_if(
                    self.is(1, Word::Delay)
                        && matches!(
                            self.kind(2),
                            Kind::Text | Kind::Open | Kind::Number | Kind::Variable | Kind::LParen
                        ),
                    HIGH,
                ),
                Word::Case => self.case(),
                Word::Like | Word::In | Word::Is | Word::Between | Word::Not => self.operator(),
                Word::Danger
                | Word::Sleep
                | Word::Char
                | Word::Schema
                | Word::If
                | Word::Function => self.call(),
                Word::Define
                | Word::Insert
                | Word::Update
                | Word::Delete
                | Word::Exec
                | Word::Declare
                | Word::Begin
                | Word::Call
                | Word::Set
                | Word::Statement => self.statement(0, self.breaks()),
                _ => 0,
            },
            Kind::OrOr | Kind::AndAnd => self.logic(1).max(self.operator()),
            Kind::Compare | Kind::Star | Kind::Operator | Kind::Dot => self.operator(),
            Kind::Semicolon => self.statement(1, true),
            Kind::Comma => self.values(),
            Kind::Comment => self.tail(),
            _ => 0,
        };
        // Only MySQL reads `/*!50000 union */` as code.
        if self.token(0).versioned && matches!(self.kind(0), Kind::Word(_)) {
            found.max(MEDIUM)
        } else {
            found
        }
    }

    /// `or`, `and`, `||`, `&&` came right before `i`.
    fn logic(&self, i: usize) -> u8 {
        let spelt = matches!(self.kind(0), Kind::Word(_));
        let (weight, past) = self.comparison(i);
        match weight {
            Weight::Strong if self.is_prose(past) => return LOW,
            Weight::Strong => return HIGH,
            Weight::Fair if self.breaks() => return HIGH,
            Weight::Fair if spelt && self.place == Place::Start && !self.compared => return MEDIUM,
            Weight::Fair if spelt && self.token(past.saturating_sub(1)).kind == Kind::Open => {
                return MEDIUM;
            }
            Weight::Fair if spelt && self.kind(past) == Kind::Comment => return MEDIUM,
            Weight::Weak if self.breaks() || self.kind(past) == Kind::Comment => return MEDIUM,
            Weight::Fair | Weight::Weak => {
                return step_if(self.place == Place::Start && spelt, LOW);
            }
            Weight::None => {}
        }
        let (operand, past) = self.operand(i);
        let ends = self.ends(past)
            || matches!(
                self.kind(past),
                Kind::Word(Word::Logic | Word::Order | Word::Limit | Word::Union | Word::Having)
                    | Kind::OrOr
                    | Kind::AndAnd
            );
        // `'or' and 'and'` are words in quotes; code has a comparison there or leaves room.
        let glued = !self.token(0).spaced && !self.token(i).spaced;
        let tail = matches!(self.kind(past), Kind::Comment | Kind::Semicolon);
        match (operand, self.place) {
            (Operand::Query | Operand::Danger, _) => HIGH,
            (Operand::Function, Place::Break) => HIGH,
            (Operand::Function, Place::Start) => MEDIUM,
            (Operand::Function, Place::Middle) => step_if(spelt, LOW),
            (Operand::Call, Place::Break) => MEDIUM,
            (Operand::Call, Place::Start) => step_if(spelt, LOW),
            (Operand::Constant, Place::Break) if tail => HIGH,
            (Operand::Constant, Place::Break) if glued && self.kind(i) == Kind::Text => 0,
            // `the kids' or 2`
            (Operand::Constant, Place::Break)
                if self.kind(i) == Kind::Number && self.kind(past) == Kind::End =>
            {
                LOW
            }
            (Operand::Constant, Place::Break) if ends => MEDIUM,
            // `' or '1'1`: the quoting is broken, the intent is not.
            (Operand::Constant, Place::Break) => step_if(
                self.kind(i) == Kind::Text && matches!(self.kind(past), Kind::Number | Kind::Open),
                MEDIUM,
            ),
            (Operand::Constant, Place::Start) if tail && spelt => MEDIUM,
            (Operand::Constant, Place::Start) => step_if(
                ends && spelt
                    && !self.compared
                    && self.is(i, Word::Literal)
                    && self.last.is_none_or(|last| last.kind == Kind::Number),
                MEDIUM,
            ),
            (Operand::OpenText, Place::Break)
                if glued && !self.text(i).get(1).is_some_and(u8::is_ascii_digit) =>
            {
                0
            }
            (Operand::OpenText, Place::Break) => {
                let text = self.text(past - 1).get(1..).unwrap_or(&[]).trim_ascii();
                // `'rock' or 'roll'`: a text of letters is never true.
                let words = text.len() > 2
                    && text
                        .iter()
                        .all(|b| b.is_ascii_alphabetic() || *b == b' ' || *b >= 0x80);
                step_if(!text.is_empty(), if words { LOW } else { MEDIUM })
            }
            (Operand::Name, Place::Break) => step_if(tail && spelt, MEDIUM),
            _ => 0,
        }
    }

    /// From `i` on there are words to the end, and the first is none of SQL's: what precedes is talked about, as in
    /// `why does or 1=1 work`. A query has no place for a name behind a condition.
    fn is_prose(&self, i: usize) -> bool {
        let named = self.kind(i) == Kind::Name
            && self.token(i).spaced
            && self.text(i).iter().all(u8::is_ascii_alphabetic)
            && !is_direction(self.text(i));
        named
            && (i + 1..WINDOW)
                .map(|at| self.kind(at))
                .find(|kind| !matches!(kind, Kind::Name | Kind::Word(_)))
                == Some(Kind::End)
    }

    fn union(&self) -> u8 {
        let mut i = 1;
        while matches!(self.kind(i), Kind::Word(Word::Distinct) | Kind::LParen) {
            i += 1;
        }
        if self.is(i, Word::Select) {
            // `"union select"` is a phrase in quotes.
            if self.is_empty_open(i + 1) {
                return step_if(self.token(0).spaced, MEDIUM);
            }
            return self.select(i + 1, true).max(step_if(
                self.ends(i + 1) && (self.breaks() || i > 1),
                MEDIUM,
            ));
        }
        // `union all selectchar(73)`: the list runs into the word.
        if self.kind(i) == Kind::Name && self.calls(i) && starts_with(self.text(i), b"select") {
            return HIGH;
        }
        // `union table users`
        let started = self.breaks() || self.last.is_some_and(|last| last.kind == Kind::Number);
        if started && self.is(i, Word::Object) && self.kind(i + 1) == Kind::Name && self.ends(i + 2)
        {
            return MEDIUM;
        }
        step_if(
            self.is(i, Word::Values) && self.kind(i + 1) == Kind::LParen,
            HIGH,
        )
    }

    /// A quote with nothing behind it.
    fn is_empty_open(&self, i: usize) -> bool {
        self.kind(i) == Kind::Open && self.text(i).len() == 1
    }

    fn select_is_trusted(&self) -> bool {
        self.breaks()
            || self.last.is_some_and(|last| {
                matches!(
                    last.kind,
                    Kind::LParen | Kind::Semicolon | Kind::Word(Word::Union | Word::Then)
                )
            })
    }

    /// The list of a `select` begins at `i`. `trusted` if what precedes is no prose either.
    fn select(&self, mut i: usize, trusted: bool) -> u8 {
        let mut nested = false;
        loop {
            match self.kind(i) {
                Kind::Word(Word::Distinct) => {}
                Kind::Word(Word::Top) if self.kind(i + 1) == Kind::Number => i += 1,
                Kind::LParen => nested = true,
                Kind::Operator => {}
                _ => break,
            }
            i += 1;
        }
        let after_union = self.is(0, Word::Union);
        let next = self.kind(i + 1);
        // `'select' or "select"`: the word is in quotes.
        let quoted = self.breaks() && !self.token(0).spaced && !self.token(i).spaced && !nested;
        match self.kind(i) {
            Kind::Star if self.is(i + 1, Word::From) => {
                let table = match self.kind(i + 2) {
                    Kind::LParen | Kind::Word(Word::Schema) => true,
                    Kind::Name | Kind::Word(_) => {
                        let past = self.past_name(i + 2);
                        !matches!(self.kind(past), Kind::Name)
                    }
                    _ => false,
                };
                step_if(table || trusted, HIGH)
            }
            Kind::Star => step_if(after_union || trusted && self.ends(i + 1), HIGH),
            Kind::Text | Kind::Open if quoted || self.is_empty_open(i) => 0,
            Kind::Number | Kind::Text | Kind::Open | Kind::Variable | Kind::Word(Word::Literal) => {
                match next {
                    Kind::Comma
                    | Kind::Word(
                        Word::From
                        | Word::Union
                        | Word::Where
                        | Word::Into
                        | Word::Then
                        | Word::Limit
                        | Word::Order
                        | Word::Having,
                    )
                    | Kind::OrOr
                    | Kind::Compare => HIGH,
                    Kind::Operator
                    | Kind::Star
                    | Kind::Comment
                    | Kind::Semicolon
                    | Kind::RParen => {
                        if trusted || nested {
                            HIGH
                        } else {
                            MEDIUM
                        }
                    }
                    Kind::End if trusted => HIGH,
                    Kind::End if self.text(i).starts_with(b"@@") => MEDIUM,
                    Kind::End => step_if(self.place == Place::Start, LOW),
                    _ => step_if(after_union, HIGH),
                }
            }
            Kind::Word(Word::Case) => self.case_at(i),
            Kind::Word(Word::Select) => step_if(nested, self.select(i + 1, true).max(MEDIUM)),
            Kind::Word(Word::Schema | Word::Danger) => HIGH,
            Kind::Word(
                Word::Sleep
                | Word::Char
                | Word::Function
                | Word::If
                | Word::Object
                | Word::Exists
                | Word::Insert,
            ) if next == Kind::LParen => HIGH,
            Kind::Name if self.calls(i) => {
                if trusted {
                    HIGH
                } else {
                    step_if(
                        matches!(
                            self.kind(i + 2),
                            Kind::Text | Kind::Number | Kind::Variable | Kind::RParen
                        ),
                        MEDIUM,
                    )
                }
            }
            Kind::Word(Word::Function) if matches!(next, Kind::Semicolon | Kind::Comment) => MEDIUM,
            Kind::Name | Kind::Word(Word::Function | Word::Object | Word::Statement) => {
                let past = self.past_name(i);
                let goes_on = matches!(
                    self.kind(past),
                    Kind::Comma
                        | Kind::Word(Word::From | Word::As | Word::Where)
                        | Kind::Comment
                        | Kind::RParen
                        | Kind::OrOr
                        | Kind::Operator
                        | Kind::Compare
                );
                if after_union && goes_on {
                    HIGH
                } else if after_union {
                    step_if(self.kind(past) == Kind::End, LOW)
                } else if self.breaks() && goes_on {
                    MEDIUM
                } else {
                    let then = self.is(past, Word::From)
                        && matches!(
                            self.kind(past + 1),
                            Kind::Name | Kind::Word(_) | Kind::LParen
                        );
                    step_if(trusted && then, MEDIUM)
                }
            }
            _ => 0,
        }
    }

    /// `from`, with the list of a `select` before it.
    fn from(&self) -> u8 {
        if self.list.open && self.kind(1) == Kind::LParen && self.is(2, Word::Select) {
            return HIGH;
        }
        let named = matches!(self.kind(1), Kind::Name | Kind::Word(_));
        if !(self.list.open && self.list.item && named) {
            return 0;
        }
        if self.is(1, Word::Schema) {
            return HIGH;
        }
        let mut past = self.past_name(1);
        if self.is(past, Word::As) {
            past += 2;
        }
        match self.kind(past) {
            Kind::Word(Word::Where | Word::Having) => {
                if self.comparison(past + 1).0 > Weight::None {
                    HIGH
                } else {
                    LOW
                }
            }
            Kind::Comment | Kind::Semicolon | Kind::RParen if self.list.rich => HIGH,
            Kind::Comment | Kind::Semicolon | Kind::RParen => MEDIUM,
            Kind::Word(Word::Limit | Word::Order | Word::Union | Word::Into) => MEDIUM,
            Kind::End => {
                if self.list.rich {
                    MEDIUM
                } else {
                    LOW
                }
            }
            _ => 0,
        }
    }

    /// `where`, `having`.
    fn condition(&self) -> u8 {
        match self.comparison(1) {
            (Weight::Strong, past) if self.is_prose(past) => LOW,
            (Weight::Strong, _) => HIGH,
            (Weight::Fair, _) if self.breaks() => HIGH,
            (Weight::Fair, past) if self.kind(past) == Kind::Comment => MEDIUM,
            (Weight::Weak, _) if self.breaks() => MEDIUM,
            _ => match self.operand(1).0 {
                Operand::Query | Operand::Danger => HIGH,
                Operand::Constant if self.breaks() => MEDIUM,
                _ => 0,
            },
        }
    }

    /// `order by`, `group by`.
    fn order(&self) -> u8 {
        if !self.is(1, Word::By) {
            return 0;
        }
        let (first, mut past) = self.operand(2);
        match first {
            Operand::Constant if self.kind(2) != Kind::Number => {
                return step_if(self.breaks(), MEDIUM);
            }
            Operand::Constant => {}
            Operand::Query | Operand::Danger => return HIGH,
            Operand::Function => return step_if(self.breaks(), MEDIUM),
            Operand::Name => {
                let condition =
                    self.is(past, Word::Having) && self.comparison(past + 1).0 == Weight::Strong;
                return if condition {
                    HIGH
                } else {
                    step_if(self.breaks() && self.ends(past), MEDIUM)
                };
            }
            _ => return 0,
        }
        while self.kind(past) == Kind::Comma && past < WINDOW {
            past += 1 + usize::from(self.kind(past + 1) == Kind::Number);
        }
        if self.kind(past) == Kind::Name && is_direction(self.text(past)) {
            past += 1;
        }
        match (self.kind(past), self.place) {
            (Kind::Comment, _) => HIGH,
            (
                Kind::End
                | Kind::RParen
                | Kind::Semicolon
                | Kind::Operator
                | Kind::Word(Word::Limit),
                Place::Break,
            ) => HIGH,
            (Kind::End | Kind::RParen | Kind::Semicolon, Place::Start) => MEDIUM,
            // A long list of columns leaves the view.
            (_, Place::Start) => step_if(past >= WINDOW - 2, HIGH),
            (Kind::End, Place::Middle) => LOW,
            _ => 0,
        }
    }

    fn case(&self) -> u8 {
        self.case_at(0)
    }

    /// `case when 1=1`, `case 1 when 1`.
    fn case_at(&self, i: usize) -> u8 {
        if self.is(i + 1, Word::When) {
            return match self.comparison(i + 2) {
                (Weight::Strong, _) => HIGH,
                (Weight::Fair, _) => MEDIUM,
                _ => step_if(
                    matches!(
                        self.operand(i + 2).0,
                        Operand::Query | Operand::Danger | Operand::Function
                    ),
                    HIGH,
                ),
            };
        }
        let (operand, past) = self.operand(i + 1);
        step_if(operand.is_fixed() && self.is(past, Word::When), HIGH)
    }

    /// `sleep(5)`, but not `time.sleep(5)`.
    pub fn sleeps(&self, i: usize) -> bool {
        self.kind(i + 1) == Kind::LParen
            && matches!(
                self.kind(i + 2),
                Kind::Number | Kind::Text | Kind::Variable | Kind::LParen | Kind::Operator
            )
            && self.kind(i + 3) != Kind::Name
    }

    /// Behind a call stand words, with a preposition before them or without: it is talked about.
    fn is_named_after(&self, past: usize) -> bool {
        let word = past
            + usize::from(matches!(
                self.kind(past),
                Kind::Word(Word::In | Word::Is | Word::Not)
            ));
        !self.breaks() && self.is_prose(word)
    }

    /// A function or package that tells on its own.
    fn call(&self) -> u8 {
        let called = self.kind(1) == Kind::LParen;
        let last = self.last.map(|last| last.kind);
        match self.kind(0) {
            Kind::Word(Word::Danger) if called => {
                let (argument, past) = self.atom(2);
                if self.kind(past) == Kind::Name {
                    0
                } else if argument.is_fixed() || argument == Operand::Call {
                    HIGH
                } else {
                    step_if(self.calls(0), MEDIUM)
                }
            }
            Kind::Word(Word::Danger) => match last {
                Some(Kind::Dot | Kind::Word(Word::Exec)) => HIGH,
                _ => step_if(
                    last.is_none() && matches!(self.kind(1), Kind::Text | Kind::Open),
                    HIGH,
                ),
            },
            Kind::Word(Word::Schema)
                if self.kind(1) == Kind::Dot
                    && matches!(self.kind(2), Kind::Name | Kind::Word(_)) =>
            {
                if self.kind(3) == Kind::LParen {
                    HIGH
                } else {
                    step_if(self.breaks(), MEDIUM)
                }
            }
            // `sleep(5) in python`
            Kind::Word(Word::Sleep) if self.is_named_after(self.past_parens(1)) => 0,
            Kind::Word(Word::Sleep) if self.sleeps(0) => match last {
                Some(Kind::Dot) => {
                    // `'.sleep(5).'`: the dot joins strings where it stands behind the quote.
                    0
                }
                Some(Kind::Name | Kind::Other | Kind::Number) => 0,
                None => {
                    if self.breaks() {
                        HIGH
                    } else {
                        MEDIUM
                    }
                }
                Some(_) => HIGH,
            },
            // `char(113)+char(106)`, `chr(113)||chr(106)`
            Kind::Word(Word::Char) if called => {
                let past = self.past_parens(1);
                let joined = matches!(self.kind(past), Kind::Operator | Kind::OrOr | Kind::Comma)
                    && self.is(past + 1, Word::Char);
                step_if(joined && self.kind(past + 2) == Kind::LParen, HIGH)
            }
            Kind::Word(Word::If) if called => match self.comparison(2) {
                (Weight::Strong, _) => HIGH,
                _ => step_if(
                    matches!(self.atom(2).0, Operand::Danger | Operand::Query),
                    HIGH,
                ),
            },
            Kind::Word(Word::If) => 0,
            Kind::Word(Word::Function) if called && self.comparison(2).0 == Weight::Strong => HIGH,
            // `convert(int,…)`, `cast(… as …)` and the rest only count behind a quote.
            _ => step_if(self.breaks() && self.calls(0), MEDIUM),
        }
    }

    /// An operator right behind the quote goes on with the query's expression.
    fn operator(&self) -> u8 {
        if !self.breaks() {
            return 0;
        }
        if self.is(0, Word::In) && self.is(1, Word::Boolean) {
            return HIGH;
        }
        if let Some((past, alone)) = self.comparator(0) {
            if alone {
                return MEDIUM;
            }
            let (operand, end) = self.operand(past);
            return match operand {
                Operand::Query | Operand::Danger => HIGH,
                Operand::Function => MEDIUM,
                Operand::Constant | Operand::OpenText => {
                    let logic = matches!(
                        self.kind(end),
                        Kind::Word(Word::Logic) | Kind::OrOr | Kind::AndAnd
                    );
                    step_if(self.ends(end) || logic, MEDIUM)
                }
                _ => 0,
            };
        }
        if matches!(self.kind(0), Kind::Word(_)) {
            return 0;
        }
        let (operand, past) = self.atom(1);
        let joined = matches!(
            self.kind(past),
            Kind::OrOr | Kind::Operator | Kind::Star | Kind::Dot
        ) && matches!(self.kind(past + 1), Kind::Text | Kind::Open);
        match operand {
            Operand::Query | Operand::Danger => HIGH,
            Operand::Function => MEDIUM,
            Operand::Call => step_if(joined, MEDIUM),
            // `'||'x`, `'-'`: a string joined with nothing else around.
            Operand::OpenText => step_if(
                self.kind(0) != Kind::Dot && self.value.len() <= SHORT,
                MEDIUM,
            ),
            // `'-0#`, `'^1-- -`: nothing is left of the query.
            Operand::Constant if self.kind(past) == Kind::Comment && self.value.len() <= SHORT => {
                MEDIUM
            }
            Operand::Constant => step_if(joined && self.kind(0) != Kind::Dot, MEDIUM),
            _ => 0,
        }
    }

    /// The string closed and the list around it goes on: `x','y')--`.
    fn values(&self) -> u8 {
        let mut past = 0;
        while self.breaks() && self.kind(past) == Kind::Comma {
            let (operand, after) = self.operand(past + 1);
            if !operand.is_fixed() {
                return 0;
            }
            past = after;
        }
        step_if(matches!(self.kind(past), Kind::Comment) && past > 0, HIGH)
    }

    /// A comment that cuts off what follows the value.
    fn tail(&self) -> u8 {
        let token = self.token(0);
        let text = self.text(0);
        let marker = match text.first() {
            Some(b'-' | b'/') => 2,
            _ => 1,
        };
        let body = text.get(marker..).unwrap_or(&[]);
        let bare = body.iter().all(|b| !b.is_ascii_alphanumeric());
        match self.place {
            Place::Break if bare && body.len() < SHORT => {
                if self.closed || text.first() == Some(&b'-') {
                    HIGH
                } else {
                    MEDIUM
                }
            }
            Place::Break if self.closed => MEDIUM,
            // `5' -- the other one` reads like this too.
            Place::Break => step_if(!token.spaced, LOW),
            _ => step_if(self.closed && bare && body.len() < SHORT, MEDIUM),
        }
    }

    /// A statement begins at `i`; `trusted` behind a semicolon or a closed quote.
    fn statement(&self, i: usize, trusted: bool) -> u8 {
        let Kind::Word(word) = self.kind(i) else {
            return 0;
        };
        match word {
            Word::Select => self.select(i + 1, true),
            Word::Waitfor | Word::Sleep | Word::Danger | Word::If | Word::Case => 0,
            Word::Define => {
                let mut at = i + 1;
                if self.is(at, Word::Logic) && self.is(at + 1, Word::Insert) {
                    at += 2;
                }
                if !matches!(
                    self.kind(at),
                    Kind::Word(Word::Object | Word::Procedure | Word::Function)
                ) {
                    return 0;
                }
                if self.is(at + 1, Word::If)
                    && (self.is(at + 2, Word::Exists) || self.is(at + 2, Word::Not))
                {
                    return HIGH;
                }
                let past = self.past_name(at + 1);
                let named = matches!(self.kind(at + 1), Kind::Name | Kind::Word(_));
                match self.kind(past) {
                    _ if !named => 0,
                    Kind::Comment => HIGH,
                    Kind::LParen | Kind::Semicolon => {
                        if trusted {
                            HIGH
                        } else {
                            MEDIUM
                        }
                    }
                    Kind::Name if self.text(past).eq_ignore_ascii_case(b"identified") => {
                        step_if(trusted, HIGH)
                    }
                    Kind::Name => step_if(trusted, LOW),
                    _ => step_if(trusted, HIGH),
                }
            }
            Word::Insert => {
                let past = self.past_name(i + 2);
                let list = matches!(
                    self.kind(past),
                    Kind::LParen | Kind::Word(Word::Values | Word::Select | Word::Set)
                );
                step_if(self.is(i + 1, Word::Into) && list, HIGH)
            }
            Word::Update => {
                let past = self.past_name(i + 1);
                step_if(
                    self.is(past, Word::Set) && self.comparison(past + 1).0 > Weight::None,
                    HIGH,
                )
            }
            Word::Delete => {
                if !self.is(i + 1, Word::From) {
                    return 0;
                }
                let past = self.past_name(i + 2);
                match self.kind(past) {
                    Kind::Comment | Kind::Semicolon => HIGH,
                    Kind::Word(Word::Where) => {
                        step_if(self.comparison(past + 1).0 > Weight::None, HIGH)
                    }
                    Kind::End => step_if(trusted, MEDIUM),
                    _ => 0,
                }
            }
            Word::Exec => match self.kind(i + 1) {
                Kind::Word(Word::Danger | Word::Schema) | Kind::Variable => HIGH,
                Kind::LParen
                    if matches!(
                        self.kind(i + 2),
                        Kind::Text | Kind::Variable | Kind::Open | Kind::Word(Word::Char)
                    ) =>
                {
                    if trusted {
                        HIGH
                    } else {
                        MEDIUM
                    }
                }
                Kind::Text | Kind::Open => MEDIUM,
                Kind::Name
                    if self.kind(i + 2) == Kind::Dot
                        && matches!(self.kind(i + 3), Kind::Dot | Kind::Name) =>
                {
                    HIGH
                }
                Kind::Name if starts_with(self.text(i + 1), b"sp_") => HIGH,
                Kind::Word(Word::Object) | Kind::Name => step_if(trusted, MEDIUM),
                _ => 0,
            },
            Word::Declare => step_if(self.kind(i + 1) == Kind::Variable, HIGH),
            Word::Begin => match self.kind(i + 1) {
                Kind::Word(Word::Schema | Word::Declare | Word::Exec) => HIGH,
                Kind::Name => step_if(
                    trusted
                        && self.kind(i + 2) == Kind::Dot
                        && self.kind(self.past_name(i + 1)) == Kind::LParen,
                    HIGH,
                ),
                _ => 0,
            },
            Word::Call => {
                let named = matches!(self.kind(i + 1), Kind::Name | Kind::Word(_));
                step_if(
                    trusted && named && self.kind(self.past_name(i + 1)) == Kind::LParen,
                    HIGH,
                )
            }
            Word::Set => step_if(
                self.kind(i + 1) == Kind::Variable && self.kind(i + 2) == Kind::Compare,
                HIGH,
            ),
            Word::Statement => self.dialect(i, trusted),
            _ => 0,
        }
    }

    /// Statements that only one dialect has.
    fn dialect(&self, i: usize, trusted: bool) -> u8 {
        let is = |word: &[u8]| self.text(i).eq_ignore_ascii_case(word);
        let next = |words: &[&[u8]]| {
            words
                .iter()
                .any(|word| self.text(i + 1).eq_ignore_ascii_case(word))
        };
        if is(b"shutdown") {
            step_if(trusted && (self.ends(i + 1) || next(&[b"with"])), HIGH)
        } else if is(b"show") {
            step_if(
                trusted
                    && self.ends(i + 2)
                    && next(&[b"tables", b"databases", b"columns", b"schemas"]),
                HIGH,
            )
        } else if is(b"grant") {
            let to = self.past_name(i + 1);
            step_if(
                trusted
                    && [&b"to"[..], b"on"]
                        .iter()
                        .any(|word| self.text(to).eq_ignore_ascii_case(word)),
                HIGH,
            )
        } else if is(b"backup") {
            let named = next(&[b"database", b"log"])
                && matches!(self.kind(i + 2), Kind::Name | Kind::Variable);
            step_if(
                named && self.text(self.past_name(i + 2)).eq_ignore_ascii_case(b"to"),
                HIGH,
            )
        } else if is(b"bulk") {
            step_if(trusted && self.is(i + 1, Word::Insert), HIGH)
        } else if is(b"load") {
            let file =
                next(&[b"data"]) && (self.is(i + 2, Word::Into) || self.kind(i + 2) == Kind::Name);
            step_if(
                file && matches!(self.kind(i + 3), Kind::Text | Kind::Open | Kind::Name),
                HIGH,
            )
        } else if is(b"copy") {
            let past = self.past_name(i + 1);
            let program = matches!(self.kind(past), Kind::Word(Word::From))
                || self.text(past).eq_ignore_ascii_case(b"to");
            let source = matches!(self.kind(past + 1), Kind::Text | Kind::Open)
                || self.text(past + 1).eq_ignore_ascii_case(b"program");
            step_if(
                (program && source)
                    || (self.kind(i + 1) == Kind::LParen && self.is(i + 2, Word::Select)),
                HIGH,
            )
        } else {
            // `handler t open`, `prepare s from …`
            let verb = self.is(i + 2, Word::From)
                || [&b"open"[..], b"read"].contains(&&*self.text(i + 2).to_ascii_lowercase());
            step_if(trusted && self.kind(i + 1) == Kind::Name && verb, HIGH)
        }
    }
}

/// `confidence` if `found`, else nothing.
fn step_if(found: bool, confidence: u8) -> u8 {
    if found { confidence } else { 0 }
}

/// Values up to this many bytes hold little but the evidence.
const SHORT: usize = 16;

fn is_direction(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"asc") || word.eq_ignore_ascii_case(b"desc")
}
