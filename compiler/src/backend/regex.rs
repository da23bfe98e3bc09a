//! Regular expressions to small tables, and to the texts that must be there for them to match.

use std::cell::RefCell;
use std::collections::HashMap;

use portcullis::dfa::{ACCEPT, EXCEPTION_BYTES, FIRST_STATE, REJECT, STATE_BYTES};
use portcullis::limits;
use regex_automata::dfa::{Automaton, dense};
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::anchor;
use crate::ast::RegexFlags;

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Regex {
    /// What `portcullis::dfa` runs.
    pub table: Vec<u8>,
    /// Texts of which at least one must be there, whatever its case; none if nothing must.
    pub required: Option<Vec<Vec<u8>>>,
}

/// Why an expression was refused: code, message, help.
pub type Refusal = (&'static str, String, &'static str);

/// Bytes of tables that a thread keeps; further expressions are compiled each time.
const KEPT_BYTES: usize = 32 << 20;

thread_local! {
    /// Tables of expressions that this thread has compiled. Making one takes a hundred times longer than all else about a
    /// rule, and whoever compiles rules as they are typed compiles nearly the same ones again.
    static KEPT: RefCell<Kept> = RefCell::default();
}

#[derive(Default)]
struct Kept {
    tables: HashMap<(String, u8), Vec<u8>>,
    bytes: usize,
}

fn keep(pattern: &str, flags: u8, table: &[u8]) {
    KEPT.with_borrow_mut(|kept| {
        let bytes = kept.bytes + pattern.len() + table.len();
        if bytes <= KEPT_BYTES {
            kept.bytes = bytes;
            kept.tables
                .insert((pattern.to_owned(), flags), table.to_vec());
        }
    });
}

fn flags_byte(flags: RegexFlags) -> u8 {
    u8::from(flags.ignore_case) | u8::from(flags.multi_line) << 1 | u8::from(flags.dot_all) << 2
}

/// The expressions that this thread has compiled, for [`learn`] in another program of this version.
pub fn learned() -> Vec<u8> {
    let number = |length: usize| u32::try_from(length).unwrap_or(0).to_le_bytes();
    KEPT.with_borrow(|kept| {
        let mut tables: Vec<_> = kept.tables.iter().collect();
        tables.sort();
        let mut bytes = Vec::with_capacity(kept.bytes + tables.len() * 16);
        for ((pattern, flags), table) in tables {
            bytes.extend_from_slice(&number(pattern.len()));
            bytes.extend_from_slice(pattern.as_bytes());
            bytes.push(*flags);
            bytes.extend_from_slice(&number(table.len()));
            bytes.extend_from_slice(table);
        }
        bytes
    })
}

/// Takes over what [`learned`] gave, so that those expressions need not be compiled. What breaks off is left out.
pub fn learn(mut bytes: &[u8]) {
    fn next<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *bytes = rest;
        Some(part)
    }
    while let Some(pattern) = next(&mut bytes)
        && let Ok(pattern) = std::str::from_utf8(pattern)
        && let Some((flags, rest)) = bytes.split_first()
    {
        bytes = rest;
        if let Some(table) = next(&mut bytes) {
            keep(pattern, *flags, table);
        }
    }
}

