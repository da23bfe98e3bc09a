//! A configuration as a tree, and its values: whole numbers that may be text, names out of a closed set, lists.
//!
//! Every complaint begins with where the value stands (`routes[2].policy.block.status: …`). One type of tree takes
//! in JSON and `google.protobuf.Struct` alike; readers derived for each structure would be more code
//! than all the rest of the policy.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::PolicyError;
use crate::normalise::nested::{DIGITS, NO_DIGIT};

/// A value. A key that is `null` says nothing, like one that is left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// Nothing.
    Null,
    /// A truth.
    Bool(bool),
    /// A number; a `Struct` knows no other.
    Number(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// Keys and values in order, no key twice.
    Map(Vec<(String, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        struct Trees;
        impl<'de> Visitor<'de> for Trees {
            type Value = Tree;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(truth))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Tree, E> {
                Ok(Tree::Number(number as f64))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Tree, E> {
                Ok(Tree::Number(number as f64))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Tree, E> {
                Ok(Tree::Number(number))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Tree::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
                let mut map: Vec<(String, Tree)> = Vec::new();
                while let Some(Key(key)) = entries.next_key::<Key>()? {
                    if map.len() >= MAP_KEYS {
                        return Err(de::Error::custom(format!("more than {MAP_KEYS} keys")));
                    }
                    if map.iter().any(|(known, _)| *known == key) {
                        return Err(de::Error::custom(format!("`{key}` stands there twice")));
                    }
                    map.push((key, entries.next_value()?));
                }
                Ok(Tree::Map(map))
            }
        }
        deserializer.deserialize_any(Trees)
    }
}

/// A key of a map. Not a `String`, whose reader can complain of fractions and so brings the code that writes them.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        match Tree::deserialize(deserializer)? {
            Tree::Text(key) => Ok(Key(key)),
            _ => Err(de::Error::custom("a key is no text")),
        }
    }
}

/// Keys of one map. A configuration has eight, and headers of an answer are few.
pub const MAP_KEYS: usize = 64;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Value<'t> {
    tree: &'t Tree,
    place: String,
}

impl<'t> Value<'t> {
    /// The whole configuration.
    pub fn top(tree: &'t Tree) -> Value<'t> {
        Value {
            tree,
            place: String::new(),
        }
    }

    /// A complaint about this value.
    pub fn refuse(&self, what: &str) -> PolicyError {
        match self.place.as_str() {
            "" => PolicyError::new(what.to_owned()),
            place => PolicyError::new(format!("{place}: {what}")),
        }
    }

    fn expected(&self, what: &str) -> PolicyError {
        let given = match self.tree {
            Tree::Null => "nothing".to_owned(),
            Tree::Bool(truth) => format!("`{truth}`"),
            Tree::Number(number) if number.fract() == 0.0 => format!("`{}`", *number as i64),
            // Writing fractions is seventeen kilobytes of code.
            Tree::Number(_) => "a fraction".to_owned(),
            Tree::Text(text) => format!("`{text}`"),
            Tree::List(_) => "a list".to_owned(),
            Tree::Map(_) => "a map".to_owned(),
        };
        self.refuse(&format!("{given} stands where {what} is expected"))
    }

    fn at(&self, key: &str, tree: &'t Tree) -> Value<'t> {
        let dot = if self.place.is_empty() { "" } else { "." };
        Value {
            tree,
            place: format!("{}{dot}{key}", self.place),
        }
    }

    /// Its keys, which must be among those known.
    pub fn keys(&self, known: &[&str]) -> Result<Keys<'t>, PolicyError> {
        let fields = self.entries()?;
        for (key, _) in fields {
            if !known.contains(&key.as_str()) {
                let near = nearest(key, known.iter().copied(), 2)
                    .map(|near| format!("; did you mean `{near}`?"))
                    .unwrap_or_default();
                let known = known.join("`, `");
                return Err(self.refuse(&format!(
                    "unknown key `{key}`, expected one of `{known}`{near}"
                )));
            }
        }
        Ok(Keys {
            value: self.clone(),
            fields,
        })
    }

    fn entries(&self) -> Result<&'t [(String, Tree)], PolicyError> {
        match self.tree {
            Tree::Map(fields) => Ok(fields),
            _ => Err(self.expected("a map")),
        }
    }

