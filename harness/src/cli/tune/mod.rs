//! `portcullis tune`: from false alarms in captured traffic to the narrowest exclusions that silence them.
//!
//! ```text
//! captures ──► observe ──► false alarms ──► propose ──► exclusions ──► again, with them, until nothing is left
//!    ▲                                                       │
//!    └── labels, --clean or --verdicts say what is one       ├──► what each costs on attacks
//!                                                            └──► policy.json, route-metadata.yaml, filters/*.yml
//! ```
//!
//! What is proposed has been replayed: the figures after it are those of a second run, not of an estimate.

mod cost;
mod observe;
mod propose;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use portcullis::policy::Policy;
use portcullis::ruleset::RuleSet;
use serde_json::{Map, Value, json};

use super::engine::load;
use super::rules;
use crate::capture::{Format, Label};
use crate::report::{Colour, Progress, Style, grouped, printable};
use cost::Costs;
use observe::{Alarm, Observer, RuleKey, Target};
use propose::What;

/// Rounds of proposing and replaying. Exceptions settle in one or two; a threshold doubles in each.
const ROUNDS: usize = 8;

/// False alarms that are kept; later ones of the same replay are found in the next round.
const ALARMS: usize = 200_000;

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Which alerts are false, one of three says: the label `benign` of a labelled capture; --clean, which declares all \
    that has no label clean; or --verdicts, lines of JSON with a request's `id` and a `label`, such as `replay --verdicts` \
    writes with a label added. Everything runs natively.\n\nExample: portcullis tune --clean monday.log --attacks corpora --output tuned\
    \n\nExit status: 0 if every capture was read and no false alarm is left that was to be silenced, 1 if not, 2 for a wrong command line."
)]
pub struct Args {
    /// Plugin configuration as it is
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Rules as they are [default: rules]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    rules: Vec<PathBuf>,
    /// Every request without a label is a clean one
    #[arg(long)]
    clean: bool,
    /// Lines of JSON that say which requests are clean: {"id": "…", "label": "benign"}
    #[arg(long, value_name = "FILE")]
    verdicts: Option<PathBuf>,
    /// Captures of attacks, or folders of them, on which each exclusion is measured; rows labelled benign are passed over
    #[arg(long, value_name = "CORPUS", num_args = 1..)]
    attacks: Vec<PathBuf>,
    /// Requests that an exclusion must silence to be proposed [default: 1, with --clean 3]
    #[arg(long, value_name = "N")]
    min_requests: Option<u64>,
    /// Write policy.json, route-metadata.yaml and filters/*.yml into this folder
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Write the proposal as one JSON object
    #[arg(long)]
    json: bool,
    /// No progress
    #[arg(long, short)]
    quiet: bool,
    /// The captures' format; without it the content tells
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Captures
    #[arg(required = true, value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
}

/// What one replay of the captures came to.
#[derive(Clone, Debug, Default, serde::Serialize)]
struct Run {
    /// Requests declared clean.
    clean: u64,
    /// Those of them that raise something.
    with_alarms: u64,
    /// Requests that nobody says anything about.
    unjudged: u64,
    malformed: u64,
    unread_captures: u64,
    #[serde(skip)]
    alarms: Vec<Alarm>,
}

