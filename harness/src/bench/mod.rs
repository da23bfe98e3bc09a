//! `portcullis bench`: what the filter costs a gateway, beside the least that any filter costs and
//! beside what others cost.
//!
//! Three metrics. Instructions per request, counted by callgrind in the real Envoy, repeat within a
//! percent and are what changes are judged by. CPU time per request, from the kernel's accounting, is
//! what people pay; it is measured in rounds, each with every server started anew, since one process differs from
//! the next by its memory layout alone. Wasm instructions, counted by our own host,
//! are the same on every machine: what CI watches, and what the searches for worst cases climb.

mod callgrind;
mod curve;
mod detectors;
mod engine;
mod load;
mod meter;
mod ordinary;
mod rounds;
pub(crate) mod server;
mod soak;
mod start;
mod traffic;
mod worst;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use rounds::{Estimate, Measured};
use server::{Files, Subject};

use crate::host::Module;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Envoy with the filter, beside the floor, Lua and ModSecurity
    Gateway,
    /// Wasm instructions of both mixes against a baseline, and the worst requests without a search: what CI runs
    Quick,
    /// A benign request by the number of rules, of routes and of sources
    Curve,
    /// The worst requests of 64 KiB that a search finds
    Worst,
    /// Memory of one worker over millions of requests
    Soak,
    /// Memory of a real Envoy over a tenth as many
    SoakEnvoy,
    /// Time until Envoy answers, memory by workers
    Start,
    /// The engine alone, natively, under callgrind
    Engine,
}

/// What the command line says.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure
    #[arg(value_enum, default_value = "gateway")]
    part: Part,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    engine: engine::Args,
    #[command(flatten)]
    baseline: meter::Baseline,
    /// Texts that the search for the worst request tries in each place
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    tries: usize,
    /// With `worst`: what each detector costs by itself, instead
    #[arg(long)]
    detectors: bool,
    /// How much more a byte of the worst request may cost than one of a benign request
    #[arg(long, value_name = "TIMES", default_value_t = TIMES_BENIGN)]
    times_benign: f64,
    /// Requests of the soak
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    requests: u64,
    /// Rounds of CPU time; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 24)]
    rounds: usize,
    /// Seconds that each server is measured in a round
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    seconds: f64,
    /// Six rounds of half a second
    #[arg(long)]
    quick: bool,
    /// Leave out the count of instructions
    #[arg(long)]
    no_instructions: bool,
    /// Rows to measure, such as `bc`; their baselines come along [default: all]
    #[arg(long, value_name = "LETTERS")]
    only: Option<String>,
    /// Fail if the filter adds over this many times the instructions that the floor adds
    #[arg(long, value_name = "TIMES")]
    times_floor: Option<f64>,
    /// Keep what callgrind and the servers wrote in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Most that a byte of the worst request may cost, in bytes of a benign one; `docs/PERFORMANCE.md` tells why.
const TIMES_BENIGN: f64 = 350.0;

/// Runs the benchmark.
pub fn run(args: &Args) -> Result<bool> {
    if args.engine.passes.is_some() || args.part == Part::Engine {
        return engine::run(&args.engine);
    }
    let wasm = || {
        let path = &args.files.wasm;
        std::fs::read(path)
            .with_context(|| format!("cannot read {}; `make wasm` builds it", path.display()))
    };
    match args.part {
        Part::Quick => {
            let module = Module::metered(&wasm()?)?;
            let is_worst_fine = worst::run(&module, 0, args.times_benign)?;
            return Ok(meter::quick(&module, &args.baseline)? && is_worst_fine);
        }
        Part::Curve => return curve::run(&Module::metered(&wasm()?)?),
        Part::Worst if args.detectors => {
            return detectors::run(&Module::metered(&wasm()?)?, args.tries);
        }
        Part::Worst => {
            return worst::run(&Module::metered(&wasm()?)?, args.tries, args.times_benign);
        }
        Part::Soak => return soak::run(&Module::compile(&wasm()?)?, args.requests),
        Part::Gateway | Part::Start | Part::SoakEnvoy | Part::Engine => {}
    }
    let dir = args.keep.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("portcullis-bench-{}", std::process::id()))
    });
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let result = match args.part {
        Part::Start => {
            let upstream = server::upstream()?;
            start::run(&Module::metered(&wasm()?)?, &args.files, upstream, &dir)
        }
        Part::SoakEnvoy => {
            soak::run_envoy(&args.files, server::upstream()?, &dir, args.requests / 10)
        }
        _ => measure(args, &dir),
    };
    if args.keep.is_none() {
        std::fs::remove_dir_all(&dir)?;
    }
    result
}

