//! Events a second of `rsigma-eval` and of the engine, natively, over the same thousand rules and the same events.
//!
//! ```sh
//! PORTCULLIS_CORPORA=DIR PORTCULLIS_SIGMA_RULES=~/sigma/rules/web \
//!   cargo test --release -p portcullis-compiler --test speed -- --ignored --nocapture
//! ```
//!
//! Three loads: rules of rare words over made-up processes; rules of rare words over a real access log; and public rules with
//! their words changed, a thousand of them, over the same log. Neither side's time has the reading of its events in it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod random;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use portcullis::event::Source;
use portcullis::field::Field;
use portcullis::headers::Headers;
use portcullis::inspect::Inspector;
use portcullis::ruleset::RuleSet;
use portcullis_capture::event::header_pairs;
use portcullis_capture::{Reader, Record};
use portcullis_compiler::{Options, backend, parse, public_rule_files, synthetic};
use random::Random;
use rsigma_eval::{Engine, JsonEvent};
use serde_json::{Value, json};

/// Interleaved rounds, of which the median counts.
const ROUNDS: usize = 7;
const RULES: usize = 1000;
/// Of so many events one is what a rule is about.
const SHARE: usize = 50;

/// Times both and prints the figures. Returns how many times as fast ours is as the faster of theirs.
fn race(
    name: &str,
    rules: &str,
    options: &Options,
    events: &[Value],
    mut ours: impl FnMut(&mut Inspector, usize) -> usize,
) -> (f64, [usize; 3]) {
    let parsed = parse("rules.yml", rules, options);
    assert_eq!(parsed.errors().count(), 0);
    let compiled = backend::compile(&parsed.documents).unwrap();
    let mut inspector = Inspector::new(RuleSet::open(compiled.bytes).unwrap());
    let theirs = rsigma_parser::parse_sigma_yaml(rules).unwrap();
    let engine = |prefilters: bool| {
        let mut engine = Engine::new();
        engine.set_bloom_prefilter(prefilters);
        engine.add_collection(&theirs).unwrap();
        assert_eq!(engine.rule_count(), parsed.documents.len());
        engine
    };
    let engines = [engine(false), engine(true)];
    let mut times: Vec<[Duration; 3]> = Vec::new();
    let mut counts = [0; 3];
    for _ in 0..ROUNDS {
        counts = [0; 3];
        let begun = Instant::now();
        for at in 0..events.len() {
            counts[0] += ours(&mut inspector, at);
        }
        let mut round = [begun.elapsed(); 3];
        for (at, engine) in engines.iter().enumerate() {
            let begun = Instant::now();
            for event in events {
                counts[at + 1] += engine.evaluate(&JsonEvent::borrow(event)).len();
            }
            round[at + 1] = begun.elapsed();
        }
        times.push(round);
    }
    let per_second = |at: usize| {
        let mut all: Vec<Duration> = times.iter().map(|round| round[at]).collect();
        all.sort();
        events.len() as f64 / all[all.len() / 2].as_secs_f64()
    };
    let [own, plain, prefiltered] = [0, 1, 2].map(per_second);
    let ratio = own / plain.max(prefiltered);
    eprintln!(
        "{name}: {} rules, {} events, {} and {} matches, events a second: ours {own:.0}, rsigma-eval {plain:.0}, with its \
         bloom filter {prefiltered:.0}: {ratio:.1} times",
        parsed.documents.len(),
        events.len(),
        counts[0],
        counts[1]
    );
    (ratio, counts)
}

