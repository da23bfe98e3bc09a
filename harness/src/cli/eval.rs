//! `portcullis eval`: how many attacks of labelled captures are found, and how much else is.
//!
//! An attack counts as found if its request raises any alert. A benign request that raises one is
//! a false positive; how many of those are of severity Medium or above is told apart, since those
//! are the ones that wake somebody. Unverified requests are counted and judged by nobody.
//!
//! Processes are counted apart from requests: attacks that the catalogue has an alert type for
//! (`meta.in_scope`) apart from others, and benign commands that look like an attack by design
//! (`meta.hard`) apart from ordinary ones.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::drive::{Item, Sink, drive};
use super::engine::EngineArgs;
use super::not_attacks::NotAttacks;
use crate::capture::{Format, Label, OpenError, Record};
use crate::report::{Alert, Colour, Progress, Style, grouped, printable, request_text};

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Rows with `command_line` are processes that started. They have figures of their own and are for \
    `--engine native`: the filter in a gateway sees no processes.\n\nExit status: 0 if every capture was read, 1 if not, 2 for a wrong command line."
)]
pub struct Args {
    #[command(flatten)]
    engine: EngineArgs,
    /// The captures' format; without it the content tells
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// List the attacks that were not found
    #[arg(long)]
    misses: bool,
    /// List the benign requests that raised something, and on what evidence
    #[arg(long)]
    false_positives: bool,
    /// Write the figures, and what each request raised, as one JSON object
    #[arg(long)]
    json: bool,
    /// Show what has changed since an earlier `--json`
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Rows that are labelled as attacks and are none by a reader's judgement: CSV of id (or request line) and reason. Recall is
    /// told with and without them
    #[arg(long, value_name = "FILE")]
    not_attacks: Option<PathBuf>,
    /// No progress
    #[arg(long, short)]
    quiet: bool,
    /// Labelled captures, or folders of them (`*.ndjson`, `*.ndjson.gz`)
    #[arg(required = true, value_name = "CORPUS")]
    corpora: Vec<PathBuf>,
}

/// Runs it. `false` says that a capture could not be read.
pub fn run(args: &Args) -> Result<bool> {
    let mut paths = Vec::new();
    for corpus in &args.corpora {
        add_captures(corpus, &mut paths)?;
    }
    let baseline = args.baseline.as_deref().map(read_baseline).transpose()?;
    let not_attacks = args.not_attacks.as_deref().map(NotAttacks::read);
    let not_attacks = not_attacks.transpose()?;
    let mut engine = args.engine.start()?;
    let mut tally = Tally {
        report: Report {
            without_listed: not_attacks.is_some().then(WithoutListed::default),
            ..Report::default()
        },
        not_attacks: not_attacks.unwrap_or_default(),
        progress: Progress::new(args.quiet),
        keeps_misses: args.misses && !args.json,
        keeps_false_positives: args.false_positives && !args.json,
        misses: Vec::new(),
        false_positives: Vec::new(),
        unread_captures: 0,
        alerts: 0,
    };
    drive(&paths, args.format, engine.detectors(), &mut tally)?;
    tally.progress.clear();
    tally.report.balanced_accuracy = tally.report.balanced();
    if let Some(without) = &mut tally.report.without_listed {
        without.unmet = tally.not_attacks.unmet();
    }

    let mut out = BufWriter::new(io::stdout().lock());
    let style = Style::of(&io::stdout());
    if args.json {
        serde_json::to_writer_pretty(&mut out, &tally.report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        tally.report.write(style, &mut out)?;
        write_list(
            style,
            "missed attacks",
            args.misses,
            &tally.misses,
            &mut out,
        )?;
        write_list(
            style,
            "false positives",
            args.false_positives,
            &tally.false_positives,
            &mut out,
        )?;
        if let Some(baseline) = &baseline {
            Change::between(baseline, &tally.report).write(style, &mut out)?;
        }
    }
    out.flush()?;
    Ok(tally.unread_captures == 0)
}

pub(super) fn add_captures(corpus: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    if !corpus.is_dir() {
        paths.push(corpus.to_owned());
        return Ok(());
    }
    let cannot = || format!("cannot read {}", corpus.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(corpus).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let name = path.to_string_lossy();
        if name.ends_with(".ndjson") || name.ends_with(".ndjson.gz") {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("{} holds no `*.ndjson` or `*.ndjson.gz`", corpus.display());
    }
    found.sort();
    paths.append(&mut found);
    Ok(())
}

fn read_baseline(path: &Path) -> Result<Report> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| {
        format!(
            "{} was not written by `portcullis eval --json`",
            path.display()
        )
    })
}

