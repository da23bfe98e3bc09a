//! Correlations from YAML to what fires, and what a gateway refuses to run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

use std::net::IpAddr;

use portcullis::alert::{self, Context};
use portcullis::correlate::{Correlator, Local};
use portcullis::headers::Headers;
use portcullis::inspect::{Detection, Facts, Inspector};
use portcullis::policy::{Action, RuleName};
use portcullis::ruleset::RuleSet;
use portcullis_compiler::{Options, backend, link, parse};

/// Rules that match a request whose path is `/a`, `/b`, `/c`, with ids that end in it.
const RULES: &str = "
title: A
id: 00000000-0000-4000-8000-00000000000a
name: a
level: low
logsource: {category: webserver}
detection: {selection: {cs-uri-stem|startswith: /aaaa}, condition: selection}
---
title: B
id: 00000000-0000-4000-8000-00000000000b
name: b
logsource: {category: webserver}
detection: {selection: {cs-uri-stem|startswith: [/bbbb, /aabb]}, condition: selection}
portcullis: {alert: Gateway_PathTraversal}
---
title: C
id: 00000000-0000-4000-8000-00000000000c
name: c
logsource: {category: webserver}
detection: {selection: {cs-uri-stem|startswith: [/cccc, /aaaabbbb]}, condition: selection}
portcullis: {alert: Gateway_SqlInjection}
";

fn compiled(correlations: &str) -> Result<RuleSet, String> {
    let text = format!("{RULES}---\n{correlations}");
    let parsed = parse("rules.yml", &text, &Options::default());
    let linked = link::link(&parsed.documents);
    let said: Vec<String> = parsed
        .errors()
        .chain(&linked)
        .map(|one| one.one_line())
        .collect();
    assert!(said.is_empty(), "{said:#?}");
    match backend::compile(&parsed.documents) {
        Ok(compiled) => Ok(RuleSet::open(compiled.bytes).unwrap()),
        Err(errors) => {
            let lines: Vec<String> = errors.iter().map(|one| one.one_line()).collect();
            Err(lines.join("\n"))
        }
    }
}

struct From(Option<IpAddr>);

impl Facts for From {
    fn source_address(&self) -> Option<IpAddr> {
        self.0
    }
}

const SECOND: i64 = 1_000_000_000;
/// A time of day.
const NOON: i64 = 1_800_000_000 * SECOND;

/// A gateway's worker.
struct Worker {
    inspector: Inspector,
    correlator: Correlator,
    memory: Local,
}

impl Worker {
    fn new(correlations: &str) -> Worker {
        let rules = compiled(correlations).unwrap_or_else(|errors| panic!("{errors}"));
        Worker {
            inspector: Inspector::new(rules),
            correlator: Correlator::default(),
            memory: Local::default(),
        }
    }

    fn request(&mut self, second: i64, source: &str, headers: &[(&str, &str)]) -> Vec<Detection> {
        let pairs: Vec<(&[u8], &[u8])> = headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let headers = Headers::Pairs(&pairs);
        let facts = From(source.parse().ok());
        let detections = self.inspector.request(headers, &facts).detections.to_vec();
        let rules = self.inspector.rules();
        let time_ns = NOON + second * SECOND;
        self.correlator
            .observe(
                &mut self.memory,
                rules,
                &detections,
                headers,
                &facts,
                time_ns,
            )
            .to_vec()
    }

    /// The ids' last characters and counts of what fires.
    fn get(&mut self, second: i64, source: &str, target: &str) -> Vec<(char, u64)> {
        let headers = [(":authority", "Shop.example"), (":path", target)];
        let fired = self.request(second, source, &headers);
        let rules = self.inspector.rules();
        let fired = fired.iter().map(|detection| {
            let rule = rules.rule(detection.rule).unwrap();
            let id = rules.text(rule.id).chars().last().unwrap();
            (id, detection.correlated.as_ref().unwrap().count)
        });
        fired.collect()
    }

