//! The layout of a compiled ruleset: what the compiler writes and [`RuleSet`](super::RuleSet)
//! reads. Both sides of each record stand here, one above the other, so that they cannot drift.
//!
//! ```text
//! "PRTC" | version | total length | checksum (u64) | section table: (offset, length) × Section::COUNT
//! sections, each 8-aligned: records of fixed size, or plain bytes
//! ```
//!
//! All numbers are little-endian. References are indices into a section (records) or offset and
//! length (`Span`) into the text section. A ruleset of another version is refused: it is rebuilt
//! from its rules in milliseconds, so there is nothing to migrate.

use std::ops::Range;

use super::OpenError;
use crate::field::Lane;
use crate::normalise::Classes;

/// First bytes of every ruleset.
pub const MAGIC: [u8; 4] = *b"PRTC";

/// Version of this layout. Any change to this file that changes bytes raises it.
pub const VERSION: u32 = 10;

/// Bytes before what the checksum is of.
pub const FRAME_BYTES: usize = 20;

/// Bytes before the first section.
pub const HEADER_BYTES: usize = FRAME_BYTES + Section::COUNT * 8;

/// The parts of a ruleset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Section {
    /// Text that spans point into: literals, names, titles.
    Text,
    /// [`RuleRecord`]s.
    Rules,
    /// [`NodeRecord`]s: conditions as trees, children after their parents.
    Nodes,
    /// [`MatcherRecord`]s: the leaves.
    Matchers,
    /// [`LiteralRecord`]s.
    Literals,
    /// Indices of literals, grouped by matcher ([`Index`]).
    MatcherLiterals,
    /// Lists of the rules that literals make candidates (`u32`): how many, then their indices. Literals of the same
    /// rules share a list.
    Postings,
    /// Compiled regular expressions, see [`crate::dfa`].
    Dfas,
    /// [`CidrRecord`]s.
    Cidrs,
    /// One [`LaneRecord`] for each lane.
    Lanes,
    /// The lanes' bitmaps of grams.
    Bitmaps,
    /// Hash table of grams: for each of its slots, a power of two, the index of its first entry (`u32`), and behind
    /// the last one how many entries there are.
    Grams,
    /// [`GramEntryRecord`]s, grouped by slot.
    GramEntries,
    /// Indices of rules that wait for a class of bytes rather than for a literal (`u32`), grouped.
    ClassGates,
    /// [`Run`]s of those, one for each [`gate`].
    GateRuns,
    /// Indices of rules that every event has to evaluate (`u32`).
    Always,
    /// [`CorrelationRecord`]s.
    Correlations,
    /// [`ListenerRecord`]s, grouped by the rule that they listen to.
    Listeners,
    /// [`KeyRecord`]s, grouped by listener.
    Keys,
    /// Indices of rules that every response has to evaluate (`u32`).
    Answers,
}

impl Section {
    /// How many sections there are.
    pub const COUNT: usize = 20;

    /// All of them, in order.
    pub const ALL: [Section; Section::COUNT] = [
        Section::Text,
        Section::Rules,
        Section::Nodes,
        Section::Matchers,
        Section::Literals,
        Section::MatcherLiterals,
        Section::Postings,
        Section::Dfas,
        Section::Cidrs,
        Section::Lanes,
        Section::Bitmaps,
        Section::Grams,
        Section::GramEntries,
        Section::ClassGates,
        Section::GateRuns,
        Section::Always,
        Section::Correlations,
        Section::Listeners,
        Section::Keys,
        Section::Answers,
    ];
}

/// The checksum: every single flipped bit changes it, since each step is a bijection.
pub fn checksum(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut words = bytes.chunks_exact(8);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ bytes.len() as u64;
    for word in &mut words {
        let word = word
            .first_chunk::<8>()
            .map_or(0, |word| u64::from_le_bytes(*word));
        hash = (hash ^ word).wrapping_mul(PRIME).rotate_left(23);
    }
    for &byte in words.remainder() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    }
    hash
}

/// Reads numbers off the front of a record.
pub struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