/// How many requests, and how many of them raised something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    requests: u64,
    raised: u64,
    raised_medium_or_above: u64,
}

impl Count {
    fn add(&mut self, alerts: &[Alert]) {
        self.requests += 1;
        self.raised += u64::from(!alerts.is_empty());
        let is_loud = alerts
            .iter()
            .any(|alert| matches!(alert.severity(), "Medium" | "High"));
        self.raised_medium_or_above += u64::from(is_loud);
    }

    fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            raised: self.raised + other.raised,
            raised_medium_or_above: self.raised_medium_or_above + other.raised_medium_or_above,
        }
    }

    fn rate(self) -> f64 {
        self.raised as f64 / self.requests.max(1) as f64
    }
}

/// Where Wilson's interval puts a share, with 95 % confidence.
pub(super) fn wilson(hits: u64, of: u64) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    const Z: f64 = 1.959_963_984_540_054;
    let (n, p) = (of as f64, hits as f64 / of as f64);
    let denominator = 1.0 + Z * Z / n;
    let centre = (p + Z * Z / (2.0 * n)) / denominator;
    let half = Z / denominator * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// Counts of one label: by capture and class.
type ByCapture = BTreeMap<String, BTreeMap<String, Count>>;

/// All figures, and what each request raised.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Report {
    attacks: ByCapture,
    benign: ByCapture,
    unverified: ByCapture,
    /// Attacks by the part of the request that holds the payload; one may be in several.
    by_place: BTreeMap<String, Count>,
    /// Attacks in the URL, User-Agent or Referer (also, if not only).
    in_head: Count,
    /// Attacks by how plain they are.
    by_tier: BTreeMap<String, Count>,
    /// Mean of the share of attacks found and the share of benign requests left alone.
    balanced_accuracy: Option<f64>,
    /// The same attacks without those that a list says are none.
    #[serde(default)]
    without_listed: Option<WithoutListed>,
    /// Processes, kept out of all figures above.
    #[serde(default)]
    processes: Processes,
    /// Records that could not be read, by capture and reason.
    not_read: BTreeMap<String, BTreeMap<String, u64>>,
    /// Requests without a label.
    unlabelled: u64,
    /// What each request raised that raised something: types of alerts, by capture and id.
    raised: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Ids of the attacks, by capture, to tell a gain from a new false positive.
    attack_ids: BTreeMap<String, BTreeSet<String>>,
}

/// Attacks, but for rows that a reader does not take for any.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct WithoutListed {
    /// The rows that were left out, by capture.
    listed: BTreeMap<String, Count>,
    /// What is left, by capture.
    attacks: BTreeMap<String, Count>,
    /// What is left of those in the URL, User-Agent or Referer.
    in_head: Count,
    /// Listed rows that no capture has.
    unmet: Vec<String>,
}

/// Counts of processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Processes {
    /// Attacks of a kind that the catalogue has an alert type for.
    in_scope: ByCapture,
    /// Other attacks: finding them is not asked for.
    out_of_scope: ByCapture,
    /// Ordinary commands.
    benign: ByCapture,
    /// Legitimate commands that look like an attack by design.
    hard: ByCapture,
    unverified: ByCapture,
}

impl Processes {
    fn of(&mut self, label: Label, meta: &serde_json::Value) -> &mut ByCapture {
        let is_in_scope = meta.get("in_scope").is_none_or(|it| it == true);
        match label {
            Label::Malicious if is_in_scope => &mut self.in_scope,
            Label::Malicious => &mut self.out_of_scope,
            Label::Benign if meta.get("hard").is_none() => &mut self.benign,
            Label::Benign => &mut self.hard,
            Label::Unverified => &mut self.unverified,
        }
    }

    fn all(&self) -> [&ByCapture; 5] {
        [
            &self.in_scope,
            &self.out_of_scope,
            &self.benign,
            &self.hard,
            &self.unverified,
        ]
    }
}

