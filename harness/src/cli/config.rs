//! `portcullis config`: what a gateway's configuration says to the filter, before the gateway reads it.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use portcullis::policy::{Policy, PolicyError, live};
use portcullis::ruleset::RuleSet;
use portcullis_compiler::ast::Number;
use portcullis_compiler::diagnostic::{Diagnostic, Report, Severity};
use portcullis_compiler::source::{Source, Span};
use portcullis_compiler::yaml::{self, Kind, Node, Plain};
use serde_json::Value;

use super::rules;
use crate::report::{Colour, Style};

/// What the command line says.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Find mistakes in a plugin configuration, an Envoy configuration or a Kubernetes manifest
    Check(CheckArgs),
}

/// See [`Command::Check`].
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads plugin configurations in JSON, and YAML of Envoy (bootstrap, listeners, routes), Istio \
    (WasmPlugin) and Envoy Gateway (EnvoyExtensionPolicy, HTTPRoute). Only what concerns this filter is looked at: whether \
    Envoy accepts the rest, `envoy --mode validate` tells.\n\nExit status: 0 if there is no error, 1 if there is one, \
    2 for a wrong command line."
)]
pub struct CheckArgs {
    /// The rules that run, whose names a configuration may use [default: rules]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    rules: Vec<PathBuf>,
    /// A line for each finding
    #[arg(long)]
    short: bool,
    /// Configurations
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Runs it.
pub fn run(command: &Command) -> Result<bool> {
    let Command::Check(args) = command;
    let rules = rules::load(&args.rules)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let style = Style::of(&io::stdout());
    let mut is_good = true;
    for file in &args.files {
        let (found, places) = check(file, &rules)?;
        for one in &found {
            if args.short {
                writeln!(out, "{}", one.one_line())?;
            } else {
                writeln!(out, "{one}")?;
            }
        }
        let errors = found
            .iter()
            .filter(|one| one.severity == Severity::Error)
            .count();
        is_good &= errors == 0;
        let verdict = if errors == 0 {
            style.paint(Colour::Green, "good")
        } else {
            style.paint(Colour::Red, "refused")
        };
        writeln!(
            out,
            "{}: {verdict}: {places} of the filter's settings, {errors} errors, {} warnings",
            file.display(),
            found.len() - errors,
        )?;
    }
    out.flush()?;
    Ok(is_good)
}

/// What is to be said about a file, and how many places in it speak to the filter.
fn check(file: &Path, rules: &RuleSet) -> Result<(Vec<Diagnostic>, usize)> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.display().to_string();
    let source = Source::new(name, String::from_utf8_lossy(&bytes));
    let mut checker = Checker {
        rules,
        report: Report::new(source),
        places: 0,
        vms: Vec::new(),
        body_bytes: 0,
        has_filter: false,
    };
    // A plugin configuration by itself; as YAML it would be a map of anything.
    if bytes.trim_ascii_start().starts_with(b"{") {
        let whole = Span::new(0, bytes.len());
        checker.plugin(whole, &bytes);
        return Ok((checker.report.finish(), checker.places));
    }
    let documents = yaml::read(&mut checker.report);
    for document in &documents {
        checker.walk(document);
    }
    checker.vms();
    checker.buffers(&documents);
    if checker.places == 0 && !checker.has_filter && checker.report.is_empty() {
        let help = "name a file with the filter's plugin configuration, or with routes that have metadata for it";
        checker.report.warning(
            "no-filter",
            Span::default(),
            "nothing here speaks to Portcullis",
            help,
        );
    }
    Ok((checker.report.finish(), checker.places))
}

struct Checker<'r> {
    rules: &'r RuleSet,
    report: Report,
    places: usize,
    vms: Vec<Vm>,
    /// The most bytes of a body that any configuration holds back.
    body_bytes: u64,
    /// A filter of ours is there, though its settings may not be.
    has_filter: bool,
}

/// What tells the VM of a plugin from others, and the plugin from others in it.
struct Vm {
    id: String,
    name: String,
    configuration: String,
    span: Span,
}