    /// All keys and their texts.
    pub fn texts_by_key(&self) -> Result<Vec<(String, String)>, PolicyError> {
        let mut all = Vec::new();
        for (key, value) in self.entries()? {
            all.push((key.clone(), self.at(key, value).text()?.to_owned()));
        }
        Ok(all)
    }

    /// Its items.
    pub fn list<T>(
        &self,
        item: impl Fn(&Value<'t>) -> Result<T, PolicyError>,
    ) -> Result<Vec<T>, PolicyError> {
        // What does not depend on the items' type is compiled once.
        let items = self.items()?;
        let mut all = Vec::with_capacity(items.len());
        for (at, tree) in items.iter().enumerate() {
            all.push(item(&self.item(at, tree))?);
        }
        Ok(all)
    }

    #[inline(never)]
    fn items(&self) -> Result<&'t [Tree], PolicyError> {
        match self.tree {
            Tree::List(items) => Ok(items),
            _ => Err(self.expected("a list")),
        }
    }

    #[inline(never)]
    fn item(&self, at: usize, tree: &'t Tree) -> Value<'t> {
        Value {
            tree,
            place: format!("{}[{}]", self.place, at + 1),
        }
    }

    /// A text.
    pub fn text(&self) -> Result<&'t str, PolicyError> {
        match self.tree {
            Tree::Text(text) => Ok(text),
            Tree::Bool(truth) => {
                let words = if *truth {
                    "on, yes or y"
                } else {
                    "off, no or n"
                };
                Err(self.expected(&format!(
                    "a text (YAML makes that of a bare {words}; put it in quotes)"
                )))
            }
            _ => Err(self.expected("a text")),
        }
    }

    /// One text, or a list of them.
    pub fn texts(&self) -> Result<Vec<String>, PolicyError> {
        match self.tree {
            Tree::Text(text) => Ok(vec![text.clone()]),
            Tree::List(_) => self.list(|item| Ok(item.text()?.to_owned())),
            _ => Err(self.expected("a text or a list of texts")),
        }
    }

    /// A truth, also as text.
    pub fn truth(&self) -> Result<bool, PolicyError> {
        match self.tree {
            Tree::Bool(truth) => Ok(*truth),
            Tree::Text(text) if text == "true" => Ok(true),
            Tree::Text(text) if text == "false" => Ok(false),
            _ => Err(self.expected("`true` or `false`")),
        }
    }

    /// A whole number within these bounds, also as text: Envoy's YAML loader turns some numbers into strings, and a
    /// Struct knows only floating-point ones.
    pub fn whole(&self, least: u16, most: u16) -> Result<u16, PolicyError> {
        let number = match self.tree {
            Tree::Number(number) if number.fract() == 0.0 && (0.0..9e15).contains(number) => {
                Some(*number as u64)
            }
            Tree::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.and_then(|number| u16::try_from(number).ok());
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.expected(&format!("a whole number from {least} to {most}")))
    }

