//! What several events of one source come to: Sigma correlations, inline and over bounded state.
//!
//! Takes in the detections of one event, the event for its `group-by` values, and its time. Gives out the
//! correlations that hold with this event and did not before, as detections of their own.
//!
//! ```text
//! detections ──► listeners ──► group (correlation + values) ──► window ──► holds? ──► detection ─┐
//!     ▲                                                                                          │
//!     └───────────────────────── a correlation may be about correlations ◄───────────────────────┘
//! ```
//!
//! An event that no rule matched touches nothing here, nor does one whose time is not known (0).
//!
//! Where the inline answer differs from that of a query over a store:
//!
//! - A correlation fires on the event with which it begins to hold, and not again for the same group before
//!   its timespan has passed: one alert for a burst, its count that of the window at that moment. The burst
//!   may go on. The next alert of a burst that does counts the window before it.
//! - An event that several of a correlation's rules match is one event.
//! - An event without a value for each `group-by` field is not counted, one without the field whose values
//!   are counted neither. Only a request without a host has one: the empty one.
//! - What happened exactly `timespan` ago still counts. An event that comes late (replay) counts at its own
//!   time if the newest event of its group is at most a timespan newer, else not at all; but when eight in a row are so
//!   late, the clock has been set back, and the group begins anew. The order of a `temporal_ordered` is that in which
//!   events come, and one event is one step.
//! - Groups are told apart by 128 bits of a hash (two 64-bit SipHashes) and distinct values by 64: someone who
//!   spends 2^32 hashes can make two of his own values count as one. The hashes are not keyed, since the engine
//!   has no randomness.
//!
//! State is in a [`Memory`] of so many slots, of one worker alone or shared by all of a gateway's. It is bounded by
//! [`limits::CORRELATION_SLOTS`] and those beside it, which say what gives way. A group is known by a hash of the
//! correlation's id, kind and timespan and of its values, so it outlives a new configuration or ruleset.

mod fields;
pub(crate) mod groups;
pub mod memory;
mod window;

use std::hash::{DefaultHasher, Hasher};

use crate::alert::Event;
use crate::inspect::{Detection, Facts};
use crate::limits;
use crate::ruleset::RuleSet;
use crate::ruleset::layout::{
    CorrelationKind, CorrelationRecord, KeyRecord, ListenerRecord, NodeKind, Section, Span,
};
use fields::Values;
use groups::{Counted, Group, Groups};
pub use memory::{Local, Memory};
pub(crate) use window::Seen;

/// Slots of a [`Memory`]: those of correlations, then those of incidents.
pub const SLOTS: u32 = limits::CORRELATION_SLOTS + limits::INCIDENT_SLOTS;

/// What a correlation counted when it fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correlated {
    /// Events, distinct values, or rules that matched, within the timespan.
    pub count: u64,
    /// Whether the count is an estimate: of more values than are kept.
    pub is_estimate: bool,
    /// The timespan, in nanoseconds.
    pub timespan_ns: u64,
    /// The `group-by` fields, as the rule calls them, and their values in the event with which it fired.
    pub group: Vec<(Span, Vec<u8>)>,
}

/// Counts detections.
#[derive(Debug, Default)]
pub struct Correlator {
    groups: Groups,
    /// How many events there were, to tell them apart.
    events: u64,
    fired: Vec<Detection>,
    /// Groups in which this event has been counted.
    counted: Vec<u128>,
    not_counted: u64,
}

