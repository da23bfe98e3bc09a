//! Properties: the tree that `proxy_get_property` reads, and how each kind of value becomes bytes.
//!
//! A path is segments joined with NULs. What it leads to decides the bytes, with no type tag: text is
//! itself, integers and times are eight little-endian bytes, a bool is one byte, a map or list is the pairs
//! format, and a `Metadata` message asked for as a whole is protobuf, while one level below
//! (`….filter_metadata`) it is pairs again.

use super::pairs;
use super::status::Status;

/// A property's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text or bytes, delivered as they are.
    Bytes(Vec<u8>),
    /// A signed number, a duration or a time in nanoseconds: eight bytes.
    Int(i64),
    /// An unsigned number: eight bytes.
    Uint(u64),
    /// A `Struct` number: eight bytes of an IEEE double.
    Double(f64),
    /// One byte.
    Bool(bool),
    /// A map or `Struct`: pairs.
    Map(Vec<(String, Value)>),
    /// A list: pairs with empty values; an element is reached by its index.
    List(Vec<Value>),
    /// An `envoy.config.core.v3.Metadata` with its `filter_metadata`.
    Metadata(Vec<(String, Value)>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Bytes(text.as_bytes().to_vec())
    }
}

impl Value {
    /// The value that `segment` names below this one.
    fn child(&self, segment: &[u8]) -> Option<Step<'_>> {
        match self {
            Value::Map(fields) => fields
                .iter()
                .find(|(name, _)| name.as_bytes() == segment)
                .map(|(_, value)| Step::Value(value)),
            Value::List(items) => {
                let index: usize = std::str::from_utf8(segment).ok()?.parse().ok()?;
                items.get(index).map(Step::Value)
            }
            Value::Metadata(fields) if segment == b"filter_metadata" => Some(Step::Fields(fields)),
            _ => None,
        }
    }

    /// Appends the bytes that a plugin gets for this value.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Bytes(bytes) => out.extend_from_slice(bytes),
            Value::Int(number) => out.extend_from_slice(&number.to_le_bytes()),
            Value::Uint(number) => out.extend_from_slice(&number.to_le_bytes()),
            Value::Double(number) => out.extend_from_slice(&number.to_le_bytes()),
            Value::Bool(truth) => out.push(u8::from(*truth)),
            Value::Map(fields) => write_fields(fields, out),
            Value::List(items) => {
                let items: Vec<Vec<u8>> = items.iter().map(Value::bytes).collect();
                pairs::write(
                    items.iter().map(|item| (item.as_slice(), [].as_slice())),
                    out,
                );
            }
            Value::Metadata(fields) => protobuf::metadata(fields, out),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }
}

enum Step<'a> {
    Value(&'a Value),
    Fields(&'a [(String, Value)]),
}

fn write_fields(fields: &[(String, Value)], out: &mut Vec<u8>) {
    let values: Vec<Vec<u8>> = fields.iter().map(|(_, value)| value.bytes()).collect();
    let pairs = fields
        .iter()
        .zip(&values)
        .map(|((name, _), value)| (name.as_bytes(), value.as_slice()));
    pairs::write(pairs, out);
}

/// A tree of properties that the caller knows and the host cannot derive from the exchange: the route's
/// name and metadata, the node, TLS facts. It is looked at before what the host derives.
///
/// ```
/// use portcullis_harness::host::{Properties, Value};
/// let properties = Properties::default()
///     .with("xds.route_name", "login")
///     .with("connection.tls_version", "TLSv1.3")
///     .with("xds.route_metadata", Value::Metadata(vec![(
///         "portcullis".into(),
///         Value::Map(vec![("tuning".into(), "{\"mode\":\"block\"}".into())]),
///     )]));
/// assert_eq!(properties.get("xds.route_name"), Some(b"login".to_vec()));
/// assert_eq!(
///     properties.get("xds.route_metadata.filter_metadata.portcullis.tuning"),
///     Some(b"{\"mode\":\"block\"}".to_vec())
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties(Vec<(String, Value)>);

impl Properties {
    /// Sets the value at a path of segments joined with dots, and gives the tree back. A segment that has a
    /// dot of its own belongs inside a [`Value::Map`].
    #[must_use]
    pub fn with(mut self, path: &str, value: impl Into<Value>) -> Self {
        let mut fields = &mut self.0;
        let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
        for segment in parents.split('.').filter(|segment| !segment.is_empty()) {
            let at = position(fields, segment, || Value::Map(Vec::new()));
            let slot = &mut fields[at].1;
            if !matches!(slot, Value::Map(_)) {
                *slot = Value::Map(Vec::new());
            }
            let Value::Map(inner) = slot else { return self };
            fields = inner;
        }
        let value = value.into();
        let at = position(fields, last, || Value::Bool(false));
        fields[at].1 = value;
        self
    }

    /// The bytes a plugin gets for a path of segments joined with dots.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let status = self.find(&path.replace('.', "\0").into_bytes(), &mut bytes);
        (status == Some(Status::Ok)).then_some(bytes)
    }

    /// Appends the value at `path` (segments joined with NULs) to `out`; `None` if the tree has no such path.
    pub(super) fn find(&self, path: &[u8], out: &mut Vec<u8>) -> Option<Status> {
        let mut step = Step::Fields(&self.0);
        for segment in path.split(|byte| *byte == 0) {
            step = match step {
                Step::Value(value) => value.child(segment)?,
                Step::Fields(fields) => {
                    let (_, value) = fields.iter().find(|(name, _)| name.as_bytes() == segment)?;
                    Step::Value(value)
                }
            };
        }
        match step {
            Step::Value(value) => value.write(out),
            Step::Fields(fields) => write_fields(fields, out),
        }
        Some(Status::Ok)
    }
}

