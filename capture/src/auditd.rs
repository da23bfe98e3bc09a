//! The log of Linux's audit daemon as it is on disk: an event is several lines, and events are mixed.
//!
//! ```text
//! type=SYSCALL msg=audit(1790000000.123:42): … syscall=59 success=yes ppid=7 pid=8 … exe="/bin/sh"
//! type=EXECVE msg=audit(1790000000.123:42): argc=3 a0="sh" a1="-c" a2=69643B206C73
//! type=CWD msg=audit(1790000000.123:42): cwd="/var/www"
//! type=PROCTITLE msg=audit(1790000000.123:42): proctitle=7368002D630069643B206C73
//! ```
//!
//! The number behind the colon tells which lines belong together. A value that is not in quotes is in hexadecimal, and one of
//! more than some 8 KiB is in pieces (`a2_len=… a2[0]=… a2[1]=…`), over several lines if need be. Events that start no process are
//! passed over; the parent of one that does is known if the log has its start as well.

use std::collections::{BTreeMap, HashMap, VecDeque};

use portcullis::field::Field;

use super::record::{Part, Record};
use super::time;

/// Events that are not complete yet. When there are more, the oldest is taken for complete.
const OPEN_EVENTS: usize = 64;

/// Processes whose executable is remembered, for the children that they start. When there are more, all are forgotten.
const REMEMBERED_PROCESSES: usize = 65_536;

/// Numbers of the system calls that start a program: x86-64, arm64 and riscv, i386.
const EXEC_CALLS: [&[u8]; 7] = [b"59", b"322", b"221", b"281", b"11", b"358", b"execve"];

/// Whether a line is one of such a log. Programs that pass lines on put a date or a node before them.
pub(crate) fn is_line(line: &[u8]) -> bool {
    memchr::memmem::find(line, b"type=").is_some_and(|at| {
        let rest = line.get(at..).unwrap_or_default();
        memchr::memmem::find(rest, b" msg=audit(").is_some_and(|at| at < 64)
    })
}

/// One event, as far as it has been read.
#[derive(Debug, Default)]
struct Event {
    id: Vec<u8>,
    /// The first line of it.
    line: u64,
    is_exec: bool,
    arguments: BTreeMap<u32, Vec<u8>>,
    title: Option<Vec<u8>>,
    executable: Option<Vec<u8>>,
    directory: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    node: Option<Vec<u8>>,
    process: Option<u32>,
    parent: Option<u32>,
}

impl Event {
    /// Whether a process started.
    fn is_start(&self) -> bool {
        !self.arguments.is_empty() || self.is_exec && self.title.is_some()
    }

    fn command_line(&self) -> Vec<u8> {
        let arguments: Vec<&[u8]> = self.arguments.values().map(Vec::as_slice).collect();
        match &self.title {
            Some(title) if arguments.is_empty() => title.clone(),
            _ => arguments.join(&b' '),
        }
    }
}

/// Events in the making.
#[derive(Debug, Default)]
pub(crate) struct Events {
    open: VecDeque<Event>,
    complete: VecDeque<Event>,
    executables: HashMap<u32, Vec<u8>>,
}

impl Events {
    /// Reads a line.
    pub(crate) fn add(&mut self, line: &[u8], number: u64) -> Result<(), String> {
        // What `ausearch` puts between events.
        if line.starts_with(b"----") || line.starts_with(b"time->") {
            return Ok(());
        }
        let Some((kind, id, fields)) = parts(line) else {
            return Err("not a line of auditd: it has no `type=` with `msg=audit(`".into());
        };
        let is_last = matches!(kind, b"EOE" | b"PROCTITLE");
        let at = match self.open.iter().rposition(|event| event.id == id) {
            Some(at) => at,
            // The end of one that has been handed out.
            None if is_last && kind == b"EOE" => return Ok(()),
            None => {
                if self.open.len() >= OPEN_EVENTS
                    && let Some(oldest) = self.open.pop_front()
                {
                    self.completed(oldest);
                }
                self.open.push_back(Event {
                    id: id.to_vec(),
                    line: number,
                    node: node(line).map(<[u8]>::to_vec),
                    ..Event::default()
                });
                self.open.len() - 1
            }
        };
        let Some(event) = self.open.get_mut(at) else {
            return Ok(());
        };
        let read = read(kind, fields, event);
        if is_last && let Some(event) = self.open.remove(at) {
            self.completed(event);
        }
        read.map_err(|reason| format!("{}: {reason}", String::from_utf8_lossy(kind)))
    }