/// Compiles an expression that `regex-syntax` understands, for texts in these lanes.
pub fn compile(pattern: &str, flags: RegexFlags, lanes: u8) -> Result<Regex, Refusal> {
    // Bytes, not characters: a request is bytes. Only an expression that cannot be said in bytes,
    // such as one with `\p{…}` or `é` in a class, is read in Unicode mode.
    let parse = |unicode: bool| {
        regex_syntax::ParserBuilder::new()
            .case_insensitive(flags.ignore_case)
            .multi_line(flags.multi_line)
            .dot_matches_new_line(flags.dot_all)
            .unicode(unicode)
            .utf8(false)
            .nest_limit(limits::CONDITION_DEPTH as u32)
            .build()
            .parse(pattern)
            .map_err(|error| error.to_string())
    };
    let (hir, _) = parse(false)
        .map(|hir| (hir, false))
        .or_else(|_| parse(true).map(|hir| (hir, true)))
        .map_err(|error| {
            (
                "regex-syntax",
                format!("the expression is not understood: {error}"),
                "mend the expression",
            )
        })?;
    if hir.properties().look_set().contains_word_unicode() {
        return Err((
            "regex-unicode-boundary",
            "`\\b` of Unicode words cannot be compiled".to_owned(),
            "use `(?-u:\\b)`",
        ));
    }
    let required = required(&hir, lanes).filter(|texts| !texts.is_empty());
    let flags = flags_byte(flags);
    let kept = KEPT.with_borrow(|kept| kept.tables.get(&(pattern.to_owned(), flags)).cloned());
    if let Some(table) = kept {
        return Ok(Regex { table, required });
    }
    let too_large = |detail: String| {
        (
            "regex-too-large",
            format!(
                "the expression compiles to more than {} bytes ({detail})",
                limits::DFA_BYTES
            ),
            "use fewer or smaller counted repetitions such as `.{1,100}`, or several rules",
        )
    };
    let nfa = regex_automata::nfa::thompson::Compiler::new()
        .configure(
            regex_automata::nfa::thompson::Config::new()
                .utf8(false)
                .which_captures(regex_automata::nfa::thompson::WhichCaptures::None)
                .nfa_size_limit(Some(8 << 20)),
        )
        .build_from_hir(&hir)
        .map_err(|error| too_large(error.to_string()))?;
    let build = |minimize: bool| {
        dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(regex_automata::dfa::StartKind::Unanchored)
                    .match_kind(regex_automata::MatchKind::All)
                    .minimize(minimize)
                    .dfa_size_limit(Some(16 << 20))
                    .determinize_size_limit(Some(64 << 20)),
            )
            .build_from_nfa(&nfa)
            .map_err(|error| too_large(error.to_string()))
    };
    // Minimising takes long on large automata, and those are refused in the end anyway.
    let mut dfa = build(false)?;
    if dfa.memory_usage() < 1 << 20 {
        dfa = build(true)?;
    }
    let table = flatten(&dfa).ok_or_else(|| too_large("too many states".to_owned()))?;
    keep(pattern, flags, &table);
    Ok(Regex { table, required })
}

/// Rows of a table that are written whole, at most.
const BASES: usize = 64;

/// Turns the library's automaton into the table that `portcullis::dfa` documents: any state that
/// matches becomes one that stays, since only whether there is a match is asked.
fn flatten(dfa: &dense::DFA<Vec<u32>>) -> Option<Vec<u8>> {
    let begin = dfa
        .start_state(&start::Config::new().anchored(regex_automata::Anchored::No))
        .ok()?;
    // Bytes that no state tells apart share a class.
    let mut class_of = [0_u8; 256];
    let mut examples: Vec<u8> = Vec::new();
    let classes = dfa.byte_classes();
    let mut seen: HashMap<u8, u8> = HashMap::new();
    for byte in 0..=255_u8 {
        let next = u8::try_from(examples.len()).ok();
        let class = match (seen.get(&classes.get(byte)), next) {
            (Some(class), _) => *class,
            (None, Some(class)) => {
                seen.insert(classes.get(byte), class);
                examples.push(byte);
                class
            }
            (None, None) => return None,
        };
        *class_of.get_mut(usize::from(byte))? = class;
    }

    // Rows of the states in the order in which they are met, in the automaton's own numbers.
    let mut order: HashMap<StateID, usize> = HashMap::from([(begin, 0)]);
    let mut states: Vec<StateID> = vec![begin];
    let mut rows: Vec<Vec<StateID>> = Vec::new();
    while let Some(&state) = states.get(rows.len()) {
        let mut row: Vec<StateID> = examples
            .iter()
            .map(|&byte| dfa.next_state(state, byte))
            .collect();
        row.push(dfa.next_eoi_state(state));
        for &next in &row {
            let ends =
                dfa.is_match_state(next) || dfa.is_dead_state(next) || dfa.is_quit_state(next);
            if !ends && !order.contains_key(&next) {
                order.insert(next, states.len());
                states.push(next);
            }
        }
        rows.push(row);
        if states.len() > usize::from(u16::MAX) {
            return None;
        }
    }
    // Rows that are written whole: a state that follows none of them closely enough becomes one.
    let mut bases: Vec<&[StateID]> = Vec::new();
    let differences =
        |row: &[StateID], base: &[StateID]| row.iter().zip(base).filter(|(a, b)| a != b).count();
    let mut records: Vec<(u8, Vec<(u8, StateID)>)> = Vec::new();
    for row in &rows {
        let nearest = (0..=u8::MAX)
            .zip(&bases)
            .min_by_key(|(_, base)| differences(row, base));
        let (number, base) = match nearest {
            Some((number, base))
                if differences(row, base) * EXCEPTION_BYTES <= row.len()
                    || bases.len() >= BASES =>
            {
                (number, *base)
            }
            _ => {
                bases.push(row);
                (u8::try_from(bases.len() - 1).ok()?, row.as_slice())
            }
        };
        let classes = (0..=u8::MAX).zip(row.iter().zip(base));
        let exceptions = classes
            .filter(|(_, (next, base))| next != base)
            .map(|(class, (next, _))| (class, *next));
        records.push((number, exceptions.collect()));
    }
    // A state's number is where its record begins.
    let mut offset = usize::from(FIRST_STATE);
    let mut numbers: Vec<u16> = Vec::new();
    for (_, exceptions) in &records {
        numbers.push(u16::try_from(offset).ok()?);
        offset += STATE_BYTES + exceptions.len() * EXCEPTION_BYTES;
    }
    let number = |id: StateID| -> Option<u16> {
        if dfa.is_match_state(id) {
            Some(ACCEPT)
        } else if dfa.is_dead_state(id) || dfa.is_quit_state(id) {
            Some(REJECT)
        } else {
            numbers.get(*order.get(&id)?).copied()
        }
    };

    let mut table = Vec::new();
    table.extend(u16::try_from(examples.len() + 1).ok()?.to_le_bytes());
    table.extend(number(begin)?.to_le_bytes());
    table.extend([u8::try_from(bases.len()).ok()?, 0]);
    table.extend(class_of);
    for next in bases.iter().copied().flatten() {
        table.extend(number(*next)?.to_le_bytes());
    }
    for (base, exceptions) in &records {
        table.extend([*base, u8::try_from(exceptions.len()).ok()?]);
        for (class, next) in exceptions {
            table.push(*class);
            table.extend(number(*next)?.to_le_bytes());
        }
    }
    (table.len() <= limits::DFA_BYTES).then_some(table)
}

