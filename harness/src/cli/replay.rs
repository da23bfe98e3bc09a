//! `portcullis replay`: captured traffic through the filter, and what it would have raised.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};

use super::detector::Action;
use super::drive::{Item, Sink, Spent, drive};
use super::engine::EngineArgs;
use crate::capture::{Format, OpenError};
use crate::report::{Alert, Colour, Progress, Style, Summary, alert_line, grouped, printable};

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Captures may be gzip'd. Beside requests they may hold processes that started: labelled rows with \
    `command_line`, the log of auditd, XML of Sysmon and of the Windows security log, and JSON lines of these, of \
    laurel, Falco, Tetragon or ECS. Those are for `--engine native`: \
    the filter in a gateway sees no processes.\n\nA record that cannot be read is reported with file and line, counted, \
    and stops nothing.\n\nExit status: 0 if every capture was read; 1 if one could not be, if the filter did not start, \
    or with --strict at the first malformed record; 2 for a wrong command line."
)]
pub struct Args {
    #[command(flatten)]
    engine: EngineArgs,
    /// The captures' format; without it the content tells
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write each alert as a line of JSON
    #[arg(long)]
    json: bool,
    /// Write a line of JSON for each request: its `id`, `action` and the types of its `alerts`
    #[arg(long, conflicts_with = "json")]
    verdicts: bool,
    /// Write every alert, also those that the gateway folds into one of the same source
    #[arg(long)]
    every: bool,
    /// End at the first record that cannot be read
    #[arg(long)]
    strict: bool,
    /// Say how long it took, and what that time went to
    #[arg(long)]
    stats: bool,
    /// No progress, no summary, and malformed records are counted but not listed
    #[arg(long, short)]
    quiet: bool,
    /// Captures, `-` for standard input
    #[arg(required = true, value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
}

/// Runs it. `false` says that a capture could not be read.
pub fn run(args: &Args) -> Result<bool> {
    let begun = Instant::now();
    let mut engine_args = args.engine.clone();
    engine_args.is_timed = args.stats;
    let folds = !args.every && !args.verdicts;
    let mut engine = engine_args.start_as(folds)?;
    let started = Instant::now();
    let mut replay = Replay {
        args,
        out: BufWriter::with_capacity(64 << 10, io::stdout().lock()),
        is_live: io::stdout().is_terminal(),
        style: Style::of(&io::stdout()),
        error_style: Style::of(&io::stderr()),
        progress: Progress::new(args.quiet),
        summary: Summary::default(),
        has_header: false,
        has_told_of_processes: false,
        spent: Spent::default(),
    };
    drive(&args.captures, args.format, engine.detectors(), &mut replay)?;
    replay.summary.folded = engine.folded();
    replay.finish()?;
    if args.stats {
        let took = started.elapsed();
        let per_second = replay.summary.requests as f64 / took.as_secs_f64();
        eprintln!(
            "started in {:.3} s, {} requests in {:.3} s, {} requests/s, {} of them by each of {} workers",
            started.duration_since(begun).as_secs_f64(),
            grouped(replay.summary.requests),
            took.as_secs_f64(),
            grouped(per_second as u64),
            grouped(per_second as u64 / args.engine.jobs.get() as u64),
            args.engine.jobs,
        );
        eprintln!("{}", split(replay.spent, replay.summary.requests));
    }
    Ok(replay.summary.unread_captures == 0)
}

/// What the time went to, for each request: microseconds of processor, whatever ran side by side.
fn split(spent: Spent, requests: u64) -> String {
    let us = |time: std::time::Duration| time.as_secs_f64() * 1e6 / requests.max(1) as f64;
    let (reading, writing) = (us(spent.reading), us(spent.writing));
    let detecting = spent.detecting.unwrap_or(spent.inspecting);
    let hosting = us(spent.inspecting.saturating_sub(detecting));
    let detecting = us(detecting);
    format!(
        "a request took {:.2} µs: {reading:.2} parsing, {hosting:.2} hosting, {detecting:.2} detecting, {writing:.2} writing",
        reading + hosting + detecting + writing,
    )
}

/// A line of `--verdicts`.
#[derive(serde::Serialize)]
struct VerdictLine<'a> {
    id: String,
    action: &'static str,
    alerts: Vec<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

