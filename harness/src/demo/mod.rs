//! `portcullis demo`: the filter at work in a real Envoy.
//!
//! A small upstream and an Envoy in front of it are started, benign and attacking requests are sent over real
//! sockets, and the alerts are read where an operator would: in Envoy's log. Requests go one after
//! the other, so an alert belongs to the request that was answered last; that is how the demo knows
//! which alert is missing and which benign request raised one.

pub mod client;
pub mod envoy;
pub mod traffic;
pub mod upstream;

use std::fmt::Display;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use envoy::{Config, Envoy};
use traffic::{Group, Request};

use crate::report::{Alert, Colour, Style, Summary, printable};

/// How long an expected alert may take to appear in the log after the response.
const ALERT_WITHIN: Duration = Duration::from_secs(10);

/// How long the log must be silent after a response until the next request is sent. The filter logs
/// before Envoy answers, so this only has to cover the way through a pipe.
const QUIET: Duration = Duration::from_millis(30);

/// What the command line says.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End after the traffic; fail if an expected alert is missing or a benign request raised one
    #[arg(long)]
    pub once: bool,
    /// Port of 127.0.0.1 that Envoy listens on; 0 for any free one
    #[arg(long, value_name = "PORT", default_value_t = 10000)]
    pub port: u16,
    /// The Envoy to start, 1.40 or later
    #[arg(long, value_name = "FILE", default_value = ".tools/bin/envoy")]
    pub envoy: PathBuf,
    /// The filter
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/portcullis_http.wasm"
    )]
    pub wasm: PathBuf,
    /// Plugin configuration, as JSON; without it every alert is written, also those that are folded otherwise
    #[arg(
        long,
        value_name = "JSON",
        default_value = r#"{"mode": "detect", "incidents": {"fold": false}}"#
    )]
    pub config: String,
}

/// Runs the demo. `false` says that an alert was missing or that one was raised without cause.
pub fn run(args: &Args) -> Result<bool> {
    let port = args.port;
    if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        bail!(
            "cannot listen on 127.0.0.1:{port}: {error}; end what listens there, or choose another port with \
             `--port` (`make run PORT=…`)"
        );
    }
    let groups = traffic::groups()?;
    let place = match port {
        0 => "a free port of 127.0.0.1".to_owned(),
        _ => format!("127.0.0.1:{port}"),
    };
    print(format_args!(
        "starting Envoy on {place} with {}",
        args.wasm.display()
    ))?;
    let upstream = upstream::start()?;
    let config = Config::new(&args.wasm, upstream)?
        .port(port)
        .plugin(&args.config)?;
    let envoy = Envoy::start(&args.envoy, config, 1)?;

    let style = Style::of(&std::io::stdout());
    let mut demo = Demo {
        envoy,
        style,
        summary: Summary::default(),
        problems: Vec::new(),
    };
    let begun = Instant::now();
    for group in &groups {
        demo.send(group)?;
    }
    print(format_args!(
        "\nall sent within {:.1} s:",
        begun.elapsed().as_secs_f32()
    ))?;
    demo.summary.write(style, &mut std::io::stdout())?;
    for problem in &demo.problems {
        print(style.paint(Colour::Red, printable(problem)))?;
    }
    if demo.problems.is_empty() {
        print(style.paint(
            Colour::Green,
            "\nevery expected alert was raised, and none by a benign request",
        ))?;
    }
    if !args.once {
        demo.serve()?;
    }
    Ok(demo.problems.is_empty())
}

struct Demo {
    envoy: Envoy,
    style: Style,
    summary: Summary,
    /// What is missing or should not be there, for people.
    problems: Vec<String>,
}

