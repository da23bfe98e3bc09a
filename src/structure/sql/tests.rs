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
    let Some(found) = sqli(value) else { return 0 };
    casefile::check_finding(Structure::Sqli, found, value);
    let shown = value.escape_ascii();
    assert!(gate(value), "the gate hides {shown}");
    assert!(
        value.iter().any(|b| GATE.contains(b)),
        "no byte of GATE in {shown}"
    );
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
const RAN: [usize; 4] = [446, 11, 32, 385];
const PIECES: &[u8] = b"'\"`();,-#/*!=|&@+ \n\0\xa0\xc2\xe21ax";
#[rustfmt::skip]
const UNITS: &[&str] = &[
    "a ", "' ", "'", "\"'`", "(", "((a", "a(", "or ", "or 1 ", "or a=", "select ", "select a,",
    "select (", "union ", "from ", "/*", "/*!", "--\n", "#\n", "-", "[a", "[", "$$", "@a", "1",
    "1.", "0x", "x'", "_a'", "''", "or not ", "or (", "or -", "case when ", "case 1 ", "if(",
    "order by 1,", "+or", "+a", "a.", "a.a(", "`", "\u{a0}", "\u{2b9}", "\u{2032} or ", "{\"",
    "a=1&", "||", "or||", "in (", "x,", "',1", "exists(", "or exists(", "char(", "char(1)+",
    "; drop ", "sleep(", "exec ", "<a", "\\N", "1e", "=", "not ", "between ", "like ",
];
