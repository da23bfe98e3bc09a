//! Incidents: what one source does again and again is told once, then updated.
//!
//! Takes in the alerts of one request and a [`Memory`] of those before. Gives out which of them are written as a line:
//!
//! ```text
//! alert 1 ──► line   2 … 9 ──► folded   10 ──► line, Count 10   11 … 99 ──► folded   100 ──► line, Count 100   …
//! ```
//!
//! An incident is one alert type at one severity with one action, from one source, without a pause longer than the
//! window. It is told of with its first alert, its tenth, hundredth and so on; with the first alert for each of the first
//! [`HOSTS`] hosts; and when the last line is a window old. Each line says how many alerts there were since the incident
//! began, when, and for how many targets.
//!
//! What is not folded: a correlation's alert, which fires once a timespan as it is; the test alert, since who tests
//! twice wants to see two; and what has no source or no time. An incident that had to make room in the memory begins anew, so
//! there are more lines then and never fewer. Counters, access log and blocking are about requests and know no incidents.

use serde::Serialize;

use crate::alert::Alert;
use crate::correlate::groups::{Counted, Group, Groups};
use crate::correlate::{KeyHash, Memory, Seen, hash_of};
use crate::limits;
use crate::time::rfc3339;

/// Hosts of one incident for each of which a line is written.
pub const HOSTS: usize = 8;

/// Raised by who tests the way of an alert.
const TEST_ALERT: &str = "AppServices_EICAR";

/// What an alert is one of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Incident {
    /// The same in every line of the incident.
    pub id: String,
    /// Alerts so far, this one among them.
    pub count: u64,
    /// Time of the first one, RFC 3339 in UTC.
    pub first_seen: String,
    /// Time of the last one.
    pub last_seen: String,
    /// Different hosts and paths asked for; over about fifty an estimate.
    pub distinct_targets: u64,
}

/// Folds alerts into incidents.
#[derive(Debug, Default)]
pub struct Incidents {
    groups: Groups,
}

impl Incidents {
    /// Counts an alert and notes in it which incident it is one of. Returns whether it is to be written as a line.
    /// `time_unix_ns` is the time of the request, 0 if it is not known.
    pub fn tell(
        &mut self,
        memory: &mut dyn Memory,
        alert: &mut Alert,
        source: Option<&str>,
        time_unix_ns: i64,
        window_ns: i64,
    ) -> bool {
        let properties = &alert.extended_properties;
        let Some(source) = source.filter(|_| time_unix_ns > 0) else {
            return true;
        };
        if properties.correlation.is_some() || alert.alert_type == TEST_ALERT {
            return true;
        }
        let mut hash = KeyHash::plain();
        for part in [alert.alert_type, alert.severity, properties.action, source] {
            hash.value(part.as_bytes());
        }
        let host = alert.compromised_entity.as_bytes();
        let target = properties.target.as_deref().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let (host, target) = (
            hash_of(host) | HOST,
            hash_of(&[host, path.as_bytes()].concat()) & !HOST,
        );
        let slots = (limits::CORRELATION_SLOTS, limits::INCIDENT_SLOTS);
        let key = hash.finish();
        let count = |group: &mut Group| Told::count(group, time_unix_ns, window_ns, host, target);
        let told = self
            .groups
            .update(memory, slots, key, time_unix_ns, window_ns, count);
        let Counted::Yes(told) = told else {
            return true;
        };
        alert.extended_properties.incident = Some(Incident {
            id: format!("{:016x}", key as u64 ^ told.first_ns as u64),
            count: told.count,
            first_seen: rfc3339(told.first_ns),
            last_seen: rfc3339(told.last_ns),
            distinct_targets: told.targets,
        });
        told.is_line
    }
}

/// Marks the hash of a host.
const HOST: u64 = 1 << 63;

/// What an incident comes to with one more alert.
#[derive(Clone, Copy, Debug)]
struct Told {
    is_line: bool,
    count: u64,
    first_ns: i64,
    last_ns: i64,
    targets: u64,
}