#[test]
#[ignore = "measures; needs --release"]
fn rare_words_over_processes() {
    let mut words = synthetic::Words::new(0x1000);
    let mut random = Random(0x1000);
    let mut rules = String::new();
    let mut known = Vec::new();
    for number in 0..RULES {
        let [image, one, two, parent] = std::array::from_fn(|_| words.word());
        rules += &format!(
            "title: r{number}\nid: 00000000-0000-4000-8000-{number:012}\nlogsource:\n  category: process_creation\ndetection:\n  \
             sel_image:\n    - Image|endswith: '\\{image}.exe'\n    - OriginalFileName: '{image}.exe'\n  \
             sel_cli:\n    CommandLine|contains:\n      - ' -{one} '\n      - ' /{two}'\n  \
             filter:\n    ParentImage|endswith: '\\{parent}.exe'\n  condition: all of sel_* and not filter\n---\n"
        );
        known.push((image, one));
    }
    const FIELDS: [(&str, Field); 5] = [
        ("Image", Field::Image),
        ("CommandLine", Field::CommandLine),
        ("ParentImage", Field::ParentImage),
        ("User", Field::User),
        ("OriginalFileName", Field::OriginalFileName),
    ];
    let events: Vec<[String; 5]> = (0..2000)
        .map(|number| {
            let (image, one) = known[random.below(known.len())].clone();
            let (other, argument) = (words.word(), words.word());
            let (image, one) = match number % SHARE {
                0 => (image, one),
                _ => (other, argument.clone()),
            };
            [
                format!(r"C:\Program Files\Vendor\{image}.exe"),
                format!(r#""C:\Program Files\Vendor\{image}.exe" -{one} --config C:\Users\{argument}\settings.json -v"#),
                r"C:\Windows\explorer.exe".to_owned(),
                r"CORP\someone".to_owned(),
                format!("{image}.exe"),
            ]
        })
        .collect();
    let named = |event: &[String; 5]| {
        let named = FIELDS.iter().zip(event);
        Value::Object(
            named
                .map(|((name, _), text)| ((*name).to_owned(), text.clone().into()))
                .collect(),
        )
    };
    let theirs: Vec<Value> = events.iter().map(named).collect();
    let (_, counts) = race(
        "processes",
        &rules,
        &Options::default(),
        &theirs,
        |ours, at| {
            let event = &events[at];
            let fields: [(Field, &[u8]); 5] =
                std::array::from_fn(|field| (FIELDS[field].1, event[field].as_bytes()));
            ours.fields(Source::Process, &fields).detections.len()
        },
    );
    assert!(
        counts.iter().all(|count| *count > 0 && *count == counts[0]),
        "{counts:?}"
    );
}

#[test]
#[ignore = "measures; needs --release"]
fn rare_words_over_an_access_log() {
    let rules = synthetic::rules(RULES);
    let wanted: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.strip_prefix("      - /"))
        .collect();
    let mut log = access_log();
    for (number, record) in log.iter_mut().enumerate().step_by(SHARE) {
        let path = format!("/{}", wanted[number % wanted.len()]);
        let mut asked = Record::new(b"GET", path.as_bytes());
        asked.push_header(
            b"user-agent",
            record.header(b"user-agent").unwrap_or_default(),
        );
        *record = asked;
    }
    let (_, counts) = race_over(&log, "access log", &rules, &Options::default());
    assert!(
        counts.iter().all(|count| *count > 0 && *count == counts[0]),
        "{counts:?}"
    );
}

/// Rules in the shapes of public ones are what both are made for.
#[test]
#[ignore = "measures; needs --release"]
fn public_shapes_over_an_access_log() {
    let Some(folder) = folder_of("PORTCULLIS_SIGMA_RULES") else {
        return;
    };
    let options = Options {
        public: true,
        ..Options::default()
    };
    let one_by_one = |text: &str| {
        let parsed = parse("rule.yml", text, &options);
        parsed.errors().next().is_none()
            && parsed.documents.len() == 1
            && backend::compile(&parsed.documents).is_ok()
    };
    let mut public = Vec::new();
    for path in public_rule_files(&folder).unwrap() {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        // What both read, and is about requests.
        let is_web = text.contains("category: webserver") || text.contains("category: proxy");
        if is_web && one_by_one(&text) && rsigma_parser::parse_sigma_yaml(&text).is_ok() {
            public.push(text);
        }
    }
    assert!(!public.is_empty(), "no public rule in {}", folder.display());
    let mut rules: Vec<String> = Vec::new();
    for turn in 0.. {
        for text in &public {
            let varied = varied(text, turn, rules.len());
            if one_by_one(&varied) {
                rules.push(varied);
            }
        }
        if rules.len() >= RULES {
            break;
        }
    }
    rules.truncate(RULES);
    let (ratio, _) = race_over(
        &access_log(),
        &format!("in the shapes of {} public rules", public.len()),
        &rules.join("\n---\n"),
        &options,
    );
    assert!(ratio >= 10.0, "{ratio:.1} times");
}

