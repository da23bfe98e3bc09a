//! Captures of every format, sound and not: what is read, and that nothing is lost silently.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use portcullis_capture::{Format, Label, MAX_LINE_BYTES, Malformed, OpenError, Reader, Record};

const CAPTURES: [(&str, Format, usize, usize); 5] = [
    ("access.log", Format::Combined, 5, 0),
    ("envoy.ndjson", Format::Envoy, 3, 0),
    ("browser.har", Format::Har, 2, 1),
    ("requests.http", Format::Http, 5, 1),
    ("labelled.ndjson", Format::Ndjson, 3, 0),
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/captures")
        .join(name)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn read(bytes: &[u8], format: Option<Format>) -> (Vec<Record>, Vec<Malformed>) {
    let reader = Reader::new("test", Cursor::new(bytes.to_vec()), format).unwrap();
    let (mut records, mut malformed) = (Vec::new(), Vec::new());
    for item in reader {
        match item {
            Ok(record) => records.push(record),
            Err(error) => malformed.push(error),
        }
    }
    (records, malformed)
}

/// All that a record says, to compare two readings by.
fn describe(record: &Record) -> String {
    let headers: Vec<_> = record
        .headers()
        .map(|(n, v)| format!("{}: {}", n.escape_ascii(), v.escape_ascii()))
        .collect();
    let option = |bytes: Option<&[u8]>| bytes.map(|b| b.escape_ascii().to_string());
    format!(
        "{} {} {} {:?} {:?} {headers:?} {:?} {:?} {:?} {:?} {}",
        record.origin.line,
        record.method().escape_ascii(),
        record.target().escape_ascii(),
        option(record.authority()),
        option(record.scheme()),
        option(record.source_address()),
        record.time_unix_ns,
        record.status,
        option(record.body()),
        record.body_incomplete,
    )
}

#[test]
fn every_format_is_told_from_its_content_and_read_alike_plain_gzipd_and_with_a_mark() {
    for (name, format, records, malformed) in CAPTURES {
        let plain = std::fs::read(path(name)).unwrap();
        let reader = Reader::open(&path(name), None).unwrap();
        assert_eq!(reader.format(), Some(format), "{name}");
        assert_eq!(reader.total_bytes(), Some(plain.len() as u64), "{name}");
        let (expected, bad) = read(&plain, None);
        assert_eq!(
            (expected.len(), bad.len()),
            (records, malformed),
            "{name}: {bad:?}"
        );
        let expected: Vec<_> = expected.iter().map(describe).collect();

        let (first, second) = plain.split_at(plain.len() / 2);
        let members = [gzip(first), gzip(second)].concat();
        for bytes in [gzip(&plain), members, plain.with_mark()] {
            let (got, bad) = read(&bytes, None);
            assert_eq!(
                got.iter().map(describe).collect::<Vec<_>>(),
                expected,
                "{name}"
            );
            assert_eq!(bad.len(), malformed, "{name}");
        }
    }
}

trait WithMark {
    fn with_mark(&self) -> Vec<u8>;
}

impl WithMark for [u8] {
    /// A byte order mark in front, as some tools on Windows write it.
    fn with_mark(&self) -> Vec<u8> {
        [b"\xef\xbb\xbf", self].concat()
    }
}

#[test]
fn what_the_captures_hold_is_read_to_the_byte() {
    let (log, _) = read(&std::fs::read(path("access.log")).unwrap(), None);
    assert_eq!(
        log[1].target(),
        b"/item?id=1%27%20UNION%20SELECT%20password%20FROM%20users--"
    );
    assert_eq!(log[1].header(b"user-agent"), Some(&b"sqlmap/1.8"[..]));
    assert_eq!(log[1].name(), "test:2");
    assert_eq!(log[2].authority(), Some(&b"shop.example:443"[..]));
    assert_eq!(log[2].source_ip(), Some("2001:db8::7".parse().unwrap()));
    assert_eq!(
        log[2].header(b"user-agent"),
        Some(&b"agent with \"quotes\" and \xff"[..])
    );
    assert_eq!(log[3].method(), b"\x16\x03\x01\x02");
    assert_eq!(log[4].method(), b"");
    // The same second, told in two time zones.
    assert_eq!(
        log[0].time_unix_ns.unwrap() - log[1].time_unix_ns.unwrap(),
        3_599_000_000_000
    );

    let (envoy, _) = read(&std::fs::read(path("envoy.ndjson")).unwrap(), None);
    assert_eq!(envoy[0].time_unix_ns.unwrap() % 1_000_000_000, 123_000_000);
    assert_eq!(envoy[0].source_address(), Some(&b"192.0.2.10"[..]));
    assert_eq!(envoy[1].source_ip(), Some([192, 0, 2, 66].into()));
    assert_eq!(envoy[1].name(), "5f0c1f5e-0002");
    assert_eq!(envoy[2].target(), b"/\xff\xfe?q=\"");

    let (har, bad) = read(&std::fs::read(path("browser.har")).unwrap(), None);
    assert_eq!(
        (har[0].target(), har[0].authority()),
        (&b"/shop/shoes?size=42"[..], Some(&b"shop.example"[..]))
    );
    assert_eq!(
        har[1].body(),
        Some(&b"q=%3Cscript%3Ealert(1)%3C/script%3E"[..])
    );
    assert_eq!((har[1].origin.line, bad[0].origin.line), (16, 15));

    let (http, bad) = read(&std::fs::read(path("requests.http")).unwrap(), None);
    assert_eq!(http[0].header(b"x-folded"), Some(&b"one two"[..]));
    assert_eq!(
        (http[1].body(), http[1].header(b"host")),
        (Some(&b"user=a&b=c\n"[..]), Some(&b"other.example"[..]))
    );
    assert_eq!(http[2].body(), Some(&b"wikipedia"[..]));
    assert_eq!(http[3].target(), b"/a b\xff");
    assert_eq!(
        (http[4].target(), http[4].authority()),
        (&b"/last"[..], Some(&b"shop.example"[..]))
    );
    assert!(bad[0].reason.contains("not a request line"), "{}", bad[0]);

    let (rows, _) = read(&std::fs::read(path("labelled.ndjson")).unwrap(), None);
    let labels: Vec<_> = rows.iter().map(|row| row.label.unwrap()).collect();
    assert_eq!(labels, [Label::Benign, Label::Malicious, Label::Unverified]);
    assert_eq!(
        (rows[1].name(), rows[1].body()),
        ("row-2".to_owned(), Some(&b"\xff"[..]))
    );
}

/// Line breaks inside a record, records in another format, broken bytes: each is one counted
/// skip, and what stands around it is read.
#[test]
fn a_bad_record_costs_itself_alone() {
    let good = r#"192.0.2.1 - - [22/Nov/2026:10:00:00 +0000] "GET /good HTTP/1.1" 200 5 "-" "ua""#;
    let envoy = r#"{"method":"GET","path":"/good","response_code":200}"#;
    let row = r#"{"id":"a","label":"benign","method":"GET","path":"/good","headers":[]}"#;
    let http = "GET /good HTTP/1.1\r\nHost: h\r\n\r\n";
    type Case = (&'static str, String, usize, &'static [(u64, &'static str)]);
    let cases: &[Case] = &[
        (
            "a CRLF inside a log line",
            format!(
                "{good}\n192.0.2.1 - - [22/Nov/2026:10:00:00 +0000] \"GET /a\r\nb HTTP/1.1\" 200 5 \"-\" \"ua\"\n{good}\n"
            ),
            2,
            &[(2, "not closed"), (3, "not a combined log line")],
        ),
        (
            "lines in other formats",
            format!("{good}\n{envoy}\nNov 22 10:00:00 host sshd[1]: hello\n{http}{good}\n"),
            2,
            &[
                (2, "not a combined"),
                (3, "not a combined"),
                (4, "not a combined"),
                (5, "not a combined"),
            ],
        ),
        (
            "other lines among JSON",
            format!("{envoy}\n{good}\n{{\"method\n\n{envoy}\n"),
            2,
            &[(2, "not a JSON object"), (3, "ends early")],
        ),
        (
            "other lines among rows",
            format!("{row}\n{good}\n{row}"),
            2,
            &[(2, "expected a JSON object")],
        ),
        (
            "a head that is none among requests",
            format!("{http}GET / HTTP/1.1\r\nno colon\r\nX: y\r\n\r\n{http}"),
            2,
            &[(4, "a header line without a colon")],
        ),
        (
            "a stray line first",
            format!("# exported by hand\n{good}\n"),
            1,
            &[(1, "not a combined")],
        ),
    ];
    for (case, text, records, expected) in cases {
        let (got, bad) = read(text.as_bytes(), None);
        assert_eq!(got.len(), *records, "{case}");
        assert!(
            got.iter().all(|record| record.target() == b"/good"),
            "{case}"
        );
        let bad: Vec<_> = bad
            .iter()
            .map(|m| (m.origin.line, m.reason.as_ref()))
            .collect();
        assert_eq!(bad.len(), expected.len(), "{case}: {bad:?}");
        for ((line, reason), (expected_line, expected_reason)) in bad.iter().zip(*expected) {
            assert_eq!(line, expected_line, "{case}: {reason}");
            assert!(reason.contains(expected_reason), "{case}: {reason}");
        }
    }
}

#[test]
fn a_truncated_gzip_gives_what_is_there_and_says_that_more_is_missing() {
    let line =
        "192.0.2.1 - - [22/Nov/2026:10:00:00 +0000] \"GET /n HTTP/1.1\" 200 5 \"-\" \"ua\"\n";
    let text: String = (0..20_000)
        .map(|n| line.replace("/n", &format!("/{}", n * 7919 % 10_007)))
        .collect();
    let whole = gzip(text.as_bytes());
    let (got, bad) = read(&whole[..whole.len() / 2], None);
    assert!((1_000..20_000).contains(&got.len()), "{}", got.len());
    assert_eq!(bad.len(), 1);
    assert!(bad[0].reason.contains("ends early"), "{}", bad[0]);
    assert_eq!(bad[0].origin.line, got.len() as u64 + 1);

    // Cut in the header of the file there is nothing, and that is an error, not an empty capture.
    match Reader::new("test", Cursor::new(whole[..5].to_vec()), None) {
        Err(OpenError::Io { error, .. }) => {
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof)
        }
        other => panic!("{:?}", other.map(|reader| reader.format())),
    }
    let mut damaged = whole.clone();
    damaged.truncate(whole.len() - 4);
    damaged.extend(b"junk");
    let (got, bad) = read(&damaged, None);
    assert_eq!((got.len(), bad.len()), (20_000, 1));
    assert!(bad[0].reason.contains("damaged"), "{}", bad[0]);
}

#[test]
fn an_empty_capture_has_no_records_and_no_complaints() {
    let cases: &[&[u8]] = &[
        b"",
        b"\n\r\n  \n",
        br#"{"log":{"version":"1.2","entries":[]}}"#,
    ];
    for bytes in cases {
        for bytes in [bytes.to_vec(), gzip(bytes)] {
            let (got, bad) = read(&bytes, None);
            assert!(
                got.is_empty() && bad.is_empty(),
                "{}: {bad:?}",
                bytes.escape_ascii()
            );
        }
    }
    let (got, bad) = read(br#"{"log":{"version":"1.2"}}"#, None);
    assert!(
        got.is_empty() && bad.len() == 1 && bad[0].reason.contains("no `log.entries`"),
        "{bad:?}"
    );
}

#[test]
fn a_file_in_no_known_format_is_refused_unless_a_format_is_given() {
    let cases: &[&[u8]] = &[
        b"hello\n",
        b"\x00\xff\xfe\n",
        b"<xml/>",
        b"[1,2]",
        br#"{"level":"info"}"#,
        b"\x89PNG\r\n\x1a\n",
    ];
    for bytes in cases {
        assert!(
            matches!(
                Reader::new("test", Cursor::new(bytes.to_vec()), None),
                Err(OpenError::UnknownFormat { .. })
            ),
            "{}",
            bytes.escape_ascii()
        );
        for (_, format, ..) in CAPTURES {
            let (got, bad) = read(bytes, Some(format));
            assert!(
                got.is_empty() && !bad.is_empty(),
                "{} as {format:?}",
                bytes.escape_ascii()
            );
        }
    }
}

#[test]
fn a_path_of_one_mebibyte_and_bytes_that_are_no_utf8_survive_every_format() {
    let path = [b"/".as_slice(), &b"a\xff".repeat(1 << 19)].concat();
    let with = |before: &str, after: &str| [before.as_bytes(), &path, after.as_bytes()].concat();
    let har = with(
        r#"{"log":{"entries":[{"request":{"method":"GET","url":"http://h"#,
        r#""}}]}}"#,
    );
    let captures = [
        (
            Format::Combined,
            with(
                "192.0.2.1 - - [22/Nov/2026:10:00:00 +0000] \"GET ",
                " HTTP/1.1\" 200 5\n",
            ),
        ),
        (Format::Envoy, with(r#"{"method":"GET","path":""#, "\"}\n")),
        (Format::Har, har),
        (Format::Http, with("GET ", " HTTP/1.1\r\nHost: h\r\n\r\n")),
        (
            Format::Ndjson,
            with(
                r#"{"label":"benign","method":"GET","path":""#,
                "\",\"headers\":[]}\n",
            ),
        ),
    ];
    for (format, bytes) in captures {
        let reader = Reader::new("test", Cursor::new(bytes.clone()), None).unwrap();
        assert_eq!(reader.format(), Some(format));
        let (got, bad) = read(&bytes, None);
        assert_eq!((got.len(), bad.len()), (1, 0), "{format:?}: {bad:?}");
        assert!(got[0].target() == path, "{format:?}");
    }
}

#[test]
fn a_record_over_the_limit_is_a_counted_skip() {
    let good = "192.0.2.1 - - [22/Nov/2026:10:00:00 +0000] \"GET /good HTTP/1.1\" 200 5\n";
    let long = "x".repeat(MAX_LINE_BYTES + 1);
    let (got, bad) = read(format!("{good}{long}\n{good}").as_bytes(), None);
    assert_eq!((got.len(), bad.len()), (2, 1));
    assert!(
        bad[0].reason.contains("over the limit") && bad[0].origin.line == 2,
        "{}",
        bad[0]
    );
    assert_eq!(got[1].origin.line, 3);

    let head = format!("GET /good HTTP/1.1\r\nX: {long}\r\n\r\nGET /good HTTP/1.1\r\n\r\n");
    let body = format!(
        "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{long}\nGET /good HTTP/1.1\r\n\r\n",
        long.len()
    );
    for text in [head, body] {
        let (got, bad) = read(text.as_bytes(), None);
        assert_eq!((got.len(), bad.len()), (1, 1), "{bad:?}");
        assert!(bad[0].reason.contains("over the limit"), "{}", bad[0]);
    }
}

#[test]
fn a_body_shorter_than_announced_is_marked() {
    let cases: &[(&str, &[u8])] = &[
        ("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", b"abc"),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
            b"abc",
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
            b"abc",
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            b"",
        ),
    ];
    for (text, body) in cases {
        let (got, bad) = read(text.as_bytes(), None);
        assert_eq!((got.len(), bad.len()), (1, 0), "{text}");
        assert_eq!(
            (got[0].body(), got[0].body_incomplete),
            (Some(*body), true),
            "{text}"
        );
        // What comes after the broken body is read all the same.
        let (got, _) = read(
            format!("{text}\r\nGET /next HTTP/1.1\r\n\r\n").as_bytes(),
            None,
        );
        let incomplete = text.contains("chunked");
        assert_eq!(
            got.last().unwrap().target() == b"/next",
            incomplete,
            "{text}"
        );
    }
}

/// Every prefix, and every byte changed: the readers end, and do not panic.
#[test]
fn damage_anywhere_is_survived() {
    let mut runs = 0;
    for (name, format, ..) in CAPTURES {
        let whole = std::fs::read(path(name)).unwrap();
        for at in 0..whole.len() {
            read(&whole[..at], Some(format));
            // Each byte is replaced once, in turn by one of those that mean something.
            let byte = *[0, b'"', b'{', b'\n', b'\\', 0xff].get(at % 6).unwrap();
            let mut damaged = whole.clone();
            damaged[at] = byte;
            let (got, bad) = read(&damaged, Some(format));
            assert!(got.len() + bad.len() > 0, "{name}: byte {at} as {byte}");
            runs += 1;
        }
    }
    assert!(runs > 3_000, "{runs}");
}

/// A capture that is never held whole: reading it takes the memory of one record.
#[test]
fn a_stream_without_end_is_read_as_it_comes() {
    struct Endless(usize);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let line = b"192.0.2.1 - - [22/Nov/2026:10:00:00 +0000] \"GET /good HTTP/1.1\" 200 5\n";
            for byte in buffer.iter_mut() {
                *byte = line[self.0 % line.len()];
                self.0 += 1;
            }
            Ok(buffer.len())
        }
    }
    let reader = Reader::new("test", Endless(0), None).unwrap();
    assert_eq!(reader.take(100_000).filter(Result::is_ok).count(), 100_000);
}

/// The labelled corpora, where they are.
#[test]
fn the_corpora_are_read_without_a_malformed_row() {
    let Some(corpora) = std::env::var_os("PORTCULLIS_CORPORA") else {
        eprintln!("skipped: PORTCULLIS_CORPORA names no folder of labelled captures");
        return;
    };
    let mut records = 0;
    for entry in std::fs::read_dir(corpora).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".ndjson.gz") || name.starts_with("proc-") {
            continue;
        }
        let reader = Reader::open(&path, None).unwrap();
        assert_eq!(reader.format(), Some(Format::Ndjson), "{name}");
        for record in reader {
            let record = record.unwrap();
            assert!(
                record.label.is_some() && record.class().is_some() && !record.method().is_empty(),
                "{}",
                record.origin
            );
            records += 1;
        }
    }
    assert!(records > 1_000, "{records}");
}
