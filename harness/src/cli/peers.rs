//! `portcullis peers`: the same labelled requests through nginx with ModSecurity and the Core Rule
//! Set, side by side with what the filter finds.
//!
//! ```text
//!  captures ──► our detector ─────────────────────────────► raised anything?          ┐
//!        └────► HTTP/1.1 ──► nginx ──► ModSecurity ──► answered by ModSecurity?       ├─► one table
//!                               └─ answered by nginx, before any rule saw it: refused ┘
//! ```
//!
//! ModSecurity detects a request if it answers it itself, which the Core Rule Set lets it do once
//! the anomaly score reaches its threshold. What nginx refuses to read (a target that leaves the
//! root, a header of more than 8 KiB) is counted apart: no rule has seen it. Requests without a
//! label, unverified ones and processes are not sent.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use super::drive::{Item, Sink, drive};
use super::engine::EngineArgs;
use super::eval::{
    Payload, add_captures, capture_name, heading, one_in, percent, places_and_tier, text,
    write_list,
};
use crate::bench::server::{self, REACHED, Server};
use crate::capture::{Format, Label, OpenError, Record};
use crate::demo::client::{Kept, Response};
use crate::report::{Progress, Style, grouped, printable};

/// Connections that are kept to the server, which has one worker.
const CONNECTIONS: usize = 4;

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Needs Debian's nginx, libnginx-mod-http-modsecurity and modsecurity-crs: `make peers` installs what is missing. \
    The server listens on 127.0.0.1 only and ends with this command.\n\nExit status: 0 if every capture was read, 1 if not, 2 for a wrong command line."
)]
pub struct Args {
    #[command(flatten)]
    engine: EngineArgs,
    /// The captures' format; without it the content tells
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Paranoia levels of the Core Rule Set
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u8).range(1..=4))]
    paranoia: Vec<u8>,
    /// Seconds that all requests may take at one level, after which the command fails
    #[arg(long, value_name = "S", default_value_t = 600)]
    within: u64,
    /// List the attacks that only the other finds, at any of the levels
    #[arg(long)]
    only_theirs: bool,
    /// Write the figures as one JSON object
    #[arg(long)]
    json: bool,
    /// No progress
    #[arg(long, short)]
    quiet: bool,
    /// Labelled captures, or folders of them (`*.ndjson`, `*.ndjson.gz`)
    #[arg(required = true, value_name = "CORPUS")]
    corpora: Vec<PathBuf>,
}

/// Runs it. `false` says that a capture could not be read.
pub fn run(args: &Args) -> Result<bool> {
    if let Some(missing) = server::missing_for_nginx() {
        bail!("{missing} is missing (`envoy/setup peers` installs it)");
    }
    let mut paths = Vec::new();
    for corpus in &args.corpora {
        add_captures(corpus, &mut paths)?;
    }
    let mut collected = Collected {
        rows: Vec::new(),
        unread_captures: 0,
        progress: Progress::new(args.quiet),
    };
    let mut engine = args.engine.start()?;
    drive(&paths, args.format, engine.detectors(), &mut collected)?;
    drop(engine);
    let Collected {
        rows,
        unread_captures,
        mut progress,
    } = collected;

    let upstream = server::upstream()?;
    let dir = std::env::temp_dir().join(format!("portcullis-peers-{}", std::process::id()));
    let mut answers = Vec::new();
    for &paranoia in &args.paranoia {
        let answered = measure(args, paranoia, &rows, upstream, &dir, &mut progress);
        let _ = std::fs::remove_dir_all(&dir);
        answers.push(answered.with_context(|| format!("paranoia level {paranoia}"))?);
    }
    progress.clear();

    let report = Report::new(&args.paranoia, &rows, &answers);
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        let style = Style::of(&io::stdout());
        report.write(style, &mut out)?;
        let title = "attacks that only ModSecurity finds";
        let lines = &report.only_theirs;
        write_list(style, title, args.only_theirs, lines, &mut out)?;
    }
    out.flush()?;
    Ok(unread_captures == 0)
}

