//! From the detections of a request to those that count where it was going.

use super::Mode;
use super::effective::Effective;
use super::route::Reduced;
use super::settings::RuleName;
use crate::address;
use crate::alert::Event;
use crate::body;
use crate::confidence;
use crate::correlate::{Correlator, Memory};
use crate::headers::Headers;
use crate::inspect::{Detection, Facts, Inspector};

/// What was found in an event.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// The event.
    pub event: Event<'a>,
    /// Its body, if that is where it was found.
    pub body: Option<&'a body::Request<'a>>,
    /// The rules that matched.
    pub detections: Vec<Detection>,
}

/// What this policy lets stand of what was found, and the correlations that fire on it. What was let go is not counted.
pub fn judge(
    inspector: &mut Inspector,
    (correlator, memory): (&mut Correlator, &mut dyn Memory),
    found: Found<'_>,
    facts: &dyn Facts,
    policy: &Effective<'_>,
) -> Vec<Detection> {
    let event = found.event;
    let mut standing = enforce(inspector, found, facts, policy);
    let rules = inspector.rules();
    confidence::add_up(rules, &mut standing);
    let at_least = |number| policy.at_least(RuleName::of(rules, &rules.rule(number)?));
    let time = policy.time_unix_ns();
    let fired = correlator.observe_with(memory, rules, &standing, event, facts, time, &at_least);
    let stands = |detection: &&Detection| {
        rules.rule(detection.rule).is_some_and(|rule| {
            let name = RuleName::of(rules, &rule);
            // An exception for a parameter has been heard: without it the rules that are counted matched.
            let exceptions = policy.exceptions(name);
            let is_excepted = exceptions.iter().any(|exception| !exception.has_target());
            policy.allows(name) && !is_excepted
        })
    };
    standing.extend(fired.iter().filter(stands).cloned());
    standing
}

/// What this policy lets stand of what was found, without counting it.
///
/// An exception for a parameter, cookie or header is no matter of where the first evidence was: the rule
/// is asked again about the request without them, so what it finds elsewhere stands. A process has no place that could
/// be excepted, and nobody to be trusted.
pub fn enforce(
    inspector: &mut Inspector,
    found: Found<'_>,
    facts: &dyn Facts,
    policy: &Effective<'_>,
) -> Vec<Detection> {
    let allowed = |inspector: &Inspector, detection: &Detection| {
        let rules = inspector.rules();
        let rule = rules.rule(detection.rule)?;
        let name = RuleName::of(rules, &rule);
        policy.allows(name).then(|| policy.exceptions(name))
    };
    let detections = found.detections.into_iter();
    let Event::Request(head) = found.event else {
        return detections
            .filter(|detection| allowed(inspector, detection).is_some())
            .collect();
    };
    // Asking for the address costs a host call, so only where somebody is trusted.
    let is_trusted = policy.has_trusted_sources()
        && facts
            .source_address()
            .is_some_and(|source| policy.trusts(address::bits(source)));
    if policy.mode() == Mode::Off || is_trusted {
        return Vec::new();
    }
    let mut standing = Vec::with_capacity(detections.len());
    let mut detections: Vec<Detection> = detections.collect();
    if !policy.inspects_headers()
        && found.body.is_none()
        && detections
            .iter()
            .any(|detection| !detection.needs_response(inspector.rules()))
    {
        let alone = inspector.request_alone(head, facts).detections.to_vec();
        let rules = inspector.rules();
        detections.retain(|detection| {
            detection.needs_response(rules)
                || alone.iter().any(|found| found.rule == detection.rule)
        });
    }
    for detection in detections {
        let Some(exceptions) = allowed(inspector, &detection) else {
            continue;
        };
        let is_as_query = !inspector.reads_body(detection.rule);
        let mut stands = if exceptions.is_empty() {
            Some(detection)
        } else if exceptions.iter().all(|exception| exception.has_target()) {
            let body = found.body.map(|body| match is_as_query {
                true => body.as_query(),
                false => body.beside_head(),
            });
            let headers = body.as_deref().map_or(head, Headers::Pairs);
            let reduced = Reduced::new(headers, &exceptions);
            let pairs = reduced.pairs();
            let reduced = Headers::Pairs(&pairs);
            // What stands in cookies and other headers was found with the head.
            let is_alone = found.body.is_some() || !policy.inspects_headers();
            let again = match detection.needs_response(inspector.rules()) {
                true => inspector.response(reduced, facts),
                false if is_alone => inspector.request_alone(reduced, facts),
                false => inspector.request(reduced, facts),
            };
            let mut same = again.detections.iter();
            same.find(|found| found.rule == detection.rule).cloned()
        } else {
            None
        };
        if let Some(detection) = &mut stands
            && found.body.is_some()
            && is_as_query
        {
            body::name_field(detection);
        }
        standing.extend(stands);
    }
    standing
}