impl Checker<'_> {
    fn policy(&mut self, span: Span, read: Result<(), PolicyError>) {
        self.places += 1;
        if let Err(error) = read {
            let text = error.to_string();
            let reason = text
                .strip_prefix("configuration refused: ")
                .unwrap_or(&text);
            let help = "docs/POLICY.md has every key";
            self.report.error("wrong-setting", span, reason, help);
        }
    }

    /// A layer of settings as one JSON text.
    fn layer(&mut self, node: &Node) {
        let text = node.text().unwrap_or_default();
        self.policy(node.span, live::read(text.as_bytes(), self.rules).map(drop));
    }

    fn plugin(&mut self, span: Span, configuration: &[u8]) {
        let read = Policy::load(configuration, || Ok(self.rules.clone()));
        if let Ok((policy, _)) = &read {
            let bodies = (policy.routes.iter().map(|route| route.policy.body))
                .chain([policy.gateway.body])
                .filter(|body| body.inspect != Some(false))
                .map(|body| u64::from(body.max_bytes.unwrap_or(u16::MAX)));
            self.body_bytes = bodies.max().unwrap_or(0).max(self.body_bytes);
        }
        self.policy(span, read.map(drop));
    }

    fn walk(&mut self, node: &Rc<Node>) {
        match kind_of(node) {
            Some("WasmPlugin") => return self.istio(node),
            Some("EnvoyExtensionPolicy") => return self.envoy_gateway(node),
            Some("HTTPRoute") => return self.http_route(node),
            _ => {}
        }
        if node.get("vm_config").is_some() {
            self.envoy_plugin(node);
        }
        if node.get("http_filters").is_some() {
            self.connection_manager(node);
        }
        if let Some(fields) = node
            .get("filter_metadata")
            .and_then(|all| all.get("portcullis"))
        {
            self.metadata(fields);
        }
        match &node.kind {
            Kind::Scalar(_) => {}
            Kind::List(items) => items.iter().for_each(|item| self.walk(item)),
            Kind::Map(entries) => entries.iter().for_each(|(_, value)| self.walk(value)),
        }
    }

    /// The `config` of Envoy's `envoy.filters.http.wasm`.
    fn envoy_plugin(&mut self, plugin: &Node) {
        if !is_ours(plugin) {
            return;
        }
        let configuration = plugin.get("configuration");
        let kind = configuration
            .and_then(|any| any.get("@type")?.text())
            .and_then(|url| url.rsplit('.').next());
        let value = configuration.and_then(|any| any.get("value"));
        match (configuration, kind, value) {
            (None, ..) => self.places += 1,
            (Some(_), Some("StringValue"), Some(value)) => {
                let text = value.text().unwrap_or_default();
                self.plugin(value.span, text.as_bytes());
            }
            (Some(_), Some("Struct"), Some(value)) => {
                self.plugin(value.span, json(value).to_string().as_bytes());
            }
            (Some(_), Some("BytesValue"), Some(value)) => {
                let text: String = value
                    .text()
                    .unwrap_or_default()
                    .split_whitespace()
                    .collect();
                match base64::engine::general_purpose::STANDARD.decode(&text) {
                    Ok(bytes) => self.plugin(value.span, &bytes),
                    Err(error) => {
                        self.places += 1;
                        let message =
                            format!("the bytes of the configuration are no Base64: {error}");
                        let help = "write what `base64 -w0 FILE` prints";
                        self.report
                            .error("configuration", value.span, message, help);
                    }
                }
            }
            (Some(any), ..) => {
                self.places += 1;
                let help = "write `{\"@type\": type.googleapis.com/google.protobuf.StringValue, value: '{…}'}`";
                let message = "this form of a configuration is not checked here";
                self.report
                    .warning("unchecked-configuration", any.span, message, help);
            }
        }
        let reloads = plugin
            .get("failure_policy")
            .is_some_and(|policy| policy.text() == Some("FAIL_RELOAD"));
        if !reloads {
            let span = plugin
                .get("failure_policy")
                .map_or(plugin.span, |policy| policy.span);
            let message = "should the filter ever trap, every later request is answered 503, or passes unseen";
            let help = "write `failure_policy: FAIL_RELOAD`";
            self.report.warning("failure-policy", span, message, help);
        }
        fn text(node: Option<&Rc<Node>>) -> String {
            node.and_then(|node| node.text())
                .unwrap_or_default()
                .to_owned()
        }
        if let Some(open) = plugin.get("fail_open") {
            let message =
                "`fail_open` is deprecated, and what passes after a trap is seen by nobody";
            let help = "write `failure_policy: FAIL_RELOAD` in its place";
            self.report
                .warning("failure-policy", open.span, message, help);
        }
        if let Some(vm) = plugin.get("vm_config") {
            self.vms.push(Vm {
                id: text(vm.get("vm_id")),
                name: text(plugin.get("name")),
                configuration: configuration
                    .map(|any| json(any).to_string())
                    .unwrap_or_default(),
                span: plugin.span,
            });
        }
    }

    fn vms(&mut self) {
        let Some((first, rest)) = self.vms.split_first() else {
            return;
        };
        if let Some(other) = rest.iter().find(|other| other.id != first.id) {
            let message = format!(
                "filters of the vm_ids `{}` and `{}` do not share a VM: each takes memory in every worker",
                first.id, other.id
            );
            let help = "give all the same `vm_id`, and each a `name` of its own";
            self.report
                .warning("several-vms", other.span, message, help);
        }
        let twin = self.vms.iter().enumerate().find_map(|(at, vm)| {
            let mut earlier = self.vms.iter().take(at);
            let is_twin = |other: &&Vm| {
                (&other.id, &other.name) == (&vm.id, &vm.name)
                    && other.configuration != vm.configuration
            };
            earlier.find(is_twin).map(|_| vm)
        });
        if let Some(vm) = twin {
            let message = format!(
                "two configurations in one VM are called `{}`: the one that comes last holds for both",
                vm.name
            );
            let help = "give each configuration a `name` of its own";
            self.report.error("same-name", vm.span, message, help);
        }
    }

    /// A gateway that may not buffer what the filter waits for answers 413.
    fn buffers(&mut self, documents: &[Rc<Node>]) {
        fn limits(node: &Rc<Node>, found: &mut Vec<(i64, Span)>) {
            if let Some(limit) = node.get("per_connection_buffer_limit_bytes") {
                let bytes = limit.text().and_then(|text| text.parse().ok());
                found.extend(bytes.map(|bytes| (bytes, limit.span)));
            }
            match &node.kind {
                Kind::Scalar(_) => {}
                Kind::List(items) => items.iter().for_each(|item| limits(item, found)),
                Kind::Map(entries) => entries.iter().for_each(|(_, value)| limits(value, found)),
            }
        }
        let mut found = Vec::new();
        documents
            .iter()
            .for_each(|document| limits(document, &mut found));
        let most = i64::try_from(self.body_bytes).unwrap_or(i64::MAX);
        let too_small = found.iter().find(|(bytes, _)| *bytes < most);
        if let (Some((bytes, span)), true) = (too_small, self.has_filter) {
            let message = format!(
                "a body longer than this is answered 413: the filter waits for {most} bytes of it"
            );
            let help = format!(
                "write 65536 or more, or {{\"body\": {{\"max_bytes\": {bytes}}}}} into the filter's configuration"
            );
            self.report.warning("buffer-limit", *span, message, help);
        }
    }

    fn connection_manager(&mut self, manager: &Node) {
        let filters = manager.get("http_filters").map(|filters| filters.items());
        // By its own name too: what is discovered elsewhere, or matched, has its plugin out of sight.
        let mut filters = filters.into_iter().flatten();
        let is_filter = |filter: &Rc<Node>| {
            let name = filter.get("name").and_then(|name| name.text());
            let plugin = filter
                .get("typed_config")
                .and_then(|typed| typed.get("config"));
            name.is_some_and(|name| name.to_ascii_lowercase().contains("portcullis"))
                || plugin.is_some_and(|plugin| is_ours(plugin))
        };
        if !filters.any(is_filter) {
            return;
        }
        self.has_filter = true;
        let is_on = manager
            .get("use_remote_address")
            .is_some_and(|on| on.text() == Some("true"));
        if !is_on {
            let message =
                "clients choose the source address of alerts themselves, in X-Forwarded-For";
            let help = "write `use_remote_address: true`, and behind load balancers of yours `xff_num_trusted_hops`";
            self.report
                .warning("use-remote-address", manager.span, message, help);
        }
    }

    fn metadata(&mut self, fields: &Node) {
        let keys = fields.entries().iter().filter_map(|(key, _)| key.text());
        match live::policy_of(keys.map(|key| (key.as_bytes(), &b""[..]))) {
            Err(error) => self.policy(fields.span, Err(error)),
            Ok(_) => match fields.get("policy") {
                Some(policy) if policy.text().is_some() => self.layer(policy),
                _ => {
                    let help =
                        "write the settings as one JSON text: policy: '{\"mode\": \"block\"}'";
                    let message = "`policy` is missing or no text";
                    self.places += 1;
                    self.report
                        .error("wrong-setting", fields.span, message, help);
                }
            },
        }
    }

    fn istio(&mut self, manifest: &Node) {
        let Some(spec) = manifest.get("spec") else {
            return;
        };
        match spec.get("pluginConfig") {
            Some(config) => self.plugin(config.span, json(config).to_string().as_bytes()),
            None => self.places += 1,
        }
        let strategy = spec
            .get("failStrategy")
            .and_then(|strategy| strategy.text());
        if strategy != Some("FAIL_RELOAD") {
            let message =
                "should the filter ever trap, every later request is refused, or passes unseen";
            let help = "write `failStrategy: FAIL_RELOAD`";
            self.report
                .warning("failure-policy", spec.span, message, help);
        }
    }

    fn envoy_gateway(&mut self, manifest: &Node) {
        let plugins = manifest.get("spec").and_then(|spec| spec.get("wasm"));
        let plugins = plugins.map(|plugins| plugins.items()).unwrap_or_default();
        for plugin in plugins {
            match plugin.get("config") {
                Some(config) => self.plugin(config.span, json(config).to_string().as_bytes()),
                None => self.places += 1,
            }
            if plugin.get("failOpen").is_none() {
                let message = "should the filter ever trap, every later request is answered 503 until somebody changes the policy";
                let help = "write `failOpen: true`, with which they pass unseen, or `failOpen: false` if that is meant";
                self.report
                    .warning("failure-policy", plugin.span, message, help);
            }
        }
        if let [_, second, ..] = plugins {
            let message = "Envoy Gateway gives every entry a VM of its own in every worker";
            let help =
                "keep one entry, and tune routes by `routes` or by annotations of the HTTPRoute";
            self.report
                .warning("several-vms", second.span, message, help);
        }
    }

    fn http_route(&mut self, manifest: &Node) {
        let annotation = manifest
            .get("metadata")
            .and_then(|metadata| metadata.get("annotations"))
            .and_then(|annotations| annotations.get("gateway.envoyproxy.io/portcullis"));
        if let Some(text) = annotation {
            self.layer(text);
        }
    }
}