struct Tally {
    report: Report,
    not_attacks: NotAttacks,
    progress: Progress,
    keeps_misses: bool,
    keeps_false_positives: bool,
    misses: Vec<String>,
    false_positives: Vec<String>,
    unread_captures: u64,
    alerts: u64,
}

/// The capture's name without its folder and endings.
pub(super) fn capture_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.strip_suffix(".ndjson").unwrap_or(name).to_owned()
}

pub(super) fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(
        || "-".into(),
        |bytes| String::from_utf8_lossy(bytes).into_owned(),
    )
}

/// Whether the payload is in what the first filter reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// It is (also) in the URL, User-Agent or Referer.
    InHead,
    /// It is in a body, a cookie or another header.
    Elsewhere,
    /// The capture does not say, and the request has a body that may hold it.
    NotSaid,
}

impl Payload {
    pub(super) fn of(record: &Record, places: &[String]) -> Self {
        let is_head = |place: &String| matches!(&place[..], "url" | "user-agent" | "referer");
        match places {
            [] if record.body().is_some_and(|body| !body.is_empty()) => Self::NotSaid,
            [] => Self::InHead,
            _ if places.iter().any(is_head) => Self::InHead,
            _ => Self::Elsewhere,
        }
    }
}

/// Where the payload is and how plain it is.
pub(super) fn places_and_tier(record: &Record) -> (Vec<String>, String) {
    let meta = record.meta().unwrap_or_default();
    let places = meta.get("loc").and_then(|loc| loc.as_array()).map(|loc| {
        loc.iter()
            .filter_map(|place| Some(place.as_str()?.to_owned()))
            .collect()
    });
    let tier = meta
        .get("tier")
        .and_then(|tier| tier.as_str())
        .unwrap_or("none");
    (places.unwrap_or_default(), tier.to_owned())
}

impl Sink for Tally {
    fn item(&mut self, item: &Item) -> Result<()> {
        let record = &item.record;
        let capture = capture_name(&record.origin.file);
        if let Some(malformed) = &item.malformed {
            // The byte in a reason would make each one different.
            let reason = malformed
                .reason
                .split(" at byte ")
                .next()
                .unwrap_or_default();
            *self
                .report
                .not_read
                .entry(capture)
                .or_default()
                .entry(reason.to_owned())
                .or_default() += 1;
            return Ok(());
        }
        if let Some(failure) = &item.verdict.failure
            && record.is_process()
        {
            let reasons = self.report.not_read.entry(capture).or_default();
            *reasons.entry(failure.clone()).or_default() += 1;
            return Ok(());
        }
        self.alerts += item.alerts.len() as u64;
        let Some(label) = record.label else {
            self.report.unlabelled += 1;
            return Ok(());
        };
        let id = record.name();
        if !item.alerts.is_empty() {
            let types = item
                .alerts
                .iter()
                .map(|alert| alert.alert_type().to_owned())
                .collect();
            self.report
                .raised
                .entry(capture.clone())
                .or_default()
                .insert(id.clone(), types);
        }
        if record.is_process() {
            self.process(record, &capture, label, item);
            return Ok(());
        }
        let by_capture = match label {
            Label::Malicious => &mut self.report.attacks,
            Label::Benign => &mut self.report.benign,
            Label::Unverified => &mut self.report.unverified,
        };
        let class = text(record.class());
        by_capture
            .entry(capture.clone())
            .or_default()
            .entry(class.clone())
            .or_default()
            .add(&item.alerts);
        match label {
            Label::Malicious => {
                let (places, tier) = places_and_tier(record);
                let payload = Payload::of(record, &places);
                if payload == Payload::InHead {
                    self.report.in_head.add(&item.alerts);
                }
                let is_listed = self.not_attacks.has(&id, &request_text(record));
                if let Some(without) = &mut self.report.without_listed {
                    let counts = match is_listed {
                        true => &mut without.listed,
                        false => &mut without.attacks,
                    };
                    counts.entry(capture.clone()).or_default().add(&item.alerts);
                    if !is_listed && payload == Payload::InHead {
                        without.in_head.add(&item.alerts);
                    }
                }
                let not_said = (payload == Payload::NotSaid).then_some("not said, with a body");
                for place in places.iter().map(String::as_str).chain(not_said) {
                    self.report
                        .by_place
                        .entry(place.to_owned())
                        .or_default()
                        .add(&item.alerts);
                }
                self.report
                    .by_tier
                    .entry(tier.clone())
                    .or_default()
                    .add(&item.alerts);
                self.report
                    .attack_ids
                    .entry(capture)
                    .or_default()
                    .insert(id.clone());
                if item.alerts.is_empty() && self.keeps_misses && !is_listed {
                    let place = places.join("+");
                    self.misses.push(format!(
                        "{id}  {class}  {tier}  {place}  {}",
                        request_with_headers(record)
                    ));
                }
            }
            Label::Benign => self.false_positive(&id, item),
            Label::Unverified => {}
        }
        Ok(())
    }

