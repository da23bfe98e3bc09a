//! `portcullis train`: learns from labelled captures which names spam hosts have.
//!
//! The model is a logistic regression over the pieces of a host's name ([`host::grams`]). Spam are the Referers of
//! attacks of class `spam-referrer`; ordinary are hosts and Referers of benign requests, and lists of hosts. The
//! thresholds are not chosen by hand: each name is judged by a model that has not seen it (its fold was left out),
//! and a threshold stands where the allowed share of ordinary names is above it. The same names are always shuffled
//! and folded in the same way, so the same captures give the same model.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use portcullis::structure::host::{self, Gram, Model};

use super::eval::add_captures;
use crate::capture::{Label, Reader, Record};
use crate::report::grouped;

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 if all went well, 1 if not, 2 for a wrong command line.")]
pub struct Args {
    /// Hosts that are no spam, one a line
    #[arg(long, value_name = "FILE", num_args = 1..)]
    ordinary: Vec<PathBuf>,
    /// The same, of sites so well known that each counts as much as several others
    #[arg(long, value_name = "FILE", num_args = 1..)]
    well_known: Vec<PathBuf>,
    /// Where to write the model
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show so many of the heaviest pieces of either sign
    #[arg(long, value_name = "N", default_value = "20")]
    top: usize,
    /// Train nothing: show what the model that ships sees in this host
    #[arg(long, value_name = "HOST", conflicts_with_all = ["ordinary", "well_known", "output"])]
    explain: Option<String>,
    /// Labelled captures, or folders of them (`*.ndjson`, `*.ndjson.gz`)
    #[arg(value_name = "CORPUS", required_unless_present = "explain")]
    corpora: Vec<PathBuf>,
}

/// Parts of the names, each of which is judged by what was learned from the others.
const FOLDS: usize = 5;
/// Passes over the names.
const PASSES: usize = 40;
/// A piece that fewer names have says nothing of names to come, and would say which names were learned.
const NAMES_OF_A_GRAM: usize = 6;
/// How many other names a well-known one counts for.
const WELL_KNOWN: f64 = 6.0;
/// Pulls weights to zero: the larger the smaller they are.
const PULL: f64 = 3.0;
/// Smaller weights are left out of the model.
const LEAST_WEIGHT: f64 = 0.15;
/// Shares of ordinary names that are above the thresholds of `low` and `medium`.
const ALLOWED: [f64; 2] = [0.012, 0.002];
/// Shares at which recall is shown.
const SHOWN: [f64; 6] = [0.001, 0.002, 0.005, 0.012, 0.02, 0.05];