/// A value with a fixed number of bytes in the layout.
pub trait Record: Sized {
    /// Bytes of the record.
    const BYTES: usize;
    /// Appends the record.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads the record off the front.
    fn read(from: &mut Reader<'_>) -> Option<Self>;
    /// Appends how many bytes each number in it has.
    fn widths(out: &mut Vec<usize>) {
        out.push(Self::BYTES);
    }
}

macro_rules! number_records {
    ($($type:ty)*) => {$(
        impl Record for $type {
            const BYTES: usize = size_of::<$type>();
            fn write(&self, out: &mut Vec<u8>) { out.extend_from_slice(&self.to_le_bytes()); }
            fn read(from: &mut Reader<'_>) -> Option<Self> { from.take().map(Self::from_le_bytes) }
        }
    )*};
}
number_records!(u8 u16 u32 u64 i64);

/// An index of which a ruleset holds many thousands, in three bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Index(pub u32);

impl Index {
    /// The first number that is no index.
    pub const END: u32 = 1 << 24;
}

impl Record for Index {
    const BYTES: usize = 3;
    fn write(&self, out: &mut Vec<u8>) {
        let [low, middle, high, _] = self.0.to_le_bytes();
        out.extend([low, middle, high]);
    }
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let [low, middle, high] = from.take()?;
        Some(Index(u32::from_le_bytes([low, middle, high, 0])))
    }
}

macro_rules! records {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Record for $name {
            const BYTES: usize = 0 $(+ <$type as Record>::BYTES)*;
            fn write(&self, out: &mut Vec<u8>) { $(self.$field.write(out);)* }
            fn read(from: &mut Reader<'_>) -> Option<Self> {
                Some($name { $($field: <$type as Record>::read(from)?,)* })
            }
            fn widths(out: &mut Vec<usize>) { $(<$type as Record>::widths(out);)* }
        }
    )*};
}

records! {
    /// A piece of the text section.
    Span {
        /// First byte.
        offset: u32,
        /// Bytes.
        len: u32,
    }

    /// A run of records of some other section.
    Run {
        /// First index.
        first: u32,
        /// How many.
        count: u32,
    }

    /// One rule.
    RuleRecord {
        /// The rule's UUID, or its path where it has none.
        id: Span,
        /// Title.
        title: Span,
        /// Path of the file the rule came from.
        path: Span,
        /// ATT&CK and other tags, separated by line feeds.
        tags: Span,
        /// Root of the condition, an index into the nodes; of a correlation its index among the
        /// [`CorrelationRecord`]s.
        root: u32,
        /// Index into [`crate::catalogue::ALERTS`].
        alert: u16,
        /// [`crate::catalogue::Severity`] by number.
        severity: u8,
        /// How sure a match is, 0 to 100.
        confidence: u8,
        /// [`crate::event::Source`] by number.
        source: u8,
        /// Whether the condition asks for a field that is known only with the response.
        needs_response: u8,
        /// The lanes that the condition reads, and [`RuleRecord::READS_MORE`].
        reads: u16,
        /// 1 if a match raises no alert of its own and is only counted.
        silent: u8,
        /// Zero.
        reserved: u8,
        /// The [`ListenerRecord`]s of the correlations that count its matches.
        listeners: Run,
    }

    /// One node of a condition.
    NodeRecord {
        /// [`NodeKind`] by number.
        kind: u8,
        /// Zero.
        reserved: u8,
        /// For [`NodeKind::AtLeast`]: how many children must hold.
        threshold: u16,
        /// Children: indices of nodes. For a leaf `first` is the matcher.
        children: Run,
    }

    /// One question about one field.
    MatcherRecord {
        /// [`crate::field::Field`] by number; [`MatcherRecord::ANY_FIELD`] for a keyword.
        field: u8,
        /// [`Op`] by number.
        op: u8,
        /// [`MatcherRecord::CASED`] and its like.
        flags: u8,
        /// Structural detectors: the confidence asked for. Structure: see [`Op::Structure`].
        detail: u8,
        /// For fields that are asked by name: the name in lower case; empty for all.
        name: Span,
        /// Literals, CIDRs, or the run of bytes in the DFA section.
        operand: Run,
        /// Number to compare with; for [`Op::FieldRef`] the other field's number; for [`Op::Regex`] the run of literals of
        /// which one stands in whatever matches, see [`MatcherRecord::required`].
        number: i64,
    }

    /// One text that is looked for.
    LiteralRecord {
        /// First byte of the text; in lower case if no cased matcher asks for it.
        text: u32,
        /// Bytes of the text.
        bytes: u16,
        /// Where the list of the rules that it makes candidates begins. [`LiteralRecord::NOT_SCANNED`] if there is none:
        /// only what the scan finds makes rules candidates, and only there a scan without it proves its absence.
        postings: Index,
        /// Lanes in which it counts, a set of [`crate::field::Lane::bit`].
        lanes: u8,
    }

    /// One network.
    CidrRecord {
        /// Address as IPv6, IPv4 mapped; high half.
        high: u64,
        /// Low half.
        low: u64,
        /// Bits of the prefix, of 128.
        bits: u8,
        /// Zero.
        pad: u8,
        /// Zero.
        reserved: u16,
        /// Zero.
        reserved_too: u32,
    }

    /// A lane's bitmap.
    LaneRecord {
        /// First byte of the lane's bitmap in its section.
        offset: u32,
        /// Binary logarithm of the bitmap's bits; 0 for a lane in which nothing is looked for.
        log2_bits: u8,
        /// [`LaneRecord::READ`] and its like.
        flags: u8,
        /// All classes of which some rule waits for a byte in this lane.
        text_gate: u16,
        /// All classes of which some rule's detector waits for a byte in this lane.
        structure_gate: u16,
    }

    /// One literal that holds a gram.
    GramEntryRecord {
        /// Index of the literal.
        literal: Index,
        /// [`mark_of`] the gram, which tells it from most others of its slot.
        mark: u8,
        /// Bytes of the literal before the gram; the compiler looks for grams in the first 64 KiB.
        before: u16,
    }

    /// What the matches of several rules come to.
    CorrelationRecord {
        /// The rule whose match it is: [`crate::event::Source::Correlation`].
        rule: u32,
        /// [`CorrelationKind`] by number.
        kind: u8,
        /// Zero.
        reserved: u8,
        /// How many rules it is about.
        inputs: u16,
        /// How long it looks back, in nanoseconds.
        timespan_ns: u64,
        /// The count with which it holds: of events, of distinct values, or of the rules that matched. Of
        /// [`CorrelationKind::NewValue`] how long a group learns, in nanoseconds.
        at_least: u64,
        /// The count up to which it holds.
        at_most: u64,
        /// Root of an expression over its rules, an index into the nodes, in place of a count; the leaves are
        /// places among its rules. [`CorrelationRecord::COUNTED`] if there is none.
        condition: u32,
    }

    /// One correlation that counts the matches of one rule.
    ListenerRecord {
        /// Index of the correlation.
        correlation: u32,
        /// The rule's place among those of the correlation.
        place: u16,
        /// 1 if the last of `keys` is the value that is counted; it is no part of the group then.
        has_value: u16,
        /// Where this rule's events have the values to group by: [`KeyRecord`]s.
        keys: Run,
    }

    /// A value of an event that a correlation groups by or counts.
    KeyRecord {
        /// [`crate::field::Field`] by number, or [`KeyRecord::ALERT_TYPE`].
        field: u8,
        /// Zero.
        reserved: u8,
        /// Zero.
        reserved_too: u16,
        /// For fields that are asked by name: the name in lower case.
        name: Span,
        /// What the correlation calls it.
        label: Span,
    }

}

