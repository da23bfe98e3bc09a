//! The prefilter: one pass over a text decides which rules can match at all.
//!
//! Takes in the texts of an event, lane by lane. Gives out the literals that stand in them, and
//! from those the *candidates*: the rules worth evaluating. For nearly all traffic there are none.
//!
//! The idea: every rule has an anchor, a set of literals of which at least one must be there for
//! the rule to match. Of each such literal the compiler picks the rarest four bytes, its *gram*. A
//! bitmap tells for each four bytes of a text whether they are the gram of anything:
//!
//! ```text
//! text     /index.php?id=1 union select 1
//! grams    /ind inde ndex … un  uni unio nion ion  on s n se  sel sele …
//! bitmap     0    0    0  …  0   0   0    1     0    0    0    0   0        one probe for each byte
//! table                              nion → literal 17 "union", 1 byte before   compared exactly
//! ```
//!
//! Rules whose only anchors are shorter than a gram, and structural detectors, wait behind a class
//! of unusual bytes instead (a quote, an angle bracket, …).

use crate::field::Lane;
use crate::normalise::Classes;
use crate::ruleset::RuleSet;
use crate::ruleset::layout::{
    self, GramEntryRecord, Index, LaneRecord, Record, Run, Section, Wait, fold_gram, hash_gram,
    mark_of, slot_of,
};
use crate::text::Case;

/// What scanning found so far in one event.
#[derive(Debug, Default)]
pub struct Hits {
    literals: Marks,
    rules: Marks,
    /// The classes of each lane's bytes.
    classes: [Classes; Lane::COUNT],
    /// The same, but for separators and for texts that detectors read in a plainer view.
    telling: [Classes; Lane::COUNT],
    /// Lanes that had a text, a set of [`Lane::bit`].
    lanes: u8,
}

impl Hits {
    /// Hits for events that are held against `rules`.
    pub fn new(rules: &RuleSet) -> Hits {
        Hits {
            literals: Marks::new(rules.literal_count()),
            rules: Marks::new(rules.rule_count()),
            classes: [0; Lane::COUNT],
            telling: [0; Lane::COUNT],
            lanes: 0,
        }
    }

    /// Forgets everything; costs what was found.
    #[inline]
    pub fn clear(&mut self) {
        self.literals.clear();
        self.rules.clear();
        self.classes = [0; Lane::COUNT];
        self.telling = [0; Lane::COUNT];
        self.lanes = 0;
    }

    /// As if everything had been found: every rule is a candidate, every literal may be there.
    pub fn fill(&mut self) {
        self.literals.fill();
        self.rules.fill();
    }

    /// Whether a scanned literal stands in some text.
    #[inline]
    pub fn has_literal(&self, literal: u32) -> bool {
        self.literals.has(literal)
    }

    /// Literals that stand in some text.
    pub fn literals(&self) -> &[u32] {
        &self.literals.list
    }

    /// Rules that may match.
    #[inline]
    pub fn candidates(&self) -> &[u32] {
        &self.rules.list
    }

    /// Scans one text, whose classes of bytes are known already. `telling` are those that mean something to
    /// a detector.
    #[inline]
    pub fn scan(
        &mut self,
        rules: &RuleSet,
        lane: Lane,
        text: &[u8],
        classes: Classes,
        telling: Classes,
    ) {
        if let Some(seen) = self.classes.get_mut(lane as usize) {
            *seen |= classes;
        }
        if let Some(seen) = self.telling.get_mut(lane as usize) {
            *seen |= telling;
        }
        self.lanes |= lane.bit();
        self.scan_grams(rules, lane, rules.lane(lane), text);
    }

    #[inline]
    fn scan_grams(&mut self, rules: &RuleSet, lane: Lane, record: LaneRecord, text: &[u8]) {
        if record.log2_bits == 0 {
            return;
        }
        let bitmaps = rules.section(Section::Bitmaps);
        let Some(bitmap) = bitmaps.get(record.offset as usize..) else {
            return;
        };
        let shift = 32 - u32::from(record.log2_bits);
        for (at, window) in text.windows(4).enumerate() {
            let Some(window) = window.first_chunk::<4>() else {
                break;
            };
            let gram = fold_gram(u32::from_le_bytes(*window));
            let bit = (hash_gram(gram) >> shift) as usize;
            if bitmap
                .get(bit / 8)
                .is_some_and(|byte| byte >> (bit % 8) & 1 != 0)
            {
                self.verify(rules, lane, gram, text, at);
            }
        }
    }