/// Runs it.
pub fn run(args: &Args) -> Result<bool> {
    let mut out = BufWriter::new(io::stdout().lock());
    if let Some(host) = &args.explain {
        explain(host, &mut out)?;
        out.flush()?;
        return Ok(true);
    }
    let names = Names::read(args)?;
    writeln!(
        out,
        "{} spam hosts, {} ordinary ones",
        grouped(names.spam.len() as u64),
        grouped(names.ordinary.len() as u64)
    )?;
    let samples = Sample::all(&names);
    let judged = judge_by_others(&samples);
    let mut ordinary: Vec<f64> = scores(&samples, &judged, false);
    ordinary.sort_by(|a, b| b.total_cmp(a));
    let spam = scores(&samples, &judged, true);
    writeln!(out, "\nNames that the model had not seen ({FOLDS} folds):")?;
    writeln!(
        out,
        "{:>14}  {:>10}  {:>9}",
        "ordinary above", "spam above", "threshold"
    )?;
    for share in SHOWN {
        let threshold = threshold(&ordinary, share);
        let above = spam.iter().filter(|score| **score > threshold).count();
        writeln!(
            out,
            "{:>12.1} %  {:>8.1} %  {threshold:>9.2}",
            share * 100.0,
            above as f64 / spam.len().max(1) as f64 * 100.0,
        )?;
    }
    let everything: Vec<usize> = (0..samples.len()).collect();
    let learned = learn(&samples, &everything);
    let bytes = learned.bytes(ALLOWED.map(|share| threshold(&ordinary, share)));
    let model = Model::new(&bytes);
    writeln!(
        out,
        "\n{} pieces with a weight, {} bytes",
        grouped(model.grams() as u64),
        grouped(bytes.len() as u64)
    )?;
    let mut records: Vec<(Gram, i32)> =
        (0..model.grams()).filter_map(|i| model.record(i)).collect();
    records.sort_by_key(|(gram, weight)| (-weight, *gram));
    let heaviest = |records: &[(Gram, i32)]| {
        let show = |(gram, weight): &(Gram, i32)| format!("{} {weight:+}", text(gram));
        records.iter().map(show).collect::<Vec<_>>().join("  ")
    };
    let top = args.top.min(records.len());
    writeln!(
        out,
        "for spam:     {}",
        heaviest(records.get(..top).unwrap_or_default())
    )?;
    records.reverse();
    writeln!(
        out,
        "against spam: {}",
        heaviest(records.get(..top).unwrap_or_default())
    )?;
    if let Some(path) = &args.output {
        std::fs::write(path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    out.flush()?;
    Ok(true)
}

fn explain(host: &str, out: &mut impl Write) -> Result<()> {
    let url = format!("http://{host}/");
    let Some((start, end)) = host::host_of(url.as_bytes()) else {
        bail!("`{host}` is no name of a host");
    };
    let name = url.get(start..end).unwrap_or_default().as_bytes();
    let verdict = match host::MODEL.judge(name) {
        0 => "ordinary".to_owned(),
        confidence => format!("spam, confidence {confidence}"),
    };
    writeln!(out, "{host}: {verdict} (score {})", host::MODEL.score(name))?;
    for (gram, weight) in host::weigh(name) {
        writeln!(out, "{weight:>+6}  {}", text(&gram))?;
    }
    Ok(())
}

/// A gram for people.
fn text(gram: &Gram) -> String {
    let end = gram
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(gram.len());
    gram.get(..end)
        .unwrap_or_default()
        .escape_ascii()
        .to_string()
}

/// What there is to learn from.
#[derive(Default)]
struct Names {
    spam: BTreeSet<Vec<u8>>,
    ordinary: BTreeSet<Vec<u8>>,
    /// Some of `ordinary`.
    well_known: BTreeSet<Vec<u8>>,
}

impl Names {
    fn read(args: &Args) -> Result<Names> {
        let mut paths = Vec::new();
        for corpus in &args.corpora {
            add_captures(corpus, &mut paths)?;
        }
        let mut names = Names::default();
        let mut record = Record::default();
        for path in &paths {
            let mut reader = Reader::open(path, None)
                .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))?;
            while let Some(read) = reader.read(&mut record) {
                if read.is_ok() && !record.is_process() {
                    names.take(&record);
                }
            }
        }
        for path in &args.ordinary {
            names.ordinary.extend(list(path)?);
        }
        for path in &args.well_known {
            names.well_known.extend(list(path)?);
        }
        names.ordinary.extend(names.well_known.iter().cloned());
        names.ordinary = names.ordinary.difference(&names.spam).cloned().collect();
        if names.spam.is_empty() || names.ordinary.is_empty() {
            bail!(
                "there are {} spam hosts and {} ordinary ones: nothing to tell apart",
                names.spam.len(),
                names.ordinary.len()
            );
        }
        Ok(names)
    }

    fn take(&mut self, record: &Record) {
        let referer = record.header(b"referer").and_then(name_of);
        match record.label {
            Some(Label::Malicious) if record.class() == Some(b"spam-referrer") => {
                self.spam.extend(referer)
            }
            Some(Label::Benign) => {
                self.ordinary.extend(referer);
                let own = record.authority().map(|host| [b"http://", host].concat());
                self.ordinary.extend(own.as_deref().and_then(name_of));
            }
            _ => {}
        }
    }
}

/// The names in a list of hosts.
fn list(path: &Path) -> Result<Vec<Vec<u8>>> {
    let list =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let hosts = list.lines().filter(|line| !line.starts_with('#'));
    Ok(hosts
        .filter_map(|host| name_of(format!("http://{}", host.trim()).as_bytes()))
        .collect())
}

/// The name that the detector would judge.
fn name_of(url: &[u8]) -> Option<Vec<u8>> {
    let (start, end) = host::host_of(url)?;
    Some(url.get(start..end)?.to_ascii_lowercase())
}

/// One name.
struct Sample {
    grams: Vec<Gram>,
    is_spam: bool,
    /// How many names it counts for.
    weight: f64,
    /// Puts names in an order that has nothing to do with what they are.
    order: u64,
}

impl Sample {
    fn all(names: &Names) -> Vec<Sample> {
        let labelled = names.spam.iter().map(|name| (name, true));
        let mut samples: Vec<Sample> = labelled
            .chain(names.ordinary.iter().map(|name| (name, false)))
            .map(|(name, is_spam)| {
                let mut grams = Vec::new();
                host::grams(name, |gram| grams.push(gram));
                Sample {
                    grams,
                    is_spam,
                    weight: if names.well_known.contains(name) {
                        WELL_KNOWN
                    } else {
                        1.0
                    },
                    order: hash(name),
                }
            })
            .collect();
        samples.sort_by_key(|sample| sample.order);
        samples
    }
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// What was learned.
#[derive(Default)]
struct Learned {
    bias: f64,
    weights: BTreeMap<Gram, f64>,
}

impl Learned {
    /// As the filter adds it up.
    fn score(&self, sample: &Sample) -> f64 {
        let weight = |gram| self.weights.get(gram).copied().unwrap_or_default();
        self.bias + sample.grams.iter().map(weight).sum::<f64>()
    }

