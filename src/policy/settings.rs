//! What one layer says: the gateway's configuration, one entry of its route table, or what stands in a
//! route's metadata. A key that is left out leaves what less specific layers say as it is.

use super::values::{self, Keys, Value};
use super::{Effective, Mode, Origin, Place, PolicyError};
use crate::address::Network;
use crate::alert;
use crate::catalogue::{self, Severity};
use crate::ruleset::RuleSet;
use crate::ruleset::layout::{CorrelationKind, RuleRecord};
use crate::suspect::Scope;

/// Settings of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What to do.
    pub mode: Option<Mode>,
    /// When and how to block.
    pub block: Block,
    /// Which rules run.
    pub rules: Rules,
    /// Which bodies are inspected.
    pub body: Body,
    /// Which cookies and other headers are inspected; all of them for the gateway as a whole only.
    pub headers: Option<Scope>,
    /// What single rules do not look at.
    pub exceptions: Vec<Exception>,
    /// Clients that raise nothing.
    pub trusted_sources: Vec<Network>,
}

/// `block`: what it takes to be blocked, and the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The least severity.
    pub min_severity: Option<Severity>,
    /// The least confidence, 0 to 100.
    pub min_confidence: Option<u8>,
    /// Status of the answer, 400 to 599.
    pub status: Option<u16>,
    /// Body of the answer; `{request_id}` in it becomes the request's id.
    pub body: Option<String>,
    /// Its media type.
    pub content_type: Option<String>,
    /// Further headers of the answer.
    pub headers: Option<Vec<(String, String)>>,
}

/// `body`: whether bodies of requests are inspected, and how much of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Whether they are.
    pub inspect: Option<bool>,
    /// Bytes of a body that are inspected, 1 to 65,535.
    pub max_bytes: Option<u16>,
}

/// `rules`: which run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// These raise nothing.
    pub disable: Vec<Selector>,
    /// These raise alerts again, where a less specific layer or a wider name disables them.
    pub enable: Vec<Selector>,
    /// These raise alerts but do not block.
    pub stage: Vec<Stage>,
    /// From which count on these correlations fire.
    pub thresholds: Vec<Threshold>,
}

/// Correlations that fire earlier or later than their rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Which.
    pub rules: Vec<Selector>,
    /// The least count: of events, or of different values.
    pub at_least: u64,
}

/// Rules that are on trial: they raise alerts and block nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Which.
    pub rules: Vec<Selector>,
    /// From when on they block like all others, in nanoseconds since 1970; never, if it is left out.
    pub until_unix_ns: Option<i64>,
}

/// One rule, all of an alert type, or a family: the folder that the rule's file is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(pub String);

/// What single rules do not look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exception {
    /// Which rules.
    pub rules: Vec<Selector>,
    /// On this path only.
    pub path: Option<String>,
    /// On this path and those below it only.
    pub path_prefix: Option<String>,
    /// These query parameters; a `*` at the end stands for anything.
    pub parameter: Vec<String>,
    /// These cookies.
    pub cookie: Vec<String>,
    /// These headers, in any case.
    pub header: Vec<String>,
}

/// The names under which a rule is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleName<'r> {
    /// Its id.
    pub id: &'r str,
    /// Its alert type.
    pub alert: &'r str,
    /// The folder that its file is in.
    pub family: &'r str,
}

impl<'r> RuleName<'r> {
    /// The names of this rule.
    pub fn of(rules: &'r RuleSet, rule: &RuleRecord) -> RuleName<'r> {
        let mut folders = rules.text(rule.path).rsplit(['/', '\\']).skip(1);
        RuleName {
            id: rules.text(rule.id),
            alert: alert::type_of(rule),
            family: folders.next().unwrap_or_default(),
        }
    }
}

impl Selector {
    /// How narrowly this names the rule: 3 by its id, 2 by its alert type, 1 by its family; none if it does not.
    pub fn names(&self, rule: RuleName<'_>) -> Option<u8> {
        if self.0.eq_ignore_ascii_case(rule.id) {
            Some(3)
        } else if self.0 == rule.alert {
            Some(2)
        } else if self.0 == rule.family {
            Some(1)
        } else {
            None
        }
    }
}

impl Exception {
    /// Whether something is named that the rules do not look at, beside the path.
    pub fn has_target(&self) -> bool {
        !(self.parameter.is_empty() && self.cookie.is_empty() && self.header.is_empty())
    }
}

/// Whether `name` is one of these, of which each may end with a `*`.
pub fn is_named(names: &[String], name: &[u8]) -> bool {
    names.iter().any(|known| match known.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == known.as_bytes(),
    })
}

