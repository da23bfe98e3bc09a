//! Real tools, driven against the filter in a real Envoy: each raises the alert type that it should,
//! and ordinary browsing raises none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_harness::report::Alert;
use portcullis_tests::{Gateway, tool};

/// No tool may take longer.
const WITHIN: Duration = Duration::from_secs(240);

/// A tool at work: its command, with a directory of its own to write to.
struct Drive {
    name: &'static str,
    command: Command,
    dir: PathBuf,
}

impl Drive {
    fn new(name: &'static str, program: impl Into<PathBuf>) -> Drive {
        let dir = std::env::temp_dir().join(format!("portcullis-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut command = Command::new(program.into());
        // Some keep settings and sessions in the home directory.
        command
            .current_dir(&dir)
            .env("HOME", &dir)
            .stdin(Stdio::null());
        Drive { name, command, dir }
    }

    fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Drive {
        self.command.arg(arg);
        self
    }

    fn args(mut self, args: &[&str]) -> Drive {
        self.command.args(args);
        self
    }

    /// Runs the tool to its end, or until its time is up, and gives out the types of what the gateway raised meanwhile.
    fn against(self, gateway: &Gateway) -> Vec<String> {
        let mut types: Vec<String> = self
            .alerts(gateway)
            .iter()
            .map(|alert| alert.alert_type().to_owned())
            .collect();
        types.sort();
        types.dedup();
        types
    }

    /// The same with every alert.
    fn alerts(mut self, gateway: &Gateway) -> Vec<Alert> {
        let output = self.dir.join("output");
        let file = std::fs::File::create(&output).unwrap();
        self.command.stdout(file.try_clone().unwrap()).stderr(file);
        let begun = Instant::now();
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; `make setup` installs it", self.name));
        while child.try_wait().unwrap().is_none() && begun.elapsed() < WITHIN {
            std::thread::sleep(Duration::from_millis(50));
        }
        let is_late = child.try_wait().unwrap().is_none();
        let _ = child.kill();
        child.wait().unwrap();
        let output = String::from_utf8_lossy(&std::fs::read(&output).unwrap()).into_owned();
        let _ = std::fs::remove_dir_all(&self.dir);

        let requests = gateway.stat("http.edge.downstream_rq_total");
        let alerts = gateway.alerts();
        let mut types: Vec<&str> = alerts.iter().map(Alert::alert_type).collect();
        types.sort_unstable();
        types.dedup();
        eprintln!(
            "{}: {requests} requests in {:.1} s raised {types:?} in {} lines",
            self.name,
            begun.elapsed().as_secs_f32(),
            alerts.len()
        );
        assert!(
            !is_late,
            "{} did not end within {WITHIN:?}:\n{output}",
            self.name
        );
        assert!(requests > 0, "{} sent nothing:\n{output}", self.name);
        gateway.assert_alive();
        alerts
    }
}

fn assert_raised(types: &[String], expected: &str) {
    assert!(
        types.iter().any(|alert_type| alert_type == expected),
        "{expected} is missing: {types:?}"
    );
}

#[test]
fn nmap_with_its_http_scripts() {
    let gateway = Gateway::with("{}");
    // The `+` makes a script run although the port is none that is known for HTTP. Version detection
    // would not find out: it speaks HTTP/1.0, which Envoy refuses before any filter.
    let types = Drive::new("nmap", "nmap")
        .args(&[
            "-Pn",
            "-n",
            "--script",
            "+http-title,+http-methods,+http-headers,+http-enum",
        ])
        .args(&["-p", &gateway.address().port().to_string(), "127.0.0.1"])
        .against(&gateway);
    assert_raised(&types, "AppServices_Nmap");
}

#[test]
fn sqlmap() {
    let gateway = Gateway::with("{}");
    let drive = Drive::new("sqlmap", "sqlmap");
    let sessions = drive.dir.clone();
    let types = drive
        .args(&[
            "-u",
            &format!("http://{}/product?id=1", gateway.address()),
            "--batch",
            "--flush-session",
        ])
        .args(&[
            "--technique",
            "BEU",
            "--disable-coloring",
            "--timeout",
            "5",
            "--retries",
            "0",
            "--output-dir",
        ])
        .arg(sessions)
        .against(&gateway);
    assert_raised(&types, "Gateway_SqlInjection");
}

#[test]
fn whatweb() {
    let gateway = Gateway::with("{}");
    let types = Drive::new("whatweb", "whatweb")
        .args(&["--color=never", &format!("http://{}/", gateway.address())])
        .against(&gateway);
    assert_raised(&types, "AppServices_WebFingerprinting");
}

#[test]
fn droopescan() {
    let gateway = Gateway::with("{}");
    let types = Drive::new("droopescan", tool("droopescan"))
        // It would give up on a site that is no Drupal; with a method of telling what is there it does not.
        .args(&["scan", "drupal", "--method", "not_found"])
        .args(&[
            "--hide-progressbar",
            "-n",
            "30",
            "-u",
            &format!("http://{}/", gateway.address()),
        ])
        .against(&gateway);
    assert_raised(&types, "AppServices_DrupalScanner");
}

#[test]
fn dirb() {
    let gateway = Gateway::with("{}");
    let drive = Drive::new("dirb", "dirb");
    // Names out of the lists that come with it; its common list would take four thousand requests.
    let words = drive.dir.join("words.txt");
    std::fs::write(&words, ".git/HEAD\n.htpasswd\n.svn/entries\nadmin\nbackup\ncgi-bin/\nphpinfo.php\nphpmyadmin\nserver-status\nweb.config\n").unwrap();
    let types = drive
        .arg(format!("http://{}/", gateway.address()))
        .arg(words)
        .args(&["-S", "-r"])
        .against(&gateway);
    assert!(
        types
            .iter()
            .any(|alert_type| alert_type == "Gateway_VulnerabilityScanner"
                || alert_type == "AppServices_ScanSensitivePage"),
        "neither a scanner nor a sensitive page: {types:?}"
    );
}

/// What one attacker does with three tools to three hosts behind two workers, told as an operator would read it.
#[test]
fn a_scan_over_two_workers_and_three_hosts_is_a_handful_of_alerts() {
    let gateway = Gateway::start_workers(2, |config| {
        config.plugin(r#"{"incidents": {"fold": true}}"#)
    })
    .unwrap();
    let port = gateway.address().port();
    let drive = Drive::new("scan-dirb", "dirb");
    let words = drive.dir.join("words.txt");
    let names = ".git/HEAD\n.htpasswd\n.svn/entries\n.env\nbackup.sql\n.DS_Store\nid_rsa\nphpinfo.php\nphpmyadmin/index.php\nserver-status\nweb.config\nwp-config.php.bak\n.aws/credentials\nactuator/env\n";
    std::fs::write(&words, names).unwrap();
    let mut alerts = drive
        .arg(format!("http://127.0.0.1:{port}/"))
        .arg(words)
        .args(&["-S", "-r", "-H", "Host: shop.example"])
        .args(&[
            "-a",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ])
        .alerts(&gateway);
    alerts.extend(
        Drive::new("scan-droopescan", tool("droopescan"))
            .args(&["scan", "drupal", "--method", "not_found"])
            .args(&["--hide-progressbar", "-n", "30", "-u"])
            .arg(format!("http://127.0.0.1:{port}/"))
            .alerts(&gateway),
    );
    alerts.extend(
        Drive::new("scan-nmap", "nmap")
            .args(&["-Pn", "-n", "--script", "+http-title,+http-enum"])
            .args(&["-p", &port.to_string(), "localhost"])
            .alerts(&gateway),
    );
    let hosts = alerts.iter().map(|alert| alert.text("CompromisedEntity"));
    let hosts: std::collections::BTreeSet<&str> = hosts.collect();
    assert!(hosts.len() >= 3, "{hosts:?}");
    let workers = gateway.admin("/stats?filter=listener.*worker_.*downstream_cx_total");
    let idle = workers.lines().filter(|line| line.ends_with(" 0")).count();
    assert!(workers.lines().count() == 2 && idle == 0, "{workers}");
    // Each pattern once, whichever worker saw which part of it.
    let behaviour: Vec<(&str, String)> = alerts
        .iter()
        .filter_map(|alert| {
            let counted = alert.0.pointer("/ExtendedProperties/Correlation")?;
            Some((alert.alert_type(), counted["RuleId"].to_string()))
        })
        .collect();
    eprintln!("patterns: {behaviour:#?}");
    for expected in ["AppServices_ScanSensitivePage", "AppServices_DrupalScanner"] {
        assert!(
            behaviour.iter().any(|(raised, _)| *raised == expected),
            "{expected}: {behaviour:?}"
        );
    }
    let types: Vec<String> = alerts
        .iter()
        .map(|alert| alert.alert_type().to_owned())
        .collect();
    assert_raised(&types, "AppServices_Nmap");
    // And not a line for each request.
    let folded = gateway.stat("wasmcustom.portcullis.folded_alerts");
    let requests = gateway.stat("http.edge.downstream_rq_total");
    eprintln!(
        "{requests} requests: {} lines, {folded} alerts folded into them",
        alerts.len()
    );
    assert!(
        (alerts.len() as u64) < folded,
        "{} lines, {folded} folded",
        alerts.len()
    );
    assert_eq!(gateway.stat("wasmcustom.portcullis.uncounted_events"), 0);
}

/// What browsers ask for in a session: pages, their parts, searches, a log-in, other people's links.
const BROWSING: &str = "\
GET / -
GET /style.css http://shop.example/
GET /app.js?v=3.2.1 http://shop.example/
GET /favicon.ico http://shop.example/
GET /fonts/inter-var.woff2 http://shop.example/style.css
GET /search?q=garden+tools http://shop.example/
GET /search?q=select+a+fork+from+the+union+of+sets http://shop.example/
GET /search?q=o%27reilly+%26+sons http://shop.example/
GET /search?q=caf%C3%A9%20%E2%82%AC%2010 http://shop.example/
GET /search?q=a+%3C+b+and+b+%3E+c http://shop.example/
GET /search?q=how+to+drop+a+table+off+at+the+tip http://shop.example/
GET /search?q=script+for+a+school+play http://shop.example/
GET /search?price=10..20&sort=-price,name http://shop.example/
GET /search?filter[colour]=green&filter[size]=10 http://shop.example/
GET /product?id=1042 https://www.google.com/
GET /product?id=1042&utm_source=newsletter&utm_campaign=spring_2026&gclid=EAIaIQobChMI http://mail.example/
GET /product/spade-(large)/reviews;page=2 http://shop.example/product/spade-(large)
GET /cart http://shop.example/product?id=1042
POST /cart http://shop.example/product?id=1042
POST /login?next=%2Fcart http://shop.example/cart
GET /login?return=https%3A%2F%2Fshop.example%2Fcart%3Fstep%3D2 http://shop.example/cart
GET /account/orders?from=2026-01-01&to=2026-11-22 http://shop.example/login
GET /api/v1/items?fields=id,name,price&limit=50&offset=100 http://shop.example/
GET /api/graphql?query=%7Bproduct(id%3A1042)%7Bname%20price%7D%7D http://shop.example/
GET /blog/2026/11/22/10-commands-every-gardener-should-know https://duckduckgo.com/
GET /blog/?p=417 https://www.bing.com/
GET /images/uploads/2026/11/spade%20(1).jpg http://shop.example/blog
GET /download?file=catalogue-2026.pdf http://shop.example/
GET /redirect?url=https%3A%2F%2Fpartner.example%2Foffer http://shop.example/
GET /robots.txt -
GET /sitemap.xml -
GET /.well-known/security.txt -
HEAD / -
OPTIONS /api/v1/items https://app.example/
";

const BROWSERS: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
];

#[test]
fn ordinary_browsing_raises_nothing() {
    let gateway = Gateway::with("{}");
    let mut requests = 0;
    for browser in BROWSERS {
        for line in BROWSING.lines() {
            let [method, target, referer] =
                line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
            let referer = if referer == "-" {
                String::new()
            } else {
                format!("Referer: {referer}\r\n")
            };
            let request = format!(
                "{method} {target} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: {browser}\r\n{referer}\
                 Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\nAccept-Language: de-CH,de;q=0.9,en;q=0.8\r\n\
                 Accept-Encoding: gzip, deflate, br, zstd\r\nCookie: session=eyJpZCI6NDE3fQ.aGk; theme=dark; _ga=GA1.1.1.2\r\n\
                 Sec-Fetch-Mode: navigate\r\nUpgrade-Insecure-Requests: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let response = gateway.send(request.as_bytes());
            assert!(
                [200, 404].contains(&response.status),
                "{line}: {}",
                response.status
            );
            requests += 1;
        }
    }
    let alerts = gateway.alerts();
    assert!(alerts.is_empty(), "{alerts:#?}");
    assert_eq!(requests, 4 * 34);
    gateway.assert_alive();
    eprintln!("browsing: {requests} requests raised nothing");
}
