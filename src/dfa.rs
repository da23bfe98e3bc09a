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
        if self.start == ACCEPT {
            return Some(0);
        }
        let mut state = self.start;
        let mut bytes = text.iter().enumerate();
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
