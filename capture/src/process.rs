//! Processes that started, as host sensors write them: a JSON object a line.
//!
//! Known are Sysmon and the Windows security log (`CommandLine`, `Image` or `NewProcessName`, at the top or
//! in `EventData`; in XML see [`super::windows`]), ECS (`process.command_line`), auditd as laurel writes it (`EXECVE.ARGV` with `SYSCALL.exe`),
//! and with `a0`, `a1`, … too, Falco (`output_fields` with `proc.cmdline`) and Tetragon (`process_exec`). No
//! format has to be named: the keys that one of them has, no other has with another meaning.

use portcullis::field::Field;
use serde_json::{Map, Value};

use super::ndjson::reason;
use super::record::{Part, Record};
use super::time;

/// Where a field is looked for, in this order. A step takes one key of an object.
type Paths = &'static [&'static [&'static str]];

/// Objects in which Windows events keep their fields.
const WINDOWS: [&[&str]; 5] = [
    &[],
    &["Event", "EventData"],
    &["EventData"],
    &["event_data"],
    &["winlog", "event_data"],
];

/// Fields by their names in Windows events.
const WINDOWS_FIELDS: [(Field, &[&str]); 14] = [
    (
        Field::CommandLine,
        &["CommandLine", "ProcessCommandLine", "commandLine"],
    ),
    (Field::Image, &["Image", "NewProcessName", "image"]),
    (
        Field::ParentImage,
        &["ParentImage", "ParentProcessName", "parentImage"],
    ),
    (
        Field::ParentCommandLine,
        &["ParentCommandLine", "parentCommandLine"],
    ),
    (
        Field::OriginalFileName,
        &["OriginalFileName", "originalFileName"],
    ),
    (Field::Description, &["Description"]),
    (Field::Product, &["Product"]),
    (Field::Company, &["Company"]),
    (
        Field::CurrentDirectory,
        &["CurrentDirectory", "currentDirectory"],
    ),
    (Field::User, &["User", "SubjectUserName"]),
    (Field::ParentUser, &["ParentUser"]),
    (Field::IntegrityLevel, &["IntegrityLevel"]),
    (Field::Hashes, &["Hashes"]),
    (Field::FileVersion, &["FileVersion"]),
];

/// Fields by their places in what other sensors write.
const FIELDS: [(Field, Paths); 6] = [
    (
        Field::CommandLine,
        &[
            &["process", "command_line"],
            &["process.command_line"],
            &["output_fields", "proc.cmdline"],
            &["EXECVE", "ARGV_STR"],
            &["PROCTITLE", "ARGV_STR"],
        ],
    ),
    (
        Field::Image,
        &[
            &["process", "executable"],
            &["process.executable"],
            &["output_fields", "proc.exepath"],
            &["output_fields", "proc.exe"],
            &["process_exec", "process", "binary"],
            &["SYSCALL", "exe"],
            &["exe"],
        ],
    ),
    (
        Field::ParentImage,
        &[
            &["process", "parent", "executable"],
            &["process.parent.executable"],
            &["output_fields", "proc.pexepath"],
            &["output_fields", "proc.pname"],
            &["process_exec", "parent", "binary"],
            &["PARENT_INFO", "exe"],
            &["PARENT_INFO", "comm"],
            &["SYSCALL", "PPID", "EXE"],
            &["SYSCALL", "PPID", "exe"],
        ],
    ),
    (
        Field::ParentCommandLine,
        &[
            &["process", "parent", "command_line"],
            &["process.parent.command_line"],
            &["output_fields", "proc.pcmdline"],
        ],
    ),
    (
        Field::CurrentDirectory,
        &[
            &["process", "working_directory"],
            &["process.working_directory"],
            &["output_fields", "proc.cwd"],
            &["process_exec", "process", "cwd"],
            &["CWD", "cwd"],
        ],
    ),
    (
        Field::User,
        &[
            &["user", "name"],
            &["user.name"],
            &["output_fields", "user.name"],
            &["SYSCALL", "UID"],
        ],
    ),
];

/// Whether an object with this key at its top is a sensor's.
pub(crate) fn is_key(key: &[u8]) -> bool {
    const KEYS: [&[u8]; 21] = [
        b"CommandLine",
        b"ProcessCommandLine",
        b"Image",
        b"NewProcessName",
        b"EventData",
        b"Event",
        b"event_data",
        b"winlog",
        b"process",
        b"process_exec",
        b"process_exit",
        b"output_fields",
        b"EXECVE",
        b"SYSCALL",
        b"PROCTITLE",
        b"a0",
        b"_source",
        b"EventID",
        b"process.command_line",
        b"process.executable",
        b"process.args",
    ];
    KEYS.contains(&key)
}

pub(crate) fn parse(line: &[u8], record: &mut Record) -> Result<(), String> {
    // What is not UTF-8 in a command line must not hide it.
    let line = String::from_utf8_lossy(line);
    let mut event: Map<String, Value> =
        serde_json::from_str(&line).map_err(|error| reason(&error))?;
    // What Elasticsearch hands out has the event within.
    if let Some(Value::Object(source)) = event.remove("_source") {
        event = source;
    }
    read(&event, record)
}

/// The number of an event of Windows, if it has one.
fn event_number(event: &Map<String, Value>) -> Option<String> {
    let places: Paths = &[
        &["EventID"],
        &["Event", "System", "EventID"],
        &["System", "EventID"],
        &["winlog", "event_id"],
        &["event_id"],
    ];
    places.iter().find_map(|path| {
        let (last, path) = path.split_last()?;
        // With an attribute beside it, the number is in an object.
        let mut number = object(event, path)?.get(*last)?;
        if let Value::Object(fields) = number {
            number = fields.get("#text").or_else(|| fields.get("Value"))?;
        }
        match number {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    })
}

/// Reads an event into a record.
pub(crate) fn read(event: &Map<String, Value>, record: &mut Record) -> Result<(), String> {
    // Others have an `Image` as well: who connected, who wrote a file.
    if let Some(number) = event_number(event).filter(|number| !["1", "4688"].contains(&&**number)) {
        return Err(format!("not the start of a process: event {number}"));
    }
    let mut command_line = false;
    for (field, names) in WINDOWS_FIELDS {
        let objects = WINDOWS.iter().filter_map(|path| object(event, path));
        let value = objects
            .flat_map(|object| names.iter().filter_map(|name| object.get(*name)))
            .find_map(text);
        let value = value.or_else(|| {
            let paths = FIELDS.iter().find(|(other, _)| *other == field)?.1;
            paths.iter().find_map(|path| at(event, path))
        });
        let value = match (value, field) {
            (None, Field::CommandLine) => arguments(event),
            (None, Field::ParentCommandLine) => tetragon(event, "parent"),
            (value, _) => value.map(str::to_owned),
        };
        if let Some(value) = value {
            command_line |= matches!(field, Field::CommandLine | Field::Image);
            record.push_process(field, value.as_bytes());
        }
    }
    if !command_line {
        return Err(
            "not the start of a process: it has neither a command line nor an image".into(),
        );
    }
    let time_at: Paths = &[
        &["time"],
        &["@timestamp"],
        &["UtcTime"],
        &["Event", "EventData", "UtcTime"],
        &["EventData", "UtcTime"],
        &["Event", "System", "SystemTime"],
        &["process_exec", "process", "start_time"],
    ];
    record.time_unix_ns = time_at
        .iter()
        .filter_map(|path| at(event, path))
        .find_map(|time| time::parse_iso_or_epoch(time.as_bytes()));
    let host: Paths = &[
        &["Computer"],
        &["Event", "System", "Computer"],
        &["host", "name"],
        &["hostname"],
        &["node_name"],
        &["NODE"],
    ];
    if let Some(host) = host.iter().find_map(|path| at(event, path)) {
        record.put(Part::Authority, host.as_bytes());
    }
    Ok(())
}

/// The command line of sensors that keep arguments apart.
fn arguments(event: &Map<String, Value>) -> Option<String> {
    if let Some(line) = tetragon(event, "process") {
        return Some(line);
    }
    // ECS, from sensors that see no line.
    let arguments = object(event, &["process"]).and_then(|process| process.get("args"));
    if let Some(Value::Array(list)) = arguments.or_else(|| event.get("process.args")) {
        let list: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
        return (!list.is_empty()).then(|| list.join(" "));
    }
    let execve = object(event, &["EXECVE"]).unwrap_or(event);
    if let Some(Value::Array(list)) = execve.get("ARGV") {
        let list: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
        return (!list.is_empty()).then(|| list.join(" "));
    }
    let list: Vec<&str> = (0..)
        .map_while(|number| execve.get(&format!("a{number}"))?.as_str())
        .collect();
    // The arguments of a system call (`SYSCALL`) have the same names, and are addresses.
    (!list.is_empty() && !event.contains_key("syscall")).then(|| list.join(" "))
}

/// Binary and arguments of Tetragon's `process` or `parent`.
fn tetragon(event: &Map<String, Value>, which: &str) -> Option<String> {
    let process = object(event, &["process_exec", which])?;
    let binary = process.get("binary").and_then(text)?;
    Some(match process.get("arguments").and_then(text) {
        Some(arguments) => format!("{binary} {arguments}"),
        None => binary.to_owned(),
    })
}

fn object<'v>(event: &'v Map<String, Value>, path: &[&str]) -> Option<&'v Map<String, Value>> {
    path.iter()
        .try_fold(event, |object, key| object.get(*key)?.as_object())
}