impl Settings {
    /// The keys of a layer.
    pub(super) const KEYS: [&'static str; 7] = [
        "mode",
        "block",
        "rules",
        "body",
        "headers",
        "exceptions",
        "trusted_sources",
    ];

    /// Reads a layer.
    pub(super) fn read(keys: &Keys<'_>) -> Result<Settings, PolicyError> {
        Ok(Settings {
            mode: keys.get("mode", |mode| mode.one_of(&Mode::NAMES))?,
            block: keys.or_default("block", Block::read)?,
            rules: keys.or_default("rules", Rules::read)?,
            body: keys.or_default("body", Body::read)?,
            headers: keys.get("headers", scope)?.flatten(),
            exceptions: keys.or_default("exceptions", |list| list.list(Exception::read))?,
            trusted_sources: keys.or_default("trusted_sources", |list| list.list(network))?,
        })
    }

    /// The same of a layer that holds for some requests. Headers are inspected before it is known for which.
    pub(super) fn read_layer(keys: &Keys<'_>) -> Result<Settings, PolicyError> {
        let settings = Settings::read(keys)?;
        match settings.headers {
            Some(Scope::Off) | None => Ok(settings),
            Some(_) => Err(PolicyError::new(
                "headers.inspect: only `off` holds for some requests alone; write `all` at the top of the gateway's configuration"
                    .to_owned(),
            )),
        }
    }

    /// What is wrong with these settings, given the rules that run. `place` says where they stand.
    pub fn check(&self, place: &str, known: &Known<'_>) -> Result<(), PolicyError> {
        let refuse = |what: String| Err(PolicyError::new(format!("{place}{what}")));
        let Rules {
            disable,
            enable,
            stage,
            thresholds,
        } = &self.rules;
        let lists = [("rules.disable", disable), ("rules.enable", enable)];
        let staged = stage.iter().map(|stage| ("rules.stage", &stage.rules));
        let excepted = self
            .exceptions
            .iter()
            .map(|exception| ("exceptions", &exception.rules));
        let counted = thresholds
            .iter()
            .map(|threshold| ("rules.thresholds", &threshold.rules));
        let named = lists
            .into_iter()
            .chain(staged)
            .chain(counted)
            .chain(excepted);
        for (key, selectors) in named {
            for selector in selectors {
                if let Some(problem) = known.problem(selector) {
                    return refuse(format!("{key}: {problem}"));
                }
            }
        }
        if let Some(both) = disable.iter().find(|off| enable.contains(off)) {
            return refuse(format!(
                "rules: `{}` is both disabled and enabled; take it out of one of the two",
                both.0
            ));
        }
        for (number, threshold) in (1..).zip(thresholds) {
            if let Some(problem) = known.threshold_problem(threshold) {
                return refuse(format!("rules.thresholds[{number}]: {problem}"));
            }
        }
        if let Some(problem) = self.contradiction() {
            return refuse(problem);
        }
        for (number, exception) in self.exceptions.iter().enumerate() {
            let number = number + 1;
            if exception.rules.is_empty() {
                return refuse(format!(
                    "exceptions: number {number} names no rules; write \"rules\": [\"…\"], or \"trusted_sources\" for clients that raise nothing"
                ));
            }
            if exception.path.is_some() && exception.path_prefix.is_some() {
                return refuse(format!(
                    "exceptions: number {number} has both `path` and `path_prefix`; keep one"
                ));
            }
            if !exception.has_target()
                && exception.path.is_none()
                && exception.path_prefix.is_none()
            {
                return refuse(format!(
                    "exceptions: number {number} holds for every request; add a path, parameter, cookie or header, or write the rules into `rules.disable`"
                ));
            }
            let paths = [&exception.path, &exception.path_prefix];
            if let Some(path) = paths
                .into_iter()
                .flatten()
                .find(|path| !path.starts_with('/'))
            {
                return refuse(format!(
                    "exceptions: number {number}: a path begins with a slash, and `{path}` does not"
                ));
            }
        }
        self.block.check().or_else(refuse)
    }

