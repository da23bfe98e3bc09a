//! What rules come to, in a short notation: `accepts/NAME.yml` is read, `accepts/NAME.txt` is what it must mean.
//!
//! To accept what it means now: `PORTCULLIS_BLESS=1 cargo test -p portcullis-compiler --test accepts`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use portcullis_compiler::ast::{
    Case, CaseEvent, CaseRequest, Condition, CorrelationCondition, Detection, Document, Head,
    Match, Node, Op, Part, Quantity, Test,
};
use portcullis_compiler::taxonomy::FieldPath;
use portcullis_compiler::{Options, link::link, parse, rule_files};

#[test]
fn rules_mean_what_the_golden_files_say() {
    let bless = std::env::var_os("PORTCULLIS_BLESS").is_some();
    let mut documents = 0;
    let mut different = Vec::new();
    for path in rule_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/accepts")).unwrap() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let parsed = parse(
            name,
            fs::read_to_string(&path).unwrap(),
            &Options::default(),
        );
        let errors: Vec<String> = parsed.errors().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{}", errors.join("\n"));
        let text: Vec<String> = parsed.documents.iter().map(document).collect();
        documents += text.len();
        let text = text.join("\n");
        let golden = path.with_extension("txt");
        if bless {
            fs::write(&golden, &text).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != text {
            different.push(format!("{}\n{text}", golden.display()));
        }
        // Filters name rules of other files.
        if name != "filters.yml" {
            assert!(
                link(&parsed.documents).is_empty(),
                "{:#?}",
                link(&parsed.documents)
            );
        }
    }
    assert_eq!(documents, 22);
    assert!(
        different.is_empty(),
        "these differ from what the compiler reads:\n{}",
        different.join("\n")
    );
}

