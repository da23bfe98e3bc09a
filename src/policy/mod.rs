//! The one place that turns a detection into an action: what is done, where, about which rule.
//!
//! ```text
//!  plugin configuration ──► read, check ──► Policy ───┐
//!  route and virtual-host metadata ──► live ──────────┼──► Effective ──► judge ──► detections that count
//!  route, host, path, method ──► Place ───────────────┘                    └──► action: detected or blocked
//! ```
//!
//! | you want to change | go to |
//! |---|---|
//! | what a layer can say | [`settings`] |
//! | which entries of the table hold, and which is the more specific | [`route`] |
//! | what several layers come to together | [`effective`] |
//! | how metadata is read, live | [`live`] |
//! | what a refused client reads | [`Refusal`] |
//! | how exceptions work | [`enforce`](enforce()), [`judge`] |
//!
//! A configuration is JSON, the wire format of a `google.protobuf.Struct`, or nothing at all; one that is wrong
//! anywhere is refused whole. An empty one means: detect, everything on. Layers only matter to requests that
//! raised something, so a benign request costs the same whatever the table holds.

mod answer;
pub mod effective;
mod enforce;
pub mod live;
mod protobuf;
pub mod route;
pub mod settings;
mod values;

use std::fmt;

use serde::Serialize;

pub use answer::Refusal;
pub use effective::{Answer, Effective, Origin};
pub use enforce::{Found, enforce, judge};
pub use live::Live;
pub use route::Place;
pub use settings::{RuleName, Selector, Settings};

use crate::limits;
use crate::ruleset::{OpenError, RuleSet};
use crate::suspect::Scope;
use route::{Match, Rank, Route};
use settings::Known;
use values::{Tree, Value};

/// What the gateway does about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Raises nothing.
    Off,
    /// Raises alerts and lets every request pass.
    Detect,
    /// Answers requests itself that raise an alert of the configured severity and confidence.
    Block,
}

impl Mode {
    /// Every mode by its name.
    pub const NAMES: [(&'static str, Mode); 3] = [
        ("off", Mode::Off),
        ("detect", Mode::Detect),
        ("block", Mode::Block),
    ];

    /// The name, as a configuration spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Detect => "detect",
            Mode::Block => "block",
        }
    }
}

/// How counters are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricStyle {
    /// `portcullis.alerts.Gateway_SqlInjection.detected`.
    #[default]
    Flat,
    /// `portcullis_alert=.=Gateway_SqlInjection;.;…`, for `stats_tags` to take apart.
    Tagged,
}

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What holds everywhere.
    pub gateway: Settings,
    /// What holds somewhere.
    pub routes: Vec<Route>,
    /// How to count.
    pub metrics: MetricStyle,
    /// Nothing is inspected at all: `mode` is `off` and `confirm_off` says it again.
    pub is_off: bool,
    /// Alerts that one source raises again are folded until it pauses for so long, in nanoseconds (see
    /// [`crate::incident`]); `None`: each is written.
    pub fold_ns: Option<i64>,
    /// Whether the workers of a gateway count together, where the host lets them.
    pub is_state_shared: bool,
    /// Compiled rules that take the place of those that ship with the filter.
    pub ruleset: Option<Vec<u8>>,
}

/// What was done about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It passed, and an alert says so.
    Detected,
    /// The gateway answered it.
    Blocked,
}

impl Action {
    /// The name, as alerts and counters spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Detected => "detected",
            Action::Blocked => "blocked",
        }
    }
}

/// Why a configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError(String);

impl PolicyError {
    fn new(reason: String) -> PolicyError {
        PolicyError(format!("configuration refused: {reason}"))
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PolicyError {}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            gateway: Settings::default(),
            routes: Vec::new(),
            metrics: MetricStyle::default(),
            is_off: false,
            fold_ns: Some(i64::from(FOLD_MINUTES) * MINUTE_NS),
            is_state_shared: true,
            ruleset: None,
        }
    }
}

/// Bytes of a body that are inspected if the configuration does not say otherwise, and the most that it can say.
const BODY_BYTES: u16 = u16::MAX;

