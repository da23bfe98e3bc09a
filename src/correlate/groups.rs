//! The groups of all correlations, in a table that never grows.

use super::window::Window;
use crate::limits;

/// A correlation and its values.
#[derive(Debug)]
pub struct Group {
    key: u128,
    newest_ns: i64,
    /// When nothing of it counts any more.
    over_ns: i64,
    /// It has fired, and does not again before this time.
    quiet_until_ns: i64,
    /// How suspicious it is: the count, and the most once it has fired.
    rank: u8,
    pub window: Window,
}

/// The rank of a group that has fired.
const FIRED: u8 = u8::MAX;

impl Group {
    /// Moves the window to this event. Returns whether the event is in it.
    pub fn reach(&mut self, time_ns: i64, timespan_ns: i64) -> bool {
        self.newest_ns = self.newest_ns.max(time_ns);
        self.over_ns = self.over_ns.max(time_ns.saturating_add(timespan_ns));
        let begin_ns = self.newest_ns.saturating_sub(timespan_ns);
        self.window.forget(begin_ns);
        time_ns >= begin_ns
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
        self.rank = match fires || is_quiet {
            true => FIRED,
            false => u8::try_from(count).unwrap_or(FIRED - 1).min(FIRED - 1),
        };
        fires
    }
}

/// All groups: sets of [`limits::CORRELATION_WAYS`], of which the key chooses one.
#[derive(Debug, Default)]
pub struct Groups {
    slots: Vec<Option<Group>>,
}

const SETS: usize = limits::CORRELATION_GROUPS / limits::CORRELATION_WAYS;

impl Groups {
    /// The group with this key. A new one takes a free place, else that of a group whose window is over at
    /// this time, else that of the least suspicious, of several the oldest. `None` never happens.
    pub fn of(&mut self, key: u128, time_ns: i64, timespan_ns: i64) -> Option<&mut Group> {
        self.slots
            .resize_with(limits::CORRELATION_GROUPS, Option::default);
        let first = (key as usize % SETS) * limits::CORRELATION_WAYS;
        let set = self
            .slots
            .get_mut(first..first + limits::CORRELATION_WAYS)?;
        let worth = |slot: &Option<Group>| match slot {
            Some(group) if group.key == key => (0, 0, 0),
            None => (1, 0, 0),
            Some(group) if group.over_ns < time_ns => (2, 0, group.newest_ns),
            Some(group) => (3, group.rank, group.newest_ns),
        };
        let slot = set.iter_mut().min_by_key(|slot| worth(slot))?;
        if slot.as_ref().is_none_or(|group| group.key != key) {
            // The memory of the old one's entries serves again.
            let mut window = slot.take().map(|old| old.window).unwrap_or_default();
            window.clear();
            *slot = Some(Group {
                key,
                newest_ns: time_ns,
                over_ns: time_ns.saturating_add(timespan_ns),
                quiet_until_ns: i64::MIN,
                rank: 0,
                window,
            });
        }
        slot.as_mut()
    }

    /// Bytes of memory.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let windows = self.slots.iter().flatten();
        self.slots.capacity() * size_of::<Option<Group>>()
            + windows.map(|group| group.window.bytes()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MINUTE: i64 = 60_000_000_000;

    /// A key that falls into this set.
    fn key(set: u64, number: u64) -> u128 {
        u128::from(number) << 64 | u128::from(set)
    }

    /// Counts one event; returns how many there are.
    fn event(groups: &mut Groups, key: u128, time_ns: i64) -> u64 {
        let group = groups.of(key, time_ns, MINUTE).unwrap();
        assert!(group.reach(time_ns, MINUTE));
        group.window.event(time_ns, MINUTE);
        let count = group.window.events();
        group.rank(count, false, MINUTE);
        count
    }

    #[test]
    fn a_full_set_gives_up_what_is_over_then_the_least_suspicious_then_the_oldest() {
        let mut groups = Groups::default();
        let ways = limits::CORRELATION_WAYS as u64;
        for number in 0..ways {
            event(&mut groups, key(7, number), 1 + number as i64);
        }
        // All but the third and the last are seen twice.
        for number in (0..ways).filter(|number| ![2, ways - 1].contains(number)) {
            assert_eq!(event(&mut groups, key(7, number), 100), 2);
        }
        event(&mut groups, key(7, 100), 101);
        assert_eq!(event(&mut groups, key(7, 0), 102), 3);
        assert_eq!(event(&mut groups, key(7, ways - 1), 103), 2);
        assert_eq!(event(&mut groups, key(7, 2), 104), 1, "gave way");
        // Half a minute later everything still counts, and after two minutes nothing does.
        assert_eq!(event(&mut groups, key(7, 0), MINUTE / 2), 4);
        assert_eq!(event(&mut groups, key(7, 200), 2 * MINUTE), 1);
        assert_eq!(event(&mut groups, key(7, 0), 2 * MINUTE), 1);
        // Another set has all its places.
        assert_eq!(event(&mut groups, key(8, 0), 2 * MINUTE), 1);
    }

    #[test]
    fn a_group_that_has_fired_outlives_any_count() {
        let mut groups = Groups::default();
        let group = groups.of(key(0, 0), 1, MINUTE).unwrap();
        group.reach(1, MINUTE);
        assert!(group.rank(1, true, MINUTE));
        for number in 1..1000 {
            for _ in 0..5 {
                event(&mut groups, key(0, number), 2);
            }
        }
        let group = groups.of(key(0, 0), 3, MINUTE).unwrap();
        group.reach(3, MINUTE);
        assert!(!group.rank(1, true, MINUTE), "fired again");
        group.reach(1 + MINUTE, MINUTE);
        assert!(group.rank(1, true, MINUTE), "stayed quiet");
    }

    #[test]
    fn ten_million_sources_could_come_and_one_that_goes_on_stays() {
        let mut groups = Groups::default();
        let mut attacker = 0;
        let mut most = 0;
        for number in 0..200_000_u64 {
            // 10,000 new sources a second, one event each.
            let time_ns = 1 + number as i64 * 100_000;
            let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            event(&mut groups, key(spread >> 32, number + 1), time_ns);
            if number % 2_500 == 0 {
                attacker = event(&mut groups, key(3, 0), time_ns + 1);
            }
            most = most.max(if number % 1_000 == 0 {
                groups.bytes()
            } else {
                0
            });
        }
        assert_eq!(attacker, 80);
        let slots = limits::CORRELATION_GROUPS;
        assert!(groups.slots.iter().flatten().count() > slots * 9 / 10);
        let documented = slots * (80 + 16 * limits::CORRELATION_ENTRIES);
        assert!(most < documented / 5, "{most} bytes");
    }

    #[test]
    fn memory_stays_within_what_is_documented_when_every_group_is_full() {
        let mut groups = Groups::default();
        for number in 0..limits::CORRELATION_GROUPS as u64 {
            for event_number in 0..100 {
                event(&mut groups, key(number, number / SETS as u64), event_number);
            }
        }
        let documented = limits::CORRELATION_GROUPS * (80 + 16 * limits::CORRELATION_ENTRIES);
        let bytes = groups.bytes();
        assert!(
            bytes <= documented && bytes > documented * 9 / 10,
            "{bytes}"
        );
    }
}
