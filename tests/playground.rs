//! The playground in a real browser: what people do with it, what hostile input does to it, and that nothing leaves it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use portcullis::policy::Policy;
use portcullis_compiler::ast::{Case, CaseEvent};
use portcullis_harness::capture::{Reader, Record};
use portcullis_harness::cli::Engine;
use portcullis_playground::judge::Judge;
use portcullis_playground::rules::Shipped;
use portcullis_tests::browser::Browser;
use portcullis_tests::{chromium, playground};
use serde_json::json;

const READY: &str =
    "'ready' in document.documentElement.dataset && document.querySelector('.verdict')";

fn page() -> (Browser, String) {
    let file = playground()
        .canonicalize()
        .expect("`make playground` builds the page");
    let mut browser = Browser::start(&chromium());
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        json!({"width": 1360, "height": 900, "deviceScaleFactor": 1, "mobile": false}),
    );
    let url = format!("file://{}", file.display());
    browser.open(&url, READY);
    (browser, url)
}

fn verdict(browser: &mut Browser, word: &str) {
    browser.wait(&format!(
        "document.querySelector('.verdict h2').textContent === {word:?}"
    ));
}

fn example(browser: &mut Browser, name: &str) {
    browser.evaluate(&format!(
        "(() => {{ const menu = document.getElementById('examples'); menu.value = [...menu.options].find((option) => option.textContent === {name:?}).value; menu.dispatchEvent(new Event('change')); }})()"
    ));
}

/// Turns to the tab of a field, and types into it.
fn put(browser: &mut Browser, id: &str, text: &str) {
    browser.click(&format!("#tab-{id}"));
    browser.type_into(id, text);
}

const RULE: &str = "title: Asks for the cellar\nid: 6b1f0a52-6f0e-4c63-9f0e-6b0d8f1a2c33\nlogsource:\n  category: webserver\ndetection:\n  selection:\n    cs-uri-stem|startswith: /cellar/\n  condition: selection\nlevel: high\n";

