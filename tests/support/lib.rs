//! What the tests share: an Envoy with the filter and what it logs, and clients that send any bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test that cannot go on fails"
)]

pub mod browser;
pub mod http2;

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::Result;
use portcullis::inspect::Inspector;
use portcullis::ruleset::RuleSet;
use portcullis_compiler::backend;
use portcullis_harness::demo::client::{self, Response};
use portcullis_harness::demo::envoy::{Config, Envoy};
use portcullis_harness::demo::{alert_in_log, upstream};
use portcullis_harness::report::Alert;

pub const BROWSER: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

/// A parameter that closes a string and reads another table.
pub const SQL_INJECTION: &str =
    "/product?id=1%27%20UNION%20SELECT%20username,password%20FROM%20users--%20-";

fn from_env(name: &str, otherwise: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os(name).map_or_else(|| root.join(otherwise), PathBuf::from)
}

/// The filter that `make wasm` builds.
pub fn wasm() -> PathBuf {
    from_env("PORTCULLIS_WASM", "target/portcullis_http.wasm")
}

/// The filter that sees responses, which `make wasm-response` builds.
pub fn wasm_response() -> PathBuf {
    from_env(
        "PORTCULLIS_WASM_RESPONSE",
        "target/portcullis_http_response.wasm",
    )
}

/// The filter for hosts that have little, which `make core` builds.
pub fn core() -> PathBuf {
    from_env("PORTCULLIS_CORE", "target/portcullis_core.wasm")
}

/// The Envoy that `make setup` installs.
pub fn envoy() -> PathBuf {
    from_env("PORTCULLIS_ENVOY", ".tools/bin/envoy")
}

/// The page that `make playground` builds.
pub fn playground() -> PathBuf {
    from_env("PORTCULLIS_PLAYGROUND", "target/playground/index.html")
}

/// The browser that `make setup` installs.
pub fn chromium() -> PathBuf {
    from_env("PORTCULLIS_CHROMIUM", "/usr/bin/chromium")
}

/// A tool of the project's own, if it is there.
pub fn tool(name: &str) -> PathBuf {
    from_env("", ".tools/bin").join(name)
}

/// The labelled traffic, where somebody has it and says so. It is not part of the project.
pub fn corpora() -> Option<PathBuf> {
    let dir = std::env::var_os("PORTCULLIS_CORPORA").filter(|dir| !dir.is_empty());
    if dir.is_none() {
        eprintln!("skipped: PORTCULLIS_CORPORA does not name a directory with labelled traffic");
    }
    dir.map(PathBuf::from)
}

/// The engine with the rules that ship.
pub fn inspector() -> Inspector {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
    let documents = portcullis_compiler::load_dir(&rules).unwrap_or_else(|error| panic!("{error}"));
    let compiled = backend::compile(&documents).unwrap_or_else(|errors| panic!("{errors:#?}"));
    Inspector::new(RuleSet::open(compiled.bytes).expect("the compiler's own bytes open"))
}

/// An Envoy with the filter in front of the demo's upstream, and what it has logged so far.
pub struct Gateway {
    envoy: RefCell<Envoy>,
    canaries: Cell<usize>,
    /// What Envoy logged beside alerts.
    pub log: RefCell<Vec<String>>,
}

impl Gateway {
    /// With a plugin configuration as JSON. Here as below every alert is written unless it speaks of incidents.
    pub fn with(plugin: &str) -> Gateway {
        Gateway::start(|config| config.plugin(plugin)).unwrap()
    }

    /// With edits to the example configuration; the error is that of an Envoy that does not start.
    pub fn start(edit: impl FnOnce(Config) -> Result<Config>) -> Result<Gateway> {
        Gateway::start_workers(1, edit)
    }

    /// The same with so many workers.
    pub fn start_workers(
        workers: u32,
        edit: impl FnOnce(Config) -> Result<Config>,
    ) -> Result<Gateway> {
        Gateway::run(edit(Config::new(&wasm(), upstream::start()?)?)?, workers)
    }

    /// The same with another build of the filter.
    pub fn with_filter(
        filter: &Path,
        edit: impl FnOnce(Config) -> Result<Config>,
    ) -> Result<Gateway> {
        Gateway::run(edit(Config::new(filter, upstream::start()?)?)?, 1)
    }

    /// With another example, edited.
    pub fn of(example: &str, edit: impl FnOnce(Config) -> Result<Config>) -> Result<Gateway> {
        Gateway::run(edit(Config::bootstrap(example, upstream::start()?)?)?, 1)
    }

