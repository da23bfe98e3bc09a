//! Correlations over a fleet: several gateways' alerts, as the command writes them, in a store that speaks ClickHouse's
//! SQL (`fleet/`). What no gateway sees by itself the fleet sees, and no more than one gateway that sees everything.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

const MANY_HOSTS: &str = "da01d1ab-aa01-4928-b50a-dd3f09ea9060";
const CAMPAIGN: &str = "c0b6a4f1-9a0c-4d59-a9b0-93e2b3b2f7a4";
const SENSITIVE_PAGES: &str = "bc38a073-461d-4592-a33d-05b1ae201a90";
const INJECTION_BY_THE_DOZEN: &str = "363f723b-93c2-44b0-84a3-360d52777ed1";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A folder of a test's own, gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let dir = std::env::temp_dir().join(format!("portcullis-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Folder(dir)
    }

    /// What the gateway of this name, which sees these requests alone, logs.
    fn alerts(&self, name: &str, requests: &[Request]) -> String {
        let log = self.0.join(format!("{name}.access"));
        let mut lines = String::new();
        for request in requests {
            writeln!(lines, "{}", request.line()).unwrap();
        }
        std::fs::write(&log, lines).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["replay", "--quiet", "--json", "--every"])
            .args(["--engine", "native"])
            .arg(&log)
            .args(["--rules", "rules"])
            .current_dir(root())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn write(&self, name: &str, alerts: &str) {
        std::fs::write(self.0.join(format!("{name}.alerts")), alerts).unwrap();
    }

    /// What holds for all gateways together, and what the script said beside it.
    fn correlate(&self, gateways: &[String]) -> (Vec<Value>, String) {
        let (stdout, stderr) = python(
            &gateways
                .iter()
                .map(|name| self.0.join(format!("{name}.alerts")).display().to_string())
                .collect::<Vec<_>>(),
        );
        let found = stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (found, stderr)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn python(args: &[String]) -> (String, String) {
    let python = std::env::var_os("PORTCULLIS_FLEET")
        .map_or_else(|| root().join(".tools/fleet/bin/python"), PathBuf::from);
    let output = Command::new(&python)
        .arg("fleet/correlate.py")
        .args(args)
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; `make setup-fleet` installs it",
                python.display()
            )
        });
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    (String::from_utf8(output.stdout).unwrap(), stderr)
}

/// A request as an access log has it.
#[derive(Clone)]
struct Request {
    second: u32,
    source: String,
    host: String,
    target: String,
    user_agent: String,
}

impl Request {
    fn new(second: u32, source: &str, host: &str, target: &str) -> Request {
        Request {
            second,
            source: source.to_owned(),
            host: host.to_owned(),
            target: target.to_owned(),
            user_agent: "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
                .to_owned(),
        }
    }

    fn line(&self) -> Value {
        let (hour, minute, second) = (self.second / 3600, self.second / 60 % 60, self.second % 60);
        json!({
            "time": format!("2026-11-24T{hour:02}:{minute:02}:{second:02}Z"),
            "source_address": self.source, "authority": self.host, "method": "GET",
            "path": self.target, "user_agent": self.user_agent, "response_code": 404,
        })
    }
}

/// The requests in the order of their times, each gateway's by itself.
fn of_gateways(mut requests: Vec<(usize, Request)>, count: usize) -> Vec<Vec<Request>> {
    requests.sort_by_key(|(_, request)| request.second);
    let mut gateways = vec![Vec::new(); count];
    for (gateway, request) in requests {
        gateways[gateway].push(request);
    }
    gateways
}

fn names(count: usize) -> Vec<String> {
    (0..count)
        .map(|gateway| format!("edge-{gateway}"))
        .collect()
}

