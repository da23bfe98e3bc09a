//! `portcullis diff`: what another configuration or other rules would change on captured traffic.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use portcullis::headers::Headers;
use portcullis::policy::{Live, Place, Policy};

use super::detector::Action;
use super::engine::{EngineArgs, EngineKind, header_pairs};
use crate::capture::{Reader, Record};
use crate::report::{Alert, Colour, Progress, Style, grouped, printable, printable_bytes};

/// Different changes that are told apart; further ones are counted together.
const GROUPS: usize = 10_000;

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each side has a configuration, rules, or both; what is left out is that of a filter without a \
    configuration, and the rules in `rules`. Both sides run natively.\n\nExample: portcullis diff --after strict.json access.log\
    \n\nExit status: 0 if every capture was read (with --exit-code: and nothing changes), 1 if not, 2 for a wrong command line."
)]
pub struct Args {
    /// Plugin configuration as it is
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Plugin configuration as it would be
    #[arg(long, value_name = "FILE")]
    after: Option<PathBuf>,
    /// Rules as they are [default: rules]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    rules_before: Vec<PathBuf>,
    /// Rules as they would be [default: those before]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    rules_after: Vec<PathBuf>,
    /// Changes that are shown, the most frequent first
    #[arg(long, value_name = "N", default_value = "50")]
    top: usize,
    /// Write each change as a line of JSON, and a last line with the sums
    #[arg(long)]
    json: bool,
    /// End with 1 if anything changes
    #[arg(long)]
    exit_code: bool,
    /// Captures, `-` for standard input
    #[arg(required = true, value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
}

/// What becomes of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Change {
    NewlyBlocked,
    NoLongerBlocked,
    Appears,
    Disappears,
}

impl Change {
    const fn name(self) -> &'static str {
        match self {
            Change::NewlyBlocked => "newly blocked",
            Change::NoLongerBlocked => "no longer blocked",
            Change::Appears => "appears",
            Change::Disappears => "disappears",
        }
    }

    const fn colour(self) -> Colour {
        match self {
            Change::NewlyBlocked => Colour::Red,
            Change::NoLongerBlocked | Change::Disappears => Colour::Yellow,
            Change::Appears => Colour::Green,
        }
    }
}

/// Alerts that change alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
struct Group {
    change: Change,
    alert: String,
    rule: String,
    /// Host and path.
    place: String,
    /// The most specific layer of the configuration that holds there: `gateway`, or an entry of its route table; of
    /// both configurations, if they differ in that.
    layer: String,
}

#[derive(Clone, Debug, serde::Serialize)]
struct Members {
    title: String,
    alerts: u64,
    /// The first request.
    example: String,
}

/// Sums over all requests.
#[derive(Clone, Debug, Default, serde::Serialize)]
struct Sums {
    requests: u64,
    unchanged_alerts: u64,
    blocked_before: u64,
    blocked_after: u64,
    changed_alerts: u64,
    malformed: u64,
    unread_captures: u64,
}

/// Runs it. `false` says that a capture could not be read, or that something changes where nothing should.
pub fn run(args: &Args) -> Result<bool> {
    let side = |config: &Option<PathBuf>, rules: &[PathBuf]| {
        let args = EngineArgs {
            kind: EngineKind::Native,
            config: config.clone(),
            rules: rules.to_vec(),
            ..EngineArgs::default()
        };
        args.start()
    };
    let rules_after = match args.rules_after.as_slice() {
        [] => &args.rules_before,
        rules => rules,
    };
    let mut before = side(&args.before, &args.rules_before)?;
    let mut after = side(&args.after, rules_after)?;
    let policies = (before.policy(), after.policy());
    let (mut before, mut after) = (before.detectors(), after.detectors());
    let (Some(before), Some(after)) = (before.first_mut(), after.first_mut()) else {
        return Ok(false);
    };
    let mut diff = Diff::default();
    let mut progress = Progress::new(args.json);
    let mut record = Record::default();
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for path in &args.captures {
        let mut reader = match Reader::open(path, None) {
            Ok(reader) => reader,
            Err(error) => {
                progress.clear();
                eprintln!("{}", printable(&error.to_string()));
                diff.sums.unread_captures += 1;
                continue;
            }
        };
        while let Some(read) = reader.read(&mut record) {
            if let Err(malformed) = read {
                progress.clear();
                eprintln!("{}", printable(&malformed.to_string()));
                diff.sums.malformed += 1;
                continue;
            }
            old.clear();
            new.clear();
            let was = before.inspect(&record, &mut old);
            let is = after.inspect(&record, &mut new);
            diff.sums.requests += 1;
            diff.sums.blocked_before += u64::from(was.action == Action::Block);
            diff.sums.blocked_after += u64::from(is.action == Action::Block);
            // The layer is only of interest where there is something to tell.
            let layer = match old.is_empty() && new.is_empty() {
                true => String::new(),
                false => layer(&record, &policies),
            };
            diff.compare(&record, &layer, &old, &new);
            let part = reader
                .total_bytes()
                .map(|total| reader.consumed_bytes() as f64 / total.max(1) as f64);
            progress.draw(
                reader.name(),
                part,
                diff.sums.requests,
                diff.sums.changed_alerts,
            );
        }
    }
    progress.clear();
    let mut out = BufWriter::new(io::stdout().lock());
    diff.write(args, &mut out)?;
    out.flush()?;
    let is_same = diff.sums.changed_alerts == 0;
    Ok(diff.sums.unread_captures == 0 && (is_same || !args.exit_code))
}

