//! Events of Windows in XML, as `wevtutil`, the event viewer and readers of `.evtx` files write them, on one line or on many.
//!
//! ```text
//! <Event xmlns="…"><System>…<EventID>1</EventID>…<Computer>web1</Computer></System>
//!   <EventData><Data Name="Image">C:\…\cmd.exe</Data><Data Name="CommandLine">cmd /c whoami</Data></EventData></Event>
//! ```
//!
//! An event becomes the JSON object that other tools make of it, and is read as that.

use std::io;

use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::{Map, Value};

use super::input::{Input, Line};

const END: &[u8] = b"</Event>";

/// Whether a line may be the first one of such a file.
pub(crate) fn is_start(text: &[u8]) -> bool {
    let text = text.get(..4096).unwrap_or(text);
    let starts = |start: &[u8]| memchr::memmem::find(text, start).is_some();
    text.starts_with(b"<") && (starts(b"<Event ") || starts(b"<Event>"))
}

/// The text behind the last event that was cut off.
#[derive(Debug, Default)]
pub(crate) struct Events {
    rest: Vec<u8>,
    /// The line that the rest begins on.
    line: u64,
}

/// What was cut off.
pub(crate) enum Cut {
    Event { line: u64, xml: Vec<u8> },
    Bad { line: u64, reason: &'static str },
    End,
}

impl Events {
    /// Cuts off the next event.
    pub(crate) fn next(&mut self, input: &mut Input, limit: usize) -> io::Result<Cut> {
        // Where the end has been looked for in vain.
        let mut from = 0;
        loop {
            let unread = self.rest.get(from..).unwrap_or_default();
            if let Some(at) = memchr::memmem::find(unread, END) {
                let end = from + at + END.len();
                let rest = self.rest.split_off(end);
                let xml = std::mem::replace(&mut self.rest, rest);
                let line = self.line + lines_before_event(&xml);
                self.line += memchr::memchr_iter(b'\n', &xml).count() as u64;
                return Ok(Cut::Event { line, xml });
            }
            from = self.rest.len().saturating_sub(END.len());
            if self.rest.trim_ascii().is_empty() {
                self.rest.clear();
                from = 0;
                self.line = input.line;
            }
            match input.line(limit)? {
                None => {
                    let rest = std::mem::take(&mut self.rest);
                    return Ok(match start_of_event(&rest) {
                        Some(_) => Cut::Bad {
                            line: self.line + lines_before_event(&rest),
                            reason: "the event ends early",
                        },
                        None => Cut::End,
                    });
                }
                Some(Line::Whole(line)) if self.rest.len() + line.len() <= limit => {
                    self.rest.extend_from_slice(line);
                    self.rest.push(b'\n');
                }
                _ => {
                    self.rest.clear();
                    return Ok(Cut::Bad {
                        line: self.line,
                        reason: "an event over the limit of 16 MiB",
                    });
                }
            }
        }
    }
}

fn start_of_event(xml: &[u8]) -> Option<usize> {
    let starts = [&b"<Event "[..], b"<Event>"];
    let places = starts.iter().map(|start| memchr::memmem::find(xml, start));
    places.flatten().min()
}

fn lines_before_event(xml: &[u8]) -> u64 {
    let before = xml.get(..start_of_event(xml).unwrap_or(0));
    memchr::memchr_iter(b'\n', before.unwrap_or_default()).count() as u64
}

/// The event as a JSON object.
pub(crate) fn parse(xml: &[u8]) -> Result<Map<String, Value>, String> {
    // What stands before it: a declaration, the root of a list, what a tool says of its own.
    let start = start_of_event(xml).ok_or("not an event: it has no `<Event>`")?;
    let xml = String::from_utf8_lossy(xml.get(start..).unwrap_or_default());
    let mut reader = Reader::from_str(&xml);
    let (mut system, mut data) = (Map::new(), Map::new());
    // The name under which the next text is kept.
    let mut name = String::new();
    let mut is_data = false;
    let mut text = String::new();
    loop {
        let event = reader
            .read_event()
            .map_err(|error| format!("not XML: {error}"))?;
        match event {
            Event::Start(tag) | Event::Empty(tag) => {
                text.clear();
                let tag_name = tag.local_name().as_ref().to_owned();
                is_data = tag_name == "Data";
                let attribute = |wanted: &str| {
                    let found = tag.try_get_attribute(wanted).ok()??;
                    let value = quick_xml::escape::unescape(&found.value).ok()?;
                    Some(value.into_owned())
                };
                if let Some(time) = attribute("SystemTime") {
                    system.insert("SystemTime".into(), time.into());
                }
                name = match is_data {
                    true => attribute("Name").unwrap_or_default(),
                    false => tag_name,
                };
            }
            Event::Text(piece) => text.push_str(&piece),
            Event::CData(piece) => text.push_str(&piece),
            Event::GeneralRef(entity) => {
                let entity = format!("&{};", &*entity);
                let plain = quick_xml::escape::unescape(&entity);
                text.push_str(&plain.map_or_else(|_| entity.clone(), |plain| plain.into_owned()));
            }
            Event::End(_) => {
                let fields = if is_data { &mut data } else { &mut system };
                if !name.is_empty() && !text.is_empty() {
                    fields.insert(std::mem::take(&mut name), std::mem::take(&mut text).into());
                }
                is_data = false;
            }
            Event::Eof => break,
            _ => {}
        }
    }
    let event: Map<String, Value> = [("System", system), ("EventData", data)]
        .into_iter()
        .map(|(name, fields)| (name.to_owned(), fields.into()))
        .collect();
    Ok([("Event".to_owned(), event.into())].into_iter().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use portcullis::field::Field;

    use crate::{Format, Reader};

    const LIST: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<Events>
<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'>
  <System><Provider Name='Microsoft-Windows-Sysmon'/><EventID>1</EventID>
    <TimeCreated SystemTime='2026-11-22T10:00:00.5Z'/><Computer>web1</Computer></System>
  <EventData>
    <Data Name='Image'>C:\Windows\System32\cmd.exe</Data>
    <Data Name="CommandLine">cmd /c "echo a&amp;&amp;echo &lt;b&gt; &#39;c&#x27;"</Data>
    <Data Name="User"></Data>
    <Data Name="ParentImage">C:\inetpub\w3wp.exe</Data>
  </EventData>
</Event>
<Event xmlns="x"><System><EventID>3</EventID></System><EventData><Data Name="Image">a</Data></EventData></Event><Event><System><EventID Qualifiers="0">4688</EventID></System><EventData><Data Name="NewProcessName">C:\a.exe</Data><Data Name="CommandLine">a b</Data></EventData></Event>
</Events>
<Event><System>"#;

    #[test]
    fn events_are_cut_and_read_on_one_line_and_on_many() {
        let mut reader = Reader::new("x", Cursor::new(LIST.to_owned()), None).unwrap();
        assert_eq!(reader.format(), Some(Format::Windows));
        let mut got = Vec::new();
        for record in &mut reader {
            got.push(match record {
                Ok(record) => {
                    let field = |wanted| {
                        let found = record.process().find(|(field, _)| *field == wanted);
                        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
                    };
                    let command = field(Field::CommandLine).unwrap();
                    let parent = field(Field::ParentImage).unwrap_or_default();
                    format!(
                        "{} {command} {parent} {}",
                        record.origin.line,
                        record.time_unix_ns.is_some()
                    )
                }
                Err(malformed) => malformed.to_string(),
            });
        }
        assert_eq!(
            got,
            [
                r#"3 cmd /c "echo a&&echo <b> 'c'" C:\inetpub\w3wp.exe true"#,
                "x:13: not the start of a process: event 3",
                "13 a b  false",
                "x:15: the event ends early",
            ]
        );
    }
}