/// Runs it. `false` says that a capture could not be read, or that a false alarm is left.
pub fn run(args: &Args) -> Result<bool> {
    let mut configuration = read_configuration(args.config.as_deref())?;
    let (_, rules) = load(configuration.to_string().as_bytes(), &args.rules)?;
    let benign = args.verdicts.as_deref().map(read_verdicts).transpose()?;
    let mut attacks = Vec::new();
    for corpus in &args.attacks {
        super::eval::add_captures(corpus, &mut attacks)?;
    }
    let min_requests = (args.min_requests).unwrap_or(if args.clean { 3 } else { 1 });

    let before_configuration = configuration.clone();
    let replay = |configuration: &Value, rules: &RuleSet| {
        let policy = policy_of(configuration, rules)?;
        observe_captures(args, benign.as_ref(), &policy, rules)
    };
    let before = replay(&configuration, &rules)?;
    if before.clean == 0 {
        bail!(
            "no request is declared clean: label some, or say --clean or --verdicts (of {} requests)",
            grouped(before.unjudged)
        );
    }
    // What was seen in any round: an exclusion that silences one alarm must stay when it is gone.
    let mut seen: BTreeMap<(u64, RuleKey), BTreeSet<Target>> = BTreeMap::new();
    let mut alarms: Vec<Alarm> = Vec::new();
    let mut stubborn = BTreeSet::new();
    let mut proposal = propose::Proposal::default();
    let mut after = before.clone();
    for _ in 0..ROUNDS {
        let is_new = |alarm: &Alarm, seen: &BTreeMap<(u64, RuleKey), BTreeSet<Target>>| {
            let known = seen.get(&(alarm.request, alarm.rule.clone()));
            known.is_none_or(|targets| !alarm.targets.is_subset(targets))
        };
        let mut has_news = false;
        for alarm in &after.alarms {
            if is_new(alarm, &seen) {
                let key = (alarm.request, alarm.rule.clone());
                seen.entry(key).or_default().extend(alarm.targets.clone());
                alarms.push(alarm.clone());
                has_news = true;
            } else if proposal.covers(alarm) {
                // The exclusion is there and it still fires: something wider has to come.
                has_news |= stubborn.insert(alarm.rule.clone());
            }
        }
        if !has_news {
            break;
        }
        proposal = propose::propose(&alarms, &stubborn, min_requests);
        configuration = propose::with_exclusions(&before_configuration, &proposal.exclusions)?;
        after = replay(&configuration, &rules)?;
    }
    // What the others silenced as well is not left.
    proposal.left.retain(|left| {
        let mut still = after.alarms.iter();
        still.any(|alarm| alarm.rule == left.rule && left.paths.contains(&alarm.path))
    });
    let is_silenced = !after.alarms.iter().any(|alarm| proposal.covers(alarm));
    let policies = proposal
        .exclusions
        .iter()
        .map(|exclusion| {
            let one = std::slice::from_ref(exclusion);
            let alone = propose::with_exclusions(&before_configuration, one)?;
            policy_of(&alone, &rules)
        })
        .collect::<Result<Vec<_>>>()?;
    let costs = Costs::measure(
        &rules,
        &policy_of(&before_configuration, &rules)?,
        &policy_of(&configuration, &rules)?,
        proposal.exclusions.iter().zip(&policies),
        &attacks,
        &mut Progress::new(args.quiet || args.json),
    )?;
    let filters = write::filters(&proposal.exclusions, &rules);
    // The filters are another way to say it, so they are replayed as well, by themselves.
    let with_filters = match (&args.output, filters.is_empty()) {
        (Some(dir), false) => {
            let folder = write::write_filters(dir, &filters)?;
            let mut paths = match args.rules.as_slice() {
                [] => vec![PathBuf::from("rules")],
                rules => rules.to_vec(),
            };
            paths.push(folder);
            // Compiled rules cannot take filters any more.
            match rules::load(&paths) {
                Ok(filtered) => Some(replay(&before_configuration, &filtered)?),
                Err(error) => {
                    eprintln!(
                        "the filters were not replayed, since they do not fit these rules: {error:#}"
                    );
                    None
                }
            }
        }
        _ => None,
    };
    let result = Outcome {
        before,
        after,
        with_filters,
        proposal,
        costs,
        filters: filters.len(),
        min_requests,
        is_silenced,
    };
    if let Some(dir) = &args.output {
        write::write_policy(dir, &configuration, &result.proposal.exclusions)?;
    }
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        serde_json::to_writer_pretty(&mut out, &result.json(&configuration))?;
        writeln!(out)?;
    } else {
        result.write(args, &mut out)?;
    }
    out.flush()?;
    let is_read = result.before.unread_captures == 0 && result.costs.unread_captures == 0;
    Ok(is_read && result.is_silenced)
}

