//! A real Envoy as a child process: the example configuration with ports and paths of this run put
//! in, the way to its ready state, its log line by line, and its end.
//!
//! The configuration is `envoy/envoy.yaml` itself, so what the documentation shows is what the demo
//! and the tests run. A value is put in by replacing text that must occur exactly once, so the
//! example cannot drift away from this code unnoticed.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client;

const EXAMPLE: &str = include_str!("../../../envoy/envoy.yaml");

/// How long Envoy may take to be ready. It compiles the module first, which takes well under a second
/// on an idle machine.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// An Envoy configuration in the making: the example with edits.
#[derive(Clone, Debug)]
pub struct Config {
    text: String,
    port: u16,
}

impl Config {
    /// The example with this filter and upstream. The listener and the admin endpoint take any free port.
    pub fn new(wasm: &Path, upstream: SocketAddr) -> Result<Config> {
        Config::bootstrap(&with_filter(EXAMPLE, wasm)?, upstream)
    }

    /// Another example with this upstream.
    pub fn bootstrap(example: &str, upstream: SocketAddr) -> Result<Config> {
        let config = Config {
            text: example.to_owned(),
            port: 0,
        };
        config
            .edit(
                "port_value: 8080",
                &format!("port_value: {}", upstream.port()),
            )?
            .edit("port_value: 9901", "port_value: 0")
    }

    /// The listener on this port.
    pub fn port(self, port: u16) -> Config {
        Config { port, ..self }
    }

    /// This JSON text as the plugin configuration.
    pub fn plugin(self, json: &str) -> Result<Config> {
        let value = json.replace('\'', "''");
        self.edit(
            "value: '{\"mode\": \"detect\"}'",
            &format!("value: '{value}'"),
        )
    }

    /// Every alert in a line of its own, in each plugin configuration that does not speak of incidents.
    pub fn every_alert(mut self) -> Config {
        const BEGIN: &str = "value: '{";
        let mut parts = self.text.split(BEGIN);
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            text.push_str(BEGIN);
            let (json, _) = part.split_once('\'').unwrap_or((part, ""));
            if !json.contains("incidents") {
                let more = if json == "}" { "" } else { ", " };
                text.push_str(&format!("\"incidents\": {{\"fold\": false}}{more}"));
            }
            text.push_str(part);
        }
        self.text = text;
        self
    }

    /// Replaces `from`, which must occur exactly once.
    pub fn edit(mut self, from: &str, to: &str) -> Result<Config> {
        let count = self.text.matches(from).count();
        if count != 1 {
            bail!("`{from}` occurs {count} times in the example, not once");
        }
        self.text = self.text.replace(from, to);
        Ok(self)
    }
}

/// An example, or a resource that one reads, with this filter in it.
pub fn with_filter(example: &str, wasm: &Path) -> Result<String> {
    const FILTER: &str = "filename: /etc/portcullis/portcullis_http.wasm";
    let wasm = wasm.canonicalize().with_context(|| {
        format!(
            "cannot find the filter `{}`; `make wasm` builds it",
            wasm.display()
        )
    })?;
    let quoted = serde_json::to_string(&wasm.to_string_lossy())?;
    if !example.contains(FILTER) {
        bail!("`{FILTER}` is not in the example");
    }
    Ok(example.replace(FILTER, &format!("filename: {quoted}")))
}

/// A running Envoy. It ends when this is dropped, and also when this process ends in any other way.
#[derive(Debug)]
pub struct Envoy {
    /// Where the listener answers.
    pub listener: SocketAddr,
    /// Where the admin endpoint answers.
    pub admin: SocketAddr,
    /// What Envoy logs, line by line, from the first one on.
    pub log: Receiver<String>,
    /// Where the access log is.
    pub access_log: PathBuf,
    process: Process,
}