#[test]
fn a_request_a_rule_a_policy_and_a_capture() {
    let (mut browser, url) = page();

    // It starts with an example, whose match was encoded twice.
    verdict(&mut browser, "Detected");
    browser.wait("document.querySelector('.alert .type').textContent === 'Gateway_SqlInjection'");
    browser.wait("[...document.querySelectorAll('.text')].some((text) => text.querySelector('.view').textContent !== 'as it came' && text.querySelector('mark'))");
    browser.wait("document.querySelector('#panel-request mark.found')");

    // A request is typed.
    put(&mut browser, "request", "/about");
    verdict(&mut browser, "Allowed");
    put(
        &mut browser,
        "request",
        "GET /?file=../../../../etc/passwd HTTP/1.1\nHost: h",
    );
    browser.wait("document.querySelector('.alert .type').textContent === 'Gateway_PathTraversal'");
    browser.wait("[...document.querySelectorAll('.candidate.matches .yes')].length > 0");

    // A rule is written: first with a mistake, then without. It is not the shipped one that finds it.
    put(&mut browser, "request", "/cellar/wine");
    verdict(&mut browser, "Allowed");
    put(
        &mut browser,
        "rule",
        &RULE.replace("startswith", "beginswith"),
    );
    browser.wait("document.querySelector('#remarks-rule .error')?.textContent.includes('`beginswith` is not a modifier')");
    assert_eq!(
        browser.evaluate("document.querySelector('#remarks-rule .error button').textContent"),
        json!("7:17")
    );
    assert_eq!(
        browser.evaluate("document.querySelector('#panel-rule mark.error').textContent"),
        json!("beginswith")
    );
    verdict(&mut browser, "Allowed");
    put(&mut browser, "rule", RULE);
    verdict(&mut browser, "Detected");
    assert_eq!(
        browser.evaluate("document.querySelector('.alert').innerText.includes('Asks for the cellar') && document.querySelectorAll('.alert .own').length"),
        json!(1)
    );
    browser.wait("document.querySelector('.text mark.own')?.textContent === '/cellar/'");
    // A rule that does not match says which of its questions was answered no.
    put(&mut browser, "request", "/kitchen/wine");
    verdict(&mut browser, "Allowed");
    browser.wait("document.querySelector('.candidate')?.innerText.includes('no candidate') && document.querySelector('.candidate .no')");
    put(&mut browser, "request", "/cellar/wine");

    // A policy blocks what the rule finds; a wrong one is refused, and the one before it stays.
    put(
        &mut browser,
        "policy",
        r#"{"mode": "block", "block": {"min_confidence": 10, "status": 418}}"#,
    );
    verdict(&mut browser, "Blocked");
    browser.wait("document.querySelector('.verdict').innerText.includes('418')");
    put(&mut browser, "policy", r#"{"mod": "block"}"#);
    browser.wait("document.querySelector('#remarks-policy .error')?.textContent.includes('did you mean `mode`?')");
    verdict(&mut browser, "Blocked");
    put(&mut browser, "policy", r#"{"mode": "detect"}"#);
    verdict(&mut browser, "Detected");

    // The link holds all of it.
    browser.click("#link");
    browser.wait("location.hash.length > 100");
    let link = browser.evaluate("location.href");
    browser.open("about:blank", "location.href === 'about:blank'");
    browser.open(link.as_str().unwrap(), READY);
    browser.wait("document.getElementById('rule').value.includes('cellar')");
    verdict(&mut browser, "Detected");

    // A capture.
    let har = json!({"log": {"version": "1.2", "creator": {"name": "t", "version": "1"}, "entries": [
        entry("/"), entry("/cellar/wine"), entry("/?id=1%27%20UNION%20SELECT%20a,b%20FROM%20users--%20-"),
    ]}});
    put(&mut browser, "capture", &har.to_string());
    browser.wait("document.querySelectorAll('tbody tr').length === 3");
    browser.wait("document.querySelector('.card .quiet').textContent.startsWith('HTTP archive')");
    assert_eq!(
        browser.evaluate(
            "[...document.querySelectorAll('.figure strong')].map((figure) => figure.textContent)"
        ),
        json!(["3", "2", "0"])
    );
    // Sorted by severity at first; a click on a type leaves its records, one on a record opens it.
    browser.click("[data-key=Gateway_SqlInjection]");
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    browser.click("tbody .target button");
    verdict(&mut browser, "Detected");
    browser.click(".crumbs button");
    browser.wait("document.querySelectorAll('tbody tr').length === 1");
    browser.click("[data-key=Gateway_SqlInjection]");
    browser.click("[data-key=sort-line]");
    browser.wait("document.querySelector('th.line').getAttribute('aria-sort') === 'ascending'");

    // Every example does something, and none is refused.
    let names = browser.evaluate("[...document.getElementById('examples').options].slice(1).map((option) => option.textContent)");
    let names = names.as_array().unwrap();
    assert!(names.len() >= 10);
    for name in names {
        let name = name.as_str().unwrap();
        browser.open("about:blank", "location.href === 'about:blank'");
        browser.open(&url, READY);
        browser.evaluate("document.getElementById('view').replaceChildren()");
        example(&mut browser, name);
        let (wanted, subject) = match name {
            "Ordinary browsing" => ("Allowed", true),
            "A policy that blocks" => ("Blocked", true),
            "An access log" => ("", false),
            _ => ("Detected", true),
        };
        if subject {
            browser.wait(&format!(
                "document.querySelector('.verdict h2')?.textContent === {wanted:?}"
            ));
        } else {
            browser.wait("document.querySelectorAll('tbody tr').length === 10");
        }
        assert_eq!(
            browser.evaluate("document.querySelectorAll('.remarks .error, .card.error').length"),
            json!(0),
            "{name}"
        );
    }
}

fn entry(target: &str) -> serde_json::Value {
    json!({"startedDateTime": "2026-11-23T09:00:00.000Z", "time": 1, "request": {
        "method": "GET", "url": format!("https://shop.example{target}"), "httpVersion": "HTTP/1.1",
        "headers": [], "queryString": [], "cookies": [], "headersSize": -1, "bodySize": 0},
        "response": {"status": 200, "statusText": "", "httpVersion": "HTTP/1.1", "headers": [], "cookies": [],
        "content": {"size": 0, "mimeType": ""}, "redirectURL": "", "headersSize": -1, "bodySize": 0}, "cache": {}, "timings": {"send": 0, "wait": 0, "receive": 0}})
}

#[test]
fn hostile_input_does_nothing_and_nothing_leaves_the_page() {
    let (mut browser, url) = page();
    let payload = "<img src=x onerror=pwned=1><script>pwned=1</script><svg onload=pwned=1>\"'>";

    // Markup wherever text of an input is shown: request, header, parameter's name, rule, policy, capture.
    put(
        &mut browser,
        "request",
        &format!(
            "GET /?{payload}={payload}&q=1'%20UNION%20SELECT%20a%20FROM%20b--%20- HTTP/1.1\nHost: {payload}\nUser-Agent: {payload}\nX-{payload}: {payload}"
        ),
    );
    browser.wait("document.querySelector('.fields').innerText.includes('onerror=pwned=1')");
    browser.wait("document.querySelector('.alert')");
    let title = json!(payload).to_string();
    put(
        &mut browser,
        "rule",
        &RULE
            .replace("Asks for the cellar", &title)
            .replace("startswith: /cellar/", "contains: 'onerror'")
            .replace("cs-uri-stem", "cs-uri-query"),
    );
    browser.wait("document.querySelector('.alert .own')");
    put(
        &mut browser,
        "rule",
        &format!("title: {title}\n{payload}: {payload}\n"),
    );
    browser.wait("document.querySelector('#remarks-rule .error')");
    put(
        &mut browser,
        "policy",
        &json!({payload: payload}).to_string(),
    );
    browser
        .wait("document.querySelector('#remarks-policy .error')?.textContent.includes('onerror')");
    let line = json!({"method": "GET", "path": format!("/{payload}"), "authority": payload, "label": "malicious", "headers": [["user-agent", payload]]});
    put(
        &mut browser,
        "capture",
        &format!("{line}\n{{\"label\": \"{}\"\n", payload.replace('"', "")),
    );
    browser.wait("document.querySelector('tbody .target')?.textContent.includes('onerror') && document.querySelector('.plain')");
    assert_eq!(
        browser.evaluate("[typeof pwned, document.querySelectorAll('img, main svg, script:not([type=module], [type=\"text/plain\"])').length]"),
        json!(["undefined", 0])
    );

    // Bytes, and texts that are no requests, rules or policies at all.
    for text in [
        "\u{0}\u{1}\u{2}\u{fffd}\u{202e}",
        "{\"log\": {\"entries\": [",
        "- &a [*a, *a",
        "{{{{{{",
        "𝔘𝔫𝔦\u{300}",
        "'",
    ] {
        for id in ["request", "rule", "policy", "capture"] {
            put(&mut browser, id, text);
        }
    }
    browser.wait("document.querySelector('#view .card') && document.querySelector('#remarks-rule .error') && document.querySelector('#remarks-policy .error')");
    assert_eq!(
        browser.evaluate("document.getElementById('trouble').hidden"),
        json!(true)
    );
    put(&mut browser, "rule", "");
    put(&mut browser, "policy", "");

    // A capture of 5 MiB: the page goes on answering while it is read.
    browser.click("#tab-capture");
    browser.evaluate(
        r#"(() => {
          window.seen = new Set();
          setInterval(() => seen.add(document.querySelector(".figure strong")?.textContent), 5);
          const line = (at) => `198.51.100.${at % 250} - - [23/Nov/2026:09:14:01 +0000] "GET /product/${at}?${at % 100 ? "q=shoes" : "id=1%27%20UNION%20SELECT%20a%20FROM%20b--%20-"} HTTP/1.1" 200 5120 "-" "Mozilla/5.0 ${"x".repeat(80)}"\n`;
          const text = Array.from({length: 30000}, (_, at) => line(at)).join("");
          window.pasted = text.length;
          const data = new DataTransfer();
          data.setData("text/plain", text);
          document.getElementById("capture").dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
        })()"#,
    );
    browser.wait("document.querySelector('.figure strong')?.textContent === '30,000' && !document.querySelector('.card .quiet').textContent.includes('reading')");
    assert!(browser.evaluate("pasted").as_u64().unwrap() > 5 << 20);
    assert_eq!(
        browser.evaluate("document.querySelectorAll('.figure strong')[1].textContent"),
        json!("300")
    );
    // Had the page itself read it, nothing would have run in between.
    let between =
        browser.evaluate("[...seen].some(shown => shown && !['0', '30,000'].includes(shown))");
    assert_eq!(between, json!(true), "{}", browser.evaluate("[...seen]"));
    browser.click("#unfile");

    // A panic is told, the engine starts anew, and what was typed is still there.
    put(&mut browser, "request", "/?file=../../../../etc/passwd");
    verdict(&mut browser, "Detected");
    browser.evaluate_in_worker("self.onmessage({data: {kind: 'panic'}})");
    browser.wait("document.getElementById('trouble').innerText.includes('as a test asked')");
    browser.click("#trouble button");
    verdict(&mut browser, "Detected");
    assert_eq!(
        browser.evaluate("document.getElementById('trouble').hidden"),
        json!(true)
    );

    // Nothing can be sent, from page or worker, even by a script that wants to.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let target = format!("http://{}/leak", listener.local_addr().unwrap());
    let attempt =
        format!("fetch({target:?}, {{mode: 'no-cors'}}).then(() => 'sent', () => 'refused')");
    assert_eq!(browser.evaluate(&attempt), json!("refused"));
    assert_eq!(browser.evaluate_in_worker(&attempt), json!("refused"));
    let attempt = format!(
        "new Promise((done) => {{ const image = new Image(); image.onload = image.onerror = () => done('over'); image.src = {target:?}; }})"
    );
    assert_eq!(browser.evaluate(&attempt), json!("over"));
    let attempt = format!(
        "new Promise((done) => {{ addEventListener('securitypolicyviolation', ({{violatedDirective}}) => done(violatedDirective), {{once: true}}); try {{ new WebSocket({:?}) }} catch {{}} }})",
        target.replace("http", "ws")
    );
    assert_eq!(browser.evaluate(&attempt), json!("connect-src"));
    let beacon = format!("(navigator.sendBeacon({target:?}, 'x'), 'over')");
    browser.evaluate(&beacon);
    // Nor can a script be put in as markup.
    assert_eq!(
        browser.evaluate("(() => { try { document.body.innerHTML += '<p>x'; return 'set' } catch { return 'refused' } })()"),
        json!("refused")
    );
    assert!(listener.accept().is_err(), "somebody connected");
    let mut requests = 0;
    for event in &browser.events {
        if event["method"] == "Network.requestWillBeSent" {
            let asked = event["params"]["request"]["url"].as_str().unwrap();
            let is_local = ["file:", "blob:", "data:", "about:"]
                .iter()
                .any(|scheme| asked.starts_with(scheme));
            // What the attempts above asked for was refused before it was sent; see the listener.
            assert!(is_local || asked.contains("/leak"), "{asked}");
            requests += usize::from(asked == url);
        }
    }
    assert!(requests >= 1, "the page itself was seen to load");
}

