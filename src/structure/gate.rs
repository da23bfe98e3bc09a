//! When a detector is worth running on a request at all.

use super::Structure;
use crate::normalise::{
    AMPERSAND, ANGLE, BACKSLASH, BRACKET, CONTROL, Classes, HIGH, MARK, PAREN, PIPE, PLUS, QUOTE,
    SEMICOLON, SPACE,
};

/// What a request must hold in a lane for a detector to find anything there.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// A byte of one of these classes,
    pub classes: Classes,
    /// or one of these texts of four bytes or more, whatever its case.
    pub words: &'static [&'static str],
}

impl Structure {
    /// When the detector is worth running on a request at all: rules that ask for it become
    /// candidates only then. A value that it would find something in opens the gate of the request
    /// that it stands in (`tests/prefilter.rs` holds every detector to that).
    pub const fn gate(self) -> Gate {
        match self {
            Structure::Sqli => Gate {
                classes: QUOTE
                    | PAREN
                    | ANGLE
                    | PIPE
                    | AMPERSAND
                    | SEMICOLON
                    | MARK
                    | SPACE
                    | PLUS
                    | BACKSLASH
                    | CONTROL
                    | HIGH,
                words: &[],
            },
            Structure::Xss => Gate {
                classes: ANGLE | PAREN | QUOTE | BRACKET | AMPERSAND | BACKSLASH,
                words: &[
                    "script:",
                    "data:",
                    "document.",
                    "window.",
                    "location",
                    "=alert",
                ],
            },
            Structure::Command => super::shell::GATE,
            Structure::Traversal => super::path::GATE,
            Structure::Ssrf => super::url::GATE,
            Structure::Code => super::code::GATE,
            Structure::Spam => super::host::GATE,
        }
    }
}
