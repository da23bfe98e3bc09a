//! Alerts to host effects. Runs only for requests that raised something.

use portcullis::alert::{self, Alert, Context, Event};
use portcullis::correlate::{Correlator, Memory};
use portcullis::headers::Headers;
use portcullis::incident::Incidents;
use portcullis::inspect::Inspector;
use portcullis::policy::live::{self, Cache};
use portcullis::policy::{
    self, Action, Answer, Found, Live, MetricStyle, Place, Policy, PolicyError, Settings,
};
use portcullis::ruleset::RuleSet;
use portcullis_abi::{Flow, Host, Level, Metric};
use std::rc::Rc;

use crate::HostFacts;
use crate::state::{HostMemory, State};

/// gRPC's PERMISSION_DENIED, with which a blocked gRPC request is answered.
const GRPC_PERMISSION_DENIED: i32 = 7;

/// The names of a request's route and virtual host.
const ROUTE_NAME: &str = "xds\0route_name";
const VIRTUAL_HOST_NAME: &str = "xds\0virtual_host_name";

/// How the details of a response begin that this filter gave itself.
pub const BLOCKED: &str = "portcullis_blocked";

/// Where a route and a virtual host keep their settings, and where Envoy Gateway puts what stands in an
/// annotation `gateway.envoyproxy.io/portcullis` of the HTTPRoute.
const ROUTE_METADATA: &str = "xds\0route_metadata\0filter_metadata\0portcullis";
const VIRTUAL_HOST_METADATA: &str = "xds\0virtual_host_metadata\0filter_metadata\0portcullis";
const ANNOTATION: &str =
    "xds\0route_metadata\0filter_metadata\0envoy-gateway\0resources\x000\0annotations\0portcullis";

/// Wrong settings that the log tells of; the counter goes on.
const COMPLAINTS: u32 = 32;

/// What reporting keeps from one request to the next.
#[derive(Default)]
pub struct Reporter {
    /// Counters by name; there are at most two for each alert type, and two of ours.
    counters: Vec<(String, Metric)>,
    settings: Cache,
    complaints: u32,
    correlator: Correlator,
    incidents: Incidents,
    /// Of all configurations of this VM: who attacks one route attacks the gateway.
    state: State,
}

impl Reporter {
    /// Raises the alerts of the last inspection, and blocks the request if the policy says so and its response is not
    /// on its way yet.
    #[cold]
    pub fn report(
        &mut self,
        facts: &HostFacts<'_>,
        inspector: &mut Inspector,
        policy: &Policy,
        found: Found<'_>,
        truncated: bool,
    ) -> Flow {
        let host = facts.host;
        if truncated {
            self.count(host, "portcullis.truncated_requests".to_owned());
        }
        let Event::Request(headers) = found.event else {
            return Flow::Continue;
        };
        if found.detections.is_empty() {
            return Flow::Continue;
        }
        let text = |path: &str| {
            host.property(path)
                .ok()
                .and_then(|bytes| std::str::from_utf8(bytes).ok())
        };
        let context = Context {
            source: text("source\0address"),
            route: text(ROUTE_NAME),
            time_unix_ns: host.time_unix_ns(),
            truncated,
            status: facts.status,
        };
        let place = Place {
            route: context.route.unwrap_or_default().to_owned(),
            virtual_host: text(VIRTUAL_HOST_NAME).unwrap_or_default().to_owned(),
            ..Place::of(headers)
        };
        let live = self.live(host, inspector.rules());
        let effective = policy.effective(&place, &live, context.time_unix_ns);
        let mut memory = HostMemory {
            host,
            state: &mut self.state,
            is_shared: policy.is_state_shared,
        };
        let counting = (&mut self.correlator, &mut memory as &mut dyn Memory);
        let standing = policy::judge(inspector, counting, found, facts, &effective);
        let mut alerts = alert::alerts(
            inspector.rules(),
            &standing,
            headers,
            &context,
            |rule, severity, confidence| match facts.status {
                Some(_) => Action::Detected,
                None => effective.action(rule, severity, confidence),
            },
        );
        let source = context.source.map(alert::without_port);
        let time_ns = context.time_unix_ns;
        let mut folded = 0;
        for alert in &mut alerts {
            let is_line = policy.fold_ns.is_none_or(|window_ns| {
                let incidents = &mut self.incidents;
                incidents.tell(&mut memory, alert, source, time_ns, window_ns)
            });
            folded += i64::from(!is_line);
            if is_line && let Ok(line) = serde_json::to_vec(alert) {
                host.log(Level::Warn, &line);
            }
        }
        let not_counted = i64::try_from(self.correlator.not_counted()).unwrap_or(i64::MAX);
        for (name, by) in [
            ("portcullis.folded_alerts", folded),
            ("portcullis.uncounted_events", not_counted),
        ] {
            if by > 0 {
                self.count_by(host, name.to_owned(), by);
            }
        }
        for alert in &alerts {
            self.count(host, counter_name(policy.metrics, alert));
        }
        let Some(first) = alerts.first() else {
            return Flow::Continue;
        };
        let blocking = alerts
            .iter()
            .find(|alert| alert.extended_properties.action == Action::Blocked.name());
        let worst = blocking.unwrap_or(first);
        show_in_access_log(host, worst);
        match blocking {
            Some(alert) => block(host, effective.answer(), headers, alert),
            None => Flow::Continue,
        }
    }