/// A configuration as JSON; an empty one if there is none.
fn read_configuration(path: Option<&Path>) -> Result<Value> {
    let Some(path) = path else {
        return Ok(Value::Object(Map::new()));
    };
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is no configuration in JSON", path.display()))
}

fn policy_of(configuration: &Value, rules: &RuleSet) -> Result<Policy> {
    // The rules are compiled already.
    let mut configuration = configuration.clone();
    if let Some(fields) = configuration.as_object_mut() {
        fields.remove("ruleset");
    }
    let read = Policy::load(configuration.to_string().as_bytes(), || Ok(rules.clone()));
    let (policy, _) = read.map_err(|error| anyhow!("{error}"))?;
    Ok(policy)
}

/// The ids that a file of verdicts calls benign.
fn read_verdicts(path: &Path) -> Result<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Line {
        id: String,
        label: Option<String>,
    }
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut benign = BTreeSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let place = || format!("{}:{number}", path.display());
        let line: Line = serde_json::from_str(line).with_context(|| {
            format!(
                "{}: write {{\"id\": \"…\", \"label\": \"benign\"}}",
                place()
            )
        })?;
        match line
            .label
            .as_deref()
            .map(|label| (label, Label::parse(label.as_bytes())))
        {
            Some((_, Some(Label::Benign))) => {
                benign.insert(line.id);
            }
            None | Some((_, Some(_))) => {}
            Some((label, None)) => bail!(
                "{}: the label `{}` is none of `benign`, `malicious`, `unverified`",
                place(),
                printable(label)
            ),
        }
    }
    Ok(benign)
}

fn observe_captures(
    args: &Args,
    benign: Option<&BTreeSet<String>>,
    policy: &Policy,
    rules: &RuleSet,
) -> Result<Run> {
    let mut progress = Progress::new(args.quiet || args.json);
    let mut observer = Observer::new(rules.clone(), policy);
    let mut run = Run::default();
    let mut requests = 0;
    let mut complaints = Vec::new();
    observe::each_record(
        &args.captures,
        args.format,
        &mut complaints,
        |record, part| {
            requests += 1;
            let is_clean = match record.label {
                Some(Label::Benign) => true,
                Some(Label::Malicious | Label::Unverified) => false,
                None => args.clean,
            } || benign.is_some_and(|benign| benign.contains(&record.name()));
            // Everything is counted by correlations, clean or not, as in the gateway.
            let room = ALARMS.saturating_sub(run.alarms.len());
            let alarms = observer.alarms(record, requests, is_clean && room > 0);
            if is_clean {
                run.clean += 1;
                run.with_alarms += u64::from(alarms.raises);
                run.alarms.extend(alarms.found.into_iter().take(room));
            } else {
                run.unjudged += 1;
            }
            progress.draw(record.origin.file.as_ref(), part, requests, run.with_alarms);
        },
    );
    progress.clear();
    for complaint in complaints {
        match complaint {
            observe::Complaint::Malformed(text) => {
                run.malformed += 1;
                eprintln!("{}", printable(&text));
            }
            observe::Complaint::Unread(text) => {
                run.unread_captures += 1;
                eprintln!("{}", printable(&text));
            }
        }
    }
    Ok(run)
}

struct Outcome {
    before: Run,
    after: Run,
    with_filters: Option<Run>,
    proposal: propose::Proposal,
    costs: Costs,
    filters: usize,
    min_requests: u64,
    /// Nothing fires any more for which an exclusion is proposed.
    is_silenced: bool,
}