impl LiteralRecord {
    /// `postings` of a literal that no scan looks for.
    pub const NOT_SCANNED: Index = Index(Index::END - 1);

    /// The text.
    pub fn span(&self) -> Span {
        Span {
            offset: self.text,
            len: u32::from(self.bytes),
        }
    }

    /// Whether the scan finds it.
    pub fn is_scanned(&self) -> bool {
        self.postings != LiteralRecord::NOT_SCANNED
    }
}

impl CorrelationRecord {
    /// `condition` of a correlation that holds by its count.
    pub const COUNTED: u32 = u32::MAX;
}

impl KeyRecord {
    /// `field` that stands for the alert type of the rule that matched.
    pub const ALERT_TYPE: u8 = 254;
    /// `field` that stands for the network of the client's address.
    pub const SOURCE_NETWORK: u8 = 253;
}

impl RuleRecord {
    /// In `reads`: a field that is in no lane, such as the method or the client's address.
    pub const READS_MORE: u16 = 1 << 15;
    /// Where `reads` stands in a record.
    pub const READS_AT: usize = 4 * Span::BYTES + u32::BYTES + u16::BYTES + 4;
    /// In `reads`: everything.
    pub const READS_ALL: u16 = u16::MAX;
}

impl LaneRecord {
    /// Some rule reads this lane.
    pub const READ: u8 = 1;
    /// Some rule waits for any text in this lane.
    pub const ANY_TEXT: u8 = 2;

    /// Whether some rule waits for something in this lane, so that it has to be scanned.
    pub const fn opens_rules(&self) -> bool {
        self.log2_bits != 0 || self.text_gate | self.structure_gate != 0 || self.any_text()
    }

    /// Whether some rule waits for any text in this lane.
    pub const fn any_text(&self) -> bool {
        self.flags & LaneRecord::ANY_TEXT != 0
    }

    /// Whether some rule reads this lane.
    pub const fn is_read(&self) -> bool {
        self.flags & LaneRecord::READ != 0
    }
}

