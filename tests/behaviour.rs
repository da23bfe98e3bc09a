//! Behaviour over many requests in a real Envoy with two workers: what both see counts together, what is told again and again is
//! told once, and a new configuration forgets nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use portcullis_harness::capture::{Reader, Record};
use portcullis_harness::cli::{EngineArgs, EngineKind};
use portcullis_harness::demo::client;
use portcullis_harness::report::Alert;
use portcullis_tests::{Gateway, SQL_INJECTION, get, wasm};

/// Two workers, and clients named by the trusted proxy in front of them: the last address of X-Forwarded-For.
fn gateway(plugin: &str) -> Gateway {
    Gateway::start_workers(2, |config| {
        config.plugin(plugin)?.edit(
            "use_remote_address: true",
            "use_remote_address: true\n          xff_num_trusted_hops: 1",
        )
    })
    .unwrap()
}

/// Every alert in a line of its own.
const UNFOLDED: &str = r#"{"incidents": {"fold": false}}"#;

/// A request from this client.
fn from(client: &str, target: &str) -> Vec<u8> {
    get(
        target.as_bytes(),
        format!("X-Forwarded-For: {client}\r\n").as_bytes(),
    )
}

/// Sends a request over so many connections of its own, a few at the same time.
fn send(gateway: &Gateway, request: &[u8], times: usize) {
    const CLIENTS: usize = 4;
    let address = gateway.address();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for _ in (client..times).step_by(CLIENTS) {
                    let status = client::send(address, request).unwrap().status;
                    assert!([200, 404].contains(&status), "{status}");
                }
            });
        }
    });
}

/// Connections that each worker has taken.
fn connections(gateway: &Gateway) -> Vec<u64> {
    let text = gateway.admin("/stats?filter=listener.*worker_.*downstream_cx_total");
    let counts = text.lines().filter_map(|line| line.rsplit(' ').next());
    counts.map(|count| count.parse().unwrap()).collect()
}

/// The alerts of this rule.
fn of_rule<'a>(alerts: &'a [Alert], rule: &str) -> Vec<&'a Alert> {
    let is_of = |alert: &&Alert| {
        alert.text("RuleId") == rule
            || alert.0["ExtendedProperties"]["Correlation"]["RuleId"] == rule
    };
    alerts.iter().filter(is_of).collect()
}

/// Thirty injections within two minutes.
const BY_THE_DOZEN: &str = "363f723b-93c2-44b0-84a3-360d52777ed1";

#[test]
fn one_source_over_two_workers_reaches_a_threshold_once() {
    let gateway = gateway(UNFOLDED);
    let request = from("203.0.113.7", SQL_INJECTION);
    send(&gateway, &request, 29);
    // Another source counts for itself.
    send(&gateway, &from("203.0.113.8", SQL_INJECTION), 20);
    let alerts = gateway.alerts();
    assert!(of_rule(&alerts, BY_THE_DOZEN).is_empty(), "{alerts:?}");
    let taken = connections(&gateway);
    assert!(
        taken.len() == 2 && taken.iter().all(|count| *count > 0),
        "one worker took every connection: {taken:?}"
    );
    send(&gateway, &request, 1);
    let alerts = gateway.alerts();
    let [alert] = of_rule(&alerts, BY_THE_DOZEN)[..] else {
        panic!("{alerts:?}");
    };
    let counted = &alert.0["ExtendedProperties"]["Correlation"];
    assert_eq!(counted["Count"], 30, "{alert:?}");
    assert_eq!(counted["GroupKey"]["c-ip"], "203.0.113.7", "{alert:?}");
    // At the same time on both workers, and once all the same.
    send(&gateway, &from("203.0.113.9", SQL_INJECTION), 120);
    let alerts = gateway.alerts();
    assert_eq!(of_rule(&alerts, BY_THE_DOZEN).len(), 1, "{alerts:?}");
    assert_eq!(alerts.len(), 121, "120 injections and what they come to");
    assert_eq!(gateway.stat("wasmcustom.portcullis.uncounted_events"), 0);
    gateway.assert_alive();
    eprintln!("connections by worker: {:?}", connections(&gateway));
}

#[test]
fn a_forged_x_forwarded_for_makes_no_new_source_where_the_peer_is_asked() {
    let count = |is_peer_asked: &str| {
        let gateway = Gateway::start_workers(2, |config| {
            config.edit(
                "use_remote_address: true",
                &format!("use_remote_address: {is_peer_asked}"),
            )
        })
        .unwrap();
        for client in 1..=30 {
            gateway.send(&from(&format!("203.0.113.{client}"), SQL_INJECTION));
        }
        let alerts = gateway.alerts();
        of_rule(&alerts, BY_THE_DOZEN).len()
    };
    assert_eq!(count("true"), 1);
    // Without it thirty sources ask once each: that is what the docs and `config check` warn of.
    assert_eq!(count("false"), 0);
}

