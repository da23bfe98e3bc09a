//! The same answers as other implementations of Sigma: generated rules, rules of the project and, where a folder is
//! named, public ones, over generated events, by `rsigma-eval`, by `sigma-rust` and by the engine.
//!
//! ```sh
//! PORTCULLIS_SIGMA_RULES=~/sigma/rules cargo test -p portcullis-compiler --test agree -- --nocapture
//! ```
//!
//! Events are processes, whose fields have one text each and are not decoded: what decoding adds is tested elsewhere.
//! Where an answer differs on purpose `docs/RULES.md` says so, and [`DIFFERENCES`] has an example.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod random;

use std::path::Path;

use portcullis::event::Source;
use portcullis::field::Field;
use portcullis::inspect::Inspector;
use portcullis::ruleset::RuleSet;
use portcullis_compiler::ast::{Detection, Document, Match, Node, Op};
use portcullis_compiler::taxonomy::Category;
use portcullis_compiler::{Options, backend, parse, public_rule_files};
use random::Random;
use rsigma_eval::{Engine, JsonEvent};

const FIELDS: [(&str, Field); 5] = [
    ("Image", Field::Image),
    ("CommandLine", Field::CommandLine),
    ("ParentImage", Field::ParentImage),
    ("User", Field::User),
    ("OriginalFileName", Field::OriginalFileName),
];

const PIECES: [&str; 24] = [
    r"C:\Windows\System32\",
    r"\cmd.exe",
    r"\PowerShell.exe",
    " -enc ",
    " /c ",
    "whoami",
    "net user",
    "certutil",
    "http://",
    "10.1.2.3",
    "/tmp/",
    "/bin/sh",
    "a",
    "aa",
    "ab",
    ".exe",
    "*",
    "?",
    r"\",
    "-",
    "(x)",
    "$env",
    "%41",
    "SYSTEM",
];

/// One process.
#[derive(Clone, Debug)]
struct Event(Vec<(usize, String)>);

impl Event {
    fn random(random: &mut Random, pieces: &[&str]) -> Event {
        let mut fields = Vec::new();
        for field in 0..FIELDS.len() {
            if random.below(5) > 0 {
                let length = 1 + random.below(4);
                let mut text: String = (0..length).map(|_| random.pick(pieces)).collect();
                if random.below(3) == 0 {
                    text = text.to_ascii_uppercase();
                }
                fields.push((field, text));
            }
        }
        Event(fields)
    }

    fn json(&self) -> serde_json::Value {
        let fields = self
            .0
            .iter()
            .map(|(field, text)| (FIELDS[*field].0.to_owned(), text.clone().into()));
        serde_json::Value::Object(fields.collect())
    }

    fn fields(&self) -> Vec<(Field, &[u8])> {
        let fields = self
            .0
            .iter()
            .map(|(field, text)| (FIELDS[*field].1, text.as_bytes()));
        fields.collect()
    }
}

/// A rule in every implementation that takes it.
struct Rule {
    text: String,
    ours: Inspector,
    rsigma: Engine,
    sigma_rust: Option<sigma_rust::Rule>,
    /// A wildcard stands beside a modifier, which each of the two reads in a way of its own: see [`DIFFERENCES`].
    is_apart: bool,
}

impl Rule {
    fn new(text: &str, options: &Options) -> Option<Rule> {
        let parsed = parse("rule.yml", text, options);
        if parsed.errors().next().is_some() {
            return None;
        }
        let compiled = backend::compile(&parsed.documents).ok()?;
        let theirs = rsigma_parser::parse_sigma_yaml(text).ok()?;
        let mut rsigma = Engine::new();
        rsigma.add_collection(&theirs).ok()?;
        (rsigma.rule_count() == 1).then(|| Rule {
            text: text.to_owned(),
            ours: Inspector::new(RuleSet::open(compiled.bytes).unwrap()),
            rsigma,
            sigma_rust: sigma_rust::rule_from_yaml(text).ok(),
            is_apart: wildcard_beside_modifier(text),
        })
    }

