//! The same rules, read by an independent implementation: conditions, wildcards, modifiers and whole files.
//!
//! Differences that are meant, and therefore not compared:
//! - a condition that names a selection that is not there is an error here, and simply false there;
//! - `wide` and its kin, `base64offset` and `windash` are applied here (and tested in `values.rs`), there later.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod random;

use std::collections::BTreeSet;
use std::path::Path;

use portcullis_compiler::ast::{Condition, Document, Part, Quantity};
use portcullis_compiler::{Options, expand, parse, rule_files, values};
use random::Random;
use rsigma_parser as oracle;

const NAMES: [&str; 5] = ["sel_a", "sel_b", "filter_main", "filter-x", "_hidden"];

/// Our condition for a text, or the code of the first error.
fn ours(condition: &str) -> Result<Condition, &'static str> {
    let selections: String = NAMES
        .iter()
        .map(|name| format!("  {name}: {{cs-method: x}}\n"))
        .collect();
    let rule = format!(
        "title: t\nlogsource: {{category: webserver}}\ndetection:\n{selections}  condition: '{condition}'\n"
    );
    let mut parsed = parse("generated.yml", rule, &Options::default());
    let error = parsed.errors().next().map(|error| error.code);
    match (parsed.documents.pop(), error) {
        (Some(Document::Rule(rule)), None) => Ok(rule.detection.condition),
        (_, error) => Err(error.expect("neither a rule nor an error")),
    }
}

fn eval_ours(condition: &Condition, truth: usize) -> bool {
    let holds = |index: &usize| truth >> index & 1 == 1;
    match condition {
        Condition::All(parts) => parts.iter().all(|part| eval_ours(part, truth)),
        Condition::Any(parts) => parts.iter().any(|part| eval_ours(part, truth)),
        Condition::Not(part) => !eval_ours(part, truth),
        Condition::Selection(index) => holds(&index.value),
        Condition::Of {
            quantity,
            selections,
            ..
        } => {
            let count = selections.iter().filter(|index| holds(index)).count();
            count
                >= match quantity {
                    Quantity::All => selections.len(),
                    Quantity::AtLeast(least) => *least,
                }
        }
    }
}

fn eval_theirs(condition: &oracle::ConditionExpr, truth: usize) -> bool {
    use oracle::{ConditionExpr as C, Quantifier as Q};
    let holds = |index: usize| truth >> index & 1 == 1;
    match condition {
        C::And(parts) => parts.iter().all(|part| eval_theirs(part, truth)),
        C::Or(parts) => parts.iter().any(|part| eval_theirs(part, truth)),
        C::Not(part) => !eval_theirs(part, truth),
        C::Identifier(name) => NAMES
            .iter()
            .position(|have| have == name)
            .is_some_and(holds),
        C::Selector {
            quantifier,
            pattern,
        } => {
            let meant: Vec<usize> = (0..NAMES.len())
                .filter(|index| pattern.matches_detection_name(NAMES[*index]))
                .collect();
            let count = meant.iter().filter(|index| holds(**index)).count();
            match quantifier {
                Q::All => count == meant.len(),
                Q::Any => count >= 1,
                Q::Count(least) => count as u64 >= *least,
            }
        }
    }
}

fn agree(condition: &str, ours: &Condition, theirs: &oracle::ConditionExpr) {
    for truth in 0..1 << NAMES.len() {
        assert_eq!(
            eval_ours(ours, truth),
            eval_theirs(theirs, truth),
            "`{condition}` with {truth:05b}"
        );
    }
}

fn random_condition(random: &mut Random, depth: usize) -> String {
    match random.below(if depth == 0 { 2 } else { 6 }) {
        0 => random.pick(&NAMES).to_owned(),
        1 => {
            let quantity = random.pick(&["1", "any", "all", "2"]);
            // Each means at least two selections.
            format!(
                "{quantity} of {}",
                random.pick(&["them", "sel_*", "filter*", "*"])
            )
        }
        2 => format!("not {}", random_condition(random, depth - 1)),
        3 => format!("({})", random_condition(random, depth - 1)),
        4 => format!(
            "{} and {}",
            random_condition(random, depth - 1),
            random_condition(random, depth - 1)
        ),
        _ => format!(
            "{} or {}",
            random_condition(random, depth - 1),
            random_condition(random, depth - 1)
        ),
    }
}

#[test]
fn conditions_mean_the_same() {
    let mut random = Random(0x5eed);
    let mut longest = 0;
    for _ in 0..1000 {
        let condition = random_condition(&mut random, 5);
        longest = longest.max(condition.len());
        let theirs = oracle::parse_condition(&condition).unwrap();
        match ours(&condition) {
            Ok(ours) => agree(&condition, &ours, &theirs),
            Err(code) => panic!("`{condition}` is refused here: {code}"),
        }
    }
    assert!(longest > 100, "only short conditions were tried");
}