fn document(document: &Document) -> String {
    let mut out = head(document.head());
    match document {
        Document::Rule(rule) => {
            writeln!(out, "logsource {:?}", rule.logsource.category).unwrap();
            detection(&mut out, &rule.detection);
        }
        Document::Filter(filter) => {
            writeln!(out, "logsource {:?}", filter.logsource.category).unwrap();
            let rules = filter.rules.as_ref().map(|rules| {
                rules
                    .iter()
                    .map(|rule| rule.value.as_str())
                    .collect::<Vec<_>>()
            });
            writeln!(out, "rules {rules:?}").unwrap();
            detection(&mut out, &filter.detection);
        }
        Document::Correlation(correlation) => {
            let values = |list: &[portcullis_compiler::source::Spanned<String>]| {
                list.iter()
                    .map(|one| one.value.clone())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            writeln!(
                out,
                "{:?} of {}",
                correlation.kind,
                values(&correlation.rules)
            )
            .unwrap();
            writeln!(
                out,
                "by {} in {} s",
                values(&correlation.group_by),
                correlation.timespan_seconds.value
            )
            .unwrap();
            for alias in &correlation.aliases {
                for (rule, field) in &alias.fields {
                    writeln!(
                        out,
                        "alias {} = {} of rule {}",
                        alias.name, field, rule.value
                    )
                    .unwrap();
                }
            }
            if correlation.generate {
                writeln!(out, "generate").unwrap();
            }
            match &correlation.condition {
                CorrelationCondition::Bounds {
                    bounds,
                    field,
                    percentile,
                } => {
                    for (comparison, number) in bounds {
                        writeln!(out, "bound {comparison:?} {number}").unwrap();
                    }
                    if let Some(field) = field {
                        writeln!(out, "field {field}").unwrap();
                    }
                    if let Some(percentile) = percentile {
                        writeln!(out, "percentile {percentile}").unwrap();
                    }
                }
                CorrelationCondition::Expression(expression) => {
                    let names: Vec<&str> = correlation
                        .rules
                        .iter()
                        .map(|rule| rule.value.as_str())
                        .collect();
                    writeln!(out, "expression {}", condition(expression, &names)).unwrap();
                }
            }
        }
    }
    out
}

fn head(head: &Head) -> String {
    let mut out = format!("# {}\n", head.title);
    if let Some(id) = &head.id {
        writeln!(out, "id {id}").unwrap();
    }
    if let Some(level) = head.level {
        writeln!(out, "level {level:?}").unwrap();
    }
    if let Some(status) = head.status {
        writeln!(out, "status {status:?}").unwrap();
    }
    for (name, value) in [("author", &head.author), ("date", &head.date)] {
        if let Some(value) = value {
            writeln!(out, "{name} {value}").unwrap();
        }
    }
    for tag in &head.tags {
        writeln!(out, "tag {tag}").unwrap();
    }
    if let Some(alert) = &head.custom.alert {
        writeln!(
            out,
            "alert {alert} {:?}",
            head.custom.confidence.as_ref().map(|percent| percent.value)
        )
        .unwrap();
    }
    for (kind, cases) in [
        ("catches", &head.custom.catches),
        ("ignores", &head.custom.ignores),
    ] {
        for one in cases {
            writeln!(out, "{kind} {}", case(one)).unwrap();
        }
    }
    out
}

fn case(case: &Case) -> String {
    match &case.event {
        CaseEvent::Process(fields) => {
            let fields = fields
                .iter()
                .map(|(field, value)| format!("{}=\"{}\"", field.name(), value.escape_ascii()));
            fields.collect::<Vec<_>>().join(" ")
        }
        CaseEvent::Request(request) => self::request(request),
        CaseEvent::Sequence(steps) => {
            let steps = steps.iter().map(|step| {
                let (request, after, times) =
                    (self::request(&step.request), step.after_seconds, step.times);
                format!("\n  {times} times after {after} s {request}")
            });
            steps.collect()
        }
    }
}

fn request(request: &CaseRequest) -> String {
    let mut out = format!(
        "{} {}",
        request.method.escape_ascii(),
        request.target.escape_ascii()
    );
    if let Some(host) = &request.host {
        write!(out, " host=\"{}\"", host.escape_ascii()).unwrap();
    }
    for (name, value) in &request.headers {
        write!(out, " {}=\"{}\"", name.escape_ascii(), value.escape_ascii()).unwrap();
    }
    if let Some(body) = &request.body {
        write!(out, " body=\"{}\"", body.escape_ascii()).unwrap();
    }
    if let Some(source) = &request.source {
        write!(out, " from {source}").unwrap();
    }
    if let Some(status) = &request.status {
        write!(out, " answered {status}").unwrap();
    }
    out
}

fn detection(out: &mut String, detection: &Detection) {
    for selection in &detection.selections {
        writeln!(out, "{}:", selection.name).unwrap();
        node(out, &selection.node, 1);
    }
    let names: Vec<&str> = detection
        .selections
        .iter()
        .map(|selection| selection.name.value.as_str())
        .collect();
    writeln!(out, "if {}", condition(&detection.condition, &names)).unwrap();
}

fn node(out: &mut String, tree: &Node, depth: usize) {
    let indent = "  ".repeat(depth);
    match tree {
        Node::All(nodes) => {
            writeln!(out, "{indent}all of").unwrap();
            nodes.iter().for_each(|one| node(out, one, depth + 1));
        }
        Node::Any(nodes) => {
            writeln!(out, "{indent}any of").unwrap();
            nodes.iter().for_each(|one| node(out, one, depth + 1));
        }
        Node::Test(one) => writeln!(out, "{indent}{}", test(one)).unwrap(),
    }
}

fn test(test: &Test) -> String {
    let field = test
        .field
        .as_ref()
        .map_or("anything".to_owned(), |field| path(&field.value));
    let raw = if test.raw { " raw" } else { "" };
    let values: Vec<String> = test
        .values
        .iter()
        .map(|alternatives| {
            alternatives
                .iter()
                .map(matched)
                .collect::<Vec<_>>()
                .join(" | ")
        })
        .collect();
    let line = format!(
        "{field}{raw} {}",
        values.join(if test.all { " and " } else { " or " })
    );
    if test.negated {
        format!("not ({line})")
    } else {
        line
    }
}

fn matched(one: &Match) -> String {
    let text = |name: &str, bytes: &[u8]| {
        format!(
            "{name} \"{}\"",
            String::from_utf8_lossy(bytes).escape_debug()
        )
    };
    let op = match &one.op {
        Op::Equals(bytes) => text("=", bytes),
        Op::Contains(bytes) => text("contains", bytes),
        Op::StartsWith(bytes) => text("starts", bytes),
        Op::EndsWith(bytes) => text("ends", bytes),
        Op::Wildcard(parts) => {
            let parts = parts.iter().map(|part| match part {
                Part::Literal(bytes) => text("", bytes),
                Part::Any => "*".to_owned(),
                Part::One => "?".to_owned(),
            });
            format!("like[{}]", parts.collect::<Vec<_>>().join(" "))
        }
        Op::Regex { pattern, flags } => format!(
            "matches /{pattern}/{}{}{}",
            if flags.ignore_case { "i" } else { "" },
            if flags.multi_line { "m" } else { "" },
            if flags.dot_all { "s" } else { "" }
        ),
        Op::Cidr { network, prefix } => format!("in {network}/{prefix}"),
        Op::Number(comparison, number) => format!("{comparison:?} {number}"),
        Op::Exists(there) => format!("exists {there}"),
        Op::Null => "null".to_owned(),
        Op::Field(op, field) => format!("{op:?} field {}", path(field)),
        Op::Structure(structure, confidence) => format!("is {structure:?} {confidence:?}"),
    };
    if one.cased {
        format!("{op} (cased)")
    } else {
        op
    }
}

fn path(path: &FieldPath) -> String {
    match &path.part {
        Some(part) => format!("{}[{part}]", path.field.name()),
        None => path.field.name().to_owned(),
    }
}

fn condition(tree: &Condition, names: &[&str]) -> String {
    let several = |parts: &[Condition], word: &str| {
        let parts: Vec<String> = parts.iter().map(|part| condition(part, names)).collect();
        format!("({})", parts.join(word))
    };
    match tree {
        Condition::All(parts) => several(parts, " and "),
        Condition::Any(parts) => several(parts, " or "),
        Condition::Not(part) => format!("not {}", condition(part, names)),
        Condition::Selection(index) => names[index.value].to_owned(),
        Condition::Of {
            quantity,
            selections,
            ..
        } => {
            let names: Vec<&str> = selections.iter().map(|index| names[*index]).collect();
            let quantity = match quantity {
                Quantity::All => "all".to_owned(),
                Quantity::AtLeast(least) => least.to_string(),
            };
            format!("{quantity} of [{}]", names.join(" "))
        }
    }
}
