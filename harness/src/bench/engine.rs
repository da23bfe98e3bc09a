//! The engine alone, natively, under callgrind: what a profile of the engine begins with.
//!
//! This command starts itself under callgrind twice, with few and with many passes over a mix; the
//! difference is what the passes cost, without what starting costs. The count is the same to a
//! fraction of a percent from run to run on one machine; on another processor libraries choose other code.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use portcullis::headers::Headers;
use portcullis::inspect::Inspector;
use portcullis::ruleset::RuleSet;

use super::callgrind;
use super::traffic::{Mix, Request};

const FEW: usize = 2;
const MANY: usize = 12;

/// The engine alone.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Sigma rules, folders of them, or compiled rules [default: rules]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    rules: Vec<PathBuf>,
    /// What runs under callgrind: this many passes over the mix of `--mix`
    #[arg(long, hide = true, value_name = "N")]
    pub passes: Option<usize>,
    /// Which mix
    #[arg(long, hide = true, value_enum, default_value = "benign")]
    mix: Mix,
}

/// Counts, shows and compares.
pub fn run(args: &Args) -> Result<bool> {
    let rules = || crate::cli::rules::load(&args.rules);
    if let Some(passes) = args.passes {
        let alerts = inspect(rules()?, &args.mix.requests(), passes);
        println!("{alerts}");
        return Ok(true);
    }
    if cfg!(debug_assertions) {
        bail!("this is a debug build, whose figures mean nothing: `cargo run --release`");
    }
    let dir = std::env::temp_dir().join(format!("portcullis-engine-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    for mix in [Mix::Benign, Mix::Attack] {
        let figure = count(mix, &compiled(&args.rules, &dir)?, &dir)?;
        println!("{:8} {figure:>9.0} instructions a request", mix.name());
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(true)
}

/// Compiles the rules, so that this is not done under callgrind, where it takes minutes.
fn compiled(rules: &[PathBuf], dir: &Path) -> Result<PathBuf> {
    let blob = dir.join("rules.bin");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["rules", "compile"]).args(rules);
    run_quietly(command.arg("--output").arg(&blob))?;
    Ok(blob)
}

/// Instructions per request.
fn count(mix: Mix, rules: &Path, dir: &Path) -> Result<f64> {
    let mut totals = Vec::new();
    for passes in [FEW, MANY] {
        let out = dir.join(format!("{}-{passes}", mix.name()));
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(std::env::current_exe()?)
            .args(["bench", "engine", "--mix", mix.name(), "--rules"])
            .arg(rules)
            .args(["--passes", &passes.to_string()]);
        run_quietly(&mut command)?;
        totals.push(callgrind::total(&out)? as f64);
    }
    let [few, many] = totals[..] else {
        bail!("callgrind has not run twice");
    };
    Ok((many - few) / ((MANY - FEW) * mix.requests().len()) as f64)
}

fn run_quietly(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| {
        let program = command.get_program().display();
        format!("cannot start `{program}`; `make setup` installs it")
    })?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Inspects the mix over and over, as a worker does. Returns how many requests matched a rule.
fn inspect(rules: RuleSet, requests: &[Request], passes: usize) -> usize {
    let mut inspector = Inspector::new(rules);
    let requests: Vec<_> = requests.iter().map(Request::pairs).collect();
    (0..passes)
        .flat_map(|_| &requests)
        .filter(|pairs| {
            let inspection = inspector.request(Headers::Pairs(pairs), &());
            !inspection.detections.is_empty()
        })
        .count()
}
