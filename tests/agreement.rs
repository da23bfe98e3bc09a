//! One verdict, wherever it is given: the engine as native code, the built filter in the harness, and the
//! built filter in Envoy raise the same alerts for the same reasons on the same requests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::path::Path;

use portcullis_harness::capture::{Reader, Record};
use portcullis_harness::cli::{Detector, Engine, EngineArgs, EngineKind};
use portcullis_harness::demo::{client, traffic};
use portcullis_harness::report::Alert;
use portcullis_tests::{Gateway, corpora, wasm};
use serde_json::{Value, json};

/// Blocks what is bad enough, so that actions are compared as well. Correlations are left out: in Envoy they count by
/// its clock, its client's address and the canaries between the requests.
const CONFIG: &str = r#"{"mode": "block", "block": {"min_severity": "High", "min_confidence": 60}, "rules": {"disable": ["behaviour"]}}"#;

/// Requests taken from each file of labelled traffic.
const REQUESTS_PER_FILE: usize = 40;

/// What must agree: everything of an alert but who asked, when, over which route and under which id.
fn essence(alerts: &[Alert]) -> Vec<Value> {
    let mut alerts: Vec<Value> = alerts
        .iter()
        .map(|alert| {
            let mut value = alert.0.clone();
            for key in ["TimeGenerated", "Entities"] {
                value.as_object_mut().unwrap().remove(key);
            }
            let properties = value["ExtendedProperties"].as_object_mut().unwrap();
            for key in ["RequestId", "Route"] {
                properties.remove(key);
            }
            value
        })
        .collect();
    alerts.sort_by_key(|alert| alert["AlertType"].to_string());
    alerts
}

/// The request as HTTP/1.1, and as Envoy will hand it to the filter; `None` if HTTP/1.1 cannot carry it
/// or Envoy would not hand it on unchanged.
fn on_the_wire(record: &Record) -> Option<(Vec<u8>, Record)> {
    /// Fields that Envoy takes out, adds, or acts upon.
    const HOPS: [&[u8]; 11] = [
        b"host",
        b"connection",
        b"keep-alive",
        b"transfer-encoding",
        b"content-length",
        b"te",
        b"upgrade",
        b"expect",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-request-id",
    ];
    let is_text = |bytes: &[u8]| {
        bytes
            .iter()
            .all(|byte| (0x20..0x7f).contains(byte) || *byte == b'\t' || *byte >= 0x80)
    };
    let target = record.target();
    if !target.starts_with(b"/")
        || !target
            .iter()
            .all(|byte| (0x21..0x7f).contains(byte) && *byte != b'#')
    {
        return None;
    }
    let authority = record.authority().unwrap_or(b"shop.example");
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(byte);
    if !matches!(
        record.method(),
        b"GET" | b"HEAD" | b"POST" | b"PUT" | b"DELETE" | b"OPTIONS"
    ) || !authority.iter().all(is_host)
    {
        return None;
    }
    let mut sent = Record::new(record.method(), target);
    sent.set_authority(authority);
    let mut bytes = [
        record.method(),
        b" ",
        target,
        b" HTTP/1.1\r\nhost: ",
        authority,
        b"\r\n",
    ]
    .concat();
    for (name, value) in record.headers().filter(|(name, _)| !HOPS.contains(name)) {
        let is_name = name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
        // Envoy strips white space around values, joins repeated fields, and drops a Referer that is no URL.
        let is_kept =
            value == value.trim_ascii() && !value.is_empty() && sent.header(name).is_none();
        let is_url = name != b"referer"
            || value.starts_with(b"http") && value.iter().all(|byte| (0x21..0x7f).contains(byte));
        if !is_name || !is_text(value) || !is_kept || !is_url {
            return None;
        }
        sent.push_header(name, value);
        bytes.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"content-length: 0\r\nconnection: close\r\n\r\n");
    Some((bytes, sent))
}

struct Drivers<'a> {
    envoy: &'a Gateway,
    native: Box<dyn Detector + Send + 'a>,
    harness: Box<dyn Detector + Send + 'a>,
    requests: usize,
    with_alerts: usize,
    blocked: usize,
    skipped: usize,
    differences: Vec<String>,
}

