//! Sorting in little code.
//!
//! The library's sorts are fast on long lists and some six kilobytes of module for each type that they sort, and V8 compiles
//! every kilobyte before a gateway is ready. What is sorted here is short and belongs to a request that raised something, so
//! one merge sort of places serves all types, and only the swaps that follow from it are compiled for each.

use std::cmp::Ordering;

/// Sorts by a number; what has the same number keeps its order.
pub(crate) fn by_key<T, N: Into<i128>>(list: &mut [T], key: impl Fn(&T) -> N) {
    let keys: Vec<i128> = list.iter().map(|item| key(item).into()).collect();
    let compare = |one: usize, other: usize| keys.get(one).cmp(&keys.get(other));
    apply(list, &swaps(keys.len(), &compare));
}

/// Sorts by a text; what has the same text keeps its order.
pub(crate) fn by_text<T>(list: &mut [T], text: impl Fn(&T) -> &[u8]) {
    let texts: Vec<&[u8]> = list.iter().map(text).collect();
    let compare = |one: usize, other: usize| texts.get(one).cmp(&texts.get(other));
    let swaps = swaps(texts.len(), &compare);
    apply(list, &swaps);
}

fn apply<T>(list: &mut [T], swaps: &[(usize, usize)]) {
    for places in swaps {
        if let Ok([one, other]) = list.get_disjoint_mut([places.0, places.1]) {
            std::mem::swap(one, other);
        }
    }
}

/// The swaps that bring `count` items into order, fewer than `count`, one after the other.
#[inline(never)]
fn swaps(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut width = 1;
    while width < count {
        let mut merged = Vec::with_capacity(count);
        for run in order.chunks(width.saturating_mul(2)) {
            let (mut left, mut right) = run.split_at(width.min(run.len()));
            loop {
                match (left, right) {
                    ([], []) => break,
                    ([one, rest @ ..], [other, ..])
                        if compare(*one, *other) != Ordering::Greater =>
                    {
                        merged.push(*one);
                        left = rest;
                    }
                    (_, [other, rest @ ..]) => {
                        merged.push(*other);
                        right = rest;
                    }
                    ([one, rest @ ..], []) => {
                        merged.push(*one);
                        left = rest;
                    }
                }
            }
        }
        order = merged;
        width = width.saturating_mul(2);
    }
    // Where the item at each place has to go.
    let mut goals = vec![0; count];
    for (goal, place) in order.iter().enumerate() {
        if let Some(slot) = goals.get_mut(*place) {
            *slot = goal;
        }
    }
    let mut swaps = Vec::new();
    for place in 0..count {
        while let Some(goal) = goals.get(place).copied().filter(|goal| *goal != place) {
            swaps.push((place, goal));
            goals.swap(place, goal);
        }
    }
    swaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_as_the_library_does() {
        for count in 0..200_u64 {
            let mut list: Vec<(u64, u64)> = (0..count)
                .map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60, n))
                .collect();
            let mut expected = list.clone();
            expected.sort_by_key(|(key, _)| *key);
            by_key(&mut list, |(key, _)| *key);
            assert_eq!(list, expected);
            let mut texts: Vec<(String, u64)> = list
                .iter()
                .rev()
                .map(|(key, n)| (format!("{key:x}"), *n))
                .collect();
            let mut expected = texts.clone();
            expected.sort_by(|(one, _), (other, _)| one.cmp(other));
            by_text(&mut texts, |(text, _)| text.as_bytes());
            assert_eq!(texts, expected);
        }
    }
}