/// One labelled request, and what we make of it.
struct Row {
    capture: String,
    class: String,
    id: String,
    is_attack: bool,
    payload: Payload,
    /// We raise something.
    ours: bool,
    /// We raise something of severity Medium or above.
    ours_loud: bool,
    /// What a client would send; `None` if HTTP/1.1 cannot say it.
    wire: Option<Vec<u8>>,
}

struct Collected {
    rows: Vec<Row>,
    unread_captures: u64,
    progress: Progress,
}

impl Sink for Collected {
    fn item(&mut self, item: &Item) -> Result<()> {
        let record = &item.record;
        let is_attack = match record.label {
            Some(Label::Malicious) => true,
            Some(Label::Benign) => false,
            _ => return Ok(()),
        };
        if item.malformed.is_some() || record.is_process() {
            return Ok(());
        }
        let (places, _) = places_and_tier(record);
        self.rows.push(Row {
            capture: capture_name(&record.origin.file),
            class: text(record.class()),
            id: record.name(),
            is_attack,
            payload: Payload::of(record, &places),
            ours: !item.alerts.is_empty(),
            ours_loud: item
                .alerts
                .iter()
                .any(|alert| matches!(alert.severity(), "Medium" | "High")),
            wire: wire(record),
        });
        Ok(())
    }

    fn unread(&mut self, error: OpenError) -> Result<()> {
        self.unread_captures += 1;
        self.progress.clear();
        eprintln!("{}", printable(&error.to_string()));
        Ok(())
    }

    fn progress(&mut self, file: &str, part: Option<f64>) {
        let found = self.rows.iter().filter(|row| row.ours).count();
        self.progress
            .draw(file, part, self.rows.len() as u64, found as u64);
    }
}

/// Headers that say how a message is framed: those of this connection take their place.
const FRAMING: &[&[u8]] = &[
    b"connection",
    b"content-length",
    b"expect",
    b"host",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

/// The request as HTTP/1.1; `None` if a line break or NUL in it would make other requests of it.
fn wire(record: &Record) -> Option<Vec<u8>> {
    let breaks = |bytes: &[u8]| bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    let authority = record.authority().unwrap_or_default();
    if record.target().is_empty()
        || [record.method(), record.target(), authority].map(breaks) != [false; 3]
    {
        return None;
    }
    let request_line = [
        record.method(),
        b" ",
        record.target(),
        b" HTTP/1.1\r\nhost: ",
        authority,
    ];
    let mut out = request_line.concat();
    out.extend_from_slice(b"\r\n");
    for (name, value) in record.headers() {
        if breaks(name) || breaks(value) || name.is_empty() {
            return None;
        }
        if !FRAMING.contains(&name) && !name.starts_with(b":") {
            out.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
        }
    }
    let body = record.body().unwrap_or_default();
    if !body.is_empty() || matches!(record.method(), b"POST" | b"PUT" | b"PATCH") {
        out.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    Some(out)
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// It went on to the upstream.
    Passed,
    /// ModSecurity answered it.
    Detected,
    /// nginx answered it before any rule saw it, or it cannot be sent.
    Refused,
}

impl Answer {
    fn of(response: Option<Response>) -> Result<Self> {
        let Some(response) = response else {
            return Ok(Self::Refused);
        };
        let has_reached = response.header(REACHED).is_some();
        match response.status {
            200..=299 => Ok(Self::Passed),
            // nginx knows of too long a body only where it also knows that ModSecurity is to be asked.
            408 | 413 => Ok(Self::Refused),
            400..=499 if has_reached => Ok(Self::Detected),
            400..=499 => Ok(Self::Refused),
            // Methods and versions that nginx does not know.
            501 | 505 => Ok(Self::Refused),
            status => bail!("nginx answers with status {status}, so its figures mean nothing"),
        }
    }
}

fn measure(
    args: &Args,
    paranoia: u8,
    rows: &[Row],
    upstream: SocketAddr,
    dir: &std::path::Path,
    progress: &mut Progress,
) -> Result<Vec<Answer>> {
    let server = Server::start_enforcing(paranoia, upstream, dir)?;
    let deadline = Instant::now() + Duration::from_secs(args.within);
    let (next, detected) = (AtomicUsize::new(0), AtomicU64::new(0));
    let send_all = || -> Result<Vec<(usize, Answer)>> {
        let mut connection = Kept::new(server.address);
        let mut answers = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(row) = rows.get(index) else {
                return Ok(answers);
            };
            if Instant::now() > deadline {
                bail!(
                    "{} of {} requests were answered within {} s; give it more with `--within`",
                    grouped(index as u64),
                    grouped(rows.len() as u64),
                    args.within
                );
            }
            let answer = match &row.wire {
                Some(wire) => Answer::of(connection.send(wire)?)
                    .with_context(|| format!("request {}", printable(&row.id)))?,
                None => Answer::Refused,
            };
            detected.fetch_add(u64::from(answer == Answer::Detected), Ordering::Relaxed);
            answers.push((index, answer));
        }
    };
    let mut all = vec![Answer::Refused; rows.len()];
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(send_all)).collect();
        while !threads.iter().all(|thread| thread.is_finished()) {
            let done = next.load(Ordering::Relaxed).min(rows.len());
            progress.draw(
                &format!("ModSecurity, paranoia level {paranoia}"),
                Some(done as f64 / rows.len().max(1) as f64),
                done as u64,
                detected.load(Ordering::Relaxed),
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        for thread in threads {
            let answers = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a sending thread has died"))??;
            for (index, answer) in answers {
                if let Some(place) = all.get_mut(index) {
                    *place = answer;
                }
            }
        }
        Ok(all)
    })
}

