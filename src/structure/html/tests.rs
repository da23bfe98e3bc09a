//! The cases in `cases.txt`, what [`casefile`] holds them to, and this detector's own gate.

use super::*;
use crate::structure::{Structure, casefile};
use std::cell::Cell;

thread_local! {
    pub(super) static LOOKS: Cell<usize> = const { Cell::new(0) };
}

const CASES: &str = include_str!("cases.txt");

/// Runs the detector and checks what must hold for any value.
fn check(value: &[u8]) -> u8 {
    let Some(found) = xss(value) else { return 0 };
    casefile::check_finding(Structure::Xss, found, value);
    let shown = value.escape_ascii();
    assert!(gate(value), "the gate hides {shown}");
    assert!(may_hold(value), "nothing of GATE in {shown}");
    found.confidence
}

/// Looks at bytes and tokens that `value` costs.
fn looks(value: &[u8]) -> usize {
    LOOKS.set(0);
    check(value);
    LOOKS.get()
}

#[test]
fn cases_are_as_sure_as_expected() {
    casefile::check_cases(CASES, check, RAN);
}

#[test]
fn mutations_do_no_harm() {
    casefile::check_mutations(CASES, check, PIECES);
}

#[test]
fn hostile_values_cost_their_length() {
    casefile::check_cost(UNITS, looks);
}

/// How many cases of each step there are.
const RAN: [usize; 4] = [308, 39, 87, 259];
const PIECES: &[u8] = b"<>'\"`()=:;&#\\/[]{}+-! \n\0.xa1\xc2";
#[rustfmt::skip]
const UNITS: &[&str] = &[
    "<", "<a", "<a ", "<a x=", "<a x=\"", "<a onx=", "</title", "=", "on=", "onload=", "j a v a s c r i p t :",
    "javascript", "javascript: ", "j\na\n", "data:", "data :", "alert", "alert ", "alert(", "alert`", "(", "((a",
    "a(", "[", "[]", "[](", "[]()", "window[", "window['", "top.", "document.", "document.body", "&", "&#",
    "&#x", "&#60", "&#97;", "&amp;", "&amp;lt;", "\\", "\\x4", "\\x41", "\\u{1", "'a(", "';a(", "*/(", "/*a*/(",
    "/*(", "<a>(", "-", "ADw-", "~[]", ":", " :", "\0", "\u{1}", "?.(", "location=", "x=alert;", "<!--",
    "{{", "${", "=\n", "\n=", ".location=",
];
