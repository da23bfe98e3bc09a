//! What clean requests raise, and what a rule would have to overlook for them not to.

use std::collections::BTreeSet;
use std::path::PathBuf;

use portcullis::alert::Event;
use portcullis::body;
use portcullis::catalogue::Severity;
use portcullis::correlate::{Correlator, Local, Memory};
use portcullis::decoded::{split_pair, split_url};
use portcullis::field::Field;
use portcullis::headers::Headers;
use portcullis::inspect::{Detection, Evidence, Inspector};
use portcullis::normalise::percent;
use portcullis::policy::route::Reduced;
use portcullis::policy::settings::{Exception, Selector};
use portcullis::policy::{self, Effective, Found, Live, Place, Policy, RuleName};
use portcullis::ruleset::RuleSet;

use crate::capture::{Format, Reader, Record};
use crate::cli::engine::{RecordFacts, header_pairs, time_unix_ns};

/// Parameters, cookies and headers that are tried one by one where the evidence does not name one.
const TRIED: usize = 64;

/// Parameters, cookies and headers that one rule has to overlook in one request. One that finds something in more
/// of them is excepted for the path.
const TARGETS: usize = 8;

/// A rule by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleKey {
    pub id: String,
    pub title: String,
    pub alert: String,
    /// Severity of its alert.
    pub severity: &'static str,
}

impl RuleKey {
    pub fn of(rules: &RuleSet, number: u32) -> Option<RuleKey> {
        let rule = rules.rule(number).filter(|rule| rule.silent == 0)?;
        let name = RuleName::of(rules, &rule);
        Some(RuleKey {
            id: name.id.to_owned(),
            title: rules.text(rule.title).to_owned(),
            alert: name.alert.to_owned(),
            severity: Severity::from_number(rule.severity).map_or("", Severity::name),
        })
    }
}

/// What a rule would have to overlook.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Parameter(String),
    Cookie(String),
    Header(String),
    /// Nothing single: the request as it is.
    Path,
    /// A correlation, which fired with this count.
    Count(u64),
}

/// One rule that a clean request raises.
#[derive(Clone, Debug)]
pub struct Alarm {
    /// Number of the request among those read.
    pub request: u64,
    pub rule: RuleKey,
    /// All of these, to silence it.
    pub targets: BTreeSet<Target>,
    /// Path as policy compares it; empty if it is not UTF-8.
    pub path: String,
    /// The request, for people.
    pub example: String,
}

/// What one request raises.
pub struct Alarms {
    /// Whether it raises anything.
    pub raises: bool,
    /// What, if it was asked for.
    pub found: Vec<Alarm>,
}

/// The native engine, one step before alerts.
pub struct Observer<'p> {
    inspector: Inspector,
    /// Asks again about changed requests, without disturbing what the other one has found.
    again: Inspector,
    correlator: Correlator,
    memory: Local,
    policy: &'p Policy,
}

