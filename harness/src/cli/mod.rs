//! The `portcullis` command: what its arguments mean and how it ends.
//!
//! Results go to standard output; progress, complaints and counts of data go to standard error.
//! The exit status is 0 if all went well, 1 if not, and 2 for a wrong command line. A reader that
//! stops reading (`| head`) is no failure.

mod config;
mod detector;
mod diff;
mod drive;
mod engine;
mod eval;
mod explain;
mod image;
mod import;
mod not_attacks;
mod peers;
mod replay;
pub(crate) mod rules;
mod train;
mod tune;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use detector::{Action, Detector, Verdict};
pub use drive::{Item, Sink, drive};
pub use engine::{Engine, EngineArgs, EngineKind};

use crate::report::{Colour, Style};

/// Threat detection inside the gateway: the same filter that Envoy loads, over captured traffic
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take captured traffic through the filter and show what it would have raised
    Replay(replay::Args),
    /// Measure on labelled captures how many attacks are found and how much else is
    Eval(eval::Args),
    /// Show what another configuration or other rules would change on captured traffic
    Diff(diff::Args),
    /// Propose the narrowest exclusions that silence false alarms, and say what each costs
    Tune(tune::Args),
    /// Measure nginx with ModSecurity and the Core Rule Set on the same captures, side by side
    Peers(peers::Args),
    /// Learn from labelled captures which names spam hosts have
    Train(train::Args),
    /// Take one request and show what each rule saw of it and why it matched or not
    Explain(explain::Args),
    /// Work with Sigma rules
    #[command(subcommand)]
    Rules(rules::Command),
    /// Look at what a gateway's configuration says to the filter
    #[command(subcommand)]
    Config(config::Command),
    /// Write the filter as an image, in each form that gateways fetch
    Image(image::Args),
    /// Show the filter at work in a real Envoy
    Demo(crate::demo::Args),
    /// Measure what the filter costs a real Envoy
    Bench(crate::bench::Args),
}

/// Runs the command with the arguments of the process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Command::Replay(args) => replay::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Tune(args) => tune::run(args),
        Command::Peers(args) => peers::run(args),
        Command::Train(args) => train::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Rules(command) => rules::run(command),
        Command::Config(command) => config::run(command),
        Command::Image(args) => image::run(args),
        Command::Demo(args) => crate::demo::run(args),
        Command::Bench(args) => crate::bench::run(args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "{}: {error:#}",
                Style::of(&io::stderr()).paint(Colour::Red, "error")
            );
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