    /// The alert types that a request raises.
    fn alerts(&mut self, second: i64, target: &str) -> Vec<alert::Alert> {
        let headers = [(":authority", "shop.example"), (":path", target)];
        let mut all = self.request(second, "192.0.2.1", &headers);
        all.extend_from_slice(self.inspector.detections());
        let pairs: Vec<(&[u8], &[u8])> = headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let context = Context::default();
        let rules = self.inspector.rules();
        let decide = |_: RuleName<'_>, _, _| Action::Detected;
        alert::alerts(rules, &all, Headers::Pairs(&pairs), &context, decide)
    }
}

fn correlation(id: char, body: &str) -> String {
    format!(
        "title: Correlation\nid: 00000000-0000-4000-8000-00000000000{id}\ncorrelation: {body}\n"
    )
}

#[test]
fn events_are_counted_for_each_group_within_the_timespan_and_fire_once() {
    let mut worker = Worker::new(&correlation(
        '1',
        "{type: event_count, rules: a, group-by: [c-ip, cs-host], timespan: 10s, condition: {gte: 3}}",
    ));
    let one = "192.0.2.1";
    assert_eq!(worker.get(0, one, "/aaaa"), []);
    assert_eq!(worker.get(1, "192.0.2.2", "/aaaa"), []);
    assert_eq!(worker.get(2, one, "/bbbb"), []);
    assert_eq!(worker.get(3, one, "/aaaa"), []);
    // The first one is a timespan old, to the second, and still counts; the mapped address is the same.
    assert_eq!(worker.get(10, "::ffff:192.0.2.1", "/aaaa"), [('1', 3)]);
    for second in 11..20 {
        assert_eq!(worker.get(second, one, "/aaaa"), [], "{second}");
    }
    // It goes on: another alert with what was in the window.
    assert_eq!(worker.get(20, one, "/aaaa"), [('1', 11)]);
    // After a pause it has to begin anew.
    assert_eq!(worker.get(60, one, "/aaaa"), []);
    assert_eq!(worker.get(61, one, "/aaaa"), []);
    assert_eq!(worker.get(62, one, "/aaaa"), [('1', 3)]);
    // Another host is another group.
    let other = [(":authority", "other.example"), (":path", "/aaaa")];
    assert!(worker.request(63, one, &other).is_empty());
    // An access log may not say which host it is of.
    for second in 90..92 {
        assert!(
            worker
                .request(second, one, &[(":path", "/aaaa")])
                .is_empty()
        );
    }
    assert_eq!(worker.request(92, one, &[(":path", "/aaaa")]).len(), 1);
    // Without an address there is no group.
    for second in 64..80 {
        assert_eq!(worker.get(second, "-", "/aaaa"), []);
    }
}

#[test]
fn an_event_that_two_rules_match_is_one_event() {
    let mut worker = Worker::new(&correlation(
        '1',
        "{type: event_count, rules: [a, c], group-by: [c-ip], timespan: 10s, condition: {gt: 1}}",
    ));
    assert_eq!(worker.get(0, "192.0.2.1", "/aaaabbbb"), []);
    assert_eq!(worker.get(1, "192.0.2.1", "/cccc"), [('1', 2)]);
}

#[test]
fn distinct_values_are_counted_in_the_form_that_a_server_would_take_them() {
    let mut worker = Worker::new(&correlation(
        '1',
        "{type: value_count, rules: [a, b], group-by: [c-ip], timespan: 1m, condition: {field: cs-uri-stem, gte: 3}}",
    ));
    for (second, target) in [
        "/aaaa/1",
        "/aaaa/1?x",
        "/aaaa/%31",
        "//aaaa/./1",
        "/aaaa/2/../1",
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(
            worker.get(second as i64, "2001:db8::1", target),
            [],
            "{target}"
        );
    }
    assert_eq!(worker.get(6, "2001:db8::1", "/aaaa/2"), []);
    assert_eq!(worker.get(7, "2001:db8::1", "/bbbb/3"), [('1', 3)]);
    // The first page was last seen at 4.
    assert_eq!(worker.get(70, "2001:db8::1", "/bbbb/4"), []);
}

