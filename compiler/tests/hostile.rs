//! Rule files that want to do harm: whatever the text, the answer comes soon, with errors instead of panics.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod random;

use std::path::Path;
use std::time::{Duration, Instant};

use portcullis_compiler::{Options, Parsed, link::link, parse, parse_bytes, rule_files};
use random::Random;

/// Seconds that any file of the allowed size may take, in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn read(text: &[u8]) -> Parsed {
    let begun = Instant::now();
    let parsed = parse_bytes("hostile.yml", text, &Options::default());
    // Showing and linking must be total as well.
    for one in parsed.diagnostics.iter().chain(&link(&parsed.documents)) {
        assert!(
            one.source.text().get(one.span.range()).is_some(),
            "{:?} is no place in the text: {one}",
            one.span
        );
        assert!(
            one.to_string().len() < 4096 && !one.one_line().contains(['\n', '\u{1b}']),
            "{one}"
        );
    }
    // Nothing is lost silently, not even nothing.
    assert!(
        !parsed.documents.is_empty() || !parsed.diagnostics.is_empty(),
        "{}",
        String::from_utf8_lossy(text)
    );
    let took = begun.elapsed();
    assert!(
        took < PATIENCE,
        "{took:?} for {} bytes: {:.200}",
        text.len(),
        String::from_utf8_lossy(text)
    );
    parsed
}

const RULE: &str =
    "title: t\nid: 00000000-0000-4000-8000-000000000001\nlogsource: {category: webserver}\n";

fn codes(text: &str) -> Vec<&'static str> {
    read(text.as_bytes())
        .diagnostics
        .iter()
        .map(|one| one.code)
        .collect()
}

#[test]
fn bombs_are_refused_by_name() {
    let laughs: String = (1..20)
        .map(|level| {
            format!(
                "a{level}: &a{level} [{}]\n",
                vec![format!("*a{}", level - 1); 10].join(",")
            )
        })
        .collect();
    let long = "x".repeat(60_000);
    let selections: String = (0..3000)
        .map(|at| format!("  s{at}: {{cs-method: x}}\n"))
        .collect();
    let patterns = vec!["1 of s*"; 1000].join(" or ");
    let globals: String = (0..20_000).map(|_| "---\nb: 1\n").collect();
    let cases: [(&str, String, &str); 13] = [
        (
            "aliases of aliases",
            format!("a0: &a0 [x]\n{laughs}"),
            "file-too-large",
        ),
        (
            "aliases of long text",
            format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 2000].join(",")),
            "file-too-large",
        ),
        ("nested lists", "[".repeat(100), "yaml-too-deep"),
        ("nested mappings", "{a: ".repeat(100), "yaml-too-deep"),
        // Here the parser of events gives up before we do.
        ("deeply nested lists", "[".repeat(10_000), "yaml-syntax"),
        (
            "nested blocks",
            (0..200)
                .map(|at| format!("{}a:\n", " ".repeat(at)))
                .collect(),
            "yaml-too-deep",
        ),
        (
            "too long a file",
            format!("# {}", "x".repeat(5 << 20)),
            "file-too-large",
        ),
        (
            "a document in every other one",
            format!(
                "action: global\na: [{}]\n{globals}",
                vec!["x"; 200].join(",")
            ),
            "file-too-large",
        ),
        (
            "brackets in conditions",
            format!(
                "{RULE}detection: {{s: {{cs-method: x}}, condition: {}s{}}}",
                "(".repeat(5000),
                ")".repeat(5000)
            ),
            "condition-too-deep",
        ),
        (
            "a long condition",
            format!(
                "{RULE}detection: {{s: {{cs-method: x}}, condition: s{}}}",
                " or s".repeat(5000)
            ),
            "condition-too-long",
        ),
        (
            "patterns over many names",
            format!("{RULE}detection:\n{selections}  condition: {patterns}\n"),
            "file-too-large",
        ),
        (
            "dashes",
            format!(
                "{RULE}detection: {{s: {{cs-uri|windash|contains: [{}]}}, condition: s}}",
                vec!["-a -b -c -d"; 5_000].join(",")
            ),
            "file-too-large",
        ),
        (
            "a long value",
            format!("{RULE}detection: {{s: {{cs-uri|windash: {long}}}, condition: s}}"),
            "value-too-long",
        ),
    ];
    for (name, text, code) in &cases {
        assert!(codes(text).contains(code), "{name}: {:?}", codes(text));
    }
}

