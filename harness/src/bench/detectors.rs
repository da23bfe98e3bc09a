//! What each structural detector costs by itself on the worst text that a search finds for it.
//!
//! The module is given two rules at a time in place of its own: one that asks a detector about the User-Agent, and one that
//! reads the User-Agent and asks nothing. What the first costs more is what the detector takes: wasm instructions,
//! the same on every machine.

use anyhow::{Result, anyhow, bail};
use portcullis_compiler::{Options, backend};

use super::meter::Meter;
use super::worst::{GROWTH, climb, is_in_heads};
use crate::host::Module;

/// Detectors by the names that rules have for them, and what they read.
const DETECTORS: [(&str, &str); 7] = [
    ("sqli", "SQL"),
    ("xss", "HTML and script"),
    ("command", "shell"),
    ("code", "code and templates"),
    ("traversal", "paths"),
    ("ssrf", "URLs"),
    ("spam", "names of hosts"),
];

/// Bytes of the longest text: the longest that is paid for like a short one, which no budget cuts.
const BYTES: usize = portcullis::limits::SHORT_TEXT;

/// Searches for each detector and prints the table. Returns whether each takes time that is linear.
pub fn run(module: &Module, tries: usize) -> Result<bool> {
    println!(
        "\ndetectors, on the dearest text of {BYTES} bytes for each, in wasm instructions a byte\n\
         {:18} {:>8} {:>7}  unit that is repeated",
        "reads", "a byte", "growth"
    );
    let mut fine = true;
    let mut tried = 0;
    // Reads the same texts, and none of them has a word of it.
    let mut without = with_rule(module, "contains: qzxwvjkqzxw")?;
    for (seed, (detector, reads)) in DETECTORS.iter().enumerate() {
        let mut with = with_rule(module, &format!("{detector}: low"))?;
        let cost = |unit: &[u8], bytes: usize| {
            let text: Vec<u8> = unit.iter().copied().cycle().take(bytes).collect();
            let (with, without) = (cost(&mut with, &text)?, cost(&mut without, &text)?);
            Ok(with - without)
        };
        let worst = climb((seed as u64, tries, BYTES), &mut tried, is_in_heads, cost)?;
        let each = worst.large / BYTES as f64;
        let is_linear = worst.growth <= GROWTH;
        fine &= is_linear;
        println!(
            "{reads:18} {each:>8.1} {:>7.2}  {}{}",
            worst.growth,
            String::from_utf8_lossy(&worst.unit).escape_debug(),
            if is_linear { "" } else { "   TOO MUCH" }
        );
    }
    println!("{tried} texts tried; growth is what twice the bytes cost, at most {GROWTH}");
    Ok(fine)
}

/// The module with one rule about the User-Agent that holds for no request, since there is no such method.
fn with_rule(module: &Module, asks: &str) -> Result<Meter> {
    let yaml = format!(
        "title: Asks\nid: 00000000-0000-4000-8000-000000000000\nstatus: experimental\nlogsource:\n  category: webserver\n\
         detection:\n  text:\n    cs-user-agent|{asks}\n  method:\n    cs-method: NONE\n  condition: text and method\nlevel: low\n"
    );
    let parsed = portcullis_compiler::parse("detector.yml", yaml, &Options::default());
    if let Some(error) = parsed.errors().next() {
        bail!("{error}");
    }
    let compiled = backend::compile(&parsed.documents).map_err(|errors| {
        let first = errors.first().map(ToString::to_string);
        anyhow!("{}", first.unwrap_or_default())
    })?;
    let mut meter = Meter::start(module, compiled.bytes)?;
    // The first requests pay for memory that later ones find there.
    for _ in 0..2 {
        cost(&mut meter, &b"'<;http://a%41\\x41".repeat(BYTES / 16))?;
    }
    Ok(meter)
}

fn cost(meter: &mut Meter, text: &[u8]) -> Result<f64> {
    let head: [(&[u8], &[u8]); 5] = [
        (b":authority", b"shop.example.com"),
        (b":path", b"/index.html"),
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b"user-agent", text),
    ];
    Ok(meter.request(&head, &[])?.instructions as f64)
}
