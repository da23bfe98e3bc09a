//! Regular expressions, compiled natively to small tables and run here.
//!
//! Takes in a table and a text. Gives out where the first match ends. No backtracking, no allocation: linear
//! in the text whatever the expression.
//!
//! Most states of an expression go where some other state goes, for most bytes. So a few rows are written whole,
//! and each state says which of them it follows and in what it differs:
//!
//! ```text
//! classes: u16 | start: u16 | rows: u8 | 0
//! class of each byte: 256 × u8          bytes that no state tells apart share a class
//! rows × classes: u16                   the last class is the end of the text
//! states, each at its own number as offset:
//!     row: u8 | count: u8 | count × (class: u8 | next: u16), by class
//! ```
//!
//! State 0 never matches any more, state 1 has matched.

/// Bytes before the table of classes.
pub const HEADER_BYTES: usize = 6;
/// The state that can never match.
pub const REJECT: u16 = 0;
/// The state that has matched.
pub const ACCEPT: u16 = 1;
/// The number, and offset, of the first state that has a record.
pub const FIRST_STATE: u16 = 2;
/// Bytes of a state's record before its exceptions.
pub const STATE_BYTES: usize = 2;
/// Bytes of one exception in a state's record.
pub const EXCEPTION_BYTES: usize = 3;

/// One compiled expression.
#[derive(Clone, Copy)]
pub struct Dfa<'a> {
    classes: usize,
    start: u16,
    class_of: &'a [u8; 256],
    rows: &'a [u8],
    states: &'a [u8],
}

impl<'a> Dfa<'a> {
    /// Reads an expression off its bytes; none if they are too few.
    pub fn read(bytes: &'a [u8]) -> Option<Dfa<'a>> {
        let (&[c0, c1, s0, s1, rows, _], rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let (class_of, rest) = rest.split_first_chunk::<256>()?;
        let classes = usize::from(u16::from_le_bytes([c0, c1]));
        let (rows, states) = rest.split_at_checked(classes * usize::from(rows) * 2)?;
        Some(Dfa {
            classes,
            start: u16::from_le_bytes([s0, s1]),
            class_of,
            rows,
            states,
        })
    }

    /// Where the first match in `text` ends, if there is one.
    pub fn match_end(&self, text: &[u8]) -> Option<usize> {
        match self.start {
            ACCEPT => Some(0),
            start => self.match_from(start, text, 0),
        }
    }

    /// The same from a state on, in the text from `from` on.
    fn match_from(&self, state: u16, text: &[u8], from: usize) -> Option<usize> {
        let mut state = state;
        let mut bytes = text.iter().enumerate().skip(from);
        loop {
            // Nearly every byte leaves the state as it is, so its record is read once for all of them.
            let record = self.record(state)?;
            let next = bytes.by_ref().find_map(|(at, &byte)| {
                let class = self.class_of.get(usize::from(byte)).copied().unwrap_or(0);
                let next = record.next(class);
                (next != state).then_some((at, next))
            });
            match next {
                // The byte is part of the match, and the match ends behind it.
                Some((at, ACCEPT)) => return Some(at + 1),
                Some((_, next)) => state = next,
                None => {
                    let end = u8::try_from(self.classes.saturating_sub(1)).unwrap_or(u8::MAX);
                    return (record.next(end) == ACCEPT).then_some(text.len());
                }
            }
        }
    }

    /// A state's record. States that have none are those that end everything, and what only a forged table names.
    fn record(&self, state: u16) -> Option<State<'a>> {
        let start = usize::from(state.checked_sub(FIRST_STATE)?);
        let (&[row, count], exceptions) = self.states.get(start..)?.split_first_chunk()?;
        let exceptions = exceptions
            .get(..usize::from(count) * EXCEPTION_BYTES)
            .unwrap_or_default();
        let first = usize::from(row) * self.classes * 2;
        let row = self.rows.get(first..first + self.classes * 2)?;
        Some(State {
            row: row.as_chunks().0,
            exceptions: exceptions.as_chunks().0,
        })
    }
}

/// Where a state leads.
struct State<'a> {
    row: &'a [[u8; 2]],
    exceptions: &'a [[u8; EXCEPTION_BYTES]],
}

impl State<'_> {
    #[inline]
    fn next(&self, class: u8) -> u16 {
        if !self.exceptions.is_empty() {
            let found = self
                .exceptions
                .binary_search_by_key(&class, |[known, ..]| *known);
            if let Some([_, low, high]) = found.ok().and_then(|at| self.exceptions.get(at)) {
                return u16::from_le_bytes([*low, *high]);
            }
        }
        self.row
            .get(usize::from(class))
            .map_or(REJECT, |next| u16::from_le_bytes(*next))
    }
}

/// An expression that is run over several texts or a long one.
pub struct Automaton<'a> {
    dfa: Dfa<'a>,
    /// Bytes that were read by the table as it is.
    read: usize,
    rows: Option<Box<Rows<'a>>>,
}

