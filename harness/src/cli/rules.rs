//! `portcullis rules`: check, list, show, test and compile Sigma rules.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use base64::Engine as _;
use portcullis::catalogue;
use portcullis::correlate::{Correlator, Local};
use portcullis::event::Source;
use portcullis::headers::Headers;
use portcullis::inspect::{Detection, Inspector};
use portcullis::policy::Policy;
use portcullis::ruleset::RuleSet;
use portcullis::ruleset::layout::MAGIC;
use portcullis_compiler::ast::{Case, CaseEvent, CaseRequest, Document, Head, Step};
use portcullis_compiler::backend::{self, DEFAULT_ALERT};
use portcullis_compiler::diagnostic::{Diagnostic, Severity};
use portcullis_compiler::link::link;
use portcullis_compiler::{Options, load_file, rule_files};

use super::detector::Detector;
use super::engine::{Engine, EngineArgs, EngineKind, RecordFacts, header_pairs, time_unix_ns};
use super::import::{self, ImportArgs};
use crate::capture::Record;
use crate::report::{Alert, Colour, Style, grouped, printable};

/// Where rules are looked for if nothing is named.
const DEFAULT_RULES: &str = "rules";

/// What the command line says.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Name every mistake in rules, with file, line, column and what to write instead
    Check(CheckArgs),
    /// List rules with their level and alert type
    List(Paths),
    /// Show one rule, the alert that it raises and how it is tested
    Show(ShowArgs),
    /// Run the requests that each rule must catch and must ignore
    Test(TestArgs),
    /// Compile rules for the gateway
    Compile(CompileArgs),
    /// Say what becomes of a public rule set: which rules compile, which do not, and why
    Import(ImportArgs),
}

/// Which rules.
#[derive(Debug, clap::Args)]
pub struct Paths {
    /// Rule files, or folders of them (`*.yml`, `*.yaml`)
    #[arg(value_name = "PATH", default_value = DEFAULT_RULES)]
    paths: Vec<PathBuf>,
}

/// See [`Command::Check`].
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 if there is no error, 1 if there is one, 2 for a wrong command line."
)]
pub struct CheckArgs {
    #[command(flatten)]
    rules: Paths,
    /// A line for each mistake
    #[arg(long)]
    short: bool,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
}

/// See [`Command::Show`].
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The rule's id, or a part of its title or of its file's name
    rule: String,
    #[command(flatten)]
    rules: Paths,
}

/// See [`Command::Test`].
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 if every case went as it must, 1 if one did not or there was none, 2 for a wrong \
    command line."
)]
pub struct TestArgs {
    #[command(flatten)]
    rules: Paths,
    /// What inspects the cases
    #[arg(long, value_enum, default_value = "native")]
    engine: EngineKind,
    /// The filter, for `--engine wasm`; it has its rules compiled in
    #[arg(long, value_name = "FILE.wasm", default_value = EngineArgs::DEFAULT_FILTER)]
    filter: PathBuf,
}

/// See [`Command::Compile`].
#[derive(Debug, clap::Args)]
pub struct CompileArgs {
    #[command(flatten)]
    rules: Paths,
    /// Where to write them
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Write a whole plugin configuration: this one, or an empty one if it is `-`, with the rules in it
    #[arg(long, value_name = "FILE")]
    into_config: Option<PathBuf>,
}

/// Runs it. `false` says that something is wrong with the rules.
pub fn run(command: &Command) -> Result<bool> {
    match command {
        Command::Check(args) => check(args),
        Command::List(args) => list(args),
        Command::Show(args) => show(args),
        Command::Test(args) => test(args),
        Command::Compile(args) => compile(args),
        Command::Import(args) => import::run(args),
    }
}

