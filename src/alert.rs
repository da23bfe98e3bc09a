//! Alerts: what leaves the product when rules matched.
//!
//! Takes in the detections of one request, or of one process that started, and what is known of it. Gives out one [`Alert`] for each
//! alert type, made from the surest detection, the other rules named beside it. The JSON form has
//! the key names of the public alert schema of the service whose catalogue we raise; it is described
//! in `docs/ALERTS.md` and versioned by [`SCHEMA_VERSION`].
//!
//! Nothing in an alert can forge a log line: text that came from traffic holds no control
//! characters (they are written `\xHH`), is bounded, and has the values of secrets masked.

use std::cmp::Reverse;

use serde::Serialize;

use crate::catalogue::{self, AlertType, Severity};
use crate::correlate::Correlated;
use crate::decoded::{split_pair, split_url};
use crate::event::{Source, View};
use crate::field::Field;
use crate::headers::Headers;
use crate::incident::Incident;
use crate::inspect::{Detection, Evidence};
use crate::limits;
use crate::policy::{Action, RuleName};
use crate::ruleset::RuleSet;
use crate::ruleset::layout::{RuleRecord, Span};
use crate::sorted;
use crate::time::rfc3339;

/// Version of the JSON form.
pub const SCHEMA_VERSION: &str = "1.0";

/// What is known of the request beside its headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// Address of the client, with or without a port.
    pub source: Option<&'a str>,
    /// Name of the route.
    pub route: Option<&'a str>,
    /// Time of the request, in nanoseconds since 1970.
    pub time_unix_ns: i64,
    /// Whether some part of the request was over a limit.
    pub truncated: bool,
    /// Status of the response, if that was asked about.
    pub status: Option<u16>,
}

/// One alert.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Alert {
    /// [`SCHEMA_VERSION`].
    pub schema_version: &'static str,
    /// Identifier in the catalogue.
    pub alert_type: &'static str,
    /// Name for people.
    pub alert_display_name: &'static str,
    /// Severity.
    pub severity: &'static str,
    /// ATT&CK tactics, separated by `, `.
    pub intent: String,
    /// ATT&CK techniques.
    pub techniques: Vec<String>,
    /// How sure it is, 0 to 100.
    pub confidence: u8,
    /// Time of the request, RFC 3339 in UTC.
    pub time_generated: String,
    /// Host that the request was for, or that the process runs on.
    pub compromised_entity: String,
    /// `Portcullis`.
    pub product_name: &'static str,
    /// Who and what took part.
    pub entities: Vec<Entity>,
    /// What matched, and what was done.
    pub extended_properties: Properties,
    /// What to do.
    pub remediation_steps: Vec<&'static str>,
}

/// Somebody or something that took part.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "Type", rename_all = "lowercase")]
pub enum Entity {
    /// The client.
    Ip {
        /// Its address.
        #[serde(rename = "Address")]
        address: String,
    },
    /// What it asked for.
    Url {
        /// Host and target, the values of secrets masked.
        #[serde(rename = "Url")]
        url: String,
    },
    /// A process that started.
    Process {
        /// Its command line.
        #[serde(rename = "CommandLine")]
        command_line: String,
    },
}

/// What matched, and what was done.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Properties {
    /// Id of the surest rule.
    pub rule_id: String,
    /// Its title.
    pub rule_title: String,
    /// Ids of the other rules of this alert type that matched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_rules: Vec<String>,
    /// What was counted, if the surest rule or another one of them is a correlation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Correlation>,
    /// Which incident it is one of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
    /// `attempt` if the rule is one for processes and its command line stands in a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<&'static str>,
    /// `detected` or `blocked`.
    pub action: &'static str,
    /// Field that matched; absent if the rule matched because something was missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'static str>,
    /// Parameter, cookie or header that matched.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_name: String,
    /// View of the field that matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<&'static str>,
    /// Offset of the match in that view, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<usize>,
    /// The match with a little around it.
    pub evidence: String,
    /// Method; only of a request, as the three below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Target, the values of secrets masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// User-Agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Referer, the values of secrets masked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub referer: String,
    /// Status of the response, if the rule asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Route.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route: String,
    /// `x-request-id`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Command line; only of a process, as the two below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// Path of its executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Path of its parent's executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_image: Option<String>,
    /// Whether some part of the request was over a limit and not inspected.
    pub truncated: bool,
}

