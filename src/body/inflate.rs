//! Deflate (RFC 1951), undone at a cost that who wrote it cannot drive up.
//!
//! A decoder that is fast on honest data builds tables for each block, and a block may have ten bits and nothing in it: with one that
//! takes 80,000 instructions for them, 111 bytes in two codings cost four billion. Here a block costs what its code lengths
//! cost to read and to sort, and a symbol at most fifteen steps, one for each of its bits:
//!
//! ```text
//! lengths of a, b, c, d    2 1 3 3
//! codes, by length         b 0    a 10    c 110    d 111      (counts 1 1 2, symbols b a c d)
//! 1 1 0                    no code of one bit, none of two, the first of three: c
//! ```
//!
//! Only once a block has had [`EARNED`] symbols is a table of its short codes written, which has cost less than they did.

/// Bits of the longest code.
const LONGEST: usize = 15;
/// Symbols of all codes of a block together: of literals and lengths 288, of distances 32.
const SYMBOLS: usize = 320;
/// The symbol that ends a block.
const END: u16 = 256;
/// Bits of the codes that a table has.
const SHORT: u32 = 10;
/// Symbols of a block behind which its codes are worth a table each.
const EARNED: u32 = 32;
/// Bytes that are copied at once, where there is room for more of them than are asked for.
const AT_ONCE: usize = 8;
/// A copy of more bytes is made by the host's own instruction.
const SHORT_COPY: usize = 32;
/// Bytes for which room is made at least.
const ROOM: usize = 1024;

/// What each symbol of a length says, from the one behind [`END`] on: the shortest, and how many bits tell by how much it is
/// longer.
const LENGTHS: [(u16, u8); 29] = {
    let mut lengths = [(0, 0); 29];
    let mut symbol = 0;
    while symbol < lengths.len() {
        let (group, step) = (symbol as u16 / 4, symbol as u16 % 4);
        lengths[symbol] = match group {
            0 => (3 + step, 0),
            7 => (258, 0),
            _ => (3 + ((4 + step) << (group - 1)), group as u8 - 1),
        };
        symbol += 1;
    }
    lengths
};

/// The same of distances.
const DISTANCES: [(u16, u8); 30] = {
    let mut distances = [(0, 0); 30];
    let mut symbol = 0;
    while symbol < distances.len() {
        let (group, step) = (symbol as u16 / 2, symbol as u16 % 2);
        distances[symbol] = match group {
            0 => (1 + step, 0),
            _ => (1 + ((2 + step) << (group - 1)), group as u8 - 1),
        };
        symbol += 1;
    }
    distances
};

/// Why there is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The last block was there.
    Whole,
    /// There would be more than the limit.
    Cut,
    /// It breaks off, or it is no such data.
    Broken,
}

/// Appends what `content` is the deflated form of to `out`, up to so many bytes in all. Gives also what follows it.
pub fn inflate<'c>(content: &'c [u8], most: usize, out: &mut Vec<u8>) -> (Ending, &'c [u8]) {
    let mut stream = Stream {
        content,
        at: 0,
        bits: 0,
        count: 0,
        start: out.len(),
        end: out.len(),
        most,
        out,
        short: [Vec::new(), Vec::new()],
    };
    let mut fixed = None;
    let ending = loop {
        match stream.block(&mut fixed) {
            Ok(false) => {}
            Ok(true) => break Ending::Whole,
            Err(ending) => break ending,
        }
    };
    stream.give_back();
    stream.out.truncate(stream.end);
    (ending, content.get(stream.at..).unwrap_or_default())
}

/// A canonical code: what symbols have how long a code follows from the lengths alone.
struct Code {
    /// How many symbols have a code of each length.
    counts: [u16; LONGEST + 1],
    /// The symbols by the length of their code.
    symbols: [u16; SYMBOLS],
}

impl Code {
    /// None if there are more codes than there can be. With fewer, some bits are no symbol.
    fn new(lengths: &[u8]) -> Option<Code> {
        let mut counts = [0_u16; LONGEST + 1];
        for length in lengths {
            *counts.get_mut(usize::from(*length))? += 1;
        }
        if let Some(none) = counts.first_mut() {
            *none = 0;
        }
        let (mut left, mut place) = (1_i32, 0);
        let mut places = [0_u16; LONGEST + 1];
        for (count, first) in counts.iter().zip(&mut places).skip(1) {
            left = (left << 1) - i32::from(*count);
            if left < 0 {
                return None;
            }
            *first = place;
            place += count;
        }
        let mut symbols = [0; SYMBOLS];
        for (symbol, length) in (0..).zip(lengths).filter(|(_, length)| **length > 0) {
            let place = places.get_mut(usize::from(*length))?;
            *symbols.get_mut(usize::from(*place))? = symbol;
            *place += 1;
        }
        Some(Code { counts, symbols })
    }