/// Where `name` is in `fields`; it is added if it is not there.
fn position(
    fields: &mut Vec<(String, Value)>,
    name: &str,
    absent: impl FnOnce() -> Value,
) -> usize {
    match fields.iter().position(|(field, _)| field == name) {
        Some(at) => at,
        None => {
            fields.push((name.to_owned(), absent()));
            fields.len() - 1
        }
    }
}

/// Just enough protobuf to write a `Metadata` message.
mod protobuf {
    use super::Value;

    pub(super) fn metadata(fields: &[(String, Value)], out: &mut Vec<u8>) {
        map(1, fields, strukt, out);
    }

    /// `map<string, T>` as field `number`, where `value` writes the T.
    fn map(
        number: u8,
        fields: &[(String, Value)],
        value: fn(&Value, &mut Vec<u8>),
        out: &mut Vec<u8>,
    ) {
        for (name, field) in fields {
            let mut entry = Vec::new();
            piece(1, name.as_bytes(), &mut entry);
            let mut inner = Vec::new();
            value(field, &mut inner);
            piece(2, &inner, &mut entry);
            piece(number, &entry, out);
        }
    }

    fn strukt(value: &Value, out: &mut Vec<u8>) {
        if let Value::Map(fields) = value {
            map(1, fields, any, out);
        }
    }

    /// A `google.protobuf.Value`.
    fn any(value: &Value, out: &mut Vec<u8>) {
        let mut inner = Vec::new();
        match value {
            Value::Bytes(bytes) => piece(3, bytes, out),
            Value::Double(number) => double(*number, out),
            Value::Int(number) => double(*number as f64, out),
            Value::Uint(number) => double(*number as f64, out),
            Value::Bool(truth) => out.extend([4 << 3, u8::from(*truth)]),
            Value::Map(_) => {
                strukt(value, &mut inner);
                piece(5, &inner, out);
            }
            Value::List(items) => {
                for item in items {
                    let mut element = Vec::new();
                    any(item, &mut element);
                    piece(1, &element, &mut inner);
                }
                piece(6, &inner, out);
            }
            // A message cannot stand inside a Struct.
            Value::Metadata(_) => {}
        }
    }

    fn double(number: f64, out: &mut Vec<u8>) {
        out.push(2 << 3 | 1);
        out.extend_from_slice(&number.to_le_bytes());
    }

    fn piece(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
        out.push(number << 3 | 2);
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_kind_of_value_has_its_bytes() {
        let struct_value = Value::Map(vec![
            ("s".into(), "text".into()),
            ("n".into(), Value::Double(1.5)),
            ("b".into(), Value::Bool(true)),
            ("l".into(), Value::List(vec!["x".into(), "y".into()])),
        ]);
        let tree = Properties::default()
            .with("a.int", Value::Int(-2))
            .with("a.uint", Value::Uint(3))
            .with("a.meta", Value::Metadata(vec![("ns".into(), struct_value)]));
        let list = b"\x02\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0x\0\0y\0\0".to_vec();
        let cases: &[(&str, Option<Vec<u8>>)] = &[
            ("a.int", Some((-2i64).to_le_bytes().to_vec())),
            ("a.uint", Some(3u64.to_le_bytes().to_vec())),
            ("a.meta.filter_metadata.ns.s", Some(b"text".to_vec())),
            (
                "a.meta.filter_metadata.ns.n",
                Some(1.5f64.to_le_bytes().to_vec()),
            ),
            ("a.meta.filter_metadata.ns.b", Some(vec![1])),
            ("a.meta.filter_metadata.ns.l", Some(list)),
            ("a.meta.filter_metadata.ns.l.1", Some(b"y".to_vec())),
            ("a.meta.filter_metadata.ns.l.2", None),
            ("a.meta.filter_metadata.ns.l.x", None),
            ("a.meta.filter_metadata.absent", None),
            ("a.meta.typed_filter_metadata", None),
            ("a.int.deeper", None),
            ("b", None),
        ];
        for (path, expected) in cases {
            assert_eq!(tree.get(path), *expected, "{path}");
        }
        assert_eq!(cases.len(), 13);
    }

    #[test]
    fn metadata_as_a_whole_is_protobuf_and_below_it_is_pairs() {
        let fields = vec![("k".to_string(), Value::Bool(true))];
        let tree = Properties::default().with(
            "m",
            Value::Metadata(vec![("ns".into(), Value::Map(fields))]),
        );
        // Metadata { filter_metadata: { "ns": Struct { fields: { "k": true } } } }
        let expected = b"\x0a\x0f\x0a\x02ns\x12\x09\x0a\x07\x0a\x01k\x12\x02\x20\x01";
        assert_eq!(tree.get("m"), Some(expected.to_vec()));
        let inner = b"\x01\0\0\0\x01\0\0\0\x01\0\0\0k\0\x01\0";
        let outer: Vec<u8> = [
            b"\x01\0\0\0\x02\0\0\0\x10\0\0\0ns\0".as_slice(),
            inner,
            b"\0",
        ]
        .concat();
        assert_eq!(tree.get("m.filter_metadata"), Some(outer));
    }

    #[test]
    fn a_later_value_replaces_an_earlier_one() {
        let tree = Properties::default()
            .with("a", "1")
            .with("a.b", "2")
            .with("a.b", "3");
        assert_eq!(tree.get("a.b"), Some(b"3".to_vec()));
    }
}