    fn run(config: Config, workers: u32) -> Result<Gateway> {
        let envoy = Envoy::start(&envoy(), config.every_alert(), workers)?;
        Ok(Gateway {
            envoy: RefCell::new(envoy),
            canaries: Cell::new(0),
            log: RefCell::default(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        self.envoy.borrow().listener
    }

    /// Sends these bytes as a request.
    pub fn send(&self, request: &[u8]) -> Response {
        client::send(self.address(), request).unwrap()
    }

    /// Sends a browser's `GET` with these further header lines, each ended by CRLF.
    pub fn get(&self, target: &str, lines: &str) -> Response {
        self.send(&get(target.as_bytes(), lines.as_bytes()))
    }

    /// Every alert since the last call.
    ///
    /// A last request with an alert of its own tells that the alerts of all earlier ones have been read, since
    /// the log keeps their order.
    pub fn alerts(&self) -> Vec<Alert> {
        self.alerts_by("/This_Will_Generate_ASC_Alert")
    }

    /// The same under rules of one's own: a request for anything below `canary` must raise an alert.
    pub fn alerts_by(&self, canary: &str) -> Vec<Alert> {
        let number = self.canaries.replace(self.canaries.get() + 1);
        let target = format!("{canary}/{number}");
        self.get(&target, "");
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut alerts = Vec::new();
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            let line = match self.envoy.borrow().log.recv_timeout(wait) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("the alert for {target} did not come: {:?}", self.log)
                }
                Err(RecvTimeoutError::Disconnected) => panic!("Envoy ended: {:?}", self.log),
            };
            match alert_in_log(&line) {
                Some(alert) if alert.text("Target") == target => return alerts,
                Some(alert) => alerts.push(alert),
                None => self.log.borrow_mut().push(line),
            }
        }
    }

    /// The types of every alert since the last call, each once, in alphabetical order.
    pub fn alert_types(&self) -> Vec<String> {
        let mut types: Vec<String> = self
            .alerts()
            .iter()
            .map(|alert| alert.alert_type().to_owned())
            .collect();
        types.sort();
        types.dedup();
        types
    }

    /// The file of the access log.
    pub fn access_log(&self) -> PathBuf {
        self.envoy.borrow().access_log.clone()
    }

    /// The access log's entry for this path, once Envoy has written it.
    pub fn access_log_entry(&self, path: &str) -> serde_json::Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        let file = self.access_log();
        while Instant::now() < deadline {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let entries = text
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            if let Some(entry) = entries.into_iter().find(|entry| entry["path"] == path) {
                return entry;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no entry for {path} in the access log");
    }

    /// The body of `GET path` at the admin endpoint.
    pub fn admin(&self, path: &str) -> String {
        self.envoy.borrow().admin_get(path).unwrap()
    }

    /// The value of a counter or gauge; 0 if Envoy does not know it.
    pub fn stat(&self, name: &str) -> u64 {
        let text = self.admin(&format!("/stats?filter=^{}$", name.replace('.', "\\.")));
        text.trim()
            .rsplit(' ')
            .next()
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }

    /// The filter still works, and its VM is the one that it started with.
    pub fn assert_alive(&self) {
        self.alerts();
        self.assert_never_reloaded();
    }

    /// The VM is the one that it started with.
    pub fn assert_never_reloaded(&self) {
        assert!(self.envoy.borrow_mut().runs());
        for name in ["vm_reload", "vm_reload_failure", "vm_reload_backoff"] {
            let name = format!("wasm.portcullis.{name}");
            assert_eq!(
                self.stat(&name),
                0,
                "{name}: the filter trapped: {:?}",
                self.log.borrow()
            );
        }
        let text = self.admin("/stats?filter=wasm.*");
        assert!(
            text.contains("vm_reload"),
            "Envoy counts reloads under another name: {text}"
        );
    }
}

/// A browser's `GET` with these further header lines.
pub fn get(target: &[u8], lines: &[u8]) -> Vec<u8> {
    let user_agent = format!("User-Agent: {BROWSER}\r\n");
    let user_agent = if lines.to_ascii_lowercase().starts_with(b"user-agent:") {
        ""
    } else {
        &user_agent
    };
    let head = [
        b"GET ",
        target,
        b" HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n",
    ]
    .concat();
    [&head, user_agent.as_bytes(), lines, b"\r\n"].concat()
}
