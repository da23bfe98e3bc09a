//! A request's headers, read in place.
//!
//! Takes in either a slice of pairs (harness, tests, browser) or a block in the layout in which
//! proxy-wasm hosts hand over a whole header map. Gives out `(name, value)` pairs of bytes.
//!
//! The block: `u32` count, then for each pair the two `u32` lengths of name and value, then each
//! name and value followed by a NUL. All numbers are little-endian. A block that lies about its
//! lengths ends the iteration at the first pair that does not fit; [`Headers::damaged`] tells.

/// Headers of one request, in order, pseudo headers (`:path`, `:method`) among them.
#[derive(Clone, Copy, Debug)]
pub enum Headers<'a> {
    /// Pairs that already are in memory as such.
    Pairs(&'a [(&'a [u8], &'a [u8])]),
    /// A serialised header map as a proxy-wasm host returns it.
    Block(&'a [u8]),
}

impl<'a> Headers<'a> {
    /// Walks over all headers.
    #[inline]
    pub fn iter(self) -> Iter<'a> {
        match self {
            Headers::Pairs(pairs) => Iter::Pairs(pairs.iter()),
            Headers::Block(block) => {
                let count = read_u32(block, 0).unwrap_or(0) as usize;
                let sizes_end = 4usize.saturating_add(count.saturating_mul(8));
                let (sizes, data) = match (block.get(4..sizes_end), block.get(sizes_end..)) {
                    (Some(sizes), Some(data)) => (sizes, data),
                    _ => (&[][..], &[][..]),
                };
                Iter::Block { sizes, data }
            }
        }
    }

    /// Value of the first header with this lower-case name.
    pub fn get(self, name: &[u8]) -> Option<&'a [u8]> {
        self.iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The host that the request is for: `:authority`, or else `host`.
    pub fn host(self) -> Option<&'a [u8]> {
        self.get(b":authority").or_else(|| self.get(b"host"))
    }

    /// Whether a block promises more than it holds.
    pub fn damaged(self) -> bool {
        match self {
            Headers::Pairs(_) => false,
            Headers::Block(block) => {
                let promised = read_u32(block, 0).unwrap_or(0) as usize;
                self.iter().count() != promised
            }
        }
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*word))
}

/// See [`Headers::iter`].
#[derive(Clone, Debug)]
pub enum Iter<'a> {
    /// Over pairs in memory.
    Pairs(std::slice::Iter<'a, (&'a [u8], &'a [u8])>),
    /// Over a serialised map.
    Block {
        /// What is left of the table of lengths.
        sizes: &'a [u8],
        /// What is left of names and values.
        data: &'a [u8],
    },
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Iter::Pairs(pairs) => pairs.next().copied(),
            Iter::Block { sizes, data } => {
                let (lengths, more) = sizes.split_first_chunk::<8>()?;
                let [a, b, c, d, e, f, g, h] = *lengths;
                let name_len = u32::from_le_bytes([a, b, c, d]) as usize;
                let value_len = u32::from_le_bytes([e, f, g, h]) as usize;
                // Sums that wrap, as lengths near 2^32 make them on wasm32, are refused like those past the end.
                let end = name_len
                    .checked_add(value_len)
                    .and_then(|both| both.checked_add(2));
                let Some((pair, rest)) = end.and_then(|end| data.split_at_checked(end)) else {
                    *sizes = &[];
                    return None;
                };
                let (name, value) = pair.split_at_checked(name_len)?;
                *sizes = more;
                *data = rest;
                Some((name, value.get(1..value_len + 1)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Serialises pairs as a host does.
    pub(crate) fn block(pairs: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = (pairs.len() as u32).to_le_bytes().to_vec();
        for (name, value) in pairs {
            out.extend((name.len() as u32).to_le_bytes());
            out.extend((value.len() as u32).to_le_bytes());
        }
        for (name, value) in pairs {
            out.extend(name.as_bytes());
            out.push(0);
            out.extend(*value);
            out.push(0);
        }
        out
    }

    #[test]
    fn a_block_reads_like_the_pairs_it_was_made_of() {
        let pairs: [(&str, &[u8]); 3] =
            [(":path", b"/a?b"), ("user-agent", b"x\xff\0y"), ("e", b"")];
        let block = block(&pairs);
        let read: Vec<_> = Headers::Block(&block).iter().collect();
        assert_eq!(read.len(), 3);
        for ((name, value), (n, v)) in pairs.iter().zip(read) {
            assert_eq!((name.as_bytes(), *value), (n, v));
        }
        assert!(!Headers::Block(&block).damaged());
    }

    #[test]
    fn a_block_cut_anywhere_never_reads_past_its_end() {
        let whole = block(&[(":path", b"/a?b"), ("user-agent", b"curl"), ("x", b"1")]);
        for len in 0..whole.len() {
            let cut = whole.get(..len).unwrap();
            assert!(Headers::Block(cut).iter().count() <= 2, "cut at {len}");
            if len >= 4 {
                assert!(Headers::Block(cut).damaged(), "cut at {len}");
            }
        }
    }

    #[test]
    fn lengths_that_lie_end_the_walk() {
        let mut lying = block(&[("a", b"b")]);
        lying
            .get_mut(4..8)
            .unwrap()
            .copy_from_slice(&u32::MAX.to_le_bytes());
        lying
            .get_mut(8..12)
            .unwrap()
            .copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Headers::Block(&lying).iter().count(), 0);
        let mut count = block(&[("a", b"b")]);
        count
            .get_mut(0..4)
            .unwrap()
            .copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Headers::Block(&count).iter().count(), 0);
    }
}