    /// A gram's bit is set: looks up which literals have the gram and compares them.
    #[cold]
    fn verify(&mut self, rules: &RuleSet, lane: Lane, gram: u32, text: &[u8], at: usize) {
        let (slot, wanted) = (slot_of(gram, rules.gram_slots()), mark_of(gram));
        for entry in rules.gram_entries(slot) {
            let GramEntryRecord {
                literal: Index(number),
                mark,
                before,
            } = entry;
            if mark != wanted || self.literals.has(number) {
                continue;
            }
            let Some(literal) = rules.literal(number) else {
                continue;
            };
            if literal.lanes & lane.bit() == 0 {
                continue;
            }
            let wanted = rules.bytes(literal.span());
            let there = at
                .checked_sub(usize::from(before))
                .and_then(|start| text.get(start..start + wanted.len()));
            if there.is_some_and(|there| Case::Folded.equal(there, wanted)) {
                self.literals.mark(number);
                for rule in rules.postings(&literal) {
                    self.rules.mark(rule);
                }
            }
        }
    }

    /// Adds the rules that wait for classes of bytes, once every text was scanned, and those that
    /// every event has to evaluate.
    #[inline]
    pub fn finish(&mut self, rules: &RuleSet) {
        for (index, lane) in Lane::ALL.into_iter().enumerate() {
            if self.lanes & lane.bit() == 0 {
                continue;
            }
            let record = rules.lane(lane);
            let seen = |classes: &[Classes]| classes.get(index).copied().unwrap_or_default();
            let open = record.text_gate & seen(&self.classes);
            if open != 0 {
                self.open(rules, Wait::Text, lane, open);
            }
            let open = record.structure_gate & seen(&self.telling);
            if open != 0 {
                self.open(rules, Wait::Structure, lane, open);
            }
            if record.any_text() {
                self.open_gate(rules, layout::gate(Wait::Text, lane, layout::ANY_TEXT));
            }
        }
        let always = rules.section(Section::Always).len() / u32::BYTES;
        for index in 0..always {
            if let Some(rule) = rules.record::<u32>(Section::Always, index) {
                self.rules.mark(rule);
            }
        }
    }

    /// Adds the rules that every response has to evaluate.
    pub fn add_answers(&mut self, rules: &RuleSet) {
        for rule in rules.answers() {
            self.rules.mark(rule);
        }
    }

    #[cold]
    fn open(&mut self, rules: &RuleSet, wait: Wait, lane: Lane, mut classes: Classes) {
        while classes != 0 {
            self.open_gate(rules, layout::gate(wait, lane, classes.trailing_zeros()));
            classes &= classes - 1;
        }
    }

    fn open_gate(&mut self, rules: &RuleSet, gate: usize) {
        if let Some(run) = rules.record::<Run>(Section::GateRuns, gate) {
            for rule in rules.run::<u32>(Section::ClassGates, run) {
                self.rules.mark(rule);
            }
        }
    }
}

/// A set of small numbers that is cleared at the cost of what is in it.
#[derive(Debug, Default)]
struct Marks {
    count: u32,
    bits: Vec<u64>,
    list: Vec<u32>,
}

impl Marks {
    fn new(count: usize) -> Marks {
        Marks {
            count: u32::try_from(count).unwrap_or(u32::MAX),
            bits: vec![0; count.div_ceil(64)],
            list: Vec::new(),
        }
    }

    #[inline]
    fn has(&self, number: u32) -> bool {
        let word = self.bits.get(number as usize / 64);
        word.is_some_and(|word| word >> (number % 64) & 1 != 0)
    }

    fn fill(&mut self) {
        for number in 0..self.count {
            self.mark(number);
        }
    }

    fn mark(&mut self, number: u32) {
        if let Some(word) = self.bits.get_mut(number as usize / 64) {
            let bit = 1 << (number % 64);
            if *word & bit == 0 {
                *word |= bit;
                self.list.push(number);
            }
        }
    }

    #[inline]
    fn clear(&mut self) {
        for number in self.list.drain(..) {
            if let Some(word) = self.bits.get_mut(number as usize / 64) {
                *word = 0;
            }
        }
    }
}
