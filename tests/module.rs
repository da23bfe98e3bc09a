//! What the filter asks of a host and offers to it: every import and export is listed in a golden file, so
//! that a new one is a change that somebody sees. Each exported callback costs every request, and hosts refuse
//! to load a module with imports that they do not know.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::path::Path;

use portcullis_harness::capture::Record;
use portcullis_harness::cli::{EngineArgs, EngineKind};
use portcullis_harness::host::Module;

/// Code takes a second a megabyte to compile when a gateway starts; rules, which are most of the module, are
/// data and cost little, but every worker has a copy.
const MODULE_BYTES: usize = 3 << 20;

/// Holds a module's imports and exports against a golden file. Returns the imports and the module's size.
fn check(file: &Path, golden: &str) -> (Vec<String>, usize) {
    let bytes = std::fs::read(file)
        .unwrap_or_else(|error| panic!("{}: {error} (`make wasm core` builds it)", file.display()));
    let module = Module::compile(&bytes).unwrap();
    let imports: Vec<String> = module.imports().iter().map(ToString::to_string).collect();
    let exports = module.exports().iter().map(|name| format!("export {name}"));
    let mut lines: Vec<String> = imports
        .iter()
        .map(|name| format!("import {name}"))
        .collect();
    lines.extend(exports);
    lines.sort();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(golden);
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        std::fs::write(&golden, lines.join("\n") + "\n").unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap();
    assert_eq!(
        lines,
        expected.lines().collect::<Vec<_>>(),
        "if the change is meant, write the golden file anew with PORTCULLIS_BLESS=1"
    );
    let unknown = module.unknown_imports();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(
        bytes.len() < MODULE_BYTES,
        "the module has grown to {} bytes",
        bytes.len()
    );
    eprintln!("{} imports and exports, {} bytes", lines.len(), bytes.len());
    (imports, bytes.len())
}

#[test]
fn imports_and_exports_are_those_of_the_golden_file() {
    check(&portcullis_tests::wasm(), "module.txt");
}

#[test]
fn the_core_asks_for_nothing_that_a_small_host_lacks_and_detects_all_the_same() {
    let (imports, _) = check(&portcullis_tests::core(), "core.txt");
    for lacking in ["metric", "shared", "queue", "tick", "http_call", "grpc"] {
        assert!(
            !imports.iter().any(|name| name.contains(lacking)),
            "{lacking}: {imports:?}"
        );
    }
    let attack = portcullis_tests::SQL_INJECTION;
    let verdicts = [portcullis_tests::wasm(), portcullis_tests::core()].map(|filter| {
        let mut engine = EngineArgs {
            kind: EngineKind::Wasm,
            filter,
            ..EngineArgs::default()
        }
        .start()
        .unwrap();
        let mut detectors = engine.detectors();
        [attack, "/"].map(|target| {
            let mut alerts = Vec::new();
            let mut record = Record::new(b"GET", target.as_bytes());
            record.set_authority(b"shop.example");
            let verdict = detectors[0].inspect(&record, &mut alerts);
            assert_eq!(verdict.failure, None);
            alerts
                .iter()
                .map(|alert| alert.alert_type().to_owned())
                .collect::<Vec<_>>()
        })
    });
    assert_eq!(verdicts[0], verdicts[1]);
    assert_eq!(
        verdicts[1],
        [vec!["Gateway_SqlInjection".to_owned()], Vec::new()]
    );
}
