//! Millions of different requests through one worker: does its memory stay what it was?

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use super::load::Client;
use super::server::{Files, Server, Subject};
use super::traffic::Mix;
use crate::host::{Exchange, Gateway, GatewayOptions, Module};

/// Bytes that a worker's memory may grow by after the first tenth of the requests.
const GROWTH_BYTES: usize = 256 * 1024;
/// Names of metrics that there may be, whatever comes in: two for each alert type of the catalogue, and a few.
const METRICS: usize = 256;
/// One request of this many is an attack, one a body, one noise.
const ODD: u64 = 8;

/// How much the resident memory of an Envoy may grow by after the first fifth: its own allocator gives and takes.
const ENVOY_GROWTH_KIB: u64 = 8 * 1024;
/// Connections to it.
const CONNECTIONS: usize = 8;

/// Sends so many requests through a real Envoy with one worker, one in eight an attack. Returns whether its memory stayed
/// within its bound.
pub fn run_envoy(files: &Files, upstream: SocketAddr, dir: &Path, requests: u64) -> Result<bool> {
    let server = Server::start(Subject::OursUnseen, files, upstream, &[], dir)?;
    let attacks = Mix::Attack.requests();
    let mut attacks = attacks.iter().cycle();
    let mut mix = Vec::new();
    for (n, request) in Mix::Unseen.requests().iter().enumerate() {
        mix.push(request.wire());
        if (n as u64).is_multiple_of(ODD) {
            mix.extend(attacks.next().map(super::traffic::Request::wire));
        }
    }
    let mut client = Client::connect(server.address, CONNECTIONS, mix)?;
    println!(
        "\n{:>12} {:>13} {:>10}",
        "requests", "resident KiB", "alerts"
    );
    let begun = Instant::now();
    let part = (requests / 10).max(1);
    let (mut early, mut resident) = (0, 0);
    for tenth in 1..=10 {
        client.send(usize::try_from(part)?)?;
        resident = server.resident_kib()?;
        if tenth == 2 {
            early = resident;
        }
        println!(
            "{:>12} {resident:>13} {:>10}",
            tenth * part,
            server.alerts()?
        );
    }
    println!(
        "grown by {} KiB after the first fifth, {:.0} s",
        resident.saturating_sub(early),
        begun.elapsed().as_secs_f64()
    );
    Ok(resident.saturating_sub(early) <= ENVOY_GROWTH_KIB)
}

/// Sends the requests. Returns whether memory stayed within its bound.
pub fn run(module: &Module, requests: u64) -> Result<bool> {
    let mut gateway = Gateway::start(module, GatewayOptions::default())
        .map_err(|error| anyhow!("the filter did not start: {error}"))?;
    let mut mixes: Vec<Vec<(&str, String)>> = Vec::new();
    for mix in [Mix::Benign, Mix::Attack] {
        mixes.extend(mix.requests().into_iter().map(|request| request.0));
    }
    let half = mixes.len() as u64 / 2;
    let begun = Instant::now();
    let (mut early, mut alerts) = (0, 0_u64);
    let mut body = Vec::new();
    println!(
        "\n{:>12} {:>12} {:>10} {:>8}",
        "requests", "memory KiB", "alerts", "metrics"
    );
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for n in 1..=requests {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        let kind = n % ODD;
        let at = noise % half + if kind == 1 { half } else { 0 };
        let mut request = mixes.get(at as usize).cloned().unwrap_or_default();
        // Nothing is sent twice: no path, no User-Agent, no Referer.
        for (name, value) in &mut request {
            match *name {
                ":path" if kind == 2 => {
                    *value = format!("/{noise:x}?{:x}='{n}&{n}=<{noise}", noise >> 7)
                }
                ":path" => {
                    let sign = if value.contains('?') { '&' } else { '?' };
                    value.push_str(&format!("{sign}n={n}"));
                }
                ":method" if kind == 3 => *value = "POST".to_owned(),
                "user-agent" | "referer" => value.push_str(&format!(" {n}")),
                _ => {}
            }
        }
        body.clear();
        if kind == 3 {
            request.push(("content-type", "application/json".to_owned()));
            body.extend(format!("{{\"n\":{n},\"text\":\"{noise:x} or 1=1\"}}").bytes());
        }
        let head: Vec<_> = request
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let source = format!("{}:0", std::net::Ipv4Addr::from(noise as u32));
        let worker = gateway.worker(0);
        let outcome = worker.exchange(&Exchange {
            request_headers: &head,
            request_body: &body,
            source_address: Some(&source),
            time_unix_ns: i64::try_from(n)? * 1_000_000,
            ..Exchange::default()
        });
        if let Some(trap) = outcome.trapped {
            bail!("request {n}: the filter died: {trap}");
        }
        alerts += outcome.logs.len() as u64;
        if n == requests / 10 {
            early = worker.memory_bytes();
        }
        if n.is_multiple_of((requests / 10).max(1)) {
            let kib = worker.memory_bytes() / 1024;
            println!(
                "{n:>12} {kib:>12} {alerts:>10} {:>8}",
                gateway.metrics().len()
            );
        }
    }
    let grown = gateway.worker(0).memory_bytes().saturating_sub(early);
    let metrics = gateway.metrics().len();
    println!(
        "grown by {} KiB after the first tenth, {:.0} s",
        grown / 1024,
        begun.elapsed().as_secs_f64()
    );
    Ok(grown <= GROWTH_BYTES && metrics <= METRICS)
}
