//! A ruleset in a fifth of its bytes, to be built into a program.
//!
//! Takes in what the compiler packed. Gives out the very bytes of the ruleset, which are then opened like any other. What
//! follows from the rest is left out; what is left is turned so that like stands beside like, and deflated:
//!
//! ```text
//! "PRTP" | version | length | checksum (u64)             as of a ruleset
//! checksum of the ruleset (u64) | length of each section (u32)
//! streams, each deflated behind the number of its bytes (u32):
//!     for each section but five, its columns: numbers in a record (u8), for each of them its bytes (u8) and how it is
//!         told (u8), and then for each of them the lowest bytes in all records, the next ones, …
//!     for the section of automata those of `Automata`
//!     for each literal that is scanned for, the bytes before its gram (u16): all low bytes, then all high ones
//! ```
//!
//! Bitmaps and the table of grams are written anew from the literals.

use super::OpenError;
use super::grams::{self, Placed};
use super::layout::{self, LaneRecord, LiteralRecord, Reader, Record, Section, fold_gram};
use crate::body::inflate::{Ending, inflate};
use crate::dfa::{EXCEPTION_BYTES, FIRST_STATE, STATE_BYTES};
use crate::limits;

/// First bytes of a packed ruleset.
pub const MAGIC: [u8; 4] = *b"PRTP";

/// In place of the bytes before the gram: the literal has none.
pub const NO_GRAM: u16 = u16::MAX;

/// How a number of a record is told: as it is.
pub const PLAIN: u8 = 0;
/// As what it is more than in the record before.
pub const MORE: u8 = 1;
/// As what it is more than the sum of itself and the number behind it in the record before: where a run ended.
pub const MORE_THAN_END: u8 = 2;

/// The ruleset. Takes time linear in its bytes, [`limits::UNPACKED_BYTES`] at most, and while it runs as many again.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let from = layout::framed(packed, MAGIC)?;
    whole(from).ok_or(OpenError::Frame)
}

fn whole(from: Reader<'_>) -> Option<Vec<u8>> {
    let mut from = from;
    let sum = u64::read(&mut from)?;
    let mut lengths = [0; Section::COUNT];
    for length in &mut lengths {
        *length = u32::read(&mut from)? as usize;
    }
    let bytes = lengths
        .iter()
        .try_fold(0, |all: usize, length| all.checked_add(*length))?;
    if bytes > limits::UNPACKED_BYTES {
        return None;
    }
    let (mut out, places) = layout::frame(&lengths, sum);
    let mut streams = Streams(from.0);
    for (section, place) in Section::ALL.into_iter().zip(&places) {
        let to = out.get_mut(place.clone())?;
        match section {
            Section::Bitmaps | Section::Grams | Section::GramEntries => {}
            Section::Dfas => Automata::next(&mut streams)?.write(to)?,
            _ => columns(&streams.next()?, to)?,
        }
    }
    let before = streams.next()?;
    let place = |section: Section| places.get(section as usize).cloned();
    let section = |section: Section| out.get(place(section)?);
    let literals = section(Section::Literals)?;
    let lanes = section(Section::Lanes)?.chunks_exact(LaneRecord::BYTES);
    let lanes = lanes.map(|lane| LaneRecord::read(&mut Reader(lane)));
    let lanes = lanes.collect::<Option<Vec<LaneRecord>>>()?;
    let placed = placed(literals, section(Section::Text)?, &before)?;
    let bitmaps = section(Section::Bitmaps)?.len();
    let slots = (section(Section::Grams)?.len() / u32::BYTES).checked_sub(1)?;
    let bitmaps = grams::bitmaps(&placed, &lanes, bitmaps);
    let (table, entries) = grams::table(&placed, slots);
    let written = [
        (Section::Bitmaps, bitmaps),
        (Section::Grams, table),
        (Section::GramEntries, entries),
    ];
    for (section, bytes) in written {
        let to = out.get_mut(place(section)?)?;
        if to.len() != bytes.len() {
            return None;
        }
        to.copy_from_slice(&bytes);
    }
    Some(out)
}

/// What is left of the streams.
struct Streams<'p>(&'p [u8]);