/// How many alternatives a required text may have before it is worth nothing as a filter.
const ALTERNATIVES: usize = 64;

/// Texts of which one must be in anything that matches, in lower case; `None` if nothing must.
/// Of several such sets the one that ordinary traffic has least often in these lanes.
fn required(hir: &Hir, lanes: u8) -> Option<Vec<Vec<u8>>> {
    match hir.kind() {
        HirKind::Concat(parts) => {
            let mut best: Option<Vec<Vec<u8>>> = None;
            let mut run: Vec<u8> = Vec::new();
            let mut offer = |candidate: Vec<Vec<u8>>| {
                if best.as_ref().is_none_or(|best| {
                    anchor::cost_of_texts(&candidate, lanes) < anchor::cost_of_texts(best, lanes)
                }) {
                    best = Some(candidate);
                }
            };
            for part in parts {
                match letters(part) {
                    Some(text) => run.extend(text),
                    None => {
                        if !run.is_empty() {
                            offer(vec![std::mem::take(&mut run)]);
                        }
                        if let Some(texts) = required(part, lanes) {
                            offer(texts);
                        }
                    }
                }
            }
            if !run.is_empty() {
                offer(vec![run]);
            }
            best
        }
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(required(branch, lanes)?);
            }
            all.sort();
            all.dedup();
            (all.len() <= ALTERNATIVES).then_some(all)
        }
        HirKind::Repetition(repetition) if repetition.min > 0 => required(&repetition.sub, lanes),
        HirKind::Capture(capture) => required(&capture.sub, lanes),
        _ => letters(hir).map(|text| vec![text]),
    }
    .filter(|texts| texts.iter().all(|text| !text.is_empty()))
}