    fn completed(&mut self, event: Event) {
        if event.is_start() {
            self.complete.push_back(event);
        }
    }

    /// Takes all that is left for complete. Returns whether there is something.
    pub(crate) fn end(&mut self) -> bool {
        while let Some(event) = self.open.pop_front() {
            self.completed(event);
        }
        !self.complete.is_empty()
    }

    /// The next process that started. Returns the line of its event.
    pub(crate) fn next(&mut self, record: &mut Record) -> Option<u64> {
        let event = self.complete.pop_front()?;
        let parent = event.parent.and_then(|id| self.executables.get(&id));
        let fields = [
            (Field::CommandLine, Some(&event.command_line())),
            (Field::Image, event.executable.as_ref()),
            (Field::ParentImage, parent),
            (Field::CurrentDirectory, event.directory.as_ref()),
            (Field::User, event.user.as_ref()),
        ];
        for (field, value) in fields {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                record.push_process(field, value);
            }
        }
        if let Some(node) = &event.node {
            record.put(Part::Authority, node);
        }
        let seconds = event.id.split(|byte| *byte == b':').next();
        record.time_unix_ns = seconds.and_then(time::parse_iso_or_epoch);
        if let (Some(process), Some(executable)) = (event.process, event.executable) {
            if self.executables.len() >= REMEMBERED_PROCESSES {
                self.executables.clear();
            }
            self.executables.insert(process, executable);
        }
        Some(event.line)
    }
}

/// The kind of a line, the number of its event, and its fields.
fn parts(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let rest = line.get(memchr::memmem::find(line, b"type=")? + 5..)?;
    let (kind, rest) = rest.split_at_checked(memchr::memchr(b' ', rest)?)?;
    let rest = rest.get(memchr::memmem::find(rest, b"msg=audit(")? + 10..)?;
    let (id, rest) = rest.split_at_checked(memchr::memchr(b')', rest)?)?;
    Some((kind, id, rest.strip_prefix(b"):").unwrap_or(rest)))
}

fn node(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"node=")?;
    rest.split(|byte| *byte == b' ').next()
}

/// Reads a line of an event.
fn read(kind: &[u8], fields: &[u8], event: &mut Event) -> Result<(), String> {
    match kind {
        b"EXECVE" => arguments(fields, event),
        b"SYSCALL" => {
            let mut user = None;
            for (name, value) in Fields(fields) {
                let number = || std::str::from_utf8(value).ok()?.parse().ok();
                match name {
                    b"syscall" => event.is_exec = EXEC_CALLS.contains(&value),
                    b"exe" => event.executable = text(value),
                    b"pid" => event.process = number(),
                    b"ppid" => event.parent = number(),
                    b"uid" if value == b"0" => user = Some(b"root".to_vec()),
                    b"uid" => user = Some(value.to_vec()),
                    // The daemon knows the name as well, if it is told to.
                    b"UID" => user = text(value),
                    _ => {}
                }
            }
            event.user = user;
            Ok(())
        }
        b"CWD" => {
            let mut fields = Fields(fields);
            event.directory =
                fields.find_map(|(name, value)| (name == b"cwd").then(|| text(value))?);
            Ok(())
        }
        b"PROCTITLE" => {
            let title = Fields(fields)
                .find_map(|(name, value)| (name == b"proctitle").then(|| text(value))?);
            event.title = title.map(|mut title| {
                for byte in title.iter_mut().filter(|byte| **byte == 0) {
                    *byte = b' ';
                }
                title
            });
            Ok(())
        }
        _ => Ok(()),
    }
}

