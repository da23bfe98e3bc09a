//! The wire format of `google.protobuf.Struct`, which is what Envoy hands over when a plugin is
//! configured with one (and not JSON, whatever its documentation says).
//!
//! Source: the protobuf encoding specification, and `google/protobuf/struct.proto`.

use super::values::{MAP_KEYS, Tree};

/// Nesting that is followed. A configuration needs four levels.
const DEPTH: usize = 16;

/// Reads a Struct; none if the bytes are not one.
pub fn read(bytes: &[u8]) -> Option<Tree> {
    fields(bytes, DEPTH).map(Tree::Map)
}

/// One field of a message: its number and its value.
enum Wire<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
}

fn next<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let key = varint(bytes)?;
    let wire = match key & 7 {
        0 => Wire::Varint(varint(bytes)?),
        1 => {
            let (head, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Wire::Fixed64(*head)
        }
        2 => {
            let len = usize::try_from(varint(bytes)?).ok()?;
            let (head, rest) = bytes.split_at_checked(len)?;
            *bytes = rest;
            Wire::Bytes(head)
        }
        _ => return None,
    };
    Some((key >> 3, wire))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// `map<string, Value> fields = 1`: each entry is a message of a key (1) and a value (2).
fn fields(mut bytes: &[u8], depth: usize) -> Option<Vec<(String, Tree)>> {
    let depth = depth.checked_sub(1)?;
    let mut map: Vec<(String, Tree)> = Vec::new();
    while !bytes.is_empty() {
        let (1, Wire::Bytes(mut entry)) = next(&mut bytes)? else {
            return None;
        };
        let (mut key, mut value) = (String::new(), Tree::Null);
        while !entry.is_empty() {
            match next(&mut entry)? {
                (1, Wire::Bytes(text)) => key = String::from_utf8(text.to_vec()).ok()?,
                (2, Wire::Bytes(inner)) => value = self::value(inner, depth)?,
                _ => return None,
            }
        }
        // A map on the wire may name a key twice; the last one counts.
        map.retain(|(known, _)| *known != key);
        if map.len() >= MAP_KEYS {
            return None;
        }
        map.push((key, value));
    }
    Some(map)
}

/// `oneof kind`: null 1, number 2, string 3, bool 4, struct 5, list 6.
fn value(mut bytes: &[u8], depth: usize) -> Option<Tree> {
    let depth = depth.checked_sub(1)?;
    let mut value = Tree::Null;
    while !bytes.is_empty() {
        value = match next(&mut bytes)? {
            (1, Wire::Varint(_)) => Tree::Null,
            (2, Wire::Fixed64(number)) => Tree::Number(f64::from_le_bytes(number)),
            (3, Wire::Bytes(text)) => Tree::Text(String::from_utf8(text.to_vec()).ok()?),
            (4, Wire::Varint(flag)) => Tree::Bool(flag != 0),
            (5, Wire::Bytes(inner)) => Tree::Map(fields(inner, depth)?),
            (6, Wire::Bytes(mut list)) => {
                let mut items = Vec::new();
                while !list.is_empty() {
                    let (1, Wire::Bytes(item)) = next(&mut list)? else {
                        return None;
                    };
                    items.push(self::value(item, depth)?);
                }
                Tree::List(items)
            }
            _ => return None,
        };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(number: u8, wire: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | wire];
        if wire == 2 {
            out.push(body.len() as u8);
        }
        out.extend(body);
        out
    }

    fn entry(key: &str, value: &[u8]) -> Vec<u8> {
        message(
            1,
            2,
            &[message(1, 2, key.as_bytes()), message(2, 2, value)].concat(),
        )
    }

    #[test]
    fn reads_what_envoy_sends() {
        let inner = [
            entry("min_confidence", &message(2, 1, &60.0_f64.to_le_bytes())),
            entry("on", &message(4, 0, &[1])),
        ]
        .concat();
        let list = message(1, 2, &message(3, 2, b"a"));
        let whole = [
            entry("mode", &message(3, 2, b"block")),
            entry("block", &message(5, 2, &inner)),
            entry("list", &message(6, 2, &list)),
        ]
        .concat();
        assert_eq!(
            read(&whole).unwrap(),
            serde_json::from_str(
                r#"{"mode": "block", "block": {"min_confidence": 60.0, "on": true}, "list": ["a"]}"#
            )
            .unwrap()
        );
        for len in 1..whole.len() {
            let cut = whole.get(..len).unwrap();
            let is_less = |read| matches!(read, Tree::Map(map) if map.len() < 3);
            assert!(read(cut).is_none_or(is_less), "cut at {len}");
        }
        let deep = (0..40).fold(message(4, 0, &[1]), |inner, _| {
            message(
                6,
                2,
                &message(1, 2, inner.get(..inner.len().min(120)).unwrap()),
            )
        });
        assert!(value(&deep, DEPTH).is_none());
    }
}
