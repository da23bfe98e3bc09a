//! From false alarms to exclusions: grouped by rule and by what it has to overlook, on as few and as narrow
//! paths as hold them all.
//!
//! Pure: alarms in, a [`Proposal`] out. Up to [`PATHS`] paths are named one by one; where there are more they are taken
//! together by the folders that they share, and what is everywhere is excepted everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::observe::{Alarm, RuleKey, Target};

/// Paths, or names of parameters, that are excluded one by one. More of them are one thing that varies.
pub const PATHS: usize = 3;

/// Characters that names must share at their start to be written as `start*`.
const SHARED_START: usize = 3;

/// The most that a threshold can be; the filter refuses more.
const MOST: u64 = u16::MAX as u64;

/// Where an exception holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Where {
    Path(String),
    Prefix(String),
    Anywhere,
}

/// What is excluded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The rule overlooks this there.
    Exception { place: Where, target: Target },
    /// The correlation fires from this count on.
    Threshold { at_least: u64 },
    /// The rule is off.
    Disable,
}

/// One exclusion, and what it is for.
#[derive(Clone, Debug)]
pub struct Exclusion {
    pub rule: RuleKey,
    pub what: What,
    /// Requests that it helps to silence.
    pub requests: u64,
    /// The first of them.
    pub example: String,
    /// The paths on which it was needed.
    pub paths: BTreeSet<String>,
}

/// What is proposed.
#[derive(Clone, Debug, Default)]
pub struct Proposal {
    pub exclusions: Vec<Exclusion>,
    /// For too few requests to be proposed.
    pub left: Vec<Exclusion>,
}

impl Target {
    /// The key of an exception, and the name under it.
    fn key(&self) -> Option<(&'static str, &str)> {
        match self {
            Target::Parameter(name) => Some(("parameter", name)),
            Target::Cookie(name) => Some(("cookie", name)),
            Target::Header(name) => Some(("header", name)),
            Target::Path | Target::Count(_) => None,
        }
    }

    fn renamed(&self, name: String) -> Target {
        match self {
            Target::Parameter(_) => Target::Parameter(name),
            Target::Cookie(_) => Target::Cookie(name),
            Target::Header(_) => Target::Header(name),
            Target::Path | Target::Count(_) => self.clone(),
        }
    }

    fn holds(&self, other: &Target) -> bool {
        match (self.key(), other.key()) {
            (Some((kind, name)), Some((other_kind, other))) => {
                kind == other_kind
                    && match name.strip_suffix('*') {
                        Some(start) => other.starts_with(start),
                        None => name == other,
                    }
            }
            (None, None) => true,
            _ => false,
        }
    }
}

impl Where {
    fn holds(&self, path: &str) -> bool {
        match self {
            Where::Path(exact) => exact == path,
            Where::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Where::Anywhere => true,
        }
    }
}

impl Exclusion {
    /// What to add to a configuration.
    pub fn setting(&self) -> Value {
        let rules = [&self.rule.id];
        match &self.what {
            What::Exception { place, target } => {
                let mut exception = json!({"rules": rules});
                match place {
                    Where::Path(path) => exception["path"] = json!(path),
                    Where::Prefix(prefix) => exception["path_prefix"] = json!(prefix),
                    Where::Anywhere => {}
                }
                if let Some((key, name)) = target.key() {
                    exception[key] = json!(name);
                }
                json!({"exceptions": [exception]})
            }
            What::Threshold { at_least } => {
                json!({"rules": {"thresholds": [{"rules": rules, "at_least": at_least}]}})
            }
            What::Disable => json!({"rules": {"disable": rules}}),
        }
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Exception { place, target } => {
                match target.key() {
                    Some((key, name)) => {
                        write!(f, "{} overlooks the {key} `{name}`", self.rule.alert)?
                    }
                    None => write!(f, "{} is not raised", self.rule.alert)?,
                }
                match place {
                    Where::Path(path) => write!(f, " on {path}"),
                    Where::Prefix(prefix) => write!(f, " on {prefix} and below"),
                    Where::Anywhere => write!(f, " anywhere"),
                }
            }
            What::Threshold { at_least } => {
                write!(f, "{} fires from {at_least} on", self.rule.alert)
            }
            What::Disable => write!(f, "{} is switched off", self.rule.alert),
        }
    }
}

impl Proposal {
    /// Whether something that is proposed should have silenced this.
    pub fn covers(&self, alarm: &Alarm) -> bool {
        alarm.targets.iter().all(|target| {
            self.exclusions.iter().any(|exclusion| {
                exclusion.rule == alarm.rule
                    && match &exclusion.what {
                        What::Exception {
                            place,
                            target: known,
                        } => place.holds(&alarm.path) && known.holds(target),
                        What::Threshold { .. } => matches!(target, Target::Count(_)),
                        What::Disable => true,
                    }
            })
        })
    }
}