#[test]
fn parts_aliases_and_alert_types_are_values_as_well() {
    let group = "
  type: value_count
  rules: [a, b, c]
  group-by: [who, cs(X-Api)]
  aliases: {who: {a: cs-uri-query.user, b: cs-cookie.sid, c: cs-uri-query.user}}
  timespan: 1m
  condition: {field: portcullis.alert, gte: 3}";
    let mut worker = Worker::new(&format!(
        "{}---\n{}",
        correlation('1', group),
        correlation(
            '2',
            "{type: event_count, rules: a, generate: true, timespan: 1s, condition: {gte: 100}}"
        )
    ));
    let mut request = |second, path, cookie, api| {
        let headers = [(":path", path), ("cookie", cookie), ("x-api", api)];
        let fired = worker.request(second, "-", &headers);
        fired.first().map(|fired| fired.correlated.clone().unwrap())
    };
    assert_eq!(request(0, "/aaaa?user=J%6fe", "", "k"), None);
    assert_eq!(request(1, "/aaaa?x=1&USER=Joe", "", "k"), None);
    assert_eq!(request(2, "/bbbb", "theme=dark; sid=Joe", "k"), None);
    assert_eq!(request(3, "/cccc?user=Joe", "", "other"), None);
    assert_eq!(request(4, "/cccc?user=joe", "", "k"), None);
    let fired = request(5, "/cccc?user=Joe", "", "k").unwrap();
    assert_eq!((fired.count, fired.timespan_ns), (3, 60_000_000_000));
    let values: Vec<&[u8]> = fired.group.iter().map(|(_, value)| &value[..]).collect();
    assert_eq!(values, [&b"Joe"[..], b"k"]);
}

#[test]
fn a_count_of_values_is_exact_up_to_what_is_kept_and_then_an_estimate() {
    let count = |most: u64| {
        let mut worker = Worker::new(&correlation(
            '1',
            &format!(
                "{{type: value_count, rules: a, group-by: [c-ip], timespan: 1h, condition: {{field: cs-uri-stem, gte: {most}}}}}"
            ),
        ));
        for number in 1.. {
            let target = format!("/aaaa/{number}");
            let fired = worker.request(1, "192.0.2.1", &[(":path", &target)]);
            if let Some(fired) = fired.first() {
                let counted = fired.correlated.as_ref().unwrap();
                assert!(counted.count >= most && counted.is_estimate == (most > 64));
                return number;
            }
        }
        0
    };
    assert_eq!(count(64), 64);
    let number = count(1_000);
    assert!((600..1_600).contains(&number), "{number}");
}

#[test]
fn addresses_of_one_network_are_one_source() {
    let rule =
        "{type: event_count, rules: a, group-by: [c-net], timespan: 1m, condition: {gte: 3}}";
    let mut worker = Worker::new(&correlation('1', rule));
    assert_eq!(worker.get(0, "192.0.2.1", "/aaaa"), []);
    assert_eq!(worker.get(1, "192.0.3.1", "/aaaa"), []);
    assert_eq!(worker.get(2, "::ffff:192.0.2.200", "/aaaa"), []);
    assert_eq!(worker.get(3, "2001:db8::1", "/aaaa"), []);
    assert_eq!(worker.get(4, "2001:db8:0:1::1", "/aaaa"), []);
    let headers = [(":path", "/aaaa")];
    let fired = worker.request(5, "192.0.2.77", &headers);
    let counted = fired[0].correlated.as_ref().unwrap();
    assert_eq!(counted.group[0].1, b"192.0.2.0/24");
    assert_eq!(worker.get(6, "2001:db8::ffff:1", "/aaaa"), []);
    let fired = worker.request(7, "2001:db8:0:0:1::", &headers);
    let counted = fired[0].correlated.as_ref().unwrap();
    assert_eq!(counted.group[0].1, b"2001:db8::/64");
}

