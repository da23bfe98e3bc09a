//! Undoing what an attacker wrapped a text in, so that rules are written against plain text.
//!
//! Takes in raw bytes of one field. Gives out its plainer *views*, appended to a buffer of the
//! caller's, and the [`Signs`] met on the way: encodings that are suspicious in themselves.
//!
//! ```text
//! raw        /a%252f..%252f..%c0%afetc//passwd;x=1
//! decoded    /a/../../etc//passwd;x=1            (percent, twice; overlong UTF-8)
//! resolved   /etc/passwd                         (as a server would look it up)
//! ```
//!
//! Every step is linear in its input, total on any bytes, and never makes its output longer than
//! its input. Nothing here runs for a field that has nothing to undo: [`classes`] tells that in
//! one pass.

mod classes;
pub mod escapes;
pub mod nested;
pub mod path;
pub mod percent;

pub use classes::*;

/// Encodings met while decoding that honest clients do not produce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs(u8);

impl Signs {
    /// Percent-encoding inside percent-encoding.
    pub const DOUBLE_PERCENT: Signs = Signs(1);
    /// UTF-8 that spends more bytes on a character than it needs.
    pub const OVERLONG_UTF8: Signs = Signs(2);
    /// A NUL byte.
    pub const NUL: Signs = Signs(4);
    /// Full-width forms of ASCII characters.
    pub const FULL_WIDTH: Signs = Signs(8);
    /// `%uXXXX`, which no standard knows.
    pub const PERCENT_U: Signs = Signs(16);
    /// A carriage return or line feed, percent-encoded.
    pub const LINE_BREAK: Signs = Signs(32);

    /// All signs with the names under which rules ask for them (field `cs-uri-encoding`).
    pub const NAMES: [(Signs, &'static str); 6] = [
        (Signs::DOUBLE_PERCENT, "double-percent"),
        (Signs::OVERLONG_UTF8, "overlong-utf8"),
        (Signs::NUL, "nul-byte"),
        (Signs::FULL_WIDTH, "full-width"),
        (Signs::PERCENT_U, "percent-u"),
        (Signs::LINE_BREAK, "line-break"),
    ];

    /// Adds the signs of `other`.
    pub fn add(&mut self, other: Signs) {
        self.0 |= other.0;
    }

    /// Whether all signs of `other` are here.
    pub const fn has(self, other: Signs) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing was met.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