impl Told {
    /// The first entry of the group is the beginning and the count, the second one the time and the count of the last
    /// line; behind them are hosts and targets.
    fn count(group: &mut Group, time_ns: i64, window_ns: i64, host: u64, target: u64) -> Told {
        const METADATA: usize = 2;
        let is_over = time_ns > group.newest_ns.saturating_add(window_ns)
            || time_ns < group.newest_ns.saturating_sub(window_ns);
        if is_over || group.window.seen.len() < METADATA {
            group.begin_anew(time_ns);
            group.window.seen.clear();
            let begun = Seen { time_ns, what: 0 };
            group.window.seen.extend([begun; METADATA]);
        }
        group.newest_ns = group.newest_ns.max(time_ns);
        group.over_ns = group.newest_ns.saturating_add(window_ns);
        let window = &mut group.window;
        let mut others = window.seen.split_off(METADATA);
        let has = |others: &[Seen], what: u64| others.iter().any(|seen| seen.what == what);
        let hosts = others.iter().filter(|seen| seen.what & HOST != 0).count();
        let is_new_host = hosts < HOSTS && !has(&others, host);
        if is_new_host {
            others.push(Seen {
                time_ns,
                what: host,
            });
        }
        let is_kept = |level: u8, what: u64| what.trailing_zeros() >= u32::from(level);
        if is_kept(window.level, target) && !has(&others, target) {
            while others.len() + METADATA >= limits::CORRELATION_ENTRIES {
                window.level = window.level.saturating_add(1);
                let level = window.level;
                others.retain(|seen| seen.what & HOST != 0 || is_kept(level, seen.what));
            }
            if is_kept(window.level, target) {
                others.push(Seen {
                    time_ns,
                    what: target,
                });
            }
        }
        let targets = others.iter().filter(|seen| seen.what & HOST == 0).count() as u64;
        let targets = targets << window.level.min(32);
        let mut told = Told {
            is_line: false,
            count: 0,
            first_ns: time_ns,
            last_ns: group.newest_ns,
            targets,
        };
        if let [first, line] = window.seen.as_mut_slice() {
            first.what = first.what.saturating_add(1);
            first.time_ns = first.time_ns.min(time_ns);
            told.count = first.what;
            told.first_ns = first.time_ns;
            told.is_line = is_power_of_ten(first.what)
                || is_new_host
                || time_ns >= line.time_ns.saturating_add(window_ns);
            if told.is_line {
                line.time_ns = line.time_ns.max(time_ns);
                line.what = first.what;
            }
        }
        window.seen.append(&mut others);
        group.weigh(told.count);
        told
    }
}

fn is_power_of_ten(mut number: u64) -> bool {
    while number > 1 && number.is_multiple_of(10) {
        number /= 10;
    }
    number == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000_000;
    const WINDOW: i64 = 10 * MINUTE;

    /// Whether alerts at these times, each for a target and a host, are lines, and the counts that they have.
    fn told(group: &mut Group, alerts: &[(i64, u64, u64)]) -> Vec<(bool, u64)> {
        let tell = |(time_ns, host, target): &(i64, u64, u64)| {
            let told = Told::count(
                group,
                *time_ns,
                WINDOW,
                hash_of(&[*host as u8]) | HOST,
                *target,
            );
            (told.is_line, told.count)
        };
        alerts.iter().map(tell).collect()
    }

    #[test]
    fn an_incident_is_told_at_powers_of_ten_and_once_a_window() {
        let mut group = Group::default();
        let alerts: Vec<_> = (0..1_000)
            .map(|second| (MINUTE + second * MINUTE / 60, 0, 2))
            .collect();
        let lines = told(&mut group, &alerts);
        let lines = lines.iter().filter(|(is_line, _)| *is_line);
        // The 700th comes a window after the hundredth.
        assert_eq!(
            lines.map(|(_, count)| *count).collect::<Vec<_>>(),
            [1, 10, 100, 700, 1_000]
        );
    }

    #[test]
    fn a_pause_ends_it_and_so_does_a_clock_that_is_set_back() {
        let mut group = Group::default();
        let day = 24 * 60 * MINUTE;
        let alerts = [
            (day, 0, 2),
            (day + 1, 0, 2),
            (day + 2 + WINDOW, 0, 2),
            (MINUTE, 0, 2),
            (MINUTE + 1, 0, 2),
        ];
        let lines = [(true, 1), (false, 2), (true, 1), (true, 1), (false, 2)];
        assert_eq!(told(&mut group, &alerts), lines);
    }

    #[test]
    fn new_hosts_are_told_of_but_not_without_end_and_targets_are_estimated() {
        let mut group = Group::default();
        let mix = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) & !HOST;
        let alerts: Vec<_> = (0..5_000)
            .map(|number| (MINUTE + number as i64, number, mix(number)))
            .collect();
        let lines = told(&mut group, &alerts);
        let lines = lines.iter().filter(|(is_line, _)| *is_line).count();
        assert_eq!(lines, HOSTS + 3, "eight hosts, and 10, 100 and 1000");
        let last = Told::count(&mut group, 2 * MINUTE, WINDOW, HOST, 2);
        assert!((2_500..10_000).contains(&last.targets), "{}", last.targets);
        assert!(group.window.seen.len() <= limits::CORRELATION_ENTRIES);
    }
}