    /// Bytes in Base64 (RFC 4648, section 4).
    pub fn base64(&self) -> Result<Vec<u8>, PolicyError> {
        let wrong =
            || self.refuse("it is no Base64; `portcullis rules compile --into-config` writes it");
        let text = self.text()?.trim_end().trim_end_matches('=').as_bytes();
        let digit = |digit: u8| DIGITS.get(usize::from(digit)).copied().unwrap_or(NO_DIGIT);
        // A worker waits for this, and rulesets have megabytes: whole groups go the short way.
        let (groups, rest) = text.as_chunks::<4>();
        let mut bytes = vec![0; groups.len() * 3];
        for (&[a, b, c, d], out) in groups.iter().zip(bytes.as_chunks_mut::<3>().0) {
            let (a, b, c, d) = (digit(a), digit(b), digit(c), digit(d));
            if (a | b | c | d) & NO_DIGIT != 0 {
                return Err(wrong());
            }
            let word = u32::from(a) << 18 | u32::from(b) << 12 | u32::from(c) << 6 | u32::from(d);
            let [_, first, second, third] = word.to_be_bytes();
            *out = [first, second, third];
        }
        // Two digits are one byte, three are two; one alone is none.
        let mut word = 0_u32;
        for byte in rest
            .iter()
            .chain(std::iter::repeat_n(&b'A', 4 - rest.len()))
        {
            let value = digit(*byte);
            if value == NO_DIGIT {
                return Err(wrong());
            }
            word = word << 6 | u32::from(value);
        }
        let [_, tail @ ..] = word.to_be_bytes();
        match rest.len() {
            0 => {}
            1 => return Err(wrong()),
            digits => bytes.extend(tail.iter().take(digits - 1)),
        }
        Ok(bytes)
    }

    /// One of several names, in any case.
    pub fn one_of<T: Copy>(&self, names: &[(&str, T)]) -> Result<T, PolicyError> {
        let given = self.text()?;
        let found = names
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(given));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            let near = nearest(given, known.iter().copied(), 2)
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            self.refuse(&format!(
                "`{given}` is none of `{}`{near}",
                known.join("`, `")
            ))
        })
    }
}

/// The keys of a map.
#[derive(Clone, Debug)]
pub struct Keys<'t> {
    value: Value<'t>,
    fields: &'t [(String, Tree)],
}

impl<'t> Keys<'t> {
    /// What stands under a key, read; none if nothing does.
    pub fn get<T>(
        &self,
        key: &str,
        read: impl FnOnce(&Value<'t>) -> Result<T, PolicyError>,
    ) -> Result<Option<T>, PolicyError> {
        match self.find(key) {
            Some(value) => read(&value).map(Some),
            None => Ok(None),
        }
    }

    #[inline(never)]
    fn find(&self, key: &str) -> Option<Value<'t>> {
        let (_, tree) = self.fields.iter().find(|(known, _)| known == key)?;
        (*tree != Tree::Null).then(|| self.value.at(key, tree))
    }

    /// The same; a default if nothing does.
    pub fn or_default<T: Default>(
        &self,
        key: &str,
        read: impl FnOnce(&Value<'t>) -> Result<T, PolicyError>,
    ) -> Result<T, PolicyError> {
        match self.find(key) {
            Some(value) => read(&value),
            None => Ok(T::default()),
        }
    }
}

/// The nearest of these names, if it is near: at most one in `share` of its characters differ.
pub fn nearest<'n>(
    given: &str,
    names: impl Iterator<Item = &'n str>,
    share: usize,
) -> Option<&'n str> {
    names
        .map(|name| (distance(given, name), name))
        .min()
        .filter(|(distance, name)| *distance <= name.len() / share)
        .map(|(_, name)| name)
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    // No known name is longer than a hundred characters.
    for (i, a) in a.chars().take(100).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, b) in row.iter_mut().skip(1).zip(&b) {
            let cost = diagonal + usize::from(a != *b);
            diagonal = *slot;
            left = cost.min(left + 1).min(diagonal + 1);
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn base64_is_read() {
        // The test vectors of RFC 4648, section 10, and every digit.
        let cases: [(&str, &[u8]); 8] = [
            ("", b""),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYg==", b"foob"),
            ("Zm9vYmE=", b"fooba"),
            ("Zm9vYmFy\n", b"foobar"),
            ("+/+/", &[0xfb, 0xff, 0xbf]),
        ];
        for (text, bytes) in cases {
            let tree = Tree::Text(text.to_owned());
            assert_eq!(Value::top(&tree).base64().unwrap(), bytes, "{text}");
        }
        for wrong in ["Z", "Zm9vY", "Zm 9", "Zm-_"] {
            let tree = Tree::Text(wrong.to_owned());
            assert!(Value::top(&tree).base64().is_err(), "{wrong}");
        }
    }
}
