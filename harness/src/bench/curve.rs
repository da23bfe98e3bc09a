//! What the number of rules, of routes and of sources costs a benign request: it should be nothing.

use anyhow::{Result, anyhow, bail};
use base64::Engine as _;
use portcullis_compiler::{Options, backend};

use super::meter::Meter;
use super::traffic::Mix;
use crate::host::Module;

/// Rules of each point of the curve.
const RULES: [usize; 5] = [100, 300, 1_000, 3_000, 10_000];
/// How much more than the first point the last may cost.
const MOST: f64 = 1.3;

/// Prints the three curves. Returns whether all are flat.
pub fn run(module: &Module) -> Result<bool> {
    println!("\nbenign requests, wasm instructions each");
    Ok(rules(module)? & routes(module)? & sources(module)?)
}

fn rules(module: &Module) -> Result<bool> {
    println!(
        "{:>8} {:>12} {:>12} {:>8}",
        "rules", "ruleset KiB", "benign", "ratio"
    );
    let mut first = None;
    let mut ratio = 1.0;
    for count in RULES {
        let yaml = synthetic(count);
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
        let mut meter = Meter::start(module, format!("{{\"ruleset\":\"{text}\"}}").into_bytes())?;
        let cost = meter.mix(Mix::Benign)?;
        ratio = cost / *first.get_or_insert(cost);
        let kib = compiled.bytes.len() / 1024;
        println!("{count:>8} {kib:>12} {cost:>12.0} {ratio:>8.2}");
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
        let cost = Meter::start(module, config.into_bytes())?.mix(Mix::Benign)?;
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
        let cost = meter.mix(Mix::Benign)?;
        ratio = cost / *first.get_or_insert(cost);
        println!("{count:>8} {attack:>12.0} {cost:>12.0} {ratio:>8.2}");
    }
    Ok(ratio <= MOST)
}

/// Rules that look like real ones: a path at its end, a tool in the User-Agent, a parameter with a value, words in the query,
/// an expression, a spam host, with an exception now and then. No text of one is that of another.
fn synthetic(count: usize) -> String {
    let mut words = Words(0x2545_f491_4f6c_dd1d);
    let mut out = String::new();
    for n in 0..count {
        let (a, b, c) = (words.word(), words.word(), words.word());
        let detection = match n % 8 {
            0 | 1 => format!(
                "selection:\n    cs-uri-stem|endswith:\n      - /{a}/{b}.php\n      - /{b}-{c}.zip\n  condition: selection"
            ),
            2 => format!(
                "selection:\n    cs-user-agent|contains:\n      - {a}-{b}/\n      - {c} scanner\n  condition: selection"
            ),
            3 => format!(
                "selection:\n    cs-uri-stem|contains: /plugins/{a}-{b}/\n    cs-uri-query|contains: {c}=\n  condition: selection"
            ),
            4 => format!(
                "selection:\n    cs-uri-query|contains|all:\n      - {a}_{b}(\n      - {c}\n  condition: selection"
            ),
            5 => format!(
                "selection:\n    cs-uri-query|re: '(?i){a}{b}\\s*\\([^)]{{0,20}}{c}'\n  condition: selection"
            ),
            6 => format!(
                "selection:\n    cs-referer|contains:\n      - {a}-{b}.example\n      - {b}{c}.test\n  condition: selection"
            ),
            _ => format!(
                "selection:\n    cs-uri|contains: /{a}/v{n}/{b}\n  filter:\n    cs-user-agent|contains: {c}bot\n  condition: selection and not filter"
            ),
        };
        out.push_str(&format!(
            "title: Synthetic rule {n} about {a}\nid: 00000000-0000-4000-8000-{n:012x}\nstatus: experimental\nlogsource:\n  category: webserver\ndetection:\n  {detection}\nlevel: low\n---\n"
        ));
    }
    out.truncate(out.trim_end_matches("---\n").len());
    out
}

/// Words of syllables, which have the grams of real ones.
struct Words(u64);

impl Words {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % below
    }

    fn word(&mut self) -> String {
        const START: [&str; 20] = [
            "b", "c", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr", "ch",
            "pr", "w", "k", "sh",
        ];
        const MIDDLE: [&str; 8] = ["a", "e", "i", "o", "u", "ea", "io", "ou"];
        const END: [&str; 10] = ["", "n", "r", "s", "t", "l", "m", "ck", "nd", "x"];
        let mut word = String::new();
        for _ in 0..2 + self.next(2) {
            for part in [&START[..], &MIDDLE, &END] {
                let at = self.next(part.len());
                word.push_str(part.get(at).copied().unwrap_or_default());
            }
        }
        word
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_rules_of_the_curve_compile_and_none_is_without_an_anchor() {
        let parsed =
            portcullis_compiler::parse("synthetic.yml", synthetic(64), &Options::default());
        assert_eq!(parsed.errors().count(), 0);
        assert_eq!(parsed.documents.len(), 64);
        assert!(
            backend::compile(&parsed.documents)
                .unwrap()
                .warnings
                .is_empty()
        );
    }
}