    /// Writes the table of short codes.
    #[inline(never)]
    fn write_short(&self, to: &mut Vec<u16>) {
        if to.is_empty() {
            to.resize(1 << SHORT, 0);
        }
        // All others are written from it, or anew.
        if let Some(first) = to.first_mut() {
            *first = 0;
        }
        let mut symbols = self.symbols.iter();
        let mut code = 0_u32;
        for (length, count) in (0..=SHORT).zip(&self.counts).skip(1) {
            // What is told by fewer bits is told by them whatever the next one is.
            let told = 1 << (length - 1);
            to.copy_within(..told, told);
            code <<= 1;
            for symbol in symbols.by_ref().take(usize::from(*count)) {
                // The first bit of a code is the lowest one.
                let place = code.reverse_bits() >> (32 - length);
                code += 1;
                if let Some(entry) = to.get_mut(place as usize) {
                    *entry = symbol | (length as u16) << LENGTH_AT;
                }
            }
        }
    }

    /// The codes of blocks that bring none of their own.
    fn fixed() -> Option<(Code, Code)> {
        let mut lengths = [8; 288];
        lengths.get_mut(144..256)?.fill(9);
        lengths.get_mut(256..280)?.fill(7);
        Some((Code::new(&lengths)?, Code::new(&[5; 30])?))
    }
}

/// For the next [`SHORT`] bits the symbol that they begin with, and above [`LENGTH_AT`] the length of its code; 0 if that is
/// longer.
type Short = [u16; 1 << SHORT];

/// Where the length of a code begins in an entry of a table.
const LENGTH_AT: u32 = 9;

/// The entry for these bits: length and symbol.
#[inline(always)]
fn entry(short: &Short, bits: u64) -> (u32, u16) {
    let entry = short.get(bits as usize % short.len()).copied();
    let entry = entry.unwrap_or(0);
    (u32::from(entry) >> LENGTH_AT, entry % (1 << LENGTH_AT))
}

struct Stream<'c, 'o> {
    content: &'c [u8],
    /// Where the bytes begin of which no bit was taken.
    at: usize,
    /// Bits that were taken and not used, the next one lowest.
    bits: u64,
    count: u32,
    /// Where in `out` this stream begins: what is before is nothing to copy from.
    start: usize,
    /// Where it ends so far: what `out` has behind that is room.
    end: usize,
    most: usize,
    out: &'o mut Vec<u8>,
    /// The tables of the last block that has earned them, of symbols and of distances.
    short: [Vec<u16>; 2],
}

impl Stream<'_, '_> {
    /// Takes bits until there are so many, at most 16, or no more.
    #[inline]
    fn take(&mut self, count: u32) {
        if self.count >= count {
            return;
        }
        let rest = self.content.get(self.at..).unwrap_or_default();
        if let Some(four) = rest.first_chunk() {
            self.bits |= u64::from(u32::from_le_bytes(*four)) << self.count;
            self.count += u32::BITS;
            self.at += four.len();
            return;
        }
        for byte in rest {
            self.bits |= u64::from(*byte) << self.count;
            self.count += 8;
            self.at += 1;
        }
    }

    /// Gives back the bytes of which no bit was used, and lets go the rest of one that was begun.
    fn give_back(&mut self) {
        self.at -= self.count as usize / 8;
        (self.bits, self.count) = (0, 0);
    }

    /// The next so many bits, at most 16.
    #[inline]
    fn bits(&mut self, count: u32) -> Result<u16, Ending> {
        self.take(count);
        self.count = self.count.checked_sub(count).ok_or(Ending::Broken)?;
        let value = self.bits as u32 & ((1 << count) - 1);
        self.bits >>= count;
        Ok(value as u16)
    }

    fn symbol(&mut self, code: &Code) -> Result<u16, Ending> {
        self.take(LONGEST as u32);
        // The code so far, the first code of this length, and the place of its symbol.
        let (mut value, mut first, mut place) = (0_u32, 0, 0);
        let (mut bits, mut left) = (self.bits, self.count);
        for count in code.counts.iter().skip(1) {
            left = left.checked_sub(1).ok_or(Ending::Broken)?;
            value |= bits as u32 & 1;
            bits >>= 1;
            let count = u32::from(*count);
            if value < first + count {
                (self.bits, self.count) = (bits, left);
                let symbol = code.symbols.get((place + (value - first)) as usize);
                return symbol.copied().ok_or(Ending::Broken);
            }
            place += count;
            first = (first + count) << 1;
            value <<= 1;
        }
        Err(Ending::Broken)
    }

