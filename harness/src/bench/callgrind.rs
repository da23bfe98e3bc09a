//! Instructions, counted by valgrind's callgrind: the metric that noise does not touch.
//!
//! A server is started with counting off, gets requests until its code is compiled and its caches are
//! warm, and is then counted in segments. Each segment sends the whole mix the same number of times, so
//! that segments differ only by what the server does on the side.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::load::Client;
use super::server::{Files, Server, Subject};
use super::traffic::REQUESTS;

/// Segments, and how often each sends the mix. ModSecurity takes fifty times as long as anything else.
const SEGMENTS: usize = 5;
const MIXES: usize = 10;
const MIXES_MODSECURITY: usize = 2;

/// Mixes that are sent before counting: V8 compiles again what is called often.
const WARM_MIXES: usize = 30;

/// Instructions per request in each segment, and alerts per request.
pub fn measure(
    subject: Subject,
    files: &Files,
    upstream: SocketAddr,
    dir: &Path,
) -> Result<(Vec<f64>, f64)> {
    let out = dir.join("callgrind");
    let wrapper = [
        "valgrind",
        "--tool=callgrind",
        // Envoy's command may be a script that starts it.
        "--trace-children=yes",
        "--instr-atstart=no",
        // V8 writes code and runs it.
        "--smc-check=all-non-file",
        "--quiet",
        &format!("--callgrind-out-file={}", out.display()),
    ]
    .map(str::to_owned);
    let server = Server::start(subject, files, upstream, &wrapper, dir)?;
    let requests = subject.mix().requests();
    let requests = requests.iter().map(|request| request.wire()).collect();
    // One connection: what is on the wire at once must not depend on how fast the server is.
    let mut client = Client::connect(server.address, 1, requests)?;
    let mixes = if subject == Subject::ModSecurity {
        MIXES_MODSECURITY
    } else {
        MIXES
    };
    let warm = if subject.is_nginx() { 2 } else { WARM_MIXES };
    client.send(warm * REQUESTS)?;
    control(&server, &["-i", "on"])?;
    let mut segments = Vec::new();
    // The first one is left out: valgrind itself starts anew when counting begins.
    for segment in 1..=SEGMENTS + 1 {
        client.send(mixes * REQUESTS)?;
        control(&server, &["-d"])?;
        let file = out.with_extension(segment.to_string());
        if segment > 1 {
            segments.push(total(&file)? as f64 / (mixes * REQUESTS) as f64);
        }
    }
    let sent = (warm + mixes * (SEGMENTS + 1)) * REQUESTS;
    let alerts = match subject {
        Subject::Ours | Subject::OursUnseen | Subject::OursAttacked => server.alerts()?,
        _ => 0,
    };
    Ok((segments, alerts as f64 / sent as f64))
}

fn control(server: &Server, arguments: &[&str]) -> Result<()> {
    let output = Command::new("callgrind_control")
        .args(arguments)
        .arg(server.pid().to_string())
        .output()
        .context("cannot start `callgrind_control`, which comes with valgrind")?;
    if !output.status.success() || !String::from_utf8_lossy(&output.stdout).contains("OK") {
        bail!(
            "callgrind does not obey: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// All instructions in a file that callgrind has written.
pub fn total(file: &Path) -> Result<u64> {
    let text = std::fs::read(file)
        .with_context(|| format!("callgrind has not written {}", file.display()))?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
    line.and_then(|total| total.trim().parse().ok())
        .with_context(|| format!("{} tells no total", file.display()))
}