#[test]
fn words_in_any_order_are_accepted_or_refused_alike() {
    let words = [
        "sel_a", "filter-x", "and", "or", "not", "(", ")", "1", "all", "any", "of", "them",
        "sel_*", "|", "nope",
    ];
    let mut random = Random(0xfeed);
    let (mut both, mut neither, mut only_theirs) = (0, 0, 0);
    for _ in 0..8_000 {
        let length = 1 + random.below(6);
        let condition: Vec<&str> = (0..length).map(|_| random.pick(&words)).collect();
        let condition = condition.join(" ");
        match (ours(&condition), oracle::parse_condition(&condition)) {
            (Ok(ours), Ok(theirs)) => {
                agree(&condition, &ours, &theirs);
                both += 1;
            }
            (Ok(_), Err(error)) => panic!("`{condition}` is accepted here, and there: {error}"),
            (Err(code), Ok(_)) => {
                // What is not there cannot be referred to, and `1` alone is a name there.
                assert!(
                    code == "unknown-selection" || code == "quantity-out-of-range",
                    "`{condition}`: {code}"
                );
                only_theirs += 1;
            }
            (Err(_), Err(_)) => neither += 1,
        }
    }
    assert!(
        both > 100 && neither > 1000 && only_theirs > 100,
        "{both} {neither} {only_theirs}"
    );
}

#[test]
fn texts_fall_into_the_same_parts() {
    let mut random = Random(0xabcd);
    for _ in 0..20_000 {
        let length = random.below(12);
        let text: String = (0..length)
            .map(|_| random.pick(&["*", "?", "\\", "a", "é", " "]))
            .collect();
        let mut theirs = Vec::new();
        for part in oracle::SigmaString::new(&text).parts {
            let part = match part {
                oracle::StringPart::Plain(text) => Part::Literal(text.into_bytes()),
                oracle::StringPart::Special(oracle::SpecialChar::WildcardMulti) => Part::Any,
                oracle::StringPart::Special(oracle::SpecialChar::WildcardSingle) => Part::One,
            };
            // `**` means the same as `*`, and only here it also looks the same.
            values::push(&mut theirs, part);
        }
        assert_eq!(values::parts(&text), theirs, "{text}");
    }
}

#[test]
fn the_modifiers_of_sigma_are_known_on_both_sides() {
    let own = BTreeSet::from([
        "sqli",
        "xss",
        "command",
        "traversal",
        "ssrf",
        "code",
        "spam",
        "raw",
    ]);
    let mut known = 0;
    for modifier in expand::modifiers() {
        let theirs = modifier.parse::<oracle::Modifier>();
        assert_eq!(theirs.is_ok(), !own.contains(modifier), "{modifier}");
        known += 1;
    }
    assert_eq!(known, 39);
}

#[test]
fn files_hold_the_same_documents() {
    let mut compared = 0;
    for path in rule_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/accepts")).unwrap() {
        let text = std::fs::read_to_string(&path).unwrap();
        // Our own modifiers are the one thing that other tools cannot read.
        if text.contains("|sqli") {
            continue;
        }
        let ours = parse("a.yml", text.as_str(), &Options::default()).documents;
        let theirs = oracle::parse_sigma_yaml(&text).unwrap();
        assert!(
            theirs.errors.is_empty(),
            "{}: {:?}",
            path.display(),
            theirs.errors
        );
        let titles = |kind: fn(&Document) -> bool| -> Vec<&str> {
            ours.iter()
                .filter(|one| kind(one))
                .map(|one| one.head().title.value.as_str())
                .collect()
        };
        let rules: Vec<&str> = theirs
            .rules
            .iter()
            .map(|rule| rule.title.as_str())
            .collect();
        assert_eq!(
            titles(|one| matches!(one, Document::Rule(_))),
            rules,
            "{}",
            path.display()
        );
        let correlations: Vec<&str> = theirs
            .correlations
            .iter()
            .map(|one| one.title.as_str())
            .collect();
        assert_eq!(
            titles(|one| matches!(one, Document::Correlation(_))),
            correlations,
            "{}",
            path.display()
        );
        let filters: Vec<&str> = theirs
            .filters
            .iter()
            .map(|one| one.title.as_str())
            .collect();
        assert_eq!(
            titles(|one| matches!(one, Document::Filter(_))),
            filters,
            "{}",
            path.display()
        );
        for (ours, theirs) in ours
            .iter()
            .filter(|one| matches!(one, Document::Correlation(_)))
            .zip(&theirs.correlations)
        {
            let Document::Correlation(ours) = ours else {
                unreachable!()
            };
            assert_eq!(
                ours.timespan_seconds.value,
                theirs.timespan.seconds,
                "{}",
                path.display()
            );
            assert_eq!(ours.generate, theirs.generate);
        }
        compared += ours.len();
    }
    assert!(compared >= 20, "{compared} documents");
}