/// The page judges as the command does: the cases of all shipped rules that are one request, and the example captures.
#[test]
fn the_page_judges_as_the_command_does() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut records: Vec<Record> = Vec::new();
    for document in portcullis_compiler::load_dir(&root.join("rules")).unwrap() {
        let custom = &document.head().custom;
        let is_request = |case: &&Case| matches!(case.event, CaseEvent::Request(_));
        let cases = custom.catches.iter().chain(&custom.ignores);
        for case in cases.filter(is_request) {
            let CaseEvent::Request(request) = &case.event else {
                continue;
            };
            let mut record = Record::new(&request.method, &request.target);
            record.set_authority(request.host.as_deref().unwrap_or(b"www.example.com"));
            for (name, value) in &request.headers {
                record.push_header(name, value);
            }
            record.set_body(request.body.as_deref().unwrap_or_default());
            record.set_source_address(b"192.0.2.1");
            record.status = request.status;
            records.push(record);
        }
    }
    for file in root.join("capture/tests/captures").read_dir().unwrap() {
        let reader = Reader::open(&file.unwrap().path(), None).unwrap();
        records.extend(reader.filter_map(Result::ok));
    }
    let mut engine = Engine::native(Shipped::rules().unwrap());
    let native = &mut *engine.detectors().remove(0);
    let mut judge = Judge::new(Shipped::rules().unwrap(), Policy::default());
    let mut raised = 0;
    for record in &records {
        let mut alerts = Vec::new();
        native.inspect(record, &mut alerts);
        let theirs: Vec<_> = alerts.into_iter().map(|alert| alert.0).collect();
        let ours = judge.judge(record).alerts;
        let ours: Vec<_> = ours.iter().map(|alert| json!(alert)).collect();
        assert_eq!(ours, theirs, "{}", record.target().escape_ascii());
        raised += ours.len();
    }
    assert!(
        records.len() > 500 && raised > 300,
        "{} {raised}",
        records.len()
    );
}

