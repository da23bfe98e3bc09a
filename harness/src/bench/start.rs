//! What loading the filter costs a gateway: the time until Envoy answers, and memory by workers.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, anyhow};

use super::load::Client;
use super::rounds::Estimate;
use super::server::{Files, Server, Subject};
use crate::host::{Gateway, GatewayOptions, Module};

/// Starts of each server, by turns.
const STARTS: usize = 9;
/// Workers of the small and of the large gateway, whose difference tells what a worker takes.
const WORKERS: [usize; 2] = [1, 5];

/// Connections that are spread over the workers.
const CONNECTIONS: usize = 64;

/// Prints the tables.
pub fn run(module: &Module, files: &Files, upstream: SocketAddr, dir: &Path) -> Result<bool> {
    let subjects = [Subject::Bare, Subject::Floor, Subject::Ours];
    println!(
        "\n{:42} {:>10} {:>12} {:>16}",
        "", "ready ms", "resident MB", "a worker, MB"
    );
    for subject in subjects {
        let mut ready = Vec::new();
        let mut resident = Vec::new();
        for workers in WORKERS.into_iter().cycle().take(STARTS.max(2)) {
            let begun = Instant::now();
            let server = Server::start_with(subject, files, upstream, &[], dir, workers)?;
            if workers == 1 {
                ready.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            // Every worker has to take some requests before its memory is its own.
            let requests = subject.mix().requests();
            let requests = requests.iter().map(|request| request.wire()).collect();
            Client::connect(server.address, CONNECTIONS, requests)?.send(CONNECTIONS * 10)?;
            resident.push((workers, server.resident_kib()? as f64 / 1024.0));
        }
        let of = |wanted: usize| {
            let values = resident.iter().filter(|(workers, _)| *workers == wanted);
            Estimate::of(values.map(|(_, mb)| *mb).collect()).middle
        };
        let each = (of(WORKERS[1]) - of(WORKERS[0])) / (WORKERS[1] - WORKERS[0]) as f64;
        let ready = Estimate::of(ready);
        println!(
            "{:42} {:>10.0} {:>12.1} {each:>16.1}",
            subject.name(),
            ready.middle,
            of(WORKERS[0])
        );
    }
    let mut gateway = Gateway::start(module, GatewayOptions::default())
        .map_err(|error| anyhow!("the filter did not start: {error}"))?;
    let before = gateway.worker(0).instructions();
    // Another configuration, or nothing would be done.
    gateway
        .reconfigure(b"{\"mode\":\"block\"}")
        .map_err(|error| anyhow!("{error}"))?;
    let worker = gateway.worker(0);
    println!(
        "a worker takes {:.2} million wasm instructions to start and be configured, {:.2} million to be configured \
         again; its memory has {:.1} MiB",
        before as f64 / 1e6,
        (worker.instructions() - before) as f64 / 1e6,
        worker.memory_bytes() as f64 / f64::from(1 << 20)
    );
    Ok(true)
}
