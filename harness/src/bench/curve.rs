//! What the number of rules, of routes and of sources costs a benign request: it should be nothing.

use anyhow::{Result, anyhow, bail};
use base64::Engine as _;
use portcullis_compiler::{Options, backend, synthetic};

use super::meter::Meter;
use super::traffic::Mix;
use crate::host::Module;

/// Rules of each point of the curve.
const RULES: [usize; 5] = [100, 300, 1_000, 5_000, 10_000];
/// How much more than the first point the last may cost.
const MOST: f64 = 1.3;

/// Prints the three curves. Returns whether all are flat.
pub fn run(module: &Module) -> Result<bool> {
    println!("\nbenign requests, wasm instructions each");
    Ok(rules(module)? & routes(module)? & sources(module)?)
}

fn rules(module: &Module) -> Result<bool> {
    println!(
        "{:>8} {:>12} {:>14} {:>14} {:>12} {:>8}",
        "rules", "ruleset KiB", "load as text", "as it is", "benign", "ratio"
    );
    let mut first = None;
    let mut ratio = 1.0;
    for count in RULES {
        let yaml = synthetic::rules(count);
        let parsed = portcullis_compiler::parse("synthetic.yml", yaml, &Options::default());
        if let Some(error) = parsed.errors().next() {
            bail!("{error}");
        }
        let compiled = backend::compile(&parsed.documents).map_err(|errors| {
            anyhow!(
                "{}",
                errors.first().map(ToString::to_string).unwrap_or_default()
            )
        })?;
        let text = base64::engine::general_purpose::STANDARD.encode(&compiled.bytes);
        let in_text = format!("{{\"ruleset\":\"{text}\"}}").into_bytes();
        let in_text = Meter::start(module, in_text)?.start_instructions();
        let kib = compiled.bytes.len() / 1024;
        let mut meter = Meter::start(module, compiled.bytes)?;
        // With the start of the worker.
        let as_they_are = meter.start_instructions();
        let cost = meter.mix(Mix::Unseen)?;
        ratio = cost / *first.get_or_insert(cost);
        println!("{count:>8} {kib:>12} {in_text:>14} {as_they_are:>14} {cost:>12.0} {ratio:>8.2}");
    }
    Ok(ratio <= MOST)
}

fn routes(module: &Module) -> Result<bool> {
    println!("{:>8} {:>12} {:>12} {:>8}", "routes", "", "benign", "ratio");
    let mut first = None;
    let mut ratio = 1.0;
    for count in [0, 10, 1_000] {
        let routes = (0..count).map(|n| {
            format!(
                r#"{{"match":{{"host":"h{n}.example","path_prefix":"/r{n}"}},"policy":{{"mode":"block"}}}}"#
            )
        });
        let routes: Vec<String> = routes.collect();
        let config = format!("{{\"routes\":[{}]}}", routes.join(","));
        let cost = Meter::start(module, config.into_bytes())?.mix(Mix::Unseen)?;
        ratio = cost / *first.get_or_insert(cost);
        println!("{count:>8} {:>12} {cost:>12.0} {ratio:>8.2}", "");
    }
    Ok(ratio <= MOST)
}

/// Sources that attack, each from an address of its own, before benign requests are counted. What is kept of them is
/// bounded, and a benign request asks for none of it.
fn sources(module: &Module) -> Result<bool> {
    println!(
        "{:>8} {:>12} {:>12} {:>8}",
        "sources", "attack", "benign", "ratio"
    );
    let mut meter = Meter::start(module, Vec::new())?;
    let mut first = None;
    let (mut sent, mut ratio) = (0_u32, 1.0);
    let attacks = Mix::Attack.requests();
    let heads: Vec<_> = attacks.iter().map(super::traffic::Request::pairs).collect();
    for count in [64_u32, 1_000, 30_000] {
        let (mut total, from) = (0, sent);
        for head in heads.iter().cycle().take((count - sent) as usize) {
            let source = format!("{}:0", std::net::Ipv4Addr::from(0x0a00_0000 + sent));
            let cost = meter.request_of(head, &[], &source, i64::from(sent) * 1_000_000)?;
            total += cost.instructions;
            sent += 1;
        }
        let attack = total as f64 / f64::from(sent - from);
        let cost = meter.mix(Mix::Unseen)?;
        ratio = cost / *first.get_or_insert(cost);
        println!("{count:>8} {attack:>12.0} {cost:>12.0} {ratio:>8.2}");
    }
    Ok(ratio <= MOST)
}