#[test]
fn what_is_usual_is_learned_and_what_is_new_fires_once() {
    let rule = "{type: value_count, rules: a, group-by: [cs-host], timespan: 30d, condition: {field: c-net, gte: 1}}\n\
                portcullis: {learn: 1d}";
    const DAY: i64 = 86_400;
    let mut worker = Worker::new(&correlation('1', rule));
    // Whoever comes on the first day is usual, and so is who is of the same network.
    assert_eq!(worker.get(0, "192.0.2.1", "/aaaa"), []);
    assert_eq!(worker.get(DAY - 1, "198.51.100.1", "/aaaa"), []);
    assert_eq!(worker.get(2 * DAY, "192.0.2.99", "/aaaa"), []);
    assert_eq!(worker.get(2 * DAY, "203.0.113.5", "/aaaa"), [('1', 2)]);
    // It has been told of, and is known from now on.
    assert_eq!(worker.get(2 * DAY + 1, "203.0.113.6", "/aaaa"), []);
    // The second network was last seen more than 30 days ago.
    assert_eq!(worker.get(20 * DAY, "192.0.2.1", "/aaaa"), []);
    assert_eq!(worker.get(31 * DAY, "198.51.100.1", "/aaaa"), [('1', 2)]);
    // Another host learns for itself.
    let other = [(":authority", "other.example"), (":path", "/aaaa")];
    assert!(worker.request(32 * DAY, "203.0.113.9", &other).is_empty());
    // A page that everybody uses tells nothing by who uses it.
    for network in 0..80 {
        worker.get(33 * DAY, &format!("10.0.{network}.1"), "/aaaa");
    }
    assert_eq!(worker.get(34 * DAY, "10.9.9.9", "/aaaa"), []);
}

#[test]
fn a_group_outlives_a_change_of_the_rules_around_it() {
    let first =
        "{type: event_count, rules: a, group-by: [c-ip], timespan: 1m, condition: {gte: 5}}";
    let mut worker = Worker::new(&correlation('1', first));
    for second in 0..3 {
        assert_eq!(worker.get(second, "192.0.2.1", "/aaaa"), []);
    }
    // A new ruleset: another correlation before it, a lower threshold, a new VM that finds the memory of the old one.
    let other =
        "{type: event_count, rules: b, group-by: [c-ip], timespan: 1m, condition: {gte: 5}}";
    let second = first.replace("gte: 5", "gte: 4");
    let text = format!(
        "{}---\n{}",
        correlation('2', other),
        correlation('1', &second)
    );
    let mut next = Worker::new(&text);
    next.memory = worker.memory;
    assert_eq!(next.get(4, "192.0.2.1", "/aaaa"), [('1', 4)]);
    // Another timespan is another question.
    let longer = first.replace("1m", "2m");
    let mut last = Worker::new(&correlation('1', &longer));
    last.memory = next.memory;
    assert_eq!(last.get(5, "192.0.2.1", "/aaaa"), []);
}

#[test]
fn values_of_any_length_and_any_bytes_are_values() {
    let rule = "{type: event_count, rules: a, group-by: [cs-user-agent], timespan: 1m, condition: {gte: 2}}";
    let mut worker = Worker::new(&correlation('1', rule));
    // What is beyond 64 KiB tells groups apart no more; it is bounded like every field.
    let long = "x".repeat(64 * 1024);
    let longer = format!("{long}y");
    let other = format!("{}y", &long[1..]);
    let mut ask = |agent: &str| {
        let headers = [(":path", "/aaaa"), ("user-agent", agent)];
        worker.request(0, "192.0.2.1", &headers).len()
    };
    assert_eq!((ask(&long), ask(&other), ask(&longer)), (0, 0, 1));
    assert!(worker.memory.bytes() < 1024, "a group is its hash");
}