struct Replay<'a> {
    args: &'a Args,
    out: BufWriter<StdoutLock<'static>>,
    /// Somebody watches standard output.
    is_live: bool,
    style: Style,
    error_style: Style,
    progress: Progress,
    summary: Summary,
    has_header: bool,
    has_told_of_processes: bool,
    spent: Spent,
}

impl Replay<'_> {
    fn warn(&mut self, text: &str) -> Result<()> {
        self.progress.clear();
        // In order with the table, if both go to one terminal.
        self.out.flush()?;
        eprintln!(
            "{}",
            self.error_style.paint(Colour::Yellow, printable(text))
        );
        Ok(())
    }

    fn table(&mut self, item: &Item) -> io::Result<()> {
        if !std::mem::replace(&mut self.has_header, true) {
            let heading = format!(
                "{:<19}  {:<13}  {:<34}  {:<15}  {}",
                "time (UTC)", "severity", "alert type", "source", "request and evidence"
            );
            writeln!(self.out, "{}", self.style.paint(Colour::Dim, heading))?;
        }
        for alert in &item.alerts {
            writeln!(self.out, "{}", alert_line(self.style, &item.record, alert))?;
        }
        Ok(())
    }

    fn json(&mut self, item: &Item) -> Result<()> {
        for alert in &item.alerts {
            serde_json::to_writer(&mut self.out, &alert.0).map_err(io::Error::from)?;
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    fn verdict(&mut self, item: &Item) -> Result<()> {
        let verdict = VerdictLine {
            id: item.record.name(),
            action: item.verdict.action.name(),
            alerts: item.alerts.iter().map(Alert::alert_type).collect(),
            truncated: item.verdict.truncated,
        };
        serde_json::to_writer(&mut self.out, &verdict).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.progress.clear();
        self.out.flush()?;
        if self.args.quiet {
            return Ok(());
        }
        // Where alerts are data, the summary must not be among them.
        if self.args.json || self.args.verdicts {
            self.summary
                .write(self.error_style, &mut io::stderr().lock())?;
        } else {
            if self.has_header {
                writeln!(self.out)?;
            }
            self.summary.write(self.style, &mut self.out)?;
            self.out.flush()?;
        }
        Ok(())
    }
}

impl Sink for Replay<'_> {
    fn item(&mut self, item: &Item) -> Result<()> {
        if let Some(malformed) = &item.malformed {
            self.summary.malformed += 1;
            if self.args.strict {
                self.progress.clear();
                self.out.flush()?;
                bail!("{malformed}");
            }
            if !self.args.quiet {
                self.warn(&malformed.to_string())?;
            }
            return Ok(());
        }
        let is_process = item.record.is_process();
        if is_process {
            self.summary.processes += 1;
        } else {
            self.summary.requests += 1;
        }
        self.summary.truncated += u64::from(item.verdict.truncated);
        self.summary.blocked += u64::from(item.verdict.action == Action::Block);
        self.summary.with_alerts += u64::from(!item.alerts.is_empty());
        for alert in &item.alerts {
            self.summary.count(alert);
        }
        if let Some(failure) = &item.verdict.failure {
            self.summary.failed += 1;
            // That the filter sees no processes is as true of the next million.
            if !is_process || !std::mem::replace(&mut self.has_told_of_processes, true) {
                self.warn(&format!("{}: not inspected: {failure}", item.record.origin))?;
            }
        }
        if self.args.verdicts {
            self.verdict(item)?;
        } else if !item.alerts.is_empty() {
            self.progress.clear();
            if self.args.json {
                self.json(item)?
            } else {
                self.table(item)?
            }
        }
        if self.is_live {
            self.out.flush()?;
        }
        Ok(())
    }

    fn unread(&mut self, error: OpenError) -> Result<()> {
        self.summary.unread_captures += 1;
        if self.args.strict {
            bail!("{error}");
        }
        self.warn(&error.to_string())
    }

    fn is_timed(&self) -> bool {
        self.args.stats
    }

    fn spent(&mut self, spent: Spent) {
        self.spent = spent;
    }

    fn progress(&mut self, file: &str, part: Option<f64>) {
        let (requests, alerts) = (self.summary.requests, self.summary.alerts());
        self.progress.draw(file, part, requests, alerts);
    }
}
