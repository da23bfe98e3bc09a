//! `portcullis rules import`: what becomes of somebody else's Sigma rules here.
//!
//! Takes in a checkout of a public rule set. Gives out, for each rule, whether it compiles, what it is asked of, or why it
//! is refused; and the shares by log source. Writes nothing but what `--out` names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use portcullis_compiler::ast::{Detection, Document, Node};
use portcullis_compiler::backend;
use portcullis_compiler::diagnostic::{Diagnostic, Severity};
use portcullis_compiler::link::link;
use portcullis_compiler::source::{Source, Span};
use portcullis_compiler::taxonomy::Category;
use portcullis_compiler::{Kinds, Options, Parsed, Refused, load_file, public_rule_files};
use serde_json::{Value, json};

use crate::report::{Colour, Style, grouped, printable};

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Rules are read as public sets mean them: `cs-uri-query` is the whole target where a value may be \
    part of the path. Exit status: 0 if the rules could be read, whatever became of them."
)]
pub struct ImportArgs {
    /// A checkout of a rule set, or a folder of it
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// A line for each rule
    #[arg(long, conflicts_with = "json")]
    list: bool,
    /// All of it, for machines
    #[arg(long)]
    json: bool,
    /// Write the rules that compile, compiled
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// One document of the rule set.
struct Entry {
    file: String,
    line: usize,
    title: String,
    /// Category of the log source, or what else it is.
    group: String,
    outcome: Outcome,
}

enum Outcome {
    Compiled {
        /// The engine's fields that it asks about.
        fields: BTreeSet<&'static str>,
        /// It is answered once the response is known.
        needs_response: bool,
        /// Nothing has to be there for it to be evaluated.
        is_costly: bool,
    },
    Refused(Vec<Reason>),
    /// It is about events that a gateway has none of.
    Elsewhere,
}

struct Reason {
    code: &'static str,
    message: String,
    line: usize,
}

impl Reason {
    fn of(error: &Diagnostic) -> Self {
        Self {
            code: error.code,
            message: error.message.clone(),
            line: error.position().line,
        }
    }
}

/// The refusal that says that nothing here has such events.
const ELSEWHERE: &str = "unsupported-logsource";

/// What the rule set came to.
#[derive(Default)]
struct Import {
    files: usize,
    /// Documents that are no Sigma rules at all.
    not_rules: usize,
    entries: Vec<Entry>,
    compiled: Vec<u8>,
}

/// Runs it.
pub fn run(args: &ImportArgs) -> Result<bool> {
    let import = Import::of(&args.dir)?;
    if let Some(out) = &args.out {
        std::fs::write(out, &import.compiled)
            .with_context(|| format!("cannot write {}", out.display()))?;
    }
    let mut to = BufWriter::new(io::stdout().lock());
    if args.json {
        serde_json::to_writer_pretty(&mut to, &import.json())?;
        writeln!(to)?;
    } else {
        if args.list {
            import.list(&mut to)?;
        }
        import.summary(&mut to)?;
        if let Some(out) = &args.out {
            let bytes = grouped(import.compiled.len() as u64);
            writeln!(to, "\n{}: {bytes} bytes", out.display())?;
        }
    }
    to.flush()?;
    Ok(true)
}

impl Import {
    fn of(dir: &Path) -> Result<Self> {
        let files =
            public_rule_files(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        if files.is_empty() {
            bail!("no rule files (`*.yml`, `*.yaml`) in {}", dir.display());
        }
        let mut import = Self {
            files: files.len(),
            ..Self::default()
        };
        let options = Options {
            public: true,
            ..Options::default()
        };
        let mut documents = Vec::new();
        for file in files {
            let parsed = load_file(&file, &options)
                .with_context(|| format!("cannot read {}", file.display()))?;
            import.refuse_parsed(&parsed);
            documents.extend(parsed.documents);
        }
        import.compile(documents)?;
        import
            .entries
            .sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Ok(import)
    }

    /// Notes what could not be read.
    fn refuse_parsed(&mut self, parsed: &Parsed) {
        let holds = |span: Span, error: &Diagnostic| {
            span.start <= error.span.start && error.span.start <= span.end
        };
        for refused in &parsed.refused {
            if refused.kind == Kinds::Other {
                self.not_rules += 1;
                continue;
            }
            let own = parsed.errors().filter(|error| holds(refused.span, error));
            let reasons: Vec<_> = own.map(Reason::of).collect();
            let is_elsewhere = reasons.iter().any(|reason| reason.code == ELSEWHERE);
            self.entries.push(Entry {
                file: parsed.source.name().to_owned(),
                line: parsed.source.position(refused.span).line,
                title: refused.title.clone(),
                group: group_of_refused(refused),
                outcome: match is_elsewhere {
                    true => Outcome::Elsewhere,
                    false => Outcome::Refused(reasons),
                },
            });
        }
        // A file that is no YAML has no documents at all.
        if parsed.refused.is_empty() && parsed.documents.is_empty() {
            let reasons: Vec<_> = parsed.errors().map(Reason::of).collect();
            if reasons.is_empty() {
                self.not_rules += 1;
                return;
            }
            self.entries.push(Entry {
                file: parsed.source.name().to_owned(),
                line: 1,
                title: String::new(),
                group: "unreadable".to_owned(),
                outcome: Outcome::Refused(reasons),
            });
        }
    }

    /// Compiles what can be. What an error is about is left out, and then what refers to that.
    fn compile(&mut self, mut documents: Vec<Document>) -> Result<()> {
        let compiled = loop {
            let linked = link(&documents);
            let mut errors: Vec<_> = linked
                .into_iter()
                .filter(|one| one.severity == Severity::Error)
                .collect();
            if errors.is_empty() {
                match backend::compile(&documents) {
                    Ok(compiled) => break compiled,
                    Err(refused) => errors = refused,
                }
            }
            let before = documents.len();
            documents.retain(|document| {
                let head = document.head();
                let own = errors
                    .iter()
                    .filter(|error| concerns(error, &head.source, head.span));
                let reasons: Vec<_> = own.map(Reason::of).collect();
                if reasons.is_empty() {
                    return true;
                }
                self.entries
                    .push(entry(document, Outcome::Refused(reasons)));
                false
            });
            if let (true, Some(error)) = (documents.len() == before, errors.first()) {
                bail!("{error}");
            }
        };
        for document in &documents {
            let head = document.head();
            let is_costly = compiled
                .warnings
                .iter()
                .any(|warning| concerns(warning, &head.source, head.span));
            let mut fields = BTreeSet::new();
            let mut needs_response = false;
            if let Document::Rule(rule) = document {
                each_field(&rule.detection, &mut |field| {
                    needs_response |= field.needs_response();
                    fields.insert(field.name());
                });
            }
            let outcome = Outcome::Compiled {
                fields,
                needs_response,
                is_costly,
            };
            self.entries.push(entry(document, outcome));
        }
        self.compiled = compiled.bytes;
        Ok(())
    }

    /// For each log source the rules, those that compile, and those that are refused.
    fn shares(&self) -> BTreeMap<&str, (usize, usize)> {
        let mut shares: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for entry in &self.entries {
            let (all, compiled) = match entry.outcome {
                Outcome::Compiled { .. } => (1, 1),
                Outcome::Refused(_) => (1, 0),
                Outcome::Elsewhere => continue,
            };
            let share = shares.entry(&entry.group).or_default();
            share.0 += all;
            share.1 += compiled;
        }
        shares
    }

    /// For each reason how many rules have it as their first, and one of them.
    fn reasons(&self) -> Vec<(&'static str, usize, &Entry, &Reason)> {
        let mut reasons: BTreeMap<(&str, &str), (usize, &Entry, &Reason)> = BTreeMap::new();
        for entry in &self.entries {
            if let Outcome::Refused(why) = &entry.outcome
                && let Some(first) = why.first()
            {
                let key = (first.code, first.message.as_str());
                reasons.entry(key).or_insert((0, entry, first)).0 += 1;
            }
        }
        let mut reasons: Vec<_> = reasons
            .into_values()
            .map(|(count, entry, reason)| (reason.code, count, entry, reason))
            .collect();
        reasons.sort_by_key(|(code, count, _, reason)| {
            (std::cmp::Reverse(*count), *code, &reason.message)
        });
        reasons
    }

    fn elsewhere(&self) -> Vec<(&str, usize)> {
        let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
        let elsewhere = |entry: &&Entry| matches!(entry.outcome, Outcome::Elsewhere);
        for entry in self.entries.iter().filter(elsewhere) {
            *groups.entry(&entry.group).or_default() += 1;
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(group, count)| (std::cmp::Reverse(*count), *group));
        groups
    }

    fn list(&self, to: &mut impl Write) -> Result<()> {
        let style = Style::of(&io::stdout());
        for entry in &self.entries {
            let place = format!("{}:{}", entry.file, entry.line);
            let (word, what) = match &entry.outcome {
                Outcome::Compiled { fields, .. } => {
                    let fields: Vec<_> = fields.iter().copied().collect();
                    (style.paint(Colour::Green, "compiles"), fields.join(", "))
                }
                Outcome::Refused(reasons) => {
                    let reasons: Vec<_> = reasons.iter().map(|reason| &*reason.message).collect();
                    (style.paint(Colour::Red, "refused "), reasons.join("; "))
                }
                Outcome::Elsewhere => continue,
            };
            writeln!(
                to,
                "{word}  {:<16}  {}  {}  {}",
                printable(&entry.group),
                printable(&entry.title),
                style.paint(Colour::Dim, printable(&what)),
                style.paint(Colour::Dim, printable(&place)),
            )?;
        }
        writeln!(to)?;
        Ok(())
    }

    fn summary(&self, to: &mut impl Write) -> Result<()> {
        let number = |number: usize| grouped(number as u64);
        writeln!(
            to,
            "{:<18} {:>7} {:>9} {:>7}",
            "", "rules", "compile", "share"
        )?;
        for (group, (all, compiled)) in self.shares() {
            writeln!(
                to,
                "{:<18} {:>7} {:>9} {:>6} %",
                printable(group),
                number(all),
                number(compiled),
                (100 * compiled + all / 2) / all.max(1)
            )?;
        }
        let reasons = self.reasons();
        if !reasons.is_empty() {
            writeln!(to, "\nrefused, by reason")?;
        }
        for (code, count, entry, reason) in reasons {
            writeln!(
                to,
                "{:>7}  {code}: {}\n         {}:{}",
                number(count),
                printable(&reason.message),
                printable(&entry.file),
                reason.line
            )?;
        }
        let (mut responses, mut costly) = (0, 0);
        for entry in &self.entries {
            if let Outcome::Compiled {
                needs_response,
                is_costly,
                ..
            } = entry.outcome
            {
                responses += usize::from(needs_response);
                costly += usize::from(is_costly);
            }
        }
        writeln!(to)?;
        if responses > 0 {
            writeln!(
                to,
                "{} ask for the response and run in portcullis_http_response.wasm",
                number(responses)
            )?;
        }
        if costly > 0 {
            writeln!(
                to,
                "{} have no anchor: every event evaluates them",
                number(costly)
            )?;
        }
        let elsewhere = self.elsewhere();
        let total: usize = elsewhere.iter().map(|(_, count)| count).sum();
        if total > 0 {
            let most = elsewhere.iter().take(8);
            let most: Vec<_> = most
                .map(|(group, count)| format!("{} {}", printable(group), number(*count)))
                .collect();
            let rest = if elsewhere.len() > most.len() {
                ", …"
            } else {
                ""
            };
            writeln!(
                to,
                "{} are about events that a gateway has none of ({}{rest})",
                number(total),
                most.join(", ")
            )?;
        }
        writeln!(
            to,
            "{} files, {} documents that are no rules",
            number(self.files),
            number(self.not_rules)
        )?;
        Ok(())
    }

    fn json(&self) -> Value {
        let shares = self.shares().into_iter().map(|(group, (all, compiled))| {
            json!({"logsource": group, "rules": all, "compiled": compiled})
        });
        let reasons = self.reasons().into_iter().map(|(code, count, entry, reason)| {
            json!({"code": code, "rules": count, "example": {"file": entry.file, "line": reason.line, "message": reason.message}})
        });
        let elsewhere = self
            .elsewhere()
            .into_iter()
            .map(|(group, count)| json!({"logsource": group, "rules": count}));
        json!({
            "files": self.files,
            "not_rules": self.not_rules,
            "logsources": shares.collect::<Vec<_>>(),
            "refused": reasons.collect::<Vec<_>>(),
            "elsewhere": elsewhere.collect::<Vec<_>>(),
            "rules": self.entries.iter().map(Entry::json).collect::<Vec<_>>(),
        })
    }
}

impl Entry {
    fn json(&self) -> Value {
        let mut value = json!({
            "file": self.file,
            "line": self.line,
            "title": self.title,
            "logsource": self.group,
        });
        let more = match &self.outcome {
            Outcome::Compiled {
                fields,
                needs_response,
                is_costly,
            } => json!({
                "outcome": "compiled",
                "fields": fields,
                "needs_response": needs_response,
                "anchored": !is_costly,
            }),
            Outcome::Refused(reasons) => json!({
                "outcome": "refused",
                "reasons": reasons.iter().map(|reason| {
                    json!({"code": reason.code, "line": reason.line, "message": reason.message})
                }).collect::<Vec<_>>(),
            }),
            Outcome::Elsewhere => json!({"outcome": "elsewhere"}),
        };
        if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
            value.extend(more);
        }
        value
    }
}

fn concerns(error: &Diagnostic, source: &Source, span: Span) -> bool {
    error.source.name() == source.name()
        && span.start <= error.span.start
        && error.span.start <= span.end
}

fn entry(document: &Document, outcome: Outcome) -> Entry {
    let head = document.head();
    Entry {
        file: head.source.name().to_owned(),
        line: head.source.position(head.span).line,
        title: head.title.value.clone(),
        group: match document {
            Document::Rule(rule) => rule.logsource.category.name().to_owned(),
            Document::Correlation(_) => "(correlation)".to_owned(),
            Document::Filter(_) => "(filter)".to_owned(),
        },
        outcome,
    }
}

fn group_of_refused(refused: &Refused) -> String {
    let [category, product, service] = &refused.logsource;
    match refused.kind {
        Kinds::Correlation => "(correlation)".to_owned(),
        Kinds::Filter => "(filter)".to_owned(),
        _ if !category.is_empty() => category.clone(),
        _ if service == "iis" => Category::Webserver.name().to_owned(),
        _ => [product.as_str(), service.as_str()].join("/"),
    }
}

fn each_field(detection: &Detection, see: &mut impl FnMut(portcullis::field::Field)) {
    fn node(of: &Node, see: &mut impl FnMut(portcullis::field::Field)) {
        match of {
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().for_each(|one| node(one, see)),
            Node::Test(test) => {
                if let Some(path) = &test.field {
                    see(path.value.field);
                }
            }
        }
    }
    for selection in &detection.selections {
        node(&selection.node, see);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILES: [(&str, &str); 8] = [
        (
            "web/good.yml",
            "title: Good\nlogsource: {category: webserver}\ndetection: {a: {cs-uri-query|endswith: /x.jsp}, condition: a}\n",
        ),
        (
            "web/answered.yml",
            "title: Answered\nlogsource: {service: iis}\ndetection: {a: {cs-uri-stem|endswith: /x.jsp, sc-status: 200}, condition: a}\n",
        ),
        (
            "web/user.yml",
            "title: User\nlogsource: {category: webserver}\ndetection: {a: {cs-username: root}, condition: a}\n",
        ),
        (
            "web/look.yml",
            "title: Look-around\nlogsource: {category: proxy}\ndetection: {a: {c-uri|re: 'a(?=b)'}, condition: a}\n",
        ),
        (
            "win/registry.yml",
            "title: Registry\nlogsource: {category: registry_set, product: windows}\ndetection: {a: {b: c}, condition: a}\n",
        ),
        // What refers to a rule that is refused goes with it, and what refers to that.
        (
            "web/many.yml",
            "title: User again\nname: again\nlogsource: {category: webserver}\ndetection: {a: {cs-username: root}, condition: a}\n---\n\
             title: Many\nname: many\ncorrelation: {type: event_count, rules: again, group-by: [c-ip], timespan: 1m, condition: {gte: 3}}\n---\n\
             title: Many of many\ncorrelation: {type: event_count, rules: many, group-by: [c-ip], timespan: 1m, condition: {gte: 3}}\n",
        ),
        (".github/workflow.yml", "title: {"),
        ("other.yml", "name: something else\n"),
    ];

    #[test]
    fn every_rule_is_counted_once_and_refused_for_its_own_reason() {
        let dir = std::env::temp_dir().join(format!("portcullis-import-{}", std::process::id()));
        for (name, text) in FILES {
            let file = dir.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let import = Import::of(&dir).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let shares: Vec<_> = import.shares().into_iter().collect();
        assert_eq!(
            shares,
            [
                ("(correlation)", (2, 0)),
                ("proxy", (1, 0)),
                ("webserver", (4, 2))
            ]
        );
        let reasons: Vec<_> = import
            .reasons()
            .iter()
            .map(|(code, count, ..)| (*code, *count))
            .collect();
        assert_eq!(
            reasons,
            [
                ("field-not-answered", 2),
                ("regex-syntax", 1),
                ("unknown-rule", 1),
                ("unknown-rule", 1)
            ]
        );
        assert_eq!(import.elsewhere(), [("registry_set", 1)]);
        assert_eq!((import.files, import.not_rules), (7, 1));
        let rules = portcullis::ruleset::RuleSet::open(import.compiled.clone()).unwrap();
        assert_eq!(rules.rule_count(), 2);
        let json = import.json();
        let good = json["rules"].as_array().unwrap();
        let good = good.iter().find(|rule| rule["title"] == "Good").unwrap();
        assert_eq!(good["outcome"], "compiled");
        assert_eq!(good["fields"], json!(["cs-uri"]));
    }
}