fn measure(args: &Args, dir: &Path) -> Result<bool> {
    let subjects = chosen(args);
    let upstream = server::upstream()?;
    let mut is_fine = true;
    if !args.no_instructions {
        let table = instructions(&subjects, args, upstream, dir)?;
        print(
            "instructions per request, real server under callgrind",
            "",
            &subjects,
            &table,
        );
        let added = |subject: Subject| {
            let measured = table.get(subject.name());
            measured.map(|measured| Estimate::of(measured.added.clone()).middle)
        };
        if let (Some(most), Some(ours), Some(floor)) = (
            args.times_floor,
            added(Subject::Ours),
            added(Subject::Floor),
        ) {
            is_fine = ours <= floor * most;
            if !is_fine {
                println!("that is more than {most} times what the floor adds");
            }
        }
    }
    let (rounds, seconds) = match args.quick {
        true => (args.rounds.min(6), 0.5),
        false => (args.rounds, args.seconds),
    };
    if rounds > 0 {
        let each = Duration::from_secs_f64(seconds);
        let table = rounds::measure(&subjects, &args.files, upstream, rounds, each, dir)?;
        let title = format!("CPU time per request in µs, {rounds} rounds of {seconds} s");
        print(&title, "µs", &subjects, &table);
    }
    Ok(is_fine)
}

fn chosen(args: &Args) -> Vec<Subject> {
    let wanted = |subject: &Subject| {
        let letter = subject.letter();
        args.only
            .as_ref()
            .is_none_or(|only| letter != ' ' && only.contains(letter))
    };
    let mut chosen: Vec<Subject> = Subject::ALL.into_iter().filter(wanted).collect();
    if let Some(missing) = server::missing_for_nginx()
        && chosen.iter().any(|subject| subject.is_nginx())
    {
        println!(
            "skipped: nginx with ModSecurity, since {missing} is missing (`envoy/setup bench` installs it)"
        );
        chosen.retain(|subject| !subject.is_nginx());
    }
    let needed = |subject: &Subject| {
        chosen
            .iter()
            .any(|other| other == subject || other.baseline() == *subject)
    };
    Subject::ALL.into_iter().filter(needed).collect()
}

type Table = BTreeMap<&'static str, Measured>;

fn instructions(
    subjects: &[Subject],
    args: &Args,
    upstream: SocketAddr,
    dir: &Path,
) -> Result<Table> {
    let mut table = Table::new();
    for &subject in subjects {
        eprintln!("counting: {}", subject.name());
        let dir = dir.join(format!("{subject:?}"));
        let (total, alerts) = callgrind::measure(subject, &args.files, upstream, &dir)?;
        if matches!(
            subject,
            Subject::Ours | Subject::OursUnseen | Subject::OursAttacked
        ) {
            println!("{}: {alerts:.2} alerts a request", subject.name());
        }
        // Segments of two servers have nothing to do with each other: the baseline is one number.
        let known = table.get(subject.baseline().name());
        let baseline = known.map_or_else(
            || Estimate::of(total.clone()),
            |known: &Measured| Estimate::of(known.total.clone()),
        );
        let added = total.iter().map(|each| each - baseline.middle).collect();
        table.insert(
            subject.name(),
            Measured {
                total,
                added,
                resident_kib: 0,
            },
        );
    }
    Ok(table)
}

fn print(title: &str, unit: &str, subjects: &[Subject], table: &Table) {
    let digits = if unit.is_empty() { 0 } else { 2 };
    println!(
        "\n{title}\n{:42} {:>12} {:>12}  interval",
        "", "total", "added"
    );
    let added = |subject: Subject| {
        let measured = table.get(subject.name())?;
        Some(Estimate::of(measured.added.clone()))
    };
    for &subject in subjects {
        let (Some(measured), Some(added)) = (table.get(subject.name()), added(subject)) else {
            continue;
        };
        let total = Estimate::of(measured.total.clone()).middle;
        print!("{:42} {total:>12.digits$}", subject.name());
        if subject != subject.baseline() {
            let Estimate { middle, low, high } = added;
            print!(" {middle:>12.digits$}  [{low:.digits$} – {high:.digits$}]");
        }
        match measured.resident_kib {
            0 => println!(),
            kib => println!("  {} MB resident", kib / 1024),
        }
    }
    let pairs = [
        ("c/b", Subject::Ours, Subject::Floor),
        ("g/b", Subject::OursUnseen, Subject::Floor),
        ("c/f", Subject::Ours, Subject::Lua),
        ("e/c", Subject::ModSecurity, Subject::Ours),
    ];
    for (name, over, under) in pairs {
        if let (Some(over), Some(under)) = (added(over), added(under)) {
            println!("{name}  {:.2}", over.middle / under.middle);
        }
    }
    if let (Some(ours), Some(floor)) = (
        table.get(Subject::Ours.name()),
        table.get(Subject::Floor.name()),
    ) && !unit.is_empty()
    {
        // The two were measured in turns, which says more of their difference than both intervals do.
        let pairs = ours.added.iter().zip(&floor.added);
        let Estimate { middle, low, high } =
            Estimate::of(pairs.map(|(ours, floor)| ours - floor).collect());
        println!("c - b  {middle:.2} {unit}  [{low:.2} – {high:.2}]");
    }
    if subjects.contains(&Subject::ModSecurity) {
        println!("(e looks at more than c: the Core Rule Set also reads bodies and all headers)");
    }
}