/// The most specific layer that holds for a request, before and after.
fn layer(record: &Record, policies: &(Arc<Policy>, Arc<Policy>)) -> String {
    let pairs = header_pairs(record);
    let (place, live) = (Place::of(Headers::Pairs(&pairs)), Live::default());
    let of = |policy: &Policy| {
        let effective = policy.effective(&place, &live, 0);
        let last = effective.layers().last();
        last.map(|(origin, _)| origin.to_string())
            .unwrap_or_default()
    };
    match (of(&policies.0), of(&policies.1)) {
        (before, after) if before == after => after,
        (before, after) => format!("{before} → {after}"),
    }
}

#[derive(Default)]
struct Diff {
    groups: BTreeMap<Group, Members>,
    /// Changes that found no room among the groups.
    ungrouped: u64,
    sums: Sums,
}

impl Diff {
    /// Notes what becomes of the alerts of one request; there is at most one of each type.
    fn compare(&mut self, record: &Record, layer: &str, old: &[Alert], new: &[Alert]) {
        let of_type = |alerts: &[Alert], kind: &str| {
            alerts
                .iter()
                .find(|alert| alert.alert_type() == kind)
                .cloned()
        };
        for alert in old {
            let change = match of_type(new, alert.alert_type()) {
                None => Change::Disappears,
                Some(now) => match (alert.text("Action"), now.text("Action")) {
                    ("detected", "blocked") => Change::NewlyBlocked,
                    ("blocked", "detected") => Change::NoLongerBlocked,
                    _ => {
                        self.sums.unchanged_alerts += 1;
                        continue;
                    }
                },
            };
            self.note(record, layer, alert, change);
        }
        for alert in new {
            if of_type(old, alert.alert_type()).is_none() {
                let change = match alert.text("Action") {
                    "blocked" => Change::NewlyBlocked,
                    _ => Change::Appears,
                };
                self.note(record, layer, alert, change);
            }
        }
    }

    fn note(&mut self, record: &Record, layer: &str, alert: &Alert, change: Change) {
        self.sums.changed_alerts += 1;
        let path = record
            .target()
            .split(|byte| *byte == b'?')
            .next()
            .unwrap_or_default();
        let host = printable_bytes(record.authority().unwrap_or_default());
        let group = Group {
            change,
            alert: alert.alert_type().to_owned(),
            rule: alert.text("RuleId").to_owned(),
            place: format!("{host}{}", printable_bytes(path.get(..80).unwrap_or(path))),
            layer: layer.to_owned(),
        };
        if let Some(members) = self.groups.get_mut(&group) {
            members.alerts += 1;
        } else if self.groups.len() < GROUPS {
            let members = Members {
                title: alert.text("RuleTitle").to_owned(),
                alerts: 1,
                example: record.name(),
            };
            self.groups.insert(group, members);
        } else {
            self.ungrouped += 1;
        }
    }

    fn write(&self, args: &Args, out: &mut impl Write) -> Result<()> {
        #[derive(serde::Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            group: &'a Group,
            #[serde(flatten)]
            members: &'a Members,
        }
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(group, members)| (group.change, std::cmp::Reverse(members.alerts)));
        if args.json {
            for (group, members) in groups {
                serde_json::to_writer(&mut *out, &Line { group, members })?;
                writeln!(out)?;
            }
            serde_json::to_writer(&mut *out, &self.sums)?;
            writeln!(out)?;
            return Ok(());
        }
        let style = Style::of(&io::stdout());
        if !groups.is_empty() {
            let heading = format!(
                "{:>7}  {:<17}  {:<34}  {:<40}  {:<12}  {}",
                "alerts", "change", "alert type", "rule", "layer", "host and path, first request"
            );
            writeln!(out, "{}", style.paint(Colour::Dim, heading))?;
        }
        for (group, members) in groups.iter().take(args.top) {
            let change = format!("{:<17}", group.change.name());
            writeln!(
                out,
                "{:>7}  {}  {:<34}  {:<40}  {:<12}  {}, {}",
                grouped(members.alerts),
                style.paint(group.change.colour(), change),
                group.alert,
                members.title,
                group.layer,
                group.place,
                printable(&members.example),
            )?;
        }
        let hidden = groups.len().saturating_sub(args.top) as u64 + self.ungrouped;
        if hidden > 0 {
            writeln!(out, "         and {} more (--top)", grouped(hidden))?;
        }
        let sums = &self.sums;
        writeln!(
            out,
            "{} requests: {} alerts change, {} do not; blocked before {}, after {}",
            grouped(sums.requests),
            grouped(sums.changed_alerts),
            grouped(sums.unchanged_alerts),
            grouped(sums.blocked_before),
            grouped(sums.blocked_after),
        )?;
        Ok(())
    }
}
