//! A pasted or dropped capture, read and judged a few records at a time, so that the page can show how far along it is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Cursor;

use portcullis::alert::printable;
use portcullis_capture::{Format, Reader, Record};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::judge::Judge;
use crate::limits;

/// What a record raised.
#[derive(Clone, Debug, Default)]
pub struct Raised {
    /// The alerts, as a gateway would log them.
    pub alerts: Vec<Box<RawValue>>,
    /// Which of them are the user's.
    pub own: Vec<bool>,
    /// Whether the request was blocked.
    pub is_blocked: bool,
}

/// A capture.
pub struct Capture {
    reader: Reader,
    records: Vec<Record>,
    /// What each record raised; only of those that raised something.
    alerts: BTreeMap<usize, Raised>,
    kept_bytes: usize,
    malformed: usize,
    is_done: bool,
}

/// What came of the next records.
#[derive(Debug, Default, Serialize)]
pub struct Step {
    rows: Vec<Row>,
    /// Records that cannot be read, the first ones.
    malformed: Vec<String>,
    /// How many could not be, so far.
    malformed_count: usize,
    is_done: bool,
    /// Why reading stopped before the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<Cow<'static, str>>,
}

/// One record in the table.
#[derive(Debug, Serialize)]
pub struct Row {
    line: u64,
    time_unix_ms: Option<u64>,
    source: String,
    method: String,
    target: String,
    status: Option<u16>,
    verdict: &'static str,
    is_truncated: bool,
    alerts: Vec<RowAlert>,
}

#[derive(Debug, Serialize)]
struct RowAlert {
    kind: &'static str,
    name: &'static str,
    severity: &'static str,
    is_own: bool,
}

impl Capture {
    /// Starts to read; the format is told from the content.
    pub fn new(bytes: Vec<u8>) -> Result<Capture, String> {
        if bytes.len() > limits::CAPTURE_BYTES {
            return Err(format!(
                "the capture is over the limit of {} MiB for this page; `portcullis replay` reads captures of any size",
                limits::CAPTURE_BYTES >> 20
            ));
        }
        let reader = Reader::new("capture", Cursor::new(bytes), None).map_err(|error| {
            match error {
                portcullis_capture::OpenError::UnknownFormat { .. } =>
                    "its start reads like none of the formats: HAR, NCSA access log, Envoy JSON log, raw HTTP requests, NDJSON".to_owned(),
                other => other.to_string(),
            }
        })?;
        Ok(Capture {
            reader,
            records: Vec::new(),
            alerts: BTreeMap::new(),
            kept_bytes: 0,
            malformed: 0,
            is_done: false,
        })
    }

    /// The format, for people.
    pub fn format(&self) -> &'static str {
        match self.reader.format() {
            Some(Format::Har) => "HTTP archive",
            Some(Format::Combined) => "NCSA access log",
            Some(Format::Envoy) => "Envoy JSON access log",
            Some(Format::Http) => "raw HTTP requests",
            Some(Format::Ndjson) => "labelled NDJSON",
            Some(Format::Process | Format::Auditd | Format::Windows) => "process events",
            None => "empty",
        }
    }

    /// A record that was read.
    pub fn record(&self, at: usize) -> Option<&Record> {
        self.records.get(at)
    }

    /// What a record raised when it was judged in its place.
    pub fn alerts(&self, at: usize) -> Raised {
        self.alerts.get(&at).cloned().unwrap_or_default()
    }

    /// Reads and judges up to `count` further records.
    pub fn next(&mut self, judge: &mut Judge, count: usize) -> Step {
        let mut step = Step::default();
        for _ in 0..count {
            if self.is_done {
                break;
            }
            if self.records.len() >= limits::RECORDS {
                self.is_done = true;
                step.stopped = Some(format!("stopped after {} records", limits::RECORDS).into());
                break;
            }
            if self.kept_bytes >= limits::RECORD_BYTES {
                self.is_done = true;
                step.stopped = Some(
                    format!(
                        "stopped after {} MiB of records",
                        limits::RECORD_BYTES >> 20
                    )
                    .into(),
                );
                break;
            }
            match self.reader.next() {
                None => self.is_done = true,
                Some(Err(malformed)) => {
                    self.malformed += 1;
                    if self.malformed <= limits::MALFORMED {
                        step.malformed
                            .push(printable(malformed.to_string().as_bytes(), 400));
                    }
                }
                Some(Ok(record)) => step.rows.push(self.keep(judge, record)),
            }
        }
        step.malformed_count = self.malformed;
        step.is_done = self.is_done;
        step
    }

    fn keep(&mut self, judge: &mut Judge, record: Record) -> Row {
        let outcome = judge.judge(&record);
        let alerts = outcome.alerts.iter().map(|alert| RowAlert {
            kind: alert.alert_type,
            name: alert.alert_display_name,
            severity: alert.severity,
            is_own: judge.is_own(alert),
        });
        let (method, target) = if record.is_process() {
            (String::new(), record.command_line().to_vec())
        } else {
            let host = record.authority().unwrap_or_default();
            (
                printable(record.method(), 32),
                [host, record.target()].concat(),
            )
        };
        let row = Row {
            line: record.origin.line,
            time_unix_ms: record.time_unix_ns.map(|time| time / 1_000_000),
            source: printable(record.source_address().unwrap_or_default(), 64),
            method,
            target: printable(&target, limits::ROW_TARGET_BYTES),
            status: record.status,
            verdict: verdict(outcome.is_blocked, outcome.alerts.is_empty()),
            is_truncated: outcome.is_truncated,
            alerts: alerts.collect(),
        };
        if !outcome.alerts.is_empty() {
            // Only text and numbers are in an alert, so it can always be written.
            let raised = Raised {
                alerts: (outcome.alerts.iter())
                    .filter_map(|alert| to_raw_value(alert).ok())
                    .collect(),
                own: row.alerts.iter().map(|alert| alert.is_own).collect(),
                is_blocked: outcome.is_blocked,
            };
            self.alerts.insert(self.records.len(), raised);
        }
        self.kept_bytes += record.size_bytes();
        self.records.push(record);
        row
    }
}

/// The word for what happened to a request.
pub fn verdict(is_blocked: bool, is_quiet: bool) -> &'static str {
    match (is_blocked, is_quiet) {
        (true, _) => "blocked",
        (false, false) => "detected",
        (false, true) => "allowed",
    }
}
