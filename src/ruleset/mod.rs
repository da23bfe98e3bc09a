//! A compiled ruleset, opened in place.
//!
//! Takes in the bytes that the compiler wrote (see [`layout`]). Gives out records by index. Opening
//! checks the frame (magic, version, length, checksum, sections) and builds nothing; reading a
//! record is a bounds-checked load. A reference that leads nowhere, which only a forged ruleset
//! can hold, reads as absent and its rule does not match.

pub mod grams;
pub mod layout;
pub mod packed;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use crate::field::Lane;
use layout::{
    CorrelationRecord, GramEntryRecord, LaneRecord, LiteralRecord, MAGIC, MatcherRecord,
    NodeRecord, Reader, Record, RuleRecord, Run, Section, Span, VERSION,
};

/// Why a ruleset was refused. Nothing of a refused ruleset is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The first bytes are not those of a ruleset.
    NotARuleset,
    /// The ruleset was compiled for another version of the layout.
    Version {
        /// Version in the file.
        found: u32,
    },
    /// The file ends early, or has more than it says.
    Length {
        /// Bytes there should be.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// Some byte is not what was written.
    Checksum,
    /// The frame contradicts itself.
    Frame,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::NotARuleset => {
                write!(
                    f,
                    "not a compiled ruleset: write one with `portcullis rules compile`"
                )
            }
            OpenError::Version { found } => write!(
                f,
                "ruleset has layout version {found}, this build reads version {VERSION}: \
                 compile the rules again with the `portcullis` of this release"
            ),
            OpenError::Length { expected, found } => {
                write!(
                    f,
                    "ruleset is {found} bytes long but says {expected}: it was cut or joined"
                )
            }
            OpenError::Checksum => write!(f, "ruleset is damaged: its checksum does not match"),
            OpenError::Frame => write!(f, "ruleset is damaged: its sections do not fit"),
        }
    }
}

impl std::error::Error for OpenError {}

/// An immutable set of compiled rules.
#[derive(Clone)]
pub struct RuleSet {
    bytes: Cow<'static, [u8]>,
    sections: [Range<usize>; Section::COUNT],
    lanes: [LaneRecord; Lane::COUNT],
    /// The lanes in which some rule waits for something, a set of [`Lane::bit`].
    opening: u8,
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RuleSet({} rules, {} bytes)",
            self.rule_count(),
            self.bytes.len()
        )
    }
}

impl RuleSet {
    /// Parts a ruleset from what follows it, by the length that it says it has; none if there is no ruleset at the front. A
    /// ruleset that was cut short is all there is.
    pub fn split_off(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let mut header = Reader(bytes.strip_prefix(&MAGIC)?);
        let (_version, length) = (u32::read(&mut header), u32::read(&mut header));
        let length = length.and_then(|length| usize::try_from(length).ok());
        Some(bytes.split_at(length.unwrap_or(usize::MAX).min(bytes.len())))
    }

    /// Opens compiled rules. Takes time linear in their bytes (the checksum) and little of it.
    pub fn open(bytes: impl Into<Cow<'static, [u8]>>) -> Result<RuleSet, OpenError> {
        let bytes = bytes.into();
        let mut header = layout::framed(&bytes, MAGIC)?;
        let mut number = || u32::read(&mut header).ok_or(OpenError::Frame);
        let mut sections = [const { 0..0 }; Section::COUNT];
        for section in &mut sections {
            let (start, len) = (number()? as usize, number()? as usize);
            let end = start.checked_add(len).filter(|end| *end <= bytes.len());
            *section = start..end.ok_or(OpenError::Frame)?;
        }
        let mut set = RuleSet {
            bytes,
            sections,
            lanes: Default::default(),
            opening: 0,
        };
        for (index, lane) in Lane::ALL.iter().enumerate() {
            let record: LaneRecord = set.record(Section::Lanes, index).ok_or(OpenError::Frame)?;
            let bits = 1_usize
                .checked_shl(u32::from(record.log2_bits))
                .ok_or(OpenError::Frame)?;
            let end = record.offset as usize + bits / 8;
            let fits = record.log2_bits == 0
                || (3..=24).contains(&record.log2_bits)
                    && end <= set.section(Section::Bitmaps).len();
            let slot = set.lanes.get_mut(*lane as usize).filter(|_| fits);
            *slot.ok_or(OpenError::Frame)? = record;
            if record.opens_rules() {
                set.opening |= lane.bit();
            }
        }
        if !set.gram_slots().is_power_of_two() {
            return Err(OpenError::Frame);
        }
        Ok(set)
    }

    /// The bytes of a section.
    #[inline]
    pub fn section(&self, section: Section) -> &[u8] {
        self.sections
            .get(section as usize)
            .and_then(|range| self.bytes.get(range.clone()))
            .unwrap_or_default()
    }

    /// A record of a section.
    #[inline]
    pub fn record<R: Record>(&self, section: Section, index: usize) -> Option<R> {
        let start = index.checked_mul(R::BYTES)?;
        R::read(&mut Reader(self.section(section).get(start..)?))
    }