/// A map as JSON has it. Not one of the library's, which are several kilobytes of module.
fn as_map<S: serde::Serializer>(pairs: &[(String, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

/// What several events came to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Correlation {
    /// Id of the correlation.
    pub rule_id: String,
    /// Events, distinct values, or rules that matched.
    pub count: u64,
    /// Whether the count is an estimate: of more values than are kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// How far back they were counted.
    pub window_seconds: u64,
    /// The fields that they have in common, as the rule calls them, and their values; those of secrets masked.
    #[serde(serialize_with = "as_map")]
    pub group_key: Vec<(String, String)>,
}

impl Correlation {
    fn new(rules: &RuleSet, rule: &RuleRecord, counted: &Correlated) -> Correlation {
        let key = |(label, value): &(Span, Vec<u8>)| {
            let label = rules.text(*label).to_owned();
            let value = match is_secret(label.as_bytes()) || label.contains("cookie") {
                true => "***".to_owned(),
                false => printable(value, limits::EVIDENCE_BYTES),
            };
            (label, value)
        };
        let mut group_key: Vec<(String, String)> = counted.group.iter().map(key).collect();
        sorted::by_text(&mut group_key, |(label, _)| label.as_bytes());
        group_key.dedup_by(|later, kept| later.0 == kept.0);
        Correlation {
            rule_id: rules.text(rule.id).to_owned(),
            count: counted.count,
            estimated: counted.is_estimate,
            window_seconds: counted.timespan_ns / 1_000_000_000,
            group_key,
        }
    }
}

/// What was inspected.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A request.
    Request(Headers<'a>),
    /// A process that started, and the host it runs on.
    Process(&'a [(Field, &'a [u8])], &'a [u8]),
}

impl<'a> From<Headers<'a>> for Event<'a> {
    fn from(headers: Headers<'a>) -> Event<'a> {
        Event::Request(headers)
    }
}

impl<'a> Event<'a> {
    fn header(&self, name: &[u8]) -> &'a [u8] {
        match self {
            Event::Request(headers) => headers.get(name).unwrap_or_default(),
            Event::Process(..) => &[],
        }
    }

    fn host(&self) -> &'a [u8] {
        match self {
            Event::Request(headers) => headers.host().unwrap_or_default(),
            Event::Process(_, host) => host,
        }
    }

    /// A field of a process, for people.
    fn field(&self, wanted: Field) -> Option<String> {
        let Event::Process(fields, _) = self else {
            return None;
        };
        let (_, value) = fields.iter().find(|(field, _)| *field == wanted)?;
        Some(printable(value, limits::ALERT_TARGET_BYTES))
    }
}

