//! The known word that a misspelt one was most likely meant to be.

/// The known words nearest to `word`, best first, at most three; none if nothing is near.
///
/// "Near" is a third of the word's length in single-character edits, letter case not counting: `containz` is
/// one edit from `contains`, `foo` is near nothing. Costs the product of both lengths for each known word.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Vec<&'k str> {
    let word: Vec<char> = word
        .chars()
        .take(WORD_CHARS + 1)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if word.len() > WORD_CHARS {
        return Vec::new();
    }
    let allowed = word.len().div_ceil(3);
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter(|known| known.len().abs_diff(word.len()) <= 2 * allowed)
        .map(|known| (distance(&word, known), known))
        .filter(|(edits, known)| *edits <= allowed && *edits < known.len())
        .collect();
    near.sort();
    near.dedup();
    let best = near.first().map_or(0, |(edits, _)| *edits);
    near.into_iter()
        .take_while(|(edits, _)| *edits <= best + 1)
        .take(3)
        .map(|(_, known)| known)
        .collect()
}

/// Words longer than this many characters are near nothing.
const WORD_CHARS: usize = 64;

/// Edits (insert, delete, replace, swap of neighbours) between `word` and `known`, case not counting.
fn distance(word: &[char], known: &str) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=word.len()).collect();
    let mut previous = None;
    for (row, c) in known.chars().map(|c| c.to_ascii_lowercase()).enumerate() {
        let mut next = vec![row + 1];
        for (column, w) in word.iter().enumerate() {
            let at = |cells: &[usize], column: usize| {
                cells.get(column).copied().unwrap_or(usize::MAX - 1)
            };
            let mut best = at(&last, column) + usize::from(*w != c);
            best = best
                .min(at(&last, column + 1) + 1)
                .min(at(&next, column) + 1);
            let swapped = column > 0 && previous == Some(*w) && word.get(column - 1) == Some(&c);
            if swapped {
                best = best.min(at(&before, column - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut last, next);
        previous = Some(c);
    }
    last.last().copied().unwrap_or(0)
}

/// "write `a` or `b`" for what [`nearest`] found; otherwise `fallback`.
pub fn suggest<'k>(
    word: &str,
    known: impl IntoIterator<Item = &'k str>,
    fallback: impl FnOnce() -> String,
) -> String {
    match nearest(word, known).as_slice() {
        [] => fallback(),
        words => format!("did you mean {}?", list(words, "or")),
    }
}

/// "`a`, `b` or `c`".
pub fn list(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [before @ .., end] => {
            let before: Vec<String> = before.iter().map(|word| format!("`{word}`")).collect();
            format!("{} {last} `{end}`", before.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = [
            "contains",
            "startswith",
            "endswith",
            "cs-uri-query",
            "cs-uri-stem",
        ];
        let cases: &[(&str, &[&str])] = &[
            ("containz", &["contains"]),
            ("CONTAINS", &["contains"]),
            ("conatins", &["contains"]),
            ("startwith", &["startswith"]),
            ("cs-uri-qurey", &["cs-uri-query"]),
            ("foo", &[]),
            ("", &[]),
        ];
        for (word, expected) in cases {
            assert_eq!(&nearest(word, known), expected, "{word}");
        }
        assert!(nearest(&"x".repeat(100_000), known).is_empty());
    }
}