/// `a0="sh" a1=2D63 a2_len=9000 a2[0]=… a2[1]=…`
fn arguments(fields: &[u8], event: &mut Event) -> Result<(), String> {
    for (name, value) in Fields(fields) {
        let Some(rest) = name.strip_prefix(b"a") else {
            continue;
        };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, piece) = rest.split_at(digits);
        let Some(number) = std::str::from_utf8(number)
            .ok()
            .and_then(|number| number.parse().ok())
        else {
            continue;
        };
        if !piece.is_empty() && !piece.starts_with(b"[") {
            continue;
        }
        let Some(text) = text(value) else {
            return Err(format!(
                "`{}` is neither in quotes nor in hexadecimal",
                String::from_utf8_lossy(name)
            ));
        };
        event
            .arguments
            .entry(number)
            .or_default()
            .extend_from_slice(&text);
    }
    match event.arguments.is_empty() {
        true => Err("it has no arguments".into()),
        false => Ok(()),
    }
}

/// A value: in quotes, or in hexadecimal if it has bytes that could be mistaken for the log's own.
fn text(value: &[u8]) -> Option<Vec<u8>> {
    if let Some(inside) = value.strip_prefix(b"\"") {
        return Some(inside.strip_suffix(b"\"").unwrap_or(inside).to_vec());
    }
    if value == b"(null)" {
        return Some(Vec::new());
    }
    let (pairs, rest) = value.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok())
        .collect()
}

/// `name=value name="value"`, with what the daemon adds behind a separator of its own.
struct Fields<'l>(&'l [u8]);

