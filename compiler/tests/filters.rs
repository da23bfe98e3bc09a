//! Sigma's filter documents: what they take away from which rules, and nothing else.
#![allow(clippy::unwrap_used, clippy::panic)]

use portcullis::headers::Headers;
use portcullis::inspect::Inspector;
use portcullis::ruleset::RuleSet;
use portcullis_compiler::link::link;
use portcullis_compiler::{Options, backend, parse};

const RULES: &str = "
title: Word
id: 0b0f8a52-4d0a-4a05-8c3c-111111111111
name: word
logsource: {category: webserver}
detection:
  selection:
    cs-uri-query|contains: password
  condition: selection
---
title: Agent
id: 0b0f8a52-4d0a-4a05-8c3c-222222222222
logsource: {category: webserver}
detection:
  selection:
    cs-user-agent|contains: scanner
  condition: selection
---
title: Behind a proxy
id: 0b0f8a52-4d0a-4a05-8c3c-333333333333
logsource: {category: proxy}
detection:
  selection:
    c-uri|contains: password
  condition: selection
";

fn filter(rules: &str, condition: &str) -> String {
    format!(
        "---
title: Ours
id: 0b0f8a52-4d0a-4a05-8c3c-444444444444
logsource: {{category: webserver}}
filter:
  rules: {rules}
  monitoring:
    cs-uri-stem|startswith: /health
    cs-user-agent|contains: probe
  tool:
    cs-uri-query|contains: trusted
  condition: {condition}
"
    )
}

/// The titles of the rules that match.
fn matched(documents: &str, target: &str, agent: &str) -> Vec<String> {
    let parsed = parse("filters.yml", documents, &Options::default());
    assert_eq!(parsed.errors().count(), 0, "{:#?}", parsed.diagnostics);
    assert_eq!(link(&parsed.documents), []);
    let compiled =
        backend::compile(&parsed.documents).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let mut inspector = Inspector::new(RuleSet::open(compiled.bytes).unwrap());
    let pairs: [(&[u8], &[u8]); 3] = [
        (b":path", target.as_bytes()),
        (b":method", b"GET"),
        (b"user-agent", agent.as_bytes()),
    ];
    // Twice: what was harmless once must not hide what a filter asks about.
    inspector.request(Headers::Pairs(&pairs), &());
    inspector.request(Headers::Pairs(&pairs), &());
    let rules = inspector.rules();
    let titles = inspector.detections().iter().map(|detection| {
        let rule = rules.rule(detection.rule).unwrap();
        rules.text(rule.title).to_owned()
    });
    titles.collect()
}

#[test]
fn a_filter_takes_away_from_the_rules_that_it_names() {
    let not_monitoring = "not monitoring";
    for (rules, want) in [
        // By name, by id, in any letter case; `any` is every rule of the filter's event source.
        ("[word]", &["Agent", "Behind a proxy"][..]),
        (
            "[0B0F8A52-4d0a-4a05-8c3c-222222222222]",
            &["Word", "Behind a proxy"],
        ),
        (
            "[word, 0b0f8a52-4d0a-4a05-8c3c-222222222222]",
            &["Behind a proxy"],
        ),
        ("any", &["Behind a proxy"]),
    ] {
        // Wherever it stands among the documents.
        let documents = format!("{RULES}{}", filter(rules, not_monitoring));
        let first = format!(
            "{}{RULES}",
            filter(rules, not_monitoring).replacen("---\n", "", 1) + "---"
        );
        for documents in [documents, first] {
            let got = matched(&documents, "/health?q=password", "a probe, a scanner");
            assert_eq!(got, want, "{rules}");
            // Nothing that it does not ask for in full.
            for (target, agent) in [
                ("/health?q=password", "a scanner"),
                ("/other?q=password", "a probe, a scanner"),
            ] {
                let got = matched(&documents, target, agent);
                assert_eq!(
                    got,
                    ["Word", "Agent", "Behind a proxy"],
                    "{rules} {target} {agent}"
                );
            }
        }
    }
}

#[test]
fn the_condition_of_a_filter_is_joined_by_and() {
    for (condition, excepted, kept) in [
        ("not 1 of them", "/health?q=password", ""),
        ("not (monitoring or tool)", "/x?q=password&trusted", ""),
        ("not tool", "/x?q=password&trusted", "/health?q=password"),
        // A filter may also demand something.
        ("tool", "/x?q=password", "/x?q=password&trusted"),
    ] {
        let documents = format!("{RULES}{}", filter("[word]", condition));
        let has_word = |target| matched(&documents, target, "probe").contains(&"Word".to_owned());
        assert!(!has_word(excepted), "{condition}");
        assert!(kept.is_empty() || has_word(kept), "{condition}");
    }
}

#[test]
fn a_filter_for_no_rule_is_an_error() {
    for (rules, code) in [
        ("[nobody]", "unknown-rule"),
        ("[0b0f8a52-4d0a-4a05-8c3c-333333333333]", "filter-logsource"),
    ] {
        let documents = format!("{RULES}{}", filter(rules, "not tool"));
        let parsed = parse("filters.yml", documents, &Options::default());
        let codes: Vec<&str> = link(&parsed.documents).iter().map(|one| one.code).collect();
        assert_eq!(codes, [code], "{rules}");
    }
}