#[test]
fn a_policy_may_leave_each_worker_to_itself() {
    let gateway = gateway(r#"{"incidents": {"fold": false}, "state": {"shared": false}}"#);
    send(&gateway, &from("203.0.113.7", SQL_INJECTION), 34);
    let alerts = gateway.alerts();
    let taken = connections(&gateway);
    // The canary of `alerts` has come as well.
    let is_uneven = taken.iter().any(|count| *count >= 30);
    assert!(
        of_rule(&alerts, BY_THE_DOZEN).is_empty() || is_uneven,
        "{taken:?}"
    );
    gateway.assert_alive();
}

#[test]
fn what_a_source_does_again_and_again_is_told_at_powers_of_ten_and_counted_always() {
    let gateway = gateway(r#"{"incidents": {"fold": true}}"#);
    let request = from("203.0.113.7", SQL_INJECTION);
    // Two at the same time may leave their lines in any order.
    for times in [1, 8, 1, 89, 1] {
        send(&gateway, &request, times);
    }
    // Another source, and another host of the same one, are told of at once.
    send(&gateway, &from("203.0.113.8", SQL_INJECTION), 1);
    let elsewhere = String::from_utf8(request).unwrap();
    let elsewhere = elsewhere.replace("shop.example", "blog.example");
    send(&gateway, elsewhere.as_bytes(), 2);
    let alerts: Vec<Alert> = gateway.alerts();
    let alerts: Vec<&Alert> = alerts
        .iter()
        .filter(|alert| alert.alert_type() == "Gateway_SqlInjection")
        .collect();
    let incident = |alert: &Alert| alert.0["ExtendedProperties"]["Incident"].clone();
    let counts: Vec<u64> = alerts
        .iter()
        .map(|alert| incident(alert)["Count"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, [1, 10, 100, 1, 101]);
    let (first, hundredth, other) = (
        incident(alerts[0]),
        incident(alerts[2]),
        incident(alerts[3]),
    );
    assert_eq!(first["Id"], hundredth["Id"]);
    assert_ne!(first["Id"], other["Id"]);
    assert_eq!(first["FirstSeen"], hundredth["FirstSeen"]);
    assert!(hundredth["LastSeen"].as_str() > hundredth["FirstSeen"].as_str());
    assert_eq!(hundredth["DistinctTargets"], 1);
    assert_eq!(incident(alerts[4])["DistinctTargets"], 2);
    // Counters and the access log are about requests.
    let counted = "wasmcustom.portcullis.alerts.Gateway_SqlInjection.detected";
    assert_eq!(gateway.stat(counted), 103);
    assert_eq!(gateway.stat("wasmcustom.portcullis.folded_alerts"), 98);
    assert_eq!(
        gateway.access_log_entry(SQL_INJECTION)["alert_type"],
        "Gateway_SqlInjection"
    );
    gateway.assert_alive();
}

/// The filter of the example as a resource of its own, that Envoy watches for changes.
struct Extension {
    dir: PathBuf,
    block: String,
}

impl Extension {
    fn new() -> Extension {
        let dir = std::env::temp_dir().join(format!("portcullis-ecds-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let example = include_str!("../envoy/envoy.yaml");
        let begin = example
            .find("            typed_config:\n              \"@type\": type.googleapis.com/envoy.extensions.filters.http.wasm")
            .unwrap();
        let end = example
            .find("          - name: envoy.filters.http.router")
            .unwrap();
        let path = wasm().canonicalize().unwrap();
        let block = example[begin..end].replace(
            "filename: /etc/portcullis/portcullis_http.wasm",
            &format!("filename: {:?}", path.to_str().unwrap()),
        );
        Extension { dir, block }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("filter.yaml")
    }

    fn configure(&self, version: u32, plugin: &str) {
        let block = self.block.replace(r#"{"mode": "detect"}"#, plugin);
        let indented = block.replace("\n            ", "\n  ");
        let text = format!(
            "version_info: \"{version}\"\nresources:\n- \"@type\": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig\n  name: portcullis\n  {}\n",
            indented.trim()
        );
        let new = self.dir.join("new.yaml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn counts_survive_a_new_configuration() {
    let extension = Extension::new();
    extension.configure(1, UNFOLDED);
    let gateway = Gateway::start_workers(2, |config| {
        let discovery = format!(
            "            config_discovery:\n              config_source: {{resource_api_version: V3, path_config_source: {{path: {:?}}}}}\n              type_urls: [type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm]\n",
            extension.path()
        );
        config
            .edit(&extension.block, &discovery)?
            .edit("\nadmin:\n", "\nnode: {id: edge, cluster: edge}\nadmin:\n")
    });
    let gateway = gateway.unwrap_or_else(|error| panic!("{error:#}"));
    let request = get(SQL_INJECTION.as_bytes(), b"");
    send(&gateway, &request, 25);
    let alerts = gateway.alerts();
    assert_eq!(alerts.len(), 25, "{alerts:?}");
    // From now on back doors are refused; that tells when the configuration has arrived at the workers.
    extension.configure(
        2,
        r#"{"mode": "block", "block": {"min_confidence": 0}, "incidents": {"fold": false}}"#,
    );
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut refused = 0;
    while refused < 10 {
        assert!(
            Instant::now() < deadline,
            "the configuration did not arrive"
        );
        match gateway.send(&get(b"/uploads/c99.php", b"")).status {
            403 => refused += 1,
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    let injection = |times| {
        for _ in 0..times {
            gateway.send(&request);
        }
        gateway.alerts()
    };
    let alerts = injection(4);
    assert!(of_rule(&alerts, BY_THE_DOZEN).is_empty(), "{alerts:?}");
    let alerts = injection(1);
    let [alert] = of_rule(&alerts, BY_THE_DOZEN)[..] else {
        panic!("the count began anew: {alerts:?}");
    };
    let count = &alert.0["ExtendedProperties"]["Correlation"]["Count"];
    assert_eq!(count, 30, "{alert:?}");
    gateway.assert_alive();
}

/// Time is the event's, so what a log tells afterwards is what came live.
#[test]
fn a_replay_of_the_access_log_raises_the_alerts_that_came_live_in_the_same_order() {
    let gateway = Gateway::with(UNFOLDED);
    let pages = [
        "/.env",
        "/.git/config",
        "/backup.sql",
        "/wp-config.php.bak",
        "/.aws/credentials",
        "/phpmyadmin/index.php",
        "/actuator/env",
        "/.svn/entries",
        "/docker-compose.yml",
        "/.vscode/sftp.json",
    ];
    for (number, page) in pages.into_iter().enumerate() {
        gateway.get(page, "");
        gateway.get("/products?page=2", "");
        if number % 3 == 0 {
            gateway.get(SQL_INJECTION, "");
        }
    }
    for number in 0..32 {
        gateway.get(
            &format!("/products?id={number}'+union+select+password+from+users--+-"),
            "",
        );
    }
    let told = |alert: &Alert| {
        (
            alert.text("RuleTitle").to_owned(),
            alert.text("Target").to_owned(),
        )
    };
    let live: Vec<_> = gateway.alerts().iter().map(told).collect();
    gateway.get("/the-end", "");
    gateway.access_log_entry("/the-end");

    let config = std::env::temp_dir().join(format!("portcullis-order-{}.json", std::process::id()));
    std::fs::write(&config, UNFOLDED).unwrap();
    let rules = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../rules");
    for kind in [EngineKind::Wasm, EngineKind::Native] {
        let args = EngineArgs {
            kind,
            filter: wasm(),
            config: Some(config.clone()),
            rules: match kind {
                EngineKind::Native => vec![rules.clone()],
                EngineKind::Wasm => Vec::new(),
            },
            ..EngineArgs::default()
        };
        let mut engine = args.start().unwrap();
        let mut detector = engine.detectors().pop().unwrap();
        let mut reader = Reader::open(&gateway.access_log(), None).unwrap();
        let (mut record, mut replayed) = (Record::default(), Vec::new());
        while let Some(read) = reader.read(&mut record) {
            read.unwrap();
            let mut alerts = Vec::new();
            let verdict = detector.inspect(&record, &mut alerts);
            assert_eq!(verdict.failure, None);
            replayed.extend(alerts.iter().map(told));
        }
        // The request by which the test knows that a gateway answers is in the log as well.
        replayed.retain(|(_, target)| !target.contains("This_Will_Generate_ASC_Alert"));
        assert_eq!(replayed, live, "{kind:?}");
    }
    std::fs::remove_file(config).unwrap();
    let correlated = [
        "Many sensitive pages asked for by one source",
        "Injection after injection by one source",
    ];
    let counted = live
        .iter()
        .filter(|(title, _)| correlated.contains(&&**title))
        .count();
    eprintln!(
        "{} alerts live and replayed, {counted} of correlations",
        live.len()
    );
    assert!(live.len() > 40 && counted >= 2, "{live:?}");
}
