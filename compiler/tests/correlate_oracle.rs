//! Our correlations beside those of an independent engine, on random streams of events.
//!
//! Where the two differ on purpose the streams keep away from it: an event that several rules match is two for them
//! and one for us, their order is one of times and ours one of arrivals, and a standing order fires for them on
//! any event. So rules are disjoint, times grow, and of an order the first alert counts.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::net::IpAddr;

use portcullis::correlate::{Correlator, Local};
use portcullis::headers::Headers;
use portcullis::inspect::{Facts, Inspector};
use portcullis::ruleset::RuleSet;
use portcullis_compiler::{Options, backend, parse};
use rsigma_eval::{CorrelationConfig, CorrelationEngine, JsonEvent};

const RULES: &str = "
title: A
id: 00000000-0000-4000-8000-00000000000a
name: a
logsource: {category: webserver}
detection: {selection: {cs-uri-stem|startswith: /aaaa}, condition: selection}
---
title: B
id: 00000000-0000-4000-8000-00000000000b
name: b
logsource: {category: webserver}
detection: {selection: {cs-uri-stem|startswith: /bbbb}, condition: selection}
---
title: C
id: 00000000-0000-4000-8000-00000000000c
name: c
logsource: {category: webserver}
detection: {selection: {cs-uri-stem|startswith: /cccc}, condition: selection}
---
title: Correlation
id: 00000000-0000-4000-8000-000000000001
level: high
correlation:
  group-by: [c-ip]
  timespan: 60s
";

/// Type, rules and condition, and whether only the first alert of a source counts.
const CORRELATIONS: [(&str, &str, &str, bool); 9] = [
    ("event_count", "[a]", "{gte: 5}", false),
    ("event_count", "[a, b, c]", "{gt: 7}", false),
    ("event_count", "[a, b]", "{gte: 3, lte: 4}", false),
    (
        "value_count",
        "[a, b]",
        "{field: cs-uri-stem, gte: 4}",
        false,
    ),
    (
        "value_count",
        "[a, c]",
        "{field: cs-uri-stem, gt: 5}",
        false,
    ),
    ("temporal", "[a, b, c]", "{gte: 3}", false),
    ("temporal", "[a, b, c]", "{gte: 2}", false),
    ("temporal_ordered", "[a, b]", "{gte: 2}", true),
    ("temporal_ordered", "[c, a, b]", "{gte: 3}", true),
];

struct Source(IpAddr);

impl Facts for Source {
    fn source_address(&self) -> Option<IpAddr> {
        Some(self.0)
    }
}

/// Numbers that only look random.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

#[test]
fn an_independent_engine_fires_on_the_same_events() {
    let mut random = Random(7);
    let (mut fired_ever, mut streams) = (0, 0);
    for (kind, rules, condition, only_first) in CORRELATIONS {
        let text = format!("{RULES}  type: {kind}\n  rules: {rules}\n  condition: {condition}\n");
        let parsed = parse("rules.yml", &text, &Options::default());
        let compiled = backend::compile(&parsed.documents)
            .unwrap_or_else(|errors| panic!("{text}: {errors:#?}"));
        let set = RuleSet::open(compiled.bytes).unwrap();
        for _ in 0..60 {
            let theirs = rsigma_parser::parse_sigma_yaml(&text).unwrap();
            let mut oracle = CorrelationEngine::new(CorrelationConfig {
                suppress: Some(60),
                ..CorrelationConfig::default()
            });
            oracle.add_collection(&theirs).unwrap();
            let mut inspector = Inspector::new(set.clone());
            let mut correlator = Correlator::default();
            let mut memory = Local::default();
            let (mut ours, mut expected) = (Vec::new(), Vec::new());
            let mut second = 1_800_000_000_i64;
            let pace = 1 + random.below(25);
            for _ in 0..120 {
                second += 1 + random.below(pace) as i64;
                let source = IpAddr::from([192, 0, 2, 1 + random.below(3) as u8]);
                let letter = ["aaaa", "bbbb", "cccc", "nothing"][random.below(4) as usize];
                let target = format!("/{letter}/{}", random.below(8));
                let event = serde_json::json!({"cs-uri-stem": target, "c-ip": source.to_string()});
                let results = oracle.process_event_at(&JsonEvent::borrow(&event), second);
                if results.iter().any(|result| result.is_correlation()) {
                    expected.push((second, source));
                }
                let pairs = [(&b":path"[..], target.as_bytes())];
                let (headers, facts) = (Headers::Pairs(&pairs), Source(source));
                let found = inspector.request(headers, &facts).detections.to_vec();
                let time_ns = second * 1_000_000_000;
                let fired = correlator.observe(&mut memory, &set, &found, headers, &facts, time_ns);
                if !fired.is_empty() {
                    ours.push((second, source));
                }
            }
            if only_first {
                for fired in [&mut ours, &mut expected] {
                    let mut known = Vec::new();
                    fired.retain(|(_, source)| {
                        let is_first = !known.contains(source);
                        known.push(*source);
                        is_first
                    });
                }
            }
            assert_eq!(
                ours, expected,
                "{kind} of {rules} {condition}, up to {pace} s apart"
            );
            fired_ever += ours.len();
            streams += 1;
        }
    }
    assert_eq!(streams, CORRELATIONS.len() * 60);
    assert!(fired_ever > 2_000, "{fired_ever}");
}
