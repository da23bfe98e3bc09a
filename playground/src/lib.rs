//! The playground: the engine, the compiler and the capture readers behind a page.
//!
//! ```text
//!  page ──► worker ──► Playground ──┬─► rules    the shipped rules and the user's, compiled
//!   ▲                               ├─► request  a pasted request as a record
//!   │                               ├─► capture  a pasted capture, a few records at a time
//!   └────────── JSON ◄── show ◄─────┴─► judge    engine and policy, as the filter has them
//! ```
//!
//! What a page sends is a text or bytes, what it gets is JSON: nothing here touches a document, and a page only sets texts. Any input
//! is answered; a panic would be a defect, and the worker tells the page of it (`on_panic`).

pub mod capture;
pub mod judge;
pub mod limits;
pub mod request;
pub mod rules;
pub mod show;

use portcullis::alert::printable;
use portcullis::body;
use portcullis::event::Source;
use portcullis::headers::Headers;
use portcullis::policy::Policy;
use portcullis::ruleset::RuleSet;
use portcullis_capture::Record;
use portcullis_capture::event::{RecordFacts, header_pairs};
use portcullis_compiler::ast::{Case, CaseEvent, CaseRequest, Document};
use serde::Serialize;
use serde_json::{Value, json};
use wasm_bindgen::prelude::wasm_bindgen;

use capture::{Capture, verdict};
use judge::{Holds, Judge, Released, Route};
use rules::{Compiled, Shipped, utf16};
use show::Shown;

#[wasm_bindgen]
extern "C" {
    /// The worker's: says why the engine stopped, before it does.
    #[wasm_bindgen(js_name = onPanic)]
    fn on_panic(message: &str);
}

/// Everything behind one page.
#[wasm_bindgen]
pub struct Playground {
    shipped: Shipped,
    /// The shipped rules and the user's.
    rules: RuleSet,
    own: Vec<Document>,
    judge: Judge,
    capture: Option<Capture>,
}

