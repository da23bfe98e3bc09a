//! Which unusual bytes a text holds: one pass that tells whether anything else has to look at it.
//!
//! With `simd128` sixteen bytes are classified at a time, by looking up the two halves of each byte:
//!
//! ```text
//! '<' = 0x3c    row 3 has the bits of the classes with a member 0x3_    }  and-ed: the
//!               column c has the bits of those with a member 0x_c       }  classes of '<'
//! ```
//!
//! That is exact for classes whose members form a rectangle of rows and columns; the others are made
//! of several rectangles, a bit each.

/// Sets of bytes that tell whether a text is worth a closer look, as bits of a mask.
pub type Classes = u16;

/// `%`.
pub const PERCENT: Classes = 1;
/// `+`.
pub const PLUS: Classes = 1 << 1;
/// A space; other blanks are control bytes.
pub const SPACE: Classes = 1 << 2;
/// `'`, `"` and the backtick.
pub const QUOTE: Classes = 1 << 3;
/// `<` and `>`.
pub const ANGLE: Classes = 1 << 4;
/// Round brackets.
pub const PAREN: Classes = 1 << 5;
/// Curly and square brackets.
pub const BRACKET: Classes = 1 << 6;
/// `;`.
pub const SEMICOLON: Classes = 1 << 7;
/// `|`.
pub const PIPE: Classes = 1 << 8;
/// `$`.
pub const DOLLAR: Classes = 1 << 9;
/// `\` and `^`.
pub const BACKSLASH: Classes = 1 << 10;
/// Bytes outside ASCII with which something begins that may stand for ASCII: overlong forms, full-width and
/// enclosed letters, odd spaces, quotes and slashes. The letters of most scripts are none.
pub const HIGH: Classes = 1 << 11;
/// Control bytes, NUL, line breaks and tabs among them.
pub const CONTROL: Classes = 1 << 12;
/// `#`, `*`, `!`, `~`, `@`.
pub const MARK: Classes = 1 << 13;
/// `:`.
pub const COLON: Classes = 1 << 14;
/// `&`.
pub const AMPERSAND: Classes = 1 << 15;

const fn class_of(byte: u8) -> Classes {
    match byte {
        b'%' => PERCENT,
        b'+' => PLUS,
        b' ' => SPACE,
        b'\'' | b'"' | b'`' => QUOTE,
        b'<' | b'>' => ANGLE,
        b'(' | b')' => PAREN,
        b'{' | b'}' | b'[' | b']' => BRACKET,
        b';' => SEMICOLON,
        b'|' => PIPE,
        b'$' => DOLLAR,
        b'\\' | b'^' => BACKSLASH,
        0xa0 | 0xc0..=0xc2 | 0xca | 0xcb | 0xe0 | 0xe2 | 0xe3 | 0xef.. => HIGH,
        0..=0x1f | 0x7f => CONTROL,
        b'#' | b'*' | b'!' | b'~' | b'@' => MARK,
        b':' => COLON,
        b'&' => AMPERSAND,
        _ => 0,
    }
}

const CLASS: [Classes; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = class_of(byte as u8);
        byte += 1;
    }
    table
};

/// The classes of all bytes of `text`, together. A letter, a digit or one of `-_./=?,` has none.
#[inline]
pub fn classes(text: &[u8]) -> Classes {
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    return simd::classes(text);
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    one_by_one(text)
}

/// The same, a byte at a time.
#[cfg_attr(
    all(target_arch = "wasm32", target_feature = "simd128"),
    allow(dead_code)
)]
fn one_by_one(text: &[u8]) -> Classes {
    text.iter()
        .fold(0, |mask, &byte| mask | CLASS[usize::from(byte)])
}

/// Looking bytes up by their halves.
#[cfg(any(test, all(target_arch = "wasm32", target_feature = "simd128")))]
mod halves {
    use super::*;

    /// A rectangle of bytes: those whose high half is in `rows` and whose low half is in `columns`
    /// (bit 0 is half-byte 0), and the class that they are in.
    struct Rectangle {
        class: Classes,
        rows: u16,
        columns: u16,
    }

    const fn rectangle(class: Classes, rows: u16, columns: u16) -> Rectangle {
        Rectangle {
            class,
            rows,
            columns,
        }
    }

    /// All classes in rectangles.
    const RECTANGLES: [Rectangle; 23] = [
        rectangle(PERCENT, 1 << 2, 1 << 5),
        rectangle(PLUS, 1 << 2, 1 << 0xb),
        rectangle(SPACE, 1 << 2, 1),
        rectangle(QUOTE, 1 << 2, 1 << 2 | 1 << 7),
        rectangle(QUOTE, 1 << 6, 1),
        rectangle(ANGLE, 1 << 3, 1 << 0xc | 1 << 0xe),
        rectangle(PAREN, 1 << 2, 1 << 8 | 1 << 9),
        rectangle(BRACKET, 1 << 5 | 1 << 7, 1 << 0xb | 1 << 0xd),
        rectangle(SEMICOLON, 1 << 3, 1 << 0xb),
        rectangle(PIPE, 1 << 7, 1 << 0xc),
        rectangle(DOLLAR, 1 << 2, 1 << 4),
        rectangle(BACKSLASH, 1 << 5, 1 << 0xc | 1 << 0xe),
        rectangle(CONTROL, 0b11, 0xffff),
        rectangle(CONTROL, 1 << 7, 1 << 0xf),
        rectangle(MARK, 1 << 2, 1 << 1 | 1 << 3 | 1 << 0xa),
        rectangle(MARK, 1 << 4, 1),
        rectangle(MARK, 1 << 7, 1 << 0xe),
        rectangle(COLON, 1 << 3, 1 << 0xa),
        rectangle(AMPERSAND, 1 << 2, 1 << 6),
        rectangle(HIGH, 1 << 0xa | 1 << 0xc | 1 << 0xe, 1),
        rectangle(HIGH, 1 << 0xc, 0x0c06),
        rectangle(HIGH, 1 << 0xe, 0x800c),
        rectangle(HIGH, 1 << 0xf, 0xffff),
    ];

