//! Compiles the rules that ship with the filter and packs them into the module.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use portcullis_compiler::backend;

fn main() -> ExitCode {
    let rules = Path::new("rules");
    println!("cargo::rerun-if-changed=../../rules");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("rules.bin");
    // From the project's root, so that the ruleset names its files alike wherever it was built.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let compiled = std::env::set_current_dir(root)
        .map_err(|error| error.to_string())
        .and_then(|()| compiled(rules));
    match compiled.and_then(|bytes| std::fs::write(&out, bytes).map_err(|error| error.to_string()))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn compiled(rules: &Path) -> Result<Vec<u8>, String> {
    let response = rules.join("response");
    let roots = match std::env::var_os("CARGO_FEATURE_RESPONSE") {
        Some(_) => vec![rules, &*response],
        None => vec![rules],
    };
    let documents = portcullis_compiler::load_dirs(&roots)?;
    match backend::compile(&documents) {
        Ok(compiled) => backend::pack(&compiled.bytes),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}
