//! The plainer views of one event, computed once, and only where something is there to undo.
//!
//! Takes in raw fields. Appends what decoding yields to one buffer that is reused from event to
//! event, and remembers which range of it is what. Every range is scanned when it is made, which
//! keeps the prefilter's promise: each text that a rule may ask about lies within a scanned one.

use crate::event::{Text, View};
use crate::field::Field;
use crate::limits;
use crate::normalise::{self, Classes, Signs, escapes, nested, path, percent};
use crate::sorted;
use crate::structure;

/// Classes of bytes that say that a header's value has something to undo.
const ENCODED: Classes = normalise::PERCENT
    | normalise::HIGH
    | normalise::CONTROL
    | normalise::BACKSLASH
    | normalise::AMPERSAND;

/// The same for URLs, where `&` separates and `+` stands for a space.
const ENCODED_URL: Classes = ENCODED & !normalise::AMPERSAND | normalise::PLUS;

/// A range of the buffer.
type Range = std::ops::Range<usize>;

/// Shown each new text with its classes of bytes. One type for all callers: decoding is compiled once.
type Scan<'s> = &'s mut dyn FnMut(&[u8], Classes);

/// One view of one field.
#[derive(Clone, Debug)]
struct Piece {
    /// Index of the header that it was made of.
    header: usize,
    field: Field,
    view: View,
    name: Range,
    bytes: Range,
    part: bool,
}

/// Decoded views of the fields of one event.
#[derive(Debug, Default)]
pub struct Decoded {
    buffer: Vec<u8>,
    pieces: Vec<Piece>,
    signs: Signs,
    truncated: bool,
}

impl Decoded {
    /// Forgets the last event, and the memory of an uncommonly large one.
    #[inline]
    pub fn clear(&mut self) {
        if self.buffer.capacity() > limits::FIELD_BYTES {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        self.pieces.clear();
        self.signs = Signs::default();
        self.truncated = false;
    }

    /// How many views there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Encodings met so far that are suspicious in themselves.
    pub fn signs(&self) -> Signs {
        self.signs
    }

    /// Whether some field had more values than are told apart.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// Whether a decoded view is made of a header's value with these classes of bytes.
    #[inline]
    pub const fn decodes(url: bool, classes: Classes) -> bool {
        classes & if url { ENCODED_URL } else { ENCODED } != 0
    }

    /// Adds the views of a URL (the request target, a Referer) that is header number `header`.
    /// `scan` is shown each new text with its classes of bytes, the separators of a query not counted.
    pub fn url(
        &mut self,
        header: usize,
        field: Field,
        url: &[u8],
        classes: Classes,
        scan: Scan<'_>,
    ) {
        let target = field == Field::Uri;
        if Decoded::decodes(true, classes) {
            let first = self.pieces.len();
            let start = self.buffer.len();
            let stem_end = self.decode_url(header, field, url);
            scan(
                self.text(start..self.buffer.len()),
                self.classes_from(first),
            );
            if let Some(query) = split_url(url).1.filter(|_| target) {
                self.other_readings(header, Field::QueryValue, query, scan);
            }
            self.unnest_from(first, scan);
            self.unescape_from(first, scan);
            let stem = self.text(start..stem_end);
            if target && path::needs_resolving(stem, normalise::classes(stem)) {
                let stem = self.text(start..stem_end).to_vec();
                self.resolve(header, &stem, scan);
            }
            return;
        }
        let (stem, query) = split_url(url);
        if let Some(query) = query {
            // A separator or a comment, and nothing is encoded here.
            if target && classes & (normalise::SEMICOLON | normalise::MARK) != 0 {
                let first = self.pieces.len();
                self.other_readings(header, Field::QueryValue, query, scan);
                self.unescape_from(first, scan);
            }
            if nested::may_nest_within(query, classes) {
                self.unnest_query(header, field, query, scan);
            }
        }
        if target && path::needs_resolving(stem, classes) {
            self.resolve(header, stem, scan);
        }
    }

    /// Adds the views of a header that is not a URL, if it has something to undo.
    #[inline]
    pub fn value(
        &mut self,
        header: usize,
        field: Field,
        name: &[u8],
        value: &[u8],
        classes: Classes,
        scan: Scan<'_>,
    ) {
        if Decoded::decodes(false, classes) {
            self.decode_value(header, field, name, value, scan);
        }
    }

    fn decode_value(
        &mut self,
        header: usize,
        field: Field,
        name: &[u8],
        value: &[u8],
        scan: Scan<'_>,
    ) {
        let first = self.pieces.len();
        let name = self.push(name);
        let bytes = self.decode(value, false);
        scan(
            self.text(bytes.clone()),
            normalise::classes(self.text(bytes.clone())),
        );
        self.pieces.push(Piece {
            header,
            field,
            view: View::Decoded,
            name,
            bytes,
            part: false,
        });
        self.unescape_from(first, scan);
    }

    /// Adds the decoded cookies of a `Cookie` header, if it has something to undo.
    #[inline]
    pub fn cookies(&mut self, header: usize, value: &[u8], classes: Classes, scan: Scan<'_>) {
        if Decoded::decodes(false, classes) {
            self.decode_cookies(header, value, scan);
        }
    }

    fn decode_cookies(&mut self, header: usize, value: &[u8], scan: Scan<'_>) {
        let first = self.pieces.len();
        let start = self.buffer.len();
        let mut truncated = false;
        for cookie in bounded_split(value, b';', &mut truncated) {
            self.pair(header, Field::CookieValue, cookie.trim_ascii_start(), false);
        }
        self.truncated |= truncated;
        scan(
            self.text(start..self.buffer.len()),
            self.classes_from(first),
        );
        self.unescape_from(first, scan);
    }

    /// Adds the decoded values of a body, which is written as a query.
    pub fn values(&mut self, header: usize, query: &[u8], classes: Classes, scan: Scan<'_>) {
        let field = Field::BodyValue;
        if !Decoded::decodes(true, classes) {
            let first = self.pieces.len();
            self.other_readings(header, field, query, scan);
            self.unescape_from(first, scan);
            return self.unnest_query(header, field, query, scan);
        }
        let first = self.pieces.len();
        let start = self.buffer.len();
        let mut truncated = false;
        for pair in bounded_split(query, b'&', &mut truncated) {
            self.pair(header, field, pair, true);
        }
        self.truncated |= truncated;
        scan(
            self.text(start..self.buffer.len()),
            self.classes_from(first),
        );
        self.other_readings(header, field, query, scan);
        self.unnest_from(first, scan);
        self.unescape_from(first, scan);
    }

    /// The texts that were made of header number `header`.
    pub fn texts(&self, header: usize) -> impl Iterator<Item = Text<'_>> {
        self.pieces
            .iter()
            .filter(move |piece| piece.header == header)
            .map(|piece| Text {
                field: piece.field,
                view: piece.view,
                name: self.text(piece.name.clone()),
                bytes: self.text(piece.bytes.clone()),
                part: piece.part,
                superseded: false,
            })
    }