    /// Lookup tables of eight rectangles: for each half-byte the rectangles that have it as a row, or as
    /// a column.
    const fn table(group: usize, rows: bool) -> [u8; 16] {
        let mut table = [0; 16];
        let mut bit = 0;
        while bit < 8 && group * 8 + bit < RECTANGLES.len() {
            let rectangle = &RECTANGLES[group * 8 + bit];
            let set = if rows {
                rectangle.rows
            } else {
                rectangle.columns
            };
            let mut half = 0;
            while half < 16 {
                if set >> half & 1 != 0 {
                    table[half] |= 1 << bit;
                }
                half += 1;
            }
            bit += 1;
        }
        table
    }

    pub const GROUPS: usize = RECTANGLES.len().div_ceil(8);
    pub const ROWS: [[u8; 16]; GROUPS] = [table(0, true), table(1, true), table(2, true)];
    pub const COLUMNS: [[u8; 16]; GROUPS] = [table(0, false), table(1, false), table(2, false)];

    /// The classes of a group's rectangles.
    pub fn classes_of(group: usize, bits: u8) -> Classes {
        let mut classes = 0;
        let mut bits = bits;
        while bits != 0 {
            let bit = bits.trailing_zeros() as usize;
            classes |= RECTANGLES
                .get(group * 8 + bit)
                .map_or(0, |rectangle| rectangle.class);
            bits &= bits - 1;
        }
        classes
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use simd::load;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd {
    use core::arch::wasm32::*;

    use super::Classes;
    use super::halves::{COLUMNS, GROUPS, ROWS, classes_of};

    /// Sixteen bytes as they stand.
    #[inline]
    pub fn load(bytes: &[u8; 16]) -> v128 {
        let (low, high) = bytes.split_at(8);
        let half = |half: &[u8]| {
            half.first_chunk::<8>()
                .map_or(0, |half| u64::from_le_bytes(*half))
        };
        u64x2(half(low), half(high))
    }

    #[inline]
    pub fn classes(text: &[u8]) -> Classes {
        let rows = ROWS.map(|table| load(&table));
        let columns = COLUMNS.map(|table| load(&table));
        let mut seen = [u8x16_splat(0); GROUPS];
        let mut look = |block: &[u8; 16]| {
            let bytes = load(block);
            let high = u8x16_shr(bytes, 4);
            let low = v128_and(bytes, u8x16_splat(15));
            for group in 0..GROUPS {
                let row = u8x16_swizzle(rows[group], high);
                let column = u8x16_swizzle(columns[group], low);
                seen[group] = v128_or(seen[group], v128_and(row, column));
            }
        };
        let (blocks, rest) = text.as_chunks::<16>();
        for block in blocks {
            look(block);
        }
        if !rest.is_empty() {
            // A letter has no class, so it may fill up the last block.
            let mut last = [b'a'; 16];
            if let Some(start) = last.get_mut(..rest.len()) {
                start.copy_from_slice(rest);
            }
            look(&last);
        }
        if !v128_any_true(v128_or(v128_or(seen[0], seen[1]), seen[2])) {
            return 0;
        }
        (0..GROUPS).fold(0, |classes, group| {
            classes | classes_of(group, any_bits(seen[group]))
        })
    }

    /// The bits that any of the sixteen bytes has.
    #[inline]
    fn any_bits(bytes: v128) -> u8 {
        let word = u64x2_extract_lane::<0>(bytes) | u64x2_extract_lane::<1>(bytes);
        let word = word | word >> 32;
        let word = word | word >> 16;
        (word | word >> 8) as u8
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::halves::{COLUMNS, GROUPS, ROWS, classes_of};
    use super::*;

    /// The rectangles are data for the SIMD form; this holds them to the plain definition.
    #[test]
    fn the_rectangles_say_what_the_classes_say() {
        for byte in 0..=255_u8 {
            let (row, column) = (usize::from(byte >> 4), usize::from(byte & 15));
            let looked_up = (0..GROUPS).fold(0, |classes, group| {
                classes | classes_of(group, ROWS[group][row] & COLUMNS[group][column])
            });
            assert_eq!(looked_up, class_of(byte), "byte {byte:#x}");
        }
    }

    #[test]
    fn classes_add_up() {
        assert_eq!(classes(b"/plain/path-1_2.html?a=b,c"), 0);
        assert_eq!(classes(b"a%20b c"), PERCENT | SPACE);
        assert_eq!(classes("é'д漢".as_bytes()), QUOTE);
        assert_eq!(classes("Ａ\t".as_bytes()), HIGH | CONTROL);
    }
}