#[test]
fn large_files_of_one_kind_take_their_time_and_no_more() {
    let merges: String = (1..20)
        .map(|level| {
            format!(
                "a{level}: &a{level} {{<<: [{}], k{level}: 1}}\n",
                vec![format!("*a{}", level - 1); 10].join(",")
            )
        })
        .collect();
    let bodies = [
        format!("a0: &a0 {{x: 1}}\n{merges}"),
        "a: b\n".repeat(20_000),
        (0..10_000).map(|at| format!("titel{at}: b\n")).collect(),
        format!(
            "{RULE}detection:\n  s:\n{}  condition: s\n",
            (0..10_000)
                .map(|at| format!("    cs-urj{at}: b\n"))
                .collect::<String>()
        ),
        format!(
            "{RULE}detection:\n  s:\n    cs-uri|contains:\n{}  condition: s\n",
            "      - a*b?c\n".repeat(10_000)
        ),
        format!(
            "{RULE}detection:\n  s:\n    cs-uri|re:\n{}  condition: s\n",
            "      - '(a|b)+[c-d]{1,99}'\n".repeat(20_000)
        ),
        format!(
            "{RULE}detection:\n  condition:\n{}  s: {{cs-method: x}}\n",
            "    - s and not s\n".repeat(10_000)
        ),
        format!(
            "{RULE}portcullis: {{tests: {{catches: [{}]}}}}\n",
            vec!["{q: 1}"; 50_000].join(",")
        ),
        "---\ntitle: x\n".repeat(10_000),
        "\"".repeat(20_000),
        "'".repeat(20_000),
        "&a ".repeat(20_000),
        "? ".repeat(20_000),
        "- ".repeat(20_000),
        "!".repeat(20_000),
        "#\n".repeat(50_000),
        "x ".repeat(50_000),
        "x\n".repeat(50_000),
        "x: |\n  y\n".repeat(20_000),
        "\u{feff}".repeat(20_000),
        "\r".repeat(50_000),
        "%YAML 1.2\n".repeat(10_000),
        format!("a: \"{}\"\n", "\\x41".repeat(10_000)),
        format!("{}: x\n", "k".repeat(1 << 18)),
    ];
    for text in &bodies {
        read(text.as_bytes());
    }
}

/// Pieces that mean something to some layer.
const PIECES: [&str; 32] = [
    "\n",
    "  ",
    "- ",
    ": ",
    "|",
    "'",
    "\"",
    "[",
    "]",
    "{",
    "}",
    "*",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "#",
    "---\n",
    "\t",
    "\\",
    "%",
    "é",
    "\u{feff}",
    "\r\n",
    "\0",
    " of ",
    "not ",
    "(",
    ")",
    "null",
    "0x",
    "|all|re|contains|base64offset",
];

#[test]
fn mutated_rules_never_panic() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut seeds = Vec::new();
    for folder in ["accepts", "errors"] {
        seeds.extend(
            rule_files(&tests.join(folder))
                .unwrap()
                .into_iter()
                .map(|path| std::fs::read(path).unwrap()),
        );
    }
    assert!(seeds.len() > 20);
    let mut random = Random(0xdead_beef);
    let rounds = std::env::var("PORTCULLIS_FUZZ_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1000);
    let mut good = 0;
    for _ in 0..rounds {
        let mut text = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(6) {
            let at = random.below(text.len());
            let end = (at + random.below(40)).min(text.len());
            match random.below(6) {
                0 => {
                    text.drain(at..end);
                }
                1 => {
                    let piece = text[at..end].to_vec();
                    let to = random.below(text.len());
                    text.splice(to..to, piece);
                }
                2 => text.truncate(at),
                3 if !text.is_empty() => text[at] = u8::try_from(random.below(256)).unwrap(),
                _ => {
                    text.splice(at..at, PIECES[random.below(PIECES.len())].bytes());
                }
            }
        }
        let parsed = read(&text);
        good += parsed.documents.len();
    }
    assert!(good > 100, "{good} documents survived");
}

#[test]
fn spans_stay_inside_the_text_with_any_characters_and_line_breaks() {
    let rule = "title: Ünï\ncödé: 😀\nlogsource: {category: webserver}\ndetection:\n  s:\n    cs-uri|containz: ñ\n  condition: s\n";
    for (breaks, bom) in [
        ("\n", ""),
        ("\r\n", ""),
        ("\n", "\u{feff}"),
        ("\r\n", "\u{feff}"),
    ] {
        let text = format!("{bom}{}", rule.replace('\n', breaks));
        let parsed = parse("a.yml", text, &Options::default());
        let error = parsed.errors().next().unwrap();
        assert_eq!(error.code, "unknown-modifier");
        assert_eq!(
            error.source.excerpt(error.span),
            "containz",
            "{breaks:?} {bom:?}"
        );
        assert_eq!(
            (error.position().line, error.position().column),
            (6, 12),
            "{breaks:?} {bom:?}"
        );
    }
}