    /// Counts a body that is not looked into.
    pub fn uninspected_body(&mut self, host: &Host) {
        self.count(host, "portcullis.uninspected_bodies".to_owned());
    }

    /// Bytes of this request's body that are to be inspected; 0 for none. Asks the host, so it is for requests with
    /// a body only.
    pub fn body_bytes(
        &mut self,
        host: &Host,
        policy: &Policy,
        rules: &RuleSet,
        headers: Headers<'_>,
    ) -> usize {
        let mut place = Place::of(headers);
        if policy.asks_for_names() {
            let text = |path| String::from_utf8_lossy(host.property(path).unwrap_or_default());
            place.route = text(ROUTE_NAME).into_owned();
            place.virtual_host = text(VIRTUAL_HOST_NAME).into_owned();
        }
        let live = self.live(host, rules);
        policy.effective(&place, &live, 0).body_bytes()
    }

    /// Counts a response about which rules are not asked.
    pub fn unasked_response(&mut self, host: &Host) {
        self.count(host, "portcullis.unasked_responses".to_owned());
    }

    /// What the gateway's route table says about this request.
    fn live(&mut self, host: &Host, rules: &RuleSet) -> Live {
        Live {
            annotation: host.property(ANNOTATION).ok().and_then(|text| {
                self.settings(host, "HTTPRoute annotation", Ok(Some(text)), rules)
            }),
            virtual_host: self.metadata(
                host,
                "virtual host metadata",
                VIRTUAL_HOST_METADATA,
                rules,
            ),
            route: self.metadata(host, "route metadata", ROUTE_METADATA, rules),
        }
    }

    fn metadata(
        &mut self,
        host: &Host,
        place: &str,
        path: &str,
        rules: &RuleSet,
    ) -> Option<Rc<Settings>> {
        let fields = host.property(path).ok()?;
        let policy = live::policy_of(Headers::Block(fields).iter());
        self.settings(host, place, policy, rules)
    }

    fn settings(
        &mut self,
        host: &Host,
        place: &str,
        text: Result<Option<&[u8]>, PolicyError>,
        rules: &RuleSet,
    ) -> Option<Rc<Settings>> {
        let mut complaint = None;
        let settings = match text {
            Ok(None) => return None,
            Ok(Some(text)) => self
                .settings
                .read(text, rules, |error| complaint = Some(error.to_string())),
            Err(error) => {
                complaint = Some(error.to_string());
                None
            }
        };
        if settings.is_none() {
            self.count(host, "portcullis.refused_settings".to_owned());
        }
        if let Some(complaint) = complaint.filter(|_| self.complaints < COMPLAINTS) {
            self.complaints += 1;
            let last = match self.complaints {
                COMPLAINTS => " (later ones are counted only)",
                _ => "",
            };
            let line =
                format!("portcullis: {place}: {complaint}; less specific settings hold{last}");
            host.log(Level::Error, line.as_bytes());
        }
        settings
    }

    fn count(&mut self, host: &Host, name: String) {
        self.count_by(host, name, 1);
    }

    fn count_by(&mut self, host: &Host, name: String, by: i64) {
        if !cfg!(feature = "metrics") {
            return;
        }
        let known = self
            .counters
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, metric)| *metric);
        let metric = match known {
            Some(metric) => metric,
            None => {
                let Ok(metric) = host.counter(&name) else {
                    return;
                };
                self.counters.push((name, metric));
                metric
            }
        };
        host.increment(metric, by);
    }
}

fn counter_name(style: MetricStyle, alert: &Alert) -> String {
    let (kind, action) = (alert.alert_type, alert.extended_properties.action);
    match style {
        MetricStyle::Flat => format!("portcullis.alerts.{kind}.{action}"),
        MetricStyle::Tagged => format!(
            "portcullis_alert=.={kind};.;portcullis_severity=.={};.;portcullis_action=.={action};.;portcullis_alerts_total",
            alert.severity
        ),
    }
}

/// One key for each value: an access log would encode a JSON value twice.
fn show_in_access_log(host: &Host, alert: &Alert) {
    let properties = &alert.extended_properties;
    let confidence = alert.confidence.to_string();
    for (key, value) in [
        ("portcullis.alert_type", alert.alert_type),
        ("portcullis.severity", alert.severity),
        ("portcullis.rule", &properties.rule_id),
        ("portcullis.action", properties.action),
        ("portcullis.confidence", &confidence),
    ] {
        let _ = host.set_property(key, value.as_bytes());
    }
}

fn block(host: &Host, answer: Answer<'_>, request: Headers<'_>, alert: &Alert) -> Flow {
    let properties = &alert.extended_properties;
    let details = format!(
        "{BLOCKED}{{alert={} rule={}}}",
        alert.alert_type, properties.rule_id
    );
    let refusal = answer.refusal(request, &properties.request_id);
    let headers = refusal.headers.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    match host.respond(
        refusal.status,
        &details,
        &headers,
        refusal.body.as_bytes(),
        GRPC_PERMISSION_DENIED,
    ) {
        Ok(()) => Flow::Stop,
        // A host that cannot answer must not be left with a request that nobody answers.
        Err(status) => {
            host.log(
                Level::Error,
                format!("portcullis: cannot block (status {})", status.0).as_bytes(),
            );
            Flow::Continue
        }
    }
}