    fn text(&self, range: Range) -> &[u8] {
        self.buffer.get(range).unwrap_or_default()
    }

    /// The classes of the pieces from `first` on that are no whole with separators in it.
    fn classes_from(&self, first: usize) -> Classes {
        let pieces = self.pieces.get(first..).unwrap_or_default();
        pieces
            .iter()
            .filter(|piece| !matches!(piece.field, Field::Uri | Field::UriQuery))
            .fold(0, |classes, piece| {
                classes | telling(self.text(piece.bytes.clone()))
            })
    }

    fn push(&mut self, bytes: &[u8]) -> Range {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        start..self.buffer.len()
    }

    fn decode(&mut self, bytes: &[u8], plus: bool) -> Range {
        let start = self.buffer.len();
        percent::decode(bytes, plus, &mut self.buffer, &mut self.signs);
        start..self.buffer.len()
    }

    /// Decodes a URL part by part, so that an encoded `&` separates nothing. Returns where its stem
    /// ends in the buffer.
    fn decode_url(&mut self, header: usize, field: Field, url: &[u8]) -> usize {
        let target = field == Field::Uri;
        let (stem, query) = split_url(url);
        let whole = |field, bytes, part| Piece {
            header,
            field,
            view: View::Decoded,
            name: 0..0,
            bytes,
            part,
        };
        let stem = self.decode(stem, false);
        self.pieces.push(whole(
            if target { Field::UriStem } else { field },
            stem.clone(),
            !target,
        ));
        if let Some(query) = query {
            self.buffer.push(b'?');
            let start = self.buffer.len();
            let mut truncated = false;
            for (index, pair) in bounded_split(query, b'&', &mut truncated).enumerate() {
                if index > 0 {
                    self.buffer.push(b'&');
                }
                self.pair(
                    header,
                    if target { Field::QueryValue } else { field },
                    pair,
                    true,
                );
            }
            self.truncated |= truncated;
            if target {
                self.pieces
                    .push(whole(Field::UriQuery, start..self.buffer.len(), false));
            }
        }
        self.pieces
            .push(whole(field, stem.start..self.buffer.len(), false));
        stem.end
    }

