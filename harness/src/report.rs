//! What people and programs get to read: a line for each alert, a summary, and how far along it is.
//!
//! Everything shown may come from an attacker, so nothing reaches a terminal that the terminal
//! would obey or that would make text look like other text: [`printable`] escapes control
//! characters and characters that are not seen. Colours are for terminals only, and `NO_COLOR`
//! turns them off.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use portcullis::alert;
use serde_json::Value;

use crate::capture::Record;

/// One alert, as the filter logs it: a JSON object.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert(pub Value);

impl Alert {
    /// The text under this key, at the top or among the extended properties; empty if there is none.
    pub fn text(&self, key: &str) -> &str {
        let value = self
            .0
            .get(key)
            .or_else(|| self.0.get("ExtendedProperties")?.get(key));
        value.and_then(Value::as_str).unwrap_or_default()
    }

    /// The alert type, such as `Gateway_SqlInjection`.
    pub fn alert_type(&self) -> &str {
        self.text("AlertType")
    }

    /// `Informational`, `Low`, `Medium` or `High`.
    pub fn severity(&self) -> &str {
        self.text("Severity")
    }
}

/// The text with everything escaped that a terminal would obey or not show.
pub fn printable(text: &str) -> String {
    printable_bytes(text.as_bytes())
}

/// Bytes as text: what is UTF-8 as it is, other bytes and what is unprintable as `\xHH`.
pub fn printable_bytes(bytes: &[u8]) -> String {
    alert::printable(bytes, usize::MAX)
}

/// At most `width` characters of a text, the last of them `…` if some are missing.
fn cut(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) => text
            .chars()
            .take(width.saturating_sub(1))
            .chain(['…'])
            .collect(),
    }
}

/// A colour of a terminal, by its number.
#[derive(Clone, Copy, Debug)]
pub enum Colour {
    /// For what is worst.
    Red = 31,
    /// For what went right.
    Green = 32,
    /// For what is bad.
    Yellow = 33,
    /// For what is worth knowing.
    Cyan = 36,
    /// Bold, for what to read first.
    Bold = 1,
    /// Dim, for what to read last.
    Dim = 2,
}

/// Whether to use colours.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    has_colours: bool,
}

impl Style {
    /// Colours if `stream` is a terminal and `NO_COLOR` is not set.
    pub fn of(stream: &impl IsTerminal) -> Self {
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            has_colours: stream.is_terminal() && !is_refused,
        }
    }

    /// The text in a colour.
    pub fn paint(self, colour: Colour, text: impl fmt::Display) -> String {
        if self.has_colours {
            format!("\x1b[{}m{text}\x1b[0m", colour as u8)
        } else {
            text.to_string()
        }
    }

    /// A severity, padded to the longest one.
    pub fn severity(self, severity: &str) -> String {
        let colour = match severity {
            "High" => Colour::Red,
            "Medium" => Colour::Yellow,
            "Low" => Colour::Cyan,
            _ => Colour::Dim,
        };
        self.paint(colour, format_args!("{:<13}", printable(severity)))
    }
}

/// A time as people write it, in UTC to the second.
fn time_text(unix_ns: u64) -> String {
    let text = portcullis::time::rfc3339(i64::try_from(unix_ns).unwrap_or(i64::MAX));
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

/// `GET host/path?query` of a request, the command line of a process.
pub fn request_text(record: &Record) -> String {
    if record.is_process() {
        return printable_bytes(record.command_line());
    }
    let (method, host) = (
        printable_bytes(record.method()),
        record.authority().unwrap_or_default(),
    );
    format!(
        "{method} {}{}",
        printable_bytes(host),
        printable_bytes(record.target())
    )
}

/// The line that people read for an alert: time, severity, type, source, request, evidence.
pub fn alert_line(style: Style, record: &Record, alert: &Alert) -> String {
    let time = record.time_unix_ns.map_or_else(|| "-".into(), time_text);
    let source = record
        .source_address()
        .map_or_else(|| "-".into(), printable_bytes);
    let source = alert::without_port(&source);
    let evidence = printable(alert.text("Evidence"));
    format!(
        "{time:<19}  {}  {:<34}  {:<15}  {}  {}",
        style.severity(alert.severity()),
        printable(alert.alert_type()),
        cut(source, 39),
        cut(&request_text(record), 100),
        style.paint(Colour::Bold, cut(&evidence, 100)),
    )
}

/// What came of all records.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Requests inspected.
    pub requests: u64,
    /// Processes inspected.
    pub processes: u64,
    /// Records that could not be read.
    pub malformed: u64,
    /// Captures that could not be read at all.
    pub unread_captures: u64,
    /// Requests that raised something.
    pub with_alerts: u64,
    /// Requests that would have been blocked.
    pub blocked: u64,
    /// Requests of which a part was over a limit and not inspected.
    pub truncated: u64,
    /// Requests that the filter did not see to the end.
    pub failed: u64,
    /// Alerts that were folded into others of the same source.
    pub folded: u64,
    by_type: BTreeMap<String, (String, u64)>,
    by_rule: BTreeMap<(String, String), u64>,
}

impl Summary {
    /// Counts one alert.
    pub fn count(&mut self, alert: &Alert) {
        let by_type = self
            .by_type
            .entry(alert.alert_type().to_owned())
            .or_default();
        by_type.0 = alert.severity().to_owned();
        by_type.1 += 1;
        let rule = (
            alert.text("RuleTitle").to_owned(),
            alert.text("RuleId").to_owned(),
        );
        *self.by_rule.entry(rule).or_default() += 1;
    }

