//! What a rule file says, with everything resolved that one file alone can resolve.
//!
//! The parser puts in: names of selections turned into indices, field names turned into fields of the
//! [taxonomy](crate::taxonomy), modifiers applied, so that the back end sees plain [`Match`]es and never a
//! modifier. What needs other files stays as it was written: the rules that a correlation or a filter refers
//! to, and the fields that a correlation groups by.
//!
//! ```text
//! selection:                         Node::All
//!   cs-uri-query|contains|all:    ├─ Test { field: cs-uri-query, all: true,
//!     - union                     │         values: [[Contains "union"], [Contains "select"]] }
//!     - select                    │
//!   cs-method: [GET, HEAD]        └─ Test { field: cs-method, all: false,
//!                                            values: [[Equals "GET"], [Equals "HEAD"]] }
//! condition: selection               Condition::Selection(0)
//! ```

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use portcullis::field::Field;

use crate::source::{Source, Span, Spanned};
use crate::taxonomy::{Category, FieldPath};

/// One Sigma document.
#[derive(Clone, Debug)]
pub enum Document {
    /// A detection rule.
    Rule(Box<Rule>),
    /// A correlation of the matches of rules.
    Correlation(Box<Correlation>),
    /// A filter that narrows other rules without editing them.
    Filter(Box<Filter>),
}

impl Document {
    /// What all three kinds of document have.
    pub fn head(&self) -> &Head {
        match self {
            Document::Rule(rule) => &rule.head,
            Document::Correlation(correlation) => &correlation.head,
            Document::Filter(filter) => &filter.head,
        }
    }
}

/// The metadata that every document may carry.
#[derive(Clone, Debug)]
pub struct Head {
    /// The file that the document and all its spans are from.
    pub source: Arc<Source>,
    /// The whole document.
    pub span: Span,
    /// `title`.
    pub title: Spanned<String>,
    /// `id`: a UUID in lower case.
    pub id: Option<Spanned<String>>,
    /// `name`, by which correlations and filters may refer to the rule.
    pub name: Option<Spanned<String>>,
    /// `status`.
    pub status: Option<Status>,
    /// `level`.
    pub level: Option<Level>,
    /// `description`.
    pub description: Option<String>,
    /// `author`.
    pub author: Option<String>,
    /// `date`, as YYYY-MM-DD.
    pub date: Option<String>,
    /// `modified`, as YYYY-MM-DD.
    pub modified: Option<String>,
    /// `references`.
    pub references: Vec<String>,
    /// `tags`, such as `attack.t1190`.
    pub tags: Vec<Spanned<String>>,
    /// `falsepositives`.
    pub falsepositives: Vec<String>,
    /// `related`.
    pub related: Vec<Related>,
    /// `fields`.
    pub fields: Vec<String>,
    /// What is ours: the key `portcullis`.
    pub custom: Custom,
}

/// `status` of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Status {
    Unsupported,
    Deprecated,
    Experimental,
    Test,
    Stable,
}

/// `level` of a rule, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Level {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

/// One entry of `related`.
#[derive(Clone, Debug)]
pub struct Related {
    /// The other rule's id.
    pub id: Spanned<String>,
    /// `derived`, `obsolete`, `merged`, `renamed` or `similar`.
    pub kind: Spanned<String>,
}

/// A detection rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Title, id, level and the like.
    pub head: Head,
    /// Which events the rule is about.
    pub logsource: Logsource,
    /// What the rule looks for.
    pub detection: Detection,
}

/// `logsource`.
#[derive(Clone, Debug)]
pub struct Logsource {
    /// The whole mapping.
    pub span: Span,
    /// The event source that the fields of the rule belong to.
    pub category: Category,
    /// `product`.
    pub product: Option<Spanned<String>>,
    /// `service`.
    pub service: Option<Spanned<String>>,
}

/// Named selections and how they combine.
#[derive(Clone, Debug)]
pub struct Detection {
    /// The selections, in the order of the file.
    pub selections: Vec<Selection>,
    /// How they combine; a list of conditions has become an [`Condition::Any`].
    pub condition: Condition,
}

/// One named selection.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Its name.
    pub name: Spanned<String>,
    /// What it looks for.
    pub node: Node,
}

/// The body of a selection.
#[derive(Clone, Debug)]
pub enum Node {
    /// A mapping: every one of them. Never empty.
    All(Vec<Node>),
    /// A list: at least one of them. Never empty.
    Any(Vec<Node>),
    /// One line of a mapping, or keywords.
    Test(Test),
}