#[test]
fn a_scan_spread_over_gateways_is_one_scan() {
    const GATEWAYS: usize = 5;
    let host = |gateway: usize| format!("{}.example", char::from(b'a' + gateway as u8));
    let mut requests = Vec::new();
    for gateway in 0..GATEWAYS {
        let wait = gateway as u32;
        // One host behind each gateway, in one minute; and the same over sixteen.
        let fast = Request::new(wait * 15, "198.51.100.9", &host(gateway), "/.env");
        requests.push((gateway, fast));
        let slow = Request::new(wait * 240, "198.51.100.77", &host(gateway), "/.env");
        requests.push((gateway, slow));
        // Seven injections at each, so 35 in all, in one minute; and seven in all by another.
        for number in 0..7 {
            let target = format!(
                "/product?id={number}%27%20UNION%20SELECT%20name,password%20FROM%20users--%20-"
            );
            let second = 300 + wait * 8 + number;
            requests.push((
                gateway,
                Request::new(second, "203.0.113.200", "shop.example", &target),
            ));
            if number == wait {
                requests.push((
                    gateway,
                    Request::new(second, "203.0.113.201", "shop.example", &target),
                ));
            }
        }
    }
    let sensitive = [
        "/.env",
        "/.git/config",
        "/backup.sql",
        "/.aws/credentials",
        "/phpinfo.php",
        "/server-status",
        "/.htpasswd",
        "/wp-config.php.bak",
        "/.ssh/id_rsa",
        "/actuator/env",
    ];
    for (number, target) in sensitive.iter().enumerate() {
        let second = 600 + number as u32 * 10;
        // Two pages at each gateway, from one source; each page from a source of its own.
        requests.push((
            number % GATEWAYS,
            Request::new(second, "192.0.2.3", "shop.example", target),
        ));
        let other = format!("100.64.{number}.1");
        requests.push((
            number % GATEWAYS,
            Request::new(second, &other, "shop.example", target),
        ));
    }
    // Ordinary visitors of everything, wherever they come in.
    for visitor in 0..40 {
        for (page, target) in [
            "/",
            "/about",
            "/favicon.ico",
            "/product?id=7",
            "/blog/?p=12",
        ]
        .iter()
        .enumerate()
        {
            let gateway = (visitor + page) % GATEWAYS;
            let second = visitor as u32 * 20 + page as u32;
            requests.push((
                gateway,
                Request::new(
                    second,
                    &format!("192.0.2.{}", 100 + visitor),
                    &host(gateway),
                    target,
                ),
            ));
        }
    }

    let folder = Folder::new("fleet-scan");
    let gateways = of_gateways(requests, GATEWAYS);
    let mut read = 0;
    for (number, name) in names(GATEWAYS).iter().enumerate() {
        let alerts = folder.alerts(name, &gateways[number]);
        assert!(
            !alerts.contains("\"Correlation\""),
            "{name} saw it alone:\n{alerts}"
        );
        // As Envoy logs it, between lines of its own, one of which was cut short.
        let mut log =
            "[2026-11-24 00:00:00.000][7][info][main] [source/server/server.cc:1] starting {}\n"
                .to_owned();
        for line in alerts.lines() {
            read += 1;
            writeln!(
                log,
                "[2026-11-24 00:00:00.000][9][warning][wasm] [source/x.cc:1] wasm log edge: {line}"
            )
            .unwrap();
        }
        log.push_str("[2026-11-24 00:00:00.000][9][warning][wasm] [source/x.cc:1] wasm log edge: {\"AlertType\":\"");
        folder.write(name, &log);
    }
    assert!(read > 50, "{read} alerts");

    let (found, said) = folder.correlate(&names(GATEWAYS));
    let mut rules: Vec<(&str, &str, u64)> = found
        .iter()
        .map(|alert| {
            let group = alert["GroupKey"].as_object().unwrap();
            let value = group.values().next().unwrap().as_str().unwrap();
            assert_eq!(group.len(), 1, "{alert}");
            (
                alert["RuleId"].as_str().unwrap(),
                value,
                alert["Count"].as_u64().unwrap(),
            )
        })
        .collect();
    rules.sort_unstable();
    assert_eq!(
        rules,
        [
            (INJECTION_BY_THE_DOZEN, "203.0.113.200", 35),
            (SENSITIVE_PAGES, "192.0.2.3", 10),
            (MANY_HOSTS, "198.51.100.9", 5),
        ],
        "{said}"
    );
    // The fifth host, in the order of time and not of files.
    let hosts = found
        .iter()
        .find(|alert| alert["RuleId"] == MANY_HOSTS)
        .unwrap();
    assert_eq!(hosts["AlertType"], "Gateway_DistributedScan");
    assert_eq!(hosts["FirstSeen"], "2026-11-24T00:01:00.000Z");
}

