//! One record through the engine and the policy, as the filter takes a request: the head, the body unless the head is blocked, then the status.

use portcullis::alert::{self, Alert, Context, Event};
use portcullis::body;
use portcullis::correlate::{Correlator, Local};
use portcullis::event::Source;
use portcullis::headers::Headers;
use portcullis::inspect::{Detection, Inspector};
use portcullis::policy::{self, Action, Found, Live, Mode, Place, Policy, RuleName};
use portcullis::ruleset::RuleSet;
use portcullis_capture::Record;
use portcullis_capture::event::{RecordFacts, header_pairs, time_unix_ns};
use serde::Serialize;

use crate::rules::OWN;

/// What came of one record.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is raised.
    pub alerts: Vec<Alert>,
    /// Whether the gateway answers the request itself.
    pub is_blocked: bool,
    /// Whether some part was over a limit and not inspected.
    pub is_truncated: bool,
    /// What matched and the policy let go.
    pub released: Vec<Released>,
}

/// A rule that matched and raises nothing.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Released {
    /// The rule's title.
    pub title: String,
    /// Why.
    pub reason: &'static str,
}

/// What holds for a request.
#[derive(Debug, Serialize)]
pub struct Holds {
    /// Layers of the configuration, the least specific first.
    pub layers: Vec<String>,
    /// `off`, `detect` or `block`.
    pub mode: &'static str,
    /// The least severity that is blocked.
    pub min_severity: &'static str,
    /// The least confidence that is blocked.
    pub min_confidence: u8,
    /// Status of the answer to a blocked request.
    pub status: u16,
    /// Bytes of a body that are inspected.
    pub body_bytes: usize,
}

/// Where a request goes, which a request alone does not say.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Name of the gateway's route.
    pub name: String,
    /// Name of its virtual host.
    pub virtual_host: String,
}

/// The engine and the policy.
#[derive(Debug)]
pub struct Judge {
    /// The engine.
    pub inspector: Inspector,
    /// What to do about what it finds.
    pub policy: Policy,
    /// What was counted so far.
    correlator: Correlator,
    memory: Local,
    /// Where requests go.
    pub route: Route,
    /// Ids of the user's rules.
    own: Vec<String>,
}

impl Judge {
    /// A judge who has counted nothing yet.
    pub fn new(rules: RuleSet, policy: Policy) -> Judge {
        let all =
            (0..rules.rule_count()).filter_map(|index| rules.rule(u32::try_from(index).ok()?));
        let own = all
            .filter(|rule| rules.text(rule.path) == OWN)
            .map(|rule| rules.text(rule.id).to_owned());
        let own = own.collect();
        let mut inspector = Inspector::new(rules);
        inspector.set_scope(policy.scope());
        Judge {
            own,
            inspector,
            policy,
            correlator: Correlator::default(),
            memory: Local::default(),
            route: Route::default(),
        }
    }

    /// Forgets what was counted.
    pub fn forget(&mut self) {
        self.correlator = Correlator::default();
        self.memory = Local::default();
    }

    /// Whether one of the user's rules stands behind an alert.
    pub fn is_own(&self, alert: &Alert) -> bool {
        let properties = &alert.extended_properties;
        let mut ids = std::iter::once(&properties.rule_id).chain(&properties.other_rules);
        ids.any(|id| self.own.contains(id))
    }

    /// Judges one record, and counts it.
    pub fn judge(&mut self, record: &Record) -> Outcome {
        let mut outcome = Outcome::default();
        if self.policy.is_off {
            return outcome;
        }
        if record.is_process() {
            let fields: Vec<_> = record.process().collect();
            let inspection = self.inspector.fields(Source::Process, &fields);
            outcome.is_truncated = inspection.truncated;
            let found = Found {
                event: Event::Process(&fields, record.authority().unwrap_or_default()),
                body: None,
                detections: inspection.detections.to_vec(),
            };
            self.report(record, found, None, &mut outcome);
            return outcome;
        }
        let pairs = header_pairs(record);
        let head = Headers::Pairs(&pairs);
        let facts = RecordFacts(record);
        let inspection = self.inspector.request(head, &facts);
        outcome.is_truncated = inspection.truncated;
        let detections = inspection.detections.to_vec();
        let mut is_open = !self.inspector.awaiting().is_empty();
        self.raise(record, (head, None), detections, None, &mut outcome);
        let content = record.body().unwrap_or_default();
        let kept = content
            .get(..self.holds(record).body_bytes)
            .unwrap_or(content);
        let body = match kept.is_empty() {
            true => None,
            false => body::Request::new(head, kept),
        };
        if !outcome.is_blocked
            && let Some(body) = &body
        {
            let inspection = self.inspector.body(head, body, &facts);
            outcome.is_truncated |= inspection.truncated || kept.len() < content.len();
            let detections = inspection.detections.to_vec();
            is_open |= !self.inspector.awaiting().is_empty();
            self.raise(record, (head, Some(body)), detections, None, &mut outcome);
        }
        if let Some(status) = record.status.filter(|_| !outcome.is_blocked)
            && (is_open || self.inspector.concerns_any_request(status))
        {
            let detections = self.inspector.response(head, &facts).detections.to_vec();
            self.raise(record, (head, None), detections, Some(status), &mut outcome);
            if let Some(body) = &body {
                let inspection = self.inspector.response_body(head, body, &facts);
                let detections = inspection.detections.to_vec();
                self.raise(
                    record,
                    (head, Some(body)),
                    detections,
                    Some(status),
                    &mut outcome,
                );
            }
        }
        outcome
    }

