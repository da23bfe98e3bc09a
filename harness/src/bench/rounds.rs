//! CPU time per request, in rounds.
//!
//! A round starts every server anew, and then they take turns of a few milliseconds in random order: a machine that
//! is slower in one second than in the next is so for all of them. What a subject adds is the difference within a
//! round. The figure is the median over the rounds; the interval around it holds the true median with 95 %, whatever
//! the distribution is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::load::Client;
use super::server::{Files, Server, Subject};

/// Connections: enough that a worker finds something to do whenever it looks.
const CONNECTIONS: usize = 8;

/// How long a server is asked before it is another one's turn: some hundred requests, so that what it finds cold when it
/// comes back weighs little.
const TURN: Duration = Duration::from_millis(50);

/// A middle and what lies around it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Estimate {
    /// The median.
    pub middle: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Estimate {
    /// Of these values. With fewer than six the interval is all of them.
    pub fn of(mut values: Vec<f64>) -> Estimate {
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        // The ranks between which the median lies, by the binomial distribution's normal approximation.
        let rank = ((n as f64 - 1.96 * (n as f64).sqrt()) / 2.0)
            .floor()
            .max(0.0) as usize;
        Estimate {
            middle: (at(n / 2) + at(n.saturating_sub(1) / 2)) / 2.0,
            low: at(rank),
            high: at(n.saturating_sub(rank + 1)),
        }
    }
}

/// CPU µs per request that each subject took, and that it added to its baseline; resident KiB.
#[derive(Debug, Default)]
pub struct Measured {
    /// For each round: µs per request.
    pub total: Vec<f64>,
    /// For each round: µs per request beyond the baseline.
    pub added: Vec<f64>,
    /// Resident memory at the end of the last round.
    pub resident_kib: u64,
}

/// Runs the rounds.
pub fn measure(
    subjects: &[Subject],
    files: &Files,
    upstream: SocketAddr,
    rounds: usize,
    each: Duration,
    dir: &Path,
) -> Result<BTreeMap<&'static str, Measured>> {
    let mut all: BTreeMap<&'static str, Measured> = BTreeMap::new();
    let mut random = Random(0x5eed);
    for round in 1..=rounds {
        eprint!("\rround {round} of {rounds} ");
        let mut running = Vec::new();
        for &subject in subjects {
            running.push(Running::start(subject, files, upstream, dir)?);
        }
        // What is measured are gateways that have been up for a while.
        for server in &mut running {
            server.ask(each / 4)?;
        }
        running.iter_mut().for_each(Running::forget);
        let turns = each.as_nanos().div_ceil(TURN.as_nanos());
        for _ in 0..turns {
            random.shuffle(&mut running);
            for server in &mut running {
                server.ask(TURN)?;
            }
        }
        let took = |subject| running.iter().find(|server| server.subject == subject);
        for server in &running {
            let baseline = took(server.subject.baseline()).unwrap_or(server);
            let measured = all.entry(server.subject.name()).or_default();
            measured.total.push(server.us());
            measured.added.push(server.us() - baseline.us());
            measured.resident_kib = server.server.resident_kib()?;
        }
    }
    eprintln!();
    Ok(all)
}

/// A server and what it has been asked.
struct Running {
    subject: Subject,
    server: Server,
    client: Client,
    requests: usize,
    cpu_ns: u64,
}

impl Running {
    fn start(subject: Subject, files: &Files, upstream: SocketAddr, dir: &Path) -> Result<Running> {
        let dir = dir.join(format!("{subject:?}"));
        let server = Server::start(subject, files, upstream, &[], &dir)?;
        let requests = subject.mix().requests();
        let requests = requests.iter().map(|request| request.wire()).collect();
        let client = Client::connect(server.address, CONNECTIONS, requests)?;
        Ok(Running {
            subject,
            server,
            client,
            requests: 0,
            cpu_ns: 0,
        })
    }

    /// Sends requests for that long.
    fn ask(&mut self, time: Duration) -> Result<()> {
        let before = self.server.cpu_ns()?;
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.requests += self.client.turn()?;
        }
        self.cpu_ns += self.server.cpu_ns()?.saturating_sub(before);
        Ok(())
    }

    /// As if nothing had been sent.
    fn forget(&mut self) {
        (self.requests, self.cpu_ns) = (0, 0);
    }

    /// CPU µs per request.
    fn us(&self) -> f64 {
        self.cpu_ns as f64 / 1e3 / self.requests as f64
    }
}

/// Orders differ between rounds and are the same in every run.
struct Random(u64);

impl Random {
    fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            list.swap(last, (self.0 >> 33) as usize % (last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_lies_around_the_median_and_narrows_with_more_rounds() {
        let few = Estimate::of((0..5).map(f64::from).collect());
        assert_eq!((few.low, few.middle, few.high), (0.0, 2.0, 4.0));
        let many = Estimate::of((0..24).rev().map(f64::from).collect());
        assert_eq!((many.low, many.middle, many.high), (7.0, 11.5, 16.0));
        assert_eq!(Estimate::of(Vec::new()).middle, 0.0);
    }
}