/// The text that this expression is, if it is one text up to ASCII case.
fn letters(hir: &Hir) -> Option<Vec<u8>> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(literal.0.to_ascii_lowercase()),
        HirKind::Capture(capture) => letters(&capture.sub),
        HirKind::Class(class) => {
            let bytes: Vec<u8> = match class {
                Class::Bytes(bytes) => bytes
                    .ranges()
                    .iter()
                    .flat_map(|range| range.start()..=range.end())
                    .take(3)
                    .collect(),
                Class::Unicode(chars) => chars
                    .ranges()
                    .iter()
                    .flat_map(|range| range.start()..=range.end())
                    .map(u8::try_from)
                    .take(3)
                    .collect::<Result<_, _>>()
                    .ok()?,
            };
            match bytes.as_slice() {
                [one] if one.is_ascii() => Some(vec![one.to_ascii_lowercase()]),
                [a, b] if a.is_ascii() && a.eq_ignore_ascii_case(b) => {
                    Some(vec![a.to_ascii_lowercase()])
                }
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use portcullis::dfa::{self, Dfa};

    const URI: u8 = portcullis::field::Lane::Uri.bit();

    /// Pieces that texts are made of: what the patterns below are about, and what is near it.
    const PIECES: [&[u8]; 18] = [
        b"",
        b"a",
        b"ab",
        b"b",
        b"select",
        b"SELECT",
        b" ",
        b"\n",
        b"from",
        b"/",
        b".php",
        b"\xff",
        b"\x00",
        b"1",
        b"22",
        b"x1",
        "é".as_bytes(),
        b"_",
    ];

    #[test]
    fn the_table_matches_what_the_expression_matches() {
        let patterns = [
            "",
            "a",
            "^a",
            "a$",
            "^$",
            "a|b",
            "(?i)select.*from",
            "select\\s+from",
            "[^a-z]php$",
            "\\.php\\d*$",
            "(a|ab)(b|1)+",
            "^/[a-z]{1,3}/",
            "\\bfrom\\b",
            "x?1{2,}",
            "(?s)a.b",
            "a.b",
            "[[:^ascii:]]",
            "é",
            "[é_]",
            "a{3}b{2}",
            "(?m)^b$",
            "\\x00",
        ];
        let mut compared = 0;
        for pattern in patterns {
            let table = compile(pattern, RegexFlags::default(), URI)
                .unwrap_or_else(|refusal| panic!("{pattern}: {}", refusal.1));
            let dfa = Dfa::read(&table.table).unwrap();
            // Over so many texts it writes out its rows.
            let mut automaton = dfa::Automaton::new(dfa);
            let unicode = regex_syntax::ParserBuilder::new()
                .unicode(false)
                .utf8(false)
                .build()
                .parse(pattern)
                .is_err();
            let oracle = regex::bytes::RegexBuilder::new(pattern)
                .unicode(unicode)
                .build()
                .unwrap();
            for first in PIECES {
                for second in PIECES {
                    for third in PIECES {
                        let text = [first, second, third].concat();
                        assert_eq!(
                            dfa.match_end(&text).is_some(),
                            oracle.is_match(&text),
                            "{pattern} in {text:?}"
                        );
                        assert_eq!(
                            automaton.match_end(&text),
                            dfa.match_end(&text),
                            "{pattern} in {text:?}"
                        );
                        if let Some(texts) =
                            table.required.as_ref().filter(|_| oracle.is_match(&text))
                        {
                            let lower = text.to_ascii_lowercase();
                            let there = texts
                                .iter()
                                .any(|want| lower.windows(want.len()).any(|have| have == want));
                            assert!(there, "{pattern} matches {text:?} without any of {texts:?}");
                        }
                        compared += 1;
                    }
                }
            }
        }
        assert_eq!(compared, patterns.len() * PIECES.len().pow(3));
    }

    #[test]
    fn what_one_thread_learned_another_need_not_compile() {
        let flags = RegexFlags::default();
        let pattern = "a{3,9}(b|c)";
        let (table, bytes) = std::thread::spawn(move || {
            let table = compile(pattern, flags, URI).unwrap().table;
            (table, learned())
        })
        .join()
        .unwrap();
        // Whatever is cut off, what is whole is learned.
        for length in 0..bytes.len() {
            learn(&bytes[..length]);
            assert!(KEPT.with_borrow(|kept| kept.tables.is_empty()), "{length}");
        }
        learn(&bytes);
        assert_eq!(learned(), bytes);
        assert_eq!(compile(pattern, flags, URI).unwrap().table, table);
    }

    #[test]
    fn what_must_be_there_is_found() {
        let cases: [(&str, Option<&[&str]>); 9] = [
            ("of.*select", Some(&["select"])),
            ("(?i)SELECT", Some(&["select"])),
            ("ab|cd", Some(&["ab", "cd"])),
            ("\\$(?:or|and)", Some(&["$"])),
            ("(foo|barbaz)qux", Some(&["qux"])),
            // A bracket is rarer than a letter, but not than four rare ones together.
            ("wyvern\\s*\\(", Some(&["wyvern"])),
            ("[0-9]+", None),
            ("x*", None),
            ("(abc)?", None),
        ];
        for (pattern, want) in cases {
            let want = want.map(|texts| {
                texts
                    .iter()
                    .map(|text| text.as_bytes().to_vec())
                    .collect::<Vec<_>>()
            });
            assert_eq!(
                compile(pattern, RegexFlags::default(), URI)
                    .unwrap()
                    .required,
                want,
                "{pattern}"
            );
        }
    }
}
