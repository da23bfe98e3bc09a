//! Comparing bytes without regard to ASCII case, and wildcard patterns.
//!
//! Sigma compares text without regard to case. We fold ASCII only: URLs and headers are ASCII, and
//! folding more would need tables that no request pays for. `docs/RULES.md` says so to authors.

use crate::ruleset::layout::{WILDCARD_MANY, WILDCARD_ONE, fold_gram};

/// Jumps to the first byte of a needle before a search goes on step by step.
const JUMPS: usize = 32;

/// Whether case counts in a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `A` is `a`.
    Folded,
    /// `A` is not `a`.
    Exact,
}

impl Case {
    /// Whether two texts are equal.
    #[inline]
    pub fn equal(self, a: &[u8], b: &[u8]) -> bool {
        match self {
            Case::Folded => a.eq_ignore_ascii_case(b),
            Case::Exact => a == b,
        }
    }

    /// Where `needle` first stands in `text`. An empty needle stands at the start.
    pub fn find(self, text: &[u8], needle: &[u8]) -> Option<usize> {
        let Some((&first, rest)) = needle.split_first() else {
            return Some(0);
        };
        let last = text.len().checked_sub(needle.len())?;
        let (mut from, mut starts_in_vain) = (0, 0);
        while from <= last {
            let starts = text.get(from..=last)?;
            let step = match self {
                Case::Exact => memchr::memchr(first, starts),
                Case::Folded => memchr::memchr2(
                    first.to_ascii_lowercase(),
                    first.to_ascii_uppercase(),
                    starts,
                ),
            };
            let at = from + step?;
            if self.equal(text.get(at + 1..at + needle.len())?, rest) {
                return Some(at);
            }
            from = at + 1;
            starts_in_vain += 1;
            // Where every other byte is the first of the needle, jumping to it costs more than it saves.
            if starts_in_vain > JUMPS
                && let Some(start) = needle.first_chunk::<4>()
            {
                return self.find_step_by_step(text, needle, from, u32::from_le_bytes(*start));
            }
        }
        None
    }

    /// The same from `from` on, by the first four bytes of the needle, at the same cost whatever the text.
    fn find_step_by_step(
        self,
        text: &[u8],
        needle: &[u8],
        from: usize,
        start: u32,
    ) -> Option<usize> {
        let start = fold_gram(start);
        text.get(from..)?
            .windows(4)
            .enumerate()
            .filter(|(_, window)| {
                let window = window
                    .first_chunk::<4>()
                    .map(|bytes| u32::from_le_bytes(*bytes));
                window.is_some_and(|window| fold_gram(window) == start)
            })
            .map(|(at, _)| from + at)
            .find(|at| {
                let there = text.get(*at..*at + needle.len());
                there.is_some_and(|there| self.equal(there, needle))
            })
    }

    /// Whether the whole of `text` matches a pattern of literal bytes, [`WILDCARD_MANY`] and
    /// [`WILDCARD_ONE`]. Time is at most the product of the lengths; patterns are short and the
    /// compiler bounds their wildcards.
    pub fn wildcard(self, text: &[u8], pattern: &[u8]) -> bool {
        let (mut t, mut p) = (0, 0);
        // Where to resume when the current guess for the last `*` fails: text and pattern offset.
        let mut retry: Option<(usize, usize)> = None;
        while t < text.len() {
            match (pattern.get(p), text.get(t)) {
                (Some(&WILDCARD_MANY), _) => {
                    retry = Some((t, p + 1));
                    p += 1;
                    continue;
                }
                (Some(&WILDCARD_ONE), Some(_)) => {
                    p += 1;
                    t += 1;
                    continue;
                }
                (Some(want), Some(got)) if self.equal(&[*want], &[*got]) => {
                    p += 1;
                    t += 1;
                    continue;
                }
                _ => {}
            }
            match &mut retry {
                Some((text_at, pattern_at)) => {
                    *text_at += 1;
                    (t, p) = (*text_at, *pattern_at);
                }
                None => return false,
            }
        }
        pattern
            .get(p..)
            .is_some_and(|rest| rest.iter().all(|&byte| byte == WILDCARD_MANY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_plain_search_finds() {
        assert_eq!(Case::Folded.find(b"xxUNION SELECT", b"union"), Some(2));
        assert_eq!(Case::Exact.find(b"xxUNION SELECT", b"union"), None);
        assert_eq!(Case::Folded.find(b"aab", b"aab"), Some(0));
        assert_eq!(Case::Folded.find(b"aaab", b"AAB"), Some(1));
        assert_eq!(Case::Folded.find(b"ab", b"abc"), None);
        assert_eq!(Case::Folded.find(b"", b""), Some(0));
        assert_eq!(Case::Folded.find(b"", b"a"), None);
    }

    #[test]
    fn finds_the_same_where_starts_are_many() {
        for before in [0, 1, JUMPS - 1, JUMPS, JUMPS + 1, 200] {
            for (case, needle, there) in [
                (Case::Folded, "<ScRipt", true),
                (Case::Folded, "<script", true),
                (Case::Exact, "<script", false),
                (Case::Exact, "<ScRipt", true),
                (Case::Folded, "<a", true),
            ] {
                let text = format!("{}<aScRi<ScRipt>", "<".repeat(before));
                let want = match case {
                    Case::Folded => text.to_lowercase().find(&needle.to_lowercase()),
                    Case::Exact => text.find(needle),
                };
                let found = case.find(text.as_bytes(), needle.as_bytes());
                assert_eq!(found, want, "{needle} in {text}");
                assert_eq!(found.is_some(), there);
            }
        }
    }

    #[test]
    fn wildcards_match_whole_texts() {
        let (many, one) = (WILDCARD_MANY, WILDCARD_ONE);
        let cases: &[(&[u8], &[u8], bool)] = &[
            (b"abc", b"abc", true),
            (b"ABC", b"abc", true),
            (b"abc", &[b'a', many], true),
            (b"abc", &[many, b'c'], true),
            (b"abc", &[many, b'b', many], true),
            (b"abc", &[b'a', one, b'c'], true),
            (b"ac", &[b'a', one, b'c'], false),
            (b"abcbc", &[many, b'b', b'c'], true),
            (b"abcbd", &[many, b'b', b'c'], false),
            (b"", &[many], true),
            (b"", &[one], false),
            (b"a", &[b'a', many, many], true),
        ];
        for (text, pattern, want) in cases {
            assert_eq!(
                Case::Folded.wildcard(text, pattern),
                *want,
                "{text:?} {pattern:?}"
            );
        }
    }
}