fn at<'v>(event: &'v Map<String, Value>, path: &[&str]) -> Option<&'v str> {
    let (last, path) = path.split_last()?;
    object(event, path)?.get(*last).and_then(text)
}

fn text(value: &Value) -> Option<&str> {
    value
        .as_str()
        .filter(|text| !text.is_empty() && *text != "-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sensors_are_read() {
        const CASES: [(&str, &str, &str, &str); 13] = [
            // Sysmon, as Winlogbeat, NXLog, evtx_dump and others write it.
            (
                r#"{"EventID":1,"Image":"C:\\Windows\\System32\\cmd.exe","CommandLine":"cmd /c id","ParentImage":"C:\\w3wp.exe"}"#,
                "cmd /c id",
                r"C:\Windows\System32\cmd.exe",
                r"C:\w3wp.exe",
            ),
            (
                r#"{"winlog":{"event_data":{"Image":"C:\\a.exe","CommandLine":"a b","ParentImage":"C:\\p.exe"}}}"#,
                "a b",
                r"C:\a.exe",
                r"C:\p.exe",
            ),
            (
                r#"{"Event":{"System":{"Computer":"h"},"EventData":{"NewProcessName":"C:\\a.exe","CommandLine":"a b","ParentProcessName":"C:\\p.exe"}}}"#,
                "a b",
                r"C:\a.exe",
                r"C:\p.exe",
            ),
            (
                r#"{"process":{"command_line":"ls -l","executable":"/bin/ls","parent":{"executable":"/bin/sh"}}}"#,
                "ls -l",
                "/bin/ls",
                "/bin/sh",
            ),
            (
                r##"{"Event":{"System":{"EventID":{"#text":4688}},"EventData":{"NewProcessName":"C:\\a.exe","CommandLine":"a b"}}}"##,
                "a b",
                r"C:\a.exe",
                "",
            ),
            // ECS without a line, flat, and as Elasticsearch hands it out.
            (
                r#"{"process":{"args":["ls","-l"],"executable":"/bin/ls"}}"#,
                "ls -l",
                "/bin/ls",
                "",
            ),
            (
                r#"{"process.command_line":"ls -l","process.executable":"/bin/ls","process.parent.executable":"/bin/sh"}"#,
                "ls -l",
                "/bin/ls",
                "/bin/sh",
            ),
            (
                r#"{"_index":"a","_source":{"process":{"command_line":"ls -l"}}}"#,
                "ls -l",
                "",
                "",
            ),
            // laurel, with the arguments in a list and in a text, and auditd's own names.
            (
                r#"{"ID":"1:2","SYSCALL":{"exe":"/usr/bin/bash","a0":"0x1"},"EXECVE":{"argc":3,"ARGV":["sh","-c","id; ls"]},"PARENT_INFO":{"exe":"/usr/sbin/apache2"}}"#,
                "sh -c id; ls",
                "/usr/bin/bash",
                "/usr/sbin/apache2",
            ),
            (
                r#"{"SYSCALL":{"exe":"/usr/bin/bash"},"EXECVE":{"ARGV_STR":"sh -c id"},"PARENT_INFO":{"comm":"php"}}"#,
                "sh -c id",
                "/usr/bin/bash",
                "php",
            ),
            (
                r#"{"type":"EXECVE","argc":"3","a0":"sh","a1":"-c","a2":"id"}"#,
                "sh -c id",
                "",
                "",
            ),
            (
                r#"{"rule":"r","time":"2026-11-22T10:00:00.5Z","output_fields":{"proc.cmdline":"nc -e","proc.exepath":"/bin/nc","proc.pname":"httpd"}}"#,
                "nc -e",
                "/bin/nc",
                "httpd",
            ),
            (
                r#"{"process_exec":{"process":{"binary":"/bin/nc","arguments":"-e sh","cwd":"/"},"parent":{"binary":"/bin/sh","arguments":"-c x"}},"time":"2026-11-22T10:00:00Z"}"#,
                "/bin/nc -e sh",
                "/bin/nc",
                "/bin/sh",
            ),
        ];
        for (line, command_line, image, parent) in CASES {
            assert_eq!(
                super::super::detect_json(line.as_bytes()),
                Some(super::super::Format::Process),
                "{line}"
            );
            let mut record = Record::default();
            parse(line.as_bytes(), &mut record).unwrap();
            let field = |wanted| {
                let found = record.process().find(|(field, _)| *field == wanted);
                String::from_utf8_lossy(found.map(|(_, value)| value).unwrap_or_default())
            };
            assert_eq!(field(Field::CommandLine), command_line, "{line}");
            assert_eq!(field(Field::Image), image, "{line}");
            assert_eq!(field(Field::ParentImage), parent, "{line}");
            assert!(record.is_process());
            assert_eq!(
                record.time_unix_ns.is_some(),
                line.contains("\"time\""),
                "{line}"
            );
        }
    }

    #[test]
    fn other_events_are_refused_with_a_reason() {
        for (line, want) in [
            (
                r#"{"EventID":3,"DestinationIp":"1.2.3.4"}"#,
                "not the start",
            ),
            (
                r#"{"EventID":11,"Image":"C:\\a.exe","TargetFilename":"b"}"#,
                "event 11",
            ),
            (
                r#"{"process_exit":{"process":{"binary":"/bin/nc"}}}"#,
                "not the start",
            ),
            (
                r#"{"type":"SYSCALL","syscall":59,"a0":"55d0","a1":"7ffc"}"#,
                "not the start",
            ),
            ("[1]", "invalid type"),
            ("{", "EOF"),
        ] {
            let got = parse(line.as_bytes(), &mut Record::default()).unwrap_err();
            assert!(got.contains(want), "{line}: {got}");
        }
        let mut record = Record::default();
        parse(b"{\"CommandLine\":\"a \xff b\"}", &mut record).unwrap();
    }
}
