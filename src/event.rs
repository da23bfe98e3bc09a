//! Events as rules see them: a list of texts, each with the field that it is a text of.
//!
//! One field has several texts: every query parameter has its value, and each text has up to four
//! views (as it came, decoded, resolved, unescaped). A rule's question is answered yes if it is yes
//! for any text of the field it asks about.

use crate::field::Field;
use crate::ruleset::layout::numbered;

numbered! {
    /// What kind of event a rule is written for (Sigma's `logsource.category`).
    Source {
        /// A request: `webserver` and `proxy`.
        Request = 0,
        /// A process that started: `process_creation`.
        Process = 1,
        /// Several events together: a correlation. See [`crate::correlate`].
        Correlation = 2,
    }
}

numbered! {
    /// How much was undone to arrive at a text.
    View {
        /// Nothing: as it came.
        Raw = 0,
        /// Percent-encoding and UTF-8 tricks.
        Decoded = 1,
        /// Dot segments, path parameters and backslashes of a path as well.
        Resolved = 2,
        /// HTML entities, script escapes, NULs, Base64 and the strings of JSON as well.
        Unescaped = 3,
    }
}

impl View {
    /// The name, as explanations and alerts spell it.
    pub const fn name(self) -> &'static str {
        match self {
            View::Raw => "raw",
            View::Decoded => "decoded",
            View::Resolved => "resolved",
            View::Unescaped => "unescaped",
        }
    }
}

/// One text of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    /// The field it is a text of.
    pub field: Field,
    /// How much was undone.
    pub view: View,
    /// Name of the parameter, cookie or header; empty for fields that have none.
    pub name: &'a [u8],
    /// The text.
    pub bytes: &'a [u8],
    /// Whether it is a part of the field (one value of a Referer's query) rather than the whole.
    /// Parts are what structural detectors look at; comparisons look at wholes.
    pub part: bool,
    /// Whether a plainer view or parts of the same text follow, so that structural detectors can
    /// leave this one out.
    pub superseded: bool,
}

impl<'a> Text<'a> {
    /// A whole text as it came.
    pub fn raw(field: Field, bytes: &'a [u8]) -> Text<'a> {
        Text {
            field,
            view: View::Raw,
            name: &[],
            bytes,
            part: false,
            superseded: false,
        }
    }
}