#[test]
fn a_fleet_finds_what_one_gateway_finds_that_sees_everything() {
    const GATEWAYS: usize = 4;
    const TARGETS: [&str; 18] = [
        "/.env",
        "/.git/config",
        "/backup.sql",
        "/.aws/credentials",
        "/CHANGELOG.txt",
        "/wp-content/plugins/akismet/readme.txt",
        "/phpinfo.php",
        "/%2eht%70asswd",
        "/wp-json/wp/v2/users",
        "/?q=1%27%20UNION%20SELECT%20a,b%20FROM%20users--",
        "/",
        "/about",
        "/composer.json",
        "/readme.html",
        "/administrator/components/com_x/x.xml",
        "/?f=../../../../etc/passwd",
        "/?x=%3Cscript%3Ealert(1)%3C/script%3E",
        "/sites/all/modules/views/views.info",
    ];
    // Pseudo-random, the same each time.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    let mut requests = Vec::new();
    for _ in 0..1200 {
        let network = below(12);
        let source = match below(8) {
            0 | 1 => format!("2001:db8:0:{:x}::{:x}", below(2), below(3) + 1),
            few => format!("198.18.{network}.{}", few / 3 + 1),
        };
        let host = format!("{}.example", char::from(b'a' + below(9) as u8));
        let target = TARGETS[below(TARGETS.len() as u64) as usize];
        let mut request = Request::new(below(5400) as u32, &source, &host, target);
        request.user_agent = format!("tool/{}", below(3));
        requests.push((below(GATEWAYS as u64) as usize, request));
    }

    // And one tool that asks every host for the same page, each time from elsewhere.
    for number in 0..9 {
        let host = format!("{}.example", char::from(b'a' + number as u8));
        let source = format!("100.64.{number}.1");
        let mut request = Request::new(1000 + number * 30, &source, &host, "/.git/config");
        request.user_agent = "campaign/1".to_owned();
        requests.push((number as usize % GATEWAYS, request));
    }

    let folder = Folder::new("fleet-all");
    let mut all: Vec<Request> = requests
        .iter()
        .map(|(_, request)| request.clone())
        .collect();
    all.sort_by_key(|request| request.second);
    // A request is judged for itself where it is seen; which correlations hold is what is compared.
    let (mut live, mut beside) = (BTreeSet::new(), BTreeSet::new());
    for line in folder.alerts("all", &all).lines() {
        let alert: Value = serde_json::from_str(line).unwrap();
        let properties = &alert["ExtendedProperties"];
        if let Some(correlation) = properties.get("Correlation") {
            live.insert((
                correlation["RuleId"].to_string(),
                correlation["GroupKey"].to_string(),
            ));
            // Another correlation of the same type may hold at the same request: it is named, and its group is not.
            for rule in properties["OtherRules"].as_array().into_iter().flatten() {
                beside.insert(rule.to_string());
            }
        }
    }
    assert!(live.len() > 40, "{live:?}");
    assert!(
        live.iter().any(|(rule, _)| rule.contains(CAMPAIGN)),
        "{live:?}"
    );
    assert!(
        live.iter().any(|(_, group)| group.contains("2001:db8:0:")),
        "{live:?}"
    );

    for (number, requests) in of_gateways(requests, GATEWAYS).iter().enumerate() {
        let name = format!("edge-{number}");
        folder.write(&name, &folder.alerts(&name, requests));
    }
    let (found, said) = folder.correlate(&names(GATEWAYS));
    let fleet: BTreeSet<(String, String)> = found
        .iter()
        .map(|alert| (alert["RuleId"].to_string(), alert["GroupKey"].to_string()))
        .collect();
    assert_eq!(fleet.len(), found.len(), "each rule and group once");
    let missing: Vec<_> = live.difference(&fleet).collect();
    assert!(missing.is_empty(), "the fleet lacks {missing:#?}\n{said}");
    let more: Vec<_> = fleet
        .difference(&live)
        .filter(|(rule, _)| !beside.contains(rule))
        .collect();
    assert!(more.is_empty(), "only the fleet has {more:#?}");
}

#[test]
fn every_correlation_is_converted_or_named_with_the_reason() {
    let (queries, said) = python(&["--sql".to_owned()]);
    let mut correlations = 0;
    let folder = |name: &str| std::fs::read_dir(root().join(name)).unwrap();
    for file in folder("rules/behaviour").chain(folder("rules/response")) {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        correlations += text.matches("\ncorrelation:\n").count();
    }
    let converted = queries
        .lines()
        .filter(|line| line.starts_with("-- "))
        .count();
    let refused: Vec<&str> = said
        .lines()
        .filter(|line| line.contains(": not converted: "))
        .collect();
    assert_eq!(converted + refused.len(), correlations, "{said}");
    assert_eq!(refused.len(), 4, "docs/FLEET.md names them: {refused:#?}");
    let docs = std::fs::read_to_string(root().join("docs/FLEET.md")).unwrap();
    for line in refused {
        let name = Path::new(line.split(": ").next().unwrap())
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap();
        assert!(
            docs.contains(&format!("`{name}`")),
            "docs/FLEET.md lacks {name}"
        );
    }
}