impl Correlator {
    /// Counts the detections of one event and returns the correlations that fire on it. `time_unix_ns` is the
    /// time of the event in nanoseconds since 1970; 0 says that it is not known, and nothing is counted.
    ///
    /// Takes time in proportion to the correlations that are about the rules that matched, and changes one slot of the
    /// memory for each of them.
    pub fn observe<'e>(
        &mut self,
        memory: &mut dyn Memory,
        rules: &RuleSet,
        detections: &[Detection],
        event: impl Into<Event<'e>>,
        facts: &dyn Facts,
        time_unix_ns: i64,
    ) -> &[Detection] {
        self.observe_with(
            memory,
            rules,
            detections,
            event.into(),
            facts,
            time_unix_ns,
            &|_| None,
        )
    }

    /// The same, where `at_least` may give a correlation's rule, by its number, another least count than the rule says. The
    /// state is the same whatever the thresholds of the events that it has seen.
    #[allow(clippy::too_many_arguments, reason = "each is something else")]
    pub fn observe_with<'e>(
        &mut self,
        memory: &mut dyn Memory,
        rules: &RuleSet,
        detections: &[Detection],
        event: Event<'e>,
        facts: &dyn Facts,
        time_unix_ns: i64,
        at_least: &dyn Fn(u32) -> Option<u64>,
    ) -> &[Detection] {
        self.fired.clear();
        self.not_counted = 0;
        if detections.is_empty() || time_unix_ns <= 0 || rules.correlation_count() == 0 {
            return &[];
        }
        self.events = self.events.wrapping_add(1);
        self.counted.clear();
        let values = Values::new(event, facts);
        let mut pending: Vec<u32> = detections.iter().map(|detection| detection.rule).collect();
        let mut next = 0;
        while let Some(&number) = pending.get(next) {
            next += 1;
            let Some(rule) = rules.rule(number) else {
                continue;
            };
            for listener in rules.run::<ListenerRecord>(Section::Listeners, rule.listeners) {
                let values = |key: &KeyRecord| match key.field {
                    KeyRecord::ALERT_TYPE => Some(crate::alert::type_of(&rule).as_bytes().into()),
                    KeyRecord::SOURCE_NETWORK => values.network(),
                    _ => values.get(key.field, rules.bytes(key.name)),
                };
                let fired = self.count(memory, rules, &listener, &values, time_unix_ns, at_least);
                if let Some((number, detection)) = fired
                    && !pending.contains(&number)
                {
                    pending.push(number);
                    self.fired.push(detection);
                }
            }
        }
        &self.fired
    }

    /// The correlations that fired on the last event.
    pub fn fired(&self) -> &[Detection] {
        &self.fired
    }

    /// In how many groups the last event was not counted since there was no room for it.
    pub fn not_counted(&self) -> u64 {
        self.not_counted
    }

    /// Counts one match for one correlation. Returns its rule's number and detection if it fires.
    fn count<'v>(
        &mut self,
        memory: &mut dyn Memory,
        rules: &RuleSet,
        listener: &ListenerRecord,
        value_of: &dyn Fn(&KeyRecord) -> Option<std::borrow::Cow<'v, [u8]>>,
        time_ns: i64,
        at_least: &dyn Fn(u32) -> Option<u64>,
    ) -> Option<(u32, Detection)> {
        let correlation = rules.correlation(listener.correlation)?;
        let rule = rules.rule(correlation.rule)?;
        let kind = CorrelationKind::from_number(correlation.kind)?;
        let timespan = i64::try_from(correlation.timespan_ns).unwrap_or(i64::MAX);
        let keys = || rules.run::<KeyRecord>(Section::Keys, listener.keys);
        let group_keys =
            (listener.keys.count as usize).checked_sub(usize::from(listener.has_value))?;
        let mut hash = KeyHash::new(rules.bytes(rule.id), &correlation);
        for key in keys().take(group_keys) {
            hash.value(&value_of(&key)?);
        }
        let value = match keys().nth(group_keys) {
            Some(key) => Some(hash_of(&value_of(&key)?)),
            None => None,
        };
        let key = hash.finish();
        if kind == CorrelationKind::EventCount {
            if self.counted.contains(&key) {
                return None;
            }
            self.counted.push(key);
        }
        // Workers that share a memory must not take two events for one.
        let event = hash_of(&[self.events.to_le_bytes(), time_ns.to_le_bytes()].concat());
        let at_least = at_least(correlation.rule).unwrap_or(correlation.at_least);
        let in_bounds = |count: u64| (at_least..=correlation.at_most).contains(&count);
        let count = |group: &mut Group| {
            if !group.reach(time_ns, timespan) {
                return None;
            }
            let window = &mut group.window;
            let (count, holds) = match kind {
                CorrelationKind::EventCount => {
                    window.event(time_ns, timespan);
                    (window.events(), true)
                }
                CorrelationKind::ValueCount => {
                    window.value(time_ns, value?);
                    (window.len(), true)
                }
                CorrelationKind::NewValue => {
                    return new_value(group, time_ns, value?, correlation.at_least);
                }
                CorrelationKind::Temporal => {
                    window.value(time_ns, u64::from(listener.place));
                    let holds = correlation.condition == CorrelationRecord::COUNTED
                        || holds(
                            rules,
                            correlation.condition,
                            limits::CONDITION_DEPTH,
                            &|place| window.has(u64::from(place)),
                        );
                    (window.len(), holds)
                }
                CorrelationKind::TemporalOrdered => {
                    let reached = window.step(time_ns, listener.place, event);
                    let last = listener.place.checked_add(1) == Some(correlation.inputs);
                    (u64::from(correlation.inputs), reached && last)
                }
            };
            let is_estimate = window.is_estimate();
            let fires = group.rank(count, holds && in_bounds(count), timespan);
            fires.then_some((count, is_estimate))
        };
        let slots = (0, limits::CORRELATION_SLOTS);
        let fired = match self
            .groups
            .update(memory, slots, key, time_ns, timespan, count)
        {
            Counted::Yes(fired) => fired,
            Counted::NoRoom => {
                self.not_counted += 1;
                None
            }
        };
        let (count, is_estimate) = fired?;
        let group = keys().take(group_keys);
        let correlated = Correlated {
            count,
            is_estimate,
            timespan_ns: correlation.timespan_ns,
            group: group
                .filter_map(|key| Some((key.label, value_of(&key)?.into_owned())))
                .collect(),
        };
        let detection = Detection {
            rule: correlation.rule,
            confidence: rule.confidence,
            evidence: None,
            correlated: Some(Box::new(correlated)),
        };
        Some((correlation.rule, detection))
    }
}