impl<'l> Iterator for Fields<'l> {
    type Item = (&'l [u8], &'l [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | 0x1d);
        let start = self.0.iter().position(|byte| !is_blank(byte))?;
        let rest = self.0.get(start..)?;
        let (name, value) = rest.split_at_checked(memchr::memchr(b'=', rest)?)?;
        let value = value.get(1..)?;
        let end = match value.strip_prefix(b"\"") {
            Some(inside) => memchr::memchr(b'"', inside).map(|end| end + 2),
            None => value.iter().position(is_blank),
        };
        let (value, rest) = value.split_at(end.unwrap_or(value.len()));
        self.0 = rest;
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(log: &str) -> (Vec<(u64, Record)>, Vec<String>) {
        let mut events = Events::default();
        let (mut records, mut wrong) = (Vec::new(), Vec::new());
        let mut take = |events: &mut Events| {
            let mut record = Record::default();
            while let Some(line) = events.next(&mut record) {
                records.push((line, std::mem::take(&mut record)));
            }
        };
        for (number, line) in (1..).zip(log.lines()) {
            if let Err(reason) = events.add(line.as_bytes(), number) {
                wrong.push(format!("{number}: {reason}"));
            }
            take(&mut events);
        }
        events.end();
        take(&mut events);
        (records, wrong)
    }

    fn field(record: &Record, wanted: Field) -> String {
        let found = record.process().find(|(field, _)| *field == wanted);
        String::from_utf8_lossy(found.map(|(_, value)| value).unwrap_or_default()).into_owned()
    }

    #[test]
    fn events_are_joined_however_their_lines_are_mixed() {
        let log = r#"node=web1 type=SYSCALL msg=audit(1790000000.123:42): arch=c000003e syscall=59 success=yes exit=0 a0=55d0 a1=7ffc ppid=7 pid=8 auid=33 uid=33 comm="sh" exe="/bin/sh" key=(null)ARCH=x86_64 SYSCALL=execve UID="www-data"
type=SYSCALL msg=audit(1790000000.200:43): arch=c000003e syscall=59 ppid=8 pid=9 uid=0 exe=2F746D702F6120622F6E63
node=web1 type=EXECVE msg=audit(1790000000.123:42): argc=3 a0="sh" a1="-c" a2=69643B206C73
type=CONFIG_CHANGE msg=audit(1790000000.150:1): op=add_rule
node=web1 type=CWD msg=audit(1790000000.123:42): cwd="/var/www"
node=web1 type=PATH msg=audit(1790000000.123:42): item=0 name="/bin/sh"
node=web1 type=PROCTITLE msg=audit(1790000000.123:42): proctitle=7368002D630069643B206C73
type=EOE msg=audit(1790000000.123:42):
type=EXECVE msg=audit(1790000000.200:43): argc=2 a0="nc" a1_len=8 a1[0]=2D65
type=EXECVE msg=audit(1790000000.200:43): a1[1]=207368
----
time->Tue Sep 22 10:00:00 2026
type=SYSCALL msg=audit(1790000001.000:44): arch=c000003e syscall=59 ppid=1 pid=10 exe="/bin/ls"
type=PROCTITLE msg=audit(1790000001.000:44): proctitle=6C73002D6C
type=SYSCALL msg=audit(1790000002.000:45): arch=c000003e syscall=2 ppid=1 pid=10 exe="/bin/ls"
type=PROCTITLE msg=audit(1790000002.000:45): proctitle=6C73002D6C
"#;
        let (records, wrong) = read(&log.replace("(null)ARCH", "(null)\u{1d}ARCH"));
        assert_eq!(wrong, [""; 0]);
        let got: Vec<_> = records
            .iter()
            .map(|(line, record)| {
                let of = |wanted| field(record, wanted);
                let fields = [Field::Image, Field::ParentImage, Field::User].map(of);
                (*line, of(Field::CommandLine), fields.join(" "))
            })
            .collect();
        let want = [
            (1, "sh -c id; ls", "/bin/sh  www-data"),
            (13, "ls -l", "/bin/ls  "),
            (2, "nc -e sh", "/tmp/a b/nc /bin/sh root"),
        ];
        let want = want.map(|(line, command, rest)| (line, command.to_owned(), rest.to_owned()));
        assert_eq!(got, want);
        let (_, first) = &records[0];
        assert_eq!(first.authority(), Some(&b"web1"[..]));
        assert_eq!(first.time_unix_ns, Some(1_790_000_000_123_000_000));
        assert_eq!(field(first, Field::CurrentDirectory), "/var/www");
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_line() {
        let log = "type=EXECVE msg=audit(1.0:1): argc=1 a0=6z\nkernel: hello\n\
            type=EXECVE msg=audit(1.0:2): argc=1\ntype=EXECVE msg=audit(1.0:3): a0=\"id\"";
        let (records, wrong) = read(log);
        assert_eq!(records.len(), 1);
        assert_eq!(
            wrong,
            [
                "1: EXECVE: `a0` is neither in quotes nor in hexadecimal",
                "2: not a line of auditd: it has no `type=` with `msg=audit(`",
                "3: EXECVE: it has no arguments"
            ]
        );
    }

    #[test]
    fn memory_is_bounded_and_any_line_is_read() {
        let mut events = Events::default();
        for number in 0..1_000 {
            let line = format!("type=EXECVE msg=audit(1.0:{number}): a0=\"x\"");
            events.add(line.as_bytes(), number).unwrap();
            assert!(events.open.len() <= OPEN_EVENTS);
            events.next(&mut Record::default());
        }
        let line = br#"node=a type=EXECVE msg=audit(1.0:1): a0="sh" a1[0]=41 a2_len=3 =x ="#;
        for end in 0..=line.len() {
            let _ = Events::default().add(&line[..end], 1);
        }
    }
}
