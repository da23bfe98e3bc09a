//! Is this a link from a host that is named as senders of spam name theirs?
//!
//! Takes in a URL; gives out its host, if it is spam by its name, and how sure that is. Only the name counts, not the
//! scheme; a name that is less clearly spam counts only in the address of a bare front page, as spam has it.
//!
//! Spam hosts are bought by the thousand and thrown away, so their names are run together from the words
//! of a trade, numbered, transliterated, or made of letters that no word has. No rule of a person's making
//! says that as well as a count of letters does. So the name, between marks for its ends, is taken to
//! pieces of two to four bytes (*grams*), each with a weight, and the weights are added up with a few for
//! the name's shape:
//!
//! ```text
//! http://best-seo-4u.xyz/  ►  ^b be … ^be bes … -seo  seo-  .xyz  xyz$ …   and  #h2 two hyphens, #d1 a digit …
//!                             each +n or -n              sum + bias ≥ threshold?
//! ```
//!
//! The weights were learned by `portcullis train` (a logistic regression) from spam referrers and ordinary hosts;
//! [`weigh`] shows what speaks for a name and what against it. How much the model finds of names that
//! it was not trained on stands in `docs/DETECTION.md`.
//!
//! Cost: three look-ups in a sorted table for each byte of the name.

#[cfg(test)]
mod tests;

use super::{Finding, Gate, LOW, MEDIUM};

/// When a text may hold a URL with a host at all.
pub(super) const GATE: Gate = Gate {
    classes: 0,
    words: &["http"],
};

/// The longest name that DNS allows; a longer one is no host.
const NAME_BYTES: usize = 253;

/// A piece of a name, padded with zeros, or a property of its shape, which begins with `#`.
pub type Gram = [u8; 4];

/// A trained model: [`Model::HEADER`] bytes, then [`Model::RECORD`] bytes for each gram, sorted.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    bytes: &'a [u8],
}

/// The model that ships.
pub const MODEL: Model<'static> = Model {
    bytes: include_bytes!("host/weights.bin"),
};

impl<'a> Model<'a> {
    /// Bias and the thresholds of [`LOW`] and [`MEDIUM`], as little-endian `i16`.
    pub const HEADER: usize = 6;
    /// A gram and its weight.
    pub const RECORD: usize = 5;
    /// What one unit of a trained weight is here.
    pub const SCALE: f64 = 32.0;

    /// Reads a model. Any bytes are one.
    pub const fn new(bytes: &'a [u8]) -> Model<'a> {
        Model { bytes }
    }

    fn header(self, index: usize) -> i32 {
        let at = index * 2;
        match self.bytes.get(at..at + 2) {
            Some(&[low, high]) => i32::from(i16::from_le_bytes([low, high])),
            _ => 0,
        }
    }

    /// How many grams have a weight.
    pub const fn grams(self) -> usize {
        self.bytes.len().saturating_sub(Self::HEADER) / Self::RECORD
    }

    /// The gram and the weight with this number.
    pub fn record(self, index: usize) -> Option<(Gram, i32)> {
        let at = Self::HEADER + index.checked_mul(Self::RECORD)?;
        match self.bytes.get(at..at + Self::RECORD)? {
            &[a, b, c, d, weight] => Some(([a, b, c, d], i32::from(weight as i8))),
            _ => None,
        }
    }

    /// The weight of a gram, 0 if it has none.
    pub fn weight(self, gram: Gram) -> i32 {
        let (mut low, mut high) = (0, self.grams());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.record(middle) {
                Some((known, weight)) if known == gram => return weight,
                Some((known, _)) if known < gram => low = middle + 1,
                _ => high = middle,
            }
        }
        0
    }

    /// How much a name looks like that of a spam host.
    pub fn score(self, name: &[u8]) -> i32 {
        let mut score = self.header(0);
        grams(name, |gram| score += self.weight(gram));
        score
    }

    /// How sure it is that a host with this name is spam.
    pub fn judge(self, name: &[u8]) -> u8 {
        let score = self.score(name);
        if score >= self.header(2) {
            MEDIUM
        } else if score >= self.header(1) {
            LOW
        } else {
            0
        }
    }
}

/// Finds a host that is spam by its name.
#[inline(never)]
pub fn spam(url: &[u8]) -> Option<Finding> {
    let (start, end) = host_of(url)?;
    let confidence = MODEL.judge(url.get(start..end)?);
    let wanted = if is_front_page(url.get(end..)?) {
        LOW
    } else {
        MEDIUM
    };
    (confidence >= wanted).then_some(Finding {
        confidence,
        start,
        end,
    })
}