    /// Decodes one `name=value` and notes its texts. A value without a name has an empty one.
    fn pair(&mut self, header: usize, field: Field, pair: &[u8], plus: bool) {
        let (name, value) = split_pair(pair);
        let part = !field.is_value();
        let name = match name {
            Some(name) => {
                let name = self.decode(name, plus);
                self.buffer.push(b'=');
                name
            }
            None => 0..0,
        };
        let bytes = self.decode(value, plus);
        if !is_plain_name(self.text(name.clone())) {
            let piece = Piece {
                header,
                field,
                view: View::Decoded,
                name: name.clone(),
                bytes: name.clone(),
                part,
            };
            self.pieces.push(piece);
        }
        self.pieces.push(Piece {
            header,
            field,
            view: View::Decoded,
            name,
            bytes,
            part,
        });
    }

    fn resolve(&mut self, header: usize, stem: &[u8], scan: Scan<'_>) {
        let start = self.buffer.len();
        path::resolve(stem, &mut self.buffer);
        if self.text(start..self.buffer.len()) == stem {
            self.buffer.truncate(start);
            return;
        }
        let bytes = start..self.buffer.len();
        scan(self.text(bytes.clone()), 0);
        let piece = Piece {
            header,
            field: Field::UriStem,
            view: View::Resolved,
            name: 0..0,
            bytes,
            part: false,
        };
        self.pieces.push(piece);
    }

    /// Adds the values of a query as those servers read it that do not read it as most do: with `;` between parameters
    /// (Perl, older Python and Ruby), and with the values of a repeated name joined by a comma (ASP.NET), which matters where
    /// a comment can swallow the comma.
    fn other_readings(&mut self, header: usize, field: Field, query: &[u8], scan: Scan<'_>) {
        let first = self.pieces.len();
        let start = self.buffer.len();
        if memchr::memchr(b';', query).is_some() {
            for pair in bounded_split(query, b'&', &mut false) {
                let mut parts = pair.split(|byte| *byte == b';');
                // The first one begins where the whole does, and a rest without a name is no parameter.
                let is_first_named = parts.next().is_some_and(|part| part.contains(&b'='));
                for part in parts.filter(|_| is_first_named) {
                    let has_name = split_pair(part).0.is_some_and(|name| !name.is_empty());
                    if has_name && self.pieces.len() < first + limits::NAMED_VALUES {
                        self.pair(header, field, part, true);
                    }
                }
            }
        }
        if has_star(query) {
            self.join_repeated(header, field, query);
            // What has nothing to decode has no view yet that comments could be left out of.
            let pairs = bounded_split(query, b'&', &mut false);
            for pair in pairs.filter(|pair| escapes::needs_unescaping(pair)) {
                self.pair(header, field, pair, true);
            }
        }
        if self.pieces.len() > first {
            scan(
                self.text(start..self.buffer.len()),
                self.classes_from(first),
            );
        }
    }

    /// Adds the values of each name that comes several times, joined, if a comment begins in one of them.
    fn join_repeated(&mut self, header: usize, field: Field, query: &[u8]) {
        let pairs = bounded_split(query, b'&', &mut false).map(split_pair);
        let mut pairs: Vec<(&[u8], &[u8])> = pairs
            .filter_map(|(name, value)| Some((name?, value)))
            .collect();
        // Those of one name keep their order.
        sorted::by_text(&mut pairs, |(name, _)| *name);
        for same in pairs.chunk_by(|one, other| one.0 == other.0) {
            let [(name, _), _, ..] = same else { continue };
            let has_comment = |(_, value): &(&[u8], &[u8])| {
                let value = percent::decoded(value, true);
                memchr::memmem::find(&value, b"/*").is_some()
            };
            if !same.iter().any(has_comment) {
                continue;
            }
            let values: Vec<&[u8]> = same.iter().map(|(_, value)| *value).collect();
            self.pair(
                header,
                field,
                &[name, &b"="[..], &values.join(&b',')].concat(),
                true,
            );
        }
    }

    /// Adds what is nested in the values of a query that has nothing else to undo.
    fn unnest_query(&mut self, header: usize, field: Field, query: &[u8], scan: Scan<'_>) {
        let field = if field == Field::Uri {
            Field::QueryValue
        } else {
            field
        };
        let first = self.pieces.len();
        let mut truncated = false;
        for pair in bounded_split(query, b'&', &mut truncated) {
            let (name, value) = split_pair(pair);
            if nested::nests(value) {
                let name = self.push(name.unwrap_or_default());
                let like = Piece {
                    header,
                    field,
                    view: View::Unescaped,
                    name,
                    bytes: 0..0,
                    part: !field.is_value(),
                };
                self.unnest(&like, value, scan);
            }
        }
        self.truncated |= truncated;
        self.unnest_from(first, scan);
        self.unescape_from(first, scan);
    }

