//! What a request costs in wasm instructions, counted by the host in the very module that Envoy loads.
//!
//! Neither the processor nor the host's compiler nor noise is in this number: one module gives one count on every
//! machine. So this is what CI holds against `bench/baseline.json`, and what a search for costly requests
//! climbs. What it does not see: host calls, caches, and that a copy of memory is one instruction however long it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};

use super::traffic::{Mix, REQUESTS};
use crate::host::{Exchange, Gateway, GatewayOptions, Module};

/// Most that a figure may rise above the committed one, in percent.
const RISE_PERCENT: f64 = 3.0;

/// Mixes that are sent before counting, so that what is remembered is known.
const WARM_MIXES: usize = 3;

/// What the figures are held against.
#[derive(Debug, clap::Args)]
pub struct Baseline {
    /// Fail if a request takes over 3 % more than this file says
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write what a request takes to the file of `--baseline`
    #[arg(long, requires = "baseline")]
    accept: bool,
    /// A plugin configuration to measure with [default: none]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Show what each request of the benign mix takes, once its target is known
    #[arg(long)]
    each: bool,
}

/// A filter whose instructions are counted.
pub struct Meter {
    gateway: Gateway,
}

/// What one request cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Instructions.
    pub instructions: u64,
    /// Lines that the filter logged: alerts.
    pub alerts: usize,
}

/// A request's header lines, pseudo-headers first.
pub type Head<'a> = [(&'a [u8], &'a [u8])];

impl Meter {
    /// Starts the filter, which [`Module::metered`] has compiled, with this configuration.
    pub fn start(module: &Module, configuration: Vec<u8>) -> Result<Meter> {
        let options = GatewayOptions {
            plugin_config: configuration,
            // A worst case may take its time; a trap would hide it.
            callback_limit: None,
            ..GatewayOptions::default()
        };
        let gateway = Gateway::start(module, options)
            .map_err(|error| anyhow!("the filter did not start: {error}"))?;
        Ok(Meter { gateway })
    }

    /// Instructions that starting and configuring one worker took. Of a meter that took no request yet.
    pub fn start_instructions(&mut self) -> u64 {
        self.gateway.worker(0).instructions()
    }

    /// The worker's memory.
    pub fn memory_bytes(&mut self) -> usize {
        self.gateway.worker(0).memory_bytes()
    }

    /// Sends one request.
    pub fn request(&mut self, head: &Head<'_>, body: &[u8]) -> Result<Cost> {
        self.request_of(head, body, "192.0.2.7:0", 0)
    }

    /// Sends one request of this client at that time.
    pub fn request_of(
        &mut self,
        head: &Head<'_>,
        body: &[u8],
        source: &str,
        time_unix_ns: i64,
    ) -> Result<Cost> {
        let worker = self.gateway.worker(0);
        let before = worker.instructions();
        let outcome = worker.exchange(&Exchange {
            request_headers: head,
            request_body: body,
            source_address: Some(source),
            time_unix_ns,
            ..Exchange::default()
        });
        if let Some(trap) = outcome.trapped {
            bail!("the filter died of a request: {trap}");
        }
        Ok(Cost {
            instructions: worker.instructions() - before,
            alerts: outcome.logs.len(),
        })
    }

    /// Instructions per request of a mix, once the texts that come again are known.
    pub fn mix(&mut self, mix: Mix) -> Result<f64> {
        let costs = self.each(mix)?;
        Ok(costs.iter().sum::<u64>() as f64 / REQUESTS as f64)
    }

    /// Instructions of each request of a mix, once the texts that come again are known.
    fn each(&mut self, mix: Mix) -> Result<Vec<u64>> {
        let requests = mix.requests();
        let warm = requests.iter().cycle().take(match mix {
            Mix::Unseen => requests.len() - REQUESTS,
            Mix::Benign | Mix::Attack => requests.len() * WARM_MIXES,
        });
        let counted = requests.iter().skip(requests.len() - REQUESTS);
        let mut costs = Vec::new();
        for request in warm.chain(counted) {
            let cost = self.request(&request.pairs(), &[])?;
            costs.push(cost.instructions);
            if mix != Mix::Attack && cost.alerts > 0 {
                bail!("the {} mix raises an alert", mix.name());
            }
        }
        Ok(costs.split_off(costs.len() - REQUESTS))
    }
}

/// Bytes of a mix's requests, per request, as the filter gets them.
pub fn mix_bytes(mix: Mix) -> f64 {
    let requests = mix.requests();
    let bytes = |name: &str, value: &String| name.len() + value.len();
    let count = requests.len() as f64;
    let headers = requests.iter().flat_map(|request| &request.0);
    headers
        .map(|(name, value)| bytes(name, value))
        .sum::<usize>() as f64
        / count
}