impl Demo {
    fn send(&mut self, group: &Group) -> Result<()> {
        print(format_args!("\n{}", group.title))?;
        for request in &group.requests {
            let alerts = self.alerts_of(request, group.expected)?;
            self.summary.requests += 1;
            if alerts.is_empty() {
                let line = format!("         no alert{:45}{}", "", printable(&request.summary));
                print(self.style.paint(Colour::Dim, line))?;
            } else {
                self.summary.with_alerts += 1;
            }
            match group.expected {
                None => self.problems.extend(alerts.iter().map(|alert| {
                    format!(
                        "unexpected: {} for the benign {}",
                        alert.alert_type(),
                        request.summary
                    )
                })),
                Some(expected) if !has(&alerts, expected) => {
                    self.problems
                        .push(format!("missing: {expected} for {}", request.summary));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Sends a request and shows the alerts that it raises.
    fn alerts_of(&mut self, request: &Request, expected: Option<&str>) -> Result<Vec<Alert>> {
        client::send(self.envoy.listener, &request.bytes)
            .with_context(|| request.summary.clone())?;
        let deadline = Instant::now() + ALERT_WITHIN;
        let mut alerts: Vec<Alert> = Vec::new();
        loop {
            let has_come = expected.is_none_or(|expected| has(&alerts, expected));
            let wait = if has_come {
                QUIET
            } else {
                deadline.saturating_duration_since(Instant::now())
            };
            match self.envoy.log.recv_timeout(wait) {
                Ok(line) => alerts.extend(self.show(&line)?),
                Err(RecvTimeoutError::Timeout) => return Ok(alerts),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("Envoy ended at `{}`", request.summary)
                }
            }
        }
    }

    /// Shows a line of Envoy's log if it is an alert or an error.
    fn show(&mut self, line: &str) -> Result<Option<Alert>> {
        let alert = alert_in_log(line);
        if let Some(alert) = &alert {
            self.summary.count(alert);
            print(alert_line(self.style, alert))?;
        } else if line.contains("][error]") || line.contains("][critical]") {
            print(printable(line))?;
        }
        Ok(alert)
    }

    /// Shows the alerts of whatever else is sent, until Ctrl-C ends the process.
    fn serve(&mut self) -> Result<()> {
        let (listener, admin) = (self.envoy.listener, self.envoy.admin);
        print(format_args!(
            "\nEnvoy serves http://{listener} until Ctrl-C (admin: http://{admin}, access log: {}). Try:\n\n  \
             curl 'http://{listener}/product?id=1%27%20or%201=1--'\n",
            self.envoy.access_log.display(),
        ))?;
        let mut last = String::new();
        while let Ok(line) = self.envoy.log.recv() {
            self.show(&line)?;
            last = line;
        }
        bail!("Envoy ended by itself; the last line of its log: {last}");
    }
}

fn has(alerts: &[Alert], alert_type: &str) -> bool {
    alerts.iter().any(|alert| alert.alert_type() == alert_type)
}

/// The alert in a line of Envoy's log, if there is one.
///
/// Envoy writes `[time][thread][warning][wasm] [file:line] wasm log NAME ROOT_ID VM_ID: ` before it.
pub fn alert_in_log(line: &str) -> Option<Alert> {
    let (_, logged) = line.split_once("] wasm log ")?;
    let (_, message) = logged.split_once(": ")?;
    let alert = Alert(serde_json::from_str(message).ok()?);
    (!alert.alert_type().is_empty()).then_some(alert)
}

/// The line that people read for an alert: time of day, severity, type, source, request, evidence.
fn alert_line(style: Style, alert: &Alert) -> String {
    let source = alert
        .0
        .pointer("/Entities/0/Address")
        .and_then(serde_json::Value::as_str);
    let request = format!(
        "{} {}{}",
        alert.text("Method"),
        alert.text("CompromisedEntity"),
        alert.text("Target")
    );
    format!(
        "{} {} {:<35} {:<9}  {}  {}",
        alert.text("TimeGenerated").get(11..19).unwrap_or("-"),
        style.severity(alert.severity()),
        printable(alert.alert_type()),
        printable(source.unwrap_or("-")),
        printable(&request),
        style.paint(Colour::Bold, printable(alert.text("Evidence"))),
    )
}

fn print(line: impl Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn the_traffic_file_reads_and_names_alert_types_of_the_catalogue() {
        let groups = traffic::groups().unwrap();
        assert!(
            groups
                .iter()
                .all(|group| !group.requests.is_empty() && !group.title.is_empty())
        );
        let expected: Vec<_> = groups.iter().filter_map(|group| group.expected).collect();
        for alert_type in &expected {
            assert!(
                portcullis::catalogue::find(alert_type).is_some(),
                "{alert_type}"
            );
        }
        assert!(expected.len() >= 20, "{}", expected.len());
        let benign: usize = groups
            .iter()
            .filter(|group| group.expected.is_none())
            .map(|group| group.requests.len())
            .sum();
        assert!(benign >= 10, "{benign}");
    }

    #[test]
    fn the_example_takes_every_edit_once() {
        let wasm = std::env::current_exe().unwrap();
        let upstream = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let config = Config::new(&wasm, upstream)
            .unwrap()
            .plugin("it's")
            .unwrap();
        assert!(config.plugin("{}").is_err(), "nothing is left to replace");
    }

    #[test]
    fn alerts_are_found_in_log_lines_and_other_lines_are_not() {
        let prefix =
            "[2026-11-22 21:52:01.102][10427][warning][wasm] [source/x.cc:1154] wasm log a b c: ";
        let alert = alert_in_log(&format!(
            "{prefix}{{\"AlertType\":\"Gateway_SqlInjection\"}}"
        ))
        .unwrap();
        assert_eq!(alert.alert_type(), "Gateway_SqlInjection");
        for other in [
            "",
            "{\"AlertType\":\"x\"}",
            &format!("{prefix}{{\"a\":1}}"),
            &format!("{prefix}loaded"),
        ] {
            assert!(alert_in_log(other).is_none(), "{other}");
        }
    }
}
