//! Readers for captured traffic: a file goes in, [`Record`]s come out, one after the other.
//!
//! | format | what | a record's limit |
//! |---|---|---|
//! | [`Format::Har`] | HTTP Archive 1.2 | [`MAX_ENTRY_BYTES`] an entry |
//! | [`Format::Combined`] | NCSA common and combined logs, with or without the virtual host | [`MAX_LINE_BYTES`] a line |
//! | [`Format::Envoy`] | Envoy's JSON access logs | [`MAX_LINE_BYTES`] a line |
//! | [`Format::Http`] | raw HTTP/1.1 requests | [`MAX_LINE_BYTES`] a head, and as much a body |
//! | [`Format::Ndjson`] | labelled requests and processes, a JSON object a line | [`MAX_LINE_BYTES`] a line |
//! | [`Format::Auditd`] | processes that started, in the log of Linux's audit daemon | [`MAX_LINE_BYTES`] a line |
//! | [`Format::Windows`] | processes that started, XML of Sysmon and the Windows security log | [`MAX_LINE_BYTES`] an event |
//! | [`Format::Process`] | processes that started, JSON of Sysmon, auditd, Falco, Tetragon | [`MAX_LINE_BYTES`] a line |
//!
//! Plain or gzip'd, and streaming: a file larger than memory is read in the memory of its largest
//! record. The format is told from the content unless it is given. What cannot be read is a
//! [`Malformed`] with file and line in its place among the records, and reading goes on behind
//! it; nothing is left out silently. Blank lines are no records.
//!
//! ```no_run
//! use portcullis_capture::{Reader, Record};
//! let mut reader = Reader::open("access.log.gz".as_ref(), None)?;
//! let mut record = Record::default();
//! while let Some(read) = reader.read(&mut record) {
//!     match read {
//!         Ok(()) => println!("{}", record.target().escape_ascii()),
//!         Err(malformed) => eprintln!("{malformed}"),
//!     }
//! }
//! # Ok::<(), portcullis_capture::OpenError>(())
//! ```

mod auditd;
mod envoy;
pub mod event;
mod har;
mod http;
mod input;
mod json;
mod ncsa;
mod ndjson;
mod process;
mod record;
mod time;
mod windows;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use input::{Input, Line};
pub use record::{Label, Origin, Record};

/// The longest line, and the longest head and body of a raw request. Longer ones are skipped and
/// counted as malformed.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// The longest entry of an HTTP archive, its response body included. Longer ones are skipped and
/// counted as malformed.
pub const MAX_ENTRY_BYTES: usize = 64 << 20;

/// How far into a file its format is looked for.
const DETECT_BYTES: usize = 64 << 10;

/// A kind of capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Format {
    /// HTTP Archive 1.2, as browsers and proxies export it.
    Har,
    /// NCSA common or combined log, as Apache and nginx write it.
    Combined,
    /// Envoy's JSON access log.
    Envoy,
    /// Raw HTTP/1.1 requests, one or several.
    Http,
    /// Labelled requests or processes, one JSON object a line.
    Ndjson,
    /// Processes that started, as Sysmon, auditd (laurel), Falco, Tetragon and ECS write them in JSON.
    Process,
    /// Processes that started, in the log of Linux's audit daemon.
    Auditd,
    /// Processes that started, events of Windows (Sysmon, security log) in XML.
    Windows,
}

/// A record that cannot be read.
#[derive(Clone, Debug)]
pub struct Malformed {
    /// Where it starts.
    pub origin: Origin,
    /// What is wrong with it.
    pub reason: Cow<'static, str>,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.reason)
    }
}