/// Rules as read from files.
struct Loaded {
    documents: Vec<Document>,
    diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut loaded = Self {
            documents: Vec::new(),
            diagnostics: Vec::new(),
        };
        let mut is_empty = true;
        for path in paths {
            let files =
                rule_files(path).with_context(|| format!("cannot read {}", path.display()))?;
            for file in files {
                is_empty = false;
                let parsed = load_file(&file, &Options::default())
                    .with_context(|| format!("cannot read {}", file.display()))?;
                loaded.documents.extend(parsed.documents);
                loaded.diagnostics.extend(parsed.diagnostics);
            }
        }
        if is_empty {
            let names: Vec<_> = paths
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            bail!("no rule files (`*.yml`, `*.yaml`) in {}", names.join(", "));
        }
        loaded.diagnostics.extend(link(&loaded.documents));
        Ok(loaded)
    }

    fn errors(&self) -> usize {
        self.diagnostics
            .iter()
            .filter(|one| one.severity == Severity::Error)
            .count()
    }

    /// Compiles all of them, if there is no mistake; adds what the compiler has to say.
    fn compile(&mut self) -> Option<Vec<u8>> {
        match backend::compile(&self.documents) {
            Ok(compiled) => {
                self.diagnostics.extend(compiled.warnings);
                Some(compiled.bytes).filter(|_| self.errors() == 0)
            }
            Err(errors) => {
                // What refers to nothing has been named when the rules were linked.
                for error in errors {
                    let known = self.diagnostics.iter().any(|one| {
                        one.code == error.code
                            && one.span == error.span
                            && one.source.name() == error.source.name()
                    });
                    if !known {
                        self.diagnostics.push(error);
                    }
                }
                None
            }
        }
    }

    /// Compiles all of them or says on standard error what is wrong; warnings are for `rules check`.
    fn compile_or_complain(&mut self) -> Result<Vec<u8>> {
        let bytes = self.compile();
        for one in self
            .diagnostics
            .iter()
            .filter(|one| one.severity == Severity::Error)
        {
            eprintln!("{one}");
        }
        bytes.with_context(|| format!("{} in the rules", count(self.errors(), "error")))
    }
}

/// Opens rules for the native engine: one file of compiled rules, or rules to be compiled.
pub(crate) fn load(paths: &[PathBuf]) -> Result<RuleSet> {
    let default = [PathBuf::from(DEFAULT_RULES)];
    let paths = if paths.is_empty() {
        &default[..]
    } else {
        paths
    };
    let mut bytes = None;
    if let [path] = paths
        && path.is_file()
    {
        let read =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        bytes = read.starts_with(&MAGIC).then_some(read);
    }
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => Loaded::read(paths)?.compile_or_complain()?,
    };
    RuleSet::open(bytes).map_err(|error| anyhow!("{error}"))
}

fn count(number: usize, what: &str) -> String {
    format!(
        "{} {what}{}",
        grouped(number as u64),
        if number == 1 { "" } else { "s" }
    )
}

fn check(args: &CheckArgs) -> Result<bool> {
    let mut loaded = Loaded::read(&args.rules.paths)?;
    loaded.compile();
    let mut out = BufWriter::new(io::stdout().lock());
    for one in &loaded.diagnostics {
        if args.short {
            writeln!(out, "{}", one.one_line())?
        } else {
            writeln!(out, "{one}")?
        }
    }
    let errors = loaded.errors();
    let warnings = loaded.diagnostics.len() - errors;
    writeln!(
        out,
        "{}, {}, {}",
        count(loaded.documents.len(), "rule"),
        count(errors, "error"),
        count(warnings, "warning")
    )?;
    out.flush()?;
    Ok(errors == 0 && !(args.strict && warnings > 0))
}

/// In place of the alert type of rules whose matches raise nothing.
const COUNTED: &str = "(only counted)";

/// What the rule's alerts are called, and how bad they are.
fn alert_type(head: &Head, is_silent: bool) -> (&str, Option<&'static catalogue::AlertType>) {
    if is_silent {
        return (COUNTED, None);
    }
    let name = head
        .custom
        .alert
        .as_ref()
        .map_or(DEFAULT_ALERT, |alert| alert.value.as_str());
    (name, catalogue::find(name).map(|(_, kind)| kind))
}

fn list(args: &Paths) -> Result<bool> {
    let loaded = Loaded::read(&args.paths)?;
    let style = Style::of(&io::stdout());
    let mut out = BufWriter::new(io::stdout().lock());
    let silent = backend::silent(&loaded.documents);
    for (document, is_silent) in loaded.documents.iter().zip(silent) {
        let head = document.head();
        let (name, kind) = alert_type(head, is_silent);
        let severity = kind.map_or("", |kind| kind.severity.name());
        writeln!(
            out,
            "{}  {:<34}  {}  {}",
            style.severity(severity),
            printable(name),
            printable(&head.title.value),
            style.paint(Colour::Dim, printable(head.source.name()))
        )?;
    }
    out.flush()?;
    let errors = loaded.errors();
    if errors > 0 {
        eprintln!(
            "{} in the rules: `portcullis rules check` names them",
            count(errors, "error")
        );
    }
    Ok(errors == 0)
}

