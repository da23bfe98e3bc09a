//! What one group has seen within the timespan, in a bounded number of entries.

use crate::limits;
use crate::sorted;

/// Something at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub time_ns: i64,
    /// Of events how many, of values a hash, of rules their place, of steps see [`Window::step`].
    pub what: u64,
}

/// At most [`limits::CORRELATION_ENTRIES`] things that were seen. Which of the methods fill it depends on the
/// kind of the correlation, which for one group is always the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub seen: Vec<Seen>,
    /// Of values only those are kept whose hash ends in so many zeros: one in `2^level`.
    pub level: u8,
}

/// With fewer values than this the window takes more of them in again.
const FEW: usize = limits::CORRELATION_ENTRIES / 4;

impl Window {
    /// Forgets what was seen before this time.
    pub fn forget(&mut self, before_ns: i64) {
        self.seen.retain(|seen| seen.time_ns >= before_ns);
        if self.seen.len() < FEW {
            self.level = self.level.saturating_sub(1);
        }
    }

    pub fn clear(&mut self) {
        self.seen.clear();
        self.level = 0;
    }

    /// How many different things were seen: exact as long as none was left out, else an estimate.
    pub fn len(&self) -> u64 {
        (self.seen.len() as u64) << self.level.min(32)
    }

    /// Whether [`Window::len`] is an estimate.
    pub fn is_estimate(&self) -> bool {
        self.level > 0
    }

    /// How many events were seen.
    pub fn events(&self) -> u64 {
        self.seen
            .iter()
            .fold(0, |sum, seen| sum.saturating_add(seen.what))
    }

    /// Counts an event. Exact up to [`limits::CORRELATION_ENTRIES`] events in the timespan; then those are
    /// merged that lie within the same part of it, at the time of the last of them.
    pub fn event(&mut self, time_ns: i64, timespan_ns: i64) {
        if self.seen.len() >= limits::CORRELATION_ENTRIES {
            self.merge(timespan_ns);
        }
        self.push(time_ns, 1);
    }

    fn merge(&mut self, timespan_ns: i64) {
        let width = (timespan_ns / limits::CORRELATION_PARTS as i64).max(1);
        // Parts lie at fixed times. If they began at the newest event, each merging would draw them further.
        let part = |seen: &Seen| seen.time_ns.div_euclid(width);
        sorted::by_key(&mut self.seen, |seen| seen.time_ns);
        self.seen.dedup_by(|later, kept| {
            let same = part(later) == part(kept);
            if same {
                kept.time_ns = later.time_ns;
                kept.what = kept.what.saturating_add(later.what);
            }
            same
        });
    }