    /// Whether it matches, if all agree.
    fn agreed(&mut self, event: &Event) -> Result<bool, String> {
        let json = event.json();
        let fields = event.fields();
        let ours = !self
            .ours
            .fields(Source::Process, &fields)
            .detections
            .is_empty();
        let rsigma = !self.rsigma.evaluate(&JsonEvent::borrow(&json)).is_empty();
        let sigma_rust = self.sigma_rust.as_ref().map(|rule| {
            let event = sigma_rust::event_from_json(&json.to_string()).unwrap();
            rule.is_match(&event)
        });
        let second = sigma_rust.is_none_or(|theirs| theirs == ours);
        // Where the two differ from each other, one of them is with us, if both take the rule.
        let agrees = match self.is_apart {
            true => rsigma == ours || second,
            false => rsigma == ours && second,
        };
        match agrees {
            true => Ok(ours),
            false => Err(format!(
                "ours {ours}, rsigma {rsigma}, sigma-rust {sigma_rust:?}\n{json}\n{}",
                self.text
            )),
        }
    }
}

/// Whether a value with a wildcard stands under a key with `contains`, `startswith`, `endswith` or `windash`.
fn wildcard_beside_modifier(text: &str) -> bool {
    let mut beside = false;
    text.lines().any(|line| {
        let line = line.trim();
        if !line.starts_with('-') || line.contains("|") {
            beside = ["|contains", "|startswith", "|endswith", "|windash"]
                .iter()
                .any(|modifier| line.contains(modifier));
        }
        let value = line.split_once(": ").map_or(line, |(_, value)| value);
        beside && value.contains(['*', '?'])
    })
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn random_value(random: &mut Random) -> String {
    let length = 1 + random.below(2);
    (0..length).map(|_| random.pick(&PIECES)).collect()
}

fn random_rule(random: &mut Random) -> String {
    let mut text = String::from(
        "title: t\nid: 00000000-0000-4000-8000-000000000001\nlogsource:\n  category: process_creation\ndetection:\n",
    );
    for name in ["sel_a", "sel_b", "filter"] {
        text += &format!("  {name}:\n");
        let mut used = Vec::new();
        for _ in 0..1 + random.below(2) {
            let field = FIELDS[random.below(FIELDS.len())].0;
            if used.contains(&field) {
                continue;
            }
            used.push(field);
            let modifier = random.pick(&[
                "",
                "|contains",
                "|startswith",
                "|endswith",
                "|contains|all",
                "|contains|cased",
                "|re",
                "|exists",
                "|windash|contains",
            ]);
            if modifier == "|exists" {
                text += &format!("    {field}|exists: {}\n", random.pick(&["true", "false"]));
                continue;
            }
            if modifier == "|re" {
                let pattern = random.pick(&[
                    "whoami|certutil",
                    r"^C:\\.*exe$",
                    "(?i)net +user",
                    "a{2,3}b?",
                    r"/(tmp|bin)/",
                    "[A-F]:",
                ]);
                text += &format!("    {field}|re: {}\n", quoted(pattern));
                continue;
            }
            text += &format!("    {field}{modifier}:\n");
            let values = if modifier.contains("all") {
                2
            } else {
                1 + random.below(3)
            };
            for _ in 0..values {
                // Dashes that are no options differ on purpose.
                let value = match modifier.contains("windash") {
                    true => random
                        .pick(&[" -enc ", " /c", "-a", "whoami -x"])
                        .to_owned(),
                    false => random_value(random),
                };
                text += &format!("      - {}\n", quoted(&value));
            }
        }
    }
    let condition = random.pick(&[
        "sel_a and sel_b and not filter",
        "sel_a or sel_b",
        "1 of sel_*",
        "all of them",
        "sel_a and not filter",
        "not sel_a and (sel_b or filter)",
        "all of sel_* and not 1 of filter*",
        "any of them",
    ]);
    text + &format!("  condition: {condition}\n")
}

#[test]
fn generated_rules_have_the_same_answers() {
    let mut random = Random(0x51);
    let (mut asked, mut matched, mut by_both, mut rules) = (0, 0, 0, 0);
    while rules < 400 {
        let text = random_rule(&mut random);
        let Some(mut rule) = Rule::new(&text, &Options::default()) else {
            panic!("somebody refuses\n{text}");
        };
        rules += 1;
        by_both += usize::from(rule.sigma_rust.is_some());
        for _ in 0..60 {
            let event = Event::random(&mut random, &PIECES);
            match rule.agreed(&event) {
                Ok(matches) => matched += usize::from(matches),
                Err(difference) => panic!("{difference}"),
            }
            asked += 1;
        }
    }
    eprintln!(
        "{rules} generated rules ({by_both} by sigma-rust as well), {asked} questions, {matched} matches, 0 differences"
    );
    assert!(
        matched > asked / 20 && matched < asked * 19 / 20,
        "{matched} of {asked}"
    );
    assert!(by_both > rules * 3 / 4, "{by_both} of {rules}");
}

/// What a rule looks for, as pieces to make events of.
fn pieces_of(detection: &Detection) -> Vec<String> {
    fn of(node: &Node, out: &mut Vec<String>) {
        let text = |one: &Match| match &one.op {
            Op::Equals(text) | Op::Contains(text) | Op::StartsWith(text) | Op::EndsWith(text) => {
                String::from_utf8(text.clone()).ok()
            }
            _ => None,
        };
        match node {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().for_each(|node| of(node, out)),
            Node::Test(test) => out.extend(test.values.iter().flatten().filter_map(text)),
        }
    }
    let mut out = Vec::new();
    detection
        .selections
        .iter()
        .for_each(|selection| of(&selection.node, &mut out));
    out
}

/// Rules for processes of a folder, each held against events made of its own texts.
fn compare_folder(folder: &Path, options: &Options) -> (usize, usize, usize) {
    let mut random = Random(0x99);
    let (mut rules, mut asked, mut matched) = (0, 0, 0);
    for file in public_rule_files(folder).unwrap() {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let parsed = parse("rule.yml", text.as_str(), options);
        let [Document::Rule(document)] = parsed.documents.as_slice() else {
            continue;
        };
        if document.logsource.category != Category::ProcessCreation {
            continue;
        }
        let own = pieces_of(&document.detection);
        let Some(mut rule) = Rule::new(&text, options) else {
            continue;
        };
        let mut pieces: Vec<&str> = own
            .iter()
            .map(String::as_str)
            .filter(|piece| piece.is_ascii())
            .collect();
        pieces.extend(["x", r"\", " "]);
        rules += 1;
        for _ in 0..40 {
            let event = Event::random(&mut random, &pieces);
            match rule.agreed(&event) {
                Ok(matches) => matched += usize::from(matches),
                Err(difference) => panic!("{}: {difference}", file.display()),
            }
            asked += 1;
        }
    }
    (rules, asked, matched)
}

#[test]
fn rules_of_the_project_have_the_same_answers() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/process");
    let (rules, asked, matched) = compare_folder(&own, &Options::default());
    eprintln!("{rules} rules of the project, {asked} questions, {matched} matches, 0 differences");
    assert!(
        rules > 10 && matched > 0,
        "{rules} rules, {matched} matches"
    );
}

#[test]
fn public_rules_have_the_same_answers() {
    let Some(folder) =
        std::env::var_os("PORTCULLIS_SIGMA_RULES").filter(|folder| !folder.is_empty())
    else {
        eprintln!("skipped: PORTCULLIS_SIGMA_RULES does not name a folder of public rules");
        return;
    };
    let options = Options {
        public: true,
        ..Options::default()
    };
    let (rules, asked, matched) = compare_folder(Path::new(&folder), &options);
    eprintln!("{rules} public rules, {asked} questions, {matched} matches, 0 differences");
    assert!(rules > 0);
}

/// A selection, a command line, and what we, `rsigma-eval` and `sigma-rust` say: each with its reason in `docs/RULES.md`.
const DIFFERENCES: [(&str, &str, bool, bool, bool); 5] = [
    ("CommandLine|contains: 'É'", "café", false, true, true),
    (
        "CommandLine|windash|contains: '-'",
        "a / b",
        false,
        true,
        true,
    ),
    (
        "CommandLine|windash|contains: '*'",
        "abc",
        true,
        false,
        true,
    ),
    (
        "CommandLine|startswith: 'whoami*'",
        "-whoami",
        false,
        true,
        false,
    ),
    ("CommandLine|endswith: '?'", "abc", true, true, false),
];

#[test]
fn what_differs_on_purpose_is_as_documented() {
    for (selection, line, ours, rsigma, sigma_rust) in DIFFERENCES {
        let text = format!(
            "title: t\nlogsource: {{category: process_creation}}\ndetection: {{a: {{{selection}}}, condition: a}}\n"
        );
        let mut rule = Rule::new(&text, &Options::default()).unwrap();
        let json = serde_json::json!({"CommandLine": line});
        let fields = [(Field::CommandLine, line.as_bytes())];
        let found = (
            !rule
                .ours
                .fields(Source::Process, &fields)
                .detections
                .is_empty(),
            !rule.rsigma.evaluate(&JsonEvent::borrow(&json)).is_empty(),
            rule.sigma_rust
                .unwrap()
                .is_match(&sigma_rust::event_from_json(&json.to_string()).unwrap()),
        );
        assert_eq!(found, (ours, rsigma, sigma_rust), "{selection} {line}");
    }
}
