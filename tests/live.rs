//! Settings that change while a real Envoy serves: over ECDS, over LDS, and as a whole configuration in a route (composite).
//! Each update takes effect without a restart and without a lost request, and a wrong one is refused while the
//! old one goes on, with the reason in the log and a counter.
//!
//! The control plane is a file that Envoy watches; what it takes and refuses is the same over gRPC.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis_harness::demo::client;
use portcullis_harness::demo::envoy::with_filter;
use portcullis_tests::{Gateway, SQL_INJECTION, get, wasm};

/// How long an update may take to arrive on a busy machine.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

const DETECT: &str = r#"'{"mode": "detect"}'"#;

/// A file that Envoy watches.
struct Resource {
    dir: PathBuf,
    text: String,
}

impl Resource {
    fn new(name: &str, text: String) -> Resource {
        let dir =
            std::env::temp_dir().join(format!("portcullis-live-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let resource = Resource { dir, text };
        resource.put(&resource.text);
        resource
    }

    fn path(&self) -> String {
        self.dir.join("resource.yaml").display().to_string()
    }

    /// Moves a new file over the old one: that is what Envoy watches for.
    fn put(&self, text: &str) {
        let new = self.dir.join("new.yaml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.dir.join("resource.yaml")).unwrap();
    }

    /// The same with another plugin configuration in place of `from`.
    fn put_configuration(&self, from: &str, to: &str) {
        assert_eq!(self.text.matches(from).count(), 1, "{from}");
        self.put(&self.text.replace(from, &format!("'{to}'")));
    }
}

impl Drop for Resource {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Waits until this holds.
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + ARRIVES_WITHIN;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends ordinary requests, one after the other and each on a connection of its own, for as long as `meanwhile` takes.
/// Returns how many were answered how; an answer that did not come is status 0.
fn with_traffic(gateway: &Gateway, meanwhile: impl FnOnce()) -> BTreeMap<u16, u32> {
    let (address, is_over) = (gateway.address(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut statuses = BTreeMap::new();
            let request = get(b"/", b"");
            while !is_over.load(Ordering::Relaxed) {
                let status = client::send(address, &request).map_or(0, |answer| answer.status);
                *statuses.entry(status).or_default() += 1;
            }
            statuses
        });
        // Also when the test fails in between, or the scope never ends.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let over = Over(&is_over);
        meanwhile();
        drop(over);
        traffic.join().unwrap()
    })
}

/// One way to bring a configuration, with an attack on the place that it is about.
struct Way<'a> {
    gateway: &'a Gateway,
    resource: &'a Resource,
    /// The configuration in the resource as it is.
    configuration: &'a str,
    attack: &'a str,
    /// The counter of refused updates.
    rejected: &'a str,
}

impl Way<'_> {
    fn attack(&self) -> u16 {
        self.gateway.get(self.attack, "").status
    }

