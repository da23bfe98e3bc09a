//! Settings per route in a real Envoy: the configuration's table, and metadata that changes while Envoy runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use portcullis::limits;
use portcullis::policy::PolicyError;
use portcullis::policy::live::Cache;
use portcullis::ruleset::RuleSet;
use portcullis_harness::demo::client::Response;
use portcullis_tests::{Gateway, get};

const ROUTES: &str = include_str!("../envoy/routes.yaml");

/// A query that raises `Gateway_SqlInjection`, for any path.
const ATTACK: &str = "id=1%27%20UNION%20SELECT%20username,password%20FROM%20users--%20-";

/// The example's own routes, as they stand in `envoy/envoy.yaml`.
const INLINE: &str = "          route_config:
            name: edge
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - name: all
                match: {prefix: /}
                route: {cluster: upstream}
";

/// A file with routes that Envoy watches.
struct RouteFile {
    dir: PathBuf,
}

impl RouteFile {
    fn new(name: &str, text: &str) -> RouteFile {
        let dir =
            std::env::temp_dir().join(format!("portcullis-routes-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = RouteFile { dir };
        file.replace(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.dir.join("routes.yaml")
    }

    /// Moves a new file over the old one: that is what Envoy watches for.
    fn replace(&self, text: &str) {
        let new = self.dir.join("new.yaml");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    fn gateway(&self) -> Gateway {
        self.gateway_with(r#"{"mode": "detect"}"#)
    }

    fn gateway_with(&self, plugin: &str) -> Gateway {
        let rds = format!(
            "          rds:\n            route_config_name: edge\n            config_source: {{resource_api_version: V3, path_config_source: {{path: {}}}}}\n",
            self.path().display()
        );
        Gateway::start(|config| {
            config
                .plugin(plugin)?
                .edit(INLINE, &rds)?
                .edit("\nadmin:\n", "\nnode: {id: edge, cluster: edge}\nadmin:\n")
        })
        .unwrap()
    }
}

impl Drop for RouteFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn status(gateway: &Gateway, target: &str) -> u16 {
    gateway.get(target, "").status
}

/// Waits until an attack on this path is refused, or is not; an update takes a moment to arrive.
fn wait_until(gateway: &Gateway, target: &str, is_refused: bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while (status(gateway, target) == 429) != is_refused {
        assert!(
            Instant::now() < deadline,
            "{target}: not refused: {is_refused}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_table_of_the_configuration_tunes_by_host_path_method_and_route() {
    let gateway = Gateway::with(
        r#"{
        "routes": [
            {"match": {"path_prefix": "/api"}, "policy": {"mode": "block"}},
            {"match": {"path_prefix": "/api/docs"}, "policy": {"mode": "detect"}},
            {"match": {"host": "off.example"}, "policy": {"mode": "off"}},
            {"match": {"route": "all", "path": "/form"}, "policy": {"mode": "block", "block": {
                "status": 418, "body": "<p>refused, tell us {request_id}</p>", "headers": {"x-refused-by": "edge"}}}}
        ]}"#,
    );
    for (target, want) in [
        (format!("/?{ATTACK}"), 200),
        (format!("/api/v1?{ATTACK}"), 403),
        (format!("/x/..%2fapi/v1?{ATTACK}"), 403),
        (format!("/apiary?{ATTACK}"), 404),
        (format!("/api/docs?{ATTACK}"), 404),
        ("/api/v1?id=1".to_owned(), 404),
    ] {
        assert_eq!(status(&gateway, &target), want, "{target}");
    }
    assert_eq!(gateway.alerts().len(), 5);
    let off = get(format!("/api?{ATTACK}").as_bytes(), b"");
    let off = String::from_utf8(off)
        .unwrap()
        .replace("shop.example", "off.example");
    // A path is more specific than a host.
    assert_eq!(gateway.send(off.as_bytes()).status, 403);
    let off = off.replace("/api", "/");
    assert_eq!(gateway.send(off.as_bytes()).status, 200);
    assert_eq!(gateway.alerts().len(), 1);

    let answer = gateway.get(&format!("/form?{ATTACK}"), "X-Request-Id: <b>&\r\n");
    assert_eq!(answer.status, 418);
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(answer.header("x-refused-by"), Some("edge"));
    let text = answer.text();
    assert!(
        text.starts_with("<p>refused, tell us ") && !text.contains("<b>"),
        "{text}"
    );
    gateway.assert_alive();
}

#[test]
fn metadata_of_routes_takes_effect_without_a_restart() {
    let file = RouteFile::new("live", ROUTES);
    let gateway = file.gateway();
    let (login, other) = (format!("/login?{ATTACK}"), format!("/?{ATTACK}"));
    assert_eq!(
        status(&gateway, &login),
        429,
        "the virtual host's status, the route's mode"
    );
    assert_eq!(status(&gateway, &other), 200);
    assert_eq!(gateway.alert_types(), ["Gateway_SqlInjection"]);

    // What one parameter may hold, another may not.
    let payload = "1%27%20UNION%20SELECT%20username,password%20FROM%20users--%20-";
    gateway.get(&format!("/search?q={payload}"), "");
    assert!(gateway.alerts().is_empty());
    gateway.get(&format!("/search?q={payload}&id={payload}"), "");
    let alerts = gateway.alerts();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0].text("FieldName"), "id");
    assert_eq!(alerts[0].text("Route"), "search");

    // Off, on, and wrong: the gateway's own configuration, which detects, holds then.
    let edited = |from: &str, to: &str| {
        assert_eq!(ROUTES.matches(from).count(), 1, "{from}");
        ROUTES.replace(from, to)
    };
    let block = r#"{policy: '{"mode": "block"}'}"#;
    file.replace(&edited(block, r#"{policy: '{"mode": "detect"}'}"#));
    wait_until(&gateway, &login, false);
    file.replace(ROUTES);
    wait_until(&gateway, &login, true);
    let wrong = [
        (
            r#"{policy: '{"mode": "blok"}'}"#.to_owned(),
            "mode: `blok` is none of",
        ),
        (
            r#"{policy: '{"mode": "block", "rules": {"disable": ["942100"]}}'}"#.to_owned(),
            "`942100` is neither the id",
        ),
        (r#"{mode: block}"#.to_owned(), "unknown key `mode`"),
        (
            r#"{policy: 7}"#.to_owned(),
            "metadata: configuration refused",
        ),
        (
            format!(
                "{{policy: '{{\"mode\": \"block\", \"block\": {{\"body\": \"{}\"}}}}'}}",
                "x".repeat(1 << 20)
            ),
            "longer than 16384 bytes",
        ),
    ];
    let mut refused = gateway.stat("wasmcustom.portcullis.refused_settings");
    assert_eq!(refused, 0);
    for (wrong, reason) in &wrong {
        file.replace(&edited(block, wrong));
        wait_until(&gateway, &login, false);
        let now = gateway.stat("wasmcustom.portcullis.refused_settings");
        assert!(now > refused, "{reason}");
        refused = now;
        gateway.alerts();
        let log = gateway.log.borrow();
        let told = log.iter().filter(|line| line.contains(reason)).count();
        assert!(told >= 1, "{reason}: {log:?}");
        drop(log);
        file.replace(ROUTES);
        wait_until(&gateway, &login, true);
    }
    assert_eq!(wrong.len(), 5);
    gateway.assert_alive();
}

/// A form with an attack in it.
fn form(gateway: &Gateway, path: &str, lines: &str) -> Response {
    let length = ATTACK.len();
    gateway.send(
        format!("POST {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n{lines}\r\n{ATTACK}")
            .as_bytes(),
    )
}

#[test]
fn a_route_says_whether_its_bodies_are_inspected_and_how_much_of_them() {
    let text = ROUTES.replace(
        r#"{policy: '{"mode": "block"}'}"#,
        r#"{policy: '{"body": {"inspect": false}}'}"#,
    );
    let file = RouteFile::new("bodies", &text);
    let gateway = file.gateway_with(
        r#"{
        "mode": "block",
        "routes": [
            {"match": {"path_prefix": "/up"}, "policy": {"body": {"inspect": "false"}}},
            {"match": {"path_prefix": "/up/form"}, "policy": {"body": {"inspect": true}}},
            {"match": {"path_prefix": "/short"}, "policy": {"body": {"max_bytes": "9"}}},
            {"match": {"route": "all", "path": "/named"}, "policy": {"body": {"inspect": false}}},
            {"match": {"path_prefix": "/off"}, "policy": {"mode": "off"}}
        ]}"#,
    );
    for (path, is_refused) in [
        ("/", true),
        ("/up", false),
        ("/up/form", true),
        ("/short", false),
        ("/named", false),
        ("/off", false),
        // In the route's metadata.
        ("/login", false),
    ] {
        let status = form(&gateway, path, "").status;
        assert_eq!(status == 429, is_refused, "{path}: {status}");
    }
    // Live, as everything in metadata.
    file.replace(ROUTES);
    let deadline = Instant::now() + Duration::from_secs(10);
    while form(&gateway, "/login", "").status != 429 {
        assert!(Instant::now() < deadline, "the update did not arrive");
        std::thread::sleep(Duration::from_millis(20));
    }
    // What the client reads is what it can read.
    for (accept, kind, start) in [
        (
            "text/html,*/*;q=0.8",
            "text/html; charset=utf-8",
            "<!doctype html>",
        ),
        ("*/*", "application/json", "{\"error\":\"request blocked\""),
    ] {
        let answer = form(&gateway, "/", &format!("Accept: {accept}\r\n"));
        assert_eq!(answer.header("content-type"), Some(kind));
        assert!(answer.text().starts_with(start), "{}", answer.text());
    }
    gateway.assert_alive();
}

/// The exclusion that `docs/POLICY.md` arrives at, where it says to put it.
#[test]
fn the_exclusion_of_the_worked_example_silences_what_it_should_in_envoy() {
    let page = include_str!("../docs/POLICY.md");
    let policy = page
        .lines()
        .find(|line| line.trim_start().starts_with("policy: '{\"exceptions"));
    let policy = policy.unwrap().trim();
    let example = r#"policy: '{"exceptions": [{"rules": ["injection"], "parameter": "q"}]}'"#;
    assert_eq!(ROUTES.matches(example).count(), 1);
    let text = ROUTES
        .replace(example, policy)
        .replace("match: {prefix: /search}", "match: {prefix: /reports}");
    let file = RouteFile::new("worked", &text);
    let gateway = file.gateway();
    let log = include_str!("../docs/examples/monday.log");
    let reports: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split('"').nth(1)?.split(' ').nth(1))
        .filter(|target| target.starts_with("/reports"))
        .collect();
    assert_eq!(reports.len(), 4);
    for target in reports {
        gateway.get(target, "");
        // Elsewhere it is what it was.
        gateway.get(&target.replace("/reports", "/"), "");
    }
    let alerts = gateway.alerts();
    let paths: Vec<&str> = alerts.iter().map(|alert| alert.text("Target")).collect();
    // One of them is a whole statement in a field that people write in, and raises nothing anywhere.
    assert_eq!(paths.len(), 3, "{paths:?}");
    assert!(paths.iter().all(|path| path.starts_with("/?")), "{paths:?}");
    // And in the parameter beside it.
    gateway.get(&format!("/reports?query=1&{ATTACK}"), "");
    assert_eq!(gateway.alert_types(), ["Gateway_SqlInjection"]);
    gateway.assert_alive();
}

#[test]
fn metadata_that_changes_with_every_request_is_read_in_bounded_memory() {
    let rule = "title: A rule\nid: 6b1c1d9e-0d8e-4c4e-9c0c-2f6f2c1f0a01\nlogsource: {category: webserver}\n\
        detection: {selection: {cs-uri-query|contains: password}, condition: selection}\nlevel: low\n";
    let parsed = portcullis_compiler::parse("rule.yml", rule, &Default::default());
    let compiled = portcullis_compiler::backend::compile(&parsed.documents).unwrap();
    let rules = RuleSet::open(compiled.bytes).unwrap();
    let mut cache = Cache::default();
    let mut complaints = 0;
    for number in 0..5_000 {
        let mut complain = |_: &PolicyError| complaints += 1;
        let right = format!(r#"{{"block": {{"body": "number {number}"}}}}"#);
        let settings = cache.read(right.as_bytes(), &rules, &mut complain).unwrap();
        assert_eq!(settings.block.body, Some(format!("number {number}")));
        let wrong = format!(r#"{{"block": {{"bdy": "number {number}"}}}}"#);
        // Again, and nobody is told again.
        for _ in 0..2 {
            assert_eq!(cache.read(wrong.as_bytes(), &rules, &mut complain), None);
        }
        assert!(cache.kept() <= limits::LIVE_SETTINGS);
    }
    assert_eq!(complaints, 5_000);
}

#[test]
fn an_annotation_of_an_httproute_tunes_it() {
    // Where Envoy Gateway puts annotations that begin with `gateway.envoyproxy.io/`.
    let annotated = r#"
    - name: annotated
      match: {prefix: /annotated}
      route: {cluster: upstream}
      metadata:
        filter_metadata:
          envoy-gateway: {resources: [{kind: HTTPRoute, name: a, annotations: {portcullis: '{"mode": "block"}'}}]}
    - name: all
"#;
    let file = RouteFile::new(
        "annotated",
        &ROUTES.replace("\n    - name: all\n", annotated),
    );
    let gateway = file.gateway();
    assert_eq!(status(&gateway, &format!("/annotated?{ATTACK}")), 429);
    assert_eq!(status(&gateway, &format!("/?{ATTACK}")), 200);
    gateway.assert_alive();
}
