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

use portcullis_harness::host::Module;

/// Code takes a second a megabyte to compile when a gateway starts; rules, which are most of the module, are
/// data and cost little, but every worker has a copy.
const MODULE_BYTES: usize = 3 << 20;

#[test]
fn imports_and_exports_are_those_of_the_golden_file() {
    let bytes = std::fs::read(portcullis_tests::wasm()).expect("`make wasm` builds the filter");
    let module = Module::compile(&bytes).unwrap();
    let mut lines: Vec<String> = Vec::new();
    lines.extend(module.imports().iter().map(|name| format!("import {name}")));
    lines.extend(module.exports().iter().map(|name| format!("export {name}")));
    lines.sort();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/module.txt");
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        std::fs::write(&golden, lines.join("\n") + "\n").unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap();
    assert_eq!(
        lines,
        expected.lines().collect::<Vec<_>>(),
        "if the change is meant, write the golden file anew with PORTCULLIS_BLESS=1"
    );
    assert!(
        module.unknown_imports().is_empty(),
        "{:?}",
        module.unknown_imports()
    );
    assert!(
        bytes.len() < MODULE_BYTES,
        "the module has grown to {} bytes",
        bytes.len()
    );
    eprintln!("{} imports and exports, {} bytes", lines.len(), bytes.len());
}