/// Whether what follows a host's name, its port aside, is nothing or a slash.
fn is_front_page(rest: &[u8]) -> bool {
    let past_port = match rest {
        [b':', port @ ..] => {
            let digits = port.iter().take_while(|byte| byte.is_ascii_digit()).count();
            port.get(digits..).unwrap_or_default()
        }
        _ => rest,
    };
    matches!(past_port, [] | [b'/'])
}

/// What speaks for (positive) and against a name, the heaviest first. For people; it allocates.
pub fn weigh(name: &[u8]) -> Vec<(Gram, i32)> {
    let mut weights: Vec<(Gram, i32)> = Vec::new();
    grams(name, |gram| match MODEL.weight(gram) {
        0 => {}
        weight => weights.push((gram, weight)),
    });
    weights.sort_by_key(|(gram, weight)| (std::cmp::Reverse(weight.abs()), *gram));
    weights
}

/// The part of a URL that is its host's name, without `www.`: nothing if the host is an address, has no dot or
/// holds bytes that no name has.
pub fn host_of(url: &[u8]) -> Option<(usize, usize)> {
    let scheme = match url {
        [a, b, c, d, b':', b'/', b'/', ..]
            if [a, b, c, d].map(u8::to_ascii_lowercase) == *b"http" =>
        {
            7
        }
        [a, b, c, d, e, b':', b'/', b'/', ..]
            if [a, b, c, d, e].map(u8::to_ascii_lowercase) == *b"https" =>
        {
            8
        }
        _ => return None,
    };
    let rest = url.get(scheme..)?;
    let authority = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
        .map_or(rest, |end| rest.get(..end).unwrap_or_default());
    let end = match authority.iter().rposition(|byte| *byte == b':') {
        Some(colon) => colon,
        None => authority.len(),
    };
    let start = match authority.get(..4) {
        Some([w, x, y, b'.']) if [w, x, y].map(u8::to_ascii_lowercase) == *b"www" => 4,
        _ => 0,
    };
    let name = authority.get(start..end)?;
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let last = name.rsplit(|byte| *byte == b'.').next()?;
    let is_host = name.len() <= NAME_BYTES
        && name.contains(&b'.')
        && name.iter().all(is_of_name)
        // The last label of an address is a number; a name below `.onion` is a hash, not words.
        && !last.first()?.is_ascii_digit()
        && !last.eq_ignore_ascii_case(b"onion");
    is_host.then_some((scheme + start, scheme + end))
}

/// Hands out the pieces of a name and its shape, in no order.
pub fn grams(name: &[u8], mut each: impl FnMut(Gram)) {
    // `^` and `$` stand at the ends of a name; before and after them there is nothing.
    let byte = |at: usize| match at.checked_sub(1) {
        None => b'^',
        Some(at) => name.get(at).map_or(b'$', u8::to_ascii_lowercase),
    };
    let length = name.len() + 2;
    for at in 0..length {
        let piece = [byte(at), byte(at + 1), byte(at + 2), byte(at + 3)];
        for size in 2..=4 {
            if at + size <= length {
                let mut gram = [0; 4];
                for (to, from) in gram.iter_mut().zip(piece).take(size) {
                    *to = from;
                }
                each(gram);
            }
        }
    }
    let count = |wanted: fn(&u8) -> bool| name.iter().filter(|byte| wanted(byte)).count();
    let longest = name
        .split(|byte| *byte == b'.')
        .map(<[u8]>::len)
        .max()
        .unwrap_or(0);
    each(shape(b'h', count(|byte| *byte == b'-').min(3)));
    each(shape(b'd', count(u8::is_ascii_digit).min(3)));
    each(shape(b'l', (longest / 3).min(9)));
    each(shape(b'n', count(|byte| *byte == b'.').min(4)));
    each(shape(b'c', consonants(name).min(7)));
}

fn shape(kind: u8, size: usize) -> Gram {
    [b'#', kind, b'0' + size as u8, 0]
}

/// The most consonants in a row: what no language has many of, letters at random have.
fn consonants(name: &[u8]) -> usize {
    let (mut most, mut run) = (0, 0);
    for byte in name {
        let is_vowel = matches!(
            byte.to_ascii_lowercase(),
            b'a' | b'e' | b'i' | b'o' | b'u' | b'y'
        );
        run = if byte.is_ascii_alphabetic() && !is_vowel {
            run + 1
        } else {
            0
        };
        most = most.max(run);
    }
    most
}