impl Streams<'_> {
    fn next(&mut self) -> Option<Vec<u8>> {
        let mut reader = Reader(self.0);
        let bytes = u32::read(&mut reader)? as usize;
        if bytes > limits::UNPACKED_BYTES {
            return None;
        }
        let mut out = Vec::with_capacity(bytes);
        let (ending, rest) = inflate(reader.0, bytes, &mut out);
        self.0 = rest;
        (ending == Ending::Whole && out.len() == bytes).then_some(out)
    }
}

/// Writes the records of a section that is told by columns.
fn columns(from: &[u8], to: &mut [u8]) -> Option<()> {
    let (count, rest) = from.split_first()?;
    let (numbers, columns) = rest.split_at_checked(usize::from(*count) * 2)?;
    let numbers = numbers.as_chunks::<2>().0;
    let stride = numbers.iter().map(|[width, _]| usize::from(*width)).sum();
    if columns.len() != to.len() || stride == 0 || !to.len().is_multiple_of(stride) {
        return None;
    }
    if let [[1, PLAIN]] = numbers {
        to.copy_from_slice(columns);
        return Some(());
    }
    let records = to.len() / stride;
    // A number is told by the one behind it, so the last one comes first.
    let mut at = stride;
    let mut behind = 0;
    for [width, told] in numbers.iter().rev() {
        let width = usize::from(*width);
        at = at.checked_sub(width)?;
        let mut planes = columns.get(records * at..)?;
        for plane in 0..width {
            let (bytes, rest) = planes.split_at_checked(records)?;
            planes = rest;
            for (record, byte) in to.chunks_exact_mut(stride).zip(bytes) {
                *record.get_mut(at + plane)? = *byte;
            }
        }
        if *told != PLAIN {
            let mut before = 0_u64;
            for record in to.chunks_exact_mut(stride) {
                let (own, rest) = record.get_mut(at..)?.split_at_mut_checked(width)?;
                // Numbers wrap around at their own width.
                let mut carry = before;
                for byte in own.iter_mut() {
                    carry = carry.wrapping_add(u64::from(*byte));
                    *byte = carry as u8;
                    carry >>= 8;
                }
                before = number(own);
                if *told == MORE_THAN_END {
                    before = before.wrapping_add(number(rest.get(..behind)?));
                }
            }
        }
        behind = width;
    }
    Some(())
}

/// The number that up to eight bytes are.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// The literals that are scanned for and have a gram.
fn placed(literals: &[u8], text: &[u8], before: &[u8]) -> Option<Vec<Placed>> {
    let (low, high) = before.split_at_checked(before.len() / 2)?;
    let mut before = low.iter().zip(high);
    let mut placed = Vec::with_capacity(low.len());
    for (number, record) in (0..).zip(literals.chunks_exact(LiteralRecord::BYTES)) {
        let literal = LiteralRecord::read(&mut Reader(record))?;
        if !literal.is_scanned() {
            continue;
        }
        let (low, high) = before.next()?;
        let before = u16::from_le_bytes([*low, *high]);
        if before == NO_GRAM {
            continue;
        }
        let gram = text.get((literal.text as usize).checked_add(before.into())?..)?;
        placed.push(Placed {
            literal: number,
            lanes: literal.lanes,
            gram: fold_gram(u32::from_le_bytes(*gram.first_chunk()?)),
            before,
        });
    }
    Some(placed)
}

/// Automata ([`crate::dfa`]), by streams. A state stands in them as its place among those of its automaton, behind the two
/// that end everything.
struct Automata {
    /// For each automaton: classes, start, states (u16 each), rows (u8).
    heads: Vec<u8>,
    /// Of each byte what its class is more than that of the byte before.
    class_of: Vec<u8>,
    /// Of each entry of a row what it is more than the one before: low bytes and high ones.
    rows: [Vec<u8>; 2],
    /// Of each state its row and how many exceptions it has.
    row_of: Vec<u8>,
    counts: Vec<u8>,
    /// Of each exception what its class is more than that of the exception before, and where it leads: to one of the states
    /// that end everything, to [`NEXT_STATE`], or to one that is told by a number one higher than its own.
    classes: Vec<u8>,
    leads: [Vec<u8>; 2],
}

