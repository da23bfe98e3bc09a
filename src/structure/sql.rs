//! Does a value change the shape of the query it is pasted into?
//!
//! Takes in one decoded value; gives out where the SQL begins and how sure we are.
//!
//! A query has few places for a value: after an operator (`id = 1`), or inside a string of either
//! quote. So the value is read up to four times: as it stands, and from behind the first `'`, `"`
//! and `` ` ``, as if that one closed the query's own string. `O'Reilly and sons`, read from behind
//! the quote, goes on with a name, which no query allows there; `1' or '1'='1` goes on with an
//! operator and a comparison of two constants:
//!
//! ```text
//! as it stands:     1  Text(' or ')  1  Text('=')  1           nothing
//! behind the quote: or  Text('1')  =  Open('1)                 `or` + constant = constant: high
//! ```
//!
//! There is no grammar of whole queries, because attacks are fragments, often broken ones. Instead
//! each token is asked whether a construct begins at it that prose and data do not have: a
//! disjunction with a comparison of constants, `union select` with a list, a stacked statement, a
//! call of `benchmark`. What precedes decides how much is needed: right behind a closed quote a bare
//! comment is enough, in the middle of a sentence nothing less than two constants compared.
//!
//! Cost: every reading lexes each byte once and looks at [`scan::WINDOW`] tokens from each token, so the
//! time is linear and nothing is allocated.

mod lex;
mod rules;
mod scan;
#[cfg(test)]
mod tests;
mod words;

use super::{Finding, HIGH, LOW, MEDIUM, Steps, holds_any, markdown};
use scan::Scan;

/// Every finding needs at least one of these bytes: a value without them is silent. [`gate`] is
/// the finer test.
pub const GATE: &[u8] = b"'\"`()<>|&;*#!~@+\\ \t\n\x0b\x0c\r\0\xa0\xca\xcb\xe2";

/// Sorted. Words one of which a finding needs if it has neither a quote, nor a call, nor `||` or `&&`.
#[rustfmt::skip]
const GATE_WORDS: &[&str] = &[
    "alter", "and", "backup", "begin", "case", "create", "declare", "delete", "drop",
    "except", "exec", "execute", "grant", "group", "handler", "having", "insert",
    "intersect", "into", "load", "minus", "or", "order", "prepare", "procedure", "replace",
    "select", "show", "shutdown", "truncate", "union", "update", "waitfor", "where", "xor",
];

