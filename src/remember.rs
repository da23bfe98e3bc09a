//! Texts that were looked at before and concerned no rule.
//!
//! A gateway sees the same few hundred User-Agents and Referers all day, and each holds the brackets and
//! semicolons that structural detectors wait for; most of what is asked for are the same pages, scripts and pictures.
//! What was found harmless once is harmless every time, as
//! long as only rules that read nothing else were concerned; so the engine keeps such texts, whole, and
//! compares before it looks again. No hash decides: a text that differs in one byte is another text.
//!
//! Memory: at most the texts of one memory times the bytes of the longest, see [`Remembered::new`].

use crate::field::Lane;

/// See the module.
#[derive(Debug)]
pub struct Remembered {
    /// Bytes of the longest text that is kept.
    longest: usize,
    /// Sets of [`WAYS`] texts; a text belongs to one set, anywhere in it.
    sets: Vec<[Option<Known>; WAYS]>,
    /// Which text of its set is forgotten next.
    next: usize,
    /// Marks of texts that were there once: a text that never comes again takes no place.
    seen: Vec<u16>,
}

/// Marks of texts that were there once; a power of two.
const SEEN: usize = 2048;

/// Texts of a set. A gateway's common texts are far fewer than there are places, but some of them always
/// fall together, and two that push each other out would be looked at for ever.
const WAYS: usize = 4;

#[derive(Debug)]
struct Known {
    hash: u32,
    lane: Lane,
    text: Box<[u8]>,
}

impl Remembered {
    /// A memory for so many texts of at most so many bytes.
    pub fn new(texts: usize, longest: usize) -> Remembered {
        Remembered {
            longest,
            sets: std::iter::repeat_with(Default::default)
                .take(texts / WAYS)
                .collect(),
            next: 0,
            seen: vec![0; SEEN],
        }
    }

    /// Whether this text was harmless in this lane before.
    #[inline]
    pub fn has(&self, lane: Lane, text: &[u8]) -> bool {
        if text.len() > self.longest {
            return false;
        }
        let hash = hash_of(lane, text);
        let known =
            |known: &Known| known.hash == hash && known.lane == lane && same(&known.text, text);
        self.sets
            .get(hash as usize % self.sets.len().max(1))
            .is_some_and(|set| set.iter().flatten().any(known))
    }

    /// Notes that this text was there. Returns whether it was there before and is short enough to be kept: the first
    /// time, looking at it again costs less than keeping what never comes again, which would push out what does.
    pub fn comes_again(&mut self, lane: Lane, text: &[u8]) -> bool {
        if text.len() > self.longest {
            return false;
        }
        let hash = hash_of(lane, text);
        let [.., low, high] = hash.to_le_bytes();
        let mark = u16::from_le_bytes([low, high]) | 1;
        let Some(seen) = self.seen.get_mut(hash as usize % SEEN) else {
            return false;
        };
        std::mem::replace(seen, mark) == mark
    }

    /// Keeps a harmless text, in place of one of its set.
    pub fn keep(&mut self, lane: Lane, text: &[u8]) {
        if text.len() > self.longest || self.has(lane, text) {
            return;
        }
        let hash = hash_of(lane, text);
        let sets = self.sets.len().max(1);
        let Some(set) = self.sets.get_mut(hash as usize % sets) else {
            return;
        };
        self.next = self.next.wrapping_add(1);
        let free = set.iter().position(Option::is_none);
        if let Some(place) = set.get_mut(free.unwrap_or(self.next % WAYS)) {
            *place = Some(Known {
                hash,
                lane,
                text: text.into(),
            });
        }
    }
}

/// Whether two texts are one, eight bytes at a time: in wasm a comparison of slices goes byte by byte.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    let ((a_words, a_rest), (b_words, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let word = |word: &[u8; 8]| u64::from_le_bytes(*word);
    a.len() == b.len()
        && a_rest == b_rest
        && a_words.iter().zip(b_words).all(|(a, b)| word(a) == word(b))
}

/// Where a text belongs. Every byte counts: browsers' User-Agents differ in one digit somewhere.
#[inline]
fn hash_of(lane: Lane, text: &[u8]) -> u32 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: &[u8; 8]| {
        (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(MULTIPLIER)
    };
    let seed = (text.len() as u64) << 8 ^ lane as u64;
    let (words, _) = text.as_chunks::<8>();
    let hash = words.iter().fold(seed, mix);
    let hash = text.last_chunk::<8>().map_or(hash, |last| mix(hash, last));
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_text_in_the_same_lane_is_remembered() {
        let longest = 512;
        let mut remembered = Remembered::new(1024, longest);
        let text = b"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0";
        assert!(!remembered.has(Lane::UserAgent, text));
        remembered.keep(Lane::UserAgent, text);
        assert!(remembered.has(Lane::UserAgent, text));
        assert!(!remembered.has(Lane::Referer, text));
        for at in 0..text.len() {
            let mut other = text.to_vec();
            if let Some(byte) = other.get_mut(at) {
                *byte ^= 1;
            }
            assert!(!remembered.has(Lane::UserAgent, &other), "byte {at}");
        }
        let long = vec![b'a'; longest + 1];
        remembered.keep(Lane::UserAgent, &long);
        assert!(!remembered.has(Lane::UserAgent, &long));
        assert!(!remembered.comes_again(Lane::UserAgent, &long));
        assert!(!remembered.comes_again(Lane::UserAgent, &long));
        assert!(!remembered.comes_again(Lane::UserAgent, b"curl"));
        assert!(remembered.comes_again(Lane::UserAgent, b"curl"));
        remembered.keep(Lane::UserAgent, b"");
        assert!(remembered.has(Lane::UserAgent, b""));
    }
}