/// Notes a value of a group that learns which ones are usual. Returns how many it knows if this one is new, the group has
/// learned for long enough, and it knows few enough for one to be unusual.
fn new_value(group: &mut Group, time_ns: i64, value: u64, learn_ns: u64) -> Option<(u64, bool)> {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let learn_ns = i64::try_from(learn_ns).unwrap_or(i64::MAX);
    if group.window.seen.is_empty() {
        group.quiet_until_ns = time_ns.saturating_add(learn_ns);
    }
    let begun_ns = group.quiet_until_ns.saturating_sub(learn_ns);
    let known = group.window.seen.len();
    let is_known = group.window.recent(time_ns, value);
    // The longer it has learned, the more would be lost with it.
    let hours = time_ns.saturating_sub(begun_ns) / HOUR_NS;
    group.weigh(u64::try_from(hours).unwrap_or(0).saturating_add(1));
    let has_learned = time_ns >= group.quiet_until_ns && known > 0;
    let is_telling = known < limits::CORRELATION_ENTRIES;
    (!is_known && has_learned && is_telling).then_some((known as u64, false))
}

/// Whether an expression over a correlation's rules holds. The compiler lets no `not` into it.
fn holds(rules: &RuleSet, node: u32, depth: usize, seen: &impl Fn(u32) -> bool) -> bool {
    let Some((node, depth)) = rules.node(node).zip(depth.checked_sub(1)) else {
        return false;
    };
    let children = node.children;
    let wanted = match NodeKind::from_number(node.kind) {
        Some(NodeKind::Leaf) => return seen(children.first),
        Some(NodeKind::And) => children.count,
        Some(NodeKind::Or) => 1,
        Some(NodeKind::AtLeast) => u32::from(node.threshold),
        Some(NodeKind::Not) | None => return false,
    };
    // A forged ruleset may promise more children than it has nodes; those that are missing do not hold.
    let held = (0..children.count)
        .map_while(|asked| {
            let child = children.first.checked_add(asked)?;
            rules.node(child)?;
            Some(holds(rules, child, depth, seen))
        })
        .filter(|held| *held);
    held.take(wanted as usize).count() == wanted as usize
}

/// Identifies a correlation and its group's values by 128 bits.
pub(crate) struct KeyHash([DefaultHasher; 2]);

impl KeyHash {
    /// Of something that is no correlation.
    pub(crate) fn plain() -> KeyHash {
        let mut hash = KeyHash([DefaultHasher::new(), DefaultHasher::new()]);
        for (half, hasher) in (0_u8..).zip(&mut hash.0) {
            hasher.write_u8(half);
        }
        hash
    }

    /// Of a correlation with this id. What a group holds depends on its kind and timespan; the threshold may change.
    fn new(id: &[u8], correlation: &CorrelationRecord) -> KeyHash {
        let mut hash = KeyHash::plain();
        for hasher in &mut hash.0 {
            hasher.write_u8(correlation.kind);
            hasher.write_u16(correlation.inputs);
            hasher.write_u64(correlation.timespan_ns);
        }
        hash.value(id);
        hash
    }

    pub(crate) fn value(&mut self, value: &[u8]) {
        for hasher in &mut self.0 {
            // The length in front, or `ab` + `c` were `a` + `bc`.
            hasher.write_u64(value.len() as u64);
            hasher.write(value);
        }
    }

    pub(crate) fn finish(&self) -> u128 {
        let [low, high] = &self.0;
        u128::from(high.finish()) << 64 | u128::from(low.finish())
    }
}

pub(crate) fn hash_of(value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(value);
    hasher.finish()
}