/// Counts the mixes and holds them against the baseline. Returns whether nothing rose.
pub fn quick(module: &Module, args: &Baseline) -> Result<bool> {
    let config = args.config.as_deref().map(std::fs::read).transpose()?;
    let mut meter = Meter::start(module, config.unwrap_or_default())?;
    println!(
        "a worker: {:.1} million instructions to start, {} KiB of memory",
        meter.start_instructions() as f64 / 1e6,
        meter.memory_bytes() / 1024
    );
    if args.each {
        let mut costs: Vec<_> =
            std::iter::zip(meter.each(Mix::Benign)?, Mix::Benign.requests()).collect();
        costs.sort_by_key(|(cost, _)| *cost);
        for (cost, request) in costs {
            let target = request.0.iter().find(|(name, _)| *name == ":path");
            println!("{cost:>9} {}", target.map_or("", |(_, target)| target));
        }
    }
    let mut figures = BTreeMap::new();
    for mix in [Mix::Benign, Mix::Unseen, Mix::Attack] {
        figures.insert(mix.name().to_owned(), meter.mix(mix)?.round());
    }
    compare(args, &figures)
}

fn compare(args: &Baseline, figures: &BTreeMap<String, f64>) -> Result<bool> {
    let Some(file) = &args.baseline else {
        for (name, figure) in figures {
            println!("{name:8} {figure:>9.0} wasm instructions a request");
        }
        return Ok(true);
    };
    if args.accept {
        std::fs::write(file, serde_json::to_string_pretty(figures)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let known: BTreeMap<String, f64> = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no list of figures", file.display()))?;
    let mut fine = true;
    for (name, figure) in figures {
        let Some(known) = known.get(name) else {
            bail!("{} has no figure for `{name}`", file.display());
        };
        let rise = (figure / known - 1.0) * 100.0;
        let verdict = if rise > RISE_PERCENT {
            "too much"
        } else {
            "fine"
        };
        fine &= rise <= RISE_PERCENT;
        println!(
            "{name:8} {figure:>9.0} wasm instructions a request, {known:.0} before: {rise:+.1} %, {verdict}"
        );
    }
    if !fine {
        println!(
            "if that is the price of something worth it, `make bench-accept` writes the new figures to {}",
            file.display()
        );
    }
    Ok(fine)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A plugin that loops once for each header and byte of body that the host announces.
    const COUNTER: &str = r#"(module
        (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) i32.const 0)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (loop $again
                (local.set 1 (i32.sub (local.get 1) (i32.const 1)))
                (br_if $again (i32.gt_s (local.get 1) (i32.const 0))))
            i32.const 0))"#;

    #[test]
    fn instructions_are_those_of_the_request_and_the_same_every_time() {
        let bytes = wat::parse_str(COUNTER).unwrap();
        let mut meter = Meter::start(&Module::metered(&bytes).unwrap(), Vec::new()).unwrap();
        let header: (&[u8], &[u8]) = (b"a", b"b");
        let (one, many) = ([header; 1], [header; 50]);
        let few = meter.request(&one, b"").unwrap().instructions;
        let more = meter.request(&many, b"").unwrap().instructions;
        assert!(few > 0 && more > few * 10, "{few} {more}");
        assert_eq!(meter.request(&one, b"").unwrap().instructions, few);
        // A plain module counts nothing.
        let mut plain = Meter::start(&Module::compile(&bytes).unwrap(), Vec::new()).unwrap();
        assert_eq!(plain.request(&many, b"").unwrap().instructions, 0);
    }

    #[test]
    fn what_rose_too_much_is_refused_until_it_is_accepted() {
        let file = std::env::temp_dir().join(format!("portcullis-baseline-{}", std::process::id()));
        let baseline = |accept| Baseline {
            config: None,
            each: false,
            baseline: Some(file.clone()),
            accept,
        };
        let figures = |benign| BTreeMap::from([("benign".to_owned(), benign)]);
        assert!(compare(&baseline(true), &figures(1_000.0)).unwrap());
        assert!(compare(&baseline(false), &figures(1_029.0)).unwrap());
        assert!(compare(&baseline(false), &figures(500.0)).unwrap());
        assert!(!compare(&baseline(false), &figures(1_031.0)).unwrap());
        assert!(compare(&baseline(true), &figures(1_031.0)).unwrap());
        assert!(compare(&baseline(false), &figures(1_031.0)).unwrap());
        std::fs::remove_file(&file).unwrap();
    }
}
