//! Every mistake that a rule can have, and the very text that its author gets to read.
//!
//! `errors/NAME.yml` is a file with mistakes, `errors/NAME.txt` what the compiler says. To accept what it says now:
//! `PORTCULLIS_BLESS=1 cargo test -p portcullis-compiler --test errors`, then read the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_compiler::diagnostic::Diagnostic;
use portcullis_compiler::{Options, link::link, parse_bytes, rule_files};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors")
}

fn diagnostics(path: &Path) -> Vec<Diagnostic> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let parsed = parse_bytes(name, &fs::read(path).unwrap(), &Options::default());
    let mut all = parsed.diagnostics;
    all.extend(link(&parsed.documents));
    all
}

#[test]
fn mistakes_are_shown_as_the_golden_files_say() {
    let bless = std::env::var_os("PORTCULLIS_BLESS").is_some();
    let mut checked = 0;
    let mut different = Vec::new();
    for path in rule_files(&folder()).unwrap() {
        let mut text = String::new();
        for one in diagnostics(&path) {
            writeln!(text, "{one}{}\n", one.one_line()).unwrap();
        }
        assert!(!text.is_empty(), "{} has no mistake", path.display());
        let golden = path.with_extension("txt");
        if bless {
            fs::write(&golden, &text).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != text {
            different.push(format!("{}\n{text}", golden.display()));
        }
        checked += 1;
    }
    assert!(checked >= 18, "{checked} files");
    assert!(
        different.is_empty(),
        "these differ from what the compiler says:\n{}",
        different.join("\n")
    );
}

/// A diagnostic that no file provokes is one that nobody has read.
#[test]
fn every_code_is_provoked_by_some_file() {
    let mut provoked: BTreeSet<&str> = BTreeSet::new();
    for path in rule_files(&folder()).unwrap() {
        provoked.extend(diagnostics(&path).iter().map(|one| one.code));
    }
    let mut sources = Vec::new();
    for folder in ["src", "src/parse"] {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                sources.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    // A code is the first text argument of whatever reports.
    let reports = [
        "report.error(",
        "report.warning(",
        "refuse(",
        "self.say(Severity::Error,",
        "self.say(",
    ];
    let mut codes = BTreeSet::new();
    for source in &sources {
        for report in reports {
            for (at, _) in source.match_indices(report) {
                let argument = source[at + report.len()..].trim_start();
                if let Some(code) = argument
                    .strip_prefix('"')
                    .and_then(|rest| rest.split('"').next())
                {
                    codes.insert(code);
                }
            }
        }
    }
    assert!(
        codes.len() > 60,
        "only {} codes were found in the source",
        codes.len()
    );
    // Provoked by size, which is in `hostile.rs`.
    let by_size = [
        "yaml-too-deep",
        "file-too-large",
        "condition-too-long",
        "condition-too-deep",
    ];
    let missing: Vec<&&str> = codes
        .iter()
        .filter(|code| !provoked.contains(*code) && !by_size.contains(code))
        .collect();
    assert!(missing.is_empty(), "no file provokes {missing:?}");
}