/// Requests, and the paths that they were for.
#[derive(Clone, Debug, Default)]
struct Needs {
    requests: BTreeSet<u64>,
    paths: BTreeMap<String, BTreeSet<u64>>,
    example: Option<(u64, String)>,
}

impl Needs {
    fn add(&mut self, alarm: &Alarm) {
        self.requests.insert(alarm.request);
        self.paths
            .entry(alarm.path.clone())
            .or_default()
            .insert(alarm.request);
        if self
            .example
            .as_ref()
            .is_none_or(|(first, _)| alarm.request < *first)
        {
            self.example = Some((alarm.request, alarm.example.clone()));
        }
    }

    fn extend(&mut self, other: Needs) {
        self.requests.extend(other.requests);
        for (path, requests) in other.paths {
            self.paths.entry(path).or_default().extend(requests);
        }
        self.example = match (self.example.take(), other.example) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
    }
}

/// Exclusions for these alarms. For `stubborn` rules single targets have not helped; those that silence fewer than
/// `min_requests` requests are left out.
pub fn propose(alarms: &[Alarm], stubborn: &BTreeSet<RuleKey>, min_requests: u64) -> Proposal {
    let mut groups: BTreeMap<(RuleKey, Target), Needs> = BTreeMap::new();
    let mut counts: BTreeMap<RuleKey, (u64, Needs)> = BTreeMap::new();
    for alarm in alarms {
        let is_stubborn = stubborn.contains(&alarm.rule);
        for target in &alarm.targets {
            if let Target::Count(count) = target {
                let known = counts.entry(alarm.rule.clone()).or_default();
                known.0 = known.0.max(*count);
                known.1.add(alarm);
                continue;
            }
            let target = if is_stubborn {
                Target::Path
            } else {
                target.clone()
            };
            groups
                .entry((alarm.rule.clone(), target))
                .or_default()
                .add(alarm);
        }
    }
    let mut all = Vec::new();
    for ((rule, target), needs) in with_shared_names(groups) {
        for (place, paths) in places(needs.paths.keys()) {
            let what = match (&place, target.key()) {
                // Nothing is left to narrow it down by.
                (Where::Anywhere, None) => What::Disable,
                _ => What::Exception {
                    place,
                    target: target.clone(),
                },
            };
            all.push(exclusion(&rule, what, &needs, paths));
        }
    }
    for (rule, (count, needs)) in counts {
        // It fires as soon as its count is reached, so how far it goes is found by doubling.
        let what = match count.saturating_mul(2) {
            at_least if at_least <= MOST && !stubborn.contains(&rule) => {
                What::Threshold { at_least }
            }
            _ => What::Disable,
        };
        let paths = needs.paths.keys().cloned().collect();
        all.push(exclusion(&rule, what, &needs, paths));
    }
    // What is switched off needs no exception.
    let off: BTreeSet<RuleKey> = (all.iter())
        .filter(|exclusion| exclusion.what == What::Disable)
        .map(|exclusion| exclusion.rule.clone())
        .collect();
    all.retain(|exclusion| exclusion.what == What::Disable || !off.contains(&exclusion.rule));
    all.sort_by(|a, b| {
        let key = |one: &Exclusion| {
            (
                std::cmp::Reverse(one.requests),
                one.rule.clone(),
                one.what.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    let (exclusions, left): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|exclusion| exclusion.requests >= min_requests);
    Proposal { exclusions, left }
}

fn exclusion(rule: &RuleKey, what: What, needs: &Needs, paths: BTreeSet<String>) -> Exclusion {
    let requests: BTreeSet<u64> = paths
        .iter()
        .filter_map(|path| needs.paths.get(path))
        .flatten()
        .copied()
        .collect();
    Exclusion {
        rule: rule.clone(),
        what,
        requests: requests.len() as u64,
        example: needs
            .example
            .as_ref()
            .map(|(_, example)| example.clone())
            .unwrap_or_default(),
        paths,
    }
}

/// Names of one kind that one rule has to overlook, if they are many and begin alike, as one name that ends with `*`:
/// `items[0]`, `items[1]` and so on.
fn with_shared_names(
    groups: BTreeMap<(RuleKey, Target), Needs>,
) -> BTreeMap<(RuleKey, Target), Needs> {
    let mut names: BTreeMap<(RuleKey, &'static str), Vec<String>> = BTreeMap::new();
    for (rule, target) in groups.keys() {
        if let Some((kind, name)) = target.key() {
            names
                .entry((rule.clone(), kind))
                .or_default()
                .push(name.to_owned());
        }
    }
    let mut starts = BTreeMap::new();
    for ((rule, kind), names) in names {
        let Some((first, rest)) = names.split_first().filter(|_| names.len() > PATHS) else {
            continue;
        };
        let mut start = first.as_str();
        for name in rest {
            let same = start.char_indices().zip(name.chars());
            let differs = same
                .into_iter()
                .find(|((_, a), b)| a != b)
                .map(|((at, _), _)| at);
            let end = differs.unwrap_or(start.len().min(name.len()));
            start = start.get(..end).unwrap_or_default();
        }
        if start.chars().count() >= SHARED_START {
            starts.insert((rule, kind), format!("{start}*"));
        }
    }
    let mut shared: BTreeMap<(RuleKey, Target), Needs> = BTreeMap::new();
    for ((rule, target), needs) in groups {
        let start = target
            .key()
            .filter(|(kind, _)| *kind != "header")
            .and_then(|(kind, _)| starts.get(&(rule.clone(), kind)));
        let target = match start {
            Some(start) => target.renamed(start.clone()),
            None => target,
        };
        shared.entry((rule, target)).or_default().extend(needs);
    }
    shared
}

/// The fewest narrow places that hold all of these paths.
fn places<'p>(paths: impl Iterator<Item = &'p String>) -> Vec<(Where, BTreeSet<String>)> {
    let paths: BTreeSet<String> = paths.cloned().collect();
    // A path that is no UTF-8 cannot be named.
    if paths.iter().any(|path| !path.starts_with('/')) {
        return vec![(Where::Anywhere, paths)];
    }
    below("", paths)
}

/// The same for paths that all begin with `start` and a slash.
fn below(start: &str, paths: BTreeSet<String>) -> Vec<(Where, BTreeSet<String>)> {
    if paths.len() <= PATHS {
        let exact = paths.into_iter();
        return exact
            .map(|path| (Where::Path(path.clone()), BTreeSet::from([path])))
            .collect();
    }
    let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in &paths {
        let rest = path.get(start.len() + 1..).unwrap_or_default();
        let segment = rest.split('/').next().unwrap_or_default();
        folders
            .entry(format!("{start}/{segment}"))
            .or_default()
            .insert(path.clone());
    }
    let deepens = |folder: &String, within: &BTreeSet<String>| {
        within.len() <= PATHS
            || within
                .iter()
                .all(|path| path == folder || path.starts_with(&format!("{folder}/")))
    };
    if folders.len() > PATHS
        || !folders
            .iter()
            .all(|(folder, within)| deepens(folder, within))
    {
        let place = match start {
            "" => Where::Anywhere,
            start => Where::Prefix(start.to_owned()),
        };
        return vec![(place, paths)];
    }
    folders
        .into_iter()
        .flat_map(|(folder, within)| match within.len() {
            // Also the folder itself, which has nothing after it.
            len if len > PATHS && within.contains(&folder) => {
                vec![(Where::Prefix(folder), within)]
            }
            _ => below(&folder, within),
        })
        .collect()
}

/// The configuration with these exclusions added.
pub fn with_exclusions(configuration: &Value, exclusions: &[Exclusion]) -> Result<Value> {
    let mut configuration = configuration.clone();
    for exclusion in exclusions {
        merge(&mut configuration, exclusion.setting())?;
    }
    Ok(configuration)
}

/// Lists are joined, maps are merged.
fn merge(into: &mut Value, more: Value) -> Result<()> {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                match into.get_mut(&key) {
                    Some(known) if !known.is_null() => merge(known, value)?,
                    _ => {
                        into.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(into), Value::Array(more)) => {
            let news: Vec<Value> = more.into_iter().filter(|one| !into.contains(one)).collect();
            into.extend(news);
        }
        _ => bail!("the configuration is no JSON object with lists where lists are expected"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rule() -> RuleKey {
        RuleKey {
            id: "id".into(),
            title: "A rule".into(),
            alert: "Gateway_SqlInjection".into(),
            severity: "High",
        }
    }

    fn alarms(cases: &[(&str, Target)]) -> Vec<Alarm> {
        (1..)
            .zip(cases)
            .map(|(request, (path, target))| Alarm {
                request,
                rule: rule(),
                targets: BTreeSet::from([target.clone()]),
                path: (*path).to_owned(),
                example: format!("x:{request}"),
            })
            .collect()
    }

    fn proposed(cases: &[(&str, Target)]) -> Vec<Value> {
        let proposal = propose(&alarms(cases), &BTreeSet::new(), 1);
        assert!(proposal.left.is_empty());
        proposal.exclusions.iter().map(Exclusion::setting).collect()
    }

    fn parameter(name: &str) -> Target {
        Target::Parameter(name.to_owned())
    }

    #[test]
    fn an_exclusion_is_as_narrow_as_the_alarms_are() {
        let q = || parameter("q");
        let exception = |rest: &str| {
            let text = format!(r#"{{"exceptions": [{{"rules": ["id"], {rest}}}]}}"#);
            serde_json::from_str::<Value>(&text).unwrap()
        };
        type Case<'c> = (&'c [(&'c str, Target)], &'c [Value]);
        let cases: [Case<'_>; 8] = [
            (
                &[("/s", q()), ("/s", q())],
                &[exception(r#""path": "/s", "parameter": "q""#)],
            ),
            (
                &[("/s", q()), ("/t", Target::Cookie("c".into()))],
                &[
                    exception(r#""path": "/s", "parameter": "q""#),
                    exception(r#""path": "/t", "cookie": "c""#),
                ],
            ),
            (
                &[("/u/1", q()), ("/u/2", q()), ("/u/3", q()), ("/u/4", q())],
                &[exception(r#""path_prefix": "/u", "parameter": "q""#)],
            ),
            (
                &[
                    ("/u/1/e", q()),
                    ("/u/2/e", q()),
                    ("/u/3", q()),
                    ("/u/4", q()),
                    ("/v", q()),
                ],
                &[
                    exception(r#""path_prefix": "/u", "parameter": "q""#),
                    exception(r#""path": "/v", "parameter": "q""#),
                ],
            ),
            (
                &[("/a", q()), ("/b", q()), ("/c", q()), ("/d", q())],
                &[exception(r#""parameter": "q""#)],
            ),
            (
                &[
                    ("/f", parameter("row[1]")),
                    ("/f", parameter("row[2]")),
                    ("/f", parameter("row[3]")),
                    ("/f", parameter("row[4]")),
                ],
                &[exception(r#""path": "/f", "parameter": "row[*""#)],
            ),
            (&[("/x", Target::Path)], &[exception(r#""path": "/x""#)]),
            (
                &[
                    ("/a", Target::Path),
                    ("/b", Target::Path),
                    ("/c", Target::Path),
                    ("/d", Target::Path),
                ],
                &[serde_json::json!({"rules": {"disable": ["id"]}})],
            ),
        ];
        for (alarms, want) in cases {
            assert_eq!(proposed(alarms), want, "{alarms:?}");
        }
    }

    #[test]
    fn a_threshold_doubles_until_it_is_out_of_range() {
        let threshold = |count| proposed(&[("/", Target::Count(count))]);
        assert_eq!(
            threshold(20),
            [serde_json::json!({"rules": {"thresholds": [{"rules": ["id"], "at_least": 40}]}})]
        );
        assert_eq!(
            threshold(40_000),
            [serde_json::json!({"rules": {"disable": ["id"]}})]
        );
    }

    #[test]
    fn what_is_rare_is_left_and_what_does_not_help_is_widened() {
        let cases = [
            ("/a", parameter("q")),
            ("/a", parameter("q")),
            ("/b", parameter("r")),
        ];
        let proposal = propose(&alarms(&cases), &BTreeSet::new(), 2);
        assert_eq!((proposal.exclusions.len(), proposal.left.len()), (1, 1));
        let covered = alarms(&cases)
            .iter()
            .filter(|alarm| proposal.covers(alarm))
            .count();
        assert_eq!(covered, 2);
        let proposal = propose(&alarms(&cases), &BTreeSet::from([rule()]), 1);
        let settings: Vec<Value> = proposal.exclusions.iter().map(Exclusion::setting).collect();
        assert_eq!(
            settings,
            [
                serde_json::json!({"exceptions": [{"rules": ["id"], "path": "/a"}]}),
                serde_json::json!({"exceptions": [{"rules": ["id"], "path": "/b"}]})
            ]
        );
    }

    #[test]
    fn a_configuration_keeps_what_it_says() {
        let before =
            serde_json::json!({"mode": "block", "rules": {"disable": ["a"], "stage": null}});
        let proposal = propose(&alarms(&[("/x", Target::Path)]), &BTreeSet::new(), 1);
        let after = with_exclusions(&before, &proposal.exclusions).unwrap();
        assert_eq!(
            after,
            serde_json::json!({"mode": "block", "rules": {"disable": ["a"], "stage": null},
                "exceptions": [{"rules": ["id"], "path": "/x"}]})
        );
        assert_eq!(
            with_exclusions(&after, &proposal.exclusions).unwrap(),
            after
        );
    }
}