#[test]
fn timespans_of_a_second_and_of_a_year_count() {
    for (timespan, seconds) in [("1s", 1), ("1y", 31_556_952)] {
        let rule = format!(
            "{{type: event_count, rules: a, group-by: [c-ip], timespan: {timespan}, condition: {{gte: 2}}}}"
        );
        let mut worker = Worker::new(&correlation('1', &rule));
        assert_eq!(worker.get(0, "192.0.2.1", "/aaaa"), []);
        assert_eq!(worker.get(seconds + 1, "192.0.2.1", "/aaaa"), []);
        assert_eq!(
            worker.get(2 * seconds + 1, "192.0.2.1", "/aaaa"),
            [('1', 2)]
        );
    }
}

#[test]
fn temporal_asks_for_all_rules_for_so_many_or_for_an_expression() {
    let cases = [
        (
            "",
            vec![("/aaaa", ""), ("/bbbb", ""), ("/aaaa", ""), ("/cccc", "1")],
        ),
        (
            ", condition: {gte: 2}",
            vec![("/cccc", ""), ("/cccc", ""), ("/aaaa", "1")],
        ),
        // One event may be all that is needed.
        (", condition: {gte: 2}", vec![("/aaaabbbb", "1")]),
        (
            ", condition: b and (a or c)",
            vec![("/cccc", ""), ("/aaaa", ""), ("/bbbb", "1")],
        ),
        (
            ", condition: 2 of them",
            vec![("/aaaa", ""), ("/bbbb", "1")],
        ),
        (
            ", condition: all of them",
            vec![("/aaaabbbb", ""), ("/bbbb", "1")],
        ),
    ];
    for (condition, requests) in cases {
        let mut worker = Worker::new(&correlation(
            '1',
            &format!(
                "{{type: temporal, rules: [a, b, c], group-by: [c-ip], timespan: 10s{condition}}}"
            ),
        ));
        for (second, (target, expected)) in requests.iter().enumerate() {
            let fired = worker.get(second as i64, "192.0.2.1", target);
            let fired: String = fired.iter().map(|(id, _)| *id).collect();
            assert_eq!(fired, *expected, "{condition} at {second}: {target}");
        }
    }
}

#[test]
fn an_order_is_one_within_the_timespan() {
    let rule = "{type: temporal_ordered, rules: [a, b, c], group-by: [c-ip], timespan: 10s}";
    let cases: [(&[(i64, &str)], bool); 5] = [
        (&[(0, "/aaaa"), (5, "/bbbb"), (10, "/cccc")], true),
        (&[(0, "/aaaa"), (5, "/bbbb"), (11, "/cccc")], false),
        (
            &[(0, "/aaaa"), (4, "/aaaa"), (5, "/bbbb"), (11, "/cccc")],
            true,
        ),
        (&[(0, "/bbbb"), (5, "/aaaa"), (6, "/cccc")], false),
        (&[(0, "/aaaa"), (1, "/bbbb"), (2, "/aaaabbbb")], true),
    ];
    for (requests, expected) in cases {
        let mut worker = Worker::new(&correlation('1', rule));
        let fired: Vec<_> = requests
            .iter()
            .flat_map(|(second, target)| worker.get(*second, "192.0.2.1", target))
            .collect();
        let wanted = if expected { vec![('1', 3)] } else { vec![] };
        assert_eq!(fired, wanted, "{requests:?}");
    }
}