/// `field|modifiers: values`, with the modifiers applied.
#[derive(Clone, Debug)]
pub struct Test {
    /// Key and values.
    pub span: Span,
    /// The field; `None` for keywords, which are looked for anywhere in the event.
    pub field: Option<Spanned<FieldPath>>,
    /// With `all`: every value must match. Without: one is enough.
    pub all: bool,
    /// With `neq`: the test holds if the values do not match. It also holds if the field is absent.
    pub negated: bool,
    /// With `raw`, a modifier of ours: only the text as it came counts, not what decoding made of it.
    pub raw: bool,
    /// One entry a value. Each is a list of alternatives, one of which is enough: `windash`, `base64offset`
    /// and placeholders turn one written value into several. Never empty, nor is any entry.
    pub values: Vec<Vec<Match>>,
}

/// One thing to look for in a field's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// The value as it was written.
    pub span: Span,
    /// What must hold.
    pub op: Op,
    /// With `cased`: letter case matters. Only the text operations look at it ([`Op::Equals`] to
    /// [`Op::Wildcard`], and [`Op::Field`]); a regex carries its own flags.
    pub cased: bool,
}

/// What must hold for a value. Bytes are UTF-8 as written, or what `base64` and `utf16` made of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The whole value is this. Empty: the field is there and its value is empty.
    Equals(Vec<u8>),
    /// The value holds this. Not empty.
    Contains(Vec<u8>),
    /// The value begins with this. Not empty.
    StartsWith(Vec<u8>),
    /// The value ends with this. Not empty.
    EndsWith(Vec<u8>),
    /// The whole value is these parts in this order; anything that the four above can say has become one of
    /// them, so this one is rare.
    Wildcard(Vec<Part>),
    /// The value matches this regex somewhere. The pattern has been parsed once and is sound.
    Regex {
        /// The pattern as `regex-syntax` reads it, without flags in front.
        pattern: String,
        /// The flags.
        flags: RegexFlags,
    },
    /// The value is an address of this network.
    Cidr {
        /// The network's address; the host bits are zero.
        network: IpAddr,
        /// Length of the prefix in bits.
        prefix: u8,
    },
    /// The value is a number and stands in this relation to the other.
    Number(Comparison, Number),
    /// The field is there (`true`) or is not (`false`), whatever its value.
    Exists(bool),
    /// `null`: the field is not there, or has no value.
    Null,
    /// The value stands in this relation to another field's value.
    Field(TextOp, FieldPath),
    /// A structural detector finds this kind of attack, at least this surely.
    Structure(Structure, Confidence),
}

/// A part of a [wildcard](Op::Wildcard).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// These bytes. Not empty; two never stand side by side.
    Literal(Vec<u8>),
    /// `*`: any bytes, also none. Two never stand side by side.
    Any,
    /// `?`: one character.
    One,
}

/// `i`, `m` and `s` of a regex.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegexFlags {
    /// `i`: letter case does not matter.
    pub ignore_case: bool,
    /// `m`: `^` and `$` match at line breaks.
    pub multi_line: bool,
    /// `s`: `.` matches line breaks.
    pub dot_all: bool,
}

/// A relation of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TextOp {
    Equals,
    Contains,
    StartsWith,
    EndsWith,
}

/// A relation of numbers: the field's value stands on the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A number in a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Number {
    Integer(i64),
    Float(f64),
}

impl Number {
    /// As a float, rounded where it does not fit.
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Integer(number) => number as f64,
            Number::Float(number) => number,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Integer(number) => number.fmt(f),
            Number::Float(number) => number.fmt(f),
        }
    }
}

/// The structural detectors, each a modifier of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Structure {
    /// `sqli`
    Sql,
    /// `xss`
    Html,
    /// `command`
    Shell,
    /// `traversal`
    Path,
    /// `ssrf`
    Url,
    /// `code`
    Code,
    /// `spam`
    Host,
}

/// How sure a structural detector must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Confidence {
    Low,
    Medium,
    High,
}

/// How selections combine.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// Every one of them. Two or more.
    All(Vec<Condition>),
    /// At least one of them. Two or more.
    Any(Vec<Condition>),
    /// Not this one.
    Not(Box<Condition>),
    /// The selection of this index in [`Detection::selections`] (in a correlation's condition: the rule of
    /// this index in [`Correlation::rules`]).
    Selection(Spanned<usize>),
    /// `1 of x_*`, `all of them` and the like.
    Of {
        /// The words as written.
        span: Span,
        /// How many of them.
        quantity: Quantity,
        /// The selections that the pattern meant. Never empty.
        selections: Vec<usize>,
    },
}

/// How many of several selections must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// `all of`
    All,
    /// `1 of`, `any of`: this many or more. From 1 to the number of selections.
    AtLeast(usize),
}