    /// Adds what is nested in the values among the pieces from `first` on, and in that, and so on.
    fn unnest_from(&mut self, first: usize, scan: Scan<'_>) {
        let mut from = first;
        for _ in 0..limits::DECODE_ROUNDS {
            let end = self.pieces.len();
            for index in from..end {
                let Some(piece) = self.pieces.get(index) else {
                    break;
                };
                let is_value =
                    piece.part || matches!(piece.field, Field::QueryValue | Field::BodyValue);
                let value = self.text(piece.bytes.clone());
                if is_value && nested::nests(value) {
                    let (piece, value) = (piece.clone(), value.to_vec());
                    self.unnest(&piece, &value, scan);
                }
            }
            from = end;
        }
    }

    /// Adds what `value` holds: the text that it is the Base64 of, or its strings if it is JSON. The
    /// pieces are like `like`.
    fn unnest(&mut self, like: &Piece, value: &[u8], scan: Scan<'_>) {
        let mut inside = Vec::new();
        if nested::is_json(value) {
            let mut rest = value;
            let mut strings = 0;
            while let Some(quote) = memchr::memchr(b'"', rest) {
                if strings == limits::NAMED_VALUES {
                    self.truncated = true;
                    break;
                }
                strings += 1;
                rest = rest.get(quote..).unwrap_or_default();
                inside.clear();
                let taken = nested::json_string(rest, &mut inside);
                rest = rest.get(taken..).unwrap_or_default();
                if !inside.is_empty() && inside.len() < value.len() {
                    self.add_nested(like, &inside, false, scan);
                }
            }
        } else if nested::base64(value, &mut inside) {
            self.add_nested(like, &inside, true, scan);
        }
    }

    /// Adds a nested text, decoded in turn. `hidden` says that it does not stand in the whole that rules
    /// compare, so that each whole gets another view as well.
    fn add_nested(&mut self, like: &Piece, inside: &[u8], hidden: bool, scan: Scan<'_>) {
        let bytes = self.decode(inside, false);
        scan(
            self.text(bytes.clone()),
            normalise::classes(self.text(bytes.clone())),
        );
        let piece = Piece {
            view: View::Unescaped,
            bytes,
            ..like.clone()
        };
        if hidden {
            let wholes = match piece.field {
                Field::QueryValue => [Field::Uri, Field::UriQuery].as_slice(),
                _ => &[piece.field],
            };
            self.pieces.extend(wholes.iter().map(|&field| Piece {
                field,
                part: false,
                ..piece.clone()
            }));
        }
        self.pieces.push(piece);
    }

    /// Adds an unescaped view of each piece from `first` on that has escapes.
    fn unescape_from(&mut self, first: usize, scan: Scan<'_>) {
        for index in first..self.pieces.len() {
            let Some(piece) = self.pieces.get(index).cloned() else {
                break;
            };
            let bytes = self.text(piece.bytes.clone());
            if !escapes::needs_unescaping(bytes) {
                continue;
            }
            let mut plain = Vec::with_capacity(bytes.len());
            if escapes::unescape(bytes, &mut plain) {
                scan(&plain, normalise::classes(&plain));
                let bytes = self.push(&plain);
                self.pieces.push(Piece {
                    view: View::Unescaped,
                    bytes,
                    ..piece
                });
            }
        }
    }
}

/// The classes of a value's bytes. A few words with spaces between them have none: what people search for would open the rules
/// about SQL and commands time and again.
fn telling(value: &[u8]) -> Classes {
    let classes = normalise::classes(value);
    match classes == normalise::SPACE && structure::is_prose(value) {
        true => 0,
        false => classes,
    }
}

/// Whether a query has a `*`, which every comment has, as it is or encoded.
fn has_star(query: &[u8]) -> bool {
    memchr::memchr2_iter(b'*', b'%', query).any(|at| {
        let rest = query.get(at..).unwrap_or_default();
        matches!(rest, [b'*', ..] | [b'%', b'2', b'a' | b'A', ..])
    })
}

/// Splits a URL at its first `?`.
pub fn split_url(url: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', url) {
        Some(at) => (url.get(..at).unwrap_or_default(), url.get(at + 1..)),
        None => (url, None),
    }
}

/// Splits a parameter or cookie at its first `=`.
pub fn split_pair(pair: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match memchr::memchr(b'=', pair) {
        Some(at) => (pair.get(..at), pair.get(at + 1..).unwrap_or_default()),
        None => (None, pair),
    }
}

/// Splits at `separator` into at most [`limits::NAMED_VALUES`] parts, of which the last is the rest,
/// and says whether that rest should have been split further.
pub fn bounded_split<'a>(
    text: &'a [u8],
    separator: u8,
    truncated: &mut bool,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    *truncated = memchr::memchr_iter(separator, text)
        .nth(limits::NAMED_VALUES - 1)
        .is_some();
    text.splitn(limits::NAMED_VALUES, move |&byte| byte == separator)
}

/// Whether a name is made of the characters that names of parameters are made of. Any other name is
/// a place for a payload like the value is.
pub fn is_plain_name(name: &[u8]) -> bool {
    name.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]:".contains(byte))
}