    /// How many alerts there were.
    pub fn alerts(&self) -> u64 {
        self.by_type.values().map(|(_, count)| count).sum()
    }

    /// Writes it for people.
    pub fn write(&self, style: Style, out: &mut impl Write) -> io::Result<()> {
        let mut counts = vec![format!("{} requests", grouped(self.requests))];
        if self.processes > 0 {
            if self.requests == 0 {
                counts.clear();
            }
            counts.push(format!("{} processes", grouped(self.processes)));
        }
        let mut add = |count: u64, what: &str, colour: Colour| {
            if count > 0 {
                counts.push(style.paint(colour, format_args!("{} {what}", grouped(count))));
            }
        };
        add(self.with_alerts, "with alerts", Colour::Bold);
        add(self.folded, "further alerts folded into these", Colour::Dim);
        add(self.blocked, "blocked", Colour::Bold);
        add(self.truncated, "truncated", Colour::Yellow);
        add(self.failed, "not inspected", Colour::Red);
        add(self.malformed, "records malformed", Colour::Yellow);
        add(self.unread_captures, "captures not read", Colour::Red);
        writeln!(out, "{}", counts.join(", "))?;
        if self.by_type.is_empty() {
            return Ok(());
        }

        writeln!(out, "\n{:>9}  {:<13}  alert type", "alerts", "severity")?;
        let mut types: Vec<_> = self.by_type.iter().collect();
        types.sort_by_key(|(_, (_, count))| std::cmp::Reverse(*count));
        for (alert_type, (severity, count)) in types {
            writeln!(
                out,
                "{:>9}  {}  {}",
                grouped(*count),
                style.severity(severity),
                printable(alert_type)
            )?;
        }
        writeln!(out, "\n{:>9}  rule", "alerts")?;
        let mut rules: Vec<_> = self.by_rule.iter().collect();
        rules.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for ((title, id), count) in rules {
            writeln!(
                out,
                "{:>9}  {}  {}",
                grouped(*count),
                printable(title),
                style.paint(Colour::Dim, printable(id))
            )?;
        }
        Ok(())
    }
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// One line on standard error, drawn over itself; nothing if that is no terminal.
#[derive(Debug)]
pub struct Progress {
    is_shown: bool,
    is_drawn: bool,
    next: Instant,
    begun: Instant,
}

const REDRAW: Duration = Duration::from_millis(100);

impl Progress {
    /// Shows itself if standard error is a terminal and nobody wants quiet.
    pub fn new(is_quiet: bool) -> Self {
        let now = Instant::now();
        Self {
            is_shown: !is_quiet && io::stderr().is_terminal(),
            is_drawn: false,
            next: now + REDRAW,
            begun: now,
        }
    }

    /// Draws, but not more than ten times a second. `part` is how much is done, if that is known.
    pub fn draw(&mut self, file: &str, part: Option<f64>, requests: u64, alerts: u64) {
        if !self.is_shown || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + REDRAW;
        self.is_drawn = true;
        let part = part.map_or_else(
            || "     ".into(),
            |part| format!("{:>3.0} % ", part * 100.0),
        );
        let per_second = requests as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
        // Cut, since a line that wraps cannot be drawn over.
        let line = format!(
            "{part} {} requests, {}/s, {} alerts  {}",
            grouped(requests),
            grouped(per_second as u64),
            grouped(alerts),
            printable(file)
        );
        eprint!("\r\x1b[2K{}", cut(&line, 78));
    }

    /// Takes the line away, before something else is written.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            eprint!("\r\x1b[2K");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PLAIN: Style = Style { has_colours: false };

    fn alert(evidence: &str) -> Alert {
        Alert(serde_json::json!({
            "AlertType": "Gateway_SqlInjection", "Severity": "High",
            "ExtendedProperties": {"RuleTitle": "A rule", "RuleId": "id-1", "Evidence": evidence}
        }))
    }

    #[test]
    fn an_alert_is_one_line_whatever_it_holds() {
        let mut record = Record::new(b"GET", b"/a\nb\x1b[2J\xff");
        record.set_authority(b"h\r");
        record.set_source_address(b"192.0.2.1\x08");
        record.time_unix_ns = Some(1_795_341_600_000_000_000);
        let line = alert_line(PLAIN, &record, &alert(&"x\n".repeat(200)));
        assert!(line.chars().all(|c| !c.is_control()), "{line}");
        assert!(
            line.starts_with("2026-11-22 10:00:00  High           Gateway_SqlInjection "),
            "{line}"
        );
        assert!(line.contains("GET h\\x0d/a\\x0ab\\x1b[2J\\xff"), "{line}");
        assert!(line.ends_with('…') && line.chars().count() < 300, "{line}");
    }

    #[test]
    fn the_summary_counts_by_type_and_by_rule() {
        let mut summary = Summary {
            requests: 12_345,
            malformed: 1,
            with_alerts: 2,
            ..Summary::default()
        };
        summary.count(&alert(""));
        summary.count(&alert(""));
        let mut out = Vec::new();
        summary.write(PLAIN, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("12,345 requests, 2 with alerts, 1 records malformed\n"),
            "{text}"
        );
        assert!(
            text.contains("        2  High           Gateway_SqlInjection\n"),
            "{text}"
        );
        assert!(text.contains("        2  A rule  id-1\n"), "{text}");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