impl Drivers<'_> {
    fn compare(&mut self, record: &Record) {
        let Some((bytes, sent)) = on_the_wire(record) else {
            self.skipped += 1;
            return;
        };
        let (mut native, mut harness) = (Vec::new(), Vec::new());
        let actions = [
            self.native.inspect(&sent, &mut native).action,
            self.harness.inspect(&sent, &mut harness).action,
        ];
        let response = client::send(self.envoy.address(), &bytes).unwrap();
        let id = response.header("x-request-id").map(str::to_owned);
        let envoy: Vec<Alert> = self.envoy.alerts();
        if response.status == 400 && envoy.is_empty() {
            // Envoy refused it before the filter.
            self.skipped += 1;
            return;
        }
        assert!(
            envoy
                .iter()
                .all(|alert| Some(alert.text("RequestId")) == id.as_deref()),
            "{envoy:?}"
        );
        self.requests += 1;
        self.with_alerts += usize::from(!native.is_empty());
        let is_blocked = response.status == 403;
        self.blocked += usize::from(is_blocked);
        let found = [essence(&native), essence(&harness), essence(&envoy)];
        let [native, harness, envoy] = &found;
        let blocks = [
            actions[0].name() == "block",
            actions[1].name() == "block",
            is_blocked,
        ];
        if native != harness || native != envoy || blocks != [is_blocked; 3] {
            self.differences.push(format!(
                "{}\nblocks: {blocks:?}\n{:#}",
                String::from_utf8_lossy(&bytes),
                json!({"native": native, "harness": harness, "envoy": envoy})
            ));
        }
    }
}

fn compare_all(records: &[Record]) -> (usize, usize) {
    let config = std::env::temp_dir().join(format!(
        "portcullis-agreement-{}-{}.json",
        std::process::id(),
        records.len()
    ));
    std::fs::write(&config, CONFIG).unwrap();
    let start = |kind| -> Engine {
        EngineArgs {
            kind,
            filter: wasm(),
            config: Some(config.clone()),
            rules: match kind {
                EngineKind::Wasm => Vec::new(),
                EngineKind::Native => vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules")],
            },
            ..EngineArgs::default()
        }
        .start()
        .unwrap()
    };
    let (mut native, mut harness) = (start(EngineKind::Native), start(EngineKind::Wasm));
    std::fs::remove_file(&config).unwrap();
    let envoy = Gateway::start(|gateway| {
        gateway.plugin(CONFIG)?.edit(
            "use_remote_address: true",
            "use_remote_address: true\n          always_set_request_id_in_response: true",
        )
    })
    .unwrap();
    let mut drivers = Drivers {
        envoy: &envoy,
        native: native.detectors().remove(0),
        harness: harness.detectors().remove(0),
        requests: 0,
        with_alerts: 0,
        blocked: 0,
        skipped: 0,
        differences: Vec::new(),
    };
    for record in records {
        drivers.compare(record);
    }
    let Drivers {
        requests,
        with_alerts,
        blocked,
        skipped,
        differences,
        ..
    } = drivers;
    eprintln!(
        "{requests} requests three ways, {with_alerts} with alerts, {blocked} blocked; {skipped} that Envoy would not hand on"
    );
    assert!(
        differences.is_empty(),
        "{} differences, the first:\n{}",
        differences.len(),
        differences[0]
    );
    envoy.assert_alive();
    (requests, with_alerts)
}

#[test]
fn three_drivers_agree_on_the_demo_traffic() {
    let mut records = Vec::new();
    for request in traffic::groups()
        .unwrap()
        .iter()
        .flat_map(|group| &group.requests)
    {
        let head = &request.bytes[..request
            .bytes
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .unwrap()];
        let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let line: Vec<&[u8]> = lines.next().unwrap().split(|byte| *byte == b' ').collect();
        let mut record = Record::new(line[0], line[1]);
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':').unwrap();
            record.push_header(&line[..colon], line[colon + 1..].trim_ascii());
        }
        records.push(record);
    }
    let (requests, with_alerts) = compare_all(&records);
    assert!(
        requests >= 35 && with_alerts >= 20,
        "{requests}, {with_alerts}"
    );
}

#[test]
fn three_drivers_agree_on_labelled_traffic() {
    let Some(dir) = corpora() else { return };
    let mut records = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        // The command lines of processes are no requests.
        if !name.contains(".ndjson") || name.starts_with("proc-") {
            continue;
        }
        let mut reader = Reader::open(&file, None).unwrap();
        let (mut all, mut record) = (Vec::new(), Record::default());
        while let Some(read) = reader.read(&mut record) {
            read.unwrap();
            all.push(record.clone());
        }
        let step = (all.len() / REQUESTS_PER_FILE).max(1);
        records.extend(all.into_iter().step_by(step).take(REQUESTS_PER_FILE));
    }
    let (requests, with_alerts) = compare_all(&records);
    assert!(
        requests >= 300 && with_alerts >= 50,
        "{requests}, {with_alerts}"
    );
}
