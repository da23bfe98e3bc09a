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
        let mut state = self.start;
        for (at, &byte) in text.iter().enumerate() {
            if state <= ACCEPT {
                return (state == ACCEPT).then_some(at);
            }
            let class = self.class_of.get(usize::from(byte)).copied().unwrap_or(0);
            state = self.next(state, class);
        }
        if state > ACCEPT {
            state = self.next(
                state,
                u8::try_from(self.classes.saturating_sub(1)).unwrap_or(u8::MAX),
            );
        }
        (state == ACCEPT).then_some(text.len())
    }

    #[inline]
    fn next(&self, state: u16, class: u8) -> u16 {
        let record = usize::from(state - FIRST_STATE);
        // A state without a record is one that only a forged table has.
        let Some(&[row, count]) = self
            .states
            .get(record..)
            .and_then(|rest| rest.first_chunk::<STATE_BYTES>())
        else {
            return REJECT;
        };
        let first = record + STATE_BYTES;
        let end = first + usize::from(count) * EXCEPTION_BYTES;
        let exceptions = self.states.get(first..end).unwrap_or_default();
        for exception in exceptions.as_chunks::<EXCEPTION_BYTES>().0 {
            let [known, low, high] = *exception;
            if known >= class {
                if known == class {
                    return u16::from_le_bytes([low, high]);
                }
                break;
            }
        }
        let at = usize::from(row) * self.classes + usize::from(class);
        let entry = self
            .rows
            .get(at * 2..)
            .and_then(|rest| rest.first_chunk::<2>());
        entry.map_or(REJECT, |entry| u16::from_le_bytes(*entry))
    }
}
