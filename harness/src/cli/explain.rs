//! `portcullis explain`: one request, and why each rule did or did not match.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context as _, Result, anyhow, bail};
use portcullis::catalogue::Severity;
use portcullis::event::View;
use portcullis::explain::{Candidate, Explanation, literal, question, quoted};
use portcullis::headers::Headers;
use portcullis::inspect::Inspector;
use portcullis::policy::{self, Found, Live, Mode, Place, Policy, RuleName, live};
use portcullis::ruleset::RuleSet;

use super::engine::{RecordFacts, header_pairs, load, time_unix_ns};
use crate::capture::{Format, Reader, Record};
use crate::report::{Colour, Style, grouped, printable, printable_bytes, request_text};

/// Bytes of one text that are shown.
const SHOWN_BYTES: usize = 300;

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: portcullis explain --target \"/item?id=1%27%20or%201=1--\" --user-agent curl/8.5.0"
)]
pub struct Args {
    /// A capture with the request, such as a raw HTTP/1.1 request; `-` for standard input
    #[arg(value_name = "CAPTURE", conflicts_with_all = ["method", "target", "host", "user_agent", "referer", "header", "source"])]
    capture: Option<PathBuf>,
    /// The capture's format; without it the content tells
    #[arg(long, value_enum, requires = "capture")]
    format: Option<Format>,
    /// Which record of the capture
    #[arg(long, value_name = "N", default_value = "1", requires = "capture")]
    record: std::num::NonZeroUsize,
    /// Method
    #[arg(long, default_value = "GET")]
    method: OsString,
    /// Path and query, as on the wire
    #[arg(long, default_value = "/")]
    target: OsString,
    /// Host
    #[arg(long, default_value = "localhost")]
    host: OsString,
    /// User-Agent
    #[arg(long)]
    user_agent: Option<OsString>,
    /// Referer
    #[arg(long)]
    referer: Option<OsString>,
    /// Another header; may be given more than once
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<OsString>,
    /// Address of the client
    #[arg(long, value_name = "ADDRESS")]
    source: Option<String>,
    /// Sigma rules, folders of them, or compiled rules [default: rules]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    rules: Vec<PathBuf>,
    /// The plugin's configuration: shows which of its layers hold for the request, and what they come to
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the gateway's route, for the configuration's table
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Name of the gateway's virtual host, likewise
    #[arg(long, value_name = "NAME")]
    virtual_host: Option<String>,
    /// Settings in the route's metadata, a JSON text
    #[arg(long, value_name = "JSON")]
    route_metadata: Option<String>,
    /// Settings in the virtual host's metadata, likewise
    #[arg(long, value_name = "JSON")]
    virtual_host_metadata: Option<String>,
    /// Settings in an annotation of the HTTPRoute, likewise
    #[arg(long, value_name = "JSON")]
    annotation: Option<String>,
    /// Show candidates that did not match as well, with all that was asked
    #[arg(long)]
    all: bool,
}

impl Args {
    fn record(&self) -> Result<Record> {
        if let Some(path) = &self.capture {
            let mut reader = Reader::open(path, self.format)?;
            return match reader.nth(self.record.get() - 1) {
                Some(record) => record.map_err(|malformed| anyhow!("{malformed}")),
                None => bail!(
                    "{} holds fewer than {} records",
                    path.display(),
                    self.record
                ),
            };
        }
        let mut record = Record::new(self.method.as_bytes(), self.target.as_bytes());
        if record.authority().is_none() {
            record.set_authority(self.host.as_bytes());
        }
        if let Some(agent) = &self.user_agent {
            record.push_header(b"user-agent", agent.as_bytes());
        }
        if let Some(referer) = &self.referer {
            record.push_header(b"referer", referer.as_bytes());
        }
        for header in &self.header {
            let bytes = header.as_bytes();
            let colon = memchr::memchr(b':', bytes).with_context(|| {
                format!(
                    "the header `{}` has no colon: write `Name: value`",
                    printable_bytes(bytes)
                )
            })?;
            let (name, value) = bytes.split_at(colon);
            record.push_header(name, value.get(1..).unwrap_or_default().trim_ascii());
        }
        if let Some(source) = &self.source {
            record.set_source_address(source.as_bytes());
        }
        Ok(record)
    }
}