#[test]
fn a_correlation_may_be_about_correlations() {
    // Three sources that each ask often: a campaign against one host.
    let inner = correlation(
        '1',
        "{type: event_count, rules: a, group-by: [c-ip, cs-host], timespan: 1m, condition: {gte: 2}}",
    );
    let outer = correlation(
        '2',
        "{type: value_count, rules: 00000000-0000-4000-8000-000000000001, group-by: [cs-host], timespan: 1m, condition: {field: c-ip, gte: 3}}",
    );
    // What stands first in the file does not matter.
    for text in [
        format!("{inner}---\n{outer}"),
        format!("{outer}---\n{inner}"),
    ] {
        let mut worker = Worker::new(&text);
        for last in 1..=2 {
            let source = format!("192.0.2.{last}");
            assert_eq!(worker.get(last, &source, "/aaaa"), []);
            assert_eq!(worker.get(last, &source, "/aaaa"), [('1', 2)]);
        }
        assert_eq!(worker.get(3, "192.0.2.3", "/aaaa"), []);
        assert_eq!(worker.get(3, "192.0.2.3", "/aaaa"), [('1', 2), ('2', 3)]);
    }
}

#[test]
fn time_may_run_backwards_and_may_be_unknown() {
    let rule =
        "{type: event_count, rules: a, group-by: [c-ip], timespan: 10s, condition: {gte: 3}}";
    let mut worker = Worker::new(&correlation('1', rule));
    let source = "192.0.2.1";
    assert_eq!(worker.get(100, source, "/aaaa"), []);
    assert_eq!(worker.get(89, source, "/aaaa"), [], "too late to count");
    assert_eq!(worker.get(95, source, "/aaaa"), []);
    assert_eq!(worker.get(91, source, "/aaaa"), [('1', 3)]);
    assert_eq!(worker.get(90, source, "/aaaa"), []);
    for _ in 0..10 {
        assert_eq!(worker.get(-NOON / SECOND, "192.0.2.9", "/aaaa"), []);
    }
}

#[test]
fn a_bound_above_is_held_to_when_the_alert_is_due() {
    let rule =
        "{type: event_count, rules: a, group-by: [c-ip], timespan: 10s, condition: {gt: 1, lt: 4}}";
    let mut worker = Worker::new(&correlation('1', rule));
    assert_eq!(worker.get(0, "192.0.2.1", "/aaaa"), []);
    assert_eq!(worker.get(0, "192.0.2.1", "/aaaa"), [('1', 2)]);
    for _ in 0..9 {
        worker.get(9, "192.0.2.1", "/aaaa");
    }
    assert_eq!(worker.get(11, "192.0.2.1", "/aaaa"), []);
}

fn types(alerts: &[alert::Alert]) -> Vec<&str> {
    alerts.iter().map(|alert| alert.alert_type).collect()
}

#[test]
fn a_rule_that_is_only_counted_raises_nothing_of_its_own() {
    let counted = "{type: event_count, rules: [a, b], group-by: [cs-host, cs-uri-query.token], timespan: 10s, condition: {gte: 2}";
    let mut worker = Worker::new(&correlation('1', &format!("{counted}}}")));
    // `b` names an alert type of its own.
    assert!(types(&worker.alerts(0, "/aaaa?token=x")).is_empty());
    let alerts = worker.alerts(1, "/bbbb?token=x");
    assert_eq!(
        types(&alerts),
        ["Gateway_PathTraversal", "Gateway_CustomRule"]
    );
    assert!(alerts[0].extended_properties.correlation.is_none());
    let raised = &alerts[1].extended_properties;
    assert_eq!(raised.rule_id, "00000000-0000-4000-8000-000000000001");
    let json = serde_json_text(raised.correlation.as_ref().unwrap());
    assert_eq!(
        json,
        "rule 00000000-0000-4000-8000-000000000001 2 in 10 s [(\"cs-host\", \"shop.example\"), (\"cs-uri-query.token\", \"***\")]"
    );

    let mut worker = Worker::new(&correlation('1', &format!("{counted}, generate: true}}")));
    assert_eq!(
        types(&worker.alerts(0, "/aaaa?token=x")),
        ["Gateway_CustomRule"]
    );
}