impl<'p> Observer<'p> {
    pub fn new(rules: RuleSet, policy: &'p Policy) -> Observer<'p> {
        let inspector = || {
            let mut inspector = Inspector::new(rules.clone());
            inspector.set_scope(policy.scope());
            inspector
        };
        Observer {
            inspector: inspector(),
            again: inspector(),
            correlator: Correlator::default(),
            memory: Local::default(),
            policy,
        }
    }

    pub fn rules(&self) -> &RuleSet {
        self.inspector.rules()
    }

    /// What stands of a request's detections under the policy, in its head and in its body.
    pub fn standing(&mut self, record: &Record) -> Vec<Detection> {
        let mut all = Vec::new();
        self.each_part(record, |_, _, standing| all.extend(standing));
        all
    }

    fn judge(
        &mut self,
        found: Found<'_>,
        facts: &RecordFacts<'_>,
        effective: &Effective<'_>,
    ) -> Vec<Detection> {
        let counting = (&mut self.correlator, &mut self.memory as &mut dyn Memory);
        policy::judge(&mut self.inspector, counting, found, facts, effective)
    }

    fn each_part(
        &mut self,
        record: &Record,
        mut take: impl FnMut(&mut Inspector, Headers<'_>, Vec<Detection>),
    ) {
        if record.is_process() || self.policy.is_off {
            return;
        }
        let facts = RecordFacts(record);
        let pairs = header_pairs(record);
        let head = Headers::Pairs(&pairs);
        let (place, live) = (Place::of(head), Live::default());
        let effective = self.policy.effective(&place, &live, time_unix_ns(record));
        let detections = self.inspector.request(head, &facts).detections.to_vec();
        if !detections.is_empty() {
            let found = Found {
                event: Event::Request(head),
                body: None,
                detections,
            };
            let standing = self.judge(found, &facts, &effective);
            take(&mut self.again, head, standing);
        }
        let content = record.body().unwrap_or_default();
        let kept = content.get(..effective.body_bytes()).unwrap_or(content);
        if kept.is_empty() {
            return;
        }
        let Some(request) = body::Request::new(head, kept) else {
            return;
        };
        let detections = self
            .inspector
            .body(head, &request, &facts)
            .detections
            .to_vec();
        if detections.is_empty() {
            return;
        }
        let found = Found {
            event: Event::Request(head),
            body: Some(&request),
            detections,
        };
        let standing = self.judge(found, &facts, &effective);
        // As with the values of the target, what would silence a rule is looked for in the query that the body is.
        let pairs = request.as_query();
        take(&mut self.again, Headers::Pairs(&pairs), standing);
    }

    /// What a request raises; `is_wanted` says whether to find out what would silence it.
    pub fn alarms(&mut self, record: &Record, request: u64, is_wanted: bool) -> Alarms {
        let rules = self.rules().clone();
        let mut alarms = Alarms {
            raises: false,
            found: Vec::new(),
        };
        self.each_part(record, |again, headers, standing| {
            for detection in &standing {
                let Some(rule) = RuleKey::of(&rules, detection.rule) else {
                    continue;
                };
                alarms.raises = true;
                if is_wanted {
                    let targets = match &detection.correlated {
                        Some(correlated) => [Target::Count(correlated.count)].into(),
                        None => targets(again, headers, record, &rule, detection),
                    };
                    let path = Place::of(headers).path;
                    alarms.found.push(Alarm {
                        request,
                        rule,
                        targets,
                        path: String::from_utf8(path).unwrap_or_default(),
                        example: record.name(),
                    });
                }
            }
        });
        alarms
    }
}

/// What this rule has to overlook in the request not to match it: what its evidence names, again and again,
/// or else the one thing without which it does not match.
fn targets(
    again: &mut Inspector,
    headers: Headers<'_>,
    record: &Record,
    rule: &RuleKey,
    first: &Detection,
) -> BTreeSet<Target> {
    let facts = RecordFacts(record);
    let mut matches_without = |targets: &BTreeSet<Target>| -> Option<Detection> {
        let exception = exception(rule, targets);
        let reduced = Reduced::new(headers, &[&exception]);
        let pairs = reduced.pairs();
        let inspection = again.request(Headers::Pairs(&pairs), &facts);
        let mut found = inspection.detections.iter();
        found.find(|found| found.rule == first.rule).cloned()
    };
    let mut targets = BTreeSet::new();
    let mut rest = Some(first.clone());
    while let Some(detection) = &rest {
        let named = detection.evidence.as_ref().and_then(target_of);
        match named {
            Some(target) if targets.len() < TARGETS && targets.insert(target.clone()) => {
                rest = matches_without(&targets);
            }
            _ => break,
        }
    }
    if rest.is_none() {
        return targets;
    }
    let all = all_targets(headers);
    let one = all
        .into_iter()
        .take(TRIED)
        .map(|target| BTreeSet::from([target]));
    let mut one = one.filter(|one| matches_without(one).is_none());
    one.next().unwrap_or_else(|| [Target::Path].into())
}

fn target_of(evidence: &Evidence) -> Option<Target> {
    let name = || {
        let name = String::from_utf8(evidence.name.clone()).ok()?;
        // A `*` at the end would be more than this name.
        (!name.is_empty() && !name.ends_with('*')).then_some(name)
    };
    match evidence.field {
        Field::QueryValue | Field::BodyValue => name().map(Target::Parameter),
        Field::CookieValue => name().map(Target::Cookie),
        Field::Header => name().map(Target::Header),
        Field::UserAgent => Some(Target::Header("user-agent".into())),
        Field::Referer => Some(Target::Header("referer".into())),
        _ => None,
    }
}

/// Everything in a request that an exception can name.
fn all_targets(headers: Headers<'_>) -> BTreeSet<Target> {
    let mut all = BTreeSet::new();
    let text = |name: &[u8]| {
        let name = String::from_utf8(name.to_vec()).ok()?;
        (!name.is_empty() && !name.ends_with('*')).then_some(name)
    };
    let (_, query) = split_url(headers.get(b":path").unwrap_or_default());
    for pair in query.unwrap_or_default().split(|byte| *byte == b'&') {
        let name = split_pair(pair).0.unwrap_or_default();
        all.extend(text(&percent::decoded(name, true)).map(Target::Parameter));
    }
    for (name, value) in headers.iter() {
        if name.eq_ignore_ascii_case(b"cookie") {
            for cookie in value.split(|byte| *byte == b';') {
                let name = split_pair(cookie.trim_ascii_start()).0;
                all.extend(text(name.unwrap_or_default()).map(Target::Cookie));
            }
        } else if !name.starts_with(b":") && !name.eq_ignore_ascii_case(b"host") {
            all.extend(text(&name.to_ascii_lowercase()).map(Target::Header));
        }
    }
    all
}

/// The exception for one rule and these targets, wherever.
fn exception(rule: &RuleKey, targets: &BTreeSet<Target>) -> Exception {
    let mut exception = Exception {
        rules: vec![Selector(rule.id.clone())],
        ..Exception::default()
    };
    for target in targets {
        match target {
            Target::Parameter(name) => exception.parameter.push(name.clone()),
            Target::Cookie(name) => exception.cookie.push(name.clone()),
            Target::Header(name) => exception.header.push(name.clone()),
            Target::Path | Target::Count(_) => {}
        }
    }
    exception
}

/// What could not be read.
pub enum Complaint {
    /// A record.
    Malformed(String),
    /// A whole capture.
    Unread(String),
}

/// Reads every record of the captures; `take` is also told how much of its capture has been read.
pub fn each_record(
    captures: &[PathBuf],
    format: Option<Format>,
    complaints: &mut Vec<Complaint>,
    mut take: impl FnMut(&Record, Option<f64>),
) {
    let mut record = Record::default();
    for path in captures {
        let mut reader = match Reader::open(path, format) {
            Ok(reader) => reader,
            Err(error) => {
                complaints.push(Complaint::Unread(error.to_string()));
                continue;
            }
        };
        while let Some(read) = reader.read(&mut record) {
            if let Err(malformed) = read {
                complaints.push(Complaint::Malformed(malformed.to_string()));
                continue;
            }
            let part = reader
                .total_bytes()
                .map(|total| reader.consumed_bytes() as f64 / total.max(1) as f64);
            take(&record, part);
        }
    }
}
