//! Compiles the rules that ship, so that the page starts with them, and puts their text beside them, so that it can show
//! and change them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use portcullis_compiler::{backend, load_dir, rule_files};

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=../rules");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    // From the project's root, so that the ruleset names its files alike wherever it was built.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let written = std::env::set_current_dir(root)
        .map_err(|error| error.to_string())
        .and_then(|()| write(Path::new("rules"), &out));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write(rules: &Path, out: &Path) -> Result<(), String> {
    let documents = load_dir(rules)?;
    let compiled = backend::compile(&documents)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<String>())?;
    // The page compiles the shipped rules anew beside the user's; this spares it what takes longest.
    let unwritable = |error: std::io::Error| error.to_string();
    std::fs::write(out.join("rules.bin"), compiled.bytes).map_err(unwritable)?;
    std::fs::write(out.join("expressions.bin"), backend::learned()).map_err(unwritable)?;
    let mut sources = String::from("&[\n");
    for path in rule_files(rules).map_err(unwritable)? {
        let text = std::fs::read_to_string(&path).map_err(unwritable)?;
        let _ = writeln!(sources, "({:?}, {text:?}),", path.display().to_string());
    }
    sources.push_str("]\n");
    std::fs::write(out.join("sources.rs"), sources).map_err(unwritable)
}
