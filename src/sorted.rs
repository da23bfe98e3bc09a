//! Sorting in little code.
//!
//! The library's sorts are fast on long lists and some six kilobytes of module each, and a gateway compiles every
//! kilobyte in every worker. What is sorted here is short and belongs to a request that raised something.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Sorts by a number; what has the same number keeps its order.
pub(crate) fn by_key<T>(list: &mut Vec<T>, key: impl Fn(&T) -> u64) {
    let keys = list.iter().map(key).enumerate();
    let mut heap: BinaryHeap<Reverse<(u64, usize)>> =
        keys.map(|(place, key)| Reverse((key, place))).collect();
    let mut items: Vec<Option<T>> = list.drain(..).map(Some).collect();
    while let Some(Reverse((_, place))) = heap.pop() {
        list.extend(items.get_mut(place).and_then(Option::take));
    }
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
        }
    }
}