/// Whether [`sqli`] could find anything: the value holds a quote, or `||` or `&&`, or a parenthesis
/// behind a word, or one of a few words. One pass; browsers' User-Agents, URLs and most values
/// that are no prose end here.
pub fn gate(value: &[u8]) -> bool {
    let mut before = 0;
    for (at, &byte) in value.iter().enumerate() {
        let open = match SIGNS[usize::from(byte)] {
            Sign::None => false,
            Sign::Quote => true,
            Sign::Pair => byte == before,
            Sign::Call => calls(value, at),
            Sign::Fit => fits_quote(value.get(at..).unwrap_or(&[])) > 0,
            Sign::Word(start, end) => {
                !is_letter(before) && gate_word(value.get(at..).unwrap_or(&[]), start, end)
            }
        };
        if open {
            return value.iter().any(|b| GATE.contains(b));
        }
        before = byte;
    }
    false
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

/// Whether a word stands before the parenthesis at `at`, blanks aside.
fn calls(value: &[u8], at: usize) -> bool {
    let before = value.get(..at).unwrap_or(&[]);
    before
        .iter()
        .rfind(|b| !b.is_ascii_whitespace())
        .is_some_and(|b| is_letter(*b))
}

/// Whether `text` begins with one of the words from `start` to `end`.
fn gate_word(text: &[u8], start: u8, end: u8) -> bool {
    let words = GATE_WORDS
        .get(usize::from(start)..usize::from(end))
        .unwrap_or(&[]);
    let second = text.get(1).map_or(0, u8::to_ascii_lowercase);
    words.iter().map(|word| word.as_bytes()).any(|word| {
        word.get(1) == Some(&second)
            && starts_with(text, word)
            && !text
                .get(word.len())
                .is_some_and(|next| is_letter(*next) || next.is_ascii_digit())
    })
}

/// What a byte means to [`gate`].
#[derive(Clone, Copy)]
enum Sign {
    None,
    Quote,
    /// `||`, `&&`.
    Pair,
    Call,
    /// The lead of a character that may become a quote.
    Fit,
    /// A letter, and the range of [`GATE_WORDS`] that begin with it.
    Word(u8, u8),
}

const SIGNS: [Sign; 256] = {
    let mut table = [Sign::None; 256];
    let mut i = 0;
    while i < GATE_WORDS.len() {
        let first = GATE_WORDS[i].as_bytes()[0];
        let start = match table[first as usize] {
            Sign::Word(start, _) => start,
            _ => i as u8,
        };
        table[first as usize] = Sign::Word(start, i as u8 + 1);
        table[first.to_ascii_uppercase() as usize] = table[first as usize];
        i += 1;
    }
    table[b'\'' as usize] = Sign::Quote;
    table[b'"' as usize] = Sign::Quote;
    table[b'`' as usize] = Sign::Quote;
    table[b'|' as usize] = Sign::Pair;
    table[b'&' as usize] = Sign::Pair;
    table[b'(' as usize] = Sign::Call;
    table[0xca] = Sign::Fit;
    table[0xcb] = Sign::Fit;
    table[0xe2] = Sign::Fit;
    table
};

/// Finds SQL that would change the query around the value. Total, linear; allocates only for
/// characters that some databases turn into quotes.
pub fn sqli(value: &[u8]) -> Option<Finding> {
    sqli_within(value, &Steps::unlimited())
}

/// The same, as far as the steps go.
#[inline(never)]
pub fn sqli_within(value: &[u8], steps: &Steps) -> Option<Finding> {
    if !gate(value) {
        return None;
    }
    let found = read(value, steps);
    if found.is_some_and(|found| found.confidence >= MEDIUM) {
        return found;
    }
    let Some(fitted) = best_fit(value) else {
        return found;
    };
    let hidden = read(&fitted, steps).map(|hidden| Finding {
        confidence: hidden.confidence.min(MEDIUM),
        ..hidden
    });
    hidden.or(found)
}

/// Whether a parameter is handed a whole statement: one that is called after SQL, as that of phpMyAdmin and Adminer are, and
/// whose value begins as a statement does. That is what the parameter is for; nothing is changed in its shape.
/// A statement that reaches out of the database, or waits, is none that a person sends.
pub fn is_handed_over(name: &[u8], value: &[u8], steps: &Steps) -> bool {
    if !STATEMENT_NAMES
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    {
        return false;
    }
    begins_as_statement(value) && !holds_any(value, REACHES, steps)
}

/// Whether what was found is a whole statement that somebody writes about, or a part of it: it is all that the value holds, and
/// has nothing of what makes a statement worth sending to a database that is not one's own.
pub fn is_said(value: &[u8], found: &Finding, steps: &Steps) -> bool {
    let value = value.trim_ascii_end();
    let value = value.strip_suffix(b";").unwrap_or(value);
    let before = value.get(..found.start).unwrap_or(value).trim_ascii();
    let is_whole = before.is_empty()
        // `select a from b where c > 1`: what was found is a part of it.
        || holds_any(value, &[" from "], steps) && !before.contains(&b'\'');
    is_whole
        && begins_as_statement(value)
        && !holds_any(value, REACHES, steps)
        && !holds_any(value, TELLS, steps)
}

/// Whether a value begins as a statement does.
fn begins_as_statement(value: &[u8]) -> bool {
    let value = value.trim_ascii_start();
    let verb = value
        .iter()
        .position(|byte| !byte.is_ascii_alphabetic())
        .unwrap_or(value.len());
    let (verb, rest) = value.split_at(verb);
    rest.first().is_some_and(u8::is_ascii_whitespace)
        && VERBS
            .iter()
            .any(|known| verb.eq_ignore_ascii_case(known.as_bytes()))
}

/// Names of parameters that are handed whole statements.
const STATEMENT_NAMES: &[&str] = &[
    "sql_query",
    "sql",
    "sqlquery",
    "sql_text",
    "show_query",
    "prev_sql_query",
];

/// How such statements begin.
const VERBS: &[&str] = &[
    "select", "insert", "update", "delete", "create", "alter", "drop", "show", "describe",
    "explain", "with", "replace", "truncate", "rename", "grant", "set", "use", "analyze",
    "optimize",
];

/// What no person's statement has.
const REACHES: &[&str] = &[
    "outfile",
    "dumpfile",
    "load_file",
    "xp_cmdshell",
    "xp_dirtree",
    "xp_reg",
    "sp_oa",
    "sleep(",
    "benchmark(",
    "waitfor",
    "sys_e",
    "lo_export",
    "to program",
    "utl_",
    "dbms_",
    "extractvalue(",
    "updatexml(",
    "load_extension",
];

/// What else only an attacker's statement has: a second statement, a comment, the catalogue, who and where the database is.
const TELLS: &[&str] = &[
    ";",
    "--",
    "/*",
    "#",
    "@@",
    "0x",
    "||",
    "union",
    "pass",
    "schema",
    "version",
    "user(",
    "user from",
    "database(",
    "sysobjects",
    "sys.",
    "_tables",
    "_users",
    "v$",
    "dual",
    "pg_",
    "sqlite_",
    "mysql.",
    "char(",
    "chr(",
    "master",
];

/// Length of the character at the start of `text` if it becomes `'` where a database converts text
/// to a code page (U+02B9, U+02BC, U+02C8, U+2018, U+2019, U+2032, U+2035), else 0.
fn fits_quote(text: &[u8]) -> usize {
    match text {
        [0xca, 0xb9 | 0xbc, ..] | [0xcb, 0x88, ..] => 2,
        [0xe2, 0x80, 0x98 | 0x99 | 0xb2 | 0xb5, ..] => 3,
        _ => 0,
    }
}

/// The value with those characters as quotes, padded with NULs, which are blanks, so that offsets
/// stay; nothing if there are none.
fn best_fit(value: &[u8]) -> Option<Vec<u8>> {
    let mut fitted: Option<Vec<u8>> = None;
    for lead in memchr::memchr3_iter(0xca, 0xcb, 0xe2, value) {
        let length = fits_quote(value.get(lead..).unwrap_or(&[]));
        if length > 0
            && let Some([quote, padding @ ..]) = fitted
                .get_or_insert_with(|| value.to_vec())
                .get_mut(lead..lead + length)
        {
            *quote = b'\'';
            padding.fill(0);
        }
    }
    fitted
}

/// Reads the value in each of its places and gives the surest finding.
fn read(value: &[u8], steps: &Steps) -> Option<Finding> {
    let mut best: Option<Finding> = None;
    let mut consider = |found: Option<Finding>| -> bool {
        if let Some(found) = found
            && best.is_none_or(|best| found.confidence > best.confidence)
        {
            best = Some(found);
        }
        best.is_some_and(|best| best.confidence >= HIGH)
    };
    if consider(Scan::whole(value).run(steps)) {
        return best;
    }
    for quote in [b'\'', b'"', b'`'] {
        if let Some(at) = closing_quote(value, quote)
            && consider(if opens(value, at) {
                Scan::strings(value, at + 1, quote).run(steps)
            } else {
                Scan::behind(value, at).run(steps)
            })
        {
            return best;
        }
    }
    best
}

/// Offset of the first quote that is not one of a pair (`O''Reilly` stays inside the string).
fn closing_quote(value: &[u8], quote: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        let found = at + memchr::memchr(quote, value.get(at..)?)?;
        // At the very start a pair is an empty string, closed, and what follows counts.
        if value.get(found + 1) == Some(&quote) && found > 0 {
            at = found + 2;
        } else if quote == b'\'' && is_apostrophe(value, found) {
            at = found + 1;
        } else if quote == b'`'
            && let Some(close) = markdown::code_in_sentence(value, found)
        {
            at = close + 1;
        } else {
            return Some(found);
        }
    }
}