/// What one level of the Core Rule Set makes of some requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Theirs {
    detected: u64,
    refused_by_server: u64,
}

/// How many requests, and what each makes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Count {
    requests: u64,
    ours: u64,
    ours_medium_or_above: u64,
    /// By paranoia level.
    modsecurity: BTreeMap<u8, Theirs>,
}

impl Count {
    fn add(&mut self, row: &Row, answers: impl Iterator<Item = (u8, Answer)>) {
        self.requests += 1;
        self.ours += u64::from(row.ours);
        self.ours_medium_or_above += u64::from(row.ours_loud);
        for (paranoia, answer) in answers {
            let theirs = self.modsecurity.entry(paranoia).or_default();
            theirs.detected += u64::from(answer == Answer::Detected);
            theirs.refused_by_server += u64::from(answer == Answer::Refused);
        }
    }
}

#[derive(Debug, Default, Serialize)]
struct Report {
    versions: String,
    /// Payload in URL, User-Agent or Referer, by capture.
    attacks: BTreeMap<String, Count>,
    attacks_by_class: BTreeMap<String, Count>,
    /// Payload in bodies, cookies or other headers only, by capture.
    attacks_elsewhere: BTreeMap<String, Count>,
    /// Requests with a body, of which nobody says where the payload is, by capture.
    attacks_not_said: BTreeMap<String, Count>,
    benign: BTreeMap<String, Count>,
    /// Sums of the above.
    all_attacks: Count,
    all_attacks_elsewhere: Count,
    all_attacks_not_said: Count,
    all_benign: Count,
    /// Ids of attacks in the head of a request that ModSecurity finds at some level and we do not.
    only_theirs: Vec<String>,
}

