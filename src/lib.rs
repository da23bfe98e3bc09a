//! The detection engine of Portcullis: a request in, matched rules and catalogue alerts out.
//!
//! ```text
//!  rules/**/*.yml ──► compiler ──► bytes ──► ruleset
//!                                               │
//!  headers ──► normalise ──► scan ──► evaluate ─┴─► inspect ──► alert
//! ```
//!
//! | you want to change | go to |
//! |---|---|
//! | what a rule can ask about | [`field`], [`event`] |
//! | how an encoding is undone | [`normalise`], [`decoded`] |
//! | what the parameters of a body are | [`body`] |
//! | what makes a rule worth evaluating | [`scan`] |
//! | which texts are not looked at twice | `remember` |
//! | which cookies and headers are looked at | [`suspect`] |
//! | what a rule's condition means | [`evaluate`], [`text`], [`dfa`] |
//! | what SQL, HTML, a command, a path or a URL looks like | [`structure`] |
//! | what several signs in one request come to | [`confidence`] |
//! | what several requests of one source come to | [`correlate`] |
//! | how a verdict is explained | [`explain`] |
//! | which alerts are told as one | [`incident`] |
//! | how compiled rules are laid out | [`ruleset`] |
//! | the names, severities and advice of alerts | [`catalogue`] |
//!
//! The engine is pure: no I/O, no clock, no randomness, no host call. Traffic never makes it return
//! an error; opening a damaged ruleset does. Memory is bounded by [`limits`].
#![forbid(unsafe_code)]

pub mod address;
pub mod alert;
pub mod body;
pub mod catalogue;
pub mod confidence;
pub mod correlate;
pub mod decoded;
pub mod dfa;
pub mod evaluate;
pub mod event;
pub mod explain;
pub mod field;
pub mod headers;
pub mod incident;
pub mod inspect;
pub mod limits;
pub mod normalise;
pub mod policy;
mod remember;
pub mod ruleset;
pub mod scan;
mod sorted;
pub mod structure;
pub mod suspect;
pub mod text;
pub mod time;