    fn unread(&mut self, error: OpenError) -> Result<()> {
        self.unread_captures += 1;
        self.progress.clear();
        eprintln!("{}", printable(&error.to_string()));
        Ok(())
    }

    fn progress(&mut self, file: &str, part: Option<f64>) {
        let counts = [
            &self.report.attacks,
            &self.report.benign,
            &self.report.unverified,
        ];
        let requests = counts
            .into_iter()
            .chain(self.report.processes.all())
            .map(|by_capture| total(by_capture).requests)
            .sum();
        self.progress.draw(file, part, requests, self.alerts);
    }
}

impl Tally {
    /// Counts a process.
    fn process(&mut self, record: &Record, capture: &str, label: Label, item: &Item) {
        let (id, class) = (record.name(), text(record.class()));
        let meta = record.meta().unwrap_or_default();
        let by_capture = self.report.processes.of(label, &meta);
        let counts = by_capture.entry(capture.to_owned()).or_default();
        counts.entry(class.clone()).or_default().add(&item.alerts);
        match label {
            Label::Malicious => {
                let is_in_scope = meta.get("in_scope").is_none_or(|it| it == true);
                if is_in_scope && item.alerts.is_empty() && self.keeps_misses {
                    self.misses
                        .push(format!("{id}  {class}  {}", request_text(record)));
                }
                let ids = self.report.attack_ids.entry(capture.to_owned());
                ids.or_default().insert(id);
            }
            Label::Benign => self.false_positive(&id, item),
            Label::Unverified => {}
        }
    }

    /// Lists what a benign record raised.
    fn false_positive(&mut self, id: &str, item: &Item) {
        if !self.keeps_false_positives {
            return;
        }
        for alert in &item.alerts {
            self.false_positives.push(format!(
                "{id}  {}  {}  {}  {} {}: {}  {}",
                alert.severity(),
                alert.alert_type(),
                alert.text("RuleTitle"),
                alert.text("Field"),
                alert.text("FieldName"),
                alert.text("Evidence"),
                request_text(&item.record),
            ));
        }
    }
}

/// Bytes of a body that a list of misses shows.
const BODY_SHOWN: usize = 300;

/// The request with its body, and the headers in which payloads are looked for.
fn request_with_headers(record: &Record) -> String {
    let mut text = request_text(record);
    if let Some(body) = record.body().filter(|body| !body.is_empty()) {
        let shown = body.get(..BODY_SHOWN).unwrap_or(body);
        let more = if shown.len() < body.len() { "…" } else { "" };
        let shown = crate::report::printable_bytes(shown);
        text.push_str(&format!("  body: {shown}{more}"));
    }
    for name in ["user-agent", "referer"] {
        if let Some(value) = record.header(name.as_bytes()) {
            text.push_str(&format!(
                "  {name}: {}",
                crate::report::printable_bytes(value)
            ));
        }
    }
    text
}

