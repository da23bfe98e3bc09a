//! The groups that share a slot of memory: which one is meant, and which gives way when there are too many.
//!
//! ```text
//! slot:   group │ group │ … at most CORRELATION_WAYS and CORRELATION_SLOT_BYTES
//! group:  key (16 bytes) │ newest │ over │ quiet until │ rank, late, level, count │ count × (time, what)
//! ```
//!
//! All numbers are little-endian. A slot that does not read as this (another version wrote it) is read as far as it does.

use super::memory::Memory;
use super::window::{Seen, Window};
use crate::limits;
use crate::ruleset::layout::{Reader, Record};
use crate::sorted;

/// Bytes of a group without its entries.
pub const GROUP_BYTES: usize = 16 + 3 * 8 + 4 + 4;
/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 16;

/// A correlation and its values, or an incident.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    key: u128,
    pub newest_ns: i64,
    /// When nothing of it counts any more.
    pub over_ns: i64,
    /// It has fired, and does not again before this time. Of a baseline: until when it only learns.
    pub quiet_until_ns: i64,
    /// How suspicious it is: the count, and the most once it has fired.
    rank: u8,
    /// Events in a row that came too late to count.
    late: u8,
    pub window: Window,
}

/// The rank of a group that has fired.
const FIRED: u8 = u8::MAX;

/// So many events in a row that are older than the window: then it is not they that are late, the clock has been set back.
const CLOCK_SET_BACK: u8 = 8;

impl Group {
    /// Moves the window to this event. Returns whether the event is in it.
    pub fn reach(&mut self, time_ns: i64, timespan_ns: i64) -> bool {
        if time_ns < self.newest_ns.saturating_sub(timespan_ns) {
            self.late = self.late.saturating_add(1);
            if self.late < CLOCK_SET_BACK {
                return false;
            }
            self.begin(self.key, time_ns);
        }
        self.late = 0;
        self.newest_ns = self.newest_ns.max(time_ns);
        self.over_ns = self.over_ns.max(time_ns.saturating_add(timespan_ns));
        self.window
            .forget(self.newest_ns.saturating_sub(timespan_ns));
        true
    }

    /// Notes how suspicious the group is. Returns whether the correlation fires: it `holds`, and has not fired
    /// within the timespan.
    pub fn rank(&mut self, count: u64, holds: bool, timespan_ns: i64) -> bool {
        let is_quiet = self.newest_ns < self.quiet_until_ns;
        let fires = holds && !is_quiet;
        if fires {
            self.quiet_until_ns = self.newest_ns.saturating_add(timespan_ns);
            self.over_ns = self.over_ns.max(self.quiet_until_ns);
        }
        match fires || is_quiet {
            true => self.rank = FIRED,
            false => self.weigh(count),
        }
        fires
    }

    /// Notes that the group is worth so much.
    pub fn weigh(&mut self, worth: u64) {
        self.rank = u8::try_from(worth).unwrap_or(FIRED - 1).min(FIRED - 1);
    }

    /// Forgets everything.
    pub fn begin_anew(&mut self, time_ns: i64) {
        self.begin(self.key, time_ns);
    }

    fn begin(&mut self, key: u128, time_ns: i64) {
        self.key = key;
        self.newest_ns = time_ns;
        self.over_ns = time_ns;
        self.quiet_until_ns = i64::MIN;
        self.rank = 0;
        self.late = 0;
        self.window.clear();
    }

    fn bytes(&self) -> usize {
        GROUP_BYTES + self.window.seen.len() * ENTRY_BYTES
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.to_le_bytes());
        for time_ns in [self.newest_ns, self.over_ns, self.quiet_until_ns] {
            time_ns.write(out);
        }
        let count = u8::try_from(self.window.seen.len()).unwrap_or(u8::MAX);
        out.extend_from_slice(&[self.rank, self.late, self.window.level, count, 0, 0, 0, 0]);
        for seen in self.window.seen.iter().take(usize::from(count)) {
            seen.time_ns.write(out);
            seen.what.write(out);
        }
    }

    /// Reads what [`Head::read`] has found.
    fn read(&mut self, head: &Head, entries: &[u8]) {
        self.key = head.key;
        self.newest_ns = head.newest_ns;
        self.over_ns = head.over_ns;
        self.quiet_until_ns = head.quiet_until_ns;
        self.rank = head.rank;
        self.late = head.late;
        self.window.level = head.level;
        self.window.seen.clear();
        let mut reader = Reader(entries);
        while let (Some(time_ns), Some(what)) = (i64::read(&mut reader), u64::read(&mut reader)) {
            self.window.seen.push(Seen { time_ns, what });
        }
    }
}