impl MatcherRecord {
    /// `field` of a keyword: any field of the event.
    pub const ANY_FIELD: u8 = u8::MAX;
    /// Case counts.
    pub const CASED: u8 = 1;
    /// Only the text as it came counts, no decoded view.
    pub const RAW: u8 = 2;

    /// Literals of which one stands in whatever an expression matches; none if that is not known.
    pub fn required(&self) -> Run {
        let [a, b, c, d, e, f, g, h] = self.number.to_le_bytes();
        Run {
            first: u32::from_le_bytes([a, b, c, d]),
            count: u32::from_le_bytes([e, f, g, h]),
        }
    }

    /// What [`MatcherRecord::required`] reads.
    pub fn number_of(required: Run) -> i64 {
        i64::from(required.count) << 32 | i64::from(required.first)
    }
}

/// Folds the case of four bytes for hashing; maps a few other characters onto each other as well,
/// which only costs a verification.
#[inline]
pub fn fold_gram(gram: u32) -> u32 {
    gram | 0x2020_2020
}

/// The hash of a folded gram; its topmost bits, which depend on all four bytes, index the bitmaps.
#[inline]
pub fn hash_gram(gram: u32) -> u32 {
    gram.wrapping_mul(0x9e37_79b1)
}

/// A byte of another hash of a folded gram.
#[inline]
pub fn mark_of(gram: u32) -> u8 {
    let [.., top] = gram.wrapping_mul(0x85eb_ca6b).to_le_bytes();
    top
}

/// Where the search for a folded gram begins in a table of `slots`, a power of two.
#[inline]
pub fn slot_of(gram: u32, slots: usize) -> usize {
    hash_gram(gram).swap_bytes() as usize & slots.wrapping_sub(1)
}

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$variant_doc])* $variant = $number,)* }

        impl $name {
            /// The value with this number in a compiled ruleset.
            pub fn from_number(number: u8) -> Option<$name> {
                match number { $($number => Some($name::$variant),)* _ => None }
            }
        }
    };
}
pub(crate) use numbered;

numbered! {
    /// What a node of a condition does.
    NodeKind {
        /// All children hold.
        And = 0,
        /// Some child holds.
        Or = 1,
        /// The child does not hold.
        Not = 2,
        /// At least `threshold` children hold.
        AtLeast = 3,
        /// A matcher holds.
        Leaf = 4,
    }
}

numbered! {
    /// What a matcher asks.
    Op {
        /// The text is one of the literals.
        Equals = 0,
        /// The text holds one of the literals.
        Contains = 1,
        /// The text starts with one of the literals.
        StartsWith = 2,
        /// The text ends with one of the literals.
        EndsWith = 3,
        /// The whole text matches one of the wildcard patterns. In a pattern's literal text the
        /// bytes 0xFE (any run of characters) and 0xFD (any one character) stand for wildcards:
        /// neither occurs in UTF-8.
        Wildcard = 4,
        /// The regular expression matches somewhere.
        Regex = 5,
        /// The address is in one of the networks.
        Cidr = 6,
        /// The field is there (`number` 1) or is not (`number` 0).
        Exists = 7,
        /// The number equals.
        NumEq = 8,
        /// The number is smaller.
        NumLt = 9,
        /// The number is smaller or equal.
        NumLte = 10,
        /// The number is greater.
        NumGt = 11,
        /// The number is greater or equal.
        NumGte = 12,
        /// The text equals that of another field.
        FieldRef = 13,
        /// The text starts with that of another field.
        FieldRefStartsWith = 14,
        /// The text ends with that of another field.
        FieldRefEndsWith = 15,
        /// The text contains that of another field.
        FieldRefContains = 16,
        /// A structural detector finds something: `number` is its kind, `detail` the confidence.
        Structure = 17,
    }
}

numbered! {
    /// What a correlation counts.
    CorrelationKind {
        /// Events that some rule matched.
        EventCount = 0,
        /// Distinct values of a field in these events.
        ValueCount = 1,
        /// Rules that matched, in any order.
        Temporal = 2,
        /// Rules that matched, each after the one before it.
        TemporalOrdered = 3,
        /// A value that the group has not had within the timespan, once it has learned which ones it has.
        NewValue = 4,
    }
}

impl Op {
    /// Whether the question is one for some text of the rule's own to be there, which a rule can wait for.
    pub const fn asks_for_text(self) -> bool {
        matches!(
            self,
            Op::Equals
                | Op::Contains
                | Op::StartsWith
                | Op::EndsWith
                | Op::Wildcard
                | Op::Regex
                | Op::Structure
        )
    }

