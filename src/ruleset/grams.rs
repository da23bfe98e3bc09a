//! The tables by which a scan finds literals: written by the compiler, and once more when a packed ruleset is unpacked, which
//! does not bring them.

use super::layout::{GramEntryRecord, Index, LaneRecord, Record, hash_gram, mark_of, slot_of};
use crate::field::Lane;

/// A literal that a scan finds, by one of its grams.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// Its index.
    pub literal: u32,
    /// The lanes in which it counts.
    pub lanes: u8,
    /// The gram, folded.
    pub gram: u32,
    /// Bytes of the literal before the gram.
    pub before: u16,
}

/// The bitmaps of lanes, `bytes` in all. A lane whose bitmap would not fit has none.
pub fn bitmaps(placed: &[Placed], lanes: &[LaneRecord], bytes: usize) -> Vec<u8> {
    let mut all = vec![0_u8; bytes];
    for (lane, record) in Lane::ALL.iter().zip(lanes) {
        let start = record.offset as usize;
        let len = 1_usize.checked_shl(record.log2_bits.into()).unwrap_or(0) / 8;
        let Some(bitmap) = all.get_mut(start..start.saturating_add(len)) else {
            continue;
        };
        for one in placed.iter().filter(|one| one.lanes & lane.bit() != 0) {
            let bit = 32_u32.checked_sub(record.log2_bits.into());
            let bit = bit.and_then(|shift| hash_gram(one.gram).checked_shr(shift));
            let bit = bit.unwrap_or(0) as usize;
            if let Some(byte) = bitmap.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    all
}

/// The hash table of grams, of so many slots, and the entries it points to, those of a slot by literal.
pub fn table(placed: &[Placed], slots: usize) -> (Vec<u8>, Vec<u8>) {
    let mut bounds = vec![0_u32; slots.saturating_add(1)];
    for one in placed {
        if let Some(bound) = bounds.get_mut(slot_of(one.gram, slots)) {
            *bound += 1;
        }
    }
    // From how many entries a slot has to where they end, and with each that is placed, from the last, to where they begin.
    let mut end = 0;
    for bound in &mut bounds {
        end += *bound;
        *bound = end;
    }
    let mut entries = vec![GramEntryRecord::default(); placed.len()];
    for one in placed.iter().rev() {
        let Some(bound) = bounds.get_mut(slot_of(one.gram, slots)) else {
            continue;
        };
        *bound = bound.saturating_sub(1);
        if let Some(entry) = entries.get_mut(*bound as usize) {
            *entry = GramEntryRecord {
                literal: Index(one.literal),
                mark: mark_of(one.gram),
                before: one.before,
            };
        }
    }
    let mut table = Vec::with_capacity(bounds.len() * u32::BYTES);
    bounds.iter().for_each(|bound| bound.write(&mut table));
    let mut written = Vec::with_capacity(entries.len() * GramEntryRecord::BYTES);
    entries.iter().for_each(|entry| entry.write(&mut written));
    (table, written)
}