    /// Two things that this layer says of which one makes nothing of the other.
    fn contradiction(&self) -> Option<String> {
        let Rules { disable, stage, .. } = &self.rules;
        let off = |selectors: &[Selector]| {
            let mut off = selectors.iter().filter(|one| disable.contains(one));
            off.next().map(|one| one.0.clone())
        };
        for (number, trial) in (1..).zip(stage) {
            if let Some(both) = off(&trial.rules) {
                return Some(format!(
                    "rules.stage[{number}]: `{both}` is disabled and on trial; a rule on trial raises alerts, so take it out of `rules.disable`"
                ));
            }
            let earlier = stage.iter().take(number - 1);
            let twice = earlier.filter(|other| other.until_unix_ns != trial.until_unix_ns);
            let twice = twice.flat_map(|other| &other.rules);
            if let Some(both) = twice
                .clone()
                .find(|selector| trial.rules.contains(selector))
            {
                return Some(format!(
                    "rules.stage[{number}]: the trial of `{}` has another end above; keep one",
                    both.0
                ));
            }
        }
        for (number, exception) in (1..).zip(&self.exceptions) {
            if let Some(both) = off(&exception.rules) {
                return Some(format!(
                    "exceptions[{number}]: `{both}` is disabled, so nothing is left to except; take it out of one of the two"
                ));
            }
            for (other, earlier) in (1..number).zip(&self.exceptions) {
                if earlier == exception {
                    return Some(format!(
                        "exceptions[{number}] says what exceptions[{other}] says; keep one"
                    ));
                }
                let (wide, narrow) = match (earlier.has_target(), exception.has_target()) {
                    (false, true) => (other, number),
                    (true, false) => (number, other),
                    _ => continue,
                };
                if earlier.rules == exception.rules
                    && (&earlier.path, &earlier.path_prefix)
                        == (&exception.path, &exception.path_prefix)
                {
                    return Some(format!(
                        "exceptions[{narrow}] is for one parameter, cookie or header, and exceptions[{wide}] lets the rules go on the whole path; keep one"
                    ));
                }
            }
        }
        None
    }
}

/// The rule of a correlation whose count has a threshold, and the most that it can count to.
fn counting(rules: &RuleSet, correlation: u32) -> Option<(RuleName<'_>, u64)> {
    let correlation = rules.correlation(correlation)?;
    let most = match CorrelationKind::from_number(correlation.kind)? {
        CorrelationKind::EventCount | CorrelationKind::ValueCount => correlation.at_most,
        // How many of its rules matched, or that something is new, is what such a rule is, no matter of degree.
        CorrelationKind::Temporal
        | CorrelationKind::TemporalOrdered
        | CorrelationKind::NewValue => return None,
    };
    let rule = rules.rule(correlation.rule)?;
    Some((RuleName::of(rules, &rule), most))
}

fn network(value: &Value<'_>) -> Result<Network, PolicyError> {
    let text = value.text()?;
    let wrong = || format!("`{text}` is no network: write an address or `10.0.0.0/8`");
    Network::read(text).ok_or_else(|| value.refuse(&wrong()))
}

/// `headers`: which are inspected.
fn scope(value: &Value<'_>) -> Result<Option<Scope>, PolicyError> {
    let names = [
        ("off", Scope::Off),
        ("suspicious", Scope::Suspicious),
        ("all", Scope::All),
    ];
    let keys = value.keys(&["inspect"])?;
    keys.get("inspect", |inspect| inspect.one_of(&names))
}

