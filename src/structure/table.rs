//! Tables of words that are looked for at many places and hardly ever found.

/// Which pairs of first two bytes the words of a table begin with: one look says that none of them
/// stands here. Letters count the same in either case.
pub struct Initials([u32; 256]);

impl Initials {
    /// The initials of `words`; words shorter than two bytes do not count.
    pub const fn of(words: &[&str]) -> Initials {
        Initials([0; 256]).and(words)
    }

    /// With the initials of more words.
    pub const fn and(mut self, words: &[&str]) -> Initials {
        let mut index = 0;
        while index < words.len() {
            self = self.and_word(words[index]);
            index += 1;
        }
        self
    }

    /// With the initials of one more word.
    pub const fn and_word(mut self, word: &str) -> Initials {
        if let [first, second, ..] = word.as_bytes() {
            self.add(*first, *second);
        }
        self
    }

    /// Adds a pair.
    pub const fn add(&mut self, first: u8, second: u8) {
        self.0[first.to_ascii_lowercase() as usize] |= 1 << (second & 31);
    }

    /// Whether a word of the table may begin here.
    #[inline]
    pub fn may_begin(&self, text: &[u8]) -> bool {
        match text {
            [first, second, ..] => self.pair(*first, *second),
            _ => false,
        }
    }

    /// The same for two bytes.
    #[inline]
    pub fn pair(&self, first: u8, second: u8) -> bool {
        self.0[usize::from(first.to_ascii_lowercase())] >> (second & 31) & 1 != 0
    }
}