impl<'a> Automaton<'a> {
    /// For an expression.
    pub fn new(dfa: Dfa<'a>) -> Automaton<'a> {
        Automaton {
            dfa,
            read: 0,
            rows: None,
        }
    }

    /// The same as [`Dfa::match_end`].
    pub fn match_end(&mut self, text: &[u8]) -> Option<usize> {
        self.read = self.read.saturating_add(text.len());
        if self.rows.is_none() && self.read < LONG || self.dfa.start < FIRST_STATE {
            return self.dfa.match_end(text);
        }
        let rows = match &mut self.rows {
            Some(rows) => rows,
            None => self.rows.insert(Box::new(Rows::of(self.dfa)?)),
        };
        rows.match_end(text)
    }
}

/// Bytes from which on it is worth writing out the rows of the states that texts lead to.
const LONG: usize = 512;
/// Entries of all rows that are written out; where there are more, the rest is read by the table as it is.
const ENTRIES: usize = 1 << 15;
/// Says of an entry that it is the number of a state, of which no row is written out yet.
const UNKNOWN: u32 = 1 << 31;

/// The rows of those states that texts lead to, written out, so that a byte takes one look.
struct Rows<'a> {
    dfa: Dfa<'a>,
    class_of: [u8; 256],
    /// For each row and class where the next row begins, or a state that is [`UNKNOWN`].
    entries: Vec<u32>,
    /// Where the row of a state begins, by state.
    known: Vec<u32>,
    /// The row of the start, and which bytes lead out of it.
    home: usize,
    leaves: [bool; 256],
}

impl<'a> Rows<'a> {
    fn of(dfa: Dfa<'a>) -> Option<Rows<'a>> {
        // What only a forged table has is the last class; it must not lead into another row.
        let last = u8::try_from(dfa.classes.saturating_sub(1)).unwrap_or(u8::MAX);
        let mut rows = Rows {
            dfa,
            class_of: dfa.class_of.map(|class| class.min(last)),
            entries: Vec::with_capacity(16 * dfa.classes),
            known: vec![UNKNOWN; dfa.states.len()],
            home: 0,
            leaves: [true; 256],
        };
        rows.home = rows.expand(dfa.start)?;
        let itself = UNKNOWN | u32::from(dfa.start);
        rows.leaves = rows
            .class_of
            .map(|class| rows.next(rows.home + usize::from(class)) != itself);
        Some(rows)
    }

    fn match_end(&mut self, text: &[u8]) -> Option<usize> {
        let (mut row, mut at) = (self.home, 0);
        while let Some(&byte) = text.get(at) {
            if row == self.home {
                // Most of most texts begins no match.
                let rest = text.get(at..).unwrap_or_default().iter();
                let leaves = |byte: &u8| self.leaves[usize::from(*byte)];
                let stays = rest.take_while(|byte| !leaves(byte)).count();
                if stays > 0 {
                    at += stays;
                    continue;
                }
            }
            let place = row + usize::from(self.class_of[usize::from(byte)]);
            at += 1;
            let next = self.next(place);
            if next & UNKNOWN == 0 {
                row = next as usize;
                continue;
            }
            row = match (next & !UNKNOWN) as u16 {
                ACCEPT => return Some(at),
                REJECT => return None,
                state => match self.expand(state) {
                    Some(row) => self.note(place, row),
                    None => return self.dfa.match_from(state, text, at),
                },
            };
        }
        let at_end = self.next(row + self.dfa.classes.checked_sub(1)?);
        (at_end == UNKNOWN | u32::from(ACCEPT)).then_some(text.len())
    }

    #[inline]
    fn next(&self, place: usize) -> u32 {
        let entry = self.entries.get(place).copied();
        entry.unwrap_or(UNKNOWN | u32::from(REJECT))
    }

    /// Where the row of a state begins, which is written out if it is not yet; none if there is no room for it.
    fn expand(&mut self, state: u16) -> Option<usize> {
        let index = usize::from(state.checked_sub(FIRST_STATE)?);
        let known = self.known.get_mut(index)?;
        if *known != UNKNOWN {
            return Some(*known as usize);
        }
        let record = self.dfa.record(state)?;
        let start = self.entries.len();
        if start + self.dfa.classes > ENTRIES {
            return None;
        }
        let next = |next: [u8; 2]| UNKNOWN | u32::from(u16::from_le_bytes(next));
        self.entries
            .extend(record.row.iter().map(|entry| next(*entry)));
        for [class, low, high] in record.exceptions {
            if let Some(entry) = self.entries.get_mut(start + usize::from(*class)) {
                *entry = next([*low, *high]);
            }
        }
        *known = start as u32;
        Some(start)
    }

    /// Notes where the row of an entry's state begins.
    fn note(&mut self, place: usize, row: usize) -> usize {
        if let Some(entry) = self.entries.get_mut(place) {
            *entry = row as u32;
        }
        row
    }
}