    /// Whether the question compares with the text of another field.
    pub const fn compares_fields(self) -> bool {
        matches!(
            self,
            Op::FieldRef | Op::FieldRefStartsWith | Op::FieldRefEndsWith | Op::FieldRefContains
        )
    }
}

/// Stands for `*` in a wildcard literal.
pub const WILDCARD_MANY: u8 = 0xfe;
/// Stands for `?` in a wildcard literal.
pub const WILDCARD_ONE: u8 = 0xfd;

numbered! {
    /// What a rule does with a text that has a byte it waits for.
    Wait {
        /// Compares it: every text counts.
        Text = 0,
        /// Has a detector read it: separators and texts that are read in a plainer view do not count.
        Structure = 1,
    }
}

/// Stands for any text at all, in place of the number of a class.
pub const ANY_TEXT: u32 = Classes::BITS;

/// Gates there are.
pub const GATES: usize = 2 * Lane::COUNT * (ANY_TEXT as usize + 1);

/// The number of the gate that a byte of this class, bit `class` of [`Classes`], opens in this lane.
pub const fn gate(wait: Wait, lane: Lane, class: u32) -> usize {
    (wait as usize * Lane::COUNT + lane as usize) * (ANY_TEXT as usize + 1) + class as usize
}

/// Checks the front of a ruleset or a packed one: magic, version, length and checksum. Gives what follows.
pub(super) fn framed(bytes: &[u8], magic: [u8; 4]) -> Result<Reader<'_>, OpenError> {
    let mut header = Reader(bytes.strip_prefix(&magic).ok_or(OpenError::NotARuleset)?);
    let mut number = || u32::read(&mut header).ok_or(OpenError::NotARuleset);
    let version = number()?;
    if version != VERSION {
        return Err(OpenError::Version { found: version });
    }
    let expected = u64::from(number()?);
    let found = bytes.len() as u64;
    if expected != found || bytes.len() < FRAME_BYTES {
        return Err(OpenError::Length { expected, found });
    }
    let sum = u64::from(number()?) | u64::from(number()?) << 32;
    match checksum(header.0) == sum {
        true => Ok(header),
        false => Err(OpenError::Checksum),
    }
}

/// Puts a frame around what is packed.
pub fn packed(mut rest: Vec<u8>) -> Vec<u8> {
    let mut out = super::packed::MAGIC.to_vec();
    VERSION.write(&mut out);
    ((FRAME_BYTES + rest.len()) as u32).write(&mut out);
    checksum(&rest).write(&mut out);
    out.append(&mut rest);
    out
}

/// A ruleset whose sections have these lengths and are not written yet, and where they lie.
pub(super) fn frame(
    lengths: &[usize; Section::COUNT],
    sum: u64,
) -> (Vec<u8>, [Range<usize>; Section::COUNT]) {
    let mut end = HEADER_BYTES;
    let places = lengths.map(|length| {
        let start = end.next_multiple_of(8);
        end = start + length;
        start..end
    });
    let mut out = Vec::with_capacity(end);
    out.extend_from_slice(&MAGIC);
    VERSION.write(&mut out);
    (end as u32).write(&mut out);
    sum.write(&mut out);
    for place in &places {
        (place.start as u32).write(&mut out);
        (place.len() as u32).write(&mut out);
    }
    out.resize(end, 0);
    (out, places)
}

/// Puts sections together to a ruleset: the frame that `RuleSet::open` checks.
pub fn assemble(sections: &[Vec<u8>]) -> Vec<u8> {
    let mut lengths = [0; Section::COUNT];
    for (length, section) in lengths.iter_mut().zip(sections) {
        *length = section.len();
    }
    let (mut out, places) = frame(&lengths, 0);
    for (place, section) in places.into_iter().zip(sections) {
        if let Some(to) = out.get_mut(place) {
            to.copy_from_slice(section);
        }
    }
    let sum = checksum(out.get(FRAME_BYTES..).unwrap_or_default());
    if let Some(to) = out.get_mut(FRAME_BYTES - u64::BYTES..FRAME_BYTES) {
        to.copy_from_slice(&sum.to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_reads_stands_where_it_is_read() {
        let rule = RuleRecord {
            reads: 0x1234,
            ..RuleRecord::default()
        };
        let mut bytes = Vec::new();
        rule.write(&mut bytes);
        assert_eq!(bytes.len(), RuleRecord::BYTES);
        let at = bytes.get(RuleRecord::READS_AT..).unwrap_or_default();
        assert!(at.starts_with(&[0x34, 0x12]));
    }
}