fn show(args: &ShowArgs) -> Result<bool> {
    let loaded = Loaded::read(&args.rules.paths)?;
    let wanted = args.rule.to_lowercase();
    let silent = backend::silent(&loaded.documents);
    let found: Vec<(&Head, bool)> = loaded
        .documents
        .iter()
        .map(Document::head)
        .zip(silent)
        .filter(|(head, _)| {
            let texts = [head.title.value.as_str(), head.source.name()];
            head.id.as_ref().is_some_and(|id| id.value == wanted)
                || texts
                    .iter()
                    .any(|text| text.to_lowercase().contains(&wanted))
        })
        .collect();
    let (head, is_silent) = match found.as_slice() {
        [found] => *found,
        [] => bail!(
            "no rule has the id, or a title or file with, `{}`",
            args.rule
        ),
        several => {
            let mut message = format!("`{}` may be any of", args.rule);
            for (head, _) in several {
                let id = head.id.as_ref().map_or("", |id| id.value.as_str());
                write!(
                    message,
                    "\n  {id}  {}  ({})",
                    head.title.value,
                    head.source.name()
                )?;
            }
            bail!("{message}");
        }
    };
    let style = Style::of(&io::stdout());
    let mut out = BufWriter::new(io::stdout().lock());
    let place = format!(
        "{}:{}",
        head.source.name(),
        head.source.position(head.span).line
    );
    writeln!(out, "{}", style.paint(Colour::Dim, printable(&place)))?;
    for line in head.source.excerpt(head.span).trim_end().lines() {
        writeln!(out, "{}", printable(line))?;
    }
    let (name, kind) = alert_type(head, is_silent);
    writeln!(out, "\n{}", style.paint(Colour::Bold, printable(name)))?;
    if let Some(kind) = kind {
        writeln!(out, "  {}", kind.display_name)?;
        writeln!(
            out,
            "  {} {}",
            style.severity(kind.severity.name()),
            kind.tactics.join(", ")
        )?;
        writeln!(out, "  {}", kind.remediation)?;
    }
    let (catches, ignores) = (head.custom.catches.len(), head.custom.ignores.len());
    writeln!(
        out,
        "\n{} it must catch, {ignores} it must ignore",
        count(catches, "case")
    )?;
    out.flush()?;
    Ok(true)
}

/// A case as a gateway would see it.
fn case_record(case: &CaseRequest) -> Record {
    let mut record = Record::new(&case.method, &case.target);
    if record.authority().is_none() {
        record.set_authority(case.host.as_deref().unwrap_or(b"www.example.com"));
    }
    for (name, value) in &case.headers {
        record.push_header(name, value);
    }
    if let Some(body) = &case.body {
        record.set_body(body);
    }
    if let Some(source) = case.source {
        record.set_source_address(source.to_string().as_bytes());
    }
    record.status = case.status;
    record
}

/// Whether one of the alerts says that the rule matched.
fn names_rule(alerts: &[Alert], rule: &str) -> bool {
    alerts.iter().any(|alert| {
        let others = alert
            .0
            .pointer("/ExtendedProperties/OtherRules")
            .and_then(|others| others.as_array());
        alert.text("RuleId") == rule
            || others.is_some_and(|others| others.iter().any(|other| other == rule))
    })
}

/// Runs cases: requests through a detector; processes, and rules that raise nothing, through the engine itself,
/// since a gateway's filter sees or shows none.
struct Runner<'a> {
    detector: Box<dyn Detector + Send + 'a>,
    inspector: Option<Inspector>,
    /// When the next sequence begins, in nanoseconds since 1970.
    time_unix_ns: i64,
    /// How long what a sequence was about may be remembered, in seconds.
    memory_seconds: u64,
}

/// Where requests of a sequence come from that do not say.
const SEQUENCE_SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// When sequences begin: 2026-01-01.
const SEQUENCE_TIME_UNIX_NS: i64 = 1_767_225_600_000_000_000;

fn seconds_ns(seconds: u64) -> i64 {
    i64::try_from(seconds)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000_000)
}

/// What the runner has to know of a rule.
#[derive(Clone, Copy)]
struct Tested<'a> {
    id: &'a str,
    /// Its matches are only counted.
    is_silent: bool,
    /// One request is a sequence of one.
    is_correlation: bool,
}