fn selectors(value: &Value<'_>) -> Result<Vec<Selector>, PolicyError> {
    value.list(|item| Ok(Selector(item.text()?.to_owned())))
}

impl Rules {
    fn read(value: &Value<'_>) -> Result<Rules, PolicyError> {
        let keys = value.keys(&["disable", "enable", "stage", "thresholds"])?;
        Ok(Rules {
            thresholds: keys.or_default("thresholds", |list| list.list(Threshold::read))?,
            disable: keys.or_default("disable", selectors)?,
            enable: keys.or_default("enable", selectors)?,
            stage: keys.or_default("stage", |list| list.list(Stage::read))?,
        })
    }
}

impl Threshold {
    fn read(value: &Value<'_>) -> Result<Threshold, PolicyError> {
        let keys = value.keys(&["rules", "at_least"])?;
        let missing = |key: &str| value.refuse(&format!("`{key}` is missing"));
        let rules = keys.get("rules", selectors)?;
        let at_least = keys.get("at_least", |count| count.whole(1, u16::MAX))?;
        Ok(Threshold {
            rules: rules.ok_or_else(|| missing("rules"))?,
            at_least: u64::from(at_least.ok_or_else(|| missing("at_least"))?),
        })
    }
}

impl Body {
    fn read(value: &Value<'_>) -> Result<Body, PolicyError> {
        let keys = value.keys(&["inspect", "max_bytes"])?;
        Ok(Body {
            inspect: keys.get("inspect", Value::truth)?,
            max_bytes: keys.get("max_bytes", |most| most.whole(1, super::BODY_BYTES))?,
        })
    }
}

impl Stage {
    fn read(value: &Value<'_>) -> Result<Stage, PolicyError> {
        let keys = value.keys(&["rules", "until"])?;
        let instant = |value: &Value<'_>| {
            let text = value.text()?;
            let wrong =
                || format!("`{text}` is no time: write `2026-12-01` or `2026-12-01T08:00:00Z`");
            crate::time::parse_rfc3339(text).ok_or_else(|| value.refuse(&wrong()))
        };
        Ok(Stage {
            rules: keys.or_default("rules", selectors)?,
            until_unix_ns: keys.get("until", instant)?,
        })
    }
}

impl Exception {
    fn read(value: &Value<'_>) -> Result<Exception, PolicyError> {
        let keys = value.keys(&[
            "rules",
            "path",
            "path_prefix",
            "parameter",
            "cookie",
            "header",
        ])?;
        let text = |value: &Value<'_>| Ok(value.text()?.to_owned());
        Ok(Exception {
            rules: keys.or_default("rules", selectors)?,
            path: keys.get("path", text)?,
            path_prefix: keys.get("path_prefix", text)?,
            parameter: keys.or_default("parameter", Value::texts)?,
            cookie: keys.or_default("cookie", Value::texts)?,
            header: keys.or_default("header", Value::texts)?,
        })
    }
}

impl Block {
    fn read(value: &Value<'_>) -> Result<Block, PolicyError> {
        let keys = value.keys(&[
            "min_severity",
            "min_confidence",
            "status",
            "body",
            "content_type",
            "headers",
        ])?;
        let text = |value: &Value<'_>| Ok(value.text()?.to_owned());
        let severities = Severity::ALL.map(|severity| (severity.name(), severity));
        let confidence = keys.get("min_confidence", |value| value.whole(0, 100))?;
        Ok(Block {
            min_severity: keys.get("min_severity", |value| value.one_of(&severities))?,
            min_confidence: confidence.and_then(|confidence| u8::try_from(confidence).ok()),
            status: keys.get("status", |value| value.whole(400, 599))?,
            body: keys.get("body", text)?,
            content_type: keys.get("content_type", text)?,
            headers: keys.get("headers", Value::texts_by_key)?,
        })
    }