/// How long a source may pause in one incident if the configuration does not say otherwise, and the most that it can say.
const FOLD_MINUTES: u16 = 10;
const MOST_FOLD_MINUTES: u16 = 24 * 60;
const MINUTE_NS: i64 = 60_000_000_000;

impl Policy {
    /// Reads a plugin configuration, opens its rules or else those that ship, and checks the one against the other.
    ///
    /// The rules may be in the text as `ruleset`, or stand before it as they are: then nothing has to be decoded while a worker
    /// waits.
    pub fn load(
        configuration: &[u8],
        shipped: impl FnOnce() -> Result<RuleSet, OpenError>,
    ) -> Result<(Policy, RuleSet), PolicyError> {
        let (policy, own) = Policy::with_own_rules(configuration)?;
        let rules = match own {
            Some(rules) => rules,
            None => shipped().map_err(|error| PolicyError::new(error.to_string()))?,
        };
        policy.check(&rules)?;
        Ok((policy, rules))
    }

    /// Reads a plugin configuration and opens the rules that it has, if it has any.
    #[inline(never)]
    fn with_own_rules(configuration: &[u8]) -> Result<(Policy, Option<RuleSet>), PolicyError> {
        let (before, configuration) = match RuleSet::split_off(configuration) {
            Some((rules, text)) => (Some(rules.to_vec()), text),
            None => (None, configuration),
        };
        let mut policy = Policy::read(configuration)?;
        let within = policy.ruleset.take();
        if before.is_some() && within.is_some() {
            return Err(PolicyError::new(
                "ruleset: one stands before the configuration and one in it; leave one out"
                    .to_owned(),
            ));
        }
        let own = before.or(within).map(RuleSet::open).transpose();
        let own = own.map_err(|error| PolicyError::new(format!("ruleset: {error}")))?;
        Ok((policy, own))
    }