#[wasm_bindgen]
impl Playground {
    /// With the shipped rules and an empty policy.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Result<Playground, String> {
        #[cfg(target_family = "wasm")]
        std::panic::set_hook(Box::new(|info| on_panic(&info.to_string())));
        let rules = Shipped::rules()?;
        Ok(Playground {
            shipped: Shipped::default(),
            rules: rules.clone(),
            own: Vec::new(),
            judge: Judge::new(rules, Policy::default()),
            capture: None,
        })
    }

    /// Compiles the user's rules beside the shipped ones. If something is wrong with them, the rules stay as they were.
    pub fn set_rule(&mut self, source: &str) -> String {
        let Compiled {
            rules,
            own,
            replaced,
            remarks,
        } = self.shipped.beside(source);
        let is_accepted = rules.is_some();
        if let Some(rules) = rules {
            self.rules = rules.clone();
            self.own = own;
            self.take(rules, self.judge.policy.clone());
        }
        let titles = self.own.iter().map(|document| &document.head().title.value);
        let titles: Vec<&String> = titles.collect();
        text(&json!({
            "accepted": is_accepted,
            "remarks": remarks,
            "titles": titles,
            "replaced": replaced,
            "rules": self.rules.rule_count(),
            "cases": self.cases(),
        }))
    }

    /// Takes a plugin configuration. If something is wrong with it, the policy stays as it was. Names of rules in it are
    /// held against the rules of the last [`Playground::set_rule`].
    pub fn set_policy(&mut self, source: &str) -> String {
        match Policy::load(source.as_bytes(), || Ok(self.rules.clone())) {
            Ok((policy, rules)) => {
                self.take(rules, policy);
                text(&json!({"accepted": true}))
            }
            Err(error) => {
                let message = error.to_string();
                let at = offset(source, &message);
                text(&json!({"accepted": false, "error": message, "at": at}))
            }
        }
    }

    /// Where requests go: names of the gateway's route and virtual host, for the policy.
    pub fn set_route(&mut self, name: &str, virtual_host: &str) {
        self.judge.route = Route {
            name: name.to_owned(),
            virtual_host: virtual_host.to_owned(),
        };
    }

    /// Judges and explains one request as pasted, from this address. What came before it is not counted.
    pub fn request(&mut self, source: &str, address: &str) -> String {
        let mut record = match request::read(source.as_bytes()) {
            Ok(record) => record,
            Err(error) => return text(&json!({"error": error})),
        };
        if !address.trim().is_empty() {
            record.set_source_address(address.trim().as_bytes());
        }
        self.judge.forget();
        let outcome = self.judge.judge(&record);
        let own = outcome.alerts.iter().map(|alert| self.judge.is_own(alert));
        let own: Vec<bool> = own.collect();
        let holds = self.judge.holds(&record);
        let shown = show::explain(&mut self.judge.inspector, &record, holds.body_bytes);
        text(&Told {
            summary: summary(&record),
            verdict: verdict(outcome.is_blocked, outcome.alerts.is_empty()),
            alerts: &outcome.alerts,
            own,
            is_truncated: outcome.is_truncated,
            released: outcome.released,
            holds,
            places: places(source, &shown.places),
            request: None,
            shown,
        })
    }

    /// Starts to read a capture, whose format its content tells. Counting begins anew.
    pub fn capture(&mut self, bytes: Vec<u8>) -> String {
        self.judge.forget();
        self.capture = None;
        match Capture::new(bytes) {
            Ok(capture) => {
                let format = capture.format();
                self.capture = Some(capture);
                text(&json!({"format": format}))
            }
            Err(error) => text(&json!({"error": error})),
        }
    }

    /// Judges up to so many further records of the capture.
    pub fn capture_next(&mut self, count: usize) -> String {
        match &mut self.capture {
            Some(capture) => text(&capture.next(&mut self.judge, count)),
            None => text(&json!({"error": "there is no capture"})),
        }
    }

    /// Explains a record of the capture, by its place among the records that could be read.
    pub fn open(&mut self, at: usize) -> String {
        let found = self.capture.as_ref().and_then(|capture| {
            let record = capture.record(at)?;
            Some((record, capture.alerts(at)))
        });
        let Some((record, raised)) = found else {
            return text(&json!({"error": "there is no such record"}));
        };
        let holds = self.judge.holds(record);
        let shown = show::explain(&mut self.judge.inspector, record, holds.body_bytes);
        text(&Told {
            summary: summary(record),
            verdict: verdict(raised.is_blocked, raised.alerts.is_empty()),
            alerts: &raised.alerts,
            own: raised.own,
            is_truncated: shown.is_truncated,
            released: Vec::new(),
            holds,
            places: Vec::new(),
            request: Some(request::write(record)).filter(|request| !request.is_empty()),
            shown,
        })
    }

    /// The text of a shipped rule's file; empty if there is none of that name.
    pub fn source(&self, path: &str) -> String {
        rules::source(path).unwrap_or_default().to_owned()
    }

    /// Panics, so that a test can see what the page makes of it.
    #[allow(clippy::panic)]
    pub fn panic(&self) {
        panic!("as a test asked");
    }
}

/// What came of one record, as the page shows it.
#[derive(Serialize)]
struct Told<'a, Alert> {
    summary: String,
    verdict: &'static str,
    alerts: &'a [Alert],
    /// Which of the alerts are the user's.
    own: Vec<bool>,
    is_truncated: bool,
    released: Vec<Released>,
    holds: Holds,
    places: Vec<(usize, usize)>,
    /// Of a capture's record: the request as text.
    request: Option<String>,
    shown: Shown,
}

impl Playground {
    fn take(&mut self, rules: RuleSet, policy: Policy) {
        let route = std::mem::take(&mut self.judge.route);
        self.judge = Judge::new(rules, policy);
        self.judge.route = route;
    }

    /// Runs the cases of the user's rules that need no other request.
    fn cases(&mut self) -> Value {
        let (mut ran, mut skipped, mut failed) = (0, 0, Vec::new());
        // A request is judged without the policy here: what is tested is the rule.
        let mut judge = Judge::new(self.rules.clone(), Policy::default());
        for document in &self.own {
            let head = document.head();
            let cases = |cases: &[Case], must| -> Vec<(Case, bool)> {
                cases.iter().map(|case| (case.clone(), must)).collect()
            };
            let all = [
                cases(&head.custom.catches, true),
                cases(&head.custom.ignores, false),
            ];
            for (case, must) in all.concat() {
                match matches(&mut judge, document, &case) {
                    None => skipped += 1,
                    Some(does) if does == must => ran += 1,
                    Some(_) => {
                        ran += 1;
                        failed.push(json!({
                            "title": case.title,
                            "must": must,
                            "line": head.source.position(case.span).line,
                        }));
                    }
                }
            }
        }
        json!({"ran": ran, "skipped": skipped, "failed": failed})
    }
}

