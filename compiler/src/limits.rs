//! Every cap of the front end, with its unit. Past one of them the file, or the document, is refused with a diagnostic
//! that names the cap. Rules come from people, but also from public collections and from a web page, so a file
//! of any content must be answered in bounded time and memory.

/// Bytes of one rule file.
pub const FILE_BYTES: usize = 4 << 20;
/// Nodes of one file's YAML tree, an alias counting as all that it stands for, and long text as one more for each
/// 32 bytes. Also caps, each for itself, what modifiers turn values into and what patterns in conditions stand for.
pub const YAML_NODES: usize = 1 << 20;
/// Levels of nesting in YAML.
pub const YAML_DEPTH: usize = 64;
/// Levels of nesting in a condition's parentheses and `not`s.
pub const CONDITION_DEPTH: usize = 64;
/// Bytes of one condition.
pub const CONDITION_BYTES: usize = 16 << 10;
/// Alternatives that one written value may turn into (`windash`, `expand`).
pub const ALTERNATIVES: usize = 1024;
/// Bytes of one value of a rule.
pub const VALUE_BYTES: usize = 16 << 10;
/// Diagnostics of one file; what comes after is not looked at.
pub const DIAGNOSTICS: usize = 100;
/// Levels of nesting in a regex.
pub const REGEX_DEPTH: u32 = 64;
/// Requests of one case that is a sequence.
pub const CASE_REQUESTS: u32 = 10_000;