    /// Reads a plugin configuration, without asking whether the rules that it names exist.
    pub fn read(configuration: &[u8]) -> Result<Policy, PolicyError> {
        if configuration.iter().all(u8::is_ascii_whitespace) {
            return Ok(Policy::default());
        }
        let tree = if is_json(configuration) {
            json(configuration)?
        } else {
            protobuf::read(configuration).ok_or_else(|| {
                PolicyError::new(
                    "it is neither a JSON object nor a `google.protobuf.Struct`; write `{\"mode\": \"detect\"}`"
                        .to_owned(),
                )
            })?
        };
        let top = Value::top(&tree);
        let known = [
            &Settings::KEYS[..],
            &[
                "routes",
                "metrics",
                "incidents",
                "state",
                "ruleset",
                "confirm_off",
            ],
        ]
        .concat();
        let keys = top.keys(&known)?;
        let styles = [("flat", MetricStyle::Flat), ("tagged", MetricStyle::Tagged)];
        let style = |metrics: &Value<'_>| {
            let keys = metrics.keys(&["style"])?;
            keys.or_default("style", |style| style.one_of(&styles))
        };
        let fold = |incidents: &Value<'_>| {
            let keys = incidents.keys(&["fold", "minutes"])?;
            let minutes = keys.get("minutes", |most| most.whole(1, MOST_FOLD_MINUTES))?;
            let folds = keys.get("fold", Value::truth)?.unwrap_or(true);
            let minutes = i64::from(minutes.unwrap_or(FOLD_MINUTES));
            Ok(folds.then_some(minutes * MINUTE_NS))
        };
        let shares = |state: &Value<'_>| state.keys(&["shared"])?.get("shared", Value::truth);
        let otherwise = Policy::default();
        let confirm_off = keys.or_default("confirm_off", Value::truth)?;
        let gateway = Settings::read(&keys)?;
        let is_off = gateway.mode == Some(Mode::Off);
        let policy = Policy {
            gateway,
            routes: keys.or_default("routes", |routes| routes.list(Route::read))?,
            metrics: keys.or_default("metrics", style)?,
            is_off: is_off && confirm_off,
            fold_ns: keys.get("incidents", fold)?.unwrap_or(otherwise.fold_ns),
            is_state_shared: (keys.get("state", shares)?.flatten())
                .unwrap_or(otherwise.is_state_shared),
            ruleset: keys.get("ruleset", Value::base64)?,
        };
        policy.check_table()?;
        let does_something =
            |settings: &Settings| settings.mode.is_some_and(|mode| mode != Mode::Off);
        let somewhere = policy
            .routes
            .iter()
            .any(|route| does_something(&route.policy));
        if is_off && !confirm_off && !somewhere {
            return Err(PolicyError::new(
                "it switches everything off; if that is meant, write \"confirm_off\": true beside \"mode\": \"off\""
                    .to_owned(),
            ));
        }
        Ok(policy)
    }

    fn check_table(&self) -> Result<(), PolicyError> {
        let refuse = |what: String| Err(PolicyError::new(what));
        if self.routes.len() > limits::ROUTES {
            return refuse(format!(
                "routes has {} entries, and {} are the most; put what is special to a route into its metadata",
                self.routes.len(),
                limits::ROUTES
            ));
        }
        let mut seen: Vec<(&Match, usize)> = Vec::with_capacity(self.routes.len());
        for (at, route) in self.routes.iter().enumerate() {
            let number = at + 1;
            let Match {
                path, path_prefix, ..
            } = &route.matches;
            if route.matches.is_empty() {
                return refuse(format!(
                    "routes[{number}] matches every request; write its policy at the top, or name a route, virtual_host, host, path, path_prefix or method"
                ));
            }
            if let Some(path) = path
                .iter()
                .chain(path_prefix)
                .find(|path| !path.starts_with('/'))
            {
                return refuse(format!(
                    "routes[{number}]: a path begins with a slash, and `{path}` does not"
                ));
            }
            match seen.binary_search_by(|(known, _)| (*known).cmp(&route.matches)) {
                Ok(twin) => {
                    return refuse(format!(
                        "routes[{number}] matches what routes[{}] matches; make one entry of both",
                        seen.get(twin).map_or(0, |(_, at)| at + 1)
                    ));
                }
                Err(place) => seen.insert(place, (&route.matches, at)),
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn check(&self, rules: &RuleSet) -> Result<(), PolicyError> {
        self.check_names(&Known::of(rules))
    }

    fn check_names(&self, known: &Known<'_>) -> Result<(), PolicyError> {
        self.gateway.check("", known)?;
        if known.none_is_left(&self.gateway) {
            return Err(PolicyError::new(
                "it leaves no rule on for anybody; if that is meant, write \"mode\": \"off\" and \"confirm_off\": true"
                    .to_owned(),
            ));
        }
        for (at, route) in self.routes.iter().enumerate() {
            let place = format!("routes[{}]: ", at + 1);
            route.policy.check(&place, known)?;
            if let Some((number, path)) = route.exception_elsewhere() {
                return Err(PolicyError::new(format!(
                    "{place}exceptions[{number}] is about `{path}`, which is no path that the entry matches; write it at the top"
                )));
            }
        }
        Ok(())
    }

    /// Which cookies and other headers have to be inspected.
    pub fn scope(&self) -> Scope {
        self.gateway.headers.unwrap_or_default()
    }

    /// Whether entries of the table, or metadata, may be about anything that headers do not tell: the names of the
    /// gateway's routes and virtual hosts.
    pub fn asks_for_names(&self) -> bool {
        let mut routes = self.routes.iter();
        routes
            .any(|route| !(route.matches.route.is_empty() && route.matches.virtual_host.is_empty()))
    }

    /// What holds for a request to this place at that time: the gateway's settings, then the table's entries from
    /// the least to the most specific, then what the gateway's routes say themselves.
    pub fn effective<'p>(
        &'p self,
        place: &'p Place,
        live: &'p Live,
        time_unix_ns: i64,
    ) -> Effective<'p> {
        let mut entries: Vec<(Rank, usize, &Settings)> = Vec::new();
        for (at, route) in self.routes.iter().enumerate() {
            if let Some(rank) = route.matches.rank(place) {
                // Of two that are as specific, the later one in the table counts.
                let place = entries.partition_point(|(known, ..)| *known <= rank);
                entries.insert(place, (rank, at, &route.policy));
            }
        }
        let mut layers = vec![(Origin::Gateway, &self.gateway)];
        layers.extend(
            entries
                .into_iter()
                .map(|(_, at, policy)| (Origin::Table(at + 1), policy)),
        );
        layers.extend(live.layers());
        Effective::new(layers, place, time_unix_ns)
    }
}