    /// Raises what the policy lets stand. Nothing can be blocked once there is a status.
    fn raise(
        &mut self,
        record: &Record,
        (head, body): (Headers<'_>, Option<&body::Request<'_>>),
        detections: Vec<Detection>,
        status: Option<u16>,
        outcome: &mut Outcome,
    ) {
        let found = Found {
            event: head.into(),
            body,
            detections,
        };
        self.report(record, found, status, outcome);
    }

    fn report(
        &mut self,
        record: &Record,
        found: Found<'_>,
        status: Option<u16>,
        outcome: &mut Outcome,
    ) {
        if found.detections.is_empty() {
            return;
        }
        let event = found.event;
        let source = record.source_address().map(String::from_utf8_lossy);
        let context = Context {
            source: source.as_deref(),
            time_unix_ns: time_unix_ns(record),
            truncated: outcome.is_truncated,
            status,
            ..Context::default()
        };
        let (place, live) = (self.place(event), Live::default());
        let effective = self.policy.effective(&place, &live, context.time_unix_ns);
        let matched = found.detections.clone();
        let standing = policy::judge(
            &mut self.inspector,
            (&mut self.correlator, &mut self.memory),
            found,
            &RecordFacts(record),
            &effective,
        );
        let rules = self.inspector.rules();
        for detection in &matched {
            let Some(rule) = rules.rule(detection.rule) else {
                continue;
            };
            if standing.iter().any(|stands| stands.rule == detection.rule) {
                continue;
            }
            let name = RuleName::of(rules, &rule);
            outcome.released.push(Released {
                title: rules.text(rule.title).to_owned(),
                reason: match () {
                    () if effective.mode() == Mode::Off => "the mode is off here",
                    () if !effective.allows(name) => "it is disabled here",
                    () if !effective.exceptions(name).is_empty() => "an exception holds",
                    () => "the client is trusted",
                },
            });
        }
        let raised = alert::alerts(
            rules,
            &standing,
            event,
            &context,
            // A process has started already; there is nothing to block, nor once the response is on its way.
            |rule, severity, confidence| match event {
                Event::Request(_) if status.is_none() => {
                    effective.action(rule, severity, confidence)
                }
                _ => Action::Detected,
            },
        );
        outcome.is_blocked |= raised
            .iter()
            .any(|alert| alert.extended_properties.action == Action::Blocked.name());
        outcome.alerts.extend(raised);
    }

    fn place(&self, event: Event<'_>) -> Place {
        match event {
            Event::Request(headers) => Place {
                route: self.route.name.clone(),
                virtual_host: self.route.virtual_host.clone(),
                ..Place::of(headers)
            },
            Event::Process(..) => Place::default(),
        }
    }

    /// What the policy says of the record, whether something matched or not.
    pub fn holds(&self, record: &Record) -> Holds {
        let pairs = header_pairs(record);
        let place = self.place(Headers::Pairs(&pairs).into());
        let live = Live::default();
        let effective = self.policy.effective(&place, &live, time_unix_ns(record));
        Holds {
            layers: effective
                .layers()
                .map(|(origin, _)| origin.to_string())
                .collect(),
            mode: match self.policy.is_off {
                true => Mode::Off.name(),
                false => effective.mode().name(),
            },
            min_severity: effective.min_severity().name(),
            min_confidence: effective.min_confidence(),
            status: effective.answer().status,
            body_bytes: effective.body_bytes(),
        }
    }
}