fn kind_of(node: &Node) -> Option<&str> {
    node.get("apiVersion")?;
    node.get("kind")?.text()
}

/// Whether a Wasm plugin is this filter, by its name or its file's.
fn is_ours(plugin: &Node) -> bool {
    fn names_us(node: &Node) -> bool {
        match &node.kind {
            Kind::Scalar(scalar) => scalar.text.to_ascii_lowercase().contains("portcullis"),
            Kind::List(items) => items.iter().any(|item| names_us(item)),
            Kind::Map(entries) => entries.iter().any(|(_, value)| names_us(value)),
        }
    }
    ["name", "root_id", "vm_config"]
        .iter()
        .filter_map(|key| plugin.get(key))
        .any(|node| names_us(node))
}

/// Whether it is one of these words, in lower case, upper case or with a capital.
fn is_word(text: &str, words: &[&str]) -> bool {
    let rest = text.get(1..).unwrap_or_default();
    let is_even = rest == rest.to_ascii_lowercase() || text == text.to_ascii_uppercase();
    is_even && words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// The JSON that a YAML value is.
fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Scalar(scalar) => match scalar.plain() {
            // YAML 1.1, which Envoy and Kubernetes read, knows more words for these.
            Plain::Text if !scalar.quoted && is_word(&scalar.text, &["on", "yes", "y"]) => {
                true.into()
            }
            Plain::Text if !scalar.quoted && is_word(&scalar.text, &["off", "no", "n"]) => {
                false.into()
            }
            Plain::Null => Value::Null,
            Plain::Bool(truth) => truth.into(),
            Plain::Number(Number::Integer(number)) => number.into(),
            // Envoy's loader makes a text of it.
            Plain::Number(Number::Float(_)) | Plain::Text => (*scalar.text).into(),
        },
        Kind::List(items) => items.iter().map(|item| json(item)).collect(),
        Kind::Map(entries) => {
            let entry = |(key, value): &(Rc<Node>, Rc<Node>)| {
                (key.text().unwrap_or_default().to_owned(), json(value))
            };
            Value::Object(entries.iter().map(entry).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn root(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
    }

    fn rules() -> RuleSet {
        super::rules::load(&[root("rules")]).unwrap()
    }

    #[test]
    fn the_examples_are_good() {
        let rules = rules();
        for (file, places) in [
            ("envoy/envoy.yaml", 1),
            ("envoy/routes.yaml", 3),
            ("envoy/ecds.yaml", 0),
            ("envoy/ecds-filter.yaml", 1),
            ("envoy/composite.yaml", 1),
            ("envoy/composite-routes.yaml", 1),
            ("envoy/istio.yaml", 1),
            ("envoy/envoy-gateway.yaml", 2),
        ] {
            let (found, seen) = check(&root(file), &rules).unwrap();
            assert!(found.is_empty(), "{file}: {found:#?}");
            assert_eq!(seen, places, "{file}");
        }
    }

    #[test]
    fn what_bites_is_named_with_its_place() {
        let rules = rules();
        let dir = std::env::temp_dir().join(format!("portcullis-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("x.yaml");
        let envoy = std::fs::read_to_string(root("envoy/envoy.yaml")).unwrap();
        let manifests = [
            "envoy/istio.yaml",
            "envoy/envoy-gateway.yaml",
            "envoy/routes.yaml",
        ]
        .map(|path| std::fs::read_to_string(root(path)).unwrap());
        let [istio, gateway, routes] = &manifests;
        let cases = [
            (
                &envoy,
                r#"{"mode": "detect"}'"#,
                r#"{"mod": "detect"}'"#,
                "wrong-setting]: unknown key `mod`",
            ),
            (
                &envoy,
                "use_remote_address: true",
                "use_remote_address: false",
                "use-remote-address]",
            ),
            (
                &envoy,
                "failure_policy: FAIL_RELOAD",
                "failure_policy: FAIL_OPEN",
                "failure-policy]",
            ),
            (
                &envoy,
                "name: edge\n            virtual_hosts:",
                "name: edge\n            a: [",
                "error[",
            ),
            (
                istio,
                "mode: block",
                "mode: blocked",
                "wrong-setting]: routes[1].policy.mode: `blocked`",
            ),
            (
                &envoy,
                "failure_policy: FAIL_RELOAD",
                "failure_policy: FAIL_RELOAD\n                fail_open: true",
                "`fail_open` is deprecated",
            ),
            (
                &envoy,
                "  - name: edge\n    address",
                "  - name: edge\n    per_connection_buffer_limit_bytes: 32768\n    address",
                "buffer-limit]: a body longer than this is answered 413",
            ),
            (
                &envoy,
                "          - name: envoy.filters.http.router\n",
                "          - {name: portcullis-2, typed_config: {config: {name: portcullis, failure_policy: FAIL_RELOAD, vm_config: {vm_id: portcullis}}}}\n          - name: envoy.filters.http.router\n",
                "same-name]: two configurations in one VM are called `portcullis`",
            ),
            (
                &envoy,
                "          - name: envoy.filters.http.router\n",
                "          - {name: portcullis-2, typed_config: {config: {name: portcullis-2, failure_policy: FAIL_RELOAD, vm_config: {vm_id: other}}}}\n          - name: envoy.filters.http.router\n",
                "several-vms]",
            ),
            (
                istio,
                "mode: detect\n",
                "mode: off\n    confirm_off: true\n",
                "`false` stands where a text (YAML makes that of a bare off",
            ),
            (
                gateway,
                "    failOpen: true\n",
                "",
                "failure-policy]: should the filter ever trap",
            ),
            (
                istio,
                "failStrategy: FAIL_RELOAD",
                "failStrategy: FAIL_OPEN",
                "failure-policy]",
            ),
            (
                istio,
                "mode: detect\n",
                "mode: detect\n    block: {min_confidence: 0.5}\n",
                "`0.5` stands where",
            ),
            (
                gateway,
                "\"status\": 429",
                "\"status\": 200",
                "block.status: `200`",
            ),
            (
                gateway,
                "    config:\n      mode: detect\n",
                "  - name: b\n",
                "several-vms]",
            ),
            (
                routes,
                "[\"injection\"]",
                "[\"injektion\"]",
                "did you mean `injection`?",
            ),
            (
                routes,
                "{policy: '{\"mode\": \"block\"}'}",
                "{mode: block}",
                "unknown key `mode`",
            ),
        ];
        for (text, from, to, want) in cases {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            std::fs::write(&file, text.replace(from, to)).unwrap();
            let (found, _) = check(&file, &rules).unwrap();
            let lines: Vec<String> = found.iter().map(Diagnostic::one_line).collect();
            assert!(
                lines.iter().any(|line| line.contains(want)),
                "{to}: {lines:#?}"
            );
        }
        for (text, want) in [
            (r#"{"mode": "blok"}"#, "wrong-setting]: mode: `blok`"),
            ("a: 1\n", "no-filter]"),
            ("", "no-filter]"),
        ] {
            std::fs::write(&file, text).unwrap();
            let (found, _) = check(&file, &rules).unwrap();
            let lines: Vec<String> = found.iter().map(Diagnostic::one_line).collect();
            assert!(
                lines.iter().any(|line| line.contains(want)),
                "{text}: {lines:#?}"
            );
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
