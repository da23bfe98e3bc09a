//! The Sigma compiler of Portcullis: rule files in, one blob that the engine opens out.
//!
//! ```text
//!  rule file ──► yaml ──► parse ──► ast ──► link ──► backend ──► bytes
//!    (source)               │          (all documents together)
//!                           ├─ expand ── values     modifiers, wildcards, encodings
//!                           └─ taxonomy             names of fields
//! ```
//!
//! | you want to change | go to |
//! |---|---|
//! | what a rule can say | [`ast`] |
//! | which names a field has | [`taxonomy`] |
//! | what a modifier does | [`expand`], and the texts it makes in [`values`] |
//! | what documents may refer to | [`link`] |
//! | what rules become | [`backend`] |
//! | how a mistake is shown | [`diagnostic`] |
//! | how large a rule file may be | [`limits`] |
//!
//! Every mistake in a rule is named with file, line, column and what to write instead, and all mistakes of a file
//! come out of one run:
//!
//! ```
//! use portcullis_compiler::{Options, parse};
//!
//! let rule = "
//! title: Probe for a backup
//! logsource: {category: webserver}
//! detection:
//!   selection:
//!     cs-uri-stem|endwith: .bak
//!   condition: selection
//! ";
//! let parsed = parse("backup.yml", rule, &Options::default());
//! let error = parsed.errors().next().unwrap();
//! assert_eq!(
//!     error.one_line(),
//!     "backup.yml:6:17: error[unknown-modifier]: `endwith` is not a modifier; did you mean `endswith`?",
//! );
//! ```
//!
//! The crate also builds for wasm32, where files come from a page instead of a directory.

#![forbid(unsafe_code)]

pub mod ast;
pub mod backend;
pub mod diagnostic;
pub mod expand;
pub mod limits;
pub mod link;
#[cfg(not(target_family = "wasm"))]
mod load;
mod nearest;
mod parse;
pub mod source;
pub mod synthetic;
pub mod taxonomy;
pub mod values;
pub mod yaml;

#[cfg(not(target_family = "wasm"))]
pub use load::{load_dir, load_dirs, load_file, public_rule_files, rule_files};
pub use parse::{Kinds, Options, Parsed, Refused, parse, parse_bytes};