    /// The records of a run.
    pub fn run<R: Record>(&self, section: Section, run: Run) -> impl Iterator<Item = R> + '_ {
        let first = run.first as usize;
        (first..first.saturating_add(run.count as usize))
            .map_while(move |i| self.record(section, i))
    }

    /// The bytes that a span stands for; nothing if it leads nowhere.
    pub fn bytes(&self, span: Span) -> &[u8] {
        let start = span.offset as usize;
        self.section(Section::Text)
            .get(start..start.saturating_add(span.len as usize))
            .unwrap_or_default()
    }

    /// The text that a span stands for.
    pub fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }

    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.section(Section::Rules).len() / RuleRecord::BYTES
    }

    /// How many literals there are.
    pub fn literal_count(&self) -> usize {
        self.section(Section::Literals).len() / LiteralRecord::BYTES
    }

    /// Slots of the gram table.
    pub(crate) fn gram_slots(&self) -> usize {
        (self.section(Section::Grams).len() / u32::BYTES).saturating_sub(1)
    }

    /// The entries of a slot of the gram table.
    pub(crate) fn gram_entries(&self, slot: usize) -> impl Iterator<Item = GramEntryRecord> + '_ {
        let bound = |slot| self.record::<u32>(Section::Grams, slot).unwrap_or_default();
        let (first, end) = (bound(slot), bound(slot.saturating_add(1)));
        let count = end.saturating_sub(first);
        self.run(Section::GramEntries, Run { first, count })
    }

    /// The rules that a literal makes candidates.
    pub(crate) fn postings(&self, literal: &LiteralRecord) -> impl Iterator<Item = u32> + '_ {
        let list = literal.postings.0;
        let count = self.record::<u32>(Section::Postings, list as usize);
        let run = Run {
            first: list.saturating_add(1),
            count: count.unwrap_or_default(),
        };
        self.run(Section::Postings, run)
    }

    /// A rule.
    pub fn rule(&self, index: u32) -> Option<RuleRecord> {
        self.record(Section::Rules, index as usize)
    }

    /// The lanes that a rule reads, without the rest of its record; see [`RuleRecord::reads`].
    #[inline]
    pub fn reads(&self, index: u32) -> u16 {
        let record = (index as usize).checked_mul(RuleRecord::BYTES);
        let bytes = record
            .and_then(|start| start.checked_add(RuleRecord::READS_AT))
            .and_then(|start| {
                self.section(Section::Rules)
                    .get(start..)?
                    .first_chunk::<2>()
            });
        bytes.map_or(0, |bytes| u16::from_le_bytes(*bytes))
    }

    /// A node of a condition.
    pub fn node(&self, index: u32) -> Option<NodeRecord> {
        self.record(Section::Nodes, index as usize)
    }

    /// A matcher.
    pub fn matcher(&self, index: u32) -> Option<MatcherRecord> {
        self.record(Section::Matchers, index as usize)
    }

    /// A correlation.
    pub fn correlation(&self, index: u32) -> Option<CorrelationRecord> {
        self.record(Section::Correlations, index as usize)
    }

    /// How many correlations there are.
    pub fn correlation_count(&self) -> usize {
        self.section(Section::Correlations).len() / CorrelationRecord::BYTES
    }

    /// The rules that every response has to evaluate: no text of the request has to be there for them to match.
    pub fn answers(&self) -> impl Iterator<Item = u32> + '_ {
        let count = self.section(Section::Answers).len() / u32::BYTES;
        (0..count).map_while(|index| self.record(Section::Answers, index))
    }

    /// The first rule that can be answered only once the response is known, if there is one.
    pub fn needs_response(&self) -> Option<RuleRecord> {
        let count = u32::try_from(self.rule_count()).unwrap_or(u32::MAX);
        (0..count)
            .filter_map(|index| self.rule(index))
            .find(|rule| rule.needs_response != 0)
    }

    /// A literal.
    pub fn literal(&self, index: u32) -> Option<LiteralRecord> {
        self.record(Section::Literals, index as usize)
    }

    /// Whether some rule waits for something in this lane, so that it has to be scanned.
    #[inline]
    pub fn opens_in(&self, lane: Lane) -> bool {
        self.opening & lane.bit() != 0
    }

    /// A lane's bitmap and what else is known of the lane.
    #[inline]
    pub fn lane(&self, lane: Lane) -> LaneRecord {
        self.lanes.get(lane as usize).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    /// The smallest ruleset there can be: no rules.
    fn empty() -> Vec<u8> {
        let mut sections: Vec<Vec<u8>> = vec![Vec::new(); Section::COUNT];
        for _ in Lane::ALL {
            LaneRecord::default().write(&mut sections[Section::Lanes as usize]);
        }
        for _ in 0..2 {
            0_u32.write(&mut sections[Section::Grams as usize]);
        }
        layout::assemble(&sections)
    }

    #[test]
    fn an_empty_ruleset_opens() {
        let set = RuleSet::open(empty()).unwrap();
        assert_eq!(set.rule_count(), 0);
        assert!(set.rule(0).is_none());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let whole = empty();
        let mut refused = 0;
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(RuleSet::open(flipped).is_err(), "bit {bit}");
            refused += 1;
        }
        for len in 0..whole.len() {
            assert!(
                RuleSet::open(whole[..len].to_vec()).is_err(),
                "cut at {len}"
            );
            refused += 1;
        }
        assert_eq!(refused, whole.len() * 9);
        let joined = [whole.clone(), vec![0]].concat();
        assert!(matches!(
            RuleSet::open(joined),
            Err(OpenError::Length { .. })
        ));
    }
}