/// A group without its entries, and where it is.
#[derive(Clone, Copy, Debug)]
struct Head {
    key: u128,
    pub newest_ns: i64,
    pub over_ns: i64,
    quiet_until_ns: i64,
    rank: u8,
    late: u8,
    level: u8,
    /// First byte of it, of its entries, and the one behind them.
    at: (usize, usize, usize),
}

impl Head {
    fn read(bytes: &[u8], at: usize) -> Option<Head> {
        let mut reader = Reader(bytes.get(at..)?);
        let (low, high) = (u64::read(&mut reader)?, u64::read(&mut reader)?);
        let mut time = || i64::read(&mut reader);
        let (newest_ns, over_ns, quiet_until_ns) = (time()?, time()?, time()?);
        let mut byte = || u8::read(&mut reader);
        let (rank, late, level, count) = (byte()?, byte()?, byte()?, byte()?);
        let entries = at + GROUP_BYTES;
        let end = entries + usize::from(count) * ENTRY_BYTES;
        (end <= bytes.len()).then_some(Head {
            key: u128::from(high) << 64 | u128::from(low),
            newest_ns,
            over_ns,
            quiet_until_ns,
            rank,
            late,
            level,
            at: (at, entries, end),
        })
    }

    /// What is given up first has the least worth: what is over, the least suspicious, the oldest.
    fn worth(&self, time_ns: i64) -> (bool, u8, i64) {
        match self.over_ns < time_ns {
            true => (false, 0, self.newest_ns),
            false => (true, self.rank, self.newest_ns),
        }
    }

    /// Whether a newcomer gets the place of this one, which is worth least of all.
    ///
    /// When places change hands much faster than windows pass, no newcomer would keep its place until it comes again. So
    /// then only some get one, the fewer the younger the one is that would have to go, and keep it the longer; whoever
    /// goes on gets his turn. Which ones is decided by a hash of the event, the same in every replay.
    fn yields(&self, key: u128, time_ns: i64, timespan_ns: i64) -> bool {
        let patience_ns = (timespan_ns / PATIENCE).max(1);
        let age_ns = time_ns.saturating_sub(self.newest_ns).max(0);
        if self.over_ns < time_ns || age_ns >= patience_ns {
            return true;
        }
        let least = 65_536 / LEAST_CHANCE;
        let chance = (i128::from(age_ns) * 65_536 / i128::from(patience_ns)) as u64;
        let drawn = (key as u64 ^ time_ns as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        drawn < chance.max(least)
    }
}

/// A place that was taken a part of the timespan ago, one in so many, is free to be taken again.
const PATIENCE: i64 = 8;
/// However fast places change hands, a newcomer gets one with a chance of one in so many.
const LEAST_CHANCE: u64 = 64;

/// What became of an event that a group should count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted<T> {
    /// It was counted.
    Yes(T),
    /// There was no place for a new group, or the memory could not be changed.
    NoRoom,
}

/// Finds groups in one part of a memory.
#[derive(Debug, Default)]
pub struct Groups {
    group: Group,
    heads: Vec<Head>,
}

impl Groups {
    /// Shows the group with this key to `count` and keeps what it makes of it. A new one takes the place of one that is
    /// over, else that of the least suspicious, of several the oldest. `first` and `slots` say which part of the memory is
    /// meant.
    pub fn update<T>(
        &mut self,
        memory: &mut dyn Memory,
        (first, slots): (u32, u32),
        key: u128,
        time_ns: i64,
        timespan_ns: i64,
        mut count: impl FnMut(&mut Group) -> T,
    ) -> Counted<T> {
        let slot = first + (key as u32) % slots.max(1);
        let mut result = None;
        let made = memory.update(slot, &mut |bytes, out| {
            result = self.change(bytes, out, key, time_ns, timespan_ns, &mut count);
        });
        match result {
            Some(result) if made => Counted::Yes(result),
            _ => Counted::NoRoom,
        }
    }