    fn check(&self) -> Result<(), String> {
        /// A gateway's answer is no place for documents.
        const BODY_BYTES: usize = 64 * 1024;
        if self
            .body
            .as_ref()
            .is_some_and(|body| body.len() > BODY_BYTES)
        {
            return Err(format!("block.body is longer than {BODY_BYTES} bytes"));
        }
        let headers = self.headers.iter().flatten();
        let content_type = self
            .content_type
            .iter()
            .map(|value| ("content-type", value));
        for (name, value) in headers
            .map(|(name, value)| (name.as_str(), value))
            .chain(content_type)
        {
            let is_token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(format!("block.headers: `{name}` is no name of a header"));
            }
            if value
                .bytes()
                .any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f)
            {
                return Err(format!(
                    "block.headers: the value of `{name}` holds a control character"
                ));
            }
        }
        Ok(())
    }
}

/// Every name that a selector can have.
#[derive(Clone, Debug)]
pub struct Known<'r> {
    /// The rules that run.
    pub rules: Vec<RuleName<'r>>,
    /// Those among them that count, and the most that each can count to.
    pub counting: Vec<(RuleName<'r>, u64)>,
}

impl<'r> Known<'r> {
    /// Those of these rules.
    pub fn of(rules: &'r RuleSet) -> Known<'r> {
        let indexes = 0..u32::try_from(rules.rule_count()).unwrap_or(u32::MAX);
        Known {
            rules: indexes
                .filter_map(|index| rules.rule(index))
                .map(|rule| RuleName::of(rules, &rule))
                .collect(),
            counting: (0..u32::try_from(rules.correlation_count()).unwrap_or(u32::MAX))
                .filter_map(|index| counting(rules, index))
                .collect(),
        }
    }

    /// Whether these settings, the gateway's own, let every request pass unseen without saying that it is meant.
    pub(super) fn none_is_left(&self, settings: &Settings) -> bool {
        if self.rules.is_empty() || settings.mode == Some(Mode::Off) {
            return false;
        }
        if settings.trusted_sources.iter().any(Network::holds_all) {
            return true;
        }
        let nowhere = Place::default();
        let alone = Effective::new(vec![(Origin::Gateway, settings)], &nowhere, 0);
        let is_excepted = |rule: RuleName<'_>| {
            settings.exceptions.iter().any(|exception| {
                let everywhere = exception.path_prefix.as_deref() == Some("/");
                let names_it = exception
                    .rules
                    .iter()
                    .any(|selector| selector.names(rule).is_some());
                everywhere && !exception.has_target() && names_it
            })
        };
        !(self.rules.iter()).any(|rule| alone.allows(*rule) && !is_excepted(*rule))
    }

    /// What is wrong with this threshold, whose selectors are known.
    fn threshold_problem(&self, threshold: &Threshold) -> Option<String> {
        if threshold.rules.is_empty() {
            return Some("it names no rules; write \"rules\": [\"…\"]".to_owned());
        }
        for selector in &threshold.rules {
            let named = self.counting.iter();
            let mut named = named.filter(|(rule, _)| selector.names(*rule).is_some());
            let Some((_, most)) = named.clone().next() else {
                return Some(format!(
                    "`{}` names no rule that counts; `portcullis rules list` shows those of kind event_count and value_count",
                    selector.0
                ));
            };
            if named.all(|(_, most)| *most < threshold.at_least) {
                return Some(format!(
                    "at_least: `{}` counts no further than {most}",
                    selector.0
                ));
            }
        }
        None
    }

    /// What is wrong with this selector.
    fn problem(&self, selector: &Selector) -> Option<String> {
        // An alert type that no rule raises yet is still a name that an operator may prepare for.
        if self
            .rules
            .iter()
            .any(|rule| selector.names(*rule).is_some())
            || catalogue::find(&selector.0).is_some()
        {
            return None;
        }
        let given = &selector.0;
        let families = self.rules.iter().map(|rule| rule.family);
        let names = families
            .chain(catalogue::ALERTS.iter().map(|kind| kind.id))
            .chain(self.rules.iter().map(|rule| rule.id));
        let help = match values::nearest(given, names, 3) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "`portcullis rules list` shows them".to_owned(),
        };
        Some(format!(
            "`{given}` is neither the id of a rule, nor an alert type, nor a family of rules; {help}"
        ))
    }
}