impl Report {
    fn new(paranoia: &[u8], rows: &[Row], answers: &[Vec<Answer>]) -> Self {
        let mut report = Self {
            versions: server::versions_of_peer(),
            ..Self::default()
        };
        for (index, row) in rows.iter().enumerate() {
            let answers = paranoia
                .iter()
                .zip(answers)
                .filter_map(|(level, answers)| Some((*level, *answers.get(index)?)));
            let is_theirs = answers
                .clone()
                .any(|(_, answer)| answer == Answer::Detected);
            let (by_capture, sum) = match (row.is_attack, row.payload) {
                (false, _) => (&mut report.benign, &mut report.all_benign),
                (true, Payload::InHead) => (&mut report.attacks, &mut report.all_attacks),
                (true, Payload::Elsewhere) => (
                    &mut report.attacks_elsewhere,
                    &mut report.all_attacks_elsewhere,
                ),
                (true, Payload::NotSaid) => (
                    &mut report.attacks_not_said,
                    &mut report.all_attacks_not_said,
                ),
            };
            let count = by_capture.entry(row.capture.clone()).or_default();
            count.add(row, answers.clone());
            sum.add(row, answers.clone());
            if row.is_attack && row.payload == Payload::InHead {
                let by_class = report.attacks_by_class.entry(row.class.clone());
                by_class.or_default().add(row, answers);
                if is_theirs && !row.ours {
                    report
                        .only_theirs
                        .push(format!("{}  {}", row.id, row.class));
                }
            }
        }
        report
    }

    fn write(&self, style: Style, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.versions)?;
        let levels: Vec<u8> = self.all_benign.modsecurity.keys().copied().collect();
        let levels = match levels.is_empty() {
            true => self.all_attacks.modsecurity.keys().copied().collect(),
            false => levels,
        };
        let mut columns = format!("{:>8} {:>16}", "n", "Portcullis");
        for level in levels {
            columns.push_str(&format!(
                " {:>18} {:>8}",
                format!("CRS level {level}"),
                "refused"
            ));
        }
        for (title, counts, sum) in [
            (
                "attacks: payload in URL, User-Agent, Referer",
                &self.attacks,
                Some(&self.all_attacks),
            ),
            ("the same by class", &self.attacks_by_class, None),
            (
                "attacks: payload elsewhere (see below)",
                &self.attacks_elsewhere,
                Some(&self.all_attacks_elsewhere),
            ),
            (
                "attacks: not said where, with a body",
                &self.attacks_not_said,
                Some(&self.all_attacks_not_said),
            ),
        ] {
            if counts.is_empty() {
                continue;
            }
            heading(style, title, &columns, out)?;
            for (name, count) in counts {
                attack_line(&format!("  {name}"), count, out)?;
            }
            if let Some(sum) = sum {
                attack_line("all", sum, out)?;
            }
        }
        if !self.benign.is_empty() {
            heading(style, "benign requests", &columns, out)?;
            for (name, count) in &self.benign {
                benign_line(&format!("  {name}"), count, out)?;
            }
            benign_line("all", &self.all_benign, out)?;
            writeln!(
                out,
                "\nPortcullis raises something of severity Medium or above on {} of {} benign requests.",
                grouped(self.all_benign.ours_medium_or_above),
                grouped(self.all_benign.requests)
            )?;
        }
        writeln!(
            out,
            "Portcullis counts a request that raises any alert, ModSecurity one that reaches the anomaly threshold.\n\
             refused: nginx answered before any rule saw the request, or HTTP/1.1 cannot say it."
        )?;
        if !(self.attacks_elsewhere.is_empty() && self.attacks_not_said.is_empty()) {
            writeln!(
                out,
                "elsewhere: in a body, a cookie or another header. The filter reads cookies and headers that look like more\n\
                 than ordinary values; ModSecurity reads all of them."
            )?;
        }
        Ok(())
    }
}

fn attack_line(name: &str, count: &Count, out: &mut impl Write) -> io::Result<()> {
    let share = |hits: u64| {
        let share = percent(hits as f64 / count.requests.max(1) as f64);
        format!("{} {share:>8}", grouped(hits))
    };
    write_line(name, count, &share, out)
}

fn benign_line(name: &str, count: &Count, out: &mut impl Write) -> io::Result<()> {
    let rate = |hits: u64| match hits {
        0 => "0          ".to_owned(),
        hits => format!("{} {:>10}", grouped(hits), one_in(hits, count.requests)),
    };
    write_line(name, count, &rate, out)
}