fn serde_json_text(correlation: &alert::Correlation) -> String {
    format!(
        "rule {} {} in {} s {:?}",
        correlation.rule_id, correlation.count, correlation.window_seconds, correlation.group_key
    )
}

#[test]
fn what_a_gateway_cannot_know_is_refused_by_name_with_the_reason() {
    let group = "group-by: [c-ip], timespan: 1m";
    let count = |condition: &str| {
        format!("{{type: event_count, rules: a, {group}, condition: {condition}}}")
    };
    let mut cases = vec![
        (count("{lt: 3}"), "error[condition-not-run]: whether the count stays below"),
        (count("{lte: 3}"), "error[condition-not-run]: whether the count stays below"),
        (count("{eq: 3}"), "error[condition-not-run]: whether the count stays at"),
        (count("{gte: 1, neq: 3}"), "error[condition-not-run]: whether the count stays at"),
        (count("{gte: 5, lt: 5}"), "error[never-holds]: no count"),
        (
            format!("{{type: event_count, rules: a, {group}, condition: {{gte: 1}}}}\nportcullis: {{learn: 10s}}"),
            "error[learn-without-values]: `learn` is about values",
        ),
        (
            format!("{{type: value_count, rules: a, {group}, condition: {{field: c-net, gte: 2}}}}\nportcullis: {{learn: 10s}}"),
            "error[learn-without-values]: `learn` is about values",
        ),
        (
            format!("{{type: value_count, rules: a, {group}, condition: {{field: c-net, gte: 1}}}}\nportcullis: {{learn: 1m}}"),
            "error[learn-too-long]: what was learned is forgotten",
        ),
        (
            format!("{{type: temporal, rules: [a, b], {group}, condition: {{gte: 3}}}}"),
            "error[never-holds]: 2 rules never come to 3",
        ),
        (
            format!("{{type: temporal, rules: [a, b], {group}, condition: a and not b}}"),
            "error[condition-not-run]: that a rule does not match",
        ),
        (
            format!("{{type: temporal_ordered, rules: [a, b], {group}, condition: a or b}}"),
            "error[condition-not-run]: an order is over all",
        ),
        (
            format!("{{type: temporal_ordered, rules: [a, b], {group}, condition: {{gte: 1}}}}"),
            "error[condition-not-run]: an order is over all",
        ),
        (
            format!("{{type: value_count, rules: a, {group}, condition: {{field: cs-uri-query.*, gte: 3}}}}"),
            "error[many-values]: one event has many values of `cs-uri-query.*`",
        ),
        (
            "{type: event_count, rules: a, group-by: [sc-status], timespan: 1m, condition: {gte: 3}}".to_owned(),
            "error[status-not-grouped]",
        ),
        (
            "{type: event_count, rules: a, group-by: [cs-body], timespan: 1m, condition: {gte: 3}}".to_owned(),
            "error[body-not-counted]",
        ),
        (
            "{type: event_count, rules: [a, b], group-by: [x], aliases: {x: {a: c-ip}}, timespan: 1m, condition: {gte: 3}}".to_owned(),
            "error[incomplete-alias]: the alias `x`",
        ),
    ];
    for (kind, extra) in [
        ("value_sum", ""),
        ("value_avg", ""),
        ("value_median", ""),
        ("value_percentile", "percentile: 9, "),
    ] {
        let condition = format!("{{{extra}field: sc-status, gte: 3}}");
        cases.push((
            format!("{{type: {kind}, rules: a, {group}, condition: {condition}}}"),
            "error[correlation-type-not-run]: a gateway does not run",
        ));
    }
    for (body, expected) in cases {
        let refused = compiled(&correlation('1', &body)).err().unwrap_or_default();
        assert!(refused.contains(expected), "{body}: {refused}");
    }
}