    /// The model's file.
    fn bytes(&self, thresholds: [f64; 2]) -> Vec<u8> {
        let [low, medium] = thresholds;
        let whole = |value: f64| (value * Model::SCALE).round().clamp(-32_000.0, 32_000.0) as i16;
        let mut bytes = Vec::new();
        // Just above the threshold is spam.
        for value in [
            whole(self.bias),
            whole(low).saturating_add(1),
            whole(medium).saturating_add(1),
        ] {
            bytes.extend(value.to_le_bytes());
        }
        for (gram, weight) in &self.weights {
            bytes.extend(gram);
            bytes.push(((weight * Model::SCALE).round() as i8).to_le_bytes()[0]);
        }
        bytes
    }
}

/// Logistic regression by stochastic gradient descent, each weight at a pace of its own (AdaGrad).
fn learn(samples: &[Sample], which: &[usize]) -> Learned {
    let chosen: Vec<&Sample> = which
        .iter()
        .filter_map(|index| samples.get(*index))
        .collect();
    let mut names: BTreeMap<Gram, usize> = BTreeMap::new();
    for sample in &chosen {
        for gram in sample.grams.iter().collect::<BTreeSet<_>>() {
            *names.entry(*gram).or_default() += 1;
        }
    }
    names.retain(|_, names| *names >= NAMES_OF_A_GRAM);
    let numbers: BTreeMap<Gram, usize> = names
        .keys()
        .enumerate()
        .map(|(number, gram)| (*gram, number))
        .collect();
    let rows: Vec<(Vec<usize>, f64, f64)> = chosen
        .iter()
        .map(|sample| {
            let row = sample
                .grams
                .iter()
                .filter_map(|gram| numbers.get(gram).copied());
            (
                row.collect(),
                f64::from(u8::from(sample.is_spam)),
                sample.weight,
            )
        })
        .collect();
    let mut weights = vec![0.0; numbers.len()];
    let mut paces = vec![1e-6; numbers.len()];
    // What each look at a weight takes of it, so that all passes together pull as much as `PULL` says.
    let seen: Vec<f64> = names.values().map(|names| *names as f64).collect();
    let (mut bias, mut bias_pace) = (0.0_f64, 1e-6_f64);
    for _ in 0..PASSES {
        for (row, label, weight_of_name) in &rows {
            let score = bias
                + row
                    .iter()
                    .filter_map(|number| weights.get(*number))
                    .sum::<f64>();
            let error = (1.0 / (1.0 + (-score).exp()) - label) * weight_of_name;
            for number in row {
                if let (Some(weight), Some(pace), Some(seen)) = (
                    weights.get_mut(*number),
                    paces.get_mut(*number),
                    seen.get(*number),
                ) {
                    let slope: f64 = error + PULL * *weight / seen;
                    *pace += slope * slope;
                    *weight -= 0.2 * slope / pace.sqrt();
                }
            }
            bias_pace += error * error;
            bias -= 0.2 * error / bias_pace.sqrt();
        }
    }
    let kept = numbers
        .into_iter()
        .filter_map(|(gram, number)| Some((gram, *weights.get(number)?)))
        .filter(|(_, weight)| weight.abs() >= LEAST_WEIGHT)
        // As coarse as in the file.
        .map(|(gram, weight)| {
            (
                gram,
                (weight * Model::SCALE).round().clamp(-127.0, 127.0) / Model::SCALE,
            )
        })
        .collect();
    Learned {
        bias,
        weights: kept,
    }
}

/// The score of each sample from what was learned without its fold.
fn judge_by_others(samples: &[Sample]) -> Vec<f64> {
    let mut judged = vec![0.0; samples.len()];
    for fold in 0..FOLDS {
        let others: Vec<usize> = (0..samples.len())
            .filter(|index| index % FOLDS != fold)
            .collect();
        let learned = learn(samples, &others);
        for (index, (sample, score)) in samples.iter().zip(&mut judged).enumerate() {
            if index % FOLDS == fold {
                *score = learned.score(sample);
            }
        }
    }
    judged
}

fn scores(samples: &[Sample], judged: &[f64], is_spam: bool) -> Vec<f64> {
    let pairs = samples.iter().zip(judged);
    pairs
        .filter(|(sample, _)| sample.is_spam == is_spam)
        .map(|(_, score)| *score)
        .collect()
}

/// The score that this share of `ordinary`, the highest first, is above.
fn threshold(ordinary: &[f64], share: f64) -> f64 {
    let index = (ordinary.len() as f64 * share) as usize;
    ordinary.get(index).copied().unwrap_or(f64::INFINITY)
}