fn write_line(
    name: &str,
    count: &Count,
    figure: &impl Fn(u64) -> String,
    out: &mut impl Write,
) -> io::Result<()> {
    write!(
        out,
        "{:<44} {:>8} {:>16}",
        printable(name),
        grouped(count.requests),
        figure(count.ours)
    )?;
    for theirs in count.modsecurity.values() {
        write!(
            out,
            " {:>18} {:>8}",
            figure(theirs.detected),
            grouped(theirs.refused_by_server)
        )?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(status: u16, has_reached: bool) -> Option<Answer> {
        let headers = if has_reached {
            vec![(REACHED.to_owned(), "1".to_owned())]
        } else {
            Vec::new()
        };
        let response = Response {
            status,
            headers,
            body: Vec::new(),
        };
        Answer::of(Some(response)).ok()
    }

    #[test]
    fn what_the_server_refuses_is_no_detection() {
        for (status, has_reached, expected) in [
            (200, true, Some(Answer::Passed)),
            (403, true, Some(Answer::Detected)),
            // ModSecurity could not parse the body.
            (400, true, Some(Answer::Detected)),
            // nginx could not parse the request.
            (400, false, Some(Answer::Refused)),
            (414, false, Some(Answer::Refused)),
            (413, true, Some(Answer::Refused)),
            (405, false, Some(Answer::Refused)),
            // Then the upstream is gone, and every figure would be wrong.
            (502, true, None),
        ] {
            assert_eq!(
                answer(status, has_reached),
                expected,
                "{status} {has_reached}"
            );
        }
        assert_eq!(Answer::of(None).unwrap(), Answer::Refused);
    }

    #[test]
    fn a_request_is_written_as_it_was_but_for_its_framing() {
        let mut record = Record::new(b"POST", b"/a?b=%27 c");
        record.set_authority(b"shop.example");
        record.push_header(b"transfer-encoding", b"chunked");
        record.push_header(b"user-agent", b"x\xff");
        record.set_body(b"q=1");
        assert_eq!(
            wire(&record).unwrap(),
            b"POST /a?b=%27 c HTTP/1.1\r\nhost: shop.example\r\nuser-agent: x\xff\r\ncontent-length: 3\r\n\r\nq=1"
        );
        record.push_header(b"x-a", b"1\r\nx-b: 2");
        assert_eq!(wire(&record), None);
    }

    #[test]
    fn rows_are_counted_by_where_the_payload_is() {
        let row = |is_attack, payload, ours| Row {
            capture: "c".into(),
            class: "sqli".into(),
            id: "1".into(),
            is_attack,
            payload,
            ours,
            ours_loud: false,
            wire: None,
        };
        let rows = [
            row(true, Payload::InHead, true),
            row(true, Payload::InHead, false),
            row(true, Payload::Elsewhere, false),
            row(true, Payload::NotSaid, false),
            row(false, Payload::InHead, false),
        ];
        let one = vec![Answer::Detected; 5];
        let two = vec![Answer::Refused; 5];
        let report = Report::new(&[1, 2], &rows, &[one, two]);
        assert_eq!(
            (report.all_attacks.requests, report.all_attacks.ours),
            (2, 1)
        );
        assert_eq!(report.all_attacks.modsecurity[&1].detected, 2);
        assert_eq!(report.all_attacks.modsecurity[&2].detected, 0);
        assert_eq!(report.all_attacks.modsecurity[&2].refused_by_server, 2);
        assert_eq!(report.all_attacks_elsewhere.requests, 1);
        assert_eq!(report.all_attacks_not_said.requests, 1);
        assert_eq!(report.all_benign.requests, 1);
        assert_eq!(report.attacks_by_class["sqli"].requests, 2);
        assert_eq!(report.only_theirs, ["1  sqli"]);
    }
}