/// Why a capture cannot be read at all.
#[derive(Debug)]
pub enum OpenError {
    /// The file cannot be opened, or its start not be read.
    Io {
        /// The file.
        file: Arc<str>,
        /// What the system says.
        error: io::Error,
    },
    /// Its content reads like none of the formats.
    UnknownFormat {
        /// The file.
        file: Arc<str>,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { file, error } => write!(f, "{file}: {}", io_reason(error)),
            Self::UnknownFormat { file } => write!(
                f,
                "{file}: its start reads like none of the formats; name one with `--format` (har, combined, envoy, http, ndjson, process, auditd, windows)"
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// Reads one capture.
pub struct Reader {
    input: Input,
    format: Option<Format>,
    file: Arc<str>,
    entries: har::Entries,
    audit_events: auditd::Events,
    windows_events: windows::Events,
    consumed: Arc<AtomicU64>,
    total_bytes: Option<u64>,
    is_done: bool,
}

impl Reader {
    /// Opens a file; `-` is standard input. Without a format its content tells.
    pub fn open(path: &Path, format: Option<Format>) -> Result<Self, OpenError> {
        if path == Path::new("-") {
            return Self::new("-", io::stdin(), format);
        }
        let file: Arc<str> = path.to_string_lossy().into();
        let consumed = Arc::default();
        match Input::open(path, Arc::clone(&consumed)) {
            Ok((input, total_bytes)) => Self::start(file, input, consumed, total_bytes, format),
            Err(error) => Err(OpenError::Io { file, error }),
        }
    }

    /// Reads from any source; `name` is what records and errors call it.
    pub fn new(
        name: &str,
        source: impl Read + Send + 'static,
        format: Option<Format>,
    ) -> Result<Self, OpenError> {
        let file: Arc<str> = name.into();
        let consumed = Arc::default();
        match Input::new(source, Arc::clone(&consumed)) {
            Ok(input) => Self::start(file, input, consumed, None, format),
            Err(error) => Err(OpenError::Io { file, error }),
        }
    }

    fn start(
        file: Arc<str>,
        mut input: Input,
        consumed: Arc<AtomicU64>,
        total_bytes: Option<u64>,
        format: Option<Format>,
    ) -> Result<Self, OpenError> {
        let format = match format {
            Some(format) => Some(format),
            None => {
                let format = detect(&mut input).map_err(|error| OpenError::Io {
                    file: Arc::clone(&file),
                    error,
                })?;
                // An empty file is a capture without records, whatever it would have held.
                if format.is_none() && !input.window().trim_ascii().is_empty() {
                    return Err(OpenError::UnknownFormat { file });
                }
                format
            }
        };
        let is_done = format.is_none();
        Ok(Self {
            input,
            format,
            file,
            entries: har::Entries::default(),
            audit_events: auditd::Events::default(),
            windows_events: windows::Events::default(),
            consumed,
            total_bytes,
            is_done,
        })
    }

    /// The format, given or found; `None` for an empty file.
    pub fn format(&self) -> Option<Format> {
        self.format
    }

    /// What the capture is called in records and errors.
    pub fn name(&self) -> &str {
        &self.file
    }

    /// Bytes read so far, before inflating: with [`Reader::total_bytes`], how far along it is.
    pub fn consumed_bytes(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    /// The file's length on disk; `None` for a pipe.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// Reads the next request into `record`, whose memory is used again. After a [`Malformed`] the
    /// record is of no use, and the next call goes on behind it.
    pub fn read(&mut self, record: &mut Record) -> Option<Result<(), Malformed>> {
        if self.is_done {
            return None;
        }
        record.clear();
        if !Arc::ptr_eq(&record.origin.file, &self.file) {
            record.origin.file = Arc::clone(&self.file);
        }
        match self.read_or_stop(record) {
            Ok(None) => {
                self.is_done = true;
                None
            }
            Ok(Some(Ok(()))) => Some(Ok(())),
            Ok(Some(Err(reason))) => Some(Err(Malformed {
                origin: record.origin.clone(),
                reason,
            })),
            Err(error) => {
                // What has been read behind the last record is lost with what could not be read.
                self.is_done = true;
                let origin = Origin {
                    file: Arc::clone(&self.file),
                    line: self.input.line,
                };
                Some(Err(Malformed {
                    origin,
                    reason: io_reason(&error).into(),
                }))
            }
        }
    }

    #[allow(clippy::type_complexity)]
    fn read_or_stop(
        &mut self,
        record: &mut Record,
    ) -> io::Result<Option<Result<(), Cow<'static, str>>>> {
        let format = match self.format {
            None => return Ok(None),
            Some(Format::Http) => {
                let read = http::read(&mut self.input, record, MAX_LINE_BYTES)?;
                return Ok(read.map(|read| read.map_err(Cow::from)));
            }
            Some(Format::Har) => {
                return Ok(match self.entries.next(&mut self.input, MAX_ENTRY_BYTES)? {
                    har::Cut::Entry { line, json } => {
                        record.origin.line = line;
                        Some(har::parse(json, record).map_err(Cow::from))
                    }
                    har::Cut::Bad { line, reason } => {
                        record.origin.line = line;
                        Some(Err(reason.into()))
                    }
                    har::Cut::End => None,
                });
            }
            Some(Format::Auditd) => return self.read_audit_event(record),
            Some(Format::Windows) => {
                let cut = self.windows_events.next(&mut self.input, MAX_LINE_BYTES)?;
                let (line, read) = match cut {
                    windows::Cut::Event { line, xml } => {
                        let event = windows::parse(&xml);
                        (line, event.and_then(|event| process::read(&event, record)))
                    }
                    windows::Cut::Bad { line, reason } => (line, Err(reason.into())),
                    windows::Cut::End => return Ok(None),
                };
                record.origin.line = line;
                return Ok(Some(read.map_err(Cow::from)));
            }
            Some(format) => format,
        };
        loop {
            record.origin.line = self.input.line;
            let line = match self.input.line(MAX_LINE_BYTES)? {
                None => return Ok(None),
                Some(Line::TooLong) => {
                    return Ok(Some(Err("a line over the limit of 16 MiB".into())));
                }
                Some(Line::Whole(line)) => line.strip_suffix(b"\r").unwrap_or(line),
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            return Ok(Some(match format {
                Format::Combined => ncsa::parse(line, record).map_err(Cow::from),
                Format::Envoy => envoy::parse(line, record).map_err(Cow::from),
                Format::Process => process::parse(line, record).map_err(Cow::from),
                _ => ndjson::parse(line, record).map_err(Cow::from),
            }));
        }
    }
}

impl Reader {
    #[allow(clippy::type_complexity)]
    fn read_audit_event(
        &mut self,
        record: &mut Record,
    ) -> io::Result<Option<Result<(), Cow<'static, str>>>> {
        loop {
            if let Some(line) = self.audit_events.next(record) {
                record.origin.line = line;
                return Ok(Some(Ok(())));
            }
            let number = self.input.line;
            record.origin.line = number;
            match self.input.line(MAX_LINE_BYTES)? {
                None if self.audit_events.end() => {}
                None => return Ok(None),
                Some(Line::TooLong) => {
                    return Ok(Some(Err("a line over the limit of 16 MiB".into())));
                }
                Some(Line::Whole(line)) if line.trim_ascii().is_empty() => {}
                Some(Line::Whole(line)) => {
                    if let Err(reason) = self.audit_events.add(line.trim_ascii_end(), number) {
                        return Ok(Some(Err(reason.into())));
                    }
                }
            }
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Record, Malformed>;

    /// Like [`Reader::read`], with a record of its own for each request.
    fn next(&mut self) -> Option<Self::Item> {
        let mut record = Record::default();
        Some(self.read(&mut record)?.map(|()| record))
    }
}

/// Looks into the input until a line tells the format, or there are none left to look at.
fn detect(input: &mut Input) -> io::Result<Option<Format>> {
    loop {
        let window = input.window();
        let has_line = memchr::memchr(b'\n', window).is_some();
        let is_enough = window.len() >= DETECT_BYTES;
        if (has_line || is_enough)
            && let Some(format) = detect_in(window, true)
        {
            return Ok(Some(format));
        }
        if is_enough {
            return Ok(None);
        }
        match input.fill() {
            Ok(true) => {}
            Ok(false) => return Ok(detect_in(input.window(), false)),
            // The rest may be lost, but its start may still tell.
            Err(error) => {
                return detect_in(input.window(), true)
                    .map_or(Err(error), |format| Ok(Some(format)));
            }
        }
    }
}

/// The first line that reads like a line of some format decides, so that a stray one before it
/// does no harm.
fn detect_in(window: &[u8], is_cut_off: bool) -> Option<Format> {
    let mut rest = window.trim_ascii_start();
    if windows::is_start(rest) {
        return Some(Format::Windows);
    }
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest);
        let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if line.starts_with(b"{") {
            // An archive is one object over many lines, the others have one in each.
            if let Some(format) = detect_json(rest) {
                return Some(format);
            }
        } else if auditd::is_line(line) {
            return Some(Format::Auditd);
        } else if http::is_request_line(line, is_cut_off && end.is_none()) {
            return Some(Format::Http);
        } else if ncsa::is_line(line) {
            return Some(Format::Combined);
        }
        rest = rest.get(end? + 1..).unwrap_or_default();
    }
    None
}

fn detect_json(text: &[u8]) -> Option<Format> {
    let mut found = None;
    json::keys(text, |key| match key {
        b"log" => found = Some(Format::Har),
        b"headers" | b"label" | b"body_b64" | b"command_line" if found != Some(Format::Har) => {
            found = Some(Format::Ndjson)
        }
        _ if process::is_key(key) && matches!(found, None | Some(Format::Envoy)) => {
            found = Some(Format::Process)
        }
        _ if found.is_none() && envoy::is_key(key) => found = Some(Format::Envoy),
        _ => {}
    });
    found
}

fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::UnexpectedEof => "the gzip'd data ends early (was the file cut off?)".into(),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            format!("the gzip'd data is damaged: {error}")
        }
        _ => error.to_string(),
    }
}