    /// Makes room for so many bytes, or for as many as there may be. How many those are.
    fn make_room(&mut self, bytes: usize) -> usize {
        let bytes = bytes.min(self.most.saturating_sub(self.end));
        if self.out.len() < self.end + bytes {
            // As much again as this stream has: what stands before it was paid for by others.
            let wanted = self.end + bytes.max(ROOM).max(self.end - self.start);
            self.out.resize(wanted.min(self.most), 0);
        }
        bytes
    }

    fn push(&mut self, byte: u8) -> Result<(), Ending> {
        self.make_room(1);
        *self.out.get_mut(self.end).ok_or(Ending::Cut)? = byte;
        self.end += 1;
        Ok(())
    }

    /// One block. Whether it was the last. `fixed` are the codes of blocks that bring none, made once, if at all.
    fn block(&mut self, fixed: &mut Option<(Code, Code)>) -> Result<bool, Ending> {
        let is_last = self.bits(1)? == 1;
        match self.bits(2)? {
            0 => self.stored()?,
            1 => {
                if fixed.is_none() {
                    *fixed = Code::fixed();
                }
                let (symbols, distances) = fixed.as_ref().ok_or(Ending::Broken)?;
                self.coded(symbols, distances)?;
            }
            2 => {
                let (symbols, distances) = self.codes()?;
                self.coded(&symbols, &distances)?;
            }
            _ => return Err(Ending::Broken),
        }
        Ok(is_last)
    }

    /// Bytes as they are, behind their number and its complement.
    fn stored(&mut self) -> Result<(), Ending> {
        self.give_back();
        let (count, check) = (self.bits(16)?, self.bits(16)?);
        if count != !check {
            return Err(Ending::Broken);
        }
        let rest = self.content.get(self.at..).unwrap_or_default();
        let count = usize::from(count);
        let bytes = rest.get(..count).unwrap_or(rest);
        self.at += bytes.len();
        let room = self.make_room(bytes.len());
        let to = self.out.get_mut(self.end..self.end + room);
        if let (Some(to), Some(fit)) = (to, bytes.get(..room)) {
            to.copy_from_slice(fit);
            self.end += room;
        }
        match bytes.len() {
            more if more > room => Err(Ending::Cut),
            fewer if fewer < count => Err(Ending::Broken),
            _ => Ok(()),
        }
    }

    /// The codes that a block brings: their lengths, in a code of their own.
    fn codes(&mut self) -> Result<(Code, Code), Ending> {
        const ORDER: [u8; 19] = [
            16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
        ];
        let symbols = usize::from(self.bits(5)?) + 257;
        let distances = usize::from(self.bits(5)?) + 1;
        let given = usize::from(self.bits(4)?) + 4;
        let mut lengths = [0; SYMBOLS];
        for place in ORDER.iter().take(given) {
            let length = self.bits(3)? as u8;
            *lengths.get_mut(usize::from(*place)).ok_or(Ending::Broken)? = length;
        }
        let code = lengths.get(..ORDER.len()).and_then(Code::new);
        let code = code.ok_or(Ending::Broken)?;
        lengths.fill(0);
        let (mut at, mut last) = (0, 0);
        while at < symbols + distances {
            let (length, times) = match self.symbol(&code)? {
                16 => (last, self.bits(2)? + 3),
                17 => (0, self.bits(3)? + 3),
                18 => (0, self.bits(7)? + 11),
                length => (length as u8, 1),
            };
            let end = at + usize::from(times);
            lengths.get_mut(at..end).ok_or(Ending::Broken)?.fill(length);
            (at, last) = (end, length);
        }
        let distances = lengths.get(symbols..symbols + distances);
        let symbols = lengths.get(..symbols).and_then(Code::new);
        match (symbols, distances.and_then(Code::new)) {
            (Some(symbols), Some(distances)) => Ok((symbols, distances)),
            _ => Err(Ending::Broken),
        }
    }