fn race_over(log: &[Record], name: &str, rules: &str, options: &Options) -> (f64, [usize; 3]) {
    let heads: Vec<Vec<(&[u8], &[u8])>> = log.iter().map(header_pairs).collect();
    let theirs: Vec<Value> = log.iter().map(named_as_in_logs).collect();
    race(name, rules, options, &theirs, |ours, at| {
        ours.request(Headers::Pairs(&heads[at]), &())
            .detections
            .len()
    })
}

/// A request under the names that rules of both log sources use.
fn named_as_in_logs(record: &Record) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let target = text(record.target());
    let (stem, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut event = json!({
        "cs-method": text(record.method()),
        "cs-uri": target, "c-uri": target,
        "cs-uri-stem": stem, "c-uri-stem": stem,
        "cs-host": text(record.authority().unwrap_or_default()),
    });
    let mut set = |names: &[&str], value: &str| {
        for name in names {
            event[*name] = value.into();
        }
    };
    if target.contains('?') {
        set(&["cs-uri-query", "c-uri-query"], query);
    }
    if let Some(agent) = record.header(b"user-agent") {
        set(&["cs-user-agent", "c-useragent"], &text(agent));
    }
    if let Some(referer) = record.header(b"referer") {
        set(&["cs-referer", "cs-referrer"], &text(referer));
    }
    event
}

/// The rule with a number of its own and other letters in its values: words of four letters and more keep their length and
/// where their vowels are.
fn varied(rule: &str, turn: usize, number: usize) -> String {
    let mut out = String::new();
    let mut in_detection = false;
    for line in rule.lines() {
        if !line.starts_with([' ', '\t', '-', '#']) && !line.is_empty() {
            in_detection = line.starts_with("detection:");
        }
        let body = line.trim_start();
        if line.starts_with("id:") {
            out += &format!("id: 00000000-0000-4000-8000-{number:012}");
        } else if !in_detection
            || ["condition:", "cs-method", "c-method"]
                .iter()
                .any(|key| body.starts_with(key))
        {
            out += line;
        } else {
            let value = match body.strip_prefix("- ") {
                Some(item) if !item.contains(": ") => line.len() - item.len(),
                _ => line.find(": ").map_or(line.len(), |at| at + 2),
            };
            out += &line[..value];
            out += &other_letters(&line[value..], turn);
        }
        out.push('\n');
    }
    out
}

fn other_letters(text: &str, turn: usize) -> String {
    const VOWELS: &[u8] = b"aeiou";
    const CONSONANTS: &[u8] = b"bcdfghjklmnpqrstvwxyz";
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut at = 0;
    while at < text.len() {
        let word = bytes[at..]
            .iter()
            .take_while(|byte| byte.is_ascii_alphabetic())
            .count();
        let escaped = at > 0 && bytes[at - 1] == b'\\';
        if word < 4 || escaped {
            let next = text[at..]
                .chars()
                .next()
                .map_or(1, char::len_utf8)
                .max(word);
            out += &text[at..at + next];
            at += next;
            continue;
        }
        for byte in &bytes[at..at + word] {
            let lower = byte.to_ascii_lowercase();
            let among = if VOWELS.contains(&lower) {
                VOWELS
            } else {
                CONSONANTS
            };
            let place = among.iter().position(|known| *known == lower).unwrap_or(0);
            let other = among[(place + turn) % among.len()];
            let is_upper = byte.is_ascii_uppercase();
            out.push(char::from(if is_upper {
                other.to_ascii_uppercase()
            } else {
                other
            }));
        }
        at += word;
    }
    out
}

/// The requests of a real access log.
fn access_log() -> Vec<Record> {
    let corpora = folder_of("PORTCULLIS_CORPORA").unwrap();
    let mut reader = Reader::open(&corpora.join("elastic-apache.ndjson.gz"), None).unwrap();
    let mut all = Vec::new();
    let mut record = Record::default();
    while let Some(read) = reader.read(&mut record) {
        read.unwrap();
        all.push(record.clone());
    }
    all
}

fn folder_of(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).filter(|folder| !folder.is_empty());
    if folder.is_none() {
        eprintln!("skipped: {variable} does not name a folder");
    }
    folder.map(|folder| Path::new(&folder).to_owned())
}
