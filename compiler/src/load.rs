//! Rule files from a disk. Not in wasm32, where there is none.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::ast::Document;
use crate::diagnostic::Severity;
use crate::limits;
use crate::link::link;
use crate::parse::{Options, Parsed, parse_bytes};

/// Folders in folders, and no deeper.
const DEPTH: usize = 32;

/// The folders whose rules nobody gets who does not name them: those of the first cost every request, those of the
/// second need a filter that sees responses.
const NAMED_ONLY: [&str; 2] = ["optional", "response"];

/// Every `.yml` and `.yaml` file of a folder and the folders in it, in alphabetical order; a file is itself.
/// Links to folders are not followed, and folders named `optional` or `response` are left out unless they are the root.
pub fn rule_files(root: &Path) -> io::Result<Vec<PathBuf>> {
    files_below(root, |name| !NAMED_ONLY.contains(&name))
}

/// The same of a checkout of somebody else's: every folder whose name does not begin with a dot.
pub fn public_rule_files(root: &Path) -> io::Result<Vec<PathBuf>> {
    files_below(root, |name| !name.starts_with('.'))
}

fn files_below(root: &Path, enters: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    if !root.is_dir() {
        // A file that is not there must be an error, not an empty list.
        fs::metadata(root)?;
        return Ok(vec![root.to_owned()]);
    }
    let mut files = Vec::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let is_rule = path
                .extension()
                .is_some_and(|end| end == "yml" || end == "yaml");
            if path.is_dir() {
                let name = path.file_name().map(|name| name.to_string_lossy());
                if depth < DEPTH && !path.is_symlink() && name.is_some_and(|name| enters(&name)) {
                    folders.push((path, depth + 1));
                }
            } else if is_rule {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Reads one file. What is wrong *in* it is in the result; an error means that it could not be read.
pub fn load_file(path: &Path, options: &Options) -> io::Result<Parsed> {
    let mut bytes = Vec::new();
    // One byte more than is allowed, so that a longer file is refused and not cut.
    File::open(path)?
        .take(limits::FILE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(parse_bytes(path.display().to_string(), &bytes, options))
}

/// All documents of a folder or file, checked against each other. All or nothing: the error holds every mistake
/// of every file, as it is to be shown.
pub fn load_dir(root: &Path) -> Result<Vec<Document>, String> {
    load_dirs(&[root])
}

/// All documents of several folders or files, as [`load_dir`].
pub fn load_dirs(roots: &[&Path]) -> Result<Vec<Document>, String> {
    let unreadable =
        |path: &Path, error: io::Error| format!("{} cannot be read: {error}", path.display());
    let mut documents = Vec::new();
    let mut errors = Vec::new();
    let mut files = Vec::new();
    for root in roots {
        files.extend(rule_files(root).map_err(|error| unreadable(root, error))?);
    }
    for path in files {
        match load_file(&path, &Options::default()) {
            Ok(parsed) => {
                errors.extend(parsed.errors().map(|error| error.to_string()));
                documents.extend(parsed.documents);
            }
            Err(error) => errors.push(unreadable(&path, error)),
        }
    }
    let linked = link(&documents);
    errors.extend(
        linked
            .iter()
            .filter(|one| one.severity == Severity::Error)
            .map(|error| error.to_string()),
    );
    if errors.is_empty() {
        Ok(documents)
    } else {
        Err(errors.join("\n"))
    }
}