impl Args {
    /// Which layers of the configuration hold for the request, and what they come to.
    fn write_policy(
        &self,
        style: Style,
        record: &Record,
        policy: &Policy,
        inspector: &mut Inspector,
        out: &mut impl Write,
    ) -> Result<()> {
        let settings = |option: &str, text: &Option<String>| {
            let read = text.as_ref().map(|text| {
                let settings = live::read(text.as_bytes(), inspector.rules());
                settings
                    .map(Rc::new)
                    .map_err(|error| anyhow!("--{option}: {error}"))
            });
            read.transpose()
        };
        let live = Live {
            annotation: settings("annotation", &self.annotation)?,
            virtual_host: settings("virtual-host-metadata", &self.virtual_host_metadata)?,
            route: settings("route-metadata", &self.route_metadata)?,
        };
        let pairs = header_pairs(record);
        let headers = Headers::Pairs(&pairs);
        let place = Place {
            route: self.route.clone().unwrap_or_default(),
            virtual_host: self.virtual_host.clone().unwrap_or_default(),
            ..Place::of(headers)
        };
        let effective = policy.effective(&place, &live, time_unix_ns(record));
        let answer = effective.answer();
        writeln!(out, "\npolicy")?;
        let layers: Vec<String> = effective
            .layers()
            .map(|(origin, _)| origin.to_string())
            .collect();
        writeln!(out, "  {:<16} {}", "layers", layers.join(" < "))?;
        writeln!(out, "  {:<16} {}", "mode", effective.mode().name())?;
        writeln!(
            out,
            "  {:<16} severity {} and confidence {} or more, answered {}",
            "blocks",
            effective.min_severity().name(),
            effective.min_confidence(),
            answer.status
        )?;
        let bodies = match effective.body_bytes() {
            0 => "not inspected".to_owned(),
            most => format!("the first {} bytes", grouped(most as u64)),
        };
        writeln!(out, "  {:<16} {bodies}", "bodies")?;
        // What was explained above.
        let detections = inspector.detections().to_vec();
        let found = Found {
            event: headers.into(),
            body: None,
            detections: detections.clone(),
        };
        let standing = policy::enforce(inspector, found, &RecordFacts(record), &effective);
        let rules = inspector.rules();
        for detection in &detections {
            let Some(rule) = rules.rule(detection.rule) else {
                continue;
            };
            let name = RuleName::of(rules, &rule);
            let stands = standing.iter().find(|stands| stands.rule == detection.rule);
            let (colour, outcome) = match stands {
                Some(_) if rule.silent != 0 => (Colour::Dim, "only counted".into()),
                Some(detection) => {
                    let severity = Severity::from_number(rule.severity).unwrap_or(Severity::Low);
                    let action = effective.action(name, severity, detection.confidence);
                    let trial = if effective.stages(name) {
                        ", on trial"
                    } else {
                        ""
                    };
                    (Colour::Red, format!("{}{trial}", action.name()))
                }
                None if policy.is_off || effective.mode() == Mode::Off => {
                    (Colour::Dim, "off".into())
                }
                None if !effective.allows(name) => (Colour::Dim, "disabled".into()),
                None if effective.exceptions(name).is_empty() => {
                    (Colour::Dim, "source is trusted".into())
                }
                None => (Colour::Dim, "excepted".into()),
            };
            let title = printable(rules.text(rule.title));
            writeln!(
                out,
                "  {:<16} {title}",
                style.paint(colour, format_args!("{outcome:<16}"))
            )?;
        }
        Ok(())
    }
}