impl Runner<'_> {
    /// Whether the rule matches; `None` if the engine does not take such cases, an error if it broke down.
    fn matches(&mut self, case: &Case, rule: Tested<'_>) -> Result<Option<bool>> {
        match &case.event {
            CaseEvent::Request(request) if rule.is_correlation => {
                let step = Step {
                    request: CaseRequest::clone(request),
                    after_seconds: 1,
                    times: 1,
                };
                self.sequence(&[step], rule)
            }
            CaseEvent::Request(request) => {
                self.request(&case_record(request), rule, &mut <_>::default())
            }
            CaseEvent::Sequence(steps) => self.sequence(steps, rule),
            CaseEvent::Process(fields) => {
                let Some(inspector) = &mut self.inspector else {
                    return Ok(None);
                };
                let fields: Vec<_> = fields
                    .iter()
                    .map(|(field, value)| (*field, value.as_slice()))
                    .collect();
                inspector.fields(Source::Process, &fields);
                Ok(Some(names(inspector, inspector.detections(), rule.id)))
            }
        }
    }

    fn request(
        &mut self,
        record: &Record,
        rule: Tested<'_>,
        (correlator, memory): &mut (Correlator, Local),
    ) -> Result<Option<bool>> {
        if rule.is_silent {
            let Some(inspector) = &mut self.inspector else {
                return Ok(None);
            };
            let pairs = header_pairs(record);
            let (headers, facts) = (Headers::Pairs(&pairs), RecordFacts(record));
            let mut found = inspector.request(headers, &facts).detections.to_vec();
            if record.status.is_some() {
                found.extend_from_slice(inspector.response(headers, &facts).detections);
            }
            let (rules, found) = (inspector.rules(), &found[..]);
            let time = time_unix_ns(record);
            let fired = correlator.observe(memory, rules, found, headers, &facts, time);
            let matches = names(inspector, found, rule.id) || names(inspector, fired, rule.id);
            return Ok(Some(matches));
        }
        let mut alerts = Vec::new();
        let verdict = self.detector.inspect(record, &mut alerts);
        match verdict.failure {
            Some(failure) => bail!(failure),
            None => Ok(Some(names_rule(&alerts, rule.id))),
        }
    }

    /// Runs a sequence, so long after the one before it that nothing of that counts.
    fn sequence(&mut self, steps: &[Step], rule: Tested<'_>) -> Result<Option<bool>> {
        let mut counting = <_>::default();
        let (mut matches, mut is_first) = (false, true);
        for step in steps {
            let mut record = case_record(&step.request);
            if step.request.source.is_none() {
                record.set_source_address(SEQUENCE_SOURCE.to_string().as_bytes());
            }
            for _ in 0..step.times {
                if !std::mem::take(&mut is_first) {
                    let after_ns = seconds_ns(step.after_seconds);
                    self.time_unix_ns = self.time_unix_ns.saturating_add(after_ns);
                }
                record.time_unix_ns = u64::try_from(self.time_unix_ns).ok();
                match self.request(&record, rule, &mut counting)? {
                    Some(named) => matches |= named,
                    None => return Ok(None),
                }
            }
        }
        let pause_ns = seconds_ns(self.memory_seconds + 1);
        self.time_unix_ns = self.time_unix_ns.saturating_add(pause_ns);
        Ok(Some(matches))
    }
}

/// Whether one of the detections is of the rule.
fn names(inspector: &Inspector, detections: &[Detection], rule: &str) -> bool {
    let rules = inspector.rules();
    let mut matched = detections.iter().filter_map(|found| rules.rule(found.rule));
    matched.any(|found| rules.text(found.id) == rule)
}