impl Outcome {
    fn json(&self, configuration: &Value) -> Value {
        let exclusions = self.proposal.exclusions.iter().zip(&self.costs.each);
        let exclusions: Vec<Value> = exclusions
            .map(|(exclusion, cost)| {
                json!({
                    "rule": exclusion.rule.id, "title": exclusion.rule.title, "alert": exclusion.rule.alert,
                    "exclusion": exclusion.setting(), "requests": exclusion.requests, "example": exclusion.example,
                    "cost": cost,
                })
            })
            .collect();
        json!({
            "before": self.before, "after": self.after, "with_filters": self.with_filters,
            "attacks": self.costs.attacks, "attacks_found_before": self.costs.found_before,
            "attacks_found_after": self.costs.found_after, "exclusions": exclusions,
            "left": self.proposal.left.iter().map(|left| json!({
                "rule": left.rule.id, "title": left.rule.title, "requests": left.requests, "example": left.example,
            })).collect::<Vec<_>>(),
            "configuration": configuration,
        })
    }

    fn write(&self, args: &Args, out: &mut impl Write) -> Result<()> {
        let style = Style::of(&io::stdout());
        let Outcome {
            before,
            after,
            costs,
            proposal,
            ..
        } = self;
        writeln!(
            out,
            "{} clean requests, of which {} raise something",
            grouped(before.clean),
            grouped(before.with_alarms)
        )?;
        if costs.attacks > 0 {
            writeln!(
                out,
                "{} attacks, of which {} are found",
                grouped(costs.attacks),
                grouped(costs.found_before)
            )?;
        }
        if !proposal.exclusions.is_empty() {
            let heading = format!(
                "\n{:>8}  {:>20}  {}",
                "silences", "attacks then missed", "exclusion"
            );
            writeln!(out, "{}", style.paint(Colour::Dim, heading))?;
        }
        for (exclusion, cost) in proposal.exclusions.iter().zip(&costs.each) {
            let missed = match (costs.attacks, &exclusion.what) {
                (0, _) | (_, What::Threshold { .. }) => "not measured".to_owned(),
                _ => format!(
                    "{} (at most {})",
                    grouped(cost.missed),
                    grouped(cost.missed_there)
                ),
            };
            writeln!(
                out,
                "{:>8}  {missed:>20}  {}",
                grouped(exclusion.requests),
                style.paint(Colour::Bold, printable(&exclusion.to_string()))
            )?;
            writeln!(
                out,
                "{:>8}  {:>20}  {}",
                "",
                "",
                style.paint(
                    Colour::Dim,
                    printable(&format!(
                        "{}, first in {}",
                        exclusion.rule.title, exclusion.example
                    ))
                )
            )?;
        }
        for left in &proposal.left {
            writeln!(
                out,
                "left alone: {} in {} (fewer than {} requests; --min-requests): {}",
                printable(&left.rule.title),
                printable(&left.example),
                self.min_requests,
                printable(&left.to_string()),
            )?;
        }
        let colour = match self.is_silenced {
            true => Colour::Green,
            false => Colour::Red,
        };
        let rest = format!(
            "replayed with this: {} of {} clean requests raise something",
            grouped(after.with_alarms),
            grouped(after.clean)
        );
        writeln!(out, "\n{}", style.paint(colour, rest))?;
        if let Some(run) = &self.with_filters {
            writeln!(
                out,
                "replayed with the Sigma filters instead: {}",
                grouped(run.with_alarms)
            )?;
        }
        if costs.attacks > 0 {
            writeln!(
                out,
                "attacks found: {} before, {} after; \"at most\" is how many only the excluded rule finds, wherever they go",
                grouped(costs.found_before),
                grouped(costs.found_after)
            )?;
        }
        if let Some(dir) = &args.output {
            writeln!(
                out,
                "written to {}: policy.json, route-metadata.yaml, {} in filters/",
                dir.display(),
                match self.filters {
                    1 => "one Sigma filter".to_owned(),
                    number => format!("{number} Sigma filters"),
                }
            )?;
            let unsaid = proposal.exclusions.len() - self.filters;
            if unsaid > 0 {
                writeln!(
                    out,
                    "{unsaid} of the exclusions have no Sigma filter: a filter cannot say them as narrowly"
                )?;
            }
        }
        Ok(())
    }
}
