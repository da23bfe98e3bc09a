//! What there is to say about a rule file, for the person who wrote it.
//!
//! ```text
//! error[unknown-modifier]: `containz` is not a modifier
//!   --> rules/web/shell.yml:12:18
//!    |
//! 12 |     cs-uri-query|containz: cmd.exe
//!    |                  ^^^^^^^^
//!    = help: did you mean `contains`?
//! ```

use std::fmt;
use std::sync::Arc;

use crate::limits;
use crate::source::{Position, Source, Span};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The document is good, but probably not what its author meant.
    Warning,
    /// The document is refused.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// One thing to say about one place. `Display` gives the long form, [`Diagnostic::one_line`] the short one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable name in kebab case.
    pub code: &'static str,
    /// The file.
    pub source: Arc<Source>,
    /// The place.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Diagnostic {
    /// The file's name.
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// Line and column, from 1.
    pub fn position(&self) -> Position {
        self.source.position(self.span)
    }

    /// `file:line:column: error[code]: message; help`, with control characters escaped.
    pub fn one_line(&self) -> String {
        let Position { line, column } = self.position();
        let separator = if self.help.is_empty() { "" } else { "; " };
        let text = format!(
            "{}:{line}:{column}: {}[{}]: {}{separator}{}",
            self.file(),
            self.severity,
            self.code,
            self.message,
            self.help
        );
        visible(&text)
    }
}

/// Characters of a source line that are shown on either side of the place.
const CONTEXT_CHARS: usize = 100;

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position();
        let number = line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(
            f,
            "{}[{}]: {}",
            self.severity,
            self.code,
            visible(&self.message)
        )?;
        writeln!(f, "{gutter}--> {}:{line}:{column}", visible(self.file()))?;
        // A line may be a megabyte long, so only the neighbourhood of the place is shown.
        let before = column.saturating_sub(1);
        let skipped = before.saturating_sub(CONTEXT_CHARS);
        let shown = self.source.line(line).chars().skip(skipped);
        let length = self
            .source
            .excerpt(self.span)
            .lines()
            .next()
            .map_or(0, |first| first.chars().count());
        let length = length.clamp(1, CONTEXT_CHARS);
        let shown: String = shown
            .take(before - skipped + length + CONTEXT_CHARS)
            .map(printable)
            .collect();
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{}", format!("{number} | {shown}").trim_end())?;
        writeln!(
            f,
            "{gutter} | {}{}",
            " ".repeat(before - skipped),
            "^".repeat(length)
        )?;
        if !self.help.is_empty() {
            writeln!(f, "{gutter} = help: {}", visible(&self.help))?;
        }
        Ok(())
    }
}

/// A character that keeps its column on a terminal and does nothing else to it.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// `text` with control characters escaped: names and values of a rule are not ours to trust on a terminal.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Shortens text of a rule for a message.
pub(crate) fn short(text: &str) -> String {
    const CHARS: usize = 60;
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or("")),
        None => text.to_owned(),
    }
}

/// The diagnostics of one file as they come up, bounded by [`limits::DIAGNOSTICS`].
#[derive(Debug)]
pub struct Report {
    /// The file.
    pub source: Arc<Source>,
    list: Vec<Diagnostic>,
    errors: usize,
    full: bool,
}

impl Report {
    /// An empty report about this file.
    pub fn new(source: Arc<Source>) -> Report {
        Report {
            source,
            list: Vec::new(),
            errors: 0,
            full: false,
        }
    }

    /// Says that something is wrong.
    pub fn error(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.errors += 1;
        self.push(Severity::Error, code, span, message.into(), help.into());
    }

    /// Says that something is allowed and unwise.
    pub fn warning(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Warning, code, span, message.into(), help.into());
    }

    fn push(
        &mut self,
        severity: Severity,
        code: &'static str,
        span: Span,
        message: String,
        help: String,
    ) {
        // A document that is merged into several others says the same thing again for each of them.
        if self
            .list
            .iter()
            .any(|said| said.code == code && said.span == span && said.message == message)
        {
            return;
        }
        if self.list.len() >= limits::DIAGNOSTICS {
            self.full = true;
            return;
        }
        self.list.push(Diagnostic {
            severity,
            code,
            source: self.source.clone(),
            span,
            message,
            help,
        });
    }

    /// How many errors there have been. Grows also for those left out.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Whether there is nothing to say so far.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether there is no room for more, and so no use in looking for more.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// All of them in the order of the file.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(|one| (one.span.start, one.span.end));
        if self.full {
            self.list.push(Diagnostic {
                severity: Severity::Error,
                code: "too-many-diagnostics",
                source: self.source.clone(),
                span: Span::default(),
                message: format!(
                    "after {} diagnostics the rest of the file was not looked at",
                    limits::DIAGNOSTICS
                ),
                help: "mend these first".to_owned(),
            });
        }
        self.list
    }
}