/// A correlation document.
#[derive(Clone, Debug)]
pub struct Correlation {
    /// Title, id, level and the like.
    pub head: Head,
    /// `type`.
    pub kind: CorrelationKind,
    /// `rules`: ids or names of the rules (or correlations) whose matches it counts. Never empty.
    pub rules: Vec<Spanned<String>>,
    /// `group-by`: fields, or names from `aliases`.
    pub group_by: Vec<Spanned<String>>,
    /// `timespan`, in seconds. Never zero.
    pub timespan_seconds: Spanned<u64>,
    /// `aliases`.
    pub aliases: Vec<Alias>,
    /// `generate`: whether the rules it refers to still alert on their own.
    pub generate: bool,
    /// `condition`.
    pub condition: CorrelationCondition,
}

/// `type` of a correlation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CorrelationKind {
    EventCount,
    ValueCount,
    ValueSum,
    ValueAverage,
    ValueMedian,
    ValuePercentile,
    Temporal,
    TemporalOrdered,
}

/// One entry of a correlation's `aliases`.
#[derive(Clone, Debug)]
pub struct Alias {
    /// The name that `group-by` uses.
    pub name: Spanned<String>,
    /// For each rule (index in [`Correlation::rules`]) its own field.
    pub fields: Vec<(Spanned<usize>, Spanned<String>)>,
}

/// When a correlation holds.
#[derive(Clone, Debug)]
pub enum CorrelationCondition {
    /// The count (or sum, average, …) meets every one of these bounds. Never empty.
    Bounds {
        /// The bounds.
        bounds: Vec<(Comparison, Spanned<Number>)>,
        /// `field`: what is counted or summed. There for every `value_*`, absent for `event_count`.
        /// `temporal` without a condition of its own has the bound `>= number of rules`.
        field: Option<Spanned<String>>,
        /// `percentile`, 0–100, for `value_percentile`.
        percentile: Option<Spanned<u8>>,
    },
    /// A `temporal` correlation's own expression over its rules.
    Expression(Condition),
}

/// A filter document: a rule that it applies to also has to meet the filter's condition.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Title, id and the like.
    pub head: Head,
    /// The rules' event source.
    pub logsource: Logsource,
    /// Ids or names of the rules it applies to; `None` means any rule of that logsource.
    pub rules: Option<Vec<Spanned<String>>>,
    /// Selections and condition, to be joined to the rule's own by `and`.
    pub detection: Detection,
}

/// The key `portcullis`: what is ours in a rule.
#[derive(Clone, Debug, Default)]
pub struct Custom {
    /// `alert`: the catalogue's alert type. Whether the catalogue has it is the back end's to say.
    pub alert: Option<Spanned<String>>,
    /// `confidence`, 0–100.
    pub confidence: Option<Spanned<u8>>,
    /// `learn`: a count of values fires for one that is new, after having learned for so many seconds.
    pub learn_seconds: Option<Spanned<u64>>,
    /// `tests.catches`: events that the rule must match.
    pub catches: Vec<Case>,
    /// `tests.ignores`: events near those that the rule must not match.
    pub ignores: Vec<Case>,
}

/// One event of a rule's tests. Its bytes are as on the wire: in a case, `\xHH` is the byte HH, and nothing else
/// is an escape (`\x5cx41` is a backslash, `x41`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The whole case.
    pub span: Span,
    /// The request line or command line as it was written, for messages.
    pub title: String,
    /// What happens.
    pub event: CaseEvent,
}

/// What a [`Case`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseEvent {
    /// A request.
    Request(Box<CaseRequest>),
    /// A process that starts: its fields. Only in rules for `process_creation`.
    Process(Vec<(Field, Vec<u8>)>),
    /// Requests one after the other, for correlations. Never empty.
    Sequence(Vec<Step>),
}

/// Requests of a [`CaseEvent::Sequence`] that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The request.
    pub request: CaseRequest,
    /// `after`: seconds between the request and the one before it. One if it is not said; not looked at
    /// before the first.
    pub after_seconds: u64,
    /// `times`: how many such requests there are, each so long after the other. Never zero.
    pub times: u32,
}

/// A request of a [`Case`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaseRequest {
    /// `GET` of `GET /path`.
    pub method: Vec<u8>,
    /// `/path` of `GET /path`: everything after the first space.
    pub target: Vec<u8>,
    /// `host`.
    pub host: Option<Vec<u8>>,
    /// `user-agent`, `referer`, `cookie` and `headers`, in the order of the file, names in lower case.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// `body`.
    pub body: Option<Vec<u8>>,
    /// `source`.
    pub source: Option<IpAddr>,
    /// `status`: the response's, for rules about responses.
    pub status: Option<u16>,
}