/// Pictures of the page, for people: `PORTCULLIS_SCREENSHOTS=DIR cargo test -p portcullis-tests --test playground`.
#[test]
fn pictures() {
    let Some(folder) = std::env::var_os("PORTCULLIS_SCREENSHOTS").map(PathBuf::from) else {
        eprintln!("skipped: PORTCULLIS_SCREENSHOTS names no directory for them");
        return;
    };
    std::fs::create_dir_all(&folder).unwrap();
    let (mut browser, _) = page();
    let shot = |browser: &mut Browser, name: &str| {
        std::fs::write(folder.join(name), browser.screenshot()).unwrap();
    };
    for scheme in ["light", "dark"] {
        browser.call(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
        for (name, example_name, verdict_word) in [
            ("request", "SQL injection, encoded", "Detected"),
            ("rule", "A rule of your own", "Detected"),
            ("policy", "A policy that blocks", "Blocked"),
            ("benign", "Ordinary browsing", "Allowed"),
        ] {
            example(&mut browser, example_name);
            verdict(&mut browser, verdict_word);
            browser.wait("!document.querySelector('#result').hasAttribute('aria-busy')");
            shot(&mut browser, &format!("{name}-{scheme}.png"));
        }
        browser.evaluate("document.getElementById('result').scrollTop = 99999");
        shot(&mut browser, &format!("bottom-{scheme}.png"));
        example(&mut browser, "An access log");
        browser.wait("document.querySelectorAll('tbody tr').length === 10");
        shot(&mut browser, &format!("capture-{scheme}.png"));
        example(&mut browser, "A rule of your own");
        browser.wait("document.getElementById('rule').value");
        let rule = browser.evaluate("document.getElementById('rule').value");
        put(
            &mut browser,
            "rule",
            &rule
                .as_str()
                .unwrap()
                .replace("gte", "gtee")
                .replace("medium", "middling"),
        );
        browser.wait("document.querySelector('#remarks-rule .error')");
        shot(&mut browser, &format!("mistake-{scheme}.png"));
    }
    browser.call(
        "Emulation.setEmulatedMedia",
        json!({"features": [{"name": "prefers-color-scheme", "value": "light"}]}),
    );
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        json!({"width": 390, "height": 1500, "deviceScaleFactor": 2, "mobile": true}),
    );
    example(&mut browser, "Path traversal, doubly encoded");
    verdict(&mut browser, "Detected");
    shot(&mut browser, "narrow.png");
    example(&mut browser, "An access log");
    browser.wait("document.querySelectorAll('tbody tr').length === 10");
    shot(&mut browser, "narrow-capture.png");
}
