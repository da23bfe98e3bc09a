//! Makes one HTML file of the playground: `portcullis-pack MODULE.wasm PAGE-DIRECTORY OUTPUT.html`.
//!
//! ```text
//!  module.wasm ──► wasm-bindgen ──┬─► glue ──┐
//!                                 └─► wasm ──┼─► gzip, Base64 ──► index.html, whose {{names}} they take the places of
//!  page/*.js, *.css ─────────────────────────┘
//! ```
//!
//! The scripts and the style are named in the page's Content-Security-Policy by their hashes, so nothing else runs in it.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use wasm_bindgen_cli_support::Bindgen;

/// The page's scripts, joined into one module in this order.
const SCRIPTS: [&str; 5] = [
    "dom.js",
    "editor.js",
    "result.js",
    "table.js",
    "page.js",
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [module, page, output] = arguments.as_slice() else {
        bail!("usage: portcullis-pack MODULE.wasm PAGE-DIRECTORY OUTPUT.html");
    };
    let page = Path::new(page);
    let output = Path::new(output);
    let html = pack(Path::new(module), page)?;
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(output, &html).with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}: {} bytes", output.display(), html.len());
    Ok(())
}

fn pack(module: &Path, page: &Path) -> Result<String> {
    let mut bound = Bindgen::new()
        .input_path(module)
        .no_modules(true)?
        .typescript(false)
        .generate_output()
        .context("wasm-bindgen")?;
    let glue = bound.js().to_owned();
    let wasm = bound.wasm_mut().emit_wasm();

    let read = |name: &str| {
        let path = page.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let examples = read("examples.js")?;
    let mut script = format!("\"use strict\";\n{examples}");
    for name in SCRIPTS {
        script.push_str(&read(name)?);
    }
    let worker = format!("\"use strict\";\n{glue}\n{}", read("worker.js")?);
    let style = read("style.css")?;
    for (what, text) in [("scripts", &script), ("worker", &worker), ("style", &style)] {
        let lower = text.to_ascii_lowercase();
        ensure!(
            !["</script", "</style", "<!--"].iter().any(|end| lower.contains(end)),
            "the {what} would end the element that they stand in"
        );
    }

    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&wasm)?;
    let engine = STANDARD.encode(packed.finish()?);
    // A worker made of a blob has its page's policy; nothing may connect, load, frame or be submitted.
    let policy = [
        "default-src 'none'",
        &format!("script-src '{}' 'wasm-unsafe-eval'", hash(&script)),
        &format!("style-src '{}'", hash(&style)),
        "worker-src blob:",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types portcullis-worker",
    ]
    .join("; ");

    let mut html = String::new();
    let template = read("index.html")?;
    let mut rest = template.as_str();
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").context("index.html: `{{` without `}}`")?;
        html.push_str(before);
        html.push_str(match name {
            "policy" => &policy,
            "style" => &style,
            "script" => &script,
            "worker" => &worker,
            "engine" => &engine,
            other => bail!("index.html: there is no `{other}`"),
        });
        rest = after;
    }
    html.push_str(rest);
    Ok(html)
}

/// A hash as a Content-Security-Policy names a script.
fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text.as_bytes())))
}