impl Envoy {
    /// Starts `command` with this configuration and waits until it serves.
    ///
    /// The error of an Envoy that does not start holds the end of its log.
    pub fn start(command: &Path, config: Config, workers: u32) -> Result<Envoy> {
        let dir = run_dir()?;
        let access_log = dir.join("access.log");
        let admin_file = dir.join("admin");
        let file = dir.join("envoy.yaml");
        let port = config.port;
        let config = config
            .edit(
                "path: /dev/stdout",
                &format!("path: {}", access_log.display()),
            )?
            .edit("port_value: 10000", &format!("port_value: {port}"))?;
        std::fs::write(&file, &config.text)?;
        let mut child = Command::new(command)
            .arg("-c")
            .arg(&file)
            .arg("--admin-address-path")
            .arg(&admin_file)
            // Several may run beside each other; without hot restart they share nothing.
            .args(["--disable-hot-restart", "--log-level", "warning"])
            .args(["--concurrency", &workers.to_string()])
            // Short, since nobody waits for requests in flight when a demo or a test ends.
            .args(["--drain-time-s", "1"])
            // Somebody waits for the access log; Envoy would take ten seconds.
            .args(["--file-flush-interval-msec", "100"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .inspect_err(|_| {
                let _ = std::fs::remove_dir_all(&dir);
            })
            .with_context(|| {
                format!(
                    "cannot start `{}`; `make setup` installs Envoy",
                    command.display()
                )
            })?;
        let stderr = child.stderr.take();
        let process = Process::new(child, dir)?;
        let (sender, log) = mpsc::channel();
        if let Some(stderr) = stderr {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stderr);
                let mut line = Vec::new();
                while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    // Where nobody listens any more it reads on: a full pipe would stop Envoy.
                    let _ = sender.send(text);
                    line.clear();
                }
            });
        }
        let unset = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut envoy = Envoy {
            listener: unset,
            admin: unset,
            log,
            access_log,
            process,
        };
        envoy.wait_until_ready(&admin_file)?;
        Ok(envoy)
    }

    fn wait_until_ready(&mut self, admin_file: &Path) -> Result<()> {
        let mut lines: Vec<String> = Vec::new();
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match self.log.recv_timeout(Duration::from_millis(20)) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Timeout) => {}
                // The log ends with Envoy.
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("Envoy did not start; the end of its log:\n{}", tail(&lines))
                }
            }
            if Instant::now() > deadline {
                bail!(
                    "Envoy was not ready after {READY_WITHIN:?}; the end of its log:\n{}",
                    tail(&lines)
                );
            }
            // The file may be there before its text is.
            let Some(admin) = std::fs::read_to_string(admin_file)
                .ok()
                .and_then(|text| text.trim().parse().ok())
            else {
                continue;
            };
            self.admin = admin;
            if self
                .admin_get("/ready")
                .is_ok_and(|text| text.contains("LIVE"))
            {
                break;
            }
        }
        let listeners: serde_json::Value =
            serde_json::from_str(&self.admin_get("/listeners?format=json")?)
                .context("Envoy's admin endpoint lists its listeners in a form of its own")?;
        let port =
            listeners.pointer("/listener_statuses/0/local_address/socket_address/port_value");
        let Some(port) = port
            .and_then(serde_json::Value::as_u64)
            .and_then(|port| u16::try_from(port).ok())
        else {
            bail!("Envoy's admin endpoint shows no listener: {listeners}");
        };
        self.listener.set_port(port);
        Ok(())
    }

    /// The body of `GET path` at the admin endpoint.
    pub fn admin_get(&self, path: &str) -> Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        let response = client::send(self.admin, request.as_bytes())?;
        if response.status != 200 {
            bail!(
                "Envoy's admin endpoint answers {} to {path}",
                response.status
            );
        }
        Ok(response.text())
    }

    /// Whether Envoy still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.process.child.try_wait(), Ok(None))
    }
}

fn tail(lines: &[String]) -> String {
    let start = lines.len().saturating_sub(12);
    lines.get(start..).unwrap_or_default().join("\n")
}

/// A new directory for the files of one run.
fn run_dir() -> Result<PathBuf> {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("portcullis-envoy-{}-{run}", std::process::id()));
    // Left over by a process that had the same id.
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir)
        .with_context(|| format!("cannot make the directory `{}`", dir.display()))?;
    Ok(dir)
}

/// Envoy's process and its files, and a watcher that ends both when this process ends without
/// running any destructor: by a signal, an abort or an exit. The watcher notices by the end of a pipe that
/// only we hold.
#[derive(Debug)]
struct Process {
    child: Child,
    watcher: Option<Child>,
    dir: PathBuf,
}

impl Process {
    fn new(child: Child, dir: PathBuf) -> Result<Process> {
        let mut process = Process {
            child,
            watcher: None,
            dir,
        };
        let watcher = Command::new("sh")
            .args([
                "-c",
                "read -r _; kill \"$1\" 2>/dev/null; rm -rf -- \"$2\"",
                "watcher",
            ])
            .arg(process.child.id().to_string())
            .arg(&process.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Out of reach of the terminal's Ctrl-C, which it has to outlive.
            .process_group(0)
            .spawn()
            .context("cannot start `sh`, which ends Envoy should this process be killed")?;
        process.watcher = Some(watcher);
        Ok(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // First the watcher, so that it cannot signal a process id that is somebody else's by then.
        if let Some(watcher) = &mut self.watcher {
            let _ = watcher.kill();
            let _ = watcher.wait();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
