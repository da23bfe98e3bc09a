//! The table of fields in `docs/RULES.md` is written from the taxonomy and may not differ from it.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;
use std::path::Path;

use portcullis_compiler::taxonomy::{Category, PIECES, Sources, TABLE, UNANSWERED};

const BEGIN: &str = "--test docs -->\n";
const END: &str = "<!-- /fields -->";

fn table() -> String {
    let mut out = String::from("| field | is read in | and goes by these names |\n|---|---|---|\n");
    let mut rows: Vec<(String, &str, Vec<&str>)> = Vec::new();
    for entry in TABLE {
        let source = match entry.sources.has(Category::ProcessCreation) {
            true => "`process_creation`",
            false => "`webserver`, `proxy`",
        };
        let field = entry
            .header
            .map_or(entry.field.name().to_owned(), |header| {
                format!("cs({header})")
            });
        match rows
            .iter_mut()
            .find(|(known, place, _)| *known == field && *place == source)
        {
            Some((_, _, names)) => names.push(entry.name),
            None => rows.push((field, source, vec![entry.name])),
        }
    }
    for (field, source, names) in rows {
        let others: Vec<String> = names
            .iter()
            .filter(|name| **name != field)
            .map(|name| format!("`{name}`"))
            .collect();
        let _ = writeln!(out, "| `{field}` | {source} | {} |", others.join(", "));
    }
    let _ = writeln!(
        out,
        "\nRead out of another field, and compared as a whole:\n\n| name | is asked as |\n|---|---|"
    );
    for piece in PIECES {
        let how = if piece.is_end { "endswith" } else { "contains" };
        let _ = writeln!(
            out,
            "| `{}` | `{}|{how}: {}…` |",
            piece.name,
            piece.field.name(),
            piece.before
        );
    }
    let _ = writeln!(
        out,
        "\nRefused by name, since nobody here can answer them:\n\n| names | why |\n|---|---|"
    );
    for (sources, names, why) in UNANSWERED {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let place = match sources {
            Sources::Web => "webserver, proxy",
            Sources::Process => "process_creation",
        };
        let _ = writeln!(out, "| {} ({place}) | {why} |", names.join(", "));
    }
    out
}

#[test]
fn the_fields_in_the_documentation_are_those_of_the_taxonomy() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/RULES.md");
    let text = std::fs::read_to_string(&path).expect("the page is there");
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("the page has a place for the table");
    let (written, after) = rest.split_once(END).expect("the place has an end");
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        let whole = format!("{before}{BEGIN}{}{END}{after}", table());
        std::fs::write(&path, whole).expect("the page can be written");
        return;
    }
    assert!(
        written == table(),
        "write the table anew: PORTCULLIS_BLESS=1 cargo test -p portcullis-compiler --test docs"
    );
}