/// Runs it.
pub fn run(args: &Args) -> Result<bool> {
    let record = args.record()?;
    let configuration = match &args.config {
        Some(path) => {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?
        }
        None => Vec::new(),
    };
    let (policy, rules) = load(&configuration, &args.rules)?;
    let mut inspector = Inspector::new(rules);
    inspector.set_scope(policy.scope());
    let pairs = header_pairs(&record);
    let explanation = Explanation::of_request(
        &mut inspector,
        Headers::Pairs(&pairs),
        &RecordFacts(&record),
    );

    let style = Style::of(&io::stdout());
    let mut out = BufWriter::new(io::stdout().lock());
    writeln!(out, "{}", style.paint(Colour::Bold, request_text(&record)))?;
    if explanation.truncated {
        writeln!(
            out,
            "{}",
            style.paint(
                Colour::Yellow,
                "a part of it is over a limit and was not inspected"
            )
        )?;
    }
    let told = Told {
        rules: inspector.rules(),
        explanation,
    };
    told.write(style, args.all, &mut out)?;
    let tells_policy = args.config.is_some()
        || args.route.is_some()
        || args.virtual_host.is_some()
        || args.route_metadata.is_some()
        || args.virtual_host_metadata.is_some()
        || args.annotation.is_some();
    if tells_policy {
        args.write_policy(style, &record, &policy, &mut inspector, &mut out)?;
    }
    out.flush()?;
    Ok(true)
}

/// An explanation, to be written for people.
struct Told<'a> {
    rules: &'a RuleSet,
    explanation: Explanation,
}

impl Told<'_> {
    fn write(&self, style: Style, is_all: bool, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\nwhat rules see")?;
        for text in &self.explanation.texts {
            let view = if text.view == View::Raw {
                ""
            } else {
                text.view.name()
            };
            writeln!(
                out,
                "  {:<16} {:<10} {}",
                text.label(),
                style
                    .paint(Colour::Dim, format_args!("{view:<10}"))
                    .trim_end(),
                shown(&text.bytes)
            )?;
        }
        let literals = self.explanation.literals.iter();
        let literals: Vec<String> = literals
            .filter_map(|index| literal(self.rules, *index))
            .collect();
        writeln!(
            out,
            "\nliterals found: {}",
            if literals.is_empty() {
                "none".into()
            } else {
                quoted(&literals)
            }
        )?;
        let candidates = &self.explanation.candidates;
        let matched = candidates
            .iter()
            .filter(|candidate| candidate.matches)
            .count();
        writeln!(
            out,
            "candidates: {} of {} rules, of which {matched} matched",
            candidates.len(),
            self.rules.rule_count()
        )?;
        for candidate in candidates
            .iter()
            .filter(|candidate| candidate.matches || is_all)
        {
            self.write_candidate(style, candidate, out)?;
        }
        let hidden = candidates.len() - matched;
        if hidden > 0 && !is_all {
            writeln!(
                out,
                "\n{}",
                style.paint(
                    Colour::Dim,
                    format_args!("{hidden} candidates did not match (--all shows them)")
                )
            )?;
        }
        Ok(())
    }

    fn write_candidate(
        &self,
        style: Style,
        candidate: &Candidate,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let rule = &candidate.rule;
        let (colour, verdict) = if candidate.matches {
            (Colour::Red, "match")
        } else {
            (Colour::Dim, "no match")
        };
        writeln!(
            out,
            "\n{}  {}  {}",
            style.paint(colour, verdict),
            style.paint(Colour::Bold, printable(self.rules.text(rule.title))),
            portcullis::alert::type_of(rule),
        )?;
        writeln!(
            out,
            "  {}",
            style.paint(
                Colour::Dim,
                printable(&format!(
                    "{}  {}",
                    self.rules.text(rule.path),
                    self.rules.text(rule.id)
                ))
            )
        )?;
        for asked in &candidate.asked {
            let answer = if asked.answer {
                style.paint(Colour::Green, "yes")
            } else {
                style.paint(Colour::Dim, "no ")
            };
            writeln!(out, "  {answer}  {}", question(self.rules, asked.matcher))?;
            let Some((spot, text)) = asked
                .spot
                .and_then(|spot| Some((spot, self.explanation.text_of(spot)?)))
            else {
                continue;
            };
            let sure = spot
                .confidence
                .map(|confidence| format!(", {confidence} % sure"))
                .unwrap_or_default();
            writeln!(
                out,
                "       in {}{} at byte {}{sure}: {}",
                text.label(),
                if text.view == View::Raw {
                    String::new()
                } else {
                    format!(" ({})", text.view.name())
                },
                spot.start,
                style.paint(
                    Colour::Bold,
                    shown(text.bytes.get(spot.start..spot.end).unwrap_or_default())
                ),
            )?;
        }
        Ok(())
    }
}

fn shown(bytes: &[u8]) -> String {
    portcullis::alert::printable(bytes, SHOWN_BYTES)
}