    fn change<T>(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        key: u128,
        time_ns: i64,
        timespan_ns: i64,
        count: &mut impl FnMut(&mut Group) -> T,
    ) -> Option<T> {
        let Groups { group, heads } = self;
        heads.clear();
        let mut known = None;
        let mut at = 0;
        while let Some(head) = Head::read(bytes, at) {
            at = head.at.2;
            match head.key == key {
                true => known = Some(head),
                false => heads.push(head),
            }
        }
        match known {
            Some(head) => group.read(&head, bytes.get(head.at.1..head.at.2)?),
            None => group.begin(key, time_ns),
        }
        sorted::by_key(heads, |head| {
            let (is_current, rank, newest_ns) = head.worth(time_ns);
            let rank = i128::from(is_current) << 8 | i128::from(rank);
            -((rank << 64) + i128::from(newest_ns))
        });
        if known.is_none() && heads.len() >= limits::CORRELATION_WAYS {
            let last = heads.last()?;
            if !last.yields(key, time_ns, timespan_ns) {
                return None;
            }
        }
        let result = count(group);
        let mut room = limits::CORRELATION_SLOT_BYTES.saturating_sub(group.bytes());
        heads.truncate(limits::CORRELATION_WAYS - 1);
        for head in &*heads {
            let (from, _, to) = head.at;
            let kept = bytes.get(from..to).filter(|kept| kept.len() <= room);
            // What is worth less than one that has no room may still have some.
            if let Some(kept) = kept {
                room -= kept.len();
                out.extend_from_slice(kept);
            }
        }
        group.write(out);
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::memory::Local;
    use super::*;

    const MINUTE: i64 = 60_000_000_000;
    const SLOTS: (u32, u32) = (0, limits::CORRELATION_SLOTS);

    /// Groups and where they are.
    #[derive(Default)]
    struct Table {
        groups: Groups,
        memory: Local,
    }

    impl Table {
        /// Counts one event; returns how many there are, 0 if there is no room.
        fn event(&mut self, key: u128, time_ns: i64) -> u64 {
            self.event_for(key, time_ns, MINUTE)
        }

        fn event_for(&mut self, key: u128, time_ns: i64, timespan_ns: i64) -> u64 {
            let count = |group: &mut Group| {
                if !group.reach(time_ns, timespan_ns) {
                    return 0;
                }
                group.window.event(time_ns, timespan_ns);
                let count = group.window.events();
                group.rank(count, false, timespan_ns);
                count
            };
            let memory = &mut self.memory;
            match self
                .groups
                .update(memory, SLOTS, key, time_ns, timespan_ns, count)
            {
                Counted::Yes(count) => count,
                Counted::NoRoom => 0,
            }
        }

        fn fires(&mut self, key: u128, time_ns: i64) -> bool {
            let count = |group: &mut Group| {
                group.reach(time_ns, MINUTE);
                group.rank(1, true, MINUTE)
            };
            let memory = &mut self.memory;
            let fires = self
                .groups
                .update(memory, SLOTS, key, time_ns, MINUTE, count);
            fires == Counted::Yes(true)
        }
    }

    /// A key that falls into this slot.
    fn key(slot: u32, number: u64) -> u128 {
        u128::from(number) << 64 | u128::from(slot)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut table = Table::default();
        for number in 0..10 {
            for event in 0..=number as i64 {
                table.event(key(5, number), 1 + event);
            }
        }
        for number in 0..10 {
            assert_eq!(table.event(key(5, number), 100), number + 2);
        }
    }

    #[test]
    fn bytes_that_nobody_wrote_are_read_as_far_as_they_go() {
        let mut groups = Groups::default();
        let mut memory = Local::default();
        for length in [0, 1, 47, 48, 49, 1_000, 9_000] {
            for byte in [0, 1, 0x7f, 0xff] {
                memory.update(0, &mut |_, out| out.resize(length, byte));
                let count = |group: &mut Group| group.reach(1, MINUTE);
                groups.update(&mut memory, SLOTS, key(0, 1), 1, MINUTE, count);
                memory.update(0, &mut |bytes, _| {
                    assert!(bytes.len() <= limits::CORRELATION_SLOT_BYTES.max(length));
                });
            }
        }
    }

    #[test]
    fn a_full_slot_gives_up_what_is_over_then_the_least_suspicious_then_the_oldest() {
        let mut table = Table::default();
        let ways = limits::CORRELATION_WAYS as u64;
        for number in 0..ways {
            table.event(key(7, number), 1 + number as i64);
        }
        // All but the third and the last are seen twice.
        for number in (0..ways).filter(|number| ![2, ways - 1].contains(number)) {
            assert_eq!(table.event(key(7, number), 100), 2);
        }
        // Places are old enough to be taken by whoever comes.
        let later = MINUTE / 4;
        assert_eq!(table.event(key(7, 100), later + 101), 1);
        assert_eq!(table.event(key(7, 0), later + 102), 3);
        assert_eq!(table.event(key(7, ways - 1), later + 103), 2);
        assert_eq!(table.event(key(7, 100), later + 104), 2);
        assert_eq!(table.event(key(7, 2), 2 * later + 104), 1, "gave way");
        // After two minutes nothing counts any more.
        assert_eq!(table.event(key(7, 200), 3 * MINUTE), 1);
        assert_eq!(table.event(key(7, 0), 3 * MINUTE), 1);
        // Another slot has all its places.
        assert_eq!(table.event(key(8, 0), 3 * MINUTE), 1);
    }

    #[test]
    fn a_group_that_has_fired_outlives_any_count() {
        let mut table = Table::default();
        assert!(table.fires(key(0, 0), 1));
        for number in 1..1000 {
            for _ in 0..5 {
                table.event(key(0, number), 2 + number as i64 * 10_000_000);
            }
        }
        assert!(!table.fires(key(0, 0), 3), "fired again");
        assert!(table.fires(key(0, 0), 1 + MINUTE), "stayed quiet");
    }

    #[test]
    fn a_clock_that_is_set_back_is_believed_in_the_end() {
        let mut table = Table::default();
        let now = 100 * MINUTE;
        assert_eq!(table.event(key(0, 0), now), 1);
        // One straggler, and one that is in time.
        assert_eq!(table.event(key(0, 0), 1), 0);
        assert_eq!(table.event(key(0, 0), now), 2);
        for late in 1..8 {
            assert_eq!(table.event(key(0, 0), late), 0, "{late}");
        }
        assert_eq!(table.event(key(0, 0), 8), 1);
        assert_eq!(table.event(key(0, 0), 9), 2);
        // And the other way: a clock that was wrong for a moment.
        assert_eq!(table.event(key(0, 0), i64::MAX), 1);
        for _ in 1..8 {
            assert_eq!(table.event(key(0, 0), now), 0);
        }
        assert_eq!(table.event(key(0, 0), now), 1);
    }

    /// What a flood of sources that come once each does to memory and to those that come again.
    struct Flood {
        bytes: usize,
        /// How often each attacker was counted at the end.
        attackers: Vec<u64>,
    }

    /// `sources` in ten minutes, and attackers that come so many seconds apart all the while. The timespan is the ten minutes.
    fn flood(sources: u64, attackers: &[i64]) -> Flood {
        const SECOND: i64 = 1_000_000_000;
        const TIMESPAN: i64 = 600 * SECOND;
        let mut table = Table::default();
        let step_ns = TIMESPAN / sources as i64;
        let mut next: Vec<i64> = attackers.iter().map(|_| 0).collect();
        let mut counts: Vec<u64> = attackers.iter().map(|_| 0).collect();
        for number in 0..sources {
            let time_ns = 1 + number as i64 * step_ns;
            let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            table.event_for(
                key((spread >> 32) as u32, number + 1_000),
                time_ns,
                TIMESPAN,
            );
            for (at, period) in attackers.iter().enumerate() {
                if time_ns >= next[at] {
                    next[at] = time_ns + period * SECOND;
                    let attacker = key(7 * at as u32, at as u64);
                    counts[at] = table.event_for(attacker, time_ns, TIMESPAN);
                }
            }
        }
        Flood {
            bytes: table.memory.bytes(),
            attackers: counts,
        }
    }

    fn check_flood(sources: u64) {
        // A source that comes again before 16,384 others have come in between is never lost.
        let per_second = sources as f64 / 600.0;
        let never_lost = (16_384.0 / per_second / 2.0).floor().max(1.0) as i64;
        let never_lost = never_lost.min(60);
        let slower = (never_lost * 4).min(60);
        let flood = flood(sources, &[never_lost, slower]);
        eprintln!(
            "{sources} sources in ten minutes: {} KiB; one that came every {never_lost} s was counted {} times, one that came \
             every {slower} s {} times",
            flood.bytes / 1024,
            flood.attackers[0],
            flood.attackers[1],
        );
        let most = limits::CORRELATION_SLOTS as usize * limits::CORRELATION_SLOT_BYTES;
        assert!(flood.bytes <= most);
        let sent = 600 / never_lost as u64;
        assert!(
            flood.attackers[0] >= sent - sent / 20,
            "{:?}",
            flood.attackers
        );
        assert!(flood.attackers[1] >= 8, "{:?}", flood.attackers);
    }

    #[test]
    fn a_flood_of_sources_costs_bounded_memory_and_loses_nobody_who_goes_on() {
        check_flood(10_000);
        check_flood(100_000);
    }

    /// `cargo test --release -p portcullis -- --ignored flood --nocapture`
    #[test]
    #[ignore = "takes a minute without optimisation"]
    fn a_flood_of_ten_million_sources() {
        for sources in [10_000, 1_000_000, 10_000_000] {
            check_flood(sources);
        }
    }

    #[test]
    fn memory_stays_within_what_is_documented_when_every_group_is_full() {
        let mut table = Table::default();
        let slots = 64;
        for number in 0..u64::from(slots) * 20 {
            for event in 0..60 {
                let slot = number as u32 % slots;
                table.event(key(slot, number), event);
            }
        }
        let bytes = table.memory.bytes();
        let most = slots as usize * limits::CORRELATION_SLOT_BYTES;
        assert!(bytes <= most && bytes > most / 2, "{bytes}");
    }
}
