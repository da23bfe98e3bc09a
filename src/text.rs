//! Comparing bytes without regard to ASCII case, and wildcard patterns.
//!
//! Sigma compares text without regard to case. We fold ASCII only: URLs and headers are ASCII, and
//! folding more would need tables that no request pays for. `docs/RULES.md` says so to authors.

use crate::ruleset::layout::{WILDCARD_MANY, WILDCARD_ONE, fold_gram};
use crate::structure::Steps;

/// Steps that a search costs whatever the text, and the bytes that it jumps over in one.
const SEARCH_STEPS: u32 = 8;
const JUMPED_A_STEP: u32 = 12;

/// Bytes of a text that is searched for the first byte of a needle, rather than its rarest.
const SHORT: usize = 64;
/// Bytes that jumps of a search may fall short of what they cost before it goes on step by step.
const CREDIT: usize = 512;
/// What a jump costs, in bytes that are read step by step.
const JUMP: usize = 12;

/// Letters and what stands between them, the commonest in URLs and prose first.
const COMMON: &[u8] = b"e tao/inrs.lcdmp=hu-g0f1b2yw_3k59v&4768,:;+x%j'q()\"z<>";

/// How rare a byte is in most texts, whatever its case.
const RARITY: [u8; 256] = {
    let mut table = [u8::MAX; 256];
    let mut rank = 0;
    while rank < COMMON.len() {
        let byte = COMMON[rank];
        table[byte as usize] = rank as u8;
        table[byte.to_ascii_uppercase() as usize] = rank as u8;
        rank += 1;
    }
    table
};

/// The rarest byte of a text, and where it stands.
#[inline]
fn rarest(text: &[u8]) -> Option<(usize, u8)> {
    let bytes = text.iter().copied().take(PLACES).enumerate();
    bytes.max_by_key(|(_, byte)| RARITY[usize::from(*byte)])
}

/// Bytes of a needle among which its rarest is looked for.
const PLACES: usize = 6;

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
        self.find_within(text, needle, &Steps::unlimited())
    }

    /// The same, as far as the steps go.
    pub fn find_within(self, text: &[u8], needle: &[u8], steps: &Steps) -> Option<usize> {
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
        if !steps.take(SEARCH_STEPS + bytes / JUMPED_A_STEP) {
            return None;
        }
        let first = needle.first().map(|byte| (0, *byte));
        // In a short text there is little to be saved.
        let Some((place, byte)) = first
            .filter(|_| text.len() < SHORT)
            .or_else(|| rarest(needle))
        else {
            return Some(0);
        };
        let last = text.len().checked_sub(needle.len())?;
        let (lower, upper) = match self {
            Case::Exact => (byte, byte),
            Case::Folded => (byte.to_ascii_lowercase(), byte.to_ascii_uppercase()),
        };
        let mut from = 0;
        // Where the byte is a common one, jumping to it costs more than it saves.
        let mut credit = CREDIT;
        while from <= last {
            let starts = text.get(from + place..=last + place)?;
            let step = match lower == upper {
                true => memchr::memchr(lower, starts),
                false => memchr::memchr2(lower, upper, starts),
            }?;
            from += step;
            if self.equal(text.get(from..from + needle.len())?, needle) {
                return Some(from);
            }
            from += 1;
            credit = (credit + step).min(CREDIT).saturating_sub(JUMP);
            if credit == 0
                && let Some(start) = needle.first_chunk::<4>()
            {
                let rest = u32::try_from(text.len() - from).unwrap_or(u32::MAX);
                if !steps.take(rest) {
                    return None;
                }
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
        // The last four bytes that were read, folded.
        let mut window = 0;
        for (at, &byte) in text.iter().enumerate().skip(from) {
            window = window >> 8 | u32::from(byte | 0x20) << 24;
            if window == start
                && let Some(first) = at.checked_sub(3).filter(|first| *first >= from)
                && let Some(there) = text.get(first..first + needle.len())
                && self.equal(there, needle)
            {
                return Some(first);
            }
        }
        None
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
        for before in [0, 1, 40, 41, 42, 43, 44, 45, 200, 600] {
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