/// Whether the quote at `at` is that of `I'd`, `it's`, `they're`: letters before it and a word's ending behind it, which
/// no query goes on with.
fn is_apostrophe(value: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| value.get(before));
    let ending = value.get(at + 1..).unwrap_or(&[]);
    let letters = ending.iter().take(3).take_while(|b| is_letter(**b)).count();
    let ending = ending.get(..letters).unwrap_or(&[]);
    before.is_some_and(|b| is_letter(*b))
        && value.get(at + 1 + letters) == Some(&b' ')
        && APOSTROPHES
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
}

/// What English contracts behind an apostrophe.
const APOSTROPHES: &[&[u8]] = &[b"s", b"t", b"d", b"m", b"ll", b"re", b"ve"];

/// Whether the quote at `at` opens a string rather than closes one: `{"and": …`, `['or', …`.
fn opens(value: &[u8], at: usize) -> bool {
    let before = value.get(..at).unwrap_or(&[]).trim_ascii_end();
    matches!(before.last(), Some(b'{' | b'[' | b',' | b':'))
}

/// Counts what is looked at, so that a test can hold the cost against the length.
#[inline]
fn count(_looks: usize) {
    #[cfg(test)]
    tests::LOOKS.with(|looks| looks.set(looks.get() + _looks));
}

/// Whether `text` begins with `prefix`, whatever the case.
fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}
