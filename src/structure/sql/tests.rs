//! The cases in `cases.txt`, what [`casefile`] holds them to, and this detector's own gate.

use super::super::Steps;
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
const RAN: [usize; 4] = [453, 15, 36, 390];
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

#[test]
fn a_statement_handed_to_a_tool_is_no_injection() {
    let handed = |name: &str, value: &str| {
        is_handed_over(name.as_bytes(), value.as_bytes(), &Steps::unlimited())
    };
    assert!(handed("sql_query", "SELECT * FROM `a` WHERE b LIKE '%c%'"));
    assert!(handed("SQL", "\n  insert into t values (1, 'x')"));
    for (name, value) in [
        // Another parameter, an injection, and statements that reach out of the database.
        ("id", "SELECT * FROM `a`"),
        ("sql_query", "1' UNION SELECT password FROM users-- -"),
        ("sql_query", "selection"),
        ("sql_query", ""),
        ("sql_query", "SELECT '<?php' INTO OUTFILE '/var/www/x.php'"),
        ("sql_query", "select load_file('/etc/passwd')"),
        ("sql_query", "select sleep(5)"),
    ] {
        assert!(!handed(name, value), "{name}={value}");
    }
}