/// One alert for each alert type among the detections, the most severe first. Rules that are only counted have none.
#[inline]
pub fn alerts<'d, 'e>(
    rules: &RuleSet,
    detections: impl IntoIterator<Item = &'d Detection>,
    event: impl Into<Event<'e>>,
    context: &Context<'_>,
    decide: impl Fn(RuleName<'_>, Severity, u8) -> Action,
) -> Vec<Alert> {
    let detections: Vec<&Detection> = detections.into_iter().collect();
    alerts_of(rules, &detections, event.into(), context, &decide)
}

/// The same for any caller: one copy, in the module's small code.
#[inline(never)]
fn alerts_of(
    rules: &RuleSet,
    detections: &[&Detection],
    event: Event<'_>,
    context: &Context<'_>,
    decide: &dyn Fn(RuleName<'_>, Severity, u8) -> Action,
) -> Vec<Alert> {
    let mut groups: Vec<(u16, Vec<&Detection>)> = Vec::new();
    for &detection in detections {
        let Some(rule) = rules.rule(detection.rule).filter(|rule| rule.silent == 0) else {
            continue;
        };
        match groups.iter_mut().find(|(alert, _)| *alert == rule.alert) {
            Some((_, group)) => group.push(detection),
            None => groups.push((rule.alert, vec![detection])),
        }
    }
    let mut alerts: Vec<(Severity, Alert)> = Vec::new();
    for (kind, mut group) in groups {
        sorted::by_key(&mut group, |detection| {
            u64::from(u8::MAX - detection.confidence)
        });
        if let Some(kind) = catalogue::ALERTS.get(usize::from(kind))
            && let Some(alert) = alert(rules, kind, &group, event, context, decide)
        {
            // The worst first. There is at most one of each type in the catalogue.
            let rank = |(severity, alert): &(Severity, Alert)| {
                (Reverse((*severity, alert.confidence)), alert.alert_type)
            };
            let at = alerts.partition_point(|other| rank(other) <= rank(&alert));
            alerts.insert(at, alert);
        }
    }
    alerts.into_iter().map(|(_, alert)| alert).collect()
}

#[inline(never)]
fn alert(
    rules: &RuleSet,
    kind: &'static AlertType,
    group: &[&Detection],
    event: Event<'_>,
    context: &Context<'_>,
    decide: &dyn Fn(RuleName<'_>, Severity, u8) -> Action,
) -> Option<(Severity, Alert)> {
    let (best, others) = group.split_first()?;
    let rule = rules.rule(best.rule)?;
    let severity = Severity::from_number(rule.severity).unwrap_or(kind.severity);
    // A rule on trial does not keep another one of this type from blocking.
    let blocks = |detection: &&Detection| {
        rules.rule(detection.rule).is_some_and(|rule| {
            let severity = Severity::from_number(rule.severity).unwrap_or(kind.severity);
            decide(RuleName::of(rules, &rule), severity, detection.confidence) == Action::Blocked
        })
    };
    let action = match group.iter().any(blocks) {
        true => Action::Blocked,
        false => Action::Detected,
    };
    let header = |name: &[u8]| event.header(name);
    let is_request = matches!(event, Event::Request(_));
    let of_request = |text: String| is_request.then_some(text);
    let host = printable(event.host(), limits::EVIDENCE_BYTES);
    let target = masked_url(header(b":path"));
    let command_line = event.field(Field::CommandLine);
    let evidence = best.evidence.as_ref();
    let mut techniques: Vec<String> = rules
        .text(rule.tags)
        .split('\n')
        .filter_map(technique)
        .collect();
    techniques.dedup();
    let mut entities = Vec::new();
    if let Some(source) = context.source {
        entities.push(Entity::Ip {
            address: without_port(source).to_owned(),
        });
    }
    entities.push(if is_request {
        Entity::Url {
            url: format!("{host}{target}"),
        }
    } else {
        Entity::Process {
            command_line: command_line.clone().unwrap_or_default(),
        }
    });
    let alert = Alert {
        schema_version: SCHEMA_VERSION,
        alert_type: kind.id,
        alert_display_name: kind.display_name,
        severity: severity.name(),
        intent: kind.tactics.join(", "),
        techniques,
        confidence: best.confidence,
        time_generated: rfc3339(context.time_unix_ns),
        compromised_entity: host,
        product_name: "Portcullis",
        entities,
        extended_properties: Properties {
            rule_id: rules.text(rule.id).to_owned(),
            rule_title: rules.text(rule.title).to_owned(),
            other_rules: others
                .iter()
                .filter_map(|other| Some(rules.text(rules.rule(other.rule)?.id).to_owned()))
                .collect(),
            correlation: group.iter().find_map(|detection| {
                let rule = rules.rule(detection.rule)?;
                let counted = detection.correlated.as_deref()?;
                Some(Correlation::new(rules, &rule, counted))
            }),
            incident: None,
            stage: (is_request && rule.source == Source::Process as u8).then_some("attempt"),
            action: action.name(),
            field: evidence.map(|evidence| evidence.field.name()),
            field_name: evidence.map_or(String::new(), |evidence| printable(&evidence.name, 64)),
            view: evidence
                .map(|evidence| evidence.view)
                .filter(|view| *view != View::Raw)
                .map(View::name),
            offset: evidence.map(|evidence| evidence.offset),
            evidence: evidence.map_or(String::new(), evidence_text),
            method: of_request(printable(header(b":method"), 16)),
            target: of_request(target),
            user_agent: of_request(printable(header(b"user-agent"), limits::ALERT_TARGET_BYTES)),
            referer: masked_url(header(b"referer")),
            status: context.status,
            route: context.route.unwrap_or_default().to_owned(),
            request_id: printable(header(b"x-request-id"), 64),
            command_line,
            image: event.field(Field::Image),
            parent_image: event.field(Field::ParentImage),
            truncated: context.truncated,
        },
        remediation_steps: vec![kind.remediation],
    };
    Some((severity, alert))
}

/// Identifier of the alert type that a rule raises.
pub fn type_of(rule: &RuleRecord) -> &'static str {
    catalogue::ALERTS
        .get(usize::from(rule.alert))
        .map_or("", |kind| kind.id)
}

/// `attack.t1190` to `T1190`.
fn technique(tag: &str) -> Option<String> {
    let id = tag.strip_prefix("attack.t")?;
    id.starts_with(|first: char| first.is_ascii_digit())
        .then(|| format!("T{id}"))
}

/// The address of `1.2.3.4:5678` or `[::1]:5678`.
pub fn without_port(source: &str) -> &str {
    match source.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None if source.bytes().filter(|&byte| byte == b':').count() == 1 => {
            source.split(':').next().unwrap_or(source)
        }
        None => source,
    }
}

/// Words in the names of parameters, cookies and headers whose values nobody should read in a log.
const SECRETS: [&str; 14] = [
    "passw",
    "pwd",
    "secret",
    "token",
    "auth",
    "session",
    "sess",
    "sid",
    "apikey",
    "api_key",
    "api-key",
    "credential",
    "signature",
    "private",
];

fn is_secret(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    SECRETS.iter().any(|word| name.contains(word))
}

/// Evidence for people. Of a secret only the first characters of the match are shown: they tell an
/// attack from a secret well enough.
fn evidence_text(evidence: &Evidence) -> String {
    // A whole of several headers does not say which of them it is.
    let secret = is_secret(&evidence.name)
        || evidence.field == Field::Cookie
        || evidence.field == Field::Header && evidence.name.is_empty();
    let shown = if secret {
        evidence.text.len().min(24)
    } else {
        evidence.text.len()
    };
    let text = printable(
        evidence.text.get(..shown).unwrap_or_default(),
        limits::EVIDENCE_BYTES,
    );
    if shown < evidence.text.len() {
        text + "***"
    } else {
        text
    }
}

/// A URL for people: bounded, printable, the values of secret parameters masked.
fn masked_url(url: &[u8]) -> String {
    let (stem, query) = split_url(url);
    let mut out = printable(stem, limits::ALERT_TARGET_BYTES);
    let Some(query) = query else { return out };
    for (index, pair) in query.split(|&byte| byte == b'&').enumerate() {
        if out.len() >= limits::ALERT_TARGET_BYTES {
            out.push('…');
            break;
        }
        out.push(if index == 0 { '?' } else { '&' });
        match split_pair(pair) {
            (Some(name), _) if is_secret(name) => {
                out.push_str(&printable(name, 64));
                out.push_str("=***");
            }
            _ => out.push_str(&printable(pair, limits::ALERT_TARGET_BYTES)),
        }
    }
    out
}

/// Text from traffic for people: valid UTF-8 as it is; control characters, which could forge lines or
/// drive a terminal, and bytes that are not UTF-8, as `\xHH`. At most `max_bytes` of input are shown.
pub fn printable(bytes: &[u8], max_bytes: usize) -> String {
    let cut = bytes.len() > max_bytes;
    let mut out = String::with_capacity(bytes.len().min(max_bytes));
    for chunk in bytes.get(..max_bytes).unwrap_or(bytes).utf8_chunks() {
        for char in chunk.valid().chars() {
            // Format characters turn text around or hide it: U+200B–200F, U+202A–202E, U+2060–206F, BOM.
            let hidden = matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
            if char.is_control() || hidden {
                let mut utf8 = [0; 4];
                for byte in char.encode_utf8(&mut utf8).bytes() {
                    push_hex(byte, &mut out);
                }
            } else {
                out.push(char);
            }
        }
        for &byte in chunk.invalid() {
            push_hex(byte, &mut out);
        }
    }
    if cut {
        out.push('…');
    }
    out
}

fn push_hex(byte: u8, out: &mut String) {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    out.push_str("\\x");
    out.push(digit(byte >> 4));
    out.push(digit(byte & 15));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_traffic_cannot_forge_lines() {
        let hostile = b"a\r\nb\x1b[31m\xff\xe2\x80\xae\xc2\x85\0\"end";
        let text = printable(hostile, 100);
        assert_eq!(
            text,
            "a\\x0d\\x0ab\\x1b[31m\\xff\\xe2\\x80\\xae\\xc2\\x85\\x00\"end"
        );
        assert!(!text.chars().any(char::is_control));
        assert_eq!(printable("éé".as_bytes(), 3), "é\\xc3…");
    }

    #[test]
    fn secrets_are_masked() {
        assert_eq!(
            masked_url(b"/login?user=joe&password=hunter2&x=1"),
            "/login?user=joe&password=***&x=1"
        );
        assert_eq!(masked_url(b"/cb?access_token=abc"), "/cb?access_token=***");
        assert_eq!(masked_url(b"/plain"), "/plain");
        let long = [b"/a?b=".as_slice(), &[b'c'; 5000]].concat();
        assert!(masked_url(&long).len() < 2 * limits::ALERT_TARGET_BYTES);
    }

    #[test]
    fn ports_are_cut_off() {
        for (source, want) in [
            ("1.2.3.4:80", "1.2.3.4"),
            ("[::1]:80", "::1"),
            ("::1", "::1"),
            ("1.2.3.4", "1.2.3.4"),
        ] {
            assert_eq!(without_port(source), want);
        }
    }
}