/// Whether a rule matches a case of its own; `None` if that takes more than one request.
fn matches(judge: &mut Judge, document: &Document, case: &Case) -> Option<bool> {
    let Document::Rule(_) = document else {
        return None;
    };
    let head = document.head();
    let id = head.id.as_ref().map_or("", |id| &id.value);
    let title = &head.title.value;
    let inspector = &mut judge.inspector;
    let names = |inspector: &portcullis::inspect::Inspector| {
        let rules = inspector.rules();
        inspector.detections().iter().any(|found| {
            let rule = rules.rule(found.rule);
            rule.is_some_and(|rule| {
                rules.text(rule.id) == id && rules.text(rule.title) == title.as_str()
            })
        })
    };
    match &case.event {
        CaseEvent::Sequence(_) => None,
        CaseEvent::Process(fields) => {
            let fields = fields
                .iter()
                .map(|(field, value)| (*field, value.as_slice()));
            inspector.fields(Source::Process, &fields.collect::<Vec<_>>());
            Some(names(inspector))
        }
        CaseEvent::Request(request) => {
            let record = case_record(request);
            let facts = RecordFacts(&record);
            let pairs = header_pairs(&record);
            let headers = Headers::Pairs(&pairs);
            inspector.request(headers, &facts);
            if names(inspector) {
                return Some(true);
            }
            let body = record.body().filter(|body| !body.is_empty());
            let Some(request) = body.and_then(|body| body::Request::new(headers, body)) else {
                return Some(false);
            };
            inspector.body(headers, &request, &facts);
            Some(names(inspector))
        }
    }
}

fn case_record(case: &CaseRequest) -> Record {
    let mut record = Record::new(&case.method, &case.target);
    if record.authority().is_none() {
        record.set_authority(case.host.as_deref().unwrap_or(b"www.example.com"));
    }
    for (name, value) in &case.headers {
        record.push_header(name, value);
    }
    record.set_body(case.body.as_deref().unwrap_or_default());
    if let Some(source) = case.source {
        record.set_source_address(source.to_string().as_bytes());
    }
    record.status = case.status;
    record
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value)
        .unwrap_or_else(|error| json!({"error": error.to_string()}).to_string())
}

/// `GET host/path` of a request, the command line of a process.
fn summary(record: &Record) -> String {
    if record.is_process() {
        return printable(record.command_line(), limits::ROW_TARGET_BYTES);
    }
    let host = record.authority().unwrap_or_default();
    let line = [record.method(), b" ", host, record.target()].concat();
    printable(&line, limits::ROW_TARGET_BYTES)
}

/// The place that a message names with `line L column C`, in UTF-16 units.
fn offset(source: &str, message: &str) -> Option<usize> {
    let (_, place) = message.rsplit_once(" line ")?;
    let (line, column) = place.split_once(" column ")?;
    let column = column.split(|c: char| !c.is_ascii_digit()).next()?;
    let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
    let start: usize = source
        .split_inclusive('\n')
        .take(line.checked_sub(1)?)
        .map(str::len)
        .sum();
    let mut at = (start + column.saturating_sub(1)).min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    Some(utf16(source, at))
}

/// Where the pasted text holds what matched, in UTF-16 units: in order, apart from each other.
fn places(source: &str, places: &[show::Place]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = places
        .iter()
        .filter_map(|place| {
            let text = std::str::from_utf8(&place.text).ok()?;
            let start = source.find(text)?;
            let range = start + place.range.start..start + place.range.end;
            source.get(range.clone())?;
            Some((range.start, range.end))
        })
        .collect();
    found.sort_unstable();
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (start, end) in found {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
        .into_iter()
        .map(|(start, end)| (utf16(source, start), utf16(source, end)))
        .collect()
}