/// The first state that neither a row nor an exception so far has led to.
pub const NEXT_STATE: u16 = FIRST_STATE;

impl Automata {
    fn next(from: &mut Streams<'_>) -> Option<Automata> {
        Some(Automata {
            heads: from.next()?,
            class_of: from.next()?,
            rows: [from.next()?, from.next()?],
            row_of: from.next()?,
            counts: from.next()?,
            classes: from.next()?,
            leads: [from.next()?, from.next()?],
        })
    }

    fn write(&self, to: &mut [u8]) -> Option<()> {
        let mut to = To(to);
        let mut heads = Reader(&self.heads);
        let mut class_of = self.class_of.as_chunks::<256>().0.iter();
        let mut rows = pairs(&self.rows);
        let (mut row_of, mut counts) = (self.row_of.as_slice(), self.counts.as_slice());
        let mut exceptions = self.classes.iter().zip(pairs(&self.leads));
        while !heads.0.is_empty() {
            let mut number = || u16::read(&mut heads);
            let (classes, start, states) = (number()?, number()?, usize::from(number()?));
            let row_count = u8::read(&mut heads)?;
            let own_rows = row_of.split_off(..states)?;
            let own_counts = counts.split_off(..states)?;
            let mut known = States::of(own_counts);
            to.put(classes.to_le_bytes())?;
            to.put(known.lead(start)?.to_le_bytes())?;
            to.put([row_count, 0])?;
            let mut class = 0_u8;
            to.put(class_of.next()?.map(|more| {
                class = class.wrapping_add(more);
                class
            }))?;
            let mut state = 0_u16;
            for _ in 0..usize::from(classes) * usize::from(row_count) {
                state = state.wrapping_add(rows.next()?);
                to.put(known.lead(state)?.to_le_bytes())?;
            }
            for (row, count) in own_rows.iter().zip(own_counts) {
                to.put([*row, *count])?;
                let mut class = 0_u8;
                for _ in 0..*count {
                    let (more, lead) = exceptions.next()?;
                    class = class.wrapping_add(*more);
                    let state = match lead {
                        NEXT_STATE => known.next()?,
                        told => told - u16::from(told > NEXT_STATE),
                    };
                    let [low, high] = known.lead(state)?.to_le_bytes();
                    to.put([class, low, high])?;
                }
            }
        }
        to.0.is_empty().then_some(())
    }
}

/// What is yet to be written.
struct To<'o>(&'o mut [u8]);

impl To<'_> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> Option<()> {
        let (head, rest) = std::mem::take(&mut self.0).split_first_chunk_mut()?;
        *head = bytes;
        self.0 = rest;
        Some(())
    }
}

/// The numbers whose low and high bytes these are.
fn pairs([low, high]: &[Vec<u8>; 2]) -> impl Iterator<Item = u16> + '_ {
    let pairs = low.iter().zip(high);
    pairs.map(|(low, high)| u16::from_le_bytes([*low, *high]))
}

/// The states of one automaton.
struct States {
    /// The number of each in the ruleset, and whether something has led to it.
    numbers: Vec<(u16, bool)>,
    /// Something has led to all before this one.
    next: usize,
}

impl States {
    /// By how many exceptions each has.
    fn of(counts: &[u8]) -> States {
        let mut numbers = Vec::with_capacity(counts.len() + usize::from(FIRST_STATE));
        numbers.extend((0..FIRST_STATE).map(|number| (number, true)));
        let mut number = FIRST_STATE;
        numbers.extend(counts.iter().map(|count| {
            let own = number;
            let bytes = STATE_BYTES + usize::from(*count) * EXCEPTION_BYTES;
            number = number.wrapping_add(bytes as u16);
            (own, false)
        }));
        States { numbers, next: 0 }
    }

    /// The number of the state at this place, to which something leads.
    fn lead(&mut self, place: u16) -> Option<u16> {
        let (number, is_led_to) = self.numbers.get_mut(usize::from(place))?;
        *is_led_to = true;
        Some(*number)
    }

    /// The place of the first state that nothing has led to.
    fn next(&mut self) -> Option<u16> {
        while self.numbers.get(self.next)?.1 {
            self.next += 1;
        }
        u16::try_from(self.next).ok()
    }
}