    /// What stands in a block: bytes, and copies of what came before.
    fn coded(&mut self, symbols: &Code, distances: &Code) -> Result<(), Ending> {
        let mut read = 0_u32;
        loop {
            read = read.saturating_add(1);
            if read == EARNED {
                let [of_symbols, of_distances] = &mut self.short;
                symbols.write_short(of_symbols);
                distances.write_short(of_distances);
            }
            if read >= EARNED && self.short_ones() {
                return Ok(());
            }
            let symbol = self.symbol(symbols)?;
            if let Ok(byte) = u8::try_from(symbol) {
                self.push(byte)?;
                continue;
            }
            if symbol == END {
                return Ok(());
            }
            let length = LENGTHS.get(usize::from(symbol - END - 1));
            let length = self.number(length)?;
            let distance = DISTANCES.get(usize::from(self.symbol(distances)?));
            let distance = self.number(distance)?;
            self.copy(usize::from(length), usize::from(distance))?;
        }
    }

    fn number(&mut self, of_symbol: Option<&(u16, u8)>) -> Result<u16, Ending> {
        let (least, more) = of_symbol.ok_or(Ending::Broken)?;
        Ok(least + self.bits(u32::from(*more))?)
    }

    /// What comes next, as long as codes are short and there is no end near. Whether that of the block was there.
    fn short_ones(&mut self) -> bool {
        self.make_room(ROOM);
        let [symbols, distances] = &self.short;
        let (Some(symbols), Some(distances)) = (symbols.first_chunk(), distances.first_chunk())
        else {
            return false;
        };
        let out = self.out.as_mut_slice();
        let mut rest = self.content.get(self.at..).unwrap_or_default();
        let (mut bits, mut count, mut end) = (self.bits, self.count, self.end);
        let is_end = loop {
            // A length, a distance and how much longer each is take this many bits at most.
            if count < 2 * SHORT + 5 + 13 {
                let Some(eight) = rest.first_chunk() else {
                    break false;
                };
                bits |= u64::from_le_bytes(*eight) << count;
                let taken = (u64::BITS - 1 - count) / 8;
                count += taken * 8;
                rest = rest.get(taken as usize..).unwrap_or_default();
            }
            let (length, symbol) = entry(symbols, bits);
            if length == 0 {
                break false;
            }
            if symbol < END {
                let Some(place) = out.get_mut(end) else {
                    break false;
                };
                *place = symbol as u8;
                end += 1;
                bits >>= length;
                count -= length;
                continue;
            }
            if symbol == END {
                bits >>= length;
                count -= length;
                break true;
            }
            // Nothing is taken before all of a copy is known.
            let mut taken = length;
            let Some((least, more)) = LENGTHS.get(usize::from(symbol - END - 1)) else {
                break false;
            };
            let length = least + (bits >> taken) as u16 % (1 << more);
            taken += u32::from(*more);
            let (of_distance, symbol) = entry(distances, bits >> taken);
            let told = DISTANCES
                .get(usize::from(symbol))
                .filter(|_| of_distance > 0);
            let Some((least, more)) = told else {
                break false;
            };
            taken += of_distance;
            let distance = least + (bits >> taken) as u16 % (1 << more);
            taken += u32::from(*more);
            let (length, distance) = (usize::from(length), usize::from(distance));
            if distance > end - self.start || out.len() - end < length + AT_ONCE {
                break false;
            }
            copy(out, end, length, distance);
            end += length;
            bits >>= taken;
            count -= taken;
        };
        (self.bits, self.count, self.end) = (bits, count, end);
        self.at = self.content.len() - rest.len();
        is_end
    }

    /// Appends so many bytes of those that stand so far back, which may be fewer and then come again.
    fn copy(&mut self, length: usize, distance: usize) -> Result<(), Ending> {
        if distance > self.end - self.start {
            return Err(Ending::Broken);
        }
        let room = self.make_room(length);
        copy(self.out, self.end, room, distance);
        self.end += room;
        match length > room {
            true => Err(Ending::Cut),
            false => Ok(()),
        }
    }
}