fn is_json(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
}

fn json(bytes: &[u8]) -> Result<Tree, PolicyError> {
    serde_json::from_slice(bytes).map_err(|error| PolicyError::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::catalogue::Severity;

    const SQL: RuleName<'_> = RuleName {
        id: "71c35c5a-8d6b-4a2e-9a0e-0f1d5a1d2b33",
        alert: "Gateway_SqlInjection",
        family: "injection",
    };

    fn effective<T>(policy: &str, place: &Place, ask: impl Fn(&Effective<'_>) -> T) -> T {
        let policy = Policy::read(policy.as_bytes()).unwrap();
        ask(&policy.effective(place, &Live::default(), 0))
    }

    fn place(host: &str, path: &str, method: &str) -> Place {
        Place {
            host: host.into(),
            path: path.into(),
            method: method.into(),
            ..Place::default()
        }
    }

    #[test]
    fn nothing_means_detect() {
        for empty in [&b""[..], b"  \n", b"{}"] {
            assert_eq!(Policy::read(empty).unwrap(), Policy::default());
        }
        let place = Place::default();
        let (mode, status) = effective("{}", &place, |policy| {
            (policy.mode(), policy.answer().status)
        });
        assert_eq!((mode, status), (Mode::Detect, 403));
    }

    #[test]
    fn numbers_may_be_text() {
        let policy = r#"{"mode":"block","block":{"min_severity":"medium","min_confidence":"60","status":"429"}}"#;
        let place = Place::default();
        let read = effective(policy, &place, |policy| {
            (
                policy.min_severity(),
                policy.min_confidence(),
                policy.answer().status,
            )
        });
        assert_eq!(read, (Severity::Medium, 60, 429));
    }

    #[test]
    fn what_is_wrong_is_refused_with_a_reason() {
        let cases: [(&[u8], &str); 28] = [
            (
                br#"{"mod":"block"}"#,
                "refused: unknown key `mod`, expected one of `mode`, `block`, `rules`, `body`, `headers`, `exceptions`, `trusted_sources`, `routes`, `metrics`, `incidents`, `state`, `ruleset`, `confirm_off`; did you mean `mode`?",
            ),
            (br#"{"mode":"blok"}"#, "did you mean `block`?"),
            (br#"{"mode":1}"#, "mode: `1` stands where a text is expected"),
            (br#"{"mode":false}"#, "mode: `false` stands where a text (YAML makes that of a bare off, no or n; put it in quotes)"),
            (
                br#"{"block":{"status":200}}"#,
                "block.status: `200` stands where a whole number from 400 to 599 is expected",
            ),
            (br#"{"block":{"min_confidence":"0.5"}}"#, "a whole number"),
            (
                br#"{"block":{"min_severity":"urgent"}}"#,
                "block.min_severity: `urgent` is none of `Informational`, `Low`",
            ),
            (br#"{"rules":{"disable":"x"}}"#, "rules.disable: `x` stands where a list is expected"),
            (br#"["mode"]"#, "neither a JSON object nor"),
            (b"\xff\xfe", "neither a JSON object nor"),
            (br#"{"mode":"off"}"#, "write \"confirm_off\": true"),
            (
                br#"{"mode":"off","routes":[{"match":{"path":"/a"},"policy":{"mode":"off"}}]}"#,
                "write \"confirm_off\": true",
            ),
            (br#"{"routes":[{"match":{},"policy":{}}]}"#, "routes[1] matches every request"),
            (
                br#"{"routes":[{"match":{"path":"a"},"policy":{}}]}"#,
                "a path begins with a slash, and `a` does not",
            ),
            (
                br#"{"routes":[{"match":{"path":"/a"},"policy":{}},{"match":{"path":["/a"]},"policy":{}}]}"#,
                "routes[2] matches what routes[1] matches",
            ),
            (
                br#"{"routes":[{"match":{"paths":"/a"},"policy":{}}]}"#,
                "routes[1].match: unknown key `paths`, expected one of",
            ),
            (br#"{"routes":[{"match":{"path":"/a"}}]}"#, "routes[1]: `policy` is missing"),
            (br#"{"routes":[{"match":{"path":1},"policy":{}}]}"#, "a text or a list of texts"),
            (br#"{"trusted_sources":["10.0.0.0/33"]}"#, "`10.0.0.0/33` is no network"),
            (
                br#"{"rules":{"stage":[{"rules":["injection"],"until":"next week"}]}}"#,
                "rules.stage[1].until: `next week` is no time",
            ),
            (br#"{"confirm_off":"yes"}"#, "confirm_off: `yes` stands where"),
            (br#"{"ruleset":"****"}"#, "ruleset: it is no Base64"),
            (br#"{"body":{"max_bytes":65536}}"#, "body.max_bytes: `65536` stands where a whole number from 1 to 65535"),
            (br#"{"headers":{"inspect":"some"}}"#, "headers.inspect: `some` is none of `off`, `suspicious`, `all`"),
            (
                br#"{"routes":[{"match":{"path":"/a"},"policy":{"headers":{"inspect":"all"}}}]}"#,
                "headers.inspect: only `off` holds for some requests alone",
            ),
            (br#"{"block":{"body":5}}"#, "block.body: `5` stands where a text"),
            (br#"{"mode":"detect"} x"#, "trailing characters at line 1 column 19"),
            (br#"{"mode":"detect","mode":"block"}"#, "`mode` stands there twice at line 1 column"),
        ];
        for (configuration, want) in cases {
            let error = Policy::read(configuration).unwrap_err().to_string();
            assert!(
                error.starts_with("configuration refused: ") && error.contains(want),
                "{error}"
            );
        }
    }

    #[test]
    fn blocking_takes_mode_severity_and_confidence() {
        let place = Place::default();
        let action = |mode: &str, severity, confidence| {
            effective(&format!(r#"{{"mode":"{mode}"}}"#), &place, |policy| {
                policy.action(SQL, severity, confidence)
            })
        };
        assert_eq!(action("block", Severity::High, 80), Action::Blocked);
        assert_eq!(action("block", Severity::High, 79), Action::Detected);
        assert_eq!(action("block", Severity::Medium, 100), Action::Detected);
        assert_eq!(action("detect", Severity::High, 100), Action::Detected);
    }

    /// The table that `docs/POLICY.md` shows.
    const TABLE: &str = r#"{
        "mode": "detect",
        "routes": [
            {"match": {"host": "*.example.org"},        "policy": {"mode": "off"}},
            {"match": {"host": "shop.example.org"},     "policy": {"mode": "block"}},
            {"match": {"virtual_host": "partners"},     "policy": {"block": {"status": 418}}},
            {"match": {"route": "login"},               "policy": {"mode": "block", "block": {"status": 429}}},
            {"match": {"path_prefix": "/api"},          "policy": {"block": {"status": 400}}},
            {"match": {"path_prefix": "/api/admin"},    "policy": {"block": {"status": 404}}},
            {"match": {"path": "/api/admin/health"},    "policy": {"mode": "detect"}},
            {"match": {"path_prefix": "/api", "method": "DELETE"}, "policy": {"mode": "block", "block": {"status": 405}}}
        ]
    }"#;

    #[test]
    fn the_most_specific_entry_wins() {
        let cases = [
            ("a.test", "/", "GET", "", "", (Mode::Detect, 403)),
            ("a.example.org", "/", "GET", "", "", (Mode::Off, 403)),
            ("shop.example.org", "/", "GET", "", "", (Mode::Block, 403)),
            (
                "shop.example.org",
                "/api",
                "GET",
                "",
                "",
                (Mode::Block, 400),
            ),
            ("a.test", "/api/v1", "GET", "", "", (Mode::Detect, 400)),
            ("a.test", "/api/admin/x", "GET", "", "", (Mode::Detect, 404)),
            (
                "shop.example.org",
                "/api/admin/health",
                "GET",
                "",
                "",
                (Mode::Detect, 404),
            ),
            (
                "shop.example.org",
                "/api/admin/health",
                "DELETE",
                "",
                "",
                (Mode::Block, 405),
            ),
            ("a.example.org", "/", "GET", "login", "", (Mode::Block, 429)),
            ("a.test", "/api", "GET", "login", "", (Mode::Block, 400)),
            ("a.test", "/", "GET", "", "partners", (Mode::Detect, 418)),
            (
                "a.test",
                "/",
                "GET",
                "login",
                "partners",
                (Mode::Block, 429),
            ),
        ];
        for (host, path, method, route, virtual_host, want) in cases {
            let place = Place {
                route: route.into(),
                virtual_host: virtual_host.into(),
                ..place(host, path, method)
            };
            let got = effective(TABLE, &place, |policy| {
                (policy.mode(), policy.answer().status)
            });
            assert_eq!(got, want, "{method} {host}{path} {route} {virtual_host}");
        }
    }

    #[test]
    fn rules_go_off_and_on_again() {
        let policy = r#"{
            "rules": {"disable": ["injection"], "enable": ["Gateway_SqlInjection"]},
            "routes": [
                {"match": {"path_prefix": "/a"}, "policy": {"rules": {"disable": ["Gateway_SqlInjection"]}}},
                {"match": {"path_prefix": "/a/b"}, "policy": {"rules": {"enable": ["injection"]}}},
                {"match": {"path_prefix": "/c"}, "policy": {"rules": {"disable": ["71C35C5A-8d6b-4a2e-9a0e-0f1d5a1d2b33"], "enable": ["injection"]}}}
            ]}"#;
        let xss = RuleName {
            id: "x",
            alert: "Gateway_CrossSiteScripting",
            family: "injection",
        };
        for (path, sql_runs, xss_runs) in [
            ("/", true, false),
            ("/a", false, false),
            ("/a/b", true, true),
            ("/c", false, true),
        ] {
            let got = effective(policy, &place("a", path, "GET"), |policy| {
                (policy.allows(SQL), policy.allows(xss))
            });
            assert_eq!(got, (sql_runs, xss_runs), "{path}");
        }
    }

    #[test]
    fn a_rule_on_trial_blocks_nothing_until_its_time() {
        let policy = Policy::read(
            br#"{"mode":"block","rules":{"stage":[{"rules":["injection"],"until":"2026-12-01"}]}}"#,
        )
        .unwrap();
        let (place, live) = (Place::default(), Live::default());
        let until = crate::time::parse_rfc3339("2026-12-01").unwrap();
        for (time, action) in [(until - 1, Action::Detected), (until, Action::Blocked)] {
            let policy = policy.effective(&place, &live, time);
            assert_eq!(policy.action(SQL, Severity::High, 90), action);
        }
    }

    #[test]
    fn metadata_of_a_route_is_the_most_specific() {
        let settings = |text: &str| Some(std::rc::Rc::new(live::parse(text.as_bytes()).unwrap()));
        let live = Live {
            annotation: settings(r#"{"mode":"off","block":{"status":401,"min_confidence":1}}"#),
            virtual_host: settings(r#"{"mode":"block","block":{"status":402}}"#),
            route: settings(r#"{"block":{"status":404}}"#),
        };
        let policy = Policy::read(TABLE.as_bytes()).unwrap();
        let place = place("a.test", "/api", "DELETE");
        let policy = policy.effective(&place, &live, 0);
        assert_eq!(
            (
                policy.mode(),
                policy.answer().status,
                policy.min_confidence()
            ),
            (Mode::Block, 404, 1)
        );
        let origins: Vec<String> = policy
            .layers()
            .map(|(origin, _)| origin.to_string())
            .collect();
        assert_eq!(
            origins,
            [
                "gateway",
                "routes[5]",
                "routes[8]",
                "HTTPRoute annotation",
                "virtual host metadata",
                "route metadata"
            ]
        );
    }

    #[test]
    fn bodies_and_thresholds_are_those_of_the_most_specific_layer() {
        let policy = r#"{
            "body": {"max_bytes": 1000},
            "rules": {"thresholds": [{"rules": ["injection"], "at_least": 5}, {"rules": ["Gateway_SqlInjection"], "at_least": 7}]},
            "routes": [
                {"match": {"path_prefix": "/up"}, "policy": {"body": {"inspect": false}}},
                {"match": {"path_prefix": "/up/form"}, "policy": {"body": {"inspect": "true", "max_bytes": "2000"}}},
                {"match": {"path_prefix": "/off"}, "policy": {"mode": "off"}},
                {"match": {"path_prefix": "/form"}, "policy": {"rules": {"thresholds": [{"rules": ["injection"], "at_least": 9}]}}}
            ]}"#;
        for (path, body_bytes, at_least) in [
            ("/", 1000, 7),
            ("/up/x", 0, 7),
            ("/up/form", 2000, 7),
            ("/off", 0, 7),
            ("/form", 1000, 9),
        ] {
            let got = effective(policy, &place("a", path, "POST"), |policy| {
                (policy.body_bytes(), policy.at_least(SQL))
            });
            assert_eq!(got, (body_bytes, Some(at_least)), "{path}");
        }
        let place = Place::default();
        let got = effective("{}", &place, |policy| {
            (policy.body_bytes(), policy.at_least(SQL))
        });
        assert_eq!(got, (65_535, None));
    }

    /// The error of these settings, given one rule of its kind, or nothing if they are right.
    fn complaint(configuration: &str) -> String {
        let other = RuleName {
            id: "0e1f",
            alert: "AppServices_Nmap",
            family: "scanner",
        };
        let known = Known {
            rules: vec![SQL, other],
            counting: vec![(other, 64)],
        };
        let policy = Policy::read(configuration.as_bytes()).unwrap();
        let checked = policy.check_names(&known);
        checked
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn what_contradicts_itself_or_switches_all_off_is_refused() {
        let sql = r#""Gateway_SqlInjection""#;
        let cases = [
            (
                format!(r#"{{"rules":{{"disable":[{sql}],"enable":[{sql}]}}}}"#),
                "both disabled and enabled",
            ),
            (
                format!(r#"{{"rules":{{"disable":[{sql}]}},"exceptions":[{{"rules":[{sql}],"path":"/a"}}]}}"#),
                "exceptions[1]: `Gateway_SqlInjection` is disabled, so nothing is left to except",
            ),
            (
                format!(r#"{{"rules":{{"disable":[{sql}],"stage":[{{"rules":[{sql}]}}]}}}}"#),
                "rules.stage[1]: `Gateway_SqlInjection` is disabled and on trial",
            ),
            (
                format!(r#"{{"rules":{{"stage":[{{"rules":[{sql}]}},{{"rules":[{sql}],"until":"2026-12-01"}}]}}}}"#),
                "rules.stage[2]: the trial of `Gateway_SqlInjection` has another end above",
            ),
            (
                format!(r#"{{"exceptions":[{{"rules":[{sql}],"path":"/a","cookie":"x"}},{{"rules":[{sql}],"path":"/a"}}]}}"#),
                "exceptions[1] is for one parameter, cookie or header, and exceptions[2] lets the rules go on the whole path",
            ),
            (
                format!(r#"{{"exceptions":[{{"rules":[{sql}],"path":"/a"}},{{"rules":[{sql}],"path":"/a"}}]}}"#),
                "exceptions[2] says what exceptions[1] says",
            ),
            (
                format!(r#"{{"routes":[{{"match":{{"path_prefix":"/a"}},"policy":{{"exceptions":[{{"rules":[{sql}],"path":"/b"}}]}}}}]}}"#),
                "routes[1]: exceptions[1] is about `/b`, which is no path that the entry matches",
            ),
            (
                r#"{"rules":{"disable":["scanner","injection"]}}"#.to_owned(),
                "it leaves no rule on for anybody",
            ),
            (
                format!(r#"{{"rules":{{"disable":["scanner"]}},"exceptions":[{{"rules":[{sql}],"path_prefix":"/"}}]}}"#),
                "it leaves no rule on for anybody",
            ),
            (
                r#"{"trusted_sources":["10.0.0.0/8","0.0.0.0/0"]}"#.to_owned(),
                "it leaves no rule on for anybody",
            ),
            (
                format!(r#"{{"rules":{{"thresholds":[{{"rules":[{sql}],"at_least":3}}]}}}}"#),
                "rules.thresholds[1]: `Gateway_SqlInjection` names no rule that counts",
            ),
            (
                r#"{"rules":{"thresholds":[{"rules":["scanner"],"at_least":65}]}}"#.to_owned(),
                "rules.thresholds[1]: at_least: `scanner` counts no further than 64",
            ),
            (
                r#"{"rules":{"disable":["942100"]}}"#.to_owned(),
                "rules.disable: `942100` is neither the id of a rule",
            ),
            // Near by, and right.
            (
                r#"{"routes":[{"match":{"host":"a"},"policy":{"rules":{"disable":["scanner","injection"]}}}]}"#.to_owned(),
                "",
            ),
            (
                format!(r#"{{"exceptions":[{{"rules":[{sql}],"path":"/a","cookie":"x"}},{{"rules":[{sql}],"path":"/b"}}]}}"#),
                "",
            ),
            (
                format!(r#"{{"routes":[{{"match":{{"path_prefix":"/a"}},"policy":{{"exceptions":[{{"rules":[{sql}],"path":"/a/b"}},{{"rules":[{sql}],"path_prefix":"/"}}]}}}}]}}"#),
                "",
            ),
            (
                r#"{"rules":{"disable":["scanner"]},"trusted_sources":["10.0.0.0/8"]}"#.to_owned(),
                "",
            ),
            (
                r#"{"mode":"off","confirm_off":true,"trusted_sources":["0.0.0.0/0"]}"#.to_owned(),
                "",
            ),
            (
                r#"{"rules":{"thresholds":[{"rules":["scanner"],"at_least":"64"}]}}"#.to_owned(),
                "",
            ),
        ];
        for (configuration, want) in cases {
            let error = complaint(&configuration);
            assert_eq!(
                error.is_empty(),
                want.is_empty(),
                "{configuration}: {error}"
            );
            assert!(error.contains(want), "{configuration}: {error}");
        }
    }

    #[test]
    fn the_published_schema_has_the_keys_that_are_read() {
        let schema: serde_json::Value =
            serde_json::from_str(include_str!("../../docs/policy.schema.json")).unwrap();
        let places = [
            ("", r#"{"?":0}"#),
            (
                "/$defs/settings",
                r#"{"routes":[{"match":{"path":"/"},"policy":{"?":0}}]}"#,
            ),
            ("/properties/routes/items", r#"{"routes":[{"?":0}]}"#),
            ("/properties/metrics", r#"{"metrics":{"?":0}}"#),
            ("/$defs/body", r#"{"body":{"?":0}}"#),
            ("/properties/headers", r#"{"headers":{"?":0}}"#),
            ("/$defs/block", r#"{"block":{"?":0}}"#),
            ("/$defs/rules", r#"{"rules":{"?":0}}"#),
            (
                "/$defs/rules/properties/thresholds/items",
                r#"{"rules":{"thresholds":[{"?":0}]}}"#,
            ),
            (
                "/$defs/rules/properties/stage/items",
                r#"{"rules":{"stage":[{"?":0}]}}"#,
            ),
            ("/$defs/exceptions/items", r#"{"exceptions":[{"?":0}]}"#),
            (
                "/$defs/match",
                r#"{"routes":[{"match":{"?":0},"policy":{}}]}"#,
            ),
        ];
        for (place, configuration) in places {
            let properties = schema.pointer(&format!("{place}/properties")).unwrap();
            let mut published: Vec<&String> = properties.as_object().unwrap().keys().collect();
            published.sort();
            let error = Policy::read(configuration.as_bytes())
                .unwrap_err()
                .to_string();
            let (_, known) = error.split_once("expected one of `").unwrap();
            let (known, _) = known.rsplit_once('`').unwrap();
            let mut read: Vec<&str> = known.split("`, `").collect();
            read.sort();
            assert_eq!(published, read, "{place}");
        }
    }
}
