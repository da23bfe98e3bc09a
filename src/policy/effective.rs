//! What holds for one request: every layer that is about it, the least specific first, put together.

use super::route::Place;
use super::settings::{Exception, RuleName, Settings};
use super::{Action, Mode};
use crate::address::Network;
use crate::catalogue::Severity;
use crate::suspect::Scope;

/// Where a layer comes from, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The plugin's configuration itself.
    Gateway,
    /// This entry of its route table, counted from 1.
    Table(usize),
    /// An annotation of the HTTPRoute, by Envoy Gateway.
    Annotation,
    /// Metadata of the virtual host.
    VirtualHostMetadata,
    /// Metadata of the route.
    RouteMetadata,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Gateway => f.write_str("gateway"),
            Origin::Table(number) => write!(f, "routes[{number}]"),
            Origin::Annotation => f.write_str("HTTPRoute annotation"),
            Origin::VirtualHostMetadata => f.write_str("virtual host metadata"),
            Origin::RouteMetadata => f.write_str("route metadata"),
        }
    }
}

/// How a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'p> {
    /// Status.
    pub status: u16,
    /// Body, if it is not ours.
    pub body: Option<&'p str>,
    /// Its media type.
    pub content_type: Option<&'p str>,
    /// Further headers.
    pub headers: Option<&'p [(String, String)]>,
}

/// The layers that hold for one request.
#[derive(Clone, Debug)]
pub struct Effective<'p> {
    layers: Vec<(Origin, &'p Settings)>,
    place: &'p Place,
    time_unix_ns: i64,
}

impl<'p> Effective<'p> {
    /// These layers, the least specific first, for a request to `place` at that time.
    pub fn new(
        layers: Vec<(Origin, &'p Settings)>,
        place: &'p Place,
        time_unix_ns: i64,
    ) -> Effective<'p> {
        Effective {
            layers,
            place,
            time_unix_ns,
        }
    }

    /// The layers, the least specific first.
    pub fn layers(&self) -> impl Iterator<Item = (&Origin, &'p Settings)> {
        self.layers
            .iter()
            .map(|(origin, settings)| (origin, *settings))
    }

    /// Time of the event, in nanoseconds since 1970; 0 if it is not known.
    pub fn time_unix_ns(&self) -> i64 {
        self.time_unix_ns
    }

    /// What the most specific layer says that says anything.
    fn last<T>(&self, of: impl Fn(&'p Settings) -> Option<T>) -> Option<T> {
        self.layers
            .iter()
            .rev()
            .find_map(|(_, settings)| of(settings))
    }

    /// What to do.
    pub fn mode(&self) -> Mode {
        self.last(|settings| settings.mode).unwrap_or(Mode::Detect)
    }

    /// The least severity that is blocked.
    pub fn min_severity(&self) -> Severity {
        self.last(|settings| settings.block.min_severity)
            .unwrap_or(Severity::High)
    }

    /// The least confidence that is blocked, 0 to 100.
    pub fn min_confidence(&self) -> u8 {
        self.last(|settings| settings.block.min_confidence)
            .unwrap_or(80)
    }

    /// Bytes of a request's body that are inspected; 0 for none.
    pub fn body_bytes(&self) -> usize {
        let inspects = self.last(|settings| settings.body.inspect).unwrap_or(true);
        if !inspects || self.mode() == Mode::Off {
            return 0;
        }
        let most = self.last(|settings| settings.body.max_bytes);
        usize::from(most.unwrap_or(super::BODY_BYTES))
    }

    /// Whether what was found in cookies and headers that no rule names counts.
    pub fn inspects_headers(&self) -> bool {
        self.last(|settings| settings.headers) != Some(Scope::Off)
    }

    /// The least count with which this correlation fires, if a layer says. Of what the layers say the most specific
    /// layer counts, and within one layer the narrowest name.
    pub fn at_least(&self, rule: RuleName<'_>) -> Option<u64> {
        self.last(|settings| {
            let thresholds = settings.rules.thresholds.iter();
            let named = thresholds.filter_map(|threshold| {
                let selectors = threshold.rules.iter();
                let narrowest = selectors
                    .filter_map(|selector| selector.names(rule))
                    .max()?;
                Some((narrowest, threshold.at_least))
            });
            // Of two that are as narrow, the later one counts.
            named.max_by_key(|(narrowest, _)| *narrowest)
        })
        .map(|(_, at_least)| at_least)
    }

    /// How a request is refused.
    pub fn answer(&self) -> Answer<'p> {
        Answer {
            status: self.last(|settings| settings.block.status).unwrap_or(403),
            body: self.last(|settings| settings.block.body.as_deref()),
            content_type: self.last(|settings| settings.block.content_type.as_deref()),
            headers: self.last(|settings| settings.block.headers.as_deref()),
        }
    }

    /// Whether this rule raises anything. Of what the layers say the most specific layer counts, and within one
    /// layer the narrowest name.
    pub fn allows(&self, rule: RuleName<'_>) -> bool {
        self.last(|settings| {
            let narrowest = |selectors: &[super::Selector]| {
                selectors
                    .iter()
                    .filter_map(|selector| selector.names(rule))
                    .max()
            };
            let off = narrowest(&settings.rules.disable);
            let on = narrowest(&settings.rules.enable);
            (off != on).then_some(on > off)
        })
        .unwrap_or(true)
    }

    /// Whether this rule is on trial.
    pub fn stages(&self, rule: RuleName<'_>) -> bool {
        let stages = self
            .layers
            .iter()
            .flat_map(|(_, settings)| &settings.rules.stage);
        stages
            .filter(|stage| {
                stage
                    .until_unix_ns
                    .is_none_or(|until| self.time_unix_ns < until)
            })
            .any(|stage| {
                stage
                    .rules
                    .iter()
                    .any(|selector| selector.names(rule).is_some())
            })
    }

    /// Whether some clients are trusted.
    pub fn has_trusted_sources(&self) -> bool {
        let mut layers = self.layers.iter();
        layers.any(|(_, settings)| !settings.trusted_sources.is_empty())
    }

    /// Whether nothing is raised for this client.
    pub fn trusts(&self, address: u128) -> bool {
        let mut networks = self
            .layers
            .iter()
            .flat_map(|(_, settings)| &settings.trusted_sources);
        networks.any(|network: &Network| network.holds(address))
    }

    /// The exceptions that hold for this rule and request.
    pub fn exceptions(&self, rule: RuleName<'_>) -> Vec<&'p Exception> {
        let exceptions = self
            .layers
            .iter()
            .flat_map(|(_, settings)| &settings.exceptions);
        exceptions
            .filter(|exception| {
                exception.holds_at(self.place)
                    && exception
                        .rules
                        .iter()
                        .any(|selector| selector.names(rule).is_some())
            })
            .collect()
    }

    /// What to do about a request that raised an alert of this rule, severity and confidence.
    pub fn action(&self, rule: RuleName<'_>, severity: Severity, confidence: u8) -> Action {
        let enough = severity >= self.min_severity() && confidence >= self.min_confidence();
        if self.mode() == Mode::Block && enough && !self.stages(rule) {
            Action::Blocked
        } else {
            Action::Detected
        }
    }
}