    /// Blocks, then lets pass, then stays as it is whatever wrong is sent, and all the while loses no request.
    fn changes_live(&self) {
        let put = |to: &str| self.resource.put_configuration(self.configuration, to);
        let statuses = with_traffic(self.gateway, || {
            put(r#"{"mode": "detect", "block": {"status": 418}}"#);
            wait_until("it detects", || self.attack() == 200);
            put(r#"{"mode": "block", "block": {"status": 418}}"#);
            wait_until("it blocks", || self.attack() == 418);
            let wrong = [
                (r#"{"mode": "blok"}"#.to_owned(), "did you mean `block`?"),
                (r#"{"mode": 1}"#.to_owned(), "`1` stands where a text is expected"),
                (r#"{"rules": {"disable": ["942100"]}}"#.to_owned(), "`942100` is neither the id of a rule"),
                (
                    r#"{"exceptions": [{"rules": ["injection"], "path": "/a"}, {"rules": ["injection"], "path": "/a"}]}"#.to_owned(),
                    "exceptions[2] says what exceptions[1] says",
                ),
                (r#"{"mode": "off"}"#.to_owned(), "it switches everything off"),
                (format!(r#"{{"mode": "{}"}}"#, "x".repeat(1 << 20)), "is none of"),
            ];
            let mut rejected = self.gateway.stat(self.rejected);
            assert_eq!(rejected, 0);
            for (configuration, reason) in &wrong {
                put(configuration);
                wait_until(reason, || self.gateway.stat(self.rejected) > rejected);
                rejected = self.gateway.stat(self.rejected);
                assert_eq!(self.attack(), 418, "the old one goes on: {reason}");
                self.gateway.alerts();
                let log = self.gateway.log.borrow();
                assert!(
                    log.iter().any(|line| line.contains(reason)),
                    "{reason}: {log:?}"
                );
            }
            // And after all that a right one is taken.
            put(r#"{"mode": "detect", "routes": []}"#);
            wait_until("it detects again", || self.attack() == 200);
        });
        // The upstream knows no other answer to this.
        let answered: Vec<u16> = statuses.keys().copied().collect();
        assert_eq!(answered, [200], "{statuses:?}");
        assert!(statuses.values().sum::<u32>() >= 20, "{statuses:?}");
        self.gateway.assert_alive();
    }
}

#[test]
fn ecds_brings_a_new_configuration_and_keeps_the_old_one_if_it_is_wrong() {
    let filter = with_filter(include_str!("../envoy/ecds-filter.yaml"), &wasm()).unwrap();
    let resource = Resource::new("ecds", filter);
    let gateway = Gateway::of(include_str!("../envoy/ecds.yaml"), |config| {
        config.edit(
            "path: /etc/portcullis/ecds-filter.yaml",
            &format!("path: {}", resource.path()),
        )
    })
    .unwrap();
    Way {
        gateway: &gateway,
        resource: &resource,
        configuration: DETECT,
        attack: SQL_INJECTION,
        rejected: "extension_config_discovery.http_filter.portcullis.update_rejected",
    }
    .changes_live();
}

#[test]
fn lds_brings_a_new_configuration_and_keeps_the_old_one_if_it_is_wrong() {
    // The listener of the example by itself, as the discovery service gives it.
    let example = with_filter(include_str!("../envoy/envoy.yaml"), &wasm()).unwrap();
    let begin = example.find("  listeners:\n").unwrap();
    let end = example.find("  clusters:\n").unwrap();
    let listener: String = example[begin..end]
        .lines()
        .skip(1)
        .map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line)))
        .collect();
    let listener = listener.replacen(
        "- name: edge\n",
        "- \"@type\": type.googleapis.com/envoy.config.listener.v3.Listener\n  name: edge\n",
        1,
    );
    // An update is for the same address, so it cannot be a port that each version finds anew.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let dir = std::env::temp_dir().join(format!("portcullis-live-log-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let listener = listener
        .replace("port_value: 10000", &format!("port_value: {port}"))
        .replace(
            "path: /dev/stdout",
            &format!("path: {}", dir.join("access.log").display()),
        );
    let resource = Resource::new("lds", format!("resources:\n{listener}"));
    let lds = format!(
        "dynamic_resources:\n  lds_config: {{resource_api_version: V3, path_config_source: {{path: {}}}}}\n\
         node: {{id: edge, cluster: edge}}\n# path: /dev/stdout port_value: 10000\n\nstatic_resources:\n",
        resource.path()
    );
    let bootstrap = format!("{}{}", &example[..begin], &example[end..]).replacen(
        "static_resources:\n",
        &lds,
        1,
    );
    let gateway = Gateway::of(&bootstrap, Ok).unwrap();
    assert_eq!(gateway.address().port(), port);
    Way {
        gateway: &gateway,
        resource: &resource,
        configuration: DETECT,
        attack: SQL_INJECTION,
        rejected: "listener_manager.lds.update_rejected",
    }
    .changes_live();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_whole_configuration_in_a_route_is_checked_before_the_route_table_is_taken() {
    let routes = with_filter(include_str!("../envoy/composite-routes.yaml"), &wasm()).unwrap();
    let resource = Resource::new("composite", routes);
    let example = with_filter(include_str!("../envoy/composite.yaml"), &wasm()).unwrap();
    let gateway = Gateway::of(&example, |config| {
        config.edit(
            "path: /etc/portcullis/composite-routes.yaml",
            &format!("path: {}", resource.path()),
        )
    })
    .unwrap();
    let attack = SQL_INJECTION.replace("/product", "/login");
    // As the examples stand.
    assert_eq!(gateway.get(&attack, "").status, 403);
    assert_eq!(gateway.get(SQL_INJECTION, "").status, 200);
    assert_eq!(gateway.alerts().len(), 2);
    Way {
        gateway: &gateway,
        resource: &resource,
        configuration: r#"'{"mode": "block"}'"#,
        attack: &attack,
        rejected: "http.edge.rds.edge.update_rejected",
    }
    .changes_live();
}