fn total(by_capture: &ByCapture) -> Count {
    by_capture
        .values()
        .flat_map(BTreeMap::values)
        .fold(Count::default(), |sum, count| sum.plus(*count))
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `1 in 500`, the way targets for silence are written.
pub(super) fn one_in(hits: u64, of: u64) -> String {
    match of.checked_div(hits) {
        Some(each) => format!("1 in {}", grouped(each)),
        None => format!("0 in {}", grouped(of)),
    }
}

impl Report {
    fn balanced(&self) -> Option<f64> {
        let (attacks, benign) = (total(&self.attacks), total(&self.benign));
        (attacks.requests > 0 && benign.requests > 0)
            .then(|| (attacks.rate() + 1.0 - benign.rate()) / 2.0)
    }

    fn write(&self, style: Style, out: &mut impl Write) -> io::Result<()> {
        self.write_found(style, "attacks", &self.attacks, out)?;
        if !self.by_place.is_empty() {
            heading(style, "attacks by place of the payload", FOUND, out)?;
            for (place, count) in &self.by_place {
                found_line(&format!("  {place}"), *count, out)?;
            }
            found_line("url, user-agent or referer", self.in_head, out)?;
        }
        if self.by_tier.len() > 1 {
            heading(style, "attacks by tier", FOUND, out)?;
            for (tier, count) in &self.by_tier {
                found_line(&format!("  {tier}"), *count, out)?;
            }
        }
        if let Some(without) = &self.without_listed {
            without.write(style, out)?;
        }
        write_benign(style, "benign requests", &self.benign, out)?;
        self.write_found(
            style,
            "unverified requests (neither right nor wrong)",
            &self.unverified,
            out,
        )?;
        let processes = &self.processes;
        for (title, counts) in [
            ("attacks by process, in scope", &processes.in_scope),
            ("attacks by process, out of scope", &processes.out_of_scope),
            ("unverified processes", &processes.unverified),
        ] {
            self.write_found(style, title, counts, out)?;
        }
        write_benign(style, "benign processes", &processes.benign, out)?;
        let title = "benign processes like an attack by design";
        write_benign(style, title, &processes.hard, out)?;

        writeln!(out)?;
        let (attacks, benign) = (total(&processes.in_scope), total(&processes.benign));
        if attacks.requests + benign.requests > 0 {
            writeln!(
                out,
                "processes          {} of {} in scope, {}; false positives {} of {}, {}",
                grouped(attacks.raised),
                grouped(attacks.requests),
                style.paint(Colour::Bold, percent(attacks.rate())),
                grouped(benign.raised),
                grouped(benign.requests),
                style.paint(Colour::Bold, one_in(benign.raised, benign.requests)),
            )?;
        }
        let (attacks, benign) = (total(&self.attacks), total(&self.benign));
        if attacks.requests > 0 {
            let (low, high) = wilson(attacks.raised, attacks.requests);
            writeln!(
                out,
                "recall             {} of {}, {} (95 %: {} to {})",
                grouped(attacks.raised),
                grouped(attacks.requests),
                style.paint(Colour::Bold, percent(attacks.rate())),
                percent(low),
                percent(high)
            )?;
        }
        if let Some(without) = &self.without_listed {
            without.write_sum(style, out)?;
        }
        if benign.requests > 0 {
            let (low, high) = wilson(benign.raised, benign.requests);
            writeln!(
                out,
                "false positives    {} of {}, {} (95 %: {:.3} % to {:.3} %); Medium or above {}",
                grouped(benign.raised),
                grouped(benign.requests),
                style.paint(Colour::Bold, one_in(benign.raised, benign.requests)),
                low * 100.0,
                high * 100.0,
                style.paint(
                    Colour::Bold,
                    one_in(benign.raised_medium_or_above, benign.requests)
                ),
            )?;
        }
        if let Some(balanced) = self.balanced_accuracy {
            writeln!(
                out,
                "balanced accuracy  {}",
                style.paint(Colour::Bold, format_args!("{balanced:.4}"))
            )?;
        }
        if self.unlabelled > 0 {
            writeln!(out, "without a label    {}", grouped(self.unlabelled))?;
        }
        for (capture, reasons) in &self.not_read {
            for (reason, count) in reasons {
                let line = format!(
                    "not read           {capture}: {} records: {reason}",
                    grouped(*count)
                );
                writeln!(out, "{}", style.paint(Colour::Yellow, printable(&line)))?;
            }
        }
        Ok(())
    }

    fn write_found(
        &self,
        style: Style,
        title: &str,
        counts: &ByCapture,
        out: &mut impl Write,
    ) -> io::Result<()> {
        if counts.is_empty() {
            return Ok(());
        }
        heading(style, title, FOUND, out)?;
        for (capture, classes) in counts {
            write_group(capture, classes, out, found_line)?;
        }
        Ok(())
    }
}

impl WithoutListed {
    /// A table of the captures that have listed rows, and the rows that are in none.
    fn write(&self, style: Style, out: &mut impl Write) -> io::Result<()> {
        let title = "attacks without the rows that are none";
        heading(style, title, FOUND, out)?;
        for (capture, count) in &self.attacks {
            if self.listed.contains_key(capture) {
                found_line(capture, *count, out)?;
            }
        }
        found_line("url, user-agent or referer", self.in_head, out)?;
        for row in &self.unmet {
            let line = format!("in no capture: {row}");
            writeln!(out, "{}", style.paint(Colour::Yellow, printable(&line)))?;
        }
        Ok(())
    }

    fn write_sum(&self, style: Style, out: &mut impl Write) -> io::Result<()> {
        let sum = |counts: &BTreeMap<String, Count>| {
            counts
                .values()
                .fold(Count::default(), |sum, count| sum.plus(*count))
        };
        let (listed, left) = (sum(&self.listed), sum(&self.attacks));
        writeln!(
            out,
            "  without          {} rows that are no attack ({} of them raise something): {} of {}, {}",
            grouped(listed.requests),
            grouped(listed.raised),
            grouped(left.raised),
            grouped(left.requests),
            style.paint(Colour::Bold, percent(left.rate())),
        )
    }
}

const FOUND: &str = "       n detected    share          95 %";
const FALSE: &str = "       n   raised               Medium+";

pub(super) fn heading(
    style: Style,
    title: &str,
    columns: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(
        out,
        "\n{}",
        style.paint(Colour::Bold, format_args!("{title:<44} {columns}"))
    )
}

/// A capture, and its classes below it if there are several.
fn write_group<W: Write>(
    capture: &str,
    classes: &BTreeMap<String, Count>,
    out: &mut W,
    line: impl Fn(&str, Count, &mut W) -> io::Result<()>,
) -> io::Result<()> {
    let sum = classes
        .values()
        .fold(Count::default(), |sum, count| sum.plus(*count));
    line(capture, sum, out)?;
    if classes.len() > 1 {
        for (class, count) in classes {
            line(&format!("  {class}"), *count, out)?;
        }
    }
    Ok(())
}

fn write_benign(
    style: Style,
    title: &str,
    counts: &ByCapture,
    out: &mut impl Write,
) -> io::Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    heading(style, title, FALSE, out)?;
    for (capture, classes) in counts {
        write_group(capture, classes, out, |name, count, out| {
            let Count {
                requests,
                raised,
                raised_medium_or_above: loud,
            } = count;
            writeln!(
                out,
                "{:<44} {:>8} {:>8} {:>12} {:>8} {:>12}",
                printable(name),
                grouped(requests),
                grouped(raised),
                one_in(raised, requests),
                grouped(loud),
                one_in(loud, requests)
            )
        })?;
    }
    Ok(())
}