fn test(args: &TestArgs) -> Result<bool> {
    let mut loaded = Loaded::read(&args.rules.paths)?;
    let bytes = loaded.compile_or_complain()?;
    let is_native = args.engine == EngineKind::Native;
    let rules = RuleSet::open(bytes).map_err(|error| anyhow!("{error}"))?;
    let mut engine = match args.engine {
        EngineKind::Native => Engine::native(rules.clone()),
        EngineKind::Wasm => EngineArgs {
            filter: args.filter.clone(),
            ..EngineArgs::default()
        }
        .start()?,
    };
    let mut runner = Runner {
        detector: engine.detectors().pop().context("there is no detector")?,
        inspector: is_native.then(|| Inspector::new(rules)),
        time_unix_ns: SEQUENCE_TIME_UNIX_NS,
        memory_seconds: loaded
            .documents
            .iter()
            .map(|document| match document {
                Document::Correlation(correlation) => correlation.timespan_seconds.value,
                _ => 0,
            })
            .max()
            .unwrap_or(0),
    };

    let style = Style::of(&io::stdout());
    let mut out = BufWriter::new(io::stdout().lock());
    let (mut tested, mut cases, mut skipped, mut failures) = (0, 0, 0, 0);
    let silent = backend::silent(&loaded.documents);
    for (document, is_silent) in loaded.documents.iter().zip(silent) {
        let head = document.head();
        let custom = &head.custom;
        let rule = Tested {
            id: head
                .id
                .as_ref()
                .map_or(head.source.name(), |id| id.value.as_str()),
            is_silent,
            is_correlation: matches!(document, Document::Correlation(_)),
        };
        let before = cases;
        let catches = custom.catches.iter().map(|case| (case, true));
        for (case, must_match) in catches.chain(custom.ignores.iter().map(|case| (case, false))) {
            let what = match runner.matches(case, rule) {
                Ok(None) => {
                    skipped += 1;
                    continue;
                }
                Ok(Some(matches)) if matches == must_match => None,
                Ok(Some(false)) => Some("is not caught".to_owned()),
                Ok(Some(true)) => Some("is caught, and must be ignored".to_owned()),
                Err(error) => Some(format!("was not inspected: {error}")),
            };
            cases += 1;
            let Some(what) = what else { continue };
            failures += 1;
            let position = head.source.position(case.span);
            let place = format!(
                "{}:{}:{}",
                head.source.name(),
                position.line,
                position.column
            );
            writeln!(
                out,
                "{}: {}: `{}` {what}",
                style.paint(Colour::Red, printable(&place)),
                printable(&head.title.value),
                printable(&case.title)
            )?;
        }
        tested += usize::from(cases > before);
    }
    let verdict = match failures {
        0 => style.paint(Colour::Green, "all as they must"),
        _ => style.paint(Colour::Red, format_args!("{failures} not as they must")),
    };
    writeln!(
        out,
        "{} of {}: {verdict}",
        count(cases, "case"),
        count(tested, "rule")
    )?;
    if skipped > 0 {
        writeln!(
            out,
            "{} skipped: the filter sees no processes, and shows no rules that are only counted; use `--engine native`",
            count(skipped, "case")
        )?;
    }
    if cases == 0 {
        writeln!(
            out,
            "no rule has cases: write some under `portcullis: tests:`, as `catches:` and `ignores:`"
        )?;
    }
    out.flush()?;
    Ok(failures == 0 && cases > 0)
}

fn compile(args: &CompileArgs) -> Result<bool> {
    let mut loaded = Loaded::read(&args.rules.paths)?;
    let bytes = loaded.compile_or_complain()?;
    let (what, written) = match &args.into_config {
        Some(config) => ("a plugin configuration with ", into_config(config, &bytes)?),
        None => ("", bytes.clone()),
    };
    std::fs::write(&args.output, &written)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    println!(
        "{}: {what}{}, {} bytes",
        args.output.display(),
        count(loaded.documents.len(), "rule"),
        grouped(written.len() as u64)
    );
    let opened = RuleSet::open(bytes).map_err(|error| anyhow!("{error}"))?;
    if let Some(rule) = opened.needs_response() {
        let title = printable(opened.text(rule.title));
        println!("`{title}` asks for the response: they are for portcullis_http_response.wasm");
    }
    Ok(true)
}

/// A plugin configuration with these compiled rules, held to what the filter holds it to.
fn into_config(config: &Path, rules: &[u8]) -> Result<Vec<u8>> {
    let read = match config.as_os_str() == "-" {
        true => b"{}".to_vec(),
        false => {
            std::fs::read(config).with_context(|| format!("cannot read {}", config.display()))?
        }
    };
    let refused = |error| anyhow!("{}: {error}", config.display());
    let mut whole: serde_json::Value = serde_json::from_slice(&read)
        .with_context(|| format!("{} is no JSON", config.display()))?;
    let keys = whole
        .as_object_mut()
        .with_context(|| format!("{} is no JSON object", config.display()))?;
    let text = base64::engine::general_purpose::STANDARD.encode(rules);
    keys.insert("ruleset".to_owned(), text.into());
    let written = serde_json::to_vec(&whole)?;
    Policy::load(&written, || RuleSet::open(Vec::new())).map_err(refused)?;
    Ok(written)
}
