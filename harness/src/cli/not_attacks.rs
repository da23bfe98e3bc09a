//! Labelled rows that a reader does not take for attacks, as `portcullis eval --not-attacks FILE` reads them.
//!
//! One row a line, CSV: the row's id, or its request line as `METHOD host/target` in printable characters, and the reason. A
//! text with a comma stands in double quotes, in which `""` is one. Empty lines and lines that begin with `#` are left out.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The rows of a file, and which of them were met.
#[derive(Debug, Default)]
pub struct NotAttacks {
    rows: HashMap<String, bool>,
}

impl NotAttacks {
    /// Reads a file. A line without a reason, or one that comes twice, is an error.
    pub fn read(path: &Path) -> Result<NotAttacks> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        NotAttacks::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<NotAttacks> {
        let mut rows = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (row, rest) = field(line);
            let reason = rest.map(|rest| field(rest).0).unwrap_or_default();
            if row.is_empty() || reason.trim().is_empty() {
                bail!(
                    "line {number}: write a row's id, a comma and the reason why it is no attack"
                );
            }
            if rows.insert(row.clone(), false).is_some() {
                bail!("line {number}: `{row}` is listed above");
            }
        }
        Ok(NotAttacks { rows })
    }

    /// Whether a row is listed, under its id or its request line. Notes that it was met.
    pub fn has(&mut self, id: &str, request_line: &str) -> bool {
        let mut is_listed = false;
        for name in [id, request_line] {
            if let Some(met) = self.rows.get_mut(name) {
                *met = true;
                is_listed = true;
            }
        }
        is_listed
    }

    /// Those that were never met, in order.
    pub fn unmet(&self) -> Vec<String> {
        let rows = self.rows.iter().filter(|(_, met)| !**met);
        let mut unmet: Vec<String> = rows.map(|(row, _)| row.clone()).collect();
        unmet.sort_by_key(|row| (row.len(), row.clone()));
        unmet
    }
}

/// The first field of a line of CSV, and what stands behind its comma.
fn field(line: &str) -> (String, Option<&str>) {
    let Some(mut quoted) = line.strip_prefix('"') else {
        return match line.split_once(',') {
            Some((field, rest)) => (field.trim().to_owned(), Some(rest.trim_start())),
            None => (line.trim().to_owned(), None),
        };
    };
    let mut field = String::new();
    while let Some((part, rest)) = quoted.split_once('"') {
        field.push_str(part);
        match rest.strip_prefix('"') {
            Some(rest) => {
                field.push('"');
                quoted = rest;
            }
            None => {
                return (
                    field,
                    rest.trim_start().strip_prefix(',').map(str::trim_start),
                );
            }
        }
    }
    field.push_str(quoted);
    (field, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_named_by_id_or_by_request_line() {
        let text = "# remarks\n\na-1,a placeholder\n\"GET a.example/?q=1,\"\"2\"\"\", \"a list, of numbers\"\nb-2,x\n";
        let mut rows = NotAttacks::parse(text).unwrap_or_default();
        assert!(rows.has("a-1", "GET a.example/"));
        assert!(rows.has("c-9", "GET a.example/?q=1,\"2\""));
        assert!(!rows.has("c-9", "GET a.example/"));
        assert_eq!(rows.unmet(), ["b-2"]);
    }

    #[test]
    fn a_row_without_a_reason_is_an_error() {
        for (text, want) in [
            ("a-1", "line 1"),
            ("a-1,x\na-2,", "line 2"),
            (",x", "line 1"),
            ("a-1,x\na-1,y", "`a-1` is listed above"),
        ] {
            let error = NotAttacks::parse(text).err().map(|error| error.to_string());
            assert!(error.is_some_and(|error| error.contains(want)), "{text}");
        }
    }
}