fn found_line(name: &str, count: Count, out: &mut impl Write) -> io::Result<()> {
    let (low, high) = wilson(count.raised, count.requests);
    writeln!(
        out,
        "{:<44} {:>8} {:>8} {:>8} {:>13}",
        printable(name),
        grouped(count.requests),
        grouped(count.raised),
        percent(count.rate()),
        format!("{:.1}–{:.1}", low * 100.0, high * 100.0)
    )
}

pub(super) fn write_list(
    style: Style,
    title: &str,
    is_wanted: bool,
    lines: &[String],
    out: &mut impl Write,
) -> io::Result<()> {
    if !is_wanted {
        return Ok(());
    }
    writeln!(
        out,
        "\n{}",
        style.paint(Colour::Bold, format_args!("{title}: {}", lines.len()))
    )?;
    lines
        .iter()
        .try_for_each(|line| writeln!(out, "{}", printable(line)))
}

/// What differs from an earlier report, in the captures that both have.
#[derive(Debug, Default)]
struct Change {
    found: Vec<String>,
    lost: Vec<String>,
    new_false_positives: Vec<String>,
    gone_false_positives: Vec<String>,
}

impl Change {
    fn between(before: &Report, now: &Report) -> Self {
        let mut change = Self::default();
        let captures: BTreeSet<_> = [&now.attacks, &now.benign]
            .into_iter()
            .chain(now.processes.all())
            .flat_map(BTreeMap::keys)
            .collect();
        let is_in = |report: &Report, capture: &String| {
            let counts = [&report.attacks, &report.benign];
            let mut counts = counts.into_iter().chain(report.processes.all());
            counts.any(|counts| counts.contains_key(capture))
        };
        let none = BTreeMap::new();
        for capture in captures
            .into_iter()
            .filter(|capture| is_in(before, capture))
        {
            let was = before.raised.get(capture).unwrap_or(&none);
            let is = now.raised.get(capture).unwrap_or(&none);
            let is_attack = |id: &String| {
                now.attack_ids
                    .get(capture)
                    .is_some_and(|ids| ids.contains(id))
            };
            for (id, types) in is.iter().filter(|(id, _)| !was.contains_key(*id)) {
                let list = if is_attack(id) {
                    &mut change.found
                } else {
                    &mut change.new_false_positives
                };
                list.push(format!("{id}  {}", types.join(", ")));
            }
            for (id, types) in was.iter().filter(|(id, _)| !is.contains_key(*id)) {
                let list = if is_attack(id) {
                    &mut change.lost
                } else {
                    &mut change.gone_false_positives
                };
                list.push(format!("{id}  {}", types.join(", ")));
            }
        }
        change
    }

