//! A record goes in, alerts and a verdict come out: natively, or through the very `.wasm` file
//! that Envoy loads.

use std::time::Duration;

use crate::capture::Record;
use crate::report::Alert;

/// What happened to a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// It went on to the upstream.
    #[default]
    Allow,
    /// The gateway answered it.
    Block,
    /// The filter was dead, and the request went on unseen.
    Bypass,
}

impl Action {
    /// The word for it in verdicts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Bypass => "bypass",
        }
    }
}

/// What came of a request, beside its alerts.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What happened to it.
    pub action: Action,
    /// Some part of it was over a limit and not inspected.
    pub truncated: bool,
    /// Why it was not inspected to the end.
    pub failure: Option<String>,
}

/// Inspects records one after the other.
pub trait Detector {
    /// Inspects a record and appends what it raises.
    fn inspect(&mut self, record: &Record, alerts: &mut Vec<Alert>) -> Verdict;

    /// How much of the time was spent in the filter itself; none if there is nothing around it, or nobody measures.
    fn detecting(&self) -> Option<Duration> {
        None
    }
}