    /// Notes the hash of a value, or a rule; again if it is known. Returns whether it was known.
    ///
    /// Exact up to [`limits::CORRELATION_ENTRIES`] values. When there are more, every second one is left out,
    /// then every second one of the rest, by their hashes, so that the same value is always kept or always left out.
    pub fn value(&mut self, time_ns: i64, value: u64) -> bool {
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.what == value) {
            seen.time_ns = seen.time_ns.max(time_ns);
            return true;
        }
        let is_kept = |level: u8, value: u64| value.trailing_zeros() >= u32::from(level);
        while is_kept(self.level, value) && self.seen.len() >= limits::CORRELATION_ENTRIES {
            self.level = self.level.saturating_add(1);
            let level = self.level;
            self.seen.retain(|seen| is_kept(level, seen.what));
        }
        if is_kept(self.level, value) {
            self.push(time_ns, value);
        }
        false
    }

    /// Notes the hash of a value; the oldest gives way if there are too many. Returns whether it was known.
    pub fn recent(&mut self, time_ns: i64, value: u64) -> bool {
        let known = self.seen.iter_mut().find(|seen| seen.what == value);
        match known {
            Some(seen) => {
                seen.time_ns = seen.time_ns.max(time_ns);
                true
            }
            None => {
                self.push(time_ns, value);
                false
            }
        }
    }

    /// Whether the value is known.
    pub fn has(&self, value: u64) -> bool {
        self.seen.iter().any(|seen| seen.what == value)
    }

    /// Notes that the rule at this place of an order matched, if those before it did in earlier events. Returns
    /// whether it did.
    ///
    /// An entry says for one place when the order that ends there began: the latest beginning is the best one.
    /// For each place there is one entry from this event and one from earlier events, since one event is one
    /// step, even if it also is the first step of another order.
    pub fn step(&mut self, time_ns: i64, place: u16, event: u64) -> bool {
        const EVENT_BITS: u32 = 48;
        let event = event & ((1 << EVENT_BITS) - 1);
        let at = |seen: &Seen, place: u16| seen.what >> EVENT_BITS == u64::from(place);
        let in_this = |seen: &Seen| seen.what & ((1 << EVENT_BITS) - 1) == event;
        let begun_ns = match place.checked_sub(1) {
            None => Some(time_ns),
            Some(before) => {
                let earlier = self.seen.iter();
                let earlier = earlier.filter(|seen| at(seen, before) && !in_this(seen));
                earlier.map(|seen| seen.time_ns).max()
            }
        };
        let Some(begun_ns) = begun_ns else {
            return false;
        };
        let earlier = self.seen.iter();
        let earlier = earlier.filter(|seen| at(seen, place) && !in_this(seen));
        let best = earlier.max_by_key(|seen| seen.time_ns).copied();
        self.seen.retain(|seen| !at(seen, place));
        self.seen.extend(best);
        self.push(begun_ns, u64::from(place) << EVENT_BITS | event);
        true
    }

    /// Adds an entry, in place of the oldest if there are too many.
    fn push(&mut self, time_ns: i64, what: u64) {
        if self.seen.len() >= limits::CORRELATION_ENTRIES {
            let oldest = self.seen.iter().enumerate();
            let oldest = oldest.min_by_key(|(_, seen)| seen.time_ns);
            if let Some((at, _)) = oldest {
                self.seen.swap_remove(at);
            }
        }
        self.seen.push(Seen { time_ns, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;
    const PART: i64 = HOUR / limits::CORRELATION_PARTS as i64;

    #[test]
    fn few_events_are_counted_exactly() {
        let mut window = Window::default();
        for minute in 0..40 {
            let time_ns = minute * HOUR / 60;
            window.forget(time_ns - HOUR / 4);
            window.event(time_ns, HOUR / 4);
            assert_eq!(window.events(), (minute as u64 + 1).min(16), "{minute}");
        }
    }

    #[test]
    fn many_events_are_counted_in_bounded_memory_and_at_most_one_part_too_long() {
        let mut window = Window::default();
        let mut times = Vec::new();
        let (mut state, mut time_ns) = (1_u64, 0);
        for _ in 0..20_000 {
            // Up to three seconds apart, and now and then a break.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            time_ns += (state >> 33) as i64 % 3_000_000_000;
            time_ns += if state >> 54 == 0 { HOUR / 3 } else { 0 };
            times.push(time_ns);
            window.forget(time_ns - HOUR);
            window.event(time_ns, HOUR);
            let within = |span: i64| {
                let begin = times.partition_point(|time| *time < time_ns - span);
                (times.len() - begin) as u64
            };
            let count = window.events();
            assert!(count >= within(HOUR), "{count} of {}", within(HOUR));
            assert!(count <= within(HOUR + PART), "{count} of {}", within(HOUR));
            assert!(window.len() <= limits::CORRELATION_ENTRIES as u64);
        }
        assert!(window.events() > 500);
    }

    #[test]
    fn late_events_are_merged_like_the_others() {
        let mut window = Window::default();
        for number in 0..1_000 {
            let time_ns = HOUR - number % 100 * (HOUR / 100);
            window.event(time_ns, HOUR);
        }
        assert_eq!(window.events(), 1_000);
        assert!(window.len() <= limits::CORRELATION_ENTRIES as u64);
    }

    /// A well-mixed number, as the hash of a value is one.
    fn hash(number: u64) -> u64 {
        let mixed = (number ^ number >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 32
    }

    #[test]
    fn values_count_once_and_exactly_up_to_what_is_kept() {
        let mut window = Window::default();
        for value in 0..limits::CORRELATION_ENTRIES as u64 {
            window.value(value as i64, hash(value));
            assert!(window.value(value as i64, hash(value)));
            assert_eq!(window.len(), value + 1);
        }
        assert!(!window.is_estimate());
        window.forget(32);
        assert_eq!(window.len(), 32);
    }

    /// Against a count of all values, as the number of them within the timespan rises to thousands and falls again.
    #[test]
    fn many_values_are_estimated_within_the_documented_error() {
        let (mut errors, mut checked, mut worst) = (0.0, 0, 0.0_f64);
        for run in 0..20_u64 {
            let mut window = Window::default();
            let mut last_seen = std::collections::HashMap::new();
            let mut time_ns = 0;
            for step in 0..30_000_u64 {
                // Slow, fast, slow: each is longer than the window.
                let is_fast = (5_000..25_000).contains(&step);
                time_ns += if is_fast { HOUR / 4_000 } else { HOUR / 100 };
                // One in four is an old acquaintance.
                let value = match step % 4 {
                    0 => hash(run << 32 | step.saturating_sub(40)),
                    _ => hash(run << 32 | step),
                };
                last_seen.insert(value, time_ns);
                window.forget(time_ns - HOUR);
                window.value(time_ns, value);
                assert!(window.len() == 0 || window.seen.len() <= limits::CORRELATION_ENTRIES);
                if step % 1_000 == 999 && (10_000..25_000).contains(&step) {
                    last_seen.retain(|_, seen| *seen >= time_ns - HOUR);
                    let error = window.len() as f64 / last_seen.len() as f64 - 1.0;
                    errors += error * error;
                    worst = worst.max(error.abs());
                    checked += 1;
                }
            }
            // A hundred a window again: in part it has forgotten, but it counts no more than there are.
            assert!(window.len() <= 160, "{}", window.len());
        }
        let error = (errors / f64::from(checked)).sqrt();
        eprintln!("{checked} counts of about 3,000 values: error {error:.3}, at most {worst:.3}");
        assert!(error < 0.20 && worst < 0.75, "{error} {worst}");
    }

    #[test]
    fn of_recent_values_the_oldest_gives_way() {
        let mut window = Window::default();
        for value in 0..100 {
            assert!(!window.recent(value as i64, value));
            window.recent(1_000, 0);
        }
        assert_eq!(window.seen.len(), limits::CORRELATION_ENTRIES);
        assert!(window.has(0) && window.has(99) && !window.has(1));
    }

    /// Places in the order of events, and whether the last of three is reached.
    #[test]
    fn an_order_is_kept_and_one_event_is_one_step() {
        let cases: [(&[&[u16]], bool); 9] = [
            (&[&[0], &[1], &[2]], true),
            (&[&[0], &[2], &[1]], false),
            (&[&[2], &[1], &[0]], false),
            (&[&[0], &[2], &[1], &[2]], true),
            (&[&[0, 1, 2]], false),
            (&[&[0, 1, 2], &[0, 1, 2], &[0, 1, 2]], true),
            (&[&[2, 1, 0], &[2, 1, 0], &[2, 1, 0]], true),
            (&[&[0], &[0, 1], &[2]], true),
            (&[&[0, 1], &[2]], false),
        ];
        for (events, expected) in cases {
            let mut window = Window::default();
            let mut reached = false;
            for (number, places) in events.iter().enumerate() {
                for place in *places {
                    reached |= window.step(number as i64, *place, number as u64) && *place == 2;
                }
            }
            assert_eq!(reached, expected, "{events:?}");
        }
    }

    #[test]
    fn an_order_counts_from_its_latest_beginning() {
        let mut window = Window::default();
        window.step(0, 0, 1);
        window.step(10, 0, 2);
        window.step(11, 1, 3);
        window.forget(5);
        assert!(window.step(15, 2, 4));
        window.forget(11);
        assert!(!window.step(16, 2, 5), "its beginning is over");
    }
}