    fn write(&self, style: Style, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\n{}", style.paint(Colour::Bold, "since the baseline"))?;
        for (title, colour, list) in [
            (
                "attacks found now and not before",
                Colour::Green,
                &self.found,
            ),
            ("attacks found before and not now", Colour::Red, &self.lost),
            (
                "other requests that raise something now and did not before",
                Colour::Red,
                &self.new_false_positives,
            ),
            (
                "other requests that raised something before and do not now",
                Colour::Green,
                &self.gone_false_positives,
            ),
        ] {
            let line = format!("{title}: {}", grouped(list.len() as u64));
            writeln!(
                out,
                "{}",
                if list.is_empty() {
                    line
                } else {
                    style.paint(colour, line)
                }
            )?;
            for id in list {
                writeln!(out, "  {}", printable(id))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilsons_interval_is_the_published_one() {
        // Newcombe 1998, table I: method 3.
        for (hits, of, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let (got_low, got_high) = wilson(hits, of);
            assert!(
                (got_low - low).abs() < 5e-5 && (got_high - high).abs() < 5e-5,
                "{hits}/{of}: {got_low} {got_high}"
            );
        }
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    #[test]
    fn a_change_is_told_apart_by_label_and_only_where_both_have_looked() {
        let report = |raised: &[(&str, &str)]| {
            let mut report = Report::default();
            for capture in ["a", "b"] {
                report.attacks.entry(capture.into()).or_default();
                report.attack_ids.insert(
                    capture.into(),
                    ["bad-1".to_owned(), "bad-2".to_owned()].into(),
                );
            }
            for (capture, id) in raised {
                report
                    .raised
                    .entry((*capture).into())
                    .or_default()
                    .insert((*id).into(), vec!["T".into()]);
            }
            report
        };
        let mut before = report(&[("a", "bad-1"), ("a", "good-1")]);
        before.attacks.remove("b");
        let now = report(&[("a", "bad-2"), ("a", "good-2"), ("b", "bad-1")]);
        let change = Change::between(&before, &now);
        assert_eq!(change.found, ["bad-2  T"]);
        assert_eq!(change.lost, ["bad-1  T"]);
        assert_eq!(change.new_false_positives, ["good-2  T"]);
        assert_eq!(change.gone_false_positives, ["good-1  T"]);
    }

    #[test]
    fn a_payload_of_which_nothing_is_said_may_be_in_the_body_if_there_is_one() {
        let mut record = Record::new(b"POST", b"/");
        let of = |record: &Record, places: &[&str]| {
            let places: Vec<_> = places.iter().map(|place| (*place).to_owned()).collect();
            Payload::of(record, &places)
        };
        assert_eq!(of(&record, &[]), Payload::InHead);
        assert_eq!(of(&record, &["body", "url"]), Payload::InHead);
        assert_eq!(of(&record, &["body", "cookie"]), Payload::Elsewhere);
        record.set_body(b"q=1");
        assert_eq!(of(&record, &[]), Payload::NotSaid);
        assert_eq!(of(&record, &["referer"]), Payload::InHead);
    }

    #[test]
    fn captures_are_called_by_their_name() {
        for (file, name) in [
            ("/x/ua.ndjson.gz", "ua"),
            ("ua.ndjson", "ua"),
            ("-", "-"),
            ("x/access.log", "access.log"),
        ] {
            assert_eq!(capture_name(file), name);
        }
    }
}