/// Copies so many bytes of those that begin so far in front of `end` to there.
#[inline]
fn copy(out: &mut [u8], end: usize, length: usize, distance: usize) {
    let from = end - distance;
    if length <= SHORT_COPY && distance >= AT_ONCE && out.len() - end >= length + AT_ONCE {
        for at in (0..length).step_by(AT_ONCE) {
            let bytes = out.get(from + at..).and_then(|rest| rest.first_chunk());
            let bytes: [u8; AT_ONCE] = bytes.copied().unwrap_or_default();
            if let Some(to) = out
                .get_mut(end + at..)
                .and_then(|rest| rest.first_chunk_mut())
            {
                *to = bytes;
            }
        }
        return;
    }
    let (mut left, mut to) = (length, end);
    while left > 0 {
        // What is there already repeats those bytes.
        let step = left.min(to - from);
        out.copy_within(from..from + step, to);
        to += step;
        left -= step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniz_oxide::deflate::compress_to_vec;
    use miniz_oxide::inflate::TINFLStatus;
    use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

    const MOST: usize = 20_000;

    /// What another decoder makes of it.
    fn otherwise(content: &[u8]) -> (Ending, Vec<u8>, usize) {
        let mut out = vec![0; MOST];
        let mut state = DecompressorOxide::new();
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, read, written) = decompress(&mut state, content, &mut out, 0, flags);
        out.truncate(written);
        let ending = match status {
            TINFLStatus::Done => Ending::Whole,
            TINFLStatus::HasMoreOutput => Ending::Cut,
            _ => Ending::Broken,
        };
        (ending, out, read)
    }

    fn ours(content: &[u8]) -> (Ending, Vec<u8>, usize) {
        let mut out = b"before".to_vec();
        let (ending, rest) = inflate(content, MOST + 6, &mut out);
        (ending, out.split_off(6), content.len() - rest.len())
    }

    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 33) as usize % bound
        }
    }

    /// Words, repeated and not, and bytes.
    fn text(numbers: &mut Numbers) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..numbers.below(60) {
            match numbers.below(5) {
                0 => text.extend(b"id=1' or '1'='1".repeat(1 + numbers.below(90))),
                1 => text.extend((0..numbers.below(90)).map(|_| numbers.below(256) as u8)),
                2 => {
                    let at = numbers.below(text.len() + 1);
                    let end = text.split_off(at);
                    text.extend(end.repeat(2));
                }
                _ => text.push(b'a'),
            }
            text.truncate(2 * MOST);
        }
        text
    }

    #[test]
    fn what_others_deflate_is_inflated() {
        let mut numbers = Numbers(7);
        let (mut whole, mut cut) = (0, 0);
        for round in 0..600 {
            let text = text(&mut numbers);
            let level = (round % 11) as u8;
            let mut packed = compress_to_vec(&text, level);
            let len = packed.len();
            packed.extend(b"behind");
            let (ending, out, read) = ours(&packed);
            match text.len() > MOST {
                true => assert_eq!((ending, &*out), (Ending::Cut, &text[..MOST])),
                false => assert_eq!((ending, &out, read), (Ending::Whole, &text, len)),
            }
            whole += usize::from(ending == Ending::Whole);
            cut += usize::from(ending == Ending::Cut);
            // Wherever it breaks off, there is what came before.
            let start = &packed[..numbers.below(len)];
            let (ending, out, _) = ours(start);
            assert!(ending != Ending::Whole && text.starts_with(&out));
            assert!(out.len() >= otherwise(start).1.len());
        }
        assert!(whole > 300 && cut > 50, "{whole} whole, {cut} cut");
    }

    #[test]
    fn what_is_no_deflate_ends_where_it_does_for_others() {
        let mut numbers = Numbers(11);
        let mut broken = 0;
        for round in 0..4_000 {
            let mut packed = match round % 3 {
                0 => (0..numbers.below(80))
                    .map(|_| numbers.below(256) as u8)
                    .collect(),
                _ => compress_to_vec(&text(&mut numbers), (round % 11) as u8),
            };
            packed.truncate(600);
            for _ in 0..numbers.below(3) {
                let at = numbers.below(packed.len() + 1);
                if let Some(byte) = packed.get_mut(at) {
                    *byte ^= 1 << numbers.below(8);
                }
            }
            let (ending, out, read) = ours(&packed);
            let (other, known, known_read) = otherwise(&packed);
            // What the other takes is taken; what it gives up on may be read further, but never otherwise.
            assert!(out.starts_with(&known), "{}", packed.escape_ascii());
            if other != Ending::Broken {
                assert_eq!((ending, &out), (other, &known), "{}", packed.escape_ascii());
            }
            if other == Ending::Whole {
                assert_eq!(read, known_read, "{}", packed.escape_ascii());
            }
            broken += usize::from(ending == Ending::Broken);
        }
        assert!(broken > 1_000, "{broken}");
    }

    #[test]
    fn nothing_from_before_the_stream_is_copied() {
        // A fixed block that copies three bytes from one byte back, at its very beginning.
        let (ending, out, _) = ours(&[0b0000_0011, 0b0000_0010, 0]);
        assert_eq!((ending, &*out), (Ending::Broken, &b""[..]));
    }
}
