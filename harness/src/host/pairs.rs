//! The ABI's wire format for a list of pairs.
//!
//! A count, then the two lengths of every pair, then the bytes, each piece ended by a NUL; numbers are
//! little-endian `u32`. `[("a", "bc")]` is `01000000 01000000 02000000 'a' 00 'b' 'c' 00`.

/// Appends `pairs` to `out`. An empty list becomes a count of zero.
pub(super) fn write<'a>(
    pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&(pairs.len() as u32).to_le_bytes());
    for (name, value) in pairs.clone() {
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for (name, value) in pairs {
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    }
}

/// Reads pairs written by a plugin. Anything malformed is an empty list, as in Envoy.
pub(super) fn read(bytes: &[u8]) -> Vec<(&[u8], &[u8])> {
    parse(bytes).unwrap_or_default()
}

fn parse(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (count, rest) = bytes.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    let (lengths, mut data) = rest.split_at_checked(count.checked_mul(8)?)?;
    let mut pairs = Vec::with_capacity(count);
    for pair in lengths.chunks_exact(8) {
        let (name, value) = pair.split_first_chunk::<4>()?;
        let value: &[u8; 4] = value.first_chunk()?;
        let name = piece(&mut data, u32::from_le_bytes(*name))?;
        let value = piece(&mut data, u32::from_le_bytes(*value))?;
        pairs.push((name, value));
    }
    Some(pairs)
}

fn piece<'a>(data: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    let (piece, rest) = data.split_at_checked(length as usize)?;
    // Plugins differ in whether they end the very last piece with a NUL.
    *data = rest.get(1..).unwrap_or_default();
    Some(piece)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_format_is_the_documented_one_and_reads_back() {
        let pairs: Vec<(&[u8], &[u8])> = vec![(b"a", b"bc"), (b"", b"\0")];
        let mut bytes = Vec::new();
        write(pairs.iter().copied(), &mut bytes);
        assert_eq!(
            bytes,
            b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0a\0bc\0\0\0\0"
        );
        assert_eq!(read(&bytes), pairs);
    }

    #[test]
    fn malformed_pairs_are_no_pairs() {
        let malformed: &[&[u8]] = &[
            b"",
            b"\x01",
            b"\x01\0\0\0",
            b"\xff\xff\xff\xff\0\0\0\0",
            b"\x01\0\0\0\xff\xff\xff\xff\0\0\0\0a\0",
            b"\x01\0\0\0\x01\0\0\0\x05\0\0\0a\0bc\0",
        ];
        for bytes in malformed {
            assert!(read(bytes).is_empty(), "{bytes:?}");
        }
        assert_eq!(malformed.len(), 6);
    }
}
