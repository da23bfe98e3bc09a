//! CPU time per request, in rounds.
//!
//! A round starts every server anew, in random order, and the baselines a second time at its end; what a
//! subject adds is the difference within a round. The figure is the median over the rounds; the interval around it
//! holds the true median with 95 %, whatever the distribution is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::load::Client;
use super::server::{Files, Server, Subject};

/// Connections: enough that a worker finds something to do whenever it looks.
const CONNECTIONS: usize = 8;

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
    let mut baselines: Vec<Subject> = subjects.iter().map(|subject| subject.baseline()).collect();
    baselines.dedup();
    for round in 1..=rounds {
        eprint!("\rround {round} of {rounds} ");
        let mut order: Vec<Subject> = subjects.to_vec();
        order.retain(|subject| !baselines.contains(subject));
        random.shuffle(&mut order);
        random.shuffle(&mut baselines);
        let whole = baselines.iter().chain(&order).chain(&baselines);
        let mut taken: Vec<(Subject, f64)> = Vec::new();
        for &subject in whole {
            let (us, resident_kib) = once(subject, files, upstream, each, dir)?;
            all.entry(subject.name()).or_default().resident_kib = resident_kib;
            taken.push((subject, us));
        }
        let mean = |subject| {
            let values = taken.iter().filter(|(other, _)| *other == subject);
            let values: Vec<f64> = values.map(|(_, us)| *us).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        for &subject in baselines.iter().chain(&order) {
            let measured = all.entry(subject.name()).or_default();
            measured.total.push(mean(subject));
            measured
                .added
                .push(mean(subject) - mean(subject.baseline()));
        }
    }
    eprintln!();
    Ok(all)
}

fn once(
    subject: Subject,
    files: &Files,
    upstream: SocketAddr,
    each: Duration,
    dir: &Path,
) -> Result<(f64, u64)> {
    let server = Server::start(subject, files, upstream, &[], dir)?;
    let requests = subject.mix().requests();
    let requests = requests.iter().map(|request| request.wire()).collect();
    let mut client = Client::connect(server.address, CONNECTIONS, requests)?;
    let send_for = |client: &mut Client, time: Duration| {
        let begun = Instant::now();
        let mut sent = 0;
        while begun.elapsed() < time {
            sent += client.turn()?;
        }
        Ok::<usize, anyhow::Error>(sent)
    };
    send_for(&mut client, each / 4)?;
    let before = server.cpu_ns()?;
    let sent = send_for(&mut client, each)?;
    let used = server.cpu_ns()?.saturating_sub(before);
    Ok((used as f64 / 1e3 / sent as f64, server.resident_kib()?))
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
